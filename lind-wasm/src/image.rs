//! A program in a cage: its memory, its instances, and the workers that serve calls of others.

use crate::cage::{Cage, CageId};
use crate::host::HostState;
use crate::memory::GuestMemory;
use crate::program::{Kind, Program};
use crate::regions::{Backing, Prot};
use crate::runtime::Runtime;
use crate::threei::Arg;
use rustix::io::Errno;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use wasmtime::{ExternType, Global, Instance, InstancePre, Store, TypedFunc, Val};

/// Stack of a worker in the grate's memory, in bytes. As large as Lind's.
const WORKER_STACK: u64 = 8 << 20;
/// Workers that one grate may have at a time.
const MAX_WORKERS: usize = 128;
/// The export through which handlers are called.
const ENTRY: &str = "pass_fptr_to_wt";

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
    /// The module with its imports resolved, made when the main instance is.
    template: OnceLock<InstancePre<HostState>>,
    idle: Mutex<Vec<Worker>>,
    workers: AtomicUsize,
    service: Arc<Service>,
}

/// Whether an image serves calls of other cages.
#[derive(Debug)]
pub struct Service(AtomicBool);

impl Service {
    /// Whether it does: once it does not any more, it never will.
    pub fn is_up(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image").finish_non_exhaustive()
    }
}

/// An instance of a grate that runs its handlers on other cages' threads.
struct Worker {
    store: Store<HostState>,
    entry: TypedFunc<EntryParams, i32>,
    stack_pointer: Option<Global>,
    stack_top: i32,
}

/// Handler, grate, then six arguments with their cages.
type EntryParams = (
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
);

impl Image {
    /// A program with the memory it starts with.
    pub fn new(
        program: Arc<Program>,
        memory: GuestMemory,
        args: Vec<Vec<u8>>,
        env: Vec<Vec<u8>>,
    ) -> Self {
        Self {
            program,
            memory,
            args,
            env,
            template: OnceLock::new(),
            idle: Mutex::new(Vec::new()),
            workers: AtomicUsize::new(0),
            service: Arc::new(Service(AtomicBool::new(true))),
        }
    }

    /// Whether the program can be a grate.
    pub fn can_serve(&self) -> bool {
        self.program.kind == Kind::Lind
            && matches!(
                self.program.module.get_export(ENTRY),
                Some(ExternType::Func(_))
            )
    }

    /// Whether it serves calls of other cages.
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Ends its service: calls routed to it fail from now on.
    pub fn retire(&self) {
        self.service.0.store(false, Ordering::Release);
        // Workers hold the image and the image its workers: break the circle.
        drop(std::mem::take(
            &mut *self.idle.lock().unwrap_or_else(|e| e.into_inner()),
        ));
    }

    /// The module with its imports resolved, for a store of this image.
    ///
    /// # Errors
    /// When the program imports something that does not exist.
    pub fn template(
        &self,
        rt: &Runtime,
        store: &Store<HostState>,
    ) -> wasmtime::Result<InstancePre<HostState>> {
        if let Some(template) = self.template.get() {
            return Ok(template.clone());
        }
        let template = rt.linker(self.program.kind).template(store, self)?;
        Ok(self.template.get_or_init(|| template).clone())
    }

    /// Runs a handler of this grate on the calling thread.
    ///
    /// # Errors
    /// `EIO` when the grate is gone or its handler trapped; `EAGAIN` when it has too many calls
    /// at once.
    pub fn call_handler(
        self: &Arc<Self>,
        rt: &Arc<Runtime>,
        grate: CageId,
        handler: u64,
        args: &[Arg; 6],
    ) -> Result<i32, Errno> {
        if !self.service.is_up() {
            return Err(Errno::IO);
        }
        let idle = self.idle.lock().unwrap_or_else(|e| e.into_inner()).pop();
        let mut worker = match idle {
            Some(worker) => worker,
            None => self.hire(rt, grate)?,
        };
        match worker.run(grate, handler, args) {
            Ok(result) => {
                let mut idle = self.idle.lock().unwrap_or_else(|e| e.into_inner());
                if self.service.is_up() {
                    idle.push(worker);
                }
                Ok(result)
            }
            Err(error) => {
                // Its memory may be half changed and its locks taken: it serves no more.
                self.retire();
                rt.complain(format_args!(
                    "{}: its handler failed: {}; its programs get EIO from now on",
                    rt.describe(grate, Some(self)),
                    first_line(&error)
                ));
                Err(Errno::IO)
            }
        }
    }

    fn hire(self: &Arc<Self>, rt: &Arc<Runtime>, grate: CageId) -> Result<Worker, Errno> {
        let cage = rt.cage(grate).ok_or(Errno::IO)?;
        if self.workers.fetch_add(1, Ordering::AcqRel) >= MAX_WORKERS {
            self.workers.fetch_sub(1, Ordering::AcqRel);
            return Err(Errno::AGAIN);
        }
        Worker::new(rt, cage, self).map_err(|error| {
            self.workers.fetch_sub(1, Ordering::AcqRel);
            rt.complain(format_args!(
                "{}: cannot make an instance for its handlers: {}",
                rt.describe(grate, Some(self)),
                first_line(&error)
            ));
            Errno::IO
        })
    }
}

/// The first line of an engine's error, which can be long.
pub fn first_line(error: &wasmtime::Error) -> String {
    let mut text = error.root_cause().to_string();
    text.truncate(text.find('\n').unwrap_or(text.len()));
    text
}

impl Worker {
    fn new(rt: &Arc<Runtime>, cage: Arc<Cage>, image: &Arc<Image>) -> wasmtime::Result<Self> {
        let state = HostState::new(rt.clone(), cage, image.clone(), false);
        let mut store = rt.new_store(state);
        let instance = image.template(rt, &store)?.instantiate(&mut store)?;
        let entry = instance.get_typed_func::<EntryParams, i32>(&mut store, ENTRY)?;
        let stack = image
            .memory
            .map(
                None,
                WORKER_STACK,
                Prot::READ | Prot::WRITE,
                Backing::WorkerStack,
            )
            .map_err(|errno| wasmtime::Error::msg(format!("no room for its stack: {errno}")))?;
        let stack_pointer = instance.get_global(&mut store, "__stack_pointer");
        let stack_top = (stack + WORKER_STACK) as i32;
        let mut worker = Self {
            store,
            entry,
            stack_pointer,
            stack_top,
        };
        if !rt.strict {
            worker.init_tls(&instance, stack)?;
        }
        Ok(worker)
    }

    /// Gives a C grate its own thread-local block at the low end of the stack. (Lind does not;
    /// our Rust grates bring their own.)
    fn init_tls(&mut self, instance: &Instance, block: u64) -> wasmtime::Result<()> {
        if let (Ok(init), Ok(_)) = (
            instance.get_typed_func::<i32, ()>(&mut self.store, "__wasm_init_tls"),
            instance.get_typed_func::<(), i32>(&mut self.store, "__get_aligned_tls_size"),
        ) {
            init.call(&mut self.store, block as i32)?;
        }
        Ok(())
    }

    fn run(&mut self, grate: CageId, handler: u64, a: &[Arg; 6]) -> wasmtime::Result<i32> {
        if let Some(stack_pointer) = self.stack_pointer {
            stack_pointer.set(&mut self.store, Val::I32(self.stack_top))?;
        }
        let v = |i: usize| a[i].value as i64;
        let c = |i: usize| a[i].cage as i64;
        let params = (
            handler as i64,
            grate.raw() as i64,
            v(0),
            c(0),
            v(1),
            c(1),
            v(2),
            c(2),
            v(3),
            c(3),
            v(4),
            c(4),
            v(5),
            c(5),
        );
        self.entry.call(&mut self.store, params)
    }
}
