//! Randomness for nonces and salts, taken from the host in blocks: a large write needs hundreds of
//! nonces, and each trip to the host costs more than the bytes.

use super::state::lock;
use rand_core::{TryCryptoRng, TryRng};
use std::sync::Mutex;
use zeroize::Zeroizing;

const BLOCK: usize = 4096;

/// Random bytes of the host. Every byte is given once.
#[derive(Debug)]
pub struct HostRandom {
    block: Zeroizing<[u8; BLOCK]>,
    used: usize,
}

impl HostRandom {
    /// Nothing taken yet.
    pub fn new() -> Self {
        Self {
            block: Zeroizing::new([0; BLOCK]),
            used: BLOCK,
        }
    }
}

impl TryRng for HostRandom {
    type Error = getrandom::Error;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        for part in out.chunks_mut(BLOCK) {
            if BLOCK - self.used < part.len() {
                getrandom::fill(self.block.as_mut_slice())?;
                self.used = 0;
            }
            let taken = &mut self.block[self.used..self.used + part.len()];
            part.copy_from_slice(taken);
            taken.fill(0);
            self.used += part.len();
        }
        Ok(())
    }
}

impl TryCryptoRng for HostRandom {}

/// The randomness that all cages share, held no longer than the bytes take.
#[derive(Debug)]
pub struct Shared<'a>(pub &'a Mutex<HostRandom>);

impl TryRng for Shared<'_> {
    type Error = getrandom::Error;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        lock(self.0).try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        lock(self.0).try_next_u64()
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        lock(self.0).try_fill_bytes(out)
    }
}

impl TryCryptoRng for Shared<'_> {}
