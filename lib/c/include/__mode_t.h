// The types of files in Linux's numbers: WASI's has one for two of them.

#include_next <__mode_t.h>

#undef S_IFMT
#define S_IFMT (0xf000)
#undef S_IFIFO
#define S_IFIFO (0x1000)
