//! Making, replacing, ending and waiting for cages.

use super::{Call, Entry};
use crate::cage::{NewImage, Pending, Unborn, WaitStatus};
use crate::memory::GuestMemory;
use crate::program::Kind;
use crate::threads::Task;
use calls::CLONE;
use rustix::io::Errno;
use std::sync::Arc;

pub(super) const CALLS: &[Entry] = &[
    Entry::new(24, sched_yield),
    Entry::new(39, |call| Ok(call.target.id.pid())),
    Entry::new(59, execve),
    Entry::new(61, waitpid),
    Entry::new(95, umask),
    Entry::new(102, |_| id(rustix::process::getuid().as_raw())),
    Entry::new(104, |_| id(rustix::process::getgid().as_raw())),
    Entry::new(107, |_| id(rustix::process::geteuid().as_raw())),
    Entry::new(108, |_| id(rustix::process::getegid().as_raw())),
    Entry::new(110, getppid),
    Entry::new(121, |call| Ok(call.target.id.pid())),
    Entry::new(170, gethostname),
    Entry::new(231, exit_group),
    Entry::new(302, prlimit),
];

/// Arguments and environment together, in strings and in bytes (execve(2), `E2BIG`).
const ARGS_MAX: usize = 8192;
const ARGS_BYTES_MAX: usize = 2 << 20;

fn id(value: u32) -> Result<i32, Errno> {
    Ok(value as i32)
}

fn sched_yield(_call: &Call<'_>) -> Result<i32, Errno> {
    rustix::thread::sched_yield();
    Ok(0)
}

/// A name, with its NUL. It is the same everywhere: the host's is none of a cage's business.
fn gethostname(call: &Call<'_>) -> Result<i32, Errno> {
    const NAME: &[u8] = b"localhost\0";
    let room = usize::try_from(call.raw(1) as i64).map_err(|_| Errno::INVAL)?;
    if room < NAME.len() {
        return Err(Errno::NAMETOOLONG);
    }
    call.put(0, NAME)?;
    Ok(0)
}

/// A limit of the cage's own, in Lind's layout: soft and hard, 32 bits each. What the run bounds
/// is told; nothing can be set.
fn prlimit(call: &Call<'_>) -> Result<i32, Errno> {
    const RESOURCES: i32 = 16;
    const STACK: i32 = 3;
    const FILES: i32 = 7;
    let (pid, resource) = (call.int(0), call.int(1));
    if !(0..RESOURCES).contains(&resource) {
        return Err(Errno::INVAL);
    }
    if pid != 0 && pid != call.target.id.pid() {
        return Err(Errno::PERM);
    }
    if call.raw(2) != 0 {
        let _: [u8; 8] = call.get(2)?;
        return Err(Errno::PERM);
    }
    let limit = match resource {
        STACK => crate::engine::WASM_STACK as u32,
        FILES => call.target.account.files() as u32,
        _ => u32::MAX,
    };
    if call.raw(3) != 0 {
        call.put(3, &[limit.to_le_bytes(), limit.to_le_bytes()].concat())?;
    }
    Ok(0)
}

fn getppid(call: &Call<'_>) -> Result<i32, Errno> {
    Ok(call.rt.family.parent(call.target.id).pid())
}

fn umask(call: &Call<'_>) -> Result<i32, Errno> {
    let mut fs = call.target.fs.write().unwrap_or_else(|e| e.into_inner());
    Ok(std::mem::replace(&mut fs.umask, call.uint(0) & 0o777) as i32)
}

/// fork: the child is made here, so that the grates that the call came through can act on it; its
/// memory follows when the call returns to the caller.
pub(super) fn fork(call: &Call<'_>) -> Result<i32, Errno> {
    let target = &call.target;
    let task = unwindable(call)?;
    if call.target_image()?.program.kind == Kind::Wasi {
        return Err(Errno::NOSYS); // It has nothing to save its stack with.
    }
    if call.rt.strict && task.number() != target.id.pid() {
        return Err(Errno::PERM); // On Lind the first thread alone can fork.
    }
    if task.has_pending() {
        return Err(Errno::AGAIN); // One fork is all that the stack can do.
    }
    let child = call.rt.enrol(target.bequeath())?;
    let (rt, lost) = (call.rt.clone(), child.clone());
    let unborn = Unborn::new(child.id, move || {
        rt.end(&lost, WaitStatus::TRAPPED);
        rt.family.remove(lost.id);
    });
    let most = child.account.cages();
    let most = most.saturating_sub(call.rt.ended_but_running());
    call.rt.family.add(child.id, Some(target.id), most)?;
    child
        .charge_handlers(child.handlers.count())
        .map_err(|_| Errno::AGAIN)?;
    task.set_pending(Pending::Fork(unborn))?;
    Ok(child.id.pid())
}

/// The thread that makes a `clone`, if its stack can be saved.
///
/// # Errors
/// `ENOSYS` for a program without what that needs; `EPERM` for a call that is not its own; `EAGAIN`
/// in a handler of a signal.
pub(super) fn unwindable(call: &Call<'_>) -> Result<Arc<Task>, Errno> {
    let image = call.target_image()?;
    if call.rt.strict && image.program.module.name().is_none_or(str::is_empty) {
        call.rt.strict_violation(
            call.caller,
            format_args!("clone: its module has no name, which Lind needs to make another"),
        );
    }
    if !image.can_fork() && image.program.kind != Kind::Wasi {
        return Err(Errno::NOSYS);
    }
    if call.target.is_first_thread() && call.target.signals.is_handling() {
        return Err(Errno::AGAIN); // What called the handler can't be unwound.
    }
    let task = call.target.own_task();
    task.filter(|task| task.current_call() == CLONE)
        .ok_or(Errno::PERM)
}

/// execve: paths and arrays as the kernel has them, the arrays of u64 addresses.
fn execve(call: &Call<'_>) -> Result<i32, Errno> {
    let task = call.target.own_task().ok_or(Errno::PERM)?;
    let path = call.path(0)?;
    let args = strings(call, 1)?;
    let env = strings(call, 2)?;
    let env = if env.is_empty() {
        call.rt.default_env().to_vec()
    } else {
        env
    };
    let cwd = {
        let fs = call.target.fs.read().unwrap_or_else(|e| e.into_inner());
        fs.cwd.clone()
    };
    let program = call.rt.load(&cwd, &path).map_err(|error| {
        let errno = error.errno();
        if errno == Errno::NOEXEC {
            let name = crate::line::plain(&String::from_utf8_lossy(&path));
            task.say(format!("lind-wasm: {:#}", error.describe(&name)));
        }
        errno
    })?;
    // Lind puts the path in place of argv[0].
    let mut args = args;
    match args.first_mut() {
        Some(first) => *first = path,
        None => args.push(path),
    }
    task.set_pending(Pending::Exec(Box::new(NewImage { program, args, env })))?;
    call.target.fds().close_on_exec();
    Ok(0)
}

fn strings(call: &Call<'_>, index: usize) -> Result<Vec<Vec<u8>>, Errno> {
    if call.raw(index) == 0 {
        return Ok(Vec::new()); // As on Linux: no array is an empty one.
    }
    let image = call.image_of(index)?;
    let memory: &GuestMemory = &image.memory;
    let mut strings = Vec::new();
    let mut bytes = 0;
    for address in memory.read_u64s_until_zero(call.raw(index), ARGS_MAX)? {
        let string =
            memory
                .read_cstr(address, ARGS_BYTES_MAX - bytes)
                .map_err(|errno| match errno {
                    Errno::NAMETOOLONG => Errno::TOOBIG,
                    other => other,
                })?;
        bytes += string.len() + 1;
        if bytes >= ARGS_BYTES_MAX {
            return Err(Errno::TOOBIG);
        }
        strings.push(string);
    }
    Ok(strings)
}

fn exit_group(call: &Call<'_>) -> Result<i32, Errno> {
    let task = call.target.own_task().ok_or(Errno::PERM)?;
    task.set_pending(Pending::Exit(WaitStatus::exited(call.int(0))))?;
    Ok(0)
}

fn waitpid(call: &Call<'_>) -> Result<i32, Errno> {
    const WNOHANG: i32 = 1;
    const WUNTRACED: i32 = 2;
    const WCONTINUED: i32 = 8;
    let options = call.int(2);
    if options & !(WNOHANG | WUNTRACED | WCONTINUED) != 0 {
        return Err(Errno::INVAL);
    }
    // Checked before a child is reaped, so that its status can't get lost.
    if call.raw(1) != 0 {
        call.image_of(1)?
            .memory
            .exact(call.raw(1), 4, crate::regions::Prot::WRITE)?;
    }
    let ended = call
        .rt
        .family
        .wait(call.target.id, call.int(0), options & WNOHANG != 0, || {
            call.is_to_return()
        })?;
    let Some((child, status)) = ended else {
        return Ok(0);
    };
    if call.raw(1) != 0 {
        call.put(1, &status.0.to_le_bytes())?;
    }
    Ok(child.pid())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Fixture, UNMAPPED};
    use super::*;

    #[test]
    fn limits_and_the_name_are_told_and_can_not_be_set() {
        let cage = Fixture::new();
        assert_eq!(cage.call(170, &[0x1000, 64]), Ok(0));
        assert_eq!(cage.get(0x1000, 10), *b"localhost\0");
        assert_eq!(cage.call(170, &[0x1000, 9]), Err(Errno::NAMETOOLONG));
        assert_eq!(cage.call(170, &[0x1000, u64::MAX]), Err(Errno::INVAL));
        assert_eq!(cage.call(170, &[UNMAPPED, 64]), Err(Errno::FAULT));
        assert_eq!(cage.call(302, &[0, 7, 0, 0x1000]), Ok(0));
        let told = cage.get(0x1000, 8);
        assert_eq!(told[..4], told[4..]);
        assert_ne!(told[..4], [0xff; 4]);
        assert_eq!(cage.call(302, &[0, 9, 0, 0x1000]), Ok(0));
        assert_eq!(cage.get(0x1000, 8), [0xff; 8]);
        assert_eq!(cage.call(302, &[0, 7, 0x1000, 0]), Err(Errno::PERM));
        assert_eq!(cage.call(302, &[0, 7, UNMAPPED, 0]), Err(Errno::FAULT));
        assert_eq!(cage.call(302, &[0, 7, 0, UNMAPPED]), Err(Errno::FAULT));
        assert_eq!(cage.call(302, &[0, 16, 0, 0]), Err(Errno::INVAL));
        assert_eq!(cage.call(302, &[77, 7, 0, 0]), Err(Errno::PERM));
    }
}
