//! The grate: options, what it keeps of each cage, and one handler a call.

mod exclusion;
mod files;
mod found;
mod kernel;
mod keyring;
mod lease;
mod mapping;
mod names;
mod native;
mod net;
mod nonces;
mod open;
mod options;
mod policy;
mod stat;
mod state;
mod table;
mod transfer;

use grate_rs::{GrateBuilder, order};
use state::State;
use std::sync::OnceLock;

static STATE: OnceLock<State> = OnceLock::new();

/// What all handlers share. Set before the first one is registered.
fn state() -> &'static State {
    match STATE.get() {
        Some(state) => state,
        None => core::arch::wasm32::unreachable(),
    }
}

/// Said where what is sealed would be changed.
const WRONG_ORDER: &str = "a grate further out changes what is written, and would damage what is \
    sealed; name crypt-grate first: lind-wasm crypt-grate.cwasm --key FILE GRATE PROGRAM";

/// Runs the grate.
pub fn main() {
    let options = options::parse();
    if order::is_changed_further_out() {
        eprintln!("crypt-grate: {WRONG_ORDER}");
        std::process::exit(1)
    }
    let state = State::new(&options).unwrap_or_else(|error| {
        eprintln!("crypt-grate: {error}");
        std::process::exit(1)
    });
    let state = STATE.get_or_init(|| state);
    let mut builder = table::HANDLERS
        .iter()
        .fold(GrateBuilder::new(), |builder, (nr, handler)| {
            builder.register(*nr, *handler)
        })
        .preexec(|child| {
            let _ = state.program.set(child as u64);
            state.note_inherited(child as u64);
        });
    if state.network.is_sealed() {
        builder = builder.pause(|| state.network.pump.pause());
    }
    builder.run(options.program)
}
