//! Random programs: the system calls of `scribe`, of which only the ways that bytes go out matter.

use super::rules;
use fastrand::Rng;

/// Ways out besides files: slot, kind, and the name that the other end has.
pub const WAYS: &[(&str, &str, &str)] = &[
    ("p", "pipe", "pipe"),
    ("u", "unix", "unix"),
    ("t", "tcp", "tcp"),
    ("m", "packets", "packets"),
];
/// Files that may be written.
pub const FILES: &[&str] = &["/work/a", "/work/b", "/log/a"];
/// Slots for files and copies.
const SLOTS: &[&str] = &["f", "g", "h", "i"];

pub const O_TRUNC: i32 = 0o1000;
pub const O_APPEND: i32 = 0o2000;
pub const O_CLOEXEC: i32 = 0o2000000;

/// How bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Write,
    Writev,
    Pwrite,
    Pwritev,
    Send,
    Sendmsg,
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Writev => "writev",
            Self::Pwrite => "pwrite",
            Self::Pwritev => "pwritev",
            Self::Send => "send",
            Self::Sendmsg => "sendmsg",
        }
    }

    fn takes_parts(self) -> bool {
        matches!(self, Self::Writev | Self::Pwritev | Self::Sendmsg)
    }

    /// Whether the call says where.
    pub fn takes_offset(self) -> bool {
        matches!(self, Self::Pwrite | Self::Pwritev)
    }

    /// Whether it is for sockets alone.
    pub fn sends(self) -> bool {
        matches!(self, Self::Send | Self::Sendmsg)
    }
}

type Slot = &'static str;

/// A step of a program.
#[derive(Clone, Debug)]
pub enum Step {
    Open(Slot, &'static str, i32),
    Close(Slot),
    /// `dup`, or `dup2` over what is in the other slot.
    Dup(Slot, Slot, bool),
    /// What, to where, at which offset, and the bytes, in parts.
    Write(Call, Slot, u64, Vec<Vec<u8>>),
    Lseek(Slot, i64, i32),
    Ftruncate(Slot, u64),
    Truncate(&'static str, u64),
    Fallocate(Slot, u64, u64),
    /// Sets or clears O_APPEND.
    Setfl(Slot, bool),
    Fsync(Slot),
    /// A child's steps; whether it is killed then.
    Fork(Vec<Step>, bool),
    Exec,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Step {
    /// How many lines it takes.
    pub fn len(&self) -> usize {
        match self {
            Self::Fork(steps, _) => 1 + steps.iter().map(Self::len).sum::<usize>(),
            _ => 1,
        }
    }

    /// Adds its lines to a script.
    pub fn write_to(&self, script: &mut String) {
        *script += &match self {
            Self::Open(slot, path, flags) => format!("open {slot} {path} {flags}"),
            Self::Close(slot) => format!("close {slot}"),
            Self::Dup(slot, new, false) => format!("dup {slot} {new}"),
            Self::Dup(slot, new, true) => format!("dup2 {slot} {new}"),
            Self::Write(call, slot, at, parts) => {
                let at = match call.takes_offset() {
                    true => format!(" {at}"),
                    false => String::new(),
                };
                let parts: Vec<_> = parts.iter().map(|part| hex(part)).collect();
                format!("{} {slot}{at} {}", call.name(), parts.join(" "))
            }
            Self::Lseek(slot, offset, whence) => format!("lseek {slot} {offset} {whence}"),
            Self::Ftruncate(slot, len) => format!("ftruncate {slot} {len}"),
            Self::Truncate(path, len) => format!("truncate {path} {len}"),
            Self::Fallocate(slot, at, len) => format!("fallocate {slot} {at} {len}"),
            Self::Setfl(slot, append) => {
                format!("setfl {slot} {}", if *append { O_APPEND } else { 0 })
            }
            Self::Fsync(slot) => format!("fsync {slot}"),
            Self::Fork(_, killed) => {
                let end = if *killed { "kill" } else { "exit" };
                format!("fork {} {end}", self.len() - 1)
            }
            Self::Exec => "exec".to_owned(),
        };
        script.push('\n');
        if let Self::Fork(steps, _) = self {
            steps.iter().for_each(|step| step.write_to(script));
        }
    }
}

/// What programs are like.
#[derive(Clone, Copy)]
struct Style {
    /// Makes no call that Lind does not serve.
    strict: bool,
    /// Writes a few bytes at a time, most of them to the same places: matches come and go.
    narrow: bool,
}

impl Style {
    /// Somewhere in a file.
    fn offset(self, rng: &mut Rng) -> u64 {
        rng.u64(..if self.narrow { 12 } else { 100 })
    }

    fn text(self, rng: &mut Rng) -> Vec<u8> {
        let mut text = rules::text(rng);
        if self.narrow {
            text.truncate(rng.usize(1..4));
        }
        text
    }
}

/// What a program starts with, and does.
#[derive(Clone)]
pub struct Program {
    /// What is in [`FILES`] before.
    pub before: Vec<Vec<u8>>,
    pub steps: Vec<Step>,
}

impl Program {
    /// Some program; a strict one makes no call that Lind does not serve.
    pub fn random(rng: &mut Rng, strict: bool) -> Self {
        let style = Style {
            strict,
            narrow: rng.bool(),
        };
        let before = FILES.iter().map(|_| match rng.u8(..3) {
            0 => style.text(rng),
            _ => Vec::new(),
        });
        let before = before.collect();
        let mut steps = Vec::new();
        for (slot, path) in SLOTS.iter().zip(FILES) {
            steps.push(open(rng, slot, path));
        }
        let count = rng.usize(5..60);
        steps.extend((0..count).map(|_| step(rng, style, 2)));
        Self { before, steps }
    }

    /// The script for `scribe`.
    pub fn script(&self) -> String {
        let mut script = String::new();
        for (slot, kind, name) in WAYS {
            script += &format!("way {slot} {kind} {name}\n");
        }
        script += &format!("files {}\n", FILES.join(" "));
        self.steps
            .iter()
            .for_each(|step| step.write_to(&mut script));
        script
    }

    /// The first line that is a step.
    pub fn first_line() -> usize {
        WAYS.len() + 1
    }
}

fn open(rng: &mut Rng, slot: Slot, path: &'static str) -> Step {
    let mut flags = rng.i32(1..=2);
    let is_log = path.starts_with("/log");
    if rng.u8(..3) == 0 || (is_log && rng.u8(..10) > 0) {
        flags |= O_APPEND;
    }
    if rng.u8(..8) == 0 {
        flags |= O_TRUNC;
    }
    if rng.u8(..5) == 0 {
        flags |= O_CLOEXEC;
    }
    Step::Open(slot, path, flags)
}

/// A slot of any kind; those of files come often, for there is most to go wrong.
fn slot(rng: &mut Rng) -> Slot {
    match rng.u8(..8) {
        0 => ["1", "2"][rng.usize(..2)],
        1..=2 => WAYS[rng.usize(..WAYS.len())].0,
        _ => SLOTS[rng.usize(..SLOTS.len())],
    }
}

fn step(rng: &mut Rng, style: Style, depth: u8) -> Step {
    match rng.u8(..100) {
        0..=54 => write(rng, style),
        55..=66 => {
            let offset = style.offset(rng) as i64 - 4;
            Step::Lseek(slot(rng), offset, rng.i32(0..3))
        }
        67..=70 => Step::Ftruncate(slot(rng), style.offset(rng)),
        71..=72 => Step::Truncate(FILES[rng.usize(..FILES.len())], style.offset(rng)),
        73 if !style.strict => Step::Fallocate(slot(rng), style.offset(rng), rng.u64(1..60)),
        74..=79 => {
            let (slot, file) = (rng.usize(..SLOTS.len()), rng.usize(..FILES.len()));
            open(rng, SLOTS[slot], FILES[file])
        }
        80..=83 => Step::Close(slot(rng)),
        84..=87 => Step::Dup(slot(rng), SLOTS[rng.usize(..SLOTS.len())], rng.bool()),
        88..=89 => Step::Setfl(slot(rng), rng.bool()),
        90..=91 => Step::Fsync(slot(rng)),
        92..=94 => Step::Exec,
        _ if depth > 0 => {
            let count = rng.usize(..8);
            let steps = (0..count).map(|_| step(rng, style, depth - 1)).collect();
            Step::Fork(steps, rng.u8(..3) == 0)
        }
        _ => write(rng, style),
    }
}

fn write(rng: &mut Rng, style: Style) -> Step {
    let slot = slot(rng);
    let is_socket = matches!(slot, "u" | "t" | "m");
    let call = match rng.u8(..10) {
        0..=1 => Call::Writev,
        2..=3 if !is_socket => Call::Pwrite,
        4 if !is_socket => Call::Pwritev,
        5..=6 if is_socket => Call::Send,
        7..=8 if is_socket => Call::Sendmsg,
        _ => Call::Write,
    };
    let parts = if call.takes_parts() {
        rng.usize(1..5)
    } else {
        1
    };
    let parts = (0..parts).map(|_| style.text(rng)).collect();
    Step::Write(call, slot, style.offset(rng), parts)
}
