//! What can go wrong, in words for the person who reads the message.

use crate::KeyId;

/// Why a file could not be sealed or opened.
///
/// Each message is a clause that reads well after a file name and a colon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file does not begin with the magic number.
    #[error("not a sealed file")]
    NotSealed,
    /// The file says it is of a version this crate does not know.
    #[error(
        "sealed in format version {0}, but this program knows only version {version}",
        version = crate::VERSION
    )]
    UnsupportedVersion(u8),
    /// The header names a cipher this crate does not know.
    #[error("sealed with an unknown cipher (number {0})")]
    UnknownCipher(u8),
    /// The header names a chunk size outside the allowed range.
    #[error("the header names an impossible chunk size (2 to the power {0})")]
    UnsupportedChunkSize(u8),
    /// The file was sealed with another key.
    #[error("wrong key: the file was sealed with key {file}, the key given is {given}")]
    WrongKey {
        /// The key the file names.
        file: KeyId,
        /// The key it was tried with.
        given: KeyId,
    },
    /// The key is right, or claims to be, but the header does not authenticate.
    #[error("the header is damaged or was altered")]
    HeaderCorrupt,
    /// The file ends where no sealed file can end.
    #[error("cut short: the end of the file is missing")]
    Truncated,
    /// A chunk does not authenticate: altered, moved, taken from another file, cut short or
    /// extended.
    #[error("chunk {index} is damaged or was altered")]
    ChunkCorrupt {
        /// Index of the first chunk that failed.
        index: u64,
    },
    /// A chunk is authentic, but it is not the one that was written last.
    #[error("chunk {index} is not the one that was written last: an older version was put back")]
    Stale {
        /// Index of the chunk.
        index: u64,
    },
    /// A node of the tree is not the one that the node above names.
    #[error("the tags of chunks {first} to {last} are damaged, or were put back")]
    TreeCorrupt {
        /// The first chunk below it.
        first: u64,
        /// The last one.
        last: u64,
    },
    /// A superblock is neither authentic nor was it never written.
    #[error("superblock {slot} is damaged or was altered")]
    SuperblockCorrupt {
        /// Which one, 0 or 1.
        slot: u64,
    },
    /// The log ends before a record that had reached the disk.
    #[error("record {record} of the log is damaged, or an older log was put back")]
    LogCorrupt {
        /// The first record that is missing, counted from 1.
        record: u64,
    },
    /// A size or offset that no sealed file can have.
    #[error("too large for a sealed file")]
    TooLarge,
    /// The caller's buffers do not fit each other or the chunk size.
    #[error("buffer length does not match the chunks")]
    BufferSize,
    /// The random number generator failed.
    #[error("no randomness available")]
    Randomness,
    /// A master key of the wrong length.
    #[error("a key is {expected} bytes long, not {0}", expected = crate::KEY_LEN)]
    KeyLength(usize),
}
