//! The sieve without vector instructions.

use super::{Found, Members, STEP, Window, windows};
#[cfg(not(target_arch = "x86_64"))]
use crate::groups::Look;
use crate::groups::{Group, WIDTH, is_word};
use crate::run::{KINDS, Kind};

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
                let places = group.places.iter().map(|set| set.contains(byte));
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

    /// What its tables tell.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn look() -> Look {
        Look::Bytes
    }

    pub fn find(&self, hay: &[u8], at: usize, steps: usize) -> Found {
        let mut found = Found::default();
        for (places, window) in found.places.iter_mut().zip(windows(hay, at, steps)) {
            *places = self.places(window);
            found.steps += 1;
        }
        found
    }

    fn places(&self, window: &Window) -> u64 {
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

    /// Adds a step for each block, as far as there is room.
    pub fn members(blocks: &[[u8; STEP]], members: &mut Members) {
        let room = &mut members.bytes[members.steps..];
        for (bytes, block) in room.iter_mut().zip(blocks) {
            *bytes = members_of(block);
            members.steps += 1;
        }
    }
}

fn members_of(block: &[u8; STEP]) -> [u64; KINDS] {
    Kind::ALL.map(|kind| {
        let places = block.iter().enumerate();
        places.fold(0, |members, (place, &byte)| {
            members | u64::from(kind.has(byte)) << place
        })
    })
}
