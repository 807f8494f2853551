//! Opening files by path, and what is known and can be changed about them.

use super::io::answer;
use super::lookup::{self, AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, Dir, Lookup};
use super::{Call, Entry, UNUSED, abi, fds};
use crate::cage::FsContext;
use crate::path::{self, proc_path};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, RwLockWriteGuard};

pub(super) const CALLS: &[Entry] = &[
    Entry::new(2, "open", 3, |call| open_path(call, Dir::Cwd, 0)),
    Entry::new(4, "stat", 2, |call| stat_path(call, Dir::Cwd, 0, 0)),
    Entry::new(5, "fstat", 2, fstat),
    Entry::new(6, "lstat", 2, |call| {
        stat_path(call, Dir::Cwd, 0, AT_SYMLINK_NOFOLLOW)
    }),
    Entry::new(21, "access", 2, |call| access_path(call, Dir::Cwd, 0, 0)),
    Entry::new(76, "truncate", 2, truncate),
    Entry::new(79, "getcwd", 2, getcwd),
    Entry::new(80, "chdir", 1, chdir),
    Entry::new(81, "fchdir", 1, fchdir),
    Entry::new(90, "chmod", 2, |call| chmod_path(call, Dir::Cwd, 0, 0)),
    Entry::new(91, "fchmod", 2, fchmod),
    Entry::new(92, "chown", 3, |call| chown_path(call, Dir::Cwd, 0, 0)),
    Entry::extra(93, "fchown", 3, fchown),
    Entry::new(94, "lchown", 3, |call| {
        chown_path(call, Dir::Cwd, 0, AT_SYMLINK_NOFOLLOW)
    }),
    Entry::new(137, "statfs", 2, statfs),
    Entry::new(138, "fstatfs", 2, fstatfs),
    Entry::new(257, "openat", 4, |call| open_path(call, Dir::Own(0), 1)),
    Entry::new(260, "fchownat", 5, fchownat),
    Entry::new(262, "newfstatat", 4, newfstatat),
    Entry::new(268, "fchmodat", 4, fchmodat),
    Entry::new(269, "faccessat", 4, faccessat),
    Entry::new(280, "utimensat", 4, utimensat),
];

/// Check with the effective instead of the real ids.
const AT_EACCESS: u32 = 0x200;
const AT_NO_AUTOMOUNT: u32 = 0x800;
const AT_STATX_SYNC_TYPE: u32 = 0x6000;

/// What open(2) knows; it ignores other bits, while openat2(2) refuses them.
const OPEN_FLAGS: OFlags = OFlags::RWMODE
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOCTTY)
    .union(OFlags::TRUNC)
    .union(OFlags::APPEND)
    .union(OFlags::NONBLOCK)
    .union(OFlags::SYNC)
    .union(OFlags::DIRECT)
    .union(OFlags::LARGEFILE)
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NOATIME)
    .union(OFlags::CLOEXEC)
    .union(OFlags::PATH)
    .union(OFlags::TMPFILE);
/// What it knows together with `O_PATH`.
const PATH_FLAGS: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// The flags of open(2) as openat2(2) takes them.
fn open_flags(bits: u32) -> OFlags {
    let flags = OFlags::from_bits_retain(bits) & OPEN_FLAGS;
    if flags.contains(OFlags::PATH) {
        flags & PATH_FLAGS
    } else {
        flags | OFlags::NOCTTY // The terminal of a cage is the runtime's.
    }
}

/// The mode of a new file: what the umask of the target leaves of it.
pub(super) fn new_mode(call: &Call<'_>, mode: u32) -> u32 {
    let fs = call.target.fs.read().unwrap_or_else(|e| e.into_inner());
    mode & 0o7777 & !fs.umask
}

fn open_path(call: &Call<'_>, dir: Dir, index: usize) -> Result<i32, Errno> {
    let flags = open_flags(call.uint(index + 1));
    let lookup = Lookup::new(call, dir, index)?;
    fds::check_room(&call.target)?; // Before a file is made or cut.
    let mode = new_mode(call, call.uint(index + 2));
    let file = lookup.open(flags, mode)?;
    call.target
        .fds()
        .insert(0, Arc::new(file), flags.contains(OFlags::CLOEXEC))
}

/// Flags of a call that had none on Linux: guests may leave the argument out.
fn late_flags(call: &Call<'_>, index: usize, known: u32) -> Result<u32, Errno> {
    match call.raw(index) {
        UNUSED => Ok(0),
        _ => known_flags(call, index, known),
    }
}

fn known_flags(call: &Call<'_>, index: usize, known: u32) -> Result<u32, Errno> {
    let flags = call.uint(index);
    if flags & !known != 0 {
        return Err(Errno::INVAL);
    }
    Ok(flags)
}

fn stat_path(call: &Call<'_>, dir: Dir, index: usize, flags: u32) -> Result<i32, Errno> {
    let node = lookup::seen(call, dir, index, flags)?;
    call.put(index + 1, &abi::stat(&path::stat(&node)?))?;
    Ok(0)
}

fn newfstatat(call: &Call<'_>) -> Result<i32, Errno> {
    let known = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_STATX_SYNC_TYPE;
    let flags = known_flags(call, 3, known)?;
    stat_path(call, Dir::Target(0), 1, flags)
}

fn fstat(call: &Call<'_>) -> Result<i32, Errno> {
    let file = call.file(0)?;
    call.put(1, &abi::stat(&rustix::fs::fstat(&*file)?))?;
    Ok(0)
}

fn statfs(call: &Call<'_>) -> Result<i32, Errno> {
    let node = Lookup::new(call, Dir::Cwd, 0)?.node(true)?;
    call.put(1, &abi::statfs(&rustix::fs::fstatfs(&node)?))?;
    Ok(0)
}

fn fstatfs(call: &Call<'_>) -> Result<i32, Errno> {
    let file = call.file(0)?;
    call.put(1, &abi::statfs(&rustix::fs::fstatfs(&*file)?))?;
    Ok(0)
}

fn access_path(call: &Call<'_>, dir: Dir, index: usize, flags: u32) -> Result<i32, Errno> {
    const ALL: u32 = 7;
    let mode = call.uint(index + 1);
    if mode & !ALL != 0 {
        return Err(Errno::INVAL);
    }
    let node = lookup::seen(call, dir, index, flags)?;
    check_access(&node, mode, flags & AT_EACCESS)
}

fn check_access(node: &OwnedFd, mode: u32, flags: u32) -> Result<i32, Errno> {
    // SAFETY: the path is an empty C string, which with AT_EMPTY_PATH means the file itself.
    let result = unsafe {
        libc::syscall(
            libc::SYS_faccessat2,
            node.as_raw_fd(),
            c"".as_ptr(),
            mode,
            flags | AT_EMPTY_PATH,
        )
    };
    answer(result as libc::c_int)
}

fn faccessat(call: &Call<'_>) -> Result<i32, Errno> {
    let known = AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH;
    let flags = late_flags(call, 3, known)?;
    access_path(call, Dir::Target(0), 1, flags)
}

fn truncate(call: &Call<'_>) -> Result<i32, Errno> {
    let len = call.offset(1);
    if len < 0 {
        return Err(Errno::INVAL);
    }
    let node = Lookup::new(call, Dir::Cwd, 0)?.node(true)?;
    let path = CString::new(proc_path(&node)).map_err(|_| Errno::INVAL)?;
    // SAFETY: `path` is a C string, and names the open file, not a path of the guest.
    answer(unsafe { libc::truncate(path.as_ptr(), len) })
}

/// A device may be the host's own: a cage does not own it, whoever runs the runtime.
fn check_owned(node: &OwnedFd) -> Result<FileType, Errno> {
    match FileType::from_raw_mode(path::stat(node)?.st_mode) {
        FileType::CharacterDevice | FileType::BlockDevice => Err(Errno::PERM),
        other => Ok(other),
    }
}

fn chmod_path(call: &Call<'_>, dir: Dir, index: usize, flags: u32) -> Result<i32, Errno> {
    let node = lookup::changed(call, dir, index, flags)?;
    if check_owned(&node)? == FileType::Symlink {
        return Err(Errno::OPNOTSUPP); // A link has no mode.
    }
    let mode = Mode::from_raw_mode(call.uint(index + 1) & 0o7777);
    rustix::fs::chmod(proc_path(&node), mode)?;
    Ok(0)
}

fn fchmodat(call: &Call<'_>) -> Result<i32, Errno> {
    let flags = late_flags(call, 3, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    chmod_path(call, Dir::Target(0), 1, flags)
}

fn fchmod(call: &Call<'_>) -> Result<i32, Errno> {
    let file = call.file(0)?;
    check_owned(&file)?;
    rustix::fs::fchmod(&*file, Mode::from_raw_mode(call.uint(1) & 0o7777))?;
    Ok(0)
}

fn chown_path(call: &Call<'_>, dir: Dir, index: usize, flags: u32) -> Result<i32, Errno> {
    let node = lookup::changed(call, dir, index, flags)?;
    check_owned(&node)?;
    // SAFETY: as in `check_access`.
    answer(unsafe {
        libc::fchownat(
            node.as_raw_fd(),
            c"".as_ptr(),
            call.uint(index + 1),
            call.uint(index + 2),
            libc::AT_EMPTY_PATH,
        )
    })
}

fn fchownat(call: &Call<'_>) -> Result<i32, Errno> {
    let flags = known_flags(call, 4, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    chown_path(call, Dir::Target(0), 1, flags)
}

fn fchown(call: &Call<'_>) -> Result<i32, Errno> {
    let file = call.file(0)?;
    check_owned(&file)?;
    // SAFETY: no memory is involved.
    answer(unsafe { libc::fchown(file.as_raw_fd(), call.uint(1), call.uint(2)) })
}

fn utimensat(call: &Call<'_>) -> Result<i32, Errno> {
    const AT_FDCWD: i32 = -100;
    let times = match call.raw(2) {
        0 => None,
        _ => {
            let bytes: [u8; 32] = call.get(2)?;
            let (access, change) = bytes.split_at(16);
            Some([abi::timespec(access), abi::timespec(change)])
        }
    };
    if times.is_some_and(|times| times.iter().all(|time| time.tv_nsec == libc::UTIME_OMIT)) {
        return Ok(0); // Linux does not even look for the file.
    }
    let times = times
        .as_ref()
        .map_or(std::ptr::null(), |times| times.as_ptr());
    if call.raw(1) == 0 && call.int(0) != AT_FDCWD {
        known_flags(call, 3, 0)?;
        let file = call.file(0)?;
        check_owned(&file)?;
        // SAFETY: `times` is null or points at two timespecs of this frame.
        return answer(unsafe { libc::futimens(file.as_raw_fd(), times) });
    }
    let flags = known_flags(call, 3, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    let node = lookup::changed(call, Dir::Own(0), 1, flags)?;
    check_owned(&node)?;
    // SAFETY: as above, and as in `check_access`.
    answer(unsafe { libc::utimensat(node.as_raw_fd(), c"".as_ptr(), times, libc::AT_EMPTY_PATH) })
}

/// Answers the length without the NUL, as Lind does.
fn getcwd(call: &Call<'_>) -> Result<i32, Errno> {
    let cwd = fs(call).cwd.clone();
    let mut path = call.rt.root.path_of(&cwd)?;
    path.push(0);
    if path.len() as u64 > call.raw(1) {
        return Err(Errno::RANGE);
    }
    call.put(0, &path)?;
    Ok(path.len() as i32 - 1)
}

fn fs<'a>(call: &'a Call<'_>) -> RwLockWriteGuard<'a, FsContext> {
    call.target.fs.write().unwrap_or_else(|e| e.into_inner())
}

fn enter(call: &Call<'_>, directory: Arc<OwnedFd>) -> Result<i32, Errno> {
    const SEARCH: u32 = 1;
    if FileType::from_raw_mode(path::stat(&directory)?.st_mode) != FileType::Directory {
        return Err(Errno::NOTDIR);
    }
    check_access(&directory, SEARCH, AT_EACCESS)?;
    fs(call).cwd = directory;
    Ok(0)
}

fn chdir(call: &Call<'_>) -> Result<i32, Errno> {
    let directory = Lookup::new(call, Dir::Cwd, 0)?.node(true)?;
    enter(call, Arc::new(directory))
}

fn fchdir(call: &Call<'_>) -> Result<i32, Errno> {
    enter(call, call.file(0)?)
}
