//! Where the bytes of a sealed file are kept, as the engine sees it.

/// An error number of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// Input or output error; also what data that does not authenticate gives.
    pub const EIO: Self = Self(5);
    /// Permission denied.
    pub const EACCES: Self = Self(13);
    /// Invalid argument.
    pub const EINVAL: Self = Self(22);
    /// File too large.
    pub const EFBIG: Self = Self(27);
    /// No space left on device.
    pub const ENOSPC: Self = Self(28);
}

/// A file of the disk below. All offsets and sizes are physical.
pub trait Storage {
    /// Reads up to `buf.len()` bytes; fewer at the end of the file, 0 beyond it.
    ///
    /// # Errors
    /// As pread(2).
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno>;

    /// Writes some of `buf`, at least a byte unless it is empty.
    ///
    /// # Errors
    /// As pwrite(2).
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize, Errno>;

    /// Size in bytes.
    ///
    /// # Errors
    /// As fstat(2).
    fn size(&self) -> Result<u64, Errno>;

    /// Cuts the file, or extends it with zeros.
    ///
    /// # Errors
    /// As ftruncate(2).
    fn set_size(&self, size: u64) -> Result<(), Errno>;
}
