//! What the tests share.

use std::convert::Infallible;

use rand_core::{TryCryptoRng, TryRng};
use sealed::{
    ChunkSize, Cipher, Entry, Error, FileCipher, FileKey, HEADER_LEN, MasterKey, Opener, Params,
    ROOT_OFFSET, Restore, Root, Stamp, TABLE_LEN, Tree, tags_of,
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

/// A whole sealed file.
pub fn seal(key: &FileKey, plaintext: &[u8], rng: &mut TestRng) -> Vec<u8> {
    let file = FileCipher::new(key);
    let mut sealed = file.header().encode().to_vec();
    let mut tree = file.new_tree();
    let image = file.seal_image(&mut tree, 0, plaintext, rng).unwrap();
    sealed.resize(file.layout().data_start() as usize, 0);
    sealed.extend_from_slice(&tree.table(0));
    sealed.resize(file.layout().data_start() as usize + TABLE_LEN, 0);
    sealed.extend_from_slice(&image);
    set_root(&mut sealed, tree.root(plaintext.len() as u64));
    sealed
}

pub fn set_root(sealed: &mut [u8], root: Root) {
    sealed[ROOT_OFFSET as usize..][..Root::LEN].copy_from_slice(root.as_bytes());
}

/// Opens a whole file as a stream in pieces of this many bytes. Gives what came out, and how it
/// ended.
pub fn open_stream(master: &MasterKey, sealed: &[u8], piece: usize) -> (Vec<u8>, Option<Error>) {
    let mut opener = Opener::new(master);
    let mut out = Vec::new();
    for part in sealed.chunks(piece) {
        if let Err(error) = opener.push(part, &mut out) {
            return (out, Some(error));
        }
    }
    let error = opener.finish(&mut out).err();
    (out, error)
}

/// A live journal entry in the file, with the chunk it restores.
pub fn set_journal(file: &FileCipher, sealed: &mut Vec<u8>, restore: Restore, chunk: &[u8]) {
    sealed.resize(sealed.len().max(HEADER_LEN + Root::LEN), 0);
    let root = *sealed[ROOT_OFFSET as usize..].first_chunk().unwrap();
    let entry = Entry {
        root: Root::from_bytes(root),
        stamp: Stamp::from_bytes([0x33; Stamp::LEN]),
        restore: Some(restore),
    };
    let journal = [file.encode_entry(&entry).as_slice(), chunk].concat();
    let end = (HEADER_LEN + journal.len()).max(sealed.len());
    sealed.resize(end, 0);
    sealed[HEADER_LEN..HEADER_LEN + journal.len()].copy_from_slice(&journal);
}

/// Where each chunk of a file lies.
pub fn chunks_of(file: &FileCipher, sealed: &[u8]) -> Result<Vec<std::ops::Range<usize>>, Error> {
    let layout = file.layout();
    let last = layout.final_chunk(layout.plaintext_size(sealed.len() as u64)?);
    (0..=last.index)
        .map(|index| {
            let start = layout.chunk_offset(index)? as usize;
            Ok(start..(start + layout.sealed_chunk_len()).min(sealed.len()))
        })
        .collect()
}

/// The tree that the chunks of a file have, whatever its tables say.
pub fn tree_of(file: &FileCipher, sealed: &[u8]) -> Result<Tree, Error> {
    let mut tree = file.new_tree();
    for (index, chunk) in (0..).zip(chunks_of(file, sealed)?) {
        let tags: Vec<_> = tags_of(file.layout(), &sealed[chunk]).collect();
        tree.put(index, &tags)?;
    }
    Ok(tree)
}

/// Opens a whole file by its size and header, as a file system would; its journal has to be clear.
pub fn open_random_access(master: &MasterKey, sealed: &[u8]) -> Result<Vec<u8>, Error> {
    if sealed.is_empty() {
        return Ok(Vec::new());
    }
    let file = FileCipher::open(master, sealed)?;
    let layout = file.layout();
    let size = layout.plaintext_size(sealed.len() as u64)?;
    let chunks = chunks_of(&file, sealed)?;
    let mut plaintext = Vec::new();
    for (index, chunk) in chunks.iter().enumerate() {
        let chunk = &sealed[chunk.clone()];
        let mut out = vec![0xFF; chunk.len().saturating_sub(layout.overhead())];
        let opened = if index + 1 == chunks.len() {
            file.open_to_end(index as u64, chunk, &mut out)
        } else {
            file.open_run(index as u64, chunk, &mut out)
        };
        if let Err(error) = opened {
            assert!(out.iter().all(|&byte| byte == 0), "wiped on failure");
            return Err(error);
        }
        plaintext.extend_from_slice(&out);
    }
    // Then whether they belong together.
    let tree = tree_of(&file, sealed)?;
    let table = |group| &sealed[layout.table_offset(group).unwrap() as usize..];
    for (index, chunk) in (0..).zip(&chunks) {
        let tag = 16 + (index % 256) as usize * 16;
        if !sealed[chunk.clone()].ends_with(&table(index / 256)[tag..tag + 16]) {
            return Err(Error::Stale { index });
        }
    }
    for group in 0..tree.last_group() {
        if tree.table(group)[..16] != table(group)[..16] {
            return Err(Error::TableCorrupt { group });
        }
    }
    let root = &sealed[ROOT_OFFSET as usize..][..Root::LEN];
    if root != tree.root(size).as_bytes() {
        return Err(Error::RootCorrupt);
    }
    Ok(plaintext)
}
