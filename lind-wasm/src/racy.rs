//! Copying to and from memory that guests change meanwhile.
//!
//! A guest's threads, its grates' handlers and other cages may write to the bytes that the host is
//! copying. What comes out then is some mix of old and new bytes, as on any processor, and whoever
//! judges it judges the copy. But for code in Rust such a race is undefined: the compiler may take
//! it that what it reads stays as it is, and read it again. So neither reads nor writes of guest
//! memory are written in Rust: the C library's own functions do the work, called in a way that the
//! compiler can't see through.

use std::arch::asm;

/// Copies `len` bytes; the two may overlap.
///
/// # Safety
/// So many bytes must be readable at `from` and writable at `to`, by whatever else they are read
/// and written meanwhile. No reference to memory that guests change may exist.
pub unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: memmove as the C ABI has it, on memory that the caller vouches for. The stack is
    // aligned at the beginning of a block that does not say `nostack`.
    unsafe {
        asm!(
            "call {memmove}",
            memmove = sym libc::memmove,
            inout("rdi") to => _,
            inout("rsi") from => _,
            inout("rdx") len => _,
            clobber_abi("C"),
        );
    }
}

/// Sets `len` bytes.
///
/// # Safety
/// As [`copy`], of `to`.
pub unsafe fn fill(to: *mut u8, byte: u8, len: usize) {
    // SAFETY: as in `copy`, of memset.
    unsafe {
        asm!(
            "call {memset}",
            memset = sym libc::memset,
            inout("rdi") to => _,
            inout("rsi") u64::from(byte) => _,
            inout("rdx") len => _,
            clobber_abi("C"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_to_where_they_belong() {
        for len in [0, 1, 7, 16, 100, 4096, 70_000] {
            let from: Vec<u8> = (0..len).map(|at: usize| (at * 7) as u8).collect();
            let mut to = vec![0xff; len + 2];
            // SAFETY: as long as said, and nobody else's.
            unsafe { copy(from.as_ptr(), to.as_mut_ptr().add(1), len) };
            assert_eq!(to[1..=len], from);
            assert_eq!((to[0], to[len + 1]), (0xff, 0xff));
            // SAFETY: as above; they overlap.
            unsafe { copy(to.as_ptr().add(1), to.as_mut_ptr(), len) };
            assert_eq!(to[..len], from);
            // SAFETY: as above.
            unsafe { fill(to.as_mut_ptr(), 3, len) };
            assert!(to[..len].iter().all(|&byte| byte == 3));
            assert_eq!(to[len + 1], 0xff);
        }
    }
}
