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
use redact::{Filter, MASK, Stream, Verdict};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use zeroize::Zeroizing;

/// Most bytes before and after a write that are looked at.
const BESIDE: u64 = 16 << 10;
/// Most bytes behind masks that are remembered of a file.
const REMEMBERED: usize = 64 << 10;

/// A regular file that is written to, shared by all its open file descriptions.
#[derive(Debug)]
pub struct Regular {
    rules: Arc<Filter>,
    /// A descriptor to read it with, and to write masks with.
    own: CageFd,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    end: Option<End>,
    masked: Originals,
}

/// What stood where masks stand now: the start of a secret may still come, before what was taken
/// for one.
#[derive(Default)]
struct Originals {
    /// The latest last.
    ranges: VecDeque<(u64, Zeroizing<Vec<u8>>)>,
    len: usize,
}

/// A file's end as the last write left it.
#[derive(Debug)]
struct End {
    size: u64,
    /// All of the file, or its last part, has gone through it.
    stream: Stream,
    /// The bytes that the stream holds.
    held: Zeroizing<Vec<u8>>,
    /// What stands in the file for them.
    shown: Vec<u8>,
}

/// What goes to the file instead of a write.
struct Plan {
    /// For the program's own bytes.
    bytes: Vec<u8>,
    /// For bytes that are in the file already: where, and what.
    repairs: Vec<(u64, Vec<u8>)>,
    /// Where masks will stand for something else, and for what.
    masked: Vec<(u64, Zeroizing<Vec<u8>>)>,
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
            state: Mutex::default(),
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
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        let size = self.own.stat()?.size;
        let position = position.unwrap_or(size);
        let last = state.end.take().filter(|last| last.size == size);
        let plan = match last {
            Some(last) if last.size == position => append(last, input),
            _ => self.insert(&state.masked, position, size, input),
        };
        let plan = match plan {
            Ok(plan) => plan,
            Err(Refusal::Dropped) => return Ok(input.len() as i32),
            Err(Refusal::Errno(errno)) => return Err(errno),
        };
        for (at, original) in plan.masked {
            state.masked.remember(at, original);
        }
        // Masks first: whatever comes between, the secret never stands there whole.
        for (at, bytes) in &plan.repairs {
            self.put(*at, bytes)?;
        }
        let written = transmit(&plan.bytes)?;
        if written as usize == input.len() {
            state.end = plan.end;
        }
        Ok(written)
    }

    /// A write anywhere: with the bytes beside it taken for one piece.
    fn insert(
        &self,
        masked: &Originals,
        position: u64,
        size: u64,
        input: &[u8],
    ) -> Result<Plan, Refusal> {
        let from = if position > size {
            // Zeros come between.
            position
        } else {
            position.saturating_sub(BESIDE)
        };
        let before = self.get(from, (position - from) as usize)?;
        let from = position - before.len() as u64;
        let after_at = position.saturating_add(input.len() as u64);
        let after = self.get(after_at, size.saturating_sub(after_at).min(BESIDE) as usize)?;
        let own = before.len()..before.len() + input.len();

        let present = [&before[..], input, &after].concat();
        let mut raw = Zeroizing::new(present.clone());
        masked.reveal(from, &mut raw[..own.start]);
        masked.reveal(after_at, &mut raw[own.end..]);

        let mut stream = self.rules.stream();
        let mut filtered = Vec::new();
        // What was there before is nobody's write now.
        let mut begins = 0;
        if stream.push(&raw[..own.start], &mut filtered) != Verdict::Passed {
            stream = self.rules.stream();
            filtered.extend_from_slice(&raw[..own.start]);
            begins = own.start;
        }
        check(stream.push(input, &mut filtered))?;
        let decided = filtered.len();
        let at_end = after.is_empty().then(|| stream.clone());
        let _ = stream.push(&raw[own.end..], &mut filtered);
        stream.finish(&mut filtered);

        let mut content = present.clone();
        let mut hidden = Vec::new();
        for event in stream.take_events() {
            let start = begins + event.offset as usize;
            let found = start..start + event.len as usize;
            let overlaps = found.start < own.end && own.start < found.end;
            if let (true, Some(to), Some(from)) = (
                overlaps,
                content.get_mut(found.clone()),
                filtered.get(found.clone()),
            ) {
                to.copy_from_slice(from);
                hidden.extend(differences(
                    position - own.start as u64 + found.start as u64,
                    &raw[found],
                    from,
                ));
                filter().note_event(&event);
            }
        }
        let repairs = [0..own.start, own.end..content.len()]
            .into_iter()
            .flat_map(|part| {
                let first = from + part.start as u64;
                differences(first, &content[part.clone()], &present[part])
            })
            .map(|(at, bytes)| (at, bytes.to_vec()))
            .collect();
        let end = at_end.map(|mut stream| {
            let _ = stream.take_events();
            End {
                size: after_at,
                held: Zeroizing::new(raw[decided..].to_vec()),
                shown: content[decided..].to_vec(),
                stream,
            }
        });
        Ok(Plan {
            bytes: content[own].to_vec(),
            repairs,
            masked: hidden,
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

/// A write at the end of a file whose end is known.
fn append(mut last: End, input: &[u8]) -> Result<Plan, Refusal> {
    let first = last.size - last.held.len() as u64;
    let raw = Zeroizing::new([&last.held[..], input].concat());
    let mut content = Vec::new();
    let verdict = last.stream.push(input, &mut content);
    filter().note_events(&mut last.stream);
    check(verdict)?;
    let decided = content.len();
    last.stream.clone().finish(&mut content);
    let (old, new) = content.split_at(last.shown.len());
    let changed = old != last.shown;
    Ok(Plan {
        bytes: new.to_vec(),
        repairs: if changed {
            vec![(first, old.to_vec())]
        } else {
            Vec::new()
        },
        masked: differences(first, &raw, &content),
        end: Some(End {
            size: last.size + input.len() as u64,
            held: Zeroizing::new(raw[decided..].to_vec()),
            shown: content[decided..].to_vec(),
            stream: last.stream,
        }),
    })
}

/// The runs of bytes in which two texts of one length differ, as they are in the first.
fn differences(first: u64, raw: &[u8], shown: &[u8]) -> Vec<(u64, Zeroizing<Vec<u8>>)> {
    let mut runs: Vec<(u64, Zeroizing<Vec<u8>>)> = Vec::new();
    for (at, (raw, shown)) in (first..).zip(raw.iter().zip(shown)) {
        if raw == shown {
            continue;
        }
        match runs.last_mut() {
            Some((start, run)) if *start + run.len() as u64 == at => run.push(*raw),
            _ => runs.push((at, Zeroizing::new(vec![*raw]))),
        }
    }
    runs
}

impl Originals {
    fn remember(&mut self, at: u64, original: Zeroizing<Vec<u8>>) {
        self.len += original.len();
        self.ranges.push_back((at, original));
        while self.len > REMEMBERED {
            match self.ranges.pop_front() {
                Some((_, gone)) => self.len -= gone.len(),
                None => break,
            }
        }
    }

    /// Puts into bytes read at `first` what stood there, where masks still do.
    fn reveal(&self, first: u64, bytes: &mut [u8]) {
        let end = first + bytes.len() as u64;
        for (at, original) in &self.ranges {
            for place in (*at).max(first)..(*at + original.len() as u64).min(end) {
                let byte = &mut bytes[(place - first) as usize];
                if *byte == MASK {
                    *byte = original[(place - at) as usize];
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

fn check(verdict: Verdict) -> Result<(), Refusal> {
    match verdict {
        Verdict::Passed => Ok(()),
        Verdict::Dropped(_) => Err(Refusal::Dropped),
        Verdict::Denied(rule) => Err(Refusal::Errno(filter().denied(rule))),
    }
}
