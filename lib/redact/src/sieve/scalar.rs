//! The sieve without vector instructions.

use super::{Found, Group, WIDTH};

/// Places that are looked at together.
pub(crate) const STEP: usize = 8;

#[derive(Debug)]
pub(crate) struct Kernel {
    /// The groups that allow a byte before the first place, then at each place.
    tables: [[u16; 256]; WIDTH + 1],
}

impl Kernel {
    pub fn new(groups: &[Group]) -> Self {
        let mut tables = [[0; 256]; WIDTH + 1];
        for (index, group) in groups.iter().enumerate() {
            let places = group.places.iter().map(|halves| halves.bytes());
            let sets = [group.before()].into_iter().chain(places);
            for (table, set) in tables.iter_mut().zip(sets) {
                set.iter()
                    .for_each(|byte| table[usize::from(byte)] |= 1 << index);
            }
        }
        Self { tables }
    }

    pub fn find(&self, hay: &[u8], at: usize) -> Found {
        let mut at = at;
        while let Some(window) = hay
            .get(at - 1..)
            .and_then(|rest| rest.first_chunk::<{ STEP + WIDTH }>())
        {
            let fits: [u16; STEP] = std::array::from_fn(|i| {
                let bytes = window[i..i + WIDTH + 1].iter();
                bytes
                    .zip(&self.tables)
                    .fold(u16::MAX, |fits, (&byte, table)| {
                        fits & table[usize::from(byte)]
                    })
            });
            let places = fits
                .iter()
                .enumerate()
                .fold(0, |places, (i, &fits)| places | u32::from(fits != 0) << i);
            if places != 0 {
                return Found { at, places };
            }
            at += STEP;
        }
        Found { at, places: 0 }
    }
}
