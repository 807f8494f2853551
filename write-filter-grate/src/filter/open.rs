//! open and openat: nothing is refused but the loss of what is in a file that may not be written.

use super::names::Name;
use super::redaction::{Applying, Way};
use super::regular::Opening;
use super::{Known, filter};
use grate_rs::constants::{error, fs};
use grate_rs::kernel::int;
use grate_rs::{Arg, CageFd, Call, Errno, getcageid};
use std::sync::Arc;

const EACCES: Errno = Errno(error::EACCES);

/// open: path, flags, mode.
pub fn open(call: &Call) -> Result<i32, Errno> {
    open_with(call, None, 0)
}

/// openat: directory, path, flags, mode.
pub fn openat(call: &Call) -> Result<i32, Errno> {
    open_with(call, Some(call.arg(0)), 1)
}

fn open_with(call: &Call, directory: Option<Arg>, path_at: usize) -> Result<i32, Errno> {
    let flags_at = path_at + 1;
    let (cage, flags) = (call.cage_of(flags_at), call.int(flags_at));
    let truncates = flags & fs::O_TRUNC != 0;
    let changes = flags & fs::O_ACCMODE != fs::O_RDONLY || truncates || flags & fs::O_CREAT != 0;
    // A temporary file has no name that could be permitted.
    if !changes || flags & fs::O_PATH != 0 || flags & fs::O_TMPFILE == fs::O_TMPFILE {
        let fd = noted(call, cage, flags_at, flags)?;
        note_directory(call, directory, path_at, CageFd { cage, fd });
        return Ok(fd);
    }
    let mut name = Name::read(call, directory, path_at)?;
    if name.stat().is_ok_and(|stat| filter().is_closed(&stat)) {
        return Err(EACCES);
    }
    let exclusive = fs::O_CREAT | fs::O_EXCL;
    let follows = flags & fs::O_NOFOLLOW == 0 && flags & exclusive != exclusive;
    let permitted = if follows {
        name.follow()?
    } else {
        name.is_permitted()
    };
    let target = Target::of(name, follows)?;
    if filter().denies_writing(target.path.as_deref()) {
        return Err(filter().refuse(cage, format_args!("open of {} for writing", target.name)));
    }
    if flags & fs::O_ACCMODE == fs::O_RDONLY && !truncates {
        return noted(call, cage, flags_at, flags);
    }
    if permitted {
        let applying = target.applying();
        let append_only = target.wants_appending(applying.as_ref());
        if append_only && (flags & fs::O_APPEND == 0 || truncates) {
            let what = format_args!("open of {} not just to add to it", target.name);
            return Err(filter().refuse(cage, what));
        }
        // Not through a symlink that took the name's place since it was judged.
        let fd = target
            .name
            .open(cage, flags | fs::O_NOFOLLOW, call.arg(flags_at + 1).value)?;
        let cloexec = flags & fs::O_CLOEXEC != 0;
        let fd = CageFd { cage, fd };
        let way = match target.way(fd, flags, applying.as_ref(), append_only) {
            Ok(way) => way,
            Err(errno) => {
                fd.close();
                return Err(errno);
            }
        };
        if let (Some(Way::File(file)), true) = (&way, truncates) {
            file.file().note_emptied();
        }
        let known = Known {
            hides_nofollow: flags & fs::O_NOFOLLOW == 0,
            way,
            directory: None,
        };
        filter().known.note(fd, Some(known), cloexec);
        return Ok(fd.fd);
    }
    let name = target.name;
    if !truncates {
        return noted(call, cage, flags_at, flags);
    }
    // A new file has nothing to lose. What is there is opened as it is first, for the kernel's
    // own errors come before the refusal.
    let existed = name.stat().is_ok();
    let fd = CageFd {
        cage,
        fd: noted(call, cage, flags_at, flags & !fs::O_TRUNC)?,
    };
    match fd.stat() {
        Ok(stat) if stat.is_regular() && (existed || stat.size > 0) => {
            fd.close();
            Err(filter().refuse(cage, format_args!("truncating open of {name}")))
        }
        _ => Ok(fd.fd),
    }
}

/// A file that is about to be opened for writing.
struct Target {
    name: Name,
    /// Its absolute path without symlinks, if that matters and can be known.
    path: Option<Arc<[u8]>>,
}

impl Target {
    fn of(name: Name, follows: bool) -> Result<Self, Errno> {
        let path = if filter().needs_paths() {
            name.resolve(follows)?.map(Arc::from)
        } else {
            None
        };
        Ok(Self { name, path })
    }

    /// The rules for it as a regular file.
    fn applying(&self) -> Option<Applying> {
        let redaction = filter().redaction.as_ref()?;
        Some(redaction.applying_to(self.path.as_deref()))
    }

    /// Whether it may be written at its end only.
    fn wants_appending(&self, applying: Option<&Applying>) -> bool {
        filter()
            .redaction
            .as_ref()
            .zip(applying)
            .is_some_and(|(redaction, applying)| redaction.is_append_only(applying))
            && self.name.stat().map_or(true, |stat| stat.is_regular())
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
        if filter().is_closed(&stat) {
            return Err(EACCES);
        }
        if filter().judges_paths()
            && let Some(path) = &self.path
        {
            let is_same = self.name.resolve(false)?.as_deref() == Some(path)
                && self.name.lstat()?.inode() == stat.inode();
            if !is_same {
                return Err(Errno(error::EAGAIN));
            }
        }
        let (Some(redaction), Some(applying)) = (&filter().redaction, applying) else {
            return Ok(None);
        };
        if !stat.is_regular() {
            return Ok(Some(Way::Out(redaction.outlet(fd, &stat, None, None))));
        }
        let path = || match &self.path {
            Some(path) => Arc::clone(path),
            None => Arc::from(self.name.text()),
        };
        let own = |mode: i32| {
            let cage = getcageid();
            let flags = mode | fs::O_NOFOLLOW | fs::O_NONBLOCK | fs::O_CLOEXEC;
            let fd = self.name.open(cage, flags, 0)?;
            let own = CageFd { cage, fd };
            // Another file may have taken the name since.
            if own.stat().is_ok_and(|other| other.inode() == stat.inode()) {
                return Ok(own);
            }
            own.close();
            Err(Errno(error::EAGAIN))
        };
        if append_only {
            let own = || own(fs::O_WRONLY | fs::O_APPEND);
            let outlet = redaction.appended(fd, &stat, path(), applying, own)?;
            return Ok(Some(Way::Out(outlet)));
        }
        let own = || own(fs::O_RDWR);
        let file = redaction.file(stat.inode(), path(), applying, own)?;
        Ok(file.map(|file| Way::File(Arc::new(Opening::new(file, flags)))))
    }
}

/// Notes a directory that was opened: paths may start there.
fn note_directory(call: &Call, directory: Option<Arg>, path_at: usize, fd: CageFd) {
    if !filter().needs_paths() || !fd.stat().is_ok_and(|stat| stat.is_directory()) {
        return;
    }
    let path = Name::read(call, directory, path_at).and_then(|name| name.resolve(true));
    if let Ok(Some(path)) = path {
        let known = Known {
            directory: Some(path.into()),
            ..Known::default()
        };
        let cloexec = call.int(path_at + 1) & fs::O_CLOEXEC != 0;
        filter().known.note(fd, Some(known), cloexec);
    }
}

/// Passes an open on with these flags, and notes that its descriptor has no permission.
fn noted(call: &Call, cage: u64, flags_at: usize, flags: i32) -> Result<i32, Errno> {
    let mut args = *call.args();
    args[flags_at] = int(cage, flags);
    let fd = call.forward_with(cage, &args)?;
    let fd = CageFd { cage, fd };
    filter().known.note(fd, None, false);
    let writes = flags & fs::O_ACCMODE != fs::O_RDONLY;
    if !writes && filter().closed.is_empty() {
        return Ok(fd.fd);
    }
    let stat = fd.stat()?;
    if filter().is_closed(&stat) {
        fd.close();
        return Err(EACCES);
    }
    if writes && !stat.is_regular() {
        filter().note_outlet(fd, &stat, None, flags & fs::O_CLOEXEC != 0);
    }
    Ok(fd.fd)
}
