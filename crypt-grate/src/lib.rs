//! What of the grate needs no cage, so that it can be tested on any machine: sealed files with
//! random access over some storage.

pub mod calls;
pub mod locks;
pub mod peers;
pub mod scratch;
pub mod sealed_file;
pub mod storage;
