// Errors in words: the libc's functions know WASI's numbers.

#include_next <string.h>

#ifndef LIND_STRING_H
#define LIND_STRING_H

#ifdef __cplusplus
extern "C" {
#endif

char *strerror(int) __asm__("__lind_strerror");
int strerror_r(int, char *, size_t) __asm__("__lind_strerror_r");

#ifdef __cplusplus
}
#endif

#endif
