//! One file's header, geometry, keys and AEAD.

use core::fmt;

use blake2::Blake2sMac;
use blake2::digest::consts::{U24, U32};
use blake2::digest::{FixedOutput, KeyInit, Update};
use rand_core::TryCryptoRng;
use zeroize::{Zeroize, Zeroizing};

use crate::aead::{Aead, Run, Software};
use crate::layout::NONCE_LEN;
use crate::mac::{Mac, MacKey};
use crate::{Error, FileKey, Header, KEY_LEN, Layout, MasterKey, Params};

/// Seals and opens the chunks of one file.
///
/// Make it once for each open file and keep it: the key schedule is done then. All methods take
/// `&self`, so it can be shared. Buffers are runs of chunks exactly as they lie on disk, so that a
/// write of a mebibyte is one call here and one to the kernel; nothing is copied on the way and
/// nothing is allocated.
///
/// All chunks of a run are full but for the last, which may be shorter: then it is the last of the
/// file.
///
/// On any failure to open, the whole output buffer is zeros.
pub struct FileCipher<A = Software> {
    header: Header,
    tree_key: MacKey,
    nonce_key: Zeroizing<[u8; KEY_LEN]>,
    layout: Layout,
    aead: A,
}

impl<A> fmt::Debug for FileCipher<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileCipher")
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

impl FileCipher {
    /// A new file, with a random salt.
    ///
    /// # Errors
    /// [`Error::Randomness`].
    pub fn create<R: TryCryptoRng + ?Sized>(
        master: &MasterKey,
        params: Params,
        rng: &mut R,
    ) -> Result<Self, Error> {
        Ok(Self::new(&FileKey::generate(master, params, rng)?))
    }

    /// An existing file, from its first [`HEADER_LEN`](crate::HEADER_LEN) bytes or more.
    ///
    /// # Errors
    /// What is wrong with the header, or that it is of another key.
    pub fn open(master: &MasterKey, header: &[u8]) -> Result<Self, Error> {
        Ok(Self::new(&Header::parse(header)?.verify(master)?))
    }

    /// A file whose key is at hand, with the AEAD in software.
    pub fn new(key: &FileKey) -> Self {
        Self::with_aead(key, Software::new(key))
    }
}

impl<A> FileCipher<A> {
    /// The file's header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The file's geometry.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The key of all MACs.
    pub(crate) fn mac_key(&self) -> &MacKey {
        &self.tree_key
    }

    /// Nonces for chunks that are written together: random ones, and different for every place in the
    /// file's life even where the randomness repeats. `chain` and `counter` name that place.
    ///
    /// # Errors
    /// [`Error::Randomness`].
    pub fn nonces<R: TryCryptoRng + ?Sized>(
        &self,
        rng: &mut R,
        chain: &Mac,
        counter: u64,
    ) -> Result<Nonces, Error> {
        let mut random = Zeroizing::new([0; KEY_LEN]);
        rng.try_fill_bytes(random.as_mut_slice())
            .map_err(|_| Error::Randomness)?;
        let mut mac = keyed::<Blake2sMac<U32>>(&self.nonce_key);
        mac.update(random.as_slice());
        mac.update(chain);
        mac.update(&counter.to_le_bytes());
        let mut key = Zeroizing::new([0; KEY_LEN]);
        mac.finalize_into((&mut *key).into());
        Ok(Nonces { key, drawn: 0 })
    }
}

fn keyed<M: KeyInit>(key: &[u8; KEY_LEN]) -> M {
    M::new_from_slice(key).expect("BLAKE2s takes a key of 32 bytes")
}

/// Where the nonces of one change come from. See [`FileCipher::nonces`]. None is given out twice, even where the
/// change has a chunk twice.
pub struct Nonces {
    key: Zeroizing<[u8; KEY_LEN]>,
    /// How many were given out.
    drawn: u64,
}

impl Nonces {
    /// Those of the same change from another place on: for who seals elsewhere. `drawn` is how many were given out before.
    pub fn after(key: Zeroizing<[u8; KEY_LEN]>, drawn: u64) -> Self {
        Self { key, drawn }
    }

    /// What [`Nonces::after`] takes to give out the next ones.
    pub fn key(&self) -> &[u8; KEY_LEN] {
        &self.key
    }

    /// How many were given out.
    pub fn drawn(&self) -> u64 {
        self.drawn
    }

    /// Leaves so many to who seals elsewhere.
    pub fn leave(&mut self, count: u64) {
        self.drawn += count;
    }

    /// The next one, which is for that chunk.
    pub fn draw(&mut self, index: u64) -> [u8; NONCE_LEN] {
        let mut mac = keyed::<Blake2sMac<U24>>(&self.key);
        mac.update(&index.to_le_bytes());
        mac.update(&self.drawn.to_le_bytes());
        // It would take 2^64 chunks to come back to the first.
        self.drawn += 1;
        mac.finalize_fixed().into()
    }
}

impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nonces").finish_non_exhaustive()
    }
}

impl<A: Aead> FileCipher<A> {
    /// A file with another implementation of its AEAD, made with the same key.
    pub fn with_aead(key: &FileKey, aead: A) -> Self {
        Self {
            layout: key.header().params().layout(),
            header: key.header().clone(),
            tree_key: key.tree_key().clone(),
            nonce_key: Zeroizing::new(*key.nonce_key()),
            aead,
        }
    }

    /// As [`Aead::content_key`].
    pub(crate) fn content_key(&self) -> Option<&[u8; KEY_LEN]> {
        self.aead.content_key()
    }

    /// Seals the chunks from index `first` on into `sealed`, whose length must be
    /// [`Layout::sealed_len`] of the plaintext's.
    ///
    /// # Errors
    /// [`Error::BufferSize`], [`Error::TooLarge`]. The contents of `sealed` must not be used then.
    pub fn seal(
        &self,
        first: u64,
        plaintext: &[u8],
        sealed: &mut [u8],
        nonces: &mut Nonces,
    ) -> Result<(), Error> {
        self.seal_run(Run::new(self.layout, first), plaintext, sealed, nonces)
    }

    /// As [`FileCipher::seal`], for what is appended to a chunk that has `start` bytes: it does not open as
    /// anything else.
    ///
    /// # Errors
    /// As [`FileCipher::seal`].
    pub(crate) fn seal_appended(
        &self,
        index: u64,
        start: usize,
        plaintext: &[u8],
        sealed: &mut [u8],
        nonces: &mut Nonces,
    ) -> Result<(), Error> {
        let run = Run::appended(self.layout, index, start).ok_or(Error::TooLarge)?;
        self.seal_run(run, plaintext, sealed, nonces)
    }

    fn seal_run(
        &self,
        run: Run,
        plaintext: &[u8],
        sealed: &mut [u8],
        nonces: &mut Nonces,
    ) -> Result<(), Error> {
        if sealed.len() != self.layout.sealed_len(plaintext.len())? {
            return Err(Error::BufferSize);
        }
        self.check_indices(run.first(), sealed.len())?;
        let chunks = sealed.chunks_mut(self.layout.sealed_chunk_len());
        for (index, chunk) in (run.first()..).zip(chunks) {
            chunk[..NONCE_LEN].copy_from_slice(&nonces.draw(index));
        }
        self.aead.seal(run, plaintext, sealed)
    }

    /// Opens the chunks from index `first` on into `plaintext`, whose length must be
    /// [`Layout::opened_len`] of the sealed one. Whether they are the newest is another question:
    /// see [`Volume`](crate::Volume).
    ///
    /// # Errors
    /// [`Error::ChunkCorrupt`] where one does not authenticate; [`Error::BufferSize`],
    /// [`Error::TooLarge`].
    pub fn open_chunks(
        &self,
        first: u64,
        sealed: &[u8],
        plaintext: &mut [u8],
    ) -> Result<(), Error> {
        self.open_run(Run::new(self.layout, first), sealed, plaintext)
    }

    /// Opens what was appended to a chunk that had `start` bytes, or with 0 the chunk as a whole.
    ///
    /// # Errors
    /// As [`FileCipher::open_chunks`].
    pub(crate) fn open_piece(
        &self,
        index: u64,
        start: usize,
        sealed: &[u8],
        plaintext: &mut [u8],
    ) -> Result<(), Error> {
        match Run::appended(self.layout, index, start) {
            Some(run) => self.open_run(run, sealed, plaintext),
            None => {
                plaintext.zeroize();
                Err(Error::ChunkCorrupt { index })
            }
        }
    }

    fn open_run(&self, run: Run, sealed: &[u8], plaintext: &mut [u8]) -> Result<(), Error> {
        let outcome = self.layout.opened_len(sealed.len()).and_then(|len| {
            if plaintext.len() != len {
                return Err(Error::BufferSize);
            }
            self.check_indices(run.first(), sealed.len())?;
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
        let end = first.checked_add(count as u64).ok_or(Error::TooLarge)?;
        self.layout.chunk_offset(end).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;
    use alloc::vec;

    use super::*;
    use crate::layout::OVERHEAD;
    use crate::testing::TestRng;
    use crate::{ChunkSize, Cipher};

    fn file(cipher: Cipher) -> (FileCipher, TestRng) {
        let mut rng = TestRng::new(1);
        let params = Params {
            cipher,
            chunk_size: ChunkSize::MIN,
        };
        let master = MasterKey::from_bytes([1; 32]);
        (FileCipher::create(&master, params, &mut rng).unwrap(), rng)
    }

    fn sealed(file: &FileCipher, rng: &mut TestRng, first: u64, plaintext: &[u8]) -> vec::Vec<u8> {
        let mut sealed = vec![0; file.layout().sealed_len(plaintext.len()).unwrap()];
        let mut nonces = file.nonces(rng, &[0; 16], first).unwrap();
        file.seal(first, plaintext, &mut sealed, &mut nonces)
            .unwrap();
        sealed
    }

    #[test]
    fn runs_meet() {
        for cipher in Cipher::ALL {
            let (file, mut rng) = file(cipher);
            let layout = file.layout();
            let plaintext: vec::Vec<u8> = (0..1500).map(|i| i as u8).collect();
            let mut run = sealed(&file, &mut rng, 0, &plaintext[..1024]);
            run.extend(sealed(&file, &mut rng, 2, &plaintext[1024..]));

            let mut opened = vec![0; 1500];
            file.open_chunks(0, &run, &mut opened).unwrap();
            assert_eq!(opened, plaintext);

            let mut middle = vec![0; 512];
            let chunk = layout.sealed_chunk_len();
            file.open_chunks(1, &run[chunk..2 * chunk], &mut middle)
                .unwrap();
            assert_eq!(middle, plaintext[512..1024]);
        }
    }

    #[test]
    fn what_is_appended_opens_as_nothing_else() {
        for cipher in Cipher::ALL {
            let (file, mut rng) = file(cipher);
            let mut nonces = file.nonces(&mut rng, &[0; 16], 1).unwrap();
            let mut sealed = [0; 9 + OVERHEAD];
            file.seal_appended(3, 100, b"appended!", &mut sealed, &mut nonces)
                .unwrap();
            let opens = |index, start, sealed: &[u8]| {
                let mut out = [1; 9];
                let opened = file.open_piece(index, start, sealed, &mut out);
                assert_eq!(
                    out,
                    if opened.is_ok() {
                        *b"appended!"
                    } else {
                        [0; 9]
                    }
                );
                opened.is_ok()
            };
            assert!(opens(3, 100, &sealed));
            for (index, start) in [(3, 0), (3, 99), (3, 101), (2, 100), (3, 512), (3, 1 << 20)] {
                assert!(!opens(index, start, &sealed), "{index}, {start}");
            }
            // Nor does a chunk open as what was appended to it.
            file.seal(3, b"appended!", &mut sealed, &mut nonces)
                .unwrap();
            assert!(opens(3, 0, &sealed));
            assert!(!opens(3, 100, &sealed));
        }
    }

    #[test]
    fn failure_to_open_leaves_zeros() {
        let (file, mut rng) = file(Cipher::default());
        let mut run = sealed(&file, &mut rng, 0, &[0x55; 2048]);
        run[3 * file.layout().sealed_chunk_len() + 100] ^= 1;
        let mut opened = vec![0xFF; 2048];
        assert_eq!(
            file.open_chunks(0, &run, &mut opened),
            Err(Error::ChunkCorrupt { index: 3 })
        );
        assert!(opened.iter().all(|&byte| byte == 0));
        let mut wrong_size = vec![0xFF; 2047];
        assert_eq!(
            file.open_chunks(0, &run, &mut wrong_size),
            Err(Error::BufferSize)
        );
        assert!(wrong_size.iter().all(|&byte| byte == 0));
    }

    /// A short chunk is no beginning of a full one, whatever is put behind it.
    #[test]
    fn short_and_full_chunks_are_not_interchangeable() {
        let (file, mut rng) = file(Cipher::default());
        let full = sealed(&file, &mut rng, 0, &[7; 512]);
        let short = sealed(&file, &mut rng, 0, &[7; 511]);
        let mut out = [0; 512];
        assert!(file.open_chunks(0, &full[..551], &mut out[..511]).is_err());
        let longer = [&short[..], &[0]].concat();
        assert!(file.open_chunks(0, &longer, &mut out).is_err());
        assert!(file.open_chunks(1, &full, &mut out).is_err());
        assert_eq!(file.open_chunks(0, &full, &mut out), Ok(()));
        assert_eq!(file.open_chunks(0, &short, &mut out[..511]), Ok(()));
    }

    /// Also where the random bytes are the same each time, as long as place or counter differ; and where one
    /// change has a chunk twice.
    #[test]
    fn every_write_has_its_own_nonce() {
        for cipher in Cipher::ALL {
            let (file, _) = file(cipher);
            let mut seen = BTreeSet::new();
            let plaintext = vec![0; 512 * 50];
            let mut sealed = vec![0; file.layout().sealed_len(plaintext.len()).unwrap()];
            for (chain, counter) in [(0, 0), (0, 1), (1, 1)] {
                let mut stuck = TestRng::new(9);
                let mut nonces = file.nonces(&mut stuck, &[chain; 16], counter).unwrap();
                for _ in 0..2 {
                    file.seal(3, &plaintext, &mut sealed, &mut nonces).unwrap();
                    for chunk in sealed.chunks(file.layout().sealed_chunk_len()) {
                        assert!(seen.insert(chunk[..NONCE_LEN].to_vec()));
                    }
                }
            }
            assert_eq!(seen.len(), 300);
        }
    }

    #[test]
    fn bad_arguments_are_errors() {
        let (file, mut rng) = file(Cipher::default());
        let mut nonces = file.nonces(&mut rng, &[0; 16], 1).unwrap();
        let mut out = vec![0; 552];
        for (first, len, error) in [
            (0, 511, Error::BufferSize),
            (u64::MAX, 512, Error::TooLarge),
            (u64::MAX / 2, 512, Error::TooLarge),
        ] {
            let plaintext = vec![0; len];
            let sealed = file.seal(first, &plaintext, &mut out, &mut nonces);
            assert_eq!(sealed, Err(error));
        }
        let mut failing = TestRng::failing_after(31);
        assert!(file.nonces(&mut failing, &[0; 16], 1).is_err());
    }
}
