//! What the grate does with every call there is, and why.
//!
//! A call that moves file data, or shows or takes a size or an offset of a file, must not pass by
//! oversight. So each call of the table of calls is in a group here, or this does not compile.
//! Calls that no runtime of ours serves, but that would let data past if some runtime did, are
//! refused.

use calls::decided::{Group, group};

/// What is done with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Data is sealed or opened on its way.
    Transform,
    /// Sizes, offsets or flags are those of the plaintext.
    Translate,
    /// It passes, and the grate keeps up with what it does to descriptors or cages.
    Track,
    /// It passes unless it is about a key file.
    Guard,
    /// It passes untouched.
    Pass,
    /// It is answered with an error that programs fall back from.
    Refuse,
}

/// Every call, by what is done with it.
pub const GROUPS: &[Group<Decision>] = {
    use Decision::{Guard, Pass, Refuse, Track, Transform, Translate};
    &[
        group(
            Transform,
            "opens chunks",
            &["read", "pread64", "readv", "preadv"],
        ),
        group(
            Transform,
            "seals chunks",
            &["write", "pwrite64", "writev", "pwritev"],
        ),
        group(
            Transform,
            "a private or read-only mapping is filled with plaintext; a writable shared one is refused with ENODEV, for stores could not be seen",
            &["mmap"],
        ),
        group(
            Transform,
            "begins a handshake; the peer may be one that stays in the clear",
            &["connect"],
        ),
        group(
            Transform,
            "awaits a handshake; the peer may be one that stays in the clear",
            &["accept"],
        ),
        group(Transform, "seals records and datagrams", &["sendto"]),
        group(Transform, "opens records and datagrams", &["recvfrom"]),
        group(
            Transform,
            "as sendto; the runtime passes no descriptors",
            &["sendmsg"],
        ),
        group(
            Transform,
            "as recvfrom; the runtime passes no descriptors",
            &["recvmsg"],
        ),
        group(Transform, "sends a sealed end first", &["shutdown"]),
        group(Transform, "as accept", &["accept4"]),
        group(
            Translate,
            "shows a size",
            &["stat", "fstat", "lstat", "newfstatat", "statx"],
        ),
        group(
            Translate,
            "a sealed socket is ready when plaintext is, and a write would be taken",
            &["poll"],
        ),
        group(
            Translate,
            "offsets are kept in the grate",
            &["lseek", "llseek"],
        ),
        group(
            Translate,
            "FIONREAD tells what is left; the requests that close on exec are followed; the runtime serves none that copies or clones",
            &["ioctl"],
        ),
        group(
            Translate,
            "as poll",
            &["select", "epoll_wait", "pselect6", "ppoll", "epoll_pwait"],
        ),
        group(
            Translate,
            "data in the first packet is refused with ENOPROTOOPT; time limits are kept to",
            &["setsockopt"],
        ),
        group(
            Translate,
            "tells errors of sealed connections, and the room that a datagram has",
            &["getsockopt"],
        ),
        group(
            Translate,
            "takes a size, and seals the new end",
            &["truncate", "ftruncate"],
        ),
        group(
            Translate,
            "offsets mean nothing below: the advice is for all",
            &["fadvise64"],
        ),
        group(
            Translate,
            "offsets mean nothing below: all is written out",
            &["sync_file_range"],
        ),
        group(
            Translate,
            "keeps room below, punches holes and zeroes in plaintext offsets; the modes that move ranges are refused with EOPNOTSUPP",
            &["fallocate"],
        ),
        group(
            Track,
            "a sealed file is opened so that it can be sealed",
            &["open"],
        ),
        group(Track, "ends a descriptor", &["close"]),
        group(
            Track,
            "it passes, and the file then says up to where it has reached the disk",
            &["fsync", "fdatasync"],
        ),
        group(
            Track,
            "both descriptors share an offset",
            &["dup", "dup2", "dup3"],
        ),
        group(
            Track,
            "IPv4 and IPv6 are sealed, by stream or datagram; families and kinds that can't be are refused; UNIX sockets stay among programs",
            &["socket"],
        ),
        group(
            Track,
            "the child shares descriptors and offsets",
            &["clone"],
        ),
        group(Track, "closes descriptors", &["execve", "exit_group"]),
        group(Track, "a cage is gone for good", &["wait4"]),
        group(
            Track,
            "descriptors, O_APPEND, and record locks, whose ranges count from the plaintext offset and size and leave the grate's own lock alone",
            &["fcntl"],
        ),
        group(
            Track,
            "the lock is the file's; where grates keep each other out by it, for want of another kind, the programs' are kept in the grate",
            &["flock"],
        ),
        group(
            Track,
            "what it waits for may be sealed",
            &["epoll_create", "epoll_ctl", "epoll_create1"],
        ),
        group(Track, "as open", &["openat"]),
        group(
            Guard,
            "names a file, which must not be a key file",
            &[
                "access",
                "rename",
                "link",
                "unlink",
                "chmod",
                "chown",
                "lchown",
                "fchownat",
                "unlinkat",
                "renameat",
                "linkat",
                "fchmodat",
                "faccessat",
                "utimensat",
                "renameat2",
            ],
        ),
        group(
            Guard,
            "changes what a name means, which must not lead to a key or a path of --encrypt",
            &["rmdir", "symlink", "symlinkat"],
        ),
        group(
            Pass,
            "memory of the cage's own",
            &["mprotect", "munmap", "brk", "futex"],
        ),
        group(
            Pass,
            "pipes are no files: what goes through one stays among programs",
            &["pipe"],
        ),
        group(
            Pass,
            "moves no file data and shows no size",
            &[
                "sched_yield",
                "clock_nanosleep",
                "getpid",
                "getsockname",
                "getpeername",
                "kill",
                "getcwd",
                "chdir",
                "fchdir",
                "mkdir",
                "umask",
                "getuid",
                "getgid",
                "geteuid",
                "getegid",
                "getppid",
                "getpgid",
                "gettid",
                "set_tid_address",
                "clock_gettime",
                "clock_getres",
                "mkdirat",
                "getrandom",
            ],
        ),
        group(
            Pass,
            "ends a thread, which has nothing of its own; the last one's end is exit_group",
            &["exit"],
        ),
        group(Pass, "no byte goes out by it", &["bind", "listen"]),
        group(Pass, "UNIX sockets stay among programs", &["socketpair"]),
        group(
            Pass,
            "names are not sealed, and entries show no size",
            &["getdents64"],
        ),
        group(
            Pass,
            "a link's text is a name, and names are not sealed",
            &["readlink", "readlinkat"],
        ),
        group(
            Pass,
            "a descriptor of a key file can't be had",
            &["fchmod", "fchown"],
        ),
        group(Pass, "makes an empty file, a pipe or a socket", &["mknod"]),
        group(
            Pass,
            "room on the disk, in whole blocks",
            &["statfs", "fstatfs"],
        ),
        group(Pass, "as pipe", &["pipe2"]),
        group(
            Pass,
            "no program is served with them for descriptors of its own",
            &["take_lock", "give_lock", "take_lease"],
        ),
        group(
            Pass,
            "the runtime serves none whose reads or writes a grate serves",
            &["open_chunks", "seal_chunks"],
        ),
        group(
            Pass,
            "works on memory of the cage's own",
            &[
                "aead_seal",
                "aead_open",
                "record_seal",
                "record_open",
                "copy_leased",
                "file_keys",
            ],
        ),
        group(
            Pass,
            "the runtime serves it to nobody whose pwrite64 a grate serves",
            &["pwrite_kept"],
        ),
        group(
            Pass,
            "signals carry no data",
            &["sigaction", "sigprocmask", "sigsuspend", "setitimer"],
        ),
        group(
            Pass,
            "memory that programs share",
            &["shmget", "shmat", "shmctl", "shmdt"],
        ),
        group(Pass, "asks", &["gethostname", "prlimit64"]),
        group(
            Pass,
            "attributes are no content",
            &["setxattr", "listxattr"],
        ),
        group(
            Refuse,
            "would send ciphertext; ENOSYS: programs read and write then",
            &["sendfile"],
        ),
        group(
            Refuse,
            "would move ciphertext out, or plaintext in; ENOSYS",
            &["splice"],
        ),
        group(Refuse, "as splice", &["tee", "vmsplice"]),
        group(
            Refuse,
            "a handle would open a file past open; ENOSYS",
            &["name_to_handle_at"],
        ),
        group(
            Refuse,
            "would open a file past open; ENOSYS",
            &["open_by_handle_at"],
        ),
        group(
            Refuse,
            "memory is copied by the runtime alone; ENOSYS",
            &["process_vm_readv", "process_vm_writev"],
        ),
        group(
            Refuse,
            "a file that could be mapped and passed on; ENOSYS",
            &["memfd_create"],
        ),
        group(
            Refuse,
            "would copy ciphertext under another file's key; EXDEV where a sealed file takes part: programs read and write then",
            &["copy_file_range"],
        ),
        group(Refuse, "ENOSYS: programs use preadv then", &["preadv2"]),
        group(Refuse, "ENOSYS: programs use pwritev then", &["pwritev2"]),
        group(
            Refuse,
            "would read and write past the grate; ENOSYS",
            &["io_uring_setup"],
        ),
        group(
            Refuse,
            "as io_uring_setup",
            &["io_uring_enter", "io_uring_register"],
        ),
        group(Refuse, "ENOSYS: programs use openat then", &["openat2"]),
    ]
};

calls::decisions!(GROUPS: Decision);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_are_found_by_number() {
        assert_eq!(decision(0), Some(Decision::Transform));
        assert_eq!(decision(1234), None);
    }
}
