//! How calls of many cages at one time go: `bench_many CAGES FILES OP FILE SIZE CALL COUNT`. Forks CAGES programs, each of which
//! makes COUNT calls of CALL bytes, one after the other from the start to the end and again, on one of FILES files, `FILE.0` and so
//! on, of SIZE bytes: OP is `read`, `write` (over what is there) or `hold`, which opens COUNT files of SIZE bytes, `FILE.CAGE.0` and
//! so on, reads each, waits for all other cages to have done so, and reads each once more. What is not there is made first. Prints the
//! nanoseconds that all took together.

use cage_libc::sys::{self, Errno, nr};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Error, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::process::ExitCode;
use std::time::Instant;

struct Task {
    op: String,
    path: String,
    size: u64,
    call: usize,
    count: u64,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench_many: {error}");
            ExitCode::FAILURE
        }
    }
}

fn errno(Errno(number): Errno) -> Error {
    Error::from_raw_os_error(number)
}

fn run(args: &[String]) -> io::Result<()> {
    let [cages, files, op, path, size, call, count] = args else {
        return Err(Error::other(
            "usage: bench_many CAGES FILES OP FILE SIZE CALL COUNT",
        ));
    };
    let number = |text: &String| text.parse::<u64>().map_err(Error::other);
    let (cages, files) = (number(cages)?, number(files)?.max(1));
    let task = Task {
        op: op.clone(),
        path: path.clone(),
        size: number(size)?,
        call: number(call)? as usize,
        count: number(count)?,
    };
    if task.op != "hold" {
        (0..files).try_for_each(|file| make(&format!("{path}.{file}"), task.size))?;
    }
    // Children say through one pipe that they are ready, wait for the end of the other, and say through the first that they are
    // done.
    let (mut told, tell) = pipe()?;
    let (wait, go) = pipe()?;
    let mut children = Vec::new();
    for cage in 0..cages {
        match sys::fork().map_err(errno)? {
            0 => {
                drop(go);
                let done = child(&task, cage, files, tell, wait);
                sys::exit(i32::from(done.is_err()));
            }
            child => children.push(child),
        }
    }
    drop(tell);
    let mut all = || (0..cages).try_for_each(|_| told.read_exact(&mut [0; 1]));
    all()?;
    let start = Instant::now();
    drop(go);
    all()?;
    println!("{}", start.elapsed().as_nanos());
    for child in children {
        sys::waitpid(child, 0).map_err(errno)?;
    }
    Ok(())
}

/// A pipe's two ends.
fn pipe() -> io::Result<(File, File)> {
    let (reads, writes) = sys::pipe2(0).map_err(errno)?;
    // SAFETY: both are new, and nobody else's.
    Ok(unsafe { (File::from_raw_fd(reads), File::from_raw_fd(writes)) })
}

/// Makes a file of that size unless it is there.
fn make(path: &str, size: u64) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|is| is.len() == size) {
        return Ok(());
    }
    let mut file = File::create(path)?;
    let piece = vec![7; size.min(1 << 20) as usize];
    let mut left = size;
    while left > 0 {
        let len = left.min(piece.len() as u64);
        file.write_all(&piece[..len as usize])?;
        left -= len;
    }
    Ok(())
}

fn child(task: &Task, cage: u64, files: u64, mut tell: File, mut wait: File) -> io::Result<()> {
    let mut buf = vec![7; task.call];
    let held = match task.op.as_str() {
        "hold" => (0..task.count)
            .map(|number| {
                let path = format!("{}.{cage}.{number}", task.path);
                make(&path, task.size)?;
                let mut file = File::open(path)?;
                file.read_exact(&mut buf)?;
                Ok(file)
            })
            .collect::<io::Result<Vec<_>>>()?,
        op => {
            let path = format!("{}.{}", task.path, cage % files);
            vec![
                OpenOptions::new()
                    .read(op == "read")
                    .write(op != "read")
                    .open(path)?,
            ]
        }
    };
    tell.write_all(&[0; 1])?;
    let _ = wait.read(&mut [0; 1])?;
    if task.op == "hold" {
        for mut file in &held {
            file.seek(SeekFrom::Start(0))?;
            file.read_exact(&mut buf)?;
        }
    } else {
        let fd = held[0].as_raw_fd();
        let calls = task.size / task.call as u64;
        for number in 0..task.count {
            let args = [
                fd as u64,
                sys::address(buf.as_mut_ptr()),
                task.call as u64,
                number % calls * task.call as u64,
            ];
            let nr = if task.op == "read" {
                nr::PREAD
            } else {
                nr::PWRITE
            };
            // SAFETY: the buffer is as long as said, and ours to read and write.
            unsafe { sys::syscall(nr, &args) }.map_err(errno)?;
        }
    }
    tell.write_all(&[0; 1])
}
