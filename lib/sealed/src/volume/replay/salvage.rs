//! What is left of a damaged file.
//!
//! Each chunk authenticates by itself, so that what one part of a file lost is no loss to the others.
//! What tells the newest version of a chunk may be damaged too: then it is told that nobody knows.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use zeroize::Zeroize;

use super::{Ahead, Next, is_zeros, superblock_of};
use crate::aead::{Aead, Software};
use crate::disk::read_full;
use crate::layout::OVERHEAD;
use crate::mac::{MAC_LEN, Mac, same};
use crate::record::{FIXED_LEN, MAX_RECORD_LEN, Record, Start, Tag};
use crate::superblock::{MARK_LEN, SECTOR_LEN, Superblock, parse_mark};
use crate::tree::HOLE;
use crate::volume::{Log, Stored, Volume};
use crate::{Disk, Error, Failure, FileCipher, MAX_PHYSICAL_SIZE, NONCE_LEN, Secret, TAG_LEN};

/// Places of chunks at which there is something that are looked at, from the end of a file whose size
/// is not known.
const TRIED: usize = 1 << 18;

/// Bytes that are authenticated in search of a chunk of any length.
const TRIED_BYTES: usize = 32 << 20;

/// What was found of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The newest version, or a hole.
    Newest,
    /// An older version.
    Older,
    /// A version of it; which one, what would tell it is damaged.
    Unproven,
    /// None.
    Nothing,
}

/// A chunk as a whole, or what was appended to it.
#[derive(Clone, Copy, Debug)]
struct Piece {
    place: u64,
    /// Where in the chunk it begins.
    start: usize,
    len: usize,
    /// Which run of records it is of, within which none is lost.
    run: usize,
}

/// A damaged file, as far as it can be known. It only ever reads.
#[derive(Debug)]
pub struct Salvage<A = Software> {
    volume: Volume<A>,
    /// Where else versions of chunks are, and what was appended to them, the newest last.
    versions: BTreeMap<u64, Vec<Piece>>,
    /// How often something was lost between the records so far.
    run: usize,
    /// Whether chunks at their places are those that the first records were written upon.
    is_rooted: bool,
    /// Chunks that superblock or log tell of; of those behind nothing is known but what is there.
    known: u64,
    is_doubtful: bool,
}

/// One that opens as it should, but for chunks and nodes of its tree.
impl<A> From<Volume<A>> for Salvage<A> {
    fn from(volume: Volume<A>) -> Self {
        Self {
            known: u64::MAX,
            volume,
            versions: BTreeMap::new(),
            run: 0,
            is_rooted: true,
            is_doubtful: false,
        }
    }
}

impl<A: Aead> Salvage<A> {
    /// Looks for superblocks and logs, and takes all that is authentic, whatever is missing.
    ///
    /// # Errors
    /// The disk's.
    pub fn open<D: Disk + ?Sized>(
        disk: &D,
        cipher: FileCipher<A>,
    ) -> Result<Self, Failure<D::Error>> {
        let mut newest: Option<(Superblock, Mac)> = None;
        let (mut broken, mut sectors) = (None, [[0; SECTOR_LEN]; 2]);
        for (slot, sector) in (0..).zip(&mut sectors) {
            read_full(disk, sector, Superblock::offset(slot))?;
            match superblock_of(&cipher, slot, sector) {
                Err(_) => broken = Some(slot),
                Ok(Some(found)) if newest.is_none_or(|(known, _)| known.epoch < found.0.epoch) => {
                    newest = Some(found);
                }
                Ok(_) => {}
            }
        }
        // One that is zeros beside one of a later epoch than the first was taken away.
        let is_first = newest.is_some_and(|(superblock, _)| superblock.epoch == 0);
        let has_both = sectors.iter().all(|sector| !is_zeros(sector));
        let unknown = Superblock {
            epoch: 0,
            counter: 0,
            size: 0,
            root: HOLE,
            elder: (0, 0),
            unique: [0; 16],
        };
        let (superblock, mac) = newest.unwrap_or((unknown, [0; MAC_LEN]));
        let is_rooted = newest.is_some() && broken.is_none() && (is_first || has_both);
        let mut salvage = Self {
            volume: Volume::of(cipher, superblock, mac),
            versions: BTreeMap::new(),
            run: 0,
            is_rooted,
            known: u64::MAX,
            is_doubtful: !is_rooted,
        };
        let mut ends = newest.is_some();
        if newest.is_some() {
            let mut mark = [0; MARK_LEN];
            read_full(disk, &mut mark, Superblock::mark_offset(superblock.epoch))?;
            let key = salvage.volume.cipher.mac_key().clone();
            ends = salvage.walk(disk)?;
            if parse_mark(&mark, &key, superblock.epoch, &mac)
                .is_some_and(|durable| durable > salvage.volume.log.counter)
            {
                (ends, salvage.is_doubtful) = (false, true);
            }
        }
        // The log of a superblock that is damaged, which goes on where the other one's ends.
        let slots = match (newest, broken) {
            (Some(_), broken) => broken..=broken,
            (None, _) => Some(0)..=Some(1),
        };
        let slots = (0..2).filter(|slot| slots.contains(&Some(*slot)));
        for slot in salvage.in_order(disk, slots)? {
            let counter = salvage.volume.log.counter;
            let lost = Superblock {
                epoch: slot,
                counter,
                ..superblock
            };
            let chain = *sectors[slot as usize][112..].first_chunk().unwrap_or(&mac);
            salvage.volume.log = Log::new(&lost, chain);
            salvage.run += 1;
            ends &= salvage.walk(disk)?;
        }
        if !ends {
            salvage.measure(disk, newest.is_none())?;
        }
        Ok(salvage)
    }

    /// Logs by the counters of their first records.
    fn in_order<D: Disk + ?Sized>(
        &self,
        disk: &D,
        slots: impl Iterator<Item = u64>,
    ) -> Result<Vec<u64>, Failure<D::Error>> {
        let mut known = Vec::new();
        for slot in slots {
            let mut start = [0; FIXED_LEN];
            read_full(disk, &mut start, Superblock::log_offset(slot))?;
            known.push((Start::parse(&start).map_or(0, |start| start.counter), slot));
        }
        known.sort_unstable();
        Ok(known.into_iter().map(|(_, slot)| slot).collect())
    }

    /// The file's geometry.
    pub fn layout(&self) -> &crate::Layout {
        self.volume.layout()
    }

    /// Header, geometry and AEAD.
    pub fn cipher(&self) -> &FileCipher<A> {
        self.volume.cipher()
    }

    /// Bytes of plaintext; where [`Salvage::is_measured`], at least so many.
    pub fn size(&self) -> u64 {
        self.volume.size()
    }

    /// Whether nothing tells the size but what is there.
    pub fn is_measured(&self) -> bool {
        self.known < u64::MAX
    }

    /// How many changes there were in the file's life, as far as they are known.
    pub fn counter(&self) -> u64 {
        self.volume.counter()
    }

    /// Whether there is anything authentic at all.
    pub fn has_anything(&self) -> bool {
        !self.is_measured() || self.size() > 0
    }

    /// Whether a superblock or parts of the log are lost, so that anything may have been changed since.
    pub fn is_doubtful(&self) -> bool {
        self.is_doubtful
    }

    /// Takes records from where the log is at, over gaps where some are damaged. Answers whether the
    /// last one is authentic, as far as can be seen.
    fn walk<D: Disk + ?Sized>(&mut self, disk: &D) -> Result<bool, Failure<D::Error>> {
        let mut ahead = Ahead {
            start: 0,
            bytes: Vec::new(),
            end: u64::MAX,
        };
        let end = disk.size().map_err(Failure::Disk)?;
        loop {
            if let Next::Record(record, len, mac) = self.volume.next_record(disk, &mut ahead)? {
                self.keep(disk, &record)?;
                self.volume.apply(&record, len, mac)?;
                continue;
            }
            // Of one that is not authentic the chunks may be, if its head is whole.
            let at = self.volume.log.at;
            let most = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
            let bytes = ahead.get(disk, at, most.min(MAX_RECORD_LEN))?;
            let start = bytes.first_chunk().and_then(Start::parse);
            let record = start
                .and_then(|start| bytes.get(..start.len - MAC_LEN))
                .and_then(|bytes| Record::parse(bytes, self.volume.layout()));
            let was_written = match &record {
                Some(record) => self.keep(disk, record)?,
                None => false,
            };
            self.is_doubtful |= was_written;
            if !self.skip(disk, at, &mut ahead)? {
                return Ok(!was_written);
            }
            // The next one may tell that it follows that one, which then is what it was.
            let behind = start.map(|start| at + start.len as u64);
            if record.is_none() || behind != Some(self.volume.log.at) {
                self.run += 1;
            }
            self.is_doubtful = true;
        }
    }

    /// Goes on behind records that are damaged: looks for the next one whose predecessor's MAC is
    /// whole.
    fn skip<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        at: u64,
        ahead: &mut Ahead,
    ) -> Result<bool, Failure<D::Error>> {
        let end = disk.size().map_err(Failure::Disk)?;
        let most = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
        let window = ahead.get(disk, at, most.min(MAX_RECORD_LEN))?.to_vec();
        let counter = self.volume.log.counter;
        let least = counter.saturating_add(2);
        for (place, bytes) in window.windows(MAC_LEN + FIXED_LEN).enumerate() {
            let (chain, start) = bytes.split_at(MAC_LEN);
            let Some(start) = start.first_chunk().and_then(Start::parse) else {
                continue;
            };
            // There are no more of them than bytes.
            if start.counter < least || start.counter - least > window.len() as u64 {
                continue;
            }
            let log = &mut self.volume.log;
            log.at = at + (place + MAC_LEN) as u64;
            log.counter = start.counter - 1;
            log.chain = *chain.first_chunk().unwrap_or(&log.chain);
            if let Next::Record(..) = self.volume.next_record(disk, ahead)? {
                return Ok(true);
            }
        }
        self.volume.log.counter = counter;
        Ok(false)
    }

    /// Keeps where a record has chunks, as far as they are authentic. Answers whether any are.
    fn keep<D: Disk + ?Sized>(&mut self, disk: &D, record: &Record) -> Result<bool, Error> {
        let layout = *self.layout();
        let mut payload = self.volume.log.at + record.head_len() as u64;
        let mut has_any = false;
        for part in record.parts.iter().filter(|part| part.kind.is_in_log()) {
            for (index, len, _) in part.chunks(&layout) {
                let mut sealed = vec![0; len + OVERHEAD];
                let is_there = read_full(disk, &mut sealed, payload).is_ok()
                    && self.opens(index, part.start, &sealed);
                if is_there {
                    has_any = true;
                    self.versions.entry(index).or_default().push(Piece {
                        place: payload,
                        start: part.start,
                        len,
                        run: self.run,
                    });
                } else {
                    self.run += 1;
                }
                payload += sealed.len() as u64;
            }
        }
        Ok(has_any)
    }

    /// Finds out how long a file is of which nothing else tells it.
    fn measure<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        is_blind: bool,
    ) -> Result<(), Failure<D::Error>> {
        let layout = *self.layout();
        let end = disk.size().map_err(Failure::Disk)?;
        let mut size = self.volume.size;
        self.known = match is_blind {
            true => 0,
            false => layout.chunks(size),
        };
        for (index, versions) in &self.versions {
            let longest = versions.iter().map(|piece| piece.start + piece.len).max();
            let start = layout.chunk_start(*index)?;
            size = size.max(start + longest.unwrap_or_default() as u64);
        }
        // How many places of chunks there are.
        let mut places = 0..end.min(MAX_PHYSICAL_SIZE) / layout.sealed_chunk_len() as u64 + 1;
        while places.start < places.end {
            let middle = places.start.midpoint(places.end);
            match layout.chunk_offset(middle) {
                Ok(place) if place < end => places.start = middle + 1,
                _ => places.end = middle,
            }
        }
        let known = layout.chunks(size);
        let (mut tried, mut left) = (0, TRIED_BYTES);
        for index in (known..places.start).rev() {
            let mut sealed = vec![0; layout.sealed_chunk_len()];
            let place = layout.chunk_offset(index)?;
            let len = read_full(disk, &mut sealed, place)?;
            if is_zeros(&sealed[..NONCE_LEN]) {
                continue;
            }
            tried += 1;
            if tried > TRIED {
                break;
            }
            let mut found = self.opens(index, 0, &sealed).then_some(layout.chunk_size());
            if found.is_none() {
                // The one with which the file ends, or any.
                let most = len.saturating_sub(OVERHEAD).min(layout.chunk_size() - 1);
                found = (1..=most).rev().find(|&len| {
                    let next = left.checked_sub(len);
                    left = next.unwrap_or_default();
                    next.is_some() && self.opens(index, 0, &sealed[..len + OVERHEAD])
                });
            }
            if let Some(len) = found {
                size = size.max(layout.chunk_start(index)? + len as u64);
                break;
            }
        }
        self.volume.size = size;
        Ok(())
    }

    /// Whether that is a chunk, or what was appended to it when it had so many bytes.
    fn opens(&self, index: u64, start: usize, sealed: &[u8]) -> bool {
        let mut plaintext = Secret::zeros(sealed.len() - OVERHEAD);
        self.cipher()
            .open_piece(index, start, sealed, &mut plaintext)
            .is_ok()
    }

    /// Reads a chunk, all of which is `out`: zeros where nothing of it was found.
    ///
    /// # Errors
    /// [`Error::BufferSize`] for one of another length.
    pub fn chunk<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        index: u64,
        out: &mut [u8],
    ) -> Result<Found, Error> {
        if out.is_empty() || out.len() != self.layout().chunk_len(index, self.size()) {
            return Err(Error::BufferSize);
        }
        let found = self.volume.stored(disk, index);
        // A hole may have been filled by a record that is lost.
        let is_filled = self.is_doubtful
            && matches!(found, Ok(Stored::Hole))
            && self.versions.contains_key(&index);
        // What it was appended to may have been lost, and then replaced what is there.
        let is_torn = self.is_doubtful && !self.volume.tail.of(index).is_empty();
        let is_known = found.is_ok() && !self.is_guess(index) && !is_filled && !is_torn;
        if is_known && self.volume.read(disk, index, out).is_ok() {
            return Ok(match self.is_doubtful {
                true => Found::Unproven,
                false => Found::Newest,
            });
        }
        out.zeroize();
        let versions = self.versions.get(&index).map_or(&[][..], Vec::as_slice);
        let in_place = Piece {
            place: self.layout().chunk_offset(index)?,
            start: 0,
            len: out.len(),
            run: 0,
        };
        let is_there = (0..versions.len())
            .rev()
            .any(|last| self.compose(disk, index, &versions[..=last], out))
            || self.opens_into(disk, index, &in_place, out);
        if is_there {
            return Ok(match is_known && !self.is_doubtful {
                true => Found::Older,
                false => Found::Unproven,
            });
        }
        out.zeroize();
        Ok(
            match self.is_guess(index) && is_hole(disk, self.layout(), index) {
                true => Found::Unproven,
                false => Found::Nothing,
            },
        )
    }

    /// Puts a chunk together that ends with the last of some pieces: back to the version that it was appended
    /// to, which is at its place if none of them is it. Answers whether all of it was found, and nothing can
    /// have come between.
    fn compose<D: Disk + ?Sized>(
        &self,
        disk: &D,
        index: u64,
        pieces: &[Piece],
        out: &mut [u8],
    ) -> bool {
        let mut end = out.len();
        let run = pieces.last().map(|last| last.run);
        for piece in pieces.iter().rev() {
            let follows = piece.start + piece.len == end && Some(piece.run) == run;
            if !follows || !self.opens_into(disk, index, piece, out) {
                return false;
            }
            end = piece.start;
            if end == 0 {
                return true;
            }
        }
        self.is_rooted
            && run == Some(0)
            && self.layout().chunk_offset(index).is_ok_and(|place| {
                let whole = Piece {
                    place,
                    start: 0,
                    len: end,
                    run: 0,
                };
                self.opens_into(disk, index, &whole, out)
            })
    }

    /// Reads what is left of a chunk of which [`Salvage::chunk`] found nothing: it and what was appended to it open
    /// one by one. `out` is all of the chunk, with zeros where nothing was found. Answers which bytes of it were, in
    /// order. They are the newest unless [`Salvage::is_doubtful`], where nothing proves that they are of one
    /// version.
    ///
    /// # Errors
    /// [`Error::BufferSize`] for one of another length.
    pub fn parts<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        index: u64,
        out: &mut [u8],
    ) -> Result<Vec<Range<usize>>, Error> {
        if out.is_empty() || out.len() != self.layout().chunk_len(index, self.size()) {
            return Err(Error::BufferSize);
        }
        out.zeroize();
        let mut found: Vec<Range<usize>> = Vec::new();
        let mut opened = Secret::zeros(out.len());
        for (piece, tag) in self.pieces(disk, index) {
            let range = piece.start..piece.start + piece.len;
            let is_free = found
                .iter()
                .all(|other| range.end <= other.start || other.end <= range.start);
            // By way of other memory: one that does not open leaves nothing behind.
            if range.end <= out.len()
                && is_free
                && self.opens_into(disk, index, &piece, &mut opened)
                && tag.is_none_or(|tag| self.has_tag(disk, &piece, &tag))
            {
                out[range.clone()].copy_from_slice(&opened[range.clone()]);
                found.push(range);
            }
        }
        found.sort_unstable_by_key(|range| range.start);
        Ok(found)
    }

    /// What a chunk may be put together of, the newest first, with the tags that are known.
    fn pieces<D: Disk + ?Sized>(&mut self, disk: &D, index: u64) -> Vec<(Piece, Option<Tag>)> {
        let piece = |place, start, len| Piece {
            place,
            start,
            len,
            run: self.run,
        };
        if self.is_doubtful {
            let versions = self.versions.get(&index).map_or(&[][..], Vec::as_slice);
            // What they were appended to may be at its place.
            let first = versions.iter().map(|piece| piece.start).min();
            let whole = first
                .filter(|&len| len > 0)
                .and_then(|len| Some(piece(self.layout().chunk_offset(index).ok()?, 0, len)));
            let pieces = versions.iter().rev().copied().chain(whole);
            return pieces.map(|piece| (piece, None)).collect();
        }
        let appended = self.volume.tail.of(index).iter().rev();
        let mut pieces: Vec<_> = appended
            .map(|tail| (piece(tail.offset, tail.start, tail.len), Some(tail.tag)))
            .collect();
        if let Ok(Stored::At { offset, len, tag }) = self.volume.stored(disk, index) {
            pieces.push((piece(offset, 0, len), Some(tag)));
        }
        pieces
    }

    fn has_tag<D: Disk + ?Sized>(&self, disk: &D, piece: &Piece, tag: &Tag) -> bool {
        let mut found = Tag::default();
        let place = piece.place + (piece.len + OVERHEAD - TAG_LEN) as u64;
        read_full(disk, &mut found, place).is_ok() && same(tag, &found)
    }

    /// Whether a piece is what it should be, which then is where it belongs in the chunk.
    fn opens_into<D: Disk + ?Sized>(
        &self,
        disk: &D,
        index: u64,
        piece: &Piece,
        out: &mut [u8],
    ) -> bool {
        let mut sealed = vec![0; piece.len + OVERHEAD];
        out.get_mut(piece.start..piece.start + piece.len)
            .is_some_and(|out| {
                read_full(disk, &mut sealed, piece.place).is_ok()
                    && self
                        .cipher()
                        .open_piece(index, piece.start, &sealed, out)
                        .is_ok()
            })
    }

    /// The tag of a chunk, if something tells which one it is.
    pub fn tag<D: Disk + ?Sized>(&mut self, disk: &D, index: u64) -> Option<Tag> {
        match self.volume.stored(disk, index) {
            Ok(Stored::At { tag, .. }) => Some(tag),
            _ => None,
        }
    }

    /// As [`Volume::retire`].
    ///
    /// # Errors
    /// The disk's.
    pub fn retire<D: Disk + ?Sized>(&self, disk: &D) -> Result<(), D::Error> {
        self.volume.retire(disk)
    }

    /// Whether nothing tells where that chunk is.
    fn is_guess(&self, index: u64) -> bool {
        index >= self.known && !self.volume.changed.contains_key(&index)
    }

    /// The next chunk from `index` on that is not known to be a hole.
    pub fn next<D: Disk + ?Sized>(&mut self, disk: &D, index: u64) -> u64 {
        let end = self.layout().chunks(self.size());
        if index >= self.known {
            return index.min(end);
        }
        let next = self.volume.next(disk, index, end.min(self.known), false);
        let filled = match self.is_doubtful {
            true => self.versions.range(index..).next(),
            false => None,
        };
        let filled = filled.map_or(u64::MAX, |(index, _)| *index);
        next.unwrap_or(index).min(filled).min(end)
    }
}

/// Whether there is nothing at all where a chunk belongs.
fn is_hole<D: Disk + ?Sized>(disk: &D, layout: &crate::Layout, index: u64) -> bool {
    let mut sealed = vec![0xFF; layout.sealed_chunk_len()];
    layout
        .chunk_offset(index)
        .is_ok_and(|place| read_full(disk, &mut sealed, place).is_ok())
        && is_zeros(&sealed)
}

impl<A: Aead> Volume<A> {
    /// Has a chunk, all of which is lost, stay so: nothing is ever taken for it, until it is written anew. Of
    /// use only before a [`Volume::checkpoint`], and where nobody reads the file before that.
    ///
    /// # Errors
    /// [`Error::Randomness`], [`Error::TooLarge`].
    pub fn lose<R: rand_core::TryCryptoRng + ?Sized>(
        &mut self,
        rng: &mut R,
        index: u64,
    ) -> Result<(), Error> {
        let len = self.layout().chunk_len(index, self.size);
        let stored = Stored::At {
            offset: self.layout().chunk_offset(index)?,
            len,
            tag: crate::volume::random(rng)?,
        };
        self.changed.insert(index, stored);
        self.tail.end(index..index.saturating_add(1));
        Ok(())
    }

    /// Has everybody refuse the file, who has it open too: both superblocks and the end of the log
    /// are overwritten. For one that another file has taken the place of.
    ///
    /// # Errors
    /// The disk's.
    pub fn retire<D: Disk + ?Sized>(&self, disk: &D) -> Result<(), D::Error> {
        let gone = [0xFF; SECTOR_LEN];
        disk.write_at(&gone[..MAC_LEN], self.log.mac_at)?;
        [0, 1]
            .into_iter()
            .try_for_each(|slot| disk.write_at(&gone, Superblock::offset(slot)))
    }
}
