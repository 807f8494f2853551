//! Where the bytes lie: arithmetic between plaintext offsets and physical ones, and nothing else.
//!
//! ```text
//! | head, logs | leaf 0 | leaf 0' | chunk 0 | ... | chunk 255 | node | node' | leaf 1 | leaf 1' | chunk 256 | ...
//!              '- group 0 -----------------------------------'                '- group 1 ---------
//! ```
//!
//! Each node of the tree has two slots, so that its next version never destroys the present one.

use crate::{Error, TAG_LEN};

/// Bytes of a nonce, the same for every cipher of this version.
pub const NONCE_LEN: usize = 24;

/// Bytes that a chunk takes on the disk beyond its plaintext: nonce and tag.
pub const OVERHEAD: usize = NONCE_LEN + TAG_LEN;

/// Entries of a node of the tree: chunks of a group, and nodes below an inner node.
pub const FAN_OUT: u64 = 256;

/// Bytes of one of the two slots of a node.
pub const SLOT_LEN: usize = FAN_OUT as usize * TAG_LEN;

/// Bytes of both slots of a node.
const NODE_LEN: u64 = 2 * SLOT_LEN as u64;

/// Where the groups begin: behind header, superblocks and the places of the two logs.
pub const DATA_START: u64 = 2 * HEAD_LEN;

/// Distance from one superblock, with its mark and its log, to the other.
pub(crate) const HEAD_LEN: u64 = 1 << 16;

/// Largest size of a sealed file: what a signed 64-bit file offset can express.
pub const MAX_PHYSICAL_SIZE: u64 = i64::MAX as u64;

/// Levels of inner nodes that no file ever exceeds: at 512 bytes a chunk it has fewer than 2^54.
const MAX_LEVEL: u8 = 6;

/// Bytes of plaintext in a full chunk: a power of two from 512 B to 64 KiB.
///
/// Small chunks make small writes cheap, large chunks make the overhead small: 40 bytes a chunk,
/// which is 7.8 % at 512 B, 1 % at 4 KiB and 0.06 % at 64 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkSize {
    log2: u8,
}

impl ChunkSize {
    /// 512 bytes, a disk sector: below it the overhead and the cost per chunk get out of hand.
    pub const MIN: Self = Self { log2: 9 };
    /// 64 KiB: above it a change of one byte costs too much.
    pub const MAX: Self = Self { log2: 16 };

    /// The size whose base-two logarithm is `log2`, as the header stores it.
    pub fn from_log2(log2: u8) -> Option<Self> {
        (Self::MIN.log2..=Self::MAX.log2)
            .contains(&log2)
            .then_some(Self { log2 })
    }

    /// The size of `bytes` bytes, if that is a power of two in range.
    pub fn from_bytes(bytes: usize) -> Option<Self> {
        if !bytes.is_power_of_two() {
            return None;
        }
        Self::from_log2(u8::try_from(bytes.trailing_zeros()).ok()?)
    }

    /// Base-two logarithm of the size.
    pub fn log2(self) -> u8 {
        self.log2
    }

    /// The size in bytes.
    pub fn bytes(self) -> usize {
        1 << self.log2
    }
}

impl Default for ChunkSize {
    /// 4096 bytes: a page, and the block of most file systems.
    fn default() -> Self {
        Self { log2: 12 }
    }
}

/// The geometry of one sealed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    chunk_size: ChunkSize,
}

impl Layout {
    /// The layout of files of this chunk size.
    pub fn new(chunk_size: ChunkSize) -> Self {
        Self { chunk_size }
    }

    /// Bytes of plaintext in a full chunk.
    pub fn chunk_size(&self) -> usize {
        self.chunk_size.bytes()
    }

    /// Bytes of a full chunk on disk.
    pub fn sealed_chunk_len(&self) -> usize {
        self.chunk_size() + OVERHEAD
    }

    /// Chunks of a plaintext of so many bytes.
    pub fn chunks(&self, size: u64) -> u64 {
        size.div_ceil(self.chunk_size() as u64)
    }

    /// Bytes of plaintext in a chunk of a file of that size: none behind its end.
    pub fn chunk_len(&self, index: u64, size: u64) -> usize {
        // Less than or equal to a chunk size, so it fits.
        index
            .checked_mul(self.chunk_size() as u64)
            .map_or(0, |start| size.saturating_sub(start))
            .min(self.chunk_size() as u64) as usize
    }

    /// Index of the chunk that holds the plaintext byte at `offset`.
    pub fn chunk_index(&self, offset: u64) -> u64 {
        offset >> self.chunk_size.log2
    }

    /// Where in its chunk the plaintext byte at `offset` lies.
    pub fn offset_in_chunk(&self, offset: u64) -> usize {
        // Less than a chunk size, so it fits.
        (offset & (self.chunk_size() as u64 - 1)) as usize
    }

    /// Plaintext offset at which chunk `index` begins.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond what a file can have.
    pub fn chunk_start(&self, index: u64) -> Result<u64, Error> {
        index
            .checked_mul(self.chunk_size() as u64)
            .filter(|&start| start <= MAX_PHYSICAL_SIZE)
            .ok_or(Error::TooLarge)
    }

    /// How many of the `count` chunks from `first` on lie in one piece: those of one group.
    pub fn together(&self, first: u64, count: u64) -> u64 {
        count.min(FAN_OUT - first % FAN_OUT)
    }

    /// Bytes of a full group, with its leaf.
    fn group_len(&self) -> u64 {
        NODE_LEN + FAN_OUT * self.sealed_chunk_len() as u64
    }

    /// Where a group begins, which is where its leaf stands.
    fn group_offset(&self, group: u64) -> Result<u64, Error> {
        let inner: u64 = (1..=MAX_LEVEL)
            .map(|level| {
                let below = below(level);
                group / (below * FAN_OUT) + u64::from(group >= below)
            })
            .sum();
        group
            .checked_mul(self.group_len())
            .and_then(|offset| offset.checked_add(DATA_START + inner * NODE_LEN))
            .filter(|&offset| offset <= MAX_PHYSICAL_SIZE)
            .ok_or(Error::TooLarge)
    }

    /// Physical offset of slot 0 of a node of the tree; slot 1 is [`SLOT_LEN`] behind it.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond what a file can have.
    pub fn node_offset(&self, level: u8, index: u64) -> Result<u64, Error> {
        if level == 0 {
            return self.group_offset(index);
        }
        if level > MAX_LEVEL {
            return Err(Error::TooLarge);
        }
        let group = match index {
            0 => Some(below(level)),
            _ => index.checked_mul(below(level) * FAN_OUT),
        };
        let group = self.group_offset(group.ok_or(Error::TooLarge)?)?;
        Ok(group - u64::from(level) * NODE_LEN)
    }

    /// Physical offset at which chunk `index` begins.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond what a file can have.
    pub fn chunk_offset(&self, index: u64) -> Result<u64, Error> {
        let in_group = NODE_LEN + index % FAN_OUT * self.sealed_chunk_len() as u64;
        self.group_offset(index / FAN_OUT)?
            .checked_add(in_group)
            .filter(|&offset| offset <= MAX_PHYSICAL_SIZE)
            .ok_or(Error::TooLarge)
    }

    /// Where the last chunk of a file of that size ends, if all is at its place.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a size that no sealed file can have.
    pub fn data_end(&self, size: u64) -> Result<u64, Error> {
        let chunks = self.chunks(size);
        let Some(last) = chunks.checked_sub(1) else {
            return Ok(DATA_START);
        };
        self.chunk_offset(last)?
            .checked_add((self.chunk_len(last, size) + OVERHEAD) as u64)
            .filter(|&end| end <= MAX_PHYSICAL_SIZE)
            .ok_or(Error::TooLarge)
    }

    /// The level of the top of the tree of so many chunks: 0 where one leaf has them all.
    pub fn top(&self, chunks: u64) -> u8 {
        let groups = chunks.div_ceil(FAN_OUT);
        (1..=MAX_LEVEL)
            .find(|&level| groups <= below(level))
            .unwrap_or(MAX_LEVEL + 1)
            - 1
    }

    /// Bytes that so many bytes of plaintext take when sealed, from the beginning of a chunk on.
    ///
    /// # Errors
    /// [`Error::TooLarge`] where that can't be expressed.
    pub fn sealed_len(&self, plaintext_len: usize) -> Result<usize, Error> {
        plaintext_len
            .div_ceil(self.chunk_size())
            .checked_mul(OVERHEAD)
            .and_then(|overhead| overhead.checked_add(plaintext_len))
            .ok_or(Error::TooLarge)
    }

    /// Bytes of plaintext in so many sealed bytes: any number of full chunks, and a shorter one
    /// behind them or not.
    ///
    /// # Errors
    /// [`Error::BufferSize`] where the last chunk has no plaintext.
    pub fn opened_len(&self, sealed_len: usize) -> Result<usize, Error> {
        let (full, rest) = (
            sealed_len / self.sealed_chunk_len(),
            sealed_len % self.sealed_chunk_len(),
        );
        let last = match rest {
            0 => 0,
            _ => rest
                .checked_sub(OVERHEAD)
                .filter(|&len| len > 0)
                .ok_or(Error::BufferSize)?,
        };
        Ok((full << self.chunk_size.log2) + last)
    }
}

/// Groups below a node of the level below that one.
fn below(level: u8) -> u64 {
    FAN_OUT.pow(u32::from(level) - 1)
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn layout() -> Layout {
        Layout::new(ChunkSize::MIN)
    }

    /// All parts of a file of so many groups, laid down one after the other by hand.
    #[test]
    fn parts_lie_one_behind_the_other() {
        let layout = layout();
        let mut at = DATA_START;
        for group in 0..(3 * 65536 + 5) {
            for level in (1..=3u8).rev() {
                let span = FAN_OUT.pow(u32::from(level));
                let first = span / FAN_OUT;
                if group == first {
                    assert_eq!(layout.node_offset(level, 0), Ok(at), "{level} 0");
                    at += NODE_LEN;
                } else if group > 0 && group % span == 0 {
                    assert_eq!(layout.node_offset(level, group / span), Ok(at));
                    at += NODE_LEN;
                }
            }
            assert_eq!(layout.node_offset(0, group), Ok(at), "{group}");
            assert_eq!(layout.chunk_offset(group * FAN_OUT), Ok(at + NODE_LEN));
            at += layout.group_len();
        }
    }

    #[test]
    fn the_top_has_one_node() {
        let layout = layout();
        for (chunks, top) in [
            (0, 0),
            (1, 0),
            (256, 0),
            (257, 1),
            (65536, 1),
            (65537, 2),
            (1 << 24, 2),
            ((1 << 24) + 1, 3),
            (1 << 54, 6),
        ] {
            assert_eq!(layout.top(chunks), top, "{chunks}");
        }
    }

    #[test]
    fn lengths_of_runs() {
        let layout = layout();
        for (plain, sealed) in [(0, 0), (1, 41), (512, 552), (513, 593), (1024, 1104)] {
            assert_eq!(layout.sealed_len(plain), Ok(sealed));
            assert_eq!(layout.opened_len(sealed), Ok(plain));
        }
        for impossible in [1, 39, 40, 592] {
            assert_eq!(layout.opened_len(impossible), Err(Error::BufferSize));
        }
        assert_eq!(layout.data_end(0), Ok(DATA_START));
        assert_eq!(layout.data_end(513), Ok(DATA_START + NODE_LEN + 552 + 41));
        assert_eq!(layout.chunk_len(1, 513), 1);
        assert_eq!(layout.chunk_len(2, 513), 0);
        assert_eq!(layout.chunk_len(u64::MAX, 513), 0);
    }

    #[test]
    fn sizes_out_of_range_are_none() {
        assert_eq!(ChunkSize::from_bytes(256), None);
        assert_eq!(ChunkSize::from_bytes(131_072), None);
        assert_eq!(ChunkSize::from_bytes(1000), None);
        assert_eq!(ChunkSize::from_log2(12), ChunkSize::from_bytes(4096));
    }

    proptest! {
        #[test]
        fn nothing_overflows(index in any::<u64>(), level in 0..10u8, log2 in 9..17u8) {
            let layout = Layout::new(ChunkSize::from_log2(log2).unwrap());
            let places: Vec<_> = [
                layout.chunk_offset(index),
                layout.node_offset(level, index),
                layout.data_end(index),
                layout.chunk_start(index),
            ].into_iter().flatten().collect();
            prop_assert!(places.into_iter().all(|place| place <= MAX_PHYSICAL_SIZE));
        }

        #[test]
        fn chunks_do_not_overlap(index in 0..1u64 << 40) {
            let layout = layout();
            let here = layout.chunk_offset(index).unwrap();
            let next = layout.chunk_offset(index + 1).unwrap();
            prop_assert!(next >= here + layout.sealed_chunk_len() as u64);
        }
    }
}
