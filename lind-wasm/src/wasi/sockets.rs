//! Sockets: those that the program inherits, as WASI has no way to make one.

use super::abi::{Errno, Outcome, fdflags, linux, nr, u32_at};
use super::context::Context;
use super::files::buffers;

/// Bytes of the kernel's `struct msghdr`, and where it has the buffers and the flags that come
/// back.
const MSGHDR: usize = 56;
const MSGHDR_BUFFERS: usize = 16;
const MSGHDR_COUNT: usize = 24;
const MSGHDR_FLAGS: usize = 48;

/// Flags of `sock_recv`, in and out.
const RECV_PEEK: u32 = 1;
const RECV_WAITALL: u32 = 2;
const RECV_DATA_TRUNCATED: u16 = 1;

/// Accepts a connection. Of the flags only `nonblock` means something to a socket.
pub fn sock_accept(cx: &mut Context<'_>, fd: u32, flags: u32, accepted: u32) -> Outcome<()> {
    let own = cx.fd(fd)?;
    cx.check(accepted, 4)?;
    let flags = match flags {
        0 => 0,
        fdflags::NONBLOCK => linux::SOCK_NONBLOCK,
        _ => return Err(Errno::INVAL.into()),
    };
    let connection = cx.call(nr::ACCEPT4, [own, 0, 0, flags])?;
    let connection = cx.new_fd(connection);
    cx.put(accepted, &connection.to_le_bytes())
}

/// A `struct msghdr` in scratch space over the program's buffers.
fn stage_header(cx: &mut Context<'_>, iovs: u32, count: u32) -> Outcome<u64> {
    let buffers = buffers(cx, iovs, count)?;
    let array: Vec<u8> = buffers
        .iter()
        .flat_map(|&(at, len)| [u64::from(at), u64::from(len)])
        .flat_map(u64::to_le_bytes)
        .collect();
    let array = cx.stage(&array)?;
    let mut header = [0; MSGHDR];
    header[MSGHDR_BUFFERS..][..8].copy_from_slice(&array.to_le_bytes());
    header[MSGHDR_COUNT..][..8].copy_from_slice(&(buffers.len() as u64).to_le_bytes());
    cx.stage(&header)
}

/// Receives a message.
pub fn sock_recv(
    cx: &mut Context<'_>,
    fd: u32,
    iovs: u32,
    count: u32,
    flags: u32,
    done: u32,
    out_flags: u32,
) -> Outcome<()> {
    let own = cx.fd(fd)?;
    if flags & !(RECV_PEEK | RECV_WAITALL) != 0 {
        return Err(Errno::INVAL.into());
    }
    let header = stage_header(cx, iovs, count)?;
    cx.check(done, 4)?;
    cx.check(out_flags, 2)?;
    let mut wanted = 0;
    if flags & RECV_PEEK != 0 {
        wanted |= linux::MSG_PEEK;
    }
    if flags & RECV_WAITALL != 0 {
        wanted |= linux::MSG_WAITALL;
    }
    let received = cx.call(nr::RECVMSG, [own, header, wanted])?;
    let found = u32_at(&cx.staged::<MSGHDR>(header)?, MSGHDR_FLAGS);
    let is_cut = u64::from(found) & linux::MSG_TRUNC != 0;
    let found = if is_cut { RECV_DATA_TRUNCATED } else { 0 };
    cx.put(done, &received.to_le_bytes())?;
    cx.put(out_flags, &found.to_le_bytes())
}

/// Sends a message. There are no flags.
pub fn sock_send(
    cx: &mut Context<'_>,
    fd: u32,
    iovs: u32,
    count: u32,
    flags: u32,
    done: u32,
) -> Outcome<()> {
    let own = cx.fd(fd)?;
    if flags != 0 {
        return Err(Errno::INVAL.into());
    }
    let header = stage_header(cx, iovs, count)?;
    cx.check(done, 4)?;
    let sent = cx.call(nr::SENDMSG, [own, header, linux::MSG_NOSIGNAL])?;
    cx.put(done, &sent.to_le_bytes())
}

/// Shuts a connection down, in one direction or both.
pub fn sock_shutdown(cx: &mut Context<'_>, fd: u32, how: u32) -> Outcome<()> {
    /// WASI has a bit for receiving and one for sending; Linux numbers the sets of them from 0.
    const BOTH: u32 = 3;
    let own = cx.fd(fd)?;
    if !(1..=BOTH).contains(&how) {
        return Err(Errno::INVAL.into());
    }
    cx.call(nr::SHUTDOWN, [own, u64::from(how - 1)]).map(drop)
}
