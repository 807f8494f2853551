//! What the clamp serves of the grates inside, and of what they pass on.

use crate::registrations::{Place, register};
use crate::{END, state};
use grate_rs::constants::{
    SYS_CLONE, SYS_EXECVE, SYS_GETPPID, SYS_OPEN, SYS_OPENAT, SYS_REGISTER_HANDLER, SYS_WAITPID,
    error,
};
use grate_rs::kernel::{self, value};
use grate_rs::{CageFd, Call, Errno, SyscallHandler, handler};

handler!(register_handler, SYS_REGISTER_HANDLER, register);
handler!(clone, SYS_CLONE, clone_cage);
handler!(execve, SYS_EXECVE, exec);
handler!(waitpid, SYS_WAITPID, wait4);
handler!(open, SYS_OPEN, opens);
handler!(openat, SYS_OPENAT, opens_at);

/// Number and handler.
pub static HANDLERS: &[(u64, SyscallHandler)] = &[
    (SYS_REGISTER_HANDLER, register_handler),
    (SYS_CLONE, clone),
    (SYS_EXECVE, execve),
    (SYS_WAITPID, waitpid),
    (SYS_OPEN, open),
    (SYS_OPENAT, openat),
];

/// clone: the child of a fork has its parent's registrations, from before the grates inside hear
/// of it.
pub fn clone_cage(call: &Call) -> Result<i32, Errno> {
    let parent = call.cage_of(0);
    state().registrations.forget_gone();
    let child = call.forward(parent)?;
    inherit(parent, child);
    Ok(child)
}

/// A cage has forked another, unless it is a thread that it has made.
pub fn inherit(parent: u64, child: i32) {
    let Ok(cage @ 1..) = u64::try_from(child) else {
        return;
    };
    if kernel::call(SYS_GETPPID, cage, &[]).is_ok_and(|of| of as u64 == parent) {
        state().registrations.inherit(parent, cage);
    }
}

/// wait4: who was waited for is gone.
pub fn wait4(call: &Call) -> Result<i32, Errno> {
    let child = call.forward(call.cage_of(0))?;
    if child > 0 {
        state().registrations.forget(child as u64);
    }
    Ok(child)
}

/// open: path, flags, mode.
fn opens(call: &Call) -> Result<i32, Errno> {
    opened(call, 0, None)
}

/// openat: directory, path, flags, mode.
fn opens_at(call: &Call) -> Result<i32, Errno> {
    opened(call, 1, Some(0))
}

/// Opens a file for a grate inside, whose own it is.
fn opened(call: &Call, path: usize, directory: Option<usize>) -> Result<i32, Errno> {
    let cage = call.caller();
    let fd = call.forward(cage)?;
    if state().registrations.place(cage) == Place::Inside
        && let Ok(path) = call.numbered(call.nr).take_path(path, directory)
    {
        state().private.note(CageFd { cage, fd }, &path);
    }
    Ok(fd)
}

/// execve: path, arguments, environment. Where a grate inside would run the end of the grates, the
/// program runs.
fn exec(call: &Call) -> Result<i32, Errno> {
    const PATH_MAX: usize = 4096;
    const WORD: u64 = 8;
    let cage = call.cage_of(1);
    if state().registrations.place(cage) == Place::Program {
        return call.forward(cage);
    }
    let path = call.place(0).read_cstr(PATH_MAX)?;
    if path != END.as_bytes() {
        return call.forward(cage);
    }
    let next = call.place(1).add(WORD);
    let program = u64::from_le_bytes(next.read()?);
    if program == 0 {
        return Err(Errno(error::ENOENT));
    }
    state().registrations.adopt(cage)?;
    let mut args = call.args();
    args[0] = value(next.cage, program);
    args[1] = value(next.cage, next.addr);
    call.forward_with(cage, &args)
}
