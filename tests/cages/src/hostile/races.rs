//! Check, then use again: what a call is about changes in shared memory while it is under way.

use super::gate::*;
use super::world::{World, loopback, served};
use super::{Attempt, Dice, Stage};
use cage_libc::sys::{self, address, nr};
use std::ffi::CStr;
use std::sync::atomic::Ordering;

pub const ATTEMPTS: &[Attempt] = &[
    ("flipped path: open", |stage| flipped(stage, OPEN)),
    ("flipped path: openat", |stage| flipped(stage, OPENAT)),
    ("flipped path: truncate", |stage| flipped(stage, TRUNCATE)),
    ("flipped path: unlink", |stage| flipped(stage, UNLINK)),
    ("flipped path: rename", |stage| flipped(stage, RENAME)),
    ("flipped path: link", |stage| flipped(stage, LINK)),
    ("flipped path: chmod, chown, utimensat", |stage| {
        flipped(stage, MODES)
    }),
    ("flipped path: making names", |stage| flipped(stage, MAKE)),
    ("flipped path: exec and chdir", |stage| {
        flipped(stage, ENTER)
    }),
    ("flipped directory, then a name in it", flipped_directory),
    ("flipped name beside a directory", flipped_name),
    ("a symlink exchanged during calls", exchanged_link),
    ("a directory exchanged during calls", exchanged_directory),
    ("flipped bytes of a write", flipped_bytes),
    ("flipped vectors", flipped_vectors),
    ("flipped message headers", flipped_headers),
    ("flipped address of a peer", flipped_peer),
    ("flipped structures of every call", flipped_structures),
    ("flipped arguments of exec and fork", flipped_exec),
    ("one file by several cages at once", one_file),
    (
        "opens, copies and closes at once with forks",
        descriptors_and_forks,
    ),
];

/// Makes one call on a path that is one of two. The result counts as a hit if it is not negative:
/// by the good name there is nothing.
type PathCall = fn(u64) -> i32;

const OPEN: &[(&str, PathCall)] = &[
    ("for reading", |path| {
        opened(call(nr::OPEN, &[path, 0, 0]), 0)
    }),
    ("for writing", |path| {
        opened(call(nr::OPEN, &[path, int(O_WRONLY), 0]), 1)
    }),
    ("cutting", |path| {
        opened(call(nr::OPEN, &[path, int(O_RDWR | O_TRUNC), 0]), 1)
    }),
];
const OPENAT: &[(&str, PathCall)] = &[
    ("for reading", |path| {
        opened(call(nr::OPENAT, &[int(AT_FDCWD), path, 0, 0]), 0)
    }),
    ("for writing", |path| {
        opened(call(nr::OPENAT, &[int(AT_FDCWD), path, int(O_RDWR), 0]), 1)
    }),
];
const TRUNCATE: &[(&str, PathCall)] = &[("truncate", |path| call(76, &[path, 0]))];
const UNLINK: &[(&str, PathCall)] = &[
    ("unlink", |path| key_only(path, nr::UNLINK, &[path])),
    ("unlinkat", |path| {
        key_only(path, nr::UNLINKAT, &[int(AT_FDCWD), path, 0])
    }),
];
const RENAME: &[(&str, PathCall)] = &[
    ("rename", |path| {
        call(nr::RENAME, &[path, here(c"/open/x.log")])
    }),
    ("onto", |path| {
        call(nr::RENAME, &[here(c"/open/other.log"), path])
    }),
    ("renameat", |path| {
        let at = int(AT_FDCWD);
        call(264, &[at, path, at, here(c"/open/x.log")])
    }),
    ("renameat2", |path| {
        let at = int(AT_FDCWD);
        call(316, &[at, path, at, here(c"/open/x.log"), 0])
    }),
    ("exchange", |path| {
        let at = int(AT_FDCWD);
        call(316, &[at, path, at, here(c"/open/other.log"), 2])
    }),
];
const LINK: &[(&str, PathCall)] = &[
    ("link", |path| call(nr::LINK, &[path, here(c"/open/x.log")])),
    ("linkat", |path| {
        let at = int(AT_FDCWD);
        if strict() {
            return -1;
        }
        call(265, &[at, path, at, here(c"/open/x.log"), 0x400])
    }),
];
const MODES: &[(&str, PathCall)] = &[
    ("chmod", |path| key_only(path, nr::CHMOD, &[path, 0o666])),
    ("chown", |path| key_only(path, 92, &[path, 12, 12])),
    ("fchmodat", |path| {
        key_only(path, 268, &[int(AT_FDCWD), path, 0o666, 0])
    }),
    ("utimensat", |path| {
        key_only(path, nr::UTIMENSAT, &[int(AT_FDCWD), path, 0, 0])
    }),
];
const MAKE: &[(&str, PathCall)] = &[
    ("mknod", |path| call(133, &[path, 0o100_644, 0])),
    ("symlink", |path| call(nr::SYMLINK, &[here(c"x"), path])),
    ("mkdir", |path| call(nr::MKDIR, &[path, 0o755])),
    ("creating", |path| {
        let fd = call(nr::OPEN, &[path, int(O_CREAT | 0o200 | O_RDWR), 0o644]);
        opened(fd, 1)
    }),
];
const ENTER: &[(&str, PathCall)] = &[
    ("exec", |path| call(nr::EXECVE, &[path, 0, 0])),
    ("chdir", |path| call(nr::CHDIR, &[path])),
];

const GETPPID: u32 = 110;

fn here(path: &CStr) -> u64 {
    address(path.as_ptr())
}

/// What denies writing denies nothing else: these are tried on a key.
fn key_only(_: u64, number: u32, args: &[u64]) -> i32 {
    call(number, args)
}

/// A hit only where something can be done with what was opened.
fn opened(fd: i32, mode: i32) -> i32 {
    if fd < 0 {
        return fd;
    }
    let hit = match mode {
        0 => sys::read(fd, &mut [0; 32]).map_or(-1, |count| count as i32 - 1),
        _ => write(fd, b"OWNED"),
    };
    close(fd);
    hit
}

/// Two paths of one length; by the first there is nothing.
fn pair(stage: &Stage) -> Vec<(&'static [u8], &'static [u8], bool)> {
    let mut pairs: Vec<(&[u8], &[u8], bool)> = Vec::new();
    if stage.has_key() {
        pairs.push((b"/kexs/k.bin\0", b"/keys/k.bin\0", true));
    }
    if stage.denies() {
        pairs.push((b"/prxtected/f.log\0", b"/protected/f.log\0", false));
    }
    pairs
}

fn flipped(stage: &Stage, calls: &[(&str, PathCall)]) -> Outcome {
    let other = open(c"/open/other.log", O_CREAT | O_RDWR, 0o644);
    close(other);
    for (good, bad, is_key) in pair(stage) {
        for (name, make) in calls {
            // What may not be written may be read, entered, removed and have its modes changed.
            let about_the_key = matches!(
                *name,
                "for reading"
                    | "unlink"
                    | "unlinkat"
                    | "chmod"
                    | "chown"
                    | "fchmodat"
                    | "utimensat"
            );
            if about_the_key && !is_key {
                continue;
            }
            let flipper = Flipper::start(good, bad)?;
            let hit = (0..stage.tries).find_map(|at| {
                let got = make(flipper.address());
                (got >= 0).then_some(format!("{name}: {got} at try {at}"))
            });
            flipper.stop()?;
            if let Some(hit) = hit {
                return Err(hit);
            }
        }
    }
    stage.still_served()
}

/// Opens a directory by a flipped name, and a file in it for writing.
fn flipped_directory(stage: &Stage) -> Outcome {
    for (good, bad, name, is_key) in [
        (&b"/protectex\0"[..], &b"/protected\0"[..], c"f.log", false),
        (b"/kexs\0", b"/keys\0", c"k.bin", true),
    ] {
        if is_key != stage.has_key() && is_key || !is_key && !stage.denies() {
            continue;
        }
        let flipper = Flipper::start(good, bad)?;
        for _ in 0..stage.tries {
            let directory = call(nr::OPEN, &[flipper.address(), int(O_DIRECTORY), 0]);
            if directory < 0 {
                continue;
            }
            let args = [int(directory), here(name), int(O_RDWR), 0];
            let fd = call(nr::OPENAT, &args);
            if fd >= 0 {
                // It is the other one, or it is on the disk, where the fixture looks.
                write(fd, b"OWNED");
                close(fd);
            }
            let args = [
                int(directory),
                here(name),
                int(AT_FDCWD),
                here(c"/open/x.log"),
            ];
            if !is_key {
                close(directory);
                continue;
            }
            call(264, &args);
            call(nr::UNLINKAT, &[int(directory), here(name), 0]);
            close(directory);
        }
        flipper.stop()?;
    }
    stage.still_served()
}

fn flipped_name(stage: &Stage) -> Outcome {
    for (good, bad, directory, is_key) in [
        (&b"x.log\0"[..], &b"f.log\0"[..], c"/protected", false),
        (b"x.bin\0", b"k.bin\0", c"/keys", true),
    ] {
        if is_key && !stage.has_key() || !is_key && !stage.denies() {
            continue;
        }
        let flipper = Flipper::start(good, bad)?;
        let directory = open(directory, O_DIRECTORY, 0);
        let mut hits = 0;
        for _ in 0..stage.tries {
            let place = flipper.address();
            let fd = call(nr::OPENAT, &[int(directory), place, int(O_RDWR), 0]);
            hits += i32::from(opened(fd, 1) >= 0);
            let args = [int(directory), place, int(AT_FDCWD), here(c"/open/x.log")];
            hits += i32::from(call(264, &args) >= 0);
            if is_key {
                let args = [int(directory), place, 0];
                hits += i32::from(call(nr::UNLINKAT, &args) >= 0);
            }
        }
        flipper.stop()?;
        expect("hits", hits, &[0])?;
    }
    stage.still_served()
}

/// A child that makes one change after the other, until it is stopped.
struct Changer {
    page: Shared,
    child: i32,
}

impl Changer {
    fn start(change: fn(u64)) -> Result<Self, String> {
        let page = Shared::new()?;
        let child = forked(|| {
            let mut round = 0;
            while page.word(0).load(Ordering::Relaxed) == 0 {
                change(round);
                round += 1;
            }
            0
        })?;
        Ok(Self { page, child })
    }

    fn stop(self) -> Outcome {
        self.page.word(0).store(1, Ordering::Relaxed);
        wait_well(self.child)
    }
}

const RENAME_EXCHANGE: u64 = 2;

fn exchange(one: &CStr, other: &CStr) {
    let at = int(AT_FDCWD);
    call(316, &[at, here(one), at, here(other), RENAME_EXCHANGE]);
}

/// Opens what may be written or not, by turns, through a name that others change.
fn through(stage: &Stage, path: &CStr) {
    for _ in 0..stage.tries {
        for flags in [O_RDWR, O_WRONLY | O_TRUNC] {
            let fd = open(path, flags, 0);
            if fd >= 0 {
                write(fd, b"OWNED");
                close(fd);
            }
        }
        path_call(76, path, &[0]);
    }
}

fn exchanged_link(stage: &Stage) -> Outcome {
    let mut changers = Vec::new();
    let other = open(c"/open/other.log", O_CREAT | O_RDWR, 0o644);
    close(other);
    for (target, link) in [
        (c"/open/other.log", c"/open/good.log"),
        (c"/keys/k.bin", c"/open/bad.log"),
        (c"/protected/f.log", c"/open/worse.log"),
    ] {
        path_call(nr::SYMLINK, target, &[here(link)]);
    }
    if stage.has_key() {
        changers.push(Changer::start(|_| {
            exchange(c"/open/good.log", c"/open/bad.log")
        })?);
    }
    if stage.denies() {
        changers.push(Changer::start(|_| {
            exchange(c"/open/good.log", c"/open/worse.log")
        })?);
    }
    through(stage, c"/open/good.log");
    changers.into_iter().try_for_each(Changer::stop)?;
    stage.still_served()
}

/// A symlink to a directory is now this one, now that one, with files of the same name in them.
fn exchanged_directory(stage: &Stage) -> Outcome {
    for (target, link) in [
        (c"/protectex", c"/open/here"),
        (c"/protected", c"/open/there"),
        (c"/keys", c"/open/vault"),
    ] {
        path_call(nr::SYMLINK, target, &[here(link)]);
    }
    let changer = Changer::start(|round| {
        if round.is_multiple_of(2) {
            exchange(c"/open/here", c"/open/there");
        } else {
            exchange(c"/open/here", c"/open/vault");
        }
    })?;
    through(stage, c"/open/here/f.log");
    through(stage, c"/open/here/k.bin");
    let made = open(c"/open/here/new.log", O_CREAT | O_RDWR, 0o644);
    close(made);
    changer.stop()?;
    stage.still_served()
}

/// As long as MARK, and nothing in it is secret.
const PLAIN: &[u8] = b"................ no one is named here..\n";
const _: () = assert!(PLAIN.len() == MARK.len());

fn flipped_bytes(stage: &Stage) -> Outcome {
    let flipper = Flipper::start(PLAIN, MARK)?;
    let len = MARK.len() as u64;
    let (reader, writer) = pipe()?;
    for round in 0..stage.tries / 4 {
        let path = format!("/open/bytes{}.log\0", round % 16);
        let args = [address(path.as_ptr()), int(O_CREAT | O_RDWR), 0o644];
        let fd = call(nr::OPEN, &args);
        for place in [1, fd] {
            call(nr::WRITE, &[int(place), flipper.address(), len]);
            call(
                nr::PWRITE,
                &[int(place), flipper.address(), len, round % 4 * len],
            );
            call(nr::WRITE, &[int(place), flipper.address(), len / 2]);
            call(
                nr::WRITE,
                &[int(place), flipper.address() + len / 2, len - len / 2],
            );
        }
        if round % 64 == 0 {
            call(nr::WRITE, &[int(writer), flipper.address(), len]);
            let _ = sys::read(reader, &mut [0; 40]);
        }
        close(fd);
    }
    flipper.stop()?;
    stage.still_served()
}

fn flipped_vectors(stage: &Stage) -> Outcome {
    let page = Shared::new()?;
    page.put(1024, PLAIN);
    page.put(2048, MARK);
    let pair = |at: u64, len: u64| [at.to_le_bytes(), len.to_le_bytes()].concat();
    let vector = |at: usize, len: u64| pair(page.address(at), len);
    let whole = MARK.len() as u64;
    let good = [vector(1024, whole), vector(1024, 4), vector(1024, 0)].concat();
    let bad = [
        vector(2048, whole),
        vector(2048, 1 << 40),
        pair(1 << 40, 4000),
    ]
    .concat();
    let flipper = Flipper::start_in(page, &good, &bad)?;
    let place = flipper.address();
    for round in 0..stage.tries / 4 {
        let path = format!("/open/vectors{}.log\0", round % 16);
        let args = [address(path.as_ptr()), int(O_CREAT | O_RDWR), 0o644];
        let fd = call(nr::OPEN, &args);
        for count in [1, 2, 3] {
            call(nr::WRITEV, &[int(fd), place, count]);
            call(296, &[int(fd), place, count, 0]);
            call(nr::WRITEV, &[1, place, count]);
            call(nr::LSEEK, &[int(fd), 0, 0]);
            call(nr::READV, &[int(fd), place, count]);
            // What was read stands where it was to be written from.
            page.put(2048, MARK);
            page.put(1024, PLAIN);
        }
        close(fd);
    }
    flipper.stop()?;
    stage.still_served()
}

fn flipped_headers(stage: &Stage) -> Outcome {
    let page = Shared::new()?;
    page.put(1024, PLAIN);
    page.put(1088, MARK);
    let vector = |at: usize, len: u64| [page.address(at).to_le_bytes(), len.to_le_bytes()].concat();
    page.put(1280, &vector(1024, 40));
    page.put(1296, &vector(1088, 40));
    let header = |vectors: usize, count: u64, name: u64, control: u64| {
        [
            name,
            if name == 0 { 0 } else { 16 },
            page.address(vectors),
            count,
            control,
            if control == 0 { 0 } else { 24 },
            0,
        ]
        .map(u64::to_le_bytes)
        .concat()
    };
    page.put(1408, &loopback(9));
    let good = header(1280, 1, 0, 0);
    let bad = header(1296, 1 << 33, page.address(1408), page.address(1408));
    let flipper = Flipper::start_in(page, &good, &bad)?;
    let world = World::new("headers", false)?;
    let place = flipper.address();
    for _ in 0..stage.tries / 4 {
        for fd in [world.pair[0], world.pair[1], world.datagram] {
            call(nr::SENDMSG, &[int(fd), place, 0x40]);
            call(nr::RECVMSG, &[int(fd), place, 0x40]);
        }
        page.put(1024, PLAIN);
        page.put(1088, MARK);
    }
    flipper.stop()?;
    stage.still_served()
}

/// Datagrams to a peer that may be told in the clear, or to one that may not: at the port of the
/// second nothing arrives in the clear, and what may not be told there is not.
fn flipped_peer(stage: &Stage) -> Outcome {
    let [plain, sealed] = stage.ports;
    let flipper = Flipper::start(&loopback(plain), &loopback(sealed))?;
    let place = flipper.address();
    let text = address(MARK.as_ptr());
    let len = MARK.len() as u64;
    for _ in 0..stage.tries / 4 {
        let socket = call(nr::SOCKET, &[2, 2, 0]);
        call(nr::SENDTO, &[int(socket), text, len, 0x40, place, 16]);
        call(nr::CONNECT, &[int(socket), place, 16]);
        call(nr::SENDTO, &[int(socket), text, len, 0x40, 0, 0]);
        call(nr::WRITE, &[int(socket), text, len]);
        call(nr::SENDTO, &[int(socket), text, len, 0x40, place, 16]);
        close(socket);
    }
    flipper.stop()?;
    stage.still_served()
}

/// Every call, while another cage writes nonsense over all that its arguments point to.
fn flipped_structures(stage: &Stage) -> Outcome {
    let world = World::new("structures", true)?;
    let arena = world.arena;
    let page = Shared::new()?;
    let child = forked(|| {
        let mut dice = Dice::new(5);
        let mut maker = call(GETPPID, &[]);
        let first = maker;
        // It ends with who forked it, too.
        while page.word(0).load(Ordering::Relaxed) == 0 && maker == first {
            maker = call(GETPPID, &[]);
            let slot = dice.roll(8) as usize;
            let at = dice.pick(&[0, 8, 16, 24, 32, 40, 48, 1024, 1032]);
            let inside = arena.address(slot);
            let words = [
                0,
                1,
                u64::MAX,
                1 << 31,
                1 << 32,
                inside,
                inside + 4090,
                0x40,
            ];
            arena.put(slot, at, &dice.pick(&words).to_le_bytes());
        }
        0
    })?;
    for _ in 0..stage.tries.div_ceil(40) {
        for entry in served().filter(|entry| !entry.is_of_the_thread()) {
            // What would wait by what the other writes, or end what is needed here, as a timer
            // does; and what reads to where the other says, which may be this program's own data.
            if matches!(
                entry.nr,
                3 | 10 | 11 | 19 | 23 | 35 | 38 | 47 | 61 | 130 | 202 | 270 | 295
            ) {
                continue;
            }
            call(entry.nr, &world.arguments(entry));
        }
    }
    page.word(0).store(1, Ordering::Relaxed);
    wait_well(child)?;
    stage.still_served()
}

fn flipped_exec(stage: &Stage) -> Outcome {
    let page = Shared::new()?;
    page.put(1024, b"/bin/hello.cwasm\0");
    page.put(1088, b"/bin/nothing.cwasm\0");
    let good = [page.address(1024), page.address(1024), 0, 0]
        .map(u64::to_le_bytes)
        .concat();
    let bad = [page.address(1088), 1 << 45, u64::MAX, page.address(1024)]
        .map(u64::to_le_bytes)
        .concat();
    let flipper = Flipper::start_in(page, &good, &bad)?;
    let place = flipper.address();
    for _ in 0..stage.tries.div_ceil(40) {
        let child = forked(|| {
            call(nr::EXECVE, &[page.address(1024), place, place]);
            0
        })?;
        wait(child)?;
    }
    flipper.stop()?;
    stage.still_served()
}

/// Whatever several cages do to one file, there is nothing in it in the clear, and it opens.
fn one_file(stage: &Stage) -> Outcome {
    let mut children = Vec::new();
    for strand in 0..3 {
        let rounds = stage.tries / 8;
        children.push(forked(|| {
            let mut dice = Dice::new(100 + strand);
            let path = c"/open/one.log";
            for _ in 0..rounds {
                let fd = open(path, O_CREAT | O_RDWR, 0o644);
                match dice.roll(8) {
                    0 => drop(call(nr::FTRUNCATE, &[int(fd), dice.roll(20_000)])),
                    1 => drop(path_call(nr::RENAME, path, &[here(c"/open/two.log")])),
                    2 => drop(path_call(nr::RENAME, c"/open/two.log", &[here(path)])),
                    3 => drop(path_call(76, path, &[dice.roll(9000)])),
                    4 => drop(path_call(nr::LINK, path, &[here(c"/open/two.log")])),
                    5 => drop(path_call(nr::UNLINK, c"/open/two.log", &[])),
                    _ => {}
                }
                let at = dice.roll(15_000);
                let text = address(MARK.as_ptr());
                call(nr::PWRITE, &[int(fd), text, MARK.len() as u64, at]);
                let _ = sys::read(fd, &mut [0; 512]);
                close(fd);
            }
            0
        })?);
    }
    children.into_iter().try_for_each(wait_well)?;
    stage.still_served()
}

fn descriptors_and_forks(stage: &Stage) -> Outcome {
    for round in 0..stage.tries.div_ceil(100) {
        let path = format!("/open/shared{round}.log\0");
        let args = [address(path.as_ptr()), int(O_CREAT | O_RDWR), 0o644];
        let fd = call(nr::OPEN, &args);
        let mut children = Vec::new();
        for strand in 0..3 {
            children.push(forked(|| {
                let mut dice = Dice::new(round * 10 + strand + 1);
                let mut last = fd;
                for _ in 0..30 {
                    match dice.roll(6) {
                        0 => last = call(nr::DUP, &[int(fd)]),
                        1 => last = call(nr::DUP2, &[int(fd), 20 + dice.roll(4)]),
                        2 => drop(close(last)),
                        3 => drop(forked(|| write(fd, MARK) & 1).and_then(wait)),
                        _ => drop(write(last, MARK)),
                    }
                }
                0
            })?);
        }
        close(fd);
        children.into_iter().try_for_each(wait_well)?;
    }
    stage.still_served()
}
