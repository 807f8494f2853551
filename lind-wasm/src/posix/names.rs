//! Making, moving and removing names in directories.

use super::files::new_mode;
use super::lookup::{AT_EMPTY_PATH, AT_SYMLINK_FOLLOW, AT_SYMLINK_NOFOLLOW, Dir, Lookup};
use super::{Call, Entry, lookup};
use crate::path::proc_path;
use rustix::fs::{AtFlags, CWD, FileType, Mode, RenameFlags};
use rustix::io::Errno;

pub(super) const CALLS: &[Entry] = &[
    Entry::new(82, "rename", 2, |call| {
        rename_paths(call, (Dir::Cwd, 0), (Dir::Cwd, 1), 0)
    }),
    Entry::new(83, "mkdir", 2, |call| make_directory(call, Dir::Cwd, 0)),
    Entry::new(84, "rmdir", 1, |call| remove_directory(call, Dir::Cwd, 0)),
    Entry::new(86, "link", 2, |call| {
        link_paths(call, (Dir::Cwd, 0), (Dir::Cwd, 1), 0)
    }),
    Entry::new(87, "unlink", 1, |call| remove_file(call, Dir::Cwd, 0)),
    Entry::new(88, "symlink", 2, |call| symlink_path(call, Dir::Cwd, 1)),
    Entry::new(89, "readlink", 3, |call| read_link(call, Dir::Cwd, 0)),
    Entry::new(133, "mknod", 3, mknod),
    Entry::extra(258, "mkdirat", 3, |call| {
        make_directory(call, Dir::Target(0), 1)
    }),
    Entry::new(263, "unlinkat", 3, unlinkat),
    Entry::new(264, "renameat", 4, |call| {
        rename_paths(call, (Dir::Target(0), 1), (Dir::Target(2), 3), 0)
    }),
    Entry::extra(265, "linkat", 5, linkat),
    Entry::new(266, "symlinkat", 3, |call| {
        symlink_path(call, Dir::Own(1), 2)
    }),
    Entry::new(267, "readlinkat", 4, |call| read_link(call, Dir::Own(0), 1)),
    Entry::new(316, "renameat2", 5, |call| {
        let flags = call.uint(4);
        rename_paths(call, (Dir::Target(0), 1), (Dir::Target(2), 3), flags)
    }),
];

fn make_directory(call: &Call<'_>, dir: Dir, index: usize) -> Result<i32, Errno> {
    let leaf = Lookup::new(call, dir, index)?.leaf(Errno::EXIST)?;
    let mode = new_mode(call, call.uint(index + 1));
    rustix::fs::mkdirat(&leaf.parent, &leaf.name[..], Mode::from_raw_mode(mode))?;
    Ok(0)
}

fn remove_directory(call: &Call<'_>, dir: Dir, index: usize) -> Result<i32, Errno> {
    let leaf = Lookup::new(call, dir, index)?.leaf(Errno::BUSY)?;
    rustix::fs::unlinkat(&leaf.parent, &leaf.name[..], AtFlags::REMOVEDIR)?;
    Ok(0)
}

fn remove_file(call: &Call<'_>, dir: Dir, index: usize) -> Result<i32, Errno> {
    let leaf = Lookup::new(call, dir, index)?.leaf(Errno::ISDIR)?;
    rustix::fs::unlinkat(&leaf.parent, &leaf.name[..], AtFlags::empty())?;
    Ok(0)
}

fn unlinkat(call: &Call<'_>) -> Result<i32, Errno> {
    const AT_REMOVEDIR: u32 = 0x200;
    match call.uint(2) {
        0 => remove_file(call, Dir::Target(0), 1),
        AT_REMOVEDIR => remove_directory(call, Dir::Target(0), 1),
        _ => Err(Errno::INVAL),
    }
}

fn rename_paths(
    call: &Call<'_>,
    old: (Dir, usize),
    new: (Dir, usize),
    flags: u32,
) -> Result<i32, Errno> {
    let (old, new) = (
        Lookup::new(call, old.0, old.1)?,
        Lookup::new(call, new.0, new.1)?,
    );
    let (old, new) = (old.leaf(Errno::BUSY)?, new.leaf(Errno::BUSY)?);
    rustix::fs::renameat_with(
        &old.parent,
        &old.name[..],
        &new.parent,
        &new.name[..],
        RenameFlags::from_bits_retain(flags),
    )?;
    Ok(0)
}

fn link_paths(
    call: &Call<'_>,
    old: (Dir, usize),
    new: (Dir, usize),
    flags: u32,
) -> Result<i32, Errno> {
    let follow = if flags & AT_SYMLINK_FOLLOW == 0 {
        AT_SYMLINK_NOFOLLOW
    } else {
        0
    };
    let node = lookup::changed(call, old.0, old.1, follow | (flags & AT_EMPTY_PATH))?;
    let leaf = Lookup::new(call, new.0, new.1)?.leaf(Errno::EXIST)?;
    // By the open file: a link in its last place is not looked up again, in or out of the root.
    rustix::fs::linkat(
        CWD,
        proc_path(&node),
        &leaf.parent,
        &leaf.name[..],
        AtFlags::SYMLINK_FOLLOW,
    )?;
    Ok(0)
}

fn linkat(call: &Call<'_>) -> Result<i32, Errno> {
    let flags = call.uint(4);
    if flags & !(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::INVAL);
    }
    link_paths(call, (Dir::Target(0), 1), (Dir::Target(2), 3), flags)
}

/// A link's text is the guest's own affair: it is followed inside the root only.
fn symlink_path(call: &Call<'_>, dir: Dir, index: usize) -> Result<i32, Errno> {
    let text = call.path(0)?;
    if text.is_empty() {
        return Err(Errno::NOENT);
    }
    let leaf = Lookup::new(call, dir, index)?.leaf(Errno::EXIST)?;
    rustix::fs::symlinkat(&text[..], &leaf.parent, &leaf.name[..])?;
    Ok(0)
}

fn read_link(call: &Call<'_>, dir: Dir, index: usize) -> Result<i32, Errno> {
    let room = call.int(index + 2);
    if room <= 0 {
        return Err(Errno::INVAL);
    }
    let by_descriptor = call.path(index)?.is_empty();
    let node = lookup::changed(call, dir, index, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    let text = rustix::fs::readlinkat(&*node, "", Vec::new()).map_err(|errno| match errno {
        // What the kernel says of an open file that is no link.
        Errno::NOENT if !by_descriptor => Errno::INVAL,
        other => other,
    })?;
    let text = text.as_bytes();
    let shown = text.get(..room as usize).unwrap_or(text);
    call.put(index + 1, shown)?;
    Ok(shown.len() as i32)
}

/// Files and FIFOs only: a device node would lead out of the root.
fn mknod(call: &Call<'_>) -> Result<i32, Errno> {
    const FORMAT: u32 = 0o170_000;
    let kind = match call.uint(1) & FORMAT {
        0 | 0o100_000 => FileType::RegularFile,
        0o010_000 => FileType::Fifo,
        // Devices, sockets and directories.
        0o020_000 | 0o060_000 | 0o140_000 | 0o040_000 => return Err(Errno::PERM),
        _ => return Err(Errno::INVAL),
    };
    let leaf = Lookup::new(call, Dir::Cwd, 0)?.leaf(Errno::EXIST)?;
    let mode = Mode::from_raw_mode(new_mode(call, call.uint(1)));
    rustix::fs::mknodat(&leaf.parent, &leaf.name[..], kind, mode, 0)?;
    Ok(0)
}
