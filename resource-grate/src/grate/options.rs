//! The command line.

use clap::Parser;
use resource_grate::limits::{Limits, MOST_BYTES, is_name};
use std::fs::File;
use std::io::Read;

/// Limit what a program reads, writes, sends, opens and starts, and on which ports.
///
/// The limits stand in a file, a line each, such as `resource filewrite 50000`, or in options. All
/// cages of the program share them. Options of the grate come first, then the program with its own:
///
///   lind-wasm resource-grate.cwasm --limits /limits prog.cwasm ARGS...
///   lind-wasm resource-grate.cwasm --limit 'filewrite 50000' prog.cwasm ARGS...
#[derive(Parser, Debug)]
#[command(name = "resource-grate", version)]
pub struct Options {
    /// The file of limits
    #[arg(long, value_name = "FILE", required_unless_present = "limit")]
    pub limits: Option<String>,

    /// A limit, as a line of the file has it behind its first word (repeatable)
    #[arg(long, value_name = "NAME VALUE")]
    pub limit: Vec<String>,

    /// Do not limit this resource, whatever the file says of it (repeatable)
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub skip: Vec<String>,

    /// The program, then its arguments
    #[arg(value_name = "PROGRAM", required = true, trailing_var_arg = true)]
    pub program: Vec<String>,
}

fn name(text: &str) -> Result<String, String> {
    if is_name(text) {
        Ok(text.to_owned())
    } else {
        Err("is the name of no resource".to_owned())
    }
}

impl Options {
    /// Reads the limits.
    ///
    /// # Errors
    /// A line that names the file, and its line, or the option, and says what to do.
    pub fn limits(&self) -> Result<Limits, String> {
        let mut limits = match &self.limits {
            Some(path) => self.read(path)?,
            None => Limits::default(),
        };
        for limit in &self.limit {
            let line = format!("resource {limit}");
            let added = limits.add(line.as_bytes(), &self.skip);
            added.map_err(|what| format!("--limit {limit:?}: {what}"))?;
        }
        Ok(limits)
    }

    fn read(&self, path: &str) -> Result<Limits, String> {
        let mut text = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MOST_BYTES as u64 + 1).read_to_end(&mut text))
            .map_err(|error| {
                format!("{path}: cannot be read: {error}; name a file inside the root that can be")
            })?;
        Limits::parse(&text, &self.skip).map_err(|wrong| format!("{path}:{wrong}"))
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
