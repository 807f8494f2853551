//! The sealed file format, version 4: a file cut into chunks, each sealed on its own by an AEAD,
//! so that any part of it can be read and rewritten without touching the rest.
//!
//! The crate does no I/O and asks for no randomness of its own: bytes come in as slices, sealed
//! bytes go out as slices, nonces come from an RNG the caller gives. `docs/format.md` is the
//! normative description of the bytes.
//!
//! # Which type to reach for
//!
//! - [`MasterKey`]: the 32 bytes of a key file.
//! - [`Volume`]: one sealed file on a [`Disk`], which its user brings: opening, reading and changing it.
//! - [`Salvage`]: what is left of a damaged one.
//! - [`FileCipher`]: the chunks of one file by themselves.
//! - [`Layout`]: where a chunk lies on disk, and which sizes are possible.
//! - [`Sealer`]: a whole file from beginning to end.
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
//! use sealed::{FileCipher, MasterKey, Params, Sealer, Volume};
//!
//! let key = MasterKey::from_bytes([7; 32]);
//! let mut sealer = Sealer::new(&key, Params::default(), &mut rng)?;
//! let mut sealed = Vec::new();
//! sealer.push(&[1; 5000], &mut sealed)?;
//! sealer.finish(&mut sealed)?.apply(&mut sealed);
//!
//! // Later: the header opens with the key, then any chunk can be read by itself.
//! let opened = Volume::open(sealed.as_slice(), |head| FileCipher::open(&key, head));
//! let mut volume = opened.unwrap().volume.unwrap();
//! assert_eq!(volume.size(), 5000);
//! let mut second = [0; 904];
//! volume.read(sealed.as_slice(), 1, &mut second).unwrap();
//! assert_eq!(second, [1; 904]);
//! # Ok::<(), sealed::Error>(())
//! ```

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod aead;
mod disk;
mod error;
mod file;
mod header;
mod keys;
mod layout;
pub mod mac;
mod record;
mod secret;
mod stream;
mod superblock;
mod tree;
pub mod volume;

#[cfg(feature = "wire")]
pub mod wire;

#[cfg(test)]
mod testing;

pub use aead::{Cipher, TAG_LEN};
pub use disk::{Chunks, Disk, Failure, ReadOnly, Unsealed};
pub use error::Error;
pub use file::{FileCipher, Nonces};
pub use header::{
    HEADER_FIELDS_LEN, HEADER_LEN, Header, MAGIC, Params, SALT_LEN, UnverifiedHeader, VERSION,
};
pub use keys::{Derive, FileKey, FileSecrets, KEY_LEN, KeyId, MasterKey, derive};
pub use layout::{
    ChunkSize, DATA_START, FAN_OUT, Layout, MAX_PHYSICAL_SIZE, NONCE_LEN, OVERHEAD, SLOT_LEN,
};
pub use record::{Tag, tags_of};
pub use secret::Secret;
pub use stream::{Patches, Sealer};
pub use superblock::{MARK_LEN, SECTOR_LEN, SUPERBLOCK_LEN, Superblock};
pub use volume::{Extent, Found, Moment, Opened, Salvage, Volume};

/// Writes bytes in hexadecimal.
fn write_hex(f: &mut core::fmt::Formatter<'_>, bytes: &[u8]) -> core::fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}
