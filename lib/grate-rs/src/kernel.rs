//! Calls that a grate makes itself, on descriptors and paths of a cage or of its own.

use crate::constants::{SYS_CLOSE, SYS_FCNTL, SYS_FSTAT, fs};
use crate::{Arg, CageFd, Call, Errno, forward, own_buffer};
use cage_libc::sys::UNUSED;

/// What grates ask of a `struct stat`.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
    /// Type and permissions.
    pub mode: u32,
    /// How many names it has.
    pub links: u32,
    /// Size in bytes.
    pub size: u64,
}

/// Where the size stands in a `struct stat`.
pub const SIZE_AT: usize = 40;
/// Bytes of a `struct stat`.
pub const STAT_LEN: usize = 104;

/// An inode's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Inode {
    dev: u64,
    ino: u64,
}

impl Stat {
    /// From the bytes that the kernel wrote.
    pub fn from_bytes(bytes: &[u8; STAT_LEN]) -> Self {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        Self {
            dev: word(0),
            ino: word(8),
            mode: word(16) as u32,
            links: (word(16) >> 32) as u32,
            size: word(SIZE_AT),
        }
    }

    /// Whether it is a regular file.
    pub fn is_regular(&self) -> bool {
        self.mode & fs::S_IFMT == fs::S_IFREG
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.mode & fs::S_IFMT == fs::S_IFDIR
    }

    /// Whether it is a symlink.
    pub fn is_symlink(&self) -> bool {
        self.mode & fs::S_IFMT == fs::S_IFLNK
    }

    /// Whether it is a socket.
    pub fn is_socket(&self) -> bool {
        self.mode & fs::S_IFMT == fs::S_IFSOCK
    }

    /// The inode.
    pub fn inode(&self) -> Inode {
        Inode {
            dev: self.dev,
            ino: self.ino,
        }
    }
}

/// An argument by value, of a cage.
pub fn value(cage: u64, value: u64) -> Arg {
    Arg { value, cage }
}

/// An `int` argument.
pub fn int(cage: u64, number: i32) -> Arg {
    value(cage, i64::from(number) as u64)
}

/// Makes a call with up to six arguments. Its numbers are of the cage that it is made for: by them a
/// grate further out knows whose call it is ([`Call::caller`]).
///
/// # Errors
/// What it answered.
pub fn call(nr: u64, target: u64, first: &[Arg]) -> Result<i32, Errno> {
    let nr = nr as u32;
    let kinds = calls::entry(nr).map_or(&[][..], |entry| entry.args);
    let mut args = [value(target, UNUSED); 6];
    for (index, (slot, arg)) in args.iter_mut().zip(first).enumerate() {
        let is_number = kinds.get(index).is_some_and(|kind| kind.is_number());
        *slot = value(if is_number { target } else { arg.cage }, arg.value);
    }
    forward(nr, target, &args)
}

/// Stats what a path-taking call of a cage would act on, with the stat call `nr` and its
/// arguments but the buffer, which stands at `buffer`.
///
/// # Errors
/// As stat(2).
pub fn stat_with(nr: u64, target: u64, args: &[Arg], buffer: usize) -> Result<Stat, Errno> {
    let mut bytes = [0; STAT_LEN];
    let mut full = args.to_vec();
    full.insert(buffer, own_buffer(bytes.as_mut_ptr()));
    call(nr, target, &full)?;
    Ok(Stat::from_bytes(&bytes))
}

impl CageFd {
    /// The descriptor as an argument.
    pub fn arg(self) -> Arg {
        int(self.cage, self.fd)
    }

    /// fstat(2).
    ///
    /// # Errors
    /// As fstat.
    pub fn stat(self) -> Result<Stat, Errno> {
        let mut bytes = [0; STAT_LEN];
        let args = [self.arg(), own_buffer(bytes.as_mut_ptr())];
        call(SYS_FSTAT, self.cage, &args)?;
        Ok(Stat::from_bytes(&bytes))
    }

    /// Whether it was opened for writing.
    ///
    /// # Errors
    /// As fcntl.
    pub fn is_writable(self) -> Result<bool, Errno> {
        let flags = self.flags()?;
        Ok(flags & fs::O_PATH == 0 && flags & fs::O_ACCMODE != fs::O_RDONLY)
    }

    /// How it was opened: the access mode and flags such as `O_APPEND`.
    ///
    /// # Errors
    /// As fcntl.
    pub fn flags(self) -> Result<i32, Errno> {
        let args = [self.arg(), int(self.cage, fs::F_GETFL), int(self.cage, 0)];
        call(SYS_FCNTL, self.cage, &args)
    }

    /// close(2). There is nothing to do where it fails.
    pub fn close(self) {
        let _ = call(SYS_CLOSE, self.cage, &[self.arg()]);
    }
}

/// An open file in the grate's own table, closed when dropped.
#[derive(Debug)]
pub struct OwnFd(pub CageFd);

impl Drop for OwnFd {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Passes a call on, for the cage that argument `index` belongs to.
///
/// # Errors
/// What it answered.
pub fn pass(call: &Call, index: usize) -> Result<i32, Errno> {
    call.forward(call.cage_of(index))
}
