//! The file that holds a master key: its 32 raw bytes and nothing else, for its owner alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use getrandom::SysRng;
use sealed::{KEY_LEN, MasterKey};
use zeroize::Zeroizing;

use crate::output::sync_parent;

/// What a key file of this kind is called where its kind is shown.
pub const KIND: &str = "raw 32-byte master key";

/// Permission bits of a new key file.
const OWNER_ONLY: u32 = 0o600;

/// Permission bits that let anyone but the owner at a file.
const OTHERS: u32 = 0o077;

/// Why a key file cannot be used. Each message names the file and the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// There is no such file.
    #[error("{path}: no such key file; make one with `keys gen {path}`", path = .0.display())]
    Missing(PathBuf),
    /// The file exists but cannot be read.
    #[error(
        "{path}: cannot read the key file ({cause}); as its owner, run `chmod 600 {path}`",
        path = .path.display()
    )]
    Unreadable {
        /// The key file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A directory.
    #[error("{path}: a directory, not a key file; name the file inside it", path = .0.display())]
    Directory(PathBuf),
    /// Others than the owner have access.
    #[error(
        "{path}: others than its owner have access to this key (mode {mode:04o}); \
         fix it with `chmod 600 {path}`",
        path = .path.display()
    )]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not exactly 32 bytes.
    #[error(
        "{path}: {length}, but a key is exactly {KEY_LEN} raw bytes; \
         restore it from a copy or make a new one with `keys gen`",
        path = .path.display()
    )]
    WrongLength {
        /// The key file.
        path: PathBuf,
        /// How long it is.
        length: Length,
    },
    /// A new key was to be put where a file already is.
    #[error(
        "{path}: already exists, and a key file is never overwritten; choose another name",
        path = .0.display()
    )]
    Exists(PathBuf),
    /// A new key file cannot be written.
    #[error("{path}: cannot make the key file ({cause})", path = .path.display())]
    Unwritable {
        /// The key file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The system gave no randomness for a new key.
    #[error("{path}: cannot make a key: {cause}", path = .path.display())]
    Randomness {
        /// The key file.
        path: PathBuf,
        /// Why not.
        cause: sealed::Error,
    },
}

/// The length of what should have been a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Shorter, by how much is known.
    Short(usize),
    /// Longer. The rest was not read.
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

/// The key in the contents of a key file.
pub fn parse(contents: &[u8]) -> Result<MasterKey, Length> {
    MasterKey::from_slice(contents).map_err(|_| match contents.len() {
        length @ ..KEY_LEN => Length::Short(length),
        _ => Length::Long,
    })
}

/// Reads a key file. Refuses one that others than its owner have access to.
pub fn read(path: &Path) -> Result<MasterKey, KeyFileError> {
    let unreadable = |cause: io::Error| match cause.kind() {
        io::ErrorKind::NotFound => KeyFileError::Missing(path.to_owned()),
        _ => KeyFileError::Unreadable {
            path: path.to_owned(),
            cause,
        },
    };
    let file = File::open(path).map_err(unreadable)?;
    // Asked of the open file, not the path: what is checked is what is read.
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(KeyFileError::Directory(path.to_owned()));
    }
    // A pipe has no file permissions to speak of: `--key <(...)` is fine.
    let mode = metadata.permissions().mode() & 0o7777;
    if metadata.is_file() && mode & OTHERS != 0 {
        return Err(KeyFileError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }

    // One byte more than a key tells a longer file, however long.
    let mut contents = Zeroizing::new(Vec::with_capacity(KEY_LEN + 1));
    file.take(KEY_LEN as u64 + 1)
        .read_to_end(&mut contents)
        .map_err(unreadable)?;
    parse(&contents).map_err(|length| KeyFileError::WrongLength {
        path: path.to_owned(),
        length,
    })
}

/// Makes a new random key and its file. Never touches a file that is there already.
pub fn generate(path: &Path) -> Result<MasterKey, KeyFileError> {
    let key = MasterKey::generate(&mut SysRng).map_err(|cause| KeyFileError::Randomness {
        path: path.to_owned(),
        cause,
    })?;
    let unwritable = |cause| KeyFileError::Unwritable {
        path: path.to_owned(),
        cause,
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(OWNER_ONLY)
        .open(path)
        .map_err(|cause| match cause.kind() {
            io::ErrorKind::AlreadyExists => KeyFileError::Exists(path.to_owned()),
            _ => unwritable(cause),
        })?;
    // A key that is not safely on disk must not be used: what it sealed would be lost with it.
    let written = file
        .write_all(key.expose_secret())
        .and_then(|()| file.sync_all())
        .and_then(|()| sync_parent(path));
    if let Err(cause) = written {
        // The first error is the one to report; a part of a key is of no use to anyone.
        let _ = fs::remove_file(path);
        return Err(unwritable(cause));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_a_key_exactly_when_32(
            contents in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            match parse(&contents) {
                Ok(key) => prop_assert_eq!(key.expose_secret().as_slice(), contents),
                Err(Length::Short(length)) => {
                    prop_assert!(length == contents.len() && length < KEY_LEN);
                }
                Err(Length::Long) => prop_assert!(contents.len() > KEY_LEN),
            }
        }
    }

    #[test]
    fn what_is_made_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k.bin");
        let made = generate(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(read(&path).unwrap().id(), made.id());
        assert!(matches!(generate(&path), Err(KeyFileError::Exists(_))));
        assert_eq!(read(&path).unwrap().id(), made.id());
    }

    #[test]
    fn two_keys_differ() {
        let dir = tempfile::tempdir().unwrap();
        let a = generate(&dir.path().join("a")).unwrap();
        let b = generate(&dir.path().join("b")).unwrap();
        assert_ne!(a.id(), b.id());
    }
}
