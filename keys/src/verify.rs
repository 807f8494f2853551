//! Checking every chunk of a sealed file.

use std::fs::File;
use std::io::{self, Seek};
use std::time::Duration;

use sealed::{Error, KeyId};

use crate::lock::{LockMode, lock};
use crate::ring::KeyRing;
use crate::stat::{Fingerprint, Stat};
use crate::transfer::{self, SealedInput, TransferError};

/// What a file turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Sealed, whole and unaltered.
    Whole {
        /// The key it is sealed with.
        key: KeyId,
    },
    /// The same, but its last change was cut short: it is whole as its journal restores it.
    Restored,
    /// Zero bytes, which stand for an empty file: nothing vouches for it.
    Empty,
    /// Not sealed at all.
    NotSealed,
}

/// What was found out about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What it is.
    pub verdict: Verdict,
    /// The state of the file that this holds for, where it did not change meanwhile.
    pub state: Option<Fingerprint>,
}

/// Why a file does not verify. Each message is a clause that reads well after a file name and a
/// colon.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// It could not be read.
    #[error("cannot read: {0}")]
    Read(#[from] io::Error),
    /// It is damaged, cut short or altered, or its key is not at hand.
    #[error(transparent)]
    Bad(TransferError),
    /// It does not verify while somebody changes it, and that did not end.
    #[error("being changed: it could not be checked")]
    Busy,
}

/// Checks a regular file. It may be changed meanwhile: what does not verify then is read again
/// under the lock that writers take, for which this waits no longer than `wait`.
///
/// # Errors
/// Where it can't be read or does not verify.
pub fn file(
    ring: &KeyRing,
    mut file: &File,
    wait: Duration,
    progress: impl Fn(u64),
) -> Result<Verified, VerifyError> {
    let before = Stat::of(file)?;
    let verdict = match stream(ring, file, progress) {
        // What can come of a change that is just being made.
        Err(VerifyError::Bad(TransferError::Sealed(error)))
            if error.is_of_versions()
                || matches!(
                    error,
                    Error::ChunkCorrupt { .. } | Error::Truncated | Error::HeaderCorrupt
                ) =>
        {
            if !lock(file, LockMode::Shared, wait)? {
                return Err(VerifyError::Busy);
            }
            file.rewind()?;
            stream(ring, file, |_| ())
        }
        verdict => verdict,
    };
    let after = Stat::of(file)?;
    // Moved to another key, which leaves the old file without a name and of no use.
    let is_replaced = before.links > 0 && after.links == 0;
    match verdict {
        Ok(Verdict::NotSealed) | Err(_) if is_replaced => Err(VerifyError::Busy),
        verdict => Ok(Verified {
            verdict: verdict?,
            state: (before.fingerprint == after.fingerprint).then_some(after.fingerprint),
        }),
    }
}

/// Checks what a reader gives.
///
/// # Errors
/// As [`file`].
pub fn stream(
    ring: &KeyRing,
    reader: impl io::Read,
    progress: impl Fn(u64),
) -> Result<Verdict, VerifyError> {
    let input = SealedInput::new(reader)?;
    let key = input.key_id();
    match transfer::open(ring, input, io::sink(), progress) {
        Ok(opened) if opened.read == 0 => Ok(Verdict::Empty),
        Ok(opened) if opened.restored => Ok(Verdict::Restored),
        // What opened has a header.
        Ok(_) => Ok(key.map_or(Verdict::Empty, |key| Verdict::Whole { key })),
        Err(TransferError::Sealed(Error::NotSealed)) => Ok(Verdict::NotSealed),
        Err(TransferError::Read(error)) => Err(VerifyError::Read(error)),
        Err(error) => Err(VerifyError::Bad(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use sealed::{MasterKey, Params};

    use super::*;

    fn ring() -> KeyRing {
        KeyRing::new("k", MasterKey::from_bytes([1; 32]))
    }

    fn sealed(plaintext: &[u8]) -> Vec<u8> {
        let mut out = io::Cursor::new(Vec::new());
        let params = Params::default();
        transfer::seal(ring().sealing(), params, plaintext, &mut out, |_| ()).unwrap();
        out.into_inner()
    }

    #[test]
    fn each_kind_has_its_verdict() {
        let verdict = |bytes: &[u8]| stream(&ring(), bytes, |_| ());
        let key = ring().sealing().id();
        let whole = sealed(&[3; 9000]);
        assert_eq!(verdict(&whole).unwrap(), Verdict::Whole { key });
        assert_eq!(verdict(b"").unwrap(), Verdict::Empty);
        assert_eq!(verdict(b"plain").unwrap(), Verdict::NotSealed);
        assert!(matches!(
            verdict(&whole[..9000]),
            Err(VerifyError::Bad(TransferError::Sealed(_)))
        ));
    }

    #[test]
    fn damage_is_reported_only_when_nobody_is_writing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut bytes = sealed(&[3; 9000]);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let check = |wait| file(&ring(), &File::open(&path).unwrap(), wait, |_| ());
        assert!(matches!(check(Duration::ZERO), Err(VerifyError::Bad(_))));

        let writer = File::options().write(true).open(&path).unwrap();
        assert!(lock(&writer, LockMode::Exclusive, Duration::ZERO).unwrap());
        assert!(matches!(check(Duration::ZERO), Err(VerifyError::Busy)));

        // A writer that completes its change in time.
        std::thread::scope(|scope| {
            let outcome = scope.spawn(|| check(Duration::from_secs(60)));
            std::thread::sleep(Duration::from_millis(50));
            bytes[last] ^= 1;
            fs::write(&path, &bytes).unwrap();
            drop(writer);
            let verified = outcome.join().unwrap().unwrap();
            assert!(matches!(verified.verdict, Verdict::Whole { .. }));
        });
    }
}
