//! Waiting for descriptors: what the kernel says of a sealed socket is about sealed bytes, and what
//! the program is told is about plaintext.

use super::calls::milliseconds;
use super::{Kind, Socket, Stream, below};
use crate::grate::state;
use crate::grate::state::lock;
use grate_rs::constants::{error, poll};
use grate_rs::kernel::pass;
use grate_rs::{CageFd, Call, Errno, GuestPtr};
use std::sync::Arc;
use std::time::{Duration, Instant};

const ENTRY_LEN: usize = 8;
/// Most descriptors a call can name; more is for the kernel to refuse.
const MOST: u64 = 1 << 16;

const READ_EVENTS: i16 = poll::POLLIN | poll::POLLRDNORM;
const WRITE_EVENTS: i16 = poll::POLLOUT | poll::POLLWRNORM | poll::POLLWRBAND;

/// A descriptor that is waited for.
struct Entry {
    fd: CageFd,
    events: i16,
    found: i16,
    socket: Option<Arc<Socket>>,
}

impl Socket {
    /// The events below to wait for, for a program that waits for these; `None` for events that
    /// are there already.
    fn events_below(&self, wanted: i16) -> (i16, i16) {
        let ready = |link: &mut super::stream::Link| {
            let mut ready = 0;
            if link.is_readable() {
                ready |= wanted & READ_EVENTS;
            }
            (link.events_below(wanted), ready)
        };
        self.with_link(ready).unwrap_or((wanted, 0))
    }

    /// How long a wait for it may last before it is looked again.
    fn look_again(&self) -> Option<Duration> {
        self.with_link(|link| link.look_again()).flatten()
    }

    /// What the program is told, of what the kernel has found.
    pub fn found(&self, fd: CageFd, wanted: i16, found: i16) -> i16 {
        const ALWAYS: i16 = poll::POLLERR | poll::POLLHUP | poll::POLLNVAL;
        let mut told = found;
        match &self.kind {
            Kind::Messages(messages) => {
                if found & READ_EVENTS != 0
                    && found & poll::POLLERR == 0
                    && !lock(messages).is_readable(fd)
                {
                    told &= !READ_EVENTS;
                }
            }
            Kind::Stream(stream) => {
                let mut stream = lock(stream);
                let Stream::Sealed(link) = &mut *stream else {
                    return told;
                };
                if found != 0 && self.is_at(fd) {
                    link.service(fd);
                }
                if !link.is_connected() {
                    // The kernel knows what comes of it.
                    return told & (wanted | ALWAYS);
                }
                if link.is_readable() || found & poll::POLLHUP != 0 {
                    told |= wanted & READ_EVENTS;
                } else {
                    told &= !READ_EVENTS;
                }
                if link.has_failure() {
                    // It was the kernel's before.
                    told |= poll::POLLERR;
                }
                if !link.is_writable() {
                    told &= !WRITE_EVENTS;
                }
            }
        }
        told & (wanted | ALWAYS)
    }
}

/// A mask of signals to be held back while a call waits.
type Mask = Option<[u8; 8]>;

/// Waits as ppoll(2) does. Answers how many entries have found something.
fn wait(
    cage: u64,
    entries: &mut [Entry],
    limit: Option<Duration>,
    mask: Mask,
) -> Result<usize, Errno> {
    let since = Instant::now();
    loop {
        let mut array = Vec::with_capacity(ENTRY_LEN * entries.len());
        let mut is_ready = false;
        for entry in &mut *entries {
            let (below, ready) = match &entry.socket {
                Some(socket) => socket.events_below(entry.events),
                None => (entry.events, 0),
            };
            is_ready |= ready != 0;
            array.extend_from_slice(&entry.fd.fd.to_le_bytes());
            array.extend_from_slice(&below.to_le_bytes());
            array.extend_from_slice(&[0; 2]);
        }
        // Calls on the connections may be made meanwhile; what they leave is found in time.
        let left = limit.map(|limit| limit.saturating_sub(since.elapsed()));
        // What is ready comes before signals.
        let sockets = entries.iter().filter_map(|entry| entry.socket.as_ref());
        let again = sockets.filter_map(|socket| socket.look_again()).min();
        let (time, mask) = match is_ready {
            true => (0, None),
            false => (milliseconds(left.into_iter().chain(again).min()), mask),
        };
        below::poll(cage, &mut array, time, mask)?;
        let mut count = 0;
        let mut is_idle = true;
        for (entry, found) in entries.iter_mut().zip(array.chunks_exact(ENTRY_LEN)) {
            let found = i16::from_le_bytes([found[6], found[7]]);
            is_idle &= found == 0;
            entry.found = match &entry.socket {
                Some(socket) => socket.found(entry.fd, entry.events, found),
                None => found,
            };
            count += usize::from(entry.found != 0);
        }
        for socket in entries.iter().filter_map(|entry| entry.socket.as_ref()) {
            state().network.pump.watch(socket);
        }
        let is_over = limit.is_some_and(|limit| since.elapsed() >= limit);
        if count > 0 || (is_over && (is_idle || left == Some(Duration::ZERO))) {
            return Ok(count);
        }
    }
}

fn entry(fd: CageFd, events: i16) -> Entry {
    Entry {
        fd,
        events,
        found: 0,
        socket: state().socket(fd),
    }
}

/// poll: entries, their number, milliseconds.
pub fn poll(call: &Call) -> Result<i32, Errno> {
    poll_with(call, || Ok(None))
}

/// ppoll: as poll, with a mask.
pub fn ppoll(call: &Call) -> Result<i32, Errno> {
    poll_with(call, || match call.place(3) {
        place if place.is_null() => Ok(None),
        place => place.read().map(Some),
    })
}

fn poll_with(call: &Call, mask: impl FnOnce() -> Result<Mask, Errno>) -> Result<i32, Errno> {
    let count = call.size(1) & u64::from(u32::MAX);
    if count == 0 || count > MOST || !state().has_sockets() {
        return pass(call, 1);
    }
    let cage = call.cage_of(1);
    let mut bytes = vec![0; ENTRY_LEN * count as usize];
    call.place(0).read_into(&mut bytes)?;
    let mut entries: Vec<_> = bytes
        .chunks_exact(ENTRY_LEN)
        .map(|bytes| {
            let fd = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            entry(
                CageFd { cage, fd },
                i16::from_le_bytes([bytes[4], bytes[5]]),
            )
        })
        .collect();
    if entries.iter().all(|entry| entry.socket.is_none()) {
        return pass(call, 1);
    }
    let limit = u64::try_from(call.int(2)).ok().map(Duration::from_millis);
    let count = wait(cage, &mut entries, limit, mask()?)?;
    for (bytes, entry) in bytes.chunks_exact_mut(ENTRY_LEN).zip(&entries) {
        bytes[6..8].copy_from_slice(&entry.found.to_le_bytes());
    }
    call.place(0).write(&bytes)?;
    Ok(count as i32)
}

/// select and pselect6 have the events of their three sets in this order.
const SETS: [(i16, i16); 3] = [
    (
        poll::POLLIN,
        READ_EVENTS | poll::POLLRDBAND | poll::POLLHUP | poll::POLLERR,
    ),
    (poll::POLLOUT, WRITE_EVENTS | poll::POLLERR),
    (poll::POLLPRI, poll::POLLPRI),
];

/// select: number, three sets, time in seconds and microseconds.
pub fn select(call: &Call) -> Result<i32, Errno> {
    select_with(call, 1_000_000, || Ok(None))
}

/// pselect6: as select, with a time in seconds and nanoseconds, and a mask.
pub fn pselect6(call: &Call) -> Result<i32, Errno> {
    select_with(call, 1_000_000_000, || masked(call))
}

/// The mask whose address and length are in a structure.
fn masked(call: &Call) -> Result<Mask, Errno> {
    let place = call.place(5);
    if place.is_null() {
        return Ok(None);
    }
    let [address, len]: [u64; 2] = {
        let told: [u8; 16] = place.read()?;
        [0, 8].map(|at| u64::from_le_bytes(std::array::from_fn(|byte| told[at + byte])))
    };
    match address {
        0 => Ok(None),
        _ if len != 8 => Err(Errno(error::EINVAL)),
        address => call.nested(5, address).read().map(Some),
    }
}

fn select_with(
    call: &Call,
    fraction: u64,
    mask: impl FnOnce() -> Result<Mask, Errno>,
) -> Result<i32, Errno> {
    const MOST_FDS: i32 = 1024;
    let cage = call.cage_of(0);
    let count = call.int(0).min(MOST_FDS);
    if count <= 0 || !state().has_sockets() {
        return pass(call, 0);
    }
    let len = 8 * (count as usize).div_ceil(64);
    let mut sets: [Option<Vec<u8>>; 3] = [None, None, None];
    for (index, set) in (1..).zip(&mut sets) {
        let place = call.place(index);
        if !place.is_null() {
            let mut bytes = vec![0; len];
            place.read_into(&mut bytes)?;
            *set = Some(bytes);
        }
    }
    let has = |set: &Option<Vec<u8>>, fd: usize| {
        set.as_ref()
            .is_some_and(|bytes| bytes[fd / 8] & (1 << (fd % 8)) != 0)
    };
    let mut entries = Vec::new();
    for fd in 0..count as usize {
        let events = sets
            .iter()
            .zip(SETS)
            .filter(|(set, _)| has(set, fd))
            .fold(0, |all, (_, (events, _))| all | events);
        if events != 0 {
            entries.push(entry(
                CageFd {
                    cage,
                    fd: fd as i32,
                },
                events,
            ));
        }
    }
    if entries.iter().all(|entry| entry.socket.is_none()) {
        return pass(call, 0);
    }
    let since = Instant::now();
    let limit = time(call.place(4), fraction)?;
    wait(cage, &mut entries, limit, mask()?)?;
    if entries
        .iter()
        .any(|entry| entry.found & poll::POLLNVAL != 0)
    {
        return Err(Errno(error::EBADF));
    }
    let mut ready = 0;
    for (index, (set, (asked, events))) in (1..).zip(sets.iter().zip(SETS)) {
        if set.is_none() {
            continue;
        }
        let mut bytes = vec![0; len];
        for entry in &entries {
            let fd = entry.fd.fd as usize;
            if entry.events & asked != 0 && has(set, fd) && entry.found & events != 0 {
                bytes[fd / 8] |= 1 << (fd % 8);
                ready += 1;
            }
        }
        call.place(index).write(&bytes)?;
    }
    if let Some(limit) = limit {
        let left = limit.saturating_sub(since.elapsed());
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&left.as_secs().to_le_bytes());
        let part = u64::from(left.subsec_nanos()) * fraction / 1_000_000_000;
        bytes[8..].copy_from_slice(&part.to_le_bytes());
        // A place that can't be written is none of the caller's business any more.
        let _ = call.place(4).write(&bytes);
    }
    Ok(ready)
}

/// A time in seconds and a fraction; none for no limit.
fn time(place: GuestPtr, fraction: u64) -> Result<Option<Duration>, Errno> {
    if place.is_null() {
        return Ok(None);
    }
    let bytes: [u8; 16] = place.read()?;
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        i64::from_le_bytes(word)
    };
    let seconds = u64::try_from(word(0)).map_err(|_| Errno(error::EINVAL))?;
    let part = u64::try_from(word(8)).map_err(|_| Errno(error::EINVAL))?;
    if part >= fraction && fraction == 1_000_000_000 {
        return Err(Errno(error::EINVAL));
    }
    let nanoseconds = part.saturating_mul(1_000_000_000 / fraction);
    Ok(Some(
        Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanoseconds)),
    ))
}
