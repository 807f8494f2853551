//! How grates keep each other out of a file while one changes it, and what becomes of flock(2).
//!
//! The lock of choice belongs to the open file description ([`Kind::OpenFile`]): it touches no lock
//! of a program. Not every runtime passes it on. Where one does not, two others do its work
//! together ([`Kind::Flock`]): flock(2) keeps out who does the same, and can't be lost; a record
//! lock of the process, on the same byte, keeps out those with the first kind. The latter ends when
//! anybody in the process closes the same file, so it is the weaker one.
//!
//! flock(2) is then no more the programs' own: theirs are kept here, for the cages of this grate.

use super::kernel::{self, Flock, int, value};
use super::state;
use super::state::{OpenFile, Opened, State, lock};
use grate_rs::constants::{SYS_CLOCK_NANOSLEEP, SYS_FCNTL, SYS_FLOCK, error, fs};
use grate_rs::{CageFd, Call, Errno, getcageid, own_buffer};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// Where the lock lies that grates keep each other out with: the last byte that a file could have.
const PLACE: i64 = i64::MAX;

/// What the runtime below has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Locks of the open file description.
    OpenFile,
    /// flock(2) and record locks of the process.
    Flock,
}

static KIND: OnceLock<Kind> = OnceLock::new();

fn kind() -> Kind {
    KIND.get().copied().unwrap_or(Kind::OpenFile)
}

/// Finds out which kind there is, by a question about a file of the grate's own. Once, before the
/// first lock; further files change nothing.
pub fn probe(own: CageFd) {
    if KIND.get().is_some() {
        return;
    }
    let mut asked = range(fs::F_RDLCK).to_bytes();
    let args = [
        own.arg(),
        int(own.cage, fs::F_OFD_GETLK),
        int(own.cage, 0),
        own_buffer(asked.as_mut_ptr()),
    ];
    // EFAULT: the runtime passes an address with some commands only, and this is none of them.
    let missing = [error::EFAULT, error::EINVAL, error::ENOSYS, error::ENOTSUP];
    let kind = match kernel::call(SYS_FCNTL, own.cage, &args) {
        Err(Errno(errno)) if missing.contains(&errno) => Kind::Flock,
        _ => Kind::OpenFile,
    };
    let _ = KIND.set(kind);
}

fn range(kind: i16) -> Flock {
    Flock {
        kind,
        start: PLACE,
        len: 1,
        ..Flock::default()
    }
}

/// Waits for the grates' lock on a file, or gives it back: F_RDLCK, F_WRLCK or F_UNLCK.
///
/// # Errors
/// As fcntl(2) and flock(2). There is no lock then that was not there before.
pub fn set(fd: CageFd, mode: i16) -> Result<(), Errno> {
    if kind() == Kind::OpenFile {
        return record_lock(fd, fs::F_OFD_SETLKW, mode);
    }
    if mode == fs::F_UNLCK {
        let first = record_lock(fd, fs::F_SETLK, mode);
        return flock_file(fd, fs::LOCK_UN).and(first);
    }
    let shared = mode == fs::F_RDLCK;
    flock_file(fd, if shared { fs::LOCK_SH } else { fs::LOCK_EX })?;
    record_lock(fd, fs::F_SETLKW, mode).inspect_err(|_| {
        // It ends with the descriptor at the latest.
        let _ = flock_file(fd, fs::LOCK_UN);
    })
}

/// Our runtime's own: a lock that is given back a little later, and may be taken again until then.
const TAKE_LOCK: u64 = 1105;
const GIVE_LOCK: u64 = 1106;
/// As pwrite, if the lock was kept until now.
const PWRITE_KEPT: u64 = 1110;

/// Whether there are such calls. They are for a grate that has none below it that wants to know of locks.
static IS_KEPT: AtomicBool = AtomicBool::new(true);

/// Whether they are for that descriptor: those of the grate's own are soon closed.
fn is_kept(fd: CageFd) -> bool {
    cage_libc::sys::base() == 0 && fd.cage != getcageid() && IS_KEPT.load(Ordering::Relaxed)
}

/// Waits for the grates' lock on a file, to write. Answers whether this grate has had it since
/// [`give`].
///
/// # Errors
/// As [`set`].
pub fn take(fd: CageFd) -> Result<bool, Errno> {
    if is_kept(fd) {
        loop {
            match kernel::call(TAKE_LOCK, fd.cage, &[fd.arg()]) {
                Ok(alone) => return Ok(alone == 1),
                Err(Errno(error::EINTR)) => {}
                Err(Errno(error::EINVAL | error::ENOTSUP)) => return Ok(false),
                Err(Errno(error::ENOSYS)) => break,
                Err(other) => return Err(other),
            }
        }
        IS_KEPT.store(false, Ordering::Relaxed);
    }
    set(fd, fs::F_WRLCK).map(|()| false)
}

/// Gives back what [`take`] took, soon.
///
/// # Errors
/// As [`set`].
pub fn give(fd: CageFd) -> Result<(), Errno> {
    if is_kept(fd) {
        return kernel::call(GIVE_LOCK, fd.cage, &[fd.arg()]).map(drop);
    }
    set(fd, fs::F_UNLCK)
}

/// Writes at an offset if this grate has had the lock since [`give`]. Answers how much; `None` where it has not.
///
/// # Errors
/// As pwrite(2).
pub fn write_kept(fd: CageFd, bytes: &[u8], offset: u64) -> Result<Option<i32>, Errno> {
    if !is_kept(fd) {
        return Ok(None);
    }
    let args = [
        fd.arg(),
        own_buffer(bytes.as_ptr()),
        value(fd.cage, bytes.len() as u64),
        value(fd.cage, offset),
    ];
    match kernel::call(PWRITE_KEPT, fd.cage, &args) {
        Err(Errno(error::ENOLCK)) => Ok(None),
        Err(Errno(error::ENOSYS)) => {
            // What is kept is of no use then.
            IS_KEPT.store(false, Ordering::Relaxed);
            Ok(None)
        }
        written => written.map(Some),
    }
}

fn record_lock(fd: CageFd, command: i32, mode: i16) -> Result<(), Errno> {
    let bytes = range(mode).to_bytes();
    let args = [
        fd.arg(),
        int(fd.cage, command),
        int(fd.cage, 0),
        own_buffer(bytes.as_ptr()),
    ];
    uninterrupted(|| kernel::call(SYS_FCNTL, fd.cage, &args))
}

fn flock_file(fd: CageFd, operation: i32) -> Result<(), Errno> {
    let args = [fd.arg(), int(fd.cage, operation)];
    uninterrupted(|| kernel::call(SYS_FLOCK, fd.cage, &args))
}

fn uninterrupted(call: impl Fn() -> Result<i32, Errno>) -> Result<(), Errno> {
    loop {
        match call() {
            Err(Errno(error::EINTR)) => {}
            // Where the system below has no such locks, runs have to be kept apart by others.
            Ok(_) | Err(Errno(error::EINVAL | error::ENOSYS | error::ENOTSUP)) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
}

/// The lock that a program has on an open file by flock(2), where the grate keeps it.
#[derive(Debug, Default)]
pub struct ProgramLock(AtomicU8);

impl ProgramLock {
    const NONE: u8 = 0;
    const SHARED: u8 = 1;
    const EXCLUSIVE: u8 = 2;

    fn get(&self) -> u8 {
        self.0.load(Ordering::Acquire)
    }

    fn set(&self, mode: u8) {
        self.0.store(mode, Ordering::Release);
    }

    fn is_against(&self, mode: u8) -> bool {
        let others = self.get();
        others == Self::EXCLUSIVE || (others == Self::SHARED && mode == Self::EXCLUSIVE)
    }
}

/// flock: descriptor, operation.
pub fn flock(call: &Call) -> Result<i32, Errno> {
    let fd = CageFd::of(call, 0);
    let open = match kind() {
        Kind::OpenFile => None,
        // Not held: it may wait for long.
        Kind::Flock => state().hold_file(fd)?.1,
    };
    let Some(open) = open else {
        return kernel::pass(call, 0);
    };
    let operation = call.int(1);
    let mode = match operation & !fs::LOCK_NB {
        fs::LOCK_SH => ProgramLock::SHARED,
        fs::LOCK_EX => ProgramLock::EXCLUSIVE,
        fs::LOCK_UN => ProgramLock::NONE,
        _ => return Err(Errno(error::EINVAL)),
    };
    while !lock_for_program(state(), &open, mode) {
        if operation & fs::LOCK_NB != 0 {
            return Err(Errno(error::EWOULDBLOCK));
        }
        nap(fd.cage)?;
    }
    Ok(0)
}

/// Gives the lock to an open file if no other of the same file is against it. What it had is given
/// up for it, as the kernel does.
fn lock_for_program(state: &State, open: &Arc<OpenFile>, mode: u8) -> bool {
    static DECIDING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = lock(&DECIDING);
    open.program_lock.set(ProgramLock::NONE);
    let is_against = |opened: &Opened| {
        matches!(opened, Opened::File(other)
            if Arc::ptr_eq(&other.file, &open.file) && other.program_lock.is_against(mode))
    };
    let free = mode == ProgramLock::NONE || state.descriptors.all_where(is_against).is_empty();
    if free {
        open.program_lock.set(mode);
    }
    free
}

/// Sleeps a little, for a cage: a call of it that is to end ends here.
fn nap(cage: u64) -> Result<(), Errno> {
    const CLOCK_MONOTONIC: i32 = 1;
    // Seconds and nanoseconds.
    let time = [0u64, 5_000_000];
    let args = [
        int(cage, CLOCK_MONOTONIC),
        int(cage, 0),
        own_buffer(time.as_ptr()),
        value(cage, 0),
    ];
    kernel::call(SYS_CLOCK_NANOSLEEP, cage, &args).map(drop)
}
