//! open and openat: nothing is refused but the loss of what is in a file that may not be written.

use super::names::Name;
use super::redaction::Way;
use super::{Known, filter};
use grate_rs::constants::{error, fs};
use grate_rs::kernel::int;
use grate_rs::{Arg, CageFd, Call, Errno, getcageid};

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
    let changes = flags & fs::O_ACCMODE != fs::O_RDONLY || truncates;
    // A temporary file has no name that could be permitted.
    if !changes || flags & fs::O_PATH != 0 || flags & fs::O_TMPFILE == fs::O_TMPFILE {
        return noted(call, cage, flags_at, flags);
    }
    let mut name = Name::read(call, directory, path_at)?;
    let exclusive = fs::O_CREAT | fs::O_EXCL;
    let follows = flags & fs::O_NOFOLLOW == 0 && flags & exclusive != exclusive;
    let permitted = if follows {
        name.follow()?
    } else {
        name.is_permitted()
    };
    if permitted {
        // Not through a symlink that took the name's place since it was judged.
        let fd = name.open(cage, flags | fs::O_NOFOLLOW, call.arg(flags_at + 1).value)?;
        let cloexec = flags & fs::O_CLOEXEC != 0;
        let fd = CageFd { cage, fd };
        let way = match way_of(&name, fd) {
            Ok(way) => way,
            Err(errno) => {
                fd.close();
                return Err(errno);
            }
        };
        let known = Known {
            hides_nofollow: flags & fs::O_NOFOLLOW == 0,
            way,
        };
        filter().known.note(fd, Some(known), cloexec);
        return Ok(fd.fd);
    }
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

/// How what is written to a file that was just opened is redacted.
///
/// # Errors
/// EACCES for a file that may be written and not read: what stands beside a write can't be known.
fn way_of(name: &Name, fd: CageFd) -> Result<Option<Way>, Errno> {
    let Some(redaction) = &filter().redaction else {
        return Ok(None);
    };
    let stat = fd.stat()?;
    if !stat.is_regular() {
        return Ok(Some(Way::Out(redaction.outlet(fd, &stat, None))));
    }
    let own = || {
        let cage = getcageid();
        let flags = fs::O_RDWR | fs::O_NOFOLLOW | fs::O_NONBLOCK | fs::O_CLOEXEC;
        let fd = name.open(cage, flags, 0)?;
        let own = CageFd { cage, fd };
        // Another file may have taken the name since.
        if own.stat().is_ok_and(|other| other.inode() == stat.inode()) {
            return Ok(own);
        }
        own.close();
        Err(Errno(error::EAGAIN))
    };
    redaction
        .file(stat.inode(), own)
        .map(|file| Some(Way::File(file)))
}

/// Passes an open on with these flags, and notes that its descriptor has no permission.
fn noted(call: &Call, cage: u64, flags_at: usize, flags: i32) -> Result<i32, Errno> {
    let mut args = *call.args();
    args[flags_at] = int(cage, flags);
    let fd = call.forward_with(cage, &args)?;
    let fd = CageFd { cage, fd };
    filter().known.note(fd, None, false);
    if let Ok(stat) = fd.stat()
        && flags & fs::O_ACCMODE != fs::O_RDONLY
        && !stat.is_regular()
    {
        filter().note_outlet(fd, &stat, None, flags & fs::O_CLOEXEC != 0);
    }
    Ok(fd.fd)
}
