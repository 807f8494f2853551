//! The threads of a cage, and what is each one's own.
//!
//! A [`Task`] is a thread of a cage: an instance of the program on a thread of the host. The
//! [`Crew`] of a cage is all of its tasks. A cage ends when the last of them has left; it ends as
//! a whole when one calls `exit_group` or traps, and then the others stop at their next step.

use crate::ids::{CageId, WaitStatus};
use crate::limits::{Account, Charge, Resource};
use crate::program::Program;
use rustix::io::Errno;
use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// What a system call left for the thread to do once the call returns to it.
#[derive(Debug)]
pub enum Pending {
    /// Become two cages.
    Fork(Unborn),
    /// Become two threads.
    Thread(Recruit),
    /// Run another program.
    Exec(Box<NewImage>),
    /// End, with that exit code.
    Leave(i32),
    /// End, and the cage with it.
    Exit(WaitStatus),
}

/// A forked child that exists but has no memory yet. Whatever becomes of its fork, it does not
/// outlive it: unless it was [born](Unborn::born), it ends when this is dropped.
pub struct Unborn {
    child: CageId,
    end: Option<End>,
}

/// Ends a child that was not born.
type End = Box<dyn FnOnce() + Send + Sync>;

impl Unborn {
    /// A child, and what ends it.
    pub fn new(child: CageId, end: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self {
            child,
            end: Some(Box::new(end)),
        }
    }

    /// The child.
    pub fn child(&self) -> CageId {
        self.child
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
            end();
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

/// One thread of a cage.
#[derive(Debug)]
pub struct Task {
    cage: CageId,
    /// What `gettid` answers: the cage's own number for its first thread.
    number: AtomicI32,
    pending: Mutex<Option<Pending>>,
    /// What is to be said about it, with text that a program chose in it.
    said: Mutex<Option<String>>,
    /// Set when one of the others is, or the cage is condemned, so that a call looks at one word
    /// only.
    attention: AtomicBool,
    /// Another thread of the cage has become another program: this one is to leave.
    dismissed: AtomicBool,
    /// It is in a call of `exit`, which nothing but a grate can keep from being its end.
    leaving: AtomicBool,
    /// The system call that its own instance is in, to know whether a fork can unwind it.
    current_call: AtomicU32,
    /// Where its number is to be cleared at its end, or 0.
    clear: AtomicU64,
    /// Its block of a WASI program's scratch space.
    scratch: AtomicUsize,
    host: Mutex<Option<libc::pthread_t>>,
    charge: Mutex<Option<Charge>>,
}

impl Task {
    fn new(cage: CageId, number: i32, charge: Option<Charge>) -> Self {
        Self {
            cage,
            number: AtomicI32::new(number),
            pending: Mutex::new(None),
            said: Mutex::new(None),
            attention: AtomicBool::new(false),
            dismissed: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            current_call: AtomicU32::new(u32::MAX),
            clear: AtomicU64::new(0),
            scratch: AtomicUsize::new(0),
            host: Mutex::new(None),
            charge: Mutex::new(charge),
        }
    }

    /// Its number.
    pub fn number(&self) -> i32 {
        self.number.load(Ordering::Relaxed)
    }

    /// Sets where its number is to be cleared when it ends; 0 for nowhere.
    pub fn clear_at(&self, address: u64) {
        self.clear.store(address, Ordering::Relaxed);
    }

    /// Takes where its number is to be cleared.
    pub fn take_clear(&self) -> u64 {
        self.clear.swap(0, Ordering::Relaxed)
    }

    /// Its block of a WASI program's scratch space.
    pub fn scratch(&self) -> usize {
        self.scratch.load(Ordering::Relaxed)
    }

    /// Gives it a block of scratch space.
    pub fn set_scratch(&self, block: usize) {
        self.scratch.store(block, Ordering::Relaxed);
    }

    /// It counts no more, though it has not left yet: who learns of its end may make another.
    pub fn release(&self) {
        lock(&self.charge).take();
    }

    /// Leaves something for the thread to do after the current call. One thing is all that a call
    /// can lead to; an end comes before all else, and that of the cage before the thread's.
    ///
    /// # Errors
    /// `EAGAIN` when there is something left to do already, as when a grate forwards a call twice.
    pub fn set_pending(&self, pending: Pending) -> Result<(), Errno> {
        let mut slot = lock(&self.pending);
        let rank = |pending: &Pending| match pending {
            Pending::Fork(_) | Pending::Thread(_) | Pending::Exec(_) => 0,
            Pending::Leave(_) => 1,
            Pending::Exit(_) => 2,
        };
        let before = match &*slot {
            Some(there) if rank(there) >= rank(&pending) => {
                return if rank(&pending) == 0 {
                    Err(Errno::AGAIN)
                } else {
                    Ok(())
                };
            }
            _ => slot.replace(pending),
        };
        self.attention.store(true, Ordering::Release);
        drop(slot);
        // A child that is not to be ends here, which takes locks of its own.
        drop(before);
        Ok(())
    }

    /// Whether the current call led to something already.
    pub fn has_pending(&self) -> bool {
        lock(&self.pending).is_some()
    }

    /// Takes what was left to do. `is_doomed` says whether the cage is to end, which is to be
    /// looked at again.
    pub fn take_pending(&self, is_doomed: impl FnOnce() -> bool) -> Option<Pending> {
        // In this order, so that no alarm gets lost that is raised meanwhile.
        self.attention.store(false, Ordering::SeqCst);
        let pending = lock(&self.pending).take();
        if self.is_dismissed() || is_doomed() {
            self.alert();
        }
        pending
    }

    /// Leaves a line to be written to the cage's standard error, as its own write: text that a
    /// program chose goes out past no grate.
    pub fn say(&self, line: String) {
        *lock(&self.said) = Some(line);
        self.attention.store(true, Ordering::Release);
    }

    /// Takes what is to be said.
    pub fn take_said(&self) -> Option<String> {
        lock(&self.said).take()
    }

    /// Whether there is anything to look at after a call.
    pub fn needs_attention(&self) -> bool {
        self.attention.load(Ordering::Acquire)
    }

    /// Whether it is to leave for another one's sake.
    pub fn is_dismissed(&self) -> bool {
        self.dismissed.load(Ordering::Acquire)
    }

    fn alert(&self) {
        self.attention.store(true, Ordering::Release);
    }

    /// Notes which call its own instance makes.
    pub fn enter_call(&self, nr: u32) {
        self.current_call.store(nr, Ordering::Relaxed);
    }

    /// The call that its own instance made last.
    pub fn current_call(&self) -> u32 {
        self.current_call.load(Ordering::Relaxed)
    }

    /// Binds the calling thread to this task until the answer is dropped.
    pub fn occupy(self: &Arc<Self>) -> Occupied {
        // SAFETY: pthread_self has no preconditions.
        let own = unsafe { libc::pthread_self() };
        *lock(&self.host) = Some(own);
        CURRENT.set(Some(self.clone()));
        Occupied(self.clone())
    }

    /// Interrupts a blocking kernel call of its thread.
    fn kick(&self) {
        let host = lock(&self.host);
        if let Some(thread) = *host {
            // SAFETY: the thread is alive: it clears the field, under this lock, before it ends.
            unsafe { libc::pthread_kill(thread, kick_signal()) };
        }
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Task>>> = const { RefCell::new(None) };
}

/// What the thread of the host that asks is bound to, if that is a thread of the cage.
pub fn current(cage: CageId) -> Option<Arc<Task>> {
    CURRENT.with_borrow(|task| task.clone().filter(|task| task.cage == cage))
}

/// The cage that the thread of the host that asks is of.
pub fn current_cage() -> Option<CageId> {
    CURRENT.with_borrow(|task| task.as_ref().map(|task| task.cage))
}

/// Keeps a thread of the host bound to its task.
pub struct Occupied(Arc<Task>);

impl Drop for Occupied {
    fn drop(&mut self) {
        *lock(&self.0.host) = None;
        CURRENT.set(None);
    }
}

/// How a thread ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// Its cage ends with it.
    Whole(WaitStatus),
    /// It alone does, with that exit code.
    Alone(i32),
}

/// What a departure left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// No thread: the cage has ended with that status.
    Nobody(WaitStatus),
    /// Threads that are to end as well, and are to be told.
    Condemned(WaitStatus),
    /// Threads that go on, or have been told.
    Others,
}

/// The threads of a cage.
#[derive(Debug)]
pub struct Crew {
    cage: CageId,
    members: Mutex<Members>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Members {
    tasks: Vec<Arc<Task>>,
    /// How the cage ends, once one has ended it.
    end: Option<WaitStatus>,
    /// How it ends else: the code that its first thread ended with.
    first: Option<i32>,
    /// One of them is to be the only one: it takes no others.
    closed: bool,
}

impl Members {
    fn others(&self, task: &Arc<Task>) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks.iter().filter(|other| !Arc::ptr_eq(other, task))
    }
}

impl Crew {
    /// Nobody yet.
    pub fn new(cage: CageId) -> Self {
        Self {
            cage,
            members: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Adds the first thread.
    pub fn begin(&self) -> Arc<Task> {
        let task = Arc::new(Task::new(self.cage, self.cage.pid(), None));
        lock(&self.members).tasks.push(task.clone());
        task
    }

    /// Adds a thread with that number.
    ///
    /// # Errors
    /// `EAGAIN` when there are as many as there may be, or the cage is to have no more.
    pub fn join(&self, number: i32, account: &Arc<Account>) -> Result<Arc<Task>, Errno> {
        let mut charge = Charge::new(account, Resource::Threads);
        charge.resize(1).map_err(|_| Errno::AGAIN)?;
        let mut members = lock(&self.members);
        if members.closed || members.end.is_some() {
            return Err(Errno::AGAIN);
        }
        let task = Arc::new(Task::new(self.cage, number, Some(charge)));
        members.tasks.push(task.clone());
        Ok(task)
    }

    /// Takes a thread out that has ended.
    pub fn leave(&self, task: &Arc<Task>, departure: Departure) -> Rest {
        let mut members = lock(&self.members);
        members.tasks.retain(|other| !Arc::ptr_eq(other, task));
        let had_ended = members.end.is_some();
        match departure {
            Departure::Whole(status) => members.end = members.end.or(Some(status)),
            Departure::Alone(code) if task.number() == self.cage.pid() => {
                members.first = Some(code);
            }
            Departure::Alone(_) => {}
        }
        self.changed.notify_all();
        match members.end {
            Some(status) if members.tasks.is_empty() => Rest::Nobody(status),
            Some(status) if !had_ended => Rest::Condemned(status),
            Some(_) => Rest::Others,
            None if members.tasks.is_empty() => {
                Rest::Nobody(WaitStatus::exited(members.first.unwrap_or(0)))
            }
            None => Rest::Others,
        }
    }

    /// Notes that a thread calls `exit` with that code. Where its end is that of the cage, since all
    /// others are about to end too, it is the answer how the cage ends: as its first thread did.
    pub fn is_last_to_leave(&self, task: &Arc<Task>, code: i32) -> Option<i32> {
        let mut members = lock(&self.members);
        task.leaving.store(true, Ordering::Relaxed);
        if task.number() == self.cage.pid() {
            members.first = Some(code);
        }
        let mut others = members.others(task);
        others
            .all(|other| other.leaving.load(Ordering::Relaxed))
            .then(|| members.first.unwrap_or(code))
    }

    /// Notes that the call of `exit` was not its end.
    pub fn stays(&self, task: &Task) {
        let mut members = lock(&self.members);
        task.leaving.store(false, Ordering::Relaxed);
        if task.number() == self.cage.pid() {
            members.first = None;
        }
    }

    /// Whether a thread is the one that runs handlers of signals: of those that there are, the one
    /// that came first.
    pub fn is_first(&self, task: &Arc<Task>) -> bool {
        let members = lock(&self.members);
        members
            .tasks
            .first()
            .is_some_and(|first| Arc::ptr_eq(first, task))
    }

    /// Interrupts a blocking kernel call of that thread, and makes it look at what there is to look
    /// at after its calls.
    pub fn nudge_first(&self) {
        if let Some(first) = lock(&self.members).tasks.first() {
            first.alert();
            first.kick();
        }
    }

    /// Whether there is no thread, any more.
    pub fn is_empty(&self) -> bool {
        lock(&self.members).tasks.is_empty()
    }

    /// Whether the calling thread is all of it.
    pub fn is_calling_thread(&self) -> bool {
        let members = lock(&self.members);
        match (members.tasks.as_slice(), current(self.cage)) {
            ([only], Some(own)) => Arc::ptr_eq(only, &own),
            _ => false,
        }
    }

    /// Makes all threads look at what there is to look at after their calls.
    pub fn alert(&self) {
        for task in &lock(&self.members).tasks {
            task.alert();
        }
    }

    /// Interrupts blocking kernel calls of all threads.
    pub fn kick(&self) {
        for task in &lock(&self.members).tasks {
            task.kick();
        }
    }

    /// What all of them were about to do comes to nothing.
    pub fn drop_pending(&self) {
        let tasks = lock(&self.members).tasks.clone();
        for task in tasks {
            drop(task.take_pending(|| true));
        }
    }

    /// Tells all others to leave, for `task` becomes another program. False when it is itself to
    /// leave, or the cage ends.
    pub fn dismiss_others(&self, task: &Arc<Task>) -> bool {
        let mut members = lock(&self.members);
        if members.end.is_some() || task.is_dismissed() {
            return false;
        }
        members.closed = true;
        for other in members.others(task) {
            other.dismissed.store(true, Ordering::Release);
            other.alert();
        }
        true
    }

    /// Waits a moment for the others to leave, and interrupts their calls. Once they have, `task`
    /// is the first thread.
    pub fn has_left(&self, task: &Arc<Task>, moment: Duration) -> bool {
        let mut members = lock(&self.members);
        if members.others(task).next().is_some() {
            for other in members.others(task) {
                other.kick();
            }
            let waited = self.changed.wait_timeout(members, moment);
            members = waited.unwrap_or_else(|e| e.into_inner()).0;
        }
        if members.others(task).next().is_some() {
            return false;
        }
        members.closed = false;
        task.number.store(self.cage.pid(), Ordering::Relaxed);
        task.clear_at(0);
        task.release();
        true
    }
}

/// A thread that is to be: what it begins with. Unless it [sets out](Recruit::set_out), it leaves
/// its crew when this is dropped.
#[derive(Debug)]
pub struct Recruit {
    crew: Arc<Crew>,
    task: Arc<Task>,
    /// The lowest address of its stack, and the first above it.
    pub stack: (u32, u32),
    /// Where it finds its number, if not 0.
    pub told_at: [u64; 2],
    ready: bool,
}

impl Recruit {
    /// Of a crew that it has joined.
    pub fn new(crew: &Arc<Crew>, task: Arc<Task>, stack: (u32, u32), told_at: [u64; 2]) -> Self {
        Self {
            crew: crew.clone(),
            task,
            stack,
            told_at,
            ready: false,
        }
    }

    /// The thread.
    pub fn task(&self) -> &Arc<Task> {
        &self.task
    }

    /// It has a thread of the host now.
    pub fn set_out(mut self) {
        self.ready = true;
    }
}

impl Drop for Recruit {
    fn drop(&mut self) {
        if !self.ready {
            self.task.release();
            self.crew.leave(&self.task, Departure::Alone(0));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

fn kick_signal() -> i32 {
    libc::SIGRTMIN() + 1
}

/// Makes the signal of [`Crew::kick`] interrupt calls instead of ending the process.
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
