//! The command line.

use clap::Parser;

/// Exit status for a wrong command line.
pub const USAGE: i32 = 64;

/// Let the grates inside see the files below one folder, and nothing else.
///
/// What a program does with paths below the prefix, and with descriptors opened there, goes
/// through the grates between the braces; everything else goes past them. Options of the clamp
/// come first:
///
///   lind-wasm fs-routing-clamp.cwasm --prefix /vault %{ crypt-grate.cwasm --key /k.bin %} prog.cwasm
#[derive(Parser, Debug)]
#[command(name = "fs-routing-clamp", version)]
pub struct Options {
    /// The folder, as an absolute path
    #[arg(long, value_name = "PATH", value_parser = absolute)]
    pub prefix: String,

    /// %{ GRATE... %} PROGRAM, each with its own options
    #[arg(
        value_name = "%{ GRATE... %} PROGRAM",
        required = true,
        trailing_var_arg = true
    )]
    pub words: Vec<String>,
}

fn absolute(text: &str) -> Result<String, String> {
    match text.starts_with('/') {
        true => Ok(text.to_owned()),
        false => Err("must begin with a slash".to_owned()),
    }
}

/// Reads the command line; ends the run with 64 where it is wrong.
pub fn parse() -> Options {
    Options::try_parse().unwrap_or_else(|error| {
        let _ = error.print();
        std::process::exit(if error.use_stderr() { USAGE } else { 0 })
    })
}
