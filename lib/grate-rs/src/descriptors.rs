//! What a grate keeps of the descriptors of its cages: by cage and number, following dup, fork,
//! exec and exit.
//!
//! A note is what a call is judged by, so it has to stand for what the call will meet. Three rules
//! see to that, whoever makes calls on a cage at one time (its threads, or a program that is the
//! cage's grate):
//!
//! - A number is held while a call is judged and carried out ([`Descriptors::hold`]), and what is
//!   held is neither closed nor replaced: who wants to waits until it is free, and gets EBUSY where
//!   that takes long, as with a call that waits for a peer.
//! - A number that is being closed or replaced can't be held (as before), and what was known of it
//!   is known no more when that is done. A new descriptor is not known until it is noted: who
//!   meets it before waits while something is being opened, and has to find out what it is then.
//! - What is known of a cage is forgotten when it is gone, or when it has said that it will end;
//!   but then no call on its descriptors is served any more, whatever comes of the end.

use crate::constants::{SYS_FCNTL, SYS_GETPID, SYS_GETPPID, error, fs};
use crate::kernel::{self, int};
use crate::{Call, Errno, is_thread_clone};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

const EBUSY: Errno = Errno(error::EBUSY);
const ESRCH: Errno = Errno(error::ESRCH);

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

/// What is known of a number, and who uses it.
#[derive(Debug)]
struct Slot<T> {
    what: Option<T>,
    pin: Arc<Pin>,
}

#[derive(Debug, Default)]
struct Pin {
    holders: AtomicU32,
    /// Whether it is being closed or replaced.
    is_changing: AtomicBool,
    /// How many wait until they can close or replace it.
    wanted: AtomicU32,
}

impl Pin {
    fn is_changing(&self) -> bool {
        self.is_changing.load(Ordering::Relaxed)
    }

    fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) > 0
    }

    fn is_held(&self) -> bool {
        self.holders.load(Ordering::Relaxed) > 0
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self {
            what: None,
            pin: Arc::default(),
        }
    }
}

/// Hashes descriptors. The runtime gives out cages and numbers one after the other and few at a time, so nobody can look for
/// ones that collide; and each call asks here.
#[derive(Debug, Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(byte.into());
        }
    }

    fn write_u64(&mut self, word: u64) {
        // Odd, and with its bits everywhere: the golden ratio.
        self.0 = (self.0.rotate_left(31) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_i32(&mut self, word: i32) {
        self.write_u64(word as u64);
    }
}

#[derive(Debug)]
struct Table<T> {
    slots: HashMap<CageFd, Slot<T>, BuildHasherDefault<Mixed>>,
    /// Cages that have said that they end.
    ending: HashSet<u64>,
    /// How many descriptors are being opened in a cage that are not noted yet.
    opening: HashMap<u64, u32>,
    /// How many cages there may be before it is looked whether they are still there.
    many: usize,
}

/// The descriptors that a grate knows, with what it knows. It has to find out about the others, or
/// refuse them.
///
/// The methods that take a [`Call`] pass it on and follow what it did: they are the handlers of
/// the calls that they are named after.
#[derive(Debug)]
pub struct Descriptors<T>(RwLock<Table<T>>);

impl<T> Default for Descriptors<T> {
    fn default() -> Self {
        Self(RwLock::new(Table {
            slots: HashMap::default(),
            ending: HashSet::new(),
            opening: HashMap::new(),
            many: Self::FEW,
        }))
    }
}

/// A number that stays what it is until this is dropped.
#[derive(Debug)]
pub struct Held<'a, T: Clone> {
    table: &'a Descriptors<T>,
    fd: CageFd,
    what: Option<T>,
    pin: Arc<Pin>,
}

impl<T: Clone> Held<'_, T> {
    /// The descriptor.
    pub fn fd(&self) -> CageFd {
        self.fd
    }

    /// What is known of it.
    pub fn what(&self) -> Option<&T> {
        self.what.as_ref()
    }

    /// Notes what was found out about a descriptor that nothing is known of. Where another has
    /// noted something meanwhile, that counts.
    pub fn learn(&mut self, what: T) {
        let mut table = self.table.write();
        if table.ending.contains(&self.fd.cage) {
            return;
        }
        let slot = table.slots.entry(self.fd).or_default();
        if Arc::ptr_eq(&slot.pin, &self.pin) {
            self.what = Some(slot.what.get_or_insert(what).clone());
        }
    }
}

impl<T: Clone> Drop for Held<'_, T> {
    fn drop(&mut self) {
        self.pin.holders.fetch_sub(1, Ordering::Release);
        if self.what.is_none() {
            self.table.write().tidy(self.fd);
        }
    }
}

/// See [`Descriptors::opening`].
#[derive(Debug)]
pub struct Opening<'a, T> {
    table: &'a Descriptors<T>,
    cage: u64,
}

impl<T> Drop for Opening<'_, T> {
    fn drop(&mut self) {
        let mut table = self.table.write();
        if let Entry::Occupied(mut entry) = table.opening.entry(self.cage) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

impl<T> Table<T> {
    /// Drops a slot that says nothing.
    fn tidy(&mut self, fd: CageFd) {
        let says_nothing =
            |slot: &Slot<T>| slot.what.is_none() && !slot.pin.is_held() && !slot.pin.is_changing();
        if self.slots.get(&fd).is_some_and(says_nothing) {
            self.slots.remove(&fd);
        }
    }

    fn put(&mut self, fd: CageFd, what: Option<T>) {
        if self.ending.contains(&fd.cage) {
            return;
        }
        let slot = self.slots.entry(fd).or_default();
        if slot.pin.is_changing() {
            // Who changes it sees by the pin that there is another descriptor now.
            *slot = Slot::default();
        }
        slot.what = what;
        self.tidy(fd);
    }
}

/// How often somebody who is in nobody's way lets others run, and then naps for a millisecond,
/// until what others are in the way of can be done.
const YIELDS: u32 = 16;
const NAPS: u32 = 50;
/// Naps in which somebody who would hold a number gives way to who wants to close it. No more, as
/// one call may hold a number twice.
const POLITE_NAPS: u32 = 5;

/// Tries something that others are in the way of, for some 50 ms. `attempt` is told how often it
/// was tried.
fn patiently<T>(mut attempt: impl FnMut(u32) -> Result<T, Errno>) -> Result<T, Errno> {
    let mut tries = 0;
    loop {
        match attempt(tries) {
            Err(EBUSY) if tries < YIELDS => std::thread::yield_now(),
            Err(EBUSY) if tries < YIELDS + NAPS => {
                std::thread::sleep(Duration::from_millis(1));
            }
            other => return other,
        }
        tries += 1;
    }
}

/// What becomes of a number when a change of it is over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    /// It is what it was.
    Same,
    /// Nothing is known of it.
    Gone,
}

impl<T> Descriptors<T> {
    /// Cages are not looked after while there are no more.
    const FEW: usize = 16;

    fn read(&self) -> RwLockReadGuard<'_, Table<T>> {
        self.0.read().unwrap_or_else(|e| e.into_inner())
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table<T>> {
        self.0.write().unwrap_or_else(|e| e.into_inner())
    }
}

impl<T: Clone> Descriptors<T> {
    /// What is known of a descriptor. For a look: who acts by it holds it.
    pub fn get(&self, fd: CageFd) -> Option<T> {
        self.read().slots.get(&fd)?.what.clone()
    }

    /// Keeps a number what it is.
    ///
    /// # Errors
    /// EBUSY while it is being closed or replaced; ESRCH where its cage is ending.
    pub fn hold(&self, fd: CageFd) -> Result<Held<'_, T>, Errno> {
        patiently(|tries| self.try_hold(fd, tries))
    }

    fn try_hold(&self, fd: CageFd, tries: u32) -> Result<Held<'_, T>, Errno> {
        let held = |slot: &Slot<T>| {
            let gives_way = tries < YIELDS + POLITE_NAPS && slot.pin.is_wanted();
            if slot.pin.is_changing() || gives_way {
                return Err(EBUSY);
            }
            slot.pin.holders.fetch_add(1, Ordering::Acquire);
            Ok(Held {
                table: self,
                fd,
                what: slot.what.clone(),
                pin: Arc::clone(&slot.pin),
            })
        };
        // Changes are made under the other lock: none comes between look and hold.
        let table = self.read();
        let slot = table.slots.get(&fd);
        let is_unknown = slot.is_none_or(|slot| slot.what.is_none());
        if is_unknown && tries < YIELDS + NAPS && table.opening.contains_key(&fd.cage) {
            return Err(EBUSY);
        }
        if let Some(slot) = slot {
            return held(slot);
        }
        drop(table);
        let mut table = self.write();
        if table.ending.contains(&fd.cage) {
            return Err(ESRCH);
        }
        held(table.slots.entry(fd).or_default())
    }

    /// Says that a descriptor is being opened in a cage, until the answer is dropped: others there
    /// wait a moment for it to be noted.
    pub fn opening(&self, cage: u64) -> Opening<'_, T> {
        *self.write().opening.entry(cage).or_default() += 1;
        Opening { table: self, cage }
    }

    /// Notes a new descriptor, or that nothing is known of it.
    pub fn note(&self, fd: CageFd, what: Option<T>) {
        self.write().put(fd, what);
    }

    /// The descriptors of a cage.
    pub fn of_cage(&self, cage: u64) -> Vec<(CageFd, T)> {
        let table = self.read();
        let of_cage = table.slots.iter().filter(|(fd, _)| fd.cage == cage);
        of_cage
            .filter_map(|(fd, slot)| Some((*fd, slot.what.clone()?)))
            .collect()
    }

    /// The descriptors of a cage that exec will close, by what the kernel says now.
    pub fn closed_by_exec(&self, cage: u64) -> Vec<CageFd> {
        let all = self.of_cage(cage).into_iter().map(|(fd, _)| fd);
        all.filter(|fd| descriptor_flags(*fd).is_ok_and(|flags| flags & fs::FD_CLOEXEC != 0))
            .collect()
    }

    /// The descriptors of any cage of which that is known.
    pub fn all_where(&self, is: impl Fn(&T) -> bool) -> Vec<CageFd> {
        let table = self.read();
        let matching = table
            .slots
            .iter()
            .filter(|(_, slot)| slot.what.as_ref().is_some_and(&is));
        matching.map(|(fd, _)| *fd).collect()
    }

    /// Forgets what a cage had that is gone.
    pub fn forget_cage(&self, cage: u64) {
        let mut table = self.write();
        table.slots.retain(|fd, _| fd.cage != cage);
        table.ending.remove(&cage);
    }

    /// A cage says that it ends: from now on nothing is done through its descriptors. Answers those
    /// that somebody else is just doing something through.
    pub fn end_cage(&self, cage: u64) -> Vec<CageFd> {
        let mut table = self.write();
        table.ending.insert(cage);
        let mut held = Vec::new();
        table.slots.retain(|fd, slot| {
            if fd.cage == cage && slot.pin.is_held() {
                held.push(*fd);
            }
            fd.cage != cage
        });
        held
    }

    /// Cages of which something is known and that are no more: those that have said that they end,
    /// and, whenever there are many more than before, all others. Who asks forgets them.
    pub fn departed(&self) -> Vec<u64> {
        let (cages, is_full) = {
            let table = self.read();
            let mut cages = table.ending.clone();
            let all: HashSet<u64> = table.slots.keys().map(|fd| fd.cage).collect();
            let is_full = all.len() > table.many;
            if is_full {
                cages.extend(all);
            }
            (cages, is_full)
        };
        let total = cages.len();
        let gone: Vec<u64> = cages.into_iter().filter(|cage| is_gone(*cage)).collect();
        if is_full {
            self.write().many = Self::FEW + 2 * (total - gone.len());
        }
        gone
    }

    /// Does what closes or replaces descriptors, and settles what is known of them.
    fn change(
        &self,
        fds: &[CageFd],
        act: impl FnOnce() -> Result<i32, Errno>,
        after: impl Fn(CageFd, Result<i32, Errno>) -> After,
    ) -> Result<i32, Errno> {
        let pins = match self.begin(fds) {
            Err(EBUSY) => self.begin_in_turn(fds),
            begun => begun,
        }?;
        let result = act();
        // Asked before the lock is taken: it may take a call.
        let settled: Vec<_> = pins
            .into_iter()
            .map(|(fd, pin)| (fd, pin, after(fd, result)))
            .collect();
        let mut table = self.write();
        for (fd, pin, after) in settled {
            pin.is_changing.store(false, Ordering::Relaxed);
            match table.slots.get_mut(&fd) {
                Some(slot) if Arc::ptr_eq(&slot.pin, &pin) => {
                    if after == After::Gone {
                        slot.what = None;
                    }
                }
                // A new descriptor has the number already.
                _ => continue,
            }
            table.tidy(fd);
        }
        result
    }

    /// As `begin`, of numbers that somebody uses just now.
    fn begin_in_turn(&self, fds: &[CageFd]) -> Result<Vec<(CageFd, Arc<Pin>)>, Errno> {
        let wanted: Vec<Arc<Pin>> = {
            let table = self.read();
            let slots = fds.iter().filter_map(|fd| table.slots.get(fd));
            slots.map(|slot| Arc::clone(&slot.pin)).collect()
        };
        for pin in &wanted {
            pin.wanted.fetch_add(1, Ordering::Relaxed);
        }
        let begun = patiently(|_| self.begin(fds));
        for pin in &wanted {
            pin.wanted.fetch_sub(1, Ordering::Relaxed);
        }
        begun
    }

    fn begin(&self, fds: &[CageFd]) -> Result<Vec<(CageFd, Arc<Pin>)>, Errno> {
        let mut table = self.write();
        let mut pins: Vec<(CageFd, Arc<Pin>)> = Vec::with_capacity(fds.len());
        for &fd in fds {
            let pin = Arc::clone(&table.slots.entry(fd).or_default().pin);
            if pin.is_changing() || pin.is_held() {
                for (fd, pin) in pins {
                    pin.is_changing.store(false, Ordering::Relaxed);
                    table.tidy(fd);
                }
                return Err(EBUSY);
            }
            pin.is_changing.store(true, Ordering::Relaxed);
            pins.push((fd, pin));
        }
        Ok(pins)
    }

    /// close: descriptor.
    ///
    /// # Errors
    /// What the call answered; EBUSY; so for all that follow.
    pub fn close(&self, call: &Call) -> Result<i32, Errno> {
        let fd = CageFd::of(call, 0);
        let act = || call.forward(fd.cage);
        self.change(&[fd], act, |fd, result| match result {
            // Most errors of a close come from what it has closed.
            Err(_) if descriptor_flags(fd).is_ok() => After::Same,
            _ => After::Gone,
        })
    }

    /// Copies a descriptor by a call that answers the copy.
    fn copy(&self, from: CageFd, act: impl FnOnce() -> Result<i32, Errno>) -> Result<i32, Errno> {
        let held = self.hold(from)?;
        let fd = act()?;
        self.note(CageFd { fd, ..from }, held.what().cloned());
        Ok(fd)
    }

    /// Copies a descriptor to a number that the call names.
    fn copy_to(&self, call: &Call) -> Result<i32, Errno> {
        let from = CageFd::of(call, 0);
        let to = CageFd {
            fd: call.int(1),
            ..from
        };
        if from.fd == to.fd {
            return call.forward(from.cage);
        }
        let act = || self.copy(from, || call.forward(from.cage));
        self.change(&[to], act, |_, result| match result {
            Ok(_) => After::Gone,
            Err(_) => After::Same,
        })
    }

    /// dup: descriptor.
    ///
    /// # Errors
    /// As dup(2).
    pub fn dup(&self, call: &Call) -> Result<i32, Errno> {
        let from = CageFd::of(call, 0);
        self.copy(from, || call.forward(from.cage))
    }

    /// dup2: descriptor, the number it gets.
    ///
    /// # Errors
    /// As dup2(2).
    pub fn dup2(&self, call: &Call) -> Result<i32, Errno> {
        self.copy_to(call)
    }

    /// dup3: descriptor, the number it gets, flags.
    ///
    /// # Errors
    /// As dup3(2).
    pub fn dup3(&self, call: &Call) -> Result<i32, Errno> {
        self.copy_to(call)
    }

    /// fcntl: descriptor, command, number. Follows the copying commands.
    ///
    /// # Errors
    /// As fcntl(2).
    pub fn fcntl(&self, call: &Call) -> Result<i32, Errno> {
        let from = CageFd::of(call, 0);
        match call.int(1) {
            fs::F_DUPFD | fs::F_DUPFD_CLOEXEC => self.copy(from, || call.forward(from.cage)),
            _ => call.forward(from.cage),
        }
    }

    /// clone: a fork's child has its parent's descriptors.
    ///
    /// # Errors
    /// As clone(2).
    pub fn clone_cage(&self, call: &Call) -> Result<i32, Errno> {
        let parent = call.cage_of(0);
        // Only whether it is worth a question: the child itself says what it is.
        let is_thread = !call.is_null(0) && is_thread_clone(call.size(0), parent);
        let before: Vec<(CageFd, Arc<Pin>)> = {
            let table = self.read();
            let of_parent = table.slots.iter().filter(|(fd, _)| fd.cage == parent);
            of_parent
                .map(|(fd, slot)| (*fd, Arc::clone(&slot.pin)))
                .collect()
        };
        let child = call.forward(parent)?;
        if child > 0 && !is_thread {
            let cage = child as u64;
            if kernel::call(SYS_GETPPID, cage, &[]).is_ok_and(|id| id as u64 == parent) {
                self.inherit(&before, cage);
            }
        }
        Ok(child)
    }

    /// Gives a new cage what its parent had at the fork: what was the same before and after it.
    fn inherit(&self, before: &[(CageFd, Arc<Pin>)], cage: u64) {
        let mut table = self.write();
        if table.ending.contains(&cage) || table.slots.keys().any(|fd| fd.cage == cage) {
            return;
        }
        for (fd, pin) in before {
            let same = table
                .slots
                .get(fd)
                .filter(|slot| Arc::ptr_eq(&slot.pin, pin) && !pin.is_changing());
            if let Some(what) = same.and_then(|slot| slot.what.clone()) {
                table.put(CageFd { cage, ..*fd }, Some(what));
            }
        }
    }

    /// execve: descriptors marked so are closed. Others are left alone where somebody is using
    /// them: a thread that waits for a peer is no reason not to become another program.
    ///
    /// # Errors
    /// As execve(2).
    pub fn execve(&self, call: &Call) -> Result<i32, Errno> {
        let cage = call.cage_of(0);
        let all: Vec<(CageFd, bool)> = {
            let table = self.read();
            let of_cage = table.slots.iter().filter(|(fd, _)| fd.cage == cage);
            of_cage
                .map(|(fd, slot)| (*fd, slot.pin.is_held()))
                .collect()
        };
        let closed = |fd| descriptor_flags(fd).is_ok_and(|flags| flags & fs::FD_CLOEXEC != 0);
        let all = all.into_iter().filter(|&(fd, held)| !held || closed(fd));
        let all: Vec<CageFd> = all.map(|(fd, _)| fd).collect();
        let act = || call.forward(cage);
        self.change(&all, act, |fd, result| match result {
            Ok(_) if descriptor_flags(fd).is_err() => After::Gone,
            _ => After::Same,
        })
    }

    /// exit_group. The cage is served no more from here on.
    ///
    /// # Errors
    /// None in practice.
    pub fn exit(&self, call: &Call) -> Result<i32, Errno> {
        let cage = call.cage_of(0);
        self.end_cage(cage);
        call.forward(cage)
    }

    /// wait4: who was waited for is gone.
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

/// The flags of a descriptor, if there is one of that number.
fn descriptor_flags(fd: CageFd) -> Result<i32, Errno> {
    let args = [fd.arg(), int(fd.cage, fs::F_GETFD), int(fd.cage, 0)];
    kernel::call(SYS_FCNTL, fd.cage, &args)
}

fn is_gone(cage: u64) -> bool {
    kernel::call(SYS_GETPID, cage, &[]) == Err(ESRCH)
}
