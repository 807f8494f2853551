//! The command `keys`: makes and shows key files, seals, opens and verifies files.

#![forbid(unsafe_code)]

mod command;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use command::options::{Command, Options};
use command::{Outcome, Wrapping};

/// Exit status for wrong usage.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    manual::on_request(Options::command);
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
        Command::Gen {
            file,
            passphrase,
            passphrase_fd,
            argon2,
        } => {
            let wrapping = if passphrase || passphrase_fd.is_some() {
                Wrapping::Passphrase {
                    fd: passphrase_fd,
                    cost: argon2.unwrap_or_default(),
                }
            } else {
                Wrapping::None
            };
            command::generate(&file, &wrapping)
        }
        Command::Passwd {
            file,
            passphrase_fd,
            new_passphrase_fd,
            remove,
            argon2,
        } => {
            let wrapping = if remove {
                Wrapping::None
            } else {
                Wrapping::Passphrase {
                    fd: new_passphrase_fd,
                    cost: argon2.unwrap_or_default(),
                }
            };
            command::passwd(&file, passphrase_fd, &wrapping)
        }
        Command::Show { file } => command::show(&file),
        Command::Seal {
            keys,
            transfer,
            params,
        } => command::seal(&keys, &transfer, params.into()),
        Command::Open { keys, transfer } => command::open(&keys, &transfer),
        Command::Verify { keys, options } => {
            return finish(command::verify(&keys, &options));
        }
        Command::Recover { keys, options } => {
            return finish(command::recover(&keys, &options));
        }
        Command::Rekey { keys, options } => {
            return finish(command::rekey(&keys, &options));
        }
        Command::Repair { keys, options } => {
            return finish(command::repair(&keys, &options));
        }
    };
    finish(outcome.map(|()| Outcome::Success))
}

fn finish(outcome: anyhow::Result<Outcome>) -> ExitCode {
    match outcome {
        Ok(Outcome::Success) => ExitCode::SUCCESS,
        Ok(Outcome::Failure) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("keys: {error:#}");
            ExitCode::FAILURE
        }
    }
}
