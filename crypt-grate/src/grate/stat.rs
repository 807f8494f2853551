//! The stat calls: sizes are those of the plaintext.

use super::kernel::{File, SIZE_AT, STAT_LEN, Stat, pass};
use super::open::PathArg;
use super::state;
use super::state::{State, lock};
use crypt_grate::sealed_file::{Content, SealedFile};
use grate_rs::constants::fs;
use grate_rs::{CageFd, Call, Errno, own_buffer};

/// fstat: descriptor, buffer.
pub fn fstat(call: &Call) -> Result<i32, Errno> {
    by_descriptor(call, CageFd::of(call, 0), 1)
}

fn by_descriptor(call: &Call, fd: CageFd, buffer: usize) -> Result<i32, Errno> {
    let state = state();
    let Some(open) = state.open_file(fd) else {
        return pass(call, 0);
    };
    let (result, mut bytes) = into_own_buffer::<STAT_LEN>(call, buffer, fd.cage)?;
    // A damaged file keeps its physical size: the error belongs to reading it.
    if let Ok(size) = lock(&open.file).len(&open.storage(fd), state.keys()) {
        put_size(&mut bytes, size);
    }
    call.pointer(buffer).write(&bytes)?;
    Ok(result)
}

/// stat: path, buffer.
pub fn stat(call: &Call) -> Result<i32, Errno> {
    by_path(call, PathArg::plain(call, 0), 1, call.cage_of(0), true)
}

/// lstat: path, buffer.
pub fn lstat(call: &Call) -> Result<i32, Errno> {
    by_path(call, PathArg::plain(call, 0), 1, call.cage_of(0), false)
}

/// newfstatat: directory, path, buffer, flags.
pub fn newfstatat(call: &Call) -> Result<i32, Errno> {
    let follow = call.int(3) & fs::AT_SYMLINK_NOFOLLOW == 0;
    let path = PathArg::at(call, 1);
    if call.int(3) & fs::AT_EMPTY_PATH != 0 && call.pointer(1).read::<1>() == Ok([0]) {
        let fd = CageFd::of(call, 0);
        if state().open_file(fd).is_some() {
            return by_descriptor(call, fd, 2);
        }
        return pass(call, 3);
    }
    by_path(call, path, 2, call.cage_of(3), follow)
}

/// statx: directory, path, flags, what is wanted, buffer.
pub fn statx(call: &Call) -> Result<i32, Errno> {
    const STATX_LEN: usize = 256;
    const BUFFER: usize = 4;
    let (flags, caller) = (call.int(2), call.cage_of(2));
    let state = state();
    let by_descriptor = flags & fs::AT_EMPTY_PATH != 0 && call.pointer(1).read::<1>() == Ok([0]);
    let size = if by_descriptor {
        let fd = CageFd::of(call, 0);
        let Some(open) = state.open_file(fd) else {
            return pass(call, 2);
        };
        lock(&open.file).len(&open.storage(fd), state.keys()).ok()
    } else {
        let path = PathArg::at(call, 1);
        let follow = flags & fs::AT_SYMLINK_NOFOLLOW == 0;
        // A name that can't be looked up is the call's own to complain about.
        match path.stat(caller, follow) {
            Ok(stat) => shown_size(state, path, stat, caller, follow)?,
            Err(_) => None,
        }
    };
    let (result, mut bytes) = into_own_buffer::<STATX_LEN>(call, BUFFER, caller)?;
    if let Some(size) = size {
        put_size(&mut bytes, size);
    }
    call.pointer(BUFFER).write(&bytes)?;
    Ok(result)
}

/// Makes the call with a buffer of the grate in place of argument `index`.
fn into_own_buffer<const N: usize>(
    call: &Call,
    index: usize,
    caller: u64,
) -> Result<(i32, [u8; N]), Errno> {
    let mut bytes = [0; N];
    let mut args = *call.args();
    args[index] = own_buffer(bytes.as_mut_ptr());
    let result = call.forward_with(caller, &args)?;
    Ok((result, bytes))
}

fn by_path(
    call: &Call,
    path: PathArg,
    buffer: usize,
    caller: u64,
    follow: bool,
) -> Result<i32, Errno> {
    let state = state();
    let (result, mut bytes) = into_own_buffer::<STAT_LEN>(call, buffer, caller)?;
    let stat = Stat::from_bytes(&bytes);
    if let Some(size) = shown_size(state, path, stat, caller, follow)? {
        put_size(&mut bytes, size);
    }
    call.pointer(buffer).write(&bytes)?;
    Ok(result)
}

/// The size to show of what a path names; `None` where it is the one below.
fn shown_size(
    state: &State,
    path: PathArg,
    stat: Stat,
    caller: u64,
    follow: bool,
) -> Result<Option<u64>, Errno> {
    state.check_key(stat.inode())?;
    if !stat.is_regular() || stat.size == 0 || !path.is_protected(state, caller, follow) {
        return Ok(None);
    }
    Ok(sealed_size(state, path, stat, follow))
}

/// The plaintext size of a file by path; `None` where it is not a sealed file, or a damaged one, or can't be
/// looked into: its physical size is shown then. Looking moves no time of access.
fn sealed_size(state: &State, path: PathArg, stat: Stat, follow: bool) -> Option<u64> {
    let flags = fs::O_RDONLY | fs::O_NONBLOCK | if follow { 0 } else { fs::O_NOFOLLOW };
    let own = path
        .open(flags | fs::O_NOATIME)
        // That is for the owner alone.
        .or_else(|_| path.open(flags))
        .ok()?;
    let storage = File::to_read(own.0);
    match state.known_file(stat.inode()) {
        Some(file) if own.0.stat().is_ok_and(|own| own.inode() == stat.inode()) => {
            lock(&file).len(&storage, state.keys()).ok()
        }
        _ => {
            let mut file = SealedFile::default();
            match file.identify(&storage, state.keys()) {
                Ok(Content::Sealed) => file.len(&storage, state.keys()).ok(),
                Ok(Content::Empty) => Some(0),
                Ok(Content::Plain) | Err(_) => None,
            }
        }
    }
}

/// Puts the size where `struct stat` and `struct statx` both have it.
fn put_size(bytes: &mut [u8], size: u64) {
    bytes[SIZE_AT..SIZE_AT + 8].copy_from_slice(&size.to_le_bytes());
}
