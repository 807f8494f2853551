//! Where the paths of cages lead.

use crate::constants::{SYS_GETCWD, SYS_READLINK, error};
use crate::kernel::{self, value};
use crate::{Errno, getcageid, own_buffer};
use std::ffi::CString;

/// Longest path with its NUL.
pub const PATH_MAX: usize = 4096;
/// Symlinks that are followed in one path, as the kernel does.
pub const MOST_LINKS: usize = 40;

/// An absolute path without `.`, `..` and doubled slashes, taken as it is written.
pub fn normalised(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let mut clean = Vec::with_capacity(path.len());
    for part in parts {
        clean.push(b'/');
        clean.extend_from_slice(part);
    }
    if clean.is_empty() {
        clean.push(b'/');
    }
    clean
}

/// The absolute path of what `path` names for `cage`, symlinks resolved; the last part need not
/// exist. `follow` says whether a symlink there is followed too.
///
/// # Errors
/// ELOOP, ENAMETOOLONG, and as the cage's own look-up.
pub fn resolve(cage: u64, from: &[u8], path: &[u8], follow: bool) -> Result<Vec<u8>, Errno> {
    let mut pending: Vec<Vec<u8>> = Vec::new();
    let push = |pending: &mut Vec<Vec<u8>>, path: &[u8]| {
        for part in path
            .rsplit(|&byte| byte == b'/')
            .filter(|part| !part.is_empty())
        {
            pending.push(part.to_vec());
        }
    };
    push(&mut pending, path);
    let mut resolved = if path.starts_with(b"/") {
        Vec::new()
    } else {
        normalised(from)
    };
    if resolved == b"/" {
        resolved.clear();
    }
    let mut links = 0;
    while let Some(part) = pending.pop() {
        match part.as_slice() {
            b"." => continue,
            b".." => {
                let parent = resolved.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                resolved.truncate(parent);
                continue;
            }
            _ => {}
        }
        let parent = resolved.len();
        resolved.push(b'/');
        resolved.extend_from_slice(&part);
        if pending.is_empty() && !follow {
            break;
        }
        if let Some(target) = read_link(cage, &resolved)? {
            links += 1;
            if links > MOST_LINKS {
                return Err(Errno(error::ELOOP));
            }
            resolved.truncate(if target.starts_with(b"/") { 0 } else { parent });
            push(&mut pending, &target);
        }
        if resolved.len() >= PATH_MAX {
            return Err(Errno(error::ENAMETOOLONG));
        }
    }
    if resolved.is_empty() {
        resolved.push(b'/');
    }
    Ok(resolved)
}

/// What a symlink says; `None` for anything else, also for what does not exist.
fn read_link(cage: u64, path: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
    let path = CString::new(path).map_err(|_| Errno(error::EINVAL))?;
    let mut target = vec![0; PATH_MAX];
    let args = [
        own_buffer(path.as_ptr()),
        own_buffer(target.as_mut_ptr()),
        value(cage, target.len() as u64),
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

/// The current directory of a cage.
///
/// # Errors
/// As getcwd(2).
pub fn current_directory(cage: u64) -> Result<Vec<u8>, Errno> {
    let mut path = vec![0; PATH_MAX];
    let args = [
        own_buffer(path.as_mut_ptr()),
        value(getcageid(), PATH_MAX as u64),
    ];
    kernel::call(SYS_GETCWD, cage, &args)?;
    let end = path.iter().position(|&byte| byte == 0).unwrap_or(0);
    path.truncate(end);
    Ok(path)
}
