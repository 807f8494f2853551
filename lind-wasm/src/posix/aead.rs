//! A native AEAD for guests: runs of chunks of the sealed file format, with the processor's vector
//! and AES instructions, which WebAssembly does not have. [`Fast`] has the ciphers.
//!
//! Lind has no such calls; a guest uses them where `lind-get-memory-base` is 0 and else its own
//! software. They know no file and keep no key: each call brings the key along.

use super::fast::Fast;
use super::{Call, Entry};
use crate::image::Image;
use crate::memory::{GuestMemory, Held};
use rayon::{ThreadPool, ThreadPoolBuilder};
use rustix::io::Errno;
use sealed::aead::{Piece, Run};
use sealed::{ChunkSize, Cipher, Layout, NONCE_LEN, OVERHEAD, Secret};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread;
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

/// Threads for all processors but the one that a caller has. None where there is no other.
fn helpers() -> Option<&'static ThreadPool> {
    static POOL: LazyLock<Option<ThreadPool>> = LazyLock::new(|| {
        let others = thread::available_parallelism().map_or(0, |all| all.get() - 1);
        let pool = ThreadPoolBuilder::new().num_threads(others);
        let pool = pool.thread_name(|number| format!("cipher {number}"));
        (others > 0).then(|| pool.build().ok()).flatten()
    });
    POOL.as_ref()
}

/// One call: what to do with which key, and where the bytes lie.
struct Job<'a> {
    aead: Fast,
    layout: Layout,
    first: u64,
    start: usize,
    plaintext: Place<'a>,
    sealed: Place<'a>,
}

/// A range of a guest's memory.
struct Place<'a> {
    image: Cow<'a, Arc<Image>>,
    at: u64,
    len: u64,
}

impl<'a> Place<'a> {
    fn of(call: &Call<'a>, index: usize) -> Result<Self, Errno> {
        let len = call.raw(index + 1);
        if len > MOST {
            return Err(Errno::INVAL);
        }
        Ok(Self {
            image: call.image_of(index)?,
            at: call.raw(index),
            len,
        })
    }

    /// The address of the element at `index`, where all before it have `size` bytes.
    fn element(&self, index: u64, size: usize) -> Result<u64, Errno> {
        let within = index.checked_mul(size as u64).ok_or(Errno::FAULT)?;
        self.at.checked_add(within).ok_or(Errno::FAULT)
    }
}

impl<'a> Job<'a> {
    /// Request, plaintext and its length, sealed bytes and their length.
    fn of(call: &Call<'a>) -> Result<Self, Errno> {
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

    /// Works chunk by chunk, a long run on all processors.
    fn each_chunk(
        &self,
        work: impl Fn(&Fast, Piece, &Part<'_>, &mut [u8]) -> Result<(), Errno> + Sync,
    ) -> Result<i32, Errno> {
        let chunks = self.chunks();
        let share = (SHARE / self.layout.chunk_size()).max(1) as u64;
        let next = AtomicU64::new(0);
        let work_on = || -> Result<(), Errno> {
            loop {
                let first = next.fetch_add(share, Ordering::Relaxed);
                if first >= chunks {
                    return Ok(());
                }
                self.each_of(first..chunks.min(first + share), &work)?;
            }
        };
        let others = match helpers() {
            Some(pool) if chunks > share => pool,
            _ => return work_on().map(|()| 0),
        };
        let most = chunks.div_ceil(share) as usize - 1;
        let failed = Mutex::new(None);
        let note = |result: Result<(), Errno>| {
            if let Err(errno) = result {
                *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(errno);
            }
        };
        // The caller works too: one thread less is woken, and with every helper busy it goes on.
        others.in_place_scope(|scope| {
            for _ in 0..others.current_num_threads().min(most) {
                scope.spawn(|_| note(work_on()));
            }
            note(work_on());
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(errno) => Err(errno),
            None => Ok(0),
        }
    }

    /// Works through a buffer of the host that stays in the processor's cache: guest memory can
    /// change under our hands, so no reference to it is made.
    fn each_of(
        &self,
        chunks: Range<u64>,
        work: &impl Fn(&Fast, Piece, &Part<'_>, &mut [u8]) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let size = self.layout.chunk_size();
        let stored = size + OVERHEAD;
        let mut buffer = Secret::zeros(stored);
        let memories = (&self.plaintext.image.memory, &self.sealed.image.memory);
        GuestMemory::hold_two(memories.0, memories.1, |plaintext, sealed| {
            chunks.into_iter().try_for_each(|index| {
                // The last one may be shorter.
                let len = self.layout.chunk_len(index, self.plaintext.len);
                let run = Run::appended(self.layout, self.first.wrapping_add(index), self.start);
                let piece = run.and_then(|run| run.pieces(len).next());
                let piece = piece.ok_or(Errno::INVAL)?;
                let part = Part {
                    plaintext,
                    plaintext_at: self.plaintext.element(index, size)?,
                    sealed,
                    sealed_at: self.sealed.element(index, stored)?,
                };
                work(&self.aead, piece, &part, &mut buffer[..len + OVERHEAD])
            })
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
    Job::of(call)?.each_chunk(|aead, piece, part, chunk| {
        let (nonce, rest) = chunk.split_at_mut(NONCE_LEN);
        part.plaintext
            .read(part.plaintext_at, &mut rest[..piece.len])?;
        part.sealed.read(part.sealed_at, nonce)?;
        aead.seal(piece, chunk).map_err(|_| Errno::INVAL)?;
        part.sealed.write(part.sealed_at, chunk)
    })
}

/// Opens. `EBADMSG` at the first chunk that does not authenticate; nothing of it is written, and
/// those before it are the caller's to wipe.
fn open(call: &Call<'_>) -> Result<i32, Errno> {
    Job::of(call)?.each_chunk(|aead, piece, part, chunk| {
        part.sealed.read(part.sealed_at, chunk)?;
        let plaintext = aead.open(piece, chunk).map_err(|_| Errno::BADMSG)?;
        part.plaintext.write(part.plaintext_at, plaintext)
    })
}
