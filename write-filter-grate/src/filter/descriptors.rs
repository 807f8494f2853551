//! The descriptors that may be written although they may be regular files: the standard streams
//! that the program was given, files opened for writing under a permitted name, and copies.
//!
//! What is not noted here is judged by what it is (see [`super::write`]), so that a descriptor
//! that came by an unknown way can't write to a regular file.

use std::collections::HashMap;
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A descriptor and the cage in whose table it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CageFd {
    /// The cage.
    pub cage: u64,
    /// The descriptor.
    pub fd: i32,
}

/// What is known of a permitted descriptor.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Closed by exec.
    cloexec: bool,
}

/// The permitted descriptors of all cages.
#[derive(Debug, Default)]
pub struct Permitted(RwLock<HashMap<CageFd, Entry>>);

impl Permitted {
    // A lock whose holder can't have failed half-way: a panic ends the grate.
    fn read(&self) -> RwLockReadGuard<'_, HashMap<CageFd, Entry>> {
        self.0.read().unwrap_or_else(|e| e.into_inner())
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<CageFd, Entry>> {
        self.0.write().unwrap_or_else(|e| e.into_inner())
    }

    /// Whether a descriptor is permitted.
    pub fn contains(&self, fd: CageFd) -> bool {
        self.read().contains_key(&fd)
    }

    /// Permits one.
    pub fn grant(&self, fd: CageFd, cloexec: bool) {
        self.write().insert(fd, Entry { cloexec });
    }

    /// Forgets one that is about to be closed or opened.
    pub fn revoke(&self, fd: CageFd) {
        self.write().remove(&fd);
    }

    /// Notes that `to` is now a copy of `from`.
    pub fn copy(&self, from: CageFd, to: CageFd, cloexec: bool) {
        let mut entries = self.write();
        if entries.contains_key(&from) {
            entries.insert(to, Entry { cloexec });
        } else {
            entries.remove(&to);
        }
    }

    /// Changes the close-on-exec flag.
    pub fn set_cloexec(&self, fd: CageFd, cloexec: bool) {
        if let Some(entry) = self.write().get_mut(&fd) {
            entry.cloexec = cloexec;
        }
    }

    /// Gives a forked child its parent's.
    pub fn fork(&self, parent: u64, child: u64) {
        let mut entries = self.write();
        let inherited: Vec<_> = entries
            .iter()
            .filter(|(fd, _)| fd.cage == parent)
            .map(|(fd, entry)| (CageFd { cage: child, ..*fd }, *entry))
            .collect();
        entries.extend(inherited);
    }

    /// Forgets what exec has closed.
    pub fn exec(&self, cage: u64) {
        self.write()
            .retain(|fd, entry| fd.cage != cage || !entry.cloexec);
    }

    /// Forgets a cage.
    pub fn exit(&self, cage: u64) {
        self.write().retain(|fd, _| fd.cage != cage);
    }
}
