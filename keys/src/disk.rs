//! Files as the library of sealed files sees them.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use sealed::Disk;

/// An open file.
#[derive(Clone, Copy, Debug)]
pub struct FileDisk<'a>(pub &'a File);

impl FileDisk<'_> {
    /// The first byte from `offset` on that is data, or, where `is_hole`, that is in a hole; the end of the
    /// file, of `size` bytes, counts as one.
    ///
    /// # Errors
    /// As lseek(2).
    pub fn next(&self, offset: u64, is_hole: bool, size: u64) -> io::Result<u64> {
        let to = if is_hole {
            SeekFrom::Hole(offset)
        } else {
            SeekFrom::Data(offset)
        };
        match seek(self.0, to) {
            Ok(found) => Ok(found.min(size)),
            // There is none.
            Err(rustix::io::Errno::NXIO) => Ok(size),
            Err(error) => Err(error.into()),
        }
    }
}

impl Disk for FileDisk<'_> {
    type Error = io::Error;

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match FileExt::read_at(self.0, buf, offset) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.0.set_len(size)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn discard(&self, range: Range<u64>) {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // Where that is not possible the room stays taken, and nothing else.
        let _ = fallocate(self.0, flags, range.start, range.end - range.start);
    }
}

/// A file of which parts may be unreadable, or lie beside their places. It is only read.
#[derive(Debug)]
pub struct DamagedDisk<'a> {
    file: FileDisk<'a>,
    /// From where on everything lies how far from its place, in order.
    shifts: Vec<(u64, i64)>,
}

impl<'a> DamagedDisk<'a> {
    /// Bytes that are given up together where they can't be read.
    const SECTOR: u64 = 512;

    /// All of it at its place, as far as it is known.
    pub fn new(file: &'a File) -> Self {
        Self {
            file: FileDisk(file),
            shifts: Vec::new(),
        }
    }

    /// How far from its place lies what belongs there.
    pub fn shift(&self, offset: u64) -> i64 {
        let before = self.shifts.iter().rev().find(|(from, _)| *from <= offset);
        before.map_or(0, |(_, shift)| *shift)
    }

    /// What belongs at or behind that offset lies so far from its place.
    pub fn set_shift(&mut self, from: u64, shift: i64) {
        self.shifts.retain(|(other, _)| *other < from);
        self.shifts.push((from, shift));
    }

    /// Reads what lies at an offset, whatever belongs there, and zeros for what can't be read. Answers how
    /// much there is.
    pub fn read_raw(&self, buf: &mut [u8], offset: u64) -> Option<usize> {
        let unshifted = Self::new(self.file.0);
        let mut done = 0;
        while done < buf.len() {
            let at = offset.checked_add(done as u64)?;
            match unshifted.read_at(&mut buf[done..], at).ok()? {
                0 => break,
                read => done += read,
            }
        }
        Some(done)
    }

    /// How often that changes.
    pub fn shifts(&self) -> usize {
        self.shifts.len()
    }
}

impl Disk for DamagedDisk<'_> {
    type Error = io::Error;

    /// What can't be read is zeros.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let next = self.shifts.iter().find(|(from, _)| *from > offset);
        let most = next.map_or(u64::MAX, |(from, _)| from - offset);
        let len = usize::try_from(most).map_or(buf.len(), |most| most.min(buf.len()));
        let Some(place) = offset.checked_add_signed(self.shift(offset)) else {
            buf[..len].fill(0);
            return Ok(len);
        };
        match self.file.read_at(&mut buf[..len], place) {
            Ok(read) => Ok(read),
            Err(_) => {
                let sector = Self::SECTOR - place % Self::SECTOR;
                let len = usize::try_from(sector).map_or(len, |sector| sector.min(len));
                let part = &mut buf[..len];
                part.fill(0);
                let size = self.size()?;
                // Nothing is read behind the end, which would be taken for more of it.
                Ok(self
                    .file
                    .read_at(part, place)
                    .unwrap_or(part.len().min(size.saturating_sub(place) as usize)))
            }
        }
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_size(&self, _: u64) -> io::Result<()> {
        Err(ErrorKind::ReadOnlyFilesystem.into())
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
}
