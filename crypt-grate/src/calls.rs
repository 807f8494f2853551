//! What the grate does with every call there is, and why.
//!
//! A call that moves file data, or shows or takes a size or an offset of a file, must not pass by
//! oversight. So each call that the runtime serves has its line here, and a test of the runtime
//! compares the two: a call that is added there without a decision here fails it. Calls that the
//! runtime does not serve, but that would let data past if some runtime did, are refused.

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

const NO_DATA: &str = "moves no file data and shows no size";
const KEY: &str = "names a file, which must not be a key file";

/// Every call, by number.
pub const CALLS: &[Class] = {
    use Decision::{Guard, Pass, Refuse, Track, Transform, Translate};
    &[
        class(0, "read", Transform, "opens chunks"),
        class(1, "write", Transform, "seals chunks"),
        class(
            2,
            "open",
            Track,
            "a sealed file is opened so that it can be sealed",
        ),
        class(3, "close", Track, "ends a descriptor"),
        class(4, "stat", Translate, "shows a size"),
        class(5, "fstat", Translate, "shows a size"),
        class(6, "lstat", Translate, "shows a size"),
        class(
            7,
            "poll",
            Translate,
            "a sealed socket is ready when plaintext is, and a write would be taken",
        ),
        class(8, "lseek", Translate, "offsets are kept in the grate"),
        class(
            9,
            "mmap",
            Transform,
            "a private or read-only mapping is filled with plaintext; a \
            writable shared one is refused with ENODEV, for stores could not be seen",
        ),
        class(10, "mprotect", Pass, "memory of the cage's own"),
        class(11, "munmap", Pass, "memory of the cage's own"),
        class(12, "brk", Pass, "memory of the cage's own"),
        class(
            16,
            "ioctl",
            Translate,
            "FIONREAD tells what is left; the requests that close on exec \
            are followed; the runtime serves none that copies or clones",
        ),
        class(17, "pread64", Transform, "opens chunks"),
        class(18, "pwrite64", Transform, "seals chunks"),
        class(19, "readv", Transform, "opens chunks"),
        class(20, "writev", Transform, "seals chunks"),
        class(21, "access", Guard, KEY),
        class(
            22,
            "pipe",
            Pass,
            "pipes are no files: what goes through one stays among programs",
        ),
        class(23, "select", Translate, "as poll"),
        class(24, "sched_yield", Pass, NO_DATA),
        class(32, "dup", Track, "both descriptors share an offset"),
        class(33, "dup2", Track, "both descriptors share an offset"),
        class(35, "clock_nanosleep", Pass, NO_DATA),
        class(39, "getpid", Pass, NO_DATA),
        class(
            40,
            "sendfile",
            Refuse,
            "would send ciphertext; ENOSYS: programs read and write then",
        ),
        class(
            41,
            "socket",
            Track,
            "IPv4 and IPv6 are sealed, by stream or datagram; families and kinds that can't be are refused; UNIX sockets stay among programs",
        ),
        class(
            42,
            "connect",
            Transform,
            "begins a handshake; the peer may be one that stays in the clear",
        ),
        class(
            43,
            "accept",
            Transform,
            "awaits a handshake; the peer may be one that stays in the clear",
        ),
        class(44, "sendto", Transform, "seals records and datagrams"),
        class(45, "recvfrom", Transform, "opens records and datagrams"),
        class(
            46,
            "sendmsg",
            Transform,
            "as sendto; the runtime passes no descriptors",
        ),
        class(
            47,
            "recvmsg",
            Transform,
            "as recvfrom; the runtime passes no descriptors",
        ),
        class(48, "shutdown", Transform, "sends a sealed end first"),
        class(49, "bind", Pass, "no byte goes out by it"),
        class(50, "listen", Pass, "no byte goes out by it"),
        class(51, "getsockname", Pass, NO_DATA),
        class(52, "getpeername", Pass, NO_DATA),
        class(53, "socketpair", Pass, "UNIX sockets stay among programs"),
        class(
            54,
            "setsockopt",
            Translate,
            "data in the first packet is refused with ENOPROTOOPT; time limits are kept to",
        ),
        class(
            55,
            "getsockopt",
            Translate,
            "tells errors of sealed connections, and the room that a datagram has",
        ),
        class(
            56,
            "clone",
            Track,
            "the child shares descriptors and offsets",
        ),
        class(59, "execve", Track, "closes descriptors"),
        class(60, "exit", Track, "closes descriptors"),
        class(61, "wait4", Track, "a cage is gone for good"),
        class(62, "kill", Pass, NO_DATA),
        class(
            72,
            "fcntl",
            Track,
            "descriptors, O_APPEND, and record locks, whose ranges count from \
            the plaintext offset and size and leave the grate's own lock alone",
        ),
        class(
            73,
            "flock",
            Pass,
            "the lock is the file's; grates use another kind",
        ),
        class(
            74,
            "fsync",
            Track,
            "it passes, and the file then says up to where it has reached the disk",
        ),
        class(75, "fdatasync", Track, "as fsync"),
        class(
            76,
            "truncate",
            Translate,
            "takes a size, and seals the new end",
        ),
        class(
            77,
            "ftruncate",
            Translate,
            "takes a size, and seals the new end",
        ),
        class(
            78,
            "getdents64",
            Pass,
            "names are not sealed, and entries show no size",
        ),
        class(79, "getcwd", Pass, NO_DATA),
        class(80, "chdir", Pass, NO_DATA),
        class(81, "fchdir", Pass, NO_DATA),
        class(82, "rename", Guard, KEY),
        class(83, "mkdir", Pass, NO_DATA),
        class(84, "rmdir", Pass, NO_DATA),
        class(86, "link", Guard, KEY),
        class(87, "unlink", Guard, KEY),
        class(
            88,
            "symlink",
            Pass,
            "a link's text is a name, and names are not sealed",
        ),
        class(
            89,
            "readlink",
            Pass,
            "a link's text is a name, and names are not sealed",
        ),
        class(90, "chmod", Guard, KEY),
        class(
            91,
            "fchmod",
            Pass,
            "a descriptor of a key file can't be had",
        ),
        class(92, "chown", Guard, KEY),
        class(
            93,
            "fchown",
            Pass,
            "a descriptor of a key file can't be had",
        ),
        class(94, "lchown", Guard, KEY),
        class(95, "umask", Pass, NO_DATA),
        class(102, "getuid", Pass, NO_DATA),
        class(104, "getgid", Pass, NO_DATA),
        class(107, "geteuid", Pass, NO_DATA),
        class(108, "getegid", Pass, NO_DATA),
        class(110, "getppid", Pass, NO_DATA),
        class(121, "getpgid", Pass, NO_DATA),
        class(
            133,
            "mknod",
            Pass,
            "makes an empty file, a pipe or a socket",
        ),
        class(137, "statfs", Pass, "room on the disk, in whole blocks"),
        class(138, "fstatfs", Pass, "room on the disk, in whole blocks"),
        class(202, "futex", Pass, "memory of the cage's own"),
        class(
            213,
            "epoll_create",
            Track,
            "what it waits for may be sealed",
        ),
        class(
            221,
            "fadvise64",
            Translate,
            "offsets mean nothing below: the advice is for all",
        ),
        class(228, "clock_gettime", Pass, NO_DATA),
        class(229, "clock_getres", Pass, NO_DATA),
        class(231, "exit_group", Track, "closes descriptors"),
        class(232, "epoll_wait", Translate, "as poll"),
        class(233, "epoll_ctl", Track, "what it waits for may be sealed"),
        class(257, "openat", Track, "as open"),
        class(258, "mkdirat", Pass, NO_DATA),
        class(260, "fchownat", Guard, KEY),
        class(262, "newfstatat", Translate, "shows a size"),
        class(263, "unlinkat", Guard, KEY),
        class(264, "renameat", Guard, KEY),
        class(265, "linkat", Guard, KEY),
        class(
            266,
            "symlinkat",
            Pass,
            "a link's text is a name, and names are not sealed",
        ),
        class(
            267,
            "readlinkat",
            Pass,
            "a link's text is a name, and names are not sealed",
        ),
        class(268, "fchmodat", Guard, KEY),
        class(269, "faccessat", Guard, KEY),
        class(270, "pselect6", Translate, "as poll"),
        class(271, "ppoll", Translate, "as poll"),
        class(
            275,
            "splice",
            Refuse,
            "would move ciphertext out, or plaintext in; ENOSYS",
        ),
        class(276, "tee", Refuse, "as splice"),
        class(
            277,
            "sync_file_range",
            Translate,
            "offsets mean nothing below: all is written out",
        ),
        class(278, "vmsplice", Refuse, "as splice"),
        class(280, "utimensat", Guard, KEY),
        class(281, "epoll_pwait", Translate, "as poll"),
        class(
            285,
            "fallocate",
            Translate,
            "keeps room below, punches holes and zeroes in plaintext \
            offsets; the modes that move ranges are refused with EOPNOTSUPP",
        ),
        class(288, "accept4", Transform, "as accept"),
        class(
            291,
            "epoll_create1",
            Track,
            "what it waits for may be sealed",
        ),
        class(292, "dup3", Track, "both descriptors share an offset"),
        class(293, "pipe2", Pass, "as pipe"),
        class(295, "preadv", Transform, "opens chunks"),
        class(296, "pwritev", Transform, "seals chunks"),
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
            Refuse,
            "memory is copied by the runtime alone; ENOSYS",
        ),
        class(
            311,
            "process_vm_writev",
            Refuse,
            "memory is copied by the runtime alone; ENOSYS",
        ),
        class(316, "renameat2", Guard, KEY),
        class(318, "getrandom", Pass, NO_DATA),
        class(
            319,
            "memfd_create",
            Refuse,
            "a file that could be mapped and passed on; ENOSYS",
        ),
        class(
            326,
            "copy_file_range",
            Refuse,
            "would copy ciphertext under another file's key; EXDEV \
            where a sealed file takes part: programs read and write then",
        ),
        class(327, "preadv2", Refuse, "ENOSYS: programs use preadv then"),
        class(328, "pwritev2", Refuse, "ENOSYS: programs use pwritev then"),
        class(332, "statx", Translate, "shows a size"),
        class(
            425,
            "io_uring_setup",
            Refuse,
            "would read and write past the grate; ENOSYS",
        ),
        class(426, "io_uring_enter", Refuse, "as io_uring_setup"),
        class(427, "io_uring_register", Refuse, "as io_uring_setup"),
        class(437, "openat2", Refuse, "ENOSYS: programs use openat then"),
        class(1100, "llseek", Translate, "offsets are kept in the grate"),
        class(1101, "aead_seal", Pass, "works on memory of the cage's own"),
        class(1102, "aead_open", Pass, "works on memory of the cage's own"),
        class(
            1103,
            "record_seal",
            Pass,
            "works on memory of the cage's own",
        ),
        class(
            1104,
            "record_open",
            Pass,
            "works on memory of the cage's own",
        ),
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
        assert_eq!(decision(0), Some(Decision::Transform));
        assert_eq!(decision(1234), None);
        assert!(CALLS.iter().all(|call| !call.why.is_empty()));
    }
}
