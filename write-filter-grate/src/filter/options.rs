//! The command line.

use clap::Parser;

/// Let a program write to log files only.
///
/// Writing to a regular file whose name does not end in a permitted extension fails with EPERM;
/// opening and reading it do not. Standard streams, pipes, sockets and terminals can be written.
/// Options of the grate come first, then the program with its own:
///
///   lind-wasm write-filter-grate.cwasm --allow-ext log --allow-ext txt prog.cwasm ARGS...
#[derive(Parser, Debug)]
#[command(name = "write-filter-grate", version)]
pub struct Options {
    /// Permit files whose name ends in .EXT (repeatable), instead of .log; with or without the
    /// dot, case matters
    #[arg(long, value_name = "EXT", default_value = "log", value_parser = extension)]
    pub allow_ext: Vec<String>,

    /// Say on standard error what was refused
    #[arg(long)]
    pub verbose: bool,

    /// The program, then its arguments
    #[arg(value_name = "PROGRAM", required = true, trailing_var_arg = true)]
    pub program: Vec<String>,
}

/// An extension with its dot.
fn extension(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix('.').unwrap_or(text);
    if bare.is_empty() || bare.contains('/') {
        return Err("must be the end of a file name, such as log".to_owned());
    }
    Ok(format!(".{bare}"))
}

/// The ends of the names that may be written.
#[derive(Debug)]
pub struct Extensions(Vec<String>);

impl Extensions {
    /// From the command line.
    pub fn new(with_dots: Vec<String>) -> Self {
        Self(with_dots)
    }

    /// Whether the last part of a path has one of them.
    pub fn permit(&self, path: &[u8]) -> bool {
        let name = super::names::last_part(path);
        self.0.iter().any(|end| name.ends_with(end.as_bytes()))
    }
}

/// Reads the command line; ends the run with 64 where it is wrong.
pub fn parse() -> Options {
    const USAGE: i32 = 64;
    Options::try_parse().unwrap_or_else(|error| {
        let _ = error.print();
        std::process::exit(if error.use_stderr() { USAGE } else { 0 })
    })
}
