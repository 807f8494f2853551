//! Entry points for hostile key files. Each takes any bytes at all and panics if the crate breaks a
//! promise. The fuzz targets in `fuzz/` include this file; `hostile.rs` runs it briefly in every
//! `cargo test`.

use std::convert::Infallible;
use std::sync::LazyLock;

use keys::key_file::{self, KeyFile};
use keys::ring_file::{FIRST_LINE, MAX_KEYS, MAX_LEN, RingFile};
use keys::wrapped::{Cost, WRAPPED_LEN, WrappedKey};
use keys::{KeyRing, Passphrase};
use rand_core::{TryCryptoRng, TryRng};
use sealed::{KEY_LEN, MasterKey};

/// Bytes that are all the same, which is all that wrapping a key for a test needs.
struct Constant;

impl TryRng for Constant {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(0)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(0)
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        dst.fill(0);
        Ok(())
    }
}

impl TryCryptoRng for Constant {}

fn passphrase() -> Passphrase {
    Passphrase::new(b"open sesame".to_vec().into()).expect("neither empty nor long")
}

/// Whether trying a passphrase takes no time to speak of.
fn is_cheap(cost: Cost) -> bool {
    u64::from(cost.memory()) * u64::from(cost.passes()) <= Cost::MIN_WORK
}

/// Any bytes as the contents of a key file: 32 bytes are a raw key, and nothing else is.
pub fn key_file(data: &[u8]) {
    match key_file::parse(data) {
        Ok(KeyFile::Raw(key)) => {
            assert_eq!(key.expose_secret().as_slice(), data);
            let id = key.id();
            let mut ring = KeyRing::new("first", MasterKey::from_bytes([1; KEY_LEN]));
            ring.add("second", key);
            assert!(ring.for_file(id).is_ok());
        }
        Ok(KeyFile::Wrapped(_)) => assert_eq!(data.len(), WRAPPED_LEN),
        Ok(KeyFile::Ring(_)) => assert!((FIRST_LINE.len()..=MAX_LEN).contains(&data.len())),
        Err(_) => assert_ne!(data.len(), KEY_LEN),
    }
}

/// Any bytes as a wrapped key: what parses is within bounds and says the same again, and nobody
/// can make one that opens without the passphrase.
pub fn wrapped_key(data: &[u8]) {
    let Ok(key) = WrappedKey::parse(data) else {
        return;
    };
    let cost = key.cost();
    assert_eq!(
        Cost::new(cost.memory(), cost.passes(), cost.lanes()),
        Ok(cost)
    );
    assert_eq!(key.encode().as_slice(), data);
    if is_cheap(cost) {
        assert!(key.unwrap_with(&passphrase()).is_err());
    }
}

/// A wrapped key altered as the bytes say: it opens only if nothing changed.
pub fn wrapped_edits(data: &[u8]) {
    static MADE: LazyLock<WrappedKey> = LazyLock::new(|| {
        let master = MasterKey::from_bytes([3; KEY_LEN]);
        let cost = Cost::new(8 << 10, 4, 1).expect("within bounds");
        WrappedKey::wrap(&master, &passphrase(), cost, &mut Constant).expect("memory")
    });
    let made = &*MADE;
    let original = made.encode();
    let mut altered = original.to_vec();
    for edit in data.chunks_exact(2) {
        let at = usize::from(edit[0]);
        match altered.get_mut(at) {
            Some(byte) => *byte ^= edit[1],
            None => altered.push(edit[1]),
        }
    }
    match WrappedKey::parse(&altered) {
        Ok(key) if is_cheap(key.cost()) => {
            let opened = key.unwrap_with(&passphrase());
            assert_eq!(opened.is_ok(), altered == original);
        }
        Ok(key) => assert_ne!(key, *made),
        Err(_) => assert_ne!(altered, original),
    }
}

/// Any bytes as what follows the first line of a ring file.
pub fn ring_file(data: &[u8]) {
    let contents = [FIRST_LINE.as_bytes(), b"\n", data].concat();
    if let Ok(ring) = RingFile::parse(&contents) {
        assert!((1..=MAX_KEYS).contains(&ring.names().len()));
        for name in ring.names() {
            assert!(!name.is_empty() && !name.starts_with(['#', ' ']) && !name.ends_with(' '));
            assert!(!name.contains(char::is_control));
        }
    }
}
