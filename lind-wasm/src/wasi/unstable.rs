//! Where `wasi_unstable`, the preview before preview 1, has other numbers or layouts: the order of
//! `whence`, a `filestat` with links in four bytes, and a subscription to a clock that has a field
//! more. All other functions are those of preview 1.

use super::abi::{Errno, Outcome};
use super::context::Context;
use super::{files, paths, poll};

/// Bytes of a subscription.
const SUBSCRIPTION: u32 = 56;

/// [`files::fd_seek`].
pub fn fd_seek(
    cx: &mut Context<'_>,
    fd: u32,
    offset: i64,
    whence: u32,
    position: u32,
) -> Outcome<()> {
    // From the position, the end and the start, as the kernel has them.
    const WHENCE: [u32; 3] = [1, 2, 0];
    let whence = WHENCE.get(whence as usize).ok_or(Errno::INVAL)?;
    files::fd_seek(cx, fd, offset, *whence, position)
}

/// [`files::fd_filestat_get`].
pub fn fd_filestat_get(cx: &mut Context<'_>, fd: u32, stat: u32) -> Outcome<()> {
    let fd = cx.fd(fd)?;
    let found = cx.stat(fd)?;
    cx.put(stat, &found.filestat_unstable())
}

/// [`paths::path_filestat_get`].
pub fn path_filestat_get(
    cx: &mut Context<'_>,
    fd: u32,
    lookup: u32,
    path: u32,
    len: u32,
    stat: u32,
) -> Outcome<()> {
    let found = paths::stat(cx, fd, lookup, path, len)?;
    cx.put(stat, &found.filestat_unstable())
}

/// [`poll::poll_oneoff`].
pub fn poll_oneoff(
    cx: &mut Context<'_>,
    subscriptions: u32,
    events: u32,
    count: u32,
    stored: u32,
) -> Outcome<()> {
    poll::check_count(count)?;
    let wanted = cx.bytes(subscriptions, count * SUBSCRIPTION)?;
    let wanted: Vec<u8> = wanted
        .chunks_exact(SUBSCRIPTION as usize)
        .flat_map(as_of_preview_1)
        .collect();
    poll::wait_for(cx, &wanted, events, stored)
}

/// A subscription in the layout of preview 1: a clock's without the identifier before its number.
fn as_of_preview_1(bytes: &[u8]) -> [u8; poll::SUBSCRIPTION as usize] {
    let is_clock = bytes[8] == 0;
    let mut out = [0; poll::SUBSCRIPTION as usize];
    out[..16].copy_from_slice(&bytes[..16]);
    out[16..].copy_from_slice(&bytes[if is_clock { 24..56 } else { 16..48 }]);
    out
}
