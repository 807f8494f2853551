//! Entry points for hostile input. Each takes any bytes at all and panics if the crate breaks a
//! promise. The fuzz targets in `fuzz/` include this file; `hostile.rs` runs it briefly in every
//! `cargo test`.

use std::convert::Infallible;

use rand_core::{TryCryptoRng, TryRng};
use sealed::{
    ChunkSize, Cipher, Entry, Error, FileCipher, FileKey, GROUP_CHUNKS, HEADER_LEN, Header, Layout,
    MasterKey, Opener, Params, ROOT_OFFSET, Restore, Root, Stamp, TABLE_LEN,
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
    if let Ok(plaintext) = layout.plaintext_size(a) {
        assert!(a == 0 || layout.physical_size(plaintext) == Ok(a));
    }
    if let Ok(physical) = layout.physical_size(a) {
        assert_eq!(layout.plaintext_size(physical), Ok(a));
    }
    if let Ok(chunks) = layout.chunks_of(a, b) {
        assert_eq!(chunks.is_empty(), b == 0);
    }
    if let Ok(offset) = layout.chunk_offset(a) {
        let table = layout
            .table_offset(a / GROUP_CHUNKS)
            .expect("it lies before");
        let before = (a % GROUP_CHUNKS) as usize * layout.sealed_chunk_len();
        assert_eq!(offset - table, (TABLE_LEN + before) as u64);
    }
    let together = layout.together(a, b);
    assert!(together <= b && (together > 0) == (b > 0));
}

/// Any bytes as a run of chunks: they do not open, and nothing is left in the buffer.
pub fn chunk_run(mut data: &[u8]) {
    let params = take_params(&mut data);
    let ends_file = take_byte(&mut data) & 1 == 1;
    let first = take_u64(&mut data);
    let file = FileCipher::new(&FileKey::new(&master(), params, [0; 32]));
    let layout = file.layout();

    let len = if ends_file {
        layout.opened_len_to_end(data.len())
    } else {
        layout.opened_run_len(data.len())
    };
    let mut plaintext = vec![0xFF; len.unwrap_or(77)];
    let outcome = if ends_file {
        file.open_to_end(first, data, &mut plaintext)
    } else {
        file.open_run(first, data, &mut plaintext)
    };
    match outcome {
        Ok(()) => assert!(data.is_empty() && !ends_file),
        Err(_) => assert!(plaintext.iter().all(|&byte| byte == 0)),
    }
}

/// Any bytes as a journal behind a live mark: what opens is the file, at most cut or with a chunk
/// put back, and never anything else.
pub fn journal(mut data: &[u8]) {
    let master = master();
    let file = FileCipher::new(&FileKey::new(&master, take_params(&mut data), [2; 32]));
    let mut sealed = sealed_file(&file, b"abc");
    let journal = &mut sealed[HEADER_LEN..][..file.layout().journal_len()];
    let live = file.encode_entry(&Entry {
        root: Root::default(),
        stamp: Stamp::default(),
        restore: Some(Restore::Empty),
    });
    let given = data.len().min(journal.len() - Root::LEN);
    journal[Root::LEN..][..given].copy_from_slice(&data[..given]);
    journal[80..96].copy_from_slice(&live[80..]);
    // Only the kind of an entry that needs no chunk can be hit without the key.
    let empties = journal[24] == 1;

    let mut opener = Opener::new(&master);
    let mut out = Vec::new();
    opener
        .push(&sealed, &mut out)
        .and_then(|()| opener.finish(&mut out))
        .expect("a void entry is no entry");
    assert_eq!(out, if empties { &b""[..] } else { b"abc" });
}

/// A whole file.
fn sealed_file(file: &FileCipher, plaintext: &[u8]) -> Vec<u8> {
    let mut tree = file.new_tree();
    let image = file
        .seal_image(&mut tree, 0, plaintext, &mut Counter(0))
        .expect("small");
    let mut sealed = file.header().encode().to_vec();
    sealed.resize(file.layout().data_start() as usize, 0);
    sealed.extend_from_slice(&tree.table(0));
    sealed.resize(file.layout().data_start() as usize + TABLE_LEN, 0);
    sealed.extend_from_slice(&image);
    let root = tree.root(plaintext.len() as u64);
    sealed[ROOT_OFFSET as usize..][..Root::LEN].copy_from_slice(root.as_bytes());
    sealed
}

/// Any bytes as what follows an authentic header, and as a whole file: the stream gives nothing.
pub fn whole_file(mut data: &[u8]) {
    let master = master();
    let piece = usize::from(take_byte(&mut data)) * 8 + 1;
    let authentic = FileKey::new(&master, take_params(&mut data), [1; 32]);
    for start in [&authentic.header().encode()[..], &[]] {
        let mut opener = Opener::new(&master);
        let mut out = Vec::new();
        let outcome = start
            .chunks(piece)
            .chain(data.chunks(piece))
            .try_for_each(|part| opener.push(part, &mut out))
            .and_then(|()| opener.finish(&mut out));
        assert!(outcome.is_err() || (start.is_empty() && data.is_empty()));
        assert!(out.is_empty());
    }
}

/// An authentic file, cut up and altered as the bytes say: it opens only if nothing changed.
pub fn edits(mut data: &[u8]) {
    let master = master();
    let mut params = take_params(&mut data);
    params.chunk_size = ChunkSize::MIN;
    let plaintext: Vec<u8> = (0..usize::from(take_byte(&mut data)) * 8)
        .map(|i| (i ^ (i >> 8)) as u8)
        .collect();

    let file = FileCipher::new(&FileKey::new(&master, params, [2; 32]));
    let layout = file.layout();
    let original = sealed_file(&file, &plaintext);

    let mut altered = original.clone();
    while !data.is_empty() {
        let edit = take_byte(&mut data);
        let at = usize::from(u16::from_le_bytes([
            take_byte(&mut data),
            take_byte(&mut data),
        ]));
        let at = at % (altered.len() + 1);
        let chunk = (at + layout.sealed_chunk_len()).min(altered.len());
        match edit % 5 {
            0 if at < altered.len() => altered[at] ^= edit | 1,
            1 => altered.truncate(at),
            2 => altered.extend_from_within(at..chunk),
            3 => drop(altered.drain(at..chunk)),
            _ => {
                let moved: Vec<u8> = altered.drain(at..chunk).collect();
                let to = usize::from(edit) * 64 % (altered.len() + 1);
                altered.splice(to..to, moved);
            }
        }
    }

    let mut opener = Opener::new(&master);
    let mut out = Vec::new();
    let outcome = opener
        .push(&altered, &mut out)
        .and_then(|()| opener.finish(&mut out));
    // Nothing but the root is read from a journal that is not live, and none can be made live
    // without the key; nothing but tags of the table, for there is one group.
    let table = layout.data_start() as usize;
    let tags = table + 16..table + 16 + 16 * (plaintext.len() / layout.chunk_size() + 1);
    let read = |bytes: &[u8]| -> Option<Vec<u8>> {
        Some(
            [
                bytes.get(..HEADER_LEN + Root::LEN)?,
                bytes.get(tags.clone())?,
                bytes.get(table + TABLE_LEN..)?,
            ]
            .concat(),
        )
    };
    if read(&altered) == read(&original) {
        assert_eq!(outcome, Ok(()));
        assert_eq!(out, plaintext);
    } else if altered.is_empty() {
        assert!(outcome.is_ok() && out.is_empty());
    } else {
        assert!(outcome.is_err());
        assert!(plaintext.starts_with(&out));
    }
}
