// What the parts of this library share: system calls, errors, locks.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// What is passed for an argument that a call does not have.
#define UNUSED 0xdeadbeefdeadbeefull

enum {
    NR_READ = 0,
    NR_WRITE = 1,
    NR_OPEN = 2,
    NR_CLOSE = 3,
    NR_STAT = 4,
    NR_FSTAT = 5,
    NR_LSTAT = 6,
    NR_POLL = 7,
    NR_LSEEK = 8,
    NR_MMAP = 9,
    NR_MPROTECT = 10,
    NR_MUNMAP = 11,
    NR_BRK = 12,
    NR_SIGACTION = 13,
    NR_SIGPROCMASK = 14,
    NR_IOCTL = 16,
    NR_PREAD = 17,
    NR_PWRITE = 18,
    NR_READV = 19,
    NR_WRITEV = 20,
    NR_ACCESS = 21,
    NR_SCHED_YIELD = 24,
    NR_SHMGET = 29,
    NR_SHMAT = 30,
    NR_SHMCTL = 31,
    NR_DUP = 32,
    NR_DUP2 = 33,
    NR_CLOCK_NANOSLEEP = 35,
    NR_SETITIMER = 38,
    NR_GETPID = 39,
    NR_SOCKET = 41,
    NR_CONNECT = 42,
    NR_ACCEPT = 43,
    NR_SENDTO = 44,
    NR_RECVFROM = 45,
    NR_SENDMSG = 46,
    NR_RECVMSG = 47,
    NR_SHUTDOWN = 48,
    NR_BIND = 49,
    NR_LISTEN = 50,
    NR_GETSOCKNAME = 51,
    NR_GETPEERNAME = 52,
    NR_SOCKETPAIR = 53,
    NR_SETSOCKOPT = 54,
    NR_GETSOCKOPT = 55,
    NR_CLONE = 56,
    NR_EXECVE = 59,
    NR_EXIT = 60,
    NR_WAITPID = 61,
    NR_KILL = 62,
    NR_SHMDT = 67,
    NR_FCNTL = 72,
    NR_FLOCK = 73,
    NR_FSYNC = 74,
    NR_FDATASYNC = 75,
    NR_TRUNCATE = 76,
    NR_FTRUNCATE = 77,
    NR_GETDENTS64 = 78,
    NR_GETCWD = 79,
    NR_CHDIR = 80,
    NR_FCHDIR = 81,
    NR_RENAME = 82,
    NR_MKDIR = 83,
    NR_RMDIR = 84,
    NR_LINK = 86,
    NR_UNLINK = 87,
    NR_SYMLINK = 88,
    NR_READLINK = 89,
    NR_CHMOD = 90,
    NR_FCHMOD = 91,
    NR_CHOWN = 92,
    NR_LCHOWN = 94,
    NR_UMASK = 95,
    NR_GETUID = 102,
    NR_GETGID = 104,
    NR_GETEUID = 107,
    NR_GETEGID = 108,
    NR_GETPPID = 110,
    NR_GETPGID = 121,
    NR_SIGSUSPEND = 130,
    NR_MKNOD = 133,
    NR_STATFS = 137,
    NR_FSTATFS = 138,
    NR_CHROOT = 161,
    NR_GETHOSTNAME = 170,
    NR_FUTEX = 202,
    NR_CLOCK_GETTIME = 228,
    NR_EXIT_GROUP = 231,
    NR_EPOLL_WAIT = 232,
    NR_EPOLL_CTL = 233,
    NR_OPENAT = 257,
    NR_MKDIRAT = 258,
    NR_FCHOWNAT = 260,
    NR_NEWFSTATAT = 262,
    NR_UNLINKAT = 263,
    NR_RENAMEAT = 264,
    NR_LINKAT = 265,
    NR_SYMLINKAT = 266,
    NR_READLINKAT = 267,
    NR_FCHMODAT = 268,
    NR_FACCESSAT = 269,
    NR_PPOLL = 271,
    NR_SYNC_FILE_RANGE = 277,
    NR_UTIMENSAT = 280,
    NR_ACCEPT4 = 288,
    NR_EPOLL_CREATE1 = 291,
    NR_DUP3 = 292,
    NR_PIPE2 = 293,
    NR_PREADV = 295,
    NR_PWRITEV = 296,
    NR_PRLIMIT64 = 302,
    NR_RENAMEAT2 = 316,
    NR_GETRANDOM = 318,
    NR_COPY_FILE_RANGE = 326,
    NR_REGISTER_HANDLER = 1001,
    NR_COPY_DATA = 1002,
    NR_COPY_HANDLER_TABLE = 1003,
    NR_LLSEEK = 1100,
};

// The address of this cage's offset 0, as calls take addresses; the cage's number.
uint64_t __lind_base(void);
uint64_t __lind_own(void);
// Asks for both again, in a child.
void __lind_renew(void);

// The address of something in this cage, as a call takes it. A null pointer stays 0.
static inline uint64_t at(const volatile void *pointer) {
    return pointer ? __lind_base() + (uintptr_t)pointer : 0;
}

// A call of this cage. The result is as it came: a negated errno of Linux for an error.
int32_t __lind_call6(uint32_t nr, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5,
                     uint64_t a6);
#define LIND_PICK(a, b, c, d, e, f, g, name, ...) name
#define LIND_1(nr) __lind_call6(nr, UNUSED, UNUSED, UNUSED, UNUSED, UNUSED, UNUSED)
#define LIND_2(nr, a) __lind_call6(nr, (a), UNUSED, UNUSED, UNUSED, UNUSED, UNUSED)
#define LIND_3(nr, a, b) __lind_call6(nr, (a), (b), UNUSED, UNUSED, UNUSED, UNUSED)
#define LIND_4(nr, a, b, c) __lind_call6(nr, (a), (b), (c), UNUSED, UNUSED, UNUSED)
#define LIND_5(nr, a, b, c, d) __lind_call6(nr, (a), (b), (c), (d), UNUSED, UNUSED)
#define LIND_6(nr, a, b, c, d, e) __lind_call6(nr, (a), (b), (c), (d), (e), UNUSED)
#define LIND_7(nr, a, b, c, d, e, f) __lind_call6(nr, (a), (b), (c), (d), (e), (f))
// The number and up to six arguments.
#define lind(...)                                                                                  \
    LIND_PICK(__VA_ARGS__, LIND_7, LIND_6, LIND_5, LIND_4, LIND_3, LIND_2, LIND_1)(__VA_ARGS__)

// An `int` as a call takes it.
static inline uint64_t num(int value) { return (uint64_t)(int64_t)value; }

// As `lind`, for the calls in which this cage's stack is unwound: clone, exec, exit. What may be on
// the stack then is made fit for it by the build.
int32_t __lind_unwinding(uint32_t nr, uint64_t a1, uint64_t a2, uint64_t a3);

// Where the program may be interrupted by a signal that Lind does not deliver in a call.
void __lind_look_for_signals(void);

// Both, without anything on the stack: for a thread that begins or ends.
__attribute__((import_module("lind"), import_name("make-syscall"))) int32_t
__lind_gate(uint32_t nr, uint64_t name, uint64_t own, uint64_t target, uint64_t a1, uint64_t a1cage,
            uint64_t a2, uint64_t a2cage, uint64_t a3, uint64_t a3cage, uint64_t a4,
            uint64_t a4cage, uint64_t a5, uint64_t a5cage, uint64_t a6, uint64_t a6cage);
__attribute__((import_module("lind"), import_name("make-syscall-unwinding"))) int32_t
__lind_unwinding_gate(uint32_t nr, uint64_t name, uint64_t own, uint64_t target, uint64_t a1,
                      uint64_t a1cage, uint64_t a2, uint64_t a2cage, uint64_t a3, uint64_t a3cage,
                      uint64_t a4, uint64_t a4cage, uint64_t a5, uint64_t a5cage, uint64_t a6,
                      uint64_t a6cage);

// Whether a result is an error; other negative numbers are addresses.
static inline bool is_error(int32_t result) { return result < 0 && result >= -4095; }

// WASI's number of an error of Linux, and back.
int __lind_wasi_errno(int linux_errno);
int __lind_linux_errno(int wasi_errno);
// Sets errno to a negated errno of Linux, and answers -1; other results are answered.
int32_t __lind_answer(int32_t result);
// From here on this instance is not the first thread.
void __lind_own_errno(void);
// Gives the libc the number that the program sees, for `%m`.
void __lind_show_errno(void);

// A lock that sleeps where it is taken. Starts as zeros.
struct lind_lock {
    _Atomic int state;
};
void __lind_take(struct lind_lock *lock);
void __lind_give(struct lind_lock *lock);
void __lind_futex_wait(const volatile void *word, int value);
void __lind_futex_wake(const volatile void *word, int count);

// Keeps others out of the heap, for a fork; in the child, nobody is in a stream.
void __lind_hold_heap(void);
void __lind_give_heap(void);
void __lind_renew_streams(void);

// lseek(2), with the whole result in `out`; a negated errno of Linux.
int32_t __lind_seek(int fd, int64_t offset, int whence, uint64_t *out);

// Ends this cage.
_Noreturn void __lind_exit(int code);

struct kernel_time {
    int64_t seconds;
    int64_t nanoseconds;
};

struct kernel_stat {
    uint64_t dev, ino;
    uint32_t mode, nlink, uid, gid;
    uint64_t rdev, size;
    int32_t blksize;
    uint32_t blocks;
    struct kernel_time times[3];
};

struct kernel_vector {
    uint64_t base, len;
};
