//! SQLite on any files that are given to it: what its operating system would be.
//!
//! SQLite finds the files of the thread that calls it. It takes no locks here: one connection is all that
//! there is.

use rusqlite::ffi;
use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::Once;

/// The name that a connection asks for these files by.
pub const NAME: &CStr = c"simulated";

/// Something failed, and with it whatever SQLite was about.
#[derive(Debug)]
pub struct Failed;

/// The files that SQLite works on.
pub trait Disks {
    /// Opens one, and answers a number for it.
    fn open(&mut self, name: &str, make: bool) -> Result<usize, Failed>;
    fn exists(&self, name: &str) -> bool;
    fn remove(&mut self, name: &str, sync: bool);
    fn close(&mut self, file: usize);
    /// As pread(2).
    fn read(&mut self, file: usize, out: &mut [u8], offset: u64) -> Result<usize, Failed>;
    fn write(&mut self, file: usize, data: &[u8], offset: u64) -> Result<(), Failed>;
    fn set_len(&mut self, file: usize, len: u64) -> Result<(), Failed>;
    fn len(&mut self, file: usize) -> Result<u64, Failed>;
    fn sync(&mut self, file: usize) -> Result<(), Failed>;
}

thread_local! {
    static DISKS: RefCell<Option<Box<dyn Disks>>> = const { RefCell::new(None) };
}

/// Runs `work`, in which SQLite finds these files.
pub fn with<T>(disks: Box<dyn Disks>, work: impl FnOnce() -> T) -> T {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(register);
    let before = DISKS.replace(Some(disks));
    let done = work();
    DISKS.set(before);
    done
}

/// What SQLite calls a file: its first field, and our number.
#[repr(C)]
struct File {
    base: ffi::sqlite3_file,
    number: usize,
}

fn register() {
    // SQLite keeps it for as long as the process lives.
    let vfs = Box::leak(Box::new(ffi::sqlite3_vfs {
        iVersion: 1,
        szOsFile: size_of::<File>() as c_int,
        mxPathname: 64,
        pNext: std::ptr::null_mut(),
        zName: NAME.as_ptr(),
        pAppData: std::ptr::null_mut(),
        xOpen: Some(open),
        xDelete: Some(delete),
        xAccess: Some(access),
        xFullPathname: Some(full_pathname),
        xDlOpen: None,
        xDlError: None,
        xDlSym: None,
        xDlClose: None,
        xRandomness: Some(randomness),
        xSleep: Some(sleep),
        xCurrentTime: Some(current_time),
        xGetLastError: Some(get_last_error),
        xCurrentTimeInt64: None,
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    }));
    // SAFETY: the structure is never moved, changed by us, or freed.
    let code = unsafe { ffi::sqlite3_vfs_register(vfs, 0) };
    assert_eq!(code, ffi::SQLITE_OK);
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(lock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

fn disks<T>(work: impl FnOnce(&mut dyn Disks) -> T) -> T {
    DISKS.with_borrow_mut(|disks| work(&mut **disks.as_mut().expect("SQLite runs within `with`")))
}

fn code(done: Result<(), Failed>) -> c_int {
    done.map_or(ffi::SQLITE_IOERR, |()| ffi::SQLITE_OK)
}

/// # Safety
/// A file that `open` has opened.
unsafe fn number(file: *mut ffi::sqlite3_file) -> usize {
    // SAFETY: SQLite has reserved `szOsFile` bytes for it, and `open` has filled them.
    unsafe { (*file.cast::<File>()).number }
}

/// # Safety
/// A name of C, or null.
unsafe fn text<'a>(name: *const c_char) -> &'a str {
    if name.is_null() {
        return "temporary";
    }
    // SAFETY: as promised; it lives for the call in which this is used.
    unsafe { CStr::from_ptr(name) }.to_str().expect("ASCII")
}

unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    let file = file.cast::<File>();
    let make = flags & ffi::SQLITE_OPEN_CREATE != 0;
    // SAFETY: a name of SQLite's.
    let name = unsafe { text(name) };
    let opened = disks(|disks| disks.open(name, make));
    // SAFETY: `file` has room for a `File`; without methods it counts as not open.
    unsafe {
        (*file).base.pMethods = std::ptr::null();
    }
    let Ok(number) = opened else {
        return ffi::SQLITE_CANTOPEN;
    };
    // SAFETY: as above; `out_flags` is null or a place for a number.
    unsafe {
        (*file).base.pMethods = &raw const METHODS;
        (*file).number = number;
        if !out_flags.is_null() {
            *out_flags = flags;
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn delete(_: *mut ffi::sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    // SAFETY: a name of SQLite's.
    let name = unsafe { text(name) };
    disks(|disks| disks.remove(name, sync != 0));
    ffi::SQLITE_OK
}

unsafe extern "C" fn access(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    _: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: a name of SQLite's, and a place for a number.
    unsafe { *out = c_int::from(disks(|disks| disks.exists(text(name)))) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_pathname(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    len: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: a name of SQLite's, and room for one of `len` bytes with its zero.
    unsafe {
        let bytes = CStr::from_ptr(name).to_bytes_with_nul();
        if bytes.len() > len as usize {
            return ffi::SQLITE_CANTOPEN;
        }
        out.copy_from_nonoverlapping(bytes.as_ptr().cast(), bytes.len());
    }
    ffi::SQLITE_OK
}

/// The same each time, as all that is random here.
unsafe extern "C" fn randomness(_: *mut ffi::sqlite3_vfs, len: c_int, out: *mut c_char) -> c_int {
    // SAFETY: room for `len` bytes.
    unsafe { out.write_bytes(0x5A, len as usize) };
    len
}

unsafe extern "C" fn sleep(_: *mut ffi::sqlite3_vfs, _: c_int) -> c_int {
    0
}

unsafe extern "C" fn current_time(_: *mut ffi::sqlite3_vfs, out: *mut f64) -> c_int {
    // SAFETY: a place for a number.
    unsafe { *out = 2_460_000.5 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn get_last_error(_: *mut ffi::sqlite3_vfs, _: c_int, _: *mut c_char) -> c_int {
    0
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: a file of ours.
    let number = unsafe { number(file) };
    disks(|disks| disks.close(number));
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    out: *mut c_void,
    len: c_int,
    offset: i64,
) -> c_int {
    // SAFETY: a file of ours, and room for `len` bytes, which are written first of all.
    let (number, out) = unsafe {
        out.cast::<u8>().write_bytes(0, len as usize);
        let out = std::slice::from_raw_parts_mut(out.cast(), len as usize);
        (number(file), out)
    };
    match disks(|disks| disks.read(number, out, offset as u64)) {
        Ok(read) if read < len as usize => ffi::SQLITE_IOERR_SHORT_READ,
        Ok(_) => ffi::SQLITE_OK,
        Err(Failed) => ffi::SQLITE_IOERR_READ,
    }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    data: *const c_void,
    len: c_int,
    offset: i64,
) -> c_int {
    // SAFETY: a file of ours, and `len` bytes.
    let (number, data) = unsafe {
        let data = std::slice::from_raw_parts(data.cast(), len as usize);
        (number(file), data)
    };
    code(disks(|disks| disks.write(number, data, offset as u64)))
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, len: i64) -> c_int {
    // SAFETY: a file of ours.
    let number = unsafe { number(file) };
    code(disks(|disks| disks.set_len(number, len as u64)))
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    // SAFETY: a file of ours.
    let number = unsafe { number(file) };
    code(disks(|disks| disks.sync(number)))
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, out: *mut i64) -> c_int {
    // SAFETY: a file of ours.
    let number = unsafe { number(file) };
    let Ok(len) = disks(|disks| disks.len(number)) else {
        return ffi::SQLITE_IOERR_FSTAT;
    };
    // SAFETY: a place for a number.
    unsafe { *out = len as i64 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn lock(_: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved_lock(_: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: a place for a number.
    unsafe { *out = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(_: *mut ffi::sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

/// What SQLite expects of an unknown disk: that a sector may be lost whole.
unsafe extern "C" fn sector_size(_: *mut ffi::sqlite3_file) -> c_int {
    4096
}

unsafe extern "C" fn device_characteristics(_: *mut ffi::sqlite3_file) -> c_int {
    0
}
