//! The grate: options, the descriptors that may be written, and one handler a call.

mod lives;
mod names;
mod open;
mod options;
mod outlet;
mod redaction;
mod regular;
mod sockets;
mod table;
mod truncate;
mod write;

use grate_rs::constants::error;
use grate_rs::kernel::Stat;
use grate_rs::{CageFd, Descriptors, Errno, GrateBuilder};
use options::Extensions;
use redact::{Event, Stream};
use redaction::{Redaction, Way};
use std::sync::OnceLock;

/// Descriptors that the program may have been started with.
const INHERITED: std::ops::Range<i32> = 0..64;

/// What is known of a descriptor that may be written.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Its file was opened with O_NOFOLLOW by the grate, where the program had not asked for it.
    hides_nofollow: bool,
    /// How what is written to it is redacted, if anything is.
    way: Option<Way>,
}

/// What all handlers share.
struct FilterState {
    extensions: Extensions,
    /// Descriptors that may be written although they may be regular files: the standard streams
    /// that the program was given, files opened for writing under a permitted name, and copies.
    /// What is not in it is judged by what it is (see [`write`]), so that a descriptor that came by
    /// an unknown way can't write to a regular file.
    known: Descriptors<Known>,
    redaction: Option<Redaction>,
    /// The program that the grate was started for.
    program: OnceLock<u64>,
    verbose: bool,
}

static FILTER: OnceLock<FilterState> = OnceLock::new();

/// What all handlers share. Set before the first one is registered.
fn filter() -> &'static FilterState {
    match FILTER.get() {
        Some(filter) => filter,
        None => core::arch::wasm32::unreachable(),
    }
}

impl FilterState {
    /// The error of a refused call, told to who asked to hear it.
    fn refuse(&self, cage: u64, what: std::fmt::Arguments<'_>) -> Errno {
        if self.verbose {
            eprintln!("write-filter-grate: cage {cage}: refused: {what}");
        }
        Errno(error::EPERM)
    }

    /// The error of a write that a rule denies.
    fn denied(&self, rule: usize) -> Errno {
        if self.verbose {
            let name = self.redaction.as_ref().map_or("", |all| all.name(rule));
            eprintln!("write-filter-grate: refused: a write with a match of rule {name}");
        }
        Errno(error::EPERM)
    }

    fn note_events(&self, stream: &mut Stream) {
        if let Some(redaction) = &self.redaction {
            redaction.note_events(stream);
        }
    }

    fn note_event(&self, event: &Event) {
        if let Some(redaction) = &self.redaction {
            redaction.note_event(event);
        }
    }

    /// Notes a new descriptor that is not a regular file's.
    fn note_outlet(&self, fd: CageFd, stat: &Stat, own: Option<CageFd>, cloexec: bool) {
        if let Some(redaction) = &self.redaction {
            let known = Known {
                way: Some(Way::Out(redaction.outlet(fd, stat, own))),
                ..Known::default()
            };
            self.known.note(fd, Some(known), cloexec);
        }
    }

    /// Looks at what the program is started with.
    fn note_inherited(&self, cage: u64) {
        for fd in INHERITED {
            let at = CageFd { cage, fd };
            let Ok(stat) = at.stat() else {
                continue;
            };
            let is_standard = fd <= 2;
            let own = is_standard.then(|| redaction::own_standard(fd));
            if (is_standard || !stat.is_regular()) && self.redaction.is_some() {
                self.note_outlet(at, &stat, own, false);
            } else if is_standard {
                // Where the user has sent the standard streams is the user's choice.
                self.known.note(at, Some(Known::default()), false);
            }
        }
    }
}

/// Runs the grate.
pub fn main() {
    let options = options::parse();
    let redaction = options.redaction().unwrap_or_else(|error| {
        eprintln!("write-filter-grate: {error}");
        std::process::exit(1)
    });
    let filter = FILTER.get_or_init(|| FilterState {
        extensions: options.extensions(),
        known: Descriptors::default(),
        redaction,
        program: OnceLock::new(),
        verbose: options.verbose,
    });
    let mut builder = table::HANDLERS
        .iter()
        .fold(GrateBuilder::new(), |builder, (nr, handler)| {
            builder.register(*nr, *handler)
        })
        .preexec(|child| {
            let _ = filter.program.set(child as u64);
            filter.note_inherited(child as u64);
        });
    if let Some(redaction) = &filter.redaction {
        builder = builder.pause(|| redaction.pause()).teardown(|_| {
            redaction.finish();
            if filter.verbose {
                eprintln!("write-filter-grate: {}", redaction.summary());
            }
        });
    }
    builder.run(options.program)
}
