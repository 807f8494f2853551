//! Reading directories.

use super::abi::{Errno, FileType, Outcome, nr, u16_at, u64_at};
use super::context::Context;

/// Bytes of a Linux entry before its name.
const ENTRY: usize = 19;
/// Room for the longest entry.
const LEAST_ROOM: u32 = 512;
/// Most that one `getdents64` is asked for.
const MOST_ROOM: u32 = 64 * 1024;
const SEEK_SET: u32 = 0;

/// Lists entries from `cookie` on until the buffer is full; the last one may be cut. A buffer
/// that is not full ends the directory.
///
/// The position is set at every call: cookies are the kernel's positions, and the program may
/// come back to an older one, or have read the same open directory through another descriptor.
pub fn fd_readdir(
    cx: &mut Context<'_>,
    fd: u32,
    buffer: u32,
    len: u32,
    cookie: u64,
    used: u32,
) -> Outcome<()> {
    let fd = cx.fd(fd)?;
    cx.check(buffer, len)?;
    cx.check(used, 4)?;
    cx.seek(fd, cookie as i64, SEEK_SET)?;
    let room = len.clamp(LEAST_ROOM, MOST_ROOM);
    let batch = cx.reserve(room as usize)?;
    let mut done = 0;
    while done < len {
        let got = cx.call(nr::GETDENTS64, [fd, batch, u64::from(room)])?;
        if got == 0 {
            break;
        }
        if got > room {
            return Err(Errno::IO.into());
        }
        let mut listed = Vec::new();
        let entries = cx.staged_bytes(batch, got as usize)?;
        let mut rest = &entries[..];
        while let Some(entry) = Entry::first_of(rest)? {
            entry.write(&mut listed);
            rest = &rest[entry.len..];
        }
        listed.truncate((len - done) as usize);
        cx.put(buffer + done, &listed)?;
        done += listed.len() as u32;
    }
    cx.put(used, &done.to_le_bytes())
}

/// One of Linux's entries.
struct Entry<'a> {
    /// Bytes of it, padding included.
    len: usize,
    inode: u64,
    /// Position of the entry after it.
    next: u64,
    file_type: FileType,
    name: &'a [u8],
}

impl<'a> Entry<'a> {
    /// The first entry, if there is any. What fills the buffer may be a grate, hence the check.
    fn first_of(bytes: &'a [u8]) -> Result<Option<Self>, Errno> {
        if bytes.is_empty() {
            return Ok(None);
        }
        if bytes.len() <= ENTRY {
            return Err(Errno::IO);
        }
        let len = usize::from(u16_at(bytes, 16));
        let name = bytes.get(ENTRY..len).ok_or(Errno::IO)?;
        let end = name.iter().position(|&byte| byte == 0).ok_or(Errno::IO)?;
        Ok(Some(Self {
            len,
            inode: u64_at(bytes, 0),
            next: u64_at(bytes, 8),
            file_type: FileType::from_linux(u32::from(bytes[18])),
            name: &name[..end],
        }))
    }

    /// Appends it as WASI's `dirent` with the name behind it.
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.next.to_le_bytes());
        out.extend_from_slice(&self.inode.to_le_bytes());
        out.extend_from_slice(&(self.name.len() as u32).to_le_bytes());
        out.extend_from_slice(&[self.file_type as u8, 0, 0, 0]);
        out.extend_from_slice(self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linux_entry(name: &[u8]) -> Vec<u8> {
        let mut entry = vec![0; (ENTRY + name.len() + 1).next_multiple_of(8)];
        entry[0] = 9;
        entry[8] = 5;
        entry[16] = entry.len() as u8;
        entry[18] = 4;
        entry[ENTRY..ENTRY + name.len()].copy_from_slice(name);
        entry
    }

    #[test]
    fn an_entry_becomes_a_dirent() {
        let bytes = linux_entry(b"folder");
        let entry = Entry::first_of(&bytes).unwrap().unwrap();
        assert_eq!(entry.len, bytes.len());
        let mut out = Vec::new();
        entry.write(&mut out);
        assert_eq!((out[0], out[8], out[16], out[20]), (5, 9, 6, 3));
        assert_eq!(&out[24..], b"folder");
    }

    #[test]
    fn nonsense_is_an_error() {
        assert!(Entry::first_of(&[]).unwrap().is_none());
        let whole = linux_entry(b"x");
        for cut in 1..whole.len() {
            assert!(Entry::first_of(&whole[..cut]).is_err(), "{cut}");
        }
        let mut endless = whole.clone();
        endless[16] = 0;
        assert!(Entry::first_of(&endless).is_err());
        let mut unended = whole;
        unended[ENTRY..].fill(b'x');
        assert!(Entry::first_of(&unended).is_err());
    }
}
