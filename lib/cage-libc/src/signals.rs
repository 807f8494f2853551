//! Signals, as far as programs ask for them by this crate: `std` knows none.

use crate::sys::{self, Errno, address};

/// What is called for a signal, with its number.
pub type Handler = extern "C" fn(i32);

/// Numbers of this module's calls.
const SIGACTION: u32 = 13;
const SIGPROCMASK: u32 = 14;
const SETITIMER: u32 = 38;
const SIGSUSPEND: u32 = 130;

/// A call that the handler interrupts is made once more.
pub const RESTART: i32 = 0x1000_0000;
/// The handler may be interrupted by its own signal.
pub const NODEFER: i32 = 0x4000_0000;
/// The handler is called once.
pub const RESETHAND: i32 = i32::MIN;

/// What is done about a signal.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    /// What it does by default.
    Default,
    /// Nothing.
    Ignore,
    /// A function is called.
    Call(Handler),
}

/// `struct sigaction` as the kernel has it.
#[repr(C)]
struct KernelAction {
    handler: u32,
    mask: u64,
    flags: i32,
}

/// How [`change_mask`] changes which signals are held back.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// These too.
    Block,
    /// These no more.
    Unblock,
    /// These and no others.
    Set,
}

/// Sets what is done about a signal; `mask` is held back meanwhile, a bit for each from the first
/// on.
///
/// # Errors
/// As sigaction(2).
pub fn set(signal: i32, action: Action, mask: u64, flags: i32) -> Result<(), Errno> {
    let handler = match action {
        Action::Default => 0,
        Action::Ignore => 1,
        // A place in the function table; the first two have no function.
        Action::Call(handler) => handler as usize as u32,
    };
    let action = KernelAction {
        handler,
        mask,
        flags,
    };
    // SAFETY: the kernel reads the structure and keeps no address.
    unsafe { sys::syscall(SIGACTION, &[signal as u64, address(&raw const action), 0]) }.map(drop)
}

/// Changes which signals are held back, and answers which were.
///
/// # Errors
/// As sigprocmask(2).
pub fn change_mask(change: Change, set: u64) -> Result<u64, Errno> {
    let mut before = 0u64;
    let args = [
        change as u64,
        address(&raw const set),
        address(&raw mut before),
    ];
    // SAFETY: the kernel reads one and writes the other.
    unsafe { sys::syscall(SIGPROCMASK, &args) }?;
    Ok(before)
}

/// Waits for a signal, with others held back for that long.
///
/// # Errors
/// `EINTR`, always.
pub fn suspend(mask: u64) -> Result<(), Errno> {
    // SAFETY: the kernel reads the mask.
    unsafe { sys::syscall(SIGSUSPEND, &[address(&raw const mask), 0]) }.map(drop)
}

/// Has SIGALRM sent in so many microseconds, and then again and again after `interval` if that is
/// not 0. Answers how many were left.
///
/// # Errors
/// As setitimer(2).
pub fn alarm(micros: u64, interval: u64) -> Result<u64, Errno> {
    const SECOND: u64 = 1_000_000;
    let new = [
        interval / SECOND,
        interval % SECOND,
        micros / SECOND,
        micros % SECOND,
    ];
    let mut before = [0u64; 4];
    let args = [0, address(&raw const new), address(&raw mut before)];
    // SAFETY: the kernel reads one and writes the other.
    unsafe { sys::syscall(SETITIMER, &args) }?;
    Ok(before[2] * SECOND + before[3])
}

/// Where the runtime enters to call a handler.
#[unsafe(no_mangle)]
extern "C" fn signal_callback(handler: usize, signal: i32) {
    // SAFETY: a function pointer is an index into the table. The engine checks index and type of
    // an indirect call, so a wrong one traps.
    let handler: Handler = unsafe { core::mem::transmute::<usize, Handler>(handler) };
    handler(signal);
}
