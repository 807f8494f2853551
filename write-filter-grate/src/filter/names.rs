//! Names: which file a path argument leads to, and what it is called.

use super::filter;
use grate_rs::constants::{
    SYS_LSTAT, SYS_NEWFSTATAT, SYS_OPEN, SYS_OPENAT, SYS_READLINK, SYS_READLINKAT, SYS_STAT, error,
    fs,
};
use grate_rs::kernel::{self, Stat, int, value};
use grate_rs::paths::{self, MOST_LINKS, PATH_MAX, current_directory};
use grate_rs::{Arg, CageFd, Call, Errno, own_buffer};
use std::ffi::CString;

/// The last part of a path, without slashes behind it.
pub fn last_part(path: &[u8]) -> &[u8] {
    let path = trimmed(path);
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => &path[slash + 1..],
        None => path,
    }
}

fn trimmed(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|&byte| byte != b'/');
    &path[..end.map_or(0, |at| at + 1)]
}

/// A path argument, read once: what is judged is what is opened.
#[derive(Debug)]
pub struct Name {
    /// The cage it is looked up for: where an inner grate passes a path on in a call of its own,
    /// that is not the cage that the call is made for.
    owner: u64,
    /// The directory's descriptor, for the `*at` calls.
    directory: Option<Arg>,
    path: CString,
}

impl Name {
    /// Reads the path in argument `index`; `directory` is the argument it is relative to.
    ///
    /// # Errors
    /// EFAULT, ENAMETOOLONG, and as getcwd(2).
    pub fn read(call: &Call, directory: Option<Arg>, index: usize) -> Result<Self, Errno> {
        let path = call.pointer(index).read_cstr(PATH_MAX)?;
        let directory = directory.filter(|fd| fd.value as i32 != fs::AT_FDCWD);
        let owner = directory.unwrap_or(call.arg(index)).cage;
        let is_absolute = path.starts_with(b"/");
        let path = if directory.is_some() || is_absolute || path.is_empty() {
            path
        } else {
            // In this grate's memory a relative path would start where the grate is.
            [current_directory(owner)?, b"/".to_vec(), path].concat()
        };
        Ok(Self {
            owner,
            directory,
            path: c_string(path)?,
        })
    }

    /// Follows symlinks in the last part as long as all names met are permitted. What then
    /// remains is the file's own name. Answers whether it is permitted.
    ///
    /// # Errors
    /// ELOOP, ENAMETOOLONG.
    pub fn follow(&mut self) -> Result<bool, Errno> {
        for _ in 0..=MOST_LINKS {
            if !self.is_permitted() {
                return Ok(false);
            }
            let Some(target) = self.link()? else {
                return Ok(true);
            };
            self.path = if target.starts_with(b"/") {
                c_string(target)?
            } else {
                let path = trimmed(self.path.as_bytes());
                let parent = path.len() - last_part(path).len();
                c_string([&path[..parent], &target].concat())?
            };
        }
        Err(Errno(error::ELOOP))
    }

    /// Whether the last part of the path is permitted.
    pub fn is_permitted(&self) -> bool {
        filter().extensions.permit(self.path.as_bytes())
    }

    /// What it says, where it is a symlink.
    fn link(&self) -> Result<Option<Vec<u8>>, Errno> {
        let mut target = vec![0; PATH_MAX];
        let buffer = own_buffer(target.as_mut_ptr());
        let len = value(self.owner, PATH_MAX as u64);
        let result = match self.directory {
            Some(directory) => kernel::call(
                SYS_READLINKAT,
                self.owner,
                &[directory, self.path(), buffer, len],
            ),
            None => kernel::call(SYS_READLINK, self.owner, &[self.path(), buffer, len]),
        };
        match result {
            Ok(len) => {
                target.truncate(len as usize);
                Ok(Some(target))
            }
            // Not a symlink, or nothing that can be opened either.
            Err(_) => Ok(None),
        }
    }

    fn path(&self) -> Arg {
        own_buffer(self.path.as_ptr())
    }

    /// Its absolute path without symlinks; `follow` says whether one in the last part is followed.
    /// `None` where it starts at a directory that was not seen opened.
    ///
    /// # Errors
    /// ELOOP, ENAMETOOLONG.
    pub fn resolve(&self, follow: bool) -> Result<Option<Vec<u8>>, Errno> {
        let from = match self.directory {
            // The path is absolute.
            None => None,
            Some(fd) => {
                let fd = CageFd {
                    cage: fd.cage,
                    fd: fd.value as i32,
                };
                match filter().known.get(fd).and_then(|known| known.directory) {
                    Some(path) => Some(path),
                    None => return Ok(None),
                }
            }
        };
        let from = from.as_deref().unwrap_or_default();
        paths::resolve(self.owner, from, self.path.as_bytes(), follow).map(Some)
    }

    /// What it says.
    pub fn text(&self) -> &[u8] {
        self.path.as_bytes()
    }

    /// stat(2) of what it names.
    ///
    /// # Errors
    /// As stat.
    pub fn stat(&self) -> Result<Stat, Errno> {
        self.stat_with(SYS_STAT, 0)
    }

    /// lstat(2) of what it names.
    ///
    /// # Errors
    /// As lstat.
    pub fn lstat(&self) -> Result<Stat, Errno> {
        self.stat_with(SYS_LSTAT, fs::AT_SYMLINK_NOFOLLOW)
    }

    fn stat_with(&self, nr: u64, flags: i32) -> Result<Stat, Errno> {
        match self.directory {
            Some(directory) => {
                let args = [directory, self.path(), int(self.owner, flags)];
                kernel::stat_with(SYS_NEWFSTATAT, self.owner, &args, 2)
            }
            None => kernel::stat_with(nr, self.owner, &[self.path()], 1),
        }
    }

    /// Opens it for `cage`: the caller or the grate itself.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(&self, cage: u64, flags: i32, mode: u64) -> Result<i32, Errno> {
        let (flags, mode) = (int(cage, flags), value(cage, mode));
        match self.directory {
            Some(directory) => {
                kernel::call(SYS_OPENAT, cage, &[directory, self.path(), flags, mode])
            }
            None => kernel::call(SYS_OPEN, cage, &[self.path(), flags, mode]),
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        String::from_utf8_lossy(self.path.as_bytes()).fmt(f)
    }
}

/// A path as the kernel takes it.
pub fn c_string(path: Vec<u8>) -> Result<CString, Errno> {
    if path.len() >= PATH_MAX {
        return Err(Errno(error::ENAMETOOLONG));
    }
    CString::new(path).map_err(|_| Errno(error::EINVAL))
}
