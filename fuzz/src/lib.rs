//! What the fuzz targets call, shared with the ordinary tests.

#[path = "../../lib/sealed/tests/it/entry.rs"]
pub mod sealed_entry;

#[path = "../../lib/sealed/tests/wire/entry.rs"]
pub mod wire_entry;

pub mod keys_entry {
    //! Entry points of the `keys` library.

    /// Any bytes as the contents of a key file.
    pub fn key_file(data: &[u8]) {
        match keys::key_file::parse(data) {
            Ok(key) => assert_eq!(key.expose_secret().as_slice(), data),
            Err(_) => assert_ne!(data.len(), 32),
        }
    }
}
