//! Threads: the proposal wasi-threads.

use super::abi::{Failure, nr};
use super::context::Context;
use crate::state::HostState;
use rustix::io::Errno;
use wasmtime::{Caller, Linker};

/// Numbers of threads are below this.
const NUMBER_END: u32 = 1 << 29;
/// What a libc's threads have in common. The number of the thread is its own affair.
const FLAGS: u64 = 0x5_0f00;

/// Defines `wasi.thread-spawn`.
///
/// # Errors
/// Never in practice: a name defined twice.
pub fn define(linker: &mut Linker<HostState>) -> anyhow::Result<()> {
    linker.func_wrap("wasi", "thread-spawn", spawn)?;
    Ok(())
}

/// Makes a thread that calls `wasi_thread_start` with its number and the argument: a `clone` as
/// its grates see it. Answers the number, or a negated errno of the kernel's.
fn spawn(caller: Caller<'_, HostState>, argument: i32) -> wasmtime::Result<i32> {
    let mut cx = Context::new(caller);
    let failed = |errno: Errno| Ok(-errno.raw_os_error());
    let mut args = [0; 88];
    args[..8].copy_from_slice(&FLAGS.to_le_bytes());
    let cloned = cx.stage(&args).and_then(|at| cx.call(nr::CLONE, [at]));
    // What a grate makes of the result is not the thread.
    let recruit = cx.caller.data_mut().recruit.take();
    match (cloned, recruit) {
        (Err(Failure::Stop(stop)), _) => Err(stop),
        (_, None) => failed(Errno::AGAIN),
        (_, Some(recruit)) => {
            let number = recruit.task().number();
            if number as u32 >= NUMBER_END {
                return failed(Errno::AGAIN);
            }
            let state = cx.caller.data();
            match (state.linkers.begin)(state, recruit, argument) {
                Ok(()) => Ok(number),
                Err(errno) => failed(errno),
            }
        }
    }
}
