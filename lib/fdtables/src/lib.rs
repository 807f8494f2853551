//! Tables of virtual descriptors: what a grate gives its cages instead of the descriptors below it.
//!
//! Each cage has a table of its own, from virtual descriptors to [`FDTableEntry`]. The functions have the names and
//! parameters of Lind's crate of this name, so that a grate written with that one compiles with this one; written anew,
//! and in three ways otherwise:
//!
//! - Nothing panics, which would end the grate with all that it serves: a cage that is not known has no descriptors
//!   (`EBADF`), one that is made twice keeps its table, and what is copied takes the place of what was there.
//! - Close handlers are called when the tables are in order and nobody's lock is held, so that they may use them.
//! - A handler's error is an answer to nobody, and is passed over.
//!
//! Everything works for several threads at a time.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Descriptors of one cage, at most: numbers are below this.
pub const FD_PER_PROCESS_MAX: u64 = 1024;

/// Kinds from here on are reserved.
pub const FDT_KINDMAX: u32 = 0xff00_0000;
/// The kind of no descriptor.
pub const FDT_INVALID_FD: u32 = 0xff00_0001;
/// The kind of an epoll instance that is kept by the tables. There are none here.
pub const FDT_KINDEPOLL: u32 = 0xff00_0002;

const EBADF: u64 = 9;
const EMFILE: u64 = 24;
const EBADFD: u64 = 77;

/// What a virtual descriptor stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FDTableEntry {
    /// What the grate uses to tell its descriptors apart; below [`FDT_KINDMAX`].
    pub fdkind: u32,
    /// The descriptor below, or whatever else the grate finds it by.
    pub underfd: u64,
    /// Whether an exec closes it.
    pub should_cloexec: bool,
    /// Anything that is to differ between duplicates.
    pub perfdinfo: u64,
}

/// Called when a descriptor is closed, with what it stood for and how many others of the same kind and descriptor
/// below there are still, in all cages.
pub type CloseHandler = fn(FDTableEntry, u64) -> Result<(), i32>;

/// A handler that does nothing.
#[allow(non_snake_case)]
pub const fn NULL_FUNC(_: FDTableEntry, _: u64) -> Result<(), i32> {
    Ok(())
}

type Table = BTreeMap<u64, FDTableEntry>;

#[derive(Default)]
struct Tables {
    cages: BTreeMap<u64, Table>,
    /// How many descriptors stand for each kind and descriptor below.
    references: BTreeMap<(u32, u64), u64>,
    /// For those that were not the last, and for those that were.
    handlers: BTreeMap<u32, (CloseHandler, CloseHandler)>,
}

static TABLES: Mutex<Tables> = Mutex::new(Tables {
    cages: BTreeMap::new(),
    references: BTreeMap::new(),
    handlers: BTreeMap::new(),
});

fn tables() -> MutexGuard<'static, Tables> {
    TABLES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Handlers to be called once the lock is not held any more.
#[must_use]
#[derive(Default)]
struct Closed(Vec<(CloseHandler, FDTableEntry, u64)>);

impl Closed {
    fn tell(self) {
        for (handler, entry, left) in self.0 {
            let _ = handler(entry, left);
        }
    }
}

impl Tables {
    fn table(&mut self, cage: u64) -> Result<&mut Table, u64> {
        self.cages.get_mut(&cage).ok_or(EBADF)
    }

    /// Counts one more.
    fn refer(&mut self, entry: &FDTableEntry) {
        *self
            .references
            .entry((entry.fdkind, entry.underfd))
            .or_default() += 1;
    }

    /// Counts one less.
    fn drop_entry(&mut self, entry: FDTableEntry, closed: &mut Closed) {
        let place = (entry.fdkind, entry.underfd);
        let left = match self.references.get_mut(&place) {
            Some(count) if *count > 1 => {
                *count -= 1;
                *count
            }
            _ => {
                self.references.remove(&place);
                0
            }
        };
        if let Some((before, last)) = self.handlers.get(&entry.fdkind) {
            let handler = if left > 0 { *before } else { *last };
            closed.0.push((handler, entry, left));
        }
    }

    /// Puts an entry into the first free place from `start` on.
    fn add(&mut self, cage: u64, entry: FDTableEntry, start: u64) -> Result<u64, u64> {
        let table = self.table(cage)?;
        let mut free = start;
        for &taken in table.range(start..).map(|(number, _)| number) {
            if taken != free {
                break;
            }
            free += 1;
        }
        if free >= FD_PER_PROCESS_MAX {
            return Err(EMFILE);
        }
        table.insert(free, entry);
        self.refer(&entry);
        Ok(free)
    }
}

/// Whether a cage has a table.
pub fn check_cage_exists(cageid: u64) -> bool {
    tables().cages.contains_key(&cageid)
}

/// Gives a cage an empty table, unless it has one.
pub fn init_empty_cage(cageid: u64) {
    tables().cages.entry(cageid).or_default();
}

/// Gives a new cage what another one has, as after a fork; of a cage that is not known that is nothing.
///
/// # Errors
/// None.
pub fn copy_fdtable_for_cage(srccageid: u64, newcageid: u64) -> Result<(), u64> {
    let mut closed = Closed::default();
    let mut tables = tables();
    let copy = tables.cages.get(&srccageid).cloned().unwrap_or_default();
    for entry in copy.values() {
        tables.refer(entry);
    }
    for entry in tables
        .cages
        .insert(newcageid, copy)
        .unwrap_or_default()
        .into_values()
    {
        tables.drop_entry(entry, &mut closed);
    }
    drop(tables);
    closed.tell();
    Ok(())
}

/// Forgets a cage that has ended, and closes all it had.
pub fn remove_cage_from_fdtable(cageid: u64) {
    let mut closed = Closed::default();
    let mut tables = tables();
    for entry in tables
        .cages
        .remove(&cageid)
        .unwrap_or_default()
        .into_values()
    {
        tables.drop_entry(entry, &mut closed);
    }
    drop(tables);
    closed.tell();
}

/// Closes what an exec closes.
pub fn empty_fds_for_exec(cageid: u64) {
    let mut closed = Closed::default();
    let mut tables = tables();
    let mut gone = Vec::new();
    if let Ok(table) = tables.table(cageid) {
        table.retain(|_, entry| {
            if entry.should_cloexec {
                gone.push(*entry);
            }
            !entry.should_cloexec
        });
    }
    for entry in gone {
        tables.drop_entry(entry, &mut closed);
    }
    drop(tables);
    closed.tell();
}

/// What a descriptor stands for.
///
/// # Errors
/// `EBADFD`: it is not open. `EBADF`: the cage is not known.
pub fn translate_virtual_fd(cageid: u64, virtualfd: u64) -> Result<FDTableEntry, u64> {
    let mut tables = tables();
    tables.table(cageid)?.get(&virtualfd).copied().ok_or(EBADFD)
}

/// The lowest free descriptor, which stands for that from now on.
///
/// # Errors
/// `EMFILE`: there are [`FD_PER_PROCESS_MAX`]. `EBADF`: the cage is not known.
pub fn get_unused_virtual_fd(
    cageid: u64,
    fdkind: u32,
    underfd: u64,
    should_cloexec: bool,
    perfdinfo: u64,
) -> Result<u64, u64> {
    get_unused_virtual_fd_from_startfd(cageid, fdkind, underfd, should_cloexec, perfdinfo, 0)
}

/// The lowest free descriptor from `arg` on, as `F_DUPFD` has it.
///
/// # Errors
/// As [`get_unused_virtual_fd`].
pub fn get_unused_virtual_fd_from_startfd(
    cageid: u64,
    fdkind: u32,
    underfd: u64,
    should_cloexec: bool,
    perfdinfo: u64,
    arg: u64,
) -> Result<u64, u64> {
    let entry = FDTableEntry {
        fdkind,
        underfd,
        should_cloexec,
        perfdinfo,
    };
    tables().add(cageid, entry, arg)
}

/// Has that descriptor stand for something, as dup2(2) does: what it stood for before is closed.
///
/// # Errors
/// `EBADF`: the number is no descriptor's; the cage is not known.
pub fn get_specific_virtual_fd(
    cageid: u64,
    requested_virtualfd: u64,
    fdkind: u32,
    underfd: u64,
    should_cloexec: bool,
    perfdinfo: u64,
) -> Result<(), u64> {
    if requested_virtualfd >= FD_PER_PROCESS_MAX {
        return Err(EBADF);
    }
    let entry = FDTableEntry {
        fdkind,
        underfd,
        should_cloexec,
        perfdinfo,
    };
    let mut closed = Closed::default();
    let mut tables = tables();
    let old = tables.table(cageid)?.insert(requested_virtualfd, entry);
    // Counted first: the same thing once more is not its end.
    tables.refer(&entry);
    if let Some(old) = old {
        tables.drop_entry(old, &mut closed);
    }
    drop(tables);
    closed.tell();
    Ok(())
}

/// Closes a descriptor.
///
/// # Errors
/// `EBADF`: it is not open; the cage is not known.
pub fn close_virtualfd(cageid: u64, virtfd: u64) -> Result<(), u64> {
    let mut closed = Closed::default();
    let mut tables = tables();
    let entry = tables.table(cageid)?.remove(&virtfd).ok_or(EBADF)?;
    tables.drop_entry(entry, &mut closed);
    drop(tables);
    closed.tell();
    Ok(())
}

/// Says whether an exec closes it.
///
/// # Errors
/// As [`translate_virtual_fd`].
pub fn set_cloexec(cageid: u64, virtualfd: u64, is_cloexec: bool) -> Result<(), u64> {
    let mut tables = tables();
    let entry = tables.table(cageid)?.get_mut(&virtualfd).ok_or(EBADFD)?;
    entry.should_cloexec = is_cloexec;
    Ok(())
}

/// Keeps something beside this descriptor, and not its duplicates.
///
/// # Errors
/// As [`translate_virtual_fd`].
pub fn set_perfdinfo(cageid: u64, virtualfd: u64, perfdinfo: u64) -> Result<(), u64> {
    let mut tables = tables();
    let entry = tables.table(cageid)?.get_mut(&virtualfd).ok_or(EBADFD)?;
    entry.perfdinfo = perfdinfo;
    Ok(())
}

/// A copy of a cage's table.
pub fn return_fdtable_copy(cageid: u64) -> HashMap<u64, FDTableEntry> {
    let mut tables = tables();
    let table = tables.table(cageid);
    table.map_or_else(
        |_| HashMap::new(),
        |table| table.iter().map(|(fd, entry)| (*fd, *entry)).collect(),
    )
}

/// Sets what is called when descriptors of a kind are closed: for each but the last of those that stand for the same
/// descriptor below, and for the last.
pub fn register_close_handlers(fdkind: u32, intermediate: CloseHandler, last: CloseHandler) {
    tables().handlers.insert(fdkind, (intermediate, last));
}

/// Forgets everything: for tests.
pub fn refresh() {
    *tables() = Tables::default();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Cages of one test, which others leave alone: tests run side by side.
    fn cages<const N: usize>() -> [u64; N] {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        std::array::from_fn(|_| {
            let cage = NEXT.fetch_add(1, Ordering::Relaxed);
            init_empty_cage(cage);
            cage
        })
    }

    #[test]
    fn the_lowest_free_number_is_given() {
        let [cage] = cages();
        for expected in 0..4 {
            assert_eq!(
                get_unused_virtual_fd(cage, 0, 70 + expected, false, 0),
                Ok(expected)
            );
        }
        assert_eq!(close_virtualfd(cage, 1), Ok(()));
        assert_eq!(close_virtualfd(cage, 1), Err(EBADF));
        assert_eq!(translate_virtual_fd(cage, 1), Err(EBADFD));
        assert_eq!(
            get_unused_virtual_fd_from_startfd(cage, 0, 9, true, 5, 2),
            Ok(4)
        );
        assert_eq!(get_unused_virtual_fd(cage, 0, 9, false, 0), Ok(1));
        let entry = translate_virtual_fd(cage, 4).unwrap();
        assert_eq!(
            (entry.underfd, entry.should_cloexec, entry.perfdinfo),
            (9, true, 5)
        );
        assert_eq!(
            get_unused_virtual_fd_from_startfd(cage, 0, 9, false, 0, 1023),
            Ok(1023)
        );
        for start in [1023, 1024, u64::MAX] {
            let full = get_unused_virtual_fd_from_startfd(cage, 0, 9, false, 0, start);
            assert_eq!(full, Err(EMFILE), "{start}");
        }
        assert_eq!(
            get_specific_virtual_fd(cage, 1024, 0, 9, false, 0),
            Err(EBADF)
        );
    }

    #[test]
    fn cages_have_their_own() {
        let [parent] = cages();
        let child = parent + (1 << 40);
        get_unused_virtual_fd(parent, 0, 5, true, 0).unwrap();
        copy_fdtable_for_cage(parent, child).unwrap();
        set_perfdinfo(child, 0, 7).unwrap();
        set_cloexec(child, 0, false).unwrap();
        assert_eq!(translate_virtual_fd(parent, 0).unwrap().perfdinfo, 0);
        empty_fds_for_exec(parent);
        empty_fds_for_exec(child);
        assert_eq!(translate_virtual_fd(parent, 0), Err(EBADFD));
        assert_eq!(return_fdtable_copy(child)[&0].perfdinfo, 7);
        remove_cage_from_fdtable(child);
        assert!(!check_cage_exists(child) && check_cage_exists(parent));
    }

    #[test]
    fn a_cage_that_is_not_known_is_an_error_and_no_panic() {
        let cage = 1 << 50;
        assert_eq!(translate_virtual_fd(cage, 0), Err(EBADF));
        assert_eq!(get_unused_virtual_fd(cage, 0, 0, false, 0), Err(EBADF));
        assert_eq!(get_specific_virtual_fd(cage, 0, 0, 0, false, 0), Err(EBADF));
        assert_eq!(set_cloexec(cage, 0, true), Err(EBADF));
        assert_eq!(set_perfdinfo(cage, 0, 1), Err(EBADF));
        assert_eq!(close_virtualfd(cage, 0), Err(EBADF));
        empty_fds_for_exec(cage);
        remove_cage_from_fdtable(cage);
        assert!(return_fdtable_copy(cage).is_empty());
        copy_fdtable_for_cage(cage, cage + 1).unwrap();
        assert!(check_cage_exists(cage + 1));
    }

    /// The handlers use the tables themselves, and each close is told with what is left.
    #[test]
    fn handlers_are_told_how_many_are_left() {
        static SEEN: Mutex<Vec<(u64, u64, bool)>> = Mutex::new(Vec::new());
        fn before(entry: FDTableEntry, left: u64) -> Result<(), i32> {
            SEEN.lock().unwrap().push((entry.underfd, left, false));
            Ok(())
        }
        fn last(entry: FDTableEntry, left: u64) -> Result<(), i32> {
            // That the tables can be used here.
            assert!(!check_cage_exists(1 << 51));
            SEEN.lock().unwrap().push((entry.underfd, left, true));
            Err(5)
        }
        const KIND: u32 = 77;
        register_close_handlers(KIND, before, last);
        let [cage] = cages();
        let child = cage + (1 << 41);
        get_specific_virtual_fd(cage, 3, KIND, 30, true, 0).unwrap();
        get_specific_virtual_fd(cage, 4, KIND, 30, false, 0).unwrap();
        copy_fdtable_for_cage(cage, child).unwrap();
        // The same once more: one that goes, and not the last.
        get_specific_virtual_fd(cage, 3, KIND, 30, true, 0).unwrap();
        empty_fds_for_exec(cage);
        close_virtualfd(cage, 4).unwrap();
        remove_cage_from_fdtable(child);
        let seen = SEEN.lock().unwrap().clone();
        assert_eq!(
            seen,
            [
                (30, 4, false),
                (30, 3, false),
                (30, 2, false),
                (30, 1, false),
                (30, 0, true)
            ]
        );
    }
}
