// Sleeping: the libc's goes on after a signal, as if there were none.

#include "lind.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

// The libc names a clock by the address of an object, whose first word is the number.
static uint64_t number(clockid_t clock) { return *(const uint32_t *)(const void *)clock; }

static int32_t slept(clockid_t clock, int flags, const struct timespec *wanted,
                     struct timespec *left) {
    struct kernel_time time = {wanted->tv_sec, wanted->tv_nsec}, rest = {0, 0};
    int32_t result = lind(NR_CLOCK_NANOSLEEP, number(clock), num(flags), at(&time), at(&rest));
    __lind_look_for_signals();
    enum { LINUX_EINTR = 4 };
    if (result == -LINUX_EINTR && left)
        *left = (struct timespec){rest.seconds, (long)rest.nanoseconds};
    return result;
}

// This one answers the error.
int clock_nanosleep(clockid_t clock, int flags, const struct timespec *wanted,
                    struct timespec *left) {
    int32_t result = slept(clock, flags, wanted, left);
    return is_error(result) ? -result : 0;
}

int nanosleep(const struct timespec *wanted, struct timespec *left) {
    return __lind_answer(slept(CLOCK_REALTIME, 0, wanted, left));
}

unsigned sleep(unsigned seconds) {
    struct timespec wanted = {seconds, 0}, left;
    return nanosleep(&wanted, &left) ? (unsigned)left.tv_sec + (left.tv_nsec > 0) : 0;
}

int usleep(unsigned micros) {
    struct timespec wanted = {micros / 1000000, (long)(micros % 1000000) * 1000};
    return nanosleep(&wanted, NULL);
}
