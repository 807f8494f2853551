//! How descriptors that are not files come to be: pipes and sockets.

use super::filter;
use super::redaction::Way;
use grate_rs::constants::{fs, net};
use grate_rs::kernel::pass;
use grate_rs::{CageFd, Call, Errno};

/// Notes a new descriptor, if anything is redacted.
fn note(cage: u64, fd: i32, cloexec: bool) {
    let fd = CageFd { cage, fd };
    if filter().redaction.is_some()
        && let Ok(stat) = fd.stat()
    {
        filter().note_outlet(fd, &stat, None, cloexec);
    }
}

/// Notes both descriptors that a call has stored.
fn note_pair(call: &Call, place: usize, cage: u64, cloexec: bool) -> Result<(), Errno> {
    let pair: [u8; 8] = call.pointer(place).read()?;
    let fd = |at: usize| i32::from_le_bytes([pair[at], pair[at + 1], pair[at + 2], pair[at + 3]]);
    note(cage, fd(0), cloexec);
    note(cage, fd(4), cloexec);
    Ok(())
}

/// pipe: where the descriptors go.
pub fn pipe(call: &Call) -> Result<i32, Errno> {
    let result = pass(call, 0)?;
    note_pipe(call, call.cage_of(0), false)?;
    Ok(result)
}

/// pipe2: where the descriptors go, flags.
pub fn pipe2(call: &Call) -> Result<i32, Errno> {
    let result = pass(call, 1)?;
    note_pipe(call, call.cage_of(1), call.int(1) & fs::O_CLOEXEC != 0)?;
    Ok(result)
}

/// Notes the end of a pipe that is written to. The other shares its inode, and must not count as
/// a way out that is still open.
fn note_pipe(call: &Call, cage: u64, cloexec: bool) -> Result<(), Errno> {
    let end: [u8; 4] = call.pointer(0).add(4).read()?;
    note(cage, i32::from_le_bytes(end), cloexec);
    Ok(())
}

/// socket: domain, type, protocol.
pub fn socket(call: &Call) -> Result<i32, Errno> {
    let fd = pass(call, 0)?;
    note(call.cage_of(0), fd, call.int(1) & fs::O_CLOEXEC != 0);
    Ok(fd)
}

/// socketpair: domain, type, protocol, where the descriptors go.
pub fn socketpair(call: &Call) -> Result<i32, Errno> {
    let result = pass(call, 0)?;
    note_pair(call, 3, call.cage_of(0), call.int(1) & fs::O_CLOEXEC != 0)?;
    Ok(result)
}

/// accept: descriptor, where the address goes, where its length is.
pub fn accept(call: &Call) -> Result<i32, Errno> {
    let fd = pass(call, 0)?;
    note(call.cage_of(0), fd, false);
    Ok(fd)
}

/// accept4: as accept, with flags.
pub fn accept4(call: &Call) -> Result<i32, Errno> {
    let fd = pass(call, 0)?;
    note(call.cage_of(0), fd, call.int(3) & fs::O_CLOEXEC != 0);
    Ok(fd)
}

/// shutdown: descriptor, which directions. Nothing can be sent after it, so what is held goes out
/// before.
pub fn shutdown(call: &Call) -> Result<i32, Errno> {
    let fd = CageFd::of(call, 0);
    let way = filter().known.get(fd).and_then(|known| known.way);
    if let (Some(Way::Out(outlet)), net::SHUT_WR | net::SHUT_RDWR) = (way, call.int(1)) {
        outlet.finish(fd);
    }
    pass(call, 0)
}
