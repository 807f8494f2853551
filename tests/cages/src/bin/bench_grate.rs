//! `bench_grate PROGRAM ARGS...`: a grate whose pwrite copies the program's bytes, 4 KiB at most, to itself, and whose pread copies
//! as many of its own to the program. Nothing else is done with them. For `bench_call in` and `out`.

use cage_libc as _;
use grate_rs::constants::{SYS_PREAD, SYS_PWRITE};
use grate_rs::{Call, Errno, GrateBuilder, handler};
use std::sync::Mutex;

const MOST: usize = 4096;

static BYTES: Mutex<[u8; MOST]> = Mutex::new([7; MOST]);

fn with_bytes(
    call: &Call,
    copy: impl FnOnce(&mut [u8]) -> Result<(), Errno>,
) -> Result<i32, Errno> {
    let len = call.size(2).min(MOST as u64) as usize;
    let mut bytes = BYTES.lock().unwrap_or_else(|e| e.into_inner());
    copy(&mut bytes[..len])?;
    Ok(len as i32)
}

handler!(pread, SYS_PREAD, |call: &Call| with_bytes(call, |bytes| {
    call.place(1).write(bytes)
}));
handler!(pwrite, SYS_PWRITE, |call: &Call| with_bytes(
    call,
    |bytes| { call.place(1).read_into(bytes) }
));

fn main() {
    GrateBuilder::new()
        .register(SYS_PREAD, pread)
        .register(SYS_PWRITE, pwrite)
        .run(std::env::args().skip(1).collect());
}
