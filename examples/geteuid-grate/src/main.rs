//! geteuid-grate
fn main() {}
