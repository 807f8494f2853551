//! lseek(2) where its result has 32 bits.

use crate::sys::{Errno, check};

const SEEK_SET: i32 = 0;
const SEEK_CUR: i32 = 1;
const SEEK_END: i32 = 2;
const EINVAL: Errno = Errno(22);
const EOVERFLOW: Errno = Errno(75);

/// Moves an offset and answers where it is then. `raw` moves it, and answers the place or, where
/// that has no room, EOVERFLOW once it is there. `tell` answers any place.
///
/// A grate that does not know that call keeps an offset of its own, which it does not tell: then it
/// is found by moving, and nobody else may move it meanwhile.
///
/// # Errors
/// As lseek(2).
pub fn told(
    raw: impl Fn(i64, i32) -> Result<i32, Errno>,
    tell: impl FnOnce() -> Result<u64, Errno>,
    offset: i64,
    whence: i32,
) -> Result<u64, Errno> {
    match raw(offset, whence) {
        Err(EOVERFLOW) if whence == SEEK_SET => return Ok(offset as u64),
        Err(EOVERFLOW) => {}
        other => return other.map(|place| place as u64),
    }
    let told = tell().ok().filter(|place| i32::try_from(*place).is_err());
    told.map_or_else(|| by_steps(raw), Ok)
}

/// Where the offset is, beyond 2 GiB.
fn by_steps(raw: impl Fn(i64, i32) -> Result<i32, Errno>) -> Result<u64, Errno> {
    let mut passed = 0i64;
    for power in (31..=62).rev() {
        let step = 1 << power;
        match raw(-step, SEEK_CUR) {
            Ok(low) => {
                let place = passed + step + i64::from(low);
                return match raw(place, SEEK_SET) {
                    Err(EOVERFLOW) => Ok(place as u64),
                    other => other.and(Err(EOVERFLOW)),
                };
            }
            Err(EOVERFLOW) => passed += step,
            // It stays where it is when it would go back beyond the start.
            Err(EINVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(EOVERFLOW)
}

/// As [`told`], where the result is cut, as on Lind. `raw` moves it and answers the low 32 bits of the
/// place, or a negated errno; `size` answers the size of the file.
///
/// Nobody else may move the offset meanwhile: a place beyond 4 GiB is found by moving.
///
/// # Errors
/// As lseek(2); EOVERFLOW for data and holes beyond 2 GiB.
pub fn wide(
    raw: impl Fn(i64, i32) -> i32,
    size: impl FnOnce() -> Result<u64, Errno>,
    offset: i64,
    whence: i32,
) -> Result<u64, Errno> {
    let start = match whence {
        SEEK_SET => 0,
        SEEK_CUR => place(&raw)?,
        SEEK_END => {
            // What has no offset says so before it says its size.
            place(&raw)?;
            size()?
        }
        // Data and holes: nothing else tells where they are.
        _ => return u64::try_from(check(raw(offset, whence))?).map_err(|_| EOVERFLOW),
    };
    if whence == SEEK_CUR && offset == 0 {
        return Ok(start);
    }
    let wanted = i64::try_from(start)
        .ok()
        .and_then(|start| start.checked_add(offset))
        .ok_or(EOVERFLOW)?;
    let place = u64::try_from(wanted).map_err(|_| EINVAL)?;
    match raw(wanted, SEEK_SET) {
        // The low half of a place can look like an error.
        low if low == wanted as i32 => Ok(place),
        low => check(low).and(Err(EOVERFLOW)),
    }
}

/// Where the offset is.
fn place(raw: &impl Fn(i64, i32) -> i32) -> Result<u64, Errno> {
    const TURN: i64 = 1 << 32;
    /// Far enough for a place that looks like an error to look like none.
    const ASIDE: i64 = 1 << 20;
    let mut low = raw(0, SEEK_CUR);
    let mut aside = 0;
    if check(low).is_err() {
        low = check(raw(ASIDE, SEEK_CUR))?;
        aside = ASIDE;
    }
    // It stays where it is when it would go back beyond the start.
    let goes_back = |by: i64| raw(-by, SEEK_CUR) == low;
    let mut turns = 0;
    if goes_back(TURN) {
        turns += 1;
        for power in (0..=30).rev() {
            if goes_back(TURN << power) {
                turns += 1 << power;
            }
        }
    }
    let place = turns * TURN + i64::from(low as u32) - aside;
    if turns != 0 || aside != 0 {
        raw(place, SEEK_SET);
    }
    Ok(place as u64)
}
