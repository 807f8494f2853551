//! The sealed file format, version 3: a file cut into chunks, each sealed on its own by an AEAD,
//! so that any part of it can be read and rewritten without touching the rest.
//!
//! The crate does no I/O and asks for no randomness of its own: bytes come in as slices, sealed
//! bytes go out as slices, nonces come from an RNG the caller gives. `docs/format.md` is the
//! normative description of the bytes.
//!
//! # Which type to reach for
//!
//! - [`MasterKey`]: the 32 bytes of a key file.
//! - [`FileCipher`]: one open file. [`FileCipher::create`] for a new file, [`FileCipher::open`] for
//!   the header of an existing one; then [`seal_run`](FileCipher::seal_run),
//!   [`seal_to_end`](FileCipher::seal_to_end) and their inverses on runs of chunks exactly as they
//!   lie on disk.
//! - [`Layout`]: where a plaintext offset lies on disk, and which sizes are possible.
//! - [`Entry`]: what the journal of a file says, by which a change that was cut short is undone or
//!   completed.
//! - [`Tree`]: which version of each chunk is the newest.
//! - [`Sealer`] and [`Opener`]: a whole file from beginning to end.
//!
//! With the feature `wire`, the module `wire` has the state machines of sealed connections.
//!
//! # Example
//!
//! ```
//! # struct Rng(u8);
//! # impl rand_core::TryRng for Rng {
//! #     type Error = core::convert::Infallible;
//! #     fn try_next_u32(&mut self) -> Result<u32, Self::Error> { Ok(0) }
//! #     fn try_next_u64(&mut self) -> Result<u64, Self::Error> { Ok(0) }
//! #     fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Self::Error> {
//! #         for byte in dst { self.0 = self.0.wrapping_add(1); *byte = self.0; }
//! #         Ok(())
//! #     }
//! # }
//! # impl rand_core::TryCryptoRng for Rng {}
//! # let mut rng = Rng(0);
//! use sealed::{FileCipher, MasterKey, Params};
//!
//! let key = MasterKey::from_bytes([7; 32]);
//! let file = FileCipher::create(&key, Params::default(), &mut rng)?;
//! let layout = *file.layout();
//!
//! // One full chunk and a short final one, sealed into one buffer for one write to the disk.
//! let plaintext = [1u8; 5000];
//! let mut sealed = vec![0; layout.sealed_len_to_end(plaintext.len())?];
//! file.seal_to_end(0, &plaintext, &mut sealed, &mut rng)?;
//!
//! // Later: the header opens with the key, then any chunk can be read by itself.
//! let file = FileCipher::open(&key, &file.header().encode())?;
//! let mut first = [0; 4096];
//! file.open_run(0, &sealed[..layout.sealed_chunk_len()], &mut first)?;
//! assert_eq!(first, plaintext[..4096]);
//! # Ok::<(), sealed::Error>(())
//! ```

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod aead;
mod error;
mod file;
mod header;
mod journal;
mod keys;
mod layout;
mod stream;
mod tree;

#[cfg(feature = "wire")]
pub mod wire;

#[cfg(test)]
mod testing;

pub use error::Error;
pub use file::FileCipher;
pub use header::{HEADER_LEN, Header, MAGIC, Params, SALT_LEN, UnverifiedHeader, VERSION};
pub use journal::{ENTRY_LEN, Entry, ROOT_OFFSET, Restore, Stamp};
pub use keys::{FileKey, KEY_LEN, KeyId, MasterKey};
pub use layout::{ChunkSize, FinalChunk, GROUP_CHUNKS, Layout, MAX_PHYSICAL_SIZE, TABLE_LEN};
pub use stream::{Opener, Sealer};
pub use tree::{Digest, Root, Tag, Tree, tags_of};

pub use aead::{Cipher, TAG_LEN};

/// Writes bytes in hexadecimal.
fn write_hex(f: &mut core::fmt::Formatter<'_>, bytes: &[u8]) -> core::fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}
