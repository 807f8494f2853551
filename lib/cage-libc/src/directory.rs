//! Directory streams, over getdents64.

use crate::errno::{self, fail};
use crate::sys::{self, address, nr};
use core::mem::offset_of;
use libc::{c_char, c_int, dirent};

const BUFFER: usize = 8192;
/// A name's most bytes, with its NUL.
const NAME: usize = 256;

/// What the kernel puts before a name: ino u64, off i64, reclen u16, type u8.
const RECORD_LEN_AT: usize = 16;
const TYPE_AT: usize = 18;
const NAME_AT: usize = 19;

/// Behind `DIR *`.
#[repr(C)]
struct Stream {
    fd: c_int,
    at: usize,
    len: usize,
    bytes: [u8; BUFFER],
    /// The entry that was given last.
    entry: [u64; (offset_of!(dirent, d_name) + NAME).div_ceil(8)],
}

#[unsafe(no_mangle)]
unsafe extern "C" fn opendir(path: *const c_char) -> *mut Stream {
    const O_DIRECTORY_CLOEXEC: u64 = 0o2200000;
    // SAFETY: the caller's path.
    match unsafe { sys::syscall(nr::OPEN, &[address(path), O_DIRECTORY_CLOEXEC, 0]) } {
        Ok(fd) => stream(fd),
        Err(error) => {
            fail(error);
            core::ptr::null_mut()
        }
    }
}

fn stream(fd: c_int) -> *mut Stream {
    // SAFETY: any size is fine for calloc, and zeros are a valid stream.
    unsafe {
        let stream = libc::calloc(1, size_of::<Stream>()).cast::<Stream>();
        if stream.is_null() {
            let _ = sys::close(fd);
            errno::set(libc::ENOMEM);
        } else {
            (*stream).fd = fd;
        }
        stream
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fdopendir(fd: c_int) -> *mut Stream {
    stream(fd)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn dirfd(stream: *mut Stream) -> c_int {
    // SAFETY: a stream that `opendir` made.
    unsafe { (*stream).fd }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn closedir(stream: *mut Stream) -> c_int {
    // SAFETY: a stream that `opendir` made, used no more.
    unsafe {
        let closed = sys::close((*stream).fd);
        libc::free(stream.cast());
        errno::answer(closed.map(|()| 0))
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn readdir(stream: *mut Stream) -> *mut dirent {
    // SAFETY: a stream that `opendir` made, and no other reference to it.
    let stream = unsafe { &mut *stream };
    if stream.at >= stream.len {
        let args = [
            stream.fd as i64 as u64,
            address(stream.bytes.as_mut_ptr()),
            BUFFER as u64,
        ];
        // SAFETY: the buffer is as long as said.
        match unsafe { sys::syscall(nr::GETDENTS64, &args) } {
            Ok(len) => {
                stream.at = 0;
                stream.len = len as usize;
            }
            Err(error) => {
                fail(error);
                return core::ptr::null_mut();
            }
        }
    }
    let record = stream.bytes.get(stream.at..stream.len).unwrap_or_default();
    if record.len() <= NAME_AT {
        return core::ptr::null_mut();
    }
    let mut ino = [0; 8];
    ino.copy_from_slice(&record[..8]);
    let record_len = usize::from(u16::from_le_bytes([
        record[RECORD_LEN_AT],
        record[RECORD_LEN_AT + 1],
    ]));
    let kind = record[TYPE_AT];
    let name = record.get(NAME_AT..record_len).unwrap_or_default();
    let name_len = name
        .iter()
        .position(|&b| b == 0)
        .unwrap_or(name.len())
        .min(NAME - 1);
    let entry = stream.entry.as_mut_ptr().cast::<dirent>();
    // SAFETY: `entry` has room for the structure and a name of that length.
    unsafe {
        (*entry).d_ino = u64::from_le_bytes(ino);
        (*entry).d_type = wasi_type(kind);
        let out = entry.cast::<u8>().add(offset_of!(dirent, d_name));
        core::ptr::copy_nonoverlapping(name.as_ptr(), out, name_len);
        out.add(name_len).write(0);
    }
    stream.at += record_len.max(NAME_AT);
    entry
}

/// Linux's `DT_*` as WASI's file types.
fn wasi_type(linux: u8) -> u8 {
    match linux {
        2 => libc::DT_CHR,
        4 => libc::DT_DIR,
        6 => libc::DT_BLK,
        8 => libc::DT_REG,
        10 => libc::DT_LNK,
        _ => libc::DT_UNKNOWN,
    }
}
