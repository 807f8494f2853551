//! Where a program begins and ends.

use crate::sys;
use libc::c_int;

unsafe extern "C" {
    /// Runs constructors. Referring to it keeps the linker from running them again at every
    /// call of an export.
    fn __wasm_call_ctors();
    /// The program's `main`, as rustc emits it for WASI.
    fn __main_void() -> c_int;
}

/// The entry. The result is never seen: it is there because Lind's runtime calls it that way, and
/// because a fork returns through here while the stack is saved.
#[unsafe(no_mangle)]
unsafe extern "C" fn _start() -> c_int {
    // SAFETY: called once by the runtime, first thing. (After a fork it is called again to
    // restore the stack, and then runs none of this.)
    let code = unsafe {
        __wasm_call_ctors();
        __main_void()
    };
    sys::exit(code)
}

#[unsafe(no_mangle)]
extern "C" fn exit(code: c_int) -> ! {
    sys::exit(code)
}

#[unsafe(no_mangle)]
extern "C" fn _exit(code: c_int) -> ! {
    sys::exit(code)
}

#[unsafe(no_mangle)]
extern "C" fn abort() -> ! {
    core::arch::wasm32::unreachable()
}
