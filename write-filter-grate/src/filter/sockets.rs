//! How descriptors that are not files come to be: pipes and sockets.

use super::filter;
use super::peers;
use super::redaction::Way;
use grate_rs::constants::net;
use grate_rs::kernel::pass;
use grate_rs::{CageFd, Call, Errno, own_buffer};

/// Notes a new descriptor, if anything is redacted.
fn note(cage: u64, fd: i32) {
    let (fd, filter) = (CageFd { cage, fd }, filter());
    if filter.redaction.is_some()
        && let Ok(stat) = fd.stat()
    {
        filter.known.note(fd, filter.outlet(fd, &stat, None));
    }
}

/// The numbers of two descriptors, as a call stores them.
fn pair(bytes: [u8; 8]) -> [i32; 2] {
    let [a, b, c, d, e, f, g, h] = bytes;
    [[a, b, c, d], [e, f, g, h]].map(i32::from_le_bytes)
}

/// Gives the program the descriptors that the grate was given for it.
fn give(call: &Call, place: usize, cage: u64, bytes: [u8; 8]) -> Result<(), Errno> {
    call.place(place).write(&bytes).inspect_err(|_| {
        for fd in pair(bytes) {
            filter().known.note(CageFd { cage, fd }, None);
            CageFd { cage, fd }.close();
        }
    })
}

/// pipe: where the descriptors go. pipe2: the same, and flags.
pub fn pipe(call: &Call) -> Result<i32, Errno> {
    let cage = call.cage_of(0);
    // Not as they stand in the program's memory, where others may change them.
    let (result, bytes) = call.forward_into::<8>(cage, 0)?;
    // The end that is read shares the other's inode, and must not count as a way out that is
    // still open.
    note(cage, pair(bytes)[1]);
    give(call, 0, cage, bytes)?;
    Ok(result)
}

/// socket: domain, type, protocol.
pub fn socket(call: &Call) -> Result<i32, Errno> {
    let fd = pass(call, 0)?;
    note(call.cage_of(0), fd);
    Ok(fd)
}

/// socketpair: domain, type, protocol, where the descriptors go.
pub fn socketpair(call: &Call) -> Result<i32, Errno> {
    let cage = call.cage_of(0);
    let mut bytes = [0; 8];
    let mut args = call.args();
    args[3] = own_buffer(bytes.as_mut_ptr());
    // Lind adds the base to this address of another cage by itself.
    args[3].value -= cage_libc::sys::base();
    let result = call.forward_with(cage, &args)?;
    for fd in pair(bytes) {
        note(cage, fd);
    }
    give(call, 3, cage, bytes)?;
    Ok(result)
}

/// accept: descriptor, where the address goes, where its length is. accept4: the same, and flags.
pub fn accept(call: &Call) -> Result<i32, Errno> {
    let fd = pass(call, 0)?;
    note(call.cage_of(0), fd);
    Ok(fd)
}

/// shutdown: descriptor, which directions. Nothing can be sent after it, so what is held goes out
/// before: where it will not fail, for a program could write the other half of a secret then.
pub fn shutdown(call: &Call) -> Result<i32, Errno> {
    let fd = CageFd::of(call, 0);
    let held = filter().known.hold(fd)?;
    let way = held.what().and_then(|known| known.way.as_ref());
    match (way, call.int(1)) {
        (Some(Way::Out(outlet)), net::SHUT_WR | net::SHUT_RDWR) if peers::is_connected(fd) => {
            outlet.end(fd, || pass(call, 0))
        }
        _ => pass(call, 0),
    }
}
