//! What each subcommand does.

pub mod options;
mod passphrases;
mod progress;
mod recover;
mod rekey;
mod summary;
mod verify;

use std::collections::HashSet;
use std::fs::{File, Metadata};
use std::io::{self, Read, Seek};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use getrandom::SysRng;
use keys::files::{self, KeyFileError};
use keys::forest::Found;
use keys::output::Output;
use keys::ring::UnknownKey;
use keys::sources::{Key, Sources, Wanted};
use keys::transfer::{self, SealedFile, TransferError};
use keys::wrapped::{Cost, WrappedKey};
use keys::{KeyFile, KeyRing, Passphrase};
use sealed::{MasterKey, Params};

use options::{KeyOptions, Transfer};
use passphrases::{Passphrases, new_passphrase};
use progress::Progress;
pub use recover::recover;
pub use rekey::{rekey, repair};
pub use verify::verify;

/// How a command that ran to its end came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Success,
    /// Something is not, and has been told.
    Failure,
}

/// Permission bits of what was secret before, and of what came from a pipe.
const OWNER_ONLY: u32 = 0o600;

/// What wraps a new key.
pub enum Wrapping {
    /// Nothing.
    None,
    /// A passphrase: from a descriptor, or asked for.
    Passphrase {
        /// The descriptor.
        fd: Option<u32>,
        /// What one try is to cost.
        cost: Cost,
    },
}

pub fn generate(path: &Path, wrapping: &Wrapping) -> Result<()> {
    // Before a passphrase is asked for in vain.
    if path.symlink_metadata().is_ok() {
        return Err(KeyFileError::Exists(path.to_owned()).into());
    }
    let key = MasterKey::generate(&mut SysRng)
        .map_err(|cause| anyhow!("{}: cannot make a key: {cause}", path.display()))?;
    match wrapping {
        Wrapping::None => files::create(path, key.expose_secret())?,
        Wrapping::Passphrase { fd, cost } => {
            let passphrase = new_passphrase(path, *fd)?;
            files::create(path, &wrap(path, &key, &passphrase, *cost)?.encode())?;
        }
    }
    println!("{}: new key {}", path.display(), key.id());
    Ok(())
}

fn wrap(path: &Path, key: &MasterKey, passphrase: &Passphrase, cost: Cost) -> Result<WrappedKey> {
    WrappedKey::wrap(key, passphrase, cost, &mut SysRng).with_context(|| path.display().to_string())
}

pub fn passwd(path: &Path, fd: Option<u32>, wrapping: &Wrapping) -> Result<()> {
    let shown = path.display();
    let (key, was_raw) = match files::read(path)? {
        KeyFile::Raw(key) => (key, true),
        KeyFile::Wrapped(key) => (Passphrases::new(fd).unlock(path, &key)?, false),
        KeyFile::Ring(_) => bail!("{shown}: a key ring, which has no passphrase; name a key of it"),
    };
    let id = key.id();
    match wrapping {
        Wrapping::None if was_raw => bail!("{shown}: has no passphrase that could be removed"),
        Wrapping::None => {
            files::replace(path, key.expose_secret())?;
            println!("{shown}: key {id} has no passphrase any more");
        }
        Wrapping::Passphrase { fd, cost } => {
            let passphrase = new_passphrase(path, *fd)?;
            files::replace(path, &wrap(path, &key, &passphrase, *cost)?.encode())?;
            println!("{shown}: key {id} has a new passphrase");
        }
    }
    Ok(())
}

pub fn show(path: &Path) -> Result<()> {
    match files::read(path)? {
        KeyFile::Raw(key) => print_key(&Key::Raw(key)),
        KeyFile::Wrapped(key) => print_key(&Key::Wrapped(key)),
        KeyFile::Ring(_) => {
            let sources = Sources::read(&[path])?;
            println!("kind:   ring of keys; the first seals, all open");
            for source in sources.iter() {
                println!("\n{}", source.path.display());
                print_key(&source.key);
            }
        }
    }
    Ok(())
}

fn print_key(key: &Key) {
    println!("key id: {}", key.id());
    match key {
        Key::Raw(_) => println!("kind:   raw 32-byte master key"),
        Key::Wrapped(key) => println!(
            "kind:   master key wrapped by a passphrase (argon2id: {})",
            key.cost()
        ),
    }
}

/// The wanted ones of the keys that were named.
fn ring(options: &KeyOptions, wanted: impl FnOnce() -> Wanted) -> Result<KeyRing> {
    let sources = Sources::read(&options.key_files)?;
    let mut passphrases = Passphrases::new(options.passphrase_fd);
    sources.ring(wanted(), |path, key| passphrases.unlock(path, key))
}

pub fn seal(keys: &KeyOptions, files: &Transfer, params: Params) -> Result<()> {
    let ring = ring(keys, || Wanted::First)?;
    let input = Input::open(&files.input)?;
    // What could be read before may be read sealed, and by nobody else.
    let mode = input
        .metadata
        .as_ref()
        .map_or(OWNER_ONLY, |metadata| metadata.permissions().mode());
    let len = input.len();
    let output = open_output(files, mode)?
        .seekable()
        .map_err(|error| cannot_write(files, &error))?;
    transfer(files, len, output, |output, progress| {
        let key = ring.sealing();
        match (input.file_with_holes(), output.file()) {
            (Some(input), Some(output)) => {
                transfer::seal_with_holes(key, params, input, output, progress)
            }
            _ => transfer::seal(key, params, input.reader, output, progress),
        }
    })
    .map(drop)
}

pub fn open(keys: &KeyOptions, files: &Transfer) -> Result<()> {
    let sources = Sources::read(&keys.key_files)?;
    let mut passphrases = Passphrases::new(keys.passphrase_fd);
    let file = Input::open(&files.input)?
        .into_file()
        .map_err(|error| cannot_read(&files.input, &error))?;
    let read = file
        .metadata()
        .and_then(|metadata| Ok((metadata.len(), SealedFile::new(&file)?)));
    let (len, input) = read.map_err(|error| cannot_read(&files.input, &error))?;
    let wanted = input.key_id().map_or(Wanted::First, Wanted::Id);
    let ring = sources
        .ring::<anyhow::Error>(wanted, |path, key| passphrases.unlock(path, key))
        .map_err(|error| match error.downcast::<UnknownKey>() {
            Ok(unknown) => anyhow!("{}: {unknown}", name(&files.input)),
            Err(error) => error,
        })?;
    let output = open_output(files, OWNER_ONLY)?;
    let is_vouched_for = transfer(files, len, output, |output, progress| {
        transfer::open(&ring, &input, LOCK_WAIT, output, progress)
    })?;
    if !is_vouched_for {
        eprintln!("keys: {}: {UNSEALED_EMPTY}", name(&files.input));
    }
    Ok(())
}

/// How long to wait for a file that is just being changed.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// Said of a file of zero bytes, which anyone can make.
const UNSEALED_EMPTY: &str = "zero bytes, taken as an empty file; nothing vouches for it";

/// Said of bytes of a file that are lost.
fn lost(range: &Range<u64>) -> String {
    let len = range.end - range.start;
    format!("lost: {len} bytes from offset {}", range.start)
}

/// The files found, each once: of several names of one file the first.
fn distinct(files: Vec<Found>) -> impl Iterator<Item = Found> {
    let mut seen = HashSet::new();
    files
        .into_iter()
        .filter(move |found| found.stat.links == 1 || seen.insert(found.stat.inode()))
}

/// Reads the input, writes the output whole or not at all, and says which of them failed.
fn transfer<T>(
    files: &Transfer,
    input_len: u64,
    mut output: Output,
    run: impl FnOnce(&mut Output, &mut dyn FnMut(u64)) -> Result<T, TransferError>,
) -> Result<T> {
    let progress = Progress::new(input_len);
    let done = run(&mut output, &mut |len| progress.advance(len));
    drop(progress);
    let done = done.map_err(|error| match error {
        TransferError::Write(error) => cannot_write(files, &error),
        TransferError::Read(error) => cannot_read(&files.input, &error),
        TransferError::Sealed(_) | TransferError::Key(_) => {
            anyhow!("{}: {error}", name(&files.input))
        }
    })?;
    commit(output, files)?;
    Ok(done)
}

fn open_output(files: &Transfer, mode: u32) -> Result<Output> {
    if is_standard(&files.output) {
        return Ok(Output::Stdout(io::stdout()));
    }
    Output::to_path(&files.output, files.force, mode).map_err(|error| cannot_write(files, &error))
}

fn commit(output: Output, files: &Transfer) -> Result<()> {
    output.commit().map_err(|error| cannot_write(files, &error))
}

fn cannot_write(files: &Transfer, error: &io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::AlreadyExists => anyhow!(
            "{}: already exists; replace it with --force",
            name(&files.output)
        ),
        _ => anyhow!("{}: cannot write: {error}", output_name(&files.output)),
    }
}

/// What is read from.
enum Reader {
    File(File),
    Stdin(io::Stdin),
}

impl Read for Reader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buf),
            Self::Stdin(stdin) => stdin.read(buf),
        }
    }
}

/// What is read: a file or standard input.
struct Input {
    reader: Reader,
    /// Of a regular file.
    metadata: Option<Metadata>,
}

impl Input {
    fn open(path: &Path) -> Result<Self> {
        if is_standard(path) {
            return Ok(Self {
                reader: Reader::Stdin(io::stdin()),
                metadata: None,
            });
        }
        let (file, metadata) = File::open(path)
            .and_then(|file| file.metadata().map(|metadata| (file, metadata)))
            .map_err(|error| cannot_read(path, &error))?;
        if metadata.is_dir() {
            bail!("{}: a directory, not a file", name(path));
        }
        Ok(Self {
            reader: Reader::File(file),
            metadata: metadata.is_file().then_some(metadata),
        })
    }

    /// Bytes of a regular file; 0 where that is not known.
    fn len(&self) -> u64 {
        self.metadata.as_ref().map_or(0, Metadata::len)
    }

    /// The file, if it is a regular one that is known to have holes.
    fn file_with_holes(&self) -> Option<&File> {
        match &self.reader {
            Reader::File(file) if self.metadata.is_some() => {
                let has_holes = transfer::has_holes(file).unwrap_or_default();
                // It is read from its beginning where it has none.
                (&*file).rewind().ok()?;
                has_holes.then_some(file)
            }
            _ => None,
        }
    }

    /// The file, or one with all that could be read.
    fn into_file(self) -> io::Result<File> {
        match self.reader {
            Reader::File(file) if self.metadata.is_some() => Ok(file),
            reader => transfer::spool(reader),
        }
    }
}

fn cannot_read(path: &Path, error: &io::Error) -> anyhow::Error {
    anyhow!("{}: cannot read: {error}", name(path))
}

fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn name(path: &Path) -> String {
    if is_standard(path) {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    }
}

fn output_name(path: &Path) -> String {
    if is_standard(path) {
        "standard output".to_owned()
    } else {
        path.display().to_string()
    }
}
