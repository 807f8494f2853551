//! One sealed file on a disk: what it says, and how it is changed.
//!
//! A [`Volume`] is what one process knows of a file. All it reads is authenticated, and found to be the
//! newest, before it is given out or merged into a change. Every change is one record in the log, so
//! that a writer that is killed leaves the file as it was before or after; and nothing that reached
//! the disk with an fsync depends on what is written later, so that a power cut leaves it as it was at some moment
//! since. `docs/format.md` says how, in sections 6 and 7.
//!
//! A volume takes no locks and counts on being alone while it changes something: its user sees to that, and calls
//! [`Volume::refresh`] where others may have changed the file.

mod change;
mod checkpoint;
mod replay;

use alloc::collections::BTreeMap;
use alloc::vec;
use core::fmt;
use core::ops::Range;

use rand_core::TryCryptoRng;
use zeroize::Zeroize;

use crate::aead::{Aead, Run, Software};
use crate::disk::Chunks;
use crate::disk::read_full;
use crate::layout::{FAN_OUT, OVERHEAD};
use crate::mac::{Mac, same};
use crate::record::{Tag, tags_of};
use crate::superblock::Superblock;
use crate::tree::{HOLE, Tree};
use crate::{Disk, Error, Failure, FileCipher, Layout, Secret};

pub use replay::{Found, Opened, Salvage};

/// Where a chunk is that was changed since the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stored {
    Hole,
    At { offset: u64, len: usize, tag: Tag },
}

/// Chunks that lie one behind the other on the disk.
#[derive(Clone, Debug)]
pub struct Extent {
    first: u64,
    /// Where the first one begins.
    offset: u64,
    /// Bytes of plaintext.
    len: usize,
    /// As the file says they are.
    tags: vec::Vec<Tag>,
}

impl Extent {
    /// Bytes of plaintext.
    pub fn plaintext_len(&self) -> usize {
        self.len
    }

    fn sealed_len(&self) -> usize {
        self.len + self.tags.len() * OVERHEAD
    }

    fn end(&self) -> u64 {
        self.offset + self.sealed_len() as u64
    }
}

/// How chunks lie.
enum Lie {
    Holes { count: u64, len: usize },
    At(Extent),
}

/// What was appended to the last chunk since that was written as a whole.
#[derive(Debug, Default)]
struct Tail {
    index: u64,
    pieces: vec::Vec<TailPiece>,
}

/// One of them, and where in the chunk it begins.
#[derive(Clone, Copy, Debug)]
struct TailPiece {
    start: usize,
    offset: u64,
    len: usize,
    tag: Tag,
}

impl Tail {
    /// What was appended to that chunk.
    fn of(&self, index: u64) -> &[TailPiece] {
        if self.index == index {
            &self.pieces
        } else {
            &[]
        }
    }

    /// Chunks of these are written as a whole, or cut off.
    fn end(&mut self, chunks: Range<u64>) {
        if chunks.contains(&self.index) {
            self.pieces.clear();
        }
    }
}

/// The log as far as it counts.
#[derive(Debug)]
struct Log {
    /// Where the next record goes.
    at: u64,
    /// Where the last one's MAC stands.
    mac_at: u64,
    /// The MAC of the last record, or of the superblock.
    chain: Mac,
    /// Of the last record.
    counter: u64,
    /// Where the log went on behind the groups.
    far: Option<u64>,
    /// The last record that is known to have reached the disk.
    durable: u64,
    /// Whether the last record may be that of a checkpoint.
    closing: bool,
    /// The MAC of a record that stands at the end and does not count.
    void: Option<Mac>,
    /// Up to where this process has put zeros ahead of it.
    zeros: u64,
    /// Whether it is known that nothing of a record that a power cut took stands where the next one goes.
    is_swept: bool,
}

impl Log {
    fn new(superblock: &Superblock, mac: Mac) -> Self {
        Self {
            at: Superblock::log_offset(superblock.epoch),
            mac_at: Superblock::offset(superblock.epoch) + 112,
            chain: mac,
            counter: superblock.counter,
            far: None,
            durable: superblock.counter,
            closing: false,
            void: None,
            zeros: 0,
            // No other record ever had such a predecessor.
            is_swept: true,
        }
    }
}

/// A moment in a file's life, for [`Volume::mark`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    superblock: Mac,
    counter: u64,
}

/// One sealed file as it is known. See the [module](self).
pub struct Volume<A = Software> {
    cipher: FileCipher<A>,
    /// Whether anything of it is on the disk.
    begun: bool,
    superblock: Superblock,
    superblock_mac: Mac,
    log: Log,
    tree: Tree,
    /// Bytes of plaintext.
    size: u64,
    /// Of the chunks at the checkpoint, the first ones, which are still of the file.
    valid: u64,
    /// Chunks from here on were never written to their places, in this epoch and at the checkpoint.
    fresh: u64,
    changed: BTreeMap<u64, Stored>,
    tail: Tail,
    /// How long the log may get before another checkpoint is tried.
    patience: u64,
    /// Whether the program waits for the disk again and again.
    is_waited_for: bool,
    /// The chunk that was sealed or opened in part last: who goes on there has it at hand.
    edge: Edge,
}

#[derive(Default)]
struct Edge {
    index: u64,
    /// That of the chunk, or of what was appended to it last.
    tag: Tag,
    plaintext: Secret,
}

impl<A> fmt::Debug for Volume<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Volume")
            .field("header", self.cipher.header())
            .field("epoch", &self.superblock.epoch)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl<A: Aead> Volume<A> {
    /// A new file, of which nothing is on the disk yet: that begins with its first change.
    ///
    /// # Errors
    /// [`Error::Randomness`].
    pub fn create<R: TryCryptoRng + ?Sized>(
        cipher: FileCipher<A>,
        rng: &mut R,
    ) -> Result<Self, Error> {
        let superblock = Superblock {
            epoch: 0,
            counter: 0,
            size: 0,
            root: HOLE,
            elder: (0, 0),
            unique: random(rng)?,
        };
        let bytes = superblock.encode(cipher.mac_key());
        let mac = *bytes.last_chunk().ok_or(Error::BufferSize)?;
        let mut volume = Self::of(cipher, superblock, mac);
        volume.begun = false;
        Ok(volume)
    }

    fn of(cipher: FileCipher<A>, superblock: Superblock, mac: Mac) -> Self {
        let layout = *cipher.layout();
        let chunks = layout.chunks(superblock.size);
        Self {
            tree: Tree::new(cipher.mac_key().clone(), layout, &superblock),
            begun: true,
            log: Log::new(&superblock, mac),
            size: superblock.size,
            valid: chunks,
            fresh: chunks,
            changed: BTreeMap::new(),
            tail: Tail::default(),
            patience: 0,
            is_waited_for: false,
            edge: Edge::default(),
            superblock,
            superblock_mac: mac,
            cipher,
        }
    }

    /// Header, geometry and AEAD.
    pub fn cipher(&self) -> &FileCipher<A> {
        &self.cipher
    }

    /// The file's geometry.
    pub fn layout(&self) -> &Layout {
        self.cipher.layout()
    }

    /// Bytes of plaintext.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The last checkpoint.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// How many changes there were in the file's life. It never goes back, but for changes that a
    /// power cut has undone, and rollbacks.
    pub fn counter(&self) -> u64 {
        self.log.counter
    }

    /// Where a chunk is; how it is called, and how long it is, the log or the tree says.
    fn stored<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        index: u64,
    ) -> Result<Stored, Failure<D::Error>> {
        if let Some(stored) = self.changed.get(&index) {
            return Ok(*stored);
        }
        if index >= self.valid {
            return Ok(Stored::Hole);
        }
        Ok(match self.tree.tag(disk, index)? {
            HOLE => Stored::Hole,
            tag => Stored::At {
                offset: self.layout().chunk_offset(index)?,
                len: self.layout().chunk_len(index, self.superblock.size),
                tag,
            },
        })
    }

    /// Whether a chunk was never written, or a hole was punched.
    ///
    /// # Errors
    /// The disk's; that the tree is damaged there.
    pub fn is_hole<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        index: u64,
    ) -> Result<bool, Failure<D::Error>> {
        Ok(self.stored(disk, index)? == Stored::Hole)
    }

    /// Reads whole chunks: `out` begins with chunk `first`, and ends where a chunk or the file
    /// does. Answers how many bytes were read before a chunk that can't be.
    ///
    /// # Errors
    /// Where that is the first one. What of `out` was not read is not to be used.
    pub fn read<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        first: u64,
        out: &mut [u8],
    ) -> Result<usize, Failure<D::Error>> {
        let size = out.len();
        let (mut index, mut rest) = (first, out);
        while !rest.is_empty() {
            match self.read_run(disk, index, rest) {
                Ok((chunks, len)) => {
                    index += chunks;
                    rest = &mut core::mem::take(&mut rest)[len..];
                }
                Err(_) if index > first => break,
                Err(failure) => return Err(failure),
            }
        }
        Ok(size - rest.len())
    }

    /// Reads chunks that lie one behind the other. Answers how many, and how many bytes.
    fn read_run<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        first: u64,
        out: &mut [u8],
    ) -> Result<(u64, usize), Failure<D::Error>> {
        let at_hand = self.layout().chunk_len(first, self.size);
        if at_hand <= out.len() && self.has_at_hand(disk, first, at_hand)? {
            out[..at_hand].copy_from_slice(&self.edge.plaintext);
            return Ok((1, at_hand));
        }
        if !self.tail.of(first).is_empty() {
            let chunk = out.get_mut(..at_hand).ok_or(Error::BufferSize)?;
            self.read_pieces(disk, first, chunk)
                .inspect_err(|_| chunk.zeroize())?;
            return Ok((1, at_hand));
        }
        let mut extent = match self.lie(disk, first, out.len())? {
            Lie::Holes { count, len } => {
                out[..len].fill(0);
                return Ok((count, len));
            }
            Lie::At(extent) => extent,
        };
        let out = &mut out[..extent.len];
        if let Some(chunks) = self.chunks(&extent)
            && disk.open(&chunks, out)
        {
            return Ok((extent.tags.len() as u64, extent.len));
        }
        let mut read = Err(Error::BufferSize.into());
        disk.lend(extent.sealed_len(), &mut |sealed| {
            read = self.open_run(disk, &mut extent, sealed, &mut *out);
        });
        read
    }

    /// How chunks from `first` on lie, at least one and at most so many bytes of plaintext, as far as they are all holes, or lie one
    /// behind the other.
    fn lie<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        first: u64,
        most: usize,
    ) -> Result<Lie, Failure<D::Error>> {
        if let Some(extent) = self.lie_unchanged(disk, first, most) {
            return Ok(Lie::At(extent));
        }
        let mut extent = Extent {
            first,
            offset: 0,
            len: 0,
            tags: vec::Vec::new(),
        };
        let mut holes = 0;
        while extent.len < most && (extent.tags.len() as u64) < FAN_OUT {
            let index = first + extent.tags.len() as u64 + holes;
            let chunk_len = self.layout().chunk_len(index, self.size);
            if chunk_len == 0 || extent.len + chunk_len > most {
                return Err(Error::BufferSize.into());
            }
            if !self.tail.of(index).is_empty() {
                break;
            }
            let stored = match self.stored(disk, index) {
                Err(_) if extent.len > 0 => break,
                stored => stored?,
            };
            match stored {
                Stored::Hole if extent.tags.is_empty() => holes += 1,
                Stored::At { offset, len, tag }
                    if holes == 0 && (extent.tags.is_empty() || offset == extent.end()) =>
                {
                    if len != chunk_len {
                        if extent.tags.is_empty() {
                            return Err(Error::ChunkCorrupt { index }.into());
                        }
                        break;
                    }
                    if extent.tags.is_empty() {
                        extent.offset = offset;
                    }
                    extent.tags.push(tag);
                }
                _ => break,
            }
            extent.len += chunk_len;
        }
        Ok(match holes {
            0 => Lie::At(extent),
            count => Lie::Holes {
                count,
                len: extent.len,
            },
        })
    }

    /// As [`Volume::lie`], of chunks that are as they were at the checkpoint: of these the tree tells many at a time. `None` where the
    /// first one is none, or something is wrong.
    fn lie_unchanged<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        first: u64,
        most: usize,
    ) -> Option<Extent> {
        let layout = *self.layout();
        let (size, was) = (self.size, self.superblock.size);
        let changed = self.changed.range(first..).next();
        let changed = changed.map_or(u64::MAX, |(index, _)| *index);
        let appended = match self.tail.pieces.is_empty() {
            true => u64::MAX,
            false => self.tail.index,
        };
        let end = self.valid.min(changed).min(appended);
        let tags = self.tree.tags(disk, first).ok()?;
        let count = end.saturating_sub(first).min(tags.len() as u64) as usize;
        let mut extent = Extent {
            first,
            offset: layout.chunk_offset(first).ok()?,
            len: 0,
            tags: vec::Vec::with_capacity(count.min(most.div_ceil(layout.chunk_size()))),
        };
        for (index, tag) in (first..).zip(&tags[..count]) {
            let len = layout.chunk_len(index, size);
            let fits = len > 0 && extent.len + len <= most;
            if !fits || *tag == HOLE || len != layout.chunk_len(index, was) {
                break;
            }
            extent.len += len;
            extent.tags.push(*tag);
        }
        (!extent.tags.is_empty()).then_some(extent)
    }

    /// Where chunks from `first` on lie one behind the other, at most `most` bytes of plaintext, which end where a chunk or the file
    /// does. `None` where there is other to do than to open the first one.
    ///
    /// # Errors
    /// The disk's; what is damaged.
    pub fn extent<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        first: u64,
        most: usize,
    ) -> Result<Option<Extent>, Failure<D::Error>> {
        if !self.tail.of(first).is_empty() {
            return Ok(None);
        }
        Ok(match self.lie(disk, first, most)? {
            Lie::At(extent) => Some(extent),
            Lie::Holes { .. } => None,
        })
    }

    /// Chunks with what it takes to open them, for who does so where the disk is; `None` where the AEAD keeps its key to itself.
    pub fn chunks<'a>(&'a self, extent: &'a Extent) -> Option<Chunks<'a>> {
        Some(Chunks {
            cipher: self.cipher.header().params().cipher,
            key: self.cipher.content_key()?,
            run: Run::new(*self.layout(), extent.first),
            offset: extent.offset,
            len: extent.len,
            tags: &extent.tags,
        })
    }

    /// Reads chunks with these tags, at least one, from where they lie one behind the other.
    fn open_run<D: Disk + ?Sized>(
        &self,
        disk: &D,
        extent: &mut Extent,
        sealed: &mut [u8],
        out: &mut [u8],
    ) -> Result<(u64, usize), Failure<D::Error>> {
        let first = extent.first;
        let tags = &mut extent.tags;
        let mut len = out.len();
        read_full(disk, sealed, extent.offset)?;
        let layout = *self.layout();
        let mut opened = self.cipher.open_chunks(first, sealed, &mut out[..len]);
        if opened.is_err() && tags.len() > 1 {
            // One is damaged: those before it are read, and its name is told.
            tags.truncate(1);
            len = layout.chunk_len(first, self.size);
            opened = self
                .cipher
                .open_chunks(first, &sealed[..len + OVERHEAD], &mut out[..len]);
        }
        let stale = (first..)
            .zip(tags.iter().zip(tags_of(&layout, sealed)))
            .find(|(_, (known, found))| !same(*known, found));
        match (opened, stale) {
            (Err(Error::ChunkCorrupt { .. }), _) => {
                out[..len].zeroize();
                Err(Error::ChunkCorrupt { index: first }.into())
            }
            (Err(error), _) => Err(error.into()),
            (Ok(()), Some((index, _))) => {
                let good = (index - first) as usize * layout.chunk_size();
                out[good..len].zeroize();
                if good == 0 {
                    return Err(Error::Stale { index }.into());
                }
                Ok((index - first, good))
            }
            (Ok(()), None) => Ok((tags.len() as u64, len)),
        }
    }

    /// Reads a chunk that something was appended to.
    fn read_pieces<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        index: u64,
        out: &mut [u8],
    ) -> Result<(), Failure<D::Error>> {
        let corrupt = Error::ChunkCorrupt { index };
        let Stored::At { offset, len, tag } = self.stored(disk, index)? else {
            return Err(corrupt.into());
        };
        let whole = TailPiece {
            start: 0,
            offset,
            len,
            tag,
        };
        let mut done = 0;
        let mut sealed = vec::Vec::new();
        for piece in [whole].iter().chain(self.tail.of(index)) {
            let part = out.get_mut(done..done + piece.len).ok_or(corrupt)?;
            if piece.start != done {
                return Err(corrupt.into());
            }
            sealed.resize(piece.len + OVERHEAD, 0);
            read_full(disk, &mut sealed, piece.offset)?;
            self.cipher.open_piece(index, piece.start, &sealed, part)?;
            let found = sealed.last_chunk().ok_or(corrupt)?;
            let found: &Tag = found;
            if !same(&piece.tag, found) {
                return Err(Error::Stale { index }.into());
            }
            done += piece.len;
        }
        if done < out.len() {
            return Err(corrupt.into());
        }
        Ok(())
    }

    /// Whether a chunk of that length is in memory, and still the one of the file.
    fn has_at_hand<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        index: u64,
        len: usize,
    ) -> Result<bool, Failure<D::Error>> {
        if self.edge.index != index || len == 0 || self.edge.plaintext.len() != len {
            return Ok(false);
        }
        if let Some(piece) = self.tail.of(index).last() {
            return Ok(same(&piece.tag, &self.edge.tag));
        }
        Ok(match self.stored(disk, index)? {
            Stored::At { tag, .. } => same(&tag, &self.edge.tag),
            Stored::Hole => false,
        })
    }

    /// The plaintext of one chunk; zeros for a hole, nothing behind the end. There is room for a full
    /// one in the memory that it is in.
    fn chunk<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        index: u64,
    ) -> Result<Secret, Failure<D::Error>> {
        let len = self.layout().chunk_len(index, self.size);
        let room = self.layout().chunk_size();
        if self.has_at_hand(disk, index, len)? && self.edge.plaintext.capacity() >= room {
            return Ok(core::mem::take(&mut self.edge.plaintext));
        }
        let mut plaintext = Secret::with_capacity(room);
        plaintext.resize(len, 0);
        self.read(disk, index, &mut plaintext)?;
        Ok(plaintext)
    }

    /// The first byte from `offset` on that is data, or, where `is_hole`, that is in a hole: the end of the
    /// file counts as one. Holes are whole chunks.
    ///
    /// # Errors
    /// The disk's; that the tree is damaged there.
    pub fn seek<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        offset: u64,
        is_hole: bool,
    ) -> Result<u64, Failure<D::Error>> {
        let end = self.layout().chunks(self.size);
        let from = self.layout().chunk_index(offset);
        let chunk = self.next(disk, from, end, is_hole)?;
        if chunk >= end {
            return Ok(self.size);
        }
        Ok(self.layout().chunk_start(chunk)?.max(offset))
    }

    /// The first chunk from `from` on, before `end`, that is a hole or that is none.
    fn next<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        from: u64,
        end: u64,
        is_hole: bool,
    ) -> Result<u64, Failure<D::Error>> {
        let mut at = from;
        while at < end {
            match self.changed.get(&at) {
                Some(stored) if (*stored == Stored::Hole) == is_hole => return Ok(at),
                Some(_) => at += 1,
                None => {
                    let changed = self.changed.range(at..end).next();
                    let until = changed.map_or(end, |(index, _)| *index);
                    let known = until.min(self.valid).max(at);
                    let found = self.tree.next(disk, at, known, is_hole)?;
                    if found < known {
                        return Ok(found);
                    }
                    // Behind those of the checkpoint there are holes up to the next change.
                    if is_hole && known < until {
                        return Ok(known);
                    }
                    at = until;
                }
            }
        }
        Ok(end)
    }

    /// Where the last thing ends that the file needs, when its log is empty.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub fn data_end(&self) -> Result<u64, Error> {
        self.layout().data_end(self.size)
    }

    /// Now.
    pub fn moment(&self) -> Moment {
        Moment {
            superblock: self.superblock_mac,
            counter: self.log.counter,
        }
    }

    /// The places that must not be written to: the logs of this epoch and of the one before, behind
    /// the groups.
    fn far_places(&self) -> impl Iterator<Item = Range<u64>> {
        let (from, to) = self.superblock.elder;
        let own = self.log.far.map(|far| far..u64::MAX);
        own.into_iter().chain((from < to).then_some(from..to))
    }
}

fn random<const N: usize, R: TryCryptoRng + ?Sized>(rng: &mut R) -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    rng.try_fill_bytes(&mut bytes)
        .map_err(|_| Error::Randomness)?;
    Ok(bytes)
}
