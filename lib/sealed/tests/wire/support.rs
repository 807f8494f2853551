//! Two ends joined in memory by a transport that the tests rule over.

use std::convert::Infallible;

use rand_core::{TryCryptoRng, TryRng};
use sealed::MasterKey;
use sealed::wire::aead::{MessageAead, MessageCipher};
use sealed::wire::{Connection, Error, INITIATOR_FLIGHT_LEN, Incoming, Keys};

use super::{AEAD, Aead};

/// A repeatable source of bytes: SplitMix64, no cryptographic generator, for test data only.
pub struct TestRng(pub u64);

impl TryRng for TestRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|word| word as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        for piece in dst.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut word = self.0;
            word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            word ^= word >> 31;
            piece.copy_from_slice(&word.to_le_bytes()[..piece.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for TestRng {}

pub fn key(byte: u8) -> MasterKey {
    MasterKey::from_bytes([byte; 32])
}

pub fn keys() -> Keys {
    Keys::from(key(0x11))
}

/// Bytes in which no record looks like another.
pub fn sample(len: usize, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8 ^ seed)
        .collect()
}

pub fn initiator(keys: &Keys, seed: u64) -> Connection<Aead> {
    Connection::initiator_with(keys, &mut TestRng(seed), AEAD).unwrap()
}

pub fn responder(keys: &Keys, seed: u64) -> Connection<Aead> {
    Connection::responder_with(keys, &mut TestRng(seed), AEAD).unwrap()
}

/// Two ends with the same key whose handshake is done on both sides.
pub fn connected() -> (Connection<Aead>, Connection<Aead>) {
    let (mut a, mut b) = (initiator(&keys(), 1), responder(&keys(), 2));
    carry(&mut a, &mut b).unwrap();
    carry(&mut b, &mut a).unwrap();
    carry(&mut a, &mut b).unwrap();
    assert!(!a.is_handshaking() && !b.is_handshaking());
    let cipher = match AEAD.offers_aes() {
        true => MessageCipher::Aes256Gcm,
        false => MessageCipher::ChaCha20Poly1305,
    };
    assert_eq!([a.cipher(), b.cipher()], [Some(cipher); 2]);
    (a, b)
}

/// Everything that one end wants sent goes to the other.
pub fn carry<A: MessageAead, B: MessageAead>(
    from: &mut Connection<A>,
    to: &mut Connection<B>,
) -> Result<(), Error> {
    while from.wants_write() {
        let taken = to.read_wire(from.wire_output())?;
        from.wire_sent(taken);
        if taken == 0 {
            break;
        }
    }
    Ok(())
}

/// All there is to read now.
pub fn read_all<A: MessageAead>(end: &mut Connection<A>) -> Vec<u8> {
    let mut out = Vec::new();
    while let Ok(Incoming::Data(data)) = end.peek() {
        out.extend_from_slice(data);
        let len = data.len();
        end.consume(len);
    }
    out
}

/// How a direction of an exchange ended, as the reading program sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// In order.
    End,
    Failed(Error),
}

/// One end with the program that uses it: it writes its messages one by one, closes, and reads
/// until the end.
pub struct Program {
    pub connection: Connection<Aead>,
    messages: Vec<Vec<u8>>,
    /// Which message is being written, and how much of it has been taken.
    at: (usize, usize),
    pub received: Vec<u8>,
    pub outcome: Option<Outcome>,
    /// Sent on the transport and not yet delivered.
    in_flight: Vec<u8>,
    /// All that this end sent.
    pub sent: Vec<u8>,
    eof_delivered: bool,
}

impl Program {
    pub fn new(connection: Connection<Aead>, messages: &[Vec<u8>]) -> Self {
        Self {
            connection,
            messages: messages.to_vec(),
            at: (0, 0),
            received: Vec::new(),
            outcome: None,
            in_flight: Vec::new(),
            sent: Vec::new(),
            eof_delivered: false,
        }
    }

    /// The program does what it can.
    fn step(&mut self) {
        while let Some(message) = self.messages.get(self.at.0) {
            let (index, offset) = self.at;
            match self.connection.write(&message[offset..], usize::MAX) {
                Ok(taken) if offset + taken == message.len() => self.at = (index + 1, 0),
                Ok(0) | Err(_) => break,
                Ok(taken) => self.at = (index, offset + taken),
            }
        }
        if self.at.0 == self.messages.len() {
            let _ = self.connection.close_write();
        }
        self.received.extend(read_all(&mut self.connection));
        match self.connection.peek() {
            Ok(Incoming::End) => self.outcome = Some(Outcome::End),
            Ok(Incoming::Pending) => {}
            Ok(Incoming::Data(_)) => unreachable!("all was read"),
            Err(error) => self.outcome = Some(Outcome::Failed(error)),
        }
        let output = self.connection.wire_output();
        self.in_flight.extend_from_slice(output);
        self.sent.extend_from_slice(output);
        let len = output.len();
        self.connection.wire_sent(len);
    }

    /// Whether the transport has nothing more to bring from this end.
    fn is_at_end(&self) -> bool {
        self.in_flight.is_empty()
            && (self.connection.is_write_finished() || self.connection.error().is_some())
    }
}

/// Who sits between two ends. Directions: 0 from the initiator, 1 from the responder.
pub trait Between {
    /// Is shown all that waits in one direction. Takes what it likes off the front, and gives what
    /// the other end shall receive in one piece: `None` to wait for more.
    fn pass(&mut self, direction: usize, waiting: &mut Vec<u8>) -> Option<Vec<u8>>;
}

/// Passes everything on as it comes.
pub struct Honest;

impl Between for Honest {
    fn pass(&mut self, _: usize, waiting: &mut Vec<u8>) -> Option<Vec<u8>> {
        Some(std::mem::take(waiting))
    }
}

/// Runs an exchange until nothing moves any more; then the transport ends on both sides, and each
/// program has an outcome.
pub fn run(a: &mut Program, b: &mut Program, between: &mut impl Between) {
    loop {
        a.step();
        b.step();
        let mut moved = deliver(0, a, b, between);
        moved |= deliver(1, b, a, between);
        if !moved {
            break;
        }
    }
    for end in [a, b] {
        let _ = end.connection.wire_eof();
        end.step();
        assert!(end.outcome.is_some());
    }
}

fn deliver(
    direction: usize,
    from: &mut Program,
    to: &mut Program,
    between: &mut impl Between,
) -> bool {
    if from.in_flight.is_empty() {
        if from.is_at_end() && !std::mem::replace(&mut from.eof_delivered, true) {
            let _ = to.connection.wire_eof();
            return true;
        }
        return false;
    }
    let Some(piece) = between.pass(direction, &mut from.in_flight) else {
        return false;
    };
    let mut rest = &piece[..];
    while !rest.is_empty() {
        match to.connection.read_wire(rest) {
            Ok(taken) => rest = &rest[taken..],
            Err(_) => break,
        }
        to.step();
    }
    true
}

/// Cuts a captured direction into its flight and its records.
pub fn units(wire: &[u8]) -> Vec<&[u8]> {
    let (flight, mut rest) = wire.split_at(INITIATOR_FLIGHT_LEN.min(wire.len()));
    let mut units = vec![flight];
    while !rest.is_empty() {
        let len = 2 + usize::from(u16::from_le_bytes([rest[0], rest[1]]));
        let (unit, later) = rest.split_at(len);
        units.push(unit);
        rest = later;
    }
    units
}
