//! What a change of a file has to be, so that all secrets are masked: no kernel, no file.
//!
//! A part of the file is looked at twice: as it was, and as it is going to be. A match that is
//! there only now is masked, one that is there no more is shown again where what stood there is
//! known, and one that is there both times stays as it is, unless the change writes into it.

use super::originals::Originals;
use redact::{Action, Event, Filter, Stream, Verdict};
use std::ops::Range;
use std::sync::Arc;
use zeroize::Zeroizing;

/// A file's end as the last write left it.
#[derive(Debug)]
pub struct End {
    pub size: u64,
    /// Where in the file its stream begins.
    begins: u64,
    /// All of the file, or its last part, has gone through it.
    stream: Stream,
    /// The bytes that the stream holds.
    held: Zeroizing<Vec<u8>>,
    /// What stands in the file for them.
    shown: Vec<u8>,
    /// What is found if nothing follows.
    pub pending: Vec<Event>,
}

impl End {
    /// Where the bytes begin that are not decided yet.
    pub fn open_from(&self) -> u64 {
        self.size - self.held.len() as u64
    }
}

/// Bytes to put into the file, and what stands there before.
#[derive(Debug)]
pub struct Patch {
    pub at: u64,
    pub bytes: Vec<u8>,
    pub was: Vec<u8>,
}

/// What goes to the file instead of a write.
#[derive(Debug, Default)]
pub struct Plan {
    /// For the program's own bytes; nothing if they are written as they are.
    pub own: Option<Vec<u8>>,
    /// For bytes that are in the file already: before the write.
    pub hide: Vec<Patch>,
    /// The same, after it.
    pub show: Vec<Patch>,
    /// What stood behind these masks is to be forgotten,
    pub lifted: Vec<Range<u64>>,
    /// and this to be remembered.
    pub masked: Vec<(u64, Zeroizing<Vec<u8>>)>,
    /// What was found.
    pub events: Vec<Event>,
    /// The file's end, if the write reaches it.
    pub end: Option<End>,
}

/// Where in the file a match is.
fn place(event: &Event) -> Range<u64> {
    event.offset..event.offset + event.len
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

fn is_among(list: &[Event], event: &Event) -> bool {
    let of = |event: &Event| (event.rule, event.offset, event.len);
    list.iter().any(|other| of(other) == of(event))
}

/// Whether something is put for a match. One that is denied is none of these: it keeps its action
/// where it was stepped over.
fn is_replaced(event: &Event) -> bool {
    !matches!(event.action, Action::Audit | Action::Deny | Action::Drop)
}

fn moved(events: Vec<Event>, by: u64) -> impl Iterator<Item = Event> {
    let moved = move |event: Event| Event {
        offset: event.offset + by,
        ..event
    };
    events.into_iter().map(moved)
}

/// A write at the end of a file whose end is known. `Err` is the match that a rule denies, and the
/// end as it was.
pub fn append(mut end: End, input: &[u8]) -> Result<Plan, Box<(End, Event)>> {
    let mut filtered = Vec::with_capacity(end.held.len() + input.len());
    let verdict = end.stream.push(input, &mut filtered);
    let mut events: Vec<_> = moved(end.stream.take_events(), end.begins).collect();
    if verdict != Verdict::Passed
        && let Some(denied) = events.pop()
    {
        return Err(Box::new((end, denied)));
    }
    let decided = filtered.len();
    let mut ended = end.stream.clone();
    ended.finish(&mut filtered);
    let pending: Vec<_> = moved(ended.take_events(), end.begins).collect();

    let held = end.held.len();
    let alters = end.stream.take_alters() | ended.take_alters();
    let is_plain = end.shown == *end.held && !alters;
    let size = end.size + input.len() as u64;
    let found = [&events[..], &pending].concat();
    let next = |held: &[u8], shown: &[u8], end: End| End {
        size,
        held: Zeroizing::new(held.to_vec()),
        shown: shown.to_vec(),
        pending,
        ..end
    };
    if is_plain {
        // Nothing is masked, and nothing was.
        let held = &filtered[decided..];
        return Ok(Plan {
            events,
            end: Some(next(held, held, end)),
            ..Plan::default()
        });
    }
    let raw = Zeroizing::new([&end.held[..], input].concat());
    let present = [&end.shown[..], input].concat();
    let part = Part {
        at: end.open_from(),
        present: &present,
        raw: &raw,
        filtered: &filtered,
        own: held..raw.len(),
        is_followed: true,
    };
    let Settled { mut plan, content } = part.settle(&end.pending, &found, |_| true);
    plan.end = Some(next(&raw[decided..], &content[decided..], end));
    plan.events = events;
    Ok(plan)
}

/// A change anywhere, with the bytes beside it.
pub struct Change {
    /// Where in the file `present` begins.
    pub at: u64,
    /// The part of the file as it would be by the change alone.
    pub present: Vec<u8>,
    /// What of it is written.
    pub own: Range<usize>,
    /// Whether the file ends where `present` does.
    pub reaches_end: bool,
    /// Where the first NUL is in the file's head, as far as it lies before `at`.
    pub nul: Option<u64>,
}

/// Why no plan was made.
#[derive(Debug)]
pub enum Refusal<E> {
    /// The old bytes can't be read.
    Error(E),
    /// The match that a rule denies.
    Denied(Event),
}

/// Works out a change; `old` tells what is in that part of the file before.
pub fn change<E>(
    rules: &Arc<Filter>,
    originals: &Originals,
    change: &Change,
    old: impl FnOnce() -> Result<Vec<u8>, E>,
) -> Result<Plan, Refusal<E>> {
    let (at, own) = (change.at, change.own.clone());
    let mut raw = Zeroizing::new(change.present.clone());
    originals.reveal(at, &mut raw[..own.start]);
    originals.reveal(at + own.end as u64, &mut raw[own.end..]);
    let new = Parsed::new(rules, at, change.nul, &raw);
    let own_place = at + own.start as u64..at + own.end as u64;
    let is_touched = |event: &Event| overlap(&place(event), &own_place);

    // What was there before matters only for what is seen and would be masked, or the other way
    // round.
    let is_hidden = |event: &Event| {
        let part = in_part(at, raw.len(), &place(event));
        change.present[part.clone()] == new.filtered[part]
    };
    // What only reports has put no mask, so it explains none.
    let is_explained = |masked: &Range<u64>| {
        let mut replaced = new.events.iter().filter(|event| is_replaced(event));
        replaced.any(|event| place(event) == *masked)
    };
    let end = at + raw.len() as u64;
    let changes = new.events.iter().any(|event| {
        !is_touched(event)
            && event.action != Action::Audit
            && !(is_replaced(event) && is_hidden(event))
    });
    let lifts = originals
        .within(at..end)
        .any(|masked| !is_explained(&masked));
    let compares = changes || lifts;
    let old = if compares {
        let mut old = Zeroizing::new(old().map_err(Refusal::Error)?);
        originals.reveal(at, &mut old);
        Parsed::new(rules, at, change.nul, &old).events
    } else {
        Vec::new()
    };
    let was_denied = |event: &Event| {
        let mut same = old.iter().filter(|other| other.rule == event.rule);
        same.any(|other| overlap(&place(other), &place(event)))
    };
    let mut denied = new
        .events
        .iter()
        .filter(|event| matches!(event.action, Action::Deny | Action::Drop));
    if let Some(event) = denied.find(|event| is_touched(event) || !was_denied(event)) {
        return Err(Refusal::Denied(*event));
    }
    let part = Part {
        at,
        present: &change.present,
        raw: &raw,
        filtered: &new.filtered,
        own,
        is_followed: change.reaches_end,
    };
    let settled = part.settle(&old, &new.events, |masked| originals.holds(masked));
    let Settled { mut plan, content } = settled;
    if change.reaches_end {
        plan.end = Some(End {
            size: end,
            begins: new.begins,
            held: Zeroizing::new(raw[new.decided..].to_vec()),
            shown: content[new.decided..].to_vec(),
            stream: new.stream,
            pending: new.events[new.pending_from..].to_vec(),
        });
    }
    // Those that are pending are told when it is clear that they stay.
    let told = match plan.end {
        Some(_) => &new.events[..new.pending_from],
        None => &new.events[..],
    };
    let is_news = |event: &&Event| is_touched(event) || compares && !is_among(&old, event);
    plan.events = told.iter().filter(is_news).copied().collect();
    Ok(plan)
}

/// A part of a file, searched.
struct Parsed {
    /// As it should be shown.
    filtered: Vec<u8>,
    /// In the file's own offsets.
    events: Vec<Event>,
    /// The events from there on are only found because nothing follows.
    pending_from: usize,
    /// What comes before is decided, whatever follows.
    decided: usize,
    /// The stream before it was ended, and where in the file it begins.
    stream: Stream,
    begins: u64,
}

impl Parsed {
    fn new(rules: &Arc<Filter>, at: u64, nul: Option<u64>, text: &[u8]) -> Self {
        let (mut filtered, mut events) = (Vec::new(), Vec::new());
        let (mut begins, mut nul) = (0, nul);
        let stream = loop {
            let from_here = |nul| rules.stream_from(at + begins as u64, nul);
            let mut stream = from_here(nul);
            let verdict = stream.push(&text[begins..], &mut filtered);
            let mut found = stream.take_events();
            let denied = match verdict {
                Verdict::Passed => None,
                _ => found.pop(),
            };
            events.extend(moved(found, at + begins as u64));
            let Some(denied) = denied else { break stream };
            // A stream does not get past what its rule denies: another one goes on behind it.
            let start = begins + denied.offset as usize;
            let end = start + denied.len as usize;
            let before = &text[begins..start];
            let mut head = from_here(nul);
            if head.push(before, &mut filtered) == Verdict::Passed {
                head.finish(&mut filtered);
                events.extend(moved(head.take_events(), at + begins as u64));
            } else {
                filtered.extend_from_slice(before);
            }
            filtered.extend_from_slice(&text[start..end]);
            events.extend(moved(vec![denied], at + begins as u64));
            nul = rules.first_nul(at + begins as u64, nul, &text[begins..end]);
            begins = end;
        };
        let (decided, pending_from) = (filtered.len(), events.len());
        let mut ended = stream.clone();
        ended.finish(&mut filtered);
        events.extend(moved(ended.take_events(), at + begins as u64));
        Self {
            filtered,
            events,
            pending_from,
            decided,
            stream,
            begins: at + begins as u64,
        }
    }
}

/// A range of the file inside a part of it.
fn in_part(at: u64, len: usize, range: &Range<u64>) -> Range<usize> {
    let inside = |place: u64| (place.saturating_sub(at) as usize).min(len);
    inside(range.start)..inside(range.end)
}

/// A part of a file that changes.
struct Part<'p> {
    at: u64,
    /// As it is, with what the program writes in its place.
    present: &'p [u8],
    /// As the program thinks it is.
    raw: &'p [u8],
    /// With everything masked that is found in it.
    filtered: &'p [u8],
    own: Range<usize>,
    /// Whether what comes next goes through the same stream, which has masked what it could not
    /// hold any longer.
    is_followed: bool,
}

/// A plan, and the part as it is going to be.
struct Settled {
    plan: Plan,
    content: Vec<u8>,
}

impl Part<'_> {
    fn settle(
        &self,
        old: &[Event],
        new: &[Event],
        is_known: impl Fn(&Range<u64>) -> bool,
    ) -> Settled {
        let own = self.at + self.own.start as u64..self.at + self.own.end as u64;
        let inside = |range: &Range<u64>| in_part(self.at, self.raw.len(), range);
        let mut masked = Vec::new();
        let mut hide = |hidden: &mut Vec<u8>, part: Range<usize>| {
            hidden[part.clone()].copy_from_slice(&self.filtered[part.clone()]);
            if self.raw[part.clone()] != self.filtered[part.clone()] {
                let original = Zeroizing::new(self.raw[part.clone()].to_vec());
                masked.push((self.at + part.start as u64, original));
            }
        };
        let mut hidden = self.present.to_vec();
        let mut explained = self.raw.to_vec();
        for event in new.iter().filter(|event| is_replaced(event)) {
            let part = inside(&place(event));
            explained[part.clone()].copy_from_slice(&self.filtered[part.clone()]);
            if !is_among(old, event) || overlap(&place(event), &own) {
                hide(&mut hidden, part);
            }
        }
        if self.is_followed {
            for part in differences(&explained, self.filtered) {
                hide(&mut hidden, part);
            }
        }
        let mut content = hidden.clone();
        let mut lifted = Vec::new();
        let gone = |event: &&Event| is_replaced(event) && !is_among(new, event);
        for range in old
            .iter()
            .filter(gone)
            .map(place)
            .filter(|range| is_known(range))
        {
            for at in inside(&range) {
                // Not what is masked as a part of something else, nor the program's own.
                if explained[at] == self.raw[at] && !self.own.contains(&at) {
                    content[at] = self.raw[at];
                }
            }
            lifted.push(range);
        }
        let patches = |from: &[u8], to: &[u8]| -> Vec<Patch> {
            let outside = [0..self.own.start, self.own.end..to.len()];
            let parts = outside.into_iter().flat_map(|side| {
                let first = side.start;
                let parts = differences(&from[side.clone()], &to[side]);
                parts
                    .into_iter()
                    .map(move |part| first + part.start..first + part.end)
            });
            let patch = |part: Range<usize>| Patch {
                at: self.at + part.start as u64,
                bytes: to[part.clone()].to_vec(),
                was: from[part].to_vec(),
            };
            parts.map(patch).collect()
        };
        let plan = Plan {
            own: Some(content[self.own.clone()].to_vec()),
            hide: patches(self.present, &hidden),
            show: patches(&hidden, &content),
            lifted,
            masked,
            ..Plan::default()
        };
        Settled { plan, content }
    }
}

/// The runs of bytes in which two texts of one length differ.
fn differences(one: &[u8], other: &[u8]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    if one == other {
        return runs;
    }
    for at in (0..one.len().min(other.len())).filter(|&at| one[at] != other[at]) {
        match runs.last_mut() {
            Some(run) if run.end == at => run.end += 1,
            _ => runs.push(at..at + 1),
        }
    }
    runs
}
