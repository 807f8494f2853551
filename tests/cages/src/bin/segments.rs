//! `segments`: System V shared memory, as Linux has it: found by key and number, attached, shared
//! over fork, given up by exec and at the end, gone with its last attachment, and every error.

use cage_libc::sys::{self, Errno};
use std::process::ExitCode;
use std::sync::atomic::{AtomicI32, Ordering};

const SHMGET: u32 = 29;
const SHMAT: u32 = 30;
const SHMCTL: u32 = 31;
const SHMDT: u32 = 67;
const FUTEX: u32 = 202;

const IPC_PRIVATE: i32 = 0;
const IPC_CREAT: u64 = 0o1000;
const IPC_EXCL: u64 = 0o2000;
const SHM_RDONLY: u64 = 0o10000;
const SHM_RND: u64 = 0o20000;
const SHM_REMAP: u64 = 0o40000;
const SHM_EXEC: u64 = 0o100000;
const IPC_RMID: u64 = 0;
const IPC_SET: u64 = 1;
const IPC_STAT: u64 = 2;

const ENOENT: Errno = Errno(2);
const EACCES: Errno = Errno(13);
const EEXIST: Errno = Errno(17);
const EINVAL: Errno = Errno(22);
const EFAULT: Errno = Errno(14);
const ENOMEM: Errno = Errno(12);
const ENOSPC: Errno = Errno(28);

const PAGE: u64 = 4096;
const SIZE: u64 = 3 * PAGE - 100;
const KEY: i32 = 0x5eed;

type Done = Result<(), String>;

fn get(key: i32, size: u64, flags: u64) -> Result<i32, Errno> {
    // SAFETY: no address among the arguments.
    unsafe { sys::syscall(SHMGET, &[key as i64 as u64, size, flags]) }
}

/// The address is an offset, as mmap's.
fn at(id: i32, address: u64, flags: u64) -> Result<u64, Errno> {
    // SAFETY: what is mapped anew is nobody's, or this program's to give.
    let start = unsafe { sys::syscall(SHMAT, &[id as i64 as u64, address, flags]) };
    start.map(|start| u64::from(start as u32))
}

fn dt(start: u64) -> Result<i32, Errno> {
    // SAFETY: nothing uses what was attached there any more.
    unsafe { sys::syscall(SHMDT, &[sys::base() + start]) }
}

fn ctl(id: i32, command: u64, place: u64) -> Result<i32, Errno> {
    // SAFETY: the place is 0, not mapped, or one for the structure.
    unsafe { sys::syscall(SHMCTL, &[id as i64 as u64, command, place]) }
}

/// What is told of a segment.
#[derive(Default, Clone)]
#[repr(C, align(8))]
struct Told([u32; 20]);

impl Told {
    fn of(id: i32) -> Result<Self, Errno> {
        let told = Told([u32::MAX; 20]);
        ctl(id, IPC_STAT, sys::address(&raw const told))?;
        Ok(std::hint::black_box(told))
    }
    fn key(&self) -> i32 {
        self.0[0] as i32
    }
    fn mode(&self) -> u32 {
        self.0[5] & 0xffff
    }
    fn size(&self) -> u64 {
        u64::from(self.0[9])
    }
    fn maker_and_last(&self) -> (u32, u32) {
        (self.0[16], self.0[17])
    }
    fn attached(&self) -> u32 {
        self.0[18]
    }
}

fn word(start: u64) -> &'static AtomicI32 {
    // SAFETY: callers have a segment attached there, as long as they use the word.
    unsafe { &*std::ptr::with_exposed_provenance(start as usize) }
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, got: T, wanted: T) -> Done {
    if got == wanted {
        return Ok(());
    }
    Err(format!("{what}: {got:?} instead of {wanted:?}"))
}

fn text(what: &str) -> impl Fn(Errno) -> String {
    move |errno| format!("{what}: {errno:?}")
}

/// Forks, and has the child answer with a status.
fn child(work: impl FnOnce() -> Result<i32, Errno>) -> Result<i32, String> {
    match sys::fork().map_err(text("fork"))? {
        0 => sys::exit(work().unwrap_or_else(|errno| 100 + errno.0)),
        child => match sys::waitpid(child, 0) {
            Ok((_, status)) if status & 0xff == 0 => Ok(status >> 8),
            other => Err(format!("the child: {other:?}")),
        },
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        [] => life()
            .and_then(|()| shared())
            .and_then(|()| errors())
            .and_then(|()| places()),
        ["found", key] => found(key),
        ["hostile"] => hostile(),
        ["leak"] => leak(),
        // Left to the end of the run.
        ["left"] => get(KEY, SIZE, IPC_CREAT | IPC_EXCL | 0o600)
            .map(drop)
            .map_err(text("made")),
        _ => Err("what?".to_owned()),
    };
    match done {
        Ok(()) => {
            println!("segments are right");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("segments: {why}");
            ExitCode::FAILURE
        }
    }
}

fn life() -> Done {
    let id = get(KEY, SIZE, IPC_CREAT | IPC_EXCL | 0o600).map_err(text("made"))?;
    expect("found", get(KEY, SIZE, 0o600), Ok(id))?;
    expect("found without its size", get(KEY, 0, 0), Ok(id))?;
    let told = Told::of(id).map_err(text("told"))?;
    let own = sys::own_id() as u32;
    expect("key", told.key(), KEY)?;
    expect("size", told.size(), SIZE)?;
    expect("mode", told.mode(), 0o600)?;
    expect("maker", told.maker_and_last(), (own, 0))?;
    expect("attached", told.attached(), 0)?;

    let start = at(id, 0, 0).map_err(text("attached"))?;
    expect("a page", start % PAGE, 0)?;
    expect("zero at first", word(start).load(Ordering::SeqCst), 0)?;
    let second = at(id, 0, 0).map_err(text("attached again"))?;
    word(start).store(77, Ordering::SeqCst);
    expect("the same memory", word(second).load(Ordering::SeqCst), 77)?;
    let last = start + 3 * PAGE - 4;
    word(last).store(78, Ordering::SeqCst);
    let told = Told::of(id).map_err(text("told"))?;
    expect("attached twice", told.attached(), 2)?;
    expect("last", told.maker_and_last(), (own, own))?;
    expect("detached", dt(second), Ok(0))?;
    expect("detached before", dt(second), Err(EINVAL))?;
    expect(
        "attached once",
        Told::of(id).map(|told| told.attached()),
        Ok(1),
    )?;

    // Removed, it is there for those who know its number, as long as it is attached.
    expect("removed", ctl(id, IPC_RMID, 0), Ok(0))?;
    expect("not found", get(KEY, SIZE, 0), Err(ENOENT))?;
    let told = Told::of(id).map_err(text("told of a removed one"))?;
    expect("still attached", told.attached(), 1)?;
    expect("mode of a removed one", told.mode(), 0o1600)?;
    expect("key of a removed one", told.key(), IPC_PRIVATE)?;
    let other = get(KEY, PAGE, IPC_CREAT | 0o600).map_err(text("made anew"))?;
    expect("another", other == id, false)?;
    expect("removed anew", ctl(other, IPC_RMID, 0), Ok(0))?;
    expect("gone", Told::of(other).err(), Some(EINVAL))?;
    expect("kept", word(start).load(Ordering::SeqCst), 77)?;
    let second = at(id, 0, 0).map_err(text("attached a removed one"))?;
    expect("both", (dt(start), dt(second)), (Ok(0), Ok(0)))?;
    expect("gone with the last", Told::of(id).err(), Some(EINVAL))?;
    expect("attach what is gone", at(id, 0, 0), Err(EINVAL))?;
    expect("remove what is gone", ctl(id, IPC_RMID, 0), Err(EINVAL))?;

    // Those without a key are not found.
    let one = get(IPC_PRIVATE, PAGE, 0o600).map_err(text("private"))?;
    let two = get(IPC_PRIVATE, PAGE, IPC_CREAT | 0o600).map_err(text("private"))?;
    expect("two", one == two, false)?;
    expect(
        "both removed",
        (ctl(one, IPC_RMID, 0), ctl(two, IPC_RMID, 0)),
        (Ok(0), Ok(0)),
    )
}

/// Over fork, exec and the end of a cage.
fn shared() -> Done {
    const WAIT: u64 = 0;
    const WAKE: u64 = 1;
    let id = get(KEY, PAGE, IPC_CREAT | 0o600).map_err(text("made"))?;
    let start = at(id, 0, 0).map_err(text("attached"))?;
    let (turn, seen) = (word(start), word(start + 4));
    let sleep = |value: i32| {
        let place = sys::address(turn);
        // SAFETY: the word is there.
        unsafe { sys::syscall(FUTEX, &[place, WAIT, value as u64, 0, 0, 0]) }
    };
    let wake = || {
        let place = sys::address(turn);
        // SAFETY: the word is there.
        unsafe { sys::syscall(FUTEX, &[place, WAKE, 9, 0, 0, 0]) }
    };
    let forked = sys::fork().map_err(text("fork"))?;
    if forked == 0 {
        // It has it attached where its parent has, and sleeps at it.
        seen.store(
            Told::of(id).map_or(-1, |told| told.attached() as i32),
            Ordering::SeqCst,
        );
        turn.store(1, Ordering::SeqCst);
        let _ = wake();
        while turn.load(Ordering::SeqCst) == 1 {
            let _ = sleep(1);
        }
        sys::exit(turn.load(Ordering::SeqCst));
    }
    while turn.load(Ordering::SeqCst) == 0 {
        let _ = sleep(0);
    }
    expect("attached by both", seen.load(Ordering::SeqCst), 2)?;
    turn.store(5, Ordering::SeqCst);
    let _ = wake();
    let waited = sys::waitpid(forked, 0);
    expect("the child", waited, Ok((forked, 5 << 8)))?;
    expect(
        "its end detaches",
        Told::of(id).map(|told| told.attached()),
        Ok(1),
    )?;

    // Another program finds it by its key, and has nothing attached at first.
    word(start).store(4711, Ordering::SeqCst);
    let status = child(|| {
        let path = std::env::args().next().unwrap_or_default();
        let name = if path.starts_with('/') {
            path
        } else {
            format!("/bin/{path}")
        };
        let (name, key) = (format!("{name}\0"), format!("{KEY}\0"));
        let args = [name.as_ptr(), c"found".as_ptr().cast(), key.as_ptr()];
        // SAFETY: all of them end with a NUL.
        Err(unsafe { sys::execve(name.as_ptr(), &args, &[]) })
    })?;
    expect("after an exec", status, 0)?;
    expect("changed by it", word(start).load(Ordering::SeqCst), 4712)?;
    expect(
        "detached by its end",
        Told::of(id).map(|told| told.attached()),
        Ok(1),
    )?;

    // A removed one that is attached by a child alone goes with the child.
    expect("removed", ctl(id, IPC_RMID, 0), Ok(0))?;
    let status = child(|| {
        dt(start)?;
        Ok(i32::from(word_of(id)? != 4712))
    })?;
    expect("attached by number", status, 0)?;
    expect("detached", dt(start), Ok(0))?;
    expect("gone", at(id, 0, 0), Err(EINVAL))
}

fn word_of(id: i32) -> Result<i32, Errno> {
    let start = at(id, 0, SHM_RDONLY)?;
    Ok(word(start).load(Ordering::SeqCst))
}

fn found(key: &str) -> Done {
    let key = key.parse().map_err(|_| "no key")?;
    let id = get(key, 0, 0).map_err(text("found"))?;
    expect(
        "not attached by exec",
        Told::of(id).map(|told| told.attached()),
        Ok(1),
    )?;
    let start = at(id, 0, 0).map_err(text("attached"))?;
    word(start).fetch_add(1, Ordering::SeqCst);
    Ok(())
}

fn errors() -> Done {
    let nowhere = sys::base() + 0xf000_0000;
    expect("no such key", get(KEY, PAGE, 0), Err(ENOENT))?;
    expect("no bytes", get(KEY, 0, IPC_CREAT), Err(EINVAL))?;
    expect("too many bytes", get(KEY, 1 << 32, IPC_CREAT), Err(EINVAL))?;
    expect("far too many", get(KEY, u64::MAX, IPC_CREAT), Err(EINVAL))?;
    expect(
        "huge pages",
        get(KEY, PAGE, IPC_CREAT | 0o4000),
        Err(EINVAL),
    )?;
    let id = get(KEY, PAGE, IPC_CREAT | 0o400).map_err(text("made"))?;
    expect(
        "exclusive",
        get(KEY, PAGE, IPC_CREAT | IPC_EXCL | 0o400),
        Err(EEXIST),
    )?;
    expect("larger", get(KEY, PAGE + 1, 0), Err(EINVAL))?;
    expect("may be read", get(KEY, PAGE, 0o400), Ok(id))?;
    expect("may not be written", get(KEY, PAGE, 0o600), Err(EACCES))?;
    expect("attached to write", at(id, 0, 0), Err(EACCES))?;
    expect("to run", at(id, 0, SHM_RDONLY | SHM_EXEC), Err(EACCES))?;
    let start = at(id, 0, SHM_RDONLY).map_err(text("attached to read"))?;
    let read = sys::read(0, &mut []);
    expect("an empty read", read.is_ok(), true)?;
    expect("told elsewhere", ctl(id, IPC_STAT, nowhere), Err(EFAULT))?;
    expect(
        "told nowhere",
        ctl(id, IPC_STAT, 0).is_err(),
        sys::base() != 0,
    )?;
    expect("set from elsewhere", ctl(id, IPC_SET, nowhere), Err(EFAULT))?;
    let mut told = Told::of(id).map_err(text("told"))?;
    told.0[5] = 0o200;
    expect(
        "set",
        ctl(id, IPC_SET, sys::address(&raw const told)),
        Ok(0),
    )?;
    expect(
        "told of what may not be read",
        Told::of(id).err(),
        Some(EACCES),
    )?;
    expect(
        "attached what may not be read",
        at(id, 0, SHM_RDONLY),
        Err(EACCES),
    )?;
    told.0[1] = u32::MAX;
    expect(
        "nobody's",
        ctl(id, IPC_SET, sys::address(&raw const told)),
        Err(EINVAL),
    )?;
    for command in [3, 11, 12, 13, 14, 15, 0x102, u64::MAX] {
        expect(
            "another command",
            ctl(id, command, sys::address(&raw const told)),
            Err(EINVAL),
        )?;
    }
    for bad in [-1, 0, id + 1, i32::MAX, i32::MIN] {
        expect("attach no segment", at(bad, 0, 0), Err(EINVAL))?;
        expect("remove no segment", ctl(bad, IPC_RMID, 0), Err(EINVAL))?;
        expect(
            "set no segment",
            ctl(bad, IPC_SET, sys::address(&raw const told)),
            Err(EINVAL),
        )?;
        expect("told of no segment", Told::of(bad).err(), Some(EINVAL))?;
    }
    expect("detach no address", dt(start + 1), Err(EINVAL))?;
    expect("detach nothing", dt(start + PAGE), Err(EINVAL))?;
    expect("detach far away", dt(u64::MAX - sys::base()), Err(EINVAL))?;
    expect("detach the first page", dt(0), Err(EINVAL))?;
    expect("detach", dt(start), Ok(0))?;
    expect("remove", ctl(id, IPC_RMID, 0), Ok(0))
}

fn places() -> Done {
    let id = get(KEY, SIZE, IPC_CREAT | 0o600).map_err(text("made"))?;
    let start = at(id, 0, 0).map_err(text("attached"))?;
    expect("over itself", at(id, start, 0), Err(EINVAL))?;
    expect("half over itself", at(id, start - PAGE, 0), Err(EINVAL))?;
    expect("not a page", at(id, start + 8, 0), Err(EINVAL))?;
    expect("over itself, replaced", at(id, start, SHM_REMAP), Ok(start))?;
    expect(
        "attached once",
        Told::of(id).map(|told| told.attached()),
        Ok(1),
    )?;
    expect(
        "rounded, replaced",
        at(id, start + 8, SHM_REMAP | SHM_RND),
        Ok(start),
    )?;
    expect("replaced anywhere", at(id, 0, SHM_REMAP), Err(EINVAL))?;
    expect("replaced at 0", at(id, 8, SHM_REMAP | SHM_RND), Err(EINVAL))?;
    let below = start - 0x10_0000;
    expect("where one wants it", at(id, below, 0), Ok(below))?;
    expect("detached", dt(below), Ok(0))?;
    expect("rounded", at(id, below + 8, SHM_RND), Ok(below))?;
    expect("detached", dt(below), Ok(0))?;
    expect("over the program", at(id, 0x1_0000, 0), Err(EINVAL))?;
    for high in [0xffff_f000, 1 << 32, 1 << 40, u64::MAX - 0xfff] {
        let got = at(id, high, 0);
        expect(
            "beyond the end",
            got == Err(EINVAL) || got == Err(ENOMEM),
            true,
        )?;
        let got = at(id, high, SHM_REMAP);
        expect(
            "beyond the end, replaced",
            got == Err(EINVAL) || got == Err(ENOMEM),
            true,
        )?;
    }
    // A hole in the middle: the rest is detached by where it began.
    word(start + 2 * PAGE).store(3, Ordering::SeqCst);
    let hole = [sys::base() + start + PAGE, PAGE];
    // SAFETY: nobody uses that page.
    let unmapped = unsafe { sys::syscall(sys::nr::MUNMAP, &hole) };
    expect("a hole", unmapped, Ok(0))?;
    expect("two parts", Told::of(id).map(|told| told.attached()), Ok(2))?;
    expect("the second part", dt(start + 2 * PAGE), Err(EINVAL))?;
    expect("all that is left", dt(start), Ok(0))?;
    expect("none", Told::of(id).map(|told| told.attached()), Ok(0))?;
    // Memory that is shared otherwise is no segment.
    let anonymous = [0, PAGE, 3, 0x21, u64::MAX, 0];
    // SAFETY: a fresh mapping touches nothing that exists.
    let other = unsafe { sys::syscall(sys::nr::MMAP, &anonymous) }.map_err(text("mmap"))?;
    expect("no segment", dt(u64::from(other as u32)), Err(EINVAL))?;
    expect("removed", ctl(id, IPC_RMID, 0), Ok(0))
}

/// As many and as much as there is: the run stays whole, and all comes back.
fn hostile() -> Done {
    let mut ids = Vec::new();
    let last = loop {
        match get(IPC_PRIVATE, PAGE, 0o600) {
            Ok(id) => ids.push(id),
            Err(errno) => break errno,
        }
        if ids.len() > 5000 {
            return Err("no end of segments".to_owned());
        }
    };
    expect("too many", last, ENOSPC)?;
    for id in ids.drain(..) {
        expect("removed", ctl(id, IPC_RMID, 0), Ok(0))?;
    }
    let last = loop {
        match get(IPC_PRIVATE, 0xfeff_ffff, 0o600) {
            Ok(id) => ids.push(id),
            Err(errno) => break errno,
        }
        if ids.len() > 1000 {
            return Err("no end of memory".to_owned());
        }
    };
    expect("too much", last, ENOMEM)?;
    for id in ids {
        expect("removed", ctl(id, IPC_RMID, 0), Ok(0))?;
    }
    // One of all sizes, attached as often as the address space and the limits let it be.
    let id = get(IPC_PRIVATE, PAGE, 0o600).map_err(text("made again"))?;
    let mut places = Vec::new();
    let last = loop {
        match at(id, 0, 0) {
            Ok(start) => places.push(start),
            Err(errno) => break errno,
        }
        if places.len() > 10_000 {
            return Err("no end of attachments".to_owned());
        }
    };
    expect("too often", last, ENOMEM)?;
    expect(
        "all told",
        Told::of(id).map(|told| told.attached() as usize),
        Ok(places.len()),
    )?;
    for start in places {
        expect("detached", dt(start), Ok(0))?;
    }
    expect("removed", ctl(id, IPC_RMID, 0), Ok(0))?;
    // Children that make, attach and are killed by their own trap leave no attachment.
    let id = get(KEY, PAGE, IPC_CREAT | 0o600).map_err(text("made for children"))?;
    for _ in 0..5 {
        let forked = sys::fork().map_err(text("fork"))?;
        if forked == 0 {
            let _ = at(id, 0, 0);
            std::process::abort();
        }
        let _ = sys::waitpid(forked, 0);
    }
    expect("none left", Told::of(id).map(|told| told.attached()), Ok(0))?;
    expect("removed", ctl(id, IPC_RMID, 0), Ok(0))
}

/// Makes, attaches and removes over and over: what is given back can be had again.
fn leak() -> Done {
    const SIZE: u64 = 256 << 20;
    for round in 0..300 {
        let id = get(KEY, SIZE, IPC_CREAT | IPC_EXCL | 0o600).map_err(text("made"))?;
        let start = at(id, 0, 0).map_err(text("attached"))?;
        for page in 0..64 {
            word(start + page * (1 << 20)).store(round, Ordering::SeqCst);
        }
        expect("removed", ctl(id, IPC_RMID, 0), Ok(0))?;
        expect("detached", dt(start), Ok(0))?;
    }
    Ok(())
}
