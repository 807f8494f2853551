//! Bytes of a file that nobody changes, mapped instead of read.

use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::fs::File;
use std::ops::Deref;
use std::ptr::NonNull;

/// A part of a file.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the bytes are only read, and nobody changes them.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes from `offset`, which is that of a page.
    ///
    /// # Safety
    /// Nobody changes these bytes as long as they are mapped. Where the file ends before them,
    /// reading them is the end of the process.
    ///
    /// # Errors
    /// As mmap(2): also when there are none.
    pub unsafe fn new(file: &File, offset: u64, len: usize) -> std::io::Result<Self> {
        // SAFETY: the kernel chooses a place where nothing is.
        let start = unsafe {
            let (hint, prot) = (std::ptr::null_mut(), ProtFlags::READ);
            rustix::mm::mmap(hint, len, prot, MapFlags::PRIVATE, file, offset)
        }?;
        let start = NonNull::new(start.cast()).ok_or(std::io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, len })
    }

    /// Lets go of the pages that were read, which come back when they are read again.
    pub fn let_go(&self) {
        let start = self.start.as_ptr().cast();
        // SAFETY: nobody writes to these pages, so that they are as the file has them, before and
        // after. Where it fails they stay.
        let _ = unsafe { rustix::mm::madvise(start, self.len, Advice::LinuxDontNeed) };
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: that many bytes are readable from there on until this is dropped, and `new`'s
        // caller sees to it that they stay as they are.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `new` made it, and nobody has a reference into it any more. Nothing can be done
        // about an error, which the kernel has for bad arguments alone.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
