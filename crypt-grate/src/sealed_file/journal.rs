//! Completing or undoing what was cut short.

use super::{Error, HEAD_LEN, Keys, SealedFile};
use crate::storage::{Errno, LockMode, Storage, read_up_to, write_all};
use sealed::{Entry, HEADER_LEN, Restore};
use std::sync::Arc;

/// What differs between a file on the disk and the whole state that its journal restores.
pub struct Patch {
    offset: u64,
    bytes: Vec<u8>,
    size: u64,
}

/// A file read as its journal restores it, where it can't be repaired.
pub struct Patched<'a, S> {
    inner: &'a S,
    patch: Option<Arc<Patch>>,
}

impl<'a, S: Storage> Patched<'a, S> {
    pub fn new(inner: &'a S, patch: Option<Arc<Patch>>) -> Self {
        Self { inner, patch }
    }
}

impl<S: Storage> Storage for Patched<'_, S> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        let Some(patch) = &self.patch else {
            return self.inner.read_at(buf, offset);
        };
        let within = offset
            .checked_sub(patch.offset)
            .and_then(|at| patch.bytes.get(usize::try_from(at).ok()?..))
            .filter(|rest| !rest.is_empty());
        if let Some(rest) = within {
            let len = rest.len().min(buf.len());
            buf[..len].copy_from_slice(&rest[..len]);
            return Ok(len);
        }
        // Up to the patch, and not beyond the end.
        let end = if offset < patch.offset {
            patch.offset.min(patch.size)
        } else {
            patch.size
        };
        let len = (buf.len() as u64).min(end.saturating_sub(offset)) as usize;
        self.inner.read_at(&mut buf[..len], offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize, Errno> {
        self.inner.write_at(buf, offset)
    }

    fn size(&self) -> Result<u64, Errno> {
        match &self.patch {
            Some(patch) => Ok(patch.size),
            None => self.inner.size(),
        }
    }

    fn set_size(&self, size: u64) -> Result<(), Errno> {
        self.inner.set_size(size)
    }

    fn is_writable(&self) -> bool {
        self.inner.is_writable()
    }

    fn lock(&self, mode: LockMode) -> Result<(), Errno> {
        self.inner.lock(mode)
    }

    fn unlock(&self) {
        self.inner.unlock();
    }
}

/// A live entry, and what it asks for.
struct Unfinished {
    head: [u8; HEAD_LEN],
    entry: Entry,
    patch: Option<Patch>,
}

impl SealedFile {
    /// With the file locked: brings it to a whole state where its last change was cut short.
    /// Answers the physical size.
    pub(super) fn settle(&mut self, storage: &impl Storage, keys: Keys<'_>) -> Result<u64, Error> {
        if self.patch.is_some() {
            self.forget();
        }
        if let Some(physical) = self.refresh(storage, keys)? {
            return Ok(physical);
        }
        let Unfinished { entry, patch, .. } = self.unfinished(storage, keys)?;
        let physical = storage.size()?;
        let mut size = physical;
        if let Some(patch) = patch {
            write_all(storage, &patch.bytes, patch.offset)?;
            if patch.size != physical {
                storage.set_size(patch.size)?;
            }
            size = patch.size;
            self.restored = true;
        }
        if size == 0 {
            self.forget();
            return Ok(0);
        }
        self.clear(storage, entry, size)?;
        Ok(size)
    }

    /// As [`SealedFile::settle`], for who only reads: a file that can't be repaired is read as if
    /// it were.
    pub(super) fn settle_or_patch(
        &mut self,
        storage: &impl Storage,
        keys: Keys<'_>,
    ) -> Result<u64, Error> {
        if storage.is_writable() {
            match self.settle(storage, keys) {
                Err(Error::Storage(_)) => self.forget(),
                settled => return settled,
            }
        }
        if let Some(physical) = self.refresh(storage, keys)? {
            return Ok(physical);
        }
        let Unfinished { head, patch, .. } = self.unfinished(storage, keys)?;
        let size = match &patch {
            Some(patch) => patch.size,
            None => storage.size()?,
        };
        self.patch = patch.map(Arc::new);
        self.remember(head, size);
        Ok(size)
    }

    /// What was left behind by a change that is not complete.
    fn unfinished(&mut self, storage: &impl Storage, keys: Keys<'_>) -> Result<Unfinished, Error> {
        let mut head = [0; HEAD_LEN];
        let len = read_up_to(storage, &mut head, 0)?;
        let entry = self.read_head(&head[..len], keys)?;
        let patch = match &entry.restore {
            Some(restore) => self.patch_of(storage, storage.size()?, restore)?,
            None => None,
        };
        Ok(Unfinished { head, entry, patch })
    }

    /// What a live entry changes; `None` for a void one.
    fn patch_of(
        &self,
        storage: &impl Storage,
        physical: u64,
        restore: &Restore,
    ) -> Result<Option<Patch>, Error> {
        let cipher = self.cipher()?;
        let layout = cipher.layout();
        let Restore::Chunk {
            index, final_len, ..
        } = *restore
        else {
            return Ok(Some(Patch {
                offset: 0,
                bytes: Vec::new(),
                size: 0,
            }));
        };
        let mut bytes = vec![0; restore.sealed_len(layout)];
        let read = read_up_to(storage, &mut bytes, HEAD_LEN as u64)?;
        let Ok(offset) = layout.chunk_offset(index) else {
            return Ok(None);
        };
        let end = offset + bytes.len() as u64;
        // No change makes a file longer before its journal is cleared of the old end.
        if read < bytes.len() || end > physical || !cipher.is_restorable(restore, &bytes) {
            return Ok(None);
        }
        Ok(Some(Patch {
            offset,
            bytes,
            size: if final_len.is_some() { end } else { physical },
        }))
    }

    /// Says in the journal what would complete or undo the change that follows.
    pub(super) fn announce(
        &mut self,
        storage: &impl Storage,
        entry: &Entry,
        chunk: &[u8],
    ) -> Result<(), Error> {
        let entry = self.cipher()?.encode_entry(entry);
        self.seen = None;
        let bytes = [entry.as_slice(), chunk].concat();
        Ok(write_all(storage, &bytes, HEADER_LEN as u64)?)
    }

    /// Says in the journal that the change is complete. `entry` is the one that announced it.
    pub(super) fn clear(
        &mut self,
        storage: &impl Storage,
        entry: Entry,
        physical: u64,
    ) -> Result<(), Error> {
        let cleared = Entry {
            stamp: entry.stamp.next(),
            restore: None,
        };
        let cipher = self.cipher()?;
        let mut head = [0; HEAD_LEN];
        head[..HEADER_LEN].copy_from_slice(&cipher.header().encode());
        // What is not overwritten stays as it was announced.
        head[HEADER_LEN..].copy_from_slice(&cipher.encode_entry(&entry));
        let end = cipher.encode_entry(&cleared);
        head[HEADER_LEN + Entry::CLEARED_FROM..].copy_from_slice(&end[Entry::CLEARED_FROM..]);
        let from = HEADER_LEN + Entry::CLEARED_FROM;
        write_all(storage, &head[from..], from as u64)?;
        self.remember(head, physical);
        Ok(())
    }
}
