//! Names of flags and of other numbers.

/// Shows `value` as the names of its bits, and what is left of it in hexadecimal.
pub fn bits(value: u64, names: &[(u64, &str)], none: &str) -> String {
    let mut left = value;
    let mut shown: Vec<String> = Vec::new();
    for &(bits, name) in names {
        if left & bits == bits {
            shown.push(name.to_owned());
            left &= !bits;
        }
    }
    if left != 0 {
        shown.push(format!("{left:#x}"));
    }
    if shown.is_empty() {
        return none.to_owned();
    }
    shown.join("|")
}

/// Shows the name of a number, or the number.
pub fn name(value: i64, names: &[(i64, &str)]) -> String {
    names
        .iter()
        .find(|(number, _)| *number == value)
        .map_or_else(|| value.to_string(), |(_, name)| (*name).to_owned())
}

/// Shows flags of open(2).
pub fn open(value: u64) -> String {
    const ACCESS: u64 = 3;
    const NAMES: &[(u64, &str)] = &[
        (0o100, "O_CREAT"),
        (0o200, "O_EXCL"),
        (0o400, "O_NOCTTY"),
        (0o1000, "O_TRUNC"),
        (0o2000, "O_APPEND"),
        (0o4000, "O_NONBLOCK"),
        (0o4010000, "O_SYNC"),
        (0o10000, "O_DSYNC"),
        (0o40000, "O_DIRECT"),
        (0o100000, "O_LARGEFILE"),
        (0o20200000, "O_TMPFILE"),
        (0o200000, "O_DIRECTORY"),
        (0o400000, "O_NOFOLLOW"),
        (0o1000000, "O_NOATIME"),
        (0o2000000, "O_CLOEXEC"),
        (0o10000000, "O_PATH"),
    ];
    let access = match value & ACCESS {
        0 => "O_RDONLY",
        1 => "O_WRONLY",
        2 => "O_RDWR",
        _ => "O_ACCMODE",
    };
    match value & !ACCESS {
        0 => access.to_owned(),
        rest => format!("{access}|{}", bits(rest, NAMES, "0")),
    }
}

/// Flags of the *at calls. (0x200 is AT_EACCESS for faccessat.)
pub const AT: &[(u64, &str)] = &[
    (0x100, "AT_SYMLINK_NOFOLLOW"),
    (0x200, "AT_REMOVEDIR"),
    (0x400, "AT_SYMLINK_FOLLOW"),
    (0x1000, "AT_EMPTY_PATH"),
];

/// Protection of memory.
pub const PROT: &[(u64, &str)] = &[(1, "PROT_READ"), (2, "PROT_WRITE"), (4, "PROT_EXEC")];

/// Flags of mmap(2).
pub const MAP: &[(u64, &str)] = &[
    (1, "MAP_SHARED"),
    (2, "MAP_PRIVATE"),
    (0x10, "MAP_FIXED"),
    (0x20, "MAP_ANONYMOUS"),
    (0x8000, "MAP_POPULATE"),
];

/// What an offset is counted from.
pub const WHENCE: &[(i64, &str)] = &[
    (0, "SEEK_SET"),
    (1, "SEEK_CUR"),
    (2, "SEEK_END"),
    (3, "SEEK_DATA"),
    (4, "SEEK_HOLE"),
];

/// Commands of fcntl(2).
pub const FCNTL: &[(i64, &str)] = &[
    (0, "F_DUPFD"),
    (1, "F_GETFD"),
    (2, "F_SETFD"),
    (3, "F_GETFL"),
    (4, "F_SETFL"),
    (5, "F_GETLK"),
    (6, "F_SETLK"),
    (7, "F_SETLKW"),
    (8, "F_SETOWN"),
    (9, "F_GETOWN"),
    (1030, "F_DUPFD_CLOEXEC"),
];

/// Requests of ioctl(2).
pub const IOCTL: &[(i64, &str)] = &[
    (0x5401, "TCGETS"),
    (0x5413, "TIOCGWINSZ"),
    (0x541B, "FIONREAD"),
    (0x5421, "FIONBIO"),
    (0x5450, "FIONCLEX"),
    (0x5451, "FIOCLEX"),
    (0x5452, "FIOASYNC"),
];

/// Signals.
pub const SIGNALS: &[(i64, &str)] = &[
    (1, "SIGHUP"),
    (2, "SIGINT"),
    (3, "SIGQUIT"),
    (4, "SIGILL"),
    (5, "SIGTRAP"),
    (6, "SIGABRT"),
    (7, "SIGBUS"),
    (8, "SIGFPE"),
    (9, "SIGKILL"),
    (10, "SIGUSR1"),
    (11, "SIGSEGV"),
    (12, "SIGUSR2"),
    (13, "SIGPIPE"),
    (14, "SIGALRM"),
    (15, "SIGTERM"),
    (17, "SIGCHLD"),
    (18, "SIGCONT"),
    (19, "SIGSTOP"),
];

/// Clocks.
pub const CLOCKS: &[(i64, &str)] = &[
    (0, "CLOCK_REALTIME"),
    (1, "CLOCK_MONOTONIC"),
    (2, "CLOCK_PROCESS_CPUTIME_ID"),
    (3, "CLOCK_THREAD_CPUTIME_ID"),
    (4, "CLOCK_MONOTONIC_RAW"),
    (7, "CLOCK_BOOTTIME"),
];

/// Address families.
pub const FAMILIES: &[(i64, &str)] = &[
    (0, "AF_UNSPEC"),
    (1, "AF_UNIX"),
    (2, "AF_INET"),
    (10, "AF_INET6"),
];

/// Shows a socket's type with its flags.
pub fn socket_type(value: u64) -> String {
    const KIND: u64 = 0xf;
    const KINDS: &[(i64, &str)] = &[
        (1, "SOCK_STREAM"),
        (2, "SOCK_DGRAM"),
        (3, "SOCK_RAW"),
        (5, "SOCK_SEQPACKET"),
    ];
    const FLAGS: &[(u64, &str)] = &[(0o4000, "SOCK_NONBLOCK"), (0o2000000, "SOCK_CLOEXEC")];
    let kind = name((value & KIND) as i64, KINDS);
    match value & !KIND {
        0 => kind,
        flags => format!("{kind}|{}", bits(flags, FLAGS, "0")),
    }
}
