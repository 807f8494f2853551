//! What checks of many files have found: for one that was interrupted, to go on; and for the next, to
//! find out files that went back.
//!
//! A text file with a line for each file that was found whole, and an authentication code in it. There
//! are lines of two kinds:
//!
//! - `whole`: the file's [`Fingerprint`] and the id of its key. The check that goes on passes over a file
//!   only if its fingerprint is still that one: the same inode, size, time of modification and, which no
//!   program can set, time of change. So it is as good as the file system's word. These lines are
//!   gone when the check has come to its end: the next one reads everything again.
//! - `age`: salt and counter of the file, and a digest of the path it had. These stay. A file whose
//!   counter is lower than it was has gone back, and so has one in whose place there was another
//!   later. Copies of a file have its salt: each is held against what was at its own path, and a path
//!   where there was none of them against the newest.
//!
//! The code is an HMAC under a key derived from the key that seals, so that nobody else can have
//! files passed over. Lines that don't authenticate, for they were cut short or belong to another
//! key, count for nothing. Who can write to the state can take lines away, or the whole of it.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sealed::{KEY_LEN, KeyId, MasterKey, SALT_LEN};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::output::Output;
use crate::ring::KeyRing;
use crate::stat::Fingerprint;
use crate::verify::Age;

/// The first line of a state file.
const FIRST_LINE: &str = "keys verify, state of checks, version 2\n";

const WHOLE: &str = "whole ";
const AGE: &str = "age ";

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

/// How a file went back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WentBack {
    /// It had more changes.
    #[error(
        "an older version of itself: it has had {now} changes, and had {then} when it was checked \
         before (after a power loss the last of them may be gone, too)"
    )]
    Changes {
        /// How many it has now.
        now: u64,
        /// How many it had.
        then: u64,
    },
    /// Another one was here since.
    #[error("was here before, and another file in its place since: an older one was put back")]
    Replaced,
}

/// The state file of a check, open.
#[derive(Debug)]
pub struct VerifyState {
    path: PathBuf,
    file: File,
    /// The lines that authenticate and tell of whole files, without their codes.
    known: HashSet<String>,
    /// What was known of the ages of files.
    ages: Ages,
    code_key: CodeKey,
}

type Salt = [u8; SALT_LEN];

/// A digest of a path.
type Name = [u8; 32];

/// Ages of files, and which file a path stood for last.
#[derive(Debug, Default)]
struct Ages {
    counters: HashMap<(Salt, Name), u64>,
    newest: HashMap<Salt, u64>,
    last: HashMap<Name, Salt>,
    /// In the order in which they came.
    order: Vec<(Salt, Name)>,
}

impl Ages {
    fn put(&mut self, salt: Salt, counter: u64, name: Name) {
        if self.counters.insert((salt, name), counter).is_none() {
            self.order.push((salt, name));
        }
        let newest = self.newest.entry(salt).or_default();
        *newest = counter.max(*newest);
        self.last.insert(name, salt);
    }

    /// Takes a line that authenticates.
    fn take(&mut self, line: &str) -> Option<()> {
        let mut words = line.split(' ');
        let (salt, counter, name) = (words.next()?, words.next()?, words.next()?);
        self.put(unhex(salt)?, counter.parse().ok()?, unhex(name)?);
        Some(())
    }

    fn check(&self, age: &Age, name: &Name) -> Result<(), WentBack> {
        let here = self.counters.get(&(age.salt, *name));
        let Some(&then) = here.or_else(|| self.newest.get(&age.salt)) else {
            return Ok(());
        };
        if age.counter < then {
            let now = age.counter;
            return Err(WentBack::Changes { now, then });
        }
        match self.last.get(name) {
            Some(last) if here.is_some() && *last != age.salt => Err(WentBack::Replaced),
            _ => Ok(()),
        }
    }
}

fn age_line(salt: &Salt, counter: u64, name: &Name) -> String {
    format!("{AGE}{} {counter} {}", hex(salt), hex(name))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
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
        hex(&mac.chain_update(line).finalize().into_bytes())
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
        let (mut known, mut ages) = (HashSet::new(), Ages::default());
        for (line, _) in String::from_utf8_lossy(&contents)
            .lines()
            .skip(1)
            .filter_map(|line| line.rsplit_once(' '))
            .filter(|(line, code)| code_key.code(line) == *code)
        {
            if line.starts_with(WHOLE) {
                known.insert(line.to_owned());
            } else if let Some(line) = line.strip_prefix(AGE) {
                ages.take(line);
            }
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            known,
            ages,
            code_key,
        })
    }

    /// Whether a file in this state was found whole, under a key that is still in the ring, by the
    /// check that this one goes on with.
    pub fn knows(&self, state: &Fingerprint, ring: &KeyRing) -> bool {
        let mut keys = ring.keys().iter();
        keys.any(|key| self.known.contains(&whole_line(state, key.id())))
    }

    /// Notes that the file of that path is whole; in which state that was, where nobody changed it
    /// meanwhile. One that changed a moment ago is not passed over by who goes on.
    ///
    /// # Errors
    /// Where the state can't be written.
    pub fn note(
        &mut self,
        path: &Path,
        age: &Age,
        state: Option<&Fingerprint>,
    ) -> Result<Result<(), WentBack>, StateError> {
        let name = Sha256::digest(path.as_os_str().as_bytes()).into();
        if let Err(back) = self.ages.check(age, &name) {
            return Ok(Err(back));
        }
        self.ages.put(age.salt, age.counter, name);
        let mut lines = self.line(&age_line(&age.salt, age.counter, &name));
        if let Some(state) = state.filter(|state| state.changed.is_past(COARSEST_CLOCK)) {
            lines += &self.line(&whole_line(state, age.key));
        }
        // One write, so that a kill leaves whole lines.
        self.file
            .write_all(lines.as_bytes())
            .map_err(|cause| StateError::Io {
                path: self.path.clone(),
                cause,
            })?;
        Ok(Ok(()))
    }

    fn line(&self, line: &str) -> String {
        format!("{line} {}\n", self.code_key.code(line))
    }

    /// Ends the check: of the state only the ages of files stay.
    ///
    /// # Errors
    /// Where the file can't be written anew.
    pub fn finish(self) -> Result<(), StateError> {
        let write = || {
            let mut output = Output::to_path(&self.path, true, OWNER_ONLY)?;
            output.write_all(FIRST_LINE.as_bytes())?;
            // Those that are the last of their paths come last.
            let is_last = |(salt, name): &&(Salt, Name)| self.ages.last.get(name) == Some(salt);
            let (last, others): (Vec<_>, Vec<_>) = self.ages.order.iter().partition(is_last);
            for place in others.into_iter().chain(last) {
                if let Some(counter) = self.ages.counters.get(place) {
                    let line = self.line(&age_line(&place.0, *counter, &place.1));
                    output.write_all(line.as_bytes())?;
                }
            }
            output.commit()
        };
        write().map_err(|cause| StateError::Io {
            path: self.path.clone(),
            cause,
        })
    }
}

fn whole_line(state: &Fingerprint, key: KeyId) -> String {
    format!("{WHOLE}{state} {key}")
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

    fn age(salt: u8, counter: u64) -> Age {
        Age {
            key: ring(1).sealing().id(),
            salt: [salt; SALT_LEN],
            counter,
        }
    }

    fn note(state: &mut VerifyState, fingerprint: &Fingerprint, ring: &KeyRing) {
        let age = Age {
            key: ring.sealing().id(),
            ..age(1, 1)
        };
        let noted = state.note(Path::new("f"), &age, Some(fingerprint));
        assert_eq!(noted.unwrap(), Ok(()));
    }

    #[test]
    fn files_that_went_back_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let ring = ring(1);
        let changes = |now, then| Err(WentBack::Changes { now, then });
        // What is found where, of which age; in each step after the end of a check.
        let steps: [(&str, Age, Result<(), WentBack>); 19] = [
            ("a", age(1, 5), Ok(())),
            ("a", age(1, 5), Ok(())),
            ("a", age(1, 9), Ok(())),
            ("a", age(1, 8), changes(8, 9)),
            // Nor under another name.
            ("b", age(1, 8), changes(8, 9)),
            ("a", age(1, 10), Ok(())),
            ("a", age(2, 1), Ok(())),
            ("a", age(1, 10), Err(WentBack::Replaced)),
            ("b", age(1, 10), Ok(())),
            ("b", age(1, 10), Ok(())),
            ("a", age(2, 1), Ok(())),
            // A copy, which stays as it is or goes its own way.
            ("c", age(3, 5), Ok(())),
            ("d", age(3, 5), Ok(())),
            ("c", age(3, 9), Ok(())),
            ("d", age(3, 5), Ok(())),
            ("d", age(3, 6), Ok(())),
            ("c", age(3, 6), changes(6, 9)),
            ("d", age(3, 5), changes(5, 6)),
            ("e", age(3, 6), changes(6, 9)),
        ];
        for (step, (name, age, expected)) in steps.into_iter().enumerate() {
            let mut state = open(&path, &ring);
            let noted = state.note(Path::new(name), &age, None).unwrap();
            assert_eq!(noted, expected, "{step}");
            // Ended, or interrupted.
            if step % 3 == 0 {
                drop(state);
            } else {
                state.finish().unwrap();
            }
        }
        // With another key nothing is known, nor lost.
        let other = super::tests::ring(2);
        let mut state = open(&path, &other);
        assert_eq!(
            state.note(Path::new("a"), &age(2, 0), None).unwrap(),
            Ok(())
        );
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
        note(&mut state, &fingerprint, &ring);
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
        assert!(!open(&path, &ring).knows(&fingerprint, &ring));
    }

    #[test]
    fn lines_cut_short_altered_or_of_another_key_count_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let (ring, fingerprint) = (ring(1), old());
        std::thread::sleep(COARSEST_CLOCK);
        note(&mut open(&path, &ring), &fingerprint, &ring);
        // Without what it says of the age.
        let whole = fs::read_to_string(&path).unwrap();
        let whole: String = whole
            .lines()
            .filter(|line| !line.starts_with(AGE))
            .map(|line| format!("{line}\n"))
            .collect();
        let whole = whole.into_bytes();
        let knows = |contents: &[u8]| {
            fs::write(&path, contents).unwrap();
            open(&path, &ring).knows(&fingerprint, &ring)
        };
        assert!(knows(&whole));
        assert!(knows(&whole[..whole.len() - 1]));
        for len in 0..whole.len() - 1 {
            assert!(!knows(&whole[..len]), "{len}");
            // What is added to it goes to a line of its own.
            note(&mut open(&path, &ring), &fingerprint, &ring);
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
        note(&mut state, &fresh, &ring);
        drop(state);
        assert!(!open(&path, &ring).knows(&fresh, &ring));
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
