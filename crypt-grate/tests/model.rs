//! Sealed files against a model: a plain vector of bytes.

use crypt_grate::sealed_file::{Content, Error, Keys, SealedFile, Sealing, software};
use crypt_grate::storage::{Errno, Storage};
use proptest::prelude::*;
use rand_core::{TryCryptoRng, TryRng};
use sealed::{ChunkSize, Cipher, ENTRY_LEN, GROUP_CHUNKS, HEADER_LEN, MasterKey, Params, Root};
use std::cell::{Cell, RefCell};
use std::convert::Infallible;

/// A repeatable source of distinct bytes, for tests only.
struct Counter(u64);

impl TryRng for Counter {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|word| word as u32)
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0 += 1;
        Ok(self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }
    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        for part in dst.chunks_mut(8) {
            let word = self.try_next_u64()?.to_le_bytes();
            part.copy_from_slice(&word[..part.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for Counter {}

/// A disk in memory that moves a few bytes at a time and can be full.
#[derive(Default)]
struct Disk {
    bytes: RefCell<Vec<u8>>,
    /// No write beyond this size.
    capacity: Cell<Option<usize>>,
    /// Most bytes one call moves.
    stride: Cell<usize>,
}

impl Disk {
    fn new() -> Self {
        let disk = Self::default();
        disk.stride.set(usize::MAX);
        disk
    }
}

impl Storage for Disk {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        let bytes = self.bytes.borrow();
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(buf.len()).min(self.stride.get());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize, Errno> {
        let mut bytes = self.bytes.borrow_mut();
        let offset = offset as usize;
        let room = self.capacity.get().map_or(usize::MAX, |most| {
            most.max(bytes.len()).saturating_sub(offset)
        });
        let len = buf.len().min(self.stride.get()).min(room);
        if len == 0 && !buf.is_empty() {
            return Err(Errno::ENOSPC);
        }
        if bytes.len() < offset + len {
            bytes.resize(offset + len, 0);
        }
        bytes[offset..offset + len].copy_from_slice(&buf[..len]);
        Ok(len)
    }

    fn size(&self) -> Result<u64, Errno> {
        Ok(self.bytes.borrow().len() as u64)
    }

    fn set_size(&self, size: u64) -> Result<(), Errno> {
        self.bytes.borrow_mut().resize(size as usize, 0);
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Op {
    /// At the end, where no place is named.
    Write {
        at: Option<usize>,
        len: usize,
        byte: u8,
    },
    Read {
        at: usize,
        len: usize,
    },
    SetLen(usize),
    /// Another descriptor, which knows nothing yet.
    Reopen,
    /// A full disk for the next operations, with so many bytes left.
    Fill(usize),
    /// Room again.
    Free,
}

fn op() -> impl Strategy<Value = Op> {
    // Around the edges of chunks of 512 bytes, mostly.
    let place = prop_oneof![
        0usize..2100,
        (0usize..5).prop_flat_map(|c| (c * 512).saturating_sub(2)..c * 512 + 3)
    ];
    let len = prop_oneof![0usize..1200, Just(512), Just(511), Just(513), Just(1)];
    prop_oneof![
        4 => (place.clone(), len.clone(), any::<u8>()).prop_map(|(at, len, byte)| Op::Write { at: Some(at), len, byte }),
        2 => (len.clone(), any::<u8>()).prop_map(|(len, byte)| Op::Write { at: None, len, byte }),
        3 => (place.clone(), len).prop_map(|(at, len)| Op::Read { at, len }),
        2 => place.prop_map(Op::SetLen),
        1 => Just(Op::Reopen),
        1 => (0usize..1500).prop_map(Op::Fill),
        1 => Just(Op::Free),
    ]
}

/// Bytes of plaintext in a group of chunks.
const GROUP: usize = GROUP_CHUNKS as usize * 512;

impl Op {
    fn moved_by(self, base: usize) -> Self {
        match self {
            Op::Write {
                at: Some(at),
                len,
                byte,
            } => Op::Write {
                at: Some(at + base),
                len,
                byte,
            },
            Op::Read { at, len } => Op::Read { at: at + base, len },
            Op::SetLen(len) => Op::SetLen(len + base),
            other => other,
        }
    }
}

/// Bytes that differ from place to place, so that a shift shows.
fn pattern(len: usize, byte: u8) -> Vec<u8> {
    (0..len).map(|i| byte.wrapping_add(i as u8)).collect()
}

fn key() -> MasterKey {
    MasterKey::from_bytes([3; 32])
}

fn keys(master: &MasterKey) -> Keys<'_> {
    Keys {
        master,
        others: &[],
        aead: software,
    }
}

fn params(cipher: Cipher) -> Params {
    Params {
        cipher,
        chunk_size: ChunkSize::MIN,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_sealed_file_behaves_like_a_vector(
        // Most of what is done is done there: also around the edges of groups.
        base in prop_oneof![4 => Just(0), 1 => Just(GROUP - 1024), 1 => Just(2 * GROUP - 1024)],
        ops in prop::collection::vec((op(), any::<bool>(), any::<bool>()), 1..40),
        stride in prop_oneof![Just(usize::MAX), 1usize..700],
        gcm in any::<bool>(),
    ) {
        let cipher = if gcm { Cipher::Aes256Gcm } else { Cipher::XChaCha20Poly1305 };
        let key = key();
        let disk = Disk::new();
        disk.stride.set(stride);
        let mut rng = Counter(0);
        let mut file = SealedFile::default();
        let mut model: Vec<u8> = pattern(base, 77);
        let mut with = Sealing { keys: keys(&key), params: params(cipher), rng: &mut rng };
        prop_assert_eq!(file.write(&disk, &mut with, 0, &model), Ok(base));
        for (op, a, b) in ops {
            let mut with = Sealing { keys: keys(&key), params: params(cipher), rng: &mut rng };
            let op = op.moved_by(if a || b { base } else { 0 });
            match op.clone() {
                Op::Write { at, len, byte } => {
                    let at = at.unwrap_or(model.len());
                    let data = pattern(len, byte);
                    match file.write(&disk, &mut with, at as u64, &data) {
                        Ok(written) => {
                            prop_assert!(written <= len && (written > 0) == (len > 0));
                            prop_assert!(written == len || disk.capacity.get().is_some());
                            if written > 0 {
                                if model.len() < at + written {
                                    model.resize(at + written, 0);
                                }
                                model[at..at + written].copy_from_slice(&data[..written]);
                            }
                        }
                        Err(error) => {
                            prop_assert_eq!(error, Error::Storage(Errno::ENOSPC));
                            prop_assert!(disk.capacity.get().is_some());
                        }
                    }
                }
                Op::Read { at, len } => {
                    let mut out = vec![0xEE; len];
                    let read = file.read(&disk, keys(&key), at as u64, &mut out).unwrap();
                    let expected = model.get(at..model.len().min(at + len)).unwrap_or_default();
                    prop_assert_eq!(&out[..read], expected);
                }
                Op::SetLen(len) => match file.set_len(&disk, &mut with, len as u64) {
                    Ok(()) => model.resize(len, 0),
                    Err(error) => {
                        prop_assert_eq!(error, Error::Storage(Errno::ENOSPC));
                        prop_assert!(disk.capacity.get().is_some());
                    }
                },
                Op::Reopen => file = SealedFile::default(),
                Op::Fill(left) => disk.capacity.set(Some(disk.bytes.borrow().len() + left)),
                Op::Free => disk.capacity.set(None),
            }
            prop_assert_eq!(file.len(&disk, keys(&key)).unwrap(), model.len() as u64, "after {:?}", op);
        }
        let mut all = vec![0; model.len() + 10];
        let read = SealedFile::default().read(&disk, keys(&key), 0, &mut all).unwrap();
        prop_assert_eq!(&all[..read], model.as_slice());
    }
}

fn sealed_disk(content: &[u8]) -> Disk {
    let disk = Disk::new();
    let (key, mut rng) = (key(), Counter(0));
    let mut with = Sealing {
        keys: keys(&key),
        params: params(Cipher::XChaCha20Poly1305),
        rng: &mut rng,
    };
    SealedFile::default()
        .write(&disk, &mut with, 0, content)
        .unwrap();
    disk
}

fn read_all(disk: &Disk, most: usize) -> Result<Vec<u8>, Error> {
    let mut out = vec![0; most];
    let read = SealedFile::default().read(disk, keys(&key()), 0, &mut out)?;
    out.truncate(read);
    Ok(out)
}

#[test]
fn no_flipped_bit_and_no_cut_is_read_as_data() {
    let content = pattern(1100, 9);
    let disk = sealed_disk(&content);
    let good = disk.bytes.borrow().clone();
    let layout = params(Cipher::XChaCha20Poly1305).layout();
    let table = layout.data_start() as usize;
    // Nothing but the root is read from a journal that is clear, and nothing but the tags of the
    // chunks there are from the last table.
    let unread = [
        HEADER_LEN + Root::LEN..table + 16,
        table + 16 + 3 * 16..layout.chunk_offset(0).unwrap() as usize,
    ];
    for bit in 0..good.len() * 8 {
        disk.bytes.borrow_mut()[bit / 8] ^= 1 << (bit % 8);
        let is_read = !unread.iter().any(|bytes| bytes.contains(&(bit / 8)));
        match read_all(&disk, 4096) {
            Ok(read) => assert!(!is_read && read == content, "bit {bit}"),
            Err(_) => assert!(is_read, "bit {bit}"),
        }
        disk.bytes.borrow_mut()[bit / 8] ^= 1 << (bit % 8);
    }
    for len in 1..good.len() {
        disk.bytes.borrow_mut().truncate(len);
        assert!(read_all(&disk, 4096).is_err(), "cut to {len}");
        disk.bytes.borrow_mut().clone_from(&good);
    }
    disk.bytes.borrow_mut().push(0);
    assert!(read_all(&disk, 4096).is_err(), "extended");
}

/// Parts of a file's earlier states, put into the newest one in every combination: what can be read
/// is one of the states, whole. So also for who had the newest state open, and who makes a change
/// then: it fails, or what it is made in is one of them.
#[test]
fn no_mixture_of_states_is_read_as_data() {
    let disk = Disk::new();
    let (key, mut rng) = (key(), Counter(5));
    let mut with = Sealing {
        keys: keys(&key),
        params: params(Cipher::Aes256Gcm),
        rng: &mut rng,
    };
    let mut file = SealedFile::default();
    let mut states = Vec::new();
    for (at, len) in [(0, 1100), (100, 50), (700, 500)] {
        let data = pattern(len, at as u8 + 1);
        file.write(&disk, &mut with, at, &data).unwrap();
        let physical = disk.bytes.borrow().clone();
        states.push((read_all(&disk, 4096).unwrap(), physical));
    }
    let (newest, last) = states.last().unwrap();
    let layout = params(Cipher::Aes256Gcm).layout();
    let table = layout.data_start() as usize + 16;
    let mut parts = vec![
        HEADER_LEN..HEADER_LEN + Root::LEN,
        HEADER_LEN + Root::LEN..HEADER_LEN + ENTRY_LEN,
        HEADER_LEN + ENTRY_LEN..table,
    ];
    parts.extend((0..3).map(|slot| table + slot * 16..table + slot * 16 + 16));
    parts.extend((0..3).map(|index| {
        let start = layout.chunk_offset(index).unwrap() as usize;
        start..(start + layout.sealed_chunk_len()).min(last.len())
    }));
    let mixed = Disk::new();
    let mut read = 0;
    for choice in 0..3_usize.pow(parts.len() as u32) {
        let mut bytes = last.clone();
        for (part, range) in parts.iter().enumerate() {
            let (_, from) = &states[2 - choice / 3_usize.pow(part as u32) % 3];
            let range = range.start..range.end.min(from.len());
            bytes[range.clone()].copy_from_slice(&from[range]);
        }
        mixed.bytes.replace(bytes);
        let found = read_all(&mixed, 4096);
        read += usize::from(found.is_ok());
        assert!(
            found.is_err() || states.iter().any(|(state, _)| found.as_ref() == Ok(state)),
            "{choice}"
        );
        let mut out = vec![0; 4096];
        let mut open = SealedFile::default();
        open.read(&disk, keys(&key), 0, &mut out).unwrap();
        if let Ok(len) = open.read(&mixed, keys(&key), 0, &mut out) {
            assert!(
                states.iter().any(|(state, _)| out[..len] == *state),
                "{choice}"
            );
        }
        // A change looks at what it changes; the rest is found out by who reads it.
        let changed = choice % 7 == 0
            && SealedFile::default()
                .write(&mixed, &mut with, 5, b"!")
                .is_ok();
        if changed && let Ok(after) = read_all(&mixed, 4096) {
            let is_changed = |(state, _): &(Vec<u8>, Vec<u8>)| {
                [&state[..5], b"!", &state[6..]].concat() == after
            };
            assert!(states.iter().any(is_changed), "{choice}");
        }
    }
    assert!((3..500).contains(&read), "{read}");
    assert_eq!(newest.len(), 1200);
}

#[test]
fn a_cut_file_is_not_made_good_by_appending() {
    let disk = sealed_disk(&pattern(1100, 9));
    let (key, mut rng) = (key(), Counter(77));
    let mut with = Sealing {
        keys: keys(&key),
        params: params(Cipher::XChaCha20Poly1305),
        rng: &mut rng,
    };
    let full = disk.bytes.borrow().len();
    for cut in 1..full {
        let before: Vec<u8> = disk.bytes.borrow()[..full - cut].to_vec();
        let cut_disk = Disk::new();
        cut_disk.bytes.replace(before.clone());
        let mut file = SealedFile::default();
        let Ok(size) = file.len(&cut_disk, keys(&key)) else {
            continue;
        };
        assert!(
            file.write(&cut_disk, &mut with, size, b"more").is_err(),
            "cut {cut}"
        );
        assert_eq!(*cut_disk.bytes.borrow(), before, "the file changed");
    }
}

#[test]
fn files_are_told_apart() {
    let key = key();
    let plain = Disk::new();
    assert_eq!(
        SealedFile::default().identify(&plain, keys(&key)),
        Ok(Content::Empty)
    );
    plain.bytes.replace(b"just text".to_vec());
    assert_eq!(
        SealedFile::default().identify(&plain, keys(&key)),
        Ok(Content::Plain)
    );
    let disk = sealed_disk(b"x");
    assert_eq!(
        SealedFile::default().identify(&disk, keys(&key)),
        Ok(Content::Sealed)
    );
    let other = MasterKey::from_bytes([4; 32]);
    let wrong = SealedFile::default()
        .identify(&disk, keys(&other))
        .unwrap_err();
    assert!(matches!(
        wrong,
        Error::Sealed(sealed::Error::WrongKey { .. })
    ));
    assert_eq!(wrong.errno(), Errno::EACCES);
}
