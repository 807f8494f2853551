//! The sieve by WebAssembly's vectors, which look 16 half bytes up at once.

use std::arch::wasm32::{
    u8x16_bitmask, u8x16_eq, u8x16_le, u8x16_ne, u8x16_shr, u8x16_splat, u8x16_sub, u8x16_swizzle,
    v128, v128_and, v128_any_true, v128_bitselect, v128_or,
};
use std::ops::Range;

use super::halves::Tables;
use super::{Found, Members, STEP, Window, windows};
use crate::groups::{Group, Look, WIDTH};
use crate::run::KINDS;

/// Bytes of a vector.
const LANES: usize = 16;

#[derive(Debug)]
pub(crate) struct Kernel {
    /// As [`Tables`] has them, the low halves' and the high halves'.
    places: [[[v128; 2]; 2]; WIDTH],
    after_word: [v128; 2],
    after_other: [v128; 2],
}

impl Kernel {
    pub fn new(groups: &[Group]) -> Self {
        let tables = Tables::new(groups);
        Self {
            places: tables
                .places
                .map(|tables| tables.map(|table| [load(&table.low), load(&table.high)])),
            after_word: tables.after_word.map(|groups| u8x16_splat(groups)),
            after_other: tables.after_other.map(|groups| u8x16_splat(groups)),
        }
    }

    /// What its tables tell.
    pub fn look() -> Look {
        Look::Halves
    }

    pub fn find(&self, hay: &[u8], at: usize, steps: usize) -> Found {
        let mut found = Found::default();
        for (places, window) in found.places.iter_mut().zip(windows(hay, at, steps)) {
            *places = self.places(window);
            found.steps += 1;
        }
        found
    }

    /// Adds a step for each block, as far as there is room.
    pub fn members(blocks: &[[u8; STEP]], members: &mut Members) {
        let room = &mut members.bytes[members.steps..];
        for (bytes, block) in room.iter_mut().zip(blocks) {
            let (quarters, _) = block.as_chunks::<LANES>();
            for (quarter, lanes) in quarters.iter().enumerate() {
                for (all, lanes) in bytes.iter_mut().zip(members_of(lanes)) {
                    *all |= u64::from(lanes) << (quarter * LANES);
                }
            }
            members.steps += 1;
        }
    }

    fn places(&self, window: &Window) -> u64 {
        let mut fits: Fits = std::array::from_fn(|part| {
            let word = words(at(window, 0, part));
            [0, 1].map(|half| v128_bitselect(self.after_word[half], self.after_other[half], word))
        });
        self.narrow(&mut fits, window, 0..FIRST);
        let none = u8x16_splat(0);
        let left = fits.as_flattened().iter();
        if v128_any_true(left.fold(none, |all, &fits| v128_or(all, fits))) {
            self.narrow(&mut fits, window, FIRST..WIDTH);
        }
        let parts = fits.iter().enumerate().map(|(part, fits)| {
            let fits = u8x16_ne(v128_or(fits[0], fits[1]), none);
            u64::from(u8x16_bitmask(fits)) << (part * LANES)
        });
        parts.fold(0, |places, part| places | part)
    }

    /// Leaves the groups that allow the bytes at these places.
    #[inline]
    fn narrow(&self, fits: &mut Fits, window: &Window, places: Range<usize>) {
        for place in places {
            for (part, fits) in fits.iter_mut().enumerate() {
                let bytes = at(window, place + 1, part);
                let low = v128_and(bytes, u8x16_splat(15));
                let high = u8x16_shr(bytes, 4);
                for (fits, [lows, highs]) in fits.iter_mut().zip(&self.places[place]) {
                    let lows = u8x16_swizzle(*lows, low);
                    let highs = u8x16_swizzle(*highs, high);
                    *fits = v128_and(*fits, v128_and(lows, highs));
                }
            }
        }
    }
}

/// The groups that are left at each place of a window: of each vector of places the first eight,
/// and the others.
type Fits = [[v128; 2]; STEP / LANES];

/// Places of a match that are looked at before it is asked whether anything is left: where shapes
/// are few or rare, nothing is in most windows.
const FIRST: usize = 3;

/// The bytes of a window that stand so many places behind the one before each place.
fn at(window: &Window, behind: usize, part: usize) -> v128 {
    let bytes = window[behind + part * LANES..].first_chunk();
    load(bytes.expect("all are there"))
}

/// The bytes of each kind of runs, as [`Kind::has`](crate::run::Kind::has) says.
fn members_of(bytes: &[u8; LANES]) -> [u16; KINDS] {
    let bytes = load(bytes);
    let is = |byte| u8x16_eq(bytes, u8x16_splat(byte));
    let letters = within(v128_or(bytes, u8x16_splat(0x20)), b'a', b'z');
    let alphanumeric = v128_or(letters, within(bytes, b'0', b'9'));
    let word = v128_or(alphanumeric, v128_or(is(b'_'), is(b'-')));
    let more = v128_or(within(bytes, b'+', b'9'), v128_or(is(b'='), is(b'~')));
    [alphanumeric, word, v128_or(word, more)].map(|members| u8x16_bitmask(members))
}

/// All ones where a byte is a letter, a digit or an underscore.
fn words(bytes: v128) -> v128 {
    let letters = within(v128_or(bytes, u8x16_splat(0x20)), b'a', b'z');
    let digits = within(bytes, b'0', b'9');
    let underscores = u8x16_eq(bytes, u8x16_splat(b'_'));
    v128_or(v128_or(letters, digits), underscores)
}

fn within(bytes: v128, first: u8, last: u8) -> v128 {
    u8x16_le(
        u8x16_sub(bytes, u8x16_splat(first)),
        u8x16_splat(last - first),
    )
}

#[expect(unsafe_code, reason = "vectors are read by pointers")]
fn load(bytes: &[u8; LANES]) -> v128 {
    // SAFETY: it is as long as the vector, and all bits are values of both.
    unsafe { std::mem::transmute(*bytes) }
}
