//! What a grate keeps of the descriptors of its cages: by cage and number, following dup, fork,
//! exec and exit.

use crate::constants::fs;
use crate::{Call, Errno, is_thread_clone};
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

impl CageFd {
    /// The descriptor that an argument of a call names.
    pub fn of(call: &Call, index: usize) -> Self {
        Self {
            cage: call.cage_of(index),
            fd: call.int(index),
        }
    }
}

#[derive(Clone, Debug)]
struct Entry<T> {
    what: T,
    cloexec: bool,
}

/// The descriptors that a grate has to know of, with what it knows. Those not in it are none of
/// its business.
///
/// The methods that take a [`Call`] pass it on and follow what it did: they are the handlers of
/// the calls that they are named after.
#[derive(Debug)]
pub struct Descriptors<T>(RwLock<HashMap<CageFd, Entry<T>>>);

impl<T> Default for Descriptors<T> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<T: Clone> Descriptors<T> {
    fn read(&self) -> RwLockReadGuard<'_, HashMap<CageFd, Entry<T>>> {
        self.0.read().unwrap_or_else(|e| e.into_inner())
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<CageFd, Entry<T>>> {
        self.0.write().unwrap_or_else(|e| e.into_inner())
    }

    /// What is known of a descriptor.
    pub fn get(&self, fd: CageFd) -> Option<T> {
        self.read().get(&fd).map(|entry| entry.what.clone())
    }

    /// Notes a descriptor, or that there is nothing to know of it.
    pub fn note(&self, fd: CageFd, what: Option<T>, cloexec: bool) {
        let mut table = self.write();
        match what {
            Some(what) => table.insert(fd, Entry { what, cloexec }),
            None => table.remove(&fd),
        };
    }

    /// The descriptors of a cage, each with whether exec closes it.
    pub fn of_cage(&self, cage: u64) -> Vec<(CageFd, T, bool)> {
        let table = self.read();
        let of_cage = table.iter().filter(|(fd, _)| fd.cage == cage);
        of_cage
            .map(|(fd, entry)| (*fd, entry.what.clone(), entry.cloexec))
            .collect()
    }

    /// The descriptors of any cage of which that is known.
    pub fn all_where(&self, is: impl Fn(&T) -> bool) -> Vec<CageFd> {
        let table = self.read();
        let matching = table.iter().filter(|(_, entry)| is(&entry.what));
        matching.map(|(fd, _)| *fd).collect()
    }

    fn set_cloexec(&self, fd: CageFd, cloexec: bool) {
        if let Some(entry) = self.write().get_mut(&fd) {
            entry.cloexec = cloexec;
        }
    }

    fn copy(&self, from: CageFd, fd: i32, cloexec: bool) {
        let what = self.get(from);
        self.note(CageFd { fd, ..from }, what, cloexec);
    }

    /// Forgets what a cage had.
    pub fn forget_cage(&self, cage: u64) {
        self.write().retain(|fd, _| fd.cage != cage);
    }

    /// close: descriptor.
    ///
    /// # Errors
    /// What the call answered; so for all that follow.
    pub fn close(&self, call: &Call) -> Result<i32, Errno> {
        self.note(CageFd::of(call, 0), None, false);
        call.forward(call.cage_of(0))
    }

    /// dup: descriptor.
    ///
    /// # Errors
    /// As dup(2).
    pub fn dup(&self, call: &Call) -> Result<i32, Errno> {
        let fd = call.forward(call.cage_of(0))?;
        self.copy(CageFd::of(call, 0), fd, false);
        Ok(fd)
    }

    /// dup2: descriptor, the number it gets.
    ///
    /// # Errors
    /// As dup2(2).
    pub fn dup2(&self, call: &Call) -> Result<i32, Errno> {
        let fd = call.forward(call.cage_of(0))?;
        if fd != call.int(0) {
            self.copy(CageFd::of(call, 0), fd, false);
        }
        Ok(fd)
    }

    /// dup3: descriptor, the number it gets, flags.
    ///
    /// # Errors
    /// As dup3(2).
    pub fn dup3(&self, call: &Call) -> Result<i32, Errno> {
        let fd = call.forward(call.cage_of(0))?;
        let cloexec = call.int(2) & fs::O_CLOEXEC != 0;
        self.copy(CageFd::of(call, 0), fd, cloexec);
        Ok(fd)
    }

    /// fcntl: descriptor, command, number. Follows the copying commands and F_SETFD.
    ///
    /// # Errors
    /// As fcntl(2).
    pub fn fcntl(&self, call: &Call) -> Result<i32, Errno> {
        let result = call.forward(call.cage_of(0))?;
        let from = CageFd::of(call, 0);
        match call.int(1) {
            fs::F_DUPFD => self.copy(from, result, false),
            fs::F_DUPFD_CLOEXEC => self.copy(from, result, true),
            fs::F_SETFD => self.set_cloexec(from, call.int(2) & fs::FD_CLOEXEC != 0),
            _ => {}
        }
        Ok(result)
    }

    /// ioctl: descriptor, request. Follows the requests that set close-on-exec.
    ///
    /// # Errors
    /// As ioctl(2).
    pub fn ioctl(&self, call: &Call) -> Result<i32, Errno> {
        let result = call.forward(call.cage_of(0))?;
        if let request @ (fs::FIOCLEX | fs::FIONCLEX) = call.size(1) {
            self.set_cloexec(CageFd::of(call, 0), request == fs::FIOCLEX);
        }
        Ok(result)
    }

    /// clone: a fork's child has its parent's descriptors.
    ///
    /// # Errors
    /// As clone(2).
    pub fn clone_cage(&self, call: &Call) -> Result<i32, Errno> {
        let parent = call.cage_of(0);
        let arguments = call.pointer(0);
        let is_thread = !arguments.is_null() && is_thread_clone(arguments.addr, arguments.cage);
        let child = call.forward(parent)?;
        if child > 0 && !is_thread {
            let cage = child as u64;
            let mut table = self.write();
            let inherited: Vec<_> = table
                .iter()
                .filter(|(fd, _)| fd.cage == parent)
                .map(|(fd, entry)| (CageFd { cage, fd: fd.fd }, entry.clone()))
                .collect();
            table.extend(inherited);
        }
        Ok(child)
    }

    /// execve: descriptors marked so are closed.
    ///
    /// # Errors
    /// As execve(2).
    pub fn execve(&self, call: &Call) -> Result<i32, Errno> {
        let cage = call.cage_of(0);
        let result = call.forward(cage)?;
        self.write()
            .retain(|fd, entry| fd.cage != cage || !entry.cloexec);
        Ok(result)
    }

    /// exit and exit_group.
    ///
    /// # Errors
    /// None in practice.
    pub fn exit(&self, call: &Call) -> Result<i32, Errno> {
        let cage = call.cage_of(0);
        self.forget_cage(cage);
        call.forward(cage)
    }

    /// wait4: a child that was killed went past `exit`.
    ///
    /// # Errors
    /// As wait4(2).
    pub fn wait4(&self, call: &Call) -> Result<i32, Errno> {
        let child = call.forward(call.cage_of(0))?;
        if child > 0 {
            self.forget_cage(child as u64);
        }
        Ok(child)
    }
}
