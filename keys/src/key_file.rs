//! What the bytes of a key file are: a raw key, a wrapped one, or a ring that names others.
//!
//! They are told apart by their contents alone. 32 bytes are a raw key, whatever they are; nothing
//! else that is a key file can have that length.

use sealed::{KEY_LEN, MasterKey};

use crate::ring_file::{self, RingFile, RingFileError};
use crate::wrapped::{self, WrappedKey, WrappedKeyError};

/// Most bytes of any key file. Who reads one has to read one byte more, to tell a longer file.
pub const MAX_LEN: usize = ring_file::MAX_LEN;

/// The contents of a key file.
#[derive(Clone, Debug)]
pub enum KeyFile {
    /// The master key itself.
    Raw(MasterKey),
    /// The master key, for who knows the passphrase.
    Wrapped(WrappedKey),
    /// Names of other key files.
    Ring(RingFile),
}

/// Why contents are not those of a key file. Each message is a clause that reads well after a file
/// name and a colon.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// Nothing that says what it is, and not as long as a raw key.
    #[error("{0}, but a key is exactly {KEY_LEN} raw bytes")]
    WrongLength(Length),
    /// A wrapped key that can't be used.
    #[error(transparent)]
    Wrapped(#[from] WrappedKeyError),
    /// A ring that can't be used.
    #[error(transparent)]
    Ring(#[from] RingFileError),
}

/// The length of what should have been a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Shorter, by how much is known.
    Short(usize),
    /// Longer.
    Long,
}

impl std::fmt::Display for Length {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Short(0) => f.write_str("empty"),
            Self::Short(1) => f.write_str("only 1 byte"),
            Self::Short(length) => write!(f, "only {length} bytes"),
            Self::Long => write!(f, "more than {KEY_LEN} bytes"),
        }
    }
}

/// Reads the contents of a key file.
///
/// # Errors
/// Where they are none.
pub fn parse(contents: &[u8]) -> Result<KeyFile, FormatError> {
    if let Ok(key) = MasterKey::from_slice(contents) {
        return Ok(KeyFile::Raw(key));
    }
    if contents.starts_with(&wrapped::MAGIC) {
        return Ok(KeyFile::Wrapped(WrappedKey::parse(contents)?));
    }
    if RingFile::is_one(contents) {
        return Ok(KeyFile::Ring(RingFile::parse(contents)?));
    }
    Err(FormatError::WrongLength(match contents.len() {
        length @ ..KEY_LEN => Length::Short(length),
        _ => Length::Long,
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{TestRng, passphrase};
    use crate::wrapped::Cost;

    proptest! {
        #[test]
        fn any_32_bytes_are_a_raw_key(
            mut contents in prop::array::uniform32(any::<u8>()),
            begins_as in 0..3_u8,
        ) {
            let start: &[u8] = match begins_as {
                0 => &[],
                1 => &wrapped::MAGIC,
                _ => ring_file::PREFIX.as_bytes(),
            };
            contents[..start.len()].copy_from_slice(start);
            let KeyFile::Raw(key) = parse(&contents).unwrap() else {
                panic!("32 bytes");
            };
            prop_assert_eq!(key.expose_secret(), &contents);
        }

        #[test]
        fn any_other_bytes_are_none(contents in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assume!(contents.len() != KEY_LEN);
            match parse(&contents) {
                Err(FormatError::WrongLength(Length::Short(length))) => {
                    prop_assert!(length == contents.len() && length < KEY_LEN);
                }
                Err(FormatError::WrongLength(Length::Long)) => {
                    prop_assert!(contents.len() > KEY_LEN);
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }

    #[test]
    fn kinds_are_told_apart() {
        let key = MasterKey::from_bytes([3; KEY_LEN]);
        let cost = Cost::new(8 << 10, 4, 1).unwrap();
        let made = WrappedKey::wrap(&key, &passphrase("x"), cost, &mut TestRng::new(1)).unwrap();
        assert!(matches!(parse(&made.encode()), Ok(KeyFile::Wrapped(read)) if read == made));
        let ring = format!("{}\na\n", ring_file::FIRST_LINE);
        assert!(matches!(parse(ring.as_bytes()), Ok(KeyFile::Ring(_))));
        assert!(matches!(
            parse(&made.encode()[..100]),
            Err(FormatError::Wrapped(WrappedKeyError::WrongLength(100)))
        ));
        assert!(matches!(
            parse(ring_file::FIRST_LINE.as_bytes()),
            Err(FormatError::Ring(RingFileError::Empty))
        ));
    }
}
