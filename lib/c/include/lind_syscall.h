// The 3i calls, under the names that Lind's libc gives them, and what a grate uses beside them.

#ifndef LIND_SYSCALL_H
#define LIND_SYSCALL_H

#include <stdint.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#endif

// Set in the cage of an argument: the argument is an address in the caller's own memory.
#define GRATE_MEMORY_FLAG (1ull << 63)
// What is passed for an argument that a call does not have.
#define NOTUSED 0xdeadbeefdeadbeefull
// What the calls answer, as negative ints: refused, and a cage is gone.
#define ELINDAPIABORTED ((int)0xE0010001u)
#define ELINDESRCH ((int)0xE0010002u)

// A handler: the grate's own id, then six arguments, each with the cage that it belongs to. The
// result is what the calling cage gets, errors as negated errno of Linux.
typedef int lind_handler(uint64_t grate, uint64_t a1, uint64_t a1cage, uint64_t a2, uint64_t a2cage,
                         uint64_t a3, uint64_t a3cage, uint64_t a4, uint64_t a4cage, uint64_t a5,
                         uint64_t a5cage, uint64_t a6, uint64_t a6cage);

// Where the runtime enters a grate: calls the function of that index of the table. A grate that
// defines none has one that calls a `lind_handler`. One of its own may have all fourteen arguments,
// the first of them, or the first of them and `...`; that one is to be declared before it is used.

// Lets the function `handler` of `grate` serve the call `nr` of `cage`. 0, or a negative number.
int register_handler(int64_t cage, uint64_t nr, uint64_t grate, uint64_t handler);

// The handler of fcntl (72) for a grate that changes what programs write: it says so to grates inside
// that ask, so that none seals what would be changed, and passes all else on.
lind_handler lind_changes_data;

// Copies `len` bytes (type 0), or a string of at most `len` with its NUL (type 1), from an address
// of one cage to an address of another. Pointers of the caller go with its own id. Negative if an
// address is not that cage's. `this_cage` and `target` are not used.
int copy_data_between_cages(uint64_t this_cage, uint64_t target, uint64_t from, uint64_t from_cage,
                            uint64_t to, uint64_t to_cage, uint64_t len, uint64_t type);
int cp_data(uint64_t this_cage, uint64_t target, uint64_t from, uint64_t from_cage, uint64_t to,
            uint64_t to_cage, uint64_t len, uint64_t type);

// Gives `target` the handler table of `source`.
int copy_handler_table_to_cage(uint64_t source, uint64_t target);

// Makes a call on behalf of `target`; `self` is the caller's id, whose handlers count. With
// `translate_errno` an error is -1 and in errno, else a negated errno of Linux. `name` is not used.
int make_threei_call(unsigned nr, uint64_t name, uint64_t self, uint64_t target, uint64_t a1,
                     uint64_t a1cage, uint64_t a2, uint64_t a2cage, uint64_t a3, uint64_t a3cage,
                     uint64_t a4, uint64_t a4cage, uint64_t a5, uint64_t a5cage, uint64_t a6,
                     uint64_t a6cage, int translate_errno);

// A call of the caller's own, by number. Pointers are passed as `lind_address` gives them. The
// result is a negated errno of Linux for an error.
int lind_call(unsigned nr, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5,
              uint64_t a6);
uint64_t lind_address(const void *pointer);

// The caller's id, which is its pid, and the address of its offset 0.
uint64_t lind_get_cage_id(void);
uint64_t lind_get_memory_base(void);

#ifdef __cplusplus
}
#endif

#endif
