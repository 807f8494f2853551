//! epoll. An instance is one of the host's, and what is registered is the host's descriptor: each
//! number in a cage's table has one of its own, so that registrations are told apart, and end, as
//! those of a process do.

use super::io::{OUT_OF_REACH, answer};
use super::poll::check_mask;
use super::{Call, Entry, abi};
use crate::regions::Prot;
use rustix::event::epoll::CreateFlags;
use rustix::io::Errno;
use std::os::fd::AsRawFd;
use std::sync::Arc;

pub(super) const CALLS: &[Entry] = &[
    Entry::new(213, "epoll_create", 1, epoll_create),
    Entry::new(232, "epoll_wait", 4, epoll_wait),
    Entry::new(233, "epoll_ctl", 4, epoll_ctl),
    Entry::extra(281, "epoll_pwait", 6, epoll_pwait),
    Entry::new(291, "epoll_create1", 1, epoll_create1),
];

fn create(call: &Call<'_>, cloexec: bool) -> Result<i32, Errno> {
    let instance = rustix::event::epoll::create(CreateFlags::CLOEXEC)?;
    call.target.fds().insert(0, Arc::new(instance), cloexec)
}

/// The size is a hint that means nothing, but must be positive.
fn epoll_create(call: &Call<'_>) -> Result<i32, Errno> {
    if call.int(0) <= 0 {
        return Err(Errno::INVAL);
    }
    create(call, false)
}

fn epoll_create1(call: &Call<'_>) -> Result<i32, Errno> {
    match call.int(0) {
        0 => create(call, false),
        libc::EPOLL_CLOEXEC => create(call, true),
        _ => Err(Errno::INVAL),
    }
}

fn epoll_ctl(call: &Call<'_>) -> Result<i32, Errno> {
    let operation = call.int(1);
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    if operation != libc::EPOLL_CTL_DEL {
        event = abi::epoll_event(&call.get(3)?);
        // Keeping the machine awake is not for a cage.
        event.events &= !(libc::EPOLLWAKEUP as u32);
    }
    let (instance, file) = (call.target_file(0)?, call.target_file(2)?);
    // SAFETY: the event is in this frame.
    answer(unsafe {
        libc::epoll_ctl(
            instance.as_raw_fd(),
            operation,
            file.as_raw_fd(),
            &raw mut event,
        )
    })
}

fn epoll_wait(call: &Call<'_>) -> Result<i32, Errno> {
    let instance = call.target_file(0)?;
    let wanted = call.int(2);
    let image = call.image_of(1)?;
    // The guest's event is the kernel's. Where memory ends in the middle of the array, so do the
    // events: those left over are told next time.
    let len = u64::try_from(wanted).unwrap_or(0) * abi::EPOLL_EVENT_LEN as u64;
    let room = image
        .memory
        .prefix(call.raw(1), len, Prot::WRITE)
        .ok()
        .map(|room| (room.ptr() as usize, room.len() / abi::EPOLL_EVENT_LEN))
        .filter(|&(_, count)| count > 0);
    let (place, count) = match room {
        Some((place, count)) => (place, count as i32),
        None => (OUT_OF_REACH.0, wanted.min(1)),
    };
    // SAFETY: the place is guest memory with room for that many events, which `image` keeps
    // mapped, or no memory at all.
    answer(unsafe {
        libc::epoll_wait(
            instance.as_raw_fd(),
            place as *mut libc::epoll_event,
            count,
            call.int(3),
        )
    })
}

fn epoll_pwait(call: &Call<'_>) -> Result<i32, Errno> {
    check_mask(&call.image_of(4)?.memory, call.raw(4), call.raw(5))?;
    epoll_wait(call)
}
