//! The cages' timers (`setitimer`), all of them run down by one thread.

use crate::ids::CageId;
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Between two signals of one timer at least, so that no cage keeps that thread busy.
const LEAST_INTERVAL: Duration = Duration::from_millis(1);

/// A timer, as it is set and told: the time that is left, and that between all later ends. Zero
/// for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timer {
    /// Until its next end.
    pub left: Duration,
    /// Between the ends that follow.
    pub interval: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    ends: Instant,
    interval: Duration,
}

/// The timers of a run.
#[derive(Debug, Default)]
pub struct Timers {
    running: Mutex<BTreeMap<CageId, Running>>,
    changed: Condvar,
}

impl Timers {
    fn running(&self) -> MutexGuard<'_, BTreeMap<CageId, Running>> {
        self.running.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// A cage's timer.
    pub fn get(&self, cage: CageId) -> Timer {
        let running = self.running();
        running.get(&cage).map_or(Timer::default(), |timer| Timer {
            // One that is just running out is not off.
            left: timer
                .ends
                .saturating_duration_since(Instant::now())
                .max(Duration::from_micros(1)),
            interval: timer.interval,
        })
    }

    /// Sets a cage's timer. What is too far off to be told never ends.
    pub fn set(&self, cage: CageId, timer: Timer) {
        let ends = Instant::now().checked_add(timer.left);
        let mut running = self.running();
        match ends.filter(|_| !timer.left.is_zero()) {
            Some(ends) => running.insert(
                cage,
                Running {
                    ends,
                    interval: timer.interval,
                },
            ),
            None => running.remove(&cage),
        };
        self.changed.notify_all();
    }

    /// Waits for the end of one, and answers whose it was.
    pub fn wait(&self) -> CageId {
        let mut running = self.running();
        loop {
            let first = running.iter().min_by_key(|(_, timer)| timer.ends);
            let Some((&cage, &timer)) = first else {
                let waited = self.changed.wait(running);
                running = waited.unwrap_or_else(|e| e.into_inner());
                continue;
            };
            let now = Instant::now();
            if let Some(left) = timer
                .ends
                .checked_duration_since(now)
                .filter(|t| !t.is_zero())
            {
                let waited = self.changed.wait_timeout(running, left);
                running = waited.unwrap_or_else(|e| e.into_inner()).0;
                continue;
            }
            let again = timer.interval.max(LEAST_INTERVAL);
            match now.checked_add(again).filter(|_| !timer.interval.is_zero()) {
                Some(ends) => running.insert(cage, Running { ends, ..timer }),
                None => running.remove(&cage),
            };
            return cage;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(2);

    #[test]
    fn timers_end_in_their_order_once_or_again() {
        let timers = Timers::default();
        let id = |number| CageId::new(number);
        let once = |millis| Timer {
            left: Duration::from_millis(millis),
            interval: Duration::ZERO,
        };
        assert_eq!(timers.get(id(1)), Timer::default());
        timers.set(id(1), once(20));
        timers.set(id(2), once(2));
        timers.set(id(3), once(1));
        timers.set(id(3), Timer::default());
        assert!(timers.get(id(1)).left <= Duration::from_millis(20));
        assert_eq!(timers.wait(), id(2));
        assert_eq!(timers.wait(), id(1));
        assert_eq!(timers.get(id(1)), Timer::default());
        let again = Timer {
            left: SOON,
            interval: SOON,
        };
        timers.set(id(4), again);
        assert_eq!([timers.wait(), timers.wait(), timers.wait()], [id(4); 3]);
        assert_eq!(timers.get(id(4)).interval, SOON);
        let never = Timer {
            left: Duration::MAX,
            interval: SOON,
        };
        timers.set(id(4), never);
        assert_eq!(timers.get(id(4)), Timer::default());
    }
}
