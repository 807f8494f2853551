//! Threads, of which a cage has one: asking for another fails, and thread-local data is plain.

use libc::{c_int, c_long, c_void, pthread_attr_t, pthread_t, size_t};

#[unsafe(no_mangle)]
extern "C" fn pthread_attr_init(_attributes: *mut pthread_attr_t) -> c_int {
    0
}

#[unsafe(no_mangle)]
extern "C" fn pthread_attr_destroy(_attributes: *mut pthread_attr_t) -> c_int {
    0
}

#[unsafe(no_mangle)]
extern "C" fn pthread_attr_setstacksize(_attributes: *mut pthread_attr_t, _: size_t) -> c_int {
    0
}

#[unsafe(no_mangle)]
extern "C" fn pthread_create(
    _thread: *mut pthread_t,
    _attributes: *const pthread_attr_t,
    _start: *const c_void,
    _argument: *mut c_void,
) -> c_int {
    libc::ENOSYS
}

#[unsafe(no_mangle)]
extern "C" fn pthread_join(_thread: pthread_t, _result: *mut *mut c_void) -> c_int {
    libc::ESRCH
}

#[unsafe(no_mangle)]
extern "C" fn pthread_detach(_thread: pthread_t) -> c_int {
    libc::ESRCH
}

// `std` keeps a key to run destructors of thread-locals at the end of a thread. A cage has one
// thread, and at its end the process is gone.

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_key_create(key: *mut u32, _destructor: *const c_void) -> c_int {
    // SAFETY: the caller's place for a key.
    unsafe { key.write(1) };
    0
}

#[unsafe(no_mangle)]
extern "C" fn pthread_key_delete(_key: u32) -> c_int {
    0
}

#[unsafe(no_mangle)]
extern "C" fn pthread_setspecific(_key: u32, _value: *const c_void) -> c_int {
    0
}

#[unsafe(no_mangle)]
extern "C" fn pthread_getspecific(_key: u32) -> *mut c_void {
    core::ptr::null_mut()
}

#[unsafe(no_mangle)]
extern "C" fn sysconf(name: c_int) -> c_long {
    match name {
        libc::_SC_PAGESIZE => 4096,
        libc::_SC_NPROCESSORS_ONLN => 1,
        _ => {
            crate::errno::set(libc::EINVAL);
            -1
        }
    }
}
