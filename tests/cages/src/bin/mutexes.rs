//! `mutexes WHAT ARGS...`: a mutex in memory that cages share, as a C library makes it of futexes.
//! Parents, children and their threads contend for it; one that dies with it leaves it to the next,
//! once its parent has waited for it.

use cage_libc::sys::{self, Errno, address, nr};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;

type Done = Result<(), String>;

const SHMGET: u32 = 29;
const SHMAT: u32 = 30;
const SHMCTL: u32 = 31;
const IPC_CREAT: u64 = 0o1000;
const IPC_RMID: u64 = 0;
const KEY: u64 = 0x0a11_0c8d;
const SIZE: u64 = 4096;

const WAIT: u64 = 0;
const WAKE: u64 = 1;
const SIGKILL: u64 = 9;

const EPERM: Errno = Errno(1);
const EINTR: Errno = Errno(4);
const EAGAIN: Errno = Errno(11);
const EBUSY: Errno = Errno(16);
const EDEADLK: Errno = Errno(35);
const ETIMEDOUT: Errno = Errno(110);

const CHILDREN: u32 = 3;
const THREADS: u32 = 2;
/// Turns of each thread.
const TURNS: u32 = 60;

fn call(nr: u32, args: &[u64]) -> Result<i32, Errno> {
    // SAFETY: every address is of a word that stays where it is.
    unsafe { sys::syscall(nr, args) }
}

fn text(what: &str) -> impl Fn(Errno) -> String {
    move |errno| format!("{what}: {errno:?}")
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, got: T, wanted: T) -> Done {
    if got == wanted {
        return Ok(());
    }
    Err(format!("{what}: {got:?} instead of {wanted:?}"))
}

/// Sleeps at a word while it has that value, for some milliseconds at most.
fn sleep_at(word: &AtomicU32, value: u32, time: Option<u64>) -> Result<(), Errno> {
    let time = time.map(|ms| [ms / 1000, ms % 1000 * 1_000_000]);
    let time = time.as_ref().map_or(0, |time| address(time.as_ptr()));
    let place = address(std::ptr::from_ref(word));
    match call(nr::FUTEX, &[place, WAIT, value.into(), time, 0, 0]) {
        Ok(_) | Err(EAGAIN | EINTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn wake(word: &AtomicU32, most: u64) {
    let place = address(std::ptr::from_ref(word));
    let _ = call(nr::FUTEX, &[place, WAKE, most, 0, 0, 0]);
}

/// How a mutex was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    /// From one who gave it back.
    Whole,
    /// From one who died with it.
    OwnerDied,
}

/// The owner's number, or 0; whether somebody may sleep; whether the last owner died.
#[repr(transparent)]
struct Mutex(AtomicU32);

impl Mutex {
    const SLEEPERS: u32 = 1 << 31;
    const DIED: u32 = 1 << 30;
    const OWNER: u32 = Self::DIED - 1;

    fn lock(&self, own: u32, time: Option<u64>) -> Result<Held, Errno> {
        // Who has slept can't know whether others do still.
        let mut sleepers = 0;
        loop {
            let now = self.0.load(SeqCst);
            if now & Self::OWNER == own {
                return Err(EDEADLK);
            }
            if now & Self::OWNER == 0 {
                let taken = own | sleepers | now & Self::SLEEPERS;
                if self.0.compare_exchange(now, taken, SeqCst, SeqCst).is_ok() {
                    let died = now & Self::DIED != 0;
                    return Ok(if died { Held::OwnerDied } else { Held::Whole });
                }
                continue;
            }
            let told = now | Self::SLEEPERS;
            if now != told && self.0.compare_exchange(now, told, SeqCst, SeqCst).is_err() {
                continue;
            }
            sleep_at(&self.0, told, time)?;
            sleepers = Self::SLEEPERS;
        }
    }

    fn try_lock(&self, own: u32) -> Result<(), Errno> {
        let taken = self.0.compare_exchange(0, own, SeqCst, SeqCst);
        taken.map(drop).map_err(|_| EBUSY)
    }

    fn unlock(&self, own: u32) -> Result<(), Errno> {
        if self.0.load(SeqCst) & Self::OWNER != own {
            return Err(EPERM);
        }
        if self.0.swap(0, SeqCst) & Self::SLEEPERS != 0 {
            wake(&self.0, 1);
        }
        Ok(())
    }

    /// That owner is gone, as who has waited for it knows.
    fn bury(&self, owner: u32) -> bool {
        let now = self.0.load(SeqCst);
        if now & Self::OWNER != owner {
            return false;
        }
        // Nobody else changes it but to say that it sleeps.
        let left = |now| Some(Self::DIED | now & Self::SLEEPERS);
        let _ = self.0.fetch_update(SeqCst, SeqCst, left);
        wake(&self.0, 1);
        true
    }
}

/// What lies in the shared memory.
#[repr(C)]
struct Shared {
    mutex: Mutex,
    /// What the mutex keeps: both are equal whenever nobody has it.
    first: AtomicU32,
    second: AtomicU32,
    /// A word to tell each other by.
    stage: AtomicU32,
}

impl Shared {
    fn at(start: u64) -> &'static Self {
        // SAFETY: callers have shared memory there, zero at first, and keep it to their end; it is
        // all atomics.
        unsafe { &*std::ptr::with_exposed_provenance(start as usize) }
    }

    /// Memory that children have in common with their parent.
    fn mapping() -> Result<&'static Self, String> {
        const SHARED_ANONYMOUS: u64 = 0x21;
        let args = [0, SIZE, 3, SHARED_ANONYMOUS, u64::MAX, 0];
        let start = call(nr::MMAP, &args).map_err(text("mapped"))?;
        Ok(Self::at(u64::from(start as u32)))
    }

    /// Memory that every cage of the run finds.
    fn segment() -> Result<(&'static Self, i32), String> {
        let id = call(SHMGET, &[KEY, SIZE, IPC_CREAT | 0o600]).map_err(text("made"))?;
        let start = call(SHMAT, &[id as u64, 0, 0]).map_err(text("attached"))?;
        Ok((Self::at(u64::from(start as u32)), id))
    }

    /// Waits until somebody has come that far.
    fn reaches(&self, stage: u32) -> Result<(), Errno> {
        loop {
            let now = self.stage.load(SeqCst);
            if now >= stage {
                return Ok(());
            }
            sleep_at(&self.stage, now, None)?;
        }
    }

    fn reached(&self, stage: u32) {
        self.stage.store(stage, SeqCst);
        wake(&self.stage, u64::MAX >> 33);
    }

    /// Changes what the mutex keeps, slowly enough for others to come between if they could.
    fn change(&self, log: i32, change: impl Fn(u32) -> u32) -> Result<(), Errno> {
        let (first, second) = (self.first.load(SeqCst), self.second.load(SeqCst));
        if first != second {
            return Err(EBUSY);
        }
        self.first.store(change(first), SeqCst);
        call(nr::SCHED_YIELD, &[])?;
        sys::write(log, &first.to_le_bytes())?;
        self.second.store(change(first), SeqCst);
        Ok(())
    }

    /// Takes turns with whoever else does.
    fn turns(&self, own: u32, log: i32) -> Result<(), Errno> {
        for turn in 0..TURNS {
            // Now and then in a hurry.
            if turn % 8 == 0 {
                while self.mutex.try_lock(own).is_err() {
                    call(nr::SCHED_YIELD, &[])?;
                }
            } else if self.mutex.lock(own, None)? != Held::Whole {
                return Err(EPERM);
            }
            self.change(log, |value| value + 1)?;
            self.mutex.unlock(own)?;
        }
        Ok(())
    }
}

/// A number for each thread of each cage.
fn number(thread: u32) -> u32 {
    sys::own_id() as u32 * 16 + thread + 1
}

/// All threads of this cage take their turns.
fn crowd(shared: &'static Shared, log: i32) -> Result<(), Errno> {
    let others: Vec<_> = (1..THREADS)
        .map(|index| thread::spawn(move || shared.turns(number(index), log)))
        .collect();
    shared.turns(number(0), log)?;
    others
        .into_iter()
        .try_for_each(|other| other.join().unwrap_or(Err(EPERM)))
}

fn open(path: &str) -> Result<i32, String> {
    const APPENDS: u64 = 0o2000 | 0o1000 | 0o100 | 1;
    let path = format!("{path}\0");
    call(nr::OPEN, &[address(path.as_ptr()), APPENDS, 0o600]).map_err(text(&path))
}

fn forked(work: impl FnOnce() -> Result<i32, Errno>) -> Result<i32, String> {
    match sys::fork().map_err(text("fork"))? {
        0 => sys::exit(work().unwrap_or_else(|errno| 100 + errno.0)),
        child => Ok(child),
    }
}

fn waited(child: i32, status: i32) -> Done {
    expect("a child", sys::waitpid(child, 0), Ok((child, status)))
}

/// As many turns as there should be, each after the one before, as what is written says.
fn check(shared: &Shared, log: i32, path: &str, cages: u32) -> Done {
    sys::close(log).map_err(text("closed"))?;
    let all = cages * THREADS * TURNS;
    let both = (shared.first.load(SeqCst), shared.second.load(SeqCst));
    expect("turns", both, (all, all))?;
    expect("free", shared.mutex.0.load(SeqCst) & Mutex::OWNER, 0)?;
    let written = std::fs::read(path).map_err(|why| why.to_string())?;
    let wanted: Vec<u8> = (0..all).flat_map(u32::to_le_bytes).collect();
    expect("what was written in turn", written == wanted, true)
}

/// Parent and children, each with several threads.
fn count(shared: &'static Shared, path: &str) -> Done {
    let log = open(path)?;
    let children: Vec<i32> = (0..CHILDREN)
        .map(|_| forked(|| crowd(shared, log).map(|()| 0)))
        .collect::<Result<_, _>>()?;
    crowd(shared, log).map_err(text("the parent"))?;
    children
        .into_iter()
        .try_for_each(|child| waited(child, 0))?;
    check(shared, log, path, CHILDREN + 1)
}

/// Another program that knows the key takes turns too.
fn programs(path: &str) -> Done {
    let (shared, id) = Shared::segment()?;
    let log = open(path)?;
    let own = std::env::args().next().unwrap_or_default();
    let own = match own.starts_with('/') {
        true => format!("{own}\0"),
        false => format!("/bin/{own}\0"),
    };
    let log_text = format!("{log}\0");
    let child = forked(|| {
        let words = [own.as_ptr(), c"other".as_ptr().cast(), log_text.as_ptr()];
        // SAFETY: all of them end with a NUL.
        Err(unsafe { sys::execve(own.as_ptr(), &words, &[]) })
    })?;
    crowd(shared, log).map_err(text("the parent"))?;
    waited(child, 0)?;
    check(shared, log, path, 2)?;
    call(SHMCTL, &[id as u64, IPC_RMID, 0]).map_err(text("removed"))?;
    Ok(())
}

fn other(log: &str) -> Done {
    let log = log.parse().map_err(|_| "no descriptor")?;
    let (shared, _) = Shared::segment()?;
    crowd(shared, log).map_err(text("the other"))
}

/// What is answered while another has it.
fn answers(shared: &'static Shared) -> Done {
    let (mutex, own) = (&shared.mutex, number(0));
    mutex.lock(own, None).map_err(text("locked"))?;
    expect("once more", mutex.lock(own, None), Err(EDEADLK))?;
    let child = forked(|| {
        let own = number(0);
        let right = mutex.try_lock(own) == Err(EBUSY)
            && mutex.lock(own, Some(20)) == Err(ETIMEDOUT)
            && mutex.unlock(own) == Err(EPERM);
        shared.reached(1);
        // What comes too late for the one may be had by the other.
        let held = mutex.lock(own, Some(100_000));
        mutex.unlock(own)?;
        Ok(i32::from(!right || held != Ok(Held::Whole)))
    })?;
    shared.reaches(1).map_err(text("reached"))?;
    mutex.unlock(own).map_err(text("given back"))?;
    waited(child, 0)?;
    expect("not held", mutex.unlock(own), Err(EPERM))?;
    expect("free again", mutex.try_lock(own), Ok(()))?;
    expect("given back", mutex.unlock(own), Ok(()))
}

/// How a cage ends that has the mutex.
#[derive(Clone, Copy, Debug)]
enum End {
    Exits,
    IsKilled,
    Traps,
}

/// One dies in the middle of a change while another waits. The parent hears of it; who waits gets
/// the mutex, and what it keeps as it was left.
fn death(shared: &'static Shared, end: End) -> Done {
    let mutex = &shared.mutex;
    shared.stage.store(0, SeqCst);
    let dying = forked(|| {
        mutex.lock(number(0), None)?;
        shared.first.fetch_add(1, SeqCst);
        shared.reached(1);
        if let End::IsKilled = end {
            let hour = [3600u64, 0];
            loop {
                let _ = call(nr::CLOCK_NANOSLEEP, &[0, 0, address(hour.as_ptr()), 0]);
            }
        }
        shared.reaches(2)?;
        match end {
            End::Traps => core::arch::wasm32::unreachable(),
            End::Exits | End::IsKilled => Ok(7),
        }
    })?;
    shared.reaches(1).map_err(text("locked"))?;
    let heir = forked(|| {
        let own = number(0);
        let held = mutex.lock(own, None)?;
        let torn = shared.first.load(SeqCst) != shared.second.load(SeqCst);
        shared.first.store(shared.second.load(SeqCst), SeqCst);
        mutex.unlock(own)?;
        Ok(i32::from(held != Held::OwnerDied || !torn))
    })?;
    // Who waits says so in the word.
    while mutex.0.load(SeqCst) & Mutex::SLEEPERS == 0 {
        call(nr::SCHED_YIELD, &[]).map_err(text("yield"))?;
    }
    shared.reached(2);
    let status = match end {
        End::Exits => 7 << 8,
        End::IsKilled => {
            let killed = call(nr::KILL, &[dying as u64, SIGKILL]);
            expect("killed", killed, Ok(0))?;
            SIGKILL as i32
        }
        End::Traps => 1 << 8,
    };
    waited(dying, status)?;
    expect("buried", mutex.bury(dying as u32 * 16 + 1), true)?;
    expect("buried twice", mutex.bury(dying as u32 * 16 + 1), false)?;
    waited(heir, 0).map_err(|why| format!("{why} after {end:?}"))
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let all = |shared: &'static Shared, path: &str| {
        answers(shared)?;
        for end in [End::Exits, End::IsKilled, End::Traps] {
            death(shared, end)?;
        }
        count(shared, path)
    };
    let done = match args[..] {
        ["mapping", path] => Shared::mapping().and_then(|shared| all(shared, path)),
        ["segment", path] => Shared::segment().and_then(|(shared, id)| {
            all(shared, path)?;
            let removed = call(SHMCTL, &[id as u64, IPC_RMID, 0]);
            removed.map(drop).map_err(text("removed"))
        }),
        ["programs", path] => programs(path),
        ["other", log] => other(log),
        _ => Err("what?".to_owned()),
    };
    match done {
        Ok(()) => {
            println!("mutexes are right");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("mutexes: {why}");
            ExitCode::FAILURE
        }
    }
}
