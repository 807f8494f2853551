//! The encryption grate. See `--help`.
fn main() {}
