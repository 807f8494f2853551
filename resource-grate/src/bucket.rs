//! A token bucket: so many bytes a second, and no more than a second's worth at once.
//!
//! It is kept as one moment, that at which the bucket would be full again: taking bytes moves it
//! into the future by the time that they take to come back. Who finds too few stands in line, and
//! is told how long to sleep before asking again: nobody has to be woken, and nobody who wants much
//! starves beside those who want little.
//!
//! The clock is the caller's: nanoseconds since any moment.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

const SECOND: u64 = 1_000_000_000;
/// Who waits for bytes that may come in pieces waits for this part of a second's worth at least:
/// calls that move a byte each would cost more than they move.
const PIECES: u64 = 16;

/// A rate, and what of it is taken.
#[derive(Debug)]
pub struct Bucket {
    rate: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When it is full again.
    full_at: u64,
    /// Who waits, and for how many bytes; those that came first in front.
    line: VecDeque<(u64, u64)>,
    /// How many have stood in line.
    came: u64,
}

/// Bytes that were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// How many.
    pub bytes: u64,
    /// When.
    at: u64,
}

/// The answer to who asks for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// They are taken.
    Taken(Taken),
    /// They will not be there for so many nanoseconds.
    Wait(u64),
}

/// A place in line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Place(Option<u64>);

impl Bucket {
    /// A full one, of a rate in bytes a second, at least one.
    pub fn new(rate: u64) -> Self {
        Self {
            rate: rate.max(1),
            state: Mutex::default(),
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time in which so many bytes come back, not rounded in the program's favour.
    fn time(&self, bytes: u64) -> u64 {
        let time = (u128::from(bytes) * u128::from(SECOND)).div_ceil(u128::from(self.rate));
        u64::try_from(time).unwrap_or(u64::MAX)
    }

    /// Takes `least` bytes, or up to `most` if they are there already and nobody stands in line.
    /// More than a second's worth is never there: who must have more takes it from a full bucket,
    /// in advance. `place` is the caller's place in line, none at first.
    pub fn take(&self, now: u64, place: &mut Place, least: u64, most: u64) -> Answer {
        let mut state = self.state();
        let start = state.full_at.max(now);
        let room = now.saturating_add(SECOND).saturating_sub(start);
        let there = u128::from(room) * u128::from(self.rate) / u128::from(SECOND);
        let there = u64::try_from(there).unwrap_or(u64::MAX);
        let at = match place.0 {
            Some(id) => state.line.iter().position(|&(other, _)| other == id),
            None => None,
        };
        let first = at.unwrap_or(state.line.len()) == 0;
        if first && there >= least.min(self.rate) {
            if at.is_some() {
                state.line.pop_front();
                place.0 = None;
            }
            let bytes = there.clamp(least, most.max(least));
            state.full_at = start.saturating_add(self.time(bytes));
            return Answer::Taken(Taken { bytes, at: now });
        }
        let before = at.unwrap_or(state.line.len());
        let ahead = state.line.iter().take(before);
        let wanted = ahead.fold(least.min(self.rate), |sum, &(_, more)| {
            sum.saturating_add(more)
        });
        if at.is_none() {
            let id = state.came;
            state.came += 1;
            state.line.push_back((id, least));
            place.0 = Some(id);
        }
        let there_at = start.saturating_add(self.time(wanted));
        Answer::Wait(there_at.saturating_sub(now.saturating_add(SECOND)).max(1))
    }

    /// Leaves the line.
    pub fn leave(&self, place: &mut Place) {
        if let Some(id) = place.0.take() {
            self.state().line.retain(|&(other, _)| other != id);
        }
    }

    /// Takes what was used already.
    pub fn pay(&self, now: u64, bytes: u64) {
        let mut state = self.state();
        state.full_at = state.full_at.max(now).saturating_add(self.time(bytes));
    }

    /// Gives back what was taken and not used, or takes what was used beyond it. What has come
    /// back meanwhile by itself does not come back again: else calls that were waiting for long
    /// could all give at one moment, for more than a second's worth.
    pub fn settle(&self, now: u64, taken: Taken, used: u64) {
        let mut state = self.state();
        let (before, after) = (self.time(taken.bytes), self.time(used));
        state.full_at = match after.checked_sub(before) {
            Some(more) => state.full_at.max(now).saturating_add(more),
            None => {
                let passed = now.saturating_sub(taken.at);
                let back = (before - after).saturating_sub(passed);
                state.full_at.saturating_sub(back)
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ask(bucket: &Bucket, now: u64, least: u64, most: u64) -> Answer {
        bucket.take(now, &mut Place::default(), least, most)
    }

    /// The bytes that are there.
    fn have(bucket: &Bucket, now: u64, least: u64, most: u64) -> Taken {
        match ask(bucket, now, least, most) {
            Answer::Taken(taken) => taken,
            wait => panic!("{wait:?}"),
        }
    }

    #[test]
    fn a_second_s_worth_is_there_at_once_and_the_rest_comes_in_time() {
        let bucket = Bucket::new(1000);
        assert_eq!(have(&bucket, 0, 600, 600).bytes, 600);
        assert_eq!(have(&bucket, 0, 400, 400).bytes, 400);
        let mut place = Place::default();
        let wait = |place: &mut Place, now| bucket.take(now, place, 500, 500);
        assert_eq!(wait(&mut place, 0), Answer::Wait(SECOND / 2));
        assert_eq!(wait(&mut place, SECOND / 4), Answer::Wait(SECOND / 4));
        let taken = wait(&mut place, SECOND / 2);
        assert!(matches!(taken, Answer::Taken(Taken { bytes: 500, .. })));
        assert_eq!(place, Place::default());
        assert_eq!(have(&bucket, 10 * SECOND, 1, u64::MAX).bytes, 1000);
    }

    #[test]
    fn those_who_came_first_go_first() {
        let bucket = Bucket::new(1000);
        have(&bucket, 0, 1000, 1000);
        let (mut much, mut little) = (Place::default(), Place::default());
        assert_eq!(bucket.take(0, &mut much, 1000, 1000), Answer::Wait(SECOND));
        let wait = SECOND + SECOND / 1000;
        assert_eq!(bucket.take(0, &mut little, 1, 1), Answer::Wait(wait));
        // There is one by now, but not for this one; unless the other leaves.
        let now = SECOND / 2;
        assert!(matches!(
            bucket.take(now, &mut little, 1, 1),
            Answer::Wait(_)
        ));
        assert!(matches!(ask(&bucket, now, 1, 1), Answer::Wait(_)));
        bucket.leave(&mut much);
        assert!(matches!(
            bucket.take(now, &mut little, 1, 1),
            Answer::Taken(_)
        ));
    }

    #[test]
    fn what_is_not_used_comes_back() {
        let bucket = Bucket::new(1000);
        let all = have(&bucket, 0, 1, 5000);
        bucket.settle(0, all, 10);
        let rest = have(&bucket, 0, 1, 5000);
        assert_eq!((all.bytes, rest.bytes), (1000, 990));
        bucket.settle(0, rest, 2990);
        let wait = 2 * SECOND + SECOND / 1000;
        assert_eq!(ask(&bucket, 0, 1, 1), Answer::Wait(wait));
    }

    #[test]
    fn nobody_gives_back_what_came_back_by_itself() {
        let bucket = Bucket::new(1000);
        let blocked = have(&bucket, 0, 1000, 1000);
        let also = have(&bucket, 5 * SECOND, 1000, 1000);
        let now = 10 * SECOND;
        bucket.settle(now, blocked, 0);
        bucket.settle(now, also, 0);
        assert_eq!(have(&bucket, now, 1, 5000).bytes, 1000);
        assert_eq!(ask(&bucket, now, 1, 5000), Answer::Wait(SECOND / 1000));
    }

    #[test]
    fn a_message_longer_than_the_bucket_goes_from_a_full_one() {
        let bucket = Bucket::new(10);
        have(&bucket, 0, 1, 1);
        let mut place = Place::default();
        let first = bucket.take(0, &mut place, 30, 30);
        assert_eq!(first, Answer::Wait(SECOND / 10));
        let then = bucket.take(SECOND / 10, &mut place, 30, 30);
        assert!(matches!(then, Answer::Taken(Taken { bytes: 30, .. })));
        let last = ask(&bucket, SECOND / 10, 1, 1);
        assert_eq!(last, Answer::Wait(2 * SECOND + SECOND / 10));
    }

    #[test]
    fn nothing_overflows() {
        for rate in [1, u64::MAX] {
            let bucket = Bucket::new(rate);
            for now in [0, 1 << 60, u64::MAX] {
                let taken = Taken {
                    bytes: u64::MAX,
                    at: 0,
                };
                bucket.settle(now, taken, 0);
                ask(&bucket, now, u64::MAX, u64::MAX);
                ask(&bucket, now, u64::MAX, u64::MAX);
                let taken = Taken { bytes: 0, at: 0 };
                bucket.settle(now, taken, u64::MAX);
            }
        }
    }

    /// One that asks at some time, uses a part of what it gets, and says so after a while.
    #[derive(Clone, Debug)]
    struct Caller {
        asks_at: u64,
        least: u64,
        more: u64,
        percent: u64,
        lasts: u64,
    }

    proptest! {
        /// Whatever several ask for, wait for and give back late: all get theirs, and no more is
        /// used at a time than the rate and one bucket allow.
        #[test]
        fn the_rate_holds(
            rate in 1u64..5_000_000_000,
            callers in prop::collection::vec(
                (0u64..9 * SECOND, 0u64..1 << 33, 0u64..1 << 33, 0u64..=100, 0u64..5 * SECOND), 1..40),
        ) {
            let bucket = Bucket::new(rate);
            let mut waiting: Vec<_> = callers
                .into_iter()
                .map(|(asks_at, least, more, percent, lasts)| {
                    let least = least.min(rate);
                    (Caller { asks_at, least, more, percent, lasts }, Place::default())
                })
                .collect();
            let mut working: Vec<(u64, Taken, u64)> = Vec::new();
            // When bytes were used.
            let mut uses: Vec<(u64, u128)> = Vec::new();
            while !waiting.is_empty() {
                waiting.sort_by_key(|(caller, _)| caller.asks_at);
                working.sort_by_key(|work| work.0);
                if working.first().is_some_and(|work| work.0 <= waiting[0].0.asks_at) {
                    let (end, taken, used) = working.remove(0);
                    bucket.settle(end, taken, used);
                    continue;
                }
                let (caller, place) = &mut waiting[0];
                let now = caller.asks_at;
                match bucket.take(now, place, caller.least, caller.least + caller.more) {
                    Answer::Wait(time) => {
                        prop_assert!(time <= 1000 * SECOND);
                        caller.asks_at += time;
                    }
                    Answer::Taken(taken) => {
                        prop_assert!(taken.bytes >= caller.least);
                        let used = taken.bytes * caller.percent / 100;
                        uses.push((now, used.into()));
                        working.push((now + caller.lasts, taken, used));
                        waiting.remove(0);
                    }
                }
            }
            for first in 0..uses.len() {
                let mut sum = 0;
                for &(at, used) in &uses[first..] {
                    sum += used;
                    let span = u128::from(at - uses[first].0 + SECOND);
                    let allowed = (span * u128::from(rate)).div_ceil(u128::from(SECOND));
                    prop_assert!(sum <= allowed, "{sum} of {allowed}");
                }
            }
        }
    }
}
