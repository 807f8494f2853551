//! Loading what cages ask for: so many programs at once, and what must be compiled within a time.

use crate::program::LoadError;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, mpsc};
use std::time::{Duration, Instant};

/// Native stack of the thread that compiles, in bytes.
const STACK: usize = 16 << 20;
/// Programs that are read, checked and compiled at once, with the memory that this takes of each.
const MOST_AT_ONCE: usize = 4;
/// Compilations that may go on after they were given up. The engine can't be interrupted at it.
const MOST_ABANDONED: usize = 2;

/// Where programs are loaded: at so many desks, and who comes when all are taken waits for one.
#[derive(Debug, Default)]
pub struct Desks {
    taken: Mutex<Taken>,
    left: Condvar,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Those of them where nobody waits for what is compiled any more.
    abandoned: usize,
}

/// A desk, until it is dropped.
#[derive(Debug)]
pub struct Desk {
    of: Arc<Desks>,
    deadline: Instant,
    abandoned: bool,
}

impl Desks {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Takes a desk for at most `time`, of which waiting for it is a part.
    ///
    /// # Errors
    /// [`LoadError::Busy`] when none gets free in that time.
    pub fn take(self: &Arc<Self>, time: Duration) -> Result<Desk, LoadError> {
        let deadline = Instant::now() + time;
        let full = |taken: &mut Taken| taken.all >= MOST_AT_ONCE;
        let waited = self.left.wait_timeout_while(self.taken(), time, full);
        let (mut taken, waited) = waited.unwrap_or_else(|e| e.into_inner());
        if waited.timed_out() {
            return Err(LoadError::Busy);
        }
        taken.all += 1;
        Ok(Desk {
            of: self.clone(),
            deadline,
            abandoned: false,
        })
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let mut taken = self.of.taken();
        taken.all -= 1;
        taken.abandoned -= usize::from(self.abandoned);
        self.of.left.notify_one();
    }
}

impl Desk {
    /// The answer of `compile`, which runs on a thread of its own and is given up when the desk's
    /// time is over. It keeps the desk until it ends all the same.
    ///
    /// # Errors
    /// [`LoadError::Busy`] when too many that were given up are still running; a line when this one
    /// took too long, or failed in a way that it must not.
    pub fn compile<T: Send + 'static>(
        self,
        compile: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, LoadError> {
        if self.of.taken().abandoned >= MOST_ABANDONED {
            return Err(LoadError::Busy);
        }
        let time = self.deadline.saturating_duration_since(Instant::now());
        let desk = Arc::new(Mutex::new(self));
        let (answer, answers) = mpsc::sync_channel(1);
        let work = {
            let desk = desk.clone();
            move || {
                let _desk = desk;
                // Nobody may be waiting for it.
                let _ = answer.send(compile());
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
                desk.lock().unwrap_or_else(|e| e.into_inner()).abandon();
                Err(LoadError::Program(anyhow::anyhow!(
                    "compiling it took too long (--max-compile-time)"
                )))
            }
        }
    }

    fn abandon(&mut self) {
        self.abandoned = true;
        self.of.taken().abandoned += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(20);

    #[test]
    fn who_finds_all_desks_taken_waits_for_one() {
        let desks = Arc::new(Desks::default());
        let mut taken: Vec<_> = (0..MOST_AT_ONCE)
            .map(|_| desks.take(LONG).unwrap())
            .collect();
        assert!(matches!(desks.take(SHORT), Err(LoadError::Busy)));
        let later = std::thread::spawn({
            let desks = desks.clone();
            move || desks.take(LONG).map(|desk| desk.compile(|| 5))
        });
        taken.pop();
        assert!(matches!(later.join().unwrap(), Ok(Ok(5))));
        assert!(desks.take(SHORT).is_ok());
    }

    #[test]
    fn what_is_given_up_keeps_its_desk_until_it_ends() {
        let desks = Arc::new(Desks::default());
        let mut ends = Vec::new();
        for _ in 0..MOST_ABANDONED {
            let (end, ended) = mpsc::channel::<()>();
            let given_up = desks.take(SHORT).unwrap().compile(move || ended.recv());
            assert!(matches!(given_up, Err(LoadError::Program(_))));
            ends.push(end);
        }
        assert_eq!(desks.taken().all, MOST_ABANDONED);
        // Another would be one too many to give up.
        assert!(matches!(
            desks.take(LONG).unwrap().compile(|| 5),
            Err(LoadError::Busy)
        ));
        drop(ends);
        while desks.taken().all > 0 {
            std::thread::yield_now();
        }
        assert!(matches!(desks.take(LONG).unwrap().compile(|| 5), Ok(5)));
    }

    #[test]
    fn a_compiler_that_fails_leaves_its_desk() {
        let desks = Arc::new(Desks::default());
        let failed = desks
            .take(LONG)
            .unwrap()
            .compile(|| panic!("as it must not"));
        assert!(matches!(failed, Err::<(), _>(LoadError::Program(_))));
        while desks.taken().all > 0 {
            std::thread::yield_now();
        }
    }
}
