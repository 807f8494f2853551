//! Which function serves which call. Calls that are not here pass untouched;
//! [`resource_grate::calls`] says of every call why it may, or may not.

use super::{descriptors, lives, sockets, transfer};
use grate_rs::constants::error;
use grate_rs::{Call, Errno, handler_table};
use resource_grate::calls;

handler_table! { calls:
    SYS_READ => read: transfer::read,
    SYS_WRITE => write: transfer::write,
    SYS_OPEN => open: descriptors::open,
    SYS_CLOSE => close: descriptors::close,
    SYS_MMAP => mmap: transfer::mmap,
    SYS_PREAD => pread: transfer::pread,
    SYS_PWRITE => pwrite: transfer::pwrite,
    SYS_READV => readv: transfer::readv,
    SYS_WRITEV => writev: transfer::writev,
    SYS_PIPE => pipe: descriptors::pipe,
    SYS_PIPE2 => pipe2: descriptors::pipe,
    SYS_DUP => dup: descriptors::dup,
    SYS_DUP2 => dup2: descriptors::dup2,
    SYS_DUP3 => dup3: descriptors::dup3,
    SYS_FCNTL => fcntl: descriptors::fcntl,
    SYS_SENDFILE => sendfile: refuse,
    SYS_SOCKET => socket: sockets::socket,
    SYS_CONNECT => connect: sockets::connect,
    SYS_ACCEPT => accept: sockets::accept,
    SYS_ACCEPT4 => accept4: sockets::accept,
    SYS_SENDTO => sendto: transfer::sendto,
    SYS_RECVFROM => recvfrom: transfer::recvfrom,
    SYS_SENDMSG => sendmsg: transfer::sendmsg,
    SYS_RECVMSG => recvmsg: transfer::recvmsg,
    SYS_BIND => bind: sockets::bind,
    SYS_LISTEN => listen: sockets::listen,
    SYS_SOCKETPAIR => socketpair: sockets::socketpair,
    SYS_CLONE => clone: lives::clone_cage,
    SYS_EXECVE => execve: lives::execve,
    SYS_EXIT => exit: lives::exit,
    SYS_WAITPID => waitpid: lives::wait4,
    SYS_EXIT_GROUP => exit_group: lives::exit_group,
    SYS_GETDENTS => getdents: transfer::getdents,
    SYS_EPOLL_CREATE => epoll_create: descriptors::epoll_create,
    SYS_EPOLL_CREATE1 => epoll_create1: descriptors::epoll_create,
    SYS_OPENAT => openat: descriptors::openat,
    SYS_SPLICE => splice: refuse,
    SYS_TEE => tee: refuse,
    SYS_VMSPLICE => vmsplice: refuse,
    SYS_PREADV => preadv: transfer::preadv,
    SYS_PWRITEV => pwritev: transfer::pwritev,
    SYS_NAME_TO_HANDLE_AT => name_to_handle_at: refuse,
    SYS_OPEN_BY_HANDLE_AT => open_by_handle_at: refuse,
    SYS_PROCESS_VM_READV => process_vm_readv: refuse,
    SYS_PROCESS_VM_WRITEV => process_vm_writev: refuse,
    SYS_GETRANDOM => getrandom: transfer::getrandom,
    SYS_MEMFD_CREATE => memfd_create: refuse,
    SYS_COPY_FILE_RANGE => copy_file_range: transfer::copy_file_range,
    SYS_PREADV2 => preadv2: refuse,
    SYS_PWRITEV2 => pwritev2: refuse,
    SYS_IO_URING_SETUP => io_uring_setup: refuse,
    SYS_IO_URING_ENTER => io_uring_enter: refuse,
    SYS_IO_URING_REGISTER => io_uring_register: refuse,
    SYS_OPENAT2 => openat2: refuse,
}

/// Calls that would get past the grate: programs do otherwise where they get this error.
fn refuse(_call: &Call) -> Result<i32, Errno> {
    Err(Errno(error::ENOSYS))
}
