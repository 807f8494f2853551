//! open and openat: nothing is refused but the loss of what is in a file that may not be written.

use super::names::Name;
use super::{Permission, filter};
use grate_rs::constants::fs;
use grate_rs::kernel::int;
use grate_rs::{Arg, CageFd, Call, Errno};

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
        let permission = Permission {
            hides_nofollow: flags & fs::O_NOFOLLOW == 0,
        };
        filter()
            .permitted
            .note(CageFd { cage, fd }, Some(permission), cloexec);
        return Ok(fd);
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

/// Passes an open on with these flags, and notes that its descriptor has no permission.
fn noted(call: &Call, cage: u64, flags_at: usize, flags: i32) -> Result<i32, Errno> {
    let mut args = *call.args();
    args[flags_at] = int(cage, flags);
    let fd = call.forward_with(cage, &args)?;
    filter().permitted.note(CageFd { cage, fd }, None, false);
    Ok(fd)
}
