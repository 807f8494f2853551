//! Tests of the crate from outside.

mod builtins;
mod exact;
mod generate;
mod reference;
mod rule_file;
