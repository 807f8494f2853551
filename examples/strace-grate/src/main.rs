//! Prints the system calls of whatever runs under it, a line each:
//!
//! ```text
//! [3] openat(AT_FDCWD, "/etc/motd", O_RDONLY) = -1 ENOENT (No such file or directory)
//! ```
//!
//! Every call is passed on as it came, so the program notices nothing but the time it takes. The
//! 3i calls (1001 to 1003), by which grates work, are left alone.

mod flags;
mod show;
mod table;

use clap::Parser;
use grate_rs::{Call, Errno, GrateBuilder};
use std::fs::File;
use std::io::{self, Write};
use std::sync::OnceLock;

/// Print the system calls of a program and of all that it starts.
#[derive(Parser)]
#[command(name = "strace-grate")]
struct Options {
    /// Print at most this many bytes of a string
    #[arg(short, long, value_name = "BYTES", default_value_t = 32)]
    string_limit: usize,

    /// Print only these calls (names, separated by commas)
    #[arg(short = 'e', long, value_name = "CALLS", value_delimiter = ',', value_parser = known)]
    trace: Vec<table::Traced>,

    /// Print to a file instead of standard error
    #[arg(short, long, value_name = "FILE")]
    output: Option<String>,

    /// The program to run, then its arguments
    #[arg(
        value_name = "PROGRAM",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    program: Vec<String>,
}

/// Exit status for a wrong command line.
const USAGE: i32 = 64;

fn known(name: &str) -> Result<table::Traced, String> {
    table::traced()
        .find(|call| call.entry.name == name)
        .ok_or_else(|| format!("there is no call {name:?}"))
}

/// What handlers have to know; set before there are any.
struct Settings {
    string_limit: usize,
    output: Option<File>,
}

static SETTINGS: OnceLock<Settings> = OnceLock::new();

fn main() {
    let options = Options::try_parse().unwrap_or_else(|error| {
        let _ = error.print();
        std::process::exit(if error.use_stderr() { USAGE } else { 0 })
    });
    let output = options.output.map(|path| {
        File::create(&path).unwrap_or_else(|error| {
            eprintln!("strace-grate: {path}: {error}");
            std::process::exit(1)
        })
    });
    let _ = SETTINGS.set(Settings {
        string_limit: options.string_limit,
        output,
    });
    let traced: Vec<table::Traced> = if options.trace.is_empty() {
        table::traced().collect()
    } else {
        options.trace
    };
    let grate = GrateBuilder::new();
    let grate = traced.into_iter().fold(grate, |grate, call| {
        grate.register(call.entry.nr.into(), call.handler)
    });
    grate.run(options.program);
}

/// Serves every call: shows what goes in, passes it on, shows what came out.
fn trace(call: &Call) -> Result<i32, Errno> {
    let (Some(entry), Some(settings)) = (calls::entry(call.nr), SETTINGS.get()) else {
        return call.forward(call.caller());
    };
    let caller = call.caller();
    let limit = settings.string_limit;
    // What goes in is read before the call, which may change it.
    let before: Vec<Option<String>> = (0..entry.args.len())
        .map(|index| show::going_in(call, entry, index, limit))
        .collect();
    if entry.result == calls::Outcome::Never {
        settings.print(&format!(
            "[{caller}] {}({}) = ?\n",
            entry.name,
            show::list(before)
        ));
        return call.forward(caller);
    }
    let result = call.forward(caller);
    let args = before.into_iter().enumerate().map(|(index, shown)| {
        shown.or_else(|| Some(show::coming_out(call, entry, index, result, limit)))
    });
    let args = show::list(args);
    let result_shown = show::result(entry.result, result);
    settings.print(&format!(
        "[{caller}] {}({args}) = {result_shown}\n",
        entry.name
    ));
    result
}

impl Settings {
    /// Prints a line in one write, so that the lines of several cages do not mix. A line that
    /// cannot be printed is lost: the program must not notice.
    fn print(&self, line: &str) {
        let _ = match &self.output {
            Some(file) => (&*file).write_all(line.as_bytes()),
            None => io::stderr().write_all(line.as_bytes()),
        };
    }
}
