//! epoll. An instance is one of the host's, and what is registered is the host's descriptor: each
//! number in a cage's table has one of its own, so that registrations are told apart, and end, as
//! those of a process do.

use super::io::{OUT_OF_REACH, answer};
use super::poll::mask;
use super::signals::with_mask;
use super::{Call, Entry, abi};
use crate::regions::Prot;
use rustix::event::epoll::CreateFlags;
use rustix::io::Errno;
use std::os::fd::AsRawFd;
use std::sync::Arc;

pub(super) const CALLS: &[Entry] = &[
    Entry::new(213, epoll_create),
    Entry::new(232, epoll_wait),
    Entry::new(233, epoll_ctl),
    Entry::new(281, epoll_pwait),
    Entry::new(291, epoll_create1),
];

/// Most events that can be asked for.
const MAX_EVENTS: i32 = i32::MAX / abi::EPOLL_EVENT_LEN as i32;

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
        if call.rt.strict {
            // Lind keeps nothing but the descriptor.
            event.u64 = u64::from(call.uint(2));
        }
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
    wait_for(call, call.int(3))
}

fn wait_for(call: &Call<'_>, timeout: i32) -> Result<i32, Errno> {
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
        .filter(|&(_, count)| count > 0 && wanted <= MAX_EVENTS);
    let (place, count) = match room {
        Some((place, count)) => (place, count as i32),
        // The kernel finds what is wrong, be it the number or the place.
        None => (OUT_OF_REACH.0, wanted),
    };
    // SAFETY: the place is guest memory with room for that many events, which `image` keeps
    // mapped, or no memory at all.
    answer(unsafe {
        libc::epoll_wait(
            instance.as_raw_fd(),
            place as *mut libc::epoll_event,
            count,
            timeout,
        )
    })
}

fn epoll_pwait(call: &Call<'_>) -> Result<i32, Errno> {
    let mask = mask(&call.image_of(4)?.memory, call.raw(4), call.raw(5))?;
    // Who does not wait is not interrupted.
    let mask = mask.filter(|_| call.int(3) != 0);
    with_mask(call, mask, |at_once| {
        wait_for(call, if at_once { 0 } else { call.int(3) })
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{A, Fixture, Twins, UNMAPPED};
    use super::*;

    const ZERO: A<'_> = A::I(0);
    const ADD: i64 = 1;
    const DELETE: i64 = 2;
    const MODIFY: i64 = 3;

    /// An event as it lies in memory.
    fn event(events: u32, data: u64) -> Vec<u8> {
        [&events.to_le_bytes()[..], &data.to_le_bytes()].concat()
    }

    #[test]
    fn registrations_are_the_kernels() {
        let (mut twins, fds) = Twins::with_sockets();
        twins.descriptor(213, &[A::I(1)]).unwrap();
        twins.descriptor(291, &[A::I(0o2_000_000)]).unwrap();
        for (nr, arg) in [(213, 0), (213, -1), (291, 1), (291, -1)] {
            assert_eq!(twins.agree(nr, &[A::I(arg)]), Err(Errno::INVAL));
        }
        let (instance, other) = (A::Fd(twins.count() - 2), A::Fd(twins.count() - 1));
        let given = event(0x2_001d, 7);
        for &fd in fds.iter().chain(&[instance, other]) {
            for operation in [MODIFY, DELETE, ADD, ADD, MODIFY, 9] {
                for event in [A::In(&given), A::Nowhere] {
                    let _ = twins.agree(233, &[instance, A::I(operation), fd, event]);
                    let _ = twins.agree(233, &[fd, A::I(operation), other, event]);
                }
            }
            for room in [A::Out(12 * 20), A::Nowhere] {
                for count in [-1, 0, 20, i64::from(i32::MAX)] {
                    let wait = [fd, room, A::I(count), ZERO];
                    let _ = twins.agree(232, &wait);
                    let pwait = [wait[0], room, A::I(count), ZERO];
                    for (mask, len) in [
                        (ZERO, 0),
                        (ZERO, 9),
                        (A::In(&[0; 8]), 8),
                        (A::In(&[0; 8]), 4),
                        (A::Nowhere, 8),
                    ] {
                        let _ = twins.agree(281, &[&pwait[..], &[mask, A::I(len)]].concat());
                    }
                }
            }
            let _ = twins.agree(233, &[instance, A::I(DELETE), fd, A::Nowhere]);
        }
    }

    #[test]
    fn readiness_is_the_kernels() {
        const IN: u32 = 1;
        const OUT: u32 = 4;
        const EDGE: u32 = 1 << 31;
        const ONCE: u32 = 1 << 30;
        for mode in [0, EDGE, ONCE, EDGE | ONCE] {
            let mut twins = Twins::new();
            twins.pair(53, &[A::I(1), A::I(0x801), ZERO]).unwrap();
            twins.descriptor(291, &[ZERO]).unwrap();
            twins.descriptor(32, &[A::Fd(0)]).unwrap();
            let (one, other, instance, copy) = (A::Fd(0), A::Fd(1), A::Fd(2), A::Fd(3));
            // The open file is registered by two numbers of the cage.
            let first = event(IN | mode, 0x1122_3344_5566_7788);
            let second = event(IN | OUT | mode, u64::MAX);
            for (fd, event) in [(one, &first), (copy, &second)] {
                let add = [instance, A::I(ADD), fd, A::In(event)];
                assert_eq!(twins.agree(233, &add), Ok(0));
                assert_eq!(twins.agree(233, &add), Err(Errno::EXIST));
            }
            let wait = || twins.agree(232, &[instance, A::Out(120), A::I(10), A::I(10)]);
            let send = || assert_eq!(twins.agree(1, &[other, A::In(b"ab"), A::I(2)]), Ok(2));
            let take = || twins.agree(0, &[one, A::Out(1), A::I(1)]);
            assert_eq!(wait(), Ok(1));
            send();
            for _ in 0..3 {
                let _ = wait();
                let _ = take();
                let _ = wait();
            }
            send();
            let _ = wait();
            let modify = [instance, A::I(MODIFY), one, A::In(&second)];
            assert_eq!(twins.agree(233, &modify), Ok(0));
            let _ = wait();
            assert_eq!(twins.agree(48, &[other, A::I(1)]), Ok(0));
            let _ = wait();
            assert_eq!(
                twins.agree(233, &[instance, A::I(DELETE), copy, ZERO]),
                Ok(0)
            );
            let _ = wait();
        }
    }

    #[test]
    fn a_registration_ends_with_the_last_number_of_its_file() {
        let mut twins = Twins::new();
        twins.pair(53, &[A::I(1), A::I(1), ZERO]).unwrap();
        twins.descriptor(291, &[ZERO]).unwrap();
        twins.descriptor(32, &[A::Fd(0)]).unwrap();
        let given = event(4, 5);
        assert_eq!(
            twins.agree(233, &[A::Fd(2), A::I(ADD), A::Fd(0), A::In(&given)]),
            Ok(0)
        );
        twins.close(0);
        let wait = |twins: &Twins| twins.agree(232, &[A::Fd(2), A::Out(12), A::I(1), ZERO]);
        assert_eq!(wait(&twins), Ok(1));
        twins.close(3);
        assert_eq!(wait(&twins), Ok(0));
    }

    #[test]
    fn events_stay_when_there_is_no_room() {
        let cage = Fixture::new();
        assert_eq!(cage.call(53, &[1, 1, 0, 0x1000]), Ok(0));
        assert_eq!(cage.call(291, &[0]), Ok(2));
        cage.put(0x1000, &event(4 | 1 << 31, 5));
        assert_eq!(cage.call(233, &[2, 1, 0, 0x1000]), Ok(0));
        assert_eq!(cage.call(233, &[2, 1, 1, 0x1000]), Ok(0));
        assert_eq!(cage.call(232, &[2, UNMAPPED, 10, 0]), Err(Errno::FAULT));
        // Room for one and a half.
        let edge = super::super::testing::MAPPED_END - 18;
        assert_eq!(cage.call(232, &[2, edge, 10, 0]), Ok(1));
        assert_eq!(cage.get(edge, 12), event(4, 5));
        assert_eq!(
            cage.call(232, &[2, 0x1000, i32::MAX as u64, 0]),
            Err(Errno::INVAL)
        );
        assert_eq!(cage.call(232, &[2, 0x1000, 10, 0]), Ok(1));
        assert_eq!(cage.call(232, &[2, 0x1000, 10, 0]), Ok(0));
    }
}
