//! One stream of bytes on its way through a filter.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

use crate::Filter;
use crate::action::Action;
use crate::automaton::{State, Walk, look_behind};
use crate::engine::{Engine, Hit, HitKind, Lead};
use crate::matcher::{Matcher, Search};
use crate::scan::{Hay, Key, Source};
use crate::text::{self, BESIDE, first_binary, last_binary};

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It was taken in. What of it can be told already is in the output.
    Passed,
    /// A rule denies it: nothing of it was taken in. The rule is an index into
    /// [`Filter::rules`].
    Denied(usize),
    /// A rule swallows it: nothing of it was taken in, and the writer is told that all was. The
    /// rule is an index into [`Filter::rules`].
    Dropped(usize),
}

/// A match, without the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The rule, as an index into [`Filter::rules`].
    pub rule: usize,
    /// Where what was replaced begins in the stream, in bytes of the input.
    pub offset: u64,
    /// How many bytes of the input it is.
    pub len: u64,
    /// What was done.
    pub action: Action,
    /// A part of it had to go out before it was known to be a match, and went out masked.
    pub cut: bool,
}

/// One stream of bytes on its way through a [`Filter`].
///
/// Writes go in by [`push`](Self::push), what can be told of them comes out. Only bytes that may
/// still turn out to be a part of a secret are held, until more bytes or the end decide it. What
/// comes out in the end does not depend on how the input was cut into writes.
///
/// A clone holds the same bytes and goes on by itself, as a process after a fork.
#[derive(Clone, Debug)]
pub struct Stream {
    filter: Arc<Filter>,
    main: Lane,
    /// Rules that only look are matched by themselves, so that they take no match from others.
    audit: Option<Lane>,
    events: Vec<Event>,
    /// What was found in what is out already, where that ends.
    known: Vec<Event>,
    /// Something went out as it is that may have been the beginning of a match.
    lets_stand: bool,
    /// Something went out otherwise than it came in.
    alters: bool,
}

impl Stream {
    pub(crate) fn new(filter: Arc<Filter>, origin: u64, nul: Option<u64>) -> Self {
        let audit = filter.audit.as_ref();
        let lane = Lane {
            origin,
            nul,
            ..Lane::default()
        };
        Self {
            audit: audit.map(|_| lane.clone()),
            main: lane,
            events: Vec::new(),
            known: Vec::new(),
            lets_stand: false,
            alters: false,
            filter,
        }
    }

    /// The filter it goes through.
    pub fn filter(&self) -> &Arc<Filter> {
        &self.filter
    }

    /// Takes a write in and appends to `out` what can be told. Unless it is
    /// [`Passed`](Verdict::Passed), the stream and `out` are as if it had not been made.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Verdict {
        let before = self.filter.judges_writes.then(|| (self.clone(), out.len()));
        match self.take_in(input, Some(out)) {
            Ok(()) => Verdict::Passed,
            Err(refusal) => {
                // A lane refuses only where the filter has rules that judge writes.
                if let Some((stream, out_len)) = before {
                    *self = stream;
                    out.truncate(out_len);
                }
                self.events.push(refusal);
                match refusal.action {
                    Action::Drop => Verdict::Dropped(refusal.rule),
                    _ => Verdict::Denied(refusal.rule),
                }
            }
        }
    }

    fn take_in(&mut self, input: &[u8], out: Option<&mut Vec<u8>>) -> Result<(), Event> {
        self.each_lane(out, |lane, matcher, sink| {
            let new = lane.append(input);
            lane.run(matcher, new, false, sink)
        })
    }

    /// Ends the stream: everything that was held is decided and goes out. The stream then is as
    /// new.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.end(out, false);
    }

    /// As [`finish`](Self::finish), where more may be written to the same place later, by a stream
    /// that knows nothing of this one: what was held and is no match goes out masked, for what
    /// comes then may make it one. Where [`finish_for_now`](Self::finish_for_now) has let such
    /// bytes out as they are, nobody but this stream can mask the rest: then it goes on.
    pub fn finish_masked(&mut self, out: &mut Vec<u8>) {
        if !self.lets_stand {
            self.end(out, true);
        } else if self.held() > 0 {
            self.flush_masked(out);
        }
    }

    /// As [`finish`](Self::finish), where more may be written to the same place by this stream. What
    /// is out stays as it is; of a match that more bytes make of it, those are masked.
    pub fn finish_for_now(&mut self, out: &mut Vec<u8>) {
        let mut ended = self.clone();
        ended.finish(out);
        let decided = self.events.len();
        self.events = ended.events;
        self.known.extend_from_slice(&self.events[decided..]);
        self.let_stand();
    }

    /// Takes in what stands before the stream, in the place that it goes to: it is out, and no
    /// event tells of what was found there. Of a match that begins in it and is completed later, what
    /// comes later is masked, and its event is [`cut`](Event::cut). The stream must be new; its
    /// offsets count from the beginning of these bytes.
    pub fn precede(&mut self, before: &[u8]) {
        let _: Result<(), Event> = self.each_lane(None, |lane, matcher, sink| {
            lane.append(before);
            // Nothing of it is new, so that nothing of it can be refused.
            lane.run(matcher, lane.buf.len(), false, sink)
        });
        let mut ended = self.clone();
        ended.finish(&mut Vec::new());
        self.known = ended.events;
        self.events.clear();
        self.let_stand();
    }

    /// What is held is out, as it is.
    fn let_stand(&mut self) {
        self.lets_stand |= self.held() > 0;
        for lane in [Some(&mut self.main), self.audit.as_mut()]
            .into_iter()
            .flatten()
        {
            lane.sent = lane.buf.len();
        }
    }

    fn end(&mut self, out: &mut Vec<u8>, veiled: bool) {
        self.lets_stand = false;
        // What was taken in can't be refused any more.
        let _: Result<(), Event> = self.each_lane(Some(out), |lane, matcher, sink| {
            if veiled {
                lane.settle(matcher, sink);
            }
            sink.veiled = veiled;
            let new = lane.append(&[]);
            let result = lane.run(matcher, new, true, sink);
            *lane = Lane::default();
            result
        });
    }

    /// Lets out everything that is held, masked, for it may be the beginning of a secret. Whatever
    /// follows that belongs to it will be masked too.
    pub fn flush_masked(&mut self, out: &mut Vec<u8>) {
        let _: Result<(), Event> = self.each_lane(Some(out), |lane, matcher, sink| {
            lane.cut(matcher, sink);
            Ok(())
        });
    }

    /// As [`flush_masked`](Self::flush_masked), for nothing has come for a while. Where it is no
    /// more than a quarter of what it may become, it goes out as it is: nearly always it is the end
    /// of a word that somebody is shown, such as that of a question.
    pub fn flush_late(&mut self, out: &mut Vec<u8>) {
        let _: Result<(), Event> = self.each_lane(Some(out), |lane, matcher, sink| {
            match lane.is_little(matcher) {
                true => lane.send(lane.buf.len(), sink),
                false => lane.cut(matcher, sink),
            }
            Ok(())
        });
    }

    /// Where the first NUL is in the head of what the stream is a part of, as far as it was seen.
    pub fn first_nul(&self) -> Option<u64> {
        self.main.nul
    }

    /// How many bytes are held.
    pub fn held(&self) -> usize {
        self.main.held()
    }

    /// Bytes taken in so far.
    pub fn position(&self) -> u64 {
        self.main.base + self.main.buf.len() as u64
    }

    /// A stream of other rules that goes on where this one stands. What this one holds is not known
    /// to it.
    #[must_use]
    pub fn under(&self, filter: &Arc<Filter>) -> Self {
        let here = self.main.origin + self.position();
        filter.stream_from(here, self.main.nul)
    }

    /// Takes the matches since the last call, in the order in which they were decided.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Whether something has gone out otherwise than it came in, since the last call. Where nothing
    /// has, who has what came in need not compare it with what went out.
    pub fn take_alters(&mut self) -> bool {
        std::mem::take(&mut self.alters)
    }

    fn each_lane(
        &mut self,
        out: Option<&mut Vec<u8>>,
        act: impl FnMut(&mut Lane, &Matcher, &mut Sink<'_>) -> Result<(), Event>,
    ) -> Result<(), Event> {
        let told = self.events.len();
        let result = self.act_on_lanes(out, act);
        if !self.known.is_empty() {
            let of = |event: &Event| (event.rule, event.offset, event.len);
            let found = self.events.split_off(told).into_iter();
            let is_news = |event: &Event| self.known.iter().all(|known| of(known) != of(event));
            self.events.extend(found.filter(is_news));
        }
        result
    }

    fn act_on_lanes(
        &mut self,
        out: Option<&mut Vec<u8>>,
        mut act: impl FnMut(&mut Lane, &Matcher, &mut Sink<'_>) -> Result<(), Event>,
    ) -> Result<(), Event> {
        let filter = &*self.filter;
        let mut sink = Sink {
            filter,
            out,
            events: &mut self.events,
            alters: &mut self.alters,
            veiled: false,
        };
        act(&mut self.main, &filter.main, &mut sink)?;
        if let (Some(lane), Some(matcher)) = (&mut self.audit, &filter.audit) {
            sink.out = None;
            act(lane, matcher, &mut sink)?;
        }
        Ok(())
    }
}

/// Where a lane puts its results.
struct Sink<'s> {
    filter: &'s Filter,
    /// Nowhere, for a lane that only looks.
    out: Option<&'s mut Vec<u8>>,
    events: &'s mut Vec<Event>,
    /// Something has gone out otherwise than it came in.
    alters: &'s mut bool,
    /// Nothing goes out as it is.
    veiled: bool,
}

impl Sink<'_> {
    fn raw(&mut self, bytes: &[u8]) {
        if self.veiled {
            return self.mask(bytes.len());
        }
        if let Some(out) = &mut self.out {
            out.extend_from_slice(bytes);
        }
    }

    fn mask(&mut self, len: usize) {
        if let Some(out) = &mut self.out {
            *self.alters |= len > 0;
            self.filter.replacer().mask(len, out);
        }
    }

    fn replace(&mut self, action: Action, rule: usize, secret: &[u8]) {
        if let Some(out) = &mut self.out {
            *self.alters = true;
            let name = self.filter.rules()[rule].name();
            self.filter.replacer().replace(action, name, secret, out);
        }
    }

    fn action(&self, engine: &Engine) -> Action {
        self.filter.rules()[engine.rule].action()
    }
}

/// The state of a stream for the rules that are matched together.
///
/// All that is known lies in the undecided bytes; the walk of the first candidate is kept beside
/// them only so that it need not be walked again.
#[derive(Clone, Debug, Default)]
struct Lane {
    /// The undecided bytes, from the first candidate's start on, and one byte before them unless
    /// the stream begins there.
    buf: Vec<u8>,
    /// Where `buf` lies in the stream.
    base: u64,
    /// Where the stream begins in what it is a part of.
    origin: u64,
    /// Where in that the first NUL is, if there is one in its head.
    nul: Option<u64>,
    /// Everything that starts before this is decided.
    at: Key,
    /// The walk of the candidate at `at`.
    front: Option<Walk>,
    /// Everything before this index of `buf` is in the output.
    sent: usize,
    /// How long the stream was when it was last asked what of the held bytes is certain.
    settled: u64,
    /// What comes before this index of `buf` goes out masked.
    masked: usize,
    /// Candidates whose bytes are gone.
    ghosts: Vec<Ghost>,
}

/// A candidate that was cut: its first bytes went out masked and are forgotten, and its walk goes
/// on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ghost {
    engine: usize,
    /// Whether the state is that of the engine's sweeper.
    sweeps: bool,
    state: State,
    /// Where it starts in the stream, or may start.
    start: u64,
    /// Where the match ends so far.
    end: Option<u64>,
}

/// Held bytes of which it is asked at each write what is certain: of more, when they are an eighth
/// more.
const OFTEN: usize = 256;

/// Most bytes, of all candidates together, that are looked at for what is certain.
const MOST_LOOKED_AT: usize = 16 << 10;

impl Lane {
    fn held(&self) -> usize {
        self.buf.len().saturating_sub(self.sent)
    }

    fn offset(&self, index: usize) -> u64 {
        self.base + index as u64
    }

    /// Takes bytes in; answers where they begin.
    fn append(&mut self, input: &[u8]) -> usize {
        let new = self.buf.len();
        if self.nul.is_none() {
            self.nul = text::first_nul(self.origin + self.offset(new), input);
        }
        self.buf.extend_from_slice(input);
        new
    }

    fn hay(&self, ended: bool) -> Hay<'_> {
        Hay {
            bytes: &self.buf,
            ended,
            base: self.origin + self.base,
            nul: self.nul,
        }
    }

    /// Decides what can be decided. Bytes from `new` on were not seen before.
    fn run(
        &mut self,
        matcher: &Matcher,
        new: usize,
        ended: bool,
        sink: &mut Sink<'_>,
    ) -> Result<(), Event> {
        self.chase_ghosts(matcher, new, ended, sink)?;
        let mut search = Search::new(matcher);
        let mut front = self.front.take();
        loop {
            let resumed = front.take().and_then(|walk| {
                let Key { start, engine } = self.at;
                let kind = matcher.engines[engine].resume(self.hay(ended), start, new, walk);
                if kind.is_none() {
                    self.at.engine += 1;
                }
                kind.map(|kind| Hit {
                    start,
                    engine,
                    kind,
                })
            });
            let hit = resumed.or_else(|| search.next(self.hay(ended), self.at));
            let Some(hit) = hit else {
                self.at = Key {
                    start: self.buf.len(),
                    engine: 0,
                };
                self.send(self.buf.len(), sink);
                break;
            };
            self.at = hit.key();
            let engine = &matcher.engines[hit.engine];
            match hit.kind {
                HitKind::Match(end) => self.commit(engine, end, new, sink)?,
                HitKind::Open(walk) => {
                    let end = walk.matched.map(|len| hit.start + len);
                    if let (Some(end), None) = (end, engine.check)
                        && (!engine.text_only || self.hay(ended).is_text(hit.start..end))
                    {
                        self.judge(engine, hit.start..end, new, sink)?;
                    }
                    self.front = Some(walk);
                    // What is held is looked through, so not at each write where that is much.
                    let held = self.buf.len() - hit.start;
                    let here = self.offset(self.buf.len());
                    if held <= OFTEN || here - self.settled >= (held / 8) as u64 {
                        self.settle(matcher, sink);
                    }
                    break;
                }
            }
        }
        if !self.ghosts.is_empty() {
            self.send(self.buf.len(), sink);
        }
        if self.buf.len() - self.at.start > sink.filter.max_hold() {
            self.cut(matcher, sink);
        }
        self.forget(matcher);
        Ok(())
    }

    /// Refuses the write whose bytes begin at `new` where a rule that judges writes matches
    /// something of it.
    fn judge(
        &self,
        engine: &Engine,
        found: Range<usize>,
        new: usize,
        sink: &Sink<'_>,
    ) -> Result<(), Event> {
        let action = sink.action(engine);
        if action.judges_write() && found.end > new {
            return Err(Event {
                rule: engine.rule,
                offset: self.offset(found.start),
                len: found.len() as u64,
                action,
                cut: false,
            });
        }
        Ok(())
    }

    /// Replaces the match that starts at `at`.
    fn commit(
        &mut self,
        engine: &Engine,
        end: usize,
        new: usize,
        sink: &mut Sink<'_>,
    ) -> Result<(), Event> {
        let found = self.at.start..end;
        self.judge(engine, found.clone(), new, sink)?;
        let secret = match engine.secret() {
            Some(group) => group.find(&self.buf, found),
            None => found,
        };
        self.send(secret.start, sink);
        let cut = secret.start < self.sent.max(self.masked);
        let action = match sink.action(engine) {
            action if cut || action.judges_write() => action.of_a_cut_match(),
            action => action,
        };
        sink.events.push(Event {
            rule: engine.rule,
            offset: self.offset(secret.start),
            len: secret.len() as u64,
            action,
            cut,
        });
        if cut {
            sink.mask(secret.end.saturating_sub(self.sent));
        } else {
            sink.replace(action, engine.rule, &self.buf[secret.clone()]);
        }
        self.sent = self.sent.max(secret.end);
        self.at = Key {
            start: end,
            engine: 0,
        };
        Ok(())
    }

    /// Puts everything before `until` out that is not out yet.
    fn send(&mut self, until: usize, sink: &mut Sink<'_>) {
        if until <= self.sent {
            return;
        }
        let raw_from = self.masked.clamp(self.sent, until);
        sink.mask(raw_from - self.sent);
        sink.raw(&self.buf[raw_from..until]);
        self.sent = until;
    }

    /// Puts out what is certain, while the first candidate is open.
    fn settle(&mut self, matcher: &Matcher, sink: &mut Sink<'_>) {
        let Some(walk) = self.front else {
            return;
        };
        let Key { start, engine } = self.at;
        let kind = HitKind::Open(walk);
        let certain = self.certain(
            matcher,
            Hit {
                start,
                engine,
                kind,
            },
        );
        self.send(certain, sink);
        self.settled = self.offset(self.buf.len());
    }

    /// Where the secret of a candidate may begin.
    fn bound(&self, matcher: &Matcher, hit: &Hit) -> usize {
        let bytes = &self.buf[..];
        let engine = &matcher.engines[hit.engine];
        if hit.kind == HitKind::Open(Walk::UNSTARTED) {
            return hit.start;
        }
        match (engine.secret(), hit.kind) {
            (Some(group), HitKind::Open(walk)) => {
                let open = group.earliest(bytes, hit.start);
                // The match so far is what remains if the walk leads to no longer one.
                let so_far = walk.matched.map(|len| hit.start..hit.start + len);
                match so_far {
                    None => open,
                    Some(_) if group.looks_ahead => hit.start,
                    Some(found) => open.min(group.find(bytes, found).start),
                }
            }
            _ => hit.start,
        }
    }

    /// Calls `each` with the candidates of a source, their walks begun.
    fn each_candidate(
        &self,
        matcher: &Matcher,
        source: &Source,
        hay: Hay<'_>,
        mut each: impl FnMut(Hit),
    ) {
        let until = Cell::new(usize::MAX);
        source.all(&matcher.engines, hay, self.at, &until, |hit| {
            let HitKind::Open(walk) = hit.kind else {
                return each(hit);
            };
            if let Some(walk) = matcher.engines[hit.engine].begun(hay, hit.start, walk) {
                let kind = HitKind::Open(walk);
                each(Hit { kind, ..hit });
            }
        });
    }

    /// Whether of each candidate only a little is there, and no match.
    fn is_little(&self, matcher: &Matcher) -> bool {
        let hay = self.hay(false);
        let mut is_little = self.ghosts.is_empty() && self.masked <= self.sent;
        for source in &matcher.sources {
            self.each_candidate(matcher, source, hay, |hit| {
                is_little &= match hit.kind {
                    HitKind::Match(_) => false,
                    HitKind::Open(walk) => {
                        let there = self.buf.len() - self.bound(matcher, &hit);
                        let least = matcher.engines[hit.engine].least();
                        walk.matched.is_none() && there <= least / 4
                    }
                };
            });
        }
        is_little
    }

    /// Up to where the bytes go out as they are, whatever becomes of the candidates: to the first
    /// one's start, or further where only a later part of each is secret.
    fn certain(&self, matcher: &Matcher, front: Hit) -> usize {
        #[cfg(test)]
        tests::LOOKED_AT.with(|sum| sum.set(sum.get() + self.buf.len() - front.start));
        let bound = |hit: &Hit| self.bound(matcher, hit);
        let certain = Cell::new(bound(&front));
        if certain.get() > front.start {
            let hay = self.hay(false);
            let mut looked_at = 0;
            let after = Key {
                start: front.start,
                engine: front.engine + 1,
            };
            for source in &matcher.sources {
                source.all(&matcher.engines, hay, after, &certain, |hit| {
                    looked_at += self.buf.len() - hit.start;
                    certain.set(match looked_at {
                        0..=MOST_LOOKED_AT => certain.get().min(bound(&hit)),
                        // Too many to say.
                        _ => front.start,
                    });
                });
            }
        }
        certain.get()
    }

    /// Lets go of all candidates: what is held goes out masked, and their walks go on without it.
    fn cut(&mut self, matcher: &Matcher, sink: &mut Sink<'_>) {
        self.settle(matcher, sink);
        if self.front.take().is_none() {
            return;
        }
        let mut ghosts = std::mem::take(&mut self.ghosts);
        let hay = self.hay(false);
        for source in &matcher.sources {
            self.haunt(matcher, source, hay, &mut ghosts);
        }
        self.ghosts = ghosts;
        sink.mask(self.held());
        self.sent = self.buf.len();
        self.at = Key {
            start: self.buf.len(),
            engine: 0,
        };
        self.forget(matcher);
    }

    /// Adds the candidates of a source that are open at the end of `hay`.
    fn haunt(&self, matcher: &Matcher, source: &Source, hay: Hay<'_>, ghosts: &mut Vec<Ghost>) {
        let mut add = |ghost: Ghost| {
            let is_known = ghosts.iter().any(|known| {
                (known.engine, known.sweeps, known.state)
                    == (ghost.engine, ghost.sweeps, ghost.state)
            });
            // Two in one state have one future, and the earlier start is masked already.
            if !is_known {
                ghosts.push(ghost);
            }
        };
        if let Source::Sweep { sweeper, engine } = source
            && let Some(dfa) = sweeper.anywhere()
        {
            // What no text has is behind every candidate for text.
            let binary = match matcher.engines[*engine].text_only {
                true => last_binary(&hay.bytes[self.at.start..]).map_or(0, |at| at + 1),
                false => 0,
            };
            let mut from = Some(self.at.start + binary);
            while let Some(start) = from.filter(|&from| from < hay.bytes.len()) {
                let state = dfa.start(look_behind(hay.bytes, start));
                let run = dfa.chase(hay.bytes, start, state, false);
                if let Some(state) = run.state {
                    add(Ghost {
                        engine: *engine,
                        sweeps: true,
                        state,
                        start: self.offset(start),
                        end: run.end.map(|end| self.offset(end)),
                    });
                }
                // A match hides what overlaps it, but not what comes after.
                from = run.end;
            }
            return;
        }
        self.each_candidate(matcher, source, hay, |hit| {
            if let HitKind::Open(walk) = hit.kind {
                add(Ghost {
                    engine: hit.engine,
                    sweeps: false,
                    state: walk.state,
                    start: self.offset(hit.start),
                    end: walk.matched.map(|len| self.offset(hit.start + len)),
                });
            }
        });
    }

    /// Walks the cut candidates over the bytes from `new` on. While one is open, everything goes
    /// out masked.
    fn chase_ghosts(
        &mut self,
        matcher: &Matcher,
        new: usize,
        ended: bool,
        sink: &mut Sink<'_>,
    ) -> Result<(), Event> {
        let ghosts = std::mem::take(&mut self.ghosts);
        for mut ghost in ghosts {
            let engine = &matcher.engines[ghost.engine];
            let sweeper = match &engine.lead {
                Lead::Sweep(sweeper) if ghost.sweeps => sweeper.anywhere(),
                _ => None,
            };
            let binary = match engine.text_only {
                true => first_binary(&self.buf[new..]).map(|at| new + at),
                false => None,
            };
            let hay = &self.buf[..binary.unwrap_or(self.buf.len())];
            let mut run = match sweeper {
                Some(dfa) => dfa.chase(hay, new, ghost.state, ended),
                None => engine.automaton().run(hay, new, ghost.state, None, ended),
            };
            if binary.is_some() {
                run.state = None;
            }
            ghost.end = run.end.map(|end| self.offset(end)).or(ghost.end);
            let action = sink.action(engine);
            if let Some(end) = ghost.end {
                let event = Event {
                    rule: engine.rule,
                    offset: ghost.start,
                    len: end - ghost.start,
                    action,
                    cut: true,
                };
                if action.judges_write() && end > self.offset(new) {
                    return Err(event);
                }
                if run.state.is_none() {
                    sink.events.push(Event {
                        action: action.of_a_cut_match(),
                        ..event
                    });
                }
                let end = end.saturating_sub(self.base) as usize;
                self.masked = self.masked.max(end.min(self.buf.len()));
            }
            if let Some(state) = run.state {
                self.masked = self.buf.len();
                self.ghosts.push(Ghost { state, ..ghost });
            }
        }
        Ok(())
    }

    /// Drops the bytes that are decided, but for the last of them that something still depends on.
    fn forget(&mut self, matcher: &Matcher) {
        let gone = match matcher.looks_back {
            // Not at each write.
            true if self.at.start < 4 * BESIDE => return,
            true => self.at.start - BESIDE,
            false => self.at.start.saturating_sub(1),
        };
        self.buf.drain(..gone);
        self.base += gone as u64;
        self.at.start -= gone;
        self.sent -= gone;
        self.masked = self.masked.saturating_sub(gone);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::{Pattern, RuleSet};

    thread_local! {
        /// Held bytes that were looked at for what of them is certain, each time.
        pub(super) static LOOKED_AT: Cell<usize> = const { Cell::new(0) };
    }

    /// The filter of one rule, and what comes out of a stream that takes in a byte at a time.
    fn byte_by_byte(regex: &str, text: &[u8]) -> (Vec<u8>, usize) {
        let mut rules = RuleSet::builder();
        let pattern = Pattern::Regex(regex.to_owned());
        rules.rule("r", &pattern, Action::Mask).unwrap();
        rules.max_hold(1 << 20);
        let mut stream = rules.build().filter().stream();
        let mut out = Vec::new();
        LOOKED_AT.set(0);
        for byte in text {
            assert_eq!(stream.push(&[*byte], &mut out), Verdict::Passed);
        }
        let held = stream.held();
        stream.finish(&mut out);
        (out, held)
    }

    #[test]
    fn what_is_held_is_looked_through_as_it_grows_and_not_at_each_write() {
        const LEN: usize = 20_000;
        // A secret whose end is open, and one that never begins, with many candidates inside.
        for (regex, lead, fill) in [
            ("key=(?<secret>[a-z]+)", "key=", "a"),
            ("key=[a-z=]*:(?<secret>[a-z]+)", "key=", "key="),
        ] {
            let text = lead.to_owned() + &fill.repeat(LEN / fill.len());
            let (out, _) = byte_by_byte(regex, text.as_bytes());
            assert_eq!(out.len(), text.len());
            let looked = LOOKED_AT.get();
            assert!(looked <= 16 * LEN + OFTEN * OFTEN, "{regex}: {looked}");
        }
    }

    #[test]
    fn what_is_certain_goes_out_at_each_write_while_little_is_held() {
        let text = b"key=            ";
        let (out, held) = byte_by_byte("key= *(?<secret>[a-z]+)", text);
        assert_eq!((&out[..], held), (&text[..], 0));
    }

    #[test]
    fn what_went_out_otherwise_than_it_came_in_is_told_once() {
        let mut rules = RuleSet::builder();
        let pattern = Pattern::Regex("key=[a-z]+;".to_owned());
        rules.rule("r", &pattern, Action::Mask).unwrap();
        let mut stream = rules.build().filter().stream();
        let mut out = Vec::new();
        for (text, alters) in [
            ("a ke", false),
            ("y=b", false),
            ("c; d", true),
            ("e", false),
        ] {
            assert_eq!(stream.push(text.as_bytes(), &mut out), Verdict::Passed);
            assert_eq!(stream.take_alters(), alters, "{text}");
        }
        assert_eq!(stream.push(b" key=", &mut out), Verdict::Passed);
        stream.flush_masked(&mut out);
        assert!(stream.take_alters());
        assert_eq!(out, b"a ******* de ****");
    }
}
