//! What stands in a file before what is added to it now.
//!
//! A file that is only added to is a stream, and each time it is opened it is another one. So that a
//! secret is not cut by closing it in the middle, the stream begins by what is there; and what is
//! there of a secret is masked in its place when the rest of it is written.

use super::ranges;
use super::regular::beside;
use grate_rs::{CageFd, Errno};
use redact::{Action, Event, Filter, HEAD, MASK, Stream};
use std::ops::Range;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The end of a file, as it was when its stream began.
#[derive(Debug)]
pub struct Tail {
    /// A descriptor of the grate's own that reads and writes the file anywhere.
    file: CageFd,
    /// Where in the file it begins.
    at: u64,
    bytes: Zeroizing<Vec<u8>>,
}

impl Tail {
    /// What is there now, and a stream that goes on behind it.
    ///
    /// # Errors
    /// As fstat(2) and pread(2).
    pub fn of(file: CageFd, rules: &Arc<Filter>) -> Result<(Self, Stream), Errno> {
        let size = file.stat()?.size;
        let at = size.saturating_sub(beside(rules));
        let nul = match rules.asks_for_text() {
            true => {
                let head = Zeroizing::new(ranges::get(file, 0..at.min(HEAD), size)?);
                rules.first_nul(0, None, &head)
            }
            false => None,
        };
        let bytes = Zeroizing::new(ranges::get(file, at..size, size)?);
        let mut stream = rules.stream_from(at, nul);
        stream.precede(&bytes);
        Ok((Self { file, at, bytes }, stream))
    }

    /// A match of the stream, by its place in the file.
    pub fn placed(&self, event: &Event) -> Event {
        Event {
            offset: self.at + event.offset,
            ..*event
        }
    }

    /// Which parts of it matches of the stream begin with.
    pub fn parts(&self, events: &[Event]) -> Vec<Range<usize>> {
        let replaced = events.iter().filter(|event| event.action != Action::Audit);
        let inside = |place: u64| (place as usize).min(self.bytes.len());
        let parts = replaced.map(|event| inside(event.offset)..inside(event.offset + event.len));
        parts.filter(|part| !part.is_empty()).collect()
    }

    /// Masks parts of it.
    ///
    /// # Errors
    /// As pwrite(2).
    pub fn hide(&self, parts: &[Range<usize>]) -> Result<(), Errno> {
        parts
            .iter()
            .try_for_each(|part| self.put(part, &vec![MASK; part.len()]))
    }

    /// Shows parts of it again that are no match after all.
    pub fn show(&self, parts: &[Range<usize>]) {
        for part in parts {
            // It stays masked where that can't be done.
            let _ = self.put(part, &self.bytes[part.clone()]);
        }
    }

    fn put(&self, part: &Range<usize>, bytes: &[u8]) -> Result<(), Errno> {
        ranges::put(self.file, self.at + part.start as u64, bytes)
    }
}
