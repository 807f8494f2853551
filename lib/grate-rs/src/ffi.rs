//! Calls of a grate on its own behalf, in the shapes of C.

use cage_libc::sys;
use core::ffi::{c_int, c_void};

unsafe extern "C" {
    fn __wasilibc_get_environ() -> *mut *const u8;
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
