//! The process: arguments, environment, its end, and random bytes.

use super::abi::{Errno, Failure, Outcome, nr};
use super::context::Context;
use crate::arguments::{strings_get, strings_sizes};
use crate::cage::WaitStatus;
use crate::state::{HostState, Stop};
use wasmtime::Caller;

/// Most random bytes that one system call is asked for.
const RANDOM_PIECE: u32 = 1 << 20;

/// Turns the status of the host's own functions into an errno.
fn checked(status: i32) -> Outcome<()> {
    if status == 0 {
        Ok(())
    } else {
        Err(Errno::FAULT.into())
    }
}

/// The arguments.
pub fn args_get(cx: &mut Context<'_>, list: u32, bytes: u32) -> Outcome<()> {
    let args = &cx.caller.data().image.args;
    checked(strings_get(&cx.caller, args, list as i32, bytes as i32))
}

/// How many arguments, and their bytes.
pub fn args_sizes_get(cx: &mut Context<'_>, count: u32, size: u32) -> Outcome<()> {
    let args = &cx.caller.data().image.args;
    checked(strings_sizes(&cx.caller, args, count as i32, size as i32))
}

/// The environment.
pub fn environ_get(cx: &mut Context<'_>, list: u32, bytes: u32) -> Outcome<()> {
    let env = &cx.caller.data().image.env;
    checked(strings_get(&cx.caller, env, list as i32, bytes as i32))
}

/// How many variables, and their bytes.
pub fn environ_sizes_get(cx: &mut Context<'_>, count: u32, size: u32) -> Outcome<()> {
    let env = &cx.caller.data().image.env;
    checked(strings_sizes(&cx.caller, env, count as i32, size as i32))
}

/// Ends the program.
///
/// # Errors
/// Always: nothing of the program runs after it.
pub fn proc_exit(caller: Caller<'_, HostState>, code: i32) -> wasmtime::Result<()> {
    let mut cx = Context::new(caller);
    match cx.call(nr::EXIT_GROUP, [i64::from(code) as u64]) {
        Err(Failure::Stop(stop)) => Err(stop),
        // A grate kept the call to itself, but there is nothing to go back to.
        Ok(_) | Err(Failure::Errno(_)) => Err(Stop::Exit(WaitStatus::exited(code)).into()),
    }
}

/// Sends the program a signal.
pub fn proc_raise(cx: &mut Context<'_>, signal: u32) -> Outcome<()> {
    let own = cx.own();
    let signal = linux_signal(signal).ok_or(Errno::INVAL)?;
    cx.call(nr::KILL, [own, u64::from(signal)]).map(drop)
}

/// Linux's number for a signal of WASI, which leaves out 16 (`SIGSTKFLT`).
fn linux_signal(signal: u32) -> Option<u32> {
    match signal {
        0..=15 => Some(signal),
        16..=30 => Some(signal + 1),
        _ => None,
    }
}

/// Lets others run.
pub fn sched_yield(cx: &mut Context<'_>) -> Outcome<()> {
    cx.call(nr::SCHED_YIELD, []).map(drop)
}

/// Random bytes, piece by piece.
pub fn random_get(cx: &mut Context<'_>, at: u32, len: u32) -> Outcome<()> {
    cx.check(at, len)?;
    let mut done = 0;
    while done < len {
        let piece = (len - done).min(RANDOM_PIECE);
        let got = cx.call(
            nr::GETRANDOM,
            [u64::from(at) + u64::from(done), u64::from(piece), 0],
        )?;
        // No progress, or more than was asked for: some grate's mistake.
        if got == 0 || got > piece {
            return Err(Errno::IO.into());
        }
        done += got;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_linuxs_numbers() {
        for (wasi, linux) in [
            (0, 0),
            (9, libc::SIGKILL),
            (15, libc::SIGTERM),
            (16, libc::SIGCHLD),
            (30, libc::SIGSYS),
        ] {
            assert_eq!(linux_signal(wasi), Some(linux as u32));
        }
        assert_eq!(linux_signal(31), None);
    }
}
