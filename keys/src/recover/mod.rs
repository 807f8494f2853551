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
    Header, KeyId, Layout, MasterKey, OVERHEAD, Params, SALT_LEN, Salvage, TAG_LEN, Volume,
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
        let (salvage, header_damaged) = if size == 0 {
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
                    tell_lost(sink, &mut report, &layout, first..start)?;
                    (index, lost, suspicious) = (start, 0, SUSPICIOUS);
                    continue;
                }
                if found == Some(Found::Nothing) && index < end {
                    suspicious = lost.saturating_mul(2);
                    continue;
                }
                tell_lost(sink, &mut report, &layout, first..index)?;
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

fn tell_lost(
    sink: &mut impl Rescue,
    report: &mut Report,
    layout: &Layout,
    chunks: Range<u64>,
) -> Result<(), RecoverError> {
    for index in chunks {
        let start = layout.chunk_start(index)?;
        let len = layout.chunk_len(index, report.size);
        push(&mut report.lost, start..start + len as u64);
        sink.lost(len)?;
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
    if let Ok(opened) = Volume::open(disk, |_| Ok(FileCipher::new(key))) {
        // One without superblocks is empty, unless there is more behind them.
        match opened.volume {
            Some(volume) => return Ok(Some(volume.into())),
            None if disk.size().map_err(RecoverError::Read)? <= DATA_START => return Ok(None),
            None => {}
        }
    }
    Ok(Some(Salvage::open(disk, FileCipher::new(key))?))
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
            let salvage = Salvage::open(disk, FileCipher::new(&key))?;
            if !salvage.is_measured() || salvage.size() > 0 {
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
