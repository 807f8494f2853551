//! The terminal that a program is given instead of ours, and the jobs of a shell.
//!
//! A program whose standard input is a terminal gets one of its own, which all keys are passed on
//! to: those that send signals send them there. For a job to be stopped (Ctrl-Z) its parent must
//! be of the same session. So between `redact` and the program stands a **keeper**, the leader of
//! the session, which does nothing but wait: when the program stops, it says so, and `redact`
//! gives the user's terminal back and stops too, as the program would have by itself.

use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::stdio::stdin;
use rustix::termios::{OptionalActions, OutputModes, Termios, Winsize};

/// Our end of a terminal that a program is given.
#[derive(Debug)]
pub struct Terminal {
    ours: OwnedFd,
    /// Our standard input, where its keys are passed on.
    keyboard: Option<Keyboard>,
}

/// The terminal that keys come from.
#[derive(Debug)]
struct Keyboard {
    /// How it was set before, while it passes every key on. While we are in the background, it is
    /// somebody else's.
    raw: Mutex<Option<Raw>>,
    started: Instant,
    /// Milliseconds since then when a key came last.
    typed: AtomicU64,
}

/// How standard input was set before; it is again when this goes, whatever has happened.
#[derive(Debug)]
struct Raw(Termios);

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(stdin(), OptionalActions::Drain, &self.0);
    }
}

impl Raw {
    fn new() -> io::Result<Self> {
        let before = rustix::termios::tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

/// How often it is asked whether the terminal has become ours.
const MOMENT: Duration = Duration::from_millis(50);

/// For so long after a key what comes is taken for its echo.
const ECHO: Duration = Duration::from_millis(300);

impl Terminal {
    /// One that is set as another, and its other end. If keys are passed on to it, every key is from
    /// now on, as soon as we are in the foreground.
    pub fn like(terminal: impl AsFd, has_keys: bool) -> Result<(Self, OwnedFd)> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let name = ptsname(&ours, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let theirs = rustix::fs::open(name.as_c_str(), flags, Mode::empty())?;
        let mut termios = rustix::termios::tcgetattr(&terminal)?;
        if !has_keys {
            // What comes out goes through ours once more, which stays as it is.
            termios.output_modes.remove(OutputModes::OPOST);
        }
        rustix::termios::tcsetattr(&theirs, OptionalActions::Now, &termios)?;
        let keyboard = has_keys.then(|| Keyboard {
            raw: Mutex::new(None),
            started: Instant::now(),
            typed: AtomicU64::new(u64::MAX),
        });
        let made = Self { ours, keyboard };
        made.follow_size(&terminal, &mut None);
        if let Some(keyboard) = &made.keyboard {
            keyboard.listen()?;
        }
        Ok((made, theirs))
    }

    /// Another descriptor of our end.
    pub fn reader(&self) -> io::Result<OwnedFd> {
        self.ours.try_clone()
    }

    /// Has it be as large as another, if that has changed.
    pub fn follow_size(&self, from: impl AsFd, known: &mut Option<Winsize>) {
        if let Ok(size) = rustix::termios::tcgetwinsize(from) {
            let of = |size: &Winsize| (size.ws_row, size.ws_col);
            if known.as_ref().map(of) != Some(of(&size)) {
                let _ = rustix::termios::tcsetwinsize(&self.ours, size);
                *known = Some(size);
            }
        }
    }

    /// Whether somebody is typing, so that what comes out is likely to be an echo.
    pub fn is_typed_to(&self) -> bool {
        self.keyboard.as_ref().is_some_and(|keyboard| {
            let typed = keyboard.typed.load(Ordering::Relaxed);
            let now = keyboard.started.elapsed().as_millis() as u64;
            now.checked_sub(typed)
                .is_some_and(|since| u128::from(since) < ECHO.as_millis())
        })
    }

    /// Passes keys on, until the program is over.
    pub fn pass_keys(&self, is_over: &AtomicBool) {
        let Some(keyboard) = &self.keyboard else {
            return;
        };
        let mut piece = [0; 4096];
        let moment = Timespec::try_from(MOMENT).ok();
        while !is_over.load(Ordering::Relaxed) {
            if !keyboard.listen().unwrap_or(false) {
                // Who reads in the background is stopped.
                std::thread::sleep(MOMENT);
                continue;
            }
            match poll(&mut [PollFd::new(&stdin(), PollFlags::IN)], moment.as_ref()) {
                Ok(1..) if is_foreground(stdin()) => {}
                _ => continue,
            }
            let Ok(len @ 1..) = rustix::io::read(stdin(), &mut piece) else {
                return;
            };
            let now = keyboard.started.elapsed().as_millis() as u64;
            keyboard.typed.store(now, Ordering::Relaxed);
            let mut rest = &piece[..len];
            while !rest.is_empty() {
                match rustix::io::write(&self.ours, rest) {
                    Ok(written) => rest = &rest[written..],
                    Err(rustix::io::Errno::INTR) => {}
                    Err(_) => return,
                }
            }
        }
    }

    /// Stops as the program has stopped, and has it go on when we do.
    fn stop(&self, program: Pid) {
        // The echo of the key that stopped it is still on its way.
        std::thread::sleep(MOMENT);
        let mut raw = match &self.keyboard {
            Some(keyboard) => keyboard.raw.lock().unwrap_or_else(|lock| lock.into_inner()),
            None => return,
        };
        *raw = None;
        // Nobody but this thread takes the signal, so it is not over before we have gone on.
        let _ = rustix::process::kill_current_process_group(Signal::TSTP);
        if is_foreground(stdin()) {
            *raw = Raw::new().ok();
        }
        let _ = rustix::process::kill_process_group(program, Signal::CONT);
    }
}

impl Keyboard {
    /// Has every key be passed on, if the terminal is ours. Answers whether it is.
    fn listen(&self) -> io::Result<bool> {
        let mut raw = self.raw.lock().unwrap_or_else(|lock| lock.into_inner());
        let is_ours = is_foreground(stdin());
        if is_ours && raw.is_none() {
            *raw = Some(Raw::new()?);
        }
        Ok(is_ours)
    }
}

/// Whether what is typed on a terminal is for us: it is if that has no jobs, or not those of our
/// session.
fn is_foreground(terminal: impl AsFd) -> bool {
    rustix::termios::tcgetpgrp(terminal).map_or(true, |group| group == rustix::process::getpgrp())
}

/// Whether there is a terminal whose keys send us signals, and the program that we have started as
/// well, if it is of our session.
pub fn has_keys() -> bool {
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open("/dev/tty", flags, Mode::empty()).is_ok_and(is_foreground)
}

/// What the keeper of a program tells.
#[derive(Debug)]
pub struct Keeper {
    told: PipeReader,
    program: Pid,
}

impl Keeper {
    /// Has a command run in a session of its own, on the terminal that is its standard input. The
    /// process that is started is the keeper, which ends as the command does. What it tells comes
    /// from the pipe that is returned.
    pub fn before(command: &mut Command) -> io::Result<PipeReader> {
        let (told, tell) = io::pipe()?;
        keep(command, tell.into());
        Ok(told)
    }

    /// That of a command that has been started.
    pub fn of(mut told: PipeReader) -> io::Result<Self> {
        let mut program = [0; size_of::<i32>()];
        told.read_exact(&mut program)?;
        let program = Pid::from_raw(i32::from_ne_bytes(program));
        let program = program.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { told, program })
    }

    /// The program itself.
    pub fn program(&self) -> Pid {
        self.program
    }

    /// Stops whenever the program stops, until it is over.
    pub fn watch(mut self, terminal: &Terminal) {
        let _ = take_stops(true);
        let mut stop = [0];
        while let Ok(()) = self.told.read_exact(&mut stop) {
            terminal.stop(self.program);
        }
    }
}

/// Decides whether the calling thread, and those that it starts, are where the process is stopped.
#[expect(unsafe_code, reason = "rustix has no signal masks")]
pub fn take_stops(are_taken: bool) -> io::Result<()> {
    let how = match are_taken {
        true => libc::SIG_UNBLOCK,
        false => libc::SIG_BLOCK,
    };
    // SAFETY: a signal set is plain data, for which zeros are valid; it outlives the calls, which
    // only write to it and read it.
    let error = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTSTP);
        libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut())
    };
    match error {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Ends this process by a signal, as a program that it has run was ended: without a core, for that
/// would hold secrets. Returns if the signal does not end processes.
#[expect(unsafe_code, reason = "rustix has no dispositions of signals")]
pub fn end_by(signal: i32) {
    let none = rustix::process::Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
    // SAFETY: no handler is installed, only the default restored and the signal sent; both calls
    // may be made between fork and exec too.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

#[expect(unsafe_code, reason = "it is done between fork and exec")]
fn keep(command: &mut Command, tell: OwnedFd) {
    let fork = move || {
        rustix::process::setsid()?;
        rustix::process::ioctl_tiocsctty(stdin())?;
        // SAFETY: this process has one thread, since it was forked.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => in_foreground(),
            program => wait_for(program, tell.as_fd()),
        }
    };
    // SAFETY: between fork and exec it and what it calls make system calls only, and neither
    // allocate nor lock.
    unsafe { command.pre_exec(fork) };
}

/// In the program: makes it a group of its own, which the keys go to.
#[expect(unsafe_code, reason = "rustix has no dispositions of signals")]
fn in_foreground() -> io::Result<()> {
    rustix::process::setpgid(None, None)?;
    // SAFETY: no handler is installed.
    let before = unsafe { libc::signal(libc::SIGTTOU, libc::SIG_IGN) };
    rustix::termios::tcsetpgrp(stdin(), rustix::process::getpid())?;
    // SAFETY: it is restored to what it was.
    unsafe { libc::signal(libc::SIGTTOU, before) };
    Ok(())
}

/// In the keeper: tells who the program is and when it stops, and ends as it does.
#[expect(
    unsafe_code,
    reason = "it closes all descriptors and ends without cleaning up"
)]
fn wait_for(program: i32, tell: BorrowedFd<'_>) -> ! {
    let tell = tell.as_raw_fd();
    // SAFETY: the descriptors of this process belong to nobody else; those of the standard streams
    // are replaced, and the others closed, of which no value in use is an owner.
    let tell = unsafe {
        libc::dup2(tell, 1);
        libc::dup2(tell, 2);
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
        BorrowedFd::borrow_raw(1)
    };
    let _ = rustix::io::write(tell, &program.to_ne_bytes());
    let pid = Pid::from_raw(program);
    loop {
        match rustix::process::waitpid(pid, WaitOptions::UNTRACED) {
            Ok(Some((_, status))) if status.stopped() => {
                let _ = rustix::io::write(tell, &[0]);
            }
            Ok(Some((_, status))) => {
                if let Some(signal) = status.terminating_signal() {
                    end_by(signal);
                }
                let code = status.exit_status().unwrap_or(1);
                // SAFETY: nothing of this process is to be cleaned up.
                unsafe { libc::_exit(code) };
            }
            Err(rustix::io::Errno::INTR) | Ok(None) => {}
            // SAFETY: as above.
            Err(_) => unsafe { libc::_exit(1) },
        }
    }
}
