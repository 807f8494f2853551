//! Grates over grates.

use super::trial;
use crate::fixture::{Fixture, Run};
use libtest_mimic::Trial;
use std::fs;

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for strict in [false, true] {
        let mode = if strict { " (strict)" } else { "" };
        trials.push(trial(
            format!("stacks/filter over crypt{mode}"),
            move || {
                both(
                    &[
                        "write-filter-grate.cwasm",
                        "crypt-grate.cwasm",
                        "--key",
                        "/k.bin",
                    ],
                    strict,
                )
            },
        ));
        trials.push(trial(
            format!("stacks/crypt over filter{mode}"),
            move || {
                both(
                    &[
                        "crypt-grate.cwasm",
                        "--key",
                        "/k.bin",
                        "write-filter-grate.cwasm",
                    ],
                    strict,
                )
            },
        ));
    }
    trials
}

/// Whatever the order, `.log` files are sealed and others can't be written.
fn both(grates: &[&str], strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fixture.make_key("k.bin")?;
    let input = b"a line that must not be on the disk in the clear\n".repeat(200);
    let start = |program: &[&str], input: &[u8]| {
        fixture.start(&Run {
            strict,
            args: [grates, program]
                .concat()
                .into_iter()
                .map(str::to_owned)
                .collect(),
            input,
            ..Run::default()
        })
    };
    start(&["keep.cwasm", "/tmp/a.log"], &input)?.expect(0)?;
    start(&["keep.cwasm", "/tmp/a.txt"], &input)?.expect(1)?;
    let shown = start(&["show.cwasm", "/tmp/a.log"], b"")?.expect(0)?;
    anyhow::ensure!(shown.out == input, "the log reads back differently");
    fixture.ensure_nowhere(&input)?;
    let sealed = fs::read(fixture.path("tmp/a.log"))?;
    anyhow::ensure!(sealed.starts_with(b"\xA7sealed"), "the log is not sealed");
    anyhow::ensure!(
        fs::metadata(fixture.path("tmp/a.txt")).map_or(0, |file| file.len()) == 0,
        "the refused file has content"
    );
    Ok(())
}
