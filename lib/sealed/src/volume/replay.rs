//! Opening a file: superblocks, then the log as far as it counts.

use alloc::vec;
use alloc::vec::Vec;

use crate::aead::Aead;
use crate::disk::read_full;
use crate::layout::{FAN_OUT, HEAD_LEN};
use crate::mac::{About, MAC_LEN, Mac, same};
use crate::record::{FIXED_LEN, Kind, Part, Record, Start, tags_of};
use crate::superblock::{MARK_LEN, SECTOR_LEN, SUPERBLOCK_LEN, Superblock, parse_mark};
use crate::volume::{Stored, Volume};
use crate::{Disk, Error, Failure, FileCipher};

/// Bytes of the log that are read at a time.
const PIECE: usize = 16 << 10;

/// Bytes that are read first: header, superblock, mark, and the log of a small file.
const FIRST: usize = 4096;

/// A file that was looked at.
#[derive(Debug)]
pub struct Opened<A> {
    /// `None` for a file of which nothing has reached the disk: it is empty.
    pub volume: Option<Volume<A>>,
    /// Whether it must be so. Else somebody may be changing the file right now: who is not alone
    /// with it waits for that and looks again.
    pub is_certain: bool,
}

/// What comes next in a log.
enum Next {
    Record(Record, usize, Mac),
    /// Nothing, or what was there before.
    End,
    /// Something that was not written to its end, or is being written.
    Broken,
}

/// Bytes of the disk that were read already.
struct Ahead {
    start: u64,
    bytes: Vec<u8>,
}

impl Ahead {
    /// The `len` bytes at `offset`, with zeros behind the end of the file.
    fn get<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        offset: u64,
        len: usize,
    ) -> Result<&[u8], Failure<D::Error>> {
        let within = |ahead: &Self| {
            let at = usize::try_from(offset.checked_sub(ahead.start)?).ok()?;
            (at.checked_add(len)? <= ahead.bytes.len()).then_some(at)
        };
        if within(self).is_none() {
            self.start = offset;
            self.bytes.resize(len.max(PIECE), 0);
            read_full(disk, &mut self.bytes, offset)?;
        }
        let at = within(self).unwrap_or_default();
        Ok(&self.bytes[at..at + len])
    }
}

fn is_zeros(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

impl<A: Aead> Volume<A> {
    /// Looks at a file. `find` makes its cipher of the first bytes, which may be fewer than a header.
    ///
    /// # Errors
    /// Those of `find`, the disk's, or that superblocks or log are damaged.
    pub fn open<D: Disk + ?Sized>(
        disk: &D,
        find: impl FnOnce(&[u8]) -> Result<FileCipher<A>, Error>,
    ) -> Result<Opened<A>, Failure<D::Error>> {
        let nothing = Opened {
            volume: None,
            is_certain: true,
        };
        let mut head = vec![0; FIRST];
        let len = read_full(disk, &mut head, 0)?;
        if len == 0 {
            return Ok(nothing);
        }
        // The other superblock, with its mark.
        let mut other = [0; SECTOR_LEN + MARK_LEN];
        if len == FIRST {
            read_full(disk, &mut other, HEAD_LEN)?;
        }
        if is_zeros(&head[..SECTOR_LEN]) {
            if !is_zeros(&other[..SECTOR_LEN]) {
                return Err(Error::HeaderCorrupt.into());
            }
            return Ok(nothing);
        }
        let cipher = find(&head[..len])?;
        let slots = [&head[SECTOR_LEN..], &other[..]];
        let mut newest: Option<(Superblock, Mac)> = None;
        for (slot, sector) in (0..).zip(slots) {
            if let Some(found) = superblock_of(&cipher, slot, sector)?
                && newest.is_none_or(|(known, _)| known.epoch < found.0.epoch)
            {
                newest = Some(found);
            }
        }
        let Some((superblock, mac)) = newest else {
            return Ok(nothing);
        };
        let mut volume = Self::of(cipher, superblock, mac);
        let mark = slots[(superblock.epoch % 2) as usize][SECTOR_LEN..].first_chunk();
        if let Some(counter) = mark.and_then(|mark: &[u8; MARK_LEN]| {
            parse_mark(mark, volume.cipher.mac_key(), superblock.epoch, &mac)
        }) {
            volume.log.durable = counter;
        }
        let mut ahead = Ahead {
            start: 0,
            bytes: head,
        };
        let ends = volume.replay(disk, &mut ahead, true)?;
        if volume.log.counter < volume.log.durable {
            return Err(Error::LogCorrupt {
                record: volume.log.counter + 1 - superblock.counter,
            }
            .into());
        }
        // Who reads while another process makes a checkpoint may have seen parts of both.
        let is_certain =
            ends && (volume.log.counter == superblock.counter || !volume.has_successor(disk)?);
        Ok(Opened {
            volume: Some(volume),
            is_certain,
        })
    }

    /// Whether there is a newer superblock.
    fn has_successor<D: Disk + ?Sized>(&self, disk: &D) -> Result<bool, Failure<D::Error>> {
        let epoch = self.superblock.epoch.wrapping_add(1);
        let mut bytes = [0; SUPERBLOCK_LEN];
        read_full(disk, &mut bytes, Superblock::offset(epoch))?;
        let found = Superblock::parse(&bytes, self.cipher.mac_key());
        Ok(found.is_some_and(|(found, _)| found.epoch > self.superblock.epoch))
    }

    /// Takes what others have added to the log. Answers `false` where this is not the file's present
    /// epoch any more, or not the same file: then it is to be opened anew.
    ///
    /// # Errors
    /// The disk's.
    pub fn refresh<D: Disk + ?Sized>(&mut self, disk: &D) -> Result<bool, Failure<D::Error>> {
        if !self.begun {
            return Ok(false);
        }
        let from = self.log.mac_at;
        let apart = (self.log.at - from.min(self.log.at)) as usize;
        // One look, but where the log went on elsewhere right here.
        let near = apart <= 2 * SECTOR_LEN;
        let mut bytes = vec![0; if near { apart + FIXED_LEN } else { MAC_LEN }];
        let len = read_full(disk, &mut bytes, from)?;
        if len < MAC_LEN || bytes[..MAC_LEN] != self.log.chain {
            return Ok(false);
        }
        let mut start = [0; FIXED_LEN];
        if near {
            start.copy_from_slice(&bytes[apart..]);
        } else {
            read_full(disk, &mut start, self.log.at)?;
        }
        let follows = Start::parse(&start).is_some_and(|start| self.is_next(start));
        if follows {
            let mut ahead = Ahead {
                start: 0,
                bytes: Vec::new(),
            };
            self.replay(disk, &mut ahead, false)?;
        }
        Ok(!(self.log.closing && self.has_successor(disk)?))
    }

    fn is_next(&self, start: Start) -> bool {
        Some(start.counter) == self.log.counter.checked_add(1)
    }

    /// Takes records as long as they count. With `looks`, also what they name is looked at, where it is
    /// not known to have reached the disk. Answers whether the log ends there for sure.
    fn replay<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        ahead: &mut Ahead,
        looks: bool,
    ) -> Result<bool, Failure<D::Error>> {
        loop {
            match self.next_record(disk, ahead)? {
                Next::End => return Ok(true),
                Next::Broken => return Ok(false),
                Next::Record(record, len, mac) => {
                    if looks
                        && record.counter > self.log.durable
                        && !self.has_chunks(disk, ahead, &record)?
                    {
                        return Ok(false);
                    }
                    self.apply(&record, len, mac)?;
                }
            }
        }
    }

    fn next_record<D: Disk + ?Sized>(
        &self,
        disk: &D,
        ahead: &mut Ahead,
    ) -> Result<Next, Failure<D::Error>> {
        let at = self.log.at;
        let Some(start) = ahead
            .get(disk, at, FIXED_LEN)?
            .first_chunk()
            .and_then(Start::parse)
            .filter(|start| self.is_next(*start))
        else {
            return Ok(Next::End);
        };
        // Most records are short, or short but for their payload.
        for most in [4096, 1 << 16, usize::MAX] {
            let len = most.min(start.len - MAC_LEN);
            let bytes = ahead.get(disk, at, len)?;
            let Some(record) = Record::parse(bytes, self.layout()) else {
                continue;
            };
            let key = self.cipher.mac_key();
            let head = &bytes[..record.head_len()];
            let mac = key.of(About::Record, at, &[&self.log.chain, head]);
            let found = ahead.get(disk, at + (start.len - MAC_LEN) as u64, MAC_LEN)?;
            if same(&mac, found) {
                return Ok(Next::Record(record, start.len, mac));
            }
            break;
        }
        Ok(Next::Broken)
    }

    /// Whether all chunks that a record names are there.
    fn has_chunks<D: Disk + ?Sized>(
        &self,
        disk: &D,
        ahead: &mut Ahead,
        record: &Record,
    ) -> Result<bool, Failure<D::Error>> {
        let layout = *self.layout();
        let mut payload = self.log.at + record.head_len() as u64;
        for part in &record.parts {
            let (mut index, mut tags) = (part.first, part.tags.as_slice());
            while !tags.is_empty() {
                let count = match part.kind {
                    Kind::InPlace => layout.together(index, tags.len() as u64),
                    Kind::InLog | Kind::Hole => (tags.len() as u64).min(FAN_OUT),
                } as usize;
                let (run, rest) = tags.split_at(count);
                let last_len = match rest {
                    [] => part.last_len,
                    _ => layout.chunk_size(),
                };
                let len = (count - 1) * layout.chunk_size() + last_len;
                let sealed_len = layout.sealed_len(len)?;
                let offset = match part.kind {
                    Kind::InPlace => layout.chunk_offset(index)?,
                    Kind::InLog | Kind::Hole => payload,
                };
                let sealed = ahead.get(disk, offset, sealed_len)?;
                let mut plaintext = zeroize::Zeroizing::new(vec![0; len]);
                if self
                    .cipher
                    .open_chunks(index, sealed, &mut plaintext)
                    .is_err()
                    || !tags_of(&layout, sealed)
                        .zip(run)
                        .all(|(found, tag)| same(&found, tag))
                {
                    return Ok(false);
                }
                if part.kind == Kind::InLog {
                    payload += sealed_len as u64;
                }
                index += count as u64;
                tags = rest;
            }
        }
        Ok(true)
    }

    /// Takes a record that counts, and stands where the next one was expected.
    pub(super) fn apply(&mut self, record: &Record, len: usize, mac: Mac) -> Result<(), Error> {
        let layout = *self.layout();
        let mut payload = self.log.at + record.head_len() as u64;
        self.resize(record.size);
        let chunks = layout.chunks(record.size);
        for part in &record.parts {
            match part.kind {
                Kind::Hole => self.apply_holes(part, chunks),
                Kind::InPlace | Kind::InLog => {
                    for (index, len, tag) in part.chunks(&layout) {
                        let offset = match part.kind {
                            Kind::InPlace => layout.chunk_offset(index)?,
                            Kind::InLog | Kind::Hole => payload,
                        };
                        if part.kind == Kind::InLog {
                            payload += (len + crate::layout::OVERHEAD) as u64;
                        } else {
                            self.fresh = self.fresh.max(index + 1);
                        }
                        if index < chunks {
                            let tag = *tag;
                            self.changed.insert(index, Stored::At { offset, len, tag });
                        }
                    }
                }
            }
        }
        self.log.mac_at = self.log.at + (len - MAC_LEN) as u64;
        self.log.at = match record.next {
            0 => self.log.at + len as u64,
            next => {
                self.log.far = Some(next);
                next
            }
        };
        self.log.chain = mac;
        self.log.counter = record.counter;
        self.log.closing = record.parts.is_empty() && record.next == 0;
        Ok(())
    }

    fn apply_holes(&mut self, part: &Part, chunks: u64) {
        for index in part.first..(part.first + part.count).min(chunks) {
            if index < self.valid {
                self.changed.insert(index, Stored::Hole);
            } else {
                self.changed.remove(&index);
            }
        }
    }

    fn resize(&mut self, size: u64) {
        let chunks = self.layout().chunks(size);
        if chunks < self.layout().chunks(self.size) {
            self.valid = self.valid.min(chunks);
            self.changed.split_off(&chunks);
        }
        self.size = size;
    }
}

/// The superblock of a slot, with its MAC; `None` where none was ever written.
fn superblock_of<A: Aead>(
    cipher: &FileCipher<A>,
    slot: u64,
    sector: &[u8],
) -> Result<Option<(Superblock, Mac)>, Error> {
    if is_zeros(&sector[..SECTOR_LEN]) {
        return Ok(None);
    }
    sector
        .first_chunk()
        .and_then(|bytes| Superblock::parse(bytes, cipher.mac_key()))
        .filter(|(superblock, _)| superblock.epoch % 2 == slot)
        .map(Some)
        .ok_or(Error::SuperblockCorrupt { slot })
}
