//! The patterns of a set of rules, made ready to search with together.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::automaton::Trails;
use crate::builtin::{CLASSES, builtin_groups};
use crate::engine::{Engine, Hit, Lead};
use crate::run::KINDS;
use crate::scan::{Bucket, Hay, Key, RunSource, ShapeSource, Source};

/// The patterns of a set of rules, made ready to search with together. Earlier patterns have
/// priority over later ones that match at the same place.
#[derive(Debug, Default)]
pub(crate) struct Matcher {
    pub engines: Vec<Arc<Engine>>,
    pub sources: Vec<Source>,
    /// Some bytes before a match have to be known.
    pub looks_back: bool,
}

impl Matcher {
    pub fn new(engines: Vec<Arc<Engine>>) -> Self {
        let mut buckets = Vec::new();
        let mut builtin: [BTreeMap<usize, Bucket>; CLASSES] = Default::default();
        let mut sources = Vec::new();
        for (index, engine) in engines.iter().enumerate() {
            match &engine.lead {
                Lead::Shapes(shapes) => buckets.extend(shapes.iter().map(|&shape| Bucket {
                    shape,
                    engines: vec![index],
                    marked: engine.mark.is_some(),
                })),
                Lead::Builtin => {
                    let class = engine.class().unwrap_or(KINDS);
                    for (number, shape) in engine.builtin_shapes() {
                        let bucket = Bucket {
                            shape: *shape,
                            engines: vec![index],
                            marked: engine.mark.is_some(),
                        };
                        let known = builtin[class].entry(*number);
                        known
                            .and_modify(|known| *known = known.union(&bucket))
                            .or_insert(bucket);
                    }
                }
                Lead::Literals(heads) => sources.push(Source::Literals {
                    heads: Arc::clone(heads),
                    engine: index,
                }),
                Lead::Sweep(sweeper) => sources.push(Source::Sweep {
                    sweeper: Arc::clone(sweeper),
                    engine: index,
                }),
            }
        }
        let mut classes = builtin.map(|class| Vec::from_iter(class.into_values()));
        let beside: [Vec<Bucket>; KINDS] =
            std::array::from_fn(|kind| std::mem::take(&mut classes[kind]));
        if beside.iter().any(|buckets| !buckets.is_empty()) {
            sources.push(Source::Runs(RunSource::new(beside, &engines)));
        }
        for (buckets, groups) in classes.into_iter().zip(builtin_groups()) {
            if !buckets.is_empty() {
                sources.push(Source::Shapes(ShapeSource::new(
                    buckets,
                    &engines,
                    Some(groups),
                )));
            }
        }
        if !buckets.is_empty() {
            sources.push(Source::Shapes(ShapeSource::new(buckets, &engines, None)));
        }
        Self {
            looks_back: engines
                .iter()
                .any(|engine| engine.text_only || engine.check.is_some()),
            engines,
            sources,
        }
    }

    /// Bytes of memory.
    pub fn memory(&self) -> usize {
        let engines = self.engines.iter().map(|engine| engine.memory());
        let sources = self.sources.iter().map(Source::memory);
        engines.sum::<usize>() + sources.sum::<usize>()
    }
}

/// A search through one text, which keeps what each source has found ahead of the others.
#[derive(Debug)]
pub(crate) struct Search<'m> {
    matcher: &'m Matcher,
    ahead: Vec<Ahead>,
    trails: Trails,
}

/// What is known of a source.
#[derive(Clone, Copy, Debug)]
enum Ahead {
    Unknown,
    Hit(Hit),
    Nothing,
}

impl<'m> Search<'m> {
    pub fn new(matcher: &'m Matcher) -> Self {
        Self {
            matcher,
            ahead: vec![Ahead::Unknown; matcher.sources.len()],
            trails: Trails::default(),
        }
    }

    /// The first of what matches or may yet match in `hay`, at `from` or later. `hay` is the same
    /// in all calls, and `from` never falls.
    pub fn next(&mut self, hay: Hay<'_>, from: Key) -> Option<Hit> {
        for (ahead, source) in self.ahead.iter_mut().zip(&self.matcher.sources) {
            let is_known = match ahead {
                Ahead::Unknown => false,
                Ahead::Hit(hit) => hit.key() >= from,
                Ahead::Nothing => true,
            };
            if !is_known {
                let hit = source.next(&self.matcher.engines, hay, from, &self.trails);
                *ahead = hit.map_or(Ahead::Nothing, Ahead::Hit);
            }
        }
        let hits = self.ahead.iter().filter_map(|ahead| match ahead {
            Ahead::Hit(hit) => Some(*hit),
            _ => None,
        });
        hits.min_by_key(Hit::key)
    }
}
