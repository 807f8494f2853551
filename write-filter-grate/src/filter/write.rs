//! Calls that change a file through a descriptor.

use super::filter;
use grate_rs::constants::{error, mman};
use grate_rs::kernel::pass;
use grate_rs::{CageFd, Call, Errno};

const EINVAL: Errno = Errno(error::EINVAL);

/// Whether writing to a descriptor is refused: a regular file, open for writing, that has no
/// permission. Whatever can't be written anyway is the kernel's to refuse, with its own error.
fn is_refused(fd: CageFd) -> bool {
    filter().permitted.get(fd).is_none()
        && fd.stat().is_ok_and(|stat| stat.is_regular())
        // Unknown counts as writable.
        && fd.is_writable().unwrap_or(true)
}

fn guard(call: &Call, index: usize, what: &str) -> Result<i32, Errno> {
    let fd = CageFd::of(call, index);
    if is_refused(fd) {
        return Err(filter().refuse(fd.cage, format_args!("{what} to descriptor {}", fd.fd)));
    }
    pass(call, index)
}

/// As [`guard`] for the descriptor in the first argument, of a call with an offset or length that
/// must not be negative: that is checked before the descriptor.
fn guard_at(call: &Call, offset: usize, what: &str) -> Result<i32, Errno> {
    if call.long(offset) < 0 {
        return Err(EINVAL);
    }
    guard(call, 0, what)
}

/// write: descriptor, buffer, length.
pub fn write(call: &Call) -> Result<i32, Errno> {
    guard(call, 0, "write")
}

/// writev: descriptor, vectors, count.
pub fn writev(call: &Call) -> Result<i32, Errno> {
    guard(call, 0, "writev")
}

/// pwrite: descriptor, buffer, length, offset.
pub fn pwrite(call: &Call) -> Result<i32, Errno> {
    guard_at(call, 3, "pwrite")
}

/// pwritev: descriptor, vectors, count, offset.
pub fn pwritev(call: &Call) -> Result<i32, Errno> {
    guard_at(call, 3, "pwritev")
}

/// ftruncate: descriptor, length.
pub fn ftruncate(call: &Call) -> Result<i32, Errno> {
    guard_at(call, 1, "ftruncate")
}

/// fallocate: descriptor, mode, offset, length.
pub fn fallocate(call: &Call) -> Result<i32, Errno> {
    if call.long(2) < 0 || call.long(3) <= 0 {
        return Err(EINVAL);
    }
    guard(call, 0, "fallocate")
}

/// copy_file_range: descriptor, offset, descriptor to write to, offset, length, flags.
pub fn copy_file_range(call: &Call) -> Result<i32, Errno> {
    // A source that can't be looked at fails in the kernel, whatever the destination.
    if CageFd::of(call, 0).stat().is_err() {
        return pass(call, 0);
    }
    guard(call, 2, "copy_file_range")
}

/// mmap: address, length, protection, flags, descriptor, offset.
///
/// A shared mapping of a file that may not be written is refused even where it is for reading:
/// mprotect could open it for writing later. What was opened for reading only is not concerned.
pub fn mmap(call: &Call) -> Result<i32, Errno> {
    let flags = call.int(3);
    let is_shared = flags & mman::MAP_SHARED != 0 && flags & mman::MAP_ANONYMOUS == 0;
    let fd = CageFd::of(call, 4);
    if is_shared && is_refused(fd) {
        return Err(filter().refuse(
            fd.cage,
            format_args!("shared mapping of descriptor {}", fd.fd),
        ));
    }
    pass(call, 1)
}
