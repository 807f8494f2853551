//! Threads, as far as `std` asks for them: by `clone`, which answers 0 in the new thread.
//!
//! A thread has one mapping: its stack, its thread-locals above that, and a [`Thread`] at the end.
//! The kernel writes its number into the [`Thread`] and clears it at its end, which is what
//! [`pthread_join`] waits for. Lind's does not clear it, and its end of a thread writes to the
//! stack after all that the thread could do itself, so that nobody can know when the mapping is
//! free. There a thread never ends before its program: it clears the number and sleeps until
//! another one is wanted.

use crate::sys::{self, address, nr};
use core::arch::{asm, global_asm};
use core::cell::Cell;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, Ordering};
use libc::{c_int, c_long, c_void, pthread_attr_t, pthread_t, size_t};

global_asm!(
    ".globaltype __tls_size, i32, immutable",
    ".globaltype __tls_align, i32, immutable",
);

unsafe extern "C" {
    /// Made by the linker: copies the thread-locals' initial values there and takes the place as
    /// this thread's block.
    fn __wasm_init_tls(block: *mut u8);
}

type Entry = extern "C" fn(*mut c_void) -> *mut c_void;

/// A thread, at the end of its mapping.
#[repr(C)]
struct Thread {
    /// Its number; 0 once it has ended, or on Lind sleeps.
    number: AtomicI32,
    detached: AtomicBool,
    start: Entry,
    argument: *mut c_void,
    result: *mut c_void,
    /// The mapping.
    block: *mut u8,
    len: usize,
    /// The next of those that nobody waits for.
    next: *mut Thread,
}

const PAGE: usize = 4096;
/// Least and usual size of a stack in bytes.
const STACK_MIN: usize = 64 << 10;
const STACK: usize = 1 << 20;

/// The number of a thread that runs and has not been told its own, or never is.
const RUNS: i32 = -1;
/// That of one that sleeps and is to end.
const ENDS: i32 = -2;

/// Threads that nobody waits for, and on Lind those that were waited for. Once they have ended
/// their mappings are used or unmapped; on Lind they are used themselves.
static LEFT: AtomicPtr<Thread> = AtomicPtr::new(null_mut());
static LEFT_TAKEN: AtomicBool = AtomicBool::new(false);
/// Whether threads end on Lind too, and their mappings are lost.
static NONE_SLEEPS: AtomicBool = AtomicBool::new(false);

/// Whether the kernel clears the number of a thread that has ended.
fn kernel_clears() -> bool {
    sys::base() == 0
}

fn tls_layout() -> (usize, usize) {
    let (size, align): (usize, usize);
    // SAFETY: reads two globals.
    unsafe {
        asm!("global.get __tls_size", "local.set {}", out(local) size);
        asm!("global.get __tls_align", "local.set {}", out(local) align);
    }
    (size, align.max(16))
}

/// Keeps others from the list of those that are left, until [`give_back`].
pub fn hold() {
    while LEFT_TAKEN.swap(true, Ordering::Acquire) {
        sys::sched_yield();
    }
}

/// Ends [`hold`].
pub fn give_back() {
    LEFT_TAKEN.store(false, Ordering::Release);
}

/// In a child, which has no other thread than its first one, while the list is held: forgets those
/// that slept.
pub fn forget() {
    while let Some(thread) = take_ended(0) {
        // SAFETY: it was on the list, and is no thread of this program's any more.
        let (block, len) = unsafe { ((*thread).block, (*thread).len) };
        unmap(block, len);
    }
}

/// Leaves a thread for [`ended`].
fn leave(thread: *mut Thread) {
    hold();
    // SAFETY: the mapping is there until it is taken off the list.
    unsafe { (*thread).next = LEFT.load(Ordering::Relaxed) };
    LEFT.store(thread, Ordering::Relaxed);
    give_back();
}

/// Takes one that has ended off the list, whose mapping has that length or more.
fn ended(least: usize) -> Option<*mut Thread> {
    hold();
    let thread = take_ended(least);
    give_back();
    thread
}

/// As [`ended`], while the list is held.
fn take_ended(least: usize) -> Option<*mut Thread> {
    let mut before = null_mut::<Thread>();
    let mut thread = LEFT.load(Ordering::Relaxed);
    // SAFETY: all on the list are mapped, and only who holds it changes it.
    unsafe {
        while !thread.is_null() {
            let next = (*thread).next;
            if (*thread).len >= least && (*thread).number.load(Ordering::Acquire) == 0 {
                if before.is_null() {
                    LEFT.store(next, Ordering::Relaxed);
                } else {
                    (*before).next = next;
                }
                return Some(thread);
            }
            (before, thread) = (thread, next);
        }
    }
    None
}

/// A mapping of at least that length, which must be known.
fn mapping(len: usize) -> Option<(*mut u8, usize)> {
    const READ_WRITE: u64 = 3;
    const PRIVATE_ANONYMOUS: u64 = 0x22;
    while kernel_clears()
        && let Some(old) = ended(0)
    {
        // SAFETY: its thread has ended, and nobody else knows it any more.
        let (block, has) = unsafe { ((*old).block, (*old).len) };
        if has == len {
            return Some((block, has));
        }
        unmap(block, has);
    }
    let args = [0, len as u64, READ_WRITE, PRIVATE_ANONYMOUS, u64::MAX, 0];
    // Two at a time may get one and the same place from Lind. All others are the heap's.
    crate::heap::hold();
    // SAFETY: a fresh mapping touches nothing that exists.
    let start = unsafe { sys::syscall(nr::MMAP, &args) };
    crate::heap::give_back();
    let start = start.ok()?;
    Some((start as u32 as usize as *mut u8, len))
}

fn unmap(block: *mut u8, len: usize) {
    // SAFETY: a mapping of `mapping`'s that no thread runs on any more.
    let _ = unsafe { sys::syscall(nr::MUNMAP, &[address(block), len as u64]) };
}

/// What a new thread does, on its own stack.
#[inline(never)]
fn begin(thread: *mut Thread) -> ! {
    let (size, align) = tls_layout();
    loop {
        // SAFETY: the thread's own mapping, in which the block lies right below `thread`.
        unsafe { __wasm_init_tls(tls_block(thread, size, align)) };
        work(thread);
        if kernel_clears() {
            sys::leave(sys::own_id());
        }
        // SAFETY: on Lind, its mapping is there as long as the program.
        let wanted = sleep(unsafe { &(*thread).number });
        if wanted == ENDS {
            sys::leave(sys::own_id());
        }
    }
}

/// Does what the thread was made for. Not part of [`begin`]: where thread-locals lie may be looked
/// up at any place of a function, and there it changes.
#[inline(never)]
fn work(thread: *mut Thread) {
    // SAFETY: the thread's own mapping. What it starts is a function that its maker says takes this
    // argument.
    unsafe {
        let result = ((*thread).start)((*thread).argument);
        run_destructors();
        (*thread).result = result;
    }
}

/// Clears the number of this thread, and waits until it is set again: answers to what.
fn sleep(number: &AtomicI32) -> i32 {
    number.store(0, Ordering::SeqCst);
    sys::futex_wake(number);
    loop {
        match number.load(Ordering::SeqCst) {
            0 if NONE_SLEEPS.load(Ordering::SeqCst) => return ENDS,
            0 => sys::futex_sleep(number, 0),
            wanted => return wanted,
        }
    }
}

/// Has a thread that sleeps do what it is wanted for.
fn rouse(thread: *mut Thread, wanted: i32) {
    // SAFETY: it is mapped as long as the program.
    let number = unsafe { &(*thread).number };
    number.store(wanted, Ordering::SeqCst);
    sys::futex_wake(number);
}

/// On Lind, when the first thread or the program ends, or becomes another one: ends the threads
/// that sleep, and has others end instead. Lind would do so by a signal, which is lost where it
/// comes before the sleep.
pub fn end_sleepers() {
    if kernel_clears() {
        return;
    }
    NONE_SLEEPS.store(true, Ordering::SeqCst);
    while let Some(thread) = ended(0) {
        rouse(thread, ENDS);
    }
}

/// Ends [`end_sleepers`] where the program goes on.
pub fn let_sleep() {
    NONE_SLEEPS.store(false, Ordering::SeqCst);
}

/// On Lind: has a thread that sleeps do something, whose mapping has that length.
fn wake(len: usize, start: Entry, argument: *mut c_void) -> Option<*mut Thread> {
    if kernel_clears() || NONE_SLEEPS.load(Ordering::SeqCst) {
        return None;
    }
    let thread = ended(len)?;
    // SAFETY: it is mapped, sleeps, and was left to whoever takes it off the list.
    unsafe {
        (*thread).start = start;
        (*thread).argument = argument;
        (*thread).detached = AtomicBool::new(false);
    }
    rouse(thread, RUNS);
    Some(thread)
}

fn tls_block(thread: *mut Thread, size: usize, align: usize) -> *mut u8 {
    let at = (thread.addr() - size) & !(align - 1);
    at as *mut u8
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_attr_init(attributes: *mut pthread_attr_t) -> c_int {
    // SAFETY: the caller's attributes; their first word is the size of the stack.
    unsafe { attributes.cast::<usize>().write(STACK) };
    0
}

#[unsafe(no_mangle)]
extern "C" fn pthread_attr_destroy(_attributes: *mut pthread_attr_t) -> c_int {
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_attr_setstacksize(
    attributes: *mut pthread_attr_t,
    size: size_t,
) -> c_int {
    if size < STACK_MIN {
        return libc::EINVAL;
    }
    // SAFETY: as in `pthread_attr_init`.
    unsafe { attributes.cast::<usize>().write(size) };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_create(
    out: *mut pthread_t,
    attributes: *const pthread_attr_t,
    start: Entry,
    argument: *mut c_void,
) -> c_int {
    /// As glibc has them.
    const FLAGS: u64 = 0x3d_0f00;
    let stack = if attributes.is_null() {
        STACK
    } else {
        // SAFETY: the caller's attributes.
        unsafe { attributes.cast::<usize>().read() }
    };
    let (size, align) = tls_layout();
    let above = size + align + size_of::<Thread>();
    let Some(len) = stack
        .checked_add(above)
        .and_then(|len| len.checked_next_multiple_of(PAGE))
    else {
        return libc::EAGAIN;
    };
    if let Some(thread) = wake(len, start, argument) {
        // SAFETY: the place is the caller's.
        unsafe { out.write(thread.cast()) };
        return 0;
    }
    let Some((block, len)) = mapping(len) else {
        return libc::EAGAIN;
    };
    // SAFETY: the mapping has room for a `Thread` at its end, which is aligned as pages are and its
    // size is, and nobody else knows it.
    let thread = unsafe {
        let thread = block.add(len - size_of::<Thread>()).cast::<Thread>();
        thread.write(Thread {
            number: AtomicI32::new(RUNS),
            detached: AtomicBool::new(false),
            start,
            argument,
            result: null_mut(),
            block,
            len,
            next: null_mut(),
        });
        thread
    };
    let top = tls_block(thread, size, align).addr() & !15;
    // SAFETY: it was written above, and nobody else knows of it yet.
    let number = address(unsafe { &raw const (*thread).number });
    let mut args = [0u64; 11];
    args[0] = FLAGS;
    args[2] = number;
    args[3] = number;
    args[5] = top as u64;
    args[6] = (top - block.addr()) as u64;
    // SAFETY: the place is the caller's. It is written first, for the thread may be quick.
    unsafe { out.write(thread.cast()) };
    match sys::check(set_out(sys::own_id(), address(&raw const args), thread)) {
        Ok(_) => 0,
        Err(errno) => {
            unmap(block, len);
            crate::abi::wasi_errno(errno)
        }
    }
}

/// Makes the thread, which comes back here too, with a copy of this function's values and another
/// stack: nothing here may lie on that.
#[inline(never)]
fn set_out(own: u64, args: u64, thread: *mut Thread) -> i32 {
    let number = sys::clone_thread(own, args);
    if number == 0 {
        begin(thread);
    }
    number
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_join(thread: pthread_t, result: *mut *mut c_void) -> c_int {
    let thread = thread.cast::<Thread>();
    // SAFETY: a thread that nobody has waited for is mapped.
    unsafe {
        loop {
            let number = (*thread).number.load(Ordering::Acquire);
            if number == 0 {
                break;
            }
            sys::futex_wait(&raw const (*thread).number, number);
        }
        if !result.is_null() {
            result.write((*thread).result);
        }
        if kernel_clears() {
            unmap((*thread).block, (*thread).len);
        } else {
            leave(thread);
        }
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_detach(thread: pthread_t) -> c_int {
    let thread = thread.cast::<Thread>();
    // SAFETY: a thread that nobody has waited for is mapped.
    if unsafe { (*thread).detached.swap(true, Ordering::Relaxed) } {
        return libc::EINVAL;
    }
    leave(thread);
    0
}

// Keys: `std` has one, to run destructors of thread-locals at the end of a thread. At the end of
// the first thread the process is gone.

const KEYS: usize = 16;

static KEYS_MADE: AtomicU32 = AtomicU32::new(0);
static DESTRUCTORS: [AtomicPtr<c_void>; KEYS] = [const { AtomicPtr::new(null_mut()) }; KEYS];

#[thread_local]
static VALUES: [Cell<*mut c_void>; KEYS] = [const { Cell::new(null_mut()) }; KEYS];

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_key_create(key: *mut u32, destructor: *const c_void) -> c_int {
    let made = KEYS_MADE.fetch_add(1, Ordering::Relaxed) as usize;
    let Some(slot) = DESTRUCTORS.get(made) else {
        return libc::EAGAIN;
    };
    slot.store(destructor.cast_mut(), Ordering::Release);
    // SAFETY: the caller's place for a key. `std` takes key 0 for none.
    unsafe { key.write(made as u32 + 1) };
    0
}

#[unsafe(no_mangle)]
extern "C" fn pthread_key_delete(_key: u32) -> c_int {
    0
}

#[unsafe(no_mangle)]
extern "C" fn pthread_setspecific(key: u32, value: *const c_void) -> c_int {
    match VALUES.get((key as usize).wrapping_sub(1)) {
        Some(slot) => {
            slot.set(value.cast_mut());
            0
        }
        None => libc::EINVAL,
    }
}

#[unsafe(no_mangle)]
extern "C" fn pthread_getspecific(key: u32) -> *mut c_void {
    let slot = VALUES.get((key as usize).wrapping_sub(1));
    slot.map_or(null_mut(), Cell::get)
}

/// Runs destructors until there is nothing to run them on, four times at most.
fn run_destructors() {
    for _ in 0..4 {
        let mut ran = false;
        for (slot, destructor) in VALUES.iter().zip(&DESTRUCTORS) {
            let value = slot.replace(null_mut());
            let destructor = destructor.load(Ordering::Acquire);
            if value.is_null() || destructor.is_null() {
                continue;
            }
            // SAFETY: a function pointer, as `pthread_key_create` was given it.
            let destructor: extern "C" fn(*mut c_void) =
                unsafe { core::mem::transmute(destructor) };
            destructor(value);
            ran = true;
        }
        if !ran {
            return;
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn sysconf(name: c_int) -> c_long {
    match name {
        libc::_SC_PAGESIZE => PAGE as c_long,
        libc::_SC_NPROCESSORS_ONLN => 1,
        _ => {
            crate::errno::set(libc::EINVAL);
            -1
        }
    }
}
