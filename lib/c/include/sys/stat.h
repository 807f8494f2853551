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
int mkfifo(const char *, mode_t);
int mknod(const char *, mode_t, dev_t);

#ifdef __cplusplus
}
#endif

#endif
