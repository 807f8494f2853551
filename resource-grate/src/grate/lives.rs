//! Cages and threads: how they begin and end.

use super::known::Permit;
use super::state;
use grate_rs::constants::{SYS_GETPID, SYS_GETPPID, error};
use grate_rs::{Call, Errno, kernel};
use resource_grate::limits::Count;

/// clone: a thread, or a cage with a copy of its parent's descriptors.
pub fn clone_cage(call: &Call) -> Result<i32, Errno> {
    let parent = call.cage_of(0);
    state().known.departed().into_iter().for_each(forget);
    let permit = Permit::take(Count::Events)?;
    let child = state().known.clone_cage(call)?;
    if child > 0 {
        let is_cage =
            kernel::call(SYS_GETPPID, child as u64, &[]).is_ok_and(|of| of as u64 == parent);
        let cage = if is_cage { child as u64 } else { parent };
        state().cages().entry(cage).or_default().extend(permit);
    }
    Ok(child)
}

/// execve: the caller alone is left of the cage's threads.
pub fn execve(call: &Call) -> Result<i32, Errno> {
    let result = state().known.execve(call)?;
    if let Some(threads) = state().cages().get_mut(&call.cage_of(0)) {
        threads.truncate(1);
    }
    Ok(result)
}

/// exit: status. The last thread's end is that of the cage, and comes as exit_group.
pub fn exit(call: &Call) -> Result<i32, Errno> {
    let cage = call.cage_of(0);
    let result = call.forward(cage)?;
    if let Some(threads) = state().cages().get_mut(&cage) {
        threads.pop();
    }
    Ok(result)
}

/// exit_group: status.
pub fn exit_group(call: &Call) -> Result<i32, Errno> {
    let result = state().known.exit(call);
    state().cages().remove(&call.cage_of(0));
    result
}

/// wait4: who was waited for is gone, and may have been killed.
pub fn wait4(call: &Call) -> Result<i32, Errno> {
    let child = call.forward(call.cage_of(0))?;
    if child > 0 {
        forget(child as u64);
    }
    Ok(child)
}

/// Takes back what a cage had that is gone.
fn forget(cage: u64) {
    state().known.forget_cage(cage);
    state().cages().remove(&cage);
}

/// Takes back what cages had that were killed.
pub fn forget_gone() {
    const ESRCH: Errno = Errno(error::ESRCH);
    let all: Vec<u64> = state().cages().keys().copied().collect();
    all.into_iter()
        .filter(|cage| kernel::call(SYS_GETPID, *cage, &[]) == Err(ESRCH))
        .for_each(forget);
}
