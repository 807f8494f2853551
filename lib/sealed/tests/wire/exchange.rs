//! Exchanges that nobody disturbs: whatever the transport does to the pieces, the programs see
//! the same.

use proptest::prelude::*;
use sealed::wire::aead::{AeadError, MessageAead};
use sealed::wire::{
    Connection, Error, INCOMING_LIMIT, INITIATOR_FLIGHT_LEN, Incoming, Keys, MAX_RECORD_LEN,
    MAX_RECORD_PLAINTEXT, OUTGOING_LIMIT, OVERHEAD, REKEY_INTERVAL, RESPONDER_FLIGHT_LEN,
};

use super::{AEAD, Aead};
use super::support::{
    Between, Honest, Outcome, Program, carry, connected, initiator, key, keys, read_all, responder,
    run, sample,
};

fn messages(lens: &[usize], seed: u8) -> Vec<Vec<u8>> {
    lens.iter().map(|&len| sample(len, seed)).collect()
}

/// Runs an exchange that must go well. Gives what each end sent on the wire.
fn exchange(a_sends: &[usize], b_sends: &[usize], between: &mut impl Between) -> [Vec<u8>; 2] {
    let (a_messages, b_messages) = (messages(a_sends, 1), messages(b_sends, 2));
    let mut a = Program::new(initiator(&keys(), 1), &a_messages);
    let mut b = Program::new(responder(&keys(), 2), &b_messages);
    run(&mut a, &mut b, between);
    for (end, expected) in [(&a, b_messages.concat()), (&b, a_messages.concat())] {
        assert_eq!(end.outcome, Some(Outcome::End));
        assert!(end.received == expected);
    }
    [a.sent, b.sent]
}

/// Never delivers the bytes before and after one offset in one piece.
struct SplitAt {
    direction: usize,
    offset: usize,
    passed: [usize; 2],
}

impl Between for SplitAt {
    fn pass(&mut self, direction: usize, waiting: &mut Vec<u8>) -> Option<Vec<u8>> {
        let before = self.offset.saturating_sub(self.passed[direction]);
        let len = if direction == self.direction && before > 0 {
            before.min(waiting.len())
        } else {
            waiting.len()
        };
        self.passed[direction] += len;
        Some(waiting.drain(..len).collect())
    }
}

#[test]
fn every_split_point() {
    let (a_sends, b_sends) = (&[5, 300, 1], &[40, 7]);
    let honest = exchange(a_sends, b_sends, &mut Honest);
    for direction in [0, 1] {
        for offset in 0..=honest[direction].len() {
            let mut between = SplitAt {
                direction,
                offset,
                passed: [0; 2],
            };
            assert_eq!(exchange(a_sends, b_sends, &mut between), honest);
        }
    }
}

#[test]
fn every_split_point_around_large_records() {
    let a_sends = &[2 * MAX_RECORD_PLAINTEXT + 3];
    let start = INITIATOR_FLIGHT_LEN + OVERHEAD;
    for record in 0..=2 {
        let boundary = start + record * MAX_RECORD_LEN;
        for offset in boundary - OVERHEAD..=boundary + OVERHEAD {
            let mut between = SplitAt {
                direction: 0,
                offset,
                passed: [0; 2],
            };
            exchange(a_sends, &[], &mut between);
        }
    }
}

/// Delivers pieces of fixed length.
struct Drip(usize);

impl Between for Drip {
    fn pass(&mut self, _: usize, waiting: &mut Vec<u8>) -> Option<Vec<u8>> {
        Some(waiting.drain(..self.0.min(waiting.len())).collect())
    }
}

#[test]
fn a_slow_drip_of_single_bytes() {
    exchange(&[5, 20_000], &[17, 3000], &mut Drip(1));
}

/// Delivers pieces of the lengths given, over and over; zero is a turn without delivery.
struct Pieces {
    lens: Vec<usize>,
    turn: usize,
}

impl Between for Pieces {
    fn pass(&mut self, _: usize, waiting: &mut Vec<u8>) -> Option<Vec<u8>> {
        let len = self.lens[self.turn % self.lens.len()];
        self.turn += 1;
        Some(waiting.drain(..len.min(waiting.len())).collect())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_messages_in_any_pieces(
        a_sends in prop::collection::vec(0usize..70_000, 0..5),
        b_sends in prop::collection::vec(0usize..2000, 0..8),
        mut lens in prop::collection::vec(prop_oneof![0usize..100, 0usize..40_000], 0..8),
    ) {
        lens.push(1000);
        exchange(&a_sends, &b_sends, &mut Pieces { lens, turn: 0 });
    }
}

#[test]
fn lengths_on_the_wire() {
    let [a, b] = exchange(&[5, MAX_RECORD_PLAINTEXT + 1], &[0, 1], &mut Honest);
    let empty = OVERHEAD;
    assert_eq!(
        a.len(),
        INITIATOR_FLIGHT_LEN + empty + (OVERHEAD + 5) + (MAX_RECORD_LEN + OVERHEAD + 1) + empty
    );
    assert_eq!(b.len(), RESPONDER_FLIGHT_LEN + (OVERHEAD + 1) + empty);
}

#[test]
fn nothing_of_the_plaintext_shows() {
    let secret = b"attack at dawn";
    let mut a = Program::new(initiator(&keys(), 1), &[secret.to_vec()]);
    let mut b = Program::new(responder(&keys(), 2), &[secret.to_vec()]);
    run(&mut a, &mut b, &mut Honest);
    for wire in [&a.sent, &b.sent] {
        for part in secret.windows(4) {
            assert!(!wire.windows(4).any(|seen| seen == part));
        }
    }
}

/// The same program twice: nothing on the wire repeats but the preamble.
#[test]
fn no_two_connections_look_alike() {
    let sent = |seed| {
        let mut a = Program::new(initiator(&keys(), seed), &[vec![0; 100]]);
        let mut b = Program::new(responder(&keys(), seed + 1), &[]);
        run(&mut a, &mut b, &mut Honest);
        [a.sent, b.sent]
    };
    let (first, second) = (sent(1), sent(3));
    for (one, other) in first.iter().zip(&second) {
        for part in one[9..].windows(8) {
            assert!(!other[9..].windows(8).any(|seen| seen == part));
        }
    }
}

/// What is already there is told at each step of a handshake.
#[test]
fn states_of_a_handshake() {
    let (mut a, mut b) = (initiator(&keys(), 1), responder(&keys(), 2));
    assert!(a.is_handshaking() && a.wants_write() && a.wants_read());
    assert!(b.is_handshaking() && !b.wants_write() && b.wants_read());
    for end in [&mut a, &mut b] {
        assert_eq!(end.write(b"early", usize::MAX), Ok(0));
        assert_eq!(end.write_room(usize::MAX), 0);
        assert_eq!(end.peek(), Ok(Incoming::Pending));
        assert_eq!(end.key_id(), None);
    }

    carry(&mut a, &mut b).unwrap();
    assert!(b.is_handshaking(), "its peer may be a recording");
    assert!(b.write_room(usize::MAX) > 0, "but it may speak first");
    assert_eq!(b.key_id(), Some(key(0x11).id()));

    carry(&mut b, &mut a).unwrap();
    assert!(!a.is_handshaking() && a.wants_write());
    assert_eq!(a.key_id(), Some(key(0x11).id()));

    carry(&mut a, &mut b).unwrap();
    assert!(!b.is_handshaking());
    assert_eq!(b.peek(), Ok(Incoming::Pending));
}

#[test]
fn the_responder_may_speak_first() {
    let (mut a, mut b) = (initiator(&keys(), 1), responder(&keys(), 2));
    carry(&mut a, &mut b).unwrap();
    assert_eq!(b.write(b"220 ready", usize::MAX), Ok(9));
    carry(&mut b, &mut a).unwrap();
    assert_eq!(read_all(&mut a), b"220 ready");
}

#[test]
fn any_key_of_the_ring_opens() {
    let ring = Keys::new(key(1), [key(2), key(3)]);
    for (mine, accepted) in [(1, true), (2, true), (3, true), (4, false)] {
        let (mut a, mut b) = (initiator(&Keys::from(key(mine)), 1), responder(&ring, 2));
        let outcome = carry(&mut a, &mut b);
        if accepted {
            outcome.unwrap();
            carry(&mut b, &mut a).unwrap();
            assert_eq!(b.key_id(), Some(key(mine).id()));
            assert_eq!(a.key_id(), b.key_id());
        } else {
            assert_eq!(outcome, Err(Error::Handshake));
        }
    }
    // A ring connects with its first key.
    let (mut a, mut b) = (initiator(&ring, 1), responder(&Keys::from(key(2)), 2));
    assert_eq!(carry(&mut a, &mut b), Err(Error::Handshake));
}

#[test]
fn half_close() {
    let (mut a, mut b) = connected();
    a.write(b"request", usize::MAX).unwrap();
    a.close_write().unwrap();
    a.close_write().unwrap();
    assert!(a.is_write_closed() && !a.is_write_finished());
    assert_eq!(a.write(b"more", usize::MAX), Err(Error::WriteClosed));
    assert_eq!(a.write_room(usize::MAX), 0);
    assert_eq!(a.error(), None);
    carry(&mut a, &mut b).unwrap();
    assert!(a.is_write_finished());

    assert!(b.is_peer_closed() && !b.wants_read());
    assert_eq!(b.peek(), Ok(Incoming::Data(b"request")));
    assert_eq!(read_all(&mut b), b"request");
    assert_eq!(b.peek(), Ok(Incoming::End));
    assert_eq!(b.read(&mut [0; 9]), Ok(Some(0)));
    assert_eq!(b.wire_eof(), Ok(()));

    // The other direction goes on, with the transport half closed.
    b.write(&sample(50_000, 3), usize::MAX).unwrap();
    carry(&mut b, &mut a).unwrap();
    assert_eq!(read_all(&mut a), sample(50_000, 3));
    assert_eq!(a.peek(), Ok(Incoming::Pending));
    b.close_write().unwrap();
    carry(&mut b, &mut a).unwrap();
    assert_eq!(a.peek(), Ok(Incoming::End));
    assert_eq!(a.wire_eof(), Ok(()));
}

#[test]
fn closed_before_the_handshake_is_done() {
    let (mut a, mut b) = (initiator(&keys(), 1), responder(&keys(), 2));
    a.close_write().unwrap();
    b.close_write().unwrap();
    assert!(!a.is_write_finished() && !b.is_write_finished());
    carry(&mut a, &mut b).unwrap();
    carry(&mut b, &mut a).unwrap();
    carry(&mut a, &mut b).unwrap();
    for end in [&mut a, &mut b] {
        assert!(end.is_write_finished());
        assert_eq!(end.peek(), Ok(Incoming::End));
        assert_eq!(end.wire_eof(), Ok(()));
    }
}

#[test]
fn reading_in_small_pieces() {
    let (mut a, mut b) = connected();
    let sent = sample(3000, 4);
    a.write(&sent, usize::MAX).unwrap();
    carry(&mut a, &mut b).unwrap();
    let mut received = Vec::new();
    let mut out = [0; 7];
    assert_eq!(b.read(&mut []), Ok(Some(0)));
    while let Some(len) = b.read(&mut out).unwrap() {
        received.extend_from_slice(&out[..len]);
        assert_eq!(b.plaintext_len(), sent.len() - received.len());
    }
    assert_eq!(received, sent);
}

/// Everything sent is sent once, however little the transport takes at a time.
#[test]
fn partial_sends() {
    let (mut a, mut b) = connected();
    let sent = sample(200_000, 5);
    let (mut taken, mut received) = (0, Vec::new());
    for step in 1.. {
        taken += a.write(&sent[taken..], usize::MAX).unwrap();
        let piece = a.wire_output();
        let piece = &piece[..piece.len().min(1 + step % 5000)];
        assert_eq!(b.read_wire(piece), Ok(piece.len()));
        let len = piece.len();
        a.wire_sent(len);
        received.extend(read_all(&mut b));
        if taken == sent.len() && !a.wants_write() {
            break;
        }
    }
    assert!(received == sent);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Sealed from where the one program has it, and opened where the other has room, now and then refused:
    /// the stream is the same, and each byte is where it was said to be.
    #[test]
    fn from_elsewhere_to_elsewhere(
        len in 0usize..150_000,
        steps in prop::collection::vec((1usize..70_000, 0usize..40_000, any::<[bool; 2]>()), 1..12),
    ) {
        let (mut a, mut b) = connected();
        let sent = sample(len, 9);
        let (mut taken, mut received) = (0, Vec::new());
        for (piece, room, [seals, opens]) in steps.into_iter().cycle() {
            let rest = &sent[taken..];
            let sealed = a.write_by(rest.len(), usize::MAX, |key, run, range, records| {
                match seals {
                    true => AEAD.seal(key, run, &rest[range], records),
                    false => Err(AeadError),
                }
            });
            let sealed = sealed.unwrap();
            prop_assert!(seals || sealed == 0);
            taken += match sealed {
                0 => a.write(rest, usize::MAX).unwrap(),
                sealed => sealed,
            };
            let mut there = vec![0xEE; room];
            let wire = a.wire_output();
            let wire = &wire[..wire.len().min(piece)];
            let (read, filled) = b.read_wire_to(wire, room, |key, run, sealed, place| {
                match opens {
                    true => AEAD.open(key, run, sealed, &mut there[place]),
                    false => Err(AeadError),
                }
            });
            let read = read.unwrap();
            a.wire_sent(read);
            prop_assert!(opens || filled == 0);
            prop_assert!(there[filled..].iter().all(|&byte| byte == 0xEE));
            received.extend_from_slice(&there[..filled]);
            received.extend(read_all(&mut b));
            if taken == len && !a.wants_write() {
                break;
            }
        }
        prop_assert!(received == sent);
    }
}

#[test]
fn what_waits_to_be_sent_has_a_limit() {
    let (mut a, _) = connected();
    let data = sample(10 * OUTGOING_LIMIT, 6);
    assert_eq!(a.write_room(usize::MAX), 4 * MAX_RECORD_PLAINTEXT);
    let taken = a.write(&data, usize::MAX).unwrap();
    assert_eq!(taken, 4 * MAX_RECORD_PLAINTEXT);
    assert_eq!(a.wire_output().len(), OUTGOING_LIMIT);
    assert_eq!(a.write(&data, usize::MAX), Ok(0));
    a.wire_sent(OVERHEAD);
    assert_eq!(a.write(&data, usize::MAX), Ok(0));
    a.wire_sent(1);
    assert_eq!(a.write(&data, usize::MAX), Ok(1));
    assert_eq!(a.wire_output().len(), OUTGOING_LIMIT);
    // The end is made all the same.
    a.close_write().unwrap();
    assert_eq!(a.wire_output().len(), OUTGOING_LIMIT + OVERHEAD);
}

#[test]
fn the_limit_a_caller_gives() {
    let data = sample(100_000, 7);
    for limit in (0..100).chain([MAX_RECORD_LEN - 1, MAX_RECORD_LEN + 1, 40_000]) {
        let (mut a, mut b) = connected();
        let room = a.write_room(limit);
        assert_eq!(a.write(&data, limit), Ok(room));
        let waits = a.wire_output().len();
        assert!(waits <= limit);
        assert!(limit - waits <= OVERHEAD, "nothing is left unused");
        carry(&mut a, &mut b).unwrap();
        assert!(read_all(&mut b) == data[..room]);
    }
}

#[test]
fn what_waits_to_be_read_has_a_limit() {
    let (mut a, mut b) = connected();
    let data = sample(10 * INCOMING_LIMIT, 8);
    let (mut taken, mut received) = (0, Vec::new());
    while received.len() < data.len() {
        // The transport brings as much as there is room for, the program reads a little.
        taken += a.write(&data[taken..], usize::MAX).unwrap();
        let room = b.wire_room();
        let len = b.read_wire(a.wire_output()).unwrap();
        assert_eq!(len, room.min(a.wire_output().len()));
        a.wire_sent(len);
        assert!(b.plaintext_len() <= INCOMING_LIMIT);
        assert_eq!(b.wants_read(), b.wire_room() > 0);
        let mut out = [0; 1000];
        let len = b.read(&mut out).unwrap().expect("there is always some");
        received.extend_from_slice(&out[..len]);
    }
    assert!(received == data);
}

/// Many records, over several changes of key, with runs that lie across them.
#[test]
fn long_connections_change_keys() {
    let (mut a, mut b) = connected();
    let mut count = 1; // the confirmation
    let mut n = 0u64;
    while count < 3 * REKEY_INTERVAL {
        a.write(&n.to_le_bytes(), usize::MAX).unwrap();
        count += 1;
        n += 1;
        if n.is_multiple_of(1000) {
            a.write(&vec![0xEE; 3 * MAX_RECORD_PLAINTEXT], usize::MAX)
                .unwrap();
            count += 3;
            carry(&mut a, &mut b).unwrap();
            let received = read_all(&mut b);
            let (small, large) = received.split_at(8000);
            for (i, sent) in small.chunks(8).enumerate() {
                assert_eq!(sent, (n - 1000 + i as u64).to_le_bytes());
            }
            assert!(large.iter().all(|&byte| byte == 0xEE));
        }
    }
}

#[test]
fn the_machines_can_move_between_threads() {
    fn assert_send<T: Send>() {}
    assert_send::<Connection<Aead>>();
    assert_send::<Keys>();
}
