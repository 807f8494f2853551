//! Every small way to alter a file is found out.

use sealed::{Cipher, Error, FileCipher, FileKey, HEADER_LEN, MasterKey, ROOT_OFFSET, TABLE_LEN};

use crate::support::{TestRng, open_random_access, open_stream, sample, seal, small_chunks};

/// A sealed file of some full chunks and a short one, and a second version of it made from
/// scratch with the same key.
struct Case {
    master: MasterKey,
    plaintext: Vec<u8>,
    sealed: Vec<u8>,
    other: Vec<u8>,
    sealed_chunk: usize,
    /// Where the chunks begin; before them lies the table of their tags.
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
            data_start: params.layout().chunk_offset(0).unwrap() as usize,
            master,
            plaintext,
            sealed,
            other,
        }
    }

    fn table_start(&self) -> usize {
        self.data_start - TABLE_LEN
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
                // Nothing but the root is read from a journal that is clear, and no flipped bit makes
                // it live; of the last table nothing but the tags of the chunks there are.
                let tags =
                    case.table_start() + 16..case.table_start() + 16 + 16 * case.chunks().len();
                if (HEADER_LEN + 16..tags.start).contains(&at)
                    || (tags.end..case.data_start).contains(&at)
                {
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

/// What a file holds, and how it lies on the disk.
type Version = (Vec<u8>, Vec<u8>);

/// Versions of one file, under one salt: as they were written one after the other.
fn history(cipher: Cipher, sizes: &[usize]) -> (FileCipher, Vec<Version>) {
    let mut rng = TestRng(1);
    let key = FileKey::generate(&master(), small_chunks(cipher), &mut rng).unwrap();
    let versions = (0..)
        .zip(sizes)
        .map(|(version, &size)| {
            let plaintext: Vec<u8> = (0..size)
                .map(|at| (at / 512) as u8 ^ (version * 16))
                .collect();
            let sealed = seal(&key, &plaintext, &mut rng);
            (plaintext, sealed)
        })
        .collect();
    (FileCipher::new(&key), versions)
}

fn master() -> MasterKey {
    MasterKey::from_bytes([0x11; 32])
}

/// A file put together from parts of several of its versions is refused, whatever the parts: its
/// head with the root, each tag and each chunk may come from any of them, and the length. What opens
/// is one of the versions, whole.
#[test]
fn every_mixture_of_versions() {
    for cipher in Cipher::ALL {
        for sizes in [[1024, 1024, 1024], [600, 1200, 100], [1023, 1024, 512]] {
            let (file, versions) = history(cipher, &sizes);
            let layout = *file.layout();
            let most = versions
                .iter()
                .map(|(_, sealed)| sealed.len())
                .max()
                .unwrap();
            let table = layout.table_offset(0).unwrap() as usize + 16;
            let head = ROOT_OFFSET as usize..table;
            let mut parts = vec![head];
            parts.extend((0..3).map(|slot| table + slot * 16..table + slot * 16 + 16));
            parts.extend((0..3).map(|index| {
                let start = layout.chunk_offset(index).unwrap() as usize;
                start..start + layout.sealed_chunk_len()
            }));
            let mut refused = 0;
            for choice in 0..3_usize.pow(parts.len() as u32 + 1) {
                let from = |part: usize| &versions[choice / 3_usize.pow(part as u32) % 3].1;
                let mut mixed = versions[0].1.clone();
                mixed.resize(most, 0);
                for (part, range) in parts.iter().enumerate() {
                    let range = range.start..range.end.min(from(part).len());
                    if range.start < range.end {
                        mixed[range.clone()].copy_from_slice(&from(part)[range]);
                    }
                }
                mixed.truncate(from(parts.len()).len());
                match open_random_access(&master(), &mixed) {
                    Ok(opened) => {
                        assert!(versions.iter().any(|(plaintext, _)| *plaintext == opened));
                        assert_eq!(open_stream(&master(), &mixed, 999), (opened, None));
                    }
                    Err(_) => {
                        refused += 1;
                        assert!(open_stream(&master(), &mixed, 999).1.is_some());
                    }
                }
            }
            assert!(refused > 3_usize.pow(8) - 200, "{refused}");
        }
    }
}

/// The same in a file of two groups: its tables and their digests too.
#[test]
fn mixtures_of_versions_with_two_groups() {
    let size = 257 * 512 + 9;
    let (file, versions) = history(Cipher::default(), &[size, size]);
    let layout = *file.layout();
    let table = |group| layout.table_offset(group).unwrap() as usize;
    let chunk = |index| {
        let start = layout.chunk_offset(index).unwrap() as usize;
        start..(start + layout.sealed_chunk_len()).min(versions[0].1.len())
    };
    let parts = [
        ROOT_OFFSET as usize..table(0),
        table(0)..table(0) + 16,
        table(0) + 16..table(0) + 32,
        table(0) + 32..table(0) + 16 + 256 * 16,
        chunk(0),
        chunk(1).start..chunk(255).end,
        table(1)..table(1) + 16,
        table(1) + 16..table(1) + 32,
        table(1) + 32..chunk(256).start,
        chunk(256),
        chunk(257),
    ];
    for choice in 0..1_usize << parts.len() {
        let mut mixed = versions[0].1.clone();
        for (part, range) in parts.iter().enumerate() {
            if choice >> part & 1 == 1 {
                mixed[range.clone()].copy_from_slice(&versions[1].1[range.clone()]);
            }
        }
        // The last group's digest counts for nothing.
        let counts = choice | 1 << 6;
        let expected = [(1 << 6, 0), ((1 << parts.len()) - 1, 1)]
            .into_iter()
            .find(|(whole, _)| *whole == counts)
            .map(|(_, version)| &versions[version].0);
        let opened = open_random_access(&master(), &mixed);
        let (streamed, error) = open_stream(&master(), &mixed, 100_000);
        match expected {
            Some(plaintext) => {
                assert!(opened.as_ref() == Ok(plaintext) && error.is_none());
                assert!(streamed == *plaintext);
            }
            None => assert!(opened.is_err() && error.is_some(), "{choice:b}"),
        }
    }
}
