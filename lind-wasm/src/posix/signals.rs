//! Signals: what is done about them, sending them, and the timer that does.

use super::{Call, Entry};
use crate::cage::CageId;
use crate::signals::{Action, Signal};
use crate::timers::Timer;
use calls::{SENDMSG, SENDTO, WRITE, WRITEV};
use rustix::io::Errno;
use rustix::thread::Timespec;
use std::time::Duration;

pub(super) const CALLS: &[Entry] = &[
    Entry::new(13, sigaction),
    Entry::new(14, sigprocmask),
    Entry::new(38, setitimer),
    Entry::new(62, kill),
    Entry::new(130, sigsuspend),
];

/// How long `sigsuspend` sleeps before it looks again, should it have missed who woke it.
const LOOK_AGAIN: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

fn sigaction(call: &Call<'_>) -> Result<i32, Errno> {
    let signal = Signal::new(call.int(0)).ok_or(Errno::INVAL)?;
    let new = match call.raw(1) {
        0 => None,
        _ => Some(Action::parse(&call.get(1)?)),
    };
    if new.is_some() && !signal.can_be_caught() {
        return Err(Errno::INVAL);
    }
    if new.is_some_and(|new| new.is_a_handler()) && !call.target_image()?.can_be_signalled() {
        return Err(Errno::NOSYS);
    }
    let before = call.target.signals.set_action(signal, new);
    if call.raw(2) != 0 {
        call.put(2, &before.bytes())?;
    }
    Ok(0)
}

fn sigprocmask(call: &Call<'_>) -> Result<i32, Errno> {
    const BLOCK: i32 = 0;
    const UNBLOCK: i32 = 1;
    const SET: i32 = 2;
    let set = match call.raw(1) {
        0 => None,
        _ => Some(u64::from_le_bytes(call.get(1)?)),
    };
    let how = call.int(0);
    if set.is_some() && !(BLOCK..=SET).contains(&how) {
        return Err(Errno::INVAL);
    }
    let signals = &call.target.signals;
    let before = signals.change_held(|held| match (set, how) {
        (None, _) => held,
        (Some(set), BLOCK) => held | set,
        (Some(set), UNBLOCK) => held & !set,
        (Some(set), _) => set,
    });
    if signals.are_due() {
        call.rt.hurry(call.target);
    }
    if call.raw(2) != 0 {
        call.put(2, &before.to_le_bytes())?;
    }
    Ok(0)
}

/// sigsuspend: set, and where the one before is told.
fn sigsuspend(call: &Call<'_>) -> Result<i32, Errno> {
    let set = u64::from_le_bytes(call.get(0)?);
    if !call.target.is_first_thread() {
        return Err(Errno::PERM); // To the others no signal comes.
    }
    let signals = &call.target.signals;
    let before = signals.change_held(|held| held);
    if call.raw(1) != 0 {
        call.put(1, &before.to_le_bytes())?;
    }
    signals.suspend(set);
    while !call.is_to_return() {
        // A signal of the host interrupts it.
        let _ = rustix::thread::nanosleep(&LOOK_AGAIN);
    }
    Err(Errno::INTR)
}

/// Makes a call that waits, with `mask` in place of the signals that are held back: those that it
/// lets through end the wait, as those do that came before. `wait` is told not to sleep where one
/// has. Afterwards the mask is what it was, or is so when the handler has run.
pub(super) fn with_mask(
    call: &Call<'_>,
    mask: Option<u64>,
    wait: impl FnOnce(bool) -> Result<i32, Errno>,
) -> Result<i32, Errno> {
    // To other threads no signal comes.
    let Some(mask) = mask.filter(|_| call.target.is_first_thread()) else {
        return wait(false);
    };
    let signals = &call.target.signals;
    signals.suspend(mask);
    // What is ready comes before signals.
    let waited = match wait(signals.are_due()) {
        Ok(0) if signals.are_due() => Err(Errno::INTR),
        waited => waited,
    };
    if waited != Err(Errno::INTR) || !signals.are_due() {
        signals.resume();
        if signals.are_due() {
            call.rt.hurry(call.target);
        }
    }
    waited
}

/// Only the timer of the time that passes: which (0), new value, old value. In Lind's layout: the
/// interval, then what is left, each in seconds and microseconds of 64 bits.
fn setitimer(call: &Call<'_>) -> Result<i32, Errno> {
    const REAL: i32 = 0;
    if call.int(0) != REAL {
        return Err(Errno::INVAL);
    }
    let cage = call.target.id;
    let before = call.rt.timers.get(cage);
    if call.raw(1) != 0 {
        let bytes: [u8; 32] = call.get(1)?;
        let timer = Timer {
            interval: duration(&bytes[..16])?,
            left: duration(&bytes[16..])?,
        };
        if call.raw(2) != 0 {
            tell(call, before)?;
        }
        return call.rt.set_timer(cage, timer).map(|()| 0);
    }
    if call.raw(2) != 0 {
        tell(call, before)?;
    }
    Ok(0)
}

fn tell(call: &Call<'_>, timer: Timer) -> Result<(), Errno> {
    let mut bytes = [0; 32];
    for (slot, time) in bytes.chunks_exact_mut(16).zip([timer.interval, timer.left]) {
        slot[..8].copy_from_slice(&time.as_secs().to_le_bytes());
        slot[8..].copy_from_slice(&u64::from(time.subsec_micros()).to_le_bytes());
    }
    call.put(2, &bytes)
}

/// A `struct timeval` in kernel form: two i64.
fn duration(bytes: &[u8]) -> Result<Duration, Errno> {
    const MICROS: u64 = 1_000_000;
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
    let (seconds, micros) = (word(0), word(8));
    if seconds > i64::MAX as u64 || micros >= MICROS {
        return Err(Errno::INVAL);
    }
    Ok(Duration::from_secs(seconds) + Duration::from_micros(micros))
}

fn kill(call: &Call<'_>) -> Result<i32, Errno> {
    let number = call.int(1);
    let signal = Signal::new(number);
    // Lind has no probe.
    if signal.is_none() && (number != 0 || call.rt.strict) {
        return Err(Errno::INVAL);
    }
    let pid = match call.int(0) {
        0 => call.target.id.pid(),
        pid if pid > 0 => pid,
        _ => return Err(Errno::INVAL),
    };
    let victim = CageId::from_guest(pid as u64)
        .and_then(|id| call.rt.cage(id))
        .ok_or(Errno::SRCH)?;
    if !victim.answers_to(call.target.id) {
        return Err(Errno::PERM);
    }
    if let Some(signal) = signal {
        call.rt.signal(&victim, signal);
    }
    Ok(0)
}

/// Whether a call that found nobody at the other end sends SIGPIPE: where the program has a handler
/// for it. Else it is as on Lind, whose programs get EPIPE and live on.
pub(super) fn tells_of_pipes(nr: u32, call: &Call<'_>) -> bool {
    const NOSIGNAL: i32 = 0x4000;
    let flags = match nr {
        WRITE | WRITEV => 0,
        SENDTO => call.int(3),
        SENDMSG => call.int(2),
        _ => return false,
    };
    flags & NOSIGNAL == 0 && call.target.signals.is_caught(Signal::PIPE)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Fixture, UNMAPPED};
    use super::*;

    #[test]
    fn what_is_wrong_with_a_signal_is_told() {
        let cage = Fixture::new();
        for signal in [0, 65, u64::MAX] {
            assert_eq!(cage.call(13, &[signal, 0, 0]), Err(Errno::INVAL));
        }
        // Asking is no change.
        assert_eq!(cage.call(13, &[9, 0, 0x1000]), Ok(0));
        for signal in [9, 19] {
            assert_eq!(cage.call(13, &[signal, 0x1000, 0]), Err(Errno::INVAL));
        }
        assert_eq!(cage.call(13, &[10, UNMAPPED, 0]), Err(Errno::FAULT));
        assert_eq!(cage.call(13, &[10, 0, UNMAPPED]), Err(Errno::FAULT));
        // It has no function to be entered by.
        cage.put(0x1000, &[7, 0, 0, 0]);
        assert_eq!(cage.call(13, &[10, 0x1000, 0]), Err(Errno::NOSYS));
        cage.put(0x1000, &[1, 0, 0, 0]);
        assert_eq!(cage.call(13, &[10, 0x1000, 0x1100]), Ok(0));
        assert_eq!(cage.get(0x1100, 24), [0; 24]);
        assert_eq!(cage.call(13, &[10, 0, 0x1100]), Ok(0));
        assert_eq!(cage.get(0x1100, 4), [1, 0, 0, 0]);
        assert_eq!(cage.call(62, &[0, 10]), Ok(0));
    }

    #[test]
    fn a_mask_is_set_and_told() {
        let cage = Fixture::new();
        cage.put(0x1000, &[0xff; 8]);
        assert_eq!(cage.call(14, &[0, 0x1000, 0x1100]), Ok(0));
        assert_eq!(cage.get(0x1100, 8), [0; 8]);
        cage.put(0x1000, &[1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(cage.call(14, &[1, 0x1000, 0x1100]), Ok(0));
        // Neither SIGKILL nor SIGSTOP.
        assert_eq!(cage.get(0x1100, 3), [0xff, 0xfe, 0xfb]);
        assert_eq!(cage.call(14, &[7, 0, 0x1100]), Ok(0));
        assert_eq!(cage.get(0x1100, 3), [0xfe, 0xfe, 0xfb]);
        assert_eq!(cage.call(14, &[3, 0x1000, 0]), Err(Errno::INVAL));
        assert_eq!(cage.call(14, &[0, UNMAPPED, 0]), Err(Errno::FAULT));
        assert_eq!(cage.call(14, &[0, 0, UNMAPPED]), Err(Errno::FAULT));
        assert_eq!(cage.call(130, &[UNMAPPED, 0]), Err(Errno::FAULT));
    }

    #[test]
    fn a_timer_is_set_and_told() {
        let cage = Fixture::new();
        let words = |words: [u64; 4]| words.map(u64::to_le_bytes).concat();
        cage.put(0x1000, &words([7, 8, 1000, 0]));
        assert_eq!(cage.call(38, &[0, 0x1000, 0x1100]), Ok(0));
        assert_eq!(cage.get(0x1100, 32), [0; 32]);
        cage.put(0x1000, &[0; 32]);
        assert_eq!(cage.call(38, &[0, 0, 0x1100]), Ok(0));
        assert_eq!(cage.get(0x1100, 16), words([7, 8, 0, 0])[..16]);
        assert_eq!(cage.get(0x1110, 2), 999u16.to_le_bytes());
        assert_eq!(cage.call(38, &[0, 0x1000, 0]), Ok(0));
        assert_eq!(cage.call(38, &[0, 0, 0x1100]), Ok(0));
        assert_eq!(cage.get(0x1100, 32), [0; 32]);
        for wrong in [
            [0, 1_000_000, 0, 0],
            [0, 0, 0, u64::MAX],
            [u64::MAX, 0, 0, 0],
        ] {
            cage.put(0x1000, &words(wrong));
            assert_eq!(cage.call(38, &[0, 0x1000, 0]), Err(Errno::INVAL));
        }
        assert_eq!(cage.call(38, &[1, 0x1000, 0]), Err(Errno::INVAL));
        assert_eq!(cage.call(38, &[0, UNMAPPED, 0]), Err(Errno::FAULT));
        assert_eq!(cage.call(38, &[0, 0, UNMAPPED]), Err(Errno::FAULT));
    }
}
