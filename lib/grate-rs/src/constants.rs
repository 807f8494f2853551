//! Numbers of the Lind ABI, which are those of Linux on x86-64. The `libc` crate's are WASI's
//! and wrong here.

#![allow(missing_docs)]

pub const SYS_READ: u64 = 0;
pub const SYS_WRITE: u64 = 1;
pub const SYS_OPEN: u64 = 2;
pub const SYS_CLOSE: u64 = 3;
pub const SYS_STAT: u64 = 4;
pub const SYS_FSTAT: u64 = 5;
pub const SYS_LSTAT: u64 = 6;
pub const SYS_POLL: u64 = 7;
pub const SYS_LSEEK: u64 = 8;
pub const SYS_MMAP: u64 = 9;
pub const SYS_MPROTECT: u64 = 10;
pub const SYS_MUNMAP: u64 = 11;
pub const SYS_BRK: u64 = 12;
pub const SYS_SIGACTION: u64 = 13;
pub const SYS_SIGPROCMASK: u64 = 14;
pub const SYS_IOCTL: u64 = 16;
pub const SYS_PREAD: u64 = 17;
pub const SYS_PWRITE: u64 = 18;
pub const SYS_READV: u64 = 19;
pub const SYS_WRITEV: u64 = 20;
pub const SYS_ACCESS: u64 = 21;
pub const SYS_PIPE: u64 = 22;
pub const SYS_SELECT: u64 = 23;
pub const SYS_SCHED_YIELD: u64 = 24;
pub const SYS_SHMGET: u64 = 29;
pub const SYS_SHMAT: u64 = 30;
pub const SYS_SHMCTL: u64 = 31;
pub const SYS_DUP: u64 = 32;
pub const SYS_DUP2: u64 = 33;
pub const SYS_CLOCK_NANOSLEEP: u64 = 35;
pub const SYS_SETITIMER: u64 = 38;
pub const SYS_NANOSLEEP: u64 = 35;
pub const SYS_NANOSLEEP_TIME64: u64 = SYS_NANOSLEEP;
pub const SYS_GETPID: u64 = 39;
pub const SYS_SENDFILE: u64 = 40;
pub const SYS_SOCKET: u64 = 41;
pub const SYS_CONNECT: u64 = 42;
pub const SYS_ACCEPT: u64 = 43;
pub const SYS_SENDTO: u64 = 44;
pub const SYS_RECVFROM: u64 = 45;
pub const SYS_SENDMSG: u64 = 46;
pub const SYS_RECVMSG: u64 = 47;
pub const SYS_SHUTDOWN: u64 = 48;
pub const SYS_BIND: u64 = 49;
pub const SYS_LISTEN: u64 = 50;
pub const SYS_GETSOCKNAME: u64 = 51;
pub const SYS_GETPEERNAME: u64 = 52;
pub const SYS_SOCKETPAIR: u64 = 53;
pub const SYS_SETSOCKOPT: u64 = 54;
pub const SYS_GETSOCKOPT: u64 = 55;
pub const SYS_CLONE: u64 = 56;
pub const SYS_FORK: u64 = 57;
pub const SYS_EXECVE: u64 = 59;
pub const SYS_EXIT: u64 = 60;
pub const SYS_WAITPID: u64 = 61;
pub const SYS_KILL: u64 = 62;
pub const SYS_SHMDT: u64 = 67;
pub const SYS_FCNTL: u64 = 72;
pub const SYS_FLOCK: u64 = 73;
pub const SYS_FSYNC: u64 = 74;
pub const SYS_FDATASYNC: u64 = 75;
pub const SYS_TRUNCATE: u64 = 76;
pub const SYS_FTRUNCATE: u64 = 77;
pub const SYS_GETDENTS: u64 = 78;
pub const SYS_GETCWD: u64 = 79;
pub const SYS_CHDIR: u64 = 80;
pub const SYS_FCHDIR: u64 = 81;
pub const SYS_RENAME: u64 = 82;
pub const SYS_MKDIR: u64 = 83;
pub const SYS_RMDIR: u64 = 84;
pub const SYS_LINK: u64 = 86;
pub const SYS_UNLINK: u64 = 87;
pub const SYS_SYMLINK: u64 = 88;
pub const SYS_READLINK: u64 = 89;
pub const SYS_CHMOD: u64 = 90;
pub const SYS_FCHMOD: u64 = 91;
pub const SYS_CHOWN: u64 = 92;
pub const SYS_FCHOWN: u64 = 93;
pub const SYS_LCHOWN: u64 = 94;
pub const SYS_UMASK: u64 = 95;
pub const SYS_GETUID: u64 = 102;
pub const SYS_GETGID: u64 = 104;
pub const SYS_GETEUID: u64 = 107;
pub const SYS_GETEGID: u64 = 108;
pub const SYS_GETPPID: u64 = 110;
pub const SYS_GETPGID: u64 = 121;
pub const SYS_SIGSUSPEND: u64 = 130;
pub const SYS_MKNOD: u64 = 133;
pub const SYS_STATFS: u64 = 137;
pub const SYS_FSTATFS: u64 = 138;
pub const SYS_CHROOT: u64 = 161;
pub const SYS_GETHOSTNAME: u64 = 170;
pub const SYS_GETTID: u64 = 186;
pub const SYS_SETXATTR: u64 = 188;
pub const SYS_LISTXATTR: u64 = 194;
pub const SYS_FUTEX: u64 = 202;
pub const SYS_EPOLL_CREATE: u64 = 213;
pub const SYS_SET_TID_ADDRESS: u64 = 218;
pub const SYS_FADVISE64: u64 = 221;
pub const SYS_CLOCK_GETTIME: u64 = 228;
pub const SYS_CLOCK_GETRES: u64 = 229;
pub const SYS_EXIT_GROUP: u64 = 231;
pub const SYS_EPOLL_WAIT: u64 = 232;
pub const SYS_EPOLL_CTL: u64 = 233;
pub const SYS_OPENAT: u64 = 257;
pub const SYS_MKDIRAT: u64 = 258;
pub const SYS_FCHOWNAT: u64 = 260;
pub const SYS_NEWFSTATAT: u64 = 262;
pub const SYS_UNLINKAT: u64 = 263;
pub const SYS_RENAMEAT: u64 = 264;
pub const SYS_LINKAT: u64 = 265;
pub const SYS_SYMLINKAT: u64 = 266;
pub const SYS_READLINKAT: u64 = 267;
pub const SYS_FCHMODAT: u64 = 268;
pub const SYS_FACCESSAT: u64 = 269;
pub const SYS_PSELECT6: u64 = 270;
pub const SYS_PPOLL: u64 = 271;
pub const SYS_SPLICE: u64 = 275;
pub const SYS_TEE: u64 = 276;
pub const SYS_SYNC_FILE_RANGE: u64 = 277;
pub const SYS_VMSPLICE: u64 = 278;
pub const SYS_UTIMENSAT: u64 = 280;
pub const SYS_EPOLL_PWAIT: u64 = 281;
pub const SYS_FALLOCATE: u64 = 285;
pub const SYS_ACCEPT4: u64 = 288;
pub const SYS_EPOLL_CREATE1: u64 = 291;
pub const SYS_DUP3: u64 = 292;
pub const SYS_PIPE2: u64 = 293;
pub const SYS_PREADV: u64 = 295;
pub const SYS_PWRITEV: u64 = 296;
pub const SYS_PRLIMIT64: u64 = 302;
pub const SYS_NAME_TO_HANDLE_AT: u64 = 303;
pub const SYS_OPEN_BY_HANDLE_AT: u64 = 304;
pub const SYS_PROCESS_VM_READV: u64 = 310;
pub const SYS_PROCESS_VM_WRITEV: u64 = 311;
pub const SYS_RENAMEAT2: u64 = 316;
pub const SYS_GETRANDOM: u64 = 318;
pub const SYS_MEMFD_CREATE: u64 = 319;
pub const SYS_COPY_FILE_RANGE: u64 = 326;
pub const SYS_PREADV2: u64 = 327;
pub const SYS_PWRITEV2: u64 = 328;
pub const SYS_STATX: u64 = 332;
pub const SYS_IO_URING_SETUP: u64 = 425;
pub const SYS_IO_URING_ENTER: u64 = 426;
pub const SYS_IO_URING_REGISTER: u64 = 427;
pub const SYS_OPENAT2: u64 = 437;
pub const SYS_REGISTER_HANDLER: u64 = 1001;
pub const SYS_COPY_DATA_BETWEEN_CAGES: u64 = 1002;
pub const SYS_COPY_HANDLER_TABLE_TO_CAGE: u64 = 1003;
pub const SYS_LLSEEK: u64 = 1100;
pub const SYS_EXEC: u64 = SYS_EXECVE;
pub const SYS_XSTAT: u64 = SYS_STAT;
pub const SYS_FXSTAT: u64 = SYS_FSTAT;

/// Flags of open(2), modes, whence.
pub mod fs {
    pub const O_RDONLY: i32 = 0;
    pub const O_WRONLY: i32 = 1;
    pub const O_RDWR: i32 = 2;
    pub const O_ACCMODE: i32 = 3;
    pub const O_CREAT: i32 = 0o100;
    pub const O_EXCL: i32 = 0o200;
    pub const O_NOCTTY: i32 = 0o400;
    pub const O_TRUNC: i32 = 0o1000;
    pub const O_APPEND: i32 = 0o2000;
    pub const O_NONBLOCK: i32 = 0o4000;
    pub const O_DSYNC: i32 = 0o10000;
    pub const O_DIRECT: i32 = 0o40000;
    pub const O_DIRECTORY: i32 = 0o200000;
    pub const O_NOFOLLOW: i32 = 0o400000;
    pub const O_NOATIME: i32 = 0o1000000;
    pub const O_CLOEXEC: i32 = 0o2000000;
    pub const O_SYNC: i32 = 0o4010000;
    pub const O_PATH: i32 = 0o10000000;
    pub const O_TMPFILE: i32 = 0o20200000;
    pub const AT_FDCWD: i32 = -100;
    pub const AT_SYMLINK_NOFOLLOW: i32 = 0x100;
    pub const AT_EACCESS: i32 = 0x200;
    pub const AT_REMOVEDIR: i32 = 0x200;
    pub const AT_SYMLINK_FOLLOW: i32 = 0x400;
    pub const AT_EMPTY_PATH: i32 = 0x1000;
    pub const F_OK: i32 = 0;
    pub const X_OK: i32 = 1;
    pub const W_OK: i32 = 2;
    pub const R_OK: i32 = 4;
    pub const DT_UNKNOWN: u8 = 0;
    pub const DT_FIFO: u8 = 1;
    pub const DT_CHR: u8 = 2;
    pub const DT_DIR: u8 = 4;
    pub const DT_BLK: u8 = 6;
    pub const DT_REG: u8 = 8;
    pub const DT_LNK: u8 = 10;
    pub const DT_SOCK: u8 = 12;
    pub const S_IRUSR: u32 = 0o400;
    pub const S_IWUSR: u32 = 0o200;
    pub const S_IXUSR: u32 = 0o100;
    pub const S_IFMT: u32 = 0o170000;
    pub const S_IFREG: u32 = 0o100000;
    pub const S_IFDIR: u32 = 0o040000;
    pub const S_IFCHR: u32 = 0o020000;
    pub const S_IFIFO: u32 = 0o010000;
    pub const S_IFLNK: u32 = 0o120000;
    pub const S_IFSOCK: u32 = 0o140000;
    pub const FALLOC_FL_KEEP_SIZE: i32 = 1;
    pub const FALLOC_FL_PUNCH_HOLE: i32 = 2;
    pub const FALLOC_FL_ZERO_RANGE: i32 = 16;
    pub const SEEK_SET: i32 = 0;
    pub const SEEK_CUR: i32 = 1;
    pub const SEEK_END: i32 = 2;
    pub const SEEK_DATA: i32 = 3;
    pub const SEEK_HOLE: i32 = 4;
    pub const F_DUPFD: i32 = 0;
    pub const F_GETFD: i32 = 1;
    pub const F_SETFD: i32 = 2;
    pub const F_GETFL: i32 = 3;
    pub const F_SETFL: i32 = 4;
    pub const F_GETLK: i32 = 5;
    pub const F_SETLK: i32 = 6;
    pub const F_SETLKW: i32 = 7;
    pub const F_OFD_GETLK: i32 = 36;
    pub const F_OFD_SETLK: i32 = 37;
    pub const F_OFD_SETLKW: i32 = 38;
    pub const LOCK_SH: i32 = 1;
    pub const LOCK_EX: i32 = 2;
    pub const LOCK_NB: i32 = 4;
    pub const LOCK_UN: i32 = 8;
    pub const F_RDLCK: i16 = 0;
    pub const F_WRLCK: i16 = 1;
    pub const F_UNLCK: i16 = 2;
    pub const F_DUPFD_CLOEXEC: i32 = 1030;
    pub const FD_CLOEXEC: i32 = 1;
    pub const FIONREAD: u64 = 0x541B;
    pub const TCGETS: u64 = 0x5401;
    pub const TCSETS: u64 = 0x5402;
    pub const FIOCLEX: u64 = 0x5451;
    pub const FIONCLEX: u64 = 0x5450;
}

/// Flags of mmap(2).
pub mod mman {
    pub const PROT_NONE: i32 = 0;
    pub const PROT_READ: i32 = 1;
    pub const PROT_WRITE: i32 = 2;
    pub const MAP_SHARED: i32 = 1;
    pub const MAP_PRIVATE: i32 = 2;
    pub const MAP_SHARED_VALIDATE: i32 = 3;
    pub const MAP_FIXED: i32 = 0x10;
    pub const MAP_ANONYMOUS: i32 = 0x20;
    pub const MAP_ANON: i32 = MAP_ANONYMOUS;
}

/// Sockets.
pub mod net {
    pub const AF_UNSPEC: u16 = 0;
    /// Families as they stand in an address.
    pub const AF_UNIX: u16 = 1;
    pub const AF_INET: u16 = 2;
    pub const AF_INET6: u16 = 10;
    pub const AF_NETLINK: u16 = 16;
    /// The protocol that tells of the network's interfaces.
    pub const NETLINK_ROUTE: i32 = 0;
    pub const SOCK_STREAM: i32 = 1;
    pub const SOCK_DGRAM: i32 = 2;
    pub const SOCK_SEQPACKET: i32 = 5;
    pub const SOCK_TYPE_MASK: i32 = 0xf;
    pub const SOCK_NONBLOCK: i32 = 0o4000;
    pub const SOCK_CLOEXEC: i32 = 0o2000000;
    pub const SHUT_RD: i32 = 0;
    pub const SHUT_WR: i32 = 1;
    pub const SHUT_RDWR: i32 = 2;
    pub const MSG_OOB: i32 = 0x1;
    pub const MSG_PEEK: i32 = 0x2;
    pub const MSG_DONTROUTE: i32 = 0x4;
    pub const MSG_CTRUNC: i32 = 0x8;
    pub const MSG_TRUNC: i32 = 0x20;
    pub const MSG_DONTWAIT: i32 = 0x40;
    pub const MSG_EOR: i32 = 0x80;
    pub const MSG_WAITALL: i32 = 0x100;
    pub const MSG_ERRQUEUE: i32 = 0x2000;
    pub const MSG_NOSIGNAL: i32 = 0x4000;
    pub const MSG_MORE: i32 = 0x8000;
    pub const MSG_FASTOPEN: i32 = 0x2000_0000;
    pub const MSG_CMSG_CLOEXEC: i32 = 0x4000_0000;
    pub const SOL_SOCKET: i32 = 1;
    pub const SO_REUSEADDR: i32 = 2;
    pub const SO_TYPE: i32 = 3;
    pub const SO_ERROR: i32 = 4;
    pub const SO_BROADCAST: i32 = 6;
    pub const SO_SNDBUF: i32 = 7;
    pub const SO_RCVBUF: i32 = 8;
    pub const SO_KEEPALIVE: i32 = 9;
    pub const SO_LINGER: i32 = 13;
    pub const SO_REUSEPORT: i32 = 15;
    pub const SO_PEERCRED: i32 = 17;
    pub const SO_RCVLOWAT: i32 = 18;
    pub const SO_SNDLOWAT: i32 = 19;
    pub const SO_RCVTIMEO: i32 = 20;
    pub const SO_SNDTIMEO: i32 = 21;
    pub const SO_ACCEPTCONN: i32 = 30;
    pub const SO_PROTOCOL: i32 = 38;
    pub const SO_DOMAIN: i32 = 39;
    pub const SO_RCVTIMEO_NEW: i32 = 66;
    pub const SO_SNDTIMEO_NEW: i32 = 67;
    pub const SCM_RIGHTS: i32 = 1;
    pub const SCM_CREDENTIALS: i32 = 2;
    pub const IPPROTO_IP: i32 = 0;
    pub const IPPROTO_TCP: i32 = 6;
    pub const IPPROTO_UDP: i32 = 17;
    pub const IPPROTO_IPV6: i32 = 41;
    pub const TCP_NODELAY: i32 = 1;
    pub const TCP_CORK: i32 = 3;
    pub const TCP_INFO: i32 = 11;
    /// Request of ioctl(2).
    pub const FIONBIO: u64 = 0x5421;
}

/// Waiting for descriptors: poll(2), epoll(7).
pub mod poll {
    pub const POLLIN: i16 = 0x1;
    pub const POLLPRI: i16 = 0x2;
    pub const POLLOUT: i16 = 0x4;
    pub const POLLERR: i16 = 0x8;
    pub const POLLHUP: i16 = 0x10;
    pub const POLLNVAL: i16 = 0x20;
    pub const POLLRDNORM: i16 = 0x40;
    pub const POLLRDBAND: i16 = 0x80;
    pub const POLLWRNORM: i16 = 0x100;
    pub const POLLWRBAND: i16 = 0x200;
    pub const POLLRDHUP: i16 = 0x2000;
    pub const EPOLL_CTL_ADD: i32 = 1;
    pub const EPOLL_CTL_DEL: i32 = 2;
    pub const EPOLL_CTL_MOD: i32 = 3;
    pub const EPOLLIN: u32 = 0x1;
    pub const EPOLLPRI: u32 = 0x2;
    pub const EPOLLOUT: u32 = 0x4;
    pub const EPOLLERR: u32 = 0x8;
    pub const EPOLLHUP: u32 = 0x10;
    pub const EPOLLRDHUP: u32 = 0x2000;
    pub const EPOLLEXCLUSIVE: u32 = 1 << 28;
    pub const EPOLLONESHOT: u32 = 1 << 30;
    pub const EPOLLET: u32 = 1 << 31;
}

/// Processes.
pub mod process {
    pub const CLONE_VM: u64 = 0x100;
    pub const CLONE_FS: u64 = 0x200;
    pub const CLONE_FILES: u64 = 0x400;
    pub const CLONE_SIGHAND: u64 = 0x800;
    pub const CLONE_VFORK: u64 = 0x4000;
    pub const CLONE_THREAD: u64 = 0x10000;
    pub const WNOHANG: i32 = 1;
    pub const SIGKILL: i32 = 9;
    pub const SIGTERM: i32 = 15;
}

/// Lind's own.
pub mod lind {
    /// A refused copy, as the low 32 bits of a result.
    pub const ELINDAPIABORTED: u64 = 0xE001_0001;
    /// A cage that is gone.
    pub const ELINDESRCH: u64 = 0xE001_0002;
    /// Bit 63 of an argcage: the address is an offset of the grate's own memory.
    pub const GRATE_MEMORY_FLAG: u64 = 1 << 63;
}

/// Errors.
pub mod error {
    pub const EPERM: i32 = 1;
    pub const ENOENT: i32 = 2;
    pub const ESRCH: i32 = 3;
    pub const EINTR: i32 = 4;
    pub const EIO: i32 = 5;
    pub const ENXIO: i32 = 6;
    pub const E2BIG: i32 = 7;
    /// As Lind spells it.
    pub const EBIG: i32 = E2BIG;
    pub const ENOEXEC: i32 = 8;
    pub const EBADF: i32 = 9;
    pub const ECHILD: i32 = 10;
    pub const EAGAIN: i32 = 11;
    pub const ENOMEM: i32 = 12;
    pub const EACCES: i32 = 13;
    pub const EFAULT: i32 = 14;
    pub const ENOTBLK: i32 = 15;
    pub const EBUSY: i32 = 16;
    pub const EEXIST: i32 = 17;
    pub const EXDEV: i32 = 18;
    pub const ENODEV: i32 = 19;
    pub const ENOTDIR: i32 = 20;
    pub const EISDIR: i32 = 21;
    pub const EINVAL: i32 = 22;
    pub const ENFILE: i32 = 23;
    pub const EMFILE: i32 = 24;
    pub const ENOTTY: i32 = 25;
    pub const ETXTBSY: i32 = 26;
    pub const EFBIG: i32 = 27;
    pub const ENOSPC: i32 = 28;
    pub const ESPIPE: i32 = 29;
    pub const EROFS: i32 = 30;
    pub const EMLINK: i32 = 31;
    pub const EPIPE: i32 = 32;
    pub const EDOM: i32 = 33;
    pub const ERANGE: i32 = 34;
    pub const EDEADLOCK: i32 = 35;
    pub const EDEADLK: i32 = EDEADLOCK;
    pub const ENAMETOOLONG: i32 = 36;
    pub const ENOLCK: i32 = 37;
    pub const ENOSYS: i32 = 38;
    pub const ENOTEMPTY: i32 = 39;
    pub const ELOOP: i32 = 40;
    pub const ENOMSG: i32 = 42;
    pub const EIDRM: i32 = 43;
    pub const ECHRNG: i32 = 44;
    pub const EL2NSYNC: i32 = 45;
    pub const EL3HLT: i32 = 46;
    pub const EL3RST: i32 = 47;
    pub const ELNRNG: i32 = 48;
    pub const EUNATCH: i32 = 49;
    pub const ENOCSI: i32 = 50;
    pub const EL2HLT: i32 = 51;
    pub const EBADE: i32 = 52;
    pub const EBADR: i32 = 53;
    pub const EXFULL: i32 = 54;
    pub const ENOANO: i32 = 55;
    pub const EBADRQC: i32 = 56;
    pub const EBADSLT: i32 = 57;
    pub const EBFONT: i32 = 59;
    pub const ENOSTR: i32 = 60;
    pub const ENODATA: i32 = 61;
    pub const ETIME: i32 = 62;
    pub const ENOSR: i32 = 63;
    pub const ENONET: i32 = 64;
    pub const ENOPKG: i32 = 65;
    pub const EREMOTE: i32 = 66;
    pub const ENOLINK: i32 = 67;
    pub const EADV: i32 = 68;
    pub const ESRMNT: i32 = 69;
    pub const ECOMM: i32 = 70;
    pub const EPROTO: i32 = 71;
    pub const EMULTIHOP: i32 = 72;
    pub const EDOTDOT: i32 = 73;
    pub const EBADMSG: i32 = 74;
    pub const EOVERFLOW: i32 = 75;
    pub const ENOTUNIQ: i32 = 76;
    pub const EBADFD: i32 = 77;
    pub const EREMCHG: i32 = 78;
    pub const ELIBACC: i32 = 79;
    pub const ELIBBAD: i32 = 80;
    pub const ELIBSCN: i32 = 81;
    pub const ELIBMAX: i32 = 82;
    pub const ELIBEXEC: i32 = 83;
    pub const EILSEQ: i32 = 84;
    pub const ERESTART: i32 = 85;
    pub const ESTRPIPE: i32 = 86;
    pub const EUSERS: i32 = 87;
    pub const ENOTSOCK: i32 = 88;
    pub const EDESTADDRREQ: i32 = 89;
    pub const EMSGSIZE: i32 = 90;
    pub const EPROTOTYPE: i32 = 91;
    pub const ENOPROTOOPT: i32 = 92;
    pub const EPROTONOSUPPORT: i32 = 93;
    pub const ESOCKTNOSUPPORT: i32 = 94;
    pub const ENOTSUP: i32 = 95;
    pub const EPFNOSUPPORT: i32 = 96;
    pub const EAFNOSUPPORT: i32 = 97;
    pub const EADDRINUSE: i32 = 98;
    pub const EADDRNOTAVAIL: i32 = 99;
    pub const ENETDOWN: i32 = 100;
    pub const ENETUNREACH: i32 = 101;
    pub const ENETRESET: i32 = 102;
    pub const ECONNABORTED: i32 = 103;
    pub const ECONNRESET: i32 = 104;
    pub const ENOBUFS: i32 = 105;
    pub const EISCONN: i32 = 106;
    pub const ENOTCONN: i32 = 107;
    pub const ESHUTDOWN: i32 = 108;
    pub const ETOOMANYREFS: i32 = 109;
    pub const ETIMEDOUT: i32 = 110;
    pub const ECONNREFUSED: i32 = 111;
    pub const EHOSTDOWN: i32 = 112;
    pub const EHOSTUNREACH: i32 = 113;
    pub const EALREADY: i32 = 114;
    pub const EINPROGRESS: i32 = 115;
    pub const ESTALE: i32 = 116;
    pub const EUCLEAN: i32 = 117;
    pub const ENOTNAM: i32 = 118;
    pub const ENAVAIL: i32 = 119;
    pub const EISNAM: i32 = 120;
    pub const EREMOTEIO: i32 = 121;
    pub const EDQUOT: i32 = 122;
    pub const ENOMEDIUM: i32 = 123;
    pub const EMEDIUMTYPE: i32 = 124;
    pub const ECANCELED: i32 = 125;
    pub const ENOKEY: i32 = 126;
    pub const EKEYEXPIRED: i32 = 127;
    pub const EKEYREVOKED: i32 = 128;
    pub const EKEYREJECTED: i32 = 129;
    pub const EOWNERDEAD: i32 = 130;
    pub const ENOTRECOVERABLE: i32 = 131;
    pub const ERFKILL: i32 = 132;
    pub const EWOULDBLOCK: i32 = EAGAIN;
    pub const EOPNOTSUPP: i32 = ENOTSUP;

    static NAMES: &[(i32, &str, &str)] = &[
        (1, "EPERM", "Operation not permitted"),
        (2, "ENOENT", "No such file or directory"),
        (3, "ESRCH", "No such process"),
        (4, "EINTR", "Interrupted system call"),
        (5, "EIO", "Input/output error"),
        (6, "ENXIO", "No such device or address"),
        (7, "E2BIG", "Argument list too long"),
        (8, "ENOEXEC", "Exec format error"),
        (9, "EBADF", "Bad file descriptor"),
        (10, "ECHILD", "No child processes"),
        (11, "EAGAIN", "Resource temporarily unavailable"),
        (12, "ENOMEM", "Cannot allocate memory"),
        (13, "EACCES", "Permission denied"),
        (14, "EFAULT", "Bad address"),
        (15, "ENOTBLK", "Block device required"),
        (16, "EBUSY", "Device or resource busy"),
        (17, "EEXIST", "File exists"),
        (18, "EXDEV", "Invalid cross-device link"),
        (19, "ENODEV", "No such device"),
        (20, "ENOTDIR", "Not a directory"),
        (21, "EISDIR", "Is a directory"),
        (22, "EINVAL", "Invalid argument"),
        (23, "ENFILE", "Too many open files in system"),
        (24, "EMFILE", "Too many open files"),
        (25, "ENOTTY", "Inappropriate ioctl for device"),
        (26, "ETXTBSY", "Text file busy"),
        (27, "EFBIG", "File too large"),
        (28, "ENOSPC", "No space left on device"),
        (29, "ESPIPE", "Illegal seek"),
        (30, "EROFS", "Read-only file system"),
        (31, "EMLINK", "Too many links"),
        (32, "EPIPE", "Broken pipe"),
        (33, "EDOM", "Numerical argument out of domain"),
        (34, "ERANGE", "Numerical result out of range"),
        (35, "EDEADLOCK", "Resource deadlock avoided"),
        (36, "ENAMETOOLONG", "File name too long"),
        (37, "ENOLCK", "No locks available"),
        (38, "ENOSYS", "Function not implemented"),
        (39, "ENOTEMPTY", "Directory not empty"),
        (40, "ELOOP", "Too many levels of symbolic links"),
        (42, "ENOMSG", "No message of desired type"),
        (43, "EIDRM", "Identifier removed"),
        (44, "ECHRNG", "Channel number out of range"),
        (45, "EL2NSYNC", "Level 2 not synchronized"),
        (46, "EL3HLT", "Level 3 halted"),
        (47, "EL3RST", "Level 3 reset"),
        (48, "ELNRNG", "Link number out of range"),
        (49, "EUNATCH", "Protocol driver not attached"),
        (50, "ENOCSI", "No CSI structure available"),
        (51, "EL2HLT", "Level 2 halted"),
        (52, "EBADE", "Invalid exchange"),
        (53, "EBADR", "Invalid request descriptor"),
        (54, "EXFULL", "Exchange full"),
        (55, "ENOANO", "No anode"),
        (56, "EBADRQC", "Invalid request code"),
        (57, "EBADSLT", "Invalid slot"),
        (59, "EBFONT", "Bad font file format"),
        (60, "ENOSTR", "Device not a stream"),
        (61, "ENODATA", "No data available"),
        (62, "ETIME", "Timer expired"),
        (63, "ENOSR", "Out of streams resources"),
        (64, "ENONET", "Machine is not on the network"),
        (65, "ENOPKG", "Package not installed"),
        (66, "EREMOTE", "Object is remote"),
        (67, "ENOLINK", "Link has been severed"),
        (68, "EADV", "Advertise error"),
        (69, "ESRMNT", "Srmount error"),
        (70, "ECOMM", "Communication error on send"),
        (71, "EPROTO", "Protocol error"),
        (72, "EMULTIHOP", "Multihop attempted"),
        (73, "EDOTDOT", "RFS specific error"),
        (74, "EBADMSG", "Bad message"),
        (75, "EOVERFLOW", "Value too large for defined data type"),
        (76, "ENOTUNIQ", "Name not unique on network"),
        (77, "EBADFD", "File descriptor in bad state"),
        (78, "EREMCHG", "Remote address changed"),
        (79, "ELIBACC", "Can not access a needed shared library"),
        (80, "ELIBBAD", "Accessing a corrupted shared library"),
        (81, "ELIBSCN", ".lib section in a.out corrupted"),
        (
            82,
            "ELIBMAX",
            "Attempting to link in too many shared libraries",
        ),
        (83, "ELIBEXEC", "Cannot exec a shared library directly"),
        (
            84,
            "EILSEQ",
            "Invalid or incomplete multibyte or wide character",
        ),
        (
            85,
            "ERESTART",
            "Interrupted system call should be restarted",
        ),
        (86, "ESTRPIPE", "Streams pipe error"),
        (87, "EUSERS", "Too many users"),
        (88, "ENOTSOCK", "Socket operation on non-socket"),
        (89, "EDESTADDRREQ", "Destination address required"),
        (90, "EMSGSIZE", "Message too long"),
        (91, "EPROTOTYPE", "Protocol wrong type for socket"),
        (92, "ENOPROTOOPT", "Protocol not available"),
        (93, "EPROTONOSUPPORT", "Protocol not supported"),
        (94, "ESOCKTNOSUPPORT", "Socket type not supported"),
        (95, "ENOTSUP", "Operation not supported"),
        (96, "EPFNOSUPPORT", "Protocol family not supported"),
        (
            97,
            "EAFNOSUPPORT",
            "Address family not supported by protocol",
        ),
        (98, "EADDRINUSE", "Address already in use"),
        (99, "EADDRNOTAVAIL", "Cannot assign requested address"),
        (100, "ENETDOWN", "Network is down"),
        (101, "ENETUNREACH", "Network is unreachable"),
        (102, "ENETRESET", "Network dropped connection on reset"),
        (103, "ECONNABORTED", "Software caused connection abort"),
        (104, "ECONNRESET", "Connection reset by peer"),
        (105, "ENOBUFS", "No buffer space available"),
        (106, "EISCONN", "Transport endpoint is already connected"),
        (107, "ENOTCONN", "Transport endpoint is not connected"),
        (
            108,
            "ESHUTDOWN",
            "Cannot send after transport endpoint shutdown",
        ),
        (109, "ETOOMANYREFS", "Too many references: cannot splice"),
        (110, "ETIMEDOUT", "Connection timed out"),
        (111, "ECONNREFUSED", "Connection refused"),
        (112, "EHOSTDOWN", "Host is down"),
        (113, "EHOSTUNREACH", "No route to host"),
        (114, "EALREADY", "Operation already in progress"),
        (115, "EINPROGRESS", "Operation now in progress"),
        (116, "ESTALE", "Stale file handle"),
        (117, "EUCLEAN", "Structure needs cleaning"),
        (118, "ENOTNAM", "Not a XENIX named type file"),
        (119, "ENAVAIL", "No XENIX semaphores available"),
        (120, "EISNAM", "Is a named type file"),
        (121, "EREMOTEIO", "Remote I/O error"),
        (122, "EDQUOT", "Disk quota exceeded"),
        (123, "ENOMEDIUM", "No medium found"),
        (124, "EMEDIUMTYPE", "Wrong medium type"),
        (125, "ECANCELED", "Operation canceled"),
        (126, "ENOKEY", "Required key not available"),
        (127, "EKEYEXPIRED", "Key has expired"),
        (128, "EKEYREVOKED", "Key has been revoked"),
        (129, "EKEYREJECTED", "Key was rejected by service"),
        (130, "EOWNERDEAD", "Owner died"),
        (131, "ENOTRECOVERABLE", "State not recoverable"),
        (132, "ERFKILL", "Operation not possible due to RF-kill"),
    ];

    /// What an error means, for a person.
    pub fn name(errno: i32) -> Option<&'static str> {
        let (_, _, text) = NAMES.iter().find(|(value, _, _)| *value == errno)?;
        Some(text)
    }

    /// The constant's name.
    pub fn symbol(errno: i32) -> Option<&'static str> {
        let (_, symbol, _) = NAMES.iter().find(|(value, _, _)| *value == errno)?;
        Some(symbol)
    }
}
