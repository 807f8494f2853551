//! `show FILE`: prints a file.

use cage_libc as _;
use std::fs::File;
use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: show FILE");
        return ExitCode::from(64);
    };
    let shown = File::open(&path).and_then(|mut file| io::copy(&mut file, &mut io::stdout()));
    match shown {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("show: {path}: {}", error.kind());
            ExitCode::FAILURE
        }
    }
}
