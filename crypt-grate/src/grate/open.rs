//! open and openat.

use super::kernel::{self, File, Inode, Stat, int, pass};
use super::options::Plaintext;
use super::state;
use super::state::{OpenFile, Opened, State, lock};
use crypt_grate::sealed_file::{Content, Error};
use grate_rs::constants::{SYS_FCNTL, SYS_LSTAT, SYS_NEWFSTATAT, SYS_STAT, error, fs};
use grate_rs::paths;
use grate_rs::{Arg, CageFd, Call, Errno, GuestPtr};
use std::sync::Arc;

const EACCES: Errno = Errno(error::EACCES);

/// A path argument with what it is relative to.
#[derive(Clone, Copy, Debug)]
pub struct PathArg {
    /// The directory's descriptor, for the `*at` calls.
    pub directory: Option<Arg>,
    /// The path.
    pub path: Arg,
}

impl PathArg {
    /// The path of a call without a directory.
    pub fn plain(call: &Call, index: usize) -> Self {
        Self {
            directory: None,
            path: call.arg(index),
        }
    }

    /// The path of an `*at` call; its directory is the argument before.
    pub fn at(call: &Call, index: usize) -> Self {
        Self {
            directory: Some(call.arg(index - 1)),
            path: call.arg(index),
        }
    }

    /// stat(2) or lstat(2) of it, for `target`.
    ///
    /// # Errors
    /// As stat.
    pub fn stat(&self, target: u64, follow: bool) -> Result<Stat, Errno> {
        match (self.directory, follow) {
            (None, true) => kernel::stat_with(SYS_STAT, target, &[self.path], 1),
            (None, false) => kernel::stat_with(SYS_LSTAT, target, &[self.path], 1),
            (Some(directory), _) => {
                let flags = if follow { 0 } else { fs::AT_SYMLINK_NOFOLLOW };
                let args = [directory, self.path, int(target, flags)];
                kernel::stat_with(SYS_NEWFSTATAT, target, &args, 2)
            }
        }
    }

    /// Opens it for the grate itself.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(&self, flags: i32) -> Result<kernel::OwnFd, Errno> {
        kernel::open_for_grate(self.directory, self.path, flags)
    }

    /// The path's text.
    fn text(&self) -> Result<Vec<u8>, Errno> {
        GuestPtr {
            addr: self.path.value,
            cage: self.path.cage,
        }
        .read_cstr(paths::PATH_MAX)
    }

    /// Its absolute path without symlinks; `None` where it starts at a directory that was not
    /// seen opened.
    ///
    /// # Errors
    /// As the look-up.
    pub fn resolve(
        &self,
        state: &State,
        caller: u64,
        follow: bool,
    ) -> Result<Option<Vec<u8>>, Errno> {
        let path = self.text()?;
        let from: Vec<u8> = match self.directory {
            _ if path.starts_with(b"/") => Vec::new(),
            Some(directory) if directory.value as i32 != fs::AT_FDCWD => {
                let fd = CageFd {
                    cage: directory.cage,
                    fd: directory.value as i32,
                };
                match state.directory(fd) {
                    Some(known) => known.to_vec(),
                    None => return Ok(None),
                }
            }
            _ => paths::current_directory(caller)?,
        };
        paths::resolve(caller, &from, &path, follow).map(Some)
    }

    /// Whether what it names is to be sealed. What can't be told is: where the look-up fails, so
    /// will the call, with its own error.
    pub fn is_protected(&self, state: &State, caller: u64, follow: bool) -> bool {
        state.subtrees.is_everything()
            || self
                .resolve(state, caller, follow)
                .ok()
                .flatten()
                .is_none_or(|path| state.subtrees.contains(&path))
    }
}

/// open: path, flags, mode.
pub fn open(call: &Call) -> Result<i32, Errno> {
    open_with(call, PathArg::plain(call, 0), 1)
}

/// openat: directory, path, flags, mode.
pub fn openat(call: &Call) -> Result<i32, Errno> {
    open_with(call, PathArg::at(call, 1), 2)
}

fn open_with(call: &Call, path: PathArg, flags_at: usize) -> Result<i32, Errno> {
    let state = state();
    let cage = call.cage_of(flags_at);
    let flags = call.int(flags_at);
    let is_temporary = flags & fs::O_TMPFILE == fs::O_TMPFILE;
    let exclusive = fs::O_CREAT | fs::O_EXCL;
    let follow = flags & fs::O_NOFOLLOW == 0 && flags & exclusive != exclusive;
    let changes = flags & fs::O_ACCMODE != fs::O_RDONLY || flags & fs::O_TRUNC != 0;
    if flags & fs::O_PATH == 0 && flags & fs::O_DIRECT != 0 {
        // Chunks don't lie on the disk as O_DIRECT would have them.
        return Err(Errno(error::EINVAL));
    }
    let protected = path.is_protected(state, cage, follow);
    // What is there decides how it may be opened: a pipe opened for reading too would be another
    // thing, and the key must not be truncated on the way.
    let mut below = flags;
    if changes
        && !is_temporary
        && let Ok(stat) = path.stat(cage, follow)
    {
        state.check_key(stat.inode())?;
        if !stat.is_regular() {
            return pass(call, flags_at);
        }
    }
    let as_file =
        protected && flags & fs::O_PATH == 0 && (is_temporary || flags & fs::O_DIRECTORY == 0);
    if as_file {
        below &= !(fs::O_APPEND | fs::O_TRUNC);
        if changes {
            // Completing a chunk needs what is there already.
            below = (below & !fs::O_ACCMODE) | fs::O_RDWR;
        }
    }
    let mut args = *call.args();
    args[flags_at] = int(cage, below);
    let fd = call.forward_with(cage, &args)?;
    let opened = CageFd { cage, fd };
    let admitted = opened
        .stat()
        .and_then(|stat| admit(state, path, opened, stat, flags, as_file));
    if let Err(errno) = admitted {
        opened.close();
        return Err(errno);
    }
    if below & fs::O_APPEND != flags & fs::O_APPEND && state.open_file(opened).is_none() {
        // Not a sealed file after all: it has the flag that was taken away for one.
        let kept = flags & (fs::O_APPEND | fs::O_NONBLOCK);
        let args = [int(cage, fd), int(cage, fs::F_SETFL), int(cage, kept)];
        kernel::call(SYS_FCNTL, cage, &args)?;
    }
    Ok(fd)
}

/// Decides what a descriptor just opened is to the grate, and notes it.
fn admit(
    state: &State,
    path: PathArg,
    fd: CageFd,
    stat: Stat,
    flags: i32,
    as_file: bool,
) -> Result<(), Errno> {
    state.check_key(stat.inode())?;
    let cloexec = flags & fs::O_CLOEXEC != 0;
    if stat.is_directory() && !state.subtrees.is_everything() {
        let cage = fd.cage;
        let resolved = path.resolve(state, cage, flags & fs::O_NOFOLLOW == 0)?;
        let directory = resolved.map(|path| Opened::Directory(path.into()));
        state.descriptors.note(fd, directory, cloexec);
        return Ok(());
    }
    let open = if as_file && stat.is_regular() {
        open_sealed(state, path, fd, stat.inode(), flags)?
    } else {
        None
    };
    state.descriptors.note(fd, open.map(Opened::File), cloexec);
    Ok(())
}

/// The sealed file behind a descriptor; `None` for a plain one that may be read.
fn open_sealed(
    state: &State,
    path: PathArg,
    fd: CageFd,
    inode: Inode,
    flags: i32,
) -> Result<Option<Arc<OpenFile>>, Errno> {
    let file = state.file(inode);
    let mut locked = lock(&file);
    let truncates = flags & fs::O_TRUNC != 0;
    let writable = flags & fs::O_ACCMODE != fs::O_RDONLY || truncates;
    let storage = if writable {
        File::to_write(fd)
    } else {
        File::to_read(fd)
    };
    let content = locked.identify(&storage, state.keys());
    match content {
        Ok(Content::Empty | Content::Sealed) => {}
        Ok(Content::Plain) if state.plaintext == Plaintext::Deny => {
            state.explain(format_args!(
                "{}: not sealed: refused (--plaintext read lets it be read)",
                shown(path)
            ));
            return Err(EACCES);
        }
        Ok(Content::Plain) if truncates => {}
        Ok(Content::Plain) if flags & fs::O_ACCMODE == fs::O_RDONLY => return Ok(None),
        Ok(Content::Plain) => {
            state.explain(format_args!(
                "{}: not sealed: it can be read or replaced, not written in place",
                shown(path)
            ));
            return Err(EACCES);
        }
        // What can't be read any more may still be replaced, but not another key's file.
        Err(Error::Sealed(why)) if truncates && !matches!(why, sealed::Error::WrongKey { .. }) => {}
        Err(why) => return Err(state.errno(why, &shown(path))),
    }
    if truncates && content != Ok(Content::Empty) {
        // A new file gets a new salt: nothing of the old one can be put back into it.
        let emptied = locked.empty(&storage);
        emptied.map_err(|why| state.errno(why, &shown(path)))?;
    }
    drop(locked);
    Ok(Some(Arc::new(OpenFile::new(file, flags))))
}

/// A path for a message.
fn shown(path: PathArg) -> String {
    String::from_utf8_lossy(&path.text().unwrap_or_default()).into_owned()
}
