//! Virtual descriptors for all of a program's calls: handlers that turn the descriptors that a cage knows, which are
//! those of [`fdtables`], into the ones below, and new ones below into virtual ones.
//!
//! A grate switches them on with [`GrateBuilder::enable_fd_translate_policy`](crate::GrateBuilder), and serves by
//! handlers of its own what it wants to do otherwise; what becomes of a table in a fork, an exec and at the end of a
//! cage is the grate's own affair, as it is with Lind's library. What a call has of descriptors is told by the table of
//! calls, so that no call that takes one is left out. On Lind, whose epoll tells a descriptor in an event in place of
//! the program's own word, that is the one below.

use crate::SyscallHandler;
use crate::call::{Call, forward, own_buffer};
use crate::constants::fs::{
    AT_FDCWD, F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, FD_CLOEXEC, O_CLOEXEC,
};
use crate::constants::poll::POLLNVAL;
use crate::constants::{self, error};
use cage_libc::sys::{self, Arg, Errno};
use calls::{Access, CALLS, Entry, Kind, Outcome, Struct};

/// The kind of the descriptors that are made here: `underfd` is one of the kernel below.
pub const FDKIND_KERNEL: u32 = 1;

const EBADF: Errno = Errno(error::EBADF);
const EINVAL: Errno = Errno(error::EINVAL);
const EMFILE: Errno = Errno(error::EMFILE);

const CLOSE: u32 = constants::SYS_CLOSE as u32;
const POLL: u32 = constants::SYS_POLL as u32;
const MMAP: u32 = constants::SYS_MMAP as u32;
const PIPE: u32 = constants::SYS_PIPE as u32;
const SELECT: u32 = constants::SYS_SELECT as u32;
const DUP2: u32 = constants::SYS_DUP2 as u32;
const SOCKET: u32 = constants::SYS_SOCKET as u32;
const SOCKETPAIR: u32 = constants::SYS_SOCKETPAIR as u32;
const FCNTL: u32 = constants::SYS_FCNTL as u32;
const OPEN: u32 = constants::SYS_OPEN as u32;
const OPENAT: u32 = constants::SYS_OPENAT as u32;
const PSELECT6: u32 = constants::SYS_PSELECT6 as u32;
const PPOLL: u32 = constants::SYS_PPOLL as u32;
const ACCEPT4: u32 = constants::SYS_ACCEPT4 as u32;
const EPOLL_CREATE1: u32 = constants::SYS_EPOLL_CREATE1 as u32;
const DUP3: u32 = constants::SYS_DUP3 as u32;
const PIPE2: u32 = constants::SYS_PIPE2 as u32;

/// Descriptors of one poll, at most: as many as a cage can have, many times over.
const MOST_POLLED: u64 = 1 << 16;
const POLL_FD_LEN: usize = 8;
/// A descriptor that poll passes over.
const NOT_ASKED: i32 = -1;

/// How a call takes a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FdArgKind {
    /// One that must be open.
    Fd,
    /// One of a directory, or `AT_FDCWD`.
    DirFd,
}

/// A descriptor among a call's arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdArgSpec {
    /// Which one, from 0.
    pub index: usize,
    /// How it is taken.
    pub kind: FdArgKind,
}

/// The descriptors among the arguments of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyscallFdSpec {
    /// Its number.
    pub syscall_num: u64,
    /// Them, by index.
    pub fd_args: Vec<FdArgSpec>,
}

impl SyscallFdSpec {
    /// Those of the call with that number; `None` for what is no call.
    pub fn of(syscall_num: u64) -> Option<Self> {
        let entry = calls::entry(u32::try_from(syscall_num).ok()?)?;
        Some(Self {
            syscall_num,
            fd_args: specs(entry).collect(),
        })
    }
}

fn specs(entry: &Entry) -> impl Iterator<Item = FdArgSpec> {
    let spec = |(index, kind): (usize, &Kind)| match kind {
        Kind::Fd => Some(FdArgSpec {
            index,
            kind: FdArgKind::Fd,
        }),
        Kind::DirFd => Some(FdArgSpec {
            index,
            kind: FdArgKind::DirFd,
        }),
        _ => None,
    };
    entry.args.iter().enumerate().filter_map(spec)
}

/// Whether a call takes or makes descriptors.
const fn has_descriptors(entry: &Entry) -> bool {
    let mut at = 0;
    while at < entry.args.len() {
        match entry.args[at] {
            Kind::Fd
            | Kind::DirFd
            | Kind::List(_, Struct::PollFd)
            | Kind::Struct(_, Struct::FdSet)
            | Kind::Struct(Access::Out, Struct::Pair) => return true,
            _ => at += 1,
        }
    }
    matches!(entry.result, Outcome::Fd)
}

macro_rules! handlers {
    ($($nr:literal $name:ident($($kind:expr),*) -> $result:ident, $served:ident;)*) => {
        /// A handler for each call, in the order of [`CALLS`].
        const ALL: [SyscallHandler; CALLS.len()] = [$({
            crate::handler!(handler, $nr, serve);
            handler
        }),*];
    };
}

calls::table!(handlers);

const COUNT: usize = {
    let (mut count, mut at) = (0, 0);
    while at < CALLS.len() {
        if has_descriptors(&CALLS[at]) {
            count += 1;
        }
        at += 1;
    }
    count
};

const TABLE: [(u64, SyscallHandler); COUNT] = {
    let mut table = [(0, ALL[0]); COUNT];
    let (mut count, mut at) = (0, 0);
    while at < CALLS.len() {
        if has_descriptors(&CALLS[at]) {
            table[count] = (CALLS[at].nr as u64, ALL[at]);
            count += 1;
        }
        at += 1;
    }
    table
};

/// The handlers, by the calls that they serve.
pub static FD_HANDLER_TABLE: &[(u64, SyscallHandler)] = &TABLE;

fn serve(call: &Call) -> Result<i32, Errno> {
    let cage = call.caller();
    match call.nr {
        CLOSE => close(call, cage),
        DUP2 | DUP3 => duplicate_to(call, cage),
        FCNTL => control(call, cage),
        POLL | PPOLL => poll(call, cage),
        SELECT | PSELECT6 => select(call, cage),
        PIPE => pair(call, cage, 0, false),
        PIPE2 => pair(call, cage, 0, has(call, 1, O_CLOEXEC)),
        SOCKETPAIR => pair(call, cage, 3, has(call, 1, O_CLOEXEC)),
        _ => simple(call, cage),
    }
}

/// Whether a flag is set in an argument. The flag for close-on-exec is one for all that make descriptors.
fn has(call: &Call, index: usize, flag: i32) -> bool {
    call.int(index) & flag != 0
}

/// The descriptor below.
fn below(cage: u64, fd: i32) -> Result<u64, Errno> {
    let fd = u64::try_from(fd).map_err(|_| EBADF)?;
    match fdtables::translate_virtual_fd(cage, fd) {
        Ok(entry) => Ok(entry.underfd),
        Err(_) => Err(EBADF),
    }
}

/// The arguments, with descriptors of the kernel below.
fn translated(call: &Call, cage: u64) -> Result<[Arg; 6], Errno> {
    let mut args = call.args();
    let Some(entry) = calls::entry(call.nr) else {
        return Ok(args);
    };
    for spec in specs(entry) {
        let fd = call.int(spec.index);
        let is_none = match spec.kind {
            FdArgKind::DirFd => fd == AT_FDCWD,
            FdArgKind::Fd => call.nr == MMAP && fd == -1,
        };
        // A grate in between has descriptors of its own, which are what they are.
        let owner = call.cage_of(spec.index);
        if !is_none && (owner == cage || fdtables::check_cage_exists(owner)) {
            args[spec.index].value = below(owner, fd)?;
        }
    }
    Ok(args)
}

/// Gives the cage a descriptor for a new one below, which is closed if there is no room.
fn virtual_for(cage: u64, under: i32, cloexec: bool, least: u64) -> Result<i32, Errno> {
    let number = fdtables::get_unused_virtual_fd_from_startfd(
        cage,
        FDKIND_KERNEL,
        under as u64,
        cloexec,
        0,
        least,
    );
    match number {
        Ok(number) => Ok(number as i32),
        Err(_) => {
            close_below(cage, under);
            Err(EMFILE)
        }
    }
}

fn close_below(cage: u64, under: i32) {
    let _ = forward(CLOSE, cage, &by_value(cage, &[under as u64]));
}

/// Arguments by value.
fn by_value(cage: u64, values: &[u64]) -> [Arg; 6] {
    std::array::from_fn(|index| Arg {
        value: values.get(index).copied().unwrap_or(calls::UNUSED),
        cage,
    })
}

/// A call whose descriptors are arguments, and perhaps its result.
fn simple(call: &Call, cage: u64) -> Result<i32, Errno> {
    let args = translated(call, cage)?;
    let result = call.forward_with(cage, &args)?;
    if calls::entry(call.nr).is_none_or(|entry| entry.result != Outcome::Fd) {
        return Ok(result);
    }
    let flags = match call.nr {
        OPEN | SOCKET => Some(1),
        OPENAT => Some(2),
        ACCEPT4 => Some(3),
        EPOLL_CREATE1 => Some(0),
        _ => None,
    };
    let cloexec = flags.is_some_and(|index| has(call, index, O_CLOEXEC));
    virtual_for(cage, result, cloexec, 0)
}

/// close(2): the descriptor is free afterwards, whatever the kernel says.
fn close(call: &Call, cage: u64) -> Result<i32, Errno> {
    let args = translated(call, cage)?;
    fdtables::close_virtualfd(cage, call.int(0) as u64).map_err(|_| EBADF)?;
    call.forward_with(cage, &args)
}

/// dup2(2), dup3(2).
fn duplicate_to(call: &Call, cage: u64) -> Result<i32, Errno> {
    let (old, new) = (call.int(0), call.int(1));
    let under = below(cage, old)?;
    if old == new {
        return if call.nr == DUP2 {
            Ok(new)
        } else {
            Err(EINVAL)
        };
    }
    let flags = if call.nr == DUP3 { call.int(2) } else { 0 };
    if flags & !O_CLOEXEC != 0 {
        return Err(EINVAL);
    }
    let cloexec = flags & O_CLOEXEC != 0;
    let place = u64::try_from(new).map_err(|_| EBADF)?;
    if place >= fdtables::FD_PER_PROCESS_MAX {
        return Err(EBADF);
    }
    let command = if cloexec { F_DUPFD_CLOEXEC } else { F_DUPFD };
    let copy = forward(FCNTL, cage, &by_value(cage, &[under, command as u64, 0]))?;
    let was = fdtables::translate_virtual_fd(cage, place);
    let put =
        fdtables::get_specific_virtual_fd(cage, place, FDKIND_KERNEL, copy as u64, cloexec, 0);
    if put.is_err() {
        close_below(cage, copy);
        return Err(EBADF);
    }
    if let Ok(was) = was {
        close_below(cage, was.underfd as i32);
    }
    Ok(new)
}

/// fcntl(2).
fn control(call: &Call, cage: u64) -> Result<i32, Errno> {
    let mut args = translated(call, cage)?;
    match call.int(1) {
        command @ (F_DUPFD | F_DUPFD_CLOEXEC) => {
            let least = u64::try_from(call.int(2)).map_err(|_| EINVAL)?;
            if least >= fdtables::FD_PER_PROCESS_MAX {
                return Err(EINVAL);
            }
            // Where it is below is no matter to the cage.
            args[2].value = 0;
            let copy = call.forward_with(cage, &args)?;
            virtual_for(cage, copy, command == F_DUPFD_CLOEXEC, least)
        }
        F_SETFD => {
            let result = call.forward_with(cage, &args)?;
            let cloexec = has(call, 2, FD_CLOEXEC);
            let _ = fdtables::set_cloexec(cage, call.int(0) as u64, cloexec);
            Ok(result)
        }
        F_GETFD => {
            let entry = fdtables::translate_virtual_fd(cage, call.int(0) as u64);
            let entry = entry.map_err(|_| EBADF)?;
            Ok(if entry.should_cloexec { FD_CLOEXEC } else { 0 })
        }
        _ => call.forward_with(cage, &args),
    }
}

/// Both ends of something, which the call writes where argument `index` points.
fn pair(call: &Call, cage: u64, index: usize, cloexec: bool) -> Result<i32, Errno> {
    let (result, bytes) = if call.nr == SOCKETPAIR && sys::base() != 0 {
        // Lind writes these nowhere but into the memory of who gets them.
        let result = call.forward(cage)?;
        (result, call.place(index).read::<8>()?)
    } else {
        call.forward_into::<8>(cage, index)?
    };
    let (first, second) = bytes.split_at(4);
    let under = [first, second].map(|end| end.try_into().map_or(-1, i32::from_ne_bytes));
    let near = match virtual_for(cage, under[0], cloexec, 0) {
        Ok(near) => near,
        Err(errno) => {
            close_below(cage, under[1]);
            return Err(errno);
        }
    };
    let give_up = |fd: i32, under: i32| {
        let _ = fdtables::close_virtualfd(cage, fd as u64);
        close_below(cage, under);
    };
    let far = virtual_for(cage, under[1], cloexec, 0).inspect_err(|_| give_up(near, under[0]))?;
    let told = [near, far].map(i32::to_ne_bytes).concat();
    if let Err(errno) = call.place(index).write(&told) {
        give_up(near, under[0]);
        give_up(far, under[1]);
        return Err(errno);
    }
    Ok(result)
}

/// poll(2), ppoll(2): a descriptor that is not open is told as the kernel would.
fn poll(call: &Call, cage: u64) -> Result<i32, Errno> {
    let count = call.size(1);
    if count > MOST_POLLED {
        return Err(EINVAL);
    }
    let mut asked = vec![0; count as usize * POLL_FD_LEN];
    call.place(0).read_into(&mut asked)?;
    let mut below_asked = asked.clone();
    let fd_of =
        |entry: &[u8; POLL_FD_LEN]| i32::from_ne_bytes([entry[0], entry[1], entry[2], entry[3]]);
    let mut is_ready = false;
    for entry in below_asked.as_chunks_mut::<POLL_FD_LEN>().0 {
        let fd = fd_of(entry);
        let under = below(cage, fd).map_or(NOT_ASKED, |under| under as i32);
        is_ready |= fd >= 0 && under == NOT_ASKED;
        entry[..4].copy_from_slice(&under.to_ne_bytes());
    }
    let mut args = call.args();
    args[0] = own_buffer(below_asked.as_mut_ptr());
    if is_ready {
        // One that is not open is: nobody waits.
        args[2].value = 0;
    }
    let mut ready = call.forward_with(cage, &args)?;
    let told = below_asked.as_chunks::<POLL_FD_LEN>().0;
    for (entry, told) in asked.as_chunks_mut::<POLL_FD_LEN>().0.iter_mut().zip(told) {
        entry[6..].copy_from_slice(&told[6..]);
        if fd_of(entry) >= 0 && fd_of(told) == NOT_ASKED {
            entry[6..].copy_from_slice(&POLLNVAL.to_ne_bytes());
            ready += 1;
        }
    }
    call.place(0).write(&asked)?;
    Ok(ready)
}

/// select(2), pselect6: three sets of descriptors.
fn select(call: &Call, cage: u64) -> Result<i32, Errno> {
    const SET_LEN: usize = 128;
    const MOST: i32 = 8 * SET_LEN as i32;
    let count = call.int(0);
    if count < 0 {
        return Err(EINVAL);
    }
    let count = count.min(MOST);
    let mut args = call.args();
    let mut sets = [[0u8; SET_LEN]; 3];
    // The descriptors asked for, below and here, in each of the sets.
    let mut asked: [Vec<(u64, i32)>; 3] = Default::default();
    let mut most = 0;
    for (at, set) in sets.iter_mut().enumerate() {
        if call.is_null(at + 1) {
            continue;
        }
        let wanted: [u8; SET_LEN] = call.place(at + 1).read()?;
        for fd in (0..count).filter(|fd| wanted[*fd as usize / 8] >> (fd % 8) & 1 == 1) {
            let under = below(cage, fd)?;
            if under >= MOST as u64 {
                return Err(EINVAL);
            }
            set[under as usize / 8] |= 1 << (under % 8);
            most = most.max(under + 1);
            asked[at].push((under, fd));
        }
        args[at + 1] = own_buffer(set.as_mut_ptr());
    }
    args[0].value = most;
    let ready = call.forward_with(cage, &args)?;
    for (at, set) in sets.iter().enumerate() {
        if call.is_null(at + 1) {
            continue;
        }
        let mut told = [0u8; SET_LEN];
        for (under, fd) in &asked[at] {
            if set[*under as usize / 8] >> (under % 8) & 1 == 1 {
                told[*fd as usize / 8] |= 1 << (fd % 8);
            }
        }
        call.place(at + 1).write(&told)?;
    }
    Ok(ready)
}
