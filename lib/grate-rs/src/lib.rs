//! grate-rs
