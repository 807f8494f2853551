//! Tests of the crate from outside: fixed vectors, hostile input.

mod copies;
mod entry;
mod hostile;
mod neighbours;
mod nonces;
mod remains;
mod salvage;
mod support;
mod tamper;
mod trees;
mod vectors;
