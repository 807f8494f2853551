//! What a file has beside its contents, and its copy is to have too.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, fchown};

use rustix::buffer::spare_capacity;
use rustix::fs::{Timestamps, XattrFlags, fgetxattr, flistxattr, fsetxattr, futimens};
use rustix::io::Errno;

use crate::stat::Stat;

/// Permission bits with those that belong to them.
const MODE: u16 = 0o7777;

/// Most bytes of an attribute's value and of the list of names, as xattr(7) has it.
const MOST: usize = 64 << 10;

/// What can't be given to the copy. The file is left as it was, then.
#[derive(Debug, thiserror::Error)]
#[error("its copy cannot have {what} that it has: {cause}")]
pub struct AttributeError {
    what: String,
    cause: io::Error,
}

/// Gives a copy the owner, permissions, extended attributes and times of a file, in this order:
/// each would change those before it otherwise.
///
/// # Errors
/// Where one of them can't be kept, but for extended attributes that the system itself sets.
pub fn copy(old: &File, stat: &Stat, new: &File) -> Result<(), AttributeError> {
    let failed = |what: &str, cause| AttributeError {
        what: what.to_owned(),
        cause,
    };
    let made = Stat::of(new).map_err(|cause| failed("the owner", cause))?;
    if (made.uid, made.gid) != (stat.uid, stat.gid) {
        fchown(new, Some(stat.uid), Some(stat.gid)).map_err(|cause| failed("the owner", cause))?;
    }
    let mode = Permissions::from_mode((stat.mode & MODE).into());
    new.set_permissions(mode)
        .map_err(|cause| failed("the permissions", cause))?;
    copy_extended(old, new)?;
    let times = Timestamps {
        last_access: stat.accessed.into(),
        last_modification: stat.fingerprint.modified.into(),
    };
    futimens(new, &times).map_err(|cause| failed("the times", cause.into()))
}

fn copy_extended(old: &File, new: &File) -> Result<(), AttributeError> {
    let failed = |name: &[u8], cause: Errno| AttributeError {
        what: format!("the attribute {}", String::from_utf8_lossy(name)),
        cause: cause.into(),
    };
    let mut names = Vec::with_capacity(MOST);
    match flistxattr(old, spare_capacity(&mut names)) {
        Ok(_) => {}
        // A file system without them.
        Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(()),
        Err(errno) => return Err(failed(b"list", errno)),
    }
    let mut value = Vec::with_capacity(MOST);
    let mut present = Vec::with_capacity(MOST);
    for name in names
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
    {
        value.clear();
        match fgetxattr(old, name, spare_capacity(&mut value)) {
            Ok(_) => {}
            Err(Errno::NODATA) => continue,
            Err(errno) => return Err(failed(name, errno)),
        }
        present.clear();
        if fgetxattr(new, name, spare_capacity(&mut present)).is_ok() && present == value {
            continue;
        }
        match fsetxattr(new, name, &value, XattrFlags::empty()) {
            Ok(()) => {}
            // A label that a security module gives is for it to give.
            Err(_) if name.starts_with(b"security.") => {}
            Err(errno) => return Err(failed(name, errno)),
        }
    }
    Ok(())
}
