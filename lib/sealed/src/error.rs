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
    /// A chunk does not authenticate: altered, moved, taken from another file, or, for the last
    /// chunk, cut short or extended.
    #[error("chunk {index} is damaged or was altered")]
    ChunkCorrupt {
        /// Index of the first chunk that failed.
        index: u64,
    },
    /// A chunk is authentic, but it is not the one that was written last at its place, or its tag in
    /// the table of its group was altered.
    #[error("chunk {index} is not the one that was written last: an older version was put back")]
    Stale {
        /// Index of the chunk.
        index: u64,
    },
    /// The table of a group does not fit its digest.
    #[error(
        "the table of chunks {first} to {last} is damaged or was altered",
        first = .group * crate::GROUP_CHUNKS,
        last = .group * crate::GROUP_CHUNKS + (crate::GROUP_CHUNKS - 1)
    )]
    TableCorrupt {
        /// Index of the group.
        group: u64,
    },
    /// The tables do not fit the root.
    #[error("the tables of chunks are damaged, or parts of an older version were put back")]
    RootCorrupt,
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

impl Error {
    /// Whether parts of the file are, or may be, of another version than the rest: a rollback looks
    /// so, and a power loss.
    pub fn is_of_versions(&self) -> bool {
        matches!(
            self,
            Self::Stale { .. } | Self::TableCorrupt { .. } | Self::RootCorrupt
        )
    }
}
