//! The host's devices that programs expect, lent to cages whose root has none of them.

use crate::path::Root;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::sync::Arc;

const FOLDER: &[u8] = b"dev";
const NAMES: [&[u8]; 6] = [b"null", b"zero", b"full", b"random", b"urandom", b"tty"];

/// The device that a path names and that the root has no node of its own for.
pub(super) fn lent(root: &Root, from: &Arc<OwnedFd>, path: &[u8]) -> Option<&'static [u8]> {
    let name = named(root, from, path)?;
    let own = root.open_at(from, path, OFlags::PATH | OFlags::NOFOLLOW, 0);
    (own.err()? == Errno::NOENT).then_some(name)
}

fn named(root: &Root, from: &Arc<OwnedFd>, path: &[u8]) -> Option<&'static [u8]> {
    let last = path.rsplit(|&byte| byte == b'/').next()?;
    // Looked at before the directory, which takes a call to find out, for the sake of all others.
    let name = NAMES.into_iter().find(|&name| name == last)?;
    let mut folders = Vec::new();
    if !path.starts_with(b"/") {
        walk(&mut folders, &root.path_of(from).ok()?);
    }
    walk(&mut folders, path);
    (folders == [FOLDER.to_vec(), name.to_vec()]).then_some(name)
}

/// Follows a path by its letters alone.
fn walk(folders: &mut Vec<Vec<u8>>, path: &[u8]) {
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                folders.pop();
            }
            name => folders.push(name.to_vec()),
        }
    }
}

/// Opens a device that [`lent`] named.
pub(super) fn open(name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    if flags.contains(OFlags::CREATE | OFlags::EXCL) {
        return Err(Errno::EXIST);
    }
    let flags = flags.difference(OFlags::CREATE | OFlags::EXCL) | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, [b"/dev/", name].concat(), flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_listed_names_are_lent() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("dev/sub")).unwrap();
        std::fs::write(dir.path().join("dev/zero"), "its own").unwrap();
        let root = Root::open(dir.path()).unwrap();
        let top = root.top();
        let dev = Arc::new(root.open_at(&top, b"dev", OFlags::PATH, 0).unwrap());
        for path in ["/dev/null", "dev/null", "../dev//./null", "/x/../dev/null"] {
            assert_eq!(
                lent(&root, &top, path.as_bytes()),
                Some(&b"null"[..]),
                "{path}"
            );
        }
        assert_eq!(lent(&root, &dev, b"null"), Some(&b"null"[..]));
        for path in [
            "/dev/zero",
            "/dev/sda",
            "/null",
            "/dev/sub/null",
            "/dev/null/",
            "",
        ] {
            assert_eq!(lent(&root, &top, path.as_bytes()), None, "{path}");
        }
        let null = open(b"null", OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC).unwrap();
        assert_eq!(rustix::io::write(&null, b"gone"), Ok(4));
        assert_eq!(
            open(b"null", OFlags::RDWR | OFlags::CREATE | OFlags::EXCL).unwrap_err(),
            Errno::EXIST
        );
    }
}
