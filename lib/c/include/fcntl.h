// Functions with flags of open(2): those of the same names in the libc take WASI's.

#include_next <fcntl.h>

#ifndef LIND_FCNTL_H
#define LIND_FCNTL_H

#ifdef __cplusplus
extern "C" {
#endif

int open(const char *, int, ...) __asm__("__lind_open");
int openat(int, const char *, int, ...) __asm__("__lind_openat");
int fcntl(int, int, ...) __asm__("__lind_fcntl");

#define SYNC_FILE_RANGE_WAIT_BEFORE 1
#define SYNC_FILE_RANGE_WRITE 2
#define SYNC_FILE_RANGE_WAIT_AFTER 4

int sync_file_range(int, off_t, off_t, unsigned);

#ifdef __cplusplus
}
#endif

#endif
