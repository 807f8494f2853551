//! The files of the grates inside: what they had opened before the program began, a key or a file
//! of limits.
//!
//! The program reaches these as if there were no clamp: what it does with them goes inside, where a
//! grate that guards its files refuses it.

use crate::paths::removes;
use grate_rs::kernel::Inode;
use grate_rs::places::{Place, TakenPath, trail};
use grate_rs::{CageFd, Call};
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
struct Inodes {
    /// The files.
    files: HashSet<Inode>,
    /// The folders and symlinks that lead to them.
    ways: HashSet<Inode>,
    /// Whether the program has begun.
    are_all: bool,
}

/// Those files.
#[derive(Debug, Default)]
pub struct Private(Mutex<Inodes>);

impl Private {
    fn inodes(&self) -> MutexGuard<'_, Inodes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The program begins: what is opened from now on may be opened for it.
    pub fn close(&self) {
        self.inodes().are_all = true;
    }

    /// Notes a file that a grate inside has opened by a path.
    pub fn note(&self, fd: CageFd, path: &TakenPath) {
        if self.inodes().are_all {
            return;
        }
        let Some(stat) = fd.stat().ok().filter(|stat| stat.is_regular()) else {
            return;
        };
        // One that starts at a descriptor has no way that could be told.
        let ways = match path.directory() {
            None => trail(path.text()).unwrap_or_default(),
            Some(_) => Vec::new(),
        };
        let mut inodes = self.inodes();
        inodes.files.insert(stat.inode());
        inodes.ways.extend(ways);
    }

    /// Whether there are any.
    pub fn are_any(&self) -> bool {
        !self.inodes().files.is_empty()
    }

    /// Whether what a call of the program names is one, or leads to one and would be moved.
    pub fn has(&self, call: &Call, place: &Place) -> bool {
        if !self.are_any() {
            return false;
        }
        // What is not there is none of them.
        let Ok(inode) = place.stat().map(|stat| stat.inode()) else {
            return false;
        };
        let inodes = self.inodes();
        inodes.files.contains(&inode) || removes(call) && inodes.ways.contains(&inode)
    }
}
