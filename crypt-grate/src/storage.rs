//! Where the bytes of a sealed file are kept, as the engine sees it.

use sealed::{Chunks, Tag, Unsealed};
use std::ops::Range;

/// An error number of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// Interrupted by a signal.
    pub const EINTR: Self = Self(4);
    /// Input or output error; also what data that does not authenticate gives.
    pub const EIO: Self = Self(5);
    /// Permission denied.
    pub const EACCES: Self = Self(13);
    /// Invalid argument.
    pub const EINVAL: Self = Self(22);
    /// File too large.
    pub const EFBIG: Self = Self(27);
    /// No space left on device.
    pub const ENOSPC: Self = Self(28);
}

/// How a file is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// For who reads: nobody changes the file meanwhile.
    Shared,
    /// For who changes the file.
    Exclusive,
}

/// That nobody changes a file, for as long as it lasts: see [`Storage::lease`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease(pub u32);

/// A place in a program's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The cage.
    pub cage: u64,
    /// The address, opaque.
    pub addr: u64,
}

impl Place {
    /// So many bytes further.
    #[must_use]
    pub fn further(self, offset: u64) -> Self {
        Self {
            addr: self.addr.wrapping_add(offset),
            ..self
        }
    }
}

/// Where plaintext goes.
#[derive(Debug)]
pub enum Target<'a> {
    /// To a buffer that is as long.
    Buffer(&'a mut [u8]),
    /// To a program that has room there, or not.
    Program(Place),
}

/// A file of the disk below. All offsets and sizes are physical.
pub trait Storage {
    /// Reads up to `buf.len()` bytes; fewer at the end of the file, 0 beyond it.
    ///
    /// # Errors
    /// As pread(2).
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno>;

    /// Writes some of `buf`, at least a byte unless it is empty.
    ///
    /// # Errors
    /// As pwrite(2).
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize, Errno>;

    /// Size in bytes.
    ///
    /// # Errors
    /// As fstat(2).
    fn size(&self) -> Result<u64, Errno>;

    /// Cuts the file, or extends it with zeros.
    ///
    /// # Errors
    /// As ftruncate(2).
    fn set_size(&self, size: u64) -> Result<(), Errno>;

    /// Waits until all that was written is on the disk.
    ///
    /// # Errors
    /// As fsync(2).
    fn sync(&self) -> Result<(), Errno>;

    /// Gives the room of a range back, as far as that is possible. It need not read as zeros then.
    fn discard(&self, _range: Range<u64>) {}

    /// Sees to it that a range has room on the disk, and leaves the size as it is.
    ///
    /// # Errors
    /// As fallocate(2).
    fn reserve(&self, _range: Range<u64>) -> Result<(), Errno> {
        Ok(())
    }

    /// Whether a read of fewer bytes than were asked for has come to the end of the file, as with a
    /// regular file of Linux.
    fn short_is_end(&self) -> bool {
        false
    }

    /// Whether the file has a name. One that has none and is damaged was replaced: what is written there is
    /// lost.
    ///
    /// # Errors
    /// As fstat(2).
    fn is_named(&self) -> Result<bool, Errno> {
        Ok(true)
    }

    /// Whether this may write.
    fn is_writable(&self) -> bool {
        true
    }

    /// Waits until the file is free for this use, among all who use it anywhere. Only called while
    /// unlocked.
    ///
    /// # Errors
    /// As the `F_OFD_SETLKW` of fcntl(2).
    fn lock(&self, _mode: LockMode) -> Result<(), Errno> {
        Ok(())
    }

    /// Ends what [`Storage::lock`] began.
    fn unlock(&self) {}

    /// Sees to it that it is known when anybody, anywhere, may change the file from now on. `None` where that
    /// can't be, as somebody has it open to write.
    fn lease(&self) -> Option<Lease> {
        None
    }

    /// Reads chunks and opens them to where they are wanted, where that can be done in one. Answers whether the lease lasted until
    /// all was there. `None` where it was not done: then nothing is known of what is there, but that all of it is authentic and
    /// has the tags that it must have.
    fn open(&self, _chunks: &Chunks<'_>, _to: Target<'_>, _lease: Option<Lease>) -> Option<bool> {
        None
    }

    /// Seals chunks, whose plaintext begins there in a program's memory, and writes them, where that can be done in one. Answers
    /// whether it was, and tells their tags.
    fn seal(&self, _chunks: &Unsealed<'_>, _from: Place, _tags: &mut [Tag]) -> bool {
        false
    }

    /// Waits until the file is free for an exclusive use, which [`Storage::give`] ends. Answers whether it has
    /// been this one's alone since that was called last.
    ///
    /// # Errors
    /// As [`Storage::lock`].
    fn take(&self) -> Result<bool, Errno> {
        self.lock(LockMode::Exclusive)?;
        Ok(false)
    }

    /// As [`Storage::write_at`], if the file has been this one's alone since [`Storage::give`]: it is taken and given
    /// for that. `None` where it has not, or where that can't be told: nothing was written then.
    ///
    /// # Errors
    /// As [`Storage::write_at`].
    fn write_kept(&self, _buf: &[u8], _offset: u64) -> Result<Option<usize>, Errno> {
        Ok(None)
    }

    /// Whether the file has been this one's alone since [`Storage::give`], up to now. `false` also where that can't be
    /// told.
    fn is_kept(&self) -> bool {
        false
    }

    /// Ends what [`Storage::take`] began, at once or as soon as others can be expected to wait for.
    fn give(&self) {
        self.unlock();
    }
}

/// A locked file, unlocked when dropped.
#[derive(Debug)]
pub struct Locked<'a, S: Storage + ?Sized> {
    storage: &'a S,
    is_taken: bool,
}

impl<'a, S: Storage + ?Sized> Locked<'a, S> {
    /// Waits for the lock.
    ///
    /// # Errors
    /// As [`Storage::lock`].
    pub fn new(storage: &'a S, mode: LockMode) -> Result<Self, Errno> {
        storage.lock(mode)?;
        Ok(Self {
            storage,
            is_taken: false,
        })
    }

    /// As [`Storage::take`].
    ///
    /// # Errors
    /// As [`Storage::lock`].
    pub fn take(storage: &'a S) -> Result<(Self, bool), Errno> {
        let alone = storage.take()?;
        let locked = Self {
            storage,
            is_taken: true,
        };
        Ok((locked, alone))
    }
}

impl<S: Storage + ?Sized> Drop for Locked<'_, S> {
    fn drop(&mut self) {
        if self.is_taken {
            self.storage.give();
        } else {
            self.storage.unlock();
        }
    }
}

/// Reads until `buf` is full or the file ends. Answers how much was read.
///
/// # Errors
/// As [`Storage::read_at`].
pub fn read_up_to(
    storage: &(impl Storage + ?Sized),
    buf: &mut [u8],
    offset: u64,
) -> Result<usize, Errno> {
    let mut done = 0;
    while done < buf.len() {
        match storage.read_at(&mut buf[done..], offset + done as u64)? {
            0 => break,
            read => done += read,
        }
    }
    Ok(done)
}

/// Writes all of `bytes`.
///
/// # Errors
/// As [`Storage::write_at`]; a part may have been written then.
pub fn write_all(
    storage: &(impl Storage + ?Sized),
    mut bytes: &[u8],
    mut offset: u64,
) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let written = storage.write_at(bytes, offset)?;
        if written == 0 {
            return Err(Errno::EIO);
        }
        bytes = bytes.get(written..).unwrap_or_default();
        offset += written as u64;
    }
    Ok(())
}
