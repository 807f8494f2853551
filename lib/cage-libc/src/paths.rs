//! Paths relative to a directory, modes and times of files, and the true name of a file.

use crate::abi;
use crate::errno::{answer, fail};
use crate::sys::{self, Errno, address, nr};
use libc::{c_char, c_int, mode_t, timespec};

const EINVAL: Errno = Errno(22);
const ENOENT: Errno = Errno(2);
const ENAMETOOLONG: Errno = Errno(36);
const ENOSYS: Errno = Errno(38);
const ELOOP: Errno = Errno(40);

fn int(value: c_int) -> u64 {
    value as i64 as u64
}

/// The kernel's number for "the current directory" where WASI's stands.
fn directory(fd: c_int) -> u64 {
    const AT_FDCWD: c_int = -100;
    int(if fd == libc::AT_FDCWD { AT_FDCWD } else { fd })
}

/// Flags of the *at calls: WASI's bit, Linux's bit.
const AT_FLAGS: &[(c_int, c_int)] = &[
    (libc::AT_SYMLINK_NOFOLLOW, 0x100),
    (libc::AT_SYMLINK_FOLLOW, 0x400),
    (libc::AT_REMOVEDIR, 0x200),
];

fn at_flags(wasi: c_int) -> u64 {
    let known = AT_FLAGS.iter().filter(|(bit, _)| wasi & bit == *bit);
    int(known.fold(0, |flags, (_, linux)| flags | linux))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn openat(
    fd: c_int,
    path: *const c_char,
    flags: c_int,
    variadic: *const mode_t,
) -> c_int {
    let mode = if flags & libc::O_CREAT != 0 {
        // SAFETY: C passes variadic arguments as a pointer to them; there is one where a file may
        // be created.
        unsafe { variadic.read() }
    } else {
        0
    };
    let args = [
        directory(fd),
        address(path),
        int(abi::open_flags(flags)),
        u64::from(mode),
    ];
    // SAFETY: the caller's path.
    answer(unsafe { sys::syscall(nr::OPENAT, &args) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn unlinkat(fd: c_int, path: *const c_char, flags: c_int) -> c_int {
    let args = [directory(fd), address(path), at_flags(flags)];
    // SAFETY: the caller's path.
    answer(unsafe { sys::syscall(nr::UNLINKAT, &args) })
}

/// Lind has no linkat; without directories and flags it is link.
#[unsafe(no_mangle)]
unsafe extern "C" fn linkat(
    old_fd: c_int,
    old: *const c_char,
    new_fd: c_int,
    new: *const c_char,
    flags: c_int,
) -> c_int {
    if (old_fd, new_fd, flags) != (libc::AT_FDCWD, libc::AT_FDCWD, 0) {
        return fail(ENOSYS);
    }
    // SAFETY: the caller's paths.
    answer(unsafe { sys::syscall(nr::LINK, &[address(old), address(new)]) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn chmod(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: the caller's path.
    answer(unsafe { sys::syscall(nr::CHMOD, &[address(path), u64::from(mode)]) })
}

#[unsafe(no_mangle)]
extern "C" fn fchmod(fd: c_int, mode: mode_t) -> c_int {
    // SAFETY: no addresses.
    answer(unsafe { sys::syscall(nr::FCHMOD, &[int(fd), u64::from(mode)]) })
}

/// Sets times by path, or by descriptor where the path is null.
unsafe fn set_times(
    fd: u64,
    path: *const c_char,
    times: *const [timespec; 2],
    flags: u64,
) -> c_int {
    let mut kernel = [[0i64; 2]; 2];
    if !times.is_null() {
        // SAFETY: the caller passes two times.
        for (slot, time) in kernel.iter_mut().zip(unsafe { times.read() }) {
            let nanoseconds = match time.tv_nsec {
                libc::UTIME_NOW => 0x3fff_ffff,
                libc::UTIME_OMIT => 0x3fff_fffe,
                nanoseconds => i64::from(nanoseconds),
            };
            *slot = [time.tv_sec, nanoseconds];
        }
    }
    let kernel = if times.is_null() {
        0
    } else {
        address(&raw const kernel)
    };
    // SAFETY: two timespecs as the kernel has them, the caller's path.
    answer(unsafe { sys::syscall(nr::UTIMENSAT, &[fd, address(path), kernel, flags]) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn utimensat(
    fd: c_int,
    path: *const c_char,
    times: *const [timespec; 2],
    flags: c_int,
) -> c_int {
    // SAFETY: the caller's.
    unsafe { set_times(directory(fd), path, times, at_flags(flags)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn futimens(fd: c_int, times: *const [timespec; 2]) -> c_int {
    // SAFETY: the caller's.
    unsafe { set_times(int(fd), core::ptr::null(), times, 0) }
}

/// Most bytes of a path, with its NUL.
const PATH: usize = 4096;

/// A path under construction, with a NUL behind it.
struct Path {
    bytes: [u8; PATH],
    len: usize,
}

impl Path {
    const fn new() -> Self {
        Self {
            bytes: [0; PATH],
            len: 0,
        }
    }

    fn push(&mut self, more: &[u8]) -> Result<(), Errno> {
        let end = self.len + more.len();
        let place = self.bytes.get_mut(self.len..end).ok_or(ENAMETOOLONG)?;
        place.copy_from_slice(more);
        self.len = end;
        *self.bytes.get_mut(end).ok_or(ENAMETOOLONG)? = 0;
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        self.len = len;
        self.bytes[len] = 0;
    }

    /// Without its last component, down to nothing, which stands for the root.
    fn parent_len(&self) -> usize {
        let slash = self.as_bytes().iter().rposition(|&byte| byte == b'/');
        slash.unwrap_or(0)
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Walks a path from the root, component by component, and follows what is a symbolic link.
fn resolve(path: &[u8], out: &mut Path) -> Result<(), Errno> {
    /// As many links as the kernel follows.
    const LINKS: usize = 40;
    if path.is_empty() {
        return Err(ENOENT);
    }
    // What is still to walk: grows by the targets of links.
    let mut rest = Path::new();
    if !path.starts_with(b"/") {
        let mut here = [0u8; PATH];
        let args = [address(here.as_mut_ptr()), PATH as u64];
        // SAFETY: the buffer is as long as said.
        let len = unsafe { sys::syscall(nr::GETCWD, &args) }?;
        let here = here.get(..len as usize).unwrap_or_default();
        // Linux counts the NUL, Lind does not.
        out.push(here.strip_suffix(b"\0").unwrap_or(here))?;
        if out.as_bytes() == b"/" {
            out.truncate(0);
        }
    }
    rest.push(path)?;
    let mut links = 0;
    let mut at = 0;
    while at < rest.len {
        let component = rest.as_bytes()[at..]
            .split(|&byte| byte == b'/')
            .next()
            .unwrap_or_default();
        let next = at + component.len() + 1;
        match component {
            b"" | b"." => {}
            b".." => out.truncate(out.parent_len()),
            name => {
                let before = out.len;
                out.push(b"/")?;
                out.push(name)?;
                let mut target = [0u8; PATH];
                let args = [
                    address(out.bytes.as_ptr()),
                    address(target.as_mut_ptr()),
                    PATH as u64,
                ];
                // SAFETY: a path with its NUL, and a buffer as long as said.
                match unsafe { sys::syscall(nr::READLINK, &args) } {
                    Ok(len) => {
                        links += 1;
                        if links > LINKS {
                            return Err(ELOOP);
                        }
                        let target = target.get(..len as usize).unwrap_or_default();
                        let mut walk = Path::new();
                        walk.push(target)?;
                        walk.push(b"/")?;
                        walk.push(rest.as_bytes().get(next..).unwrap_or_default())?;
                        rest = walk;
                        out.truncate(if target.starts_with(b"/") { 0 } else { before });
                        at = 0;
                        continue;
                    }
                    // There, and no link.
                    Err(EINVAL) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        at = next;
    }
    if out.len == 0 {
        out.push(b"/")?;
    }
    Ok(())
}

#[unsafe(no_mangle)]
unsafe extern "C" fn realpath(path: *const c_char, out: *mut c_char) -> *mut c_char {
    let mut resolved = Path::new();
    // SAFETY: the caller's string.
    let bytes = unsafe { core::slice::from_raw_parts(path.cast::<u8>(), libc::strlen(path)) };
    if let Err(error) = resolve(bytes, &mut resolved) {
        fail(error);
        return core::ptr::null_mut();
    }
    let len = resolved.len + 1;
    // SAFETY: `out` is null or has room for the longest path; malloc gives what is asked for.
    unsafe {
        let out = if out.is_null() {
            libc::malloc(len).cast()
        } else {
            out
        };
        if out.is_null() {
            fail(Errno(12));
        } else {
            core::ptr::copy_nonoverlapping(resolved.bytes.as_ptr(), out.cast(), len);
        }
        out
    }
}
