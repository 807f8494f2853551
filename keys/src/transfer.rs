//! Sealing and opening, in constant memory: what is opened comes out a mebibyte at a time, what is
//! sealed a group of 256 chunks at a time, for a group's tags go before it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::time::Duration;

use getrandom::SysRng;
use sealed::{
    DATA_START, Disk, Failure, FileCipher, HEADER_LEN, Header, KeyId, MasterKey, Params, Sealer,
    UnverifiedHeader, Volume,
};
use zeroize::{Zeroize, Zeroizing};

use crate::disk::FileDisk;
use crate::lock::{LockMode, lock};
use crate::ring::{KeyRing, UnknownKey};

/// Bytes read at a time: many chunks of any size, so that the cost per call vanishes.
const READ_LEN: usize = 1 << 20;

/// What stopped a transfer.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The input could not be read.
    #[error("{0}")]
    Read(io::Error),
    /// The output could not be written.
    #[error("{0}")]
    Write(io::Error),
    /// The contents could not be sealed or opened.
    #[error("{0}")]
    Sealed(#[from] sealed::Error),
    /// The contents were sealed with a key that is not at hand.
    #[error("{0}")]
    Key(#[from] UnknownKey),
}

/// What failed while a file was read.
impl From<Failure<io::Error>> for TransferError {
    fn from(failure: Failure<io::Error>) -> Self {
        match failure {
            Failure::Disk(error) => Self::Read(error),
            Failure::Sealed(error) => Self::Sealed(error),
        }
    }
}

/// What failed while one was written.
fn unwritten(failure: Failure<io::Error>) -> TransferError {
    match failure {
        Failure::Disk(error) => TransferError::Write(error),
        Failure::Sealed(error) => TransferError::Sealed(error),
    }
}

/// Where plaintext goes, from beginning to end.
pub trait Sink {
    /// The next bytes.
    ///
    /// # Errors
    /// That they could not be taken.
    fn data(&mut self, bytes: &[u8]) -> Result<(), TransferError>;

    /// The next bytes are so many zeros, of a hole.
    ///
    /// # Errors
    /// As [`Sink::data`].
    fn hole(&mut self, len: u64) -> Result<(), TransferError>;
}

/// Takes what is read and keeps nothing.
#[derive(Clone, Copy, Debug)]
pub struct Nowhere;

impl Sink for Nowhere {
    fn data(&mut self, _: &[u8]) -> Result<(), TransferError> {
        Ok(())
    }

    fn hole(&mut self, _: u64) -> Result<(), TransferError> {
        Ok(())
    }
}

impl Sink for Vec<u8> {
    fn data(&mut self, bytes: &[u8]) -> Result<(), TransferError> {
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn hole(&mut self, len: u64) -> Result<(), TransferError> {
        let len = usize::try_from(len).map_err(|_| sealed::Error::TooLarge)?;
        self.resize(self.len() + len, 0);
        Ok(())
    }
}

/// Zeros, to be given to a sink that has no holes.
pub(crate) fn zeros(
    mut len: u64,
    mut take: impl FnMut(&[u8]) -> Result<(), TransferError>,
) -> Result<(), TransferError> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    while len > 0 {
        let some = len.min(ZEROS.len() as u64);
        take(&ZEROS[..some as usize])?;
        len -= some;
    }
    Ok(())
}

/// A file that is about to be opened, of which the beginning was read: enough to ask for the key.
#[derive(Debug)]
pub struct SealedFile<'a> {
    disk: FileDisk<'a>,
    head: Vec<u8>,
}

impl<'a> SealedFile<'a> {
    /// Reads the beginning.
    ///
    /// # Errors
    /// As pread(2).
    pub fn new(file: &'a File) -> io::Result<Self> {
        let mut head = vec![0; HEADER_LEN];
        let disk = FileDisk(file);
        let mut len = 0;
        while len < head.len() {
            match disk.read_at(&mut head[len..], len as u64)? {
                0 => break,
                read => len += read,
            }
        }
        head.truncate(len);
        Ok(Self { disk, head })
    }

    /// The file.
    pub fn disk(&self) -> FileDisk<'a> {
        self.disk
    }

    /// The header, not authenticated yet.
    ///
    /// # Errors
    /// Where it is none, or of another version, or damaged.
    pub fn header(&self) -> Result<UnverifiedHeader, sealed::Error> {
        Header::parse(&self.head)
    }

    /// The key it says it was sealed with; `None` for what is no sealed file.
    pub fn key_id(&self) -> Option<KeyId> {
        self.header().ok().map(|header| header.key_id())
    }

    /// Whether it begins with zeros, or has no bytes: then it may be empty, and has no key.
    pub fn is_blank(&self) -> bool {
        self.head.iter().all(|&byte| byte == 0)
    }

    /// Looks at it; `None` for an empty file of which nothing vouches for that. Where somebody may be
    /// changing it just now, waits so long for the lock that writers take; it is kept until the file is
    /// closed then.
    ///
    /// # Errors
    /// Where it can't be read, the key is not in the ring, or it is damaged.
    pub fn volume(&self, ring: &KeyRing, wait: Duration) -> Result<Option<Volume>, TransferError> {
        match self.look(ring) {
            Ok((volume, true)) => Ok(volume),
            Err(TransferError::Key(unknown)) => Err(TransferError::Key(unknown)),
            _ => {
                // Who does not get it takes what is there.
                lock(self.disk.0, LockMode::Shared, wait).map_err(TransferError::Read)?;
                Ok(self.look(ring)?.0)
            }
        }
    }

    /// Looks at it as it is now. Answers also whether it must be so, and nobody is changing it.
    ///
    /// # Errors
    /// As [`SealedFile::volume`].
    pub fn look(&self, ring: &KeyRing) -> Result<(Option<Volume>, bool), TransferError> {
        let mut unknown = None;
        let opened = Volume::open(&self.disk, |head| {
            let header = Header::parse(head)?;
            // What is no sealed file gets its error before a key is asked for.
            let key = ring.for_file(header.key_id()).map_err(|error| {
                unknown = Some(error);
                sealed::Error::HeaderCorrupt
            })?;
            FileCipher::open(key, head)
        });
        match (unknown, opened) {
            (Some(unknown), _) => Err(unknown.into()),
            (None, opened) => {
                let opened = opened?;
                Ok((opened.volume, opened.is_certain))
            }
        }
    }
}

/// Puts what can be read but once into a file without a name. It is as sealed there as it was.
///
/// # Errors
/// Where there is no room for it, or it can't be read.
pub fn spool(mut input: impl Read) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(&mut input, &mut file)?;
    Ok(file)
}

/// Reads all of a file. `progress` is told of bytes.
///
/// # Errors
/// Where reading or writing fails, or the file is not authentic; what came before that is.
pub fn read_all(
    volume: &mut Volume,
    disk: FileDisk<'_>,
    sink: &mut impl Sink,
    mut progress: impl FnMut(u64),
) -> Result<(), TransferError> {
    let mut buffer = Zeroizing::new(Vec::new());
    let mut at = 0;
    while at < volume.size() {
        let data = volume.seek(&disk, at, false)?;
        if data > at {
            sink.hole(data - at)?;
            at = data;
            continue;
        }
        // Damage further on is told when it is come to.
        let end = volume
            .seek(&disk, at, true)
            .unwrap_or(at + volume.layout().chunk_size() as u64)
            .min(volume.size());
        let len = (end - at).min(READ_LEN as u64) as usize;
        if buffer.len() < len {
            // Once, or twice: nothing of it is left behind.
            buffer.zeroize();
            buffer.resize(len, 0);
        }
        let index = volume.layout().chunk_index(at);
        let read = volume.read(&disk, index, &mut buffer[..len])?;
        sink.data(&buffer[..read])?;
        at += read as u64;
        progress(read as u64);
    }
    Ok(())
}

/// A file that is being sealed from its beginning to its end.
struct Sealing<W> {
    sealer: Sealer<SysRng>,
    output: W,
    out: Vec<u8>,
}

impl<W: Write + Seek> Sealing<W> {
    fn new(key: &MasterKey, params: Params, output: W) -> Result<Self, TransferError> {
        Ok(Self {
            sealer: Sealer::new(key, params, SysRng)?,
            output,
            out: Vec::new(),
        })
    }

    /// Writes the last of it, then what makes the file open.
    fn end(mut self) -> Result<(), TransferError> {
        let patches = self.sealer.finish(&mut self.out)?;
        let mut write = || -> io::Result<()> {
            self.output.write_all(&self.out)?;
            for (offset, bytes) in patches.iter() {
                self.output.seek(SeekFrom::Start(offset))?;
                self.output.write_all(bytes)?;
            }
            Ok(())
        };
        write().map_err(TransferError::Write)
    }
}

impl<W: Write> Sink for Sealing<W> {
    fn data(&mut self, bytes: &[u8]) -> Result<(), TransferError> {
        self.sealer.push(bytes, &mut self.out)?;
        self.output
            .write_all(&self.out)
            .map_err(TransferError::Write)?;
        self.out.clear();
        Ok(())
    }

    fn hole(&mut self, len: u64) -> Result<(), TransferError> {
        zeros(len, |bytes| self.data(bytes))
    }
}

/// Seals all of `input` into `output`, which has to be at its beginning. `progress` is told the
/// length of each piece of input. Returns the number of bytes sealed.
///
/// # Errors
/// Where reading or writing fails.
pub fn seal(
    key: &MasterKey,
    params: Params,
    mut input: impl Read,
    output: impl Write + Seek,
    mut progress: impl FnMut(u64),
) -> Result<u64, TransferError> {
    let mut sealing = Sealing::new(key, params, output)?;
    let mut buffer = Zeroizing::new(vec![0; READ_LEN]);
    let mut total = 0;
    loop {
        let len = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(TransferError::Read(error)),
        };
        sealing.data(&buffer[..len])?;
        total += len as u64;
        progress(len as u64);
    }
    sealing.end()?;
    Ok(total)
}

/// Whether a file that is to be sealed has holes.
///
/// # Errors
/// Where that can't be told.
pub fn has_holes(input: &File) -> io::Result<bool> {
    let size = input.metadata()?.len();
    Ok(FileDisk(input).next(0, true, size)? < size)
}

/// Seals all of a file into an empty one, with its holes, as far as they are whole chunks. Else as [`seal`].
///
/// # Errors
/// As [`seal`].
pub fn seal_with_holes(
    key: &MasterKey,
    params: Params,
    input: &File,
    output: &File,
    mut progress: impl FnMut(u64),
) -> Result<u64, TransferError> {
    let disk = FileDisk(input);
    let size = disk.size().map_err(TransferError::Read)?;
    let mut writing = Writing::new(key, params, output)?;
    let mut buffer = Zeroizing::new(vec![0; READ_LEN]);
    let mut at = 0;
    while at < size {
        let next = |is_hole| disk.next(at, is_hole, size).map_err(TransferError::Read);
        let data = next(false)?;
        if data > at {
            writing.hole(data - at)?;
            progress(data - at);
            at = data;
            continue;
        }
        let len = (next(true)? - at).clamp(1, READ_LEN as u64) as usize;
        let read = disk.read_at(&mut buffer[..len], at);
        let len = match read.map_err(TransferError::Read)? {
            // It was cut meanwhile.
            0 => break,
            len => len,
        };
        writing.data(&buffer[..len])?;
        progress(len as u64);
        at += len as u64;
    }
    writing.end()?;
    Ok(at)
}

/// A new file that is written like any other, and so may have holes and chunks that are lost.
pub(crate) struct Writing<'a> {
    volume: Volume,
    disk: FileDisk<'a>,
    at: u64,
    lost: Vec<u64>,
}

impl<'a> Writing<'a> {
    /// Into an empty file.
    pub fn new(key: &MasterKey, params: Params, file: &'a File) -> Result<Self, TransferError> {
        let cipher = FileCipher::create(key, params, &mut SysRng)?;
        Ok(Self {
            volume: Volume::create(cipher, &mut SysRng)?,
            disk: FileDisk(file),
            at: 0,
            lost: Vec::new(),
        })
    }

    /// The next chunk is lost, of which there are so many bytes.
    pub fn lose(&mut self, len: usize) {
        self.lost.push(self.volume.layout().chunk_index(self.at));
        self.at += len as u64;
    }

    /// Brings everything to its place.
    pub fn end(mut self) -> Result<(), TransferError> {
        let (volume, disk) = (&mut self.volume, &self.disk);
        volume
            .set_len(disk, &mut SysRng, self.at)
            .map_err(unwritten)?;
        for index in &self.lost {
            volume.lose(&mut SysRng, *index)?;
        }
        let mut settle = || {
            if self.lost.is_empty() && disk.size().map_err(Failure::Disk)? < DATA_START {
                // All log, and short.
                disk.sync().map_err(Failure::Disk)?;
                return volume.mark(disk, volume.moment());
            }
            volume.checkpoint(disk, &mut SysRng)?;
            disk.sync().map_err(Failure::Disk)?;
            disk.set_size(volume.data_end()?).map_err(Failure::Disk)
        };
        settle().map_err(unwritten)
    }
}

impl Sink for Writing<'_> {
    fn data(&mut self, bytes: &[u8]) -> Result<(), TransferError> {
        self.volume
            .write(&self.disk, &mut SysRng, self.at, bytes)
            .map_err(unwritten)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn hole(&mut self, len: u64) -> Result<(), TransferError> {
        self.at += len;
        Ok(())
    }
}

/// Opens all of a file into `sink`, which is given authenticated bytes only; but that the file is
/// whole is certain only on success. Answers `false` for an empty file that nothing vouches for.
///
/// # Errors
/// Where reading or writing fails, the key is not in the ring, or the file is not authentic.
pub fn open(
    ring: &KeyRing,
    file: &SealedFile<'_>,
    wait: Duration,
    sink: &mut impl Sink,
    progress: impl FnMut(u64),
) -> Result<bool, TransferError> {
    let Some(mut volume) = file.volume(ring, wait)? else {
        return Ok(false);
    };
    read_all(&mut volume, file.disk(), sink, progress)?;
    Ok(true)
}

/// Opens a file that nobody changes and seals it again, with the key of the ring that seals, into a
/// new file of the same cipher and chunk size, with the same holes. Answers what it was.
///
/// # Errors
/// As [`open`]; what was written then is of no use.
pub fn reseal(
    ring: &KeyRing,
    file: &SealedFile<'_>,
    output: &File,
    progress: impl FnMut(u64),
) -> Result<Option<Volume>, TransferError> {
    let params = file.header()?.params();
    let (key, disk) = (ring.sealing(), file.disk());
    let mut volume = file.look(ring)?.0;
    let has_holes = match &mut volume {
        Some(volume) => {
            let hole = volume.seek(&disk, 0, true);
            hole.is_ok_and(|hole| hole < volume.size())
        }
        None => false,
    };
    match &mut volume {
        Some(volume) if has_holes => {
            let mut writing = Writing::new(key, params, output)?;
            read_all(volume, disk, &mut writing, progress)?;
            writing.end()?;
        }
        Some(volume) => {
            let mut sealing = Sealing::new(key, params, output)?;
            read_all(volume, disk, &mut sealing, progress)?;
            sealing.end()?;
        }
        None => Sealing::new(key, params, output)?.end()?,
    }
    Ok(volume)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use sealed::{ChunkSize, Error};

    use super::*;

    fn key() -> MasterKey {
        MasterKey::from_bytes([6; 32])
    }

    fn ring() -> KeyRing {
        let mut ring = KeyRing::new("first", MasterKey::from_bytes([5; 32]));
        ring.add("second", key());
        ring
    }

    fn open(
        sealed: &[u8],
        sink: &mut impl Sink,
        progress: impl FnMut(u64),
    ) -> Result<bool, TransferError> {
        let file = spool(sealed).unwrap();
        let file = SealedFile::new(&file).unwrap();
        super::open(&ring(), &file, Duration::ZERO, sink, progress)
    }

    fn params() -> Params {
        Params {
            chunk_size: ChunkSize::MIN,
            ..Params::default()
        }
    }

    fn sealed(plaintext: &[u8]) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        seal(&key(), params(), plaintext, &mut out, |_| ()).unwrap();
        out.into_inner()
    }

    #[test]
    fn round_trip_of_more_than_a_buffer() {
        for len in [0, 1, 512, 30_000, 3 * READ_LEN + 5] {
            let plaintext: Vec<u8> = (0..len).map(|i| (i >> 3) as u8).collect();
            let mut seen = 0;
            let mut opened = Vec::new();
            assert!(open(&sealed(&plaintext), &mut opened, |len| seen += len).unwrap());
            assert!(opened == plaintext && seen == len as u64);
        }
        assert!(!open(&[], &mut Nowhere, |_| ()).unwrap());
        assert!(!open(&[0; 700], &mut Nowhere, |_| ()).unwrap());
    }

    #[test]
    fn what_a_cut_file_gives_is_the_beginning_and_an_error() {
        let plaintext = vec![9; 2 * READ_LEN];
        let sealed = sealed(&plaintext);
        let mut opened = Vec::new();
        let error = open(&sealed[..sealed.len() - 1], &mut opened, |_| ()).unwrap_err();
        assert!(matches!(
            error,
            TransferError::Sealed(Error::ChunkCorrupt { index: 4095 })
        ));
        assert!(opened.len() > READ_LEN && plaintext.starts_with(&opened));
    }

    #[test]
    fn the_key_is_chosen_by_the_header() {
        let file = spool(&sealed(b"x")[..]).unwrap();
        let file = SealedFile::new(&file).unwrap();
        assert_eq!(file.key_id(), Some(key().id()));
        let ring = KeyRing::new("other", MasterKey::from_bytes([5; 32]));
        let error = super::open(&ring, &file, Duration::ZERO, &mut Nowhere, |_| ()).unwrap_err();
        assert!(matches!(error, TransferError::Key(_)));
        let file = spool(&b"text"[..]).unwrap();
        assert_eq!(SealedFile::new(&file).unwrap().key_id(), None);
        assert!(matches!(
            open(b"text", &mut Nowhere, |_| ()),
            Err(TransferError::Sealed(Error::NotSealed))
        ));
    }

    #[test]
    fn failures_of_reader_and_writer_are_told_apart() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        impl Seek for Broken {
            fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
                Err(io::ErrorKind::NotSeekable.into())
            }
        }
        let params = Params::default();
        let error = seal(&key(), params, Broken, Cursor::new(Vec::new()), |_| ()).unwrap_err();
        assert!(matches!(error, TransferError::Read(_)));
        let error = seal(&key(), params, &b"x"[..], Broken, |_| ()).unwrap_err();
        assert!(matches!(error, TransferError::Write(_)));
    }

    #[test]
    fn holes_stay_holes_and_what_is_lost_stays_lost() {
        let file = tempfile::tempfile().unwrap();
        let mut writing = Writing::new(&key(), params(), &file).unwrap();
        writing.data(&[1; 512]).unwrap();
        writing.hole(1 << 30).unwrap();
        writing.data(&[2; 700]).unwrap();
        writing.end().unwrap();
        let copy = tempfile::tempfile().unwrap();
        let mut ring = KeyRing::new("new", MasterKey::from_bytes([7; 32]));
        ring.add("old", key());
        let sealed = SealedFile::new(&file).unwrap();
        assert!(reseal(&ring, &sealed, &copy, |_| ()).unwrap().is_some());
        let copied = SealedFile::new(&copy).unwrap();
        assert_eq!(copied.key_id(), Some(ring.sealing().id()));
        let mut volume = copied.volume(&ring, Duration::ZERO).unwrap().unwrap();
        let disk = copied.disk();
        assert_eq!(volume.size(), 512 + (1 << 30) + 700);
        assert_eq!(volume.seek(&disk, 0, true).unwrap(), 512);
        assert_eq!(volume.seek(&disk, 512, false).unwrap(), 512 + (1 << 30));

        let file = tempfile::tempfile().unwrap();
        let mut writing = Writing::new(&key(), params(), &file).unwrap();
        writing.data(&[1; 512]).unwrap();
        writing.lose(512);
        writing.data(&[3; 5]).unwrap();
        writing.end().unwrap();
        let sealed = SealedFile::new(&file).unwrap();
        let mut volume = sealed.volume(&ring, Duration::ZERO).unwrap().unwrap();
        let disk = sealed.disk();
        let mut out = [0; 512];
        assert!(volume.read(&disk, 1, &mut out).is_err());
        assert_eq!(volume.read(&disk, 2, &mut out[..5]).unwrap(), 5);
        assert_eq!(out[..5], [3; 5]);
        // Until it is written over.
        volume.write(&disk, &mut SysRng, 512, &[4; 512]).unwrap();
        assert_eq!(volume.read(&disk, 1, &mut out).unwrap(), 512);
        assert_eq!(out, [4; 512]);
    }
}
