//! Changing a sealed file.

use super::{Error, Known, RUN_LEN, SealedFile, Sealing, Tail};
use crate::storage::{Errno, LockMode, Locked, Storage, write_all};
use rand_core::TryCryptoRng;
use sealed::{
    Entry, FileKey, GROUP_CHUNKS, HEADER_LEN, Layout, Restore, Root, Stamp, TABLE_LEN, Tree,
    tags_of,
};
use std::ops::Range;

/// A sealed file that nobody else changes: its lock is held as long as this lives.
pub struct Writer<'a, 's, S: Storage, R: TryCryptoRng + ?Sized> {
    file: &'a mut SealedFile,
    storage: &'a S,
    with: &'a mut Sealing<'s, R>,
    physical: u64,
    _locked: Locked<'a, S>,
}

impl SealedFile {
    /// Waits for the file's lock, and repairs what was cut short.
    ///
    /// # Errors
    /// As for every call here: the storage's, or that the file is not authentic.
    pub fn writer<'a, 's, S: Storage, R: TryCryptoRng + ?Sized>(
        &'a mut self,
        storage: &'a S,
        with: &'a mut Sealing<'s, R>,
    ) -> Result<Writer<'a, 's, S, R>, Error> {
        let locked = Locked::new(storage, LockMode::Exclusive)?;
        let physical = self.settle(storage, with.keys)?;
        Ok(Writer {
            file: self,
            storage,
            with,
            physical,
            _locked: locked,
        })
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
            return self.empty(storage);
        }
        self.writer(storage, with)?.set_len(len)
    }

    /// Cuts the file to nothing: also the way out for one that is damaged, or not sealed at all.
    ///
    /// # Errors
    /// The storage's.
    pub fn empty(&mut self, storage: &impl Storage) -> Result<(), Error> {
        let _locked = Locked::new(storage, LockMode::Exclusive)?;
        storage.set_size(0)?;
        self.forget();
        Ok(())
    }
}

impl<S: Storage, R: TryCryptoRng + ?Sized> Writer<'_, '_, S, R> {
    /// Size of the plaintext.
    ///
    /// # Errors
    /// That no sealed file has the file's size.
    pub fn len(&self) -> Result<u64, Error> {
        self.file.plaintext_size(self.physical)
    }

    /// Whether there is nothing in the file.
    ///
    /// # Errors
    /// As [`Writer::len`].
    pub fn is_empty(&self) -> Result<bool, Error> {
        self.len().map(|len| len == 0)
    }

    fn layout(&self) -> Layout {
        match &self.file.cipher {
            Some(cipher) => *cipher.layout(),
            None => self.with.params.layout(),
        }
    }

    /// Writes at `offset`; a gap before it is filled with sealed zeros. Answers how much was
    /// written, which is less than asked only when the storage failed after a part.
    ///
    /// # Errors
    /// The storage's, or that the file is not authentic; then nothing was written.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<usize, Error> {
        if data.is_empty() {
            return Ok(0);
        }
        let size = self.len()?;
        let end = offset
            .checked_add(data.len() as u64)
            .ok_or(Error::Storage(Errno::EFBIG))?;
        self.layout().physical_size(end)?;
        // A short gap is written in one piece with the data behind it.
        let filled = offset > size && offset - size > RUN_LEN as u64;
        if filled {
            self.fill(size..offset)?;
        }
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            // Up to a chunk's edge, so that none is written twice.
            let most = RUN_LEN - self.layout().offset_in_chunk(at);
            let piece = &data[done..][..(data.len() - done).min(most)];
            match self.write_piece(at, piece) {
                Ok(written) => done += written,
                Err(error) if done == 0 => {
                    if filled {
                        // The gap alone would be a longer file that nobody asked for.
                        self.set_len(size)?;
                    }
                    return Err(error);
                }
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Makes the file longer with zeros, or not at all.
    fn fill(&mut self, gap: Range<u64>) -> Result<(), Error> {
        let zeros = vec![0; (gap.end - gap.start).min(RUN_LEN as u64) as usize];
        let mut at = gap.start;
        while at < gap.end {
            let most = RUN_LEN - self.layout().offset_in_chunk(at);
            let piece = &zeros[..(gap.end - at).min(most as u64) as usize];
            match self.write_piece(at, piece) {
                Ok(written) => at += written as u64,
                Err(error) => {
                    self.set_len(gap.start)?;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Cuts the file, or extends it with sealed zeros.
    ///
    /// # Errors
    /// The storage's, or that the file is not authentic.
    pub fn set_len(&mut self, len: u64) -> Result<(), Error> {
        let size = self.len()?;
        if len == 0 {
            self.storage.set_size(0)?;
            self.file.forget();
            self.physical = 0;
            return Ok(());
        }
        if len > size {
            self.layout().physical_size(len)?;
            return self.fill(size..len);
        }
        if len == size {
            // As a plain file: the time of change moves.
            return Ok(self.storage.set_size(self.physical)?);
        }
        self.shrink(len)
    }

    /// Writes a piece of at most a run, from no farther behind the end than that. Answers how much
    /// of it was written.
    fn write_piece(&mut self, at: u64, piece: &[u8]) -> Result<usize, Error> {
        if self.physical == 0 {
            let gap = vec![0; at as usize];
            return self
                .begin(&[gap.as_slice(), piece].concat())
                .map(|()| piece.len());
        }
        let size = self.len()?;
        let last = self.layout().final_chunk(size);
        let last_start = self.layout().chunk_start(last.index)?;
        if at < last_start {
            let len = (piece.len() as u64).min(last_start - at) as usize;
            return self.overwrite(at, &piece[..len]);
        }
        // From the final chunk on: what stays of it before and behind the piece.
        let head = (at - last_start) as usize;
        let end = head + piece.len();
        let tail = &self.file.tail(self.storage, self.physical)?.plaintext;
        let mut plaintext = Vec::with_capacity(end.max(tail.len()));
        plaintext.extend_from_slice(&tail[..head.min(tail.len())]);
        plaintext.resize(head, 0);
        plaintext.extend_from_slice(piece);
        plaintext.extend_from_slice(tail.get(end..).unwrap_or_default());
        let grows = plaintext.len() > tail.len();
        self.replace_end(last.index, &plaintext, grows)?;
        Ok(piece.len())
    }

    /// A fresh stamp.
    fn stamp(&mut self) -> Result<Stamp, Error> {
        let mut bytes = [0; Stamp::LEN];
        self.with
            .rng
            .try_fill_bytes(&mut bytes)
            .map_err(|_| sealed::Error::Randomness)?;
        Ok(Stamp::from_bytes(bytes))
    }

    /// Says in the journal what follows; `root` is that of the file before it.
    fn announce(&mut self, root: Root, restore: Restore, chunk: &[u8]) -> Result<Stamp, Error> {
        let announced = self.stamp().and_then(|stamp| {
            let entry = Entry {
                root,
                stamp,
                restore: Some(restore),
            };
            self.file.announce(self.storage, &entry, chunk)?;
            Ok(stamp)
        });
        self.or_recover(announced)
    }

    /// What is remembered may be ahead of the file when a change has failed: it is read again.
    fn or_recover<T>(&mut self, outcome: Result<T, Error>) -> Result<T, Error> {
        if outcome.is_err() {
            self.recover()?;
        }
        outcome
    }

    /// The tree, with the tags of a group at hand.
    fn tree(&mut self, group: u64) -> Result<&mut Tree, Error> {
        self.file.tree(self.storage, self.physical, group)
    }

    /// Writes chunks that begin with that one, as they lie on the disk, and what that changes in the
    /// table before them.
    fn write_chunks(&mut self, first: u64, bytes: &[u8]) -> Result<(), Error> {
        let layout = self.layout();
        let count = bytes.len().div_ceil(layout.sealed_chunk_len()) as u64;
        let count = layout.together(first, count) as usize;
        let group = first / GROUP_CHUNKS;
        let (offset, part) = self.tree(group)?.table_part(first, count);
        let table = layout.table_offset(group)? + offset as u64;
        write_all(self.storage, bytes, layout.chunk_offset(first)?)?;
        Ok(write_all(self.storage, &part, table)?)
    }

    /// After a change that failed on the way: completes or undoes it.
    fn recover(&mut self) -> Result<(), Error> {
        self.file.forget();
        self.physical = self.file.settle(self.storage, self.with.keys)?;
        self.file.restored = false;
        Ok(())
    }

    /// Overwrites bytes of full chunks, one chunk after the other.
    fn overwrite(&mut self, at: u64, piece: &[u8]) -> Result<usize, Error> {
        let layout = self.layout();
        let end = at + piece.len() as u64;
        let (first, edge) = (layout.chunk_index(at), layout.chunk_index(end - 1));
        let before = 0..layout.offset_in_chunk(at);
        let after = (end - layout.chunk_start(edge)?) as usize..layout.chunk_size();
        let before = self
            .file
            .plain_chunk(self.storage, self.physical, first, before)?;
        let after = self
            .file
            .plain_chunk(self.storage, self.physical, edge, after)?;
        let assembled;
        let plaintext = if before.is_empty() && after.is_empty() {
            piece
        } else {
            assembled = [before.as_slice(), piece, after.as_slice()].concat();
            assembled.as_slice()
        };
        let mut sealed = vec![0; layout.sealed_run_len(plaintext.len())?];
        let cipher = self.file.cipher()?;
        cipher.seal_run(first, plaintext, &mut sealed, self.with.rng)?;
        self.file.window.drop_from(&layout, first..edge + 1);
        let mut root = self.file.root();
        let mut last = None;
        for (index, chunk) in (first..).zip(sealed.chunks_exact(layout.sealed_chunk_len())) {
            match self.replace(root, index, chunk) {
                Ok((stamp, after)) => {
                    root = after;
                    last = Some(stamp);
                }
                Err(error) if index == first => return Err(error),
                Err(_) => {
                    // The chunks before this one are written; if their entry can't be cleared now,
                    // who comes next does it.
                    let _: Result<(), Error> = self.recover();
                    return Ok((layout.chunk_start(index)? - at) as usize);
                }
            }
        }
        if let Some(stamp) = last {
            self.file.clear(self.storage, stamp, root, self.physical)?;
        }
        Ok(piece.len())
    }

    /// Replaces a full chunk in a file that has the root `before`. Answers the stamp it was announced
    /// with, and the root it has then.
    fn replace(&mut self, before: Root, index: u64, chunk: &[u8]) -> Result<(Stamp, Root), Error> {
        let size = self.len()?;
        let tags: Vec<_> = tags_of(&self.layout(), chunk).collect();
        let tree = self.tree(index / GROUP_CHUNKS)?;
        tree.put(index, &tags)?;
        let after = tree.root(size);
        let restore = self.file.cipher()?.restore_of(index, None, chunk, after);
        let stamp = self.announce(before, restore, chunk)?;
        if self.write_chunks(index, chunk).is_err() {
            // The journal has the new chunk: it may be written yet.
            self.recover()?;
        }
        Ok((stamp, after))
    }

    /// Writes everything from the final chunk on, which has that index, anew.
    fn replace_end(&mut self, index: u64, plaintext: &[u8], grows: bool) -> Result<(), Error> {
        let layout = self.layout();
        let start = layout.chunk_start(index)?;
        let before = self.file.root();
        let tail = self.file.tail(self.storage, self.physical)?;
        let final_len = tail.plaintext.len();
        let old = grows.then(|| tail.sealed.clone());
        let image = self.seal_image(index, plaintext)?;
        let after = self
            .tree(index / GROUP_CHUNKS)?
            .root(start + plaintext.len() as u64);
        let (kept, restored) = match &old {
            Some(old) => (old, before),
            None => (&image, after),
        };
        let cipher = self.file.cipher()?;
        let restore = cipher.restore_of(index, Some(final_len), kept, restored);
        let stamp = self.announce(before, restore, kept)?;
        if let Err(error) = self.write_chunks(index, &image) {
            self.recover()?;
            // An end that did not grow is what the journal has, and is written now.
            return if grows { Err(error) } else { Ok(()) };
        }
        self.physical = layout.chunk_offset(index)? + image.len() as u64;
        self.remember_tail(plaintext, &image);
        self.file.clear(self.storage, stamp, after, self.physical)
    }

    /// Seals everything from a chunk on, for which the tree is at hand, and puts it into the tree.
    fn seal_image(&mut self, first: u64, plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        let SealedFile {
            cipher: Some(cipher),
            known: Some(known),
            ..
        } = &mut *self.file
        else {
            return Err(Error::Sealed(sealed::Error::NotSealed));
        };
        let image = cipher.seal_image(&mut known.tree, first, plaintext, self.with.rng)?;
        Ok(image)
    }

    /// Gives the file a new final chunk before its present end.
    fn shrink(&mut self, len: u64) -> Result<(), Error> {
        let layout = self.layout();
        let last = layout.final_chunk(len);
        let plaintext =
            self.file
                .plain_chunk(self.storage, self.physical, last.index, 0..last.len)?;
        let before = self.file.root();
        self.tree(last.index / GROUP_CHUNKS)?
            .truncate(last.index + 1)?;
        let sealed = self.seal_image(last.index, &plaintext);
        let sealed = self.or_recover(sealed)?;
        let after = self.tree(last.index / GROUP_CHUNKS)?.root(len);
        let cipher = self.file.cipher()?;
        let restore = cipher.restore_of(last.index, Some(last.len), &sealed, after);
        let stamp = self.announce(before, restore, &sealed)?;
        let physical = layout.chunk_offset(last.index)? + sealed.len() as u64;
        self.file.window.plaintext.clear();
        let cut = self
            .write_chunks(last.index, &sealed)
            .and_then(|()| Ok(self.storage.set_size(physical)?));
        if cut.is_err() {
            // The journal has all it takes.
            return self.recover();
        }
        self.physical = physical;
        self.remember_tail(&plaintext, &sealed);
        self.file.clear(self.storage, stamp, after, physical)
    }

    /// Writes the first bytes of a file that has none.
    fn begin(&mut self, plaintext: &[u8]) -> Result<(), Error> {
        let key = FileKey::generate(self.with.keys.master, self.with.params, self.with.rng)?;
        let cipher = self.with.keys.cipher(&key);
        let layout = *cipher.layout();
        let mut tree = cipher.new_tree();
        let image = cipher.seal_image(&mut tree, 0, plaintext, self.with.rng)?;
        let root = tree.root(plaintext.len() as u64);
        let entry = Entry {
            root: Root::default(),
            stamp: self.stamp()?,
            restore: Some(Restore::Empty),
        };
        let mut head = [0; super::HEAD_LEN];
        head[..HEADER_LEN].copy_from_slice(&cipher.header().encode());
        head[HEADER_LEN..].copy_from_slice(&cipher.encode_entry(&entry));
        self.file.forget();
        self.file.cipher = Some(cipher);
        self.file.known = Some(Known {
            tail: Tail {
                plaintext: Vec::new(),
                sealed: Vec::new(),
            },
            tree,
        });
        let written = write_all(self.storage, &head, 0)
            .map_err(Error::from)
            .and_then(|()| self.write_first(&image));
        if let Err(error) = written {
            self.file.forget();
            self.storage.set_size(0)?;
            return Err(error);
        }
        self.physical = layout.chunk_offset(0)? + image.len() as u64;
        self.remember_tail(plaintext, &image);
        self.file
            .clear(self.storage, entry.stamp, root, self.physical)
    }

    /// Writes all chunks of a file, and the table before them: together where they are few.
    fn write_first(&mut self, image: &[u8]) -> Result<(), Error> {
        if image.len() > TABLE_LEN {
            return self.write_chunks(0, image);
        }
        let start = self.layout().table_offset(0)?;
        let mut bytes = self.tree(0)?.table(0);
        bytes.resize(TABLE_LEN, 0);
        bytes.extend_from_slice(image);
        Ok(write_all(self.storage, &bytes, start)?)
    }

    /// Keeps the final chunk of what was just written up to the end.
    fn remember_tail(&mut self, plaintext: &[u8], sealed: &[u8]) {
        let layout = self.layout();
        let len = layout.offset_in_chunk(plaintext.len() as u64);
        let Some(Known { tail, .. }) = &mut self.file.known else {
            return;
        };
        // `Vec::clear` keeps the room: an append of a few bytes allocates nothing here.
        tail.plaintext.clear();
        tail.plaintext
            .extend_from_slice(&plaintext[plaintext.len() - len..]);
        tail.sealed.clear();
        tail.sealed
            .extend_from_slice(&sealed[sealed.len() - (len + layout.overhead())..]);
    }
}
