//! Records: what a stream is cut into after the handshake.

use core::ops::Range;

use super::Error;
use super::aead::{AeadError, MessageAead, MessageCipher, MessageKey, REKEY_NUMBER, Run};
use super::queue::Queue;
use crate::TAG_LEN;

/// Bytes of plaintext in a record, at most.
///
/// Large enough that tag and header are a thousandth of it, small enough that the one record a
/// receiver must hold before any of it may be used takes little memory and time.
pub const MAX_RECORD_PLAINTEXT: usize = 16 * 1024;

/// Bytes of the header of a record: the length of what follows.
pub const HEADER_LEN: usize = 2;

/// Bytes a record takes on the wire beyond its plaintext.
pub const OVERHEAD: usize = HEADER_LEN + TAG_LEN;

/// Bytes of a record on the wire, at most.
pub const MAX_RECORD_LEN: usize = MAX_RECORD_PLAINTEXT + OVERHEAD;

/// Records sealed under one key of one direction. Then the next key follows from it by a one-way
/// function, so that a key that leaks does not open what was sent before: a gibibyte of full
/// records at most.
pub const REKEY_INTERVAL: u64 = 1 << 16;

/// One direction of a connection: its key and the number of the next record.
#[derive(Debug)]
pub struct Direction {
    key: MessageKey,
    next: u64,
}

impl Direction {
    pub fn new(key: MessageKey) -> Self {
        Self { key, next: 0 }
    }

    pub fn cipher(&self) -> MessageCipher {
        self.key.cipher()
    }

    /// How many records may be in one run: those up to the next change of key.
    pub fn run_limit(&self) -> usize {
        (REKEY_INTERVAL - self.next % REKEY_INTERVAL) as usize
    }

    fn run(&self) -> Run {
        Run::new(self.next, HEADER_LEN, MAX_RECORD_PLAINTEXT)
    }

    /// The number after the next `count` records, if there are so many left. The last number of
    /// all is the rekeying function's.
    fn after(&self, count: usize) -> Result<u64, Error> {
        self.next
            .checked_add(count as u64)
            .filter(|&after| after < REKEY_NUMBER)
            .ok_or(Error::Exhausted)
    }

    /// Counts records, of which the numbers are now used.
    fn advance(&mut self, after: u64) {
        if self.next / REKEY_INTERVAL != after / REKEY_INTERVAL {
            self.key = self.key.next();
        }
        self.next = after;
    }

    /// Seals `len` bytes of plaintext as records at the end of `out`: full ones and a last that has the
    /// rest. None are one empty record. `seal` is given a key, which messages, where in the plaintext
    /// they begin and end, and where they go, with their headers there already; where it fails, the records
    /// before stay.
    pub fn seal_by(
        &mut self,
        len: usize,
        out: &mut Queue,
        mut seal: impl FnMut(&MessageKey, Run, Range<usize>, &mut [u8]) -> Result<(), AeadError>,
    ) -> Result<(), Error> {
        let mut start = 0_usize;
        loop {
            let most = self.run_limit().saturating_mul(MAX_RECORD_PLAINTEXT);
            let end = len.min(start.saturating_add(most));
            let run = self.run();
            let after = self.after(run.count(end - start))?;
            let sealed_len = run.sealed_len(end - start);
            let records = out.extend_zeroed(sealed_len);
            for record in records.chunks_mut(MAX_RECORD_LEN) {
                let sealed_len = (record.len() - HEADER_LEN) as u16;
                record[..HEADER_LEN].copy_from_slice(&sealed_len.to_le_bytes());
            }
            if seal(&self.key, run, start..end, records).is_err() {
                out.retract(sealed_len);
                return Err(Error::Aead);
            }
            self.advance(after);
            start = end;
            if start == len {
                return Ok(());
            }
        }
    }

    /// As [`Self::seal_by`], of plaintext that is at hand.
    pub fn seal(
        &mut self,
        aead: &impl MessageAead,
        plaintext: &[u8],
        out: &mut Queue,
    ) -> Result<(), Error> {
        self.seal_by(plaintext.len(), out, |key, run, range, records| {
            aead.seal(key, run, &plaintext[range], records)
        })
    }

    /// Has a run of records opened, by what is given a key, which messages, and their bytes.
    pub fn open_by(
        &mut self,
        records: RecordRun<'_>,
        open: impl FnOnce(&MessageKey, Run, &[u8]) -> Result<(), AeadError>,
    ) -> Result<(), Error> {
        let after = self.after(records.count)?;
        open(&self.key, self.run(), records.bytes)
            .map_err(|_| Error::RecordCorrupt { index: self.next })?;
        self.advance(after);
        Ok(())
    }

    /// Opens a run of records at the end of `out`. On failure nothing is added there.
    pub fn open(
        &mut self,
        aead: &impl MessageAead,
        records: RecordRun<'_>,
        out: &mut Queue,
    ) -> Result<(), Error> {
        let plaintext_len = records.plaintext_len();
        self.open_by(records, |key, run, sealed| {
            let opened = aead.open(key, run, sealed, out.extend_zeroed(plaintext_len));
            if opened.is_err() {
                out.retract(plaintext_len);
            }
            opened
        })
    }
}

/// Whole records as they lie on the wire, all but the last of them full. Not yet authentic.
#[derive(Clone, Copy, Debug)]
pub struct RecordRun<'a> {
    bytes: &'a [u8],
    count: usize,
}

impl<'a> RecordRun<'a> {
    /// Takes the whole records at the front of `wire`, `most` of them at the most (at least one),
    /// or none if not even one is whole. A record with an impossible length is an error once it
    /// is the first.
    pub fn split_off(wire: &mut &'a [u8], most: usize) -> Result<Option<Self>, Error> {
        let mut len = 0;
        let mut count = 0;
        while count < most {
            let record_len = match record_len(&wire[len..]) {
                Ok(Some(record_len)) if wire.len() - len >= record_len => record_len,
                Err(error) if count == 0 => return Err(error),
                _ => break,
            };
            // An empty record means something of its own and is never part of a run.
            if record_len == OVERHEAD && count > 0 {
                break;
            }
            len += record_len;
            count += 1;
            if record_len < MAX_RECORD_LEN {
                break;
            }
        }
        let (bytes, rest) = wire.split_at(len);
        *wire = rest;
        Ok((count > 0).then_some(Self { bytes, count }))
    }

    pub fn count(&self) -> usize {
        self.count
    }

    pub fn plaintext_len(&self) -> usize {
        self.bytes.len() - self.count * OVERHEAD
    }

    /// The first record alone, and the others if there are any.
    pub fn split_first(self) -> (Self, Option<Self>) {
        let (first, rest) = self.bytes.split_at(self.bytes.len().min(MAX_RECORD_LEN));
        let others = Self {
            bytes: rest,
            count: self.count - 1,
        };
        let first = Self {
            bytes: first,
            count: 1,
        };
        (first, (others.count > 0).then_some(others))
    }
}

/// Bytes of the record at the front of `wire`, header included, once its header is there.
pub fn record_len(wire: &[u8]) -> Result<Option<usize>, Error> {
    let Some(header) = wire.first_chunk() else {
        return Ok(None);
    };
    let sealed_len = u16::from_le_bytes(*header);
    let record_len = HEADER_LEN + usize::from(sealed_len);
    if (OVERHEAD..=MAX_RECORD_LEN).contains(&record_len) {
        Ok(Some(record_len))
    } else {
        Err(Error::RecordLength(sealed_len))
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use zeroize::Zeroizing;

    use super::*;
    use crate::wire::aead::{MessageCipher, Software};

    fn direction(next: u64) -> Direction {
        direction_with(MessageCipher::ChaCha20Poly1305, next)
    }

    fn direction_with(cipher: MessageCipher, next: u64) -> Direction {
        Direction {
            next,
            ..Direction::new(MessageKey::new(cipher, Zeroizing::new([3; 32])))
        }
    }

    fn sealed(plaintext: &[u8]) -> Vec<u8> {
        let mut out = Queue::public();
        direction(0).seal(&Software, plaintext, &mut out).unwrap();
        out.as_slice().to_vec()
    }

    fn opened(mut wire: &[u8], most: usize) -> Vec<u8> {
        let mut receiving = direction(0);
        let mut out = Queue::secret();
        while let Some(run) = RecordRun::split_off(&mut wire, most).unwrap() {
            receiving.open(&Software, run, &mut out).unwrap();
        }
        assert!(wire.is_empty());
        out.as_slice().to_vec()
    }

    #[test]
    fn lengths_that_no_record_has() {
        for (sealed_len, known) in [
            (0, false),
            (15, false),
            (16, true),
            (16 + 16384, true),
            (16 + 16385, false),
            (u16::MAX, false),
        ] {
            let wire = sealed_len.to_le_bytes();
            let expected = if known {
                Ok(Some(2 + usize::from(sealed_len)))
            } else {
                Err(Error::RecordLength(sealed_len))
            };
            assert_eq!(record_len(&wire), expected);
            assert_eq!(record_len(&wire[..1]), Ok(None));
        }
    }

    #[test]
    fn a_run_ends_with_the_first_record_that_is_not_full() {
        let full = MAX_RECORD_PLAINTEXT;
        let wire = [
            sealed(&alloc::vec![1; 2 * full + 5]),
            sealed(&alloc::vec![1; full]),
            sealed(&[]),
            sealed(b"x"),
        ]
        .concat();
        let runs = |most| {
            let mut rest = &wire[..wire.len() - 1];
            let mut runs = Vec::new();
            while let Some(run) = RecordRun::split_off(&mut rest, most).unwrap() {
                runs.push((run.count(), run.plaintext_len()));
            }
            assert_eq!(rest.len(), OVERHEAD, "the last record is not whole");
            runs
        };
        assert_eq!(runs(9), [(3, 2 * full + 5), (1, full), (1, 0)]);
        assert_eq!(runs(2), [(2, 2 * full), (1, 5), (1, full), (1, 0)]);
    }

    #[test]
    fn any_length_in_any_runs() {
        for len in [
            0,
            1,
            MAX_RECORD_PLAINTEXT - 1,
            MAX_RECORD_PLAINTEXT,
            MAX_RECORD_PLAINTEXT + 1,
            3 * MAX_RECORD_PLAINTEXT,
        ] {
            let plaintext: Vec<u8> = (0..len).map(|i| (i ^ (i >> 8)) as u8).collect();
            let wire = sealed(&plaintext);
            for most in [1, 2, 9] {
                assert_eq!(opened(&wire, most), plaintext);
            }
        }
    }

    /// A run across a change of key is what its records one by one are.
    #[test]
    fn a_run_stops_at_a_change_of_key() {
        for cipher in MessageCipher::ALL {
            let plaintext = alloc::vec![7; 4 * MAX_RECORD_PLAINTEXT];
            let start = REKEY_INTERVAL - 2;
            let (mut together, mut apart) = (Queue::public(), Queue::public());
            direction_with(cipher, start)
                .seal(&Software, &plaintext, &mut together)
                .unwrap();
            let mut sending = direction_with(cipher, start);
            for piece in plaintext.chunks(MAX_RECORD_PLAINTEXT) {
                sending.seal(&Software, piece, &mut apart).unwrap();
            }
            assert_eq!(together.as_slice(), apart.as_slice());

            let mut receiving = direction_with(cipher, start);
            assert_eq!(receiving.run_limit(), 2);
            let mut wire = together.as_slice();
            let mut out = Queue::secret();
            while let Some(run) = RecordRun::split_off(&mut wire, receiving.run_limit()).unwrap() {
                receiving.open(&Software, run, &mut out).unwrap();
            }
            assert_eq!(out.as_slice(), plaintext);
            assert_ne!(receiving.key.expose_secret(), &[3; 32]);
        }
    }

    /// Nothing of a run whose plaintext can't be had is sent, and its numbers are the next one's.
    #[test]
    fn what_could_not_be_sealed_leaves_no_gap() {
        let mut sending = direction(REKEY_INTERVAL - 1);
        let mut out = Queue::public();
        let mut runs = 0;
        let failed = sending.seal_by(
            2 * MAX_RECORD_PLAINTEXT,
            &mut out,
            |key, run, range, records| {
                runs += 1;
                let piece = alloc::vec![7; range.len()];
                match runs {
                    1 => Software.seal(key, run, &piece, records),
                    _ => Err(AeadError),
                }
            },
        );
        assert_eq!((failed, runs), (Err(Error::Aead), 2));
        assert_eq!(out.len(), MAX_RECORD_LEN);
        sending.seal(&Software, b"later", &mut out).unwrap();

        let mut receiving = direction(REKEY_INTERVAL - 1);
        let mut wire = out.as_slice();
        let mut read = Queue::secret();
        while let Some(run) = RecordRun::split_off(&mut wire, receiving.run_limit()).unwrap() {
            receiving.open(&Software, run, &mut read).unwrap();
        }
        let expected = [&[7; MAX_RECORD_PLAINTEXT][..], b"later"].concat();
        assert_eq!(read.as_slice(), expected);
    }

    #[test]
    fn the_last_number_is_never_used() {
        let mut sending = direction(u64::MAX - 2);
        let mut out = Queue::public();
        assert_eq!(sending.seal(&Software, b"x", &mut out), Ok(()));
        let sent = out.len();
        assert_eq!(
            sending.seal(&Software, b"x", &mut out),
            Err(Error::Exhausted)
        );
        assert_eq!(out.len(), sent);
    }
}
