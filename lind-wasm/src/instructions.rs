//! The functions that stand for instructions in normalised modules (see [`crate::module`]).
//!
//! Each is what the WebAssembly specification says of its instruction, with one thing more: a
//! page that is not mapped is out of bounds.

use crate::image::Image;
use crate::module::{HOST_MODULE, Host};
use crate::parking::{Outlook, Woken};
use crate::state::HostState;
use rustix::io::Errno;
use std::sync::Arc;
use std::time::Duration;
use wasmtime::{Caller, Linker, Trap};

/// Adds them to what programs may import.
///
/// # Errors
/// Never in practice: a name defined twice.
pub fn define(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.func_wrap(HOST_MODULE, Host::Copy.name(), copy)?;
    linker.func_wrap(HOST_MODULE, Host::Fill.name(), fill)?;
    linker.func_wrap(HOST_MODULE, Host::Init.name(), init)?;
    linker.func_wrap(HOST_MODULE, Host::Drop.name(), drop_segment)?;
    linker.func_wrap(HOST_MODULE, Host::Grow.name(), grow)?;
    linker.func_wrap(HOST_MODULE, Host::Notify.name(), notify)?;
    linker.func_wrap(HOST_MODULE, Host::Wait32.name(), wait32)?;
    linker.func_wrap(HOST_MODULE, Host::Wait64.name(), wait64)?;
    Ok(())
}

fn out_of_bounds(_errno: Errno) -> Trap {
    Trap::MemoryOutOfBounds
}

/// The address of `len` bytes at an offset into the instance's memory.
fn address(image: &Image, offset: u64, len: u64) -> Result<u64, Trap> {
    // Checked here too for what has no bytes, and as the room above is not the program's.
    match offset.checked_add(len) {
        Some(end) if end <= image.memory.end() => Ok(image.memory.base() + offset),
        _ => Err(Trap::MemoryOutOfBounds),
    }
}

fn copy(caller: Caller<'_, HostState>, to: u32, from: u32, len: u32) -> wasmtime::Result<()> {
    let image = &caller.data().image;
    let to = address(image, to.into(), len.into())?;
    let from = address(image, from.into(), len.into())?;
    let memory = &image.memory;
    Ok(memory
        .copy_from(to, memory, from, len as usize)
        .map_err(out_of_bounds)?)
}

fn fill(caller: Caller<'_, HostState>, to: u32, byte: u32, len: u32) -> wasmtime::Result<()> {
    let image = &caller.data().image;
    let to = address(image, to.into(), len.into())?;
    Ok(image
        .memory
        .fill(to, byte as u8, len as usize)
        .map_err(out_of_bounds)?)
}

fn init(
    caller: Caller<'_, HostState>,
    to: u32,
    from: u32,
    len: u32,
    segment: u32,
) -> wasmtime::Result<()> {
    let state = caller.data();
    let image = &state.image;
    let bytes = match image.program.data.get(segment) {
        Some(bytes) if !state.dropped.contains(&segment) => bytes,
        _ => &[],
    };
    let part = bytes
        .get(from as usize..)
        .and_then(|rest| rest.get(..len as usize))
        .ok_or(Trap::MemoryOutOfBounds)?;
    let to = address(image, to.into(), len.into())?;
    Ok(image.memory.write(to, part).map_err(out_of_bounds)?)
}

fn drop_segment(mut caller: Caller<'_, HostState>, segment: u32) {
    let state = caller.data_mut();
    if state.image.program.data.get(segment).is_some() {
        state.dropped.insert(segment);
    }
}

fn grow(caller: Caller<'_, HostState>, pages: u32) -> u32 {
    const REFUSED: u32 = u32::MAX;
    caller.data().image.memory.grow(pages).unwrap_or(REFUSED)
}

/// The address that an atomic instruction names, with its static offset, for `len` bytes.
fn atomic_address(image: &Image, address_part: u32, offset: u64, len: u64) -> Result<u64, Trap> {
    let at = u64::from(address_part)
        .checked_add(offset)
        .ok_or(Trap::MemoryOutOfBounds)?;
    if !at.is_multiple_of(len) {
        return Err(Trap::HeapMisaligned);
    }
    address(image, at, len)
}

fn notify(
    caller: Caller<'_, HostState>,
    at: u32,
    count: u32,
    offset: u64,
) -> wasmtime::Result<u32> {
    let image = &caller.data().image;
    let at = atomic_address(image, at, offset, 4)?;
    image.memory.load_u32(at).map_err(out_of_bounds)?;
    Ok(image.parking.notify(at, count))
}

fn wait32(
    caller: Caller<'_, HostState>,
    at: u32,
    expected: u32,
    timeout: i64,
    offset: u64,
) -> wasmtime::Result<u32> {
    let image = caller.data().image.clone();
    let at = atomic_address(&image, at, offset, 4)?;
    sleep(&caller, &image, at, timeout, || {
        Ok(image.memory.load_u32(at)? == expected)
    })
}

fn wait64(
    caller: Caller<'_, HostState>,
    at: u32,
    expected: u64,
    timeout: i64,
    offset: u64,
) -> wasmtime::Result<u32> {
    let image = caller.data().image.clone();
    let at = atomic_address(&image, at, offset, 8)?;
    sleep(&caller, &image, at, timeout, || {
        Ok(image.memory.load_u64(at)? == expected)
    })
}

fn sleep(
    caller: &Caller<'_, HostState>,
    image: &Arc<Image>,
    at: u64,
    timeout: i64,
    expected: impl FnOnce() -> Result<bool, Errno>,
) -> wasmtime::Result<u32> {
    let state = caller.data();
    // A negative time is none.
    let timeout = u64::try_from(timeout).ok().map(Duration::from_nanos);
    let outlook = || {
        if state.doomed().is_some() {
            Outlook::Doomed
        } else if !image.service().is_up() {
            // Who holds what is waited for may be gone, its lock with it.
            Outlook::Bleak
        } else {
            Outlook::Fine
        }
    };
    let woken = image
        .parking
        .wait(at, timeout, expected, outlook)
        .map_err(out_of_bounds)?;
    match woken {
        Woken::Notified => Ok(0),
        Woken::NotEqual => Ok(1),
        Woken::TimedOut => Ok(2),
        Woken::Doomed => Err(match state.doomed() {
            Some(stop) => stop.into(),
            None => wasmtime::Error::msg("it waits for what has ended"),
        }),
    }
}
