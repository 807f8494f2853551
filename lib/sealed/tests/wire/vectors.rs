//! The fixed vectors in `tests/vectors/wire-v1.json`, which every implementation of the protocols
//! is held to.
//!
//! They are made by this file from fixed inputs and compared with what is checked in. After an
//! intended change: `SEALED_WRITE_VECTORS=1 cargo test -p sealed vectors`.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rand_core::{TryCryptoRng, TryRng};
use sealed::wire::aead::{AeadError, MessageAead, MessageCipher, MessageKey, Run, Software};
use sealed::wire::{
    Connection, DatagramError, Datagrams, Error, Keys, MAX_RECORD_PLAINTEXT, REKEY_INTERVAL,
};
use sealed::{KEY_LEN, MasterKey};
use serde::{Deserialize, Serialize};

use crate::chacha20_poly1305::support::{TestRng, carry, key, read_all, sample, units};
use crate::entry::Offers;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Vectors {
    format: String,
    version: u8,
    rekeying: Vec<Rekeying>,
    streams: Vec<Stream>,
    streams_refused: Vec<BadStream>,
    datagrams: Vec<Datagram>,
    datagrams_refused: Vec<BadDatagram>,
}

/// A key of a direction and the one that follows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Rekeying {
    cipher: String,
    key: String,
    next: String,
}

/// A whole connection.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Stream {
    name: String,
    key: String,
    initiator_ephemeral: String,
    responder_ephemeral: String,
    /// Whether each end offers AES-256-GCM, and what they agree on.
    initiator_offers_aes: bool,
    responder_offers_aes: bool,
    cipher: String,
    /// The key of the initiator's records, and of the responder's.
    initiator_key: String,
    responder_key: String,
    /// What each program writes, one write after the other, before it closes its direction.
    initiator_writes: Vec<String>,
    responder_writes: Vec<String>,
    /// All that each end sends.
    initiator_sends: String,
    responder_sends: String,
}

/// What one end receives, up to the end of the transport, and how far it gets.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct BadStream {
    name: String,
    keys: Vec<String>,
    is_initiator: bool,
    ephemeral: String,
    offers_aes: bool,
    receives: String,
    reads: String,
    error: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Datagram {
    name: String,
    key: String,
    sender_salt: String,
    sequence: u64,
    datagram_key: String,
    payload: String,
    sealed: String,
}

/// A datagram that a socket refuses after it has received others.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct BadDatagram {
    name: String,
    keys: Vec<String>,
    received: Vec<String>,
    sealed: String,
    error: String,
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

/// Gives out fixed bytes, once.
struct Fixed(Vec<u8>);

impl TryRng for Fixed {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        unreachable!("only bytes are drawn")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        unreachable!("only bytes are drawn")
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        let drawn: Vec<u8> = self.0.drain(..dst.len()).collect();
        dst.copy_from_slice(&drawn);
        Ok(())
    }
}

impl TryCryptoRng for Fixed {}

fn drawn(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    TestRng(seed).try_fill_bytes(&mut bytes).unwrap();
    bytes
}

/// Does as the software does, offers AES as it is told, and keeps the keys that something was sealed with.
#[derive(Clone, Default)]
struct Spy {
    offers_aes: bool,
    keys: Arc<Mutex<Vec<[u8; KEY_LEN]>>>,
}

impl Spy {
    fn new(offers_aes: bool) -> Self {
        Self {
            offers_aes,
            ..Self::default()
        }
    }

    fn keys(&self) -> Vec<[u8; KEY_LEN]> {
        self.keys.lock().unwrap().clone()
    }
}

impl MessageAead for Spy {
    fn offers_aes(&self) -> bool {
        self.offers_aes
    }

    fn seal(
        &self,
        key: &MessageKey,
        run: Run,
        plaintext: &[u8],
        sealed: &mut [u8],
    ) -> Result<(), AeadError> {
        let mut keys = self.keys.lock().unwrap();
        if keys.last() != Some(key.expose_secret()) {
            keys.push(*key.expose_secret());
        }
        Software.seal(key, run, plaintext, sealed)
    }

    fn open(
        &self,
        key: &MessageKey,
        run: Run,
        sealed: &[u8],
        plaintext: &mut [u8],
    ) -> Result<(), AeadError> {
        Software.open(key, run, sealed, plaintext)
    }
}

/// The two ends that the ephemerals of these seeds make, with what they seal with.
fn ends(seed: u64, offers_aes: [bool; 2]) -> ([Connection<Spy>; 2], [Spy; 2], [Vec<u8>; 2]) {
    let keys = Keys::from(master());
    let ephemerals = [drawn(seed, 32), drawn(seed + 1, 32)];
    let spies = offers_aes.map(Spy::new);
    let [i, r] = ephemerals.clone().map(Fixed);
    let [i_spy, r_spy] = spies.clone();
    let ends = [
        Connection::initiator_with(&keys, &mut { i }, i_spy).unwrap(),
        Connection::responder_with(&keys, &mut { r }, r_spy).unwrap(),
    ];
    (ends, spies, ephemerals)
}

/// As [`stream_of`], of two ends that make no offer.
fn stream(name: &str, seed: u64, initiator: &[Vec<u8>], responder: &[Vec<u8>]) -> Stream {
    stream_of(name, seed, [false; 2], initiator, responder)
}

fn stream_of(
    name: &str,
    seed: u64,
    offers_aes: [bool; 2],
    initiator: &[Vec<u8>],
    responder: &[Vec<u8>],
) -> Stream {
    let ([mut i, mut r], spies, ephemerals) = ends(seed, offers_aes);
    let mut sent = [Vec::new(), Vec::new()];
    let mut turn = |from: &mut Connection<Spy>, to: &mut Connection<Spy>, direction: usize| {
        sent[direction].extend_from_slice(from.wire_output());
        carry(from, to).unwrap();
    };
    turn(&mut i, &mut r, 0);
    turn(&mut r, &mut i, 1);
    for (end, writes) in [(&mut i, initiator), (&mut r, responder)] {
        for write in writes {
            assert_eq!(end.write(write, usize::MAX), Ok(write.len()));
        }
        end.close_write().unwrap();
    }
    turn(&mut i, &mut r, 0);
    turn(&mut r, &mut i, 1);
    let cipher = cipher(i.cipher().unwrap());
    let [initiator_key, responder_key] = spies.map(|spy| hex(&spy.keys()[0]));
    Stream {
        name: name.into(),
        key: hex(master().expose_secret()),
        initiator_ephemeral: hex(&ephemerals[0]),
        responder_ephemeral: hex(&ephemerals[1]),
        initiator_offers_aes: offers_aes[0],
        responder_offers_aes: offers_aes[1],
        cipher,
        initiator_key,
        responder_key,
        initiator_writes: initiator.iter().map(|write| hex(write)).collect(),
        responder_writes: responder.iter().map(|write| hex(write)).collect(),
        initiator_sends: hex(&sent[0]),
        responder_sends: hex(&sent[1]),
    }
}

fn streams() -> Vec<Stream> {
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        stream("nothing said", 0x100, &[], &[]),
        stream("a word each way", 0x200, &[text("ping")], &[text("pong!")]),
        stream(
            "several records",
            0x300,
            &[sample(1, 1), sample(300, 2), sample(64, 3)],
            &[sample(1000, 4), sample(2, 5)],
        ),
        stream(
            "a write of more than one record",
            0x400,
            &[sample(MAX_RECORD_PLAINTEXT + 1, 6)],
            &[],
        ),
        stream_of(
            "an offer that is not taken",
            0x800,
            [true, false],
            &[text("ping")],
            &[text("pong!")],
        ),
        stream_of(
            "an offer that nobody asked for",
            0x900,
            [false, true],
            &[text("ping")],
            &[text("pong!")],
        ),
        stream_of(
            "AES, a word each way",
            0x200,
            [true; 2],
            &[text("ping")],
            &[text("pong!")],
        ),
        stream_of(
            "AES, more than one record",
            0xa00,
            [true; 2],
            &[sample(MAX_RECORD_PLAINTEXT + 1, 6), sample(300, 2)],
            &[sample(1000, 4)],
        ),
    ]
}

fn cipher(cipher: MessageCipher) -> String {
    match cipher {
        MessageCipher::ChaCha20Poly1305 => "ChaCha20-Poly1305".into(),
        MessageCipher::Aes256Gcm => "AES-256-GCM".into(),
        other => panic!("{other:?}"),
    }
}

/// What somebody between has altered of two ends that offer AES, or of one that does, and what was sealed with the
/// wrong cipher.
fn refused_offers() -> Vec<BadStream> {
    const OFFER_AT: usize = 9 + 31;
    let word = &[b"one".to_vec()];
    let made = |offers| stream_of("", 0x500, offers, word, word);
    let (both, first, none) = (made([true; 2]), made([true, false]), made([false; 2]));
    let refused = |name: &str, end: &Stream, is_initiator: bool, receives: &str, offer: u8| {
        let mut receives = unhex(receives);
        receives[OFFER_AT] ^= offer;
        let (ephemeral, offers_aes) = match is_initiator {
            true => (&end.initiator_ephemeral, end.initiator_offers_aes),
            false => (&end.responder_ephemeral, end.responder_offers_aes),
        };
        let bad = BadStream {
            name: name.into(),
            keys: vec![end.key.clone()],
            is_initiator,
            ephemeral: ephemeral.clone(),
            offers_aes,
            receives: hex(&receives),
            reads: String::new(),
            error: String::new(),
        };
        let (reads, error) = receive(&bad);
        BadStream {
            reads: hex(&reads),
            error: kind(error.expect(name)),
            ..bad
        }
    };
    let spliced = |flight: &str, records: &str| format!("{}{}", &flight[..114], &records[114..]);
    vec![
        refused(
            "offer taken back",
            &both,
            false,
            &both.initiator_sends,
            0x80,
        ),
        refused(
            "answer's offer taken back",
            &both,
            true,
            &both.responder_sends,
            0x80,
        ),
        refused(
            "offer made for another",
            &none,
            false,
            &none.initiator_sends,
            0x80,
        ),
        refused(
            "answer's offer made for another",
            &first,
            true,
            &first.responder_sends,
            0x80,
        ),
        refused(
            "answer to another offer",
            &both,
            true,
            &none.responder_sends,
            0,
        ),
        refused(
            "records of the other cipher",
            &both,
            false,
            &spliced(&both.initiator_sends, &none.initiator_sends),
            0,
        ),
        refused(
            "AES where it was not agreed on",
            &none,
            true,
            &spliced(&none.responder_sends, &both.responder_sends),
            0,
        ),
    ]
}

fn refused_streams() -> Vec<BadStream> {
    let made = stream(
        "",
        0x500,
        &[b"one".to_vec(), b"two!".to_vec()],
        &[b"three".to_vec()],
    );
    let sent = [&made.initiator_sends, &made.responder_sends].map(|wire| unhex(wire));
    let ephemerals = [&made.initiator_ephemeral, &made.responder_ephemeral];
    let refused = |name: &str, from: usize, receives: Vec<u8>, keys: &[MasterKey]| {
        let is_initiator = from == 1;
        let bad = BadStream {
            name: name.into(),
            keys: keys.iter().map(|key| hex(key.expose_secret())).collect(),
            is_initiator,
            ephemeral: ephemerals[usize::from(!is_initiator)].clone(),
            offers_aes: false,
            receives: hex(&receives),
            reads: String::new(),
            error: String::new(),
        };
        let (reads, error) = receive(&bad);
        BadStream {
            reads: hex(&reads),
            error: kind(error.expect(name)),
            ..bad
        }
    };
    let altered = |direction: usize, alter: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut parts: Vec<Vec<u8>> = units(&sent[direction])
            .into_iter()
            .map(<[u8]>::to_vec)
            .collect();
        alter(&mut parts);
        parts.concat()
    };
    let one = [master()];
    // The initiator's units: flight, confirmation, two records, end.
    let cases: [(&str, usize, Vec<u8>); 20] = [
        (
            "a request in the clear",
            0,
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        ),
        ("a greeting in the clear", 1, b"SSH-2.0-x\r\n".to_vec()),
        ("version 2", 0, altered(0, &|units| units[0][8] = 2)),
        (
            "version 2 in the answer",
            1,
            altered(1, &|units| units[0][8] = 2),
        ),
        (
            "ephemeral key altered",
            0,
            altered(0, &|units| units[0][9] ^= 1),
        ),
        (
            "ephemeral key in the answer altered",
            1,
            altered(1, &|units| units[0][40] ^= 1),
        ),
        (
            "tag of the flight altered",
            0,
            altered(0, &|units| units[0][56] ^= 0x80),
        ),
        ("nothing received", 0, Vec::new()),
        ("flight cut short", 0, sent[0][..56].to_vec()),
        ("cut before the confirmation", 0, sent[0][..57].to_vec()),
        (
            "confirmation missing",
            0,
            altered(0, &|units| drop(units.remove(1))),
        ),
        (
            "first record altered",
            0,
            altered(0, &|units| units[2][3] ^= 1),
        ),
        (
            "second record altered",
            0,
            altered(0, &|units| units[3][2] ^= 1),
        ),
        ("records swapped", 0, altered(0, &|units| units.swap(2, 3))),
        (
            "record repeated",
            0,
            altered(0, &|units| units.insert(3, units[2].clone())),
        ),
        (
            "record missing",
            0,
            altered(0, &|units| drop(units.remove(2))),
        ),
        ("end missing", 0, altered(0, &|units| drop(units.pop()))),
        ("length 15", 0, altered(0, &|units| units[3][0] = 15)),
        (
            "length 16401",
            1,
            altered(1, &|units| {
                units[1][..2].copy_from_slice(&16401u16.to_le_bytes())
            }),
        ),
        (
            "a byte after the end",
            1,
            altered(1, &|units| units.push(vec![0])),
        ),
    ];
    cases
        .into_iter()
        .map(|(name, from, receives)| refused(name, from, receives, &one))
        .chain([
            refused("another key", 0, sent[0].clone(), &[key(0xEE)]),
            refused(
                "a ring without the key",
                0,
                sent[0].clone(),
                &[key(1), key(2)],
            ),
            refused("one's own flight sent back", 1, sent[0].clone(), &one),
            refused(
                "the other direction's records",
                0,
                {
                    let answer = units(&sent[1])[1].to_vec();
                    altered(0, &move |units| units[2] = answer.clone())
                },
                &one,
            ),
        ])
        .chain(refused_offers())
        .collect()
}

/// What one end reads of what it receives, and how that ends.
fn receive(bad: &BadStream) -> (Vec<u8>, Option<Error>) {
    let mut ring = bad
        .keys
        .iter()
        .map(|key| MasterKey::from_slice(&unhex(key)).unwrap());
    let keys = Keys::new(ring.next().unwrap(), ring);
    let mut rng = Fixed(unhex(&bad.ephemeral));
    let aead = Offers(bad.offers_aes);
    let mut end = if bad.is_initiator {
        Connection::initiator_with(&keys, &mut rng, aead)
    } else {
        Connection::responder_with(&keys, &mut rng, aead)
    }
    .unwrap();
    let error = end
        .read_wire(&unhex(&bad.receives))
        .and_then(|_| end.wire_eof())
        .err();
    (read_all(&mut end), error)
}

fn datagram(name: &str, seed: u64, skipped: u64, payload: &[u8]) -> Datagram {
    let salt = drawn(seed, 16);
    let spy = Spy::default();
    let mut socket =
        Datagrams::with_aead(&Keys::from(master()), &mut Fixed(salt.clone()), spy.clone()).unwrap();
    let mut sealed = vec![0; payload.len() + 42];
    for _ in 0..=skipped {
        assert_eq!(socket.seal(payload, &mut sealed), Ok(sealed.len()));
    }
    Datagram {
        name: name.into(),
        key: hex(master().expose_secret()),
        sender_salt: hex(&salt),
        sequence: skipped,
        datagram_key: hex(&spy.keys()[0]),
        payload: hex(payload),
        sealed: hex(&sealed),
    }
}

fn datagrams() -> Vec<Datagram> {
    vec![
        datagram("empty", 0x600, 0, b""),
        datagram("a word", 0x601, 0, b"ping"),
        datagram("the 301st", 0x602, 300, b"later"),
        datagram("1400 bytes", 0x603, 1, &sample(1400, 7)),
    ]
}

fn refused_datagrams() -> Vec<BadDatagram> {
    let sealed = |sequence| unhex(&datagram("", 0x700, sequence, b"payload").sealed);
    let first = sealed(0);
    let altered = |at: usize, value: u8| {
        let mut altered = first.clone();
        altered[at] ^= value;
        altered
    };
    let refused = |name: &str, keys: &[MasterKey], received: &[&[u8]], sealed: Vec<u8>| {
        let bad = BadDatagram {
            name: name.into(),
            keys: keys.iter().map(|key| hex(key.expose_secret())).collect(),
            received: received.iter().map(|datagram| hex(datagram)).collect(),
            sealed: hex(&sealed),
            error: String::new(),
        };
        let error = receive_datagram(&bad).expect_err(name);
        BadDatagram {
            error: kind(error),
            ..bad
        }
    };
    let one = [master()];
    vec![
        refused("nothing", &one, &[], Vec::new()),
        refused("in the clear", &one, &[], b"hello".to_vec()),
        refused("version 2", &one, &[], altered(1, 3)),
        refused("cut short", &one, &[], first[..41].to_vec()),
        refused("salt altered", &one, &[], altered(2, 1)),
        refused("number altered", &one, &[], altered(18, 1)),
        refused("payload altered", &one, &[], altered(26, 1)),
        refused("tag altered", &one, &[], altered(first.len() - 1, 1)),
        refused("another key", &[key(0xEE)], &[], first.clone()),
        refused("repeated", &one, &[&first], first.clone()),
        refused(
            "repeated later",
            &one,
            &[&first, &sealed(1023)],
            first.clone(),
        ),
        refused("too old", &one, &[&sealed(1024)], first.clone()),
    ]
}

/// Receives some datagrams, and then the one in question.
fn receive_datagram(bad: &BadDatagram) -> Result<Vec<u8>, DatagramError> {
    let mut ring = bad
        .keys
        .iter()
        .map(|key| MasterKey::from_slice(&unhex(key)).unwrap());
    let keys = Keys::new(ring.next().unwrap(), ring);
    let mut socket = Datagrams::new(&keys, &mut TestRng(1)).unwrap();
    let mut out = vec![0; 65536];
    for received in &bad.received {
        socket.open(&unhex(received), &mut out).unwrap();
    }
    let len = socket.open(&unhex(&bad.sealed), &mut out)?;
    out.truncate(len);
    Ok(out)
}

/// The keys that one end seals with until it has changed them twice.
fn rekeying(offers_aes: bool) -> Vec<Rekeying> {
    let ([mut i, mut r], spies, _) = ends(0x200, [offers_aes; 2]);
    carry(&mut i, &mut r).unwrap();
    carry(&mut r, &mut i).unwrap();
    for _ in 0..2 * REKEY_INTERVAL {
        i.write(b"x", usize::MAX).unwrap();
        i.wire_sent(usize::MAX);
    }
    let cipher = cipher(i.cipher().unwrap());
    let keys = spies[0].keys();
    assert_eq!(keys.len(), 3);
    keys.windows(2)
        .map(|pair| Rekeying {
            cipher: cipher.clone(),
            key: hex(&pair[0]),
            next: hex(&pair[1]),
        })
        .collect()
}

fn make() -> Vectors {
    Vectors {
        format: "sealed wire".into(),
        version: 1,
        rekeying: [rekeying(false), rekeying(true)].concat(),
        streams: streams(),
        streams_refused: refused_streams(),
        datagrams: datagrams(),
        datagrams_refused: refused_datagrams(),
    }
}

fn path(from_root: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(from_root)
}

fn read() -> Vectors {
    let path = path("tests/vectors/wire-v1.json");
    if std::env::var_os("SEALED_WRITE_VECTORS").is_some() {
        let text = serde_json::to_string_pretty(&make()).unwrap() + "\n";
        std::fs::write(&path, text).unwrap();
    }
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn kind(error: impl std::fmt::Debug) -> String {
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
    for (made, read) in made.streams.iter().zip(&read.streams) {
        assert_eq!(made, read);
    }
    assert_eq!(made, read);
}

/// Each end by itself, against what the other one sent when the vectors were made.
#[test]
fn the_vectors_open() {
    for vector in read().streams {
        for is_initiator in [true, false] {
            let (ephemeral, offers_aes, receives, reads) = if is_initiator {
                let (own, offers) = (&vector.initiator_ephemeral, vector.initiator_offers_aes);
                let reads = vector.responder_writes.concat();
                (own, offers, &vector.responder_sends, reads)
            } else {
                let (own, offers) = (&vector.responder_ephemeral, vector.responder_offers_aes);
                let reads = vector.initiator_writes.concat();
                (own, offers, &vector.initiator_sends, reads)
            };
            let end = BadStream {
                name: vector.name.clone(),
                keys: vec![vector.key.clone()],
                is_initiator,
                ephemeral: ephemeral.clone(),
                offers_aes,
                receives: receives.clone(),
                reads: String::new(),
                error: String::new(),
            };
            assert_eq!(receive(&end), (unhex(&reads), None), "{}", vector.name);
        }
    }
    for vector in read().datagrams {
        let datagram = BadDatagram {
            name: vector.name,
            keys: vec![vector.key],
            received: Vec::new(),
            sealed: vector.sealed,
            error: String::new(),
        };
        assert_eq!(receive_datagram(&datagram), Ok(unhex(&vector.payload)));
    }
}

#[test]
fn the_bad_vectors_are_refused_for_the_right_reason() {
    for bad in read().streams_refused {
        let (reads, error) = receive(&bad);
        assert_eq!(hex(&reads), bad.reads, "{}", bad.name);
        assert_eq!(error.map(kind), Some(bad.error), "{}", bad.name);
    }
    for bad in read().datagrams_refused {
        let error = receive_datagram(&bad).unwrap_err();
        assert_eq!(kind(error), bad.error, "{}", bad.name);
    }
}

/// The worked examples in the document are vectors too.
#[test]
fn the_document_shows_the_vectors() {
    let document = std::fs::read_to_string(path("docs/wire.md")).unwrap();
    let shown: String = document.split_whitespace().collect();
    let vectors = read();
    let stream = &vectors.streams[1];
    let aes = &vectors.streams[6];
    assert_eq!(aes.initiator_ephemeral, stream.initiator_ephemeral);
    let datagram = &vectors.datagrams[1];
    for field in [
        &stream.key,
        &stream.initiator_ephemeral,
        &stream.responder_ephemeral,
        &stream.initiator_key,
        &stream.responder_key,
        &stream.initiator_sends,
        &stream.responder_sends,
        &vectors.rekeying[0].key,
        &vectors.rekeying[0].next,
        &aes.initiator_key,
        &aes.responder_key,
        &aes.initiator_sends,
        &aes.responder_sends,
        &vectors.rekeying[2].next,
        &datagram.datagram_key,
        &datagram.sealed,
    ] {
        assert!(shown.contains(field.as_str()), "{field}");
    }
}
