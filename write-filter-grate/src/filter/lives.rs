//! How descriptors are copied, closed and handed on: permissions go along.

use super::filter;
use grate_rs::constants::fs;
use grate_rs::{CageFd, Call, Errno};

macro_rules! follow {
    ($($name:ident)*) => {
        $(
            #[doc = concat!("See [`grate_rs::Descriptors::", stringify!($name), "`].")]
            pub fn $name(call: &Call) -> Result<i32, Errno> {
                filter().permitted.$name(call)
            }
        )*
    };
}

follow!(close dup dup2 dup3 ioctl clone_cage execve exit wait4);

/// fcntl: descriptor, command, number. The flags are those that the program opened with.
pub fn fcntl(call: &Call) -> Result<i32, Errno> {
    let permitted = &filter().permitted;
    let result = permitted.fcntl(call)?;
    let hides = call.int(1) == fs::F_GETFL
        && permitted
            .get(CageFd::of(call, 0))
            .is_some_and(|permission| permission.hides_nofollow);
    Ok(if hides {
        result & !fs::O_NOFOLLOW
    } else {
        result
    })
}
