//! The fixed vectors in `tests/vectors/sealed-v4.json`, which every implementation of the format
//! is held to.
//!
//! They are made by this file from fixed inputs and compared with what is checked in. After an
//! intended change of the format: `SEALED_WRITE_VECTORS=1 cargo test -p sealed vectors`.

use std::path::{Path, PathBuf};

use hkdf::Hkdf;
use sealed::{
    ChunkSize, Cipher, Error, FileCipher, FileKey, HEADER_LEN, Header, Layout, MasterKey, Params,
    Superblock, VERSION, Volume,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::support::{self, Memory, TestRng, sample, seal, small_chunks};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Vectors {
    format: String,
    version: u8,
    files: Vec<Good>,
    refused: Vec<Bad>,
}

/// A file that opens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Good {
    name: String,
    key: String,
    /// `None` for what is empty and has no header.
    header: Option<Head>,
    /// Of the last record that counts; 0 where there is none.
    counter: u64,
    /// The plaintext.
    runs: Vec<Run>,
    sealed: Image,
}

/// What is in a header, and what comes of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Head {
    key_id: String,
    cipher: String,
    chunk_size: usize,
    salt: String,
    header_key: String,
    content_key: String,
    tree_key: String,
}

/// A file that must not open, and why.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Bad {
    name: String,
    key: String,
    error: String,
    sealed: Image,
}

/// A piece of plaintext: bytes in hexadecimal, bytes that are too many to be shown, or so many zeros
/// that stand for holes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Run {
    Bytes(String),
    Long { length: usize, sha256: String },
    Zeros(u64),
}

/// Most bytes that are shown.
const SHOWN: usize = 256;

/// A file of which most may be zeros.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Image {
    length: u64,
    /// Name of another vector, which is the same but for its length and the parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    like: Option<String>,
    /// All that is not zeros, or not as in the other one.
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Part {
    at: u64,
    bytes: String,
}

impl Image {
    fn of(disk: &Memory) -> Self {
        Self::like(None, disk)
    }

    fn like(other: Option<&(String, Memory)>, disk: &Memory) -> Self {
        let zeros = Memory::default();
        let part = |(at, bytes): (u64, Vec<u8>)| Part {
            at,
            bytes: hex(&bytes),
        };
        let parts = disk.differences(other.map_or(&zeros, |(_, disk)| disk));
        Self {
            length: disk.len(),
            like: other.map(|(name, _)| name.clone()),
            parts: parts.into_iter().map(part).collect(),
        }
    }

    fn disk(&self, vectors: &Vectors) -> Memory {
        let other = self.like.as_ref().map(|name| {
            let files = vectors.files.iter().map(|file| (&file.name, &file.sealed));
            let refused = vectors
                .refused
                .iter()
                .map(|file| (&file.name, &file.sealed));
            let other = files.chain(refused).find(|(other, _)| *other == name);
            other.expect("a vector of that name").1.disk(vectors)
        });
        let disk = other.unwrap_or_default();
        disk.resize(self.length);
        for part in &self.parts {
            disk.put(part.at, &unhex(&part.bytes));
        }
        assert_eq!(disk.len(), self.length);
        disk
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2));
    (0..text.len() / 2)
        .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
        .collect()
}

fn runs(master: &MasterKey, disk: &Memory) -> Result<Vec<Run>, Error> {
    let shown = |run| match run {
        support::Run::Bytes(bytes) if bytes.len() <= SHOWN => Run::Bytes(hex(&bytes)),
        support::Run::Bytes(bytes) => Run::Long {
            length: bytes.len(),
            sha256: hex(&Sha256::digest(&bytes)),
        },
        support::Run::Zeros(zeros) => Run::Zeros(zeros),
    };
    Ok(support::open(master, disk)?
        .into_iter()
        .map(shown)
        .collect())
}

fn master() -> MasterKey {
    MasterKey::from_bytes(std::array::from_fn(|i| i as u8))
}

fn params(cipher: Cipher, chunk_size: usize) -> Params {
    Params {
        cipher,
        chunk_size: ChunkSize::from_bytes(chunk_size).unwrap(),
    }
}

fn head(disk: &Memory) -> Option<Head> {
    let header = Header::parse(&disk.get(0, HEADER_LEN)).ok()?;
    let key = header.verify(&master()).unwrap();
    let params = key.header().params();
    // Derived here once more by hand, for the crate does not give all of them away.
    let derive = |label: &[u8]| {
        let mut derived = [0; 32];
        let bound = [VERSION, params.cipher.id(), params.chunk_size.log2()];
        Hkdf::<Sha256>::new(Some(key.header().salt()), master().expose_secret())
            .expand_multi_info(&[label, &bound], &mut derived)
            .unwrap();
        derived
    };
    assert_eq!(&derive(b"sealed file content key"), key.content_key());
    Some(Head {
        key_id: master().id().to_string(),
        cipher: params.cipher.name().into(),
        chunk_size: params.chunk_size.bytes(),
        salt: hex(key.header().salt()),
        header_key: hex(&derive(b"sealed file header key")),
        content_key: hex(key.content_key()),
        tree_key: hex(&derive(b"sealed file tree key")),
    })
}

fn counter(disk: &Memory) -> u64 {
    let volume = support::volume(&master(), disk).unwrap();
    volume.map_or(0, |volume| volume.counter())
}

/// Vectors that are shown as what differs in them from others.
#[derive(Default)]
struct Series {
    prefix: String,
    disks: Vec<(String, Memory)>,
    files: Vec<Good>,
    refused: Vec<Bad>,
}

impl Series {
    fn of(cipher: Cipher) -> Self {
        Self {
            prefix: format!("{}, ", cipher.name()),
            ..Self::default()
        }
    }

    fn image(&mut self, name: &str, disk: &Memory) -> Image {
        let distance = |(_, other): &&(String, Memory)| disk.distance(other);
        let nearest = self.disks.iter().min_by_key(distance);
        let image = Image::like(nearest, disk);
        self.disks.push((name.into(), disk.clone()));
        image
    }

    /// A file that opens to what is given.
    fn good(&mut self, name: &str, disk: &Memory, expected: &[support::Run]) {
        let name = format!("{}{name}", self.prefix);
        let sealed = self.image(&name, disk);
        self.files.push(Good {
            sealed,
            ..good(&name, disk, expected)
        });
    }

    /// A file that is refused as expected.
    fn bad(&mut self, name: &str, error: &str, disk: &Memory) {
        let name = format!("{}{name}", self.prefix);
        let sealed = self.image(&name, disk);
        self.refused.push(Bad {
            sealed,
            ..bad(&name, error, disk)
        });
    }
}

/// A file that opens to what is given.
fn good(name: &str, disk: &Memory, expected: &[support::Run]) -> Good {
    let opened = support::open(&master(), disk);
    // Not shown whole: it may be long.
    assert!(
        opened.as_deref() == Ok(expected),
        "{name}: {:?}",
        opened.err()
    );
    Good {
        name: name.into(),
        key: hex(master().expose_secret()),
        header: head(disk),
        counter: counter(disk),
        runs: runs(&master(), disk).unwrap(),
        sealed: Image::of(disk),
    }
}

/// As the `seal` command makes it.
fn sealed_whole(params: Params, len: usize) -> Good {
    let (cipher, chunk_size) = (params.cipher, params.chunk_size.bytes());
    // A stream of its own for each vector: no two share a salt or a nonce.
    let seed = (len as u64) << 32 | (chunk_size as u64) << 8 | u64::from(cipher.id());
    let mut rng = TestRng(seed);
    let key = FileKey::generate(&master(), params, &mut rng).unwrap();
    let disk = seal(&key, &sample(len), &mut rng);
    let name = format!("{}, chunk {chunk_size}, {len} bytes", cipher.name());
    let expected = match len {
        0 => Vec::new(),
        _ => vec![support::Run::Bytes(sample(len))],
    };
    good(&name, &disk, &expected)
}

/// A file at work: its disk, and the plaintext it has to have.
struct Work {
    disk: Memory,
    volume: Volume,
    rng: TestRng,
    layout: Layout,
}

impl Work {
    fn begin(params: Params, seed: u64) -> Self {
        let mut rng = TestRng(seed);
        let key = FileKey::generate(&master(), params, &mut rng).unwrap();
        Self {
            disk: Memory::default(),
            volume: Volume::create(FileCipher::new(&key), &mut rng).unwrap(),
            rng,
            layout: params.layout(),
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let Self {
            disk, volume, rng, ..
        } = self;
        volume.write(&*disk, rng, offset, data).unwrap();
    }

    fn set_len(&mut self, size: u64) {
        let Self {
            disk, volume, rng, ..
        } = self;
        volume.set_len(&*disk, rng, size).unwrap();
    }

    fn punch(&mut self, range: std::ops::Range<u64>) {
        let Self {
            disk, volume, rng, ..
        } = self;
        volume.punch(&*disk, rng, range).unwrap();
    }

    fn mark(&mut self) {
        self.volume.mark(&self.disk, self.volume.moment()).unwrap();
    }

    fn checkpoint(&mut self) {
        self.volume.checkpoint(&self.disk, &mut self.rng).unwrap();
    }

    /// What the disk is now.
    fn state(&self) -> Memory {
        self.disk.clone()
    }

    fn chunk(&self, index: u64) -> u64 {
        self.layout.chunk_offset(index).unwrap()
    }

    fn leaf(&self, group: u64) -> u64 {
        self.layout.node_offset(0, group).unwrap()
    }
}

/// Where the records in the first log begin.
fn records(disk: &Memory) -> Vec<u64> {
    let mut records = vec![Superblock::log_offset(0)];
    loop {
        let last = records[records.len() - 1];
        let len = disk.get(last, 4).try_into().map(u32::from_le_bytes);
        match len.unwrap() {
            0 => return records,
            len => records.push(last + u64::from(len)),
        }
    }
}

fn bytes(bytes: &[u8]) -> support::Run {
    support::Run::Bytes(bytes.to_vec())
}

fn zeros(zeros: u64) -> support::Run {
    support::Run::Zeros(zeros)
}

/// Bytes of plaintext that are too many for the log at the head alone, so that new chunks go to
/// their places.
const SOME: usize = 30_000;

/// Files that were made by several changes, and what is left of them by power cuts.
fn histories(cipher: Cipher) -> Series {
    let mut all = Series::of(cipher);

    let mut work = Work::begin(small_chunks(cipher), 0x100 + u64::from(cipher.id()));
    work.write(0, b"first ");
    let first = work.state();
    work.write(6, b"second");
    let second = work.state();
    all.good("two records", &second, &[bytes(b"first second")]);

    let torn = second.clone();
    torn.resize(torn.len() - 1);
    all.good("the last record cut short", &torn, &[bytes(b"first ")]);
    // Header and superblock have reached the disk, and nothing of the first record.
    let torn = first.clone();
    torn.resize(1536);
    all.good("the first record lost", &torn, &[]);
    // Of the first 512 bytes alone nothing is said.
    let torn = first.clone();
    torn.put(512, &[0; 1024]);
    torn.resize(1536);
    all.good("header alone", &torn, &[]);
    let headless = first.clone();
    headless.put(0, &[0; 512]);
    all.good("the first sector lost", &headless, &[]);
    torn.resize(512);
    all.good("its first sector alone", &torn, &[]);
    // The record has the MAC, but not the chunk.
    let lost = second.clone();
    lost.flip(second.len() - 20);
    all.good(
        "the last record without its chunk",
        &lost,
        &[bytes(b"first ")],
    );

    let mut work = Work::begin(small_chunks(cipher), 0x200 + u64::from(cipher.id()));
    work.write(0, &sample(SOME));
    let before = work.state();
    let place = work.chunk(58);
    work.write(SOME as u64, &sample(SOME));
    let twice = [sample(SOME), sample(SOME)].concat();
    all.good("chunks at their places", &work.state(), &[bytes(&twice)]);
    let lost = work.state();
    lost.put(place, &[0; 552]);
    all.good(
        "a chunk that did not reach its place",
        &lost,
        &[bytes(&sample(SOME))],
    );
    let lost = work.state();
    lost.take(&before, work.chunk(60), 552);
    all.good("no chunk at its place yet", &lost, &[bytes(&sample(SOME))]);

    work.mark();
    work.write(1000, b"overwritten");
    work.set_len(50_000);
    let mut expected = twice[..50_000].to_vec();
    expected[1000..1011].copy_from_slice(b"overwritten");
    let expected = [bytes(&expected)];
    all.good("a mark, and more records", &work.state(), &expected);
    let full = work.state();
    work.checkpoint();
    all.good("after a checkpoint", &work.state(), &expected);
    let cut = work.state();
    cut.put(65536, &[0; 512]);
    all.good("cut before the new superblock", &cut, &expected);
    let cut = full;
    cut.take(&work.disk, work.chunk(1), 552);
    cut.take(&work.disk, work.leaf(0), 8192);
    all.good("cut within a checkpoint", &cut, &expected);
    // Nor does the mark have to be there for that.
    cut.put(1024, &[0; 32]);
    all.good("cut within a checkpoint, and no mark", &cut, &expected);
    // With no version of the chunk there the log ends before the first one.
    cut.flip(records(&cut)[2] + 100);
    all.good("no version of a chunk, and no mark", &cut, &[]);

    work.set_len(50_001);
    work.checkpoint();
    work.write(50_001, b"x");
    let expected = {
        let support::Run::Bytes(mut bytes) = expected[0].clone() else {
            panic!("no bytes");
        };
        bytes.extend_from_slice(b"\0x");
        bytes
    };
    all.good(
        "two checkpoints, and a record",
        &work.state(),
        &[bytes(&expected)],
    );
    let older = work.state();
    work.checkpoint();
    // The log of the epoch before is still there, and says nothing.
    all.good("three checkpoints", &work.state(), &[bytes(&expected)]);
    work.disk.take(&older, 65536, 512);
    all.good("the third superblock lost", &work.disk, &[bytes(&expected)]);

    let mut work = Work::begin(small_chunks(cipher), 0x300 + u64::from(cipher.id()));
    work.set_len(300 * 512);
    all.good("a hole of any size", &work.state(), &[zeros(300 * 512)]);
    work.write(256 * 512 - 1, b"ab");
    let with_ab = |checked: bool| {
        let mut pieces = vec![zeros(255 * 512)];
        let mut edge = vec![0; 1024];
        edge[511..513].copy_from_slice(b"ab");
        pieces.push(support::Run::Bytes(edge));
        pieces.push(zeros(43 * 512));
        if checked {
            pieces.push(bytes(&[7; 512]));
        }
        pieces
    };
    all.good(
        "holes and chunks in the log",
        &work.state(),
        &with_ab(false),
    );
    work.checkpoint();
    all.good(
        "holes and chunks in two groups",
        &work.state(),
        &with_ab(false),
    );
    work.write(300 * 512, &[7; 512]);
    all.good("a chunk behind holes", &work.state(), &with_ab(true));
    work.punch(255 * 512..256 * 512);
    let mut punched = with_ab(true);
    punched[0] = zeros(256 * 512);
    let mut edge = vec![0; 512];
    edge[0] = b'b';
    punched[1] = bytes(&edge);
    all.good("a hole punched", &work.state(), &punched);
    work.checkpoint();
    all.good("a hole punched, and a checkpoint", &work.state(), &punched);
    // Cut off within a hole, and grown again.
    work.set_len(100 * 512 + 1);
    work.set_len(400 * 512);
    all.good("cut and grown", &work.state(), &[zeros(400 * 512)]);
    work.checkpoint();
    all.good(
        "cut and grown, and a checkpoint",
        &work.state(),
        &[zeros(400 * 512)],
    );
    appended(cipher, &mut all);
    all
}

/// Chunks that were appended to.
fn appended(cipher: Cipher, all: &mut Series) {
    let content = sample(1000);
    let expected = |len: usize| [bytes(&content[..len])];
    let mut work = Work::begin(small_chunks(cipher), 0x800 + u64::from(cipher.id()));
    work.write(0, &content[..600]);
    work.write(600, &content[600..650]);
    work.write(650, &content[650..700]);
    let twice = work.state();
    all.good("appended to", &twice, &expected(700));
    let lost = twice.clone();
    lost.flip(twice.len() - 20);
    all.good("what was appended last lost", &lost, &expected(650));
    work.mark();
    let broken = work.state();
    broken.flip(twice.len() - 20);
    all.bad("what was appended damaged", "ChunkCorrupt", &broken);
    work.checkpoint();
    work.write(700, &content[700..710]);
    let state = work.state();
    all.good("appended to behind a checkpoint", &state, &expected(710));
    work.write(710, &content[710..]);
    all.good("appended to, and again", &work.state(), &expected(1000));
}

/// Files that are so large that their trees have several levels.
fn tall() -> Series {
    let mut all = Series::default();
    for (name, chunks) in [
        ("two levels", 257),
        ("three levels", 65_537),
        ("four levels", (1 << 24) + 1),
        ("a tebibyte", 1 << 31),
    ] {
        let mut work = Work::begin(small_chunks(Cipher::default()), chunks);
        let size = chunks * 512;
        work.set_len(size - 512);
        // One before, one behind the first inner nodes, and the last.
        let mut expected = Vec::new();
        let mut at = 0;
        for index in [3, 256, 65_536, 1 << 24, chunks - 1] {
            if index < at || index >= chunks {
                continue;
            }
            let data = [index as u8 ^ 0x55; 512];
            work.write(index * 512, &data);
            if index > at {
                expected.push(zeros((index - at) * 512));
            }
            match expected.last_mut() {
                Some(support::Run::Bytes(bytes)) => bytes.extend_from_slice(&data),
                _ => expected.push(bytes(&data)),
            }
            at = index + 1;
        }
        work.checkpoint();
        all.good(&format!("a tree of {name}"), &work.disk, &expected);
        // Again, so that the other slots are in use.
        work.write(3 * 512, b"new");
        work.checkpoint();
        if let support::Run::Bytes(bytes) = &mut expected[1] {
            bytes[..3].copy_from_slice(b"new");
        }
        let name = format!("a tree of {name}, in other slots");
        all.good(&name, &work.disk, &expected);
    }
    all
}

/// A log that does not fit its place at the head.
fn far_log() -> Series {
    let mut work = Work::begin(params(Cipher::default(), 4096), 0x400);
    let mut all = Series::default();
    for round in 0..17 {
        work.write(0, &[round; 4096]);
    }
    let expected = [bytes(&[16; 4096])];
    all.good("a log behind the groups", &work.state(), &expected);
    work.checkpoint();
    all.good(
        "its log behind the groups is dead",
        &work.state(),
        &expected,
    );
    all
}

/// Files without a header.
fn empty() -> Series {
    let mut all = Series::default();
    for (name, len) in [("no bytes", 0), ("zeros", 600), ("many zeros", 200_000)] {
        all.good(name, &Memory::of(&vec![0; len]), &[]);
    }
    all
}

/// Headers that are not believed, and another key.
fn bad_headers() -> Series {
    let mut rng = TestRng(99);
    let key = FileKey::generate(&master(), small_chunks(Cipher::default()), &mut rng).unwrap();
    let disk = seal(&key, &sample(1031), &mut rng);
    let with = |at: u64, value: u8| {
        let altered = disk.clone();
        altered.put(at, &[value]);
        altered
    };
    let flipped = |at: u64| with(at, disk.get(at, 1)[0] ^ 0x80);
    let cut = |len: u64| {
        let altered = disk.clone();
        altered.resize(len);
        altered
    };
    let damaged_head = Work::begin(small_chunks(Cipher::default()), 98);
    let damaged_head = {
        let mut work = damaged_head;
        work.write(0, b"x");
        work.checkpoint();
        work.disk.put(0, &[0; 4096]);
        work.disk
    };
    let cases = [
        (
            "plain text",
            "NotSealed",
            Memory::of(b"This is not a sealed file.\n"),
        ),
        ("magic altered", "NotSealed", flipped(0)),
        (
            "newline of the magic translated",
            "NotSealed",
            with(7, b'\r'),
        ),
        ("zeros below a superblock", "HeaderCorrupt", damaged_head),
        ("zeros below a mark", "HeaderCorrupt", {
            let altered = disk.clone();
            altered.put(0, &[0; 512]);
            altered
        }),
        ("version 0", "UnsupportedVersion", with(8, 0)),
        ("version 1", "UnsupportedVersion", with(8, 1)),
        ("version 3", "UnsupportedVersion", with(8, 3)),
        ("version 5", "UnsupportedVersion", with(8, 5)),
        ("cipher 0", "UnknownCipher", with(9, 0)),
        ("cipher 3", "UnknownCipher", with(9, 3)),
        ("the other cipher", "HeaderCorrupt", with(9, 2)),
        ("chunk size 2^8", "UnsupportedChunkSize", with(10, 8)),
        ("chunk size 2^17", "UnsupportedChunkSize", with(10, 17)),
        ("another chunk size", "HeaderCorrupt", with(10, 10)),
        ("reserved byte set", "HeaderCorrupt", with(11, 1)),
        ("last reserved byte set", "HeaderCorrupt", with(15, 1)),
        ("key id altered", "WrongKey", flipped(16)),
        ("salt altered", "HeaderCorrupt", flipped(32)),
        ("header MAC altered", "HeaderCorrupt", flipped(95)),
        ("part of the magic", "Truncated", cut(5)),
        ("magic alone", "Truncated", cut(8)),
        ("header cut short", "Truncated", cut(95)),
        ("header alone", "Truncated", cut(96)),
        ("cut before the superblock", "Truncated", cut(511)),
        ("superblock cut short", "SuperblockCorrupt", cut(639)),
    ];
    let mut all = Series::default();
    for (name, error, altered) in cases {
        all.bad(name, error, &altered);
    }
    all.bad("another key", "WrongKey", &flipped(16));
    if let Some(other) = all.refused.last_mut() {
        other.key = hex(&[0xEE; 32]);
        other.sealed = Image::of(&disk);
    }
    all
}

/// A file that is refused as expected.
fn bad(name: &str, error: &str, disk: &Memory) -> Bad {
    assert_eq!(
        support::open(&master(), disk).map_err(kind),
        Err(error.into()),
        "{name}"
    );
    Bad {
        name: name.into(),
        key: hex(master().expose_secret()),
        error: error.into(),
        sealed: Image::of(disk),
    }
}

/// Superblocks and logs that no power cut leaves.
fn bad_logs(cipher: Cipher) -> Series {
    let mut all = Series::of(cipher);
    let begin = |seed| Work::begin(small_chunks(cipher), seed + u64::from(cipher.id()));

    let mut work = begin(0x500);
    work.write(0, b"first ");
    let first = work.state();
    work.mark();
    let first_marked = work.state();
    work.write(6, b"second");
    let unmarked = work.state();
    work.mark();
    let marked = work.state();
    let log = Superblock::log_offset(0);
    let altered = |from: &Memory, change: &dyn Fn(&Memory)| {
        let altered = from.clone();
        change(&altered);
        altered
    };
    for (name, at) in [
        ("superblock 0: epoch", 512),
        ("superblock 0: counter", 520),
        ("superblock 0: size", 528),
        ("superblock 0: reserved", 600),
        ("superblock 0: MAC", 639),
    ] {
        let altered = altered(&marked, &|disk| disk.flip(at));
        all.bad(&format!("{name} altered"), "SuperblockCorrupt", &altered);
    }
    let broken = altered(&marked, &|disk| disk.put(512, &[0; 128]));
    broken.put(700, b"x");
    all.bad("superblock 0 not quite zeros", "SuperblockCorrupt", &broken);
    let lost = |from: &Memory, len: u64| altered(from, &|disk| disk.resize(disk.len() - len));
    all.bad("a marked record cut short", "LogCorrupt", &lost(&marked, 1));
    let broken = altered(&marked, &|disk| disk.flip(log));
    all.bad(
        "the first of two marked records damaged",
        "LogCorrupt",
        &broken,
    );
    let broken = altered(&marked, &|disk| disk.flip(first.len() - 1));
    all.bad("the MAC of a marked record damaged", "LogCorrupt", &broken);
    let broken = altered(&first, &|disk| disk.take(&marked, 1024, 32));
    all.bad("an older log below a newer mark", "LogCorrupt", &broken);
    // Two others, which are the same plaintext.
    let mut other = begin(0x600);
    other.write(0, b"first ");
    other.write(6, b"second");
    let spliced = altered(&marked, &|disk| disk.take(&other.disk, log, 1000));
    all.bad("the log of another file", "LogCorrupt", &spliced);
    let spliced = altered(&marked, &|disk| disk.take(&other.disk, 512, 128));
    all.bad(
        "the superblock of another file",
        "SuperblockCorrupt",
        &spliced,
    );
    let spliced = altered(&marked, &|disk| disk.take(&other.disk, 0, 96));
    all.bad("the header of another file", "SuperblockCorrupt", &spliced);
    let broken = altered(&marked, &|disk| disk.flip(marked.len() - 20));
    all.bad(
        "the chunk of a marked record damaged",
        "ChunkCorrupt",
        &broken,
    );
    let moved = altered(&marked, &|disk| {
        disk.put(first.len(), &[0; 400]);
        disk.put(first.len() + 8, &unmarked.get(first.len(), 120));
    });
    all.bad("a record moved", "LogCorrupt", &moved);
    // A mark that was put back says less, and all that it says is true.
    let older = altered(&marked, &|disk| disk.take(&first_marked, 1024, 32));
    assert!(support::open(&master(), &older).is_ok());

    let mut work = begin(0x700);
    work.write(0, &sample(SOME));
    let first_epoch = work.state();
    work.checkpoint();
    let second = work.state();
    work.write(5, b"x");
    work.checkpoint();
    let broken = altered(&work.disk, &|disk| disk.flip(65536 + 20));
    all.bad("the older superblock damaged", "SuperblockCorrupt", &broken);
    let broken = altered(&work.disk, &|disk| disk.take(&second, 65536, 512));
    broken.take(&second, 512, 512);
    broken.put(512, &second.get(65536, 128));
    all.bad(
        "a superblock in the other's place",
        "SuperblockCorrupt",
        &broken,
    );
    let broken = altered(&work.disk, &|disk| disk.put(512, &[0; 512]));
    all.bad("the newest superblock gone", "SuperblockCorrupt", &broken);
    let broken = altered(&work.disk, &|disk| disk.put(65536, &[0; 512]));
    all.bad("the older superblock gone", "SuperblockCorrupt", &broken);
    work.checkpoint();
    let broken = altered(&work.disk, &|disk| disk.take(&first_epoch, 512, 512));
    all.bad(
        "a superblock of three epochs before",
        "SuperblockCorrupt",
        &broken,
    );
    work.write(SOME as u64, &sample(SOME));
    work.mark();
    let broken = altered(&work.disk, &|disk| disk.flip(work.chunk(70)));
    all.bad(
        "a marked chunk at its place damaged",
        "ChunkCorrupt",
        &broken,
    );
    all
}

/// Chunks and nodes of the tree that are not the ones of the last checkpoint.
fn bad_trees(cipher: Cipher) -> Series {
    let mut all = Series::of(cipher);
    // Of two groups, with few chunks.
    let mut work = Work::begin(small_chunks(cipher), 0x800 + u64::from(cipher.id()));
    work.write(0, &sample(1024));
    work.set_len(256 * 512);
    work.write(256 * 512, &sample(700));
    work.checkpoint();
    let older = work.state();
    work.write(0, &sample(1024));
    work.write(256 * 512, &sample(700));
    work.checkpoint();
    let (first, last) = (work.chunk(0), work.chunk(257));
    // Both epochs wrote every node, so now slot 1 is in use.
    let (leaf, top) = (
        work.leaf(0) + 4096,
        work.layout.node_offset(1, 0).unwrap() + 4096,
    );
    let altered = |change: &dyn Fn(&Memory)| {
        let altered = work.disk.clone();
        change(&altered);
        altered
    };
    for (name, at) in [
        ("nonce altered", first),
        ("ciphertext altered", first + 24),
        ("tag altered", first + 551),
        ("last tag altered", last + 227),
    ] {
        all.bad(name, "ChunkCorrupt", &altered(&|disk| disk.flip(at)));
    }
    let cut = altered(&|disk| disk.resize(last + 227));
    all.bad("last byte cut", "ChunkCorrupt", &cut);
    let cut = altered(&|disk| disk.resize(last));
    all.bad("last chunk cut off", "ChunkCorrupt", &cut);
    let cut = altered(&|disk| disk.resize(work.leaf(1)));
    all.bad("a group cut off", "TreeCorrupt", &cut);
    let swapped = altered(&|disk| {
        disk.put(first, &work.disk.get(first + 552, 552));
        disk.put(first + 552, &work.disk.get(first, 552));
    });
    all.bad("chunks swapped", "ChunkCorrupt", &swapped);
    let punched = altered(&|disk| disk.put(first, &[0; 552]));
    all.bad("a chunk punched", "ChunkCorrupt", &punched);
    let stale = altered(&|disk| disk.take(&older, first, 552));
    all.bad("an older chunk", "Stale", &stale);
    let stale = altered(&|disk| disk.take(&older, last, 228));
    all.bad("an older last chunk", "Stale", &stale);
    let stale = altered(&|disk| {
        disk.take(&older, first, 552);
        disk.put(leaf, &older.get(leaf - 4096, 4096));
    });
    all.bad("an older chunk and leaf", "TreeCorrupt", &stale);
    let stale = altered(&|disk| {
        disk.take(&older, first, 552);
        disk.put(leaf, &older.get(leaf - 4096, 4096));
        disk.put(top, &older.get(top - 4096, 4096));
    });
    all.bad("an older chunk, leaf and top", "TreeCorrupt", &stale);
    all.bad(
        "a tag in a leaf altered",
        "TreeCorrupt",
        &altered(&|disk| disk.flip(leaf)),
    );
    let hole = altered(&|disk| disk.put(leaf, &[0; 16]));
    all.bad("a chunk made a hole", "TreeCorrupt", &hole);
    let hole = altered(&|disk| disk.put(top, &[0; 16]));
    all.bad("a group made a hole", "TreeCorrupt", &hole);
    let filled = altered(&|disk| {
        disk.put(work.chunk(2), &work.disk.get(first, 552));
        disk.put(leaf + 32, &work.disk.get(leaf, 16));
    });
    all.bad("a hole filled", "TreeCorrupt", &filled);
    let slot = altered(&|disk| disk.put(top + 15, &[disk.get(top + 15, 1)[0] ^ 1]));
    all.bad("the slot of a node altered", "TreeCorrupt", &slot);
    all.bad(
        "the top damaged",
        "TreeCorrupt",
        &altered(&|disk| disk.flip(top + 20)),
    );
    let mut other = Work::begin(small_chunks(cipher), 0x900 + u64::from(cipher.id()));
    other.write(0, &sample(1024));
    other.checkpoint();
    let spliced = altered(&|disk| disk.take(&other.disk, first, 552));
    all.bad("a chunk of another file", "ChunkCorrupt", &spliced);
    all
}

fn make() -> Vectors {
    let sizes = [0, 1, 511, 512, 513, 1031];
    let whole = Cipher::ALL
        .into_iter()
        .flat_map(|cipher| sizes.map(|len| (cipher, 512, len)))
        .chain([
            (Cipher::XChaCha20Poly1305, 4096, 4100),
            (Cipher::Xaes256Gcm, 8192, 3),
            (Cipher::XChaCha20Poly1305, 65536, 65537),
            // At their places.
            (Cipher::XChaCha20Poly1305, 512, SOME),
            // Of two groups.
            (Cipher::Xaes256Gcm, 512, 257 * 512 + 7),
        ])
        .map(|(cipher, chunk_size, len)| sealed_whole(params(cipher, chunk_size), len));
    let mut vectors = Vectors {
        format: "sealed".into(),
        version: VERSION,
        files: whole.collect(),
        refused: Vec::new(),
    };
    let series = [empty(), bad_headers(), tall(), far_log()];
    let of_ciphers = Cipher::ALL
        .into_iter()
        .flat_map(|cipher| [histories(cipher), bad_logs(cipher), bad_trees(cipher)]);
    for mut series in series.into_iter().chain(of_ciphers) {
        vectors.files.append(&mut series.files);
        vectors.refused.append(&mut series.refused);
    }
    vectors
}

fn path(from_root: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(from_root)
}

fn read() -> Vectors {
    let path = path("tests/vectors/sealed-v4.json");
    if std::env::var_os("SEALED_WRITE_VECTORS").is_some() {
        let text = serde_json::to_string_pretty(&make()).unwrap() + "\n";
        std::fs::write(&path, text).unwrap();
    }
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn kind(error: Error) -> String {
    let shown = format!("{error:?}");
    shown
        .split(|c: char| !c.is_alphanumeric())
        .next()
        .unwrap()
        .to_owned()
}

#[test]
fn the_code_makes_the_vectors() {
    let (made, read) = (make(), read());
    for (made, read) in made.files.iter().zip(&read.files) {
        assert!(made == read, "{}", made.name);
    }
    for (made, read) in made.refused.iter().zip(&read.refused) {
        assert!(made == read, "{}", made.name);
    }
    assert!(made == read);
}

#[test]
fn the_vectors_open() {
    let vectors = read();
    for vector in &vectors.files {
        let master = MasterKey::from_slice(&unhex(&vector.key)).unwrap();
        let disk = vector.sealed.disk(&vectors);
        let opened = runs(&master, &disk);
        assert_eq!(opened.as_ref(), Ok(&vector.runs), "{}", vector.name);
        assert_eq!(head(&disk), vector.header, "{}", vector.name);
        assert_eq!(counter(&disk), vector.counter, "{}", vector.name);
    }
}

#[test]
fn the_bad_vectors_are_refused_for_the_right_reason() {
    let vectors = read();
    for vector in &vectors.refused {
        let master = MasterKey::from_slice(&unhex(&vector.key)).unwrap();
        let error = runs(&master, &vector.sealed.disk(&vectors)).map_err(kind);
        assert_eq!(error.as_ref(), Err(&vector.error), "{}", vector.name);
    }
}

/// The worked examples in the document are vectors too.
#[test]
fn the_document_shows_the_vectors() {
    let document = std::fs::read_to_string(path("docs/format.md")).unwrap();
    let shown: String = document.split_whitespace().collect();
    let files = read().files;
    let examples = files
        .iter()
        .filter(|vector| vector.name.ends_with("chunk 512, 1 bytes"));
    let mut count = 0;
    for vector in examples {
        count += 1;
        let head = vector.header.as_ref().unwrap();
        for field in [
            &vector.key,
            &head.key_id,
            &head.salt,
            &head.header_key,
            &head.content_key,
            &head.tree_key,
        ] {
            assert!(shown.contains(field.as_str()), "{}: {field}", vector.name);
        }
        // Zeros at the end of a part are left out of it.
        for part in &vector.sealed.parts {
            assert!(shown.contains(&part.bytes), "{}: {part:?}", vector.name);
        }
    }
    assert_eq!(count, 2);
}
