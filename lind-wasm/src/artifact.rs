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
//! it is read once, into memory that nobody can change any more, or into a file that is kept beside
//! the key ([`crate::kept`]); the engine maps that instead of copying it again. How much is read is
//! known from what the tag covers, which is checked first: a large file that somebody only calls an
//! artifact takes no memory.

use crate::kept::{self, Kept};
use crate::mapping::Mapping;
use anyhow::{Context, ensure};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::process::{Resource, getrlimit};
use std::fs::{self, File};
use std::io::{Cursor, Read, Seek, SeekFrom, Write};
use std::ops::Deref;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
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
/// Where what follows the code lies in memory is a multiple of this, so that it can be mapped.
const PAGE: u64 = 4096;

const SHORT: &str = "it is cut short; precompile it again";
const CHANGED: &str = "it was not made by your own `lind-wasm --precompile`, or was changed since; \
                       precompile its .wasm again";

/// Code that nobody can change any more.
#[derive(Debug)]
pub enum Code {
    /// What a file begins with, to be mapped.
    File(File),
    /// In memory, where `ulimit -f` or the number of descriptors allows no such file.
    Copied(Vec<u8>),
}

/// What goes with the code.
#[derive(Debug)]
pub enum Rest {
    /// In the same file.
    Mapped(Mapping),
    /// In memory.
    Copied(Vec<u8>),
}

impl Deref for Rest {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(bytes) => bytes,
            Self::Copied(bytes) => bytes,
        }
    }
}

impl Code {
    fn new(len: u64) -> Self {
        let limit = getrlimit(Resource::Fsize).current;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        match rustix::fs::memfd_create("code", flags) {
            Ok(file) if limit.is_none_or(|limit| len <= limit) => Self::File(file.into()),
            _ => Self::Copied(Vec::new()),
        }
    }

    fn seal(self) -> anyhow::Result<Self> {
        if let Self::File(file) = &self {
            let all = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
            rustix::fs::fcntl_add_seals(file, all)?;
        }
        Ok(self)
    }
}

impl Write for Code {
    fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::File(file) => file.write(piece),
            Self::Copied(bytes) => bytes.write(piece),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// An artifact whose tag was right.
#[derive(Debug)]
pub struct Opened {
    /// The code.
    pub code: Code,
    /// What follows it.
    pub rest: Rest,
    /// The name by which it is kept, where it is.
    pub kept: Option<String>,
}

/// The beginning of an artifact.
struct Head([u8; HEAD_LEN]);

impl Head {
    fn length(&self, at: usize) -> u64 {
        let mut length = [0; 8];
        length.copy_from_slice(&self.0[at..at + 8]);
        u64::from_le_bytes(length)
    }

    /// Bytes of code.
    fn code(&self) -> u64 {
        self.length(LENGTHS_AT)
    }

    /// Bytes of what follows it.
    fn rest(&self) -> u64 {
        self.length(LENGTHS_AT + 8)
    }

    fn field(&self, at: usize) -> blake3::Hash {
        let mut field = [0; 32];
        field.copy_from_slice(&self.0[at..at + 32]);
        blake3::Hash::from_bytes(field)
    }

    /// Where what follows the code is put in memory.
    fn rest_at(&self) -> u64 {
        self.code().next_multiple_of(PAGE)
    }

    /// Bytes of what is put in memory.
    fn room(&self) -> u64 {
        self.rest_at() + self.rest()
    }

    /// The code and what follows it, of what [`Head::copy`] has written.
    ///
    /// # Safety
    /// Nobody changes a file that it was written to.
    unsafe fn parts(&self, code: Code) -> anyhow::Result<(Code, Rest)> {
        let (at, len) = (self.rest_at(), usize::try_from(self.rest())?);
        Ok(match code {
            Code::File(file) if len > 0 => {
                // SAFETY: as the caller says; and that many bytes were written to it.
                let rest = unsafe { Mapping::new(&file, at, len) }?;
                (Code::File(file), Rest::Mapped(rest))
            }
            Code::File(_) => (code, Rest::Copied(Vec::new())),
            Code::Copied(mut bytes) => {
                let rest = bytes.split_off(usize::try_from(at)?);
                bytes.truncate(usize::try_from(self.code())?);
                (Code::Copied(bytes), Rest::Copied(rest))
            }
        })
    }

    /// Copies what follows the head in an artifact, and checks it.
    fn copy(&self, artifact: &mut (impl Read + Seek), to: &mut impl Write) -> Result<(), Failed> {
        let reading = |error| Failed::Reading(anyhow::Error::from(error).context(SHORT));
        let place = SeekFrom::Start(HEAD_LEN as u64);
        artifact.seek(place).map_err(reading)?;
        let mut hasher = blake3::Hasher::new();
        let most = self.code().max(self.rest());
        let mut piece = vec![0; PIECE.min(usize::try_from(most).unwrap_or(PIECE))];
        let gap = self.rest_at() - self.code();
        for (len, gap) in [(self.code(), gap), (self.rest(), 0)] {
            let mut left = len;
            while left > 0 {
                let want = piece.len().min(usize::try_from(left).unwrap_or(PIECE));
                let piece = &mut piece[..want];
                artifact.read_exact(piece).map_err(reading)?;
                hasher.update_rayon(piece);
                to.write_all(piece).map_err(Failed::Writing)?;
                left -= want as u64;
            }
            to.write_all(&[0; PAGE as usize][..gap as usize])
                .map_err(Failed::Writing)?;
        }
        if hasher.finalize() == self.field(HASH_AT) {
            Ok(())
        } else {
            Err(Failed::Reading(anyhow::anyhow!(CHANGED)))
        }
    }

    /// What is kept of an artifact, from now on if it was not. `None` where it can't be.
    fn kept(
        &self,
        artifact: &mut (impl Read + Seek),
        kept: &Kept,
        name: &str,
    ) -> anyhow::Result<Option<File>> {
        let found = kept.find(name, self.room());
        if found.is_some() {
            return Ok(found);
        }
        let Some(mut draft) = kept.draft(self.room()) else {
            return Ok(None);
        };
        match self.copy(artifact, &mut draft.file) {
            Ok(()) => Ok(Some(kept.keep(draft, name))),
            Err(Failed::Reading(why)) => Err(why),
            // Memory may have the room that the disk lacks.
            Err(Failed::Writing(_)) => Ok(None),
        }
    }

    /// What an artifact holds, and whether that is kept.
    fn held(
        &self,
        artifact: &mut (impl Read + Seek),
        kept: Option<&Kept>,
        name: &str,
    ) -> anyhow::Result<(Code, bool)> {
        if let Some(kept) = kept
            && let Some(file) = self.kept(artifact, kept, name)?
        {
            return Ok((Code::File(file), true));
        }
        let mut code = Code::new(self.room());
        match self.copy(artifact, &mut code) {
            Ok(()) => Ok((code.seal()?, false)),
            Err(Failed::Reading(why)) => Err(why),
            Err(Failed::Writing(why)) => Err(why.into()),
        }
    }
}

/// Why an artifact was not copied.
enum Failed {
    /// It is not what it should be.
    Reading(anyhow::Error),
    /// There is no room for it.
    Writing(std::io::Error),
}

/// Whether these bytes claim to be an artifact.
pub fn is_artifact(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// This user's key for artifact tags, and where what they hold is kept.
pub struct ArtifactKey {
    bytes: Zeroizing<[u8; 32]>,
    kept: Option<Kept>,
}

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
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let folder = folder.canonicalize()?;
        let file = folder.join("artifact.key");
        let code = folder.join(kept::FOLDER);
        if let Ok(root) = root.canonicalize() {
            ensure!(
                !folder.starts_with(&root) && !root.starts_with(&code),
                "programs in the cages' root {} could read the artifact key, or change what is \
                 kept beside it, in {}; set LIND_WASM_DATA to a folder elsewhere",
                root.display(),
                folder.display()
            );
        }
        let owner = fs::metadata(&folder)?;
        let is_known = [rustix::process::geteuid().as_raw(), 0].contains(&owner.uid());
        ensure!(
            is_known && owner.mode() & 0o022 == 0,
            "{} must belong to you and be writable by nobody else: chmod go-w {0}",
            folder.display()
        );
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
        Ok(Self {
            bytes: Zeroizing::new(key),
            kept: Some(Kept::beside_key(folder)),
        })
    }

    /// A key that lies elsewhere than in the usual file; with it nothing is kept.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self {
            bytes: Zeroizing::new(bytes),
            kept: None,
        }
    }

    /// The tag of an artifact that begins so.
    fn tag(&self, head: &[u8; HEAD_LEN]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.bytes);
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

    /// Keeps what an artifact holds that was just made, where it is large: nobody waits for it to
    /// start now.
    pub fn keep(&self, artifact: &[u8]) {
        if let (Some(kept), Some(&head)) = (&self.kept, artifact.first_chunk()) {
            let head = Head(head);
            let name = head.field(TAG_AT).to_hex();
            // Where it can't be kept it runs all the same.
            let _ = head.kept(&mut Cursor::new(artifact), kept, &name);
        }
    }

    /// Reads an artifact and checks it; or its head alone, where what it holds is kept.
    ///
    /// # Errors
    /// When it can't be read, is of another length, of another version, or not made with this key.
    pub fn open(&self, artifact: impl Read + Seek) -> anyhow::Result<Opened> {
        self.open_with(artifact, self.kept.as_ref())
    }

    /// As [`ArtifactKey::open`], of one of which what is kept is of no use, and goes.
    ///
    /// # Errors
    /// As [`ArtifactKey::open`].
    pub fn open_anew(&self, artifact: impl Read + Seek, kept: &str) -> anyhow::Result<Opened> {
        if let Some(folder) = &self.kept {
            folder.forget(kept);
        }
        self.open_with(artifact, None)
    }

    fn open_with(
        &self,
        mut artifact: impl Read + Seek,
        kept: Option<&Kept>,
    ) -> anyhow::Result<Opened> {
        let mut head = Head([0; HEAD_LEN]);
        artifact.rewind()?;
        artifact.read_exact(&mut head.0).context(SHORT)?;
        ensure!(
            is_artifact(&head.0) && head.0[MAGIC.len()..TAG_AT] == VERSION.to_le_bytes(),
            "it is of another version of lind-wasm; precompile it again"
        );
        // Hashes are compared in constant time.
        ensure!(self.tag(&head.0) == head.field(TAG_AT), CHANGED);
        // From here on its lengths are known to be true.
        let len = artifact.seek(SeekFrom::End(0))?;
        let whole = HEAD_LEN as u64 + head.code() + head.rest();
        ensure!(len >= whole, SHORT);
        ensure!(len == whole, CHANGED);
        let name = head.field(TAG_AT).to_hex();
        let (code, is_kept) = head.held(&mut artifact, kept, &name)?;
        // SAFETY: it is a file that is sealed, or kept where programs can't reach it.
        let (code, rest) = unsafe { head.parts(code) }?;
        Ok(Opened {
            code,
            rest,
            kept: is_kept.then(|| name.to_string()),
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

    fn read(code: &Code, len: usize) -> Vec<u8> {
        let Code::File(file) = code else {
            panic!("it is a copy");
        };
        let (mut file, mut bytes) = (file, Vec::new());
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        bytes.truncate(len);
        bytes
    }

    #[test]
    fn what_was_sealed_opens_and_nothing_else_does() {
        let key = ArtifactKey::from_bytes([7; 32]);
        let artifact = key.seal(b"native code", b"data");
        let opens = |key: &ArtifactKey, bytes: &[u8]| key.open(Cursor::new(bytes)).is_ok();
        let opened = key.open(Cursor::new(&artifact)).unwrap();
        assert_eq!(&*opened.rest, b"data");
        assert_eq!(read(&opened.code, 11), b"native code");
        let Code::File(mut file) = opened.code else {
            panic!("it is a copy");
        };
        file.write_all(b"more").unwrap_err();
        file.set_len(3).unwrap_err();

        assert!(!opens(&ArtifactKey::from_bytes([8; 32]), &artifact));
        for cut in 0..artifact.len() {
            assert!(!opens(&key, &artifact[..cut]), "cut at {cut}");
        }
        assert!(!opens(&key, &[&artifact[..], b"x"].concat()));
        for bit in 0..artifact.len() * 8 {
            let mut forged = artifact.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(!opens(&key, &forged), "bit {bit}");
        }
    }

    /// What never ends, and may not be read far.
    struct Endless {
        head: [u8; HEAD_LEN],
        at: u64,
    }

    impl Read for Endless {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let place = (self.at as usize).min(HEAD_LEN);
            let len = out.len().min(HEAD_LEN - place);
            assert!(len > 0, "more than the head is read");
            out[..len].copy_from_slice(&self.head[place..place + len]);
            self.at += len as u64;
            Ok(len)
        }
    }

    impl Seek for Endless {
        fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
            self.at = match to {
                SeekFrom::Start(at) => at,
                _ => i64::MAX as u64,
            };
            Ok(self.at)
        }
    }

    #[test]
    fn of_what_only_calls_itself_an_artifact_nothing_is_read() {
        let key = ArtifactKey::from_bytes([7; 32]);
        let mut head = [0xff; HEAD_LEN];
        head[..LENGTHS_AT].copy_from_slice(&key.seal(b"native code", b"")[..LENGTHS_AT]);
        assert!(key.open(Endless { head, at: 0 }).is_err());
        // Nor of one that has not the length that it says.
        head.copy_from_slice(&key.seal(b"native code", b"")[..HEAD_LEN]);
        assert!(key.open(Endless { head, at: 0 }).is_err());
    }

    #[test]
    fn code_of_several_pieces_is_one() {
        let key = ArtifactKey::from_bytes([7; 32]);
        let bytes = |len: usize| {
            (0..len)
                .map(|at| ((at * 31) >> 3) as u8)
                .collect::<Vec<u8>>()
        };
        let (code, rest) = (bytes(2 * PIECE + 5), bytes(PIECE + 7));
        let artifact = key.seal(&code, &rest);
        let opened = key.open(Cursor::new(&artifact)).unwrap();
        assert_eq!(read(&opened.code, code.len()), code);
        assert_eq!(&*opened.rest, rest);
        // The same where there is no file for it.
        let head = Head(*artifact.first_chunk().unwrap());
        let mut copied = Code::Copied(Vec::new());
        assert!(head.copy(&mut Cursor::new(&artifact), &mut copied).is_ok());
        // SAFETY: there is no file.
        let parts = unsafe { head.parts(copied) }.unwrap();
        assert!(matches!(&parts.0, Code::Copied(bytes) if *bytes == code));
        assert_eq!(&*parts.1, rest);
    }
}
