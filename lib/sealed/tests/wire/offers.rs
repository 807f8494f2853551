//! What ends offer to seal with, and who sits between and alters it.

use rand_core::TryRng;
use sealed::wire::aead::MessageCipher::{self, Aes256Gcm, ChaCha20Poly1305};
use sealed::wire::aead::{MessageAead, Software};
use sealed::wire::{Connection, Error};

use crate::chacha20_poly1305::support::{TestRng, carry, keys, read_all, sample};
use crate::entry::Offers;

/// Where a flight says what its sender offers: the last bit of the public key.
const OFFER_AT: usize = 9 + 31;
const OFFER: u8 = 0x80;

fn initiator<A: MessageAead>(aead: A) -> Connection<A> {
    Connection::initiator_with(&keys(), &mut TestRng(1), aead).unwrap()
}

fn responder<A: MessageAead>(aead: A) -> Connection<A> {
    Connection::responder_with(&keys(), &mut TestRng(2), aead).unwrap()
}

/// Shakes hands and says something both ways. What the two have agreed on.
fn talk<A: MessageAead, B: MessageAead>(
    mut a: Connection<A>,
    mut b: Connection<B>,
) -> MessageCipher {
    assert_eq!((a.cipher(), b.cipher()), (None, None));
    carry(&mut a, &mut b).unwrap();
    carry(&mut b, &mut a).unwrap();
    assert_eq!(a.cipher(), b.cipher());
    for len in [1, 50_000] {
        a.write(&sample(len, 1), usize::MAX).unwrap();
        carry(&mut a, &mut b).unwrap();
        assert!(read_all(&mut b) == sample(len, 1));
        b.write(&sample(len, 2), usize::MAX).unwrap();
        carry(&mut b, &mut a).unwrap();
        assert!(read_all(&mut a) == sample(len, 2));
    }
    a.cipher().unwrap()
}

#[test]
fn aes_is_used_where_both_offer_it() {
    let aes = Offers(true);
    let cipher = talk(initiator(Software), responder(Software));
    assert_eq!(cipher, ChaCha20Poly1305);
    assert_eq!(talk(initiator(aes), responder(Software)), ChaCha20Poly1305);
    assert_eq!(talk(initiator(Software), responder(aes)), ChaCha20Poly1305);
    assert_eq!(talk(initiator(aes), responder(aes)), Aes256Gcm);
}

/// An offer is one bit, and who makes none sends what it sent before there were offers.
#[test]
fn an_offer_is_one_bit_of_a_flight() {
    let (silent, offering) = (initiator(Software), initiator(Offers(true)));
    let [silent, offering] = [silent.wire_output(), offering.wire_output()];
    assert_eq!(silent[OFFER_AT] & OFFER, 0);
    let mut with = silent[..41].to_vec();
    with[OFFER_AT] |= OFFER;
    assert_eq!(with, offering[..41]);
    // The tag vouches for it.
    assert_ne!(silent[41..], offering[41..]);
}

/// Whoever takes an offer back, or makes one, on either way or both, ends the handshake before a record.
#[test]
fn an_altered_offer_is_found_out() {
    fn attack<A: MessageAead, B: MessageAead>(a: A, b: B, first: u8, second: u8) {
        let (mut a, mut b) = (initiator(a), responder(b));
        let mut flight = a.wire_output().to_vec();
        a.wire_sent(flight.len());
        flight[OFFER_AT] ^= first;
        let taken = b.read_wire(&flight);
        if first != 0 {
            assert_eq!(taken, Err(Error::Handshake));
            assert!(!b.wants_write());
            return;
        }
        let mut answer = b.wire_output().to_vec();
        answer[OFFER_AT] ^= second;
        assert_eq!(a.read_wire(&answer), Err(Error::Handshake));
        assert!(!a.wants_write());
        assert_eq!(a.cipher(), None);
    }
    for (first, second) in [(OFFER, 0), (0, OFFER), (OFFER, OFFER)] {
        attack(Software, Software, first, second);
        attack(Software, Offers(true), first, second);
        attack(Offers(true), Software, first, second);
        attack(Offers(true), Offers(true), first, second);
    }
}

/// An answer that was made to one flight is none to another that offers something else, with the same
/// secret behind it.
#[test]
fn an_answer_is_to_one_offer() {
    let (silent, mut b) = (initiator(Software), responder(Offers(true)));
    b.read_wire(silent.wire_output()).unwrap();
    let mut a = initiator(Offers(true));
    assert_eq!(a.read_wire(b.wire_output()), Err(Error::Handshake));
}

/// One's own flight is no answer, whatever bit is altered in it.
#[test]
fn an_offer_sent_back_is_nobodys() {
    for offer in [0, OFFER] {
        let mut a = initiator(Offers(true));
        let mut flight = a.wire_output().to_vec();
        flight[OFFER_AT] ^= offer;
        assert_eq!(a.read_wire(&flight), Err(Error::Handshake));
    }
}

/// The bytes of a record under one cipher say nothing under the other: with the same handshake but for the
/// offers there are other keys, and a record of one connection is none of the other.
#[test]
fn records_of_one_cipher_do_not_open_under_the_other() {
    let sent = |offers: bool| {
        let mut a = initiator(Offers(offers));
        let mut b = responder(Offers(offers));
        carry(&mut a, &mut b).unwrap();
        carry(&mut b, &mut a).unwrap();
        carry(&mut a, &mut b).unwrap();
        a.write(b"attack at dawn", usize::MAX).unwrap();
        (a.wire_output().to_vec(), b)
    };
    let (chacha, mut chacha_reads) = sent(false);
    let (aes, mut aes_reads) = sent(true);
    assert_eq!(chacha.len(), aes.len());
    assert_ne!(chacha[2..], aes[2..]);
    let corrupt = Err(Error::RecordCorrupt { index: 1 });
    assert_eq!(chacha_reads.read_wire(&aes), corrupt);
    assert_eq!(aes_reads.read_wire(&chacha), corrupt);
}

/// Random bits on both ways, many times: either nothing was altered, or there is no connection.
#[test]
fn no_altered_handshake_ends_in_a_connection() {
    let mut rng = TestRng(7);
    let mut draw = |most: usize| rng.try_next_u64().unwrap() as usize % most;
    for _ in 0..2000 {
        let (mut a, mut b) = (
            initiator(Offers(draw(2) == 0)),
            responder(Offers(draw(2) == 0)),
        );
        let (way, bit) = (draw(2), draw(8 * 57));
        let alter = |wire: &[u8], is_it: bool| {
            let mut wire = wire.to_vec();
            if is_it {
                wire[bit / 8] ^= 1 << (bit % 8);
            }
            wire
        };
        let first = b.read_wire(&alter(a.wire_output(), way == 0));
        let second = first.and_then(|_| a.read_wire(&alter(b.wire_output(), way == 1)));
        assert!(second.is_err());
        assert_eq!(a.cipher(), None);
    }
}
