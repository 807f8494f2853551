//! Calls that the grate makes itself, on descriptors of a cage or of its own.

use super::{exclusion, lease, native};
use crypt_grate::storage::{Errno as StorageErrno, Lease, LockMode, Place, Storage, Target};
use grate_rs::constants::{
    SYS_FALLOCATE, SYS_FSYNC, SYS_FTRUNCATE, SYS_OPEN, SYS_PREAD, SYS_PWRITE, fs,
};
pub use grate_rs::kernel::{Inode, OwnFd, SIZE_AT, STAT_LEN, Stat, call, int, pass, value};
use grate_rs::{Arg, CageFd, Errno, getcageid, own_buffer};
use sealed::{Chunks, Tag, Unsealed};
use std::ops::Range;

/// A file of the disk below, as the engine takes it: a descriptor to make calls on.
#[derive(Clone, Copy, Debug)]
pub struct File {
    fd: CageFd,
    writable: bool,
}

impl File {
    /// One that is open for reading alone.
    pub fn to_read(fd: CageFd) -> Self {
        Self {
            fd,
            writable: false,
        }
    }

    /// One that is open for reading and writing.
    pub fn to_write(fd: CageFd) -> Self {
        Self { fd, writable: true }
    }

    fn allocate(&self, mode: i32, range: Range<u64>) -> Result<(), StorageErrno> {
        if cage_libc::sys::base() != 0 {
            return Ok(()); // Lind does not have the call: no room is set aside or given back.
        }
        let args = [
            self.fd.arg(),
            int(self.fd.cage, mode),
            value(self.fd.cage, range.start),
            value(self.fd.cage, range.end - range.start),
        ];
        call(SYS_FALLOCATE, self.fd.cage, &args)
            .map(drop)
            .map_err(storage)
    }
}

/// `struct flock` of Linux for 64-bit machines, as Lind passes it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flock {
    /// F_RDLCK, F_WRLCK or F_UNLCK.
    pub kind: i16,
    /// What `start` counts from.
    pub whence: i16,
    /// Where the range begins.
    pub start: i64,
    /// Its length; 0 for all that follows.
    pub len: i64,
    /// Who holds the lock, as F_GETLK answers.
    pub pid: i32,
}

impl Flock {
    /// Bytes of the structure.
    pub const LEN: usize = 32;

    /// Reads it.
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        Self {
            kind: i16::from_le_bytes(field(bytes, 0)),
            whence: i16::from_le_bytes(field(bytes, 2)),
            start: i64::from_le_bytes(field(bytes, 8)),
            len: i64::from_le_bytes(field(bytes, 16)),
            pid: i32::from_le_bytes(field(bytes, 24)),
        }
    }

    /// Lays it out.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..2].copy_from_slice(&self.kind.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.whence.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.start.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.len.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.pid.to_le_bytes());
        bytes
    }
}

fn field<const N: usize>(bytes: &[u8; Flock::LEN], at: usize) -> [u8; N] {
    std::array::from_fn(|i| bytes[at + i])
}

fn storage(errno: Errno) -> StorageErrno {
    StorageErrno(errno.0)
}

impl Storage for File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, StorageErrno> {
        let args = [
            self.fd.arg(),
            own_buffer(buf.as_mut_ptr()),
            value(self.fd.cage, buf.len() as u64),
            value(self.fd.cage, offset),
        ];
        let read = call(SYS_PREAD, self.fd.cage, &args).map_err(storage)?;
        // A grate below may be wrong; no more than was asked for can be there.
        Ok((read as usize).min(buf.len()))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize, StorageErrno> {
        let args = [
            self.fd.arg(),
            own_buffer(buf.as_ptr()),
            value(self.fd.cage, buf.len() as u64),
            value(self.fd.cage, offset),
        ];
        let written = call(SYS_PWRITE, self.fd.cage, &args).map_err(storage)?;
        Ok((written as usize).min(buf.len()))
    }

    fn size(&self) -> Result<u64, StorageErrno> {
        self.fd.stat().map(|stat| stat.size).map_err(storage)
    }

    fn set_size(&self, size: u64) -> Result<(), StorageErrno> {
        let args = [self.fd.arg(), value(self.fd.cage, size)];
        call(SYS_FTRUNCATE, self.fd.cage, &args)
            .map(drop)
            .map_err(storage)
    }

    fn sync(&self) -> Result<(), StorageErrno> {
        call(SYS_FSYNC, self.fd.cage, &[self.fd.arg()])
            .map(drop)
            .map_err(storage)
    }

    fn discard(&self, range: Range<u64>) {
        let mode = fs::FALLOC_FL_PUNCH_HOLE | fs::FALLOC_FL_KEEP_SIZE;
        // Where the file system can't, the room is used again later.
        let _ = self.allocate(mode, range);
    }

    fn reserve(&self, range: Range<u64>) -> Result<(), StorageErrno> {
        self.allocate(fs::FALLOC_FL_KEEP_SIZE, range)
    }

    fn short_is_end(&self) -> bool {
        true
    }

    fn is_named(&self) -> Result<bool, StorageErrno> {
        self.fd.stat().map(|stat| stat.links > 0).map_err(storage)
    }

    fn is_writable(&self) -> bool {
        self.writable
    }

    fn lock(&self, mode: LockMode) -> Result<(), StorageErrno> {
        let mode = match mode {
            LockMode::Shared => fs::F_RDLCK,
            LockMode::Exclusive => fs::F_WRLCK,
        };
        exclusion::set(self.fd, mode).map_err(storage)
    }

    fn unlock(&self) {
        // Nothing can be done about a lock that can't be removed; it ends with the descriptor.
        let _ = exclusion::set(self.fd, fs::F_UNLCK);
    }

    fn lease(&self) -> Option<Lease> {
        // While this one is open to write there is none.
        if self.writable {
            return None;
        }
        lease::take(self.fd)
    }

    fn open(&self, chunks: &Chunks<'_>, to: Target<'_>, lease: Option<Lease>) -> Option<bool> {
        native::open_chunks(self.fd, chunks, to, lease)
    }

    fn seal(&self, chunks: &Unsealed<'_>, from: Place, tags: &mut [Tag]) -> bool {
        native::seal_chunks(self.fd, chunks, from, tags)
    }

    fn take(&self) -> Result<bool, StorageErrno> {
        exclusion::take(self.fd).map_err(storage)
    }

    fn write_kept(&self, buf: &[u8], offset: u64) -> Result<Option<usize>, StorageErrno> {
        match exclusion::write_kept(self.fd, buf, offset) {
            Ok(written) => Ok(written.map(|written| (written as usize).min(buf.len()))),
            Err(errno) => Err(storage(errno)),
        }
    }

    fn is_kept(&self) -> bool {
        matches!(exclusion::write_kept(self.fd, &[], 0), Ok(Some(_)))
    }

    fn give(&self) {
        let _ = exclusion::give(self.fd);
    }
}

/// Opens a path in the grate's own memory for the grate itself.
///
/// # Errors
/// As open(2).
pub fn open_for_grate(path: Arg, flags: i32) -> Result<OwnFd, Errno> {
    let own = getcageid();
    let args = [path, int(own, flags | fs::O_CLOEXEC), int(own, 0)];
    let fd = call(SYS_OPEN, own, &args)?;
    Ok(OwnFd(CageFd { cage: own, fd }))
}
