//! Bringing a grate and its program together.

use crate::constants::SYS_FCNTL;
use crate::fd_support::FD_HANDLER_TABLE;
use crate::threei::{GrateError, SyscallHandler, getcageid, mmap_shared, register_handler};
use crate::{ffi, order};
use cage_libc::sys::{self, Errno};
use std::collections::HashSet;
use std::ffi::CString;
use std::sync::atomic::{AtomicU32, Ordering};

/// Called in the grate with the child's id, after registration and before the child may exec.
pub type PreExecCallback = Box<dyn Fn(i32)>;
/// Called in the grate with the child's raw wait status, or with what went wrong.
pub type GrateTeardownCallback = Box<dyn Fn(Result<i32, GrateError>)>;

/// Called in the grate again and again until the child has ended.
pub type PauseCallback = Box<dyn Fn() -> Pause>;

/// What to do between two looks at whether the child has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// Look again: the callback has waited for as long as it liked.
    Over,
    /// Wait for the child's end, and call no more.
    Forever,
}

/// Whether the handlers of [`fd_support`](crate::fd_support) serve the calls that have descriptors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FdTranslatePolicy {
    /// They do not.
    #[default]
    Disabled,
    /// They do, but for calls with these numbers.
    EnabledExcept(Option<HashSet<u64>>),
}

/// Has the handlers of [`fd_support`](crate::fd_support) serve a cage's calls that have descriptors, but for those with
/// these numbers.
///
/// # Errors
/// As [`register_handler`].
pub fn register_default_fd_handlers_except(
    cage: u64,
    grate: u64,
    except: Option<HashSet<u64>>,
) -> Result<(), GrateError> {
    let except = except.unwrap_or_default();
    FD_HANDLER_TABLE
        .iter()
        .filter(|(nr, _)| !except.contains(nr))
        .try_for_each(|(nr, handler)| register_handler(cage, *nr, grate, *handler))
}

/// Collects handlers, then runs a program under them.
#[derive(Default)]
pub struct GrateBuilder {
    handlers: Vec<(u64, SyscallHandler)>,
    descriptors: FdTranslatePolicy,
    preexec: Option<PreExecCallback>,
    pause: Option<PauseCallback>,
    teardown: Option<GrateTeardownCallback>,
}

impl GrateBuilder {
    /// A grate without handlers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `handler` serve the call `nr`. The last one registered for a number serves it.
    #[must_use]
    pub fn register(mut self, nr: u64, handler: SyscallHandler) -> Self {
        self.handlers.push((nr, handler));
        self
    }

    /// Says that the grate changes what programs write: a grate inside that seals does not start then (see
    /// [`order`](crate::order)). One that serves fcntl itself says so there.
    #[must_use]
    pub fn changes_data(self) -> Self {
        self.register(SYS_FCNTL, order::ANSWER)
    }

    /// Gives the program virtual descriptors, by the handlers of [`fd_support`](crate::fd_support) for all calls that
    /// have descriptors but those with these numbers. Handlers that are registered here go before them.
    #[must_use]
    pub fn enable_fd_translate_policy(mut self, except: Option<Vec<u64>>) -> Self {
        let except = except.map(|numbers| numbers.into_iter().collect());
        self.descriptors = FdTranslatePolicy::EnabledExcept(except);
        self
    }

    /// Sets what is called once the child has its handlers and has not begun yet.
    #[must_use]
    pub fn preexec<F: Fn(i32) + 'static>(mut self, callback: F) -> Self {
        self.preexec = Some(Box::new(callback));
        self
    }

    /// Sets what is called over and over while the child runs, for what a grate does by the
    /// clock. It should wait for some time, or it takes up a processor.
    #[must_use]
    pub fn pause<F: Fn() -> Pause + 'static>(mut self, callback: F) -> Self {
        self.pause = Some(Box::new(callback));
        self
    }

    /// Sets what is called once the child has ended.
    #[must_use]
    pub fn teardown<F: Fn(Result<i32, GrateError>) + 'static>(mut self, callback: F) -> Self {
        self.teardown = Some(Box::new(callback));
        self
    }

    /// Runs `argv` under the grate, and ends with its exit status (128 and the signal for one
    /// that was killed; 1 when there is nothing to run or it can't be run).
    pub fn run(self, argv: Vec<String>) -> ! {
        let ended = self.run_child(&argv);
        let code = match &ended {
            Ok(status) => ffi::shell_code(*status),
            Err(error) => {
                eprintln!("{}: {error}", program_name());
                1
            }
        };
        if let Some(teardown) = &self.teardown {
            teardown(ended);
        }
        sys::exit(code)
    }

    fn run_child(&self, argv: &[String]) -> Result<i32, GrateError> {
        let coordination = |what: &str, errno: Errno| {
            GrateError::CoordinationError(format!("{what}: {}", describe(errno)))
        };
        if argv.is_empty() {
            return Err(GrateError::CoordinationError(
                "no program to run was named after the options".to_owned(),
            ));
        }
        // SAFETY: zero bytes are a number.
        let gate_state: &AtomicU32 = unsafe { mmap_shared::<AtomicU32>() };
        const O_CLOEXEC: i32 = 0o2000000;
        let (gate, latch) =
            sys::pipe2(O_CLOEXEC).map_err(|errno| coordination("cannot make a pipe", errno))?;
        let child = sys::fork().map_err(|errno| coordination("cannot fork", errno))?;
        if child == 0 {
            let _ = sys::close(latch);
            let is_open = wait_for(gate_state, gate);
            let _ = sys::close(gate);
            if is_open {
                exec(argv);
            }
            sys::exit(1)
        }
        let _ = sys::close(gate);
        let translated = match &self.descriptors {
            FdTranslatePolicy::Disabled => Ok(()),
            FdTranslatePolicy::EnabledExcept(except) => {
                register_default_fd_handlers_except(child as u64, getcageid(), except.clone())
            }
        };
        let registered = translated.and_then(|()| {
            self.handlers.iter().try_for_each(|(nr, handler)| {
                register_handler(child as u64, *nr, getcageid(), *handler)
            })
        });
        if registered.is_ok() {
            if let Some(preexec) = &self.preexec {
                preexec(child);
            }
            gate_state.store(OPEN, Ordering::Release);
        } else {
            gate_state.store(SHUT, Ordering::Release);
        }
        let _ = sys::close(latch);
        const WNOHANG: i32 = 1;
        let mut pause = self.pause.as_ref();
        let status = loop {
            match sys::waitpid(child, if pause.is_some() { WNOHANG } else { 0 }) {
                Ok((0, _)) => {
                    pause = pause.filter(|pause| pause() == Pause::Over);
                }
                Ok((_, status)) => break status,
                Err(Errno(4)) => {}
                Err(errno) => return Err(coordination("cannot wait for the program", errno)),
            }
        };
        registered.map(|()| status)
    }
}

/// What the child may do, in memory that both see: nothing yet, become the program, or end.
const OPEN: u32 = 1;
const SHUT: u32 = 2;

/// Looks before each of which the child sleeps, after those in which it reads only, until the grate must be gone.
const PAUSES: u32 = 60_000;
const READS: u32 = 16;

/// Waits in the child until its handlers are in place; answers whether it may become the program. It reads from a pipe
/// to be woken, but goes by the number: the handlers may be there before it reads, and answer to that what they like.
fn wait_for(gate: &AtomicU32, pipe: i32) -> bool {
    for look in 0..READS + PAUSES {
        match gate.load(Ordering::Acquire) {
            OPEN => return true,
            SHUT => return false,
            _ => {}
        }
        if look >= READS {
            sys::nap();
        }
        let _ = sys::read(pipe, &mut [0; 1]);
    }
    false
}

/// Becomes the program, in the child.
fn exec(argv: &[String]) -> ! {
    let strings: Result<Vec<CString>, _> =
        argv.iter().map(|arg| CString::new(arg.as_str())).collect();
    let errno = match &strings {
        Ok(strings) => {
            let pointers: Vec<*const u8> = strings
                .iter()
                .map(|string| string.as_ptr().cast())
                .collect();
            let environment = ffi::environment();
            let path = pointers.first().copied().unwrap_or(core::ptr::null());
            // SAFETY: the strings live to the end of this function.
            unsafe { sys::execve(path, &pointers, &environment) }
        }
        Err(_) => Errno(22),
    };
    let name = argv.first().map_or("", String::as_str);
    match errno {
        // Not found, or not a program: the runtime has said why in the second case.
        Errno(2) => eprintln!(
            "{}: {name}: no such program (a name without a slash is looked up in the current \
             directory, /grates and /bin of the root)",
            program_name()
        ),
        errno => eprintln!(
            "{}: {name}: cannot run it: {}",
            program_name(),
            describe(errno)
        ),
    }
    sys::exit(1)
}

fn program_name() -> String {
    let name = std::env::args().next().unwrap_or_default();
    let name = name.rsplit('/').next().unwrap_or_default();
    name.trim_end_matches(".cwasm")
        .trim_end_matches(".wasm")
        .to_owned()
}

fn describe(errno: Errno) -> String {
    crate::constants::error::name(errno.0)
        .map_or_else(|| format!("error {}", errno.0), str::to_owned)
}
