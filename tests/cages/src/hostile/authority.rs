//! Naming cages: the grate, the parent, a child, a sibling, dead ones, in the place of every
//! argument. A cage may name itself, and those whose grate it is.

use super::gate::*;
use super::world::{World, names_a_cage, served};
use super::{Attempt, Stage};
use cage_libc::sys::{self, address, nr};
use std::sync::atomic::{AtomicU64, Ordering};

pub const ATTEMPTS: &[Attempt] = &[
    ("its grate's memory comes out", memory_out),
    ("its grate's memory is written", memory_in),
    ("its grate's descriptors", descriptors),
    ("another cage's state", state),
    ("another cage's life", life),
    ("another cage's table of handlers", tables),
    ("another cage in each argument", every_argument),
    ("another cage as target", every_target),
    ("numbers that are no cage's", no_cage),
    ("speaking for another cage", impersonation),
    ("a child's descriptor, before it is known", child_descriptor),
    ("the end of a child that goes on", false_end),
];

/// What a call gets that names a cage which is not the caller's to name.
const REFUSED: &[i32] = &[EPERM, ESRCH];

/// Strict mode's cages lie this far apart.
const STRIDE: u64 = 8 << 30;

/// Where an offset of another cage lies.
fn address_in(cage: u64, offset: u64) -> u64 {
    if !strict() {
        return offset;
    }
    let back = sys::own_id().wrapping_sub(cage).wrapping_mul(STRIDE);
    sys::base().wrapping_add(back).wrapping_add(offset)
}

const CANARY: u64 = 0x6361_6e61_7279_2121;
static CANARY_AT: AtomicU64 = AtomicU64::new(CANARY);

/// A child that does nothing until it is released, and then looks whether it is whole.
pub struct Idle {
    pub cage: u64,
    latch: i32,
}

impl Idle {
    pub fn new() -> Result<Self, String> {
        let (released, latch) = pipe()?;
        let child = forked(|| {
            close(latch);
            while sys::read(released, &mut [0; 1]) == Err(sys::Errno(4)) {}
            const F_GETFD: u64 = 1;
            let open = (0..3).all(|fd| call(nr::FCNTL, &[fd, F_GETFD]) == 0);
            let whole = CANARY_AT.load(Ordering::Relaxed) == CANARY;
            let still_itself = call(nr::GETPID, &[]) == sys::own_id() as i32;
            i32::from(!(open && whole && still_itself))
        })?;
        close(released);
        Ok(Self {
            cage: child as u64,
            latch,
        })
    }

    pub fn release(self) -> Outcome {
        close(self.latch);
        wait_well(self.cage as i32).map_err(|why| format!("the victim: {why}"))
    }
}

/// A cage that has ended, and was waited for.
fn dead() -> Result<u64, String> {
    let child = forked(|| 0)?;
    wait_well(child)?;
    Ok(child as u64)
}

/// Runs an attack in a child.
fn attacker(attack: impl FnOnce() -> Outcome) -> Outcome {
    let child = forked(|| match attack() {
        Ok(()) => 0,
        Err(why) => {
            println!("{why}");
            1
        }
    })?;
    wait_well(child)
}

/// Who is attacked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    Grate,
    Parent,
    Sibling,
    Child,
    Dead,
}

impl Victim {
    fn name(self) -> &'static str {
        match self {
            Self::Grate => "the grate",
            Self::Parent => "its parent",
            Self::Sibling => "a sibling",
            Self::Child => "a child",
            Self::Dead => "a dead cage",
        }
    }
}

/// Runs an attack against each cage that is not the attacker's to name.
fn against_each(stage: &Stage, attack: fn(Victim, u64) -> Outcome) -> Outcome {
    let told = |victim: Victim, cage| {
        attack(victim, cage).map_err(|why| format!("{}: {why}", victim.name()))
    };
    let mut outcomes = Vec::new();
    if let Some(grate) = stage.grate() {
        outcomes.push(told(Victim::Grate, grate));
    }
    let me = sys::own_id();
    outcomes.push(attacker(|| told(Victim::Parent, me)));
    let idle = Idle::new()?;
    let cage = idle.cage;
    outcomes.push(attacker(|| told(Victim::Sibling, cage)));
    outcomes.push(told(Victim::Child, cage));
    outcomes.push(idle.release());
    outcomes.push(told(Victim::Dead, dead()?));
    all(outcomes)
}

fn memory_out(stage: &Stage) -> Outcome {
    against_each(stage, |_, victim| {
        const PIECE: u64 = 65536;
        let me = sys::own_id();
        let low = (0..64).map(|piece| piece * PIECE);
        let high = (0xfff0_0000..0x1_0000_0000u64).step_by(PIECE as usize);
        for offset in low.chain(high) {
            let from = arg(address_in(victim, offset), victim);
            for (name, result) in [
                ("write", raw(nr::WRITE, me, &[own(1), from, own(PIECE)])),
                ("flagged", {
                    let from = arg(from.value, victim | FLAG);
                    raw(nr::WRITE, me, &[own(1), from, own(PIECE)])
                }),
                ("iovec", raw(nr::WRITEV, me, &[own(1), from, own(1)])),
                ("path", raw(nr::OPEN, me, &[from, own(0), own(0)])),
            ] {
                expect(format!("{name} from {offset:#x}"), result, REFUSED)?;
            }
            let mut copy = [0u8; 256];
            let to = own(address(copy.as_mut_ptr()));
            for kind in [0, 1] {
                let args = [from, to, own(256), own(kind)];
                expect(
                    "a copy",
                    raw(COPY_DATA, me, &args),
                    &[ABORTED, EPERM, ESRCH],
                )?;
            }
            if copy != [0; 256] {
                return Err("a copy that was refused".to_owned());
            }
        }
        Ok(())
    })
}

fn memory_in(stage: &Stage) -> Outcome {
    against_each(stage, |_, victim| {
        let me = sys::own_id();
        let (out, into) = pipe()?;
        let mut place = [0u8; 128];
        for offset in (0..0x40_0000).step_by(65536) {
            let to = arg(address_in(victim, offset), victim);
            if write(into, &[0x41; 128]) != 128 {
                return Err("the pipe is full".to_owned());
            }
            let got = raw(nr::READ, me, &[own(int(out)), to, own(128)]);
            expect("read", got, REFUSED)?;
            for (name, result) in [
                ("getrandom", raw(318, me, &[to, own(64), own(0)])),
                ("getcwd", raw(nr::GETCWD, me, &[to, own(64)])),
                ("stat", {
                    let path = own(address(c"/tmp".as_ptr()));
                    raw(nr::STAT, me, &[path, to])
                }),
                ("clock", raw(nr::CLOCK_GETTIME, me, &[own(0), to])),
                ("pipe", raw(22, me, &[to])),
            ] {
                expect(name, result, REFUSED)?;
            }
            let from = own(address(c"AAAAAAAAAAAAAAAA".as_ptr()));
            let copied = raw(COPY_DATA, me, &[from, to, own(16), own(0)]);
            expect("a copy", copied, &[ABORTED, EPERM, ESRCH])?;
            if sys::read(out, &mut place) != Ok(128) {
                return Err("what was refused was read".to_owned());
            }
        }
        Ok(())
    })
}

fn descriptors(stage: &Stage) -> Outcome {
    against_each(stage, |_, victim| {
        let me = sys::own_id();
        let text = own(address(MARK.as_ptr()));
        let len = own(MARK.len() as u64);
        // A number that is free here.
        const FREE: u64 = 60;
        for fd in (0..24).chain([FREE]) {
            let theirs = arg(fd, victim);
            for (name, result) in [
                ("write", raw(nr::WRITE, me, &[theirs, text, len])),
                ("write there", raw(nr::WRITE, victim, &[theirs, text, len])),
                (
                    "pwrite",
                    raw(nr::PWRITE, victim, &[theirs, text, len, own(0)]),
                ),
                ("close", raw(nr::CLOSE, victim, &[theirs])),
                (
                    "close by argument",
                    raw(nr::CLOSE, me, &[arg(FREE, victim)]),
                ),
                ("dup there", raw(nr::DUP, victim, &[theirs])),
                ("dup2 there", raw(nr::DUP2, victim, &[theirs, own(1)])),
                ("fcntl", raw(nr::FCNTL, victim, &[theirs, own(1)])),
                ("ftruncate", raw(nr::FTRUNCATE, me, &[theirs, own(0)])),
                ("fsync", raw(nr::FSYNC, me, &[theirs])),
                ("fchdir", raw(81, me, &[theirs])),
                ("shutdown", raw(nr::SHUTDOWN, me, &[theirs, own(2)])),
                ("open there", {
                    let path = own(address(c"/open/there".as_ptr()));
                    raw(
                        nr::OPEN,
                        victim,
                        &[path, own(int(O_CREAT | O_RDWR)), own(0o644)],
                    )
                }),
                ("mmap of it", {
                    let args = [own(0), own(4096), own(1), own(2), theirs, own(0)];
                    raw(nr::MMAP, me, &args)
                }),
            ] {
                expect(format!("{name}, descriptor {fd}"), result, REFUSED)?;
            }
        }
        Ok(())
    })
}

fn state(stage: &Stage) -> Outcome {
    against_each(stage, |_, victim| {
        let path = own(address(c"/tmp".as_ptr()));
        let there = arg(address_in(victim, 0x10000), victim);
        let fixed = [there, own(4096), own(0), own(0x32), own(int(-1)), own(0)];
        all([
            ("chdir", raw(nr::CHDIR, victim, &[path])),
            ("mmap", raw(nr::MMAP, victim, &fixed)),
            ("munmap", raw(nr::MUNMAP, victim, &[there, own(4096)])),
            ("mprotect", raw(10, victim, &[there, own(65536), own(0)])),
            ("brk", raw(12, victim, &[own(0x2000_0000)])),
            ("getppid", raw(110, victim, &[])),
            ("getpid", raw(nr::GETPID, victim, &[])),
            ("socket", raw(nr::SOCKET, victim, &[own(2), own(1), own(0)])),
            (
                "wait",
                raw(nr::WAITPID, victim, &[own(int(-1)), own(0), own(1)]),
            ),
        ]
        .map(|(name, result)| expect(name, result, REFUSED)))
    })
}

fn life(stage: &Stage) -> Outcome {
    against_each(stage, |who, victim| {
        let me = sys::own_id();
        let there = arg(address_in(victim, 0x10000), victim);
        let path = own(address(c"/bin/hostile.cwasm".as_ptr()));
        let mut outcomes: Vec<Outcome> = [
            (
                "exit_group",
                raw(nr::EXIT_GROUP, victim, &[arg(42, victim); 6]),
            ),
            ("exit_group by own", raw(nr::EXIT_GROUP, victim, &[own(42)])),
            ("exit", raw(60, victim, &[arg(42, victim)])),
            ("exec", raw(nr::EXECVE, victim, &[there, there, there])),
            (
                "exec of ours",
                raw(nr::EXECVE, victim, &[path, own(0), own(0)]),
            ),
            ("clone", raw(nr::CLONE, victim, &[arg(0, victim)])),
            (
                "exec by its path",
                raw(nr::EXECVE, me, &[there, own(0), own(0)]),
            ),
            (
                "exec by its arguments",
                raw(nr::EXECVE, me, &[path, there, own(0)]),
            ),
            ("kill by it", raw(nr::KILL, victim, &[own(1), own(9)])),
        ]
        .map(|(name, result)| expect(name, result, REFUSED))
        .into();
        // A program may kill its children, and nobody above.
        if matches!(who, Victim::Grate) {
            for signal in 1..=64 {
                let got = raw(nr::KILL, me, &[own(victim), own(signal)]);
                outcomes.push(expect(format!("kill with {signal}"), got, &[EPERM]));
            }
        }
        all(outcomes)
    })
}

fn tables(stage: &Stage) -> Outcome {
    against_each(stage, |who, victim| {
        let me = sys::own_id();
        let refused = [EPERM, ESRCH, GONE, ABORTED];
        let on = |cage, number: u64, grate| {
            let args = [arg(cage, number), arg(UNUSED, grate), arg(2, UNUSED)];
            raw(REGISTER, me, &args)
        };
        let mut outcomes = Vec::new();
        for number in (0..340).chain(1000..1010).chain(1100..1113) {
            let mut told = |what: &str, result| {
                outcomes.push(expect(format!("{what} {number}"), result, &refused));
            };
            // Who makes a cage registers on it; what others have put on it stays all the same.
            if who != Victim::Child {
                told("register on it", on(victim, number, me));
                told("deregister", on(victim, number, DEREGISTER));
            }
            // A forked cage may have its maker as grate.
            if who != Victim::Parent && who != Victim::Child {
                told("register it on oneself", on(me, number, victim));
            }
        }
        if who != Victim::Child {
            let from = raw(COPY_TABLE, me, &[arg(victim, me)]);
            let to = raw(COPY_TABLE, me, &[arg(me, victim)]);
            outcomes.push(expect("copy its table", from, &refused));
            outcomes.push(expect("copy to it", to, &refused));
        }
        all(outcomes)
    })?;
    stage.still_served()
}

/// Makes every call with a foreign cage in each place where an argument means something of its
/// cage, and tells how that went.
fn with_each_argument(world: &World, cage: u64, check: &mut dyn FnMut(&str, usize, i32)) {
    for entry in served() {
        for (index, kind) in entry.args.iter().enumerate() {
            if names_a_cage(*kind) {
                let mut args = own_arguments(world, entry);
                args[index].cage = cage;
                check(entry.name, index, raw(entry.nr, sys::own_id(), &args));
            }
        }
    }
}

fn own_arguments(world: &World, entry: &calls::Entry) -> Vec<Arg> {
    world.arguments(entry).into_iter().map(own).collect()
}

fn none(wrong: Vec<String>) -> Outcome {
    if wrong.is_empty() {
        return Ok(());
    }
    Err(wrong.join("\n"))
}

fn every_argument(stage: &Stage) -> Outcome {
    against_each(stage, |_, victim| {
        let world = World::new("argument", false)?;
        let mut wrong = Vec::new();
        for cage in [victim, victim | FLAG] {
            with_each_argument(&world, cage, &mut |name, index, result| {
                if !REFUSED.contains(&result) {
                    wrong.push(format!("{name}, argument {}: {result}", index + 1));
                }
            });
        }
        none(wrong)
    })
}

fn every_target(stage: &Stage) -> Outcome {
    against_each(stage, |_, victim| {
        let world = World::new("target", false)?;
        all(served().flat_map(|entry| {
            let args = own_arguments(&world, entry);
            [victim, victim | FLAG].map(|target| {
                let got = raw(entry.nr, target, &args);
                expect(entry.name, got, REFUSED)
            })
        }))
    })
}

fn no_cage(_: &Stage) -> Outcome {
    let me = sys::own_id();
    let world = World::new("nobody", false)?;
    let numbers = [
        0,
        500,
        777_777,
        888_888,
        999_999,
        1 << 31,
        (1 << 31) - 1,
        (1 << 32) + me,
        1 << 62,
        FLAG,
        u64::MAX,
        u64::MAX - 1,
    ];
    let mut wrong = Vec::new();
    for number in numbers {
        with_each_argument(&world, number, &mut |name, index, result| {
            if !REFUSED.contains(&result) {
                let place = index + 1;
                wrong.push(format!(
                    "{name}, argument {place} of cage {number:#x}: {result}"
                ));
            }
        });
        for entry in served() {
            let result = raw(entry.nr, number, &own_arguments(&world, entry));
            if !REFUSED.contains(&result) {
                wrong.push(format!("{} for {number:#x}: {result}", entry.name));
            }
        }
    }
    none(wrong)
}

fn impersonation(stage: &Stage) -> Outcome {
    against_each(stage, |_, victim| {
        let me = sys::own_id();
        let world = World::new("who", false)?;
        all(served().flat_map(|entry| {
            let args = own_arguments(&world, entry);
            [victim, 0, u64::MAX, me | FLAG, (1 << 32) + me].map(|who| {
                let got = raw_as(who, entry.nr, me, &args);
                expect(format!("{} as {who:#x}", entry.name), got, REFUSED)
            })
        }))
    })
}

/// A parent writes to the descriptor that its child is just opening: between the grate's open
/// below and its note of it.
fn child_descriptor(stage: &Stage) -> Outcome {
    const TURN: usize = 0;
    const DONE: usize = 8;
    const NEXT: usize = 16;
    let page = Shared::new()?;
    let tries = stage.tries.min(300);
    let child = forked(|| {
        for turn in 1..=tries {
            while page.word(TURN).load(Ordering::Acquire) != turn {}
            let path = format!("/open/race{turn}\0");
            let args = [address(path.as_ptr()), int(O_CREAT | O_RDWR), 0o644];
            let fd = call(nr::OPEN, &args);
            page.word(DONE).store(turn, Ordering::Release);
            while page.word(NEXT).load(Ordering::Acquire) != turn {}
            close(fd);
        }
        0
    })?;
    let victim = child as u64;
    let mut through = 0;
    let text = own(address(MARK.as_ptr()));
    let len = own(MARK.len() as u64);
    for turn in 1..=tries {
        page.word(TURN).store(turn, Ordering::Release);
        while page.word(DONE).load(Ordering::Acquire) != turn {
            for target in [sys::own_id(), victim] {
                for fd in 3..6 {
                    let args = [arg(fd, victim), text, len, own(0)];
                    through += i32::from(raw(nr::PWRITE, target, &args) > 0);
                }
            }
        }
        page.word(NEXT).store(turn, Ordering::Release);
    }
    wait_well(child)?;
    expect("writes to a child's descriptor", through, &[0])
}

/// A parent says that its child has exited; the child goes on writing.
fn false_end(_: &Stage) -> Outcome {
    let page = Shared::new()?;
    let child = forked(|| {
        let fd = open(c"/open/data", O_CREAT | O_RDWR | O_TRUNC, 0o644);
        write(fd, MARK);
        page.word(0).store(1, Ordering::Release);
        while page.word(8).load(Ordering::Acquire) == 0 {}
        write(fd, MARK);
        write(1, MARK);
        i32::from(fd < 0)
    })?;
    while page.word(0).load(Ordering::Acquire) == 0 {}
    let cage = child as u64;
    let mut outcomes = Vec::new();
    for number in [nr::EXIT_GROUP, 60, nr::CLOSE, nr::EXECVE] {
        for args in [[arg(0, cage); 6], [arg(3, cage); 6], [own(3); 6]] {
            let got = raw(number, cage, &args);
            outcomes.push(expect(format!("call {number} for a child"), got, REFUSED));
        }
    }
    page.word(8).store(1, Ordering::Release);
    outcomes.push(wait_well(child));
    all(outcomes)
}
