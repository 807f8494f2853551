//! Clocks, sleeping and random bytes.

use super::{Call, Entry};
use crate::regions::Prot;
use rustix::io::Errno;

pub(super) const CALLS: &[Entry] = &[
    Entry::new(35, clock_nanosleep),
    Entry::new(228, clock_gettime),
    Entry::new(229, clock_getres),
    Entry::new(318, getrandom),
];

/// A `struct timespec` in kernel form: two i64.
pub(super) fn timespec(bytes: [u8; 16]) -> libc::timespec {
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        i64::from_le_bytes(word)
    };
    libc::timespec {
        tv_sec: word(0),
        tv_nsec: word(8),
    }
}

fn timespec_bytes(time: &libc::timespec) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&time.tv_sec.to_le_bytes());
    bytes[8..].copy_from_slice(&time.tv_nsec.to_le_bytes());
    bytes
}

pub(super) fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

fn clock_gettime(call: &Call<'_>) -> Result<i32, Errno> {
    let mut time = timespec([0; 16]);
    // SAFETY: `time` is a valid place for a timespec; any clock id is allowed.
    if unsafe { libc::clock_gettime(call.int(0), &mut time) } != 0 {
        return Err(last_error());
    }
    call.put(1, &timespec_bytes(&time))?;
    Ok(0)
}

fn clock_getres(call: &Call<'_>) -> Result<i32, Errno> {
    let mut time = timespec([0; 16]);
    // SAFETY: as in `clock_gettime`.
    if unsafe { libc::clock_getres(call.int(0), &mut time) } != 0 {
        return Err(last_error());
    }
    if call.raw(1) != 0 {
        call.put(1, &timespec_bytes(&time))?;
    }
    Ok(0)
}

/// Number 35 has the shape of clock_nanosleep here, as on Lind.
fn clock_nanosleep(call: &Call<'_>) -> Result<i32, Errno> {
    let request = timespec(call.get(2)?);
    let mut left = timespec([0; 16]);
    // SAFETY: both point at timespecs of this frame.
    let code = unsafe { libc::clock_nanosleep(call.int(0), call.int(1), &request, &mut left) };
    match code {
        0 => Ok(0),
        libc::EINTR => {
            if call.raw(3) != 0 {
                call.put(3, &timespec_bytes(&left))?;
            }
            Err(Errno::INTR)
        }
        code => Err(Errno::from_raw_os_error(code)),
    }
}

fn getrandom(call: &Call<'_>) -> Result<i32, Errno> {
    const KNOWN_FLAGS: u32 = 7;
    if call.uint(2) & !KNOWN_FLAGS != 0 {
        return Err(Errno::INVAL);
    }
    let len = call.raw(1).min(1 << 20);
    let image = call.image_of(0)?;
    let span = image.memory.prefix(call.raw(0), len, Prot::WRITE)?;
    let mut bytes = vec![0; span.len()];
    getrandom::fill(&mut bytes).map_err(|_| Errno::IO)?;
    image.memory.write(call.raw(0), &bytes)?;
    Ok(bytes.len() as i32)
}
