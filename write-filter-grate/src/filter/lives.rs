//! How descriptors are copied, closed and handed on: permissions go along.

use super::filter;
use grate_rs::{Call, Errno};

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

follow!(close dup dup2 dup3 fcntl ioctl clone_cage execve exit wait4);
