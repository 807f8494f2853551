//! Tests of the crate from outside: fixed vectors, tampering, hostile input.

mod entry;
mod hostile;
mod support;
mod tamper;
mod vectors;
