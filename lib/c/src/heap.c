// The heap: the libc's dlmalloc, which asks `sbrk` for memory and knows of no threads. The linker
// turns every call of its functions into one of these (`--wrap`).

#include "lind.h"

#include <errno.h>

static struct lind_lock heap;

void __lind_hold_heap(void) { __lind_take(&heap); }
void __lind_give_heap(void) { __lind_give(&heap); }

#define LOCKED(type, name, parameters, arguments, then)                                            \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters {                                                                \
        __lind_take(&heap);                                                                        \
        type result = __real_##name arguments;                                                     \
        __lind_give(&heap);                                                                        \
        then return result;                                                                        \
    }
// The allocator does not say so where a size is larger than any memory.
#define BLOCK(name, parameters, arguments)                                                         \
    LOCKED(void *, name, parameters, arguments, if (!result) errno = ENOMEM;)

BLOCK(malloc, (size_t size), (size))
BLOCK(__libc_malloc, (size_t size), (size))
BLOCK(calloc, (size_t count, size_t size), (count, size))
BLOCK(__libc_calloc, (size_t count, size_t size), (count, size))
BLOCK(realloc, (void *block, size_t size), (block, size))
BLOCK(aligned_alloc, (size_t align, size_t size), (align, size))
LOCKED(int, posix_memalign, (void **out, size_t align, size_t size), (out, align, size),
       if (result) result = __lind_linux_errno(result);)

void __real_free(void *block);
void __wrap_free(void *block) {
    __lind_take(&heap);
    __real_free(block);
    __lind_give(&heap);
}

void __real___libc_free(void *block);
void __wrap___libc_free(void *block) {
    __lind_take(&heap);
    __real___libc_free(block);
    __lind_give(&heap);
}
