//! Sockets: none can be made by a WASI program, and none that it inherits is served.

use super::abi::{Errno, FileType, Outcome};
use super::context::Context;

/// `EBADF` and `ENOTSOCK` where they are due, else `ENOTSUP`.
fn refuse(cx: &mut Context<'_>, fd: u32) -> Outcome<()> {
    let fd = cx.fd(fd)?;
    Err(match cx.stat(fd)?.file_type() {
        FileType::Socket => Errno::NOTSUP,
        _ => Errno::NOTSOCK,
    }
    .into())
}

/// Accepts a connection.
pub fn sock_accept(cx: &mut Context<'_>, fd: u32, _flags: u32, _accepted: u32) -> Outcome<()> {
    refuse(cx, fd)
}

/// Receives a message.
pub fn sock_recv(
    cx: &mut Context<'_>,
    fd: u32,
    _iovs: u32,
    _count: u32,
    _flags: u32,
    _done: u32,
    _out_flags: u32,
) -> Outcome<()> {
    refuse(cx, fd)
}

/// Sends a message.
pub fn sock_send(
    cx: &mut Context<'_>,
    fd: u32,
    _iovs: u32,
    _count: u32,
    _flags: u32,
    _done: u32,
) -> Outcome<()> {
    refuse(cx, fd)
}

/// Shuts a connection down.
pub fn sock_shutdown(cx: &mut Context<'_>, fd: u32, _how: u32) -> Outcome<()> {
    refuse(cx, fd)
}
