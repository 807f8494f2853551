//! Tables that vector instructions look half bytes up in.

use crate::groups::{Group, Halves, WIDTH};

/// The groups as such tables have them: the first eight, and the others.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub places: [[Table; 2]; WIDTH],
    /// The groups that may stand behind a byte of a word.
    pub after_word: [u8; 2],
    /// The groups that may stand behind another byte.
    pub after_other: [u8; 2],
}

/// The groups that allow each low and each high half byte.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Table {
    pub low: [u8; 16],
    pub high: [u8; 16],
}

impl Tables {
    pub fn new(groups: &[Group]) -> Self {
        let mut tables = Self::default();
        for (index, group) in groups.iter().enumerate() {
            let (half, bit) = (index / 8, 1 << (index % 8));
            if group.after_word {
                tables.after_word[half] |= bit;
            }
            if group.after_other {
                tables.after_other[half] |= bit;
            }
            for (tables, set) in tables.places.iter_mut().zip(&group.places) {
                let halves = Halves::of(set);
                for i in 0..16 {
                    if halves.low >> i & 1 != 0 {
                        tables[half].low[i] |= bit;
                    }
                    if halves.high >> i & 1 != 0 {
                        tables[half].high[i] |= bit;
                    }
                }
            }
        }
        tables
    }
}
