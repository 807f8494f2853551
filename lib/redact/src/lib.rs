//! Finds secrets in a stream of bytes and replaces them, exactly, however the stream is cut.

// Where there is some, it says so: vector instructions of the sieve.
#![deny(unsafe_code)]

mod action;
mod automaton;
mod builtin;
mod byteset;
mod check;
pub mod dotenv;
mod encodings;
mod engine;
mod filter;
mod glance;
mod groups;
mod listed;
mod matcher;
mod rule_file;
mod rules;
mod run;
mod scan;
mod scope;
mod secret;
mod shape;
mod sieve;
mod stream;
mod text;

pub use action::{Action, HASH_KEY_MIN, HashKey, HashKeyTooShort, UnknownAction};
pub use automaton::PatternError;
pub use builtin::{Builtin, BuiltinPattern, Group, UnknownBuiltin};
pub use encodings::{Encodings, UnknownEncoding};
pub use engine::{Check, Found};
pub use filter::Filter;
pub use listed::{ListError, environment, texts};
pub use rule_file::RuleFileError;
pub use rules::{Builder, DEFAULT_MAX_HOLD, MASK, Pattern, Rule, RuleSet, Terms};
pub use scope::{Place, Scope, ScopeError, path_glob};
pub use stream::{Event, Stream, Verdict};
pub use text::HEAD;
