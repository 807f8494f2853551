//! Between Linux's numbers and WASI's.

use crate::sys::Errno;
use libc::c_int;

/// Linux's error number, WASI's, and what strerror(3) says.
static ERRORS: &[(i32, c_int, &str)] = &[
    (7, 1, "Argument list too long"),
    (13, 2, "Permission denied"),
    (98, 3, "Address already in use"),
    (99, 4, "Cannot assign requested address"),
    (97, 5, "Address family not supported by protocol"),
    (11, 6, "Resource temporarily unavailable"),
    (114, 7, "Operation already in progress"),
    (9, 8, "Bad file descriptor"),
    (74, 9, "Bad message"),
    (16, 10, "Device or resource busy"),
    (125, 11, "Operation canceled"),
    (10, 12, "No child processes"),
    (103, 13, "Software caused connection abort"),
    (111, 14, "Connection refused"),
    (104, 15, "Connection reset by peer"),
    (35, 16, "Resource deadlock avoided"),
    (89, 17, "Destination address required"),
    (33, 18, "Numerical argument out of domain"),
    (122, 19, "Disk quota exceeded"),
    (17, 20, "File exists"),
    (14, 21, "Bad address"),
    (27, 22, "File too large"),
    (113, 23, "No route to host"),
    (43, 24, "Identifier removed"),
    (84, 25, "Invalid or incomplete multibyte or wide character"),
    (115, 26, "Operation now in progress"),
    (4, 27, "Interrupted system call"),
    (22, 28, "Invalid argument"),
    (5, 29, "Input/output error"),
    (106, 30, "Transport endpoint is already connected"),
    (21, 31, "Is a directory"),
    (40, 32, "Too many levels of symbolic links"),
    (24, 33, "Too many open files"),
    (31, 34, "Too many links"),
    (90, 35, "Message too long"),
    (72, 36, "Multihop attempted"),
    (36, 37, "File name too long"),
    (100, 38, "Network is down"),
    (102, 39, "Network dropped connection on reset"),
    (101, 40, "Network is unreachable"),
    (23, 41, "Too many open files in system"),
    (105, 42, "No buffer space available"),
    (19, 43, "No such device"),
    (2, 44, "No such file or directory"),
    (8, 45, "Exec format error"),
    (37, 46, "No locks available"),
    (67, 47, "Link has been severed"),
    (12, 48, "Cannot allocate memory"),
    (42, 49, "No message of desired type"),
    (92, 50, "Protocol not available"),
    (28, 51, "No space left on device"),
    (38, 52, "Function not implemented"),
    (107, 53, "Transport endpoint is not connected"),
    (20, 54, "Not a directory"),
    (39, 55, "Directory not empty"),
    (131, 56, "State not recoverable"),
    (88, 57, "Socket operation on non-socket"),
    (95, 58, "Operation not supported"),
    (25, 59, "Inappropriate ioctl for device"),
    (6, 60, "No such device or address"),
    (75, 61, "Value too large for defined data type"),
    (130, 62, "Owner died"),
    (1, 63, "Operation not permitted"),
    (32, 64, "Broken pipe"),
    (71, 65, "Protocol error"),
    (93, 66, "Protocol not supported"),
    (91, 67, "Protocol wrong type for socket"),
    (34, 68, "Numerical result out of range"),
    (30, 69, "Read-only file system"),
    (29, 70, "Illegal seek"),
    (3, 71, "No such process"),
    (116, 72, "Stale file handle"),
    (110, 73, "Connection timed out"),
    (26, 74, "Text file busy"),
    (18, 75, "Invalid cross-device link"),
];

/// WASI's number for an error of Linux; that of EIO where WASI has none.
pub fn wasi_errno(error: Errno) -> c_int {
    ERRORS
        .iter()
        .find(|(linux, _, _)| *linux == error.0)
        .map_or(libc::EIO, |(_, wasi, _)| *wasi)
}

/// What an error of WASI means.
pub fn describe(error: c_int) -> &'static str {
    ERRORS
        .iter()
        .find(|(_, wasi, _)| *wasi == error)
        .map_or("Unknown error", |(_, _, text)| text)
}

/// Flags of open(2): WASI's bit, Linux's bit.
const OPEN_FLAGS: &[(c_int, i32)] = &[
    (libc::O_APPEND, 0o2000),
    (libc::O_DSYNC, 0o10000),
    (libc::O_NONBLOCK, 0o4000),
    (libc::O_SYNC, 0o4010000),
    (libc::O_CREAT, 0o100),
    (libc::O_DIRECTORY, 0o200000),
    (libc::O_EXCL, 0o200),
    (libc::O_TRUNC, 0o1000),
    (libc::O_NOFOLLOW, 0o400000),
];

/// Flags of open(2) for the kernel.
pub fn open_flags(wasi: c_int) -> i32 {
    let access = if wasi & libc::O_RDWR == libc::O_RDWR {
        2
    } else if wasi & libc::O_WRONLY != 0 {
        1
    } else {
        0
    };
    OPEN_FLAGS
        .iter()
        .filter(|(bit, _)| wasi & bit == *bit)
        .fold(access, |flags, (_, linux)| flags | linux)
}

/// Flags of F_GETFL for the program.
pub fn status_flags(linux: i32) -> c_int {
    let access = match linux & 3 {
        0 => libc::O_RDONLY,
        1 => libc::O_WRONLY,
        _ => libc::O_RDWR,
    };
    OPEN_FLAGS
        .iter()
        .filter(|(_, bit)| linux & bit == *bit)
        .fold(access, |flags, (wasi, _)| flags | wasi)
}
