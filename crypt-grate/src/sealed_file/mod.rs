//! One sealed file with the reads and writes of a plain one.
//!
//! A [`SealedFile`] is the shared state of an inode; its user serialises the calls. What lies on
//! the disk is authenticated before it is returned or merged into a write, and found to be the newest
//! at its place; the final chunk before a file grows or its end is reported, so that a file that was
//! cut short can't pass for a shorter one.
//!
//! Others may have the same file open: another grate, another run. Who changes it holds its lock
//! exclusively, and leaves another [stamp](sealed::Stamp) behind; so one look at the head of the
//! file tells whether what is remembered of it still holds. Who reads takes no lock until
//! something does not authenticate, for that may be a change that is being made right now.
//!
//! A change that was cut short is completed or undone by [`Journal`](journal) when the file is used
//! next.

mod journal;
mod write;

pub use write::Writer;

use crate::scratch;
use crate::storage::{Errno, LockMode, Locked, Storage, read_up_to};
use journal::{Patch, Patched};
use sealed::aead::{Aead, Software};
use sealed::{
    Digest, ENTRY_LEN, Entry, FileCipher, FileKey, FinalChunk, GROUP_CHUNKS, HEADER_LEN, Header,
    Layout, MAGIC, MasterKey, Params, Root, Tag, Tree,
};
use std::ops::Range;
use std::sync::Arc;

/// Bytes of plaintext that are sealed or opened in one go: one kernel call each.
const RUN_LEN: usize = 1 << 20;

/// Bytes of plaintext that are opened at a time, and kept, for who reads on in small pieces: first
/// so many, and twice as many each time, up to the most.
const WINDOW_FIRST: usize = 32 << 10;
const WINDOW_MOST: usize = 256 << 10;

/// Header and journal entry, read together.
const HEAD_LEN: usize = HEADER_LEN + ENTRY_LEN;

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
    /// A sealed file, made with one of the keys.
    Sealed,
    /// Some other file.
    Plain,
}

/// The final chunk, known to be authentic.
struct Tail {
    plaintext: Vec<u8>,
    sealed: Vec<u8>,
}

/// Full chunks that were opened ahead of who reads them.
#[derive(Default)]
struct Window {
    first: u64,
    plaintext: Vec<u8>,
}

/// What is authentic of a file, and its newest: its end, and the tree over its chunks.
struct Known {
    tail: Tail,
    tree: Tree,
}

/// The state of the file that everything remembered belongs to.
struct Seen {
    head: [u8; HEAD_LEN],
    physical: u64,
    /// The root of the file's tree.
    root: Root,
}

/// The state of one sealed file.
#[derive(Default)]
pub struct SealedFile {
    /// `None` for a file without a header, which is empty.
    cipher: Option<FileCipher<AnyAead>>,
    seen: Option<Seen>,
    known: Option<Known>,
    window: Window,
    /// The chunk after the last one that was read: reading on from there opens a window.
    next: u64,
    /// How the file reads while its last change is cut short and can't be repaired from here.
    patch: Option<Arc<Patch>>,
    restored: bool,
}

/// An AEAD of whatever make.
pub type AnyAead = Box<dyn Aead + Send>;

/// The keys, and how AEADs are made from those of files.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'a> {
    /// Seals new files.
    pub master: &'a MasterKey,
    /// Open files too, chosen by the key id in the header.
    pub others: &'a [MasterKey],
    /// Makes the AEAD of a file: in software, or one that asks the runtime.
    pub aead: fn(&FileKey) -> AnyAead,
}

impl Keys<'_> {
    fn cipher(&self, key: &FileKey) -> FileCipher<AnyAead> {
        FileCipher::with_aead(key, (self.aead)(key))
    }

    fn open(&self, header: &[u8]) -> Result<FileCipher<AnyAead>, Error> {
        let header = Header::parse(header)?;
        let key = self
            .others
            .iter()
            .find(|key| key.id() == header.key_id())
            .unwrap_or(self.master);
        Ok(self.cipher(&header.verify(key)?))
    }
}

/// The AEAD in software.
pub fn software(key: &FileKey) -> AnyAead {
    Box::new(Software::new(key))
}

/// What a sealed file is made with.
#[derive(Debug)]
pub struct Sealing<'a, R: ?Sized> {
    /// Open files, and seal new ones.
    pub keys: Keys<'a>,
    /// Cipher and chunk size of new files.
    pub params: Params,
    /// Source of nonces, salts and stamps.
    pub rng: &'a mut R,
}

/// Reads until `buf` is full.
fn read_exact(storage: &impl Storage, buf: &mut [u8], offset: u64) -> Result<(), Error> {
    if read_up_to(storage, buf, offset)? < buf.len() {
        // The file ends earlier than its size said.
        return Err(sealed::Error::Truncated.into());
    }
    Ok(())
}

/// Tags of the first `count` chunks of a group, as they stand in its table.
fn read_tags(
    storage: &impl Storage,
    layout: &Layout,
    group: u64,
    count: usize,
) -> Result<Vec<u8>, Error> {
    let mut tags = vec![0; count * size_of::<Tag>()];
    let offset = layout.table_offset(group)? + Digest::LEN as u64;
    read_exact(storage, &mut tags, offset)?;
    Ok(tags)
}

/// The layout that the header of a sealed file names, the key not needed. `None` for a file that
/// is not sealed, and for one whose last change may have been cut short: its size alone does not
/// tell that of its plaintext.
///
/// # Errors
/// A damaged header, or of another version.
pub fn layout_of(head: &[u8]) -> Result<Option<Layout>, Error> {
    if !head.starts_with(&MAGIC) {
        return Ok(None);
    }
    let layout = Header::parse(head)?.params().layout();
    let entry = head[HEADER_LEN..].first_chunk();
    Ok(entry
        .is_some_and(|entry| !Entry::may_be_live(entry))
        .then_some(layout))
}

/// How many of a file's first bytes [`layout_of`] wants.
pub const LAYOUT_LEN: usize = HEAD_LEN;

impl std::fmt::Debug for SealedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedFile").finish_non_exhaustive()
    }
}

/// Why an attempt without the lock came to nothing.
enum Interrupted {
    /// A change is being made, or was cut short; or the file is damaged.
    Try(Error),
    /// It failed for another reason.
    Failed(Error),
}

impl From<Error> for Interrupted {
    fn from(error: Error) -> Self {
        match error {
            Error::Sealed(_) => Interrupted::Try(error),
            Error::Storage(_) => Interrupted::Failed(error),
        }
    }
}

impl SealedFile {
    /// Finds out what a file is, and checks the header of a sealed one.
    ///
    /// # Errors
    /// A sealed file of another key or version, or with a damaged header; or the storage's.
    pub fn identify(&mut self, storage: &impl Storage, keys: Keys<'_>) -> Result<Content, Error> {
        let mut magic = [0; MAGIC.len()];
        let len = read_up_to(storage, &mut magic, 0)?;
        if len == 0 {
            self.forget();
            return Ok(Content::Empty);
        }
        if magic[..len] != MAGIC[..] {
            return Ok(Content::Plain);
        }
        self.settled(storage, keys, |_, _, physical| {
            Ok(if physical == 0 {
                Content::Empty
            } else {
                Content::Sealed
            })
        })
    }

    /// Whether a change that was cut short has been undone or completed since this was asked last.
    pub fn take_restored(&mut self) -> bool {
        std::mem::take(&mut self.restored)
    }

    /// Whether the file is read as its journal restores it, for it could not be repaired.
    pub fn is_patched(&self) -> bool {
        self.patch.is_some()
    }

    /// Drops all that is remembered.
    fn forget(&mut self) {
        *self = Self {
            restored: self.restored,
            ..Self::default()
        };
    }

    /// Looks whether the file is still as it was seen last, and gets to know it if not. Answers
    /// its physical size; `None` where a change is being made, or was cut short.
    fn refresh(&mut self, storage: &impl Storage, keys: Keys<'_>) -> Result<Option<u64>, Error> {
        let mut head = [0; HEAD_LEN];
        let len = read_up_to(storage, &mut head, 0)?;
        if len == 0 {
            self.forget();
            return Ok(Some(0));
        }
        if let Some(seen) = &self.seen
            && seen.head == head
        {
            return Ok(Some(seen.physical));
        }
        let entry = self.read_head(&head[..len], keys)?;
        if entry.restore.is_some() {
            return Ok(None);
        }
        let physical = storage.size()?;
        self.remember(head, physical, entry.root);
        Ok(Some(physical))
    }

    /// Drops what another state of the file was known by, and reads header and journal entry.
    fn read_head(&mut self, head: &[u8], keys: Keys<'_>) -> Result<Entry, Error> {
        let known = self
            .cipher
            .take()
            .filter(|cipher| head.starts_with(&cipher.header().encode()));
        self.forget();
        let cipher = match known {
            Some(cipher) => cipher,
            None => keys.open(head)?,
        };
        let entry = head[HEADER_LEN..]
            .first_chunk()
            .map(|entry| cipher.parse_entry(entry))
            .ok_or(sealed::Error::Truncated)?;
        self.cipher = Some(cipher);
        Ok(entry)
    }

    fn remember(&mut self, head: [u8; HEAD_LEN], physical: u64, root: Root) {
        self.seen = Some(Seen {
            head,
            physical,
            root,
        });
    }

    /// Does what needs the file whole: without the lock first, and with it where that fails.
    fn settled<S: Storage, T>(
        &mut self,
        storage: &S,
        keys: Keys<'_>,
        mut work: impl FnMut(&mut Self, &Patched<'_, S>, u64) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if self.patch.is_some() && storage.is_writable() {
            // It can be repaired now.
            self.forget();
        }
        let attempt = match self.refresh(storage, keys) {
            Ok(Some(physical)) => {
                let patched = Patched::new(storage, self.patch.clone());
                work(self, &patched, physical).map_err(Interrupted::from)
            }
            Ok(None) => Err(Interrupted::Try(Error::Sealed(sealed::Error::Truncated))),
            Err(error) => Err(error.into()),
        };
        let damage = match attempt {
            Ok(result) => return Ok(result),
            Err(Interrupted::Failed(error)) => return Err(error),
            Err(Interrupted::Try(error)) => error,
        };
        let mode = if storage.is_writable() {
            LockMode::Exclusive
        } else {
            LockMode::Shared
        };
        let Ok(_locked) = Locked::new(storage, mode) else {
            return Err(damage);
        };
        self.forget();
        let physical = self.settle_or_patch(storage, keys)?;
        let patched = Patched::new(storage, self.patch.clone());
        work(self, &patched, physical)
    }

    /// Size of the plaintext.
    ///
    /// # Errors
    /// As for every call here: the storage's, or that the file is not authentic.
    pub fn len(&mut self, storage: &impl Storage, keys: Keys<'_>) -> Result<u64, Error> {
        self.settled(storage, keys, |file, _, physical| {
            file.plaintext_size(physical)
        })
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

    /// The final chunk and the tree of a file of that physical size, read and authenticated where
    /// they are not at hand.
    fn known(&mut self, storage: &impl Storage, physical: u64) -> Result<&mut Known, Error> {
        let known = match self.known.take() {
            Some(known) => known,
            None => self.read_known(storage, physical)?,
        };
        Ok(self.known.insert(known))
    }

    fn read_known(&self, storage: &impl Storage, physical: u64) -> Result<Known, Error> {
        let cipher = self.cipher()?;
        let layout = cipher.layout();
        let size = layout.plaintext_size(physical)?;
        let FinalChunk { index, len } = layout.final_chunk(size);
        // First the final chunk: only if it is authentic, the file has as many groups as its size
        // says.
        let mut sealed = vec![0; len + layout.overhead()];
        read_exact(storage, &mut sealed, layout.chunk_offset(index)?)?;
        let mut plaintext = vec![0; len];
        cipher.open_to_end(index, &sealed, &mut plaintext)?;

        let last = index / GROUP_CHUNKS;
        let mut digests = Vec::with_capacity(last as usize);
        for group in 0..last {
            let mut digest = [0; Digest::LEN];
            read_exact(storage, &mut digest, layout.table_offset(group)?)?;
            digests.push(Digest::from_bytes(digest));
        }
        let count = (index % GROUP_CHUNKS) as usize + 1;
        let tags = read_tags(storage, layout, last, count)?;
        let tree = cipher.verify_tree(digests, &tags, size, self.root())?;
        tree.check(layout, index, &sealed)?;
        Ok(Known {
            tail: Tail { plaintext, sealed },
            tree,
        })
    }

    /// The root of the file's tree, as it stands in the file that was seen last.
    fn root(&self) -> Root {
        self.seen.as_ref().map(|seen| seen.root).unwrap_or_default()
    }

    /// The final chunk.
    fn tail(&mut self, storage: &impl Storage, physical: u64) -> Result<&Tail, Error> {
        Ok(&self.known(storage, physical)?.tail)
    }

    /// The tree, with the tags of all chunks of a group at hand.
    fn tree(
        &mut self,
        storage: &impl Storage,
        physical: u64,
        group: u64,
    ) -> Result<&mut Tree, Error> {
        let layout = *self.cipher()?.layout();
        let tree = &mut self.known(storage, physical)?.tree;
        if !tree.has(group) {
            let tags = read_tags(storage, &layout, group, GROUP_CHUNKS as usize)?;
            tree.admit(group, &tags)?;
        }
        Ok(tree)
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
        self.settled(storage, keys, |file, storage, physical| {
            file.read_settled(storage, physical, offset, out)
        })
    }

    fn read_settled(
        &mut self,
        storage: &impl Storage,
        physical: u64,
        offset: u64,
        out: &mut [u8],
    ) -> Result<usize, Error> {
        if physical == 0 {
            return Ok(0);
        }
        let layout = *self.cipher()?.layout();
        let size = layout.plaintext_size(physical)?;
        let last = layout.final_chunk(size);
        let wanted = size.saturating_sub(offset).min(out.len() as u64) as usize;
        if !out.is_empty() && offset.saturating_add(out.len() as u64) >= size {
            // The end is what the program learns from a short read: it has to be authentic.
            self.tail(storage, physical)?;
        }
        let mut done = 0;
        while done < wanted {
            let at = offset + done as u64;
            let index = layout.chunk_index(at);
            let within = layout.offset_in_chunk(at);
            let rest = &mut out[done..wanted];
            if index == last.index {
                let part = self
                    .tail(storage, physical)?
                    .plaintext
                    .get(within..within + rest.len())
                    .ok_or(Error::Sealed(sealed::Error::Truncated))?;
                rest.copy_from_slice(part);
                break;
            }
            let reads_on = self.next == index && rest.len() < WINDOW_MOST;
            let whole =
                ((rest.len().min(RUN_LEN) / layout.chunk_size()) as u64).min(last.index - index);
            done += if within == 0 && whole > 0 && !reads_on && !self.window.holds(&layout, index) {
                let len = whole as usize * layout.chunk_size();
                self.open_chunks(storage, physical, index, &mut rest[..len])?;
                self.next = index + whole;
                len
            } else {
                let ahead = if reads_on {
                    let len = 2 * self.window.plaintext.len();
                    (len.clamp(WINDOW_FIRST, WINDOW_MOST) / layout.chunk_size()) as u64
                } else {
                    1
                };
                self.look_at(storage, physical, index, ahead.clamp(1, last.index - index))?;
                let chunk = self.window.from(&layout, index, within)?;
                let len = chunk.len().min(rest.len());
                rest[..len].copy_from_slice(&chunk[..len]);
                len
            };
        }
        Ok(wanted)
    }

    /// Opens full chunks from `index` on into `out`.
    fn open_chunks(
        &mut self,
        storage: &impl Storage,
        physical: u64,
        mut index: u64,
        mut out: &mut [u8],
    ) -> Result<(), Error> {
        let layout = *self.cipher()?.layout();
        while !out.is_empty() {
            let count = layout.together(index, (out.len() / layout.chunk_size()) as u64);
            let (piece, rest) = out.split_at_mut(count as usize * layout.chunk_size());
            scratch::with(layout.sealed_run_len(piece.len())?, |sealed| {
                read_exact(storage, sealed, layout.chunk_offset(index)?)?;
                self.cipher()?.open_run(index, sealed, piece)?;
                let tree = self.tree(storage, physical, index / GROUP_CHUNKS)?;
                Ok::<_, Error>(tree.check(&layout, index, sealed)?)
            })?;
            index += count;
            out = rest;
        }
        Ok(())
    }

    /// Gets a full chunk into the window, with others behind it.
    fn look_at(
        &mut self,
        storage: &impl Storage,
        physical: u64,
        index: u64,
        count: u64,
    ) -> Result<(), Error> {
        let layout = *self.cipher()?.layout();
        if self.window.holds(&layout, index) {
            return Ok(());
        }
        let mut plaintext = std::mem::take(&mut self.window.plaintext);
        plaintext.resize(count as usize * layout.chunk_size(), 0);
        self.open_chunks(storage, physical, index, &mut plaintext)?;
        self.window = Window {
            first: index,
            plaintext,
        };
        self.next = index + count;
        Ok(())
    }

    /// The plaintext bytes `part` of a chunk; nothing is read for an empty part.
    fn plain_chunk(
        &mut self,
        storage: &impl Storage,
        physical: u64,
        index: u64,
        part: Range<usize>,
    ) -> Result<Vec<u8>, Error> {
        if part.is_empty() {
            return Ok(Vec::new());
        }
        let layout = *self.cipher()?.layout();
        let last = layout.final_chunk(layout.plaintext_size(physical)?);
        let chunk = if index == last.index {
            self.tail(storage, physical)?.plaintext.as_slice()
        } else {
            self.look_at(storage, physical, index, 1)?;
            self.window.from(&layout, index, 0)?
        };
        chunk
            .get(part)
            .map(<[u8]>::to_vec)
            .ok_or(Error::Sealed(sealed::Error::Truncated))
    }
}

impl Window {
    fn holds(&self, layout: &Layout, index: u64) -> bool {
        let count = (self.plaintext.len() / layout.chunk_size()) as u64;
        (self.first..self.first.saturating_add(count)).contains(&index)
    }

    /// What the window holds from a place in a chunk on.
    fn from(&self, layout: &Layout, index: u64, within: usize) -> Result<&[u8], Error> {
        let start = index.saturating_sub(self.first) as usize * layout.chunk_size();
        self.plaintext
            .get(start + within..)
            .ok_or(Error::Sealed(sealed::Error::Truncated))
    }

    /// Forgets chunks that are about to change.
    fn drop_from(&mut self, layout: &Layout, chunks: Range<u64>) {
        let count = (self.plaintext.len() / layout.chunk_size()) as u64;
        if chunks.start < self.first.saturating_add(count) && self.first < chunks.end {
            self.plaintext.clear();
        }
    }
}
