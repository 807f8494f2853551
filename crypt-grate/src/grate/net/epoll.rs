//! epoll: the kernel's instance waits for the sockets below, and what it finds is looked at before
//! the program is told. What a program has stored with an event is kept here, and the kernel has a
//! number in its place, that tells the registration.

use super::Socket;
use super::calls::milliseconds;
use super::stream::AGAIN;
use crate::grate::state;
use crate::grate::state::{Opened, lock};
use grate_rs::constants::{SYS_EPOLL_CTL, poll};
use grate_rs::kernel::{self, int, pass};
use grate_rs::{CageFd, Call, Errno, own_buffer};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

/// Bytes of a `struct epoll_event`: events, and the program's own.
const EVENT_LEN: usize = 12;
/// Events that are asked for at a time.
const MOST: i32 = 1024;

/// An instance.
#[derive(Debug, Default)]
pub struct Epoll(Mutex<Registrations>);

#[derive(Debug, Default)]
struct Registrations {
    next: u64,
    by_number: HashMap<u64, Registration>,
}

#[derive(Clone, Debug)]
struct Registration {
    fd: CageFd,
    events: u32,
    data: [u8; 8],
    socket: Option<Weak<Socket>>,
}

impl Registrations {
    /// The registration of a descriptor; one that a fork has copied is its parent's.
    fn number_of(&self, fd: CageFd) -> Option<u64> {
        let of = |is: &dyn Fn(CageFd) -> bool| {
            self.by_number
                .iter()
                .find(|(_, registration)| is(registration.fd))
                .map(|(number, _)| *number)
        };
        of(&|other| other == fd).or_else(|| of(&|other| other.fd == fd.fd))
    }
}

/// epoll_create: a hint. epoll_create1: flags.
pub fn create(call: &Call) -> Result<i32, Errno> {
    let cage = call.cage_of(0);
    let fd = pass(call, 0)?;
    if state().network.is_sealed() {
        let epoll = Some(Opened::Epoll(Arc::default()));
        state().descriptors.note(CageFd { cage, fd }, epoll);
    }
    Ok(fd)
}

fn epoll_of(fd: CageFd) -> Option<Arc<Epoll>> {
    match state().descriptors.get(fd)? {
        Opened::Epoll(epoll) => Some(epoll),
        _ => None,
    }
}

/// The event as the kernel gets it.
fn event(events: u32, number: u64) -> [u8; EVENT_LEN] {
    let mut bytes = [0; EVENT_LEN];
    bytes[..4].copy_from_slice(&events.to_le_bytes());
    bytes[4..].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// epoll_ctl: instance, operation, descriptor, event.
pub fn ctl(call: &Call) -> Result<i32, Errno> {
    let instance = CageFd::of(call, 0);
    let Some(epoll) = epoll_of(instance) else {
        return pass(call, 0);
    };
    let fd = CageFd {
        fd: call.int(2),
        ..instance
    };
    let operation = call.int(1);
    let mut all = lock(&epoll.0);
    if operation != poll::EPOLL_CTL_ADD && operation != poll::EPOLL_CTL_MOD {
        let result = pass(call, 0)?;
        if operation == poll::EPOLL_CTL_DEL
            && let Some(number) = all.number_of(fd)
        {
            all.by_number.remove(&number);
        }
        return Ok(result);
    }
    let given: [u8; EVENT_LEN] = call.take(3)?;
    let events = u32::from_le_bytes([given[0], given[1], given[2], given[3]]);
    let mut data = [0; 8];
    data.copy_from_slice(&given[4..]);
    let number = match operation {
        // Lind keeps the descriptor alone.
        _ if cage_libc::sys::base() != 0 => fd.fd as u64,
        poll::EPOLL_CTL_MOD => all.number_of(fd).unwrap_or(all.next),
        _ => all.next,
    };
    let bytes = event(events, number);
    let mut args = call.args();
    args[3] = own_buffer(bytes.as_ptr());
    let result = call.forward_with(call.cage_of(0), &args)?;
    all.next = all.next.max(number + 1);
    let registration = Registration {
        fd,
        events,
        data,
        socket: state().socket(fd).map(|socket| Arc::downgrade(&socket)),
    };
    // What was registered under that number of a descriptor before is gone by now.
    all.by_number.retain(|_, other| other.fd != fd);
    all.by_number.insert(number, registration);
    Ok(result)
}

/// epoll_wait and epoll_pwait: instance, where events go, their number, milliseconds.
pub fn wait(call: &Call) -> Result<i32, Errno> {
    let instance = CageFd::of(call, 0);
    let Some(epoll) = epoll_of(instance) else {
        return pass(call, 0);
    };
    let most = call.int(2).min(MOST);
    if most <= 0 {
        return pass(call, 0);
    }
    let limit = u64::try_from(call.int(3)).ok().map(Duration::from_millis);
    let since = Instant::now();
    let mut bytes = vec![0; EVENT_LEN * most as usize];
    loop {
        let unheld = epoll.unheld();
        let left = match unheld.is_empty() {
            true => limit.map(|limit| limit.saturating_sub(since.elapsed())),
            false => Some(Duration::ZERO),
        };
        let mut args = call.args();
        args[1] = own_buffer(bytes.as_mut_ptr());
        args[2] = int(instance.cage, most);
        args[3] = int(instance.cage, milliseconds(left));
        let count = call.forward_with(instance.cage, &args)?;
        let found = &bytes[..(EVENT_LEN * count.max(0) as usize).min(bytes.len())];
        let mut told = epoll.told(instance, found);
        for (number, event) in unheld {
            let is_found = found
                .chunks_exact(EVENT_LEN)
                .any(|event| event[4..] == number);
            if !is_found && told.len() < bytes.len() {
                told.extend_from_slice(&event);
            }
        }
        if !told.is_empty() {
            call.place(1).write(&told)?;
            return Ok((told.len() / EVENT_LEN) as i32);
        }
        if count == 0 || left == Some(Duration::ZERO) {
            return Ok(0);
        }
    }
}

impl Epoll {
    /// Events of plaintext that the kernel knows nothing of, each with the number of its registration. Those
    /// that tell of changes, or once, have told.
    fn unheld(&self) -> Vec<([u8; 8], [u8; EVENT_LEN])> {
        if !state().network.may_be_unheld.load(Ordering::Acquire) {
            return Vec::new();
        }
        let all = lock(&self.0);
        let unheld = all.by_number.iter().filter_map(|(number, registration)| {
            let events = registration.events & poll::POLLIN as u32;
            let tells_once = registration.events & (poll::EPOLLET | poll::EPOLLONESHOT) != 0;
            let socket = registration.socket.as_ref()?.upgrade()?;
            let is_unheld = socket.with_link(|link| link.is_unheld()) == Some(true);
            let data = u64::from_le_bytes(registration.data);
            (is_unheld && !tells_once && events != 0)
                .then(|| (number.to_le_bytes(), event(events, data)))
        });
        unheld.collect()
    }

    /// The events that the program is told, of those that the kernel has found.
    fn told(&self, instance: CageFd, found: &[u8]) -> Vec<u8> {
        let mut told = Vec::with_capacity(found.len());
        let mut is_early = false;
        for bytes in found.chunks_exact(EVENT_LEN) {
            let events = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[4..]);
            let number = u64::from_le_bytes(number);
            let Some(registration) = lock(&self.0).by_number.get(&number).cloned() else {
                continue;
            };
            let true_events = match registration.socket.as_ref().and_then(Weak::upgrade) {
                Some(socket) => {
                    let fd = registration.fd;
                    // The two have the same numbers for all that is waited for.
                    let wanted = registration.events as i16;
                    let now = socket.found(fd, wanted, events as i16) as u16;
                    state().network.pump.watch(&socket);
                    (events & !0xffff) | u32::from(now)
                }
                None => events,
            };
            if true_events != 0 {
                told.extend_from_slice(&true_events.to_le_bytes());
                told.extend_from_slice(&registration.data);
            }
            if true_events != events {
                let dropped = events & !true_events;
                is_early |= dropped & poll::EPOLLOUT != 0;
                if true_events == 0 || dropped & poll::EPOLLOUT != 0 {
                    rearm(instance, number, &registration, dropped);
                }
            }
        }
        if told.is_empty() && is_early {
            std::thread::sleep(AGAIN);
        }
        told
    }
}

/// A registration for one event, or for changes alone, has spent what the program was not told.
fn rearm(instance: CageFd, number: u64, registration: &Registration, dropped: u32) {
    let is_spent = registration.events & poll::EPOLLONESHOT != 0
        || (registration.events & poll::EPOLLET != 0 && dropped & poll::EPOLLOUT != 0);
    if !is_spent {
        return;
    }
    let bytes = event(registration.events, number);
    let args = [
        instance.arg(),
        int(instance.cage, poll::EPOLL_CTL_MOD),
        int(instance.cage, registration.fd.fd),
        own_buffer(bytes.as_ptr()),
    ];
    // Where the descriptor is gone there is nothing to wait for.
    let _ = kernel::call(SYS_EPOLL_CTL, instance.cage, &args);
}
