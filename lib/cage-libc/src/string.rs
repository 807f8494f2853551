//! Memory and strings.

use crate::abi;
use libc::{c_char, c_int, c_void, size_t};

#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(string: *const c_char) -> size_t {
    let mut len = 0;
    // SAFETY: the string ends with a NUL.
    while unsafe { string.add(len).read() } != 0 {
        len += 1;
    }
    len
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strncmp(left: *const c_char, right: *const c_char, len: size_t) -> c_int {
    for at in 0..len {
        // SAFETY: both end with a NUL, behind which nothing is read.
        let (a, b) = unsafe { (left.add(at).read() as u8, right.add(at).read() as u8) };
        if a != b || a == 0 {
            return c_int::from(a) - c_int::from(b);
        }
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const c_void, right: *const c_void, len: size_t) -> c_int {
    let (left, right) = (left.cast::<u8>(), right.cast::<u8>());
    let mut at = 0;
    // SAFETY: both have `len` bytes.
    unsafe {
        while at + 8 <= len
            && left.add(at).cast::<u64>().read_unaligned()
                == right.add(at).cast::<u64>().read_unaligned()
        {
            at += 8;
        }
        while at < len {
            let (a, b) = (left.add(at).read(), right.add(at).read());
            if a != b {
                return c_int::from(a) - c_int::from(b);
            }
            at += 1;
        }
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memchr(bytes: *const c_void, byte: c_int, len: size_t) -> *mut c_void {
    let bytes = bytes.cast::<u8>().cast_mut();
    for at in 0..len {
        // SAFETY: there are `len` bytes.
        unsafe {
            if bytes.add(at).read() == byte as u8 {
                return bytes.add(at).cast();
            }
        }
    }
    core::ptr::null_mut()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strerror_r(error: c_int, buf: *mut c_char, len: size_t) -> c_int {
    let text = abi::describe(error).as_bytes();
    if text.len() >= len {
        return libc::ERANGE;
    }
    // SAFETY: the buffer holds the text and its NUL.
    unsafe {
        core::ptr::copy_nonoverlapping(text.as_ptr(), buf.cast(), text.len());
        buf.add(text.len()).write(0);
    }
    0
}
