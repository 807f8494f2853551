//! The first look at a text: which places may be the beginning of any shape at all.
//!
//! The shapes are taken together in a few groups, so few that a vector instruction can ask for all
//! of them at many places at once. What it lets through is looked at closely; nearly all of a text
//! falls through.

use std::ops::{ControlFlow, Range};

use crate::groups::{GROUPS, Group, Look, WIDTH, groups, ones};
use crate::run::KINDS;
use crate::shape::Shape;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
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

/// Places that are looked at together.
pub(crate) const STEP: usize = 64;

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

/// Which bytes may be in runs of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Members {
    /// How many steps were made: fewer than all at the end of the text.
    pub steps: usize,
    /// Of the bytes of each step, those that each kind has. Beyond the end there are none.
    pub bytes: [[u64; KINDS]; STEPS],
}

/// Tells which bytes from a place on may be in runs.
pub(crate) fn members(hay: &[u8], at: usize) -> Members {
    let mut members = Members::default();
    let rest = hay.get(at..).unwrap_or_default();
    let (blocks, left) = rest.as_chunks::<STEP>();
    Kernel::members(blocks, &mut members);
    if members.steps < STEPS && !left.is_empty() {
        let mut block = [0; STEP];
        block[..left.len()].copy_from_slice(left);
        Kernel::members(&[block], &mut members);
    }
    members
}

/// Looks for the beginnings of shapes.
#[derive(Debug)]
pub(crate) struct Sieve(Box<Kernel>);

/// Groups made ahead.
#[derive(Debug)]
pub(crate) struct MadeGroups {
    /// For tables that tell bytes from each other.
    pub bytes: [Group; GROUPS],
    /// For tables of halves.
    pub halves: [Group; GROUPS],
}

impl Sieve {
    /// For these shapes.
    pub fn new<'s>(shapes: impl Iterator<Item = &'s Shape>) -> Self {
        Self(Box::new(Kernel::new(&groups(shapes, Kernel::look()))))
    }

    /// For groups that were made ahead.
    pub fn of(made: &MadeGroups) -> Self {
        Self(Box::new(Kernel::new(match Kernel::look() {
            Look::Bytes => &made.bytes,
            Look::Halves => &made.halves,
        })))
    }

    /// Bytes of memory.
    pub fn memory(&self) -> usize {
        size_of_val(&*self.0)
    }

    /// Calls `visit` with all of these places where a shape may begin, up to the last one that has
    /// [`WIDTH`] bytes: in order, and several at a time, for a look at each of them in a loop costs
    /// less than a call for each.
    pub fn each(
        &self,
        hay: &[u8],
        places: Range<usize>,
        mut visit: impl FnMut(&[usize]) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let end = (hay.len() + 1).saturating_sub(WIDTH).min(places.end);
        let mut at = places.start;
        if at == 0 && at < end {
            // Nothing stands before it.
            visit(&[0])?;
            at = 1;
        }
        let mut passed = Passed::default();
        while at < end {
            let steps = (end - at).div_ceil(STEP).min(STEPS);
            let found = self.0.find(hay, at, steps);
            for &places in &found.places[..found.steps] {
                passed.add(at, places & before(end - at), &mut visit)?;
                at += STEP;
            }
            if found.steps < steps {
                break;
            }
        }
        if at < end {
            // Less than a step is left. What a full one has behind it concerns none of the places
            // that are asked for.
            let mut window: Window = [0; _];
            let left = &hay[at - 1..];
            window[..left.len()].copy_from_slice(left);
            let found = self.0.find(&window, 1, 1);
            passed.add(at, found.places[0] & before(end - at), &mut visit)?;
        }
        visit(passed.get())
    }
}

/// The first so many bits.
fn before(count: usize) -> u64 {
    match count {
        0..STEP => (1 << count) - 1,
        _ => u64::MAX,
    }
}

/// Places that may be the beginning of a shape, until there are enough for a loop.
struct Passed {
    places: [usize; 2 * STEP],
    len: usize,
}

impl Default for Passed {
    fn default() -> Self {
        Self {
            places: [0; _],
            len: 0,
        }
    }
}

impl Passed {
    fn get(&self) -> &[usize] {
        &self.places[..self.len]
    }

    /// Adds those of a step that begins at `at`.
    fn add(
        &mut self,
        at: usize,
        places: u64,
        visit: &mut impl FnMut(&[usize]) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if self.len > self.places.len() - STEP {
            visit(self.get())?;
            self.len = 0;
        }
        let room = &mut self.places[self.len..];
        for (place, bit) in room.iter_mut().zip(ones(places)) {
            *place = at + bit;
        }
        self.len += places.count_ones() as usize;
        ControlFlow::Continue(())
    }
}

/// The windows of so many steps from `at` on, as far as there is text.
fn windows(hay: &[u8], at: usize, steps: usize) -> impl Iterator<Item = &Window> {
    let starts = (at - 1..).step_by(STEP).take(steps);
    starts.map_while(|from| hay.get(from..)?.first_chunk())
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::{Engine, Lead};

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
        groups(shapes, Look::Halves)
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
            let (avx2, avx512) = (avx2::Kernel::new(&groups), avx512::Kernel::new(&groups));
            // What a kernel sees is told by the sets that its tables take these for.
            let seen = |look: Look| scalar::Kernel::new(&groups.iter().map(|group| Group {
                places: group.places.map(|set| look.seen(&set)),
                ..*group
            }).collect::<Vec<_>>());
            let (halves, seven_bits) = (seen(Look::Halves), seen(Look::Bytes));
            for at in 1..bytes.len() {
                if let Some(kernel) = &avx2 {
                    let expected = halves.find(&bytes, at, STEPS);
                    prop_assert_eq!(kernel.find(&bytes, at, STEPS), expected);
                }
                if let Some(kernel) = &avx512 {
                    let expected = seven_bits.find(&bytes, at, STEPS);
                    prop_assert_eq!(kernel.find(&bytes, at, STEPS), expected);
                }
            }
            let (blocks, _) = bytes.as_chunks::<STEP>();
            let mut expected = Members::default();
            scalar::Kernel::members(blocks, &mut expected);
            let mut found = Members::default();
            Kernel::members(blocks, &mut found);
            prop_assert_eq!(found, expected);
        }
    }
}
