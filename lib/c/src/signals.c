// Signals.

#include "lind.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

struct kernel_action {
    // A place in the function table; the first two have no function.
    uint32_t handler;
    uint64_t mask;
    int32_t flags;
};

// Which handlers take three arguments.
static _Atomic uint64_t detailed;

static uint64_t bit(int signal) { return 1ull << (signal - 1); }

static bool is_signal(int signal) {
    if (signal >= 1 && signal < _NSIG)
        return true;
    errno = EINVAL;
    return false;
}

int sigaction(int signal, const struct sigaction *restrict wanted, struct sigaction *restrict old) {
    if (!is_signal(signal))
        return -1;
    struct kernel_action new, before;
    bool was_detailed = detailed & bit(signal);
    if (wanted) {
        new = (struct kernel_action){(uint32_t)(uintptr_t)wanted->sa_handler, wanted->sa_mask,
                                     wanted->sa_flags};
        // A signal may come at once.
        if (wanted->sa_flags & SA_SIGINFO)
            detailed |= bit(signal);
        else
            detailed &= ~bit(signal);
    }
    int32_t result = lind(NR_SIGACTION, num(signal), wanted ? at(&new) : 0, old ? at(&before) : 0);
    if (is_error(result)) {
        if (was_detailed)
            detailed |= bit(signal);
        return __lind_answer(result);
    }
    if (old) {
        old->sa_handler = (void (*)(int))(uintptr_t)before.handler;
        old->sa_mask = before.mask;
        old->sa_flags = before.flags;
    }
    return 0;
}

// Where the runtime enters to call a handler.
__attribute__((export_name("signal_callback"))) void signal_callback(uintptr_t handler,
                                                                     int signal) {
    // The engine checks index and type of an indirect call: a wrong one traps.
    int kept = errno;
    if (is_signal(signal) && detailed & bit(signal)) {
        siginfo_t info = {.si_signo = signal, .si_code = SI_USER};
        ((void (*)(int, siginfo_t *, void *))handler)(signal, &info, NULL);
    } else {
        ((void (*)(int))handler)(signal);
    }
    errno = kept;
}

sighandler_t signal(int signal, sighandler_t handler) {
    struct sigaction wanted = {.sa_handler = handler, .sa_flags = SA_RESTART}, old;
    return sigaction(signal, &wanted, &old) ? SIG_ERR : old.sa_handler;
}

int kill(pid_t pid, int signal) {
    int32_t result = lind(NR_KILL, num(pid), num(signal));
    __lind_look_for_signals();
    return __lind_answer(result);
}

int raise(int signal) { return kill(getpid(), signal); }

_Noreturn void abort(void) {
    signal(SIGABRT, SIG_DFL);
    raise(SIGABRT);
    __builtin_trap();
}

int sigprocmask(int how, const sigset_t *restrict set, sigset_t *restrict old) {
    return __lind_answer(lind(NR_SIGPROCMASK, num(how), at(set), at(old)));
}

int pthread_sigmask(int how, const sigset_t *restrict set, sigset_t *restrict old) {
    int32_t result = lind(NR_SIGPROCMASK, num(how), at(set), at(old));
    return is_error(result) ? -result : 0;
}

int sigsuspend(const sigset_t *mask) {
    int32_t result = lind(NR_SIGSUSPEND, at(mask), 0);
    __lind_look_for_signals();
    return __lind_answer(result);
}

int pause(void) {
    sigset_t mask;
    return sigprocmask(SIG_BLOCK, NULL, &mask) ? -1 : sigsuspend(&mask);
}

int sigemptyset(sigset_t *set) {
    *set = 0;
    return 0;
}

int sigfillset(sigset_t *set) {
    *set = ~0ull;
    return 0;
}

int sigaddset(sigset_t *set, int signal) {
    if (!is_signal(signal))
        return -1;
    *set |= bit(signal);
    return 0;
}

int sigdelset(sigset_t *set, int signal) {
    if (!is_signal(signal))
        return -1;
    *set &= ~bit(signal);
    return 0;
}

int sigismember(const sigset_t *set, int signal) {
    return is_signal(signal) ? !!(*set & bit(signal)) : -1;
}

int setitimer(int which, const struct itimerval *restrict wanted, struct itimerval *restrict old) {
    int64_t new[4], before[4];
    if (wanted) {
        new[0] = wanted->it_interval.tv_sec;
        new[1] = (int64_t)wanted->it_interval.tv_usec;
        new[2] = wanted->it_value.tv_sec;
        new[3] = (int64_t)wanted->it_value.tv_usec;
    }
    int32_t result =
        lind(NR_SETITIMER, num(which), wanted ? at(new) : 0, old ? at(before) : 0);
    if (!is_error(result) && old)
        *old = (struct itimerval){{before[0], (suseconds_t)before[1]},
                                  {before[2], (suseconds_t)before[3]}};
    return __lind_answer(result);
}

unsigned alarm(unsigned seconds) {
    struct itimerval wanted = {.it_value = {seconds, 0}}, old = {0};
    setitimer(ITIMER_REAL, &wanted, &old);
    // What is left of a second counts as one.
    return (unsigned)old.it_value.tv_sec + (old.it_value.tv_usec > 0);
}
