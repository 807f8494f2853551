//! `hostile ATTEMPT STAGE TRIES PORT PORT`: tries to get into, past or around its grate in one
//! way. Exits with 0 when it was refused as it had to be; says what was not. `hostile list` prints
//! the attempts.

#[path = "../hostile/addresses.rs"]
mod addresses;
#[path = "../hostile/authority.rs"]
mod authority;
#[path = "../hostile/dice.rs"]
mod dice;
#[path = "../hostile/files.rs"]
mod files;
#[path = "../hostile/gate.rs"]
mod gate;
#[path = "../hostile/limits.rs"]
mod limits;
#[path = "../hostile/own.rs"]
mod own;
#[path = "../hostile/races.rs"]
mod races;
#[path = "../hostile/threei.rs"]
mod threei;
#[path = "../hostile/world.rs"]
mod world;

use dice::Dice;
use gate::{MARK, O_APPEND, O_CREAT, O_WRONLY, Outcome};
use std::process::ExitCode;

/// A name, and what is tried.
type Attempt = (&'static str, fn(&Stage) -> Outcome);

/// What an attempt is made on.
struct Stage {
    under: String,
    /// How often what depends on luck is tried.
    tries: u64,
    /// Of UDP sockets of the host's: one that may be told in the clear, one that may not.
    ports: [u16; 2],
}

impl Stage {
    /// The grate above, if any.
    fn grate(&self) -> Option<u64> {
        (self.under != "none").then(gate::parent)
    }

    /// Whether a key is to be kept from this program: `/keys/k.bin`.
    fn has_key(&self) -> bool {
        matches!(self.under.as_str(), "crypt" | "both")
    }

    /// Whether what lies below `/protected` may not be written.
    fn denies(&self) -> bool {
        matches!(self.under.as_str(), "filter" | "both")
    }

    /// Writes what must not come out, to the output and to a file: the fixture looks for it.
    fn still_served(&self) -> Outcome {
        let fd = gate::open(c"/open/still.log", O_CREAT | O_WRONLY | O_APPEND, 0o644);
        gate::expect("the last open", fd.min(0), &[0])?;
        gate::expect(
            "the last write",
            gate::write(fd, MARK),
            &[MARK.len() as i32],
        )?;
        gate::expect("the last line", gate::write(1, MARK), &[MARK.len() as i32])?;
        gate::expect("the last close", gate::close(fd), &[0])
    }
}

fn attempts() -> impl Iterator<Item = &'static Attempt> {
    [
        authority::ATTEMPTS,
        threei::ATTEMPTS,
        own::ATTEMPTS,
        addresses::ATTEMPTS,
        races::ATTEMPTS,
        files::ATTEMPTS,
        limits::ATTEMPTS,
    ]
    .into_iter()
    .flatten()
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let text = |at: usize| args.get(at).map_or("", String::as_str);
    let number = |at: usize| text(at).parse::<u64>().unwrap_or(0);
    if text(0) == "list" {
        attempts().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    }
    let Some((_, attempt)) = attempts().find(|(name, _)| *name == text(0)) else {
        eprintln!("hostile: there is no attempt {:?}", text(0));
        return ExitCode::from(64);
    };
    let stage = Stage {
        under: text(1).to_owned(),
        tries: number(2).max(1),
        ports: [number(3), number(4)].map(|port| port as u16),
    };
    match attempt(&stage) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}
