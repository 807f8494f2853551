//! Clocks and sleeping.

use crate::abi;
use crate::errno::answer;
use crate::sys::{self, Errno, address, nr};
use libc::{c_int, timespec};

/// wasi-libc names a clock by the address of an object.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
static _CLOCK_MONOTONIC: u32 = 1;
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
static _CLOCK_REALTIME: u32 = 0;

/// The kernel's number of a clock.
unsafe fn number(clock: *const u32) -> u64 {
    // SAFETY: a clock is one of the two objects above.
    u64::from(unsafe { clock.read() })
}

/// `struct timespec` as the kernel has it.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct KernelTime {
    seconds: i64,
    nanoseconds: i64,
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: *const u32, out: *mut timespec) -> c_int {
    let mut time = KernelTime::default();
    // SAFETY: `time` is a place for a timespec, `out` the caller's.
    unsafe {
        let args = [number(clock), address(&raw mut time)];
        let result = sys::syscall(nr::CLOCK_GETTIME, &args);
        if result.is_ok() {
            out.write(timespec {
                tv_sec: time.seconds,
                tv_nsec: time.nanoseconds as _,
            });
        }
        answer(result)
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn clock_nanosleep(
    clock: *const u32,
    flags: c_int,
    request: *const timespec,
    left: *mut timespec,
) -> c_int {
    // SAFETY: the caller's timespecs; `left` may be null.
    unsafe {
        let wanted = request.read();
        let wanted = KernelTime {
            seconds: wanted.tv_sec,
            nanoseconds: wanted.tv_nsec as i64,
        };
        let mut rest = KernelTime::default();
        let args = [
            number(clock),
            flags as i64 as u64,
            address(&raw const wanted),
            address(&raw mut rest),
        ];
        match sys::syscall(nr::CLOCK_NANOSLEEP, &args) {
            Ok(_) => 0,
            Err(error) => {
                if error == Errno(4) && !left.is_null() {
                    left.write(timespec {
                        tv_sec: rest.seconds,
                        tv_nsec: rest.nanoseconds as _,
                    });
                }
                // This one answers the error instead of setting errno.
                abi::wasi_errno(error)
            }
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nanosleep(request: *const timespec, left: *mut timespec) -> c_int {
    // SAFETY: the caller's.
    match unsafe { clock_nanosleep(&raw const _CLOCK_REALTIME, 0, request, left) } {
        0 => 0,
        error => {
            crate::errno::set(error);
            -1
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn sched_yield() -> c_int {
    // SAFETY: no arguments.
    answer(unsafe { sys::syscall(nr::SCHED_YIELD, &[]) })
}
