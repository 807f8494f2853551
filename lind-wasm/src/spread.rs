//! A value that many threads read and few change. A lock that readers share is a word that each of them
//! writes, and waits for where another processor has it; here each thread has one of several locks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, RwLock, RwLockReadGuard};
use std::thread;

/// Locks at most.
const MOST: usize = 64;

/// A copy of the value for each lock.
pub struct Spread<T>(Box<[Line<RwLock<T>>]>);

/// So far from its neighbours that no processor fetches two at once.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Line<T>(pub T);

/// How many locks there are: one for each processor, and a power of two.
fn places() -> usize {
    static PLACES: LazyLock<usize> = LazyLock::new(|| {
        let processors = thread::available_parallelism().map_or(1, |all| all.get());
        processors.next_power_of_two().min(MOST)
    });
    *PLACES
}

/// A number of the calling thread's own. Threads are numbered in the order in which they ask first.
pub fn number_of_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}

impl<T: Clone> Spread<T> {
    /// A value.
    pub fn new(value: T) -> Self {
        let line = |_| Line(RwLock::new(value.clone()));
        Self((0..places()).map(line).collect())
    }

    /// The value, which stays while the answer is held.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        let line = &self.0[number_of_thread() & (self.0.len() - 1)];
        line.0.read().unwrap_or_else(|e| e.into_inner())
    }

    /// Another value, which `make` answers while nobody reads this one.
    pub fn replace(&self, make: impl FnOnce() -> T) {
        // Always in the same order, so that two who change it don't wait for each other.
        let locks = self.0.iter().map(|line| &line.0);
        let mut guards: Vec<_> = locks
            .map(|lock| lock.write().unwrap_or_else(|e| e.into_inner()))
            .collect();
        let value = make();
        for guard in &mut guards {
            guard.clone_from(&value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    /// On each of several threads, which have all the locks there are among them.
    fn on_threads(work: impl Fn() + Sync) {
        thread::scope(|scope| {
            for _ in 0..2 * places() {
                scope.spawn(&work);
            }
        });
    }

    #[test]
    fn all_threads_have_the_new_value() {
        let value = Spread::new(1);
        on_threads(|| assert_eq!(*value.read(), 1));
        value.replace(|| 2);
        on_threads(|| assert_eq!(*value.read(), 2));
    }

    #[test]
    fn nobody_reads_while_it_changes() {
        let value = Spread::new(0);
        let changes = AtomicBool::new(false);
        on_threads(|| {
            for _ in 0..200 {
                let before = {
                    let read = value.read();
                    assert!(!changes.load(Ordering::SeqCst));
                    *read
                };
                value.replace(|| {
                    assert!(!changes.swap(true, Ordering::SeqCst));
                    thread::yield_now();
                    changes.store(false, Ordering::SeqCst);
                    before + 1
                });
            }
        });
    }
}
