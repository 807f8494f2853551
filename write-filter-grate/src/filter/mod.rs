//! The grate: options, the descriptors that may be written, and one handler a call.

mod lives;
mod names;
mod open;
mod options;
mod table;
mod truncate;
mod write;

use grate_rs::{CageFd, Descriptors, Errno, GrateBuilder, constants::error};
use options::Extensions;
use std::sync::OnceLock;

/// What is known of a descriptor that may be written.
#[derive(Clone, Copy, Debug)]
struct Permission {
    /// Its file was opened with O_NOFOLLOW by the grate, where the program had not asked for it.
    hides_nofollow: bool,
}

/// What all handlers share.
struct Filter {
    extensions: Extensions,
    /// Descriptors that may be written although they may be regular files: the standard streams
    /// that the program was given, files opened for writing under a permitted name, and copies.
    /// What is not in it is judged by what it is (see [`write`]), so that a descriptor that came by
    /// an unknown way can't write to a regular file.
    permitted: Descriptors<Permission>,
    verbose: bool,
}

static FILTER: OnceLock<Filter> = OnceLock::new();

/// What all handlers share. Set before the first one is registered.
fn filter() -> &'static Filter {
    match FILTER.get() {
        Some(filter) => filter,
        None => core::arch::wasm32::unreachable(),
    }
}

impl Filter {
    /// The error of a refused call, told to who asked to hear it.
    fn refuse(&self, cage: u64, what: std::fmt::Arguments<'_>) -> Errno {
        if self.verbose {
            eprintln!("write-filter-grate: cage {cage}: refused: {what}");
        }
        Errno(error::EPERM)
    }
}

/// Runs the grate.
pub fn main() {
    let options = options::parse();
    let filter = FILTER.get_or_init(|| Filter {
        extensions: Extensions::new(options.allow_ext),
        permitted: Descriptors::default(),
        verbose: options.verbose,
    });
    let builder = table::HANDLERS
        .iter()
        .fold(GrateBuilder::new(), |builder, (nr, handler)| {
            builder.register(*nr, *handler)
        });
    builder
        .preexec(|child| {
            // Where the user has sent the standard streams is the user's choice.
            for fd in 0..=2 {
                let cage = child as u64;
                let permission = Permission {
                    hides_nofollow: false,
                };
                filter
                    .permitted
                    .note(CageFd { cage, fd }, Some(permission), false);
            }
        })
        .run(options.program)
}
