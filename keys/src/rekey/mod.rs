//! Putting another file in the place of a sealed one: the same under another key, or what can be
//! saved of a damaged one.
//!
//! A file is opened and sealed anew into a temporary file beside it, which takes its name in one
//! step when it is on the disk: at any moment the name stands for the whole of one of the two. The lock
//! that writers take is held meanwhile, and a file that changed all the same is copied again.
//!
//! # Several names
//!
//! A file with several names is replaced if all of them are known; each gets to be a name of the new
//! file, one after the other. A run that is killed on the way leaves some names with the old file
//! and some with the new one, and the temporary name, which tells the inode of the old file and how
//! many names it had. The next run finds it and goes on, once it has made sure that neither file
//! has changed since.
//!
//! # Programs that have the file open
//!
//! They still have the old file, which has no name any more, and what they would write there would
//! be lost with it. So its superblocks and the end of its log are overwritten: they get an error, and
//! not silence. Its header stays, so that who opens it in just that moment finds a sealed file without a
//! name, and not one that is not sealed.

mod attributes;
mod temporary;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{FileType, OFlags};
use sealed::{Error, KeyId, Volume};
use sha2::{Digest, Sha256};

use crate::disk::FileDisk;
use crate::forest::{Findings, Forest, Found, Place, open_in};
use crate::lock::{LockMode, lock};
use crate::recover::{Damaged, RecoverError, Report, Rescue};
use crate::ring::KeyRing;
use crate::stat::{Inode, Stat};
use crate::transfer::{self, Nowhere, SealedFile, Sink, TransferError, Writing};
use crate::verify::{self, Verdict, VerifyError};

use attributes::AttributeError;
use temporary::{Temporary, TemporaryName};

/// How often a file that changes while it is copied is copied again.
const ATTEMPTS: usize = 3;

/// What is to be done to files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// To seal them with the first key of the ring, if it is not so.
    Move,
    /// To make those whole that are refused, of what can be saved; a chunk is looked for so far from its
    /// place.
    Mend {
        /// In bytes.
        search: u64,
    },
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moved {
    /// It is as it is to be now.
    Now,
    /// It is now, as far as it could be saved.
    Mended(Report),
    /// It was before.
    Before,
    /// It has zero bytes and no key.
    Empty,
    /// It is not sealed.
    NotSealed,
    /// It has been removed or replaced since it was found.
    Gone,
}

/// Why a file was not moved; unless the message says otherwise, it is as it was. Each message is a
/// clause that reads well after a file name and a colon.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RekeyError {
    /// It could not be read.
    #[error("cannot read: {0}")]
    Read(#[source] io::Error),
    /// It is damaged, or its key is not at hand.
    #[error(transparent)]
    Bad(TransferError),
    /// Nothing of it can be saved.
    #[error("{0}; it is left as it is")]
    Lost(#[source] RecoverError),
    /// Somebody holds its lock.
    #[error("in use, and stayed so")]
    Busy,
    /// It changed each time it was copied.
    #[error("changed each time it was copied")]
    Changing,
    /// Some of its names are not known.
    #[error(
        "has {links} names, and only {known} of them are below what is to be moved; \
         name a directory that holds all"
    )]
    NamesElsewhere {
        /// How many names it has.
        links: u32,
        /// How many were found.
        known: usize,
    },
    /// What it would lose cannot be given to its copy.
    #[error(transparent)]
    Attribute(#[from] AttributeError),
    /// The copy cannot be made or cannot take its name.
    #[error("cannot write a copy beside it: {0}")]
    Write(#[source] io::Error),
    /// Only some of its names could be moved.
    #[error("some of its names could not be moved yet: {0}; run this again")]
    Partly(#[source] io::Error),
    /// A killed run has moved some names of a file, and the others are not known.
    #[error(
        "left by a killed run that moved some names of a file, and the others are not below what \
         is to be moved; name a directory that holds all, or remove this if there are no others"
    )]
    NotGoneOn,
    /// What were names of one file has changed since a run moved some of them only.
    #[error(
        "was the same file as {other} until a run was killed, and one of them has changed since; \
         remove the one that is not wanted, or {temporary} to keep both",
        other = .other.display(), temporary = .temporary.display()
    )]
    Diverged {
        /// The file that was begun.
        other: PathBuf,
        /// What keeps the two together.
        temporary: PathBuf,
    },
}

/// A file with all its names that were found.
#[derive(Debug)]
pub struct Unit {
    places: Vec<Place>,
    stat: Stat,
    begun: Option<Begun>,
}

impl Unit {
    /// The name it was found by first.
    pub fn place(&self) -> &Place {
        &self.places[0]
    }

    /// Its size in bytes.
    pub fn len(&self) -> u64 {
        self.stat.fingerprint.size
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A new file that an earlier run has given some of the names.
#[derive(Debug)]
struct Begun {
    /// Locked, so that no other run goes on with it.
    file: File,
    /// Its temporary names: at least one.
    temporary: Vec<Place>,
    /// How many names the old file had.
    links: u32,
    /// Another name it has by now, if one was found.
    moved: Option<Place>,
}

/// What is to be done.
#[derive(Debug, Default)]
pub struct Plan {
    /// The files.
    pub units: Vec<Unit>,
    /// How many temporary files of killed runs were removed.
    pub removed: usize,
    /// Temporary files that belong to others.
    pub kept: usize,
    /// Temporary files that could not be dealt with.
    pub failures: Vec<(Place, RekeyError)>,
}

/// Puts other files in the place of those that need it.
#[derive(Clone, Copy, Debug)]
pub struct Rekey<'a> {
    /// What for.
    pub task: Task,
    /// Where the files are.
    pub forest: &'a Forest,
    /// The new key and those that files may have.
    pub ring: &'a KeyRing,
    /// How long to wait for a file that is locked.
    pub wait: Duration,
    /// To change nothing, and only tell what would be done.
    pub dry_run: bool,
}

impl Rekey<'_> {
    /// Puts names of one file together, and cleans up after runs that were killed.
    pub fn plan(&self, findings: Findings) -> Plan {
        let mut plan = Plan::default();
        let mut units: HashMap<Inode, usize> = HashMap::new();
        for Found { place, stat } in findings.files {
            match units.get(&stat.inode()) {
                Some(&at) => plan.units[at].places.push(place),
                None => {
                    units.insert(stat.inode(), plan.units.len());
                    plan.units.push(Unit {
                        places: vec![place],
                        stat,
                        begun: None,
                    });
                }
            }
        }
        let mut leftovers: HashMap<Inode, Vec<Found>> = HashMap::new();
        for found in findings.temporary {
            if TemporaryName::parse(found.place.name()).is_some() {
                leftovers.entry(found.stat.inode()).or_default().push(found);
            } else {
                plan.kept += 1;
            }
        }
        for (inode, leftovers) in leftovers {
            self.settle(inode, leftovers, &units, &mut plan);
        }
        plan
    }

    /// Decides about one temporary file, which may have several names itself.
    fn settle(
        &self,
        inode: Inode,
        leftovers: Vec<Found>,
        units: &HashMap<Inode, usize>,
        plan: &mut Plan,
    ) {
        let count = leftovers.len();
        let temporary: Vec<Place> = leftovers.into_iter().map(|found| found.place).collect();
        let Some(name) = TemporaryName::parse(temporary[0].name()) else {
            return;
        };
        // A run that is at work holds the lock.
        let file = match self.forest.open(&temporary[0]) {
            Ok(file) if file.try_lock().is_ok() => file,
            Ok(_) => {
                plan.kept += count;
                return;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                let place = temporary[0].clone();
                plan.failures.push((place, RekeyError::Read(error)));
                return;
            }
        };
        let links = Stat::of(&file).map_or(0, |stat| stat.links as usize);
        let moved = links.saturating_sub(count);
        let old = Inode {
            number: name.inode,
            ..inode
        };
        // Unless some names were moved and others were not, there is nothing to go on with: the
        // old file is whole under all its names, or is gone.
        if (1..name.links as usize).contains(&moved) {
            let Some(&at) = units.get(&old) else {
                let place = temporary[0].clone();
                plan.failures.push((place, RekeyError::NotGoneOn));
                return;
            };
            let moved = units.get(&inode).map(|&at| plan.units[at].place().clone());
            plan.units[at].begun = Some(Begun {
                file,
                temporary,
                links: name.links,
                moved,
            });
            return;
        }
        if self.dry_run {
            plan.kept += count;
            return;
        }
        for place in temporary {
            match self.remove(&place) {
                Ok(()) => plan.removed += 1,
                Err(error) => plan.failures.push((place, RekeyError::Write(error))),
            }
        }
    }

    fn remove(&self, place: &Place) -> io::Result<()> {
        temporary::unlink(&self.forest.directory_of(place)?, place.name())
    }

    /// Moves one file. `progress` is told of bytes read.
    ///
    /// # Errors
    /// Where it can't be moved.
    pub fn unit(&self, unit: &Unit, progress: impl Fn(u64)) -> Result<Moved, RekeyError> {
        for _ in 0..ATTEMPTS {
            if let Some(moved) = self.attempt(unit, &progress)? {
                return Ok(moved);
            }
        }
        Err(RekeyError::Changing)
    }

    /// `None` where the file changed meanwhile.
    fn attempt(&self, unit: &Unit, progress: impl Fn(u64)) -> Result<Option<Moved>, RekeyError> {
        let place = unit.place();
        let opened = self
            .forest
            .directory_of(place)
            .and_then(|directory| Ok((open_old(&directory, place)?, directory)));
        let (old, directory) = match opened {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // The others of several names may be there yet.
                return Ok((unit.places.len() == 1).then_some(Moved::Gone));
            }
            Err(error) => return Err(RekeyError::Read(error)),
        };
        // Before the first byte is read, for the time of access.
        let accessed = old.stat()?.accessed;
        if old.stat()?.kind() != FileType::RegularFile {
            return Ok(Some(Moved::Gone));
        }
        let key = match self.task {
            Task::Move => self.key_of(&old.file)?,
            Task::Mend { .. } => self.needs_mending(&old.file, &progress)?,
        };
        let key = match key {
            Ok(key) => key,
            Err(moved) => return Ok(Some(moved)),
        };
        if self.dry_run {
            let Task::Mend { search } = self.task else {
                progress(unit.len());
                return Ok(Some(Moved::Now));
            };
            let mut damaged = Damaged::open(self.ring, &old.file).map_err(RekeyError::Lost)?;
            let report = damaged.save(&mut Nowhere, search, |_| ());
            return Ok(Some(Moved::Mended(report.map_err(RekeyError::Lost)?)));
        }
        if !lock(&old.file, old.lock_mode(), self.wait).map_err(RekeyError::Read)? {
            return Err(RekeyError::Busy);
        }
        let before = old.stat()?;
        if !self.has_all_names(unit, before.inode())? {
            return Ok(None);
        }
        if before.links as usize != unit.places.len() {
            return Err(RekeyError::NamesElsewhere {
                links: before.links,
                known: unit.places.len(),
            });
        }
        if let Some(begun) = &unit.begun {
            return self.go_on(unit, &old, begun).map(Some);
        }
        if self.task == Task::Move && self.key_of(&old.file)? != Ok(key) {
            return Ok(None);
        }

        let name = TemporaryName {
            inode: before.inode().number,
            links: before.links,
        };
        let (new, file) = Temporary::create(&directory, name).map_err(RekeyError::Write)?;
        let (copied, moved) = self.copy(&old.file, &file, progress)?;
        let stat = Stat { accessed, ..before };
        attributes::copy(&old.file, &stat, &file)?;
        file.sync_all().map_err(RekeyError::Write)?;
        if old.stat()?.fingerprint != before.fingerprint
            || !self.has_all_names(unit, before.inode())?
        {
            return Ok(None);
        }
        if let [place] = unit.places.as_slice() {
            new.rename(place.name()).map_err(RekeyError::Write)?;
        } else {
            // From here on the new file is all there is for some of the names.
            let new = new.keep();
            self.link_all(&place.beside(&new), &unit.places)
                .and_then(|()| temporary::unlink(&directory, &new))
                .map_err(RekeyError::Partly)?;
        }
        old.poison(&copied);
        Ok(Some(moved))
    }

    /// Whether a file is refused, or what else it is. The key is of no meaning then.
    fn needs_mending(
        &self,
        file: &File,
        progress: impl Fn(u64),
    ) -> Result<Result<KeyId, Moved>, RekeyError> {
        let whole = match verify::file(self.ring, file, self.wait, progress) {
            Ok(verified) => verified.verdict,
            Err(VerifyError::Busy) => return Err(RekeyError::Busy),
            Err(VerifyError::Bad(TransferError::Key(unknown))) => {
                return Err(RekeyError::Bad(unknown.into()));
            }
            Err(VerifyError::Bad(TransferError::Sealed(error @ Error::UnsupportedVersion(_)))) => {
                return Err(RekeyError::Bad(error.into()));
            }
            // What can't be read in part is damaged, too.
            Err(VerifyError::Bad(_) | VerifyError::Read(_)) => {
                return Ok(Ok(self.ring.sealing().id()));
            }
        };
        Ok(Err(match whole {
            Verdict::Whole(_) => Moved::Before,
            Verdict::Empty => Moved::Empty,
            Verdict::NotSealed => Moved::NotSealed,
        }))
    }

    /// The key of a file that is to be moved, or what else it is.
    fn key_of(&self, file: &File) -> Result<Result<KeyId, Moved>, RekeyError> {
        let input = read_head(file)?;
        if input.is_blank() {
            return Ok(Err(Moved::Empty));
        }
        match input.header() {
            Err(Error::NotSealed) => Ok(Err(Moved::NotSealed)),
            Err(error) => Err(RekeyError::Bad(error.into())),
            Ok(header) if header.key_id() == self.ring.sealing().id() => Ok(Err(Moved::Before)),
            Ok(header) => match self.ring.for_file(header.key_id()) {
                Ok(key) => Ok(Ok(key.id())),
                Err(unknown) => Err(RekeyError::Bad(unknown.into())),
            },
        }
    }

    /// Whether all names still stand for that file.
    fn has_all_names(&self, unit: &Unit, inode: Inode) -> Result<bool, RekeyError> {
        for place in &unit.places {
            let found = self
                .forest
                .directory_of(place)
                .and_then(|directory| Stat::at(directory, place.name().as_ref()));
            match found {
                Ok(stat) if stat.inode() == inode => {}
                Ok(_) => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(RekeyError::Read(error)),
            }
        }
        Ok(true)
    }

    /// Seals the contents anew. Answers what the old file was, and what can be said of it.
    fn copy<'b>(
        &self,
        old: &'b File,
        new: &File,
        progress: impl Fn(u64),
    ) -> Result<(Copied<'b>, Moved), RekeyError> {
        match self.task {
            Task::Move => {
                let volume = transfer::reseal(self.ring, &read_head(old)?, new, progress);
                let volume = volume.map_err(|error| match error {
                    TransferError::Read(error) => RekeyError::Read(error),
                    TransferError::Write(error) => RekeyError::Write(error),
                    TransferError::Sealed(_) | TransferError::Key(_) => RekeyError::Bad(error),
                })?;
                Ok((Copied::Volume(volume.map(Box::new)), Moved::Now))
            }
            Task::Mend { search } => {
                let mut damaged = Damaged::open(self.ring, old).map_err(RekeyError::Lost)?;
                let report = self.mend(&mut damaged, new, search);
                let report = report.map_err(|error| match error {
                    RecoverError::Write(error) => RekeyError::Write(error),
                    error => RekeyError::Lost(error),
                })?;
                Ok((Copied::Damaged(Box::new(damaged)), Moved::Mended(report)))
            }
        }
    }

    fn mend(
        &self,
        damaged: &mut Damaged<'_>,
        new: &File,
        search: u64,
    ) -> Result<Report, RecoverError> {
        // One of zero bytes needs no mending.
        let (params, key) = damaged
            .sealed_with()
            .ok_or(RecoverError::Header(Error::Truncated))?;
        let key = self.ring.for_file(key)?;
        let mut writing = Writing::new(key, params, new)?;
        let report = damaged.save(&mut writing, search, |_| ())?;
        writing.end()?;
        Ok(report)
    }

    /// Makes each place a name of the file that the temporary name stands for.
    fn link_all(&self, from: &Place, places: &[Place]) -> io::Result<()> {
        let from_directory = self.forest.directory_of(from)?;
        for place in places {
            let directory = self.forest.directory_of(place)?;
            Temporary::link(&from_directory, from.name(), &directory)?.rename(place.name())?;
        }
        Ok(())
    }

    /// Gives the names that are left to the new file of a killed run.
    fn go_on(&self, unit: &Unit, old: &Old, begun: &Begun) -> Result<Moved, RekeyError> {
        let moved = begun.moved.as_ref().unwrap_or(&begun.temporary[0]);
        let new = Stat::of(&begun.file).map_err(RekeyError::Read)?;
        let names = new.links as usize - begun.temporary.len() + unit.places.len();
        // A damaged file is refused, so that nobody goes on with it.
        let (copied, is_same) = match self.task {
            Task::Move => {
                let (volume, digest) = self.digest(&old.file)?;
                let is_same = digest == self.digest(&begun.file)?.1;
                (Copied::Volume(volume.map(Box::new)), is_same)
            }
            Task::Mend { .. } => {
                let damaged = Damaged::open(self.ring, &old.file).map_err(RekeyError::Lost)?;
                (Copied::Damaged(Box::new(damaged)), true)
            }
        };
        if names > begun.links as usize || !is_same {
            return Err(RekeyError::Diverged {
                other: self.forest.shown(moved),
                temporary: self.forest.shown(&begun.temporary[0]),
            });
        }
        self.link_all(&begun.temporary[0], &unit.places)
            .and_then(|()| {
                begun
                    .temporary
                    .iter()
                    .try_for_each(|place| self.remove(place))
            })
            .map_err(RekeyError::Partly)?;
        old.poison(&copied);
        Ok(Moved::Now)
    }

    /// Of the plaintext with its holes: two files with the same one are the same to everybody.
    fn digest(&self, file: &File) -> Result<(Option<Volume>, [[u8; 32]; 2]), RekeyError> {
        let mut digester = Digester::default();
        let sealed = read_head(file)?;
        let mut read = || {
            let mut volume = sealed.look(self.ring)?.0;
            if let Some(volume) = &mut volume {
                transfer::read_all(volume, sealed.disk(), &mut digester, |_| ())?;
            }
            Ok(volume)
        };
        let volume = read().map_err(RekeyError::Bad)?;
        let digests = [digester.data, digester.holes].map(|digest| digest.finalize().into());
        Ok((volume, digests))
    }
}

/// What a file was that another one has taken the place of.
enum Copied<'a> {
    Volume(Option<Box<Volume>>),
    Damaged(Box<Damaged<'a>>),
}

impl Rescue for Nowhere {
    fn lost(&mut self, _: usize) -> Result<(), TransferError> {
        Ok(())
    }

    fn parts(&mut self, _: &[u8], _: &[Range<usize>]) -> Result<bool, TransferError> {
        Ok(false)
    }
}

impl Rescue for Writing<'_> {
    fn lost(&mut self, len: usize) -> Result<(), TransferError> {
        self.lose(len);
        Ok(())
    }

    /// A sealed chunk is whole or it is none: nobody may take for data what stands for a gap.
    fn parts(&mut self, _: &[u8], _: &[Range<usize>]) -> Result<bool, TransferError> {
        Ok(false)
    }
}

/// Data and holes by themselves, so that neither is taken for the other.
#[derive(Default)]
struct Digester {
    data: Sha256,
    holes: Sha256,
    at: u64,
}

impl Sink for Digester {
    fn data(&mut self, bytes: &[u8]) -> Result<(), TransferError> {
        self.data.update(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn hole(&mut self, len: u64) -> Result<(), TransferError> {
        self.holes.update(self.at.to_le_bytes());
        self.holes.update(len.to_le_bytes());
        self.at += len;
        Ok(())
    }
}

/// Reads a file from its beginning.
fn read_head(file: &File) -> Result<SealedFile<'_>, RekeyError> {
    SealedFile::new(file).map_err(RekeyError::Read)
}

/// The file that is replaced, open.
struct Old {
    file: File,
    writable: bool,
}

fn open_old(directory: impl std::os::fd::AsFd, place: &Place) -> io::Result<Old> {
    match open_in(&directory, place.name(), OFlags::RDWR) {
        Ok(file) => Ok(Old {
            file,
            writable: true,
        }),
        // Who had a lease may be one of those who go on with it.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
        // It need not be writable: what changes is the directory.
        Err(_) => Ok(Old {
            file: open_in(&directory, place.name(), OFlags::RDONLY)?,
            writable: false,
        }),
    }
}

impl Old {
    fn stat(&self) -> Result<Stat, RekeyError> {
        Stat::of(&self.file).map_err(RekeyError::Read)
    }

    /// A lock for reading keeps writers out as well; only two runs of this could meet then, and
    /// the second finds that the name has gone to another file.
    fn lock_mode(&self) -> LockMode {
        match self.writable {
            true => LockMode::Exclusive,
            false => LockMode::Shared,
        }
    }

    /// Makes sure that nobody goes on with a file that has no name any more. The directory is on
    /// the disk by now: otherwise a crash could bring back the name and find this.
    fn poison(&self, copied: &Copied<'_>) {
        if self.writable && Stat::of(&self.file).is_ok_and(|stat| stat.links == 0) {
            // Where this fails, so do the writes of others.
            let _ = match copied {
                Copied::Volume(Some(volume)) => volume.retire(&FileDisk(&self.file)),
                Copied::Volume(None) => Ok(()),
                Copied::Damaged(damaged) => damaged.retire(&self.file),
            };
        }
    }
}
