//! `file_load DIR SEED CHUNK CAGES`: changes files in DIR at random until it is killed, in so many
//! cages, each with files of its own. Before each call it says what the call will do, and with
//! that, that the one before has returned:
//!
//! ```text
//! CAGE NUMBER write FILE OFFSET LEN
//! CAGE NUMBER truncate FILE LEN
//! ```
//!
//! FILE of cage CAGE is `DIR/CAGE-FILE`. What a write writes is [`text`] of the numbers in its line
//! and of SEED. Sizes and places gather around multiples of CHUNK. A cage ends with 1 when a call
//! fails or does less than it was asked for, and says so:
//!
//! ```text
//! CAGE NUMBER did LEN
//! CAGE NUMBER failed ERRNO
//! ```

use cage_libc::sys::{self, Errno, address, nr};
use std::io::Write;

/// Files of each cage.
const FILES: u64 = 3;
/// A file longer than this is cut before long.
const LONG: u64 = 300_000;
/// Most bytes that one call writes.
const LARGEST: u64 = 3_000_000;

/// What write `number` of a cage writes: lines that tell from where they are.
fn text(seed: u64, cage: u64, number: u64, len: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(len + 50);
    let mut line = 0;
    while text.len() < len {
        let _ = writeln!(text, "{seed:x} {cage} {number} {line:06} is kept secret");
        line += 1;
    }
    text.truncate(len);
    text
}

/// Repeatable, and good enough to pick calls with.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    /// A number up to `most`, every third at a multiple of `chunk`, or beside one.
    fn near(&mut self, most: u64, chunk: u64) -> u64 {
        if self.roll(3) > 0 {
            return self.roll(most + 1);
        }
        let edge = self.roll(most / chunk + 1) * chunk;
        (edge + self.roll(3)).saturating_sub(1).min(most)
    }
}

/// Answers how many bytes were written.
fn call(nr: u32, args: &[u64]) -> Result<usize, Errno> {
    // SAFETY: every address comes from a live buffer.
    unsafe { sys::syscall(nr, args) }.map(|done| done as usize)
}

/// An open file.
struct File {
    /// For writes at the end.
    appending: i32,
    /// For all else.
    anywhere: i32,
    size: u64,
}

impl File {
    fn open(path: &str) -> Self {
        const O_RDWR: i32 = 0o2;
        const O_WRONLY: i32 = 0o1;
        const O_CREAT: i32 = 0o100;
        const O_APPEND: i32 = 0o2000;
        let terminated = format!("{path}\0");
        let open = |flags: i32| {
            let args = [address(terminated.as_ptr()), flags as u64, 0o644];
            // SAFETY: the path ends with a zero.
            unsafe { sys::syscall(nr::OPEN, &args) }.unwrap_or_else(|errno| {
                eprintln!("file_load: {path}: {errno:?}");
                sys::exit(1)
            })
        };
        Self {
            anywhere: open(O_RDWR | O_CREAT),
            appending: open(O_WRONLY | O_APPEND),
            size: std::fs::metadata(path).map_or(0, |facts| facts.len()),
        }
    }

    fn close(&self) {
        for fd in [self.anywhere, self.appending] {
            let _ = sys::close(fd);
        }
    }

    /// Writes with one call: with one buffer or with three, at the end by a descriptor that does
    /// nothing else, or anywhere.
    fn write(&mut self, offset: u64, data: &[u8], how: u64) -> Result<usize, Errno> {
        const PWRITEV: u32 = 296;
        let at_end = offset == self.size && how & 1 == 0;
        let third = data.len() / 3;
        let vectors: Vec<u64> = [&data[..third], &data[third..2 * third], &data[2 * third..]]
            .iter()
            .flat_map(|part| [address(part.as_ptr()), part.len() as u64])
            .collect();
        let (bytes, list) = (address(data.as_ptr()), address(vectors.as_ptr()));
        let (end, any) = (self.appending as u64, self.anywhere as u64);
        let len = data.len() as u64;
        self.size = self.size.max(offset + len);
        match (at_end, how & 2 == 0) {
            (true, true) => call(nr::WRITE, &[end, bytes, len]),
            (true, false) => call(nr::WRITEV, &[end, list, 3]),
            (false, true) => call(nr::PWRITE, &[any, bytes, len, offset]),
            (false, false) => call(PWRITEV, &[any, list, 3, offset]),
        }
    }

    fn truncate(&mut self, len: u64) -> Result<usize, Errno> {
        self.size = len;
        call(nr::FTRUNCATE, &[self.anywhere as u64, len])
    }
}

/// Goes on if a call has done what it was asked for.
fn check(cage: u64, number: u64, result: Result<usize, Errno>, expected: usize) {
    match result {
        Ok(done) if done == expected => return,
        Ok(done) => println!("{cage} {number} did {done}"),
        Err(Errno(errno)) => println!("{cage} {number} failed {errno}"),
    }
    sys::exit(1)
}

fn work(dir: &str, seed: u64, chunk: u64, cage: u64) -> ! {
    let mut dice = Dice((seed * 1000 + cage + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let path = |index: u64| format!("{dir}/{cage}-{index}");
    let mut files: Vec<File> = (0..FILES).map(|index| File::open(&path(index))).collect();
    for number in 0.. {
        let index = dice.roll(FILES);
        let file = &mut files[index as usize];
        if dice.roll(20) == 0 {
            file.close();
            *file = File::open(&path(index));
        }
        let size = file.size;
        let truncate_to = match dice.roll(20) {
            _ if size > LONG && dice.roll(4) == 0 => Some(dice.near(LONG / 4, chunk)),
            0 => Some(dice.near(size, chunk)),
            1 => Some(size + dice.near(4 * chunk, chunk)),
            2 if dice.roll(4) == 0 => Some(0),
            _ => None,
        };
        if let Some(len) = truncate_to {
            println!("{cage} {number} truncate {index} {len}");
            check(cage, number, file.truncate(len), 0);
            continue;
        }
        let offset = match dice.roll(8) {
            0..4 => size,
            4..7 => dice.near(size, chunk),
            _ => size + dice.near(3 * chunk, chunk),
        };
        let len = match dice.roll(40) {
            0 => dice.roll(LARGEST) + 1,
            1..8 => dice.near(6 * chunk, chunk).max(1),
            8..14 => dice.roll(600) + 1,
            _ => 100,
        };
        let data = text(seed, cage, number, len as usize);
        println!("{cage} {number} write {index} {offset} {len}");
        let result = file.write(offset, &data, dice.roll(4));
        check(cage, number, result, data.len());
    }
    sys::exit(0)
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let numbers: Vec<u64> = args.iter().skip(2).flat_map(|arg| arg.parse()).collect();
    let (Some(dir), &[seed, chunk, cages]) = (args.get(1), &numbers[..]) else {
        eprintln!("usage: file_load DIR SEED CHUNK CAGES");
        sys::exit(64)
    };
    for cage in 1..cages {
        match sys::fork() {
            Ok(0) => work(dir, seed, chunk, cage),
            Ok(_) => {}
            Err(errno) => {
                eprintln!("file_load: fork: {errno:?}");
                sys::exit(1)
            }
        }
    }
    work(dir, seed, chunk, 0)
}
