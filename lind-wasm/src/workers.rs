//! The workers of a grate: instances of it that run its handlers on other cages' threads.

use crate::cage::Cage;
use crate::ids::CageId;
use crate::image::{Image, Serve, Service};
use crate::line::first_line;
use crate::program::ENTRY;
use crate::regions::{Backing, Prot};
use crate::request::Arg;
use crate::runtime::Runtime;
use crate::spread::{Line, number_of_thread};
use crate::state::{HostState, Linkers, instantiate, new_store};
use rustix::io::Errno;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError, Weak};
use wasmtime::{Instance, InstancePre, Store, TypedFunc, Val, ValRaw};

/// Stack of a worker in the grate's memory, in bytes: a quarter of Lind's, so that there is room for
/// as many as there can be cages.
const WORKER_STACK: u64 = 2 << 20;
/// Workers that stay where they are between calls; threads share them by their numbers. Taking one
/// of the others costs twice the locking.
const SEATS: usize = 16;
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
    /// What they are made from, until the service ends: it has the image's memory.
    template: Mutex<Option<InstancePre<HostState>>>,
    /// Locked while its worker is at work.
    seats: [Line<Mutex<Option<Worker>>>; SEATS],
    /// The others that are not at work.
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
            template: Mutex::new(Some(template)),
            seats: Default::default(),
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
        let template = self.template().clone().ok_or(Errno::IO)?;
        let most = rt.most_threads().saturating_add(SPARE_WORKERS);
        if self.count.fetch_add(1, Ordering::AcqRel) >= most {
            self.count.fetch_sub(1, Ordering::AcqRel);
            return Err(Errno::AGAIN);
        }
        let state = HostState::new(rt, self.linkers.clone(), cage, image, None);
        Worker::new(state, &template).map_err(|error| {
            self.count.fetch_sub(1, Ordering::AcqRel);
            self.complain("cannot make an instance for its handlers", &error, "");
            Errno::IO
        })
    }

    fn template(&self) -> MutexGuard<'_, Option<InstancePre<HostState>>> {
        self.template.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Worker>> {
        self.idle.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// A seat, unless its worker is at work.
    fn seat(&self, number: usize) -> Option<MutexGuard<'_, Option<Worker>>> {
        match self.seats[number].0.try_lock() {
            Ok(seat) => Some(seat),
            Err(TryLockError::Poisoned(seat)) => Some(seat.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Lets a worker run a handler, and leaves it in its place if it can serve again.
    fn run(
        &self,
        service: &Service,
        place: &mut Option<Worker>,
        handler: u64,
        args: &[Arg; 6],
    ) -> Result<i32, Errno> {
        let worker = match place {
            Some(worker) => worker,
            None => {
                let idle = self.idle().pop();
                place.insert(idle.map_or_else(|| self.hire(), Ok)?)
            }
        };
        let error = match worker.run(self.grate, handler, args) {
            Ok(result) => return Ok(result),
            Err(error) => error,
        };
        let HostState { rt, image, .. } = worker.store.data();
        let (rt, image) = (rt.clone(), image.clone());
        *place = None;
        self.count.fetch_sub(1, Ordering::AcqRel);
        // The first to fail says so. The others stop because of it, or of its end.
        if service.is_up() {
            // Its memory may be half changed and its locks taken: it serves no more.
            image.retire();
            rt.release_callers(self.grate, &image);
            self.complain(
                "its handler failed",
                &error,
                "; its programs get EIO from now on",
            );
        }
        Err(Errno::IO)
    }
}

impl Serve for Workers {
    fn serve(&self, service: &Service, handler: u64, args: &[Arg; 6]) -> Result<i32, Errno> {
        let ran = match self.seat(number_of_thread() % SEATS) {
            Some(mut seat) => self.run(service, &mut seat, handler, args),
            None => {
                let mut place = None;
                let ran = self.run(service, &mut place, handler, args);
                self.idle().extend(place);
                ran
            }
        };
        // Whoever ended the service meanwhile could not dismiss who was at work.
        if !service.is_up() {
            self.dismiss();
        }
        ran
    }

    fn dismiss(&self) {
        // Workers hold the image, and the image these: the circle ends here.
        self.template().take();
        let seated = (0..SEATS).filter_map(|number| self.seat(number)?.take());
        let gone = std::mem::take(&mut *self.idle()).into_iter().chain(seated);
        self.count.fetch_sub(gone.count(), Ordering::AcqRel);
    }

    fn are_busy(&self) -> bool {
        let seated =
            (0..SEATS).filter(|&number| self.seat(number).is_some_and(|seat| seat.is_some()));
        let idle = seated.count() + self.idle().len();
        self.count.load(Ordering::Acquire) > idle
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
        let [a1, a2, a3, a4, a5, a6] = a;
        let mut values = [
            handler,
            grate.raw(),
            a1.value,
            a1.cage,
            a2.value,
            a2.cage,
            a3.value,
            a3.cage,
            a4.value,
            a4.cage,
            a5.value,
            a5.cage,
            a6.value,
            a6.cage,
        ]
        .map(ValRaw::u64);
        // SAFETY: it takes so many numbers of 64 bits, and answers one of 32: as such it was found.
        // (The typed way writes them twice, and its second look comes before the first has
        // arrived.)
        unsafe {
            let entry = self.entry.func();
            entry.call_unchecked(&mut self.store, &raw mut values[..])?;
        }
        Ok(values[0].get_i32())
    }
}
