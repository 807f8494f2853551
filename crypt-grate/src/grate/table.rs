//! Which function serves which call. Calls that are not here pass untouched; [`crypt_grate::calls`]
//! says of every call why it may, or may not.

use super::{exclusion, files, mapping, names, net, open, stat, transfer};
use crypt_grate::calls::{self, Decision, HANDLED};
use grate_rs::constants as nr;
use grate_rs::{SyscallHandler, handler};

macro_rules! table {
    ($($constant:ident => $name:ident: $function:path,)*) => {
        $(handler!($name, nr::$constant, $function);)*

        /// Number and handler.
        pub static HANDLERS: &[(u64, SyscallHandler)] = &[$((nr::$constant, $name)),*];

        const NUMBERS: &[u64] = &[$(nr::$constant),*];
    };
}

table! {
    SYS_READ => read: transfer::read,
    SYS_WRITE => write: transfer::write,
    SYS_OPEN => open: open::open,
    SYS_CLOSE => close: net::close,
    SYS_STAT => stat: stat::stat,
    SYS_FSTAT => fstat: stat::fstat,
    SYS_LSTAT => lstat: stat::lstat,
    SYS_LSEEK => lseek: transfer::lseek,
    SYS_MMAP => mmap: mapping::mmap,
    SYS_IOCTL => ioctl: files::ioctl,
    SYS_PREAD => pread: transfer::pread,
    SYS_PWRITE => pwrite: transfer::pwrite,
    SYS_READV => readv: transfer::readv,
    SYS_WRITEV => writev: transfer::writev,
    SYS_ACCESS => access: names::access,
    SYS_DUP => dup: files::dup,
    SYS_DUP2 => dup2: net::dup2,
    SYS_CLONE => clone: net::clone_cage,
    SYS_EXECVE => execve: net::execve,
    SYS_WAITPID => waitpid: net::wait4,
    SYS_FCNTL => fcntl: files::fcntl,
    SYS_FLOCK => flock: exclusion::flock,
    SYS_FSYNC => fsync: files::fsync,
    SYS_FDATASYNC => fdatasync: files::fsync,
    SYS_TRUNCATE => truncate: files::truncate,
    SYS_FTRUNCATE => ftruncate: files::ftruncate,
    SYS_RENAME => rename: names::rename,
    SYS_LINK => link: names::link,
    SYS_RMDIR => rmdir: names::rmdir,
    SYS_UNLINK => unlink: names::unlink,
    SYS_SYMLINK => symlink: names::symlink,
    SYS_CHMOD => chmod: names::chmod,
    SYS_CHOWN => chown: names::chown,
    SYS_LCHOWN => lchown: names::lchown,
    SYS_FADVISE64 => fadvise64: files::fadvise,
    SYS_EXIT_GROUP => exit_group: net::exit_group,
    SYS_OPENAT => openat: open::openat,
    SYS_FCHOWNAT => fchownat: names::fchownat,
    SYS_NEWFSTATAT => newfstatat: stat::newfstatat,
    SYS_UNLINKAT => unlinkat: names::unlinkat,
    SYS_RENAMEAT => renameat: names::renameat,
    SYS_LINKAT => linkat: names::linkat,
    SYS_SYMLINKAT => symlinkat: names::symlinkat,
    SYS_FCHMODAT => fchmodat: names::fchmodat,
    SYS_FACCESSAT => faccessat: names::faccessat,
    SYS_UTIMENSAT => utimensat: names::utimensat,
    SYS_FALLOCATE => fallocate: files::fallocate,
    SYS_DUP3 => dup3: net::dup3,
    SYS_PREADV => preadv: transfer::preadv,
    SYS_PWRITEV => pwritev: transfer::pwritev,
    SYS_RENAMEAT2 => renameat2: names::renameat2,
    SYS_COPY_FILE_RANGE => copy_file_range: files::copy_file_range,
    SYS_LLSEEK => llseek: transfer::lseek,
    SYS_SYNC_FILE_RANGE => sync_file_range: files::sync_file_range,
    SYS_STATX => statx: stat::statx,
    SYS_POLL => poll: net::wait::poll,
    SYS_SELECT => select: net::wait::select,
    SYS_SOCKET => socket: net::socket,
    SYS_CONNECT => connect: net::connect,
    SYS_ACCEPT => accept: net::accept,
    SYS_SENDTO => sendto: net::sendto,
    SYS_RECVFROM => recvfrom: net::recvfrom,
    SYS_SENDMSG => sendmsg: net::sendmsg,
    SYS_RECVMSG => recvmsg: net::recvmsg,
    SYS_SHUTDOWN => shutdown: net::shutdown,
    SYS_SETSOCKOPT => setsockopt: net::setsockopt,
    SYS_GETSOCKOPT => getsockopt: net::getsockopt,
    SYS_EPOLL_CREATE => epoll_create: net::epoll::create,
    SYS_EPOLL_WAIT => epoll_wait: net::epoll::wait,
    SYS_EPOLL_CTL => epoll_ctl: net::epoll::ctl,
    SYS_PSELECT6 => pselect6: net::wait::pselect6,
    SYS_PPOLL => ppoll: net::wait::ppoll,
    SYS_EPOLL_PWAIT => epoll_pwait: net::epoll::wait,
    SYS_ACCEPT4 => accept4: net::accept4,
    SYS_EPOLL_CREATE1 => epoll_create1: net::epoll::create,
    SYS_SENDFILE => sendfile: files::refuse,
    SYS_SPLICE => splice: files::refuse,
    SYS_TEE => tee: files::refuse,
    SYS_VMSPLICE => vmsplice: files::refuse,
    SYS_NAME_TO_HANDLE_AT => name_to_handle_at: files::refuse,
    SYS_OPEN_BY_HANDLE_AT => open_by_handle_at: files::refuse,
    SYS_PROCESS_VM_READV => process_vm_readv: files::refuse,
    SYS_PROCESS_VM_WRITEV => process_vm_writev: files::refuse,
    SYS_MEMFD_CREATE => memfd_create: files::refuse,
    SYS_PREADV2 => preadv2: files::refuse,
    SYS_PWRITEV2 => pwritev2: files::refuse,
    SYS_IO_URING_SETUP => io_uring_setup: files::refuse,
    SYS_IO_URING_ENTER => io_uring_enter: files::refuse,
    SYS_IO_URING_REGISTER => io_uring_register: files::refuse,
    SYS_OPENAT2 => openat2: files::refuse,
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
