//! The same work on many things at once, with the results in their order.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

/// Fewer threads than this would wait for the disk with the processors idle, and more than that
/// wait for each other.
const THREADS: RangeInclusive<usize> = 4..=16;

/// Threads to use where nobody said how many.
pub fn default_threads() -> NonZero<usize> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    NonZero::new(processors.clamp(*THREADS.start(), *THREADS.end()))
        .unwrap_or(NonZero::<usize>::MIN)
}

/// Does `work` for each of the `items` on several threads. `done` is called on this one, with each
/// result in the order of the items, as soon as those before it are there.
pub fn in_order<I: Sync, T: Send>(
    threads: NonZero<usize>,
    items: &[I],
    work: impl Fn(&I) -> T + Sync,
    mut done: impl FnMut(&I, T),
) {
    let next = AtomicUsize::new(0);
    let (sender, results) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..threads.get().min(items.len()) {
            let (next, work, sender) = (&next, &work, sender.clone());
            scope.spawn(move || {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else {
                        return;
                    };
                    if sender.send((at, work(item))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut waiting = BTreeMap::new();
        let mut due = 0;
        for (at, result) in results {
            waiting.insert(at, result);
            while let Some(result) = waiting.remove(&due) {
                done(&items[due], result);
                due += 1;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn results_come_in_order() {
        let items: Vec<u64> = (0..50).collect();
        for threads in [1, 2, 7] {
            let mut seen = Vec::new();
            in_order(
                NonZero::new(threads).unwrap(),
                &items,
                |&item| {
                    thread::sleep(Duration::from_micros((item * 7919) % 300));
                    item * 2
                },
                |&item, result| seen.push((item, result)),
            );
            let expected: Vec<_> = items.iter().map(|&item| (item, item * 2)).collect();
            assert_eq!(seen, expected);
        }
    }

    #[test]
    fn nothing_to_do() {
        in_order(default_threads(), &[], |&(): &()| (), |_, ()| panic!());
    }
}
