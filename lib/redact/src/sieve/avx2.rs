//! The sieve by AVX2, which looks 32 half bytes up at once.

use std::arch::x86_64::{
    __m256i, _mm256_add_epi8, _mm256_and_si256, _mm256_blendv_epi8, _mm256_cmpeq_epi8,
    _mm256_min_epu8, _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8, _mm256_set_epi64x,
    _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_epi16,
};

use super::halves::Tables;
use super::{Found, Group, WIDTH};

/// Places that are looked at together.
pub(crate) const STEP: usize = 32;

/// There is one only where the machine has AVX2.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// As [`Tables`] has them, the low halves' and the high halves', once for each half of a
    /// vector.
    places: [[[[u8; STEP]; 2]; 2]; WIDTH],
    after_word: [u8; 2],
    after_other: [u8; 2],
}

impl Kernel {
    pub fn new(groups: &[Group]) -> Option<Self> {
        if !is_x86_feature_detected!("avx2") {
            return None;
        }
        let tables = Tables::new(groups);
        let twice = |table: [u8; 16]| std::array::from_fn(|i| table[i % 16]);
        Some(Self {
            places: tables
                .places
                .map(|tables| tables.map(|table| [twice(table.low), twice(table.high)])),
            after_word: tables.after_word,
            after_other: tables.after_other,
        })
    }

    #[expect(unsafe_code, reason = "what needs AVX2 is called by what does not")]
    pub fn find(&self, hay: &[u8], at: usize) -> Found {
        // SAFETY: it needs nothing but AVX2, which the machine has where there is a kernel.
        unsafe { self.find_by_avx2(hay, at) }
    }

    #[target_feature(enable = "avx2")]
    fn find_by_avx2(&self, hay: &[u8], at: usize) -> Found {
        let mut at = at;
        while let Some(window) = hay
            .get(at - 1..)
            .and_then(|rest| rest.first_chunk::<{ STEP + WIDTH }>())
        {
            let places = self.look(window);
            if places != 0 {
                return Found { at, places };
            }
            at += STEP;
        }
        Found { at, places: 0 }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn look(&self, window: &[u8; STEP + WIDTH]) -> u32 {
        let at = |from| {
            let bytes: &[u8; STEP] = window[from..].first_chunk().expect("the window has them");
            load(bytes)
        };
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
                let lows = _mm256_shuffle_epi8(load(lows), low);
                let highs = _mm256_shuffle_epi8(load(highs), high);
                *fits = _mm256_and_si256(*fits, _mm256_and_si256(lows, highs));
            }
        }
        let none = _mm256_cmpeq_epi8(_mm256_or_si256(fits[0], fits[1]), _mm256_setzero_si256());
        !_mm256_movemask_epi8(none).cast_unsigned()
    }
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
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; STEP]) -> __m256i {
    // The compiler makes one load of it.
    let (words, _) = bytes.as_chunks::<8>();
    let word = |i: usize| i64::from_le_bytes(words[i]);
    _mm256_set_epi64x(word(3), word(2), word(1), word(0))
}
