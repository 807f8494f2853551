//! Calls that give files other names: no file gets under other rules by that, and none of the
//! grate's own is removed or replaced.

use super::filter;
use super::names::{Name, c_string};
use grate_rs::constants::{error, fs};
use grate_rs::{Arg, Call, Errno, own_buffer};
use std::ffi::CString;

/// renameat2: both names change their files.
const RENAME_EXCHANGE: i32 = 2;

/// What is done to two names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    /// The file leaves its old name.
    Move,
    /// The file has both names, or each name the other's file.
    Share,
}

/// rename: path, path.
pub fn rename(call: &Call) -> Result<i32, Errno> {
    two(call, [None, None], [0, 1], Deed::Move, false)
}

/// renameat: directory, path, directory, path.
pub fn renameat(call: &Call) -> Result<i32, Errno> {
    two_at(call, Deed::Move, false)
}

/// renameat2: as renameat, with flags.
pub fn renameat2(call: &Call) -> Result<i32, Errno> {
    let exchanges = call.int(4) & RENAME_EXCHANGE != 0;
    two_at(
        call,
        if exchanges { Deed::Share } else { Deed::Move },
        false,
    )
}

/// link: path, path.
pub fn link(call: &Call) -> Result<i32, Errno> {
    two(call, [None, None], [0, 1], Deed::Share, false)
}

/// linkat: directory, path, directory, path, flags.
pub fn linkat(call: &Call) -> Result<i32, Errno> {
    two_at(call, Deed::Share, call.int(4) & fs::AT_SYMLINK_FOLLOW != 0)
}

fn two_at(call: &Call, deed: Deed, follow: bool) -> Result<i32, Errno> {
    let directories = [Some(call.arg(0)), Some(call.arg(2))];
    two(call, directories, [1, 3], deed, follow)
}

fn two(
    call: &Call,
    directories: [Option<Arg>; 2],
    [from_at, to_at]: [usize; 2],
    deed: Deed,
    follow: bool,
) -> Result<i32, Errno> {
    let filter = filter();
    let cage = call.cage_of(from_at);
    if !filter.judges_paths() && filter.closed.is_empty() {
        return call.forward(cage);
    }
    let from = Name::read(call, directories[0], from_at)?;
    let to = Name::read(call, directories[1], to_at)?;
    // Where there is nothing to move, the kernel says so.
    let stat = if follow { from.stat() } else { from.lstat() };
    let Ok(stat) = stat else {
        return call.forward(cage);
    };
    if filter.is_closed(&stat) || to.lstat().is_ok_and(|stat| filter.is_closed(&stat)) {
        return Err(Errno(error::EACCES));
    }
    if !filter.judges_paths() {
        return call.forward(cage);
    }
    let paths = [from.resolve(follow)?, to.resolve(false)?];
    if paths
        .iter()
        .any(|path| filter.denies_writing(path.as_deref()))
    {
        return Err(filter.refuse(cage, format_args!("{from} to {to}")));
    }
    // Programs copy then, under the rules of the new name.
    if stat.is_directory() || changes_rules(&paths, deed) {
        return Err(Errno(error::EXDEV));
    }
    // What was judged is what is moved.
    let [Some(from_path), Some(to_path)] = paths else {
        return Err(Errno(error::EXDEV));
    };
    let (from_path, to_path) = (again(&from, from_path)?, again(&to, to_path)?);
    let mut args = *call.args();
    args[from_at] = own_buffer(from_path.as_ptr());
    args[to_at] = own_buffer(to_path.as_ptr());
    call.forward_with(cage, &args)
}

/// The path to pass on. A slash at its end has a meaning.
fn again(name: &Name, mut resolved: Vec<u8>) -> Result<CString, Errno> {
    if name.text().ends_with(b"/") && !resolved.ends_with(b"/") {
        resolved.push(b'/');
    }
    c_string(resolved)
}

/// Whether a file at both of these paths, one after the other, could be written by fewer rules
/// than the path it has then asks for.
fn changes_rules([from, to]: &[Option<Vec<u8>>; 2], deed: Deed) -> bool {
    let Some(redaction) = &filter().redaction else {
        return false;
    };
    let [from, to] = [from, to].map(|path| redaction.applying_to(path.as_deref()));
    match deed {
        Deed::Move => !to.is_subset(&from) || redaction.is_append_only(&to),
        Deed::Share => to != from,
    }
}

/// unlink: path.
pub fn unlink(call: &Call) -> Result<i32, Errno> {
    guarded(call, None, 0)
}

/// unlinkat: directory, path, flags.
pub fn unlinkat(call: &Call) -> Result<i32, Errno> {
    guarded(call, Some(call.arg(0)), 1)
}

fn guarded(call: &Call, directory: Option<Arg>, path_at: usize) -> Result<i32, Errno> {
    if !filter().closed.is_empty() {
        let name = Name::read(call, directory, path_at)?;
        if name.lstat().is_ok_and(|stat| filter().is_closed(&stat)) {
            return Err(Errno(error::EACCES));
        }
    }
    call.forward(call.cage_of(path_at))
}

/// symlink and mknod make a name: where it stands in the arguments.
fn made(call: &Call, directory: Option<Arg>, path_at: usize) -> Result<i32, Errno> {
    let cage = call.cage_of(path_at);
    if !filter().deny_write.is_empty() {
        let name = Name::read(call, directory, path_at)?;
        let path = name.resolve(false)?;
        if filter().denies_writing(path.as_deref()) {
            return Err(filter().refuse(cage, format_args!("making {name}")));
        }
    }
    call.forward(cage)
}

/// symlink: text, path.
pub fn symlink(call: &Call) -> Result<i32, Errno> {
    made(call, None, 1)
}

/// symlinkat: text, directory, path.
pub fn symlinkat(call: &Call) -> Result<i32, Errno> {
    made(call, Some(call.arg(1)), 2)
}

/// mknod: path, mode, device.
pub fn mknod(call: &Call) -> Result<i32, Errno> {
    made(call, None, 0)
}
