//! `dying_grate HOW`: a grate that traps in a handler (`trap`), exits before its program (`exit`)
//! or is killed (`kill`). Its program must get EIO for every call that was the grate's, and the
//! kernel's own answer for none of them. Exits with 0 when that is so.

use cage_libc::sys::{self, Errno};
use grate_rs::constants::{SYS_GETEUID, SYS_GETUID};
use grate_rs::{Call, getcageid, handler, register_handler};

const EIO: Errno = Errno(5);

handler!(trapping, SYS_GETEUID, |_: &Call| -> Result<i32, Errno> {
    core::arch::wasm32::unreachable()
});
handler!(ten, SYS_GETUID, |_: &Call| Ok(10));

fn ask(nr: u64) -> Result<i32, Errno> {
    // SAFETY: no arguments.
    unsafe { sys::syscall(nr as u32, &[]) }
}

/// What runs under the grate. `ready` closes when the handlers are registered, `gone` when the
/// grate has ended.
fn program(how: &str, ready: i32) -> i32 {
    // The end of the pipe, in every case: the grate never writes to it.
    while sys::read(ready, &mut [0; 1]) == Err(Errno(4)) {}
    if how == "trap" {
        let before = ask(SYS_GETUID);
        let trapped = ask(SYS_GETEUID);
        let after = ask(SYS_GETUID);
        println!("{before:?} {trapped:?} {after:?}");
        return i32::from((before, trapped, after) != (Ok(10), Err(EIO), Err(EIO)));
    }
    let answers = (ask(SYS_GETUID), ask(SYS_GETEUID));
    println!("{answers:?}");
    i32::from(answers != (Err(EIO), Err(EIO)))
}

fn main() {
    let how = std::env::args().nth(1).unwrap_or_default();
    let run = || -> Result<i32, Errno> {
        // This one watches; the grate is its child, and the program the grate's.
        let (result, report) = sys::pipe2(0)?;
        let grate = sys::fork()?;
        if grate == 0 {
            sys::close(result)?;
            let (ready, latch) = sys::pipe2(0)?;
            let child = sys::fork()?;
            if child == 0 {
                sys::close(latch)?;
                let _ = sys::write(report, &[program(&how, ready) as u8]);
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
        let mut verdict = [99];
        sys::read(result, &mut verdict)?;
        let _ = sys::waitpid(grate, 0);
        Ok(i32::from(verdict[0]))
    };
    let code = run().unwrap_or_else(|errno| {
        println!("{errno:?}");
        98
    });
    std::process::exit(code)
}
