//! The keyed hash over all of a file that is no chunk: nodes of the tree, superblocks, records of
//! the log, marks.

use core::fmt;

use blake2::Blake2sMac;
use blake2::digest::consts::U16;
use blake2::digest::{FixedOutput, Update};
use zeroize::Zeroizing;

use crate::KEY_LEN;

/// Bytes of a MAC.
pub const MAC_LEN: usize = 16;

/// A MAC as it stands in a file.
pub type Mac = [u8; MAC_LEN];

/// What a MAC is about: BLAKE2s's personalization keeps them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// A node of the tree, of that level.
    Node(u8),
    Superblock,
    Record,
    Mark,
}

impl About {
    fn personalization(self) -> [u8; 8] {
        match self {
            Self::Node(level) => {
                let mut name = *b"tree lv0";
                name[7] += level;
                name
            }
            Self::Superblock => *b"superblk",
            Self::Record => *b"log recd",
            Self::Mark => *b"log mark",
        }
    }
}

/// The key of a file's MACs. Wiped when dropped.
#[derive(Clone)]
pub struct MacKey(Zeroizing<[u8; KEY_LEN]>);

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MacKey").finish_non_exhaustive()
    }
}

impl MacKey {
    pub(crate) fn new(secret: Zeroizing<[u8; KEY_LEN]>) -> Self {
        Self(secret)
    }

    /// The MAC of a message that is given in pieces.
    pub(crate) fn of(&self, about: About, number: u64, message: &[&[u8]]) -> Mac {
        let mut mac = Blake2sMac::<U16>::new_with_salt_and_personal(
            Some(self.0.as_slice()),
            &number.to_le_bytes(),
            &about.personalization(),
        )
        .expect("32, 8 and 8 bytes are what BLAKE2s takes");
        for piece in message {
            mac.update(piece);
        }
        mac.finalize_fixed().into()
    }
}

/// Whether two tags or MACs are the same, in a time that does not tell where they differ.
pub fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len()
        && core::hint::black_box(
            one.iter()
                .zip(other)
                .fold(0u8, |differing, (a, b)| differing | (a ^ b)),
        ) == 0
}
