//! Calls that the grate makes itself, on descriptors of a cage or of its own.

use crypt_grate::storage::{Errno as StorageErrno, Storage};
use grate_rs::constants::{
    SYS_CLOSE, SYS_FSTAT, SYS_FTRUNCATE, SYS_OPEN, SYS_PREAD, SYS_PWRITE, fs,
};
use grate_rs::{Arg, CageFd, Call, Errno, GuestPtr, getcageid, own_buffer};

/// The kernel's `struct stat`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Stat {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
    /// Type and permissions.
    pub mode: u32,
    _links_and_owner: [u32; 3],
    _rdev: u64,
    /// Size in bytes.
    pub size: u64,
    _blocks: [u32; 2],
    _times: [[u64; 2]; 3],
}

/// Where the size stands in [`Stat`].
pub const SIZE_AT: u64 = 40;
/// Bytes of [`Stat`].
pub const STAT_LEN: usize = size_of::<Stat>();

/// An inode's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Inode {
    dev: u64,
    ino: u64,
}

impl Stat {
    /// From the bytes that the kernel wrote.
    pub fn from_bytes(bytes: &[u8; STAT_LEN]) -> Self {
        let mut stat = Self::default();
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        stat.dev = word(0);
        stat.ino = word(8);
        stat.mode = word(16) as u32;
        stat.size = word(SIZE_AT as usize);
        stat
    }

    /// Whether it is a regular file.
    pub fn is_regular(&self) -> bool {
        self.mode & fs::S_IFMT == fs::S_IFREG
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.mode & fs::S_IFMT == fs::S_IFDIR
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

/// A file of the disk below: a descriptor to make calls on.
#[derive(Clone, Copy, Debug)]
pub struct File(pub CageFd);

impl File {
    fn arg(self) -> Arg {
        int(self.0.cage, self.0.fd)
    }

    /// fstat(2).
    ///
    /// # Errors
    /// As fstat.
    pub fn stat(self) -> Result<Stat, Errno> {
        let mut bytes = [0; STAT_LEN];
        let args = [self.arg(), own_buffer(bytes.as_mut_ptr())];
        call(SYS_FSTAT, self.0.cage, &args)?;
        Ok(Stat::from_bytes(&bytes))
    }

    /// close(2).
    ///
    /// # Errors
    /// As close.
    pub fn close(self) -> Result<i32, Errno> {
        call(SYS_CLOSE, self.0.cage, &[self.arg()])
    }
}

fn storage(errno: Errno) -> StorageErrno {
    StorageErrno(errno.0)
}

impl Storage for File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, StorageErrno> {
        let args = [
            self.arg(),
            own_buffer(buf.as_mut_ptr()),
            value(self.0.cage, buf.len() as u64),
            value(self.0.cage, offset),
        ];
        let read = call(SYS_PREAD, self.0.cage, &args).map_err(storage)?;
        // A grate below may be wrong; no more than was asked for can be there.
        Ok((read as usize).min(buf.len()))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize, StorageErrno> {
        let args = [
            self.arg(),
            own_buffer(buf.as_ptr()),
            value(self.0.cage, buf.len() as u64),
            value(self.0.cage, offset),
        ];
        let written = call(SYS_PWRITE, self.0.cage, &args).map_err(storage)?;
        Ok((written as usize).min(buf.len()))
    }

    fn size(&self) -> Result<u64, StorageErrno> {
        self.stat().map(|stat| stat.size).map_err(storage)
    }

    fn set_size(&self, size: u64) -> Result<(), StorageErrno> {
        let args = [self.arg(), value(self.0.cage, size)];
        call(SYS_FTRUNCATE, self.0.cage, &args)
            .map(drop)
            .map_err(storage)
    }
}

/// An open file in the grate's own table, closed when dropped.
#[derive(Debug)]
pub struct OwnFd(pub File);

impl Drop for OwnFd {
    fn drop(&mut self) {
        let _ = self.0.close();
    }
}

/// Opens, for the grate itself, what a path argument of a cage names (from the directory that the
/// cage is in).
///
/// # Errors
/// As open(2).
pub fn open_path_of(path: GuestPtr, flags: i32) -> Result<OwnFd, Errno> {
    let own = getcageid();
    let args = [
        value(path.cage, path.addr),
        int(own, flags | fs::O_CLOEXEC),
        int(own, 0),
    ];
    let fd = call(SYS_OPEN, own, &args)?;
    Ok(OwnFd(File(CageFd { cage: own, fd })))
}

/// Opens, for the grate itself, what is named by a path in its own memory.
///
/// # Errors
/// As open(2).
pub fn open_own(path: &std::ffi::CStr, flags: i32) -> Result<OwnFd, Errno> {
    let own = getcageid();
    let args = [
        own_buffer(path.as_ptr()),
        int(own, flags | fs::O_CLOEXEC),
        int(own, 0),
    ];
    let fd = call(SYS_OPEN, own, &args)?;
    Ok(OwnFd(File(CageFd { cage: own, fd })))
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

/// Passes a call on as it came, for the cage that argument `index` belongs to.
///
/// # Errors
/// What it answered.
pub fn pass(call: &Call, index: usize) -> Result<i32, Errno> {
    call.forward(call.cage_of(index))
}
