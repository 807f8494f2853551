//! Where record locks of programs lie below.
//!
//! The last byte that a file could have is the lock by which grates keep each other out (see
//! [`Storage::lock`](crate::storage::Storage::lock)). A program may lock that byte too, if only by
//! locking all of a file; and the program may itself be a grate of this kind. So the last few
//! offsets are moved down by one at each grate that a lock passes, and never meet.

/// `EINVAL` and `EOVERFLOW` of Linux.
const EINVAL: i32 = 22;
const EOVERFLOW: i32 = 75;

/// How many grates can lie one upon the other before their locks meet.
const DEPTH: i64 = 64;

/// From here on offsets are moved.
const MOVED: i64 = i64::MAX - DEPTH;

/// A range of offsets, both ends in it, as the kernel counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first offset.
    pub start: i64,
    /// The last one; `i64::MAX` for a range without an end.
    pub last: i64,
}

impl Range {
    /// The range that begins there and is so long; 0 means without an end.
    pub fn new(start: i64, len: i64) -> Self {
        Self {
            start,
            last: match len {
                0 => i64::MAX,
                len => start.saturating_add(len - 1),
            },
        }
    }

    /// Its length as fcntl(2) takes it.
    pub fn len(&self) -> i64 {
        match self.last {
            i64::MAX => 0,
            last => last - self.start + 1,
        }
    }

    /// Never: a range has at least one offset.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// What fcntl(2) makes of a start that counts from `base`, and a length, which may be negative.
///
/// # Errors
/// The error number: EINVAL for a range that begins before the file, EOVERFLOW for one that ends
/// beyond all files.
pub fn absolute(base: i64, start: i64, len: i64) -> Result<Range, i32> {
    let start = base.checked_add(start).ok_or(EOVERFLOW)?;
    if start < 0 {
        return Err(EINVAL);
    }
    let (start, last) = match len {
        0 => (start, i64::MAX),
        1.. => (start, start.checked_add(len - 1).ok_or(EOVERFLOW)?),
        _ => (start.checked_add(len).ok_or(EINVAL)?, start - 1),
    };
    if start < 0 {
        return Err(EINVAL);
    }
    Ok(Range { start, last })
}

/// The range below a grate.
pub fn lower(range: Range) -> Range {
    let lower = |offset: i64| if offset > MOVED { offset - 1 } else { offset };
    Range {
        start: lower(range.start),
        last: lower(range.last),
    }
}

/// The range above a grate that is that one below: the inverse of [`lower`].
pub fn raise(range: Range) -> Range {
    let raise = |offset: i64| {
        if offset >= MOVED {
            offset.saturating_add(1)
        } else {
            offset
        }
    };
    Range {
        start: raise(range.start),
        last: raise(range.last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_fcntl() {
        let range = |start, last| Ok(Range { start, last });
        assert_eq!(absolute(0, 5, 10), range(5, 14));
        assert_eq!(absolute(100, -5, 10), range(95, 104));
        assert_eq!(absolute(0, 5, 0), range(5, i64::MAX));
        assert_eq!(absolute(0, 10, -3), range(7, 9));
        assert_eq!(absolute(0, i64::MAX, 1), range(i64::MAX, i64::MAX));
        assert_eq!(absolute(0, i64::MAX, 2), Err(EOVERFLOW));
        assert_eq!(absolute(1, i64::MAX, 1), Err(EOVERFLOW));
        assert_eq!(absolute(0, -1, 1), Err(EINVAL));
        assert_eq!(absolute(0, 2, -3), Err(EINVAL));
        assert_eq!(absolute(0, i64::MIN, i64::MIN), Err(EINVAL));
    }

    #[test]
    fn the_last_byte_stays_free() {
        for (start, len) in [
            (0, 0),
            (i64::MAX, 1),
            (i64::MAX, 0),
            (5, 0),
            (i64::MAX - 1, 2),
        ] {
            let below = lower(Range::new(start, len));
            assert!(below.start <= below.last && below.last < i64::MAX);
        }
        let plain = Range::new(1 << 40, 100);
        assert_eq!(lower(plain), plain);
        assert_eq!(raise(lower(Range::new(7, 0))), Range::new(7, 0));
    }

    /// The lock of each grate in a stack ends up somewhere else.
    #[test]
    fn locks_of_stacked_grates_never_meet() {
        let mut seen = std::collections::BTreeSet::new();
        for above in 0..DEPTH {
            let own = Range::new(i64::MAX, 1);
            let below = (0..above).fold(own, |range, _| lower(range));
            assert!(seen.insert(below.start), "{above} grates below");
        }
    }
}
