//! Reading and writing open files.

use super::{Call, Entry};
use crate::memory::GuestMemory;
use crate::regions::Prot;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::os::fd::AsRawFd;

pub(super) const CALLS: &[Entry] = &[
    Entry::new(0, "read", 3, read),
    Entry::new(1, "write", 3, write),
];

/// Most bytes that one call moves, as Linux's `MAX_RW_COUNT`.
const MAX_RW: u64 = 0x7fff_f000;

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

fn result(moved: isize) -> Result<i32, Errno> {
    if moved < 0 {
        Err(last_error())
    } else {
        Ok(moved as i32)
    }
}

/// A length argument: what exceeds one call's most is cut, as the kernel does.
fn length(value: u64) -> Result<u64, Errno> {
    if value > i64::MAX as u64 {
        return Err(Errno::INVAL);
    }
    Ok(value.min(MAX_RW))
}

fn read(call: &Call<'_>) -> Result<i32, Errno> {
    let file = call.file(0)?;
    let image = call.image_of(1)?;
    let span = image
        .memory
        .prefix(call.raw(1), length(call.raw(2))?, Prot::WRITE)?;
    // SAFETY: the span is guest memory of that length; `image` keeps it mapped.
    result(unsafe { libc::read(file.as_raw_fd(), span.ptr().cast(), span.len()) })
}

fn write(call: &Call<'_>) -> Result<i32, Errno> {
    let file = call.file(0)?;
    let image = call.image_of(1)?;
    let span = image
        .memory
        .prefix(call.raw(1), length(call.raw(2))?, Prot::READ)?;
    // SAFETY: as in `read`.
    result(unsafe { libc::write(file.as_raw_fd(), span.ptr().cast(), span.len()) })
}

/// Whether a file may be mapped: a regular one, open for reading.
pub(super) fn check_mappable(file: &OwnedFd) -> Result<(), Errno> {
    use rustix::fs::{FileType, OFlags};
    let stat = rustix::fs::fstat(file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::NODEV);
    }
    let flags = rustix::fs::fcntl_getfl(file)?;
    if flags.contains(OFlags::PATH) {
        return Err(Errno::BADF);
    }
    if flags & OFlags::RWMODE == OFlags::WRONLY {
        return Err(Errno::ACCESS);
    }
    Ok(())
}

/// Reads a file's bytes from `offset` on into guest memory, as far as the file goes.
pub(super) fn fill_from_file(
    file: &OwnedFd,
    memory: &GuestMemory,
    at: u64,
    len: u64,
    offset: u64,
) -> Result<(), Errno> {
    let mut done = 0;
    while done < len {
        let span = memory.exact(at + done, len - done, Prot::WRITE)?;
        // SAFETY: the span is guest memory of that length, which `memory` keeps mapped.
        let moved = unsafe {
            libc::pread(
                file.as_raw_fd(),
                span.ptr().cast(),
                span.len().min(MAX_RW as usize),
                (offset + done) as i64,
            )
        };
        match moved {
            0 => break,
            moved if moved > 0 => done += moved as u64,
            _ => match last_error() {
                Errno::INTR => {}
                other => return Err(other),
            },
        }
    }
    Ok(())
}
