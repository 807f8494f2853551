//! The ciphers of sealed files by `ring`, whose code for each kind of processor is written by hand:
//! on a chunk of 4 KiB two to three times as fast as the portable crates, on a short one ten times.
//!
//! It has the ciphers of the RFCs. What makes their nonces 24 bytes long, a key of its own for each
//! nonce's first part, comes from the portable crates: a block of ChaCha20, and two of AES.

use aes::Aes256;
use aes::cipher::{Block, BlockCipherEncrypt, KeyInit};
use chacha20::{R20, hchacha};
use ring::aead::{
    AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN as SHORT_NONCE_LEN, Nonce, Tag,
    UnboundKey,
};
use sealed::aead::{Piece, TAG_LEN};
use sealed::{Cipher, Error, KEY_LEN, NONCE_LEN};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a block of AES, and of the nonce's part that a key comes from.
const BLOCK_LEN: usize = 16;

/// An AEAD with its content key.
pub(super) enum Fast {
    XChaCha20Poly1305(Zeroizing<[u8; KEY_LEN]>),
    /// With the first subkey of CMAC.
    Xaes256Gcm(Box<(Aes256, [u8; BLOCK_LEN])>),
}

impl Fast {
    /// A cipher with its key; `None` for one that is not here.
    pub(super) fn new(cipher: Cipher, key: &[u8; KEY_LEN]) -> Option<Self> {
        Some(match cipher {
            Cipher::XChaCha20Poly1305 => Self::XChaCha20Poly1305(Zeroizing::new(*key)),
            Cipher::Xaes256Gcm => {
                let aes = Aes256::new(key.into());
                let mut zero = [0; BLOCK_LEN].into();
                aes.encrypt_block(&mut zero);
                Self::Xaes256Gcm(Box::new((aes, doubled(zero.into()))))
            }
            _ => return None,
        })
    }

    /// The key for a chunk with that nonce, and the nonce to use with it.
    fn of(&self, nonce: &[u8; NONCE_LEN]) -> Result<(LessSafeKey, Nonce), Error> {
        let (algorithm, key, rest) = match self {
            Self::XChaCha20Poly1305(key) => {
                let (first, rest) = nonce.split_first_chunk().ok_or(Error::BufferSize)?;
                let first: &[u8; BLOCK_LEN] = first;
                let key = hchacha::<R20>((&**key).into(), first.into());
                (&CHACHA20_POLY1305, Zeroizing::new(key.into()), rest)
            }
            Self::Xaes256Gcm(cmac) => {
                let (first, rest) = nonce.split_at(NONCE_LEN / 2);
                (&AES_256_GCM, xaes_key(&cmac.0, &cmac.1, first), rest)
            }
        };
        let key: Zeroizing<[u8; KEY_LEN]> = key;
        let mut short = [0; SHORT_NONCE_LEN];
        short[SHORT_NONCE_LEN - rest.len()..].copy_from_slice(rest);
        let key = UnboundKey::new(algorithm, &*key).map_err(|_| Error::BufferSize)?;
        Ok((LessSafeKey::new(key), Nonce::assume_unique_for_key(short)))
    }
}

/// The first subkey of CMAC (RFC 4493): twice the block, in the field of CMAC.
fn doubled(block: [u8; BLOCK_LEN]) -> [u8; BLOCK_LEN] {
    let number = u128::from_be_bytes(block);
    let carry = (number >> 127) * 0b1000_0111;
    (number << 1 ^ carry).to_be_bytes()
}

/// The key that XAES-256-GCM makes of the first half of a nonce.
fn xaes_key(aes: &Aes256, subkey: &[u8; BLOCK_LEN], first: &[u8]) -> Zeroizing<[u8; KEY_LEN]> {
    let mut blocks = [[0; BLOCK_LEN]; 2].map(Block::<Aes256>::from);
    for (number, block) in (1..).zip(&mut blocks) {
        block[..4].copy_from_slice(&[0, number, b'X', 0]);
        block[4..].copy_from_slice(first);
        for (byte, mask) in block.iter_mut().zip(subkey) {
            *byte ^= mask;
        }
    }
    // Together: what is made ready for each call takes as long as many blocks.
    aes.encrypt_blocks(&mut blocks);
    let mut key = Zeroizing::new([0; KEY_LEN]);
    for (half, block) in key.chunks_exact_mut(BLOCK_LEN).zip(&mut blocks) {
        half.copy_from_slice(block);
        block.zeroize();
    }
    key
}

impl Fast {
    /// Seals a chunk in its place: `chunk` begins with its nonce, then comes the plaintext, then room
    /// for the tag.
    pub(super) fn seal(&self, piece: Piece, chunk: &mut [u8]) -> Result<(), Error> {
        let (nonce, rest) = chunk.split_first_chunk_mut().ok_or(Error::BufferSize)?;
        let (text, tag) = rest
            .split_at_mut_checked(piece.len)
            .ok_or(Error::BufferSize)?;
        let tag: &mut [u8; TAG_LEN] = tag.try_into().map_err(|_| Error::BufferSize)?;
        let (key, nonce) = self.of(nonce)?;
        let computed = key
            .seal_in_place_separate_tag(nonce, Aad::from(piece.associated_data()), text)
            .map_err(|_| Error::TooLarge)?;
        tag.copy_from_slice(computed.as_ref());
        Ok(())
    }

    /// Opens a chunk in its place, and answers the plaintext. Where it does not authenticate, there is none of
    /// it.
    pub(super) fn open<'a>(
        &self,
        piece: Piece,
        chunk: &'a mut [u8],
    ) -> Result<&'a mut [u8], Error> {
        let (nonce, rest) = chunk.split_first_chunk_mut().ok_or(Error::BufferSize)?;
        let (text, tag) = rest
            .split_at_mut_checked(piece.len)
            .ok_or(Error::BufferSize)?;
        let tag = Tag::try_from(&*tag).map_err(|_| Error::BufferSize)?;
        let (key, nonce) = self.of(nonce)?;
        let aad = Aad::from(piece.associated_data());
        key.open_in_place_separate_tag(nonce, aad, tag, text, 0..)
            .map_err(|_| Error::ChunkCorrupt { index: piece.index })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sealed::aead::{Aead, Run, Software};
    use sealed::{ChunkSize, Layout};

    proptest! {
        /// What one seals is, byte for byte, what the portable crates seal, and each opens the other's;
        /// a flipped bit is found out by both.
        #[test]
        fn the_same_as_in_software(
            key in any::<[u8; KEY_LEN]>(),
            first in 0..1u64 << 40,
            start in 0..512usize,
            plaintext in prop::collection::vec(any::<u8>(), 1..=512),
            nonce in any::<[u8; NONCE_LEN]>(),
            flip in any::<prop::sample::Index>(),
        ) {
            let layout = Layout::new(ChunkSize::MIN);
            let run = Run::appended(layout, first, start).unwrap();
            let piece = run.pieces(plaintext.len()).next().unwrap();
            for cipher in Cipher::ALL {
                let fast = Fast::new(cipher, &key).unwrap();
                let software = Software::from_content_key(cipher, &key);
                let mut sealed = [&nonce[..], &plaintext, &[0; TAG_LEN]].concat();
                let mut expected = sealed.clone();
                fast.seal(piece, &mut sealed).unwrap();
                software.seal(run, &plaintext, &mut expected).unwrap();
                prop_assert_eq!(&sealed, &expected);
                let mut opened = sealed.clone();
                prop_assert_eq!(fast.open(piece, &mut opened), Ok(&mut plaintext.clone()[..]));

                let bit = flip.index(sealed.len() * 8);
                sealed[bit / 8] ^= 1 << (bit % 8);
                let damaged = Error::ChunkCorrupt { index: first };
                let mut plain = vec![0; plaintext.len()];
                prop_assert_eq!(software.open(run, &sealed, &mut plain), Err(damaged));
                prop_assert_eq!(fast.open(piece, &mut sealed), Err(damaged));
            }
        }
    }

    #[test]
    fn buffers_that_do_not_fit_are_refused() {
        let layout = Layout::new(ChunkSize::MIN);
        let piece = Run::new(layout, 0).pieces(512).next().unwrap();
        for cipher in Cipher::ALL {
            let fast = Fast::new(cipher, &[1; KEY_LEN]).unwrap();
            for len in [0, NONCE_LEN, 551, 553] {
                let mut chunk = vec![0; len];
                assert_eq!(fast.seal(piece, &mut chunk), Err(Error::BufferSize));
                assert_eq!(fast.open(piece, &mut chunk), Err(Error::BufferSize));
            }
        }
    }
}
