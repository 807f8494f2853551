//! Helpers for the unit tests.

use alloc::vec::Vec;

use rand_core::{TryCryptoRng, TryRng};

use crate::{MasterKey, Params, ROOT_OFFSET, Root, Sealer};

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

pub fn seal_whole(key: &MasterKey, params: Params, plaintext: &[u8], rng: TestRng) -> Vec<u8> {
    let mut sealer = Sealer::new(key, params, rng).unwrap();
    let mut sealed = Vec::new();
    sealer.push(plaintext, &mut sealed).unwrap();
    let root = sealer.finish(&mut sealed).unwrap();
    sealed[ROOT_OFFSET as usize..][..Root::LEN].copy_from_slice(root.as_bytes());
    sealed
}
