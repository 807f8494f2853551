//! Clamps: grates that let the grates inside them see a part of a program's calls, and nothing of
//! the rest.
//!
//! A clamp is started as `CLAMP OPTIONS %{ GRATE... %} PROGRAM`: it runs the first grate, that one
//! the next, and the last one `%}`, in place of which the clamp has the program run. The clamp
//! serves the registrations of the grates inside ([`registrations`]). What they register on the
//! program does not stand there: the clamp serves all those calls of the program itself ([`front`]),
//! and has the handlers under numbers of its own, in its own table. There nobody else can call
//! them: a call is looked up in the table of who makes it.
//!
//! What is inside and what goes past is a [`Border`]'s to say.

#![cfg(target_family = "wasm")]

pub mod front;
mod lives;
pub mod paths;
mod private;
mod registrations;

pub use front::{Front, Mark};

use grate_rs::{Descriptors, Errno, GrateBuilder};
use private::Private;
use registrations::Registrations;
use std::sync::OnceLock;

/// What ends the grates inside.
const END: &str = "%}";

/// What is inside a clamp.
pub trait Border: Send + Sync {
    /// Whether the clamp has to serve that call though no grate inside does.
    fn tracks(&self, entry: &calls::Entry) -> bool;

    /// Looks at what a program has open before it begins, to mark what is inside.
    fn begins(&self, cage: u64) {
        let _ = cage;
    }

    /// Serves a call of the program, other than those by which cages and threads come and go and
    /// those that copy and close descriptors.
    ///
    /// # Errors
    /// What the program is to get.
    fn serve(&self, front: &Front<'_>) -> Result<i32, Errno>;
}

/// What all handlers share.
struct State {
    border: Box<dyn Border>,
    registrations: Registrations,
    /// What is known of the program's descriptors. Of the others nothing is inside.
    marks: Descriptors<Mark>,
    /// Files of the grates inside.
    private: Private,
}

static STATE: OnceLock<State> = OnceLock::new();

/// What all handlers share. Set before the first one is registered.
fn state() -> &'static State {
    match STATE.get() {
        Some(state) => state,
        None => core::arch::wasm32::unreachable(),
    }
}

/// The marks of descriptors.
pub fn marks() -> &'static Descriptors<Mark> {
    &state().marks
}

/// The grates and the program, from what follows the options of a clamp: `%{ GRATE... %} PROGRAM`.
///
/// # Errors
/// What is wrong, and what to write instead.
pub fn inside(words: &[String]) -> Result<Vec<String>, String> {
    const USAGE: &str = "write %{ GRATE... %} PROGRAM behind the options";
    let Some((first, rest)) = words.split_first().filter(|(first, _)| *first == "%{") else {
        return Err(format!("the grates inside are missing; {USAGE}"));
    };
    let mut depth = 1;
    let end = rest.iter().position(|word| {
        match word.as_str() {
            "%{" => depth += 1,
            END => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    match end {
        None => Err(format!("nothing ends what {first} begins; {USAGE}")),
        Some(end) if end + 1 == rest.len() => {
            Err(format!("there is no program behind {END}; {USAGE}"))
        }
        Some(_) => Ok(rest.to_vec()),
    }
}

/// Runs a clamp: grates inside, then the program, as [`inside`] has them. The handlers of grates
/// inside get numbers from `first_number` on.
pub fn run(border: Box<dyn Border>, first_number: u32, words: Vec<String>) -> ! {
    STATE.get_or_init(|| State {
        border,
        registrations: Registrations::new(first_number),
        marks: Descriptors::default(),
        private: Private::default(),
    });
    lives::HANDLERS
        .iter()
        .fold(GrateBuilder::new(), |builder, (nr, handler)| {
            builder.register(*nr, *handler)
        })
        .run(words)
}
