//! Shapes: how the beginning of a match can look.
//!
//! A shape is one set of bytes for each of the first few places of a match (or of a fixed mark
//! inside it). Each pattern has a few of them, read off its automaton, so that text which fits no
//! shape of any pattern is passed over without a walk.

use std::collections::BTreeSet;

use crate::automaton::{Automaton, Next};
use crate::byteset::ByteSet;

/// Places that are looked at everywhere.
pub(crate) const NEAR: usize = 4;
/// Places that are looked at where the near ones fit.
pub(crate) const FAR: usize = 4;
/// All places.
pub(crate) const SPAN: usize = NEAR + FAR;

/// Shapes that one pattern may have at first; more are merged.
const MOST_PER_PATTERN: usize = 16;
/// Parallel paths through an automaton before they are taken together.
const MOST_PATHS: usize = 64;

/// How the beginning of a match can look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// What may stand before it.
    pub before: ByteSet,
    /// What may stand at each place.
    pub places: [ByteSet; SPAN],
}

impl Shape {
    /// Fits whatever either fits.
    pub fn union(&self, other: &Self) -> Self {
        let mut union = *self;
        union.before = union.before.union(&other.before);
        for (mine, theirs) in union.places.iter_mut().zip(&other.places) {
            *mine = mine.union(theirs);
        }
        union
    }

    /// Roughly how much of ordinary log text fits the near places.
    pub fn near_rate(&self) -> f64 {
        self.places[..NEAR].iter().map(share).product()
    }
}

/// Roughly how much of ordinary log text a set of bytes makes up.
fn share(set: &ByteSet) -> f64 {
    let weighed = WEIGHTS.iter().map(|(weight, bytes)| {
        let mut bytes = *bytes;
        bytes.intersect(set);
        weight * bytes.len() as f64
    });
    weighed.sum()
}

/// Bytes by how often one of them stands in logs: a rule of thumb.
const WEIGHTS: [(f64, ByteSet); 7] = [
    (0.040, ByteSet::of(b"etaoinsr")),
    (0.012, ByteSet::of(b"bcdfghjklmpquvwxyz")),
    (0.100, ByteSet::of(b" ")),
    (0.015, ByteSet::of(b"0123456789.,:-_/=\"")),
    (0.003, ByteSet::of(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ\n[]()")),
    (0.001, ByteSet::of(b"!#$%&'*+;<>?@\\^`{|}~\t")),
    (0.0001, {
        let mut rest = ByteSet::EMPTY;
        let mut byte = 0;
        while byte < 0x20 {
            if byte != b'\t' && byte != b'\n' {
                rest.insert(byte);
            }
            byte += 1;
        }
        byte = 0x7F;
        while byte < 0xFF {
            rest.insert(byte);
            byte += 1;
        }
        rest.insert(0xFF);
        rest
    }),
];

/// The shapes of an automaton's matches.
pub(crate) fn shapes(automaton: &Automaton) -> Vec<Shape> {
    let mut shapes: Vec<Shape> = automaton
        .starts()
        .into_iter()
        .flat_map(|(before, start)| {
            let paths = near_paths(automaton, start);
            paths
                .into_iter()
                .map(move |path| path.shape(automaton, before))
        })
        .collect();
    reduce(
        &mut shapes,
        MOST_PER_PATTERN,
        Shape::union,
        Shape::near_rate,
    );
    shapes
}

/// A set of texts that lead to the same states.
struct Path {
    places: Vec<ByteSet>,
    states: BTreeSet<u32>,
    rest: Rest,
}

/// What may follow a path, other than what leads to further states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// Nothing else.
    None,
    /// Only the end of the stream.
    End,
    /// Anything: a match may have ended.
    Any,
}

fn near_paths(automaton: &Automaton, start: u32) -> Vec<Path> {
    let mut paths = vec![Path {
        places: Vec::new(),
        states: BTreeSet::from([start]),
        rest: Rest::None,
    }];
    for _ in 0..NEAR {
        paths = paths
            .into_iter()
            .flat_map(|path| path.split(automaton))
            .collect();
        if paths.len() > MOST_PATHS {
            paths = join(paths);
        }
    }
    paths
}

impl Path {
    /// One place further, a path for each state that is led to.
    fn split(self, automaton: &Automaton) -> Vec<Self> {
        let mut any = (self.rest == Rest::Any).then_some(ByteSet::FULL);
        let mut end = self.rest == Rest::End;
        let mut by_state: Vec<(u32, ByteSet)> = Vec::new();
        for &state in &self.states {
            end |= automaton.matches_at_end(state);
            for byte in 0..=u8::MAX {
                match automaton.next(state, byte) {
                    Next::Dead => {}
                    Next::Matched => any.get_or_insert_default().insert(byte),
                    Next::State(next) => match by_state.iter_mut().find(|(id, _)| *id == next) {
                        Some((_, set)) => set.insert(byte),
                        None => by_state.push((next, ByteSet::from_iter([byte]))),
                    },
                }
            }
        }
        let then = |set, states, rest| Self {
            places: self.places.iter().copied().chain([set]).collect(),
            states,
            rest,
        };
        let further = by_state
            .into_iter()
            .map(|(state, set)| then(set, BTreeSet::from([state]), Rest::None));
        let any = any.map(|set| then(set, BTreeSet::new(), Rest::Any));
        // Where the stream has ended, no place is looked at: no byte has to fit.
        let end = end.then(|| then(ByteSet::EMPTY, BTreeSet::new(), Rest::End));
        further.chain(any).chain(end).collect()
    }

    /// The shape of the path, with what may stand at the far places.
    fn shape(self, automaton: &Automaton, before: ByteSet) -> Shape {
        let mut places = [ByteSet::FULL; SPAN];
        places[..NEAR].copy_from_slice(&self.places);
        let mut states = self.states;
        let mut any = self.rest == Rest::Any;
        for place in &mut places[NEAR..] {
            if any {
                break;
            }
            let mut set = ByteSet::EMPTY;
            let mut nexts = BTreeSet::new();
            for &state in &states {
                for byte in 0..=u8::MAX {
                    match automaton.next(state, byte) {
                        Next::Dead => continue,
                        Next::Matched => any = true,
                        Next::State(next) => drop(nexts.insert(next)),
                    }
                    set.insert(byte);
                }
            }
            *place = set;
            states = nexts;
        }
        Shape { before, places }
    }
}

/// Takes paths together that have come to the same states; where that is not enough, all of them.
fn join(paths: Vec<Path>) -> Vec<Path> {
    fn merge(into: &mut Path, path: Path) {
        for (mine, theirs) in into.places.iter_mut().zip(&path.places) {
            *mine = mine.union(theirs);
        }
        into.states.extend(path.states);
        if into.rest != path.rest {
            into.rest = Rest::Any;
        }
    }
    let mut joined: Vec<Path> = Vec::new();
    for path in paths {
        match joined
            .iter_mut()
            .find(|known| (known.rest, &known.states) == (path.rest, &path.states))
        {
            Some(known) => merge(known, path),
            None => joined.push(path),
        }
    }
    if joined.len() > MOST_PATHS {
        joined = joined
            .into_iter()
            .reduce(|mut all, path| {
                merge(&mut all, path);
                all
            })
            .into_iter()
            .collect();
    }
    joined
}

/// Merges items until no more than `most` are left, each time the two whose merging costs least.
pub(crate) fn reduce<T>(
    items: &mut Vec<T>,
    most: usize,
    union: impl Fn(&T, &T) -> T,
    rate: impl Fn(&T) -> f64,
) {
    if items.len() <= most {
        return;
    }
    let mut slots: Vec<Option<T>> = items.drain(..).map(Some).collect();
    let cost = |a: &T, b: &T| rate(&union(a, b)) - rate(a) - rate(b);
    // The cheapest partner of an item among those after it.
    let partner = |slots: &[Option<T>], at: usize| -> Option<(f64, usize)> {
        let item = slots[at].as_ref()?;
        let later = slots.iter().enumerate().skip(at + 1);
        later
            .filter_map(|(other, slot)| Some((cost(item, slot.as_ref()?), other)))
            .min_by(|a, b| a.0.total_cmp(&b.0))
    };
    let mut partners: Vec<_> = (0..slots.len()).map(|at| partner(&slots, at)).collect();
    for _ in most..slots.len() {
        let pairs = partners.iter().enumerate();
        let cheapest = pairs
            .filter_map(|(at, partner)| partner.map(|(cost, other)| (cost, at, other)))
            .min_by(|a, b| a.0.total_cmp(&b.0));
        let Some((_, at, other)) = cheapest else {
            break;
        };
        let (Some(item), Some(gone)) = (slots[at].take(), slots[other].take()) else {
            break;
        };
        slots[at] = Some(union(&item, &gone));
        for item in 0..slots.len() {
            let lost = partners[item].is_some_and(|(_, partner)| partner == at || partner == other);
            if lost || item == at || item == other {
                partners[item] = partner(&slots, item);
            } else if item < at
                && let (Some(one), Some(merged)) = (&slots[item], &slots[at])
            {
                let cost = cost(one, merged);
                if partners[item].is_none_or(|(best, _)| cost < best) {
                    partners[item] = Some((cost, at));
                }
            }
        }
    }
    items.extend(slots.into_iter().flatten());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_weight() {
        for byte in 0..=u8::MAX {
            let classes = WEIGHTS.iter().filter(|(_, set)| set.contains(byte));
            assert_eq!(classes.count(), 1, "{byte:#x}");
        }
        let all = share(&ByteSet::FULL);
        assert!((0.95..1.05).contains(&all), "{all}");
    }

    #[test]
    fn reduce_merges_the_cheapest_pairs() {
        // Intervals, whose cost is their length.
        let mut items = vec![(0, 1), (10, 11), (2, 3), (30, 31), (12, 13)];
        let union = |a: &(i32, i32), b: &(i32, i32)| (a.0.min(b.0), a.1.max(b.1));
        reduce(&mut items, 3, union, |item| f64::from(item.1 - item.0));
        items.sort_unstable();
        assert_eq!(items, [(0, 3), (10, 13), (30, 31)]);
    }
}
