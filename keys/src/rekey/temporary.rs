//! The file that becomes the new one, under a name of its own until then.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use getrandom::SysRng;
use getrandom::rand_core::TryRng;
use rustix::fs::{AtFlags, Mode, OFlags};

use crate::forest::{TEMPORARY_PREFIX, TEMPORARY_SUFFIX};

const KIND: &str = "rekey-";

/// What the name of a temporary file tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemporaryName {
    /// The number of the old file's inode.
    pub inode: u64,
    /// How many names the old file had.
    pub links: u32,
}

impl TemporaryName {
    /// Reads a name; `None` for one that is of another kind.
    pub fn parse(name: &OsStr) -> Option<Self> {
        let rest = name.to_str()?.strip_prefix(TEMPORARY_PREFIX)?;
        let rest = rest.strip_prefix(KIND)?.strip_suffix(TEMPORARY_SUFFIX)?;
        let mut parts = rest.split('-');
        let mut next = || {
            parts
                .next()
                .and_then(|part| u64::from_str_radix(part, 16).ok())
        };
        let (inode, links, _random) = (next()?, next()?, next()?);
        Some(Self {
            inode,
            links: u32::try_from(links).ok()?,
        })
    }

    /// A name that is not taken, as good as surely.
    fn new_name(self) -> io::Result<OsString> {
        let Self { inode, links } = self;
        let random = SysRng.try_next_u64().map_err(io::Error::other)?;
        let name =
            format!("{TEMPORARY_PREFIX}{KIND}{inode:x}-{links:x}-{random:016x}{TEMPORARY_SUFFIX}");
        Ok(name.into())
    }
}

/// A temporary name in a directory, removed when dropped.
#[derive(Debug)]
pub struct Temporary<'a> {
    directory: BorrowedFd<'a>,
    name: OsString,
    has_name: bool,
}

impl<'a> Temporary<'a> {
    /// Makes a new file for this process alone, and locks it, which tells other runs that it is
    /// being worked on.
    pub fn create(directory: &'a impl AsFd, name: TemporaryName) -> io::Result<(Self, File)> {
        let name = name.new_name()?;
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let fd = rustix::fs::openat(directory, &name, flags, mode)?;
        let this = Self {
            directory: directory.as_fd(),
            name,
            has_name: true,
        };
        let file = File::from(fd);
        file.try_lock().map_err(io::Error::other)?;
        Ok((this, file))
    }

    /// Gives a temporary file another temporary name, in another directory.
    pub fn link(from: impl AsFd, name: &OsStr, directory: &'a impl AsFd) -> io::Result<Self> {
        let parsed = TemporaryName::parse(name).ok_or(io::ErrorKind::InvalidInput)?;
        let other = parsed.new_name()?;
        rustix::fs::linkat(from, name, directory, &other, AtFlags::empty())?;
        Ok(Self {
            directory: directory.as_fd(),
            name: other,
            has_name: true,
        })
    }

    /// Takes the place of the file of that name, for good: it is on the disk when this returns.
    pub fn rename(mut self, name: &OsStr) -> io::Result<()> {
        rustix::fs::renameat(self.directory, &self.name, self.directory, name)?;
        self.has_name = false;
        Ok(rustix::fs::fsync(self.directory)?)
    }

    /// Leaves the file under its temporary name.
    pub fn keep(mut self) -> OsString {
        self.has_name = false;
        std::mem::take(&mut self.name)
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if self.has_name {
            // What can't be removed now is by the next run.
            let _ = unlink(self.directory, &self.name);
        }
    }
}

/// Removes a name.
pub fn unlink(directory: impl AsFd, name: &OsStr) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(directory, name, AtFlags::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forest::is_temporary;

    #[test]
    fn names_tell_what_they_were_made_of() {
        let name = TemporaryName {
            inode: u64::MAX,
            links: 300,
        };
        let made = name.new_name().unwrap();
        assert!(is_temporary(&made));
        assert_eq!(TemporaryName::parse(&made), Some(name));
        assert_ne!(name.new_name().unwrap(), made);
        for other in [
            ".keys-Ab12.partial",
            ".keys-rekey-1-2.partial",
            ".keys-rekey-1-x-3.partial",
            ".keys-rekey-1-fffffffff-3.partial",
            ".keys-rekey-1-2-3",
            "rekey-1-2-3.partial",
        ] {
            assert_eq!(TemporaryName::parse(OsStr::new(other)), None, "{other}");
        }
    }
}
