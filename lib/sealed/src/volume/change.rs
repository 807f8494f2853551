//! Changing a file: each change is one record.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use rand_core::TryCryptoRng;

use crate::aead::{Aead, Run};
use crate::disk::{Unsealed, read_full};
use crate::file::Nonces;
use crate::layout::DATA_START;
use crate::mac::MAC_LEN;
use crate::record::{BARE_LEN, Kind, MAX_RECORD_LEN, Part, Record, Tag, head_len};
use crate::superblock::{SECTOR_LEN, Superblock, encode_mark};
use crate::volume::{Edge, Moment, Stored, Volume};
use crate::{Disk, Error, Failure, HEADER_LEN, Secret};

/// Bytes that a file may grow before its log is in the way, where that log begins: so many at least,
/// and at most.
const LEAST_GAP: u64 = 1 << 20;
const MOST_GAP: u64 = 1 << 30;

/// How long a log gets before a checkpoint is made, beside the size of the file.
pub(super) const LONG_LOG: u64 = 64 << 20;

/// How many chunks change before one is made: each takes some 60 bytes of memory.
const MANY_CHANGES: usize = 1 << 18;

/// As long as the log is shorter, and in its place at the head, full chunks go into it too, where few
/// are written: one write to the disk instead of two.
const SHORT_LOG: u64 = 24 << 10;

/// Bytes that are made zeros ahead of the log of a file whose program waits for the disk again and again: a
/// file that grows with each record costs the file system a change of its own each time.
const AHEAD: u64 = 256 << 10;

/// Bytes that one change writes, at most.
pub const MAX_CHANGE_LEN: usize = 4 << 20;

/// Bytes behind the log in which something is left of a record that all but begins there: two sectors, wherever in
/// one it begins. What two records of the same place have in common is within the first of them.
const REMAINS: usize = 2 * SECTOR_LEN;

/// How often the last chunk is appended to before it is written as a whole again: who reads it has to open all
/// of what was.
const MOST_PIECES: usize = 64;

/// Chunks that are punched by one record.
const PUNCHED: u64 = 1 << 14;

/// Chunks of a change that are sealed together, in plaintext.
struct Piece<'a> {
    first: u64,
    kind: Kind,
    plaintext: &'a [u8],
}

impl<A: Aead> Volume<A> {
    /// Writes at `offset`, at most [`MAX_CHANGE_LEN`] bytes. All of it is written, or nothing. A gap
    /// before it is a hole.
    ///
    /// # Errors
    /// The disk's; that what is there, and would be completed, is damaged; [`Error::TooLarge`].
    pub fn write<D: Disk + ?Sized, R: TryCryptoRng + ?Sized>(
        &mut self,
        disk: &D,
        rng: &mut R,
        offset: u64,
        data: &[u8],
    ) -> Result<(), Failure<D::Error>> {
        if data.is_empty() {
            return Ok(());
        }
        if data.len() > MAX_CHANGE_LEN {
            return Err(Error::BufferSize.into());
        }
        let layout = *self.layout();
        let end = offset
            .checked_add(data.len() as u64)
            .ok_or(Error::TooLarge)?;
        let size = self.size.max(end);
        self.make_room(disk, rng, size)?;

        let (first, last) = (layout.chunk_index(offset), layout.chunk_index(end - 1));
        if self.can_append(disk, offset, end)? {
            return self.append_to_chunk(disk, rng, last, data);
        }
        let stretched = self.stretched(disk, size, first..last + 1)?;
        let before = layout.offset_in_chunk(offset);
        let after = (end - layout.chunk_start(last)?) as usize..layout.chunk_len(last, size);
        let mut assembled = Secret::default();
        let plaintext = if before == 0 && after.is_empty() {
            data
        } else if first == last {
            // Changed where it is: there is room for all of it.
            assembled = self.chunk(disk, first)?;
            let len = assembled.len().max(before + data.len());
            assembled.resize(len, 0);
            assembled[before..before + data.len()].copy_from_slice(data);
            &assembled
        } else {
            let old_first = match before {
                0 => Secret::default(),
                _ => self.chunk(disk, first)?,
            };
            let old_last = match after.is_empty() {
                true => Secret::default(),
                false => self.chunk(disk, last)?,
            };
            assembled.reserve_exact(before + data.len() + after.len());
            assembled.extend_from_slice(&old_first[..before.min(old_first.len())]);
            assembled.resize(before, 0);
            assembled.extend_from_slice(data);
            assembled.extend_from_slice(old_last.get(after).unwrap_or_default());
            &assembled
        };
        let mut pieces = Vec::with_capacity(4);
        if let Some((index, plaintext)) = &stretched {
            pieces.push(Piece {
                first: *index,
                kind: Kind::InLog,
                plaintext,
            });
        }
        self.place(first, plaintext, &mut pieces);
        self.commit(disk, rng, size, &pieces, None)?;
        // Who writes on from here, or once more, has the chunk at hand.
        if before > 0 || layout.offset_in_chunk(end) != 0 {
            let kept = plaintext.len() - (plaintext.len() - 1) % layout.chunk_size() - 1;
            if kept > 0 || assembled.is_empty() {
                let mut chunk = Vec::with_capacity(layout.chunk_size());
                chunk.extend_from_slice(&plaintext[kept..]);
                assembled = Secret::new(chunk);
            }
            self.keep_edge(last, assembled);
        }
        Ok(())
    }

    /// As [`Volume::write`], of full chunks that were never written, which the disk takes from where the caller has them
    /// ([`Disk::seal`]). Answers whether it was done; else nothing was, and they are to be written in the other way.
    ///
    /// # Errors
    /// As [`Volume::write`].
    pub fn write_whole<D: Disk + ?Sized, R: TryCryptoRng + ?Sized>(
        &mut self,
        disk: &D,
        rng: &mut R,
        offset: u64,
        len: usize,
    ) -> Result<bool, Failure<D::Error>> {
        let layout = *self.layout();
        let is_whole = len > 0
            && len.is_multiple_of(layout.chunk_size())
            && layout.offset_in_chunk(offset) == 0;
        if !self.begun || !is_whole || len > MAX_CHANGE_LEN || self.cipher.content_key().is_none() {
            return Ok(false);
        }
        let end = offset.checked_add(len as u64).ok_or(Error::TooLarge)?;
        let size = self.size.max(end);
        self.make_room(disk, rng, size)?;
        let first = layout.chunk_index(offset);
        if first < self.fresh || self.is_for_log(len) {
            return Ok(false);
        }
        let chunks = first..layout.chunk_index(end);
        let stretched = self.stretched(disk, size, chunks.clone())?;
        let Some(part) = self.seal_in_place(disk, rng, chunks)? else {
            return Ok(false);
        };
        let piece = stretched.as_ref().map(|(index, plaintext)| Piece {
            first: *index,
            kind: Kind::InLog,
            plaintext,
        });
        self.commit(disk, rng, size, piece.as_slice(), Some(part))?;
        Ok(true)
    }

    /// Has full chunks sealed to their places, from where the caller has them. `None` where that can't be done.
    fn seal_in_place<D: Disk + ?Sized, R: TryCryptoRng + ?Sized>(
        &self,
        disk: &D,
        rng: &mut R,
        chunks: Range<u64>,
    ) -> Result<Option<Part>, Failure<D::Error>> {
        let layout = *self.layout();
        let Some(key) = self.cipher.content_key() else {
            return Ok(None);
        };
        let mut nonces = self
            .cipher
            .nonces(rng, &self.log.chain, self.log.counter + 1)?;
        let count = chunks.end - chunks.start;
        let mut tags = vec![Tag::default(); count as usize];
        let mut done = 0;
        while done < count {
            let index = chunks.start + done;
            let together = layout.together(index, count - done);
            let unsealed = Unsealed {
                cipher: self.cipher.header().params().cipher,
                key,
                run: Run::new(layout, index),
                offset: layout.chunk_offset(index)?,
                from: done as usize * layout.chunk_size(),
                len: together as usize * layout.chunk_size(),
                nonces: &nonces,
            };
            if !disk.seal(&unsealed, &mut tags[done as usize..][..together as usize]) {
                return Ok(None);
            }
            nonces.leave(together);
            done += together;
        }
        Ok(Some(Part {
            first: chunks.start,
            count,
            kind: Kind::InPlace,
            last_len: layout.chunk_size(),
            start: 0,
            tags,
        }))
    }

    /// Whether a write only appends to the last chunk, without making it full.
    fn can_append<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        offset: u64,
        end: u64,
    ) -> Result<bool, Failure<D::Error>> {
        let layout = *self.layout();
        let index = layout.chunk_index(offset);
        Ok(self.begun
            && offset == self.size
            && layout.offset_in_chunk(offset) > 0
            && layout.chunk_index(end) == index
            && self.tail.of(index).len() < MOST_PIECES
            && self.stored(disk, index)? != Stored::Hole)
    }

    /// Seals what is appended to a chunk, and not the chunk.
    fn append_to_chunk<D: Disk + ?Sized, R: TryCryptoRng + ?Sized>(
        &mut self,
        disk: &D,
        rng: &mut R,
        index: u64,
        data: &[u8],
    ) -> Result<(), Failure<D::Error>> {
        let start = self.layout().offset_in_chunk(self.size);
        let at_hand = self.has_at_hand(disk, index, start)?;
        let size = self.size + data.len() as u64;
        let piece = Piece {
            first: index,
            kind: Kind::Appended,
            plaintext: data,
        };
        self.commit(disk, rng, size, &[piece], None)?;
        let mut plaintext = core::mem::take(&mut self.edge.plaintext);
        if at_hand && plaintext.capacity() >= start + data.len() {
            plaintext.extend_from_slice(data);
            self.keep_edge(index, plaintext);
        }
        Ok(())
    }

    /// Writes the chunk as a whole that was appended to.
    pub(super) fn end_tail<D: Disk + ?Sized, R: TryCryptoRng + ?Sized>(
        &mut self,
        disk: &D,
        rng: &mut R,
    ) -> Result<(), Failure<D::Error>> {
        if self.tail.pieces.is_empty() {
            return Ok(());
        }
        let index = self.tail.index;
        let plaintext = self.chunk(disk, index)?;
        let piece = Piece {
            first: index,
            kind: Kind::InLog,
            plaintext: &plaintext,
        };
        self.commit(disk, rng, self.size, &[piece], None)?;
        self.keep_edge(index, plaintext);
        Ok(())
    }

    /// Cuts the file, or extends it with a hole.
    ///
    /// # Errors
    /// As [`Volume::write`].
    pub fn set_len<D: Disk + ?Sized, R: TryCryptoRng + ?Sized>(
        &mut self,
        disk: &D,
        rng: &mut R,
        size: u64,
    ) -> Result<(), Failure<D::Error>> {
        if size == self.size {
            return Ok(());
        }
        let layout = *self.layout();
        self.make_room(disk, rng, size)?;
        let edge = if size > self.size {
            self.stretched(disk, size, 0..0)?
        } else {
            let last = layout.chunk_index(size);
            let len = layout.chunk_len(last, size);
            if len == 0 || self.stored(disk, last)? == Stored::Hole {
                None
            } else {
                let mut plaintext = self.chunk(disk, last)?;
                plaintext.truncate(len);
                Some((last, plaintext))
            }
        };
        let piece = edge.as_ref().map(|(first, plaintext)| Piece {
            first: *first,
            kind: Kind::InLog,
            plaintext,
        });
        self.commit(disk, rng, size, piece.as_slice(), None)?;
        if let Some((index, plaintext)) = edge {
            self.keep_edge(index, plaintext);
        }
        Ok(())
    }

    /// Makes a range read as zeros, whole chunks of it holes. The size stays.
    ///
    /// # Errors
    /// As [`Volume::write`]; a part may have been done then.
    pub fn punch<D: Disk + ?Sized, R: TryCryptoRng + ?Sized>(
        &mut self,
        disk: &D,
        rng: &mut R,
        range: Range<u64>,
    ) -> Result<(), Failure<D::Error>> {
        let layout = *self.layout();
        let chunk_size = layout.chunk_size() as u64;
        let end = range.end.min(self.size);
        if range.start >= end {
            return Ok(());
        }
        let first = range.start.div_ceil(chunk_size);
        let last = if end == self.size {
            layout.chunks(end)
        } else {
            layout.chunk_index(end)
        };
        // What is less than a chunk, at either end.
        let edges = if last < first {
            [range.start..end, 0..0]
        } else {
            let (from, to) = (first * chunk_size, (last * chunk_size).min(end));
            [range.start..from.min(end), to..end]
        };
        for edge in edges {
            if !edge.is_empty() && !self.is_hole(disk, layout.chunk_index(edge.start))? {
                let zeros = vec![0; (edge.end - edge.start) as usize];
                self.write(disk, rng, edge.start, &zeros)?;
            }
        }
        let mut at = first;
        loop {
            at = self.next(disk, at, last, false)?;
            if at >= last {
                return Ok(());
            }
            self.make_room(disk, rng, self.size)?;
            let until = self.next(disk, at, last.min(at + PUNCHED), true)?;
            let parts = vec![Part::holes(at, until - at)];
            let record = self.record(self.size, parts);
            self.append(disk, record, Vec::new())?;
            at = until;
        }
    }

    /// The last chunk, if it is no hole and the file grows behind it: filled up with zeros, and unless
    /// it is one of those that are `written`, which is done otherwise.
    #[allow(clippy::type_complexity)]
    fn stretched<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        size: u64,
        written: Range<u64>,
    ) -> Result<Option<(u64, Secret)>, Failure<D::Error>> {
        let layout = *self.layout();
        let last = layout.chunk_index(self.size);
        let len = layout.chunk_len(last, self.size);
        let new_len = layout.chunk_len(last, size);
        if len == 0
            || new_len <= len
            || written.contains(&last)
            || self.stored(disk, last)? == Stored::Hole
        {
            return Ok(None);
        }
        let mut plaintext = self.chunk(disk, last)?;
        plaintext.resize(new_len, 0);
        Ok(Some((last, plaintext)))
    }

    /// Whether so many bytes go into the log also where they would be new.
    fn is_for_log(&self, len: usize) -> bool {
        let used = self.log.at - Superblock::log_offset(self.superblock.epoch);
        self.log.far.is_none() && used + len as u64 <= SHORT_LOG
    }

    /// Decides which of the chunks go to their places and which into the log.
    fn place<'a>(&self, first: u64, plaintext: &'a [u8], pieces: &mut Vec<Piece<'a>>) {
        let chunk_size = self.layout().chunk_size();
        let full = (plaintext.len() / chunk_size) as u64;
        let own = first.max(self.fresh);
        if self.is_for_log(plaintext.len()) || own >= first + full {
            pieces.push(Piece {
                first,
                kind: Kind::InLog,
                plaintext,
            });
            return;
        }
        let (old, rest) = plaintext.split_at((own - first) as usize * chunk_size);
        let (new, short) = rest.split_at(rest.len() - rest.len() % chunk_size);
        for (first, kind, plaintext) in [
            (first, Kind::InLog, old),
            (own, Kind::InPlace, new),
            (first + full, Kind::InLog, short),
        ] {
            if !plaintext.is_empty() {
                pieces.push(Piece {
                    first,
                    kind,
                    plaintext,
                });
            }
        }
    }

    /// Begins a file that has no content.
    pub(crate) fn begin_empty<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
    ) -> Result<(), Failure<D::Error>> {
        let record = self.record(0, Vec::new());
        self.append(disk, record, Vec::new())
    }

    fn record(&self, size: u64, parts: Vec<Part>) -> Record {
        Record {
            counter: self.log.counter + 1,
            size,
            next: 0,
            parts,
        }
    }

    /// Seals chunks, writes those that go to their places, then the record with the others, and with `placed`, which are in their places
    /// already.
    fn commit<D: Disk + ?Sized, R: TryCryptoRng + ?Sized>(
        &mut self,
        disk: &D,
        rng: &mut R,
        size: u64,
        pieces: &[Piece<'_>],
        placed: Option<Part>,
    ) -> Result<(), Failure<D::Error>> {
        let layout = *self.layout();
        let mut nonces = self
            .cipher
            .nonces(rng, &self.log.chain, self.log.counter + 1)?;
        let counts = pieces
            .iter()
            .map(|piece| layout.chunks(piece.plaintext.len() as u64) as usize)
            .chain(placed.iter().map(|part| part.tags.len()));
        let mut at = self.lead() + head_len(counts, pieces.len() + placed.iter().len());
        let mut payload = 0;
        for piece in pieces {
            if piece.kind.is_in_log() {
                payload += layout.sealed_len(piece.plaintext.len())?;
            }
        }
        let mut buffer = vec![0; at + payload + MAC_LEN];
        let mut parts = Vec::with_capacity(pieces.len() + 1);
        for piece in pieces {
            let part = if piece.kind.is_in_log() {
                let len = layout.sealed_len(piece.plaintext.len())?;
                let sealed = &mut buffer[at..at + len];
                at += len;
                let start = match piece.kind {
                    Kind::Appended => layout.offset_in_chunk(self.size),
                    _ => 0,
                };
                self.cipher.seal_appended(
                    piece.first,
                    start,
                    piece.plaintext,
                    sealed,
                    &mut nonces,
                )?;
                Part {
                    start,
                    ..Part::of(&layout, piece.first, piece.kind, sealed)
                }
            } else {
                self.write_in_place(disk, piece, &mut nonces)?
            };
            parts.push(part);
        }
        parts.extend(placed);
        let record = self.record(size, parts);
        self.append(disk, record, buffer)
    }

    fn write_in_place<D: Disk + ?Sized>(
        &self,
        disk: &D,
        piece: &Piece<'_>,
        nonces: &mut Nonces,
    ) -> Result<Part, Failure<D::Error>> {
        let layout = *self.layout();
        let mut sealed = vec![0; layout.sealed_len(piece.plaintext.len())?];
        self.cipher
            .seal(piece.first, piece.plaintext, &mut sealed, nonces)?;
        let (mut index, mut rest) = (piece.first, sealed.as_slice());
        while !rest.is_empty() {
            let left = (rest.len() / layout.sealed_chunk_len()) as u64;
            let count = layout.together(index, left);
            let (run, others) = rest.split_at(count as usize * layout.sealed_chunk_len());
            disk.write_at(run, layout.chunk_offset(index)?)
                .map_err(Failure::Disk)?;
            index += count;
            rest = others;
        }
        Ok(Part::of(&layout, piece.first, piece.kind, &sealed))
    }

    /// Bytes that go before the next record in the same write: a file is begun with header and
    /// superblock.
    fn lead(&self) -> usize {
        if self.begun {
            0
        } else {
            // 1536.
            Superblock::log_offset(0) as usize
        }
    }

    /// Writes a record. `buffer` has its payload in place already, and [`Volume::lead`] bytes before
    /// it; it may be empty for one without payload.
    pub(super) fn append<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        mut record: Record,
        mut buffer: Vec<u8>,
    ) -> Result<(), Failure<D::Error>> {
        self.sweep(disk)?;
        let mut lead = self.lead();
        buffer.resize(buffer.len().max(lead + record.head_len() + MAC_LEN), 0);
        let len = buffer.len() - lead;
        if len > MAX_RECORD_LEN {
            return Err(Error::TooLarge.into());
        }
        let room = Superblock::log_end(self.superblock.epoch);
        if self.log.far.is_none() && self.log.at + (len + BARE_LEN) as u64 > room {
            let mut link = self.record(self.size, Vec::new());
            link.next = self.far_place(record.size)?;
            self.write_record(disk, &link, vec![0; lead + BARE_LEN], lead)?;
            buffer.drain(..lead);
            lead = 0;
            record.counter += 1;
        }
        self.write_record(disk, &record, buffer, lead)
    }

    /// Sees to it that the next record does not complete another one. Of one that was written behind the same
    /// predecessor a power cut may have taken the first bytes alone, and these may be the same in both: after
    /// another cut the old one would be there, though the file has gone on without it.
    fn sweep<D: Disk + ?Sized>(&mut self, disk: &D) -> Result<(), Failure<D::Error>> {
        if self.log.is_swept {
            return Ok(());
        }
        let room = match self.log.far {
            Some(_) => u64::MAX,
            None => Superblock::log_end(self.superblock.epoch),
        };
        let mut remains = [0; REMAINS];
        let most = (room - self.log.at.min(room)).min(REMAINS as u64) as usize;
        let len = read_full(disk, &mut remains[..most], self.log.at)?;
        if remains.iter().any(|&byte| byte != 0) {
            disk.write_at(&[0; REMAINS][..len], self.log.at)
                .map_err(Failure::Disk)?;
            disk.sync().map_err(Failure::Disk)?;
        }
        self.log.is_swept = true;
        Ok(())
    }

    fn write_record<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        record: &Record,
        mut buffer: Vec<u8>,
        lead: usize,
    ) -> Result<(), Failure<D::Error>> {
        let key = self.cipher.mac_key();
        let (head, bytes) = buffer.split_at_mut(lead);
        let mac = record.encode_around(bytes, key, self.log.at, &self.log.chain);
        let len = bytes.len();
        if lead > 0 {
            head[..HEADER_LEN].copy_from_slice(&self.cipher.header().encode());
            let superblock = self.superblock.encode(key);
            head[SECTOR_LEN..][..superblock.len()].copy_from_slice(&superblock);
        }
        let written = buffer.len();
        let at = self.log.at - lead as u64;
        let zeros = self.zeros_behind(self.log.at + len as u64);
        buffer.resize(written + zeros, 0);
        let mut outcome = disk.write_at(&buffer, at);
        if outcome.is_err() && zeros > 0 {
            // There may be room for the record alone.
            outcome = disk.write_at(&buffer[..written], at);
        } else if zeros > 0 {
            self.log.zeros = at + buffer.len() as u64;
        }
        outcome.map_err(Failure::Disk)?;
        self.begun = true;
        Ok(self.apply(record, len, mac)?)
    }

    /// How many zeros go behind a record that ends there, so that the next ones find the file as long as
    /// they need it.
    fn zeros_behind(&self, end: u64) -> usize {
        if !self.is_waited_for || end <= self.log.zeros {
            return 0;
        }
        let room = match self.log.far {
            Some(_) => u64::MAX,
            None => Superblock::log_end(self.superblock.epoch),
        };
        ((end + AHEAD).min(room) - end.min(room)) as usize
    }

    /// Takes note that the program waits for the disk again and again.
    pub fn expect_syncs(&mut self) {
        self.is_waited_for = true;
    }

    /// Cuts off what was made zeros ahead of the log, where that is the end of the file.
    ///
    /// # Errors
    /// The disk's.
    pub fn trim<D: Disk + ?Sized>(&mut self, disk: &D) -> Result<(), Failure<D::Error>> {
        let zeros = core::mem::take(&mut self.log.zeros);
        if zeros > self.log.at && disk.size().map_err(Failure::Disk)? == zeros {
            disk.set_size(self.log.at).map_err(Failure::Disk)?;
        }
        Ok(())
    }

    /// Where the log goes on when its place at the head is full: behind all groups, with room for the
    /// file to grow, and not over the one of the epoch before.
    fn far_place(&self, size: u64) -> Result<u64, Error> {
        const PAGE: u64 = 4096;
        let end = self.layout().data_end(size.max(self.size))?;
        let gap = (8 * (end - DATA_START)).clamp(LEAST_GAP, MOST_GAP);
        let place = (end + gap).next_multiple_of(PAGE);
        let most = LONG_LOG + size.min(1 << 40) + 2 * MAX_RECORD_LEN as u64;
        let (from, to) = self.superblock.elder;
        let place = if place < to && place + most > from {
            to.next_multiple_of(PAGE)
        } else {
            place
        };
        if place > crate::MAX_PHYSICAL_SIZE / 2 {
            return Err(Error::TooLarge);
        }
        Ok(place)
    }

    /// Makes a checkpoint where the next change would meet a log, or there is too much in it; for a file
    /// of that size.
    fn make_room<D: Disk + ?Sized, R: TryCryptoRng + ?Sized>(
        &mut self,
        disk: &D,
        rng: &mut R,
        size: u64,
    ) -> Result<(), Failure<D::Error>> {
        let end = self.layout().data_end(size)?;
        // After a checkpoint the old log is still in the way, after another one it is not.
        for _ in 0..2 {
            let meets = self.far_places().any(|place| place.start < end);
            if !meets && !self.meets_elder() {
                break;
            }
            self.checkpoint(disk, rng)?;
        }
        if self.is_crowded() {
            if let Err(Failure::Sealed(error)) = self.checkpoint(disk, rng) {
                return Err(error.into());
            }
            // One that failed, for want of room perhaps, is tried again much later.
            if !self.changed.is_empty() {
                self.patience = self.log_len() + self.long_log();
            }
        }
        Ok(())
    }

    /// Whether there is so much in the log that the next change makes a checkpoint first, for which it has to wait for
    /// the disk.
    pub fn is_crowded(&self) -> bool {
        self.log_len() > self.patience.max(self.long_log())
            || self.changed.len() > MANY_CHANGES.max(self.patience as usize)
    }

    fn long_log(&self) -> u64 {
        LONG_LOG + self.size
    }

    /// Whether the log comes to where that of the epoch before begins.
    fn meets_elder(&self) -> bool {
        let (from, to) = self.superblock.elder;
        let room = self.log.at + 2 * MAX_RECORD_LEN as u64;
        self.log.far.is_some_and(|far| far < from) && from < to && room > from
    }

    /// Bytes of the log behind the groups.
    fn log_len(&self) -> u64 {
        self.log.far.map_or(0, |far| self.log.at - far)
    }

    /// Keeps a chunk that was just written, in plaintext.
    fn keep_edge(&mut self, index: u64, plaintext: Secret) {
        let whole = match self.changed.get(&index) {
            Some(Stored::At { tag, .. }) => Some(*tag),
            _ => None,
        };
        let appended = self.tail.of(index).last().map(|piece| piece.tag);
        if let Some(tag) = appended.or(whole) {
            self.edge = Edge {
                index,
                tag,
                plaintext,
            };
        }
    }

    /// Whether there is a mark of this epoch.
    pub fn is_marked(&self) -> bool {
        self.log.durable > self.superblock.counter
    }

    /// Notes on the disk that what there was at that moment has reached it.
    ///
    /// # Errors
    /// The disk's.
    pub fn mark<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        moment: Moment,
    ) -> Result<(), Failure<D::Error>> {
        if !self.begun
            || moment.superblock != self.superblock_mac
            || moment.counter <= self.log.durable
        {
            return Ok(());
        }
        let epoch = self.superblock.epoch;
        let mark = encode_mark(
            self.cipher.mac_key(),
            epoch,
            &self.superblock_mac,
            moment.counter,
        );
        disk.write_at(&mark, Superblock::mark_offset(epoch))
            .map_err(Failure::Disk)?;
        self.log.durable = moment.counter;
        Ok(())
    }
}
