//! Streams, files and programs on their way.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use redact::Place;
use rustix::process::{Pid, Signal};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, Termios, Winsize};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::options::Options;
use crate::outlet::{Outlet, Shared};
use crate::report::{Report, To};
use crate::rules;

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
        ended(outlet.pump(rustix::stdio::stdin(), || {}, |_| {}))?;
    }
    for path in &options.files {
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("{name}: cannot be read"))?;
        let bar = bar(&file);
        let to = To::Path(&name);
        let mut outlet = Outlet::new(&shared, &filter, to, io::stdout().lock());
        let done = outlet.pump(&file, || {}, |len| bar.inc(len as u64));
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

/// A terminal of our own that a program is given instead of ours.
struct Terminal {
    ours: OwnedFd,
    theirs: OwnedFd,
    /// While ours passes every key on.
    raw: Option<Raw>,
}

/// How standard input was set before; it is again when this goes, whatever has happened.
struct Raw(Termios);

impl Drop for Raw {
    fn drop(&mut self) {
        let stdin = rustix::stdio::stdin();
        let _ = rustix::termios::tcsetattr(stdin, OptionalActions::Drain, &self.0);
    }
}

impl Terminal {
    fn new() -> Result<Self> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let name = ptsname(&ours, Vec::new())?;
        let flags =
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
        let theirs = rustix::fs::open(name.as_c_str(), flags, rustix::fs::Mode::empty())?;
        Ok(Self {
            ours,
            theirs,
            raw: None,
        })
    }

    /// Makes it as ours is; ours passes every key on from then on, if it is read.
    fn imitate(&mut self, terminal: impl AsFd, is_read: bool) -> Result<()> {
        let termios = rustix::termios::tcgetattr(&terminal)?;
        rustix::termios::tcsetattr(&self.theirs, OptionalActions::Now, &termios)?;
        follow_size(&terminal, &self.ours, &mut None);
        if is_read {
            let mut raw = termios.clone();
            raw.make_raw();
            rustix::termios::tcsetattr(&terminal, OptionalActions::Now, &raw)?;
            self.raw = Some(Raw(termios));
        }
        Ok(())
    }
}

/// Has one terminal be as large as another, if that has changed.
fn follow_size(from: impl AsFd, to: impl AsFd, known: &mut Option<Winsize>) {
    if let Ok(size) = rustix::termios::tcgetwinsize(from) {
        let of = |size: &Winsize| (size.ws_row, size.ws_col);
        if known.as_ref().map(of) != Some(of(&size)) {
            let _ = rustix::termios::tcsetwinsize(to, size);
            *known = Some(size);
        }
    }
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
    if is_out || is_err {
        let mut made = Terminal::new()?;
        match is_out {
            true => made.imitate(&stdout, is_in)?,
            false => made.imitate(&stderr, is_in)?,
        }
        if is_in {
            command.stdin(Stdio::from(made.theirs.try_clone()?));
        }
        if is_out {
            command.stdout(Stdio::from(made.theirs.try_clone()?));
        }
        if is_err {
            command.stderr(Stdio::from(made.theirs.try_clone()?));
        }
        if is_in {
            own_terminal(&mut command);
        }
        ways.push(Way {
            from: made.ours.try_clone()?,
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
    let ours = terminal.map(|terminal| {
        let Terminal { ours, theirs, raw } = terminal;
        drop(theirs);
        (ours, raw)
    });
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            drop(ours);
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
    let pid = Pid::from_child(&child);
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM])?;
    let handle = signals.handle();
    let is_over = AtomicBool::new(false);
    let status = thread::scope(|scope| -> Result<ExitStatus> {
        scope.spawn(|| {
            for signal in signals.forever() {
                // What a key on the terminal has sent has gone to the program too.
                if (signal == SIGHUP || signal == SIGTERM)
                    && let Some(signal) = Signal::from_named_raw(signal)
                {
                    let _ = rustix::process::kill_process(pid, signal);
                }
            }
        });
        if let (Some((ours, Some(_))), true) = (&ours, is_in) {
            let is_over = &is_over;
            scope.spawn(move || keys(ours, is_over));
        }
        let mut threads = Vec::new();
        for way in ways {
            let (shared, ours) = (&shared, ours.as_ref());
            threads.push(scope.spawn(move || carry(shared, way, ours.map(|(ours, _)| ours))));
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
    drop(ours);
    let status = status?;
    told(options, &shared);
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    Ok(ExitCode::from(code.unwrap_or(1) as u8))
}

/// Passes on what one of the program's streams carries.
fn carry(shared: &Shared, way: Way, terminal: Option<&OwnedFd>) -> io::Result<()> {
    let place = match way.is_error {
        true => Place::Stderr,
        false => Place::Stdout,
    };
    let filter = shared.rules.filter_of(&shared.rules.at(place));
    let mut size = None;
    let mut each_moment = || {
        if let Some(ours) = terminal {
            match way.is_error {
                true => follow_size(io::stderr(), ours, &mut size),
                false => follow_size(io::stdout(), ours, &mut size),
            }
        }
    };
    let to = To::Stream(way.name);
    let sink: Box<dyn Write> = match way.is_error {
        true => Box::new(io::stderr()),
        false => Box::new(io::stdout()),
    };
    Outlet::new(shared, &filter, to, sink).pump(&way.from, &mut each_moment, |_| {})
}

/// Passes keys on to the program's terminal, until it is over.
fn keys(terminal: &OwnedFd, is_over: &AtomicBool) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    const MOMENT: Timespec = Timespec {
        tv_sec: 0,
        tv_nsec: 50_000_000,
    };
    let stdin = rustix::stdio::stdin();
    let mut piece = [0; 4096];
    while !is_over.load(Ordering::Relaxed) {
        match poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&MOMENT)) {
            Ok(1..) => {}
            _ => continue,
        }
        let Ok(len @ 1..) = rustix::io::read(stdin, &mut piece) else {
            return;
        };
        let mut rest = &piece[..len];
        while !rest.is_empty() {
            match rustix::io::write(terminal, rest) {
                Ok(written) => rest = &rest[written..],
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
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

/// Gives a program the terminal that is its standard input for its own, so that keys which send
/// signals send them to it.
#[expect(unsafe_code, reason = "it is done between fork and exec")]
fn own_terminal(command: &mut Command) {
    let become_leader = || {
        rustix::process::setsid()?;
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        Ok(())
    };
    // SAFETY: between fork and exec it makes two system calls, and neither allocates nor locks.
    unsafe { command.pre_exec(become_leader) };
}
