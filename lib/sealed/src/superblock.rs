//! What a file was at its last checkpoint.

use crate::layout::{HEAD_LEN, OVERHEAD};
use crate::mac::{About, MAC_LEN, Mac, MacKey, same};

/// Bytes of a superblock.
pub const SUPERBLOCK_LEN: usize = MAC_AT + MAC_LEN;

/// Bytes within which a superblock stands alone: a sector.
pub const SECTOR_LEN: usize = 512;

const COUNTER_AT: usize = 8;
const SIZE_AT: usize = 16;
const ROOT_AT: usize = 24;
const FROM_AT: usize = 40;
const TO_AT: usize = 48;
const UNIQUE_AT: usize = 56;
const RESERVED_AT: usize = UNIQUE_AT + 16;
const MAC_AT: usize = 112;

/// Bytes of a mark.
pub const MARK_LEN: usize = MARK_MAC_AT + MAC_LEN;

const MARK_MAC_AT: usize = 16;

/// A state of a file, to which its log adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Number of the checkpoint.
    pub epoch: u64,
    /// Records that there were in the file's life before.
    pub counter: u64,
    /// Bytes of plaintext.
    pub size: u64,
    /// Entry of the top of the tree.
    pub root: Mac,
    /// Where the log of the epoch before went on behind the groups, and where that ended; zeros
    /// where it did not.
    pub elder: (u64, u64),
    /// Random bytes: no two superblocks are the same.
    pub unique: [u8; 16],
}

impl Superblock {
    /// Where the superblock of an epoch stands.
    pub fn offset(epoch: u64) -> u64 {
        match epoch % 2 {
            0 => SECTOR_LEN as u64,
            _ => HEAD_LEN,
        }
    }

    /// Where the mark of an epoch stands.
    pub fn mark_offset(epoch: u64) -> u64 {
        Self::offset(epoch) + SECTOR_LEN as u64
    }

    /// Where the log of an epoch begins.
    pub fn log_offset(epoch: u64) -> u64 {
        Self::mark_offset(epoch) + SECTOR_LEN as u64
    }

    /// Where the room for the log of an epoch ends, at the head of the file.
    pub fn log_end(epoch: u64) -> u64 {
        (epoch % 2 + 1) * HEAD_LEN
    }

    /// The superblock as it stands in the file.
    pub(crate) fn encode(&self, key: &MacKey) -> [u8; SUPERBLOCK_LEN] {
        let mut bytes = [0; SUPERBLOCK_LEN];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &self.epoch.to_le_bytes());
        put(COUNTER_AT, &self.counter.to_le_bytes());
        put(SIZE_AT, &self.size.to_le_bytes());
        put(ROOT_AT, &self.root);
        put(FROM_AT, &self.elder.0.to_le_bytes());
        put(TO_AT, &self.elder.1.to_le_bytes());
        put(UNIQUE_AT, &self.unique);
        let mac = key.of(About::Superblock, self.epoch, &[&bytes[..MAC_AT]]);
        bytes[MAC_AT..].copy_from_slice(&mac);
        bytes
    }

    /// Reads a superblock, with its MAC; `None` where it is not authentic.
    pub(crate) fn parse(bytes: &[u8; SUPERBLOCK_LEN], key: &MacKey) -> Option<(Self, Mac)> {
        let superblock = Self {
            epoch: word(bytes, 0),
            counter: word(bytes, COUNTER_AT),
            size: word(bytes, SIZE_AT),
            root: field(bytes, ROOT_AT),
            elder: (word(bytes, FROM_AT), word(bytes, TO_AT)),
            unique: field(bytes, UNIQUE_AT),
        };
        let mac = key.of(About::Superblock, superblock.epoch, &[&bytes[..MAC_AT]]);
        let authentic = same(&mac, &bytes[MAC_AT..])
            && bytes[RESERVED_AT..MAC_AT].iter().all(|&byte| byte == 0);
        authentic.then_some((superblock, mac))
    }
}

/// Says that the log of this superblock has reached the disk up to the record with that counter.
pub(crate) fn encode_mark(
    key: &MacKey,
    epoch: u64,
    superblock: &Mac,
    counter: u64,
) -> [u8; MARK_LEN] {
    let mut bytes = [0; MARK_LEN];
    bytes[..8].copy_from_slice(&counter.to_le_bytes());
    let mac = key.of(About::Mark, epoch, &[superblock, &bytes[..MARK_MAC_AT]]);
    bytes[MARK_MAC_AT..].copy_from_slice(&mac);
    bytes
}

/// The counter in a mark, if it is of that superblock.
pub(crate) fn parse_mark(
    bytes: &[u8; MARK_LEN],
    key: &MacKey,
    epoch: u64,
    superblock: &Mac,
) -> Option<u64> {
    let mac = key.of(About::Mark, epoch, &[superblock, &bytes[..MARK_MAC_AT]]);
    same(&mac, &bytes[MARK_MAC_AT..]).then(|| word(bytes, 0))
}

/// The number at `at`, which the constants above keep inside.
pub(crate) fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(field(bytes, at))
}

pub(crate) fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

// A chunk's overhead is what the arithmetic of logs counts with.
const _: () = assert!(OVERHEAD == 40 && SUPERBLOCK_LEN == 128 && MARK_LEN == 32);

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    fn key() -> MacKey {
        MacKey::new(Zeroizing::new([7; 32]))
    }

    fn superblock() -> Superblock {
        Superblock {
            epoch: 3,
            counter: 4,
            size: 5,
            root: [6; 16],
            elder: (7, 8),
            unique: [9; 16],
        }
    }

    #[test]
    fn what_is_written_is_read_and_every_bit_counts() {
        let bytes = superblock().encode(&key());
        assert_eq!(
            Superblock::parse(&bytes, &key()).map(|(read, _)| read),
            Some(superblock())
        );
        for bit in 0..SUPERBLOCK_LEN * 8 {
            let mut altered = bytes;
            altered[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Superblock::parse(&altered, &key()), None, "{bit}");
        }
    }

    #[test]
    fn a_mark_is_of_one_superblock() {
        let mark = encode_mark(&key(), 3, &[1; 16], 77);
        assert_eq!(parse_mark(&mark, &key(), 3, &[1; 16]), Some(77));
        assert_eq!(parse_mark(&mark, &key(), 5, &[1; 16]), None);
        assert_eq!(parse_mark(&mark, &key(), 3, &[2; 16]), None);
        for bit in 0..MARK_LEN * 8 {
            let mut altered = mark;
            altered[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse_mark(&altered, &key(), 3, &[1; 16]), None, "{bit}");
        }
    }

    #[test]
    fn places_at_the_head() {
        assert_eq!([0, 1, 2].map(Superblock::offset), [512, 65536, 512],);
        assert_eq!([0, 1].map(Superblock::mark_offset), [1024, 66048]);
        assert_eq!([0, 1].map(Superblock::log_offset), [1536, 66560]);
        assert_eq!([0, 1].map(Superblock::log_end), [65536, 131_072]);
    }
}
