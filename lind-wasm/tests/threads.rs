//! Threads: what they share, how each of them ends, and what their cage does then.

mod support;

use support::{Fixture, Ran, forking_program, grate_and_program};

/// Helpers of programs with threads. Each has its number at `$tid_at(index)`, from address 2048
/// on, and a stack of 4096 bytes from 0x11000 on.
const THREADS: &str = r#"
  (global $made (mut i32) (i32.const 0))
  (global $flags (mut i64) (i64.const 0x3d0f00))
  (func $tid_at (param $index i32) (result i32)
    (i32.add (i32.const 2048) (i32.mul (local.get $index) (i32.const 4))))
  (func $stack_of (param $index i32) (result i32)
    (i32.add (i32.const 0x12000) (i32.mul (local.get $index) (i32.const 0x1000))))
  ;; clone of the next thread: its number, 0 in the thread, or an error
  (func $spawn (result i32)
    (i64.store (i32.const 1024) (global.get $flags))
    (i64.store (i32.const 1040) (call $at (call $tid_at (global.get $made))))
    (i64.store (i32.const 1064) (i64.extend_i32_u (call $stack_of (global.get $made))))
    (i64.store (i32.const 1072) (i64.const 0x1000))
    (call $call (i32.const 56) (call $at (i32.const 1024)) (i64.const 0xdeadbeefdeadbeef) (i64.const 0xdeadbeefdeadbeef)))
  (func $leave (param $code i32)
    (drop (call $call (i32.const 60) (i64.extend_i32_s (local.get $code)) (i64.const 0) (i64.const 0))))
  (func $tell (param $at i32) (param $value i32)
    (i32.atomic.store (local.get $at) (local.get $value))
    (drop (call $futex (local.get $at) (i32.const 1) (i32.const 0x7fffffff))))
  (func $futex (param $at i32) (param $op i32) (param $value i32) (result i32)
    (call $as (call $id) (call $id) (i32.const 202) (call $at (local.get $at)) (call $id)
      (i64.extend_i32_s (local.get $op)) (call $id) (i64.extend_i32_s (local.get $value)) (call $id) (i64.const 0)))
  ;; Waits while there is `value` at `at`.
  (func $while (param $at i32) (param $value i32)
    (loop $again
      (if (i32.eq (i32.atomic.load (local.get $at)) (local.get $value)) (then
        (drop (call $futex (local.get $at) (i32.const 0) (local.get $value)))
        (br $again)))))
  ;; Waits until the number of a thread is cleared.
  (func $join (param $at i32) (local $tid i32)
    (loop $again
      (local.set $tid (i32.atomic.load (local.get $at)))
      (if (local.get $tid) (then
        (drop (call $futex (local.get $at) (i32.const 0) (local.get $tid)))
        (br $again)))))
  (func $gettid (result i32)
    (call $call (i32.const 186) (i64.const 0xdeadbeefdeadbeef) (i64.const 0xdeadbeefdeadbeef) (i64.const 0xdeadbeefdeadbeef)))
  (func $getpid (result i32)
    (call $call (i32.const 39) (i64.const 0xdeadbeefdeadbeef) (i64.const 0xdeadbeefdeadbeef) (i64.const 0xdeadbeefdeadbeef)))"#;

/// What a program with `count` threads does: each of them `thread`, and the first one `first` when
/// all are there. `$me` is the thread's index. Without `CLONE_CHILD_CLEARTID`, as on Lind, each
/// clears its number by itself.
fn body(count: u32, thread: &str, first: &str) -> String {
    format!(
        "(local $tid i32) (local $me i32) (local $n i32) (local $pid i32)
    (loop $more
      (if (i32.lt_u (global.get $made) (i32.const {count})) (then
        (local.set $tid (call $spawn))
        (if (global.get $saving) (then (return (i32.const 0))))
        (call $expect (i32.const 80) (i32.lt_s (local.get $tid) (i32.const 0)) (i32.const 0))
        (if (i32.eqz (local.get $tid)) (then
          (local.set $me (global.get $made))
          {thread}
          (call $tell (call $tid_at (local.get $me)) (i32.const 0))
          (call $leave (i32.const 0))
          unreachable))
        (global.set $made (i32.add (global.get $made) (i32.const 1)))
        (br $more))))
    {first}"
    )
}

fn threaded(more: &str, count: u32, thread: &str, first: &str) -> String {
    forking_program(&format!("{THREADS} {more}"), &body(count, thread, first))
}

const MODES: [&[&str]; 2] = [&[], &["--strict-lind"]];

/// Runs a program in both modes.
fn run(text: &str) -> [Ran; 2] {
    let fixture = Fixture::new();
    fixture.program("threads.wasm", text);
    MODES.map(|mode| fixture.run(&[mode, &["/bin/threads.wasm"]].concat()))
}

const COUNTS: &str = "
  (loop $count
    (drop (i32.atomic.rmw.add (i32.const 3000) (i32.const 1)))
    (br_if $count (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 100000))))";

const JOINS: &str = "
  (local.set $n (i32.const 0))
  (loop $next
    (call $join (call $tid_at (local.get $n)))
    (br_if $next (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (global.get $made))))";

#[test]
fn threads_share_their_memory_and_are_waited_for() {
    let first = format!(
        "{COUNTS} {JOINS}
        (call $expect (i32.const 1) (i32.atomic.load (i32.const 3000)) (i32.const 500000))"
    );
    for ran in run(&threaded("", 4, COUNTS, &first)) {
        assert_eq!(ran.code, 0, "{ran:?}");
    }
}

/// A WASI program with threads: `thread` is what each does, with its argument in `$arg` and its
/// number in `$tid`, `body` what the first one does.
fn wasi(thread: &str, body: &str) -> String {
    format!(
        r#"(module
  (import "wasi" "thread-spawn" (func $spawn (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 2 10 shared)
  (data (i32.const 512) "number 0 is here\0aone.txt")
  (func $expect (param $code i32) (param $got i32) (param $want i32)
    (if (i32.ne (local.get $got) (local.get $want)) (then (call $exit (local.get $code)))))
  ;; Says that one is done.
  (func $done
    (drop (i32.atomic.rmw.add (i32.const 64) (i32.const 1)))
    (drop (memory.atomic.notify (i32.const 64) (i32.const 1))))
  ;; Waits until so many are.
  (func $all (param $count i32) (local $now i32)
    (loop $again
      (local.set $now (i32.atomic.load (i32.const 64)))
      (if (i32.ne (local.get $now) (local.get $count)) (then
        (drop (memory.atomic.wait32 (i32.const 64) (local.get $now) (i64.const -1)))
        (br $again)))))
  (func (export "wasi_thread_start") (param $tid i32) (param $arg i32) (local $n i32) (local $at i32)
    {thread})
  (func (export "_start") (local $n i32)
    {body}))"#
    )
}

const SPAWN_FOUR: &str = "
  (loop $more
    (call $expect (i32.const 20) (i32.gt_s (call $spawn (local.get $n)) (i32.const 0)) (i32.const 1))
    (br_if $more (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 4))))";

#[test]
fn threads_of_wasi_programs_make_calls_at_once() {
    // Each writes its own line a hundred times, and opens a file that is not there by the root,
    // which the first of them to do so opens.
    let thread = r#"
      (local.set $at (i32.add (i32.const 1024) (i32.mul (local.get $arg) (i32.const 256))))
      (memory.copy (local.get $at) (i32.const 512) (i32.const 17))
      (i32.store8 (i32.add (local.get $at) (i32.const 7)) (i32.add (i32.const 48) (local.get $arg)))
      (i32.store (i32.add (local.get $at) (i32.const 100)) (local.get $at))
      (i32.store (i32.add (local.get $at) (i32.const 104)) (i32.const 17))
      (loop $again
        (call $expect (i32.const 2)
          (call $path_open (i32.const 3) (i32.const 0) (i32.const 529) (i32.const 7) (i32.const 0)
            (i64.const 2) (i64.const 0) (i32.const 0) (i32.add (local.get $at) (i32.const 120)))
          (i32.const 44))
        (call $expect (i32.const 3)
          (call $fd_write (i32.const 1) (i32.add (local.get $at) (i32.const 100)) (i32.const 1)
            (i32.add (local.get $at) (i32.const 112)))
          (i32.const 0))
        (call $expect (i32.const 4) (i32.load (i32.add (local.get $at) (i32.const 112))) (i32.const 17))
        (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 100))))
      (call $done)"#;
    let fixture = Fixture::new();
    let body = format!("{SPAWN_FOUR} (call $all (i32.const 4))");
    fixture.program("lines.wasm", &wasi(thread, &body));
    let ran = fixture.run(&["lines.wasm"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    for number in 0..4 {
        let line = format!("number {number} is here");
        let count = ran.out.lines().filter(|&got| got == line).count();
        assert_eq!(count, 100, "{number}");
    }
    assert_eq!(ran.out.lines().count(), 400);
}

#[test]
fn a_wasi_program_ends_with_all_of_its_threads() {
    let fixture = Fixture::new();
    let loops = "(loop $for_ever (br $for_ever))";
    let waits = "(drop (memory.atomic.wait32 (i32.const 80) (i32.const 0) (i64.const -1)))";
    let exits = "(if (i32.eq (local.get $arg) (i32.const 3)) (then (call $exit (i32.const 9))))";
    for (name, thread, body, code) in [
        // The first returns, whatever the others are at.
        ("returns", loops, SPAWN_FOUR.to_owned(), 0),
        ("returns", waits, SPAWN_FOUR.to_owned(), 0),
        // One ends all, whatever the first is at.
        (
            "exits",
            &*format!("{exits} {loops}"),
            format!("{SPAWN_FOUR} {loops}"),
            9,
        ),
        (
            "exits",
            &*format!("{exits} {waits}"),
            format!("{SPAWN_FOUR} {waits}"),
            9,
        ),
        ("traps", "unreachable", format!("{SPAWN_FOUR} {waits}"), 1),
    ] {
        fixture.program("ends.wasm", &wasi(thread, &body));
        let ran = fixture.run(&["ends.wasm"]);
        assert_eq!(ran.code, code, "{name} {thread}: {ran:?}");
    }
}

#[test]
fn threads_of_wasi_programs_end_where_the_limit_is() {
    let fixture = Fixture::new();
    let waits = "(drop (memory.atomic.wait32 (i32.const 80) (i32.const 0) (i64.const -1)))";
    let body = "
      (loop $more
        (if (i32.gt_s (call $spawn (i32.const 0)) (i32.const 0)) (then
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br $more))))
      (call $exit (local.get $n))";
    fixture.program("many.wasm", &wasi(waits, body));
    let ran = fixture.run(&["--max-threads", "5", "many.wasm"]);
    assert_eq!(ran.code, 5, "{ran:?}");
    let ran = fixture.run(&["--max-run-threads", "7", "many.wasm"]);
    assert_eq!(ran.code, 7, "{ran:?}");
    // One after another there is no end to them.
    let body = "
      (loop $more
        (call $expect (i32.const 2) (i32.gt_s (call $spawn (i32.const 0)) (i32.const 0)) (i32.const 1))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (call $all (local.get $n))
        (drop (call $yield))
        (br_if $more (i32.lt_u (local.get $n) (i32.const 300))))";
    fixture.program("each.wasm", &wasi("(call $done)", body));
    let ran = fixture.run(&["--max-threads", "40", "each.wasm"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let none = wasi("", "").replace("wasi_thread_start", "other");
    fixture.program("none.wasm", &none);
    let ran = fixture.run(&["none.wasm"]);
    assert!(ran.err.contains("has no `wasi_thread_start`"), "{ran:?}");
}

/// Pieces of programs with threads that end in different ways, and how their cage does.
#[test]
fn the_cage_ends_with_the_thread_that_ends_it_or_the_last_one() {
    const LOOPS: &str = "(loop $for_ever (br $for_ever))";
    const SLEEPS: &str = "(drop (call $futex (i32.const 3100) (i32.const 0) (i32.const 0)))";
    const WAITS: &str =
        "(drop (memory.atomic.wait32 (i32.const 3100) (i32.const 0) (i64.const -1)))";
    let other =
        |what: &str, then: &str| format!("(if (i32.eqz (local.get $me)) (then {what})) {then}");
    for others in [LOOPS, SLEEPS, WAITS] {
        for (name, thread, first, code) in [
            (
                "exit_group",
                other("(call $exit (i32.const 5))", others),
                others.to_owned(),
                5,
            ),
            ("a trap", other("unreachable", others), others.to_owned(), 1),
            (
                "the first's exit_group",
                others.to_owned(),
                "(call $exit (i32.const 6))".to_owned(),
                6,
            ),
        ] {
            for ran in run(&threaded("", 3, &thread, &first)) {
                assert_eq!(ran.code, code, "{name}, {others}: {ran:?}");
            }
        }
    }
    // The first thread is gone for long when the last one ends.
    let lasts = "(loop $yet
        (drop (call $call (i32.const 24) (i64.const 0xdeadbeefdeadbeef) (i64.const 0xdeadbeefdeadbeef) (i64.const 0xdeadbeefdeadbeef)))
        (br_if $yet (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 20000))))";
    for ran in run(&threaded(
        "",
        2,
        lasts,
        "(call $leave (i32.const 8)) unreachable",
    )) {
        assert_eq!(ran.code, 8, "{ran:?}");
    }
    // One thread alone may end so, too.
    for ran in run(&threaded(
        "",
        0,
        "",
        "(call $leave (i32.const 9)) unreachable",
    )) {
        assert_eq!(ran.code, 9, "{ran:?}");
    }
}

#[test]
fn numbers_of_threads_are_their_own() {
    // Each finds its number where it was told, and as the answer to gettid; no two have the same.
    let thread = "
      (call $expect (i32.const 2) (call $gettid) (i32.atomic.load (call $tid_at (local.get $me))))
      (call $expect (i32.const 3) (i32.ne (call $gettid) (call $getpid)) (i32.const 1))
      (drop (i32.atomic.rmw.add (i32.const 3000) (call $gettid)))";
    let first = format!(
        "(call $expect (i32.const 4) (call $gettid) (call $getpid)) {JOINS}
         (call $expect (i32.const 5) (i32.atomic.load (i32.const 3000)) (i32.const 9))"
    );
    let fixture = Fixture::new();
    // The first cage is number 1, hence they are 2, 3 and 4.
    fixture.program("numbers.wasm", &threaded("", 3, thread, &first));
    let ran = fixture.run(&["numbers.wasm"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    // The kernel clears the number where it is told to.
    let clears = "
      (call $expect (i32.const 6)
        (call $call (i32.const 218) (call $at (i32.const 3200)) (i64.const 0xdeadbeefdeadbeef) (i64.const 0xdeadbeefdeadbeef))
        (call $gettid))
      (i32.atomic.store (i32.const 3200) (call $gettid))
      (call $tell (i32.const 3300) (i32.const 1))
      (call $leave (i32.const 0))";
    let first = "
      (call $while (i32.const 3300) (i32.const 0))
      (call $join (i32.const 3200))
      (call $expect (i32.const 7) (i32.atomic.load (call $tid_at (i32.const 0))) (i32.const 2))";
    fixture.program("clears.wasm", &threaded("", 1, clears, first));
    let ran = fixture.run(&["clears.wasm"]);
    assert_eq!(ran.code, 0, "{ran:?}");
}

/// Each wrong `clone` has its errno, and the program goes on.
#[test]
fn what_can_not_be_a_thread_is_none() {
    const ARGS: &str = r#"
      (func $set (param $word i32) (param $value i64)
        (i64.store (i32.add (i32.const 1024) (i32.mul (i32.const 8) (local.get $word))) (local.get $value)))
      (func $good
        (call $set (i32.const 0) (i64.const 0x3d0f00)) (call $set (i32.const 1) (i64.const 0))
        (call $set (i32.const 2) (call $at (i32.const 2048))) (call $set (i32.const 3) (i64.const 0))
        (call $set (i32.const 4) (i64.const 0)) (call $set (i32.const 5) (i64.const 0x12000))
        (call $set (i32.const 6) (i64.const 0x1000)) (call $set (i32.const 9) (i64.const 0)))
      (func $try (param $word i32) (param $value i64) (result i32)
        (call $good)
        (call $set (local.get $word) (local.get $value))
        (call $call (i32.const 56) (call $at (i32.const 1024)) (i64.const 0xdeadbeefdeadbeef) (i64.const 0xdeadbeefdeadbeef)))"#;
    let tries = [
        // Word, value, errno.
        (0, "0x103d0f00", 22), // A name space of its own.
        (0, "0x10100", 22),    // CLONE_THREAD without CLONE_SIGHAND.
        (0, "0x10000", 22),    // Nor without memory in common,
        (0, "0x800", 22),      // nor CLONE_SIGHAND.
        (4, "17", 22),         // A signal at its end.
        (9, "1", 22),          // A number of its choice.
        (5, "0", 22),          // No stack, or one without a length,
        (6, "0", 22),
        (6, "0x13000", 22), // or longer than what lies below it,
        (5, "0x100001000", 22),
        (5, "0xf0000000", 14), // or nowhere.
    ];
    let mut body = String::new();
    for (index, (word, value, errno)) in tries.iter().enumerate() {
        body += &format!(
            "(call $expect (i32.const {}) (call $try (i32.const {word}) (i64.const {value})) (i32.const -{errno}))\n",
            index + 1
        );
    }
    body += "
      (call $expect (i32.const 30) (call $try (i32.const 2) (call $at (i32.const 0xf0000000))) (i32.const -14))
      (call $expect (i32.const 31)
        (call $call (i32.const 56) (call $at (i32.const 0xf0000000)) (i64.const 0xdeadbeefdeadbeef) (i64.const 0xdeadbeefdeadbeef))
        (i32.const -14))";
    for ran in run(&forking_program(&format!("{THREADS} {ARGS}"), &body)) {
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    // A stack that what is saved does not fit on: the thread is not made, and the caller is told.
    let small = threaded("", 1, "", "").replace(
        "(i64.const 0x1000))\n    (call $call",
        "(i64.const 4))\n    (call $call",
    );
    for ran in run(&small) {
        assert_eq!(ran.code, 80, "{ran:?}");
    }
    let fixture = Fixture::new();
    let small = small.replace(
        "(call $expect (i32.const 80)",
        "(return (i32.sub (i32.const 0) (local.get $tid))) (call $expect (i32.const 80)",
    );
    fixture.program("small.wasm", &small);
    assert_eq!(fixture.run(&["small.wasm"]).code, 22);
}

#[test]
fn futexes_answer_as_the_kernels_do() {
    let time = "(i64.store (i32.const 3400) (i64.const 0)) (i64.store (i32.const 3408) (i64.const 2000000))";
    let timed = |at: &str, op: &str, value: &str, time: &str| {
        format!(
            "(call $as (call $id) (call $id) (i32.const 202) {at} (call $id) (i64.const {op}) (call $id) (i64.const {value}) (call $id) {time})"
        )
    };
    let (word, none) = ("(call $at (i32.const 3000))", "(i64.const 0)");
    let soon = "(call $at (i32.const 3400))";
    let nowhere = "(call $at (i32.const 0xf0000000))";
    let cases = [
        (timed(word, "0", "1", none), -11),    // Another value: EAGAIN.
        (timed(word, "0", "0", soon), -110),   // ETIMEDOUT
        (timed(word, "128", "0", soon), -110), // Private.
        (timed(word, "1", "9", none), 0),      // Nobody is woken.
        (timed("(call $at (i32.const 3001))", "0", "0", none), -22),
        (timed(nowhere, "0", "0", none), -14),
        (timed(word, "0", "0", nowhere), -14),
        (timed(word, "6", "0", none), -38), // Locks of priority are not served.
        (timed(word, "77", "0", none), -38),
    ];
    let mut body = time.to_owned();
    for (index, (call, want)) in cases.iter().enumerate() {
        body += &format!(
            "(call $expect (i32.const {}) {call} (i32.const {want}))\n",
            index + 1
        );
    }
    // No length of time.
    body += "(i64.store (i32.const 3408) (i64.const 1000000000))";
    body += &format!(
        "(call $expect (i32.const 20) {} (i32.const -22))",
        timed(word, "0", "0", soon)
    );
    for ran in run(&threaded("", 0, "", &body)) {
        assert_eq!(ran.code, 0, "{ran:?}");
    }
}

#[test]
fn threads_end_where_the_limit_is_and_room_comes_back() {
    let fixture = Fixture::new();
    let waits = "(call $while (i32.const 3000) (i32.const 0))";
    // Three are there; a fourth is refused, until they have ended.
    let first = format!(
        "(call $expect (i32.const 1) (call $spawn) (i32.const -11))
         (call $tell (i32.const 3000) (i32.const 1))
         {JOINS}"
    );
    fixture.program("three.wasm", &threaded("", 3, waits, &first));
    for limit in ["--max-threads", "--max-run-threads"] {
        let ran = fixture.run(&[limit, "3", "three.wasm"]);
        assert_eq!(ran.code, 0, "{limit}: {ran:?}");
    }
    // The kernel clears a number once there is room again.
    let first = "
      (loop $next
        (call $join (call $tid_at (i32.const 0)))
        (if (i32.lt_u (local.tee $n (i32.add (global.get $round) (i32.const 1))) (i32.const 200)) (then
          (global.set $round (local.get $n))
          (global.set $made (i32.const 0))
          (br $more))))";
    let text = threaded(
        "(global $round (mut i32) (i32.const 0))",
        1,
        "(call $leave (i32.const 0))",
        "",
    )
    .replace("(br $more))))", &format!("{first} (br $more))))"));
    fixture.program("again.wasm", &text);
    let ran = fixture.run(&["--max-threads", "1", "again.wasm"]);
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn a_grate_sees_the_calls_of_threads_as_the_cages() {
    // The handler of getpid answers by how often it was called; the caller is the cage.
    let handler = "
      (if (i64.eqz (local.get $c1)) (then (return (i32.const -1))))
      (i32.add (i32.const 1000) (i32.atomic.rmw.add (i32.const 3500) (i32.const 1)))";
    let thread = "
      (loop $again
        (call $expect (i32.const 2) (i32.ge_s (call $getpid) (i32.const 1000)) (i32.const 1))
        (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1000))))";
    let first = format!("{JOINS} (call $expect (i32.const 3) (call $getpid) (i32.const 4000))");
    let program = body(3, thread, &first).replace(
        "(local $tid i32) (local $me i32) (local $n i32) (local $pid i32)",
        "",
    );
    let text = grate_and_program(&[39], THREADS, handler, &program).replace(
        "(local $pid i32) (local $child i64) (local $r i32)",
        "(local $pid i32) (local $child i64) (local $r i32) (local $tid i32) (local $me i32) (local $n i32)",
    );
    for ran in run(&text) {
        assert_eq!(ran.code, 0, "{ran:?}");
    }
}

#[test]
fn what_lind_does_otherwise_strict_mode_does_too() {
    let fixture = Fixture::new();
    // A thread's fork, and a thread without a place for its number.
    let fork = "(call $expect (i32.const 2)
        (call $call (i32.const 56) (i64.const 0) (i64.const 0xdeadbeefdeadbeef) (i64.const 0xdeadbeefdeadbeef))
        (i32.const -1))";
    let nowhere = format!(
        "{JOINS}
         (i64.store (i32.const 1040) (i64.const 0))
         (call $expect (i32.const 3)
           (call $call (i32.const 56) (call $at (i32.const 1024)) (i64.const 0xdeadbeefdeadbeef) (i64.const 0xdeadbeefdeadbeef))
           (i32.const -1))"
    );
    fixture.program("forks.wasm", &threaded("", 1, fork, &nowhere));
    let ran = fixture.run(&["--strict-lind", "/bin/forks.wasm"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    // The number is not cleared where a thread does not do so itself.
    let first = "
      (call $while (i32.const 3000) (i32.const 0))
      (loop $yet
        (drop (call $call (i32.const 24) (i64.const 0xdeadbeefdeadbeef) (i64.const 0xdeadbeefdeadbeef) (i64.const 0xdeadbeefdeadbeef)))
        (br_if $yet (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 5000))))
      (call $expect (i32.const 4) (i32.eqz (i32.atomic.load (call $tid_at (i32.const 0)))) (i32.const 0))";
    let thread =
        "(call $tell (i32.const 3000) (i32.const 1)) (call $leave (i32.const 0)) unreachable";
    fixture.program("stays.wasm", &threaded("", 1, thread, first));
    let ran = fixture.run(&["--strict-lind", "/bin/stays.wasm"]);
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn threads_without_an_end_end_with_their_cage() {
    // Each makes threads by itself, on stacks that others have too, while the first ends the cage
    // or becomes another program.
    let bomb = r#"
      (loop $for_ever
        (local.set $tid (call $spawn))
        (if (global.get $saving) (then (return (i32.const 0))))
        (br_if $for_ever (local.get $tid)))"#;
    let fixture = Fixture::new();
    fixture.program(
        "other.wasm",
        &support::lind_program("", "(call $exit (i32.const 9))"),
    );
    let exec =
        "(drop (call $call (i32.const 59) (call $at (i32.const 1500)) (i64.const 0) (i64.const 0)))
      (call $exit (i32.const 2))";
    let more = r#"(data (i32.const 1500) "/bin/other.wasm\00")"#;
    for (first, code) in [("(call $exit (i32.const 5))", 5), (exec, 9)] {
        let ends = format!("(if (i32.eq (global.get $made) (i32.const 1)) (then {first}))");
        let text = threaded(more, 1, "(loop $spin (br $spin))", &ends);
        // The threads go on making threads in place of what they would do.
        let text = text.replace("(loop $spin (br $spin))", bomb);
        fixture.program("bomb.wasm", &text);
        for mode in MODES {
            for _ in 0..5 {
                let args = [mode, &["--max-run-threads", "60", "/bin/bomb.wasm"]].concat();
                let ran = fixture.run(&args);
                // Threads on one stack may also trap before.
                assert!(ran.code == code || ran.code == 1, "{ran:?}");
            }
        }
    }
}

#[test]
fn memory_that_goes_while_calls_use_it_is_an_error_or_there() {
    // The thread maps and unmaps a page; the first reads and writes there by calls of all kinds.
    const PAGE: &str = "(i64.const 0x40000000)";
    let map = format!(
        "(call $sys (i32.const 9) (i64.const 0) (call $id) (call $id) {PAGE} (call $id)
          (i64.const 4096) (call $id) (i64.const 3) (call $id) (i64.const 0x32) (call $id)
          (i64.const -1) (call $id) (i64.const 0) (call $id))"
    );
    let at = "(call $at (i32.const 0x40000000))";
    let thread = format!(
        "(loop $again
           (call $expect (i32.const 2) {map} (i32.const 0x40000000))
           (call $expect (i32.const 3) (call $call (i32.const 11) {at} (i64.const 4096) (i64.const 0xdeadbeefdeadbeef)) (i32.const 0))
           (br_if $again (i32.eqz (i32.atomic.load (i32.const 3000)))))"
    );
    let unused = "(i64.const 0xdeadbeefdeadbeef)";
    let calls = [
        format!("(call $call (i32.const 79) {at} (i64.const 4096) {unused})"), // getcwd
        format!("(call $call (i32.const 228) (i64.const 1) {at} {unused})"),   // clock_gettime
        format!("(call $call (i32.const 4) {at} {at} {unused})"),              // stat
        format!("(call $call (i32.const 22) {at} {unused} {unused})"),         // pipe
        format!("(call $call (i32.const 318) {at} (i64.const 4096) (i64.const 0))"), // getrandom
        format!("(call $futex (i32.const 0x40000000) (i32.const 1) (i32.const 1))"),
        format!("(call $call (i32.const 1) (i64.const 9) {at} (i64.const 4096))"), // write
    ];
    let mut first = String::new();
    for call in &calls {
        first += &format!("(drop {call})\n");
    }
    let first = format!(
        "(loop $again {first}
           (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 3000))))
         (i32.atomic.store (i32.const 3000) (i32.const 1)) {JOINS}"
    );
    for ran in run(&threaded("", 1, &thread, &first)) {
        assert_eq!(ran.code, 0, "{ran:?}");
    }
}
