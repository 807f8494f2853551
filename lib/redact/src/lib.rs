//! Finds secrets in a stream of bytes and replaces them, exactly, however the stream is cut.

#![forbid(unsafe_code)]

mod action;
mod automaton;
mod builtin;
mod byteset;
mod check;
mod engine;
mod filter;
mod matcher;
mod rules;
mod scan;
mod secret;
mod shape;
mod stream;

pub use action::{Action, HASH_KEY_MIN, HashKey, HashKeyTooShort, UnknownAction};
pub use automaton::PatternError;
pub use builtin::{Builtin, BuiltinPattern, UnknownBuiltin};
pub use engine::Check;
pub use filter::Filter;
pub use rules::{Builder, DEFAULT_MAX_HOLD, MASK, Pattern, Rule, RuleSet};
pub use stream::{Event, Stream, Verdict};
