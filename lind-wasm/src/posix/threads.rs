//! Threads: making and ending them, and their numbers.

use super::{Call, Entry, process};
use crate::cage::Pending;
use crate::program::Kind;
use crate::regions::{Prot, SPACE_END};
use crate::threads::{Recruit, Task};
use bitflags::bitflags;
use rustix::io::Errno;

pub(super) const CALLS: &[Entry] = &[
    Entry::new(56, clone),
    Entry::new(60, exit),
    Entry::new(186, gettid),
    Entry::new(218, set_tid_address),
];

bitflags! {
    /// `CLONE_*` of clone(2), as far as they are known.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Flags: u64 {
        const VM = 0x100;
        const FS = 0x200;
        const FILES = 0x400;
        const SIGHAND = 0x800;
        const VFORK = 0x4000;
        const THREAD = 0x10000;
        const SYSVSEM = 0x40000;
        const SETTLS = 0x80000;
        const PARENT_SETTID = 0x10_0000;
        const CHILD_CLEARTID = 0x20_0000;
        const DETACHED = 0x40_0000;
        const CHILD_SETTID = 0x100_0000;
    }
}

/// Bytes of a `struct clone_args`.
const CLONE_ARGS_LEN: usize = 88;

/// A `struct clone_args`. Its addresses are those of the cage that becomes two, whichever cage it
/// lies in: a grate that passes on a copy of its own passes on what it has looked at.
struct CloneArgs {
    flags: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    set_tid_size: u64,
}

impl CloneArgs {
    fn of(call: &Call<'_>) -> Result<Self, Errno> {
        let bytes: [u8; CLONE_ARGS_LEN] = call.get(0)?;
        let (words, _) = bytes.as_chunks();
        let word = |index: usize| u64::from_le_bytes(words[index]);
        Ok(Self {
            flags: word(0),
            child_tid: word(2),
            parent_tid: word(3),
            exit_signal: word(4),
            stack: word(5),
            stack_size: word(6),
            set_tid_size: word(9),
        })
    }
}

/// clone: a1 is a `clone_args`; without one it is a fork. Memory is shared by threads alone: with
/// `CLONE_VFORK` it is a fork all the same, as in a libc that can't tell the two apart.
fn clone(call: &Call<'_>) -> Result<i32, Errno> {
    if call.raw(0) == 0 {
        return process::fork(call);
    }
    let args = CloneArgs::of(call)?;
    let flags = Flags::from_bits_retain(args.flags);
    if flags.contains(Flags::VM) && !flags.contains(Flags::VFORK) {
        return thread(call, &args, flags);
    }
    if flags.intersects(Flags::THREAD | Flags::SIGHAND) {
        return Err(Errno::INVAL); // Neither is without memory in common.
    }
    process::fork(call)
}

/// A thread: the stack is the first address above it and its length, as offsets into the memory.
/// It begins when the call returns to the caller, as its copy, with a result of 0.
fn thread(call: &Call<'_>, args: &CloneArgs, flags: Flags) -> Result<i32, Errno> {
    let task = process::unwindable(call)?;
    let unknown = !Flags::from_bits_truncate(args.flags).bits() & args.flags;
    let needs = |flag, other| flags.contains(flag) && !flags.contains(other);
    if unknown != 0
        || needs(Flags::THREAD, Flags::SIGHAND)
        || args.exit_signal != 0
        || args.set_tid_size != 0
    {
        return Err(Errno::INVAL);
    }
    let image = call.target_image()?;
    let memory = &image.memory;
    if task.has_pending() {
        return Err(Errno::AGAIN);
    }
    if image.program.kind == Kind::Wasi {
        // Such a thread makes its own stack, and its number is told by its libc.
        return recruit(call, &task, (0, 0), [0; 2], 0);
    }
    let low = args.stack.checked_sub(args.stack_size);
    let low = low.filter(|_| args.stack_size > 0 && args.stack < SPACE_END);
    let low = low.ok_or(Errno::INVAL)?;
    let all = Prot::READ | Prot::WRITE;
    memory.exact(memory.base() + low, args.stack_size, all)?;
    // Lind tells the child's number there, whatever the flags say.
    let parent_tid = flags.contains(Flags::PARENT_SETTID);
    let told_at = [args.child_tid, if parent_tid { args.parent_tid } else { 0 }];
    if args.child_tid != 0 {
        memory.exact(args.child_tid, 4, Prot::WRITE)?;
    } else if call.rt.strict {
        return Err(Errno::PERM);
    }
    // Where Lind runs threads, a libc clears the number by itself.
    let clears = flags.contains(Flags::CHILD_CLEARTID) && !call.rt.strict;
    let clear = if clears { args.child_tid } else { 0 };
    // Both are below the end of the space.
    let stack = (low as u32, args.stack as u32);
    recruit(call, &task, stack, told_at, clear)
}

/// Adds a thread to the target's, to begin when the call is over.
fn recruit(
    call: &Call<'_>,
    task: &Task,
    stack: (u32, u32),
    told_at: [u64; 2],
    clear: u64,
) -> Result<i32, Errno> {
    let number = call.rt.new_id()? as i32; // An id is a positive one.
    let new = call.target.crew.join(number, &call.target.account)?;
    new.clear_at(clear);
    let recruit = Recruit::new(&call.target.crew, new, stack, told_at);
    task.set_pending(Pending::Thread(recruit))?;
    Ok(number)
}

/// exit: the thread's end. That of the last is the cage's.
fn exit(call: &Call<'_>) -> Result<i32, Errno> {
    let task = call.target.own_task().ok_or(Errno::PERM)?;
    task.set_pending(Pending::Leave(call.int(0)))?;
    Ok(0)
}

/// gettid: the number of the thread that calls, or whose call is served.
fn gettid(call: &Call<'_>) -> Result<i32, Errno> {
    let task = call.target.own_task();
    Ok(task.map_or(call.target.id.pid(), |task| task.number()))
}

/// set_tid_address: where the thread's number is cleared at its end.
fn set_tid_address(call: &Call<'_>) -> Result<i32, Errno> {
    let task = call.target.own_task().ok_or(Errno::PERM)?;
    task.clear_at(call.raw(0));
    Ok(task.number())
}
