//! Moving sealed files to another key.
//!
//! A file is opened and sealed anew into a temporary file beside it, which takes its name in one
//! step when it is on the disk: at any moment the name stands for the whole file under one of the
//! two keys. The lock that writers take is held meanwhile, and a file that changed all the same is
//! copied again.
//!
//! # Several names
//!
//! A file with several names is moved if all of them are known; each gets to be a name of the new
//! file, one after the other. A run that is killed on the way leaves some names with the old file
//! and some with the new one, and the temporary name, which tells the inode of the old file and how
//! many names it had. The next run finds it and goes on, once it has made sure that neither file
//! has changed since.
//!
//! # Programs that have the file open
//!
//! They still have the old file, which has no name any more, and what they would write there would
//! be lost with it. So its magic number is overwritten: they get an error, and not silence.

mod attributes;
mod temporary;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Seek};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{FileType, OFlags};
use sealed::{Error, KeyId, MAGIC};
use sha2::{Digest, Sha256};

use crate::forest::{Findings, Forest, Found, Place, open_in};
use crate::lock::{LockMode, lock};
use crate::ring::KeyRing;
use crate::stat::{Inode, Stat};
use crate::transfer::{self, SealedInput, TransferError};

use attributes::AttributeError;
use temporary::{Temporary, TemporaryName};

/// How often a file that changes while it is copied is copied again.
const ATTEMPTS: usize = 3;

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// It is sealed with the new key now.
    Now,
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

/// Moves files to the first key of a ring.
#[derive(Clone, Copy, Debug)]
pub struct Rekey<'a> {
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
        let key = match self.key_of(&old.file)? {
            Ok(key) => key,
            Err(moved) => return Ok(Some(moved)),
        };
        if self.dry_run {
            progress(unit.len());
            return Ok(Some(Moved::Now));
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
        if self.key_of(&old.file)? != Ok(key) {
            return Ok(None);
        }

        let name = TemporaryName {
            inode: before.inode().number,
            links: before.links,
        };
        let (new, file) = Temporary::create(&directory, name).map_err(RekeyError::Write)?;
        self.copy(&old.file, &file, progress)?;
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
        old.poison();
        Ok(Some(Moved::Now))
    }

    /// The key of a file that is to be moved, or what else it is.
    fn key_of(&self, file: &File) -> Result<Result<KeyId, Moved>, RekeyError> {
        let input = read_head(file)?;
        if input.is_empty() {
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

    /// Seals the contents anew.
    fn copy(&self, old: &File, new: &File, progress: impl Fn(u64)) -> Result<(), RekeyError> {
        let outcome = transfer::reseal(self.ring, read_head(old)?, new, progress);
        outcome.map_err(|error| match error {
            TransferError::Read(error) => RekeyError::Read(error),
            TransferError::Write(error) => RekeyError::Write(error),
            TransferError::Sealed(_) | TransferError::Key(_) => RekeyError::Bad(error),
        })
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
        if names > begun.links as usize || self.digest(&old.file)? != self.digest(&begun.file)? {
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
        old.poison();
        Ok(Moved::Now)
    }

    /// Of the plaintext: two files with the same one are the same to everybody.
    fn digest(&self, file: &File) -> Result<[u8; 32], RekeyError> {
        let mut digest = Digester(Sha256::new());
        transfer::open(self.ring, read_head(file)?, &mut digest, |_| ())
            .map_err(RekeyError::Bad)?;
        Ok(digest.0.finalize().into())
    }
}

struct Digester(Sha256);

impl io::Write for Digester {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a file from its beginning.
fn read_head(mut file: &File) -> Result<SealedInput<&File>, RekeyError> {
    file.rewind()
        .and_then(|()| SealedInput::new(file))
        .map_err(RekeyError::Read)
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
    fn poison(&self) {
        if self.writable && Stat::of(&self.file).is_ok_and(|stat| stat.links == 0) {
            // Where this fails, so do the writes of others.
            let _ = self.file.write_all_at(&[0; MAGIC.len()], 0);
        }
    }
}
