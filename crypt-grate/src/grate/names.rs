//! Calls that act on names: the key file is out of their reach.

use super::open::PathArg;
use super::state;
use grate_rs::{Call, Errno};

/// A name among the arguments of a call.
enum Name {
    /// A path, from the current directory; symlinks followed.
    Plain(usize),
    /// A path that means the link itself where it is one.
    Link(usize),
    /// As `Link`, with its directory's descriptor in the argument before.
    LinkAt(usize),
    /// As `LinkAt`, symlinks followed.
    At(usize),
}

fn guard(call: &Call, names: &[Name]) -> Result<i32, Errno> {
    let state = state();
    let caller = call.cage_of(0);
    for name in names {
        let (path, follow) = match *name {
            Name::Plain(index) => (PathArg::plain(call, index), true),
            Name::Link(index) => (PathArg::plain(call, index), false),
            Name::At(index) => (PathArg::at(call, index), true),
            Name::LinkAt(index) => (PathArg::at(call, index), false),
        };
        // A name that can't be looked up is the call's own to complain about.
        if let Ok(stat) = path.stat(caller, follow) {
            state.check_key(stat.inode())?;
        }
    }
    call.forward(caller)
}

/// access, chmod, chown: path first.
pub fn one_path(call: &Call) -> Result<i32, Errno> {
    guard(call, &[Name::Plain(0)])
}

/// unlink, lchown: path first, not followed.
pub fn one_link(call: &Call) -> Result<i32, Errno> {
    guard(call, &[Name::Link(0)])
}

/// rename, link: two paths.
pub fn two_links(call: &Call) -> Result<i32, Errno> {
    guard(call, &[Name::Link(0), Name::Link(1)])
}

/// faccessat, fchmodat, utimensat: directory and path.
pub fn one_path_at(call: &Call) -> Result<i32, Errno> {
    if call.pointer(1).is_null() {
        return call.forward(call.cage_of(0));
    }
    guard(call, &[Name::At(1)])
}

/// unlinkat, fchownat: directory and path, either way of following.
pub fn one_link_at(call: &Call) -> Result<i32, Errno> {
    guard(call, &[Name::LinkAt(1), Name::At(1)])
}

/// unlinkat: directory and path.
pub fn unlinkat(call: &Call) -> Result<i32, Errno> {
    guard(call, &[Name::LinkAt(1)])
}

/// renameat, renameat2, linkat: two directories with their paths.
pub fn two_links_at(call: &Call) -> Result<i32, Errno> {
    guard(call, &[Name::LinkAt(1), Name::LinkAt(3)])
}
