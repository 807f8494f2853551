// System calls, and what they answer.

#include "lind.h"

#include <errno.h>
#include <limits.h>

__attribute__((import_module("lind"), import_name("lind-get-memory-base"))) uint64_t
memory_base(void);
__attribute__((import_module("lind"), import_name("lind-get-cage-id"))) uint64_t
current_cage(void);

// Neither changes while a cage lives, but a forked child has its own.
static uint64_t base = UINT64_MAX;
static uint64_t own = UINT64_MAX;

void __lind_renew(void) {
    base = memory_base();
    own = current_cage();
}

uint64_t __lind_base(void) {
    if (base == UINT64_MAX)
        __lind_renew();
    return base;
}

uint64_t __lind_own(void) {
    if (own == UINT64_MAX)
        __lind_renew();
    return own;
}

// Lind sets this one to interrupt a program, which is to make that call then. Its own compiler looks
// at it everywhere; here, what sends signals or waits does. (Where the program ends in it, its stack
// is unwound: what calls this is made fit for that.) Ours delivers signals by itself.
__asm__(".globaltype epoch, i64\n.globl epoch\nepoch:\n");
__attribute__((import_module("lind"), import_name("epoch_callback"))) void epoch_callback(void);

void __lind_look_for_signals(void) {
    uint64_t epoch;
    __asm__ volatile("global.get epoch\nlocal.set %0" : "=r"(epoch));
    if (epoch)
        epoch_callback();
}

int32_t __lind_call6(uint32_t nr, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5,
                     uint64_t a6) {
    uint64_t me = __lind_own();
    return __lind_gate(nr, 0, me, me, a1, me, a2, me, a3, me, a4, me, a5, me, a6, me);
}

int32_t __lind_unwinding(uint32_t nr, uint64_t a1, uint64_t a2, uint64_t a3) {
    uint64_t me = __lind_own();
    return __lind_unwinding_gate(nr, 0, me, me, a1, me, a2, me, a3, me, UNUSED, me, UNUSED, me,
                                 UNUSED, me);
}

_Noreturn void __lind_exit(int code) {
    __lind_unwinding(NR_EXIT_GROUP, num(code), 0, UNUSED);
    __builtin_trap();
}

// The libc has WASI's numbers.
static const unsigned char numbers[] = {
    [1] = EPERM,
    [2] = ENOENT,
    [3] = ESRCH,
    [4] = EINTR,
    [5] = EIO,
    [6] = ENXIO,
    [7] = E2BIG,
    [8] = ENOEXEC,
    [9] = EBADF,
    [10] = ECHILD,
    [11] = EAGAIN,
    [12] = ENOMEM,
    [13] = EACCES,
    [14] = EFAULT,
    [16] = EBUSY,
    [17] = EEXIST,
    [18] = EXDEV,
    [19] = ENODEV,
    [20] = ENOTDIR,
    [21] = EISDIR,
    [22] = EINVAL,
    [23] = ENFILE,
    [24] = EMFILE,
    [25] = ENOTTY,
    [26] = ETXTBSY,
    [27] = EFBIG,
    [28] = ENOSPC,
    [29] = ESPIPE,
    [30] = EROFS,
    [31] = EMLINK,
    [32] = EPIPE,
    [33] = EDOM,
    [34] = ERANGE,
    [35] = EDEADLK,
    [36] = ENAMETOOLONG,
    [37] = ENOLCK,
    [38] = ENOSYS,
    [39] = ENOTEMPTY,
    [40] = ELOOP,
    [42] = ENOMSG,
    [43] = EIDRM,
    [67] = ENOLINK,
    [71] = EPROTO,
    [72] = EMULTIHOP,
    [74] = EBADMSG,
    [75] = EOVERFLOW,
    [84] = EILSEQ,
    [88] = ENOTSOCK,
    [89] = EDESTADDRREQ,
    [90] = EMSGSIZE,
    [91] = EPROTOTYPE,
    [92] = ENOPROTOOPT,
    [93] = EPROTONOSUPPORT,
    [95] = ENOTSUP,
    [97] = EAFNOSUPPORT,
    [98] = EADDRINUSE,
    [99] = EADDRNOTAVAIL,
    [100] = ENETDOWN,
    [101] = ENETUNREACH,
    [102] = ENETRESET,
    [103] = ECONNABORTED,
    [104] = ECONNRESET,
    [105] = ENOBUFS,
    [106] = EISCONN,
    [107] = ENOTCONN,
    [110] = ETIMEDOUT,
    [111] = ECONNREFUSED,
    [113] = EHOSTUNREACH,
    [114] = EALREADY,
    [115] = EINPROGRESS,
    [116] = ESTALE,
    [122] = EDQUOT,
    [125] = ECANCELED,
    [130] = EOWNERDEAD,
    [131] = ENOTRECOVERABLE,
};

int __lind_errno(int linux_errno) {
    bool known = linux_errno >= 0 && (size_t)linux_errno < sizeof numbers;
    // What WASI has no number for is an error of input or output.
    return known && numbers[linux_errno] ? numbers[linux_errno] : EIO;
}

// The libc knows of no threads: its `errno` is one variable, which is that of the first thread. The
// others have their own, which all calls set. What a function of the libc sets there that makes no
// call (ERANGE of strtol, say) they don't see.
#pragma push_macro("errno")
#undef errno
extern int first_errno __asm__("errno");
#pragma pop_macro("errno")
static _Thread_local int own_errno;
static _Thread_local bool has_own_errno;

int *__errno_location(void) { return has_own_errno ? &own_errno : &first_errno; }

void __lind_own_errno(void) { has_own_errno = true; }

int32_t __lind_answer(int32_t result) {
    if (!is_error(result))
        return result;
    errno = __lind_errno(-result);
    return -1;
}

enum { FUTEX_WAIT = 0, FUTEX_WAKE = 1 };

void __lind_futex_wait(const volatile void *word, int value) {
    lind(NR_FUTEX, at(word), FUTEX_WAIT, num(value), 0, 0, 0);
}

void __lind_futex_wake(const volatile void *word, int count) {
    lind(NR_FUTEX, at(word), FUTEX_WAKE, num(count), 0, 0, 0);
}

enum { FREE, TAKEN, AWAITED };

void __lind_take(struct lind_lock *lock) {
    int state = FREE;
    if (__c11_atomic_compare_exchange_strong(&lock->state, &state, TAKEN, __ATOMIC_ACQUIRE,
                                             __ATOMIC_RELAXED))
        return;
    while (__c11_atomic_exchange(&lock->state, AWAITED, __ATOMIC_ACQUIRE) != FREE)
        __lind_futex_wait(&lock->state, AWAITED);
}

void __lind_give(struct lind_lock *lock) {
    if (__c11_atomic_exchange(&lock->state, FREE, __ATOMIC_RELEASE) == AWAITED)
        __lind_futex_wake(&lock->state, 1);
}
