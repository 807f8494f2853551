// System calls, and what they answer.

#include "lind.h"

#include <errno.h>

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

// WASI's numbers of errors, by Linux's: the libc is compiled with them, programs are not.
static const unsigned char numbers[] = {
    [1] = 63, [2] = 44, [3] = 71, [4] = 27, [5] = 29, [6] = 60, [7] = 1, [8] = 45,
    [9] = 8, [10] = 12, [11] = 6, [12] = 48, [13] = 2, [14] = 21, [16] = 10, [17] = 20,
    [18] = 75, [19] = 43, [20] = 54, [21] = 31, [22] = 28, [23] = 41, [24] = 33, [25] = 59,
    [26] = 74, [27] = 22, [28] = 51, [29] = 70, [30] = 69, [31] = 34, [32] = 64, [33] = 18,
    [34] = 68, [35] = 16, [36] = 37, [37] = 46, [38] = 52, [39] = 55, [40] = 32, [42] = 49,
    [43] = 24, [67] = 47, [71] = 65, [72] = 36, [74] = 9, [75] = 61, [84] = 25, [88] = 57,
    [89] = 17, [90] = 35, [91] = 67, [92] = 50, [93] = 66, [95] = 58, [97] = 5, [98] = 3,
    [99] = 4, [100] = 38, [101] = 40, [102] = 39, [103] = 13, [104] = 15, [105] = 42, [106] = 30,
    [107] = 53, [110] = 73, [111] = 14, [113] = 23, [114] = 7, [115] = 26, [116] = 72, [122] = 19,
    [125] = 11, [130] = 62, [131] = 56,
};

enum { COUNT = sizeof numbers };

int __lind_wasi_errno(int linux_errno) {
    enum { WASI_EIO = 29 };
    bool known = linux_errno >= 0 && linux_errno < COUNT;
    if (linux_errno == 0)
        return 0;
    // What WASI has no number for is an error of input or output.
    return known && numbers[linux_errno] ? numbers[linux_errno] : WASI_EIO;
}

int __lind_linux_errno(int wasi_errno) {
    for (int i = 0; i < COUNT; i++)
        if (numbers[i] == wasi_errno)
            return i;
    return EIO;
}

// The libc knows of no threads: its `errno` is one variable, in WASI's numbers. Programs see another
// one, of which each thread has its own. What the libc has set is taken over when the first thread
// looks; what a function of the libc that makes no call sets in another thread (ERANGE of strtol,
// say) is not seen there.
#pragma push_macro("errno")
#undef errno
extern int libc_errno __asm__("errno");
#pragma pop_macro("errno")
static _Thread_local int own_errno;
static _Thread_local bool is_other_thread;

int *__errno_location(void) {
    if (!is_other_thread && libc_errno) {
        if (__lind_wasi_errno(own_errno) != libc_errno)
            own_errno = __lind_linux_errno(libc_errno);
        libc_errno = 0;
    }
    return &own_errno;
}

void __lind_own_errno(void) { is_other_thread = true; }

// For what of the libc reads it.
void __lind_show_errno(void) { libc_errno = __lind_wasi_errno(errno); }

int32_t __lind_answer(int32_t result) {
    if (!is_error(result))
        return result;
    errno = -result;
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
