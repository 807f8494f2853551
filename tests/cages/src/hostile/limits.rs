//! More of everything than there is: what a program gets then, and that its grates go on.

use super::gate::*;
use super::{Attempt, Stage};
use cage_libc::sys::{self, address, nr};

pub const ATTEMPTS: &[Attempt] = &[
    ("descriptors that run out: files", |stage| {
        descriptors(stage, files)
    }),
    ("descriptors that run out: pipes", |stage| {
        descriptors(stage, pipes)
    }),
    ("descriptors that run out: sockets", |stage| {
        descriptors(stage, sockets)
    }),
    ("descriptors that run out: epoll and copies", |stage| {
        descriptors(stage, copies)
    }),
    ("descriptors of many cages", many_cages),
    ("mappings that run out", mappings),
    ("shared mappings that run out", shared_mappings),
    ("memory that runs out", memory),
    ("a break beyond everything", breaks),
    ("forks without an end", forks),
    ("forks of forks", fork_tree),
    ("a file that may not grow", file_limit),
    ("handlers without an end", handlers),
    ("waiting for much", watches),
    ("signals to everyone", signals),
];

const EAGAIN: i32 = -11;
const ENOMEM: i32 = -12;
const EMFILE: i32 = -24;
const ENFILE: i32 = -23;
const EFBIG: i32 = -27;
const EINVAL: i32 = -22;

/// More than any limit.
const MANY: u64 = 200_000;

fn until_refused(
    what: &str,
    most: u64,
    wanted: &[i32],
    mut one: impl FnMut(u64) -> i32,
) -> Outcome {
    for round in 0..most {
        let got = one(round);
        if got < 0 {
            return expect(format!("{what}, after {round}"), got, wanted);
        }
    }
    Err(format!("{what}: no limit in {most}"))
}

fn files(round: u64) -> i32 {
    let path = format!("/open/many{}.log\0", round % 8);
    let args = [address(path.as_ptr()), int(O_CREAT | O_RDWR), 0o644];
    call(nr::OPEN, &args)
}

fn pipes(_: u64) -> i32 {
    sys::pipe2(0).map_or_else(|errno| -errno.0, |(_, writer)| writer)
}

fn sockets(round: u64) -> i32 {
    let kind = 1 + round % 2;
    call(nr::SOCKET, &[2, kind, 0])
}

fn copies(round: u64) -> i32 {
    match round % 3 {
        0 => call(nr::EPOLL_CREATE1, &[0]),
        1 => call(nr::DUP, &[1]),
        _ => call(nr::FCNTL, &[1, 0, 0]),
    }
}

fn descriptors(stage: &Stage, one: fn(u64) -> i32) -> Outcome {
    // Open from before, and open no more.
    let kept = open(c"/open/kept.log", O_CREAT | O_RDWR, 0o644);
    until_refused("descriptors", MANY, &[EMFILE], one)?;
    let fresh = open(c"/open/fresh.log", O_CREAT | O_RDWR, 0o644);
    expect("one more", fresh, &[EMFILE])?;
    expect("what was open", write(kept, MARK), &[MARK.len() as i32])?;
    expect("the output", write(1, MARK), &[MARK.len() as i32])?;
    expect(
        "truncate",
        path_call(76, c"/open/kept.log", &[5]),
        &[0, EMFILE],
    )?;
    let child = forked(|| {
        let made = write(kept, MARK) == MARK.len() as i32;
        close(kept);
        let again = open(c"/open/kept.log", O_RDWR, 0);
        i32::from(!made || write(again, MARK) != MARK.len() as i32)
    })?;
    wait_well(child)?;
    for fd in 3..1_000_000 {
        if close(fd) < 0 && fd > 2000 {
            break;
        }
    }
    stage.still_served()
}

/// Each at its limit: then the process is at its own, and grates work on.
fn many_cages(stage: &Stage) -> Outcome {
    let mut idle = Vec::new();
    let mut refused = 0;
    for _ in 0..24 {
        let Ok((report, told)) = sys::pipe2(0) else {
            break;
        };
        let Ok((wait_for, latch)) = sys::pipe2(0) else {
            break;
        };
        let child = forked(|| {
            close(latch);
            let mut last = 0;
            for round in 0..MANY {
                last = if round % 2 == 0 {
                    files(round)
                } else {
                    pipes(round)
                };
                if last < 0 {
                    break;
                }
            }
            let fine = [EMFILE, ENFILE, EAGAIN, ENOMEM].contains(&last);
            write(told, &[u8::from(!fine)]);
            while sys::read(wait_for, &mut [0; 1]) == Err(sys::Errno(4)) {}
            write(1, MARK);
            0
        })?;
        close(told);
        close(wait_for);
        let mut verdict = [9];
        let _ = sys::read(report, &mut verdict);
        close(report);
        refused += i32::from(verdict[0] != 0);
        idle.push((child, latch));
    }
    for (_, latch) in &idle {
        close(*latch);
    }
    for (child, _) in idle {
        wait(child)?;
    }
    expect(
        "cages told of something else than their limit",
        refused,
        &[0],
    )?;
    stage.still_served()
}

fn map(at: u64, len: u64, prot: u64, flags: u64) -> i32 {
    call(nr::MMAP, &[at, len, prot, flags, int(-1), 0])
}

fn failed(result: i32) -> bool {
    (-4095..0).contains(&result)
}

/// Pages of other protections by turns: each is a mapping of the host.
fn mappings(stage: &Stage) -> Outcome {
    let len = 512 << 20;
    let got = map(0, len, 3, 0x22);
    if failed(got) {
        return expect("half a gigabyte", got, &[ENOMEM]);
    }
    let base = sys::base();
    let start = base + u64::from(got as u32);
    let path = start + 16 * 4096;
    let protect = |at: u64, len: u64, prot: u64| call(10, &[at, len, prot]);
    let mut refused = 0;
    let mut at = start + 64 * 4096;
    while at + 8192 < start + len {
        let got = protect(at, 4096, 1);
        if got < 0 {
            expect("mprotect", got, &[ENOMEM])?;
            refused += 1;
            break;
        }
        at += 8192;
    }
    // At the limit: changes that are done by half, and calls that use what they changed.
    for _ in 0..50 {
        protect(path, 8192, 0);
        call(nr::OPEN, &[path, 0, 0]);
        call(nr::WRITE, &[1, path, 64]);
        protect(path, 4096, 3);
        call(nr::GETCWD, &[path, 4096]);
        protect(path + 4096, 8 * 4096, 1);
        call(nr::MUNMAP, &[path + 8192, 4096]);
        map(path + 8192 - base, 4096, 3, 0x32);
        protect(at, 4096, 1);
        at += 8192;
    }
    core::hint::black_box(refused);
    let fork = forked(|| 0);
    if let Ok(child) = fork {
        wait(child)?;
    }
    stage.still_served()
}

fn shared_mappings(stage: &Stage) -> Outcome {
    for _ in 0..MANY {
        let got = map(0, 4096, 3, 0x21);
        if failed(got) {
            expect("shared mappings", got, &[ENOMEM, EMFILE, ENFILE, EAGAIN])?;
            break;
        }
    }
    expect("the output", write(1, MARK), &[MARK.len() as i32])?;
    // Descriptors are another matter.
    let fd = open(c"/open/fresh.log", O_CREAT | O_RDWR, 0o644);
    expect("a file", fd.min(0), &[0])?;
    expect("a write", write(fd, MARK), &[MARK.len() as i32])?;
    stage.still_served()
}

fn memory(stage: &Stage) -> Outcome {
    const PIECE: u64 = 16 << 20;
    // In a child: it may be ended for it, and its memory is gone then.
    let child = forked(|| {
        for _ in 0..256 {
            let got = map(0, PIECE, 3, 0x22);
            if failed(got) {
                return i32::from(got != ENOMEM);
            }
            let start = got as u32 as usize as *mut u8;
            for page in 0..(PIECE / 4096) as usize {
                // SAFETY: inside of what was just mapped.
                unsafe { start.add(page * 4096).write(1) };
            }
        }
        2
    })?;
    // An address space of 4 GiB has less room than that for pieces.
    wait_well(child)?;
    stage.still_served()
}

fn breaks(stage: &Stage) -> Outcome {
    let before = call(12, &[0]);
    for wanted in [u64::MAX, 1 << 63, 1 << 33, 1 << 32, 0xffff_f000, 1, 4096] {
        let got = call(12, &[wanted]);
        // The break as it was, or ENOMEM, as Lind has it.
        if got != before && got != ENOMEM && got as u32 as u64 != wanted {
            return Err(format!("brk({wanted:#x}): {got:#x}"));
        }
    }
    for (at, len, flags) in [
        (0, 1 << 32, 0x22),
        (0, u64::MAX, 0x22),
        (0xffff_f000, 8192, 0x32),
        (1 << 32, 4096, 0x32),
        (u64::MAX - 4095, 4096, 0x32),
        (1, 4096, 0x32),
        (0, 0, 0x22),
        (0, 4096, 0),
        (0, 4096, 3),
    ] {
        let got = map(at, len, 3, flags);
        if !failed(got) {
            return Err(format!("mmap({at:#x}, {len:#x}, {flags:#x}): {got:#x}"));
        }
    }
    stage.still_served()
}

/// As many children as there may be, all at once.
fn forks(stage: &Stage) -> Outcome {
    let (wait_for, latch) = pipe()?;
    let mut children = Vec::new();
    let refused = loop {
        if children.len() == 5_000 {
            break 0;
        }
        match sys::fork() {
            Ok(0) => {
                close(latch);
                while sys::read(wait_for, &mut [0; 1]) == Err(sys::Errno(4)) {}
                sys::exit(0)
            }
            Ok(child) => children.push(child),
            Err(errno) => break -errno.0,
        }
    };
    // The grates go on meanwhile.
    let served = stage.still_served();
    close(latch);
    for child in children {
        wait(child)?;
    }
    expect("how forks end", refused, &[EAGAIN, ENOMEM])?;
    served?;
    // And there is room again.
    wait_well(forked(|| 0)?)?;
    stage.still_served()
}

fn fork_tree(stage: &Stage) -> Outcome {
    fn grow(depth: u32) -> i32 {
        let mut children = Vec::new();
        for _ in 0..3 {
            match sys::fork() {
                Ok(0) => sys::exit(if depth == 0 { 0 } else { grow(depth - 1) }),
                Ok(child) => children.push(child),
                Err(_) => break,
            }
        }
        write(1, b".");
        for child in children {
            let _ = sys::waitpid(child, 0);
        }
        0
    }
    let child = forked(|| grow(4))?;
    wait_well(child)?;
    stage.still_served()
}

/// The fixture lets no file become longer than 64 KiB.
fn file_limit(stage: &Stage) -> Outcome {
    let fd = open(c"/open/large.log", O_CREAT | O_RDWR, 0o644);
    let text = MARK.repeat(200);
    let mut refused = 0;
    for _ in 0..20 {
        refused = write(fd, &text);
        if refused < 0 {
            break;
        }
    }
    expect("a file that is full", refused, &[EFBIG])?;
    for at in [0, 1000, 40_000] {
        let args = [int(fd), address(MARK.as_ptr()), MARK.len() as u64, at];
        let got = call(nr::PWRITE, &args);
        expect(format!("a write at {at}"), got, &[MARK.len() as i32, EFBIG])?;
    }
    let got = call(nr::FTRUNCATE, &[int(fd), 1 << 30]);
    if got == 0 {
        // A sealed file's hole takes no room below; what is put into it would.
        let args = [int(fd), address(text.as_ptr()), text.len() as u64, 1 << 29];
        expect("a write in the hole", call(nr::PWRITE, &args), &[EFBIG])?;
    } else {
        expect("ftruncate", got, &[EFBIG, EINVAL])?;
    }
    stage.still_served()
}

/// A million handlers on a child.
fn handlers(stage: &Stage) -> Outcome {
    let (wait_for, latch) = pipe()?;
    let child = forked(|| {
        close(latch);
        while sys::read(wait_for, &mut [0; 1]) == Err(sys::Errno(4)) {}
        0
    })?;
    let me = sys::own_id();
    let mut outcome = Err("no limit to handlers".to_owned());
    for number in 0..1_000_000u64 {
        let args = [
            arg(child as u64, 0x10000 + number),
            arg(UNUSED, me),
            arg(super::own::seven_index(), UNUSED),
        ];
        let got = raw(REGISTER, me, &args);
        if got < 0 {
            outcome = expect(format!("after {number}"), got, &[ENOMEM, EINVAL]);
            break;
        }
    }
    close(latch);
    wait(child)?;
    outcome?;
    stage.still_served()
}

/// Everything watched by everything.
fn watches(stage: &Stage) -> Outcome {
    let mut epolls = Vec::new();
    for _ in 0..64 {
        let fd = call(nr::EPOLL_CREATE1, &[0]);
        if fd < 0 {
            break;
        }
        epolls.push(fd);
    }
    let event = [0xffu8; 12];
    for one in &epolls {
        for other in &epolls {
            let args = [int(*one), 1, int(*other), address(event.as_ptr())];
            call(nr::EPOLL_CTL, &args);
        }
        let mut place = [0u8; 12 * 64];
        let args = [int(*one), address(place.as_mut_ptr()), 64, 0];
        call(nr::EPOLL_WAIT, &args);
    }
    let list: Vec<u64> = epolls
        .iter()
        .map(|fd| *fd as u32 as u64 | 0xff << 32)
        .collect();
    let args = [address(list.as_ptr()), list.len() as u64, 0];
    expect("poll", call(nr::POLL, &args).min(0), &[0])?;
    stage.still_served()
}

fn signals(stage: &Stage) -> Outcome {
    let me = sys::own_id();
    let mut outcomes = Vec::new();
    for signal in (0..=66).chain([-1, i32::MIN, i32::MAX]) {
        for pid in [-1, i32::MIN, -(me as i32), i32::MAX, 4_000_000] {
            let got = call(nr::KILL, &[int(pid), int(signal)]);
            outcomes.push(expect(
                format!("kill({pid}, {signal})"),
                got,
                &[ESRCH, EPERM, EINVAL],
            ));
        }
        if let Some(grate) = stage.grate() {
            let got = call(nr::KILL, &[grate, int(signal)]);
            outcomes.push(expect(
                format!("the grate, {signal}"),
                got,
                &[EPERM, EINVAL],
            ));
        }
    }
    outcomes.push(stage.still_served());
    all(outcomes)
}
