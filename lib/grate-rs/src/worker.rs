//! Where the runtime enters a grate to run a handler.

use crate::SyscallHandler;
use core::arch::{asm, global_asm};
use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};

global_asm!(
    ".globaltype __tls_base, i32",
    ".globaltype __tls_size, i32, immutable",
    ".globaltype __tls_align, i32, immutable",
);

unsafe extern "C" {
    /// Made by the linker: copies the thread-locals' initial values there and takes the place as
    /// this instance's block.
    fn __wasm_init_tls(block: *mut u8);
}

fn tls_base() -> usize {
    let base: usize;
    // SAFETY: reads a global.
    unsafe { asm!("global.get __tls_base", "local.set {}", out(local) base) }
    base
}

fn tls_layout() -> Layout {
    let (size, align): (usize, usize);
    // SAFETY: reads two globals.
    unsafe {
        asm!("global.get __tls_size", "local.set {}", out(local) size);
        asm!("global.get __tls_align", "local.set {}", out(local) align);
    }
    Layout::from_size_align(size.max(1), align.max(16)).unwrap_or(Layout::new::<u128>())
}

/// Gives the instance its own thread-locals, which neither Lind nor our runtime does: without a
/// block they would lie at address 0, shared by all workers and without initial values.
#[cold]
#[inline(never)]
fn init_tls() {
    // The heap works without thread-locals.
    let layout = tls_layout();
    // SAFETY: the layout is not of size 0; the block is never freed, as the worker never ends.
    unsafe {
        let block = alloc_zeroed(layout);
        if block.is_null() {
            handle_alloc_error(layout);
        }
        __wasm_init_tls(block);
    }
}

/// Calls the handler with that function-table index.
#[allow(clippy::too_many_arguments)]
#[unsafe(no_mangle)]
extern "C" fn pass_fptr_to_wt(
    handler: u64,
    grate: u64,
    a1: u64,
    a1cage: u64,
    a2: u64,
    a2cage: u64,
    a3: u64,
    a3cage: u64,
    a4: u64,
    a4cage: u64,
    a5: u64,
    a5cage: u64,
    a6: u64,
    a6cage: u64,
) -> i32 {
    if tls_base() == 0 {
        init_tls();
    }
    // SAFETY: a function pointer is an index into the table. The engine checks index and type of
    // an indirect call, so a wrong one traps.
    let handler: SyscallHandler =
        unsafe { core::mem::transmute::<usize, SyscallHandler>(handler as usize) };
    handler(
        grate, a1, a1cage, a2, a2cage, a3, a3cage, a4, a4cage, a5, a5cage, a6, a6cage,
    )
}
