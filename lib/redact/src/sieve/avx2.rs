//! The sieve by AVX2, which looks 32 half bytes up at once.

use std::arch::x86_64::{
    __m256i, _mm256_add_epi8, _mm256_and_si256, _mm256_blendv_epi8, _mm256_cmpeq_epi8,
    _mm256_min_epu8, _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8, _mm256_setzero_si256,
    _mm256_shuffle_epi8, _mm256_srli_epi16,
};

use super::halves::Tables;
use super::{Found, Members, STEP, Window, windows};
use crate::groups::{Group, WIDTH};
use crate::run::KINDS;

/// Bytes of a vector.
const LANES: usize = 32;

/// There is one only where the machine has AVX2.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// As [`Tables`] has them, the low halves' and the high halves', once for each half of a
    /// vector.
    places: [[[__m256i; 2]; 2]; WIDTH],
    after_word: [u8; 2],
    after_other: [u8; 2],
}

impl Kernel {
    /// None without AVX2.
    pub fn new(groups: &[Group]) -> Option<Self> {
        if !is_there() {
            return None;
        }
        let tables = Tables::new(groups);
        let twice = |table: [u8; 16]| load(&std::array::from_fn(|i| table[i % 16]));
        Some(Self {
            places: tables
                .places
                .map(|tables| tables.map(|table| [twice(table.low), twice(table.high)])),
            after_word: tables.after_word,
            after_other: tables.after_other,
        })
    }

    #[expect(unsafe_code, reason = "what needs AVX2 is called by what does not")]
    pub fn find(&self, hay: &[u8], at: usize, steps: usize) -> Found {
        // SAFETY: it needs nothing but AVX2, which the machine has where there is a kernel.
        unsafe { self.find_by_avx2(hay, at, steps) }
    }

    #[target_feature(enable = "avx2")]
    fn find_by_avx2(&self, hay: &[u8], at: usize, steps: usize) -> Found {
        let mut found = Found::default();
        for (places, window) in found.places.iter_mut().zip(windows(hay, at, steps)) {
            let [first, second] = [0, LANES].map(|from| self.look(window, from));
            *places = u64::from(second) << LANES | u64::from(first);
            found.steps += 1;
        }
        found
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn look(&self, window: &Window, from: usize) -> u32 {
        let at = |place| load(window[from + place..].first_chunk().expect("all are there"));
        let word = words(at(0));
        let mut fits = [0, 1].map(|half| {
            _mm256_blendv_epi8(
                splat(self.after_other[half]),
                splat(self.after_word[half]),
                word,
            )
        });
        for (place, tables) in self.places.iter().enumerate() {
            let bytes = at(place + 1);
            let low = _mm256_and_si256(bytes, splat(15));
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), splat(15));
            for (fits, [lows, highs]) in fits.iter_mut().zip(tables) {
                let lows = _mm256_shuffle_epi8(*lows, low);
                let highs = _mm256_shuffle_epi8(*highs, high);
                *fits = _mm256_and_si256(*fits, _mm256_and_si256(lows, highs));
            }
        }
        let none = _mm256_cmpeq_epi8(_mm256_or_si256(fits[0], fits[1]), _mm256_setzero_si256());
        !_mm256_movemask_epi8(none).cast_unsigned()
    }
}

/// Whether the machine has AVX2.
pub(super) fn is_there() -> bool {
    is_x86_feature_detected!("avx2")
}

/// Adds a step for each block, as far as there is room.
#[target_feature(enable = "avx2")]
pub(super) fn members(blocks: &[[u8; STEP]], members: &mut Members) {
    let room = &mut members.bytes[members.steps..];
    for (bytes, block) in room.iter_mut().zip(blocks) {
        let (halves, _) = block.as_chunks::<LANES>();
        for (half, lanes) in halves.iter().enumerate() {
            for (all, lanes) in bytes.iter_mut().zip(members_of(lanes)) {
                *all |= u64::from(lanes) << (half * LANES);
            }
        }
        members.steps += 1;
    }
}

/// The bytes of each kind of runs, as [`Kind::has`](crate::run::Kind::has) says.
#[inline]
#[target_feature(enable = "avx2")]
fn members_of(bytes: &[u8; LANES]) -> [u32; KINDS] {
    let bytes = load(bytes);
    let is = |byte| _mm256_cmpeq_epi8(bytes, splat(byte));
    let or = |a, b| _mm256_or_si256(a, b);
    let letters = within(or(bytes, splat(0x20)), b'a', b'z');
    let alphanumeric = or(letters, within(bytes, b'0', b'9'));
    let word = or(alphanumeric, or(is(b'_'), is(b'-')));
    let token = or(or(word, within(bytes, b'+', b'9')), or(is(b'='), is(b'~')));
    [alphanumeric, word, token].map(|members| _mm256_movemask_epi8(members).cast_unsigned())
}

/// All ones where a byte is a letter, a digit or an underscore.
#[inline]
#[target_feature(enable = "avx2")]
fn words(bytes: __m256i) -> __m256i {
    let letters = within(_mm256_or_si256(bytes, splat(0x20)), b'a', b'z');
    let digits = within(bytes, b'0', b'9');
    let underscores = _mm256_cmpeq_epi8(bytes, splat(b'_'));
    _mm256_or_si256(_mm256_or_si256(letters, digits), underscores)
}

#[inline]
#[target_feature(enable = "avx2")]
fn within(bytes: __m256i, first: u8, last: u8) -> __m256i {
    let above = _mm256_add_epi8(bytes, splat(first.wrapping_neg()));
    _mm256_cmpeq_epi8(_mm256_min_epu8(above, splat(last - first)), above)
}

#[inline]
#[target_feature(enable = "avx2")]
fn splat(byte: u8) -> __m256i {
    _mm256_set1_epi8(byte.cast_signed())
}

#[inline]
#[expect(unsafe_code, reason = "vectors are read by pointers")]
fn load(bytes: &[u8; LANES]) -> __m256i {
    // SAFETY: it is as long as the vector, and all bits are values of both.
    unsafe { std::mem::transmute(*bytes) }
}
