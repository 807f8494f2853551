//! Where results go: a file that appears whole or not at all, or a stream.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::transfer::{Sink, TransferError, zeros};

/// A place to write to. Dropped before [`commit`](Output::commit), a file leaves no trace.
#[derive(Debug)]
pub enum Output {
    /// Becomes the file of this name when committed, replacing what is there if so asked.
    File {
        /// What is written so far, beside its destination.
        temporary: NamedTempFile,
        /// Its destination.
        path: PathBuf,
        /// Whether a file that is there may be replaced.
        replace: bool,
    },
    /// A device or pipe named by a path, which cannot be replaced, only written to.
    Device(File),
    /// Standard output.
    Stdout(io::Stdout),
    /// For what is not written from beginning to end, and goes to a device or stream.
    Spooled {
        /// What is written so far: a file without a name.
        spool: File,
        /// Where it goes when committed.
        destination: Box<Output>,
    },
}

impl Output {
    /// An output to this path, made with these permission bits. Fails with
    /// [`io::ErrorKind::AlreadyExists`] if a file is there and it may not be replaced.
    pub fn to_path(path: &Path, replace: bool, mode: u32) -> io::Result<Self> {
        let path = match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(metadata) if !metadata.is_file() => {
                return Ok(Self::Device(OpenOptions::new().write(true).open(path)?));
            }
            Ok(_) if !replace => return Err(io::ErrorKind::AlreadyExists.into()),
            // So that a symbolic link keeps pointing at what is replaced.
            Ok(_) => fs::canonicalize(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            Err(error) => return Err(error),
        };
        let temporary = tempfile::Builder::new()
            .prefix(".keys-")
            .suffix(".partial")
            .permissions(Permissions::from_mode(mode & 0o777))
            .tempfile_in(parent(&path))?;
        Ok(Self::File {
            temporary,
            path,
            replace,
        })
    }

    /// The same output, but such that all of it can be sought until it is committed.
    ///
    /// # Errors
    /// Where there is no room for what has to wait.
    pub fn seekable(self) -> io::Result<Self> {
        match self {
            Self::File { .. } | Self::Spooled { .. } => Ok(self),
            // Even where these can be sought, it may be from somewhere in the middle.
            Self::Device(_) | Self::Stdout(_) => Ok(Self::Spooled {
                spool: tempfile::tempfile()?,
                destination: Box::new(self),
            }),
        }
    }

    /// The file that is written, where it is one, and a regular one.
    pub fn file(&self) -> Option<&File> {
        match self {
            Self::File { temporary, .. } => Some(temporary.as_file()),
            Self::Spooled { spool, .. } => Some(spool),
            Self::Device(_) | Self::Stdout(_) => None,
        }
    }

    /// Has a file belong to who owns another one.
    ///
    /// # Errors
    /// Where this process may not give files away.
    pub fn give_to_owner_of(&self, other: &Metadata) -> io::Result<()> {
        let Self::File { temporary, .. } = self else {
            return Ok(());
        };
        let own = temporary.as_file().metadata()?;
        if (own.uid(), own.gid()) != (other.uid(), other.gid()) {
            std::os::unix::fs::fchown(temporary.as_file(), Some(other.uid()), Some(other.gid()))?;
        }
        Ok(())
    }

    /// Makes the output final: for a file, gives it its name once its contents are on disk.
    pub fn commit(self) -> io::Result<()> {
        match self {
            Self::File {
                temporary,
                path,
                replace,
            } => {
                temporary.as_file().sync_all()?;
                if replace {
                    temporary.persist(&path).map_err(|error| error.error)?;
                } else {
                    // Checks again: a file may have come to be there meanwhile.
                    temporary
                        .persist_noclobber(&path)
                        .map_err(|error| error.error)?;
                }
                sync_parent(&path)
            }
            Self::Device(mut file) => file.flush(),
            Self::Stdout(mut stdout) => stdout.flush(),
            Self::Spooled {
                mut spool,
                mut destination,
            } => {
                spool.rewind()?;
                io::copy(&mut spool, &mut destination)?;
                destination.commit()
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File { temporary, .. } => temporary.write(bytes),
            Self::Device(file) | Self::Spooled { spool: file, .. } => file.write(bytes),
            Self::Stdout(stdout) => stdout.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File { temporary, .. } => temporary.flush(),
            Self::Device(file) | Self::Spooled { spool: file, .. } => file.flush(),
            Self::Stdout(stdout) => stdout.flush(),
        }
    }
}

impl Sink for Output {
    fn data(&mut self, bytes: &[u8]) -> Result<(), TransferError> {
        self.write_all(bytes).map_err(TransferError::Write)
    }

    /// A hole of a file is none that takes room.
    fn hole(&mut self, len: u64) -> Result<(), TransferError> {
        let file = match self {
            Self::File { temporary, .. } => temporary.as_file_mut(),
            Self::Spooled { .. } | Self::Device(_) | Self::Stdout(_) => {
                return zeros(len, |bytes| self.data(bytes));
            }
        };
        let end = file
            .stream_position()
            .and_then(|at| {
                at.checked_add(len)
                    .ok_or(io::ErrorKind::FileTooLarge.into())
            })
            .and_then(|end| {
                file.set_len(end)?;
                file.seek(SeekFrom::Start(end))
            });
        end.map(drop).map_err(TransferError::Write)
    }
}

/// Only of an output that is [`seekable`](Output::seekable).
impl Seek for Output {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::File { temporary, .. } => temporary.seek(to),
            Self::Spooled { spool, .. } => spool.seek(to),
            Self::Device(_) | Self::Stdout(_) => Err(io::ErrorKind::NotSeekable.into()),
        }
    }
}

/// Puts on disk that a file of this name exists.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(parent(path))?.sync_all()
}

/// The directory a path lies in.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(dir: &Path) -> Vec<String> {
        fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_file_appears_only_when_committed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let mut output = Output::to_path(&path, false, 0o640).unwrap();
        output.write_all(b"first").unwrap();
        assert!(!path.exists());
        output.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(entries(dir.path()), ["out"]);
    }

    #[test]
    fn a_dropped_output_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let mut output = Output::to_path(&path, false, 0o600).unwrap();
        output.write_all(b"half").unwrap();
        drop(output);
        assert!(entries(dir.path()).is_empty());
    }

    #[test]
    fn replaces_only_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        // One that comes to be there after the check, too.
        let late = Output::to_path(&path, false, 0o600).unwrap();
        fs::write(&path, b"old").unwrap();
        let error = late.commit().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        let error = Output::to_path(&path, false, 0o600).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"old");

        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let mut output = Output::to_path(&link, true, 0o600).unwrap();
        output.write_all(b"new").unwrap();
        output.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(link.is_symlink());
    }

    #[test]
    fn devices_are_written_to_and_stay() {
        let path = Path::new("/dev/null");
        let mut output = Output::to_path(path, true, 0o600).unwrap();
        output.write_all(b"gone").unwrap();
        output.commit().unwrap();
        assert!(!fs::metadata(path).unwrap().is_file());
    }

    #[test]
    fn what_was_sought_goes_to_a_pipe_in_order() {
        let (mut reader, writer) = io::pipe().unwrap();
        let pipe = Output::Device(File::from(std::os::fd::OwnedFd::from(writer)));
        let mut output = pipe.seekable().unwrap();
        output.write_all(b"0123456789").unwrap();
        output.seek(SeekFrom::Start(3)).unwrap();
        output.write_all(b"abc").unwrap();
        output.commit().unwrap();
        assert_eq!(io::read_to_string(&mut reader).unwrap(), "012abc6789");

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let output = Output::to_path(&path, false, 0o600).unwrap();
        let mut output = output.seekable().unwrap();
        output.write_all(b"0123").unwrap();
        output.rewind().unwrap();
        output.write_all(b"ab").unwrap();
        output.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"ab23");
    }
}
