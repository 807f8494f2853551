//! Which function serves which call. Calls that are not here pass untouched;
//! [`write_filter_grate::calls`] says of every call why it may, or may not.

use super::{lives, moves, open, sockets, truncate, write};
use grate_rs::constants as nr;
use grate_rs::{SyscallHandler, handler};
use write_filter_grate::calls::{self, Decision, HANDLED};

macro_rules! table {
    ($($constant:ident => $name:ident: $function:path,)*) => {
        $(handler!($name, nr::$constant, $function);)*

        /// Number and handler.
        pub static HANDLERS: &[(u64, SyscallHandler)] = &[$((nr::$constant, $name)),*];

        const NUMBERS: &[u64] = &[$(nr::$constant),*];
    };
}

table! {
    SYS_WRITE => write: write::write,
    SYS_OPEN => open: open::open,
    SYS_CLOSE => close: lives::close,
    SYS_MMAP => mmap: write::mmap,
    SYS_PWRITE => pwrite: write::pwrite,
    SYS_WRITEV => writev: write::writev,
    SYS_DUP => dup: lives::dup,
    SYS_DUP2 => dup2: lives::dup2,
    SYS_CLONE => clone: lives::clone_cage,
    SYS_EXECVE => execve: lives::execve,
    SYS_WAITPID => waitpid: lives::wait4,
    SYS_FCNTL => fcntl: lives::fcntl,
    SYS_TRUNCATE => truncate: truncate::truncate,
    SYS_FTRUNCATE => ftruncate: write::ftruncate,
    SYS_EXIT_GROUP => exit_group: lives::exit_group,
    SYS_OPENAT => openat: open::openat,
    SYS_FALLOCATE => fallocate: write::fallocate,
    SYS_DUP3 => dup3: lives::dup3,
    SYS_PWRITEV => pwritev: write::pwritev,
    SYS_COPY_FILE_RANGE => copy_file_range: write::copy_file_range,
    SYS_LSEEK => lseek: write::lseek,
    SYS_LLSEEK => llseek: write::lseek,
    SYS_PIPE => pipe: sockets::pipe,
    SYS_PIPE2 => pipe2: sockets::pipe,
    SYS_SOCKET => socket: sockets::socket,
    SYS_SOCKETPAIR => socketpair: sockets::socketpair,
    SYS_ACCEPT => accept: sockets::accept,
    SYS_ACCEPT4 => accept4: sockets::accept,
    SYS_SETSOCKOPT => setsockopt: write::setsockopt,
    SYS_SENDTO => sendto: write::sendto,
    SYS_SENDMSG => sendmsg: write::sendmsg,
    SYS_FSYNC => fsync: write::fsync,
    SYS_FDATASYNC => fdatasync: write::fsync,
    SYS_SHUTDOWN => shutdown: sockets::shutdown,
    SYS_SENDFILE => sendfile: write::refuse,
    SYS_SPLICE => splice: write::refuse,
    SYS_TEE => tee: write::refuse,
    SYS_VMSPLICE => vmsplice: write::refuse,
    SYS_PWRITEV2 => pwritev2: write::refuse,
    SYS_RENAME => rename: moves::rename,
    SYS_RENAMEAT => renameat: moves::renameat,
    SYS_RENAMEAT2 => renameat2: moves::renameat2,
    SYS_LINK => link: moves::link,
    SYS_LINKAT => linkat: moves::linkat,
    SYS_RMDIR => rmdir: moves::rmdir,
    SYS_UNLINK => unlink: moves::unlink,
    SYS_UNLINKAT => unlinkat: moves::unlinkat,
    SYS_SYMLINK => symlink: moves::symlink,
    SYS_SYMLINKAT => symlinkat: moves::symlinkat,
    SYS_MKNOD => mknod: moves::mknod,
    SYS_IO_URING_SETUP => io_uring_setup: write::refuse,
    SYS_IO_URING_ENTER => io_uring_enter: write::refuse,
    SYS_IO_URING_REGISTER => io_uring_register: write::refuse,
    SYS_NAME_TO_HANDLE_AT => name_to_handle_at: write::refuse,
    SYS_OPEN_BY_HANDLE_AT => open_by_handle_at: write::refuse,
    SYS_PROCESS_VM_WRITEV => process_vm_writev: write::refuse,
    SYS_MEMFD_CREATE => memfd_create: write::refuse,
    SYS_OPENAT2 => openat2: write::refuse,
}

/// A call has a handler if and only if it is not to pass untouched.
const _: () = {
    let mut i = 0;
    while i < NUMBERS.len() {
        assert!(!matches!(
            calls::decision(NUMBERS[i]),
            None | Some(Decision::Pass)
        ));
        i += 1;
    }
    assert!(NUMBERS.len() == HANDLED);
};
