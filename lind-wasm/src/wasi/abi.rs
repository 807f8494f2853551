//! WASI's numbers and layouts, and how they relate to Linux's.

use rustix::io;

/// Why a function does not answer success.
#[derive(Debug)]
pub enum Failure {
    /// The program gets an errno.
    Errno(Errno),
    /// The instance must stop.
    Stop(wasmtime::Error),
}

/// What functions of this layer answer.
pub type Outcome<T> = Result<T, Failure>;

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Failure::Errno(errno)
    }
}

impl From<io::Errno> for Failure {
    fn from(errno: io::Errno) -> Self {
        Failure::Errno(Errno::from_linux(errno.raw_os_error()))
    }
}

/// An outcome as the engine and the program get it.
pub fn status(outcome: Outcome<()>) -> wasmtime::Result<i32> {
    match outcome {
        Ok(()) => Ok(0),
        Err(Failure::Errno(errno)) => Ok(i32::from(errno.number())),
        Err(Failure::Stop(error)) => Err(error),
    }
}

/// A WASI errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(u16);

impl Errno {
    pub const BADF: Self = Self(8);
    pub const FAULT: Self = Self(21);
    pub const INTR: Self = Self(27);
    pub const INVAL: Self = Self(28);
    pub const IO: Self = Self(29);
    pub const NAMETOOLONG: Self = Self(37);
    pub const NODEV: Self = Self(43);
    pub const NOMEM: Self = Self(48);
    pub const NOTSUP: Self = Self(58);
    pub const OVERFLOW: Self = Self(61);
    pub const PERM: Self = Self(63);
    pub const SPIPE: Self = Self(70);

    /// As the program gets it.
    pub fn number(self) -> u16 {
        self.0
    }

    /// The WASI errno for one of Linux. What WASI has no name for is an I/O error.
    pub fn from_linux(errno: i32) -> Self {
        Self(match errno {
            libc::E2BIG => 1,
            libc::EACCES => 2,
            libc::EADDRINUSE => 3,
            libc::EADDRNOTAVAIL => 4,
            libc::EAFNOSUPPORT => 5,
            libc::EAGAIN => 6,
            libc::EALREADY => 7,
            libc::EBADF => 8,
            libc::EBADMSG => 9,
            libc::EBUSY => 10,
            libc::ECANCELED => 11,
            libc::ECHILD => 12,
            libc::ECONNABORTED => 13,
            libc::ECONNREFUSED => 14,
            libc::ECONNRESET => 15,
            libc::EDEADLK => 16,
            libc::EDESTADDRREQ => 17,
            libc::EDOM => 18,
            libc::EDQUOT => 19,
            libc::EEXIST => 20,
            libc::EFAULT => 21,
            libc::EFBIG => 22,
            libc::EHOSTUNREACH => 23,
            libc::EIDRM => 24,
            libc::EILSEQ => 25,
            libc::EINPROGRESS => 26,
            libc::EINTR => 27,
            libc::EINVAL => 28,
            libc::EISCONN => 30,
            libc::EISDIR => 31,
            libc::ELOOP => 32,
            libc::EMFILE => 33,
            libc::EMLINK => 34,
            libc::EMSGSIZE => 35,
            libc::EMULTIHOP => 36,
            libc::ENAMETOOLONG => 37,
            libc::ENETDOWN => 38,
            libc::ENETRESET => 39,
            libc::ENETUNREACH => 40,
            libc::ENFILE => 41,
            libc::ENOBUFS => 42,
            libc::ENODEV => 43,
            libc::ENOENT => 44,
            libc::ENOEXEC => 45,
            libc::ENOLCK => 46,
            libc::ENOLINK => 47,
            libc::ENOMEM => 48,
            libc::ENOMSG => 49,
            libc::ENOPROTOOPT => 50,
            libc::ENOSPC => 51,
            libc::ENOSYS => 52,
            libc::ENOTCONN => 53,
            libc::ENOTDIR => 54,
            libc::ENOTEMPTY => 55,
            libc::ENOTRECOVERABLE => 56,
            libc::ENOTSOCK => 57,
            libc::EOPNOTSUPP => 58,
            libc::ENOTTY => 59,
            libc::ENXIO => 60,
            libc::EOVERFLOW => 61,
            libc::EOWNERDEAD => 62,
            libc::EPERM => 63,
            libc::EPIPE => 64,
            libc::EPROTO => 65,
            libc::EPROTONOSUPPORT => 66,
            libc::EPROTOTYPE => 67,
            libc::ERANGE => 68,
            libc::EROFS => 69,
            libc::ESPIPE => 70,
            libc::ESRCH => 71,
            libc::ESTALE => 72,
            libc::ETIMEDOUT => 73,
            libc::ETXTBSY => 74,
            libc::EXDEV => 75,
            _ => return Self::IO,
        })
    }

    /// The errno in a system call's result, if it is one. Anything else that is negative (what a
    /// failing grate leaves behind) is an I/O error.
    pub fn in_result(result: i32) -> Option<Self> {
        match result {
            0.. => None,
            -4095..0 => Some(Self::from_linux(-result)),
            _ => Some(Self::IO),
        }
    }
}

/// Numbers of the system calls in use; those of Lind, hence of Linux on x86-64.
pub mod nr {
    pub const READ: u32 = 0;
    pub const WRITE: u32 = 1;
    pub const CLOSE: u32 = 3;
    pub const FSTAT: u32 = 5;
    pub const POLL: u32 = 7;
    pub const LSEEK: u32 = 8;
    pub const IOCTL: u32 = 16;
    pub const PREAD: u32 = 17;
    pub const PWRITE: u32 = 18;
    pub const READV: u32 = 19;
    pub const WRITEV: u32 = 20;
    pub const SCHED_YIELD: u32 = 24;
    pub const DUP2: u32 = 33;
    pub const CLONE: u32 = 56;
    pub const CLOCK_NANOSLEEP: u32 = 35;
    pub const SENDMSG: u32 = 46;
    pub const RECVMSG: u32 = 47;
    pub const SHUTDOWN: u32 = 48;
    pub const GETSOCKOPT: u32 = 55;
    pub const KILL: u32 = 62;
    pub const FCNTL: u32 = 72;
    pub const FSYNC: u32 = 74;
    pub const FDATASYNC: u32 = 75;
    pub const FTRUNCATE: u32 = 77;
    pub const GETDENTS64: u32 = 78;
    pub const CLOCK_GETTIME: u32 = 228;
    pub const CLOCK_GETRES: u32 = 229;
    pub const EXIT_GROUP: u32 = 231;
    pub const OPENAT: u32 = 257;
    pub const MKDIRAT: u32 = 258;
    pub const NEWFSTATAT: u32 = 262;
    pub const UNLINKAT: u32 = 263;
    pub const RENAMEAT: u32 = 264;
    pub const LINKAT: u32 = 265;
    pub const SYMLINKAT: u32 = 266;
    pub const READLINKAT: u32 = 267;
    pub const UTIMENSAT: u32 = 280;
    pub const ACCEPT4: u32 = 288;
    pub const PREADV: u32 = 295;
    pub const PWRITEV: u32 = 296;
    pub const GETRANDOM: u32 = 318;
    pub const LLSEEK: u32 = 1100;
}

/// Linux's flags, by their x86-64 values.
pub mod linux {
    pub const AT_FDCWD: i64 = -100;
    pub const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
    pub const AT_REMOVEDIR: u64 = 0x200;
    pub const AT_SYMLINK_FOLLOW: u64 = 0x400;
    pub const O_ACCMODE: u32 = 0o3;
    pub const O_RDONLY: u32 = 0o0;
    pub const O_WRONLY: u32 = 0o1;
    pub const O_RDWR: u32 = 0o2;
    pub const O_CREAT: u32 = 0o100;
    pub const O_EXCL: u32 = 0o200;
    pub const O_TRUNC: u32 = 0o1000;
    pub const O_APPEND: u32 = 0o2000;
    pub const O_NONBLOCK: u32 = 0o4000;
    pub const O_DSYNC: u32 = 0o10000;
    pub const O_DIRECTORY: u32 = 0o200_000;
    pub const O_NOFOLLOW: u32 = 0o400_000;
    /// Includes `O_DSYNC`.
    pub const O_SYNC: u32 = 0o4_010_000;
    pub const F_GETFD: u64 = 1;
    pub const F_GETFL: u64 = 3;
    pub const F_SETFL: u64 = 4;
    pub const FIONREAD: u64 = 0x541b;
    pub const TIOCGWINSZ: u64 = 0x5413;
    pub const UTIME_NOW: i64 = 0x3fff_ffff;
    pub const UTIME_OMIT: i64 = 0x3fff_fffe;
    pub const TIMER_ABSTIME: u64 = 1;
    pub const SOL_SOCKET: u64 = 1;
    pub const SO_TYPE: u64 = 3;
    pub const SOCK_DGRAM: u32 = 2;
    pub const SOCK_NONBLOCK: u64 = 0o4000;
    pub const MSG_PEEK: u64 = 0x2;
    pub const MSG_TRUNC: u64 = 0x20;
    pub const MSG_WAITALL: u64 = 0x100;
    pub const MSG_NOSIGNAL: u64 = 0x4000;
}

/// `fdflags`.
pub mod fdflags {
    use super::linux;

    pub const APPEND: u32 = 1;
    pub const DSYNC: u32 = 2;
    pub const NONBLOCK: u32 = 4;
    pub const RSYNC: u32 = 8;
    pub const SYNC: u32 = 16;
    const ALL: u32 = 31;

    /// As Linux's flags of open; `None` when there are unknown ones. Linux has no `O_RSYNC` of
    /// its own: it is `O_SYNC`.
    pub fn to_linux(flags: u32) -> Option<u32> {
        let pairs = [
            (APPEND, linux::O_APPEND),
            (DSYNC, linux::O_DSYNC),
            (NONBLOCK, linux::O_NONBLOCK),
            (RSYNC | SYNC, linux::O_SYNC),
        ];
        (flags & !ALL == 0).then(|| {
            pairs
                .iter()
                .filter(|(wasi, _)| flags & wasi != 0)
                .fold(0, |all, (_, linux)| all | linux)
        })
    }

    /// From Linux's flags of an open file.
    pub fn from_linux(flags: u32) -> u16 {
        let mut all = 0;
        if flags & linux::O_APPEND != 0 {
            all |= APPEND;
        }
        if flags & linux::O_NONBLOCK != 0 {
            all |= NONBLOCK;
        }
        if flags & linux::O_SYNC == linux::O_SYNC {
            all |= SYNC;
        } else if flags & linux::O_DSYNC != 0 {
            all |= DSYNC;
        }
        all as u16
    }
}

/// `rights`: what a descriptor can be used for.
pub mod rights {
    const FD_DATASYNC: u64 = 1 << 0;
    pub const FD_READ: u64 = 1 << 1;
    pub const FD_SEEK: u64 = 1 << 2;
    const FD_FDSTAT_SET_FLAGS: u64 = 1 << 3;
    const FD_SYNC: u64 = 1 << 4;
    pub const FD_TELL: u64 = 1 << 5;
    pub const FD_WRITE: u64 = 1 << 6;
    const FD_ADVISE: u64 = 1 << 7;
    const FD_ALLOCATE: u64 = 1 << 8;
    /// `path_create_directory` to `path_open`.
    const PATH_FIRST: u64 = 0b1_1111 << 9;
    const FD_READDIR: u64 = 1 << 14;
    /// `path_readlink` to `path_filestat_set_times`, but for `path_filestat_set_size`: no function
    /// uses it.
    const PATH_SECOND: u64 = 0b10_1111 << 15;
    const FD_FILESTAT_GET: u64 = 1 << 21;
    const FD_FILESTAT_SET_SIZE: u64 = 1 << 22;
    const FD_FILESTAT_SET_TIMES: u64 = 1 << 23;
    /// `path_symlink` to `path_unlink_file`.
    const PATH_THIRD: u64 = 0b111 << 24;
    const POLL_FD_READWRITE: u64 = 1 << 27;
    const SOCKET: u64 = 0b11 << 28;

    /// What any descriptor can do.
    const COMMON: u64 = FD_FDSTAT_SET_FLAGS | FD_FILESTAT_GET | POLL_FD_READWRITE;
    /// What files that can be read, written, and moved in can do.
    const READING: u64 = FD_READ;
    const WRITING: u64 = FD_WRITE | FD_ALLOCATE | FD_FILESTAT_SET_SIZE;
    const POSITIONED: u64 =
        FD_SEEK | FD_TELL | FD_ADVISE | FD_DATASYNC | FD_SYNC | FD_FILESTAT_SET_TIMES;
    const DIRECTORY: u64 = COMMON
        | PATH_FIRST
        | PATH_SECOND
        | PATH_THIRD
        | FD_READDIR
        | FD_DATASYNC
        | FD_SYNC
        | FD_FILESTAT_SET_TIMES;

    use super::{FileType, linux};

    /// Base and inheriting rights of a descriptor, from its type and its flags of open.
    pub fn of(file: FileType, open_flags: u32) -> (u64, u64) {
        let access = match open_flags & linux::O_ACCMODE {
            linux::O_RDONLY => READING,
            linux::O_WRONLY => WRITING,
            _ => READING | WRITING,
        };
        match file {
            FileType::Directory => (DIRECTORY, DIRECTORY | READING | WRITING | POSITIONED),
            FileType::DatagramSocket | FileType::Socket => {
                (COMMON | READING | FD_WRITE | SOCKET, 0)
            }
            _ => (COMMON | access | POSITIONED, 0),
        }
    }
}

/// `filetype`, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FileType {
    /// WASI has no name for it: a pipe, for one.
    Unknown = 0,
    BlockDevice = 1,
    CharacterDevice = 2,
    Directory = 3,
    RegularFile = 4,
    /// A socket of single messages, which `stat` does not tell from others.
    DatagramSocket = 5,
    /// Any other socket.
    Socket = 6,
    SymbolicLink = 7,
}

impl FileType {
    /// From the type bits of Linux's `st_mode`, shifted down by 12: those of `d_type` too.
    pub fn from_linux(bits: u32) -> Self {
        match bits {
            2 => FileType::CharacterDevice,
            4 => FileType::Directory,
            6 => FileType::BlockDevice,
            8 => FileType::RegularFile,
            10 => FileType::SymbolicLink,
            12 => FileType::Socket,
            _ => FileType::Unknown,
        }
    }
}

/// Lind's `struct stat`, as far as WASI has it too.
#[derive(Debug)]
pub struct Stat {
    bytes: [u8; Stat::LEN],
}

impl Stat {
    /// Bytes of it in memory.
    pub const LEN: usize = 104;

    /// From those bytes.
    pub fn new(bytes: [u8; Self::LEN]) -> Self {
        Self { bytes }
    }

    fn mode(&self) -> u32 {
        u32_at(&self.bytes, 16)
    }

    /// What kind of file it is.
    pub fn file_type(&self) -> FileType {
        FileType::from_linux(self.mode() >> 12)
    }

    /// Whether it is a pipe, which has no WASI type.
    pub fn is_pipe(&self) -> bool {
        self.mode() >> 12 == 1
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        u64_at(&self.bytes, 40)
    }

    /// As WASI's `filestat`.
    pub fn filestat(&self) -> [u8; 64] {
        let mut out = [0; 64];
        out[..16].copy_from_slice(&self.bytes[..16]); // device, inode
        out[16] = self.file_type() as u8;
        let words = [
            u64::from(u32_at(&self.bytes, 20)),
            self.size(),
            nanoseconds(&self.bytes, 56),
            nanoseconds(&self.bytes, 72),
            nanoseconds(&self.bytes, 88),
        ];
        for (word, at) in words.into_iter().zip((24..).step_by(8)) {
            out[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        out
    }

    /// As the `filestat` of `wasi_unstable`, whose links have four bytes beside the type.
    pub fn filestat_unstable(&self) -> [u8; 56] {
        let newer = self.filestat();
        let mut out = [0; 56];
        out[..20].copy_from_slice(&newer[..20]);
        out[20..24].copy_from_slice(&newer[24..28]); // links
        out[24..].copy_from_slice(&newer[32..]);
        out
    }
}

/// The `u16` at an offset in a layout that is known to hold one.
pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// As [`u16_at`], a `u32`.
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

/// As [`u16_at`], a `u64`.
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

const NANOSECONDS: u64 = 1_000_000_000;

/// WASI's timestamp from the kernel's `timespec` at an offset. What lies before 1970 is 1970.
pub fn nanoseconds(bytes: &[u8], at: usize) -> u64 {
    let seconds = u64_at(bytes, at) as i64;
    let Ok(seconds) = u64::try_from(seconds) else {
        return 0;
    };
    seconds
        .saturating_mul(NANOSECONDS)
        .saturating_add(u64_at(bytes, at + 8))
}

/// The kernel's `timespec` for a timestamp.
pub fn timespec(time: u64) -> [u8; 16] {
    raw_timespec((time / NANOSECONDS) as i64, (time % NANOSECONDS) as i64)
}

fn raw_timespec(seconds: i64, nanoseconds: i64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&seconds.to_le_bytes());
    bytes[8..].copy_from_slice(&nanoseconds.to_le_bytes());
    bytes
}

/// The two `timespec` of `utimensat` for WASI's `fstflags`.
///
/// # Errors
/// `EINVAL` for unknown flags, or a time that shall be both given and now.
pub fn utimes(atim: u64, mtim: u64, flags: u32) -> Result<[u8; 32], Errno> {
    const GIVEN: u32 = 1;
    const NOW: u32 = 2;
    if flags > 15 {
        return Err(Errno::INVAL);
    }
    let one = |time: u64, flags: u32| match flags & (GIVEN | NOW) {
        0 => Ok(raw_timespec(0, linux::UTIME_OMIT)),
        GIVEN => Ok(timespec(time)),
        NOW => Ok(raw_timespec(0, linux::UTIME_NOW)),
        _ => Err(Errno::INVAL),
    };
    let mut both = [0; 32];
    both[..16].copy_from_slice(&one(atim, flags)?);
    both[16..].copy_from_slice(&one(mtim, flags >> 2)?);
    Ok(both)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errnos_are_wasis() {
        for (linux, wasi) in [
            (libc::E2BIG, 1),
            (libc::ENOENT, 44),
            (libc::EWOULDBLOCK, 6),
            (libc::ENOTSUP, 58),
            (libc::EXDEV, 75),
            (libc::ENOTBLK, 29),
            (0, 29),
            (-5, 29),
        ] {
            assert_eq!(Errno::from_linux(linux).number(), wasi);
        }
        // Every number WASI has, but for success and ENOTCAPABLE, comes from some errno of Linux.
        let reached: std::collections::BTreeSet<u16> = (1..=133)
            .map(|errno| Errno::from_linux(errno).number())
            .collect();
        assert!(reached.into_iter().eq(1..=75));
        assert_eq!(Errno::in_result(0), None);
        assert_eq!(Errno::in_result(i32::MAX), None);
        assert_eq!(Errno::in_result(-libc::EBADF), Some(Errno::BADF));
        assert_eq!(Errno::in_result(-536_805_379), Some(Errno::IO));
        assert_eq!(Errno::in_result(i32::MIN), Some(Errno::IO));
    }

    #[test]
    fn flags_come_back_as_they_went() {
        for flags in [0, 1, 2, 4, 5, 16, 21] {
            let linux = fdflags::to_linux(flags).unwrap();
            assert_eq!(u32::from(fdflags::from_linux(linux)), flags);
        }
        assert_eq!(fdflags::to_linux(32), None);
    }

    #[test]
    fn times_are_converted_without_overflow() {
        assert_eq!(nanoseconds(&timespec(1_500_000_007), 0), 1_500_000_007);
        assert_eq!(nanoseconds(&timespec(u64::MAX), 0), u64::MAX);
        assert_eq!(nanoseconds(&raw_timespec(-1, 999), 0), 0);
        assert_eq!(nanoseconds(&raw_timespec(i64::MAX, 5), 0), u64::MAX);
        assert_eq!(utimes(0, 0, 3), Err(Errno::INVAL));
        assert_eq!(utimes(0, 0, 16), Err(Errno::INVAL));
        let both = utimes(0, 1_000_000_002, 4 | 2).unwrap();
        assert_eq!(both[..16], raw_timespec(0, linux::UTIME_NOW));
        assert_eq!(both[16..], raw_timespec(1, 2));
    }

    #[test]
    fn a_stat_becomes_a_filestat() {
        let mut bytes = [0; Stat::LEN];
        bytes[0] = 1;
        bytes[8] = 2;
        bytes[16..20].copy_from_slice(&0o100_644_u32.to_le_bytes());
        bytes[20] = 3;
        bytes[40] = 4;
        bytes[72] = 5;
        let out = Stat::new(bytes).filestat();
        assert_eq!((out[0], out[8], out[16], out[24], out[32]), (1, 2, 4, 3, 4));
        assert_eq!(u64_at(&out, 48), 5_000_000_000);
        let out = Stat::new(bytes).filestat_unstable();
        assert_eq!((out[0], out[8], out[16], out[20], out[24]), (1, 2, 4, 3, 4));
        assert_eq!(u64_at(&out, 40), 5_000_000_000);
    }
}
