//! `virtual_grate PROGRAM ARGS...`: a grate in the manner of Lind's own that gives its program virtual descriptors by
//! `fd_support` for every call, and keeps their tables over fork, exec and exit. What the program is born with stands
//! far away from where it is below, and so does all that it opens: a number that is not translated shows.

use fdtables::{FD_PER_PROCESS_MAX, get_specific_virtual_fd};
use grate_rs::constants::SYS_REGISTER_HANDLER;
use grate_rs::constants::{SYS_CLONE, SYS_EXECVE, SYS_EXIT_GROUP};
use grate_rs::{Arg, Call, Errno, GrateBuilder, forward, getcageid, handler, is_thread_clone};
use std::os::fd::IntoRawFd;

/// Taken below before the program begins, so that numbers there are higher than its own.
const TAKEN: usize = 7;

handler!(clone, SYS_CLONE, |call: &Call| {
    let cage = call.cage_of(0);
    let is_thread = is_thread_clone(call.arg(0).value, cage);
    let child = call.forward(cage)?;
    if child > 0 && !is_thread {
        let _ = fdtables::copy_fdtable_for_cage(cage, child as u64);
    }
    Ok(child)
});

handler!(exec, SYS_EXECVE, |call: &Call| -> Result<i32, Errno> {
    let cage = call.cage_of(0);
    let before = fdtables::return_fdtable_copy(cage);
    fdtables::empty_fds_for_exec(cage);
    // Comes back only where nothing was replaced.
    call.forward(cage).inspect_err(|_| {
        for (fd, entry) in before {
            let _ = get_specific_virtual_fd(
                cage,
                fd,
                entry.fdkind,
                entry.underfd,
                entry.should_cloexec,
                entry.perfdinfo,
            );
        }
    })
});

handler!(exit, SYS_EXIT_GROUP, |call: &Call| {
    let cage = call.cage_of(0);
    fdtables::remove_cage_from_fdtable(cage);
    call.forward(cage)
});

/// Registers a handler as Lind's clamps pass registrations on: with 0 beside what is no cage's.
fn register(cage: u64, nr: u64, handler: grate_rs::SyscallHandler) -> Result<i32, Errno> {
    let arg = |value, cage| Arg { value, cage };
    let none = arg(0, 0);
    let own = getcageid();
    let index = handler as usize as u64;
    let args = [arg(cage, nr), arg(0, own), arg(index, 0), none, none, none];
    forward(SYS_REGISTER_HANDLER as u32, own, &args)
}

fn main() {
    for _ in 0..TAKEN {
        let taken = std::fs::File::open("/dev/null").expect("the runtime lends it");
        let _ = taken.into_raw_fd();
    }
    GrateBuilder::new()
        .enable_fd_translate_policy(None)
        .register(SYS_CLONE, clone)
        .register(SYS_EXECVE, exec)
        .preexec(|child| {
            let cage = child as u64;
            assert_eq!(register(cage, SYS_EXIT_GROUP, exit), Ok(0));
            fdtables::init_empty_cage(cage);
            for fd in 0..3 {
                let _ = get_specific_virtual_fd(cage, fd, 0, fd, false, 0);
            }
            assert!(get_specific_virtual_fd(cage, FD_PER_PROCESS_MAX, 0, 0, false, 0).is_err());
        })
        .run(std::env::args().skip(1).collect());
}
