//! Cages: one isolated program each, with what a process has.

use crate::fds::FdTable;
pub use crate::ids::{CageId, WaitStatus};
use crate::image::Image;
use crate::limits::{Account, Charge, Resource};
use crate::program::Program;
use crate::routes::HandlerTable;
use rustix::io::Errno;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, RwLock};

/// What a system call left for the cage's own thread to do once the call returns to it.
#[derive(Debug)]
pub enum Pending {
    /// Become two.
    Fork(Unborn),
    /// Run another program.
    Exec(Box<NewImage>),
    /// End.
    Exit(WaitStatus),
}

/// A forked child that exists but has no memory yet. Whatever becomes of its fork, it does not
/// outlive it: unless it was [born](Unborn::born), it ends when this is dropped.
pub struct Unborn {
    child: Arc<Cage>,
    end: Option<End>,
}

/// Ends a child that was not born.
type End = Box<dyn FnOnce(&Arc<Cage>) + Send + Sync>;

impl Unborn {
    /// A child, and what ends it.
    pub fn new(child: Arc<Cage>, end: impl FnOnce(&Arc<Cage>) + Send + Sync + 'static) -> Self {
        Self {
            child,
            end: Some(Box::new(end)),
        }
    }

    /// The child.
    pub fn cage(&self) -> &Arc<Cage> {
        &self.child
    }

    /// It has a thread of its own now.
    pub fn born(mut self) {
        self.end = None;
    }
}

impl fmt::Debug for Unborn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unborn").field(&self.child).finish()
    }
}

impl Drop for Unborn {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            end(&self.child);
        }
    }
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

/// The mode bits that new files of the first cage lack. From here on the host's own mask is empty,
/// so that each cage's is the only one that counts.
pub fn take_over_umask() -> u32 {
    static INHERITED: OnceLock<u32> = OnceLock::new();
    *INHERITED.get_or_init(|| rustix::process::umask(rustix::fs::Mode::empty()).bits())
}

/// One isolated program.
pub struct Cage {
    /// Its number.
    pub id: CageId,
    /// What it may have of the host.
    pub account: Arc<Account>,
    handler_charge: Mutex<Charge>,
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
    /// One more than the wait status that it is to end with, or 0.
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
    /// What it may have of the host.
    pub account: Arc<Account>,
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
            id: CageId::new(id),
            handler_charge: Mutex::new(Charge::new(&with.account, Resource::Handlers)),
            account: with.account,
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
        let account = self.account.child();
        Inheritance {
            ancestors,
            handlers: self.handlers.duplicate(),
            fds: self.fds().inherit(account.clone()),
            account,
            fs: self.fs.read().unwrap_or_else(|e| e.into_inner()).clone(),
        }
    }

    /// Whether `other` made this cage, or is it.
    pub fn answers_to(&self, other: CageId) -> bool {
        self.id == other || self.ancestors.contains(&other)
    }

    /// Accounts for so many handlers in its table.
    ///
    /// # Errors
    /// `ENOMEM` when they are too many; then the account stays as it is.
    pub fn charge_handlers(&self, count: usize) -> Result<(), Errno> {
        let mut charge = self.handler_charge.lock();
        let charge = charge.as_mut().unwrap_or_else(|e| e.get_mut());
        charge.resize(count as u64)
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

    /// Leaves something for the cage's thread to do after the current call. One thing is all that
    /// a call can lead to; the end comes before all else.
    ///
    /// # Errors
    /// `EAGAIN` when there is something left to do already, as when a grate forwards a call twice.
    pub fn set_pending(&self, pending: Pending) -> Result<(), Errno> {
        let mut slot = self.pending.lock().unwrap_or_else(|e| e.into_inner());
        let before = match (&*slot, &pending) {
            (None, _) | (Some(Pending::Fork(_) | Pending::Exec(_)), Pending::Exit(_)) => {
                slot.replace(pending)
            }
            (Some(Pending::Exit(_)), Pending::Exit(_)) => None,
            _ => return Err(Errno::AGAIN),
        };
        self.attention.store(true, Ordering::Release);
        drop(slot);
        // A child that is not to be ends here, which takes locks of its own.
        drop(before);
        Ok(())
    }

    /// Whether the current call led to something already.
    pub fn has_pending(&self) -> bool {
        self.pending
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .is_some()
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

    /// Condemns the cage: it ends with `status` at its next step. The first status stays.
    pub fn condemn(&self, status: WaitStatus) {
        let _ = self
            .doom
            .compare_exchange(0, status.0 + 1, Ordering::AcqRel, Ordering::Acquire);
        self.attention.store(true, Ordering::Release);
    }

    /// The status that the cage was condemned to end with.
    pub fn doom(&self) -> Option<WaitStatus> {
        match self.doom.load(Ordering::Acquire) {
            0 => None,
            status => Some(WaitStatus(status - 1)),
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
        THREAD_CAGE.set(self.id.pid());
        Occupied(self.clone())
    }

    /// Whether the calling thread is this cage's.
    pub fn is_on_own_thread(&self) -> bool {
        THREAD_CAGE.get() == self.id.pid()
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
    static THREAD_CAGE: std::cell::Cell<i32> = const { std::cell::Cell::new(0) };
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
