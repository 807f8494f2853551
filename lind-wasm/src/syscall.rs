//! A system call of an instance: through 3i, and what it leaves to do.

use crate::cage::{Cage, Pending, Unborn};
use crate::request::{Arg, Request, UNUSED};
use crate::runtime::Runtime;
use crate::state::{Asyncify, HostState, Stop};
use crate::threei;
use calls::WRITE;
use std::sync::Arc;
use wasmtime::{Caller, Val};

/// Makes a system call for an instance: through 3i, then does what the call left to do.
///
/// # Errors
/// A [`Stop`] when the instance must not go on.
pub fn system_call(caller: &mut Caller<'_, HostState>, request: Request) -> wasmtime::Result<i32> {
    let state = caller.data();
    let (rt, cage) = (&state.rt, &state.cage);
    if state.main {
        cage.enter_call(request.nr);
    }
    let result = threei::dispatch(rt, cage, request);
    if state.main && !cage.needs_attention() {
        return Ok(result);
    }
    if let Some(stop) = state.doomed() {
        return Err(stop.into());
    }
    if !state.main {
        return Ok(result);
    }
    deliver(rt, cage);
    match cage.take_pending() {
        None => Ok(result),
        Some(Pending::Exit(status)) => Err(Stop::Exit(status).into()),
        Some(Pending::Exec(new)) => Err(Stop::Exec(new).into()),
        Some(Pending::Fork(child)) => unwind(caller, child, result),
    }
}

/// Writes what is to be said about a cage to its standard error, through 3i.
pub fn deliver(rt: &Arc<Runtime>, cage: &Arc<Cage>) {
    const STANDARD_ERROR: u64 = 2;
    let (Some(mut line), Ok(image)) = (cage.take_said(), cage.image()) else {
        return;
    };
    line.push('\n');
    let own = cage.id.raw();
    // There is nobody to tell that nothing can be told.
    let _ = image.memory.lend(line.as_bytes(), |at| {
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
        threei::dispatch(rt, cage, request)
    });
}

/// Begins to save the stack for a fork; the instance returns out of `_start` next.
fn unwind(caller: &mut Caller<'_, HostState>, child: Unborn, result: i32) -> wasmtime::Result<i32> {
    // A grate may name another number than the child's to the parent, but can't fail the call.
    let result = if result > 0 {
        result
    } else {
        child.cage().id.pid()
    };
    caller.data_mut().unwinding = Some((child, result));
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
