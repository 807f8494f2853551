//! The functions that programs import.

use crate::arguments::{BAD_ADDRESS, address, strings_get, strings_sizes};
use crate::instructions;
use crate::request::{Arg, Request};
use crate::state::{Asyncify, Begin, HostState, Linkers, Stop};
use crate::syscall::{system_call, tell};
use crate::wasi;
use std::mem::MaybeUninit;
use std::sync::Arc;
use wasmtime::{Caller, Engine, FuncType, Linker, ValRaw, ValType};

/// The functions that programs import; `begin` starts threads of WASI programs.
///
/// # Errors
/// Never in practice: a name defined twice.
pub fn linkers(engine: &Engine, begin: Begin) -> anyhow::Result<Arc<Linkers>> {
    Ok(Arc::new(Linkers {
        begin,
        lind: lind(engine)?,
        wasi: wasi(engine)?,
    }))
}

fn lind(engine: &Engine) -> anyhow::Result<Linker<HostState>> {
    let mut linker = Linker::new(engine);
    instructions::define(&mut linker)?;
    define_make_syscall(&mut linker)?;
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
    Ok(linker)
}

fn wasi(engine: &Engine) -> anyhow::Result<Linker<HostState>> {
    let mut linker = Linker::new(engine);
    instructions::define(&mut linker)?;
    wasi::define(&mut linker)?;
    Ok(linker)
}

/// What `make-syscall` takes: number, name, cage, target, and six arguments with the cage of each.
const SYSCALL_PARAMS: usize = 16;

/// Defines `make-syscall`, which finds its arguments where the program's code has put them: by the
/// engine's typed way they would be copied twice, at each call.
fn define_make_syscall(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    let params = (0..SYSCALL_PARAMS).map(|index| match index {
        0 => ValType::I32,
        _ => ValType::I64,
    });
    let ty = FuncType::new(linker.engine(), params, [ValType::I32]);
    let function = |mut caller: Caller<'_, HostState>, values: &mut [MaybeUninit<ValRaw>]| {
        let [nr, _name, own, target, args @ ..] = values
            .first_chunk::<SYSCALL_PARAMS>()
            .ok_or_else(|| wasmtime::Error::msg("too few arguments"))?;
        // SAFETY: the engine has put there what the type says, an i64 but for the first.
        let word = |value: &MaybeUninit<ValRaw>| unsafe { value.assume_init() }.get_u64();
        let arg = |index: usize| Arg {
            value: word(&args[2 * index]),
            cage: word(&args[2 * index + 1]),
        };
        let mut request = Request {
            // SAFETY: as above, and that is an i32.
            nr: unsafe { nr.assume_init() }.get_u32(),
            own: word(own),
            target: word(target),
            args: std::array::from_fn(arg),
        };
        let result = make_syscall(&mut caller, &mut request)?;
        values[0].write(ValRaw::i32(result));
        Ok(())
    };
    // SAFETY: the function reads so many numbers of these types, and writes the one of the result.
    unsafe { linker.func_new_unchecked("lind", "make-syscall", ty, function) }?;
    Ok(())
}

fn make_syscall(
    caller: &mut Caller<'_, HostState>,
    request: &mut Request,
) -> wasmtime::Result<i32> {
    if let Some(reason) = caller.data().busy() {
        return Err(wasmtime::Error::msg(reason));
    }
    if let Some(result) = caller.data_mut().rewind.take() {
        if let Some(asyncify) = caller.data().asyncify.clone() {
            Asyncify::call(&mut *caller, &asyncify.stop_rewind, ())?;
        }
        return Ok(result);
    }
    system_call(caller, request)
}

fn debug_panic(caller: Caller<'_, HostState>, message: i64) -> wasmtime::Result<()> {
    let HostState {
        rt, cage, image, ..
    } = caller.data();
    let text = image.memory.read_cstr(message as u64, 4096);
    let text = String::from_utf8_lossy(text.as_deref().unwrap_or_default());
    tell(rt, cage, format!("lind-wasm: cage {}: {text}", cage.id));
    Err(Stop::Panicked.into())
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
