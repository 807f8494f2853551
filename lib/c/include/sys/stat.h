// What WASI does not have of it.

#include_next <sys/stat.h>

#ifndef LIND_SYS_STAT_H
#define LIND_SYS_STAT_H

#ifdef __cplusplus
extern "C" {
#endif

int chmod(const char *, mode_t);
int fchmod(int, mode_t);
mode_t umask(mode_t);
int fchmodat(int, const char *, mode_t, int);

#ifdef __cplusplus
}
#endif

#endif
