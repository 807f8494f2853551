//! The calls, by number.

use crate::Access::{In, InOut, Out};
use crate::Struct::{
    AeadJob, ChunksJob, CloneArgs, EpollEvent, FdSet, FileKeysJob, FileSecrets, Flock, Itimer,
    Long, MsgHdr, Pair, PollFd, Rlimit, ShmId, SigAction, SigSet, SigSetPlace, Stat, Statfs, Statx,
    Time, TimeVal, TwoTimes, Word,
};
use crate::kind::Kind::*;
use crate::{Entry, Outcome, Served};

/// Gives the table to a macro, a line each: `0 read(Fd, BytesOut, Size) -> Count, Both;`. For what
/// has to be made for each call, such as handlers, which are not told the number. What stands in
/// brackets behind the macro's name is given to it first, in brackets too.
#[macro_export]
macro_rules! table {
    ($($make:tt)::+ $([$($first:tt)*])?) => {
        $($make)::+! {
            $([$($first)*])?
            0 read(Fd, BytesOut, Size) -> Count, Both;
            1 write(Fd, BytesIn, Size) -> Count, Both;
            2 open(Path, OpenFlags, Mode) -> Fd, Both;
            3 close(Fd) -> Number, Both;
            4 stat(Path, Struct(Out, Stat)) -> Number, Both;
            5 fstat(Fd, Struct(Out, Stat)) -> Number, Both;
            6 lstat(Path, Struct(Out, Stat)) -> Number, Both;
            7 poll(List(InOut, PollFd), Size, Int) -> Number, Both;
            8 lseek(Fd, Offset, Whence) -> Number, Both;
            9 mmap(Place, Size, Prot, MapFlags, Fd, Offset) -> Address, Both;
            10 mprotect(Pages, Size, Prot) -> Number, Both;
            11 munmap(Pages, Size) -> Number, Both;
            12 brk(Place) -> Address, Both;
            13 sigaction(Signal, Struct(In, SigAction), Struct(Out, SigAction)) -> Number, Both;
            14 sigprocmask(Int, Struct(In, SigSet), Struct(Out, SigSet)) -> Number, Both;
            16 ioctl(Fd, IoctlRequest, Struct(InOut, Word)) -> Number, Both;
            17 pread64(Fd, BytesOut, Size, Offset) -> Count, Both;
            18 pwrite64(Fd, BytesIn, Size, Offset) -> Count, Both;
            19 readv(Fd, VectorsOut, Int) -> Count, Both;
            20 writev(Fd, VectorsIn, Int) -> Count, Both;
            21 access(Path, Mode) -> Number, Both;
            22 pipe(Struct(Out, Pair)) -> Number, Both;
            23 select(Int, Struct(InOut, FdSet), Struct(InOut, FdSet), Struct(InOut, FdSet), Struct(In, TimeVal)) -> Number, Both;
            24 sched_yield() -> Number, Both;
            29 shmget(Int, Size, Bits) -> Number, Both;
            30 shmat(Int, Place, Bits) -> Address, Both;
            31 shmctl(Int, Int, Struct(InOut, ShmId)) -> Number, Both;
            32 dup(Fd) -> Fd, Both;
            33 dup2(Fd, Fd) -> Fd, Both;
            35 clock_nanosleep(Clock, Bits, Struct(In, Time), Struct(Out, Time)) -> Number, Both;
            38 setitimer(Int, Struct(In, Itimer), Struct(Out, Itimer)) -> Number, Both;
            39 getpid() -> Number, Both;
            40 sendfile(Fd, Fd, Struct(InOut, Long), Size) -> Count, Nowhere;
            41 socket(Family, SocketType, Int) -> Fd, Both;
            42 connect(Fd, SocketAddress, Size) -> Number, Both;
            43 accept(Fd, SocketAddressOut, Struct(InOut, Word)) -> Fd, Both;
            44 sendto(Fd, BytesIn, Size, Bits, SocketAddress, Size) -> Count, Both;
            45 recvfrom(Fd, BytesOut, Size, Bits, SocketAddressOut, Struct(InOut, Word)) -> Count, Both;
            46 sendmsg(Fd, Struct(In, MsgHdr), Bits) -> Count, Both;
            47 recvmsg(Fd, Struct(InOut, MsgHdr), Bits) -> Count, Both;
            48 shutdown(Fd, Int) -> Number, Both;
            49 bind(Fd, SocketAddress, Size) -> Number, Both;
            50 listen(Fd, Int) -> Number, Both;
            51 getsockname(Fd, SocketAddressOut, Struct(InOut, Word)) -> Number, Both;
            52 getpeername(Fd, SocketAddressOut, Struct(InOut, Word)) -> Number, Both;
            53 socketpair(Family, SocketType, Int, Struct(Out, Pair)) -> Number, Both;
            54 setsockopt(Fd, Int, Int, BytesIn, Size) -> Number, Both;
            55 getsockopt(Fd, Int, Int, SocketAddressOut, Struct(InOut, Word)) -> Number, Both;
            56 clone(Struct(InOut, CloneArgs), Thread) -> Number, Both;
            59 execve(Path, Strings, Strings) -> Number, Both;
            60 exit(Int, Thread) -> Never, Both;
            61 wait4(Pid, Struct(Out, Word), Bits) -> Number, Both;
            62 kill(Pid, Signal) -> Number, Both;
            67 shmdt(Address) -> Number, Both;
            // A number stands in the third argument, an address in the fourth.
            72 fcntl(Fd, FcntlCommand, Int, Struct(InOut, Flock)) -> Number, Both;
            73 flock(Fd, Bits) -> Number, Both;
            74 fsync(Fd) -> Number, Both;
            75 fdatasync(Fd) -> Number, Both;
            76 truncate(Path, Offset) -> Number, Both;
            77 ftruncate(Fd, Offset) -> Number, Both;
            78 getdents64(Fd, BytesOut, Size) -> Count, Both;
            79 getcwd(PathOut, Size) -> Number, Both;
            80 chdir(Path) -> Number, Both;
            81 fchdir(Fd) -> Number, Both;
            82 rename(Path, Path) -> Number, Both;
            83 mkdir(Path, Mode) -> Number, Both;
            84 rmdir(Path) -> Number, Both;
            86 link(Path, Path) -> Number, Both;
            87 unlink(Path) -> Number, Both;
            88 symlink(Text, Path) -> Number, Both;
            89 readlink(Path, BytesOut, Size) -> Count, Both;
            90 chmod(Path, Mode) -> Number, Both;
            91 fchmod(Fd, Mode) -> Number, Both;
            92 chown(Path, Int, Int) -> Number, Both;
            93 fchown(Fd, Int, Int) -> Number, Ours;
            94 lchown(Path, Int, Int) -> Number, Both;
            95 umask(Mode) -> Number, Ours;
            102 getuid() -> Number, Both;
            104 getgid() -> Number, Both;
            107 geteuid() -> Number, Both;
            108 getegid() -> Number, Both;
            110 getppid() -> Number, Both;
            121 getpgid(Pid) -> Number, Both;
            130 sigsuspend(Struct(In, SigSet), Struct(Out, SigSet)) -> Number, Both;
            133 mknod(Path, Mode, Bits) -> Number, Both;
            137 statfs(Path, Struct(Out, Statfs)) -> Number, Both;
            138 fstatfs(Fd, Struct(Out, Statfs)) -> Number, Both;
            170 gethostname(BytesOut, Size) -> Number, Both;
            186 gettid() -> Number, Ours;
            188 setxattr(Path, Text, BytesIn, Size, Bits) -> Number, Lind;
            194 listxattr(Path, BytesOut, Size) -> Count, Lind;
            202 futex(Struct(InOut, Word), Bits, Int, Struct(In, Time), Struct(InOut, Word), Int) -> Number, Both;
            213 epoll_create(Int) -> Fd, Both;
            218 set_tid_address(Address) -> Number, Ours;
            221 fadvise64(Fd, Offset, Offset, Int) -> Number, Ours;
            228 clock_gettime(Clock, Struct(Out, Time)) -> Number, Both;
            229 clock_getres(Clock, Struct(Out, Time)) -> Number, Ours;
            231 exit_group(Int, Thread) -> Never, Both;
            232 epoll_wait(Fd, List(Out, EpollEvent), Int, Int) -> Number, Both;
            233 epoll_ctl(Fd, Int, Fd, Struct(In, EpollEvent)) -> Number, Both;
            257 openat(DirFd, Path, OpenFlags, Mode) -> Fd, Both;
            258 mkdirat(DirFd, Path, Mode) -> Number, Ours;
            260 fchownat(DirFd, Path, Int, Int, AtFlags) -> Number, Both;
            262 newfstatat(DirFd, Path, Struct(Out, Stat), AtFlags) -> Number, Both;
            263 unlinkat(DirFd, Path, AtFlags) -> Number, Both;
            264 renameat(DirFd, Path, DirFd, Path) -> Number, Both;
            265 linkat(DirFd, Path, DirFd, Path, AtFlags) -> Number, Ours;
            266 symlinkat(Text, DirFd, Path) -> Number, Both;
            267 readlinkat(DirFd, Path, BytesOut, Size) -> Count, Both;
            268 fchmodat(DirFd, Path, Mode, AtFlags) -> Number, Both;
            269 faccessat(DirFd, Path, Mode, AtFlags) -> Number, Both;
            270 pselect6(Int, Struct(InOut, FdSet), Struct(InOut, FdSet), Struct(InOut, FdSet), Struct(In, Time), Struct(In, SigSetPlace)) -> Number, Ours;
            271 ppoll(List(InOut, PollFd), Size, Int, Struct(In, SigSet)) -> Number, Both;
            275 splice(Fd, Struct(InOut, Long), Fd, Struct(InOut, Long), Size, Bits) -> Count, Nowhere;
            276 tee(Fd, Fd, Size, Bits) -> Count, Nowhere;
            277 sync_file_range(Fd, Offset, Offset, Bits) -> Number, Both;
            278 vmsplice(Fd, VectorsIn, Int, Bits) -> Count, Nowhere;
            280 utimensat(DirFd, Path, Struct(In, TwoTimes), AtFlags) -> Number, Both;
            281 epoll_pwait(Fd, List(Out, EpollEvent), Int, Int, Struct(In, SigSet), Size) -> Number, Ours;
            285 fallocate(Fd, Bits, Offset, Offset) -> Number, Ours;
            288 accept4(Fd, SocketAddressOut, Struct(InOut, Word), Bits) -> Fd, Both;
            291 epoll_create1(OpenFlags) -> Fd, Both;
            292 dup3(Fd, Fd, OpenFlags) -> Fd, Both;
            293 pipe2(Struct(Out, Pair), OpenFlags) -> Number, Both;
            295 preadv(Fd, VectorsOut, Int, Offset) -> Count, Both;
            296 pwritev(Fd, VectorsIn, Int, Offset) -> Count, Both;
            302 prlimit64(Pid, Int, Struct(In, Rlimit), Struct(Out, Rlimit)) -> Number, Both;
            303 name_to_handle_at(DirFd, Path, Struct(InOut, Long), Struct(Out, Word), AtFlags) -> Number, Nowhere;
            304 open_by_handle_at(DirFd, Struct(In, Long), OpenFlags) -> Fd, Nowhere;
            310 process_vm_readv(Pid, VectorsOut, Int, VectorsIn, Int, Bits) -> Count, Nowhere;
            311 process_vm_writev(Pid, VectorsIn, Int, VectorsOut, Int, Bits) -> Count, Nowhere;
            316 renameat2(DirFd, Path, DirFd, Path, Bits) -> Number, Both;
            318 getrandom(BytesOut, Size, Bits) -> Count, Both;
            319 memfd_create(Text, Bits) -> Fd, Nowhere;
            326 copy_file_range(Fd, Struct(InOut, Long), Fd, Struct(InOut, Long), Size, Bits) -> Count, Both;
            327 preadv2(Fd, VectorsOut, Int, Offset, Bits) -> Count, Nowhere;
            328 pwritev2(Fd, VectorsIn, Int, Offset, Bits) -> Count, Nowhere;
            332 statx(DirFd, Path, AtFlags, Bits, Struct(Out, Statx)) -> Number, Ours;
            425 io_uring_setup(Int, Struct(InOut, Long)) -> Fd, Nowhere;
            426 io_uring_enter(Fd, Int, Int, Bits, Struct(In, SigSet), Size) -> Number, Nowhere;
            427 io_uring_register(Fd, Int, Struct(In, Long), Int) -> Number, Nowhere;
            437 openat2(DirFd, Path, Struct(In, Long), Size) -> Fd, Nowhere;
            // 3i's own. The cages of the first three arguments of 1001 and of the first of 1003 are
            // numbers with meanings of their own, which 3i itself judges.
            1001 register_handler(Int, Int, Int) -> Number, Both;
            1002 copy_data(Address, Address, Size, Int) -> Number, Both;
            1003 copy_table(Int) -> Number, Both;
            1100 llseek(Fd, Offset, Whence, Struct(Out, Long)) -> Number, Ours;
            1101 aead_seal(Struct(In, AeadJob), BytesInOut, Size, BytesInOut, Size) -> Number, Ours;
            1102 aead_open(Struct(In, AeadJob), BytesInOut, Size, BytesInOut, Size) -> Number, Ours;
            1103 record_seal(Struct(In, AeadJob), BytesInOut, Size, BytesInOut, Size) -> Number, Ours;
            1104 record_open(Struct(In, AeadJob), BytesInOut, Size, BytesInOut, Size) -> Number, Ours;
            1105 take_lock(Fd) -> Number, Ours;
            1106 give_lock(Fd) -> Number, Ours;
            1107 take_lease(Fd) -> Number, Ours;
            1108 copy_leased(Int, Address, Address, Size) -> Number, Ours;
            1109 file_keys(Struct(In, FileKeysJob), Struct(Out, FileSecrets)) -> Number, Ours;
            1110 pwrite_kept(Fd, BytesIn, Size, Offset) -> Count, Ours;
            1111 open_chunks(Struct(In, ChunksJob), Fd, Address, Address, Size) -> Number, Ours;
            1112 seal_chunks(Struct(In, ChunksJob), Fd, Address, Address, Size) -> Number, Ours;
        }
    };
}

macro_rules! entries {
    ($($nr:literal $name:ident($($kind:expr),*) -> $result:ident, $served:ident;)*) => {
        /// All calls that a runtime serves or a grate decides on, by number. `Lind` and `Both`
        /// have Lind's shape.
        pub static CALLS: &[Entry] = &[$(Entry {
            nr: $nr,
            name: stringify!($name),
            args: &[$($kind),*],
            result: Outcome::$result,
            served: Served::$served,
        }),*];

        // Look-ups rely on it.
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

table!(entries);
