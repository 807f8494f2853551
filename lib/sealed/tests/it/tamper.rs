//! Every small way to alter a file is found out.

use sealed::{Cipher, Error, FileKey, HEADER_LEN, MasterKey};

use crate::support::{TestRng, open_random_access, open_stream, sample, seal, small_chunks};

/// A sealed file of some full chunks and a short one, and a second version of it made from
/// scratch with the same key.
struct Case {
    master: MasterKey,
    plaintext: Vec<u8>,
    sealed: Vec<u8>,
    other: Vec<u8>,
    sealed_chunk: usize,
    /// Where the chunks begin; between the header and here lies the journal, which is clear.
    data_start: usize,
}

impl Case {
    fn all() -> impl Iterator<Item = Self> {
        Cipher::ALL.into_iter().flat_map(|cipher| {
            [0, 1, 511, 512, 2 * 512 + 7, 4 * 512].map(|len| Self::new(cipher, len))
        })
    }

    fn new(cipher: Cipher, len: usize) -> Self {
        let mut rng = TestRng(len as u64);
        let master = MasterKey::from_bytes([0x11; 32]);
        let params = small_chunks(cipher);
        let plaintext = sample(len);
        let mut version = || {
            let key = FileKey::generate(&master, params, &mut rng).unwrap();
            seal(&key, &plaintext, &mut rng)
        };
        let (sealed, other) = (version(), version());
        Self {
            sealed_chunk: params.layout().sealed_chunk_len(),
            data_start: params.layout().data_start() as usize,
            master,
            plaintext,
            sealed,
            other,
        }
    }

    /// Where each chunk lies.
    fn chunks(&self) -> Vec<std::ops::Range<usize>> {
        (self.data_start..self.sealed.len())
            .step_by(self.sealed_chunk)
            .map(|start| start..(start + self.sealed_chunk).min(self.sealed.len()))
            .collect()
    }

    /// The altered file fails both ways to open it, and what a stream gave before it failed is
    /// the beginning of the truth.
    #[track_caller]
    fn assert_refused(&self, altered: &[u8]) {
        assert_ne!(altered, self.sealed);
        open_random_access(&self.master, altered).unwrap_err();
        for piece in [altered.len(), 100] {
            let (out, error) = open_stream(&self.master, altered, piece);
            assert!(error.is_some());
            assert!(self.plaintext.starts_with(&out));
        }
    }
}

impl Case {
    /// The altered file opens both ways, and to the truth.
    #[track_caller]
    fn assert_unharmed(&self, altered: &[u8]) {
        let opened = open_random_access(&self.master, altered);
        assert_eq!(opened.as_ref(), Ok(&self.plaintext));
        let streamed = open_stream(&self.master, altered, altered.len());
        assert_eq!(streamed, (self.plaintext.clone(), None));
    }
}

#[test]
fn the_untouched_file_opens() {
    for case in Case::all() {
        for sealed in [&case.sealed, &case.other] {
            assert_eq!(
                open_random_access(&case.master, sealed).unwrap(),
                case.plaintext
            );
            for piece in [1, 100, sealed.len()] {
                assert_eq!(
                    open_stream(&case.master, sealed, piece),
                    (case.plaintext.clone(), None)
                );
            }
        }
    }
}

#[test]
fn every_flipped_bit() {
    for case in Case::all() {
        let mut altered = case.sealed.clone();
        for at in 0..altered.len() {
            for bit in 0..8 {
                altered[at] ^= 1 << bit;
                // Nothing is read from a journal that is clear, and no flipped bit makes it live.
                if (HEADER_LEN..case.data_start).contains(&at) {
                    case.assert_unharmed(&altered);
                } else {
                    case.assert_refused(&altered);
                }
                altered[at] ^= 1 << bit;
            }
        }
    }
}

#[test]
fn every_truncation() {
    for case in Case::all() {
        // Length zero is an empty file by definition; docs/format.md says what that means.
        for len in 1..case.sealed.len() {
            case.assert_refused(&case.sealed[..len]);
        }
    }
}

#[test]
fn every_extension() {
    for case in Case::all() {
        let mut zeros = case.sealed.clone();
        for _ in 0..case.sealed_chunk + 100 {
            zeros.push(0);
            case.assert_refused(&zeros);
        }
        for chunk in case.chunks() {
            let mut repeated = case.sealed.clone();
            repeated.extend_from_slice(&case.sealed[chunk]);
            case.assert_refused(&repeated);
        }
    }
}

#[test]
fn every_pair_of_chunks_swapped() {
    for case in Case::all() {
        let chunks = case.chunks();
        for (i, a) in chunks.iter().enumerate() {
            for b in &chunks[i + 1..] {
                let mut altered = case.sealed[..a.start].to_vec();
                altered.extend_from_slice(&case.sealed[b.clone()]);
                altered.extend_from_slice(&case.sealed[a.end..b.start]);
                altered.extend_from_slice(&case.sealed[a.clone()]);
                altered.extend_from_slice(&case.sealed[b.end..]);
                case.assert_refused(&altered);
            }
        }
    }
}

#[test]
fn every_chunk_removed_or_repeated() {
    for case in Case::all() {
        for chunk in case.chunks() {
            let mut removed = case.sealed.clone();
            removed.drain(chunk.clone());
            case.assert_refused(&removed);

            let mut repeated = case.sealed[..chunk.end].to_vec();
            repeated.extend_from_slice(&case.sealed[chunk.start..]);
            case.assert_refused(&repeated);
        }
    }
}

#[test]
fn every_chunk_from_another_file() {
    for case in Case::all() {
        for chunk in case.chunks() {
            let mut spliced = case.sealed.clone();
            spliced[chunk.clone()].copy_from_slice(&case.other[chunk]);
            case.assert_refused(&spliced);
        }
        let mut header = case.other.clone();
        header[..HEADER_LEN].copy_from_slice(&case.sealed[..HEADER_LEN]);
        case.assert_refused(&header);
    }
}

#[test]
fn the_other_cipher_and_chunk_size() {
    // Values that parse, so that the header's authentication is what refuses them.
    for case in Case::all() {
        for (at, value) in [(9, 1), (9, 2), (10, 9), (10, 12)] {
            let mut altered = case.sealed.clone();
            altered[at] = value;
            if altered != case.sealed {
                case.assert_refused(&altered);
                assert_eq!(
                    open_random_access(&case.master, &altered).unwrap_err(),
                    Error::HeaderCorrupt
                );
            }
        }
    }
}

/// The limit that docs/format.md states: within one file, a chunk does not know its age. Here so
/// that nobody promises more, and that a version of the format that does better has to say so.
#[test]
fn a_chunk_put_back_to_an_earlier_value_is_not_found_out() {
    let mut rng = TestRng(1);
    let master = MasterKey::from_bytes([0x11; 32]);
    let params = small_chunks(Cipher::default());
    let key = FileKey::generate(&master, params, &mut rng).unwrap();
    let before = seal(&key, &[1; 1024], &mut rng);
    let mut after = seal(&key, &[2; 1024], &mut rng);

    let start = params.layout().data_start() as usize;
    let first = start..start + params.layout().sealed_chunk_len();
    after[first.clone()].copy_from_slice(&before[first]);
    let opened = open_random_access(&master, &after).unwrap();
    assert_eq!(opened, [[1; 512], [2; 512]].concat());
}
