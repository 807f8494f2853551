//! Tests of the crate from outside.

mod binary;
mod builtins;
mod clean;
mod entry;
mod exact;
mod generate;
mod hostile;
mod letting_go;
mod reference;
mod rule_file;

#[path = "../../benches/logs/mod.rs"]
mod logs;
