//! Cages: one isolated program each, with what a process has.

use crate::fds::FdTable;
pub use crate::ids::{CageId, WaitStatus};
use crate::image::Image;
use crate::limits::{Account, Charge, Resource};
use crate::routes::HandlerTable;
use crate::signals::Signals;
use crate::threads::{Crew, Task, current};
pub use crate::threads::{NewImage, Pending, Unborn};
use rustix::io::Errno;
use std::borrow::Cow;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, RwLock};

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
    /// Its threads.
    pub crew: Arc<Crew>,
    /// What it does about signals, of which its first thread runs the handlers.
    pub signals: Signals,
    /// One more than the wait status that it is to end with, or 0.
    doom: AtomicI32,
    /// Set once, by whoever gets to report its end.
    finished: AtomicBool,
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
    /// What it does about signals.
    pub signals: Signals,
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
            crew: Arc::new(Crew::new(CageId::new(id))),
            signals: with.signals,
            doom: AtomicI32::new(0),
            finished: AtomicBool::new(false),
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
            signals: self.signals.inherit(),
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

    /// The thread of this cage that the calling thread of the host is, if it is one.
    pub fn own_task(&self) -> Option<Arc<Task>> {
        current(self.id)
    }

    /// Condemns the cage: it ends with `status` at its next step. The first status stays.
    pub fn condemn(&self, status: WaitStatus) {
        let _ = self
            .doom
            .compare_exchange(0, status.0 + 1, Ordering::AcqRel, Ordering::Acquire);
        // After the status is there: who joins the crew meanwhile looks at it by itself.
        self.crew.alert();
    }

    /// The status that the cage was condemned to end with.
    pub fn doom(&self) -> Option<WaitStatus> {
        match self.doom.load(Ordering::Acquire) {
            0 => None,
            status => Some(WaitStatus(status - 1)),
        }
    }

    /// Whether the calling thread must wait no longer, where it is one of this cage: the cage is
    /// to end, or the thread.
    pub fn must_stop(&self) -> bool {
        self.doom().is_some() || self.own_task().is_some_and(|task| task.is_dismissed())
    }

    /// Whether the calling thread is the one that runs handlers.
    pub fn is_first_thread(&self) -> bool {
        self.own_task()
            .is_some_and(|task| self.crew.is_first(&task))
    }

    /// Whether a call that waits is to return to the program: the calling thread must stop, or has
    /// a handler to run.
    pub fn is_interrupted(&self) -> bool {
        self.must_stop() || self.signals.are_due() && self.is_first_thread()
    }

    /// True for the first caller only, who then reports the end.
    pub fn claim_end(&self) -> bool {
        !self.finished.swap(true, Ordering::AcqRel)
    }

    /// Whether its end was reported.
    pub fn has_ended(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }
}

/// A cage that a call names, found by a look-up or known from who makes the call.
#[derive(Clone, Debug)]
pub struct Named<'a> {
    /// The cage.
    pub cage: Cow<'a, Arc<Cage>>,
    /// The program that it ran when the call was made, where that is at hand.
    ran: Option<&'a Arc<Image>>,
}

impl<'a> Named<'a> {
    /// One that takes part in the call with that program.
    pub fn of(cage: &'a Arc<Cage>, ran: Option<&'a Arc<Image>>) -> Self {
        Self {
            cage: Cow::Borrowed(cage),
            ran,
        }
    }

    /// One that was looked up.
    pub fn found(cage: Arc<Cage>) -> Self {
        Self {
            cage: Cow::Owned(cage),
            ran: None,
        }
    }

    /// The running program.
    ///
    /// # Errors
    /// As [`Cage::image`]; `ESRCH` too where it is another by now than the one that takes part: that
    /// one's addresses mean nothing in it.
    pub fn image(&self) -> Result<Cow<'a, Arc<Image>>, Errno> {
        match self.ran {
            // An image that serves is the one that its cage runs.
            Some(image) if image.service().is_up() => Ok(Cow::Borrowed(image)),
            ran => {
                let image = self.cage.image()?;
                let is_another = ran.is_some_and(|ran| !Arc::ptr_eq(ran, &image));
                (!is_another)
                    .then_some(Cow::Owned(image))
                    .ok_or(Errno::SRCH)
            }
        }
    }
}

/// The cages that take part in a call.
pub struct Parties<'a> {
    /// Who makes it.
    pub caller: Named<'a>,
    /// Whose state is acted on.
    pub target: &'a Named<'a>,
    /// Who made the call that the caller serves meanwhile, if it serves one.
    pub served: Option<Named<'a>>,
}

impl<'a> Parties<'a> {
    /// The one with that number, if it takes part.
    pub fn find(&self, id: u64) -> Option<&Named<'a>> {
        let mut all = [Some(self.target), Some(&self.caller), self.served.as_ref()].into_iter();
        all.find_map(|named| named.filter(|named| named.cage.id.raw() == id))
    }
}
