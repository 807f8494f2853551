//! `file_ops DIR SEED COUNT`: makes COUNT random file calls in DIR and prints each with all that
//! the program can see of its outcome. The same seed makes the same calls, so that two runs, on a
//! plain directory and through a grate, must print the same.
//!
//! `file_ops DIR SEED COUNT busy`: does so while other threads use a file of theirs, and a timer's
//! signals interrupt it all.

use cage_libc::signals::{self, Action, RESTART};
use cage_libc::sys::{self, Errno, address};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

/// Repeatable, and good enough to pick calls with.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len() as u64) as usize]
    }
}

/// An `int` argument.
fn int(value: i32) -> u64 {
    i64::from(value) as u64
}

fn call(nr: u32, args: &[u64]) -> Result<i32, Errno> {
    // SAFETY: every address comes from a live buffer, or is outside of what is mapped.
    unsafe { sys::syscall(nr, args) }
}

/// Short for bytes that were read.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

struct Player {
    dice: Dice,
    directory: String,
    fds: Vec<i32>,
    wide: bool,
}

/// With an ending that write-filter-grate permits.
const NAMES: [&str; 4] = ["a.log", "b.log", "c.log", "d.log"];
const AT_FDCWD: i32 = -100;
const EINTR: Errno = Errno(4);

/// What goes on beside the calls, none of which may show.
struct Bustle {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<bool>>,
}

static SIGNALS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_signal: i32) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

impl Bustle {
    const THREADS: u64 = 2;
    /// Bytes that a thread has to itself, over the edges of chunks.
    const REGION: usize = 9000;
    /// No call of the others names this descriptor.
    const FD: i32 = 100;
    const SIGALRM: i32 = 14;
    const MICROS: u64 = 700;

    /// Odd seeds have calls go on that a signal interrupts, where they can.
    fn new(directory: &str, seed: u64) -> Result<Self, Errno> {
        const RDWR_CREAT: u64 = 0o102;
        let path = format!("{directory}/bustle.log\0");
        let low = call(2, &[address(path.as_ptr()), RDWR_CREAT, 0o644])?;
        call(72, &[int(low), 0, int(Self::FD)])?;
        sys::close(low)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let threads = (0..Self::THREADS).map(|number| {
            let is_over = is_over.clone();
            thread::spawn(move || Self::work(number, &is_over))
        });
        let threads = threads.collect();
        let flags = if seed % 2 == 1 { RESTART } else { 0 };
        signals::set(Self::SIGALRM, Action::Call(count), 0, flags)?;
        signals::alarm(Self::MICROS, Self::MICROS)?;
        Ok(Self { is_over, threads })
    }

    /// Writes to a region of its own and reads it back, until it is over. Whether it was right.
    fn work(number: u64, is_over: &AtomicBool) -> bool {
        let mut dice = Dice(number + 1);
        let mut known = vec![0u8; Self::REGION];
        let mut is_right = true;
        while !is_over.load(Ordering::Relaxed) {
            let start = dice.roll(Self::REGION as u64 / 2) as usize;
            let len = 1 + dice.roll(Self::REGION as u64 / 2 - 1) as usize;
            let at = number * Self::REGION as u64 + start as u64;
            let seed = dice.roll(256) as u8;
            known[start..start + len].fill(seed);
            let part = &known[start..start + len];
            let args = [int(Self::FD), address(part.as_ptr()), len as u64, at];
            is_right &= call(18, &args) == Ok(len as i32);
            let mut read = vec![0u8; len];
            let args = [int(Self::FD), address(read.as_mut_ptr()), len as u64, at];
            is_right &= call(17, &args) == Ok(len as i32) && read == part;
        }
        is_right
    }

    fn end(self) -> Result<(), Errno> {
        while SIGNALS.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        signals::alarm(0, 0)?;
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            if !thread.join().is_ok_and(|is_right| is_right) {
                println!("what a thread read is not what it had written");
            }
        }
        sys::close(Self::FD)
    }
}

impl Player {
    fn path(&mut self) -> String {
        let name = self.dice.pick(&NAMES);
        format!("{}/{name}\0", self.directory)
    }

    fn fd(&mut self) -> i32 {
        match self.dice.roll(12) {
            0 => self.dice.pick(&[-1, 77, 2000]),
            _ if self.fds.is_empty() => -1,
            _ => {
                let index = self.dice.roll(self.fds.len() as u64) as usize;
                self.fds[index]
            }
        }
    }

    fn length(&mut self) -> usize {
        match self.dice.roll(6) {
            0 => self.dice.pick(&[0, 1, 4095, 4096, 4097, 8192]),
            1 => self.dice.roll(20_000) as usize,
            _ => self.dice.roll(600) as usize,
        }
    }

    fn offset(&mut self) -> i64 {
        match self.dice.roll(6) {
            0 => self.dice.pick(&[0, 1, 4095, 4096, 4097, 8191, 8192, -1]),
            _ => self.dice.roll(24_000) as i64,
        }
    }

    fn data(&mut self, len: usize) -> Vec<u8> {
        let seed = self.dice.roll(256) as usize;
        (0..len)
            .map(|at| (seed + at * 7 + at / 251) as u8)
            .collect()
    }

    /// Base and length pairs over pieces of a buffer.
    fn vectors(&mut self, buffer: &mut [u8]) -> Vec<u64> {
        let mut list = Vec::new();
        let mut rest = buffer;
        while !rest.is_empty() && list.len() < 8 {
            let len = (self.dice.roll(rest.len() as u64 + 1) as usize).max(1);
            let (part, after) = rest.split_at_mut(len);
            list.extend([address(part.as_mut_ptr()), part.len() as u64]);
            rest = after;
        }
        list
    }

    fn open(&mut self) -> String {
        const FLAGS: [i32; 6] = [0o100, 0o1000, 0o200, 0o2000, 0o2000000, 0o400000];
        let path = self.path();
        let mut flags = self.dice.pick(&[0, 1, 2, 2, 2]);
        for flag in FLAGS {
            let odds = if flag == 0o100 { 2 } else { 5 };
            if self.dice.roll(odds) == 0 {
                flags |= flag;
            }
        }
        let at = self.dice.roll(2) == 0;
        let result = if at {
            call(
                257,
                &[int(AT_FDCWD), address(path.as_ptr()), int(flags), 0o644],
            )
        } else {
            call(2, &[address(path.as_ptr()), int(flags), 0o644])
        };
        if let Ok(fd) = result {
            self.fds.push(fd);
        }
        format!("open({path:?}, {flags:o}) = {result:?}")
    }

    fn close(&mut self) -> String {
        let fd = self.fd();
        let result = call(3, &[int(fd)]);
        self.fds.retain(|&other| other != fd);
        format!("close({fd}) = {result:?}")
    }

    fn read(&mut self) -> String {
        let (fd, len) = (self.fd(), self.length());
        let mut buffer = vec![0; len];
        let mut line = String::new();
        let offset = self.offset();
        let result = match self.dice.roll(5) {
            0 => call(
                17,
                &[
                    int(fd),
                    address(buffer.as_mut_ptr()),
                    len as u64,
                    offset as u64,
                ],
            ),
            1 => {
                let list = self.vectors(&mut buffer);
                call(
                    19,
                    &[int(fd), address(list.as_ptr()), list.len() as u64 / 2],
                )
            }
            2 => {
                let list = self.vectors(&mut buffer);
                let args = [
                    int(fd),
                    address(list.as_ptr()),
                    list.len() as u64 / 2,
                    offset as u64,
                ];
                call(295, &args)
            }
            _ => call(0, &[int(fd), address(buffer.as_mut_ptr()), len as u64]),
        };
        let got = result.map_or(0, |len| len as usize);
        let _ = write!(
            line,
            "read({fd}, {len}, {offset}) = {result:?} {:x}",
            digest(&buffer[..got])
        );
        line
    }

    fn write(&mut self) -> String {
        let (fd, len) = (self.fd(), self.length());
        let mut data = self.data(len);
        let offset = self.offset();
        let how = self.dice.roll(5);
        let result = match how {
            0 => call(
                18,
                &[int(fd), address(data.as_ptr()), len as u64, offset as u64],
            ),
            1 => {
                let list = self.vectors(&mut data);
                call(
                    20,
                    &[int(fd), address(list.as_ptr()), list.len() as u64 / 2],
                )
            }
            2 => {
                let list = self.vectors(&mut data);
                let args = [
                    int(fd),
                    address(list.as_ptr()),
                    list.len() as u64 / 2,
                    offset as u64,
                ];
                call(296, &args)
            }
            _ => call(1, &[int(fd), address(data.as_ptr()), len as u64]),
        };
        format!("write.{how}({fd}, {len}, {offset}) = {result:?}")
    }

    fn wild(&mut self) -> String {
        // Nothing is mapped there, with or without a base.
        let nowhere = sys::base() + 0x7000_0000;
        let fd = self.fd();
        // Not write(2): on a plain file a failing one beyond the end may leave a longer file.
        // Nor one that Lind itself writes to, which would be its end.
        let nr = if self.wide {
            self.dice.pick(&[0, 17, 18, 5])
        } else {
            self.dice.pick(&[0, 17, 18])
        };
        let result = match nr {
            5 => call(nr, &[int(fd), nowhere]),
            17 | 18 => call(nr, &[int(fd), nowhere, 100, 0]),
            _ => call(nr, &[int(fd), nowhere, 100]),
        };
        format!("{nr}({fd}, nowhere) = {result:?}")
    }

    fn seek(&mut self) -> String {
        let fd = self.fd();
        let whence = self.dice.pick(&[0, 0, 1, 1, 2, 2, 9]);
        let offset = self.offset() - if whence == 0 { 0 } else { 9000 };
        if self.wide && self.dice.roll(2) == 0 {
            let far = self.dice.pick(&[0, 1 << 33, i64::MAX]);
            let mut place = 0u64;
            let offset = offset.saturating_add(far);
            let args = [int(fd), offset as u64, int(whence), address(&raw mut place)];
            let result = call(1100, &args);
            // Back to where writes do not fill gigabytes.
            let _ = call(8, &[int(fd), 100, 0]);
            return format!("llseek({fd}, {offset}, {whence}) = {result:?} {place}");
        }
        let result = call(8, &[int(fd), offset as u64, int(whence)]);
        format!("lseek({fd}, {offset}, {whence}) = {result:?}")
    }

    fn stat(&mut self) -> String {
        let mut bytes = [0u8; 104];
        let fd = self.fd();
        let path = self.path();
        let which = self.dice.pick(&[4, 5, 6, 262]);
        let buffer = address(bytes.as_mut_ptr());
        let result = match which {
            5 => call(5, &[int(fd), buffer]),
            262 => call(262, &[int(AT_FDCWD), address(path.as_ptr()), buffer, 0]),
            _ => call(which, &[address(path.as_ptr()), buffer]),
        };
        let number = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        format!(
            "stat.{which}({fd}, {path:?}) = {result:?} mode {:o} links {} size {}",
            number(16),
            number(20),
            number(40)
        )
    }

    fn resize(&mut self) -> String {
        let (fd, path, len) = (self.fd(), self.path(), self.offset());
        let by_path = self.dice.roll(3) == 0;
        let result = if by_path {
            call(76, &[address(path.as_ptr()), len as u64])
        } else {
            call(77, &[int(fd), len as u64])
        };
        format!("truncate({by_path}, {fd}, {path:?}, {len}) = {result:?}")
    }

    fn duplicate(&mut self) -> String {
        let fd = self.fd();
        let new = self.dice.roll(8) as i32 + 3;
        let how = self.dice.roll(5);
        let result = match how {
            0 => call(33, &[int(fd), int(new)]),
            1 => call(292, &[int(fd), int(new), 0o2000000]),
            2 => call(72, &[int(fd), 0, int(new)]),
            3 => call(72, &[int(fd), 1030, int(new)]),
            _ => call(32, &[int(fd)]),
        };
        if let Ok(fd) = result
            && !self.fds.contains(&fd)
        {
            self.fds.push(fd);
        }
        format!("dup.{how}({fd}, {new}) = {result:?}")
    }

    fn flags(&mut self) -> String {
        let fd = self.fd();
        let (command, value) =
            self.dice
                .pick(&[(3, 0), (3, 0), (4, 0), (4, 0o2000), (1, 0), (2, 1), (2, 0)]);
        let result = call(72, &[int(fd), int(command), int(value)]);
        format!("fcntl({fd}, {command}, {value:o}) = {result:?}")
    }

    fn names(&mut self) -> String {
        let (one, two) = (self.path(), self.path());
        let (first, second) = (address(one.as_ptr()), address(two.as_ptr()));
        let nr = self
            .dice
            .pick(&[82, 82, 86, 87, 87, 21, 90, 83, 84, 88, 89]);
        let mut target = [0u8; 64];
        let result = match nr {
            82 | 86 | 88 => call(nr, &[first, second]),
            21 => call(nr, &[first, self.dice.roll(8)]),
            90 => call(nr, &[first, self.dice.pick(&[0o644, 0o600, 0o666])]),
            83 => call(nr, &[first, 0o755]),
            89 => call(nr, &[first, address(target.as_mut_ptr()), 64]),
            _ => call(nr, &[first]),
        };
        format!("{nr}({one:?}, {two:?}) = {result:?}")
    }

    /// A child goes on with the same descriptors and offsets, then the parent.
    fn fork(&mut self) -> Vec<String> {
        match sys::fork() {
            Ok(0) => {
                for _ in 0..self.dice.roll(6) {
                    for line in self.step(false) {
                        println!("  child: {line}");
                    }
                }
                std::process::exit(5)
            }
            Ok(child) => {
                let ended = loop {
                    let ended = sys::waitpid(child, 0);
                    if ended != Err(EINTR) {
                        break ended;
                    }
                };
                vec![format!("fork, {:?}", ended.map(|(_, status)| status))]
            }
            Err(errno) => vec![format!("fork = {errno:?}")],
        }
    }

    fn step(&mut self, may_fork: bool) -> Vec<String> {
        let line = match self.dice.roll(40) {
            0..=5 => self.open(),
            6..=7 => self.close(),
            8..=14 => self.read(),
            15..=21 => self.write(),
            22..=24 => self.seek(),
            25..=28 => self.stat(),
            29..=31 => self.resize(),
            32..=33 => self.duplicate(),
            34 => self.flags(),
            35..=36 => self.names(),
            37 => self.wild(),
            38 if may_fork => return self.fork(),
            _ => self.stat(),
        };
        vec![line]
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let (directory, seed, count, is_busy) = match args.as_slice() {
        [_, directory, seed, count] => (directory, seed, count, false),
        [_, directory, seed, count, busy] if busy == "busy" => (directory, seed, count, true),
        _ => {
            eprintln!("usage: file_ops DIR SEED COUNT [busy]");
            std::process::exit(64);
        }
    };
    let (Ok(seed), Ok(count)) = (seed.parse::<u64>(), count.parse::<u32>()) else {
        eprintln!("file_ops: SEED and COUNT are numbers");
        std::process::exit(64);
    };
    let mut player = Player {
        // Xorshift must not start at 0.
        dice: Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
        directory: directory.clone(),
        fds: Vec::new(),
        wide: sys::base() == 0,
    };
    let bustle = is_busy.then(|| Bustle::new(directory, seed));
    for index in 0..count {
        for line in player.step(true) {
            println!("{index}: {line}");
        }
    }
    match bustle {
        Some(Ok(bustle)) => println!("beside it: {:?}", bustle.end()),
        Some(Err(errno)) => println!("beside it nothing could be: {errno:?}"),
        None => {}
    }
    for name in NAMES {
        let content = std::fs::read(format!("{directory}/{name}"));
        println!(
            "{name}: {:?}",
            content
                .map(|bytes| (bytes.len(), digest(&bytes)))
                .map_err(|e| e.kind())
        );
    }
}
