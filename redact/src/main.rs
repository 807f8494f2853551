//! The command `redact`: masks secrets in a stream, in files, and in what another command prints.

mod options;
mod outlet;
mod report;
mod rules;
mod run;
mod show;
mod terminal;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use options::{Command, Options};

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
            return match error.use_stderr() {
                true => ExitCode::from(USAGE),
                false => ExitCode::SUCCESS,
            };
        }
    };
    let outcome = match &options.command {
        Some(Command::Check { files }) => show::check(&options.rules, files),
        Some(Command::Explain { files }) => show::explain(&options.rules, files),
        Some(Command::List { names }) => show::list(names),
        None if !options.program.is_empty() => run::program(&options),
        None => run::files(&options),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("redact: {error:#}");
        ExitCode::FAILURE
    })
}
