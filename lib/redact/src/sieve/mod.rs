//! The first look at a text: which places may be the beginning of any shape at all.
//!
//! The shapes are taken together in a few groups, so few that a vector instruction can ask for all
//! of them at many places at once. What it lets through is looked at closely; nearly all of a text
//! falls through.

use std::ops::ControlFlow;

use crate::shape::Shape;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod groups;
#[cfg(any(
    target_arch = "x86_64",
    all(target_arch = "wasm32", target_feature = "simd128")
))]
mod halves;
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod scalar;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd128;
#[cfg(target_arch = "x86_64")]
mod x86_64;

std::cfg_select! {
    target_arch = "x86_64" => { use x86_64::Kernel; }
    all(target_arch = "wasm32", target_feature = "simd128") => { use simd128::Kernel; }
    _ => { use scalar::Kernel; }
}

/// Places that are looked at from the first of a match.
pub(crate) const WIDTH: usize = 7;

/// Places that are looked at for the groups after the first eight.
const NARROW: usize = 4;

/// Places that are looked at together.
const STEP: usize = 64;

/// So many places, and all bytes that count for them: one before each, and those from it on.
type Window = [u8; STEP + WIDTH];

/// Steps that are made in one go: so many that a kernel need not load its tables anew for each,
/// and so few that not much is looked at in vain where a match is found.
const STEPS: usize = 16;

/// Where something may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// How many steps were made: fewer than all where too little text is left for one more.
    steps: usize,
    /// At which places of each step.
    places: [u64; STEPS],
}

/// Looks for the beginnings of shapes.
#[derive(Debug)]
pub(crate) struct Sieve(Box<Kernel>);

impl Sieve {
    /// For these shapes.
    pub fn new<'s>(shapes: impl Iterator<Item = &'s Shape>) -> Self {
        Self(Box::new(Kernel::new(&groups::groups(shapes))))
    }

    /// Bytes of memory.
    pub fn memory(&self) -> usize {
        size_of_val(&*self.0)
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
            let found = self.0.find(hay, at);
            for &places in &found.places[..found.steps] {
                for place in ones(places) {
                    visit(at + place)?;
                }
                at += STEP;
            }
            if found.steps < STEPS {
                break;
            }
        }
        if at < end {
            // Less than a step is left. What a full one has behind it concerns none of the places
            // that are asked for.
            let mut window: Window = [0; _];
            let left = &hay[at - 1..];
            window[..left.len()].copy_from_slice(left);
            let found = self.0.find(&window, 1);
            for place in ones(found.places[0]).take_while(|place| at + place < end) {
                visit(at + place)?;
            }
        }
        ControlFlow::Continue(())
    }
}

/// The indices of the bits that are set.
pub(crate) fn ones(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
        word &= word - 1;
        Some(bit)
    })
}

/// The windows of the steps from `at` on, as far as there is text.
fn windows(hay: &[u8], at: usize) -> impl Iterator<Item = &Window> {
    let steps = (at - 1..).step_by(STEP);
    steps.map_while(|from| hay.get(from..)?.first_chunk())
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::{Engine, Lead};
    use crate::sieve::groups::Group;

    /// Groups of shapes with sets of all kinds.
    fn some_groups() -> Vec<Group> {
        let patterns = [
            r"\bghp_\w{30}",
            r"\B\+\d{2,4}-\d\d",
            r"(?i:password)=",
            r"[^a-z]\xff\x00.[\x80-\xff]",
            r"(?m)^[[:upper:]]{3}: ",
        ];
        let engines = patterns.map(|pattern| Engine::regex(0, pattern).unwrap());
        let shapes = engines.iter().flat_map(|engine| match &engine.lead {
            Lead::Shapes(shapes) => &shapes[..],
            _ => &[],
        });
        groups::groups(shapes)
    }

    proptest! {
        #[test]
        fn kernels_agree(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), b' '..=b'~'], 200..400),
            hits in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        ) {
            let mut bytes = bytes;
            for hit in hits {
                let at = hit.index(bytes.len() - 8);
                bytes[at..at + 8].copy_from_slice(b" +4915-1");
            }
            let groups = some_groups();
            let scalar = scalar::Kernel::new(&groups);
            let (avx2, avx512) = (avx2::Kernel::new(&groups), avx512::Kernel::new(&groups));
            for at in 1..bytes.len() {
                let found = scalar.find(&bytes, at);
                if let Some(kernel) = &avx2 {
                    prop_assert_eq!(kernel.find(&bytes, at), found);
                }
                if let Some(kernel) = &avx512 {
                    prop_assert_eq!(kernel.find(&bytes, at), found);
                }
            }
        }
    }
}
