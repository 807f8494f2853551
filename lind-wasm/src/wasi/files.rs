//! Open files: their data, position, size and times.

use super::abi::{Errno, FileType, Outcome, linux, nr, u32_at, utimes};
use super::context::Context;

/// Buffers that one call may name, as the kernel's `IOV_MAX`.
const MAX_BUFFERS: u32 = 1024;
/// Bytes of a WASI iovec: address and length.
const IOVEC: u32 = 8;

/// The system calls of a transfer: with one buffer and with several.
struct Transfer {
    one: u32,
    several: u32,
}

/// Moves data between a file and the program's buffers, which are named to the system call where
/// they lie. Empty buffers are left out: libc's streams often have one beside the real one.
fn transfer(
    cx: &mut Context<'_>,
    calls: &Transfer,
    fd: u32,
    (iovs, count): (u32, u32),
    offset: Option<u64>,
    done: u32,
) -> Outcome<()> {
    let fd = cx.fd(fd)?;
    let buffers = buffers(cx, iovs, count)?;
    cx.check(done, 4)?;
    let (nr, first, second) = match buffers[..] {
        [] => (calls.one, 0, 0),
        [(at, len)] => (calls.one, u64::from(at), u64::from(len)),
        _ => {
            let array: Vec<u8> = buffers
                .iter()
                .flat_map(|&(at, len)| [u64::from(at), u64::from(len)])
                .flat_map(u64::to_le_bytes)
                .collect();
            (calls.several, cx.stage(&array)?, buffers.len() as u64)
        }
    };
    let moved = match offset {
        Some(offset) => cx.call(nr, [fd, first, second, offset]),
        None => cx.call(nr, [fd, first, second]),
    }?;
    cx.put(done, &moved.to_le_bytes())
}

/// The buffers of an iovec array that are not empty, all of them the program's.
///
/// # Errors
/// `EINVAL` for too many, `EFAULT`.
pub(super) fn buffers(cx: &Context<'_>, iovs: u32, count: u32) -> Outcome<Vec<(u32, u32)>> {
    if count > MAX_BUFFERS {
        return Err(Errno::INVAL.into());
    }
    let mut buffers = Vec::new();
    for iovec in cx.bytes(iovs, count * IOVEC)?.chunks_exact(IOVEC as usize) {
        let (at, len) = (u32_at(iovec, 0), u32_at(iovec, 4));
        cx.check(at, len)?;
        if len > 0 {
            buffers.push((at, len));
        }
    }
    Ok(buffers)
}

/// Reads from the current position.
pub fn fd_read(cx: &mut Context<'_>, fd: u32, iovs: u32, count: u32, done: u32) -> Outcome<()> {
    const CALLS: Transfer = Transfer {
        one: nr::READ,
        several: nr::READV,
    };
    transfer(cx, &CALLS, fd, (iovs, count), None, done)
}

/// Writes at the current position.
pub fn fd_write(cx: &mut Context<'_>, fd: u32, iovs: u32, count: u32, done: u32) -> Outcome<()> {
    const CALLS: Transfer = Transfer {
        one: nr::WRITE,
        several: nr::WRITEV,
    };
    transfer(cx, &CALLS, fd, (iovs, count), None, done)
}

/// Reads from a given position.
pub fn fd_pread(
    cx: &mut Context<'_>,
    fd: u32,
    iovs: u32,
    count: u32,
    offset: u64,
    done: u32,
) -> Outcome<()> {
    const CALLS: Transfer = Transfer {
        one: nr::PREAD,
        several: nr::PREADV,
    };
    transfer(cx, &CALLS, fd, (iovs, count), Some(offset), done)
}

/// Writes at a given position.
pub fn fd_pwrite(
    cx: &mut Context<'_>,
    fd: u32,
    iovs: u32,
    count: u32,
    offset: u64,
    done: u32,
) -> Outcome<()> {
    const CALLS: Transfer = Transfer {
        one: nr::PWRITE,
        several: nr::PWRITEV,
    };
    transfer(cx, &CALLS, fd, (iovs, count), Some(offset), done)
}

/// Moves the position. `whence` has the kernel's numbers. A directory has no position in WASI, and
/// in the kernel one that means something else, which cookies are for.
pub fn fd_seek(
    cx: &mut Context<'_>,
    fd: u32,
    offset: i64,
    whence: u32,
    position: u32,
) -> Outcome<()> {
    const SEEK_END: u32 = 2;
    if whence > SEEK_END {
        return Err(Errno::INVAL.into());
    }
    let fd = cx.fd(fd)?;
    cx.check(position, 8)?;
    if cx.stat(fd)?.file_type() == FileType::Directory {
        return Err(Errno::BADF.into());
    }
    let place = cx.seek(fd, offset, whence)?;
    cx.put(position, &place.to_le_bytes())
}

/// The position.
pub fn fd_tell(cx: &mut Context<'_>, fd: u32, position: u32) -> Outcome<()> {
    const SEEK_CUR: u32 = 1;
    fd_seek(cx, fd, 0, SEEK_CUR, position)
}

/// Waits until the file is on its medium.
pub fn fd_sync(cx: &mut Context<'_>, fd: u32) -> Outcome<()> {
    let fd = cx.fd(fd)?;
    cx.call(nr::FSYNC, [fd]).map(drop)
}

/// Waits until the file's data are on its medium.
pub fn fd_datasync(cx: &mut Context<'_>, fd: u32) -> Outcome<()> {
    let fd = cx.fd(fd)?;
    cx.call(nr::FDATASYNC, [fd]).map(drop)
}

/// What the file is.
pub fn fd_filestat_get(cx: &mut Context<'_>, fd: u32, stat: u32) -> Outcome<()> {
    let fd = cx.fd(fd)?;
    let found = cx.stat(fd)?;
    cx.put(stat, &found.filestat())
}

/// Cuts or grows the file.
pub fn fd_filestat_set_size(cx: &mut Context<'_>, fd: u32, size: u64) -> Outcome<()> {
    let fd = cx.fd(fd)?;
    cx.call(nr::FTRUNCATE, [fd, size]).map(drop)
}

/// Sets the file's times.
pub fn fd_filestat_set_times(
    cx: &mut Context<'_>,
    fd: u32,
    atim: u64,
    mtim: u64,
    flags: u32,
) -> Outcome<()> {
    let times = utimes(atim, mtim, flags)?;
    let fd = cx.fd(fd)?;
    let times = cx.stage(&times)?;
    cx.call(nr::UTIMENSAT, [fd, 0, times, 0]).map(drop)
}

/// Takes advice on how the file will be used. It is checked, then dropped: it can't change what
/// any call does.
pub fn fd_advise(cx: &mut Context<'_>, fd: u32, offset: u64, len: u64, advice: u32) -> Outcome<()> {
    const NOREUSE: u32 = 5;
    let fd = cx.fd(fd)?;
    let stat = cx.stat(fd)?;
    if stat.file_type() == FileType::Directory {
        return Err(Errno::BADF.into());
    }
    if stat.is_pipe() || stat.file_type() == FileType::Socket {
        return Err(Errno::SPIPE.into());
    }
    if advice > NOREUSE || offset > i64::MAX as u64 || len > i64::MAX as u64 {
        return Err(Errno::INVAL.into());
    }
    Ok(())
}

/// Makes the file at least as long as the range reaches. No room on the medium is set aside: Lind
/// has no call for that, and behind an encrypting grate there is no range to set aside.
pub fn fd_allocate(cx: &mut Context<'_>, fd: u32, offset: u64, len: u64) -> Outcome<()> {
    let fd = cx.fd(fd)?;
    let flags = cx.call(nr::FCNTL, [fd, linux::F_GETFL])?;
    if flags & linux::O_ACCMODE == linux::O_RDONLY {
        return Err(Errno::BADF.into());
    }
    let end = offset
        .checked_add(len)
        .filter(|&end| len > 0 && i64::try_from(end).is_ok())
        .ok_or(Errno::INVAL)?;
    let stat = cx.stat(fd)?;
    match stat.file_type() {
        FileType::RegularFile if stat.size() < end => cx.call(nr::FTRUNCATE, [fd, end]).map(drop),
        FileType::RegularFile => Ok(()),
        _ if stat.is_pipe() => Err(Errno::SPIPE.into()),
        _ => Err(Errno::NODEV.into()),
    }
}
