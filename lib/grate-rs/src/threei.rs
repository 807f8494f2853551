//! The 3i calls, under the names that Lind's grate library gives them.

use crate::constants::lind::{ELINDAPIABORTED, ELINDESRCH, GRATE_MEMORY_FLAG};
use cage_libc::sys::{self, Arg, UNUSED};
use core::ffi::c_int;
use std::fmt;

/// What can go wrong between cages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrateError {
    /// The grate and its program could not be brought together.
    CoordinationError(String),
    /// `register_handler` was refused.
    HandlerRegistrationError(i32),
    /// `copy_data_between_cages` was refused: an address of one of the two is not theirs.
    CopyDataError(i32),
    /// `copy_handler_table_to_cage` was refused.
    CopyHandlerError(i32),
    /// A call that was passed on gave this negative result.
    MakeSyscallError(i32),
}

impl fmt::Display for GrateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CoordinationError(why) => f.write_str(why),
            Self::HandlerRegistrationError(code) => write!(f, "cannot register a handler ({code})"),
            Self::CopyDataError(code) => write!(f, "cannot copy between cages ({code})"),
            Self::CopyHandlerError(code) => write!(f, "cannot copy a handler table ({code})"),
            Self::MakeSyscallError(code) => write!(f, "a system call failed ({code})"),
        }
    }
}

impl std::error::Error for GrateError {}

/// A handler as the runtime calls it: the grate's own id, then six arguments, each with the cage
/// that it belongs to. The result is what the calling cage gets, errors as negated errno.
#[allow(clippy::type_complexity)]
pub type SyscallHandler =
    extern "C" fn(u64, u64, u64, u64, u64, u64, u64, u64, u64, u64, u64, u64, u64) -> i32;

const REGISTER_HANDLER: u32 = 1001;
const COPY_DATA: u32 = 1002;
const COPY_HANDLER_TABLE: u32 = 1003;
const NONE: Arg = Arg {
    value: UNUSED,
    cage: UNUSED,
};

/// The id of the grate itself.
pub fn getcageid() -> u64 {
    sys::own_id()
}

fn own_call(nr: u32, first: &[Arg]) -> i32 {
    let mut args = [NONE; 6];
    for (slot, arg) in args.iter_mut().zip(first) {
        *slot = *arg;
    }
    let own = sys::own_id();
    // SAFETY: the calls made here take no address that the callers below do not vouch for.
    unsafe { sys::call_3i(nr, own, own, &args) }
}

/// Lets `handler` of `grate` serve the call `nr` of `cage`. What was registered for it before is
/// replaced, whoever did so.
///
/// # Errors
/// [`GrateError::HandlerRegistrationError`]: a cage is gone, or not the caller's.
pub fn register_handler(
    cage: u64,
    nr: u64,
    grate: u64,
    handler: SyscallHandler,
) -> Result<(), GrateError> {
    let index = handler as usize as u64;
    let result = own_call(
        REGISTER_HANDLER,
        &[
            Arg {
                value: cage,
                cage: nr,
            },
            Arg {
                value: UNUSED,
                cage: grate,
            },
            Arg {
                value: index,
                cage: UNUSED,
            },
        ],
    );
    match result {
        0 => Ok(()),
        code => Err(GrateError::HandlerRegistrationError(code)),
    }
}

/// Copies `len` bytes (type 0), or a string of at most `len` with its NUL (type 1), from an
/// address of one cage to an address of another. Offsets of the grate's own memory are passed as
/// they are, with its own id. `this` and `target` are not used, as in Lind's library.
///
/// # Errors
/// [`GrateError::CopyDataError`]: an address is not that cage's, or there is no NUL in reach.
#[allow(clippy::too_many_arguments)]
pub fn copy_data_between_cages(
    _this: u64,
    _target: u64,
    from: u64,
    from_cage: u64,
    to: u64,
    to_cage: u64,
    len: u64,
    kind: u64,
) -> Result<(), GrateError> {
    let own = sys::own_id();
    let place = |address: u64, cage: u64| Arg {
        value: if cage == own {
            address + sys::base()
        } else {
            address
        },
        cage,
    };
    let result = own_call(
        COPY_DATA,
        &[
            place(from, from_cage),
            place(to, to_cage),
            Arg {
                value: len,
                cage: UNUSED,
            },
            Arg {
                value: kind,
                cage: UNUSED,
            },
        ],
    );
    if result == ELINDAPIABORTED as u32 as i32 || result == ELINDESRCH as u32 as i32 {
        Err(GrateError::CopyDataError(result))
    } else {
        Ok(())
    }
}

/// Gives `target` the handler table of `source`.
///
/// # Errors
/// [`GrateError::CopyHandlerError`]: a cage is gone, or not the caller's, or would lose handlers
/// that are not the caller's to take.
pub fn copy_handler_table_to_cage(source: u64, target: u64) -> Result<(), GrateError> {
    match own_call(
        COPY_HANDLER_TABLE,
        &[Arg {
            value: source,
            cage: target,
        }],
    ) {
        0 => Ok(()),
        code => Err(GrateError::CopyHandlerError(code)),
    }
}

/// Makes a call on behalf of `target`: `own` is the grate's id, arguments come with their cages. A
/// cage id with bit 63 set ([`GRATE_MEMORY_FLAG`]) marks an offset of the grate's own memory. The
/// name and `translate` are not used: results are always raw.
///
/// # Errors
/// [`GrateError::MakeSyscallError`] with any negative result.
#[allow(clippy::too_many_arguments)]
pub fn make_threei_call(
    nr: u32,
    _name: u64,
    own: u64,
    target: u64,
    a1: u64,
    a1cage: u64,
    a2: u64,
    a2cage: u64,
    a3: u64,
    a3cage: u64,
    a4: u64,
    a4cage: u64,
    a5: u64,
    a5cage: u64,
    a6: u64,
    a6cage: u64,
    _translate: c_int,
) -> Result<i32, GrateError> {
    let place = |value: u64, cage: u64| {
        let id = cage & !GRATE_MEMORY_FLAG;
        let ours = cage != id && id == sys::own_id();
        Arg {
            value: if ours { value + sys::base() } else { value },
            cage: id,
        }
    };
    let args = [
        place(a1, a1cage),
        place(a2, a2cage),
        place(a3, a3cage),
        place(a4, a4cage),
        place(a5, a5cage),
        place(a6, a6cage),
    ];
    // SAFETY: addresses in the grate's own memory are the caller's to vouch for, as with Lind's
    // function of this name.
    match unsafe { sys::call_3i(nr, own, target, &args) } {
        result if result < 0 => Err(GrateError::MakeSyscallError(result)),
        result => Ok(result),
    }
}

/// Whether a `clone` makes a thread, going by the flags in its `clone_args`.
pub fn is_thread_clone(clone_args: u64, cage: u64) -> bool {
    const CLONE_THREAD: u64 = 0x10000;
    let mut flags = 0u64;
    let own = sys::own_id();
    let to = (&raw mut flags).addr() as u64;
    copy_data_between_cages(own, cage, clone_args, cage, to, own, 8, 0).is_ok()
        && flags & CLONE_THREAD != 0
}

/// An object in memory that children made by fork share.
///
/// # Safety
/// `T` must be valid when all its bytes are zero.
///
/// # Panics
/// When the cage has no address space left.
pub unsafe fn mmap_shared<T>() -> &'static mut T {
    let address = crate::ffi::mmap(
        core::ptr::null_mut(),
        size_of::<T>(),
        crate::constants::mman::PROT_READ | crate::constants::mman::PROT_WRITE,
        crate::constants::mman::MAP_SHARED | crate::constants::mman::MAP_ANONYMOUS,
        -1,
        0,
    );
    assert!(address.addr() as i32 != -1, "no room for shared memory");
    // SAFETY: a fresh mapping of zeros, large enough and page aligned, never unmapped.
    unsafe { &mut *address.cast() }
}
