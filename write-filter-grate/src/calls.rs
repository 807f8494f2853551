//! What the grate does with every call there is, and why.
//!
//! A call that lets bytes out, or makes a way for them, must not pass by oversight. So each call
//! that the runtime serves has its line here, and a test of the runtime compares the two: a call
//! that is added there without a decision here fails it. Calls that the runtime does not serve,
//! but that would let bytes past if some runtime did, are refused.

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

/// A call, and what is done with it.
#[derive(Clone, Copy, Debug)]
pub struct Class {
    /// Its number.
    pub nr: u64,
    /// Its name.
    pub name: &'static str,
    /// What is done.
    pub decision: Decision,
    /// Why.
    pub why: &'static str,
}

const fn class(nr: u64, name: &'static str, decision: Decision, why: &'static str) -> Class {
    Class {
        nr,
        name,
        decision,
        why,
    }
}

const READS: &str = "reads: nothing goes out";
const ASKS: &str = "asks or waits: nothing goes out";
const MEMORY: &str = "memory of the cage's own";

/// Every call, by number.
pub const CALLS: &[Class] = {
    use Decision::{Guard, Pass, Refuse, Track, Transform};
    &[
        class(0, "read", Pass, READS),
        class(
            1,
            "write",
            Transform,
            "what is written is judged and redacted",
        ),
        class(
            2,
            "open",
            Track,
            "files are judged by name; what is written to one that may be written is redacted",
        ),
        class(
            3,
            "close",
            Track,
            "copies lead to the same way out; what is held goes out with the last",
        ),
        class(4, "stat", Pass, ASKS),
        class(5, "fstat", Pass, ASKS),
        class(6, "lstat", Pass, ASKS),
        class(7, "poll", Pass, ASKS),
        class(
            8,
            "lseek",
            Guard,
            "a redirected standard stream has no offset while it is redacted; no write is judged meanwhile",
        ),
        class(
            9,
            "mmap",
            Guard,
            "stores into a shared mapping could not be seen: ENODEV, or EPERM where the file may not be written",
        ),
        class(10, "mprotect", Pass, MEMORY),
        class(11, "munmap", Pass, MEMORY),
        class(12, "brk", Pass, MEMORY),
        class(
            16,
            "ioctl",
            Pass,
            "the runtime serves no request that copies or clones, and none that puts bytes into a terminal",
        ),
        class(17, "pread64", Pass, READS),
        class(
            18,
            "pwrite64",
            Transform,
            "what is written is judged and redacted",
        ),
        class(19, "readv", Pass, READS),
        class(
            20,
            "writev",
            Transform,
            "what is written is judged and redacted",
        ),
        class(21, "access", Pass, ASKS),
        class(22, "pipe", Track, "a new way out is noted"),
        class(23, "select", Pass, ASKS),
        class(24, "sched_yield", Pass, ASKS),
        class(
            32,
            "dup",
            Track,
            "copies lead to the same way out; what is held goes out with the last",
        ),
        class(
            33,
            "dup2",
            Track,
            "copies lead to the same way out; what is held goes out with the last",
        ),
        class(35, "clock_nanosleep", Pass, ASKS),
        class(39, "getpid", Pass, ASKS),
        class(
            40,
            "sendfile",
            Refuse,
            "would move bytes past the grate; ENOSYS: programs read and write then",
        ),
        class(41, "socket", Track, "a new way out is noted"),
        class(
            42,
            "connect",
            Pass,
            "who is at the other end is asked at each write",
        ),
        class(43, "accept", Track, "a new way out is noted"),
        class(
            44,
            "sendto",
            Transform,
            "what is sent is redacted; urgent data are refused",
        ),
        class(45, "recvfrom", Pass, READS),
        class(
            46,
            "sendmsg",
            Transform,
            "as sendto; the runtime passes no descriptors",
        ),
        class(47, "recvmsg", Pass, READS),
        class(
            48,
            "shutdown",
            Track,
            "what is held goes out before the end is told",
        ),
        class(
            49,
            "bind",
            Pass,
            "a name to be reached by; nothing goes out",
        ),
        class(50, "listen", Pass, "nothing goes out"),
        class(51, "getsockname", Pass, ASKS),
        class(52, "getpeername", Pass, ASKS),
        class(53, "socketpair", Track, "a new way out is noted"),
        class(54, "setsockopt", Pass, "nothing goes out"),
        class(55, "getsockopt", Pass, ASKS),
        class(56, "clone", Track, "the child shares the ways out"),
        class(
            59,
            "execve",
            Track,
            "closes descriptors; what is held goes out with the last",
        ),
        class(
            60,
            "exit",
            Track,
            "closes descriptors; what is held goes out with the last",
        ),
        class(
            61,
            "wait4",
            Track,
            "a cage that was killed is gone for good",
        ),
        class(
            62,
            "kill",
            Pass,
            "what a killed program leaves in a standard stream goes out in the end",
        ),
        class(
            72,
            "fcntl",
            Track,
            "copies lead to the same way out; what is held goes out with the last; a file that is only added to stays one",
        ),
        class(73, "flock", Pass, "a lock is no content"),
        class(74, "fsync", Track, "what is held goes out, masked"),
        class(75, "fdatasync", Track, "as fsync"),
        class(
            76,
            "truncate",
            Guard,
            "changes a file, which must be one that may be written; what its end makes a secret is masked",
        ),
        class(
            77,
            "ftruncate",
            Guard,
            "as truncate; a stream is not shortened",
        ),
        class(78, "getdents64", Pass, ASKS),
        class(79, "getcwd", Pass, ASKS),
        class(80, "chdir", Pass, "where paths start is asked at each open"),
        class(
            81,
            "fchdir",
            Pass,
            "where paths start is asked at each open",
        ),
        class(
            82,
            "rename",
            Guard,
            "the file must not get under other rules, nor be one that may not be written",
        ),
        class(
            83,
            "mkdir",
            Pass,
            "changes what stands about a file or folder, not what is in it",
        ),
        class(
            84,
            "rmdir",
            Guard,
            "the name must not lead to one that may not be written, nor to the grate's own",
        ),
        class(
            86,
            "link",
            Guard,
            "the file must not get under other rules, nor be one that may not be written",
        ),
        class(
            87,
            "unlink",
            Guard,
            "the file must be neither the grate's own nor one that may not be written",
        ),
        class(
            88,
            "symlink",
            Guard,
            "the name must not be one that may not be written",
        ),
        class(89, "readlink", Pass, ASKS),
        class(
            90,
            "chmod",
            Pass,
            "changes what stands about a file or folder, not what is in it",
        ),
        class(
            91,
            "fchmod",
            Pass,
            "changes what stands about a file or folder, not what is in it",
        ),
        class(
            92,
            "chown",
            Pass,
            "changes what stands about a file or folder, not what is in it",
        ),
        class(
            93,
            "fchown",
            Pass,
            "changes what stands about a file or folder, not what is in it",
        ),
        class(
            94,
            "lchown",
            Pass,
            "changes what stands about a file or folder, not what is in it",
        ),
        class(95, "umask", Pass, ASKS),
        class(102, "getuid", Pass, ASKS),
        class(104, "getgid", Pass, ASKS),
        class(107, "geteuid", Pass, ASKS),
        class(108, "getegid", Pass, ASKS),
        class(110, "getppid", Pass, ASKS),
        class(121, "getpgid", Pass, ASKS),
        class(
            133,
            "mknod",
            Guard,
            "the name must not be one that may not be written",
        ),
        class(137, "statfs", Pass, ASKS),
        class(138, "fstatfs", Pass, ASKS),
        class(202, "futex", Pass, MEMORY),
        class(213, "epoll_create", Pass, ASKS),
        class(221, "fadvise64", Pass, "advice changes nothing"),
        class(228, "clock_gettime", Pass, ASKS),
        class(229, "clock_getres", Pass, ASKS),
        class(231, "exit_group", Track, "as exit"),
        class(232, "epoll_wait", Pass, ASKS),
        class(233, "epoll_ctl", Pass, ASKS),
        class(257, "openat", Track, "as open"),
        class(
            258,
            "mkdirat",
            Pass,
            "changes what stands about a file or folder, not what is in it",
        ),
        class(
            260,
            "fchownat",
            Pass,
            "changes what stands about a file or folder, not what is in it",
        ),
        class(262, "newfstatat", Pass, ASKS),
        class(
            263,
            "unlinkat",
            Guard,
            "the file must be neither the grate's own nor one that may not be written",
        ),
        class(
            264,
            "renameat",
            Guard,
            "the file must not get under other rules, nor be one that may not be written",
        ),
        class(
            265,
            "linkat",
            Guard,
            "the file must not get under other rules, nor be one that may not be written",
        ),
        class(
            266,
            "symlinkat",
            Guard,
            "the name must not be one that may not be written",
        ),
        class(267, "readlinkat", Pass, ASKS),
        class(
            268,
            "fchmodat",
            Pass,
            "changes what stands about a file or folder, not what is in it",
        ),
        class(269, "faccessat", Pass, ASKS),
        class(270, "pselect6", Pass, ASKS),
        class(271, "ppoll", Pass, ASKS),
        class(275, "splice", Refuse, "as sendfile"),
        class(276, "tee", Refuse, "as sendfile"),
        class(
            277,
            "sync_file_range",
            Pass,
            "what was written is with the kernel; nothing of a file is held",
        ),
        class(278, "vmsplice", Refuse, "as sendfile"),
        class(
            280,
            "utimensat",
            Pass,
            "changes what stands about a file or folder, not what is in it",
        ),
        class(281, "epoll_pwait", Pass, ASKS),
        class(
            285,
            "fallocate",
            Guard,
            "changes a file, which must be one that may be written; modes that move ranges could join the parts of a secret: EOPNOTSUPP",
        ),
        class(288, "accept4", Track, "a new way out is noted"),
        class(291, "epoll_create1", Pass, ASKS),
        class(
            292,
            "dup3",
            Track,
            "copies lead to the same way out; what is held goes out with the last",
        ),
        class(293, "pipe2", Track, "a new way out is noted"),
        class(295, "preadv", Pass, READS),
        class(
            296,
            "pwritev",
            Transform,
            "what is written is judged and redacted",
        ),
        class(
            303,
            "name_to_handle_at",
            Refuse,
            "a handle would open a file past open; ENOSYS",
        ),
        class(
            304,
            "open_by_handle_at",
            Refuse,
            "would open a file past open; ENOSYS",
        ),
        class(
            310,
            "process_vm_readv",
            Pass,
            "reads memory, and writes the caller's own",
        ),
        class(
            311,
            "process_vm_writev",
            Refuse,
            "would write into what was judged already; ENOSYS",
        ),
        class(
            316,
            "renameat2",
            Guard,
            "the file must not get under other rules, nor be one that may not be written",
        ),
        class(318, "getrandom", Pass, ASKS),
        class(
            319,
            "memfd_create",
            Refuse,
            "a file that could be mapped and passed on; ENOSYS",
        ),
        class(
            326,
            "copy_file_range",
            Guard,
            "would move bytes past the grate: EXDEV while secrets are redacted, EPERM where the file may not be written",
        ),
        class(327, "preadv2", Pass, READS),
        class(328, "pwritev2", Refuse, "ENOSYS: programs use pwritev then"),
        class(332, "statx", Pass, ASKS),
        class(
            425,
            "io_uring_setup",
            Refuse,
            "would write past the grate; ENOSYS",
        ),
        class(426, "io_uring_enter", Refuse, "as io_uring_setup"),
        class(427, "io_uring_register", Refuse, "as io_uring_setup"),
        class(437, "openat2", Refuse, "ENOSYS: programs use openat then"),
        class(1100, "llseek", Guard, "as lseek"),
        class(1101, "aead_seal", Pass, MEMORY),
        class(1102, "aead_open", Pass, MEMORY),
        class(1103, "record_seal", Pass, MEMORY),
        class(1104, "record_open", Pass, MEMORY),
    ]
};

/// The decision on a call.
pub const fn decision(nr: u64) -> Option<Decision> {
    let mut i = 0;
    while i < CALLS.len() {
        if CALLS[i].nr == nr {
            return Some(CALLS[i].decision);
        }
        i += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_is_decided_once() {
        assert!(CALLS.windows(2).all(|pair| pair[0].nr < pair[1].nr));
        assert_eq!(decision(1), Some(Decision::Transform));
        assert_eq!(decision(1234), None);
        assert!(CALLS.iter().all(|call| !call.why.is_empty()));
    }
}
