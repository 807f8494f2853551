//! Buffers for what is read, kept from one read to the next: to make and clear one of a mebibyte takes
//! a tenth of the time of reading and opening it.

use std::sync::{Mutex, PoisonError};

/// Buffers that are kept: two a reader, for as many as there are likely to be at one time.
const KEPT: usize = 4;

static BUFFERS: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Lends a buffer of that length, with anything in it.
pub fn with<T>(len: usize, work: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut buffer = lock().pop().unwrap_or_default();
    if buffer.len() < len {
        buffer.resize(len, 0);
    }
    let outcome = work(&mut buffer[..len]);
    let mut buffers = lock();
    if buffers.len() < KEPT {
        buffers.push(buffer);
    }
    outcome
}

fn lock() -> std::sync::MutexGuard<'static, Vec<Vec<u8>>> {
    BUFFERS.lock().unwrap_or_else(PoisonError::into_inner)
}
