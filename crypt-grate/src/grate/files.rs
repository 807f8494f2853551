//! Descriptors, sizes, and the life of a cage.

use super::kernel::{self, File, Flock, Inode, int, pass, value};
use super::net;
use super::open::PathArg;
use super::state;
use super::state::{OpenFile, Opened, State, lock};
use crypt_grate::locks;
use crypt_grate::sealed_file::{Content, Error};
use grate_rs::constants::{SYS_FTRUNCATE, error, fs};
use grate_rs::{CageFd, Call, Errno, own_buffer};
use std::sync::Arc;

/// Calls that only move descriptors about.
macro_rules! follow {
    ($($name:ident)*) => {
        $(
            #[doc = concat!("See [`grate_rs::Descriptors::", stringify!($name), "`].")]
            pub fn $name(call: &Call) -> Result<i32, Errno> {
                state().descriptors.$name(call)
            }
        )*
    };
}

follow!(dup);

/// fcntl: descriptor, command, number, address.
pub fn fcntl(call: &Call) -> Result<i32, Errno> {
    let state = state();
    let from = CageFd::of(call, 0);
    match call.int(1) {
        fs::F_GETFL => {
            let flags = pass(call, 0)?;
            Ok(match state.descriptors.get(from) {
                Some(Opened::File(open)) => (flags & !OpenFile::FLAGS) | open.flags(),
                Some(Opened::Plain {
                    hides_nofollow: true,
                }) => flags & !fs::O_NOFOLLOW,
                _ => flags,
            })
        }
        fs::F_SETFL => {
            let (_held, Some(open)) = state.hold_file(from)? else {
                return pass(call, 0);
            };
            // O_APPEND would move the writes of whole chunks; it is kept here alone.
            let mut args = call.args();
            args[2] = int(call.cage_of(2), call.int(2) & !fs::O_APPEND);
            let result = call.forward_with(from.cage, &args)?;
            open.set_append(call.int(2));
            Ok(result)
        }
        fs::F_GETLK
        | fs::F_SETLK
        | fs::F_SETLKW
        | fs::F_OFD_GETLK
        | fs::F_OFD_SETLK
        // Not held: it may wait for long.
        | fs::F_OFD_SETLKW => match state.open_file(from) {
            Some(open) => record_lock(call, state, from, &open),
            None => pass(call, 0),
        },
        _ => state.descriptors.fcntl(call),
    }
}

/// Record locks: their ranges count from the plaintext offset and size, which the kernel does not
/// know, and must leave the lock of the grates alone.
fn record_lock(call: &Call, state: &State, fd: CageFd, open: &OpenFile) -> Result<i32, Errno> {
    let asked = Flock::from_bytes(&call.take(3)?);
    let mut lock_ = asked;
    let base = match i32::from(lock_.whence) {
        fs::SEEK_SET => 0,
        fs::SEEK_CUR => *lock(&open.offset) as i64,
        fs::SEEK_END => state.size(fd, open)? as i64,
        _ => return Err(Errno(error::EINVAL)),
    };
    let range = locks::absolute(base, lock_.start, lock_.len).map_err(Errno)?;
    let below = locks::lower(range);
    lock_ = Flock {
        whence: fs::SEEK_SET as i16,
        start: below.start,
        len: below.len(),
        ..lock_
    };
    let mut bytes = lock_.to_bytes();
    let mut args = call.args();
    args[3] = own_buffer(bytes.as_mut_ptr());
    let result = call.forward_with(fd.cage, &args)?;
    if matches!(call.int(1), fs::F_GETLK | fs::F_OFD_GETLK) {
        let mut found = Flock::from_bytes(&bytes);
        if found.kind != fs::F_UNLCK {
            let above = locks::raise(locks::Range::new(found.start, found.len));
            (found.start, found.len) = (above.start, above.len());
        } else {
            // Nothing but the kind is changed then.
            found = Flock {
                kind: fs::F_UNLCK,
                ..asked
            };
        }
        call.place(3).write(&found.to_bytes())?;
    }
    Ok(result)
}

fn set_len(state: &State, fd: CageFd, open: &OpenFile, len: i64) -> Result<i32, Errno> {
    let len = u64::try_from(len).map_err(|_| Errno(error::EINVAL))?;
    if !open.writable() {
        return Err(Errno(error::EINVAL));
    }
    let mut file = lock(&open.file);
    state
        .sealing(|with| file.set_len(&File::to_write(fd), with, len))
        .map_err(|why| state.errno_of(why, fd))?;
    Ok(0)
}

/// ftruncate: descriptor, length.
pub fn ftruncate(call: &Call) -> Result<i32, Errno> {
    let state = state();
    let fd = CageFd::of(call, 0);
    if call.long(1) < 0 {
        return Err(Errno(error::EINVAL));
    }
    let (_held, open) = state.hold_file(fd)?;
    match open {
        Some(open) => set_len(state, fd, &open, call.long(1)),
        None => pass(call, 0),
    }
}

/// truncate: path, length.
pub fn truncate(call: &Call) -> Result<i32, Errno> {
    let state = state();
    let len = u64::try_from(call.long(1)).map_err(|_| Errno(error::EINVAL))?;
    PathArg::take(call, 0, None, true)?.settled(|path| truncate_named(state, path, len))
}

fn truncate_named(state: &State, path: &PathArg, len: u64) -> Result<i32, Errno> {
    let stat = path.stat()?;
    if stat.is_directory() {
        return Err(Errno(error::EISDIR));
    }
    if !stat.is_regular() {
        return Err(Errno(error::EINVAL));
    }
    state.check_key(stat.inode())?;
    let is_protected = path.is_protected(state);
    let mode = if is_protected {
        fs::O_RDWR
    } else {
        fs::O_WRONLY
    };
    let own = path.open(mode | fs::O_NONBLOCK)?;
    // What was opened is what counts, should the name have changed hands.
    let stat = own.0.stat()?;
    state.check_key(stat.inode())?;
    if !stat.is_regular() {
        return Err(Errno(error::EINVAL));
    }
    if !is_protected {
        return kernel::call(
            SYS_FTRUNCATE,
            own.0.cage,
            &[own.0.arg(), value(own.0.cage, len)],
        );
    }
    truncate_sealed(state, own.0, stat.inode(), len).map_err(|errno| path.error_of(own.0, errno))
}

fn truncate_sealed(state: &State, fd: CageFd, inode: Inode, len: u64) -> Result<i32, Errno> {
    let what = "truncate";
    let file = state.file(inode);
    let mut file = lock(&file);
    let storage = File::to_write(fd);
    let content = match file.identify(&storage, state.keys()) {
        // What can't be read any more may still be emptied.
        Err(Error::Sealed(why)) if len == 0 && !matches!(why, sealed::Error::WrongKey { .. }) => {
            Content::Sealed
        }
        content => content.map_err(|why| state.errno(why, what))?,
    };
    if content == Content::Plain && len > 0 {
        state.explain(format_args!(
            "truncate: not sealed: it can't be changed in place"
        ));
        return Err(Errno(error::EACCES));
    }
    state
        .sealing(|with| file.set_len(&storage, with, len))
        .map_err(|why| state.errno(why, what))?;
    Ok(0)
}

/// fsync, fdatasync: descriptor. It passes; then the file says up to where it has reached the disk.
pub fn fsync(call: &Call) -> Result<i32, Errno> {
    let state = state();
    let fd = CageFd::of(call, 0);
    let Some(open) = state.open_file(fd) else {
        return pass(call, 0);
    };
    let moment = lock(&open.file).moment();
    let result = pass(call, 0)?;
    lock(&open.file).synced(&open.storage(fd), moment);
    Ok(result)
}

/// Before these descriptors are closed: the logs of files that nobody here has open for writing any
/// more are worked in, where they are long.
pub fn finish(gone: &[CageFd]) {
    let state = state();
    for &fd in gone {
        let Some(open) = state.open_file(fd) else {
            continue;
        };
        if !open.writable() || !lock(&open.file).is_changed() {
            continue;
        }
        let same = |opened: &Opened| {
            matches!(opened, Opened::File(other)
                if Arc::ptr_eq(&other.file, &open.file) && other.writable())
        };
        let others = state.descriptors.all_where(same);
        if others.iter().any(|other| !gone.contains(other)) {
            continue;
        }
        let mut file = lock(&open.file);
        if let Err(why) = state.sealing(|with| file.close(&File::to_write(fd), with)) {
            // The log stays, and nothing is lost.
            state.explain(format_args!("descriptor {}: its log stays: {why}", fd.fd));
        }
    }
}

/// fallocate: descriptor, mode, offset, length. Not the modes that move what lies behind.
pub fn fallocate(call: &Call) -> Result<i32, Errno> {
    let state = state();
    let fd = CageFd::of(call, 0);
    let (_held, Some(open)) = state.hold_file(fd)? else {
        return pass(call, 0);
    };
    if !open.writable() {
        return Err(Errno(error::EBADF));
    }
    const PUNCH: i32 = fs::FALLOC_FL_PUNCH_HOLE | fs::FALLOC_FL_KEEP_SIZE;
    const ZERO: i32 = fs::FALLOC_FL_ZERO_RANGE;
    const ZERO_INSIDE: i32 = ZERO | fs::FALLOC_FL_KEEP_SIZE;
    let mode = call.int(1);
    if !matches!(
        mode,
        0 | fs::FALLOC_FL_KEEP_SIZE | PUNCH | ZERO | ZERO_INSIDE
    ) {
        return Err(Errno(error::EOPNOTSUPP));
    }
    let (offset, len) = (call.long(2), call.long(3));
    if offset < 0 || len <= 0 {
        return Err(Errno(error::EINVAL));
    }
    let end = offset.checked_add(len).ok_or(Errno(error::EFBIG))?;
    let range = offset as u64..end as u64;
    let storage = File::to_write(fd);
    let mut file = lock(&open.file);
    state
        .sealing(|with| {
            let mut writer = file.writer(&storage, with)?;
            if matches!(mode, PUNCH | ZERO | ZERO_INSIDE) {
                writer.punch(range.clone())?;
            } else {
                writer.reserve(range.clone())?;
            }
            if mode & fs::FALLOC_FL_KEEP_SIZE == 0 && range.end > writer.len() {
                writer.set_len(range.end)?;
            }
            Ok(())
        })
        .map_err(|why| state.errno_of(why, fd))?;
    Ok(0)
}

/// copy_file_range: descriptor, offset, descriptor, offset, length, flags. Programs fall back to
/// read and write.
pub fn copy_file_range(call: &Call) -> Result<i32, Errno> {
    let (_from, from) = state().hold_file(CageFd::of(call, 0))?;
    let (_to, to) = state().hold_file(CageFd::of(call, 2))?;
    if from.is_some() || to.is_some() {
        return Err(Errno(error::EXDEV));
    }
    pass(call, 0)
}

/// ioctl: descriptor, request, argument.
pub fn ioctl(call: &Call) -> Result<i32, Errno> {
    let state = state();
    let fd = CageFd::of(call, 0);
    match call.size(1) {
        fs::FIONREAD => {
            if let Some(socket) = state.socket(fd) {
                return net::fionread(call, &socket);
            }
            let Some(open) = state.open_file(fd) else {
                return pass(call, 0);
            };
            let offset = *lock(&open.offset);
            let size = state.size(fd, &open)?;
            let left = size.saturating_sub(offset).min(i32::MAX as u64) as i32;
            call.place(2).write(&left.to_le_bytes())?;
            Ok(0)
        }
        _ => pass(call, 0),
    }
}

/// fadvise64: descriptor, offset, length, advice. Offsets of the plaintext mean nothing below.
pub fn fadvise(call: &Call) -> Result<i32, Errno> {
    let fd = CageFd::of(call, 0);
    if state().open_file(fd).is_none() {
        return pass(call, 0);
    }
    let mut args = call.args();
    args[1] = value(fd.cage, 0);
    args[2] = value(fd.cage, 0);
    call.forward_with(fd.cage, &args)
}

/// sync_file_range: descriptor, offset, length, flags. All of the file is written out.
pub fn sync_file_range(call: &Call) -> Result<i32, Errno> {
    let fd = CageFd::of(call, 0);
    if state().open_file(fd).is_none() {
        return pass(call, 0);
    }
    if call.long(1) < 0 || call.long(2) < 0 {
        return Err(Errno(error::EINVAL));
    }
    let mut args = call.args();
    args[1] = value(fd.cage, 0);
    args[2] = value(fd.cage, 0);
    call.forward_with(fd.cage, &args)
}

/// A call that moves data past the grate: programs do without it.
pub fn refuse(_: &Call) -> Result<i32, Errno> {
    Err(Errno(error::ENOSYS))
}
