//! The entry points of the fuzz targets, for a moment each.

mod entry;

use proptest::prelude::*;

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..400)
}

proptest! {
    #[test]
    fn key_file(data in bytes()) {
        entry::key_file(&data);
    }

    #[test]
    fn wrapped_key(mut data in prop::collection::vec(any::<u8>(), 128), cheap in any::<bool>()) {
        data[..12].copy_from_slice(b"\xA7keybox\n\x01\x01\x01\0");
        if cheap {
            data[12..24].copy_from_slice(b"\0\x20\0\0\x04\0\0\0\x01\0\0\0");
        }
        entry::wrapped_key(&data);
    }

    #[test]
    fn wrapped_edits(edits in prop::collection::vec((0..140_u8, any::<u8>()), 0..3)) {
        let data: Vec<u8> = edits.into_iter().flat_map(|(at, with)| [at, with]).collect();
        entry::wrapped_edits(&data);
    }

    #[test]
    fn ring_file(data in bytes(), text in "[a-z#/. \t\r\n\u{e9}]{0,200}") {
        entry::ring_file(&data);
        entry::ring_file(text.as_bytes());
    }
}
