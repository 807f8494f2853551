//! Lind system calls.

use core::sync::atomic::{AtomicI32, AtomicU64, Ordering};

#[link(wasm_import_module = "lind")]
unsafe extern "C" {
    #[link_name = "make-syscall"]
    fn make_syscall(
        nr: u32,
        name: u64,
        own: u64,
        target: u64,
        a1: u64,
        a1cage: u64,
        a2: u64,
        a2cage: u64,
        a3: u64,
        a3cage: u64,
        a4: u64,
        a4cage: u64,
        a5: u64,
        a5cage: u64,
        a6: u64,
        a6cage: u64,
    ) -> i32;
    // The same function, as the calls name it in which this program unwinds its stack. The build
    // makes functions that may be on the stack then fit for it, which slows them down, and turns
    // the name into the other one. (See xtask.)
    #[link_name = "make-syscall-unwinding"]
    fn make_syscall_unwinding(
        nr: u32,
        name: u64,
        own: u64,
        target: u64,
        a1: u64,
        a1cage: u64,
        a2: u64,
        a2cage: u64,
        a3: u64,
        a3cage: u64,
        a4: u64,
        a4cage: u64,
        a5: u64,
        a5cage: u64,
        a6: u64,
        a6cage: u64,
    ) -> i32;
    #[link_name = "lind-get-memory-base"]
    safe fn memory_base() -> u64;
    #[link_name = "lind-get-cage-id"]
    safe fn current_cage() -> u64;
}

/// What is passed for an argument that a call does not have.
pub const UNUSED: u64 = 0xdead_beef_dead_beef;

/// System call numbers that this crate uses.
pub mod nr {
    #![allow(missing_docs)]
    pub const READ: u32 = 0;
    pub const WRITE: u32 = 1;
    pub const OPEN: u32 = 2;
    pub const CLOSE: u32 = 3;
    pub const STAT: u32 = 4;
    pub const FSTAT: u32 = 5;
    pub const LSTAT: u32 = 6;
    pub const POLL: u32 = 7;
    pub const LSEEK: u32 = 8;
    pub const MMAP: u32 = 9;
    pub const MUNMAP: u32 = 11;
    pub const IOCTL: u32 = 16;
    pub const PREAD: u32 = 17;
    pub const PWRITE: u32 = 18;
    pub const READV: u32 = 19;
    pub const WRITEV: u32 = 20;
    pub const SELECT: u32 = 23;
    pub const SCHED_YIELD: u32 = 24;
    pub const DUP: u32 = 32;
    pub const DUP2: u32 = 33;
    pub const CLOCK_NANOSLEEP: u32 = 35;
    pub const GETPID: u32 = 39;
    pub const SOCKET: u32 = 41;
    pub const CONNECT: u32 = 42;
    pub const ACCEPT: u32 = 43;
    pub const SENDTO: u32 = 44;
    pub const RECVFROM: u32 = 45;
    pub const SENDMSG: u32 = 46;
    pub const RECVMSG: u32 = 47;
    pub const SHUTDOWN: u32 = 48;
    pub const BIND: u32 = 49;
    pub const LISTEN: u32 = 50;
    pub const GETSOCKNAME: u32 = 51;
    pub const GETPEERNAME: u32 = 52;
    pub const SOCKETPAIR: u32 = 53;
    pub const SETSOCKOPT: u32 = 54;
    pub const GETSOCKOPT: u32 = 55;
    pub const CLONE: u32 = 56;
    pub const EXECVE: u32 = 59;
    pub const EXIT: u32 = 60;
    pub const WAITPID: u32 = 61;
    pub const KILL: u32 = 62;
    pub const FCNTL: u32 = 72;
    pub const FSYNC: u32 = 74;
    pub const FDATASYNC: u32 = 75;
    pub const FTRUNCATE: u32 = 77;
    pub const GETDENTS64: u32 = 78;
    pub const GETCWD: u32 = 79;
    pub const CHDIR: u32 = 80;
    pub const RENAME: u32 = 82;
    pub const MKDIR: u32 = 83;
    pub const RMDIR: u32 = 84;
    pub const LINK: u32 = 86;
    pub const UNLINK: u32 = 87;
    pub const SYMLINK: u32 = 88;
    pub const READLINK: u32 = 89;
    pub const CHMOD: u32 = 90;
    pub const FCHMOD: u32 = 91;
    pub const EPOLL_CREATE: u32 = 213;
    pub const CLOCK_GETTIME: u32 = 228;
    pub const EXIT_GROUP: u32 = 231;
    pub const EPOLL_WAIT: u32 = 232;
    pub const EPOLL_CTL: u32 = 233;
    pub const OPENAT: u32 = 257;
    pub const UNLINKAT: u32 = 263;
    pub const PSELECT6: u32 = 270;
    pub const PPOLL: u32 = 271;
    pub const FUTEX: u32 = 202;
    pub const UTIMENSAT: u32 = 280;
    pub const EPOLL_PWAIT: u32 = 281;
    pub const ACCEPT4: u32 = 288;
    pub const EPOLL_CREATE1: u32 = 291;
    pub const PIPE2: u32 = 293;
    pub const LLSEEK: u32 = 1100;
}

/// An error number of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

/// Base and id do not change while a cage lives, but a forked child has its own.
static BASE: AtomicU64 = AtomicU64::new(NOT_ASKED);
static OWN: AtomicU64 = AtomicU64::new(NOT_ASKED);
const NOT_ASKED: u64 = u64::MAX;

/// The address of this cage's offset 0, as system calls take addresses.
pub fn base() -> u64 {
    match BASE.load(Ordering::Relaxed) {
        NOT_ASKED => {
            let base = memory_base();
            BASE.store(base, Ordering::Relaxed);
            base
        }
        base => base,
    }
}

/// The number of this cage, which is its pid.
pub fn own_id() -> u64 {
    match OWN.load(Ordering::Relaxed) {
        NOT_ASKED => {
            let own = current_cage();
            OWN.store(own, Ordering::Relaxed);
            own
        }
        own => own,
    }
}

/// The address of something in this cage, as a system call takes it. A null pointer stays 0.
pub fn address<T: ?Sized>(pointer: *const T) -> u64 {
    match pointer.cast::<u8>().addr() {
        0 => 0,
        offset => base() + offset as u64,
    }
}

/// One argument of a 3i call: a value, and the cage whose address or descriptor it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arg {
    /// The value.
    pub value: u64,
    /// The cage.
    pub cage: u64,
}

/// Whether this is a call in which the caller's stack is unwound.
const fn unwinds(nr: u32) -> bool {
    matches!(nr, nr::CLONE | nr::EXECVE | nr::EXIT | nr::EXIT_GROUP)
}

/// A call with all that 3i lets one choose. Answers the result as it came, and ENOSYS for the
/// calls that would unwind this cage itself: there are [`fork`], [`execve`] and [`exit`] for them.
///
/// # Safety
/// Addresses among the arguments that lie in this cage must be good for what the call does.
pub unsafe fn call_3i(nr: u32, own: u64, target: u64, a: &[Arg; 6]) -> i32 {
    if own == target && unwinds(nr) {
        return -38;
    }
    // SAFETY: the caller vouches for the addresses; the host checks everything else.
    unsafe {
        make_syscall(
            nr, 0, own, target, a[0].value, a[0].cage, a[1].value, a[1].cage, a[2].value,
            a[2].cage, a[3].value, a[3].cage, a[4].value, a[4].cage, a[5].value, a[5].cage,
        )
    }
}

/// As [`call_3i`], for the calls that unwind this cage: functions that call this one are made fit
/// for it.
///
/// # Safety
/// As [`call_3i`].
pub unsafe fn call_3i_unwinding(nr: u32, own: u64, target: u64, a: &[Arg; 6]) -> i32 {
    // SAFETY: as the caller's.
    unsafe {
        make_syscall_unwinding(
            nr, 0, own, target, a[0].value, a[0].cage, a[1].value, a[1].cage, a[2].value,
            a[2].cage, a[3].value, a[3].cage, a[4].value, a[4].cage, a[5].value, a[5].cage,
        )
    }
}

/// An ordinary system call of this cage. `args` are as the kernel takes them, addresses made by
/// [`address`]; missing ones are passed as unused.
///
/// # Errors
/// The negated result where it is one of Linux's errors; ENOSYS as [`call_3i`].
///
/// # Safety
/// Addresses among the arguments must be good for what the call does.
pub unsafe fn syscall(nr: u32, args: &[u64]) -> Result<i32, Errno> {
    let own = own_id();
    // SAFETY: as the caller's.
    check(unsafe { call_3i(nr, own, own, &own_args(own, args)) })
}

/// As [`syscall`], for the calls that unwind.
unsafe fn unwinding_syscall(nr: u32, args: &[u64]) -> Result<i32, Errno> {
    let own = own_id();
    // SAFETY: as the caller's.
    check(unsafe { call_3i_unwinding(nr, own, own, &own_args(own, args)) })
}

/// All six arguments of a call that a cage makes for itself.
fn own_args(own: u64, args: &[u64]) -> [Arg; 6] {
    let mut full = [Arg {
        value: UNUSED,
        cage: own,
    }; 6];
    for (slot, value) in full.iter_mut().zip(args) {
        slot.value = *value;
    }
    full
}

/// Tells results from errors: only -4095 to -1 are errors, other negative numbers are addresses.
///
/// # Errors
/// The error number.
pub fn check(result: i32) -> Result<i32, Errno> {
    if (-4095..0).contains(&result) {
        Err(Errno(-result))
    } else {
        Ok(result)
    }
}

/// Makes a copy of this cage. Answers 0 in the child, the child's pid in the parent.
///
/// # Errors
/// As fork(2).
pub fn fork() -> Result<i32, Errno> {
    let clone_args = [0u64; 11];
    // A child has but the thread that calls: what another one holds nobody would give back.
    crate::heap::hold();
    crate::threads::hold();
    // SAFETY: the structure is whole and zero: a plain fork.
    let result = unsafe { unwinding_syscall(nr::CLONE, &[address(&raw const clone_args)]) };
    if result == Ok(0) {
        BASE.store(memory_base(), Ordering::Relaxed);
        OWN.store(current_cage(), Ordering::Relaxed);
        crate::threads::forget();
    }
    crate::threads::give_back();
    crate::heap::give_back();
    result
}

/// A call in which the stack is unwound, without anything on it.
#[inline(always)]
fn unwinding(nr: u32, own: u64, first: u64, second: u64) -> i32 {
    const U: u64 = UNUSED;
    // SAFETY: the host checks the arguments; what becomes of the stack is the caller's to know.
    unsafe {
        make_syscall_unwinding(
            nr, 0, own, own, first, own, second, own, U, own, U, own, U, own, U, own,
        )
    }
}

/// Makes a thread. It comes back in both, as fork does, but with one memory and two stacks: neither
/// this function nor who calls it may have anything on the stack.
#[inline(always)]
pub(crate) fn clone_thread(own: u64, clone_args: u64) -> i32 {
    unwinding(nr::CLONE, own, clone_args, UNUSED)
}

/// Ends this thread, without anything on the stack.
#[inline(always)]
pub(crate) fn leave(own: u64) -> ! {
    unwinding(nr::EXIT, own, 0, 0);
    core::arch::wasm32::unreachable()
}

/// Ends this thread, whoever waits for it. The status is the program's where all others end so too
/// and this is the first one.
pub fn exit_thread(code: i32) -> ! {
    crate::threads::end_sleepers();
    // SAFETY: no address among the arguments.
    let _ = unsafe { unwinding_syscall(nr::EXIT, &[code as i64 as u64, 0]) };
    core::arch::wasm32::unreachable()
}

/// Lets another thread run.
pub(crate) fn sched_yield() {
    // SAFETY: no arguments.
    let _ = unsafe { syscall(nr::SCHED_YIELD, &[]) };
}

/// Sleeps while a word is `value`, or less long.
pub(crate) fn futex_wait(word: *const AtomicI32, value: i32) {
    // SAFETY: the kernel looks at the word, if there is one.
    let _ = unsafe { syscall(nr::FUTEX, &wait_args(word, value)) };
}

/// As [`futex_wait`], for a thread that may sleep when its program ends: Lind ends it by unwinding
/// its stack from there, and does not end the program as long as it can't.
pub(crate) fn futex_sleep(word: *const AtomicI32, value: i32) {
    // SAFETY: the kernel looks at the word, if there is one.
    let _ = unsafe { unwinding_syscall(nr::FUTEX, &wait_args(word, value)) };
}

fn wait_args(word: *const AtomicI32, value: i32) -> [u64; 6] {
    const WAIT: u64 = 0;
    [address(word), WAIT, value as i64 as u64, 0, 0, 0]
}

/// Wakes all that sleep at a word.
pub(crate) fn futex_wake(word: *const AtomicI32) {
    const WAKE: u64 = 1;
    const ALL: u64 = i32::MAX as u64;
    // SAFETY: the kernel does not look at the word.
    let _ = unsafe { syscall(nr::FUTEX, &[address(word), WAKE, ALL, 0, 0, 0]) };
}

/// Replaces this cage's program. The pointers are NUL-terminated strings; comes back only to say
/// what was wrong.
///
/// # Safety
/// All pointers must be good.
pub unsafe fn execve(path: *const u8, args: &[*const u8], env: &[*const u8]) -> Errno {
    const ENOMEM: Errno = Errno(12);
    let (Some(argv), Some(envp)) = (addresses(args), addresses(env)) else {
        return ENOMEM;
    };
    let call = [address(path), address(argv), address(envp)];
    crate::threads::end_sleepers();
    // SAFETY: both arrays end with a 0 entry; the caller vouches for the strings.
    let result = unsafe { unwinding_syscall(nr::EXECVE, &call) };
    crate::threads::let_sleep();
    // SAFETY: both came from `addresses`.
    unsafe {
        libc::free(argv.cast());
        libc::free(envp.cast());
    }
    match result {
        Err(errno) => errno,
        Ok(_) => Errno(5), // It does not come back from a success.
    }
}

/// The addresses of strings and a 0 behind them, on the heap; nothing where that is full.
fn addresses(strings: &[*const u8]) -> Option<*mut u64> {
    // SAFETY: any size is fine; there is a place for each string and for the 0 behind them, which
    // calloc has written.
    unsafe {
        let array = libc::calloc(strings.len() + 1, size_of::<u64>()).cast::<u64>();
        if array.is_null() {
            return None;
        }
        for (index, string) in strings.iter().enumerate() {
            array.add(index).write(address(*string));
        }
        Some(array)
    }
}

/// Sleeps for a millisecond, unless a handler has it otherwise.
pub fn nap() {
    const CLOCK_MONOTONIC: u64 = 1;
    let time = [0u64, 1_000_000];
    let args = [CLOCK_MONOTONIC, 0, address(&raw const time), 0];
    // SAFETY: the time is two words. What becomes of the call does not matter.
    let _ = unsafe { syscall(nr::CLOCK_NANOSLEEP, &args) };
}

/// Waits for a child (any for -1). Answers its pid and status; (0, 0) when `options` has WNOHANG
/// and none has ended.
///
/// # Errors
/// As waitpid(2).
pub fn waitpid(pid: i32, options: i32) -> Result<(i32, i32), Errno> {
    const ECHILD: i32 = 10;
    let mut status = 0i32;
    let args = [
        pid as i64 as u64,
        address(&raw mut status),
        options as i64 as u64,
    ];
    // Lind takes an ending child out of the count of children before it can be waited for.
    let mut tries = if base() == 0 { 1 } else { 20 };
    loop {
        tries -= 1;
        // SAFETY: `status` is a place for an int.
        match unsafe { syscall(nr::WAITPID, &args) } {
            Err(Errno(ECHILD)) if tries > 0 => nap(),
            waited => return waited.map(|pid| (pid, status)),
        }
    }
}

/// Makes a pipe: the end to read, the end to write.
///
/// # Errors
/// As pipe2(2).
pub fn pipe2(flags: i32) -> Result<(i32, i32), Errno> {
    let mut ends = [0i32; 2];
    let args = [address(&raw mut ends), flags as i64 as u64];
    // SAFETY: `ends` is a place for two ints.
    unsafe { syscall(nr::PIPE2, &args) }?;
    Ok((ends[0], ends[1]))
}

/// Closes a descriptor.
///
/// # Errors
/// As close(2).
pub fn close(fd: i32) -> Result<(), Errno> {
    // SAFETY: no address among the arguments.
    unsafe { syscall(nr::CLOSE, &[fd as i64 as u64]) }.map(drop)
}

/// Reads.
///
/// # Errors
/// As read(2).
pub fn read(fd: i32, buf: &mut [u8]) -> Result<usize, Errno> {
    let args = [
        fd as i64 as u64,
        address(buf.as_mut_ptr()),
        buf.len() as u64,
    ];
    // SAFETY: the buffer is as long as said.
    unsafe { syscall(nr::READ, &args) }.map(|n| n as usize)
}

/// Writes.
///
/// # Errors
/// As write(2).
pub fn write(fd: i32, buf: &[u8]) -> Result<usize, Errno> {
    let args = [fd as i64 as u64, address(buf.as_ptr()), buf.len() as u64];
    // SAFETY: the buffer is as long as said.
    unsafe { syscall(nr::WRITE, &args) }.map(|n| n as usize)
}

/// Ends this cage.
pub fn exit(code: i32) -> ! {
    crate::threads::end_sleepers();
    // SAFETY: no address among the arguments.
    let _ = unsafe { unwinding_syscall(nr::EXIT_GROUP, &[code as i64 as u64, 0]) };
    core::arch::wasm32::unreachable()
}
