//! The sieve by AVX-512, which looks 64 half bytes up at once.

use std::arch::x86_64::{
    __m512i, _mm512_and_si512, _mm512_cmpeq_epi8_mask, _mm512_cmple_epu8_mask,
    _mm512_mask_blend_epi8, _mm512_or_si512, _mm512_set1_epi8, _mm512_shuffle_epi8,
    _mm512_srli_epi16, _mm512_sub_epi8, _mm512_test_epi8_mask,
};

use super::groups::Group;
use super::halves::Tables;
use super::{Found, NARROW, STEP, WIDTH, Window, windows};

/// There is one only where the machine has AVX-512 for bytes.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// As [`Tables`] has them, the low halves' and the high halves', once for each quarter of a
    /// vector.
    places: [[[__m512i; 2]; 2]; WIDTH],
    after_word: [u8; 2],
    after_other: [u8; 2],
}

impl Kernel {
    /// None without AVX-512.
    pub fn new(groups: &[Group]) -> Option<Self> {
        if !(is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")) {
            return None;
        }
        let tables = Tables::new(groups);
        let spread = |table: [u8; 16]| load(&std::array::from_fn(|i| table[i % 16]));
        Some(Self {
            places: tables
                .places
                .map(|tables| tables.map(|table| [spread(table.low), spread(table.high)])),
            after_word: tables.after_word,
            after_other: tables.after_other,
        })
    }

    #[expect(unsafe_code, reason = "what needs AVX-512 is called by what does not")]
    pub fn find(&self, hay: &[u8], at: usize) -> Found {
        // SAFETY: it needs nothing but AVX-512 for bytes, which the machine has where there is a
        // kernel.
        unsafe { self.find_by_avx512(hay, at) }
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    fn find_by_avx512(&self, hay: &[u8], at: usize) -> Found {
        let mut found = Found::default();
        for (places, window) in found.places.iter_mut().zip(windows(hay, at)) {
            *places = self.look(window);
            found.steps += 1;
        }
        found
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn look(&self, window: &Window) -> u64 {
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
            let low = _mm512_and_si512(bytes, splat(15));
            let high = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), splat(15));
            let halves = if place < NARROW { 2 } else { 1 };
            for (fits, [lows, highs]) in fits.iter_mut().zip(tables).take(halves) {
                let lows = _mm512_shuffle_epi8(*lows, low);
                let highs = _mm512_shuffle_epi8(*highs, high);
                *fits = _mm512_and_si512(*fits, _mm512_and_si512(lows, highs));
            }
        }
        let any = _mm512_or_si512(fits[0], fits[1]);
        _mm512_test_epi8_mask(any, any)
    }
}

/// Which bytes are a letter, a digit or an underscore.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn words(bytes: __m512i) -> u64 {
    let letters = within(_mm512_or_si512(bytes, splat(0x20)), b'a', b'z');
    let digits = within(bytes, b'0', b'9');
    let underscores = _mm512_cmpeq_epi8_mask(bytes, splat(b'_'));
    letters | digits | underscores
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn within(bytes: __m512i, first: u8, last: u8) -> u64 {
    _mm512_cmple_epu8_mask(_mm512_sub_epi8(bytes, splat(first)), splat(last - first))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn splat(byte: u8) -> __m512i {
    _mm512_set1_epi8(byte.cast_signed())
}

#[inline]
#[expect(unsafe_code, reason = "vectors are read by pointers")]
fn load(bytes: &[u8; STEP]) -> __m512i {
    // SAFETY: it is as long as the vector, and all bits are values of both.
    unsafe { std::mem::transmute(*bytes) }
}
