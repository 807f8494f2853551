//! Work that comes in pieces, done on all processors.
//!
//! Who has such work does it himself, piece by piece, and the helpers take pieces too as soon as they are awake. Nobody waits for a
//! helper that has not begun: it may be busy for somebody else, with a slow disk perhaps, and finds nothing left
//! when it comes.

use rayon::{ThreadPool, ThreadPoolBuilder};
use rustix::io::Errno;
use std::cell::RefCell;
use std::hint;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use zeroize::Zeroize;

/// How often it is looked whether a helper is done with its last piece before it is slept: some 20 µs, several times what a
/// piece takes. To be woken takes longer.
const LOOKS: usize = 1000;

/// Bytes of a buffer that each thread keeps: those of a chunk of the usual size.
const SMALL: usize = 8 << 10;

/// Larger buffers that are kept.
const KEPT: usize = 16;

/// A call's work.
pub(super) trait Pieces: Send + Sync + 'static {
    /// How many pieces there are.
    fn count(&self) -> u64;

    /// Bytes of the buffer to work in.
    fn buffer_len(&self) -> usize;

    /// Works on one, in a buffer with anything in it.
    fn work(&self, piece: u64, buffer: &mut [u8]) -> Result<(), Errno>;
}

/// Threads for all processors but the one that a caller has. None where there is no other.
fn helpers() -> Option<&'static ThreadPool> {
    static POOL: LazyLock<Option<ThreadPool>> = LazyLock::new(|| {
        let others = thread::available_parallelism().map_or(0, |all| all.get() - 1);
        let pool = ThreadPoolBuilder::new().num_threads(others);
        let pool = pool.thread_name(|number| format!("cipher {number}"));
        (others > 0).then(|| pool.build().ok()).flatten()
    });
    POOL.as_ref()
}

/// Lends a buffer, and wipes it afterwards. A small one is the thread's own; of large ones few are kept, since there may be very many
/// threads.
fn with_buffer<T>(len: usize, work: impl FnOnce(&mut [u8]) -> T) -> T {
    thread_local! {
        static SMALL_ONE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    static LARGE_ONES: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
    if len <= SMALL {
        return SMALL_ONE.with_borrow_mut(|buffer| lend(buffer, len, work));
    }
    let large_ones = || LARGE_ONES.lock().unwrap_or_else(PoisonError::into_inner);
    let mut buffer = large_ones().pop().unwrap_or_default();
    let outcome = lend(&mut buffer, len, work);
    let mut kept = large_ones();
    if kept.len() < KEPT {
        kept.push(buffer);
    }
    outcome
}

fn lend<T>(buffer: &mut Vec<u8>, len: usize, work: impl FnOnce(&mut [u8]) -> T) -> T {
    if buffer.len() < len {
        // What it held was wiped.
        *buffer = vec![0; len];
    }
    let buffer = &mut buffer[..len];
    let outcome = work(buffer);
    buffer.zeroize();
    outcome
}

/// Work that several do.
struct Shared<J> {
    /// The next piece that nobody has taken.
    next: AtomicU64,
    /// How many helpers are at work.
    helping: AtomicUsize,
    state: Mutex<State<J>>,
    is_done: Condvar,
}

struct State<J> {
    /// `None` when it is over.
    job: Option<Arc<J>>,
    failed: Option<Errno>,
}

impl<J: Pieces> Shared<J> {
    fn state(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes pieces until there are none, or one fails.
    fn work_on(&self, job: &J) -> Result<(), Errno> {
        with_buffer(job.buffer_len(), |buffer| {
            loop {
                let piece = self.next.fetch_add(1, Ordering::Relaxed);
                if piece >= job.count() {
                    return Ok(());
                }
                job.work(piece, buffer)
                    .inspect_err(|_| self.next.store(job.count(), Ordering::Relaxed))?;
            }
        })
    }

    fn help(&self) {
        let Some(job) = ({
            let state = self.state();
            let job = state.job.clone();
            if job.is_some() {
                self.helping.fetch_add(1, Ordering::Relaxed);
            }
            job
        }) else {
            return;
        };
        let done = self.work_on(&job);
        // Before it is over for who waits: nothing of his is held any longer.
        drop(job);
        let mut state = self.state();
        state.failed = state.failed.or(done.err());
        self.helping.fetch_sub(1, Ordering::Release);
        self.is_done.notify_all();
    }

    /// Waits for those that have begun to help, and lets nobody begin.
    fn end(&self) -> Result<(), Errno> {
        self.state().job = None;
        let mut looks = 0..LOOKS;
        while self.helping.load(Ordering::Acquire) > 0 && looks.next().is_some() {
            hint::spin_loop();
        }
        let mut state = self.state();
        while self.helping.load(Ordering::Acquire) > 0 {
            state = self
                .is_done
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.failed.map_or(Ok(()), Err)
    }
}

/// Does all pieces of a job, the first ones first.
///
/// # Errors
/// Of a piece that failed; others may have been done then, also behind it.
pub(super) fn on_all<J: Pieces>(job: J) -> Result<(), Errno> {
    let count = job.count();
    let pool = match helpers() {
        Some(pool) if count > 1 => pool,
        _ => {
            return with_buffer(job.buffer_len(), |buffer| {
                (0..count).try_for_each(|piece| job.work(piece, buffer))
            });
        }
    };
    let job = Arc::new(job);
    let shared = Arc::new(Shared {
        next: AtomicU64::new(0),
        helping: AtomicUsize::new(0),
        state: Mutex::new(State {
            job: Some(job.clone()),
            failed: None,
        }),
        is_done: Condvar::new(),
    });
    // The caller works too: one thread less is woken.
    let most = usize::try_from(count - 1).unwrap_or(usize::MAX);
    for _ in 0..pool.current_num_threads().min(most) {
        let shared = shared.clone();
        pool.spawn(move || shared.help());
    }
    let own = shared.work_on(&job);
    let others = shared.end();
    own.and(others)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counted {
        done: Vec<AtomicU64>,
        fails_at: Option<u64>,
    }

    impl Pieces for Arc<Counted> {
        fn count(&self) -> u64 {
            self.done.len() as u64
        }

        fn buffer_len(&self) -> usize {
            100
        }

        fn work(&self, piece: u64, buffer: &mut [u8]) -> Result<(), Errno> {
            assert_eq!(buffer.len(), 100);
            buffer.fill(7);
            self.done[piece as usize].fetch_add(1, Ordering::Relaxed);
            match self.fails_at {
                Some(at) if at == piece => Err(Errno::BADMSG),
                _ => Ok(()),
            }
        }
    }

    fn job(pieces: usize, fails_at: Option<u64>) -> Arc<Counted> {
        let done = (0..pieces).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Counted { done, fails_at })
    }

    #[test]
    fn every_piece_is_done_once_and_nobody_keeps_the_job() {
        for pieces in [0, 1, 2, 5, 1000] {
            for _ in 0..100 {
                let job = job(pieces, None);
                assert_eq!(on_all(job.clone()), Ok(()));
                assert!(
                    job.done
                        .iter()
                        .all(|done| done.load(Ordering::Relaxed) == 1)
                );
                assert_eq!(Arc::strong_count(&job), 1);
            }
        }
    }

    #[test]
    fn a_piece_that_fails_is_told() {
        for (pieces, at) in [(1, 0), (2, 0), (2, 1), (300, 0), (300, 299)] {
            let job = job(pieces, Some(at));
            assert_eq!(on_all(job.clone()), Err(Errno::BADMSG));
            let before = &job.done[..at as usize];
            assert!(before.iter().all(|done| done.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn buffers_are_wiped() {
        for len in [10, 100, 50, SMALL, 2 * SMALL, 4 * SMALL, 3 * SMALL] {
            with_buffer(len, |buffer| {
                assert_eq!(buffer.len(), len);
                assert!(buffer.iter().all(|&byte| byte == 0));
                buffer.fill(9);
            });
        }
        with_buffer(100, |buffer| assert!(buffer.iter().all(|&byte| byte == 0)));
    }

    /// One that is busy for somebody else is not waited for.
    #[test]
    fn a_busy_helper_is_not_waited_for() {
        let Some(pool) = helpers() else { return };
        let (free, busy) = std::sync::mpsc::channel::<()>();
        let busy = Arc::new(Mutex::new(busy));
        for _ in 0..pool.current_num_threads() {
            let busy = busy.clone();
            pool.spawn(move || {
                let _ = busy.lock().unwrap().recv();
            });
        }
        let job = job(50, None);
        assert_eq!(on_all(job.clone()), Ok(()));
        assert_eq!(Arc::strong_count(&job), 1);
        drop(free);
    }
}
