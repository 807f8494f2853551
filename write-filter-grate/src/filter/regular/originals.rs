//! What stood in a file where masks stand now: what was taken for a secret may turn out to be a
//! part of a longer one, or of none.

use redact::MASK;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use zeroize::Zeroizing;

/// Most bytes behind masks that are remembered of a file.
const REMEMBERED: usize = 64 << 10;

/// Bytes of the program's, and when they came.
struct Original {
    bytes: Zeroizing<Vec<u8>>,
    age: u64,
}

/// The bytes behind masks, by where in the file they begin. None overlaps another.
#[derive(Default)]
pub struct Originals {
    ranges: BTreeMap<u64, Original>,
    /// Where they begin, the oldest first. Some may be gone.
    ages: VecDeque<(u64, u64)>,
    next_age: u64,
    len: usize,
}

impl Originals {
    /// Keeps what masks are put for; the oldest go where it becomes too much.
    pub fn remember(&mut self, at: u64, bytes: &[u8]) {
        self.forget(at..at + bytes.len() as u64);
        self.insert(at, bytes, self.next_age);
        self.ages.push_back((self.next_age, at));
        self.next_age += 1;
        while self.len > REMEMBERED
            && let Some((age, at)) = self.ages.pop_front()
        {
            if self.ranges.get(&at).is_some_and(|range| range.age == age) {
                self.remove(at);
            }
        }
    }

    fn insert(&mut self, at: u64, bytes: &[u8], age: u64) {
        self.len += bytes.len();
        let bytes = Zeroizing::new(bytes.to_vec());
        self.ranges.insert(at, Original { bytes, age });
    }

    fn remove(&mut self, at: u64) -> Option<Original> {
        let original = self.ranges.remove(&at)?;
        self.len -= original.bytes.len();
        Some(original)
    }

    /// Forgets a range of the file; what is remembered around it stays.
    pub fn forget(&mut self, gone: Range<u64>) {
        if gone.is_empty() {
            return;
        }
        let starts: Vec<u64> = self.within(gone.clone()).map(|range| range.start).collect();
        for start in starts {
            let Some(Original { bytes, age }) = self.remove(start) else {
                continue;
            };
            let end = start + bytes.len() as u64;
            if start < gone.start {
                self.insert(start, &bytes[..(gone.start - start) as usize], age);
            }
            if end > gone.end {
                // It has another beginning now, by which its age is to be found.
                self.insert(gone.end, &bytes[(gone.end - start) as usize..], age);
                self.ages.push_front((age, gone.end));
            }
        }
    }

    /// The ranges that overlap one.
    pub fn within(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let before = self.ranges.range(..range.start).next_back();
        let inside = self.ranges.range(range.start..range.end.max(range.start));
        let ranges = before.into_iter().chain(inside);
        ranges
            .map(|(at, original)| *at..*at + original.bytes.len() as u64)
            .filter(move |other| other.start < range.end && range.start < other.end)
    }

    /// Whether masks were put for just this range.
    pub fn holds(&self, range: &Range<u64>) -> bool {
        let original = self.ranges.get(&range.start);
        original.is_some_and(|original| original.bytes.len() as u64 == range.end - range.start)
    }

    /// Puts into bytes of the file from `first` on what stood there, where masks still do.
    pub fn reveal(&self, first: u64, bytes: &mut [u8]) {
        let end = first + bytes.len() as u64;
        for range in self.within(first..end) {
            let original = &self.ranges[&range.start].bytes;
            for place in range.start.max(first)..range.end.min(end) {
                let byte = &mut bytes[(place - first) as usize];
                if *byte == MASK {
                    *byte = original[(place - range.start) as usize];
                }
            }
        }
    }
}

impl std::fmt::Debug for Originals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Originals").finish_non_exhaustive()
    }
}
