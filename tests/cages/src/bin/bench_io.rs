//! Times one kind of I/O: `bench_io OP FILE SIZE CALL COUNT`.
//!
//! On one file OP is `write` or `append` (the file is made anew), `overwrite`, `read`, `randread` or
//! `randwrite`; SIZE is that of the file, CALL that of one call, COUNT how many calls. `syncwrite` and
//! `syncappend` make an fsync after each call. `truncate` makes the file anew and extends it to SIZE, `openlarge`
//! opens a file of SIZE with a CALL of data in every mebibyte, which it makes first, and reads one of
//! them. On many small files in the directory FILE it is `make` (open, write, close), `open` (open, read, close)
//! or `stat`; CALL is the size of each, COUNT how many there are, SIZE that of all. Prints the
//! nanoseconds that it took, the number of calls or files, and the nanoseconds of an fsync
//! afterwards.

use std::fs::{self, File, OpenOptions};
use std::io::{Error, Read, Result, Write};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::Instant;

use cage_libc::sys::{self, Errno, nr};

/// What is done.
#[derive(Clone, Copy)]
enum Op {
    Write,
    Overwrite,
    SyncWrite,
    Append,
    SyncAppend,
    Truncate,
    OpenLarge,
    Read,
    RandomRead,
    RandomWrite,
    Make,
    Open,
    Stat,
}

/// What OP is called on the command line.
const OPS: [(&str, Op); 13] = [
    ("write", Op::Write),
    ("overwrite", Op::Overwrite),
    ("syncwrite", Op::SyncWrite),
    ("append", Op::Append),
    ("syncappend", Op::SyncAppend),
    ("truncate", Op::Truncate),
    ("openlarge", Op::OpenLarge),
    ("read", Op::Read),
    ("randread", Op::RandomRead),
    ("randwrite", Op::RandomWrite),
    ("make", Op::Make),
    ("open", Op::Open),
    ("stat", Op::Stat),
];

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
        eprintln!("usage: bench_io OP FILE SIZE CALL COUNT");
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
    let name = args.next()?;
    let (_, op) = OPS.into_iter().find(|(op, _)| *op == name)?;
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
    let (took, sync) = match task.op {
        Op::Make | Op::Open | Op::Stat => (small_files(task)?, 0),
        Op::Truncate => (truncations(task)?, 0),
        Op::OpenLarge => (large_opens(task)?, 0),
        _ => one_file(task)?,
    };
    println!("{took} {} {sync}", task.count);
    Ok(())
}

/// Nanoseconds of the calls, and of the fsync.
fn one_file(task: &Task) -> Result<(u128, u128)> {
    let file = open(task)?;
    let fd = file.as_raw_fd();
    let mut buf = content(task.call);
    let mut offsets = Offsets::new(task.size, task.call);

    let start = Instant::now();
    for _ in 0..task.count {
        let moved = match task.op {
            Op::Read => sys::read(fd, &mut buf),
            Op::RandomRead => transfer_at(nr::PREAD, fd, &mut buf, offsets.next()),
            Op::RandomWrite => transfer_at(nr::PWRITE, fd, &mut buf, offsets.next()),
            _ => sys::write(fd, &buf),
        };
        let moved = moved.map_err(|Errno(number)| Error::from_raw_os_error(number))?;
        if moved != buf.len() {
            return Err(Error::other(format!("a call moved {moved} bytes only")));
        }
        if matches!(task.op, Op::SyncWrite | Op::SyncAppend) {
            file.sync_all()?;
        }
    }
    let calls = start.elapsed().as_nanos();

    let start = Instant::now();
    if matches!(
        task.op,
        Op::Write | Op::Overwrite | Op::Append | Op::RandomWrite
    ) {
        file.sync_all()?;
    }
    Ok((calls, start.elapsed().as_nanos()))
}

/// Nanoseconds of making a file that is one hole.
fn truncations(task: &Task) -> Result<u128> {
    let start = Instant::now();
    for _ in 0..task.count {
        File::create(&task.file)?.set_len(task.size)?;
    }
    Ok(start.elapsed().as_nanos())
}

/// Nanoseconds of opening a large file and reading a little of it.
fn large_opens(task: &Task) -> Result<u128> {
    const APART: u64 = 1 << 20;
    let mut buf = content(task.call);
    let file = File::create(&task.file)?;
    let moved = |fd: i32, number: u32, buf: &mut [u8], offset: u64| match transfer_at(
        number, fd, buf, offset,
    ) {
        Ok(moved) if moved == buf.len() => Ok(()),
        Ok(moved) => Err(Error::other(format!("a call moved {moved} bytes only"))),
        Err(Errno(number)) => Err(Error::from_raw_os_error(number)),
    };
    for number in 0..task.size / APART {
        moved(file.as_raw_fd(), nr::PWRITE, &mut buf, number * APART)?;
    }
    drop(file);
    let mut offsets = Offsets::new(task.size, APART as usize);
    let start = Instant::now();
    for _ in 0..task.count {
        let file = File::open(&task.file)?;
        moved(file.as_raw_fd(), nr::PREAD, &mut buf, offsets.next())?;
    }
    Ok(start.elapsed().as_nanos())
}

/// Nanoseconds of all files.
fn small_files(task: &Task) -> Result<u128> {
    let paths: Vec<String> = (0..task.count)
        .map(|number| format!("{}/{number}", task.file))
        .collect();
    if matches!(task.op, Op::Make) {
        for path in &paths {
            match fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    let mut buf = content(task.call);

    let start = Instant::now();
    for path in &paths {
        match task.op {
            Op::Make => File::create(path)?.write_all(&buf)?,
            Op::Open => File::open(path)?.read_exact(&mut buf)?,
            _ => {
                let size = fs::metadata(path)?.len();
                if size != task.call as u64 {
                    return Err(Error::other(format!("{path} has {size} bytes")));
                }
            }
        }
    }
    Ok(start.elapsed().as_nanos())
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31) as u8).collect()
}

fn open(task: &Task) -> Result<File> {
    let mut options = OpenOptions::new();
    match task.op {
        Op::Read | Op::RandomRead => options.read(true),
        Op::Overwrite | Op::SyncWrite | Op::RandomWrite => options.write(true),
        Op::Append | Op::SyncAppend => {
            // Emptied first: std refuses to append to a file that it truncates.
            File::create(&task.file)?;
            options.append(true)
        }
        _ => options.write(true).create(true).truncate(true),
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
