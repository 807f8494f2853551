//! Clocks. WASI and Linux number the four that WASI has alike.

use super::abi::{Errno, Outcome, nanoseconds, nr};
use super::context::Context;

/// Wall-clock time.
pub const REALTIME: u32 = 0;
/// Time that never goes back.
pub const MONOTONIC: u32 = 1;
const THREAD_CPU_TIME: u32 = 3;

/// Bytes of a timespec.
pub const TIMESPEC: usize = 16;

fn ask(cx: &mut Context<'_>, nr: u32, clock: u32, slot: u64) -> Outcome<u64> {
    if clock > THREAD_CPU_TIME {
        return Err(Errno::INVAL.into());
    }
    cx.call(nr, [u64::from(clock), slot])?;
    Ok(nanoseconds(&cx.staged::<TIMESPEC>(slot)?, 0))
}

/// What a clock shows, by way of room for a timespec in scratch space.
pub fn now(cx: &mut Context<'_>, clock: u32, slot: u64) -> Outcome<u64> {
    ask(cx, nr::CLOCK_GETTIME, clock, slot)
}

/// A clock's resolution.
pub fn clock_res_get(cx: &mut Context<'_>, clock: u32, resolution: u32) -> Outcome<()> {
    let slot = cx.reserve(TIMESPEC)?;
    let step = ask(cx, nr::CLOCK_GETRES, clock, slot)?;
    cx.put(resolution, &step.to_le_bytes())
}

/// What a clock shows, as precisely as it can.
pub fn clock_time_get(cx: &mut Context<'_>, clock: u32, _precision: u64, time: u32) -> Outcome<()> {
    let slot = cx.reserve(TIMESPEC)?;
    let now = now(cx, clock, slot)?;
    cx.put(time, &now.to_le_bytes())
}
