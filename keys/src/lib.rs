//! Key files, and whole sealed files in and out of ordinary ones.
//!
//! [`key_file`] reads and makes the files that hold master keys. [`transfer`] seals and opens from
//! any reader to any writer. [`output`] writes a file whole or not at all. The command `keys` is a
//! thin face on these.

#![forbid(unsafe_code)]

pub mod key_file;
pub mod output;
pub mod transfer;
