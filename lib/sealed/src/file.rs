//! One open file: its header, its geometry and its AEAD, for random access.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use rand_core::TryCryptoRng;
use zeroize::Zeroize;

use crate::aead::{Aead, Run, Software};
use crate::journal::Mark;
use crate::tree::TreeKey;
use crate::{
    Digest, ENTRY_LEN, Entry, Error, FileKey, Header, Layout, MasterKey, Params, Restore, Root,
    TABLE_LEN, TAG_LEN, Tree, tags_of,
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
/// A *run* is full chunks only, none of them the file's last, with no table between them. What
/// reaches the end of the file
/// goes through [`seal_to_end`](Self::seal_to_end) and [`open_to_end`](Self::open_to_end): any
/// number of full chunks, then the final chunk, shorter than a full one and possibly empty.
///
/// On any failure to open, the whole output buffer is zeros.
pub struct FileCipher<A = Software> {
    header: Header,
    journal_mark: Mark,
    tree_key: TreeKey,
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
            tree_key: key.tree_key().clone(),
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

    /// What restores a chunk of this file, given the chunk as it lies on disk and the root of the
    /// file with it.
    pub fn restore_of(
        &self,
        index: u64,
        final_len: Option<usize>,
        sealed: &[u8],
        root: Root,
    ) -> Restore {
        Restore::Chunk {
            index,
            final_len,
            tag: sealed.last_chunk().copied().unwrap_or_default(),
            root,
        }
    }

    /// The tree of a file that has no chunks yet.
    pub fn new_tree(&self) -> Tree {
        Tree::new(self.tree_key.clone())
    }

    /// The tree of a file with `size` bytes of plaintext, from the digests of all groups but the
    /// last and from the tags in the table of the last one, no more than there are chunks.
    ///
    /// # Errors
    /// [`Error::RootCorrupt`] where they are not what the root was made of.
    pub fn verify_tree(
        &self,
        digests: Vec<Digest>,
        last_tags: &[u8],
        size: u64,
        root: Root,
    ) -> Result<Tree, Error> {
        Tree::verify(self.tree_key.clone(), digests, last_tags, size, root)
    }

    /// Whether `sealed`, found behind a live entry, is the chunk that the entry is about. It is
    /// another one when the writing of the journal itself was cut short; the entry is void then,
    /// for nothing else had been changed yet.
    pub fn is_restorable(&self, restore: &Restore, sealed: &[u8]) -> bool {
        let Restore::Chunk {
            index,
            final_len,
            tag,
            ..
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

    /// The digest that goes with the tags of a group, as they stand in its table.
    pub fn digest_of(&self, group: u64, tags: &[u8]) -> Digest {
        Digest::of(&self.tree_key, group, tags)
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

    /// Seals everything from chunk `first` to the end of the file, final chunk included, and gives
    /// it as it lies on disk from that chunk on: with the tables of the groups that begin behind
    /// it. The tree gets the new tags; what that changes in the table of the first chunk's group is
    /// [`Tree::table_part`].
    ///
    /// On failure the tree is as it was.
    pub fn seal_image<R: TryCryptoRng + ?Sized>(
        &self,
        tree: &mut Tree,
        first: u64,
        plaintext: &[u8],
        rng: &mut R,
    ) -> Result<Vec<u8>, Error> {
        let layout = &self.layout;
        let size = layout
            .chunk_start(first)?
            .checked_add(plaintext.len() as u64)
            .ok_or(Error::TooLarge)?;
        let start = layout.chunk_offset(first)?;
        let mut image = vec![0; (layout.physical_size(size)? - start) as usize];
        let end = layout.final_chunk(size).index + 1;
        let mut tags = Vec::with_capacity((end - first) as usize);
        let (mut index, mut rest) = (first, plaintext);
        while index < end {
            let count = layout.together(index, end - index);
            let at = (layout.chunk_offset(index)? - start) as usize;
            index += count;
            let whole = count as usize * layout.chunk_size();
            let sealed = if index == end {
                let len = layout.sealed_len_to_end(rest.len())?;
                let sealed = &mut image[at..at + len];
                self.seal_to_end(index - count, rest, sealed, rng)?;
                sealed
            } else {
                let (run, others) = rest.split_at(whole);
                rest = others;
                let len = layout.sealed_run_len(whole)?;
                let sealed = &mut image[at..at + len];
                self.seal_run(index - count, run, sealed, rng)?;
                sealed
            };
            tags.extend(tags_of(layout, sealed));
        }
        tree.put(first, &tags)?;
        let mut index = first + layout.together(first, end - first);
        while index < end {
            let count = layout.together(index, end - index);
            let (offset, part) = tree.table_part(index, count as usize);
            let table = layout.chunk_offset(index)? - start - TABLE_LEN as u64;
            image[table as usize + offset..][..part.len()].copy_from_slice(&part);
            index += count;
        }
        Ok(image)
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
        let end = first.checked_add(count as u64).ok_or(Error::TooLarge)?;
        self.layout.chunk_offset(end).map(drop)
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
