//! Entry points for hostile input. Each takes any bytes at all and panics if the crate breaks a
//! promise. The fuzz targets in `fuzz/` include this file; `hostile.rs` runs it briefly in every
//! `cargo test`.

use std::convert::Infallible;

use rand_core::{TryCryptoRng, TryRng};
use sealed::MasterKey;
use sealed::wire::aead::{AeadError, MessageAead, MessageCipher, MessageKey, Run, Software};
use sealed::wire::{
    Connection, DATAGRAM_OVERHEAD, Datagrams, INCOMING_LIMIT, INITIATOR_FLIGHT_LEN, Incoming, Keys,
    OUTGOING_LIMIT, OVERHEAD,
};

/// Bytes that count up: different for every seed, which is all that a test needs.
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
        for piece in dst.chunks_mut(8) {
            self.0 += 1;
            piece.copy_from_slice(&self.0.to_le_bytes()[..piece.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for Counter {}

fn keys() -> Keys {
    let key = |byte| MasterKey::from_bytes([byte; 32]);
    Keys::new(key(1), [key(2)])
}

/// The software, which offers AES as it is told.
#[derive(Clone, Copy)]
pub struct Offers(pub bool);

impl MessageAead for Offers {
    fn offers_aes(&self) -> bool {
        self.0
    }

    fn seal(
        &self,
        key: &MessageKey,
        run: Run,
        plaintext: &[u8],
        sealed: &mut [u8],
    ) -> Result<(), AeadError> {
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

type End = Connection<Offers>;

/// Two ends, who offer what the two lowest bits say.
fn ends(offers: u8) -> [End; 2] {
    let [first, second] = [offers & 1 != 0, offers & 2 != 0].map(Offers);
    [
        Connection::initiator_with(&keys(), &mut Counter(0), first)
            .expect("this randomness does not fail"),
        Connection::responder_with(&keys(), &mut Counter(1 << 32), second).expect("as above"),
    ]
}

fn connected(offers: u8) -> [End; 2] {
    let mut ends = ends(offers);
    for from in [0, 1, 0] {
        carry(&mut ends, from, usize::MAX);
    }
    assert!(ends.iter().all(|end| !end.is_handshaking()));
    ends
}

/// Brings up to `len` bytes from one of two honest ends to the other.
fn carry(ends: &mut [End; 2], from: usize, len: usize) {
    let (left, right) = ends.split_at_mut(1);
    let (from, to) = match from {
        0 => (&mut left[0], &mut right[0]),
        _ => (&mut right[0], &mut left[0]),
    };
    let output = from.wire_output();
    let len = len.min(output.len());
    let taken = to.read_wire(&output[..len]).expect("nobody disturbs");
    from.wire_sent(taken);
}

fn take_byte(data: &mut &[u8]) -> u8 {
    data.split_off_first().copied().unwrap_or(0)
}

fn take_u16(data: &mut &[u8]) -> u16 {
    u16::from_le_bytes([take_byte(data), take_byte(data)])
}

/// Feeds bytes in pieces until they are all taken or refused. What is read meanwhile is given.
fn feed(end: &mut End, wire: &[u8], piece: usize) -> Vec<u8> {
    let mut read = Vec::new();
    for mut part in wire.chunks(piece) {
        while !part.is_empty() {
            let room = end.wire_room();
            match end.read_wire(part) {
                Ok(taken) => {
                    assert_eq!(taken, room.min(part.len()));
                    part = &part[taken..];
                }
                Err(error) => {
                    assert_eq!(end.error(), Some(error));
                    assert!(!end.wants_write() && !end.wants_read());
                    part = &[];
                }
            }
            while let Ok(Incoming::Data(data)) = end.peek() {
                assert!(!data.is_empty() && data.len() <= INCOMING_LIMIT);
                read.extend_from_slice(data);
                let len = data.len();
                end.consume(len);
            }
        }
    }
    read
}

/// Any bytes in place of a handshake: nobody without the key gets through it.
pub fn handshake(mut data: &[u8]) {
    let piece = usize::from(take_byte(&mut data)) + 1;
    for mut end in ends(piece as u8) {
        let flight = end.wire_output().len();
        assert!(feed(&mut end, data, piece).is_empty());
        assert!(end.key_id().is_none());
        assert!(
            end.error().is_some() || (end.is_handshaking() && data.len() < INITIATOR_FLIGHT_LEN)
        );
        assert!(end.error().is_some() || end.wire_output().len() == flight);
        assert_eq!(end.write(b"secret", usize::MAX).unwrap_or(0), 0);
        end.wire_eof().expect_err("no handshake, no orderly end");
    }
}

/// An honest handshake with bits altered on one way or both: it fails before a record, unless nothing
/// was altered, and then both have agreed on what both offer.
pub fn altered_handshake(mut data: &[u8]) {
    let offers = take_byte(&mut data);
    let mut ends = ends(offers);
    let mut is_altered = false;
    for from in [0, 1] {
        let mut flight = ends[from].wire_output().to_vec();
        let original = flight.clone();
        for _ in 0..take_byte(&mut data) % 3 {
            let at = usize::from(take_byte(&mut data)) % flight.len();
            flight[at] ^= take_byte(&mut data);
        }
        is_altered |= flight != original;
        ends[from].wire_sent(flight.len());
        let taken = ends[1 - from].read_wire(&flight);
        assert_eq!(taken.is_err(), is_altered);
        if is_altered {
            assert!(ends[1 - from].cipher().is_none() && !ends[1 - from].wants_write());
            return;
        }
    }
    let cipher = match offers & 3 {
        3 => MessageCipher::Aes256Gcm,
        _ => MessageCipher::ChaCha20Poly1305,
    };
    assert!(ends.iter().all(|end| end.cipher() == Some(cipher)));
}

/// Any bytes in place of records, after a good handshake: none opens.
pub fn records(mut data: &[u8]) {
    let piece = usize::from(take_u16(&mut data)) + 1;
    for mut end in connected(piece as u8) {
        assert!(feed(&mut end, data, piece).is_empty());
        assert!(!end.is_peer_closed());
        end.wire_eof().expect_err("no sealed end, no orderly end");
        assert!(end.peek().is_err());
    }
}

/// An authentic direction, cut up and altered as the bytes say: what is read is how the truth
/// begins, and it ends in order only if it is the whole truth.
pub fn edits(mut data: &[u8]) {
    let len = take_byte(&mut data);
    let [mut from, mut to] = connected(len);
    let plaintext: Vec<u8> = (0..usize::from(len) * 8)
        .map(|i| (i ^ (i >> 8)) as u8)
        .collect();
    for piece in plaintext.chunks(usize::from(take_byte(&mut data)) + 1) {
        assert_eq!(from.write(piece, usize::MAX), Ok(piece.len()));
    }
    from.close_write().expect("open until now");
    let original = from.wire_output().to_vec();

    let mut altered = original.clone();
    while !data.is_empty() {
        let edit = take_byte(&mut data);
        let at = usize::from(take_u16(&mut data)) % (altered.len() + 1);
        let end = (at + usize::from(take_byte(&mut data)) + OVERHEAD).min(altered.len());
        match edit % 5 {
            0 if at < altered.len() => altered[at] ^= edit | 1,
            1 => altered.truncate(at),
            2 => altered.extend_from_within(at..end),
            3 => drop(altered.drain(at..end)),
            _ => {
                let moved: Vec<u8> = altered.drain(at..end).collect();
                let to = usize::from(edit) * 64 % (altered.len() + 1);
                altered.splice(to..to, moved);
            }
        }
    }

    let read = feed(&mut to, &altered, usize::MAX);
    assert!(plaintext.starts_with(&read));
    let outcome = to.wire_eof();
    if altered == original {
        assert_eq!(outcome, Ok(()));
        assert_eq!(to.peek(), Ok(Incoming::End));
        assert_eq!(read, plaintext);
    } else {
        outcome.expect_err("altered");
    }
}

/// Two honest ends, driven as the bytes say: no byte is lost, repeated or changed, and every
/// promise about room and readiness holds.
pub fn conversation(mut data: &[u8]) {
    let mut ends = ends(take_byte(&mut data));
    let mut written = [Vec::new(), Vec::new()];
    let mut read = [Vec::new(), Vec::new()];
    while !data.is_empty() {
        let action = take_byte(&mut data);
        let amount = usize::from(take_u16(&mut data));
        let me = usize::from(action & 1);
        let end = &mut ends[me];
        match action >> 1 & 7 {
            0 | 1 => {
                // The bytes say where they stand, so that any disorder shows.
                let at = written[me].len();
                let plaintext: Vec<u8> = (at..at + amount).map(|i| (i ^ (i >> 8)) as u8).collect();
                let limit = [usize::MAX, amount / 2][usize::from(action >> 4 & 1)];
                let room = end.write_room(limit);
                let waiting = end.wire_output().len();
                if !end.is_write_closed() {
                    let taken = end.write(&plaintext, limit).expect("nobody disturbs");
                    assert_eq!(taken, room.min(plaintext.len()));
                    written[me].extend_from_slice(&plaintext[..taken]);
                    let most = limit.min(OUTGOING_LIMIT).max(waiting);
                    assert!(end.wire_output().len() <= most);
                }
            }
            2 => {
                let mut out = vec![0; amount];
                let waiting = end.plaintext_len();
                if let Some(len) = end.read(&mut out).expect("nobody disturbs") {
                    assert_eq!(len, waiting.min(amount));
                    read[me].extend_from_slice(&out[..len]);
                }
            }
            3 if action >> 4 == 0 => end.close_write().expect("nobody disturbs"),
            _ => carry(&mut ends, me, amount),
        }
    }
    for end in &mut ends {
        end.close_write().expect("nobody disturbs");
    }
    while ends.iter().any(End::wants_write) {
        for me in [0, 1] {
            carry(&mut ends, me, usize::MAX);
            while let Ok(Incoming::Data(data)) = ends[me].peek() {
                let len = data.len();
                read[me].extend_from_slice(data);
                ends[me].consume(len);
            }
        }
    }
    for me in [0, 1] {
        let mut rest = vec![0; ends[me].plaintext_len()];
        ends[me].read(&mut rest).expect("nobody disturbs");
        read[me].extend_from_slice(&rest);
        assert!(read[me] == written[1 - me]);
        assert_eq!(ends[me].peek(), Ok(Incoming::End));
        assert_eq!(ends[me].wire_eof(), Ok(()));
        assert!(ends[me].is_write_finished());
    }
}

/// Any bytes as datagrams, and authentic ones repeated and altered: what opens is authentic, and
/// opens once.
pub fn datagrams(mut data: &[u8]) {
    let socket =
        |seed| Datagrams::new(&keys(), &mut Counter(seed)).expect("this randomness does not fail");
    let (mut from, mut to) = (socket(0), socket(1 << 32));
    let mut sent = Vec::new();
    let mut opened = Vec::new();
    let mut out = vec![0; 1 << 16];

    assert!(to.peek(data, &mut out).is_err());
    assert!(to.open(data, &mut out).is_err());
    while !data.is_empty() {
        let action = take_byte(&mut data);
        let index = usize::from(take_u16(&mut data));
        if sent.is_empty() || action & 3 == 0 {
            let payload = vec![action; index % 300];
            let mut datagram = vec![0; payload.len() + DATAGRAM_OVERHEAD];
            let len = from.seal(&payload, &mut datagram).expect("it fits");
            assert_eq!(len, datagram.len());
            sent.push((datagram, payload));
            opened.push(false);
            continue;
        }
        let index = index % sent.len();
        let (datagram, payload) = &sent[index];
        if action & 3 == 1 {
            let mut altered = datagram.clone();
            let at = usize::from(take_u16(&mut data)) % altered.len();
            altered[at] ^= action | 1;
            assert!(to.open(&altered, &mut out).is_err());
        } else {
            let lag = sent.len() - index;
            match to.open(datagram, &mut out) {
                Ok(len) => {
                    assert_eq!(out[..len], payload[..]);
                    assert!(!std::mem::replace(&mut opened[index], true), "opened twice");
                }
                Err(error) => assert!(opened[index] || lag > 1024, "{error}"),
            }
        }
        assert!(from.open(&sent[index].0, &mut out).is_err(), "its own");
    }
}
