//! `bench_log FROM TO`: writes what is in one file to another, 64 KiB at a time, and prints the
//! nanoseconds that the writing took.

use cage_libc as _;
use std::fs::{self, File};
use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

fn copy(from: &str, to: &str) -> std::io::Result<u128> {
    let log = fs::read(from)?;
    let start = Instant::now();
    let mut file = File::create(to)?;
    for write in log.chunks(64 << 10) {
        file.write_all(write)?;
    }
    drop(file);
    Ok(start.elapsed().as_nanos())
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = args.as_slice() else {
        eprintln!("usage: bench_log FROM TO");
        return ExitCode::from(64);
    };
    match copy(from, to) {
        Ok(nanoseconds) => {
            println!("{nanoseconds}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench_log: {error}");
            ExitCode::FAILURE
        }
    }
}
