//! Prints the system calls of whatever runs under it, a line each:
//!
//! ```text
//! [3] openat(AT_FDCWD, "/etc/motd", O_RDONLY) = -1 ENOENT (No such file or directory)
//! ```
//!
//! Every call is passed on as it came, so the program notices nothing but the time it takes. The
//! 3i calls (1001 to 1003), by which grates work, are left alone.

use clap::Parser;
use grate_rs::calls::{self, Entry};
use grate_rs::show::Shown;
use grate_rs::{Call, Errno, GrateBuilder, SyscallHandler, handlers_of_all};
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
    trace: Vec<u32>,

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

handlers_of_all!(HANDLERS: trace);

/// What is traced: every call that reaches the kernel, and so none of those by which grates work.
fn traced() -> impl Iterator<Item = (&'static Entry, SyscallHandler)> {
    let all = HANDLERS.iter();
    all.filter_map(|&(nr, handler)| Some((calls::entry(nr)?, handler)))
        .filter(|(entry, _)| entry.nr < calls::REGISTER_HANDLER || entry.nr == calls::LLSEEK)
}

fn known(name: &str) -> Result<u32, String> {
    let found = traced().find(|(entry, _)| entry.name == name);
    found
        .map(|(entry, _)| entry.nr)
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
    let chosen = options.trace;
    traced()
        .filter(|(entry, _)| chosen.is_empty() || chosen.contains(&entry.nr))
        .fold(GrateBuilder::new(), |grate, (entry, handler)| {
            grate.register(entry.nr.into(), handler)
        })
        .run(options.program)
}

/// Serves every call: shows what goes in, passes it on, shows what came out.
fn trace(call: &Call) -> Result<i32, Errno> {
    let caller = call.caller();
    let Some(settings) = SETTINGS.get() else {
        return call.forward(caller);
    };
    // What goes in is read here, before the call.
    match Shown::new(call, settings.string_limit) {
        Some(shown) if shown.is_last() => {
            settings.print(caller, &shown.without_result());
            call.forward(caller)
        }
        Some(shown) => {
            let result = call.forward(caller);
            settings.print(caller, &shown.with_result(result));
            result
        }
        None => call.forward(caller),
    }
}

impl Settings {
    /// Prints a line in one write, so that the lines of several cages do not mix. A line that
    /// cannot be printed is lost: the program must not notice.
    fn print(&self, caller: u64, line: &str) {
        let line = format!("[{caller}] {line}\n");
        let _ = match &self.output {
            Some(file) => (&*file).write_all(line.as_bytes()),
            None => io::stderr().write_all(line.as_bytes()),
        };
    }
}
