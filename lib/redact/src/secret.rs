//! The capture group `secret`: the part of a match that is replaced.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use regex_automata::nfa::thompson::{NFA, State, WhichCaptures};
use regex_automata::util::primitives::{PatternID, StateID};
use regex_automata::{Anchored, Input, meta};
use regex_syntax::hir::{Hir, HirKind};

use crate::automaton::{PatternError, nfa};

/// The name of the group.
pub(crate) const GROUP: &str = "secret";

/// Longest candidate for which it is worked out what may go before its secret begins.
const LONGEST_LEAD: usize = 4096;

/// Finds the group in a match.
#[derive(Debug)]
pub(crate) struct SecretGroup {
    regex: meta::Regex,
    group: usize,
    nfa: NFA,
    /// Whether there are matches that the group takes no part in.
    is_optional: bool,
    /// Whether there are look-arounds, so that the byte behind a match may decide where its secret
    /// lies.
    pub looks_ahead: bool,
    /// Fewest bytes of a secret.
    pub least: usize,
}

fn shortest(hir: &Hir) -> usize {
    hir.properties().minimum_len().unwrap_or(0)
}

/// What stands in the group.
fn inside(hir: &Hir) -> Option<&Hir> {
    match hir.kind() {
        HirKind::Capture(group) if group.name.as_deref() == Some(GROUP) => Some(&group.sub),
        HirKind::Capture(group) => inside(&group.sub),
        HirKind::Repetition(repetition) => inside(&repetition.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().find_map(inside),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => None,
    }
}

impl SecretGroup {
    /// For a regex that has the group.
    pub fn new(hir: &Hir) -> Result<Option<Self>, PatternError> {
        let nfa = nfa(hir, WhichCaptures::All)?;
        let Some(group) = nfa.group_info().to_index(PatternID::ZERO, GROUP) else {
            return Ok(None);
        };
        let config = meta::Config::new()
            .utf8_empty(false)
            .hybrid(false)
            .dfa(false);
        let regex = meta::Builder::new()
            .configure(config)
            .build_from_hir(hir)
            .map_err(|_| PatternError::TooLarge)?;
        let mut this = Self {
            regex,
            group,
            nfa,
            is_optional: false,
            looks_ahead: !hir.properties().look_set().is_empty(),
            least: inside(hir).map_or(0, shortest),
        };
        this.is_optional = this.can_match_without();
        if this.is_optional {
            this.least = this.least.min(shortest(hir));
        }
        Ok(Some(this))
    }

    /// Bytes of memory.
    pub fn memory(&self) -> usize {
        self.nfa.memory_usage() + self.regex.memory_usage()
    }

    /// Where the secret lies in a match; the whole match where the group took no part in it.
    pub fn find(&self, hay: &[u8], found: Range<usize>) -> Range<usize> {
        let input = Input::new(hay).span(found.clone()).anchored(Anchored::Yes);
        let mut captures = self.regex.create_captures();
        self.regex.search_captures(&input, &mut captures);
        match captures.get_group(self.group) {
            Some(span) => span.start..span.end,
            None => found,
        }
    }

    /// The first index at which the secret of a candidate can begin: the end of `hay` where it has
    /// not begun in any way that is still open.
    pub fn earliest(&self, hay: &[u8], start: usize) -> usize {
        // Without the group the whole match is the secret.
        if self.is_optional || hay.len() - start > LONGEST_LEAD {
            return start;
        }
        let mut threads = Threads::default();
        self.follow(hay, start, self.nfa.start_anchored(), None, &mut threads);
        for (at, &byte) in hay.iter().enumerate().skip(start) {
            let mut nexts = Threads::default();
            for (&state, &begun) in &threads.0 {
                if let Some(next) = step(self.nfa.state(state), byte) {
                    self.follow(hay, at + 1, next, begun, &mut nexts);
                }
            }
            threads = nexts;
        }
        let begun = threads.0.values().map(|begun| begun.unwrap_or(hay.len()));
        begun.min().unwrap_or(start)
    }

    /// Whether a match can be reached past the group.
    fn can_match_without(&self) -> bool {
        let mut seen = BTreeSet::new();
        let mut todo = vec![self.nfa.start_anchored()];
        while let Some(state) = todo.pop() {
            if !seen.insert(state) {
                continue;
            }
            match self.nfa.state(state) {
                State::Match { .. } => return true,
                State::Capture { group_index, .. } if group_index.as_usize() == self.group => {}
                State::Capture { next, .. } | State::Look { next, .. } => todo.push(*next),
                State::Union { alternates } => todo.extend(alternates.iter()),
                State::BinaryUnion { alt1, alt2 } => todo.extend([*alt1, *alt2]),
                State::ByteRange { trans } => todo.push(trans.next),
                State::Sparse(sparse) => {
                    todo.extend(sparse.transitions.iter().map(|trans| trans.next));
                }
                State::Dense(dense) => {
                    todo.extend((0..=u8::MAX).filter_map(|byte| dense.matches_byte(byte)));
                }
                State::Fail => {}
            }
        }
        false
    }

    /// Adds what can be reached from a state without a byte.
    fn follow(
        &self,
        hay: &[u8],
        at: usize,
        state: StateID,
        begun: Option<usize>,
        threads: &mut Threads,
    ) {
        let mut todo = vec![(state, begun)];
        while let Some((state, mut begun)) = todo.pop() {
            if !threads.add(state, begun) {
                continue;
            }
            match self.nfa.state(state) {
                State::Look { look, next } => {
                    // What stands behind the end is not known: either may be.
                    let known = at < hay.len();
                    if !known || self.nfa.look_matcher().matches(*look, hay, at) {
                        todo.push((*next, begun));
                    }
                }
                State::Union { alternates } => {
                    todo.extend(alternates.iter().map(|&next| (next, begun)));
                }
                State::BinaryUnion { alt1, alt2 } => {
                    todo.extend([(*alt1, begun), (*alt2, begun)]);
                }
                State::Capture {
                    next,
                    group_index,
                    slot,
                    ..
                } => {
                    let is_begin = slot.as_usize() % 2 == 0;
                    if group_index.as_usize() == self.group && is_begin {
                        begun = begun.or(Some(at));
                    }
                    todo.push((*next, begun));
                }
                State::ByteRange { .. }
                | State::Sparse(_)
                | State::Dense(_)
                | State::Fail
                | State::Match { .. } => {}
            }
        }
    }
}

/// The states reached, each with the earliest beginning of a secret on the way to it.
#[derive(Default)]
struct Threads(BTreeMap<StateID, Option<usize>>);

impl Threads {
    /// Whether this says anything new.
    fn add(&mut self, state: StateID, begun: Option<usize>) -> bool {
        let earlier = |a: Option<usize>, b: Option<usize>| match (a, b) {
            (Some(a), Some(b)) => a < b,
            (a, b) => a.is_some() && b.is_none(),
        };
        match self.0.get_mut(&state) {
            None => {
                self.0.insert(state, begun);
                true
            }
            Some(known) if earlier(begun, *known) => {
                *known = begun;
                true
            }
            Some(_) => false,
        }
    }
}

fn step(state: &State, byte: u8) -> Option<StateID> {
    match state {
        State::ByteRange { trans } => trans.matches_byte(byte).then_some(trans.next),
        State::Sparse(transitions) => transitions.matches_byte(byte),
        State::Dense(transitions) => transitions.matches_byte(byte),
        _ => None,
    }
}
