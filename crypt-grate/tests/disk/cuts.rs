//! A file system that keeps what is done to it, and what of that a power cut leaves.
//!
//! Models of what a disk loses:
//!
//! - *prefix*: everything up to some byte of some write is there;
//! - *pages*: each page that was written since its file's last fsync is in any of its versions since;
//! - *sectors*: so is each sector of 512 bytes.
//!
//! Sizes and names are in the journal of the file system: a change of them is lost only together with all later
//! ones, and one of a size with what is written behind where it cut the file. An fsync of any file writes the
//! journal out.

use super::{PAGE, Pages, Random, direct};
use crypt_grate::storage::{Errno, Lease, LockMode, Place, Storage, Target};
use sealed::{Chunks, Tag, Unsealed};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Which file, whatever its name.
pub type Inode = usize;

/// Files and their names.
#[derive(Clone, Default)]
pub struct Files {
    pub files: Vec<Pages>,
    pub names: BTreeMap<String, Inode>,
}

/// What was done to the disk.
#[derive(Clone, Debug)]
pub enum Step {
    Write {
        file: Inode,
        offset: u64,
        bytes: Vec<u8>,
    },
    SetLen {
        file: Inode,
        len: u64,
    },
    Sync {
        file: Inode,
    },
    /// A new file gets a name.
    Make {
        name: String,
    },
    Remove {
        name: String,
    },
    Rename {
        from: String,
        to: String,
    },
    /// An fsync of the directory.
    SyncNames,
}

impl Step {
    fn is_sync(&self) -> bool {
        matches!(self, Self::Sync { .. } | Self::SyncNames)
    }

    fn is_in_journal(&self) -> bool {
        matches!(
            self,
            Self::SetLen { .. } | Self::Make { .. } | Self::Remove { .. } | Self::Rename { .. }
        )
    }
}

impl Files {
    fn apply(&mut self, step: &Step) {
        match step {
            Step::Write {
                file,
                offset,
                bytes,
            } => self.files[*file].write(bytes, *offset),
            Step::SetLen { file, len } => self.files[*file].set_len(*len),
            Step::Make { name } => {
                self.files.push(Pages::default());
                self.names.insert(name.clone(), self.files.len() - 1);
            }
            Step::Remove { name } => drop(self.names.remove(name)),
            Step::Rename { from, to } => {
                let file = self.names.remove(from).expect("it is there");
                self.names.insert(to.clone(), file);
            }
            Step::Sync { .. } | Step::SyncNames => {}
        }
    }
}

/// A disk that keeps what is done to it.
#[derive(Default)]
pub struct Recorder {
    now: RefCell<Files>,
    steps: RefCell<Vec<Step>>,
    /// Which file's lock is kept for whom.
    kept: Cell<Option<(Inode, usize)>>,
    /// What a program has of memory.
    pub memory: direct::Memory,
}

impl Recorder {
    pub fn new(files: Files) -> Rc<Self> {
        Rc::new(Self {
            now: RefCell::new(files),
            steps: RefCell::default(),
            kept: Cell::default(),
            memory: direct::Memory::default(),
        })
    }

    /// How many steps there were.
    pub fn done(&self) -> usize {
        self.steps.borrow().len()
    }

    pub fn steps(&self) -> Vec<Step> {
        self.steps.borrow().clone()
    }

    /// What there is now.
    pub fn files(&self) -> Files {
        self.now.borrow().clone()
    }

    pub fn step(&self, step: Step) {
        self.now.borrow_mut().apply(&step);
        self.steps.borrow_mut().push(step);
    }

    /// The file of that name.
    pub fn find(self: &Rc<Self>, name: &str) -> Option<Disk> {
        let file = *self.now.borrow().names.get(name)?;
        Some(Disk {
            recorder: Rc::clone(self),
            file,
            process: 0,
        })
    }

    /// The file of that name, which is made where there is none.
    pub fn open(self: &Rc<Self>, name: &str) -> Disk {
        if self.find(name).is_none() {
            self.step(Step::Make {
                name: name.to_owned(),
            });
        }
        self.find(name).expect("it is there")
    }
}

/// One file of a [`Recorder`].
#[derive(Clone)]
pub struct Disk {
    pub recorder: Rc<Recorder>,
    pub file: Inode,
    /// Who uses it.
    pub process: usize,
}

impl Storage for Disk {
    fn open(&self, chunks: &Chunks<'_>, to: Target<'_>, _: Option<Lease>) -> Option<bool> {
        direct::open(self, &self.recorder.memory, chunks, to).map(|()| false)
    }

    fn seal(&self, chunks: &Unsealed<'_>, from: Place, tags: &mut [Tag]) -> bool {
        direct::seal(self, &self.recorder.memory, chunks, from, tags).is_some()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        Ok(self.recorder.now.borrow().files[self.file].read(buf, offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize, Errno> {
        self.recorder.step(Step::Write {
            file: self.file,
            offset,
            bytes: buf.to_vec(),
        });
        Ok(buf.len())
    }

    fn size(&self) -> Result<u64, Errno> {
        Ok(self.recorder.now.borrow().files[self.file].len())
    }

    fn set_size(&self, len: u64) -> Result<(), Errno> {
        self.recorder.step(Step::SetLen {
            file: self.file,
            len,
        });
        Ok(())
    }

    fn sync(&self) -> Result<(), Errno> {
        self.recorder.step(Step::Sync { file: self.file });
        Ok(())
    }

    fn lock(&self, _: LockMode) -> Result<(), Errno> {
        self.recorder.kept.set(None);
        Ok(())
    }

    fn take(&self) -> Result<bool, Errno> {
        let own = Some((self.file, self.process));
        Ok(self.recorder.kept.replace(own) == own)
    }

    fn is_kept(&self) -> bool {
        self.recorder.kept.get() == Some((self.file, self.process))
    }

    fn write_kept(&self, buf: &[u8], offset: u64) -> Result<Option<usize>, Errno> {
        match self.is_kept() {
            true => self.write_at(buf, offset).map(Some),
            false => Ok(None),
        }
    }
}

/// How a disk loses what was not synced.
#[derive(Clone, Copy, Debug)]
pub enum Model {
    Prefix,
    Pages,
    Sectors,
}

impl Model {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Prefix, Self::Pages, Self::Sectors];
}

/// What is on the disk when the power is cut after these steps.
pub fn cut(before: &Files, steps: &[Step], model: Model, random: &mut Random) -> Files {
    let unit = match model {
        Model::Prefix => return cut_in_order(before, steps, random),
        Model::Pages => PAGE as u64,
        Model::Sectors => 512,
    };
    let behind = |at: Option<usize>| at.map_or(0, |at| at + 1);
    let journal_synced = behind(steps.iter().rposition(Step::is_sync));
    let in_journal = steps[journal_synced..]
        .iter()
        .filter(|step| step.is_in_journal())
        .count();
    let mut kept = random.below(in_journal as u64 + 1);
    // All or nothing is likelier than it would be otherwise.
    let odds = [1, 8, 15][random.below(3) as usize];
    let grows = random.below(2) == 0;

    let mut left = before.clone();
    // Of each file, how far it was synced, from where on writes are lost, and how long it would be.
    let mut synced = vec![0; before.files.len()];
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Make { .. } => synced.push(0),
            Step::Sync { file } => synced[*file] = at + 1,
            _ => {}
        }
    }
    let mut lost_from = vec![u64::MAX; synced.len()];
    let mut lens: Vec<u64> = vec![0; synced.len()];
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Write {
                file,
                offset,
                bytes,
            } => {
                let end = offset + bytes.len() as u64;
                if at < synced[*file] {
                    left.files[*file].write(bytes, *offset);
                    continue;
                }
                let lost_from = lost_from[*file];
                let mut at = *offset;
                while at < end {
                    let border = ((at / unit + 1) * unit).min(end);
                    if random.below(16) < odds && at < lost_from {
                        let part = &bytes[(at - offset) as usize..(border - offset) as usize];
                        left.files[*file].write(part, at);
                    }
                    at = border;
                }
                if end <= lost_from {
                    lens[*file] = lens[*file].max(end);
                }
            }
            step if step.is_in_journal() => {
                let is_kept = at < journal_synced || kept > 0;
                if at >= journal_synced {
                    kept = kept.saturating_sub(1);
                }
                match step {
                    Step::SetLen { file, len } if is_kept => {
                        left.files[*file].set_len(*len);
                        lens[*file] = *len;
                    }
                    Step::SetLen { file, len } => {
                        lost_from[*file] = lost_from[*file].min(*len);
                    }
                    // A file without a name is nobody's, but it has its number.
                    Step::Make { .. } if !is_kept => left.files.push(Pages::default()),
                    step if is_kept => left.apply(step),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    if grows {
        for (file, len) in left.files.iter_mut().zip(lens) {
            file.set_len(file.len().max(len));
        }
    }
    left
}

/// Everything is there up to some page of the last step.
fn cut_in_order(before: &Files, steps: &[Step], random: &mut Random) -> Files {
    let mut left = before.clone();
    let Some((last, whole)) = steps.split_last() else {
        return left;
    };
    whole.iter().for_each(|step| left.apply(step));
    match last {
        Step::Write {
            file,
            offset,
            bytes,
        } => {
            // The kernel copies what is within a page in one go.
            let to_border = PAGE as u64 - offset % PAGE as u64;
            let borders = (bytes.len() as u64).saturating_sub(to_border) / PAGE as u64 + 1;
            let len = match random.below(borders + 1) {
                0 => 0,
                border => to_border + (border - 1) * PAGE as u64,
            };
            let len = len.min(bytes.len() as u64) as usize;
            left.files[*file].write(&bytes[..len], *offset);
        }
        step => left.apply(step),
    }
    left
}
