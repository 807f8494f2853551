//! Calls that act on names: the key file is out of their reach, and nothing comes to mean another
//! thing to the keys or to `--encrypt` by them.
//!
//! A name is looked at, and then acted on, in one directory that stays open in between: see
//! [`grate_rs::places`].

use super::state;
use super::state::State;
use grate_rs::constants::{
    SYS_FCHMOD, SYS_FCHMODAT, SYS_FCHOWNAT, SYS_OPENAT, SYS_UTIMENSAT, error, fs,
};
use grate_rs::kernel::{self, OwnFd, int};
use grate_rs::places::Place;
use grate_rs::{Arg, CageFd, Call, Errno, getcageid};

const EACCES: Errno = Errno(error::EACCES);
const EXDEV: Errno = Errno(error::EXDEV);

/// Looks at a file before something is done to it. One that can't be looked at is the call's own
/// to complain about.
fn check_key(state: &State, place: &Place) -> Result<(), Errno> {
    match place.stat() {
        Ok(stat) => state.check_key(stat.inode()),
        Err(_) => Ok(()),
    }
}

/// As [`check_key`], where the name is about to mean something else, or nothing.
fn check_trail(state: &State, place: &Place) -> Result<(), Errno> {
    match place.stat() {
        Ok(stat) => state.check_trail(stat.inode()),
        Err(_) => Ok(()),
    }
}

/// access: path, mode. faccessat: directory, path, mode, flags. They change nothing.
pub fn access(call: &Call) -> Result<i32, Errno> {
    asked(call, 0, None, 0)
}

/// See [`access`].
pub fn faccessat(call: &Call) -> Result<i32, Errno> {
    asked(call, 1, Some(0), late_flags(call, 3))
}

/// Flags of a call that has none on Lind, where the argument may be left out.
fn late_flags(call: &Call, index: usize) -> i32 {
    match call.size(index) {
        cage_libc::sys::UNUSED => 0,
        _ => call.int(index),
    }
}

fn asked(call: &Call, index: usize, directory: Option<usize>, flags: i32) -> Result<i32, Errno> {
    let path = call.take_path_of(index, directory, flags)?;
    if let Ok(stat) = path.stat(flags & fs::AT_SYMLINK_NOFOLLOW == 0) {
        state().check_key(stat.inode())?;
    }
    call.forward(call.caller())
}

/// A call that changes what stands about a file, made on its place: `nr` with these arguments
/// behind directory and name.
fn change(
    call: &Call,
    [index, rest]: [usize; 2],
    directory: Option<usize>,
    flags: i32,
    nr: u64,
) -> Result<i32, Errno> {
    let path = call.take_path_of(index, directory, flags)?;
    if path.is_empty() {
        // By its descriptor, which a key file has none of; or an error.
        return call.forward(call.caller());
    }
    let place = path.place(flags & fs::AT_SYMLINK_NOFOLLOW == 0)?;
    check_key(state(), &place)?;
    let own = getcageid();
    let mut args: Vec<Arg> = place.args().to_vec();
    args.extend((index + 1..=rest).map(|index| call.arg(index)));
    // Not through a symlink that has taken the name since.
    args.push(int(
        own,
        (flags & !fs::AT_EMPTY_PATH) | fs::AT_SYMLINK_NOFOLLOW,
    ));
    match kernel::call(nr, own, &args) {
        Err(Errno(error::ENOTSUP)) if nr == SYS_FCHMODAT => change_mode(&place, call.arg(rest)),
        result => result,
    }
}

/// Changes the mode of a file where fchmodat has no AT_SYMLINK_NOFOLLOW, by a descriptor of it.
fn change_mode(place: &Place, mode: Arg) -> Result<i32, Errno> {
    const FLAGS: i32 = fs::O_NOFOLLOW | fs::O_NONBLOCK | fs::O_CLOEXEC;
    let stat = place.stat()?;
    if !stat.is_regular() && !stat.is_directory() {
        return Err(Errno(error::ENOTSUP));
    }
    let own = getcageid();
    let [directory, name] = place.args();
    let fd = kernel::call(
        SYS_OPENAT,
        own,
        &[directory, name, int(own, FLAGS), int(own, 0)],
    )?;
    let file = OwnFd(CageFd { cage: own, fd });
    state().check_key(file.0.stat()?.inode())?;
    kernel::call(SYS_FCHMOD, own, &[file.0.arg(), mode])
}

/// chmod: path, mode.
pub fn chmod(call: &Call) -> Result<i32, Errno> {
    change(call, [0, 1], None, 0, SYS_FCHMODAT)
}

/// fchmodat: directory, path, mode, flags.
pub fn fchmodat(call: &Call) -> Result<i32, Errno> {
    change(call, [1, 2], Some(0), late_flags(call, 3), SYS_FCHMODAT)
}

/// chown: path, user, group.
pub fn chown(call: &Call) -> Result<i32, Errno> {
    change(call, [0, 2], None, 0, SYS_FCHOWNAT)
}

/// lchown: as chown, of a symlink itself.
pub fn lchown(call: &Call) -> Result<i32, Errno> {
    change(call, [0, 2], None, fs::AT_SYMLINK_NOFOLLOW, SYS_FCHOWNAT)
}

/// fchownat: directory, path, user, group, flags.
pub fn fchownat(call: &Call) -> Result<i32, Errno> {
    change(call, [1, 3], Some(0), call.int(4), SYS_FCHOWNAT)
}

/// utimensat: directory, path, times, flags; without a path the times of the descriptor.
pub fn utimensat(call: &Call) -> Result<i32, Errno> {
    if call.is_null(1) {
        return call.forward(call.caller());
    }
    change(call, [1, 2], Some(0), call.int(3), SYS_UTIMENSAT)
}

/// unlink: path.
pub fn unlink(call: &Call) -> Result<i32, Errno> {
    remove(call, 0, None, 0)
}

/// rmdir: path.
pub fn rmdir(call: &Call) -> Result<i32, Errno> {
    remove(call, 0, None, fs::AT_REMOVEDIR)
}

/// unlinkat: directory, path, flags.
pub fn unlinkat(call: &Call) -> Result<i32, Errno> {
    remove(call, 1, Some(0), call.int(2))
}

fn remove(call: &Call, index: usize, directory: Option<usize>, flags: i32) -> Result<i32, Errno> {
    let place = call.take_path(index, directory)?.place(false)?;
    check_trail(state(), &place)?;
    place.unlink(flags)
}

/// rename: path, path.
pub fn rename(call: &Call) -> Result<i32, Errno> {
    rename_with(call, [0, 1], [None, None], 0)
}

/// renameat: directory, path, directory, path.
pub fn renameat(call: &Call) -> Result<i32, Errno> {
    rename_with(call, [1, 3], [Some(0), Some(2)], 0)
}

/// renameat2: as renameat, with flags.
pub fn renameat2(call: &Call) -> Result<i32, Errno> {
    rename_with(call, [1, 3], [Some(0), Some(2)], call.int(4))
}

fn rename_with(
    call: &Call,
    [from, to]: [usize; 2],
    directories: [Option<usize>; 2],
    flags: i32,
) -> Result<i32, Errno> {
    let state = state();
    let from = call.take_path(from, directories[0])?;
    let to = call.take_path(to, directories[1])?;
    let (from, to) = (from.place(false)?, to.place(false)?);
    for place in [&from, &to] {
        check_trail(state, place)?;
    }
    check_border(state, &from, &to)?;
    from.rename_to(&to, flags)
}

/// Keeps files on their side of the border of `--encrypt`, and the border where it is: programs
/// copy then.
fn check_border(state: &State, from: &Place, to: &Place) -> Result<(), Errno> {
    if state.subtrees.is_everything() {
        return Ok(());
    }
    let (from, to) = (from.path()?, to.path()?);
    if state.subtrees.is_above(&from) || state.subtrees.is_above(&to) {
        state.explain(format_args!(
            "what leads to a path of --encrypt stays where it is"
        ));
        return Err(EACCES);
    }
    if state.subtrees.contains(&from) != state.subtrees.contains(&to) {
        return Err(EXDEV);
    }
    Ok(())
}

/// link: path, path.
pub fn link(call: &Call) -> Result<i32, Errno> {
    link_with(call, [0, 1], [None, None], 0)
}

/// linkat: directory, path, directory, path, flags.
pub fn linkat(call: &Call) -> Result<i32, Errno> {
    link_with(call, [1, 3], [Some(0), Some(2)], call.int(4))
}

fn link_with(
    call: &Call,
    [from, to]: [usize; 2],
    directories: [Option<usize>; 2],
    flags: i32,
) -> Result<i32, Errno> {
    let state = state();
    let from = call.take_path_of(from, directories[0], flags)?;
    let to = call.take_path(to, directories[1])?;
    if from.is_empty() && flags & fs::AT_EMPTY_PATH != 0 {
        // A descriptor's file has no name to be judged by. The key's can't be had.
        if !state.subtrees.is_everything() {
            return Err(EXDEV);
        }
        return call.forward(call.caller());
    }
    if flags & !(fs::AT_SYMLINK_FOLLOW | fs::AT_EMPTY_PATH) != 0 {
        return Err(Errno(error::EINVAL));
    }
    let from = from.place(flags & fs::AT_SYMLINK_FOLLOW != 0)?;
    let to = to.place(false)?;
    check_trail(state, &from)?;
    check_key(state, &to)?;
    check_border(state, &from, &to)?;
    from.link_to(&to)
}

/// symlink: text, path.
pub fn symlink(call: &Call) -> Result<i32, Errno> {
    symlink_with(call, 1, None)
}

/// symlinkat: text, directory, path.
pub fn symlinkat(call: &Call) -> Result<i32, Errno> {
    symlink_with(call, 2, Some(1))
}

/// A link's text is a name, and names are not sealed. But no link takes the place of a directory
/// that `--encrypt` names.
fn symlink_with(call: &Call, index: usize, directory: Option<usize>) -> Result<i32, Errno> {
    let state = state();
    if state.subtrees.is_everything() {
        return call.forward(call.caller());
    }
    let place = call.take_path(index, directory)?.place(false)?;
    if state.subtrees.is_above(&place.path()?) {
        state.explain(format_args!(
            "what leads to a path of --encrypt is no symlink"
        ));
        return Err(EACCES);
    }
    place.make_symlink(call.arg(0))
}
