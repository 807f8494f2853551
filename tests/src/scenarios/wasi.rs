//! A WASI program in C, built with a stock toolchain that knows nothing of Lind.

use super::trial;
use crate::fixture::{Fixture, compile_for_wasi};
use libtest_mimic::Trial;

pub(super) fn trials() -> Vec<Trial> {
    [
        ("plain", &[][..]),
        (
            "under crypt-grate",
            &["crypt-grate.cwasm", "--key", "/k.bin"],
        ),
        (
            "under crypt-grate, a subtree",
            &["crypt-grate.cwasm", "--key", "/k.bin", "--encrypt", "/tmp"],
        ),
        (
            "under write-filter-grate",
            &[
                "write-filter-grate.cwasm",
                "--redact",
                "aws",
                "--deny-write",
                "/etc/**",
            ],
        ),
        ("under strace-grate", &["strace-grate.cwasm"]),
    ]
    .into_iter()
    .map(|(name, grates)| trial(format!("wasi/a tour of libc in C, {name}"), || tour(grates)))
    .collect()
}

fn tour(grates: &[&str]) -> anyhow::Result<()> {
    /// What the tour ends with when all went well.
    const DONE: i32 = 7;
    let fixture = Fixture::new()?;
    fixture.make_key("k.bin")?;
    compile_for_wasi("tour.c", &fixture.path("bin/tour.wasm"), &[])?;
    let ran = fixture.run(&[grates, &["tour.wasm", "one", "two words"]].concat())?;
    ran.expect(DONE).map(drop)
}
