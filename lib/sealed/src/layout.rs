//! Where the bytes lie: arithmetic between plaintext offsets and physical ones, and nothing else.
//!
//! ```text
//! | header | journal | table | nonce ct tag | ... | nonce ct tag | table | ... | nonce short-ct tag |
//!                            '- chunk 0 ----'     '- chunk 255 --'             '- final chunk ------'
//!                    '- group 0 -----------------------------------'- group 1 ------------------'
//! ```
//!
//! Every chunk but the final one holds exactly one chunk size of plaintext; the final one always
//! holds less, and is present even when it holds nothing. So the physical size alone tells the
//! plaintext size, and a file cut at a chunk boundary has an impossible size.

use core::ops::Range;

use crate::journal::ENTRY_LEN;
use crate::{Cipher, Error, HEADER_LEN, TAG_LEN};

/// Chunks of a group, which have their tags in a table before them.
pub const GROUP_CHUNKS: u64 = 256;

/// Bytes of the digest that a table begins with.
pub(crate) const DIGEST_LEN: usize = 16;

/// Bytes of the table of a group: a digest, and a tag for each chunk that the group may have.
pub const TABLE_LEN: usize = DIGEST_LEN + GROUP_CHUNKS as usize * TAG_LEN;

/// Largest size of a sealed file: what a signed 64-bit file offset can express.
pub const MAX_PHYSICAL_SIZE: u64 = i64::MAX as u64;

/// Bytes of plaintext in a full chunk: a power of two from 512 B to 64 KiB.
///
/// Small chunks make small writes cheap, large chunks make the overhead small: 40 bytes a chunk
/// with the default cipher, which is 7.8 % at 512 B, 1 % at 4 KiB and 0.06 % at 64 KiB.
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

/// The last chunk of a file of a known size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FinalChunk {
    /// Its index, which is also the number of full chunks before it.
    pub index: u64,
    /// Bytes of plaintext in it: less than a chunk size, possibly none.
    pub len: usize,
}

/// The geometry of one sealed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    chunk_size: ChunkSize,
    nonce_len: usize,
}

impl Layout {
    /// The layout of files of this cipher and chunk size.
    pub fn new(cipher: Cipher, chunk_size: ChunkSize) -> Self {
        Self {
            chunk_size,
            nonce_len: cipher.nonce_len(),
        }
    }

    /// Bytes of plaintext in a full chunk.
    pub fn chunk_size(&self) -> usize {
        self.chunk_size.bytes()
    }

    /// Bytes a chunk takes on disk beyond its plaintext: nonce and tag.
    pub fn overhead(&self) -> usize {
        self.nonce_len + TAG_LEN
    }

    /// Bytes of a full chunk on disk.
    pub fn sealed_chunk_len(&self) -> usize {
        self.chunk_size() + self.overhead()
    }

    /// Bytes of the journal, which lies between the header and the first chunk: an entry, and
    /// room for one full chunk.
    pub fn journal_len(&self) -> usize {
        ENTRY_LEN + self.sealed_chunk_len()
    }

    /// Physical offset of the first group's table.
    pub fn data_start(&self) -> u64 {
        (HEADER_LEN + self.journal_len()) as u64
    }

    /// Bytes of a full group.
    fn group_len(&self) -> u64 {
        TABLE_LEN as u64 + GROUP_CHUNKS * self.sealed_chunk_len() as u64
    }

    /// Physical offset of a group's table.
    pub fn table_offset(&self, group: u64) -> Result<u64, Error> {
        group
            .checked_mul(self.group_len())
            .and_then(|offset| offset.checked_add(self.data_start()))
            .filter(|&offset| offset <= MAX_PHYSICAL_SIZE)
            .ok_or(Error::TooLarge)
    }

    /// How many of the `count` chunks from `first` on lie in one piece: those of one group.
    pub fn together(&self, first: u64, count: u64) -> u64 {
        count.min(GROUP_CHUNKS - first % GROUP_CHUNKS)
    }

    /// Plaintext size of a file of this physical size.
    ///
    /// A file of zero bytes is an empty file. Otherwise fails with [`Error::Truncated`] for the
    /// sizes that no writer leaves behind: too short for header, journal, table and final chunk, or
    /// ending inside a table, nonce or tag, or exactly at a chunk boundary.
    pub fn plaintext_size(&self, physical: u64) -> Result<u64, Error> {
        if physical == 0 {
            return Ok(0);
        }
        if physical > MAX_PHYSICAL_SIZE {
            return Err(Error::TooLarge);
        }
        let body = physical
            .checked_sub(self.data_start())
            .ok_or(Error::Truncated)?;
        let (group, in_group) = (body / self.group_len(), body % self.group_len());
        let chunks = in_group
            .checked_sub(TABLE_LEN as u64)
            .ok_or(Error::Truncated)?;
        let sealed_chunk = self.sealed_chunk_len() as u64;
        let in_final = (chunks % sealed_chunk)
            .checked_sub(self.overhead() as u64)
            .ok_or(Error::Truncated)?;
        let index = group * GROUP_CHUNKS + chunks / sealed_chunk;
        Ok((index << self.chunk_size.log2) + in_final)
    }

    /// Physical size of a file of this plaintext size, all included.
    pub fn physical_size(&self, plaintext: u64) -> Result<u64, Error> {
        let last = self.final_chunk(plaintext);
        self.chunk_offset(last.index)?
            .checked_add((last.len + self.overhead()) as u64)
            .filter(|&size| size <= MAX_PHYSICAL_SIZE)
            .ok_or(Error::TooLarge)
    }

    /// The final chunk of a file of this plaintext size.
    pub fn final_chunk(&self, plaintext_size: u64) -> FinalChunk {
        FinalChunk {
            index: self.chunk_index(plaintext_size),
            len: self.offset_in_chunk(plaintext_size),
        }
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

    /// Indices of the chunks that hold any of the `len` bytes at `offset`; empty for no bytes.
    pub fn chunks_of(&self, offset: u64, len: u64) -> Result<Range<u64>, Error> {
        let first = self.chunk_index(offset);
        if len == 0 {
            return Ok(first..first);
        }
        let last = offset.checked_add(len - 1).ok_or(Error::TooLarge)?;
        Ok(first..self.chunk_index(last) + 1)
    }

    /// Plaintext offset at which chunk `index` begins.
    pub fn chunk_start(&self, index: u64) -> Result<u64, Error> {
        index
            .checked_mul(self.chunk_size() as u64)
            .filter(|&start| start <= MAX_PHYSICAL_SIZE)
            .ok_or(Error::TooLarge)
    }

    /// Physical offset at which chunk `index` begins.
    pub fn chunk_offset(&self, index: u64) -> Result<u64, Error> {
        let in_group = TABLE_LEN as u64 + index % GROUP_CHUNKS * self.sealed_chunk_len() as u64;
        self.table_offset(index / GROUP_CHUNKS)?
            .checked_add(in_group)
            .filter(|&offset| offset <= MAX_PHYSICAL_SIZE)
            .ok_or(Error::TooLarge)
    }

    /// Bytes that `plaintext_len` bytes, a whole number of full chunks, take when sealed.
    pub fn sealed_run_len(&self, plaintext_len: usize) -> Result<usize, Error> {
        if self.offset_in_chunk(plaintext_len as u64) != 0 {
            return Err(Error::BufferSize);
        }
        (plaintext_len >> self.chunk_size.log2)
            .checked_mul(self.sealed_chunk_len())
            .ok_or(Error::TooLarge)
    }

    /// Bytes of plaintext in `sealed_len` bytes, a whole number of full sealed chunks.
    pub fn opened_run_len(&self, sealed_len: usize) -> Result<usize, Error> {
        if !sealed_len.is_multiple_of(self.sealed_chunk_len()) {
            return Err(Error::BufferSize);
        }
        Ok((sealed_len / self.sealed_chunk_len()) << self.chunk_size.log2)
    }

    /// Bytes that the last `plaintext_len` bytes of a file take when sealed: any number of full
    /// chunks, then the final one.
    pub fn sealed_len_to_end(&self, plaintext_len: usize) -> Result<usize, Error> {
        let in_final = self.offset_in_chunk(plaintext_len as u64);
        self.sealed_run_len(plaintext_len - in_final)?
            .checked_add(in_final + self.overhead())
            .ok_or(Error::TooLarge)
    }

    /// Bytes of plaintext in the last `sealed_len` bytes of a file: any number of full chunks,
    /// then the final one. Fails with [`Error::Truncated`] where no final chunk fits.
    pub fn opened_len_to_end(&self, sealed_len: usize) -> Result<usize, Error> {
        let in_final = sealed_len % self.sealed_chunk_len();
        let len = in_final
            .checked_sub(self.overhead())
            .ok_or(Error::Truncated)?;
        Ok(self.opened_run_len(sealed_len - in_final)? + len)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layouts() -> impl Strategy<Value = Layout> {
        (9u8..=16, any::<bool>()).prop_map(|(log2, gcm)| {
            let cipher = if gcm {
                Cipher::Aes256Gcm
            } else {
                Cipher::XChaCha20Poly1305
            };
            Layout::new(cipher, ChunkSize::from_log2(log2).unwrap())
        })
    }

    fn default_layout() -> Layout {
        Layout::new(Cipher::default(), ChunkSize::default())
    }

    #[test]
    fn chunk_sizes() {
        assert_eq!(ChunkSize::from_bytes(4096), Some(ChunkSize::default()));
        assert_eq!(ChunkSize::from_bytes(512), Some(ChunkSize::MIN));
        assert_eq!(ChunkSize::from_bytes(65536), Some(ChunkSize::MAX));
        for bytes in [0, 1, 256, 511, 513, 4095, 65537, 131_072, usize::MAX] {
            assert_eq!(ChunkSize::from_bytes(bytes), None);
        }
        assert_eq!(ChunkSize::from_log2(8), None);
        assert_eq!(ChunkSize::from_log2(17), None);
        assert_eq!(ChunkSize::from_log2(255), None);
    }

    #[test]
    fn sizes_by_hand() {
        let layout = default_layout();
        assert_eq!(layout.overhead(), 40);
        assert_eq!(layout.sealed_chunk_len(), 4136);
        assert_eq!(layout.journal_len(), 96 + 4136);
        assert_eq!(layout.data_start(), 96 + 96 + 4136);
        assert_eq!(TABLE_LEN, 16 + 256 * 16);
        let start = 96 + 96 + 4136 + 4112;
        assert_eq!(layout.chunk_offset(0), Ok(start));
        for (plaintext, physical) in [
            (0, start + 40),
            (1, start + 41),
            (4095, start + 4135),
            (4096, start + 4136 + 40),
            (4097, start + 4136 + 41),
            (8192, start + 2 * 4136 + 40),
            ((1 << 20) - 1, start + 256 * 4136 - 1),
            (1 << 20, start + 256 * 4136 + 4112 + 40),
            ((1 << 20) + 4096, start + 257 * 4136 + 4112 + 40),
            (1 << 30, start + (1 << 18) * 4136 + 1024 * 4112 + 40),
        ] {
            assert_eq!(layout.physical_size(plaintext), Ok(physical));
            assert_eq!(layout.plaintext_size(physical), Ok(plaintext));
        }
        assert_eq!(layout.plaintext_size(0), Ok(0));
    }

    #[test]
    fn impossible_sizes() {
        let layout = default_layout();
        let start = layout.chunk_offset(0).unwrap();
        let group = layout.table_offset(1).unwrap();
        for physical in [
            1,
            95,
            96,
            97,
            192,
            layout.data_start(),
            start - 1,
            start,
            start + 39,
            start + 4136,
            start + 4136 + 39,
            group,
            group + 1,
            group + 4112,
            group + 4112 + 39,
        ] {
            assert_eq!(layout.plaintext_size(physical), Err(Error::Truncated));
        }
        assert_eq!(
            layout.plaintext_size(MAX_PHYSICAL_SIZE + 1),
            Err(Error::TooLarge)
        );
        assert_eq!(layout.physical_size(u64::MAX), Err(Error::TooLarge));
        assert_eq!(
            layout.physical_size(MAX_PHYSICAL_SIZE),
            Err(Error::TooLarge)
        );
    }

    #[test]
    fn the_largest_file() {
        for cipher in Cipher::ALL {
            let layout = Layout::new(cipher, ChunkSize::MIN);
            let (physical, plaintext) = (0..600)
                .map(|less| MAX_PHYSICAL_SIZE - less)
                .find_map(|size| Some((size, layout.plaintext_size(size).ok()?)))
                .unwrap();
            assert_eq!(layout.physical_size(plaintext), Ok(physical));
            for more in 1..600 {
                assert_eq!(layout.physical_size(plaintext + more), Err(Error::TooLarge));
            }
        }
    }

    #[test]
    fn runs() {
        let layout = default_layout();
        assert_eq!(layout.together(0, 1), 1);
        assert_eq!(layout.together(0, 1000), 256);
        assert_eq!(layout.together(255, 1000), 1);
        assert_eq!(layout.together(257, u64::MAX), 255);
        assert_eq!(layout.chunk_offset(u64::MAX), Err(Error::TooLarge));
        assert_eq!(layout.table_offset(u64::MAX), Err(Error::TooLarge));
        assert_eq!(layout.chunks_of(4095, 2), Ok(0..2));
        assert_eq!(layout.chunks_of(4096, 4096), Ok(1..2));
        assert_eq!(layout.chunks_of(5000, 0), Ok(1..1));
        assert_eq!(layout.chunks_of(u64::MAX, 2), Err(Error::TooLarge));
        assert_eq!(layout.sealed_run_len(4095), Err(Error::BufferSize));
        assert_eq!(layout.opened_run_len(4137), Err(Error::BufferSize));
        assert_eq!(layout.opened_len_to_end(39), Err(Error::Truncated));
        assert_eq!(layout.opened_len_to_end(40), Ok(0));
    }

    proptest! {
        #[test]
        fn sizes_are_inverse(layout in layouts(), plaintext in 0u64..1 << 62) {
            let physical = layout.physical_size(plaintext).unwrap();
            prop_assert_eq!(layout.plaintext_size(physical), Ok(plaintext));
        }

        #[test]
        fn possible_sizes_are_images(layout in layouts(), physical in 1u64..=u64::MAX) {
            if let Ok(plaintext) = layout.plaintext_size(physical) {
                prop_assert_eq!(layout.physical_size(plaintext), Ok(physical));
            }
        }

        #[test]
        fn small_sizes_are_images_or_truncated(layout in layouts(), physical in 1u64..600_000) {
            match layout.plaintext_size(physical) {
                Ok(plaintext) => prop_assert_eq!(layout.physical_size(plaintext), Ok(physical)),
                Err(error) => prop_assert_eq!(error, Error::Truncated),
            }
        }

        #[test]
        fn offsets_agree(layout in layouts(), offset in 0u64..1 << 62) {
            let index = layout.chunk_index(offset);
            let start = layout.chunk_start(index).unwrap();
            prop_assert_eq!(start + layout.offset_in_chunk(offset) as u64, offset);
            prop_assert_eq!(layout.final_chunk(offset).index, index);
            prop_assert_eq!(layout.chunks_of(offset, 1).unwrap(), index..index + 1);
        }

        #[test]
        fn nothing_panics(
            layout in layouts(), a in any::<u64>(), b in any::<u64>(), c in any::<usize>(),
        ) {
            let _ = layout.plaintext_size(a);
            let _ = layout.physical_size(a);
            let _ = layout.final_chunk(a);
            let _ = layout.chunks_of(a, b);
            let _ = layout.chunk_start(a);
            let _ = layout.chunk_offset(a);
            let _ = layout.table_offset(a);
            let _ = layout.together(a, b);
            let _ = layout.sealed_run_len(c);
            let _ = layout.sealed_len_to_end(c);
            let _ = layout.opened_run_len(c);
            let _ = layout.opened_len_to_end(c);
        }

        #[test]
        fn buffer_lengths_are_inverse(layout in layouts(), len in 0usize..1 << 24) {
            let sealed = layout.sealed_len_to_end(len).unwrap();
            prop_assert_eq!(layout.opened_len_to_end(sealed), Ok(len));
            let tables = (layout.chunk_index(len as u64) / GROUP_CHUNKS + 1) * TABLE_LEN as u64;
            prop_assert_eq!(
                layout.physical_size(len as u64).unwrap(),
                layout.data_start() + tables + sealed as u64
            );
        }
    }
}
