//! Calls that the grate makes itself, on descriptors and paths of a cage or of its own.

use super::descriptors::CageFd;
use grate_rs::constants::{SYS_CLOSE, SYS_FCNTL, SYS_FSTAT, fs};
use grate_rs::{Arg, Call, Errno, own_buffer};

/// What of a `struct stat` decides here.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    mode: u32,
    size: u64,
}

/// Bytes of a `struct stat` in Lind's layout.
pub const STAT_LEN: usize = 104;

impl Stat {
    /// From the bytes that a stat call wrote.
    pub fn from_bytes(bytes: &[u8; STAT_LEN]) -> Self {
        const MODE_AT: usize = 16;
        const SIZE_AT: usize = 40;
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        Self {
            mode: word(MODE_AT) as u32,
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

    /// Whether there is anything in it.
    pub fn is_empty(&self) -> bool {
        self.size == 0
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

/// Makes a call with up to six arguments.
///
/// # Errors
/// What it answered.
pub fn call(nr: u64, target: u64, first: &[Arg]) -> Result<i32, Errno> {
    const UNUSED: u64 = 0xdead_beef_dead_beef;
    let mut args = [value(target, UNUSED); 6];
    for (slot, arg) in args.iter_mut().zip(first) {
        *slot = *arg;
    }
    grate_rs::forward(nr as u32, target, &args)
}

/// Passes a call on as it came, for the cage that argument `index` belongs to.
///
/// # Errors
/// What it answered.
pub fn pass(call: &Call, index: usize) -> Result<i32, Errno> {
    call.forward(call.cage_of(index))
}

impl CageFd {
    /// The descriptor that an argument names.
    pub fn argument(call: &Call, index: usize) -> Self {
        Self {
            cage: call.cage_of(index),
            fd: call.int(index),
        }
    }

    fn arg(self) -> Arg {
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
        let args = [self.arg(), int(self.cage, fs::F_GETFL), int(self.cage, 0)];
        let flags = call(SYS_FCNTL, self.cage, &args)?;
        Ok(flags & fs::O_PATH == 0 && flags & fs::O_ACCMODE != fs::O_RDONLY)
    }

    /// close(2). There is nothing to do where it fails.
    pub fn close(self) {
        let _ = call(SYS_CLOSE, self.cage, &[self.arg()]);
    }
}
