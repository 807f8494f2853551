//! Files by path.
//!
//! A path is relative to a directory descriptor and must not lead out of it: absolute ones and
//! those whose `..` climb above their start are `EPERM`. That is decided by the path's text
//! alone. Where links lead is the kernel's matter, which keeps them inside the cages' root; so it
//! does with `..` from the preopened root.

use super::abi::{Errno, Outcome, Stat, fdflags, linux, nr, rights, utimes};
use super::context::Context;

/// Mode of new directories and files, before the umask.
const DIRECTORY_MODE: u64 = 0o777;
const FILE_MODE: u64 = 0o666;
/// `lookupflags`: a link at the path's end is followed.
const FOLLOW: u32 = 1;

/// A directory descriptor of the cage, and a path's address in scratch space.
struct Place {
    dir: u64,
    path: u64,
}

fn place(cx: &mut Context<'_>, fd: u32, path: u32, len: u32) -> Outcome<Place> {
    let dir = cx.fd(fd)?;
    let path = cx.path(path, len)?;
    if path.starts_with(b"/") || (leaves(&path) && !cx.is_root(fd)) {
        return Err(Errno::PERM.into());
    }
    Ok(Place {
        dir,
        path: cx.stage_string(&path)?,
    })
}

/// Whether a relative path climbs above its start.
fn leaves(path: &[u8]) -> bool {
    let mut depth = 0_u32;
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => match depth.checked_sub(1) {
                Some(above) => depth = above,
                None => return true,
            },
            _ => depth += 1,
        }
    }
    false
}

/// Whether to follow a link at the path's end.
fn follows(lookup: u32) -> Result<bool, Errno> {
    match lookup {
        0 => Ok(false),
        FOLLOW => Ok(true),
        _ => Err(Errno::INVAL),
    }
}

fn nofollow_flag(lookup: u32) -> Result<u64, Errno> {
    Ok(if follows(lookup)? {
        0
    } else {
        linux::AT_SYMLINK_NOFOLLOW
    })
}

/// Makes a directory.
pub fn path_create_directory(cx: &mut Context<'_>, fd: u32, path: u32, len: u32) -> Outcome<()> {
    let at = place(cx, fd, path, len)?;
    cx.call(nr::MKDIRAT, [at.dir, at.path, DIRECTORY_MODE])
        .map(drop)
}

/// What the file is.
pub fn path_filestat_get(
    cx: &mut Context<'_>,
    fd: u32,
    lookup: u32,
    path: u32,
    len: u32,
    stat: u32,
) -> Outcome<()> {
    let found = self::stat(cx, fd, lookup, path, len)?;
    cx.put(stat, &found.filestat())
}

/// What the kernel says of the file.
pub fn stat(cx: &mut Context<'_>, fd: u32, lookup: u32, path: u32, len: u32) -> Outcome<Stat> {
    let flags = nofollow_flag(lookup)?;
    let at = place(cx, fd, path, len)?;
    let found = cx.reserve(Stat::LEN)?;
    cx.call(nr::NEWFSTATAT, [at.dir, at.path, found, flags])?;
    Ok(Stat::new(cx.staged(found)?))
}

/// Sets a file's times.
#[expect(
    clippy::too_many_arguments,
    reason = "the function's signature in WASI"
)]
pub fn path_filestat_set_times(
    cx: &mut Context<'_>,
    fd: u32,
    lookup: u32,
    path: u32,
    len: u32,
    atim: u64,
    mtim: u64,
    flags: u32,
) -> Outcome<()> {
    let nofollow = nofollow_flag(lookup)?;
    let times = utimes(atim, mtim, flags)?;
    let at = place(cx, fd, path, len)?;
    let times = cx.stage(&times)?;
    cx.call(nr::UTIMENSAT, [at.dir, at.path, times, nofollow])
        .map(drop)
}

/// Gives a file a second name.
#[expect(
    clippy::too_many_arguments,
    reason = "the function's signature in WASI"
)]
pub fn path_link(
    cx: &mut Context<'_>,
    old_fd: u32,
    lookup: u32,
    old: u32,
    old_len: u32,
    new_fd: u32,
    new: u32,
    new_len: u32,
) -> Outcome<()> {
    let flags = if follows(lookup)? {
        linux::AT_SYMLINK_FOLLOW
    } else {
        0
    };
    let from = place(cx, old_fd, old, old_len)?;
    let to = place(cx, new_fd, new, new_len)?;
    cx.call(nr::LINKAT, [from.dir, from.path, to.dir, to.path, flags])
        .map(drop)
}

/// Opens a file. Its rights say how; none to read or write opens for reading.
#[expect(
    clippy::too_many_arguments,
    reason = "the function's signature in WASI"
)]
pub fn path_open(
    cx: &mut Context<'_>,
    fd: u32,
    lookup: u32,
    path: u32,
    len: u32,
    how: u32,
    base: u64,
    _inheriting: u64,
    flags: u32,
    opened: u32,
) -> Outcome<()> {
    let mut open = open_flags(how, base)? | fdflags::to_linux(flags).ok_or(Errno::INVAL)?;
    if !follows(lookup)? {
        open |= linux::O_NOFOLLOW;
    }
    let at = place(cx, fd, path, len)?;
    // Before the call: a descriptor that the program never learns of would stay open.
    cx.check(opened, 4)?;
    let new = cx.call(nr::OPENAT, [at.dir, at.path, u64::from(open), FILE_MODE])?;
    let new = cx.new_fd(new);
    cx.put(opened, &new.to_le_bytes())
}

/// Linux's flags for WASI's `oflags` and the rights wanted.
fn open_flags(how: u32, base: u64) -> Result<u32, Errno> {
    const CREAT: u32 = 1;
    const DIRECTORY: u32 = 2;
    const EXCL: u32 = 4;
    const TRUNC: u32 = 8;
    const ALL: u32 = 15;
    // Linux can't make a directory by opening it, and what it does instead depends on its version.
    if how & !ALL != 0 || how & (CREAT | DIRECTORY) == CREAT | DIRECTORY {
        return Err(Errno::INVAL);
    }
    let mut flags = match (base & rights::FD_READ != 0, base & rights::FD_WRITE != 0) {
        (_, false) => linux::O_RDONLY,
        (false, true) => linux::O_WRONLY,
        (true, true) => linux::O_RDWR,
    };
    for (wasi, linux) in [
        (CREAT, linux::O_CREAT),
        (DIRECTORY, linux::O_DIRECTORY),
        (EXCL, linux::O_EXCL),
        (TRUNC, linux::O_TRUNC),
    ] {
        if how & wasi != 0 {
            flags |= linux;
        }
    }
    Ok(flags)
}

/// What a link says; cut when the buffer is shorter.
pub fn path_readlink(
    cx: &mut Context<'_>,
    fd: u32,
    path: u32,
    len: u32,
    buffer: u32,
    room: u32,
    used: u32,
) -> Outcome<()> {
    let at = place(cx, fd, path, len)?;
    cx.check(buffer, room)?;
    cx.check(used, 4)?;
    // Into scratch space, since WASI allows a buffer of no bytes and Linux does not.
    let most = crate::path::PATH_MAX;
    let target = cx.reserve(most)?;
    let got = cx.call(nr::READLINKAT, [at.dir, at.path, target, most as u64])?;
    if got as usize > most {
        return Err(Errno::IO.into());
    }
    let got = got.min(room);
    let target = cx.staged_bytes(target, got as usize)?;
    cx.put(buffer, &target)?;
    cx.put(used, &got.to_le_bytes())
}

/// Removes an empty directory.
pub fn path_remove_directory(cx: &mut Context<'_>, fd: u32, path: u32, len: u32) -> Outcome<()> {
    let at = place(cx, fd, path, len)?;
    cx.call(nr::UNLINKAT, [at.dir, at.path, linux::AT_REMOVEDIR])
        .map(drop)
}

/// Gives a file another name.
pub fn path_rename(
    cx: &mut Context<'_>,
    old_fd: u32,
    old: u32,
    old_len: u32,
    new_fd: u32,
    new: u32,
    new_len: u32,
) -> Outcome<()> {
    let from = place(cx, old_fd, old, old_len)?;
    let to = place(cx, new_fd, new, new_len)?;
    cx.call(nr::RENAMEAT, [from.dir, from.path, to.dir, to.path])
        .map(drop)
}

/// Makes a symbolic link. What it says is free text: wherever it points, following it stays in
/// the cages' root.
pub fn path_symlink(
    cx: &mut Context<'_>,
    target: u32,
    target_len: u32,
    fd: u32,
    path: u32,
    len: u32,
) -> Outcome<()> {
    let at = place(cx, fd, path, len)?;
    let target = cx.path(target, target_len)?;
    let target = cx.stage_string(&target)?;
    cx.call(nr::SYMLINKAT, [target, at.dir, at.path]).map(drop)
}

/// Removes a file's name.
pub fn path_unlink_file(cx: &mut Context<'_>, fd: u32, path: u32, len: u32) -> Outcome<()> {
    let at = place(cx, fd, path, len)?;
    cx.call(nr::UNLINKAT, [at.dir, at.path, 0]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn climbing_is_seen_in_the_text() {
        for path in ["..", "../x", "a/../..", "./..", "a/./../../b", ".//.."] {
            assert!(leaves(path.as_bytes()), "{path}");
        }
        for path in [
            "",
            ".",
            "a/..",
            "a/b/../../c",
            "..a",
            "a..",
            "...",
            "a/../b/..",
        ] {
            assert!(!leaves(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn rights_choose_the_access() {
        let both = rights::FD_READ | rights::FD_WRITE;
        assert_eq!(open_flags(0, 0), Ok(linux::O_RDONLY));
        assert_eq!(open_flags(0, rights::FD_WRITE), Ok(linux::O_WRONLY));
        assert_eq!(open_flags(0, both), Ok(linux::O_RDWR));
        assert_eq!(open_flags(2, rights::FD_READ), Ok(linux::O_DIRECTORY));
        assert_eq!(
            open_flags(13, both),
            Ok(linux::O_RDWR | linux::O_CREAT | linux::O_EXCL | linux::O_TRUNC)
        );
        assert_eq!(open_flags(3, both), Err(Errno::INVAL));
        assert_eq!(open_flags(16, both), Err(Errno::INVAL));
    }
}
