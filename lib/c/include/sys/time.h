// What WASI does not have of it.

#include_next <sys/time.h>

#ifndef LIND_SYS_TIME_H
#define LIND_SYS_TIME_H

#ifdef __cplusplus
extern "C" {
#endif

#define ITIMER_REAL 0

struct itimerval {
    struct timeval it_interval, it_value;
};

int setitimer(int, const struct itimerval *__restrict, struct itimerval *__restrict);

#ifdef __cplusplus
}
#endif

#endif
