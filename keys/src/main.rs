//! The command `keys`: makes and shows key files, seals, opens and verifies files.

#![forbid(unsafe_code)]

mod command;
mod options;
mod progress;

use std::process::ExitCode;

use clap::Parser;

use options::{Command, Options};

/// Exit status for wrong usage.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            // Help and version come this way too. If they cannot be printed, there is nobody to
            // tell.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let outcome = match options.command {
        Command::Gen { file } => command::generate(&file),
        Command::Show { file } => command::show(&file),
        Command::Seal {
            key,
            transfer,
            params,
        } => command::seal(&key, &transfer, params.into()),
        Command::Open { key, transfer } => command::open(&key, &transfer),
        Command::Verify { key, files } => command::verify(&key, &files),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("keys: {error:#}");
            ExitCode::FAILURE
        }
    }
}
