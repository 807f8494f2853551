//! The AEAD at work: one small trait to seal and open a run of chunks, and its implementation in
//! software.
//!
//! The trait works on whole runs, so that an implementation behind a call boundary (a service of
//! the runtime, a device) pays for one call a run and not one a chunk.

use alloc::boxed::Box;

use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::aead::{AeadInOut, KeyInit, Nonce, Tag};
use xaes_256_gcm::Xaes256Gcm;

use crate::layout::NONCE_LEN;
use crate::{Error, FileKey, KEY_LEN, Layout};

/// Bytes of an authentication tag, the same for every cipher of this version.
pub const TAG_LEN: usize = 16;

/// Bytes of associated data of a chunk: its index, whether it is shorter than others, where in it what is
/// sealed begins, and zeros up to what
/// vector code of Poly1305 takes at a time, for it is slow on all that follows odd blocks.
pub const ASSOCIATED_DATA_LEN: usize = 64;

/// The AEAD a file is sealed with. The number is the one in the header. Both have nonces of 192
/// bits, which can be drawn at random for as long as anyone writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Cipher {
    /// XChaCha20-Poly1305.
    #[default]
    XChaCha20Poly1305 = 1,
    /// XAES-256-GCM of C2SP: AES-256-GCM with a key of its own for each chunk.
    Xaes256Gcm = 2,
}

impl Cipher {
    /// All ciphers of this version.
    pub const ALL: [Self; 2] = [Self::XChaCha20Poly1305, Self::Xaes256Gcm];

    /// The cipher of this number in a header.
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|cipher| cipher.id() == id)
    }

    /// The number of the cipher in a header.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// The name used on command lines and in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::XChaCha20Poly1305 => "xchacha20poly1305",
            Self::Xaes256Gcm => "xaes-256-gcm",
        }
    }
}

/// Which chunks of a file two buffers hold: those from an index on. All are full, but for the last
/// one in the buffers, which may be shorter; then it is the file's last.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    layout: Layout,
    first: u64,
    start: u16,
}

impl Run {
    /// Chunks from index `first` on, of a file with that layout.
    pub fn new(layout: Layout, first: u64) -> Self {
        Self {
            layout,
            first,
            start: 0,
        }
    }

    /// What was appended to chunk `index` of such a file when that had `start` bytes, with 0 the chunk
    /// as a whole. No chunk with so many is shorter than a full one: then it is `None`.
    pub fn appended(layout: Layout, index: u64, start: usize) -> Option<Self> {
        Some(Self {
            start: u16::try_from(start)
                .ok()
                .filter(|_| start < layout.chunk_size())?,
            ..Self::new(layout, index)
        })
    }

    /// Where in its chunk the run begins, in bytes: not 0 for what was appended.
    pub fn start(&self) -> u16 {
        self.start
    }

    /// The geometry of the file.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Index of the first chunk.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The chunks of the run, given how many bytes of plaintext it holds.
    pub fn pieces(&self, plaintext_len: usize) -> impl Iterator<Item = Piece> + use<> {
        let chunk_size = self.layout.chunk_size();
        let (first, start) = (self.first, self.start);
        (0..plaintext_len.div_ceil(chunk_size)).map(move |i| {
            let len = chunk_size.min(plaintext_len - i * chunk_size);
            Piece {
                index: first.wrapping_add(i as u64),
                len,
                is_final: len < chunk_size,
                start,
            }
        })
    }
}

/// One chunk of a [`Run`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Which of the file's chunks it is.
    pub index: u64,
    /// Bytes of plaintext.
    pub len: usize,
    is_final: bool,
    start: u16,
}

impl Piece {
    /// What the chunk's tag vouches for beside its bytes.
    pub fn associated_data(&self) -> [u8; ASSOCIATED_DATA_LEN] {
        let mut data = [0; ASSOCIATED_DATA_LEN];
        data[..8].copy_from_slice(&self.index.to_le_bytes());
        data[8] = u8::from(self.is_final);
        data[10..12].copy_from_slice(&self.start.to_le_bytes());
        data
    }
}

/// Seals and opens runs of chunks under one file's content key.
///
/// [`FileCipher`](crate::FileCipher) calls it with buffers whose lengths it has checked, and wipes
/// the plaintext buffer when opening fails.
pub trait Aead {
    /// Seals the chunks in `plaintext` into `sealed`, which has each chunk's nonce in its place
    /// already, the rest being free to overwrite.
    fn seal(&self, run: Run, plaintext: &[u8], sealed: &mut [u8]) -> Result<(), Error>;

    /// Opens the chunks in `sealed` into `plaintext`, or fails with the index of the first chunk
    /// that does not authenticate.
    fn open(&self, run: Run, sealed: &[u8], plaintext: &mut [u8]) -> Result<(), Error>;

    /// The content key, of one that lets the work be done elsewhere: by a [`Disk`](crate::Disk) that can.
    fn content_key(&self) -> Option<&[u8; KEY_LEN]> {
        None
    }
}

impl<A: Aead + ?Sized> Aead for Box<A> {
    fn seal(&self, run: Run, plaintext: &[u8], sealed: &mut [u8]) -> Result<(), Error> {
        (**self).seal(run, plaintext, sealed)
    }

    fn open(&self, run: Run, sealed: &[u8], plaintext: &mut [u8]) -> Result<(), Error> {
        (**self).open(run, sealed, plaintext)
    }

    fn content_key(&self) -> Option<&[u8; KEY_LEN]> {
        (**self).content_key()
    }
}

/// The AEAD in portable software, with its key schedule made once.
pub struct Software(Schedule);

enum Schedule {
    XChaCha20Poly1305(XChaCha20Poly1305),
    // Boxed because its expanded key is many times larger than the other variant.
    Xaes256Gcm(Box<Xaes256Gcm>),
}

impl Software {
    /// The cipher the file's header names, ready to use with the file's content key.
    pub fn new(key: &FileKey) -> Self {
        Self::from_content_key(key.header().params().cipher, key.content_key())
    }

    /// A cipher with its key, for who serves another's [`Aead`] and knows no file.
    pub fn from_content_key(cipher: Cipher, key: &[u8; KEY_LEN]) -> Self {
        let content_key = key.into();
        Self(match cipher {
            Cipher::XChaCha20Poly1305 => {
                Schedule::XChaCha20Poly1305(XChaCha20Poly1305::new(content_key))
            }
            Cipher::Xaes256Gcm => Schedule::Xaes256Gcm(Box::new(Xaes256Gcm::new(content_key))),
        })
    }
}

impl core::fmt::Debug for Software {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Software").finish_non_exhaustive()
    }
}

impl Aead for Software {
    fn seal(&self, run: Run, plaintext: &[u8], sealed: &mut [u8]) -> Result<(), Error> {
        match &self.0 {
            Schedule::XChaCha20Poly1305(aead) => seal(aead, run, plaintext, sealed),
            Schedule::Xaes256Gcm(aead) => seal(aead.as_ref(), run, plaintext, sealed),
        }
    }

    fn open(&self, run: Run, sealed: &[u8], plaintext: &mut [u8]) -> Result<(), Error> {
        match &self.0 {
            Schedule::XChaCha20Poly1305(aead) => open(aead, run, sealed, plaintext),
            Schedule::Xaes256Gcm(aead) => open(aead.as_ref(), run, sealed, plaintext),
        }
    }
}

fn seal<A: AeadInOut>(
    aead: &A,
    run: Run,
    mut plaintext: &[u8],
    mut sealed: &mut [u8],
) -> Result<(), Error> {
    for piece in run.pieces(plaintext.len()) {
        let len = piece.len;
        let input = plaintext.split_off(..len).ok_or(Error::BufferSize)?;
        let nonce = sealed.split_off_mut(..NONCE_LEN).ok_or(Error::BufferSize)?;
        let output = sealed.split_off_mut(..len).ok_or(Error::BufferSize)?;
        let tag = sealed.split_off_mut(..TAG_LEN).ok_or(Error::BufferSize)?;

        let nonce = <&Nonce<A>>::try_from(&*nonce).map_err(|_| Error::BufferSize)?;
        let buffer = InOutBuf::new(input, output).map_err(|_| Error::BufferSize)?;
        let computed = aead
            .encrypt_inout_detached(nonce, &piece.associated_data(), buffer)
            .map_err(|_| Error::TooLarge)?;
        tag.copy_from_slice(&computed);
    }
    Ok(())
}

fn open<A: AeadInOut>(
    aead: &A,
    run: Run,
    mut sealed: &[u8],
    mut plaintext: &mut [u8],
) -> Result<(), Error> {
    for piece in run.pieces(plaintext.len()) {
        let len = piece.len;
        let output = plaintext.split_off_mut(..len).ok_or(Error::BufferSize)?;
        let nonce = sealed.split_off(..NONCE_LEN).ok_or(Error::BufferSize)?;
        let input = sealed.split_off(..len).ok_or(Error::BufferSize)?;
        let tag = sealed.split_off(..TAG_LEN).ok_or(Error::BufferSize)?;

        let nonce = <&Nonce<A>>::try_from(nonce).map_err(|_| Error::BufferSize)?;
        let tag = <&Tag<A>>::try_from(tag).map_err(|_| Error::BufferSize)?;
        let buffer = InOutBuf::new(input, output).map_err(|_| Error::BufferSize)?;
        aead.decrypt_inout_detached(nonce, &piece.associated_data(), buffer, tag)
            .map_err(|_| Error::ChunkCorrupt { index: piece.index })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ChunkSize;

    #[test]
    fn ids_and_names_are_unique() {
        for cipher in Cipher::ALL {
            assert_eq!(Cipher::from_id(cipher.id()), Some(cipher));
        }
        assert_eq!(Cipher::from_id(0), None);
        assert_eq!(Cipher::from_id(3), None);
    }

    #[test]
    fn pieces_of_a_run() {
        let pieces = |len| -> alloc::vec::Vec<_> {
            Run::new(Layout::new(ChunkSize::MIN), 5)
                .pieces(len)
                .map(|piece| (piece.len, piece.index))
                .collect()
        };
        assert_eq!(pieces(1024), [(512, 5), (512, 6)]);
        assert_eq!(pieces(1025)[2], (1, 7));
        assert_eq!(pieces(3), [(3, 5)]);
        assert_eq!(pieces(0), []);
    }

    /// The vectors that C2SP published with XAES-256-GCM.
    #[test]
    fn xaes_is_that_of_c2sp() {
        for (key, aad, expected) in [
            (
                1,
                "",
                "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271",
            ),
            (
                3,
                "c2sp.org/XAES-256-GCM",
                "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d",
            ),
        ] {
            let aead = Xaes256Gcm::new(&[key; 32].into());
            let mut buffer = *b"XAES-256-GCM";
            let nonce = b"ABCDEFGHIJKLMNOPQRSTUVWX".into();
            let tag = aead
                .encrypt_inout_detached(nonce, aad.as_bytes(), buffer.as_mut_slice().into())
                .unwrap();
            let sealed: alloc::string::String = buffer
                .iter()
                .chain(tag.as_slice())
                .map(|byte| alloc::format!("{byte:02x}"))
                .collect();
            assert_eq!(sealed, expected);
        }
    }

    #[test]
    fn associated_data_is_little_endian_index_then_flag_then_start() {
        let layout = Layout::new(ChunkSize::MIN);
        let data = |run: Run, len| run.pieces(len).next().unwrap().associated_data();
        let appended = Run::appended(layout, 3, 0x0103).unwrap();
        for (data, begins) in [
            (
                data(Run::new(layout, 0x0102), 5),
                [2, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
            ),
            (
                data(Run::new(layout, 7), 512),
                [7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            ),
            (data(appended, 5), [3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 3, 1]),
        ] {
            assert_eq!(data[..12], begins);
            assert_eq!(data[12..], [0; 52]);
        }
        assert!(Run::appended(layout, 3, 512).is_none());
        assert!(Run::appended(Layout::new(ChunkSize::MAX), 3, 1 << 16).is_none());
    }
}
