//! The fixed vectors in `tests/vectors/sealed-v4.json`, which every implementation of the format
//! is held to.
//!
//! They are made by this file from fixed inputs and compared with what is checked in. After an
//! intended change of the format: `SEALED_WRITE_VECTORS=1 cargo test -p sealed vectors`.

use std::path::Path;

use hkdf::Hkdf;
use sealed::{
    ChunkSize, Cipher, Error, FileCipher, FileKey, MasterKey, OVERHEAD, Params, VERSION, Volume,
};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::support::{Memory, TestRng, open, sample, seal};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Vectors {
    format: String,
    version: u8,
    files: Vec<Good>,
    refused: Vec<Bad>,
}

/// Bytes: how many, and where those stand that are not zeros.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Sparse {
    len: usize,
    parts: Vec<(usize, String)>,
}

impl Sparse {
    fn of(bytes: &[u8]) -> Self {
        const GAP: usize = 32;
        let mut parts = Vec::new();
        let mut at = 0;
        while let Some(start) = bytes[at..].iter().position(|&byte| byte != 0) {
            let start = at + start;
            let mut end = start;
            while let Some(next) = bytes[end..].iter().take(GAP).position(|&byte| byte != 0) {
                end += next + 1;
            }
            parts.push((start, hex(&bytes[start..end])));
            at = end;
        }
        Self {
            len: bytes.len(),
            parts,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        for (at, part) in &self.parts {
            let part = unhex(part);
            bytes[*at..at + part.len()].copy_from_slice(&part);
        }
        bytes
    }
}

/// A file that opens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Good {
    name: String,
    key: String,
    key_id: String,
    cipher: String,
    chunk_size: usize,
    salt: String,
    header_key: String,
    content_key: String,
    tree_key: String,
    counter: u64,
    plaintext: Sparse,
    sealed: Sparse,
}

/// A file that must not open, and why.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Bad {
    name: String,
    key: String,
    error: String,
    sealed: Sparse,
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

fn master() -> MasterKey {
    MasterKey::from_bytes(std::array::from_fn(|i| i as u8))
}

fn params(cipher: Cipher, chunk_size: usize) -> Params {
    Params {
        cipher,
        chunk_size: ChunkSize::from_bytes(chunk_size).unwrap(),
    }
}

fn vector(name: String, key: &FileKey, plaintext: &[u8], sealed: &[u8]) -> Good {
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
    let opened = Volume::open(sealed, |head| FileCipher::open(&master(), head)).unwrap();
    Good {
        name,
        key: hex(master().expose_secret()),
        key_id: master().id().to_string(),
        cipher: params.cipher.name().into(),
        chunk_size: params.chunk_size.bytes(),
        salt: hex(key.header().salt()),
        header_key: hex(&derive(b"sealed file header key")),
        content_key: hex(key.content_key()),
        tree_key: hex(&derive(b"sealed file tree key")),
        counter: opened.volume.map_or(0, |volume| volume.counter()),
        plaintext: Sparse::of(plaintext),
        sealed: Sparse::of(sealed),
    }
}

fn good(cipher: Cipher, chunk_size: usize, len: usize) -> Good {
    let params = params(cipher, chunk_size);
    let plaintext = sample(len);
    // A stream of its own for each vector: no two share a salt or a nonce.
    let seed = (len as u64) << 32 | (chunk_size as u64) << 8 | u64::from(cipher.id());
    let mut rng = TestRng(seed);
    let key = FileKey::generate(&master(), params, &mut rng).unwrap();
    let sealed = seal(&key, &plaintext, &mut rng);
    let name = format!("{}, chunk {chunk_size}, {len} bytes", cipher.name());
    vector(name, &key, &plaintext, &sealed)
}

/// A file in the making, with what it should have in it.
struct Made {
    key: FileKey,
    disk: Memory,
    volume: Volume,
    rng: TestRng,
    content: Vec<u8>,
}

impl Made {
    fn new(cipher: Cipher, seed: u64) -> Self {
        let mut rng = TestRng(seed);
        let key = FileKey::generate(&master(), params(cipher, 512), &mut rng).unwrap();
        Self {
            disk: Memory::default(),
            volume: Volume::create(FileCipher::new(&key), &mut rng).unwrap(),
            key,
            rng,
            content: Vec::new(),
        }
    }

    fn write(&mut self, at: usize, data: &[u8]) -> &mut Self {
        let end = at + data.len();
        self.content.resize(self.content.len().max(end), 0);
        self.content[at..end].copy_from_slice(data);
        self.volume
            .write(&self.disk, &mut self.rng, at as u64, data)
            .unwrap();
        self
    }

    fn set_len(&mut self, len: usize) -> &mut Self {
        self.content.resize(len, 0);
        self.volume
            .set_len(&self.disk, &mut self.rng, len as u64)
            .unwrap();
        self
    }

    fn punch(&mut self, at: usize, len: usize) -> &mut Self {
        self.content[at..at + len].fill(0);
        let range = at as u64..(at + len) as u64;
        self.volume.punch(&self.disk, &mut self.rng, range).unwrap();
        self
    }

    fn checkpoint(&mut self) -> &mut Self {
        self.volume.checkpoint(&self.disk, &mut self.rng).unwrap();
        self
    }

    fn mark(&mut self) -> &mut Self {
        let moment = self.volume.moment();
        self.volume.mark(&self.disk, moment).unwrap();
        self
    }

    fn vector(&self, name: &str) -> Good {
        vector(
            name.to_owned(),
            &self.key,
            &self.content,
            &self.disk.0.borrow(),
        )
    }
}

/// Files that were changed, each in another state.
fn histories() -> Vec<Good> {
    let mut made = Made::new(Cipher::default(), 1 << 40);
    let mut all = Vec::new();
    made.write(0, &sample(1100)).write(600, b"changed");
    all.push(made.vector("log: two records"));
    made.checkpoint();
    all.push(made.vector("epoch 1"));
    made.write(1090, &sample(30)).mark();
    all.push(made.vector("epoch 1, with a record that is marked"));
    made.checkpoint().write(0, b"!").set_len(700);
    all.push(made.vector("epoch 2, cut shorter"));
    made.set_len(200_000).write(150_000, b"data");
    all.push(made.vector("epoch 2, with holes, and longer than a group"));
    made.checkpoint().punch(0, 512);
    all.push(made.vector("epoch 3, two levels, a hole punched"));
    made.checkpoint();
    all.push(made.vector("epoch 4, the other slots"));

    let mut made = Made::new(Cipher::Xaes256Gcm, 2 << 40);
    made.write(0, &sample(40_000));
    all.push(made.vector("log: chunks at their places"));
    for round in 0..40 {
        made.write(round * 700, &sample(2000 + round));
    }
    all.push(made.vector("log: behind the groups"));
    made.checkpoint().write(5, b"and on");
    all.push(made.vector("epoch 1, behind it the log before"));

    // What power cuts leave.
    let mut made = Made::new(Cipher::default(), 3 << 40);
    made.write(0, &sample(30_000));
    let before = made.vector("");
    made.write(30_000, &sample(30_000));
    let place = made.volume.layout().chunk_offset(70).unwrap() as usize;
    let mut torn = made.disk.0.borrow().clone();
    torn[place..place + 512].fill(0);
    all.push(Good {
        sealed: Sparse::of(&torn),
        name: "power cut: a chunk that the last record names is not there".into(),
        ..before.clone()
    });
    let mut torn = made.disk.0.borrow().clone();
    let end = torn[1536..65536]
        .iter()
        .rposition(|&byte| byte != 0)
        .unwrap();
    torn[1536 + end - 3..1536 + end + 1].fill(0);
    all.push(Good {
        sealed: Sparse::of(&torn),
        name: "power cut: the last record is torn".into(),
        ..before
    });
    let mut begun = made.disk.0.borrow().clone();
    begun[..4096].fill(0);
    let nothing = Good {
        plaintext: Sparse::of(&[]),
        counter: 0,
        ..made.vector("")
    };
    all.push(Good {
        name: "power cut: the first page never reached the disk".into(),
        sealed: Sparse::of(&begun),
        ..nothing.clone()
    });
    all.push(Good {
        name: "no bytes".into(),
        sealed: Sparse::of(&[]),
        ..nothing
    });
    all
}

fn bad_files() -> Vec<Bad> {
    let mut made = Made::new(Cipher::default(), 4 << 40);
    made.write(0, &sample(2000)).checkpoint();
    let older = made.disk.0.borrow().clone();
    made.write(600, b"changed")
        .checkpoint()
        .write(0, b"!")
        .mark();
    let newest = made.disk.0.borrow().clone();
    let mut other = Made::new(Cipher::default(), 5 << 40);
    other.write(0, &sample(2000)).checkpoint();
    let other = other.disk.0.borrow().clone();
    let layout = *made.volume.layout();
    let place = |index| layout.chunk_offset(index).unwrap() as usize;
    let chunk = |index| place(index)..place(index) + 512 + OVERHEAD;
    let leaf = layout.node_offset(0, 0).unwrap() as usize;

    let with = |at: usize, value: u8| {
        let mut altered = newest.clone();
        altered[at] = value;
        altered
    };
    let flipped = |at: usize| with(at, newest[at] ^ 0x80);
    let from = |source: &[u8], part: std::ops::Range<usize>| {
        let mut altered = newest.clone();
        altered[part.clone()].copy_from_slice(&source[part]);
        altered
    };
    let mut swapped = newest.clone();
    swapped[chunk(2)].copy_from_slice(&newest[chunk(1)]);
    let mut zeros = newest.clone();
    zeros[..512].fill(0);
    let mut punched = newest.clone();
    punched[chunk(2)].fill(0);
    [
        (
            "plain text",
            "NotSealed",
            b"This is not a sealed file.\n".to_vec(),
        ),
        ("magic altered", "NotSealed", flipped(0)),
        (
            "newline of the magic translated",
            "NotSealed",
            with(7, b'\r'),
        ),
        ("version 1", "UnsupportedVersion", with(8, 1)),
        ("version 2", "UnsupportedVersion", with(8, 2)),
        ("version 3", "UnsupportedVersion", with(8, 3)),
        ("version 5", "UnsupportedVersion", with(8, 5)),
        ("cipher 0", "UnknownCipher", with(9, 0)),
        ("cipher 3", "UnknownCipher", with(9, 3)),
        ("the other cipher", "HeaderCorrupt", with(9, 2)),
        ("chunk size 2^8", "UnsupportedChunkSize", with(10, 8)),
        ("chunk size 2^17", "UnsupportedChunkSize", with(10, 17)),
        ("another chunk size", "HeaderCorrupt", with(10, 10)),
        ("reserved byte set", "HeaderCorrupt", with(11, 1)),
        ("key id altered", "WrongKey", flipped(16)),
        ("salt altered", "HeaderCorrupt", flipped(32)),
        ("header MAC altered", "HeaderCorrupt", flipped(95)),
        ("header of zeros below a checkpoint", "HeaderCorrupt", zeros),
        ("magic alone", "Truncated", newest[..8].to_vec()),
        ("header cut short", "Truncated", newest[..95].to_vec()),
        ("header alone", "Truncated", newest[..96].to_vec()),
        (
            "newest superblock altered",
            "SuperblockCorrupt",
            flipped(512),
        ),
        (
            "older superblock altered",
            "SuperblockCorrupt",
            flipped(65537),
        ),
        (
            "superblock of another file",
            "SuperblockCorrupt",
            from(&other, 65536..65664),
        ),
        ("marked record altered", "LogCorrupt", flipped(1540)),
        (
            "marked record away",
            "LogCorrupt",
            from(&vec![0; newest.len()], 1536..65536),
        ),
        ("tag in the leaf altered", "TreeCorrupt", {
            let mut altered = newest.clone();
            altered[leaf + 32] ^= 1;
            altered[leaf + 4096 + 32] ^= 1;
            altered
        }),
        (
            "both slots older",
            "TreeCorrupt",
            from(&older, leaf..leaf + 8192),
        ),
        ("nonce altered", "ChunkCorrupt", flipped(place(2))),
        ("ciphertext altered", "ChunkCorrupt", flipped(place(2) + 24)),
        ("tag altered", "ChunkCorrupt", flipped(place(2) + 551)),
        ("chunk moved", "ChunkCorrupt", swapped),
        ("hole punched", "ChunkCorrupt", punched),
        (
            "chunk of another file",
            "ChunkCorrupt",
            from(&other, chunk(2)),
        ),
        ("older chunk", "Stale", from(&older, chunk(1))),
        ("cut short", "ChunkCorrupt", newest[..place(2)].to_vec()),
    ]
    .into_iter()
    .map(|(name, error, sealed)| Bad {
        name: name.into(),
        key: hex(master().expose_secret()),
        error: error.into(),
        sealed: Sparse::of(&sealed),
    })
    .chain([Bad {
        name: "another key".into(),
        key: hex(&[0xEE; 32]),
        error: "WrongKey".into(),
        sealed: Sparse::of(&newest),
    }])
    .collect()
}

fn make() -> Vectors {
    let sizes = [0, 1, 511, 512, 513, 1031];
    Vectors {
        format: "sealed".into(),
        version: VERSION,
        files: Cipher::ALL
            .into_iter()
            .flat_map(|cipher| sizes.map(|len| good(cipher, 512, len)))
            .chain([
                good(Cipher::XChaCha20Poly1305, 4096, 30_000),
                good(Cipher::Xaes256Gcm, 8192, 3),
                // Of two groups.
                good(Cipher::Xaes256Gcm, 512, 257 * 512 + 7),
            ])
            .chain(histories())
            .collect(),
        refused: bad_files(),
    }
}

fn path(from_root: &str) -> std::path::PathBuf {
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
        assert_eq!(made, read);
    }
    assert_eq!(made, read);
}

#[test]
fn the_vectors_open() {
    for vector in read().files {
        let master = MasterKey::from_slice(&unhex(&vector.key)).unwrap();
        let opened = open(&master, &vector.sealed.bytes());
        assert_eq!(opened, Ok(vector.plaintext.bytes()), "{}", vector.name);
    }
}

#[test]
fn the_bad_vectors_are_refused_for_the_right_reason() {
    for vector in read().refused {
        let master = MasterKey::from_slice(&unhex(&vector.key)).unwrap();
        let error = open(&master, &vector.sealed.bytes()).unwrap_err();
        assert_eq!(kind(error), vector.error, "{}", vector.name);
    }
}

/// The worked examples in the document are vectors too.
#[test]
fn the_document_shows_the_vectors() {
    let document = std::fs::read_to_string(path("docs/format.md")).unwrap();
    let shown: String = document.split_whitespace().collect();
    let files = read().files;
    let examples: Vec<_> = files
        .iter()
        .filter(|vector| vector.name.ends_with("chunk 512, 1 bytes"))
        .collect();
    assert_eq!(examples.len(), Cipher::ALL.len());
    for vector in examples {
        for field in [
            &vector.key,
            &vector.key_id,
            &vector.salt,
            &vector.header_key,
            &vector.content_key,
            &vector.tree_key,
        ] {
            assert!(shown.contains(field.as_str()), "{}: {field}", vector.name);
        }
        let sealed = vector.sealed.bytes();
        for part in [0..96, 512..640, 1024..1056, 1536..sealed.len()] {
            let part = hex(&sealed[part]);
            assert!(shown.contains(&part), "{}: {part}", vector.name);
        }
    }
}
