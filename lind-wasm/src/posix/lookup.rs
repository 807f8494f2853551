//! What path arguments name.

use super::{Call, devices};
use crate::path::{self, Leaf, Root};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// `dirfd` for the current directory.
const AT_FDCWD: i32 = -100;
/// Do not follow a link in the last place.
pub(super) const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
/// Follow a link in the last place.
pub(super) const AT_SYMLINK_FOLLOW: u32 = 0x400;
/// An empty path means the file of the descriptor.
pub(super) const AT_EMPTY_PATH: u32 = 0x1000;

/// Where a relative path starts.
#[derive(Clone, Copy)]
pub(super) enum Dir {
    /// At the current directory.
    Cwd,
    /// At the descriptor in that argument, in the table of the argument's cage.
    Own(usize),
    /// At the descriptor in that argument, in the target's table.
    Target(usize),
}

/// A path argument and where it starts.
pub(super) struct Lookup<'a> {
    root: &'a Root,
    from: Arc<OwnedFd>,
    path: Vec<u8>,
}

/// The current directory of the cage that an argument belongs to.
fn cwd(call: &Call<'_>, index: usize) -> Result<Arc<OwnedFd>, Errno> {
    let cage = call.cage_of(index)?;
    let fs = cage.fs.read().unwrap_or_else(|e| e.into_inner());
    Ok(fs.cwd.clone())
}

/// The descriptor that a path starts at, whatever it is; `None` for the current directory.
fn descriptor(call: &Call<'_>, dir: Dir) -> Result<Option<Arc<OwnedFd>>, Errno> {
    match dir {
        Dir::Own(fd) if call.int(fd) != AT_FDCWD => call.file(fd).map(Some),
        Dir::Target(fd) if call.int(fd) != AT_FDCWD => call.target_file(fd).map(Some),
        _ => Ok(None),
    }
}

impl<'a> Lookup<'a> {
    /// The path in argument `index`.
    ///
    /// # Errors
    /// `ENOENT` when it is empty, `ENOTDIR` and `EBADF` for where it starts.
    pub(super) fn new(call: &Call<'a>, dir: Dir, index: usize) -> Result<Self, Errno> {
        Self::of(call, dir, index, call.path(index)?)
    }

    /// A path that came with argument `index` in another form than a string.
    ///
    /// # Errors
    /// As [`Lookup::new`].
    pub(super) fn of(
        call: &Call<'a>,
        dir: Dir,
        index: usize,
        path: Vec<u8>,
    ) -> Result<Self, Errno> {
        let root = &call.rt.root;
        let path = match path.is_empty() && call.rt.strict && descriptor(call, dir)?.is_none() {
            // Lind puts the current directory before it.
            true => root.path_of(&cwd(call, index)?)?,
            false => path,
        };
        let from = match path.first() {
            None => return Err(Errno::NOENT),
            Some(b'/') => root.top(),
            Some(_) => match descriptor(call, dir)? {
                None => cwd(call, index)?,
                Some(file) => {
                    let mode = path::stat(&file)?.st_mode;
                    if FileType::from_raw_mode(mode) != FileType::Directory {
                        return Err(Errno::NOTDIR);
                    }
                    file
                }
            },
        };
        Ok(Self { root, from, path })
    }

    /// Opens it, or the device that stands in for it.
    ///
    /// # Errors
    /// As open(2).
    pub(super) fn open(&self, flags: OFlags, mode: u32) -> Result<OwnedFd, Errno> {
        match devices::lent(self.root, &self.from, &self.path) {
            Some(device) => devices::open(device, flags),
            None => self.root.open_at(&self.from, &self.path, flags, mode),
        }
    }

    /// Opens what it names with `O_PATH`, for calls that act on that without its content.
    /// Devices do not stand in: they are the host's, and not for a cage to change.
    ///
    /// # Errors
    /// As path resolution has them.
    pub(super) fn node(&self, follow: bool) -> Result<OwnedFd, Errno> {
        self.root
            .open_at(&self.from, &self.path, node_flags(follow), 0)
    }

    /// The last name and its directory, for calls that act on the name.
    ///
    /// # Errors
    /// As path resolution has them; `at_root` when the path is the root itself.
    pub(super) fn leaf(&self, at_root: Errno) -> Result<Leaf, Errno> {
        if self.path.iter().all(|&byte| byte == b'/') {
            return Err(at_root);
        }
        self.root.leaf(&self.from, &self.path)
    }
}

fn node_flags(follow: bool) -> OFlags {
    if follow {
        OFlags::PATH
    } else {
        OFlags::PATH | OFlags::NOFOLLOW
    }
}

/// What a path argument names, or with `AT_EMPTY_PATH` the file of the descriptor. To be looked
/// at: devices stand in.
///
/// # Errors
/// As path resolution has them.
pub(super) fn seen(
    call: &Call<'_>,
    dir: Dir,
    index: usize,
    flags: u32,
) -> Result<Arc<OwnedFd>, Errno> {
    let follow = flags & AT_SYMLINK_NOFOLLOW == 0;
    named(call, dir, index, flags, |lookup| {
        lookup.open(node_flags(follow), 0)
    })
}

/// As [`seen`], to be changed: no device stands in.
///
/// # Errors
/// As path resolution has them.
pub(super) fn changed(
    call: &Call<'_>,
    dir: Dir,
    index: usize,
    flags: u32,
) -> Result<Arc<OwnedFd>, Errno> {
    let follow = flags & AT_SYMLINK_NOFOLLOW == 0;
    named(call, dir, index, flags, |lookup| lookup.node(follow))
}

fn named(
    call: &Call<'_>,
    dir: Dir,
    index: usize,
    flags: u32,
    open: impl FnOnce(&Lookup<'_>) -> Result<OwnedFd, Errno>,
) -> Result<Arc<OwnedFd>, Errno> {
    let path = call.path(index)?;
    if path.is_empty() && flags & AT_EMPTY_PATH != 0 {
        return match descriptor(call, dir)? {
            Some(file) => Ok(file),
            None => cwd(call, index),
        };
    }
    open(&Lookup::of(call, dir, index, path)?).map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// Each call that takes a path, given one that would lead out of the root if it could.
    #[test]
    fn no_call_leads_out() {
        let cage = Fixture::new();
        let outside = cage.dir.path();
        fs::create_dir(outside.join("folder")).unwrap();
        fs::write(outside.join("folder/inner"), "outside").unwrap();
        symlink("../secret", cage.path("up")).unwrap();
        symlink(outside.join("secret"), cage.path("absolute")).unwrap();
        symlink("../folder", cage.path("away")).unwrap();
        fs::write(cage.path("file"), "inside").unwrap();
        let top = cage.open("/", 0o200_000);
        let here = (-100i64) as u64;
        let seen = || {
            let file = fs::metadata(outside.join("secret")).unwrap();
            (
                fs::read(outside.join("secret")).unwrap(),
                fs::read(outside.join("folder/inner")).unwrap(),
                (file.permissions(), file.modified().unwrap()),
                fs::read_dir(outside).unwrap().count(),
                fs::read_dir(outside.join("folder")).unwrap().count(),
            )
        };
        let before = seen();
        for path in [
            "../secret",
            "/../secret",
            "/./../../secret",
            "up",
            "absolute",
            "../folder/inner",
            "away/inner",
            "away/",
        ] {
            let path = cage.text(path);
            let refused = |nr, args: &[u64]| {
                let answer = cage.call(nr, args);
                assert!(answer.is_err(), "{nr}: {answer:?}");
            };
            for nr in [2, 4, 21, 76, 80, 84, 90, 92, 137] {
                refused(nr, &[path, 0o2, 0o666]);
            }
            for dir in [top, here] {
                refused(257, &[dir, path, 0o2, 0]);
                refused(262, &[dir, path, 0x3000, 0]);
                refused(268, &[dir, path, 0o777, 0]);
                refused(269, &[dir, path, 0, 0]);
                refused(280, &[dir, path, 0, 0]);
                refused(260, &[dir, path, 0, 0, 0]);
                let fresh = cage.put(0x2000, b"fresh\0");
                refused(265, &[dir, path, dir, fresh, 0x400]);
            }
        }
        // New names by such paths are made inside, or not at all.
        for path in ["/../made", "../made", "away/made", "up"] {
            let path = cage.text(path);
            let file = cage.put(0x2000, b"/file\0");
            for nr in [83, 84, 133, 87] {
                let _ = cage.call(nr, &[path, 0o644, 0]);
            }
            let _ = cage.call(2, &[path, 0o102, 0o644]);
            for nr in [86, 88, 82] {
                let _ = cage.call(nr, &[file, path]);
            }
        }
        assert_eq!(seen(), before);
    }
}
