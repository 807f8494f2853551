//! Descriptors: making, copying and closing them, and their flags and locks.

use super::io::{answer, last_error};
use super::{Call, Entry, abi};
use crate::cage::Cage;
use crate::fds::MAX_FDS;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::Arc;

pub(super) const CALLS: &[Entry] = &[
    Entry::new(3, "close", 1, close),
    Entry::new(16, "ioctl", 3, ioctl),
    Entry::new(22, "pipe", 1, |call| make_pipe(call, 0)),
    Entry::new(32, "dup", 1, dup),
    Entry::new(33, "dup2", 2, dup2),
    Entry::new(72, "fcntl", 4, fcntl),
    Entry::new(73, "flock", 2, flock),
    Entry::new(292, "dup3", 3, dup3),
    Entry::new(293, "pipe2", 2, |call| make_pipe(call, call.uint(1))),
];

const O_CLOEXEC: u32 = 0o2_000_000;
const FD_CLOEXEC: i32 = 1;

/// Whether a cage can have another descriptor.
///
/// # Errors
/// `EMFILE` when it has all that it can have.
pub(super) fn check_room(cage: &Cage) -> Result<(), Errno> {
    let fds = cage.fds();
    if (0..MAX_FDS as i32).any(|fd| fds.get(fd).is_err()) {
        Ok(())
    } else {
        Err(Errno::MFILE)
    }
}

fn close(call: &Call<'_>) -> Result<i32, Errno> {
    let descriptor = call.target.fds().remove(call.int(0))?;
    // The last one to close hears of writes that failed late.
    if let Some(file) = Arc::into_inner(descriptor.file) {
        // SAFETY: the descriptor was owned by `file` alone, and is used no more.
        answer(unsafe { libc::close(file.into_raw_fd()) })?;
    }
    Ok(0)
}

fn dup(call: &Call<'_>) -> Result<i32, Errno> {
    let mut fds = call.target.fds();
    let file = fds.get(call.int(0))?.file.clone();
    fds.insert(0, file, false)
}

/// Puts the file of `old` at `new`. What was there is closed after the table is unlocked, as a
/// close can take its time.
fn put_at(call: &Call<'_>, old: i32, new: i32, cloexec: bool) -> Result<i32, Errno> {
    let mut fds = call.target.fds();
    let file = fds.get(old)?.file.clone();
    let before = fds.set(new, file, cloexec)?;
    drop(fds);
    drop(before);
    Ok(new)
}

fn dup2(call: &Call<'_>) -> Result<i32, Errno> {
    let (old, new) = (call.int(0), call.int(1));
    if old == new {
        call.target.fds().get(old)?;
        return Ok(new);
    }
    put_at(call, old, new, false)
}

fn dup3(call: &Call<'_>) -> Result<i32, Errno> {
    let (old, new, flags) = (call.int(0), call.int(1), call.uint(2));
    if flags & !O_CLOEXEC != 0 || old == new {
        return Err(Errno::INVAL);
    }
    put_at(call, old, new, flags & O_CLOEXEC != 0)
}

fn make_pipe(call: &Call<'_>, flags: u32) -> Result<i32, Errno> {
    let known = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK | PipeFlags::DIRECT;
    let flags = PipeFlags::from_bits(flags)
        .filter(|&flags| known.contains(flags))
        .ok_or(Errno::INVAL)?;
    let cloexec = flags.contains(PipeFlags::CLOEXEC);
    let (input, output) = rustix::pipe::pipe_with(flags | PipeFlags::CLOEXEC)?;
    let (read, write) = {
        let mut fds = call.target.fds();
        let read = fds.insert(0, Arc::new(input), cloexec)?;
        let write = fds
            .insert(0, Arc::new(output), cloexec)
            .inspect_err(|_| drop(fds.remove(read)))?;
        (read, write)
    };
    let mut pair = [0; 8];
    let (first, second) = pair.split_at_mut(4);
    first.copy_from_slice(&read.to_le_bytes());
    second.copy_from_slice(&write.to_le_bytes());
    call.put(0, &pair).inspect_err(|_| {
        let mut fds = call.target.fds();
        let _ = fds.remove(read);
        let _ = fds.remove(write);
    })?;
    Ok(0)
}

/// An `int` argument comes third, an address fourth.
fn fcntl(call: &Call<'_>) -> Result<i32, Errno> {
    let (fd, number) = (call.int(0), call.int(2));
    let file = call.target_file(0)?;
    match call.int(1) {
        command @ (libc::F_DUPFD | libc::F_DUPFD_CLOEXEC) => {
            let cloexec = command == libc::F_DUPFD_CLOEXEC;
            call.target.fds().insert(number, file, cloexec)
        }
        libc::F_GETFD => {
            let cloexec = call.target.fds().get(fd)?.cloexec;
            Ok(if cloexec { FD_CLOEXEC } else { 0 })
        }
        libc::F_SETFD => set_cloexec(call, number & FD_CLOEXEC != 0),
        // SAFETY: no memory is involved.
        libc::F_GETFL => answer(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) }),
        libc::F_SETFL => {
            // SAFETY: no memory is involved.
            answer(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, number) })
        }
        libc::F_GETLK => lock(call, &file, libc::F_OFD_GETLK),
        libc::F_SETLK => lock(call, &file, libc::F_OFD_SETLK),
        libc::F_SETLKW => lock(call, &file, libc::F_OFD_SETLKW),
        _ => Err(Errno::INVAL),
    }
}

fn set_cloexec(call: &Call<'_>, cloexec: bool) -> Result<i32, Errno> {
    call.target.fds().get_mut(call.int(0))?.cloexec = cloexec;
    Ok(0)
}

/// Record locks. Linux gives them to processes, and all cages are one process of the host: taken
/// as they come, two cages could lock the same bytes, and a close in one would unlock another's.
/// So they become locks of the open file description, which conflict between cages. Unlike true
/// ones they are shared with a forked child, and kept when another descriptor of the same file is
/// closed.
fn lock(call: &Call<'_>, file: &OwnedFd, command: i32) -> Result<i32, Errno> {
    let mut lock = abi::flock(&call.get(3)?);
    // SAFETY: the lock is in this frame.
    answer(unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) })?;
    if command == libc::F_OFD_GETLK {
        call.put(3, &abi::flock_bytes(&lock))?;
    }
    Ok(0)
}

fn flock(call: &Call<'_>) -> Result<i32, Errno> {
    let file = call.file(0)?;
    // SAFETY: no memory is involved.
    answer(unsafe { libc::flock(file.as_raw_fd(), call.int(1)) })
}

/// Only requests that do no more than the cage's own calls could, or tell of the terminal.
fn ioctl(call: &Call<'_>) -> Result<i32, Errno> {
    /// `struct winsize`.
    const WINDOW_SIZE: usize = 8;
    /// `struct termios` of the kernel.
    const TERMINAL: usize = 36;
    let file = call.target_file(0)?;
    match u64::from(call.uint(1)) {
        libc::FIOCLEX => set_cloexec(call, true),
        libc::FIONCLEX => set_cloexec(call, false),
        libc::FIONBIO => {
            let mut flag: [u8; 4] = call.get(2)?;
            request(&file, libc::FIONBIO, &mut flag)
        }
        libc::FIONREAD => tell::<4>(call, &file, libc::FIONREAD),
        libc::TIOCGWINSZ => tell::<WINDOW_SIZE>(call, &file, libc::TIOCGWINSZ),
        libc::TCGETS => tell::<TERMINAL>(call, &file, libc::TCGETS),
        _ => Err(Errno::NOTTY),
    }
}

/// A request that fills `N` bytes.
fn tell<const N: usize>(call: &Call<'_>, file: &OwnedFd, code: u64) -> Result<i32, Errno> {
    let mut bytes = [0; N];
    request(file, code, &mut bytes)?;
    call.put(2, &bytes)?;
    Ok(0)
}

fn request<const N: usize>(file: &OwnedFd, code: u64, bytes: &mut [u8; N]) -> Result<i32, Errno> {
    /// No request here moves more.
    const ROOM: usize = 64;
    const { assert!(N <= ROOM) }
    let mut room = [0u64; ROOM / 8];
    let place = room.as_mut_ptr().cast::<u8>();
    // SAFETY: `room` holds `N` bytes and more than any of the requests reads or writes; it does
    // not overlap `bytes`.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, N);
        if libc::ioctl(file.as_raw_fd(), code, place) < 0 {
            return Err(last_error());
        }
        std::ptr::copy_nonoverlapping(place, bytes.as_mut_ptr(), N);
    }
    Ok(0)
}
