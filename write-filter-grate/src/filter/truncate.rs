//! truncate, the one call that changes a file's content by its name.

use super::filter;
use super::names::Name;
use grate_rs::constants::{SYS_FTRUNCATE, error, fs};
use grate_rs::kernel::{self, int, value};
use grate_rs::{CageFd, Call, Errno, getcageid};

/// truncate: path, length.
pub fn truncate(call: &Call) -> Result<i32, Errno> {
    let cage = call.cage_of(1);
    let len = call.long(1);
    if len < 0 {
        return Err(Errno(error::EINVAL));
    }
    let mut name = Name::read(call, None, 0)?;
    let stat = name.stat()?;
    if stat.is_directory() {
        return Err(Errno(error::EISDIR));
    }
    if !stat.is_regular() {
        return Err(Errno(error::EINVAL));
    }
    if filter().is_closed(&stat) {
        return Err(Errno(error::EACCES));
    }
    if !name.follow()? || is_guarded(&name)? {
        return Err(filter().refuse(cage, format_args!("truncate of {name}")));
    }
    // Not by its name once more, which could have become a symlink since.
    let own = getcageid();
    let flags = fs::O_WRONLY | fs::O_NOFOLLOW | fs::O_NONBLOCK | fs::O_CLOEXEC;
    let fd = CageFd {
        cage: own,
        fd: name.open(own, flags, 0)?,
    };
    let args = [int(own, fd.fd), value(own, len as u64)];
    let cut = || kernel::call(SYS_FTRUNCATE, own, &args);
    let redaction = filter().redaction.as_ref();
    let result = fd.stat().and_then(|stat| {
        match redaction.and_then(|redaction| redaction.open_file(stat.inode())) {
            Some(file) => file.resize(fd, |_| len as u64, cut),
            None => cut(),
        }
    });
    fd.close();
    result
}

/// Whether the path keeps the file from being truncated: no file that may only be added to is,
/// for what comes next would stand behind what was not its beginning.
fn is_guarded(name: &Name) -> Result<bool, Errno> {
    let path = if filter().judges_paths() {
        name.resolve(true)?
    } else {
        None
    };
    let path = path.as_deref();
    let append_only = filter().redaction.as_ref().is_some_and(|redaction| {
        let applying = redaction.applying_to(path);
        redaction.is_append_only(&applying)
    });
    Ok(append_only || filter().denies_writing(path))
}
