//! What a program sees of signals: `signals DEED...`, each a name of below. Prints a line for each
//! that does not go as on Linux, and ends with 1 then.

use cage_libc::net::{AF_UNIX, SOCK_STREAM, Socket};
use cage_libc::signals::{self, Action, Change, NODEFER, RESETHAND, RESTART};
use cage_libc::sys::{self, Errno, nr};
use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::time::{Duration, Instant};

const USR1: i32 = 10;
const USR2: i32 = 12;
const PIPE: i32 = 13;
const ALRM: i32 = 14;
const CHLD: i32 = 17;
const EAGAIN: Errno = Errno(11);
const EINTR: Errno = Errno(4);
const EINVAL: Errno = Errno(22);
const EPIPE: Errno = Errno(32);

static COUNT: AtomicU32 = AtomicU32::new(0);
static LAST: AtomicI32 = AtomicI32::new(0);
static INSIDE: AtomicBool = AtomicBool::new(false);
static NESTED: AtomicBool = AtomicBool::new(false);
static FORKED: AtomicI32 = AtomicI32::new(0);

extern "C" fn count(signal: i32) {
    COUNT.fetch_add(1, Ordering::Relaxed);
    LAST.store(signal, Ordering::Relaxed);
}

/// Sends its signal once more, and notes whether it was interrupted itself.
extern "C" fn resend(signal: i32) {
    NESTED.fetch_or(INSIDE.load(Ordering::Relaxed), Ordering::Relaxed);
    if counted() == 0 {
        COUNT.store(1, Ordering::Relaxed);
        INSIDE.store(true, Ordering::Relaxed);
        let _ = kill(0, signal);
        INSIDE.store(false, Ordering::Relaxed);
    }
}

extern "C" fn leave(_signal: i32) {
    sys::exit(9);
}

extern "C" fn stay(_signal: i32) {
    let mut number = 1u64;
    loop {
        number = black_box(number.wrapping_mul(3));
    }
}

extern "C" fn fork(_signal: i32) {
    let forked = sys::fork().unwrap_or_else(|errno| -errno.0);
    FORKED.store(forked, Ordering::Relaxed);
}

fn kill(pid: i32, signal: i32) -> Result<i32, Errno> {
    // SAFETY: no address among the arguments.
    unsafe { sys::syscall(nr::KILL, &[pid as u64, signal as u64]) }
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

fn counted() -> u32 {
    COUNT.swap(0, Ordering::Relaxed)
}

fn on(signal: i32, handler: signals::Handler, flags: i32) -> Result<(), Errno> {
    signals::set(signal, Action::Call(handler), 0, flags)
}

/// How a child that does that ends: its wait status.
fn child(deed: impl FnOnce() -> Result<(), Errno>) -> Result<i32, Errno> {
    match sys::fork()? {
        0 => sys::exit(if deed().is_ok() { 0 } else { 99 }),
        child => Ok(sys::waitpid(child, 0)?.1),
    }
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> bool {
    if found != expected {
        println!("{what}: {found:?}, not {expected:?}");
    }
    found == expected
}

fn raised() -> Result<bool, Errno> {
    on(USR1, count, 0)?;
    kill(0, USR1)?;
    let mut fine = expect(
        "a handler",
        (counted(), LAST.load(Ordering::Relaxed)),
        (1, USR1),
    );
    signals::set(USR1, Action::Ignore, 0, 0)?;
    kill(0, USR1)?;
    fine &= expect("what is ignored", counted(), 0);
    fine &= expect(
        "once",
        child(|| {
            on(USR1, count, RESETHAND)?;
            kill(0, USR1)?;
            kill(0, USR1).map(drop)
        }),
        Ok(USR1),
    );
    fine &= expect("by default", child(|| kill(0, USR2).map(drop)), Ok(USR2));
    fine &= expect("SIGKILL", on(9, count, 0), Err(EINVAL));
    fine &= expect("0", on(0, count, 0), Err(EINVAL));
    fine &= expect("65", on(65, count, 0), Err(EINVAL));
    on(USR1, leave, 0)?;
    fine &= expect(
        "a handler that exits",
        child(|| kill(0, USR1).map(drop)),
        Ok(9 << 8),
    );
    Ok(fine)
}

fn masked() -> Result<bool, Errno> {
    on(USR1, count, 0)?;
    let before = signals::change_mask(Change::Block, bit(USR1) | bit(USR2))?;
    kill(0, USR1)?;
    kill(0, USR1)?;
    let mut fine = expect("held back", counted(), 0);
    fine &= expect(
        "the mask",
        signals::change_mask(Change::Set, before)?,
        bit(USR1) | bit(USR2),
    );
    fine &= expect("let go", counted(), 1);
    fine &= expect(
        "let go, by default",
        child(|| {
            signals::change_mask(Change::Block, bit(USR2))?;
            kill(0, USR2)?;
            signals::change_mask(Change::Unblock, bit(USR2)).map(drop)
        }),
        Ok(USR2),
    );
    on(USR1, resend, 0)?;
    kill(0, USR1)?;
    fine &= expect(
        "within its handler",
        NESTED.swap(false, Ordering::Relaxed),
        false,
    );
    on(USR1, resend, NODEFER)?;
    kill(0, USR1)?;
    fine &= expect("with NODEFER", NESTED.swap(false, Ordering::Relaxed), true);
    Ok(fine)
}

/// A read that waits, interrupted by the timer, and filled some time after.
fn interrupted() -> Result<bool, Errno> {
    let mut fine = true;
    for (flags, expected) in [(0, Err(EINTR)), (RESTART, Ok(1))] {
        on(ALRM, count, flags)?;
        let (reader, writer) = sys::pipe2(0)?;
        let filler = sys::fork()?;
        if filler == 0 {
            std::thread::sleep(Duration::from_millis(200));
            let _ = sys::write(writer, b"!");
            sys::exit(0);
        }
        signals::alarm(40_000, 0)?;
        fine &= expect("read", sys::read(reader, &mut [0; 4]), expected);
        fine &= expect("its handler", counted(), 1);
        sys::close(reader)?;
        sys::close(writer)?;
        fine &= expect("the child", sys::waitpid(filler, 0), Ok((filler, 0)));
    }
    // Never made once more.
    on(ALRM, count, RESTART)?;
    signals::alarm(40_000, 0)?;
    let time = [60u64, 0];
    let args = [0, 0, sys::address(&raw const time), 0];
    // SAFETY: the time is read.
    let slept = unsafe { sys::syscall(nr::CLOCK_NANOSLEEP, &args) };
    fine &= expect("sleep", slept, Err(EINTR));
    signals::alarm(40_000, 0)?;
    // SAFETY: there is no entry.
    let polled = unsafe { sys::syscall(nr::POLL, &[0, 0, 60_000]) };
    // Lind does not wait for nothing.
    let waits = sys::base() == 0;
    fine &= expect("poll", polled, if waits { Err(EINTR) } else { Ok(0) });
    while !waits && COUNT.load(Ordering::Relaxed) < 2 {
        std::thread::sleep(Duration::from_millis(1));
    }
    fine &= expect("their handlers", counted(), 2);
    // A child that does not end.
    on(ALRM, count, 0)?;
    let idle = sys::fork()?;
    if idle == 0 {
        std::thread::sleep(Duration::from_secs(60));
        sys::exit(0);
    }
    signals::alarm(40_000, 0)?;
    fine &= expect("waitpid", sys::waitpid(idle, 0).map(drop), Err(EINTR));
    kill(idle, 9)?;
    fine &= expect("killed", sys::waitpid(idle, 0), Ok((idle, 9)));
    Ok(fine & expect("their handler", counted(), 1))
}

fn computes() -> Result<bool, Errno> {
    on(ALRM, count, 0)?;
    signals::alarm(20_000, 5_000)?;
    let begun = Instant::now();
    let mut number = 1u64;
    // No call in this loop, but to see that it does not last for ever.
    while COUNT.load(Ordering::Relaxed) < 5 {
        for _ in 0..1_000_000 {
            number = black_box(number.wrapping_mul(3));
        }
        if begun.elapsed() > Duration::from_secs(20) {
            break;
        }
    }
    let left = signals::alarm(0, 0)?;
    let mut fine = expect("handlers while it computes", counted() >= 5, true);
    fine &= expect("what is left", left <= 5_000, true);
    fine &= expect(
        "a timer by default",
        child(|| {
            signals::set(ALRM, Action::Default, 0, 0)?;
            signals::alarm(10_000, 0)?;
            stay(0);
            Ok(())
        }),
        Ok(ALRM),
    );
    Ok(fine)
}

fn children() -> Result<bool, Errno> {
    on(CHLD, count, RESTART)?;
    let mut fine = expect("a child", child(|| Ok(())), Ok(0));
    while COUNT.load(Ordering::Relaxed) == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    fine &= expect(
        "SIGCHLD",
        (counted(), LAST.load(Ordering::Relaxed)),
        (1, CHLD),
    );
    signals::set(CHLD, Action::Default, 0, 0)?;
    // What is to come to the parent is not to come to the child.
    on(USR1, count, 0)?;
    signals::change_mask(Change::Block, bit(USR1))?;
    kill(0, USR1)?;
    fine &= expect(
        "inherited",
        child(|| {
            let before = signals::change_mask(Change::Set, 0)?;
            let fine = expect("the mask", before, bit(USR1)) && expect("none", counted(), 0);
            kill(0, USR1)?;
            (fine && expect("its handler", counted(), 1))
                .then_some(())
                .ok_or(EINVAL)
        }),
        Ok(0),
    );
    signals::change_mask(Change::Set, 0)?;
    fine &= expect("what came", counted(), 1);
    on(USR1, fork, 0)?;
    kill(0, USR1)?;
    fine &= expect(
        "fork in a handler",
        FORKED.load(Ordering::Relaxed),
        -EAGAIN.0,
    );
    // A handler that never returns is killed all the same.
    let stuck = sys::fork()?;
    if stuck == 0 {
        on(ALRM, stay, 0)?;
        signals::alarm(1_000, 0)?;
        stay(0);
    }
    std::thread::sleep(Duration::from_millis(50));
    kill(stuck, 9)?;
    fine &= expect(
        "killed in a handler",
        sys::waitpid(stuck, 0),
        Ok((stuck, 9)),
    );
    Ok(fine)
}

/// Children that are stuck in a handler count as long as they are, killed or not: with 12 cages at
/// most, the first included, there are 11.
fn stuck() -> Result<bool, Errno> {
    let mut children = Vec::new();
    for round in 0..2 {
        while let Ok(child) = sys::fork() {
            if child == 0 {
                on(ALRM, stay, 0)?;
                signals::alarm(1_000, 0)?;
                stay(0);
            }
            children.push(child);
        }
        // All of them are in their handlers by then.
        std::thread::sleep(Duration::from_millis(500));
        let new = &children[11 * round..];
        for &child in new {
            kill(child, 9)?;
        }
        for &child in new {
            sys::waitpid(child, 0)?;
        }
    }
    Ok(expect("children", children.len(), 11))
}

/// Becomes `signals after`, which looks at what is left.
fn replaced() -> Result<bool, Errno> {
    on(USR1, count, 0)?;
    signals::set(USR2, Action::Ignore, 0, 0)?;
    let path = c"/bin/signals.cwasm".as_ptr().cast();
    let args = [path, c"after".as_ptr().cast()];
    // SAFETY: strings with their ends.
    Err(unsafe { sys::execve(path, &args, &[]) })
}

fn after() -> Result<bool, Errno> {
    let mut fine = expect("ignored after exec", kill(0, USR2), Ok(0));
    fine &= expect(
        "handler after exec",
        child(|| kill(0, USR1).map(drop)),
        Ok(USR1),
    );
    Ok(fine)
}

fn pipes() -> Result<bool, Errno> {
    let (reader, writer) = sys::pipe2(0)?;
    sys::close(reader)?;
    let mut fine = expect("no handler", sys::write(writer, b"x\n"), Err(EPIPE));
    on(PIPE, count, 0)?;
    fine &= expect("write", sys::write(writer, b"x\n"), Err(EPIPE));
    fine &= expect("SIGPIPE", counted(), 1);
    Ok(fine)
}

fn suspended() -> Result<bool, Errno> {
    on(ALRM, count, RESTART)?;
    signals::change_mask(Change::Block, bit(ALRM))?;
    signals::alarm(20_000, 0)?;
    let mut fine = expect("sigsuspend", signals::suspend(0), Err(EINTR));
    fine &= expect("its handler", counted(), 1);
    let mask = signals::change_mask(Change::Set, 0)?;
    Ok(fine & expect("the mask afterwards", mask, bit(ALRM)))
}

/// Which call waits, for one descriptor to have something to read.
#[derive(Clone, Copy, Debug)]
enum Wait {
    Ppoll,
    Pselect,
    Epoll(i32),
}

/// Waits with that mask.
fn wait(how: Wait, fd: i32, milliseconds: i32, mask: u64) -> Result<i32, Errno> {
    let place = sys::address(&raw const mask);
    let time = [
        milliseconds as u64 / 1000,
        milliseconds as u64 % 1000 * 1_000_000,
    ];
    let milliseconds = milliseconds as u64;
    // SAFETY: all that the addresses lead to lies in this frame, as large as the calls have it.
    unsafe {
        match how {
            Wait::Ppoll => {
                let mut entry = [fd as u32, 1];
                let entry = sys::address(entry.as_mut_ptr());
                sys::syscall(nr::PPOLL, &[entry, 1, milliseconds, place])
            }
            Wait::Pselect => {
                let mut set = [0u64; 16];
                set[fd as usize / 64] |= 1 << (fd % 64);
                let (time, told) = (time, [place, 8]);
                let [set, time, told] = [
                    sys::address(set.as_mut_ptr()),
                    sys::address(time.as_ptr()),
                    sys::address(told.as_ptr()),
                ];
                sys::syscall(nr::PSELECT6, &[fd as u64 + 1, set, 0, 0, time, told])
            }
            Wait::Epoll(instance) => {
                let mut event = [0u32; 3];
                let event = sys::address(event.as_mut_ptr());
                let args = [instance as u64, event, 1, milliseconds, place, 8];
                sys::syscall(nr::EPOLL_PWAIT, &args)
            }
        }
    }
}

/// Waits with a mask of their own: for a pipe, and for a connection, which a grate may wait for by
/// itself.
fn waits() -> Result<bool, Errno> {
    let (reader, writer) = sys::pipe2(0)?;
    let listener = Socket::tcp_listen(([127, 0, 0, 1], 0).into())?;
    let address = listener.name()?.ip().ok_or(EINVAL)?;
    let client = Socket::tcp_connect(address)?;
    let (server, _) = listener.accept(0)?;
    let mut fine = waits_of("pipe", reader, &|| sys::write(writer, b"x\n").map(drop))?;
    fine &= waits_of("connection", server.fd(), &|| {
        client.send(b"x\n", 0).map(drop)?;
        // It is there when a wait without a mask says so.
        wait(Wait::Ppoll, server.fd(), 20_000, 0).map(drop)
    })?;
    Ok(fine)
}

fn waits_of(what: &str, fd: i32, fill: &dyn Fn() -> Result<(), Errno>) -> Result<bool, Errno> {
    const LONG: i32 = 20_000;
    on(USR1, count, RESTART)?;
    on(ALRM, count, RESTART)?;
    let mut ways = vec![Wait::Ppoll];
    // Lind has but the one.
    if sys::base() == 0 {
        // SAFETY: no address among the arguments.
        let instance = unsafe { sys::syscall(nr::EPOLL_CREATE1, &[0]) }?;
        let event = [1u32, 0, 0];
        let args = [instance as u64, 1, fd as u64, sys::address(event.as_ptr())];
        // SAFETY: the event is there.
        unsafe { sys::syscall(nr::EPOLL_CTL, &args) }?;
        ways.extend([Wait::Pselect, Wait::Epoll(instance)]);
    }
    let mut fine = true;
    let mut check = |what: &str, found, expected| fine &= expect(what, found, expected);
    for &how in &ways {
        let name = |deed: &str| format!("{what}, {how:?}: {deed}");
        // What came before, and what comes meanwhile.
        signals::change_mask(Change::Set, bit(USR1) | bit(ALRM))?;
        kill(0, USR1)?;
        let waited = wait(how, fd, LONG, 0);
        check(&name("came before"), (waited, counted()), (Err(EINTR), 1));
        check(
            &name("not twice"),
            (wait(how, fd, 1, 0), counted()),
            (Ok(0), 0),
        );
        signals::alarm(20_000, 0)?;
        let waited = wait(how, fd, LONG, bit(USR1));
        check(&name("comes"), (waited, counted()), (Err(EINTR), 1));
        let held = signals::change_mask(Change::Block, 0)?;
        let same = held == bit(USR1) | bit(ALRM);
        check(&name("the mask"), (Ok(i32::from(same)), 0), (Ok(1), 0));
        // Held back meanwhile alone.
        signals::change_mask(Change::Set, 0)?;
        signals::alarm(20_000, 0)?;
        let waited = wait(how, fd, 150, bit(ALRM));
        check(&name("held back"), (waited, counted()), (Ok(0), 1));
        // Held back on both sides.
        signals::change_mask(Change::Set, bit(USR1))?;
        kill(0, USR1)?;
        let waited = wait(how, fd, 10, bit(USR1));
        check(&name("stays"), (waited, counted()), (Ok(0), 0));
        signals::change_mask(Change::Set, 0)?;
        check(&name("let go"), (Ok(0), counted()), (Ok(0), 1));
        // By default.
        let ended = child(|| {
            signals::change_mask(Change::Set, bit(USR2))?;
            kill(0, USR2)?;
            wait(how, fd, LONG, 0).map(drop)
        });
        check(&name("by default"), (ended, 0), (Ok(USR2), 0));
    }
    // What is ready comes first.
    fill()?;
    for &how in &ways {
        let name = |deed: &str| format!("{what}, {how:?}: {deed}");
        signals::change_mask(Change::Set, bit(USR1))?;
        kill(0, USR1)?;
        let waited = wait(how, fd, LONG, 0);
        check(&name("ready"), (waited, counted()), (Ok(1), 0));
        signals::change_mask(Change::Set, 0)?;
        check(&name("let go then"), (Ok(0), counted()), (Ok(0), 1));
    }
    // A bad mask changes nothing.
    signals::change_mask(Change::Set, bit(USR1))?;
    let entry = [fd as u32, 1];
    let nowhere = sys::base() + 0xf000_0000;
    let args = [sys::address(entry.as_ptr()), 1, 0, nowhere];
    if sys::base() == 0 {
        // SAFETY: nothing lies there.
        let polled = unsafe { sys::syscall(nr::PPOLL, &args) };
        check("no mask", (polled, counted()), (Err(Errno(14)), 0));
    }
    let mask = signals::change_mask(Change::Set, 0)?;
    Ok(fine & expect("the mask of a bad call", mask, bit(USR1)))
}

/// What a file has that is written and read under a storm of signals.
fn storm(path: &str) -> Result<bool, Errno> {
    const SIZE: usize = 3000;
    on(ALRM, count, RESTART)?;
    signals::alarm(1_000, 1_000)?;
    let begun = Instant::now();
    let work = || -> std::io::Result<bool> {
        let mut file = File::create(path)?;
        let mut again = OpenOptions::new().read(true).write(true).open(path)?;
        let mut round = 0u64;
        let mut fine = true;
        while begun.elapsed() < Duration::from_millis(600) {
            let block: Vec<u8> = (0..SIZE).map(|i| (i as u64 ^ round) as u8).collect();
            let place = SeekFrom::Start(round * SIZE as u64);
            file.seek(place)?;
            let written = file.write(&block)?;
            fine &= expect("written", written, SIZE);
            again.seek(place)?;
            again.write_all(&block[..10])?;
            let mut found = vec![0; SIZE];
            again.seek(SeekFrom::Start(round / 2 * SIZE as u64))?;
            let read = again.read(&mut found)?;
            fine &= expect("read", read, SIZE);
            let expected = (0..SIZE).map(|i| (i as u64 ^ (round / 2)) as u8);
            fine &= expect("the same", found, expected.collect());
            if round.is_multiple_of(16) {
                file.sync_data()?;
            }
            round += 1;
        }
        Ok(fine & expect("size", file.metadata()?.len(), round * SIZE as u64))
    };
    let fine = work().unwrap_or_else(|error| {
        println!("{path}: {error}");
        false
    });
    signals::alarm(0, 0)?;
    Ok(fine & expect("handlers", counted() > 20, true))
}

/// How long a block is that two runs write to one file in turn, how many each, and what is in it.
const BLOCK: usize = 700;
const BLOCKS: usize = 1500;

fn block(place: usize) -> [u8; BLOCK] {
    [(place % 251) as u8; BLOCK]
}

/// One of two runs that write to one file at a time, under a storm of signals: who waits for the
/// other is interrupted, and each write is whole all the same, for calls on files are not
/// interrupted whatever the handler was set with.
fn contended(path: &str, first: usize) -> Result<bool, Errno> {
    on(ALRM, count, 0)?;
    signals::alarm(1_000, 1_000)?;
    let write = || -> std::io::Result<bool> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).open(path)?;
        let mut fine = true;
        for place in (first..2 * BLOCKS).step_by(2) {
            file.seek(SeekFrom::Start((place * BLOCK) as u64))?;
            fine &= expect("written", file.write(&block(place))?, BLOCK);
        }
        Ok(fine)
    };
    let fine = write().unwrap_or_else(|error| {
        println!("{path}: {error}");
        false
    });
    signals::alarm(0, 0)?;
    Ok(fine & expect("handlers", counted() > 0, true))
}

/// What both have written.
fn contents(path: &str) -> Result<bool, Errno> {
    let found = std::fs::read(path).map_err(|_| EINVAL)?;
    let expected = (0..2 * BLOCKS).flat_map(block);
    Ok(expect("the file", found.into_iter().eq(expected), true))
}

/// Bytes through a connection, at both ends of which signals storm.
fn connection() -> Result<bool, Errno> {
    const TOTAL: usize = 8 << 20;
    let byte = |at: usize| (at % 251) as u8;
    let (one, other) = Socket::pair(AF_UNIX, SOCK_STREAM)?;
    on(ALRM, count, RESTART)?;
    let sender = sys::fork()?;
    // The timer is each one's own.
    signals::alarm(1_000, 1_000)?;
    if sender == 0 {
        drop(other);
        let mut sent = 0;
        while sent < TOTAL {
            let block: Vec<u8> = (sent..TOTAL.min(sent + 30_000)).map(byte).collect();
            match one.send(&block, 0) {
                Ok(count) => sent += count,
                Err(errno) => {
                    println!("send: {errno:?}");
                    sys::exit(1);
                }
            }
        }
        sys::exit(0);
    }
    drop(one);
    let mut received = 0;
    let mut buffer = vec![0; 50_000];
    let mut fine = true;
    loop {
        let count = other.receive(&mut buffer, 0)?;
        if count == 0 {
            break;
        }
        let expected = (received..received + count).map(byte);
        fine &= expect("bytes", buffer[..count].iter().copied().eq(expected), true);
        received += count;
    }
    signals::alarm(0, 0)?;
    fine &= expect("received", received, TOTAL);
    fine &= expect("the sender", sys::waitpid(sender, 0), Ok((sender, 0)));
    Ok(fine)
}

fn main() {
    let mut failures = 0;
    for deed in std::env::args().skip(1) {
        let done = match deed.as_str() {
            "raised" => raised(),
            "masked" => masked(),
            "interrupted" => interrupted(),
            "computes" => computes(),
            "children" => children(),
            "replaced" => replaced(),
            "after" => after(),
            "stuck" => stuck(),
            "pipes" => pipes(),
            "suspended" => suspended(),
            "waits" => waits(),
            "connection" => connection(),
            deed => match deed.split_once(':') {
                Some(("even", path)) => contended(path, 0),
                Some(("odd", path)) => contended(path, 1),
                Some((_, path)) => contents(path),
                None => storm(deed),
            },
        };
        if done != Ok(true) {
            println!("{deed}: {done:?}");
            failures += 1;
        }
    }
    if failures == 0 {
        println!("all as it should be");
    }
    std::process::exit(i32::from(failures > 0));
}
