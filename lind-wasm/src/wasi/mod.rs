//! WASI preview 1 for ordinary WASI programs, every function made of system calls through 3i.
//!
//! Grates see such a program like any other cage: there is no way to the kernel but
//! [`context::Context::call`]. Data buffers stay where the program has them; what a system call
//! wants in memory in another form (iovec arrays, paths with a NUL, results in the kernel's
//! layout) goes to the scratch space above the program's own memory.

mod abi;
mod clocks;
mod context;
mod directory;
mod fds;
mod files;
mod paths;
mod poll;
mod process;
mod sockets;
mod threads;
mod unstable;

use crate::state::HostState;
use context::Context;
use wasmtime::{Caller, Linker};

const PREVIEW_1: &str = "wasi_snapshot_preview1";
const UNSTABLE: &str = "wasi_unstable";

/// Defines functions that answer an errno, from a list of their signatures.
macro_rules! functions {
    ($linker:ident, $from:expr => $($module:ident :: $name:ident ( $($arg:ident : $ty:ty),* );)*) => {$(
        $linker.func_wrap(
            $from,
            stringify!($name),
            |caller: Caller<'_, HostState>, $($arg: $ty),*| -> wasmtime::Result<i32> {
                abi::status($module::$name(&mut Context::new(caller), $($arg),*))
            },
        )?;
    )*};
}

/// Defines `wasi_snapshot_preview1`, and the preview before it, `wasi_unstable`.
///
/// # Errors
/// Never in practice: a name defined twice.
pub fn define(linker: &mut Linker<HostState>) -> anyhow::Result<()> {
    functions! { linker, PREVIEW_1 =>
        files::fd_filestat_get(fd: u32, stat: u32);
        files::fd_seek(fd: u32, offset: i64, whence: u32, position: u32);
        paths::path_filestat_get(fd: u32, lookup: u32, path: u32, len: u32, stat: u32);
        poll::poll_oneoff(subscriptions: u32, events: u32, count: u32, stored: u32);
        sockets::sock_accept(fd: u32, flags: u32, accepted: u32);
    }
    functions! { linker, UNSTABLE =>
        unstable::fd_filestat_get(fd: u32, stat: u32);
        unstable::fd_seek(fd: u32, offset: i64, whence: u32, position: u32);
        unstable::path_filestat_get(fd: u32, lookup: u32, path: u32, len: u32, stat: u32);
        unstable::poll_oneoff(subscriptions: u32, events: u32, count: u32, stored: u32);
    }
    threads::define(linker)?;
    define_common(linker, PREVIEW_1)?;
    define_common(linker, UNSTABLE)
}

/// The functions that both have in the same way.
fn define_common(linker: &mut Linker<HostState>, from: &str) -> anyhow::Result<()> {
    functions! { linker, from =>
        process::args_get(list: u32, bytes: u32);
        process::args_sizes_get(count: u32, size: u32);
        process::environ_get(list: u32, bytes: u32);
        process::environ_sizes_get(count: u32, size: u32);
        process::proc_raise(signal: u32);
        process::random_get(at: u32, len: u32);
        process::sched_yield();
        clocks::clock_res_get(clock: u32, resolution: u32);
        clocks::clock_time_get(clock: u32, precision: u64, time: u32);
        fds::fd_close(fd: u32);
        fds::fd_fdstat_get(fd: u32, stat: u32);
        fds::fd_fdstat_set_flags(fd: u32, flags: u32);
        fds::fd_fdstat_set_rights(fd: u32, base: u64, inheriting: u64);
        fds::fd_prestat_get(fd: u32, prestat: u32);
        fds::fd_prestat_dir_name(fd: u32, path: u32, len: u32);
        fds::fd_renumber(from: u32, to: u32);
        files::fd_advise(fd: u32, offset: u64, len: u64, advice: u32);
        files::fd_allocate(fd: u32, offset: u64, len: u64);
        files::fd_datasync(fd: u32);
        files::fd_filestat_set_size(fd: u32, size: u64);
        files::fd_filestat_set_times(fd: u32, atim: u64, mtim: u64, flags: u32);
        files::fd_pread(fd: u32, iovs: u32, count: u32, offset: u64, done: u32);
        files::fd_pwrite(fd: u32, iovs: u32, count: u32, offset: u64, done: u32);
        files::fd_read(fd: u32, iovs: u32, count: u32, done: u32);
        files::fd_sync(fd: u32);
        files::fd_tell(fd: u32, position: u32);
        files::fd_write(fd: u32, iovs: u32, count: u32, done: u32);
        directory::fd_readdir(fd: u32, buffer: u32, len: u32, cookie: u64, used: u32);
        paths::path_create_directory(fd: u32, path: u32, len: u32);
        paths::path_filestat_set_times(
            fd: u32, lookup: u32, path: u32, len: u32, atim: u64, mtim: u64, flags: u32
        );
        paths::path_link(
            old_fd: u32, lookup: u32, old: u32, old_len: u32, new_fd: u32, new: u32, new_len: u32
        );
        paths::path_open(
            fd: u32, lookup: u32, path: u32, len: u32, how: u32, rights: u64, inheriting: u64,
            flags: u32, opened: u32
        );
        paths::path_readlink(fd: u32, path: u32, len: u32, buffer: u32, room: u32, used: u32);
        paths::path_remove_directory(fd: u32, path: u32, len: u32);
        paths::path_rename(
            old_fd: u32, old: u32, old_len: u32, new_fd: u32, new: u32, new_len: u32
        );
        paths::path_symlink(target: u32, target_len: u32, fd: u32, path: u32, len: u32);
        paths::path_unlink_file(fd: u32, path: u32, len: u32);
        sockets::sock_recv(fd: u32, iovs: u32, count: u32, flags: u32, done: u32, out_flags: u32);
        sockets::sock_send(fd: u32, iovs: u32, count: u32, flags: u32, done: u32);
        sockets::sock_shutdown(fd: u32, how: u32);
    }
    linker.func_wrap(from, "proc_exit", process::proc_exit)?;
    Ok(())
}
