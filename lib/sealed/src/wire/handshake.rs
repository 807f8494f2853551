//! The handshake: Noise `NNpsk0_25519_ChaChaPoly_BLAKE2s`, and what goes around it on the wire.
//!
//! The state machine is the `snow` crate's. Its primitives are given to it here, so that the
//! AEAD is the one the records use, that what they hold is wiped, and that nothing asks the system
//! for randomness.

use alloc::boxed::Box;
use core::fmt;

use blake2::{Blake2s256, Digest};
use rand_core::TryCryptoRng;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::aead::{self, MessageCipher, MessageKey};
use super::queue::Queue;
use super::record::Direction;
use super::{Error, Keys, VERSION};
use crate::{KEY_LEN, KeyId, MasterKey, TAG_LEN};

/// How either end of a sealed stream begins. The first byte is in no text, so that a peer that
/// speaks another protocol is found out by the first byte it sends.
pub const STREAM_MAGIC: [u8; 8] = *b"\xA7stream\n";

const VERSION_AT: usize = STREAM_MAGIC.len();
const PREAMBLE_LEN: usize = VERSION_AT + 1;
const PUBLIC_KEY_LEN: usize = 32;

/// Bytes of either message of the handshake: an ephemeral public key, and the tag of an empty
/// payload.
const MESSAGE_LEN: usize = PUBLIC_KEY_LEN + TAG_LEN;

const FLIGHT_LEN: usize = PREAMBLE_LEN + MESSAGE_LEN;

/// The bit of a message by which its sender offers AES-256-GCM: the highest of the public key. X25519 takes no
/// notice of it, and the handshake vouches for every bit of a public key, so that an offer can be neither made
/// nor taken back on the way.
const OFFER_AT: usize = PUBLIC_KEY_LEN - 1;
const OFFER: u8 = 0x80;

/// Bytes the initiator sends before it waits for the responder.
pub const INITIATOR_FLIGHT_LEN: usize = FLIGHT_LEN;

/// Bytes the responder answers.
pub const RESPONDER_FLIGHT_LEN: usize = FLIGHT_LEN;

const PROTOCOL: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";

type EphemeralSecret = Zeroizing<[u8; KEY_LEN]>;

/// What both ends send first. It is the prologue of the handshake too, so that an end that was
/// made to see another version does not agree with its peer.
fn preamble() -> [u8; PREAMBLE_LEN] {
    let mut preamble = [VERSION; PREAMBLE_LEN];
    preamble[..VERSION_AT].copy_from_slice(&STREAM_MAGIC);
    preamble
}

/// What a handshake ends in.
#[derive(Debug)]
pub struct Established {
    pub sending: Direction,
    pub receiving: Direction,
    /// The key that the peer has too.
    pub key_id: KeyId,
}

/// One end of a handshake that is not done.
pub struct Handshake {
    role: Role,
    /// Whether this end offers AES-256-GCM.
    offers_aes: bool,
    /// The peer's flight, as far as it has come.
    received: [u8; FLIGHT_LEN],
    received_len: usize,
}

enum Role {
    Initiator {
        // Boxed because it is many times larger than the other variant.
        noise: Box<HandshakeState>,
        key_id: KeyId,
    },
    Responder {
        keys: Keys,
        own: Ephemeral,
    },
}

impl Handshake {
    /// Begins a handshake: the first flight goes to `out`.
    pub fn initiator<R: TryCryptoRng + ?Sized>(
        keys: &Keys,
        rng: &mut R,
        offers_aes: bool,
        out: &mut Queue,
    ) -> Result<Self, Error> {
        let key = keys.primary();
        let own = Ephemeral::draw(rng, offers_aes)?;
        let mut noise = noise(key, own, |builder| builder.build_initiator())?;
        send_flight(&mut noise, out)?;
        let role = Role::Initiator {
            noise: Box::new(noise),
            key_id: key.id(),
        };
        Ok(Self::new(role, offers_aes))
    }

    /// Waits for a handshake.
    pub fn responder<R: TryCryptoRng + ?Sized>(
        keys: &Keys,
        rng: &mut R,
        offers_aes: bool,
    ) -> Result<Self, Error> {
        let role = Role::Responder {
            keys: keys.clone(),
            own: Ephemeral::draw(rng, offers_aes)?,
        };
        Ok(Self::new(role, offers_aes))
    }

    fn new(role: Role, offers_aes: bool) -> Self {
        Self {
            role,
            offers_aes,
            received: [0; FLIGHT_LEN],
            received_len: 0,
        }
    }

    pub fn is_initiator(&self) -> bool {
        matches!(self.role, Role::Initiator { .. })
    }

    /// Takes from the front of `wire` what belongs to the handshake. What there is to answer goes
    /// to `out`. Gives the keys once this end can use them.
    pub fn read(
        &mut self,
        wire: &mut &[u8],
        out: &mut Queue,
    ) -> Result<Option<Established>, Error> {
        let missing = &mut self.received[self.received_len..];
        let (now, later) = wire.split_at(wire.len().min(missing.len()));
        missing[..now.len()].copy_from_slice(now);
        *wire = later;
        self.received_len += now.len();

        let received = &self.received[..self.received_len];
        let magic_seen = received.len().min(VERSION_AT);
        if received[..magic_seen] != STREAM_MAGIC[..magic_seen] {
            return Err(Error::NotSealed);
        }
        match received.get(VERSION_AT) {
            Some(&VERSION) | None => {}
            Some(&version) => return Err(Error::UnsupportedVersion(version)),
        }
        if received.len() < FLIGHT_LEN {
            return Ok(None);
        }

        let message = &self.received[PREAMBLE_LEN..];
        let cipher = agreed(self.offers_aes, message[OFFER_AT] & OFFER != 0);
        match &mut self.role {
            Role::Initiator { noise, key_id } => {
                read_message(noise, message)?;
                Ok(Some(established(noise, *key_id, cipher)))
            }
            Role::Responder { keys, own } => {
                let (mut noise, key_id) = keys
                    .iter()
                    .find_map(|key| {
                        let mut noise =
                            noise(key, own.clone(), |builder| builder.build_responder()).ok()?;
                        read_message(&mut noise, message).ok()?;
                        Some((noise, key.id()))
                    })
                    .ok_or(Error::Handshake)?;
                send_flight(&mut noise, out)?;
                Ok(Some(established(&mut noise, key_id, cipher)))
            }
        }
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake")
            .field("is_initiator", &self.is_initiator())
            .field("received_len", &self.received_len)
            .finish_non_exhaustive()
    }
}

/// What records are sealed with, by what both ends have offered.
fn agreed(own: bool, peers: bool) -> MessageCipher {
    match own && peers {
        true => MessageCipher::Aes256Gcm,
        false => MessageCipher::ChaCha20Poly1305,
    }
}

/// What an end brings to a handshake: a secret, and what is said beside its public key.
#[derive(Clone)]
struct Ephemeral {
    secret: EphemeralSecret,
    offers_aes: bool,
}

impl Ephemeral {
    fn draw<R: TryCryptoRng + ?Sized>(rng: &mut R, offers_aes: bool) -> Result<Self, Error> {
        let mut secret = EphemeralSecret::default();
        rng.try_fill_bytes(secret.as_mut_slice())
            .map_err(|_| Error::Randomness)?;
        Ok(Self { secret, offers_aes })
    }
}

fn noise(
    key: &MasterKey,
    own: Ephemeral,
    build: impl FnOnce(Builder<'_>) -> Result<HandshakeState, snow::Error>,
) -> Result<HandshakeState, Error> {
    let (psk, prologue) = (key.stream_psk(VERSION), preamble());
    let params = PROTOCOL.parse().map_err(|_| Error::Handshake)?;
    Builder::with_resolver(params, Box::new(Primitives(own)))
        .prologue(&prologue)
        .and_then(|builder| builder.psk(0, &psk))
        .and_then(build)
        .map_err(|_| Error::Handshake)
}

fn send_flight(noise: &mut HandshakeState, out: &mut Queue) -> Result<(), Error> {
    let mut message = [0; MESSAGE_LEN];
    let len = noise
        .write_message(&[], &mut message)
        .map_err(|_| Error::Handshake)?;
    out.extend_from_slice(&preamble());
    out.extend_from_slice(&message[..len]);
    Ok(())
}

/// Takes the peer's message, which has no payload.
fn read_message(noise: &mut HandshakeState, message: &[u8]) -> Result<(), Error> {
    noise
        .read_message(message, &mut [])
        .map(|_| ())
        .map_err(|_| Error::Handshake)
}

fn established(noise: &mut HandshakeState, key_id: KeyId, cipher: MessageCipher) -> Established {
    let (initiators, responders) = noise.dangerously_get_raw_split();
    let [initiators, responders] = [initiators, responders].map(|split| {
        let split = Zeroizing::new(split);
        let secret = match cipher {
            MessageCipher::ChaCha20Poly1305 => split,
            MessageCipher::Aes256Gcm => MasterKey::stream_aes_key(&split, VERSION),
        };
        Direction::new(MessageKey::new(cipher, secret))
    });
    let (sending, receiving) = if noise.is_initiator() {
        (initiators, responders)
    } else {
        (responders, initiators)
    };
    Established {
        sending,
        receiving,
        key_id,
    }
}

/// The primitives of one handshake. Its randomness is one ephemeral secret, drawn beforehand.
struct Primitives(Ephemeral);

impl CryptoResolver for Primitives {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Drawn(Some(self.0.secret.clone()))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        match choice {
            DHChoice::Curve25519 => Some(Box::new(X25519::new(self.0.offers_aes))),
            _ => None,
        }
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        match choice {
            HashChoice::Blake2s => Some(Box::<Blake2s>::default()),
            _ => None,
        }
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        match choice {
            CipherChoice::ChaChaPoly => Some(Box::<ChaChaPoly>::default()),
            _ => None,
        }
    }
}

/// The ephemeral secret, which can be had once.
struct Drawn(Option<EphemeralSecret>);

impl Random for Drawn {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        match self.0.take() {
            Some(secret) if secret.len() == dest.len() => {
                dest.copy_from_slice(secret.as_slice());
                Ok(())
            }
            _ => Err(snow::Error::Rng),
        }
    }
}

struct X25519 {
    offers_aes: bool,
    /// The secret, and the public key with what is said beside it; none until a secret is set.
    pair: Option<(StaticSecret, [u8; PUBLIC_KEY_LEN])>,
}

impl X25519 {
    fn new(offers_aes: bool) -> Self {
        Self {
            offers_aes,
            pair: None,
        }
    }
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        PUBLIC_KEY_LEN
    }

    fn priv_len(&self) -> usize {
        KEY_LEN
    }

    fn set(&mut self, secret: &[u8]) {
        let mut bytes = EphemeralSecret::default();
        bytes.copy_from_slice(secret);
        let secret = StaticSecret::from(*bytes);
        let mut public = PublicKey::from(&secret).to_bytes();
        if self.offers_aes {
            public[OFFER_AT] |= OFFER;
        }
        self.pair = Some((secret, public));
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        let mut bytes = EphemeralSecret::default();
        rng.try_fill_bytes(bytes.as_mut_slice())?;
        self.set(bytes.as_slice());
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        self.pair
            .as_ref()
            .map_or(&[0; PUBLIC_KEY_LEN], |(_, public)| public)
    }

    fn privkey(&self) -> &[u8] {
        self.pair
            .as_ref()
            .map_or(&[0; KEY_LEN], |(secret, _)| secret.as_bytes())
    }

    /// Refuses a public key of low order: the outcome would be known to all.
    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        let (secret, _) = self.pair.as_ref().ok_or(snow::Error::Dh)?;
        let public: [u8; PUBLIC_KEY_LEN] = *public.first_chunk().ok_or(snow::Error::Dh)?;
        let shared = secret.diffie_hellman(&PublicKey::from(public));
        if !shared.was_contributory() {
            return Err(snow::Error::Dh);
        }
        out[..KEY_LEN].copy_from_slice(shared.as_bytes());
        Ok(())
    }
}

#[derive(Default)]
struct Blake2s(Blake2s256);

impl Hash for Blake2s {
    fn name(&self) -> &'static str {
        "BLAKE2s"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.0 = Blake2s256::new();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        let hash = core::mem::take(&mut self.0).finalize();
        out[..hash.len()].copy_from_slice(&hash);
    }
}

#[derive(Default)]
struct ChaChaPoly {
    /// None until a key is set.
    key: Option<MessageKey>,
}

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; KEY_LEN]) {
        let cipher = MessageCipher::ChaCha20Poly1305;
        self.key = Some(MessageKey::new(cipher, Zeroizing::new(*key)));
    }

    fn encrypt(&self, nonce: u64, ad: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let sealed_len = plaintext.len() + TAG_LEN;
        self.key
            .as_ref()
            .and_then(|key| {
                aead::seal_message(key, nonce, ad, plaintext, &mut out[..sealed_len]).ok()
            })
            .expect("snow sets the key first and gives a buffer that fits");
        sealed_len
    }

    fn decrypt(
        &self,
        nonce: u64,
        ad: &[u8],
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<usize, snow::Error> {
        let len = sealed
            .len()
            .checked_sub(TAG_LEN)
            .ok_or(snow::Error::Decrypt)?;
        let out = out.get_mut(..len).ok_or(snow::Error::Decrypt)?;
        let key = self.key.as_ref().ok_or(snow::Error::Decrypt)?;
        aead::open_message(key, nonce, ad, sealed, out).map_err(|_| snow::Error::Decrypt)?;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::testing::TestRng;
    use crate::wire::REKEY_INTERVAL;
    use crate::wire::aead::Software;
    use crate::wire::record::RecordRun;

    const CHACHA: MessageCipher = MessageCipher::ChaCha20Poly1305;

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len() / 2)
            .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
            .collect()
    }

    /// The primitives given to `snow` make it the protocol that others speak too. Test vector of
    /// the cacophony project, which the Noise community shares.
    #[test]
    fn the_noise_vector() {
        let secret = |text: &str| EphemeralSecret::new(unhex(text).try_into().unwrap());
        let psk = secret("54686973206973206d7920417573747269616e20706572737065637469766521");
        let build = |ephemeral| {
            let own = Ephemeral {
                secret: secret(ephemeral),
                offers_aes: false,
            };
            Builder::with_resolver(PROTOCOL.parse().unwrap(), Box::new(Primitives(own)))
                .prologue(b"John Galt")
                .unwrap()
                .psk(0, &psk)
                .unwrap()
        };
        let mut ends = [
            build("893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a")
                .build_initiator()
                .unwrap(),
            build("bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b")
                .build_responder()
                .unwrap(),
        ];
        let messages = [
            (
                "4c756477696720766f6e204d69736573",
                "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944\
                 fda936bec35a8adfdff198386f7d5475880897edaaf7495314c99095a2e4d66a",
            ),
            (
                "4d757272617920526f746862617264",
                "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843\
                 4cd2a371993ba41ea11448024fca32766b169183c9e691a7a433279da7e729",
            ),
        ];
        for (payload, expected) in messages {
            let mut message = [0; 100];
            let len = ends[0]
                .write_message(&unhex(payload), &mut message)
                .unwrap();
            assert_eq!(message[..len], unhex(expected));
            let mut read = [0; 100];
            let read_len = ends[1].read_message(&message[..len], &mut read).unwrap();
            assert_eq!(read[..read_len], unhex(payload));
            ends.reverse();
        }
        assert_eq!(
            ends[0].get_handshake_hash(),
            unhex("b3e9c846d264120a4211e18307da91157a21e92e69b639c50f027f101db3e1a6")
        );
    }

    fn shaken() -> (HandshakeState, HandshakeState) {
        let key = MasterKey::from_bytes([1; 32]);
        let mut rng = TestRng::new(1);
        let mut own = || Ephemeral::draw(&mut rng, false).unwrap();
        let mut initiator = noise(&key, own(), |builder| builder.build_initiator()).unwrap();
        let mut responder = noise(&key, own(), |builder| builder.build_responder()).unwrap();
        let mut message = [0; MESSAGE_LEN];
        initiator.write_message(&[], &mut message).unwrap();
        read_message(&mut responder, &message).unwrap();
        responder.write_message(&[], &mut message).unwrap();
        read_message(&mut initiator, &message).unwrap();
        (initiator, responder)
    }

    /// Records are what the Noise library's own transport makes and takes, in both directions
    /// and over a change of key.
    #[test]
    fn records_are_noise_transport_messages() {
        let (mut initiator, responder) = shaken();
        let key_id = MasterKey::from_bytes([1; 32]).id();
        let Established {
            mut sending,
            mut receiving,
            ..
        } = established(&mut initiator, key_id, CHACHA);
        let mut peer = responder.into_transport_mode().unwrap();
        let mut wire = Queue::public();
        let mut plaintext = Queue::secret();
        for i in 0..2 * REKEY_INTERVAL + 3 {
            if i > 0 && i % REKEY_INTERVAL == 0 {
                peer.rekey_incoming();
                peer.rekey_outgoing();
            }
            let sent = i.to_le_bytes();
            sending.seal(&Software, &sent, &mut wire).unwrap();
            let mut read = [0; 8];
            peer.read_message(&wire.as_slice()[2..], &mut read).unwrap();
            assert_eq!(read, sent);
            wire.clear();

            let mut record = [0; 26];
            record[0] = 24;
            peer.write_message(&sent, &mut record[2..]).unwrap();
            let run = RecordRun::split_off(&mut &record[..], 1);
            receiving
                .open(&Software, run.unwrap().unwrap(), &mut plaintext)
                .unwrap();
            assert_eq!(plaintext.as_slice(), sent);
            plaintext.clear();
        }
    }

    #[test]
    fn both_ends_agree_and_the_directions_differ() {
        let (mut initiator, mut responder) = shaken();
        let id = MasterKey::from_bytes([1; 32]).id();
        let (a, b) = (
            established(&mut initiator, id, CHACHA),
            established(&mut responder, id, CHACHA),
        );
        let sealed = |mut direction: Direction| {
            let mut out = Queue::public();
            direction.seal(&Software, b"x", &mut out).unwrap();
            out.as_slice().to_vec()
        };
        let (a_sends, a_receives) = (sealed(a.sending), sealed(a.receiving));
        assert_ne!(a_sends, a_receives);
        assert_eq!(
            (a_sends, a_receives),
            (sealed(b.receiving), sealed(b.sending))
        );
    }

    #[test]
    fn a_public_key_of_low_order_is_refused() {
        let mut dh = X25519::new(false);
        dh.set(&[0x55; 32]);
        let mut one = [0; 32];
        one[0] = 1;
        for mut public in [[0; 32], one] {
            assert!(dh.dh(&public, &mut [0; 32]).is_err());
            // An offer makes no other key of it.
            public[OFFER_AT] |= OFFER;
            assert!(dh.dh(&public, &mut [0; 32]).is_err());
        }
        assert!(dh.dh(&[9; 32], &mut [0; 32]).is_ok());
    }

    /// What stands beside a public key changes what the handshake vouches for, and not the secret that is
    /// shared.
    #[test]
    fn an_offer_changes_no_shared_secret() {
        let [mut silent, mut offering] = [false, true].map(X25519::new);
        silent.set(&[0x55; 32]);
        offering.set(&[0x55; 32]);
        let mut expected = silent.pubkey().to_vec();
        assert_eq!(expected[OFFER_AT] & OFFER, 0);
        expected[OFFER_AT] |= OFFER;
        assert_eq!(offering.pubkey(), expected);

        let mut peer = X25519::new(true);
        peer.set(&[0x77; 32]);
        let shared = |own: &X25519, public: &[u8]| {
            let mut shared = [0; 32];
            own.dh(public, &mut shared).unwrap();
            shared
        };
        let secret = shared(&silent, peer.pubkey());
        assert_eq!(secret, shared(&peer, silent.pubkey()));
        assert_eq!(secret, shared(&peer, offering.pubkey()));
    }

    #[test]
    fn aes_is_what_both_have_offered() {
        let aes = MessageCipher::Aes256Gcm;
        for (own, peers, expected) in [
            (false, false, CHACHA),
            (false, true, CHACHA),
            (true, false, CHACHA),
            (true, true, aes),
        ] {
            assert_eq!(agreed(own, peers), expected);
        }
    }

    /// The two ciphers have keys that say nothing of each other's.
    #[test]
    fn each_cipher_has_a_key_of_its_own() {
        let split = Zeroizing::new([7; KEY_LEN]);
        let aes = MasterKey::stream_aes_key(&split, VERSION);
        assert_ne!(*aes, *split);
        assert_ne!(*aes, *MasterKey::stream_aes_key(&split, VERSION + 1));
    }

    #[test]
    fn no_randomness_is_an_error() {
        let keys = Keys::from(MasterKey::from_bytes([1; 32]));
        for left in [0, 31] {
            let mut out = Queue::public();
            assert_eq!(
                Handshake::initiator(&keys, &mut TestRng::failing_after(left), true, &mut out)
                    .unwrap_err(),
                Error::Randomness
            );
            assert_eq!(
                Handshake::responder(&keys, &mut TestRng::failing_after(left), true).unwrap_err(),
                Error::Randomness
            );
        }
    }
}
