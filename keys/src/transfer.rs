//! Sealing and opening from a reader to a writer, in constant memory: what is opened comes out chunk
//! by chunk, what is sealed a group of 256 chunks at a time, for a group's table goes before it.

use std::io::{self, Read, Seek, SeekFrom, Write};

use getrandom::SysRng;
use sealed::{
    ChunkSize, HEADER_LEN, Header, KeyId, MasterKey, Opener, Params, ROOT_OFFSET, Root, Sealer,
    UnverifiedHeader,
};
use zeroize::{Zeroize, Zeroizing};

use crate::ring::{KeyRing, UnknownKey};

/// Bytes read at a time: many chunks of any size, so that the cost per call vanishes.
const READ_LEN: usize = 1 << 20;

/// Bytes read at first: a small file needs no more, and to get and wipe the memory for the others
/// would take longer than to open it.
const FIRST_READ_LEN: usize = 32 << 10;

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
    #[error("{0}{hint}", hint = hint(.0))]
    Sealed(#[from] sealed::Error),
    /// The contents were sealed with a key that is not at hand.
    #[error("{0}")]
    Key(#[from] UnknownKey),
}

/// What to do about a file that may have been left like that by a power loss.
fn hint(error: &sealed::Error) -> &'static str {
    if error.is_of_versions() {
        " (after a power loss: `keys repair`)"
    } else {
        ""
    }
}

/// A sealed file that is about to be read, of which the beginning has been: enough to ask for the
/// key that opens it.
#[derive(Debug)]
pub struct SealedInput<R> {
    head: Vec<u8>,
    rest: R,
}

impl<R: Read> SealedInput<R> {
    /// Reads the beginning.
    ///
    /// # Errors
    /// As the reader.
    pub fn new(mut reader: R) -> io::Result<Self> {
        let mut head = Vec::with_capacity(HEADER_LEN);
        reader
            .by_ref()
            .take(HEADER_LEN as u64)
            .read_to_end(&mut head)?;
        Ok(Self { head, rest: reader })
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

    /// Whether there is nothing in it at all.
    pub fn is_empty(&self) -> bool {
        self.head.is_empty()
    }
}

/// What was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Bytes read: zero for a file that is empty and carries no seal.
    pub read: u64,
    /// Whether the file's last change was cut short, so that it was read as its journal restores
    /// it.
    pub restored: bool,
}

/// Seals all of `input` into `output`, which has to be at its beginning. `progress` is told the
/// length of each piece of input. Returns the number of bytes sealed.
pub fn seal(
    key: &MasterKey,
    params: Params,
    input: impl Read,
    mut output: impl Write + Seek,
    progress: impl FnMut(u64),
) -> Result<u64, TransferError> {
    let mut sealer = Sealer::new(key, params, SysRng)?;
    let mut out = Vec::new();
    let read = pump(input, &mut output, progress, &mut out, |bytes, out| {
        sealer.push(bytes, out)
    })?;
    let root = sealer.finish(&mut out)?;
    end(output, &out, root)?;
    Ok(read)
}

/// Writes the last bytes of a sealed file, then its root, with which it begins to open.
fn end(mut output: impl Write + Seek, rest: &[u8], root: Root) -> Result<(), TransferError> {
    output
        .write_all(rest)
        .and_then(|()| output.seek(SeekFrom::Start(ROOT_OFFSET)))
        .and_then(|_| output.write_all(root.as_bytes()))
        .map_err(TransferError::Write)
}

/// Opens all of `input` into `output`, which is given authenticated bytes only; but that the file
/// is whole is certain only on success. `progress` is told the length of each piece of input.
///
/// # Errors
/// Where reading or writing fails, the key is not in the ring, or the file is not authentic.
pub fn open(
    ring: &KeyRing,
    input: SealedInput<impl Read>,
    mut output: impl Write,
    progress: impl FnMut(u64),
) -> Result<Opened, TransferError> {
    // What is no sealed file gets its error from the opener, which any key is right for.
    let key = match input.key_id() {
        Some(id) => ring.for_file(id)?,
        None => ring.sealing(),
    };
    let mut opener = Opener::new(key);
    let mut out = Zeroizing::new(Vec::new());
    let input = input.head.as_slice().chain(input.rest);
    let read = pump(input, &mut output, progress, &mut out, |bytes, out| {
        opener.push(bytes, out)
    })?;
    let restored = opener.is_restored();
    opener.finish(&mut out)?;
    output.write_all(&out).map_err(TransferError::Write)?;
    Ok(Opened { read, restored })
}

/// Opens all of `input` and seals it again, with the key of the ring that seals, into a new file of
/// the same cipher and chunk size, which has to be at its beginning. `progress` is told the length
/// of each piece of input.
///
/// # Errors
/// As [`open`]; what was written then is of no use.
pub fn reseal(
    ring: &KeyRing,
    input: SealedInput<impl Read>,
    mut output: impl Write + Seek,
    progress: impl FnMut(u64),
) -> Result<(), TransferError> {
    let header = input.header()?;
    let mut opener = Opener::new(ring.for_file(header.key_id())?);
    // The opener finds out if the header says anything that is not authentic.
    let mut sealer = Sealer::new(ring.sealing(), header.params(), SysRng)?;
    let mut plaintext = Zeroizing::new(Vec::new());
    let mut out = Vec::new();
    let input = input.head.as_slice().chain(input.rest);
    pump(input, &mut output, progress, &mut out, |bytes, out| {
        make_room(&mut plaintext, bytes.len());
        opener.push(bytes, &mut plaintext)?;
        sealer.push(&plaintext, out)?;
        plaintext.clear();
        Ok(())
    })?;
    opener.finish(&mut plaintext)?;
    sealer.push(&plaintext, &mut out)?;
    let root = sealer.finish(&mut out)?;
    end(output, &out, root)
}

/// Reads to the end, passes each piece through `push` and writes what comes of it. Leaves room in
/// `out` for what the end gives of plaintext; of sealed bytes it may be more, a group of chunks.
fn pump(
    mut input: impl Read,
    mut output: impl Write,
    mut progress: impl FnMut(u64),
    out: &mut Vec<u8>,
    mut push: impl FnMut(&[u8], &mut Vec<u8>) -> Result<(), sealed::Error>,
) -> Result<u64, TransferError> {
    let mut buffer = Zeroizing::new(vec![0; FIRST_READ_LEN]);
    make_room(out, buffer.len());
    let mut total = 0;
    loop {
        let len = match input.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(TransferError::Read(error)),
        };
        push(&buffer[..len], out)?;
        output.write_all(out).map_err(TransferError::Write)?;
        out.clear();
        total += len as u64;
        progress(len as u64);
        if total >= FIRST_READ_LEN as u64 && buffer.len() < READ_LEN {
            buffer = Zeroizing::new(vec![0; READ_LEN]);
            make_room(out, buffer.len());
        }
    }
}

/// Gives an empty buffer room for the plaintext that `len` sealed bytes can turn into, so that it
/// never moves and leaves a copy behind.
fn make_room(buffer: &mut Vec<u8>, len: usize) {
    // What was held back of a chunk comes in front, and what the journal has of one.
    let most = len + 4 * ChunkSize::MAX.bytes();
    if buffer.capacity() < most {
        // The old place is wiped before it is given up.
        buffer.zeroize();
        buffer.reserve_exact(most);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use sealed::Error;

    use super::*;

    fn key() -> MasterKey {
        MasterKey::from_bytes([6; 32])
    }

    fn open(
        input: impl Read,
        output: impl Write,
        progress: impl FnMut(u64),
    ) -> Result<Opened, TransferError> {
        let mut ring = KeyRing::new("first", MasterKey::from_bytes([5; 32]));
        ring.add("second", key());
        super::open(&ring, SealedInput::new(input).unwrap(), output, progress)
    }

    fn sealed(plaintext: &[u8]) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        let params = Params {
            chunk_size: ChunkSize::MIN,
            ..Params::default()
        };
        seal(&key(), params, plaintext, &mut out, |_| ()).unwrap();
        out.into_inner()
    }

    #[test]
    fn round_trip_of_more_than_a_buffer() {
        let plaintext: Vec<u8> = (0..3 * READ_LEN + 5).map(|i| (i >> 3) as u8).collect();
        let mut seen = 0;
        let mut opened = Vec::new();
        let sealed = sealed(&plaintext);
        let done = open(&sealed[..], &mut opened, |len| seen += len).unwrap();
        assert!(opened == plaintext && !done.restored);
        assert_eq!(done.read, sealed.len() as u64);
        assert_eq!(seen, done.read);
    }

    #[test]
    fn what_a_cut_file_gives_is_the_beginning_and_an_error() {
        let plaintext = vec![9; 2 * READ_LEN];
        let sealed = sealed(&plaintext);
        let mut opened = Vec::new();
        let error = open(&sealed[..sealed.len() - 1], &mut opened, |_| ()).unwrap_err();
        assert!(matches!(
            error,
            TransferError::Sealed(Error::Truncated | Error::ChunkCorrupt { .. })
        ));
        assert!(plaintext.starts_with(&opened));
    }

    #[test]
    fn the_key_is_chosen_by_the_header() {
        let sealed = sealed(b"x");
        let input = SealedInput::new(&sealed[..]).unwrap();
        assert_eq!(input.key_id(), Some(key().id()));
        let ring = KeyRing::new("other", MasterKey::from_bytes([5; 32]));
        let error = super::open(&ring, input, io::sink(), |_| ()).unwrap_err();
        assert!(matches!(error, TransferError::Key(_)));
        assert_eq!(SealedInput::new(&b"text"[..]).unwrap().key_id(), None);
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
}
