//! One open file: its header, its geometry and its AEAD, for random access.

use alloc::vec;

use rand_core::TryCryptoRng;
use zeroize::Zeroize;

use crate::aead::{Aead, Run, Software};
use crate::journal::Mark;
use crate::{
    ENTRY_LEN, Entry, Error, FileKey, Header, Layout, MasterKey, Params, Restore, TAG_LEN,
};

/// Nonces drawn from the RNG at a time: enough to make an RNG that costs a system call a time
/// cheap, small enough for the stack.
const NONCE_BATCH_LEN: usize = 768;

/// Seals and opens the chunks of one file.
///
/// Make it once for each open file and keep it: the key schedule is done then. All methods take
/// `&self`, so it can be shared. Buffers are runs of chunks exactly as they lie on disk, so that a
/// write of a mebibyte is one call here and one to the kernel; nothing is copied on the way and
/// nothing is allocated.
///
/// A *run* is full chunks only, none of them the file's last. What reaches the end of the file
/// goes through [`seal_to_end`](Self::seal_to_end) and [`open_to_end`](Self::open_to_end): any
/// number of full chunks, then the final chunk, shorter than a full one and possibly empty.
///
/// On any failure to open, the whole output buffer is zeros.
#[derive(Debug)]
pub struct FileCipher<A = Software> {
    header: Header,
    journal_mark: Mark,
    layout: Layout,
    aead: A,
}

impl FileCipher {
    /// A new file, with a random salt. Its header goes at offset 0 before anything else.
    pub fn create<R: TryCryptoRng + ?Sized>(
        master: &MasterKey,
        params: Params,
        rng: &mut R,
    ) -> Result<Self, Error> {
        Ok(Self::new(&FileKey::generate(master, params, rng)?))
    }

    /// An existing file, from its first [`HEADER_LEN`](crate::HEADER_LEN) bytes or more.
    pub fn open(master: &MasterKey, header: &[u8]) -> Result<Self, Error> {
        Ok(Self::new(&Header::parse(header)?.verify(master)?))
    }

    /// A file whose key is at hand, with the AEAD in software.
    pub fn new(key: &FileKey) -> Self {
        Self::with_aead(key, Software::new(key))
    }
}

impl<A: Aead> FileCipher<A> {
    /// A file with another implementation of its AEAD, made with the same key.
    pub fn with_aead(key: &FileKey, aead: A) -> Self {
        Self {
            layout: key.header().params().layout(),
            header: key.header().clone(),
            journal_mark: *key.journal_mark(),
            aead,
        }
    }

    /// Reads the head of the journal, which follows the header.
    pub fn parse_entry(&self, bytes: &[u8; ENTRY_LEN]) -> Entry {
        Entry::parse(bytes, &self.journal_mark, &self.layout)
    }

    /// The head of the journal as it stands in the file.
    pub fn encode_entry(&self, entry: &Entry) -> [u8; ENTRY_LEN] {
        entry.encode(&self.journal_mark)
    }

    /// What restores a chunk of this file, given the chunk as it lies on disk.
    pub fn restore_of(&self, index: u64, final_len: Option<usize>, sealed: &[u8]) -> Restore {
        Restore::Chunk {
            index,
            final_len,
            tag: sealed.last_chunk().copied().unwrap_or_default(),
        }
    }

    /// Whether `sealed`, found behind a live entry, is the chunk that the entry is about. It is
    /// another one when the writing of the journal itself was cut short; the entry is void then,
    /// for nothing else had been changed yet.
    pub fn is_restorable(&self, restore: &Restore, sealed: &[u8]) -> bool {
        let Restore::Chunk {
            index,
            final_len,
            tag,
        } = *restore
        else {
            return true;
        };
        let mut plaintext = vec![0; final_len.unwrap_or_else(|| self.layout.chunk_size())];
        let opened = match final_len {
            None => self.open_run(index, sealed, &mut plaintext),
            Some(_) => self.open_to_end(index, sealed, &mut plaintext),
        };
        plaintext.zeroize();
        opened.is_ok() && sealed.ends_with(&tag)
    }

    /// The file's header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The file's geometry.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Seals full chunks, of which the first has index `first`, into `sealed`, whose length must
    /// be [`Layout::sealed_run_len`] of the plaintext's. Every chunk gets a fresh nonce.
    ///
    /// On failure the contents of `sealed` must not be used.
    pub fn seal_run<R: TryCryptoRng + ?Sized>(
        &self,
        first: u64,
        plaintext: &[u8],
        sealed: &mut [u8],
        rng: &mut R,
    ) -> Result<(), Error> {
        let sealed_len = self.layout.sealed_run_len(plaintext.len())?;
        self.seal(first, false, plaintext, sealed_len, sealed, rng)
    }

    /// Seals everything from chunk `first` to the end of the file, final chunk included, into
    /// `sealed`, whose length must be [`Layout::sealed_len_to_end`] of the plaintext's.
    ///
    /// Less than a chunk of plaintext, or none, is the final chunk alone.
    pub fn seal_to_end<R: TryCryptoRng + ?Sized>(
        &self,
        first: u64,
        plaintext: &[u8],
        sealed: &mut [u8],
        rng: &mut R,
    ) -> Result<(), Error> {
        let sealed_len = self.layout.sealed_len_to_end(plaintext.len())?;
        self.seal(first, true, plaintext, sealed_len, sealed, rng)
    }

    /// Opens full chunks, of which the first has index `first`, into `plaintext`, whose length
    /// must be [`Layout::opened_run_len`] of the sealed one.
    pub fn open_run(&self, first: u64, sealed: &[u8], plaintext: &mut [u8]) -> Result<(), Error> {
        let len = self.layout.opened_run_len(sealed.len());
        self.open_or_wipe(first, false, sealed, len, plaintext)
    }

    /// Opens everything from chunk `first` to the end of the file into `plaintext`, whose length
    /// must be [`Layout::opened_len_to_end`] of the sealed one.
    ///
    /// `sealed` must reach to the end of the file: a final chunk anywhere else is an error, and so
    /// is the lack of one.
    pub fn open_to_end(
        &self,
        first: u64,
        sealed: &[u8],
        plaintext: &mut [u8],
    ) -> Result<(), Error> {
        let len = self.layout.opened_len_to_end(sealed.len());
        self.open_or_wipe(first, true, sealed, len, plaintext)
    }

    fn seal<R: TryCryptoRng + ?Sized>(
        &self,
        first: u64,
        ends_file: bool,
        plaintext: &[u8],
        sealed_len: usize,
        sealed: &mut [u8],
        rng: &mut R,
    ) -> Result<(), Error> {
        if sealed.len() != sealed_len {
            return Err(Error::BufferSize);
        }
        self.check_indices(first, sealed_len)?;
        self.place_nonces(sealed, rng)?;
        let run = Run::new(self.layout, first, ends_file);
        self.aead.seal(run, plaintext, sealed)
    }

    fn open_or_wipe(
        &self,
        first: u64,
        ends_file: bool,
        sealed: &[u8],
        plaintext_len: Result<usize, Error>,
        plaintext: &mut [u8],
    ) -> Result<(), Error> {
        let outcome = plaintext_len.and_then(|len| {
            if plaintext.len() != len {
                return Err(Error::BufferSize);
            }
            self.check_indices(first, sealed.len())?;
            let run = Run::new(self.layout, first, ends_file);
            self.aead.open(run, sealed, plaintext)
        });
        if outcome.is_err() {
            // Chunks before the bad one are in the buffer already.
            plaintext.zeroize();
        }
        outcome
    }

    /// Refuses chunks that lie where no file can reach.
    fn check_indices(&self, first: u64, sealed_len: usize) -> Result<(), Error> {
        let count = sealed_len.div_ceil(self.layout.sealed_chunk_len());
        self.layout.run_range(first, count as u64).map(drop)
    }

    /// Draws a fresh nonce for each chunk and puts it where the chunk begins.
    fn place_nonces<R: TryCryptoRng + ?Sized>(
        &self,
        sealed: &mut [u8],
        rng: &mut R,
    ) -> Result<(), Error> {
        let nonce_len = self.layout.overhead() - TAG_LEN;
        let per_batch = NONCE_BATCH_LEN / nonce_len;
        let mut batch = [0; NONCE_BATCH_LEN];
        for chunks in sealed.chunks_mut(self.layout.sealed_chunk_len() * per_batch) {
            let chunks = chunks.chunks_mut(self.layout.sealed_chunk_len());
            let nonces = &mut batch[..chunks.len() * nonce_len];
            rng.try_fill_bytes(nonces).map_err(|_| Error::Randomness)?;
            for (chunk, nonce) in chunks.zip(nonces.chunks_exact(nonce_len)) {
                chunk[..nonce_len].copy_from_slice(nonce);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestRng;
    use crate::{ChunkSize, Cipher};
    use alloc::collections::BTreeSet;

    fn file(cipher: Cipher) -> (FileCipher, TestRng) {
        let mut rng = TestRng::new(1);
        let params = Params {
            cipher,
            chunk_size: ChunkSize::MIN,
        };
        let master = MasterKey::from_bytes([1; 32]);
        (FileCipher::create(&master, params, &mut rng).unwrap(), rng)
    }

    #[test]
    fn run_and_end_meet() {
        for cipher in Cipher::ALL {
            let (file, mut rng) = file(cipher);
            let layout = file.layout();
            let plaintext: vec::Vec<u8> = (0..1500).map(|i| i as u8).collect();

            let mut sealed = vec![0; layout.sealed_len_to_end(1500).unwrap()];
            let (run, end) = sealed.split_at_mut(2 * layout.sealed_chunk_len());
            file.seal_run(0, &plaintext[..1024], run, &mut rng).unwrap();
            file.seal_to_end(2, &plaintext[1024..], end, &mut rng)
                .unwrap();

            let mut opened = vec![0; 1500];
            file.open_to_end(0, &sealed, &mut opened).unwrap();
            assert_eq!(opened, plaintext);

            let mut middle = vec![0; 512];
            file.open_run(
                1,
                &sealed[layout.sealed_chunk_len()..][..layout.sealed_chunk_len()],
                &mut middle,
            )
            .unwrap();
            assert_eq!(middle, plaintext[512..1024]);
        }
    }

    #[test]
    fn failure_to_open_leaves_zeros() {
        let (file, mut rng) = file(Cipher::default());
        let layout = file.layout();
        let mut sealed = vec![0; layout.sealed_run_len(2048).unwrap()];
        file.seal_run(0, &[0x55; 2048], &mut sealed, &mut rng)
            .unwrap();
        sealed[3 * layout.sealed_chunk_len() + 100] ^= 1;
        let mut opened = vec![0xFF; 2048];
        assert_eq!(
            file.open_run(0, &sealed, &mut opened),
            Err(Error::ChunkCorrupt { index: 3 })
        );
        assert!(opened.iter().all(|&byte| byte == 0));

        let mut wrong_size = vec![0xFF; 2047];
        assert_eq!(
            file.open_run(0, &sealed, &mut wrong_size),
            Err(Error::BufferSize)
        );
        assert!(wrong_size.iter().all(|&byte| byte == 0));
        let mut opened = vec![0xFF; 10];
        assert_eq!(
            file.open_to_end(0, &sealed, &mut opened),
            Err(Error::Truncated)
        );
        assert!(opened.iter().all(|&byte| byte == 0));
    }

    #[test]
    fn final_and_full_chunks_are_not_interchangeable() {
        let (file, mut rng) = file(Cipher::default());
        let sealed_chunk = file.layout().sealed_chunk_len();
        // An empty final chunk after a full one, then the same bytes read as if the file went on.
        let mut sealed = vec![0; sealed_chunk + file.layout().overhead()];
        file.seal_to_end(0, &[7; 512], &mut sealed, &mut rng)
            .unwrap();
        let mut out = [0; 512];
        assert_eq!(file.open_run(0, &sealed[..sealed_chunk], &mut out), Ok(()));
        assert_eq!(
            file.open_to_end(0, &sealed[sealed_chunk..], &mut []),
            Err(Error::ChunkCorrupt { index: 0 })
        );
        assert_eq!(
            file.open_to_end(1, &sealed[sealed_chunk..], &mut []),
            Ok(())
        );
    }

    #[test]
    fn every_write_has_its_own_nonce() {
        for cipher in Cipher::ALL {
            let (file, mut rng) = file(cipher);
            let sealed_chunk = file.layout().sealed_chunk_len();
            let mut seen = BTreeSet::new();
            // More chunks than one batch of nonces, sealed twice over.
            let plaintext = vec![0; 512 * 150];
            let mut sealed = vec![0; file.layout().sealed_run_len(plaintext.len()).unwrap()];
            for _ in 0..2 {
                file.seal_run(0, &plaintext, &mut sealed, &mut rng).unwrap();
                for chunk in sealed.chunks(sealed_chunk) {
                    assert!(seen.insert(chunk[..cipher.nonce_len()].to_vec()));
                }
            }
            assert_eq!(seen.len(), 300);
        }
    }

    #[test]
    fn bad_arguments_are_errors() {
        let (file, mut rng) = file(Cipher::default());
        let mut out = vec![0; 552];
        assert_eq!(
            file.seal_run(0, &[0; 511], &mut out, &mut rng),
            Err(Error::BufferSize)
        );
        assert_eq!(
            file.seal_run(0, &[0; 512], &mut out[..551], &mut rng),
            Err(Error::BufferSize)
        );
        assert_eq!(
            file.seal_run(u64::MAX, &[0; 512], &mut out, &mut rng),
            Err(Error::TooLarge)
        );
        assert_eq!(
            file.open_run(u64::MAX / 2, &out, &mut [0; 512]),
            Err(Error::TooLarge)
        );
        assert_eq!(
            file.seal_run(0, &[0; 512], &mut out, &mut TestRng::failing_after(0)),
            Err(Error::Randomness)
        );
    }
}
