//! truncate, the one call that changes a file's content by its name.

use super::filter;
use super::names::Name;
use super::redaction::{Applying, Redaction};
use grate_rs::constants::{SYS_FTRUNCATE, error, fs};
use grate_rs::kernel::{self, int, value};
use grate_rs::{CageFd, Call, Errno, getcageid};
use std::cell::Cell;

/// truncate: path, length.
pub fn truncate(call: &Call) -> Result<i32, Errno> {
    let cage = call.cage_of(1);
    let len = call.long(1);
    if len < 0 {
        return Err(Errno(error::EINVAL));
    }
    let name = Name::take(call, 0, None, true)?;
    let stat = name.stat()?;
    if stat.is_directory() {
        return Err(Errno(error::EISDIR));
    }
    if !stat.is_regular() {
        return Err(Errno(error::EINVAL));
    }
    if filter().is_kept(&stat) {
        return Err(Errno(error::EACCES));
    }
    if !name.is_permitted() {
        return Err(filter().refuse(cage, format_args!("truncate of {name}")));
    }
    let path = match filter().needs_paths() {
        true => Some(name.path()?),
        false => None,
    };
    let applying = filter()
        .redaction
        .as_ref()
        .map(|all| all.applying_to(path.as_deref()));
    if is_guarded(path.as_deref(), applying.as_ref()) {
        return Err(filter().refuse(cage, format_args!("truncate of {name}")));
    }
    let own = getcageid();
    let redacted = filter().redaction.as_ref().zip(applying);
    let mode = match &redacted {
        // What stands before the new end is read.
        Some((_, applying)) if !applying.is_empty() => fs::O_RDWR,
        _ => fs::O_WRONLY,
    };
    let fd = name.open(own, mode | fs::O_NONBLOCK | fs::O_CLOEXEC, 0)?;
    // What was opened is what counts, should the name have changed hands.
    let opened = fd.stat().and_then(|stat| {
        if filter().is_kept(&stat) {
            return Err(Errno(error::EACCES));
        }
        if !stat.is_regular() {
            return Err(Errno(error::EINVAL));
        }
        Ok(stat)
    });
    let stat = opened.inspect_err(|_| fd.close())?;
    let cut = || {
        let args = [int(own, fd.fd), value(own, len as u64)];
        kernel::call(SYS_FTRUNCATE, own, &args)
    };
    let Some((redaction, applying)) = redacted else {
        let result = cut();
        fd.close();
        return result;
    };
    // Also of a file that nobody has open, the last letter may be what keeps the ones before it
    // from being a secret.
    let path = path.unwrap_or_else(|| name.text().to_vec());
    let is_taken = Cell::new(false);
    let take = || {
        is_taken.set(true);
        Ok(fd)
    };
    let file = redaction.file(stat.inode(), path.into(), &applying, take);
    let result = file.and_then(|file| match file {
        Some(file) => file.resize(CageFd { cage, ..fd }, |_| len as u64, cut),
        None => cut(),
    });
    if !is_taken.get() {
        fd.close();
    }
    result
}

/// Whether a file at this path is kept from being truncated: none that may only be added to is,
/// for what comes next would stand behind what was not its beginning.
fn is_guarded(path: Option<&[u8]>, applying: Option<&Applying>) -> bool {
    let redaction = filter().redaction.as_ref();
    let is_append_only = |(all, applying): (&Redaction, &Applying)| all.is_append_only(applying);
    redaction.zip(applying).is_some_and(is_append_only) || filter().denies_writing(path)
}
