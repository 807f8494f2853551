//! Regular files: a secret is masked in place, wherever the writes that make it up begin and end.
//!
//! Nothing is held back, so that sizes and offsets are those that the program expects: what it
//! wrote is in the file at once, and the bytes of a secret that were there before its last ones
//! came are masked then. Bytes beside a write are read for that, through the grate's own
//! descriptor where the program's is for writing only; a file that grows at its end is followed by
//! a stream instead.

mod opening;
mod originals;
mod plan;

use super::filter;
use super::ranges;
use super::redaction::{Applying, Redaction, Source, Spot};
use grate_rs::{CageFd, Errno};
pub use opening::Opening;
use originals::Originals;
use plan::{Change, End, Patch, Plan, Refusal};
use redact::{Event, Filter, HEAD};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use zeroize::Zeroizing;

/// Bytes before and after a write that are looked at.
const BESIDE: u64 = 16 << 10;

/// Most bytes before and after a write that are looked at: as many as a listed secret has, if that
/// is more.
pub fn beside(rules: &Filter) -> u64 {
    BESIDE.max(rules.longest_literal() as u64)
}

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
    /// Who wrote it.
    writer: CageFd,
    originals: Originals,
}

impl Drop for Regular {
    fn drop(&mut self) {
        let mut state = self.state();
        self.let_go_of_end(&mut state);
        drop(state);
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
                writer: own,
                originals: Originals::default(),
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
            self.let_go_of_end(&mut state);
        }
    }

    /// Does something that no write may come into.
    fn undisturbed<T>(&self, act: impl FnOnce() -> T) -> T {
        let _state = self.state();
        act()
    }

    /// Follows that the file was emptied.
    pub fn note_emptied(&self) {
        let mut state = self.state();
        self.let_go_of_end(&mut state);
        state.originals = Originals::default();
    }

    /// Writes to where `position` says when nobody else can write, or to the end for `None`;
    /// `transmit` writes the program's bytes.
    ///
    /// # Errors
    /// EPERM where a rule denies it; else what the kernel says.
    fn write(
        &self,
        fd: CageFd,
        position: impl FnOnce() -> Result<Option<u64>, Errno>,
        input: &[u8],
        transmit: impl FnOnce(&[u8], Option<u64>) -> Result<i32, Errno>,
    ) -> Result<i32, Errno> {
        let mut state = self.state();
        let position = position()?;
        if input.is_empty() {
            return transmit(input, position);
        }
        let size = self.own.stat()?.size;
        let start = position.unwrap_or(size);
        let plan = match state.end.take() {
            Some(end) if end.size == size && size == start => {
                plan::append(end, input).map_err(|denied| {
                    let (end, event) = *denied;
                    state.end = Some(end);
                    Refusal::Denied(event)
                })
            }
            end => {
                state.end = end;
                let place = start..start.saturating_add(input.len() as u64);
                self.make_way(&mut state, &place, size);
                let new_size = size.max(place.end);
                self.change(&state, input, place, new_size, size)
            }
        };
        let mut plan = plan.map_err(|refusal| self.refused(fd, &refusal))?;
        let own = plan.own.take();
        let written = self.carry_out(&mut state, &plan, || {
            transmit(own.as_deref().unwrap_or(input), position)
        })?;
        let place = start..start + written as u64;
        filter().note_seen(written as usize);
        let is_whole = written as usize == input.len();
        self.follow(&mut state, plan, fd, place, is_whole);
        Ok(written)
    }

    /// Makes the file longer or shorter, by `act`.
    ///
    /// # Errors
    /// What `act` says, EPERM where a rule denies what would be there then.
    pub fn resize(
        &self,
        fd: CageFd,
        len: impl FnOnce(u64) -> u64,
        act: impl FnOnce() -> Result<i32, Errno>,
    ) -> Result<i32, Errno> {
        let mut state = self.state();
        let size = self.own.stat()?.size;
        let len = len(size);
        if len == size {
            return act();
        }
        self.let_go_of_end(&mut state);
        let place = len.min(size)..len.min(size);
        let plan = self.change(&state, &[], place, len, size);
        let plan = plan.map_err(|refusal| self.refused(fd, &refusal))?;
        let result = self.carry_out(&mut state, &plan, act)?;
        self.follow(&mut state, plan, fd, len..u64::MAX, false);
        Ok(result)
    }

    /// Drops what is known of the file's end, unless a write is far from it.
    fn make_way(&self, state: &mut State, place: &Range<u64>, size: u64) {
        let beside = beside(&state.rules);
        let is_far = |end: &End| {
            // The head decides on all of the file.
            place.start >= HEAD
                && end.size == size
                && place.end.saturating_add(beside) <= end.open_from()
        };
        if !state.end.as_ref().is_some_and(is_far) {
            self.let_go_of_end(state);
        }
    }

    /// Tells what was found at the end, which now is found for good.
    fn let_go_of_end(&self, state: &mut State) {
        if let Some(end) = state.end.take() {
            let writer = state.writer;
            end.pending
                .iter()
                .for_each(|event| self.note(writer, event));
        }
    }

    /// Hides what is to be hidden, does something to the file, and shows the rest.
    fn carry_out(
        &self,
        state: &mut State,
        plan: &Plan,
        act: impl FnOnce() -> Result<i32, Errno>,
    ) -> Result<i32, Errno> {
        // Masks first: whatever comes between, the secret never stands there whole.
        for patch in &plan.hide {
            ranges::put(self.own, patch.at, &patch.bytes)?;
        }
        let result = act().inspect_err(|_| {
            // Nothing was done, and there is no secret.
            for patch in &plan.hide {
                let _ = ranges::put(self.own, patch.at, &patch.was);
            }
            self.let_go_of_end(state);
        })?;
        for patch in &plan.show {
            ranges::put(self.own, patch.at, &patch.bytes)?;
        }
        Ok(result)
    }

    /// Follows what was done: `place` is other than it was.
    fn follow(&self, state: &mut State, plan: Plan, fd: CageFd, place: Range<u64>, is_whole: bool) {
        state.originals.forget(place);
        for range in plan.lifted {
            state.originals.forget(range);
        }
        for (at, bytes) in &plan.masked {
            state.originals.remember(*at, bytes);
        }
        plan.events.iter().for_each(|event| self.note(fd, event));
        if is_whole && plan.end.is_some() {
            state.end = plan.end;
            state.writer = fd;
        }
    }

    fn note(&self, fd: CageFd, event: &Event) {
        let source = Source {
            fd,
            spot: &self.spot,
            peer: None,
        };
        filter().note_event(event, &source);
    }

    fn refused(&self, fd: CageFd, refusal: &Refusal<Errno>) -> Errno {
        match refusal {
            Refusal::Error(errno) => *errno,
            Refusal::Denied(event) => {
                self.note(fd, event);
                filter().denied(fd.cage, event.rule)
            }
        }
    }

    /// A change anywhere: with the bytes beside it taken for one piece. The file's size is `size`
    /// before and `new_size` after it; where it grows beyond what is written there are zeros.
    fn change(
        &self,
        state: &State,
        input: &[u8],
        place: Range<u64>,
        new_size: u64,
        size: u64,
    ) -> Result<Plan, Refusal<Errno>> {
        let beside = beside(&state.rules);
        let at = place.start.saturating_sub(beside);
        let until = new_size.min(place.end.saturating_add(beside));
        let mut present = ranges::get(self.own, at..place.start, size).map_err(Refusal::Error)?;
        let own = present.len()..present.len() + input.len();
        present.extend_from_slice(input);
        let after = ranges::get(self.own, place.end..until.max(place.end), size);
        present.extend(after.map_err(Refusal::Error)?);
        let change = Change {
            at,
            present,
            own,
            reaches_end: until == place.end && !input.is_empty(),
            nul: self.first_nul(state, at, size).map_err(Refusal::Error)?,
        };
        let before = at..size.min(place.end.saturating_add(beside)).max(at);
        let mut plan = plan::change(&state.rules, &state.originals, &change, || {
            ranges::get(self.own, before, size)
        })?;
        // Nothing is put where the file does not reach yet: what is done may fail.
        let is_there = |patch: &Patch| patch.at + patch.bytes.len() as u64 <= size;
        let (hide, later) = plan.hide.into_iter().partition(is_there);
        plan.hide = hide;
        plan.show.splice(0..0, later);
        Ok(plan)
    }

    /// Where the first NUL is in the file's head, as far as it lies before `until`.
    fn first_nul(&self, state: &State, until: u64, size: u64) -> Result<Option<u64>, Errno> {
        let until = until.min(HEAD);
        if until == 0 || !state.rules.asks_for_text() {
            return Ok(None);
        }
        let mut head = Zeroizing::new(ranges::get(self.own, 0..until, size)?);
        state.originals.reveal(0, &mut head);
        Ok(state.rules.first_nul(0, None, &head))
    }
}
