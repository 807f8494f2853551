//! `fuzz_calls SEED COUNT PORT PORT`: makes COUNT random system calls, mostly well-formed, by the
//! table of calls; children that it forks make some more, and one changes the memory that arguments
//! lie in meanwhile. What is written is marked. Ends with a line that says how many were made.
//!
//! The first cage oversees: those below it trap, kill each other and wait for ever, and are
//! replaced.

#![allow(
    dead_code,
    reason = "of the hostile program's modules this one uses some functions"
)]

#[path = "../hostile/dice.rs"]
mod dice;
#[path = "../hostile/gate.rs"]
mod gate;
#[path = "../hostile/world.rs"]
mod world;

use cage_libc::sys::{self, address, nr};
use calls::{Entry, Kind, Outcome as Answer};
use dice::Dice;
use gate::*;
use grate_rs::{Call, SyscallHandler, handler};
use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use world::{Arena, World, loopback, served};

/// Calls that one worker makes.
const BATCH: u64 = 400;
/// How long a worker may take over one call, in milliseconds, before it is replaced.
const PATIENCE: u64 = 150;

/// Words of the page that all share.
const BATCH_NOW: usize = 0;
const MADE: usize = 8;

const NAMES: &[&[u8]] = &[
    b"/open/a.log\0",
    b"/open/a.log\0",
    b"/open/b.log\0",
    b"/open/b.log\0",
    b"/open/c.log\0",
    b"/open/d.log\0",
    b"/open/folder\0",
    b"/open/folder/e.log\0",
    b"a.log\0",
    b"folder/../b.log\0",
    b"../open/c.log\0",
    b"/open\0",
    b"/open/plain.log\0",
    b"/open/empty\0",
    b"/open/outside-file\0",
    b"/open/outside/beside\0",
    b"/../beside\0",
    b"/open/hard.log\0",
    b"/open/soft.log\0",
    b"/open/keys/k.bin\0",
    b"/keys/k.bin\0",
    b"/keys\0",
    b"/protected\0",
    b"/protected/f.log\0",
    b"/open/protected/new.log\0",
    b"/open/denied.log\0",
    b"/bin/hello.cwasm\0",
    b"/tmp\0",
    b"/tmp/x.txt\0",
    b"/\0",
    b".\0",
    b"..\0",
    b"\0",
    b"/proc/self/fd/3\0",
    b"/open/a.log/\0",
];

const NUMBERS: &[u64] = &[
    0, 1, 2, 3, 7, 8, 16, 64, 100, 255, 512, 4095, 4096, 4097, 65535, 65536,
];

const WILD: &[u64] = &[
    1 << 31,
    u32::MAX as u64,
    1 << 32,
    (1 << 32) + 1,
    1 << 62,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
    u64::MAX - 1,
    u64::MAX - 99,
    UNUSED,
];

handler!(pass_read, 0, |call: &Call| call.forward(call.cage_of(0)));
handler!(pass_write, 1, |call: &Call| call.forward(call.cage_of(0)));
handler!(pass_open, 2, |call: &Call| call.forward(call.cage_of(1)));
handler!(pass_close, 3, |call: &Call| call.forward(call.cage_of(0)));

const HANDLERS: &[(u64, SyscallHandler)] = &[
    (0, pass_read),
    (1, pass_write),
    (2, pass_open),
    (3, pass_close),
];

struct Player {
    dice: Dice,
    world: World,
    page: Shared,
    batch: u64,
    /// What calls have opened.
    fds: Vec<i32>,
    /// Cages to name, rightly or not.
    cages: Vec<u64>,
    calls: Vec<&'static Entry>,
    ports: [u16; 2],
    depth: u32,
}

impl Player {
    fn new(seed: u64, page: Shared, ports: [u16; 2]) -> Result<Self, String> {
        let batch = page.word(BATCH_NOW).load(Ordering::Relaxed);
        // Those before may have put anything in its place.
        path_call(nr::UNLINK, c"/open", &[]);
        path_call(nr::MKDIR, c"/open", &[0o755]);
        let world = World::new(&format!("batch{batch}"), true)?;
        // Whatever is written from there is marked.
        for slot in 0..Arena::SLOTS {
            let text = MARK.repeat(Arena::SLOT / MARK.len());
            world.arena.put(slot, 0, &text);
        }
        path_call(nr::MKDIR, c"/open/folder", &[0o755]);
        let me = sys::own_id();
        Ok(Self {
            dice: Dice::new(seed),
            fds: vec![0, 1, 2, world.file, world.pipe[1], world.pair[1]],
            world,
            page,
            batch,
            cages: vec![1, me - 1, parent(), 0, 4_000_000, u64::MAX],
            calls: served().collect(),
            ports,
            depth: 0,
        })
    }

    fn is_over(&self) -> bool {
        self.page.word(BATCH_NOW).load(Ordering::Relaxed) != self.batch
    }

    fn play(&mut self, count: u64) {
        for _ in 0..count {
            if self.is_over() {
                break;
            }
            match self.dice.roll(60) {
                0 => self.spawn(),
                1 => self.register(),
                _ => self.make(),
            }
            self.page.word(MADE).fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A child that makes calls of its own, with everything that this one has.
    fn spawn(&mut self) {
        if self.depth > 1 {
            return;
        }
        let (seed, count, how) = (self.dice.word(), self.dice.roll(40), self.dice.roll(4));
        match sys::fork() {
            Ok(0) => {
                self.dice = Dice::new(seed);
                self.depth += 1;
                self.play(count);
                match how {
                    0 => {
                        let path = address(c"/bin/ends.cwasm".as_ptr());
                        call(nr::EXECVE, &[path, 0, 0]);
                    }
                    1 => core::arch::wasm32::unreachable(),
                    2 => drop(call(nr::KILL, &[sys::own_id(), 9])),
                    _ => {}
                }
                sys::exit(0)
            }
            Ok(child) => {
                self.cages.push(child as u64);
                if self.dice.roll(2) == 0 {
                    let _ = sys::waitpid(child, 0);
                }
            }
            Err(_) => {}
        }
    }

    /// A call of 3i.
    fn register(&mut self) {
        let me = sys::own_id();
        let (number, handler) = self.dice.pick(HANDLERS);
        let (on, by) = (self.cage(2), self.cage(2));
        let child = self.cages.last().copied().unwrap_or(me);
        match self.dice.roll(6) {
            0 | 1 => {
                let index = handler as usize as u64;
                let args = [arg(child, number), arg(UNUSED, me), arg(index, UNUSED)];
                raw(REGISTER, me, &args);
            }
            2 => {
                let args = [
                    arg(on, number),
                    arg(UNUSED, by),
                    arg(self.dice.roll(20), UNUSED),
                ];
                raw(REGISTER, me, &args);
            }
            3 => drop(raw(
                REGISTER,
                me,
                &[arg(on, number), arg(UNUSED, DEREGISTER)],
            )),
            4 => drop(raw(COPY_TABLE, me, &[arg(on, by)])),
            _ => {
                let (from, to) = (self.place(), self.place());
                let len = self.dice.pick(NUMBERS);
                let args = [arg(from, on), arg(to, by), own(len), own(self.dice.roll(3))];
                raw(COPY_DATA, me, &args);
            }
        }
    }

    /// Its own cage, once in so many another.
    fn cage(&mut self, odds: u64) -> u64 {
        if self.dice.roll(odds) != 0 {
            return sys::own_id();
        }
        let cage = self.dice.pick(&self.cages.clone());
        if self.dice.roll(8) == 0 {
            cage | FLAG
        } else {
            cage
        }
    }

    /// Somewhere in the arena.
    fn place(&mut self) -> u64 {
        let slot = self.dice.roll(Arena::SLOTS as u64 - 2) as usize;
        self.world.arena.address(slot) + self.dice.pick(&[0, 0, 1, 7, 40, 4090])
    }

    fn make(&mut self) {
        let entry = loop {
            let entry = self.dice.pick(&self.calls.clone());
            // These end, replace or fork it; and once in a while the rest of what it has.
            let rare = matches!(entry.nr, 9..=12 | 3 | 62 | 77 | 76);
            if !entry.is_of_the_thread() && (!rare || self.dice.roll(3) == 0) {
                break entry;
            }
        };
        let mut args = [own(UNUSED); 6];
        for index in 0..entry.args.len() {
            args[index] = Arg {
                value: self.argument(entry, index),
                cage: self.cage(60),
            };
        }
        let target = self.cage(80);
        let got = raw(entry.nr, target, &args);
        if got >= 0 && entry.result == Answer::Fd {
            self.fds.push(got);
            if self.fds.len() > 40 {
                close(self.fds.remove(5));
            }
        }
    }

    fn argument(&mut self, entry: &Entry, index: usize) -> u64 {
        if self.dice.roll(40) == 0 {
            return self.dice.pick(WILD);
        }
        let good = self.world.argument(entry, index);
        let before = index.checked_sub(1).map(|before| entry.args[before]);
        match entry.args[index] {
            Kind::Fd | Kind::DirFd if self.dice.roll(2) == 0 => {
                int(self.dice.pick(&self.fds.clone()))
            }
            Kind::Path if self.dice.roll(5) != 0 => {
                let name = self.dice.pick(NAMES);
                self.world.arena.put(index, 0, name)
            }
            Kind::BytesIn | Kind::BytesOut | Kind::BytesInOut if self.dice.roll(4) != 0 => {
                self.place()
            }
            Kind::VectorsIn | Kind::VectorsOut if self.dice.roll(4) != 0 => self.vectors(index),
            Kind::SocketAddress if self.dice.roll(3) != 0 => {
                let [plain, sealed] = self.ports;
                let port = self.dice.pick(&[plain, sealed, 9, 0]);
                self.world.arena.put(index, 0, &loopback(port))
            }
            Kind::Size if before.is_some_and(Kind::next_is_its_length) => match self.dice.roll(3) {
                0 => good,
                1 => self.dice.pick(NUMBERS),
                _ => self.dice.roll(200),
            },
            Kind::Int if matches!(before, Some(Kind::VectorsIn | Kind::VectorsOut)) => {
                self.dice.roll(5)
            }
            // Nothing that would make files of gigabytes.
            Kind::Size | Kind::Offset => match self.dice.roll(3) {
                0 => self.dice.pick(NUMBERS),
                _ => self.dice.roll(20_000),
            },
            Kind::OpenFlags => {
                let mut flags = self.dice.pick(&[0, O_WRONLY, O_RDWR, O_RDWR]);
                for flag in [
                    O_CREAT, O_CREAT, O_TRUNC, O_APPEND, 0o4000, 0o2000000, 0o200, 0o400000, O_PATH,
                ] {
                    if self.dice.roll(5) == 0 {
                        flags |= flag;
                    }
                }
                int(flags)
            }
            Kind::Mode => self
                .dice
                .pick(&[0o755, 0o700, 0o777, 0o4755, 0o7777, 0o140_755]),
            Kind::AtFlags => self.dice.pick(&[0, 0, 0, 0x100, 0x200, 0x400, 0x1000]),
            Kind::Whence => self.dice.roll(6),
            Kind::FcntlCommand => self
                .dice
                .pick(&[0, 1, 2, 3, 4, 5, 6, 36, 37, 1030, 1031, 1032]),
            Kind::IoctlRequest => self
                .dice
                .pick(&[0x5421, 0x5452, 0x541b, 0x5413, 0x5451, 0x5401]),
            Kind::Signal => self.dice.pick(&[0, 0, 17, 18, 9, 15]),
            Kind::Pid => self.dice.pick(&self.cages.clone()),
            Kind::Family => self.dice.pick(&[1, 1, 2, 2, 10, 16, 17]),
            Kind::SocketType => {
                let kind = self.dice.pick(&[1, 2, 3, 5]);
                // Rarely one that waits.
                if self.dice.roll(10) == 0 {
                    kind
                } else {
                    kind | 0o4000
                }
            }
            Kind::Prot => self.dice.roll(8),
            Kind::MapFlags => self.dice.pick(&[0x22, 0x21, 0x01, 0x02, 0x32, 0x8022, 3]),
            Kind::Place => {
                let slot = self.dice.roll(4) + Arena::SLOTS as u64 - 4;
                self.world.arena.address(slot as usize) - sys::base()
            }
            Kind::Bits if self.dice.roll(3) == 0 => self.dice.pick(NUMBERS),
            Kind::Int if !self.waits(entry, index) && self.dice.roll(3) == 0 => {
                self.dice.pick(NUMBERS)
            }
            _ => good,
        }
    }

    /// Whether a number says how long is waited.
    fn waits(&self, entry: &Entry, index: usize) -> bool {
        matches!((entry.nr, index), (7 | 271, 2) | (232 | 281, 3) | (202, _))
    }

    fn vectors(&mut self, slot: usize) -> u64 {
        let mut list = Vec::new();
        for _ in 0..4 {
            list.extend(self.place().to_le_bytes());
            list.extend(self.dice.pick(NUMBERS).min(8192).to_le_bytes());
        }
        self.world.arena.put(slot, 0, &list)
    }
}

/// Changes what arguments point to, until the batch is over.
fn meddle(page: Shared, arena: Arena, batch: u64, seed: u64) {
    let mut dice = Dice::new(seed);
    while page.word(BATCH_NOW).load(Ordering::Relaxed) == batch {
        let slot = dice.roll(8) as usize;
        let at = dice.roll(16) as usize * 8;
        let inside = arena.address(slot);
        match dice.roll(4) {
            0 => {
                let number = dice.pick(WILD);
                arena.put(slot, at, &number.to_le_bytes());
            }
            1 => drop(arena.put(slot, at, &(inside + dice.roll(4096)).to_le_bytes())),
            2 => {
                let name = dice.pick(NAMES);
                arena.put(slot, 0, name);
            }
            _ => drop(arena.put(slot, at - at % 40, MARK)),
        }
        for _ in 0..dice.roll(200) {
            core::hint::spin_loop();
        }
    }
}

fn worker(page: Shared, seed: u64, ports: [u16; 2]) -> i32 {
    let mut player = match Player::new(seed, page, ports) {
        Ok(player) => player,
        Err(why) => {
            println!("{why}");
            return 1;
        }
    };
    let (arena, batch) = (player.world.arena, player.batch);
    if let Ok(child) = forked(|| {
        meddle(page, arena, batch, seed);
        0
    }) {
        player.cages.push(child as u64);
    }
    player.play(BATCH);
    0
}

/// Runs one batch to its end, or until nothing happens any more, and takes all of it away.
fn oversee(page: Shared, seed: u64, ports: [u16; 2]) -> Outcome {
    let made = || page.word(MADE).load(Ordering::Relaxed);
    let child = forked(|| worker(page, seed, ports))?;
    let (mut before, mut idle) = (made(), 0);
    while sys::waitpid(child, 1) == Ok((0, 0)) {
        pause(1);
        idle = if made() == before { idle + 1 } else { 0 };
        before = made();
        if idle > PATIENCE {
            break;
        }
    }
    page.word(BATCH_NOW).fetch_add(1, Ordering::Relaxed);
    // All that were made since; numbers only grow.
    let last = forked(|| 0)?;
    for cage in child..last {
        call(nr::KILL, &[cage as u64, 9]);
    }
    // Those below it have no other parent to wait for them than who has ended.
    while sys::waitpid(-1, 0).is_ok() {}
    Ok(())
}

fn run() -> Outcome {
    let numbers: Vec<u64> = std::env::args()
        .skip(1)
        .map(|arg| arg.parse().unwrap_or(0))
        .collect();
    let &[seed, count, plain, sealed] = &numbers[..] else {
        return Err("usage: fuzz_calls SEED COUNT PORT PORT".to_owned());
    };
    let page = Shared::new()?;
    let ports = [plain as u16, sealed as u16];
    // Each batch makes some, whatever becomes of it.
    for batch in 0..8 * count.div_ceil(BATCH) {
        let made = page.word(MADE).load(Ordering::Relaxed);
        if made >= count {
            break;
        }
        oversee(page, seed.wrapping_mul(1 << 20).wrapping_add(batch), ports)?;
    }
    // This one has not been in any of it: it is served as ever.
    let fd = open(c"/still.log", O_CREAT | O_WRONLY, 0o644);
    expect("the last open", fd.min(0), &[0])?;
    expect("the last write", write(fd, MARK), &[MARK.len() as i32])?;
    // On a line of its own, by one call: anything may have been written before, and is written
    // by others that still run.
    let made = page.word(MADE).load(Ordering::Relaxed);
    let line = format!("\n{made} calls made\n");
    std::io::stdout()
        .write_all(line.as_bytes())
        .map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    // A call may be told to put something anywhere in this memory, over what holds the list of
    // calls too: that such a cage ends is nothing to report.
    std::panic::set_hook(Box::new(|_| {}));
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}
