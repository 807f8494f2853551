//! The automaton of one pattern, walked from one starting place.
//!
//! A walk is anchored: it asks whether a match starts exactly here. That keeps three things simple
//! which are hard to get out of an unanchored search: where the match starts, whether the bytes
//! seen so far can still become one, and how to go on later from where the bytes ran out.

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;

use regex_automata::dfa::{Automaton as _, StartKind, dense};
use regex_automata::nfa::thompson::{self, NFA, WhichCaptures};
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_automata::{Anchored, MatchKind};
use regex_syntax::hir::Hir;
use zeroize::Zeroizing;

use crate::byteset::ByteSet;

/// Most bytes that a compiled regex may take, by each of three measures: its NFA, its DFA, and
/// what the making of the DFA needs.
const NFA_LIMIT: usize = 2 << 20;
const DFA_LIMIT: usize = 8 << 20;
const DETERMINIZE_LIMIT: usize = 32 << 20;

/// A state of an automaton.
pub(crate) type State = u64;

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

impl Step {
    /// What a walk that began at `start` came to.
    fn of(run: Run, start: usize) -> Self {
        match (run.state, run.end) {
            (None, None) => Self::Dead,
            (None, Some(end)) => Self::Match(end),
            (Some(state), end) => Self::Open(Walk {
                state,
                matched: end.map(|end| end - start),
            }),
        }
    }
}

/// How far a walk came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The state in the end, unless nothing that follows matters any more.
    pub state: Option<State>,
    /// Where the match ends, so far.
    pub end: Option<usize>,
}

/// A walk that ran out of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Walk {
    pub state: State,
    /// Whether there is a match already and only its end is open; then its end so far, in bytes
    /// since the start of the walk.
    pub matched: Option<usize>,
}

impl Walk {
    /// One that has not begun: so few bytes are there that no automaton is made for them.
    pub const UNSTARTED: Self = Self {
        state: State::MAX,
        matched: None,
    };
}

/// Bytes of a walk before it is asked whether it goes where another one went.
const LONG: usize = 256;

/// Most bytes of a walk that are remembered.
const REMEMBERED: usize = 1 << 18;

/// Most walks of a pattern that are remembered.
const WALKS: usize = 4;

/// Where long walks through one text came by, for each pattern. Two that are in one state at one
/// place go on alike: however many begin in one long line, few go to its end.
#[derive(Debug, Default)]
pub(crate) struct Trails {
    walks: RefCell<BTreeMap<usize, VecDeque<Trail>>>,
    /// From where on it was asked for the last byte that no text has, and where that is.
    binary: Cell<Option<(usize, Option<usize>)>>,
}

#[derive(Debug)]
struct Trail {
    from: usize,
    /// Behind each byte from there on.
    states: Vec<State>,
    /// What came of it.
    run: Run,
}

impl Trails {
    /// The last byte that no text has, from `from` on, in a text of this length. Each part of it is
    /// asked for once.
    pub fn last_binary(
        &self,
        len: usize,
        from: usize,
        ask: impl FnOnce(Range<usize>) -> Option<usize>,
    ) -> Option<usize> {
        let (seen, mut last) = self.binary.get().unwrap_or((len, None));
        if last.is_none() && from < seen {
            last = ask(from..seen).map(|at| from + at);
            self.binary.set(Some((from, last)));
        }
        last.filter(|&last| last >= from)
    }
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
                Self::Literals(_) => Trie::START,
            },
            matched: None,
        };
        self.resume(hay, start, start, walk, ended)
    }

    /// As [`probe`](Self::probe), beside other walks of this pattern through the same text.
    pub fn probe_beside(
        &self,
        hay: &[u8],
        start: usize,
        ended: bool,
        trails: &Trails,
        pattern: usize,
    ) -> Step {
        let head = start + LONG;
        let Self::Regex(dfa) = self else {
            return self.probe(hay, start, ended);
        };
        if head >= hay.len() {
            return self.probe(hay, start, ended);
        }
        let run = dfa.walk(
            &hay[..head],
            start,
            dfa.start(look_behind(hay, start)),
            None,
        );
        let run = match run.state {
            None => run,
            Some(state) => {
                let mut walks = trails.walks.borrow_mut();
                let walks = walks.entry(pattern).or_default();
                dfa.walk_beside(hay, head, state, run.end, ended, walks)
            }
        };
        Step::of(run, start)
    }

    /// Goes on with a walk that began at `start` and has seen everything before `from`.
    pub fn resume(&self, hay: &[u8], start: usize, from: usize, walk: Walk, ended: bool) -> Step {
        let end = walk.matched.map(|len| start + len);
        Step::of(self.run(hay, from, walk.state, end, ended), start)
    }

    /// Walks from a state over everything from `from` on. `end` is where the match ends so far.
    pub fn run(
        &self,
        hay: &[u8],
        from: usize,
        state: State,
        end: Option<usize>,
        ended: bool,
    ) -> Run {
        match self {
            Self::Regex(dfa) => dfa.run(hay, from, state, end, ended),
            Self::Literals(trie) => trie.run(hay, from, state, end, ended),
        }
    }

    /// The states that a walk may begin in, each with the bytes that may stand before it.
    pub fn starts(&self) -> Vec<(ByteSet, State)> {
        let Self::Regex(dfa) = self else {
            return vec![(ByteSet::FULL, Trie::START)];
        };
        let mut starts: Vec<(ByteSet, State)> = vec![(ByteSet::EMPTY, dfa.start(None))];
        for before in 0..=u8::MAX {
            let state = dfa.start(Some(before));
            match starts.iter_mut().find(|(_, known)| *known == state) {
                Some((set, _)) => set.insert(before),
                None => starts.push((ByteSet::from_iter([before]), state)),
            }
        }
        starts
    }

    /// What a byte leads to.
    pub fn next(&self, state: State, byte: u8) -> Next {
        match self {
            Self::Regex(dfa) => dfa.next(state, byte),
            Self::Literals(trie) => trie.next(state, byte),
        }
    }

    /// Whether there is a match where the stream ends in this state.
    pub fn matches_at_end(&self, state: State) -> bool {
        match self {
            Self::Regex(dfa) => dfa
                .dfa
                .is_match_state(dfa.dfa.next_eoi_state(state_id(state))),
            Self::Literals(trie) => trie.is_end(Node::of(state)),
        }
    }

    /// Bytes of the shortest literal; nothing for a regex.
    pub fn shortest_literal(&self) -> usize {
        match self {
            Self::Regex(_) => 0,
            Self::Literals(trie) => trie.shortest,
        }
    }

    /// Bytes of the longest literal.
    pub fn longest_literal(&self) -> usize {
        match self {
            Self::Regex(_) => 0,
            Self::Literals(trie) => trie.longest,
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
    State(State),
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
    starts: Vec<StateID>,
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
                dfa.start_state(&config)
            })
            .collect::<Result<Vec<StateID>, _>>()
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
    pub fn start(&self, before: Option<u8>) -> State {
        number(self.starts[before.map_or(256, usize::from)])
    }

    /// As [`Automaton::run`].
    fn run(&self, hay: &[u8], from: usize, state: State, end: Option<usize>, ended: bool) -> Run {
        let run = self.walk(hay, from, state, end);
        match run.state {
            None => run,
            Some(state) => self.stop(hay, state, run.end, ended),
        }
    }

    /// Walks over everything from `from` on, and says nothing of what may follow.
    fn walk(&self, hay: &[u8], from: usize, state: State, mut end: Option<usize>) -> Run {
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
        Run {
            state: Some(number(state)),
            end,
        }
    }

    /// Goes on with a walk from `from` to the end of the text, or to where another one came by in
    /// the same state.
    fn walk_beside(
        &self,
        hay: &[u8],
        from: usize,
        state: State,
        mut end: Option<usize>,
        ended: bool,
        walks: &mut VecDeque<Trail>,
    ) -> Run {
        let mut state = state_id(state);
        let mut states = Vec::new();
        let mut is_dead = false;
        for (at, &byte) in hay.iter().enumerate().skip(from) {
            #[cfg(test)]
            tests::WALKED.with(|sum| sum.set(sum.get() + 1));
            state = self.dfa.next_state(state, byte);
            if self.dfa.is_special_state(state) {
                if self.dfa.is_match_state(state) {
                    end = Some(at);
                } else if self.dfa.is_dead_state(state) {
                    is_dead = true;
                    break;
                }
            }
            let came_by = |trail: &&Trail| {
                let there = at.checked_sub(trail.from);
                there.and_then(|there| trail.states.get(there)) == Some(&number(state))
            };
            if let Some(trail) = walks.iter().find(came_by) {
                // What that one matched before counts for it alone.
                let later = trail.run.end.filter(|&end| end >= at);
                return Run {
                    state: trail.run.state,
                    end: later.or(end),
                };
            }
            if states.len() < REMEMBERED {
                states.push(number(state));
            }
        }
        let run = match is_dead {
            true => Run { state: None, end },
            false => self.stop(hay, number(state), end, ended),
        };
        if walks.len() == WALKS {
            walks.pop_front();
        }
        walks.push_back(Trail { from, states, run });
        run
    }

    /// Ends a walk where the text does.
    fn stop(&self, hay: &[u8], state: State, mut end: Option<usize>, ended: bool) -> Run {
        let state = state_id(state);
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
            state: (!outlook.closed).then(|| number(state)),
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
    pub fn chase(&self, hay: &[u8], from: usize, state: State, ended: bool) -> Run {
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
        self.run(hay, hay.len(), number(state), end, ended)
    }

    fn next(&self, state: State, byte: u8) -> Next {
        let next = self.dfa.next_state(state_id(state), byte);
        if self.dfa.is_match_state(next) {
            Next::Matched
        } else if self.dfa.is_dead_state(next) {
            Next::Dead
        } else {
            Next::State(number(next))
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
        let mut todo = self.starts.clone();
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
        self.dfa.memory_usage() + size_of_val(&self.starts[..]) + self.outlooks.len() * 2
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

fn state_id(state: State) -> StateID {
    StateID::new_unchecked(state as usize)
}

fn number(state: StateID) -> State {
    State::from(state.as_u32())
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

/// Where in a sequence a walk along literals is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sequence {
    /// In none.
    Outside,
    /// Behind its first byte.
    Escaped,
    /// Further on.
    Inside,
}

/// A node of a trie: so many bytes of the first of the literals that begin with these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Node {
    literal: usize,
    depth: usize,
    sequence: Sequence,
}

/// Bits of a node's number that count the literal, and the depth.
const LITERAL_BITS: u32 = 30;
const DEPTH_BITS: u32 = 32;

impl Node {
    fn of(state: State) -> Self {
        Self {
            literal: (state & ((1 << LITERAL_BITS) - 1)) as usize,
            depth: (state >> LITERAL_BITS & ((1 << DEPTH_BITS) - 1)) as usize,
            sequence: match state >> (LITERAL_BITS + DEPTH_BITS) {
                0 => Sequence::Outside,
                1 => Sequence::Escaped,
                _ => Sequence::Inside,
            },
        }
    }

    fn number(self) -> State {
        let sequence = match self.sequence {
            Sequence::Outside => 0,
            Sequence::Escaped => 1,
            Sequence::Inside => 2,
        };
        self.literal as u64
            | (self.depth as u64) << LITERAL_BITS
            | sequence << (LITERAL_BITS + DEPTH_BITS)
    }
}

/// The trie of a list of literals, which is not there but as the sorted list: a node is where in it
/// the first one stands that begins so. That takes little more than the literals themselves, and
/// walks are short, for they begin only where one is likely.
pub(crate) struct Trie {
    /// All literals, sorted, one behind the other.
    bytes: Zeroizing<Vec<u8>>,
    /// Where each begins, and last where the last one ends.
    begins: Vec<u32>,
    /// Which is the first whose first byte is this, or a greater one.
    firsts: Box<[u32; 257]>,
    /// Bytes of the shortest and of the longest one.
    shortest: usize,
    longest: usize,
    between: Between,
}

impl std::fmt::Debug for Trie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trie({} literals)", self.len())
    }
}

impl Trie {
    /// Where walks begin.
    const START: State = 0;

    /// Compiles literals. Of several that match at one place, the first in the list is taken.
    pub fn new<L: AsRef<[u8]>>(literals: &[L], between: Between) -> Result<Self, PatternError> {
        if literals.is_empty() {
            return Err(PatternError::NoLiterals);
        }
        let literal = |index: usize| literals[index].as_ref();
        if let Some(at) = (0..literals.len()).find(|&at| literal(at).is_empty()) {
            return Err(PatternError::EmptyLiteral(at + 1));
        }
        let lens = || literals.iter().map(|literal| literal.as_ref().len());
        let total: usize = lens().sum();
        if literals.len() >> LITERAL_BITS != 0 || u32::try_from(total).is_err() {
            return Err(PatternError::TooLarge);
        }
        let mut order: Vec<usize> = (0..literals.len()).collect();
        order.sort_unstable_by(|&a, &b| literal(a).cmp(literal(b)).then(a.cmp(&b)));
        let mut trie = Self {
            bytes: Zeroizing::new(Vec::with_capacity(total)),
            begins: vec![0],
            firsts: Box::new([0; 257]),
            shortest: lens().min().unwrap_or(0),
            longest: lens().max().unwrap_or(0),
            between,
        };
        // One that begins with an earlier literal is never reached. Of those that are left, a
        // longer one comes before what it begins with, so that the longest match is taken, and the
        // last of the prefixes is the earliest of them.
        let mut prefixes: Vec<usize> = Vec::new();
        for index in order {
            let text = literal(index);
            while prefixes
                .last()
                .is_some_and(|&last| !text.starts_with(literal(last)))
            {
                prefixes.pop();
            }
            if prefixes.last().is_some_and(|&earliest| earliest < index) {
                continue;
            }
            prefixes.push(index);
            trie.bytes.extend_from_slice(text);
            trie.begins.push(trie.bytes.len() as u32);
        }
        for index in 0..trie.len() {
            trie.firsts[usize::from(trie.literal(index)[0]) + 1] += 1;
        }
        for first in 0..256 {
            trie.firsts[first + 1] += trie.firsts[first];
        }
        Ok(trie)
    }

    fn len(&self) -> usize {
        self.begins.len() - 1
    }

    fn literal(&self, index: usize) -> &[u8] {
        &self.bytes[self.begins[index] as usize..self.begins[index + 1] as usize]
    }

    /// Where a byte leads.
    fn step(&self, node: Node, byte: u8) -> Option<Node> {
        let Node { literal, depth, .. } = node;
        let deeper = |literal: usize| Node {
            literal,
            depth: depth + 1,
            ..node
        };
        if depth == 0 {
            let first = usize::from(byte);
            let found = self.firsts[first] as usize;
            return (found < self.firsts[first + 1] as usize).then(|| deeper(found));
        }
        let own = self.literal(literal);
        if own.get(depth) == Some(&byte) {
            return Some(deeper(literal));
        }
        // The first literal further on that is not less than these bytes.
        let (prefix, last) = (&own[..depth], self.firsts[usize::from(own[0]) + 1] as usize);
        let is_less = |index: usize| {
            let text = self.literal(index);
            match text[..text.len().min(depth)].cmp(prefix) {
                Ordering::Equal => text.get(depth).is_none_or(|&next| next < byte),
                other => other == Ordering::Less,
            }
        };
        let (mut low, mut high) = (literal + 1, last);
        while low < high {
            let middle = low.midpoint(high);
            match is_less(middle) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        let is_found = low < last && {
            let text = self.literal(low);
            text.starts_with(prefix) && text.get(depth) == Some(&byte)
        };
        is_found.then(|| deeper(low))
    }

    fn is_end(&self, node: Node) -> bool {
        node.depth > 0 && self.literal(node.literal).len() == node.depth
    }

    /// Whether no literal goes on from here, where one ends.
    fn is_leaf(&self, node: Node) -> bool {
        let own = self.literal(node.literal);
        node.literal + 1 == self.len() || !self.literal(node.literal + 1).starts_with(own)
    }

    fn run(&self, hay: &[u8], from: usize, state: State, end: Option<usize>, ended: bool) -> Run {
        let (mut node, mut end) = (Node::of(state), end);
        for (at, &byte) in hay.iter().enumerate().skip(from) {
            let sequence = match (node.sequence, byte) {
                (Sequence::Outside, _) => None,
                (Sequence::Escaped, b'[') | (Sequence::Inside, b' '..=b'?') => {
                    Some(Sequence::Inside)
                }
                (Sequence::Inside, b'@'..=b'~') => Some(Sequence::Outside),
                _ => return Run { state: None, end },
            };
            if let Some(sequence) = sequence {
                node.sequence = sequence;
                continue;
            }
            match self.step(node, byte) {
                Some(next) => node = next,
                None if byte == ESCAPE && self.between == Between::Sequences && node.depth > 0 => {
                    node.sequence = Sequence::Escaped;
                    continue;
                }
                None => return Run { state: None, end },
            }
            if self.is_end(node) {
                end = Some(at + 1);
            }
        }
        let closed = ended || (self.is_end(node) && self.is_leaf(node));
        Run {
            state: (!closed).then(|| node.number()),
            end,
        }
    }

    fn next(&self, state: State, byte: u8) -> Next {
        let node = Node::of(state);
        if self.is_end(node) {
            return Next::Matched;
        }
        self.step(node, byte)
            .map_or(Next::Dead, |next| Next::State(next.number()))
    }

    fn memory(&self) -> usize {
        self.bytes.capacity() + size_of_val(&self.begins[..]) + size_of_val(&*self.firsts)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    thread_local! {
        /// Bytes that walks have gone beside others.
        pub(super) static WALKED: Cell<usize> = const { Cell::new(0) };
    }

    const REGEXES: [&str; 6] = [
        r"key=[^\n]+",
        r"\bkey=(?:[a-z=]{3})*;",
        r"k[^\n]*(?:=a|ey=b\b)",
        r"(?:key|=a).{100,400}k",
        r"[a-z=]+?=\B[^;]*;?$",
        r"(?:ab?|b)+(?:=|;|key)*\n",
    ];

    fn automaton(regex: &str) -> Automaton {
        let dfa = RegexDfa::new(&parse(regex).unwrap(), Reach::Here).unwrap();
        Automaton::Regex(Box::new(dfa))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_walk_beside_others_says_what_it_says_alone(
            pieces in prop::collection::vec(
                prop::sample::select(vec!["key=", "a", "ab", "b", ";", "\n", "=a", "ey=b", " "]),
                200..700,
            ),
            long in 0..3usize,
            ended: bool,
        ) {
            // Few lines end.
            let text = pieces.concat().replace('\n', if long > 0 { "x" } else { "\n" });
            let text = text.as_bytes();
            for regex in REGEXES {
                let automaton = automaton(regex);
                let trails = Trails::default();
                for start in 0..text.len() {
                    prop_assert_eq!(
                        automaton.probe_beside(text, start, ended, &trails, 0),
                        automaton.probe(text, start, ended)
                    );
                }
            }
        }
    }

    #[test]
    fn many_walks_through_one_line_go_little_further_than_one() {
        let text = b"key=".repeat(20_000);
        let automaton = automaton(r"key=[^\n]+\n");
        for ended in [false, true] {
            let trails = Trails::default();
            WALKED.set(0);
            for start in (0..text.len()).step_by(4) {
                automaton.probe_beside(&text, start, ended, &trails, 0);
            }
            let walked = WALKED.get();
            assert!(walked <= 3 * text.len(), "{walked}");
        }
    }
}
