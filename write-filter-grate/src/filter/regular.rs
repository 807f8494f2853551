//! Regular files: a secret is masked in place, wherever the writes that make it up begin and end.
//!
//! Nothing is held back, so that sizes and offsets are those that the program expects: what it
//! wrote is in the file at once, and the bytes of a secret that were there before its last ones
//! came are masked then. Bytes beside a write are read for that, through the grate's own
//! descriptor where the program's is for writing only; a file that grows at its end is followed by
//! a stream instead.

use super::filter;
use grate_rs::constants::{SYS_PREAD, SYS_PWRITE};
use grate_rs::kernel::{self, value};
use grate_rs::{CageFd, Errno, own_buffer};
use redact::{Event, Filter, Stream, Verdict};
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// Most bytes before and after a write that are looked at.
const BESIDE: u64 = 16 << 10;

/// A regular file that is written to, shared by all its open file descriptions.
#[derive(Debug)]
pub struct Regular {
    rules: Arc<Filter>,
    /// A descriptor to read it with, and to write masks with.
    own: CageFd,
    end: Mutex<Option<End>>,
}

/// A file's end as the last write left it.
#[derive(Debug)]
struct End {
    size: u64,
    /// All of the file, or its last part, has gone through it.
    stream: Stream,
    /// What stands in the file for the bytes that the stream holds.
    shown: Vec<u8>,
}

/// What goes to the file instead of a write.
struct Plan {
    /// For the program's own bytes.
    bytes: Vec<u8>,
    /// For bytes that are in the file already: where, and what.
    repairs: Vec<(u64, Vec<u8>)>,
    /// The file's end, if the write reaches it.
    end: Option<End>,
}

/// Why no plan was made.
enum Refusal {
    Errno(Errno),
    /// To be reported as written.
    Dropped,
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl Drop for Regular {
    fn drop(&mut self) {
        self.own.close();
    }
}

impl Regular {
    /// A file with a descriptor that reads and writes it, which is closed with this.
    pub fn new(rules: &Arc<Filter>, own: CageFd) -> Self {
        Self {
            rules: Arc::clone(rules),
            own,
            end: Mutex::new(None),
        }
    }

    /// Writes at a position, or at the end for `None`, with `transmit` for the program's bytes.
    ///
    /// # Errors
    /// EPERM where a rule denies it; else what the kernel says.
    pub fn write(
        &self,
        position: Option<u64>,
        input: &[u8],
        transmit: super::outlet::Transmit<'_>,
    ) -> Result<i32, Errno> {
        if input.is_empty() {
            return transmit(input);
        }
        let mut end = self.end.lock().unwrap_or_else(|e| e.into_inner());
        let size = self.own.stat()?.size;
        let position = position.unwrap_or(size);
        let last = end.take().filter(|last| last.size == size);
        let plan = match last {
            Some(last) if last.size == position => self.append(last, input),
            _ => self.insert(position, size, input),
        };
        let plan = match plan {
            Ok(plan) => plan,
            Err(Refusal::Dropped) => return Ok(input.len() as i32),
            Err(Refusal::Errno(errno)) => return Err(errno),
        };
        // Masks first: whatever comes between, the secret never stands there whole.
        for (at, bytes) in &plan.repairs {
            self.put(*at, bytes)?;
        }
        let written = transmit(&plan.bytes)?;
        if written as usize == input.len() {
            *end = plan.end;
        }
        Ok(written)
    }

    /// A write at the end of a file whose end is known.
    fn append(&self, mut last: End, input: &[u8]) -> Result<Plan, Refusal> {
        let held_from = last.size - last.shown.len() as u64;
        let mut content = Vec::new();
        let verdict = last.stream.push(input, &mut content);
        filter().note_events(&mut last.stream);
        check(verdict)?;
        let decided = content.len();
        last.stream.clone().finish(&mut content);
        let bytes = content.split_off(last.shown.len().min(content.len()));
        let mut repairs = Vec::new();
        if content != last.shown {
            repairs.push((held_from, content.clone()));
        }
        let shown = [content, bytes.clone()].concat().split_off(decided);
        Ok(Plan {
            bytes,
            repairs,
            end: Some(End {
                size: last.size + input.len() as u64,
                shown,
                ..last
            }),
        })
    }

    /// A write anywhere: with the bytes beside it taken for one piece.
    fn insert(&self, position: u64, size: u64, input: &[u8]) -> Result<Plan, Refusal> {
        let before = if position > size {
            // Zeros come between.
            Vec::new()
        } else {
            let from = position.saturating_sub(BESIDE);
            self.get(from, (position - from) as usize)?
        };
        let after_at = position.saturating_add(input.len() as u64);
        let after = self.get(after_at, size.saturating_sub(after_at).min(BESIDE) as usize)?;
        let first = position - before.len() as u64;
        let own = before.len()..before.len() + input.len();

        let mut stream = self.rules.stream();
        let mut masked = Vec::new();
        // What was there before is nobody's write now.
        let verdict = stream.push(&before, &mut masked);
        if verdict != Verdict::Passed {
            stream = self.rules.stream();
            masked.clear();
        }
        let passed = masked.len();
        let verdict = stream.push(input, &mut masked);
        check(verdict)?;
        let end = (after.is_empty() && passed <= own.start).then(|| {
            let mut shown = Vec::new();
            stream.clone().finish(&mut shown);
            (stream.clone(), shown)
        });
        let _ = stream.push(&after, &mut masked);
        stream.finish(&mut masked);

        let whole = [&before[..], input, &after].concat();
        let mut content = whole.clone();
        let mut touched = Vec::new();
        for event in stream.take_events() {
            let found = range_of(&event);
            let overlaps = found.start < own.end && own.start < found.end;
            if !overlaps {
                continue;
            }
            if let (Some(to), Some(from)) =
                (content.get_mut(found.clone()), masked.get(found.clone()))
            {
                to.copy_from_slice(from);
                touched.push(found);
                filter().note_event(&event);
            }
        }
        let mut repairs = Vec::new();
        for found in touched {
            for part in [
                found.start..found.end.min(own.start),
                found.start.max(own.end)..found.end,
            ] {
                if !part.is_empty() && content[part.clone()] != whole[part.clone()] {
                    repairs.push((first + part.start as u64, content[part].to_vec()));
                }
            }
        }
        let end = end.map(|(mut stream, shown)| {
            let _ = stream.take_events();
            End {
                size: after_at,
                stream,
                shown,
            }
        });
        Ok(Plan {
            bytes: content[own].to_vec(),
            repairs,
            end,
        })
    }

    fn get(&self, at: u64, len: usize) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; len];
        let mut done = 0;
        while done < len {
            let args = [
                self.own.arg(),
                own_buffer(bytes[done..].as_mut_ptr()),
                value(self.own.cage, (len - done) as u64),
                value(self.own.cage, at + done as u64),
            ];
            match kernel::call(SYS_PREAD, self.own.cage, &args)? as usize {
                0 => break,
                read => done += read.min(len - done),
            }
        }
        bytes.truncate(done);
        Ok(bytes)
    }

    fn put(&self, at: u64, bytes: &[u8]) -> Result<(), Errno> {
        let mut done = 0;
        while done < bytes.len() {
            let rest = &bytes[done..];
            let args = [
                self.own.arg(),
                own_buffer(rest.as_ptr()),
                value(self.own.cage, rest.len() as u64),
                value(self.own.cage, at + done as u64),
            ];
            done += (kernel::call(SYS_PWRITE, self.own.cage, &args)? as usize).max(1);
        }
        Ok(())
    }
}

fn check(verdict: Verdict) -> Result<(), Refusal> {
    match verdict {
        Verdict::Passed => Ok(()),
        Verdict::Dropped(_) => Err(Refusal::Dropped),
        Verdict::Denied(rule) => Err(Refusal::Errno(filter().denied(rule))),
    }
}

fn range_of(event: &Event) -> Range<usize> {
    event.offset as usize..(event.offset + event.len) as usize
}
