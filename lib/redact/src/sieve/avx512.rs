//! The sieve by AVX-512, which looks 64 bytes up at once.

use std::arch::x86_64::{
    __m512i, _mm512_and_si512, _mm512_cmpeq_epi8_mask, _mm512_cmple_epu8_mask,
    _mm512_mask_blend_epi8, _mm512_or_si512, _mm512_permutex2var_epi8, _mm512_set1_epi8,
    _mm512_sub_epi8, _mm512_test_epi8_mask,
};

use super::{Found, Members, STEP, Window, windows};
use crate::groups::{Group, SEVEN_BITS, WIDTH};
use crate::run::KINDS;

/// There is one only where the machine has AVX-512 for permutations of bytes.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// For the first eight groups and the others: which of them allow each value of seven bits at
    /// each place, in two vectors.
    places: [[[__m512i; 2]; 2]; WIDTH],
    after_word: [u8; 2],
    after_other: [u8; 2],
}

impl Kernel {
    /// None without AVX-512.
    pub fn new(groups: &[Group]) -> Option<Self> {
        if !is_there() {
            return None;
        }
        let mut places = [[[[0; STEP]; 2]; 2]; WIDTH];
        let (mut after_word, mut after_other) = ([0; 2], [0; 2]);
        for (index, group) in groups.iter().enumerate() {
            let (half, bit) = (index / 8, 1u8 << (index % 8));
            after_word[half] |= bit * u8::from(group.after_word);
            after_other[half] |= bit * u8::from(group.after_other);
            for (place, set) in places.iter_mut().zip(&group.places) {
                for byte in set.iter().map(|byte| usize::from(byte & SEVEN_BITS)) {
                    place[half][byte / STEP][byte % STEP] |= bit;
                }
            }
        }
        Some(Self {
            places: places.map(|place| place.map(|half| half.map(|table| load(&table)))),
            after_word,
            after_other,
        })
    }

    #[expect(unsafe_code, reason = "what needs AVX-512 is called by what does not")]
    pub fn find(&self, hay: &[u8], at: usize, steps: usize) -> Found {
        // SAFETY: it needs nothing but AVX-512 for bytes and their permutations, which the machine
        // has where there is a kernel.
        unsafe { self.find_by_avx512(hay, at, steps) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn find_by_avx512(&self, hay: &[u8], at: usize, steps: usize) -> Found {
        let mut found = Found::default();
        for (places, window) in found.places.iter_mut().zip(windows(hay, at, steps)) {
            *places = self.places(window);
            found.steps += 1;
        }
        found
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn places(&self, window: &Window) -> u64 {
        let at = |place| load(window[place..].first_chunk().expect("all are there"));
        let word = words(at(0));
        let mut fits = [0, 1].map(|half| {
            _mm512_mask_blend_epi8(
                word,
                splat(self.after_other[half]),
                splat(self.after_word[half]),
            )
        });
        for (place, tables) in self.places.iter().enumerate() {
            let bytes = at(place + 1);
            for (fits, [first, second]) in fits.iter_mut().zip(tables) {
                // Of an index it takes the lower seven bits.
                let allowed = _mm512_permutex2var_epi8(*first, bytes, *second);
                *fits = _mm512_and_si512(*fits, allowed);
            }
        }
        let any = _mm512_or_si512(fits[0], fits[1]);
        _mm512_test_epi8_mask(any, any)
    }
}

/// Whether the machine has AVX-512 for bytes and their permutations.
pub(super) fn is_there() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vbmi")
}

/// Adds a step for each block, as far as there is room.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) fn members(blocks: &[[u8; STEP]], members: &mut Members) {
    let room = &mut members.bytes[members.steps..];
    for (bytes, block) in room.iter_mut().zip(blocks) {
        *bytes = members_of(block);
        members.steps += 1;
    }
}

/// The bytes of each kind of runs, as [`Kind::has`](crate::run::Kind::has) says.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn members_of(block: &[u8; STEP]) -> [u64; KINDS] {
    let bytes = load(block);
    let is = |byte| _mm512_cmpeq_epi8_mask(bytes, splat(byte));
    let letters = within(_mm512_or_si512(bytes, splat(0x20)), b'a', b'z');
    let alphanumeric = letters | within(bytes, b'0', b'9');
    let word = alphanumeric | is(b'_') | is(b'-');
    [
        alphanumeric,
        word,
        word | within(bytes, b'+', b'9') | is(b'=') | is(b'~'),
    ]
}

/// Which bytes are a letter, a digit or an underscore.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn words(bytes: __m512i) -> u64 {
    let letters = within(_mm512_or_si512(bytes, splat(0x20)), b'a', b'z');
    let digits = within(bytes, b'0', b'9');
    let underscores = _mm512_cmpeq_epi8_mask(bytes, splat(b'_'));
    letters | digits | underscores
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn within(bytes: __m512i, first: u8, last: u8) -> u64 {
    _mm512_cmple_epu8_mask(_mm512_sub_epi8(bytes, splat(first)), splat(last - first))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn splat(byte: u8) -> __m512i {
    _mm512_set1_epi8(byte.cast_signed())
}

#[inline]
#[expect(unsafe_code, reason = "vectors are read by pointers")]
fn load(bytes: &[u8; STEP]) -> __m512i {
    // SAFETY: it is as long as the vector, and all bits are values of both.
    unsafe { std::mem::transmute(*bytes) }
}
