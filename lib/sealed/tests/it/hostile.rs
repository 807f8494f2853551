//! The fuzz entry points, for a moment each, on any stable toolchain.

use proptest::prelude::*;
use sealed::{MAGIC, VERSION};

use crate::entry;

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..max)
}

proptest! {
    #[test]
    fn header(data in bytes(200)) {
        entry::header(&data);
    }

    #[test]
    fn header_past_the_magic(
        cipher in 0u8..4, log2 in 7u8..18, rest in bytes(200),
    ) {
        entry::header(&[&MAGIC[..], &[VERSION, cipher, log2, 0, 0, 0, 0, 0], &rest].concat());
    }

    #[test]
    fn layout(data in bytes(20)) {
        entry::layout(&data);
    }

    #[test]
    fn chunk_run(data in bytes(2000)) {
        entry::chunk_run(&data);
    }

    #[test]
    fn chunk_run_of_fitting_length(chunks in 0usize..4, extra in 0usize..3, mut data in bytes(11)) {
        data.resize(9 + chunks * 552 + extra * 41, 0x77);
        data[0] &= 1;
        entry::chunk_run(&data);
    }

    #[test]
    fn whole_file(data in bytes(3000)) {
        entry::whole_file(&data);
    }

    #[test]
    fn log(data in bytes(600)) {
        entry::log(&data);
    }

    #[test]
    fn superblocks(data in bytes(200)) {
        entry::superblocks(&data);
    }

    #[test]
    fn nodes(data in bytes(200)) {
        entry::nodes(&data);
    }

    #[test]
    fn edits(data in bytes(30)) {
        entry::edits(&data);
    }
}
