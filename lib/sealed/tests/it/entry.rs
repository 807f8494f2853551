//! Entry points for hostile input. Each takes any bytes at all and panics if the crate breaks a
//! promise. The fuzz targets in `fuzz/` include this file; `hostile.rs` runs it briefly in every
//! `cargo test`.

use std::cell::RefCell;
use std::convert::Infallible;
use std::sync::LazyLock;

use rand_core::{TryCryptoRng, TryRng};
use sealed::{
    ChunkSize, Cipher, Disk, Error, Failure, FileCipher, FileKey, Found, HEADER_LEN, Header,
    Layout, MasterKey, OVERHEAD, Params, ReadOnly, Salvage, Volume,
};

/// Nonces that count up: unique, which is all that sealing for a test needs.
struct Counter(u64);

impl TryRng for Counter {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|word| word as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0 += 1;
        Ok(self.0)
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        for piece in dst.chunks_mut(4) {
            self.0 += 1;
            piece.copy_from_slice(&self.0.to_le_bytes()[..piece.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for Counter {}

fn master() -> MasterKey {
    MasterKey::from_bytes([0x42; 32])
}

/// Takes the first byte of `data` for a choice of parameters.
fn take_params(data: &mut &[u8]) -> Params {
    let choice = take_byte(data);
    Params {
        cipher: Cipher::ALL[usize::from(choice & 1)],
        chunk_size: ChunkSize::from_log2(9 + ((choice >> 1) & 7)).expect("9 to 16"),
    }
}

fn take_byte(data: &mut &[u8]) -> u8 {
    data.split_off_first().copied().unwrap_or(0)
}

fn take_u64(data: &mut &[u8]) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|_| take_byte(data)))
}

/// Any bytes as the beginning of a file. Nobody can make a header without the key, so nothing
/// verifies.
pub fn header(data: &[u8]) {
    if let Ok(unverified) = Header::parse(data) {
        assert!(data.len() >= HEADER_LEN);
        assert_ne!(unverified.params().chunk_size.bytes(), 0);
        match unverified.verify(&master()) {
            Ok(key) => assert_eq!(key.header().encode(), data[..HEADER_LEN]),
            Err(Error::WrongKey { .. } | Error::HeaderCorrupt) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Any bytes as offsets and sizes.
pub fn layout(mut data: &[u8]) {
    let layout: Layout = take_params(&mut data).layout();
    let (a, b) = (take_u64(&mut data), take_u64(&mut data));
    if let Ok(end) = layout.data_end(a) {
        let chunks = layout.chunks(a);
        let last = chunks.saturating_sub(1);
        assert!(chunks == 0 || layout.chunk_offset(last).is_ok_and(|offset| offset < end));
        assert_eq!(layout.chunk_len(chunks, a), 0);
    }
    if let Ok(offset) = layout.chunk_offset(a) {
        let leaf = layout
            .node_offset(0, a / sealed::FAN_OUT)
            .expect("it lies before");
        let before = (a % sealed::FAN_OUT) as usize * layout.sealed_chunk_len();
        assert_eq!(offset - leaf, (2 * sealed::SLOT_LEN + before) as u64);
    }
    let level = (b % 9) as u8;
    let _ = layout.node_offset(level, a);
    if let Ok(len) = layout.opened_len(b as usize) {
        assert_eq!(layout.sealed_len(len), Ok(b as usize));
    }
    let together = layout.together(a, b);
    assert!(together <= b && (together > 0) == (b > 0));
}

/// Any bytes as a run of chunks: they do not open, and nothing is left in the buffer.
pub fn chunk_run(mut data: &[u8]) {
    let params = take_params(&mut data);
    let first = take_u64(&mut data);
    let file = FileCipher::new(&FileKey::new(&master(), params, [0; 32]));
    let len = file.layout().opened_len(data.len()).unwrap_or(77);
    let mut plaintext = vec![0xFF; len];
    match file.open_chunks(first, data, &mut plaintext) {
        Ok(()) => assert!(data.is_empty()),
        Err(_) => assert!(plaintext.iter().all(|&byte| byte == 0)),
    }
}

/// A file in memory.
#[derive(Clone, Default)]
struct Memory(RefCell<Vec<u8>>);

impl Disk for Memory {
    type Error = ReadOnly;

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, ReadOnly> {
        self.0.borrow().as_slice().read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<(), ReadOnly> {
        // What a file that was altered makes the log go to may be anywhere.
        let end = usize::try_from(offset)
            .ok()
            .and_then(|offset| offset.checked_add(buf.len()))
            .filter(|&end| end < 1 << 24)
            .ok_or(ReadOnly)?;
        let mut bytes = self.0.borrow_mut();
        let len = bytes.len().max(end);
        bytes.resize(len, 0);
        bytes[end - buf.len()..end].copy_from_slice(buf);
        Ok(())
    }

    fn sync(&self) -> Result<(), ReadOnly> {
        Ok(())
    }

    fn set_size(&self, size: u64) -> Result<(), ReadOnly> {
        self.0.borrow_mut().resize(size as usize, 0);
        Ok(())
    }

    fn size(&self) -> Result<u64, ReadOnly> {
        Ok(self.0.borrow().len() as u64)
    }
}

fn open(sealed: &[u8]) -> Result<Option<Volume>, Error> {
    Volume::open(sealed, |head| FileCipher::open(&master(), head))
        .map(|opened| opened.volume)
        .map_err(|failure| match failure {
            Failure::Sealed(error) => error,
            Failure::Disk(ReadOnly) => panic!("memory can be read"),
        })
}

/// All of a file, or the first error.
fn content(sealed: &[u8]) -> Result<Vec<u8>, Error> {
    let Some(mut volume) = open(sealed)? else {
        return Ok(Vec::new());
    };
    let mut plaintext = vec![0; volume.size() as usize];
    let mut done = 0;
    while done < plaintext.len() {
        let first = volume.layout().chunk_index(done as u64);
        match volume.read(sealed, first, &mut plaintext[done..]) {
            Ok(read) => done += read,
            Err(Failure::Sealed(error)) => return Err(error),
            Err(Failure::Disk(ReadOnly)) => panic!("memory can be read"),
        }
    }
    Ok(plaintext)
}

/// Any bytes as a file: without the key nobody makes one that opens.
pub fn whole_file(data: &[u8]) {
    match content(data) {
        Ok(content) => {
            let head = &data[..data.len().min(512)];
            assert!(content.is_empty() && head.iter().all(|&byte| byte == 0));
        }
        Err(error) => assert!(!data.is_empty(), "{error}"),
    }
}

/// A file with all its states: the last one has a checkpoint below it, and a log, with what was appended to
/// a chunk of the checkpoint's and to one of the log's.
type History = Vec<(Vec<u8>, Vec<u8>)>;

fn history() -> &'static History {
    static HISTORY: LazyLock<History> = LazyLock::new(|| {
        let params = Params {
            cipher: Cipher::default(),
            chunk_size: ChunkSize::MIN,
        };
        let mut rng = Counter(0);
        let disk = Memory::default();
        let key = FileKey::new(&master(), params, [2; 32]);
        let mut volume = Volume::create(FileCipher::new(&key), &mut rng).expect("random bytes");
        let mut states = vec![(Vec::new(), Vec::new())];
        let plaintext: Vec<u8> = (0..1300).map(|i| (i ^ (i >> 8)) as u8).collect();
        for step in 0..11 {
            let end = volume.size();
            let done = match step {
                0 => volume.write(&disk, &mut rng, 0, &plaintext),
                1 => volume.write(&disk, &mut rng, 600, b"changed"),
                2 | 4 => volume.checkpoint(&disk, &mut rng),
                3 => volume.set_len(&disk, &mut rng, 900),
                5..=7 => volume.write(&disk, &mut rng, end, &plaintext[step * 10..step * 11]),
                9 | 10 => volume.write(&disk, &mut rng, end, &plaintext[..step]),
                _ => volume.write(&disk, &mut rng, 880, &plaintext[..500]),
            };
            done.expect("memory takes it");
            let bytes = disk.0.borrow().clone();
            states.push((content(&bytes).expect("nothing is wrong"), bytes));
        }
        states
    });
    &HISTORY
}

/// Any bytes over the log of a file, from anywhere on: what opens is one of its states.
pub fn log(mut data: &[u8]) {
    let (_, newest) = history().last().expect("states");
    let mut altered = newest.clone();
    let at = 1536 + usize::from(take_byte(&mut data)) * 8;
    let end = (at + data.len()).min(altered.len());
    altered[at..end].copy_from_slice(&data[..end - at]);
    is_a_state(&altered);
}

/// Any bytes over the superblocks and marks of a file: what opens is one of its states.
pub fn superblocks(mut data: &[u8]) {
    over(&mut data, &[512, 1024, 65536, 66048], 640);
}

/// Any bytes over the nodes of the tree of a file: what opens is one of its states.
pub fn nodes(mut data: &[u8]) {
    over(&mut data, &[131_072, 131_072 + 4096], 64);
}

/// Bytes over one of these parts, from somewhere in its first bytes on.
fn over(data: &mut &[u8], parts: &[usize], within: usize) {
    let (_, newest) = history().last().expect("states");
    let mut altered = newest.clone();
    let part = parts[usize::from(take_byte(data)) % parts.len()];
    let at = part + usize::from(take_byte(data)) * 4 % within;
    let end = (at + data.len()).min(altered.len());
    altered[at..end].copy_from_slice(&data[..end - at]);
    is_a_state(&altered);
    is_saved(&altered);
}

/// What is saved of an altered file: of each chunk a version that there was.
fn is_saved(altered: &[u8]) {
    let Ok(cipher) = FileCipher::open(&master(), altered) else {
        return;
    };
    let Ok(mut salvage) = Salvage::open(altered, cipher) else {
        return;
    };
    let size = salvage.size();
    assert!(size < 1 << 20);
    let mut index = salvage.next(altered, 0);
    while index < salvage.layout().chunks(size) {
        let mut chunk = vec![0; salvage.layout().chunk_len(index, size)];
        let found = salvage.chunk(altered, index, &mut chunk);
        let start = index as usize * 512;
        let mut states = history().iter();
        let is_version =
            states.any(|(state, _)| state.get(start..start + chunk.len()) == Some(&chunk));
        let is_blank = chunk.iter().all(|&byte| byte == 0);
        let found = found.expect("of that length");
        assert!(
            is_version || is_blank && found != Found::Newest,
            "{found:?}"
        );
        if found == Found::Nothing {
            for part in salvage
                .parts(altered, index, &mut chunk)
                .expect("of that length")
            {
                let bytes = start + part.start..start + part.end;
                let mut states = history().iter();
                assert!(
                    states.any(|(state, _)| state.get(bytes.clone()) == Some(&chunk[part.clone()]))
                );
            }
        }
        index = salvage.next(altered, index + 1);
    }
}

fn is_a_state(altered: &[u8]) {
    if let Ok(found) = content(altered) {
        assert!(history().iter().any(|(state, _)| *state == found));
    }
}

/// A file with a few edits, each of them any: what opens is one of its states; and what is written then
/// is written into that one.
pub fn edits(mut data: &[u8]) {
    let states = history();
    let (_, newest) = states.last().expect("states");
    let mut altered = newest.clone();
    let parts = [0, 512, 1024, 1536, 65536, 66048, 66560, 131_072, 139_264];
    while data.len() >= 5 {
        let (edit, part) = (take_byte(&mut data), take_byte(&mut data));
        let within = usize::from(take_byte(&mut data)) | usize::from(take_byte(&mut data)) << 8;
        let at = parts[usize::from(part) % parts.len()] + within % 2048;
        let value = take_byte(&mut data);
        if at >= altered.len() {
            continue;
        }
        let end = (at + 512 + OVERHEAD).min(altered.len());
        match edit % 6 {
            0 => altered[at] ^= value | 1,
            1 => altered.truncate(at),
            2 => altered.extend_from_within(at..end),
            3 => altered[at..end].fill(0),
            4 => drop(altered.drain(at..end)),
            _ => {
                // From another state.
                let (_, older) = &states[usize::from(value) % states.len()];
                let from = older.get(at..end.min(older.len())).unwrap_or_default();
                altered[at..at + from.len()].copy_from_slice(from);
            }
        }
    }
    is_saved(&altered);
    is_a_state(&altered);
    let disk = Memory(RefCell::new(altered.clone()));
    if let Ok(Some(mut volume)) = open(&altered)
        && volume.write(&disk, &mut Counter(1 << 40), 3, b"!").is_ok()
        && let Ok(found) = content(&disk.0.borrow())
    {
        let is_changed = |(state, _): &(Vec<u8>, Vec<u8>)| {
            let mut state = state.clone();
            state.resize(state.len().max(4), 0);
            state[3] = b'!';
            state == found
        };
        assert!(states.iter().any(is_changed));
    }
}
