//! Calls that give files other names: no file gets under other rules by that, and none of the
//! grate's own is removed or replaced.

use super::filter;
use super::names::Name;
use grate_rs::constants::{error, fs};
use grate_rs::{Call, Errno};

const EACCES: Errno = Errno(error::EACCES);
const EXDEV: Errno = Errno(error::EXDEV);

/// renameat2: both names change their files.
const RENAME_EXCHANGE: i32 = 2;

/// What is done to two names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    /// The file leaves its old name, by these flags of renameat2.
    Move(i32),
    /// The file has both names.
    Link,
}

impl Deed {
    /// Whether a file is left, or comes, where the old name is.
    fn shares(self) -> bool {
        match self {
            Self::Move(flags) => flags & RENAME_EXCHANGE != 0,
            Self::Link => true,
        }
    }
}

/// rename: path, path.
pub fn rename(call: &Call) -> Result<i32, Errno> {
    two(call, [0, 1], [None, None], Deed::Move(0), 0)
}

/// renameat: directory, path, directory, path.
pub fn renameat(call: &Call) -> Result<i32, Errno> {
    two(call, [1, 3], [Some(0), Some(2)], Deed::Move(0), 0)
}

/// renameat2: as renameat, with flags.
pub fn renameat2(call: &Call) -> Result<i32, Errno> {
    let deed = Deed::Move(call.int(4));
    two(call, [1, 3], [Some(0), Some(2)], deed, 0)
}

/// link: path, path.
pub fn link(call: &Call) -> Result<i32, Errno> {
    two(call, [0, 1], [None, None], Deed::Link, 0)
}

/// linkat: directory, path, directory, path, flags.
pub fn linkat(call: &Call) -> Result<i32, Errno> {
    two(call, [1, 3], [Some(0), Some(2)], Deed::Link, call.int(4))
}

fn two(
    call: &Call,
    [from_at, to_at]: [usize; 2],
    directories: [Option<usize>; 2],
    deed: Deed,
    flags: i32,
) -> Result<i32, Errno> {
    let filter = filter();
    let cage = call.caller();
    if !filter.judges_paths() && filter.closed.is_empty() {
        return call.forward(cage);
    }
    let from = call.take_path_of(from_at, directories[0], flags)?;
    if from.is_empty() && flags & fs::AT_EMPTY_PATH != 0 {
        if filter.judges_paths() {
            // What a descriptor leads to has no name to be judged by.
            let what = format_args!("a link to the file of a descriptor");
            return Err(filter.refuse(cage, what));
        }
        // None of the grate's own can be had by a descriptor.
        call.take_path(to_at, directories[1])?;
        return call.forward(cage);
    }
    if flags & !(fs::AT_SYMLINK_FOLLOW | fs::AT_EMPTY_PATH) != 0 {
        return Err(Errno(error::EINVAL));
    }
    let from = Name::of(from, flags & fs::AT_SYMLINK_FOLLOW != 0)?;
    let to = Name::take(call, to_at, directories[1], false)?;
    let stat = from.stat()?;
    if filter.is_needed(&stat) || to.stat().is_ok_and(|stat| filter.is_needed(&stat)) {
        return Err(EACCES);
    }
    if filter.judges_paths() {
        let paths = [from.path()?, to.path()?];
        if paths.iter().any(|path| filter.denies_moving(path)) {
            return Err(filter.refuse(cage, format_args!("{from} to {to}")));
        }
        // Programs copy then, under the rules of the new name.
        if stat.is_directory()
            || (deed.shares() && to.stat().is_ok_and(|stat| stat.is_directory()))
            || changes_rules(&paths, deed)
        {
            return Err(EXDEV);
        }
    }
    match deed {
        Deed::Move(flags) => from.place().rename_to(to.place(), flags),
        Deed::Link => from.place().link_to(to.place()),
    }
}

/// Whether a file at both of these paths, one after the other, could be written by fewer rules
/// than the path it has then asks for.
fn changes_rules([from, to]: &[Vec<u8>; 2], deed: Deed) -> bool {
    let Some(redaction) = &filter().redaction else {
        return false;
    };
    let [from, to] = [from, to].map(|path| redaction.applying_to(Some(path)));
    if deed.shares() {
        to != from
    } else {
        !to.is_subset(&from) || redaction.is_append_only(&to)
    }
}

/// unlink: path.
pub fn unlink(call: &Call) -> Result<i32, Errno> {
    removed(call, 0, None, 0)
}

/// rmdir: path.
pub fn rmdir(call: &Call) -> Result<i32, Errno> {
    removed(call, 0, None, fs::AT_REMOVEDIR)
}

/// unlinkat: directory, path, flags.
pub fn unlinkat(call: &Call) -> Result<i32, Errno> {
    removed(call, 1, Some(0), call.int(2))
}

fn removed(
    call: &Call,
    path_at: usize,
    directory: Option<usize>,
    flags: i32,
) -> Result<i32, Errno> {
    let filter = filter();
    let cage = call.caller();
    if filter.closed.is_empty() && filter.deny_write.is_empty() {
        return call.forward(cage);
    }
    let name = Name::take(call, path_at, directory, false)?;
    if name.stat().is_ok_and(|stat| filter.is_needed(&stat)) {
        return Err(EACCES);
    }
    if !filter.deny_write.is_empty() && filter.denies_moving(&name.path()?) {
        return Err(filter.refuse(cage, format_args!("removing {name}")));
    }
    name.place().unlink(flags)
}

/// The place of a name that a call makes, which must not be one that may not be written.
fn made(call: &Call, path_at: usize, directory: Option<usize>) -> Result<Name, Errno> {
    let name = Name::take(call, path_at, directory, false)?;
    if filter().denies_moving(&name.path()?) {
        let cage = call.caller();
        return Err(filter().refuse(cage, format_args!("making {name}")));
    }
    Ok(name)
}

/// symlink: text, path.
pub fn symlink(call: &Call) -> Result<i32, Errno> {
    symlink_with(call, 1, None)
}

/// symlinkat: text, directory, path.
pub fn symlinkat(call: &Call) -> Result<i32, Errno> {
    symlink_with(call, 2, Some(1))
}

fn symlink_with(call: &Call, path_at: usize, directory: Option<usize>) -> Result<i32, Errno> {
    if filter().deny_write.is_empty() {
        return call.forward(call.caller());
    }
    made(call, path_at, directory)?
        .place()
        .make_symlink(call.arg(0))
}

/// mknod: path, mode, device.
pub fn mknod(call: &Call) -> Result<i32, Errno> {
    let cage = call.cage_of(1);
    if filter().deny_write.is_empty() {
        return call.forward(cage);
    }
    let name = made(call, 0, None)?;
    name.place()
        .make_node(cage, call.int(1) as u32, call.arg(2))
}
