//! Tests of sealed connections from outside: two ends joined in memory, and who sits between.

#![expect(clippy::duplicate_mod, reason = "the same tests, for each cipher")]

mod datagrams;
mod entry;
mod hostile;
mod offers;
mod vectors;

use entry::Offers;

/// What holds whatever the cipher, with ends that agree on one.
macro_rules! suite {
    ($name:ident, $aead:expr) => {
        #[path = "."]
        mod $name {
            pub type Aead = crate::Offers;
            pub const AEAD: Aead = $aead;

            mod exchange;
            mod memory;
            pub mod support;
            mod tamper;
        }
    };
}

suite!(chacha20_poly1305, crate::Offers(false));
suite!(aes_256_gcm, crate::Offers(true));
