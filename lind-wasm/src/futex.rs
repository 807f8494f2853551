//! Futexes: words of guest memory that threads sleep at until another wakes them.
//!
//! The kernel works on the host's address of the word. That is one for all instances of a cage,
//! and for a `MAP_SHARED` page one object wherever it is mapped: threads of several cages meet
//! there.

use crate::image::Image;
use crate::memory::GuestMemory;
use crate::regions::Prot;
use rustix::io::Errno;

/// What an operation has beside the word and the number.
#[derive(Debug)]
pub enum More {
    /// Nothing.
    Nothing,
    /// How long to sleep, or until when.
    Time(libc::timespec),
    /// The address of another word, and how many are moved to it.
    Word(u64, u32),
}

/// Carries out an operation of futex(2) at an address of a guest.
///
/// # Errors
/// `EINVAL` for an address that is not aligned, `EFAULT` for one that is not accessible, and as
/// the operation has them.
pub fn operate(
    memory: &GuestMemory,
    address: u64,
    operation: i32,
    value: u32,
    more: &More,
    third: u32,
) -> Result<i32, Errno> {
    let word = |address: u64| {
        if !address.is_multiple_of(4) {
            return Err(Errno::INVAL);
        }
        Ok(memory.exact(address, 4, Prot::READ)?.ptr())
    };
    let first = word(address)?;
    let (fourth, second) = match more {
        More::Nothing => (0, std::ptr::null_mut()),
        More::Time(time) => (std::ptr::from_ref(time) as usize, std::ptr::null_mut()),
        &More::Word(address, count) => (count as usize, word(address)?),
    };
    // SAFETY: `first` and `second` are aligned words of guest memory, which outlives the call as
    // `memory` does. The kernel alone looks at them, and answers EFAULT where they are unmapped
    // meanwhile. `fourth` is a timespec that `more` holds, or a number where the operation takes
    // one.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex,
            first,
            operation,
            value,
            fourth,
            second,
            third,
        )
    };
    if result < 0 {
        let error = std::io::Error::last_os_error();
        Err(Errno::from_io_error(&error).unwrap_or(Errno::IO))
    } else {
        Ok(result as i32)
    }
}

/// Clears the number of a thread that has ended, and wakes who waits for that, by a futex or by
/// `memory.atomic.wait`. Unless the number still stands there nothing is done: a libc that clears
/// it by itself, as Lind's does, may have other use for the place by now.
pub fn clear_number(image: &Image, address: u64, number: i32) {
    let memory = &image.memory;
    if memory.exchange_u32(address, number as u32, 0) == Ok(true) {
        let most = i32::MAX as u32;
        // Nobody is there to be told that nobody is woken.
        let _ = operate(memory, address, libc::FUTEX_WAKE, most, &More::Nothing, 0);
        image.parking.notify(address, most);
    }
}
