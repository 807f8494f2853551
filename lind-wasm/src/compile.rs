//! Compiling what a cage asks for, within a time.

use crate::program::LoadError;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// Native stack of the thread that compiles, in bytes.
const STACK: usize = 16 << 20;
/// Compilations that may go on after they were given up. The engine can't be interrupted at it.
const MOST_ABANDONED: usize = 2;

/// The answer of `compile`, which runs on a thread of its own and is given up after `time`.
///
/// # Errors
/// [`LoadError::Busy`] when too many that were given up are still running; a line when this one
/// took too long, or failed in a way that it must not.
pub fn within<T: Send + 'static>(
    time: Duration,
    abandoned: &Arc<AtomicUsize>,
    compile: impl FnOnce() -> T + Send + 'static,
) -> Result<T, LoadError> {
    if abandoned.load(Ordering::Acquire) >= MOST_ABANDONED {
        return Err(LoadError::Busy);
    }
    let (answer, answers) = mpsc::sync_channel(1);
    let work = {
        let abandoned = abandoned.clone();
        move || {
            if answer.send(compile()).is_err() {
                abandoned.fetch_sub(1, Ordering::AcqRel);
            }
        }
    };
    std::thread::Builder::new()
        .name("compiler".to_owned())
        .stack_size(STACK)
        .spawn(work)
        .map_err(|_| LoadError::Busy)?;
    match answers.recv_timeout(time) {
        Ok(made) => Ok(made),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(LoadError::Program(anyhow::anyhow!(
            "the compiler failed on it"
        ))),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            // Counted before the channel closes, which is when the thread counts itself out.
            abandoned.fetch_add(1, Ordering::AcqRel);
            drop(answers);
            Err(LoadError::Program(anyhow::anyhow!(
                "compiling it took more than {} seconds (--max-compile-time)",
                time.as_secs()
            )))
        }
    }
}
