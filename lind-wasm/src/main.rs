//! lind-wasm
fn main() {}
