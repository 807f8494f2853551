//! Which shapes are taken together.

use super::{NARROW, WIDTH, ones};
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

    /// What is looked at of it behind the first eight groups.
    fn narrow(mut self) -> Self {
        self.places[NARROW..].fill(Halves {
            low: u16::MAX,
            high: u16::MAX,
        });
        self
    }
}

pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The groups for these shapes.
pub(crate) fn groups<'s>(shapes: impl Iterator<Item = &'s Shape>) -> Vec<Group> {
    let sample = Sample::new();
    let mut tried: Vec<Tried> = shapes
        .map(|shape| sample.try_on(Group::of(shape)))
        .collect();
    shape::reduce(&mut tried, GROUPS, Tried::union, |a, b| {
        rate(a, b) - a.rate - b.rate
    });
    // All places are looked at for the groups that need it most.
    let by_need = |tried: &Tried| tried.rate - sample.try_on(tried.group.narrow()).rate;
    tried.sort_by(|a, b| by_need(a).total_cmp(&by_need(b)));
    let groups = tried.into_iter().enumerate();
    groups
        .map(|(index, tried)| match index {
            0..8 => tried.group,
            _ => tried.group.narrow(),
        })
        .collect()
}

/// A place in the sample each.
type Places = [u64; SAMPLE.len().div_ceil(64)];

/// Where in the sample a group might begin, by each half of each byte.
struct Sample {
    /// By what stands before: after another byte, after a byte of a word.
    before: [Places; 2],
    /// By the low half of the byte at each place, and by the high half.
    halves: [[[Places; 16]; 2]; WIDTH],
}

/// A group, tried on the sample.
struct Tried {
    group: Group,
    /// Where it might begin by what stands before, and by the halves of the byte at each place.
    before: Places,
    halves: [[Places; 2]; WIDTH],
    /// See [`rate`].
    rate: f64,
}

impl Sample {
    fn new() -> Box<Self> {
        let mut sample = Box::new(Self {
            before: [[0; _]; 2],
            halves: [[[[0; _]; 16]; 2]; WIDTH],
        });
        for (at, window) in SAMPLE.windows(WIDTH + 1).enumerate() {
            let (word, bit) = (at / 64, 1 << (at % 64));
            sample.before[usize::from(is_word(window[0]))][word] |= bit;
            for (&byte, [low, high]) in window[1..].iter().zip(&mut sample.halves) {
                low[usize::from(byte & 15)][word] |= bit;
                high[usize::from(byte >> 4)][word] |= bit;
            }
        }
        sample
    }

    fn try_on(&self, group: Group) -> Tried {
        let all = |by_half: &[Places; 16], halves: u16| {
            ones(halves.into()).fold([0; _], |all, half| or(&all, &by_half[half]))
        };
        let before = [group.after_other, group.after_word]
            .into_iter()
            .zip(&self.before)
            .filter(|(may, _)| *may)
            .fold([0; _], |all, (_, places)| or(&all, places));
        let halves = std::array::from_fn(|place| {
            let ([low, high], halves) = (&self.halves[place], group.places[place]);
            [all(low, halves.low), all(high, halves.high)]
        });
        Tried::new(group, before, halves)
    }
}

impl Tried {
    fn new(group: Group, before: Places, halves: [[Places; 2]; WIDTH]) -> Self {
        let mut tried = Self {
            group,
            before,
            halves,
            rate: 0.0,
        };
        tried.rate = rate(&tried, &tried);
        tried
    }

    fn union(&self, other: &Self) -> Self {
        let halves = std::array::from_fn(|place| {
            let (mine, theirs) = (&self.halves[place], &other.halves[place]);
            [or(&mine[0], &theirs[0]), or(&mine[1], &theirs[1])]
        });
        let before = or(&self.before, &other.before);
        Self::new(self.group.union(&other.group), before, halves)
    }
}

fn or(places: &Places, others: &Places) -> Places {
    std::array::from_fn(|word| places[word] | others[word])
}

/// How often the union of two groups might begin in a text like the sample and of its length.
fn rate(a: &Tried, b: &Tried) -> f64 {
    let mut begins = or(&a.before, &b.before);
    for (mine, theirs) in a.halves.iter().zip(&b.halves) {
        for (mine, theirs) in mine.iter().zip(theirs) {
            for (begins, (mine, theirs)) in begins.iter_mut().zip(mine.iter().zip(theirs)) {
                *begins &= mine | theirs;
            }
        }
    }
    let begins: u32 = begins.iter().map(|word| word.count_ones()).sum();
    // What the sample has not may still come: more of what has bytes that the sample has.
    let places = a.group.places.iter().zip(&b.group.places);
    let rare: f32 = places
        .map(|(mine, theirs)| share(mine.union(*theirs)))
        .product();
    f64::from(begins) + SAMPLE.len() as f64 * f64::from(rare)
}

/// How much of the sample is of these halves.
fn share(halves: Halves) -> f32 {
    static SHARES: [[f32; 16]; 16] = shares();
    let mut share = 0.0;
    for high in ones(halves.high.into()) {
        for low in ones(halves.low.into()) {
            share += SHARES[high][low];
        }
    }
    share
}

/// The share of each byte, by its high and low halves. What is not there counts a quarter.
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
