//! The first look at a text: which places may be the beginning of any shape at all.
//!
//! The shapes are taken together in a few groups, so few that a vector instruction can ask for all
//! of them at many places at once. What it lets through is looked at closely; nearly all of a text
//! falls through.

use std::ops::ControlFlow;

use crate::byteset::ByteSet;
use crate::shape::{self, Shape};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(any(target_arch = "x86_64", all(target_arch = "wasm32", target_feature = "simd128")))]
mod halves;
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod scalar;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd128;

/// Places that are looked at from the first of a match.
pub(crate) const WIDTH: usize = 6;

/// Groups of shapes, one bit each.
const GROUPS: usize = 16;

/// Most places that are looked at together.
const MOST_STEP: usize = 32;

/// Shapes taken together, with what the tables can tell of them: of a place, the sets of its
/// bytes' low and high halves, and of what stands before the first, whether it is of a word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    after_word: bool,
    after_other: bool,
    places: [Halves; WIDTH],
}

/// The low and high halves that the bytes of a set have, a bit for each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Halves {
    low: u16,
    high: u16,
}

impl Halves {
    fn of(set: &ByteSet) -> Self {
        let none = Self { low: 0, high: 0 };
        set.iter().fold(none, |halves, byte| Self {
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

    /// All bytes with such halves.
    fn bytes(self) -> ByteSet {
        (0..=u8::MAX)
            .filter(|byte| self.low >> (byte & 15) & self.high >> (byte >> 4) & 1 != 0)
            .collect()
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

    fn before(&self) -> ByteSet {
        (0..=u8::MAX)
            .filter(|&byte| {
                if is_word(byte) {
                    self.after_word
                } else {
                    self.after_other
                }
            })
            .collect()
    }

    /// Roughly how much of ordinary log text it lets through.
    fn rate(&self) -> f64 {
        let places = self.places.iter().map(|halves| halves.bytes());
        let sets: Vec<ByteSet> = [self.before()].into_iter().chain(places).collect();
        shape::rate(&sets)
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where something may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Nothing is before this index.
    at: usize,
    /// Which of the places from `at` on; none where too little text is left to look at a whole
    /// step.
    places: u32,
}

/// Looks for the groups, the way that this machine does it fastest.
#[derive(Debug)]
pub(crate) enum Sieve {
    #[cfg(target_arch = "x86_64")]
    Avx2(Box<avx2::Kernel>),
    #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
    Scalar(Box<scalar::Kernel>),
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    Simd128(Box<simd128::Kernel>),
}

impl Sieve {
    /// For these shapes.
    pub fn new<'s>(shapes: impl Iterator<Item = &'s Shape>) -> Self {
        let mut groups: Vec<Group> = shapes.map(Group::of).collect();
        shape::reduce(&mut groups, GROUPS, Group::union, Group::rate);
        Self::of(&groups)
    }

    #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
    fn of(groups: &[Group]) -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(kernel) = avx2::Kernel::new(groups) {
            return Self::Avx2(Box::new(kernel));
        }
        Self::Scalar(Box::new(scalar::Kernel::new(groups)))
    }

    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    fn of(groups: &[Group]) -> Self {
        Self::Simd128(Box::new(simd128::Kernel::new(groups)))
    }

    /// Bytes of memory.
    pub fn memory(&self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(kernel) => size_of_val(&**kernel),
            #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
            Self::Scalar(kernel) => size_of_val(&**kernel),
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Self::Simd128(kernel) => size_of_val(&**kernel),
        }
    }

    /// How many places are looked at together.
    fn step(&self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => avx2::STEP,
            #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
            Self::Scalar(_) => scalar::STEP,
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Self::Simd128(_) => simd128::STEP,
        }
    }

    /// The first step at or after `at` with a place where a shape may begin. A byte stands before
    /// `at`.
    fn find(&self, hay: &[u8], at: usize) -> Found {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(kernel) => kernel.find(hay, at),
            #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
            Self::Scalar(kernel) => kernel.find(hay, at),
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Self::Simd128(kernel) => kernel.find(hay, at),
        }
    }

    /// Calls `visit` with each place at or after `from` where a shape may begin, up to the last
    /// one that has [`WIDTH`] bytes.
    pub fn each(
        &self,
        hay: &[u8],
        from: usize,
        mut visit: impl FnMut(usize) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let end = (hay.len() + 1).saturating_sub(WIDTH);
        let mut at = from;
        if at == 0 && at < end {
            // Nothing stands before it.
            visit(0)?;
            at = 1;
        }
        while at < end {
            let mut found = self.find(hay, at);
            at = found.at;
            if found.places == 0 {
                break;
            }
            while found.places != 0 {
                visit(at + found.places.trailing_zeros() as usize)?;
                found.places &= found.places - 1;
            }
            at += self.step();
        }
        if at >= end {
            return ControlFlow::Continue(());
        }
        // Less than a step is left. What stands behind it in a full one concerns no place that is
        // asked for.
        let mut rest = [0; MOST_STEP + WIDTH];
        let left = &hay[at - 1..];
        rest[..left.len()].copy_from_slice(left);
        let mut places = self.find(&rest[..self.step() + WIDTH], 1).places;
        while places != 0 {
            let place = at + places.trailing_zeros() as usize;
            if place >= end {
                break;
            }
            visit(place)?;
            places &= places - 1;
        }
        ControlFlow::Continue(())
    }
}
