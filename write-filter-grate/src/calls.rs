//! What the grate does with every call there is, and why.
//!
//! A call that lets bytes out, or makes a way for them, must not pass by oversight. So each call of
//! the table of calls is in a group here, or this does not compile. Calls that no runtime of ours
//! serves, but that would let bytes past if some runtime did, are refused.

use calls::decided::{Group, group};

/// What is done with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Bytes are redacted on their way.
    Transform,
    /// It passes, and the grate keeps up with what it does to ways out.
    Track,
    /// It passes unless it would change a file that may not be, or get bytes past the rules.
    Guard,
    /// It passes untouched.
    Pass,
    /// It is answered with an error that programs fall back from.
    Refuse,
}

/// Every call, by what is done with it.
pub const GROUPS: &[Group<Decision>] = {
    use Decision::{Guard, Pass, Refuse, Track, Transform};
    &[
        group(
            Transform,
            "what is written is judged and redacted",
            &["write", "pwrite64", "writev", "pwritev"],
        ),
        group(
            Transform,
            "what is sent is redacted; urgent data, and packets that are joined, are refused",
            &["sendto"],
        ),
        group(
            Transform,
            "as sendto; the runtime passes no descriptors",
            &["sendmsg"],
        ),
        group(
            Track,
            "files are judged by name; what is written to one that may be written is redacted",
            &["open"],
        ),
        group(
            Track,
            "copies lead to the same way out; what is held goes out with the last",
            &["close", "dup", "dup2", "dup3"],
        ),
        group(
            Track,
            "a new way out is noted",
            &["pipe", "socket", "accept", "socketpair", "accept4", "pipe2"],
        ),
        group(
            Track,
            "what is held goes out before the end is told",
            &["shutdown"],
        ),
        group(Track, "the child shares the ways out", &["clone"]),
        group(
            Track,
            "closes descriptors; what is held goes out with the last",
            &["execve", "exit_group"],
        ),
        group(Track, "a cage that was killed is gone for good", &["wait4"]),
        group(
            Track,
            "copies lead to the same way out; what is held goes out with the last; a file that is only added to stays one",
            &["fcntl"],
        ),
        group(Track, "what is held goes out, masked", &["fsync"]),
        group(Track, "as fsync", &["fdatasync"]),
        group(Track, "as open", &["openat"]),
        group(
            Guard,
            "a redirected standard stream has no offset while it is redacted; no write is judged meanwhile",
            &["lseek"],
        ),
        group(
            Guard,
            "stores into a shared mapping could not be seen: ENODEV, or EPERM where the file may not be written",
            &["mmap"],
        ),
        group(
            Guard,
            "changes a file, which must be one that may be written; what its end makes a secret is masked",
            &["truncate"],
        ),
        group(
            Guard,
            "as truncate; a stream is not shortened",
            &["ftruncate"],
        ),
        group(
            Guard,
            "the file must not get under other rules, nor be one that may not be written",
            &["rename", "link", "renameat", "linkat", "renameat2"],
        ),
        group(
            Guard,
            "the name must not lead to one that may not be written, nor to the grate's own",
            &["rmdir"],
        ),
        group(
            Guard,
            "the file must be neither the grate's own nor one that may not be written",
            &["unlink", "unlinkat"],
        ),
        group(
            Guard,
            "the name must not be one that may not be written",
            &["symlink", "mknod", "symlinkat"],
        ),
        group(
            Guard,
            "changes a file, which must be one that may be written; modes that move ranges could join the parts of a secret: EOPNOTSUPP",
            &["fallocate"],
        ),
        group(
            Guard,
            "would move bytes past the grate: EXDEV while secrets are redacted, EPERM where the file may not be written",
            &["copy_file_range"],
        ),
        group(Guard, "as lseek", &["llseek"]),
        group(
            Pass,
            "reads: nothing goes out",
            &[
                "read", "pread64", "readv", "recvfrom", "recvmsg", "preadv", "preadv2",
            ],
        ),
        group(
            Pass,
            "asks or waits: nothing goes out",
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
                "getdents64",
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
                "epoll_create",
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
                "epoll_create1",
                "getrandom",
                "statx",
            ],
        ),
        group(
            Pass,
            "ends a thread, which has nothing of its own; the last one's end is exit_group",
            &["exit"],
        ),
        group(
            Pass,
            "moves no bytes",
            &["take_lock", "give_lock", "take_lease"],
        ),
        group(
            Pass,
            "the runtime serves none whose reads or writes a grate serves",
            &["open_chunks", "seal_chunks"],
        ),
        group(
            Pass,
            "memory of the cage's own",
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
            ],
        ),
        group(
            Pass,
            "the runtime serves it to nobody whose pwrite64 a grate serves",
            &["pwrite_kept"],
        ),
        group(
            Pass,
            "the runtime serves no request that copies or clones, and none that puts bytes into a terminal",
            &["ioctl"],
        ),
        group(
            Pass,
            "who is at the other end is asked at each write",
            &["connect"],
        ),
        group(Pass, "a name to be reached by; nothing goes out", &["bind"]),
        group(Pass, "nothing goes out", &["listen"]),
        group(
            Guard,
            "packets must not be joined that are judged apart; ENOPROTOOPT for what does",
            &["setsockopt"],
        ),
        group(
            Pass,
            "what a killed program leaves in a standard stream goes out in the end",
            &["kill"],
        ),
        group(Pass, "a lock is no content", &["flock"]),
        group(
            Pass,
            "where paths start is asked at each open",
            &["chdir", "fchdir"],
        ),
        group(
            Pass,
            "changes what stands about a file or folder, not what is in it",
            &[
                "mkdir",
                "chmod",
                "fchmod",
                "chown",
                "fchown",
                "lchown",
                "mkdirat",
                "fchownat",
                "fchmodat",
                "utimensat",
            ],
        ),
        group(Pass, "advice changes nothing", &["fadvise64"]),
        group(
            Pass,
            "what was written is with the kernel; nothing of a file is held",
            &["sync_file_range"],
        ),
        group(
            Pass,
            "reads memory, and writes the caller's own",
            &["process_vm_readv"],
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
            "would move bytes past the grate; ENOSYS: programs read and write then",
            &["sendfile"],
        ),
        group(Refuse, "as sendfile", &["splice", "tee", "vmsplice"]),
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
            "would write into what was judged already; ENOSYS",
            &["process_vm_writev"],
        ),
        group(
            Refuse,
            "a file that could be mapped and passed on; ENOSYS",
            &["memfd_create"],
        ),
        group(Refuse, "ENOSYS: programs use pwritev then", &["pwritev2"]),
        group(
            Refuse,
            "would write past the grate; ENOSYS",
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
        assert_eq!(decision(1), Some(Decision::Transform));
        assert_eq!(decision(1234), None);
    }
}
