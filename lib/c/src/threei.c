// The 3i calls.

#include "lind.h"

#include <errno.h>
#include <lind_syscall.h>

static int own_call(unsigned nr, uint64_t a1, uint64_t a1cage, uint64_t a2, uint64_t a2cage,
                    uint64_t a3, uint64_t a4) {
    uint64_t own = __lind_own();
    return __lind_gate(nr, 0, own, own, a1, a1cage, a2, a2cage, a3, NOTUSED, a4, NOTUSED, NOTUSED,
                       NOTUSED, NOTUSED, NOTUSED);
}

int register_handler(int64_t cage, uint64_t nr, uint64_t grate, uint64_t handler) {
    return own_call(NR_REGISTER_HANDLER, (uint64_t)cage, nr, NOTUSED, grate, handler, NOTUSED);
}

static uint64_t placed(uint64_t address, uint64_t cage) {
    return cage == __lind_own() ? address + __lind_base() : address;
}

int copy_data_between_cages(uint64_t this_cage, uint64_t target, uint64_t from, uint64_t from_cage,
                            uint64_t to, uint64_t to_cage, uint64_t len, uint64_t type) {
    (void)this_cage;
    (void)target;
    int result = own_call(NR_COPY_DATA, placed(from, from_cage), from_cage, placed(to, to_cage),
                          to_cage, len, type);
    // A copy answers the low half of where it went, which can look like an error of Linux.
    return result == ELINDAPIABORTED || result == ELINDESRCH ? result : 0;
}

int cp_data(uint64_t this_cage, uint64_t target, uint64_t from, uint64_t from_cage, uint64_t to,
            uint64_t to_cage, uint64_t len, uint64_t type) {
    return copy_data_between_cages(this_cage, target, from, from_cage, to, to_cage, len, type);
}

int copy_handler_table_to_cage(uint64_t source, uint64_t target) {
    return own_call(NR_COPY_HANDLER_TABLE, source, target, NOTUSED, NOTUSED, NOTUSED, NOTUSED);
}

// An argument whose cage has the flag lies in this cage.
static uint64_t flagged(uint64_t value, uint64_t cage) {
    bool ours = cage & GRATE_MEMORY_FLAG && (cage & ~GRATE_MEMORY_FLAG) == __lind_own();
    return ours ? value + __lind_base() : value;
}

static bool unwinds(unsigned nr) {
    return nr == NR_CLONE || nr == NR_EXECVE || nr == NR_EXIT || nr == NR_EXIT_GROUP;
}

int make_threei_call(unsigned nr, uint64_t name, uint64_t self, uint64_t target, uint64_t a1,
                     uint64_t a1cage, uint64_t a2, uint64_t a2cage, uint64_t a3, uint64_t a3cage,
                     uint64_t a4, uint64_t a4cage, uint64_t a5, uint64_t a5cage, uint64_t a6,
                     uint64_t a6cage, int translate_errno) {
    const uint64_t id = ~GRATE_MEMORY_FLAG;
    int result = -38;
    // There are fork, exec and exit for what would unwind this cage itself.
    if (self != target || !unwinds(nr))
        result = __lind_gate(nr, name, self, target, flagged(a1, a1cage), a1cage & id,
                             flagged(a2, a2cage), a2cage & id, flagged(a3, a3cage), a3cage & id,
                             flagged(a4, a4cage), a4cage & id, flagged(a5, a5cage), a5cage & id,
                             flagged(a6, a6cage), a6cage & id);
    return translate_errno ? __lind_answer(result) : result;
}

int lind_call(unsigned nr, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5,
              uint64_t a6) {
    return unwinds(nr) ? -38 : __lind_call6(nr, a1, a2, a3, a4, a5, a6);
}

uint64_t lind_address(const void *pointer) { return at(pointer); }
uint64_t lind_get_cage_id(void) { return __lind_own(); }
uint64_t lind_get_memory_base(void) { return __lind_base(); }

// The question of lib/grate-rs/src/order.rs: fcntl of no descriptor, with a command that there is not.
int lind_changes_data(uint64_t grate, uint64_t a1, uint64_t a1cage, uint64_t a2, uint64_t a2cage,
                      uint64_t a3, uint64_t a3cage, uint64_t a4, uint64_t a4cage, uint64_t a5,
                      uint64_t a5cage, uint64_t a6, uint64_t a6cage) {
    enum { FCNTL = 72, CHANGES = 0x5ea1 };
    if ((int)a1 == -1 && (int)a2 == CHANGES)
        return CHANGES;
    return make_threei_call(FCNTL, 0, grate, a2cage, a1, a1cage, a2, a2cage, a3, a3cage, a4,
                            a4cage, a5, a5cage, a6, a6cage, 0);
}
