//! The threads of a cage: run its program, fork it, replace it, report its end.

use crate::cage::{Cage, NewImage, Pending, Unborn, WaitStatus};
use crate::image::{Image, SIGNALLED};
use crate::line::first_line;
use crate::module::GLOBAL_PREFIX;
use crate::request::{Arg, Request, UNUSED};
use crate::runtime::Runtime;
use crate::state::{Asyncify, HostState, Linkers, Split, Stop, instantiate, new_store};
use crate::threads::{Departure, Recruit, Rest, Task};
use crate::threei;
use crate::workers::Workers;
use crate::{futex, host, syscall};
use calls::{CLOSE, EXIT, EXIT_GROUP};
use rustix::io::Errno;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use wasmtime::{ExternType, Instance, Store, Trap, TypedFunc, Val};

/// Stack of a cage's thread in bytes, of which little is ever touched. It holds the native frames
/// of the program and of every handler that one call can nest in.
const THREAD_STACK: usize = 256 << 20;

/// The export that threads of WASI programs begin with.
const WASI_THREAD: &str = "wasi_thread_start";

/// What a thread begins with.
struct Start {
    image: Arc<Image>,
    /// Set where it goes on in the middle of a `clone`.
    copy: Option<Copy>,
    /// The argument of a thread of a WASI program's.
    argument: Option<i32>,
}

/// What a thread has of the one that made it.
struct Copy {
    /// Mutable globals.
    globals: Vec<(String, Val)>,
    /// Its stack: the lowest address, and the first above it.
    stack: (u32, u32),
    /// For a thread of the same cage, which has a stack and thread-locals of its own: the stack
    /// pointer. The thread-locals lie above the stack.
    stack_pointer: Option<u32>,
}

impl Start {
    /// A program from its beginning.
    fn fresh(image: Arc<Image>) -> Self {
        Self {
            image,
            copy: None,
            argument: None,
        }
    }
}

/// Runs a program as the first cage, until it and all cages that it made have ended.
///
/// # Errors
/// One line when the program can't be started.
pub fn run(rt: &Arc<Runtime>, args: Vec<Vec<u8>>) -> anyhow::Result<WaitStatus> {
    let linkers = host::linkers(&rt.engine, begin_wasi_thread)?;
    let (cage, image) = rt.first_cage(args)?;
    spawn(rt, &linkers, cage, Start::fresh(image))?;
    Ok(rt.family.wait_for_all())
}

/// Starts the first thread of a cage.
///
/// # Errors
/// When the host has no thread to give.
fn spawn(
    rt: &Arc<Runtime>,
    linkers: &Arc<Linkers>,
    cage: Arc<Cage>,
    start: Start,
) -> std::io::Result<()> {
    let task = cage.crew.begin();
    spawn_task(rt, linkers, cage, task, start)
}

/// Starts a thread of a cage.
///
/// # Errors
/// As [`spawn`].
fn spawn_task(
    rt: &Arc<Runtime>,
    linkers: &Arc<Linkers>,
    cage: Arc<Cage>,
    task: Arc<Task>,
    start: Start,
) -> std::io::Result<()> {
    let (rt, linkers) = (rt.clone(), linkers.clone());
    std::thread::Builder::new()
        .name(format!("cage {}", cage.id))
        .stack_size(THREAD_STACK)
        .spawn(move || {
            let departure = {
                let _occupied = task.occupy();
                let lived = std::panic::catch_unwind(AssertUnwindSafe(|| {
                    live(&rt, &linkers, &cage, &task, start)
                }));
                lived.unwrap_or(Departure::Whole(WaitStatus::TRAPPED))
            };
            depart(&rt, &cage, &task, departure);
        })?;
    Ok(())
}

/// Ends a thread, of which no instance is left.
fn depart(rt: &Arc<Runtime>, cage: &Arc<Cage>, task: &Arc<Task>, departure: Departure) {
    // Also where the end was reported before it came.
    drop(task.take_pending(|| true));
    if let (1.., Ok(image)) = (task.scratch(), cage.image()) {
        image.memory.give_scratch(task.scratch());
    }
    task.release();
    let clear = task.take_clear();
    if let (true, Departure::Alone(_), Ok(image)) = (clear != 0, departure, cage.image()) {
        futex::clear_number(&image, clear, task.number());
    }
    match cage.crew.leave(task, departure) {
        Rest::Nobody(status) => rt.end(cage, cage.doom().unwrap_or(status)),
        Rest::Condemned(status) => rt.kill(cage, status),
        Rest::Others => {}
    }
}

fn live(
    rt: &Arc<Runtime>,
    linkers: &Arc<Linkers>,
    cage: &Arc<Cage>,
    task: &Arc<Task>,
    mut start: Start,
) -> Departure {
    loop {
        let next = match run_image(rt, linkers, cage, task, start) {
            Ok(next) => next,
            Err(error) => match error.downcast::<Stop>() {
                Ok(stop) => stop,
                Err(error) => {
                    tell(rt, cage, &error);
                    return Departure::Whole(WaitStatus::TRAPPED);
                }
            },
        };
        match next {
            Stop::Exit(status) => return Departure::Whole(status),
            Stop::Leave(code) => return Departure::Alone(code),
            Stop::Panicked => return Departure::Whole(WaitStatus::TRAPPED),
            Stop::Exec(new) => match replace_image(rt, cage, task, *new) {
                Ok(Some(image)) => start = Start::fresh(image),
                Ok(None) => return Departure::Alone(0),
                Err(error) => {
                    rt.complain(format_args!("{}: exec: {error}", describe(rt, cage)));
                    return Departure::Whole(WaitStatus::TRAPPED);
                }
            },
        }
    }
}

fn describe(rt: &Runtime, cage: &Cage) -> String {
    rt.describe(cage.id, cage.image().ok().as_deref())
}

/// Says why a program could not go on. What is no trap may name what the program imports.
fn tell(rt: &Arc<Runtime>, cage: &Arc<Cage>, error: &wasmtime::Error) {
    let line = format!("{}: {}", describe(rt, cage), first_line(error));
    if error.is::<Trap>() {
        rt.complain(format_args!("{line}"));
    } else {
        syscall::tell(rt, cage, format!("lind-wasm: {line}"));
    }
}

/// How long exec waits for the other threads before it interrupts their calls once more.
const MOMENT: Duration = Duration::from_millis(5);

/// Gives the cage another program, once its other threads are gone. `None` where this one is to go
/// instead: another has become a program before, or the cage ends.
fn replace_image(
    rt: &Arc<Runtime>,
    cage: &Arc<Cage>,
    task: &Arc<Task>,
    new: NewImage,
) -> anyhow::Result<Option<Arc<Image>>> {
    if !cage.crew.is_calling_thread() {
        if !cage.crew.dismiss_others(task) {
            return Ok(None);
        }
        rt.stir(cage);
        while !cage.crew.has_left(task, MOMENT) {
            if cage.doom().is_some() {
                return Ok(None);
            }
            rt.stir(cage);
        }
        // What they opened since the call was made.
        let marked = cage.fds().marked();
        for fd in marked {
            own_call(rt, cage, task, CLOSE, fd as u64);
        }
        cage.fds().close_on_exec();
    }
    cage.has_execed();
    cage.signals.reset();
    let before = cage.image();
    cage.set_image(None);
    if let Ok(before) = before {
        rt.release_callers(cage.id, &before);
    }
    let image = rt.make_image(cage, new)?;
    cage.set_image(Some(image.clone()));
    Ok(Some(image))
}

/// Runs a program until it ends or is replaced; forks on the way.
fn run_image(
    rt: &Arc<Runtime>,
    linkers: &Arc<Linkers>,
    cage: &Arc<Cage>,
    task: &Arc<Task>,
    start: Start,
) -> wasmtime::Result<Stop> {
    let image = start.image;
    let (run, imports, own) = (rt.clone(), linkers.clone(), cage.clone());
    let state = HostState::new(run, imports, own, image.clone(), Some(task.clone()));
    let mut store = new_store(state);
    let template = linkers.template(&store, &image)?;
    let is_copied = |copy: &Copy| copy.stack_pointer.is_some();
    let is_thread = start.argument.is_some() || start.copy.as_ref().is_some_and(is_copied);
    if !is_thread {
        image.staff(Box::new(Workers::new(store.data(), template.clone())));
    }
    let is_fresh = start.copy.is_none() && !is_thread;
    let instance = instantiate(&template, &mut store, is_fresh)?;
    if is_fresh {
        image.program.data.let_go();
    }
    if let Some(argument) = start.argument {
        let params = (task.number(), argument);
        instance
            .get_typed_func::<(i32, i32), ()>(&mut store, WASI_THREAD)?
            .call(&mut store, params)?;
        return Ok(returned_from_start(rt, cage, task, is_thread, 0));
    }
    let mut asyncify = find_asyncify(&mut store, &instance);
    let main = instance
        .get_func(&mut store, "_start")
        .ok_or_else(|| wasmtime::Error::msg("it has no `_start`"))?;
    let mut results = vec![Val::I32(0); main.ty(&store).results().len()];
    if let (Some(copy), Some(asyncify)) = (start.copy, &mut asyncify) {
        take_up(&mut store, &instance, asyncify, copy)?;
        store.data_mut().asyncify = Some(asyncify.clone());
        rewind(&mut store, asyncify, 0)?;
    }
    store.data_mut().asyncify.clone_from(&asyncify);
    let signalled = instance.get_typed_func(&mut store, SIGNALLED).ok();
    store.data_mut().signalled = signalled;
    loop {
        let returned = main.call(&mut store, &[], &mut results);
        // From here on what is to be made ends when this frame does, unless it begins.
        let Some((made, result)) = store.data_mut().unwinding.take() else {
            returned?;
            let code = results.first().and_then(Val::i32).unwrap_or(0);
            return Ok(returned_from_start(rt, cage, task, is_thread, code));
        };
        let asyncify = match (&returned, &asyncify) {
            (Ok(()), Some(asyncify)) => asyncify,
            _ => {
                // The stack could not be saved: neither of the two can go on.
                returned?;
                return Ok(Stop::Exit(WaitStatus::TRAPPED));
            }
        };
        Asyncify::call(&mut store, &asyncify.stop_unwind, ())?;
        let begun = match made {
            Split::Cage(child) => begin_cage(rt, &mut store, &instance, &image, child),
            Split::Thread(recruit) => begin_thread(rt, &mut store, &instance, &image, recruit),
        };
        let result = match begun {
            Ok(()) => result,
            Err(error) => -match error.downcast_ref() {
                Some(&errno @ (Errno::NOMEM | Errno::INVAL)) => errno,
                _ => Errno::AGAIN,
            }
            .raw_os_error(),
        };
        rewind(&mut store, asyncify, result)?;
    }
}

/// Gives an instance what it has of the one that made it.
fn take_up(
    store: &mut Store<HostState>,
    instance: &Instance,
    asyncify: &mut Asyncify,
    copy: Copy,
) -> wasmtime::Result<()> {
    for (name, value) in copy.globals {
        if let Some(global) = instance.get_global(&mut *store, &name) {
            global.set(&mut *store, value)?;
        }
    }
    (asyncify.stack_low, asyncify.stack_high) = copy.stack;
    let Some(stack_pointer) = copy.stack_pointer else {
        return Ok(());
    };
    asyncify
        .stack_pointer
        .set(&mut *store, Val::I32(stack_pointer as i32))?;
    if let Some((init, _)) = thread_locals(store, instance) {
        Asyncify::call(&mut *store, &init, asyncify.stack_high as i32)?;
    }
    Ok(())
}

/// A program's functions that make a block of thread-locals at an address, and tell its size.
fn thread_locals(
    store: &mut Store<HostState>,
    instance: &Instance,
) -> Option<(TypedFunc<i32, ()>, TypedFunc<(), i32>)> {
    let init = instance.get_typed_func(&mut *store, "__wasm_init_tls");
    let size = instance.get_typed_func(&mut *store, "__get_aligned_tls_size");
    init.ok().zip(size.ok())
}

/// What a program gets that returns from `_start`: the call it should have made at its end, so that
/// its grates see it.
fn returned_from_start(
    rt: &Arc<Runtime>,
    cage: &Arc<Cage>,
    task: &Arc<Task>,
    is_thread: bool,
    code: i32,
) -> Stop {
    if rt.strict {
        rt.strict_violation(
            cage,
            format_args!("it returned from _start; Lind needs exit_group (231) instead"),
        );
    }
    // In a thread that is nothing but a copy of the stack of who made it.
    let (nr, code) = match cage.crew.is_last_to_leave(task, code) {
        None if is_thread => (EXIT, code),
        Some(last) if is_thread => (EXIT_GROUP, last),
        _ => (EXIT_GROUP, code),
    };
    own_call(rt, cage, task, nr, code as u64);
    match task.take_pending(|| true) {
        Some(Pending::Exit(status)) => Stop::Exit(status),
        Some(Pending::Leave(code)) => Stop::Leave(code),
        // A grate kept the call to itself; there is nothing left to run all the same.
        _ if nr == EXIT => Stop::Leave(code),
        _ => Stop::Exit(WaitStatus::exited(code)),
    }
}

/// Makes a call with one argument in a cage's name, through 3i.
fn own_call(rt: &Arc<Runtime>, cage: &Arc<Cage>, task: &Task, nr: u32, value: u64) -> i32 {
    task.enter_call(nr);
    let own = cage.id.raw();
    let mut args = [Arg {
        value: UNUSED,
        cage: own,
    }; 6];
    args[0].value = value;
    let request = Request {
        nr,
        own,
        target: own,
        args,
    };
    threei::dispatch_for(rt, cage, request)
}

fn find_asyncify(store: &mut Store<HostState>, instance: &Instance) -> Option<Asyncify> {
    let stack_low = instance.get_global(&mut *store, "__stack_low")?;
    let stack_pointer = instance.get_global(&mut *store, "__stack_pointer")?;
    Some(Asyncify {
        stack_high: stack_pointer.get(&mut *store).i32()? as u32,
        start_unwind: instance
            .get_typed_func(&mut *store, "asyncify_start_unwind")
            .ok()?,
        stop_unwind: instance
            .get_typed_func(&mut *store, "asyncify_stop_unwind")
            .ok()?,
        start_rewind: instance
            .get_typed_func(&mut *store, "asyncify_start_rewind")
            .ok()?,
        stop_rewind: instance
            .get_typed_func(&mut *store, "asyncify_stop_rewind")
            .ok()?,
        stack_pointer,
        stack_low: stack_low.get(&mut *store).i32()? as u32,
    })
}

fn rewind(store: &mut Store<HostState>, asyncify: &Asyncify, result: i32) -> wasmtime::Result<()> {
    store.data_mut().rewind = Some(result);
    let buffer = asyncify.stack_low as i32;
    Asyncify::call(&mut *store, &asyncify.start_rewind, buffer)
}

/// The mutable globals of an instance.
fn globals(store: &mut Store<HostState>, instance: &Instance, image: &Image) -> Vec<(String, Val)> {
    let mut globals = Vec::new();
    for export in image.program.module.exports() {
        if let (true, ExternType::Global(_)) =
            (export.name().starts_with(GLOBAL_PREFIX), export.ty())
            && let Some(global) = instance.get_global(&mut *store, export.name())
        {
            globals.push((export.name().to_owned(), global.get(&mut *store)));
        }
    }
    globals
}

/// Gives a forked child its copy of the memory and globals, and a thread. Where the child has been
/// ended meanwhile there is nothing to do.
fn begin_cage(
    rt: &Arc<Runtime>,
    store: &mut Store<HostState>,
    instance: &Instance,
    image: &Arc<Image>,
    unborn: Unborn,
) -> anyhow::Result<()> {
    let stack = match &store.data().asyncify {
        Some(asyncify) => (asyncify.stack_low, asyncify.stack_high),
        None => (0, 0),
    };
    let globals = globals(store, instance, image);
    if let Some(child) = rt.cage(unborn.child()) {
        let base = rt.base_of(child.id);
        let memory = image.memory.fork(&rt.engine, base, &child.account)?;
        let copy = Arc::new(Image::new(
            image.program.clone(),
            memory,
            image.args.clone(),
            image.env.clone(),
            &child.account,
        )?);
        child.set_image(Some(copy.clone()));
        let start = Start {
            image: copy,
            copy: Some(Copy {
                globals,
                stack,
                stack_pointer: None,
            }),
            argument: None,
        };
        let linkers = store.data().linkers.clone();
        spawn(rt, &linkers, child, start)?;
    }
    unborn.born();
    Ok(())
}

/// Gives a new thread a copy of the saved stack and the globals, and a thread of the host.
fn begin_thread(
    rt: &Arc<Runtime>,
    store: &mut Store<HostState>,
    instance: &Instance,
    image: &Arc<Image>,
    recruit: Recruit,
) -> anyhow::Result<()> {
    let asyncify = store.data().asyncify.clone().ok_or(Errno::NOSYS)?;
    let (low, mut high) = recruit.stack;
    if let Some((_, size)) = thread_locals(store, instance) {
        let size = Asyncify::call(&mut *store, &size, ())? as u32;
        high = high.checked_sub(size).ok_or(Errno::INVAL)?;
    }
    // As much of its stack counts as used as is of the one that is copied.
    let top = asyncify.stack_pointer.get(&mut *store);
    let top = top.i32().ok_or(Errno::INVAL)? as u32;
    let used = asyncify.stack_high.checked_sub(top);
    let used = used.ok_or(Errno::INVAL)?;
    let stack_pointer = high.checked_sub(used).ok_or(Errno::INVAL)?;
    copy_saved(image, asyncify.stack_low, low, stack_pointer)?;
    let memory = &image.memory;
    let number = recruit.task().number();
    for at in recruit.told_at.into_iter().filter(|&at| at != 0) {
        // A place that is none any more is the program's own affair.
        let _ = memory.write(at, &number.to_le_bytes());
    }
    let start = Start {
        image: image.clone(),
        copy: Some(Copy {
            globals: globals(store, instance, image),
            stack: (low, high),
            stack_pointer: Some(stack_pointer),
        }),
        argument: None,
    };
    let HostState { linkers, cage, .. } = store.data();
    spawn_task(rt, linkers, cage.clone(), recruit.task().clone(), start)?;
    recruit.set_out();
    Ok(())
}

/// Starts a thread of a WASI program's.
fn begin_wasi_thread(maker: &HostState, recruit: Recruit, argument: i32) -> Result<(), Errno> {
    let memory = &maker.image.memory;
    let block = memory.take_scratch().map_err(|_| Errno::AGAIN)?;
    let task = recruit.task().clone();
    task.set_scratch(block);
    let start = Start {
        image: maker.image.clone(),
        copy: None,
        argument: Some(argument),
    };
    let (rt, linkers, cage) = (&maker.rt, &maker.linkers, maker.cage.clone());
    if spawn_task(rt, linkers, cage, task, start).is_err() {
        memory.give_scratch(block);
        return Err(Errno::AGAIN);
    }
    recruit.set_out();
    Ok(())
}

/// Copies what asyncify has saved from the beginning of one stack to that of another, of which it
/// must leave what lies at `limit` and above. What it begins with are the addresses of its end and
/// of where it must end; a copy that is only read needs no more room than it takes.
fn copy_saved(image: &Image, from: u32, to: u32, limit: u32) -> Result<(), Errno> {
    let memory = &image.memory;
    let at = |offset: u32| memory.base() + u64::from(offset);
    let end = u32::from_le_bytes(memory.read_array(at(from))?);
    let len = end.checked_sub(from).filter(|&len| len >= 8);
    let len = len.ok_or(Errno::INVAL)?;
    let new_end = to.checked_add(len).filter(|&end| end <= limit);
    let new_end = new_end.ok_or(Errno::INVAL)?.to_le_bytes();
    memory.copy_from(at(to), memory, at(from), len as usize)?;
    memory.write(at(to), &[new_end, new_end].concat())
}
