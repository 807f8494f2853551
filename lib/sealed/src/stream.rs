//! A whole file from beginning to end, without I/O: bytes are pushed in as they come, in pieces of
//! any size, and what comes of them is appended to a buffer of the caller's.

use alloc::vec::Vec;

use rand_core::TryCryptoRng;
use zeroize::Zeroize;

use crate::{Error, FileCipher, HEADER_LEN, Header, MasterKey, Params, Restore};

/// Seals a stream of plaintext into a sealed file.
///
/// After an error every further call fails with the same one.
#[derive(Debug)]
pub struct Sealer<R> {
    file: FileCipher,
    rng: R,
    next: u64,
    header_due: bool,
    /// Plaintext that does not fill a chunk yet.
    pending: Vec<u8>,
    failed: Option<Error>,
}

impl<R: TryCryptoRng> Sealer<R> {
    /// A new file, with salt and nonces from `rng`.
    pub fn new(master: &MasterKey, params: Params, mut rng: R) -> Result<Self, Error> {
        Ok(Self {
            file: FileCipher::create(master, params, &mut rng)?,
            rng,
            next: 0,
            header_due: true,
            pending: Vec::new(),
            failed: None,
        })
    }

    /// Takes plaintext and appends to `out` the sealed bytes that are ready.
    pub fn push(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        self.latched(|sealer| sealer.take(plaintext, out))
    }

    /// Ends the file: appends the final chunk.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.latched(|sealer| {
            sealer.put_header(out);
            let sealed = extend(
                out,
                sealer
                    .file
                    .layout()
                    .sealed_len_to_end(sealer.pending.len())?,
            );
            sealer
                .file
                .seal_to_end(sealer.next, &sealer.pending, sealed, &mut sealer.rng)
        })
    }

    fn latched(&mut self, step: impl FnOnce(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        step(self).inspect_err(|&error| self.failed = Some(error))
    }

    fn take(&mut self, mut plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        self.put_header(out);
        let chunk_size = self.file.layout().chunk_size();
        if !self.pending.is_empty() {
            top_up(&mut self.pending, &mut plaintext, chunk_size);
            if self.pending.len() < chunk_size {
                return Ok(());
            }
            let mut pending = core::mem::take(&mut self.pending);
            self.seal_run(&pending, out)?;
            pending.zeroize();
            self.pending = pending;
        }
        let (full, rest) = plaintext.split_at(plaintext.len() - plaintext.len() % chunk_size);
        self.seal_run(full, out)?;
        self.pending.extend_from_slice(rest);
        Ok(())
    }

    fn seal_run(&mut self, full_chunks: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let layout = self.file.layout();
        let count = full_chunks.len() / layout.chunk_size();
        let sealed = extend(out, layout.sealed_run_len(full_chunks.len())?);
        self.file
            .seal_run(self.next, full_chunks, sealed, &mut self.rng)?;
        self.next += count as u64;
        Ok(())
    }

    fn put_header(&mut self, out: &mut Vec<u8>) {
        if core::mem::take(&mut self.header_due) {
            out.extend_from_slice(&self.file.header().encode());
            extend(out, self.file.layout().journal_len());
        }
    }
}

impl<R> Drop for Sealer<R> {
    fn drop(&mut self) {
        self.pending.zeroize();
    }
}

/// Opens a sealed file from a stream of its bytes.
///
/// Only authenticated plaintext is ever appended to the output. Plaintext that has come out is
/// authentic at its place in the file, but that the file is whole is known only when
/// [`finish`](Self::finish) succeeds. After an error every further call fails with the same one.
///
/// A file whose last change was cut short opens in the state that its journal restores.
#[derive(Debug)]
pub struct Opener<'k> {
    master: &'k MasterKey,
    /// None until the header has been read and verified.
    file: Option<FileCipher>,
    journal: Journal,
    next: u64,
    /// Sealed bytes that do not fill a header, journal or chunk yet.
    pending: Vec<u8>,
    failed: Option<Error>,
}

/// What the journal of a file that is being read told.
#[derive(Debug)]
enum Journal {
    /// Nothing yet: it has not been read.
    Unread,
    /// The file is whole as it is.
    Clear,
    /// One chunk is to be read from here, not from its place.
    Chunk {
        index: u64,
        is_final: bool,
        sealed: Vec<u8>,
    },
    /// The file ended; what follows is the rest of a change that was cut short.
    Ended,
}

impl<'k> Opener<'k> {
    /// A file sealed with this key.
    pub fn new(master: &'k MasterKey) -> Self {
        Self {
            master,
            file: None,
            journal: Journal::Unread,
            next: 0,
            pending: Vec::new(),
            failed: None,
        }
    }

    /// The file's header, once enough bytes for it have been pushed.
    pub fn header(&self) -> Option<&Header> {
        self.file.as_ref().map(FileCipher::header)
    }

    /// Whether the file's last change was cut short, so that the file opens in the state that its
    /// journal restores. Known as soon as plaintext comes out.
    pub fn is_restored(&self) -> bool {
        matches!(self.journal, Journal::Chunk { .. } | Journal::Ended)
    }

    /// Takes sealed bytes and appends to `out` the plaintext of the chunks they complete.
    pub fn push(&mut self, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        self.latched(|opener| opener.take(sealed, out))
    }

    /// Says that no more bytes come: appends the plaintext of the final chunk, or fails if the
    /// file does not end here.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.latched(|opener| match (&opener.file, &opener.journal) {
            (None, _) if opener.pending.is_empty() => Ok(()),
            (None, _) => Err(Header::parse(&opener.pending)
                .err()
                .unwrap_or(Error::Truncated)),
            (Some(file), Journal::Unread) => {
                // A file that was just being begun can end inside its journal.
                match opener.pending.first_chunk() {
                    Some(entry) if file.parse_entry(entry).restore == Some(Restore::Empty) => {
                        Ok(())
                    }
                    _ => Err(Error::Truncated),
                }
            }
            (Some(_), Journal::Ended) => Ok(()),
            (Some(file), Journal::Clear | Journal::Chunk { .. }) => {
                let len = file.layout().opened_len_to_end(opener.pending.len())?;
                append_opened(out, len, |plaintext| {
                    file.open_to_end(opener.next, &opener.pending, plaintext)
                })
            }
        })
    }

    fn latched(&mut self, step: impl FnOnce(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        step(self).inspect_err(|&error| self.failed = Some(error))
    }

    fn take(&mut self, mut sealed: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let Some(file) = &self.file else {
            top_up(&mut self.pending, &mut sealed, HEADER_LEN);
            if self.pending.len() < HEADER_LEN {
                // Says at once when this cannot become a header, rather than wait for the rest.
                return match Header::parse(&self.pending) {
                    Err(Error::Truncated) | Ok(_) => Ok(()),
                    Err(Error::NotSealed) if self.pending.is_empty() => Ok(()),
                    Err(error) => Err(error),
                };
            }
            self.file = Some(FileCipher::open(self.master, &self.pending)?);
            self.pending.clear();
            return self.take(sealed, out);
        };
        if let Journal::Unread = self.journal {
            let len = file.layout().journal_len();
            top_up(&mut self.pending, &mut sealed, len);
            if self.pending.len() < len {
                return Ok(());
            }
            self.journal = read_journal(file, &self.pending);
            self.pending.clear();
        }
        let sealed_chunk = file.layout().sealed_chunk_len();
        loop {
            let runs_to = match &self.journal {
                Journal::Ended => return Ok(()),
                Journal::Chunk {
                    index,
                    is_final,
                    sealed,
                } if *index == self.next => {
                    if *is_final {
                        let len = file.layout().opened_len_to_end(sealed.len())?;
                        append_opened(out, len, |plaintext| {
                            file.open_to_end(*index, sealed, plaintext)
                        })?;
                        self.journal = Journal::Ended;
                        return Ok(());
                    }
                    None
                }
                Journal::Chunk { index, .. } if *index > self.next => Some(*index),
                Journal::Unread | Journal::Clear | Journal::Chunk { .. } => Some(u64::MAX),
            };
            // Whole chunks are opened where they are; one that comes in pieces is collected first.
            let whole = if self.pending.is_empty() && sealed.len() >= sealed_chunk {
                let most = runs_to.map_or(1, |end| end - self.next);
                let count = ((sealed.len() / sealed_chunk) as u64).min(most);
                let (run, rest) = sealed.split_at(count as usize * sealed_chunk);
                sealed = rest;
                run
            } else {
                top_up(&mut self.pending, &mut sealed, sealed_chunk);
                if self.pending.len() < sealed_chunk {
                    return Ok(());
                }
                self.pending.as_slice()
            };
            let run = match &self.journal {
                Journal::Chunk { sealed, .. } if runs_to.is_none() => sealed.as_slice(),
                _ => whole,
            };
            open_run(file, &mut self.next, run, out)?;
            self.pending.clear();
        }
    }
}

fn read_journal(file: &FileCipher, journal: &[u8]) -> Journal {
    let Some((entry, body)) = journal.split_first_chunk() else {
        return Journal::Clear;
    };
    let Some(restore) = file.parse_entry(entry).restore else {
        return Journal::Clear;
    };
    let sealed = &body[..restore.sealed_len(file.layout())];
    match restore {
        Restore::Empty => Journal::Ended,
        Restore::Chunk {
            index, final_len, ..
        } if file.is_restorable(&restore, sealed) => Journal::Chunk {
            index,
            is_final: final_len.is_some(),
            sealed: sealed.to_vec(),
        },
        Restore::Chunk { .. } => Journal::Clear,
    }
}

fn open_run(
    file: &FileCipher,
    next: &mut u64,
    full_chunks: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let layout = file.layout();
    append_opened(
        out,
        layout.opened_run_len(full_chunks.len())?,
        |plaintext| file.open_run(*next, full_chunks, plaintext),
    )?;
    *next += (full_chunks.len() / layout.sealed_chunk_len()) as u64;
    Ok(())
}

/// Moves bytes from `input` to `pending` until it holds `len`, or the input is used up.
fn top_up(pending: &mut Vec<u8>, input: &mut &[u8], len: usize) {
    let missing = len.saturating_sub(pending.len()).min(input.len());
    let (head, rest) = input.split_at(missing);
    pending.extend_from_slice(head);
    *input = rest;
}

/// `len` more bytes at the end of `out`.
fn extend(out: &mut Vec<u8>, len: usize) -> &mut [u8] {
    let start = out.len();
    out.resize(start + len, 0);
    &mut out[start..]
}

/// Appends `len` bytes that `open` fills, and takes them back if it fails.
fn append_opened(
    out: &mut Vec<u8>,
    len: usize,
    open: impl FnOnce(&mut [u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let start = out.len();
    open(extend(out, len)).inspect_err(|_| out.truncate(start))
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{TestRng, seal_whole};
    use crate::{ChunkSize, Cipher};

    const PARAMS: Params = Params {
        cipher: Cipher::XChaCha20Poly1305,
        chunk_size: ChunkSize::MIN,
    };

    /// Header, journal entry, room for a chunk.
    const DATA_START: usize = 96 + 64 + 552;

    fn key() -> MasterKey {
        MasterKey::from_bytes([8; 32])
    }

    fn open_in_pieces(sealed: &[u8], piece: usize) -> Result<Vec<u8>, Error> {
        let key = key();
        let mut opener = Opener::new(&key);
        let mut out = Vec::new();
        for part in sealed.chunks(piece) {
            opener.push(part, &mut out)?;
        }
        opener.finish(&mut out)?;
        Ok(out)
    }

    #[test]
    fn an_empty_file_opens_as_empty() {
        assert_eq!(open_in_pieces(&[], 1), Ok(vec![]));
        let key = key();
        let mut opener = Opener::new(&key);
        opener.push(&[], &mut Vec::new()).unwrap();
        assert_eq!(opener.finish(&mut Vec::new()), Ok(()));
        let sealed = seal_whole(&key, PARAMS, b"", TestRng::new(1));
        assert_eq!(sealed.len(), DATA_START + 40);
        assert_eq!(open_in_pieces(&sealed, 7), Ok(vec![]));
    }

    #[test]
    fn a_foreign_stream_is_refused_at_its_first_byte() {
        let key = key();
        let mut opener = Opener::new(&key);
        let mut out = Vec::new();
        assert_eq!(opener.push(b"p", &mut out), Err(Error::NotSealed));
        assert_eq!(opener.push(b"p", &mut out), Err(Error::NotSealed));
        assert_eq!(opener.finish(&mut out), Err(Error::NotSealed));
        assert!(out.is_empty());
    }

    #[test]
    fn a_failure_sticks_and_gives_nothing() {
        let key = key();
        let mut sealed = seal_whole(&key, PARAMS, &[1; 2000], TestRng::new(1));
        sealed[DATA_START + 552 + 30] ^= 1;
        let mut opener = Opener::new(&key);
        let mut out = Vec::new();
        opener.push(&sealed[..DATA_START + 552], &mut out).unwrap();
        assert_eq!(out, [1; 512]);
        let failure = Err(Error::ChunkCorrupt { index: 1 });
        assert_eq!(opener.push(&sealed[DATA_START + 552..], &mut out), failure);
        assert_eq!(out, [1; 512]);
        assert_eq!(opener.push(&[], &mut out), failure);
        assert_eq!(opener.finish(&mut out), failure);
    }

    #[test]
    fn sealing_without_randomness_fails() {
        let key = key();
        assert!(Sealer::new(&key, PARAMS, TestRng::failing_after(31)).is_err());
        let mut sealer = Sealer::new(&key, PARAMS, TestRng::failing_after(40)).unwrap();
        let mut out = Vec::new();
        assert_eq!(sealer.push(&[0; 600], &mut out), Err(Error::Randomness));
        assert_eq!(sealer.push(&[], &mut out), Err(Error::Randomness));
        assert_eq!(sealer.finish(&mut out), Err(Error::Randomness));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_pieces_in_any_pieces_out(
            plaintext in prop::collection::vec(any::<u8>(), 0..3000),
            piece_in in 1usize..1500,
            piece_out in 1usize..1500,
            gcm in any::<bool>(),
        ) {
            let cipher = if gcm { Cipher::Aes256Gcm } else { Cipher::XChaCha20Poly1305 };
            let params = Params { cipher, ..PARAMS };
            let mut sealer = Sealer::new(&key(), params, TestRng::new(3)).unwrap();
            let mut sealed = Vec::new();
            for part in plaintext.chunks(piece_in) {
                sealer.push(part, &mut sealed).unwrap();
            }
            sealer.finish(&mut sealed).unwrap();
            prop_assert_eq!(
                sealed.len() as u64,
                params.layout().physical_size(plaintext.len() as u64).unwrap()
            );
            prop_assert_eq!(open_in_pieces(&sealed, piece_out), Ok(plaintext));
        }
    }
}
