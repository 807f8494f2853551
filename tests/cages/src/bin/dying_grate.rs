//! `dying_grate HOW`: a grate that traps in a handler (`trap`), exits before its program (`exit`)
//! or is killed (`kill`). Its program must get EIO for every call from then on, those that were
//! not the grate's too, and the kernel's own answer for none. Exits with 0 when that is so.

use cage_libc::sys::{self, Errno};
use grate_rs::constants::{SYS_GETEUID, SYS_GETUID};
use grate_rs::{Call, getcageid, handler, mmap_shared, register_handler};
use std::sync::atomic::{AtomicI32, Ordering};

const EIO: Errno = Errno(5);

handler!(trapping, SYS_GETEUID, |_: &Call| -> Result<i32, Errno> {
    core::arch::wasm32::unreachable()
});
handler!(ten, SYS_GETUID, |_: &Call| Ok(10));

/// What the program has to say, for it can't write any more.
struct Verdict {
    /// The first number whose answer was wrong, or [`GOOD`].
    wrong: AtomicI32,
}

const GOOD: i32 = 1_000_000;

fn ask(nr: u32) -> Result<i32, Errno> {
    // Paths and buffers, were they looked at, are this one; 1 is a descriptor.
    let path = sys::address(c"/tmp/never".as_ptr());
    // SAFETY: the addresses are those of a string that nothing is written to: all calls but the
    // first two are refused before anybody looks at them, which is what is tested.
    unsafe { sys::syscall(nr, &[path, path, 1, 0, 0, 0]) }
}

/// What runs under the grate. `ready` closes when the handlers are registered, or when the grate
/// has ended.
fn program(how: &str, ready: i32, verdict: &Verdict) {
    while sys::read(ready, &mut [0; 1]) == Err(Errno(4)) {}
    if how == "trap" {
        let first = (ask(SYS_GETUID as u32), ask(SYS_GETEUID as u32));
        if first != (Ok(10), Err(EIO)) {
            return verdict.wrong.store(-1, Ordering::SeqCst);
        }
    }
    let calls = calls::CALLS.iter().filter(|call| !call.is_of_the_thread());
    let calls = calls.filter(|call| call.nr != calls::COPY_DATA);
    let wrong = calls.map(|call| call.nr).find(|&nr| ask(nr) != Err(EIO));
    let wrong = wrong.map_or(GOOD, |nr| nr as i32);
    verdict.wrong.store(wrong, Ordering::SeqCst);
}

fn main() {
    let how = std::env::args().nth(1).unwrap_or_default();
    let run = || -> Result<i32, Errno> {
        // This one watches; the grate is its child, and the program the grate's.
        let (result, report) = sys::pipe2(0)?;
        // SAFETY: zeros are such a verdict.
        let verdict: &Verdict = unsafe { mmap_shared() };
        let grate = sys::fork()?;
        if grate == 0 {
            sys::close(result)?;
            let (ready, latch) = sys::pipe2(0)?;
            let child = sys::fork()?;
            if child == 0 {
                // The grate may be gone by now, and this refused.
                let _ = sys::close(latch);
                program(&how, ready, verdict);
                sys::exit(0)
            }
            for (nr, handler) in [(SYS_GETEUID, trapping as _), (SYS_GETUID, ten as _)] {
                if register_handler(child as u64, nr, getcageid(), handler).is_err() {
                    sys::exit(70)
                }
            }
            match how.as_str() {
                "trap" => {
                    sys::close(latch)?;
                    let _ = sys::waitpid(child, 0);
                }
                // The pipe closes with the grate.
                "kill" => {
                    // SAFETY: no address among the arguments.
                    let _ = unsafe { sys::syscall(sys::nr::KILL, &[sys::own_id(), 9]) };
                }
                _ => {}
            }
            sys::exit(0)
        }
        sys::close(report)?;
        // Both have ended when nobody can write to the pipe any more.
        sys::read(result, &mut [0])?;
        let _ = sys::waitpid(grate, 0);
        match verdict.wrong.load(Ordering::SeqCst) {
            GOOD => Ok(0),
            wrong => {
                println!("call {wrong} was not refused with EIO");
                Ok(1)
            }
        }
    };
    let code = run().unwrap_or_else(|errno| {
        println!("{errno:?}");
        98
    });
    std::process::exit(code)
}
