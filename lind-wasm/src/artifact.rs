//! `.cwasm` artifacts: native code made ahead of time, trusted only by its tag.
//!
//! ```text
//! offset  size  field
//! 0       8     magic "LINDCWSM"
//! 8       4     version (2), little endian
//! 12      32    HMAC-SHA256, keyed with this user's artifact key, over bytes 0..12 and 44..
//! 44      4     number of data segments, little endian
//! 48      ..    each segment: its length in 4 bytes, little endian, then its bytes
//! ..      ..    what the engine serialised
//! ```
//!
//! Native code can do anything, so the key lies outside every lindfs, readable by its user alone,
//! and the tag is checked before the engine sees a byte.

use anyhow::{Context, bail, ensure};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const MAGIC: &[u8; 8] = b"LINDCWSM";
const VERSION: u32 = 2;
const TAG_AT: usize = 12;
const BODY_AT: usize = TAG_AT + 32;

/// Whether these bytes claim to be an artifact.
pub fn is_artifact(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// This user's key for artifact tags.
pub struct ArtifactKey(Zeroizing<[u8; 32]>);

impl ArtifactKey {
    /// Reads the key, or makes it on the first use.
    ///
    /// `$LIND_WASM_DATA`, else `$XDG_DATA_HOME/lind-wasm`, else `~/.local/share/lind-wasm`, is
    /// the folder that keeps it. `root` is the lindfs that must not contain it.
    ///
    /// # Errors
    /// When no folder is known, the file can't be made, or others could read or change it.
    pub fn load(root: &Path) -> anyhow::Result<Self> {
        let folder = data_folder()?;
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let file = folder.canonicalize()?.join("artifact.key");
        if let Ok(root) = root.canonicalize() {
            ensure!(
                !file.starts_with(&root),
                "{} lies inside the cages' root {}, where programs can read it; set \
                 LIND_WASM_DATA to a folder elsewhere",
                file.display(),
                root.display()
            );
        }
        if !file.exists() {
            create_key(&folder, &file)?;
        }
        let metadata = fs::metadata(&file)?;
        ensure!(
            metadata.mode() & 0o077 == 0 && metadata.uid() == rustix::process::geteuid().as_raw(),
            "{} must belong to you and be closed to others: chmod 600 {0}",
            file.display()
        );
        let bytes = Zeroizing::new(
            fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?,
        );
        let key = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| {
            anyhow::anyhow!(
                "{} is not a key of 32 bytes; remove it and precompile the programs again",
                file.display()
            )
        })?;
        Ok(Self(Zeroizing::new(key)))
    }

    /// A key that is kept elsewhere than in the usual file.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    fn mac(&self, head: &[u8], body: &[u8]) -> Hmac<Sha256> {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(self.0.as_slice())
            .expect("HMAC takes a key of any length");
        mac.update(head);
        mac.update(body);
        mac
    }

    /// Wraps what is behind the tag.
    pub fn seal(&self, body: &[u8]) -> Vec<u8> {
        let mut artifact = Vec::with_capacity(BODY_AT + body.len());
        artifact.extend_from_slice(MAGIC);
        artifact.extend_from_slice(&VERSION.to_le_bytes());
        let tag = self.mac(&artifact, body).finalize().into_bytes();
        artifact.extend_from_slice(&tag);
        artifact.extend_from_slice(body);
        artifact
    }

    /// Checks an artifact and answers what was sealed.
    ///
    /// # Errors
    /// When it is cut short, of another version, or not made with this key.
    pub fn open<'a>(&self, artifact: &'a [u8]) -> anyhow::Result<&'a [u8]> {
        let (Some(head), Some(tag), Some(body)) = (
            artifact.get(..TAG_AT),
            artifact.get(TAG_AT..BODY_AT),
            artifact.get(BODY_AT..),
        ) else {
            bail!("it is cut short; precompile it again");
        };
        ensure!(
            is_artifact(head) && head[MAGIC.len()..] == VERSION.to_le_bytes(),
            "it is of another version of lind-wasm; precompile it again"
        );
        if self.mac(head, body).verify_slice(tag).is_err() {
            bail!(
                "it was not made by your own `lind-wasm --precompile`, or was changed since; \
                 precompile its .wasm again"
            );
        }
        Ok(body)
    }
}

fn data_folder() -> anyhow::Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(folder) = variable("LIND_WASM_DATA") {
        return Ok(folder.into());
    }
    if let Some(folder) = variable("XDG_DATA_HOME") {
        return Ok(Path::new(&folder).join("lind-wasm"));
    }
    let home = variable("HOME").context(
        "no folder for the artifact key: set HOME, or LIND_WASM_DATA to a folder of yours",
    )?;
    Ok(Path::new(&home).join(".local/share/lind-wasm"))
}

/// Makes the key whole or not at all: another run may be doing the same.
fn create_key(folder: &Path, file: &Path) -> anyhow::Result<()> {
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(key.as_mut_slice()).map_err(|e| anyhow::anyhow!("no random bytes: {e}"))?;
    let draft = folder.join(format!("artifact.key.{}", std::process::id()));
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut f| f.write_all(key.as_slice()))
        .with_context(|| format!("cannot write {}", draft.display()))?;
    let linked = fs::hard_link(&draft, file);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("cannot make {}", file.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_and_nothing_else_does() {
        let key = ArtifactKey::from_bytes([7; 32]);
        let artifact = key.seal(b"native code");
        assert_eq!(key.open(&artifact).unwrap(), b"native code");
        assert!(ArtifactKey::from_bytes([8; 32]).open(&artifact).is_err());
        for cut in 0..artifact.len() {
            assert!(key.open(&artifact[..cut]).is_err(), "cut at {cut}");
        }
        for bit in 0..artifact.len() * 8 {
            let mut forged = artifact.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(key.open(&forged).is_err(), "bit {bit}");
        }
    }
}
