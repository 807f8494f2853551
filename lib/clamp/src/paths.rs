//! Paths of the program's: which are inside, and what is done with those that are not.
//!
//! A path is judged by where the kernel finds what it names: the folder that holds its last part is
//! opened, and the place of that is asked for. What goes past is then done with that name in that
//! folder, never through a symlink there, so that no link which turns meanwhile leads it inside;
//! what goes inside goes on under the path that was found.
//!
//! Inside is what is below a prefix, if there is one, and each file that the grates inside had
//! opened before the program began ([`Private`](crate::private)).

use crate::{Front, Mark, marks, state};
use calls::{Entry, Kind};
use grate_rs::constants::{
    SYS_ACCESS, SYS_CHDIR, SYS_CHMOD, SYS_CHOWN, SYS_FACCESSAT, SYS_FCHMODAT, SYS_FCHOWNAT,
    SYS_LCHOWN, SYS_LINK, SYS_LINKAT, SYS_LSTAT, SYS_MKDIR, SYS_MKDIRAT, SYS_MKNOD, SYS_NEWFSTATAT,
    SYS_OPEN, SYS_OPENAT, SYS_READLINK, SYS_READLINKAT, SYS_RENAME, SYS_RENAMEAT, SYS_RENAMEAT2,
    SYS_RMDIR, SYS_STAT, SYS_STATFS, SYS_STATX, SYS_SYMLINK, SYS_SYMLINKAT, SYS_TRUNCATE,
    SYS_UNLINK, SYS_UNLINKAT, SYS_UTIMENSAT, error, fs,
};
use grate_rs::kernel::int;
use grate_rs::paths::normalised;
use grate_rs::places::{Place, TakenPath, path_of};
use grate_rs::{Call, Errno};

const ENOENT: Errno = Errno(error::ENOENT);
const EXDEV: Errno = Errno(error::EXDEV);
const EBUSY: Errno = Errno(error::EBUSY);

/// Which paths are inside.
#[derive(Debug, Default)]
pub struct Paths {
    /// A folder, with all that is below it: without symlinks, and without a slash at its end.
    prefix: Option<Vec<u8>>,
}

/// Where a path leads.
struct Found {
    /// Whether it is below the prefix.
    is_below: bool,
    /// Whether it is that, or a file of the grates inside.
    is_inside: bool,
    /// The absolute path without symlinks, with slashes behind it where there were.
    path: Vec<u8>,
    /// The name in its folder, unless the kernel has no such folder: then a grate inside may.
    place: Option<Place>,
}

/// Whether a path is another or below it.
fn is_below(path: &[u8], top: &[u8]) -> bool {
    path.strip_prefix(top)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

impl Paths {
    /// Those below one, which need not be there.
    ///
    /// # Errors
    /// A line that says what is wrong with it.
    pub fn below(prefix: &str) -> Result<Self, String> {
        let text = normalised(prefix.as_bytes());
        let found = TakenPath::own(&text)
            .and_then(|path| path.place(true))
            .and_then(|place| place.path());
        let mut path = match found {
            Ok(path) => path,
            // It may be a grate's inside alone.
            Err(ENOENT) => text,
            Err(errno) => return Err(format!("{prefix}: cannot be looked up: error {}", errno.0)),
        };
        if path == b"/" {
            path.clear();
        }
        Ok(Self { prefix: Some(path) })
    }

    fn has(&self, path: &[u8]) -> bool {
        let prefix = self.prefix.as_ref();
        prefix.is_some_and(|prefix| is_below(path, prefix))
    }

    /// Whether the prefix would not be where it is without this.
    fn needs(&self, path: &[u8]) -> bool {
        let prefix = self.prefix.as_ref();
        prefix.is_some_and(|prefix| is_below(prefix, path))
    }

    /// Finds out where a path of a call leads; `follow` says whether a symlink at its end is followed.
    fn find(&self, call: &Call, taken: &TakenPath, follow: bool) -> Result<Found, Errno> {
        let text = taken.text();
        match taken.place(follow) {
            Ok(place) => {
                let mut path = place.path()?;
                let slashes = text.iter().rev().take_while(|&&byte| byte == b'/').count();
                if slashes > 0 && path != b"/" {
                    path.push(b'/');
                }
                let is_below = self.has(&path);
                Ok(Found {
                    is_below,
                    is_inside: is_below || state().private.has(call, &place),
                    path,
                    place: Some(place),
                })
            }
            Err(ENOENT) if !text.is_empty() => {
                // What the kernel does not have is judged by what is written, without guesses.
                let mut whole = match taken.directory() {
                    Some(directory) => path_of(directory)?,
                    None => Vec::new(),
                };
                whole.push(b'/');
                whole.extend_from_slice(text);
                let goes_up = whole.split(|&byte| byte == b'/').any(|part| part == b"..");
                let path = normalised(&whole);
                if goes_up || !self.has(&path) {
                    return Err(ENOENT);
                }
                Ok(Found {
                    is_below: true,
                    is_inside: true,
                    path,
                    place: None,
                })
            }
            Err(errno) => Err(errno),
        }
    }
}

/// Whether a call follows a symlink at the end of its path: also where it would not, but slashes
/// are behind that, if it looks at what is there.
fn follows(call: &Call, path: &[u8]) -> bool {
    let slashes = path.ends_with(b"/");
    let flags = |index: usize| slashes || call.int(index) & fs::AT_SYMLINK_NOFOLLOW == 0;
    match u64::from(call.nr) {
        SYS_UNLINK | SYS_UNLINKAT | SYS_RMDIR | SYS_MKDIR | SYS_MKDIRAT | SYS_RENAME
        | SYS_RENAMEAT | SYS_RENAMEAT2 | SYS_LINK | SYS_SYMLINK | SYS_SYMLINKAT | SYS_MKNOD => {
            false
        }
        SYS_LSTAT | SYS_READLINK | SYS_READLINKAT | SYS_LCHOWN => slashes,
        SYS_LINKAT => call.int(4) & fs::AT_SYMLINK_FOLLOW != 0,
        SYS_OPEN => opens_links(call.int(1)),
        SYS_OPENAT => opens_links(call.int(2)),
        SYS_NEWFSTATAT | SYS_UTIMENSAT | SYS_FACCESSAT | SYS_FCHMODAT => flags(3),
        SYS_FCHOWNAT => flags(4),
        SYS_STATX => flags(2),
        _ => true,
    }
}

fn opens_links(flags: i32) -> bool {
    const MAKES_IT: i32 = fs::O_CREAT | fs::O_EXCL;
    flags & fs::O_NOFOLLOW == 0 && flags & MAKES_IT != MAKES_IT
}

/// Whether an empty path means the descriptor's own file.
fn is_of_descriptor(call: &Call) -> bool {
    let flags = match u64::from(call.nr) {
        SYS_NEWFSTATAT | SYS_UTIMENSAT | SYS_FACCESSAT | SYS_FCHMODAT => call.int(3),
        SYS_FCHOWNAT | SYS_LINKAT => call.int(4),
        SYS_STATX => call.int(2),
        _ => 0,
    };
    flags & fs::AT_EMPTY_PATH != 0
}

/// Whether a call takes away what it names, or puts something in its place.
pub(crate) fn removes(call: &Call) -> bool {
    matches!(
        u64::from(call.nr),
        SYS_UNLINK | SYS_UNLINKAT | SYS_RMDIR | SYS_RENAME | SYS_RENAMEAT | SYS_RENAMEAT2
    )
}

impl Paths {
    /// Whether a call has a path.
    pub fn are_in(entry: &Entry) -> bool {
        entry.args.contains(&Kind::Path)
    }

    /// Serves a call that has one.
    ///
    /// # Errors
    /// What the program is to get.
    pub fn serve(&self, front: &Front<'_>) -> Result<i32, Errno> {
        if self.prefix.is_none() && !state().private.are_any() {
            return match front.makes_one() {
                true => front.opened(None, || front.past()),
                false => front.past(),
            };
        }
        let args = front.entry.args.iter().enumerate();
        let paths: Vec<usize> = args
            .filter(|(_, kind)| **kind == Kind::Path)
            .map(|(index, _)| index)
            .collect();
        match paths[..] {
            [] => front.past(),
            [path] => self.by_path(front, path),
            [from, to, ..] => self.by_two(front, from, to),
        }
    }

    fn by_path(&self, front: &Front<'_>, index: usize) -> Result<i32, Errno> {
        let call = front.call;
        let directory = index
            .checked_sub(1)
            .filter(|&before| front.entry.args.get(before) == Some(&Kind::DirFd));
        if let Some(at) = directory
            && (call.is_null(index) || is_of_descriptor(call) && is_empty(call, index)?)
        {
            let fd = front.fd(at);
            return match marks().get(fd).is_some() {
                true => front.pass_inside(),
                false => front.past(),
            };
        }
        // Each goes on with a copy of its own.
        let (past, inside) = (call.numbered(call.nr), front.inside());
        let taken = past.take_path(index, directory)?;
        let found = self.find(call, &taken, follows(call, taken.text()))?;
        self.keep(call, &found)?;
        let mut path = found.path.clone();
        path.push(0);
        let go = |on: &Call| {
            on.replace(index, &path);
            on.forward(front.cage)
        };
        if found.is_inside {
            if found.place.is_none() && !front.is_served() {
                return Err(ENOENT);
            }
            if u64::from(call.nr) == SYS_CHDIR && taken.text() == found.path {
                // A grate that takes the cage of a path for the caller's would move this one. Where
                // the caller is then is asked for again whenever it counts, so the path may change.
                return front.pass_inside();
            }
            let act = || go(&inside);
            return match front.makes_one() {
                true => front.opened(Some(Mark::Inside), act),
                false => act(),
            };
        }
        let place = found.place.ok_or(ENOENT)?;
        match u64::from(call.nr) {
            // Where the cage is then is asked for again whenever it counts.
            SYS_CHDIR => go(&past),
            _ => past_it(front, place),
        }
    }

    /// What leads to the prefix stays where it is, and leads there: none of it comes to be a symlink.
    fn keep(&self, call: &Call, found: &Found) -> Result<(), Errno> {
        let path = found.path.strip_suffix(b"/").unwrap_or(&found.path);
        if !self.needs(path) {
            return Ok(());
        }
        match u64::from(call.nr) {
            _ if removes(call) => Err(EBUSY),
            SYS_SYMLINK | SYS_SYMLINKAT => match &found.place {
                Some(place) if place.stat().is_ok() => Err(Errno(error::EEXIST)),
                _ => Err(EBUSY),
            },
            _ => Ok(()),
        }
    }

    /// rename and link: nothing gets over the border by another name.
    fn by_two(&self, front: &Front<'_>, from: usize, to: usize) -> Result<i32, Errno> {
        let call = front.call;
        let directory = |index: usize| {
            let before = index.checked_sub(1)?;
            (front.entry.args.get(before) == Some(&Kind::DirFd)).then_some(before)
        };
        let links = matches!(u64::from(call.nr), SYS_LINK | SYS_LINKAT);
        let flags = match u64::from(call.nr) {
            SYS_LINKAT | SYS_RENAMEAT2 => call.int(4),
            _ => 0,
        };
        if links && flags & fs::AT_EMPTY_PATH != 0 && is_empty(call, from)? {
            // A file of a descriptor has no name to be judged by.
            return Err(Errno(error::EPERM));
        }
        let inside = front.inside();
        let mut found = Vec::new();
        for index in [from, to] {
            let taken = call.take_path(index, directory(index))?;
            let follow = index == from && follows(call, taken.text());
            let one = self.find(call, &taken, follow)?;
            self.keep(call, &one)?;
            let mut path = one.path.clone();
            path.push(0);
            inside.replace(index, &path);
            found.push(one);
        }
        let [from, to] = &found[..] else {
            return Err(ENOENT);
        };
        if from.is_below != to.is_below {
            // Programs copy then.
            return Err(EXDEV);
        }
        if from.is_inside || to.is_inside {
            return inside.forward(front.cage);
        }
        match (&from.place, &to.place) {
            (Some(from), Some(to)) if links => from.link_to(to),
            (Some(from), Some(to)) => from.rename_to(to, flags),
            _ => Err(ENOENT),
        }
    }
}

/// Does past the grates inside what a call asks for, with the name where its path leads.
fn past_it(front: &Front<'_>, place: Place) -> Result<i32, Errno> {
    let (call, cage, nr) = (front.call, front.cage, u64::from(front.call.nr));
    let number = |index: usize| call.int(index) as u32;
    let opened = |flags: i32, mode: u64| {
        front.opened(None, || place.open(cage, flags, mode).map(|fd| fd.fd))
    };
    match nr {
        SYS_OPEN => return opened(call.int(1), call.size(2)),
        SYS_OPENAT => return opened(call.int(2), call.size(3)),
        SYS_UNLINK => return place.unlink(0),
        SYS_UNLINKAT => return place.unlink(call.int(2)),
        SYS_RMDIR => return place.unlink(fs::AT_REMOVEDIR),
        SYS_SYMLINK | SYS_SYMLINKAT => return place.make_symlink(call.arg(0)),
        SYS_MKNOD => return place.make_node(cage, number(1), call.arg(2)),
        SYS_MKDIR => return place.make_directory(cage, number(1)),
        SYS_MKDIRAT => return place.make_directory(cage, number(2)),
        _ => {}
    }
    let place = place.without_slashes()?;
    let arg = |index: usize| call.arg(index);
    // Where a symlink was to be followed, it was.
    let flags = |given: i32| int(cage, given | fs::AT_SYMLINK_NOFOLLOW);
    match nr {
        SYS_STAT | SYS_LSTAT => place.call(SYS_NEWFSTATAT, &[arg(1), flags(0)]),
        SYS_NEWFSTATAT => place.call(nr, &[arg(2), flags(call.int(3))]),
        SYS_STATX => place.call(nr, &[flags(call.int(2)), arg(3), arg(4)]),
        SYS_STATFS => place.statfs(arg(1)),
        SYS_ACCESS => place.call(SYS_FACCESSAT, &[arg(1), flags(0)]),
        SYS_FACCESSAT => place.call(nr, &[arg(2), flags(call.int(3))]),
        SYS_READLINK => place.call(SYS_READLINKAT, &[arg(1), arg(2)]),
        SYS_READLINKAT => place.call(nr, &[arg(2), arg(3)]),
        SYS_CHMOD => place.chmod(arg(1)),
        SYS_FCHMODAT if call.int(3) & !(fs::AT_SYMLINK_NOFOLLOW | fs::AT_EMPTY_PATH) != 0 => {
            Err(Errno(error::EINVAL))
        }
        SYS_FCHMODAT => place.chmod(arg(2)),
        SYS_CHOWN | SYS_LCHOWN => place.call(SYS_FCHOWNAT, &[arg(1), arg(2), flags(0)]),
        SYS_FCHOWNAT => place.call(nr, &[arg(2), arg(3), flags(call.int(4))]),
        SYS_UTIMENSAT => place.call(nr, &[arg(2), flags(call.int(3))]),
        SYS_TRUNCATE => place.truncate(arg(1)),
        // Attributes, on Lind: there is no call for them that does not follow.
        _ => Err(Errno(error::EOPNOTSUPP)),
    }
}

/// Whether the path in an argument is empty.
fn is_empty(call: &Call, index: usize) -> Result<bool, Errno> {
    Ok(call.place(index).read::<1>()? == [0])
}
