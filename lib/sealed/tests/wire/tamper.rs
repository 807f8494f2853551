//! Whoever sits between can end a connection and nothing else.

use sealed::wire::aead::MessageAead;
use sealed::wire::{
    Error, INITIATOR_FLIGHT_LEN, Keys, MAX_RECORD_LEN, MAX_RECORD_PLAINTEXT, OVERHEAD,
};

use super::AEAD;
use super::support::{
    Between, Honest, Outcome, Program, carry, connected, initiator, key, keys, read_all, responder,
    run, sample, units,
};

const A_SENDS: [usize; 3] = [5, 30, 1];
const B_SENDS: [usize; 2] = [12, 3];

struct Ends {
    a: Program,
    b: Program,
    expected: [Vec<u8>; 2],
}

impl Ends {
    fn new() -> Self {
        let messages = |lens: &[usize], seed| -> Vec<Vec<u8>> {
            lens.iter().map(|&len| sample(len, seed)).collect()
        };
        let (a, b) = (messages(&A_SENDS, 1), messages(&B_SENDS, 2));
        Self {
            expected: [a.concat(), b.concat()],
            a: Program::new(initiator(&keys(), 1), &a),
            b: Program::new(responder(&keys(), 2), &b),
        }
    }

    fn run(mut self, between: &mut impl Between) -> Self {
        run(&mut self.a, &mut self.b, between);
        self
    }

    /// Nothing wrong was ever read, and the end that was tampered with says so.
    #[track_caller]
    fn assert_found_out(&self, direction: usize) -> Error {
        for (reader, expected) in [(&self.b, &self.expected[0]), (&self.a, &self.expected[1])] {
            assert!(expected.starts_with(&reader.received));
            if reader.outcome == Some(Outcome::End) {
                assert_eq!(&reader.received, expected);
            }
        }
        match [&self.b, &self.a][direction].outcome {
            Some(Outcome::Failed(error)) => error,
            outcome => panic!("{outcome:?}"),
        }
    }
}

fn honest() -> [Vec<u8>; 2] {
    let ends = Ends::new().run(&mut Honest);
    assert_eq!(ends.a.outcome, Some(Outcome::End));
    assert_eq!(ends.b.outcome, Some(Outcome::End));
    [ends.a.sent, ends.b.sent]
}

/// Alters one direction: the bytes at one offset are put through a function.
struct FlipBit {
    direction: usize,
    bit: usize,
    passed: [usize; 2],
}

impl Between for FlipBit {
    fn pass(&mut self, direction: usize, waiting: &mut Vec<u8>) -> Option<Vec<u8>> {
        let mut piece = std::mem::take(waiting);
        let at = self.bit / 8;
        if direction == self.direction
            && let Some(byte) = at
                .checked_sub(self.passed[direction])
                .and_then(|at| piece.get_mut(at))
        {
            *byte ^= 1 << (self.bit % 8);
        }
        self.passed[direction] += piece.len();
        Some(piece)
    }
}

#[test]
fn every_flipped_bit() {
    let honest = honest();
    for direction in [0, 1] {
        for bit in 0..8 * honest[direction].len() {
            let ends = Ends::new().run(&mut FlipBit {
                direction,
                bit,
                passed: [0; 2],
            });
            let error = ends.assert_found_out(direction);
            let expected = match bit / 8 {
                0..8 => error == Error::NotSealed,
                8 => matches!(error, Error::UnsupportedVersion(_)),
                9..INITIATOR_FLIGHT_LEN => error == Error::Handshake,
                _ => matches!(
                    error,
                    // A length made longer waits for bytes that do not come.
                    Error::RecordCorrupt { .. }
                        | Error::RecordLength(_)
                        | Error::Cut
                        | Error::HandshakeCut
                ),
            };
            assert!(expected, "bit {bit} of direction {direction}: {error:?}");
        }
    }
}

/// Ends one direction early.
struct CutAt {
    direction: usize,
    left: usize,
}

impl Between for CutAt {
    fn pass(&mut self, direction: usize, waiting: &mut Vec<u8>) -> Option<Vec<u8>> {
        let mut piece = std::mem::take(waiting);
        if direction == self.direction {
            piece.truncate(self.left);
            self.left -= piece.len();
        }
        Some(piece)
    }
}

#[test]
fn a_cut_at_every_byte() {
    let honest = honest();
    for direction in [0, 1] {
        let len = honest[direction].len();
        for left in 0..len {
            let ends = Ends::new().run(&mut CutAt { direction, left });
            let error = ends.assert_found_out(direction);
            // The responder's handshake is done with the initiator's first record.
            let handshake = [INITIATOR_FLIGHT_LEN + OVERHEAD, INITIATOR_FLIGHT_LEN][direction];
            if left < handshake {
                assert_eq!(error, Error::HandshakeCut);
            } else {
                assert_eq!(error, Error::Cut);
                // What was whole before the cut could be read.
                let whole = |len: &usize| len + OVERHEAD;
                let mut room = left - handshake;
                let lens = [&A_SENDS[..], &B_SENDS[..]][direction];
                let readable: usize = lens
                    .iter()
                    .take_while(|len| {
                        let fits = room >= whole(len);
                        room = room.saturating_sub(whole(len));
                        fits
                    })
                    .sum();
                assert_eq!([&ends.b, &ends.a][direction].received.len(), readable);
            }
        }
        let ends = Ends::new().run(&mut CutAt {
            direction,
            left: len,
        });
        assert_eq!(ends.a.outcome, Some(Outcome::End));
        assert_eq!(ends.b.outcome, Some(Outcome::End));
    }
}

/// Replays a captured direction, unit by unit, in an order of its own, to an end whose peer is the
/// very one that made it: same keys, same connection.
struct Reorder {
    direction: usize,
    /// Which units of the honest exchange to deliver, in which order.
    order: Vec<Vec<u8>>,
    delivered: bool,
}

impl Between for Reorder {
    fn pass(&mut self, direction: usize, waiting: &mut Vec<u8>) -> Option<Vec<u8>> {
        let piece = std::mem::take(waiting);
        if direction != self.direction {
            return Some(piece);
        }
        Some(if std::mem::replace(&mut self.delivered, true) {
            Vec::new()
        } else {
            self.order.concat()
        })
    }
}

/// Runs an exchange in which one direction is replaced as a whole.
fn replaced(direction: usize, order: Vec<Vec<u8>>) -> Ends {
    Ends::new().run(&mut Reorder {
        direction,
        order,
        delivered: false,
    })
}

fn honest_units(direction: usize) -> Vec<Vec<u8>> {
    units(&honest()[direction])
        .into_iter()
        .map(<[u8]>::to_vec)
        .collect()
}

#[test]
fn the_replacement_itself_changes_nothing() {
    for direction in [0, 1] {
        let ends = replaced(direction, honest_units(direction));
        assert_eq!(ends.a.outcome, Some(Outcome::End));
        assert_eq!(ends.b.outcome, Some(Outcome::End));
    }
}

#[test]
fn every_unit_dropped_repeated_or_truncated() {
    for direction in [0, 1] {
        let units = honest_units(direction);
        for i in 0..units.len() {
            let mut dropped = units.clone();
            dropped.remove(i);
            replaced(direction, dropped).assert_found_out(direction);

            for at in i..=units.len() {
                let mut repeated = units.clone();
                repeated.insert(at, units[i].clone());
                replaced(direction, repeated).assert_found_out(direction);
            }

            for len in 0..units[i].len() {
                let mut truncated = units.clone();
                truncated[i].truncate(len);
                replaced(direction, truncated).assert_found_out(direction);
            }
        }
    }
}

#[test]
fn every_pair_of_units_swapped() {
    for direction in [0, 1] {
        let units = honest_units(direction);
        for i in 0..units.len() {
            for j in i + 1..units.len() {
                let mut swapped = units.clone();
                swapped.swap(i, j);
                replaced(direction, swapped).assert_found_out(direction);
            }
        }
    }
}

#[test]
fn records_injected_everywhere() {
    let [from_a, from_b] = [0, 1].map(honest_units);
    let empty = |len: u16| [&len.to_le_bytes()[..], &vec![0; len.into()]].concat();
    for (direction, units, others) in [(0, &from_a, &from_b), (1, &from_b, &from_a)] {
        let foreign = others.iter().skip(1).cloned();
        let made_up = [empty(16), empty(17), empty(300), b"\xFF\xFF".to_vec()];
        for injected in foreign.chain(made_up) {
            for at in 0..=units.len() {
                let mut with = units.clone();
                with.insert(at, injected.clone());
                replaced(direction, with).assert_found_out(direction);
            }
        }
    }
}

#[test]
fn an_end_is_not_made_sooner() {
    for direction in [0, 1] {
        let units = honest_units(direction);
        for at in 1..units.len() - 1 {
            let mut early = units[..at].to_vec();
            early.push(units.last().unwrap().clone());
            replaced(direction, early).assert_found_out(direction);
        }
    }
}

#[test]
fn lengths_out_of_bounds_are_found_out_at_once() {
    for (len, possible) in [
        (0u16, false),
        (15, false),
        (16, true),
        (16400, true),
        (16401, false),
        (u16::MAX, false),
    ] {
        let (_, mut b) = connected();
        let outcome = b.read_wire(&len.to_le_bytes());
        if possible {
            assert_eq!(outcome, Ok(2));
        } else {
            assert_eq!(outcome, Err(Error::RecordLength(len)));
        }
    }
}

/// A recorded connection played to the same server again: it gets an answer it can do nothing
/// with, and the server's program sees not one byte.
#[test]
fn a_replayed_connection() {
    let recorded = &honest()[0];
    let mut b = responder(&keys(), 99);
    assert_eq!(
        b.read_wire(recorded),
        Err(Error::RecordCorrupt { index: 0 })
    );
    assert!(read_all(&mut b).is_empty());

    // The first flight alone leaves a handshake that never ends, for a time-out to end.
    let mut b = responder(&keys(), 99);
    b.read_wire(&recorded[..INITIATOR_FLIGHT_LEN]).unwrap();
    assert!(b.is_handshaking());
    assert_eq!(b.wire_eof(), Err(Error::HandshakeCut));

    // And a recorded answer is none to a new client.
    let mut a = initiator(&keys(), 99);
    assert_eq!(a.read_wire(&honest()[1]), Err(Error::Handshake));
}

#[test]
fn another_key() {
    let (mut a, mut b) = (initiator(&keys(), 1), responder(&Keys::from(key(2)), 2));
    assert_eq!(carry(&mut a, &mut b), Err(Error::Handshake));
    assert!(!b.wants_write());
    assert_eq!(a.wire_eof(), Err(Error::HandshakeCut));

    // A server with another key that answers all the same.
    let (mut a, mut other) = (initiator(&keys(), 1), initiator(&Keys::from(key(2)), 2));
    let mut b = responder(&Keys::from(key(2)), 3);
    carry(&mut other, &mut b).unwrap();
    assert_eq!(carry(&mut b, &mut a), Err(Error::Handshake));
}

/// One's own bytes sent back are nobody's.
#[test]
fn reflection() {
    let mut a = initiator(&keys(), 1);
    let flight = a.wire_output().to_vec();
    assert_eq!(a.read_wire(&flight), Err(Error::Handshake));

    let (mut a, _) = connected();
    a.write(b"echo", usize::MAX).unwrap();
    let record = a.wire_output().to_vec();
    assert_eq!(a.read_wire(&record), Err(Error::RecordCorrupt { index: 0 }));
}

#[test]
fn a_peer_in_the_clear_is_found_out_by_its_first_byte() {
    for (greeting, seen) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], 1),
        (b"SSH-2.0-OpenSSH_9.2\r\n", 1),
        (b"220 mail ESMTP\r\n", 1),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC", 1),
        (b"\xA7sealed\n", 3),
    ] {
        for mut end in [initiator(&keys(), 1), responder(&keys(), 2)] {
            for &byte in &greeting[..seen - 1] {
                assert_eq!(end.read_wire(&[byte]), Ok(1));
            }
            assert_eq!(
                end.read_wire(&greeting[seen - 1..seen]),
                Err(Error::NotSealed)
            );
        }
        let mut end = responder(&keys(), 2);
        assert_eq!(end.read_wire(greeting), Err(Error::NotSealed));
    }
    let mut end = responder(&keys(), 2);
    assert_eq!(
        end.read_wire(b"\xA7stream\n\x02"),
        Err(Error::UnsupportedVersion(2))
    );
}

#[test]
fn an_error_is_the_last() {
    let (mut a, mut b) = connected();
    a.write(b"good", usize::MAX).unwrap();
    carry(&mut a, &mut b).unwrap();
    b.write(b"never sent", usize::MAX).unwrap();
    a.write(b"bad", usize::MAX).unwrap();
    a.write(b"good again", usize::MAX).unwrap();
    let mut wire = a.wire_output().to_vec();
    wire[5] ^= 1;

    let error = Error::RecordCorrupt { index: 2 };
    assert_eq!(b.read_wire(&wire), Err(error));
    assert_eq!(b.error(), Some(error));
    assert_eq!(b.read_wire(&wire), Err(error));
    assert_eq!(b.wire_room(), 0);
    assert!(!b.wants_read() && !b.wants_write() && !b.is_handshaking());
    assert_eq!(b.write(b"x", usize::MAX), Err(error));
    assert_eq!(b.write_room(usize::MAX), 0);
    assert_eq!(b.close_write(), Err(error));
    assert_eq!(b.wire_eof(), Err(error));
    assert!(!b.is_write_finished());

    // What came before can be read, then the error shows, again and again.
    assert_eq!(b.plaintext_len(), 4);
    assert_eq!(read_all(&mut b), b"good");
    for _ in 0..2 {
        assert_eq!(b.read(&mut [0; 9]), Err(error));
    }
}

/// In one piece with good records before it: those can be read, whatever run they were in.
#[test]
fn all_before_the_first_bad_record_can_be_read() {
    let sent = sample(60_000, 9);
    for bad in 0..4 {
        let (mut a, mut b) = connected();
        a.write(&sent, usize::MAX).unwrap();
        let mut wire = a.wire_output().to_vec();
        let starts: Vec<usize> = units(&[&[0; INITIATOR_FLIGHT_LEN][..], &wire].concat())
            .iter()
            .skip(1)
            .scan(0, |at, unit| {
                let start = *at;
                *at += unit.len();
                Some(start)
            })
            .collect();
        assert_eq!(starts.len(), 4);
        wire[starts[bad] + 100] ^= 0x80;
        // The confirmation was record 0.
        let index = 1 + bad as u64;
        assert_eq!(b.read_wire(&wire), Err(Error::RecordCorrupt { index }));
        assert!(read_all(&mut b) == sent[..bad * 16384]);
    }
}

/// Where plaintext goes elsewhere, too: what was opened there before the bad record counts, and
/// nothing of it or behind it is written.
#[test]
fn nothing_that_is_not_authentic_goes_elsewhere() {
    let sent = sample(60_000, 9);
    for bad in 0..4 {
        for together in [true, false] {
            let (mut a, mut b) = connected();
            a.write(&sent, usize::MAX).unwrap();
            let mut wire = a.wire_output().to_vec();
            wire[bad * MAX_RECORD_LEN + 100] ^= 0x80;
            let mut there = vec![0xEE; sent.len()];
            let mut filled = 0;
            let mut error = None;
            let pieces = if together { wire.len() } else { MAX_RECORD_LEN };
            for piece in wire.chunks(pieces) {
                let room = there.len() - filled;
                let rest = &mut there[filled..];
                let (outcome, more) = b.read_wire_to(piece, room, |key, run, sealed, place| {
                    AEAD.open(key, run, sealed, &mut rest[place])
                });
                filled += more;
                if outcome.is_err() {
                    error = outcome.err();
                    break;
                }
            }
            let index = 1 + bad as u64;
            assert_eq!(error, Some(Error::RecordCorrupt { index }));
            let authentic = [&there[..filled], &read_all(&mut b)].concat();
            assert!(authentic == sent[..bad * MAX_RECORD_PLAINTEXT]);
            let behind = &there[bad * MAX_RECORD_PLAINTEXT..];
            assert!(behind.iter().all(|&byte| byte == 0xEE));
        }
    }
}

#[test]
fn bytes_after_the_end() {
    for extra in [&b"\0"[..], b"plain text"] {
        for together in [true, false] {
            let (mut a, mut b) = connected();
            a.write(b"all", usize::MAX).unwrap();
            a.close_write().unwrap();
            let mut wire = a.wire_output().to_vec();
            let outcome = if together {
                wire.extend_from_slice(extra);
                b.read_wire(&wire)
            } else {
                b.read_wire(&wire).unwrap();
                b.read_wire(extra)
            };
            assert_eq!(outcome, Err(Error::AfterEnd));
            assert_eq!(read_all(&mut b), b"all");
            assert_eq!(b.peek(), Err(Error::AfterEnd));
        }
    }
}
