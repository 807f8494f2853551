//! Sealed connections, version 1: what two ends that share a key send each other so that the
//! wire between them can neither read nor alter it.
//!
//! Like the rest of the crate this does no I/O. A state machine is fed what the transport brought
//! and says what the transport is to send; `docs/wire.md` is the normative description of the
//! bytes.
//!
//! - [`Connection`]: one end of a sealed stream. A Noise `NNpsk0` handshake, then records, then an
//!   authenticated end for each direction.
//! - [`Datagrams`]: the datagrams of one socket, each sealed by itself, with a replay window.
//! - [`Keys`]: the key or key ring both are made from.
//! - [`aead`]: the AEAD of all that comes after the handshake, behind a trait.
//!
//! # Example
//!
//! ```
//! # use std::convert::Infallible;
//! # struct Rng(u8);
//! # impl rand_core::TryRng for Rng {
//! #     type Error = Infallible;
//! #     fn try_next_u32(&mut self) -> Result<u32, Infallible> { Ok(0) }
//! #     fn try_next_u64(&mut self) -> Result<u64, Infallible> { Ok(0) }
//! #     fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
//! #         for byte in dst { self.0 = self.0.wrapping_add(1); *byte = self.0; }
//! #         Ok(())
//! #     }
//! # }
//! # impl rand_core::TryCryptoRng for Rng {}
//! # let mut rng = Rng(0);
//! use sealed::MasterKey;
//! use sealed::wire::{Connection, Incoming, Keys};
//!
//! let keys = Keys::from(MasterKey::from_bytes([7; 32]));
//! let mut client = Connection::initiator(&keys, &mut rng)?;
//! let mut server = Connection::responder(&keys, &mut rng)?;
//!
//! /// What the transport does: takes from one end what it wants sent, and gives it to the other.
//! fn carry(from: &mut Connection, to: &mut Connection) -> Result<(), sealed::wire::Error> {
//!     let taken = to.read_wire(from.wire_output())?;
//!     from.wire_sent(taken);
//!     Ok(())
//! }
//!
//! carry(&mut client, &mut server)?;
//! carry(&mut server, &mut client)?;
//! assert!(!client.is_handshaking());
//!
//! assert_eq!(client.write(b"hello", usize::MAX)?, 5);
//! client.close_write()?;
//! carry(&mut client, &mut server)?;
//! assert_eq!(server.peek()?, Incoming::Data(b"hello"));
//! server.consume(5);
//! assert_eq!(server.peek()?, Incoming::End);
//! # Ok::<(), sealed::wire::Error>(())
//! ```

pub mod aead;
mod datagram;
mod error;
mod handshake;
mod queue;
mod record;
mod stream;

use alloc::sync::Arc;
use core::fmt;
use core::iter;

use crate::MasterKey;

pub use datagram::{
    DATAGRAM_MAGIC, DATAGRAM_OVERHEAD, DatagramError, Datagrams, MAX_DATAGRAM_LEN, REPLAY_WINDOW,
    SENDER_LIMIT, SENDER_SALT_LEN, payload_room,
};
pub use error::Error;
pub use handshake::{INITIATOR_FLIGHT_LEN, RESPONDER_FLIGHT_LEN, STREAM_MAGIC};
pub use record::{HEADER_LEN, MAX_RECORD_LEN, MAX_RECORD_PLAINTEXT, OVERHEAD, REKEY_INTERVAL};
pub use stream::{Connection, INCOMING_LIMIT, Incoming, OUTGOING_LIMIT};

/// The version of the protocols this crate speaks.
pub const VERSION: u8 = 1;

/// The keys an end of a sealed connection has: the one it seals with, and those it also takes from
/// a peer. Cheap to clone.
///
/// Nothing on the wire names a key. Whoever receives tries its keys in turn, which costs little
/// (no Diffie-Hellman is done before the right one is found), and a ring should stay in the tens.
#[derive(Clone)]
pub struct Keys(Arc<[MasterKey]>);

impl Keys {
    /// A ring: the key to seal with, and others to accept, in the order they are tried.
    pub fn new(primary: MasterKey, others: impl IntoIterator<Item = MasterKey>) -> Self {
        Self(iter::once(primary).chain(others).collect())
    }

    /// The key that connections are opened and datagrams are sealed with.
    fn primary(&self) -> &MasterKey {
        // `new` puts it there.
        &self.0[0]
    }

    /// All keys, the primary one first.
    fn iter(&self) -> impl Iterator<Item = &MasterKey> {
        self.0.iter()
    }
}

impl From<MasterKey> for Keys {
    fn from(key: MasterKey) -> Self {
        Self::new(key, [])
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(MasterKey::id))
            .finish()
    }
}
