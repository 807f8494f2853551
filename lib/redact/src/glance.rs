//! A look at a text with the NFA of a pattern, which takes a twentieth of the time to make that a DFA
//! takes, and some hundred times as long to walk.
//!
//! Most of what begins as a match does ends within a few bytes, and most patterns are asked for a
//! few times only. So they are told apart without a DFA, until one is asked for more often.

use std::sync::atomic::{AtomicUsize, Ordering};

use regex_automata::nfa::thompson::{NFA, State, WhichCaptures};
use regex_automata::util::primitives::StateID;

use crate::automaton::{nfa, parse};

/// Looks that take about as long as making a DFA.
const LOOKS: usize = 256;

/// Most bytes that are looked at.
const SPAN: usize = 64;

/// The NFA of a pattern.
#[derive(Debug)]
pub(crate) struct Glance {
    nfa: NFA,
    looks: AtomicUsize,
}

impl Glance {
    /// For a regex of the catalogue.
    pub fn of(regex: &str) -> Self {
        let nfa = parse(regex).and_then(|hir| nfa(&hir, WhichCaptures::None));
        Self {
            nfa: nfa.expect("each regex of the catalogue is compiled by a test"),
            looks: AtomicUsize::new(0),
        }
    }

    /// Whether a match starts at `start`, or may, unless the text has `ended`, with what follows.
    /// It is not told of what goes on for long, nor when it has been asked often.
    pub fn may_match(&self, hay: &[u8], start: usize, ended: bool) -> Option<bool> {
        if self.looks.fetch_add(1, Ordering::Relaxed) >= LOOKS {
            // So that it never wraps.
            self.looks.store(LOOKS, Ordering::Relaxed);
            return None;
        }
        let mut states = States::new(self.nfa.states().len());
        let mut nexts = States::new(self.nfa.states().len());
        if self.follow(hay, start, ended, self.nfa.start_anchored(), &mut states) {
            return Some(true);
        }
        for (at, &byte) in hay.iter().enumerate().skip(start) {
            if at == start + SPAN {
                return None;
            }
            for state in states.drain() {
                let next = match self.nfa.state(state) {
                    State::ByteRange { trans } => trans.matches_byte(byte).then_some(trans.next),
                    State::Sparse(transitions) => transitions.matches_byte(byte),
                    State::Dense(transitions) => transitions.matches_byte(byte),
                    _ => None,
                };
                if next.is_some_and(|next| self.follow(hay, at + 1, ended, next, &mut nexts)) {
                    return Some(true);
                }
            }
            if nexts.listed.is_empty() {
                return Some(false);
            }
            std::mem::swap(&mut states, &mut nexts);
        }
        Some(!ended)
    }

    /// Adds what is reached from a state without a byte; answers whether that is a match.
    fn follow(
        &self,
        hay: &[u8],
        at: usize,
        ended: bool,
        state: StateID,
        states: &mut States,
    ) -> bool {
        let mut todo = vec![state];
        while let Some(state) = todo.pop() {
            if !states.add(state) {
                continue;
            }
            match self.nfa.state(state) {
                State::Match { .. } => return true,
                State::Look { look, next } => {
                    // What stands behind the end is not known unless that is nothing.
                    let is_known = ended || at < hay.len();
                    if !is_known || self.nfa.look_matcher().matches(*look, hay, at) {
                        todo.push(*next);
                    }
                }
                State::Union { alternates } => todo.extend(alternates.iter()),
                State::BinaryUnion { alt1, alt2 } => todo.extend([*alt1, *alt2]),
                State::Capture { next, .. } => todo.push(*next),
                State::ByteRange { .. } | State::Sparse(_) | State::Dense(_) | State::Fail => {}
            }
        }
        false
    }

    /// Bytes of memory.
    pub fn memory(&self) -> usize {
        self.nfa.memory_usage()
    }
}

/// A set of states.
struct States {
    listed: Vec<StateID>,
    /// A bit for each.
    bits: Vec<u64>,
}

impl States {
    fn new(len: usize) -> Self {
        Self {
            listed: Vec::new(),
            bits: vec![0; len.div_ceil(64)],
        }
    }

    /// Whether it was not there.
    fn add(&mut self, state: StateID) -> bool {
        let (word, bit) = (state.as_usize() / 64, 1 << (state.as_usize() % 64));
        let is_new = self.bits[word] & bit == 0;
        if is_new {
            self.bits[word] |= bit;
            self.listed.push(state);
        }
        is_new
    }

    /// Empties it.
    fn drain(&mut self) -> impl Iterator<Item = StateID> {
        self.bits.fill(0);
        self.listed.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::automaton::{Automaton, Reach, RegexDfa, Step};
    use crate::builtin::Builtin;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// It never rules out what the automaton does not, and lets little more pass.
        #[test]
        fn it_says_what_the_automaton_says(
            text in "[ :]?(ghp_|4111|AKIA|password|eyJ|api)?[-_.:=@ a-f0-9A-F]{0,40}",
            ended: bool,
        ) {
            let text = text.as_bytes();
            let regexes = [
                r"\bghp_[A-Za-z0-9]{2,8}\b", r"\b4\d{3}(?:[- ]?\d{2})+\b", r"password\s*[:=]\s*\w+$",
                r"\B[a-f]{2}|(?m:^)\w{3}:", r"[\w.]{1,9}@\w+(?:\.\w+)+",
            ];
            for regex in regexes {
                let glance = Glance::of(regex);
                let dfa = RegexDfa::new(&parse(regex).unwrap(), Reach::Here).unwrap();
                let automaton = Automaton::Regex(Box::new(dfa));
                for start in 0..text.len() {
                    let is_alive = automaton.probe(text, start, ended) != Step::Dead;
                    prop_assert_eq!(glance.may_match(text, start, ended), Some(is_alive));
                }
            }
        }
    }

    #[test]
    fn no_pattern_of_the_catalogue_matches_nothing_or_is_ruled_out_before_a_byte_is_seen() {
        for builtin in Builtin::all() {
            for pattern in builtin.patterns() {
                // That examples are not ruled out is shown where filters take them in.
                let glance = Glance::of(pattern.regex());
                assert_eq!(glance.may_match(b"", 0, false), Some(true), "{builtin}");
                assert_eq!(glance.may_match(b"", 0, true), Some(false), "{builtin}");
            }
        }
    }

    #[test]
    fn it_gives_up_on_what_is_long_and_what_is_asked_often() {
        let glance = Glance::of("a+b");
        assert_eq!(glance.may_match(&[b'a'; SPAN], 0, false), Some(true));
        assert_eq!(glance.may_match(&[b'a'; SPAN + 1], 0, false), None);
        for _ in 2..LOOKS {
            assert_eq!(glance.may_match(b"ac", 0, false), Some(false));
        }
        assert_eq!(glance.may_match(b"ac", 0, false), None);
    }
}
