//! A cage's thread: runs its program, forks it, replaces it, reports its end.

use crate::cage::{Cage, NewImage, Pending, WaitStatus};
use crate::image::Image;
use crate::line::first_line;
use crate::module::GLOBAL_PREFIX;
use crate::request::{Arg, Request, UNUSED};
use crate::runtime::Runtime;
use crate::state::{Asyncify, HostState, Linkers, Stop, instantiate, new_store};
use crate::threei;
use crate::workers::Workers;
use crate::{host, syscall};
use calls::EXIT_GROUP;
use rustix::io::Errno;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use wasmtime::{ExternType, Instance, Store, Trap, Val};

/// Stack of a cage's thread in bytes, of which little is ever touched. It holds the native frames
/// of the program and of every handler that one call can nest in.
const THREAD_STACK: usize = 256 << 20;

/// What a cage's thread begins with.
struct Start {
    image: Arc<Image>,
    /// A forked child's mutable globals; it goes on in the middle of its parent's fork.
    forked: Option<Vec<(String, Val)>>,
}

impl Start {
    /// A program from its beginning.
    fn fresh(image: Arc<Image>) -> Self {
        Self {
            image,
            forked: None,
        }
    }
}

/// Runs a program as the first cage, until it and all cages that it made have ended.
///
/// # Errors
/// One line when the program can't be started.
pub fn run(rt: &Arc<Runtime>, args: Vec<Vec<u8>>) -> anyhow::Result<WaitStatus> {
    let linkers = host::linkers(&rt.engine)?;
    let (cage, image) = rt.first_cage(args)?;
    spawn(rt, &linkers, cage, Start::fresh(image))?;
    Ok(rt.family.wait_for_all())
}

/// Starts a cage's thread.
///
/// # Errors
/// When the host has no thread to give.
fn spawn(
    rt: &Arc<Runtime>,
    linkers: &Arc<Linkers>,
    cage: Arc<Cage>,
    start: Start,
) -> std::io::Result<()> {
    let (rt, linkers) = (rt.clone(), linkers.clone());
    std::thread::Builder::new()
        .name(format!("cage {}", cage.id))
        .stack_size(THREAD_STACK)
        .spawn(move || {
            let status = {
                let _occupied = cage.occupy_thread();
                let lived = std::panic::catch_unwind(AssertUnwindSafe(|| {
                    live(&rt, &linkers, &cage, start)
                }));
                lived.unwrap_or(WaitStatus::TRAPPED)
            };
            // Also where the end was reported before it came.
            drop(cage.take_pending());
            rt.end(&cage, status);
        })?;
    Ok(())
}

fn live(
    rt: &Arc<Runtime>,
    linkers: &Arc<Linkers>,
    cage: &Arc<Cage>,
    mut start: Start,
) -> WaitStatus {
    loop {
        let next = match run_image(rt, linkers, cage, start) {
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
        syscall::deliver(rt, cage);
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
fn run_image(
    rt: &Arc<Runtime>,
    linkers: &Arc<Linkers>,
    cage: &Arc<Cage>,
    start: Start,
) -> wasmtime::Result<Stop> {
    let image = start.image;
    let (run, imports, own) = (rt.clone(), linkers.clone(), cage.clone());
    let mut store = new_store(HostState::new(run, imports, own, image.clone(), true));
    let template = linkers.template(&store, &image)?;
    image.staff(Box::new(Workers::new(store.data(), template.clone())));
    let instance = instantiate(&template, &mut store, start.forked.is_none())?;
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
        // From here on the child ends when this frame does, unless it is born.
        let Some((child, result)) = store.data_mut().unwinding.take() else {
            returned?;
            let code = results.first().and_then(Val::i32).unwrap_or(0);
            return Ok(exit(rt, cage, code));
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
        let result = match start_child(rt, &mut store, &instance, &image, child.cage()) {
            Ok(()) => {
                child.born();
                result
            }
            Err(error) => {
                drop(child);
                -match error.downcast_ref() {
                    Some(&Errno::NOMEM) => Errno::NOMEM,
                    _ => Errno::AGAIN,
                }
                .raw_os_error()
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

fn rewind(store: &mut Store<HostState>, asyncify: &Asyncify, result: i32) -> wasmtime::Result<()> {
    store.data_mut().rewind = Some(result);
    let buffer = asyncify.stack_low as i32;
    Asyncify::call(&mut *store, &asyncify.start_rewind, buffer)
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
    let linkers = store.data().linkers.clone();
    spawn(
        rt,
        &linkers,
        child.clone(),
        Start {
            image: copy,
            forked: Some(globals),
        },
    )?;
    Ok(())
}
