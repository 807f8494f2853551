//! The environment.

use crate::errno;
use core::sync::atomic::{AtomicPtr, Ordering};
use libc::{c_char, c_int};

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

/// The place of a variable in the list, and the number of all variables.
unsafe fn find(name: *const c_char) -> (Option<usize>, usize) {
    // SAFETY: a list that ends with a null, of strings that end with a NUL; `name` too.
    unsafe {
        let list = __wasilibc_get_environ();
        let len = libc::strlen(name);
        let mut found = None;
        let mut count = 0;
        while !list.add(count).read().is_null() {
            let string = list.add(count).read();
            if libc::strncmp(string, name, len) == 0 && string.add(len).read() as u8 == b'=' {
                found = found.or(Some(count));
            }
            count += 1;
        }
        (found, count)
    }
}

// `std` calls the next two under a lock of its own. Old strings and lists are never freed: someone
// may still hold what getenv gave.

#[unsafe(no_mangle)]
unsafe extern "C" fn setenv(name: *const c_char, value: *const c_char, overwrite: c_int) -> c_int {
    // SAFETY: strings that end with a NUL; blocks as large as what is copied into them.
    unsafe {
        let (found, count) = find(name);
        if found.is_some() && overwrite == 0 {
            return 0;
        }
        let (name_len, value_len) = (libc::strlen(name), libc::strlen(value));
        let string = libc::malloc(name_len + value_len + 2).cast::<c_char>();
        let list = libc::calloc(count + 2, size_of::<*mut c_char>()).cast::<*mut c_char>();
        if string.is_null() || list.is_null() {
            errno::set(libc::ENOMEM);
            return -1;
        }
        name.copy_to_nonoverlapping(string, name_len);
        string.add(name_len).write(b'=' as c_char);
        value.copy_to_nonoverlapping(string.add(name_len + 1), value_len + 1);
        LIST.load(Ordering::Acquire)
            .copy_to_nonoverlapping(list, count);
        list.add(found.unwrap_or(count)).write(string);
        LIST.store(list, Ordering::Release);
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn unsetenv(name: *const c_char) -> c_int {
    // SAFETY: a string that ends with a NUL; the last entry of the list is within it.
    unsafe {
        while let (Some(at), count) = find(name) {
            let list = LIST.load(Ordering::Acquire);
            list.add(at).write(list.add(count - 1).read());
            list.add(count - 1).write(core::ptr::null_mut());
        }
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn getenv(name: *const c_char) -> *mut c_char {
    // SAFETY: a string that ends with a NUL; a found entry has a `=` behind the name.
    unsafe {
        match find(name) {
            (Some(at), _) => {
                let string = LIST.load(Ordering::Acquire).add(at).read();
                string.add(libc::strlen(name) + 1)
            }
            (None, _) => core::ptr::null_mut(),
        }
    }
}
