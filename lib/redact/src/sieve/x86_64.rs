//! The sieve on x86-64, where not every machine has AVX-512 or AVX2.

use super::{Found, Members, STEP, avx2, avx512, scalar};
use crate::groups::{Group, Look};

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a sieve has it in a box")]
pub(crate) enum Kernel {
    Avx512(avx512::Kernel),
    Avx2(avx2::Kernel),
    Scalar(scalar::Kernel),
}

impl Kernel {
    pub fn new(groups: &[Group]) -> Self {
        if let Some(kernel) = avx512::Kernel::new(groups) {
            Self::Avx512(kernel)
        } else if let Some(kernel) = avx2::Kernel::new(groups) {
            Self::Avx2(kernel)
        } else {
            Self::Scalar(scalar::Kernel::new(groups))
        }
    }

    /// What its tables tell.
    pub fn look() -> Look {
        match (avx512::is_there(), avx2::is_there()) {
            (false, true) => Look::Halves,
            _ => Look::Bytes,
        }
    }

    pub fn find(&self, hay: &[u8], at: usize, steps: usize) -> Found {
        match self {
            Self::Avx512(kernel) => kernel.find(hay, at, steps),
            Self::Avx2(kernel) => kernel.find(hay, at, steps),
            Self::Scalar(kernel) => kernel.find(hay, at, steps),
        }
    }

    /// Adds a step for each block, as far as there is room.
    #[expect(unsafe_code, reason = "what needs vectors is called by what does not")]
    pub fn members(blocks: &[[u8; STEP]], members: &mut Members) {
        if avx512::is_there() {
            // SAFETY: it needs nothing but AVX-512 for bytes and their permutations, which the
            // machine has.
            unsafe { avx512::members(blocks, members) }
        } else if avx2::is_there() {
            // SAFETY: it needs nothing but AVX2, which the machine has.
            unsafe { avx2::members(blocks, members) }
        } else {
            scalar::Kernel::members(blocks, members);
        }
    }
}
