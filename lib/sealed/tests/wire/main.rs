//! Tests of sealed connections from outside: two ends joined in memory, and who sits between.

mod datagrams;
mod exchange;
mod support;
mod tamper;
