// Memory from the kernel. The numbers are in the libc's, behind this.

#ifndef _WASI_EMULATED_MMAN
#define _WASI_EMULATED_MMAN
#endif
#include_next <sys/mman.h>

#ifndef LIND_SYS_MMAN_H
#define LIND_SYS_MMAN_H

#ifdef __cplusplus
extern "C" {
#endif

int mprotect(void *, size_t, int);

#ifdef __cplusplus
}
#endif

#endif
