//! A token bucket: so many bytes a second, and no more than a second's worth at once.
//!
//! It is kept as one moment, that at which the bucket would be full again. Taking bytes moves it
//! into the future by the time that they take to come back; bytes that are not there yet are taken
//! in advance, and who takes them waits until they are. So those who wait come in the order in
//! which they asked, and nobody needs to be woken.
//!
//! The clock is the caller's: nanoseconds since any moment.

use std::sync::{Mutex, PoisonError};

const SECOND: u64 = 1_000_000_000;
/// Who waits for bytes that may come in pieces waits for this part of a second's worth at least:
/// calls that move a byte each would cost more than they move.
const PIECES: u64 = 16;

/// A rate, and what of it is taken.
#[derive(Debug)]
pub struct Bucket {
    rate: u64,
    /// When it is full again.
    full_at: Mutex<u64>,
}

/// Bytes that were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// How many.
    pub bytes: u64,
    /// How many nanoseconds to wait before they are used.
    pub wait: u64,
}

impl Bucket {
    /// A full one, of a rate in bytes a second, at least one.
    pub fn new(rate: u64) -> Self {
        Self {
            rate: rate.max(1),
            full_at: Mutex::new(0),
        }
    }

    /// Bytes a second, which is also what can be had at once.
    pub fn rate(&self) -> u64 {
        self.rate
    }

    /// The least that is worth a call of its own.
    pub fn piece(&self) -> u64 {
        self.rate.div_ceil(PIECES)
    }

    /// The time in which so many bytes come back, not rounded in the program's favour.
    fn time(&self, bytes: u64) -> u64 {
        let time = (u128::from(bytes) * u128::from(SECOND)).div_ceil(u128::from(self.rate));
        u64::try_from(time).unwrap_or(u64::MAX)
    }

    /// Takes `least` bytes, or up to `most` if they are there already.
    pub fn take(&self, now: u64, least: u64, most: u64) -> Taken {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let start = (*full_at).max(now);
        let room = (now + SECOND).saturating_sub(start);
        let there = u128::from(room) * u128::from(self.rate) / u128::from(SECOND);
        let there = u64::try_from(there).unwrap_or(u64::MAX);
        let bytes = there.clamp(least, most.max(least));
        *full_at = start.saturating_add(self.time(bytes));
        Taken {
            bytes,
            wait: full_at.saturating_sub(now + SECOND),
        }
    }

    /// Gives back what was taken and not used, or takes what was used beyond it.
    pub fn settle(&self, taken: u64, used: u64) {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, after) = (self.time(taken), self.time(used));
        *full_at = match after.checked_sub(before) {
            Some(more) => full_at.saturating_add(more),
            None => full_at.saturating_sub(before - after),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_second_s_worth_is_there_at_once_and_the_rest_comes_in_time() {
        let bucket = Bucket::new(1000);
        let taken = |bytes, wait| Taken { bytes, wait };
        assert_eq!(bucket.take(0, 600, 600), taken(600, 0));
        assert_eq!(bucket.take(0, 400, 400), taken(400, 0));
        assert_eq!(bucket.take(0, 500, 500), taken(500, SECOND / 2));
        // Whoever comes later waits for those before.
        assert_eq!(bucket.take(0, 1, 1), taken(1, SECOND / 2 + SECOND / 1000));
        assert_eq!(bucket.take(10 * SECOND, 1, u64::MAX), taken(1000, 0));
    }

    #[test]
    fn what_is_not_used_comes_back() {
        let bucket = Bucket::new(1000);
        assert_eq!(bucket.take(0, 1, 5000).bytes, 1000);
        bucket.settle(1000, 10);
        assert_eq!(bucket.take(0, 1, 5000).bytes, 990);
        bucket.settle(990, 2990);
        assert_eq!(bucket.take(0, 1, 1).wait, 2 * SECOND + SECOND / 1000);
    }

    #[test]
    fn a_message_longer_than_the_bucket_waits_for_its_whole_length() {
        let bucket = Bucket::new(10);
        assert_eq!(bucket.take(0, 30, 30).wait, 2 * SECOND);
    }

    #[test]
    fn nothing_overflows() {
        for rate in [1, u64::MAX] {
            let bucket = Bucket::new(rate);
            for _ in 0..3 {
                bucket.take(1 << 60, u64::MAX, u64::MAX);
                bucket.settle(0, u64::MAX);
            }
            bucket.settle(u64::MAX, 0);
        }
    }

    proptest! {
        /// Whatever is asked for, waited for and given back: in no span of time is more used than
        /// the rate and one bucket allow.
        #[test]
        fn the_rate_holds(
            rate in 1u64..5_000_000_000,
            steps in prop::collection::vec((0u64..3 * SECOND, 0u64..1 << 33, 0u64..1 << 33, 0u64..=100), 1..60),
        ) {
            let bucket = Bucket::new(rate);
            let (mut now, mut used) = (SECOND, 0u128);
            let start = now;
            for (pause, least, more, percent) in steps {
                now += pause;
                let taken = bucket.take(now, least, least + more);
                prop_assert!(taken.bytes >= least && taken.bytes <= least + more);
                // The calls of one thread: it sleeps, then uses some.
                now += taken.wait;
                let use_of_it = taken.bytes * percent / 100;
                bucket.settle(taken.bytes, use_of_it);
                used += u128::from(use_of_it);
                let passed = u128::from(now - start + SECOND);
                let allowed = passed * u128::from(rate) / u128::from(SECOND);
                // Bytes are whole.
                prop_assert!(used <= allowed + 1, "{used} of {allowed}");
            }
        }
    }
}
