//! Says 10 to every geteuid of the programs under it.
//!
//! `lind-wasm NAME.cwasm PROGRAM ARGS...`

use grate_rs::constants::SYS_GETEUID;
use grate_rs::{Call, Errno, GrateBuilder, handler};

/// What it answers is what the program gets. To pass the call on instead, with `cage` the one that
/// made it: `call.forward(cage)`.
fn geteuid(_call: &Call) -> Result<i32, Errno> {
    Ok(10)
}

handler!(geteuid_handler, SYS_GETEUID, geteuid);

fn main() {
    GrateBuilder::new()
        .register(SYS_GETEUID, geteuid_handler)
        .run(std::env::args().skip(1).collect());
}
