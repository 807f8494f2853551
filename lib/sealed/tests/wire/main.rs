//! Tests of sealed connections from outside: two ends joined in memory, and who sits between.

mod datagrams;
mod entry;
mod exchange;
mod hostile;
mod memory;
mod support;
mod tamper;
mod vectors;
