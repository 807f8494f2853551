//! A pattern made ready to search with.

use std::sync::Arc;

use regex_syntax::hir::Hir;

use crate::automaton::{
    Automaton, PatternError, Reach, RegexDfa, Step, Trie, Walk, look_behind, parse,
};
use crate::byteset::ByteSet;
use crate::scan::{Hay, LiteralHeads, Sweeper};
use crate::secret::SecretGroup;
use crate::shape::{self, Shape};

/// What a pattern says to a text that its automaton takes: `None` for no, or how many of its bytes
/// are the match.
pub type Check = fn(Found<'_>) -> Option<usize>;

/// A text that an automaton takes.
#[derive(Clone, Copy, Debug)]
pub struct Found<'t> {
    /// The text itself.
    pub text: &'t [u8],
    /// The byte before it, unless the stream begins there.
    pub before: Option<u8>,
    /// The byte behind it, unless the stream ends there.
    pub after: Option<u8>,
}

/// One pattern of a rule, made ready to search with.
#[derive(Debug)]
pub(crate) struct Engine {
    /// The rule it belongs to, as an index.
    pub rule: usize,
    pub automaton: Automaton,
    pub check: Option<Check>,
    /// Matches text alone, not binary.
    pub text_only: bool,
    /// The byte behind a match counts.
    pub peeks: bool,
    /// Where only a part of the match is the secret.
    pub secret: Option<SecretGroup>,
    /// Where a match is looked for by a mark inside it.
    pub mark: Option<Mark>,
    pub lead: Lead,
}

/// How the places are found where a match may start.
#[derive(Debug)]
pub(crate) enum Lead {
    /// By the shapes of its beginning or its mark.
    Shapes(Vec<Shape>),
    /// By the first bytes of literals.
    Literals(Arc<LiteralHeads>),
    /// By an automaton that walks over everything.
    Sweep(Arc<Sweeper>),
}

/// Says that each match has a mark inside, and only certain bytes before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    /// The bytes that may stand before the mark.
    pub before: ByteSet,
    /// Most of them.
    pub most: usize,
}

/// What starts at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    pub start: usize,
    /// The pattern, as an index.
    pub engine: usize,
    pub kind: HitKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HitKind {
    /// A match that ends before this index.
    Match(usize),
    /// The bytes ran out before it was decided.
    Open(Walk),
}

/// Share of ordinary text above which the beginnings of a pattern are too common to look for.
const COMMON: f64 = 0.02;

impl Engine {
    /// A regex.
    pub fn regex(rule: usize, pattern: &str) -> Result<Self, PatternError> {
        let hir = parse(pattern)?;
        let automaton = anchored(&hir)?;
        let shapes = shape::shapes(&automaton);
        let lead = if shapes.iter().map(Shape::near_rate).sum::<f64>() < COMMON {
            Lead::Shapes(shapes)
        } else {
            let first = shapes.iter().map(|shape| shape.places[0]);
            let first = first.fold(ByteSet::EMPTY, |all, set| all.union(&set));
            // An automaton that starts everywhere may be too large where one that starts at one
            // place is not.
            let anywhere = RegexDfa::new(&hir, Reach::Anywhere).ok();
            Lead::Sweep(Arc::new(Sweeper::new(anywhere, first)))
        };
        Self::new(rule, &hir, automaton, lead, None)
    }

    /// A regex whose matches all have a mark inside, which another regex describes.
    pub fn marked(
        rule: usize,
        pattern: &str,
        inside: &str,
        mark: Mark,
    ) -> Result<Self, PatternError> {
        let hir = parse(pattern)?;
        let inside = anchored(&parse(inside)?)?;
        let lead = Lead::Shapes(shape::shapes(&inside));
        Self::new(rule, &hir, anchored(&hir)?, lead, Some(mark))
    }

    fn new(
        rule: usize,
        hir: &Hir,
        mut automaton: Automaton,
        lead: Lead,
        mark: Option<Mark>,
    ) -> Result<Self, PatternError> {
        let secret = SecretGroup::new(hir)?;
        if let (Some(group), Automaton::Regex(dfa)) = (&secret, &mut automaton)
            && group.looks_ahead
        {
            dfa.wait_for_next_byte();
        }
        Ok(Self {
            rule,
            automaton,
            check: None,
            text_only: false,
            peeks: false,
            secret,
            mark,
            lead,
        })
    }

    /// A list of literals, the first of which has priority.
    pub fn literals<L: AsRef<[u8]>>(rule: usize, literals: &[L]) -> Result<Self, PatternError> {
        Ok(Self {
            rule,
            automaton: Automaton::Literals(Box::new(Trie::new(literals)?)),
            check: None,
            text_only: false,
            peeks: false,
            secret: None,
            mark: None,
            lead: Lead::Literals(Arc::new(LiteralHeads::new(literals))),
        })
    }

    /// Bytes of memory.
    pub fn memory(&self) -> usize {
        let lead = match &self.lead {
            Lead::Shapes(shapes) => size_of_val(&shapes[..]),
            Lead::Literals(heads) => heads.memory(),
            Lead::Sweep(sweeper) => sweeper.anywhere().map_or(0, RegexDfa::memory),
        };
        let secret = self.secret.as_ref().map_or(0, SecretGroup::memory);
        self.automaton.memory() + lead + secret
    }

    /// Has the byte behind each match count, for the check and as text.
    pub fn peek(&mut self) {
        self.peeks = true;
        if let Automaton::Regex(dfa) = &mut self.automaton {
            dfa.wait_for_next_byte();
        }
    }

    /// Whether a match of this pattern starts at `start`.
    pub fn probe(&self, hay: Hay<'_>, start: usize) -> Option<HitKind> {
        let step = self.automaton.probe(hay.bytes, start, hay.ended);
        self.judge(hay, start, start, step)
    }

    /// Goes on with a walk that has seen everything before `from`.
    pub fn resume(&self, hay: Hay<'_>, start: usize, from: usize, walk: Walk) -> Option<HitKind> {
        let step = self
            .automaton
            .resume(hay.bytes, start, from, walk, hay.ended);
        self.judge(hay, start, from, step)
    }

    fn judge(&self, hay: Hay<'_>, start: usize, from: usize, step: Step) -> Option<HitKind> {
        let end = match step {
            Step::Dead => return None,
            Step::Open(walk) => {
                let matched = walk.matched.map(|len| start + len);
                let matched = matched.map(|end| end + usize::from(self.peeks));
                let is_lost = self.text_only && !hay.may_be_text(start, from, matched);
                return (!is_lost).then_some(HitKind::Open(walk));
            }
            Step::Match(end) => end,
        };
        let end = match self.check {
            None => end,
            Some(check) => {
                let found = Found {
                    text: &hay.bytes[start..end],
                    before: look_behind(hay.bytes, start),
                    after: hay.bytes.get(end).copied(),
                };
                start + check(found)?
            }
        };
        let looked_at = match self.peeks {
            true => (end + 1).min(hay.bytes.len()),
            false => end,
        };
        let is_lost = self.text_only && !hay.is_text(start..looked_at);
        (!is_lost).then_some(HitKind::Match(end))
    }
}

fn anchored(hir: &Hir) -> Result<Automaton, PatternError> {
    Ok(Automaton::Regex(Box::new(RegexDfa::new(hir, Reach::Here)?)))
}
