//! The runtime by itself, and the small grates.

use super::trial;
use crate::fixture::{Fixture, Run};
use libtest_mimic::Trial;

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for strict in [false, true] {
        let mode = if strict { " (strict)" } else { "" };
        let named = |what: &str| format!("runtime/{what}{mode}");
        trials.push(trial(named("arguments, environment, status"), move || {
            arguments(strict)
        }));
        trials.push(trial(named("fork, pipes, exec, wait"), move || {
            processes(strict)
        }));
        trials.push(trial(
            named("a program can't get away from its grate"),
            move || escapes(strict),
        ));
        trials.push(trial(
            named("a grate that is gone fails closed"),
            move || fails_closed(strict),
        ));
        trials.push(trial(named("kills"), move || kills(strict)));
        trials.push(trial(
            format!("strace-grate/shows the calls{mode}"),
            move || trace(strict),
        ));
    }
    trials
}

fn run(fixture: &Fixture, strict: bool, args: &[&str]) -> anyhow::Result<crate::fixture::Ran> {
    fixture.start(&Run {
        strict,
        env: vec!["COLOUR=blue".to_owned()],
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        ..Run::default()
    })
}

fn arguments(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    for grates in [&[][..], &["geteuid-grate.cwasm", "geteuid-grate.cwasm"]] {
        let args = [grates, &["hello.cwasm", "one", "--two", ""]].concat();
        let ran = run(&fixture, strict, &args)?.expect(0)?;
        for part in ["one", "--two", "COLOUR", "blue"] {
            anyhow::ensure!(
                ran.text().contains(part),
                "{part} is missing: {}",
                ran.text()
            );
        }
        run(&fixture, strict, &[grates, &["ends.cwasm", "42"]].concat())?.expect(42)?;
    }
    Ok(())
}

fn processes(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    for grates in [&[][..], &["geteuid-grate.cwasm"]] {
        run(&fixture, strict, &[grates, &["forker.cwasm"]].concat())?.expect(0)?;
        let ran = run(&fixture, strict, &[grates, &["spawner.cwasm"]].concat())?.expect(0)?;
        // Its children, forked and exec'ed, are under the same grate.
        let tens = ran.text().lines().filter(|line| *line == "10").count();
        anyhow::ensure!(
            tens == if grates.is_empty() { 0 } else { 2 },
            "{}",
            ran.text()
        );
    }
    Ok(())
}

fn trace(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    std::fs::write(fixture.path("file"), "content")?;
    let ran = run(
        &fixture,
        strict,
        &["strace-grate.cwasm", "show.cwasm", "/file"],
    )?
    .expect(0)?;
    anyhow::ensure!(ran.text() == "content", "{}", ran.text());
    for part in ["\"/file\"", "read(", "= 7"] {
        anyhow::ensure!(ran.err.contains(part), "{part} is missing:\n{}", ran.err);
    }
    let ran = run(
        &fixture,
        strict,
        &["strace-grate.cwasm", "show.cwasm", "/none"],
    )?
    .expect(1)?;
    anyhow::ensure!(ran.err.contains("ENOENT"), "{}", ran.err);
    Ok(())
}

fn escapes(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    for grates in [
        &["geteuid-grate.cwasm"][..],
        &["geteuid-grate.cwasm", "geteuid-grate.cwasm"],
    ] {
        run(&fixture, strict, &[grates, &["escape.cwasm"]].concat())?.expect(0)?;
    }
    Ok(())
}

fn fails_closed(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    for how in ["trap", "exit", "kill"] {
        run(&fixture, strict, &["dying_grate.cwasm", how])?.expect(0)?;
    }
    Ok(())
}

fn kills(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    run(&fixture, strict, &["kills.cwasm"])?.expect(0)?;
    run(&fixture, strict, &["geteuid-grate.cwasm", "kills.cwasm"])?.expect(0)?;
    // The calls that the children are in come from a grate.
    run(&fixture, strict, &["strace-grate.cwasm", "kills.cwasm"])?.expect(0)?;
    Ok(())
}
