//! The stat calls: sizes are those of the plaintext.

use super::kernel::{File, SIZE_AT, STAT_LEN, Stat, pass};
use super::open::PathArg;
use super::state;
use super::state::{State, lock};
use crypt_grate::sealed_file::Content;
use grate_rs::constants::fs;
use grate_rs::{CageFd, Call, Errno};

/// fstat: descriptor, buffer.
pub fn fstat(call: &Call) -> Result<i32, Errno> {
    by_descriptor(call, CageFd::of(call, 0), 1)
}

fn by_descriptor(call: &Call, fd: CageFd, buffer: usize) -> Result<i32, Errno> {
    let state = state();
    let Some(open) = state.open_file(fd) else {
        return pass(call, 0);
    };
    let (result, mut bytes) = call.forward_into::<STAT_LEN>(fd.cage, buffer)?;
    // A damaged file keeps its physical size: the error belongs to reading it.
    if let Ok(size) = lock(&open.file).len(&open.storage(fd), state.keys()) {
        put_size(&mut bytes, size);
    }
    call.place(buffer).write(&bytes)?;
    Ok(result)
}

/// stat: path, buffer.
pub fn stat(call: &Call) -> Result<i32, Errno> {
    let path = PathArg::take(call, 0, None, true)?;
    by_path(call, &path, 1, call.caller())
}

/// lstat: path, buffer.
pub fn lstat(call: &Call) -> Result<i32, Errno> {
    let path = PathArg::take(call, 0, None, false)?;
    by_path(call, &path, 1, call.caller())
}

/// newfstatat: directory, path, buffer, flags.
pub fn newfstatat(call: &Call) -> Result<i32, Errno> {
    let flags = call.int(3);
    let path = call.take_path_of(1, Some(0), flags)?;
    if path.is_empty() && flags & fs::AT_EMPTY_PATH != 0 {
        return by_descriptor(call, CageFd::of(call, 0), 2);
    }
    let path = PathArg::of(path, flags & fs::AT_SYMLINK_NOFOLLOW == 0);
    by_path(call, &path, 2, call.caller())
}

/// statx: directory, path, flags, what is wanted, buffer.
pub fn statx(call: &Call) -> Result<i32, Errno> {
    const STATX_LEN: usize = 256;
    const BUFFER: usize = 4;
    // Descriptors are looked up in the table of the cage that the call is made for.
    let (flags, caller) = (call.int(2), call.caller());
    let state = state();
    let path = call.take_path_of(1, Some(0), flags)?;
    let size = if path.is_empty() && flags & fs::AT_EMPTY_PATH != 0 {
        let fd = CageFd::of(call, 0);
        let Some(open) = state.open_file(fd) else {
            return pass(call, 0);
        };
        lock(&open.file).len(&open.storage(fd), state.keys()).ok()
    } else {
        let path = PathArg::of(path, flags & fs::AT_SYMLINK_NOFOLLOW == 0);
        // A name that can't be looked up is the call's own to complain about.
        match path.stat() {
            Ok(stat) => shown_size(state, &path, stat)?,
            Err(_) => None,
        }
    };
    let (result, mut bytes) = call.forward_into::<STATX_LEN>(caller, BUFFER)?;
    if let Some(size) = size {
        put_size(&mut bytes, size);
    }
    call.place(BUFFER).write(&bytes)?;
    Ok(result)
}

fn by_path(call: &Call, path: &PathArg, buffer: usize, caller: u64) -> Result<i32, Errno> {
    let state = state();
    let (result, mut bytes) = call.forward_into::<STAT_LEN>(caller, buffer)?;
    let stat = Stat::from_bytes(&bytes);
    if let Some(size) = shown_size(state, path, stat)? {
        put_size(&mut bytes, size);
    }
    call.place(buffer).write(&bytes)?;
    Ok(result)
}

/// The size to show of what a path names; `None` where it is the one below.
fn shown_size(state: &State, path: &PathArg, stat: Stat) -> Result<Option<u64>, Errno> {
    state.check_key(stat.inode())?;
    if !stat.is_regular() || stat.size == 0 || !path.is_protected(state) {
        return Ok(None);
    }
    Ok(sealed_size(state, path, stat))
}

/// The plaintext size of a file by path; `None` where it is not a sealed file, or a damaged one, or can't be
/// looked into: its physical size is shown then. Looking moves no time of access.
fn sealed_size(state: &State, path: &PathArg, stat: Stat) -> Option<u64> {
    let flags = fs::O_RDONLY | fs::O_NONBLOCK;
    let own = path
        .open(flags | fs::O_NOATIME)
        // That is for the owner alone.
        .or_else(|_| path.open(flags))
        .ok()?;
    if !own.0.stat().is_ok_and(|own| own.inode() == stat.inode()) {
        // Another file has taken the name since.
        return None;
    }
    let storage = File::to_read(own.0);
    let file = state.glance(stat.inode());
    let mut file = lock(&file);
    match file.identify(&storage, state.keys()) {
        Ok(Content::Sealed) => Some(file.known_len()),
        Ok(Content::Empty) => Some(0),
        Ok(Content::Plain) | Err(_) => None,
    }
}

/// Puts the size where `struct stat` and `struct statx` both have it.
fn put_size(bytes: &mut [u8], size: u64) {
    bytes[SIZE_AT..SIZE_AT + 8].copy_from_slice(&size.to_le_bytes());
}
