//! What the file system says of a file, and whether it is still the same.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, StatxTimestamp, Timespec};

/// A moment as file systems keep it: seconds and nanoseconds since 1970 began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Time {
    seconds: i64,
    nanoseconds: u32,
}

impl From<StatxTimestamp> for Time {
    fn from(time: StatxTimestamp) -> Self {
        Self {
            seconds: time.tv_sec,
            nanoseconds: time.tv_nsec,
        }
    }
}

impl From<Time> for Timespec {
    fn from(time: Time) -> Self {
        Self {
            tv_sec: time.seconds,
            tv_nsec: time.nanoseconds.into(),
        }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.seconds, self.nanoseconds)
    }
}

impl Time {
    /// Whether it lies at least so far before now.
    pub fn is_past(&self, by: Duration) -> bool {
        let Ok(seconds) = u64::try_from(self.seconds) else {
            return true;
        };
        let time = SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, self.nanoseconds));
        time.and_then(|time| SystemTime::now().duration_since(time).ok())
            .is_some_and(|age| age >= by)
    }
}

/// A file, whatever its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Inode {
    /// The file system.
    pub device: u64,
    /// The file in it.
    pub number: u64,
}

/// What changes where a file changes: contents, size, attributes or names. Nothing that a program
/// can set back, for the kernel alone sets the time of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    /// Which file it is.
    pub inode: Inode,
    /// Its size in bytes.
    pub size: u64,
    /// When its contents changed last, or are said to have.
    pub modified: Time,
    /// When anything of it changed last.
    pub changed: Time,
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inode { device, number } = self.inode;
        write!(
            f,
            "{device} {number} {} {} {}",
            self.size, self.modified, self.changed
        )
    }
}

/// The answer of statx(2), as far as it is of use here.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    /// Identity and state.
    pub fingerprint: Fingerprint,
    /// When it was read last.
    pub accessed: Time,
    /// How many names it has.
    pub links: u32,
    /// Type and permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Stat {
    /// Of an open file.
    ///
    /// # Errors
    /// As statx(2).
    pub fn of(file: impl AsFd) -> io::Result<Self> {
        Self::with(file.as_fd(), Path::new(""), AtFlags::EMPTY_PATH)
    }

    /// Of a name in a directory; of a symbolic link, not of what it points to.
    ///
    /// # Errors
    /// As statx(2).
    pub fn at(directory: impl AsFd, name: &Path) -> io::Result<Self> {
        Self::with(directory.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn with(directory: BorrowedFd<'_>, name: &Path, flags: AtFlags) -> io::Result<Self> {
        let stat: Statx = rustix::fs::statx(directory, name, flags, StatxFlags::BASIC_STATS)?;
        Ok(Self {
            fingerprint: Fingerprint {
                inode: Inode {
                    device: u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor),
                    number: stat.stx_ino,
                },
                size: stat.stx_size,
                modified: stat.stx_mtime.into(),
                changed: stat.stx_ctime.into(),
            },
            accessed: stat.stx_atime.into(),
            links: stat.stx_nlink,
            mode: stat.stx_mode,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
        })
    }

    /// Which file it is.
    pub fn inode(&self) -> Inode {
        self.fingerprint.inode
    }

    /// A regular file, a directory, or another kind.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode.into())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_change_shows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, b"one").unwrap();
        let file = fs::File::open(&path).unwrap();
        let before = Stat::of(&file).unwrap();
        assert_eq!(before.fingerprint.size, 3);
        assert_eq!(before.kind(), FileType::RegularFile);
        let by_name = Stat::at(fs::File::open(dir.path()).unwrap(), Path::new("file")).unwrap();
        assert_eq!(by_name.fingerprint, before.fingerprint);

        // Another name changes nothing but the time of change.
        std::thread::sleep(Duration::from_millis(20));
        fs::hard_link(&path, dir.path().join("other")).unwrap();
        let after = Stat::of(&file).unwrap();
        assert_eq!(after.links, 2);
        assert_eq!(after.fingerprint.modified, before.fingerprint.modified);
        assert_ne!(after.fingerprint, before.fingerprint);
    }

    #[test]
    fn the_past_is_told() {
        let ago = |seconds| Time {
            seconds,
            nanoseconds: 0,
        };
        assert!(ago(0).is_past(Duration::from_secs(2)));
        assert!(ago(-5).is_past(Duration::from_secs(2)));
        assert!(!ago(i64::MAX).is_past(Duration::ZERO));
    }
}
