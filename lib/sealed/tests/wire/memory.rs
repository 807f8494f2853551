//! What connections hold, counted at the allocator.

use allocation_counter::measure;
use sealed::wire::{
    Connection, Datagrams, INCOMING_LIMIT, INITIATOR_FLIGHT_LEN, MAX_RECORD_LEN, OUTGOING_LIMIT,
    SENDER_LIMIT,
};

use super::Aead;
use super::support::{TestRng, carry, connected, initiator, keys, read_all, responder, sample};

/// Bytes on the heap that `make` leaves behind in what it returns.
fn held<T>(make: impl FnOnce() -> T) -> (T, usize) {
    let mut made = None;
    let info = measure(|| made = Some(make()));
    let held = usize::try_from(info.bytes_current).expect("nothing older is freed");
    (made.expect("just made"), held)
}

/// Bytes on the heap at the most while `work` is done.
fn peak(work: impl FnOnce()) -> usize {
    measure(work).bytes_max as usize
}

#[test]
fn an_idle_connection_holds_nothing_but_itself() {
    let keys = keys();
    let ((mut a, mut b), heap) = held(|| {
        let (mut a, mut b) = connected();
        // Idle after work, not only idle from the start.
        let data = sample(3 * INCOMING_LIMIT, 1);
        for piece in data.chunks(10_000) {
            a.write(piece, usize::MAX).unwrap();
            carry(&mut a, &mut b).unwrap();
            read_all(&mut b);
        }
        drop(data);
        (a, b)
    });
    assert_eq!(heap, 0);
    assert!(size_of::<Connection<Aead>>() < 512);
    a.write(b"it still works", usize::MAX).unwrap();
    carry(&mut a, &mut b).unwrap();
    assert_eq!(read_all(&mut b), b"it still works");
    drop(keys);
}

#[test]
fn connections_that_stop_half_way_in_the_handshake() {
    const COUNT: usize = 1000;
    let keys = keys();
    let flight = initiator(&keys, 1).wire_output().to_vec();
    // Nothing sent, a part, and all but the confirmation.
    for (sent, most) in [
        (0, 512),
        (INITIATOR_FLIGHT_LEN - 1, 512),
        (flight.len(), 512),
    ] {
        let (ends, heap) = held(|| {
            let ends: Vec<_> = (0..COUNT as u64)
                .map(|seed| {
                    let mut end = responder(&keys, seed);
                    end.read_wire(&flight[..sent]).unwrap();
                    end
                })
                .collect();
            ends
        });
        assert!(ends.iter().all(Connection::is_handshaking));
        let each = heap / COUNT - size_of::<Connection<Aead>>();
        assert!(each < most, "{each} bytes");
    }
    let (ends, heap) = held(|| -> Vec<_> {
        (0..COUNT as u64)
            .map(|seed| initiator(&keys, seed))
            .collect()
    });
    assert_eq!(ends.len(), COUNT);
    assert!(heap / COUNT < 8192, "{} bytes", heap / COUNT);
}

/// Whatever a peer sends and however slow a program reads, there is an end to it.
#[test]
fn buffers_have_their_limits() {
    let (mut a, mut b) = connected();
    let data = sample(4 * INCOMING_LIMIT, 2);
    let mut out = vec![0; 1000];
    let sending = peak(|| while a.write(&data, usize::MAX).unwrap() > 0 {});
    assert!(sending <= 2 * OUTGOING_LIMIT, "{sending}");

    let mut wire = Vec::with_capacity(data.len() * 2);
    for _ in 0..4 {
        wire.extend_from_slice(a.wire_output());
        a.wire_sent(usize::MAX);
        a.write(&data, usize::MAX).unwrap();
    }
    let mut rest = &wire[..];
    let receiving = peak(|| {
        while !rest.is_empty() {
            // The least a program can read of it, the most a transport can bring.
            let taken = b.read_wire(rest).unwrap();
            rest = &rest[taken..];
            let len = b.plaintext_len().min(out.len());
            b.read(&mut out[..len]).unwrap();
        }
    });
    // While a buffer is moved to a larger one, both are there.
    assert!(
        receiving <= 2 * INCOMING_LIMIT + MAX_RECORD_LEN,
        "{receiving}"
    );
}

#[test]
fn a_failed_connection_holds_what_can_be_read() {
    let (mut a, mut b) = connected();
    a.write(&sample(1000, 3), usize::MAX).unwrap();
    carry(&mut a, &mut b).unwrap();
    b.write(&sample(50_000, 3), usize::MAX).unwrap();
    b.read_wire(b"\x10\0").unwrap();
    let info = measure(|| {
        b.read_wire(&[0; 16]).unwrap_err();
        read_all(&mut b);
    });
    assert!(info.bytes_current <= -51_000);
}

#[test]
fn the_table_of_senders_has_a_limit() {
    let keys = keys();
    let mut datagrams: Vec<Vec<u8>> = Vec::new();
    for seed in 1..3 * SENDER_LIMIT as u64 {
        let mut datagram = vec![0; 43];
        Datagrams::new(&keys, &mut TestRng(seed))
            .unwrap()
            .seal(b"x", &mut datagram)
            .unwrap();
        datagrams.push(datagram);
    }
    let (_socket, heap) = held(|| {
        let mut socket = Datagrams::new(&keys, &mut TestRng(0)).unwrap();
        for datagram in &datagrams {
            socket.open(datagram, &mut [0; 1]).unwrap();
        }
        socket
    });
    assert!(heap < 400 * SENDER_LIMIT, "{heap}");
}
