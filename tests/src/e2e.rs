//! The end-to-end test runner.

use e2e::fixture::{Fixture, Run, repository};
use e2e::manifest::{self, Grate, Test};
use libtest_mimic::{Arguments, Failed, Trial};
use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

fn main() {
    let arguments = Arguments::from_args();
    let trials = match listed() {
        Ok(mut trials) => {
            trials.extend(e2e::scenarios::trials());
            trials
        }
        Err(error) => {
            eprintln!("{error:#}");
            std::process::exit(1);
        }
    };
    if let Some(wrong) = arguments
        .filter
        .as_ref()
        .and_then(|name| unknown(name, &trials))
    {
        eprintln!("{wrong}");
        std::process::exit(1);
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// What to say where all tests of a grate are asked for, `NAME/`, and there are none: that is no
/// success.
fn unknown(name: &str, trials: &[Trial]) -> Option<String> {
    let mut names = trials.iter().map(Trial::name);
    if !name.ends_with('/') || names.any(|known| known.contains(name)) {
        return None;
    }
    let groups = trials
        .iter()
        .filter_map(|trial| trial.name().split_once('/'));
    let groups: BTreeSet<&str> = groups.map(|(group, _)| group).collect();
    let name = name.trim_end_matches('/');
    let groups = Vec::from_iter(groups).join(", ");
    Some(format!(
        "there are no tests of {name:?}; there are those of {groups}"
    ))
}

/// The tests of the list, each in the ordinary and in the strict mode of the runtime.
fn listed() -> anyhow::Result<Vec<Trial>> {
    let manifest = manifest::read_all(&repository())?;
    let mut trials = Vec::new();
    for mut grate in manifest.grates {
        let tests = std::mem::take(&mut grate.tests);
        let grate = Arc::new(grate);
        for test in tests {
            let test = Arc::new(test);
            for strict in [false, true] {
                let (grate, test) = (grate.clone(), test.clone());
                let mode = if strict { " (strict)" } else { "" };
                let mut name = format!("{}/{}{mode}", grate.name, test.program());
                if let Some(first) = test.grate_args.0.first() {
                    name = format!("{name} {first}");
                }
                let skip = grate.skip || test.skip;
                let trial = Trial::test(name, move || {
                    run_listed(&grate, &test, strict).map_err(|e| Failed::from(format!("{e:#}")))
                });
                trials.push(trial.with_ignored_flag(skip));
            }
        }
    }
    Ok(trials)
}

fn run_listed(grate: &Grate, test: &Test, strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let program = format!("{}.cwasm", test.program());
    let folder = repository().join(&grate.dir);
    for file in &test.files {
        let from = folder.join(file);
        let name = from.file_name().unwrap_or_default().to_owned();
        fs::copy(&from, fixture.path("").join(name))?;
    }
    if let Some(dir) = &test.lindfs_dir {
        fs::create_dir_all(fixture.path(dir))?;
        fs::copy(
            fixture.path("bin").join(&program),
            fixture.path(dir).join(&program),
        )?;
    }
    if let Some(key) = &test.key {
        fixture.make_key(key)?;
    }
    let mut args = vec![grate.program()];
    args.extend(test.grate_args.0.iter().cloned());
    args.push(program);
    args.extend(test.args.0.iter().cloned());
    let ran = fixture
        .start(&Run {
            strict,
            env: test.env.clone(),
            args,
            input: b"",
            timeout: Some(Duration::from_secs(test.timeout)),
            ..Run::default()
        })?
        .expect(0)?;
    if let Some(expected) = &test.stdout {
        anyhow::ensure!(
            ran.text().contains(expected),
            "standard output lacks {expected:?}:\n{}",
            ran.text()
        );
    }
    Ok(())
}
