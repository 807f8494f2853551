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
            named("virtual descriptors for a whole program"),
            move || virtual_descriptors(strict),
        ));
        trials.push(trial(
            format!("strace-grate/shows the calls{mode}"),
            move || trace(strict),
        ));
    }
    trials.push(trial("runtime/as on Lind (strict)".to_owned(), as_on_lind));
    trials.push(trial(
        "runtime/a module without a name can't fork (strict)".to_owned(),
        nameless,
    ));
    trials
}

/// Where Lind does otherwise than Linux, strict mode does too.
fn as_on_lind() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let ran = run(&fixture, true, &["lind_facts.cwasm", "/tmp"])?.expect(0)?;
    anyhow::ensure!(ran.text() == "as on Lind\n", "{}", ran.text());
    // Under a grate that lets them pass they are the same.
    let args = ["geteuid-grate.cwasm", "lind_facts.cwasm", "/tmp"];
    run(&fixture, true, &args)?.expect(0)?;
    // Nor is it so elsewhere, or it would show nothing.
    run(&fixture, false, &["lind_facts.cwasm", "/tmp"])?.expect(1)?;
    Ok(())
}

/// Lind needs a module's name to make another instance of it.
fn nameless() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    for (name, is_refused) in [("", true), ("$forks", false)] {
        let text = format!(
            r#"(module {name}
                 (import "env" "memory" (memory 1 1 shared))
                 (import "lind" "lind-get-cage-id" (func $id (result i64)))
                 (import "lind" "make-syscall"
                   (func $call (param i32 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64)
                     (result i32)))
                 (global (export "epoch") (mut i64) (i64.const 0))
                 (global (export "__stack_pointer") (mut i32) (i32.const 4096))
                 (global (export "__stack_low") i32 (i32.const 64))
                 (func (export "asyncify_start_unwind") (param i32))
                 (func (export "asyncify_stop_unwind"))
                 (func (export "asyncify_start_rewind") (param i32) unreachable)
                 (func (export "asyncify_stop_rewind"))
                 (func $make (param i32 i64) (result i32)
                   (call $call (local.get 0) (i64.const 0) (call $id) (call $id)
                     (local.get 1) (call $id) (i64.const 0) (call $id) (i64.const 0) (call $id)
                     (i64.const 0) (call $id) (i64.const 0) (call $id) (i64.const 0) (call $id)))
                 (func (export "_start") (result i32)
                   ;; Without an argument it is a plain fork. It does not unwind, so that nothing
                   ;; comes of it.
                   (drop (call $make (i32.const 56) (i64.const 0)))
                   unreachable))"#
        );
        std::fs::write(fixture.path("bin/nameless.wasm"), wat::parse_str(text)?)?;
        let ran = run(&fixture, true, &["/bin/nameless.wasm"])?;
        let refused = ran.code == 70 && ran.err.contains("has no name");
        anyhow::ensure!(refused == is_refused, "{name:?}: {} {}", ran.code, ran.err);
    }
    Ok(())
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

/// Programs that use whatever there is, under a grate that translates every descriptor, as those written for Lind do.
fn virtual_descriptors(strict: bool) -> anyhow::Result<()> {
    for (program, said) in [
        (&["tour.cwasm", "/tmp"][..], "tour done"),
        (&["c_tour.cwasm", "/tmp"], "c tour done"),
        (&["socket_tour.cwasm", "/tmp"], "socket tour done"),
        (&["crowd.cwasm", "/tmp"], "8 children done"),
        (&["forker.cwasm"], "exit status 7"),
        (&["tcp_echo.cwasm"], "echo done"),
        (&["threads.cwasm", "count"], "counted"),
    ] {
        // As on Lind, an event of epoll tells the descriptor below there.
        if strict && matches!(program[0], "c_tour.cwasm" | "socket_tour.cwasm") {
            continue;
        }
        let fixture = Fixture::new()?;
        let args = [&["virtual_grate.cwasm"], program].concat();
        let ran = run(&fixture, strict, &args)?.expect(0)?;
        anyhow::ensure!(ran.text().contains(said), "{}: {}", program[0], ran.text());
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
