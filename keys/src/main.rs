//! keys
fn main() {}
