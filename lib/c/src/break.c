// Memory for heaps: the memory of a cage does not grow by memory.grow, its break moves by a call.

#include "lind.h"

#include <errno.h>
#include <unistd.h>

enum { PAGE = 65536 };

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
