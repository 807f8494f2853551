//! How descriptors are copied, closed and handed on.

use super::descriptors::CageFd;
use super::filter;
use super::kernel::pass;
use grate_rs::constants::fs;
use grate_rs::{Call, Errno, is_thread_clone};

/// close: descriptor.
pub fn close(call: &Call) -> Result<i32, Errno> {
    // Before the number can be given to another file.
    filter().permitted.revoke(CageFd::argument(call, 0));
    pass(call, 0)
}

/// Passes on a call that makes a copy of its first argument and answers the copy's number.
fn copied(call: &Call, cloexec: bool) -> Result<i32, Errno> {
    let fd = pass(call, 0)?;
    let from = CageFd::argument(call, 0);
    if fd != from.fd {
        filter()
            .permitted
            .copy(from, CageFd { fd, ..from }, cloexec);
    }
    Ok(fd)
}

/// dup: descriptor.
pub fn dup(call: &Call) -> Result<i32, Errno> {
    copied(call, false)
}

/// dup2: descriptor, the number of the copy.
pub fn dup2(call: &Call) -> Result<i32, Errno> {
    copied(call, false)
}

/// dup3: descriptor, the number of the copy, flags.
pub fn dup3(call: &Call) -> Result<i32, Errno> {
    copied(call, call.int(2) & fs::O_CLOEXEC != 0)
}

/// fcntl: descriptor, command, number.
pub fn fcntl(call: &Call) -> Result<i32, Errno> {
    match call.int(1) {
        command @ (fs::F_DUPFD | fs::F_DUPFD_CLOEXEC) => {
            copied(call, command == fs::F_DUPFD_CLOEXEC)
        }
        fs::F_SETFD => {
            let result = pass(call, 0)?;
            let cloexec = call.int(2) & fs::FD_CLOEXEC != 0;
            filter()
                .permitted
                .set_cloexec(CageFd::argument(call, 0), cloexec);
            Ok(result)
        }
        _ => pass(call, 0),
    }
}

/// ioctl: descriptor, request, argument. Two requests are another F_SETFD.
pub fn ioctl(call: &Call) -> Result<i32, Errno> {
    let result = pass(call, 0)?;
    if let request @ (fs::FIOCLEX | fs::FIONCLEX) = call.size(1) {
        filter()
            .permitted
            .set_cloexec(CageFd::argument(call, 0), request == fs::FIOCLEX);
    }
    Ok(result)
}

/// clone: a fork's child has its parent's descriptors.
pub fn clone(call: &Call) -> Result<i32, Errno> {
    let parent = call.cage_of(0);
    let arguments = call.pointer(0);
    let is_thread = !arguments.is_null() && is_thread_clone(arguments.addr, arguments.cage);
    let child = call.forward(parent)?;
    if child > 0 && !is_thread {
        filter().permitted.fork(parent, child as u64);
    }
    Ok(child)
}

/// execve: descriptors marked so are closed.
pub fn execve(call: &Call) -> Result<i32, Errno> {
    let cage = call.cage_of(0);
    let result = call.forward(cage)?;
    filter().permitted.exec(cage);
    Ok(result)
}

/// exit_group: status. (exit, 60, ends a thread, which has its descriptors with others.)
pub fn exit_group(call: &Call) -> Result<i32, Errno> {
    let cage = call.cage_of(0);
    filter().permitted.exit(cage);
    call.forward(cage)
}

/// waitpid: a child that was killed went past [`exit_group`].
pub fn waitpid(call: &Call) -> Result<i32, Errno> {
    let child = pass(call, 0)?;
    if child > 0 {
        filter().permitted.exit(child as u64);
    }
    Ok(child)
}
