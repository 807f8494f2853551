// Where a program begins and ends, and where the runtime enters a grate.

#include "lind.h"

#include <stdlib.h>

void __wasm_call_ctors(void);
int __main_void(void);
void __wasm_init_tls(void *block);

// The entry. It has a result because Lind's runtime calls it that way, and because a fork returns
// through here while the stack is saved. That it refers to the constructors keeps the linker from
// running them at every call of an export.
int _start(void);
int _start(void) {
    __wasm_call_ctors();
    exit(__main_void());
}

// Called by what the build puts in front of the dispatcher: gives the instance that runs a handler
// its own thread-locals, which neither Lind nor our runtime does. Without a block they would lie at
// address 0, shared by all instances and without initial values.
__attribute__((export_name("__lind_enter"))) void __lind_enter(void) {
    if (__builtin_wasm_tls_base())
        return;
    size_t size = __builtin_wasm_tls_size();
    size_t align = __builtin_wasm_tls_align();
    if (align < 16)
        align = 16;
    // Never freed: the instance never ends.
    void *block = aligned_alloc(align, (size + align) & ~(align - 1));
    if (!block)
        __builtin_trap();
    __wasm_init_tls(block);
    __lind_own_errno();
}
