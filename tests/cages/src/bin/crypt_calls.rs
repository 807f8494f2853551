//! Checks what crypt-grate answers where a sealed file differs from a plain one, and what several
//! cages do to one file at a time. Runs in `/tmp`; exits with 0 when all checks hold.

use cage_libc::sys::{self, Errno, address};

const EINVAL: Errno = Errno(22);
const ENXIO: Errno = Errno(6);
const EXDEV: Errno = Errno(18);
const ENODEV: Errno = Errno(19);
const EFAULT: Errno = Errno(14);
const EAGAIN: Errno = Errno(11);
const EBADF: Errno = Errno(9);
const ENOTSUP: Errno = Errno(95);

fn call(nr: u32, args: &[u64]) -> Result<i32, Errno> {
    // SAFETY: every address comes from a live buffer.
    unsafe { sys::syscall(nr, args) }
}

fn open(path: &core::ffi::CStr, flags: u64) -> Result<i32, Errno> {
    call(2, &[address(path.as_ptr()), flags, 0o644])
}

fn write(fd: i32, bytes: &[u8]) -> Result<i32, Errno> {
    call(1, &[fd as u64, address(bytes.as_ptr()), bytes.len() as u64])
}

fn size(fd: i32) -> u64 {
    let mut stat = [0u8; 104];
    let _ = call(5, &[fd as u64, address(stat.as_mut_ptr())]);
    u64::from_le_bytes(stat[40..48].try_into().unwrap_or_default())
}

/// Counts what does not hold.
struct Checks(u32);

impl Checks {
    fn equal<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, got: T, wanted: T) {
        if got != wanted {
            println!("{what}: {got:?} instead of {wanted:?}");
            self.0 += 1;
        }
    }
}

fn differences(checks: &mut Checks) -> Result<(), Errno> {
    const O_CREAT_RDWR: u64 = 0o102;
    const O_DIRECT: u64 = 0o40000;
    let path = c"/tmp/sealed";
    let fd = open(path, O_CREAT_RDWR)?;
    checks.equal("write", write(fd, &[7; 5000]), Ok(5000));
    checks.equal("O_DIRECT", open(path, O_DIRECT | 2), Err(EINVAL));
    statx_sizes(checks, path, fd);
    mappings(checks, fd)?;
    record_locks(checks, path, fd)?;
    let other = open(c"/tmp/other", O_CREAT_RDWR)?;
    let copied = call(326, &[fd as u64, 0, other as u64, 0, 10, 0]);
    checks.equal("copy_file_range", copied, Err(EXDEV));
    // There are no holes.
    let seek = |offset: i64, whence: u64| call(8, &[fd as u64, offset as u64, whence]);
    checks.equal("SEEK_DATA", seek(100, 3), Ok(100));
    checks.equal("SEEK_HOLE", seek(100, 4), Ok(5000));
    checks.equal("SEEK_DATA at the end", seek(5000, 3), Err(ENXIO));
    checks.equal("SEEK_HOLE behind it", seek(6000, 4), Err(ENXIO));
    // What is left to read.
    let mut left = 0i32;
    checks.equal("lseek", seek(4000, 0), Ok(4000));
    let asked = call(16, &[fd as u64, 0x541B, address(&raw mut left)]);
    checks.equal("FIONREAD", (asked, left), (Ok(0), 1000));
    // fallocate makes the file longer, with zeros, and punches holes; it moves nothing.
    let allocate =
        |mode: u64, offset: i64, len: i64| call(285, &[fd as u64, mode, offset as u64, len as u64]);
    checks.equal("fallocate", allocate(0, 0, 9000), Ok(0));
    checks.equal("its size", size(fd), 9000);
    checks.equal("fallocate inside", allocate(0, 10, 10), Ok(0));
    checks.equal("a hole", allocate(3, 0, 4096), Ok(0));
    checks.equal("a range taken out", allocate(8, 0, 4096), Err(ENOTSUP));
    checks.equal("no length", allocate(0, 0, 0), Err(EINVAL));
    let reader = open(path, 0)?;
    let mut zeros = [1u8; 4000];
    let args = [reader as u64, address(zeros.as_mut_ptr()), 4000, 5000];
    checks.equal("read the new part", call(17, &args), Ok(4000));
    checks.equal("zeros", zeros.iter().all(|&byte| byte == 0), true);
    checks.equal(
        "write to what is open for reading",
        write(reader, b"x"),
        Err(EBADF),
    );
    checks.equal(
        "ftruncate of that",
        call(77, &[reader as u64, 0]),
        Err(EINVAL),
    );
    // Unlinked, a file lives on in its descriptors.
    checks.equal("unlink", call(87, &[address(path.as_ptr())]), Ok(0));
    checks.equal(
        "write on",
        call(18, &[fd as u64, address(zeros.as_ptr()), 10, 20_000]),
        Ok(10),
    );
    checks.equal("size", size(reader), 20_010);
    // /dev/null is none of the grate's business.
    let null = open(c"/dev/null", 1)?;
    checks.equal("/dev/null", write(null, b"gone"), Ok(4));
    Ok(())
}

/// statx shows the size of the plaintext, by path and by descriptor.
fn statx_sizes(checks: &mut Checks, path: &core::ffi::CStr, fd: i32) {
    const STATX: u32 = 332;
    const CWD: u64 = -100i64 as u64;
    const EMPTY_PATH: u64 = 0x1000;
    const BASIC: u64 = 0x7ff;
    let ask = |directory: u64, path: &core::ffi::CStr, flags: u64| {
        let mut stat = [0u8; 256];
        let buffer = address(stat.as_mut_ptr());
        let args = [directory, address(path.as_ptr()), flags, BASIC, buffer];
        call(STATX, &args).map(|_| u64::from_le_bytes(stat[40..48].try_into().unwrap_or_default()))
    };
    if sys::base() != 0 {
        // Lind has no such call.
        return;
    }
    let by_path = ask(CWD, path, 0);
    checks.equal("statx of a path", by_path, Ok(5000));
    checks.equal(
        "statx of a descriptor",
        ask(fd as u64, c"", EMPTY_PATH),
        Ok(5000),
    );
    checks.equal(
        "statx of nothing",
        ask(CWD, c"/tmp/nothing", 0),
        Err(Errno(2)),
    );
    checks.equal("statx with unknown flags", ask(CWD, path, 1), Err(EINVAL));
}

/// A mapping shows the plaintext, and is written out to see it: its address is only a number here.
fn mappings(checks: &mut Checks, fd: i32) -> Result<(), Errno> {
    const READ: u64 = 1;
    const READ_WRITE: u64 = 3;
    const SHARED: u64 = 1;
    const PRIVATE: u64 = 2;
    let map = |protection: u64, flags: u64, offset: u64| {
        call(9, &[0, 8192, protection, flags, fd as u64, offset]).map(|place| place as u32)
    };
    if sys::base() != 0 {
        // Lind does not say where a mapping of a cage lies for its grate.
        checks.equal("a mapping", map(READ, PRIVATE, 0), Err(ENODEV));
        return Ok(());
    }
    let other = open(c"/tmp/mapped", 0o102)?;
    for (what, protection, flags) in [
        ("a private mapping", READ, PRIVATE),
        ("a private mapping to write", READ_WRITE, PRIVATE),
        ("a shared mapping", READ, SHARED),
    ] {
        let place = map(protection, flags, 4096)? as u64;
        checks.equal(what, call(18, &[other as u64, place, 8192, 0]), Ok(8192));
        let mut seen = vec![1u8; 8192];
        let args = [other as u64, address(seen.as_mut_ptr()), 8192, 0];
        checks.equal(what, call(17, &args), Ok(8192));
        let expected = [vec![7; 904], vec![0; 8192 - 904]].concat();
        let differs = seen
            .iter()
            .zip(&expected)
            .position(|(got, wanted)| got != wanted);
        checks.equal(what, differs, None);
        // Reading into it needs leave to write, which changes no file.
        let into = call(17, &[other as u64, place, 10, 1000]);
        let allowed = if protection == READ_WRITE {
            Ok(10)
        } else {
            Err(EFAULT)
        };
        checks.equal("reading into it", into, allowed);
        checks.equal("unmapped", call(11, &[place, 8192]), Ok(0));
    }
    checks.equal(
        "writable and shared",
        map(READ_WRITE, SHARED, 0),
        Err(ENODEV),
    );
    checks.equal("no page's offset", map(READ, PRIVATE, 100), Err(EINVAL));
    Ok(())
}

/// Record locks count from the plaintext offset and size, and leave writes alone.
fn record_locks(checks: &mut Checks, path: &core::ffi::CStr, fd: i32) -> Result<(), Errno> {
    const SET: u64 = 6;
    const GET: u64 = 5;
    const WRITE: i16 = 1;
    const UNLOCK: i16 = 2;
    let ask = |fd: i32, command: u64, kind: i16, whence: i16, start: i64, len: i64| {
        let mut lock = [0u8; 32];
        lock[..2].copy_from_slice(&kind.to_le_bytes());
        lock[2..4].copy_from_slice(&whence.to_le_bytes());
        lock[8..16].copy_from_slice(&start.to_le_bytes());
        lock[16..24].copy_from_slice(&len.to_le_bytes());
        let done = call(72, &[fd as u64, command, 0, address(lock.as_mut_ptr())]);
        let word = |at: usize| i64::from_le_bytes(lock[at..at + 8].try_into().unwrap_or_default());
        done.map(|_| (i16::from_le_bytes([lock[0], lock[1]]), word(8), word(16)))
    };
    let other = open(path, 2)?;
    // Where they are the whole process's, nobody here is kept out, or sees one.
    let apart = sys::base() == 0;
    // The last 100 bytes of 5000, by way of the end; then 10 from the offset on, which is 5000.
    checks.equal(
        "locks the end",
        ask(fd, SET, WRITE, 2, -100, 100).is_ok(),
        true,
    );
    checks.equal(
        "seen at",
        ask(other, GET, WRITE, 0, 0, 0),
        Ok(if apart {
            (WRITE, 4900, 100)
        } else {
            (UNLOCK, 0, 0)
        }),
    );
    checks.equal(
        "kept out",
        ask(other, SET, WRITE, 0, 4950, 1),
        if apart {
            Err(EAGAIN)
        } else {
            Ok((WRITE, 4950, 1))
        },
    );
    checks.equal(
        "beside it",
        ask(other, SET, WRITE, 0, 4899, 1).is_ok(),
        true,
    );
    checks.equal("unlocks", ask(fd, SET, UNLOCK, 0, 0, 0).is_ok(), true);
    checks.equal(
        "locks from here",
        ask(fd, SET, WRITE, 1, 0, 10).is_ok(),
        true,
    );
    checks.equal(
        "seen there",
        ask(other, GET, WRITE, 0, 4900, 0),
        Ok(if apart {
            (WRITE, 5000, 10)
        } else {
            (UNLOCK, 4900, 0)
        }),
    );
    checks.equal(
        "before the file",
        ask(fd, SET, WRITE, 0, -1, 1),
        Err(EINVAL),
    );
    checks.equal(
        "a whence of its own",
        ask(fd, SET, WRITE, 7, 0, 1),
        Err(EINVAL),
    );
    checks.equal(
        "unlocks both",
        ask(other, SET, UNLOCK, 0, 0, 0).is_ok(),
        true,
    );
    checks.equal("all of it", ask(fd, SET, WRITE, 0, 0, 0).is_ok(), true);
    checks.equal(
        "seen without an end",
        ask(other, GET, WRITE, 0, 9, 1),
        Ok(if apart { (WRITE, 0, 0) } else { (UNLOCK, 9, 1) }),
    );
    // Locks are advice: a write through another descriptor goes on.
    checks.equal(
        "writes",
        call(18, &[other as u64, address([7u8].as_ptr()), 1, 9]),
        Ok(1),
    );
    checks.equal("unlocks all", ask(fd, SET, UNLOCK, 0, 0, 0).is_ok(), true);
    call(3, &[other as u64]).map(drop)
}

/// flock(2) keeps others out, by the open file, whoever keeps the locks.
fn whole_locks(checks: &mut Checks) -> Result<(), Errno> {
    const SHARED: u64 = 1;
    const EXCLUSIVE: u64 = 2;
    const NOW: u64 = 4;
    const UNLOCK: u64 = 8;
    let path = c"/tmp/locked";
    let (one, other) = (open(path, 0o102)?, open(path, 2)?);
    let copy = call(32, &[one as u64])?;
    let flock = |fd: i32, operation: u64| call(73, &[fd as u64, operation]);
    checks.equal("shared", flock(one, SHARED), Ok(0));
    checks.equal("by both", flock(other, SHARED | NOW), Ok(0));
    checks.equal(
        "not for one alone",
        flock(one, EXCLUSIVE | NOW),
        Err(EAGAIN),
    );
    checks.equal("unlocked", flock(other, UNLOCK), Ok(0));
    checks.equal("for one alone", flock(one, EXCLUSIVE | NOW), Ok(0));
    checks.equal("its copy's too", flock(copy, EXCLUSIVE | NOW), Ok(0));
    checks.equal("kept out", flock(other, SHARED | NOW), Err(EAGAIN));
    checks.equal("no operation", flock(one, 3), Err(EINVAL));
    checks.equal("writes go on", write(other, b"x"), Ok(1));
    checks.equal("and keep it", flock(other, SHARED | NOW), Err(EAGAIN));
    let waiting = sys::fork()?;
    if waiting == 0 {
        let mine = open(path, 2);
        let locked = mine.and_then(|fd| flock(fd, EXCLUSIVE));
        std::process::exit(i32::from(locked.is_err()))
    }
    std::thread::sleep(std::time::Duration::from_millis(30));
    // The child has copies of both; its own end gives nothing back.
    checks.equal("given back", flock(one, UNLOCK), Ok(0));
    checks.equal("for who waited", sys::waitpid(waiting, 0), Ok((waiting, 0)));
    checks.equal("by its end", flock(other, EXCLUSIVE | NOW), Ok(0));
    call(3, &[other as u64])?;
    checks.equal("by a close", flock(one, EXCLUSIVE | NOW), Ok(0));
    Ok(())
}

/// Several cages append lines to one file, each through a descriptor of its own: no line is lost
/// or torn.
fn together(checks: &mut Checks) -> Result<(), Errno> {
    const CAGES: u8 = 4;
    const LINES: usize = 200;
    const O_CREAT_APPEND: u64 = 0o2101;
    let path = c"/tmp/together";
    let mut children = Vec::new();
    for cage in 0..CAGES {
        let child = sys::fork()?;
        if child == 0 {
            let done = open(path, O_CREAT_APPEND).is_ok_and(|fd| {
                let line = [vec![b'a' + cage; 37], b"\n".to_vec()].concat();
                (0..LINES).all(|_| write(fd, &line) == Ok(38))
            });
            std::process::exit(i32::from(!done))
        }
        children.push(child);
    }
    for child in children {
        checks.equal("a writer", sys::waitpid(child, 0), Ok((child, 0)));
    }
    let text = std::fs::read("/tmp/together").unwrap_or_default();
    let mut lines = [0; CAGES as usize];
    for line in text
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let whole = line.len() == 37 && line.iter().all(|byte| *byte == line[0]);
        checks.equal("a whole line", whole, true);
        if let Some(count) = lines.get_mut(usize::from(line[0].wrapping_sub(b'a'))) {
            *count += 1;
        }
    }
    checks.equal("lines of each", lines, [LINES; CAGES as usize]);
    Ok(())
}

fn main() {
    let mut checks = Checks(0);
    let ran = differences(&mut checks)
        .and_then(|()| whole_locks(&mut checks))
        .and_then(|()| together(&mut checks));
    checks.equal("the checks themselves", ran, Ok(()));
    std::process::exit(i32::from(checks.0 > 0))
}
