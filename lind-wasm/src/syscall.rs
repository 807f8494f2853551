//! A system call of an instance: through 3i, and what it leaves to do.

use crate::cage::{Cage, Pending};
use crate::program::Kind;
use crate::request::{Arg, Request, UNUSED};
use crate::runtime::Runtime;
use crate::signals::can_restart;
use crate::state::{Asyncify, HostState, Split, Stop, run_handlers};
use crate::threei::{self, Origin};
use calls::{EXIT, EXIT_GROUP, WRITE};
use rustix::io::Errno;
use std::sync::Arc;
use wasmtime::{AsContextMut, Caller, Val};

/// Makes a system call for an instance: through 3i, then does what the call left to do.
///
/// # Errors
/// A [`Stop`] when the instance must not go on.
pub fn system_call(
    caller: &mut Caller<'_, HostState>,
    request: &mut Request,
) -> wasmtime::Result<i32> {
    let nr = request.nr;
    loop {
        if let Some(result) = attempt(caller, request)? {
            return Ok(result);
        }
        request.nr = nr;
    }
}

/// Makes a system call. `None` where handlers of signals interrupted it, and it is to be made once
/// more.
fn attempt(
    caller: &mut Caller<'_, HostState>,
    request: &mut Request,
) -> wasmtime::Result<Option<i32>> {
    let state = caller.data_mut();
    let (rt, cage, routes) = (&state.rt, &state.cage, &mut state.routes);
    let origin = Origin {
        cage,
        image: Some(&state.image),
    };
    let Some(task) = &state.task else {
        let result = threei::dispatch(rt, origin, routes, request);
        let stop = state.doomed();
        return stop.map_or(Ok(Some(result)), |stop| Err(stop.into()));
    };
    // The end of the last thread is that of the cage, and its grates are to see it so.
    let leaves = request.nr == EXIT;
    if leaves
        && let Some(code) = cage
            .crew
            .is_last_to_leave(task, request.args[0].value as i32)
    {
        request.nr = EXIT_GROUP;
        request.args[0].value = i64::from(code) as u64;
    }
    task.enter_call(request.nr);
    let result = threei::dispatch(rt, origin, routes, request);
    // A signal that interrupted it may be there before the word of it.
    let is_interrupted = result == -Errno::INTR.raw_os_error();
    if !task.needs_attention() && !is_interrupted {
        if leaves {
            cage.crew.stays(task);
        }
        return Ok(Some(result));
    }
    if let Some(stop) = state.doomed() {
        return Err(stop.into());
    }
    if let Some(line) = task.take_said() {
        tell(rt, cage, line);
    }
    let pending = task.take_pending(|| cage.doom().is_some() || cage.signals.are_due());
    if leaves && !matches!(pending, Some(Pending::Leave(_) | Pending::Exit(_))) {
        cage.crew.stays(task);
    }
    match pending {
        None if state.has_handlers_to_run() => {
            let restarts = run_handlers(caller.as_context_mut())? && can_restart(request.nr);
            Ok((!(is_interrupted && restarts)).then_some(result))
        }
        None => Ok(Some(result)),
        Some(Pending::Exit(status)) => Err(Stop::Exit(status).into()),
        Some(Pending::Leave(code)) => Err(Stop::Leave(code).into()),
        Some(Pending::Exec(new)) => Err(Stop::Exec(new).into()),
        Some(Pending::Fork(child)) => unwind(caller, Split::Cage(child), result).map(Some),
        Some(Pending::Thread(recruit)) if state.image.program.kind == Kind::Wasi => {
            caller.data_mut().recruit = Some(recruit);
            Ok(Some(result))
        }
        Some(Pending::Thread(recruit)) => unwind(caller, Split::Thread(recruit), result).map(Some),
    }
}

/// Writes a line about a cage to its standard error, through 3i: what a program chose to have said
/// goes out past no grate.
pub fn tell(rt: &Arc<Runtime>, cage: &Arc<Cage>, mut line: String) {
    const STANDARD_ERROR: u64 = 2;
    let Ok(image) = cage.image() else {
        return;
    };
    line.push('\n');
    let own = cage.id.raw();
    // There is nobody to tell that nothing can be told.
    let block = cage.own_task().map_or(0, |task| task.scratch());
    let _ = image.memory.lend(block, line.as_bytes(), |at| {
        let mut args = [UNUSED; 6].map(|value| Arg { value, cage: own });
        args[0].value = STANDARD_ERROR;
        args[1].value = at;
        args[2].value = line.len() as u64;
        let request = Request {
            nr: WRITE,
            own,
            target: own,
            args,
        };
        threei::dispatch_for(rt, cage, request)
    });
}

/// Begins to save the stack for what a `clone` makes; the instance returns out of `_start` next.
fn unwind(caller: &mut Caller<'_, HostState>, made: Split, result: i32) -> wasmtime::Result<i32> {
    // A grate may name another number than that of what is made, but can't fail the call.
    let result = match &made {
        _ if result > 0 => result,
        Split::Cage(child) => child.child().pid(),
        Split::Thread(recruit) => recruit.task().number(),
    };
    caller.data_mut().unwinding = Some((made, result));
    let asyncify = caller
        .data()
        .asyncify
        .clone()
        .ok_or_else(|| wasmtime::Error::msg("fork without asyncify"))?;
    let Val::I32(stack_pointer) = asyncify.stack_pointer.get(&mut *caller) else {
        return Err(wasmtime::Error::msg("__stack_pointer is not an i32"));
    };
    let mut header = [0; 8];
    header[..4].copy_from_slice(&(asyncify.stack_low + 8).to_le_bytes());
    header[4..].copy_from_slice(&stack_pointer.to_le_bytes());
    let memory = &caller.data().image.memory;
    memory
        .write(memory.base() + u64::from(asyncify.stack_low), &header)
        .map_err(|_| wasmtime::Error::msg("__stack_low is no address"))?;
    let buffer = asyncify.stack_low as i32;
    Asyncify::call(&mut *caller, &asyncify.start_unwind, buffer)?;
    Ok(0)
}
