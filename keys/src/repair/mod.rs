//! Making a file whole again that a power loss left in parts.
//!
//! Of changes that were not put on the disk by an fsync, some blocks may have come there and others
//! not. Then the tree of the file does not fit its chunks, and the file is refused, for that is what
//! a file looks like, too, into which parts of an older version were put back. Who knows that it was
//! the power may take the chunks as they lie: the tables and the root are made anew from their tags.
//!
//! In place, under the lock that writers take, and so that it may end at any moment: what the file
//! is judged by, its chunks and the journal, stays until all else is on the disk, and the root that
//! makes the file whole comes last.
//!
//! # The end
//!
//! Where a file ends is what its size says, if there is a final chunk. If there is none, a growth was
//! torn. The final chunk from before it is in the journal: by a live entry, or, where the entry is
//! clear, as its remains. Such remains, or those at the place of the final chunk, are taken only
//! behind the last chunk that authenticates, so that none of those is dropped. Without any there is
//! nothing to make the file whole with.

mod broken;
mod disk;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::time::Duration;

use rustix::fs::{FileType, OFlags};
use sealed::Error;

use crate::forest::{Forest, Place, open_in};
use crate::lock::{LockMode, lock};
use crate::ring::{KeyRing, UnknownKey};
use crate::stat::Stat;
use crate::transfer::TransferError;
use crate::verify::{self, Verdict, VerifyError};

use broken::Broken;
pub use disk::Disk;

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repaired {
    /// It is in order, or was brought there.
    Sealed(Report),
    /// Its last change was cut short, and it is in order as its journal has it: who opens it next
    /// completes or undoes the change.
    Unfinished,
    /// It has zero bytes.
    Empty,
    /// It is not sealed.
    NotSealed,
    /// It has been removed or replaced since it was found.
    Gone,
}

/// What there is to say of a sealed file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Whether it was not in order.
    pub is_repaired: bool,
    /// Whether a change was completed or undone by its journal.
    pub is_restored: bool,
    /// Plaintext that is lost, for its chunks don't authenticate.
    pub lost: Vec<Range<u64>>,
    /// Where it ends, if what was behind that is lost.
    pub cut_at: Option<u64>,
}

impl Report {
    /// Whether nothing is lost.
    pub fn is_lossless(&self) -> bool {
        self.lost.is_empty() && self.cut_at.is_none()
    }
}

/// Why a file was not repaired; unless the message says otherwise, it is as it was. Each message is
/// a clause that reads well after a file name and a colon.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// It could not be read, in whole or in part.
    #[error("cannot read: {0}")]
    Read(#[source] io::Error),
    /// Its header is damaged, or its key is not at hand.
    #[error(transparent)]
    Bad(#[from] TransferError),
    /// Somebody holds its lock.
    #[error("in use, and stayed so")]
    Busy,
    /// It may not be written.
    #[error("cannot write: {0}")]
    Open(#[source] io::Error),
    /// It could not be written to the end: it is refused as before.
    #[error("cannot write all of it: {0}; run this again")]
    Write(#[source] io::Error),
    /// There is no final chunk.
    #[error(
        "its end is lost, and it can't be made whole without; it is left as it is, and \
         `keys recover` saves what is left"
    )]
    NoEnd,
}

impl From<Error> for RepairError {
    fn from(error: Error) -> Self {
        Self::Bad(error.into())
    }
}

impl From<UnknownKey> for RepairError {
    fn from(unknown: UnknownKey) -> Self {
        Self::Bad(unknown.into())
    }
}

/// Repairs files.
#[derive(Clone, Copy, Debug)]
pub struct Repair<'a> {
    /// Where the files are.
    pub forest: &'a Forest,
    /// The keys that files may have.
    pub ring: &'a KeyRing,
    /// How long to wait for a file that is locked.
    pub wait: Duration,
    /// To change nothing, and only tell what would be done.
    pub dry_run: bool,
}

impl Repair<'_> {
    /// Repairs a file if it is refused. `progress` is told of bytes read.
    ///
    /// # Errors
    /// Where it can't be repaired.
    pub fn file(&self, place: &Place, progress: impl Fn(u64)) -> Result<Repaired, RepairError> {
        let Some(file) = self.open(place, OFlags::RDONLY)? else {
            return Ok(Repaired::Gone);
        };
        match verify::file(self.ring, &file, self.wait, progress) {
            Ok(verified) => return Ok(verified.verdict.into()),
            Err(VerifyError::Busy) => return Err(RepairError::Busy),
            Err(VerifyError::Read(error)) => return Err(RepairError::Read(error)),
            Err(VerifyError::Bad(TransferError::Sealed(error)))
                if error.is_of_versions()
                    || matches!(error, Error::ChunkCorrupt { .. } | Error::Truncated) => {}
            Err(VerifyError::Bad(error)) => return Err(RepairError::Bad(error)),
        }
        // With the lock that it may have been read under.
        drop(file);
        let (access, mode) = match self.dry_run {
            true => (OFlags::RDONLY, LockMode::Shared),
            false => (OFlags::RDWR, LockMode::Exclusive),
        };
        let Some(file) = self.open(place, access)? else {
            return Ok(Repaired::Gone);
        };
        if !lock(&file, mode, self.wait).map_err(RepairError::Read)? {
            return Err(RepairError::Busy);
        }
        if Stat::of(&file).map_err(RepairError::Read)?.links == 0 {
            return Ok(Repaired::Gone);
        }
        one(self.ring, &file, self.dry_run)
    }

    /// `None` for what is no regular file any more.
    fn open(&self, place: &Place, access: OFlags) -> Result<Option<File>, RepairError> {
        let opened = self.forest.directory_of(place).and_then(|directory| {
            let file = open_in(directory, place.name(), access)?;
            Ok((Stat::of(&file)?.kind() == FileType::RegularFile).then_some(file))
        });
        match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if access == OFlags::RDWR => Err(RepairError::Open(error)),
            opened => opened.map_err(RepairError::Read),
        }
    }
}

impl From<Verdict> for Repaired {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Whole { .. } => Self::Sealed(Report::default()),
            Verdict::Restored => Self::Unfinished,
            Verdict::Empty => Self::Empty,
            Verdict::NotSealed => Self::NotSealed,
        }
    }
}

/// Repairs one file that nobody changes meanwhile.
///
/// # Errors
/// Where it can't be repaired.
pub fn one(ring: &KeyRing, disk: &impl Disk, dry_run: bool) -> Result<Repaired, RepairError> {
    let Some(broken) = Broken::open(ring, disk)? else {
        return Ok(Repaired::Unfinished);
    };
    let plan = broken.plan()?;
    if plan.is_needed() && !dry_run {
        broken.mend(&plan)?;
    }
    Ok(Repaired::Sealed(broken.report(&plan)?))
}
