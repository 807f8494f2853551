//! What is below the prefix.
//!
//! A path is judged by where the kernel finds what it names: the folder that holds its last part is
//! opened, and the place of that is asked for. What goes past is then done with that name in that
//! folder, so that no link which turns meanwhile leads it inside; what goes inside goes on under
//! the path that was found.

use calls::{Entry, Kind};
use clamp::{Front, Mark, marks};
use grate_rs::constants::{
    SYS_COPY_FILE_RANGE, SYS_FACCESSAT, SYS_FALLOCATE, SYS_FCHMODAT, SYS_FCHOWNAT, SYS_FTRUNCATE,
    SYS_LCHOWN, SYS_LINK, SYS_LINKAT, SYS_LSTAT, SYS_MKDIR, SYS_MKDIRAT, SYS_MKNOD, SYS_MMAP,
    SYS_NEWFSTATAT, SYS_OPEN, SYS_OPENAT, SYS_POLL, SYS_PPOLL, SYS_PSELECT6, SYS_PWRITE,
    SYS_PWRITEV, SYS_READLINK, SYS_READLINKAT, SYS_RENAME, SYS_RENAMEAT, SYS_RENAMEAT2, SYS_RMDIR,
    SYS_SELECT, SYS_STATX, SYS_SYMLINK, SYS_SYMLINKAT, SYS_UNLINK, SYS_UNLINKAT, SYS_UTIMENSAT,
    SYS_WRITE, SYS_WRITEV, error, fs,
};
use grate_rs::paths::normalised;
use grate_rs::places::{Place, TakenPath, path_of};
use grate_rs::{CageFd, Call, Errno};

const ENOENT: Errno = Errno(error::ENOENT);
const EXDEV: Errno = Errno(error::EXDEV);
const EBUSY: Errno = Errno(error::EBUSY);
const ENOSYS: Errno = Errno(error::ENOSYS);

/// A folder, and all that is below it.
pub struct Border {
    /// Without symlinks, and without a slash at its end.
    prefix: Vec<u8>,
}

/// Where a path leads.
struct Found {
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

impl Border {
    /// That of a path, which need not be there.
    ///
    /// # Errors
    /// A line that says what is wrong with it.
    pub fn new(prefix: &str) -> Result<Self, String> {
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
        Ok(Self { prefix: path })
    }

    fn has(&self, path: &[u8]) -> bool {
        is_below(path, &self.prefix)
    }

    /// Whether the prefix would not be where it is without this.
    fn needs(&self, path: &[u8]) -> bool {
        is_below(&self.prefix, path)
    }

    /// Finds out where a path leads; `follow` says whether a symlink at its end is followed.
    fn find(&self, taken: &TakenPath, follow: bool) -> Result<Found, Errno> {
        let text = taken.text();
        match taken.place(follow) {
            Ok(place) => {
                let mut path = place.path()?;
                let slashes = text.iter().rev().take_while(|&&byte| byte == b'/').count();
                if slashes > 0 && path != b"/" {
                    path.push(b'/');
                }
                Ok(Found {
                    is_inside: self.has(&path),
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
                    is_inside: true,
                    path,
                    place: None,
                })
            }
            Err(errno) => Err(errno),
        }
    }
}

/// Whether a call follows a symlink at the end of its path.
fn follows(call: &Call) -> bool {
    let flags = |index: usize| call.int(index) & fs::AT_SYMLINK_NOFOLLOW == 0;
    match u64::from(call.nr) {
        SYS_LSTAT | SYS_UNLINK | SYS_UNLINKAT | SYS_RMDIR | SYS_MKDIR | SYS_MKDIRAT
        | SYS_RENAME | SYS_RENAMEAT | SYS_RENAMEAT2 | SYS_LINK | SYS_SYMLINK | SYS_SYMLINKAT
        | SYS_READLINK | SYS_READLINKAT | SYS_LCHOWN | SYS_MKNOD => false,
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

impl clamp::Border for Border {
    fn tracks(&self, entry: &Entry) -> bool {
        let names_one = |kind: &Kind| *kind == Kind::Path || kind.is_descriptor();
        entry.result == calls::Outcome::Fd || entry.args.iter().any(names_one)
    }

    fn serve(&self, front: &Front<'_>) -> Result<i32, Errno> {
        let args = front.entry.args.iter().enumerate();
        let paths: Vec<usize> = args
            .filter(|(_, kind)| **kind == Kind::Path)
            .map(|(index, _)| index)
            .collect();
        if !front.entry.is_ours() && !front.entry.is_on_lind() {
            // What no runtime serves might name files in ways that nobody judges.
            return Err(ENOSYS);
        }
        match paths[..] {
            [] => self.by_descriptor(front),
            [path] => self.by_path(front, path),
            [from, to, ..] => self.by_two(front, from, to),
        }
    }
}

impl Border {
    fn by_descriptor(&self, front: &Front<'_>) -> Result<i32, Errno> {
        let call = front.call;
        let is_marked = |fd: CageFd| marks().get(fd).is_some();
        match u64::from(call.nr) {
            SYS_POLL | SYS_PPOLL | SYS_SELECT | SYS_PSELECT6 => {
                return match front.has_any_inside() {
                    true => front.pass_inside(),
                    false => front.past(),
                };
            }
            // The descriptor is looked up in the table of the cage that the call is made for.
            SYS_MMAP => {
                let cage = front.cage;
                let fd = CageFd {
                    cage,
                    fd: call.int(4),
                };
                let held = (fd.fd >= 0).then(|| marks().hold(fd)).transpose()?;
                return match held.as_ref().and_then(|held| held.what()) {
                    Some(_) => front.pass_inside(),
                    None => front.past(),
                };
            }
            _ => {}
        }
        let writes = matches!(
            u64::from(call.nr),
            SYS_WRITE
                | SYS_PWRITE
                | SYS_WRITEV
                | SYS_PWRITEV
                | SYS_FTRUNCATE
                | SYS_FALLOCATE
                | SYS_COPY_FILE_RANGE
        );
        // What is written must not go past to a file that comes in the descriptor's place. What is
        // read may wait for a peer, and keeps nobody from closing.
        let mut held = Vec::new();
        if writes {
            for fd in front.descriptors() {
                held.push(marks().hold(fd)?);
            }
        }
        let is_inside = front.descriptors().any(is_marked);
        let act = || match is_inside {
            true => front.pass_inside(),
            false => front.past(),
        };
        if front.makes_one() {
            front.opened(None, act)
        } else {
            act()
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
        let found = self.find(&taken, follows(call))?;
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
            let act = || go(&inside);
            return match front.makes_one() {
                true => front.opened(Some(Mark::Inside), act),
                false => act(),
            };
        }
        let place = found.place.ok_or(ENOENT)?;
        let (cage, mode) = (front.cage, |index| call.size(index));
        match u64::from(call.nr) {
            SYS_OPEN => front.opened(None, || {
                place.open(cage, call.int(1), mode(2)).map(|fd| fd.fd)
            }),
            SYS_OPENAT => front.opened(None, || {
                place.open(cage, call.int(2), mode(3)).map(|fd| fd.fd)
            }),
            SYS_UNLINK => place.unlink(0),
            SYS_UNLINKAT => place.unlink(call.int(2)),
            SYS_RMDIR => place.unlink(fs::AT_REMOVEDIR),
            SYS_SYMLINK | SYS_SYMLINKAT => place.make_symlink(call.arg(0)),
            SYS_MKNOD => place.make_node(cage, call.int(1) as u32, call.arg(2)),
            _ => go(&past),
        }
    }

    /// What leads to the prefix stays where it is.
    fn keep(&self, call: &Call, found: &Found) -> Result<(), Errno> {
        let removes = matches!(
            u64::from(call.nr),
            SYS_UNLINK | SYS_UNLINKAT | SYS_RMDIR | SYS_RENAME | SYS_RENAMEAT | SYS_RENAMEAT2
        );
        let path = found.path.strip_suffix(b"/").unwrap_or(&found.path);
        if removes && self.needs(path) {
            return Err(EBUSY);
        }
        Ok(())
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
        for (index, follow) in [(from, follows(call)), (to, false)] {
            let taken = call.take_path(index, directory(index))?;
            let one = self.find(&taken, follow)?;
            self.keep(call, &one)?;
            let mut path = one.path.clone();
            path.push(0);
            inside.replace(index, &path);
            found.push(one);
        }
        let [from, to] = &found[..] else {
            return Err(ENOENT);
        };
        if from.is_inside != to.is_inside {
            // Programs copy then.
            return Err(EXDEV);
        }
        if from.is_inside {
            return inside.forward(front.cage);
        }
        match (&from.place, &to.place) {
            (Some(from), Some(to)) if links => from.link_to(to),
            (Some(from), Some(to)) => from.rename_to(to, flags),
            _ => Err(ENOENT),
        }
    }
}

/// Whether the path in an argument is empty.
fn is_empty(call: &Call, index: usize) -> Result<bool, Errno> {
    Ok(call.place(index).read::<1>()? == [0])
}
