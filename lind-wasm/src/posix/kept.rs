//! Locks that are not given back at once.
//!
//! A grate that keeps others out of a file while it changes it takes a lock and gives it back for every
//! change, and has to find out each time whether anybody came in between. With these calls the runtime
//! keeps the lock for a few milliseconds after it was given back, in the grate's name: who takes it again
//! meanwhile has it without the kernel, and is told that nobody can have come. A thread of the runtime
//! gives back what nobody took again. So whoever waits for the lock, in whichever process, waits for no
//! longer than that.
//!
//! The lock is one of the open file description (`F_OFD_SETLKW`), on the last byte that a file could have.
//! It is for grates, which lock a file of another cage's; and not for those whose own `fcntl` a grate
//! serves, as it would go past that one.

use super::fds::description_lock;
use super::io::{position, pwrite_to};
use super::{Call, Entry};
use crate::ids::CageId;
use calls::{FCNTL, PWRITE};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

pub(super) const CALLS: &[Entry] = &[
    Entry::new(1105, take),
    Entry::new(1106, give),
    Entry::new(1110, pwrite_kept),
];

/// How long a lock that was given back is kept, at least; twice that at most.
const KEPT: Duration = Duration::from_millis(4);

/// Locks that are kept at a time. Others are given back at once.
const MOST: usize = 64;

/// The byte that is locked.
pub(super) const PLACE: i64 = i64::MAX;

/// What tells a file from all others: its file system and inode.
type Inode = (u64, u64);

struct Lock {
    file: Weak<OwnedFd>,
    inode: Inode,
    /// Who has it: another cage with the same description must not think that it has been alone.
    owner: CageId,
    /// Where it was given back and is kept: then the description must not go without being unlocked, as
    /// another descriptor may have it too.
    kept: Option<Arc<OwnedFd>>,
    /// Whether it is given back for good at the end.
    is_due: bool,
}

#[derive(Default)]
struct Locks {
    locks: Vec<Lock>,
    /// Whether the thread waits until there is a lock.
    is_idle: bool,
}

static LOCKS: Mutex<Locks> = Mutex::new(Locks {
    locks: Vec::new(),
    is_idle: false,
});
static WAKE: Condvar = Condvar::new();

fn locks() -> MutexGuard<'static, Locks> {
    LOCKS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Locks {
    fn of(&mut self, file: &Arc<OwnedFd>) -> Option<usize> {
        self.locks
            .iter()
            .position(|lock| lock.file.as_ptr() == Arc::as_ptr(file))
    }

    /// Takes a lock that is kept for its owner. Answers whether there was one.
    fn take(&mut self, file: &Arc<OwnedFd>, owner: CageId) -> bool {
        let Some(at) = self.of(file) else {
            return false;
        };
        let lock = &mut self.locks[at];
        lock.owner == owner && lock.kept.take().is_some()
    }

    /// Gives a lock back, at once or soon.
    fn give(&mut self, file: Arc<OwnedFd>, owner: CageId) {
        let Some(at) = self.of(&file) else {
            return unlock(&file);
        };
        let lock = &mut self.locks[at];
        if lock.owner != owner {
            // It is the other one's now.
            return;
        }
        if lock.is_due {
            self.locks.swap_remove(at);
            return unlock(&file);
        }
        lock.kept = Some(file);
        if self.is_idle {
            WAKE.notify_one();
        }
    }

    /// Gives back all that nobody has taken, and sees to it that the others are soon.
    fn end(&mut self) {
        self.locks.retain_mut(Lock::end);
    }

    /// The same with those of one file. Whoever is next may have the description of one of them, by another
    /// descriptor: what is unlocked through one is so for both.
    fn end_of(&mut self, inode: Inode) {
        self.locks
            .retain_mut(|lock| lock.inode != inode || lock.end());
    }
}

impl Lock {
    /// Gives it back, or sees to it that it is soon. Answers whether it is still to be given back.
    fn end(&mut self) -> bool {
        if let Some(file) = &self.kept {
            unlock(file);
            return false;
        }
        self.is_due = true;
        // The lock of who ended with it goes with the last descriptor.
        self.file.strong_count() > 0
    }
}

fn set(file: &OwnedFd, command: i32, kind: i32) -> Result<i32, Errno> {
    description_lock(
        file,
        command,
        &mut libc::flock {
            // One of three small numbers.
            l_type: kind as i16,
            l_whence: libc::SEEK_SET as i16,
            l_start: PLACE,
            l_len: 1,
            l_pid: 0,
        },
    )
}

fn unlock(file: &OwnedFd) {
    // What can't be unlocked ends with its description.
    let _ = set(file, libc::F_OFD_SETLK, libc::F_UNLCK);
}

/// Gives back what is kept, for who may wait for it.
pub(super) fn end_all() {
    let mut locks = locks();
    if !locks.locks.is_empty() {
        locks.end();
    }
}

/// Before a descriptor is closed: its open file description may live on, and with it the lock.
pub(super) fn end(file: &Arc<OwnedFd>) {
    let mut locks = locks();
    if let Some(at) = locks.of(file)
        && !locks.locks[at].end()
    {
        locks.locks.swap_remove(at);
    }
}

/// The thread that gives back what was kept for long enough.
fn watch() {
    let mut locks = locks();
    loop {
        while locks.locks.is_empty() {
            locks.is_idle = true;
            locks = WAKE.wait(locks).unwrap_or_else(PoisonError::into_inner);
        }
        locks.is_idle = false;
        drop(locks);
        thread::sleep(KEPT);
        locks = self::locks();
        locks.end();
    }
}

/// Whether there is a thread to give locks back.
fn is_watched() -> bool {
    static WATCHED: LazyLock<bool> = LazyLock::new(|| {
        let watching = thread::Builder::new().name("locks".into()).spawn(watch);
        watching.is_ok()
    });
    *WATCHED
}

/// `EPERM` for a descriptor of the caller's own, `ENOSYS` for a caller some grate of whose serves what would go past
/// it: `fcntl`, and other calls where there are any.
fn check(call: &Call<'_>, others: &[u32]) -> Result<(), Errno> {
    if Arc::ptr_eq(call.caller, call.target) {
        return Err(Errno::PERM);
    }
    let leads_to_kernel = |nr: &u32| call.caller.handlers.leads_to_kernel(*nr);
    if leads_to_kernel(&FCNTL) && others.iter().all(leads_to_kernel) {
        Ok(())
    } else {
        Err(Errno::NOSYS)
    }
}

/// take_lock: descriptor. Waits for the lock. 1 if the caller has had it all the time since it gave it back, 0
/// if not.
fn take(call: &Call<'_>) -> Result<i32, Errno> {
    check(call, &[])?;
    let file = call.target_file(0)?;
    {
        let mut locks = locks();
        if locks.take(&file, call.caller.id) {
            return Ok(1);
        }
        if let Some(at) = locks.of(&file) {
            locks.locks.swap_remove(at);
        }
    }
    let stat = rustix::fs::fstat(&file)?;
    let inode = (stat.st_dev, stat.st_ino);
    locks().end_of(inode);
    if set(&file, libc::F_OFD_SETLK, libc::F_WRLCK).is_err() {
        // Perhaps it is another one of this process that it is kept for.
        end_all();
        set(&file, libc::F_OFD_SETLKW, libc::F_WRLCK)?;
    }
    let mut locks = locks();
    if locks.locks.len() < MOST && is_watched() {
        locks.locks.push(Lock {
            file: Arc::downgrade(&file),
            inode,
            owner: call.caller.id,
            kept: None,
            is_due: false,
        });
    }
    Ok(0)
}

/// give_lock: descriptor. Gives the lock back, within a few milliseconds.
fn give(call: &Call<'_>) -> Result<i32, Errno> {
    check(call, &[])?;
    let file = call.target_file(0)?;
    locks().give(file, call.caller.id);
    Ok(0)
}

/// pwrite_kept: descriptor, address, length, offset. Writes as `pwrite64` does if the lock has been the caller's since it gave
/// it back: it is taken and given back for that. Else nothing is written, `ENOLCK`. Without bytes it only asks.
fn pwrite_kept(call: &Call<'_>) -> Result<i32, Errno> {
    check(call, &[PWRITE])?;
    let offset = position(call, 3)?;
    let file = call.target_file(0)?;
    {
        let mut locks = locks();
        if !locks.take(&file, call.caller.id) {
            return Err(Errno::NOLCK);
        }
        if call.raw(2) == 0 {
            locks.give(file, call.caller.id);
            return Ok(0);
        }
    }
    let written = pwrite_to(&file, offset, call);
    locks().give(file, call.caller.id);
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posix::testing::Fixture;

    fn is_free(file: &OwnedFd) -> bool {
        let mut lock = libc::flock {
            l_type: libc::F_WRLCK as i16,
            l_whence: libc::SEEK_SET as i16,
            l_start: PLACE,
            l_len: 1,
            l_pid: 0,
        };
        description_lock(file, libc::F_OFD_GETLK, &mut lock).unwrap();
        lock.l_type == libc::F_UNLCK as i16
    }

    /// A cage with two descriptions of one file, and another one that locks it.
    struct Opened {
        cage: Fixture,
        grate: Fixture,
        fds: [u64; 2],
    }

    impl Opened {
        fn new() -> Self {
            const READ_WRITE_CREATE: u64 = 0o102;
            let cage = Fixture::new();
            let path = cage.text("file");
            let open = || cage.call(2, &[path, READ_WRITE_CREATE, 0o600]).unwrap() as u64;
            let fds = [open(), open()];
            let grate = Fixture::new();
            Self { cage, grate, fds }
        }

        fn call(&self, nr: u32, fd: u64) -> Result<i32, Errno> {
            self.cage.call_by(&self.grate.cage, nr, &[fd])
        }

        fn file(&self, fd: u64) -> Arc<OwnedFd> {
            self.cage.cage.fds().get(fd as i32).unwrap().file.clone()
        }
    }

    #[test]
    fn who_comes_back_is_told_that_nobody_came() {
        let opened = Opened::new();
        let [fd, other] = opened.fds;
        // The thread may come in between, but not each time.
        let kept = (0..1000).any(|_| {
            let kept = opened.call(1105, fd).unwrap() == 1;
            assert!(!is_free(&opened.file(other)), "it is locked");
            assert_eq!(opened.call(1106, fd), Ok(0));
            kept
        });
        assert!(kept);
        // Another description gets it, whatever is kept, and the first one is told.
        assert_eq!(opened.call(1105, other), Ok(0));
        assert!(!is_free(&opened.file(fd)));
        assert_eq!(opened.call(1106, other), Ok(0));
        assert_eq!(opened.call(1105, fd), Ok(0));
        assert_eq!(opened.call(1106, fd), Ok(0));
    }

    #[test]
    fn what_nobody_takes_again_is_given_back() {
        let opened = Opened::new();
        let [fd, other] = opened.fds;
        assert_eq!(opened.call(1105, fd), Ok(0));
        assert_eq!(opened.call(1106, fd), Ok(0));
        // Waits for as long as it takes.
        set(&opened.file(other), libc::F_OFD_SETLKW, libc::F_WRLCK).unwrap();
        assert!(!is_free(&opened.file(fd)));
    }

    /// pwrite_kept of bytes that lie in the cage's memory.
    fn written(opened: &Opened, fd: u64, bytes: &[u8], offset: u64) -> Result<i32, Errno> {
        let at = opened.cage.put(0x2000, bytes);
        let args = [fd, at, bytes.len() as u64, offset];
        opened.cage.call_by(&opened.grate.cage, 1110, &args)
    }

    #[test]
    fn who_has_it_no_more_writes_nothing() {
        let opened = Opened::new();
        let [fd, other] = opened.fds;
        assert_eq!(written(&opened, fd, b"never taken", 0), Err(Errno::NOLCK));
        assert_eq!(opened.call(1105, fd), Ok(0));
        assert_eq!(written(&opened, fd, b"it is taken", 0), Err(Errno::NOLCK));
        assert_eq!(opened.call(1106, fd), Ok(0));
        // Another description has it now, and keeps it.
        assert_eq!(opened.call(1105, other), Ok(0));
        assert_eq!(opened.call(1106, other), Ok(0));
        assert_eq!(written(&opened, fd, b"another's", 0), Err(Errno::NOLCK));
        assert_eq!(rustix::fs::fstat(opened.file(fd)).unwrap().st_size, 0);
        // The thread may come in between, but not each time.
        let mut size = 0;
        for _ in 0..1000 {
            assert!(opened.call(1105, fd).is_ok());
            assert_eq!(opened.call(1106, fd), Ok(0));
            match written(&opened, fd, b"kept", size) {
                Ok(len) => size += len as u64,
                lost => assert_eq!(lost, Err(Errno::NOLCK)),
            }
            if size >= 8 {
                break;
            }
        }
        assert_eq!(size, 8);
        let mut found = [0; 9];
        assert_eq!(rustix::io::pread(opened.file(fd), &mut found, 0), Ok(8));
        assert_eq!(&found[..8], b"keptkept");
        // It was given back, for who waits.
        set(&opened.file(other), libc::F_OFD_SETLKW, libc::F_WRLCK).unwrap();
    }

    #[test]
    fn mistakes_are_those_of_pwrite() {
        let opened = Opened::new();
        let fd = opened.fds[0];
        let kept = |bytes: &[u8], offset| loop {
            assert!(opened.call(1105, fd).is_ok());
            assert_eq!(opened.call(1106, fd), Ok(0));
            match written(&opened, fd, bytes, offset) {
                Err(Errno::NOLCK) => {}
                answer => break answer,
            }
        };
        assert_eq!(kept(b"x", u64::MAX), Err(Errno::INVAL));
        assert_eq!(kept(b"", 5), Ok(0));
        assert_eq!(written(&opened, 77, b"x", 0), Err(Errno::BADF));
    }

    #[test]
    fn a_closed_descriptor_leaves_no_lock_behind() {
        let opened = Opened::new();
        let [fd, other] = opened.fds;
        let _twin = opened.cage.call(32, &[fd]).unwrap();
        assert_eq!(opened.call(1105, fd), Ok(0));
        assert_eq!(opened.call(1106, fd), Ok(0));
        assert_eq!(opened.cage.call(3, &[fd]), Ok(0));
        assert!(is_free(&opened.file(other)), "though it is open elsewhere");
        assert_eq!(opened.call(1105, fd), Err(Errno::BADF));
        assert_eq!(opened.call(1106, fd), Err(Errno::BADF));
    }

    /// Two descriptors of one description have one lock.
    #[test]
    fn what_is_unlocked_through_a_twin_is_not_kept() {
        let opened = Opened::new();
        let [fd, other] = opened.fds;
        let twin = opened.cage.call(32, &[fd]).unwrap() as u64;
        for fd in [twin, fd] {
            assert_eq!(opened.call(1105, fd), Ok(0));
            assert_eq!(opened.call(1106, fd), Ok(0));
        }
        assert_eq!(
            written(&opened, twin, b"it is its twin's", 0),
            Err(Errno::NOLCK)
        );
        assert_eq!(opened.cage.call(3, &[twin]), Ok(0));
        // Somebody else has it, sooner or later, and no longer.
        let file = opened.file(other);
        set(&file, libc::F_OFD_SETLKW, libc::F_WRLCK).unwrap();
        assert_eq!(written(&opened, fd, b"another's", 0), Err(Errno::NOLCK));
        unlock(&file);
        assert_eq!(rustix::fs::fstat(&file).unwrap().st_size, 0);
    }

    #[test]
    fn it_is_for_files_of_others() {
        let opened = Opened::new();
        for nr in [1105, 1106, 1110] {
            assert_eq!(opened.cage.call(nr, &[opened.fds[0]]), Err(Errno::PERM));
        }
    }
}
