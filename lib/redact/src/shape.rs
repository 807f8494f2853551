//! Shapes: how the beginning of a match can look.
//!
//! A shape is one set of bytes for each of the first few places of a match (or of a fixed mark
//! inside it). Each pattern has a few of them, read off its automaton, so that text which fits no
//! shape of any pattern is passed over without a walk.

use std::collections::BTreeSet;

use crate::automaton::{Automaton, Next, State};
use crate::byteset::ByteSet;

/// Places whose sets are told apart as the automaton does.
pub(crate) const NEAR: usize = 4;
/// Places that are looked at where the near ones fit.
pub(crate) const SPAN: usize = 8;

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
    /// Whether a text fits, as far as there is any.
    pub fn fits(&self, before: Option<u8>, text: &[u8]) -> bool {
        let mut places = self.places.iter().zip(text);
        before.is_none_or(|byte| self.before.contains(byte))
            && places.all(|(set, &byte)| set.contains(byte))
    }

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
        rate(&self.places[..NEAR])
    }

    /// Roughly how much of ordinary log text fits all places.
    pub fn rate(&self) -> f64 {
        rate(&self.places)
    }
}

/// Roughly how often ordinary log text has these sets of bytes one after the other: a Markov chain
/// of the kinds of bytes, for digits stand beside digits and letters beside letters.
fn rate(places: &[ByteSet]) -> f64 {
    let mut kinds = FIRST;
    for (i, set) in places.iter().enumerate() {
        if i > 0 {
            kinds = std::array::from_fn(|to| {
                let from = kinds.iter().zip(&NEXT);
                from.map(|(share, next)| share * next[to]).sum()
            });
        }
        for (share, kind) in kinds.iter_mut().zip(&KINDS) {
            *share *= part_of(kind, set);
        }
    }
    kinds.iter().sum()
}

/// Digits, small letters, capital letters, and the rest.
const KINDS: [&[(f64, ByteSet)]; 4] = [
    &[(0.1, ByteSet::of(b"0123456789"))],
    &[
        (0.075, ByteSet::of(b"etaoinsr")),
        (0.0222, ByteSet::of(b"bcdfghjklmpquvwxyz")),
    ],
    &[(0.0385, ByteSet::of(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"))],
    &[
        (0.3, ByteSet::of(b" ")),
        (0.07, ByteSet::of(b".,:-_/=\"")),
        (0.0054, ByteSet::of(b"\n\t!#$%&'()*+;<>?@[\\]^`{|}~")),
    ],
];

/// How much of a log each kind makes up, and what follows each: rules of thumb.
const FIRST: [f64; 4] = [0.22, 0.47, 0.05, 0.26];
const NEXT: [[f64; 4]; 4] = [
    [0.60, 0.02, 0.02, 0.36],
    [0.02, 0.82, 0.01, 0.15],
    [0.02, 0.20, 0.58, 0.20],
    [0.30, 0.45, 0.10, 0.15],
];

/// How much of a kind of bytes a set holds.
fn part_of(kind: &[(f64, ByteSet)], set: &ByteSet) -> f64 {
    let parts = kind.iter().map(|(weight, bytes)| {
        let mut bytes = *bytes;
        bytes.intersect(set);
        weight * f64::from(bytes.len())
    });
    parts.sum()
}

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
    let cost = |a: &Shape, b: &Shape| a.union(b).near_rate() - a.near_rate() - b.near_rate();
    reduce(&mut shapes, MOST_PER_PATTERN, Shape::union, cost);
    shapes
}

/// A set of texts that lead to the same states.
struct Path {
    places: Vec<ByteSet>,
    states: BTreeSet<State>,
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

fn near_paths(automaton: &Automaton, start: State) -> Vec<Path> {
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
        let mut by_state: Vec<(State, ByteSet)> = Vec::new();
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
    cost: impl Fn(&T, &T) -> f64,
) {
    if items.len() <= most {
        return;
    }
    let mut slots: Vec<Option<T>> = items.drain(..).map(Some).collect();
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
    fn rates_are_shares() {
        for kind in KINDS {
            let all = part_of(kind, &ByteSet::FULL);
            assert!((0.99..1.01).contains(&all), "{all}");
        }
        for shares in NEXT.iter().chain([&FIRST]) {
            assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
        let digits = ByteSet::of(b"0123456789");
        // Numbers of four digits are far from rare.
        assert!(rate(&[digits; 4]) > 0.02);
        assert!(rate(&[ByteSet::FULL; 8]) > 0.95);
    }

    #[test]
    fn reduce_merges_the_cheapest_pairs() {
        // Intervals, whose cost is their length.
        let mut items = vec![(0, 1), (10, 11), (2, 3), (30, 31), (12, 13)];
        let union = |a: &(i32, i32), b: &(i32, i32)| (a.0.min(b.0), a.1.max(b.1));
        let len = |item: (i32, i32)| f64::from(item.1 - item.0);
        reduce(&mut items, 3, union, |a, b| {
            len(union(a, b)) - len(*a) - len(*b)
        });
        items.sort_unstable();
        assert_eq!(items, [(0, 3), (10, 13), (30, 31)]);
    }
}
