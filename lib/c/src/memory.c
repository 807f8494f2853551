// Memory from the kernel, beside the heap.

#include "lind.h"

#include <sys/mman.h>

void *mmap(void *hint, size_t len, int prot, int flags, int fd, off_t offset) {
    // It takes and answers offsets, not addresses.
    int32_t result = lind(NR_MMAP, (uintptr_t)hint, len, num(prot), num(flags), num(fd),
                          (uint64_t)offset);
    if (is_error(result)) {
        __lind_answer(result);
        return MAP_FAILED;
    }
    return (void *)(uintptr_t)(uint32_t)result;
}

int munmap(void *block, size_t len) { return __lind_answer(lind(NR_MUNMAP, at(block), len)); }

int mprotect(void *block, size_t len, int prot) {
    return __lind_answer(lind(NR_MPROTECT, at(block), len, num(prot)));
}
