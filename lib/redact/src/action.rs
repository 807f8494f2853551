//! What is done with a match.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// What is done with a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Each byte of the secret becomes one mask character.
    Mask,
    /// The secret becomes `[REDACTED:name]`, with the rule's name.
    Label,
    /// The secret becomes `[name:pseudonym]`; equal secrets have equal pseudonyms under one key.
    Hash,
    /// As [`Mask`](Self::Mask), but the last bytes stay: this many, and never more than a quarter.
    KeepSuffix(usize),
    /// The write that completes the match fails.
    Deny,
    /// The write that completes the match is swallowed.
    Drop,
    /// The match passes and is reported.
    Audit,
}

impl Action {
    /// Whether what is put for a secret is as long as the secret.
    pub fn keeps_length(self) -> bool {
        !matches!(self, Self::Label | Self::Hash)
    }

    /// Whether it can be done in the middle of a file, where what follows has to stay in its place.
    pub fn keeps_offsets(self) -> bool {
        self.keeps_length() && self != Self::Drop
    }

    /// What is done with a match that can't be treated as a whole any more.
    pub(crate) fn of_a_cut_match(self) -> Self {
        match self {
            Self::Audit => Self::Audit,
            _ => Self::Mask,
        }
    }

    /// Whether it is the write that is judged, not the bytes.
    pub(crate) fn judges_write(self) -> bool {
        matches!(self, Self::Deny | Self::Drop)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mask => f.write_str("mask"),
            Self::Label => f.write_str("label"),
            Self::Hash => f.write_str("hash"),
            Self::KeepSuffix(count) => write!(f, "keep-suffix:{count}"),
            Self::Deny => f.write_str("deny"),
            Self::Drop => f.write_str("drop"),
            Self::Audit => f.write_str("audit"),
        }
    }
}

/// The text names no action.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown action `{0}`; use mask, label, hash, keep-suffix:N, deny, drop or audit")]
pub struct UnknownAction(String);

impl FromStr for Action {
    type Err = UnknownAction;

    fn from_str(text: &str) -> Result<Self, UnknownAction> {
        Ok(match text {
            "mask" => Self::Mask,
            "label" => Self::Label,
            "hash" => Self::Hash,
            "deny" => Self::Deny,
            "drop" => Self::Drop,
            "audit" => Self::Audit,
            _ => {
                let count = text.strip_prefix("keep-suffix:").map(str::parse);
                match count {
                    Some(Ok(count)) => Self::KeepSuffix(count),
                    _ => return Err(UnknownAction(text.to_owned())),
                }
            }
        })
    }
}

/// The key that pseudonyms are made with. Without it nobody can tell which secret a pseudonym
/// stands for by trying likely ones.
#[derive(Clone)]
pub struct HashKey(Arc<Zeroizing<Vec<u8>>>);

/// Fewest bytes of a [`HashKey`].
pub const HASH_KEY_MIN: usize = 16;

/// The key is too short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hash key has at least {HASH_KEY_MIN} bytes, not {0}")]
pub struct HashKeyTooShort(usize);

impl HashKey {
    /// Takes a key of at least [`HASH_KEY_MIN`] bytes.
    pub fn new(key: Zeroizing<Vec<u8>>) -> Result<Self, HashKeyTooShort> {
        if key.len() < HASH_KEY_MIN {
            return Err(HashKeyTooShort(key.len()));
        }
        Ok(Self(Arc::new(key)))
    }

    /// Eighty bits of the secret's HMAC-SHA256, in base32 (RFC 4648, lower case).
    fn pseudonym(&self, secret: &[u8]) -> [u8; 16] {
        const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        // Any length is a key of HMAC; a key that could not be set would hash to nothing known.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else {
            return [b'?'; 16];
        };
        mac.update(b"redact pseudonym v1\0");
        mac.update(secret);
        let tag = mac.finalize().into_bytes();
        let mut word = 0u128;
        for &byte in &tag[..10] {
            word = word << 8 | u128::from(byte);
        }
        std::array::from_fn(|i| ALPHABET[(word >> (75 - 5 * i)) as usize & 31])
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(..)")
    }
}

/// How secrets are replaced.
#[derive(Clone, Debug)]
pub(crate) struct Replacer {
    pub mask: u8,
    pub key: Option<HashKey>,
}

impl Replacer {
    /// Puts `len` mask characters.
    pub fn mask(&self, len: usize, out: &mut Vec<u8>) {
        out.resize(out.len() + len, self.mask);
    }

    /// Puts what stands for a secret.
    pub fn replace(&self, action: Action, rule: &str, secret: &[u8], out: &mut Vec<u8>) {
        match action {
            Action::Audit => out.extend_from_slice(secret),
            Action::Label => {
                out.extend_from_slice(b"[REDACTED:");
                out.extend_from_slice(rule.as_bytes());
                out.push(b']');
            }
            Action::Hash => match &self.key {
                Some(key) => {
                    out.push(b'[');
                    out.extend_from_slice(rule.as_bytes());
                    out.push(b':');
                    out.extend_from_slice(&key.pseudonym(secret));
                    out.push(b']');
                }
                None => self.mask(secret.len(), out),
            },
            Action::KeepSuffix(count) => {
                let shown = count.min(secret.len() / 4);
                let hidden = secret.len() - shown;
                self.mask(hidden, out);
                out.extend_from_slice(&secret[hidden..]);
            }
            // A judged write that is too late to judge is masked.
            Action::Mask | Action::Deny | Action::Drop => self.mask(secret.len(), out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(action: &str, secret: &[u8]) -> Vec<u8> {
        let replacer = Replacer {
            mask: b'*',
            key: Some(HashKey::new(Zeroizing::new(vec![7; 32])).unwrap()),
        };
        let mut out = Vec::new();
        replacer.replace(action.parse().unwrap(), "r", secret, &mut out);
        out
    }

    #[test]
    fn each_action_replaces_in_its_way() {
        assert_eq!(replaced("mask", b"12345678"), b"********");
        assert_eq!(replaced("label", b"12345678"), b"[REDACTED:r]");
        assert_eq!(replaced("audit", b"12345678"), b"12345678");
        assert_eq!(replaced("keep-suffix:4", b"12345678"), b"******78");
        assert_eq!(replaced("keep-suffix:1", b"12345678"), b"*******8");
        assert_eq!(replaced("keep-suffix:4", b"123"), b"***");
    }

    #[test]
    fn pseudonyms_are_stable_and_tell_secrets_apart() {
        // HMAC-SHA256 of "redact pseudonym v1\0" and the secret, its first ten bytes in base32;
        // worked out with Python's hmac and base64.
        assert_eq!(replaced("hash", b"hunter2"), b"[r:icoi6bm3aokdrckw]");
        assert_ne!(replaced("hash", b"hunter2"), replaced("hash", b"hunter3"));
    }

    #[test]
    fn actions_have_one_spelling() {
        for text in [
            "mask",
            "label",
            "hash",
            "keep-suffix:4",
            "deny",
            "drop",
            "audit",
        ] {
            assert_eq!(text.parse::<Action>().unwrap().to_string(), text);
        }
        for text in ["", "Mask", "keep-suffix", "keep-suffix:", "keep-suffix:-1"] {
            text.parse::<Action>().unwrap_err();
        }
    }
}
