//! Times the round trip of a call: `bench_call [CALLS [in|out]]`. It is geteuid, or with `in` a pwrite, with `out` a pread of 4 KiB,
//! which `bench_grate` serves. Prints the nanoseconds of one call, and what it answers.

use std::process::ExitCode;
use std::time::Instant;

use cage_libc::sys::{self, nr};

const GETEUID: u32 = 107;
const PAGE: usize = 4096;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let calls = args.next().unwrap_or("2000000".to_owned());
    let mut page = [7; PAGE];
    // No descriptor is needed: who serves the calls does not look at it.
    let buffer = [u64::MAX, sys::address(page.as_mut_ptr()), PAGE as u64, 0];
    let (number, args) = match args.next().as_deref() {
        None => (Some(GETEUID), &[][..]),
        Some("in") => (Some(nr::PWRITE), &buffer[..]),
        Some("out") => (Some(nr::PREAD), &buffer[..]),
        Some(_) => (None, &[][..]),
    };
    let calls = calls.parse().ok().filter(|calls| *calls > 0u32);
    let (Some(number), Some(calls)) = (number, calls) else {
        eprintln!("usage: bench_call [CALLS [in|out]]");
        return ExitCode::from(64);
    };
    let mut answer = Ok(0);
    let start = Instant::now();
    for _ in 0..calls {
        // SAFETY: no arguments, or a buffer that is as long as said, and ours to read and write.
        answer = unsafe { sys::syscall(number, args) };
    }
    let took = start.elapsed();
    match answer {
        Ok(answer) => {
            println!("{:.1} {answer}", took.as_nanos() as f64 / f64::from(calls));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench_call: {error:?}");
            ExitCode::FAILURE
        }
    }
}
