//! Bringing what the log has to where it belongs.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use rand_core::TryCryptoRng;

use crate::aead::Aead;
use crate::disk::read_full;
use crate::layout::OVERHEAD;
use crate::mac::same;
use crate::record::{Record, Tag};
use crate::superblock::{SECTOR_LEN, Superblock};
use crate::tree::HOLE;
use crate::volume::{Stored, Tail, Volume, random};
use crate::{Disk, Error, Failure, TAG_LEN};

/// Bytes that are copied in one go.
const RUN: usize = 1 << 20;

/// Bytes behind the groups that a file at rest may have.
const SLACK: u64 = 2 << 20;

/// Bytes of plaintext that a file at rest may have changed and not synced: who opens it has to look at all of
/// them.
const LOOSE: u64 = 4 << 20;

impl<A: Aead> Volume<A> {
    /// Brings chunks and tree up to date, and begins a new epoch with an empty log.
    ///
    /// # Errors
    /// The disk's; that the tree is damaged. Nothing is lost then: the log stays.
    pub fn checkpoint<D: Disk + ?Sized, R: TryCryptoRng + ?Sized>(
        &mut self,
        disk: &D,
        rng: &mut R,
    ) -> Result<(), Failure<D::Error>> {
        if !self.begun {
            return Ok(());
        }
        let unique = random(rng)?;
        self.end_tail(disk, rng)?;
        disk.sync().map_err(Failure::Disk)?;
        let (from, to) = self.superblock.elder;
        if from < to {
            // The superblock has reached the disk; the one before is not needed any more.
            disk.discard(from..to);
        }
        self.place_chunks(disk)?;
        let tags: BTreeMap<u64, Tag> = self
            .changed
            .iter()
            .map(|(index, stored)| match stored {
                Stored::Hole => (*index, HOLE),
                Stored::At { tag, .. } => (*index, *tag),
            })
            .collect();
        let chunks = self.layout().chunks(self.size);
        let root = self.tree.rewrite(disk, &tags, self.valid, chunks)?;
        disk.sync().map_err(Failure::Disk)?;
        let closing = Record {
            counter: self.log.counter + 1,
            size: self.size,
            next: 0,
            parts: Vec::new(),
        };
        self.append(disk, closing, Vec::new())?;
        let superblock = Superblock {
            epoch: self.superblock.epoch + 1,
            counter: self.log.counter,
            size: self.size,
            root,
            elder: self.log.far.map_or((0, 0), |far| (far, self.log.at)),
            unique,
        };
        let bytes = superblock.encode(self.cipher.mac_key());
        let mut sector = [0; SECTOR_LEN];
        sector[..bytes.len()].copy_from_slice(&bytes);
        disk.write_at(&sector, Superblock::offset(superblock.epoch))
            .map_err(Failure::Disk)?;
        let mac = *bytes.last_chunk().ok_or(Error::BufferSize)?;
        // Who goes on with the new log finds nothing of no meaning. Not before its superblock is there: who knows
        // the file as it was two epochs ago sees by that one that they are over.
        let epoch = superblock.epoch;
        if epoch > 1 {
            disk.discard(Superblock::log_offset(epoch)..Superblock::log_end(epoch));
        }
        self.begin_epoch(superblock, mac);
        Ok(())
    }

    /// Copies the chunks that are in the log to their places.
    fn place_chunks<D: Disk + ?Sized>(&self, disk: &D) -> Result<(), Failure<D::Error>> {
        let mut run = Vec::new();
        let mut start = 0;
        for (&index, stored) in &self.changed {
            let Stored::At { offset, len, tag } = *stored else {
                continue;
            };
            let place = self.layout().chunk_offset(index)?;
            if place == offset {
                continue;
            }
            if !run.is_empty() && (place != start + run.len() as u64 || run.len() >= RUN) {
                disk.write_at(&run, start).map_err(Failure::Disk)?;
                run.clear();
            }
            if run.is_empty() {
                start = place;
            }
            let at = run.len();
            run.resize(at + len + OVERHEAD, 0);
            read_full(disk, &mut run[at..], offset)?;
            if !same(&run[run.len() - TAG_LEN..], &tag) {
                return Err(Error::Stale { index }.into());
            }
        }
        if run.is_empty() {
            return Ok(());
        }
        disk.write_at(&run, start).map_err(Failure::Disk)
    }

    /// Makes a file compact behind which much lies: its log, or what it was longer by; or of which much is not
    /// known to have reached the disk. Does nothing to others,
    /// so that the end of a program that wrote a little waits for no disk.
    ///
    /// # Errors
    /// As [`Volume::checkpoint`].
    pub fn compact<D: Disk + ?Sized, R: TryCryptoRng + ?Sized>(
        &mut self,
        disk: &D,
        rng: &mut R,
    ) -> Result<(), Failure<D::Error>> {
        let end = self.data_end()?;
        let is_short = !self.lies_far_behind(end)
            || disk.size().map_err(Failure::Disk)? <= end.saturating_add(SLACK);
        if is_short && !self.is_loose() {
            return Ok(());
        }
        self.checkpoint(disk, rng)?;
        // Not before the new superblock is there the old one's log may go.
        disk.sync().map_err(Failure::Disk)?;
        disk.set_size(end).map_err(Failure::Disk)
    }

    /// Whether [`Volume::compact`] may have something to do, as far as is known without a look at the disk.
    pub fn is_long(&self) -> bool {
        self.log.zeros > self.log.at
            || self.is_loose()
            || self.data_end().is_ok_and(|end| self.lies_far_behind(end))
    }

    /// Whether much was changed that is not known to have reached the disk.
    fn is_loose(&self) -> bool {
        let changed = (self.changed.len() * self.layout().chunk_size()) as u64;
        changed > LOOSE && self.log.durable < self.log.counter
    }

    /// Whether anything may lie far behind the end, as far as is known without a look at the disk.
    fn lies_far_behind(&self, end: u64) -> bool {
        let written = self.layout().chunk_offset(self.fresh);
        self.begun
            && (self.far_places().next().is_some()
                || written.is_ok_and(|written| written > end.saturating_add(SLACK)))
    }

    /// Knows the file as it is at a checkpoint.
    pub(super) fn begin_epoch(&mut self, superblock: Superblock, mac: crate::mac::Mac) {
        let layout = *self.layout();
        self.tree = crate::tree::Tree::new(self.cipher.mac_key().clone(), layout, &superblock);
        self.log = crate::volume::Log::new(&superblock, mac);
        self.size = superblock.size;
        self.valid = layout.chunks(superblock.size);
        self.fresh = self.valid;
        self.changed.clear();
        self.tail = Tail::default();
        self.patience = 0;
        self.superblock = superblock;
        self.superblock_mac = mac;
    }
}
