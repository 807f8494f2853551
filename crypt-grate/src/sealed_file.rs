//! One sealed file with the reads and writes of a plain one.
//!
//! A [`SealedFile`] is the shared state of an inode; its user serialises the calls. What lies on
//! the disk is authenticated before it is returned or merged into a write, and the final chunk
//! before a file grows or its end is reported, so that a file that was cut short can't pass for a
//! shorter one.

use crate::storage::{Errno, Storage};
use rand_core::TryCryptoRng;
use sealed::aead::{Aead, Software};
use sealed::{FileCipher, FileKey, FinalChunk, HEADER_LEN, Layout, MAGIC, MasterKey, Params};
use std::ops::Range;

/// Bytes of plaintext that are sealed or opened in one go: one kernel call each.
const RUN_LEN: usize = 1 << 20;

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The storage failed.
    #[error("error {}", .0.0)]
    Storage(Errno),
    /// The file is not what a holder of the key wrote.
    #[error("{0}")]
    Sealed(sealed::Error),
}

impl Error {
    /// What the program gets.
    pub fn errno(&self) -> Errno {
        match self {
            Error::Storage(errno) => *errno,
            Error::Sealed(sealed::Error::WrongKey { .. } | sealed::Error::NotSealed) => {
                Errno::EACCES
            }
            Error::Sealed(sealed::Error::TooLarge) => Errno::EFBIG,
            Error::Sealed(_) => Errno::EIO,
        }
    }
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Error::Storage(errno)
    }
}

impl From<sealed::Error> for Error {
    fn from(error: sealed::Error) -> Self {
        Error::Sealed(error)
    }
}

/// What a file turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing yet: it becomes a sealed file with its first byte.
    Empty,
    /// A sealed file, made with this key.
    Sealed,
    /// Some other file.
    Plain,
}

/// The final chunk, known to be authentic.
struct Tail {
    /// Size of the file that it was the end of.
    physical: u64,
    plaintext: Vec<u8>,
    sealed: Vec<u8>,
}

/// The state of one sealed file.
#[derive(Default)]
pub struct SealedFile {
    /// `None` for a file without a header, which is empty.
    cipher: Option<FileCipher<AnyAead>>,
    tail: Option<Tail>,
}

/// An AEAD of whatever make.
pub type AnyAead = Box<dyn Aead + Send>;

/// The key, and how AEADs are made from the keys of files.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'a> {
    /// Opens files, and seals new ones.
    pub master: &'a MasterKey,
    /// Makes the AEAD of a file: in software, or one that asks the runtime.
    pub aead: fn(&FileKey) -> AnyAead,
}

impl Keys<'_> {
    fn cipher(&self, key: &FileKey) -> FileCipher<AnyAead> {
        FileCipher::with_aead(key.header().clone(), (self.aead)(key))
    }

    fn open(&self, header: &[u8]) -> Result<FileCipher<AnyAead>, Error> {
        Ok(self.cipher(&sealed::Header::parse(header)?.verify(self.master)?))
    }
}

/// The AEAD in software.
pub fn software(key: &FileKey) -> AnyAead {
    Box::new(Software::new(key))
}

/// What a sealed file is made with.
#[derive(Debug)]
pub struct Sealing<'a, R: ?Sized> {
    /// Opens files, and seals new ones.
    pub keys: Keys<'a>,
    /// Cipher and chunk size of new files.
    pub params: Params,
    /// Source of nonces and salts.
    pub rng: &'a mut R,
}

/// Reads until `buf` is full.
fn read_exact(storage: &impl Storage, buf: &mut [u8], offset: u64) -> Result<(), Error> {
    let mut done = 0;
    while done < buf.len() {
        match storage.read_at(&mut buf[done..], offset + done as u64)? {
            // The file ends earlier than its size said.
            0 => return Err(sealed::Error::Truncated.into()),
            read => done += read,
        }
    }
    Ok(())
}

fn write_all(storage: &impl Storage, mut bytes: &[u8], mut offset: u64) -> Result<(), Error> {
    while !bytes.is_empty() {
        let written = storage.write_at(bytes, offset)?;
        if written == 0 {
            return Err(Errno::EIO.into());
        }
        bytes = bytes.get(written..).unwrap_or_default();
        offset += written as u64;
    }
    Ok(())
}

/// Finds out what a file is, and checks the header of a sealed one.
///
/// # Errors
/// A sealed file of another key or version, or with a damaged header.
pub fn identify(storage: &impl Storage, keys: Keys<'_>) -> Result<Content, Error> {
    let mut header = [0; HEADER_LEN];
    let mut len = 0;
    while len < HEADER_LEN {
        match storage.read_at(&mut header[len..], len as u64)? {
            0 => break,
            read => len += read,
        }
    }
    let header = &header[..len];
    if header.is_empty() {
        return Ok(Content::Empty);
    }
    if !header.starts_with(&MAGIC) {
        return Ok(Content::Plain);
    }
    keys.open(header)?;
    Ok(Content::Sealed)
}

/// The layout that the header of a sealed file names, the key not needed. `None` for a file that
/// is not sealed.
///
/// # Errors
/// A damaged header, or of another version.
pub fn layout_of(header: &[u8]) -> Result<Option<Layout>, Error> {
    if !header.starts_with(&MAGIC) {
        return Ok(None);
    }
    Ok(Some(sealed::Header::parse(header)?.params().layout()))
}

impl std::fmt::Debug for SealedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedFile").finish_non_exhaustive()
    }
}

impl SealedFile {
    /// Looks at the file's size, which other descriptors may have changed, and reads the header
    /// where it is not known yet. Answers the physical size.
    fn refresh(&mut self, storage: &impl Storage, keys: Keys<'_>) -> Result<u64, Error> {
        let physical = storage.size()?;
        if physical == 0 {
            *self = Self::default();
        } else if self.cipher.is_none() {
            let mut header = [0; HEADER_LEN];
            read_exact(storage, &mut header, 0)?;
            self.cipher = Some(keys.open(&header)?);
        }
        if self
            .tail
            .as_ref()
            .is_some_and(|tail| tail.physical != physical)
        {
            self.tail = None;
        }
        Ok(physical)
    }

    /// Size of the plaintext.
    ///
    /// # Errors
    /// As for every call here: the storage's, or that the file is not authentic.
    pub fn len(&mut self, storage: &impl Storage, keys: Keys<'_>) -> Result<u64, Error> {
        let physical = self.refresh(storage, keys)?;
        self.plaintext_size(physical)
    }

    /// Size of the plaintext of this file when its physical size is `physical`.
    ///
    /// # Errors
    /// When no sealed file has that size.
    pub fn plaintext_size(&self, physical: u64) -> Result<u64, Error> {
        match &self.cipher {
            Some(cipher) => Ok(cipher.layout().plaintext_size(physical)?),
            None => Ok(0),
        }
    }

    fn cipher(&self) -> Result<&FileCipher<AnyAead>, Error> {
        self.cipher
            .as_ref()
            .ok_or(Error::Sealed(sealed::Error::NotSealed))
    }

    /// The final chunk of a file of that physical size, read and authenticated where it is not
    /// at hand.
    fn tail(&mut self, storage: &impl Storage, physical: u64) -> Result<&Tail, Error> {
        if self.tail.is_none() {
            let cipher = self.cipher()?;
            let layout = cipher.layout();
            let FinalChunk { index, len } = layout.final_chunk(layout.plaintext_size(physical)?);
            let mut sealed = vec![0; len + layout.overhead()];
            read_exact(storage, &mut sealed, layout.chunk_offset(index)?)?;
            let mut plaintext = vec![0; len];
            cipher.open_to_end(index, &sealed, &mut plaintext)?;
            self.tail = Some(Tail {
                physical,
                plaintext,
                sealed,
            });
        }
        self.tail
            .as_ref()
            .ok_or(Error::Sealed(sealed::Error::Truncated))
    }

    /// Reads up to `out.len()` bytes at `offset`; fewer at the end of the file.
    ///
    /// # Errors
    /// As [`SealedFile::len`]; then nothing of `out` may be used.
    pub fn read(
        &mut self,
        storage: &impl Storage,
        keys: Keys<'_>,
        offset: u64,
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let physical = self.refresh(storage, keys)?;
        let size = self.plaintext_size(physical)?;
        if size == 0 && physical == 0 {
            return Ok(0);
        }
        let wanted = size.saturating_sub(offset).min(out.len() as u64) as usize;
        if !out.is_empty() && offset.saturating_add(out.len() as u64) >= size {
            // The end is what the program learns from a short read: it has to be authentic.
            self.tail(storage, physical)?;
        }
        let mut sealed = Vec::new();
        let mut chunk = Vec::new();
        let mut done = 0;
        while done < wanted {
            let cipher = self.cipher()?;
            let layout = *cipher.layout();
            let at = offset + done as u64;
            let index = layout.chunk_index(at);
            let within = layout.offset_in_chunk(at);
            let last = layout.final_chunk(size);
            if index == last.index {
                let tail = self.tail(storage, physical)?;
                let part = tail
                    .plaintext
                    .get(within..within + (wanted - done))
                    .ok_or(Error::Sealed(sealed::Error::Truncated))?;
                out[done..wanted].copy_from_slice(part);
                break;
            }
            let whole = if within == 0 {
                ((wanted - done).min(RUN_LEN) / layout.chunk_size()) as u64
            } else {
                0
            }
            .min(last.index - index);
            let range = layout.run_range(index, whole.max(1))?;
            sealed.resize((range.end - range.start) as usize, 0);
            read_exact(storage, &mut sealed, range.start)?;
            if whole > 0 {
                let len = whole as usize * layout.chunk_size();
                cipher.open_run(index, &sealed, &mut out[done..done + len])?;
                done += len;
            } else {
                chunk.resize(layout.chunk_size(), 0);
                cipher.open_run(index, &sealed, &mut chunk)?;
                let len = (layout.chunk_size() - within).min(wanted - done);
                out[done..done + len].copy_from_slice(&chunk[within..within + len]);
                done += len;
            }
        }
        Ok(wanted)
    }

    /// Writes at `offset`; a gap before it is filled with sealed zeros. Answers how much was
    /// written, which is less than asked only when the storage failed after a part.
    ///
    /// # Errors
    /// As [`SealedFile::len`]; then nothing was written.
    pub fn write<R: TryCryptoRng + ?Sized>(
        &mut self,
        storage: &impl Storage,
        with: &mut Sealing<'_, R>,
        offset: u64,
        data: &[u8],
    ) -> Result<usize, Error> {
        if data.is_empty() {
            return Ok(0);
        }
        let mut physical = self.refresh(storage, with.keys)?;
        let size = self.plaintext_size(physical)?;
        let end = offset
            .checked_add(data.len() as u64)
            .ok_or(Error::Storage(Errno::EFBIG))?;
        with.params.layout().physical_size(end)?;
        if offset > size {
            physical = self.fill(storage, with, physical, size..offset)?;
        }
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let piece = &data[done..][..self.piece_len(with, at, data.len() - done)];
            match self.write_piece(storage, with, physical, at, piece) {
                Ok(after) => {
                    physical = after;
                    done += piece.len();
                }
                Err(error) if done == 0 => {
                    if offset > size {
                        // The gap alone would be a longer file that nobody asked for.
                        self.set_len(storage, with, size)?;
                    }
                    return Err(error);
                }
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// How much of `left` bytes at `at` go into one run: up to a chunk's edge.
    fn piece_len<R: ?Sized>(&self, with: &Sealing<'_, R>, at: u64, left: usize) -> usize {
        let layout = self
            .cipher
            .as_ref()
            .map_or_else(|| with.params.layout(), |cipher| *cipher.layout());
        left.min(RUN_LEN - layout.offset_in_chunk(at))
    }

    /// Makes the file longer with zeros. Answers its physical size then.
    fn fill<R: TryCryptoRng + ?Sized>(
        &mut self,
        storage: &impl Storage,
        with: &mut Sealing<'_, R>,
        mut physical: u64,
        gap: Range<u64>,
    ) -> Result<u64, Error> {
        let zeros = vec![0; (gap.end - gap.start).min(RUN_LEN as u64) as usize];
        let mut at = gap.start;
        while at < gap.end {
            let left = (gap.end - at).min(RUN_LEN as u64) as usize;
            let piece = &zeros[..self.piece_len(with, at, left)];
            match self.write_piece(storage, with, physical, at, piece) {
                Ok(after) => physical = after,
                Err(error) => {
                    // As in `write`: a gap half filled.
                    self.set_len(storage, with, gap.start)?;
                    return Err(error);
                }
            }
            at += piece.len() as u64;
        }
        Ok(physical)
    }

    /// Writes a run at `at`, which is not beyond the end, into a file of that physical size.
    /// Answers its physical size afterwards.
    fn write_piece<R: TryCryptoRng + ?Sized>(
        &mut self,
        storage: &impl Storage,
        with: &mut Sealing<'_, R>,
        physical: u64,
        at: u64,
        piece: &[u8],
    ) -> Result<u64, Error> {
        if physical == 0 {
            return self.begin(storage, with, piece);
        }
        let layout = *self.cipher()?.layout();
        let size = layout.plaintext_size(physical)?;
        let end = at + piece.len() as u64;
        let first = layout.chunk_index(at);
        let head = layout.offset_in_chunk(at);
        let last = layout.final_chunk(size);
        let grows = end > size;
        let to_end = grows || layout.chunk_index(end - 1) == last.index;
        if to_end {
            self.tail(storage, physical)?;
        }
        // What stays of the first and of the last chunk around the piece.
        let before = self.plain_chunk(storage, size, first, 0..head)?;
        let after = if grows {
            Vec::new()
        } else {
            let edge = layout.chunk_index(end - 1);
            let edge_len = if edge == last.index {
                last.len
            } else {
                layout.chunk_size()
            };
            let from = (end - layout.chunk_start(edge)?) as usize;
            self.plain_chunk(storage, size, edge, from..edge_len)?
        };
        let assembled;
        let plaintext = if before.is_empty() && after.is_empty() {
            piece
        } else {
            assembled = [before.as_slice(), piece, after.as_slice()].concat();
            assembled.as_slice()
        };
        let start = layout.chunk_offset(first)?;
        if !to_end {
            let mut sealed = vec![0; layout.sealed_run_len(plaintext.len())?];
            self.cipher()?
                .seal_run(first, plaintext, &mut sealed, with.rng)?;
            write_all(storage, &sealed, start)?;
            return Ok(physical);
        }
        let mut sealed = vec![0; layout.sealed_len_to_end(plaintext.len())?];
        self.cipher()?
            .seal_to_end(first, plaintext, &mut sealed, with.rng)?;
        let undo = if grows {
            Some(self.sealed_end(storage, physical, first)?)
        } else {
            None
        };
        if let Err(error) = write_all(storage, &sealed, start) {
            if let Some(undo) = undo {
                self.undo(storage, physical, &undo, start)?;
            }
            return Err(error);
        }
        self.remember_tail(start, plaintext, &sealed)
    }

    /// Writes the first bytes of a file that has none: header and chunks in one piece.
    fn begin<R: TryCryptoRng + ?Sized>(
        &mut self,
        storage: &impl Storage,
        with: &mut Sealing<'_, R>,
        piece: &[u8],
    ) -> Result<u64, Error> {
        let key = FileKey::generate(with.keys.master, with.params, with.rng)?;
        let cipher = with.keys.cipher(&key);
        let len = cipher.layout().sealed_len_to_end(piece.len())?;
        let mut bytes = vec![0; HEADER_LEN + len];
        let (header, sealed) = bytes.split_at_mut(HEADER_LEN);
        header.copy_from_slice(&cipher.header().encode());
        cipher.seal_to_end(0, piece, sealed, with.rng)?;
        if let Err(error) = write_all(storage, &bytes, 0) {
            storage.set_size(0)?;
            return Err(error);
        }
        self.cipher = Some(cipher);
        self.remember_tail(HEADER_LEN as u64, piece, &bytes[HEADER_LEN..])
    }

    /// The plaintext bytes `part` of a chunk; nothing is read for an empty part.
    fn plain_chunk(
        &mut self,
        storage: &impl Storage,
        size: u64,
        index: u64,
        part: Range<usize>,
    ) -> Result<Vec<u8>, Error> {
        let mut chunk = Vec::new();
        if part.is_empty() {
            return Ok(chunk);
        }
        let cipher = self.cipher()?;
        let layout = *cipher.layout();
        let missing = Error::Sealed(sealed::Error::Truncated);
        if index == layout.final_chunk(size).index {
            let physical = layout.physical_size(size)?;
            let tail = self.tail(storage, physical)?;
            chunk.extend_from_slice(tail.plaintext.get(part).ok_or(missing)?);
            return Ok(chunk);
        }
        let mut sealed = vec![0; layout.sealed_chunk_len()];
        read_exact(storage, &mut sealed, layout.chunk_offset(index)?)?;
        chunk.resize(layout.chunk_size(), 0);
        cipher.open_run(index, &sealed, &mut chunk)?;
        chunk.truncate(part.end);
        chunk.drain(..part.start);
        Ok(chunk)
    }

    /// The bytes on the disk from chunk `first` to the end, to put back when growing fails.
    fn sealed_end(
        &mut self,
        storage: &impl Storage,
        physical: u64,
        first: u64,
    ) -> Result<Vec<u8>, Error> {
        let start = self.cipher()?.layout().chunk_offset(first)?;
        let len = physical.saturating_sub(start) as usize;
        let tail = self.tail(storage, physical)?;
        if tail.sealed.len() == len {
            return Ok(tail.sealed.clone());
        }
        let mut end = vec![0; len];
        read_exact(storage, &mut end, start)?;
        Ok(end)
    }

    /// Puts back the end of a file that could not grow.
    fn undo(
        &mut self,
        storage: &impl Storage,
        physical: u64,
        end: &[u8],
        start: u64,
    ) -> Result<(), Error> {
        self.tail = None;
        storage.set_size(physical)?;
        write_all(storage, end, start)
    }

    /// Keeps the final chunk of what was just written from `start` on. Answers the physical size.
    fn remember_tail(&mut self, start: u64, plaintext: &[u8], sealed: &[u8]) -> Result<u64, Error> {
        let layout = *self.cipher()?.layout();
        let len = layout.offset_in_chunk(plaintext.len() as u64);
        let tail = self.tail.get_or_insert_with(|| Tail {
            physical: 0,
            plaintext: Vec::new(),
            sealed: Vec::new(),
        });
        tail.physical = start + sealed.len() as u64;
        // `Vec::clear` keeps the room: an append of a few bytes allocates nothing here.
        tail.plaintext.clear();
        tail.plaintext
            .extend_from_slice(&plaintext[plaintext.len() - len..]);
        tail.sealed.clear();
        tail.sealed
            .extend_from_slice(&sealed[sealed.len() - (len + layout.overhead())..]);
        Ok(tail.physical)
    }

    /// Cuts the file, or extends it with sealed zeros.
    ///
    /// # Errors
    /// As [`SealedFile::len`].
    pub fn set_len<R: TryCryptoRng + ?Sized>(
        &mut self,
        storage: &impl Storage,
        with: &mut Sealing<'_, R>,
        len: u64,
    ) -> Result<(), Error> {
        if len == 0 {
            // Also the way out for a file that is damaged, or not sealed at all.
            storage.set_size(0)?;
            *self = Self::default();
            return Ok(());
        }
        let physical = self.refresh(storage, with.keys)?;
        let size = self.plaintext_size(physical)?;
        if len > size {
            with.params.layout().physical_size(len)?;
            return self.fill(storage, with, physical, size..len).map(drop);
        }
        if len == size {
            // As a plain file: the time of change moves.
            return Ok(storage.set_size(physical)?);
        }
        let layout = *self.cipher()?.layout();
        let last = layout.final_chunk(len);
        let plaintext = self.plain_chunk(storage, size, last.index, 0..last.len)?;
        let mut sealed = vec![0; layout.sealed_len_to_end(plaintext.len())?];
        self.cipher()?
            .seal_to_end(last.index, &plaintext, &mut sealed, with.rng)?;
        let start = layout.chunk_offset(last.index)?;
        self.tail = None;
        write_all(storage, &sealed, start)?;
        storage.set_size(start + sealed.len() as u64)?;
        self.remember_tail(start, &plaintext, &sealed).map(drop)
    }
}
