//! `leak WAY [FILE]`: tries to get a secret past write-filter-grate. The text is always the same;
//! the ways differ in how it is cut into calls. Ways with a peer print what the peer got.

use cage_libc::sys::{self, Errno, address, nr};
use std::ffi::CString;
use std::process::ExitCode;

/// What is written, and what of it is secret.
const TEXT: &[u8] = b"id AKIAIOSFODNN7EXAMPLE, mail jane.doe@example.com.\n";
/// Somewhere inside the first secret.
const MIDDLE: usize = 12;

const O_WRONLY: i32 = 1;
const O_RDWR: i32 = 2;
const O_CREAT: i32 = 0o100;
const O_TRUNC: i32 = 0o1000;
const O_APPEND: i32 = 0o2000;
const O_CLOEXEC: i32 = 0o2000000;
const DUP3: u32 = 292;
const SENDFILE: u32 = 40;
const COPY_FILE_RANGE: u32 = 326;
const FALLOCATE: u32 = 285;
const PWRITEV: u32 = 296;
/// splice, tee, vmsplice, process_vm_writev, memfd_create, pwritev2, io_uring_setup, openat2.
const NOT_THERE: &[u32] = &[275, 276, 278, 311, 319, 328, 425, 437];

type Outcome = Result<(), String>;

fn int(value: i32) -> u64 {
    i64::from(value) as u64
}

fn call(number: u32, args: &[u64]) -> Result<i32, Errno> {
    // SAFETY: every address comes from a live buffer.
    unsafe { sys::syscall(number, args) }
}

fn done(what: &str, result: Result<i32, Errno>) -> Result<i32, String> {
    result.map_err(|errno| format!("{what}: {errno:?}"))
}

/// Writes all in one call, and sees its own count.
fn write(fd: i32, bytes: &[u8]) -> Outcome {
    match sys::write(fd, bytes) {
        Ok(count) if count == bytes.len() => Ok(()),
        other => Err(format!("write: {other:?}")),
    }
}

fn open(path: &str, flags: i32) -> Result<i32, String> {
    let path = format!("{path}\0");
    let args = [address(path.as_ptr()), int(flags), 0o644];
    done("open", call(nr::OPEN, &args))
}

fn close(fd: i32) -> Outcome {
    sys::close(fd).map_err(|errno| format!("close: {errno:?}"))
}

fn pwrite(fd: i32, bytes: &[u8], at: usize) -> Outcome {
    let args = [
        int(fd),
        address(bytes.as_ptr()),
        bytes.len() as u64,
        at as u64,
    ];
    match call(nr::PWRITE, &args) {
        Ok(count) if count as usize == bytes.len() => Ok(()),
        other => Err(format!("pwrite: {other:?}")),
    }
}

/// One iovec for each byte.
fn vectors(bytes: &[u8]) -> Vec<[u64; 2]> {
    bytes.iter().map(|byte| [address(byte), 1]).collect()
}

fn by_vectors(fd: i32, number: u32) -> Outcome {
    let vectors = vectors(TEXT);
    let args = [int(fd), address(vectors.as_ptr()), vectors.len() as u64, 0];
    match call(number, &args) {
        Ok(count) if count as usize == TEXT.len() => Ok(()),
        other => Err(format!("vectors: {other:?}")),
    }
}

fn wait(child: i32) -> Outcome {
    match sys::waitpid(child, 0) {
        Ok((_, 0)) => Ok(()),
        other => Err(format!("wait: {other:?}")),
    }
}

fn fork() -> Result<i32, String> {
    done("fork", sys::fork())
}

fn exec(args: &[&str]) -> Outcome {
    let strings: Vec<CString> = args
        .iter()
        .map(|arg| CString::new(*arg).unwrap_or_default())
        .collect();
    let pointers: Vec<*const u8> = strings.iter().map(|arg| arg.as_ptr().cast()).collect();
    // SAFETY: the strings live until the call has copied them.
    let errno = unsafe { sys::execve(pointers[0], &pointers, &[]) };
    Err(format!("exec: {errno:?}"))
}

/// Reads to the end and says in hexadecimal what came, so that it is not masked now.
fn report(fd: i32) -> Outcome {
    let mut got = Vec::new();
    let mut buf = [0; 64];
    loop {
        match sys::read(fd, &mut buf) {
            Ok(0) => break,
            Ok(count) => got.extend_from_slice(&buf[..count]),
            Err(errno) => return Err(format!("read: {errno:?}")),
        }
    }
    let hex: Vec<String> = got.iter().map(|byte| format!("{byte:02x}")).collect();
    // Digits of one byte each are no secret of any kind.
    println!("{}", hex.join(" "));
    Ok(())
}

fn pair(number: u32, first: &[u64]) -> Result<(i32, i32), String> {
    let mut pair = [0i32; 2];
    let args = [first, &[address(pair.as_mut_ptr())]].concat();
    done("pair", call(number, &args))?;
    Ok((pair[0], pair[1]))
}

fn to_stdout(way: &str) -> Option<Outcome> {
    let (first, second) = TEXT.split_at(MIDDLE);
    let outcome = match way {
        "whole" => write(1, TEXT),
        "bytes" => TEXT.iter().try_for_each(|byte| write(1, &[*byte])),
        "vectors" => by_vectors(1, nr::WRITEV),
        "streams" => write(1, first).and_then(|()| write(2, second)),
        "fork" => (|| {
            write(1, first)?;
            match fork()? {
                0 => {
                    write(1, second)?;
                    sys::exit(0)
                }
                child => wait(child),
            }
        })(),
        "child first" => (|| {
            match fork()? {
                0 => {
                    write(1, first)?;
                    sys::exit(0)
                }
                child => wait(child)?,
            }
            write(1, second)
        })(),
        "exec" => write(1, first).and_then(|()| exec(&["/bin/leak.cwasm", "rest"])),
        "rest" => write(1, second),
        "failed exec" => (|| {
            let copy = done("dup", call(nr::DUP, &[1]))?;
            done("fcntl", call(nr::FCNTL, &[int(copy), 2, 1]))?;
            close(1)?;
            write(copy, first)?;
            // Descriptor 1 was the last that exec would have left open.
            if exec(&["/bin/nothing.cwasm"]).is_ok() {
                return Err("there is such a program".to_owned());
            }
            write(copy, second)
        })(),
        "failed calls" => TEXT.iter().try_for_each(|byte| {
            write(1, &[*byte])?;
            // Calls that would end the stream, or move it on, if they did not fail.
            let calls: &[(u32, &[u64])] = &[
                (nr::SHUTDOWN, &[1, 1]),
                (nr::SHUTDOWN, &[1, 2]),
                (nr::SHUTDOWN, &[1, 3]),
                (nr::DUP2, &[77, 1]),
                (DUP3, &[77, 1, 0]),
                (DUP3, &[1, 1, 0]),
                (nr::CLOSE, &[77]),
                (nr::LSEEK, &[1, 0, 9]),
                (nr::FTRUNCATE, &[1, u64::MAX]),
                (nr::CONNECT, &[1, address(TEXT.as_ptr()), 0]),
                (nr::SENDTO, &[1, address(TEXT.as_ptr()), u64::MAX, 0, 0, 0]),
                (nr::WRITE, &[1, address(TEXT.as_ptr()), u64::MAX]),
                (nr::EXECVE, &[0, 0, 0]),
            ];
            match calls
                .iter()
                .find(|(number, args)| call(*number, args).is_ok())
            {
                Some((number, _)) => Err(format!("call {number} did not fail")),
                None => Ok(()),
            }
        }),
        "dup" => (|| {
            let copy = done("dup", call(nr::DUP, &[1]))?;
            write(copy, first)?;
            close(copy)?;
            // One that fails lets nothing out either.
            if call(nr::DUP2, &[int(99), 1]).is_ok() {
                return Err("dup2 of nothing".to_owned());
            }
            write(1, second)
        })(),
        "killed" => (|| match fork()? {
            0 => {
                write(1, TEXT)?;
                write(1, b"half of it: AKIAIOSF")?;
                let own = done("getpid", call(nr::GETPID, &[]))?;
                let _ = call(nr::KILL, &[int(own), 9]);
                Ok(())
            }
            child => {
                let _ = sys::waitpid(child, 0);
                Ok(())
            }
        })(),
        "half" => (|| {
            let middle = b"id AKIAIOSF".len();
            write(1, &TEXT[..middle])?;
            sys::read(0, &mut [0; 1]).map_err(|errno| format!("{errno:?}"))?;
            write(1, &TEXT[middle..])
        })(),
        "prompt" => (|| {
            write(1, b"Your password: ")?;
            // Who types looks at the prompt first.
            let mut answer = [0; 16];
            let count = sys::read(0, &mut answer).map_err(|errno| format!("{errno:?}"))?;
            write(1, b"ok ")?;
            write(1, &answer[..count])
        })(),
        _ => return None,
    };
    Some(outcome)
}

fn to_peer(way: &str) -> Option<Outcome> {
    const AF_UNIX: i32 = 1;
    const SOCK_STREAM: i32 = 1;
    const SOCK_DGRAM: i32 = 2;
    let (first, second) = TEXT.split_at(MIDDLE);
    let socketpair = |kind| pair(nr::SOCKETPAIR, &[int(AF_UNIX), int(kind), 0]);
    let send = |fd: i32, bytes: &[u8]| {
        let args = [
            int(fd),
            address(bytes.as_ptr()),
            bytes.len() as u64,
            0,
            0,
            0,
        ];
        done("send", call(nr::SENDTO, &args)).map(drop)
    };
    let outcome = match way {
        "pipe" => (|| {
            let (out, into) = sys::pipe2(0).map_err(|errno| format!("pipe: {errno:?}"))?;
            match fork()? {
                0 => {
                    close(into)?;
                    report(out)?;
                    sys::exit(0)
                }
                child => {
                    close(out)?;
                    write(into, first)?;
                    write(into, second)?;
                    close(into)?;
                    wait(child)
                }
            }
        })(),
        "socket" => (|| {
            let (out, into) = socketpair(SOCK_STREAM)?;
            send(into, first)?;
            write(into, second)?;
            close(into)?;
            report(out)
        })(),
        "shutdown" => (|| {
            const WRITING: i32 = 1;
            let (out, into) = socketpair(SOCK_STREAM)?;
            send(into, first)?;
            // What comes last could go on, so it is held.
            send(into, &second[..second.len() - b".\n".len()])?;
            done("shutdown", call(nr::SHUTDOWN, &[int(into), int(WRITING)]))?;
            report(out)
        })(),
        "message" => (|| {
            let (out, into) = socketpair(SOCK_STREAM)?;
            let vectors = vectors(TEXT);
            let header: [u64; 7] = [
                0,
                0,
                address(vectors.as_ptr()),
                vectors.len() as u64,
                0,
                0,
                0,
            ];
            let args = [int(into), address(header.as_ptr()), 0];
            done("sendmsg", call(nr::SENDMSG, &args))?;
            close(into)?;
            report(out)
        })(),
        "slow reader" => (|| {
            const O_NONBLOCK: i32 = 0o4000;
            let (out, into) = sys::pipe2(0).map_err(|errno| format!("pipe: {errno:?}"))?;
            match fork()? {
                0 => {
                    close(into)?;
                    // The pipe is full by now.
                    std::thread::sleep(std::time::Duration::from_millis(100));
                    let mut got = Vec::new();
                    let mut buf = [0; 1024];
                    while let Ok(count @ 1..) = sys::read(out, &mut buf) {
                        got.extend_from_slice(&buf[..count]);
                    }
                    let lines = got.split_inclusive(|byte| *byte == b'\n');
                    let masked = lines.filter(|line| line.starts_with(b"id ****"));
                    println!("{} bytes, {} lines masked", got.len(), masked.count());
                    sys::exit(0)
                }
                child => {
                    close(out)?;
                    done("fcntl", call(nr::FCNTL, &[int(into), 4, int(O_NONBLOCK)]))?;
                    let text = TEXT.repeat(8192);
                    let mut rest = &text[..];
                    while !rest.is_empty() {
                        match sys::write(into, rest) {
                            Ok(count) => rest = &rest[count..],
                            Err(Errno(11)) => drop(call(nr::SCHED_YIELD, &[])),
                            Err(errno) => return Err(format!("write: {errno:?}")),
                        }
                    }
                    close(into)?;
                    wait(child)
                }
            }
        })(),
        "datagram" => (|| {
            let (out, into) = socketpair(SOCK_DGRAM)?;
            send(into, TEXT)?;
            let mut got = [0; 128];
            let count = sys::read(out, &mut got).map_err(|errno| format!("{errno:?}"))?;
            let hex: Vec<String> = got[..count]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            println!("{}", hex.join(" "));
            Ok(())
        })(),
        _ => return None,
    };
    Some(outcome)
}

fn to_file(way: &str, path: &str) -> Option<Outcome> {
    let (first, second) = TEXT.split_at(MIDDLE);
    let new = O_CREAT | O_TRUNC;
    let outcome = match way {
        "file" => (|| {
            let fd = open(path, O_WRONLY | new)?;
            TEXT.iter().try_for_each(|byte| write(fd, &[*byte]))?;
            close(fd)
        })(),
        "appended" => (|| {
            for part in [first, second] {
                let fd = open(path, O_WRONLY | O_CREAT | O_APPEND)?;
                write(fd, part)?;
                close(fd)?;
            }
            Ok(())
        })(),
        "backwards" => (|| {
            let fd = open(path, O_WRONLY | new)?;
            let bytes = TEXT.iter().enumerate().rev();
            bytes
                .into_iter()
                .try_for_each(|(at, byte)| pwrite(fd, &[*byte], at))
        })(),
        "vectors at" => (|| by_vectors(open(path, O_WRONLY | new)?, PWRITEV))(),
        "two" => (|| {
            let (one, other) = (open(path, O_WRONLY | new)?, open(path, O_RDWR)?);
            for (at, byte) in TEXT.iter().enumerate() {
                pwrite(if at % 2 == 0 { one } else { other }, &[*byte], at)?;
            }
            Ok(())
        })(),
        "overwritten" => (|| {
            let fd = open(path, O_RDWR | new)?;
            let mut text = TEXT.to_vec();
            text[MIDDLE] = b' ';
            write(fd, &text)?;
            done("lseek", call(nr::LSEEK, &[int(fd), MIDDLE as u64, 0]))?;
            write(fd, &TEXT[MIDDLE..=MIDDLE])
        })(),
        "shortened" => (|| {
            let fd = open(path, O_RDWR | new)?;
            write(fd, first)?;
            write(fd, b" something else")?;
            done(
                "ftruncate",
                call(nr::FTRUNCATE, &[int(fd), first.len() as u64]),
            )?;
            pwrite(fd, second, first.len())
        })(),
        "cut" => (|| {
            let fd = open(path, O_RDWR | new)?;
            let secret = b"id AKIAIOSFODNN7EXAMPLE".len();
            write(fd, &[&TEXT[..secret], b"X"].concat())?;
            done("ftruncate", call(nr::FTRUNCATE, &[int(fd), secret as u64]))?;
            pwrite(fd, &TEXT[secret..], secret)
        })(),
        "killed writer" => (|| match fork()? {
            0 => {
                let fd = open(path, O_WRONLY | O_CREAT | O_APPEND)?;
                write(fd, &TEXT[..TEXT.len() - 2])?;
                let own = done("getpid", call(nr::GETPID, &[]))?;
                let _ = call(nr::KILL, &[int(own), 9]);
                Ok(())
            }
            child => {
                let _ = sys::waitpid(child, 0);
                let fd = open(path, O_WRONLY | O_APPEND)?;
                write(fd, b".\n")
            }
        })(),
        "crowd" => (|| {
            // Each with a descriptor of its own, a line at a time.
            let mut children = Vec::new();
            for letter in b'a'..b'e' {
                match fork()? {
                    0 => {
                        let fd = open(path, O_WRONLY | O_CREAT | O_APPEND)?;
                        for _ in 0..100 {
                            write(fd, &[&[letter; 30], TEXT].concat())?;
                        }
                        sys::exit(0)
                    }
                    child => children.push(child),
                }
            }
            children.into_iter().try_for_each(wait)
        })(),
        "shortcuts" => (|| {
            // What is in the file from before is the user's, and stays.
            let (from, to) = (open(path, 0)?, open(&format!("{path}.2"), O_RDWR | new)?);
            let refused = [
                call(COPY_FILE_RANGE, &[int(from), 0, int(to), 0, 100, 0]),
                call(SENDFILE, &[int(to), int(from), 0, 100]),
                call(FALLOCATE, &[int(to), 8, 0, 4096]),
                call(nr::MMAP, &[0, 4096, 3, 1, int(to), 0]),
            ];
            if let Some(which) = refused.iter().position(Result::is_ok) {
                return Err(format!("shortcut {which} is open"));
            }
            // Programs do otherwise where there is no such call.
            let there = NOT_THERE.iter().find(|number| {
                call(**number, &[int(from), 0, int(to), 0, 100, 0]) != Err(Errno(38))
            });
            match there {
                Some(number) => Err(format!("call {number} is there")),
                None => Ok(()),
            }
        })(),
        "cloexec" => (|| {
            let fd = open(path, O_WRONLY | new | O_CLOEXEC)?;
            write(fd, first)?;
            write(fd, second)?;
            exec(&["/bin/leak.cwasm", "whole"])
        })(),
        _ => return None,
    };
    Some(outcome)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let way = args.get(1).map_or("", String::as_str);
    let outcome = to_stdout(way)
        .or_else(|| to_peer(way))
        .or_else(|| to_file(way, args.get(2)?));
    match outcome {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(why)) => {
            eprintln!("leak: {way}: {why}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!("usage: leak WAY [FILE]");
            ExitCode::from(64)
        }
    }
}
