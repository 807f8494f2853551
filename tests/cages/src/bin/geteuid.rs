//! Prints what geteuid answers.

use cage_libc::sys;

fn main() {
    const GETEUID: u32 = 107;
    // SAFETY: no arguments.
    let uid = unsafe { sys::syscall(GETEUID, &[]) };
    match uid {
        Ok(uid) => println!("{uid}"),
        Err(error) => println!("{error:?}"),
    }
}
