//! The embedded runtime: cages, 3i, system calls, WASI, artifacts.
//!
//! A **cage** is an isolated WebAssembly program with what a process has; a **grate** is a cage
//! that serves system calls of others. See `docs/runtime.md`.

mod arguments;
pub mod artifact;
mod bulk;
pub mod cage;
mod compile;
mod effort;
pub mod engine;
mod errno;
mod exceptions;
pub mod family;
pub mod fds;
pub mod futex;
pub mod host;
pub mod ids;
pub mod image;
mod instructions;
pub mod interfaces;
mod kept;
pub mod limits;
pub mod line;
mod mapping;
pub mod memory;
pub mod module;
pub mod net;
pub mod parking;
pub mod path;
pub mod posix;
pub mod program;
mod racy;
pub mod regions;
pub mod request;
pub mod routes;
pub mod run;
pub mod runtime;
pub mod segments;
pub mod shared;
pub mod signals;
mod spread;
pub mod state;
pub mod syscall;
pub mod threads;
pub mod threei;
pub mod timers;
pub mod unix_names;
pub mod wasi;
mod workers;

/// Exit status for a failure of the runtime itself.
pub const EXIT_RUNTIME: i32 = 70;
/// Exit status for wrong usage.
pub const EXIT_USAGE: i32 = 64;
/// Exit status for a file that is missing or can't be used.
pub const EXIT_FILE: i32 = 1;
