//! What each instance of a program carries along, and why it stops.

use crate::cage::{Cage, NewImage, Unborn, WaitStatus};
use crate::image::Image;
use crate::limits::Tables;
use crate::module::{MEMORY_FIELD, MEMORY_MODULE, START};
use crate::program::Kind;
use crate::routes::KnownRoutes;
use crate::runtime::Runtime;
use crate::signals::Next;
use crate::threads::{Recruit, Task};
use rustix::io::Errno;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use wasmtime::{
    AsContextMut, Global, Instance, InstancePre, Linker, Store, StoreContextMut, TypedFunc,
    UpdateDeadline, WasmParams, WasmResults,
};

/// What an instance carries along.
pub struct HostState {
    /// The run.
    pub rt: Arc<Runtime>,
    /// The cage that the instance belongs to.
    pub cage: Arc<Cage>,
    /// What programs import.
    pub linkers: Arc<Linkers>,
    /// Its program and memory.
    pub image: Arc<Image>,
    /// What is remembered of the cage's routes.
    pub routes: KnownRoutes,
    /// The thread of the cage whose instance it is; `None` for a worker.
    pub task: Option<Arc<Task>>,
    /// Where handlers of signals are entered, in an instance of a thread once it runs.
    pub signalled: Option<TypedFunc<(i32, i32), ()>>,
    /// How to fork, if the program can.
    pub asyncify: Option<Asyncify>,
    /// A fork under way: the stack is being saved. What it makes, and the caller's result.
    pub unwinding: Option<(Split, i32)>,
    /// One of the functions of [`Asyncify`] is running.
    in_asyncify: bool,
    /// The result that the interrupted call gives once the stack is back.
    pub rewind: Option<i32>,
    /// A thread of a WASI program's that is to begin when the call that asked for it is over.
    pub recruit: Option<Recruit>,
    /// What its tables take.
    pub tables: Tables,
    /// Data segments that the instance has dropped.
    pub dropped: HashSet<u32>,
}

impl HostState {
    /// State of a thread's own instance or of a worker.
    pub fn new(
        rt: Arc<Runtime>,
        linkers: Arc<Linkers>,
        cage: Arc<Cage>,
        image: Arc<Image>,
        task: Option<Arc<Task>>,
    ) -> Self {
        Self {
            tables: Tables::new(&cage.account),
            rt,
            linkers,
            cage,
            image,
            routes: KnownRoutes::default(),
            task,
            signalled: None,
            asyncify: None,
            unwinding: None,
            in_asyncify: false,
            rewind: None,
            recruit: None,
            dropped: HashSet::new(),
        }
    }

    /// Why the instance must stop, if it must: its cage was condemned, its thread is to leave, or
    /// it is a worker of an image that serves no more.
    pub fn doomed(&self) -> Option<Stop> {
        match &self.task {
            None if !self.image.service().is_up() => {
                return Some(Stop::Exit(WaitStatus::TRAPPED));
            }
            Some(task) if task.is_dismissed() => return Some(Stop::Leave(0)),
            _ => {}
        }
        self.cage.doom().map(Stop::Exit)
    }

    /// Whether this instance has handlers of signals to run, and can: its thread is the one that does,
    /// and its stack is not being saved or restored.
    pub fn has_handlers_to_run(&self) -> bool {
        self.cage.signals.are_due()
            && self.rewind.is_none()
            && self.busy().is_none()
            && (self.task.as_ref()).is_some_and(|task| self.cage.crew.is_first(task))
    }

    /// Why it is no time for a system call, if it is none: a fork is at work on the stack.
    pub fn busy(&self) -> Option<&'static str> {
        if self.in_asyncify {
            Some("it made a system call in one of asyncify's own functions")
        } else if self.unwinding.is_some() {
            Some("it went on while its stack was being saved for a fork")
        } else {
            None
        }
    }
}

/// A program's own functions that save and restore its stack (Binaryen's asyncify).
#[derive(Clone)]
pub struct Asyncify {
    /// Begins saving into the buffer at that offset.
    pub start_unwind: TypedFunc<i32, ()>,
    /// Ends saving.
    pub stop_unwind: TypedFunc<(), ()>,
    /// Begins restoring from the buffer at that offset.
    pub start_rewind: TypedFunc<i32, ()>,
    /// Ends restoring.
    pub stop_rewind: TypedFunc<(), ()>,
    /// Top of the stack in use.
    pub stack_pointer: Global,
    /// Lowest address of the stack: the unused part above it takes what is saved.
    pub stack_low: u32,
    /// The first address above the stack.
    pub stack_high: u32,
}

/// What a saved stack is for.
#[derive(Debug)]
pub enum Split {
    /// A cage more.
    Cage(Unborn),
    /// A thread more.
    Thread(Recruit),
}

impl Asyncify {
    /// Calls one of the functions.
    ///
    /// # Errors
    /// What ends it. A system call does: it belongs to none of them.
    pub fn call<P: WasmParams, R: WasmResults>(
        mut store: impl AsContextMut<Data = HostState>,
        function: &TypedFunc<P, R>,
        params: P,
    ) -> wasmtime::Result<R> {
        store.as_context_mut().data_mut().in_asyncify = true;
        let called = function.call(&mut store, params);
        store.as_context_mut().data_mut().in_asyncify = false;
        called
    }
}

/// Why an instance stops for good. Travels as a trap, so no code of the program runs any more.
#[derive(Debug)]
pub enum Stop {
    /// Its cage has ended.
    Exit(WaitStatus),
    /// Its thread has, with that exit code.
    Leave(i32),
    /// Another program takes its place.
    Exec(Box<NewImage>),
    /// It asked for its own end, with a message (`debug-panic`).
    Panicked,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Exit(status) => match status.0 & 0x7f {
                0 => f.write_str("exit"),
                signal => write!(f, "killed by signal {signal}"),
            },
            Stop::Leave(_) => f.write_str("end of a thread"),
            Stop::Exec(_) => f.write_str("exec"),
            Stop::Panicked => f.write_str("the program panicked"),
        }
    }
}

impl std::error::Error for Stop {}

/// Runs the handlers of the signals that are to come, if the instance [has any to
/// run](HostState::has_handlers_to_run). Answers whether a call that they interrupted is to be made
/// once more.
///
/// # Errors
/// A [`Stop`] where a signal ends the cage, and what ends a handler.
pub fn run_handlers(mut context: StoreContextMut<'_, HostState>) -> wasmtime::Result<bool> {
    let mut restarts = true;
    let mut ran = false;
    while context.data().has_handlers_to_run() {
        let cage = context.data().cage.clone();
        match cage.signals.next() {
            None => break,
            Some(Next::End(signal)) => {
                let status = WaitStatus::killed(signal.number());
                return Err(Stop::Exit(status).into());
            }
            Some(Next::Call {
                handler,
                signal,
                restarts: again,
                resume,
            }) => {
                ran = true;
                restarts &= again;
                let entry = context.data().signalled.clone();
                let called = match entry {
                    Some(entry) => entry.call(&mut context, (handler as i32, signal.number())),
                    // None can have been set then.
                    None => Ok(()),
                };
                cage.signals.finish(resume);
                called?;
            }
        }
    }
    Ok(ran && restarts)
}

/// The functions that programs import, by kind.
pub struct Linkers {
    /// For Lind programs.
    pub lind: Linker<HostState>,
    /// For WASI programs.
    pub wasi: Linker<HostState>,
    /// How a thread of a WASI program begins, with an argument.
    pub begin: Begin,
}

/// Starts a thread of the program that has that state.
pub type Begin = fn(&HostState, Recruit, i32) -> Result<(), Errno>;

impl Linkers {
    /// Resolves the imports of an image's module.
    ///
    /// # Errors
    /// When the program imports something that does not exist.
    pub fn template(
        &self,
        store: &Store<HostState>,
        image: &Image,
    ) -> wasmtime::Result<InstancePre<HostState>> {
        let mut linker = match image.program.kind {
            Kind::Lind => self.lind.clone(),
            Kind::Wasi => self.wasi.clone(),
        };
        linker.define(
            store,
            MEMORY_MODULE,
            MEMORY_FIELD,
            image.memory.shared().clone(),
        )?;
        linker.instantiate_pre(&image.program.module)
    }
}

/// An epoch that never comes.
const NEVER: u64 = 1 << 62;

/// A store whose code stops when its cage is condemned, and is interrupted where it has handlers of
/// signals to run. Those that are run so are not stopped themselves unless they make a call.
pub fn new_store(state: HostState) -> Store<HostState> {
    let mut store = Store::new(&state.rt.engine.clone(), state);
    store.limiter(|state| &mut state.tables);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|mut context| {
        if let Some(stop) = context.data().doomed() {
            return Err(stop.into());
        }
        if context.data().has_handlers_to_run() {
            // The engine can't look at its epoch within this, and would end the instance.
            context.set_epoch_deadline(NEVER);
            run_handlers(context)?;
        }
        Ok(UpdateDeadline::Continue(1))
    });
    store
}

/// Makes an instance, and runs the program's start function. `fresh` puts its data into the memory,
/// which only the first instance in a memory of its own must do.
///
/// # Errors
/// What ends its start function.
pub fn instantiate(
    template: &InstancePre<HostState>,
    store: &mut Store<HostState>,
    fresh: bool,
) -> wasmtime::Result<Instance> {
    // A kill that came before the store was there does not interrupt its code.
    if let Some(stop) = store.data().doomed() {
        return Err(stop.into());
    }
    let instance = template.instantiate(&mut *store)?;
    instance
        .get_typed_func::<i32, ()>(&mut *store, START)?
        .call(&mut *store, fresh.into())?;
    Ok(instance)
}
