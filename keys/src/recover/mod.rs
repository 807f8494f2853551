//! Saving what is authentic of a damaged file.
//!
//! Each chunk authenticates by itself and at its place, so that what one of them lost is no loss to
//! the others. What this can deal with:
//!
//! - chunks that were altered, or that the disk does not give out any more: they are filled up, so
//!   that everything else is at its offset;
//! - a damaged log: what is behind the damage is gone on with, if it authenticates;
//! - damaged superblocks and nodes of the tree: chunks open without them. But nothing else tells an
//!   older version of a chunk from the newest, so that what is not proven to be the newest is told;
//! - a file that was cut short: the end is lost, and if the superblocks are lost too, the knowledge of
//!   how long the file was;
//! - bytes that were put in or taken out behind the head, from where everything lies beside its place:
//!   the next chunk that authenticates is looked for;
//! - a damaged header, if one bit of it flipped or its salt is whole.
//!
//! Without the salt nothing can be saved, for the file's key comes from it.

use std::fs::File;
use std::io;
use std::ops::Range;

use sealed::{
    ChunkSize, Cipher, DATA_START, Disk, Error, Failure, FileCipher, FileKey, Found, HEADER_LEN,
    Header, KeyId, MasterKey, OVERHEAD, Params, SALT_LEN, Salvage, TAG_LEN, Volume,
};
use zeroize::Zeroizing;

use crate::disk::{DamagedDisk, FileDisk};
use crate::ring::{KeyRing, UnknownKey};
use crate::transfer::{Sink, TransferError};

/// Where the salt lies in a header: `docs/format.md`, section 2.
const SALT_AT: usize = 32;

/// After so many chunks that are lost one after the other it is looked whether all that follows lies beside
/// its place.
const SUSPICIOUS: u64 = 3;

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
    /// What is saved could not be sealed anew.
    #[error(transparent)]
    Sealed(#[from] Error),
}

impl From<TransferError> for RecoverError {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Read(error) => Self::Read(error),
            TransferError::Write(error) => Self::Write(error),
            TransferError::Sealed(error) => Self::Sealed(error),
            TransferError::Key(unknown) => Self::Key(unknown),
        }
    }
}

impl From<Failure<io::Error>> for RecoverError {
    fn from(failure: Failure<io::Error>) -> Self {
        TransferError::from(failure).into()
    }
}

/// What could be saved, and what could not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Bytes of plaintext.
    pub size: u64,
    /// Which of them are lost: plaintext offsets, in order.
    pub lost: Vec<Range<u64>>,
    /// Whether it is not known how long the file was, so that it may have been longer.
    pub end_is_lost: bool,
    /// How often everything further on lay beside its place.
    pub shifts: usize,
    /// Whether the header was damaged.
    pub header_damaged: bool,
    /// Which of the bytes were written over later: an older version of theirs was saved.
    pub stale: Vec<Range<u64>>,
    /// Among which bytes there may be more of those: the node of the tree that would tell is damaged.
    pub unproven: Vec<Range<u64>>,
    /// Whether any of the bytes may be older ones, and the end too: a superblock or a part of the log
    /// is damaged.
    pub newest_is_lost: bool,
}

impl Report {
    /// Whether all that was in the file has been saved, and is the newest.
    pub fn is_complete(&self) -> bool {
        self.lost.is_empty()
            && !self.end_is_lost
            && self.stale.is_empty()
            && self.unproven.is_empty()
            && !self.newest_is_lost
    }
}

/// Takes what is saved.
pub trait Rescue: Sink {
    /// The next chunk is lost, of which there are so many bytes.
    ///
    /// # Errors
    /// As [`Sink::data`].
    fn lost(&mut self, len: usize) -> Result<(), TransferError>;

    /// Of the next chunk not all could be saved. What these bytes of it are, which are in order, is known. Answers
    /// whether they were taken: else nothing was, and all of the chunk is lost.
    ///
    /// # Errors
    /// As [`Sink::data`].
    fn parts(&mut self, chunk: &[u8], known: &[Range<usize>]) -> Result<bool, TransferError>;
}

/// Fills up what is lost.
#[derive(Debug)]
pub struct Filling<S> {
    /// What takes all of it.
    pub sink: S,
    /// What stands for lost bytes.
    pub fill: u8,
}

impl<S: Sink> Sink for Filling<S> {
    fn data(&mut self, bytes: &[u8]) -> Result<(), TransferError> {
        self.sink.data(bytes)
    }

    fn hole(&mut self, len: u64) -> Result<(), TransferError> {
        self.sink.hole(len)
    }
}

impl<S: Sink> Rescue for Filling<S> {
    fn lost(&mut self, len: usize) -> Result<(), TransferError> {
        self.sink.data(&vec![self.fill; len])
    }

    fn parts(&mut self, chunk: &[u8], known: &[Range<usize>]) -> Result<bool, TransferError> {
        let mut filled = Zeroizing::new(vec![self.fill; chunk.len()]);
        for part in known {
            filled[part.clone()].copy_from_slice(&chunk[part.clone()]);
        }
        self.sink.data(&filled)?;
        Ok(true)
    }
}

/// A damaged file, with its key.
#[derive(Debug)]
pub struct Damaged<'a> {
    disk: DamagedDisk<'a>,
    /// `None` for an empty file.
    salvage: Option<Salvage>,
    header_damaged: bool,
}

impl<'a> Damaged<'a> {
    /// Finds the key of a file, and what tells of its contents.
    ///
    /// # Errors
    /// Where there is nothing to begin with.
    pub fn open(ring: &KeyRing, file: &'a File) -> Result<Self, RecoverError> {
        let disk = DamagedDisk::new(file);
        let size = disk.size().map_err(RecoverError::Read)?;
        // With this answer only what has no header opens.
        let blank = Volume::<sealed::aead::Software>::open(&disk, |_| Err(Error::NotSealed));
        let mut head = vec![0; DATA_START as usize];
        disk.read_raw(&mut head, 0);
        let is_blank = blank.is_ok() && head.iter().all(|&byte| byte == 0);
        let (salvage, header_damaged) = if is_blank {
            (None, false)
        } else {
            let (key, header_damaged) = key(ring, &disk, size)?;
            (salvage(&disk, &key)?, header_damaged)
        };
        Ok(Self {
            disk,
            salvage,
            header_damaged,
        })
    }

    /// Cipher and chunk size, and the id of the key; `None` for an empty file.
    pub fn sealed_with(&self) -> Option<(Params, KeyId)> {
        let header = self.salvage.as_ref()?.cipher().header();
        Some((header.params(), header.key_id()))
    }

    /// Has everybody refuse the file, who has it open too.
    ///
    /// # Errors
    /// As pwrite(2).
    pub fn retire(&self, file: &File) -> io::Result<()> {
        match &self.salvage {
            Some(salvage) => salvage.retire(&FileDisk(file)),
            None => Ok(()),
        }
    }

    /// Saves what is authentic. A chunk is looked for up to `search` bytes from its place. `progress` is
    /// told of bytes that have been dealt with.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn save(
        &mut self,
        sink: &mut impl Rescue,
        search: u64,
        mut progress: impl FnMut(u64),
    ) -> Result<Report, RecoverError> {
        let mut report = Report {
            header_damaged: self.header_damaged,
            ..Report::default()
        };
        let Some(salvage) = &mut self.salvage else {
            return Ok(report);
        };
        report.size = salvage.size();
        report.end_is_lost = salvage.is_measured();
        report.newest_is_lost = salvage.is_doubtful();
        let layout = *salvage.layout();
        let end = layout.chunks(report.size);
        let size = report.size;
        let bytes_of = |chunks: Range<u64>| {
            let chunk_size = layout.chunk_size() as u64;
            (chunks.start * chunk_size).min(size)..(chunks.end * chunk_size).min(size)
        };
        let mut buffer = Zeroizing::new(vec![0; layout.chunk_size()]);
        let mut index = 0;
        // Chunks before that one that are lost and not accounted for yet, and how many are to be before
        // anything is looked for.
        let (mut lost, mut suspicious) = (0, SUSPICIOUS);
        loop {
            let data = salvage.next(&self.disk, index);
            let found = if data > index || index >= end {
                None
            } else {
                let out = &mut buffer[..layout.chunk_len(index, size)];
                Some(salvage.chunk(&self.disk, index, out)?)
            };
            if found == Some(Found::Nothing) {
                lost += 1;
                index += 1;
                progress(layout.chunk_size() as u64);
                if lost < suspicious && index < end {
                    continue;
                }
            }
            if lost > 0 && (lost >= suspicious || found != Some(Found::Nothing) || index >= end) {
                let first = index - lost;
                // Where a chunk is at its place those before it have nowhere else to be.
                let is_over = found.is_some_and(|found| found != Found::Nothing);
                let elsewhere = match is_over {
                    true => None,
                    false => find(salvage, &self.disk, first..end, search),
                };
                if let Some((start, place, shift)) = elsewhere {
                    self.disk.set_shift(place, shift);
                    report.shifts += 1;
                    tell_lost(sink, &mut report, salvage, &self.disk, first..start)?;
                    (index, lost, suspicious) = (start, 0, SUSPICIOUS);
                    continue;
                }
                if found == Some(Found::Nothing) && index < end {
                    suspicious = lost.saturating_mul(2);
                    continue;
                }
                tell_lost(sink, &mut report, salvage, &self.disk, first..index)?;
                (lost, suspicious) = (0, SUSPICIOUS);
            }
            match found {
                None if data > index => {
                    let hole = bytes_of(index..data);
                    sink.hole(hole.end - hole.start)?;
                    index = data;
                }
                None => return Ok(report),
                Some(Found::Nothing) => {}
                Some(found) => {
                    let bytes = bytes_of(index..index + 1);
                    sink.data(&buffer[..(bytes.end - bytes.start) as usize])?;
                    progress(bytes.end - bytes.start);
                    match found {
                        Found::Older => push(&mut report.stale, bytes),
                        Found::Unproven if !report.newest_is_lost => {
                            push(&mut report.unproven, bytes);
                        }
                        _ => {}
                    }
                    index += 1;
                }
            }
        }
    }
}

/// Saves what is authentic of `file` into `sink`: see [`Damaged`].
///
/// # Errors
/// Where there is nothing to begin with, or the output fails.
pub fn recover(
    ring: &KeyRing,
    file: &File,
    sink: &mut impl Rescue,
    search: u64,
    progress: impl FnMut(u64),
) -> Result<Report, RecoverError> {
    Damaged::open(ring, file)?.save(sink, search, progress)
}

/// Accounts for chunks that are not to be found as a whole, and saves what there is of them.
fn tell_lost(
    sink: &mut impl Rescue,
    report: &mut Report,
    salvage: &mut Salvage,
    disk: &DamagedDisk<'_>,
    chunks: Range<u64>,
) -> Result<(), RecoverError> {
    let layout = *salvage.layout();
    for index in chunks {
        let start = layout.chunk_start(index)?;
        let mut chunk = Zeroizing::new(vec![0; layout.chunk_len(index, report.size)]);
        let known = salvage.parts(disk, index, &mut chunk)?;
        if known.is_empty() || !sink.parts(&chunk, &known)? {
            push(&mut report.lost, start..start + chunk.len() as u64);
            sink.lost(chunk.len())?;
            continue;
        }
        let mut end = 0;
        for part in known {
            if end < part.start {
                push(
                    &mut report.lost,
                    start + end as u64..start + part.start as u64,
                );
            }
            if !report.newest_is_lost {
                push(
                    &mut report.unproven,
                    start + part.start as u64..start + part.end as u64,
                );
            }
            end = part.end;
        }
        if end < chunk.len() {
            push(
                &mut report.lost,
                start + end as u64..start + chunk.len() as u64,
            );
        }
    }
    Ok(())
}

/// Puts a range behind others, which it may go on with.
pub(crate) fn push(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

/// Looks for the first of these chunks that lies beside its place. Answers which one it is, from which
/// place on everything is shifted, and how far.
fn find(
    salvage: &mut Salvage,
    disk: &DamagedDisk<'_>,
    chunks: Range<u64>,
    search: u64,
) -> Option<(u64, u64, i64)> {
    // The chunk that something was put into is lost, the one behind it is not, or else one farther on.
    let steps = std::iter::successors(Some(1_u64), |step| step.checked_mul(2));
    let tried = steps.map_while(|step| chunks.start.checked_add(step));
    let tried =
        std::iter::once(chunks.start).chain(tried.take_while(|index| chunks.contains(index)));
    for index in tried {
        let Some(shift) = find_chunk(salvage, disk, index, search) else {
            continue;
        };
        let mut start = index;
        while start > chunks.start && opens_at(salvage, disk, start - 1, shift) {
            start -= 1;
        }
        let layout = salvage.layout();
        let place = match start % sealed::FAN_OUT {
            // With what tells of the chunks.
            0 => layout.node_offset(0, start / sealed::FAN_OUT),
            _ => layout.chunk_offset(start),
        };
        return Some((start, place.ok()?, shift));
    }
    None
}

/// How far from its place a chunk is; `None` for one that is there, or nowhere near.
fn find_chunk(
    salvage: &mut Salvage,
    disk: &DamagedDisk<'_>,
    index: u64,
    search: u64,
) -> Option<i64> {
    let place = salvage.layout().chunk_offset(index).ok()?;
    let len = salvage.layout().chunk_len(index, salvage.size());
    let sealed_len = len + OVERHEAD;
    let expected = place.checked_add_signed(disk.shift(place))?;
    let start = expected.saturating_sub(search).max(HEADER_LEN as u64);
    let most = expected.checked_sub(start)? + search + sealed_len as u64;
    let mut window = Vec::new();
    window.try_reserve_exact(usize::try_from(most).ok()?).ok()?;
    window.resize(window.capacity().min(most as usize), 0);
    let read = disk.read_raw(&mut window, start)?;
    window.truncate(read);
    let tag = salvage.tag(disk, index);
    let mut plaintext = Zeroizing::new(vec![0; len]);
    let cipher = salvage.cipher();
    let at = window.windows(sealed_len).position(|sealed| {
        tag.is_none_or(|tag| sealed[sealed_len - TAG_LEN..] == tag)
            && cipher.open_chunks(index, sealed, &mut plaintext).is_ok()
    })?;
    let found = (start + at as u64).checked_signed_diff(place)?;
    (found != disk.shift(place)).then_some(found)
}

fn opens_at(salvage: &Salvage, disk: &DamagedDisk<'_>, index: u64, shift: i64) -> bool {
    let len = salvage.layout().chunk_len(index, salvage.size());
    let place = salvage.layout().chunk_offset(index).ok();
    let place = place.and_then(|place| place.checked_add_signed(shift));
    let mut sealed = vec![0; len + OVERHEAD];
    let mut plaintext = Zeroizing::new(vec![0; len]);
    place.and_then(|place| disk.read_raw(&mut sealed, place)) == Some(sealed.len())
        && salvage
            .cipher()
            .open_chunks(index, &sealed, &mut plaintext)
            .is_ok()
}

/// What tells of the contents of a file with that key.
fn salvage(disk: &DamagedDisk<'_>, key: &FileKey) -> Result<Option<Salvage>, RecoverError> {
    let salvage = Salvage::open(disk, FileCipher::new(key))?;
    if let Ok(opened) = Volume::open(disk, |_| Ok(FileCipher::new(key))) {
        match opened.volume {
            // Where a log may end, no matter why, there may be more behind.
            Some(volume) if volume.counter() >= salvage.counter() => {
                return Ok(Some(volume.into()));
            }
            // One without superblocks is empty, unless there is more behind them.
            None if disk.size().map_err(RecoverError::Read)? <= DATA_START => return Ok(None),
            _ => {}
        }
    }
    Ok(Some(salvage))
}

/// The key of a file, and whether its header is damaged.
fn key(ring: &KeyRing, disk: &DamagedDisk<'_>, size: u64) -> Result<(FileKey, bool), RecoverError> {
    let mut head = [0; HEADER_LEN];
    let len = usize::try_from(size).map_or(HEADER_LEN, |size| size.min(HEADER_LEN));
    disk.read_raw(&mut head[..len], 0);
    let fault = match verified(ring, &head[..len]) {
        Ok(key) => return Ok((key, false)),
        Err(fault) => fault,
    };
    if len == HEADER_LEN {
        if let Some(key) = mended(ring, &head) {
            return Ok((key, true));
        }
        for key in guesses(ring, &head) {
            // With another key nothing is authentic.
            if Salvage::open(disk, FileCipher::new(&key))?.has_anything() {
                return Ok((key, true));
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
#[cfg(test)]
mod tests {
    use std::io::Write;

    use getrandom::SysRng;
    use proptest::prelude::*;
    use sealed::FAN_OUT;

    use super::*;
    use crate::transfer;

    const PARAMS: Params = Params {
        cipher: Cipher::XChaCha20Poly1305,
        chunk_size: ChunkSize::MIN,
    };
    const CHUNK: usize = 512;
    const SEARCH: u64 = 2000;
    /// Bytes of plaintext in a full group.
    const GROUP: usize = FAN_OUT as usize * CHUNK;
    /// So long that a file is not all log.
    const LONG: usize = 60 * CHUNK + 100;

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

    /// Written by two changes, without a checkpoint: a log with two records.
    fn logged(len: usize) -> Vec<u8> {
        changed(&[
            (0, &plaintext(len)[..len / 2]),
            (len / 2, &plaintext(len)[len / 2..]),
        ])
    }

    /// Written record by record, as a log of lines is: each is a record of its own.
    fn appended(len: usize) -> Vec<u8> {
        let whole = plaintext(len);
        let lines = whole.chunks(37).enumerate();
        let writes: Vec<_> = lines.map(|(nth, line)| (nth * 37, line)).collect();
        changed(&writes)
    }

    /// What some writes leave.
    fn changed(writes: &[(usize, &[u8])]) -> Vec<u8> {
        let file = tempfile::tempfile().unwrap();
        let key = FileKey::generate(&ring().keys()[1], PARAMS, &mut SysRng).unwrap();
        let mut volume = Volume::create(FileCipher::new(&key), &mut SysRng).unwrap();
        let disk = FileDisk(&file);
        for (offset, data) in writes {
            volume
                .write(&disk, &mut SysRng, *offset as u64, data)
                .unwrap();
        }
        let mut bytes = vec![0; disk.size().unwrap() as usize];
        disk.read_at(&mut bytes, 0).unwrap();
        bytes
    }

    /// Where a chunk begins.
    fn at(index: u64) -> usize {
        PARAMS.layout().chunk_offset(index).unwrap() as usize
    }

    fn leaf(group: u64) -> usize {
        PARAMS.layout().node_offset(0, group).unwrap() as usize
    }

    fn recover_with(bytes: &[u8], search: u64) -> Result<(Vec<u8>, Report), RecoverError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let mut filling = Filling {
            sink: Vec::new(),
            fill: 0,
        };
        let report = recover(&ring(), &file, &mut filling, search, |_| ())?;
        assert_eq!(filling.sink.len() as u64, report.size);
        Ok((filling.sink, report))
    }

    fn recovered(bytes: &[u8]) -> (Vec<u8>, Report) {
        recover_with(bytes, SEARCH).unwrap()
    }

    /// Everything that is not said to be lost is right; what is lost is filling.
    #[track_caller]
    fn assert_honest(original: &[u8], out: &[u8], report: &Report) {
        for (i, &byte) in out.iter().enumerate() {
            let lost = report.lost.iter().any(|lost| lost.contains(&(i as u64)));
            // The plaintext has no zeros.
            assert_eq!(byte == 0, lost, "at {i}");
            assert!(lost || original[i] == byte, "at {i}");
        }
    }

    #[track_caller]
    fn only(ranges: &[Range<u64>]) -> Range<u64> {
        let [range] = ranges else {
            panic!("{ranges:?}");
        };
        range.clone()
    }

    fn chunks(range: Range<u64>) -> Range<u64> {
        range.start * CHUNK as u64..range.end * CHUNK as u64
    }

    #[test]
    fn a_whole_file_is_saved_whole() {
        for len in [
            0,
            1,
            511,
            512,
            513,
            LONG,
            GROUP - 1,
            GROUP,
            GROUP + 1,
            3 * GROUP + 9,
        ] {
            let (out, report) = recovered(&sealed(len));
            assert!(out == plaintext(len) && report.is_complete(), "{len}");
            assert!(!report.header_damaged && report.shifts == 0);
        }
        for len in [2, 5000, LONG] {
            for bytes in [logged(len), appended(len)] {
                let (out, report) = recovered(&bytes);
                assert!(out == plaintext(len) && report.is_complete(), "{len}");
            }
        }
        assert_eq!(recovered(b"").1, Report::default());
        assert_eq!(recovered(&[0; 1000]).1, Report::default());
    }

    #[test]
    fn a_damaged_chunk_is_filled_up() {
        let mut bytes = sealed(LONG);
        for index in [0, 3, 4, 7] {
            bytes[at(index) + 100] ^= 1;
        }
        let (out, report) = recovered(&bytes);
        assert_eq!(report.lost, [0..512, 1536..2560, 3584..4096]);
        assert_eq!(out.len(), LONG);
        assert!(!report.end_is_lost && report.shifts == 0 && !report.newest_is_lost);
        assert_honest(&plaintext(LONG), &out, &report);
    }

    #[test]
    fn of_a_damaged_log_the_rest_is_saved() {
        let len = 5000;
        let whole = sealed(len);
        // One record, marked: header, 10 tags, chunks.
        let payload = 1536 + 32 + 24 + 160;
        let with = |at: usize| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            let (out, report) = recovered(&bytes);
            (out, report)
        };
        let (out, report) = with(payload + 3 * 552 + 100);
        assert_eq!(report.lost, [chunks(3..4)]);
        assert_honest(&plaintext(len), &out, &report);
        assert!(!report.newest_is_lost);
        // The record does not authenticate any more, but its chunks do.
        for at in [1536 + 60, whole.len() - 1] {
            let (out, report) = with(at);
            assert!(report.newest_is_lost && !report.is_complete(), "{at}");
            assert!(out == plaintext(len), "{at}");
        }
        // Behind a damaged record the next one is found.
        let whole = logged(LONG);
        for damage in [1536 + 8, 1536 + 16, 1536 + 32] {
            let mut bytes = whole.clone();
            bytes[damage] ^= 1;
            let (out, report) = recovered(&bytes);
            assert!(out.len() == LONG && report.newest_is_lost, "{damage}");
            assert!(out[LONG / 2 + 1000..] == plaintext(LONG)[LONG / 2 + 1000..]);
            // Which chunks a record has can't be known if that is what is damaged.
            if damage < 1536 + 32 {
                assert_honest(&plaintext(LONG), &out, &report);
            }
        }
    }

    /// A line that is damaged in a file that lines were appended to is the only one that is lost.
    #[test]
    fn of_a_chunk_that_was_appended_to_a_damaged_line_alone_is_lost() {
        let before = appended(100);
        let mut bytes = appended(400);
        // In the record behind those of the first 100 bytes: the last of these is shorter than a line.
        bytes[before.len() + 100] ^= 1;
        let (out, report) = recovered(&bytes);
        let lost = only(&report.lost);
        assert!(
            lost.end - lost.start == 37 && lost.start.is_multiple_of(37),
            "{report:?}"
        );
        assert!(!report.newest_is_lost && out.len() == 400);
        assert_honest(&plaintext(400), &out, &report);
    }

    #[test]
    fn without_superblocks_all_is_saved_that_is_there() {
        for len in [100, 5000, LONG, 2 * GROUP + 700] {
            for whole in [sealed(len), logged(len)] {
                let mut bytes = whole.clone();
                bytes[512..640].fill(0xEE);
                let (out, report) = recovered(&bytes);
                assert!(report.newest_is_lost && report.end_is_lost, "{len}");
                assert!(out == plaintext(len) && report.lost.is_empty(), "{len}");
            }
        }
    }

    #[test]
    fn a_lost_end_is_told() {
        let whole = sealed(LONG);
        let last = at(60);
        let mut damaged = whole.clone();
        damaged[last + 30] ^= 1;
        let mut cases = vec![damaged];
        cases.extend([last, last + 1, last + 39, last + 90].map(|len| whole[..len].to_vec()));
        for damaged in cases {
            let (out, report) = recovered(&damaged);
            // The superblock knows the size.
            assert_eq!(out.len(), LONG);
            assert_eq!(only(&report.lost), 60 * 512..LONG as u64);
            assert!(!report.end_is_lost && !report.newest_is_lost);
            assert_honest(&plaintext(LONG), &out, &report);
        }
        let (out, report) = recovered(&whole[..at(0)]);
        assert!(out == [0; LONG] && only(&report.lost) == (0..LONG as u64));
    }

    #[test]
    fn bytes_put_in_or_taken_out_cost_a_chunk_or_two() {
        let whole = sealed(LONG);
        for by in [1, 7, 552, 553, 1999] {
            for place in [at(3) + 5, at(3), at(0), at(55) + 200] {
                let mut longer = whole.clone();
                longer.splice(place..place, std::iter::repeat_n(9, by));
                let mut shorter = whole.clone();
                shorter.drain(place..(place + by).min(whole.len()));
                for bytes in [longer, shorter] {
                    let (out, report) = recovered(&bytes);
                    assert_honest(&plaintext(LONG), &out, &report);
                    let lost: u64 = report.lost.iter().map(|lost| lost.end - lost.start).sum();
                    let most = by.div_ceil(CHUNK) + 2;
                    assert!(lost <= (most * CHUNK) as u64, "{by} at {place}: {report:?}");
                    assert!(report.shifts <= 1 && !report.end_is_lost);
                    assert!(report.unproven.is_empty() && report.stale.is_empty());
                }
            }
        }
    }

    #[test]
    fn bytes_put_in_between_groups_cost_no_more() {
        let original = plaintext(3 * GROUP + 100);
        let whole = sealed(original.len());
        for by in [1, 700] {
            for place in [
                at(250) + 9,
                at(255) + 9,
                leaf(1),
                leaf(1) + 50,
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
            }
        }
    }

    #[test]
    fn damaged_nodes_are_no_loss_but_of_what_they_tell() {
        let original = plaintext(2 * GROUP + 1000);
        let whole = sealed(original.len());
        let top = PARAMS.layout().node_offset(1, 0).unwrap() as usize;
        let group = GROUP as u64;
        let size = original.len() as u64;
        for (damage, unproven) in [
            (leaf(0), 0..group),
            (leaf(1) + 100, group..2 * group),
            (leaf(2) + 16, 2 * group..size),
            (top, 0..size),
        ] {
            let mut bytes = whole.clone();
            bytes[damage] ^= 1;
            let (out, report) = recovered(&bytes);
            assert!(out == original && report.lost.is_empty(), "{damage}");
            assert_eq!(only(&report.unproven), unproven);
            assert!(!report.newest_is_lost && !report.is_complete());
        }
        // Slots that are not in use, and what is behind the tags.
        let mut bytes = whole.clone();
        bytes[leaf(0) + 4096] ^= 1;
        bytes[leaf(2) + 3 * 16] ^= 1;
        assert!(recovered(&bytes).1.is_complete());
    }

    #[test]
    fn what_lies_too_far_from_its_place_is_lost() {
        let mut bytes = sealed(LONG);
        let place = at(3);
        bytes.splice(place..place, std::iter::repeat_n(9, SEARCH as usize + 600));
        let (out, report) = recover_with(&bytes, SEARCH).unwrap();
        assert_honest(&plaintext(LONG), &out, &report);
        assert_eq!(only(&report.lost), 3 * 512..LONG as u64);
        let (_, report) = recover_with(&bytes, SEARCH + 600).unwrap();
        assert!(report.is_complete() && report.shifts == 1);
    }

    #[test]
    fn a_header_is_mended_or_done_without() {
        for len in [3000, LONG] {
            let whole = sealed(len);
            let lossless = |bytes: &[u8]| {
                let (out, report) = recovered(bytes);
                assert!(out == plaintext(len) && report.is_complete() && report.header_damaged);
            };
            for bit in (0..HEADER_LEN * 8).step_by(5) {
                let mut bytes = whole.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                lossless(&bytes);
            }
            // All but the salt.
            let mut bytes = whole.clone();
            bytes[..SALT_AT].fill(0xEE);
            bytes[SALT_AT + SALT_LEN..HEADER_LEN].fill(0xEE);
            lossless(&bytes);
        }
        let whole = sealed(LONG);
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
            len in 0..LONG,
            made in 0..3_u8,
            edits in prop::collection::vec((0..4_u8, any::<prop::sample::Index>(), 0..900_usize), 0..4),
        ) {
            let is_logged = made > 0;
            let mut bytes = [sealed, logged, appended][made as usize](len);
            for (kind, place, size) in edits {
                if bytes.len() <= HEADER_LEN {
                    break;
                }
                let place = HEADER_LEN + place.index(bytes.len() - HEADER_LEN + 1);
                let place = place.min(bytes.len());
                let end = (place + size).min(bytes.len());
                match kind {
                    0 => bytes[place..end].fill(7),
                    1 => drop(bytes.drain(place..end)),
                    2 => drop(bytes.splice(place..place, std::iter::repeat_n(7, size))),
                    _ => bytes.truncate(place),
                }
            }
            let (out, report) = recovered(&bytes);
            let original = plaintext(len);
            for (i, &byte) in out.iter().enumerate() {
                let lost = report.lost.iter().any(|lost| lost.contains(&(i as u64)));
                prop_assert!(lost || original.get(i) == Some(&byte) || byte == 0 && report.newest_is_lost);
            }
            if report.is_complete() {
                // Of a log without a mark any end may be the one that a power cut left.
                prop_assert!(out == original || is_logged && original.starts_with(&out) || out.is_empty());
            }
        }
    }
}
