//! Runs: what every match of a pattern holds within a few bytes of its beginning.
//!
//! Most secrets are a long run of letters and digits, and there are few of those in most texts.
//! Only beside them are the beginnings of such patterns looked for.

use std::collections::HashMap;

use regex_automata::nfa::thompson::{NFA, State as NfaState, WhichCaptures};
use regex_automata::util::primitives::StateID;
use regex_syntax::hir::Hir;

use crate::automaton::{PatternError, nfa};

/// What a run consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Letters and digits.
    Alphanumeric,
    /// These, underscores and hyphens.
    Word,
    /// These, and what else stands in tokens and paths: `+,-./=~`.
    Token,
}

/// How many kinds of runs there are.
pub(crate) const KINDS: usize = 3;

/// How far from the beginning of a match a run may end.
pub(crate) const REACH: usize = 128;

impl Kind {
    /// All of them, those of which a text has fewer first.
    pub const ALL: [Self; KINDS] = [Self::Alphanumeric, Self::Word, Self::Token];

    /// Whether a byte may be in a run.
    pub const fn has(self, byte: u8) -> bool {
        match self {
            Self::Alphanumeric => byte.is_ascii_alphanumeric(),
            Self::Word => matches!(byte, b'_' | b'-') || Self::Alphanumeric.has(byte),
            Self::Token => matches!(byte, b'+'..=b'9' | b'=' | b'~') || Self::Word.has(byte),
        }
    }

    /// How many bytes make a run: at most 33, for [`ends_of`].
    pub const fn len(self) -> usize {
        match self {
            // The parts of a UUID and most words are shorter,
            Self::Alphanumeric => 15,
            // dates and hours,
            Self::Word => 18,
            // and most paths.
            Self::Token => 32,
        }
    }
}

/// Says that every match of a pattern holds a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Of what.
    pub kind: Kind,
    /// How far behind the beginning of the match it ends at the latest.
    pub reach: usize,
}

impl Run {
    /// Whether the bytes from the beginning of a match on hold the run, or may, unless they have
    /// `ended`, with what follows them.
    pub fn may_be_in(self, text: &[u8], ended: bool) -> bool {
        let seen = &text[..text.len().min(self.reach)];
        let mut run = 0;
        for &byte in seen {
            run = if self.kind.has(byte) { run + 1 } else { 0 };
            if run == self.kind.len() {
                return true;
            }
        }
        !ended && seen.len() + self.kind.len() - run <= self.reach
    }
}

/// Where runs of each kind end in words of a bit for each byte, behind the words before them.
pub(crate) fn ends(before: &[u64; KINDS], words: &[u64; KINDS]) -> [u64; KINDS] {
    // Each by a length that the compiler knows, so that nothing is left of the loops.
    macro_rules! of {
        ($kind:expr) => {
            ends_of::<{ $kind.len() }>(before[$kind as usize], words[$kind as usize])
        };
    }
    [of!(Kind::Alphanumeric), of!(Kind::Word), of!(Kind::Token)]
}

fn ends_of<const LEN: usize>(before: u64, word: u64) -> u64 {
    const HALF: u32 = u64::BITS / 2;
    // A run that ends in one half of the word begins in the half before, or in the same.
    let first = runs::<LEN>(before >> HALF | word << HALF) >> HALF;
    let second = runs::<LEN>(word) >> HALF << HALF;
    first | second
}

/// Where runs of so many bytes end that begin in the same word.
fn runs<const LEN: usize>(word: u64) -> u64 {
    let mut ends = word;
    // Where runs of twice the length end, or of as much more as is still wanted.
    let mut got = 1;
    while got < LEN {
        let more = got.min(LEN - got);
        ends &= ends << more;
        got += more;
    }
    ends
}

/// How far behind the beginning of any match the first run ends at the latest, if that is no
/// further than [`REACH`].
fn reach(nfa: &NFA, kind: Kind) -> Option<usize> {
    let mut paths = Paths {
        nfa,
        kind,
        known: HashMap::new(),
    };
    let longest = paths.longest(nfa.start_anchored(), 0);
    longest.filter(|&longest| longest <= REACH)
}

/// The run that every match of a regex holds, if it holds one: the kind of which a text has fewest.
#[allow(dead_code)] // `build.rs` asks.
pub(crate) fn of(hir: &Hir) -> Result<Option<Run>, PatternError> {
    // An NFA takes a boundary for nothing, so it matches all that the regex does and more.
    let nfa = nfa(hir, WhichCaptures::None)?;
    let mut kinds = Kind::ALL.into_iter();
    Ok(kinds.find_map(|kind| {
        let reach = reach(&nfa, kind)?;
        Some(Run { kind, reach })
    }))
}

/// The paths through an NFA until there was a run.
struct Paths<'n> {
    nfa: &'n NFA,
    kind: Kind,
    /// By state and bytes of the run so far: `None` while it is asked for.
    known: HashMap<(StateID, usize), Option<Option<usize>>>,
}

impl Paths<'_> {
    /// The bytes of the longest one from a state on, with so many bytes of a run before it. None
    /// where a match may end before there was a run, or there is no longest one.
    fn longest(&mut self, state: StateID, run: usize) -> Option<usize> {
        if run == self.kind.len() {
            return Some(0);
        }
        if let Some(known) = self.known.get(&(state, run)) {
            return (*known)?;
        }
        self.known.insert((state, run), None);
        let longest = self.through(state, run);
        self.known.insert((state, run), Some(longest));
        longest
    }

    fn through(&mut self, state: StateID, run: usize) -> Option<usize> {
        let nfa = self.nfa;
        let mut bytes = |start: u8, end: u8, next| -> Option<usize> {
            let mut longest = 0;
            let mut is_in = [false; 2];
            for byte in start..=end {
                is_in[usize::from(self.kind.has(byte))] = true;
            }
            if is_in[0] {
                longest = self.longest(next, 0)? + 1;
            }
            if is_in[1] {
                longest = longest.max(self.longest(next, run + 1)? + 1);
            }
            Some(longest)
        };
        match nfa.state(state) {
            NfaState::ByteRange { trans } => bytes(trans.start, trans.end, trans.next),
            NfaState::Sparse(sparse) => {
                let mut longest = 0;
                for trans in &sparse.transitions {
                    longest = longest.max(bytes(trans.start, trans.end, trans.next)?);
                }
                Some(longest)
            }
            // The compiler makes none.
            NfaState::Dense(_) | NfaState::Match { .. } => None,
            NfaState::Look { next, .. } | NfaState::Capture { next, .. } => {
                self.longest(*next, run)
            }
            NfaState::Union { alternates } => {
                let mut longest = 0;
                for &next in alternates {
                    longest = longest.max(self.longest(next, run)?);
                }
                Some(longest)
            }
            NfaState::BinaryUnion { alt1, alt2 } => {
                let first = self.longest(*alt1, run)?;
                Some(first.max(self.longest(*alt2, run)?))
            }
            NfaState::Fail => Some(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::automaton::parse;

    #[test]
    fn a_run_is_found_in_what_every_match_holds() {
        let of = |regex: &str| of(&parse(regex).unwrap()).unwrap();
        let run = |kind, reach| Some(Run { kind, reach });
        assert_eq!(of(r"\bghp_[A-Za-z0-9]{36,}"), run(Kind::Alphanumeric, 19));
        assert_eq!(of(r"key-[a-z-]{18}"), run(Kind::Word, 18));
        assert_eq!(of(r"key: {0,4}=[a-z/]{40}"), run(Kind::Token, 40));
        assert_eq!(of(r"x[a-z]{15}|[a-z]{20}!"), run(Kind::Alphanumeric, 15));
        // Some match may be shorter, or begin far before, or end without.
        assert_eq!(of(r"ghp_[A-Za-z0-9]{4,}"), None);
        assert_eq!(of(r"x *[a-z]{15}"), None);
        assert_eq!(of(r"x {0,200}[a-z]{15}"), None);
        assert_eq!(of(r"[a-z]{15}|[a-z]:"), None);
    }

    proptest! {
        #[test]
        fn ends_are_where_runs_end(
            lens in prop::collection::vec((1usize..80, 1usize..4), 1..12),
        ) {
            let bits = lens.iter().flat_map(|&(run, gap)| {
                std::iter::repeat_n(true, run).chain(std::iter::repeat_n(false, gap))
            });
            let bits: Vec<bool> = bits.collect();
            let mut before = [0; KINDS];
            for (index, word) in bits.chunks(64).enumerate() {
                let member = |(at, &bit): (usize, &bool)| u64::from(bit) << at;
                let words = [word.iter().enumerate().map(member).sum(); KINDS];
                let found = ends(&before, &words);
                before = words;
                for at in 0..word.len() {
                    let run = bits[..=index * 64 + at].iter().rev().take_while(|&&bit| bit);
                    let run = run.count();
                    for kind in Kind::ALL {
                        prop_assert_eq!(found[kind as usize] >> at & 1 != 0, run >= kind.len());
                    }
                }
            }
        }
    }
}
