//! Waiting for descriptors and clocks.

use super::abi::{Errno, Failure, Outcome, linux, nr, timespec, u16_at, u32_at, u64_at};
use super::clocks::{self, MONOTONIC, REALTIME, TIMESPEC};
use super::context::Context;

/// Bytes of a subscription and of an event.
pub const SUBSCRIPTION: u32 = 48;
const EVENT: usize = 32;
/// Most subscriptions of a call. The kernel refuses more descriptors than can be open; this
/// leaves as much again and more for clocks.
const MAX_SUBSCRIPTIONS: u32 = 4096;

/// Bytes of the kernel's `struct pollfd`, and its events.
const POLLFD: usize = 8;
const POLLIN: u16 = 0x1;
const POLLOUT: u16 = 0x4;
const POLLERR: u16 = 0x8;
const POLLHUP: u16 = 0x10;
const POLLNVAL: u16 = 0x20;

const NANOSECONDS_PER_MS: u64 = 1_000_000;

/// What a subscription is for, by its number in WASI.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Clock = 0,
    Read = 1,
    Write = 2,
}

struct Subscription {
    userdata: u64,
    kind: Kind,
    waits_for: Condition,
}

enum Condition {
    /// The clock shows this time or a later one.
    Time { clock: u32, at: u64 },
    /// Something happens to the descriptor, which is the so-manieth of the kernel's array.
    File { index: usize, fd: u64 },
    /// Nothing: it can't be waited for.
    Never(Errno),
}

/// Clocks as last seen, those that were looked at.
#[derive(Default)]
struct Times([Option<u64>; 2]);

/// Waits until at least one of the subscriptions has something to say.
pub fn poll_oneoff(
    cx: &mut Context<'_>,
    subscriptions: u32,
    events: u32,
    count: u32,
    stored: u32,
) -> Outcome<()> {
    check_count(count)?;
    let wanted = cx.bytes(subscriptions, count * SUBSCRIPTION)?;
    wait_for(cx, &wanted, events, stored)
}

/// Refuses a number of subscriptions that can't be.
pub fn check_count(count: u32) -> Outcome<()> {
    if count == 0 || count > MAX_SUBSCRIPTIONS {
        return Err(Errno::INVAL.into());
    }
    Ok(())
}

/// Waits for subscriptions that were copied from the program's memory.
pub fn wait_for(cx: &mut Context<'_>, wanted: &[u8], events: u32, stored: u32) -> Outcome<()> {
    let count = wanted.len() as u32 / SUBSCRIPTION;
    cx.check(events, count * EVENT as u32)?;
    cx.check(stored, 4)?;

    let slot = cx.reserve(TIMESPEC)?;
    let mut start = Times::default();
    let mut pollfds = Vec::new();
    let mut all = Vec::new();
    for bytes in wanted.chunks_exact(SUBSCRIPTION as usize) {
        all.push(subscribe(cx, bytes, slot, &mut start, &mut pollfds)?);
    }
    let (times, revents) = wait(cx, &all, &pollfds, slot)?;

    let mut out = Vec::new();
    for subscription in &all {
        if let Some(event) = event(cx, subscription, &times, &revents, slot)? {
            out.extend_from_slice(&event);
        }
    }
    cx.put(events, &out)?;
    cx.put(stored, &((out.len() / EVENT) as u32).to_le_bytes())
}

impl Times {
    /// What a clock shows; read once for all subscriptions, so that they agree.
    fn of(&mut self, cx: &mut Context<'_>, clock: u32, slot: u64) -> Outcome<u64> {
        if let Some(time) = self.0[clock as usize] {
            return Ok(time);
        }
        let time = clocks::now(cx, clock, slot)?;
        self.0[clock as usize] = Some(time);
        Ok(time)
    }
}

/// Reads one subscription; one for a descriptor adds to the kernel's array.
fn subscribe(
    cx: &mut Context<'_>,
    bytes: &[u8],
    slot: u64,
    start: &mut Times,
    pollfds: &mut Vec<u8>,
) -> Outcome<Subscription> {
    let kind = match bytes[8] {
        0 => Kind::Clock,
        1 => Kind::Read,
        2 => Kind::Write,
        _ => return Err(Errno::INVAL.into()),
    };
    let waits_for = if kind == Kind::Clock {
        let absolute = u16_at(bytes, 40) & 1 != 0;
        let timeout = u64_at(bytes, 24);
        match u32_at(bytes, 16) {
            clock @ (REALTIME | MONOTONIC) if absolute => Condition::Time { clock, at: timeout },
            // A time from now on passes at the same speed on both clocks, but only the monotonic
            // one is never set.
            REALTIME | MONOTONIC => Condition::Time {
                clock: MONOTONIC,
                at: start.of(cx, MONOTONIC, slot)?.saturating_add(timeout),
            },
            _ => Condition::Never(Errno::NOTSUP),
        }
    } else {
        match cx.fd(u32_at(bytes, 16)) {
            Ok(fd) => {
                let index = pollfds.len() / POLLFD;
                let events = if kind == Kind::Read { POLLIN } else { POLLOUT };
                pollfds.extend_from_slice(&(fd as u32).to_le_bytes());
                pollfds.extend_from_slice(&u32::from(events).to_le_bytes());
                Condition::File { index, fd }
            }
            Err(Failure::Errno(errno)) => Condition::Never(errno),
            Err(stop) => return Err(stop),
        }
    };
    Ok(Subscription {
        userdata: u64_at(bytes, 0),
        kind,
        waits_for,
    })
}

/// Waits; answers the clocks as last seen, and the kernel's array with what happened.
fn wait(
    cx: &mut Context<'_>,
    all: &[Subscription],
    pollfds: &[u8],
    slot: u64,
) -> Outcome<(Times, Vec<u8>)> {
    let array = cx.stage(pollfds)?;
    loop {
        let mut times = Times::default();
        let mut at_once = false;
        let mut nearest: Option<(u64, u32, u64)> = None;
        for subscription in all {
            match subscription.waits_for {
                Condition::Time { clock, at } => {
                    let left = at.saturating_sub(times.of(cx, clock, slot)?);
                    at_once |= left == 0;
                    if nearest.is_none_or(|(least, ..)| left < least) {
                        nearest = Some((left, clock, at));
                    }
                }
                Condition::Never(_) => at_once = true,
                Condition::File { .. } => {}
            }
        }
        let happened = if !pollfds.is_empty() {
            let timeout = match nearest {
                _ if at_once => 0,
                Some((left, ..)) => left.div_ceil(NANOSECONDS_PER_MS).min(i32::MAX as u64),
                None => -1_i64 as u64,
            };
            let count = (pollfds.len() / POLLFD) as u64;
            cx.call(nr::POLL, [array, count, timeout])
        } else if let (false, Some((_, clock, at))) = (at_once, nearest) {
            cx.stage_at(slot, &timespec(at))?;
            cx.call(
                nr::CLOCK_NANOSLEEP,
                [u64::from(clock), linux::TIMER_ABSTIME, slot, 0],
            )
        } else {
            Ok(0)
        };
        match happened {
            Ok(0) if !at_once => {}
            Ok(_) => return Ok((times, cx.staged_bytes(array, pollfds.len())?)),
            // Nothing is lost by starting again: what is waited for are points in time.
            Err(Failure::Errno(Errno::INTR)) => {}
            Err(failure) => return Err(failure),
        }
    }
}

/// The event of a subscription, if there is one.
fn event(
    cx: &mut Context<'_>,
    subscription: &Subscription,
    times: &Times,
    revents: &[u8],
    slot: u64,
) -> Outcome<Option<[u8; EVENT]>> {
    let mut error = None;
    let mut bytes_ready = 0;
    let mut hung_up = false;
    match subscription.waits_for {
        Condition::Time { clock, at } => {
            if times.0[clock as usize].is_none_or(|now| now < at) {
                return Ok(None);
            }
        }
        Condition::Never(errno) => error = Some(errno),
        Condition::File { index, fd } => {
            let happened = u16_at(revents, index * POLLFD + 6);
            if happened == 0 {
                return Ok(None);
            }
            hung_up = happened & POLLHUP != 0;
            if happened & POLLNVAL != 0 {
                error = Some(Errno::BADF);
            } else if happened & POLLERR != 0 {
                error = Some(Errno::IO);
            } else if happened & POLLIN != 0 && subscription.kind == Kind::Read {
                bytes_ready = readable(cx, fd, slot)?;
            }
        }
    }
    let mut out = [0; EVENT];
    out[..8].copy_from_slice(&subscription.userdata.to_le_bytes());
    out[8..10].copy_from_slice(&error.map_or(0, Errno::number).to_le_bytes());
    out[10] = subscription.kind as u8;
    out[16..24].copy_from_slice(&bytes_ready.to_le_bytes());
    out[24] = u8::from(hung_up);
    Ok(Some(out))
}

/// Bytes that can be read at once; 0 where that can't be told.
fn readable(cx: &mut Context<'_>, fd: u64, slot: u64) -> Outcome<u64> {
    match cx.call(nr::IOCTL, [fd, linux::FIONREAD, slot]) {
        Ok(_) => {
            let count = i32::from_le_bytes(cx.staged(slot)?);
            Ok(u64::try_from(count).unwrap_or(0))
        }
        Err(Failure::Errno(_)) => Ok(0),
        Err(stop) => Err(stop),
    }
}
