// What a finished module's own instructions for the size of its memory become: it lies below this
// library, and grows above it, where the cage's break is.

#include "../src/lind.h"

#include <unistd.h>

enum { PAGE = 65536 };

// Where the library begins, which is where the module's memory ends at first.
extern char __global_base;
static uint32_t end;

static uint32_t size(void) { return end ? end : (uint32_t)(uintptr_t)&__global_base / PAGE; }

int32_t __lind_memory_size(void) { return (int32_t)size(); }

int32_t __lind_memory_grow(uint32_t pages) {
    if (pages == 0)
        return (int32_t)size();
    if (pages > INT32_MAX / PAGE)
        return -1;
    void *block = sbrk((intptr_t)(pages * PAGE));
    if (block == (void *)-1)
        return -1;
    uint32_t first = (uint32_t)(uintptr_t)block / PAGE;
    end = first + pages;
    return (int32_t)first;
}
