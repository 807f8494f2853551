//! A whole file from beginning to end, without I/O: bytes are pushed in as they come, in pieces of
//! any size, and what comes of them is appended to a buffer of the caller's.

use alloc::vec::Vec;

use rand_core::TryCryptoRng;
use zeroize::Zeroize;

use crate::layout::DIGEST_LEN;
use crate::{
    Error, FileCipher, GROUP_CHUNKS, HEADER_LEN, Header, MasterKey, Params, Restore, Root,
    TABLE_LEN, TAG_LEN, Tag, Tree, tags_of,
};

/// Seals a stream of plaintext into a sealed file.
///
/// The root of the file stands in its head and is known at the end: [`finish`](Self::finish) gives
/// it, and until it is at its place, [`ROOT_OFFSET`](crate::ROOT_OFFSET), the file does not open.
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
    /// The chunks of the last group: their table goes before them.
    group: Vec<u8>,
    tree: Tree,
    failed: Option<Error>,
}

impl<R: TryCryptoRng> Sealer<R> {
    /// A new file, with salt and nonces from `rng`.
    pub fn new(master: &MasterKey, params: Params, mut rng: R) -> Result<Self, Error> {
        let file = FileCipher::create(master, params, &mut rng)?;
        Ok(Self {
            tree: file.new_tree(),
            file,
            rng,
            next: 0,
            header_due: true,
            pending: Vec::new(),
            group: Vec::new(),
            failed: None,
        })
    }

    /// Takes plaintext and appends to `out` the sealed bytes that are ready.
    pub fn push(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        self.latched(|sealer| sealer.take(plaintext, out))
    }

    /// Ends the file: appends what is left of it, and answers its root.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<Root, Error> {
        self.latched(|sealer| {
            sealer.put_header(out);
            let layout = *sealer.file.layout();
            let size = layout.chunk_start(sealer.next)? + sealer.pending.len() as u64;
            let sealed_len = layout.sealed_len_to_end(sealer.pending.len())?;
            let pending = core::mem::take(&mut sealer.pending);
            let sealed = sealer.seal(1, sealed_len, |file, first, sealed, rng| {
                file.seal_to_end(first, &pending, sealed, rng)
            });
            sealer.pending = pending;
            sealed?;
            sealer.put_group(out);
            Ok(sealer.tree.root(size))
        })
    }

    fn latched<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
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

    fn seal_run(&mut self, mut full_chunks: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let layout = *self.file.layout();
        while !full_chunks.is_empty() {
            let left = (full_chunks.len() / layout.chunk_size()) as u64;
            let count = layout.together(self.next, left);
            let (run, rest) = full_chunks.split_at(count as usize * layout.chunk_size());
            full_chunks = rest;
            let sealed_len = layout.sealed_run_len(run.len())?;
            self.seal(count, sealed_len, |file, first, sealed, rng| {
                file.seal_run(first, run, sealed, rng)
            })?;
            if self.next.is_multiple_of(GROUP_CHUNKS) {
                self.put_group(out);
            }
        }
        Ok(())
    }

    /// Seals the next chunks, which are of one group.
    fn seal(
        &mut self,
        count: u64,
        sealed_len: usize,
        seal: impl FnOnce(&FileCipher, u64, &mut [u8], &mut R) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let sealed = extend(&mut self.group, sealed_len);
        seal(&self.file, self.next, sealed, &mut self.rng)?;
        let tags: Vec<Tag> = tags_of(self.file.layout(), sealed).collect();
        self.tree.put(self.next, &tags)?;
        self.next += count;
        Ok(())
    }

    /// Puts out the last group: its table, and the chunks.
    fn put_group(&mut self, out: &mut Vec<u8>) {
        let table = self.tree.table(self.tree.last_group());
        out.extend_from_slice(&table);
        extend(out, TABLE_LEN - table.len());
        out.append(&mut self.group);
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
/// authentic at its place in the file, but that the file is whole, and all of it the newest, is
/// known only when [`finish`](Self::finish) succeeds. After an error every further call fails with
/// the same one.
///
/// A file whose last change was cut short opens in the state that its journal restores.
#[derive(Debug)]
pub struct Opener<'k> {
    master: &'k MasterKey,
    /// None until the header has been read and verified.
    opening: Option<Opening>,
    /// Sealed bytes that do not fill a header, journal, table or chunk yet.
    pending: Vec<u8>,
    failed: Option<Error>,
}

impl<'k> Opener<'k> {
    /// A file sealed with this key.
    pub fn new(master: &'k MasterKey) -> Self {
        Self {
            master,
            opening: None,
            pending: Vec::new(),
            failed: None,
        }
    }

    /// The file's header, once enough bytes for it have been pushed.
    pub fn header(&self) -> Option<&Header> {
        self.opening.as_ref().map(|opening| opening.file.header())
    }

    /// Whether the file's last change was cut short, so that the file opens in the state that its
    /// journal restores. Known as soon as plaintext comes out.
    pub fn is_restored(&self) -> bool {
        self.opening.as_ref().is_some_and(|opening| {
            matches!(opening.journal, Journal::Chunk { .. } | Journal::Ended)
        })
    }

    /// Takes sealed bytes and appends to `out` the plaintext of the chunks they complete.
    pub fn push(&mut self, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        self.latched(|opener| opener.take(sealed, out))
    }

    /// Says that no more bytes come: appends the plaintext of the final chunk, or fails if the
    /// file does not end here.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.latched(|opener| match &mut opener.opening {
            None if opener.pending.is_empty() => Ok(()),
            None => Err(Header::parse(&opener.pending)
                .err()
                .unwrap_or(Error::Truncated)),
            Some(opening) => opening.finish(&opener.pending, out),
        })
    }

    fn latched(&mut self, step: impl FnOnce(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        step(self).inspect_err(|&error| self.failed = Some(error))
    }

    fn take(&mut self, mut sealed: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let opening = match &mut self.opening {
            Some(opening) => opening,
            None => {
                top_up(&mut self.pending, &mut sealed, HEADER_LEN);
                if self.pending.len() < HEADER_LEN {
                    // Says at once when this cannot become a header, rather than wait for the rest.
                    return match Header::parse(&self.pending) {
                        Err(Error::Truncated) | Ok(_) => Ok(()),
                        Err(Error::NotSealed) if self.pending.is_empty() => Ok(()),
                        Err(error) => Err(error),
                    };
                }
                let file = FileCipher::open(self.master, &self.pending)?;
                self.pending.clear();
                self.opening.insert(Opening::new(file))
            }
        };
        loop {
            let wanted = match opening.wants() {
                Wanted::Nothing => return Ok(()),
                // Whole chunks are opened where they are; one that comes in pieces is collected.
                Wanted::Chunks(most)
                    if self.pending.is_empty()
                        && sealed.len() >= opening.file.layout().sealed_chunk_len() =>
                {
                    let sealed_chunk = opening.file.layout().sealed_chunk_len();
                    let count = ((sealed.len() / sealed_chunk) as u64).min(most);
                    let (run, rest) = sealed.split_at(count as usize * sealed_chunk);
                    sealed = rest;
                    opening.take_chunks(run, out)?;
                    continue;
                }
                Wanted::Chunks(_) => opening.file.layout().sealed_chunk_len(),
                Wanted::Journal => opening.file.layout().journal_len(),
                Wanted::Table => TABLE_LEN,
            };
            top_up(&mut self.pending, &mut sealed, wanted);
            if self.pending.len() < wanted {
                return Ok(());
            }
            match opening.wants() {
                Wanted::Journal => {
                    (opening.root, opening.journal) = read_journal(&opening.file, &self.pending);
                }
                Wanted::Table => {
                    opening.table = Some(self.pending.clone());
                    opening.take_kept_end(out)?;
                }
                Wanted::Chunks(_) | Wanted::Nothing => opening.take_chunks(&self.pending, out)?,
            }
            self.pending.clear();
        }
    }
}

/// A file whose header has been read.
#[derive(Debug)]
struct Opening {
    file: FileCipher,
    journal: Journal,
    /// What the file has to come to.
    root: Root,
    next: u64,
    /// Of the group that the next chunk is of, once it has been read.
    table: Option<Vec<u8>>,
    tree: Tree,
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

/// What comes next in a file.
enum Wanted {
    Journal,
    Table,
    /// So many full chunks at the most.
    Chunks(u64),
    Nothing,
}

impl Opening {
    fn new(file: FileCipher) -> Self {
        Self {
            tree: file.new_tree(),
            file,
            journal: Journal::Unread,
            root: Root::default(),
            next: 0,
            table: None,
        }
    }

    fn wants(&self) -> Wanted {
        match &self.journal {
            Journal::Unread => Wanted::Journal,
            Journal::Ended => Wanted::Nothing,
            Journal::Clear | Journal::Chunk { .. } if self.table.is_none() => Wanted::Table,
            Journal::Clear => Wanted::Chunks(self.in_group(u64::MAX)),
            Journal::Chunk { index, .. } => match index.checked_sub(self.next) {
                Some(0) => Wanted::Chunks(1),
                Some(before) => Wanted::Chunks(self.in_group(before)),
                None => Wanted::Chunks(self.in_group(u64::MAX)),
            },
        }
    }

    fn in_group(&self, count: u64) -> u64 {
        self.file.layout().together(self.next, count)
    }

    /// The next chunk, if the journal has it, and whether it is the final one.
    fn kept(&self) -> Option<(&[u8], bool)> {
        match &self.journal {
            Journal::Chunk {
                index,
                is_final,
                sealed,
            } if *index == self.next => Some((sealed, *is_final)),
            _ => None,
        }
    }

    /// Ends the file where the journal has its final chunk, and that is what follows.
    fn take_kept_end(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        if self.table.is_some()
            && let Some((sealed, true)) = self.kept()
        {
            let sealed = sealed.to_vec();
            self.open_end(&sealed, out)?;
            self.journal = Journal::Ended;
        }
        Ok(())
    }

    /// Takes full chunks as they lie in the file, as many as were wanted or fewer.
    fn take_chunks(&mut self, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let kept = self.kept().map(|(kept, _)| kept.to_vec());
        let run = kept.as_deref().unwrap_or(sealed);
        let layout = *self.file.layout();
        let len = layout.opened_run_len(run.len())?;
        append_opened(out, len, |plaintext| {
            self.file.open_run(self.next, run, plaintext)?;
            self.take_tags(run)
        })?;
        if self.next.is_multiple_of(GROUP_CHUNKS) {
            self.close_group()?;
        }
        self.take_kept_end(out)
    }

    /// Checks that the chunks that were just opened are the newest at their places.
    fn take_tags(&mut self, sealed: &[u8]) -> Result<(), Error> {
        let tags: Vec<Tag> = tags_of(self.file.layout(), sealed).collect();
        if self.kept().is_none() {
            let slot = (self.next % GROUP_CHUNKS) as usize;
            let table = self.table.as_deref().unwrap_or_default();
            let known = table.get(DIGEST_LEN + slot * TAG_LEN..).unwrap_or_default();
            for (index, (tag, known)) in (self.next..).zip(tags.iter().zip(known.chunks(TAG_LEN))) {
                if tag != known {
                    return Err(Error::Stale { index });
                }
            }
        }
        self.tree.put(self.next, &tags)?;
        self.next += tags.len() as u64;
        Ok(())
    }

    /// Checks the digest of a group that is complete, and makes ready for the next.
    fn close_group(&mut self) -> Result<(), Error> {
        let group = self.next / GROUP_CHUNKS - 1;
        let table = self.table.take().unwrap_or_default();
        // That of the group that was being changed may be cut short itself.
        let changing = matches!(&self.journal, Journal::Chunk { index, .. }
            if index / GROUP_CHUNKS == group);
        if !changing && self.tree.table(group)[..DIGEST_LEN] != table[..DIGEST_LEN] {
            return Err(Error::TableCorrupt { group });
        }
        Ok(())
    }

    fn open_end(&mut self, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let len = self.file.layout().opened_len_to_end(sealed.len())?;
        let size = self.file.layout().chunk_start(self.next)? + len as u64;
        append_opened(out, len, |plaintext| {
            self.file.open_to_end(self.next, sealed, plaintext)?;
            self.take_tags(sealed)?;
            if self.tree.root(size) != self.root {
                return Err(Error::RootCorrupt);
            }
            Ok(())
        })
    }

    fn finish(&mut self, rest: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        match self.journal {
            Journal::Unread => {
                // A file that was just being begun can end inside its journal.
                match rest.first_chunk() {
                    Some(entry) if self.file.parse_entry(entry).restore == Some(Restore::Empty) => {
                        Ok(())
                    }
                    _ => Err(Error::Truncated),
                }
            }
            Journal::Ended => Ok(()),
            Journal::Clear | Journal::Chunk { .. } if self.table.is_none() => Err(Error::Truncated),
            Journal::Clear | Journal::Chunk { .. } => self.open_end(rest, out),
        }
    }
}

/// What a journal says, and the root that the file has to come to.
fn read_journal(file: &FileCipher, journal: &[u8]) -> (Root, Journal) {
    let Some((entry, body)) = journal.split_first_chunk() else {
        return (Root::default(), Journal::Clear);
    };
    let entry = file.parse_entry(entry);
    let clear = (entry.root, Journal::Clear);
    let Some(restore) = entry.restore else {
        return clear;
    };
    let sealed = &body[..restore.sealed_len(file.layout())];
    match restore {
        Restore::Empty => (entry.root, Journal::Ended),
        Restore::Chunk {
            index,
            final_len,
            root,
            ..
        } if file.is_restorable(&restore, sealed) => (
            root,
            Journal::Chunk {
                index,
                is_final: final_len.is_some(),
                sealed: sealed.to_vec(),
            },
        ),
        Restore::Chunk { .. } => clear,
    }
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
    open(extend(out, len)).inspect_err(|_| {
        out[start..].zeroize();
        out.truncate(start);
    })
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{TestRng, seal_whole};
    use crate::{ChunkSize, Cipher, ROOT_OFFSET};

    const PARAMS: Params = Params {
        cipher: Cipher::XChaCha20Poly1305,
        chunk_size: ChunkSize::MIN,
    };

    /// Header, journal entry, room for a chunk, table.
    const DATA_START: usize = 96 + 96 + 552 + 16 + 256 * 16;

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
        assert_eq!(sealer.finish(&mut out).unwrap_err(), Error::Randomness);
    }

    #[test]
    fn groups_of_chunks() {
        let group = 256 * 512;
        for len in [group - 1, group, group + 1, 2 * group, 3 * group + 700] {
            let plaintext: Vec<u8> = (0..len).map(|i| (i ^ (i >> 9)) as u8).collect();
            let sealed = seal_whole(&key(), PARAMS, &plaintext, TestRng::new(1));
            assert_eq!(
                Ok(sealed.len() as u64),
                PARAMS.layout().physical_size(len as u64)
            );
            for piece in [sealed.len(), 4112, 10_000] {
                assert!(open_in_pieces(&sealed, piece) == Ok(plaintext.clone()));
            }
            let layout = PARAMS.layout();
            for (at, error) in [
                (
                    layout.table_offset(0).unwrap() + 16,
                    Error::Stale { index: 0 },
                ),
                (
                    layout.chunk_offset(0).unwrap(),
                    Error::ChunkCorrupt { index: 0 },
                ),
                (
                    layout.table_offset(0).unwrap(),
                    Error::TableCorrupt { group: 0 },
                ),
                (
                    layout.table_offset(1).unwrap() + 16,
                    Error::Stale { index: 256 },
                ),
                (ROOT_OFFSET, Error::RootCorrupt),
            ] {
                let mut altered = sealed.clone();
                // The last group's digest counts for nothing.
                let Some(byte) = altered.get_mut(at as usize) else {
                    continue;
                };
                *byte ^= 1;
                let closed = len >= group || at != layout.table_offset(0).unwrap();
                let expected = if closed {
                    Err(error)
                } else {
                    Ok(plaintext.clone())
                };
                assert!(open_in_pieces(&altered, 5000) == expected, "{len} {at}");
            }
        }
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
            let root = sealer.finish(&mut sealed).unwrap();
            prop_assert_eq!(open_in_pieces(&sealed, piece_out), Err(Error::RootCorrupt));
            sealed[ROOT_OFFSET as usize..][..Root::LEN].copy_from_slice(root.as_bytes());
            prop_assert_eq!(
                sealed.len() as u64,
                params.layout().physical_size(plaintext.len() as u64).unwrap()
            );
            prop_assert_eq!(open_in_pieces(&sealed, piece_out), Ok(plaintext));
        }
    }
}
