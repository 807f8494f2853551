//! The environment.

use core::sync::atomic::{AtomicPtr, Ordering};
use libc::c_char;

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn environ_sizes_get(count: *mut usize, size: *mut usize) -> i32;
    fn environ_get(list: *mut *mut c_char, bytes: *mut c_char) -> i32;
}

/// Pointers to `NAME=VALUE`, the last one null; made on the first use.
static LIST: AtomicPtr<*mut c_char> = AtomicPtr::new(core::ptr::null_mut());

#[unsafe(no_mangle)]
unsafe extern "C" fn __wasilibc_get_environ() -> *mut *mut c_char {
    let known = LIST.load(Ordering::Acquire);
    if !known.is_null() {
        return known;
    }
    let (mut count, mut size) = (0, 0);
    // SAFETY: places for two numbers; then blocks as large as the host said. The host leaves the
    // null at the end to us, and calloc has put it there.
    unsafe {
        if environ_sizes_get(&mut count, &mut size) != 0 {
            (count, size) = (0, 0);
        }
        let list = libc::calloc(count + 1, size_of::<*mut c_char>()).cast::<*mut c_char>();
        let bytes = libc::calloc(size + 1, 1).cast::<c_char>();
        if list.is_null() || bytes.is_null() {
            libc::abort();
        }
        if count > 0 && environ_get(list, bytes) != 0 {
            list.write(core::ptr::null_mut());
        }
        LIST.store(list, Ordering::Release);
        list
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn getenv(name: *const c_char) -> *mut c_char {
    // SAFETY: a list that ends with a null, of strings that end with a NUL; `name` too.
    unsafe {
        let mut entry = __wasilibc_get_environ();
        while !entry.read().is_null() {
            let string = entry.read();
            let mut at = 0;
            while name.add(at).read() != 0 && name.add(at).read() == string.add(at).read() {
                at += 1;
            }
            if name.add(at).read() == 0 && string.add(at).read() as u8 == b'=' {
                return string.add(at + 1);
            }
            entry = entry.add(1);
        }
    }
    core::ptr::null_mut()
}
