//! What a person knows and a wrapped key file asks for.

use std::fmt;

use zeroize::Zeroizing;

/// A passphrase, byte for byte as it was given: nothing is trimmed or normalised. Wiped from memory
/// when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

/// Why something is no passphrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PassphraseError {
    /// No bytes at all.
    #[error("the passphrase is empty")]
    Empty,
    /// More bytes than anyone types.
    #[error("the passphrase is longer than {max} bytes", max = Passphrase::MAX_LEN)]
    TooLong,
}

impl Passphrase {
    /// Most bytes of a passphrase. A longer one is a file named by mistake.
    pub const MAX_LEN: usize = 1024;

    /// A passphrase of these bytes, from one to [`MAX_LEN`](Self::MAX_LEN).
    ///
    /// # Errors
    /// Where they are too few or too many.
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Result<Self, PassphraseError> {
        match bytes.len() {
            0 => Err(PassphraseError::Empty),
            1..=Self::MAX_LEN => Ok(Self(bytes)),
            _ => Err(PassphraseError::TooLong),
        }
    }

    /// The secret bytes, for the function that derives a key from them.
    pub(crate) fn expose_secret(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passphrase").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passphrase(len: usize) -> Result<Passphrase, PassphraseError> {
        Passphrase::new(Zeroizing::new(vec![b'x'; len]))
    }

    #[test]
    fn length_is_checked() {
        assert_eq!(passphrase(0), Err(PassphraseError::Empty));
        assert!(passphrase(1).is_ok() && passphrase(1024).is_ok());
        assert_eq!(passphrase(1025), Err(PassphraseError::TooLong));
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", passphrase(5).unwrap());
        assert!(!shown.contains('x') && !shown.contains("120") && !shown.contains('5'));
    }
}
