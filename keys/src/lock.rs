//! The lock that keeps all who change a sealed file apart: `docs/format.md`, "Several writers".

use std::fs::File;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// The byte that is locked: the last one that a file could have.
const LOCKED_BYTE: i64 = i64::MAX;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// What a file is locked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Reading: nobody changes it meanwhile. The file has to be open for reading.
    Shared,
    /// Changing or replacing it. The file has to be open for writing.
    Exclusive,
}

/// Locks a file, until it is closed. Answers whether that could be had within `wait`.
///
/// On a file system that has no such locks there is nothing to wait for: those who change files
/// don't lock them either, then.
///
/// # Errors
/// As `F_OFD_SETLK` of fcntl(2).
pub fn lock(file: &File, mode: LockMode, wait: Duration) -> io::Result<bool> {
    let started = Instant::now();
    let kind = match mode {
        LockMode::Shared => libc::F_RDLCK,
        LockMode::Exclusive => libc::F_WRLCK,
    };
    loop {
        match set(file, kind) {
            Ok(_) | Err(Errno::EINVAL | Errno::ENOSYS | Errno::ENOTSUP) => return Ok(true),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN | Errno::EACCES) => {
                let left = wait.saturating_sub(started.elapsed());
                if left.is_zero() {
                    return Ok(false);
                }
                thread::sleep(left.min(PAUSE));
            }
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn set(file: &File, kind: libc::c_int) -> Result<libc::c_int, Errno> {
    let range = libc::flock {
        // The constants are small numbers of another type than the field.
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: LOCKED_BYTE,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_SETLK(&range))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn writers_keep_out_everyone_and_readers_keep_out_writers() {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            options.open(dir.path().join("file")).unwrap()
        };
        let (a, b, c) = (open(), open(), open());
        assert!(lock(&a, LockMode::Shared, NOW).unwrap());
        assert!(lock(&b, LockMode::Shared, NOW).unwrap());
        assert!(!lock(&c, LockMode::Exclusive, NOW).unwrap());
        drop(a);
        assert!(!lock(&c, LockMode::Exclusive, NOW).unwrap());
        drop(b);
        assert!(lock(&c, LockMode::Exclusive, NOW).unwrap());
        let started = Instant::now();
        let wait = Duration::from_millis(100);
        assert!(!lock(&open(), LockMode::Shared, wait).unwrap());
        assert!(started.elapsed() >= wait);
    }

    #[test]
    fn who_waits_gets_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let held = File::create(&path).unwrap();
        assert!(lock(&held, LockMode::Exclusive, NOW).unwrap());
        thread::scope(|scope| {
            let waits = scope.spawn(|| {
                let file = File::open(&path).unwrap();
                lock(&file, LockMode::Shared, Duration::from_secs(60)).unwrap()
            });
            thread::sleep(Duration::from_millis(50));
            drop(held);
            assert!(waits.join().unwrap());
        });
    }
}
