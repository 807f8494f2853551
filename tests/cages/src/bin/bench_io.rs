//! Times one kind of I/O on one file: `bench_io OP FILE SIZE CALL COUNT`.
//!
//! OP is `write` (the file is made anew), `read`, `randread` or `randwrite`; SIZE is that of the
//! file, CALL that of one call, COUNT how many calls. Prints the nanoseconds that the calls took,
//! the bytes they moved, and the nanoseconds of an fsync afterwards.

use std::fs::{File, OpenOptions};
use std::io::{Error, Result};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::Instant;

use cage_libc::sys::{self, Errno, nr};

/// What is done to the file.
#[derive(Clone, Copy)]
enum Op {
    Write,
    Read,
    RandomRead,
    RandomWrite,
}

/// The command line.
struct Task {
    op: Op,
    file: String,
    size: u64,
    call: usize,
    count: u64,
}

fn main() -> ExitCode {
    let Some(task) = parse() else {
        eprintln!("usage: bench_io write|read|randread|randwrite FILE SIZE CALL COUNT");
        return ExitCode::from(64);
    };
    match run(&task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench_io: {}: {error}", task.file);
            ExitCode::FAILURE
        }
    }
}

fn parse() -> Option<Task> {
    let mut args = std::env::args().skip(1);
    let op = match args.next()?.as_str() {
        "write" => Op::Write,
        "read" => Op::Read,
        "randread" => Op::RandomRead,
        "randwrite" => Op::RandomWrite,
        _ => return None,
    };
    let task = Task {
        op,
        file: args.next()?,
        size: args.next()?.parse().ok()?,
        call: args.next()?.parse().ok()?,
        count: args.next()?.parse().ok()?,
    };
    (task.call > 0 && task.size >= task.call as u64).then_some(task)
}

fn run(task: &Task) -> Result<()> {
    let file = open(task)?;
    let fd = file.as_raw_fd();
    let mut buf: Vec<u8> = (0..task.call).map(|i| (i * 31) as u8).collect();
    let mut offsets = Offsets::new(task.size, task.call);

    let start = Instant::now();
    for _ in 0..task.count {
        let moved = match task.op {
            Op::Write => sys::write(fd, &buf),
            Op::Read => sys::read(fd, &mut buf),
            Op::RandomRead => transfer_at(nr::PREAD, fd, &mut buf, offsets.next()),
            Op::RandomWrite => transfer_at(nr::PWRITE, fd, &mut buf, offsets.next()),
        };
        let moved = moved.map_err(|Errno(number)| Error::from_raw_os_error(number))?;
        if moved != buf.len() {
            return Err(Error::other(format!("a call moved {moved} bytes only")));
        }
    }
    let calls = start.elapsed().as_nanos();

    let start = Instant::now();
    if matches!(task.op, Op::Write | Op::RandomWrite) {
        file.sync_all()?;
    }
    let sync = start.elapsed().as_nanos();
    println!("{calls} {} {sync}", task.count * task.call as u64);
    Ok(())
}

fn open(task: &Task) -> Result<File> {
    let mut options = OpenOptions::new();
    match task.op {
        Op::Write => options.write(true).create(true).truncate(true),
        Op::Read | Op::RandomRead => options.read(true),
        Op::RandomWrite => options.write(true),
    };
    options.open(&task.file)
}

/// pread or pwrite of the whole buffer.
fn transfer_at(
    number: u32,
    fd: i32,
    buf: &mut [u8],
    offset: u64,
) -> std::result::Result<usize, Errno> {
    let args = [
        fd as u64,
        sys::address(buf.as_mut_ptr()),
        buf.len() as u64,
        offset,
    ];
    // SAFETY: the buffer is as long as said, and ours to read and write.
    unsafe { sys::syscall(number, &args) }.map(|moved| moved as usize)
}

/// Offsets of random calls, multiples of a call's size, the same in every run (xorshift64).
struct Offsets {
    state: u64,
    places: u64,
    call: u64,
}

impl Offsets {
    fn new(size: u64, call: usize) -> Self {
        let call = call as u64;
        Self {
            state: 0x9e37_79b9_7f4a_7c15,
            places: size / call,
            call,
        }
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % self.places * self.call
    }
}
