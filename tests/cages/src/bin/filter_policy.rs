//! `filter_policy PERMITTED REFUSED [sealed]`: checks from inside that write-filter-grate permits
//! writing to files with the extension PERMITTED and not to those with REFUSED. `sealed` leaves
//! out the calls that crypt-grate answers by itself.
//!
//! Started as `filter_policy after-exec WRITABLE REFUSED CLOSED FILE` by itself.

use cage_libc::sys::{self, Errno, address, nr};
use std::ffi::CString;
use std::fmt::Debug;
use std::process::ExitCode;

const TRUNCATE: u32 = 76;
const READV: u32 = nr::READV;
const READLINK: u32 = nr::READLINK;
const FALLOCATE: u32 = 285;
const DUP3: u32 = 292;
const PWRITEV: u32 = 296;
const COPY_FILE_RANGE: u32 = 326;

const AT_FDCWD: i32 = -100;
const O_RDONLY: i32 = 0;
const O_WRONLY: i32 = 1;
const O_RDWR: i32 = 2;
const O_CREAT: i32 = 0o100;
const O_EXCL: i32 = 0o200;
const O_TRUNC: i32 = 0o1000;
const O_APPEND: i32 = 0o2000;
const O_CLOEXEC: i32 = 0o2000000;
const O_DIRECTORY: i32 = 0o200000;
const O_NOFOLLOW: i32 = 0o400000;
const F_DUPFD: i32 = 0;
const F_SETFD: i32 = 2;
const F_DUPFD_CLOEXEC: i32 = 1030;
const FD_CLOEXEC: i32 = 1;
const PROT_READ: i32 = 1;
const PROT_WRITE: i32 = 2;
const MAP_SHARED: i32 = 1;
const MAP_PRIVATE: i32 = 2;

const EPERM: Result<i32, Errno> = Err(Errno(1));
const ENOENT: Result<i32, Errno> = Err(Errno(2));
const EBADF: Result<i32, Errno> = Err(Errno(9));
const EEXIST: Result<i32, Errno> = Err(Errno(17));
const EISDIR: Result<i32, Errno> = Err(Errno(21));
const EINVAL: Result<i32, Errno> = Err(Errno(22));
const ELOOP: Result<i32, Errno> = Err(Errno(40));

/// An `int` argument.
fn int(value: i32) -> u64 {
    i64::from(value) as u64
}

fn call(nr: u32, args: &[u64]) -> Result<i32, Errno> {
    // SAFETY: every address comes from a live buffer.
    unsafe { sys::syscall(nr, args) }
}

fn path_call(nr: u32, path: &str, rest: &[u64]) -> Result<i32, Errno> {
    let path = format!("{path}\0");
    call(nr, &[&[address(path.as_ptr())], rest].concat())
}

fn two_path_call(nr: u32, first: &str, second: &str) -> Result<i32, Errno> {
    let second = format!("{second}\0");
    path_call(nr, first, &[address(second.as_ptr())])
}

fn open(path: &str, flags: i32) -> Result<i32, Errno> {
    path_call(nr::OPEN, path, &[int(flags), 0o644])
}

fn open_at(directory: i32, path: &str, flags: i32) -> Result<i32, Errno> {
    let path = format!("{path}\0");
    let args = [int(directory), address(path.as_ptr()), int(flags), 0o644];
    call(nr::OPENAT, &args)
}

fn write(fd: i32) -> Result<i32, Errno> {
    sys::write(fd, b"data").map(|len| len as i32)
}

fn pwrite(fd: i32, offset: i64) -> Result<i32, Errno> {
    let args = [int(fd), address(b"data".as_ptr()), 4, offset as u64];
    call(nr::PWRITE, &args)
}

/// writev, pwritev or readv with one vector.
fn vector(nr: u32, fd: i32) -> Result<i32, Errno> {
    let mut data = *b"data";
    let vectors = [address(data.as_mut_ptr()), 4];
    call(nr, &[int(fd), address(vectors.as_ptr()), 1, 0])
}

fn ftruncate(fd: i32, len: i64) -> Result<i32, Errno> {
    call(nr::FTRUNCATE, &[int(fd), len as u64])
}

fn map(fd: i32, protection: i32, flags: i32) -> Result<i32, Errno> {
    let args = [0, 4096, int(protection), int(flags), int(fd), 0];
    let address = call(nr::MMAP, &args)?;
    call(nr::MUNMAP, &[sys::base() + u64::from(address as u32), 4096])
}

fn fcntl(fd: i32, command: i32, number: i32) -> Result<i32, Errno> {
    call(nr::FCNTL, &[int(fd), int(command), int(number), 0])
}

fn copy_range(from: i32, to: i32) -> Result<i32, Errno> {
    let mut start = 0u64;
    let start = address(&raw mut start);
    call(COPY_FILE_RANGE, &[int(from), start, int(to), 0, 2, 0])
}

#[derive(Default)]
struct Checks {
    made: u32,
    failed: u32,
}

impl Checks {
    fn equal<T: PartialEq + Debug>(&mut self, what: &str, got: T, wanted: T) {
        self.made += 1;
        if got != wanted {
            self.failed += 1;
            eprintln!("FAILED: {what}: {got:?} instead of {wanted:?}");
        }
    }

    /// A descriptor that must be had.
    fn fd(&mut self, what: &str, got: Result<i32, Errno>) -> i32 {
        self.made += 1;
        got.unwrap_or_else(|errno| {
            self.failed += 1;
            eprintln!("FAILED: {what}: {errno:?}");
            -1
        })
    }

    /// Every way to change a file through a descriptor is refused.
    fn refused(&mut self, what: &str, fd: i32) {
        self.equal(&format!("{what}: write"), write(fd), EPERM);
        self.equal(&format!("{what}: writev"), vector(nr::WRITEV, fd), EPERM);
        self.equal(&format!("{what}: pwrite"), pwrite(fd, 0), EPERM);
        self.equal(&format!("{what}: pwritev"), vector(PWRITEV, fd), EPERM);
        self.equal(&format!("{what}: ftruncate"), ftruncate(fd, 1), EPERM);
    }

    /// Every way to change a file through a descriptor works.
    fn permitted(&mut self, what: &str, fd: i32) {
        self.equal(&format!("{what}: write"), write(fd), Ok(4));
        self.equal(&format!("{what}: writev"), vector(nr::WRITEV, fd), Ok(4));
        self.equal(&format!("{what}: pwrite"), pwrite(fd, 0), Ok(4));
        self.equal(&format!("{what}: pwritev"), vector(PWRITEV, fd), Ok(4));
        self.equal(&format!("{what}: ftruncate"), ftruncate(fd, 8), Ok(0));
    }

    fn close(&mut self, fd: i32) {
        self.equal("close", sys::close(fd), Ok(()));
    }

    fn report(&self) -> ExitCode {
        if self.failed > 0 {
            eprintln!("{} of {} checks failed", self.failed, self.made);
            return ExitCode::FAILURE;
        }
        println!("{} checks hold", self.made);
        ExitCode::SUCCESS
    }
}

/// A set of names, some of which may be written.
struct Names {
    /// May be written.
    good: String,
    /// May not, and has content.
    bad: String,
    good_end: String,
    bad_end: String,
}

impl Names {
    /// A name that may be written.
    fn good(&self, stem: &str) -> String {
        format!("{FOLDER}/{stem}.{}", self.good_end)
    }

    /// A name that may not.
    fn bad(&self, stem: &str) -> String {
        format!("{FOLDER}/{stem}.{}", self.bad_end)
    }
}

const FOLDER: &str = "/tmp/filter";
const CONTENT: &[u8] = b"what must stay as it is";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    let mut checks = Checks::default();
    match words.as_slice() {
        ["after-exec", writable, refused, closed, file] => {
            let number = |text: &str| text.parse().unwrap_or(-1);
            let fds = [number(writable), number(refused), number(closed)];
            after_exec(&mut checks, fds, file);
        }
        [good_end, bad_end, rest @ ..] => {
            let names = Names {
                good: format!("{FOLDER}/kept.{good_end}"),
                bad: format!("{FOLDER}/data.{bad_end}"),
                good_end: (*good_end).to_owned(),
                bad_end: (*bad_end).to_owned(),
            };
            let is_plain = rest != ["sealed"];
            prepare(&mut checks, &names);
            by_descriptor(&mut checks, &names);
            if is_plain {
                whole_file_calls(&mut checks, &names);
            }
            by_name(&mut checks, &names);
            links(&mut checks, &names);
            relative(&mut checks, &names);
            copies(&mut checks, &names);
            streams(&mut checks, &names);
            renaming(&mut checks, &names);
            forking(&mut checks, &names);
            executing(&mut checks, &names, &args[0]);
            let kept = std::fs::read(&names.bad).ok();
            checks.equal("the content at the end", kept.as_deref(), Some(CONTENT));
        }
        _ => {
            eprintln!("usage: filter_policy PERMITTED REFUSED [sealed]");
            return ExitCode::from(64);
        }
    }
    checks.report()
}

/// Makes the file that can't be written by renaming one that can.
fn prepare(checks: &mut Checks, names: &Names) {
    checks.equal("mkdir", path_call(nr::MKDIR, FOLDER, &[0o755]), Ok(0));
    let made = names.good("made");
    let fd = checks.fd("create", open(&made, O_WRONLY | O_CREAT | O_EXCL));
    checks.equal("content", sys::write(fd, CONTENT), Ok(CONTENT.len()));
    checks.close(fd);
    checks.equal(
        "a rename is permitted",
        two_path_call(nr::RENAME, &made, &names.bad),
        Ok(0),
    );
}

fn by_descriptor(checks: &mut Checks, names: &Names) {
    let good = checks.fd("create", open(&names.good, O_RDWR | O_CREAT));
    checks.permitted("permitted name", good);
    checks.close(good);
    checks.equal("write to what is closed", write(good), EBADF);
    checks.equal("ftruncate of what is closed", ftruncate(good, 0), EBADF);
    checks.equal("write to -1", write(-1), EBADF);
    checks.equal("pwrite to 900", pwrite(900, 0), EBADF);

    for flags in [O_WRONLY, O_RDWR, O_RDWR | O_APPEND, O_WRONLY | O_CREAT] {
        let what = format!("other name, flags {flags:#o}");
        let bad = checks.fd(&what, open(&names.bad, flags));
        checks.refused(&what, bad);
        checks.equal("negative offset", pwrite(bad, -1), EINVAL);
        checks.equal("negative length", ftruncate(bad, -1), EINVAL);
        checks.close(bad);
    }
    let bad = checks.fd("open to read", open(&names.bad, O_RDONLY));
    checks.equal("write to what is open for reading", write(bad), EBADF);
    let mut content = [0; CONTENT.len()];
    checks.equal("read", sys::read(bad, &mut content), Ok(CONTENT.len()));
    checks.equal("what was read", &content[..], CONTENT);
    checks.close(bad);
    let bad = checks.fd("open for both", open(&names.bad, O_RDWR));
    checks.equal("readv", vector(READV, bad), Ok(4));
    checks.close(bad);

    let new = names.bad("new");
    let bad = checks.fd("create another name", open(&new, O_RDWR | O_CREAT | O_EXCL));
    checks.refused("what was created", bad);
    checks.close(bad);
    checks.equal("unlink", path_call(nr::UNLINK, &new, &[]), Ok(0));
}

/// Calls that are not for sealed files.
fn whole_file_calls(checks: &mut Checks, names: &Names) {
    let good = checks.fd("open", open(&names.good, O_RDWR | O_CREAT));
    let bad = checks.fd("open", open(&names.bad, O_RDWR));
    let to_read = checks.fd("open", open(&names.bad, O_RDONLY));
    let both = PROT_READ | PROT_WRITE;
    checks.equal("shared mapping", map(bad, both, MAP_SHARED), EPERM);
    checks.equal(
        "shared mapping that mprotect could open",
        map(bad, PROT_READ, MAP_SHARED),
        EPERM,
    );
    checks.equal("private mapping", map(bad, both, MAP_PRIVATE), Ok(0));
    checks.equal(
        "shared mapping for reading",
        map(to_read, PROT_READ, MAP_SHARED),
        Ok(0),
    );
    // Not every runtime has such mappings.
    let mapped = map(good, both, MAP_SHARED);
    checks.equal("the other is not refused", mapped == EPERM, false);
    checks.equal("copy_file_range into it", copy_range(good, bad), EPERM);
    checks.equal("copy_file_range from nothing", copy_range(900, bad), EBADF);
    checks.equal("copy_file_range out of it", copy_range(bad, good), Ok(2));
    let new = names.bad("new");
    let made = checks.fd("create", open(&new, O_WRONLY | O_CREAT | O_TRUNC));
    checks.refused("what was created to be truncated", made);
    checks.close(made);
    checks.equal("unlink", path_call(nr::UNLINK, &new, &[]), Ok(0));
    if sys::base() == 0 {
        let fallocate = |fd, len| call(FALLOCATE, &[int(fd), 0, 0, len]);
        checks.equal("fallocate", fallocate(bad, 100), EPERM);
        checks.equal("fallocate of nothing", fallocate(bad, 0), EINVAL);
        checks.equal("fallocate of the other", fallocate(good, 100), Ok(0));
    }
    for fd in [good, bad, to_read] {
        checks.close(fd);
    }
}

fn by_name(checks: &mut Checks, names: &Names) {
    let truncate = |path: &str, len: i64| path_call(TRUNCATE, path, &[len as u64]);
    checks.equal("truncate", truncate(&names.bad, 0), EPERM);
    checks.equal(
        "truncate to less than nothing",
        truncate(&names.bad, -1),
        EINVAL,
    );
    checks.equal(
        "truncate nothing",
        truncate(&names.bad("absent"), 0),
        ENOENT,
    );
    checks.equal("truncate a directory", truncate(FOLDER, 0), EISDIR);
    checks.equal("truncate the other", truncate(&names.good, 3), Ok(0));
    let size = std::fs::read(&names.good).map(|content| content.len()).ok();
    checks.equal("its size", size, Some(3));

    for flags in [O_WRONLY, O_RDWR, O_RDONLY, O_WRONLY | O_CREAT] {
        checks.equal(
            "opening to truncate",
            open(&names.bad, flags | O_TRUNC),
            EPERM,
        );
    }
    checks.equal(
        "creating what is there",
        open(&names.bad, O_WRONLY | O_CREAT | O_EXCL | O_TRUNC),
        EEXIST,
    );
    checks.equal(
        "opening nothing",
        open(&names.bad("absent"), O_WRONLY | O_TRUNC),
        ENOENT,
    );
    checks.equal(
        "opening a directory",
        open(FOLDER, O_WRONLY | O_TRUNC),
        EISDIR,
    );
    let good = checks.fd("truncate", open(&names.good, O_WRONLY | O_TRUNC));
    checks.permitted("what was truncated", good);
    checks.close(good);

    for end in ["LOG", "logs", "og"] {
        let near = format!("{FOLDER}/near.{end}");
        let fd = checks.fd("create", open(&near, O_WRONLY | O_CREAT));
        checks.equal(&near, write(fd), EPERM);
        checks.close(fd);
    }
    let bare = format!("{FOLDER}/{}", names.good_end);
    let fd = checks.fd("create", open(&bare, O_WRONLY | O_CREAT));
    checks.equal("the extension alone", write(fd), EPERM);
    checks.close(fd);
}

fn links(checks: &mut Checks, names: &Names) {
    let symlink = |to: &str, from: &str| two_path_call(nr::SYMLINK, to, from);
    let door = names.good("door");
    checks.equal("symlink", symlink(&names.bad, &door), Ok(0));
    let fd = checks.fd("open by symlink", open(&door, O_RDWR));
    checks.refused("by a symlink with a permitted name", fd);
    checks.close(fd);
    checks.equal(
        "truncating by symlink",
        open(&door, O_RDWR | O_TRUNC),
        EPERM,
    );
    let truncate = path_call(TRUNCATE, &door, &[0]);
    checks.equal("truncate by symlink", truncate, EPERM);
    checks.equal(
        "a symlink not followed",
        open(&door, O_RDWR | O_NOFOLLOW),
        ELOOP,
    );

    // A chain, relative, and by way of a directory.
    let second = names.good("second");
    let chained = format!("../filter/door.{}", names.good_end);
    checks.equal("symlink", symlink(&chained, &second), Ok(0));
    let fd = checks.fd("open by two symlinks", open(&second, O_RDWR));
    checks.refused("by two symlinks", fd);
    checks.close(fd);

    let inner = names.good("inner");
    let target = format!("kept.{}", names.good_end);
    checks.equal("symlink", symlink(&target, &inner), Ok(0));
    let fd = checks.fd("open by symlink", open(&inner, O_RDWR));
    checks.permitted("by a symlink, both names permitted", fd);
    checks.close(fd);
    let truncate = path_call(TRUNCATE, &inner, &[5]);
    checks.equal("truncate by symlink, both permitted", truncate, Ok(0));

    let alias = names.bad("alias");
    checks.equal("symlink", symlink(&names.good, &alias), Ok(0));
    let fd = checks.fd("open by symlink", open(&alias, O_RDWR));
    checks.refused("a permitted file by another name", fd);
    checks.close(fd);

    let fresh = names.good("fresh");
    let target = names.good("target");
    checks.equal("symlink", symlink(&target, &fresh), Ok(0));
    let fd = checks.fd("create by symlink", open(&fresh, O_RDWR | O_CREAT));
    checks.permitted("what was created by a symlink", fd);
    checks.close(fd);
    let mut link = [0u8; 64];
    let length = path_call(READLINK, &fresh, &[address(link.as_mut_ptr()), 64]);
    checks.equal("the symlink is still one", length, Ok(target.len() as i32));

    let ring = names.good("ring");
    checks.equal("symlink", symlink(&ring, &ring), Ok(0));
    checks.equal("a ring of symlinks", open(&ring, O_RDWR), ELOOP);
}

fn relative(checks: &mut Checks, names: &Names) {
    let (good, bad) = (
        format!("kept.{}", names.good_end),
        format!("./data.{}", names.bad_end),
    );
    let directory = checks.fd("directory", open(FOLDER, O_RDONLY | O_DIRECTORY));
    let fd = checks.fd("openat", open_at(directory, &good, O_RDWR));
    checks.permitted("openat", fd);
    checks.close(fd);
    let fd = checks.fd("openat", open_at(directory, &bad, O_RDWR));
    checks.refused("openat", fd);
    checks.close(fd);
    let flags = O_WRONLY | O_TRUNC;
    checks.equal("openat to truncate", open_at(directory, &bad, flags), EPERM);
    let door = format!("door.{}", names.good_end);
    let fd = checks.fd("openat by symlink", open_at(directory, &door, O_RDWR));
    checks.refused("openat by symlink", fd);
    checks.close(fd);
    let inner = format!("inner.{}", names.good_end);
    let fd = checks.fd("openat by symlink", open_at(directory, &inner, O_RDWR));
    checks.permitted("openat by symlink, both permitted", fd);
    checks.close(fd);
    checks.close(directory);

    checks.equal("chdir", path_call(nr::CHDIR, FOLDER, &[]), Ok(0));
    for path in [&good, &inner] {
        let fd = checks.fd("relative", open(path, O_RDWR));
        checks.permitted("relative", fd);
        checks.close(fd);
        let fd = checks.fd("relative openat", open_at(AT_FDCWD, path, O_RDWR));
        checks.permitted("relative openat", fd);
        checks.close(fd);
        checks.equal("truncate", path_call(TRUNCATE, path, &[1]), Ok(0));
    }
    for path in [&bad, &door] {
        let fd = checks.fd("relative", open(path, O_RDWR));
        checks.refused("relative", fd);
        checks.close(fd);
        checks.equal("truncate", path_call(TRUNCATE, path, &[1]), EPERM);
    }
    // Lind takes no name for the current directory's.
    let nameless = if sys::base() == 0 { ENOENT } else { EISDIR };
    checks.equal("no name", open("", O_RDWR), nameless);
    checks.equal("chdir", path_call(nr::CHDIR, "/", &[]), Ok(0));
}

fn copies(checks: &mut Checks, names: &Names) {
    let good = checks.fd("open", open(&names.good, O_RDWR));
    let bad = checks.fd("open", open(&names.bad, O_RDWR));
    type Copy = fn(i32) -> Result<i32, Errno>;
    let ways: [(&str, Copy); 3] = [
        ("dup", |fd| call(nr::DUP, &[int(fd)])),
        ("F_DUPFD", |fd| fcntl(fd, F_DUPFD, 20)),
        ("F_DUPFD_CLOEXEC", |fd| fcntl(fd, F_DUPFD_CLOEXEC, 20)),
    ];
    for (what, way) in ways {
        let copy = checks.fd(what, way(good));
        checks.permitted(what, copy);
        checks.close(copy);
        let copy = checks.fd(what, way(bad));
        checks.refused(what, copy);
        checks.close(copy);
    }
    // The number's permission goes with what is put there.
    for (nr, flags) in [(nr::DUP2, &[][..]), (DUP3, &[0])] {
        let over = |from, to| call(nr, &[&[int(from), int(to)], flags].concat());
        checks.equal("dup2", over(good, 30), Ok(30));
        checks.permitted("a copy at 30", 30);
        checks.equal("dup2", over(bad, 30), Ok(30));
        checks.refused("a refused one over it", 30);
        checks.equal("dup2 of nothing", over(900, 30), EBADF);
        checks.refused("still", 30);
        checks.equal("dup2", over(good, 30), Ok(30));
        checks.permitted("a permitted one again", 30);
        checks.equal("dup2 of nothing", over(900, 30), EBADF);
        checks.permitted("still", 30);
        checks.close(30);
    }
    checks.equal(
        "dup2 to itself",
        call(nr::DUP2, &[int(good), int(good)]),
        Ok(good),
    );
    checks.permitted("as before", good);
    // A number is used again.
    checks.close(bad);
    checks.close(good);
    let again = checks.fd("open", open(&names.bad, O_RDWR));
    checks.equal("the number of the permitted one", again, good);
    checks.refused("used again", again);
    checks.close(again);
}

fn streams(checks: &mut Checks, names: &Names) {
    let ends = sys::pipe2(0);
    let (read, written) = ends.unwrap_or((-1, -1));
    checks.equal("pipe", write(written), Ok(4));
    checks.equal("the end to read", write(read), EBADF);
    let mut piped = [0; 4];
    checks.equal("through the pipe", sys::read(read, &mut piped), Ok(4));
    checks.close(read);
    checks.close(written);

    let out = checks.fd("dup of a standard stream", call(nr::DUP, &[1]));
    checks.equal("it", sys::write(out, b"\n"), Ok(1));
    // A refused file in the place of a standard stream is still refused.
    let bad = checks.fd("open", open(&names.bad, O_RDWR));
    checks.equal("dup2", call(nr::DUP2, &[int(bad), 1]), Ok(1));
    checks.equal("a file at 1", write(1), EPERM);
    checks.equal("dup2", call(nr::DUP2, &[int(out), 1]), Ok(1));
    checks.equal("the stream at 1 again", sys::write(1, b"\n"), Ok(1));
    checks.close(bad);
    checks.close(out);
}

/// What was opened keeps the name it was opened by.
fn renaming(checks: &mut Checks, names: &Names) {
    let (first, second) = (names.good("first"), names.bad("first"));
    let fd = checks.fd("create", open(&first, O_RDWR | O_CREAT));
    let rename = |from: &str, to: &str| two_path_call(nr::RENAME, from, to);
    checks.equal("rename", rename(&first, &second), Ok(0));
    checks.permitted("renamed while open", fd);
    let other = checks.fd("open", open(&second, O_RDWR));
    checks.refused("opened by its new name", other);
    checks.equal("rename back", rename(&second, &first), Ok(0));
    checks.refused("opened by its other name", other);
    checks.close(fd);
    checks.close(other);
}

fn forking(checks: &mut Checks, names: &Names) {
    let good = checks.fd("open", open(&names.good, O_RDWR));
    let bad = checks.fd("open", open(&names.bad, O_RDWR));
    match sys::fork() {
        Ok(0) => {
            let mut own = Checks::default();
            own.permitted("in a child", good);
            own.refused("in a child", bad);
            own.close(good);
            let fd = own.fd("open", open(&names.bad, O_RDWR));
            own.equal("the number", fd, good);
            own.refused("in the place of the permitted one", fd);
            sys::exit(own.failed as i32);
        }
        Ok(child) => {
            checks.equal("child", sys::waitpid(child, 0), Ok((child, 0)));
            checks.permitted("after the child has closed it", good);
            checks.refused("as before", bad);
        }
        Err(errno) => checks.equal("fork", errno, Errno(0)),
    }
    checks.close(good);
    checks.close(bad);
}

fn executing(checks: &mut Checks, names: &Names, own: &str) {
    let good = checks.fd("open", open(&names.good, O_RDWR));
    let bad = checks.fd("open", open(&names.bad, O_RDWR));
    let closed = checks.fd("open", open(&names.good, O_RDWR | O_CLOEXEC));
    let marked = checks.fd("open", open(&names.good, O_RDWR));
    checks.equal("F_SETFD", fcntl(marked, F_SETFD, FD_CLOEXEC), Ok(0));
    checks.equal("F_SETFD", fcntl(good, F_SETFD, FD_CLOEXEC), Ok(0));
    checks.equal("F_SETFD", fcntl(good, F_SETFD, 0), Ok(0));
    match sys::fork() {
        Ok(0) => {
            let words = [
                own.to_owned(),
                "after-exec".to_owned(),
                good.to_string(),
                bad.to_string(),
                closed.to_string(),
                names.bad.clone(),
            ];
            let strings: Vec<CString> = words
                .into_iter()
                .map(|word| CString::new(word).unwrap_or_default())
                .collect();
            let pointers: Vec<*const u8> = strings
                .iter()
                .map(|string| string.as_ptr().cast())
                .collect();
            // SAFETY: the strings live to the end of this function.
            let errno = unsafe { sys::execve(pointers[0], &pointers, &[]) };
            eprintln!("FAILED: exec: {errno:?}");
            sys::exit(1);
        }
        Ok(child) => checks.equal("program", sys::waitpid(child, 0), Ok((child, 0))),
        Err(errno) => checks.equal("fork", errno, Errno(0)),
    }
    for fd in [good, bad, closed, marked] {
        checks.close(fd);
    }
}

fn after_exec(checks: &mut Checks, [good, bad, closed]: [i32; 3], file: &str) {
    checks.permitted("after exec", good);
    checks.refused("after exec", bad);
    checks.equal("closed by exec", write(closed), EBADF);
    // The two numbers that exec has set free.
    for expected in [closed, closed + 1] {
        let fd = checks.fd("open", open(file, O_RDWR));
        checks.equal("its number", fd, expected);
        checks.refused("at a number that exec has set free", fd);
    }
    checks.equal("a standard stream", sys::write(1, b"\n"), Ok(1));
}
