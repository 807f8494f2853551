//! Reading, writing and seeking open files, and what goes with their bytes.
//!
//! The kernel moves the bytes straight into and out of guest memory. What a guest's address does
//! not reach is shown to the kernel as [`OUT_OF_REACH`], so that it finds the fault itself, after
//! all that it checks before.

use super::{Call, Entry, abi, interfaces};
use crate::errno::last_error;
use crate::memory::GuestMemory;
use crate::regions::Prot;
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;

pub(super) const CALLS: &[Entry] = &[
    Entry::new(0, read),
    Entry::new(1, write),
    Entry::new(8, lseek),
    Entry::new(17, pread),
    Entry::new(18, pwrite),
    Entry::new(19, readv),
    Entry::new(20, writev),
    Entry::new(74, fsync),
    Entry::new(75, fdatasync),
    Entry::new(77, ftruncate),
    Entry::new(78, getdents_strictly),
    Entry::new(221, fadvise),
    Entry::new(277, sync_file_range),
    Entry::new(285, fallocate),
    Entry::new(295, preadv),
    Entry::new(296, pwritev),
    Entry::new(326, copy_file_range),
    Entry::new(1100, llseek),
];

/// Most bytes that one call moves, as Linux's `MAX_RW_COUNT`.
pub(super) const MAX_RW: u64 = 0x7fff_f000;
/// Most parts of a vector, as Linux's `UIO_MAXIOV`.
pub(super) const MAX_PARTS: usize = 1024;
/// Start and length of memory that no process has: the first page.
pub(super) const OUT_OF_REACH: (usize, usize) = (1, 4095);
/// Lengths from here on the kernel refuses, as no process has that much memory.
const TOO_LONG: u64 = 1 << 47;
/// An address that the kernel refuses without a look at what there would be to copy.
const IMPOSSIBLE: usize = usize::MAX;

/// The result of a host call that counts bytes.
pub(super) fn moved(result: isize) -> Result<i32, Errno> {
    if result < 0 {
        Err(last_error())
    } else {
        i32::try_from(result).map_err(|_| Errno::OVERFLOW)
    }
}

/// The result of a host call that answers with 0 or a small number.
pub(super) fn answer(result: libc::c_int) -> Result<i32, Errno> {
    if result < 0 {
        Err(last_error())
    } else {
        Ok(result)
    }
}

/// Parts of guest memory as the kernel takes them.
pub(super) struct Parts<'a> {
    parts: Vec<libc::iovec>,
    memory: PhantomData<&'a GuestMemory>,
}

fn part(base: usize, len: usize) -> libc::iovec {
    libc::iovec {
        iov_base: base as *mut libc::c_void,
        iov_len: len,
    }
}

impl<'a> Parts<'a> {
    fn new(capacity: usize) -> Self {
        Self {
            parts: Vec::with_capacity(capacity),
            memory: PhantomData,
        }
    }

    /// Adds a buffer; false when some of it is out of reach, where every transfer ends.
    fn push(&mut self, memory: &'a GuestMemory, addr: u64, len: u64, need: Prot) -> bool {
        let reached = match memory.prefix(addr, len, need) {
            Ok(span) => {
                self.parts.push(part(span.ptr() as usize, span.len()));
                span.len() as u64
            }
            Err(_) => 0,
        };
        if reached == len {
            return true;
        }
        let (base, most) = OUT_OF_REACH;
        let missing = usize::try_from(len - reached).unwrap_or(most).min(most);
        self.parts.push(part(base, missing));
        false
    }

    /// The one buffer at `addr`.
    pub(super) fn buffer(memory: &'a GuestMemory, addr: u64, len: u64, need: Prot) -> Self {
        let mut parts = Self::new(1);
        if len >= TOO_LONG {
            parts.parts.push(part(IMPOSSIBLE, 1));
        } else {
            parts.push(memory, addr, len.min(MAX_RW), need);
        }
        parts
    }

    /// The buffers that the vector of `count` entries at `addr` of `memory` names.
    pub(super) fn vector(
        memory: &'a GuestMemory,
        addr: u64,
        count: u64,
        need: Prot,
    ) -> Result<Self, Errno> {
        let count = usize::try_from(count)
            .ok()
            .filter(|&count| count <= MAX_PARTS)
            .ok_or(Errno::INVAL)?;
        let mut bytes = vec![0; count * abi::IOVEC_LEN];
        memory.read(addr, &mut bytes)?;
        let (entries, _) = bytes.as_chunks::<{ abi::IOVEC_LEN }>();
        let mut all: u64 = 0;
        let mut longest = 0;
        for entry in entries {
            let (_, len) = abi::iovec(entry);
            longest = len.max(longest);
            all = all
                .checked_add(len)
                .filter(|&all| all <= i64::MAX as u64)
                .ok_or(Errno::INVAL)?;
        }
        if longest >= TOO_LONG {
            return Err(Errno::FAULT);
        }
        let mut parts = Self::new(count);
        let mut left = MAX_RW;
        for entry in entries {
            let (base, len) = abi::iovec(entry);
            let len = len.min(left);
            left -= len;
            if !parts.push(memory, base, len, need) {
                break;
            }
        }
        parts.parts.truncate(MAX_PARTS);
        Ok(parts)
    }

    /// The only part, when there is just one.
    pub(super) fn single(&self) -> Option<&libc::iovec> {
        match self.parts.as_slice() {
            [single] => Some(single),
            _ => None,
        }
    }

    pub(super) fn ptr(&self) -> *const libc::iovec {
        self.parts.as_ptr()
    }

    pub(super) fn count(&self) -> libc::c_int {
        self.parts.len() as libc::c_int // At most `MAX_PARTS`.
    }
}

/// What is wrong with a vector counts only for a file that is open for such a call.
fn refused(file: &OwnedFd, unwanted: OFlags, errno: Errno) -> Errno {
    match rustix::fs::fcntl_getfl(file) {
        Ok(flags) if flags.contains(OFlags::PATH) => Errno::BADF,
        Ok(flags) if flags & OFlags::RWMODE == unwanted => Errno::BADF,
        _ => errno,
    }
}

/// An offset argument of a call that takes no negative one.
pub(super) fn position(call: &Call<'_>, index: usize) -> Result<i64, Errno> {
    match call.offset(index) {
        offset if offset < 0 => Err(Errno::INVAL),
        offset => Ok(offset),
    }
}

fn read(call: &Call<'_>) -> Result<i32, Errno> {
    let file = call.file(0)?;
    let image = call.image_of(1)?;
    let parts = Parts::buffer(&image.memory, call.raw(1), call.raw(2), Prot::WRITE);
    let fd = file.as_raw_fd();
    // SAFETY: the parts are guest memory that `image` keeps mapped, or no memory at all.
    moved(unsafe {
        match parts.single() {
            Some(buffer) => libc::read(fd, buffer.iov_base, buffer.iov_len),
            None => libc::readv(fd, parts.ptr(), parts.count()),
        }
    })
}

fn write(call: &Call<'_>) -> Result<i32, Errno> {
    let file = call.file(0)?;
    let image = call.image_of(1)?;
    if interfaces::is_one(call.rt, &file) {
        let mut asked = Vec::new();
        interfaces::add(&image.memory, call.raw(1), call.raw(2), &mut asked)?;
        return interfaces::ask(call.rt.net, &file, &asked);
    }
    let parts = Parts::buffer(&image.memory, call.raw(1), call.raw(2), Prot::READ);
    let fd = file.as_raw_fd();
    // SAFETY: as in `read`.
    moved(unsafe {
        match parts.single() {
            Some(buffer) => libc::write(fd, buffer.iov_base, buffer.iov_len),
            None => libc::writev(fd, parts.ptr(), parts.count()),
        }
    })
}

fn pread(call: &Call<'_>) -> Result<i32, Errno> {
    let offset = position(call, 3)?;
    let file = call.file(0)?;
    let image = call.image_of(1)?;
    let parts = Parts::buffer(&image.memory, call.raw(1), call.raw(2), Prot::WRITE);
    let fd = file.as_raw_fd();
    // SAFETY: as in `read`.
    moved(unsafe {
        match parts.single() {
            Some(buffer) => libc::pread(fd, buffer.iov_base, buffer.iov_len, offset),
            None => libc::preadv(fd, parts.ptr(), parts.count(), offset),
        }
    })
}

fn pwrite(call: &Call<'_>) -> Result<i32, Errno> {
    let offset = position(call, 3)?;
    let file = call.file(0)?;
    pwrite_to(&file, offset, call)
}

/// Writes the buffer of such a call to that file.
pub(super) fn pwrite_to(file: &OwnedFd, offset: i64, call: &Call<'_>) -> Result<i32, Errno> {
    let image = call.image_of(1)?;
    let parts = Parts::buffer(&image.memory, call.raw(1), call.raw(2), Prot::READ);
    let fd = file.as_raw_fd();
    // SAFETY: as in `read`.
    moved(unsafe {
        match parts.single() {
            Some(buffer) => libc::pwrite(fd, buffer.iov_base, buffer.iov_len, offset),
            None => libc::pwritev(fd, parts.ptr(), parts.count(), offset),
        }
    })
}

fn readv(call: &Call<'_>) -> Result<i32, Errno> {
    let file = call.file(0)?;
    let image = call.image_of(1)?;
    let parts = Parts::vector(&image.memory, call.raw(1), call.raw(2), Prot::WRITE)
        .map_err(|errno| refused(&file, OFlags::WRONLY, errno))?;
    // SAFETY: as in `read`.
    moved(unsafe { libc::readv(file.as_raw_fd(), parts.ptr(), parts.count()) })
}

fn writev(call: &Call<'_>) -> Result<i32, Errno> {
    let file = call.file(0)?;
    let image = call.image_of(1)?;
    let parts = Parts::vector(&image.memory, call.raw(1), call.raw(2), Prot::READ)
        .map_err(|errno| refused(&file, OFlags::RDONLY, errno))?;
    if interfaces::is_one(call.rt, &file) {
        let asked = interfaces::gathered(&image.memory, call.raw(1), call.raw(2))?;
        return interfaces::ask(call.rt.net, &file, &asked);
    }
    // SAFETY: as in `read`.
    moved(unsafe { libc::writev(file.as_raw_fd(), parts.ptr(), parts.count()) })
}

fn preadv(call: &Call<'_>) -> Result<i32, Errno> {
    let offset = position(call, 3)?;
    let file = call.file(0)?;
    let image = call.image_of(1)?;
    let parts = Parts::vector(&image.memory, call.raw(1), call.raw(2), Prot::WRITE)
        .map_err(|errno| refused(&file, OFlags::WRONLY, errno))?;
    // SAFETY: as in `read`.
    moved(unsafe { libc::preadv(file.as_raw_fd(), parts.ptr(), parts.count(), offset) })
}

fn pwritev(call: &Call<'_>) -> Result<i32, Errno> {
    let offset = position(call, 3)?;
    let file = call.file(0)?;
    let image = call.image_of(1)?;
    let parts = Parts::vector(&image.memory, call.raw(1), call.raw(2), Prot::READ)
        .map_err(|errno| refused(&file, OFlags::RDONLY, errno))?;
    // SAFETY: as in `read`.
    moved(unsafe { libc::pwritev(file.as_raw_fd(), parts.ptr(), parts.count(), offset) })
}

fn seek(file: &OwnedFd, offset: i64, whence: i32) -> Result<i64, Errno> {
    // SAFETY: no memory is involved.
    match unsafe { libc::lseek(file.as_raw_fd(), offset, whence) } {
        -1 => Err(last_error()),
        position => Ok(position),
    }
}

fn lseek(call: &Call<'_>) -> Result<i32, Errno> {
    let position = seek(&*call.file(0)?, call.offset(1), call.int(2))?;
    if call.rt.strict {
        // Lind cuts it.
        return Ok(position as i32);
    }
    // As Linux has it for programs of 32 bits: it is there, and can't be told.
    i32::try_from(position).map_err(|_| Errno::OVERFLOW)
}

/// lseek with the position in memory, for positions that an `int` can't hold.
fn llseek(call: &Call<'_>) -> Result<i32, Errno> {
    let file = call.file(0)?;
    call.image_of(3)?
        .memory
        .exact(call.raw(3), 8, Prot::WRITE)?;
    let position = seek(&file, call.offset(1), call.int(2))?;
    call.put(3, &position.to_le_bytes())?;
    Ok(0)
}

fn fsync(call: &Call<'_>) -> Result<i32, Errno> {
    rustix::fs::fsync(&*call.file(0)?)?;
    Ok(0)
}

fn fdatasync(call: &Call<'_>) -> Result<i32, Errno> {
    rustix::fs::fdatasync(&*call.file(0)?)?;
    Ok(0)
}

fn sync_file_range(call: &Call<'_>) -> Result<i32, Errno> {
    let file = call.file(0)?;
    // SAFETY: no memory is involved.
    answer(unsafe {
        libc::sync_file_range(
            file.as_raw_fd(),
            call.offset(1),
            call.offset(2),
            call.uint(3),
        )
    })
}

fn ftruncate(call: &Call<'_>) -> Result<i32, Errno> {
    let len = position(call, 1)?;
    rustix::fs::ftruncate(&*call.file(0)?, len as u64)?;
    Ok(0)
}

fn fallocate(call: &Call<'_>) -> Result<i32, Errno> {
    let file = call.file(0)?;
    // SAFETY: no memory is involved.
    answer(unsafe {
        libc::fallocate(
            file.as_raw_fd(),
            call.int(1),
            call.offset(2),
            call.offset(3),
        )
    })
}

fn fadvise(call: &Call<'_>) -> Result<i32, Errno> {
    let file = call.file(0)?;
    // SAFETY: no memory is involved.
    let code = unsafe {
        libc::posix_fadvise(
            file.as_raw_fd(),
            call.offset(1),
            call.offset(2),
            call.int(3),
        )
    };
    match code {
        0 => Ok(0),
        code => Err(Errno::from_raw_os_error(code)),
    }
}

/// Entries of a directory. The guest's `dirent64` is the kernel's.
fn getdents(call: &Call<'_>) -> Result<i32, Errno> {
    let file = call.file(0)?;
    let image = call.image_of(1)?;
    let len = u64::from(call.uint(2));
    let (base, reached) = match image.memory.prefix(call.raw(1), len, Prot::WRITE) {
        Ok(span) => (span.ptr() as usize, span.len()),
        Err(_) => (OUT_OF_REACH.0, OUT_OF_REACH.1.min(len as usize)),
    };
    // SAFETY: `reached` bytes at `base` are guest memory that `image` keeps mapped, or no memory.
    let result = unsafe { libc::syscall(libc::SYS_getdents64, file.as_raw_fd(), base, reached) };
    match moved(result as isize) {
        // No entry fits what can be reached, but one might fit what the guest meant.
        Err(Errno::INVAL) if (reached as u64) < len => Err(Errno::FAULT),
        other => other,
    }
}

/// On Lind -1 stands for what the kernel finds wrong with the descriptor.
fn getdents_strictly(call: &Call<'_>) -> Result<i32, Errno> {
    match getdents(call) {
        Err(errno) if call.rt.strict && !matches!(errno, Errno::BADF | Errno::FAULT) => {
            Err(Errno::PERM)
        }
        listed => listed,
    }
}

fn copy_file_range(call: &Call<'_>) -> Result<i32, Errno> {
    let (input, output) = (call.file(0)?, call.file(2)?);
    let offset = |index| match call.raw(index) {
        0 => Ok(None),
        _ => call.get(index).map(|bytes| Some(i64::from_le_bytes(bytes))),
    };
    let (mut from, mut to) = (offset(1)?, offset(3)?);
    let pointer = |offset: &mut Option<i64>| {
        offset
            .as_mut()
            .map_or(std::ptr::null_mut(), std::ptr::from_mut)
    };
    let len = call.raw(4).min(MAX_RW) as usize;
    // SAFETY: the offsets are null or in this frame.
    let count = moved(unsafe {
        libc::copy_file_range(
            input.as_raw_fd(),
            pointer(&mut from),
            output.as_raw_fd(),
            pointer(&mut to),
            len,
            call.uint(5),
        )
    })?;
    for (index, offset) in [(1, from), (3, to)] {
        if let Some(offset) = offset {
            call.put(index, &offset.to_le_bytes())?;
        }
    }
    Ok(count)
}

/// Whether a file may be mapped: a regular one, open for reading.
pub(super) fn check_mappable(file: &OwnedFd) -> Result<(), Errno> {
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

#[cfg(test)]
mod tests {
    use super::super::testing::{A, Fixture, MAPPED_END, Twins, UNMAPPED};
    use super::*;

    const RDWR_CREATE: A<'_> = A::I(0o102);
    const MODE: A<'_> = A::I(0o644);

    /// Descriptors 0: a file read and written, 1: only read, 2: only written, 3: a directory,
    /// 4: no more than a path.
    fn opened() -> Twins {
        let mut twins = Twins::new();
        let file = A::Path("/file");
        twins.descriptor(2, &[file, RDWR_CREATE, MODE]).unwrap();
        twins.descriptor(2, &[file, A::I(0)]).unwrap();
        twins.descriptor(2, &[file, A::I(1)]).unwrap();
        twins.descriptor(2, &[A::Path("/"), A::I(0)]).unwrap();
        twins.descriptor(2, &[file, A::I(0o10_000_000)]).unwrap();
        twins
    }

    #[test]
    fn bytes_come_back() {
        let twins = opened();
        let (file, ten) = (A::Fd(0), A::I(10));
        assert_eq!(twins.agree(1, &[file, A::In(b"0123456789"), ten]), Ok(10));
        assert_eq!(twins.agree(8, &[file, A::I(2), A::I(0)]), Ok(2));
        assert_eq!(twins.agree(0, &[file, A::Out(4), A::I(4)]), Ok(4));
        assert_eq!(twins.agree(0, &[file, A::Out(40), A::I(40)]), Ok(4));
        assert_eq!(twins.agree(0, &[file, A::Out(4), A::I(4)]), Ok(0));
        assert_eq!(twins.agree(17, &[file, A::Out(4), A::I(4), A::I(3)]), Ok(4));
        assert_eq!(
            twins.agree(18, &[file, A::In(b"xyz"), A::I(3), A::I(12)]),
            Ok(3)
        );
        let out = A::Vector(&[A::Out(3), A::Out(0), A::Out(20)]);
        assert_eq!(twins.agree(295, &[file, out, A::I(3), A::I(0)]), Ok(15));
        let parts = A::Vector(&[A::In(b"ab"), A::In(b""), A::In(b"cde")]);
        assert_eq!(twins.agree(296, &[file, parts, A::I(3), A::I(1)]), Ok(5));
        assert_eq!(twins.agree(8, &[file, A::I(-1), A::I(2)]), Ok(14));
        assert_eq!(twins.agree(20, &[file, parts, A::I(3)]), Ok(5));
        assert_eq!(twins.agree(8, &[file, A::I(0), A::I(0)]), Ok(0));
        assert_eq!(twins.agree(19, &[file, out, A::I(3)]), Ok(19));
        assert_eq!(twins.agree(20, &[file, parts, A::I(0)]), Ok(0));
        let read = std::fs::read(twins.cage.path("file")).unwrap();
        assert_eq!(read, b"0abcde6789\0\0xyabcde"[..read.len()]);
    }

    #[test]
    fn mistakes_are_told_as_the_kernel_tells_them() {
        let twins = opened();
        twins
            .agree(1, &[A::Fd(0), A::In(b"content"), A::I(7)])
            .unwrap();
        let buffer = A::Room(8);
        for fd in [
            A::Fd(0),
            A::Fd(1),
            A::Fd(2),
            A::Fd(3),
            A::Fd(4),
            A::I(999),
            A::I(-1),
        ] {
            for nr in [0, 1] {
                for len in [A::I(0), A::I(8), A::I(i64::MAX), A::I(i64::MIN), A::I(-1)] {
                    let _ = twins.agree(nr, &[fd, A::Nowhere, len]);
                }
                let _ = twins.agree(nr, &[fd, buffer, A::I(0)]);
                let _ = twins.agree(nr, &[fd, buffer, A::I(-1)]);
            }
            for nr in [17, 18] {
                for offset in [A::I(0), A::I(100), A::I(-1), A::I(i64::MIN)] {
                    let _ = twins.agree(nr, &[fd, A::Nowhere, A::I(8), offset]);
                }
                let _ = twins.agree(nr, &[fd, buffer, A::I(0), A::I(0)]);
            }
            for nr in [19, 20, 295, 296] {
                for count in [A::I(-1), A::I(0), A::I(1), A::I(1024), A::I(1025)] {
                    let _ = twins.agree(nr, &[fd, A::Nowhere, count, A::I(0)]);
                }
                let wild = A::Vector(&[A::Nowhere]);
                let _ = twins.agree(nr, &[fd, wild, A::I(1), A::I(0)]);
                let _ = twins.agree(nr, &[fd, wild, A::I(1), A::I(-1)]);
                let mut negative = [0; 16];
                negative[8..].copy_from_slice(&u64::MAX.to_le_bytes());
                let _ = twins.agree(nr, &[fd, A::In(&negative), A::I(1), A::I(0)]);
            }
            for (offset, whence) in [(-1, 0), (0, 9), (i64::MIN, 1), (3, -1)] {
                let _ = twins.agree(8, &[fd, A::I(offset), A::I(whence)]);
            }
            for nr in [74, 75] {
                let _ = twins.agree(nr, &[fd]);
            }
            let _ = twins.agree(77, &[fd, A::I(-1)]);
            let _ = twins.agree(77, &[fd, A::I(7)]);
            let _ = twins.agree(277, &[fd, A::I(0), A::I(0), A::I(0)]);
            let _ = twins.agree(277, &[fd, A::I(-1), A::I(0), A::I(0)]);
            let _ = twins.agree(277, &[fd, A::I(0), A::I(0), A::I(99)]);
            let _ = twins.agree(285, &[fd, A::I(0), A::I(0), A::I(0)]);
            let _ = twins.agree(285, &[fd, A::I(0), A::I(0), A::I(20)]);
            let _ = twins.agree(221, &[fd, A::I(0), A::I(0), A::I(0)]);
            let _ = twins.agree(221, &[fd, A::I(0), A::I(0), A::I(99)]);
            let _ = twins.agree(78, &[fd, A::Nowhere, A::I(1000)]);
            let _ = twins.agree(78, &[fd, A::Room(8), A::I(8)]);
            let _ = twins.agree(78, &[fd, A::Nowhere, A::I(8)]);
            let _ = twins.agree(78, &[fd, A::Nowhere, A::I(0)]);
        }
    }

    #[test]
    fn a_transfer_ends_where_the_buffer_does() {
        let twins = Fixture::new();
        let fd = twins.open("/file", 0o102);
        let edge = MAPPED_END - 6;
        twins.put(edge, b"abcdef");
        assert_eq!(twins.call(1, &[fd, edge, 100]), Ok(6));
        assert_eq!(twins.call(1, &[fd, edge, u64::from(u32::MAX)]), Ok(6));
        assert_eq!(twins.call(1, &[fd, UNMAPPED, 1]), Err(Errno::FAULT));
        for wild in [1 << 32, u64::MAX, u64::MAX - 3, 1 << 63, (1 << 32) - 1] {
            assert_eq!(twins.call(1, &[fd, wild, 8]), Err(Errno::FAULT));
            assert_eq!(twins.call(17, &[fd, wild, 8, 0]), Err(Errno::FAULT));
        }
        assert_eq!(std::fs::read(twins.path("file")).unwrap(), b"abcdefabcdef");
        twins.put(edge, &[0; 6]);
        assert_eq!(twins.call(17, &[fd, edge, 100, 2]), Ok(6));
        assert_eq!(twins.get(edge, 6), b"cdefab");
    }

    #[test]
    fn a_position_that_an_int_cannot_hold_is_reached_and_not_told() {
        let cage = Fixture::new();
        let fd = cage.open("/file", 0o102);
        let far = 5_000_000_000u64;
        for (offset, whence, place) in [(far, 0, far), (far, 1, 2 * far), (1 << 31, 0, 1 << 31)] {
            assert_eq!(cage.call(8, &[fd, offset, whence]), Err(Errno::OVERFLOW));
            assert_eq!(cage.call(1100, &[fd, 0, 1, 0x2000]), Ok(0));
            assert_eq!(cage.get(0x2000, 8), place.to_le_bytes());
        }
        assert_eq!(cage.call(8, &[fd, u64::MAX, 0]), Err(Errno::INVAL));
        assert_eq!(cage.call(8, &[fd, (1 << 31) - 1, 0]), Ok(i32::MAX));
        assert_eq!(cage.call(1100, &[fd, far, 0, 0x2000]), Ok(0));
        assert_eq!(cage.get(0x2000, 8), far.to_le_bytes());
        assert_eq!(cage.call(8, &[fd, 0, 1]), Err(Errno::OVERFLOW));
        assert_eq!(cage.call(1100, &[fd, 0, 0, UNMAPPED]), Err(Errno::FAULT));
        assert_eq!(
            cage.call(1100, &[fd, 3u64.wrapping_neg(), 1, 0x2000]),
            Ok(0)
        );
        assert_eq!(cage.get(0x2000, 8), (far - 3).to_le_bytes());
        assert_eq!(cage.call(1100, &[99, 0, 0, UNMAPPED]), Err(Errno::BADF));
    }

    #[test]
    fn lengths_that_sum_beyond_an_offset_are_refused() {
        let cage = Fixture::new();
        let fd = cage.open("/file", 0o102);
        let mut entries = Vec::new();
        for _ in 0..4 {
            entries.extend_from_slice(&0x3000u64.to_le_bytes());
            entries.extend_from_slice(&(1u64 << 62).to_le_bytes());
        }
        cage.put(0x2000, &entries);
        for nr in [19, 20, 295, 296] {
            assert_eq!(
                cage.call(nr, &[fd, 0x2000, 4, 0]),
                Err(Errno::INVAL),
                "{nr}"
            );
        }
    }

    #[test]
    fn ranges_are_copied_between_files() {
        let mut twins = opened();
        twins
            .agree(1, &[A::Fd(0), A::In(b"0123456789"), A::I(10)])
            .unwrap();
        twins
            .descriptor(2, &[A::Path("/copy"), RDWR_CREATE, MODE])
            .unwrap();
        let (from, to, no) = (A::Fd(0), A::Fd(5), A::I(0));
        let at = 2i64.to_le_bytes();
        let copy = |args: [A<'_>; 6]| twins.agree(326, &args);
        assert_eq!(copy([from, A::In(&at), to, no, A::I(5), no]), Ok(5));
        assert_eq!(
            copy([from, A::In(&at), to, A::In(&at), A::I(50), no]),
            Ok(8)
        );
        assert_eq!(copy([from, no, to, no, A::I(50), no]), Ok(0));
        assert_eq!(
            std::fs::read(twins.cage.path("copy")).unwrap(),
            b"2323456789"
        );
        for bad in [
            [from, A::Nowhere, to, no, A::I(5), no],
            [from, A::In(&at), to, no, A::I(5), A::I(1)],
            [A::I(99), A::Nowhere, to, no, A::I(5), no],
            [from, A::In(&at), A::Fd(1), no, A::I(5), no],
            [from, A::In(&at), A::Fd(3), no, A::I(5), no],
            [from, A::In(&(-1i64).to_le_bytes()), to, no, A::I(5), no],
        ] {
            assert!(copy(bad).is_err());
        }
    }

    #[test]
    fn a_directory_lists_its_names() {
        let cage = Fixture::new();
        for name in ["one", "two", "three"] {
            std::fs::write(cage.path(name), "").unwrap();
        }
        let fd = cage.open("/", 0o200_000);
        let mut names = Vec::new();
        loop {
            let len = cage.call(78, &[fd, 0x4000, 100]).unwrap() as usize;
            if len == 0 {
                break;
            }
            let bytes = cage.get(0x4000, len);
            let mut rest = bytes.as_slice();
            while let [_, ..] = rest {
                let size = usize::from(u16::from_le_bytes([rest[16], rest[17]]));
                let name = rest[19..size].split(|&byte| byte == 0).next().unwrap();
                names.push(String::from_utf8(name.to_vec()).unwrap());
                rest = &rest[size..];
            }
        }
        names.sort();
        assert_eq!(names, [".", "..", "one", "three", "two"]);
        assert_eq!(cage.call(8, &[fd, 0, 0]), Ok(0));
        assert_eq!(cage.call(78, &[fd, MAPPED_END - 4, 100]), Err(Errno::FAULT));
    }
}
