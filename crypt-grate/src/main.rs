//! crypt-grate
fn main() {}
