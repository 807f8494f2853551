//! Streams, files and programs on their way.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use redact::Place;
use rustix::process::{Pid, Signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::options::Options;
use crate::outlet::{Outlet, Shared};
use crate::report::{Report, To};
use crate::rules;
use crate::terminal::{self, Keeper, Terminal};

/// How long what may begin a secret is held while somebody is typing, who waits for an echo.
const ECHOES: Duration = Duration::from_millis(15);

/// Files smaller than this are done before a bar could be read.
const WORTH_A_BAR: u64 = 64 << 20;

/// Exit status where a command is not found or can't be run, as of shells.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;

fn shared(options: &Options) -> Result<Shared> {
    let rules = rules::all(&options.rules)?;
    Ok(Shared {
        report: Report::new(options.report.as_deref(), &rules)?,
        rules,
        hold: Duration::from_millis(options.hold_ms),
    })
}

fn told(options: &Options, shared: &Shared) {
    if options.verbose {
        eprintln!("redact: {}", shared.report.summary(&shared.rules));
    }
}

/// Prints files, or standard input, redacted.
pub fn files(options: &Options) -> Result<ExitCode> {
    let shared = shared(options)?;
    let filter = shared.rules.filter_of(&shared.rules.at(Place::Stdout));
    if options.files.is_empty() {
        let to = To::Stream("stdin");
        let mut outlet = Outlet::new(&shared, &filter, to, io::stdout().lock());
        ended(outlet.pump(rustix::stdio::stdin(), || shared.hold, |_| {}))?;
    }
    for path in &options.files {
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("{name}: cannot be read"))?;
        let bar = bar(&file);
        let to = To::Path(&name);
        let mut outlet = Outlet::new(&shared, &filter, to, io::stdout().lock());
        let done = outlet.pump(&file, || shared.hold, |len| bar.inc(len as u64));
        bar.finish_and_clear();
        ended(done).with_context(|| name.clone())?;
    }
    told(options, &shared);
    Ok(ExitCode::SUCCESS)
}

/// That nobody reads any more is no failure of ours.
fn ended(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

fn bar(file: &File) -> ProgressBar {
    let len = file.metadata().map_or(0, |data| data.len());
    if len < WORTH_A_BAR || !io::stderr().is_terminal() || io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = "{wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";
    let style = ProgressStyle::with_template(style);
    ProgressBar::new(len).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Where one of the program's streams comes out for us.
struct Way {
    from: OwnedFd,
    name: &'static str,
    is_error: bool,
}

/// Runs a program with its output redacted; answers its exit status.
pub fn program(options: &Options) -> Result<ExitCode> {
    let shared = shared(options)?;
    let mut command = Command::new(&options.program[0]);
    command.args(&options.program[1..]);

    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let [is_in, is_out, is_err] = [
        stdin.is_terminal(),
        stdout.is_terminal(),
        stderr.is_terminal(),
    ];
    let mut ways = Vec::new();
    let mut terminal = None;
    let mut told_by = None;
    if is_out || is_err {
        let (made, theirs) = match is_out {
            true => Terminal::like(&stdout, is_in)?,
            false => Terminal::like(&stderr, is_in)?,
        };
        if is_out {
            command.stdout(Stdio::from(theirs.try_clone()?));
        }
        if is_err {
            command.stderr(Stdio::from(theirs.try_clone()?));
        }
        if is_in {
            command.stdin(Stdio::from(theirs));
            told_by = Some(Keeper::before(&mut command)?);
        }
        ways.push(Way {
            from: made.reader()?,
            name: if is_out { "stdout" } else { "stderr" },
            is_error: !is_out,
        });
        terminal = Some(made);
    }
    if !is_out && !is_err && is_same(&stdout, &stderr) {
        let (from, to) = io::pipe()?;
        command.stdout(to.try_clone()?).stderr(to);
        ways.push(Way {
            from: from.into(),
            name: "stdout",
            is_error: false,
        });
    } else {
        for (is_terminal, is_error) in [(is_out, false), (is_err, true)] {
            if is_terminal {
                continue;
            }
            let (from, to) = io::pipe()?;
            match is_error {
                true => command.stderr(to),
                false => command.stdout(to),
            };
            ways.push(Way {
                from: from.into(),
                name: if is_error { "stderr" } else { "stdout" },
                is_error,
            });
        }
    }
    let spawned = command.spawn();
    // Its ends of pipes and terminals are its own now.
    drop(command);
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            drop(terminal);
            eprintln!(
                "redact: {}: {error}",
                Path::new(&options.program[0]).display()
            );
            return Ok(ExitCode::from(match error.kind() {
                io::ErrorKind::NotFound => NOT_FOUND,
                _ => NOT_RUN,
            }));
        }
    };
    let keeper = told_by.map(Keeper::of).transpose()?;
    let pid = match &keeper {
        Some(keeper) => {
            // Where it watches, they are taken.
            terminal::take_stops(false)?;
            keeper.program()
        }
        None => Pid::from_child(&child),
    };
    let shares_keys = keeper.is_none();
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2])?;
    let handle = signals.handle();
    let is_over = AtomicBool::new(false);
    let status = thread::scope(|scope| -> Result<ExitStatus> {
        scope.spawn(|| {
            for signal in signals.forever() {
                // What a key on the terminal has sent has gone to the program too.
                let is_key = matches!(signal, SIGINT | SIGQUIT);
                if !(is_key && shares_keys && terminal::has_keys())
                    && let Some(signal) = Signal::from_named_raw(signal)
                {
                    let _ = rustix::process::kill_process(pid, signal);
                }
            }
        });
        let terminal = terminal.as_ref();
        if let (Some(terminal), Some(keeper)) = (terminal, keeper) {
            let is_over = &is_over;
            scope.spawn(move || terminal.pass_keys(is_over));
            scope.spawn(move || keeper.watch(terminal));
        }
        let mut threads = Vec::new();
        for way in ways {
            let shared = &shared;
            threads.push(scope.spawn(move || carry(shared, way, terminal)));
        }
        let status = child.wait();
        let results: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        is_over.store(true, Ordering::Relaxed);
        handle.close();
        for result in results {
            match result {
                Ok(result) => ended(result).context("what the command prints is not passed on")?,
                Err(_) => anyhow::bail!("a part of redact has failed"),
            }
        }
        Ok(status?)
    });
    drop(terminal);
    let status = status?;
    told(options, &shared);
    // Shells and make tell a program that a signal ended from one that gave a number.
    status.signal().into_iter().for_each(terminal::end_by);
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    Ok(ExitCode::from(code.unwrap_or(1) as u8))
}

/// Passes on what one of the program's streams carries.
fn carry(shared: &Shared, way: Way, terminal: Option<&Terminal>) -> io::Result<()> {
    let place = match way.is_error {
        true => Place::Stderr,
        false => Place::Stdout,
    };
    let filter = shared.rules.filter_of(&shared.rules.at(place));
    let mut size = None;
    let mut each_moment = || {
        let Some(terminal) = terminal else {
            return shared.hold;
        };
        match way.is_error {
            true => terminal.follow_size(io::stderr(), &mut size),
            false => terminal.follow_size(io::stdout(), &mut size),
        }
        match terminal.is_typed_to() {
            true => ECHOES,
            false => shared.hold,
        }
    };
    let to = To::Stream(way.name);
    let sink: Box<dyn Write> = match way.is_error {
        true => Box::new(io::stderr()),
        false => Box::new(io::stdout()),
    };
    Outlet::new(shared, &filter, to, sink).pump(&way.from, &mut each_moment, |_| {})
}

/// Whether two descriptors lead to one place.
fn is_same(one: impl AsFd, other: impl AsFd) -> bool {
    let of = |fd: &dyn Fn() -> rustix::io::Result<rustix::fs::Stat>| {
        fd().ok().map(|stat| (stat.st_dev, stat.st_ino))
    };
    let (one, other) = (
        of(&|| rustix::fs::fstat(&one)),
        of(&|| rustix::fs::fstat(&other)),
    );
    one.is_some() && one == other
}
