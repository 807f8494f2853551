//! Chunks that are opened and sealed where the disk is, as a runtime does it for a grate; here by software.

// Each test uses a part of it.
#![allow(dead_code)]

use crypt_grate::sealed_file::{AnyAead, Error as FileError, SealedFile, Sealing};
use crypt_grate::storage::{Place, Storage, Target, read_up_to, write_all};
use rand_core::TryCryptoRng;
use sealed::aead::{Aead, Run, Software};
use sealed::{
    Chunks, Error, FileKey, KEY_LEN, NONCE_LEN, Nonces, OVERHEAD, Tag, Unsealed, tags_of,
};
use std::cell::RefCell;

/// An AEAD that lets the work be done elsewhere.
struct Keyed(Software, [u8; KEY_LEN]);

impl Aead for Keyed {
    fn seal(&self, run: Run, plaintext: &[u8], sealed: &mut [u8]) -> Result<(), Error> {
        self.0.seal(run, plaintext, sealed)
    }

    fn open(&self, run: Run, sealed: &[u8], plaintext: &mut [u8]) -> Result<(), Error> {
        self.0.open(run, sealed, plaintext)
    }

    fn content_key(&self) -> Option<&[u8; KEY_LEN]> {
        Some(&self.1)
    }
}

/// As `software`, for a disk that has [`open`].
pub fn keyed(key: &FileKey) -> AnyAead {
    Box::new(Keyed(Software::new(key), *key.content_key()))
}

/// A program's memory, from address 0 on.
pub type Memory = RefCell<Vec<u8>>;

/// As [`Storage::open`], without leases.
pub fn open(
    storage: &impl Storage,
    memory: &Memory,
    chunks: &Chunks<'_>,
    to: Target<'_>,
) -> Option<()> {
    let mut sealed = vec![0; chunks.len + chunks.tags.len() * OVERHEAD];
    let read = read_up_to(storage, &mut sealed, chunks.offset).ok()?;
    let tags = tags_of(chunks.run.layout(), &sealed);
    if read < sealed.len() || !tags.eq(chunks.tags.iter().copied()) {
        return None;
    }
    let mut plaintext = vec![0; chunks.len];
    let aead = Software::from_content_key(chunks.cipher, chunks.key);
    aead.open(chunks.run, &sealed, &mut plaintext).ok()?;
    match to {
        Target::Buffer(out) => out.copy_from_slice(&plaintext),
        Target::Program(place) => {
            let mut memory = memory.borrow_mut();
            let room = memory.get_mut(place.addr as usize..)?;
            room.get_mut(..plaintext.len())?.copy_from_slice(&plaintext);
        }
    }
    Some(())
}

/// As [`Storage::seal`].
pub fn seal(
    storage: &impl Storage,
    memory: &Memory,
    chunks: &Unsealed<'_>,
    from: Place,
    tags: &mut [Tag],
) -> Option<()> {
    let memory = memory.borrow();
    let plaintext = memory.get(from.addr as usize..)?.get(..chunks.len)?;
    let layout = chunks.run.layout();
    let mut sealed = vec![0; layout.sealed_len(chunks.len).ok()?];
    let mut nonces = Nonces::after(chunks.nonces.key().to_owned().into(), chunks.nonces.drawn());
    for (index, chunk) in (chunks.run.first()..).zip(sealed.chunks_mut(layout.sealed_chunk_len())) {
        chunk[..NONCE_LEN].copy_from_slice(&nonces.draw(index));
    }
    let aead = Software::from_content_key(chunks.cipher, chunks.key);
    aead.seal(chunks.run, plaintext, &mut sealed).ok()?;
    write_all(storage, &sealed, chunks.offset).ok()?;
    for (tag, made) in tags.iter_mut().zip(tags_of(layout, &sealed)) {
        *tag = made;
    }
    Some(())
}

/// Writes as a grate does it for a program: what can go from its memory goes from there. Answers how many bytes were written, and how many of
/// them so.
pub fn write<S: Storage, R: TryCryptoRng>(
    file: &mut SealedFile,
    storage: &S,
    with: &mut Sealing<'_, R>,
    memory: &Memory,
    at: u64,
    data: &[u8],
) -> Result<(usize, usize), FileError> {
    *memory.borrow_mut() = data.to_vec();
    let mut writer = file.writer(storage, with)?;
    let (mut done, mut from_there) = (0, 0);
    while done < data.len() {
        let place = Place {
            cage: 1,
            addr: done as u64,
        };
        let (offset, rest) = (at + done as u64, data.len() - done);
        let written = match writer.write_from(offset, rest as u64, place) {
            Ok(0) => writer.write(offset, &data[done..]),
            written => written.inspect(|written| from_there += written),
        };
        match written {
            Ok(0) => break,
            Ok(written) => done += written,
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok((done, from_there))
}
