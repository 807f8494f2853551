//! A master key wrapped by a passphrase: Argon2id makes a key of the passphrase, and under that the
//! master key is sealed with XChaCha20-Poly1305. `docs/key-files.md` is the normative description
//! of the bytes.
//!
//! Everything that is not the sealed key itself is associated data, so that no part of a wrapped
//! key file can be altered, its key id included, which can be read without the passphrase.

use std::fmt;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use rand_core::TryCryptoRng;
use sealed::{KEY_LEN, KeyId, MasterKey, TAG_LEN};
use zeroize::{Zeroize, Zeroizing};

use crate::passphrase::Passphrase;

/// How a wrapped key file begins. The first byte is in no text and the last is a newline, as with
/// sealed files.
pub const MAGIC: [u8; 8] = *b"\xA7keybox\n";

/// The version of the format this crate reads and writes.
pub const VERSION: u8 = 1;

/// Bytes of a wrapped key file.
pub const WRAPPED_LEN: usize = TAG_AT + TAG_LEN;

const VERSION_AT: usize = 8;
const KDF_AT: usize = 9;
const CIPHER_AT: usize = 10;
const RESERVED_AT: usize = 11;
const MEMORY_AT: usize = 12;
const PASSES_AT: usize = 16;
const LANES_AT: usize = 20;
const KEY_ID_AT: usize = 24;
const SALT_AT: usize = KEY_ID_AT + KeyId::LEN;
const NONCE_AT: usize = SALT_AT + SALT_LEN;
const KEY_AT: usize = NONCE_AT + NONCE_LEN;
const TAG_AT: usize = KEY_AT + KEY_LEN;

/// What RFC 9106 recommends.
const SALT_LEN: usize = 16;
const NONCE_LEN: usize = 24;

/// Argon2id of version 0x13, RFC 9106.
const ARGON2ID: u8 = 1;
/// XChaCha20-Poly1305, by the number it has in sealed files.
const CIPHER: u8 = 1;

/// What it costs to try one passphrase: the parameters of Argon2id.
///
/// A file is not believed to be reasonable: what it asks for is held to the bounds given here
/// before anything is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    memory: u32,
    passes: u32,
    lanes: u32,
}

/// A cost out of bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CostError {
    /// So little memory that passphrases could be guessed fast, or too much.
    #[error(
        "Argon2id over {0} KiB of memory; it has to be from {min} KiB, below which guessing is \
         cheap, to {max} KiB",
        min = Cost::MIN_MEMORY,
        max = Cost::MAX_MEMORY
    )]
    Memory(u32),
    /// So few passes over the memory that passphrases could be guessed fast, or so many that it would
    /// take too long.
    #[error(
        "{passes} passes of Argon2id over {memory} KiB of memory; it has to be from {min} KiB in all, \
         below which guessing is cheap, to {max} KiB",
        min = Cost::MIN_WORK,
        max = Cost::MAX_WORK
    )]
    Passes {
        /// Kibibytes of memory.
        memory: u32,
        /// How often it would be gone through.
        passes: u32,
    },
    /// No lanes, or too many.
    #[error("Argon2id in {0} lanes; it has to be from one to {max}", max = Cost::MAX_LANES)]
    Lanes(u32),
}

impl Cost {
    /// Least memory, in kibibytes: 8 MiB.
    pub const MIN_MEMORY: u32 = 8 << 10;
    /// Least kibibytes gone through in all passes together: 32 MiB. It is about the least that is
    /// recommended where passwords are kept.
    pub const MIN_WORK: u64 = 32 << 10;
    /// Most memory, in kibibytes: 1 GiB.
    pub const MAX_MEMORY: u32 = 1 << 20;
    /// Most kibibytes gone through in all passes together: 4 GiB, some seconds of work.
    pub const MAX_WORK: u64 = 1 << 22;
    /// Most lanes.
    pub const MAX_LANES: u32 = 16;

    /// `memory` kibibytes, gone through `passes` times, in `lanes` that could be computed side by
    /// side.
    ///
    /// # Errors
    /// Where one of them is out of bounds.
    pub fn new(memory: u32, passes: u32, lanes: u32) -> Result<Self, CostError> {
        if !(1..=Self::MAX_LANES).contains(&lanes) {
            return Err(CostError::Lanes(lanes));
        }
        if !(Self::MIN_MEMORY..=Self::MAX_MEMORY).contains(&memory) {
            return Err(CostError::Memory(memory));
        }
        let work = u64::from(memory) * u64::from(passes);
        if !(Self::MIN_WORK..=Self::MAX_WORK).contains(&work) {
            return Err(CostError::Passes { memory, passes });
        }
        Ok(Self {
            memory,
            passes,
            lanes,
        })
    }

    /// Kibibytes of memory.
    pub fn memory(&self) -> u32 {
        self.memory
    }

    /// How often the memory is gone through.
    pub fn passes(&self) -> u32 {
        self.passes
    }

    /// Lanes that could be computed side by side. This crate computes one after the other.
    pub fn lanes(&self) -> u32 {
        self.lanes
    }
}

impl Default for Cost {
    /// 64 MiB, three passes, one lane: a tenth of a second or two on a machine of 2025, and a
    /// memory that a grate has too. It is the second choice of RFC 9106 with the lanes, which
    /// nothing here computes side by side, put into one.
    fn default() -> Self {
        Self {
            memory: 64 << 10,
            passes: 3,
            lanes: 1,
        }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.memory {
            mebibytes if mebibytes.is_multiple_of(1024) => write!(f, "{} MiB", mebibytes / 1024)?,
            kibibytes => write!(f, "{kibibytes} KiB")?,
        }
        let plural = |count| if count == 1 { "" } else { "s" };
        let (passes, lanes) = (self.passes, self.lanes);
        write!(f, ", {passes} pass{}", if passes == 1 { "" } else { "es" })?;
        write!(f, ", {lanes} lane{}", plural(lanes))
    }
}

/// Why a wrapped key can't be read, made or unwrapped. Each message is a clause that reads well
/// after a file name and a colon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WrappedKeyError {
    /// It does not begin with the magic number.
    #[error("not a wrapped key file")]
    NotWrapped,
    /// It says it is of a version this crate does not know.
    #[error(
        "a wrapped key file of version {0}, but this program knows only version {version}",
        version = VERSION
    )]
    UnsupportedVersion(u8),
    /// Not as long as every wrapped key file is.
    #[error(
        "a wrapped key file of {0} bytes, but it has to have {len}: it was cut short or added to",
        len = WRAPPED_LEN
    )]
    WrongLength(usize),
    /// It names a way to derive a key or to seal that this crate does not know.
    #[error("a wrapped key file with unknown algorithms (numbers {kdf} and {cipher})")]
    UnknownAlgorithm {
        /// Number of the function that derives a key from the passphrase.
        kdf: u8,
        /// Number of the cipher.
        cipher: u8,
    },
    /// A byte that has to be zero is not.
    #[error("the wrapped key file is damaged or was altered")]
    Damaged,
    /// It asks for a computation out of bounds.
    #[error("the wrapped key file asks for what is refused: {0}")]
    Cost(#[from] CostError),
    /// It does not open.
    #[error("wrong passphrase, or the key file was altered")]
    Refused,
    /// The memory for the computation can't be had.
    #[error("no {0} KiB of memory for Argon2id")]
    Memory(u32),
    /// The random number generator failed.
    #[error("no randomness available")]
    Randomness,
}

/// A master key wrapped by a passphrase. Holds nothing that is secret without it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    cost: Cost,
    key_id: KeyId,
    salt: [u8; SALT_LEN],
    nonce: [u8; NONCE_LEN],
    key: [u8; KEY_LEN],
    tag: [u8; TAG_LEN],
}

impl WrappedKey {
    /// Wraps a key.
    ///
    /// # Errors
    /// Where randomness or memory can't be had.
    pub fn wrap<R: TryCryptoRng + ?Sized>(
        master: &MasterKey,
        passphrase: &Passphrase,
        cost: Cost,
        rng: &mut R,
    ) -> Result<Self, WrappedKeyError> {
        let mut wrapped = Self {
            cost,
            key_id: master.id(),
            salt: [0; SALT_LEN],
            nonce: [0; NONCE_LEN],
            key: [0; KEY_LEN],
            tag: [0; TAG_LEN],
        };
        rng.try_fill_bytes(&mut wrapped.salt)
            .and_then(|()| rng.try_fill_bytes(&mut wrapped.nonce))
            .map_err(|_| WrappedKeyError::Randomness)?;
        let aead = wrapped.aead(passphrase)?;
        let mut buffer = Zeroizing::new(*master.expose_secret());
        let tag = aead
            .encrypt_inout_detached(
                &XNonce::from(wrapped.nonce),
                &wrapped.associated_data(),
                buffer.as_mut_slice().into(),
            )
            .expect("32 bytes are no more than an AEAD takes");
        wrapped.key = *buffer;
        wrapped.tag = tag.into();
        Ok(wrapped)
    }

    /// Reads the contents of a wrapped key file. What they ask for is within bounds then, but
    /// nothing of it is authentic before [`unwrap_with`](Self::unwrap_with).
    ///
    /// # Errors
    /// Where they are none, or of another version, or damaged, or ask for too much.
    pub fn parse(contents: &[u8]) -> Result<Self, WrappedKeyError> {
        if !contents.starts_with(&MAGIC) {
            return Err(WrappedKeyError::NotWrapped);
        }
        // Looked at before the length, for another version may be of another length.
        match contents.get(VERSION_AT) {
            None | Some(&VERSION) => {}
            Some(&version) => return Err(WrappedKeyError::UnsupportedVersion(version)),
        }
        let bytes: &[u8; WRAPPED_LEN] = contents
            .try_into()
            .map_err(|_| WrappedKeyError::WrongLength(contents.len()))?;
        let (kdf, cipher) = (bytes[KDF_AT], bytes[CIPHER_AT]);
        if (kdf, cipher) != (ARGON2ID, CIPHER) {
            return Err(WrappedKeyError::UnknownAlgorithm { kdf, cipher });
        }
        if bytes[RESERVED_AT] != 0 {
            return Err(WrappedKeyError::Damaged);
        }
        let number = |at| u32::from_le_bytes(field(bytes, at));
        Ok(Self {
            cost: Cost::new(number(MEMORY_AT), number(PASSES_AT), number(LANES_AT))?,
            key_id: KeyId::from_bytes(field(bytes, KEY_ID_AT)),
            salt: field(bytes, SALT_AT),
            nonce: field(bytes, NONCE_AT),
            key: field(bytes, KEY_AT),
            tag: field(bytes, TAG_AT),
        })
    }

    /// The contents of the key file.
    pub fn encode(&self) -> [u8; WRAPPED_LEN] {
        let mut bytes = [0; WRAPPED_LEN];
        bytes[..KEY_AT].copy_from_slice(&self.associated_data());
        bytes[KEY_AT..TAG_AT].copy_from_slice(&self.key);
        bytes[TAG_AT..].copy_from_slice(&self.tag);
        bytes
    }

    /// The key, given the passphrase. Takes as long as the [`cost`](Self::cost) says.
    ///
    /// # Errors
    /// Where the passphrase is another one or the file was altered, which can't be told apart; or
    /// where memory can't be had.
    pub fn unwrap_with(&self, passphrase: &Passphrase) -> Result<MasterKey, WrappedKeyError> {
        let aead = self.aead(passphrase)?;
        let mut buffer = Zeroizing::new(self.key);
        aead.decrypt_inout_detached(
            &XNonce::from(self.nonce),
            &self.associated_data(),
            buffer.as_mut_slice().into(),
            &Tag::from(self.tag),
        )
        .map_err(|_| WrappedKeyError::Refused)?;
        let master =
            MasterKey::from_slice(buffer.as_slice()).map_err(|_| WrappedKeyError::Refused)?;
        // The AEAD does not commit to its key: that one file opens with two passphrases, to two
        // keys, is ruled out by this.
        if master.id() != self.key_id {
            return Err(WrappedKeyError::Refused);
        }
        Ok(master)
    }

    /// The id that the file gives for its key: authentic only where the key was unwrapped.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// What it costs to try a passphrase.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// Everything before the sealed key.
    fn associated_data(&self) -> [u8; KEY_AT] {
        let mut bytes = [0; KEY_AT];
        bytes[..VERSION_AT].copy_from_slice(&MAGIC);
        bytes[VERSION_AT] = VERSION;
        bytes[KDF_AT] = ARGON2ID;
        bytes[CIPHER_AT] = CIPHER;
        bytes[MEMORY_AT..PASSES_AT].copy_from_slice(&self.cost.memory.to_le_bytes());
        bytes[PASSES_AT..LANES_AT].copy_from_slice(&self.cost.passes.to_le_bytes());
        bytes[LANES_AT..KEY_ID_AT].copy_from_slice(&self.cost.lanes.to_le_bytes());
        bytes[KEY_ID_AT..SALT_AT].copy_from_slice(self.key_id.as_bytes());
        bytes[SALT_AT..NONCE_AT].copy_from_slice(&self.salt);
        bytes[NONCE_AT..].copy_from_slice(&self.nonce);
        bytes
    }

    /// The AEAD under the key that the passphrase makes.
    fn aead(&self, passphrase: &Passphrase) -> Result<XChaCha20Poly1305, WrappedKeyError> {
        let Cost {
            memory,
            passes,
            lanes,
        } = self.cost;
        let params = Params::new(memory, passes, lanes, Some(KEY_LEN))
            .map_err(|_| CostError::Memory(memory))?;
        let mut blocks = Memory::of(params.block_count(), memory)?;
        let mut key = Zeroizing::new([0; KEY_LEN]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into_with_memory(
                passphrase.expose_secret(),
                &self.salt,
                key.as_mut_slice(),
                &mut blocks.0,
            )
            .map_err(|_| WrappedKeyError::Refused)?;
        Ok(XChaCha20Poly1305::new((&*key).into()))
    }
}

/// What Argon2 computes in. Wiped when dropped: its last blocks are what the key is made of.
struct Memory(Vec<Block>);

impl Memory {
    /// So many blocks; `memory` is the same in kibibytes. Memory that can't be had is an error,
    /// for it is a file that asks for it.
    fn of(blocks: usize, memory: u32) -> Result<Self, WrappedKeyError> {
        let mut vec = Vec::new();
        vec.try_reserve_exact(blocks)
            .map_err(|_| WrappedKeyError::Memory(memory))?;
        vec.resize(blocks, Block::new());
        Ok(Self(vec))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(Zeroize::zeroize);
    }
}

/// The `N` bytes at `at`, which the constants above keep inside the file.
fn field<const N: usize>(bytes: &[u8; WRAPPED_LEN], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::sync::LazyLock;

    use super::*;
    use crate::testing::{TestRng, passphrase};

    /// As cheap as can be: what is tested here does not depend on the cost.
    pub const CHEAP: Cost = Cost {
        memory: Cost::MIN_MEMORY,
        passes: 4,
        lanes: 1,
    };

    fn master() -> MasterKey {
        MasterKey::from_bytes([7; KEY_LEN])
    }

    fn wrapped() -> WrappedKey {
        static MADE: LazyLock<WrappedKey> = LazyLock::new(|| {
            WrappedKey::wrap(&master(), &passphrase("open"), CHEAP, &mut TestRng::new(1)).unwrap()
        });
        MADE.clone()
    }

    #[test]
    fn what_is_wrapped_is_unwrapped() {
        for cost in [CHEAP, Cost::new(16 << 10, 2, 3).unwrap()] {
            let made = WrappedKey::wrap(&master(), &passphrase("open"), cost, &mut TestRng::new(1))
                .unwrap();
            let read = WrappedKey::parse(&made.encode()).unwrap();
            assert_eq!(read, made);
            assert_eq!((read.cost(), read.key_id()), (cost, master().id()));
            let key = read.unwrap_with(&passphrase("open")).unwrap();
            assert_eq!(key.expose_secret(), master().expose_secret());
            assert_eq!(
                read.unwrap_with(&passphrase("Open")).unwrap_err(),
                WrappedKeyError::Refused
            );
        }
    }

    #[test]
    fn fields_are_where_the_format_says() {
        let bytes = wrapped().encode();
        assert_eq!(WRAPPED_LEN, 128);
        assert_eq!(&bytes[..12], b"\xA7keybox\n\x01\x01\x01\0");
        assert_eq!(&bytes[12..24], b"\0\x20\0\0\x04\0\0\0\x01\0\0\0");
        assert_eq!(&bytes[24..40], master().id().as_bytes());
    }

    #[test]
    fn two_files_of_one_key_have_nothing_in_common() {
        let wrap = |seed| {
            WrappedKey::wrap(&master(), &passphrase("x"), CHEAP, &mut TestRng::new(seed)).unwrap()
        };
        let (a, b) = (wrap(1), wrap(2));
        assert!(a.salt != b.salt && a.nonce != b.nonce && a.key != b.key);
    }

    #[test]
    fn every_byte_counts() {
        let whole = wrapped().encode();
        // Each try takes its time.
        for at in 0..whole.len() {
            let mut bytes = whole;
            bytes[at] ^= 1 << (at % 3);
            let outcome =
                WrappedKey::parse(&bytes).and_then(|key| key.unwrap_with(&passphrase("open")));
            assert!(outcome.is_err(), "byte {at}");
        }
    }

    #[test]
    fn each_fault_has_its_error() {
        let parse = |bytes: &[u8]| WrappedKey::parse(bytes).unwrap_err();
        let whole = wrapped().encode();
        let with = |at: usize, value: u8| {
            let mut bytes = whole;
            bytes[at] = value;
            bytes
        };
        assert_eq!(parse(b""), WrappedKeyError::NotWrapped);
        assert_eq!(parse(&with(0, 0)), WrappedKeyError::NotWrapped);
        assert_eq!(parse(&with(8, 2)), WrappedKeyError::UnsupportedVersion(2));
        assert_eq!(parse(&whole[..8]), WrappedKeyError::WrongLength(8));
        assert_eq!(parse(&whole[..127]), WrappedKeyError::WrongLength(127));
        assert_eq!(
            parse(&[&whole[..], b"\n"].concat()),
            WrappedKeyError::WrongLength(129)
        );
        assert_eq!(
            parse(&with(9, 2)),
            WrappedKeyError::UnknownAlgorithm { kdf: 2, cipher: 1 }
        );
        assert_eq!(
            parse(&with(10, 9)),
            WrappedKeyError::UnknownAlgorithm { kdf: 1, cipher: 9 }
        );
        assert_eq!(parse(&with(11, 1)), WrappedKeyError::Damaged);
    }

    #[test]
    fn what_would_take_too_long_is_refused_unseen() {
        let asks = |memory: u32, passes: u32, lanes: u32| {
            let mut bytes = wrapped().encode();
            bytes[MEMORY_AT..PASSES_AT].copy_from_slice(&memory.to_le_bytes());
            bytes[PASSES_AT..LANES_AT].copy_from_slice(&passes.to_le_bytes());
            bytes[LANES_AT..KEY_ID_AT].copy_from_slice(&lanes.to_le_bytes());
            WrappedKey::parse(&bytes).map(|key| key.cost())
        };
        let refused = |cost: CostError| Err(WrappedKeyError::Cost(cost));
        assert_eq!(asks(u32::MAX, 1, 1), refused(CostError::Memory(u32::MAX)));
        assert_eq!(asks(8192, 4, 0), refused(CostError::Lanes(0)));
        assert_eq!(
            asks(1 << 20, 1, u32::MAX),
            refused(CostError::Lanes(u32::MAX))
        );
        for (memory, passes) in [(8192, u32::MAX), (1 << 20, 5)] {
            assert_eq!(
                asks(memory, passes, 1),
                refused(CostError::Passes { memory, passes })
            );
        }
        assert!(asks(1 << 20, 4, 16).is_ok());
        // Nor what would take who guesses no time.
        for memory in [0, 8, 64, 8191] {
            assert_eq!(asks(memory, 4096, 1), refused(CostError::Memory(memory)));
        }
        for (memory, passes) in [(8192, 0), (8192, 3), (16384, 1), (32767, 1)] {
            assert_eq!(
                asks(memory, passes, 1),
                refused(CostError::Passes { memory, passes })
            );
        }
        for (memory, passes) in [(8192, 4), (16384, 2), (32768, 1)] {
            assert!(asks(memory, passes, 16).is_ok());
        }
    }

    #[test]
    fn the_default_cost_is_within_bounds() {
        let cost = Cost::default();
        assert_eq!(Cost::new(cost.memory, cost.passes, cost.lanes), Ok(cost));
        assert_eq!(cost.to_string(), "64 MiB, 3 passes, 1 lane");
    }

    #[test]
    fn wrapping_without_randomness_fails() {
        for bytes in [0, SALT_LEN] {
            let mut rng = TestRng::failing_after(bytes);
            let outcome = WrappedKey::wrap(&master(), &passphrase("x"), CHEAP, &mut rng);
            assert_eq!(outcome, Err(WrappedKeyError::Randomness));
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?} {:?}", wrapped(), passphrase("open sesame"));
        assert!(!shown.contains("sesame") && !shown.contains("7, 7, 7"));
    }

    proptest! {
        #[test]
        fn any_bytes_parse(
            mut contents in prop::collection::vec(any::<u8>(), 0..200),
            start in 0..=12_usize,
            fits in any::<bool>(),
        ) {
            if fits {
                contents.resize(WRAPPED_LEN, 0);
            }
            let start = start.min(contents.len());
            contents[..start].copy_from_slice(&wrapped().encode()[..start]);
            if let Ok(key) = WrappedKey::parse(&contents) {
                let encoded = key.encode();
                prop_assert_eq!(encoded.as_slice(), contents);
                prop_assert!(u64::from(key.cost().memory()) * u64::from(key.cost().passes())
                    <= Cost::MAX_WORK);
            }
        }
    }
}
