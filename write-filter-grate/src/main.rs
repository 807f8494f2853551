//! write-filter-grate
fn main() {}
