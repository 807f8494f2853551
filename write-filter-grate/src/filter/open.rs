//! open and openat: nothing is refused but the loss of what is in a file that may not be written.

use super::names::Name;
use super::redaction::{Applying, Way};
use super::regular::Opening;
use super::{Known, filter};
use grate_rs::constants::{SYS_FTRUNCATE, error, fs};
use grate_rs::kernel::{self, Stat, value};
use grate_rs::places::TakenPath;
use grate_rs::{CageFd, Call, Errno, getcageid};
use std::sync::Arc;

const EACCES: Errno = Errno(error::EACCES);
const EAGAIN: Errno = Errno(error::EAGAIN);
const ENOENT: Errno = Errno(error::ENOENT);

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
    let (cage, flags) = (call.cage_of(flags_at), call.int(flags_at));
    let _opening = filter().known.opening(cage);
    let mode = call.size(flags_at + 1);
    let truncates = flags & fs::O_TRUNC != 0;
    let changes = flags & fs::O_ACCMODE != fs::O_RDONLY || truncates || flags & fs::O_CREAT != 0;
    // A temporary file has no name that could be permitted.
    if !changes || flags & fs::O_PATH != 0 || flags & fs::O_TMPFILE == fs::O_TMPFILE {
        let fd = CageFd {
            cage,
            fd: call.forward(cage)?,
        };
        return noted(fd, flags, false);
    }
    let path = call.take_path(path_at, directory)?;
    let exclusive = fs::O_CREAT | fs::O_EXCL;
    // A slash at the end leads through a symlink, whatever else is asked for.
    let follows = (flags & fs::O_NOFOLLOW == 0 && flags & exclusive != exclusive)
        || path.text().ends_with(b"/");
    if path.place(false).is_err_and(|errno| errno == ENOENT) {
        return open_lent(&path, cage, flags);
    }
    let target = Target::of(Name::of(path, follows)?)?;
    let name = &target.name;
    if name.stat().is_ok_and(|stat| filter().is_closed(&stat)) {
        return Err(EACCES);
    }
    if filter().denies_writing(target.path.as_deref()) {
        return Err(filter().refuse(cage, format_args!("open of {name} for writing")));
    }
    if flags & fs::O_ACCMODE == fs::O_RDONLY && !truncates {
        return noted(name.open(cage, flags, mode)?, flags, true);
    }
    if name.is_permitted() {
        return target.open_permitted(cage, flags, mode);
    }
    // A new file has nothing to lose. What is there is opened as it is first, for the kernel's
    // own errors come before the refusal.
    let existed = truncates && name.stat().is_ok();
    let fd = name.open(cage, flags & !fs::O_TRUNC, mode)?;
    noted(fd, flags, true)?;
    match fd.stat() {
        Ok(stat) if truncates && stat.is_regular() && (existed || stat.size > 0) => {
            fd.close();
            Err(filter().refuse(cage, format_args!("truncating open of {name}")))
        }
        _ => Ok(fd.fd),
    }
}

/// Opens a path whose directory is not there: it may be a device that the runtime lends, and is
/// nothing else.
fn open_lent(path: &TakenPath, cage: u64, flags: i32) -> Result<i32, Errno> {
    let fd = path.open(cage, flags & !(fs::O_CREAT | fs::O_TRUNC), 0)?;
    if fd
        .stat()
        .is_ok_and(|stat| !stat.is_regular() && !stat.is_directory())
    {
        return noted(fd, flags, false);
    }
    fd.close();
    Err(ENOENT)
}

/// A file that is about to be opened for writing.
struct Target {
    name: Name,
    /// Its absolute path without symlinks, if that matters.
    path: Option<Arc<[u8]>>,
}

impl Target {
    fn of(name: Name) -> Result<Self, Errno> {
        let path = match filter().needs_paths() {
            true => Some(Arc::from(name.path()?)),
            false => None,
        };
        Ok(Self { name, path })
    }

    fn open_permitted(&self, cage: u64, flags: i32, mode: u64) -> Result<i32, Errno> {
        let truncates = flags & fs::O_TRUNC != 0;
        let applying = self.applying();
        let append_only = self.wants_appending(applying.as_ref());
        if append_only && (flags & fs::O_APPEND == 0 || truncates) {
            let what = format_args!("open of {} not just to add to it", self.name);
            return Err(filter().refuse(cage, what));
        }
        // Nothing is lost before it is known what was opened.
        let fd = self.name.open(cage, flags & !fs::O_TRUNC, mode)?;
        let way = self
            .way(fd, flags, applying.as_ref(), append_only)
            .inspect_err(|_| fd.close())?;
        let known = Known {
            is_permitted: true,
            hides_nofollow: flags & fs::O_NOFOLLOW == 0,
            way,
        };
        filter().known.note(fd, Some(known));
        Ok(fd.fd)
    }

    /// The rules for it as a regular file.
    fn applying(&self) -> Option<Applying> {
        let redaction = filter().redaction.as_ref()?;
        Some(redaction.applying_to(self.path.as_deref()))
    }

    /// Whether it may be written at its end only.
    fn wants_appending(&self, applying: Option<&Applying>) -> bool {
        is_append_only(applying) && self.name.stat().map_or(true, |stat| stat.is_regular())
    }

    /// How what is written to the open file is redacted.
    ///
    /// # Errors
    /// EACCES for a file that may be written and not read: what stands beside a write can't be
    /// known. EAGAIN where the name has come to mean another file.
    fn way(
        &self,
        fd: CageFd,
        flags: i32,
        applying: Option<&Applying>,
        append_only: bool,
    ) -> Result<Option<Way>, Errno> {
        let stat = fd.stat()?;
        if filter().is_kept(&stat) {
            return Err(EACCES);
        }
        if stat.is_regular() && is_append_only(applying) && !append_only {
            return Err(EAGAIN);
        }
        let way = self.way_of(fd, &stat, flags, applying, append_only)?;
        if flags & fs::O_TRUNC != 0 {
            self.cut(fd, &stat, flags)?;
            if let Some(Way::File(file)) = &way {
                file.file().note_emptied();
            }
        }
        Ok(way)
    }

    fn way_of(
        &self,
        fd: CageFd,
        stat: &Stat,
        flags: i32,
        applying: Option<&Applying>,
        append_only: bool,
    ) -> Result<Option<Way>, Errno> {
        let (Some(redaction), Some(applying)) = (&filter().redaction, applying) else {
            return Ok(None);
        };
        if !stat.is_regular() {
            let outlet = redaction.outlet(fd, stat, None, None);
            outlet.note_name();
            return Ok(Some(Way::Out(outlet)));
        }
        let path = || match &self.path {
            Some(path) => Arc::clone(path),
            None => Arc::from(self.name.text()),
        };
        if append_only {
            let own = || {
                let own = self.own(stat, fs::O_WRONLY | fs::O_APPEND)?;
                Ok::<_, Errno>((own, self.own(stat, fs::O_RDWR).ok()))
            };
            let outlet = redaction.appended(fd, stat, path(), applying, own)?;
            return Ok(Some(Way::Out(outlet)));
        }
        let own = || self.own(stat, fs::O_RDWR);
        let file = redaction.file(stat.inode(), path(), applying, own)?;
        Ok(file.map(|file| Way::File(Arc::new(Opening::new(file, flags)))))
    }

    /// A descriptor of the grate's own for the file that was opened.
    fn own(&self, stat: &Stat, mode: i32) -> Result<CageFd, Errno> {
        let flags = mode | fs::O_NONBLOCK | fs::O_CLOEXEC;
        let own = self.name.open(getcageid(), flags, 0)?;
        // Another file may have taken the name since.
        if own.stat().is_ok_and(|other| other.inode() == stat.inode()) {
            return Ok(own);
        }
        own.close();
        Err(EAGAIN)
    }

    /// Empties the file, as O_TRUNC would have.
    fn cut(&self, fd: CageFd, stat: &Stat, flags: i32) -> Result<(), Errno> {
        if stat.is_directory() {
            return Err(Errno(error::EISDIR));
        }
        if !stat.is_regular() || stat.size == 0 {
            return Ok(());
        }
        let cut = |fd: CageFd| {
            let args = [fd.arg(), value(fd.cage, 0)];
            kernel::call(SYS_FTRUNCATE, fd.cage, &args).map(drop)
        };
        if flags & fs::O_ACCMODE != fs::O_RDONLY {
            return cut(fd);
        }
        let own = self.own(stat, fs::O_WRONLY)?;
        let result = cut(own);
        own.close();
        result
    }
}

fn is_append_only(applying: Option<&Applying>) -> bool {
    let redaction = filter().redaction.as_ref().zip(applying);
    redaction.is_some_and(|(redaction, applying)| redaction.is_append_only(applying))
}

/// Notes that a descriptor just opened has no permission, and answers it. `by_place` says whether
/// it was opened by its place, and not as the program has it.
fn noted(fd: CageFd, flags: i32, by_place: bool) -> Result<i32, Errno> {
    let filter = filter();
    filter.known.note(fd, None);
    let hides_nofollow = by_place && flags & fs::O_NOFOLLOW == 0;
    let writes = flags & fs::O_ACCMODE != fs::O_RDONLY && flags & fs::O_PATH == 0;
    if !writes && !hides_nofollow && filter.closed.is_empty() {
        return Ok(fd.fd);
    }
    let stat = fd.stat()?;
    if filter.is_closed(&stat) {
        fd.close();
        return Err(EACCES);
    }
    let known = match stat.is_regular() {
        false if writes => filter.outlet(fd, &stat, None),
        _ => None,
    };
    let known = known.or(hides_nofollow.then_some(Known {
        is_permitted: !stat.is_regular(),
        hides_nofollow,
        way: None,
    }));
    let known = known.map(|known| Known {
        hides_nofollow,
        ..known
    });
    filter.known.note(fd, known);
    Ok(fd.fd)
}
