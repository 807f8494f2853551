//! A cage's thread: runs its program, forks it, replaces it, reports its end.

use crate::cage::{Cage, NewImage, Pending, WaitStatus};
use crate::host::{self, Asyncify, HostState, Stop};
use crate::image::{Image, first_line};
use crate::module::GLOBAL_PREFIX;
use crate::runtime::Runtime;
use crate::threei::{self, Arg, Request, UNUSED};
use calls::EXIT_GROUP;
use rustix::io::Errno;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use wasmtime::{ExternType, Instance, Store, Trap, Val};

/// Stack of a cage's thread in bytes, of which little is ever touched. It holds the native frames
/// of the program and of every handler that one call can nest in.
const THREAD_STACK: usize = 256 << 20;

/// What a cage's thread begins with.
pub struct Start {
    image: Arc<Image>,
    /// A forked child's mutable globals; it goes on in the middle of its parent's fork.
    forked: Option<Vec<(String, Val)>>,
}

impl Start {
    /// A program from its beginning.
    pub fn fresh(image: Arc<Image>) -> Self {
        Self {
            image,
            forked: None,
        }
    }
}

/// Starts a cage's thread.
///
/// # Errors
/// When the host has no thread to give.
pub fn spawn(rt: &Arc<Runtime>, cage: Arc<Cage>, start: Start) -> std::io::Result<()> {
    let rt = rt.clone();
    std::thread::Builder::new()
        .name(format!("cage {}", cage.id))
        .stack_size(THREAD_STACK)
        .spawn(move || {
            let status = {
                let _occupied = cage.occupy_thread();
                let lived = std::panic::catch_unwind(AssertUnwindSafe(|| live(&rt, &cage, start)));
                lived.unwrap_or(WaitStatus::TRAPPED)
            };
            rt.end(&cage, status);
        })?;
    Ok(())
}

fn live(rt: &Arc<Runtime>, cage: &Arc<Cage>, mut start: Start) -> WaitStatus {
    loop {
        let next = match run_image(rt, cage, start) {
            Ok(next) => next,
            Err(error) => match error.downcast::<Stop>() {
                Ok(stop) => stop,
                Err(error) => {
                    tell(rt, cage, &error);
                    return WaitStatus::TRAPPED;
                }
            },
        };
        match next {
            Stop::Exit(status) => return status,
            Stop::Killed(signal) => return WaitStatus::killed(signal),
            Stop::Panicked => return WaitStatus::TRAPPED,
            Stop::Exec(new) => match replace_image(rt, cage, *new) {
                Ok(image) => start = Start::fresh(image),
                Err(error) => {
                    rt.complain(format_args!("{}: exec: {error}", describe(rt, cage)));
                    return WaitStatus::TRAPPED;
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
        cage.say(format!("lind-wasm: {line}"));
        host::deliver(rt, cage);
    }
}

fn replace_image(rt: &Arc<Runtime>, cage: &Arc<Cage>, new: NewImage) -> anyhow::Result<Arc<Image>> {
    cage.has_execed();
    cage.set_image(None);
    let image = rt.make_image(cage, new)?;
    cage.set_image(Some(image.clone()));
    Ok(image)
}

/// Runs a program until it ends or is replaced; forks on the way.
fn run_image(rt: &Arc<Runtime>, cage: &Arc<Cage>, start: Start) -> wasmtime::Result<Stop> {
    let image = start.image;
    let state = HostState::new(rt.clone(), cage.clone(), image.clone(), true);
    let mut store = rt.new_store(state);
    let template = image.template(rt, &store)?;
    let instance = template.instantiate(&mut store)?;
    let asyncify = find_asyncify(&mut store, &instance);
    store.data_mut().asyncify.clone_from(&asyncify);
    let main = instance
        .get_func(&mut store, "_start")
        .ok_or_else(|| wasmtime::Error::msg("it has no `_start`"))?;
    let mut results = vec![Val::I32(0); main.ty(&store).results().len()];
    if let (Some(globals), Some(asyncify)) = (start.forked, &asyncify) {
        for (name, value) in globals {
            if let Some(global) = instance.get_global(&mut store, &name) {
                global.set(&mut store, value)?;
            }
        }
        rewind(&mut store, asyncify, 0)?;
    }
    loop {
        let returned = main.call(&mut store, &[], &mut results);
        let Some((child, result)) = store.data_mut().unwinding.take() else {
            returned?;
            let code = results.first().and_then(Val::i32).unwrap_or(0);
            return Ok(exit(rt, cage, code));
        };
        let asyncify = match (&returned, &asyncify) {
            (Ok(()), Some(asyncify)) => asyncify,
            _ => {
                // The stack could not be saved: neither of the two can go on.
                rt.end(&child, WaitStatus::TRAPPED);
                returned?;
                return Ok(Stop::Exit(WaitStatus::TRAPPED));
            }
        };
        asyncify.stop_unwind.call(&mut store, ())?;
        let result = match start_child(rt, &mut store, &instance, &image, &child) {
            Ok(()) => result,
            Err(error) => {
                rt.complain(format_args!("{}: fork: {error}", describe(rt, cage)));
                rt.end(&child, WaitStatus::TRAPPED);
                rt.family.remove(child.id);
                -Errno::AGAIN.raw_os_error()
            }
        };
        rewind(&mut store, asyncify, result)?;
    }
}

/// What a program gets that returns from `_start`: the exit call it should have made, so that its
/// grates see it.
fn exit(rt: &Arc<Runtime>, cage: &Arc<Cage>, code: i32) -> Stop {
    if rt.strict {
        rt.strict_violation(
            cage,
            format_args!("it returned from _start; Lind needs exit_group (231) instead"),
        );
    }
    cage.enter_call(EXIT_GROUP);
    let own = cage.id.raw();
    let mut args = [Arg {
        value: UNUSED,
        cage: own,
    }; 6];
    args[0].value = code as u64;
    threei::dispatch(
        rt,
        cage,
        Request {
            nr: EXIT_GROUP,
            own,
            target: own,
            args,
        },
    );
    match cage.take_pending() {
        Some(Pending::Exit(status)) => Stop::Exit(status),
        // A grate kept the call to itself; there is nothing left to run all the same.
        _ => Stop::Exit(WaitStatus::exited(code)),
    }
}

fn find_asyncify(store: &mut Store<HostState>, instance: &Instance) -> Option<Asyncify> {
    let stack_low = instance.get_global(&mut *store, "__stack_low")?;
    Some(Asyncify {
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
        stack_pointer: instance.get_global(&mut *store, "__stack_pointer")?,
        stack_low: stack_low.get(&mut *store).i32()? as u32,
    })
}

/// Whether a program exports what a fork needs.
pub fn can_fork(image: &Image) -> bool {
    [
        "asyncify_start_unwind",
        "asyncify_stop_unwind",
        "asyncify_start_rewind",
        "asyncify_stop_rewind",
        "__stack_pointer",
        "__stack_low",
    ]
    .iter()
    .all(|name| image.program.module.get_export(name).is_some())
}

fn rewind(store: &mut Store<HostState>, asyncify: &Asyncify, result: i32) -> wasmtime::Result<()> {
    store.data_mut().rewind = Some(result);
    asyncify
        .start_rewind
        .call(&mut *store, asyncify.stack_low as i32)
}

/// Gives a forked child its copy of the memory and globals, and a thread.
fn start_child(
    rt: &Arc<Runtime>,
    store: &mut Store<HostState>,
    instance: &Instance,
    image: &Arc<Image>,
    child: &Arc<Cage>,
) -> anyhow::Result<()> {
    let mut globals = Vec::new();
    for export in image.program.module.exports() {
        if let (true, ExternType::Global(_)) =
            (export.name().starts_with(GLOBAL_PREFIX), export.ty())
            && let Some(global) = instance.get_global(&mut *store, export.name())
        {
            globals.push((export.name().to_owned(), global.get(&mut *store)));
        }
    }
    let memory = image.memory.fork(&rt.engine, rt.base_of(child.id))?;
    let copy = Arc::new(Image::new(
        image.program.clone(),
        memory,
        image.args.clone(),
        image.env.clone(),
    ));
    child.set_image(Some(copy.clone()));
    spawn(
        rt,
        child.clone(),
        Start {
            image: copy,
            forked: Some(globals),
        },
    )?;
    Ok(())
}
