//! `errno`, in WASI's numbers as `std` reads it.

use crate::abi;
use crate::sys::Errno;
use libc::c_int;

/// The variable that the `libc` crate's bindings read.
#[thread_local]
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
pub static mut errno: c_int = 0;

/// Stores an error of Linux as WASI's and answers -1.
pub fn fail(error: Errno) -> c_int {
    set(abi::wasi_errno(error));
    -1
}

/// Stores one of WASI's numbers.
pub fn set(value: c_int) {
    // SAFETY: thread-local, and no reference to it is ever made.
    unsafe { errno = value };
}

/// What libc functions return: the result, or -1 with `errno` set.
pub fn answer(result: Result<i32, Errno>) -> c_int {
    result.unwrap_or_else(fail)
}
