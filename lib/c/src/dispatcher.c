// The dispatcher of a grate that has none of its own: it calls handlers of all thirteen arguments.

#include <lind_syscall.h>

int pass_fptr_to_wt(uint64_t handler, uint64_t grate, uint64_t a1, uint64_t a1cage, uint64_t a2,
                    uint64_t a2cage, uint64_t a3, uint64_t a3cage, uint64_t a4, uint64_t a4cage,
                    uint64_t a5, uint64_t a5cage, uint64_t a6, uint64_t a6cage) {
    // The engine checks index and type of an indirect call: a wrong one traps.
    lind_handler *call = (lind_handler *)(uintptr_t)handler;
    return call(grate, a1, a1cage, a2, a2cage, a3, a3cage, a4, a4cage, a5, a5cage, a6, a6cage);
}
