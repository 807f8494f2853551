//! Bytes on their way through: put in at the end, taken from the front.

use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroize;

use super::record::MAX_RECORD_LEN;

/// A queue does not grow beyond this for the sake of what may come later.
const GROWTH_LIMIT: usize = 4 * MAX_RECORD_LEN;

/// A queue of bytes that takes no memory while it is empty, for most connections are idle most of
/// the time.
pub struct Queue {
    bytes: Vec<u8>,
    /// Bytes at the front that have been taken already.
    taken: usize,
    /// Whether what passes is secret, and hence wiped from memory.
    secret: bool,
}

impl Queue {
    /// A queue for bytes that anyone may see.
    pub fn public() -> Self {
        Self {
            bytes: Vec::new(),
            taken: 0,
            secret: false,
        }
    }

    /// A queue that wipes the memory it gives back.
    pub fn secret() -> Self {
        Self {
            bytes: Vec::new(),
            taken: 0,
            secret: true,
        }
    }

    /// What waits.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    pub fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts `len` zeros at the end, to be written over.
    pub fn extend_zeroed(&mut self, len: usize) -> &mut [u8] {
        self.make_room(len);
        let end = self.bytes.len();
        self.bytes.resize(end + len, 0);
        &mut self.bytes[end..]
    }

    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.make_room(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes back the last `len` bytes.
    pub fn retract(&mut self, len: usize) {
        let keep = self.bytes.len().saturating_sub(len).max(self.taken);
        self.truncate(keep);
        self.consume(0);
    }

    /// Takes `len` bytes off the front, or all there are.
    pub fn consume(&mut self, len: usize) {
        self.taken += len.min(self.len());
        if self.is_empty() {
            self.clear();
        }
    }

    /// Takes everything, and gives the memory back.
    pub fn clear(&mut self) {
        let old = core::mem::take(&mut self.bytes);
        self.taken = 0;
        self.dispose(old);
    }

    /// Makes room without leaving a copy behind, as the growth of a vector would.
    fn make_room(&mut self, additional: usize) {
        let len = self.len() + additional;
        if self.taken + len <= self.bytes.capacity() {
            return;
        }
        if len <= self.bytes.capacity() {
            self.bytes.copy_within(self.taken.., 0);
            self.truncate(self.len());
            self.taken = 0;
            return;
        }
        // Doubled, so that many small pieces are not moved for each of them.
        let mut larger = Vec::with_capacity(len.max(GROWTH_LIMIT.min(2 * self.len())));
        larger.extend_from_slice(self.as_slice());
        let old = core::mem::replace(&mut self.bytes, larger);
        self.taken = 0;
        self.dispose(old);
    }

    /// Leaves nothing behind in the capacity that is not in use: what is in use is all that
    /// [`dispose`](Self::dispose) wipes.
    fn truncate(&mut self, len: usize) {
        if self.secret {
            self.bytes[len..].zeroize();
        }
        self.bytes.truncate(len);
    }

    fn dispose(&self, mut old: Vec<u8>) {
        if self.secret {
            old.as_mut_slice().zeroize();
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.clear();
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_in_first_out() {
        let mut queue = Queue::secret();
        queue.extend_from_slice(b"abc");
        queue.consume(1);
        queue.extend_zeroed(2).copy_from_slice(b"de");
        assert_eq!(queue.as_slice(), b"bcde");
        queue.retract(1);
        assert_eq!(queue.as_slice(), b"bcd");
        queue.consume(2);
        queue.extend_from_slice(b"xyz");
        assert_eq!(queue.as_slice(), b"dxyz");
        queue.consume(usize::MAX);
        assert!(queue.is_empty());
    }

    /// Against a plain vector, over all ways to find room.
    #[test]
    fn any_sequence_of_pieces() {
        let mut queue = Queue::secret();
        let mut expected = Vec::new();
        for step in 0..2000usize {
            let piece = [step as u8; 50];
            let len = step * 7 % 50;
            queue.extend_from_slice(&piece[..len]);
            expected.extend_from_slice(&piece[..len]);
            let taken = (step * 11 % 45).min(expected.len());
            queue.consume(taken);
            expected.drain(..taken);
            assert_eq!(queue.as_slice(), expected);
        }
        assert!(expected.len() > 1000, "it grew");
    }

    #[test]
    fn small_pieces_are_not_moved_each_time() {
        let mut queue = Queue::public();
        let mut moved = 0;
        for _ in 0..10_000 {
            let capacity = queue.bytes.capacity();
            queue.extend_from_slice(b"small");
            moved += usize::from(queue.bytes.capacity() != capacity);
        }
        assert!(moved < 20);
    }

    #[test]
    fn empty_takes_no_memory() {
        for mut queue in [Queue::secret(), Queue::public()] {
            queue.extend_zeroed(1000);
            queue.consume(1000);
            assert_eq!(queue.bytes.capacity(), 0);
            queue.extend_zeroed(1000);
            queue.retract(1000);
            assert_eq!(queue.bytes.capacity(), 0);
        }
    }

    #[test]
    fn retracting_stops_at_what_was_taken() {
        let mut queue = Queue::public();
        queue.extend_from_slice(b"abc");
        queue.consume(2);
        queue.retract(3);
        assert!(queue.is_empty());
    }
}
