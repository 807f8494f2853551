//! One sealed file with the reads and writes of a plain one, for all who have it open.
//!
//! A [`SealedFile`] is the shared state of an inode; its user serialises the calls. What the format asks for is
//! done by [`Volume`]; here it is brought together with others that may have the same file open: another grate,
//! another run. Who changes the file holds its lock exclusively. Who reads takes no lock until
//! something does not authenticate, for that may be a change that is being made right now.

mod write;

pub use write::Writer;

use crate::scratch;
use crate::storage::{Errno, Lease, LockMode, Locked, Place, Storage, Target, write_all};
use sealed::aead::{Aead, Software};
use sealed::{
    Chunks, Derive, Disk, Failure, FileCipher, FileKey, Header, Layout, MasterKey, Moment, Params,
    Tag, Unsealed, Volume,
};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of plaintext that are sealed or opened in one go: one kernel call each.
const RUN_LEN: usize = 1 << 20;

/// Bytes of plaintext that are opened at a time, and kept, for who reads on in small pieces: first
/// so many, and twice as many each time, up to the most.
const WINDOW_FIRST: usize = 32 << 10;
const WINDOW_MOST: usize = 256 << 10;

/// Bytes that are kept so for all files together: what is wanted beyond is opened when it is asked for, and no more.
const WINDOWS_MOST: usize = 64 << 20;

/// After how many looks that found nothing new a lease is asked for; how many more where there is none to be had, and where one was
/// taken back.
const QUIET: i32 = 16;
const DENIED: i32 = -1024;
const ENDED: i32 = -64;

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

impl From<Failure<Errno>> for Error {
    fn from(failure: Failure<Errno>) -> Self {
        match failure {
            Failure::Disk(errno) => Error::Storage(errno),
            Failure::Sealed(error) => Error::Sealed(error),
        }
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
    /// Makes the secrets of a file: as the former.
    pub derive: Derive,
}

impl Keys<'_> {
    fn cipher(&self, key: &FileKey) -> FileCipher<AnyAead> {
        FileCipher::with_aead(key, (self.aead)(key))
    }

    fn all(&self) -> impl Iterator<Item = &MasterKey> {
        self.others.iter().chain([self.master])
    }

    fn open(&self, head: &[u8]) -> Result<FileCipher<AnyAead>, sealed::Error> {
        let header = Header::parse(head).map_err(|error| match error {
            // A file that names one of the keys where a sealed one does was one, and is damaged.
            sealed::Error::NotSealed if self.all().any(|key| names(head, key)) => {
                sealed::Error::HeaderCorrupt
            }
            error => error,
        })?;
        let key = self
            .others
            .iter()
            .find(|key| key.id() == header.key_id())
            .unwrap_or(self.master);
        Ok(self.cipher(&header.verify_with(key, self.derive)?))
    }
}

/// Whether the first bytes of a file name a key, as a header does.
fn names(head: &[u8], key: &MasterKey) -> bool {
    const KEY_ID_AT: usize = 16;
    head.get(KEY_ID_AT..)
        .is_some_and(|rest| rest.starts_with(key.id().as_bytes()))
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
    /// Source of nonces and salts.
    pub rng: &'a mut R,
}

/// A storage as [`Volume`] takes it.
struct OnDisk<'a, S> {
    storage: &'a S,
    /// Where a program has what is written.
    source: Option<Place>,
}

impl<'a, S> OnDisk<'a, S> {
    fn of(storage: &'a S) -> Self {
        Self {
            storage,
            source: None,
        }
    }
}

impl<S: Storage> Disk for OnDisk<'_, S> {
    type Error = Errno;

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        self.storage.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<(), Errno> {
        write_all(self.storage, buf, offset)
    }

    fn sync(&self) -> Result<(), Errno> {
        self.storage.sync()
    }

    fn set_size(&self, size: u64) -> Result<(), Errno> {
        self.storage.set_size(size)
    }

    fn size(&self) -> Result<u64, Errno> {
        self.storage.size()
    }

    fn discard(&self, range: Range<u64>) {
        self.storage.discard(range);
    }

    fn short_is_end(&self) -> bool {
        self.storage.short_is_end()
    }

    fn open(&self, chunks: &Chunks<'_>, out: &mut [u8]) -> bool {
        self.storage
            .open(chunks, Target::Buffer(out), None)
            .is_some()
    }

    fn seal(&self, chunks: &Unsealed<'_>, tags: &mut [Tag]) -> bool {
        let from = self.source.map(|place| place.further(chunks.from as u64));
        from.is_some_and(|from| self.storage.seal(chunks, from, tags))
    }

    fn lend(&self, len: usize, work: &mut dyn FnMut(&mut [u8])) {
        scratch::with(len, work);
    }
}

/// Chunks that were opened ahead of who reads them.
#[derive(Default)]
struct Window {
    first: u64,
    plaintext: Vec<u8>,
    /// Of which moment they are.
    of: Option<Known>,
    /// As long as it lasts, they are what is there.
    lease: Option<Lease>,
    /// The first byte's place in the file, and whether the last one is the file's.
    start: u64,
    is_end: bool,
}

/// A moment of a file, as long as all that is known of it hangs together.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Known {
    life: u64,
    moment: Moment,
}

/// What one reader of a file has at hand: each open file description has its own, so that readers of one file do not take each other's.
#[derive(Default)]
pub struct Windows {
    /// What was opened for who reads on, and what was opened for others.
    ahead: Window,
    aside: Window,
    /// The chunk after the last one that was read: reading on from there opens a window.
    next: u64,
}

/// Bytes that there is room for in all windows.
static WINDOWS: AtomicUsize = AtomicUsize::new(0);

/// The state of one sealed file.
#[derive(Default)]
pub struct SealedFile {
    /// `None` for a file that is empty, or was not looked at.
    volume: Option<Volume<AnyAead>>,
    /// How often all that was known was dropped.
    life: u64,
    /// Whether there are bytes in a file that is empty.
    has_remains: bool,
    /// Whether this process has changed the file since it was compact.
    is_changed: bool,
    /// Up to where it is known to have reached the disk, if the file does not say so yet, and how often it
    /// was waited for since it did.
    unmarked: Option<Moment>,
    syncs: u32,
    /// Whether what is known of the file was true when its lock was given back last.
    is_settled: bool,
    /// Whether nobody else had it when it was taken last: then it is worth to be tried whether that is still so.
    is_alone: bool,
    /// How many changes nobody else has come between.
    undisturbed: i32,
    /// How many looks have found nothing new.
    quiet: i32,
    /// As long as it lasts, what is known of the file is true.
    lease: Option<Lease>,
}

impl std::fmt::Debug for SealedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedFile").finish_non_exhaustive()
    }
}

impl SealedFile {
    /// Finds out what a file is, and checks head and log of a sealed one.
    ///
    /// # Errors
    /// A sealed file of another key or version, or with a damaged head; or the storage's.
    pub fn identify(&mut self, storage: &impl Storage, keys: Keys<'_>) -> Result<Content, Error> {
        match self.settled(storage, keys, |file, _| Ok(file.volume.is_some())) {
            Ok(true) => Ok(Content::Sealed),
            Ok(false) => Ok(Content::Empty),
            Err(Error::Sealed(sealed::Error::NotSealed)) => Ok(Content::Plain),
            Err(error) => Err(error),
        }
    }

    /// Drops all that is remembered.
    fn forget(&mut self) {
        *self = Self {
            life: self.life + 1,
            is_changed: self.is_changed,
            unmarked: self.unmarked,
            syncs: self.syncs,
            undisturbed: self.undisturbed,
            quiet: self.quiet,
            ..Self::default()
        };
    }

    /// Gets to know the file as it is now. Answers whether that is certain: else somebody may be
    /// changing it.
    fn look(&mut self, storage: &impl Storage, keys: Keys<'_>) -> Result<bool, Error> {
        // Who writes here has kept everybody else out all the time.
        if self.is_alone && storage.is_kept() {
            return Ok(true);
        }
        self.is_alone = false;
        let disk = OnDisk::of(storage);
        // Taken before the look: what that finds is true as long as the lease lasts.
        let lease = self.lease.take().or_else(|| {
            if self.quiet < QUIET {
                return None;
            }
            self.quiet = DENIED;
            storage.lease().inspect(|_| self.quiet = 0)
        });
        if let Some(volume) = &mut self.volume {
            let known = volume.moment();
            if volume.refresh(&disk)? {
                if volume.moment() == known {
                    self.quiet = self.quiet.saturating_add(1);
                } else {
                    self.quiet = self.quiet.min(0);
                }
                self.lease = lease;
                return Ok(true);
            }
            self.forget();
            self.quiet = self.quiet.min(0);
        }
        let opened = Volume::open(&disk, |head| keys.open(head))?;
        self.volume = opened.volume;
        self.has_remains = opened.has_remains;
        Ok(opened.is_certain)
    }

    /// Does what needs the file whole: without the lock first, and with it where that fails.
    fn settled<S: Storage, T>(
        &mut self,
        storage: &S,
        keys: Keys<'_>,
        mut work: impl FnMut(&mut Self, &OnDisk<'_, S>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let attempt = match self.look(storage, keys) {
            Ok(true) => work(self, &OnDisk::of(storage)),
            // Any damage will do: the attempt is not over.
            Ok(false) => Err(sealed::Error::Truncated.into()),
            Err(error) => Err(error),
        };
        let damage = match attempt {
            Err(Error::Sealed(error)) => error,
            settled => return settled,
        };
        let mode = if storage.is_writable() {
            LockMode::Exclusive
        } else {
            LockMode::Shared
        };
        let Ok(_locked) = Locked::new(storage, mode) else {
            return Err(damage.into());
        };
        self.forget();
        self.look(storage, keys)?;
        work(self, &OnDisk::of(storage))
    }

    /// Size of the plaintext.
    ///
    /// # Errors
    /// As for every call here: the storage's, or that the file is not authentic.
    pub fn len(&mut self, storage: &impl Storage, keys: Keys<'_>) -> Result<u64, Error> {
        self.settled(storage, keys, |file, _| {
            Ok(file.volume.as_ref().map_or(0, Volume::size))
        })
    }

    /// Whether it is not known what the file is, or nothing was in it.
    pub fn is_unknown(&self) -> bool {
        self.volume.is_none() && !self.has_remains
    }

    /// Size of the plaintext when the file was looked at last.
    pub fn known_len(&self) -> u64 {
        self.volume.as_ref().map_or(0, Volume::size)
    }

    /// The first byte from `offset` on that is data, or, where `is_hole`, that is in a hole; the end
    /// of the file counts as one.
    ///
    /// # Errors
    /// As [`SealedFile::len`].
    pub fn seek(
        &mut self,
        storage: &impl Storage,
        keys: Keys<'_>,
        offset: u64,
        is_hole: bool,
    ) -> Result<u64, Error> {
        self.settled(storage, keys, |file, disk| match &mut file.volume {
            Some(volume) => Ok(volume.seek(disk, offset, is_hole)?),
            None => Ok(0),
        })
    }

    /// Up to `len` bytes at `offset`, all that are there, with no look at the file: they are right if the lease that comes with
    /// them lasts when they are used. `None` where that can't be told so.
    pub fn at_hand<'a>(
        &mut self,
        windows: &'a mut Windows,
        storage: &impl Storage,
        offset: u64,
        len: usize,
    ) -> Option<(Lease, &'a [u8])> {
        let lease = self.lease?;
        let is_there = self.bring(windows, &OnDisk::of(storage), offset, len);
        let bytes = is_there.ok()??;
        Some((lease, bytes))
    }

    /// That a lease has ended.
    pub fn end_lease(&mut self, lease: Lease) {
        if self.lease == Some(lease) {
            self.lease = None;
            self.quiet = ENDED;
        }
    }

    fn known(&self) -> Option<Known> {
        let moment = self.moment()?;
        Some(Known {
            life: self.life,
            moment,
        })
    }

    /// Up to `len` bytes at `offset`, all that are there; `None` where they are too many to be kept, or not to be had all at once.
    ///
    /// # Errors
    /// As [`SealedFile::len`].
    pub fn look_at<'a>(
        &mut self,
        windows: &'a mut Windows,
        storage: &impl Storage,
        keys: Keys<'_>,
        offset: u64,
        len: usize,
    ) -> Result<Option<&'a [u8]>, Error> {
        let is_there = |file: &mut Self, disk: &OnDisk<'_, _>| {
            file.bring(windows, disk, offset, len)
                .map(|bytes| bytes.is_some())
        };
        match self.settled(storage, keys, is_there)? {
            true => self.bring(windows, &OnDisk::of(storage), offset, len),
            false => Ok(None),
        }
    }

    /// What is there of `len` bytes at `offset`, in a window; opened now where it is not there yet.
    fn bring<'a, S: Storage>(
        &mut self,
        windows: &'a mut Windows,
        disk: &OnDisk<'_, S>,
        offset: u64,
        len: usize,
    ) -> Result<Option<&'a [u8]>, Error> {
        let Some(volume) = &self.volume else {
            return Ok(None);
        };
        let layout = *volume.layout();
        let len = volume.size().saturating_sub(offset).min(len as u64) as usize;
        if len == 0 || len >= WINDOW_MOST {
            return Ok(None);
        }
        let index = layout.chunk_index(offset);
        let within = layout.offset_in_chunk(offset);
        if len > layout.chunk_size() && !windows.may_have(len) {
            return Ok(None);
        }
        let window = self.window(windows, disk, &layout, index, within + len)?;
        let start = window.place(&layout, index, within);
        Ok(window.plaintext.get(start..start + len))
    }

    /// A window that holds chunk `index`. Where there is none, so many chunks are opened that they hold `len` bytes, and
    /// more for who reads on.
    fn window<'a, S: Storage>(
        &mut self,
        windows: &'a mut Windows,
        disk: &OnDisk<'_, S>,
        layout: &Layout,
        index: u64,
        len: usize,
    ) -> Result<&'a Window, Error> {
        let (known, lease) = (self.known(), self.lease);
        let (Some(volume), Some(known)) = (&mut self.volume, known) else {
            return Ok(&windows.ahead);
        };
        let Windows { ahead, aside, next } = windows;
        for window in [&mut *ahead, &mut *aside] {
            if window.holds(layout, index, known) {
                window.lease = lease;
            }
        }
        if ahead.holds(layout, index, known) {
            return Ok(ahead);
        }
        if aside.holds(layout, index, known) {
            return Ok(aside);
        }
        let reads_on = *next == index;
        let wanted = len.next_multiple_of(layout.chunk_size());
        let window = match reads_on {
            true => ahead,
            false => aside,
        };
        let ahead = match reads_on {
            true if window.ends_at(layout, index) => 2 * window.plaintext.len(),
            true => 0,
            false => wanted,
        };
        let ahead = match reads_on && window.may_have(WINDOW_MOST) {
            true => ahead.clamp(WINDOW_FIRST, WINDOW_MOST).max(wanted),
            false => wanted,
        };
        let start = layout.chunk_start(index)?;
        let len = volume.size().saturating_sub(start).min(ahead as u64) as usize;
        // A damaged chunk ahead is no matter to those before it.
        let read = window.fill(len, |plaintext| volume.read(disk, index, plaintext))?;
        window.first = index;
        window.of = Some(known);
        window.lease = lease;
        window.start = start;
        window.is_end = start + read as u64 == volume.size();
        *next = index + layout.chunks(read as u64);
        Ok(window)
    }

    /// Has whole chunks opened to where a program wants them, at most a run of them, where that can be done in one: answers how many
    /// bytes. What is read in sequence, or is at hand, is not for this.
    ///
    /// # Errors
    /// As [`SealedFile::len`].
    pub fn read_to(
        &mut self,
        windows: &mut Windows,
        storage: &impl Storage,
        keys: Keys<'_>,
        offset: u64,
        len: usize,
        to: Place,
    ) -> Result<Option<usize>, Error> {
        if self.whole(windows, offset, len).is_none() {
            return Ok(None);
        }
        if let Some(lease) = self.lease {
            match self.open_to(windows, &OnDisk::of(storage), offset, len, to, Some(lease)) {
                Some((read, true)) => return Ok(Some(read)),
                Some((_, false)) => self.end_lease(lease),
                // It is looked at once more.
                None => {}
            }
        }
        self.settled(storage, keys, |file, disk| {
            let read = file.open_to(windows, disk, offset, len, to, None);
            Ok(read.map(|(read, _)| read))
        })
    }

    /// The first chunk of a read of whole ones, as far as is known, and how many bytes they are: those for [`SealedFile::read_to`].
    fn whole(&self, windows: &Windows, offset: u64, len: usize) -> Option<(u64, usize)> {
        let known = self.known()?;
        let volume = self.volume.as_ref()?;
        let layout = volume.layout();
        let len = len.min(RUN_LEN);
        let rest = volume.size().saturating_sub(offset);
        let there = rest.min(len as u64) as usize;
        let ends = there as u64 == rest || there.is_multiple_of(layout.chunk_size());
        let index = layout.chunk_index(offset);
        let is_direct = there > 0
            && ends
            && layout.offset_in_chunk(offset) == 0
            && (windows.next != index || len >= WINDOW_MOST)
            && !windows.hold(layout, index, known);
        is_direct.then_some((index, there))
    }

    /// As [`SealedFile::read_to`], of the file as it is known; and whether the lease lasted.
    fn open_to<S: Storage>(
        &mut self,
        windows: &mut Windows,
        disk: &OnDisk<'_, S>,
        offset: u64,
        len: usize,
        to: Place,
        lease: Option<Lease>,
    ) -> Option<(usize, bool)> {
        let (first, len) = self.whole(windows, offset, len)?;
        let volume = self.volume.as_mut()?;
        let layout = *volume.layout();
        let mut done = 0;
        let mut lasts = true;
        while done < len {
            let index = first + layout.chunks(done as u64);
            // What is damaged is told to who reads what is before it.
            let extent = volume.extent(disk, index, len - done).ok()??;
            let chunks = volume.chunks(&extent)?;
            let to = Target::Program(to.further(done as u64));
            lasts &= disk.storage.open(&chunks, to, lease)?;
            done += extent.plaintext_len();
        }
        windows.next = first + layout.chunks(len as u64);
        Some((len, lasts))
    }

    /// Reads up to `out.len()` bytes at `offset`; fewer at the end of the file, or before a chunk that
    /// is damaged.
    ///
    /// # Errors
    /// As [`SealedFile::len`]; then nothing of `out` may be used.
    pub fn read(
        &mut self,
        windows: &mut Windows,
        storage: &impl Storage,
        keys: Keys<'_>,
        offset: u64,
        out: &mut [u8],
    ) -> Result<usize, Error> {
        self.settled(storage, keys, |file, disk| {
            file.read_settled(windows, disk, offset, out)
        })
    }

    fn read_settled<S: Storage>(
        &mut self,
        windows: &mut Windows,
        disk: &OnDisk<'_, S>,
        offset: u64,
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let Some(volume) = &self.volume else {
            return Ok(0);
        };
        let (layout, size) = (*volume.layout(), volume.size());
        let wanted = size.saturating_sub(offset).min(out.len() as u64) as usize;
        let mut done = 0;
        while done < wanted {
            match self.read_piece(
                windows,
                disk,
                &layout,
                offset + done as u64,
                &mut out[done..wanted],
            ) {
                Ok(len) => done += len,
                // What was read before counts.
                Err(Error::Sealed(_)) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Reads some bytes, which are there.
    fn read_piece<S: Storage>(
        &mut self,
        windows: &mut Windows,
        disk: &OnDisk<'_, S>,
        layout: &Layout,
        at: u64,
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let known = self.known();
        let (Some(volume), Some(known)) = (&mut self.volume, known) else {
            return Ok(0);
        };
        let index = layout.chunk_index(at);
        let within = layout.offset_in_chunk(at);
        let reads_on = windows.next == index && out.len() < WINDOW_MOST;
        // Whole chunks, up to the end of the file, go where they are wanted at once.
        let is_end = at + out.len() as u64 == volume.size();
        let whole = match out.len().min(RUN_LEN) {
            len if is_end && len == out.len() => len,
            len => len - len % layout.chunk_size(),
        };
        if within == 0 && whole > 0 && !reads_on && !windows.hold(layout, index, known) {
            let read = volume.read(disk, index, &mut out[..whole])?;
            windows.next = index + layout.chunks(read as u64);
            return Ok(read);
        }
        let window = self.window(windows, disk, layout, index, 1)?;
        let start = window.place(layout, index, within);
        let part = window.plaintext.get(start..).unwrap_or_default();
        let len = part.len().min(out.len());
        out[..len].copy_from_slice(&part[..len]);
        if len == 0 {
            return Err(sealed::Error::Truncated.into());
        }
        Ok(len)
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        WINDOWS.fetch_sub(self.plaintext.capacity(), Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Windows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Windows").finish_non_exhaustive()
    }
}

impl Windows {
    /// As [`SealedFile::at_hand`], without the file: what nobody else is asked for.
    pub fn at_hand(&self, offset: u64, len: usize) -> Option<(Lease, &[u8])> {
        let windows = [&self.ahead, &self.aside];
        windows
            .into_iter()
            .find_map(|window| Some((window.lease?, window.bytes(offset, len)?)))
    }

    /// That a lease has ended.
    pub fn end_lease(&mut self, lease: Lease) {
        for window in [&mut self.ahead, &mut self.aside] {
            window.lease.take_if(|its| *its == lease);
        }
    }

    /// Whether there is room for so many bytes in them, with all the others there are.
    fn may_have(&self, len: usize) -> bool {
        let own = self.ahead.plaintext.capacity() + self.aside.plaintext.capacity();
        let others = WINDOWS.load(Ordering::Relaxed).saturating_sub(own);
        others + len <= WINDOWS_MOST
    }

    fn hold(&self, layout: &Layout, index: u64, known: Known) -> bool {
        let windows = [&self.ahead, &self.aside];
        windows
            .iter()
            .any(|window| window.holds(layout, index, known))
    }
}

impl Window {
    fn holds(&self, layout: &Layout, index: u64, known: Known) -> bool {
        let count = layout.chunks(self.plaintext.len() as u64);
        self.of == Some(known) && (self.first..self.first.saturating_add(count)).contains(&index)
    }

    /// Up to `len` bytes at `offset`, all that are there, if it has some and knows of no more.
    fn bytes(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let from = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        let rest = self.plaintext.get(from..)?;
        match rest.get(..len) {
            None if self.is_end && !rest.is_empty() => Some(rest),
            bytes => bytes,
        }
    }

    /// Where in it a place in a chunk is.
    fn place(&self, layout: &Layout, index: u64, within: usize) -> usize {
        index.saturating_sub(self.first) as usize * layout.chunk_size() + within
    }

    /// Whether what it holds ends where that chunk begins.
    fn ends_at(&self, layout: &Layout, index: u64) -> bool {
        self.first + layout.chunks(self.plaintext.len() as u64) == index
    }

    /// Whether it may become so long, with all the others there are.
    fn may_have(&self, len: usize) -> bool {
        let others = WINDOWS
            .load(Ordering::Relaxed)
            .saturating_sub(self.plaintext.capacity());
        others + len <= WINDOWS_MOST
    }

    /// Has its buffer filled, up to that length. Answers how much there was.
    fn fill<E>(
        &mut self,
        len: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        (self.of, self.lease) = (None, None);
        let before = self.plaintext.capacity();
        if before > 2 * len.max(WINDOW_FIRST) {
            self.plaintext = Vec::new();
        }
        // Cleared where it grows alone: what is read overwrites the rest.
        self.plaintext.resize(len, 0);
        let filled = read(&mut self.plaintext);
        self.plaintext.truncate(*filled.as_ref().unwrap_or(&0));
        WINDOWS.fetch_add(self.plaintext.capacity(), Ordering::Relaxed);
        WINDOWS.fetch_sub(before, Ordering::Relaxed);
        filled
    }
}
