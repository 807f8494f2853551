//! Ranges of a file, through a descriptor of the grate's own.

use grate_rs::constants::{SYS_PREAD, SYS_PWRITE};
use grate_rs::kernel::{self, value};
use grate_rs::{CageFd, Errno, own_buffer};
use std::ops::Range;

/// What is in a range of a file of that size, with zeros behind its end.
///
/// # Errors
/// As pread(2).
pub fn get(file: CageFd, range: Range<u64>, size: u64) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    let len = size.clamp(range.start, range.end) - range.start;
    let mut done = 0;
    while done < len as usize {
        let args = [
            file.arg(),
            own_buffer(bytes[done..].as_mut_ptr()),
            value(file.cage, len - done as u64),
            value(file.cage, range.start + done as u64),
        ];
        match kernel::call(SYS_PREAD, file.cage, &args)? as usize {
            0 => break,
            read => done += read.min(len as usize - done),
        }
    }
    Ok(bytes)
}

/// Puts bytes into a file.
///
/// # Errors
/// As pwrite(2).
pub fn put(file: CageFd, at: u64, bytes: &[u8]) -> Result<(), Errno> {
    let mut done = 0;
    while done < bytes.len() {
        let rest = &bytes[done..];
        let args = [
            file.arg(),
            own_buffer(rest.as_ptr()),
            value(file.cage, rest.len() as u64),
            value(file.cage, at + done as u64),
        ];
        done += (kernel::call(SYS_PWRITE, file.cage, &args)? as usize).max(1);
    }
    Ok(())
}
