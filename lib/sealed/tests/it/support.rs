//! What the tests share.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;

use rand_core::{TryCryptoRng, TryRng};
use sealed::{
    ChunkSize, Cipher, Disk, Error, Failure, FileCipher, FileKey, MasterKey, Params, Sealer, Volume,
};

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

/// Parameters with the smallest chunk.
pub fn small_chunks(cipher: Cipher) -> Params {
    Params {
        cipher,
        chunk_size: ChunkSize::MIN,
    }
}

/// Bytes in which every chunk differs from every other.
pub fn sample(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i ^ (i >> 8) ^ 0x5A) as u8).collect()
}

const PAGE: u64 = 4096;

type Page = [u8; PAGE as usize];

/// A disk in memory that takes no room for what is zeros.
#[derive(Clone, Default)]
pub struct Memory {
    pages: RefCell<BTreeMap<u64, Page>>,
    size: Cell<u64>,
}

impl Memory {
    /// A disk with these bytes on it.
    pub fn of(bytes: &[u8]) -> Self {
        let memory = Self::default();
        memory.put(0, bytes);
        memory
    }

    /// Size in bytes.
    pub fn len(&self) -> u64 {
        self.size.get()
    }

    /// Bytes of it, with zeros behind its end.
    pub fn get(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let pages = self.pages.borrow();
        for (at, page, within) in pieces(offset, len) {
            if let Some(page) = pages.get(&page) {
                bytes[at..][..within.len()].copy_from_slice(&page[within]);
            }
        }
        bytes
    }

    /// Overwrites a part, or adds it.
    pub fn put(&self, offset: u64, bytes: &[u8]) {
        let mut pages = self.pages.borrow_mut();
        for (at, page, within) in pieces(offset, bytes.len()) {
            let page = pages.entry(page).or_insert([0; PAGE as usize]);
            page[within.clone()].copy_from_slice(&bytes[at..][..within.len()]);
        }
        self.size.set(self.len().max(offset + bytes.len() as u64));
    }

    /// Changes one byte.
    pub fn flip(&self, offset: u64) {
        self.put(offset, &[self.get(offset, 1)[0] ^ 0x80]);
    }

    /// Takes a part as it is on another disk.
    pub fn take(&self, other: &Self, offset: u64, len: usize) {
        self.put(offset, &other.get(offset, len));
    }

    /// Cuts it, or extends it with zeros.
    pub fn resize(&self, size: u64) {
        let mut pages = self.pages.borrow_mut();
        drop(pages.split_off(&size.div_ceil(PAGE)));
        if let Some(page) = pages.get_mut(&(size / PAGE)) {
            page[(size % PAGE) as usize..].fill(0);
        }
        self.size.set(size);
    }

    /// How many blocks of 64 bytes are not as on another disk.
    pub fn distance(&self, other: &Self) -> usize {
        let blocks = |(one, other): (Page, Page)| {
            let pairs = one.chunks(64).zip(other.chunks(64));
            pairs.filter(|(one, other)| one != other).count()
        };
        self.beside(other).into_values().map(blocks).sum()
    }

    /// What is not as on another disk, up to the end: from where on, and what. What is the same is
    /// left in where it is little.
    pub fn differences(&self, other: &Self) -> Vec<(u64, Vec<u8>)> {
        const LITTLE: usize = 64;
        let mut parts: Vec<(u64, Vec<u8>)> = Vec::new();
        for (number, (page, before)) in self.beside(other) {
            let offsets = number * PAGE..self.len().min((number + 1) * PAGE);
            let bytes = offsets.zip(page.iter().zip(&before));
            for (at, (byte, _)) in bytes.filter(|(_, (byte, before))| byte != before) {
                match parts.last_mut() {
                    Some((start, part)) if at - *start < (part.len() + LITTLE) as u64 => {
                        let end = *start + part.len() as u64;
                        if end < at {
                            part.extend(self.get(end, (at - end) as usize));
                        }
                        part.push(*byte);
                    }
                    _ => parts.push((at, vec![*byte])),
                }
            }
        }
        parts
    }

    /// The pages of both disks that are not the same.
    fn beside(&self, other: &Self) -> BTreeMap<u64, (Page, Page)> {
        let (own, others) = (self.pages.borrow(), other.pages.borrow());
        let page = |pages: &BTreeMap<u64, Page>, number| {
            pages.get(number).copied().unwrap_or([0; PAGE as usize])
        };
        own.keys()
            .chain(others.keys())
            .map(|number| (*number, (page(&own, number), page(&others, number))))
            .filter(|(_, (own, other))| own != other)
            .collect()
    }
}

/// The pages of a range: where in the range each begins, its number, and what of it is meant.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (usize, u64, std::ops::Range<usize>)> {
    let end = offset + len as u64;
    (offset / PAGE..end.div_ceil(PAGE)).map(move |page| {
        let from = offset.max(page * PAGE);
        let to = end.min((page + 1) * PAGE);
        let within = (from - page * PAGE) as usize..(to - page * PAGE) as usize;
        ((from - offset) as usize, page, within)
    })
}

impl Disk for Memory {
    type Error = Infallible;

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Infallible> {
        let len = self.len().saturating_sub(offset).min(buf.len() as u64) as usize;
        buf[..len].copy_from_slice(&self.get(offset, len));
        Ok(len)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<(), Infallible> {
        self.put(offset, buf);
        Ok(())
    }

    fn sync(&self) -> Result<(), Infallible> {
        Ok(())
    }

    fn set_size(&self, size: u64) -> Result<(), Infallible> {
        self.resize(size);
        Ok(())
    }

    fn size(&self) -> Result<u64, Infallible> {
        Ok(self.len())
    }
}

/// What of the error is the library's.
pub fn sealed_error(failure: Failure<Infallible>) -> Error {
    match failure {
        Failure::Sealed(error) => error,
        Failure::Disk(never) => match never {},
    }
}

/// A whole sealed file.
pub fn seal(key: &FileKey, plaintext: &[u8], rng: &mut TestRng) -> Memory {
    let mut sealer = Sealer::with_cipher(FileCipher::new(key), rng);
    let mut sealed = Vec::new();
    sealer.push(plaintext, &mut sealed).unwrap();
    let patches = sealer.finish(&mut sealed).unwrap();
    patches.apply(&mut sealed);
    Memory::of(&sealed)
}

/// What is on a disk; `None` for an empty file that nothing says anything of.
pub fn volume(master: &MasterKey, disk: &Memory) -> Result<Option<Volume>, Error> {
    Volume::open(disk, |head| FileCipher::open(master, head))
        .map(|opened| opened.volume)
        .map_err(sealed_error)
}

/// A piece of plaintext.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Run {
    Bytes(Vec<u8>),
    Zeros(u64),
}

/// Reads a whole file from its beginning to its end.
pub fn open(master: &MasterKey, disk: &Memory) -> Result<Vec<Run>, Error> {
    let Some(mut volume) = volume(master, disk)? else {
        return Ok(Vec::new());
    };
    let layout = *volume.layout();
    let mut runs: Vec<Run> = Vec::new();
    let mut at = 0;
    while at < volume.size() {
        let data = volume.seek(disk, at, false).map_err(sealed_error)?;
        if data > at {
            runs.push(Run::Zeros(data - at));
            at = data;
            continue;
        }
        let index = layout.chunk_index(at);
        let mut chunk = vec![0xFF; layout.chunk_len(index, volume.size())];
        volume.read(disk, index, &mut chunk).map_err(sealed_error)?;
        at += chunk.len() as u64;
        match runs.last_mut() {
            Some(Run::Bytes(bytes)) => bytes.extend_from_slice(&chunk),
            _ => runs.push(Run::Bytes(chunk)),
        }
    }
    Ok(runs)
}
