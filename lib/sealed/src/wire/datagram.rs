//! Sealed datagrams: each is sealed by itself, for any may be lost, repeated or overtaken.

use alloc::collections::BTreeMap;

use rand_core::TryCryptoRng;

use super::aead::{MessageAead, MessageCipher, MessageKey, REKEY_NUMBER, Run, Software};
use super::{Keys, VERSION};
use crate::{MasterKey, TAG_LEN};

/// The first byte of a sealed datagram, which is in no text.
pub const DATAGRAM_MAGIC: u8 = 0xA7;

/// Bytes of a sender's salt.
pub const SENDER_SALT_LEN: usize = 16;

/// Bytes a datagram takes on the wire beyond its payload.
pub const DATAGRAM_OVERHEAD: usize = PREFIX_LEN + TAG_LEN;

/// Bytes of a datagram on the wire, at most: what the length field of UDP can say.
pub const MAX_DATAGRAM_LEN: usize = u16::MAX as usize;

/// How far a datagram may lag behind the newest one of its sender and still be taken.
pub const REPLAY_WINDOW: u64 = 1024;

/// Senders that a socket remembers, at most. Beyond it the one not heard for longest is forgotten.
pub const SENDER_LIMIT: usize = 1024;

const SALT_AT: usize = 2;
const SEQUENCE_AT: usize = SALT_AT + SENDER_SALT_LEN;
const PREFIX_LEN: usize = SEQUENCE_AT + size_of::<u64>();

type Salt = [u8; SENDER_SALT_LEN];

/// Bytes of payload that fit where datagrams of this many bytes do: a path's limit as the program
/// is to see it.
pub const fn payload_room(datagram_len: usize) -> usize {
    datagram_len.saturating_sub(DATAGRAM_OVERHEAD)
}

/// Why a datagram was not sealed or opened. Concerns that datagram alone.
///
/// Each message is a clause that reads well after a peer's address and a colon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DatagramError {
    /// The first byte is not that of a sealed datagram, or there is none.
    #[error("not a sealed datagram")]
    NotSealed,
    /// The datagram is of a version this crate does not know.
    #[error(
        "sealed in version {0} of the datagram format, this program knows only version {version}",
        version = VERSION
    )]
    UnsupportedVersion(u8),
    /// Shorter than any sealed datagram.
    #[error("a sealed datagram cut short")]
    Truncated,
    /// Does not authenticate under any key at hand. Another key and an altered datagram look the
    /// same.
    #[error("sealed with another key, or altered on the way")]
    Corrupt,
    /// Received before.
    #[error("a datagram received before")]
    Replayed,
    /// So far behind the newest of its sender that it cannot be told whether it was received
    /// before.
    #[error("a datagram too old to tell whether it was received before")]
    Stale,
    /// Sealed by this very socket: somebody sent it back.
    #[error("a datagram of one's own, sent back")]
    Reflected,
    /// The payload does not fit a datagram once sealed. Beyond this, a path may have a limit of
    /// its own.
    #[error("too large for a sealed datagram ({0} bytes)")]
    TooLarge(usize),
    /// The output buffer is too short.
    #[error("buffer too short for the datagram")]
    BufferSize,
    /// The socket has used up its sequence numbers.
    #[error("too many datagrams from one socket")]
    Exhausted,
    /// The AEAD could not seal.
    #[error("sealing failed")]
    Aead,
    /// The random number generator failed.
    #[error("no randomness available")]
    Randomness,
}

/// The datagrams of one socket: seals what it sends and opens what it receives.
///
/// Make one for each socket and keep it as long as the socket lives. It cannot be cloned, for two
/// senders with one salt would use the same nonces.
///
/// # Replay
///
/// A datagram is opened once. That is remembered for [`SENDER_LIMIT`] senders and, for each, over
/// the newest [`REPLAY_WINDOW`] datagrams, here in memory: another socket, this one once made
/// anew, or this one once it has forgotten the sender, takes a recorded datagram as new. Who sent
/// it had the key; when it was sent, and to whom, is not known.
#[derive(Debug)]
pub struct Datagrams<A = Software> {
    aead: A,
    keys: Keys,
    salt: Salt,
    key: MessageKey,
    /// Sequence number of the next datagram sealed.
    next: u64,
    senders: BTreeMap<Salt, Sender>,
    /// Counts datagrams opened, to tell which sender was heard last.
    clock: u64,
}

#[derive(Debug)]
struct Sender {
    key: MessageKey,
    window: Window,
    /// The clock when it was last heard.
    heard: u64,
}

impl Datagrams {
    /// The datagrams of a new socket, with a salt from `rng`.
    ///
    /// # Errors
    ///
    /// [`DatagramError::Randomness`].
    pub fn new<R: TryCryptoRng + ?Sized>(keys: &Keys, rng: &mut R) -> Result<Self, DatagramError> {
        Self::with_aead(keys, rng, Software)
    }
}

impl<A: MessageAead> Datagrams<A> {
    /// As [`new`](Datagrams::new), with another implementation of the AEAD.
    ///
    /// # Errors
    ///
    /// [`DatagramError::Randomness`].
    pub fn with_aead<R: TryCryptoRng + ?Sized>(
        keys: &Keys,
        rng: &mut R,
        aead: A,
    ) -> Result<Self, DatagramError> {
        let mut salt = Salt::default();
        rng.try_fill_bytes(&mut salt)
            .map_err(|_| DatagramError::Randomness)?;
        Ok(Self {
            aead,
            keys: keys.clone(),
            salt,
            key: sender_key(keys.primary(), &salt),
            next: 0,
            senders: BTreeMap::new(),
            clock: 0,
        })
    }

    /// Seals one datagram at the front of `out` and gives its length, which is the payload's and
    /// [`DATAGRAM_OVERHEAD`]. A payload may be empty.
    ///
    /// Seal anew what is sent anew: the transport may lose a datagram, and a number spent on one
    /// that never left is no loss.
    ///
    /// # Errors
    ///
    /// [`TooLarge`](DatagramError::TooLarge), [`BufferSize`](DatagramError::BufferSize),
    /// [`Exhausted`](DatagramError::Exhausted), [`Aead`](DatagramError::Aead).
    pub fn seal(&mut self, payload: &[u8], out: &mut [u8]) -> Result<usize, DatagramError> {
        let run = run(self.next);
        let len = run.sealed_len(payload.len());
        if len > MAX_DATAGRAM_LEN {
            return Err(DatagramError::TooLarge(payload.len()));
        }
        let out = out.get_mut(..len).ok_or(DatagramError::BufferSize)?;
        if self.next == REKEY_NUMBER {
            return Err(DatagramError::Exhausted);
        }
        // Counted even if sealing should fail half-way.
        self.next += 1;
        out[0] = DATAGRAM_MAGIC;
        out[1] = VERSION;
        out[SALT_AT..SEQUENCE_AT].copy_from_slice(&self.salt);
        out[SEQUENCE_AT..PREFIX_LEN].copy_from_slice(&run.first().to_le_bytes());
        self.aead
            .seal(&self.key, run, payload, out)
            .map_err(|_| DatagramError::Aead)?;
        Ok(len)
    }

    /// Opens one datagram into the front of `out`, gives the length of its payload, and remembers
    /// that it was received.
    ///
    /// # Errors
    ///
    /// What is wrong with it. Nothing of it is in `out` then, and nothing else has changed: the
    /// next datagram is as welcome as ever.
    pub fn open(&mut self, datagram: &[u8], out: &mut [u8]) -> Result<usize, DatagramError> {
        let (opened, len) = self.authenticate(datagram, out)?;
        self.clock += 1;
        if let Some(key) = opened.new_sender {
            self.make_room();
            let sender = Sender {
                key,
                window: Window::new(opened.sequence),
                heard: self.clock,
            };
            self.senders.insert(opened.salt, sender);
        } else if let Some(sender) = self.senders.get_mut(&opened.salt) {
            sender.window.mark(opened.sequence);
            sender.heard = self.clock;
        }
        Ok(len)
    }

    /// As [`open`](Self::open), but the datagram can be opened again: for a program that looks at
    /// what waits in its socket and leaves it there.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn peek(&self, datagram: &[u8], out: &mut [u8]) -> Result<usize, DatagramError> {
        self.authenticate(datagram, out).map(|(_, len)| len)
    }

    fn authenticate(
        &self,
        datagram: &[u8],
        out: &mut [u8],
    ) -> Result<(Opened, usize), DatagramError> {
        let (salt, sequence) = parse(datagram)?;
        if salt == self.salt {
            return Err(DatagramError::Reflected);
        }
        let len = datagram.len() - DATAGRAM_OVERHEAD;
        let out = out.get_mut(..len).ok_or(DatagramError::BufferSize)?;
        let mut opens =
            |key: &MessageKey| self.aead.open(key, run(sequence), datagram, out).is_ok();
        let new_sender = match self.senders.get(&salt) {
            Some(sender) => {
                sender.window.check(sequence)?;
                if !opens(&sender.key) {
                    return Err(DatagramError::Corrupt);
                }
                None
            }
            None => Some(
                self.keys
                    .iter()
                    .map(|key| sender_key(key, &salt))
                    .find(opens)
                    .ok_or(DatagramError::Corrupt)?,
            ),
        };
        let opened = Opened {
            salt,
            sequence,
            new_sender,
        };
        Ok((opened, len))
    }

    /// Forgets the sender not heard for longest, if there is no room for another.
    fn make_room(&mut self) {
        if self.senders.len() < SENDER_LIMIT {
            return;
        }
        let oldest = self.senders.iter().min_by_key(|(_, sender)| sender.heard);
        if let Some((&salt, _)) = oldest {
            self.senders.remove(&salt);
        }
    }
}

/// An authentic datagram that may be new.
struct Opened {
    salt: Salt,
    sequence: u64,
    /// The key of a sender not heard before.
    new_sender: Option<MessageKey>,
}

/// The one message of a datagram. No associated data vouches for what stands before it, nor need
/// any: the salt makes the key, the sequence number makes the nonce, the version is in the key's
/// label, and the first byte has one value only.
fn run(sequence: u64) -> Run {
    Run::new(sequence, PREFIX_LEN, MAX_DATAGRAM_LEN)
}

fn sender_key(key: &MasterKey, salt: &Salt) -> MessageKey {
    // There is no handshake in which another could be agreed on.
    MessageKey::new(
        MessageCipher::ChaCha20Poly1305,
        key.datagram_key(VERSION, salt),
    )
}

/// Salt and sequence number of a datagram, not yet authentic.
fn parse(datagram: &[u8]) -> Result<(Salt, u64), DatagramError> {
    match datagram {
        [DATAGRAM_MAGIC, VERSION, ..] => {}
        [DATAGRAM_MAGIC, version, ..] => return Err(DatagramError::UnsupportedVersion(*version)),
        [DATAGRAM_MAGIC] => return Err(DatagramError::Truncated),
        _ => return Err(DatagramError::NotSealed),
    }
    if datagram.len() < DATAGRAM_OVERHEAD {
        return Err(DatagramError::Truncated);
    }
    let mut salt = Salt::default();
    salt.copy_from_slice(&datagram[SALT_AT..SEQUENCE_AT]);
    let mut sequence = [0; size_of::<u64>()];
    sequence.copy_from_slice(&datagram[SEQUENCE_AT..PREFIX_LEN]);
    Ok((salt, u64::from_le_bytes(sequence)))
}

/// Which of a sender's newest datagrams were received.
#[derive(Debug)]
struct Window {
    highest: u64,
    /// One bit for each number, at the number modulo the window's size.
    seen: [u64; WINDOW_WORDS],
}

const WINDOW_WORDS: usize = (REPLAY_WINDOW / 64) as usize;

impl Window {
    /// A window in which one datagram was received.
    fn new(sequence: u64) -> Self {
        let mut window = Self {
            highest: sequence,
            seen: [0; WINDOW_WORDS],
        };
        window.set(sequence, true);
        window
    }

    /// Whether this datagram may be new.
    fn check(&self, sequence: u64) -> Result<(), DatagramError> {
        match self.highest.checked_sub(sequence) {
            None => Ok(()),
            Some(lag) if lag >= REPLAY_WINDOW => Err(DatagramError::Stale),
            Some(_) if self.is_set(sequence) => Err(DatagramError::Replayed),
            Some(_) => Ok(()),
        }
    }

    /// Remembers a datagram that [`check`](Self::check) let pass.
    fn mark(&mut self, sequence: u64) {
        if let Some(advance) = sequence.checked_sub(self.highest) {
            if advance >= REPLAY_WINDOW {
                self.seen = [0; WINDOW_WORDS];
            } else {
                for skipped in self.highest..sequence {
                    self.set(skipped + 1, false);
                }
            }
            self.highest = sequence;
        }
        self.set(sequence, true);
    }

    fn place(sequence: u64) -> (usize, u64) {
        let bit = sequence % REPLAY_WINDOW;
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    fn is_set(&self, sequence: u64) -> bool {
        let (word, mask) = Self::place(sequence);
        self.seen[word] & mask != 0
    }

    fn set(&mut self, sequence: u64, seen: bool) {
        let (word, mask) = Self::place(sequence);
        if seen {
            self.seen[word] |= mask;
        } else {
            self.seen[word] &= !mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use super::*;
    use crate::testing::TestRng;

    fn socket(seed: u64) -> Datagrams {
        Datagrams::new(
            &Keys::from(MasterKey::from_bytes([1; 32])),
            &mut TestRng::new(seed),
        )
        .unwrap()
    }

    /// The window against the set of all that was received.
    #[test]
    fn the_window_is_a_set_with_a_horizon() {
        let mut rng = TestRng::new(7);
        for start in [0, 5, 1 << 40, u64::MAX - 5000] {
            let mut window = Window::new(start);
            let mut received = BTreeSet::from([start]);
            let mut highest = start;
            for _ in 0..20_000 {
                let draw = rand_core::TryRng::try_next_u64(&mut rng).unwrap();
                // Mostly near the front, at times far ahead or far behind.
                let reach = [3, 200, 1100, 2500][(draw % 64 / 21) as usize];
                let step = (draw >> 8) % (2 * reach);
                let sequence = highest.saturating_add(step).saturating_sub(reach);
                let expected = if highest.saturating_sub(sequence) >= REPLAY_WINDOW {
                    Err(DatagramError::Stale)
                } else if received.contains(&sequence) {
                    Err(DatagramError::Replayed)
                } else {
                    Ok(())
                };
                assert_eq!(window.check(sequence), expected, "{sequence} at {highest}");
                if expected.is_ok() {
                    window.mark(sequence);
                    received.insert(sequence);
                    highest = highest.max(sequence);
                }
            }
        }
    }

    #[test]
    fn sequence_numbers_run_out_before_they_repeat() {
        let mut socket = socket(1);
        socket.next = u64::MAX - 1;
        let mut out = [0; 100];
        assert_eq!(socket.seal(b"x", &mut out), Ok(43));
        assert_eq!(socket.seal(b"x", &mut out), Err(DatagramError::Exhausted));
    }

    #[test]
    fn no_randomness_is_an_error() {
        let keys = Keys::from(MasterKey::from_bytes([1; 32]));
        assert_eq!(
            Datagrams::new(&keys, &mut TestRng::failing_after(15)).unwrap_err(),
            DatagramError::Randomness
        );
    }

    #[test]
    fn debug_shows_no_secret() {
        let mut socket = socket(1);
        socket.key = MessageKey::new(socket.key.cipher(), zeroize::Zeroizing::new([0xAB; 32]));
        assert!(!alloc::format!("{socket:?}").contains("171, 171"));
    }
}
