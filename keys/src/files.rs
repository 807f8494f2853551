//! Key files on the disk: for their owner alone, never overwritten, replaced whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::key_file::{self, FormatError, KeyFile, MAX_LEN};
use crate::output::{Output, sync_parent};

/// Permission bits of a new key file.
const OWNER_ONLY: u32 = 0o600;

/// Permission bits that let anyone but the owner at a file.
const OTHERS: u32 = 0o077;

/// Permission bits that let anyone but the owner change a file.
const OTHERS_WRITE: u32 = 0o022;

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
    /// Others than the owner can put other keys into a ring.
    #[error(
        "{path}: others than its owner can change this key ring (mode {mode:04o}); \
         fix it with `chmod go-w {path}`",
        path = .path.display()
    )]
    RingExposed {
        /// The ring file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Its contents are not those of a key file.
    #[error(
        "{path}: {cause}; restore it from a copy or make a new one with `keys gen`",
        path = .path.display()
    )]
    Malformed {
        /// The key file.
        path: PathBuf,
        /// What is wrong.
        cause: FormatError,
    },
    /// A ring names another ring.
    #[error(
        "{path}: a key ring, named in the ring {ring}; a ring names keys only",
        path = .path.display(), ring = .ring.display()
    )]
    Nested {
        /// The ring file that is named.
        path: PathBuf,
        /// The ring file that names it.
        ring: PathBuf,
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
    /// A key file cannot be replaced.
    #[error("{path}: cannot replace the key file ({cause})", path = .path.display())]
    Irreplaceable {
        /// The key file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

/// Reads a key file. Refuses one that others than its owner have access to, and a ring that others
/// can change.
///
/// # Errors
/// As [`KeyFileError`] lists.
pub fn read(path: &Path) -> Result<KeyFile, KeyFileError> {
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
    // One byte more than the longest tells a longer file, however long. The buffer never moves and
    // leaves a copy behind.
    let mut contents = Zeroizing::new(Vec::with_capacity(MAX_LEN + 1));
    file.take(MAX_LEN as u64 + 1)
        .read_to_end(&mut contents)
        .map_err(unreadable)?;
    let read = key_file::parse(&contents);

    let mode = metadata.permissions().mode() & 0o7777;
    let path = || path.to_owned();
    // A pipe has no file permissions to speak of: `--key <(...)` is fine.
    match &read {
        _ if !metadata.is_file() => {}
        Ok(KeyFile::Ring(_)) if mode & OTHERS_WRITE != 0 => {
            return Err(KeyFileError::RingExposed { path: path(), mode });
        }
        Ok(KeyFile::Raw(_) | KeyFile::Wrapped(_)) if mode & OTHERS != 0 => {
            return Err(KeyFileError::Exposed { path: path(), mode });
        }
        _ => {}
    }
    read.map_err(|cause| KeyFileError::Malformed {
        path: path(),
        cause,
    })
}

/// Makes a new key file. Never touches a file that is there already.
///
/// # Errors
/// Where one is there, or it can't be written.
pub fn create(path: &Path, contents: &[u8]) -> Result<(), KeyFileError> {
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
        .write_all(contents)
        .and_then(|()| file.sync_all())
        .and_then(|()| sync_parent(path));
    if let Err(cause) = written {
        // The first error is the one to report; a part of a key is of no use to anyone.
        let _ = fs::remove_file(path);
        return Err(unwritable(cause));
    }
    Ok(())
}

/// Gives a key file other contents: in one step, so that one of the two is there at any moment.
/// The file keeps its owner, and its name a symbolic link if it is one.
///
/// # Errors
/// Where it can't be written; then it is as it was.
pub fn replace(path: &Path, contents: &[u8]) -> Result<(), KeyFileError> {
    let replaced = fs::metadata(path).and_then(|old| {
        let mut output = Output::to_path(path, true, OWNER_ONLY)?;
        output.write_all(contents)?;
        output.give_to_owner_of(&old)?;
        output.commit()
    });
    replaced.map_err(|cause| KeyFileError::Irreplaceable {
        path: path.to_owned(),
        cause,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn key_of(path: &Path) -> [u8; 32] {
        let KeyFile::Raw(key) = read(path).unwrap() else {
            panic!("a raw key");
        };
        *key.expose_secret()
    }

    #[test]
    fn what_is_made_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k.bin");
        create(&path, &[1; 32]).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(key_of(&path), [1; 32]);
        assert!(matches!(
            create(&path, &[2; 32]),
            Err(KeyFileError::Exists(_))
        ));
        assert_eq!(key_of(&path), [1; 32]);
    }

    #[test]
    fn what_is_replaced_is_another_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k.bin");
        create(&path, &[1; 32]).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("k.bin", &link).unwrap();
        let before = fs::metadata(&path).unwrap();
        replace(&link, &[2; 32]).unwrap();
        let after = fs::metadata(&path).unwrap();
        assert_ne!(before.ino(), after.ino());
        assert_eq!(after.permissions().mode() & 0o777, 0o600);
        assert!(link.is_symlink());
        assert_eq!(key_of(&link), [2; 32]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        assert!(matches!(
            replace(&dir.path().join("none"), &[2; 32]),
            Err(KeyFileError::Irreplaceable { .. })
        ));
    }

    #[test]
    fn a_ring_may_be_read_by_all_but_changed_by_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ring");
        let contents = format!("{}\nk.bin\n", crate::ring_file::FIRST_LINE);
        create(&path, contents.as_bytes()).unwrap();
        let set_mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        set_mode(0o644);
        assert!(matches!(read(&path), Ok(KeyFile::Ring(_))));
        set_mode(0o664);
        assert!(matches!(
            read(&path),
            Err(KeyFileError::RingExposed { mode: 0o664, .. })
        ));
    }
}
