//! How descriptors of connections end. Before a connection is closed the other end is told so
//! under seal, or it would have to take the end for a cut.

use super::pump::end_orphan;
use super::{Socket, below};
use crate::grate::files;
use crate::grate::state;
use crate::grate::state::Opened;
use grate_rs::constants::{SYS_FCNTL, fs};
use grate_rs::kernel::{self, int};
use grate_rs::{CageFd, Call, Errno};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::calls::milliseconds;

/// Where the numbers of descriptors begin that a connection is kept open with.
const SPARE: i32 = 256;

/// The connections that nothing leads to any more once these descriptors are gone.
fn last_of(gone: &[CageFd]) -> Vec<(CageFd, Arc<Socket>)> {
    let table = &state().descriptors;
    let mut last: Vec<(CageFd, Arc<Socket>)> = Vec::new();
    for &fd in gone {
        let Some(Opened::Socket(socket)) = table.get(fd) else {
            continue;
        };
        if socket.with_link(|_| ()).is_none()
            || last.iter().any(|(_, other)| Arc::ptr_eq(other, &socket))
        {
            continue;
        }
        let all = table.all_where(
            |opened| matches!(opened, Opened::Socket(other) if Arc::ptr_eq(other, &socket)),
        );
        if all.iter().all(|fd| gone.contains(fd)) {
            last.push((fd, socket));
        }
    }
    last
}

/// Closes descriptors of connections while nobody uses them.
fn undisturbed(gone: &[CageFd], act: impl FnOnce() -> Result<i32, Errno>) -> Result<i32, Errno> {
    let mut sockets: Vec<_> = gone.iter().filter_map(|&fd| state().socket(fd)).collect();
    // In one order, so that no two wait for each other.
    sockets.sort_by_key(Arc::as_ptr);
    sockets.dedup_by(|a, b| Arc::ptr_eq(a, b));
    let _held: Vec<_> = sockets.iter().map(|socket| socket.hold()).collect();
    act()
}

/// A copy of a descriptor, so that the connection outlives it.
fn copy(fd: CageFd, socket: &Arc<Socket>, command: i32) -> Option<CageFd> {
    let args = [fd.arg(), int(fd.cage, command), int(fd.cage, SPARE)];
    let copy = CageFd {
        fd: kernel::call(SYS_FCNTL, fd.cage, &args).ok()?,
        ..fd
    };
    let opened = Some(Opened::Socket(socket.clone()));
    state().descriptors.note(copy, opened);
    Some(copy)
}

/// Ends a connection that the program has closed, now or, where the peer is slow, by and by.
fn end(fd: CageFd, socket: &Arc<Socket>) {
    socket.is_orphan.store(true, Ordering::Release);
    socket.finish(fd);
    end_orphan(fd, socket);
    state().network.pump.watch(socket);
}

/// Ends a connection while its cage ends, which waits for as long as a handshake may take.
fn end_now(fd: CageFd, socket: &Arc<Socket>) {
    let deadline = Instant::now() + state().network.handshake_timeout;
    loop {
        socket.finish(fd);
        let events = socket.with_link(|link| {
            (!link.is_finished() && link.is_connected()).then(|| link.events_below(0))
        });
        let left = deadline.saturating_duration_since(Instant::now());
        match events.flatten() {
            Some(events) if !left.is_zero() => {
                if below::wait(fd, events, milliseconds(Some(left))).is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}

/// close: descriptor.
pub fn close(call: &Call) -> Result<i32, Errno> {
    let fd = CageFd::of(call, 0);
    files::finish(&[fd]);
    for (fd, socket) in last_of(&[fd]) {
        socket.finish(fd);
        let is_finished = socket.with_link(|link| link.is_finished() || !link.is_connected());
        if is_finished == Some(false)
            && let Some(copy) = copy(fd, &socket, fs::F_DUPFD_CLOEXEC)
        {
            end(copy, &socket);
        }
    }
    undisturbed(&[fd], || state().descriptors.close(call))
}

/// Does what may close descriptors; the connections that end by it are told so once it is done.
fn closing(gone: &[CageFd], act: impl FnOnce() -> Result<i32, Errno>) -> Result<i32, Errno> {
    files::finish(gone);
    let kept: Vec<_> = last_of(gone)
        .into_iter()
        .filter_map(|(fd, socket)| Some((copy(fd, &socket, fs::F_DUPFD)?, socket)))
        .collect();
    let result = undisturbed(gone, act);
    for (copy, socket) in kept {
        if result.is_ok() {
            end(copy, &socket);
        } else {
            state().descriptors.note(copy, None);
            copy.close();
        }
    }
    result
}

fn second(call: &Call) -> Vec<CageFd> {
    if call.int(0) == call.int(1) {
        return Vec::new();
    }
    let fd = CageFd {
        cage: call.cage_of(0),
        fd: call.int(1),
    };
    vec![fd]
}

/// dup2: descriptor, the number it gets.
pub fn dup2(call: &Call) -> Result<i32, Errno> {
    closing(&second(call), || state().descriptors.dup2(call))
}

/// dup3: descriptor, the number it gets, flags.
pub fn dup3(call: &Call) -> Result<i32, Errno> {
    closing(&second(call), || state().descriptors.dup3(call))
}

/// execve: descriptors marked so are closed.
pub fn execve(call: &Call) -> Result<i32, Errno> {
    let gone = if state().has_sockets() {
        state().descriptors.closed_by_exec(call.cage_of(0))
    } else {
        Vec::new()
    };
    closing(&gone, || state().descriptors.execve(call))
}

/// exit_group: status.
pub fn exit_group(call: &Call) -> Result<i32, Errno> {
    let state = state();
    let cage = call.cage_of(0);
    let of_cage = state.descriptors.of_cage(cage).into_iter();
    let gone: Vec<_> = of_cage.map(|(fd, _)| fd).collect();
    files::finish(&gone);
    let last = last_of(&gone);
    // Not before nothing more can be sent: an end is an end, whatever comes of this call.
    state.descriptors.end_cage(cage);
    for (fd, socket) in last {
        end_now(fd, &socket);
    }
    if state.program.get() == Some(&cage) {
        state.network.pump.announce_end();
    }
    call.forward(cage)
}

/// clone: the child has the descriptors of its parent.
pub fn clone_cage(call: &Call) -> Result<i32, Errno> {
    let table = &state().descriptors;
    for cage in table.departed() {
        table.forget_cage(cage);
    }
    table.clone_cage(call)
}

/// wait4: who was waited for is gone.
pub fn wait4(call: &Call) -> Result<i32, Errno> {
    state().descriptors.wait4(call)
}
