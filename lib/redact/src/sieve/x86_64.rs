//! The sieve on x86-64, where not every machine has AVX2.

use super::groups::Group;
use super::{Found, avx2, scalar};

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a sieve has it in a box")]
pub(crate) enum Kernel {
    Avx2(avx2::Kernel),
    Scalar(scalar::Kernel),
}

impl Kernel {
    pub fn new(groups: &[Group]) -> Self {
        match avx2::Kernel::new(groups) {
            Some(kernel) => Self::Avx2(kernel),
            None => Self::Scalar(scalar::Kernel::new(groups)),
        }
    }

    pub fn find(&self, hay: &[u8], at: usize) -> Found {
        match self {
            Self::Avx2(kernel) => kernel.find(hay, at),
            Self::Scalar(kernel) => kernel.find(hay, at),
        }
    }
}
