//! A cage's table of open files.

use crate::limits::Account;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use std::sync::Arc;

/// Descriptors that a cage may have at a time, as on Lind.
pub const MAX_FDS: usize = 1024;

/// A descriptor: an open file, which others may share, and its own close-on-exec flag.
#[derive(Clone, Debug)]
pub struct Descriptor {
    /// The open file. A cage and its forked children share one;
    /// dup makes another for the same open file.
    pub file: Arc<OwnedFd>,
    /// Closed by exec.
    pub cloexec: bool,
}

/// The table: index is the descriptor's number.
#[derive(Debug)]
pub struct FdTable {
    slots: Vec<Option<Descriptor>>,
    account: Arc<Account>,
}

impl FdTable {
    /// An empty table of the cage that has the account.
    pub fn new(account: Arc<Account>) -> Self {
        Self {
            slots: Vec::new(),
            account,
        }
    }

    /// A copy for a forked cage.
    pub fn inherit(&self, account: Arc<Account>) -> Self {
        Self {
            slots: self.slots.clone(),
            account,
        }
    }

    /// Whether there is room for another descriptor.
    ///
    /// # Errors
    /// `EMFILE` when the cage has all that it can have; `ENFILE` when the run has.
    pub fn check_room(&self) -> Result<(), Errno> {
        self.lowest_free(0)?;
        self.account.check_file_room()
    }

    fn lowest_free(&self, least: usize) -> Result<usize, Errno> {
        (least..self.account.files())
            .find(|&fd| self.slots.get(fd).is_none_or(Option::is_none))
            .ok_or(Errno::MFILE)
    }

    /// The host's standard streams as 0, 1 and 2, those of them that are open.
    ///
    /// # Errors
    /// When the host has no descriptors left.
    pub fn with_standard_streams(account: Arc<Account>) -> Result<Self, Errno> {
        let mut table = Self::new(account);
        let streams = [
            rustix::stdio::stdin(),
            rustix::stdio::stdout(),
            rustix::stdio::stderr(),
        ];
        for (fd, stream) in streams.into_iter().enumerate() {
            match rustix::io::fcntl_dupfd_cloexec(stream, 3) {
                Ok(file) => {
                    table.set(fd as i32, Arc::new(file), false)?;
                }
                Err(Errno::BADF) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(table)
    }

    /// The open file behind a descriptor.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn get(&self, fd: i32) -> Result<&Descriptor, Errno> {
        usize::try_from(fd)
            .ok()
            .and_then(|fd| self.slots.get(fd)?.as_ref())
            .ok_or(Errno::BADF)
    }

    /// As [`FdTable::get`], to change the flag.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn get_mut(&mut self, fd: i32) -> Result<&mut Descriptor, Errno> {
        usize::try_from(fd)
            .ok()
            .and_then(|fd| self.slots.get_mut(fd)?.as_mut())
            .ok_or(Errno::BADF)
    }

    /// Puts a file at the lowest free number from `least` on.
    ///
    /// # Errors
    /// `EMFILE` when there is none; `ENFILE` when the run has too many; `EINVAL` when `least` is
    /// out of range.
    pub fn insert(&mut self, least: i32, file: Arc<OwnedFd>, cloexec: bool) -> Result<i32, Errno> {
        let least = usize::try_from(least).map_err(|_| Errno::INVAL)?;
        if least >= self.account.files() {
            return Err(Errno::INVAL);
        }
        let fd = self.lowest_free(least)? as i32;
        self.set(fd, file, cloexec)?;
        Ok(fd)
    }

    /// Puts a file at a number; answers what was there.
    ///
    /// # Errors
    /// `EBADF` when the number is out of range; `ENFILE` when the run has too many.
    pub fn set(
        &mut self,
        fd: i32,
        file: Arc<OwnedFd>,
        cloexec: bool,
    ) -> Result<Option<Descriptor>, Errno> {
        let fd = usize::try_from(fd).map_err(|_| Errno::BADF)?;
        if fd >= self.account.files() {
            return Err(Errno::BADF);
        }
        self.account.check_file(file.as_raw_fd())?;
        if self.slots.len() <= fd {
            self.slots.resize(fd + 1, None);
        }
        Ok(self.slots[fd].replace(Descriptor { file, cloexec }))
    }

    /// Those that are marked to be closed by exec.
    pub fn marked(&self) -> Vec<i32> {
        let slots = (0..).zip(&self.slots);
        let marked = slots.filter(|(_, slot)| slot.as_ref().is_some_and(|open| open.cloexec));
        marked.map(|(fd, _)| fd).collect()
    }

    /// Takes a descriptor out.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn remove(&mut self, fd: i32) -> Result<Descriptor, Errno> {
        usize::try_from(fd)
            .ok()
            .and_then(|fd| self.slots.get_mut(fd)?.take())
            .ok_or(Errno::BADF)
    }

    /// Closes what exec closes.
    pub fn close_on_exec(&mut self) {
        for slot in &mut self.slots {
            if slot.as_ref().is_some_and(|descriptor| descriptor.cloexec) {
                *slot = None;
            }
        }
    }

    /// Closes everything.
    pub fn clear(&mut self) {
        self.slots.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{Ledger, Limits};

    fn table() -> FdTable {
        FdTable::new(Account::new(Ledger::new(Limits::default())))
    }

    fn file() -> Arc<OwnedFd> {
        Arc::new(rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap())
    }

    #[test]
    fn the_lowest_free_number_is_given() {
        let mut table = table();
        assert_eq!(table.insert(0, file(), false), Ok(0));
        assert_eq!(table.insert(0, file(), true), Ok(1));
        assert_eq!(table.insert(5, file(), false), Ok(5));
        table.remove(0).unwrap();
        assert_eq!(table.insert(0, file(), false), Ok(0));
        table.close_on_exec();
        assert_eq!(table.get(1).unwrap_err(), Errno::BADF);
        assert!(table.get(5).is_ok());
    }

    #[test]
    fn numbers_out_of_range_are_errors() {
        let mut table = table();
        for fd in [-1, i32::MIN, i32::MAX, MAX_FDS as i32] {
            assert_eq!(table.get(fd).unwrap_err(), Errno::BADF);
            assert_eq!(table.remove(fd).unwrap_err(), Errno::BADF);
            assert_eq!(table.set(fd, file(), false).unwrap_err(), Errno::BADF);
            assert_eq!(table.insert(fd, file(), false).unwrap_err(), Errno::INVAL);
        }
        for fd in 0..MAX_FDS {
            assert_eq!(table.insert(0, file(), false), Ok(fd as i32));
        }
        assert_eq!(table.insert(0, file(), false), Err(Errno::MFILE));
    }
}
