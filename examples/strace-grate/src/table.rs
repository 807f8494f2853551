//! All calls that Lind serves, with their names and the kinds of their arguments.

use crate::trace;
use grate_rs::{Call, SyscallHandler};

/// How an argument is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A descriptor, or another `int`.
    Int,
    /// A descriptor of a directory, or AT_FDCWD.
    DirFd,
    /// A size or another unsigned number.
    Size,
    /// A signed number of 64 bits.
    Offset,
    /// Bits that have no names here.
    Hex,
    /// Permission bits.
    Mode,
    /// Flags of open(2).
    OpenFlags,
    /// Flags of the *at calls.
    AtFlags,
    /// Protection of memory.
    Prot,
    /// Flags of mmap(2).
    MapFlags,
    /// What an offset is counted from.
    Whence,
    /// Command of fcntl(2).
    FcntlCommand,
    /// Request of ioctl(2).
    IoctlRequest,
    /// A signal.
    Signal,
    /// A clock.
    Clock,
    /// An address family.
    Family,
    /// A socket's type with its flags.
    SocketType,
    /// An address of which only the number is shown.
    Address,
    /// A string.
    Path,
    /// Bytes going in; the next argument is their number.
    BytesIn,
    /// Bytes coming out; the result is their number.
    BytesOut,
    /// A string of known length coming out: that of getcwd(2).
    PathOut,
    /// Vectors of bytes; the next argument is their number.
    Vectors,
    /// A list of strings.
    Strings,
    /// A time going in.
    Time,
    /// A time coming out.
    TimeOut,
    /// File facts coming out.
    StatOut,
    /// An exit status coming out.
    StatusOut,
    /// Two descriptors coming out.
    PairOut,
    /// A number of 64 bits coming out.
    LongOut,
    /// A socket address going in; the next argument is its length.
    SocketAddress,
}

impl Kind {
    /// Whether the argument is an address, which may be of another cage than the caller's.
    fn is_pointer(self) -> bool {
        use Kind::*;
        matches!(
            self,
            Address
                | Path
                | BytesIn
                | BytesOut
                | PathOut
                | Vectors
                | Strings
                | Time
                | TimeOut
                | StatOut
                | StatusOut
                | PairOut
                | LongOut
                | SocketAddress
        )
    }
}

/// How a result is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A number.
    Number,
    /// An address, which may look like a negative number.
    Address,
    /// There is none.
    Never,
}

/// A call.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its number.
    pub nr: u64,
    /// Its name.
    pub name: &'static str,
    /// Its arguments.
    pub args: &'static [Kind],
    /// Its result.
    pub result: Outcome,
    /// What is registered for it. A handler is not told the number, so each call has its own.
    pub handler: SyscallHandler,
}

/// The call of that number.
pub fn entry(nr: u32) -> Option<&'static Entry> {
    let at = CALLS.binary_search_by_key(&u64::from(nr), |entry| entry.nr);
    CALLS.get(at.ok()?)
}

/// The cage that made a call: that of an argument by value, or of one that the call does not have.
/// (An address may have been replaced by a grate in between.)
pub fn caller(entry: &Entry, call: &Call) -> u64 {
    let by_value =
        (0..6).find(|&index| !entry.args.get(index).is_some_and(|kind| kind.is_pointer()));
    call.cage_of(by_value.unwrap_or(0))
}

/// Makes the table, and a handler for each entry.
macro_rules! calls {
    ($($nr:literal $name:ident($($kind:ident),*) -> $result:ident;)*) => {
        /// All calls by number.
        pub static CALLS: &[Entry] = &[$(Entry {
            nr: $nr,
            name: stringify!($name),
            args: &[$(Kind::$kind),*],
            result: Outcome::$result,
            handler: {
                grate_rs::handler!(handler, $nr, trace);
                handler
            },
        }),*];

        // The search for an entry relies on it.
        const _: () = {
            let numbers: &[u64] = &[$($nr),*];
            let mut at = 1;
            while at < numbers.len() {
                assert!(numbers[at - 1] < numbers[at], "the table must be in order");
                at += 1;
            }
        };
    };
}

calls! {
    0 read(Int, BytesOut, Size) -> Number;
    1 write(Int, BytesIn, Size) -> Number;
    2 open(Path, OpenFlags, Mode) -> Number;
    3 close(Int) -> Number;
    4 stat(Path, StatOut) -> Number;
    5 fstat(Int, StatOut) -> Number;
    6 lstat(Path, StatOut) -> Number;
    7 poll(Address, Size, Int) -> Number;
    8 lseek(Int, Offset, Whence) -> Number;
    9 mmap(Address, Size, Prot, MapFlags, Int, Offset) -> Address;
    10 mprotect(Address, Size, Prot) -> Number;
    11 munmap(Address, Size) -> Number;
    12 brk(Address) -> Address;
    13 sigaction(Signal, Address, Address) -> Number;
    14 sigprocmask(Int, Address, Address) -> Number;
    16 ioctl(Int, IoctlRequest, Address) -> Number;
    17 pread(Int, BytesOut, Size, Offset) -> Number;
    18 pwrite(Int, BytesIn, Size, Offset) -> Number;
    19 readv(Int, Address, Size) -> Number;
    20 writev(Int, Vectors, Size) -> Number;
    21 access(Path, Mode) -> Number;
    22 pipe(PairOut) -> Number;
    23 select(Int, Address, Address, Address, Address) -> Number;
    24 sched_yield() -> Number;
    29 shmget(Int, Size, Hex) -> Number;
    30 shmat(Int, Address, Hex) -> Address;
    31 shmctl(Int, Int, Address) -> Number;
    32 dup(Int) -> Number;
    33 dup2(Int, Int) -> Number;
    35 clock_nanosleep(Clock, Hex, Time, Address) -> Number;
    38 setitimer(Int, Address, Address) -> Number;
    39 getpid() -> Number;
    41 socket(Family, SocketType, Int) -> Number;
    42 connect(Int, SocketAddress, Size) -> Number;
    43 accept(Int, Address, Address) -> Number;
    44 sendto(Int, BytesIn, Size, Hex, Address, Size) -> Number;
    45 recvfrom(Int, BytesOut, Size, Hex, Address, Address) -> Number;
    46 sendmsg(Int, Address, Hex) -> Number;
    47 recvmsg(Int, Address, Hex) -> Number;
    48 shutdown(Int, Int) -> Number;
    49 bind(Int, SocketAddress, Size) -> Number;
    50 listen(Int, Int) -> Number;
    51 getsockname(Int, Address, Address) -> Number;
    52 getpeername(Int, Address, Address) -> Number;
    53 socketpair(Family, SocketType, Int, PairOut) -> Number;
    54 setsockopt(Int, Int, Int, Address, Size) -> Number;
    55 getsockopt(Int, Int, Int, Address, Address) -> Number;
    56 clone(Address) -> Number;
    59 execve(Path, Strings, Address) -> Number;
    60 exit(Int) -> Never;
    61 waitpid(Int, StatusOut, Hex) -> Number;
    62 kill(Int, Signal) -> Number;
    67 shmdt(Address) -> Number;
    72 fcntl(Int, FcntlCommand, Int) -> Number;
    73 flock(Int, Hex) -> Number;
    74 fsync(Int) -> Number;
    75 fdatasync(Int) -> Number;
    76 truncate(Path, Offset) -> Number;
    77 ftruncate(Int, Offset) -> Number;
    78 getdents64(Int, Address, Size) -> Number;
    79 getcwd(PathOut, Size) -> Number;
    80 chdir(Path) -> Number;
    81 fchdir(Int) -> Number;
    82 rename(Path, Path) -> Number;
    83 mkdir(Path, Mode) -> Number;
    84 rmdir(Path) -> Number;
    86 link(Path, Path) -> Number;
    87 unlink(Path) -> Number;
    88 symlink(Path, Path) -> Number;
    89 readlink(Path, BytesOut, Size) -> Number;
    90 chmod(Path, Mode) -> Number;
    91 fchmod(Int, Mode) -> Number;
    92 chown(Path, Int, Int) -> Number;
    93 fchown(Int, Int, Int) -> Number;
    94 lchown(Path, Int, Int) -> Number;
    102 getuid() -> Number;
    104 getgid() -> Number;
    107 geteuid() -> Number;
    108 getegid() -> Number;
    110 getppid() -> Number;
    121 getpgid(Int) -> Number;
    130 sigsuspend(Address, Address) -> Number;
    133 mknod(Path, Mode, Hex) -> Number;
    137 statfs(Path, Address) -> Number;
    138 fstatfs(Int, Address) -> Number;
    170 gethostname(BytesOut, Size) -> Number;
    188 setxattr(Path, Path, BytesIn, Size, Hex) -> Number;
    194 listxattr(Path, BytesOut, Size) -> Number;
    202 futex(Address, Hex, Int, Address, Address, Int) -> Number;
    213 epoll_create(Int) -> Number;
    228 clock_gettime(Clock, TimeOut) -> Number;
    231 exit_group(Int) -> Never;
    232 epoll_wait(Int, Address, Int, Int) -> Number;
    233 epoll_ctl(Int, Int, Int, Address) -> Number;
    257 openat(DirFd, Path, OpenFlags, Mode) -> Number;
    260 fchownat(DirFd, Path, Int, Int, AtFlags) -> Number;
    262 newfstatat(DirFd, Path, StatOut, AtFlags) -> Number;
    263 unlinkat(DirFd, Path, AtFlags) -> Number;
    264 renameat(DirFd, Path, DirFd, Path) -> Number;
    266 symlinkat(Path, DirFd, Path) -> Number;
    267 readlinkat(DirFd, Path, BytesOut, Size) -> Number;
    268 fchmodat(DirFd, Path, Mode, AtFlags) -> Number;
    269 faccessat(DirFd, Path, Mode, AtFlags) -> Number;
    270 pselect6(Int, Address, Address, Address, Address, Address) -> Number;
    271 ppoll(Address, Size, Int, Address) -> Number;
    277 sync_file_range(Int, Offset, Offset, Hex) -> Number;
    280 utimensat(DirFd, Path, Address, AtFlags) -> Number;
    281 epoll_pwait(Int, Address, Int, Int, Address, Size) -> Number;
    288 accept4(Int, Address, Address, Hex) -> Number;
    291 epoll_create1(OpenFlags) -> Number;
    292 dup3(Int, Int, OpenFlags) -> Number;
    293 pipe2(PairOut, OpenFlags) -> Number;
    295 preadv(Int, Address, Size, Offset) -> Number;
    296 pwritev(Int, Vectors, Size, Offset) -> Number;
    302 prlimit64(Int, Int, Address, Address) -> Number;
    316 renameat2(DirFd, Path, DirFd, Path, Hex) -> Number;
    318 getrandom(Address, Size, Hex) -> Number;
    326 copy_file_range(Int, Address, Int, Address, Size, Hex) -> Number;
    1100 llseek(Int, Offset, Whence, LongOut) -> Number;
}
