//! What a repair reads and writes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// A file, or what stands for one where it is to fail at a given moment.
pub trait Disk {
    /// Its size in bytes.
    ///
    /// # Errors
    /// As fstat(2).
    fn size(&self) -> io::Result<u64>;

    /// Reads what is at an offset, up to the end of the file: answers how much, which may be less
    /// than there is.
    ///
    /// # Errors
    /// As pread(2).
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;

    /// Writes all of it.
    ///
    /// # Errors
    /// As pwrite(2).
    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Cuts the file, or makes it longer.
    ///
    /// # Errors
    /// As ftruncate(2).
    fn set_size(&self, size: u64) -> io::Result<()>;

    /// Puts on the disk what was written.
    ///
    /// # Errors
    /// As fsync(2).
    fn sync(&self) -> io::Result<()>;
}

impl Disk for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, at)
    }

    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, at)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.set_len(size)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }
}

/// Reads so many bytes; what the file has no more of is zeros. Answers how many there were.
pub(super) fn read_up_to(disk: &impl Disk, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match disk.read_at(&mut buffer[done..], at + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer[done..].fill(0);
    Ok(done)
}
