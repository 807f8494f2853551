//! Which shapes are taken together.

use crate::byteset::ByteSet;
use crate::shape::{self, Shape};

/// Groups of shapes, one bit each.
pub(crate) const GROUPS: usize = 16;

/// Places that are looked at from the first of a match.
pub(crate) const WIDTH: usize = 8;

/// Lines as many kinds of programs log them: what shapes should rather not be found in.
const SAMPLE: &[u8] = include_bytes!("sample.log");

/// Shapes taken together: the bytes that may stand at each place, and of what stands before the
/// first, whether it is of a word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    pub after_word: bool,
    pub after_other: bool,
    pub places: [ByteSet; WIDTH],
}

/// What tables can tell of the bytes at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Which they are, but for the highest bit.
    #[allow(dead_code)] // WebAssembly has no such tables.
    Bytes,
    /// The sets of their low and high halves.
    Halves,
}

/// What is left of a byte without its highest bit.
pub(crate) const SEVEN_BITS: u8 = 0x7f;

/// The low and high halves that the bytes of a set have, a bit for each.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Halves {
    pub low: u16,
    pub high: u16,
}

impl Halves {
    pub fn of(set: &ByteSet) -> Self {
        set.iter().fold(Self::default(), |halves, byte| Self {
            low: halves.low | 1 << (byte & 15),
            high: halves.high | 1 << (byte >> 4),
        })
    }

    pub fn has(self, byte: u8) -> bool {
        self.low >> (byte & 15) & self.high >> (byte >> 4) & 1 != 0
    }
}

impl Look {
    /// The bytes that a table takes for those of a set.
    pub fn seen(self, set: &ByteSet) -> ByteSet {
        let halves = Halves::of(set);
        let is_seen = |byte: &u8| match self {
            Self::Bytes => set.contains(*byte) || set.contains(*byte ^ !SEVEN_BITS),
            Self::Halves => halves.has(*byte),
        };
        (0..=u8::MAX).filter(is_seen).collect()
    }
}

impl Group {
    fn of(shape: &Shape) -> Self {
        Self {
            after_word: shape.before.iter().any(is_word),
            after_other: shape.before.iter().any(|byte| !is_word(byte)),
            places: std::array::from_fn(|place| shape.places[place]),
        }
    }

    fn union(&self, other: &Self) -> Self {
        Self {
            after_word: self.after_word || other.after_word,
            after_other: self.after_other || other.after_other,
            places: std::array::from_fn(|place| self.places[place].union(&other.places[place])),
        }
    }
}

pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The groups for these shapes, for tables that look at bytes so.
pub(crate) fn groups<'s>(shapes: impl Iterator<Item = &'s Shape>, look: Look) -> Vec<Group> {
    let sample = Sample::new(look);
    let mut tried: Vec<Tried> = shapes
        .map(|shape| sample.try_on(Group::of(shape)))
        .collect();
    shape::reduce(
        &mut tried,
        GROUPS,
        |a, b| sample.union(a, b),
        |a, b| sample.rate(a, b) - a.rate - b.rate,
    );
    tried.into_iter().map(|tried| tried.group).collect()
}

/// A place in the sample each.
type Places = [u64; SAMPLE.len().div_ceil(64)];

/// Most sets of places that are kept of each place of a group.
const PARTS: usize = 2;

/// Where in the sample a group might begin, by each byte or half of one.
struct Sample {
    look: Look,
    /// By what stands before: after another byte, after a byte of a word.
    before: [Places; 2],
    /// By the byte at each place, or by its low and by its high half.
    parts: [[Vec<Places>; PARTS]; WIDTH],
    /// How much of it each byte is. What is not there counts a quarter.
    shares: [f64; 256],
}

/// A group, tried on the sample.
struct Tried {
    group: Group,
    /// Where it might begin by what stands before, and by each part of the byte at each place.
    before: Places,
    parts: [[Places; PARTS]; WIDTH],
    /// See [`Sample::rate`].
    rate: f64,
}

impl Sample {
    fn new(look: Look) -> Self {
        let mut sample = Self {
            look,
            before: [[0; _]; 2],
            parts: std::array::from_fn(|_| match look {
                Look::Bytes => [vec![[0; _]; 128], Vec::new()],
                Look::Halves => [vec![[0; _]; 16], vec![[0; _]; 16]],
            }),
            shares: [0.25; 256],
        };
        for (at, window) in SAMPLE.windows(WIDTH + 1).enumerate() {
            let (word, bit) = (at / 64, 1 << (at % 64));
            sample.before[usize::from(is_word(window[0]))][word] |= bit;
            for (&byte, [first, second]) in window[1..].iter().zip(&mut sample.parts) {
                match look {
                    Look::Bytes => first[usize::from(byte & SEVEN_BITS)][word] |= bit,
                    Look::Halves => {
                        first[usize::from(byte & 15)][word] |= bit;
                        second[usize::from(byte >> 4)][word] |= bit;
                    }
                }
            }
        }
        for &byte in SAMPLE {
            sample.shares[usize::from(byte)] += 1.0;
        }
        let all: f64 = sample.shares.iter().sum();
        sample.shares.iter_mut().for_each(|share| *share /= all);
        sample
    }

    fn try_on(&self, group: Group) -> Tried {
        let any = |places: &mut dyn Iterator<Item = &Places>| {
            places.fold([0; _], |all, places| or(&all, places))
        };
        let before = [group.after_other, group.after_word].into_iter();
        let before = before.zip(&self.before).filter(|(may, _)| *may);
        let before = any(&mut before.map(|(_, places)| places));
        let parts = std::array::from_fn(|place| {
            let (set, [first, second]) = (&group.places[place], &self.parts[place]);
            let of =
                |bits: u16, parts: &[Places]| any(&mut ones(bits.into()).map(|bit| &parts[bit]));
            match self.look {
                Look::Bytes => {
                    let all = any(&mut set
                        .iter()
                        .map(|byte| &first[usize::from(byte & SEVEN_BITS)]));
                    [all, [u64::MAX; _]]
                }
                Look::Halves => {
                    let Halves { low, high } = Halves::of(set);
                    [of(low, first), of(high, second)]
                }
            }
        });
        self.rated(Tried {
            group,
            before,
            parts,
            rate: 0.0,
        })
    }

    fn rated(&self, mut tried: Tried) -> Tried {
        tried.rate = self.rate(&tried, &tried);
        tried
    }

    fn union(&self, a: &Tried, b: &Tried) -> Tried {
        self.rated(Tried {
            group: a.group.union(&b.group),
            before: or(&a.before, &b.before),
            parts: std::array::from_fn(|place| {
                std::array::from_fn(|part| or(&a.parts[place][part], &b.parts[place][part]))
            }),
            rate: 0.0,
        })
    }

    /// How often the union of two groups might begin in a text like the sample and of its length.
    fn rate(&self, a: &Tried, b: &Tried) -> f64 {
        let mut begins = or(&a.before, &b.before);
        for (mine, theirs) in a.parts.iter().zip(&b.parts) {
            for (mine, theirs) in mine.iter().zip(theirs) {
                for (begins, (mine, theirs)) in begins.iter_mut().zip(mine.iter().zip(theirs)) {
                    *begins &= mine | theirs;
                }
            }
        }
        let begins: u32 = begins.iter().map(|word| word.count_ones()).sum();
        // What the sample has not may still come: more of what has bytes that the sample has.
        let places = a.group.places.iter().zip(&b.group.places);
        let shares = places.map(|(mine, theirs)| {
            let seen = self.look.seen(&mine.union(theirs));
            seen.iter()
                .map(|byte| self.shares[usize::from(byte)])
                .sum::<f64>()
        });
        f64::from(begins) + SAMPLE.len() as f64 * shares.product::<f64>()
    }
}

fn or(places: &Places, others: &Places) -> Places {
    std::array::from_fn(|word| places[word] | others[word])
}

/// The indices of the bits that are set.
pub(crate) fn ones(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
        word &= word - 1;
        Some(bit)
    })
}
