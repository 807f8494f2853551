//! Checking every chunk of a sealed file.

use std::fs::File;
use std::io;
use std::time::Duration;

use sealed::{Error, KeyId, SALT_LEN};

use crate::lock::{LockMode, lock};
use crate::ring::KeyRing;
use crate::stat::{Fingerprint, Stat};
use crate::transfer::{Nowhere, SealedFile, TransferError, read_all};

/// What a file turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Sealed, whole and unaltered.
    Whole(Age),
    /// Zero bytes, or zeros for a head, which stand for an empty file: nothing vouches for it.
    Empty,
    /// Not sealed at all.
    NotSealed,
}

/// Which file it is, and how old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age {
    /// The key it is sealed with.
    pub key: KeyId,
    /// What no other file has.
    pub salt: [u8; SALT_LEN],
    /// How many changes there were in its life.
    pub counter: u64,
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
    file: &File,
    wait: Duration,
    progress: impl Fn(u64),
) -> Result<Verified, VerifyError> {
    let before = Stat::of(file)?;
    let verdict = match once(ring, file, progress) {
        Ok((verdict, true)) => Ok(verdict),
        Ok((_, false)) | Err(VerifyError::Bad(TransferError::Sealed(_))) => {
            if !lock(file, LockMode::Shared, wait)? {
                return Err(VerifyError::Busy);
            }
            once(ring, file, |_| ()).map(|(verdict, _)| verdict)
        }
        Err(error) => Err(error),
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

/// Checks a file as it is. Answers also whether nobody seems to be changing it.
fn once(
    ring: &KeyRing,
    file: &File,
    progress: impl Fn(u64),
) -> Result<(Verdict, bool), VerifyError> {
    let sealed = SealedFile::new(file)?;
    let (volume, is_certain) = match sealed.look(ring) {
        Err(TransferError::Sealed(Error::NotSealed)) => return Ok((Verdict::NotSealed, true)),
        Err(TransferError::Read(error)) => return Err(VerifyError::Read(error)),
        looked => looked.map_err(VerifyError::Bad)?,
    };
    let Some(mut volume) = volume else {
        return Ok((Verdict::Empty, is_certain));
    };
    match read_all(&mut volume, sealed.disk(), &mut Nowhere, progress) {
        Err(TransferError::Read(error)) => return Err(VerifyError::Read(error)),
        read => read.map_err(VerifyError::Bad)?,
    }
    let header = volume.cipher().header();
    let age = Age {
        key: header.key_id(),
        salt: *header.salt(),
        counter: volume.counter(),
    };
    Ok((Verdict::Whole(age), is_certain))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use sealed::{MasterKey, Params};

    use super::*;
    use crate::transfer;

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
        let verdict = |bytes: &[u8]| {
            let file = transfer::spool(bytes).unwrap();
            super::file(&ring(), &file, Duration::ZERO, |_| ()).map(|verified| verified.verdict)
        };
        let key = ring().sealing().id();
        let whole = sealed(&[3; 9000]);
        let Ok(Verdict::Whole(age)) = verdict(&whole) else {
            panic!("is whole");
        };
        assert_eq!((age.key, age.counter), (key, 1));
        assert_eq!(age.salt, whole[32..64]);
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
