//! mmap of sealed files.

use super::kernel::{self, int, value};
use super::state;
use super::state::{OpenFile, State, lock};
use grate_rs::constants::{SYS_MPROTECT, SYS_MUNMAP, error, mman};
use grate_rs::{CageFd, Call, Errno, GuestPtr};

/// Bytes that are opened and copied at a time.
const PIECE: usize = 1 << 20;

const PAGE: i64 = 4096;

/// mmap: address, length, protection, flags, descriptor, offset. A private mapping of a sealed
/// file, and a shared one that is only read, is memory filled with the plaintext at that moment,
/// which POSIX leaves open for the one, and is what the runtime does for plain files too.
pub fn mmap(call: &Call) -> Result<i32, Errno> {
    let cage = call.cage_of(1);
    if call.int(3) & mman::MAP_ANONYMOUS != 0 {
        return call.forward(cage);
    }
    // The descriptor is looked up in the table of the cage that the call is made for.
    let fd = CageFd {
        cage,
        fd: call.int(4),
    };
    let (_held, Some(open)) = state().hold_file(fd)? else {
        return call.forward(cage);
    };
    if cage_libc::sys::base() != 0 {
        // Where a mapping lies in the grate's view of the cage is told by our own runtime alone.
        return Err(Errno(error::ENODEV));
    }
    let (protection, flags, offset) = (call.int(2), call.int(3), call.long(5));
    let shared = match flags & 0xf {
        mman::MAP_PRIVATE => false,
        mman::MAP_SHARED | mman::MAP_SHARED_VALIDATE => true,
        _ => return Err(Errno(error::EINVAL)),
    };
    if offset < 0 || offset % PAGE != 0 {
        return Err(Errno(error::EINVAL));
    }
    if !open.readable() {
        return Err(Errno(error::EACCES));
    }
    let writes = mman::PROT_READ | mman::PROT_WRITE;
    if shared && protection & mman::PROT_WRITE != 0 {
        // Stores into it could not be seen. A descriptor that may not write has no right to them.
        let refusal = if open.writable() {
            error::ENODEV
        } else {
            error::EACCES
        };
        return Err(Errno(refusal));
    }
    let mut args = call.args();
    args[2] = int(cage, writes);
    args[3] = int(
        cage,
        (flags & mman::MAP_FIXED) | mman::MAP_PRIVATE | mman::MAP_ANONYMOUS,
    );
    args[4] = int(cage, -1);
    args[5] = value(cage, 0);
    let start = call.forward_with(cage, &args)? as u32;
    let place = [value(cage, u64::from(start)), call.arg(1)];
    let filled = fill(state(), fd, &open, start, call.size(1), offset as u64).and_then(|()| {
        if protection != writes {
            let args = [place[0], place[1], int(cage, protection)];
            kernel::call(SYS_MPROTECT, cage, &args)?;
        }
        Ok(())
    });
    if let Err(errno) = filled {
        kernel::call(SYS_MUNMAP, cage, &place)?;
        return Err(errno);
    }
    Ok(start as i32)
}

/// Puts the plaintext from `offset` on into fresh memory of the cage, as far as the file goes.
fn fill(
    state: &State,
    fd: CageFd,
    open: &OpenFile,
    start: u32,
    len: u64,
    offset: u64,
) -> Result<(), Errno> {
    let mut windows = lock(&open.windows);
    let mut file = lock(&open.file);
    let mut buffer = vec![0; len.min(PIECE as u64) as usize];
    let mut done = 0;
    while done < len {
        let piece = (len - done).min(PIECE as u64) as usize;
        let read = file
            .read(
                &mut windows,
                &open.storage(fd),
                state.keys(),
                offset + done,
                &mut buffer[..piece],
            )
            .map_err(|error| state.errno_of(error, fd))?;
        let place = GuestPtr {
            addr: u64::from(start) + done,
            cage: fd.cage,
        };
        place.write(&buffer[..read])?;
        if read < piece {
            break;
        }
        done += read as u64;
    }
    Ok(())
}
