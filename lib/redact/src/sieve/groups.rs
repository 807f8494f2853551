//! Which shapes are taken together.

use super::{WIDTH, ones};
use crate::byteset::ByteSet;
use crate::shape::{self, Shape};

/// Groups of shapes, one bit each.
const GROUPS: usize = 16;

/// Lines as many kinds of programs log them: what shapes should rather not be found in.
const SAMPLE: &[u8] = include_bytes!("sample.log");

/// Shapes taken together, with what the tables can tell of them: of a place, the sets of its
/// bytes' low and high halves, and of what stands before the first, whether it is of a word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    pub after_word: bool,
    pub after_other: bool,
    pub places: [Halves; WIDTH],
}

/// The low and high halves that the bytes of a set have, a bit for each.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Halves {
    pub low: u16,
    pub high: u16,
}

impl Halves {
    fn of(set: &ByteSet) -> Self {
        set.iter().fold(Self::default(), |halves, byte| Self {
            low: halves.low | 1 << (byte & 15),
            high: halves.high | 1 << (byte >> 4),
        })
    }

    fn union(self, other: Self) -> Self {
        Self {
            low: self.low | other.low,
            high: self.high | other.high,
        }
    }
}

impl Group {
    fn of(shape: &Shape) -> Self {
        Self {
            after_word: shape.before.iter().any(is_word),
            after_other: shape.before.iter().any(|byte| !is_word(byte)),
            places: std::array::from_fn(|place| Halves::of(&shape.places[place])),
        }
    }

    fn union(&self, other: &Self) -> Self {
        Self {
            after_word: self.after_word || other.after_word,
            after_other: self.after_other || other.after_other,
            places: std::array::from_fn(|place| self.places[place].union(other.places[place])),
        }
    }

    /// Whether a byte may stand before the first place.
    pub fn may_follow(&self, byte: u8) -> bool {
        if is_word(byte) {
            self.after_word
        } else {
            self.after_other
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The groups for these shapes.
pub(crate) fn groups<'s>(shapes: impl Iterator<Item = &'s Shape>) -> Vec<Group> {
    let mut tried: Vec<Tried> = shapes.map(|shape| Tried::new(Group::of(shape))).collect();
    shape::reduce(&mut tried, GROUPS, Tried::union, |tried| tried.rate);
    tried.into_iter().map(|tried| tried.group).collect()
}

/// A place in the sample each.
type Places = [u64; SAMPLE.len().div_ceil(64)];

/// A group, tried on the sample.
#[derive(Clone)]
struct Tried {
    group: Group,
    /// Where it may begin by what stands before.
    before: Places,
    /// Where it may begin by the low half of the byte at each place, and by the high half.
    halves: [[Places; 2]; WIDTH],
    rate: f64,
}

impl Tried {
    fn new(group: Group) -> Self {
        let mut before = [0; _];
        let mut halves = [[[0; _]; 2]; WIDTH];
        let set = |places: &mut Places, at: usize| places[at / 64] |= 1 << (at % 64);
        for (at, window) in SAMPLE.windows(WIDTH + 1).enumerate() {
            if group.may_follow(window[0]) {
                set(&mut before, at);
            }
            let bytes = window[1..].iter().zip(&group.places);
            for ((byte, allowed), [low, high]) in bytes.zip(&mut halves) {
                if allowed.low >> (byte & 15) & 1 != 0 {
                    set(low, at);
                }
                if allowed.high >> (byte >> 4) & 1 != 0 {
                    set(high, at);
                }
            }
        }
        Self::rated(group, before, halves)
    }

    fn union(&self, other: &Self) -> Self {
        fn or(mut places: Places, others: &Places) -> Places {
            for (word, other) in places.iter_mut().zip(others) {
                *word |= other;
            }
            places
        }
        Self::rated(
            self.group.union(&other.group),
            or(self.before, &other.before),
            std::array::from_fn(|place| {
                let both = self.halves[place].iter().zip(&other.halves[place]);
                let mut halves = both.map(|(mine, theirs)| or(*mine, theirs));
                std::array::from_fn(|_| halves.next().unwrap_or([0; _]))
            }),
        )
    }

    fn rated(group: Group, before: Places, halves: [[Places; 2]; WIDTH]) -> Self {
        let begins: u32 = before
            .iter()
            .enumerate()
            .map(|(i, word)| {
                let words = halves.iter().flatten().map(|places| places[i]);
                words.fold(*word, |all, word| all & word).count_ones()
            })
            .sum();
        // What the sample has not may still come: more of what has bytes that the sample has.
        let rare: f32 = group.places.iter().map(share).product();
        Self {
            group,
            before,
            halves,
            rate: f64::from(begins) + SAMPLE.len() as f64 * f64::from(rare),
        }
    }
}

/// How much of the sample is of these halves.
fn share(halves: &Halves) -> f32 {
    static SHARES: [[f32; 16]; 16] = shares();
    let mut share = 0.0;
    for high in ones(halves.high.into()) {
        for low in ones(halves.low.into()) {
            share += SHARES[high][low];
        }
    }
    share
}

/// The share of each byte, by its high and low halves; none is nothing at all.
const fn shares() -> [[f32; 16]; 16] {
    let mut counts = [[1u16; 16]; 16];
    let mut at = 0;
    while at < SAMPLE.len() {
        counts[(SAMPLE[at] >> 4) as usize][(SAMPLE[at] & 15) as usize] += 4;
        at += 1;
    }
    let mut shares = [[0.0; 16]; 16];
    let mut byte = 0;
    while byte < 256 {
        let count = counts[byte >> 4][byte & 15];
        shares[byte >> 4][byte & 15] = count as f32 / (4 * SAMPLE.len() + 256) as f32;
        byte += 1;
    }
    shares
}
