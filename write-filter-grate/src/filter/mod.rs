//! The grate: options, the descriptors that may be written, and one handler a call.

mod lives;
mod moves;
mod names;
mod open;
mod options;
mod outlet;
mod peers;
mod ranges;
mod redaction;
mod regular;
mod report;
mod sockets;
mod table;
mod tail;
mod truncate;
mod write;

use globset::GlobMatcher;
use grate_rs::constants::error;
use grate_rs::kernel::{Inode, Stat};
use grate_rs::{CageFd, Descriptors, Errno, GrateBuilder};
use options::Extensions;
use redact::Event;
use redaction::{Redaction, Source, Spot, Way};
use std::sync::OnceLock;

/// Descriptors that the program may have been started with.
const INHERITED: std::ops::Range<i32> = 0..64;

/// What is known of a descriptor.
#[derive(Clone, Debug)]
struct Known {
    /// Whether it may be written: it is no regular file, or one under a permitted name.
    is_permitted: bool,
    /// Its file was opened with O_NOFOLLOW by the grate, where the program had not asked for it.
    hides_nofollow: bool,
    /// How what is written to it is redacted, if anything is.
    way: Option<Way>,
}

impl Known {
    /// What may be written as it is.
    const PERMITTED: Self = Self {
        is_permitted: true,
        hides_nofollow: false,
        way: None,
    };
}

/// What all handlers share.
struct FilterState {
    extensions: Extensions,
    /// Paths that may not be written.
    deny_write: Vec<GlobMatcher>,
    /// The directories that all such paths lead through, one for each glob.
    denied_below: Vec<Vec<u8>>,
    /// Files of the grate's own, which the program can't open, remove or replace.
    closed: Vec<Inode>,
    /// All that their names lead through, which has to stay where it is.
    trail: Vec<Inode>,
    /// What is known of descriptors: whether they may be written, as the standard streams that the
    /// program was given, files opened for writing under a permitted name, and copies may. What
    /// nothing is known of is judged by what it is (see [`write`]), so that a descriptor that came
    /// by an unknown way can't write to a regular file.
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
    fn denied(&self, cage: u64, rule: usize) -> Errno {
        let name = self.redaction.as_ref().map_or("", |all| all.name(rule));
        self.refuse(cage, format_args!("a write with a match of rule {name}"))
    }

    /// Whether the program is to be kept from a file.
    fn is_closed(&self, stat: &Stat) -> bool {
        self.closed.contains(&stat.inode())
    }

    /// Whether it is to be kept from changing a file by its name.
    fn is_kept(&self, stat: &Stat) -> bool {
        let mut redaction = self.redaction.iter();
        self.is_closed(stat)
            || stat.is_regular() && redaction.any(|all| all.is_streamed(stat.inode()))
    }

    /// Whether a name must keep its meaning, for it is one of the grate's own or leads to one.
    fn is_needed(&self, stat: &Stat) -> bool {
        self.is_closed(stat) || self.trail.contains(&stat.inode())
    }

    /// Whether a name may not come to mean another file, or none: it may not be written, or it
    /// leads to such names.
    fn denies_moving(&self, path: &[u8]) -> bool {
        let leads = |below: &Vec<u8>| {
            below
                .strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        self.denies_writing(Some(path)) || self.denied_below.iter().any(leads)
    }

    /// Whether the path of a file decides what may be done to it.
    fn judges_paths(&self) -> bool {
        let names_paths = self.redaction.as_ref().is_some_and(Redaction::names_paths);
        names_paths || !self.deny_write.is_empty()
    }

    /// Whether the paths of files have to be known.
    fn needs_paths(&self) -> bool {
        self.judges_paths() || self.redaction.as_ref().is_some_and(Redaction::needs_paths)
    }

    /// Whether a path may not be written; one that is not known may not if any may not.
    fn denies_writing(&self, path: Option<&[u8]>) -> bool {
        let mut globs = self.deny_write.iter();
        globs.any(|glob| {
            path.is_none_or(|path| glob.is_match_candidate(&globset::Candidate::from_bytes(path)))
        })
    }

    fn note_seen(&self, bytes: usize) {
        if let Some(redaction) = &self.redaction {
            redaction.note_seen(bytes);
        }
    }

    fn note_event(&self, event: &Event, source: &Source<'_>) {
        if let Some(redaction) = &self.redaction {
            redaction.note_event(event, source);
        }
    }

    /// What is known of a descriptor that is not a regular file's, if anything has to be.
    fn outlet(&self, fd: CageFd, stat: &Stat, standard: Option<Standard>) -> Option<Known> {
        let redaction = self.redaction.as_ref()?;
        let (own, spot) = standard
            .map(|standard| (standard.own, standard.spot))
            .unzip();
        let outlet = redaction.outlet(fd, stat, own, spot.flatten());
        Some(Known {
            is_permitted: true,
            hides_nofollow: false,
            way: Some(Way::Out(outlet)),
        })
    }

    /// Looks at what the program is started with. Standard input comes last: a terminal is known
    /// as standard output then.
    fn note_inherited(&self, cage: u64) {
        for fd in INHERITED.skip(1).chain([0]) {
            let at = CageFd { cage, fd };
            let Ok(stat) = at.stat() else {
                continue;
            };
            // Whatever can't be told counts as writable.
            if !at.is_writable().unwrap_or(true) {
                continue;
            }
            if self.is_closed(&stat) {
                // It is the grate's own, wherever the user has sent the streams.
                at.close();
                continue;
            }
            let standard = (fd <= 2).then(|| Standard {
                own: redaction::own_standard(fd),
                spot: match fd {
                    1 => Some(Spot::Stdout),
                    2 => Some(Spot::Stderr),
                    _ => None,
                },
            });
            let is_standard = standard.is_some();
            if (is_standard || !stat.is_regular()) && self.redaction.is_some() {
                self.known.note(at, self.outlet(at, &stat, standard));
            } else if is_standard {
                // Where the user has sent the standard streams is the user's choice.
                self.known.note(at, Some(Known::PERMITTED));
            }
        }
    }
}

/// A standard stream.
struct Standard {
    /// The grate's own descriptor of it.
    own: CageFd,
    /// What it is to the rules, where that can't be seen.
    spot: Option<Spot>,
}

/// Runs the grate.
pub fn main() {
    let options = options::parse();
    let (redaction, own) = options.redaction().unwrap_or_else(|error| {
        eprintln!("write-filter-grate: {error}");
        std::process::exit(1)
    });
    let filter = FILTER.get_or_init(|| FilterState {
        extensions: options.extensions(),
        deny_write: options.deny_write.clone(),
        denied_below: options.denied_below(),
        closed: own.inodes,
        trail: own.trail,
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
