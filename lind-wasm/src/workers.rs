//! The workers of a grate: instances of it that run its handlers on other cages' threads.

use crate::cage::Cage;
use crate::ids::CageId;
use crate::image::{ENTRY, Image, Serve};
use crate::line::first_line;
use crate::regions::{Backing, Prot};
use crate::request::Arg;
use crate::runtime::Runtime;
use crate::state::{HostState, Linkers, instantiate, new_store};
use rustix::io::Errno;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use wasmtime::{Instance, InstancePre, Store, TypedFunc, Val};

/// Stack of a worker in the grate's memory, in bytes: a quarter of Lind's, so that there is room for
/// as many as there can be cages.
const WORKER_STACK: u64 = 2 << 20;
/// Workers that one grate may have at a time, beside one for each thread that the run's cages may
/// have: for calls in calls.
const SPARE_WORKERS: usize = 64;

/// An instance of a grate that runs its handlers on other cages' threads.
struct Worker {
    store: Store<HostState>,
    entry: TypedFunc<EntryParams, i32>,
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

/// The workers of one image.
pub struct Workers {
    grate: CageId,
    rt: Weak<Runtime>,
    cage: Weak<Cage>,
    image: Weak<Image>,
    linkers: Arc<Linkers>,
    template: InstancePre<HostState>,
    idle: Mutex<Vec<Worker>>,
    /// All that there are, idle or at work.
    count: AtomicUsize,
}

impl Workers {
    /// Those of the image whose main instance has that state; none is there before it is wanted.
    pub fn new(main: &HostState, template: InstancePre<HostState>) -> Self {
        Self {
            grate: main.cage.id,
            rt: Arc::downgrade(&main.rt),
            cage: Arc::downgrade(&main.cage),
            image: Arc::downgrade(&main.image),
            linkers: main.linkers.clone(),
            template,
            idle: Mutex::new(Vec::new()),
            count: AtomicUsize::new(0),
        }
    }

    fn complain(&self, what: &str, error: &wasmtime::Error, then: &str) {
        if let (Some(rt), Some(image)) = (self.rt.upgrade(), self.image.upgrade()) {
            let grate = rt.describe(self.grate, Some(&image));
            rt.complain(format_args!("{grate}: {what}: {}{then}", first_line(error)));
        }
    }

    fn hire(&self) -> Result<Worker, Errno> {
        let (Some(rt), Some(cage), Some(image)) =
            (self.rt.upgrade(), self.cage.upgrade(), self.image.upgrade())
        else {
            return Err(Errno::IO);
        };
        let most = rt.most_threads().saturating_add(SPARE_WORKERS);
        if self.count.fetch_add(1, Ordering::AcqRel) >= most {
            self.count.fetch_sub(1, Ordering::AcqRel);
            return Err(Errno::AGAIN);
        }
        let state = HostState::new(rt, self.linkers.clone(), cage, image, None);
        Worker::new(state, &self.template).map_err(|error| {
            self.count.fetch_sub(1, Ordering::AcqRel);
            self.complain("cannot make an instance for its handlers", &error, "");
            Errno::IO
        })
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Worker>> {
        self.idle.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Serve for Workers {
    fn serve(&self, handler: u64, args: &[Arg; 6]) -> Result<i32, Errno> {
        let idle = self.idle().pop();
        let mut worker = match idle {
            Some(worker) => worker,
            None => self.hire()?,
        };
        match worker.run(self.grate, handler, args) {
            Ok(result) => {
                let mut idle = self.idle();
                if worker.store.data().image.service().is_up() {
                    idle.push(worker);
                } else {
                    self.count.fetch_sub(1, Ordering::AcqRel);
                }
                Ok(result)
            }
            Err(error) => {
                self.count.fetch_sub(1, Ordering::AcqRel);
                let HostState { rt, image, .. } = worker.store.data();
                // The first to fail says so. The others stop because of it, or of its end.
                if image.service().is_up() {
                    // Its memory may be half changed and its locks taken: it serves no more.
                    image.retire();
                    rt.release_callers(self.grate, image);
                    let then = "; its programs get EIO from now on";
                    self.complain("its handler failed", &error, then);
                }
                Err(Errno::IO)
            }
        }
    }

    fn dismiss(&self) {
        // Workers hold the image, and the image these: the circle ends here.
        let idle = std::mem::take(&mut *self.idle());
        self.count.fetch_sub(idle.len(), Ordering::AcqRel);
    }

    fn are_busy(&self) -> bool {
        let idle = self.idle();
        self.count.load(Ordering::Acquire) > idle.len()
    }
}

impl Worker {
    fn new(state: HostState, template: &InstancePre<HostState>) -> wasmtime::Result<Self> {
        let strict = state.rt.strict;
        let image = state.image.clone();
        let mut store = new_store(state);
        let instance = instantiate(template, &mut store, false)?;
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
        // Once is enough: a handler that returns leaves it as it was, and one that does not ends
        // the worker.
        if let Some(stack_pointer) = instance.get_global(&mut store, "__stack_pointer") {
            let top = (stack + WORKER_STACK) as i32;
            stack_pointer.set(&mut store, Val::I32(top))?;
        }
        let mut worker = Self { store, entry };
        if !strict {
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
