//! A whole file from beginning to end, without I/O: bytes are pushed in as they come, in pieces of
//! any size, and what comes of them is appended to a buffer of the caller's.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cell::RefCell;

use rand_core::TryCryptoRng;

use crate::aead::Aead;
use crate::file::Nonces;
use crate::layout::{DATA_START, FAN_OUT};
use crate::mac::MAC_LEN;
use crate::record::{Tag, tags_of};
use crate::superblock::Superblock;
use crate::tree::{HOLE, Tree, named};
use crate::{
    Disk, Error, Failure, FileCipher, HEADER_LEN, MasterKey, Params, ReadOnly, Secret, TAG_LEN,
    Volume,
};

/// Up to so many bytes a file is nothing but a log at the head.
const SMALL: usize = 24 << 10;

/// What is to be put over a file that was written from beginning to end: its superblock and inner
/// nodes are known last. Until then it does not open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patches(Vec<(u64, Vec<u8>)>);

impl Patches {
    /// Offset and bytes of each.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.0
            .iter()
            .map(|(offset, bytes)| (*offset, bytes.as_slice()))
    }

    /// Puts them over a file in memory.
    pub fn apply(&self, file: &mut [u8]) {
        for (offset, bytes) in self.iter() {
            let place = usize::try_from(offset)
                .ok()
                .and_then(|offset| file.get_mut(offset..)?.get_mut(..bytes.len()));
            if let Some(place) = place {
                place.copy_from_slice(bytes);
            }
        }
    }
}

/// Seals a stream of plaintext into a sealed file.
///
/// After an error every further call fails with the same one.
#[derive(Debug)]
pub struct Sealer<R, A = crate::aead::Software> {
    file: Option<FileCipher<A>>,
    rng: R,
    /// Plaintext that was not sealed yet.
    pending: Secret,
    /// What was given out.
    written: u64,
    /// Chunks that were sealed.
    next: u64,
    /// The chunks of the last group: its leaf goes before them.
    group: Vec<u8>,
    /// What names the leaves.
    leaves: BTreeMap<u64, Tag>,
    failed: Option<Error>,
}

impl<R: TryCryptoRng> Sealer<R> {
    /// A new file, with salt and nonces from `rng`.
    ///
    /// # Errors
    /// [`Error::Randomness`].
    pub fn new(master: &MasterKey, params: Params, mut rng: R) -> Result<Self, Error> {
        let file = FileCipher::create(master, params, &mut rng)?;
        Ok(Self::with_cipher(file, rng))
    }
}

impl<R: TryCryptoRng, A: Aead> Sealer<R, A> {
    /// A new file whose header was made already, by [`FileKey::generate`](crate::FileKey::generate).
    pub fn with_cipher(file: FileCipher<A>, rng: R) -> Self {
        Self {
            file: Some(file),
            rng,
            pending: Secret::default(),
            written: 0,
            next: 0,
            group: Vec::new(),
            leaves: BTreeMap::new(),
            failed: None,
        }
    }

    /// Takes plaintext and appends to `out` the sealed bytes that are ready.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Randomness`].
    pub fn push(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.take(plaintext, out)
            .inspect_err(|&error| self.failed = Some(error))
    }

    fn take(&mut self, mut plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        while !plaintext.is_empty() {
            let len = plaintext.len().min(self.unit()? - self.pending.len());
            let (piece, rest) = plaintext.split_at(len);
            self.pending.extend_from_slice(piece);
            plaintext = rest;
            // What is left at the end may be a small file, or is sealed as its last chunks.
            if !plaintext.is_empty() {
                self.seal_group(out)?;
            }
        }
        Ok(())
    }

    /// Bytes of plaintext that are sealed together: a group, and no less than a small file.
    fn unit(&self) -> Result<usize, Error> {
        Ok(FAN_OUT as usize * self.cipher()?.layout().chunk_size())
    }

    fn cipher(&self) -> Result<&FileCipher<A>, Error> {
        self.file.as_ref().ok_or(Error::BufferSize)
    }

    /// Ends the file: appends what is left of it, and answers what belongs over its beginning.
    ///
    /// # Errors
    /// As [`Sealer::push`].
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<Patches, Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let size = self.cipher()?.layout().chunk_start(self.next)? + self.pending.len() as u64;
        if size <= SMALL as u64 {
            self.finish_small(out)?;
            return Ok(Patches::default());
        }
        if !self.pending.is_empty() {
            self.seal_group(out)?;
        }
        let patches = RefCell::new(Vec::new());
        let file = self.file.take().ok_or(Error::BufferSize)?;
        let key = file.mac_key();
        let layout = *file.layout();
        let mut superblock = Superblock {
            epoch: 0,
            counter: 1,
            size: 0,
            root: HOLE,
            elder: (0, 0),
            unique: [0; 16],
        };
        self.rng
            .try_fill_bytes(&mut superblock.unique)
            .map_err(|_| Error::Randomness)?;
        let mut tree = Tree::new(key.clone(), layout, &superblock);
        let chunks = layout.chunks(size);
        let root = match layout.top(chunks) {
            0 => Ok(self.leaves.get(&0).copied().unwrap_or(HOLE)),
            _ => tree.rewrite_from(&Collected(&patches), 1, self.leaves, 0, chunks),
        };
        superblock.root = root.map_err(|failure| match failure {
            Failure::Sealed(error) => error,
            Failure::Disk(ReadOnly) => Error::BufferSize,
        })?;
        superblock.size = size;
        let bytes = superblock.encode(key);
        let mut patches = patches.into_inner();
        patches.push((Superblock::offset(0), bytes.to_vec()));
        Ok(Patches(patches))
    }

    /// A file that is all log: one record, which is marked as having reached the disk.
    fn finish_small(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        let file = self.file.take().ok_or(Error::BufferSize)?;
        let memory = Memory(RefCell::new(Vec::new()));
        let mut volume = Volume::create(file, &mut self.rng)?;
        let sealed = if self.pending.is_empty() {
            volume.begin_empty(&memory)
        } else {
            volume.write(&memory, &mut self.rng, 0, &self.pending)
        };
        let moment = volume.moment();
        sealed
            .and_then(|()| volume.mark(&memory, moment))
            .map_err(|failure| match failure {
                Failure::Sealed(error) => error,
                Failure::Disk(ReadOnly) => Error::TooLarge,
            })?;
        out.append(&mut memory.0.take());
        Ok(())
    }

    /// Seals what is pending, which is a group, or the last of the file.
    fn seal_group(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        let pending = core::mem::take(&mut self.pending);
        let layout = *self.cipher()?.layout();
        let mut group = core::mem::take(&mut self.group);
        group.clear();
        group.resize(layout.sealed_len(pending.len())?, 0);
        let mut nonces: Nonces = {
            let file = self.file.as_ref().ok_or(Error::BufferSize)?;
            file.nonces(&mut self.rng, &[0; MAC_LEN], self.next)?
        };
        self.cipher()?
            .seal(self.next, &pending, &mut group, &mut nonces)?;
        if self.written == 0 {
            out.extend_from_slice(&self.cipher()?.header().encode());
            self.written = HEADER_LEN as u64;
            self.pad(DATA_START, out);
        }
        self.pad(layout.node_offset(0, self.next / FAN_OUT)?, out);
        let tags: Vec<Tag> = tags_of(&layout, &group).collect();
        let leaf = self.next / FAN_OUT;
        let entry = named(self.cipher()?.mac_key(), 0, leaf, &tags, 0);
        self.leaves.insert(leaf, entry);
        out.extend_from_slice(tags.as_flattened());
        self.written += (tags.len() * TAG_LEN) as u64;
        self.pad(layout.chunk_offset(self.next)?, out);
        out.extend_from_slice(&group);
        self.written += group.len() as u64;
        self.next += layout.chunks(pending.len() as u64);
        self.group = group;
        self.pending = pending;
        self.pending.clear();
        Ok(())
    }

    fn pad(&mut self, to: u64, out: &mut Vec<u8>) {
        let zeros = to.saturating_sub(self.written);
        // At most the head, or a few nodes.
        out.resize(out.len() + zeros as usize, 0);
        self.written += zeros;
    }
}

/// Takes the nodes of a tree that is made from scratch.
struct Collected<'a>(&'a RefCell<Vec<(u64, Vec<u8>)>>);

impl Disk for Collected<'_> {
    type Error = ReadOnly;

    fn read_at(&self, _: &mut [u8], _: u64) -> Result<usize, ReadOnly> {
        Ok(0)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<(), ReadOnly> {
        self.0.borrow_mut().push((offset, buf.to_vec()));
        Ok(())
    }

    fn sync(&self) -> Result<(), ReadOnly> {
        Ok(())
    }

    fn set_size(&self, _: u64) -> Result<(), ReadOnly> {
        Err(ReadOnly)
    }

    fn size(&self) -> Result<u64, ReadOnly> {
        Ok(0)
    }
}

/// A small file in memory.
struct Memory(RefCell<Vec<u8>>);

impl Disk for Memory {
    type Error = ReadOnly;

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, ReadOnly> {
        self.0.borrow().as_slice().read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<(), ReadOnly> {
        let end = usize::try_from(offset)
            .ok()
            .and_then(|offset| offset.checked_add(buf.len()))
            .filter(|&end| end as u64 <= DATA_START)
            .ok_or(ReadOnly)?;
        let mut bytes = self.0.borrow_mut();
        let len = bytes.len().max(end);
        bytes.resize(len, 0);
        bytes[end - buf.len()..end].copy_from_slice(buf);
        Ok(())
    }

    fn sync(&self) -> Result<(), ReadOnly> {
        Ok(())
    }

    fn set_size(&self, _: u64) -> Result<(), ReadOnly> {
        Err(ReadOnly)
    }

    fn size(&self) -> Result<u64, ReadOnly> {
        Ok(self.0.borrow().len() as u64)
    }
}
