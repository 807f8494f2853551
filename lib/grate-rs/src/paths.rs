//! Where the paths of cages lead.

use crate::constants::SYS_GETCWD;
use crate::kernel::{self, value};
use crate::{Errno, own_buffer};

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

/// The current directory of a cage.
///
/// # Errors
/// As getcwd(2).
pub fn current_directory(cage: u64) -> Result<Vec<u8>, Errno> {
    let mut path = vec![0; PATH_MAX];
    let args = [own_buffer(path.as_mut_ptr()), value(cage, PATH_MAX as u64)];
    kernel::call(SYS_GETCWD, cage, &args)?;
    let end = path.iter().position(|&byte| byte == 0).unwrap_or(0);
    path.truncate(end);
    Ok(path)
}
