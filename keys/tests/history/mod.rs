//! A file in several versions, which share their salt, and what they are made of.

// Each test file uses another part of it.
#![allow(dead_code)]

use std::ops::Range;

use getrandom::SysRng;
use sealed::{
    ChunkSize, Cipher, Entry, FileCipher, FileKey, GROUP_CHUNKS, HEADER_LEN, Layout, MasterKey,
    Params, ROOT_OFFSET, Restore, Root, Stamp, TABLE_LEN, Tag, Tree, tags_of,
};

pub const KEY: [u8; 32] = [0xAA; 32];
pub const CHUNK: usize = 512;
pub const GROUP: usize = CHUNK * GROUP_CHUNKS as usize;

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
    at(index)..at(index) + layout().sealed_chunk_len()
}

pub fn digest(group: u64) -> Range<usize> {
    let table = layout().table_offset(group).unwrap() as usize;
    table..table + 16
}

/// A full group, with its table.
pub fn group(index: u64) -> Range<usize> {
    digest(index).start..chunk((index + 1) * GROUP_CHUNKS - 1).end
}

/// The place of a chunk's tag in its table.
pub fn slot(index: u64) -> Range<usize> {
    let start = digest(index / GROUP_CHUNKS).end + (index % GROUP_CHUNKS) as usize * 16;
    start..start + 16
}

pub const ROOT: Range<usize> = ROOT_OFFSET as usize..ROOT_OFFSET as usize + Root::LEN;

/// A file that gets several versions under one salt.
pub struct History(pub FileCipher);

/// One of them.
#[derive(Clone)]
pub struct Version {
    pub plaintext: Vec<u8>,
    pub sealed: Vec<u8>,
}

impl History {
    pub fn new() -> Self {
        let key = FileKey::generate(&MasterKey::from_bytes(KEY), PARAMS, &mut SysRng).unwrap();
        Self(FileCipher::new(&key))
    }

    /// All of the file, written anew. No byte of it is zero, or one of that of another number.
    pub fn version(&self, number: u8, len: usize) -> Version {
        let plaintext: Vec<u8> = (0..len)
            .map(|i| 1 + number * 64 + ((i + i / CHUNK) % 63) as u8)
            .collect();
        let mut tree = self.0.new_tree();
        let image = self
            .0
            .seal_image(&mut tree, 0, &plaintext, &mut SysRng)
            .unwrap();
        let mut sealed = self.0.header().encode().to_vec();
        sealed.extend_from_slice(tree.root(len as u64).as_bytes());
        sealed.resize(at(0) - TABLE_LEN, 0);
        sealed.extend_from_slice(&tree.table(0));
        sealed.resize(at(0), 0);
        sealed.extend_from_slice(&image);
        Version { plaintext, sealed }
    }

    /// The tree of a version, with all of its groups at hand.
    pub fn tree(&self, version: &Version) -> Tree {
        let mut tree = self.0.new_tree();
        for index in 0..=(version.plaintext.len() / CHUNK) as u64 {
            tree.put(index, &[tag(&version.sealed, index)]).unwrap();
        }
        tree
    }

    /// Makes an entry live.
    pub fn set_journal(&self, sealed: &mut [u8], restore: Restore, chunk: &[u8]) {
        let entry = self.0.encode_entry(&Entry {
            root: Root::from_bytes(*sealed[ROOT].first_chunk().unwrap()),
            stamp: Stamp::from_bytes([3; Stamp::LEN]),
            restore: Some(restore),
        });
        let journal = [entry.as_slice(), chunk].concat();
        sealed[HEADER_LEN..][..journal.len()].copy_from_slice(&journal);
    }
}

/// The tag of a chunk of a file.
pub fn tag(sealed: &[u8], index: u64) -> Tag {
    let end = chunk(index).end.min(sealed.len());
    tags_of(&layout(), &sealed[at(index)..end]).next().unwrap()
}

pub fn with(sealed: &[u8], older: &[u8], parts: &[Range<usize>]) -> Vec<u8> {
    let mut mixed = sealed.to_vec();
    for part in parts {
        let part = part.start..part.end.min(mixed.len()).min(older.len());
        mixed[part.clone()].copy_from_slice(&older[part]);
    }
    mixed
}

/// A version with parts of another one: of each its kind, and the index of a chunk.
pub fn mixed(base: &[u8], other: &[u8], parts: &[(u8, u64)]) -> Vec<u8> {
    let parts: Vec<Range<usize>> = parts
        .iter()
        .flat_map(|&(kind, index)| match kind {
            0 => vec![chunk(index)],
            1 => vec![chunk(index), slot(index)],
            2 => vec![slot(index)],
            _ => vec![digest(index / GROUP_CHUNKS)],
        })
        .map(|part| part.start.min(base.len())..part.end.min(base.len()))
        .filter(|part| part.end <= other.len())
        .collect();
    with(base, other, &parts)
}
