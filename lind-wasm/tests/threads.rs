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
