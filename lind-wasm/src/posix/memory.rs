//! mmap and its kin, on the cage's own 32-bit address space.

use super::{Call, Entry};
use crate::cage::WaitStatus;
use crate::image::Image;
use crate::regions::{Backing, PAGE, Prot, SPACE_END};
use rustix::io::Errno;

pub(super) const CALLS: &[Entry] = &[
    Entry::new(9, mmap),
    Entry::new(10, mprotect),
    Entry::new(11, munmap),
    Entry::new(12, brk),
];

const MAP_SHARED: u32 = 1;
const MAP_PRIVATE: u32 = 2;
const MAP_SHARED_VALIDATE: u32 = 3;
const MAP_FIXED: u32 = 0x10;
const MAP_ANONYMOUS: u32 = 0x20;
const MAP_FIXED_NOREPLACE: u32 = 0x10_0000;

fn prot(bits: u32) -> Result<Prot, Errno> {
    const EXEC: u32 = 4;
    if bits & !(7 | 0x0300_0000) != 0 {
        return Err(Errno::INVAL);
    }
    // Data can't become code in a cage, whatever its page says.
    if bits & EXEC != 0 {
        return Err(Errno::ACCESS);
    }
    let mut prot = Prot::from_bits_truncate(bits);
    if prot.contains(Prot::WRITE) {
        prot |= Prot::READ; // The processor has no write-only pages.
    }
    Ok(prot)
}

/// Ends a cage whose memory is no more what it asked for.
pub(super) fn settle<T>(
    call: &Call<'_>,
    image: &Image,
    result: Result<T, Errno>,
) -> Result<T, Errno> {
    if image.memory.is_lost() {
        call.rt.complain(format_args!(
            "cage {}: the host could not change its memory as asked; it is ended",
            call.target.id
        ));
        call.rt.kill(call.target, WaitStatus::killed(libc::SIGKILL));
    }
    result
}

/// Address and result are guest offsets, without the base (see lind-get-memory-base).
fn mmap(call: &Call<'_>) -> Result<i32, Errno> {
    let (addr, len, flags) = (call.raw(0), call.raw(1), call.uint(3));
    let image = call.target_image()?;
    let prot = prot(call.uint(2))?;
    if len == 0 {
        return Err(Errno::INVAL);
    }
    if len > SPACE_END {
        return Err(Errno::NOMEM);
    }
    let shared = match flags & 0xf {
        MAP_PRIVATE => false,
        MAP_SHARED | MAP_SHARED_VALIDATE => true,
        _ => return Err(Errno::INVAL),
    };
    let fixed = (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) != 0).then_some(addr);
    if flags & MAP_FIXED_NOREPLACE != 0 {
        return Err(Errno::OPNOTSUPP);
    }
    if flags & MAP_ANONYMOUS != 0 {
        let backing = if shared {
            let len = len.next_multiple_of(PAGE);
            let pages = call.rt.shared.allocate(&call.target.account, len)?;
            Backing::Shared(pages, 0)
        } else {
            Backing::Private
        };
        let mapped = image.memory.map(fixed, len, prot, backing);
        return Ok(settle(call, &image, mapped)? as i32);
    }
    let file = call.target_file(4)?;
    let offset = call.offset(5);
    if offset < 0 || !(offset as u64).is_multiple_of(PAGE) {
        return Err(Errno::INVAL);
    }
    super::io::check_mappable(&file)?;
    if shared && prot.contains(Prot::WRITE) {
        return Err(Errno::NODEV);
    }
    // The file's bytes are read once, which POSIX allows of a private mapping: a file that shrinks
    // later can't take the process down with SIGBUS.
    let mapped = image
        .memory
        .map(fixed, len, Prot::READ | Prot::WRITE, Backing::Private);
    let start = settle(call, &image, mapped)?;
    let at = image.memory.base() + start;
    if let Err(errno) = super::io::fill_from_file(&file, &image.memory, at, len, offset as u64) {
        settle(call, &image, image.memory.unmap(start, len))?;
        return Err(errno);
    }
    settle(call, &image, image.memory.protect(start, len, prot))?;
    Ok(start as i32)
}

/// The offset of an address argument, which carries the base.
fn offset(call: &Call<'_>, base: u64) -> Result<u64, Errno> {
    call.raw(0).checked_sub(base).ok_or(Errno::INVAL)
}

fn mprotect(call: &Call<'_>) -> Result<i32, Errno> {
    let image = call.target_image()?;
    let start = offset(call, image.memory.base())?;
    let protected = image
        .memory
        .protect(start, call.raw(1), prot(call.uint(2))?);
    settle(call, &image, protected)?;
    Ok(0)
}

fn munmap(call: &Call<'_>) -> Result<i32, Errno> {
    let image = call.target_image()?;
    let start = offset(call, image.memory.base())?;
    settle(call, &image, image.memory.unmap(start, call.raw(1)))?;
    Ok(0)
}

/// Address and result are guest offsets. An address out of range changes nothing, as on Linux.
fn brk(call: &Call<'_>) -> Result<i32, Errno> {
    let image = call.target_image()?;
    // As an int: Lind's libc asks for the current break with 0.
    let moved = image.memory.brk(u64::from(call.uint(0)));
    Ok(settle(call, &image, moved)? as i32)
}
