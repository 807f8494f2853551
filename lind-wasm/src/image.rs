//! A program in a cage: its memory, and who serves calls of others.

use crate::limits::{Account, Charge, Resource};
use crate::memory::GuestMemory;
use crate::parking::Parking;
use crate::program::Program;
use crate::request::Arg;
use rustix::io::Errno;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use wasmtime::ValType;

/// The export through which handlers of signals are called: place in the function table, signal.
pub(crate) const SIGNALLED: &str = "signal_callback";

/// A program in a cage, from exec (or fork) to the next exec or the end.
pub struct Image {
    /// The program.
    pub program: Arc<Program>,
    /// The memory of all its instances.
    pub memory: GuestMemory,
    /// Its arguments.
    pub args: Vec<Vec<u8>>,
    /// Its environment.
    pub env: Vec<Vec<u8>>,
    /// Its instances that sleep in `memory.atomic.wait`.
    pub parking: Parking,
    /// The root directory as a WASI program has it.
    pub preopen: Mutex<Preopen>,
    service: Arc<Service>,
    /// For its code, which other images may share: then each pays for all of it.
    _code: Charge,
}

/// The preopened root.
#[derive(Clone, Copy, Debug, Default)]
pub enum Preopen {
    /// No call has needed it.
    #[default]
    Pending,
    /// Open, as this descriptor of the cage.
    Open(i32),
    /// Closed by the program, or never to be had. The numbers stay as they were exchanged.
    Gone(i32),
}

/// Who runs an image's handlers on the threads of the cages that call.
pub trait Serve: Send + Sync {
    /// Runs the handler with that index, for that service.
    ///
    /// # Errors
    /// As [`Service::call`].
    fn serve(&self, service: &Service, handler: u64, args: &[Arg; 6]) -> Result<i32, Errno>;

    /// Lets go of all who are idle, for the image serves no more.
    fn dismiss(&self);

    /// Whether any are at work.
    fn are_busy(&self) -> bool;
}

/// What an image does for other cages. Who has a route to it keeps this, and not the image: its
/// memory goes when its cage lets go of it.
pub struct Service {
    is_up: AtomicBool,
    workers: OnceLock<Box<dyn Serve>>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

impl Service {
    /// Whether it serves: once it does not any more, it never will. An image that does is the one
    /// that its cage runs now.
    pub fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Acquire)
    }

    /// Runs a handler on the calling thread.
    ///
    /// # Errors
    /// `EIO` when the grate is gone or its handler trapped; `EAGAIN` when it has too many calls
    /// at once.
    pub fn call(&self, handler: u64, args: &[Arg; 6]) -> Result<i32, Errno> {
        match self.workers.get() {
            Some(workers) if self.is_up() => workers.serve(self, handler, args),
            _ => Err(Errno::IO),
        }
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image").finish_non_exhaustive()
    }
}

impl Image {
    /// A program with the memory it starts with.
    ///
    /// # Errors
    /// `ENOMEM` when the account has no room for its code.
    pub fn new(
        program: Arc<Program>,
        memory: GuestMemory,
        args: Vec<Vec<u8>>,
        env: Vec<Vec<u8>>,
        account: &Arc<Account>,
    ) -> Result<Self, Errno> {
        let mut code = Charge::new(account, Resource::Memory);
        code.resize(program.size())?;
        Ok(Self {
            program,
            memory,
            args,
            env,
            parking: Parking::default(),
            preopen: Mutex::default(),
            service: Arc::new(Service {
                is_up: AtomicBool::new(true),
                workers: OnceLock::new(),
            }),
            _code: code,
        })
    }

    /// Whether the program can be a grate.
    pub fn can_serve(&self) -> bool {
        self.program.can_serve()
    }

    /// Whether it serves calls of other cages.
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Ends its service: calls routed to it fail from now on.
    pub fn retire(&self) {
        self.service.is_up.store(false, Ordering::Release);
        self.parking.rouse();
        if let Some(workers) = self.service.workers.get() {
            workers.dismiss();
        }
    }

    /// Whether any of its handlers is running.
    pub fn is_serving(&self) -> bool {
        let workers = self.service.workers.get();
        workers.is_some_and(|workers| workers.are_busy())
    }

    /// Gives it who runs its handlers, once.
    pub fn staff(&self, workers: Box<dyn Serve>) {
        let _ = self.service.workers.set(workers);
    }

    /// Whether the program can have handlers of signals.
    pub fn can_be_signalled(&self) -> bool {
        let params = [const { ValType::I32 }; 2];
        self.program.has_func(SIGNALLED, &params, &[])
    }

    /// Whether the program exports what a fork needs.
    pub fn can_fork(&self) -> bool {
        let program = &self.program;
        ["asyncify_start_unwind", "asyncify_start_rewind"]
            .iter()
            .all(|name| program.has_func(name, &[ValType::I32], &[]))
            && ["asyncify_stop_unwind", "asyncify_stop_rewind"]
                .iter()
                .all(|name| program.has_func(name, &[], &[]))
            && program.has_global("__stack_pointer", true)
            && program.has_global("__stack_low", false)
    }
}
