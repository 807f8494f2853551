//! Sealed files against a model: a plain vector of bytes.

use crypt_grate::sealed_file::{Content, Error, Keys, SealedFile, Sealing, software};
use crypt_grate::storage::{Errno, Storage};
use proptest::prelude::*;
use rand_core::{TryCryptoRng, TryRng};
use sealed::{ChunkSize, Cipher, HEADER_LEN, MasterKey, Params};
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
        ops in prop::collection::vec(op(), 1..40),
        stride in prop_oneof![Just(usize::MAX), 1usize..700],
        gcm in any::<bool>(),
    ) {
        let cipher = if gcm { Cipher::Aes256Gcm } else { Cipher::XChaCha20Poly1305 };
        let key = key();
        let disk = Disk::new();
        disk.stride.set(stride);
        let mut rng = Counter(0);
        let mut file = SealedFile::default();
        let mut model: Vec<u8> = Vec::new();
        for op in ops {
            let mut with = Sealing { keys: keys(&key), params: params(cipher), rng: &mut rng };
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
    let chunks = params(Cipher::XChaCha20Poly1305).layout().data_start() as usize;
    for bit in 0..good.len() * 8 {
        disk.bytes.borrow_mut()[bit / 8] ^= 1 << (bit % 8);
        match read_all(&disk, 4096) {
            // Nothing is read from a journal that is clear.
            Ok(read) => assert!((HEADER_LEN * 8..chunks * 8).contains(&bit) && read == content),
            Err(_) => assert!(!(HEADER_LEN * 8..chunks * 8).contains(&bit), "bit {bit}"),
        }
        disk.bytes.borrow_mut().clone_from(&good);
    }
    for len in 1..good.len() {
        disk.bytes.borrow_mut().truncate(len);
        assert!(read_all(&disk, 4096).is_err(), "cut to {len}");
        disk.bytes.borrow_mut().clone_from(&good);
    }
    disk.bytes.borrow_mut().push(0);
    assert!(read_all(&disk, 4096).is_err(), "extended");
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
