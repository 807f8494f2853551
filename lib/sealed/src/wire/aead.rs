//! The AEAD of records and datagrams: one small trait to seal and open a run of messages, and its
//! implementation in software.
//!
//! # Why the keys leave the Noise library
//!
//! The handshake is the Noise library's. The two keys it ends in are taken out of it (Noise calls
//! this the split), and messages are sealed here rather than by its own transport state. The bytes
//! are the same: no associated data, the nonce four zero bytes and then the message's number, as
//! Noise has it for each cipher, so any Noise implementation can be the peer. What is gained:
//!
//! - WebAssembly lacks the instructions that make this AEAD fast. A runtime that offers a native
//!   one can be given the key and a whole run of messages in one call, which a library that keeps
//!   the key and takes one message at a time does not allow.
//! - Bytes go from the caller's buffer to the wire's in one pass, without a copy between.
//! - Datagrams, which no Noise session covers, use the same code.
//!
//! What must be right here in return, and is small: that no number is used twice under a key and
//! that none is skipped. The numbers are counted in one place, in the records' module.

use core::fmt;

use aes_gcm::Aes256Gcm;
use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::aead::{AeadInOut, KeyInit, Nonce, Tag};
use zeroize::Zeroizing;

use crate::{KEY_LEN, TAG_LEN};

/// The number that no message has: what it seals is the next key.
pub(super) const REKEY_NUMBER: u64 = u64::MAX;

/// Bytes of a nonce.
const NONCE_LEN: usize = 12;

/// The AEAD of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum MessageCipher {
    /// ChaCha20-Poly1305, which everybody has.
    #[default]
    ChaCha20Poly1305 = 0,
    /// AES-256-GCM, for streams between two ends that have instructions for it.
    Aes256Gcm = 1,
}

impl MessageCipher {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::ChaCha20Poly1305, Self::Aes256Gcm];

    /// The number by which implementations of [`MessageAead`] tell it. It is not on the wire.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// The cipher of that number.
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|cipher| cipher.id() == id)
    }

    /// The nonce of the message of that number: four zeros and the number, in the order of bytes that
    /// Noise has for this cipher.
    pub fn nonce(self, number: u64) -> [u8; NONCE_LEN] {
        let mut nonce = [0; NONCE_LEN];
        nonce[4..].copy_from_slice(&match self {
            Self::ChaCha20Poly1305 => number.to_le_bytes(),
            Self::Aes256Gcm => number.to_be_bytes(),
        });
        nonce
    }
}

/// A key that messages are sealed under, and what with. Wiped from memory when dropped.
#[derive(Clone)]
pub struct MessageKey {
    cipher: MessageCipher,
    secret: Zeroizing<[u8; KEY_LEN]>,
}

impl MessageKey {
    /// A key from its 32 bytes, for one cipher alone.
    pub fn new(cipher: MessageCipher, secret: Zeroizing<[u8; KEY_LEN]>) -> Self {
        Self { cipher, secret }
    }

    /// What it is for.
    pub fn cipher(&self) -> MessageCipher {
        self.cipher
    }

    /// The secret bytes, for an implementation of [`MessageAead`] that brings them to where it
    /// does its work.
    pub fn expose_secret(&self) -> &[u8; KEY_LEN] {
        &self.secret
    }

    /// The key that follows this one: the rekeying function of Noise.
    pub(super) fn next(&self) -> Self {
        let mut sealed = Zeroizing::new([0; KEY_LEN + TAG_LEN]);
        seal_message(
            self,
            REKEY_NUMBER,
            &[],
            &[0; KEY_LEN],
            sealed.as_mut_slice(),
        )
        .expect("the buffer fits");
        let mut next = Zeroizing::new([0; KEY_LEN]);
        next.copy_from_slice(&sealed[..KEY_LEN]);
        Self::new(self.cipher, next)
    }
}

impl fmt::Debug for MessageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageKey")
            .field("cipher", &self.cipher)
            .finish_non_exhaustive()
    }
}

/// Which messages two buffers hold.
///
/// The plaintext is cut into pieces of one length, the last of which may be shorter. No plaintext
/// is one empty piece. Sealed, each piece is a header of the caller's, the ciphertext and a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    first: u64,
    header_len: usize,
    piece_len: usize,
}

impl Run {
    /// Messages from number `first` on, of `piece_len` bytes of plaintext each (at least one), each
    /// with `header_len` bytes before it that the AEAD neither reads nor writes.
    pub fn new(first: u64, header_len: usize, piece_len: usize) -> Self {
        Self {
            first,
            header_len,
            piece_len: piece_len.max(1),
        }
    }

    /// Number of the first message.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Bytes of the header before each ciphertext.
    pub fn header_len(&self) -> usize {
        self.header_len
    }

    /// Bytes of plaintext in each message but the last.
    pub fn piece_len(&self) -> usize {
        self.piece_len
    }

    /// How many messages hold this many bytes of plaintext.
    pub fn count(&self, plaintext_len: usize) -> usize {
        plaintext_len.div_ceil(self.piece_len).max(1)
    }

    /// Bytes that the sealed form of this many bytes of plaintext takes, headers included.
    pub fn sealed_len(&self, plaintext_len: usize) -> usize {
        plaintext_len + self.count(plaintext_len) * (self.header_len + TAG_LEN)
    }

    /// Number and plaintext length of each message.
    fn pieces(self, plaintext_len: usize) -> impl Iterator<Item = (u64, usize)> {
        (0..self.count(plaintext_len)).map(move |i| {
            let len = (plaintext_len - i * self.piece_len).min(self.piece_len);
            (self.first.wrapping_add(i as u64), len)
        })
    }
}

/// A run could not be sealed or opened: it does not authenticate, the buffers do not fit each
/// other, or the implementation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the messages could not be sealed or opened")]
pub struct AeadError;

/// Seals and opens runs of messages with the cipher of their key, without associated data, each with
/// [the nonce](MessageCipher::nonce) of its number.
///
/// The caller sees to it that no number is used twice under one key, and that the sealed buffer has
/// the length that [`Run::sealed_len`] gives.
pub trait MessageAead {
    /// Whether it is to be used with AES-256-GCM where the peer's is too: whether it has instructions
    /// for it, without which it is slower than what it stands in for.
    fn offers_aes(&self) -> bool {
        false
    }

    /// Seals `plaintext` into `sealed`, in which the headers are in their places already.
    fn seal(
        &self,
        key: &MessageKey,
        run: Run,
        plaintext: &[u8],
        sealed: &mut [u8],
    ) -> Result<(), AeadError>;

    /// Opens `sealed` into `plaintext`, or fails if any message does not authenticate. Nothing of a
    /// message that does not may be left in `plaintext`; what else is left there is not used.
    fn open(
        &self,
        key: &MessageKey,
        run: Run,
        sealed: &[u8],
        plaintext: &mut [u8],
    ) -> Result<(), AeadError>;
}

/// The AEAD in portable software, which offers no AES: without instructions for it that is slow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Software;

impl MessageAead for Software {
    fn seal(
        &self,
        key: &MessageKey,
        run: Run,
        mut plaintext: &[u8],
        mut sealed: &mut [u8],
    ) -> Result<(), AeadError> {
        for (number, len) in run.pieces(plaintext.len()) {
            let input = plaintext.split_off(..len).ok_or(AeadError)?;
            sealed.split_off_mut(..run.header_len).ok_or(AeadError)?;
            let output = sealed.split_off_mut(..len + TAG_LEN).ok_or(AeadError)?;
            seal_message(key, number, &[], input, output)?;
        }
        Ok(())
    }

    fn open(
        &self,
        key: &MessageKey,
        run: Run,
        mut sealed: &[u8],
        mut plaintext: &mut [u8],
    ) -> Result<(), AeadError> {
        for (number, len) in run.pieces(plaintext.len()) {
            let output = plaintext.split_off_mut(..len).ok_or(AeadError)?;
            sealed.split_off(..run.header_len).ok_or(AeadError)?;
            let input = sealed.split_off(..len + TAG_LEN).ok_or(AeadError)?;
            open_message(key, number, &[], input, output)?;
        }
        Ok(())
    }
}

/// Seals one message into `sealed`, which is longer by a tag.
pub(super) fn seal_message(
    key: &MessageKey,
    number: u64,
    associated_data: &[u8],
    plaintext: &[u8],
    sealed: &mut [u8],
) -> Result<(), AeadError> {
    let seal = match key.cipher {
        MessageCipher::ChaCha20Poly1305 => seal_with::<ChaCha20Poly1305>,
        MessageCipher::Aes256Gcm => seal_with::<Aes256Gcm>,
    };
    seal(key, number, associated_data, plaintext, sealed)
}

fn seal_with<C: AeadInOut + KeyInit>(
    key: &MessageKey,
    number: u64,
    associated_data: &[u8],
    plaintext: &[u8],
    sealed: &mut [u8],
) -> Result<(), AeadError> {
    let (ciphertext, tag) = sealed.split_last_chunk_mut::<TAG_LEN>().ok_or(AeadError)?;
    let buffer = InOutBuf::new(plaintext, ciphertext).map_err(|_| AeadError)?;
    let computed = schedule::<C>(key)?
        .encrypt_inout_detached(&nonce::<C>(key, number)?, associated_data, buffer)
        .map_err(|_| AeadError)?;
    tag.copy_from_slice(&computed);
    Ok(())
}

/// Opens one message into `plaintext`, which is shorter by a tag and stays as it is if the message
/// does not authenticate.
pub(super) fn open_message(
    key: &MessageKey,
    number: u64,
    associated_data: &[u8],
    sealed: &[u8],
    plaintext: &mut [u8],
) -> Result<(), AeadError> {
    let open = match key.cipher {
        MessageCipher::ChaCha20Poly1305 => open_with::<ChaCha20Poly1305>,
        MessageCipher::Aes256Gcm => open_with::<Aes256Gcm>,
    };
    open(key, number, associated_data, sealed, plaintext)
}

fn open_with<C: AeadInOut + KeyInit>(
    key: &MessageKey,
    number: u64,
    associated_data: &[u8],
    sealed: &[u8],
    plaintext: &mut [u8],
) -> Result<(), AeadError> {
    let (ciphertext, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(AeadError)?;
    let tag = <&Tag<C>>::try_from(&tag[..]).map_err(|_| AeadError)?;
    let buffer = InOutBuf::new(ciphertext, plaintext).map_err(|_| AeadError)?;
    schedule::<C>(key)?
        .decrypt_inout_detached(&nonce::<C>(key, number)?, associated_data, buffer, tag)
        .map_err(|_| AeadError)
}

fn schedule<C: KeyInit>(key: &MessageKey) -> Result<C, AeadError> {
    C::new_from_slice(key.expose_secret()).map_err(|_| AeadError)
}

fn nonce<C: AeadInOut>(key: &MessageKey, number: u64) -> Result<Nonce<C>, AeadError> {
    Nonce::<C>::try_from(&key.cipher.nonce(number)[..]).map_err(|_| AeadError)
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;

    fn key(cipher: MessageCipher) -> MessageKey {
        MessageKey::new(cipher, Zeroizing::new([9; KEY_LEN]))
    }

    #[test]
    fn numbers_tell_ciphers() {
        for cipher in MessageCipher::ALL {
            assert_eq!(MessageCipher::from_id(cipher.id()), Some(cipher));
        }
        assert_eq!(MessageCipher::from_id(2), None);
    }

    /// As section 12.3 and 12.4 of the Noise specification have them.
    #[test]
    fn the_nonces_are_those_of_noise() {
        let nonce = |cipher: MessageCipher| cipher.nonce(0x0102);
        let chacha = nonce(MessageCipher::ChaCha20Poly1305);
        assert_eq!(chacha, [0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
        let aes = nonce(MessageCipher::Aes256Gcm);
        assert_eq!(aes, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
    }

    /// Test case 14 of the specification of GCM by McGrew and Viega: a key and a nonce of zeros, which
    /// is that of number 0.
    #[test]
    fn aes_is_that_of_the_specification() {
        let key = MessageKey::new(MessageCipher::Aes256Gcm, Zeroizing::default());
        let mut sealed = [0; 32];
        seal_message(&key, 0, &[], &[0; 16], &mut sealed).unwrap();
        let shown: alloc::string::String = sealed
            .iter()
            .map(|byte| alloc::format!("{byte:02x}"))
            .collect();
        assert_eq!(
            shown,
            "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"
        );
    }

    #[test]
    fn software_offers_no_aes() {
        assert!(!Software.offers_aes());
    }

    #[test]
    fn a_key_is_for_its_cipher_alone() {
        let [chacha, aes] = MessageCipher::ALL.map(key);
        let mut sealed = [0; TAG_LEN];
        seal_message(&chacha, 0, &[], &[], &mut sealed).unwrap();
        assert!(open_message(&aes, 0, &[], &sealed, &mut []).is_err());
        assert_eq!(chacha.next().cipher(), chacha.cipher());
        assert_eq!(aes.next().cipher(), aes.cipher());
        assert_ne!(aes.next().expose_secret(), chacha.next().expose_secret());
    }

    #[test]
    fn pieces_of_a_run() {
        let pieces = |len| -> Vec<_> { Run::new(5, 2, 4).pieces(len).collect() };
        assert_eq!(pieces(0), [(5, 0)]);
        assert_eq!(pieces(3), [(5, 3)]);
        assert_eq!(pieces(4), [(5, 4)]);
        assert_eq!(pieces(9), [(5, 4), (6, 4), (7, 1)]);
        for len in 0..20 {
            let run = Run::new(5, 2, 4);
            let sealed: usize = run.pieces(len).map(|(_, len)| 2 + len + TAG_LEN).sum();
            assert_eq!(run.sealed_len(len), sealed);
        }
    }

    #[test]
    fn a_run_is_its_messages_one_by_one() {
        for cipher in MessageCipher::ALL {
            let plaintext: Vec<u8> = (0..9).collect();
            let run = Run::new(7, 2, 4);
            let mut sealed = vec![0xEE; run.sealed_len(plaintext.len())];
            Software
                .seal(&key(cipher), run, &plaintext, &mut sealed)
                .unwrap();

            let mut expected = Vec::new();
            for (number, piece) in (7..).zip(plaintext.chunks(4)) {
                let mut message = vec![0; piece.len() + TAG_LEN];
                seal_message(&key(cipher), number, &[], piece, &mut message).unwrap();
                expected.extend([0xEE; 2]);
                expected.extend(message);
            }
            assert_eq!(sealed, expected);

            let mut opened = vec![0; plaintext.len()];
            Software
                .open(&key(cipher), run, &sealed, &mut opened)
                .unwrap();
            assert_eq!(opened, plaintext);
        }
    }

    #[test]
    fn a_message_that_fails_leaves_no_trace() {
        for cipher in MessageCipher::ALL {
            let run = Run::new(0, 0, 8);
            let mut sealed = vec![0; run.sealed_len(8)];
            Software
                .seal(&key(cipher), run, &[1; 8], &mut sealed)
                .unwrap();
            let mut opened = [0xCC; 8];
            for wrong in [Run::new(1, 0, 8), Run::new(0, 0, 4)] {
                assert_eq!(
                    Software.open(&key(cipher), wrong, &sealed, &mut opened),
                    Err(AeadError)
                );
                assert_eq!(opened, [0xCC; 8]);
            }
            sealed[3] ^= 1;
            assert!(
                Software
                    .open(&key(cipher), run, &sealed, &mut opened)
                    .is_err()
            );
            assert_eq!(opened, [0xCC; 8]);
        }
    }

    #[test]
    fn buffers_that_do_not_fit_are_an_error() {
        for cipher in MessageCipher::ALL {
            let run = Run::new(0, 2, 8);
            for len in 0..run.sealed_len(20) {
                let mut sealed = vec![0; len];
                assert!(
                    Software
                        .seal(&key(cipher), run, &[0; 20], &mut sealed)
                        .is_err()
                );
                assert!(
                    Software
                        .open(&key(cipher), run, &sealed, &mut [0; 20])
                        .is_err()
                );
            }
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        for cipher in MessageCipher::ALL {
            assert!(!alloc::format!("{:?}", key(cipher)).contains('9'));
        }
    }
}
