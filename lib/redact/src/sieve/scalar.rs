//! The sieve without vector instructions.

use super::groups::{Group, is_word};
use super::{Found, WIDTH, Window, windows};

#[derive(Debug)]
pub(crate) struct Kernel {
    /// The groups that allow a byte before the first place, then at each place.
    tables: [[u16; 256]; WIDTH + 1],
}

impl Kernel {
    pub fn new(groups: &[Group]) -> Self {
        let mut tables = [[0; 256]; WIDTH + 1];
        for (index, group) in groups.iter().enumerate() {
            for byte in 0..=u8::MAX {
                let places = group
                    .places
                    .iter()
                    .map(|halves| halves.low >> (byte & 15) & halves.high >> (byte >> 4) & 1 != 0);
                let follows = if is_word(byte) {
                    group.after_word
                } else {
                    group.after_other
                };
                let allows = [follows].into_iter().chain(places);
                for (table, allows) in tables.iter_mut().zip(allows) {
                    table[usize::from(byte)] |= u16::from(allows) << index;
                }
            }
        }
        Self { tables }
    }

    pub fn find(&self, hay: &[u8], at: usize) -> Found {
        let mut found = Found::default();
        for (places, window) in found.places.iter_mut().zip(windows(hay, at)) {
            *places = self.look(window);
            found.steps += 1;
        }
        found
    }

    fn look(&self, window: &Window) -> u64 {
        let mut places = 0;
        for (place, bytes) in window.windows(WIDTH + 1).enumerate() {
            let tables = bytes.iter().zip(&self.tables);
            let fits = tables.fold(u16::MAX, |fits, (&byte, table)| {
                fits & table[usize::from(byte)]
            });
            places |= u64::from(fits != 0) << place;
        }
        places
    }
}
