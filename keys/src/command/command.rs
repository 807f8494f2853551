//! What each subcommand does.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use keys::key_file;
use keys::output::Output;
use keys::transfer::{self, TransferError};
use sealed::{MasterKey, Params};

use crate::options::{Key, Transfer};
use crate::progress::Progress;

/// Permission bits of what was secret before, and of what came from a pipe.
const OWNER_ONLY: u32 = 0o600;

pub fn generate(path: &Path) -> Result<()> {
    let key = key_file::generate(path)?;
    println!("{}: new key {}", path.display(), key.id());
    Ok(())
}

pub fn show(path: &Path) -> Result<()> {
    let key = key_file::read(path)?;
    println!("key id: {}", key.id());
    println!("kind:   {}", key_file::KIND);
    Ok(())
}

pub fn seal(key: &Key, files: &Transfer, params: Params) -> Result<()> {
    let key = key_file::read(&key.path)?;
    let input = Input::open(&files.input)?;
    // What could be read before may be read sealed, and by nobody else.
    let mode = input
        .metadata
        .as_ref()
        .map_or(OWNER_ONLY, |metadata| metadata.permissions().mode());
    transfer(files, input, mode, |input, output, progress| {
        transfer::seal(&key, params, input, output, progress)
    })
    .map(drop)
}

pub fn open(key: &Key, files: &Transfer) -> Result<()> {
    let key = key_file::read(&key.path)?;
    let input = Input::open(&files.input)?;
    let read = transfer(files, input, OWNER_ONLY, |input, output, progress| {
        transfer::open(&key, input, output, progress)
    })?;
    if read == 0 {
        eprintln!("keys: {}: {UNSEALED_EMPTY}", name(&files.input));
    }
    Ok(())
}

/// Said of a file of zero bytes, which anyone can make.
const UNSEALED_EMPTY: &str = "zero bytes, taken as an empty file; nothing vouches for it";

pub fn verify(key: &Key, files: &[impl AsRef<Path>]) -> Result<()> {
    let key = key_file::read(&key.path)?;
    let mut failure: Option<anyhow::Error> = None;
    for path in files {
        let path = path.as_ref();
        match verify_one(&key, path) {
            Ok(0) => println!("{}: {UNSEALED_EMPTY}", name(path)),
            Ok(_) => println!("{}: whole and unaltered", name(path)),
            Err(error) => {
                // One line for each file; the last one is the caller's to print.
                if let Some(earlier) = failure.replace(error) {
                    eprintln!("keys: {earlier:#}");
                }
            }
        }
    }
    failure.map_or(Ok(()), Err)
}

fn verify_one(key: &MasterKey, path: &Path) -> Result<u64> {
    let input = Input::open(path)?;
    let progress = Progress::new(input.len());
    transfer::open(key, input.reader, io::sink(), |len| progress.advance(len))
        .with_context(|| name(path))
}

/// Reads the input, writes the output whole or not at all, and says which of them failed.
fn transfer(
    files: &Transfer,
    input: Input,
    mode: u32,
    run: impl FnOnce(Box<dyn Read>, &mut Output, &mut dyn FnMut(u64)) -> Result<u64, TransferError>,
) -> Result<u64> {
    let output_failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => anyhow!(
            "{}: already exists; replace it with --force",
            name(&files.output)
        ),
        _ => anyhow!("{}: cannot write: {error}", output_name(&files.output)),
    };
    let mut output = if is_standard(&files.output) {
        Output::Stdout(io::stdout())
    } else {
        Output::to_path(&files.output, files.force, mode).map_err(output_failed)?
    };
    let progress = Progress::new(input.len());
    let read = run(input.reader, &mut output, &mut |len| progress.advance(len));
    drop(progress);
    let read = read.map_err(|error| match error {
        TransferError::Write(error) => output_failed(error),
        TransferError::Read(error) => anyhow!("{}: cannot read: {error}", name(&files.input)),
        TransferError::Sealed(error) => anyhow!("{}: {error}", name(&files.input)),
    })?;
    output.commit().map_err(output_failed)?;
    Ok(read)
}

/// What is read: a file or standard input.
struct Input {
    reader: Box<dyn Read>,
    /// Of a regular file.
    metadata: Option<Metadata>,
}

impl Input {
    fn open(path: &Path) -> Result<Self> {
        if is_standard(path) {
            return Ok(Self {
                reader: Box::new(io::stdin().lock()),
                metadata: None,
            });
        }
        let (file, metadata) = File::open(path)
            .and_then(|file| file.metadata().map(|metadata| (file, metadata)))
            .map_err(|error| anyhow!("{}: cannot read: {error}", name(path)))?;
        if metadata.is_dir() {
            bail!("{}: a directory, not a file", name(path));
        }
        Ok(Self {
            reader: Box::new(file),
            metadata: metadata.is_file().then_some(metadata),
        })
    }

    fn len(&self) -> Option<u64> {
        self.metadata.as_ref().map(Metadata::len)
    }
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
