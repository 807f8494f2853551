//! The first bytes of a sealed file.

use crate::keys::{Derive, FileKey, KeyId, MasterKey, derive};
use crate::{ChunkSize, Cipher, Error, Layout};

/// How a sealed file begins. The first byte is in no text and the last is a newline, so that a
/// transfer that treats the file as text is found out at once.
pub const MAGIC: [u8; 8] = *b"\xA7sealed\n";

/// The version of the format this crate reads and writes.
pub const VERSION: u8 = 4;

/// Bytes of a file's salt.
pub const SALT_LEN: usize = 32;

/// Bytes of the code that authenticates the header.
pub(crate) const MAC_LEN: usize = 32;

/// Bytes of a header.
pub const HEADER_LEN: usize = MAC_AT + MAC_LEN;

/// Bytes of a header before its MAC, which is over them.
pub const HEADER_FIELDS_LEN: usize = MAC_AT;

pub(crate) const VERSION_AT: usize = 8;
const CIPHER_AT: usize = 9;
const CHUNK_SIZE_AT: usize = 10;
pub(crate) const RESERVED_AT: usize = 11;
const KEY_ID_AT: usize = 16;
pub(crate) const SALT_AT: usize = KEY_ID_AT + KeyId::LEN;
const MAC_AT: usize = SALT_AT + SALT_LEN;

/// What the maker of a file may choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Params {
    /// The AEAD.
    pub cipher: Cipher,
    /// Bytes of plaintext in a full chunk.
    pub chunk_size: ChunkSize,
}

impl Params {
    /// The geometry these parameters give a file.
    pub fn layout(&self) -> Layout {
        Layout::new(self.chunk_size)
    }
}

/// An authentic header: one just made, or one read and verified. Holds nothing secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    params: Params,
    key_id: KeyId,
    salt: [u8; SALT_LEN],
    mac: [u8; MAC_LEN],
}

impl Header {
    pub(crate) fn unsigned(params: Params, key_id: KeyId, salt: [u8; SALT_LEN]) -> Self {
        Self {
            params,
            key_id,
            salt,
            mac: [0; MAC_LEN],
        }
    }

    pub(crate) fn set_mac(&mut self, mac: [u8; MAC_LEN]) {
        self.mac = mac;
    }

    /// Reads a header without believing it. `bytes` is the beginning of the file; what follows
    /// the header is ignored.
    pub fn parse(bytes: &[u8]) -> Result<UnverifiedHeader, Error> {
        let magic_seen = bytes.len().min(MAGIC.len());
        if bytes.is_empty() || bytes[..magic_seen] != MAGIC[..magic_seen] {
            return Err(Error::NotSealed);
        }
        // Looked at before the length, for another version's header may be of another length.
        match bytes.get(VERSION_AT) {
            Some(&VERSION) => {}
            Some(&version) => return Err(Error::UnsupportedVersion(version)),
            None => return Err(Error::Truncated),
        }
        let bytes: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(Error::Truncated)?;

        let cipher =
            Cipher::from_id(bytes[CIPHER_AT]).ok_or(Error::UnknownCipher(bytes[CIPHER_AT]))?;
        let chunk_size = ChunkSize::from_log2(bytes[CHUNK_SIZE_AT])
            .ok_or(Error::UnsupportedChunkSize(bytes[CHUNK_SIZE_AT]))?;
        if bytes[RESERVED_AT..KEY_ID_AT].iter().any(|&byte| byte != 0) {
            return Err(Error::HeaderCorrupt);
        }
        Ok(UnverifiedHeader(Self {
            params: Params { cipher, chunk_size },
            key_id: KeyId::from_bytes(field(bytes, KEY_ID_AT)),
            salt: field(bytes, SALT_AT),
            mac: field(bytes, MAC_AT),
        }))
    }

    /// The header as it stands at the beginning of the file.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..MAC_AT].copy_from_slice(&self.authenticated_fields());
        bytes[MAC_AT..].copy_from_slice(&self.mac);
        bytes
    }

    /// Everything the MAC is computed over.
    pub(crate) fn authenticated_fields(&self) -> [u8; MAC_AT] {
        let mut bytes = [0; MAC_AT];
        bytes[..VERSION_AT].copy_from_slice(&MAGIC);
        bytes[VERSION_AT] = VERSION;
        bytes[CIPHER_AT] = self.params.cipher.id();
        bytes[CHUNK_SIZE_AT] = self.params.chunk_size.log2();
        bytes[KEY_ID_AT..SALT_AT].copy_from_slice(self.key_id.as_bytes());
        bytes[SALT_AT..].copy_from_slice(&self.salt);
        bytes
    }

    /// Cipher and chunk size.
    pub fn params(&self) -> Params {
        self.params
    }

    /// The master key the file is sealed with.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// The file's salt.
    pub fn salt(&self) -> &[u8; SALT_LEN] {
        &self.salt
    }
}

/// A header that parses but has not been authenticated: good for asking which key to fetch.
#[derive(Clone, Debug)]
pub struct UnverifiedHeader(Header);

impl UnverifiedHeader {
    /// The key the file claims to be sealed with.
    pub fn key_id(&self) -> KeyId {
        self.0.key_id
    }

    /// Cipher and chunk size the file claims to have.
    pub fn params(&self) -> Params {
        self.0.params
    }

    /// Authenticates the header and derives the file's content key.
    pub fn verify(self, master: &MasterKey) -> Result<FileKey, Error> {
        self.verify_with(master, derive)
    }

    /// As [`UnverifiedHeader::verify`], with another implementation of [`derive`].
    ///
    /// # Errors
    /// [`Error::WrongKey`], [`Error::HeaderCorrupt`].
    pub fn verify_with(self, master: &MasterKey, derive: Derive) -> Result<FileKey, Error> {
        let mac = self.0.mac;
        FileKey::verify(master, self.0, &mac, derive)
    }
}

/// The `N` bytes at `at`, which the constants above keep inside the header.
fn field<const N: usize>(bytes: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> MasterKey {
        MasterKey::from_bytes([3; 32])
    }

    fn encoded() -> [u8; HEADER_LEN] {
        FileKey::new(&key(), Params::default(), [9; SALT_LEN])
            .header()
            .encode()
    }

    #[test]
    fn fields_are_where_the_format_says() {
        let bytes = encoded();
        assert_eq!(HEADER_LEN, 96);
        assert_eq!(&bytes[..16], b"\xA7sealed\n\x04\x01\x0c\0\0\0\0\0");
        assert_eq!(&bytes[16..32], key().id().as_bytes());
        assert_eq!(&bytes[32..64], &[9; 32]);
    }

    #[test]
    fn round_trip() {
        let made = FileKey::new(&key(), Params::default(), [9; SALT_LEN]);
        let read = Header::parse(&made.header().encode())
            .unwrap()
            .verify(&key())
            .unwrap();
        assert_eq!(read.header(), made.header());
        assert_eq!(read.content_key(), made.content_key());
    }

    #[test]
    fn each_fault_has_its_error() {
        let parse = |bytes: &[u8]| Header::parse(bytes).unwrap_err();
        let with = |at: usize, value: u8| {
            let mut bytes = encoded();
            bytes[at] = value;
            bytes
        };
        assert_eq!(parse(b""), Error::NotSealed);
        assert_eq!(parse(b"plain text"), Error::NotSealed);
        assert_eq!(parse(&with(3, 0)), Error::NotSealed);
        assert_eq!(parse(&with(8, 1)), Error::UnsupportedVersion(1));
        assert_eq!(parse(&with(8, 3)[..9]), Error::UnsupportedVersion(3));
        assert_eq!(parse(&with(9, 0)), Error::UnknownCipher(0));
        assert_eq!(parse(&with(10, 17)), Error::UnsupportedChunkSize(17));
        assert_eq!(parse(&with(12, 1)), Error::HeaderCorrupt);
        for len in 1..HEADER_LEN {
            assert_eq!(parse(&encoded()[..len]), Error::Truncated);
        }
    }

    #[test]
    fn wrong_key_and_altered_header_are_told_apart() {
        let other = MasterKey::from_bytes([4; 32]);
        assert_eq!(
            Header::parse(&encoded())
                .unwrap()
                .verify(&other)
                .unwrap_err(),
            Error::WrongKey {
                file: key().id(),
                given: other.id()
            }
        );
        for at in [9, 10, 40, 70] {
            let mut bytes = encoded();
            // Both 1 <-> 2 and 12 <-> 15 stay valid values of their fields.
            bytes[at] ^= 3;
            assert_eq!(
                Header::parse(&bytes).unwrap().verify(&key()).unwrap_err(),
                Error::HeaderCorrupt
            );
        }
    }
}
