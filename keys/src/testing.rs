//! Helpers for the unit tests.

use rand_core::{TryCryptoRng, TryRng};
use zeroize::Zeroizing;

use crate::passphrase::Passphrase;

/// Bytes that count up from a seed: different ones at each call is all that these tests need.
pub struct TestRng {
    next: u8,
    left: usize,
}

#[derive(Debug, thiserror::Error)]
#[error("out of bytes")]
pub struct OutOfBytes;

impl TestRng {
    pub fn new(seed: u8) -> Self {
        Self {
            next: seed,
            left: usize::MAX,
        }
    }

    /// Fails once `left` bytes have been drawn.
    pub fn failing_after(left: usize) -> Self {
        Self { next: 0, left }
    }
}

impl TryRng for TestRng {
    type Error = OutOfBytes;

    fn try_next_u32(&mut self) -> Result<u32, OutOfBytes> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, OutOfBytes> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), OutOfBytes> {
        self.left = self.left.checked_sub(dst.len()).ok_or(OutOfBytes)?;
        for byte in dst {
            self.next = self.next.wrapping_add(1);
            *byte = self.next;
        }
        Ok(())
    }
}

impl TryCryptoRng for TestRng {}

pub fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(Zeroizing::new(text.as_bytes().to_vec())).unwrap()
}
