//! The fixed vectors in `tests/vectors/key-files-v1.json`, which every reader of key files is held
//! to.
//!
//! They are made by this file from fixed inputs and compared with what is checked in. After an
//! intended change of the format: `KEYS_WRITE_VECTORS=1 cargo test -p keys --test vectors`.

use std::convert::Infallible;
use std::path::Path;

use argon2::{Algorithm, Argon2, Version};
use keys::Passphrase;
use keys::key_file::{self, FormatError, KeyFile};
use keys::ring_file::{FIRST_LINE, RingFileError};
use keys::wrapped::{Cost, WrappedKey, WrappedKeyError};
use rand_core::{TryCryptoRng, TryRng};
use sealed::{KEY_LEN, MasterKey};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Vectors {
    format: String,
    version: u8,
    wrapped: Vec<Wrapped>,
    rings: Vec<Ring>,
    refused: Vec<Refused>,
}

/// A wrapped key file that opens.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Wrapped {
    name: String,
    passphrase: String,
    memory: u32,
    passes: u32,
    lanes: u32,
    salt: String,
    nonce: String,
    wrapping_key: String,
    key: String,
    key_id: String,
    file: String,
}

/// A ring file with what it names.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Ring {
    name: String,
    names: Vec<String>,
    file: String,
}

/// A file that must not be taken for a key, and why.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Refused {
    name: String,
    passphrase: String,
    error: String,
    file: String,
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

/// Gives out bytes that count up.
struct Counting(u8);

impl TryRng for Counting {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        for byte in dst {
            *byte = self.0;
            self.0 = self.0.wrapping_add(1);
        }
        Ok(())
    }
}

impl TryCryptoRng for Counting {}

fn master() -> MasterKey {
    MasterKey::from_bytes(std::array::from_fn(|i| i as u8))
}

fn passphrase(bytes: &[u8]) -> Passphrase {
    Passphrase::new(bytes.to_vec().into()).unwrap()
}

fn wrapped(name: &str, words: &[u8], cost: Cost) -> Wrapped {
    let key = WrappedKey::wrap(&master(), &passphrase(words), cost, &mut Counting(0x80)).unwrap();
    let file = key.encode();
    // Derived here once more, for the crate does not give the wrapping key away.
    let (memory, passes, lanes) = (cost.memory(), cost.passes(), cost.lanes());
    let params = argon2::Params::new(memory, passes, lanes, Some(KEY_LEN)).unwrap();
    let mut wrapping_key = [0; KEY_LEN];
    let mut blocks = vec![argon2::Block::new(); params.block_count()];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(words, &file[40..56], &mut wrapping_key, &mut blocks)
        .unwrap();
    Wrapped {
        name: name.into(),
        passphrase: hex(words),
        memory,
        passes,
        lanes,
        salt: hex(&file[40..56]),
        nonce: hex(&file[56..80]),
        wrapping_key: hex(&wrapping_key),
        key: hex(master().expose_secret()),
        key_id: master().id().to_string(),
        file: hex(&file),
    }
}

fn ring(name: &str, lines: &str, names: &[&str]) -> Ring {
    Ring {
        name: name.into(),
        names: names.iter().map(|&name| name.into()).collect(),
        file: hex(format!("{FIRST_LINE}\n{lines}").as_bytes()),
    }
}

const WORDS: &[u8] = b"correct horse battery staple";

fn refused() -> Vec<Refused> {
    let whole = unhex(&wrapped("", WORDS, Cost::new(8 << 10, 4, 1).unwrap()).file);
    let case = |name: &str, file: &[u8], words: &[u8]| Refused {
        name: name.into(),
        passphrase: hex(words),
        error: fault(file, words).unwrap_or_else(|| panic!("{name} is accepted")),
        file: hex(file),
    };
    let altered = |name: &str, at: usize, value: u8| {
        let mut file = whole.clone();
        file[at] = value;
        case(name, &file, WORDS)
    };
    let mut cases = vec![
        case(
            "another passphrase",
            &whole,
            b"Correct horse battery staple",
        ),
        altered("version 2", 8, 2),
        altered("unknown function", 9, 2),
        altered("unknown cipher", 10, 2),
        altered("reserved byte", 11, 1),
        altered("a tebibyte of memory", 15, 0x40),
        altered("too little memory", 13, 0x1F),
        altered("hardly any memory", 13, 0),
        altered("too little work", 16, 3),
        altered("no pass", 16, 0),
        altered("too many passes", 19, 1),
        altered("no lane", 20, 0),
        altered("too many lanes", 20, 17),
        altered("more passes", 16, 5),
        altered("key id", 24, whole[24] ^ 1),
        altered("salt", 40, whole[40] ^ 1),
        altered("nonce", 56, whole[56] ^ 1),
        altered("key", 80, whole[80] ^ 1),
        altered("tag", 127, whole[127] ^ 1),
        case("cut short", &whole[..127], WORDS),
        case("added to", &[&whole[..], b"\n"].concat(), WORDS),
    ];
    for (name, file) in [
        ("empty", &[][..]),
        ("31 bytes", &[1; 31]),
        ("33 bytes", &[1; 33]),
        (
            "a ring of another version",
            b"sealed key ring, version 2: one key file a line\na\n",
        ),
        (
            "a ring of nothing",
            format!("{FIRST_LINE}\n# a\n").as_bytes(),
        ),
        (
            "a ring with a control character",
            format!("{FIRST_LINE}\na\tb\n").as_bytes(),
        ),
        (
            "a ring that is not text",
            &[FIRST_LINE.as_bytes(), b"\n\xFF\n"].concat(),
        ),
    ] {
        cases.push(case(name, file, WORDS));
    }
    cases
}

/// Why a file is refused, by the name that the vectors have for it.
fn fault(file: &[u8], words: &[u8]) -> Option<String> {
    let outcome = match key_file::parse(file) {
        Ok(KeyFile::Wrapped(key)) => key.unwrap_with(&passphrase(words)).err().map(Into::into),
        Ok(_) => None,
        Err(error) => Some(error),
    };
    let name = match outcome? {
        FormatError::WrongLength(_) => "NoKeyFile",
        FormatError::Wrapped(WrappedKeyError::UnsupportedVersion(_))
        | FormatError::Ring(RingFileError::NotARing) => "UnsupportedVersion",
        FormatError::Wrapped(WrappedKeyError::WrongLength(_)) => "WrongLength",
        FormatError::Wrapped(WrappedKeyError::UnknownAlgorithm { .. }) => "UnknownAlgorithm",
        FormatError::Wrapped(WrappedKeyError::Damaged) => "Damaged",
        FormatError::Wrapped(WrappedKeyError::Cost(_)) => "Cost",
        FormatError::Wrapped(WrappedKeyError::Refused) => "Refused",
        FormatError::Ring(_) => "BadRing",
        other => panic!("{other}"),
    };
    Some(name.into())
}

fn vectors() -> Vectors {
    let cost = |memory, passes, lanes| Cost::new(memory, passes, lanes).unwrap();
    Vectors {
        format: "key files".into(),
        version: 1,
        wrapped: vec![
            wrapped("default cost", WORDS, Cost::default()),
            wrapped("least cost", WORDS, cost(8 << 10, 4, 1)),
            wrapped("four lanes", WORDS, cost(16 << 10, 2, 4)),
            wrapped(
                "memory that the lanes don't divide",
                WORDS,
                cost((32 << 10) + 5, 1, 3),
            ),
            wrapped(
                "any bytes are a passphrase",
                b"\0\xFF pass\r",
                cost(8 << 10, 4, 1),
            ),
        ],
        rings: vec![
            ring("one key", "k.bin", &["k.bin"]),
            ring(
                "comments, blank lines and blanks",
                "\n# the one that seals\r\n  new keys/k.bin\t\r\n\n\t # the others\n/keys/old\n./#k\n",
                &["new keys/k.bin", "/keys/old", "./#k"],
            ),
        ],
        refused: refused(),
    }
}

#[test]
fn vectors_are_what_is_checked_in() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/key-files-v1.json");
    let made = vectors();
    if std::env::var_os("KEYS_WRITE_VECTORS").is_some() {
        let text = serde_json::to_string_pretty(&made).unwrap() + "\n";
        std::fs::write(&path, text).unwrap();
    }
    let read: Vectors = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(read, made);

    for vector in &read.wrapped {
        let KeyFile::Wrapped(key) = key_file::parse(&unhex(&vector.file)).unwrap() else {
            panic!("{}", vector.name);
        };
        assert_eq!(key.key_id().to_string(), vector.key_id);
        let key = key.unwrap_with(&passphrase(&unhex(&vector.passphrase)));
        assert_eq!(
            hex(key.unwrap().expose_secret()),
            vector.key,
            "{}",
            vector.name
        );
    }
    for vector in &read.rings {
        let KeyFile::Ring(ring) = key_file::parse(&unhex(&vector.file)).unwrap() else {
            panic!("{}", vector.name);
        };
        assert_eq!(ring.names(), vector.names, "{}", vector.name);
    }
    for vector in &read.refused {
        let found = fault(&unhex(&vector.file), &unhex(&vector.passphrase));
        assert_eq!(found.as_ref(), Some(&vector.error), "{}", vector.name);
    }
}

#[test]
fn the_document_shows_the_first_vector() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/key-files.md");
    let text = std::fs::read_to_string(path).unwrap();
    let first = &vectors().wrapped[0];
    for value in [&first.wrapping_key, &first.key, &first.key_id] {
        assert!(text.contains(value.as_str()), "{value}");
    }
    let shown: String = text.split_whitespace().collect();
    assert!(shown.contains(&first.file));
}
