//! futex, on the memory of the cage that the address belongs to.

use super::time::timespec;
use super::{Call, Entry};
use crate::futex::{More, operate};
use rustix::io::Errno;

pub(super) const CALLS: &[Entry] = &[Entry::new(202, futex)];

/// futex: address, operation, number, timeout or second number, second address, third number.
fn futex(call: &Call<'_>) -> Result<i32, Errno> {
    const COMMAND: i32 = 0x7f;
    let image = call.image_of(0)?;
    let more = match call.int(1) & COMMAND {
        libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET if call.raw(3) != 0 => {
            More::Time(timespec(call.get(3)?))
        }
        libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET | libc::FUTEX_WAKE | libc::FUTEX_WAKE_BITSET => {
            More::Nothing
        }
        libc::FUTEX_REQUEUE | libc::FUTEX_CMP_REQUEUE => More::Word(call.raw(4), call.uint(3)),
        _ => return Err(Errno::NOSYS),
    };
    operate(
        &image.memory,
        call.raw(0),
        call.int(1),
        call.uint(2),
        &more,
        call.uint(5),
    )
}
