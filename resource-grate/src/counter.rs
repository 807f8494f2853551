//! How many of something there may be at a time.

use std::sync::atomic::{AtomicU64, Ordering};

/// A limit, and how many there are.
#[derive(Debug)]
pub struct Counter {
    most: u64,
    taken: AtomicU64,
}

impl Counter {
    /// At most so many; none is taken yet.
    pub const fn new(most: u64) -> Self {
        Self {
            most,
            taken: AtomicU64::new(0),
        }
    }

    /// Takes one, unless all are taken.
    #[must_use]
    pub fn take(&self) -> bool {
        let take = |taken| (taken < self.most).then_some(taken + 1);
        self.taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, take)
            .is_ok()
    }

    /// Takes one even where all are taken: for one that comes in place of another.
    pub fn take_anyway(&self) {
        self.taken.fetch_add(1, Ordering::AcqRel);
    }

    /// Gives one back.
    pub fn give(&self) {
        let give = |taken: u64| taken.checked_sub(1);
        // Nobody gives what they have not taken.
        let _ = self
            .taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, give);
    }

    /// How many are taken.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_taken_than_there_are() {
        let counter = Counter::new(2);
        assert!(counter.take() && counter.take() && !counter.take());
        counter.give();
        assert!(counter.take() && !counter.take());
        counter.take_anyway();
        counter.give();
        assert!(!counter.take());
        assert_eq!(counter.taken(), 2);
    }

    #[test]
    fn none_is_given_that_was_not_taken() {
        let counter = Counter::new(1);
        counter.give();
        assert!(counter.take() && !counter.take());
        assert!(!Counter::new(0).take());
    }

    #[test]
    fn threads_share_it() {
        let counter = Counter::new(100);
        let taken: usize = std::thread::scope(|scope| {
            let take = || (0..60).filter(|_| counter.take()).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(taken, 100);
    }
}
