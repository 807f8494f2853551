//! What the grate does with every call there is, and why.
//!
//! A call that moves bytes, or makes what is counted, must not pass by oversight. So each call of
//! the table of calls is in a group here, or this does not compile. Calls that no runtime of ours
//! serves, but that would move bytes past the limits if some runtime did, are refused.

use calls::decided::{Group, group};

/// What is done with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It waits until what it moves may be moved.
    Charge,
    /// It makes something of which there may be so many.
    Count,
    /// The port that it names must be one that may be used.
    Ports,
    /// It passes, and the grate keeps up with what it does.
    Track,
    /// It passes untouched.
    Pass,
    /// It is answered with an error that programs fall back from.
    Refuse,
}

/// Every call, by what is done with it.
pub const GROUPS: &[Group<Decision>] = {
    use Decision::{Charge, Count, Pass, Ports, Refuse, Track};
    &[
        group(
            Charge,
            "bytes come in",
            &["read", "pread64", "readv", "preadv"],
        ),
        group(
            Charge,
            "bytes go out",
            &["write", "pwrite64", "writev", "pwritev"],
        ),
        group(Charge, "bytes come in: fileread", &["getdents64"]),
        group(
            Charge,
            "bytes go out, to a port that may be used",
            &["sendto", "sendmsg"],
        ),
        group(Charge, "bytes come in", &["recvfrom", "recvmsg"]),
        group(Charge, "bytes come in and go out", &["copy_file_range"]),
        group(
            Charge,
            "a file in memory counts as read; one that stores could change: ENODEV where what is written is limited",
            &["mmap"],
        ),
        group(Charge, "random bytes", &["getrandom"]),
        group(
            Count,
            "a new descriptor",
            &[
                "open",
                "openat",
                "pipe",
                "pipe2",
                "epoll_create",
                "epoll_create1",
                "socket",
                "socketpair",
                "accept",
                "accept4",
            ],
        ),
        group(
            Count,
            "a copy is a descriptor too",
            &["dup", "dup2", "dup3", "fcntl"],
        ),
        group(
            Count,
            "the socket is one that listens, at a port",
            &["listen"],
        ),
        group(Count, "a new thread or cage", &["clone"]),
        group(Ports, "names a port", &["bind", "connect"]),
        group(
            Track,
            "what is counted is given back",
            &["close", "execve", "exit", "exit_group", "wait4"],
        ),
        group(
            Pass,
            "asks or waits",
            &[
                "stat",
                "fstat",
                "lstat",
                "poll",
                "access",
                "select",
                "sched_yield",
                "clock_nanosleep",
                "getpid",
                "getsockname",
                "getpeername",
                "getsockopt",
                "getcwd",
                "readlink",
                "umask",
                "getuid",
                "getgid",
                "geteuid",
                "getegid",
                "getppid",
                "getpgid",
                "gettid",
                "set_tid_address",
                "statfs",
                "fstatfs",
                "clock_gettime",
                "clock_getres",
                "epoll_wait",
                "epoll_ctl",
                "newfstatat",
                "readlinkat",
                "faccessat",
                "pselect6",
                "ppoll",
                "epoll_pwait",
                "statx",
                "gethostname",
                "prlimit64",
                "lseek",
                "llseek",
                "ioctl",
                "listxattr",
            ],
        ),
        group(
            Pass,
            "memory of the cage's own, or that programs share",
            &[
                "mprotect",
                "munmap",
                "brk",
                "futex",
                "aead_seal",
                "copy_leased",
                "aead_open",
                "record_seal",
                "record_open",
                "file_keys",
                "shmget",
                "shmat",
                "shmctl",
                "shmdt",
            ],
        ),
        group(
            Pass,
            "the runtime serves it to nobody whose pwrite64 a grate serves",
            &["pwrite_kept"],
        ),
        group(
            Pass,
            "the runtime serves none whose reads or writes a grate serves",
            &["open_chunks", "seal_chunks"],
        ),
        group(
            Pass,
            "moves no bytes of a file's content",
            &[
                "flock",
                "take_lock",
                "give_lock",
                "take_lease",
                "fsync",
                "fdatasync",
                "sync_file_range",
                "fadvise64",
                "truncate",
                "ftruncate",
                "fallocate",
                "setsockopt",
                "shutdown",
            ],
        ),
        group(
            Pass,
            "changes names and what stands about a file, not what is in it",
            &[
                "chdir",
                "fchdir",
                "rename",
                "mkdir",
                "rmdir",
                "link",
                "unlink",
                "symlink",
                "chmod",
                "fchmod",
                "chown",
                "fchown",
                "lchown",
                "mknod",
                "setxattr",
                "mkdirat",
                "fchownat",
                "unlinkat",
                "renameat",
                "renameat2",
                "linkat",
                "symlinkat",
                "fchmodat",
                "utimensat",
            ],
        ),
        group(
            Pass,
            "signals carry no data",
            &[
                "sigaction",
                "sigprocmask",
                "sigsuspend",
                "setitimer",
                "kill",
            ],
        ),
        group(
            Refuse,
            "would move bytes past the limits; ENOSYS: programs read and write then",
            &[
                "sendfile",
                "splice",
                "tee",
                "vmsplice",
                "preadv2",
                "pwritev2",
                "process_vm_readv",
                "process_vm_writev",
                "io_uring_setup",
                "io_uring_enter",
                "io_uring_register",
            ],
        ),
        group(
            Refuse,
            "would make a descriptor that is not counted; ENOSYS",
            &[
                "memfd_create",
                "name_to_handle_at",
                "open_by_handle_at",
                "openat2",
            ],
        ),
    ]
};

calls::decisions!(GROUPS: Decision);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_are_found_by_number() {
        assert_eq!(decision(1), Some(Decision::Charge));
        assert_eq!(decision(40), Some(Decision::Refuse));
        assert_eq!(decision(1234), None);
    }
}
