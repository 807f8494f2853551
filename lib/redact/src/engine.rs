//! A pattern made ready to search with.

use std::sync::{Arc, OnceLock};

use regex_syntax::hir::Hir;

use crate::automaton::{
    Automaton, Between, PatternError, Reach, RegexDfa, Step, Trails, Trie, Walk, look_behind, parse,
};
use crate::builtin::BuiltinPattern;
use crate::byteset::ByteSet;
use crate::encodings::{Encoding, Encodings};
use crate::glance::Glance;
use crate::run::Run;
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
    /// The bytes before it, [`BEFORE`] at most.
    pub before: &'t [u8],
    /// The byte behind it, unless the stream ends there.
    pub after: Option<u8>,
}

/// Most bytes before a text that a check is shown.
pub(crate) const BEFORE: usize = 32;

/// One pattern of a rule, made ready to search with.
#[derive(Debug)]
pub(crate) struct Engine {
    /// The rule it belongs to, as an index.
    pub rule: usize,
    /// Made when something is seen that begins as it does, where it is a built-in's.
    body: OnceLock<Body>,
    builtin: Option<&'static BuiltinPattern>,
    pub check: Option<Check>,
    /// Matches text alone, not binary.
    pub text_only: bool,
    /// The byte behind a match counts.
    pub peeks: bool,
    /// Where a match is looked for by a mark inside it.
    pub mark: Option<Mark>,
    /// That of the mark, made as the body is.
    mark_automaton: OnceLock<Automaton>,
    /// What is asked before the body is made, and before the mark's automaton is.
    glance: OnceLock<Glance>,
    mark_glance: OnceLock<Glance>,
    pub lead: Lead,
}

/// What takes the most to make of a pattern.
#[derive(Debug)]
struct Body {
    automaton: Automaton,
    /// Where only a part of the match is the secret.
    secret: Option<SecretGroup>,
    /// Fewest bytes of a secret.
    least: usize,
}

impl Body {
    /// Of a regex, which looks at the byte behind each match if it `peeks`.
    fn new(hir: &Hir, mut automaton: Automaton, peeks: bool) -> Result<Self, PatternError> {
        let secret = SecretGroup::new(hir)?;
        let looks_ahead = secret.as_ref().is_some_and(|group| group.looks_ahead);
        if (peeks || looks_ahead)
            && let Automaton::Regex(dfa) = &mut automaton
        {
            dfa.wait_for_next_byte();
        }
        let least = match &secret {
            Some(group) => group.least,
            None => hir.properties().minimum_len().unwrap_or(0),
        };
        Ok(Self {
            automaton,
            secret,
            least,
        })
    }
}

/// How the places are found where a match may start.
#[derive(Debug)]
pub(crate) enum Lead {
    /// By the shapes of its beginning or its mark.
    Shapes(Vec<Shape>),
    /// By those of a built-in.
    Builtin,
    /// By the first bytes of literals.
    Literals(Arc<LiteralHeads>),
    /// By an automaton that walks over everything.
    Sweep(Arc<Sweeper>),
}

/// Says that each match has a mark inside, and only certain bytes before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    /// The regex of the mark.
    pub inside: &'static str,
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
        let body = Body::new(&hir, automaton, false)?;
        Ok(Self::new(rule, body.into(), lead))
    }

    /// A part of a built-in.
    pub fn builtin(rule: usize, pattern: &'static BuiltinPattern) -> Self {
        Self {
            builtin: Some(pattern),
            check: pattern.check(),
            text_only: pattern.text_only(),
            peeks: pattern.peeks(),
            mark: pattern.mark(),
            ..Self::new(rule, OnceLock::new(), Lead::Builtin)
        }
    }

    fn new(rule: usize, body: OnceLock<Body>, lead: Lead) -> Self {
        Self {
            rule,
            body,
            builtin: None,
            check: None,
            text_only: false,
            peeks: false,
            mark: None,
            mark_automaton: OnceLock::new(),
            glance: OnceLock::new(),
            mark_glance: OnceLock::new(),
            lead,
        }
    }

    fn body(&self) -> &Body {
        self.body.get_or_init(|| {
            let regex = self.builtin.map_or("", BuiltinPattern::regex);
            let compiled =
                parse(regex).and_then(|hir| Body::new(&hir, anchored(&hir)?, self.peeks));
            compiled.expect("each regex of the catalogue is compiled by a test")
        })
    }

    /// Bytes of memory that a regex takes when it is compiled.
    #[cfg(test)]
    pub fn compiled_size(regex: &str) -> Result<usize, PatternError> {
        let hir = parse(regex)?;
        let body = Body::new(&hir, anchored(&hir)?, true)?;
        let secret = body.secret.as_ref().map_or(0, SecretGroup::memory);
        Ok(body.automaton.memory() + secret)
    }

    /// Its automaton.
    pub fn automaton(&self) -> &Automaton {
        &self.body().automaton
    }

    /// Whether its mark stands there, or may, as far as there is text.
    pub fn is_marked(&self, hay: &[u8], at: usize) -> bool {
        let Some(mark) = &self.mark else {
            return false;
        };
        if self.mark_automaton.get().is_none() {
            let glance = self.mark_glance.get_or_init(|| Glance::of(mark.inside));
            if let Some(may_be) = glance.may_match(hay, at, false) {
                return may_be;
            }
        }
        let automaton = self.mark_automaton.get_or_init(|| {
            let compiled = parse(mark.inside).and_then(|hir| anchored(&hir));
            compiled.expect("each mark of the catalogue is compiled by a test")
        });
        automaton.probe(hay, at, false) != Step::Dead
    }

    /// Where only a part of the match is the secret.
    pub fn secret(&self) -> Option<&SecretGroup> {
        self.body().secret.as_ref()
    }

    /// Bytes that every secret has.
    pub fn least(&self) -> usize {
        self.body().least
    }

    /// Whether it is a built-in's, and was compiled when something was seen that begins as it does.
    pub fn is_compiled_builtin(&self) -> bool {
        self.builtin.is_some() && self.body.get().is_some()
    }

    /// The run that every match holds, of a built-in that is looked for beside runs.
    pub fn run(&self) -> Option<Run> {
        self.builtin.and_then(BuiltinPattern::run)
    }

    /// The class of a built-in.
    pub fn class(&self) -> Option<usize> {
        self.builtin.map(BuiltinPattern::class)
    }

    /// The shapes of a built-in's beginnings or marks, each with its bucket.
    pub fn builtin_shapes(&self) -> &'static [(usize, Shape)] {
        self.builtin.map_or(&[], BuiltinPattern::shapes)
    }

    /// Whether a pattern can begin like this, as far as a look at the first bytes tells.
    fn is_likely(&self, hay: &[u8], start: usize) -> bool {
        let mut shapes = self.builtin_shapes().iter();
        self.builtin.is_none()
            || self.mark.is_some()
            || shapes.any(|(_, shape)| shape.fits(look_behind(hay, start), &hay[start..]))
    }

    /// A list of literals, the first of which has priority.
    pub fn literals<L: AsRef<[u8]>>(rule: usize, literals: &[L]) -> Result<Self, PatternError> {
        Self::literals_with(rule, literals, Between::Nothing)
    }

    /// A list of texts, in these forms too.
    pub fn listed(
        rule: usize,
        texts: &[Vec<u8>],
        encodings: Encodings,
    ) -> Result<Self, PatternError> {
        // Of two that begin alike the longer one counts, for the other is a part of it.
        let forms = encodings.forms(texts);
        let between = match encodings.has(Encoding::Terminal) {
            true => Between::Sequences,
            false => Between::Nothing,
        };
        Self::literals_with(rule, &forms, between)
    }

    fn literals_with<L: AsRef<[u8]>>(
        rule: usize,
        literals: &[L],
        between: Between,
    ) -> Result<Self, PatternError> {
        let automaton = Automaton::Literals(Box::new(Trie::new(literals, between)?));
        let body = Body {
            least: automaton.shortest_literal(),
            automaton,
            secret: None,
        };
        let lead = Lead::Literals(Arc::new(LiteralHeads::new(literals, between)));
        Ok(Self::new(rule, body.into(), lead))
    }

    /// Bytes of the longest literal. A built-in has none, and is not compiled for the question.
    pub fn longest_literal(&self) -> usize {
        let body = self.body.get();
        body.map_or(0, |body| body.automaton.longest_literal())
    }

    /// Bytes of memory.
    pub fn memory(&self) -> usize {
        let lead = match &self.lead {
            Lead::Shapes(shapes) => size_of_val(&shapes[..]),
            Lead::Builtin => 0,
            Lead::Literals(heads) => heads.memory(),
            Lead::Sweep(sweeper) => sweeper.anywhere().map_or(0, RegexDfa::memory),
        };
        let body = self.body.get().map_or(0, |body| {
            let secret = body.secret.as_ref().map_or(0, SecretGroup::memory);
            body.automaton.memory() + secret
        });
        let mark = self.mark_automaton.get().map_or(0, Automaton::memory);
        let glances = [&self.glance, &self.mark_glance].into_iter();
        let glances = glances.filter_map(|glance| Some(glance.get()?.memory()));
        body + mark + lead + glances.sum::<usize>()
    }

    /// Whether a match of this pattern starts at `start`.
    /// It is `pattern` of all.
    pub fn probe(
        &self,
        hay: Hay<'_>,
        start: usize,
        trails: &Trails,
        pattern: usize,
    ) -> Option<HitKind> {
        if !self.is_likely(hay.bytes, start) {
            return None;
        }
        let step = match self.builtin {
            None => {
                let automaton = self.automaton();
                automaton.probe_beside(hay.bytes, start, hay.ended, trails, pattern)
            }
            Some(builtin) => self.probe_builtin(builtin, hay, start, trails, pattern),
        };
        self.judge(hay, start, start, step, trails)
    }

    fn probe_builtin(
        &self,
        builtin: &BuiltinPattern,
        hay: Hay<'_>,
        start: usize,
        trails: &Trails,
        pattern: usize,
    ) -> Step {
        let rest = &hay.bytes[start..];
        if !builtin.may_match(rest, hay.ended) {
            return Step::Dead;
        }
        // Writes end anywhere, and a few bytes fit the beginnings of many patterns.
        let is_early = !hay.ended && rest.len() < builtin.early();
        if self.body.get().is_none() {
            let glance = self.glance.get_or_init(|| Glance::of(builtin.regex()));
            match glance.may_match(hay.bytes, start, hay.ended) {
                Some(false) => return Step::Dead,
                Some(true) if is_early => return Step::Open(Walk::UNSTARTED),
                Some(true) | None => {}
            }
        }
        let automaton = self.automaton();
        match automaton.probe_beside(hay.bytes, start, hay.ended, trails, pattern) {
            // What goes out does not depend on what has been compiled.
            Step::Open(_) if is_early => Step::Open(Walk::UNSTARTED),
            step => step,
        }
    }

    /// The walk of an open candidate, begun.
    pub fn begun(&self, hay: Hay<'_>, start: usize, walk: Walk) -> Option<Walk> {
        if walk != Walk::UNSTARTED {
            return Some(walk);
        }
        match self.automaton().probe(hay.bytes, start, false) {
            Step::Open(walk) => Some(walk),
            Step::Dead | Step::Match(_) => None,
        }
    }

    /// Goes on with a walk that has seen everything before `from`.
    pub fn resume(&self, hay: Hay<'_>, start: usize, from: usize, walk: Walk) -> Option<HitKind> {
        if walk == Walk::UNSTARTED {
            return self.probe(hay, start, &Trails::default(), 0);
        }
        let step = self
            .automaton()
            .resume(hay.bytes, start, from, walk, hay.ended);
        self.judge(hay, start, from, step, &Trails::default())
    }

    fn judge(
        &self,
        hay: Hay<'_>,
        start: usize,
        from: usize,
        step: Step,
        trails: &Trails,
    ) -> Option<HitKind> {
        let end = match step {
            Step::Dead => return None,
            Step::Open(walk) => {
                let matched = walk.matched.map(|len| start + len);
                let matched = matched.map(|end| end + usize::from(self.peeks));
                let is_lost = self.text_only && !hay.may_be_text(start, from, matched, trails);
                return (!is_lost).then_some(HitKind::Open(walk));
            }
            Step::Match(end) => end,
        };
        let end = match self.check {
            None => end,
            Some(check) => {
                let found = Found {
                    text: &hay.bytes[start..end],
                    before: &hay.bytes[start.saturating_sub(BEFORE)..start],
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
