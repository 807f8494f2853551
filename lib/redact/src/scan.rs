//! The search for places where a match may start.
//!
//! A filter's patterns are spread over a few sources. Each source answers the same question: which
//! is the first place at or after `at` where one of its patterns matches, or may yet match?

use std::cell::Cell;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use crate::automaton::{Between, ESCAPE, RegexDfa, Trails, look_behind};
use crate::builtin::builtin_groups;
use crate::byteset::ByteSet;
use crate::engine::{Engine, Hit, Mark};
use crate::groups::{WIDTH, ones};
use crate::run::{KINDS, Kind, REACH, ends};
use crate::shape::{self, SPAN, Shape};
use crate::sieve::{self, MadeGroups, STEP, Sieve};

/// Shapes are looked for in parallel, one bit each, in so many words of 64 bits.
const WORDS: usize = 2;

/// A bit for each shape.
type Wide = [u64; WORDS];

/// Text that is searched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hay<'h> {
    /// The bytes, with the one before the first place a match may start, if the stream has one.
    pub bytes: &'h [u8],
    /// Nothing follows.
    pub ended: bool,
    /// Where `bytes` begin in the stream or file.
    pub base: u64,
    /// Where in it the first NUL is, if there is one in its head.
    pub nul: Option<u64>,
}

/// The earliest candidate that a search may answer: this pattern or a later one at this place, or
/// any pattern further on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Key {
    pub start: usize,
    pub engine: usize,
}

/// Finds where patterns may start by the shapes of their beginnings.
#[derive(Debug)]
pub(crate) struct ShapeSource {
    /// Passes over what none of them can begin with.
    sieve: Sieve,
    /// Which shapes allow a byte before the first place, and at each place.
    before: Box<[Wide; 256]>,
    places: Box<[[Wide; 256]; SPAN]>,
    /// The patterns of each shape.
    engines: Vec<Vec<usize>>,
    /// Shapes of marks.
    marked: Wide,
    /// How far before a mark a match may start.
    reach: usize,
}

/// A shape and the patterns that have it.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    pub shape: Shape,
    pub engines: Vec<usize>,
    /// Whether it is the shape of a mark.
    pub marked: bool,
}

impl Bucket {
    /// Of whatever either is.
    pub fn union(&self, other: &Self) -> Self {
        let mut engines = [&self.engines[..], &other.engines].concat();
        engines.sort_unstable();
        engines.dedup();
        Self {
            shape: self.shape.union(&other.shape),
            engines,
            marked: self.marked || other.marked,
        }
    }
}

impl ShapeSource {
    /// Makes the tables. The groups of the shapes may have been made ahead.
    pub fn new(shapes: Vec<Bucket>, engines: &[Arc<Engine>], groups: Option<&MadeGroups>) -> Self {
        // Patterns that differ further on only have the same shapes.
        let mut buckets: Vec<Bucket> = Vec::new();
        for bucket in shapes {
            let is_alike =
                |one: &&mut Bucket| (one.shape, one.marked) == (bucket.shape, bucket.marked);
            match buckets.iter_mut().find(is_alike) {
                Some(known) => *known = known.union(&bucket),
                None => buckets.push(bucket),
            }
        }
        shape::reduce(&mut buckets, WORDS * 64, Bucket::union, |a, b| {
            a.shape.union(&b.shape).rate() - a.shape.rate() - b.shape.rate()
        });
        let mut source = Self {
            sieve: match groups {
                Some(groups) => Sieve::of(groups),
                None => Sieve::new(buckets.iter().map(|bucket| &bucket.shape)),
            },
            before: Box::new([[0; WORDS]; 256]),
            places: Box::new([[[0; WORDS]; 256]; SPAN]),
            engines: Vec::new(),
            marked: [0; WORDS],
            reach: buckets
                .iter()
                .flat_map(|bucket| &bucket.engines)
                .filter_map(|&engine| engines[engine].mark.map(|mark| mark.most))
                .max()
                .unwrap_or(0),
        };
        for (index, bucket) in buckets.into_iter().enumerate() {
            let (word, bit) = (index / 64, 1u64 << (index % 64));
            let allow = |table: &mut [Wide; 256], set: &ByteSet| {
                set.iter()
                    .for_each(|byte| table[usize::from(byte)][word] |= bit);
            };
            allow(&mut source.before, &bucket.shape.before);
            for (table, set) in source.places.iter_mut().zip(&bucket.shape.places) {
                allow(table, set);
            }
            if bucket.marked {
                source.marked[word] |= bit;
            }
            source.engines.push(bucket.engines);
        }
        source
    }

    /// Calls `found` with each of these places where shapes fit, and those shapes.
    fn each_fit(
        &self,
        hay: &[u8],
        places: Range<usize>,
        mut found: impl FnMut(usize, Wide) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.sieve.each(hay, places.clone(), |passed| {
            for &at in passed {
                let shapes = self.fitting(hay, at);
                if shapes != [0; WORDS] {
                    found(at, shapes)?;
                }
            }
            ControlFlow::Continue(())
        })?;
        // Towards the end, places that are not there yet may become anything.
        let end = (hay.len() + 1).saturating_sub(WIDTH);
        for at in places.start.max(end)..places.end.min(hay.len() + 1) {
            let mut shapes = self.fitting(hay, at);
            if at == hay.len() {
                // Beyond the end there is only what may stand before a mark.
                shapes = and(shapes, &self.marked);
            }
            if shapes != [0; WORDS] {
                found(at, shapes)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Bytes of memory.
    fn memory(&self) -> usize {
        self.sieve.memory() + 256 * size_of::<Wide>() * (SPAN + 1)
    }

    /// The shapes that fit at a place.
    #[inline]
    fn fitting(&self, hay: &[u8], at: usize) -> Wide {
        // Of a known length, so that the compiler unrolls it.
        let around = hay.get(at.wrapping_sub(1)..);
        let Some([before, bytes @ ..]) = around.and_then(<[u8]>::first_chunk::<{ SPAN + 1 }>)
        else {
            return self.fitting_at_an_end(hay, at);
        };
        self.narrow(self.before[usize::from(*before)], bytes)
    }

    /// The same, where there is nothing before, or not enough behind.
    #[cold]
    fn fitting_at_an_end(&self, hay: &[u8], at: usize) -> Wide {
        let shapes = match look_behind(hay, at) {
            Some(byte) => self.before[usize::from(byte)],
            None => [u64::MAX; WORDS],
        };
        self.narrow(shapes, &hay[at..])
    }

    #[inline]
    fn narrow(&self, shapes: Wide, bytes: &[u8]) -> Wide {
        let places = bytes.iter().zip(self.places.iter());
        places.fold(shapes, |shapes, (&byte, table)| {
            and(shapes, &table[usize::from(byte)])
        })
    }

    /// Calls `visit` with each place at or after `from` and pattern where a match may start that
    /// begins, or has its mark, at one of these places.
    fn each_candidate(
        &self,
        engines: &[Arc<Engine>],
        hay: &[u8],
        from: usize,
        places: Range<usize>,
        mut visit: impl FnMut(Key) -> ControlFlow<()>,
        passed: impl Fn(usize) -> bool,
    ) {
        // Broken off or not, what was wanted has been visited.
        let _: ControlFlow<()> = self.each_fit(hay, places, |at, shapes| {
            if passed(at.saturating_sub(self.reach)) {
                return ControlFlow::Break(());
            }
            let words = shapes.into_iter().enumerate();
            let shapes = words.flat_map(|(i, word)| ones(word).map(move |bit| i * 64 + bit));
            for engine in shapes.flat_map(|shape| self.engines.get(shape)).flatten() {
                let engine = *engine;
                match engines[engine].mark {
                    None if at < hay.len() => visit(Key { start: at, engine })?,
                    None => {}
                    Some(_) if !engines[engine].is_marked(hay, at) => {}
                    Some(mark) => {
                        for start in mark.starts(hay, from, at) {
                            visit(Key { start, engine })?;
                        }
                    }
                }
            }
            ControlFlow::Continue(())
        });
    }
}

fn and(mut shapes: Wide, others: &Wide) -> Wide {
    for (word, other) in shapes.iter_mut().zip(others) {
        *word &= other;
    }
    shapes
}

impl Mark {
    /// Where a match may start whose mark stands at `at`.
    fn starts(&self, hay: &[u8], from: usize, at: usize) -> Range<usize> {
        let earliest = at.saturating_sub(self.most).max(from);
        let run = hay[earliest..at].iter().rev();
        let len = run.take_while(|&&byte| self.before.contains(byte)).count();
        // A mark that has come is part of the match even where nothing stands before it.
        at - len..(at + 1).min(hay.len())
    }
}

/// Finds literals by a hash of their first bytes.
#[derive(Debug)]
pub(crate) struct LiteralHeads {
    /// Bytes that are hashed.
    len: usize,
    /// Which hashes there are.
    bits: Vec<u64>,
    /// How far a hash is shifted to become an index of a bit.
    shift: u32,
    between: Between,
}

/// Most bytes of a literal that are hashed.
const HASHED: usize = 8;

impl LiteralHeads {
    /// For the literals of one pattern.
    pub fn new<L: AsRef<[u8]>>(literals: &[L], between: Between) -> Self {
        let shortest = literals.iter().map(|literal| literal.as_ref().len()).min();
        let len = shortest.unwrap_or(0).min(HASHED);
        // Sixty-four bits for a literal: one place in sixty-four is looked at in vain.
        let log2 = (literals.len() * 64)
            .next_power_of_two()
            .ilog2()
            .clamp(12, 22);
        let mut heads = Self {
            len,
            bits: vec![0; 1 << (log2 - 6)],
            shift: 64 - log2,
            between,
        };
        for literal in literals {
            let mut head = [0; HASHED];
            head[..len].copy_from_slice(&literal.as_ref()[..len]);
            let bit = heads.hash(u64::from_le_bytes(head));
            heads.bits[bit >> 6] |= 1 << (bit & 63);
        }
        heads
    }

    fn hash(&self, head: u64) -> usize {
        // The golden ratio, as multiplicative hashing has it.
        (head.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift) as usize
    }

    /// Bytes of memory.
    pub fn memory(&self) -> usize {
        size_of_val(&self.bits[..])
    }

    fn each_start(&self, hay: &[u8], from: usize, mut visit: impl FnMut(usize) -> ControlFlow<()>) {
        let mask = u64::MAX >> (64 - 8 * self.len);
        let mut at = from;
        // The next place of a sequence, which may stand within the head of a literal.
        let sequence = |at: usize| {
            let next = match self.between {
                Between::Nothing => None,
                Between::Sequences => hay[at..].iter().position(|&byte| byte == ESCAPE),
            };
            next.map_or(usize::MAX, |next| at + next)
        };
        let mut escape = sequence(from.min(hay.len()));
        while let Some(head) = hay.get(at..).and_then(|rest| rest.first_chunk::<HASHED>()) {
            if escape < at {
                escape = sequence(at);
            }
            let bit = self.hash(u64::from_le_bytes(*head) & mask);
            let may_be = self.bits[bit >> 6] >> (bit & 63) & 1 != 0 || escape < at + self.len;
            if may_be && visit(at).is_break() {
                return;
            }
            at += 1;
        }
        for start in at..hay.len() {
            if visit(start).is_break() {
                return;
            }
        }
    }
}

/// Finds one pattern whose beginning can look like almost anything, by walking an automaton over
/// everything.
#[derive(Debug)]
pub(crate) struct Sweeper {
    /// Finds matches that start anywhere. Without it each place is tried.
    anywhere: Option<RegexDfa>,
    /// What a match may begin with.
    first: ByteSet,
}

impl Sweeper {
    pub fn new(anywhere: Option<RegexDfa>, first: ByteSet) -> Self {
        Self { anywhere, first }
    }

    /// The automaton that starts anywhere, where there is one.
    pub fn anywhere(&self) -> Option<&RegexDfa> {
        self.anywhere.as_ref()
    }

    fn each_start(&self, hay: &[u8], from: usize, mut visit: impl FnMut(usize) -> ControlFlow<()>) {
        let mut from = from;
        while from < hay.len() {
            let until = match &self.anywhere {
                None => hay.len(),
                Some(dfa) => {
                    let sweep = dfa.sweep(hay, from);
                    from = sweep.clean;
                    sweep
                        .matched
                        .map_or(hay.len(), |at| (at + 1).min(hay.len()))
                }
            };
            let starts = hay.iter().enumerate().take(until).skip(from);
            for (start, &byte) in starts {
                if self.first.contains(byte) && visit(start).is_break() {
                    return;
                }
            }
            from = until.max(from + 1);
        }
    }
}

/// Finds patterns that hold a run, beside runs.
#[derive(Debug)]
pub(crate) struct RunSource {
    /// For each kind that some have.
    kinds: [Option<Beside>; KINDS],
}

/// Patterns that hold a run of one kind.
#[derive(Debug)]
struct Beside {
    source: ShapeSource,
    /// How far before the end of a run a match may start.
    reach: usize,
}

impl RunSource {
    /// For the shapes of patterns with runs of each kind.
    pub fn new(kinds: [Vec<Bucket>; KINDS], engines: &[Arc<Engine>]) -> Self {
        let mut groups = builtin_groups().iter();
        let beside = |buckets: Vec<Bucket>| {
            let groups = groups.next();
            let members = buckets.iter().flat_map(|bucket| &bucket.engines);
            let reaches = members.filter_map(|&engine| Some(engines[engine].run()?.reach));
            let reach = reaches.max()?;
            let source = ShapeSource::new(buckets, engines, groups);
            Some(Beside { source, reach })
        };
        Self {
            kinds: kinds.map(beside),
        }
    }

    /// Calls `visit` with places where shapes may begin.
    fn each_candidate(
        &self,
        engines: &[Arc<Engine>],
        hay: &[u8],
        from: usize,
        mut visit: impl FnMut(Key) -> ControlFlow<()>,
        passed: impl Fn(usize) -> bool,
    ) {
        let mut before = [0; KINDS];
        // Of each kind, what lies before is done.
        let mut done = [from; KINDS];
        let mut at = from;
        while at < hay.len() {
            let members = sieve::members(hay, at);
            for step in 0..members.steps {
                if passed(at.saturating_sub(REACH)) {
                    return;
                }
                let bytes = members.bytes[step];
                let all = ends(&before, &bytes);
                before = bytes;
                if all == [0; KINDS] {
                    at += STEP;
                    continue;
                }
                for (index, ends) in all.into_iter().enumerate().filter(|(_, ends)| *ends != 0) {
                    let Some(Beside { source, reach }) = &self.kinds[index] else {
                        continue;
                    };
                    let kind = Kind::ALL[index];
                    let [first, last] = [ends.trailing_zeros(), 63 - ends.leading_zeros()]
                        .map(|end| at + end as usize + 1);
                    let places = first.saturating_sub(*reach).max(done[index])
                        ..last + 1 - kind.len() + source.reach;
                    if !places.is_empty() {
                        done[index] = places.end;
                        source.each_candidate(engines, hay, from, places, &mut visit, &passed);
                    }
                }
                at += STEP;
            }
        }
        // Towards the end, runs may still come.
        for (beside, done) in self.kinds.iter().zip(done) {
            if let Some(Beside { source, reach }) = beside {
                let places = (hay.len() + 1).saturating_sub(*reach).max(done)..usize::MAX;
                source.each_candidate(engines, hay, from, places, &mut visit, &passed);
            }
        }
    }
}

/// One way to find candidates.
#[derive(Debug)]
pub(crate) enum Source {
    Shapes(ShapeSource),
    Runs(RunSource),
    Literals {
        heads: Arc<LiteralHeads>,
        engine: usize,
    },
    Sweep {
        sweeper: Arc<Sweeper>,
        engine: usize,
    },
}

impl Source {
    /// Calls `visit` with candidates at or after `from.start`, until it breaks. Within one source
    /// they come in no strict order; `passed` is asked whether the rest, none of which starts
    /// before its argument, is wanted.
    fn each_candidate(
        &self,
        engines: &[Arc<Engine>],
        hay: &[u8],
        from: usize,
        mut visit: impl FnMut(Key) -> ControlFlow<()>,
        passed: impl Fn(usize) -> bool,
    ) {
        let mut visit_in_order = |start, engine| {
            if passed(start) {
                return ControlFlow::Break(());
            }
            visit(Key { start, engine })
        };
        match self {
            Self::Shapes(source) => {
                source.each_candidate(engines, hay, from, from..usize::MAX, visit, passed);
            }
            Self::Runs(source) => source.each_candidate(engines, hay, from, visit, passed),
            Self::Literals { heads, engine } => {
                heads.each_start(hay, from, |start| visit_in_order(start, *engine));
            }
            Self::Sweep { sweeper, engine } => {
                sweeper.each_start(hay, from, |start| visit_in_order(start, *engine));
            }
        }
    }

    /// Bytes of memory, but for what belongs to an engine.
    pub fn memory(&self) -> usize {
        match self {
            Self::Shapes(source) => source.memory(),
            Self::Runs(source) => {
                let kinds = source.kinds.iter().flatten();
                kinds.map(|beside| beside.source.memory()).sum()
            }
            Self::Literals { .. } | Self::Sweep { .. } => 0,
        }
    }

    /// The first of what matches or may yet match, at `from` or later.
    pub fn next(
        &self,
        engines: &[Arc<Engine>],
        hay: Hay<'_>,
        from: Key,
        trails: &Trails,
    ) -> Option<Hit> {
        let best: Cell<Option<Hit>> = Cell::new(None);
        self.each_candidate(
            engines,
            hay.bytes,
            from.start,
            |key| {
                let is_wanted = key >= from && best.get().is_none_or(|best| key < best.key());
                if is_wanted
                    && let Some(kind) =
                        engines[key.engine].probe(hay, key.start, trails, key.engine)
                {
                    best.set(Some(Hit {
                        start: key.start,
                        engine: key.engine,
                        kind,
                    }));
                }
                ControlFlow::Continue(())
            },
            |earliest| best.get().is_some_and(|best| earliest > best.start),
        );
        best.get()
    }

    /// Everything that matches or may yet match, at `from` or later and before `until`, which may
    /// fall meanwhile; in no order.
    pub fn all(
        &self,
        engines: &[Arc<Engine>],
        hay: Hay<'_>,
        from: Key,
        until: &Cell<usize>,
        mut each: impl FnMut(Hit),
    ) {
        let trails = Trails::default();
        self.each_candidate(
            engines,
            hay.bytes,
            from.start,
            |key| {
                if key >= from
                    && key.start < until.get()
                    && let Some(kind) =
                        engines[key.engine].probe(hay, key.start, &trails, key.engine)
                {
                    each(Hit {
                        start: key.start,
                        engine: key.engine,
                        kind,
                    });
                }
                ControlFlow::Continue(())
            },
            |earliest| earliest >= until.get(),
        );
    }
}

impl Hit {
    pub fn key(&self) -> Key {
        Key {
            start: self.start,
            engine: self.engine,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::builtin::Builtin;
    use crate::matcher::Matcher;

    /// Pieces of what the built-ins look for, and of logs.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        let words = "AKIA|ghp_|xoxb-|4111-|1111| |password|=|:|::|eyJ|.|@a|://|192.0.2|fe80|+49|\
            (415) |555-|-----BEGIN|\n|\u{e9}|2026-11-24T04:05:06.123456Z|storage::cache|request|\0|_";
        let word = prop::sample::select(words.split('|').collect::<Vec<_>>());
        let piece = prop_oneof![
            4 => word.prop_map(|word| word.as_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 1..8),
            1 => (any::<u8>(), 1usize..100).prop_map(|(byte, len)| vec![byte; len]),
        ];
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    /// All built-ins.
    static MATCHER: LazyLock<Matcher> = LazyLock::new(|| {
        let patterns = Builtin::all().flat_map(Builtin::patterns);
        let engines = patterns.map(|pattern| Arc::new(pattern.engine(0)));
        Matcher::new(engines.collect())
    });

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn the_sieve_passes_over_nothing_that_fits(text in text(), from: prop::sample::Index) {
            let shapes = MATCHER.sources.iter().find_map(|source| match source {
                Source::Shapes(source) => Some(source),
                _ => None,
            });
            let source = shapes.expect("some built-ins are found by shapes");
            let from = from.index(text.len() + 1);
            let expected: Vec<_> = (from..=text.len())
                .map(|at| {
                    let shapes = source.fitting(&text, at);
                    let marked = and(shapes, &source.marked);
                    (at, if at < text.len() { shapes } else { marked })
                })
                .filter(|(_, shapes)| *shapes != [0; WORDS])
                .collect();
            let mut found = Vec::new();
            let all = source.each_fit(&text, from..usize::MAX, |at, shapes| {
                found.push((at, shapes));
                ControlFlow::Continue(())
            });
            prop_assert_eq!(all, ControlFlow::Continue(()));
            prop_assert_eq!(found, expected);
        }
    }
}
