//! Descriptors: making, copying and closing them, and their flags and locks.

use super::io::answer;
use super::{Call, Entry, abi, kept, lease};
use crate::cage::Cage;
use crate::errno::last_error;
use rustix::fd::OwnedFd;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::Arc;

pub(super) const CALLS: &[Entry] = &[
    Entry::new(3, close),
    Entry::new(16, ioctl),
    Entry::new(22, |call| make_pipe(call, 0)),
    Entry::new(32, dup),
    Entry::new(33, dup2),
    Entry::new(72, fcntl),
    Entry::new(73, flock),
    Entry::new(292, dup3),
    Entry::new(293, |call| make_pipe(call, call.uint(1))),
];

const O_CLOEXEC: u32 = 0o2_000_000;
const FD_CLOEXEC: i32 = 1;

/// Whether a cage can have another descriptor.
///
/// # Errors
/// `EMFILE` when it has all that it can have; `ENFILE` when the run has.
pub(super) fn check_room(cage: &Cage) -> Result<(), Errno> {
    cage.fds().check_room()
}

fn close(call: &Call<'_>) -> Result<i32, Errno> {
    let descriptor = call.target.fds().remove(call.int(0))?;
    kept::end(&descriptor.file);
    lease::end(&descriptor.file);
    // The last one to close hears of writes that failed late.
    if let Some(file) = Arc::into_inner(descriptor.file) {
        // SAFETY: the descriptor was owned by `file` alone, and is used no more.
        answer(unsafe { libc::close(file.into_raw_fd()) })?;
    }
    Ok(0)
}

/// Another descriptor of the host for the same open file. Numbers of one cage do not share the
/// host's, as epoll keeps what is registered by that.
fn duplicate(file: &OwnedFd) -> Result<Arc<OwnedFd>, Errno> {
    rustix::io::fcntl_dupfd_cloexec(file, 0).map(Arc::new)
}

fn dup(call: &Call<'_>) -> Result<i32, Errno> {
    let mut fds = call.target.fds();
    let file = duplicate(&fds.get(call.int(0))?.file)?;
    fds.insert(0, file, false)
}

/// Puts the file of `old` at `new`. What was there is closed after the table is unlocked, as a
/// close can take its time.
fn put_at(call: &Call<'_>, old: i32, new: i32, cloexec: bool) -> Result<i32, Errno> {
    let mut fds = call.target.fds();
    let file = duplicate(&fds.get(old)?.file)?;
    let before = fds.set(new, file, cloexec)?;
    drop(fds);
    drop(before);
    Ok(new)
}

fn dup2(call: &Call<'_>) -> Result<i32, Errno> {
    let (old, new) = (call.int(0), call.int(1));
    if old == new {
        call.target.fds().get(old)?;
        return Ok(new);
    }
    put_at(call, old, new, false)
}

fn dup3(call: &Call<'_>) -> Result<i32, Errno> {
    let (old, new, flags) = (call.int(0), call.int(1), call.uint(2));
    if flags & !O_CLOEXEC != 0 || old == new {
        return Err(Errno::INVAL);
    }
    put_at(call, old, new, flags & O_CLOEXEC != 0)
}

fn make_pipe(call: &Call<'_>, flags: u32) -> Result<i32, Errno> {
    let known = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK | PipeFlags::DIRECT;
    let flags = PipeFlags::from_bits(flags)
        .filter(|&flags| known.contains(flags))
        .ok_or(Errno::INVAL)?;
    let cloexec = flags.contains(PipeFlags::CLOEXEC);
    let (input, output) = rustix::pipe::pipe_with(flags | PipeFlags::CLOEXEC)?;
    put_pair(call, (0, call.raw(0)), (input, output), cloexec)
}

/// Gives two new descriptors to the target, and their numbers to the guest at an address that
/// argument `index` named.
///
/// # Errors
/// `EMFILE`, `EFAULT`; then there is neither.
pub(super) fn put_pair(
    call: &Call<'_>,
    (index, at): (usize, u64),
    (one, other): (OwnedFd, OwnedFd),
    cloexec: bool,
) -> Result<i32, Errno> {
    let image = call.image_of(index)?;
    let (first, second) = {
        let mut fds = call.target.fds();
        let first = fds.insert(0, Arc::new(one), cloexec)?;
        let second = fds
            .insert(0, Arc::new(other), cloexec)
            .inspect_err(|_| drop(fds.remove(first)))?;
        (first, second)
    };
    let mut pair = [0; 8];
    pair[..4].copy_from_slice(&first.to_le_bytes());
    pair[4..].copy_from_slice(&second.to_le_bytes());
    image.memory.write(at, &pair).inspect_err(|_| {
        let mut fds = call.target.fds();
        let _ = fds.remove(first);
        let _ = fds.remove(second);
    })?;
    Ok(0)
}

/// Refuses a file that is open as a path only.
fn check_open(file: &OwnedFd) -> Result<(), Errno> {
    if rustix::fs::fcntl_getfl(file)?.contains(OFlags::PATH) {
        return Err(Errno::BADF);
    }
    Ok(())
}

/// An `int` argument comes third, an address fourth.
fn fcntl(call: &Call<'_>) -> Result<i32, Errno> {
    let (fd, number) = (call.int(0), call.int(2));
    let file = call.target_file(0)?;
    let command = call.int(1);
    match command {
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => {
            let cloexec = command == libc::F_DUPFD_CLOEXEC;
            call.target.fds().insert(number, duplicate(&file)?, cloexec)
        }
        libc::F_GETFD => {
            let cloexec = call.target.fds().get(fd)?.cloexec;
            Ok(if cloexec { FD_CLOEXEC } else { 0 })
        }
        libc::F_SETFD => set_cloexec(call, number & FD_CLOEXEC != 0),
        // SAFETY: no memory is involved.
        libc::F_GETFL => answer(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) }),
        libc::F_SETFL => {
            // SAFETY: no memory is involved.
            answer(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, number) })
        }
        libc::F_OFD_GETLK | libc::F_OFD_SETLK | libc::F_OFD_SETLKW if call.rt.strict => {
            // Lind passes the address with the commands of process locks alone, and the number
            // with these.
            Err(Errno::FAULT)
        }
        libc::F_GETLK | libc::F_SETLK | libc::F_SETLKW if call.rt.strict => {
            lock(call, &file, command)
        }
        libc::F_GETLK | libc::F_OFD_GETLK => lock(call, &file, libc::F_OFD_GETLK),
        libc::F_SETLK | libc::F_OFD_SETLK => lock(call, &file, libc::F_OFD_SETLK),
        libc::F_SETLKW | libc::F_OFD_SETLKW => lock(call, &file, libc::F_OFD_SETLKW),
        _ => check_open(&file).and(Err(Errno::INVAL)),
    }
}

fn set_cloexec(call: &Call<'_>, cloexec: bool) -> Result<i32, Errno> {
    call.target.fds().get_mut(call.int(0))?.cloexec = cloexec;
    Ok(0)
}

/// Record locks. Linux gives them to processes, and all cages are one process of the host: taken
/// as they come, two cages could lock the same bytes, and a close in one would unlock another's.
/// So they become locks of the open file description, which conflict between cages. Unlike true
/// ones they are shared with a forked child, and kept when another descriptor of the same file is
/// closed. In strict mode they stay the process's, as on Lind.
fn lock(call: &Call<'_>, file: &OwnedFd, command: i32) -> Result<i32, Errno> {
    // The kernel looks at the descriptor first.
    let bytes = call
        .get(3)
        .or_else(|errno| check_open(file).and(Err(errno)))?;
    let mut lock = abi::flock(&bytes);
    let reaches = lock.l_start == kept::PLACE || lock.l_len == 0;
    if reaches && command != libc::F_OFD_GETLK {
        kept::end_all();
    }
    description_lock(file, command, &mut lock)?;
    if matches!(command, libc::F_GETLK | libc::F_OFD_GETLK) {
        call.put(3, &abi::flock_bytes(&lock))?;
    }
    Ok(0)
}

/// `F_OFD_GETLK` and its kin.
pub(super) fn description_lock(
    file: &OwnedFd,
    command: i32,
    lock: &mut libc::flock,
) -> Result<i32, Errno> {
    // SAFETY: the lock is the caller's, and as long as the kernel takes it.
    answer(unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut *lock) })
}

fn flock(call: &Call<'_>) -> Result<i32, Errno> {
    let file = call.file(0)?;
    // SAFETY: no memory is involved.
    answer(unsafe { libc::flock(file.as_raw_fd(), call.int(1)) })
}

/// Only requests that do no more than the cage's own calls could, or that any program may make of
/// its terminal.
fn ioctl(call: &Call<'_>) -> Result<i32, Errno> {
    /// `struct winsize`.
    const WINDOW_SIZE: usize = 8;
    /// `struct termios` of the kernel.
    const TERMINAL: usize = 36;
    let file = call.target_file(0)?;
    check_open(&file)?;
    match u64::from(call.uint(1)) {
        libc::FIOCLEX => set_cloexec(call, true),
        libc::FIONCLEX => set_cloexec(call, false),
        libc::FIONBIO => {
            let mut flag: [u8; 4] = call.get(2)?;
            request(&file, libc::FIONBIO, &mut flag)
        }
        libc::FIONREAD => tell::<4>(call, &file, libc::FIONREAD),
        libc::TIOCGWINSZ => tell::<WINDOW_SIZE>(call, &file, libc::TIOCGWINSZ),
        libc::TCGETS => tell::<TERMINAL>(call, &file, libc::TCGETS),
        code @ (libc::TCSETS | libc::TCSETSW | libc::TCSETSF) => {
            let mut settings: [u8; TERMINAL] = call.get(2)?;
            request(&file, code, &mut settings)
        }
        _ => Err(Errno::NOTTY),
    }
}

/// A request that fills `N` bytes.
fn tell<const N: usize>(call: &Call<'_>, file: &OwnedFd, code: u64) -> Result<i32, Errno> {
    let mut bytes = [0; N];
    request(file, code, &mut bytes)?;
    call.put(2, &bytes)?;
    Ok(0)
}

fn request<const N: usize>(file: &OwnedFd, code: u64, bytes: &mut [u8; N]) -> Result<i32, Errno> {
    /// No request here moves more.
    const ROOM: usize = 64;
    const { assert!(N <= ROOM) }
    let mut room = [0u64; ROOM / 8];
    let place = room.as_mut_ptr().cast::<u8>();
    // SAFETY: `room` holds `N` bytes and more than any of the requests reads or writes; it does
    // not overlap `bytes`.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, N);
        if libc::ioctl(file.as_raw_fd(), code, place) < 0 {
            return Err(last_error());
        }
        std::ptr::copy_nonoverlapping(place, bytes.as_mut_ptr(), N);
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{A, Fixture, Twins, UNMAPPED};
    use super::*;

    fn opened() -> Twins {
        let mut twins = Twins::new();
        let mode = A::I(0o644);
        twins
            .descriptor(2, &[A::Path("/file"), A::I(0o102), mode])
            .unwrap();
        twins.descriptor(2, &[A::Path("/"), A::I(0)]).unwrap();
        twins
            .descriptor(2, &[A::Path("/file"), A::I(0o10_000_000)])
            .unwrap();
        twins
    }

    #[test]
    fn descriptors_are_copied_and_closed() {
        let mut twins = opened();
        twins.descriptor(32, &[A::Fd(0)]).unwrap();
        let text = A::In(b"shared");
        assert_eq!(twins.agree(1, &[A::Fd(3), text, A::I(6)]), Ok(6));
        assert_eq!(twins.agree(8, &[A::Fd(0), A::I(0), A::I(1)]), Ok(6));
        twins.close(0);
        assert_eq!(twins.agree(8, &[A::Fd(3), A::I(0), A::I(1)]), Ok(6));
        let bad = A::I(900_000);
        for nr in [3, 32] {
            assert_eq!(twins.agree(nr, &[bad]), Err(Errno::BADF));
            assert_eq!(twins.agree(nr, &[A::I(-1)]), Err(Errno::BADF));
        }
        assert_eq!(twins.agree(33, &[bad, bad]), Err(Errno::BADF));
        assert_eq!(twins.agree(33, &[bad, A::Fd(3)]), Err(Errno::BADF));
        assert_eq!(twins.agree(33, &[A::Fd(3), A::I(-1)]), Err(Errno::BADF));
        assert_eq!(
            twins.agree(33, &[A::Fd(3), A::I(i64::from(i32::MAX))]),
            Err(Errno::BADF)
        );
        assert_eq!(
            twins.agree(292, &[A::Fd(3), A::Fd(3), A::I(0)]),
            Err(Errno::INVAL)
        );
        assert_eq!(twins.agree(292, &[bad, bad, A::I(0)]), Err(Errno::INVAL));
        assert_eq!(
            twins.agree(292, &[A::Fd(3), A::Fd(1), A::I(1)]),
            Err(Errno::INVAL)
        );
        let cage = Fixture::new();
        let fd = cage.open("/file", 0o102);
        assert_eq!(cage.call(33, &[fd, fd]), Ok(fd as i32));
        assert_eq!(cage.call(33, &[fd, 700]), Ok(700));
        assert_eq!(cage.call(292, &[fd, 700, 0o2_000_000]), Ok(700));
        assert_eq!(cage.call(72, &[700, 1, 0]), Ok(1));
        assert_eq!(cage.call(33, &[fd, 700]), Ok(700));
        assert_eq!(cage.call(72, &[700, 1, 0]), Ok(0));
        assert_eq!(cage.call(33, &[fd, 1024]), Err(Errno::BADF));
    }

    #[test]
    fn fcntl_answers_as_the_kernel_does() {
        let twins = opened();
        for fd in [A::Fd(0), A::Fd(1), A::Fd(2), A::I(900_000)] {
            for (command, number) in [(1, 0), (2, 1), (1, 0), (2, -2), (1, 0), (4, 0o2_000)] {
                let _ = twins.agree(72, &[fd, A::I(command), A::I(number)]);
            }
            let _ = twins.agree(72, &[fd, A::I(3), A::I(0)]);
            assert!(twins.agree(72, &[fd, A::I(0), A::I(-1)]).is_err());
            let _ = twins.agree(72, &[fd, A::I(77_777), A::I(0)]);
        }
        let cage = Fixture::new();
        let fd = cage.open("/file", 0o2_000_102);
        assert_eq!(cage.call(72, &[fd, 1, 0]), Ok(1));
        assert_eq!(cage.call(72, &[fd, 0, 50]), Ok(50));
        assert_eq!(cage.call(72, &[fd, 1030, 50]), Ok(51));
        assert_eq!(cage.call(72, &[50, 1, 0]), Ok(0));
        assert_eq!(cage.call(72, &[51, 1, 0]), Ok(1));
        assert_eq!(cage.call(72, &[fd, 0, 1024]), Err(Errno::INVAL));
        assert_eq!(cage.call(72, &[fd, 1033, 0]), Err(Errno::INVAL));
    }

    #[test]
    fn locks_conflict_between_open_files() {
        let cage = Fixture::new();
        let (one, two) = (cage.open("/file", 0o102), cage.open("/file", 0o2));
        let lock = |kind: u8, len: u8| {
            let mut bytes = [0; abi::FLOCK_LEN];
            bytes[0] = kind;
            bytes[16] = len;
            bytes[24] = 77; // An input that does not count.
            cage.put(0x2000, &bytes);
        };
        let (get, set) = (libc::F_GETLK as u64, libc::F_SETLK as u64);
        lock(1, 10);
        assert_eq!(cage.call(72, &[one, set, 0, 0x2000]), Ok(0));
        assert_eq!(cage.call(72, &[two, set, 0, 0x2000]), Err(Errno::AGAIN));
        lock(0, 0);
        assert_eq!(cage.call(72, &[two, get, 0, 0x2000]), Ok(0));
        assert_eq!(cage.get(0x2000, 1), [1]);
        assert_eq!(cage.get(0x2010, 1), [10]);
        lock(2, 0);
        assert_eq!(cage.call(72, &[one, set, 0, 0x2000]), Ok(0));
        lock(1, 10);
        assert_eq!(cage.call(72, &[two, set, 0, 0x2000]), Ok(0));
        assert_eq!(cage.call(72, &[two, get, 0, 0x2000]), Ok(0));
        assert_eq!(cage.get(0x2000, 1), [2]);
        lock(9, 0);
        assert_eq!(cage.call(72, &[two, set, 0, 0x2000]), Err(Errno::INVAL));
        assert_eq!(cage.call(72, &[two, set, 0, UNMAPPED]), Err(Errno::FAULT));
        assert_eq!(cage.call(72, &[99, set, 0, UNMAPPED]), Err(Errno::BADF));
        assert_eq!(cage.call(73, &[one, 2]), Ok(0));
        assert_eq!(cage.call(73, &[two, 6]), Err(Errno::AGAIN));
        assert_eq!(cage.call(73, &[two, 16]), Err(Errno::INVAL));
        assert_eq!(cage.call(73, &[99, 99]), Err(Errno::BADF));
    }

    #[test]
    fn a_pipe_carries_bytes_and_ends() {
        let cage = Fixture::new();
        assert_eq!(cage.call(22, &[0x2000]), Ok(0));
        assert_eq!(cage.get(0x2000, 8), [0, 0, 0, 0, 1, 0, 0, 0]);
        cage.put(0x3000, b"hello");
        assert_eq!(cage.call(1, &[1, 0x3000, 5]), Ok(5));
        assert_eq!(cage.call(16, &[0, 0x541B, 0x2000]), Ok(0));
        assert_eq!(cage.get(0x2000, 4), [5, 0, 0, 0]);
        assert_eq!(cage.call(0, &[0, 0x4000, 99]), Ok(5));
        assert_eq!(cage.call(8, &[0, 0, 1]), Err(Errno::SPIPE));
        assert_eq!(cage.call(3, &[1]), Ok(0));
        assert_eq!(cage.call(0, &[0, 0x4000, 99]), Ok(0));
        assert_eq!(cage.call(293, &[UNMAPPED, 1]), Err(Errno::INVAL));
        assert_eq!(cage.call(293, &[UNMAPPED, 0]), Err(Errno::FAULT));
        assert_eq!(cage.call(293, &[0x2000, 0o2_004_000]), Ok(0));
        assert_eq!(cage.get(0x2000, 8), [1, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(cage.call(72, &[2, 1, 0]), Ok(1));
        assert_eq!(cage.call(0, &[1, 0x4000, 1]), Err(Errno::AGAIN));
        assert_eq!(cage.call(3, &[1]), Ok(0));
        assert_eq!(cage.call(1, &[2, 0x4000, 1]), Err(Errno::PIPE));
        while cage.call(32, &[2]).is_ok() {}
        assert_eq!(cage.call(22, &[0x2000]), Err(Errno::MFILE));
        assert_eq!(cage.call(3, &[1023]), Ok(0));
        assert_eq!(cage.call(22, &[0x2000]), Err(Errno::MFILE));
        assert_eq!(cage.call(32, &[2]), Ok(1023));
    }

    #[test]
    fn ioctl_serves_its_few_requests() {
        let twins = opened();
        for fd in [A::Fd(0), A::Fd(1), A::Fd(2), A::I(900_000)] {
            for request in [0x541B, 0x5421, 0x5451, 0x5450, 0x5413, 0x5401, 0x9999] {
                let _ = twins.agree(16, &[fd, A::I(request), A::Room(64)]);
                if ![0x5451, 0x5450].contains(&request) {
                    assert!(twins.agree(16, &[fd, A::I(request), A::Nowhere]).is_err());
                }
            }
        }
        let cage = Fixture::new();
        let fd = cage.open("/file", 0o102);
        assert_eq!(cage.call(16, &[fd, 0x5451]), Ok(0));
        assert_eq!(cage.call(72, &[fd, 1, 0]), Ok(1));
        cage.put(0x2000, &[1, 0, 0, 0]);
        assert_eq!(cage.call(16, &[fd, 0x5421, 0x2000]), Ok(0));
        assert_eq!(
            cage.call(72, &[fd, 3, 0]).map(|flags| flags & 0o4_000),
            Ok(0o4_000)
        );
    }
}
