//! The native AEAD for what goes over the wire: runs of messages of sealed connections. As the one
//! for files ([`super::aead`]) it keeps no key and knows no connection, and Lind lacks it.

use super::{Call, Entry};
use ring::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, Tag, UnboundKey};
use rustix::io::Errno;
use sealed::wire::aead::{MessageCipher, Run};
use sealed::{Secret, TAG_LEN};
use zeroize::Zeroizing;

pub(super) const CALLS: &[Entry] = &[Entry::new(1103, seal), Entry::new(1104, open)];

/// What the first argument points to: bytes of the header before each message u8, cipher u8, two bytes
/// unused, plaintext bytes of each message but the last u32, number of the first message u64, key
/// 32 bytes.
const REQUEST_LEN: usize = 48;
const KEY_AT: usize = 16;

/// Plaintext bytes of a message, and of the header before it, at most: what a length of two bytes
/// can say.
const MOST_PIECE: usize = u16::MAX as usize;
const MOST_HEADER: usize = 64;

/// Bytes on either side of one call, at most.
const MOST: u64 = 1 << 24;

/// One call: which messages, under which key.
struct Job {
    cipher: MessageCipher,
    key: LessSafeKey,
    run: Run,
    plaintext_len: usize,
}

impl Job {
    /// Request, plaintext and its length, sealed bytes and their length.
    fn of(call: &Call<'_>) -> Result<Self, Errno> {
        let request: Zeroizing<[u8; REQUEST_LEN]> = Zeroizing::new(call.get(0)?);
        let header_len = usize::from(request[0]);
        let cipher = MessageCipher::from_id(request[1]).ok_or(Errno::INVAL)?;
        let algorithm = match cipher {
            MessageCipher::ChaCha20Poly1305 => &CHACHA20_POLY1305,
            // Who asks learns so that it is not worth to be used here.
            MessageCipher::Aes256Gcm if has_aes() => &AES_256_GCM,
            _ => return Err(Errno::OPNOTSUPP),
        };
        let word = [request[4], request[5], request[6], request[7]];
        let piece_len = u32::from_le_bytes(word) as usize;
        let mut first = [0; 8];
        first.copy_from_slice(&request[8..KEY_AT]);
        let key = UnboundKey::new(algorithm, &request[KEY_AT..]);
        let fits = header_len <= MOST_HEADER
            && (1..=MOST_PIECE).contains(&piece_len)
            && call.raw(2) <= MOST
            && call.raw(4) <= MOST;
        let job = Self {
            cipher,
            key: LessSafeKey::new(key.map_err(|_| Errno::INVAL)?),
            run: Run::new(u64::from_le_bytes(first), header_len, piece_len.max(1)),
            plaintext_len: call.raw(2).min(MOST) as usize,
        };
        if fits && job.run.sealed_len(job.plaintext_len) as u64 == call.raw(4) {
            Ok(job)
        } else {
            Err(Errno::INVAL)
        }
    }

    /// Works message by message, through a buffer of the host: guest memory can change under our
    /// hands, so no reference to it is made. Gives the number of each, where it lies on either side, behind its
    /// header, and the buffer, with room for its text and a tag.
    fn each(
        &self,
        call: &Call<'_>,
        mut work: impl FnMut(Nonce, u64, u64, &mut [u8], &mut [u8; TAG_LEN]) -> Result<(), Errno>,
    ) -> Result<i32, Errno> {
        let (header_len, piece_len) = (self.run.header_len(), self.run.piece_len());
        let mut buffer = Secret::zeros(self.plaintext_len.min(piece_len));
        let mut tag = [0; TAG_LEN];
        let (mut at, mut sealed_at) = (call.raw(1), call.raw(3));
        for index in 0..self.run.count(self.plaintext_len) {
            let len = (self.plaintext_len - index * piece_len).min(piece_len);
            let number = self.run.first().wrapping_add(index as u64);
            let nonce = Nonce::assume_unique_for_key(self.cipher.nonce(number));
            let past = |at: u64, len: usize| at.checked_add(len as u64).ok_or(Errno::FAULT);
            let text_at = past(sealed_at, header_len)?;
            work(nonce, at, text_at, &mut buffer[..len], &mut tag)?;
            at = past(at, len)?;
            sealed_at = past(text_at, len + TAG_LEN)?;
        }
        Ok(0)
    }
}

/// Whether the processor has the instructions that make AES-256-GCM the faster cipher.
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

/// Seals; the headers are in their places already. `EINVAL` for lengths that do not fit, `EOPNOTSUPP`
/// for AES where it has no instructions.
fn seal(call: &Call<'_>) -> Result<i32, Errno> {
    let job = Job::of(call)?;
    let (from, to) = (call.image_of(1)?, call.image_of(3)?);
    job.each(call, |nonce, at, text_at, text, tag| {
        from.memory.read(at, text)?;
        let made = job
            .key
            .seal_in_place_separate_tag(nonce, Aad::empty(), text);
        tag.copy_from_slice(made.map_err(|_| Errno::INVAL)?.as_ref());
        to.memory.write(text_at, text)?;
        to.memory.write(text_at + text.len() as u64, tag)
    })
}

/// Opens. `EBADMSG` at the first message that does not authenticate; nothing of it is written, and
/// those before it are the caller's to wipe.
fn open(call: &Call<'_>) -> Result<i32, Errno> {
    let job = Job::of(call)?;
    let (to, from) = (call.image_of(1)?, call.image_of(3)?);
    job.each(call, |nonce, at, text_at, text, tag| {
        from.memory.read(text_at, text)?;
        from.memory.read(text_at + text.len() as u64, tag)?;
        let opened =
            job.key
                .open_in_place_separate_tag(nonce, Aad::empty(), Tag::from(*tag), text, 0..);
        opened.map_err(|_| Errno::BADMSG)?;
        to.memory.write(at, text)
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Fixture, UNMAPPED};
    use super::*;
    use sealed::wire::aead::MessageCipher::{Aes256Gcm, ChaCha20Poly1305};
    use sealed::wire::aead::{MessageAead, MessageKey, Software};

    const REQUEST: u64 = 0x1000;
    const PLAINTEXT: u64 = 0x2000;
    const SEALED: u64 = 0x4000;

    fn request(cipher: MessageCipher, header_len: u8, piece_len: u32, first: u64) -> Vec<u8> {
        let mut request = vec![header_len, cipher.id(), 0, 0];
        request.extend_from_slice(&piece_len.to_le_bytes());
        request.extend_from_slice(&first.to_le_bytes());
        request.extend_from_slice(&[5; 32]);
        request
    }

    #[test]
    fn messages_are_those_of_the_library() {
        for cipher in [ChaCha20Poly1305, Aes256Gcm] {
            if cipher == Aes256Gcm && !has_aes() {
                continue;
            }
            let key = MessageKey::new(cipher, Zeroizing::new([5; 32]));
            for len in [0usize, 1, 15, 16, 17, 100] {
                let cage = Fixture::new();
                let plaintext: Vec<u8> = (0..len as u8).collect();
                let first = 0x0102_0304_0506_0708;
                let run = Run::new(first, 2, 16);
                let mut expected = vec![0xEE; run.sealed_len(len)];
                cage.put(REQUEST, &request(cipher, 2, 16, first));
                cage.put(PLAINTEXT, &plaintext);
                cage.put(SEALED, &expected);
                let sealed_len = expected.len() as u64;
                let args = [REQUEST, PLAINTEXT, len as u64, SEALED, sealed_len];
                assert_eq!(cage.call(1103, &args), Ok(0));
                Software.seal(&key, run, &plaintext, &mut expected).unwrap();
                assert_eq!(cage.get(SEALED, expected.len()), expected);

                cage.put(PLAINTEXT, &vec![0; len]);
                assert_eq!(cage.call(1104, &args), Ok(0));
                assert_eq!(cage.get(PLAINTEXT, len), plaintext);

                expected[3] ^= 1;
                cage.put(SEALED, &expected);
                assert_eq!(cage.call(1104, &args), Err(Errno::BADMSG));
            }
        }
    }

    #[test]
    fn an_unknown_cipher_is_refused() {
        let cage = Fixture::new();
        for id in [2, 255] {
            let mut request = request(ChaCha20Poly1305, 2, 16, 0);
            request[1] = id;
            cage.put(REQUEST, &request);
            for nr in [1103, 1104] {
                let args = [REQUEST, PLAINTEXT, 5, SEALED, 23];
                assert_eq!(cage.call(nr, &args), Err(Errno::INVAL));
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let cage = Fixture::new();
        cage.put(REQUEST, &request(ChaCha20Poly1305, 2, 16, 7));
        for nr in [1103, 1104] {
            let call = |plaintext: u64, len: u64, sealed: u64, sealed_len: u64| {
                cage.call(nr, &[REQUEST, plaintext, len, sealed, sealed_len])
            };
            assert_eq!(call(PLAINTEXT, 5, SEALED, 22), Err(Errno::INVAL));
            assert_eq!(call(PLAINTEXT, 5, SEALED, u64::MAX), Err(Errno::INVAL));
            assert_eq!(call(PLAINTEXT, u64::MAX, SEALED, 23), Err(Errno::INVAL));
            assert!(call(UNMAPPED, 5, SEALED, 23).is_err());
            assert_eq!(call(PLAINTEXT, 5, UNMAPPED, 23), Err(Errno::FAULT));
            assert_eq!(
                cage.call(nr, &[UNMAPPED, PLAINTEXT, 5, SEALED, 23]),
                Err(Errno::FAULT)
            );
        }
        for (header_len, piece_len) in [(2, 0), (65, 16), (2, 1 << 16)] {
            cage.put(
                REQUEST,
                &request(ChaCha20Poly1305, header_len, piece_len, 0),
            );
            let args = [REQUEST, PLAINTEXT, 0, SEALED, 16 + u64::from(header_len)];
            assert_eq!(cage.call(1103, &args), Err(Errno::INVAL));
        }
    }
}
