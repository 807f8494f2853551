//! Completing or undoing what was cut short.

use super::{Error, HEAD_LEN, Keys, SealedFile, read_tags};
use crate::storage::{Errno, LockMode, Storage, read_up_to, write_all};
use sealed::{Digest, Entry, GROUP_CHUNKS, HEADER_LEN, Restore, Root, Stamp};
use std::sync::Arc;

/// What differs between a file on the disk and the whole state that its journal restores.
pub struct Patch {
    /// What has to be where: the chunk, and its tag in the table.
    pieces: Vec<Piece>,
    size: u64,
    /// The root of the file's tree then.
    root: Root,
}

struct Piece {
    offset: u64,
    bytes: Vec<u8>,
}

impl Piece {
    /// The bytes of it at and behind an offset of the file.
    fn from(&self, offset: u64) -> Option<&[u8]> {
        let at = usize::try_from(offset.checked_sub(self.offset)?).ok()?;
        self.bytes.get(at..).filter(|rest| !rest.is_empty())
    }
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
        if let Some(rest) = patch.pieces.iter().find_map(|piece| piece.from(offset)) {
            let len = rest.len().min(buf.len());
            buf[..len].copy_from_slice(&rest[..len]);
            return Ok(len);
        }
        // Up to the next piece, and not beyond the end.
        let starts = patch.pieces.iter().map(|piece| piece.offset);
        let end = starts
            .filter(|&start| start > offset)
            .fold(patch.size, u64::min);
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
        let Unfinished { head, entry, patch } = self.unfinished(storage, keys)?;
        let physical = storage.size()?;
        let Some(patch) = patch else {
            self.clear(storage, entry.stamp, entry.root, physical)?;
            return Ok(physical);
        };
        // Until the file is what the journal makes of it, nothing may be taken for known.
        let restored = self.restore(storage, head, Arc::new(patch), physical);
        if restored.is_err() {
            self.forget();
        }
        let (root, size) = restored?;
        self.restored = true;
        if size == 0 {
            self.forget();
            return Ok(0);
        }
        self.clear(storage, entry.stamp, root, size)?;
        Ok(size)
    }

    /// Makes a file of this physical size what its journal says. Answers its root and size then.
    fn restore(
        &mut self,
        storage: &impl Storage,
        head: [u8; HEAD_LEN],
        patch: Arc<Patch>,
        physical: u64,
    ) -> Result<(Root, u64), Error> {
        let (root, size) = (patch.root, patch.size);
        if size > 0 {
            // Nothing is put back that does not belong there.
            self.remember(head, size, root);
            self.known(&Patched::new(storage, Some(patch.clone())), size)?;
            self.seen = None;
        }
        for piece in &patch.pieces {
            write_all(storage, &piece.bytes, piece.offset)?;
        }
        if size != physical {
            storage.set_size(size)?;
        }
        Ok((root, size))
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
        let Unfinished { head, entry, patch } = self.unfinished(storage, keys)?;
        let (size, root) = match &patch {
            Some(patch) => (patch.size, patch.root),
            None => (storage.size()?, entry.root),
        };
        self.patch = patch.map(Arc::new);
        self.remember(head, size, root);
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
            index,
            final_len,
            tag,
            root,
        } = *restore
        else {
            return Ok(Some(Patch {
                pieces: Vec::new(),
                size: 0,
                root: Root::default(),
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
        let size = if final_len.is_some() { end } else { physical };
        let (group, slot) = (index / GROUP_CHUNKS, (index % GROUP_CHUNKS) as usize);
        let mut table = Piece {
            offset: layout.table_offset(group)?,
            bytes: Vec::new(),
        };
        let last = layout.final_chunk(layout.plaintext_size(size)?).index;
        if last / GROUP_CHUNKS == group {
            table.offset += (Digest::LEN + slot * tag.len()) as u64;
            table.bytes.extend_from_slice(&tag);
        } else {
            let mut tags = read_tags(storage, layout, group, GROUP_CHUNKS as usize)?;
            tags[slot * tag.len()..][..tag.len()].copy_from_slice(&tag);
            let digest = cipher.digest_of(group, &tags);
            table.bytes = [digest.as_bytes().as_slice(), &tags].concat();
        }
        let chunk = Piece { offset, bytes };
        Ok(Some(Patch {
            pieces: vec![chunk, table],
            size,
            root,
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

    /// Says in the journal that the change is complete that was announced with that stamp, and
    /// which root the file has now.
    pub(super) fn clear(
        &mut self,
        storage: &impl Storage,
        stamp: Stamp,
        root: Root,
        physical: u64,
    ) -> Result<(), Error> {
        let cleared = Entry {
            root,
            stamp: stamp.next(),
            restore: None,
        };
        let cipher = self.cipher()?;
        let mut head = [0; HEAD_LEN];
        head[..HEADER_LEN].copy_from_slice(&cipher.header().encode());
        head[HEADER_LEN..].copy_from_slice(&cipher.encode_entry(&cleared));
        write_all(storage, &head[HEADER_LEN..], HEADER_LEN as u64)?;
        self.remember(head, physical, root);
        Ok(())
    }
}
