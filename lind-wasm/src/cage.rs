//! Cages: one isolated program each, with what a process has.

use crate::fds::FdTable;
use crate::image::Image;
use crate::program::Program;
use crate::threei::HandlerTable;
use rustix::io::Errno;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

/// A cage's number, which is its pid. Starts at 1, never used twice in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CageId(u32);

impl CageId {
    /// The first cage, which the command line starts.
    pub const FIRST: CageId = CageId(1);
    /// The largest number that still is a positive pid.
    const MAX: u32 = i32::MAX as u32;

    /// The id that a guest named, if it can be one.
    pub fn from_guest(value: u64) -> Option<Self> {
        (1..=u64::from(Self::MAX))
            .contains(&value)
            .then_some(CageId(value as u32))
    }

    /// As a pid.
    pub fn pid(self) -> i32 {
        self.0 as i32
    }

    /// As guests write it in an argcage.
    pub fn raw(self) -> u64 {
        u64::from(self.0)
    }
}

impl fmt::Display for CageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a cage ended, as `waitpid` encodes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitStatus(pub i32);

impl WaitStatus {
    /// A trap, as Lind reports it: like an exit with status 1.
    pub const TRAPPED: WaitStatus = WaitStatus(0x100);

    /// A call of `exit_group`.
    pub fn exited(code: i32) -> Self {
        WaitStatus((code & 0xff) << 8)
    }

    /// Death by a signal.
    pub fn killed(signal: i32) -> Self {
        WaitStatus(signal & 0x7f)
    }

    /// What a shell would show: the exit code, or 128 and the signal.
    pub fn shell_code(self) -> i32 {
        match self.0 & 0x7f {
            0 => (self.0 >> 8) & 0xff,
            signal => 128 + signal,
        }
    }
}

/// What a system call left for the cage's own thread to do once the call returns to it.
#[derive(Debug)]
pub enum Pending {
    /// Become two: the child exists, but has no memory yet.
    Fork(Arc<Cage>),
    /// Run another program.
    Exec(Box<NewImage>),
    /// End.
    Exit(WaitStatus),
}

/// What exec hands to the cage's thread.
#[derive(Debug)]
pub struct NewImage {
    /// The program.
    pub program: Arc<Program>,
    /// Its arguments, the name first.
    pub args: Vec<Vec<u8>>,
    /// Its environment, `NAME=VALUE`.
    pub env: Vec<Vec<u8>>,
}

/// Where a cage looks up relative paths, and what it takes off new files' modes.
#[derive(Clone, Debug)]
pub struct FsContext {
    /// The current directory, open with `O_PATH`.
    pub cwd: Arc<OwnedFd>,
    /// As umask(2).
    pub umask: u32,
}

/// One isolated program.
pub struct Cage {
    /// Its number.
    pub id: CageId,
    /// Cages that made it, the nearest first.
    ancestors: Vec<CageId>,
    /// Whether it runs the program that its maker ran when it was forked.
    is_fork: AtomicBool,
    /// Which grate serves which of its calls.
    pub handlers: HandlerTable,
    /// Its open files.
    pub fds: Mutex<FdTable>,
    /// Its directory and umask.
    pub fs: RwLock<FsContext>,
    /// The program that it runs now. `None` before a forked child has its memory, and at the end.
    image: RwLock<Option<Arc<Image>>>,
    pending: Mutex<Option<Pending>>,
    /// Set when `pending`, `said` or `doom` is, so that a call looks at one word only.
    attention: AtomicBool,
    /// What is to be said about it, with text that a program chose in it.
    said: Mutex<Option<String>>,
    /// The signal that ends it, or 0.
    doom: AtomicI32,
    /// The system call that its main instance is in, to know whether a fork can unwind it.
    current_call: AtomicU32,
    /// Set once, by whoever gets to report its end.
    finished: AtomicBool,
    thread: Mutex<Option<libc::pthread_t>>,
}

impl fmt::Debug for Cage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cage")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// What a new cage starts with.
pub struct Inheritance {
    /// Ancestors, the nearest first.
    pub ancestors: Vec<CageId>,
    /// The handler table.
    pub handlers: HandlerTable,
    /// Open files.
    pub fds: FdTable,
    /// Directory and umask.
    pub fs: FsContext,
}

impl Cage {
    /// A cage without a program.
    pub fn new(id: u32, with: Inheritance) -> Self {
        Self {
            id: CageId(id),
            is_fork: AtomicBool::new(!with.ancestors.is_empty()),
            ancestors: with.ancestors,
            handlers: with.handlers,
            fds: Mutex::new(with.fds),
            fs: RwLock::new(with.fs),
            image: RwLock::new(None),
            pending: Mutex::new(None),
            said: Mutex::new(None),
            attention: AtomicBool::new(false),
            doom: AtomicI32::new(0),
            current_call: AtomicU32::new(u32::MAX),
            finished: AtomicBool::new(false),
            thread: Mutex::new(None),
        }
    }

    /// What a fork of this cage starts with.
    pub fn bequeath(&self) -> Inheritance {
        let mut ancestors = vec![self.id];
        ancestors.extend_from_slice(&self.ancestors);
        Inheritance {
            ancestors,
            handlers: self.handlers.duplicate(),
            fds: self.fds().clone(),
            fs: self.fs.read().unwrap_or_else(|e| e.into_inner()).clone(),
        }
    }

    /// Whether `other` made this cage, or is it.
    pub fn answers_to(&self, other: CageId) -> bool {
        self.id == other || self.ancestors.contains(&other)
    }

    /// The cage that forked it.
    pub fn maker(&self) -> Option<CageId> {
        self.ancestors.first().copied()
    }

    /// Whether it runs the program that its maker ran when it was forked.
    pub fn is_its_makers_program(&self) -> bool {
        self.is_fork.load(Ordering::Acquire)
    }

    /// Notes that it becomes another program.
    pub fn has_execed(&self) {
        self.is_fork.store(false, Ordering::Release);
    }

    /// Its table of open files.
    pub fn fds(&self) -> MutexGuard<'_, FdTable> {
        self.fds.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The running program.
    ///
    /// # Errors
    /// `ESRCH` when there is none (yet, or any more).
    pub fn image(&self) -> Result<Arc<Image>, Errno> {
        self.image
            .read()
            .unwrap_or_else(|e| e.into_inner())
            .clone()
            .ok_or(Errno::SRCH)
    }

    /// Sets the running program. The one before serves no grate call any more.
    pub fn set_image(&self, image: Option<Arc<Image>>) {
        let before = std::mem::replace(
            &mut *self.image.write().unwrap_or_else(|e| e.into_inner()),
            image,
        );
        if let Some(before) = before {
            before.retire();
        }
    }

    /// Leaves something for the cage's thread to do after the current call.
    pub fn set_pending(&self, pending: Pending) {
        *self.pending.lock().unwrap_or_else(|e| e.into_inner()) = Some(pending);
        self.attention.store(true, Ordering::Release);
    }

    /// Leaves a line to be written to the cage's standard error, as its own write: text that a
    /// program chose goes out past no grate.
    pub fn say(&self, line: String) {
        *self.said.lock().unwrap_or_else(|e| e.into_inner()) = Some(line);
        self.attention.store(true, Ordering::Release);
    }

    /// Takes what is to be said.
    pub fn take_said(&self) -> Option<String> {
        self.said.lock().unwrap_or_else(|e| e.into_inner()).take()
    }

    /// Whether [`Cage::take_said`], [`Cage::take_pending`] or [`Cage::doom`] have something to say.
    pub fn needs_attention(&self) -> bool {
        self.attention.load(Ordering::Acquire)
    }

    /// Takes what was left to do.
    pub fn take_pending(&self) -> Option<Pending> {
        let pending = self
            .pending
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .take();
        self.attention
            .store(self.doom().is_some(), Ordering::Release);
        pending
    }

    /// Condemns the cage: it ends with `signal` at its next step. The first signal stays.
    pub fn condemn(&self, signal: i32) {
        let _ = self
            .doom
            .compare_exchange(0, signal, Ordering::AcqRel, Ordering::Acquire);
        self.attention.store(true, Ordering::Release);
    }

    /// The signal that the cage was condemned with.
    pub fn doom(&self) -> Option<i32> {
        match self.doom.load(Ordering::Acquire) {
            0 => None,
            signal => Some(signal),
        }
    }

    /// Notes which call the main instance makes.
    pub fn enter_call(&self, nr: u32) {
        self.current_call.store(nr, Ordering::Relaxed);
    }

    /// The call that the main instance made last.
    pub fn current_call(&self) -> u32 {
        self.current_call.load(Ordering::Relaxed)
    }

    /// True for the first caller only, who then reports the end.
    pub fn claim_end(&self) -> bool {
        !self.finished.swap(true, Ordering::AcqRel)
    }

    /// Whether its end was reported.
    pub fn has_ended(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// Binds the calling thread to this cage until the answer is dropped.
    pub fn occupy_thread(self: &Arc<Self>) -> Occupied {
        // SAFETY: pthread_self has no preconditions.
        let own = unsafe { libc::pthread_self() };
        *self.thread.lock().unwrap_or_else(|e| e.into_inner()) = Some(own);
        THREAD_CAGE.set(self.id.0);
        Occupied(self.clone())
    }

    /// Whether the calling thread is this cage's.
    pub fn is_on_own_thread(&self) -> bool {
        THREAD_CAGE.get() == self.id.0
    }

    /// Interrupts a blocking kernel call of the cage's thread.
    pub fn kick(&self) {
        let thread = self.thread.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(thread) = *thread {
            // SAFETY: the thread is alive: it clears the field, under this lock, before it ends.
            unsafe { libc::pthread_kill(thread, kick_signal()) };
        }
    }
}

thread_local! {
    static THREAD_CAGE: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// Keeps a thread bound to its cage.
pub struct Occupied(Arc<Cage>);

impl Drop for Occupied {
    fn drop(&mut self) {
        *self.0.thread.lock().unwrap_or_else(|e| e.into_inner()) = None;
        THREAD_CAGE.set(0);
    }
}

fn kick_signal() -> i32 {
    libc::SIGRTMIN() + 1
}

/// Makes the signal of [`Cage::kick`] interrupt calls instead of ending the process.
pub fn install_kick_handler() {
    extern "C" fn nothing(_signal: libc::c_int) {}
    // SAFETY: the handler does nothing, hence is async-signal-safe; SA_RESTART is left out so
    // that blocking calls return EINTR. A zeroed sigaction is a valid one.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        libc::sigaction(kick_signal(), &action, std::ptr::null_mut());
    }
}
