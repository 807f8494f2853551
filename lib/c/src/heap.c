// The heap: the libc's dlmalloc, which asks `sbrk` for memory and knows of no threads. The linker
// turns every call of its functions into one of these (`--wrap`).

#include "lind.h"

#include <errno.h>
#include <unistd.h>

enum { PAGE = 65536 };

// The memory of a cage does not grow by memory.grow; its break moves by a call.
void *sbrk(intptr_t by) {
    static uint32_t end;
    if (!end) {
        // The result can be beyond 2 GiB, which is no error.
        int32_t start = lind(NR_BRK, 0);
        if (is_error(start))
            goto full;
        end = ((uint32_t)start + PAGE - 1) & -(uint32_t)PAGE;
    }
    if (by == 0)
        return (void *)(uintptr_t)end;
    // Lind's goes wrong from 2 GiB on.
    uint64_t wanted = (uint64_t)end + (uint64_t)by;
    if (by < 0 || wanted > INT32_MAX)
        goto full;
    int32_t got = lind(NR_BRK, wanted);
    if (is_error(got) || (uint32_t)got < wanted)
        goto full;
    void *block = (void *)(uintptr_t)end;
    end = (uint32_t)wanted;
    return block;
full:
    errno = ENOMEM;
    return (void *)-1;
}

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
LOCKED(int, posix_memalign, (void **out, size_t align, size_t size), (out, align, size), )

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
