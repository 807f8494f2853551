//! What hostile programs are made of: the gate with every number, cage and address of their choice.

use cage_libc::sys::{self, address, nr};
use std::ffi::CStr;
use std::sync::atomic::{AtomicU64, Ordering};

pub use cage_libc::sys::{Arg, UNUSED};

/// How an attempt went: `Err` says what should not have happened.
pub type Outcome = Result<(), String>;

pub const EPERM: i32 = -1;
pub const ENOENT: i32 = -2;
pub const ESRCH: i32 = -3;
pub const EIO: i32 = -5;
pub const EFAULT: i32 = -14;
pub const EACCES: i32 = -13;
pub const ENOSYS: i32 = -38;
pub const ELOOP: i32 = -40;
/// What 1002 answers, and 1003 for a table that is not there.
pub const ABORTED: i32 = 0xE001_0001_u32 as i32;
/// What 1001 and 1003 answer for a cage that is gone.
pub const GONE: i32 = 0xE001_0002_u32 as i32;

pub const REGISTER: u32 = 1001;
pub const COPY_DATA: u32 = 1002;
pub const COPY_TABLE: u32 = 1003;
/// What is named as handler to take a registration back.
pub const DEREGISTER: u64 = 500;
/// What a grate marks its own memory with, in Lind's libc.
pub const FLAG: u64 = 1 << 63;

pub const O_WRONLY: i32 = 1;
pub const O_RDWR: i32 = 2;
pub const O_CREAT: i32 = 0o100;
pub const O_TRUNC: i32 = 0o1000;
pub const O_APPEND: i32 = 0o2000;
pub const O_DIRECTORY: i32 = 0o200000;
pub const O_PATH: i32 = 0o10000000;
pub const AT_FDCWD: i32 = -100;

/// What must not be on a disk below crypt-grate, nor in what comes out of write-filter-grate.
pub const MARK: &[u8] = b"4417-PLAIN-TEXT of jane.doe@example.com\n";

/// Whether the runtime is as narrow as Lind: only there addresses have a base.
pub fn strict() -> bool {
    sys::base() != 0
}

pub fn int(value: i32) -> u64 {
    i64::from(value) as u64
}

pub fn arg(value: u64, cage: u64) -> Arg {
    Arg { value, cage }
}

/// An argument of this cage.
pub fn own(value: u64) -> Arg {
    arg(value, sys::own_id())
}

/// A call as `who`, for `target`, with those arguments.
pub fn raw_as(who: u64, number: u32, target: u64, args: &[Arg]) -> i32 {
    let mut a = [own(UNUSED); 6];
    a[..args.len()].copy_from_slice(args);
    let unwinds = matches!(number, nr::CLONE | nr::EXECVE | 60 | nr::EXIT_GROUP);
    // SAFETY: addresses are those of live buffers, of pages that belong to nothing of this
    // program, or must be refused.
    unsafe {
        if unwinds && who == target {
            sys::call_3i_unwinding(number, who, target, &a)
        } else {
            sys::call_3i(number, who, target, &a)
        }
    }
}

/// A call of this cage for `target`, with those arguments.
pub fn raw(number: u32, target: u64, args: &[Arg]) -> i32 {
    raw_as(sys::own_id(), number, target, args)
}

/// An ordinary call of this cage.
pub fn call(number: u32, args: &[u64]) -> i32 {
    let mut full = [own(UNUSED); 6];
    for (slot, value) in full.iter_mut().zip(args) {
        slot.value = *value;
    }
    raw(number, sys::own_id(), &full)
}

pub fn path_call(number: u32, path: &CStr, rest: &[u64]) -> i32 {
    let mut args = vec![address(path.as_ptr())];
    args.extend_from_slice(rest);
    call(number, &args)
}

pub fn open(path: &CStr, flags: i32, mode: u32) -> i32 {
    path_call(nr::OPEN, path, &[int(flags), u64::from(mode)])
}

pub fn write(fd: i32, bytes: &[u8]) -> i32 {
    let args = [int(fd), address(bytes.as_ptr()), bytes.len() as u64];
    call(nr::WRITE, &args)
}

pub fn close(fd: i32) -> i32 {
    call(nr::CLOSE, &[int(fd)])
}

/// The cage above: the grate, where there is one.
pub fn parent() -> u64 {
    call(110, &[]).max(0) as u64
}

/// A pipe, and the same on each side of a fork: who reads waits until who writes has ended or
/// written.
pub fn pipe() -> Result<(i32, i32), String> {
    sys::pipe2(0).map_err(|errno| format!("pipe: {errno:?}"))
}

/// Runs `work` in a child.
pub fn forked(work: impl FnOnce() -> i32) -> Result<i32, String> {
    match sys::fork() {
        Ok(0) => sys::exit(work()),
        Ok(child) => Ok(child),
        Err(errno) => Err(format!("fork: {errno:?}")),
    }
}

/// Waits for a child's end and answers its status.
pub fn wait(child: i32) -> Result<i32, String> {
    loop {
        match sys::waitpid(child, 0) {
            Ok((_, status)) => return Ok(status),
            Err(sys::Errno(4)) => {}
            Err(errno) => return Err(format!("wait: {errno:?}")),
        }
    }
}

/// Waits for the end of a child that may have made itself one that never ends: it is killed after a while.
pub fn wait_or_kill(child: i32) -> Outcome {
    const WNOHANG: i32 = 1;
    const A_WHILE: u64 = 3000;
    for _ in 0..A_WHILE / 5 {
        match sys::waitpid(child, WNOHANG) {
            Ok((0, _)) | Err(sys::Errno(4)) => pause(5),
            Ok(_) => return Ok(()),
            Err(errno) => return Err(format!("wait: {errno:?}")),
        }
    }
    expect("kill", call(nr::KILL, &[child as u64, 9]), &[0])?;
    wait(child).map(drop)
}

/// Waits for a child that is to end with 0.
pub fn wait_well(child: i32) -> Outcome {
    match wait(child)? {
        0 => Ok(()),
        status => Err(format!("a child ended with {status:#x}")),
    }
}

/// Fails unless `got` is one of `wanted`.
pub fn expect(what: impl AsRef<str>, got: i32, wanted: &[i32]) -> Outcome {
    if wanted.contains(&got) {
        return Ok(());
    }
    Err(format!("{}: {got} instead of {wanted:?}", what.as_ref()))
}

/// All that went wrong, in one.
pub fn all(outcomes: impl IntoIterator<Item = Outcome>) -> Outcome {
    let wrong: Vec<String> = outcomes.into_iter().filter_map(Result::err).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(wrong.join("\n"))
}

/// Fresh memory, of the caller's own or shared with what it forks, with nothing behind it: who
/// writes beyond its end writes nowhere.
pub fn fenced(len: usize, shared: bool) -> Result<*mut u8, String> {
    const FENCE: u64 = 4096;
    let flags = if shared { 0x21 } else { 0x22 };
    let args = [0, len as u64 + FENCE, 3, flags, int(-1), 0];
    let offset = match call(nr::MMAP, &args) {
        error @ -4095..=-1 => return Err(format!("memory: {error}")),
        offset => offset as u32,
    };
    let end = sys::base() + u64::from(offset) + len as u64;
    expect("a fence", call(nr::MUNMAP, &[end, FENCE]), &[0])?;
    Ok(offset as usize as *mut u8)
}

/// A page that children share.
#[derive(Clone, Copy)]
pub struct Shared(*mut u8);

impl Shared {
    pub const LEN: usize = 4096;

    pub fn new() -> Result<Self, String> {
        fenced(Self::LEN, true).map(Self)
    }

    pub fn address(self, at: usize) -> u64 {
        address(self.0) + at as u64
    }

    /// A word of it that every cage may change at any time.
    pub fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at + 8 <= Self::LEN);
        // SAFETY: inside the page, aligned, and never unmapped; zeros are a valid value.
        unsafe { &*self.0.add(at).cast() }
    }

    pub fn put(&self, at: usize, bytes: &[u8]) {
        assert!(at.is_multiple_of(8));
        for (index, chunk) in bytes.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            let word = u64::from_le_bytes(word);
            self.word(at + 8 * index).store(word, Ordering::Relaxed);
        }
    }
}

/// A child that writes one text, then another, over the beginning of a shared page, until it is
/// stopped.
pub struct Flipper {
    pub page: Shared,
    child: i32,
}

impl Flipper {
    /// Where it is told to stop.
    const STOP: usize = Shared::LEN - 8;
    const ROUNDS: usize = Shared::LEN - 16;

    pub fn start(good: &[u8], bad: &[u8]) -> Result<Self, String> {
        let page = Shared::new()?;
        Self::start_in(page, good, bad)
    }

    pub fn start_in(page: Shared, good: &[u8], bad: &[u8]) -> Result<Self, String> {
        page.put(0, good);
        let child = forked(|| {
            let mut pause = 1u32;
            while page.word(Self::STOP).load(Ordering::Relaxed) == 0 {
                for text in [bad, good] {
                    page.put(0, text);
                    // Of any phase.
                    pause = pause.wrapping_mul(1_103_515_245).wrapping_add(12345);
                    for _ in 0..(pause >> 25) {
                        core::hint::black_box(pause);
                    }
                }
                page.word(Self::ROUNDS).fetch_add(1, Ordering::Relaxed);
            }
            0
        })?;
        while page.word(Self::ROUNDS).load(Ordering::Relaxed) == 0 {
            call(nr::SCHED_YIELD, &[]);
        }
        Ok(Self { page, child })
    }

    pub fn address(&self) -> u64 {
        self.page.address(0)
    }

    pub fn stop(self) -> Outcome {
        self.page.word(Self::STOP).store(1, Ordering::Relaxed);
        wait_well(self.child)
    }
}

/// Sleeps. No outcome depends on how long.
pub fn pause(milliseconds: u64) {
    std::thread::sleep(std::time::Duration::from_millis(milliseconds));
}
