//! What a check of many files has done so far, so that it can go on after it was interrupted.
//!
//! A text file with a line for each file that was found whole: its [`Fingerprint`], the id of its
//! key, and an authentication code. A file is passed over only if its fingerprint is still that
//! one: the same inode, size, time of modification and, which no program can set, time of change.
//! So the state is as good as the file system's word. It is for a check that was interrupted, and
//! is gone when the check has come to its end: the next one reads everything again.
//!
//! The code is an HMAC under a key derived from the key that seals, so that nobody else can have
//! files passed over. Lines that don't authenticate, for they were cut short or belong to another
//! key, count for nothing.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sealed::{KEY_LEN, KeyId, MasterKey};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::ring::KeyRing;
use crate::stat::Fingerprint;

/// The first line of a state file.
const FIRST_LINE: &str = "keys verify, state of an unfinished check, version 1\n";

const LABEL: &[u8] = b"keys verify state";

/// A file that changed later than this before it was checked might change once more without a
/// trace, for file systems have clocks as coarse as this.
const COARSEST_CLOCK: Duration = Duration::from_secs(2);

/// Permission bits of a state file: it tells which files there are.
const OWNER_ONLY: u32 = 0o600;

/// Why a state file can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// It can't be read or written.
    #[error("{path}: cannot keep the state here: {cause}", path = .path.display())]
    Io {
        /// The state file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// There is another kind of file, which is not touched.
    #[error("{path}: not the state of a check, and is left alone", path = .0.display())]
    Foreign(PathBuf),
    /// Another check is at it.
    #[error("{path}: in use by another check", path = .0.display())]
    InUse(PathBuf),
}

/// The state file of a check, open.
#[derive(Debug)]
pub struct VerifyState {
    path: PathBuf,
    file: File,
    /// The lines that authenticate, without their codes.
    known: HashSet<String>,
    code_key: CodeKey,
}

/// What the codes are made with.
struct CodeKey(Zeroizing<[u8; KEY_LEN]>);

impl std::fmt::Debug for CodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CodeKey").finish_non_exhaustive()
    }
}

impl CodeKey {
    fn new(master: &MasterKey) -> Self {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        Hkdf::<Sha256>::new(None, master.expose_secret())
            .expand(LABEL, key.as_mut_slice())
            .expect("HKDF-SHA256 gives up to 8160 bytes");
        Self(key)
    }

    /// The code of a line, in hexadecimal.
    fn code(&self, line: &str) -> String {
        let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(self.0.as_slice())
            .expect("HMAC takes a key of any length");
        let code = mac.chain_update(line).finalize().into_bytes();
        code.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl VerifyState {
    /// Opens a state file, or begins one, for a check with the ring of that sealing key.
    ///
    /// # Errors
    /// Where it can't be used; a file of another kind is not touched.
    pub fn open(path: &Path, master: &MasterKey) -> Result<Self, StateError> {
        let failed = |cause| StateError::Io {
            path: path.to_owned(),
            cause,
        };
        let mut file = File::options()
            .read(true)
            .append(true)
            .create(true)
            .mode(OWNER_ONLY)
            .open(path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(StateError::InUse(path.to_owned())),
            Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
        let mut contents = Vec::new();
        file.read_to_end(&mut contents).map_err(failed)?;
        // A state whose first line was cut short has no other.
        if FIRST_LINE.as_bytes().starts_with(&contents) {
            file.write_all(&FIRST_LINE.as_bytes()[contents.len()..])
                .map_err(failed)?;
        } else if !contents.starts_with(FIRST_LINE.as_bytes()) {
            return Err(StateError::Foreign(path.to_owned()));
        } else if !contents.ends_with(b"\n") {
            file.write_all(b"\n").map_err(failed)?;
        }
        let code_key = CodeKey::new(master);
        let known = String::from_utf8_lossy(&contents)
            .lines()
            .skip(1)
            .filter_map(|line| line.rsplit_once(' '))
            .filter(|(line, code)| code_key.code(line) == *code)
            .map(|(line, _)| line.to_owned())
            .collect();
        Ok(Self {
            path: path.to_owned(),
            file,
            known,
            code_key,
        })
    }

    /// Whether a file in this state was found whole, under a key that is still in the ring.
    pub fn knows(&self, state: &Fingerprint, ring: &KeyRing) -> bool {
        let mut keys = ring.keys().iter();
        keys.any(|key| self.known.contains(&line(state, key.id())))
    }

    /// Notes that a file in this state is whole under that key; but not one that changed a moment
    /// ago.
    ///
    /// # Errors
    /// Where the state can't be written.
    pub fn note(&mut self, state: &Fingerprint, key: KeyId) -> Result<(), StateError> {
        if !state.changed.is_past(COARSEST_CLOCK) {
            return Ok(());
        }
        let line = line(state, key);
        let code = self.code_key.code(&line);
        // One write, so that a kill leaves whole lines.
        self.file
            .write_all(format!("{line} {code}\n").as_bytes())
            .map_err(|cause| StateError::Io {
                path: self.path.clone(),
                cause,
            })
    }

    /// Ends the check: the state is of no use any more.
    ///
    /// # Errors
    /// Where the file can't be removed.
    pub fn finish(self) -> Result<(), StateError> {
        fs::remove_file(&self.path).map_err(|cause| StateError::Io {
            path: self.path,
            cause,
        })
    }
}

fn line(state: &Fingerprint, key: KeyId) -> String {
    format!("{state} {key}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stat::{Inode, Stat};

    fn ring(byte: u8) -> KeyRing {
        KeyRing::new("k", MasterKey::from_bytes([byte; 32]))
    }

    fn open(path: &Path, ring: &KeyRing) -> VerifyState {
        VerifyState::open(path, ring.sealing()).unwrap()
    }

    /// Of a file that changed long ago.
    fn old() -> Fingerprint {
        Stat::of(File::open("/proc/self/exe").unwrap())
            .unwrap()
            .fingerprint
    }

    #[test]
    fn what_is_noted_is_known_to_the_next_and_gone_in_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let (ring, fingerprint) = (ring(1), old());
        std::thread::sleep(COARSEST_CLOCK);
        let mut state = open(&path, &ring);
        assert!(!state.knows(&fingerprint, &ring));
        state.note(&fingerprint, ring.sealing().id()).unwrap();
        assert!(matches!(
            VerifyState::open(&path, ring.sealing()),
            Err(StateError::InUse(_))
        ));
        drop(state);

        let state = open(&path, &ring);
        assert!(state.knows(&fingerprint, &ring));
        let grown = Fingerprint {
            size: fingerprint.size + 1,
            ..fingerprint
        };
        let other = Fingerprint {
            inode: Inode {
                number: fingerprint.inode.number + 1,
                ..fingerprint.inode
            },
            ..fingerprint
        };
        let touched = Fingerprint {
            changed: Stat::of(File::open(&path).unwrap())
                .unwrap()
                .fingerprint
                .changed,
            ..fingerprint
        };
        for changed in [grown, other, touched] {
            assert!(!state.knows(&changed, &ring));
        }
        // Nor with a ring that the file's key is not in any more.
        assert!(!state.knows(&fingerprint, &super::tests::ring(2)));
        state.finish().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn lines_cut_short_altered_or_of_another_key_count_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let (ring, fingerprint) = (ring(1), old());
        std::thread::sleep(COARSEST_CLOCK);
        open(&path, &ring)
            .note(&fingerprint, ring.sealing().id())
            .unwrap();
        let whole = fs::read(&path).unwrap();
        let knows = |contents: &[u8]| {
            fs::write(&path, contents).unwrap();
            open(&path, &ring).knows(&fingerprint, &ring)
        };
        assert!(knows(&whole));
        assert!(knows(&whole[..whole.len() - 1]));
        for len in 0..whole.len() - 1 {
            assert!(!knows(&whole[..len]), "{len}");
            // What is added to it goes to a line of its own.
            let mut state = open(&path, &ring);
            state.note(&fingerprint, ring.sealing().id()).unwrap();
            drop(state);
            assert!(open(&path, &ring).knows(&fingerprint, &ring), "{len}");
        }
        for at in FIRST_LINE.len()..whole.len() - 1 {
            let mut altered = whole.clone();
            altered[at] ^= 1;
            assert!(!knows(&altered), "{at}");
        }
        fs::write(&path, &whole).unwrap();
        let mut other = super::tests::ring(2);
        other.add("k", ring.sealing().clone());
        assert!(!open(&path, &other).knows(&fingerprint, &other));
    }

    #[test]
    fn a_file_that_just_changed_is_not_noted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let ring = ring(1);
        let mut state = open(&path, &ring);
        let fresh = Stat::of(&state.file).unwrap().fingerprint;
        state.note(&fresh, ring.sealing().id()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), FIRST_LINE.as_bytes());
    }

    #[test]
    fn another_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        fs::write(&path, b"precious").unwrap();
        assert!(matches!(
            VerifyState::open(&path, ring(1).sealing()),
            Err(StateError::Foreign(_))
        ));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}
