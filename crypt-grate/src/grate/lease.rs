//! Leases on files, where the runtime has them: what was read of one is right for as long as it lasts.

use super::kernel::{self, value};
use cage_libc::sys;
use crypt_grate::storage::Lease;
use grate_rs::constants::error;
use grate_rs::{Arg, CageFd, Errno, GuestPtr, getcageid, own_buffer};
use std::sync::atomic::{AtomicBool, Ordering};

/// Our runtime's own.
const TAKE_LEASE: u64 = 1107;
const COPY_LEASED: u64 = 1108;

/// Whether there are such calls. They are for a grate that has none below it that serves reads.
static IS_SERVED: AtomicBool = AtomicBool::new(true);

/// A lease on the file behind a descriptor of a cage.
pub fn take(fd: CageFd) -> Option<Lease> {
    if sys::base() != 0 || fd.cage == getcageid() || !IS_SERVED.load(Ordering::Relaxed) {
        return None;
    }
    match kernel::call(TAKE_LEASE, fd.cage, &[fd.arg()]) {
        Ok(number) => u32::try_from(number)
            .ok()
            .filter(|number| *number > 0)
            .map(Lease),
        Err(Errno(error::ENOSYS)) => {
            IS_SERVED.store(false, Ordering::Relaxed);
            None
        }
        Err(_) => None,
    }
}

/// Copies bytes to a cage if the lease lasts. Answers whether it did.
///
/// # Errors
/// EFAULT.
pub fn write(lease: Lease, to: GuestPtr, bytes: &[u8]) -> Result<bool, Errno> {
    let own = getcageid();
    let args = [
        value(own, u64::from(lease.0)),
        own_buffer(bytes.as_ptr()),
        Arg {
            value: to.addr,
            cage: to.cage,
        },
        value(own, bytes.len() as u64),
    ];
    kernel::call(COPY_LEASED, own, &args).map(|lasts| lasts == 1)
}
