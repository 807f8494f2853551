//! Saving what is authentic of a damaged file.
//!
//! Each chunk authenticates by itself and at its place, so that what one of them lost is no loss to
//! the others. What this can deal with:
//!
//! - chunks that were altered, or that the disk does not give out any more: they are filled up, so
//!   that everything else is at its offset;
//! - a file that was cut short, or whose final chunk is damaged: the end is lost, and with it the
//!   knowledge of how long the file was;
//! - bytes that were put in or taken out, from where everything lies beside its place: the next
//!   chunk that authenticates is looked for;
//! - a damaged header, if one bit of it flipped or its salt is whole;
//! - damaged tables and a damaged root: chunks open without them. But nothing else tells an older
//!   version of a chunk from the newest, so that what is not proven to be the newest is told.
//!
//! Without the salt nothing can be saved, for the file's key comes from it.

mod newest;

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use sealed::{
    ChunkSize, Cipher, ENTRY_LEN, Error, FileCipher, FileKey, GROUP_CHUNKS, HEADER_LEN, Header,
    KeyId, Layout, MasterKey, Params, Restore, Root, SALT_LEN, TABLE_LEN, Tag, tags_of,
};
use zeroize::Zeroizing;

use crate::ring::{KeyRing, UnknownKey};
use newest::Newest;
pub(crate) use newest::push;

/// Bytes read at a time: many chunks of any size.
const RUN_LEN: usize = 1 << 20;

/// Where the salt lies in a header: `docs/format.md`, section 2.
const SALT_AT: usize = 32;

/// How many chunks are tried to find out whether a key is the right one.
const PROBED: u64 = 64;

/// What stopped a recovery.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// The file could not be read at all.
    #[error("cannot read: {0}")]
    Read(#[source] io::Error),
    /// What is saved could not be written.
    #[error("{0}")]
    Write(#[source] io::Error),
    /// It is sealed with a key that is not at hand.
    #[error(transparent)]
    Key(#[from] UnknownKey),
    /// There is nothing that the key of the file could be made from.
    #[error(
        "{0}. What the file's key comes from is in its first {HEADER_LEN} bytes, and with what is \
         there none of the keys given opens anything: nothing can be recovered"
    )]
    Header(Error),
}

/// What could be saved, and what could not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Bytes that were written.
    pub size: u64,
    /// Which of them are filling: plaintext offsets, in order.
    pub lost: Vec<Range<u64>>,
    /// Whether the end of the file is missing, so that it may have been longer.
    pub end_is_lost: bool,
    /// How often everything further on lay beside its place.
    pub shifts: usize,
    /// Whether the header was damaged.
    pub header_damaged: bool,
    /// Whether the file was read as its journal restores it, for its last change was cut short.
    pub restored: bool,
    /// Which of the bytes were written over later: an older version of theirs was put back.
    pub stale: Vec<Range<u64>>,
    /// Among which bytes there may be more of those: the table that would tell is damaged.
    pub unproven: Vec<Range<u64>>,
    /// Whether any of the bytes may be older ones, and the end too: the root of the file, or too
    /// much of what it is made of, is damaged.
    pub root_is_lost: bool,
}

impl Report {
    /// Whether all that was in the file has been saved, and is the newest.
    pub fn is_complete(&self) -> bool {
        self.lost.is_empty()
            && !self.end_is_lost
            && self.stale.is_empty()
            && self.unproven.is_empty()
            && !self.root_is_lost
    }
}

/// How to go about it.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What stands for lost bytes.
    pub fill: u8,
    /// How far from its place a chunk is looked for.
    pub search: u64,
}

/// Saves what is authentic of `file` into `output`. `progress` is told of bytes of the file that
/// have been dealt with.
///
/// # Errors
/// Where there is nothing to begin with, or the output fails.
pub fn recover(
    ring: &KeyRing,
    file: &File,
    output: impl Write,
    options: Options,
    mut progress: impl FnMut(u64),
) -> Result<Report, RecoverError> {
    let size = file.metadata().map_err(RecoverError::Read)?.len();
    if size == 0 {
        return Ok(Report::default());
    }
    let (cipher, header_damaged) = cipher(ring, file, size)?;
    let damaged = Damaged { file, size, cipher };
    let report = damaged.save(output, options, &mut progress)?;
    Ok(Report {
        header_damaged,
        ..report
    })
}

/// The cipher of a file, and whether its header is damaged.
fn cipher(ring: &KeyRing, file: &File, size: u64) -> Result<(FileCipher, bool), RecoverError> {
    let mut head = [0; HEADER_LEN];
    let len = usize::try_from(size).map_or(HEADER_LEN, |size| size.min(HEADER_LEN));
    file.read_exact_at(&mut head[..len], 0)
        .map_err(RecoverError::Read)?;
    let fault = match verified(ring, &head[..len]) {
        Ok(key) => return Ok((FileCipher::new(&key), false)),
        Err(fault) => fault,
    };
    if len == HEADER_LEN {
        if let Some(key) = mended(ring, &head) {
            return Ok((FileCipher::new(&key), true));
        }
        for key in guesses(ring, &head) {
            let cipher = FileCipher::new(&key);
            let damaged = Damaged { file, size, cipher };
            if damaged.opens_anywhere() {
                return Ok((damaged.cipher, true));
            }
        }
    }
    Err(match fault {
        Fault::Header(error) => RecoverError::Header(error),
        Fault::Key(unknown) => RecoverError::Key(unknown),
    })
}

/// What is wrong with a header.
enum Fault {
    Header(Error),
    Key(UnknownKey),
}

fn verified(ring: &KeyRing, head: &[u8]) -> Result<FileKey, Fault> {
    let header = Header::parse(head).map_err(Fault::Header)?;
    let id: KeyId = header.key_id();
    let key = ring.for_file(id).map_err(Fault::Key)?;
    header.verify(key).map_err(Fault::Header)
}

/// The key of a file in whose header one bit has flipped.
fn mended(ring: &KeyRing, head: &[u8; HEADER_LEN]) -> Option<FileKey> {
    (0..HEADER_LEN * 8).find_map(|bit| {
        let mut head = *head;
        head[bit / 8] ^= 1 << (bit % 8);
        verified(ring, &head).ok()
    })
}

/// The keys that a file can have whose salt is whole.
fn guesses(ring: &KeyRing, head: &[u8; HEADER_LEN]) -> impl Iterator<Item = FileKey> {
    let mut salt = [0; SALT_LEN];
    salt.copy_from_slice(&head[SALT_AT..SALT_AT + SALT_LEN]);
    let sizes = (ChunkSize::MIN.log2()..=ChunkSize::MAX.log2()).filter_map(ChunkSize::from_log2);
    let params =
        sizes.flat_map(|chunk_size| Cipher::ALL.map(|cipher| Params { cipher, chunk_size }));
    params.flat_map(move |params| {
        let keys = ring.keys().iter();
        keys.map(move |master: &MasterKey| FileKey::new(master, params, salt))
    })
}

/// A chunk, or several that lie together, as they were saved.
struct Opened {
    plaintext: Zeroizing<Vec<u8>>,
    tags: Vec<Tag>,
}

/// What comes out.
struct Saved<'a, W> {
    output: W,
    fill: u8,
    chunk_size: u64,
    report: Report,
    newest: Newest<'a>,
}

impl<W: Write> Saved<'_, W> {
    /// The next chunks, which were so far from their places.
    fn good(&mut self, opened: &Opened, shift: i64) -> Result<(), RecoverError> {
        self.newest.saved(&opened.tags, shift);
        self.report.size += opened.plaintext.len() as u64;
        self.output
            .write_all(&opened.plaintext)
            .map_err(RecoverError::Write)
    }

    /// The next chunks are full ones, and lost.
    fn lost(&mut self, count: u64, shift: i64) -> Result<(), RecoverError> {
        self.newest.lost(count, shift);
        self.fill(count * self.chunk_size)
    }

    /// The final chunk is lost, which may have held so many bytes.
    fn lost_end(&mut self, len: u64, shift: i64) -> Result<(), RecoverError> {
        self.report.end_is_lost = true;
        self.newest.lost(1, shift);
        self.fill(len)
    }

    fn fill(&mut self, len: u64) -> Result<(), RecoverError> {
        if len == 0 {
            return Ok(());
        }
        let start = self.report.size;
        self.report.size += len;
        push(&mut self.report.lost, start..self.report.size);
        io::copy(&mut io::repeat(self.fill).take(len), &mut self.output)
            .map(drop)
            .map_err(RecoverError::Write)
    }

    /// What is to be told, when all chunks have come.
    fn report(self) -> Report {
        let mut report = self.report;
        let judgement = self.newest.judge(report.size);
        let bytes = |chunks: Range<u64>| {
            let end = (chunks.end * self.chunk_size).min(report.size);
            chunks.start * self.chunk_size..end
        };
        report.stale = judgement.stale.into_iter().map(bytes).collect();
        report.unproven = judgement.unproven.into_iter().map(bytes).collect();
        report.root_is_lost = !judgement.root_fits;
        // The root tells the size, so that of a final chunk that is lost nothing else is.
        report.end_is_lost &= !judgement.root_fits;
        report
    }
}

/// A file with its key.
struct Damaged<'a> {
    file: &'a File,
    size: u64,
    cipher: FileCipher,
}

/// What the journal says.
enum Journal {
    /// The file is as it is, and has this root.
    Clear(Option<Root>),
    /// It has to be emptied.
    Empty,
    /// It has a chunk.
    Chunk(Kept),
}

/// A chunk that the journal has.
struct Kept {
    index: u64,
    is_final: bool,
    opened: Opened,
    /// Of the file with it.
    root: Root,
}

impl Damaged<'_> {
    fn layout(&self) -> &Layout {
        self.cipher.layout()
    }

    fn save(
        &self,
        output: impl Write,
        options: Options,
        progress: &mut impl FnMut(u64),
    ) -> Result<Report, RecoverError> {
        let (root, kept) = match self.journal() {
            Journal::Clear(root) => (root, None),
            Journal::Chunk(kept) => (Some(kept.root), Some(kept)),
            Journal::Empty => {
                return Ok(Report {
                    restored: true,
                    ..Report::default()
                });
            }
        };
        let kept_tag = kept
            .as_ref()
            .and_then(|kept| Some((kept.index, *kept.opened.tags.first()?)));
        let mut saved = Saved {
            output,
            fill: options.fill,
            chunk_size: self.layout().chunk_size() as u64,
            report: Report {
                restored: kept.is_some(),
                ..Report::default()
            },
            newest: Newest::new(self.file, &self.cipher, root, kept_tag),
        };
        progress(self.layout().data_start().min(self.size));
        self.save_chunks(&mut saved, kept.as_ref(), options.search, progress)?;
        Ok(saved.report())
    }

    fn save_chunks<W: Write>(
        &self,
        saved: &mut Saved<'_, W>,
        kept: Option<&Kept>,
        search: u64,
        progress: &mut impl FnMut(u64),
    ) -> Result<(), RecoverError> {
        let mut shift = 0;
        let mut index = 0;
        // How many chunks before this one are lost and not accounted for yet.
        let mut lost = 0;
        loop {
            if let Some(kept) = kept.filter(|kept| kept.index == index) {
                saved.lost(std::mem::take(&mut lost), shift)?;
                saved.good(&kept.opened, shift)?;
                if kept.is_final {
                    return Ok(());
                }
                progress(self.layout().sealed_chunk_len() as u64);
                index += 1;
                continue;
            }
            let left = self.full_chunks_from(index, shift);
            if left > 0 {
                let most = (RUN_LEN as u64 / saved.chunk_size).min(left);
                let until = kept.map_or(u64::MAX, |kept| kept.index);
                let count = match until.checked_sub(index) {
                    Some(before) => most.min(before),
                    None => most,
                };
                if index.is_multiple_of(GROUP_CHUNKS) {
                    progress(TABLE_LEN as u64);
                }
                for opened in self.run(index, count, shift) {
                    match opened {
                        Some(opened) => {
                            saved.lost(std::mem::take(&mut lost), shift)?;
                            saved.good(&opened, shift)?;
                            index += opened.tags.len() as u64;
                        }
                        None => {
                            lost += 1;
                            index += 1;
                        }
                    }
                }
                progress(count * self.layout().sealed_chunk_len() as u64);
                continue;
            }
            if let Some(opened) = self.end(index, shift) {
                saved.lost(lost, shift)?;
                return saved.good(&opened, shift);
            }
            // From the first chunk that is lost on, nothing is where it should be.
            let first = index - lost;
            if let Some((found, new_shift)) = self.find(first, index, shift, search) {
                saved.report.shifts += 1;
                saved.lost(found - first, shift)?;
                (index, shift, lost) = (found, new_shift, 0);
                continue;
            }
            if let Some((found, new_shift, opened)) = self.find_end(first) {
                saved.report.shifts += 1;
                saved.lost(found - first, shift)?;
                return saved.good(&opened, new_shift);
            }
            // As much as the size of the file speaks of.
            let rest = self
                .rest(index, shift)
                .map_or(0, |rest| rest.end - rest.start);
            let in_final = rest.saturating_sub(self.layout().overhead() as u64);
            saved.lost(lost, shift)?;
            return saved.lost_end(in_final, shift);
        }
    }

    fn journal(&self) -> Journal {
        let mut entry = [0; ENTRY_LEN];
        let read = self.file.read_exact_at(&mut entry, HEADER_LEN as u64);
        if read.is_err() {
            return Journal::Clear(None);
        }
        let entry = self.cipher.parse_entry(&entry);
        match entry.restore {
            None => Journal::Clear(Some(entry.root)),
            Some(Restore::Empty) => Journal::Empty,
            Some(restore) => self
                .kept(&restore)
                .map_or(Journal::Clear(Some(entry.root)), Journal::Chunk),
        }
    }

    /// The chunk of a live entry; `None` for one that is void.
    fn kept(&self, restore: &Restore) -> Option<Kept> {
        let Restore::Chunk {
            index,
            final_len,
            root,
            ..
        } = *restore
        else {
            return None;
        };
        let mut sealed = vec![0; restore.sealed_len(self.layout())];
        let at = (HEADER_LEN + ENTRY_LEN) as u64;
        self.file.read_exact_at(&mut sealed, at).ok()?;
        if !self.cipher.is_restorable(restore, &sealed) {
            return None;
        }
        let len = final_len.unwrap_or_else(|| self.layout().chunk_size());
        let mut plaintext = Zeroizing::new(vec![0; len]);
        match final_len {
            None => self.cipher.open_run(index, &sealed, &mut plaintext),
            Some(_) => self.cipher.open_to_end(index, &sealed, &mut plaintext),
        }
        .ok()?;
        Some(Kept {
            index,
            is_final: final_len.is_some(),
            opened: self.opened(plaintext, &sealed),
            root,
        })
    }

    fn opened(&self, plaintext: Zeroizing<Vec<u8>>, sealed: &[u8]) -> Opened {
        Opened {
            plaintext,
            tags: tags_of(self.layout(), sealed).collect(),
        }
    }

    /// Physical offset of a chunk that lies so far from its place.
    fn offset(&self, index: u64, shift: i64) -> Option<u64> {
        let place = self.layout().chunk_offset(index).ok()?;
        place.checked_add_signed(shift)
    }

    /// What there is from a chunk on.
    fn rest(&self, index: u64, shift: i64) -> Option<Range<u64>> {
        let start = self.offset(index, shift)?;
        (start <= self.size).then_some(start..self.size)
    }

    /// How many full chunks there may be from one on, of those that lie together with it.
    fn full_chunks_from(&self, index: u64, shift: i64) -> u64 {
        let rest = self.rest(index, shift);
        rest.map_or(0, |rest| {
            let count = (rest.end - rest.start) / self.layout().sealed_chunk_len() as u64;
            self.layout().together(index, count)
        })
    }

    /// Full chunks of a group: all at once if they open, else one by one, `None` for those that
    /// don't.
    fn run(&self, index: u64, count: u64, shift: i64) -> Vec<Option<Opened>> {
        if let Some(opened) = self.full(index, count, shift) {
            return vec![Some(opened)];
        }
        (index..index + count)
            .map(|index| self.full(index, 1, shift))
            .collect()
    }

    fn full(&self, index: u64, count: u64, shift: i64) -> Option<Opened> {
        // At most a run.
        let len = count as usize * self.layout().chunk_size();
        let mut sealed = vec![0; self.layout().sealed_run_len(len).ok()?];
        let at = self.offset(index, shift)?;
        self.file.read_exact_at(&mut sealed, at).ok()?;
        let mut plaintext = Zeroizing::new(vec![0; len]);
        self.cipher.open_run(index, &sealed, &mut plaintext).ok()?;
        Some(self.opened(plaintext, &sealed))
    }

    /// The final chunk, if the rest of the file is one.
    fn end(&self, index: u64, shift: i64) -> Option<Opened> {
        let rest = self.rest(index, shift)?;
        self.open_end(index, rest.start)
    }

    fn open_end(&self, index: u64, start: u64) -> Option<Opened> {
        let len = usize::try_from(self.size - start).ok()?;
        if len >= self.layout().sealed_chunk_len() {
            return None;
        }
        let mut plaintext = Zeroizing::new(vec![0; self.layout().opened_len_to_end(len).ok()?]);
        let mut sealed = vec![0; len];
        self.file.read_exact_at(&mut sealed, start).ok()?;
        self.cipher
            .open_to_end(index, &sealed, &mut plaintext)
            .ok()?;
        Some(self.opened(plaintext, &sealed))
    }

    /// Looks for a chunk from `first` to `last` beside its place. Answers the first one that opens
    /// from there on, and how far from its place it is.
    fn find(&self, first: u64, last: u64, shift: i64, search: u64) -> Option<(u64, i64)> {
        // The chunk that something was put into is lost, the one behind it is not, or else
        // one farther on.
        let tried = std::iter::successors(Some(1_u64), |step| step.checked_mul(2))
            .map_while(|step| first.checked_add(step))
            .take_while(|&index| index <= last);
        for index in std::iter::once(first).chain(tried) {
            let Some(found) = self.find_chunk(index, shift, search) else {
                continue;
            };
            let mut start = index;
            while start > first && self.full(start - 1, 1, found).is_some() {
                start -= 1;
            }
            return Some((start, found));
        }
        None
    }

    /// How far from its place a chunk is.
    fn find_chunk(&self, index: u64, shift: i64, search: u64) -> Option<i64> {
        let place = self.layout().chunk_offset(index).ok()?;
        let expected = place.checked_add_signed(shift)?;
        let sealed_len = self.layout().sealed_chunk_len();
        let start = expected.saturating_sub(search).max(HEADER_LEN as u64);
        let end = expected
            .saturating_add(search)
            .saturating_add(sealed_len as u64)
            .min(self.size);
        let len = usize::try_from(end.checked_sub(start)?).ok()?;
        let mut window = Vec::new();
        window.try_reserve_exact(len).ok()?;
        window.resize(len, 0);
        self.file.read_exact_at(&mut window, start).ok()?;
        let mut plaintext = Zeroizing::new(vec![0; self.layout().chunk_size()]);
        let at = window
            .windows(sealed_len)
            .position(|sealed| self.cipher.open_run(index, sealed, &mut plaintext).is_ok())?;
        (start + at as u64).checked_signed_diff(place)
    }

    /// Looks for the final chunk before the end of the file: with that index, or the next one.
    /// Answers which it is and how far from its place.
    fn find_end(&self, first: u64) -> Option<(u64, i64, Opened)> {
        let longest = self.layout().sealed_chunk_len() as u64 - 1;
        let starts = self.size.saturating_sub(longest).max(HEADER_LEN as u64)..self.size;
        [first, first + 1].into_iter().find_map(|index| {
            let place = self.layout().chunk_offset(index).ok()?;
            starts.clone().find_map(|start| {
                let opened = self.open_end(index, start)?;
                Some((index, start.checked_signed_diff(place)?, opened))
            })
        })
    }

    /// Whether some chunk opens.
    fn opens_anywhere(&self) -> bool {
        let Ok(plaintext) = self.layout().plaintext_size(self.size) else {
            let full = self.full_chunks_from(0, 0);
            return (0..full.min(PROBED)).any(|index| self.full(index, 1, 0).is_some());
        };
        let last = self.layout().final_chunk(plaintext);
        self.end(last.index, 0).is_some()
            || (0..last.index.min(PROBED)).any(|index| self.full(index, 1, 0).is_some())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::transfer;

    const PARAMS: Params = Params {
        cipher: Cipher::XChaCha20Poly1305,
        chunk_size: ChunkSize::MIN,
    };
    const CHUNK: usize = 512;
    const SEARCH: u64 = 2000;
    /// Bytes of plaintext in a full group.
    const GROUP: usize = 256 * CHUNK;

    fn ring() -> KeyRing {
        let mut ring = KeyRing::new("other", MasterKey::from_bytes([2; 32]));
        ring.add("k", MasterKey::from_bytes([1; 32]));
        ring
    }

    fn plaintext(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i % 251) as u8 + 1).collect()
    }

    fn sealed(len: usize) -> Vec<u8> {
        let mut out = io::Cursor::new(Vec::new());
        let key = &ring().keys()[1].clone();
        transfer::seal(key, PARAMS, plaintext(len).as_slice(), &mut out, |_| ()).unwrap();
        out.into_inner()
    }

    /// Where a chunk begins.
    fn at(index: u64) -> usize {
        PARAMS.layout().chunk_offset(index).unwrap() as usize
    }

    fn recover_with(bytes: &[u8], search: u64) -> Result<(Vec<u8>, Report), RecoverError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let mut out = Vec::new();
        let options = Options { fill: 0, search };
        let report = recover(&ring(), &file, &mut out, options, |_| ())?;
        assert_eq!(out.len() as u64, report.size);
        Ok((out, report))
    }

    fn recovered(bytes: &[u8]) -> (Vec<u8>, Report) {
        recover_with(bytes, SEARCH).unwrap()
    }

    /// Everything that is not said to be lost is right; what is lost is filling.
    fn assert_honest(original: &[u8], out: &[u8], report: &Report) {
        for (i, &byte) in out.iter().enumerate() {
            let lost = report.lost.iter().any(|lost| lost.contains(&(i as u64)));
            // The plaintext has no zeros.
            assert_eq!(byte == 0, lost, "at {i}");
            assert!(lost || original[i] == byte, "at {i}");
        }
    }

    #[test]
    fn a_whole_file_is_saved_whole() {
        for len in [
            0,
            1,
            511,
            512,
            513,
            5000,
            GROUP - 1,
            GROUP,
            GROUP + 1,
            3 * GROUP + 9,
        ] {
            let (out, report) = recovered(&sealed(len));
            assert!(out == plaintext(len) && report.is_complete());
            assert!(!report.header_damaged && !report.restored && report.shifts == 0);
        }
        assert_eq!(recovered(b"").1, Report::default());
    }

    #[test]
    fn a_damaged_chunk_is_filled_up() {
        let mut bytes = sealed(5000);
        for index in [0, 3, 4, 7] {
            bytes[at(index) + 100] ^= 1;
        }
        let (out, report) = recovered(&bytes);
        assert_eq!(report.lost, [0..512, 1536..2560, 3584..4096]);
        assert_eq!(out.len(), 5000);
        assert!(!report.end_is_lost && report.shifts == 0);
        assert_honest(&plaintext(5000), &out, &report);
    }

    #[test]
    fn a_lost_end_is_told() {
        let whole = sealed(5000);
        let last = at(9);
        let mut damaged = whole.clone();
        damaged[last + 30] ^= 1;
        let (out, report) = recovered(&damaged);
        assert_eq!((out.len(), report.lost.len()), (5000, 1));
        assert_eq!(report.lost[0], 4608..5000);
        // The root knows the size.
        assert!(!report.end_is_lost && !report.root_is_lost);
        for len in [last, last + 1, last + 39, last + 40, last + 300] {
            let (out, report) = recovered(&whole[..len]);
            assert!(report.end_is_lost && report.root_is_lost, "{len}");
            assert!(!report.is_complete());
            assert_honest(&plaintext(5000), &out, &report);
            assert_eq!(&out[..4608], &plaintext(4608));
        }
        let (out, report) = recovered(&whole[..at(0)]);
        assert!(out.is_empty() && report.end_is_lost);
    }

    #[test]
    fn bytes_put_in_or_taken_out_cost_one_chunk() {
        let whole = sealed(20_000);
        for by in [1, 7, 552, 553, 1999] {
            for place in [at(3) + 5, at(3), at(0), at(38) + 200] {
                let mut longer = whole.clone();
                longer.splice(place..place, std::iter::repeat_n(9, by));
                let mut shorter = whole.clone();
                shorter.drain(place..(place + by).min(whole.len()));
                for bytes in [longer, shorter] {
                    let (out, report) = recovered(&bytes);
                    assert_honest(&plaintext(20_000), &out, &report);
                    let lost: u64 = report.lost.iter().map(|lost| lost.end - lost.start).sum();
                    let chunks = by.div_ceil(CHUNK) + 2;
                    assert!(
                        lost <= (chunks * CHUNK) as u64,
                        "{by} at {place}: {report:?}"
                    );
                    assert!(report.shifts <= 1);
                }
            }
        }
    }

    #[test]
    fn bytes_put_in_between_groups_cost_no_more() {
        let original = plaintext(3 * GROUP + 100);
        let whole = sealed(original.len());
        let table = |group| PARAMS.layout().table_offset(group).unwrap() as usize;
        for by in [1, 700] {
            for place in [
                at(250) + 9,
                at(255) + 9,
                table(1),
                table(1) + 50,
                at(256),
                at(256) + 9,
            ] {
                let mut longer = whole.clone();
                longer.splice(place..place, std::iter::repeat_n(9, by));
                let mut shorter = whole.clone();
                shorter.drain(place..place + by);
                for (bytes, most) in [(longer, 1), (shorter, 3)] {
                    let (out, report) = recovered(&bytes);
                    assert_honest(&original, &out, &report);
                    let lost: u64 = report.lost.iter().map(|lost| lost.end - lost.start).sum();
                    assert!(lost <= most * CHUNK as u64, "{by} at {place}: {report:?}");
                    assert!(report.shifts == 1 && !report.end_is_lost);
                    assert!(report.stale.is_empty());
                }
                // Where no table was cut up, all that was saved is proven to be the newest.
                let mut longer = whole.clone();
                longer.splice(place..place, std::iter::repeat_n(9, by));
                let cuts_table = (table(1) + 1..at(256)).contains(&place);
                let (_, report) = recovered(&longer);
                assert!(!report.root_is_lost || cuts_table, "{by} at {place}");
            }
        }
    }

    #[test]
    fn damaged_tables_are_no_loss_as_long_as_the_chunks_are_there() {
        let original = plaintext(2 * GROUP + 1000);
        let whole = sealed(original.len());
        let table = |group| PARAMS.layout().table_offset(group).unwrap() as usize;
        let with = |damage: &[Range<usize>]| {
            let mut bytes = whole.clone();
            for place in damage {
                bytes[place.clone()].fill(0xEE);
            }
            let (out, report) = recovered(&bytes);
            assert_honest(&original, &out, &report);
            assert!(out.len() == original.len() && report.stale.is_empty());
            report
        };
        let all_of = |group| table(group)..table(group) + TABLE_LEN;
        let digest = |group| table(group)..table(group) + 16;
        let slot =
            |group, slot: usize| table(group) + 16 * (slot + 1)..table(group) + 16 * (slot + 2);
        let chunk = |index| at(index) + 100..at(index) + 110;
        for damage in [
            &[digest(0)][..],
            &[slot(0, 7)],
            &[slot(1, 0), slot(1, 255)],
            &[slot(2, 1)],
            &[digest(0), slot(1, 3), slot(2, 0)],
            &[all_of(0)],
            &[all_of(2)],
            &[all_of(0), all_of(1), all_of(2)],
        ] {
            assert!(with(damage).is_complete(), "{damage:?}");
        }
        let root = |len: usize| HEADER_LEN..HEADER_LEN + len;
        // The tag of a chunk that is lost is in the table alone.
        let lost = |index: u64| index * CHUNK as u64..(index + 1) * CHUNK as u64;
        let report = with(&[chunk(3), chunk(300)]);
        assert_eq!(report.lost, [lost(3), lost(300)]);
        assert!(report.unproven.is_empty() && !report.root_is_lost);
        let report = with(&[chunk(3), slot(0, 3)]);
        let group_0 = 0..GROUP as u64;
        assert_eq!(report.unproven, [group_0]);
        assert!(!report.root_is_lost && report.lost == [lost(3)]);
        for damage in [
            &[chunk(3), all_of(0)][..],
            &[chunk(513), slot(2, 1)],
            &[root(16)],
            &[root(1)],
        ] {
            let report = with(damage);
            assert!(report.root_is_lost && !report.is_complete(), "{damage:?}");
        }
    }

    #[test]
    fn what_lies_too_far_from_its_place_is_lost() {
        let mut bytes = sealed(20_000);
        let place = at(3);
        bytes.splice(place..place, std::iter::repeat_n(9, SEARCH as usize + 600));
        let (out, report) = recover_with(&bytes, SEARCH).unwrap();
        assert_honest(&plaintext(20_000), &out[..20_000.min(out.len())], &report);
        assert!(!report.is_complete());
        let (_, report) = recover_with(&bytes, SEARCH + 600).unwrap();
        assert!(!report.end_is_lost);
    }

    #[test]
    fn a_header_is_mended_or_done_without() {
        let whole = sealed(3000);
        let lossless = |bytes: &[u8]| {
            let (out, report) = recovered(bytes);
            assert!(out == plaintext(3000) && report.is_complete() && report.header_damaged);
        };
        for bit in 0..HEADER_LEN * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            lossless(&bytes);
        }
        // All but the salt.
        let mut bytes = whole.clone();
        bytes[..SALT_AT].fill(0xEE);
        bytes[SALT_AT + SALT_LEN..HEADER_LEN].fill(0xEE);
        lossless(&bytes);
        // Of the salt, two bits.
        let mut bytes = whole.clone();
        bytes[40] ^= 3;
        assert!(matches!(
            recover_with(&bytes, SEARCH),
            Err(RecoverError::Header(Error::HeaderCorrupt))
        ));
        for len in [1, 50, 95] {
            assert!(matches!(
                recover_with(&whole[..len], SEARCH),
                Err(RecoverError::Header(Error::Truncated))
            ));
        }
        assert!(matches!(
            recover_with(&[7; 5000], SEARCH),
            Err(RecoverError::Header(Error::NotSealed))
        ));
    }

    #[test]
    fn another_key_is_told_from_a_damaged_header() {
        let mut bytes = io::Cursor::new(Vec::new());
        let key = MasterKey::from_bytes([9; 32]);
        transfer::seal(&key, PARAMS, &[1; 2000][..], &mut bytes, |_| ()).unwrap();
        assert!(matches!(
            recover_with(bytes.get_ref(), SEARCH),
            Err(RecoverError::Key(UnknownKey { file, .. })) if file == key.id()
        ));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn whatever_is_done_to_a_file_nothing_wrong_is_given_out(
            len in 0..6000_usize,
            edits in prop::collection::vec((0..4_u8, any::<u16>(), 0..900_usize), 0..4),
        ) {
            let mut bytes = sealed(len);
            for (kind, place, size) in edits {
                let place = HEADER_LEN + usize::from(place) % (bytes.len() - HEADER_LEN + 1);
                let place = place.min(bytes.len());
                let end = (place + size).min(bytes.len());
                match kind {
                    0 => bytes[place..end].fill(7),
                    1 => drop(bytes.drain(place..end)),
                    2 => drop(bytes.splice(place..place, std::iter::repeat_n(7, size))),
                    _ => bytes.truncate(place),
                }
                if bytes.len() <= HEADER_LEN {
                    return Ok(());
                }
            }
            let mut original = plaintext(len);
            let (out, report) = recovered(&bytes);
            original.resize(original.len().max(out.len()), 0);
            assert_honest(&original, &out, &report);
        }
    }
}
