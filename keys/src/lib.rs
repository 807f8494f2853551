//! Key files and key rings, and offline work on sealed files.
//!
//! # Without the feature `command`
//!
//! Bytes in, keys out: no files, no clock, no randomness of its own. [`key_file`] tells what the
//! contents of a key file are, [`wrapped`] has keys under a passphrase, [`ring_file`] the files
//! that name several keys, and [`KeyRing`] is what comes of them.
//!
//! # With it
//!
//! [`files`] reads and makes key files, [`sources`] makes rings of them. [`transfer`] seals and opens
//! whole files, [`disk`] is what the library of sealed files sees of one, and [`output`] writes one whole or
//! not at all. [`forest`] finds the files of directory trees, [`verify`] checks one, [`verify_state`]
//! remembers which were; [`recover`] saves what is left of one, and [`rekey`] puts another in its
//! place: the same under another key, or what was left of it. The command `keys` is a thin face on these.

#![forbid(unsafe_code)]

pub mod key_file;
pub mod passphrase;
pub mod ring;
pub mod ring_file;
pub mod wrapped;

#[cfg(feature = "command")]
pub mod disk;
#[cfg(feature = "command")]
pub mod files;
#[cfg(feature = "command")]
pub mod forest;
#[cfg(feature = "command")]
pub mod lock;
#[cfg(feature = "command")]
pub mod output;
#[cfg(feature = "command")]
pub mod parallel;
#[cfg(feature = "command")]
pub mod recover;
#[cfg(feature = "command")]
pub mod rekey;
#[cfg(feature = "command")]
pub mod sources;
#[cfg(feature = "command")]
pub mod stat;
#[cfg(feature = "command")]
pub mod transfer;
#[cfg(feature = "command")]
pub mod verify;
#[cfg(feature = "command")]
pub mod verify_state;

#[cfg(test)]
mod testing;

pub use key_file::KeyFile;
pub use passphrase::Passphrase;
pub use ring::KeyRing;
