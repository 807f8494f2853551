//! The sieve on x86-64, where not every machine has AVX-512 or AVX2.

use super::groups::Group;
use super::{Found, avx2, avx512, scalar};

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

    pub fn find(&self, hay: &[u8], at: usize) -> Found {
        match self {
            Self::Avx512(kernel) => kernel.find(hay, at),
            Self::Avx2(kernel) => kernel.find(hay, at),
            Self::Scalar(kernel) => kernel.find(hay, at),
        }
    }
}
