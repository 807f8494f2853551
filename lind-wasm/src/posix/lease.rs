//! Leases: a grate is told when somebody may change a file, so that it need not look each time.
//!
//! The kernel lends a file for reading (`F_SETLEASE` of fcntl(2)) as long as nobody, in whichever process,
//! has it open for writing. Who opens it so, or cuts it, waits until the lease is given back. A thread of the
//! runtime does that as soon as it is asked to, and says first that the lease is over. So what was read of the
//! file since the lease was taken is what is there, for as long as the lease lasts; and a grate that has some of
//! it at hand passes it on by a copy that is made if the lease lasts, with no call to the kernel.
//!
//! A lease is not the cages' own: it is taken through an open file description that is used for nothing else. So it
//! ends with that, and no cage can take it away or have another told of its end.
//!
//! Who waits for nobody is refused while there is a lease, and comes again. So a file whose lease was asked back has
//! none for a while: or a reader who is fast would have the next one whenever he comes.
//!
//! Who waits for a lease waits no longer than `lease-break-time`; then the kernel goes on without being answered. A
//! process that was stopped for so long knows nothing of it. So the thread says every now and then that it is
//! awake, and no lease lasts where it has not said so for a while.

use super::{Call, Entry};
use crate::errno::last_error;
use calls::{FCNTL, PREAD};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::thread;
use std::time::{Duration, Instant};

pub(super) const CALLS: &[Entry] = &[Entry::new(1107, take), Entry::new(1108, copy)];

/// Leases at a time. Other files are looked at.
const MOST: usize = 64;
/// Each takes a descriptor of the runtime's, which cages lack then: of so many one may be for a lease.
const SHARE: u64 = 16;

/// Seconds after which the thread says that it is awake, and for how many that counts.
const BEAT: i64 = 5;
const AWAKE: u64 = 15;
/// What the kernel must wait for an answer, at least, in seconds.
const PATIENCE: u64 = 30;

/// For how long a file has no lease after one was asked back: longer than who is refused takes to come again.
const PAUSE: Duration = Duration::from_millis(250);

/// File systems that all who change a file go through this kernel for: ext2 to ext4, XFS, Btrfs, tmpfs, F2FS.
const LOCAL: [i64; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0xf2f5_2010];

/// What tells a file from all others: its file system and inode.
type Inode = (u64, u64);

struct Lease {
    slot: usize,
    inode: Inode,
    /// The cage's, for which it was taken.
    file: Weak<OwnedFd>,
    /// The description that it is taken through.
    own: OwnedFd,
}

/// The lease that each place has, 0 for none: looked at by each copy, so without a lock.
static VALID: [AtomicU32; MOST] = [const { AtomicU32::new(0) }; MOST];
/// Whether there is any lease.
static ARE_ANY: AtomicBool = AtomicBool::new(false);
/// When the thread was awake last, and had ended what was to be ended, in seconds.
static AWAKE_AT: AtomicU64 = AtomicU64::new(0);

#[derive(Default)]
struct Leases {
    leases: Vec<Lease>,
    /// How many there were in all.
    taken: u32,
    /// Files whose leases were asked back lately, and when.
    asked: Vec<(Inode, Instant)>,
}

static LEASES: Mutex<Leases> = Mutex::new(Leases {
    leases: Vec::new(),
    taken: 0,
    asked: Vec::new(),
});
static WAKE: Condvar = Condvar::new();

fn leases() -> MutexGuard<'static, Leases> {
    LEASES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Seconds of a clock that stands still with the kernel's own.
fn now() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    now.tv_sec.unsigned_abs()
}

impl Lease {
    fn set(own: &OwnedFd, kind: libc::c_int) -> Result<(), Errno> {
        // SAFETY: no memory is involved.
        match unsafe { libc::fcntl(own.as_raw_fd(), libc::F_SETLEASE, kind) } {
            0 => Ok(()),
            _ => Err(last_error()),
        }
    }

    /// Whether nobody waits for it.
    fn is_quiet(&self) -> bool {
        // SAFETY: no memory is involved.
        let kind = unsafe { libc::fcntl(self.own.as_raw_fd(), libc::F_GETLEASE) };
        kind == libc::F_RDLCK
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Before anybody can change the file.
        VALID[self.slot].store(0, Ordering::SeqCst);
        // Where it fails, closing the description does it.
        let _ = Self::set(&self.own, libc::F_UNLCK);
    }
}

impl Leases {
    fn keep(&mut self, is_kept: impl Fn(&Lease) -> bool) {
        self.leases.retain(is_kept);
        ARE_ANY.store(!self.leases.is_empty(), Ordering::Release);
    }

    /// Gives back what somebody waits for, and what is of no use any more.
    fn give_back(&mut self) {
        let waited_for = self.leases.iter().filter(|lease| !lease.is_quiet());
        let waited_for: Vec<_> = waited_for.map(|lease| lease.inode).collect();
        self.keep(|lease| lease.file.strong_count() > 0 && !waited_for.contains(&lease.inode));
        let now = Instant::now();
        self.asked
            .extend(waited_for.into_iter().map(|inode| (inode, now)));
    }

    /// Whether a file's lease was asked back lately, or those of so many files that this one may be among them.
    fn is_asked(&mut self, inode: Inode) -> bool {
        self.asked.retain(|(_, at)| at.elapsed() < PAUSE);
        self.asked.len() >= MOST || self.asked.iter().any(|(asked, _)| *asked == inode)
    }

    /// Takes one, in a place that is free.
    fn take(&mut self, file: &Arc<OwnedFd>, (own, inode): (OwnedFd, Inode)) -> Option<u32> {
        if self.is_asked(inode) {
            return None;
        }
        let is_free = |slot: &usize| self.leases.iter().all(|lease| lease.slot != *slot);
        let slot = (0..MOST).find(is_free)?;
        Lease::set(&own, libc::F_RDLCK).ok()?;
        self.taken = self.taken.wrapping_add(1);
        // What a guest gets is positive; one of so many is not asked for any more when it comes again.
        let number = (self.taken << MOST.ilog2() | slot as u32) & i32::MAX as u32;
        VALID[slot].store(number, Ordering::SeqCst);
        self.leases.push(Lease {
            slot,
            inode,
            file: Arc::downgrade(file),
            own,
        });
        ARE_ANY.store(true, Ordering::Release);
        Some(number).filter(|number| *number > 0)
    }
}

/// How many leases there may be where so many descriptors can be open.
fn most(descriptors: Option<u64>) -> usize {
    let most = descriptors.map_or(MOST as u64, |descriptors| descriptors / SHARE);
    most.min(MOST as u64) as usize
}

/// Before a descriptor is closed: nobody is to wait for its sake.
pub(super) fn end(file: &Arc<OwnedFd>) {
    if ARE_ANY.load(Ordering::Acquire) {
        leases().keep(|lease| lease.file.as_ptr() != Arc::as_ptr(file));
    }
}

/// The set of signals with the one in it by which the kernel asks for leases.
fn asking() -> libc::sigset_t {
    // SAFETY: a zeroed set is one to be made empty, and is the caller's.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGIO);
        set
    }
}

/// The thread that gives leases back, by its number of the host; `None` where leases are of no use.
fn keeper() -> Option<i32> {
    static KEEPER: LazyLock<Option<i32>> = LazyLock::new(|| {
        let patience = fs::read_to_string("/proc/sys/fs/lease-break-time").ok()?;
        if patience.trim().parse::<u64>().ok()? < PATIENCE {
            return None;
        }
        let (tell, told) = mpsc::channel();
        let keeping = move || {
            // SAFETY: the set lives for the call, which concerns this thread alone.
            let blocked =
                unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &asking(), std::ptr::null_mut()) };
            let number = rustix::thread::gettid().as_raw_nonzero().get();
            if tell.send((blocked == 0).then_some(number)).is_ok() && blocked == 0 {
                keep();
            }
        };
        let thread = thread::Builder::new().name("leases".into());
        thread.spawn(keeping).ok()?;
        told.recv().ok().flatten()
    });
    *KEEPER
}

fn keep() {
    let beat = libc::timespec {
        tv_sec: BEAT,
        tv_nsec: 0,
    };
    loop {
        // Told to be so only when all was done that had been asked for by then.
        let awake_at = now();
        let mut leases = leases();
        leases.give_back();
        AWAKE_AT.store(awake_at, Ordering::Release);
        if leases.leases.is_empty() {
            drop(WAKE.wait(leases).unwrap_or_else(PoisonError::into_inner));
            continue;
        }
        drop(leases);
        // SAFETY: set and time live for the call; nobody wants to know more of the signal. Whatever wakes it, all
        // leases are looked at.
        unsafe { libc::sigtimedwait(&asking(), std::ptr::null_mut(), &raw const beat) };
    }
}

/// Another open file description of the same file, to read, whose leases that thread is asked for.
fn describe(file: &OwnedFd, keeper: i32) -> Result<(OwnedFd, Inode), Errno> {
    let stat = rustix::fs::fstat(file)?;
    // To open a pipe or a device once more is more than a look.
    let is_regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !is_regular || !LOCAL.contains(&rustix::fs::fstatfs(file)?.f_type) {
        return Err(Errno::NOTSUP);
    }
    let path = crate::path::proc_path(file);
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let own = rustix::fs::open(path, flags, Mode::empty())?;
    #[repr(C)]
    struct Owner {
        kind: libc::c_int,
        number: libc::c_int,
    }
    const F_SETOWN_EX: libc::c_int = 15;
    const F_OWNER_TID: libc::c_int = 0;
    let owner = Owner {
        kind: F_OWNER_TID,
        number: keeper,
    };
    // SAFETY: the structure is as the kernel has it, and lives for the call. Said before there is a lease: the signal is
    // that thread's, and would end the process elsewhere.
    match unsafe { libc::fcntl(own.as_raw_fd(), F_SETOWN_EX, &raw const owner) } {
        0 => Ok((own, (stat.st_dev, stat.st_ino))),
        _ => Err(last_error()),
    }
}

/// take_lease: descriptor. The number of a lease on its file; 0 where there is none to be had. `EPERM` for a descriptor of
/// the caller's own, `ENOSYS` for a caller whose reads or locks some grate serves.
fn take(call: &Call<'_>) -> Result<i32, Errno> {
    if Arc::ptr_eq(call.caller, call.target) {
        return Err(Errno::PERM);
    }
    let leads_to_kernel = |nr: &u32| call.caller.handlers.leads_to_kernel(*nr);
    if ![PREAD, FCNTL].iter().all(leads_to_kernel) {
        return Err(Errno::NOSYS);
    }
    let file = call.target_file(0)?;
    let Some(keeper) = keeper() else {
        return Ok(0);
    };
    {
        let leases = leases();
        let is_its = |lease: &&Lease| lease.file.as_ptr() == Arc::as_ptr(&file);
        if let Some(lease) = leases.leases.iter().find(is_its) {
            return Ok(VALID[lease.slot].load(Ordering::Acquire) as i32);
        }
        if leases.leases.len() >= most(getrlimit(Resource::Nofile).current) {
            return Ok(0);
        }
    }
    let Ok(own) = describe(&file, keeper) else {
        return Ok(0);
    };
    let mut leases = leases();
    let was_empty = leases.leases.is_empty();
    let number = leases.take(&file, own);
    if was_empty {
        // It has slept without a beat.
        WAKE.notify_one();
    }
    Ok(number.unwrap_or(0) as i32)
}

/// Whether a lease lasts.
pub(super) fn lasts(number: u64) -> bool {
    let valid = &VALID[number as usize % MOST];
    number != 0
        && u64::from(valid.load(Ordering::Acquire)) == number
        && now().saturating_sub(AWAKE_AT.load(Ordering::Acquire)) < AWAKE
}

/// copy_leased: lease, from, to, length. Copies between two memories if the lease lasts, and answers 1; else 0.
fn copy(call: &Call<'_>) -> Result<i32, Errno> {
    if !lasts(call.raw(0)) {
        return Ok(0);
    }
    let (from, to) = (call.image_of(1)?, call.image_of(2)?);
    let len = usize::try_from(call.raw(3)).map_err(|_| Errno::INVAL)?;
    let copied = (to.memory).copy_from(call.raw(2), &from.memory, call.raw(1), len);
    copied.map(|()| 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posix;
    use crate::posix::testing::Fixture;
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::PathBuf;

    const READ_ONLY: u64 = 0;
    const READ_WRITE: u64 = 2;
    const NONBLOCK: u64 = 0o4000;

    /// A cage with a file, and its grate.
    struct Opened {
        cage: Fixture,
        grate: Fixture,
        /// `Some` where the file system is one of those that have leases.
        fd: Option<u64>,
    }

    impl Opened {
        fn new() -> Self {
            let cage = Fixture::new();
            fs::write(cage.path("file"), "content").unwrap();
            let grate = Fixture::new();
            let mut opened = Self {
                cage,
                grate,
                fd: None,
            };
            let kind = rustix::fs::statfs(opened.host_path()).unwrap().f_type;
            opened.fd = LOCAL.contains(&kind).then(|| opened.open(READ_ONLY));
            opened
        }

        fn host_path(&self) -> PathBuf {
            self.cage.path("file")
        }

        fn open(&self, flags: u64) -> u64 {
            self.cage
                .call(2, &[self.cage.text("file"), flags, 0])
                .unwrap() as u64
        }

        fn call(&self, nr: u32, args: &[u64]) -> Result<i32, Errno> {
            self.cage.call_by(&self.grate.cage, nr, args)
        }

        /// A lease, which others may keep from being had at once.
        fn lease(&self, fd: u64) -> u64 {
            let lease = (0..1000).find_map(|_| {
                let lease = self.call(1107, &[fd]).unwrap() as u64;
                let lasts = lease > 0 && self.copies(lease) == Ok(true);
                if !lasts {
                    thread::sleep(std::time::Duration::from_millis(1));
                }
                lasts.then_some(lease)
            });
            lease.expect("a lease")
        }

        /// Copies four bytes under a lease.
        fn copies(&self, lease: u64) -> Result<bool, Errno> {
            let from = self.cage.put(0x2000, b"new\0");
            let to = self.cage.put(0x3000, b"old\0");
            let copied = self.call(1108, &[lease, from, to, 4])?;
            let expected = if copied == 1 { b"new\0" } else { b"old\0" };
            assert_eq!(self.cage.get(to, 4), expected);
            Ok(copied == 1)
        }
    }

    #[test]
    fn it_ends_before_anybody_can_change_the_file() {
        let opened = Opened::new();
        let Some(fd) = opened.fd else { return };
        let ways: [fn(&Opened); 4] = [
            |opened| drop(fs::OpenOptions::new().write(true).open(opened.host_path())),
            |opened| {
                let fd = opened.open(READ_WRITE | NONBLOCK);
                assert_eq!(opened.cage.call(3, &[fd]), Ok(0));
            },
            |opened| {
                let path = opened.cage.text("file");
                assert_eq!(opened.cage.call(76, &[path, 3]), Ok(0));
            },
            |opened| fs::write(opened.host_path(), "other").unwrap(),
        ];
        for change in ways {
            let lease = opened.lease(fd);
            assert_eq!(
                opened.call(1107, &[fd]),
                Ok(lease as i32),
                "it is the same one"
            );
            change(&opened);
            assert_eq!(opened.copies(lease), Ok(false));
        }
        // To read it is no change.
        let lease = opened.lease(fd);
        fs::read(opened.host_path()).unwrap();
        assert_eq!(opened.copies(lease), Ok(true));
    }

    #[test]
    fn there_is_none_while_a_file_is_open_to_write() {
        let opened = Opened::new();
        let Some(fd) = opened.fd else { return };
        let writer = opened.open(READ_WRITE);
        for fd in [fd, writer] {
            assert_eq!(opened.call(1107, &[fd]), Ok(0));
        }
        assert_eq!(opened.cage.call(3, &[writer]), Ok(0));
        let lease = opened.lease(fd);
        // Who waits for nobody is told by the kernel, and comes again.
        let other = fs::OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(opened.host_path());
        let refused = other.err().and_then(|error| error.raw_os_error());
        assert!(refused.is_none_or(|errno| errno == libc::EWOULDBLOCK));
        drop(
            fs::OpenOptions::new()
                .write(true)
                .open(opened.host_path())
                .unwrap(),
        );
        assert_eq!(opened.copies(lease), Ok(false));
    }

    #[test]
    fn descriptors_are_left_for_cages() {
        assert_eq!([None, Some(u64::MAX), Some(1 << 20)].map(most), [MOST; 3]);
        assert_eq!([Some(0), Some(15), Some(96)].map(most), [0, 0, 6]);
    }

    #[test]
    fn who_waits_for_nobody_gets_a_chance() {
        let opened = Opened::new();
        let Some(fd) = opened.fd else { return };
        let reading = std::sync::atomic::AtomicBool::new(true);
        let is_free = std::thread::scope(|scope| {
            scope.spawn(|| {
                while reading.load(Ordering::Acquire) {
                    opened.call(1107, &[fd]).unwrap();
                }
            });
            let mut tries = (0..20).map(|_| {
                opened.lease(fd);
                (0..64).any(|_| {
                    let mut options = fs::OpenOptions::new();
                    let options = options.write(true).custom_flags(libc::O_NONBLOCK);
                    let is_open = options.open(opened.host_path()).is_ok();
                    if !is_open {
                        thread::sleep(Duration::from_millis(1));
                    }
                    is_open
                })
            });
            let is_free = tries.all(|is_free| is_free);
            reading.store(false, Ordering::Release);
            is_free
        });
        assert!(is_free, "the lease was always there again");
    }

    #[test]
    fn it_ends_with_its_descriptor() {
        let opened = Opened::new();
        let Some(fd) = opened.fd else { return };
        let _twin = opened.cage.call(32, &[fd]).unwrap();
        let lease = opened.lease(fd);
        assert_eq!(opened.cage.call(3, &[fd]), Ok(0));
        assert_eq!(opened.copies(lease), Ok(false));
        assert_eq!(opened.call(1107, &[fd]), Err(Errno::BADF));
    }

    #[test]
    fn no_number_is_a_lease_that_is_none() {
        let opened = Opened::new();
        for lease in [0, 1, 63, 65, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(opened.copies(lease), Ok(false), "{lease}");
        }
        let Some(fd) = opened.fd else { return };
        assert_eq!(opened.cage.call(1107, &[fd]), Err(Errno::PERM));
        let lease = opened.lease(fd);
        let text = opened.cage.text("text");
        let outside = posix::testing::UNMAPPED;
        assert_eq!(
            opened.call(1108, &[lease, outside, text, 1]),
            Err(Errno::FAULT)
        );
        assert_eq!(
            opened.call(1108, &[lease, text, outside, 1]),
            Err(Errno::FAULT)
        );
        assert_eq!(opened.call(1108, &[lease + 64, text, text, 1]), Ok(0));
    }
}
