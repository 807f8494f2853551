//! Files by descriptor and by path.

use crate::abi;
use crate::errno::{self, answer, fail};
use crate::seek;
use crate::sys::{self, Errno, address, nr};
use libc::{c_char, c_int, c_void, mode_t, off_t, size_t, ssize_t, stat as Stat};

const F_GETFD: c_int = 1;
const F_GETFL: c_int = 3;
const F_SETFL: c_int = 4;

/// A call whose arguments the caller of the libc function vouches for.
unsafe fn call(nr: u32, args: &[u64]) -> c_int {
    // SAFETY: by the contract of the libc function.
    answer(unsafe { sys::syscall(nr, args) })
}

fn int(value: c_int) -> u64 {
    value as i64 as u64
}

#[unsafe(no_mangle)]
unsafe extern "C" fn open(path: *const c_char, flags: c_int, variadic: *const mode_t) -> c_int {
    let mode = if flags & libc::O_CREAT != 0 {
        // SAFETY: C passes variadic arguments as a pointer to them; there is one where a file may
        // be created.
        unsafe { variadic.read() }
    } else {
        0
    };
    let args = [address(path), int(abi::open_flags(flags)), u64::from(mode)];
    // SAFETY: see `call`.
    unsafe { call(nr::OPEN, &args) }
}

#[unsafe(no_mangle)]
extern "C" fn close(fd: c_int) -> c_int {
    answer(sys::close(fd).map(|()| 0))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn read(fd: c_int, buf: *mut c_void, len: size_t) -> ssize_t {
    // SAFETY: see `call`.
    unsafe { call(nr::READ, &[int(fd), address(buf), len as u64]) as ssize_t }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn write(fd: c_int, buf: *const c_void, len: size_t) -> ssize_t {
    // SAFETY: see `call`.
    unsafe { call(nr::WRITE, &[int(fd), address(buf), len as u64]) as ssize_t }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pread(fd: c_int, buf: *mut c_void, len: size_t, at: off_t) -> ssize_t {
    // SAFETY: see `call`.
    unsafe { call(nr::PREAD, &[int(fd), address(buf), len as u64, at as u64]) as ssize_t }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite(fd: c_int, buf: *const c_void, len: size_t, at: off_t) -> ssize_t {
    // SAFETY: see `call`.
    unsafe { call(nr::PWRITE, &[int(fd), address(buf), len as u64, at as u64]) as ssize_t }
}

/// `struct iovec` as the kernel has it.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct KernelIovec {
    base: u64,
    len: u64,
}

/// Most vectors that are passed in one call; what is left over makes the call a short one.
const VECTORS: usize = 64;

unsafe fn vectored(nr: u32, fd: c_int, vectors: *const libc::iovec, count: c_int) -> ssize_t {
    let Ok(count) = usize::try_from(count) else {
        errno::set(libc::EINVAL);
        return -1;
    };
    let mut kernel = [KernelIovec::default(); VECTORS];
    let count = count.min(VECTORS);
    for (index, slot) in kernel.iter_mut().enumerate().take(count) {
        // SAFETY: the caller passes `count` vectors.
        let vector = unsafe { vectors.add(index).read() };
        *slot = KernelIovec {
            base: address(vector.iov_base),
            len: vector.iov_len as u64,
        };
    }
    // SAFETY: see `call`.
    unsafe { call(nr, &[int(fd), address(&raw const kernel), count as u64]) as ssize_t }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn readv(fd: c_int, vectors: *const libc::iovec, count: c_int) -> ssize_t {
    // SAFETY: the caller's.
    unsafe { vectored(nr::READV, fd, vectors, count) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn writev(fd: c_int, vectors: *const libc::iovec, count: c_int) -> ssize_t {
    // SAFETY: the caller's.
    unsafe { vectored(nr::WRITEV, fd, vectors, count) }
}

#[unsafe(no_mangle)]
extern "C" fn lseek(fd: c_int, offset: off_t, whence: c_int) -> off_t {
    // The result of the plain call has 32 bits.
    let plain = |offset: i64, whence: c_int| {
        // SAFETY: no addresses.
        unsafe { sys::syscall(nr::LSEEK, &[int(fd), offset as u64, int(whence)]) }
    };
    let result = if sys::base() == 0 {
        const SEEK_CUR: c_int = 1;
        // The runtime has one with 64, which grates made for Lind do not know.
        let tell = || {
            let mut position = 0u64;
            let place = address(&raw mut position);
            // SAFETY: `position` is a place for a u64.
            unsafe { sys::syscall(nr::LLSEEK, &[int(fd), 0, int(SEEK_CUR), place]) }?;
            Ok(position)
        };
        seek::told(plain, tell, offset, whence).map(|place| place as off_t)
    } else {
        let raw = |offset: i64, whence: c_int| match plain(offset, whence) {
            Ok(low) => low,
            Err(Errno(errno)) => -errno,
        };
        let size = || {
            let mut kernel = KernelStat::default();
            // SAFETY: `kernel` has the size and layout that the call fills.
            unsafe { sys::syscall(nr::FSTAT, &[int(fd), address(&raw mut kernel)]) }?;
            Ok(kernel.size)
        };
        seek::wide(raw, size, offset, whence).map(|place| place as off_t)
    };
    result.unwrap_or_else(|error| off_t::from(fail(error)))
}

#[unsafe(no_mangle)]
extern "C" fn fsync(fd: c_int) -> c_int {
    // SAFETY: no addresses.
    unsafe { call(nr::FSYNC, &[int(fd)]) }
}

#[unsafe(no_mangle)]
extern "C" fn fdatasync(fd: c_int) -> c_int {
    // SAFETY: no addresses.
    unsafe { call(nr::FDATASYNC, &[int(fd)]) }
}

#[unsafe(no_mangle)]
extern "C" fn ftruncate(fd: c_int, len: off_t) -> c_int {
    // SAFETY: no addresses.
    unsafe { call(nr::FTRUNCATE, &[int(fd), len as u64]) }
}

#[unsafe(no_mangle)]
extern "C" fn dup(fd: c_int) -> c_int {
    // SAFETY: no addresses.
    unsafe { call(nr::DUP, &[int(fd)]) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fcntl(fd: c_int, command: c_int, variadic: *const c_int) -> c_int {
    match command {
        F_GETFL => {
            // SAFETY: no addresses.
            let flags = unsafe { sys::syscall(nr::FCNTL, &[int(fd), int(F_GETFL)]) };
            answer(flags.map(abi::status_flags))
        }
        F_SETFL => {
            // SAFETY: F_SETFL has one variadic argument.
            let flags = abi::open_flags(unsafe { variadic.read() });
            // SAFETY: no addresses.
            unsafe { call(nr::FCNTL, &[int(fd), int(F_SETFL), int(flags)]) }
        }
        F_GETFD => {
            // SAFETY: no addresses.
            unsafe { call(nr::FCNTL, &[int(fd), int(F_GETFD)]) }
        }
        _ => {
            errno::set(libc::EINVAL);
            -1
        }
    }
}

/// The kernel's `struct stat` of 104 bytes.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct KernelStat {
    dev: u64,
    ino: u64,
    mode: u32,
    nlink: u32,
    uid: u32,
    gid: u32,
    rdev: u64,
    size: u64,
    blksize: i32,
    blocks: u32,
    times: [[u64; 2]; 3],
}

unsafe fn stat_by(nr: u32, which: u64, out: *mut Stat) -> c_int {
    let mut kernel = KernelStat::default();
    // SAFETY: `kernel` has the size and layout that the call fills.
    if let Err(error) = unsafe { sys::syscall(nr, &[which, address(&raw mut kernel)]) } {
        return fail(error);
    }
    let time = |index: usize| libc::timespec {
        tv_sec: kernel.times[index][0] as i64,
        tv_nsec: kernel.times[index][1] as _,
    };
    // SAFETY: `out` is the caller's place for a stat, for which all zeros is a valid value.
    unsafe {
        let mut stat: Stat = core::mem::zeroed();
        stat.st_dev = kernel.dev;
        stat.st_ino = kernel.ino;
        stat.st_nlink = u64::from(kernel.nlink);
        stat.st_mode = kernel.mode;
        stat.st_uid = kernel.uid;
        stat.st_gid = kernel.gid;
        stat.st_rdev = kernel.rdev;
        stat.st_size = kernel.size as off_t;
        stat.st_blksize = kernel.blksize;
        stat.st_blocks = i64::from(kernel.blocks);
        stat.st_atim = time(0);
        stat.st_mtim = time(1);
        stat.st_ctim = time(2);
        out.write(stat);
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fstat(fd: c_int, out: *mut Stat) -> c_int {
    // SAFETY: the caller's.
    unsafe { stat_by(nr::FSTAT, int(fd), out) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn stat(path: *const c_char, out: *mut Stat) -> c_int {
    // SAFETY: the caller's.
    unsafe { stat_by(nr::STAT, address(path), out) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn lstat(path: *const c_char, out: *mut Stat) -> c_int {
    // SAFETY: the caller's.
    unsafe { stat_by(nr::LSTAT, address(path), out) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rename(old: *const c_char, new: *const c_char) -> c_int {
    // SAFETY: see `call`.
    unsafe { call(nr::RENAME, &[address(old), address(new)]) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: see `call`.
    unsafe { call(nr::UNLINK, &[address(path)]) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: see `call`.
    unsafe { call(nr::MKDIR, &[address(path), u64::from(mode)]) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rmdir(path: *const c_char) -> c_int {
    // SAFETY: see `call`.
    unsafe { call(nr::RMDIR, &[address(path)]) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn link(old: *const c_char, new: *const c_char) -> c_int {
    // SAFETY: see `call`.
    unsafe { call(nr::LINK, &[address(old), address(new)]) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn symlink(target: *const c_char, path: *const c_char) -> c_int {
    // SAFETY: see `call`.
    unsafe { call(nr::SYMLINK, &[address(target), address(path)]) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn readlink(path: *const c_char, buf: *mut c_char, len: size_t) -> ssize_t {
    // SAFETY: see `call`.
    unsafe { call(nr::READLINK, &[address(path), address(buf), len as u64]) as ssize_t }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn chdir(path: *const c_char) -> c_int {
    // SAFETY: see `call`.
    unsafe { call(nr::CHDIR, &[address(path)]) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn getcwd(buf: *mut c_char, len: size_t) -> *mut c_char {
    // SAFETY: see `call`.
    match unsafe { sys::syscall(nr::GETCWD, &[address(buf), len as u64]) } {
        Ok(_) => buf,
        Err(error) => {
            fail(error);
            core::ptr::null_mut()
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn isatty(fd: c_int) -> c_int {
    const TIOCGWINSZ: u64 = 0x5413;
    let mut size = [0u16; 4];
    // SAFETY: `size` is a place for a winsize. (Lind knows no TCGETS.)
    match unsafe { sys::syscall(nr::IOCTL, &[int(fd), TIOCGWINSZ, address(&raw mut size)]) } {
        Ok(_) => 1,
        Err(error) => {
            fail(if error == Errno(22) { Errno(25) } else { error });
            0
        }
    }
}
