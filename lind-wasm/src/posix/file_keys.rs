//! The keys of sealed files, by the processor's own SHA-256: opening a file takes some twenty blocks of it,
//! which in WebAssembly are a seventh of the time of an open.
//!
//! As with the native AEAD ([`super::aead`]) nothing is kept, and Lind lacks the call.

use super::{Call, Entry};
use rustix::io::Errno;
use sealed::{FileSecrets, HEADER_FIELDS_LEN, KEY_LEN, derive};
use zeroize::Zeroizing;

pub(super) const CALLS: &[Entry] = &[Entry::new(1109, file_keys)];

/// What the first argument points to: master key, and the fields of the header.
const REQUEST_LEN: usize = KEY_LEN + HEADER_FIELDS_LEN;

/// file_keys: request, room for [`FileSecrets`].
fn file_keys(call: &Call<'_>) -> Result<i32, Errno> {
    let request: Zeroizing<[u8; REQUEST_LEN]> = Zeroizing::new(call.get(0)?);
    let (master, fields) = request.split_first_chunk().ok_or(Errno::INVAL)?;
    let fields = fields.first_chunk().ok_or(Errno::INVAL)?;
    let secrets: FileSecrets = derive(master, fields);
    call.put(1, secrets.expose()).map(|()| 0)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Fixture, MAPPED_END, UNMAPPED};
    use super::*;
    use proptest::prelude::*;
    use sealed::{FileKey, Header, MasterKey, Params};

    const REQUEST: u64 = 0x1000;
    const SECRETS: u64 = 0x2000;

    #[test]
    fn a_file_opens_with_keys_of_the_call() {
        let cage = Fixture::new();
        let master = MasterKey::from_bytes([5; KEY_LEN]);
        let made = FileKey::new(&master, Params::default(), [9; 32]);
        let header = made.header().encode();
        let fields = &header[..HEADER_FIELDS_LEN];
        cage.put(REQUEST, &[master.expose_secret(), fields].concat());
        assert_eq!(cage.call(1109, &[REQUEST, SECRETS]), Ok(0));
        let secrets = cage.get(SECRETS, FileSecrets::LEN);
        assert_eq!(secrets[..KEY_LEN], made.content_key()[..]);
        assert_eq!(secrets[3 * KEY_LEN..], header[HEADER_FIELDS_LEN..]);
        assert!(Header::parse(&header).unwrap().verify(&master).is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// Whatever the fields are: who asks has not looked at them yet.
        #[test]
        fn the_same_as_in_software(request in prop::collection::vec(any::<u8>(), REQUEST_LEN)) {
            let cage = Fixture::new();
            cage.put(REQUEST, &request);
            prop_assert_eq!(cage.call(1109, &[REQUEST, SECRETS]), Ok(0));
            let (master, fields) = request.split_first_chunk().unwrap();
            let secrets = derive(master, fields.first_chunk().unwrap());
            prop_assert_eq!(cage.get(SECRETS, FileSecrets::LEN), secrets.expose());
        }
    }

    #[test]
    fn addresses_that_are_not_mapped_are_told() {
        let cage = Fixture::new();
        for args in [
            [UNMAPPED, SECRETS],
            [REQUEST, UNMAPPED],
            [MAPPED_END - REQUEST_LEN as u64 + 1, SECRETS],
            [REQUEST, MAPPED_END - FileSecrets::LEN as u64 + 1],
            [u64::MAX, SECRETS],
            [REQUEST, u64::MAX - 3],
        ] {
            assert_eq!(cage.call(1109, &args), Err(Errno::FAULT), "{args:x?}");
        }
    }
}
