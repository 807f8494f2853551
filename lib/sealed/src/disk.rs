//! What a sealed file lies on, as this crate sees it: its user brings the bytes.

use alloc::vec;
use core::ops::Range;

use crate::aead::Run;
use crate::record::Tag;
use crate::{Cipher, Error, KEY_LEN, Nonces};

/// Chunks that lie one behind the other, and what it takes to open them.
pub struct Chunks<'a> {
    /// With which AEAD they are sealed.
    pub cipher: Cipher,
    /// The file's content key.
    pub key: &'a [u8; KEY_LEN],
    /// Which chunks they are.
    pub run: Run,
    /// Where on the disk the first one begins.
    pub offset: u64,
    /// Bytes of plaintext.
    pub len: usize,
    /// The tag that each of them must have.
    pub tags: &'a [Tag],
}

/// Full chunks that go to places one behind the other, and what it takes to seal them.
pub struct Unsealed<'a> {
    /// With which AEAD they are to be sealed.
    pub cipher: Cipher,
    /// The file's content key.
    pub key: &'a [u8; KEY_LEN],
    /// Which chunks they are.
    pub run: Run,
    /// Where on the disk the first one is to begin.
    pub offset: u64,
    /// Where the plaintext begins in all that is written.
    pub from: usize,
    /// Bytes of it.
    pub len: usize,
    /// One is drawn for each chunk, in their order; whether the work is done or not, nobody else draws them.
    pub nonces: &'a Nonces,
}

/// The bytes of a sealed file. All offsets and sizes are physical.
pub trait Disk {
    /// How it fails.
    type Error;

    /// Reads up to `buf.len()` bytes; fewer at the end of the file, 0 beyond it.
    ///
    /// # Errors
    /// As pread(2).
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Self::Error>;

    /// Writes all of `buf`. Where it fails, a beginning may have been written.
    ///
    /// # Errors
    /// As pwrite(2).
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<(), Self::Error>;

    /// Waits until all that was written is on the disk.
    ///
    /// # Errors
    /// As fsync(2).
    fn sync(&self) -> Result<(), Self::Error>;

    /// Cuts the file, or extends it with zeros.
    ///
    /// # Errors
    /// As ftruncate(2).
    fn set_size(&self, size: u64) -> Result<(), Self::Error>;

    /// Size in bytes.
    ///
    /// # Errors
    /// As fstat(2).
    fn size(&self) -> Result<u64, Self::Error>;

    /// Gives the room of a range back, as far as that is possible. It need not read as zeros then.
    fn discard(&self, _range: Range<u64>) {}

    /// Whether a read of fewer bytes than were asked for has come to the end of the file, as with a
    /// regular file of Linux: nobody needs to read on to see it.
    fn short_is_end(&self) -> bool {
        false
    }

    /// Reads chunks and opens them to `out`, where that can be done in one. Answers whether it was: then all of them are authentic and
    /// have their tags. Else nothing is known of `out`, and they are read and opened one after the other.
    fn open(&self, _chunks: &Chunks<'_>, _out: &mut [u8]) -> bool {
        false
    }

    /// Seals chunks of what [`Volume::write_whole`](crate::Volume::write_whole) is told to write, from where its caller has it, and writes
    /// them, where that can be done in one. Answers whether it was, and tells their tags.
    fn seal(&self, _chunks: &Unsealed<'_>, _tags: &mut [Tag]) -> bool {
        false
    }

    /// Lends `work`, which is called once, a buffer of that length with anything in it: who has one kept need not
    /// make and clear it each time.
    fn lend(&self, len: usize, work: &mut dyn FnMut(&mut [u8])) {
        work(&mut vec![0; len]);
    }
}

/// Bytes in memory can be read like a disk, and nothing else.
impl Disk for [u8] {
    type Error = ReadOnly;

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, ReadOnly> {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.get(offset..))
            .unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&self, _: &[u8], _: u64) -> Result<(), ReadOnly> {
        Err(ReadOnly)
    }

    fn sync(&self) -> Result<(), ReadOnly> {
        Err(ReadOnly)
    }

    fn set_size(&self, _: u64) -> Result<(), ReadOnly> {
        Err(ReadOnly)
    }

    fn size(&self) -> Result<u64, ReadOnly> {
        Ok(self.len() as u64)
    }
}

/// A disk that takes no changes was to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("read-only")]
pub struct ReadOnly;

/// Why something on a disk came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure<E> {
    /// The disk failed.
    Disk(E),
    /// The file is not what a holder of the key wrote.
    Sealed(Error),
}

impl<E> From<Error> for Failure<E> {
    fn from(error: Error) -> Self {
        Self::Sealed(error)
    }
}

/// Fills `buf`, with zeros where the file ends before. Answers how many bytes the file has of it.
pub(crate) fn read_full<D: Disk + ?Sized>(
    disk: &D,
    buf: &mut [u8],
    offset: u64,
) -> Result<usize, Failure<D::Error>> {
    let mut done = 0;
    while done < buf.len() {
        let at = offset + done as u64;
        let read = disk.read_at(&mut buf[done..], at).map_err(Failure::Disk)?;
        done += read.min(buf.len() - done);
        if read == 0 || disk.short_is_end() {
            break;
        }
    }
    buf[done..].fill(0);
    Ok(done)
}
