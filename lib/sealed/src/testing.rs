//! Helpers for the unit tests.

use rand_core::{TryCryptoRng, TryRng};

/// A repeatable source of bytes that never repeats a nonce: SplitMix64, which is no cryptographic
/// generator and only ever seals test data.
pub struct TestRng {
    state: u64,
    left: usize,
}

#[derive(Debug, thiserror::Error)]
#[error("out of bytes")]
pub struct OutOfBytes;

impl TestRng {
    pub fn new(seed: u64) -> Self {
        Self {
            state: seed,
            left: usize::MAX,
        }
    }

    /// Fails once `left` bytes have been drawn.
    pub fn failing_after(left: usize) -> Self {
        Self { state: 0, left }
    }
}

impl TryRng for TestRng {
    type Error = OutOfBytes;

    fn try_next_u32(&mut self) -> Result<u32, OutOfBytes> {
        self.try_next_u64().map(|word| word as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, OutOfBytes> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), OutOfBytes> {
        self.left = self.left.checked_sub(dst.len()).ok_or(OutOfBytes)?;
        for piece in dst.chunks_mut(8) {
            self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut word = self.state;
            word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            word ^= word >> 31;
            piece.copy_from_slice(&word.to_le_bytes()[..piece.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for TestRng {}
