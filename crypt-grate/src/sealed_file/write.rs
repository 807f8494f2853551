//! Changing a sealed file.

use super::{Error, Keys, OnDisk, RUN_LEN, SealedFile, Sealing};
use crate::storage::{Errno, LockMode, Locked, Place, Storage};
use rand_core::TryCryptoRng;
use sealed::{FileKey, Moment, Volume};
use std::cell::Cell;
use std::ops::Range;

/// How many times it is waited for the disk until the file says again how far that was.
const SYNCS_A_MARK: u32 = 16;

/// After how many changes that nobody came between a lock may be given back a little later than at once; and
/// after how many more where somebody did.
const UNDISTURBED: i32 = 4;
const DISTURBED: i32 = -64;

/// Bytes that are written without taking the lock before, at most.
const MOST_KEPT: usize = 64 << 10;

/// A storage whose lock is taken with each writing, if it was kept since the one before. What is read is right if the
/// writing that follows is done. Nothing else can be done to it so.
struct Kept<'a, S> {
    storage: &'a S,
    /// How a writing failed that was begun.
    failed: Cell<Option<Errno>>,
    /// Whether the last one was done in part.
    is_short: Cell<bool>,
}

impl<S: Storage> Kept<'_, S> {
    /// What is answered where the lock was not kept. Who asked for the writing sees it only where a part had been done.
    const LOST: Errno = Errno::EIO;
}

impl<S: Storage> Storage for Kept<'_, S> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        self.storage.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize, Errno> {
        let written = match self.storage.write_kept(buf, offset) {
            Ok(None) if !self.is_short.get() => return Err(Self::LOST),
            // What was begun may be all of a record already.
            written => written.and_then(|written| written.ok_or(Self::LOST)),
        };
        let written = written.inspect_err(|errno| self.failed.set(Some(*errno)))?;
        self.is_short.set(written < buf.len());
        Ok(written)
    }

    fn size(&self) -> Result<u64, Errno> {
        self.storage.size()
    }

    fn set_size(&self, _: u64) -> Result<(), Errno> {
        Err(Self::LOST)
    }

    fn sync(&self) -> Result<(), Errno> {
        Err(Self::LOST)
    }

    fn short_is_end(&self) -> bool {
        self.storage.short_is_end()
    }
}

/// A sealed file that nobody else changes: its lock is held as long as this lives.
pub struct Writer<'a, 's, S: Storage, R: TryCryptoRng + ?Sized> {
    file: &'a mut SealedFile,
    storage: &'a S,
    with: &'a mut Sealing<'s, R>,
    _locked: Locked<'a, S>,
}

impl SealedFile {
    /// Waits for the file's lock.
    ///
    /// # Errors
    /// As for every call here: the storage's, or that the file is not authentic.
    pub fn writer<'a, 's, S: Storage, R: TryCryptoRng + ?Sized>(
        &'a mut self,
        storage: &'a S,
        with: &'a mut Sealing<'s, R>,
    ) -> Result<Writer<'a, 's, S, R>, Error> {
        let locked = self.lock(storage, with.keys)?;
        Ok(Writer {
            file: self,
            storage,
            with,
            _locked: locked,
        })
    }

    /// Waits for the lock, and gets to know the file as it is. Where this process alone changes the file, and
    /// again and again, the lock stays with it from one change to the next, and nothing is to be found out.
    fn lock<'a, S: Storage>(
        &mut self,
        storage: &'a S,
        keys: Keys<'_>,
    ) -> Result<Locked<'a, S>, Error> {
        let was_settled = std::mem::take(&mut self.is_settled);
        self.is_alone = false;
        let locked = if self.undisturbed < UNDISTURBED {
            Locked::new(storage, LockMode::Exclusive)?
        } else {
            let (locked, alone) = Locked::take(storage)?;
            self.is_alone = was_settled && alone && self.volume.is_some();
            if self.is_alone {
                self.is_settled = true;
                return Ok(locked);
            }
            if was_settled {
                // It was taken back: who waits for it gets a chance.
                self.undisturbed = 0;
            }
            self.is_settled = true;
            locked
        };
        let known = self.moment();
        if let Err(error) = self.look(storage, keys) {
            self.is_settled = false;
            return Err(error);
        }
        if known == self.moment() {
            self.undisturbed = self.undisturbed.saturating_add(1);
        } else {
            self.undisturbed = DISTURBED;
        }
        Ok(locked)
    }

    /// Writes at `place`, or at the end, where this process alone changes the file again and again: the lock is taken with
    /// the writing itself, if nobody else had it meanwhile. Answers where it began. `None` where that can't be done
    /// so: then the file is as it was, and [`Writer::write`] is the way.
    ///
    /// # Errors
    /// The storage's, as of [`Writer::write`].
    pub fn write_kept<S: Storage, R: TryCryptoRng + ?Sized>(
        &mut self,
        storage: &S,
        with: &mut Sealing<'_, R>,
        place: Option<u64>,
        data: &[u8],
    ) -> Option<Result<u64, Error>> {
        if !std::mem::take(&mut self.is_alone) || !self.is_settled || data.len() > MOST_KEPT {
            return None;
        }
        // A checkpoint is more than a writing.
        let volume = self.volume.as_mut().filter(|volume| !volume.is_crowded())?;
        let (known, offset) = (volume.moment(), place.unwrap_or(volume.size()));
        let kept = Kept {
            storage,
            failed: Cell::default(),
            is_short: Cell::default(),
        };
        self.is_changed = true;
        if volume
            .write(&OnDisk::of(&kept), with.rng, offset, data)
            .is_ok()
        {
            self.is_alone = true;
            return Some(Ok(offset));
        }
        // Most likely the lock was taken back: who waits for it gets a chance.
        self.undisturbed = 0;
        if let Some(errno) = kept.failed.get() {
            // All of it may be there all the same: who does it again would append it twice.
            self.forget();
            return Some(Err(errno.into()));
        }
        if volume.moment() == known {
            // What is known is still what was true.
            self.is_settled = false;
        } else {
            self.forget();
        }
        None
    }

    /// As [`Writer::write`].
    ///
    /// # Errors
    /// As [`SealedFile::writer`]; then nothing was written.
    pub fn write<R: TryCryptoRng + ?Sized>(
        &mut self,
        storage: &impl Storage,
        with: &mut Sealing<'_, R>,
        offset: u64,
        data: &[u8],
    ) -> Result<usize, Error> {
        if let Some(written) = self.write_kept(storage, with, Some(offset), data) {
            return written.map(|_| data.len());
        }
        self.writer(storage, with)?.write(offset, data)
    }

    /// As [`Writer::set_len`].
    ///
    /// # Errors
    /// As [`SealedFile::writer`].
    pub fn set_len<R: TryCryptoRng + ?Sized>(
        &mut self,
        storage: &impl Storage,
        with: &mut Sealing<'_, R>,
        len: u64,
    ) -> Result<(), Error> {
        if len == 0 {
            return self.empty(storage, with.keys);
        }
        self.writer(storage, with)?.set_len(len)
    }

    /// Cuts the file to nothing: also the way out for one that is damaged, or not sealed at all. But
    /// one that another file has taken the names of, as `keys rekey` leaves it, stays damaged: what would be
    /// written to it now would never be found.
    ///
    /// # Errors
    /// The storage's; what is wrong with a file that was replaced.
    pub fn empty(&mut self, storage: &impl Storage, keys: Keys<'_>) -> Result<(), Error> {
        let _locked = Locked::new(storage, LockMode::Exclusive)?;
        if !storage.is_named()? {
            match self.look(storage, keys) {
                Ok(_) | Err(Error::Sealed(sealed::Error::NotSealed)) => {}
                Err(replaced) => return Err(replaced),
            }
        }
        storage.set_size(0)?;
        self.forget();
        self.is_changed = false;
        Ok(())
    }

    /// Now, as far as the file is known, for [`SealedFile::synced`].
    pub fn moment(&self) -> Option<Moment> {
        self.volume.as_ref().map(Volume::moment)
    }

    /// Takes note that all up to that moment has reached the disk. The file says so after the first time of an
    /// epoch, after every so many more, and when it is closed: to write it each time would make every next
    /// fsync wait for it. What comes of it is no matter to who waited for the disk.
    pub fn synced(&mut self, storage: &impl Storage, moment: Option<Moment>) {
        let Some(moment) = moment.filter(|_| storage.is_writable()) else {
            return;
        };
        self.unmarked = Some(moment);
        self.syncs += 1;
        if self.syncs > 1
            && let Some(volume) = &mut self.volume
        {
            volume.expect_syncs();
        }
        let is_marked = self.volume.as_ref().is_some_and(Volume::is_marked);
        if !is_marked || self.syncs >= SYNCS_A_MARK {
            self.mark(storage);
        }
    }

    /// Writes the mark that is due.
    fn mark(&mut self, storage: &impl Storage) {
        self.syncs = 0;
        let (Some(moment), Some(volume)) = (self.unmarked.take(), &mut self.volume) else {
            return;
        };
        if let Ok(_locked) = Locked::new(storage, LockMode::Exclusive)
            && matches!(volume.refresh(&OnDisk::of(storage)), Ok(true))
        {
            let _ = volume.mark(&OnDisk::of(storage), moment);
        }
    }

    /// Whether [`SealedFile::close`] has anything to do.
    pub fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// Ends what this process does with the file: it says how far it has reached the disk, and a long log behind
    /// it is worked in.
    ///
    /// # Errors
    /// As [`SealedFile::writer`]. Nothing is lost then.
    pub fn close<R: TryCryptoRng + ?Sized>(
        &mut self,
        storage: &impl Storage,
        with: &mut Sealing<'_, R>,
    ) -> Result<(), Error> {
        if !std::mem::take(&mut self.is_changed) {
            return Ok(());
        }
        self.mark(storage);
        if !self.volume.as_ref().is_some_and(Volume::is_long) {
            return Ok(());
        }
        let writer = self.writer(storage, with)?;
        if let Some(volume) = &mut writer.file.volume {
            volume.compact(&OnDisk::of(storage), writer.with.rng)?;
            volume.trim(&OnDisk::of(storage))?;
        }
        Ok(())
    }
}

impl<S: Storage, R: TryCryptoRng + ?Sized> Writer<'_, '_, S, R> {
    /// Size of the plaintext.
    pub fn len(&self) -> u64 {
        self.file.volume.as_ref().map_or(0, Volume::size)
    }

    /// Whether there is nothing in the file.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The file, which is begun with the first change where it is empty.
    fn volume(&mut self) -> Result<&mut Volume<super::AnyAead>, Error> {
        self.file.is_changed = true;
        let volume = match self.file.volume.take() {
            Some(volume) => volume,
            None => {
                if std::mem::take(&mut self.file.has_remains) {
                    self.storage.set_size(0)?;
                }
                let keys = self.with.keys;
                let (params, rng) = (self.with.params, &mut *self.with.rng);
                let key = FileKey::generate_with(keys.master, params, rng, keys.derive)?;
                Volume::create(keys.cipher(&key), rng)?
            }
        };
        Ok(self.file.volume.insert(volume))
    }

    /// Does a change. Where it fails, the file is looked at again: what is remembered may be ahead of
    /// it.
    fn change<T>(
        &mut self,
        source: Option<Place>,
        change: impl FnOnce(
            &mut Volume<super::AnyAead>,
            &OnDisk<'_, S>,
            &mut R,
        ) -> Result<T, sealed::Failure<crate::storage::Errno>>,
    ) -> Result<T, Error> {
        let was_empty = self.file.volume.is_none();
        self.volume()?;
        let storage = self.storage;
        let Some(volume) = &mut self.file.volume else {
            return Err(sealed::Error::NotSealed.into());
        };
        let changed = change(volume, &OnDisk { storage, source }, self.with.rng);
        if changed.is_err() {
            self.file.forget();
            if was_empty {
                // Part of a head is none.
                storage.set_size(0)?;
            }
            self.file.look(storage, self.with.keys)?;
        }
        Ok(changed?)
    }

    /// Writes at `offset`; a gap before it is a hole. Answers how much was written, which is less
    /// than asked only when the storage failed after a part.
    ///
    /// # Errors
    /// The storage's, or that the file is not authentic; then nothing was written.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<usize, Error> {
        let mut done = 0;
        while done < data.len() {
            let at = offset
                .checked_add(done as u64)
                .ok_or(sealed::Error::TooLarge)?;
            // Pieces end where chunks do.
            let within = (at % RUN_LEN as u64) as usize;
            let len = (RUN_LEN - within % RUN_LEN).min(data.len() - done);
            let piece = &data[done..done + len];
            match self.change(None, |volume, disk, rng| volume.write(disk, rng, at, piece)) {
                Ok(()) => done += len,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Writes whole new chunks of what a program has there, up to `len` bytes of it, where they can go from there. Answers how many bytes
    /// were written: all others are to be written by [`Writer::write`].
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub fn write_from(&mut self, offset: u64, len: u64, from: Place) -> Result<usize, Error> {
        let Some(volume) = &self.file.volume else {
            return Ok(0);
        };
        let layout = volume.layout();
        if len < layout.chunk_size() as u64 || layout.offset_in_chunk(offset) != 0 {
            return Ok(0);
        }
        let room = RUN_LEN - (offset % RUN_LEN as u64) as usize;
        let len = len.min(room as u64) as usize;
        let len = len - len % layout.chunk_size();
        let write = |volume: &mut Volume<_>, disk: &OnDisk<'_, S>, rng: &mut R| {
            volume.write_whole(disk, rng, offset, len)
        };
        Ok(match self.change(Some(from), write)? {
            true => len,
            false => 0,
        })
    }

    /// Cuts the file, or extends it with a hole.
    ///
    /// # Errors
    /// The storage's, or that the file is not authentic.
    pub fn set_len(&mut self, len: u64) -> Result<(), Error> {
        if len == 0 {
            self.storage.set_size(0)?;
            self.file.forget();
            return Ok(());
        }
        if len == self.len() {
            // As a plain file: the time of change moves.
            let physical = self.storage.size()?;
            return Ok(self.storage.set_size(physical)?);
        }
        self.change(None, |volume, disk, rng| volume.set_len(disk, rng, len))
    }

    /// Works the log in.
    ///
    /// # Errors
    /// As [`Writer::set_len`].
    pub fn checkpoint(&mut self) -> Result<(), Error> {
        if self.is_empty() {
            return Ok(());
        }
        self.change(None, |volume, disk, rng| volume.checkpoint(disk, rng))
    }

    /// Sees to it that there is room for the chunks of a range. What is longer than the file stays
    /// out of it.
    ///
    /// # Errors
    /// The storage's.
    pub fn reserve(&mut self, range: Range<u64>) -> Result<(), Error> {
        let layout = match &self.file.volume {
            Some(volume) => *volume.layout(),
            None => self.with.params.layout(),
        };
        let first = layout.chunk_offset(layout.chunk_index(range.start))?;
        Ok(self.storage.reserve(first..layout.data_end(range.end)?)?)
    }

    /// Makes a range read as zeros, whole chunks of it holes. The size stays.
    ///
    /// # Errors
    /// As [`Writer::set_len`].
    pub fn punch(&mut self, range: Range<u64>) -> Result<(), Error> {
        if self.is_empty() {
            return Ok(());
        }
        self.change(None, |volume, disk, rng| volume.punch(disk, rng, range))
    }
}
