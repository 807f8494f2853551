//! strace-grate
fn main() {}
