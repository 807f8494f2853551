//! The wasmtime engine and its settings, the same for every program, so that artifacts fit.

use wasmtime::{Collector, Config, Engine};

/// Native stack that one activation of wasm code may use, in bytes.
pub const WASM_STACK: usize = 2 << 20;

/// Address space for what an instance throws, in bytes.
const THROWN: u64 = 1 << 20;

/// Makes the engine.
///
/// # Errors
/// When this processor lacks what the compiler needs.
pub fn new() -> anyhow::Result<Engine> {
    let mut config = Config::new();
    config
        .shared_memory(true)
        .wasm_threads(true)
        .wasm_simd(true)
        // As `module` has checked them.
        .wasm_multi_memory(false)
        .wasm_memory64(false)
        .wasm_exceptions(true)
        // What is thrown is collected by counting; nothing else is of the engine's heap.
        .wasm_gc(false)
        .wasm_function_references(false)
        .collector(Collector::DeferredReferenceCounting)
        .gc_heap_reservation(THROWN)
        .gc_heap_reservation_for_growth(THROWN)
        .gc_heap_guard_size(1 << 16)
        // A killed cage stops at its next loop head or function entry.
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK)
        // Bounds checks are left to the guard pages around a full 4 GiB reservation.
        .memory_reservation(1 << 32)
        .memory_guard_size(1 << 25);
    Ok(Engine::new(&config)?)
}
