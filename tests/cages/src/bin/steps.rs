//! `steps STEP...`: makes system calls that the arguments spell out, one after the other, and ends
//! with a line that says how each went: `ok`, or its error's number.
//!
//! A step is words, with a blank between: `open PATH FLAGS` (of `r`, `w` and `rw`, then `+c`, `+t`,
//! `+a`, `+x` for creating, truncating, appending and exclusive), `at DIRECTORY NAME FLAGS` (of an
//! `open` relative to a directory's descriptor), `write TEXT`, `bytes TEXT` for one call each,
//! `pwrite OFFSET TEXT`, `ftruncate SIZE`, `setfl FLAGS`, `map`, `close` on what was opened last,
//! `out TEXT`, `err TEXT`, `truncate PATH SIZE`, `rename OLD NEW`, `link OLD NEW`, `symlink TEXT
//! PATH`, `unlink PATH`, `rmdir PATH`, `mkdir PATH`, `chdir PATH`, and `udp PORT`, `connect PORT`, `send TEXT`,
//! `sendto PORT TEXT` on datagrams to this machine, `urgent TEXT`, `more TEXT`. `socket FAMILY KIND` opens any other, `fastopen`
//! asks for data in the first packet of what was opened last.

use cage_libc::sys::{self, Errno, address, nr};
use std::process::ExitCode;

const TRUNCATE: u32 = 76;

fn int(value: i32) -> u64 {
    i64::from(value) as u64
}

fn call(number: u32, args: &[u64]) -> Result<i32, Errno> {
    // SAFETY: every address comes from a live buffer.
    unsafe { sys::syscall(number, args) }
}

fn path_call(number: u32, path: &str, rest: &[u64]) -> Result<i32, Errno> {
    let path = format!("{path}\0");
    call(number, &[&[address(path.as_ptr())], rest].concat())
}

fn two_paths(number: u32, first: &str, second: &str) -> Result<i32, Errno> {
    let second = format!("{second}\0");
    path_call(number, first, &[address(second.as_ptr())])
}

fn flags(text: &str) -> i32 {
    let mut words = text.split('+');
    let mode = match words.next() {
        Some("w") => 1,
        Some("rw") => 2,
        _ => 0,
    };
    words.fold(mode, |flags, word| {
        flags
            | match word {
                "c" => 0o100,
                "x" => 0o200,
                "t" => 0o1000,
                "a" => 0o2000,
                _ => 0,
            }
    })
}

fn write(fd: i32, text: &str) -> Result<i32, Errno> {
    sys::write(fd, text.as_bytes()).map(|count| count as i32)
}

/// An IPv4 address of this machine.
fn loopback(port: &str) -> [u8; 16] {
    let port: u16 = port.parse().unwrap_or(0);
    let mut bytes = [0; 16];
    bytes[0] = 2;
    bytes[2..4].copy_from_slice(&port.to_be_bytes());
    bytes[4..8].copy_from_slice(&[127, 0, 0, 1]);
    bytes
}

fn send(fd: i32, text: &str, flags: i32, to: Option<[u8; 16]>) -> Result<i32, Errno> {
    let (name, len) = match &to {
        Some(name) => (address(name.as_ptr()), 16),
        None => (0, 0),
    };
    let args = [
        int(fd),
        address(text.as_ptr()),
        text.len() as u64,
        int(flags),
        name,
        len,
    ];
    call(nr::SENDTO, &args)
}

/// Makes the call of a step on the descriptor at hand.
fn make(fd: &mut i32, step: &str) -> Result<i32, Errno> {
    let (word, rest) = step.split_once(' ').unwrap_or((step, ""));
    let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
    let number = |text: &str| text.parse::<i64>().unwrap_or(0) as u64;
    let opened = |fd: &mut i32, result: Result<i32, Errno>| result.inspect(|new| *fd = *new);
    match word {
        "open" => {
            let result = path_call(nr::OPEN, first, &[int(flags(second)), 0o644]);
            opened(fd, result)
        }
        "at" => {
            let directory = path_call(nr::OPEN, first, &[0, 0])?;
            let (name, mode) = second.split_once(' ').unwrap_or((second, "r"));
            let name = format!("{name}\0");
            let args = [
                int(directory),
                address(name.as_ptr()),
                int(flags(mode)),
                0o644,
            ];
            let result = call(nr::OPENAT, &args);
            opened(fd, result)
        }
        "write" => write(*fd, rest),
        "bytes" => {
            let bytes = rest.as_bytes();
            bytes.iter().try_fold(0, |_, byte| {
                sys::write(*fd, &[*byte]).map(|count| count as i32)
            })
        }
        "pwrite" => {
            let args = [
                int(*fd),
                address(second.as_ptr()),
                second.len() as u64,
                number(first),
            ];
            call(nr::PWRITE, &args)
        }
        "ftruncate" => call(nr::FTRUNCATE, &[int(*fd), number(first)]),
        "setfl" => call(nr::FCNTL, &[int(*fd), 4, int(flags(first))]),
        "map" => call(nr::MMAP, &[0, 4096, 3, 1, int(*fd), 0]),
        "close" => sys::close(*fd).map(|()| 0),
        "out" => write(1, rest),
        "err" => write(2, rest),
        "copy" => {
            const COPY_FILE_RANGE: u32 = 326;
            let to = path_call(nr::OPEN, first, &[int(flags("rw")), 0])?;
            let result = call(COPY_FILE_RANGE, &[int(*fd), 0, int(to), 0, 4, 0]);
            sys::close(to)?;
            result
        }
        "truncate" => path_call(TRUNCATE, first, &[number(second)]),
        "rename" => two_paths(nr::RENAME, first, second),
        "link" => two_paths(nr::LINK, first, second),
        "symlink" => two_paths(nr::SYMLINK, first, second),
        "unlink" => path_call(nr::UNLINK, first, &[]),
        "rmdir" => path_call(nr::RMDIR, first, &[]),
        "mkdir" => path_call(nr::MKDIR, first, &[0o755]),
        "chdir" => path_call(nr::CHDIR, first, &[]),
        "socket" => {
            let number = |text: &str| text.parse().map_or(0, int);
            let result = call(nr::SOCKET, &[number(first), number(second), 0]);
            opened(fd, result)
        }
        "fastopen" => {
            const TCP_FASTOPEN: u64 = 23;
            const SETSOCKOPT: u32 = 54;
            let queue = 5i32.to_le_bytes();
            let args = [int(*fd), 6, TCP_FASTOPEN, address(queue.as_ptr()), 4];
            call(SETSOCKOPT, &args)
        }
        "udp" => {
            let result = call(nr::SOCKET, &[2, 2, 0]);
            opened(fd, result)
        }
        "connect" => {
            let name = loopback(first);
            call(nr::CONNECT, &[int(*fd), address(name.as_ptr()), 16])
        }
        "send" => send(*fd, rest, 0, None),
        "sendto" => send(*fd, second, 0, Some(loopback(first))),
        "urgent" => {
            const MSG_OOB: i32 = 1;
            send(*fd, rest, MSG_OOB, None)
        }
        "more" => {
            const MSG_MORE: i32 = 0x8000;
            send(*fd, rest, MSG_MORE, None)
        }
        _ => Err(Errno(-1)),
    }
}

fn main() -> ExitCode {
    let mut fd = -1;
    let told: Vec<String> = std::env::args()
        .skip(1)
        .map(|step| match make(&mut fd, &step) {
            Ok(_) => "ok".to_owned(),
            Err(Errno(errno)) => errno.to_string(),
        })
        .collect();
    println!("{}", told.join(" "));
    ExitCode::SUCCESS
}
