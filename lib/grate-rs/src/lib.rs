//! Write grates: cages that serve system calls of other cages.
//!
//! [`GrateBuilder`] starts the program under the grate and registers its handlers; a handler gets
//! a [`Call`], looks at it, changes it or not, and passes it on with [`Call::forward`]. The
//! functions named as in Lind's own grate library ([`register_handler`], [`make_threei_call`],
//! [`copy_data_between_cages`], [`fd_support`], ...) are here too, so that a grate written for it
//! compiles.
//!
//! ```ignore
//! use grate_rs::{Call, Errno, GrateBuilder, constants::SYS_GETEUID, handler};
//!
//! handler!(geteuid, |_call: &Call| -> Result<i32, Errno> { Ok(10) });
//!
//! fn main() {
//!     GrateBuilder::new()
//!         .register(SYS_GETEUID, geteuid)
//!         .run(std::env::args().skip(1).collect());
//! }
//! ```
//!
//! Handlers run on the calling cage's thread, several at a time, each in an instance of its own
//! on the grate's one memory: state belongs into statics behind locks. A handler must not panic:
//! that ends the grate, and its cages get EIO from then on.

#![cfg(target_family = "wasm")]
#![feature(asm_experimental_arch)]

mod builder;
mod call;
pub mod constants;
mod descriptors;
pub mod fd_support;
pub mod ffi;
pub mod kernel;
pub mod message;
pub mod order;
pub mod paths;
pub mod places;
pub mod show;
pub mod sockets;
mod threei;
mod worker;

pub use ::calls;
pub use builder::{
    FdTranslatePolicy, GrateBuilder, GrateTeardownCallback, Pause, PauseCallback, PreExecCallback,
    register_default_fd_handlers_except,
};
pub use cage_libc::sys::{Arg, Errno};
pub use call::{Call, GuestPtr, Vectors, forward, own_buffer};
pub use descriptors::{CageFd, Descriptors, Held};
pub use threei::{
    GrateError, SyscallHandler, copy_data_between_cages, copy_handler_table_to_cage, getcageid,
    is_thread_clone, make_threei_call, mmap_shared, register_handler,
};
