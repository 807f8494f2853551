//! What can go wrong with a sealed stream, in words for the person who reads the message.

/// Why a sealed stream failed.
///
/// Each message is a clause that reads well after a peer's address and a colon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer's first bytes are not the protocol's: it speaks something else, perhaps in the
    /// clear.
    #[error("the peer does not speak the sealed protocol")]
    NotSealed,
    /// The peer speaks a version this crate does not know.
    #[error(
        "the peer speaks version {0} of the sealed protocol, this program only version {version}",
        version = super::VERSION
    )]
    UnsupportedVersion(u8),
    /// The handshake does not authenticate under any key at hand. A peer with another key and a
    /// handshake altered on the way look the same.
    #[error("the peer has another key, or the handshake was altered on the way")]
    Handshake,
    /// The transport ended before the handshake was done.
    #[error("the peer closed the connection during the handshake")]
    HandshakeCut,
    /// A record's length is one that no record has.
    #[error("a record with an impossible length ({0} bytes)")]
    RecordLength(u16),
    /// A record does not authenticate: altered, repeated, out of order, or of another connection.
    #[error("record {index} is damaged or was altered")]
    RecordCorrupt {
        /// How many records of this direction came before it.
        index: u64,
    },
    /// The initiator's first record is authentic but not the empty one that confirms the
    /// handshake.
    #[error("the peer breaks the protocol: its first record is not a confirmation")]
    Unconfirmed,
    /// Bytes came after the authenticated end of the stream.
    #[error("bytes after the end of the stream")]
    AfterEnd,
    /// The transport ended without the authenticated end of the stream.
    #[error("the connection was cut: it ended without a sealed end of stream")]
    Cut,
    /// This end has closed its direction already. The only error that leaves the connection as it
    /// was.
    #[error("this end of the connection is closed for writing")]
    WriteClosed,
    /// One direction has used up its record numbers.
    #[error("too many records on one connection")]
    Exhausted,
    /// The AEAD could not seal.
    #[error("sealing failed")]
    Aead,
    /// The random number generator failed.
    #[error("no randomness available")]
    Randomness,
}
