//! The text file that names the key files of a ring.
//!
//! ```text
//! sealed key ring, version 1: one key file a line
//! # The one that seals:
//! 2027.key
//! # Those that only open:
//! 2026.key
//! old keys/2025.key
//! ```
//!
//! Its first line alone is longer than a raw key, so that no ring can be taken for one.
//! `docs/key-files.md` is the normative description.

use sealed::KEY_LEN;

/// The first line of a ring file.
pub const FIRST_LINE: &str = "sealed key ring, version 1: one key file a line";

/// What ring files of all versions begin with.
pub const PREFIX: &str = "sealed key ring, version ";

const _: () = assert!(FIRST_LINE.len() > KEY_LEN);

/// Most key files of one ring.
pub const MAX_KEYS: usize = 256;

/// Most bytes of a ring file.
pub const MAX_LEN: usize = 64 << 10;

/// What a line that is no key file begins with.
const COMMENT: char = '#';

/// The key files that a ring file names, in its order: at least one.
///
/// The names are as they stand in it; where relative, they count from the directory that the ring
/// file is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingFile {
    names: Vec<String>,
}

/// Why a ring file can't be used. Each message is a clause that reads well after a file name and a
/// colon.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RingFileError {
    /// The first line is another one.
    #[error("not a key ring: its first line has to be \"{FIRST_LINE}\"")]
    NotARing,
    /// Longer than any ring.
    #[error("a key ring of more than {MAX_LEN} bytes")]
    TooLong,
    /// Not text.
    #[error("line {0} of the key ring is not UTF-8 text")]
    NotText(usize),
    /// A character that is in no path.
    #[error("line {0} of the key ring has a character that no path has")]
    NoPath(usize),
    /// Nothing named.
    #[error("the key ring names no key file")]
    Empty,
    /// Too much named.
    #[error("the key ring names more than {MAX_KEYS} key files")]
    TooMany,
}

impl RingFile {
    /// Whether contents are those of a ring file, of whatever version.
    pub fn is_one(contents: &[u8]) -> bool {
        contents.starts_with(PREFIX.as_bytes()) && contents.len() != KEY_LEN
    }

    /// Reads the contents of a ring file.
    ///
    /// # Errors
    /// Where they are not those of a ring file, or of one with no key.
    pub fn parse(contents: &[u8]) -> Result<Self, RingFileError> {
        if contents.len() > MAX_LEN {
            return Err(RingFileError::TooLong);
        }
        let mut lines = (1..).zip(contents.split(|&byte| byte == b'\n'));
        let first = lines.next().map_or(&[][..], |(_, line)| line);
        if first.strip_suffix(b"\r").unwrap_or(first) != FIRST_LINE.as_bytes() {
            return Err(RingFileError::NotARing);
        }
        let mut names = Vec::new();
        for (number, line) in lines {
            let line = std::str::from_utf8(line).map_err(|_| RingFileError::NotText(number))?;
            let name = line.trim_matches([' ', '\t', '\r']);
            if name.is_empty() || name.starts_with(COMMENT) {
                continue;
            }
            if name.contains(char::is_control) {
                return Err(RingFileError::NoPath(number));
            }
            if names.len() == MAX_KEYS {
                return Err(RingFileError::TooMany);
            }
            names.push(name.to_owned());
        }
        if names.is_empty() {
            return Err(RingFileError::Empty);
        }
        Ok(Self { names })
    }

    /// The key files: the first seals.
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(rest: &str) -> Result<RingFile, RingFileError> {
        RingFile::parse(format!("{FIRST_LINE}\n{rest}").as_bytes())
    }

    #[test]
    fn lines() {
        let ring = parse("a\n\n  # why\n\told keys/b \r\n./#c\n/d").unwrap();
        assert_eq!(ring.names(), ["a", "old keys/b", "./#c", "/d"]);
    }

    #[test]
    fn each_fault_has_its_error() {
        assert_eq!(RingFile::parse(b""), Err(RingFileError::NotARing));
        assert_eq!(RingFile::parse(b"a\nb\n"), Err(RingFileError::NotARing));
        let other = FIRST_LINE.replace('1', "2");
        assert!(RingFile::is_one(other.as_bytes()));
        assert_eq!(
            RingFile::parse(other.as_bytes()),
            Err(RingFileError::NotARing)
        );
        assert_eq!(parse(""), Err(RingFileError::Empty));
        assert_eq!(parse("# a\n"), Err(RingFileError::Empty));
        assert_eq!(parse("a\n\0\n"), Err(RingFileError::NoPath(3)));
        assert_eq!(parse(&"a\n".repeat(257)), Err(RingFileError::TooMany));
        assert_eq!(parse(&"\n".repeat(MAX_LEN)), Err(RingFileError::TooLong));
        let bytes = [FIRST_LINE.as_bytes(), b"\na\n\xFF"].concat();
        assert_eq!(RingFile::parse(&bytes), Err(RingFileError::NotText(3)));
    }

    proptest! {
        #[test]
        fn any_bytes_parse(rest in prop::collection::vec(any::<u8>(), 0..200)) {
            let contents = [FIRST_LINE.as_bytes(), b"\n", &rest].concat();
            if let Ok(ring) = RingFile::parse(&contents) {
                prop_assert!(!ring.names().is_empty());
                for name in ring.names() {
                    prop_assert!(!name.is_empty() && !name.contains(['\0', '\n']));
                }
            }
        }
    }
}
