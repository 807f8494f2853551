// What WASI does not have of it.

#include_next <stdlib.h>

#ifndef LIND_STDLIB_H
#define LIND_STDLIB_H

#ifdef __cplusplus
extern "C" {
#endif

int mkstemp(char *);

#ifdef __cplusplus
}
#endif

#endif
