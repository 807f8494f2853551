//! Opening files by path, and what is known and can be changed about them.

use super::io::answer;
use super::lookup::{self, AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, Dir, Lookup};
use super::{Call, Entry, UNUSED, abi, fds};
use crate::cage::FsContext;
use crate::path::{self, proc_path};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, RwLockWriteGuard};

pub(super) const CALLS: &[Entry] = &[
    Entry::new(2, |call| open_path(call, Dir::Cwd, 0)),
    Entry::new(4, |call| stat_path(call, Dir::Cwd, 0, 0)),
    Entry::new(5, fstat),
    Entry::new(6, |call| stat_path(call, Dir::Cwd, 0, AT_SYMLINK_NOFOLLOW)),
    Entry::new(21, |call| access_path(call, Dir::Cwd, 0, 0)),
    Entry::new(76, truncate),
    Entry::new(79, getcwd),
    Entry::new(80, chdir),
    Entry::new(81, fchdir),
    Entry::new(90, |call| chmod_path(call, Dir::Cwd, 0, 0)),
    Entry::new(91, fchmod),
    Entry::new(92, |call| chown_path(call, Dir::Cwd, 0, 0)),
    Entry::new(93, fchown),
    Entry::new(94, |call| {
        chown_path(call, Dir::Cwd, 0, AT_SYMLINK_NOFOLLOW)
    }),
    Entry::new(137, statfs),
    Entry::new(138, fstatfs),
    Entry::new(257, |call| open_path(call, Dir::Own(0), 1)),
    Entry::new(260, fchownat),
    Entry::new(262, newfstatat),
    Entry::new(268, fchmodat),
    Entry::new(269, faccessat),
    Entry::new(280, utimensat),
    Entry::new(332, statx),
];

/// Check with the effective instead of the real ids.
const AT_EACCESS: u32 = 0x200;
const AT_NO_AUTOMOUNT: u32 = 0x800;
const AT_STATX_SYNC_TYPE: u32 = 0x6000;

/// What open(2) knows; it ignores other bits, while openat2(2) refuses them.
const OPEN_FLAGS: OFlags = OFlags::RWMODE
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOCTTY)
    .union(OFlags::TRUNC)
    .union(OFlags::APPEND)
    .union(OFlags::NONBLOCK)
    .union(OFlags::SYNC)
    .union(OFlags::DIRECT)
    .union(OFlags::LARGEFILE)
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NOATIME)
    .union(OFlags::CLOEXEC)
    .union(OFlags::PATH)
    .union(OFlags::TMPFILE);
/// What it knows together with `O_PATH`.
const PATH_FLAGS: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// The flags of open(2) as openat2(2) takes them.
///
/// # Errors
/// `EINVAL` for those that contradict each other, which Linux tells before it looks at the path.
fn open_flags(bits: u32) -> Result<OFlags, Errno> {
    let unnamed = OFlags::TMPFILE.difference(OFlags::DIRECTORY);
    let flags = OFlags::from_bits_retain(bits) & OPEN_FLAGS;
    if flags.contains(OFlags::PATH) {
        return Ok(flags & PATH_FLAGS);
    }
    let writes = flags.intersects(OFlags::WRONLY | OFlags::RDWR);
    if flags.contains(OFlags::CREATE | OFlags::DIRECTORY)
        || (flags.contains(unnamed) && !(flags.contains(OFlags::TMPFILE) && writes))
    {
        return Err(Errno::INVAL);
    }
    Ok(flags | OFlags::NOCTTY) // The terminal of a cage is the runtime's.
}

/// Permission bits that a cage can give. A file that it makes must not lend its owner's or group's
/// rights to those who run it outside: its owner may be root.
const GRANTABLE: u32 = 0o1777;

/// The mode of a new file: what the umask of the target leaves of it.
pub(super) fn new_mode(call: &Call<'_>, mode: u32) -> u32 {
    let fs = call.target.fs.read().unwrap_or_else(|e| e.into_inner());
    mode & GRANTABLE & !fs.umask
}

fn open_path(call: &Call<'_>, dir: Dir, index: usize) -> Result<i32, Errno> {
    let flags = open_flags(call.uint(index + 1))?;
    let lookup = Lookup::new(call, dir, index)?;
    fds::check_room(call.target)?; // Before a file is made or cut.
    let mode = new_mode(call, call.uint(index + 2));
    let file = lookup.open(flags, mode)?;
    call.target
        .fds()
        .insert(0, Arc::new(file), flags.contains(OFlags::CLOEXEC))
}

/// Flags of a call that had none on Linux: guests may leave the argument out.
fn late_flags(call: &Call<'_>, index: usize, known: u32) -> Result<u32, Errno> {
    match call.raw(index) {
        UNUSED => Ok(0),
        _ => known_flags(call, index, known),
    }
}

fn known_flags(call: &Call<'_>, index: usize, known: u32) -> Result<u32, Errno> {
    let flags = call.uint(index);
    if flags & !known != 0 {
        return Err(Errno::INVAL);
    }
    Ok(flags)
}

fn stat_path(call: &Call<'_>, dir: Dir, index: usize, flags: u32) -> Result<i32, Errno> {
    let node = lookup::seen(call, dir, index, flags)?;
    call.put(index + 1, &abi::stat(&path::stat(&node)?))?;
    Ok(0)
}

fn newfstatat(call: &Call<'_>) -> Result<i32, Errno> {
    let known = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_STATX_SYNC_TYPE;
    let flags = known_flags(call, 3, known)?;
    stat_path(call, Dir::Target(0), 1, flags)
}

/// statx: directory, path, flags, what is wanted, buffer.
fn statx(call: &Call<'_>) -> Result<i32, Errno> {
    const RESERVED: u32 = 0x8000_0000;
    let known = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_STATX_SYNC_TYPE;
    let wanted = call.uint(3);
    let flags = known_flags(call, 2, known)?;
    if wanted & RESERVED != 0 || flags & AT_STATX_SYNC_TYPE == AT_STATX_SYNC_TYPE {
        return Err(Errno::INVAL);
    }
    let node = lookup::seen(call, Dir::Target(0), 1, flags)?;
    let wanted = StatxFlags::from_bits_truncate(wanted);
    let stat = rustix::fs::statx(&*node, "", AtFlags::EMPTY_PATH, wanted)?;
    call.put(4, &abi::statx(&stat))?;
    Ok(0)
}

fn fstat(call: &Call<'_>) -> Result<i32, Errno> {
    let file = call.file(0)?;
    call.put(1, &abi::stat(&rustix::fs::fstat(&*file)?))?;
    Ok(0)
}

fn statfs(call: &Call<'_>) -> Result<i32, Errno> {
    let node = Lookup::new(call, Dir::Cwd, 0)?.node(true)?;
    call.put(1, &abi::statfs(&rustix::fs::fstatfs(&node)?))?;
    Ok(0)
}

fn fstatfs(call: &Call<'_>) -> Result<i32, Errno> {
    let file = call.file(0)?;
    call.put(1, &abi::statfs(&rustix::fs::fstatfs(&*file)?))?;
    Ok(0)
}

fn access_path(call: &Call<'_>, dir: Dir, index: usize, flags: u32) -> Result<i32, Errno> {
    const ALL: u32 = 7;
    let mode = call.uint(index + 1);
    if mode & !ALL != 0 {
        return Err(Errno::INVAL);
    }
    let node = lookup::seen(call, dir, index, flags)?;
    check_access(&node, mode, flags & AT_EACCESS)
}

fn check_access(node: &OwnedFd, mode: u32, flags: u32) -> Result<i32, Errno> {
    // SAFETY: the path is an empty C string, which with AT_EMPTY_PATH means the file itself.
    let result = unsafe {
        libc::syscall(
            libc::SYS_faccessat2,
            node.as_raw_fd(),
            c"".as_ptr(),
            mode,
            flags | AT_EMPTY_PATH,
        )
    };
    answer(result as libc::c_int)
}

fn faccessat(call: &Call<'_>) -> Result<i32, Errno> {
    let known = AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH;
    let flags = late_flags(call, 3, known)?;
    access_path(call, Dir::Target(0), 1, flags)
}

fn truncate(call: &Call<'_>) -> Result<i32, Errno> {
    let len = call.offset(1);
    if len < 0 {
        return Err(Errno::INVAL);
    }
    let node = Lookup::new(call, Dir::Cwd, 0)?.node(true)?;
    let path = CString::new(proc_path(&node)).map_err(|_| Errno::INVAL)?;
    loop {
        // SAFETY: `path` is a C string, and names the open file, not a path of the guest.
        match answer(unsafe { libc::truncate(path.as_ptr(), len) }) {
            // It waits for nothing but a lease of some run's, which no program knows of.
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// A device may be the host's own: a cage does not own it, whoever runs the runtime.
fn check_owned(node: &OwnedFd) -> Result<FileType, Errno> {
    match FileType::from_raw_mode(path::stat(node)?.st_mode) {
        FileType::CharacterDevice | FileType::BlockDevice => Err(Errno::PERM),
        other => Ok(other),
    }
}

fn chmod_path(call: &Call<'_>, dir: Dir, index: usize, flags: u32) -> Result<i32, Errno> {
    let node = lookup::changed(call, dir, index, flags)?;
    if check_owned(&node)? == FileType::Symlink {
        return Err(Errno::OPNOTSUPP); // A link has no mode.
    }
    let mode = Mode::from_raw_mode(call.uint(index + 1) & GRANTABLE);
    rustix::fs::chmod(proc_path(&node), mode)?;
    Ok(0)
}

fn fchmodat(call: &Call<'_>) -> Result<i32, Errno> {
    let flags = late_flags(call, 3, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    chmod_path(call, Dir::Target(0), 1, flags)
}

fn fchmod(call: &Call<'_>) -> Result<i32, Errno> {
    let file = call.file(0)?;
    check_owned(&file)?;
    rustix::fs::fchmod(&*file, Mode::from_raw_mode(call.uint(1) & GRANTABLE))?;
    Ok(0)
}

fn chown_path(call: &Call<'_>, dir: Dir, index: usize, flags: u32) -> Result<i32, Errno> {
    let node = lookup::changed(call, dir, index, flags)?;
    check_owned(&node)?;
    // SAFETY: as in `check_access`.
    answer(unsafe {
        libc::fchownat(
            node.as_raw_fd(),
            c"".as_ptr(),
            call.uint(index + 1),
            call.uint(index + 2),
            libc::AT_EMPTY_PATH,
        )
    })
}

fn fchownat(call: &Call<'_>) -> Result<i32, Errno> {
    let flags = known_flags(call, 4, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    chown_path(call, Dir::Target(0), 1, flags)
}

fn fchown(call: &Call<'_>) -> Result<i32, Errno> {
    let file = call.file(0)?;
    check_owned(&file)?;
    // SAFETY: no memory is involved.
    answer(unsafe { libc::fchown(file.as_raw_fd(), call.uint(1), call.uint(2)) })
}

fn utimensat(call: &Call<'_>) -> Result<i32, Errno> {
    const AT_FDCWD: i32 = -100;
    let times = match call.raw(2) {
        0 => None,
        _ => {
            let bytes: [u8; 32] = call.get(2)?;
            let (access, change) = bytes.split_at(16);
            Some([abi::timespec(access), abi::timespec(change)])
        }
    };
    if times.is_some_and(|times| times.iter().all(|time| time.tv_nsec == libc::UTIME_OMIT)) {
        return Ok(0); // Linux does not even look for the file.
    }
    let times = times
        .as_ref()
        .map_or(std::ptr::null(), |times| times.as_ptr());
    if call.raw(1) == 0 && call.int(0) != AT_FDCWD {
        known_flags(call, 3, 0)?;
        let file = call.file(0)?;
        check_owned(&file)?;
        // SAFETY: `times` is null or points at two timespecs of this frame.
        return answer(unsafe { libc::futimens(file.as_raw_fd(), times) });
    }
    let flags = known_flags(call, 3, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    let node = lookup::changed(call, Dir::Own(0), 1, flags)?;
    check_owned(&node)?;
    // SAFETY: as above, and as in `check_access`.
    answer(unsafe { libc::utimensat(node.as_raw_fd(), c"".as_ptr(), times, libc::AT_EMPTY_PATH) })
}

/// Answers the length without the NUL, as Lind does.
fn getcwd(call: &Call<'_>) -> Result<i32, Errno> {
    let cwd = fs(call).cwd.clone();
    let mut path = call.rt.root.path_of(&cwd)?;
    path.push(0);
    if path.len() as u64 > call.raw(1) {
        return Err(Errno::RANGE);
    }
    call.put(0, &path)?;
    Ok(path.len() as i32 - 1)
}

fn fs<'a>(call: &'a Call<'_>) -> RwLockWriteGuard<'a, FsContext> {
    call.target.fs.write().unwrap_or_else(|e| e.into_inner())
}

fn enter(call: &Call<'_>, directory: Arc<OwnedFd>) -> Result<i32, Errno> {
    const SEARCH: u32 = 1;
    if FileType::from_raw_mode(path::stat(&directory)?.st_mode) != FileType::Directory {
        return Err(Errno::NOTDIR);
    }
    check_access(&directory, SEARCH, AT_EACCESS)?;
    fs(call).cwd = directory;
    Ok(0)
}

fn chdir(call: &Call<'_>) -> Result<i32, Errno> {
    let directory = Lookup::new(call, Dir::Cwd, 0)?.node(true)?;
    enter(call, Arc::new(directory))
}

fn fchdir(call: &Call<'_>) -> Result<i32, Errno> {
    enter(call, call.file(0)?)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{A, Fixture, Twins, UNMAPPED};
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn furnish(twins: &Twins) {
        twins.clear();
        twins.prepare(|top| {
            fs::create_dir_all(top.join("dir/sub")).unwrap();
            fs::write(top.join("file"), "content").unwrap();
            symlink("file", top.join("link")).unwrap();
            symlink("dir", top.join("dirlink")).unwrap();
            symlink("nothing", top.join("dangling")).unwrap();
            symlink("loop", top.join("loop")).unwrap();
        });
    }

    /// Descriptors 0: a directory, 1: a file, 2: a file that is a path only.
    fn furnished() -> Twins {
        let mut twins = Twins::new();
        furnish(&twins);
        twins
            .descriptor(2, &[A::Path("/dir"), A::I(0o200_000)])
            .unwrap();
        twins.descriptor(2, &[A::Path("/file"), A::I(0)]).unwrap();
        let only_path = A::I(0o10_000_000);
        twins.descriptor(2, &[A::Path("/file"), only_path]).unwrap();
        twins
    }

    const PATHS: [&str; 18] = [
        "",
        "/",
        "/file",
        "file",
        "/file/",
        "/file/x",
        "/dir",
        "/dir/",
        "/dir/../file",
        "/link",
        "/link/",
        "/dirlink",
        "/dirlink/sub",
        "/dangling",
        "/loop",
        "/nothing",
        "/nothing/",
        "/nothing/x",
    ];

    /// Asks both worlds for each path.
    fn each_path(nr: u32, args: impl Fn(A<'_>) -> Vec<A<'_>>) {
        let twins = furnished();
        for path in PATHS {
            let _ = twins.agree(nr, &args(A::Path(path)));
        }
        for path in ["n".repeat(300), "/x".repeat(3000)] {
            assert!(twins.agree(nr, &args(A::Path(&path))).is_err());
        }
        assert!(twins.agree(nr, &args(A::Nowhere)).is_err());
    }

    #[test]
    fn open_answers_as_the_kernel_does() {
        let flag_sets = [
            0,
            1,
            2,
            3,
            0o100,
            0o102,
            0o300,
            0o301,
            0o1_001,
            0o1_000,
            0o2_001,
            0o200_000,
            0o200_001,
            0o200_100,
            0o400_000,
            0o400_101,
            0o10_000_000,
            0o10_400_000,
            0o10_000_102,
            0o20_200_000,
            0o20_200_002,
            0o20_000_002,
            0o4_010_002,
            0o100_000,
            0x4000_0000,
            0x8000_0000,
        ];
        let mut twins = Twins::new();
        let mut open = 0;
        for flags in flag_sets {
            for path in PATHS {
                if path == "/" && flags & 0o100 != 0 {
                    continue; // The other world's root is a directory like others.
                }
                furnish(&twins);
                let args = [A::Path(path), A::I(flags), A::I(0o1_777)];
                let opened = twins.descriptor(2, &args);
                let Ok(()) = opened else { continue };
                let _ = twins.agree(72, &[A::Fd(open), A::I(3), A::I(0)]);
                twins.close(open);
                open += 1;
                let path = path.trim_matches('/');
                let modes = [&twins.cage.path(""), twins.host()]
                    .map(|top| fs::metadata(top.join(path)).map(|m| m.mode() & !0o77).ok());
                assert_eq!(modes[0].is_some(), modes[1].is_some(), "{path}");
                if path == "nothing" {
                    assert_eq!(modes[0], modes[1]);
                }
            }
        }
    }

    #[test]
    fn open_starts_where_the_descriptor_is() {
        let mut twins = furnished();
        let open = |twins: &mut Twins, fd, path| twins.descriptor(257, &[fd, path, A::I(0)]);
        assert_eq!(open(&mut twins, A::Fd(0), A::Text("sub")), Ok(()));
        assert_eq!(open(&mut twins, A::Fd(0), A::Text("../file")), Ok(()));
        assert_eq!(
            open(&mut twins, A::Fd(1), A::Text("sub")),
            Err(Errno::NOTDIR)
        );
        assert_eq!(open(&mut twins, A::I(99), A::Text("x")), Err(Errno::BADF));
        assert_eq!(open(&mut twins, A::I(99), A::Text("")), Err(Errno::NOENT));
        assert_eq!(open(&mut twins, A::I(99), A::Path("/file")), Ok(()));
        assert_eq!(open(&mut twins, A::I(-100), A::Path("/file")), Ok(()));
    }

    #[test]
    fn stat_and_access_answer_as_the_kernel_does() {
        for nr in [4, 6, 137] {
            each_path(nr, |path| vec![path, A::Room(144)]);
        }
        for flags in [0, 0x100, 0x1000, 0x1100, 0x800, 0x200, 1] {
            let twins = furnished();
            for path in PATHS {
                for fd in [A::I(-100), A::Fd(0), A::Fd(1), A::Fd(2), A::I(99)] {
                    if path.is_empty() || path.starts_with('/') {
                        let _ = twins.agree(262, &[fd, A::Path(path), A::Room(144), A::I(flags)]);
                    }
                }
            }
        }
        for mode in [0, 1, 2, 4, 7, 8, -1] {
            each_path(21, |path| vec![path, A::I(mode)]);
            each_path(269, |path| vec![A::I(-100), path, A::I(mode), A::I(0)]);
        }
        let twins = furnished();
        for fd in [A::Fd(0), A::Fd(1), A::Fd(2), A::I(99)] {
            for nr in [5, 138] {
                let _ = twins.agree(nr, &[fd, A::Room(144)]);
                assert!(twins.agree(nr, &[fd, A::Nowhere]).is_err());
            }
        }
    }

    #[test]
    fn stat_tells_of_the_file() {
        let cage = Fixture::new();
        fs::write(cage.path("file"), "content").unwrap();
        symlink("file", cage.path("link")).unwrap();
        let file = fs::metadata(cage.path("file")).unwrap();
        for nr in [4, 6] {
            let path = cage.text("/link");
            assert_eq!(cage.call(nr, &[path, 0x2000]), Ok(0));
            let mode = u32::from_le_bytes(cage.get(0x2010, 4).try_into().unwrap());
            let inode = u64::from_le_bytes(cage.get(0x2008, 8).try_into().unwrap());
            assert_eq!(mode & 0o170_000 == 0o120_000, nr == 6);
            assert_eq!(inode == file.ino(), nr == 4);
        }
        assert_eq!(
            cage.call(4, &[cage.text("/link"), UNMAPPED]),
            Err(Errno::FAULT)
        );
    }

    #[test]
    fn what_can_be_changed_changes() {
        for len in [3, 0, 10, -1] {
            each_truncated(len);
        }
        for mode in [0o600, 0o4_755] {
            each_path(90, |path| vec![path, A::I(mode)]);
            each_path(268, |path| vec![A::I(-100), path, A::I(mode)]);
        }
        for nr in [92, 94] {
            each_path(nr, |path| vec![path, A::I(-1), A::I(-1)]);
        }
        for flags in [0, 0x100, 0x1000, 0x1100, 0x200] {
            each_at_path(260, flags, |path| {
                vec![A::I(-100), path, A::I(-1), A::I(-1), A::I(flags)]
            });
            const TIMES: [u8; 32] = [7; 32];
            each_at_path(280, flags, |path| {
                vec![A::I(-100), path, A::I(0), A::I(flags)]
            });
            each_at_path(280, flags, |path| {
                vec![A::I(-100), path, A::In(&TIMES), A::I(flags)]
            });
        }
        let twins = furnished();
        for fd in [A::Fd(0), A::Fd(1), A::Fd(2), A::I(99)] {
            let _ = twins.agree(91, &[fd, A::I(0o640)]);
            let _ = twins.agree(93, &[fd, A::I(-1), A::I(-1)]);
            let _ = twins.agree(280, &[fd, A::I(0), A::I(0), A::I(0)]);
            let _ = twins.agree(280, &[fd, A::I(0), A::I(0), A::I(0x100)]);
            let _ = twins.agree(280, &[fd, A::I(0), A::Nowhere, A::I(0)]);
            let _ = twins.agree(280, &[fd, A::Text(""), A::I(0), A::I(0x1000)]);
        }
        let mode = fs::metadata(twins.cage.path("file")).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o640);
        let omit = [0, libc::UTIME_OMIT, 0, libc::UTIME_OMIT].map(i64::to_le_bytes);
        let ignored = [A::I(99), A::Text("nothing"), A::In(omit.as_flattened())];
        assert_eq!(twins.agree(280, &ignored), Ok(0));
        let now = [0, libc::UTIME_NOW, 1_000_000_000, 5].map(i64::to_le_bytes);
        let set = [
            A::Fd(0),
            A::Text("../file"),
            A::In(now.as_flattened()),
            A::I(0),
        ];
        assert_eq!(twins.agree(280, &set), Ok(0));
        let file = fs::metadata(twins.cage.path("file")).unwrap();
        assert_eq!((file.mtime(), file.mtime_nsec()), (1_000_000_000, 5));
    }

    fn each_truncated(len: i64) {
        let twins = furnished();
        for path in PATHS {
            let _ = twins.agree(76, &[A::Path(path), A::I(len)]);
        }
        let size = fs::metadata(twins.cage.path("file")).unwrap().len();
        assert_eq!(size, if len < 0 { 7 } else { len as u64 });
    }

    /// As `each_path`, without what only an empty path changes.
    fn each_at_path(nr: u32, flags: i64, args: impl Fn(A<'_>) -> Vec<A<'_>>) {
        let twins = furnished();
        for path in PATHS {
            // The current directories of the two worlds are not alike.
            if !path.is_empty() || flags & i64::from(AT_EMPTY_PATH) == 0 {
                let _ = twins.agree(nr, &args(A::Path(path)));
            }
        }
    }

    #[test]
    fn a_cage_has_its_own_directory() {
        let cage = Fixture::new();
        fs::create_dir_all(cage.path("a/b")).unwrap();
        fs::write(cage.path("a/file"), "").unwrap();
        let cwd = || {
            let len = cage.call(79, &[0x2000, 4096])?;
            Ok(String::from_utf8(cage.get(0x2000, len as usize)).unwrap())
        };
        assert_eq!(cwd().as_deref(), Ok("/"));
        assert_eq!(cage.call(80, &[cage.text("a/b")]), Ok(0));
        assert_eq!(cwd().as_deref(), Ok("/a/b"));
        assert_eq!(cage.call(79, &[0x2000, 4]), Err(Errno::RANGE));
        assert_eq!(cage.call(79, &[0x2000, 5]), Ok(4));
        assert_eq!(cage.call(79, &[0x2000, 0]), Err(Errno::RANGE));
        assert_eq!(cage.call(79, &[UNMAPPED, 99]), Err(Errno::FAULT));
        assert_eq!(cage.call(80, &[cage.text("../file")]), Err(Errno::NOTDIR));
        assert_eq!(cage.call(80, &[cage.text("none")]), Err(Errno::NOENT));
        assert_eq!(cage.call(80, &[cage.text("")]), Err(Errno::NOENT));
        let file = cage.open("../file", 0);
        assert_eq!(cage.call(81, &[file]), Err(Errno::NOTDIR));
        assert_eq!(cage.call(81, &[99]), Err(Errno::BADF));
        assert_eq!(cage.call(80, &[cage.text("../../../..")]), Ok(0));
        assert_eq!(cwd().as_deref(), Ok("/"));
        let sub = cage.open("a/b", 0o200_000);
        assert_eq!(cage.call(81, &[sub]), Ok(0));
        assert_eq!(cwd().as_deref(), Ok("/a/b"));
        fs::rename(cage.path("a"), cage.path("c")).unwrap();
        assert_eq!(cwd().as_deref(), Ok("/c/b"));
        fs::rename(cage.path("c"), cage.dir.path().join("out")).unwrap();
        assert_eq!(cwd(), Err(Errno::NOENT));
        let up = cage.text("../../secret");
        assert_eq!(cage.call(2, &[up, 0, 0]), Err(Errno::NOENT));
        fs::remove_dir_all(cage.dir.path().join("out")).unwrap();
        assert_eq!(cwd(), Err(Errno::NOENT));
    }

    #[test]
    fn new_files_heed_the_umask_of_their_cage() {
        let cage = Fixture::new();
        assert_eq!(cage.call(95, &[0o027]), Ok(0));
        cage.open("/file", 0o101);
        let modes = [(2, "file", 0o640), (83, "dir", 0o750), (133, "node", 0o640)];
        for (nr, name, mode) in modes {
            let path = cage.text(name);
            if nr != 2 {
                assert_eq!(
                    cage.call(nr, &[path, if nr == 83 { 0o777 } else { 0o666 }, 0]),
                    Ok(0)
                );
            }
            let found = fs::metadata(cage.path(name)).unwrap().permissions().mode();
            assert_eq!(found & 0o7777, mode, "{name}");
        }
    }

    /// Nobody gets an owner's or a group's rights by running what a cage made.
    #[test]
    fn no_call_gives_away_an_owners_rights() {
        let cage = Fixture::new();
        let (file, here) = (cage.open("/file", 0o101), (-100i64) as u64);
        let text = |name: &str| cage.text(name);
        let mode = |name: &str| fs::metadata(cage.path(name)).unwrap().permissions().mode();
        assert!(cage.call(2, &[text("/made"), 0o101, 0o6755]).is_ok());
        assert_eq!(cage.call(133, &[text("/node"), 0o6755, 0]), Ok(0));
        assert_eq!(cage.call(83, &[text("/dir"), 0o7755]), Ok(0));
        assert_eq!(cage.call(90, &[text("/made"), 0o7755]), Ok(0));
        assert_eq!(cage.call(268, &[here, text("/node"), 0o6755, 0]), Ok(0));
        assert_eq!(cage.call(91, &[file, 0o6755]), Ok(0));
        for name in ["file", "made", "node", "dir"] {
            assert_eq!(mode(name) & 0o6777, 0o755, "{name}");
        }
    }

    #[test]
    fn devices_are_lent_and_stay_the_hosts() {
        let cage = Fixture::new();
        let zero = cage.open("/dev/zero", 0o2);
        cage.put(0x2000, &[1; 8]);
        assert_eq!(cage.call(0, &[zero, 0x2000, 8]), Ok(8));
        assert_eq!(cage.get(0x2000, 8), [0; 8]);
        let full = cage.open("/x/../dev/full", 0o1_101);
        assert_eq!(cage.call(1, &[full, 0x2000, 8]), Err(Errno::NOSPC));
        assert_eq!(cage.call(4, &[cage.text("/dev/null"), 0x2000]), Ok(0));
        assert_eq!(cage.call(21, &[cage.text("/dev/null"), 2]), Ok(0));
        assert_eq!(cage.call(91, &[zero, 0o666]), Err(Errno::PERM));
        assert_eq!(cage.call(93, &[zero, 0, 0]), Err(Errno::PERM));
        assert_eq!(cage.call(280, &[zero, 0, 0, 0]), Err(Errno::PERM));
        assert_eq!(
            cage.call(90, &[cage.text("/dev/null"), 0o600]),
            Err(Errno::NOENT)
        );
        assert_eq!(cage.call(87, &[cage.text("/dev/null")]), Err(Errno::NOENT));
        assert_eq!(
            cage.call(2, &[cage.text("/dev/kmsg"), 0, 0]),
            Err(Errno::NOENT)
        );
    }

    #[test]
    fn a_full_table_makes_no_file() {
        let cage = Fixture::new();
        let first = cage.open("/file", 0o101);
        while cage.call(32, &[first]).is_ok() {}
        let path = cage.text("/fresh");
        assert_eq!(cage.call(2, &[path, 0o101, 0o666]), Err(Errno::MFILE));
        assert!(!cage.path("fresh").exists());
    }
}
