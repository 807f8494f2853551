//! open and openat.

use super::kernel::{self, File, Stat, int};
use super::options::Plaintext;
use super::state;
use super::state::{OpenFile, Opened, State, lock};
use crypt_grate::sealed_file::{Content, Error};
use grate_rs::constants::{SYS_FCNTL, SYS_FTRUNCATE, error, fs};
use grate_rs::places::{Place, TakenPath};
use grate_rs::{CageFd, Call, Errno, getcageid};
use std::sync::Arc;

const EACCES: Errno = Errno(error::EACCES);
const EIO: Errno = Errno(error::EIO);

/// A path argument, copied once. Where paths decide what is sealed, the place that it names is
/// found once too: what is judged is what is opened.
#[derive(Debug)]
pub struct PathArg {
    path: TakenPath,
    /// Not needed where everything is sealed; what can't be looked up has none.
    place: Option<Place>,
    follow: bool,
}

impl PathArg {
    /// The path in argument `index`, of an `*at` call from the directory in argument `directory`;
    /// `follow` says whether a symlink in its last part is followed.
    ///
    /// # Errors
    /// EFAULT, ENAMETOOLONG.
    pub fn take(
        call: &Call,
        index: usize,
        directory: Option<usize>,
        follow: bool,
    ) -> Result<Self, Errno> {
        Ok(Self::of(call.take_path(index, directory)?, follow))
    }

    /// As [`PathArg::take`], of a path that is taken.
    pub fn of(path: TakenPath, follow: bool) -> Self {
        let mut argument = Self {
            path,
            place: None,
            follow,
        };
        argument.look_up();
        argument
    }

    fn look_up(&mut self) {
        if !state().subtrees.is_everything() {
            // A slash at the end leads through a symlink, whatever else is asked for.
            let follow = self.follow || self.path.text().ends_with(b"/");
            self.place = self.path.place(follow).ok();
        }
    }

    /// What it names now.
    ///
    /// # Errors
    /// As stat(2).
    pub fn stat(&self) -> Result<Stat, Errno> {
        match &self.place {
            Some(place) => place.stat(),
            None => self.path.stat(self.follow),
        }
    }

    /// The error of what was tried on a file that was opened by it. `keys rekey` leaves a damaged one when it
    /// puts another one in its place, and in between the name may have been opened.
    pub fn error_of(&self, opened: CageFd, errno: Errno) -> Errno {
        if errno != EIO {
            return errno;
        }
        let inodes = [opened.stat(), self.stat()].map(|stat| stat.map(|stat| stat.inode()));
        match inodes {
            [Ok(opened), Ok(named)] if opened != named => EAGAIN_NAME,
            _ => errno,
        }
    }

    /// Tries something until what the path names does not change in between.
    ///
    /// # Errors
    /// Those of `attempt`; EAGAIN where it never ends.
    pub fn settled<T>(
        mut self,
        mut attempt: impl FnMut(&Self) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        /// How often it is tried anew.
        const ATTEMPTS: usize = 8;
        for _ in 0..ATTEMPTS {
            match attempt(&self) {
                Err(EAGAIN_NAME) => self.look_up(),
                done => return done,
            }
        }
        Err(Errno(error::EAGAIN))
    }

    /// Opens it for the grate itself.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(&self, flags: i32) -> Result<kernel::OwnFd, Errno> {
        let flags = flags | fs::O_CLOEXEC | if self.follow { 0 } else { fs::O_NOFOLLOW };
        self.open_for(getcageid(), flags, 0).map(kernel::OwnFd)
    }

    /// Opens it for a cage.
    fn open_for(&self, cage: u64, flags: i32, mode: u64) -> Result<CageFd, Errno> {
        match &self.place {
            Some(place) => place.open(cage, flags, mode),
            None => self.path.open(cage, flags, mode),
        }
    }

    /// Whether what it names is to be sealed. What can't be told is: where the look-up fails, so
    /// will the call, with its own error.
    pub fn is_protected(&self, state: &State) -> bool {
        let path = self.place.as_ref().map(Place::path);
        match path {
            Some(Ok(path)) => state.subtrees.contains(&path),
            Some(Err(_)) | None => true,
        }
    }
}

/// open: path, flags, mode.
pub fn open(call: &Call) -> Result<i32, Errno> {
    open_with(call, 0, None)
}

/// openat: directory, path, flags, mode.
pub fn openat(call: &Call) -> Result<i32, Errno> {
    open_with(call, 1, Some(0))
}

fn open_with(call: &Call, path_at: usize, directory: Option<usize>) -> Result<i32, Errno> {
    let flags_at = path_at + 1;
    let cage = call.cage_of(flags_at);
    let flags = call.int(flags_at);
    let _opening = state().descriptors.opening(cage);
    let exclusive = fs::O_CREAT | fs::O_EXCL;
    let follow = flags & fs::O_NOFOLLOW == 0 && flags & exclusive != exclusive;
    if flags & fs::O_PATH == 0 && flags & fs::O_DIRECT != 0 {
        // Chunks don't lie on the disk as O_DIRECT would have them.
        return Err(Errno(error::EINVAL));
    }
    let opening = Opening {
        cage,
        flags,
        mode: call.size(flags_at + 1),
    };
    PathArg::take(call, path_at, directory, follow)?.settled(|path| {
        match opening.attempt(state(), path) {
            // A symlink stands where none was a moment ago.
            Err(Errno(error::ELOOP)) if follow && path.place.is_some() => Err(EAGAIN_NAME),
            opened => opened.map(|fd| fd.fd),
        }
    })
}

/// That a name has come to mean something else. No call answers it.
const EAGAIN_NAME: Errno = Errno(i32::MAX);

/// What a call that opens asks for.
struct Opening {
    cage: u64,
    flags: i32,
    mode: u64,
}

impl Opening {
    fn changes(&self) -> bool {
        self.flags & fs::O_ACCMODE != fs::O_RDONLY || self.truncates()
    }

    fn truncates(&self) -> bool {
        self.flags & fs::O_TRUNC != 0
    }

    fn attempt(&self, state: &State, path: &PathArg) -> Result<CageFd, Errno> {
        let (cage, flags) = (self.cage, self.flags);
        let is_temporary = flags & fs::O_TMPFILE == fs::O_TMPFILE;
        let as_file = flags & fs::O_PATH == 0
            && (is_temporary || flags & fs::O_DIRECTORY == 0)
            && path.is_protected(state);
        // What is there decides how it may be opened: a pipe opened for reading too would be
        // another thing.
        let mut is_file = as_file;
        if self.changes()
            && !is_temporary
            && flags & fs::O_PATH == 0
            && let Ok(stat) = path.stat()
        {
            state.check_key(stat.inode())?;
            is_file &= stat.is_regular();
        }
        // What is opened is known afterwards, and nothing is lost before.
        let mut below = flags;
        if flags & fs::O_PATH == 0 {
            below &= !fs::O_TRUNC;
        }
        if is_file {
            below &= !fs::O_APPEND;
            if self.changes() {
                // Completing a chunk needs what is there already.
                below = (below & !fs::O_ACCMODE) | fs::O_RDWR;
            }
        }
        let opened = path.open_for(cage, below, self.mode)?;
        let settled = opened.stat().and_then(|stat| {
            if as_file != is_file && stat.is_regular() {
                return Err(EAGAIN_NAME);
            }
            self.admit(state, path, opened, stat, as_file)
        });
        if let Err(errno) = settled {
            let errno = path.error_of(opened, errno);
            opened.close();
            return Err(errno);
        }
        if below & fs::O_APPEND != flags & fs::O_APPEND && state.open_file(opened).is_none() {
            // Not a sealed file after all: it has the flag that was taken away for one.
            let kept = flags & (fs::O_APPEND | fs::O_NONBLOCK);
            let args = [opened.arg(), int(cage, fs::F_SETFL), int(cage, kept)];
            kernel::call(SYS_FCNTL, cage, &args)?;
        }
        Ok(opened)
    }

    /// Decides what a descriptor just opened is to the grate, and notes it.
    fn admit(
        &self,
        state: &State,
        path: &PathArg,
        fd: CageFd,
        stat: Stat,
        as_file: bool,
    ) -> Result<(), Errno> {
        state.check_key(stat.inode())?;
        let open = if as_file && stat.is_regular() {
            open_sealed(state, path, fd, stat, self.flags)?
        } else {
            None
        };
        if open.is_none() && self.truncates() && self.flags & fs::O_PATH == 0 {
            self.cut(path, fd, stat)?;
        }
        let plain = Opened::Plain {
            hides_nofollow: path.place.is_some() && self.flags & fs::O_NOFOLLOW == 0,
        };
        let opened = open.map_or(plain, Opened::File);
        state.descriptors.note(fd, Some(opened));
        Ok(())
    }

    /// Empties a file that stays in the clear, as O_TRUNC would have.
    fn cut(&self, path: &PathArg, fd: CageFd, stat: Stat) -> Result<(), Errno> {
        if stat.is_directory() {
            return Err(Errno(error::EISDIR));
        }
        if !stat.is_regular() || stat.size == 0 {
            return Ok(());
        }
        let cut = |fd: CageFd| {
            let args = [fd.arg(), kernel::value(fd.cage, 0)];
            kernel::call(SYS_FTRUNCATE, fd.cage, &args).map(drop)
        };
        if self.flags & fs::O_ACCMODE != fs::O_RDONLY {
            return cut(fd);
        }
        let own = path.open(fs::O_WRONLY | fs::O_NONBLOCK)?;
        if own.0.stat()?.inode() != stat.inode() {
            return Err(EAGAIN_NAME);
        }
        cut(own.0)
    }
}

/// The sealed file behind a descriptor; `None` for a plain one that may be read.
fn open_sealed(
    state: &State,
    path: &PathArg,
    fd: CageFd,
    stat: Stat,
    flags: i32,
) -> Result<Option<Arc<OpenFile>>, Errno> {
    let file = state.file(stat.inode());
    let mut locked = lock(&file);
    let truncates = flags & fs::O_TRUNC != 0;
    let writable = flags & fs::O_ACCMODE != fs::O_RDONLY || truncates;
    let storage = if writable {
        File::to_write(fd)
    } else {
        File::to_read(fd)
    };
    // What was just made is not read. Of other files a size of 0 says nothing: there is more in those of /proc.
    let is_new = flags & fs::O_CREAT != 0 && stat.size == 0 && locked.is_unknown();
    let content = match is_new {
        true => Ok(Content::Empty),
        false => locked.identify(&storage, state.keys()),
    };
    match content {
        Ok(Content::Empty | Content::Sealed) => {}
        Ok(Content::Plain) if state.plaintext == Plaintext::Deny => {
            state.explain(format_args!(
                "{}: not sealed: refused (--plaintext read lets it be read)",
                shown(path)
            ));
            return Err(EACCES);
        }
        Ok(Content::Plain) if truncates => {}
        Ok(Content::Plain) if flags & fs::O_ACCMODE == fs::O_RDONLY => return Ok(None),
        Ok(Content::Plain) => {
            state.explain(format_args!(
                "{}: not sealed: it can be read or replaced, not written in place",
                shown(path)
            ));
            return Err(EACCES);
        }
        // What can't be read any more may still be replaced, but not another key's file.
        Err(Error::Sealed(why)) if truncates && !matches!(why, sealed::Error::WrongKey { .. }) => {}
        Err(why) => return Err(state.errno(why, &shown(path))),
    }
    if truncates && content != Ok(Content::Empty) {
        // A new file gets a new salt: nothing of the old one can be put back into it.
        let emptied = locked.empty(&storage, state.keys());
        emptied.map_err(|why| state.errno(why, &shown(path)))?;
    }
    drop(locked);
    Ok(Some(Arc::new(OpenFile::new(file, flags))))
}

/// A path for a message.
fn shown(path: &PathArg) -> String {
    path.path.to_string()
}
