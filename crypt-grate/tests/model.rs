//! Sealed files against a model: a plain vector of bytes.

#[path = "disk/direct.rs"]
mod direct;

use crypt_grate::sealed_file::{Content, Error, Keys, SealedFile, Sealing, Windows};
use crypt_grate::storage::{Errno, Lease, Place, Storage, Target};
use proptest::prelude::*;
use rand_core::{TryCryptoRng, TryRng};
use sealed::{
    ChunkSize, Chunks, Cipher, FAN_OUT, HEADER_LEN, MasterKey, OVERHEAD, Params, SLOT_LEN, Tag,
    Unsealed,
};
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::ops::Range;

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
    /// How often a chunk or more was read.
    reads: Cell<usize>,
    /// Whether chunks are opened where it is, to that memory too.
    is_direct: Cell<bool>,
    memory: direct::Memory,
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
        if buf.len() >= 512 + OVERHEAD {
            self.reads.set(self.reads.get() + 1);
        }
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

    fn sync(&self) -> Result<(), Errno> {
        Ok(())
    }

    fn seal(&self, chunks: &Unsealed<'_>, from: Place, tags: &mut [Tag]) -> bool {
        self.is_direct.get() && direct::seal(self, &self.memory, chunks, from, tags).is_some()
    }

    fn open(&self, chunks: &Chunks<'_>, to: Target<'_>, _: Option<Lease>) -> Option<bool> {
        if !self.is_direct.get() {
            return None;
        }
        direct::open(self, &self.memory, chunks, to).map(|()| false)
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
    Punch {
        at: usize,
        len: usize,
    },
    /// The log is worked in.
    Checkpoint,
    /// As at the last close.
    Close,
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
        1 => (0usize..2100, 0usize..2000).prop_map(|(at, len)| Op::Punch { at, len }),
        1 => Just(Op::Checkpoint),
        1 => Just(Op::Close),
        1 => Just(Op::Reopen),
        1 => (0usize..1500).prop_map(Op::Fill),
        1 => Just(Op::Free),
    ]
}

/// Bytes of plaintext in a group of chunks.
const GROUP: usize = FAN_OUT as usize * 512;

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
            Op::Punch { at, len } => Op::Punch { at: at + base, len },
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
        aead: direct::keyed,
        derive: sealed::derive,
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
        direct in any::<bool>(),
    ) {
        let cipher = if gcm { Cipher::Xaes256Gcm } else { Cipher::XChaCha20Poly1305 };
        let key = key();
        let disk = Disk::new();
        disk.stride.set(stride);
        let mut rng = Counter(0);
        let mut file = SealedFile::default();
        // Of two descriptions.
        let mut windows: [Windows; 2] = Default::default();
        disk.is_direct.set(direct);
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
                    let written = direct::write(&mut file, &disk, &mut with, &disk.memory, at as u64, &data);
                    match written {
                        Ok((written, _)) => {
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
                    let windows = &mut windows[usize::from(a)];
                    disk.memory.borrow_mut().resize(len, 0xEE);
                    let to = Place { cage: 1, addr: 0 };
                    let whole = file.read_to(windows, &disk, keys(&key), at as u64, len, to).unwrap();
                    let read = match whole {
                        Some(read) => {
                            out[..read].copy_from_slice(&disk.memory.borrow()[..read]);
                            read
                        }
                        None => file.read(windows, &disk, keys(&key), at as u64, &mut out).unwrap(),
                    };
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
                Op::Punch { at, len } => {
                    let range = at as u64..(at + len) as u64;
                    let done = file.writer(&disk, &mut with).unwrap().punch(range);
                    match done {
                        Ok(()) => {
                            let end = model.len().min(at + len);
                            model.get_mut(at..end).unwrap_or_default().fill(0);
                        }
                        Err(error) => {
                            prop_assert_eq!(error, Error::Storage(Errno::ENOSPC));
                            prop_assert!(disk.capacity.get().is_some());
                            // A part of it was done, perhaps.
                            let mut out = vec![0; model.len()];
                            file.read(&mut Windows::default(), &disk, keys(&key), 0, &mut out).unwrap();
                            model = out;
                        }
                    }
                }
                Op::Checkpoint => {
                    let done = file.writer(&disk, &mut with).unwrap().checkpoint();
                    prop_assert!(done.is_ok() || disk.capacity.get().is_some());
                }
                Op::Close => {
                    let done = file.close(&disk, &mut with);
                    prop_assert!(done.is_ok() || disk.capacity.get().is_some());
                }
                Op::Reopen => {
                    file = SealedFile::default();
                    windows = Default::default();
                }
                Op::Fill(left) => disk.capacity.set(Some(disk.bytes.borrow().len() + left)),
                Op::Free => disk.capacity.set(None),
            }
            prop_assert_eq!(file.len(&disk, keys(&key)).unwrap(), model.len() as u64, "after {:?}", op);
        }
        let mut all = vec![0; model.len() + 10];
        let read = SealedFile::default().read(&mut Windows::default(), &disk, keys(&key), 0, &mut all).unwrap();
        prop_assert_eq!(&all[..read], model.as_slice());
    }
}

/// Each open file description has what is opened ahead for itself, whoever reads the file beside it, and sees
/// what changes all the same.
#[test]
fn readers_do_not_take_each_others_place() {
    let content = pattern(200 << 10, 5);
    let disk = sealed_disk(&content);
    let (key, mut rng) = (key(), Counter(1 << 40));
    let mut file = SealedFile::default();
    let mut windows: [Windows; 8] = Default::default();
    disk.reads.set(0);
    let mut out = [0; 512];
    for at in (0..content.len()).step_by(out.len()) {
        for windows in &mut windows {
            let read = file.read(windows, &disk, keys(&key), at as u64, &mut out);
            assert_eq!(read, Ok(512));
            assert_eq!(out, content[at..at + 512]);
        }
    }
    // 32 KiB at first and twice as many each time, besides what the file is looked at for.
    let reads = disk.reads.get();
    assert!((8 * 3..8 * 3 + 16).contains(&reads), "{reads}");

    let mut with = Sealing {
        keys: keys(&key),
        params: params(Cipher::default()),
        rng: &mut rng,
    };
    let last = content.len() as u64 - 512;
    for number in 0..8 {
        file.write(&disk, &mut with, last, &[number; 512]).unwrap();
        for windows in &mut windows {
            let bytes = file.look_at(windows, &disk, keys(&key), last, 512).unwrap();
            assert_eq!(bytes, Some(&[number; 512][..]));
        }
    }
    file.set_len(&disk, &mut with, last).unwrap();
    for windows in &mut windows {
        let read = file.read(windows, &disk, keys(&key), last, &mut out);
        assert_eq!(read, Ok(0));
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
    let read =
        SealedFile::default().read(&mut Windows::default(), disk, keys(&key()), 0, &mut out)?;
    out.truncate(read);
    Ok(out)
}

/// Where the parts of a file lie that say something: its head, its log, and the groups up to the end.
struct Parts(Vec<(&'static str, Range<usize>)>);

impl Parts {
    fn of(params: Params, chunks: u64, len: usize) -> Self {
        let layout = params.layout();
        let mut parts = vec![
            ("header", 0..HEADER_LEN),
            ("superblock 0", 512..640),
            ("mark 0", 1024..1056),
            ("log 0", 1536..65536),
            ("superblock 1", 65536..65664),
            ("mark 1", 66048..66080),
            ("log 1", 66560..131_072),
        ];
        let leaf = layout.node_offset(0, 0).expect("a small file") as usize;
        let tags = chunks as usize * 16;
        parts.push(("slot 0", leaf..leaf + tags));
        parts.push(("slot 1", leaf + SLOT_LEN..leaf + SLOT_LEN + tags));
        for chunk in 0..chunks {
            let start = layout.chunk_offset(chunk).expect("a small file") as usize;
            parts.push(("chunk", start..start + layout.sealed_chunk_len()));
        }
        for (_, part) in &mut parts {
            *part = part.start.min(len)..part.end.min(len);
        }
        Self(parts)
    }
}

/// A file in several states, each with what the disk had: begun, changed, a checkpoint, changed again.
fn history(params: Params, marks: bool) -> Vec<(Vec<u8>, Vec<u8>)> {
    let disk = Disk::new();
    let (key, mut rng) = (key(), Counter(5));
    let mut with = Sealing {
        keys: keys(&key),
        params,
        rng: &mut rng,
    };
    let mut file = SealedFile::default();
    let mut states = vec![(Vec::new(), Vec::new())];
    let mut keep = |disk: &Disk| {
        let content = read_all(disk, 1 << 16).expect("nothing is wrong with it");
        states.push((content, disk.bytes.borrow().clone()));
    };
    for step in 0..6 {
        let mut writer = file.writer(&disk, &mut with).unwrap();
        match step {
            0 => drop(writer.write(0, &pattern(1100, 1))),
            1 => drop(writer.write(100, &pattern(50, 2))),
            2 => writer.checkpoint().unwrap(),
            3 => drop(writer.write(700, &pattern(500, 3))),
            4 => writer.checkpoint().unwrap(),
            _ => drop(writer.write(0, &pattern(512, 4))),
        }
        drop(writer);
        if marks {
            let moment = file.moment();
            file.synced(&disk, moment);
            file.close(&disk, &mut with).unwrap();
        }
        keep(&disk);
    }
    states
}

/// What has reached the disk, as the marks say: every bit that has a meaning is found out.
#[test]
fn no_flipped_bit_and_no_cut_is_read_as_data() {
    for cipher in Cipher::ALL {
        let states = history(params(cipher), true);
        for (content, good) in states.iter().skip(1) {
            let disk = Disk::new();
            disk.bytes.replace(good.clone());
            let parts = Parts::of(params(cipher), 3, good.len());
            let mut refused = std::collections::BTreeSet::new();
            for (name, part) in &parts.0 {
                for bit in part.start * 8..part.end * 8 {
                    // The places of logs are long, and mostly empty.
                    if name.starts_with("log") && good[bit / 8] == 0 && bit % 1001 != 0 {
                        continue;
                    }
                    if bit % 3 != 0 && bit > 160 * 8 {
                        continue;
                    }
                    disk.bytes.borrow_mut()[bit / 8] ^= 1 << (bit % 8);
                    match read_all(&disk, 4096) {
                        Ok(read) => assert_eq!(read, content[..read.len()], "{name}, bit {bit}"),
                        Err(_) => drop(refused.insert(*name)),
                    }
                    if let Ok(read) = read_all(&disk, 4096) {
                        // Short only before a chunk that is damaged.
                        let is_short = read.len() < content.len();
                        let rest = SealedFile::default().read(
                            &mut Windows::default(),
                            &disk,
                            keys(&key()),
                            read.len() as u64,
                            &mut [0; 4096],
                        );
                        assert_eq!(is_short, rest.is_err(), "{name}, bit {bit}");
                        if is_short {
                            refused.insert(*name);
                        }
                    }
                    disk.bytes.borrow_mut()[bit / 8] ^= 1 << (bit % 8);
                }
            }
            assert!(refused.contains("header") && refused.contains("superblock 0"));
            for len in (1..good.len()).filter(|len| len % 97 == 0 || good.len() - len < 700) {
                disk.bytes.borrow_mut().truncate(len);
                if let Ok(read) = read_all(&disk, 4096) {
                    // What is cut off is of no use any more, or a chunk is missing, or the newest
                    // superblock is.
                    let rest = SealedFile::default().read(
                        &mut Windows::default(),
                        &disk,
                        keys(&key()),
                        read.len() as u64,
                        &mut [0; 4096],
                    );
                    let is_possible = |(state, _): &(Vec<u8>, Vec<u8>)| match rest {
                        Ok(_) => *state == read,
                        Err(_) => state.starts_with(&read),
                    };
                    assert!(states.iter().any(is_possible), "cut to {len}");
                }
                disk.bytes.borrow_mut().clone_from(good);
            }
            disk.bytes.borrow_mut().push(0);
            assert_eq!(
                read_all(&disk, 4096).as_ref(),
                Ok(content),
                "what lies behind is no matter"
            );
        }
    }
}

/// Without marks an altered log ends where it was altered: an earlier state, whole, or nothing.
#[test]
fn an_altered_log_is_an_earlier_state() {
    let states = history(params(Cipher::default()), false);
    for (_, good) in states.iter().skip(1) {
        let disk = Disk::new();
        for area in [1536..6000, 66560..70000] {
            for at in area.start..area.end.min(good.len()) {
                if good[at] == 0 {
                    continue;
                }
                disk.bytes.replace(good.clone());
                disk.bytes.borrow_mut()[at] ^= 0x10;
                let found = read_all(&disk, 4096);
                assert!(
                    found.is_err() || states.iter().any(|(state, _)| found.as_ref() == Ok(state)),
                    "byte {at}"
                );
            }
        }
    }
}

/// Parts of a file's earlier states, put into the newest one in every combination: what can be read
/// is one of the states, whole, or the beginning of one before a chunk that is refused. So also for who
/// had the newest state open, and who makes a change
/// then: it fails, or what it is made in is one of them.
#[test]
fn no_mixture_of_states_is_read_as_data() {
    let params = params(Cipher::Xaes256Gcm);
    let states = history(params, true);
    let (key, mut rng) = (key(), Counter(1 << 30));
    let mut with = Sealing {
        keys: keys(&key),
        params,
        rng: &mut rng,
    };
    let newest = states.last().unwrap();
    let intact = Disk::new();
    intact.bytes.replace(newest.1.clone());
    let parts = Parts::of(params, 3, usize::MAX).0;
    let froms: Vec<&Vec<u8>> = [2, 4, 6].map(|state: usize| &states[state].1).to_vec();
    let is_a_state = |read: &[u8], whole: bool| {
        states.iter().any(|(state, _)| {
            if whole {
                read == state
            } else {
                state.starts_with(read)
            }
        })
    };
    let mixed = Disk::new();
    let mut whole = 0;
    let combinations = 3_usize.pow(parts.len() as u32);
    for choice in (0..combinations).step_by(combinations / 6000 + 1) {
        let mut bytes = newest.1.clone();
        for (number, (_, part)) in parts.iter().enumerate() {
            let from = froms[2 - choice / 3_usize.pow(number as u32) % 3];
            for at in part.start..part.end.min(bytes.len()) {
                bytes[at] = from.get(at).copied().unwrap_or_default();
            }
        }
        mixed.bytes.replace(bytes);
        let (mut known, mut at_hand) = (SealedFile::default(), Windows::default());
        let read = known.read(&mut at_hand, &intact, keys(&key), 0, &mut [0; 4096]);
        assert!(read.is_ok());
        let unknown = (SealedFile::default(), Windows::default());
        for (mut open, mut windows) in [unknown, (known, at_hand)] {
            let mut out = vec![0; 4096];
            let Ok(len) = open.read(&mut windows, &mixed, keys(&key), 0, &mut out) else {
                continue;
            };
            let rest = open.read(&mut windows, &mixed, keys(&key), len as u64, &mut [0; 9]);
            let ends = rest == Ok(0);
            whole += usize::from(ends);
            assert!(is_a_state(&out[..len], ends), "{choice}: {len} {ends}");
        }
        let changed = choice % 7 == 0
            && SealedFile::default()
                .write(&mixed, &mut with, 5, b"!")
                .is_ok();
        if changed && let Ok(after) = read_all(&mixed, 4096) {
            let is_changed = |(state, _): &(Vec<u8>, Vec<u8>)| {
                let mut state = state.clone();
                state.resize(state.len().max(6), 0);
                state[5] = b'!';
                state.starts_with(&after)
            };
            assert!(states.iter().any(is_changed), "{choice}");
        }
    }
    assert!(whole > 0);
}

/// A disk that this process has for itself, on which a write under the kept lock may fail when all is written.
struct Alone {
    disk: Disk,
    fails: Cell<bool>,
    /// How many writes took the lock themselves.
    kept: Cell<u32>,
    /// After so many more bytes under the kept lock somebody else has it.
    lasts: Cell<usize>,
}

impl Alone {
    fn new() -> Self {
        Self {
            disk: Disk::new(),
            fails: Cell::new(false),
            kept: Cell::new(0),
            lasts: Cell::new(usize::MAX),
        }
    }
}

impl Storage for Alone {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        self.disk.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize, Errno> {
        self.disk.write_at(buf, offset)
    }

    fn size(&self) -> Result<u64, Errno> {
        self.disk.size()
    }

    fn sync(&self) -> Result<(), Errno> {
        self.disk.sync()
    }

    fn set_size(&self, size: u64) -> Result<(), Errno> {
        self.disk.set_size(size)
    }

    fn take(&self) -> Result<bool, Errno> {
        Ok(true)
    }

    fn is_kept(&self) -> bool {
        true
    }

    fn write_kept(&self, buf: &[u8], offset: u64) -> Result<Option<usize>, Errno> {
        let len = buf.len().min(self.lasts.get());
        if len == 0 {
            return Ok(None);
        }
        self.kept.set(self.kept.get() + 1);
        let written = self.disk.write_at(&buf[..len], offset)?;
        self.lasts.set(self.lasts.get() - written);
        match self.fails.get() {
            true => Err(Errno::EIO),
            false => Ok(Some(written)),
        }
    }
}

/// What failed may be there all the same, as where the disk was waited for in vain; but it is never there twice.
#[test]
fn an_append_that_failed_is_not_made_again() {
    let storage = Alone::new();
    let (key, mut rng) = (key(), Counter(11));
    let mut with = Sealing {
        keys: keys(&key),
        params: params(Cipher::default()),
        rng: &mut rng,
    };
    let mut file = SealedFile::default();
    let mut content = Vec::new();
    for number in 0..40 {
        let at = content.len() as u64;
        storage.fails.set(number % 13 == 12);
        let kept = storage.kept.get();
        match file.write(&storage, &mut with, at, &[number; 30]) {
            Ok(written) => content.extend(vec![number; written]),
            Err(error) => {
                assert_eq!(error, Error::Storage(Errno::EIO));
                assert_eq!(storage.kept.get(), kept + 1, "it was tried once");
                storage.fails.set(false);
                let len = file.len(&storage, with.keys).unwrap();
                assert_eq!(len, at + 30);
                content.extend([number; 30]);
            }
        }
    }
    assert!(storage.kept.get() > 10);
    assert_eq!(read_all(&storage.disk, content.len() + 9), Ok(content));
}

/// Nor is one of which the disk took a part, where somebody else comes before the rest: that part may be all of the record,
/// and the rest zeros ahead of the next one.
#[test]
fn an_append_that_was_begun_is_not_made_again() {
    let (key, mut rng) = (key(), Counter(13));
    let (mut appended, mut lost) = (0, 0);
    for lasts in (0..1200).step_by(7).chain([usize::MAX]) {
        let storage = Alone::new();
        let mut with = Sealing {
            keys: keys(&key),
            params: params(Cipher::default()),
            rng: &mut rng,
        };
        let mut file = SealedFile::default();
        for number in 0..8 {
            let written = file.write(&storage, &mut with, 30 * number, &[1; 30]);
            assert_eq!(written, Ok(30));
            // The program waits for the disk again and again.
            if number > 4 {
                let moment = file.moment();
                file.synced(&storage, moment);
            }
        }
        storage.lasts.set(lasts);
        // As O_APPEND has it.
        let answer = match file.write_kept(&storage, &mut with, None, &[2; 30]) {
            Some(answer) => answer.map(|_| 30),
            None => {
                let mut writer = file.writer(&storage, &mut with).unwrap();
                let end = writer.len();
                writer.write(end, &[2; 30])
            }
        };
        match answer {
            Ok(_) => appended += 1,
            Err(error) => {
                assert_eq!(error, Error::Storage(Errno::EIO));
                lost += 1;
            }
        }
        let found = read_all(&storage.disk, 400).unwrap();
        let (before, new) = found.split_at(240);
        assert_eq!(before, [1; 240]);
        assert!(
            new == [2; 30] || (new.is_empty() && answer.is_err()),
            "{lasts}: {answer:?}"
        );
    }
    assert!(appended > 0 && lost > 0);
}

/// Also where the lock is never asked back the log is worked in when it is long.
#[test]
fn the_log_of_who_is_alone_does_not_grow_without_end() {
    const LEN: usize = 64 << 10;
    let storage = Alone::new();
    let (key, mut rng) = (key(), Counter(12));
    let mut with = Sealing {
        keys: keys(&key),
        params: Params {
            chunk_size: ChunkSize::MAX,
            ..params(Cipher::default())
        },
        rng: &mut rng,
    };
    let mut file = SealedFile::default();
    for number in 0..5000 {
        let written = file.write(&storage, &mut with, 0, &[number as u8; LEN]);
        assert_eq!(written, Ok(LEN));
    }
    assert!(storage.kept.get() > 4900);
    // No more than three logs of 64 MiB one behind the other, of which two are in use.
    let size = storage.size().unwrap();
    assert!(size < 200 << 20, "{size}");
}

/// Not every fsync is followed by a mark, but the first one, every sixteenth, and the last before a close.
#[test]
fn marks_do_not_come_with_every_fsync() {
    let disk = Disk::new();
    let (key, mut rng) = (key(), Counter(5));
    let mut with = Sealing {
        keys: keys(&key),
        params: params(Cipher::default()),
        rng: &mut rng,
    };
    let mut file = SealedFile::default();
    let mark = || disk.bytes.borrow()[1024..1056].to_vec();
    let mut marks = Vec::new();
    for number in 1..=40 {
        file.write(&disk, &mut with, 0, &[number]).unwrap();
        let moment = file.moment();
        file.synced(&disk, moment);
        if marks.last() != Some(&mark()) {
            marks.push(mark());
            assert!(matches!(number, 1 | 17 | 33), "{number}");
        }
    }
    assert_eq!(marks.len(), 3);
    file.close(&disk, &mut with).unwrap();
    assert_ne!(marks.last(), Some(&mark()));
    // Now it covers all: without the last record the file is damaged.
    let len = disk.bytes.borrow().len();
    disk.bytes.borrow_mut()[len - 1] ^= 1;
    let damage = Err(Error::Sealed(sealed::Error::LogCorrupt { record: 40 }));
    assert_eq!(read_all(&disk, 10), damage);
}

#[test]
fn a_hole_costs_nothing_and_is_told() {
    const TIB: u64 = 1 << 40;
    let disk = Disk::new();
    let (key, mut rng) = (key(), Counter(9));
    let mut with = Sealing {
        keys: keys(&key),
        params: params(Cipher::default()),
        rng: &mut rng,
    };
    let mut file = SealedFile::default();
    file.set_len(&disk, &mut with, TIB).unwrap();
    file.write(&disk, &mut with, 5000, b"data").unwrap();
    assert!(disk.bytes.borrow().len() < 8192);
    for mut file in [file, SealedFile::default()] {
        let mut seek = |offset, is_hole| file.seek(&disk, keys(&key), offset, is_hole).unwrap();
        assert_eq!(seek(0, false), 4608);
        assert_eq!(seek(5000, false), 5000);
        assert_eq!(seek(0, true), 0);
        assert_eq!(seek(4700, true), 5120);
        assert_eq!(seek(6000, false), TIB);
        assert_eq!(file.len(&disk, keys(&key)), Ok(TIB));
        let mut out = [7; 700];
        assert_eq!(
            file.read(
                &mut Windows::default(),
                &disk,
                keys(&key),
                TIB - 600,
                &mut out
            ),
            Ok(600)
        );
        assert_eq!(out[..600], [0; 600]);
    }
}

/// A chunk that is damaged is named, and those beside it are read, whoever reads ahead.
#[test]
fn damage_is_of_one_chunk() {
    let disk = sealed_disk(&pattern(40_000, 3));
    let (key, mut rng) = (key(), Counter(1 << 20));
    let mut with = Sealing {
        keys: keys(&key),
        params: params(Cipher::default()),
        rng: &mut rng,
    };
    SealedFile::default()
        .writer(&disk, &mut with)
        .unwrap()
        .checkpoint()
        .unwrap();
    let layout = params(Cipher::default()).layout();
    let place = layout.chunk_offset(5).unwrap() as usize;
    disk.bytes.borrow_mut()[place + 30] ^= 1;
    let mut file = SealedFile::default();
    let mut out = vec![0; 512];
    for index in (0..78).chain([0, 4, 5, 6]) {
        let read = file.read(
            &mut Windows::default(),
            &disk,
            keys(&key),
            index * 512,
            &mut out,
        );
        if index == 5 {
            let damage = sealed::Error::ChunkCorrupt { index: 5 };
            assert_eq!(read, Err(Error::Sealed(damage)));
        } else {
            assert_eq!(read, Ok(512), "{index}");
        }
    }
    let mut all = vec![0; 40_000];
    assert_eq!(
        file.read(&mut Windows::default(), &disk, keys(&key), 0, &mut all),
        Ok(5 * 512)
    );
}

/// A file whose creation never reached the disk is empty; one whose head is damaged is neither that nor
/// plain.
#[test]
fn a_head_of_zeros_is_empty_and_a_damaged_one_is_not_plain() {
    let identify = |bytes: Vec<u8>| {
        let disk = Disk::new();
        disk.bytes.replace(bytes);
        SealedFile::default().identify(&disk, keys(&key()))
    };
    assert_eq!(identify(vec![0; 10]), Ok(Content::Empty));
    assert_eq!(identify(vec![0; 9000]), Ok(Content::Empty));
    assert_eq!(identify(vec![0; 200_000]), Ok(Content::Empty));
    let states = history(params(Cipher::default()), false);
    let mut begun = states[1].1.clone();
    begun[..512].fill(0);
    assert_eq!(identify(begun), Ok(Content::Empty));
    let mut lost = states[4].1.clone();
    lost[..512].fill(0);
    assert!(identify(lost).is_err());
    for bit in 0..64 {
        let mut damaged = states[1].1.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let error = identify(damaged).unwrap_err();
        assert_eq!(error.errno(), Errno::EIO, "{bit}");
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
