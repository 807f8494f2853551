//! Tests that look at more than one run, or at what lies on the disk.

mod c;
pub mod clamps;
pub mod crypt;
pub mod dist;
pub mod guards;
pub mod hostile;
pub mod http;
pub mod kills;
pub mod limits;
pub mod model;
pub mod mutexes;
pub mod redaction;
pub mod redaction_model;
pub mod rules;
pub mod runtime;
pub mod sealed_net;
pub mod segments;
pub mod signals;
mod sockets;
pub mod sqlite;
pub mod stacks;
mod templates;
pub mod threads;
pub mod wasi;
pub mod wire;

use libtest_mimic::{Failed, Trial};

/// A named test.
fn trial(name: String, test: impl FnOnce() -> anyhow::Result<()> + Send + 'static) -> Trial {
    Trial::test(name, move || {
        test().map_err(|error| Failed::from(format!("{error:#}")))
    })
}

/// All of them.
pub fn trials() -> Vec<Trial> {
    [
        c::trials(),
        clamps::trials(),
        crypt::trials(),
        dist::trials(),
        guards::trials(),
        hostile::trials(),
        http::trials(),
        kills::trials(),
        limits::trials(),
        model::trials(),
        mutexes::trials(),
        redaction::trials(),
        redaction_model::trials(),
        rules::trials(),
        runtime::trials(),
        sealed_net::trials(),
        segments::trials(),
        signals::trials(),
        sockets::trials(),
        sqlite::trials(),
        stacks::trials(),
        templates::trials(),
        threads::trials(),
        wasi::trials(),
        wire::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
