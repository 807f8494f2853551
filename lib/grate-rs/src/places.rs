//! What path arguments name, so that what is judged is what is acted on.
//!
//! Between two look-ups of one path other cages can put symlinks into it or rename what it leads
//! through. So the directory that holds the last part is opened once, in the grate's own table, and
//! all that follows is done with that one name in it: the name may come to mean another file, but
//! it stays that name, in that directory.

use crate::constants::{
    SYS_FCHDIR, SYS_FCHMOD, SYS_FCHMODAT, SYS_FSTATFS, SYS_FTRUNCATE, SYS_GETCWD, SYS_LINK,
    SYS_LINKAT, SYS_MKDIR, SYS_MKNOD, SYS_NEWFSTATAT, SYS_OPEN, SYS_OPENAT, SYS_READLINKAT,
    SYS_RENAMEAT, SYS_RENAMEAT2, SYS_SYMLINKAT, SYS_UMASK, SYS_UNLINKAT, error, fs,
};
use crate::kernel::{self, Inode, OwnFd, Stat, int, value};
use crate::paths::{MOST_LINKS, PATH_MAX, current_directory};
use crate::{Arg, CageFd, Call, Errno, getcageid, own_buffer};
use std::ffi::{CStr, CString};
use std::sync::{Mutex, PoisonError};

const EINVAL: Errno = Errno(error::EINVAL);
const ENOENT: Errno = Errno(error::ENOENT);

/// A path argument, copied once.
#[derive(Debug)]
pub struct TakenPath {
    text: CString,
    /// The directory that it starts at, where that is one of a cage's descriptors.
    directory: Option<CageFd>,
    /// The cage that it is looked up for.
    owner: u64,
}

/// A name in a directory that stays open.
#[derive(Debug)]
pub struct Place {
    directory: OwnFd,
    name: CString,
}

impl Call {
    /// Copies the path in argument `index`, which starts at the descriptor in argument
    /// `directory`, if that is given. The call goes on with the copy, which is absolute unless it
    /// starts at a descriptor, or is empty.
    ///
    /// # Errors
    /// EFAULT, ENAMETOOLONG, and as getcwd(2).
    pub fn take_path(&self, index: usize, directory: Option<usize>) -> Result<TakenPath, Errno> {
        self.take_path_of(index, directory, 0)
    }

    /// As [`Call::take_path`], of a call with these flags: AT_EMPTY_PATH gives a path that is empty
    /// a meaning.
    ///
    /// # Errors
    /// As there.
    pub fn take_path_of(
        &self,
        index: usize,
        directory: Option<usize>,
        flags: i32,
    ) -> Result<TakenPath, Errno> {
        let mut path = self.take_string(index, PATH_MAX)?;
        let is_absolute = path.starts_with(b"/");
        let directory = directory
            .map(|index| CageFd::of(self, index))
            .filter(|fd| fd.fd != fs::AT_FDCWD && !is_absolute);
        let owner = directory.map_or(self.cage_of(index), |fd| fd.cage);
        if directory.is_none() && !is_absolute {
            // In the grate's memory a relative path would start where the grate is.
            if !path.is_empty() {
                path = [current_directory(owner)?, b"/".to_vec(), path].concat();
            } else if flags & fs::AT_EMPTY_PATH != 0 {
                path = current_directory(owner)?;
            }
        }
        let text = c_string(path)?;
        self.replace(index, text.as_bytes_with_nul());
        Ok(TakenPath {
            text,
            directory,
            owner,
        })
    }
}

/// A path as the kernel takes it.
///
/// # Errors
/// ENAMETOOLONG; EINVAL for a NUL in it.
pub fn c_string(path: Vec<u8>) -> Result<CString, Errno> {
    if path.len() >= PATH_MAX {
        return Err(Errno(error::ENAMETOOLONG));
    }
    CString::new(path).map_err(|_| EINVAL)
}

/// A path in its parts: where its last name is looked up, and that name, with the slashes behind.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let end = path
        .iter()
        .rposition(|&byte| byte != b'/')
        .map_or(0, |at| at + 1);
    if end == 0 {
        // Nothing, or the root, which has no name.
        return (path, b"");
    }
    let start = path[..end]
        .iter()
        .rposition(|&byte| byte == b'/')
        .map_or(0, |at| at + 1);
    path.split_at(start)
}

impl TakenPath {
    /// A path of the grate's own, which must be absolute.
    ///
    /// # Errors
    /// As [`c_string`].
    pub fn own(path: &[u8]) -> Result<Self, Errno> {
        Ok(Self {
            text: c_string(path.to_vec())?,
            directory: None,
            owner: getcageid(),
        })
    }

    /// What it says: absolute unless it starts at a descriptor.
    pub fn text(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// Whether it is empty, which means the descriptor's own file where AT_EMPTY_PATH is given.
    pub fn is_empty(&self) -> bool {
        self.text().is_empty()
    }

    /// The directory that it starts at, where that is one of a cage's descriptors.
    pub fn directory(&self) -> Option<CageFd> {
        self.directory
    }

    /// Directory and path as arguments of the `*at` calls.
    pub fn args(&self) -> [Arg; 2] {
        let directory = self
            .directory
            .map_or(int(self.owner, fs::AT_FDCWD), CageFd::arg);
        [directory, own_buffer(self.text.as_ptr())]
    }

    /// Looks at what it names now.
    ///
    /// # Errors
    /// As stat(2).
    pub fn stat(&self, follow: bool) -> Result<Stat, Errno> {
        let [directory, path] = self.args();
        let flags = if follow { 0 } else { fs::AT_SYMLINK_NOFOLLOW };
        let args = [directory, path, int(self.owner, flags)];
        kernel::stat_with(SYS_NEWFSTATAT, self.owner, &args, 2)
    }

    /// Opens what it names now for `cage`: the caller or the grate itself.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(&self, cage: u64, flags: i32, mode: u64) -> Result<CageFd, Errno> {
        let [directory, path] = self.args();
        let args = [directory, path, int(cage, flags), value(cage, mode)];
        kernel::call(SYS_OPENAT, cage, &args).map(|fd| CageFd { cage, fd })
    }

    /// The place that it names; `follow` says whether a symlink there is followed.
    ///
    /// # Errors
    /// As the look-up; ELOOP.
    pub fn place(&self, follow: bool) -> Result<Place, Errno> {
        let (parent, name) = split(self.text());
        let place = Place::within(self.directory, parent, name)?;
        if follow {
            place.follow(|_| {})
        } else {
            Ok(place)
        }
    }
}

impl std::fmt::Display for TakenPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        String::from_utf8_lossy(self.text()).fmt(f)
    }
}

/// The current directory is the grate's one, whoever asks.
static HERE: Mutex<()> = Mutex::new(());

/// Does something with a directory for the current one.
fn at<T>(directory: CageFd, act: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    let _turn = HERE.lock().unwrap_or_else(PoisonError::into_inner);
    kernel::call(SYS_FCHDIR, getcageid(), &[directory.arg()])?;
    act()
}

/// The absolute path of an open directory, without symlinks.
///
/// # Errors
/// ENOENT where it is in no place of the cages' any more; ENOTDIR for what is none.
pub fn path_of(directory: CageFd) -> Result<Vec<u8>, Errno> {
    let own = getcageid();
    let mut path = vec![0; PATH_MAX];
    at(directory, || {
        let args = [own_buffer(path.as_mut_ptr()), value(own, path.len() as u64)];
        kernel::call(SYS_GETCWD, own, &args)
    })?;
    let end = path.iter().position(|&byte| byte == 0).unwrap_or(0);
    path.truncate(end);
    if !path.starts_with(b"/") {
        return Err(ENOENT);
    }
    Ok(path)
}

impl Place {
    /// The name in the directory that `parent` leads to from `start`, or from the root.
    fn within(start: Option<CageFd>, parent: &[u8], name: &[u8]) -> Result<Self, Errno> {
        const FLAGS: i32 = fs::O_PATH | fs::O_DIRECTORY | fs::O_CLOEXEC;
        let own = getcageid();
        if parent.is_empty() && name.is_empty() {
            return Err(ENOENT);
        }
        let parent = c_string(if parent.is_empty() { b"." } else { parent }.to_vec())?;
        let path = own_buffer(parent.as_ptr());
        let flags = [int(own, FLAGS), int(own, 0)];
        let fd = match start {
            Some(start) if !parent.as_bytes().starts_with(b"/") => {
                kernel::call(SYS_OPENAT, own, &[start.arg(), path, flags[0], flags[1]])
            }
            _ => kernel::call(SYS_OPEN, own, &[path, flags[0], flags[1]]),
        }?;
        let directory = OwnFd(CageFd { cage: own, fd });
        // The root has no name in itself.
        let name = if name.is_empty() { b"." } else { name };
        Ok(Self {
            directory,
            name: c_string(name.to_vec())?,
        })
    }

    /// The directory.
    pub fn directory(&self) -> CageFd {
        self.directory.0
    }

    /// The name, with any slashes behind it.
    pub fn name(&self) -> &CStr {
        &self.name
    }

    /// The name without slashes behind it.
    pub fn bare_name(&self) -> &[u8] {
        let name = self.name.as_bytes();
        &name[..name.len() - self.slashes().len()]
    }

    fn slashes(&self) -> Vec<u8> {
        let name = self.name.as_bytes();
        let bare = name.iter().rposition(|&byte| byte != b'/');
        name[bare.map_or(0, |at| at + 1)..].to_vec()
    }

    /// Whether the name leads to a directory whatever it is: `.` or `..`.
    fn is_dots(&self) -> bool {
        matches!(self.bare_name(), b"." | b"..")
    }

    /// Directory and name as arguments of the `*at` calls, made for the grate.
    pub fn args(&self) -> [Arg; 2] {
        [self.directory.0.arg(), own_buffer(self.name.as_ptr())]
    }

    /// What the name says, where it is a symlink.
    fn link(&self) -> Result<Option<Vec<u8>>, Errno> {
        let own = getcageid();
        let name = c_string(self.bare_name().to_vec())?;
        let mut target = vec![0; PATH_MAX];
        let args = [
            self.directory.0.arg(),
            own_buffer(name.as_ptr()),
            own_buffer(target.as_mut_ptr()),
            value(own, target.len() as u64),
        ];
        match kernel::call(SYS_READLINKAT, own, &args) {
            Ok(len) => {
                target.truncate(len as usize);
                Ok(Some(target))
            }
            Err(Errno(error::EINVAL | error::ENOENT)) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// The place that a symlink here leads to in the end; `met` is told of each on the way, but
    /// for this one.
    ///
    /// # Errors
    /// As the look-up; ELOOP.
    pub fn follow(self, mut met: impl FnMut(&Self)) -> Result<Self, Errno> {
        let mut place = self;
        for _ in 0..=MOST_LINKS {
            let Some(target) = place.link()? else {
                return Ok(place);
            };
            let (parent, name) = split(&target);
            let name = [name, place.slashes().as_slice()].concat();
            place = Self::within(Some(place.directory.0), parent, &name)?;
            met(&place);
        }
        Err(Errno(error::ELOOP))
    }

    /// lstat(2) of the name, whatever slashes are behind it.
    ///
    /// # Errors
    /// As lstat.
    pub fn stat(&self) -> Result<Stat, Errno> {
        let own = getcageid();
        let name = c_string(self.bare_name().to_vec())?;
        let args = [
            self.directory.0.arg(),
            own_buffer(name.as_ptr()),
            int(own, fs::AT_SYMLINK_NOFOLLOW),
        ];
        kernel::stat_with(SYS_NEWFSTATAT, own, &args, 2)
    }

    /// The absolute path without symlinks.
    ///
    /// # Errors
    /// As [`path_of`]; ENAMETOOLONG.
    pub fn path(&self) -> Result<Vec<u8>, Errno> {
        if self.is_dots() {
            let own = getcageid();
            let flags = fs::O_PATH | fs::O_DIRECTORY | fs::O_CLOEXEC;
            return path_of(OwnFd(self.open(own, flags, 0)?).0);
        }
        let mut path = path_of(self.directory.0)?;
        if path != b"/" {
            path.push(b'/');
        }
        path.extend_from_slice(self.bare_name());
        if path.len() >= PATH_MAX {
            return Err(Errno(error::ENAMETOOLONG));
        }
        Ok(path)
    }

    /// Opens the name for `cage`, not through a symlink: the caller, or the grate itself.
    ///
    /// # Errors
    /// As open(2); ELOOP for a symlink.
    pub fn open(&self, cage: u64, flags: i32, mode: u64) -> Result<CageFd, Errno> {
        let mut flags = flags | fs::O_NOFOLLOW;
        if !self.slashes().is_empty() {
            if flags & (fs::O_CREAT | fs::O_PATH) == fs::O_CREAT {
                return Err(Errno(error::EISDIR));
            }
            // With its slashes the name would be followed in spite of O_NOFOLLOW.
            flags |= fs::O_DIRECTORY;
        }
        let name = c_string(self.bare_name().to_vec())?;
        let args = [
            self.directory.0.arg(),
            own_buffer(name.as_ptr()),
            int(cage, flags),
            value(cage, mode),
        ];
        kernel::call(SYS_OPENAT, cage, &args).map(|fd| CageFd { cage, fd })
    }

    /// The place without slashes behind its name: with them the kernel follows a symlink there,
    /// whatever its flags say.
    ///
    /// # Errors
    /// ENOTDIR where there were slashes and there is no folder; as stat(2).
    pub fn without_slashes(mut self) -> Result<Self, Errno> {
        if !self.slashes().is_empty() {
            if !self.stat()?.is_directory() {
                return Err(Errno(error::ENOTDIR));
            }
            self.name = c_string(self.bare_name().to_vec())?;
        }
        Ok(self)
    }

    /// Makes an `*at` call on the name, with these arguments behind it, which must say where there
    /// is a choice that a symlink is not followed.
    ///
    /// # Errors
    /// What it answered.
    pub fn call(&self, nr: u64, rest: &[Arg]) -> Result<i32, Errno> {
        kernel::call(nr, getcageid(), &[&self.args(), rest].concat())
    }

    /// Does something with the name's file, opened in the grate's own table: the descriptor and
    /// these arguments are those of a call.
    fn with_file(&self, nr: u64, flags: i32, rest: &[Arg]) -> Result<i32, Errno> {
        let own = getcageid();
        // Nothing is waited for, should a FIFO be there by now.
        let flags = flags | fs::O_CLOEXEC | fs::O_NONBLOCK;
        let file = OwnFd(self.open(own, flags, 0)?);
        kernel::call(nr, own, &[&[file.0.arg()], rest].concat())
    }

    /// chmod(2), not through a symlink (EOPNOTSUPP).
    ///
    /// # Errors
    /// As chmod. On Lind, where the kernel has no such call, EACCES also for what can't be read.
    pub fn chmod(&self, mode: Arg) -> Result<i32, Errno> {
        const EOPNOTSUPP: Errno = Errno(error::EOPNOTSUPP);
        let flags = int(getcageid(), fs::AT_SYMLINK_NOFOLLOW);
        match self.call(SYS_FCHMODAT, &[mode, flags]) {
            Err(EOPNOTSUPP) if !self.stat()?.is_symlink() => {
                self.with_file(SYS_FCHMOD, fs::O_RDONLY, &[mode])
            }
            result => result,
        }
    }

    /// truncate(2), not through a symlink.
    ///
    /// # Errors
    /// As truncate; ELOOP for a symlink.
    pub fn truncate(&self, len: Arg) -> Result<i32, Errno> {
        let stat = self.stat()?;
        if stat.is_directory() {
            return Err(Errno(error::EISDIR));
        }
        // Opening a device or a FIFO could be felt.
        if !stat.is_regular() || (len.value as i64) < 0 {
            return Err(EINVAL);
        }
        self.with_file(SYS_FTRUNCATE, fs::O_WRONLY, &[len])
    }

    /// statfs(2), not through a symlink.
    ///
    /// # Errors
    /// As statfs.
    pub fn statfs(&self, to: Arg) -> Result<i32, Errno> {
        self.with_file(SYS_FSTATFS, fs::O_PATH, &[to])
    }

    /// unlinkat(2), with AT_REMOVEDIR or 0.
    ///
    /// # Errors
    /// As unlinkat.
    pub fn unlink(&self, flags: i32) -> Result<i32, Errno> {
        let own = getcageid();
        let [directory, name] = self.args();
        kernel::call(SYS_UNLINKAT, own, &[directory, name, int(own, flags)])
    }

    /// renameat2(2).
    ///
    /// # Errors
    /// As renameat2.
    pub fn rename_to(&self, to: &Self, flags: i32) -> Result<i32, Errno> {
        let own = getcageid();
        let ([from, name], [to, new_name]) = (self.args(), to.args());
        if flags == 0 {
            return kernel::call(SYS_RENAMEAT, own, &[from, name, to, new_name]);
        }
        let args = [from, name, to, new_name, int(own, flags)];
        kernel::call(SYS_RENAMEAT2, own, &args)
    }

    /// Makes a hard link; a symlink is linked itself.
    ///
    /// # Errors
    /// As link(2).
    pub fn link_to(&self, to: &Self) -> Result<i32, Errno> {
        let own = getcageid();
        let ([from, name], [new, new_name]) = (self.args(), to.args());
        if cage_libc::sys::base() == 0 {
            let args = [from, name, new, new_name, int(own, 0)];
            return kernel::call(SYS_LINKAT, own, &args);
        }
        // Lind has link(2) alone, whose names start at one current directory: the link is made
        // beside the file, and goes to its place from there.
        let (here, there) = (self.directory.0.stat()?, to.directory.0.stat()?);
        if here.inode() == there.inode() {
            return at(self.directory.0, || {
                kernel::call(SYS_LINK, own, &[name, new_name])
            });
        }
        let beside = Self::within(Some(self.directory.0), b"", temporary_name().as_bytes())?;
        let [_, temporary] = beside.args();
        at(self.directory.0, || {
            kernel::call(SYS_LINK, own, &[name, temporary])
        })?;
        const RENAME_NOREPLACE: i32 = 1;
        beside.rename_to(to, RENAME_NOREPLACE).inspect_err(|_| {
            // It is the error of the rename that counts.
            let _ = beside.unlink(0);
        })
    }

    /// Makes a symlink that says the text in an argument.
    ///
    /// # Errors
    /// As symlink(2).
    pub fn make_symlink(&self, text: Arg) -> Result<i32, Errno> {
        let [directory, name] = self.args();
        kernel::call(SYS_SYMLINKAT, getcageid(), &[text, directory, name])
    }

    /// mkdir(2) for `cage`, whose umask counts.
    ///
    /// # Errors
    /// As mkdir.
    pub fn make_directory(&self, cage: u64, mode: u32) -> Result<i32, Errno> {
        let own = getcageid();
        let [_, name] = self.args();
        let mode = mode & !umask_beyond_own(cage)?;
        at(self.directory.0, || {
            kernel::call(SYS_MKDIR, own, &[name, value(own, mode.into())])
        })
    }

    /// mknod(2) for `cage`, whose umask counts.
    ///
    /// # Errors
    /// As mknod.
    pub fn make_node(&self, cage: u64, mode: u32, device: Arg) -> Result<i32, Errno> {
        let own = getcageid();
        let [_, name] = self.args();
        let mode = mode & !umask_beyond_own(cage)?;
        at(self.directory.0, || {
            kernel::call(
                SYS_MKNOD,
                own,
                &[name, value(own, mode.into()), value(own, device.value)],
            )
        })
    }
}

/// The mode bits that a cage's new files lack. Lind has no call for that, nor for changing it.
fn umask_beyond_own(cage: u64) -> Result<u32, Errno> {
    if cage_libc::sys::base() != 0 {
        return Ok(0);
    }
    let mask = kernel::call(SYS_UMASK, cage, &[value(cage, 0o777)])?;
    kernel::call(SYS_UMASK, cage, &[int(cage, mask)])?;
    Ok(mask as u32)
}

/// A name that nobody has thought of.
fn temporary_name() -> String {
    use std::hash::{BuildHasher, RandomState};
    format!(".link-{:016x}", RandomState::new().hash_one(0))
}

/// The inodes of all that a path leads through and to: directories, and symlinks themselves.
/// None of them may be moved or removed if the path is to keep its meaning.
///
/// # Errors
/// As the look-up.
pub fn trail(path: &[u8]) -> Result<Vec<Inode>, Errno> {
    let mut inodes = Vec::new();
    let mut pending = vec![path.to_vec()];
    let mut place = Place::within(None, b"/", b".")?;
    let mut links = 0;
    while let Some(path) = pending.pop() {
        if path.starts_with(b"/") {
            place = Place::within(None, b"/", b".")?;
        }
        let mut parts = path.splitn(2, |&byte| byte == b'/');
        let (first, rest) = (parts.next().unwrap_or_default(), parts.next());
        if let Some(rest) = rest {
            pending.push(rest.iter().copied().skip_while(|&b| b == b'/').collect());
        }
        if first.is_empty() {
            continue;
        }
        place = Place::within(Some(place.directory.0), b"", first)?;
        let stat = place.stat()?;
        inodes.push(stat.inode());
        if let Some(target) = place.link()? {
            links += 1;
            if links > MOST_LINKS {
                return Err(Errno(error::ELOOP));
            }
            pending.push(target);
        } else if stat.is_directory() {
            place = Place::within(Some(place.directory.0), &[first, b"/"].concat(), b".")?;
        }
    }
    Ok(inodes)
}

/// As [`trail`], for a path of the grate's own that may start at its current directory.
///
/// # Errors
/// As there.
pub fn own_trail(path: &str) -> Result<Vec<Inode>, Errno> {
    let path = path.as_bytes();
    if path.starts_with(b"/") {
        return trail(path);
    }
    trail(&[&current_directory(getcageid())?, &b"/"[..], path].concat())
}
