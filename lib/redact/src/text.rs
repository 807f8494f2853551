//! Text and binary: where a pattern that goes by looks alone may match.
//!
//! What makes a place binary lies before it, or at it, so that it does not depend on how the bytes
//! are cut into writes and nothing is held for it:
//!
//! - a NUL among the first [`HEAD`] bytes of the stream or file, as nearly all archives, databases,
//!   images and executables have it: from there on, all is binary;
//! - a NUL among the [`BESIDE`] bytes before;
//! - in the line, up to the place: bytes that are no UTF-8, or control characters that no text has.

use std::ops::Range;

use crate::automaton::Trails;
use crate::byteset::ByteSet;
use crate::scan::Hay;

/// Bytes of a stream or file that decide on all of it.
pub const HEAD: u64 = 4096;

/// Bytes before a match that are looked at.
pub(crate) const BESIDE: usize = 1024;

/// Bytes that no text has: control characters that neither move nor colour nor separate, and what
/// UTF-8 never uses.
const NEVER: ByteSet = {
    let mut set = ByteSet::of(b"\0\x02\x03\x04\x05\x06\x7f\xc0\xc1");
    let mut byte = 0x0e;
    while byte < 0x1b {
        set.insert(byte);
        byte += 1;
    }
    byte = 0xf5;
    while byte < 0xff {
        set.insert(byte);
        byte += 1;
    }
    set.insert(0xff);
    set
};

/// Where the first NUL is in the head of what these bytes are a part of, from `origin` on.
pub(crate) fn first_nul(origin: u64, bytes: &[u8]) -> Option<u64> {
    let mut head = bytes.iter().take(HEAD.saturating_sub(origin) as usize);
    head.position(|&byte| byte == 0)
        .map(|at| origin + at as u64)
}

/// The first byte that no text has.
pub(crate) fn first_binary(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|&byte| NEVER.contains(byte))
}

/// The last byte that no text has.
pub(crate) fn last_binary(bytes: &[u8]) -> Option<usize> {
    bytes.iter().rposition(|&byte| NEVER.contains(byte))
}

impl Hay<'_> {
    /// Whether a place is text, up to its end. What `place` begins with is asked together with its
    /// line so far.
    pub fn is_text(&self, place: Range<usize>) -> bool {
        let end = self.base + place.end as u64;
        if self.nul.is_some_and(|nul| nul < end) {
            return false;
        }
        let seen = place.start.saturating_sub(BESIDE);
        let before = &self.bytes[seen..place.start];
        if before.contains(&0) {
            return false;
        }
        let line = match before.iter().rposition(|&byte| byte == b'\n') {
            Some(end) => seen + end + 1,
            // A character of which the first bytes are not seen is given the benefit of the doubt.
            None if seen > 0 || self.base > 0 => {
                let rest = before.iter().take(3);
                seen + rest.take_while(|&&byte| byte & 0xc0 == 0x80).count()
            }
            None => seen,
        };
        let text = &self.bytes[line.min(place.end)..place.end];
        let is_utf8 = match std::str::from_utf8(text) {
            Ok(_) => true,
            // Cut within a character.
            Err(error) => error.error_len().is_none(),
        };
        is_utf8 && first_binary(text).is_none()
    }

    /// Whether an open candidate, looked at from `from` on, may still become text: `matched` is
    /// where that ends which counts of its match so far.
    pub fn may_be_text(
        &self,
        start: usize,
        from: usize,
        matched: Option<usize>,
        trails: &Trails,
    ) -> bool {
        if from <= start && !self.is_text(start..start) {
            return false;
        }
        let from = from.max(start);
        let last = |unseen: Range<usize>| last_binary(&self.bytes[unseen]);
        if trails.last_binary(self.bytes.len(), from, last).is_none() {
            return true;
        }
        // Behind the end of a match it is no part of it.
        match (first_binary(&self.bytes[from..]), matched) {
            (None, _) => true,
            (Some(at), Some(end)) => from + at >= end,
            (Some(_), None) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hay(bytes: &[u8]) -> Hay<'_> {
        let nul = bytes.iter().position(|&byte| byte == 0);
        Hay {
            bytes,
            ended: true,
            base: 0,
            nul: nul.map(|at| at as u64).filter(|&at| at < HEAD),
        }
    }

    #[test]
    fn what_lies_before_makes_a_place_binary() {
        let is_text = |before: &[u8]| {
            let text = [before, b"secret"].concat();
            hay(&text).is_text(before.len()..text.len())
        };
        assert!(is_text(b""));
        assert!(is_text("caf\u{e9}: \t\x1b[1m".as_bytes()));
        assert!(is_text(b"\xff\xfe\n"));
        assert!(!is_text(b"\xff "));
        assert!(!is_text(b"\xc3 "));
        assert!(!is_text(b"\x02"));
        assert!(!is_text(b"a\0b\n"));
        let text = vec![b'a'; HEAD as usize];
        let behind = |gap: usize| [&text[..], b"\0", &vec![b'\n'; gap]].concat();
        assert!(!is_text(&behind(BESIDE - 1)));
        assert!(is_text(&behind(BESIDE)));
        assert!(!is_text(&[b"a\0", &text[..], b"\n"].concat()));
        // A long line whose beginning is forgotten in the middle of a character.
        for gap in 0..4 {
            let mut long = "\u{20ac}".repeat(BESIDE).into_bytes();
            long.extend(vec![b' '; gap]);
            assert!(is_text(&long));
        }
    }

    #[test]
    fn what_a_candidate_holds_kills_it() {
        let text = b"ab\0cd";
        assert!(!hay(text).may_be_text(0, 0, None, &Trails::default()));
        assert!(!hay(text).may_be_text(0, 0, Some(3), &Trails::default()));
        assert!(hay(text).may_be_text(0, 0, Some(2), &Trails::default()));
        assert!(!hay(text).may_be_text(3, 3, None, &Trails::default()));
    }
}
