//! What the tests share.

use std::cell::RefCell;
use std::convert::Infallible;

use rand_core::{TryCryptoRng, TryRng};
use sealed::{Disk, Error, Failure, FileCipher, FileKey, MasterKey, ReadOnly, Sealer, Volume};

/// A repeatable source of bytes: SplitMix64, no cryptographic generator, for test data only.
pub struct TestRng(pub u64);

impl TryRng for TestRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|word| word as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        for piece in dst.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut word = self.0;
            word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            word ^= word >> 31;
            piece.copy_from_slice(&word.to_le_bytes()[..piece.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for TestRng {}

/// Bytes in which every chunk differs from every other.
pub fn sample(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i ^ (i >> 8) ^ 0x5A) as u8).collect()
}

/// A file in memory.
#[derive(Clone, Default)]
pub struct Memory(pub RefCell<Vec<u8>>);

impl Disk for Memory {
    type Error = ReadOnly;

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, ReadOnly> {
        self.0.borrow().as_slice().read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<(), ReadOnly> {
        let mut bytes = self.0.borrow_mut();
        let end = offset as usize + buf.len();
        let len = bytes.len().max(end);
        bytes.resize(len, 0);
        bytes[offset as usize..end].copy_from_slice(buf);
        Ok(())
    }

    fn sync(&self) -> Result<(), ReadOnly> {
        Ok(())
    }

    fn set_size(&self, size: u64) -> Result<(), ReadOnly> {
        self.0.borrow_mut().resize(size as usize, 0);
        Ok(())
    }

    fn size(&self) -> Result<u64, ReadOnly> {
        Ok(self.0.borrow().len() as u64)
    }
}

/// A whole sealed file, made as a stream.
pub fn seal(key: &FileKey, plaintext: &[u8], rng: &mut TestRng) -> Vec<u8> {
    let mut sealer = Sealer::with_cipher(FileCipher::new(key), rng);
    let mut sealed = Vec::new();
    // In pieces that fit nothing.
    for piece in plaintext.chunks(1000) {
        sealer.push(piece, &mut sealed).unwrap();
    }
    sealer.finish(&mut sealed).unwrap().apply(&mut sealed);
    sealed
}

/// Opens a whole file.
pub fn open(master: &MasterKey, sealed: &[u8]) -> Result<Vec<u8>, Error> {
    let told = |failure| match failure {
        Failure::Sealed(error) => error,
        Failure::Disk(ReadOnly) => unreachable!("memory can be read"),
    };
    let opened = Volume::open(sealed, |head| FileCipher::open(master, head)).map_err(told)?;
    let Some(mut volume) = opened.volume else {
        return Ok(Vec::new());
    };
    let mut plaintext = vec![0; volume.size() as usize];
    let mut done = 0;
    while done < plaintext.len() {
        let first = volume.layout().chunk_index(done as u64);
        done += volume
            .read(sealed, first, &mut plaintext[done..])
            .map_err(told)?;
    }
    Ok(plaintext)
}
