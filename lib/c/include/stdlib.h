// What WASI does not have of it.

#include_next <stdlib.h>

#ifndef LIND_STDLIB_H
#define LIND_STDLIB_H

#ifdef __cplusplus
extern "C" {
#endif

int mkstemp(char *);
int mkostemp(char *, int);
char *mkdtemp(char *);
char *realpath(const char *__restrict, char *__restrict);

#ifdef __cplusplus
}
#endif

#endif
