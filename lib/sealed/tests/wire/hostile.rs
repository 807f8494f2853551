//! The fuzz entry points, for a moment each, on any stable toolchain.

use proptest::prelude::*;
use sealed::wire::STREAM_MAGIC;

use crate::entry;

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..max)
}

proptest! {
    #[test]
    fn handshake(data in bytes(200)) {
        entry::handshake(&data);
    }

    #[test]
    fn handshake_past_the_preamble(piece in any::<u8>(), rest in bytes(100)) {
        entry::handshake(&[&[piece], &STREAM_MAGIC[..], &[1], &rest].concat());
    }

    #[test]
    fn altered_handshake(data in bytes(12)) {
        entry::altered_handshake(&data);
    }

    #[test]
    fn records(data in bytes(3000)) {
        entry::records(&data);
    }

    #[test]
    fn records_of_possible_lengths(
        piece in any::<u16>(), lens in prop::collection::vec(16u16..400, 1..6), byte in any::<u8>(),
    ) {
        let mut data = piece.to_le_bytes().to_vec();
        for len in lens {
            data.extend(len.to_le_bytes());
            data.extend(vec![byte; len.into()]);
        }
        entry::records(&data);
    }

    #[test]
    fn edits(data in bytes(16)) {
        entry::edits(&data);
    }

    #[test]
    fn conversation(data in bytes(300)) {
        entry::conversation(&data);
    }

    #[test]
    fn datagrams(data in bytes(300)) {
        entry::datagrams(&data);
    }
}
