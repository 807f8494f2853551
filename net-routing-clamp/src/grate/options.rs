//! The command line.

use clap::Parser;
use std::ops::RangeInclusive;

/// Exit status for a wrong command line.
pub const USAGE: i32 = 64;

/// Let the grates inside see the sockets of some ports, and nothing else.
///
/// What a program does with sockets that are bound or connected to one of the ports goes through
/// the grates between the braces; everything else goes past them. Options of the clamp come first:
///
///   lind-wasm net-routing-clamp.cwasm --port 8000-8010 %{ crypt-grate.cwasm --key /k.bin %} prog.cwasm
#[derive(Parser, Debug)]
#[command(name = "net-routing-clamp", version)]
pub struct Options {
    /// A port, or two as in 8000-8010 (repeatable)
    #[arg(long, alias = "ports", value_name = "N[-M]", required = true, value_parser = range)]
    pub port: Vec<RangeInclusive<u16>>,

    /// %{ GRATE... %} PROGRAM, each with its own options
    #[arg(
        value_name = "%{ GRATE... %} PROGRAM",
        required = true,
        trailing_var_arg = true
    )]
    pub words: Vec<String>,
}

fn range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if 0 < first && first <= last => Ok(first..=last),
        _ => Err("must be a port from 1 to 65535, or two as in 8000-8010".to_owned()),
    }
}

/// Reads the command line; ends the run with 64 where it is wrong.
pub fn parse() -> Options {
    Options::try_parse().unwrap_or_else(|error| {
        let _ = error.print();
        std::process::exit(if error.use_stderr() { USAGE } else { 0 })
    })
}
