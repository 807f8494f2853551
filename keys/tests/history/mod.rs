//! A file in several versions, which share their salt, and what they are made of.

// Each test file uses another part of it.
#![allow(dead_code)]

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use getrandom::SysRng;
use keys::disk::FileDisk;
use sealed::{
    ChunkSize, Cipher, FAN_OUT, FileCipher, FileKey, Layout, MasterKey, OVERHEAD, Params, SLOT_LEN,
    Volume,
};

pub const KEY: [u8; 32] = [0xAA; 32];
pub const CHUNK: usize = 512;
pub const GROUP: usize = CHUNK * FAN_OUT as usize;

pub const PARAMS: Params = Params {
    cipher: Cipher::XChaCha20Poly1305,
    chunk_size: ChunkSize::MIN,
};

pub fn layout() -> Layout {
    PARAMS.layout()
}

/// Where a chunk begins.
pub fn at(index: u64) -> usize {
    layout().chunk_offset(index).unwrap() as usize
}

pub fn chunk(index: u64) -> Range<usize> {
    at(index)..at(index) + CHUNK + OVERHEAD
}

/// Both slots of a node.
pub fn node(level: u8, index: u64) -> Range<usize> {
    let start = layout().node_offset(level, index).unwrap() as usize;
    start..start + 2 * SLOT_LEN
}

/// A superblock, with its mark.
pub fn superblock(slot: usize) -> Range<usize> {
    slot * 65536 + if slot == 0 { 512 } else { 0 }..slot * 65536 + 1056
}

/// A file that gets several versions under one salt.
pub struct History {
    file: File,
    volume: Volume,
    pub versions: Vec<Version>,
}

/// One of them.
#[derive(Clone)]
pub struct Version {
    pub plaintext: Vec<u8>,
    pub sealed: Vec<u8>,
}

impl History {
    pub fn new() -> Self {
        let key = FileKey::generate(&MasterKey::from_bytes(KEY), PARAMS, &mut SysRng).unwrap();
        Self {
            file: tempfile::tempfile().unwrap(),
            volume: Volume::create(FileCipher::new(&key), &mut SysRng).unwrap(),
            versions: Vec::new(),
        }
    }

    /// All of the file, written anew, at its place. No byte of it is zero, or one of that of another
    /// number.
    pub fn version(&mut self, len: usize) -> Version {
        let number = self.versions.len() as u8;
        let plaintext: Vec<u8> = (0..len)
            .map(|i| 1 + number * 50 + ((i + i / CHUNK) % 49) as u8)
            .collect();
        let disk = FileDisk(&self.file);
        self.volume.set_len(&disk, &mut SysRng, len as u64).unwrap();
        for (i, piece) in plaintext.chunks(1 << 20).enumerate() {
            let offset = (i as u64) << 20;
            self.volume
                .write(&disk, &mut SysRng, offset, piece)
                .unwrap();
        }
        self.volume.checkpoint(&disk, &mut SysRng).unwrap();
        let mut sealed = vec![0; self.file.metadata().unwrap().len() as usize];
        self.file.read_exact_at(&mut sealed, 0).unwrap();
        self.versions.push(Version { plaintext, sealed });
        self.versions[self.versions.len() - 1].clone()
    }
}

/// A file with parts of another one.
pub fn with(sealed: &[u8], older: &[u8], parts: &[Range<usize>]) -> Vec<u8> {
    let mut mixed = sealed.to_vec();
    for part in parts {
        let part = part.start..part.end.min(mixed.len()).min(older.len());
        if !part.is_empty() {
            mixed[part.clone()].copy_from_slice(&older[part]);
        }
    }
    mixed
}

/// Changes a byte of a file.
pub fn flip(path: &std::path::Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}
