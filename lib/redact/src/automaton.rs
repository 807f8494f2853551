//! The automaton of one pattern, walked from one starting place.
//!
//! A walk is anchored: it asks whether a match starts exactly here. That keeps three things simple
//! which are hard to get out of an unanchored search: where the match starts, whether the bytes
//! seen so far can still become one, and how to go on later from where the bytes ran out.

use std::collections::HashMap;

use aho_corasick::automaton::Automaton as _;
use aho_corasick::nfa::contiguous;
use regex_automata::dfa::{Automaton as _, StartKind, dense};
use regex_automata::nfa::thompson::{self, NFA, WhichCaptures};
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_automata::{Anchored, MatchKind};
use regex_syntax::hir::Hir;

use crate::byteset::ByteSet;

/// Most bytes that a compiled regex may take, by each of three measures: its NFA, its DFA, and
/// what the making of the DFA needs.
const NFA_LIMIT: usize = 2 << 20;
const DFA_LIMIT: usize = 8 << 20;
const DETERMINIZE_LIMIT: usize = 32 << 20;

/// Why a pattern can't be used. Each message reads well after the name of the rule and a colon.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// The regex does not parse.
    #[error("the regex does not compile: {0}")]
    Syntax(String),
    /// The compiled regex would take too much memory.
    #[error(
        "the regex is too large; use smaller counts in {{m,n}}, ASCII classes, or fewer alternatives"
    )]
    TooLarge,
    /// The pattern matches the empty text, which is everywhere.
    #[error("the pattern matches the empty text; make at least one byte of it required")]
    MatchesEmpty,
    /// Nothing can match.
    #[error("the pattern can never match; remove the rule or correct its regex")]
    NeverMatches,
    /// A Unicode word boundary.
    #[error(r"Unicode word boundaries are not available; write (?-u:\b) for an ASCII one")]
    UnicodeBoundary,
    /// A list of literals without any.
    #[error("the list of literals is empty; give at least one")]
    NoLiterals,
    /// A literal without a byte.
    #[error("literal {0} is empty; remove it")]
    EmptyLiteral(usize),
}

/// How a walk stands when it stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// No match starts there.
    Dead,
    /// A match, whatever follows; ends before this index.
    Match(usize),
    /// The bytes ran out before it was decided.
    Open(Walk),
}

/// How far a walk came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The state in the end, unless nothing that follows matters any more.
    pub state: Option<u32>,
    /// Where the match ends, so far.
    pub end: Option<usize>,
}

/// A walk that ran out of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Walk {
    pub state: u32,
    /// Whether there is a match already and only its end is open; then its end so far, in bytes
    /// since the start of the walk.
    pub matched: Option<usize>,
}

/// What may be said of a state before the next byte is known.
#[derive(Clone, Copy, Default)]
struct Outlook {
    /// A match ends here whatever comes next.
    assured: bool,
    /// And nothing that comes next makes it longer.
    closed: bool,
}

/// The automaton of one pattern.
#[derive(Debug)]
pub(crate) enum Automaton {
    Regex(Box<RegexDfa>),
    Literals(Box<Trie>),
}

impl Automaton {
    /// Walks from `start`. `hay` holds the byte before `start` too, unless `start` is where the
    /// stream begins. `ended` says that nothing follows `hay`.
    pub fn probe(&self, hay: &[u8], start: usize, ended: bool) -> Step {
        let walk = Walk {
            state: match self {
                Self::Regex(dfa) => dfa.start(look_behind(hay, start)),
                Self::Literals(trie) => trie.start,
            },
            matched: None,
        };
        self.resume(hay, start, start, walk, ended)
    }

    /// Goes on with a walk that began at `start` and has seen everything before `from`.
    pub fn resume(&self, hay: &[u8], start: usize, from: usize, walk: Walk, ended: bool) -> Step {
        let end = walk.matched.map(|len| start + len);
        let run = self.run(hay, from, walk.state, end, ended);
        match (run.state, run.end) {
            (None, None) => Step::Dead,
            (None, Some(end)) => Step::Match(end),
            (Some(state), end) => Step::Open(Walk {
                state,
                matched: end.map(|end| end - start),
            }),
        }
    }

    /// Walks from a state over everything from `from` on. `end` is where the match ends so far.
    pub fn run(&self, hay: &[u8], from: usize, state: u32, end: Option<usize>, ended: bool) -> Run {
        match self {
            Self::Regex(dfa) => dfa.run(hay, from, state, end, ended),
            Self::Literals(trie) => trie.run(hay, from, state, end, ended),
        }
    }

    /// The states that a walk may begin in, each with the bytes that may stand before it.
    pub fn starts(&self) -> Vec<(ByteSet, u32)> {
        let Self::Regex(dfa) = self else {
            return vec![(ByteSet::FULL, self.literal_start())];
        };
        let mut starts: Vec<(ByteSet, u32)> = vec![(ByteSet::EMPTY, dfa.start(None))];
        for before in 0..=u8::MAX {
            let state = dfa.start(Some(before));
            match starts.iter_mut().find(|(_, known)| *known == state) {
                Some((set, _)) => set.insert(before),
                None => starts.push((ByteSet::from_iter([before]), state)),
            }
        }
        starts
    }

    fn literal_start(&self) -> u32 {
        match self {
            Self::Regex(dfa) => dfa.start(None),
            Self::Literals(trie) => trie.start,
        }
    }

    /// What a byte leads to.
    pub fn next(&self, state: u32, byte: u8) -> Next {
        match self {
            Self::Regex(dfa) => dfa.next(state, byte),
            Self::Literals(trie) => trie.next(state, byte),
        }
    }

    /// Whether there is a match where the stream ends in this state.
    pub fn matches_at_end(&self, state: u32) -> bool {
        match self {
            Self::Regex(dfa) => dfa
                .dfa
                .is_match_state(dfa.dfa.next_eoi_state(state_id(state))),
            Self::Literals(trie) => trie.is_end(trie_id(state)),
        }
    }

    /// Bytes of memory.
    pub fn memory(&self) -> usize {
        match self {
            Self::Regex(dfa) => dfa.memory(),
            Self::Literals(trie) => trie.memory(),
        }
    }
}

/// What a byte leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing.
    Dead,
    /// There is a match whatever follows.
    Matched,
    /// Another state.
    State(u32),
}

/// The byte before an index, if the stream has one.
pub(crate) fn look_behind(hay: &[u8], at: usize) -> Option<u8> {
    at.checked_sub(1)
        .and_then(|before| hay.get(before))
        .copied()
}

/// Parses a regex as this crate reads it: over bytes, ASCII unless it says `(?u)`.
pub(crate) fn parse(pattern: &str) -> Result<Hir, PatternError> {
    let hir = regex_syntax::ParserBuilder::new()
        .utf8(false)
        .unicode(false)
        .nest_limit(100)
        .build()
        .parse(pattern)
        .map_err(|error| PatternError::Syntax(one_line(&error)))?;
    let properties = hir.properties();
    match properties.minimum_len() {
        None => Err(PatternError::NeverMatches),
        Some(0) => Err(PatternError::MatchesEmpty),
        Some(_) if properties.look_set().contains_word_unicode() => {
            Err(PatternError::UnicodeBoundary)
        }
        Some(_) => Ok(hir),
    }
}

/// What is wrong with a regex, without the drawing of where.
fn one_line(error: &regex_syntax::Error) -> String {
    let (what, at) = match error {
        regex_syntax::Error::Parse(error) => (error.kind().to_string(), error.span().start),
        regex_syntax::Error::Translate(error) => (error.kind().to_string(), error.span().start),
        _ => return "not understood".to_owned(),
    };
    format!("{what} (at character {})", at.offset + 1)
}

/// The NFA of a regex.
pub(crate) fn nfa(hir: &Hir, captures: WhichCaptures) -> Result<NFA, PatternError> {
    let config = thompson::Config::new()
        .utf8(false)
        .nfa_size_limit(Some(NFA_LIMIT))
        .which_captures(captures);
    thompson::Compiler::new()
        .configure(config)
        .build_from_hir(hir)
        .map_err(|_| PatternError::TooLarge)
}

/// A regex's DFA.
pub(crate) struct RegexDfa {
    dfa: dense::DFA<Vec<u32>>,
    /// The start state for each byte before, and last the one for none.
    starts: Vec<u32>,
    /// By index of the state.
    outlooks: Vec<Outlook>,
}

impl std::fmt::Debug for RegexDfa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RegexDfa({} bytes)", self.memory())
    }
}

/// Whether walks of a DFA begin at one place or everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// A match starts where the walk does.
    Here,
    /// A match may start anywhere later.
    Anywhere,
}

impl RegexDfa {
    /// Compiles a regex.
    pub fn new(hir: &Hir, reach: Reach) -> Result<Self, PatternError> {
        let nfa = nfa(hir, WhichCaptures::None)?;
        let (start_kind, anchored) = match reach {
            Reach::Here => (StartKind::Anchored, Anchored::Yes),
            Reach::Anywhere => (StartKind::Unanchored, Anchored::No),
        };
        let config = dense::Config::new()
            .match_kind(MatchKind::LeftmostFirst)
            .start_kind(start_kind)
            .accelerate(false)
            .specialize_start_states(reach == Reach::Anywhere)
            .dfa_size_limit(Some(DFA_LIMIT))
            .determinize_size_limit(Some(DETERMINIZE_LIMIT));
        let dfa = dense::Builder::new()
            .configure(config)
            .build_from_nfa(&nfa)
            .map_err(|_| PatternError::TooLarge)?;
        let befores = (0..=u8::MAX).map(Some).chain([None]);
        let starts = befores
            .map(|before| {
                let config = start::Config::new().anchored(anchored).look_behind(before);
                dfa.start_state(&config).map(|state| state.as_u32())
            })
            .collect::<Result<Vec<u32>, _>>()
            .map_err(|_| PatternError::UnicodeBoundary)?;
        let mut regex = Self {
            dfa,
            starts,
            outlooks: Vec::new(),
        };
        regex.outlooks = regex.outlooks();
        Ok(regex)
    }

    /// Has a walk go on over one byte more where the end of the match is known already: something
    /// else about the match may depend on it.
    pub fn wait_for_next_byte(&mut self) {
        for outlook in &mut self.outlooks {
            outlook.closed = false;
        }
    }

    /// Where a walk begins behind a byte.
    pub fn start(&self, before: Option<u8>) -> u32 {
        self.starts[before.map_or(256, usize::from)]
    }

    /// As [`Automaton::run`].
    fn run(&self, hay: &[u8], from: usize, state: u32, mut end: Option<usize>, ended: bool) -> Run {
        let mut state = state_id(state);
        for (at, &byte) in hay.iter().enumerate().skip(from) {
            state = self.dfa.next_state(state, byte);
            if self.dfa.is_special_state(state) {
                if self.dfa.is_match_state(state) {
                    // Known one byte late: the match ended before the byte that led here.
                    end = Some(at);
                } else if self.dfa.is_dead_state(state) {
                    return Run { state: None, end };
                }
            }
        }
        if ended {
            if self.dfa.is_match_state(self.dfa.next_eoi_state(state)) {
                end = Some(hay.len());
            }
            return Run { state: None, end };
        }
        let outlook = self.outlook(state);
        if outlook.assured {
            end = Some(hay.len());
        }
        Run {
            state: (!outlook.closed).then(|| state.as_u32()),
            end,
        }
    }

    /// Walks over everything from `from` on to the first match, for an automaton that starts
    /// [`Anywhere`](Reach::Anywhere).
    pub fn sweep(&self, hay: &[u8], from: usize) -> Sweep {
        let mut state = state_id(self.start(look_behind(hay, from)));
        let mut clean = from;
        for (at, &byte) in hay.iter().enumerate().skip(from) {
            state = self.dfa.next_state(state, byte);
            if self.dfa.is_special_state(state) {
                if self.dfa.is_match_state(state) {
                    let matched = Some(at);
                    return Sweep { clean, matched };
                } else if self.dfa.is_start_state(state) {
                    clean = at + 1;
                }
            }
        }
        Sweep {
            clean,
            matched: None,
        }
    }

    /// As [`run`](Self::run), for an automaton that starts [`Anywhere`](Reach::Anywhere); stops
    /// where no candidate is left over.
    pub fn chase(&self, hay: &[u8], from: usize, state: u32, ended: bool) -> Run {
        let mut state = state_id(state);
        let mut end = None;
        for (at, &byte) in hay.iter().enumerate().skip(from) {
            state = self.dfa.next_state(state, byte);
            if self.dfa.is_special_state(state) {
                if self.dfa.is_match_state(state) {
                    end = Some(at);
                } else if self.dfa.is_dead_state(state) || self.dfa.is_start_state(state) {
                    return Run { state: None, end };
                }
            }
        }
        self.run(hay, hay.len(), state.as_u32(), end, ended)
    }

    fn next(&self, state: u32, byte: u8) -> Next {
        let next = self.dfa.next_state(state_id(state), byte);
        if self.dfa.is_match_state(next) {
            Next::Matched
        } else if self.dfa.is_dead_state(next) {
            Next::Dead
        } else {
            Next::State(next.as_u32())
        }
    }

    fn outlook(&self, state: StateID) -> Outlook {
        let index = state.as_usize() >> self.dfa.stride2();
        self.outlooks.get(index).copied().unwrap_or_default()
    }

    /// Looks one and two bytes ahead of every state that can be reached.
    fn outlooks(&self) -> Vec<Outlook> {
        let classes: Vec<u8> = self
            .dfa
            .byte_classes()
            .representatives(..)
            .filter_map(|unit| unit.as_u8())
            .collect();
        let mut outlooks = HashMap::new();
        let mut todo: Vec<StateID> = self.starts.iter().map(|&start| state_id(start)).collect();
        while let Some(state) = todo.pop() {
            if outlooks.contains_key(&state) {
                continue;
            }
            let nexts = || classes.iter().map(|&byte| self.dfa.next_state(state, byte));
            let is_match = |state| self.dfa.is_match_state(state);
            let assured = nexts().all(is_match) && is_match(self.dfa.next_eoi_state(state));
            let is_last = |state| {
                let mut nexts = classes.iter().map(|&byte| self.dfa.next_state(state, byte));
                nexts.all(|next| self.dfa.is_dead_state(next))
                    && self.dfa.is_dead_state(self.dfa.next_eoi_state(state))
            };
            let closed = assured && nexts().all(is_last);
            outlooks.insert(state, Outlook { assured, closed });
            todo.extend(nexts());
        }
        let index = |state: &StateID| state.as_usize() >> self.dfa.stride2();
        let count = outlooks.keys().map(index).max().map_or(0, |last| last + 1);
        let mut by_index = vec![Outlook::default(); count];
        for (state, outlook) in outlooks {
            by_index[index(&state)] = outlook;
        }
        by_index
    }

    /// Bytes of memory.
    pub fn memory(&self) -> usize {
        self.dfa.memory_usage() + self.starts.len() * 4 + self.outlooks.len() * 2
    }
}

/// What a sweep found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sweep {
    /// No match starts before this index.
    pub clean: usize,
    /// A match ends at or before this index, and starts at or after `clean`.
    pub matched: Option<usize>,
}

fn state_id(state: u32) -> StateID {
    StateID::new_unchecked(state as usize)
}

/// What may stand between two bytes of a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Between {
    /// Nothing.
    Nothing,
    /// Control sequences of terminals (ECMA-48, 5.4), such as those that colour.
    Sequences,
}

/// What a control sequence begins with.
pub(crate) const ESCAPE: u8 = 0x1b;

/// Marks of a state of a trie: the walk is behind the first byte of a control sequence, or further
/// inside one.
const ESCAPED: u32 = 1 << 30;
const INSIDE: u32 = 1 << 31;

/// The trie of a list of literals.
pub(crate) struct Trie {
    nfa: contiguous::NFA,
    start: u32,
    between: Between,
    /// The states in which a literal that began at the start ends, sorted. The automaton's own
    /// match states are more: in some, only a literal that began later ends.
    ends: Vec<u32>,
}

impl std::fmt::Debug for Trie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trie({} literals)", self.nfa.patterns_len())
    }
}

impl Trie {
    /// Compiles literals. Of several that match at one place, the first in the list is taken.
    pub fn new<L: AsRef<[u8]>>(literals: &[L], between: Between) -> Result<Self, PatternError> {
        if literals.is_empty() {
            return Err(PatternError::NoLiterals);
        }
        if let Some(at) = literals
            .iter()
            .position(|literal| literal.as_ref().is_empty())
        {
            return Err(PatternError::EmptyLiteral(at + 1));
        }
        let nfa = contiguous::NFA::builder()
            .match_kind(aho_corasick::MatchKind::LeftmostFirst)
            .prefilter(false)
            .build(literals)
            .map_err(|_| PatternError::TooLarge)?;
        let start = nfa
            .start_state(aho_corasick::Anchored::Yes)
            .map_err(|_| PatternError::TooLarge)?
            .as_u32();
        // Numbers of states are places in its table, of words.
        if nfa.memory_usage() / 4 >= ESCAPED as usize {
            return Err(PatternError::TooLarge);
        }
        let mut trie = Self {
            nfa,
            start,
            between,
            ends: Vec::new(),
        };
        // One that begins with an earlier literal is never reached.
        let ends = literals
            .iter()
            .filter_map(|literal| trie.walk(literal.as_ref()));
        trie.ends = ends.collect();
        trie.ends.sort_unstable();
        trie.ends.dedup();
        Ok(trie)
    }

    fn walk(&self, literal: &[u8]) -> Option<u32> {
        literal.iter().try_fold(self.start, |state, &byte| {
            let next = self.step(trie_id(state), byte);
            (!self.nfa.is_dead(next)).then(|| next.as_u32())
        })
    }

    fn step(&self, state: TrieId, byte: u8) -> TrieId {
        self.nfa
            .next_state(aho_corasick::Anchored::Yes, state, byte)
    }

    fn is_end(&self, state: TrieId) -> bool {
        self.nfa.is_match(state) && self.ends.binary_search(&state.as_u32()).is_ok()
    }

    fn run(&self, hay: &[u8], from: usize, state: u32, mut end: Option<usize>, ended: bool) -> Run {
        let mut marks = state & (ESCAPED | INSIDE);
        let mut state = trie_id(state & !(ESCAPED | INSIDE));
        for (at, &byte) in hay.iter().enumerate().skip(from) {
            if marks != 0 {
                marks = match (marks, byte) {
                    (ESCAPED, b'[') => INSIDE,
                    (INSIDE, b' '..=b'?') => INSIDE,
                    (INSIDE, b'@'..=b'~') => 0,
                    _ => return Run { state: None, end },
                };
                continue;
            }
            if byte == ESCAPE
                && self.between == Between::Sequences
                && state.as_u32() != self.start
                && self.nfa.is_dead(self.step(state, byte))
            {
                marks = ESCAPED;
                continue;
            }
            state = self.step(state, byte);
            if self.nfa.is_special(state) {
                if self.nfa.is_dead(state) {
                    return Run { state: None, end };
                } else if self.is_end(state) {
                    end = Some(at + 1);
                }
            }
        }
        let is_leaf = || (0..=u8::MAX).all(|byte| self.nfa.is_dead(self.step(state, byte)));
        let closed = ended || (self.is_end(state) && is_leaf());
        Run {
            state: (!closed).then(|| state.as_u32() | marks),
            end,
        }
    }

    fn next(&self, state: u32, byte: u8) -> Next {
        let state = trie_id(state);
        if self.is_end(state) {
            return Next::Matched;
        }
        let next = self.step(state, byte);
        if self.nfa.is_dead(next) {
            Next::Dead
        } else {
            Next::State(next.as_u32())
        }
    }

    fn memory(&self) -> usize {
        self.nfa.memory_usage() + self.ends.len() * 4
    }
}

type TrieId = aho_corasick::automaton::StateID;

fn trie_id(state: u32) -> TrieId {
    TrieId::new_unchecked(state as usize)
}
