//! Calls that the grate makes itself, on descriptors of a cage or of its own.

use crypt_grate::storage::{Errno as StorageErrno, Storage};
use grate_rs::constants::{SYS_FTRUNCATE, SYS_OPEN, SYS_OPENAT, SYS_PREAD, SYS_PWRITE, fs};
pub use grate_rs::kernel::{Inode, SIZE_AT, STAT_LEN, Stat, call, int, pass, stat_with, value};
use grate_rs::{Arg, CageFd, Errno, getcageid, own_buffer};

/// A file of the disk below, as the engine takes it: a descriptor to make calls on.
#[derive(Clone, Copy, Debug)]
pub struct File(pub CageFd);

fn storage(errno: Errno) -> StorageErrno {
    StorageErrno(errno.0)
}

impl Storage for File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, StorageErrno> {
        let args = [
            self.0.arg(),
            own_buffer(buf.as_mut_ptr()),
            value(self.0.cage, buf.len() as u64),
            value(self.0.cage, offset),
        ];
        let read = call(SYS_PREAD, self.0.cage, &args).map_err(storage)?;
        // A grate below may be wrong; no more than was asked for can be there.
        Ok((read as usize).min(buf.len()))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize, StorageErrno> {
        let args = [
            self.0.arg(),
            own_buffer(buf.as_ptr()),
            value(self.0.cage, buf.len() as u64),
            value(self.0.cage, offset),
        ];
        let written = call(SYS_PWRITE, self.0.cage, &args).map_err(storage)?;
        Ok((written as usize).min(buf.len()))
    }

    fn size(&self) -> Result<u64, StorageErrno> {
        self.0.stat().map(|stat| stat.size).map_err(storage)
    }

    fn set_size(&self, size: u64) -> Result<(), StorageErrno> {
        let args = [self.0.arg(), value(self.0.cage, size)];
        call(SYS_FTRUNCATE, self.0.cage, &args)
            .map(drop)
            .map_err(storage)
    }
}

/// An open file in the grate's own table, closed when dropped.
#[derive(Debug)]
pub struct OwnFd(pub CageFd);

impl Drop for OwnFd {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Opens a path for the grate itself: one of a cage, from the directory that the cage names or is
/// in, or one in the grate's own memory.
///
/// # Errors
/// As open(2).
pub fn open_for_grate(directory: Option<Arg>, path: Arg, flags: i32) -> Result<OwnFd, Errno> {
    let own = getcageid();
    let rest = [path, int(own, flags | fs::O_CLOEXEC), int(own, 0)];
    let fd = match directory {
        Some(directory) => call(SYS_OPENAT, own, &[directory, rest[0], rest[1], rest[2]])?,
        None => call(SYS_OPEN, own, &rest)?,
    };
    Ok(OwnFd(CageFd { cage: own, fd }))
}
