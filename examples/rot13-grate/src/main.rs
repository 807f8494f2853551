//! Turns the letters of what programs write into files by 13 places, and back when they read it: the
//! smallest transform of data. Terminals, pipes and sockets are left as they are.
//!
//! `lind-wasm rot13-grate.cwasm PROGRAM ARGS...`

use grate_rs::constants::{SYS_PREAD, SYS_PWRITE, SYS_READ, SYS_READV, SYS_WRITE, SYS_WRITEV};
use grate_rs::{CageFd, Call, Errno, GrateBuilder, GuestPtr, handler, kernel, own_buffer};

/// Most bytes that a call moves here: a program asks again for the rest, as of any short call.
const ROOM: u64 = 16384;

/// A letter is turned by 13 of 26 places: once more turns it back.
fn turn(bytes: &mut [u8]) {
    for byte in bytes {
        match byte.to_ascii_lowercase() {
            b'a'..=b'm' => *byte += 13,
            b'n'..=b'z' => *byte -= 13,
            _ => {}
        }
    }
}

/// Passes a call on with so many bytes of the grate's own in place of the program's.
fn with_own(call: &Call, nr: u64, bytes: *const u8, len: usize) -> Result<i32, Errno> {
    let mut args = call.args();
    args[1] = own_buffer(bytes);
    args[2].value = len as u64;
    kernel::call(nr, call.cage_of(0), &args)
}

/// The bytes are copied once, turned, and passed on from here.
fn written(call: &Call, nr: u64, (from, len): (GuestPtr, u64)) -> Result<i32, Errno> {
    let mut bytes = vec![0; len.min(ROOM) as usize];
    from.read_into(&mut bytes)?;
    turn(&mut bytes);
    with_own(call, nr, bytes.as_ptr(), bytes.len())
}

/// The other way round.
fn was_read(call: &Call, nr: u64, (to, len): (GuestPtr, u64)) -> Result<i32, Errno> {
    let mut bytes = vec![0; len.min(ROOM) as usize];
    let got = with_own(call, nr, bytes.as_mut_ptr(), bytes.len())?;
    let bytes = &mut bytes[..got as usize];
    turn(bytes);
    to.write(bytes)?;
    Ok(got)
}

/// A vector after the other, up to one that comes out short.
fn vectored(
    call: &Call,
    one: impl Fn((GuestPtr, u64)) -> Result<i32, Errno>,
) -> Result<i32, Errno> {
    let mut total = 0;
    for vector in call.place(1).read_iovecs(call.int(2))? {
        match one(vector) {
            Ok(moved) => {
                total += moved;
                if (moved as u64) < vector.1 {
                    break;
                }
            }
            Err(errno) if total == 0 => return Err(errno),
            Err(_) => break,
        }
    }
    Ok(total)
}

fn serve(call: &Call) -> Result<i32, Errno> {
    let file = CageFd {
        cage: call.cage_of(0),
        fd: call.int(0),
    };
    // What can't be asked goes on as it came.
    if !file.stat().is_ok_and(|stat| stat.is_regular()) {
        return call.forward(file.cage);
    }
    let place = (call.place(1), call.size(2));
    match u64::from(call.nr) {
        SYS_WRITEV => vectored(call, |place| written(call, SYS_WRITE, place)),
        SYS_READV => vectored(call, |place| was_read(call, SYS_READ, place)),
        nr @ (SYS_WRITE | SYS_PWRITE) => written(call, nr, place),
        nr => was_read(call, nr, place),
    }
}

handler!(read_handler, SYS_READ, serve);
handler!(write_handler, SYS_WRITE, serve);
handler!(pread_handler, SYS_PREAD, serve);
handler!(pwrite_handler, SYS_PWRITE, serve);
handler!(readv_handler, SYS_READV, serve);
handler!(writev_handler, SYS_WRITEV, serve);

fn main() {
    GrateBuilder::new()
        .changes_data()
        .register(SYS_READ, read_handler)
        .register(SYS_WRITE, write_handler)
        .register(SYS_PREAD, pread_handler)
        .register(SYS_PWRITE, pwrite_handler)
        .register(SYS_READV, readv_handler)
        .register(SYS_WRITEV, writev_handler)
        .run(std::env::args().skip(1).collect());
}
