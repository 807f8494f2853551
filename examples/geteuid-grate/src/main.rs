//! The smallest grate: whatever runs under it gets 10 from geteuid.
//!
//! `lind-wasm geteuid-grate.cwasm PROGRAM ARGS...`

use grate_rs::constants::SYS_GETEUID;
use grate_rs::{Call, Errno, GrateBuilder, handler};

fn geteuid(_call: &Call) -> Result<i32, Errno> {
    Ok(10)
}

handler!(geteuid_handler, SYS_GETEUID, geteuid);

fn main() {
    GrateBuilder::new()
        .register(SYS_GETEUID, geteuid_handler)
        .run(std::env::args().skip(1).collect());
}
