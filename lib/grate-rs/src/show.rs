//! Calls as text, a line each, as strace(1) has them:
//!
//! ```text
//! openat(AT_FDCWD, "/etc/motd", O_RDONLY) = -1 ENOENT (No such file or directory)
//! ```
//!
//! Arguments are shown by their kinds in the table of calls.

use crate::constants::error;
use crate::constants::fs::{AT_FDCWD, O_CREAT, O_TMPFILE};
use crate::{Call, Errno, GuestPtr};
use calls::{Access, Entry, Kind, Outcome, Struct, names};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Most bytes of a path.
const PATH: usize = 4096;
/// Most elements of a list that are shown.
const ELEMENTS: usize = 16;
/// The bits of open's flags that are no flags.
const ACCESS: u64 = 3;

/// A call that is to be shown, with what it has to be read of it before it is made.
#[derive(Debug)]
pub struct Shown<'a> {
    call: &'a Call,
    entry: &'static Entry,
    /// How many bytes of a string are shown at most.
    limit: usize,
    /// The arguments, but for those that the call fills.
    before: Vec<Option<String>>,
}

impl<'a> Shown<'a> {
    /// Reads what goes in, which the call may change. At most `limit` bytes of a string are shown.
    /// Nothing for a call that is not in the table.
    pub fn new(call: &'a Call, limit: usize) -> Option<Self> {
        let entry = calls::entry(call.nr)?;
        let before = (0..entry.args.len())
            .map(|index| going_in(call, entry, index, limit))
            .collect();
        Some(Self {
            call,
            entry,
            limit,
            before,
        })
    }

    /// Whether the call does not come back: it is to be shown before it is made.
    pub fn is_last(&self) -> bool {
        self.entry.result == Outcome::Never
    }

    /// The line for a call that does not come back.
    pub fn without_result(self) -> String {
        format!("{}({}) = ?", self.entry.name, list(self.before))
    }

    /// The line for a call that came back.
    pub fn with_result(self, answer: Result<i32, Errno>) -> String {
        let (call, entry, limit) = (self.call, self.entry, self.limit);
        let args = self.before.into_iter().enumerate().map(|(index, shown)| {
            shown.or_else(|| Some(coming_out(call, entry, index, answer, limit)))
        });
        let (name, args) = (entry.name, list(args));
        format!("{name}({args}) = {}", result(entry.result, answer))
    }
}

/// Shows `value` as the names of its bits, and what is left of it in hexadecimal.
fn bits(value: u64, names: names::Bits, none: &str) -> String {
    let mut left = value;
    let mut shown: Vec<String> = Vec::new();
    for &(bits, name) in names {
        if left & bits == bits {
            shown.push(name.to_owned());
            left &= !bits;
        }
    }
    if left != 0 {
        shown.push(format!("{left:#x}"));
    }
    if shown.is_empty() {
        return none.to_owned();
    }
    shown.join("|")
}

fn named(value: i64, names: names::Numbers) -> Option<&'static str> {
    let found = names.iter().find(|(number, _)| *number == value);
    found.map(|(_, name)| *name)
}

/// Shows the name of a number, or the number.
fn name(value: i64, names: names::Numbers) -> String {
    named(value, names).map_or_else(|| value.to_string(), str::to_owned)
}

/// Shows a number with flags above it.
fn with_flags(number: String, flags: u64, names: names::Bits) -> String {
    match flags {
        0 => number,
        flags => format!("{number}|{}", bits(flags, names, "0")),
    }
}

fn open_flags(value: u64) -> String {
    let access = name((value & ACCESS) as i64, names::ACCESS);
    with_flags(access, value & !ACCESS, names::OPEN)
}

fn socket_type(value: u64) -> String {
    const TYPE: u64 = 0xf;
    let kind = name((value & TYPE) as i64, names::SOCKETS);
    with_flags(kind, value & !TYPE, names::SOCKET_FLAGS)
}

/// Shows an argument as it stands before the call; nothing for one that the call fills.
fn going_in(call: &Call, entry: &Entry, index: usize, limit: usize) -> Option<String> {
    let kind = *entry.args.get(index)?;
    let (value, int) = (call.size(index), call.int(index));
    let pointer = call.place(index);
    let next = call.size((index + 1).min(5));
    Some(match kind {
        Kind::Fd | Kind::Int | Kind::Pid => int.to_string(),
        Kind::Thread => return Some(String::new()),
        Kind::DirFd if int == AT_FDCWD => "AT_FDCWD".to_owned(),
        Kind::DirFd => int.to_string(),
        Kind::Size => value.to_string(),
        Kind::Offset => call.long(index).to_string(),
        Kind::Bits => format!("{:#x}", value as u32),
        // Only a call that may create a file has a mode.
        Kind::Mode if is_open(entry) && !creates(call.int(index - 1)) => return Some(String::new()),
        Kind::Mode => format!("{:#05o}", value as u32),
        Kind::OpenFlags if !is_open(entry) => bits(value & !ACCESS, names::OPEN, "0"),
        Kind::OpenFlags => open_flags(value as u32 as u64),
        Kind::AtFlags => bits(value as u32 as u64, names::AT, "0"),
        Kind::Prot => bits(value as u32 as u64, names::PROT, "PROT_NONE"),
        Kind::MapFlags => bits(value as u32 as u64, names::MAP, "0"),
        Kind::Whence => name(int.into(), names::WHENCE),
        Kind::FcntlCommand => name(int.into(), names::FCNTL),
        Kind::IoctlRequest => name(i64::from(value as u32), names::IOCTL),
        Kind::Signal => name(int.into(), names::SIGNALS),
        Kind::Clock => name(int.into(), names::CLOCKS),
        Kind::Family => name(int.into(), names::FAMILIES),
        Kind::SocketType => socket_type(value as u32 as u64),
        Kind::Path | Kind::Text => path(pointer),
        Kind::BytesIn => bytes(pointer, next, limit),
        Kind::VectorsIn => vectors(pointer, next, limit),
        // Its third argument is the environment, which is long.
        Kind::Strings if index == 2 => address(value),
        Kind::Strings => strings(pointer),
        Kind::SocketAddress => socket_address(pointer, next),
        Kind::Struct(Access::In, Struct::Time) => time(pointer),
        Kind::BytesOut | Kind::PathOut | Kind::Struct(Access::Out, _) => return None,
        Kind::Place
        | Kind::Pages
        | Kind::Address
        | Kind::BytesInOut
        | Kind::VectorsOut
        | Kind::SocketAddressOut
        | Kind::Struct(..)
        | Kind::List(..) => address(value),
    })
}

/// Shows an argument that the call has filled, or its address where the call has failed.
fn coming_out(
    call: &Call,
    entry: &Entry,
    index: usize,
    result: Result<i32, Errno>,
    limit: usize,
) -> String {
    let pointer = call.place(index);
    let kind = entry.args.get(index);
    let (Ok(result), Some(kind), false) = (result, kind, pointer.is_null()) else {
        return address(pointer.addr);
    };
    let shown = match kind {
        Kind::BytesOut => Some(bytes(pointer, u64::try_from(result).unwrap_or(0), limit)),
        Kind::PathOut => Some(path(pointer)),
        Kind::Struct(_, Struct::Time) => Some(time(pointer)),
        Kind::Struct(_, Struct::Stat) => stat(pointer),
        // Nothing has been written for wait4's 0: no child has ended.
        Kind::Struct(_, Struct::Word) if result == 0 => None,
        Kind::Struct(_, Struct::Word) => pointer.read().ok().map(|b| status(i32::from_le_bytes(b))),
        Kind::Struct(_, Struct::Pair) => pointer.read().ok().map(|pair: [u8; 8]| {
            let (first, second) = (word(&pair, 0), word(&pair, 4));
            format!("[{first}, {second}]")
        }),
        Kind::Struct(_, Struct::Long) => pointer
            .read()
            .ok()
            .map(|b| format!("[{}]", u64::from_le_bytes(b))),
        _ => None,
    };
    shown.unwrap_or_else(|| address(pointer.addr))
}

/// Shows a result.
fn result(outcome: Outcome, result: Result<i32, Errno>) -> String {
    match (outcome, result) {
        (_, Err(Errno(errno))) => {
            let symbol = error::symbol(errno).unwrap_or("E?");
            let text = error::name(errno).unwrap_or("Unknown error");
            format!("-1 {symbol} ({text})")
        }
        // Results of Lind's own beyond the errors of Linux, and addresses.
        (_, Ok(value)) if value < 0 => format!("{:#x}", value as u32),
        (Outcome::Address, Ok(value)) => format!("{value:#x}"),
        (_, Ok(value)) => value.to_string(),
    }
}

/// Joins arguments. An empty one is an argument that this call does not have.
fn list(args: impl IntoIterator<Item = Option<String>>) -> String {
    let shown: Vec<String> = args
        .into_iter()
        .flatten()
        .filter(|arg| !arg.is_empty())
        .collect();
    shown.join(", ")
}

fn is_open(entry: &Entry) -> bool {
    entry
        .args
        .windows(2)
        .any(|pair| pair == [Kind::OpenFlags, Kind::Mode])
}

fn creates(flags: i32) -> bool {
    flags & O_CREAT != 0 || flags & O_TMPFILE == O_TMPFILE
}

fn address(value: u64) -> String {
    match value {
        0 => "NULL".to_owned(),
        value => format!("{value:#x}"),
    }
}

fn path(pointer: GuestPtr) -> String {
    if pointer.is_null() {
        return address(0);
    }
    match pointer.read_cstr(PATH) {
        Ok(path) => quoted(&path),
        Err(_) => address(pointer.addr),
    }
}

fn quoted(text: &[u8]) -> String {
    format!("\"{}\"", text.escape_ascii())
}

fn bytes(pointer: GuestPtr, len: u64, limit: usize) -> String {
    let shown = usize::try_from(len).unwrap_or(limit).min(limit);
    let mut data = vec![0; shown];
    match pointer.read_into(&mut data) {
        Ok(()) if (shown as u64) < len => format!("{}...", quoted(&data)),
        Ok(()) => quoted(&data),
        Err(_) => address(pointer.addr),
    }
}

fn vectors(pointer: GuestPtr, count: u64, limit: usize) -> String {
    let Ok(vectors) = i32::try_from(count)
        .map_err(drop)
        .and_then(|count| pointer.read_iovecs(count).map_err(drop))
    else {
        return address(pointer.addr);
    };
    let shown = vectors.iter().map(|&(base, len)| bytes(base, len, limit));
    elements(shown.collect(), vectors.len())
}

fn strings(array: GuestPtr) -> String {
    let mut list = Vec::new();
    for index in 0..=ELEMENTS as u64 {
        match array.add(8 * index).read().map(u64::from_le_bytes) {
            Ok(0) => return elements(list, index as usize),
            Ok(addr) => list.push(path(GuestPtr { addr, ..array })),
            Err(_) => return address(array.addr),
        }
    }
    elements(list, usize::MAX)
}

/// Shows a list, of which `count` are there in truth.
fn elements(mut list: Vec<String>, count: usize) -> String {
    if count > ELEMENTS {
        list.truncate(ELEMENTS);
        list.push("...".to_owned());
    }
    format!("[{}]", list.join(", "))
}

fn time(pointer: GuestPtr) -> String {
    match pointer.read::<16>() {
        Ok(time) => format!("{{{}.{:09}}}", long(&time, 0), long(&time, 8)),
        Err(_) => address(pointer.addr),
    }
}

fn stat(pointer: GuestPtr) -> Option<String> {
    let facts: [u8; 48] = pointer.read().ok()?;
    let (mode, size) = (word(&facts, 16), long(&facts, 40));
    let kind = named((mode as u32 >> 12).into(), names::FILES).unwrap_or("S_IF?");
    let permissions = mode & 0o7777;
    Some(format!("{{mode={kind}|{permissions:#05o}, size={size}}}"))
}

/// Shows a wait status.
fn status(status: i32) -> String {
    match status & 0x7f {
        0 => format!("[exited with {}]", (status >> 8) & 0xff),
        signal => format!("[killed by {}]", name(signal.into(), names::SIGNALS)),
    }
}

fn socket_address(pointer: GuestPtr, len: u64) -> String {
    // The largest that is shown: AF_UNIX.
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX).min(110)];
    if bytes.len() < 2 || pointer.read_into(&mut bytes).is_err() {
        return address(pointer.addr);
    }
    let family = u16::from_le_bytes([bytes[0], bytes[1]]);
    let port = |bytes: &[u8]| u16::from_be_bytes([bytes[2], bytes[3]]);
    match (family, bytes.len()) {
        (1, _) => {
            let name = bytes.get(2..).unwrap_or_default();
            // A leading NUL marks an abstract name, which is not a string.
            let end = name.iter().skip(1).position(|&byte| byte == 0);
            quoted(
                name.get(..end.map_or(name.len(), |end| end + 1))
                    .unwrap_or_default(),
            )
        }
        (2, 8..) => {
            let ip = Ipv4Addr::new(bytes[4], bytes[5], bytes[6], bytes[7]);
            format!("{ip}:{}", port(&bytes))
        }
        (10, 24..) => {
            let mut ip = [0; 16];
            ip.copy_from_slice(&bytes[8..24]);
            format!("[{}]:{}", Ipv6Addr::from(ip), port(&bytes))
        }
        (family, _) => name(family.into(), names::FAMILIES),
    }
}

fn word(bytes: &[u8], at: usize) -> i32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    i32::from_le_bytes(word)
}

fn long(bytes: &[u8], at: usize) -> u64 {
    let mut long = [0; 8];
    long.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(long)
}
