//! The functions that programs import, and what each instance of a program carries along.

use crate::cage::{Cage, NewImage, Pending, WaitStatus};
use crate::image::Image;
use crate::module::{MEMORY_FIELD, MEMORY_MODULE};
use crate::runtime::Runtime;
use crate::threei::{self, Arg, Request, UNUSED};
use crate::wasi;
use calls::WRITE;
use std::fmt;
use std::sync::Arc;
use wasmtime::{Caller, Engine, Global, InstancePre, Linker, Store, TypedFunc, Val};

/// What an instance carries along.
pub struct HostState {
    /// The run.
    pub rt: Arc<Runtime>,
    /// The cage that the instance belongs to.
    pub cage: Arc<Cage>,
    /// Its program and memory.
    pub image: Arc<Image>,
    /// The instance that runs `_start`, not a worker.
    main: bool,
    /// How to fork, if the program can.
    pub asyncify: Option<Asyncify>,
    /// A fork under way: the stack is being saved. The child, and the parent's result.
    pub unwinding: Option<(Arc<Cage>, i32)>,
    /// The result that the interrupted call gives once the stack is back.
    pub rewind: Option<i32>,
    /// What the WASI layer remembers.
    pub wasi: wasi::State,
}

impl HostState {
    /// State of a main instance or of a worker.
    pub fn new(rt: Arc<Runtime>, cage: Arc<Cage>, image: Arc<Image>, main: bool) -> Self {
        Self {
            rt,
            cage,
            image,
            main,
            asyncify: None,
            unwinding: None,
            rewind: None,
            wasi: wasi::State::default(),
        }
    }

    /// Why the instance must stop, if it must.
    pub fn doomed(&self) -> Option<Stop> {
        self.cage.doom().map(Stop::Killed)
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
}

/// Why an instance stops for good. Travels as a trap, so no code of the program runs any more.
#[derive(Debug)]
pub enum Stop {
    /// It has ended.
    Exit(WaitStatus),
    /// Another program takes its place.
    Exec(Box<NewImage>),
    /// A signal ended it.
    Killed(i32),
    /// It asked for its own end, with a message (`debug-panic`).
    Panicked,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Exit(_) => f.write_str("exit"),
            Stop::Exec(_) => f.write_str("exec"),
            Stop::Killed(signal) => write!(f, "killed by signal {signal}"),
            Stop::Panicked => f.write_str("the program panicked"),
        }
    }
}

impl std::error::Error for Stop {}

/// Makes a system call for an instance: through 3i, then does what the call left to do.
///
/// # Errors
/// A [`Stop`] when the instance must not go on.
pub fn system_call(caller: &mut Caller<'_, HostState>, request: Request) -> wasmtime::Result<i32> {
    let state = caller.data();
    let (rt, cage) = (state.rt.clone(), state.cage.clone());
    if state.main {
        cage.enter_call(request.nr);
    }
    let result = threei::dispatch(&rt, &cage, request);
    if !cage.needs_attention() {
        return Ok(result);
    }
    if let Some(stop) = caller.data().doomed() {
        return Err(stop.into());
    }
    if !caller.data().main {
        return Ok(result);
    }
    deliver(&rt, &cage);
    match cage.take_pending() {
        None => Ok(result),
        Some(Pending::Exit(status)) => Err(Stop::Exit(status).into()),
        Some(Pending::Exec(new)) => Err(Stop::Exec(new).into()),
        Some(Pending::Fork(child)) => unwind(caller, child, result),
    }
}

/// Writes what is to be said about a cage to its standard error, through 3i.
pub fn deliver(rt: &Arc<Runtime>, cage: &Arc<Cage>) {
    const STANDARD_ERROR: u64 = 2;
    let (Some(mut line), Ok(image)) = (cage.take_said(), cage.image()) else {
        return;
    };
    line.push('\n');
    let own = cage.id.raw();
    // There is nobody to tell that nothing can be told.
    let _ = image.memory.lend(line.as_bytes(), |at| {
        let mut args = [UNUSED; 6].map(|value| Arg { value, cage: own });
        args[0].value = STANDARD_ERROR;
        args[1].value = at;
        args[2].value = line.len() as u64;
        let request = Request {
            nr: WRITE,
            own,
            target: own,
            args,
        };
        threei::dispatch(rt, cage, request)
    });
}

/// Begins to save the stack for a fork; the instance returns out of `_start` next.
fn unwind(
    caller: &mut Caller<'_, HostState>,
    child: Arc<Cage>,
    result: i32,
) -> wasmtime::Result<i32> {
    // A grate may name another number than the child's to the parent, but can't fail the call.
    let result = if result > 0 { result } else { child.id.pid() };
    // Noted first: whatever goes wrong from here on, the child is not forgotten.
    caller.data_mut().unwinding = Some((child, result));
    let asyncify = caller
        .data()
        .asyncify
        .clone()
        .ok_or_else(|| wasmtime::Error::msg("fork without asyncify"))?;
    let Val::I32(stack_pointer) = asyncify.stack_pointer.get(&mut *caller) else {
        return Err(wasmtime::Error::msg("__stack_pointer is not an i32"));
    };
    let mut header = [0; 8];
    header[..4].copy_from_slice(&(asyncify.stack_low + 8).to_le_bytes());
    header[4..].copy_from_slice(&stack_pointer.to_le_bytes());
    let memory = &caller.data().image.memory;
    memory
        .write(memory.base() + u64::from(asyncify.stack_low), &header)
        .map_err(|_| wasmtime::Error::msg("__stack_low is no address"))?;
    asyncify
        .start_unwind
        .call(&mut *caller, asyncify.stack_low as i32)?;
    Ok(0)
}

/// The functions for one kind of program.
pub struct HostLinker(Linker<HostState>);

impl HostLinker {
    /// Resolves the imports of an image's module.
    ///
    /// # Errors
    /// When the program imports something that does not exist.
    pub fn template(
        &self,
        store: &Store<HostState>,
        image: &Image,
    ) -> wasmtime::Result<InstancePre<HostState>> {
        let mut linker = self.0.clone();
        linker.define(
            store,
            MEMORY_MODULE,
            MEMORY_FIELD,
            image.memory.shared().clone(),
        )?;
        linker.instantiate_pre(&image.program.module)
    }
}

/// The functions for Lind programs.
///
/// # Errors
/// Never in practice: a name defined twice.
pub fn lind(engine: &Engine) -> anyhow::Result<HostLinker> {
    let mut linker = Linker::new(engine);
    linker.func_wrap("lind", "make-syscall", make_syscall)?;
    linker.func_wrap(
        "lind",
        "lind-get-memory-base",
        |caller: Caller<'_, HostState>| caller.data().image.memory.base() as i64,
    )?;
    linker.func_wrap(
        "lind",
        "lind-get-cage-id",
        |caller: Caller<'_, HostState>| caller.data().cage.id.raw() as i64,
    )?;
    linker.func_wrap(
        "lind",
        "epoch_callback",
        |caller: Caller<'_, HostState>| match caller.data().doomed() {
            Some(stop) => Err(wasmtime::Error::from(stop)),
            None => Ok(()),
        },
    )?;
    linker.func_wrap("lind", "debug-panic", debug_panic)?;
    // No dynamic linking: the codes are those of a Lind program that asks for it.
    linker.func_wrap("lind", "dlopen", |_path: i32, _flags: i32| -> i32 { -8 })?;
    linker.func_wrap("lind", "dlsym", |_handle: i32, _name: i32| -> i32 { -5 })?;
    linker.func_wrap("lind", "dlclose", |_handle: i32| -> i32 { -6 })?;
    for module in ["lind", "wasi_snapshot_preview1"] {
        linker.func_wrap(
            module,
            "args_sizes_get",
            |c: Caller<'_, HostState>, count, size| {
                strings_sizes(&c, &c.data().image.args, count, size)
            },
        )?;
        linker.func_wrap(
            module,
            "args_get",
            |c: Caller<'_, HostState>, list, bytes| {
                strings_get(&c, &c.data().image.args, list, bytes)
            },
        )?;
        linker.func_wrap(
            module,
            "environ_sizes_get",
            |c: Caller<'_, HostState>, count, size| {
                strings_sizes(&c, &c.data().image.env, count, size)
            },
        )?;
        linker.func_wrap(
            module,
            "environ_get",
            |c: Caller<'_, HostState>, list, bytes| {
                strings_get(&c, &c.data().image.env, list, bytes)
            },
        )?;
        linker.func_wrap(module, "random_get", random_get)?;
    }
    Ok(HostLinker(linker))
}

/// The functions for WASI programs.
///
/// # Errors
/// Never in practice: a name defined twice.
pub fn wasi(engine: &Engine) -> anyhow::Result<HostLinker> {
    let mut linker = Linker::new(engine);
    wasi::define(&mut linker)?;
    Ok(HostLinker(linker))
}

/// Result of the functions below for an address that is not the program's, as Lind has it.
const BAD_ADDRESS: i32 = 14;

#[expect(clippy::too_many_arguments, reason = "the Lind ABI has sixteen")]
fn make_syscall(
    mut caller: Caller<'_, HostState>,
    nr: i32,
    _name: i64,
    own: i64,
    target: i64,
    a1: i64,
    c1: i64,
    a2: i64,
    c2: i64,
    a3: i64,
    c3: i64,
    a4: i64,
    c4: i64,
    a5: i64,
    c5: i64,
    a6: i64,
    c6: i64,
) -> wasmtime::Result<i32> {
    if let Some(result) = caller.data_mut().rewind.take() {
        if let Some(asyncify) = caller.data().asyncify.clone() {
            asyncify.stop_rewind.call(&mut caller, ())?;
        }
        return Ok(result);
    }
    let arg = |value: i64, cage: i64| Arg {
        value: value as u64,
        cage: cage as u64,
    };
    let request = Request {
        nr: nr as u32,
        own: own as u64,
        target: target as u64,
        args: [
            arg(a1, c1),
            arg(a2, c2),
            arg(a3, c3),
            arg(a4, c4),
            arg(a5, c5),
            arg(a6, c6),
        ],
    };
    system_call(&mut caller, request)
}

fn debug_panic(caller: Caller<'_, HostState>, message: i64) -> wasmtime::Result<()> {
    let HostState {
        rt, cage, image, ..
    } = caller.data();
    let text = image.memory.read_cstr(message as u64, 4096);
    let text = String::from_utf8_lossy(text.as_deref().unwrap_or_default());
    cage.say(format!("lind-wasm: cage {}: {text}", cage.id));
    deliver(rt, cage);
    Err(Stop::Panicked.into())
}

/// An offset as the address that [`crate::memory::GuestMemory`] takes.
fn address(caller: &Caller<'_, HostState>, offset: i32) -> u64 {
    caller.data().image.memory.base() + u64::from(offset as u32)
}

pub(crate) fn strings_sizes(
    caller: &Caller<'_, HostState>,
    strings: &[Vec<u8>],
    count_at: i32,
    size_at: i32,
) -> i32 {
    let memory = &caller.data().image.memory;
    let size: usize = strings.iter().map(|string| string.len() + 1).sum();
    let written = memory
        .write(
            address(caller, count_at),
            &(strings.len() as u32).to_le_bytes(),
        )
        .and_then(|()| memory.write(address(caller, size_at), &(size as u32).to_le_bytes()));
    written.map_or(BAD_ADDRESS, |()| 0)
}

pub(crate) fn strings_get(
    caller: &Caller<'_, HostState>,
    strings: &[Vec<u8>],
    list_at: i32,
    bytes_at: i32,
) -> i32 {
    let mut list = Vec::with_capacity(4 * strings.len());
    let mut bytes = Vec::new();
    for string in strings {
        let at = (bytes_at as u32).wrapping_add(bytes.len() as u32);
        list.extend_from_slice(&at.to_le_bytes());
        bytes.extend_from_slice(string);
        bytes.push(0);
    }
    let memory = &caller.data().image.memory;
    let written = memory
        .write(address(caller, list_at), &list)
        .and_then(|()| memory.write(address(caller, bytes_at), &bytes));
    written.map_or(BAD_ADDRESS, |()| 0)
}

fn random_get(caller: Caller<'_, HostState>, at: i32, len: i32) -> i32 {
    let memory = &caller.data().image.memory;
    let mut at = address(&caller, at);
    let mut left = u64::from(len as u32);
    let mut block = [0; 4096];
    while left > 0 {
        let part = &mut block[..left.min(4096) as usize];
        if getrandom::fill(part).is_err() || memory.write(at, part).is_err() {
            return BAD_ADDRESS;
        }
        at += part.len() as u64;
        left -= part.len() as u64;
    }
    0
}
