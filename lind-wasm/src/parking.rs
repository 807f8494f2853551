//! Threads that sleep at addresses of guest memory (`memory.atomic.wait`), and waking them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How long those may sleep on that wait for a grate that serves no more: whoever is to wake them
/// may still be at work.
const GRACE: Duration = Duration::from_secs(2);

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// By a notify.
    Notified,
    /// At once: the value was another one.
    NotEqual,
    /// By its timeout.
    TimedOut,
    /// The cage must end.
    Doomed,
}

/// Whether who waits may wait on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// There is no reason not to.
    Fine,
    /// What it belongs to has ended: not much longer.
    Bleak,
    /// No.
    Doomed,
}

#[derive(Debug, Default)]
struct Sleeper {
    /// Changed under the lock of the spots.
    notified: std::sync::atomic::AtomicBool,
    wake: Condvar,
}

/// The sleepers of one memory, by address, those that came first in front.
#[derive(Debug, Default)]
pub struct Parking {
    spots: Mutex<BTreeMap<u64, VecDeque<Arc<Sleeper>>>>,
}

type Spots<'a> = MutexGuard<'a, BTreeMap<u64, VecDeque<Arc<Sleeper>>>>;

impl Parking {
    fn spots(&self) -> Spots<'_> {
        self.spots.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Sleeps at an address until it is notified, where `expected` holds. No notify falls between
    /// that look and the sleep. `outlook` is asked before sleeping, and after each
    /// [`Parking::rouse`].
    ///
    /// # Errors
    /// What `expected` answers.
    pub fn wait<E>(
        &self,
        address: u64,
        timeout: Option<Duration>,
        expected: impl FnOnce() -> Result<bool, E>,
        outlook: impl Fn() -> Outlook,
    ) -> Result<Woken, E> {
        // A time too far to be told is no limit.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut last_hour = None;
        let mut spots = self.spots();
        if !expected()? {
            return Ok(Woken::NotEqual);
        }
        let sleeper = Arc::new(Sleeper::default());
        spots.entry(address).or_default().push_back(sleeper.clone());
        let woken = loop {
            if sleeper.notified.load(std::sync::atomic::Ordering::Relaxed) {
                return Ok(Woken::Notified); // Who notified took it out.
            }
            let now = Instant::now();
            match outlook() {
                Outlook::Fine => {}
                Outlook::Bleak => last_hour = last_hour.or(Some(now + GRACE)),
                Outlook::Doomed => break Woken::Doomed,
            }
            if last_hour.is_some_and(|hour| hour <= now) {
                break Woken::Doomed;
            }
            if deadline.is_some_and(|deadline| deadline <= now) {
                break Woken::TimedOut;
            }
            let next = [deadline, last_hour].into_iter().flatten().min();
            spots = match next {
                None => sleeper.wake.wait(spots).unwrap_or_else(|e| e.into_inner()),
                Some(next) => {
                    let slept = sleeper.wake.wait_timeout(spots, next - now);
                    slept.unwrap_or_else(|e| e.into_inner()).0
                }
            };
        };
        if let Some(queue) = spots.get_mut(&address) {
            queue.retain(|other| !Arc::ptr_eq(other, &sleeper));
            if queue.is_empty() {
                spots.remove(&address);
            }
        }
        Ok(woken)
    }

    /// Wakes at most `most` that sleep at an address; how many.
    pub fn notify(&self, address: u64, most: u32) -> u32 {
        let mut spots = self.spots();
        let Some(queue) = spots.get_mut(&address) else {
            return 0;
        };
        let count = queue.len().min(most as usize);
        for sleeper in queue.drain(..count) {
            sleeper
                .notified
                .store(true, std::sync::atomic::Ordering::Relaxed);
            sleeper.wake.notify_one();
        }
        if queue.is_empty() {
            spots.remove(&address);
        }
        count as u32
    }

    /// Makes all sleepers look at their outlook anew.
    pub fn rouse(&self) {
        for sleeper in self.spots().values().flatten() {
            sleeper.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn yes() -> Result<bool, Infallible> {
        Ok(true)
    }

    #[test]
    fn a_wait_ends_at_once_by_another_value_by_time_and_by_doom() {
        let parking = Parking::default();
        let fine = || Outlook::Fine;
        let other = || Ok::<_, Infallible>(false);
        assert_eq!(parking.wait(8, None, other, fine), Ok(Woken::NotEqual));
        let none = Some(Duration::ZERO);
        assert_eq!(parking.wait(8, none, yes, fine), Ok(Woken::TimedOut));
        let doomed = || Outlook::Doomed;
        assert_eq!(parking.wait(8, None, yes, doomed), Ok(Woken::Doomed));
        assert!(parking.spots().is_empty());
        assert_eq!(parking.notify(8, u32::MAX), 0);
    }

    #[test]
    fn as_many_are_woken_as_asked_for() {
        let parking = Parking::default();
        let outlook = AtomicU32::new(0);
        std::thread::scope(|scope| {
            let sleep = || {
                parking.wait(8, None, yes, || match outlook.load(Ordering::SeqCst) {
                    0 => Outlook::Fine,
                    _ => Outlook::Doomed,
                })
            };
            let sleepers: Vec<_> = (0..3).map(|_| scope.spawn(sleep)).collect();
            while parking.spots().get(&8).map_or(0, VecDeque::len) < 3 {
                std::thread::yield_now();
            }
            assert_eq!(parking.notify(4, 9), 0);
            assert_eq!(parking.notify(8, 2), 2);
            outlook.store(1, Ordering::SeqCst);
            parking.rouse();
            let woken: Vec<_> = sleepers
                .into_iter()
                .map(|sleeper| sleeper.join().unwrap().unwrap())
                .collect();
            let notified = woken.iter().filter(|&&w| w == Woken::Notified).count();
            assert_eq!(notified, 2, "{woken:?}");
        });
    }
}
