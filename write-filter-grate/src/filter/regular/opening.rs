//! Open file descriptions of regular files: where their writes go.

use super::super::outlet::plain_write;
use super::Regular;
use cage_libc::{seek, sys};
use grate_rs::constants::{SYS_LLSEEK, SYS_LSEEK, SYS_PWRITE, fs};
use grate_rs::kernel::{self, int, value};
use grate_rs::{CageFd, Errno, own_buffer};
use std::sync::{Arc, Mutex, MutexGuard};

/// An open file description, shared by all copies of its descriptor.
#[derive(Debug)]
pub struct Opening {
    file: Arc<Regular>,
    /// Nothing can be read through it, so that its offset is moved by calls alone that the grate
    /// sees.
    is_write_only: bool,
    cursor: Mutex<Cursor>,
}

/// What need not be asked again.
#[derive(Debug, Default)]
struct Cursor {
    appends: Option<bool>,
    offset: Option<u64>,
}

impl Opening {
    /// One that was opened with these flags.
    pub fn new(file: Arc<Regular>, flags: i32) -> Self {
        Self {
            file,
            is_write_only: flags & fs::O_ACCMODE == fs::O_WRONLY,
            cursor: Mutex::default(),
        }
    }

    /// The file.
    pub fn file(&self) -> &Regular {
        &self.file
    }

    /// Looked at only where no write is under way.
    fn cursor(&self) -> MutexGuard<'_, Cursor> {
        self.cursor.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Does what may change flags or offset.
    pub fn change(&self, act: impl FnOnce() -> Result<i32, Errno>) -> Result<i32, Errno> {
        self.file.undisturbed(|| {
            let result = act();
            *self.cursor() = Cursor::default();
            result
        })
    }

    /// Writes at the offset, or where `at` says.
    ///
    /// # Errors
    /// As [`Regular::write`].
    pub fn write(&self, fd: CageFd, at: Option<u64>, input: &[u8]) -> Result<i32, Errno> {
        let position = || {
            let mut cursor = self.cursor();
            let appends = match cursor.appends {
                Some(appends) => appends,
                None => *cursor.appends.insert(is_appending(fd)?),
            };
            match (appends, at, cursor.offset) {
                (true, ..) => Ok(None),
                (false, Some(at), _) | (false, None, Some(at)) => Ok(Some(at)),
                (false, None, None) => seek(fd, 0, fs::SEEK_CUR).map(Some),
            }
        };
        let transmit = |bytes: &[u8], position: Option<u64>| {
            let Some(to) = at.or(position.filter(|_| !self.is_write_only)) else {
                // It is where it was judged: nobody else moves the offset.
                self.cursor().offset = None;
                let written = plain_write(fd, bytes)?;
                self.cursor().offset = position.map(|position| position + written as u64);
                return Ok(written);
            };
            let written = write_to(fd, bytes, to)?;
            if at.is_none() {
                // A read may have moved it since it was asked for.
                seek(fd, to + written as u64, fs::SEEK_SET)?;
            }
            Ok(written)
        };
        self.file.write(fd, position, input, transmit)
    }
}

/// Whether everything that is written goes to the end.
fn is_appending(fd: CageFd) -> Result<bool, Errno> {
    Ok(fd.flags()? & fs::O_APPEND != 0)
}

/// pwrite(2) of bytes of the grate's own.
fn write_to(fd: CageFd, bytes: &[u8], at: u64) -> Result<i32, Errno> {
    let args = [
        fd.arg(),
        own_buffer(bytes.as_ptr()),
        value(fd.cage, bytes.len() as u64),
        value(fd.cage, at),
    ];
    kernel::call(SYS_PWRITE, fd.cage, &args)
}

/// lseek(2), which answers where the file is then.
fn seek(fd: CageFd, offset: u64, whence: i32) -> Result<u64, Errno> {
    let mut place = [0; 8];
    let args = [
        fd.arg(),
        value(fd.cage, offset),
        int(fd.cage, whence),
        own_buffer(place.as_mut_ptr()),
    ];
    if sys::base() == 0 {
        kernel::call(SYS_LLSEEK, fd.cage, &args)?;
        return Ok(u64::from_le_bytes(place));
    }
    let raw = |offset: i64, whence: i32| {
        let args = [
            fd.arg(),
            value(fd.cage, offset as u64),
            int(fd.cage, whence),
        ];
        kernel::call(SYS_LSEEK, fd.cage, &args).unwrap_or_else(|Errno(errno)| -errno)
    };
    let size = || fd.stat().map(|stat| stat.size);
    seek::wide(raw, size, offset as i64, whence)
}
