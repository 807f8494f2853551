//! A native AEAD for guests: runs of chunks of the sealed file format, with the processor's vector
//! and AES instructions, which WebAssembly does not have. [`Fast`] has the ciphers.
//!
//! Lind has no such calls; a guest uses them where `lind-get-memory-base` is 0 and else its own
//! software. They know no file and keep no key: each call brings the key along.

use super::fast::Fast;
use super::helpers::{Pieces, on_all};
use super::{Call, Entry};
use crate::image::Image;
use crate::memory::{GuestMemory, Held};
use rustix::io::Errno;
use sealed::aead::{Piece, Run};
use sealed::{ChunkSize, Cipher, Layout, NONCE_LEN, OVERHEAD};
use std::sync::Arc;
use zeroize::Zeroizing;

pub(super) const CALLS: &[Entry] = &[Entry::new(1101, seal), Entry::new(1102, open)];

/// What the first argument points to: cipher u8, log2 of the chunk size u8, bytes that the first chunk
/// had before where it is one that was appended to u16, four bytes unused, index of the first chunk u64,
/// key 32 bytes.
const REQUEST_LEN: usize = 48;

/// Bytes on either side of one call, at most.
const MOST: u64 = 1 << 30;

/// Bytes of plaintext that one processor works on before others are asked to help: some 20 µs,
/// several times what it takes to wake one.
const SHARE: usize = 16 << 10;

/// One call: what to do with which key, and where the bytes lie.
struct Job {
    aead: Fast,
    layout: Layout,
    first: u64,
    start: usize,
    plaintext: Place,
    sealed: Place,
}

/// A range of a guest's memory.
pub(super) struct Place {
    pub(super) image: Arc<Image>,
    pub(super) at: u64,
    pub(super) len: u64,
}

impl Place {
    /// One whose length is the argument behind it.
    pub(super) fn of(call: &Call<'_>, index: usize) -> Result<Self, Errno> {
        let len = call.raw(index + 1);
        if len > MOST {
            return Err(Errno::INVAL);
        }
        Ok(Self {
            // Helpers may have it longer than the call lasts.
            image: call.image_of(index)?.into_owned(),
            at: call.raw(index),
            len,
        })
    }

    /// The address of the element at `index`, where all before it have `size` bytes.
    pub(super) fn element(&self, index: u64, size: usize) -> Result<u64, Errno> {
        let within = index.checked_mul(size as u64).ok_or(Errno::FAULT)?;
        self.at.checked_add(within).ok_or(Errno::FAULT)
    }
}

impl Job {
    /// Request, plaintext and its length, sealed bytes and their length.
    fn of(call: &Call<'_>) -> Result<Self, Errno> {
        let request: Zeroizing<[u8; REQUEST_LEN]> = Zeroizing::new(call.get(0)?);
        let cipher = Cipher::from_id(request[0]).ok_or(Errno::INVAL)?;
        let chunk_size = ChunkSize::from_log2(request[1]).ok_or(Errno::INVAL)?;
        let mut first = [0; 8];
        first.copy_from_slice(&request[8..16]);
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(&request[16..]);
        let layout = Layout::new(chunk_size);
        let job = Self {
            aead: Fast::new(cipher, &key).ok_or(Errno::INVAL)?,
            layout,
            first: u64::from_le_bytes(first),
            start: usize::from(u16::from_le_bytes([request[2], request[3]])),
            plaintext: Place::of(call, 1)?,
            sealed: Place::of(call, 3)?,
        };
        let expected = layout.sealed_len(job.plaintext.len as usize);
        // What is appended is to one chunk, which it does not fill.
        let most = (layout.chunk_size() as u64).saturating_sub(job.start as u64);
        if expected.ok() != Some(job.sealed.len as usize)
            || job.start > 0 && job.plaintext.len >= most
        {
            return Err(Errno::INVAL);
        }
        Ok(job)
    }

    /// How many chunks there are.
    fn chunks(&self) -> u64 {
        self.layout.chunks(self.plaintext.len)
    }

    /// Chunks that one thread works on before it looks for more.
    fn share(&self) -> u64 {
        (SHARE / self.layout.chunk_size()).max(1) as u64
    }

    /// Works on one, through a buffer of the host that stays in the processor's cache: guest memory can
    /// change under our hands, so no reference to it is made.
    fn chunk(
        &self,
        index: u64,
        (plaintext, sealed): (Held<'_>, Held<'_>),
        buffer: &mut [u8],
        work: Work,
    ) -> Result<(), Errno> {
        let size = self.layout.chunk_size();
        // The last one may be shorter.
        let len = self.layout.chunk_len(index, self.plaintext.len);
        let run = Run::appended(self.layout, self.first.wrapping_add(index), self.start);
        let piece = run.and_then(|run| run.pieces(len).next());
        let piece = piece.ok_or(Errno::INVAL)?;
        let part = Part {
            plaintext,
            plaintext_at: self.plaintext.element(index, size)?,
            sealed,
            sealed_at: self.sealed.element(index, size + OVERHEAD)?,
        };
        work(&self.aead, piece, &part, &mut buffer[..len + OVERHEAD])
    }
}

/// What is done with a chunk.
type Work = fn(&Fast, Piece, &Part<'_>, &mut [u8]) -> Result<(), Errno>;

/// A job, and what is done with its chunks.
struct Chunkwise(Job, Work);

impl Pieces for Chunkwise {
    fn count(&self) -> u64 {
        self.0.chunks().div_ceil(self.0.share())
    }

    fn buffer_len(&self) -> usize {
        self.0.layout.sealed_chunk_len()
    }

    fn work(&self, piece: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        let Self(job, work) = self;
        let first = piece * job.share();
        let memories = [&job.plaintext, &job.sealed].map(|place| &place.image.memory);
        GuestMemory::hold_two(memories[0], memories[1], |plaintext, sealed| {
            (first..job.chunks().min(first + job.share()))
                .try_for_each(|index| job.chunk(index, (plaintext, sealed), buffer, *work))
        })
    }
}

/// Where one chunk lies.
struct Part<'a> {
    plaintext: Held<'a>,
    plaintext_at: u64,
    sealed: Held<'a>,
    sealed_at: u64,
}

/// Seals; the nonces are in their places already. `EINVAL` for lengths that do not fit.
fn seal(call: &Call<'_>) -> Result<i32, Errno> {
    let work: Work = |aead, piece, part, chunk| {
        let (nonce, rest) = chunk.split_at_mut(NONCE_LEN);
        part.plaintext
            .read(part.plaintext_at, &mut rest[..piece.len])?;
        part.sealed.read(part.sealed_at, nonce)?;
        aead.seal(piece, chunk).map_err(|_| Errno::INVAL)?;
        part.sealed.write(part.sealed_at, chunk)
    };
    on_all(Chunkwise(Job::of(call)?, work)).map(|()| 0)
}

/// Opens. `EBADMSG` at the first chunk that does not authenticate; nothing of it is written, and
/// those before it are the caller's to wipe.
fn open(call: &Call<'_>) -> Result<i32, Errno> {
    let work: Work = |aead, piece, part, chunk| {
        part.sealed.read(part.sealed_at, chunk)?;
        let plaintext = aead.open(piece, chunk).map_err(|_| Errno::BADMSG)?;
        part.plaintext.write(part.plaintext_at, plaintext)
    };
    on_all(Chunkwise(Job::of(call)?, work)).map(|()| 0)
}
