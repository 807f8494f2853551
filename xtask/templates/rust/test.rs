//! Runs under the grate. It passes when it exits with 0 and prints what grates_test.toml says.

use cage_libc::sys::syscall;

fn main() {
    const GETEUID: u32 = 107;
    // SAFETY: the call has no arguments.
    match unsafe { syscall(GETEUID, &[]) } {
        Ok(user) => println!("user {user}"),
        Err(errno) => println!("{errno:?}"),
    }
}
