//! Descriptors: how they come to be, are copied and closed.

use super::known::{self, Kind, Known, Permit, count_of};
use super::state;
use grate_rs::constants::fs;
use grate_rs::kernel::pass;
use grate_rs::{CageFd, Call, Errno};
use resource_grate::limits::Count;

/// Makes a descriptor by a call that answers it.
pub fn opened(
    cage: u64,
    count: Count,
    kind: impl FnOnce(CageFd) -> Result<Kind, Errno>,
    act: impl FnOnce() -> Result<i32, Errno>,
) -> Result<i32, Errno> {
    let permit = Permit::take(count)?;
    let opening = state().known.opening(cage);
    let fd = act()?;
    let at = CageFd { cage, fd };
    // What can't be looked at is gone already.
    let known = kind(at).ok().map(|kind| Known::new(kind, permit));
    state().known.note(at, known);
    drop(opening);
    Ok(fd)
}

/// open: path, flags, mode.
pub fn open(call: &Call) -> Result<i32, Errno> {
    opened(call.cage_of(1), Count::FilesOpened, known::look, || {
        pass(call, 1)
    })
}

/// openat: directory, path, flags, mode.
pub fn openat(call: &Call) -> Result<i32, Errno> {
    opened(call.cage_of(2), Count::FilesOpened, known::look, || {
        pass(call, 2)
    })
}

/// epoll_create and epoll_create1.
pub fn epoll_create(call: &Call) -> Result<i32, Errno> {
    let kind = |_| Ok(Kind::Other);
    opened(call.cage_of(0), Count::FilesOpened, kind, || pass(call, 0))
}

/// The numbers of two descriptors, as a call stores them.
pub fn pair(bytes: [u8; 8]) -> [i32; 2] {
    let [a, b, c, d, e, f, g, h] = bytes;
    [[a, b, c, d], [e, f, g, h]].map(i32::from_le_bytes)
}

/// Gives the program the descriptors that the grate was given for it.
pub fn give(call: &Call, place: usize, cage: u64, bytes: [u8; 8]) -> Result<(), Errno> {
    call.place(place).write(&bytes).inspect_err(|_| {
        for fd in pair(bytes) {
            state().known.note(CageFd { cage, fd }, None);
            CageFd { cage, fd }.close();
        }
    })
}

/// pipe: where the descriptors go. pipe2: the same, and flags.
pub fn pipe(call: &Call) -> Result<i32, Errno> {
    let cage = call.cage_of(0);
    let permits = [
        Permit::take(Count::FilesOpened)?,
        Permit::take(Count::FilesOpened)?,
    ];
    let _opening = state().known.opening(cage);
    // Not as they stand in the program's memory, where others may change them.
    let (result, bytes) = call.forward_into::<8>(cage, 0)?;
    for (fd, permit) in pair(bytes).into_iter().zip(permits) {
        let known = Known::new(Kind::Other, permit);
        state().known.note(CageFd { cage, fd }, Some(known));
    }
    give(call, 0, cage, bytes)?;
    Ok(result)
}

/// Copies a descriptor, which counts as one more.
fn copied(
    call: &Call,
    to: Option<CageFd>,
    act: impl FnOnce(&Call) -> Result<i32, Errno>,
) -> Result<i32, Errno> {
    let from = CageFd::of(call, 0);
    let (held, kind) = known::hold(from)?;
    drop(held);
    if to == Some(from) {
        return act(call);
    }
    let count = count_of(kind);
    let replaced = to.and_then(|to| state().known.get(to)?.counts_as());
    let permit = match replaced {
        // It goes when the copy is there.
        Some(other) if other == count => Permit::take_anyway(count),
        _ => Permit::take(count)?,
    };
    let opening = state().known.opening(from.cage);
    let fd = act(call)?;
    let known = Known::new(kind, permit);
    state().known.note(CageFd { fd, ..from }, Some(known));
    drop(opening);
    Ok(fd)
}

/// dup: descriptor.
pub fn dup(call: &Call) -> Result<i32, Errno> {
    copied(call, None, |call| state().known.dup(call))
}

fn second(call: &Call) -> Option<CageFd> {
    Some(CageFd {
        cage: call.cage_of(0),
        fd: call.int(1),
    })
}

/// dup2: descriptor, the number it gets.
pub fn dup2(call: &Call) -> Result<i32, Errno> {
    copied(call, second(call), |call| state().known.dup2(call))
}

/// dup3: descriptor, the number it gets, flags.
pub fn dup3(call: &Call) -> Result<i32, Errno> {
    copied(call, second(call), |call| state().known.dup3(call))
}

/// fcntl: descriptor, command, number.
pub fn fcntl(call: &Call) -> Result<i32, Errno> {
    match call.int(1) {
        fs::F_DUPFD | fs::F_DUPFD_CLOEXEC => copied(call, None, |call| state().known.fcntl(call)),
        _ => pass(call, 0),
    }
}

/// close: descriptor.
pub fn close(call: &Call) -> Result<i32, Errno> {
    state().known.close(call)
}
