//! Calls of a grate on its own behalf, in the shapes of C.

use cage_libc::sys;
use core::ffi::{c_char, c_int, c_uint, c_void};
use core::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

unsafe extern "C" {
    fn __wasilibc_get_environ() -> *mut *const u8;
}

/// An offset in a file, as Lind's C library has it.
#[allow(non_camel_case_types)]
pub type off_t = i32;

/// A piece of memory, as the kernel has it.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct iovec {
    /// Its address, in the cage that the array of these is of.
    pub iov_base: u64,
    /// Its length.
    pub iov_len: u64,
}

/// Facts of a file, as the kernel has them.
#[allow(non_camel_case_types, missing_docs)]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct stat {
    pub st_dev: u64,
    pub st_ino: u64,
    pub st_mode: u32,
    pub st_nlink: u32,
    pub st_uid: u32,
    pub st_gid: u32,
    pub st_rdev: u64,
    pub st_size: u64,
    pub st_blksize: i32,
    pub st_blocks: u32,
    /// Seconds and nanoseconds, as are the next two.
    pub st_atim: [u64; 2],
    pub st_mtim: [u64; 2],
    pub st_ctim: [u64; 2],
}

/// The exit status as a shell shows it.
pub fn shell_code(wait_status: i32) -> i32 {
    match wait_status & 0x7f {
        0 => (wait_status >> 8) & 0xff,
        signal => 128 + signal,
    }
}

/// Pointers to this cage's `NAME=VALUE` strings.
pub fn environment() -> Vec<*const u8> {
    let mut list = Vec::new();
    // SAFETY: the list ends with a null pointer.
    unsafe {
        let mut entry = __wasilibc_get_environ();
        while !entry.read().is_null() {
            list.push(entry.read());
            entry = entry.add(1);
        }
    }
    list
}

/// fork(2): -1 for an error.
pub fn fork() -> c_int {
    sys::fork().unwrap_or(-1)
}

/// execv(2), with the environment that this cage has: comes back only for an error, with -1.
///
/// # Safety
/// `path` must be a string with its NUL, `argv` an array of such strings with a null behind them.
pub unsafe fn execv(path: *const c_char, argv: *const *const c_char) -> c_int {
    let mut strings = Vec::new();
    // SAFETY: the caller's array ends with a null, the strings are good.
    unsafe {
        let mut entry = argv;
        while !entry.read().is_null() {
            strings.push(entry.read().cast());
            entry = entry.add(1);
        }
        sys::execve(path.cast(), &strings, &environment());
    }
    -1
}

/// waitpid(2): -1 for an error.
///
/// # Safety
/// `status` must be null or a place for an int.
pub unsafe fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int {
    match sys::waitpid(pid, options) {
        Ok((pid, value)) => {
            if !status.is_null() {
                // SAFETY: the caller's place.
                unsafe { status.write(value) };
            }
            pid
        }
        Err(_) => -1,
    }
}

/// mmap(2): the address, or -1 as an address for an error.
pub fn mmap(
    hint: *mut c_void,
    len: usize,
    prot: c_int,
    flags: c_int,
    fd: c_int,
    offset: i64,
) -> *mut c_void {
    let int = |value: c_int| value as i64 as u64;
    let args = [
        hint.addr() as u64,
        len as u64,
        int(prot),
        int(flags),
        int(fd),
        offset as u64,
    ];
    // SAFETY: the result is only an address; MAP_FIXED is the caller's to answer for.
    let result = unsafe { sys::syscall(sys::nr::MMAP, &args) };
    result.map_or(usize::MAX, |offset| offset as u32 as usize) as *mut c_void
}

/// munmap(2): -1 for an error.
///
/// # Safety
/// Nothing may use the range afterwards.
pub unsafe fn munmap(start: *mut c_void, len: usize) -> c_int {
    // SAFETY: the caller's.
    unsafe { sys::syscall(sys::nr::MUNMAP, &[sys::address(start), len as u64]) }.unwrap_or(-1)
}

/// stat(2): -1 for an error.
///
/// # Safety
/// `path` must be a string with its NUL, `facts` a place for what is told.
pub unsafe fn stat(path: *const c_char, facts: *mut stat) -> c_int {
    let args = [sys::address(path), sys::address(facts)];
    // SAFETY: the caller's.
    unsafe { sys::syscall(crate::constants::SYS_STAT as u32, &args) }.unwrap_or(-1)
}

/// What [`mmap`] answers for an error.
pub const MAP_FAILED: *mut c_void = usize::MAX as *mut c_void;

/// A semaphore, which cages share in memory that a fork shares.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Debug, Default)]
pub struct sem_t {
    count: AtomicU32,
    _rest: [u32; 3],
}

/// How long who waits for a semaphore sleeps between two looks.
const SEMAPHORE_PAUSE: Duration = Duration::from_millis(1);

/// sem_init(3): never fails. It makes no difference who shares it.
///
/// # Safety
/// `sem` must be a place for a semaphore that nobody uses.
pub unsafe fn sem_init(sem: *mut sem_t, _shared: c_int, value: c_uint) -> c_int {
    let count = AtomicU32::new(value);
    // SAFETY: the caller's.
    unsafe {
        sem.write(sem_t {
            count,
            _rest: [0; 3],
        })
    };
    0
}

/// sem_post(3): -1 where it would overflow.
///
/// # Safety
/// `sem` must be a semaphore.
pub unsafe fn sem_post(sem: *mut sem_t) -> c_int {
    // SAFETY: the caller's.
    let count = unsafe { &(*sem).count };
    let more = count.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |count| {
        count.checked_add(1)
    });
    if more.is_ok() { 0 } else { -1 }
}

/// sem_wait(3), by looking again and again: never fails.
///
/// # Safety
/// `sem` must be a semaphore.
pub unsafe fn sem_wait(sem: *mut sem_t) -> c_int {
    // SAFETY: the caller's.
    let count = unsafe { &(*sem).count };
    let less = || {
        count.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |count| {
            count.checked_sub(1)
        })
    };
    while less().is_err() {
        thread::sleep(SEMAPHORE_PAUSE);
    }
    0
}

/// sem_destroy(3): there is nothing to do.
///
/// # Safety
/// Nobody may use it afterwards.
pub unsafe fn sem_destroy(_sem: *mut sem_t) -> c_int {
    0
}
