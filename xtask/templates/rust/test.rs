//! Runs under the grate. It passes when it exits with 0 and prints what grates_test.toml says.

// What `std` is linked with: a program that names nothing of it says `use cage_libc as _;`.
use cage_libc::sys::syscall;

fn main() {
    const GETEUID: u32 = 107;
    // SAFETY: the call has no arguments.
    match unsafe { syscall(GETEUID, &[]) } {
        Ok(user) => println!("user {user}"),
        Err(errno) => println!("{errno:?}"),
    }
}
