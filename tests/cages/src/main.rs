//! cages
fn main() {}
