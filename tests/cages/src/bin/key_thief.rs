//! Tries to get at the grate's key file, `/k.bin`, by every name and call. Exits with 0 when all
//! of it was refused with EACCES.

use cage_libc::sys::{self, Errno, address};

const EACCES: Errno = Errno(13);
const AT_FDCWD: u64 = -100i64 as u64;

fn call(nr: u32, args: &[u64]) -> Result<i32, Errno> {
    // SAFETY: every address comes from a live buffer.
    unsafe { sys::syscall(nr, args) }
}

fn main() {
    let mut failures = 0;
    let mut refused = |what: &str, result: Result<i32, Errno>| {
        if result != Err(EACCES) {
            println!("{what}: {result:?}");
            failures += 1;
        }
    };
    let mut buffer = [0u8; 256];
    let place = address(buffer.as_mut_ptr());
    let other = address(c"/tmp/other".as_ptr());
    // The key itself, a hard link and a symlink to it, and detours.
    for name in [
        c"/k.bin",
        c"k.bin",
        c"/hard",
        c"/soft",
        c"/tmp/../k.bin",
        c"//k.bin",
        c"../../k.bin",
    ] {
        let path = address(name.as_ptr());
        let shown = name.to_string_lossy();
        for flags in [0, 1, 2, 0o1000, 0o1002, 0o2001, 0o100, 0o10000000] {
            refused(
                &format!("open {shown} {flags:o}"),
                call(2, &[path, flags, 0]),
            );
            refused(
                &format!("openat {shown} {flags:o}"),
                call(257, &[AT_FDCWD, path, flags, 0]),
            );
        }
        refused(&format!("stat {shown}"), call(4, &[path, place]));
        refused(
            &format!("newfstatat {shown}"),
            call(262, &[AT_FDCWD, path, place, 0]),
        );
        refused(&format!("truncate {shown}"), call(76, &[path, 0]));
        refused(&format!("access {shown}"), call(21, &[path, 4]));
        refused(&format!("chmod {shown}"), call(90, &[path, 0o666]));
        refused(
            &format!("fchmodat {shown}"),
            call(268, &[AT_FDCWD, path, 0o666, 0]),
        );
        refused(
            &format!("utimensat {shown}"),
            call(280, &[AT_FDCWD, path, 0, 0]),
        );
        if name == c"/soft" {
            continue; // The link itself may be moved and removed.
        }
        refused(&format!("lstat {shown}"), call(6, &[path, place]));
        refused(&format!("unlink {shown}"), call(87, &[path]));
        refused(
            &format!("unlinkat {shown}"),
            call(263, &[AT_FDCWD, path, 0]),
        );
        refused(&format!("rename {shown}"), call(82, &[path, other]));
        refused(&format!("rename onto {shown}"), call(82, &[other, path]));
        refused(
            &format!("renameat {shown}"),
            call(264, &[AT_FDCWD, path, AT_FDCWD, other]),
        );
        refused(
            &format!("renameat2 {shown}"),
            call(316, &[AT_FDCWD, path, AT_FDCWD, other, 0]),
        );
        refused(&format!("link {shown}"), call(86, &[path, other]));
    }
    std::process::exit(i32::from(failures > 0))
}
