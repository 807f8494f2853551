//! Plaintext in memory.

use alloc::vec::Vec;
use core::fmt;
use core::ops::{Deref, DerefMut};

use zeroize::Zeroize;

/// Bytes that are wiped from memory when they are dropped, with whatever was behind their end before.
///
/// As `Zeroizing<Vec<u8>>`, which wipes a vector byte by byte: of plaintext there is so much that in WebAssembly this
/// took as long as the cipher. A slice is wiped in larger pieces. What a vector leaves behind when it grows is not
/// wiped by either: make room before.
#[derive(Default)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes bytes over.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// So many zeros.
    pub fn zeros(len: usize) -> Self {
        Self(alloc::vec![0; len])
    }

    /// None, and room for so many.
    pub fn with_capacity(room: usize) -> Self {
        Self(Vec::with_capacity(room))
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.spare_capacity_mut().zeroize();
        self.0.as_mut_slice().zeroize();
    }
}

impl Deref for Secret {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Secret {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}
