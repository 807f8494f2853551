//! A run ends when its cages have, whatever a program or a grate does about forks, execs and ends.

mod support;

use support::{Fixture, forking_program, grate_and_program, lind_program};

const FORK: &str = "(drop (call $call (i32.const 56) (i64.const 0) (i64.const 0) (i64.const 0)))";

/// The functions of asyncify, as they stand in the programs of the fixture.
const FUNCTIONS: [&str; 4] = [
    r#"(func (export "asyncify_start_unwind") (param i32) (global.set $saving (i32.const 1)))"#,
    r#"(func (export "asyncify_stop_unwind") (global.set $saving (i32.const 0)))"#,
    r#"(func (export "asyncify_start_rewind") (param i32))"#,
    r#"(func (export "asyncify_stop_rewind"))"#,
];

/// A program that forks, with `more` at the end of one of asyncify's functions.
fn with_function(function: &str, more: &str) -> String {
    let body = "(local $pid i32)
      (local.set $pid (call $fork))
      (if (global.get $saving) (then (return (i32.const 0))))
      (if (local.get $pid) (then (drop (call $wait (local.get $pid)))))";
    let text = forking_program("(global $twice (mut i32) (i32.const 0))", body);
    let changed = format!("{} {more})", function.strip_suffix(')').unwrap());
    assert!(text.contains(function));
    text.replace(function, &changed)
}

#[test]
fn calls_in_the_functions_that_save_a_stack_are_refused() {
    let fixture = Fixture::new();
    let calls = [
        FORK,
        "(call $exit (i32.const 3))",
        "(drop (call $call (i32.const 39) (i64.const 0xdeadbeefdeadbeef) (i64.const 0xdeadbeefdeadbeef) (i64.const 0xdeadbeefdeadbeef)))",
        // Once is enough to be refused.
        "(if (i32.eqz (global.get $twice)) (then (global.set $twice (i32.const 1)) (drop (call $fork))))",
    ];
    for function in FUNCTIONS {
        for call in calls {
            fixture.program("inside.wasm", &with_function(function, call));
            let ran = fixture.run(&["inside.wasm"]);
            assert_eq!(ran.code, 1, "{function} {call}: {ran:?}");
            assert!(
                ran.err.contains("asyncify's own functions"),
                "{function} {call}: {}",
                ran.err
            );
        }
        fixture.program("trap.wasm", &with_function(function, "unreachable"));
        let ran = fixture.run(&["trap.wasm"]);
        assert_eq!(ran.code, 1, "{function}: {ran:?}");
        assert!(ran.err.contains("unreachable"), "{}", ran.err);
    }
}

#[test]
fn a_program_that_goes_on_while_its_stack_is_saved_is_ended() {
    let fixture = Fixture::new();
    // The functions do nothing, so the program takes itself for the child.
    for then in ["(call $exit (i32.const 3))", FORK] {
        fixture.program("goes_on.wasm", &lind_program("", &format!("{FORK} {then}")));
        let ran = fixture.run(&["goes_on.wasm"]);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.err.contains("being saved for a fork"), "{}", ran.err);
    }
    // It traps, or is done with all it does, instead.
    fixture.program(
        "traps.wasm",
        &lind_program("", &format!("{FORK} unreachable")),
    );
    assert_eq!(fixture.run(&["traps.wasm"]).code, 1);
    let returns = lind_program("", &format!("{FORK} (return (i32.const 5))"));
    fixture.program("returns.wasm", &returns);
    assert_eq!(fixture.run(&["returns.wasm"]).code, 5);
}

#[test]
fn saving_and_restoring_without_a_fork_is_the_programs_own_affair() {
    let fixture = Fixture::new();
    fixture.program(
        "alone.wasm",
        &forking_program(
            "",
            "(global.set $saving (i32.const 1)) (return (i32.const 6))",
        ),
    );
    assert_eq!(fixture.run(&["alone.wasm"]).code, 6);
    // When it begins anew it never comes to the call again.
    let body = "(if (global.get $begun) (then (return (i32.const 7))))
      (global.set $begun (i32.const 1))
      (drop (call $fork))
      (if (global.get $saving) (then (return (i32.const 0))))";
    let more = "(global $begun (mut i32) (i32.const 0))";
    fixture.program("never.wasm", &forking_program(more, body));
    assert_eq!(fixture.run(&["never.wasm"]).code, 7);
}

#[test]
fn a_fork_in_a_start_function_is_no_fork() {
    let fixture = Fixture::new();
    let more = format!("(func $begin {FORK}) (start $begin)");
    fixture.program("start.wasm", &lind_program(&more, ""));
    let ran = fixture.run(&["start.wasm"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("start.wasm"), "{}", ran.err);
}

/// A call for the cage that called, in a handler.
fn for_caller(nr: u32, a: &str, b: &str, c: &str) -> String {
    format!(
        "(call $as (call $id) (local.get $c1) (i32.const {nr}) (i64.const {a}) (local.get $c1) (i64.const {b}) (local.get $c1) (i64.const {c}) (local.get $c1) (i64.const 0))"
    )
}

/// What the program does that the grate meddles with: it forks, and the child exits with 4.
const FORKS: &str = "
  (local.set $pid (call $fork))
  (if (global.get $saving) (then (return (i32.const 0))))
  (if (i32.eqz (local.get $pid)) (then (call $exit (i32.const 4))))";

fn under(handler: &str, numbers: &[u32], program: &str) -> support::Ran {
    let fixture = Fixture::new();
    let text = grate_and_program(numbers, "", handler, program);
    fixture.program("meddles.wasm", &text);
    fixture.run(&["meddles.wasm"])
}

#[test]
fn a_grate_that_meddles_with_a_fork_leaves_no_cage_behind() {
    let fork = for_caller(56, "0", "0", "0");
    let waits = format!(
        "{FORKS} (call $expect (i32.const 20) (call $wait (local.get $pid)) (i32.const 0x400))"
    );
    // Passed on twice: the second is refused, and the first is a fork.
    let twice = format!(
        "(local $pid i32) (local.set $pid {fork})
         (if (i32.ne {fork} (i32.const -11)) (then unreachable)) (local.get $pid)"
    );
    let ran = under(&twice, &[56], &waits);
    assert_eq!(ran.code, 0, "{ran:?}");
    // Passed on, then something else than its result.
    for answer in ["0", "-1", "-2147483648"] {
        let ran = under(
            &format!("(drop {fork}) (i32.const {answer})"),
            &[56],
            &waits,
        );
        assert_eq!(ran.code, 0, "{answer}: {ran:?}");
    }
    let ran = under(
        &format!("(drop {fork}) (i32.const 99999)"),
        &[56],
        &format!("{FORKS} (call $expect (i32.const 21) (local.get $pid) (i32.const 99999))"),
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    // Not passed on: no fork, whatever the answer.
    for answer in [99999, -1, i32::MIN] {
        let ran = under(
            &format!("(i32.const {answer})"),
            &[56],
            &format!("(call $expect (i32.const 22) (call $fork) (i32.const {answer}))"),
        );
        assert_eq!(ran.code, 0, "{answer}: {ran:?}");
    }
    // Passed on, then a trap: the calls of both cages are EIO, but their ends are their own.
    let ran = under(&format!("(drop {fork}) unreachable"), &[56], FORKS);
    assert_eq!(ran.code, 0, "{ran:?}");
    // Ended by another call before the fork is made.
    let end = format!("(drop {fork}) (drop {})", for_caller(231, "5", "0", "0"));
    let ran = under(&format!("{end} (i32.const 0)"), &[56], FORKS);
    assert!([0, 5].contains(&ran.code), "{ran:?}");
}

#[test]
fn an_exec_that_is_passed_on_twice_is_one() {
    let fixture = Fixture::new();
    fixture.program(
        "other.wasm",
        &lind_program("", "(call $exit (i32.const 9))"),
    );
    let exec = "(call $as (call $id) (local.get $c1) (i32.const 59) (local.get $a1) (local.get $c1) (local.get $a2) (local.get $c1) (local.get $a3) (local.get $c1) (i64.const 0))";
    let handler = format!(
        "(local $r i32) (local.set $r {exec})
         (if (i32.ne {exec} (i32.const -11)) (then unreachable)) (local.get $r)"
    );
    let more = r#"(data (i32.const 1024) "/bin/other.wasm\00")"#;
    let program =
        "(drop (call $call (i32.const 59) (call $at (i32.const 1024)) (i64.const 0) (i64.const 0)))
         (call $exit (i32.const 2))";
    fixture.program(
        "twice.wasm",
        &grate_and_program(&[59], more, &handler, program),
    );
    let ran = fixture.run(&["twice.wasm"]);
    assert_eq!(ran.code, 9, "{ran:?}");
}

#[test]
fn an_end_that_a_grate_makes_something_else_of_is_an_end() {
    let fork = for_caller(56, "0", "0", "0");
    let end = for_caller(231, "5", "0", "0");
    for handler in [
        // Kept to itself.
        "(i32.const 0)".to_owned(),
        format!("(drop {fork}) (i32.const 0)"),
        format!("(drop {end}) (drop {fork}) (drop {end}) (i32.const 0)"),
    ] {
        let ran = under(&handler, &[231], "(return (i32.const 5))");
        assert_eq!(ran.code, 5, "{handler}: {ran:?}");
    }
}

#[test]
fn a_parent_that_is_killed_while_it_forks_takes_the_child_along() {
    let fixture = Fixture::new();
    // It forks without end, and never waits; the first cage kills it.
    let program = "(loop $again
        (local.set $pid (call $fork))
        (if (global.get $saving) (then (return (i32.const 0))))
        (if (i32.eqz (local.get $pid)) (then (call $exit (i32.const 0))))
        (br $again))";
    let text = grate_and_program(&[1152], "", "(i32.const 0)", program).replace(
        "(local.set $r (call $wait (local.get $pid)))",
        "(drop (call $call (i32.const 62) (local.get $child) (i64.const 9) (i64.const 0)))
         (local.set $r (call $wait (local.get $pid)))",
    );
    fixture.program("killed.wasm", &text);
    for _ in 0..5 {
        let ran = fixture.run(&["killed.wasm"]);
        assert_eq!(ran.code, 128 + 9, "{ran:?}");
    }
}

/// Whatever it is that it waits for: bytes, or a signal.
#[test]
fn a_handler_that_waits_in_the_kernel_ends_with_its_grate() {
    const READ: &str =
        "(i32.const 0) (i64.load32_s (i32.const 1024)) (local.get $c1) (i64.const 3072)";
    const SIGSUSPEND: &str = "(i32.const 130) (i64.const 3072) (local.get $c1) (i64.const 0)";
    for call in [READ, SIGSUSPEND] {
        let ran = ends_while_its_handler_waits(call);
        assert_eq!((ran.code, &*ran.err), (3, ""), "{call}");
    }
}

/// A grate whose handler passes on a call of its program that waits for what never comes, and which
/// ends then. The program takes EIO, and nothing else.
fn ends_while_its_handler_waits(call: &str) -> support::Ran {
    let wait = format!(
        "(i32.atomic.store (i32.const 2048) (i32.const 1))
      (call $as (call $id) (local.get $c1) {call} (local.get $c1) (i64.const 1) (local.get $c1) (i64.const 0))"
    );
    let more = format!(
        r#"(table 2 funcref)
  (func (export "pass_fptr_to_wt")
    (param $handler i64) (param $grate i64) (param $a1 i64) (param $c1 i64) (param $a2 i64) (param $c2 i64)
    (param $a3 i64) (param $c3 i64) (param $a4 i64) (param $c4 i64) (param $a5 i64) (param $c5 i64)
    (param $a6 i64) (param $c6 i64) (result i32)
    {wait})
  (global $begun (mut i32) (i32.const 0))"#
    );
    let body = r#"(local $pid i32)
    (if (i32.eqz (global.get $begun)) (then
      (global.set $begun (i32.const 1))
      (call $expect (i32.const 10) (i32.const 0)
        (call $call (i32.const 22) (call $at (i32.const 1024)) (i64.const 0xdeadbeefdeadbeef) (i64.const 0xdeadbeefdeadbeef)))))
    (local.set $pid (call $fork))
    (if (global.get $saving) (then (return (i32.const 0))))
    (if (local.get $pid) (then
      (call $expect (i32.const 11) (i32.const 0)
        (call $as (call $id) (call $id) (i32.const 1001) (i64.extend_i32_s (local.get $pid)) (i64.const 1150) (i64.const 0) (call $id) (i64.const 1) (call $id) (i64.const 0)))
      (loop $not_yet
        (drop (call $call (i32.const 24) (i64.const 0xdeadbeefdeadbeef) (i64.const 0xdeadbeefdeadbeef) (i64.const 0xdeadbeefdeadbeef)))
        (br_if $not_yet (i32.eqz (i32.atomic.load (i32.const 2048)))))
      (call $exit (i32.const 3))))
    (loop $not_yet
      (local.set $pid (call $call (i32.const 1150) (i64.const 0) (i64.const 0) (i64.const 0)))
      (br_if $not_yet (i32.eq (local.get $pid) (i32.const -38))))
    (if (i32.ne (local.get $pid) (i32.const -5)) (then unreachable))"#;
    let fixture = Fixture::new();
    fixture.program("waits.wasm", &support::forking_program(&more, body));
    fixture.run(&["waits.wasm"])
}
