//! `scribe SCRIPT`: makes the system calls that a script names, one on each line, and keeps a
//! journal of them in `/got/journal`.
//!
//! First come the ways out besides files, `way SLOT KIND NAME`: a `pipe`, a `unix` or `tcp` stream
//! or `packets`, whose other end another cage reads into `/got/NAME`. Then `files PATH...`: their
//! contents go into the journal, as often as they change. The rest is done by a cage that holds
//! no other descriptors than those, standard output and standard error, in slots named `1` and `2`:
//!
//! `open SLOT PATH FLAGS`, `close SLOT`, `dup SLOT NEW`, `dup2 SLOT NEW`, `write SLOT DATA`,
//! `writev SLOT DATA...`, `pwrite SLOT OFFSET DATA`, `pwritev SLOT OFFSET DATA...`, `send SLOT
//! DATA`, `sendmsg SLOT DATA...`, `lseek SLOT OFFSET WHENCE`, `ftruncate SLOT LENGTH`, `truncate
//! PATH LENGTH`, `fallocate SLOT OFFSET LENGTH`, `setfl SLOT FLAGS`, `fsync SLOT`; `fork COUNT END`,
//! where a child makes the COUNT steps that follow and then ends by `exit` or `kill`; and `exec`,
//! where the program is started anew and goes on. Data are in hexadecimal, what stands for no
//! descriptor is -1.

use cage_libc::net::{AF_UNIX, SOCK_SEQPACKET, SOCK_STREAM, Socket};
use cage_libc::sys::{self, Errno, address, nr};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

const TRUNCATE: u32 = 76;
const FALLOCATE: u32 = 285;
const PWRITEV: u32 = 296;
const F_GETFD: i32 = 1;
const F_SETFD: i32 = 2;
const F_SETFL: i32 = 4;
const SIGKILL: u64 = 9;
/// Where the journal's descriptor is kept out of the way of the others.
const JOURNAL: i32 = 50;

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

fn number(text: &str) -> u64 {
    text.parse::<i64>().unwrap_or(0) as u64
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits
        .chunks_exact(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The descriptors at hand, by the names of their slots.
#[derive(Clone, Default)]
struct Slots(BTreeMap<String, i32>);

impl Slots {
    fn fd(&self, slot: &str) -> i32 {
        self.0.get(slot).copied().unwrap_or(-1)
    }

    /// Puts a descriptor into a slot; what was there is closed.
    fn put(&mut self, slot: &str, fd: i32) {
        if let Some(old) = self.0.insert(slot.to_owned(), fd) {
            let _ = sys::close(old);
        }
    }
}

/// What goes on as one cage.
struct Scribe {
    script: String,
    slots: Slots,
    /// The files that are looked at, as they were last.
    files: Vec<(String, Vec<u8>)>,
}

impl Scribe {
    /// Makes a step.
    fn step(&mut self, line: &str) -> Result<i32, Errno> {
        let words: Vec<&str> = line.split(' ').collect();
        let word = |at: usize| words.get(at).copied().unwrap_or("");
        let fd = self.slots.fd(word(1));
        let one = |data: &[u8]| [int(fd), address(data.as_ptr()), data.len() as u64];
        let parts = |from: usize| -> Vec<Vec<u8>> {
            let parts = words.iter().skip(from);
            parts.map(|hex| bytes(hex)).collect()
        };
        match word(0) {
            "open" => {
                let flags = number(word(3));
                let new = path_call(nr::OPEN, word(2), &[flags, 0o644])?;
                self.slots.put(word(1), new);
                Ok(0)
            }
            "close" => match self.slots.0.remove(word(1)) {
                Some(fd) => sys::close(fd).map(|()| 0),
                None => call(nr::CLOSE, &[int(-1)]),
            },
            "dup" => {
                let new = call(nr::DUP, &[int(fd)])?;
                self.slots.put(word(2), new);
                Ok(0)
            }
            "dup2" => match self.slots.0.get(word(2)) {
                Some(&over) => call(nr::DUP2, &[int(fd), int(over)]).map(|_| 0),
                None => Err(Errno(-1)),
            },
            "write" => call(nr::WRITE, &one(&bytes(word(2)))),
            "pwrite" => {
                let data = bytes(word(3));
                call(nr::PWRITE, &[&one(&data)[..], &[number(word(2))]].concat())
            }
            "send" => {
                let data = bytes(word(2));
                call(nr::SENDTO, &[&one(&data)[..], &[0, 0, 0]].concat())
            }
            "writev" | "pwritev" | "sendmsg" => {
                let at = u64::from(word(0) == "pwritev");
                let parts = parts(2 + at as usize);
                let vectors: Vec<[u64; 2]> = parts
                    .iter()
                    .map(|part| [address(part.as_ptr()), part.len() as u64])
                    .collect();
                let list = [address(vectors.as_ptr()), vectors.len() as u64];
                if word(0) == "sendmsg" {
                    let header: [u64; 7] = [0, 0, list[0], list[1], 0, 0, 0];
                    return call(nr::SENDMSG, &[int(fd), address(header.as_ptr()), 0]);
                }
                match at {
                    0 => call(nr::WRITEV, &[int(fd), list[0], list[1]]),
                    _ => call(PWRITEV, &[int(fd), list[0], list[1], number(word(2))]),
                }
            }
            "lseek" => call(nr::LSEEK, &[int(fd), number(word(2)), number(word(3))]),
            "ftruncate" => call(nr::FTRUNCATE, &[int(fd), number(word(2))]),
            "truncate" => path_call(TRUNCATE, word(1), &[number(word(2))]),
            "fallocate" => call(FALLOCATE, &[int(fd), 0, number(word(2)), number(word(3))]),
            "setfl" => call(nr::FCNTL, &[int(fd), int(F_SETFL), number(word(2))]),
            "fsync" => call(nr::FSYNC, &[int(fd)]),
            _ => Err(Errno(-1)),
        }
    }

    /// Makes the steps from one line to another.
    fn go(&mut self, from: usize, until: usize, end: &str) -> std::io::Result<()> {
        let script = self.script.clone();
        let lines: Vec<&str> = script.lines().collect();
        let mut at = from;
        while at < until {
            let line = lines.get(at).copied().unwrap_or("");
            let words: Vec<&str> = line.split(' ').collect();
            let result = match words[..] {
                ["fork", count, end] => {
                    let after = at + 1 + number(count) as usize;
                    let result = self.fork(at + 1, after, end)?;
                    at = after - 1;
                    result
                }
                ["exec"] => return Err(self.exec(at, until, end)),
                _ => match self.step(line) {
                    Ok(result) => result,
                    Err(Errno(errno)) => -errno,
                },
            };
            self.note(&format!("step {at} {result}"))?;
            self.look()?;
            at += 1;
        }
        Ok(())
    }

    fn fork(&mut self, from: usize, until: usize, end: &str) -> std::io::Result<i32> {
        match sys::fork() {
            Ok(0) => {
                self.go(from, until, end)?;
                leave(end)
            }
            Ok(child) => {
                let _ = sys::waitpid(child, 0);
                Ok(0)
            }
            Err(Errno(errno)) => Ok(-errno),
        }
    }

    /// Starts the program anew, behind this line; what comes back says why not.
    fn exec(&self, at: usize, until: usize, end: &str) -> std::io::Error {
        let slots: Vec<String> = self
            .slots
            .0
            .iter()
            .map(|(slot, fd)| format!("{slot}={fd}"))
            .collect();
        let args = [
            "scribe.cwasm",
            "/script",
            &at.to_string(),
            &until.to_string(),
            end,
            &slots.join(","),
        ];
        let strings: Vec<CString> = args
            .iter()
            .map(|arg| CString::new(*arg).unwrap_or_default())
            .collect();
        let pointers: Vec<*const u8> = strings.iter().map(|arg| arg.as_ptr().cast()).collect();
        let path = c"/bin/scribe.cwasm";
        // SAFETY: the strings live until the call has copied them.
        let Errno(errno) = unsafe { sys::execve(path.as_ptr().cast(), &pointers, &[]) };
        std::io::Error::from_raw_os_error(errno)
    }

    fn note(&self, line: &str) -> std::io::Result<()> {
        match sys::write(JOURNAL, format!("{line}\n").as_bytes()) {
            Ok(_) => Ok(()),
            Err(Errno(errno)) => Err(std::io::Error::from_raw_os_error(errno)),
        }
    }

    /// Notes what has changed in the files.
    fn look(&mut self) -> std::io::Result<()> {
        for at in 0..self.files.len() {
            let (path, known) = &mut self.files[at];
            let content = std::fs::read(&*path)?;
            if content != *known {
                *known = content;
                let line = format!("file {path} {}", hex(known));
                self.note(&line)?;
            }
        }
        Ok(())
    }
}

/// Ends a cage.
fn leave(how: &str) -> ! {
    if how == "kill"
        && let Ok(own) = call(nr::GETPID, &[])
    {
        let _ = call(nr::KILL, &[int(own), SIGKILL]);
    }
    sys::exit(0)
}

/// The end to write to and the end to read from.
fn pair(kind: &str) -> Result<(i32, i32), Errno> {
    let sockets = match kind {
        "pipe" => return sys::pipe2(0).map(|(out, into)| (into, out)),
        "unix" => Socket::pair(AF_UNIX, SOCK_STREAM)?,
        "packets" => Socket::pair(AF_UNIX, SOCK_SEQPACKET)?,
        _ => {
            let listening = Socket::tcp_listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
            let at = listening.name()?.ip().ok_or(Errno(-1))?;
            let into = Socket::tcp_connect(at)?;
            (into, listening.accept(0)?.0)
        }
    };
    let (into, out) = (sockets.0.into_fd(), sockets.1.into_fd());
    // It is to outlive an exec.
    call(nr::FCNTL, &[int(into), int(F_SETFD), 0])?;
    Ok((into, out))
}

/// Reads one end into a file until nobody can write to the other any more.
fn listen(fd: i32, name: &str, packets: bool) -> std::io::Result<()> {
    let mut file = File::create(format!("/got/{name}"))?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match sys::read(fd, &mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) if packets => writeln!(file, "{}", hex(&buffer[..count]))?,
            Ok(count) => file.write_all(&buffer[..count])?,
            Err(Errno(errno)) => return Err(std::io::Error::from_raw_os_error(errno)),
        }
    }
}

fn error(Errno(errno): Errno) -> std::io::Error {
    std::io::Error::from_raw_os_error(errno)
}

/// The whole script.
fn all(script: &str) -> std::io::Result<()> {
    let text = std::fs::read_to_string(script)?;
    let journal = OpenOptions::new()
        .append(true)
        .create(true)
        .open("/got/journal")?;
    let fd = std::os::fd::IntoRawFd::into_raw_fd(journal);
    call(nr::DUP2, &[int(fd), int(JOURNAL)]).map_err(error)?;
    sys::close(fd).map_err(error)?;
    let mut slots = Slots::default();
    let mut readers = Vec::new();
    for line in text.lines() {
        let ["way", slot, kind, name] = line.split(' ').collect::<Vec<_>>()[..] else {
            continue;
        };
        let (into, out) = pair(kind).map_err(error)?;
        slots.put(slot, into);
        match sys::fork().map_err(error)? {
            0 => {
                let others = slots.0.values().copied().chain([0, 1, 2, JOURNAL]);
                others.for_each(|fd| {
                    let _ = sys::close(fd);
                });
                listen(out, name, kind == "packets")?;
                sys::exit(0)
            }
            child => readers.push(child),
        }
        sys::close(out).map_err(error)?;
    }
    let worker = sys::fork().map_err(error)?;
    if worker == 0 {
        slots.put("1", 1);
        slots.put("2", 2);
        begin(&text, slots, 0, text.lines().count(), "exit")?;
        leave("exit")
    }
    for fd in slots.0.values() {
        sys::close(*fd).map_err(error)?;
    }
    for child in [&[worker], &readers[..]].concat() {
        match sys::waitpid(child, 0) {
            Ok((_, 0)) => {}
            other => return Err(std::io::Error::other(format!("a cage ended as {other:?}"))),
        }
    }
    Ok(())
}

fn begin(text: &str, slots: Slots, from: usize, until: usize, end: &str) -> std::io::Result<()> {
    let watched = text.lines().find_map(|line| line.strip_prefix("files "));
    let watched = watched.unwrap_or("").split(' ');
    let mut scribe = Scribe {
        script: text.to_owned(),
        slots,
        files: watched.map(|path| (path.to_owned(), Vec::new())).collect(),
    };
    // What comes first only says what there is.
    let is_step = |line: &str| !line.starts_with("way ") && !line.starts_with("files ");
    let first = text.lines().position(is_step).unwrap_or(until);
    scribe.look()?;
    scribe.go(from.max(first), until, end)
}

/// Goes on after an exec.
fn again(args: &[String]) -> std::io::Result<()> {
    let [script, at, until, end, slots] = args else {
        return Err(std::io::Error::other("usage: scribe SCRIPT"));
    };
    let text = std::fs::read_to_string(script)?;
    let mut known = Slots::default();
    for (slot, fd) in slots.split(',').filter_map(|pair| pair.split_once('=')) {
        let fd = number(fd) as i32;
        // Those that exec has closed are gone.
        if call(nr::FCNTL, &[int(fd), int(F_GETFD), 0]).is_ok() {
            known.put(slot, fd);
        }
    }
    let at = number(at) as usize;
    let line = format!("step {at} 0\n");
    sys::write(JOURNAL, line.as_bytes()).map_err(error)?;
    begin(&text, known, at + 1, number(until) as usize, end)?;
    leave(end)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match args.as_slice() {
        [script] => all(script),
        args => again(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scribe: {error}");
            ExitCode::FAILURE
        }
    }
}
