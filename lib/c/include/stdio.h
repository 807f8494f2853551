// What WASI does not have of it.

#include_next <stdio.h>

#ifndef LIND_STDIO_H
#define LIND_STDIO_H

#ifdef __cplusplus
extern "C" {
#endif

#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE 2

int renameat2(int, const char *, int, const char *, unsigned);

#ifdef __cplusplus
}
#endif

#endif
