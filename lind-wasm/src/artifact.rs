//! `.cwasm` artifacts: native code made ahead of time, trusted only by its tag.
//!
//! ```text
//! offset  size  field
//! 0       8     magic "LINDCWSM"
//! 8       4     version (4), little endian
//! 12      32    tag: BLAKE3, keyed with this user's artifact key, over bytes 0..12 and 44..92
//! 44      8     bytes of code, little endian
//! 52      8     bytes of what follows the code, little endian
//! 60      32    BLAKE3 of bytes 92..
//! 92      ..    what the engine serialised: the code
//! ..      4     number of data segments, little endian
//! ..      ..    each segment: its length in 4 bytes, little endian, then its bytes
//! ```
//!
//! Native code can do anything, so the key lies outside every lindfs, readable by its user alone,
//! and the tag is checked before the engine sees a byte. The file lies where programs may write, so
//! it is read once, into memory that nobody can change any more; the engine maps that instead of
//! copying it again. How much is read is known from what the tag covers, which is checked first: a
//! large file that somebody only calls an artifact takes no memory.

use anyhow::{Context, ensure};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::process::{Resource, getrlimit};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// What an artifact begins with.
pub const MAGIC: &[u8; 8] = b"LINDCWSM";
const VERSION: u32 = 4;
const TAG_AT: usize = 12;
const LENGTHS_AT: usize = TAG_AT + 32;
const HASH_AT: usize = LENGTHS_AT + 16;
const HEAD_LEN: usize = HASH_AT + 32;
/// Bytes that are read, hashed and written at a time: enough for all processors to hash.
const PIECE: usize = 1 << 20;

/// Code that nobody can change any more.
#[derive(Debug)]
pub enum Code {
    /// In a file without a name, to be mapped.
    Sealed(File),
    /// In memory, where `ulimit -f` or the number of descriptors allows no such file.
    Copied(Vec<u8>),
}

impl Code {
    fn new(len: u64) -> Self {
        let limit = getrlimit(Resource::Fsize).current;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        match rustix::fs::memfd_create("code", flags) {
            Ok(file) if limit.is_none_or(|limit| len <= limit) => Self::Sealed(file.into()),
            _ => Self::Copied(Vec::new()),
        }
    }

    fn add(&mut self, piece: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Sealed(file) => file.write_all(piece),
            Self::Copied(bytes) => bytes.write_all(piece),
        }
    }

    fn seal(self) -> anyhow::Result<Self> {
        if let Self::Sealed(file) = &self {
            let all = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
            rustix::fs::fcntl_add_seals(file, all)?;
        }
        Ok(self)
    }
}

/// An artifact whose tag was right.
#[derive(Debug)]
pub struct Opened {
    /// The code.
    pub code: Code,
    /// What follows it.
    pub rest: Vec<u8>,
}

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

    /// The tag of an artifact that begins so.
    fn tag(&self, head: &[u8; HEAD_LEN]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&head[..TAG_AT]);
        hasher.update(&head[LENGTHS_AT..]);
        hasher.finalize()
    }

    /// An artifact of code and what goes with it.
    pub fn seal(&self, code: &[u8], rest: &[u8]) -> Vec<u8> {
        let mut head = [0; HEAD_LEN];
        head[..MAGIC.len()].copy_from_slice(MAGIC);
        head[MAGIC.len()..TAG_AT].copy_from_slice(&VERSION.to_le_bytes());
        let lengths = [code, rest].map(|part| (part.len() as u64).to_le_bytes());
        head[LENGTHS_AT..HASH_AT].copy_from_slice(lengths.as_flattened());
        let mut hasher = blake3::Hasher::new();
        hasher.update_rayon(code).update_rayon(rest);
        head[HASH_AT..].copy_from_slice(hasher.finalize().as_bytes());
        let tag = self.tag(&head);
        head[TAG_AT..LENGTHS_AT].copy_from_slice(tag.as_bytes());
        [&head, code, rest].concat()
    }

    /// Reads an artifact and checks it.
    ///
    /// # Errors
    /// When it can't be read, is cut short, of another version, or not made with this key.
    pub fn open(&self, mut artifact: impl Read) -> anyhow::Result<Opened> {
        const SHORT: &str = "it is cut short; precompile it again";
        const CHANGED: &str = "it was not made by your own `lind-wasm --precompile`, or was changed \
                               since; precompile its .wasm again";
        let mut head = [0; HEAD_LEN];
        artifact.read_exact(&mut head).context(SHORT)?;
        ensure!(
            is_artifact(&head) && head[MAGIC.len()..TAG_AT] == VERSION.to_le_bytes(),
            "it is of another version of lind-wasm; precompile it again"
        );
        let field = |at: usize| {
            let mut field = [0; 32];
            field.copy_from_slice(&head[at..at + 32]);
            blake3::Hash::from_bytes(field)
        };
        // Hashes are compared in constant time.
        ensure!(self.tag(&head) == field(TAG_AT), CHANGED);
        let length = |at: usize| {
            let mut length = [0; 8];
            length.copy_from_slice(&head[at..at + 8]);
            u64::from_le_bytes(length)
        };

        let mut hasher = blake3::Hasher::new();
        let mut left = length(LENGTHS_AT);
        let mut code = Code::new(left);
        let mut piece = vec![0; PIECE.min(usize::try_from(left).unwrap_or(PIECE))];
        while left > 0 {
            let want = piece.len().min(usize::try_from(left).unwrap_or(PIECE));
            let piece = &mut piece[..want];
            artifact.read_exact(piece).context(SHORT)?;
            hasher.update_rayon(piece);
            code.add(piece)?;
            left -= want as u64;
        }
        let mut rest = vec![0; usize::try_from(length(LENGTHS_AT + 8))?];
        artifact.read_exact(&mut rest).context(SHORT)?;
        hasher.update_rayon(&rest);
        let is_whole = artifact.read(&mut [0])? == 0;
        ensure!(is_whole && hasher.finalize() == field(HASH_AT), CHANGED);
        Ok(Opened {
            code: code.seal()?,
            rest,
        })
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
    use std::io::Seek;

    fn read(code: &Code) -> Vec<u8> {
        let Code::Sealed(file) = code else {
            panic!("it is a copy");
        };
        let (mut file, mut bytes) = (file, Vec::new());
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_was_sealed_opens_and_nothing_else_does() {
        let key = ArtifactKey::from_bytes([7; 32]);
        let artifact = key.seal(b"native code", b"data");
        let opened = key.open(&artifact[..]).unwrap();
        assert_eq!(opened.rest, b"data");
        assert_eq!(read(&opened.code), b"native code");
        let Code::Sealed(mut file) = opened.code else {
            panic!("it is a copy");
        };
        file.write_all(b"more").unwrap_err();
        file.set_len(3).unwrap_err();

        let other = ArtifactKey::from_bytes([8; 32]);
        assert!(other.open(&artifact[..]).is_err());
        for cut in 0..artifact.len() {
            assert!(key.open(&artifact[..cut]).is_err(), "cut at {cut}");
        }
        assert!(key.open(&[&artifact[..], b"x"].concat()[..]).is_err());
        // What is none ends before anything is read of what never ends.
        let fake = [&artifact[..LENGTHS_AT], &[0xff; HEAD_LEN - LENGTHS_AT]].concat();
        assert!(key.open(fake.chain(std::io::repeat(0))).is_err());
        for bit in 0..artifact.len() * 8 {
            let mut forged = artifact.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(key.open(&forged[..]).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn code_of_several_pieces_is_one() {
        let key = ArtifactKey::from_bytes([7; 32]);
        let code: Vec<u8> = (0..2 * PIECE + 5)
            .map(|at| ((at * 31) >> 3) as u8)
            .collect();
        let opened = key.open(&key.seal(&code, b"")[..]).unwrap();
        assert_eq!(read(&opened.code), code);
    }
}
