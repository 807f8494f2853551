//! The fixed vectors in `tests/vectors/sealed-v3.json`, which every implementation of the format
//! is held to.
//!
//! They are made by this file from fixed inputs and compared with what is checked in. After an
//! intended change of the format: `SEALED_WRITE_VECTORS=1 cargo test -p sealed vectors`.

use std::path::Path;

use hkdf::Hkdf;
use sealed::{
    ChunkSize, Cipher, Error, FileCipher, FileKey, HEADER_LEN, Header, MasterKey, Params,
    ROOT_OFFSET, Restore, Root, TABLE_LEN, VERSION,
};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::support::{
    TestRng, chunks_of, open_random_access, open_stream, sample, seal, set_journal, tree_of,
};

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
    key_id: String,
    cipher: String,
    chunk_size: usize,
    salt: String,
    header_key: String,
    content_key: String,
    tree_key: String,
    plaintext: String,
    sealed: String,
}

/// A file that must not open, and why.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Bad {
    name: String,
    key: String,
    error: String,
    sealed: String,
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

fn good(cipher: Cipher, chunk_size: usize, len: usize) -> Good {
    let params = params(cipher, chunk_size);
    let plaintext = sample(len);
    // A stream of its own for each vector: no two share a salt or a nonce.
    let seed = (len as u64) << 32 | (chunk_size as u64) << 8 | u64::from(cipher.id());
    let mut rng = TestRng(seed);
    let key = FileKey::generate(&master(), params, &mut rng).unwrap();
    let sealed = seal(&key, &plaintext, &mut rng);

    // Derived here once more by hand, for the crate does not give the header key away.
    let derive = |label: &[u8]| {
        let mut derived = [0; 32];
        let bound = [VERSION, cipher.id(), params.chunk_size.log2()];
        Hkdf::<Sha256>::new(Some(key.header().salt()), master().expose_secret())
            .expand_multi_info(&[label, &bound], &mut derived)
            .unwrap();
        derived
    };
    assert_eq!(&derive(b"sealed file content key"), key.content_key());

    Good {
        name: format!("{}, chunk {chunk_size}, {len} bytes", cipher.name()),
        key: hex(master().expose_secret()),
        key_id: master().id().to_string(),
        cipher: cipher.name().into(),
        chunk_size,
        salt: hex(key.header().salt()),
        header_key: hex(&derive(b"sealed file header key")),
        content_key: hex(key.content_key()),
        tree_key: hex(&derive(b"sealed file tree key")),
        plaintext: hex(&plaintext),
        sealed: hex(&sealed),
    }
}

/// Files whose last change was cut short, each with what it opens to.
fn cut_short() -> Vec<Good> {
    let original = good(Cipher::default(), 512, 1031);
    let key = Header::parse(&unhex(&original.sealed))
        .unwrap()
        .verify(&master())
        .unwrap();
    let file = FileCipher::new(&key);
    let layout = *file.layout();
    let sealed = unhex(&original.sealed);
    let start = layout.chunk_offset(0).unwrap() as usize;
    let tag = |slot: usize| start - TABLE_LEN + 16 + slot * 16;
    let case = |name: &str, restore, chunk: &[u8], mut sealed: Vec<u8>, plaintext: &[u8]| {
        set_journal(&file, &mut sealed, restore, chunk);
        Good {
            name: name.into(),
            plaintext: hex(plaintext),
            sealed: hex(&sealed),
            ..original.clone()
        }
    };
    let tree = || tree_of(&file, &sealed).unwrap();

    let mut new_chunk = vec![0; 552];
    file.seal_run(1, &[b'n'; 512], &mut new_chunk, &mut TestRng(7))
        .unwrap();
    let mut half_new = sealed.clone();
    half_new[start + 552..start + 552 + 100].copy_from_slice(&new_chunk[..100]);
    half_new[tag(1)..tag(1) + 9].copy_from_slice(&new_chunk[536..545]);
    let overwritten = [&sample(1031)[..512], &[b'n'; 512], &sample(1031)[1024..]].concat();
    let mut new_tree = tree();
    new_tree
        .put(1, &[*new_chunk.last_chunk().unwrap()])
        .unwrap();
    let overwritten_root = new_tree.root(1031);

    let old_end = &sealed[start + 2 * 552..];
    let mut half_grown = sealed.clone();
    half_grown[start + 2 * 552..][..40].fill(b'g');
    half_grown.extend_from_slice(&[b'g'; 300]);
    half_grown[tag(2)..tag(4)].fill(b'g');

    let mut new_end = vec![0; 45];
    file.seal_to_end(1, b"short", &mut new_end, &mut TestRng(8))
        .unwrap();
    let shrunk = [&sample(1031)[..512], b"short"].concat();
    let mut new_tree = tree();
    new_tree.truncate(2).unwrap();
    new_tree.put(1, &[*new_end.last_chunk().unwrap()]).unwrap();
    let shrunk_root = new_tree.root(517);

    let mut begun = sealed[..HEADER_LEN].to_vec();
    begun.extend_from_slice(&[0; 100]);
    vec![
        case(
            "cut short: a chunk being overwritten",
            file.restore_of(1, None, &new_chunk, overwritten_root),
            &new_chunk,
            half_new,
            &overwritten,
        ),
        case(
            "cut short: growing",
            file.restore_of(2, Some(7), old_end, tree().root(1031)),
            old_end,
            half_grown,
            &sample(1031),
        ),
        case(
            "cut short: shrinking",
            file.restore_of(1, Some(5), &new_end, shrunk_root),
            &new_end,
            sealed.clone(),
            &shrunk,
        ),
        case("cut short: being begun", Restore::Empty, &[], begun, b""),
        case(
            "cut short: the journal itself",
            file.restore_of(1, None, &new_chunk, overwritten_root),
            &new_chunk[..300],
            sealed.clone(),
            &sample(1031),
        ),
    ]
}

fn table_start(cipher: Cipher) -> usize {
    params(cipher, 512).layout().data_start() as usize
}

fn bad_files() -> Vec<Bad> {
    let mut rng = TestRng(99);
    let params = params(Cipher::default(), 512);
    let mut version = |plaintext: &[u8]| {
        let key = FileKey::generate(&master(), params, &mut rng).unwrap();
        (seal(&key, plaintext, &mut rng), key)
    };
    let (sealed, key) = version(&sample(1031));
    let (other, _) = version(&sample(1031));
    let start = params.layout().chunk_offset(0).unwrap() as usize;
    let table = start - TABLE_LEN;
    let chunk = |i: usize| start + i * 552..(start + (i + 1) * 552).min(sealed.len());

    let with = |at: usize, value: u8| {
        let mut altered = sealed.clone();
        altered[at] = value;
        altered
    };
    let flipped = |at: usize| with(at, sealed[at] ^ 0x80);
    let parts = |parts: &[&[u8]]| parts.concat();

    // A final chunk where a full one belongs, and the other way round.
    let file = FileCipher::new(&key);
    let mut early_end = vec![0; 40];
    file.seal_to_end(1, &[], &mut early_end, &mut TestRng(5))
        .unwrap();

    let mut spliced = sealed.clone();
    spliced[chunk(1)].copy_from_slice(&other[chunk(1)]);

    // Another version of the same file.
    let older = seal(&key, &sample(1031), &mut TestRng(6));
    let put_back = |parts: &[std::ops::Range<usize>]| {
        let mut altered = sealed.clone();
        for part in parts {
            altered[part.clone()].copy_from_slice(&older[part.clone()]);
        }
        altered
    };
    let tag = |slot: usize| table + 16 + slot * 16..table + 32 + slot * 16;
    let root = ROOT_OFFSET as usize..ROOT_OFFSET as usize + Root::LEN;

    let header = &sealed[..start];
    let end = sealed.len();
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
        ("version 4", "UnsupportedVersion", with(8, 4)),
        ("version 0", "UnsupportedVersion", with(8, 0)),
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
        ("magic alone", "Truncated", sealed[..8].to_vec()),
        ("header cut short", "Truncated", sealed[..95].to_vec()),
        ("header alone", "Truncated", sealed[..HEADER_LEN].to_vec()),
        (
            "header and journal alone",
            "Truncated",
            sealed[..table].to_vec(),
        ),
        ("no chunk", "Truncated", header.to_vec()),
        (
            "cut inside the table",
            "Truncated",
            sealed[..start - 1].to_vec(),
        ),
        (
            "cut at the first chunk's end",
            "Truncated",
            sealed[..chunk(0).end].to_vec(),
        ),
        (
            "cut at the last full chunk's end",
            "Truncated",
            sealed[..chunk(1).end].to_vec(),
        ),
        (
            "cut inside a nonce",
            "Truncated",
            sealed[..chunk(1).start + 10].to_vec(),
        ),
        (
            "cut to overhead less one",
            "Truncated",
            sealed[..chunk(2).start + 39].to_vec(),
        ),
        ("last byte cut", "ChunkCorrupt", sealed[..end - 1].to_vec()),
        (
            "full chunk cut to look final",
            "ChunkCorrupt",
            sealed[..chunk(0).end - 1].to_vec(),
        ),
        ("one byte added", "ChunkCorrupt", parts(&[&sealed, &[0]])),
        (
            "final chunk added again",
            "ChunkCorrupt",
            parts(&[&sealed, &sealed[chunk(2)]]),
        ),
        ("nonce altered", "ChunkCorrupt", flipped(chunk(0).start)),
        (
            "ciphertext altered",
            "ChunkCorrupt",
            flipped(chunk(1).start + 24),
        ),
        ("tag altered", "ChunkCorrupt", flipped(chunk(1).end - 1)),
        ("final tag altered", "ChunkCorrupt", flipped(end - 1)),
        (
            "chunks swapped",
            "ChunkCorrupt",
            parts(&[
                header,
                &sealed[chunk(1)],
                &sealed[chunk(0)],
                &sealed[chunk(2)],
            ]),
        ),
        (
            "chunk removed",
            "ChunkCorrupt",
            parts(&[header, &sealed[chunk(1)], &sealed[chunk(2)]]),
        ),
        ("chunk from another file", "ChunkCorrupt", spliced),
        (
            "header from another file",
            "ChunkCorrupt",
            parts(&[&other[..start], &sealed[start..]]),
        ),
        (
            "final chunk of a longer file moved up",
            "ChunkCorrupt",
            parts(&[header, &sealed[chunk(0)], &sealed[chunk(2)]]),
        ),
        ("older chunk", "Stale", put_back(&[chunk(1)])),
        ("older final chunk", "Stale", put_back(&[chunk(2)])),
        (
            "older chunk and tag",
            "RootCorrupt",
            put_back(&[chunk(1), tag(1)]),
        ),
        (
            "all chunks and tags older",
            "RootCorrupt",
            put_back(&[start..sealed.len(), tag(0), tag(1), tag(2)]),
        ),
        (
            "older root",
            "RootCorrupt",
            put_back(std::slice::from_ref(&root)),
        ),
        ("root altered", "RootCorrupt", flipped(root.start)),
        ("tag in the table altered", "Stale", flipped(tag(2).start)),
        (
            "tags in the table swapped",
            "Stale",
            parts(&[
                &sealed[..tag(0).start],
                &sealed[tag(1)],
                &sealed[tag(0)],
                &sealed[tag(1).end..],
            ]),
        ),
        (
            "final chunk in the middle",
            "ChunkCorrupt",
            parts(&[
                header,
                &sealed[chunk(0)],
                &early_end,
                &sealed[chunk(1)],
                &sealed[chunk(2)],
            ]),
        ),
    ]
    .into_iter()
    .map(|(name, error, sealed)| Bad {
        name: name.into(),
        key: hex(master().expose_secret()),
        error: error.into(),
        sealed: hex(&sealed),
    })
    .chain([Bad {
        name: "digest altered of the first of two groups".into(),
        key: hex(master().expose_secret()),
        error: "TableCorrupt".into(),
        sealed: {
            let mut altered = unhex(&good(Cipher::Aes256Gcm, 512, 257 * 512 + 7).sealed);
            altered[table_start(Cipher::Aes256Gcm)] ^= 1;
            hex(&altered)
        },
    }])
    .chain([Bad {
        name: "another key".into(),
        key: hex(&[0xEE; 32]),
        error: "WrongKey".into(),
        sealed: hex(&sealed),
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
                good(Cipher::XChaCha20Poly1305, 4096, 4100),
                good(Cipher::Aes256Gcm, 8192, 3),
                // Of two groups.
                good(Cipher::Aes256Gcm, 512, 257 * 512 + 7),
            ])
            .chain(cut_short())
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
    let path = path("tests/vectors/sealed-v3.json");
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
        let (sealed, plaintext) = (unhex(&vector.sealed), unhex(&vector.plaintext));
        let key = Header::parse(&sealed).unwrap().verify(&master).unwrap();
        assert_eq!(key.header().key_id().to_string(), vector.key_id);
        assert_eq!(key.header().params().cipher.name(), vector.cipher);
        if !vector.name.starts_with("cut short") {
            assert_eq!(open_random_access(&master, &sealed).unwrap(), plaintext);
        }
        for piece in [1, 50, sealed.len()] {
            let (opened, error) = open_stream(&master, &sealed, piece);
            assert_eq!(error, None, "{}", vector.name);
            assert_eq!(opened, plaintext, "{}", vector.name);
        }
    }
}

#[test]
fn the_bad_vectors_are_refused_for_the_right_reason() {
    for vector in read().refused {
        let master = MasterKey::from_slice(&unhex(&vector.key)).unwrap();
        let sealed = unhex(&vector.sealed);
        let error = open_random_access(&master, &sealed).unwrap_err();
        assert_eq!(kind(error), vector.error, "{}", vector.name);
        let (_, error) = open_stream(&master, &sealed, 50);
        assert!(error.is_some(), "{}", vector.name);
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
        .filter(|vector| vector.chunk_size == 512 && vector.plaintext.len() <= 2)
        .filter(|vector| !vector.name.starts_with("cut short"));
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
        let sealed = unhex(&vector.sealed);
        let key = MasterKey::from_slice(&unhex(&vector.key)).unwrap();
        let file = FileCipher::open(&key, &sealed).unwrap();
        let chunk = chunks_of(&file, &sealed).unwrap().pop().unwrap();
        let table = file.layout().data_start() as usize;
        let root = ROOT_OFFSET as usize + Root::LEN;
        // What is not shown is zeros.
        for zeros in [root..table, table + 32..chunk.start] {
            assert!(sealed[zeros].iter().all(|&byte| byte == 0));
        }
        for part in [
            0..HEADER_LEN,
            ROOT_OFFSET as usize..root,
            table..table + 32,
            chunk,
        ] {
            let part = hex(&sealed[part]);
            assert!(shown.contains(&part), "{}: {part}", vector.name);
        }
    }
}
