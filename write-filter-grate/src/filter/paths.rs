//! Where a path leads, symlinks resolved.

use grate_rs::Errno;
use grate_rs::constants::{SYS_READLINK, error};
use grate_rs::kernel::{self, value};
use grate_rs::own_buffer;
use std::ffi::CString;

/// Longest path with its NUL.
pub const PATH_MAX: usize = 4096;
/// Symlinks that are followed, as the kernel does.
pub const MOST_LINKS: usize = 40;

/// The absolute path of what `path` names for `cage` from the directory `from`; the last part need
/// not exist. `follow` says whether a symlink there is followed too.
///
/// # Errors
/// ELOOP, ENAMETOOLONG.
pub fn resolve(cage: u64, from: &[u8], path: &[u8], follow: bool) -> Result<Vec<u8>, Errno> {
    let mut resolved = Vec::new();
    let mut pending = Vec::new();
    push_parts(&mut pending, path);
    if !path.starts_with(b"/") {
        push_parts(&mut pending, from);
    }
    let mut links = 0;
    while let Some(part) = pending.pop() {
        let parent = resolved.len();
        match part.as_slice() {
            b"." => continue,
            b".." => {
                let parent = resolved.iter().rposition(|&byte| byte == b'/');
                resolved.truncate(parent.unwrap_or(0));
                continue;
            }
            _ => {}
        }
        resolved.push(b'/');
        resolved.extend_from_slice(&part);
        if resolved.len() >= PATH_MAX {
            return Err(Errno(error::ENAMETOOLONG));
        }
        if pending.is_empty() && !follow {
            break;
        }
        if let Some(target) = link(cage, &resolved)? {
            links += 1;
            if links > MOST_LINKS {
                return Err(Errno(error::ELOOP));
            }
            resolved.truncate(if target.starts_with(b"/") { 0 } else { parent });
            push_parts(&mut pending, &target);
        }
    }
    if resolved.is_empty() {
        resolved.push(b'/');
    }
    Ok(resolved)
}

/// Adds the parts of a path, the first on top.
fn push_parts(pending: &mut Vec<Vec<u8>>, path: &[u8]) {
    let parts = path.rsplit(|&byte| byte == b'/');
    pending.extend(parts.filter(|part| !part.is_empty()).map(<[u8]>::to_vec));
}

/// What a symlink says; `None` for anything else, and for what is not there.
fn link(cage: u64, path: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
    let path = CString::new(path).map_err(|_| Errno(error::EINVAL))?;
    let mut target = vec![0; PATH_MAX];
    let args = [
        own_buffer(path.as_ptr()),
        own_buffer(target.as_mut_ptr()),
        value(cage, PATH_MAX as u64),
    ];
    match kernel::call(SYS_READLINK, cage, &args) {
        Ok(len) => {
            target.truncate(len as usize);
            Ok(Some(target))
        }
        Err(Errno(error::EINVAL | error::ENOENT | error::ENOTDIR)) => Ok(None),
        Err(errno) => Err(errno),
    }
}
