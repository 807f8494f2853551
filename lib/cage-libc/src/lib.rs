//! cage-libc
