//! Datagrams: lost, repeated, overtaken, altered, and of other senders.

use sealed::wire::{
    DATAGRAM_OVERHEAD, DatagramError, Datagrams, Keys, MAX_DATAGRAM_LEN, REPLAY_WINDOW,
    SENDER_LIMIT, payload_room,
};

use crate::chacha20_poly1305::support::{TestRng, key, keys, sample};

fn socket(keys: &Keys, seed: u64) -> Datagrams {
    Datagrams::new(keys, &mut TestRng(seed)).unwrap()
}

fn seal(from: &mut Datagrams, payload: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0xEE; payload.len() + DATAGRAM_OVERHEAD];
    assert_eq!(from.seal(payload, &mut datagram), Ok(datagram.len()));
    datagram
}

/// Opens a datagram; on failure the buffer must be untouched.
fn open(to: &mut Datagrams, datagram: &[u8]) -> Result<Vec<u8>, DatagramError> {
    let mut out = vec![0xCC; datagram.len()];
    match to.open(datagram, &mut out) {
        Ok(len) => {
            out.truncate(len);
            Ok(out)
        }
        Err(error) => {
            assert!(out.iter().all(|&byte| byte == 0xCC), "{error}");
            Err(error)
        }
    }
}

#[test]
fn any_length() {
    let (mut a, mut b) = (socket(&keys(), 1), socket(&keys(), 2));
    for len in [0, 1, 63, 64, 1400, payload_room(MAX_DATAGRAM_LEN)] {
        let payload = sample(len, 1);
        let datagram = seal(&mut a, &payload);
        assert_eq!(open(&mut b, &datagram), Ok(payload));
    }
}

#[test]
fn sizes() {
    assert_eq!(DATAGRAM_OVERHEAD, 42);
    assert_eq!(payload_room(1472), 1430);
    assert_eq!(payload_room(41), 0);
    let mut a = socket(&keys(), 1);
    let largest = payload_room(MAX_DATAGRAM_LEN);
    let mut out = vec![0; 70_000];
    assert_eq!(a.seal(&vec![0; largest], &mut out), Ok(MAX_DATAGRAM_LEN));
    assert_eq!(
        a.seal(&vec![0; largest + 1], &mut out),
        Err(DatagramError::TooLarge(largest + 1))
    );
    for len in 0..47 {
        assert_eq!(
            a.seal(b"hello", &mut out[..len]),
            Err(DatagramError::BufferSize)
        );
    }
    // A failure spends no number: the next is the second.
    assert_eq!(a.seal(b"hello", &mut out), Ok(47));
    assert_eq!(out[18..26], 1u64.to_le_bytes());

    let mut b = socket(&keys(), 2);
    assert_eq!(
        b.open(&out[..47], &mut [0; 4]),
        Err(DatagramError::BufferSize)
    );
    assert_eq!(open(&mut b, &out[..47]), Ok(b"hello".to_vec()));
}

#[test]
fn every_flipped_bit() {
    let mut a = socket(&keys(), 1);
    let earlier = seal(&mut a, b"earlier");
    let mut datagram = seal(&mut a, b"payload");
    // To one that knows the sender, and to one that does not.
    let mut known = socket(&keys(), 2);
    open(&mut known, &earlier).unwrap();
    let mut unknown = socket(&keys(), 3);
    for bit in 0..8 * datagram.len() {
        datagram[bit / 8] ^= 1 << (bit % 8);
        for to in [&mut known, &mut unknown] {
            let error = open(to, &datagram).unwrap_err();
            let expected = match bit / 8 {
                0 => error == DatagramError::NotSealed,
                1 => matches!(error, DatagramError::UnsupportedVersion(_)),
                // One bit makes it the number of the earlier one.
                18 if bit % 8 == 0 => {
                    matches!(error, DatagramError::Replayed | DatagramError::Corrupt)
                }
                _ => error == DatagramError::Corrupt,
            };
            assert!(expected, "bit {bit}: {error:?}");
        }
        datagram[bit / 8] ^= 1 << (bit % 8);
    }
    for to in [&mut known, &mut unknown] {
        assert_eq!(open(to, &datagram), Ok(b"payload".to_vec()));
    }
}

#[test]
fn every_truncation_and_extension() {
    let (mut a, mut b) = (socket(&keys(), 1), socket(&keys(), 2));
    let datagram = seal(&mut a, b"payload");
    for len in 0..datagram.len() {
        let error = open(&mut b, &datagram[..len]).unwrap_err();
        let expected = match len {
            0 => DatagramError::NotSealed,
            1..DATAGRAM_OVERHEAD => DatagramError::Truncated,
            _ => DatagramError::Corrupt,
        };
        assert_eq!(error, expected, "{len}");
    }
    let longer = [&datagram[..], b"\0"].concat();
    assert_eq!(open(&mut b, &longer), Err(DatagramError::Corrupt));
}

#[test]
fn plain_datagrams() {
    let mut b = socket(&keys(), 2);
    for plain in [&b""[..], b"\0", b"hello", &[0x45; 1400]] {
        assert_eq!(open(&mut b, plain), Err(DatagramError::NotSealed));
    }
}

#[test]
fn replay() {
    let (mut a, mut b) = (socket(&keys(), 1), socket(&keys(), 2));
    let first = seal(&mut a, b"first");
    let second = seal(&mut a, b"second");
    open(&mut b, &first).unwrap();
    assert_eq!(open(&mut b, &first), Err(DatagramError::Replayed));
    open(&mut b, &second).unwrap();
    assert_eq!(open(&mut b, &first), Err(DatagramError::Replayed));
    assert_eq!(open(&mut b, &second), Err(DatagramError::Replayed));
}

/// The limit that docs/wire.md states. Here so that nobody promises more.
#[test]
fn replay_to_another_socket_is_not_found_out() {
    let mut a = socket(&keys(), 1);
    let datagram = seal(&mut a, b"once");
    for seed in [2, 3] {
        assert_eq!(
            open(&mut socket(&keys(), seed), &datagram),
            Ok(b"once".to_vec())
        );
    }
}

#[test]
fn out_of_order_inside_the_window_and_outside() {
    let window = REPLAY_WINDOW as usize;
    let mut a = socket(&keys(), 1);
    let sent: Vec<_> = (0..2 * window + 2)
        .map(|i| seal(&mut a, &i.to_le_bytes()))
        .collect();

    // Backwards: what the window reaches is taken, once.
    let mut b = socket(&keys(), 2);
    let newest = sent.len() - 1;
    for i in (0..sent.len()).rev() {
        let expected = if newest - i < window {
            Ok(i.to_le_bytes().to_vec())
        } else {
            Err(DatagramError::Stale)
        };
        assert_eq!(open(&mut b, &sent[i]), expected, "{i}");
        if newest - i < window {
            assert_eq!(open(&mut b, &sent[i]), Err(DatagramError::Replayed));
        }
    }

    // Every other one, then the others as long as the window reaches them.
    let mut b = socket(&keys(), 2);
    for i in (0..sent.len()).step_by(2) {
        open(&mut b, &sent[i]).unwrap();
    }
    let newest = (sent.len() - 1) & !1;
    for i in (1..sent.len()).step_by(2).filter(|&i| i < newest) {
        assert_eq!(open(&mut b, &sent[i]).is_ok(), newest - i < window, "{i}");
    }
}

#[test]
fn senders_do_not_disturb_each_other() {
    let mut b = socket(&keys(), 9);
    let mut senders: Vec<_> = (1..5).map(|seed| socket(&keys(), seed)).collect();
    for round in 0..5u8 {
        for (i, sender) in senders.iter_mut().enumerate() {
            let datagram = seal(sender, &[round, i as u8]);
            assert_eq!(open(&mut b, &datagram), Ok(vec![round, i as u8]));
            assert_eq!(open(&mut b, &datagram), Err(DatagramError::Replayed));
        }
    }
    // One sender's datagram is not another's.
    let (mut one, mut other) = (seal(&mut senders[0], b"x"), seal(&mut senders[1], b"x"));
    one[2..18].swap_with_slice(&mut other[2..18]);
    for datagram in [one, other] {
        assert_eq!(open(&mut b, &datagram), Err(DatagramError::Corrupt));
    }
}

#[test]
fn one_s_own_datagram_sent_back() {
    let mut a = socket(&keys(), 1);
    let datagram = seal(&mut a, b"x");
    assert_eq!(open(&mut a, &datagram), Err(DatagramError::Reflected));
}

#[test]
fn other_keys() {
    let mut ring = socket(&Keys::new(key(1), [key(2), key(3)]), 9);
    for byte in 1..=4 {
        let mut a = socket(&Keys::from(key(byte)), byte.into());
        for _ in 0..2 {
            let expected = if byte <= 3 {
                Ok(b"x".to_vec())
            } else {
                Err(DatagramError::Corrupt)
            };
            let datagram = seal(&mut a, b"x");
            assert_eq!(open(&mut ring, &datagram), expected);
        }
    }
    // A ring seals with its first key.
    let datagram = seal(&mut ring, b"y");
    assert!(open(&mut socket(&Keys::from(key(1)), 10), &datagram).is_ok());
    assert!(open(&mut socket(&Keys::from(key(2)), 10), &datagram).is_err());
}

#[test]
fn peeking_leaves_it_there() {
    let (mut a, mut b) = (socket(&keys(), 1), socket(&keys(), 2));
    let datagram = seal(&mut a, b"look");
    let mut out = [0; 4];
    for _ in 0..2 {
        assert_eq!(b.peek(&datagram, &mut out), Ok(4));
        assert_eq!(&out, b"look");
    }
    assert_eq!(b.open(&datagram, &mut out), Ok(4));
    assert_eq!(b.peek(&datagram, &mut out), Err(DatagramError::Replayed));
}

#[test]
fn the_sender_not_heard_for_longest_is_forgotten() {
    let mut b = socket(&keys(), 0);
    let mut sender = |seed| seal(&mut socket(&keys(), seed), b"x");
    let limit = SENDER_LIMIT as u64;
    let datagrams: Vec<_> = (1..=limit).map(&mut sender).collect();
    let mut first = socket(&keys(), 1);
    for datagram in &datagrams {
        open(&mut b, datagram).unwrap();
    }
    // The first is heard again, so the second is the oldest when one more comes.
    seal(&mut first, b"x");
    let again = seal(&mut first, b"again");
    open(&mut b, &again).unwrap();
    open(&mut b, &sender(limit + 1)).unwrap();

    assert_eq!(open(&mut b, &datagrams[0]), Err(DatagramError::Replayed));
    for datagram in &datagrams[2..] {
        assert_eq!(open(&mut b, datagram), Err(DatagramError::Replayed));
    }
    assert_eq!(open(&mut b, &datagrams[1]), Ok(b"x".to_vec()));
}

#[test]
fn what_fails_to_open_takes_no_room() {
    let mut b = socket(&keys(), 0);
    let mut a = socket(&keys(), 1);
    let datagram = seal(&mut a, b"x");
    open(&mut b, &datagram).unwrap();
    let other = Keys::from(key(7));
    for seed in 2..2 + 2 * SENDER_LIMIT as u64 {
        let foreign = seal(&mut socket(&other, seed), b"x");
        assert_eq!(open(&mut b, &foreign), Err(DatagramError::Corrupt));
    }
    assert_eq!(open(&mut b, &datagram), Err(DatagramError::Replayed));
}
