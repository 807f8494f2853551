//! Times the round trip of geteuid: `bench_call [CALLS]`. Prints the nanoseconds of one call, and
//! what it answers.

use std::process::ExitCode;
use std::time::Instant;

use cage_libc::sys;

const GETEUID: u32 = 107;

fn main() -> ExitCode {
    let calls = std::env::args().nth(1).unwrap_or("2000000".to_owned());
    let Some(calls) = calls.parse().ok().filter(|calls| *calls > 0u32) else {
        eprintln!("usage: bench_call [CALLS]");
        return ExitCode::from(64);
    };
    let mut answer = Ok(0);
    let start = Instant::now();
    for _ in 0..calls {
        // SAFETY: no arguments.
        answer = unsafe { sys::syscall(GETEUID, &[]) };
    }
    let took = start.elapsed();
    match answer {
        Ok(uid) => {
            println!("{:.1} {uid}", took.as_nanos() as f64 / f64::from(calls));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench_call: {error:?}");
            ExitCode::FAILURE
        }
    }
}
