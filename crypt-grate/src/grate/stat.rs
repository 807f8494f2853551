//! The stat calls: sizes are those of the plaintext.

use super::kernel::{File, SIZE_AT, STAT_LEN, Stat, pass};
use super::open::PathArg;
use super::state;
use super::state::{State, lock};
use crypt_grate::sealed_file::{LAYOUT_LEN, SealedFile, layout_of};
use crypt_grate::storage::read_up_to;
use grate_rs::constants::{error, fs};
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
    let (result, mut bytes) = into_own_buffer(call, buffer, fd.cage)?;
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

/// Makes the call with a buffer of the grate in place of argument `index`.
fn into_own_buffer(call: &Call, index: usize, caller: u64) -> Result<(i32, [u8; STAT_LEN]), Errno> {
    let mut bytes = [0; STAT_LEN];
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
    let (result, mut bytes) = into_own_buffer(call, buffer, caller)?;
    let stat = Stat::from_bytes(&bytes);
    state.check_key(stat.inode())?;
    if stat.is_regular()
        && stat.size > 0
        && path.is_protected(state, caller, follow)
        && let Some(size) = sealed_size(state, path, stat, follow)
    {
        put_size(&mut bytes, size);
    }
    call.pointer(buffer).write(&bytes)?;
    Ok(result)
}

/// The plaintext size of a file by path; `None` where it is not a sealed file (or not a whole
/// one: its physical size is shown then).
fn sealed_size(state: &State, path: PathArg, stat: Stat, follow: bool) -> Option<u64> {
    if let Some(file) = state.known_file(stat.inode())
        && let Ok(size @ 1..) = lock(&file).plaintext_size(stat.size)
    {
        return Some(size);
    }
    let flags = fs::O_RDONLY | fs::O_NONBLOCK | if follow { 0 } else { fs::O_NOFOLLOW };
    let layout = match path.open(flags) {
        Ok(file) => {
            let storage = File::to_read(file.0);
            let mut head = [0; LAYOUT_LEN];
            let len = read_up_to(&storage, &mut head, 0).ok()?;
            match layout_of(&head[..len]).ok()? {
                Some(layout) => layout,
                // Not sealed, or not whole: its size is what its journal says.
                None => {
                    let mut file = SealedFile::default();
                    let sealed = head.starts_with(&sealed::MAGIC);
                    return sealed
                        .then(|| file.len(&storage, state.keys()).ok())
                        .flatten();
                }
            }
        }
        // It can't be looked into; very likely it was made with these settings.
        Err(Errno(error::EACCES)) => state.params.layout(),
        Err(_) => return None,
    };
    layout.plaintext_size(stat.size).ok()
}

fn put_size(bytes: &mut [u8; STAT_LEN], size: u64) {
    bytes[SIZE_AT..SIZE_AT + 8].copy_from_slice(&size.to_le_bytes());
}
