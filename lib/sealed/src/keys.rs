//! From the master key to the keys of one file.
//!
//! Nothing is ever encrypted under the master key itself. Each file has a random salt, and its
//! header key and content key come from both through HKDF-SHA256; so no two files share a content
//! key, and limits on the use of a key count per file.

use core::fmt;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use rand_core::TryCryptoRng;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::Error;
use crate::header::{
    HEADER_FIELDS_LEN, Header, MAC_LEN, Params, RESERVED_AT, SALT_AT, SALT_LEN, VERSION_AT,
};
use crate::mac::{MacKey, same};

/// Bytes of a master key, and of every key derived from it.
pub const KEY_LEN: usize = 32;

const KEY_ID_LEN: usize = 16;

// The labels keep the derived keys apart: a key made for one purpose is useless for another.
const KEY_ID_LABEL: &[u8] = b"sealed key id";
const HEADER_KEY_LABEL: &[u8] = b"sealed file header key";
const CONTENT_KEY_LABEL: &[u8] = b"sealed file content key";
const NONCE_KEY_LABEL: &[u8] = b"sealed file nonce key";
const TREE_KEY_LABEL: &[u8] = b"sealed file tree key";

#[cfg(feature = "wire")]
const STREAM_PSK_LABEL: &[u8] = b"sealed stream psk";
#[cfg(feature = "wire")]
const STREAM_AES_LABEL: &[u8] = b"sealed stream aes-256-gcm";
#[cfg(feature = "wire")]
const DATAGRAM_KEY_LABEL: &[u8] = b"sealed datagram key";

pub(crate) type SecretKey = Zeroizing<[u8; KEY_LEN]>;

/// The public name of a master key: tells keys apart and reveals nothing of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; KEY_ID_LEN]);

impl KeyId {
    /// Bytes of a key id.
    pub const LEN: usize = KEY_ID_LEN;

    /// The id of these bytes, from where it was stored.
    pub fn from_bytes(bytes: [u8; KEY_ID_LEN]) -> Self {
        Self(bytes)
    }

    /// The id as it stands in a header.
    pub fn as_bytes(&self) -> &[u8; KEY_ID_LEN] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::write_hex(f, &self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// The secret all file keys come from. Wiped from memory when dropped.
#[derive(Clone)]
pub struct MasterKey {
    secret: SecretKey,
    id: KeyId,
}

impl MasterKey {
    /// A key from its 32 bytes.
    pub fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self::from_secret(Zeroizing::new(bytes))
    }

    /// A key from a slice, which must be exactly 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, Error> {
        let mut secret = SecretKey::default();
        if bytes.len() != secret.len() {
            return Err(Error::KeyLength(bytes.len()));
        }
        secret.copy_from_slice(bytes);
        Ok(Self::from_secret(secret))
    }

    /// A new random key.
    pub fn generate<R: TryCryptoRng + ?Sized>(rng: &mut R) -> Result<Self, Error> {
        let mut secret = SecretKey::default();
        rng.try_fill_bytes(secret.as_mut_slice())
            .map_err(|_| Error::Randomness)?;
        Ok(Self::from_secret(secret))
    }

    fn from_secret(secret: SecretKey) -> Self {
        let mut id = [0; KEY_ID_LEN];
        expand(
            &Hkdf::new(None, secret.as_slice()),
            &[KEY_ID_LABEL],
            &mut id,
        );
        Self {
            secret,
            id: KeyId(id),
        }
    }

    /// The public name of the key.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The secret bytes, to be stored in a key file and nowhere else.
    pub fn expose_secret(&self) -> &[u8; KEY_LEN] {
        &self.secret
    }

    /// What both ends of a sealed stream of this version prove to each other that they have.
    #[cfg(feature = "wire")]
    pub(crate) fn stream_psk(&self, version: u8) -> SecretKey {
        self.wire_key(None, STREAM_PSK_LABEL, version)
    }

    /// The key of a direction's records by AES-256-GCM, from what the handshake of this version ends in for
    /// it.
    #[cfg(feature = "wire")]
    pub(crate) fn stream_aes_key(split: &SecretKey, version: u8) -> SecretKey {
        let mut key = SecretKey::default();
        expand(
            &Hkdf::new(None, split.as_slice()),
            &[STREAM_AES_LABEL, &[version]],
            key.as_mut_slice(),
        );
        key
    }

    /// The key of all sealed datagrams of this version from the sender with this salt.
    #[cfg(feature = "wire")]
    pub(crate) fn datagram_key(&self, version: u8, sender_salt: &[u8]) -> SecretKey {
        self.wire_key(Some(sender_salt), DATAGRAM_KEY_LABEL, version)
    }

    #[cfg(feature = "wire")]
    fn wire_key(&self, salt: Option<&[u8]>, label: &[u8], version: u8) -> SecretKey {
        let mut key = SecretKey::default();
        expand(
            &Hkdf::new(salt, self.secret.as_slice()),
            &[label, &[version]],
            key.as_mut_slice(),
        );
        key
    }
}

/// What belongs to one file: its keys, and the MAC that its header must have. Wiped when dropped.
pub struct FileSecrets(Zeroizing<[u8; FileSecrets::LEN]>);

impl FileSecrets {
    /// Bytes of them all.
    pub const LEN: usize = 4 * KEY_LEN;

    /// All of them one behind the other, as [`FileSecrets::expose`] has them.
    pub fn from_bytes(bytes: Zeroizing<[u8; Self::LEN]>) -> Self {
        Self(bytes)
    }

    /// Content key, tree key, nonce key, MAC.
    pub fn expose(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    fn key(&self, number: usize) -> SecretKey {
        let mut key = SecretKey::default();
        key.copy_from_slice(&self.0[number * KEY_LEN..][..KEY_LEN]);
        key
    }

    fn mac(&self) -> &[u8] {
        &self.0[3 * KEY_LEN..]
    }
}

impl fmt::Debug for FileSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSecrets").finish_non_exhaustive()
    }
}

/// Makes the secrets of a file from a master key, and from the header's fields as they stand before its MAC: in
/// software ([`derive`]), or by who has SHA-256 in hardware.
pub type Derive = fn(&[u8; KEY_LEN], &[u8; HEADER_FIELDS_LEN]) -> FileSecrets;

/// The secrets of the file with these fields in its header, under that master key.
pub fn derive(master: &[u8; KEY_LEN], fields: &[u8; HEADER_FIELDS_LEN]) -> FileSecrets {
    let pseudorandom = Hkdf::new(Some(&fields[SALT_AT..]), master.as_slice());
    // Version, cipher and chunk size.
    let bound = &fields[VERSION_AT..RESERVED_AT];
    let mut header_key = SecretKey::default();
    expand(
        &pseudorandom,
        &[HEADER_KEY_LABEL, bound],
        header_key.as_mut_slice(),
    );
    let mut secrets = Zeroizing::new([0; FileSecrets::LEN]);
    let (places, _) = secrets.as_chunks_mut::<KEY_LEN>();
    let labels = [CONTENT_KEY_LABEL, TREE_KEY_LABEL, NONCE_KEY_LABEL];
    for (label, place) in labels.into_iter().zip(places) {
        expand(&pseudorandom, &[label, bound], place);
    }
    let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(header_key.as_slice())
        .expect("HMAC takes a key of any length");
    let mac = mac.chain_update(fields).finalize().into_bytes();
    secrets[3 * KEY_LEN..].copy_from_slice(&mac);
    FileSecrets(secrets)
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

fn expand(pseudorandom: &Hkdf<Sha256>, info: &[&[u8]], key: &mut [u8]) {
    pseudorandom
        .expand_multi_info(info, key)
        .expect("HKDF-SHA256 gives up to 8160 bytes");
}

/// The content key of one file, together with the file's header. Wiped when dropped.
pub struct FileKey {
    header: Header,
    content_key: SecretKey,
    tree_key: MacKey,
    nonce_key: SecretKey,
}

impl FileKey {
    /// The key and header of a new file. The salt must be random and never used before.
    pub fn new(master: &MasterKey, params: Params, salt: [u8; SALT_LEN]) -> Self {
        Self::new_with(master, params, salt, derive)
    }

    fn new_with(master: &MasterKey, params: Params, salt: [u8; SALT_LEN], derive: Derive) -> Self {
        let mut header = Header::unsigned(params, master.id(), salt);
        let secrets = derive(&master.secret, &header.authenticated_fields());
        let mut mac = [0; MAC_LEN];
        mac.copy_from_slice(secrets.mac());
        header.set_mac(mac);
        Self::of(header, &secrets)
    }

    fn of(header: Header, secrets: &FileSecrets) -> Self {
        Self {
            header,
            content_key: secrets.key(0),
            tree_key: MacKey::new(secrets.key(1)),
            nonce_key: secrets.key(2),
        }
    }

    /// As [`FileKey::new`], with a salt drawn from `rng`.
    pub fn generate<R: TryCryptoRng + ?Sized>(
        master: &MasterKey,
        params: Params,
        rng: &mut R,
    ) -> Result<Self, Error> {
        Self::generate_with(master, params, rng, derive)
    }

    /// As [`FileKey::generate`], with another implementation of [`derive`].
    ///
    /// # Errors
    /// [`Error::Randomness`].
    pub fn generate_with<R: TryCryptoRng + ?Sized>(
        master: &MasterKey,
        params: Params,
        rng: &mut R,
        derive: Derive,
    ) -> Result<Self, Error> {
        let mut salt = [0; SALT_LEN];
        rng.try_fill_bytes(&mut salt)
            .map_err(|_| Error::Randomness)?;
        Ok(Self::new_with(master, params, salt, derive))
    }

    /// The key of the file this header belongs to, if `master` sealed it.
    pub(crate) fn verify(
        master: &MasterKey,
        header: Header,
        mac: &[u8; MAC_LEN],
        derive: Derive,
    ) -> Result<Self, Error> {
        if header.key_id() != master.id() {
            return Err(Error::WrongKey {
                file: header.key_id(),
                given: master.id(),
            });
        }
        let secrets = derive(&master.secret, &header.authenticated_fields());
        if !same(secrets.mac(), mac) {
            return Err(Error::HeaderCorrupt);
        }
        Ok(Self::of(header, &secrets))
    }

    /// The file's header, which is authentic.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The secret key of the file's AEAD: what an implementation of [`Aead`](crate::aead::Aead)
    /// is made from.
    pub fn content_key(&self) -> &[u8; KEY_LEN] {
        &self.content_key
    }

    /// The key of the MACs over all that is no chunk.
    pub(crate) fn tree_key(&self) -> &MacKey {
        &self.tree_key
    }

    /// What the nonces of the file are made with, beside random bytes.
    pub(crate) fn nonce_key(&self) -> &[u8; KEY_LEN] {
        &self.nonce_key
    }
}

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileKey")
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;
    use crate::testing::TestRng;
    use crate::{ChunkSize, Cipher};

    #[test]
    fn debug_shows_no_secret() {
        let key = MasterKey::from_bytes([0xAB; KEY_LEN]);
        let file = FileKey::new(&key, Params::default(), [1; SALT_LEN]);
        let shown = format!("{key:?} {file:?}");
        assert!(!shown.contains("171") && !shown.to_lowercase().contains("abab"));
        assert!(!shown.contains(&format!("{:?}", file.content_key())));
        assert!(shown.contains(&format!("{}", key.id())));
    }

    #[test]
    fn length_is_checked() {
        for len in [0, 1, 31, 33, 64] {
            let bytes = alloc::vec![0; len];
            assert_eq!(
                MasterKey::from_slice(&bytes).unwrap_err(),
                Error::KeyLength(len)
            );
        }
        let key = MasterKey::from_slice(&[5; 32]).unwrap();
        assert_eq!(key.expose_secret(), &[5; 32]);
        assert_eq!(key.id(), MasterKey::from_bytes([5; 32]).id());
    }

    #[test]
    fn every_input_changes_the_content_key() {
        let base = Params::default();
        let key = MasterKey::from_bytes([1; 32]);
        let content =
            |key: &MasterKey, params, salt| *FileKey::new(key, params, salt).content_key();
        let keys = [
            content(&key, base, [0; 32]),
            content(&key, base, [1; 32]),
            content(&MasterKey::from_bytes([2; 32]), base, [0; 32]),
            content(
                &key,
                Params {
                    cipher: Cipher::Xaes256Gcm,
                    ..base
                },
                [0; 32],
            ),
            content(
                &key,
                Params {
                    chunk_size: ChunkSize::MAX,
                    ..base
                },
                [0; 32],
            ),
        ];
        for (i, a) in keys.iter().enumerate() {
            assert!(keys[..i].iter().all(|b| a != b));
        }
    }

    #[test]
    fn randomness_failure_is_an_error() {
        let mut rng = TestRng::failing_after(0);
        assert_eq!(
            MasterKey::generate(&mut rng).unwrap_err(),
            Error::Randomness
        );
        let key = MasterKey::from_bytes([1; 32]);
        assert_eq!(
            FileKey::generate(&key, Params::default(), &mut rng).unwrap_err(),
            Error::Randomness
        );
    }
}
