//! Regular files: a secret is masked in place, wherever the writes that make it up begin and end.
//!
//! Nothing is held back, so that sizes and offsets are those that the program expects: what it
//! wrote is in the file at once, and the bytes of a secret that were there before its last ones
//! came are masked then. Bytes beside a write are read for that, through the grate's own
//! descriptor where the program's is for writing only; a file that grows at its end is followed by
//! a stream instead.

use super::filter;
use super::redaction::{Applying, Redaction, Source, Spot};
use grate_rs::constants::{SYS_PREAD, SYS_PWRITE};
use grate_rs::kernel::{self, value};
use grate_rs::{CageFd, Errno, own_buffer};
use redact::{Event, Filter, MASK, Stream, Verdict};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use zeroize::Zeroizing;

/// Most bytes before and after a write that are looked at.
const BESIDE: u64 = 16 << 10;
/// Most bytes behind masks that are remembered of a file.
const REMEMBERED: usize = 64 << 10;

/// A regular file that is written to, shared by all its open file descriptions.
#[derive(Debug)]
pub struct Regular {
    spot: Spot,
    /// A descriptor to read it with, and to write masks with.
    own: CageFd,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rules: Arc<Filter>,
    applying: Applying,
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
    /// Where in the file its stream begins.
    begins: u64,
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
    /// What was found.
    events: Vec<Event>,
    /// The file's end, if the write reaches it.
    end: Option<End>,
}

/// Why no plan was made.
enum Refusal {
    Errno(Errno),
    /// The match that a rule denies.
    Rule(Event),
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
    pub fn new(redaction: &Redaction, spot: Spot, applying: &Applying, own: CageFd) -> Self {
        Self {
            spot,
            own,
            state: Mutex::new(State {
                rules: redaction.filter(applying),
                applying: applying.clone(),
                end: None,
                masked: Originals::default(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Has more rules apply from now on.
    pub fn add_rules(&self, redaction: &Redaction, rules: &Applying) {
        let mut state = self.state();
        if !rules.is_subset(&state.applying) {
            state.applying.extend(rules);
            state.rules = redaction.filter(&state.applying);
            // It was followed by the old rules.
            state.end = None;
        }
    }

    /// Writes at a position, or at the end for `None`, with `transmit` for the program's bytes.
    ///
    /// # Errors
    /// EPERM where a rule denies it; else what the kernel says.
    pub fn write(
        &self,
        fd: CageFd,
        position: Option<u64>,
        input: &[u8],
        transmit: super::outlet::Transmit<'_>,
    ) -> Result<i32, Errno> {
        if input.is_empty() {
            return transmit(input);
        }
        let mut state = self.state();
        let size = self.own.stat()?.size;
        let position = position.unwrap_or(size);
        let last = state.end.take().filter(|last| last.size == size);
        let plan = match last {
            Some(last) if last.size == position => append(last, input),
            _ => self.insert(&state, position, size, input),
        };
        let plan = plan.map_err(|refusal| self.refused(fd, &refusal))?;
        for (at, original) in plan.masked {
            state.masked.remember(at, original);
        }
        // Masks first: whatever comes between, the secret never stands there whole.
        for (at, bytes) in &plan.repairs {
            self.put(*at, bytes)?;
        }
        let written = transmit(&plan.bytes)?;
        filter().note_seen(written as usize);
        plan.events.iter().for_each(|event| self.note(fd, event));
        if written as usize == input.len() {
            state.end = plan.end;
        }
        Ok(written)
    }

    fn note(&self, fd: CageFd, event: &Event) {
        let source = Source {
            fd,
            spot: &self.spot,
            peer: None,
        };
        filter().note_event(event, &source);
    }

    fn refused(&self, fd: CageFd, refusal: &Refusal) -> Errno {
        match refusal {
            Refusal::Errno(errno) => *errno,
            Refusal::Rule(event) => {
                self.note(fd, event);
                filter().denied(fd.cage, event.rule)
            }
        }
    }

    /// A write anywhere: with the bytes beside it taken for one piece.
    fn insert(
        &self,
        state: &State,
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
        state.masked.reveal(from, &mut raw[..own.start]);
        state.masked.reveal(after_at, &mut raw[own.end..]);

        let mut stream = state.rules.stream();
        let mut filtered = Vec::new();
        // What was there before is nobody's write now: a match that is denied is stepped over.
        let mut begins = 0;
        let mut events = Vec::new();
        while let Err(denied) = push(
            &mut stream,
            &raw[begins..own.start],
            &mut filtered,
            &mut events,
        ) {
            begins += (denied.offset + denied.len) as usize;
            events.clear();
            filtered.clear();
            filtered.extend_from_slice(&raw[..begins]);
            stream = state.rules.stream();
        }
        push(&mut stream, input, &mut filtered, &mut events).map_err(|event| {
            Refusal::Rule(Event {
                offset: from + begins as u64 + event.offset,
                ..event
            })
        })?;
        let decided = filtered.len();
        let at_end = after.is_empty().then(|| stream.clone());
        let mut rest = &raw[own.end..];
        while let Err(denied) = push(&mut stream, rest, &mut filtered, &mut events) {
            let start = begins + denied.offset as usize;
            if start < own.end {
                return Err(Refusal::Rule(Event {
                    offset: from + start as u64,
                    ..denied
                }));
            }
            // It stands behind the write, and so does everything from there on.
            rest = &raw[own.end..start];
        }
        stream.finish(&mut filtered);
        events.extend(stream.take_events());

        let mut content = present.clone();
        let mut hidden = Vec::new();
        let mut found_here = Vec::new();
        for event in events {
            let start = begins + event.offset as usize;
            let found = start..start + event.len as usize;
            let overlaps = found.start < own.end && own.start < found.end;
            if let (true, Some(to), Some(masked)) = (
                overlaps,
                content.get_mut(found.clone()),
                filtered.get(found.clone()),
            ) {
                to.copy_from_slice(masked);
                hidden.extend(differences(
                    position - own.start as u64 + found.start as u64,
                    &raw[found],
                    masked,
                ));
                found_here.push(Event {
                    offset: from + start as u64,
                    ..event
                });
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
                begins: from + begins as u64,
                held: Zeroizing::new(raw[decided..].to_vec()),
                shown: content[decided..].to_vec(),
                stream,
            }
        });
        Ok(Plan {
            bytes: content[own].to_vec(),
            repairs,
            masked: hidden,
            events: found_here,
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
    let mut events = Vec::new();
    let begins = last.begins;
    let in_file = |event: Event| Event {
        offset: begins + event.offset,
        ..event
    };
    push(&mut last.stream, input, &mut content, &mut events)
        .map_err(|event| Refusal::Rule(in_file(event)))?;
    let events = events.into_iter().map(in_file).collect();
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
        events,
        end: Some(End {
            size: last.size + input.len() as u64,
            begins,
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

/// Takes bytes into a stream, or answers the match that a rule denies them for.
fn push(
    stream: &mut Stream,
    bytes: &[u8],
    out: &mut Vec<u8>,
    events: &mut Vec<Event>,
) -> Result<(), Event> {
    let verdict = stream.push(bytes, out);
    events.extend(stream.take_events());
    match verdict {
        Verdict::Passed => Ok(()),
        // Its event is the last one.
        Verdict::Denied(rule) | Verdict::Dropped(rule) => Err(events.pop().unwrap_or(Event {
            rule,
            offset: 0,
            len: bytes.len() as u64,
            action: redact::Action::Deny,
            cut: false,
        })),
    }
}
