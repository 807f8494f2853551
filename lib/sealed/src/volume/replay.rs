//! Opening a file: superblocks, then the log as far as it counts.

mod salvage;

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use crate::aead::Aead;
use crate::disk::read_full;
use crate::layout::{FAN_OUT, HEAD_LEN, OVERHEAD};
use crate::mac::{About, MAC_LEN, Mac, same};
use crate::record::{FIXED_LEN, Kind, Part, Record, Start, tags_of};
use crate::superblock::{MARK_LEN, SECTOR_LEN, SUPERBLOCK_LEN, Superblock, parse_mark};
use crate::tree::HOLE;
use crate::volume::{Edge, Stored, TailPiece, Volume};
use crate::{Disk, Error, Failure, FileCipher, Secret, TAG_LEN};

pub use salvage::{Found, Salvage};

/// Bytes of the log that are read at a time.
const PIECE: usize = 32 << 10;

/// Bytes of sealed chunks that are looked at together.
const MANY: usize = 256 << 10;

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
    /// Whether there are bytes in a file that is empty all the same. They are to be cut off before it is
    /// begun: no power cut may bring old and new together.
    pub has_remains: bool,
}

/// What comes next in a log.
enum Next {
    Record(Record, usize, Mac),
    /// Nothing, or what was there before.
    End,
    /// Something that was not written to its end, or is being written.
    Broken,
}

/// A chunk as a record names it.
struct Version {
    index: u64,
    /// Where in it what is stored begins: not 0 for what was appended.
    start: usize,
    stored: Stored,
    /// The record that names it, and the one from which on it is of no use any more.
    since: u64,
    until: u64,
}

/// What the records of a log name that is not known to have reached the disk.
#[derive(Default)]
struct History {
    versions: Vec<Version>,
    /// Which of them count now, by the chunk and where in it they begin.
    live: BTreeMap<(u64, usize), usize>,
}

impl History {
    /// Takes the record that `volume` took last.
    fn take<A>(&mut self, volume: &Volume<A>, record: &Record) {
        let chunks = volume.cipher.layout().chunks(record.size);
        let mut gone = self.live.split_off(&(chunks, 0));
        for part in &record.parts {
            if part.kind == Kind::Appended {
                if record.counter > volume.log.durable
                    && let Some(piece) = volume.tail.of(part.first).last()
                {
                    self.live
                        .insert((part.first, piece.start), self.versions.len());
                    self.versions.push(Version {
                        index: part.first,
                        start: piece.start,
                        stored: Stored::At {
                            offset: piece.offset,
                            len: piece.len,
                            tag: piece.tag,
                        },
                        since: record.counter,
                        until: u64::MAX,
                    });
                }
                continue;
            }
            let end = part.first.saturating_add(part.count);
            let mut old = self.live.split_off(&(part.first, 0));
            self.live.append(&mut old.split_off(&(end, 0)));
            gone.append(&mut old);
            if part.kind == Kind::Hole || record.counter <= volume.log.durable {
                continue;
            }
            for index in (part.first..end).take_while(|index| *index < chunks) {
                if let Some(stored) = volume.changed.get(&index) {
                    self.live.insert((index, 0), self.versions.len());
                    self.versions.push(Version {
                        index,
                        start: 0,
                        stored: *stored,
                        since: record.counter,
                        until: u64::MAX,
                    });
                }
            }
        }
        for version in gone.into_values() {
            self.versions[version].until = record.counter;
        }
    }
}

/// Bytes of the disk that were read already.
struct Ahead {
    start: u64,
    bytes: Vec<u8>,
    /// Where the file ends, if that was seen.
    end: u64,
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
            let len = read_full(disk, &mut self.bytes, offset)?;
            if len < self.bytes.len() {
                self.end = offset + len as u64;
            }
        }
        let at = within(self).unwrap_or_default();
        Ok(&self.bytes[at..at + len])
    }
}

fn is_zeros(bytes: &[u8]) -> bool {
    // A register's worth at a time, in place of byte by byte.
    let (whole, rest) = bytes.as_chunks::<16>();
    whole.iter().all(|whole| u128::from_ne_bytes(*whole) == 0) && rest.iter().all(|&byte| byte == 0)
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
        let mut head = vec![0; FIRST];
        let len = read_full(disk, &mut head, 0)?;
        let nothing = Opened {
            volume: None,
            is_certain: true,
            has_remains: len > 0,
        };
        if len == 0 {
            return Ok(nothing);
        }
        // The other superblock, with its mark.
        let mut other = [0; SECTOR_LEN + MARK_LEN];
        if len == FIRST {
            read_full(disk, &mut other, HEAD_LEN)?;
        }
        if is_zeros(&head[..SECTOR_LEN]) {
            // Behind a checkpoint or a mark the header has reached the disk.
            let mark = Superblock::mark_offset(0) as usize;
            if !is_zeros(&other[..SECTOR_LEN]) || !is_zeros(&head[mark..mark + MARK_LEN]) {
                return Err(Error::HeaderCorrupt.into());
            }
            return Ok(nothing);
        }
        let cipher = find(&head[..len])?;
        let slots = [&head[SECTOR_LEN..], &other[..]];
        let newest = newest_of([
            superblock_of(&cipher, 0, slots[0])?,
            superblock_of(&cipher, 1, slots[1])?,
        ])?;
        let Some((superblock, mac)) = newest else {
            if len < SECTOR_LEN {
                return Err(Error::Truncated.into());
            }
            return Ok(nothing);
        };
        let mut volume = Self::of(cipher, superblock, mac);
        let mark = slots[(superblock.epoch % 2) as usize][SECTOR_LEN..].first_chunk();
        let durable = mark
            // Most files have none.
            .filter(|mark: &&[u8; MARK_LEN]| !is_zeros(*mark))
            .and_then(|mark| parse_mark(mark, volume.cipher.mac_key(), superblock.epoch, &mac))
            .unwrap_or(superblock.counter);
        volume.log.durable = durable;
        let mut ahead = Ahead {
            start: 0,
            bytes: head,
            end: if len < FIRST { len as u64 } else { u64::MAX },
        };
        let mut history = History::default();
        let mut ends = volume.replay(disk, &mut ahead, u64::MAX, Some(&mut history))?;
        let counts = volume.last_that_counts(disk, &mut ahead, history)?;
        if counts < volume.log.counter {
            volume.begin_epoch(superblock, mac);
            volume.replay(disk, &mut ahead, counts, None)?;
            if let Next::Record(_, _, mac) = volume.next_record(disk, &mut ahead)? {
                volume.log.void = Some(mac);
            }
            ends = false;
        }
        volume.log.durable = durable;
        volume.log.is_swept = false;
        if volume.log.counter < durable {
            return Err(Error::LogCorrupt {
                record: volume.log.counter + 1 - superblock.counter,
            }
            .into());
        }
        // Who reads while another process makes a checkpoint may have seen parts of both, unless it was
        // all read at once.
        let at_once = len < FIRST && ahead.start == 0;
        let is_certain = ends
            && (at_once
                || volume.log.counter == superblock.counter
                || !volume.has_successor(disk)?);
        Ok(Opened {
            volume: Some(volume),
            is_certain,
            has_remains: false,
        })
    }

    /// Whether there is a newer superblock, or what only stands where the next one does.
    fn has_successor<D: Disk + ?Sized>(&self, disk: &D) -> Result<bool, Failure<D::Error>> {
        let epoch = self.superblock.epoch.wrapping_add(1);
        let mut bytes = [0; SUPERBLOCK_LEN];
        read_full(disk, &mut bytes, Superblock::offset(epoch))?;
        Ok(match Superblock::parse(&bytes, self.cipher.mac_key()) {
            Some((found, _)) => found.epoch > self.superblock.epoch,
            None => !is_zeros(&bytes),
        })
    }

    /// Whether the superblock of this epoch stands where it did.
    fn has_superblock<D: Disk + ?Sized>(&self, disk: &D) -> Result<bool, Failure<D::Error>> {
        let mut mac = [0; MAC_LEN];
        let end = Superblock::offset(self.superblock.epoch) + SUPERBLOCK_LEN as u64;
        read_full(disk, &mut mac, end - MAC_LEN as u64)?;
        Ok(mac == self.superblock_mac)
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
        let mut bytes = [0; 2 * SECTOR_LEN + FIXED_LEN];
        let bytes = &mut bytes[..if near { apart + FIXED_LEN } else { MAC_LEN }];
        // Mostly the file ends right there, and one call tells it.
        let read = disk.read_at(bytes, from).map_err(Failure::Disk)?;
        let len = if read == MAC_LEN || read == bytes.len() {
            read
        } else {
            read_full(disk, bytes, from)?
        };
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
                end: u64::MAX,
            };
            self.replay(disk, &mut ahead, u64::MAX, None)?;
        }
        // Of a log whose epoch is long over what lies behind the groups may be gone, all of it or its end; at the
        // head it is overwritten from its beginning on, and not in part.
        let is_far = !near || self.log.far.is_some() && start != [0; FIXED_LEN];
        let is_over = (self.log.closing || is_far) && self.has_successor(disk)?;
        // Who was behind may find a part of the log though the file was put out of use.
        Ok(!is_over && (!follows || self.has_superblock(disk)?))
    }

    fn is_next(&self, start: Start) -> bool {
        Some(start.counter) == self.log.counter.checked_add(1)
    }

    /// Takes records up to that one, and puts down in `history` what they name and is not known to
    /// have reached the disk. Answers whether the log ends there for sure.
    fn replay<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        ahead: &mut Ahead,
        last: u64,
        mut history: Option<&mut History>,
    ) -> Result<bool, Failure<D::Error>> {
        while self.log.counter < last {
            match self.next_record(disk, ahead)? {
                Next::End => return Ok(true),
                Next::Broken => return Ok(false),
                Next::Record(_, _, mac) if self.log.void == Some(mac) => return Ok(true),
                Next::Record(record, len, mac) => {
                    self.apply(&record, len, mac)?;
                    if let Some(history) = &mut history {
                        history.take(self, &record);
                    }
                }
            }
        }
        Ok(true)
    }

    /// The last record with which all that the log names is there.
    fn last_that_counts<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        ahead: &mut Ahead,
        history: History,
    ) -> Result<u64, Failure<D::Error>> {
        let mut last = self.log.counter;
        let mut versions = history.versions;
        // Those that are there to the end, then those that an earlier end brings back.
        versions.sort_by_key(|version| core::cmp::Reverse(version.until));
        let mut rest = versions.as_slice();
        while let Some(version) = rest.first().filter(|version| version.until > last) {
            let count = self.together(rest, last);
            if count > 1 && self.are_there(disk, ahead, &rest[..count])? {
                rest = &rest[count..];
                continue;
            }
            if version.since <= last && !self.is_there(disk, ahead, version)? {
                last = version.since - 1;
            }
            rest = &rest[1..];
        }
        Ok(last)
    }

    /// How many of the first versions are full chunks that lie one behind the other, and count as things are.
    fn together(&self, versions: &[Version], last: u64) -> usize {
        let layout = *self.layout();
        let most = MANY / layout.sealed_chunk_len();
        let place = |version: &Version| match version.stored {
            Stored::At { offset, len, .. }
                if len == layout.chunk_size() && version.since <= last && version.until > last =>
            {
                Some((version.index, offset))
            }
            _ => None,
        };
        let Some((first, start)) = versions.first().and_then(place) else {
            return 0;
        };
        let expected = (0..most as u64).map(|i| {
            let offset = start + i * layout.sealed_chunk_len() as u64;
            Some((first + i, offset))
        });
        let found = versions.iter().map(place);
        found
            .zip(expected)
            .take_while(|(found, expected)| found == expected)
            .count()
    }

    /// Whether all these chunks, which lie one behind the other, are where records say.
    fn are_there<D: Disk + ?Sized>(
        &self,
        disk: &D,
        ahead: &mut Ahead,
        versions: &[Version],
    ) -> Result<bool, Failure<D::Error>> {
        let (Some(first), layout) = (versions.first(), *self.layout()) else {
            return Ok(true);
        };
        let Stored::At { offset, .. } = first.stored else {
            return Ok(false);
        };
        let sealed = ahead.get(disk, offset, versions.len() * layout.sealed_chunk_len())?;
        let mut plaintext = Secret::zeros(versions.len() * layout.chunk_size());
        let opened = self.cipher.open_chunks(first.index, sealed, &mut plaintext);
        let mut tags = tags_of(&layout, sealed).zip(versions);
        let named = |stored: Stored| match stored {
            Stored::At { tag, .. } => tag,
            Stored::Hole => HOLE,
        };
        Ok(opened.is_ok() && tags.all(|(found, version)| same(&found, &named(version.stored))))
    }

    /// Whether a chunk is where a record says. One that counts now is kept for who reads it next.
    fn is_there<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        ahead: &mut Ahead,
        version: &Version,
    ) -> Result<bool, Failure<D::Error>> {
        let Stored::At { offset, len, tag } = version.stored else {
            return Ok(true);
        };
        let sealed = ahead.get(disk, offset, len + OVERHEAD)?;
        let mut plaintext = Secret::with_capacity(self.layout().chunk_size());
        plaintext.resize(len, 0);
        let opened = self
            .cipher
            .open_piece(version.index, version.start, sealed, &mut plaintext);
        let is_there = opened.is_ok() && same(&sealed[sealed.len() - TAG_LEN..], &tag);
        // Not what was appended, but with it.
        if is_there && version.until == u64::MAX && self.tail.of(version.index).is_empty() {
            self.edge = Edge {
                index: version.index,
                tag,
                plaintext,
            };
        }
        Ok(is_there)
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
            // What the file ends before was not written, should it have been zeros.
            if same(&mac, found) && at + start.len as u64 <= ahead.end {
                return Ok(Next::Record(record, start.len, mac));
            }
            break;
        }
        Ok(Next::Broken)
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
                Kind::Appended => {
                    let tag = part.tags.first().copied().unwrap_or_default();
                    if self.tail.index != part.first {
                        self.tail.pieces.clear();
                    }
                    self.tail.index = part.first;
                    self.tail.pieces.push(TailPiece {
                        start: part.start,
                        offset: payload,
                        len: part.last_len,
                        tag,
                    });
                    payload += (part.last_len + OVERHEAD) as u64;
                }
                Kind::InPlace | Kind::InLog => {
                    self.tail
                        .end(part.first..part.first.saturating_add(part.count));
                    let mut place = 0;
                    for (index, len, tag) in part.chunks(&layout) {
                        let begins = index == part.first || index % FAN_OUT == 0;
                        let offset = match part.kind {
                            Kind::InPlace if begins => layout.chunk_offset(index)?,
                            // In a group they lie one behind the other.
                            Kind::InPlace => place + layout.sealed_chunk_len() as u64,
                            Kind::InLog | Kind::Hole | Kind::Appended => payload,
                        };
                        place = offset;
                        if part.kind == Kind::InLog {
                            payload += (len + OVERHEAD) as u64;
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
        self.tail
            .end(part.first..part.first.saturating_add(part.count));
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
            self.tail.end(chunks..u64::MAX);
        }
        self.size = size;
    }
}

/// Which superblock counts. No power cut leaves others than those of two epochs one after the other, or
/// the first one alone.
fn newest_of(found: [Option<(Superblock, Mac)>; 2]) -> Result<Option<(Superblock, Mac)>, Error> {
    let epoch = |slot: usize| found[slot].map(|(superblock, _)| superblock.epoch);
    let [first, second] = [epoch(0), epoch(1)];
    let slot = match (first, second) {
        (None, None) => return Ok(None),
        (Some(first), Some(second)) if first.abs_diff(second) == 1 => usize::from(second > first),
        (Some(0), None) => 0,
        // The one that is not there, or the older one.
        _ => {
            let slot = u64::from(second < first);
            return Err(Error::SuperblockCorrupt { slot });
        }
    };
    Ok(found[slot])
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
