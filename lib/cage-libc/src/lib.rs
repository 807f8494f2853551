//! The libc of our guests: what Rust's `std` for `wasm32-wasip1` asks of a C library, written
//! over Lind system calls, so that a guest imports nothing but Lind's host functions.
//!
//! A guest links it with `use cage_libc as _;`. [`sys`] has the system calls themselves, for
//! programs that need more than `std` offers (fork, exec, pipes, raw numbers), [`net`] sockets.
//!
//! `std` and the `libc` crate believe in WASI's numbers for errors and flags and in wasi-libc's
//! structures; the kernel speaks Linux. The modules here translate both ways.

#![no_std]
#![cfg(target_family = "wasm")]
#![feature(asm_experimental_arch)]
#![feature(thread_local)]
// The loops of `memcmp` and its kin must not be turned into calls of themselves.
#![no_builtins]

mod abi;
mod directory;
mod environment;
mod errno;
mod file;
mod heap;
pub mod net;
mod paths;
pub mod seek;
pub mod signals;
mod start;
mod string;
pub mod sys;
mod threads;
mod time;
