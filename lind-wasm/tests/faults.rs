//! What a program does to its memory ends at most that program.

mod support;

use support::{Fixture, forking_program, grate_and_program, lind_program};

/// Where nothing is mapped, far from what is.
const NOWHERE: &str = "(i32.const 0x80000000)";

fn trapped(text: &str, modes: &[&[&str]], reason: &str) {
    let fixture = Fixture::new();
    fixture.program("fault.wasm", text);
    for strict in modes {
        let ran = fixture.run(&[strict, &["/bin/fault.wasm"][..]].concat());
        assert_eq!(ran.code, 1, "{text}: {ran:?}");
        assert!(
            ran.err.contains("fault.wasm") && ran.err.contains(reason),
            "{text}: {}",
            ran.err
        );
    }
}

const BOTH: &[&[&str]] = &[&[], &["--strict-lind"]];

#[test]
fn bulk_and_waiting_instructions_trap_where_nothing_is_mapped() {
    for len in ["1", "7", "16", "100", "2048", "2049", "100000"] {
        for instruction in [
            format!("(memory.fill {NOWHERE} (i32.const 1) (i32.const {len}))"),
            format!("(memory.copy {NOWHERE} (i32.const 0) (i32.const {len}))"),
            format!("(memory.copy (i32.const 0) {NOWHERE} (i32.const {len}))"),
            // The first bytes are mapped.
            format!(
                "(memory.fill (i32.const 131071) (i32.const 1) (i32.const {len}))
                     (memory.fill (i32.const 131072) (i32.const 1) (i32.const {len}))"
            ),
            // Over the end of the address space.
            format!(
                "(memory.copy (i32.const 0) (i32.const -1) (i32.add (i32.const 1) (i32.const {len})))"
            ),
            format!(
                "(memory.fill (i32.const -1) (i32.const 0) (i32.add (i32.const 1) (i32.const {len})))"
            ),
        ] {
            trapped(&lind_program("", &instruction), BOTH, "out of bounds");
        }
    }
    for instruction in [
        "(memory.init $d {} (i32.const 0) (i32.const 4))",
        "(memory.init $d (i32.const 0) (i32.const 1) (i32.const 4))",
        "(data.drop $d) (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1))",
        "(drop (memory.atomic.wait32 {} (i32.const 0) (i64.const 1000)))",
        "(drop (memory.atomic.wait64 {} (i64.const 0) (i64.const 1000)))",
        "(drop (memory.atomic.notify {} (i32.const 1)))",
        "(drop (memory.atomic.wait32 offset=0xffffffff (i32.const 1) (i32.const 0) (i64.const 0)))",
    ] {
        let body = instruction.replace("{}", NOWHERE);
        trapped(
            &lind_program("(data $d \"abcd\")", &body),
            BOTH,
            "out of bounds",
        );
    }
    let odd = "(drop (memory.atomic.wait32 (i32.const 2) (i32.const 0) (i64.const 0)))";
    trapped(&lind_program("", odd), BOTH, "unaligned");
    let data = r#"(data (i32.const 0x20000) "beyond the initial pages")"#;
    trapped(&lind_program(data, ""), BOTH, "out of bounds");
}

#[test]
fn a_program_that_grows_its_memory_traps_at_its_end() {
    for instruction in [
        "(memory.fill (i32.const 65535) (i32.const 1) (i32.const 2))",
        "(memory.copy (i32.const 0) (i32.const 65530) (i32.const 4000))",
        "(memory.copy (i32.const 65537) (i32.const 0) (i32.const 0))",
        "(drop (memory.atomic.notify (i32.const 65536) (i32.const 1)))",
    ] {
        let text = format!(
            r#"(module (memory (export "memory") 1 2) (func (export "_start") {instruction}))"#
        );
        trapped(&text, &[&[]], "out of bounds");
    }
    let fixture = Fixture::new();
    fixture.program(
        "grow.wasm",
        r#"(module (memory (export "memory") 1 2) (func (export "_start")
             (if (i32.ne (memory.grow (i32.const 1)) (i32.const 1)) (then unreachable))
             (memory.fill (i32.const 65530) (i32.const 7) (i32.const 5000))
             (if (i32.ne (i32.load8_u (i32.const 70529)) (i32.const 7)) (then unreachable))
             (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))))"#,
    );
    let ran = fixture.run(&["grow.wasm"]);
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn copies_and_fills_are_those_of_the_specification() {
    let fixture = Fixture::new();
    // The same is done to the bytes at A by the instruction and at B byte by byte.
    let more = r#"
  (global $A i32 (i32.const 16384)) (global $B i32 (i32.const 49152))
  (func $reset (local $i i32) (local $v i32)
    (loop $next
      (local.set $v (i32.add (i32.mul (local.get $i) (i32.const 31)) (i32.shr_u (local.get $i) (i32.const 8))))
      (i32.store8 (i32.add (global.get $A) (local.get $i)) (local.get $v))
      (i32.store8 (i32.add (global.get $B) (local.get $i)) (local.get $v))
      (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 8192)))))
  (func $same (param $code i32) (local $i i32)
    (loop $next
      (call $expect (local.get $code)
        (i32.load (i32.add (global.get $A) (local.get $i))) (i32.load (i32.add (global.get $B) (local.get $i))))
      (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 4))) (i32.const 8192)))))
  (func $copy (param $d i32) (param $s i32) (param $n i32) (local $i i32)
    (call $reset)
    (memory.copy (i32.add (global.get $A) (local.get $d)) (i32.add (global.get $A) (local.get $s)) (local.get $n))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (if (i32.lt_u (local.get $d) (local.get $s))
        (then (i32.store8
          (i32.sub (i32.add (i32.add (global.get $B) (local.get $d)) (local.get $i)) (i32.const 1))
          (i32.load8_u (i32.sub (i32.add (i32.add (global.get $B) (local.get $s)) (local.get $i)) (i32.const 1)))))
        (else (i32.store8
          (i32.sub (i32.add (i32.add (global.get $B) (local.get $d)) (local.get $n)) (local.get $i))
          (i32.load8_u (i32.sub (i32.add (i32.add (global.get $B) (local.get $s)) (local.get $n)) (local.get $i))))))
      (br $next)))
    (call $same (i32.const 1)))
  (func $fill (param $d i32) (param $v i32) (param $n i32) (local $i i32)
    (call $reset)
    (memory.fill (i32.add (global.get $A) (local.get $d)) (local.get $v) (local.get $n))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
      (i32.store8 (i32.add (i32.add (global.get $B) (local.get $d)) (local.get $i)) (local.get $v))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
    (call $same (i32.const 2)))"#;
    let mut body = String::new();
    for len in (0..=80).chain([127, 128, 129, 200, 2047, 2048, 2049, 3000]) {
        body += &format!("(call $fill (i32.const {len}) (i32.const 0x1a5) (i32.const {len}))\n");
        for apart in [-70, -16, -15, -1, 0, 1, 8, 17, 64, 100] {
            let to = 100 + apart;
            body += &format!("(call $copy (i32.const {to}) (i32.const 100) (i32.const {len}))\n");
        }
    }
    fixture.program("bulk.wasm", &lind_program(more, &body));
    let ran = fixture.run(&["bulk.wasm"]);
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn waits_answer_as_the_specification_says() {
    let fixture = Fixture::new();
    let body = "
      (call $expect (i32.const 1) (memory.atomic.wait32 (i32.const 1024) (i32.const 1) (i64.const -1)) (i32.const 1))
      (call $expect (i32.const 2) (memory.atomic.wait64 (i32.const 1024) (i64.const 1) (i64.const -1)) (i32.const 1))
      (call $expect (i32.const 3) (memory.atomic.wait32 offset=4 (i32.const 1024) (i32.const 0) (i64.const 1000)) (i32.const 2))
      (call $expect (i32.const 4) (memory.atomic.wait64 (i32.const 1024) (i64.const 0) (i64.const 0)) (i32.const 2))
      (call $expect (i32.const 5) (memory.atomic.notify (i32.const 1024) (i32.const -1)) (i32.const 0))";
    fixture.program("wait.wasm", &lind_program("", body));
    let ran = fixture.run(&["wait.wasm"]);
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn segments_are_the_same_in_an_artifact_and_after_a_fork() {
    let fixture = Fixture::new();
    // Byte 1100 counts the runs of the start function: a child has one of its own.
    let more = r#"(global $fresh (mut i32) (i32.const 1))
      (data (offset (i32.add (i32.const 1000) (i32.const 24))) "active") (data $d "passive")
      (data (i32.const 1205) "K") (data (i32.const 1200) "ab") (data (i32.const 1210) "cd")
      (data (i32.const 1212) "ef") (data (i32.const 1220) "gh") (data (i32.const 1201) "X")
      (func $begin (i32.store8 (i32.const 1100) (i32.add (i32.const 1) (i32.load8_u (i32.const 1100)))))
      (start $begin)"#;
    let body = r#"(local $pid i32)
      (if (global.get $fresh) (then
        (call $expect (i32.const 1) (i32.load8_u (i32.const 1024)) (i32.const 0x61))
        (call $expect (i32.const 2) (i32.load8_u (i32.const 1100)) (i32.const 1))
        (call $expect (i32.const 7) (i32.load (i32.const 1200)) (i32.const 0x5861))
        (call $expect (i32.const 8) (i32.load (i32.const 1204)) (i32.const 0x4b00))
        (call $expect (i32.const 9) (i32.load (i32.const 1210)) (i32.const 0x66656463))
        (call $expect (i32.const 10) (i32.load (i32.const 1218)) (i32.const 0x68670000))
        (i32.store8 (i32.const 1024) (i32.const 0x5a))
        (global.set $fresh (i32.const 0))))
      (local.set $pid (call $fork))
      (if (global.get $saving) (then (return (i32.const 0))))
      (if (i32.eqz (local.get $pid)) (then
        (call $expect (i32.const 3) (i32.load8_u (i32.const 1100)) (i32.const 2))
        ;; What the parent wrote over its data, before it forked.
        (call $exit (i32.load8_u (i32.const 1024)))))
      (call $expect (i32.const 4) (call $wait (local.get $pid)) (i32.const 0x5a00))
      (memory.init $d (i32.const 2000) (i32.const 0) (i32.const 7))
      (call $expect (i32.const 5) (i32.load8_u (i32.const 2006)) (i32.const 0x65))
      (call $expect (i32.const 6) (i32.load8_u (i32.const 1029)) (i32.const 0x65))
      (data.drop $d)
      (memory.init $d (i32.const 2000) (i32.const 0) (i32.const 0))"#;
    let wasm = fixture.program("data.wasm", &forking_program(more, body));
    let made = fixture.run(&["--precompile", wasm.to_str().unwrap()]);
    assert_eq!(made.code, 0, "{}", made.err);
    for name in ["data.wasm", "data.cwasm"] {
        let ran = fixture.run(&[name]);
        assert_eq!(ran.code, 0, "{name}: {ran:?}");
    }
}

#[test]
fn pages_that_another_thread_unmaps_are_a_trap() {
    let fixture = Fixture::new();
    // The handler fills and copies on the program's thread what the grate's own thread maps and
    // unmaps all the time. Sooner or later it traps, and its calls are EIO from then on.
    let handler = |work: &str| format!("{work} (i32.const 4242)");
    let map = r#"(func $map (drop (call $sys (i32.const 9) (i64.const 0) (call $id) (call $id)
        (call $at (i32.const 0x1000000)) (call $id) (i64.const 0x40000) (call $id) (i64.const 3) (call $id)
        (i64.const 0x32) (call $id) (i64.const -1) (call $id) (i64.const 0) (call $id))))
      (func $unmap (drop (call $call (i32.const 11) (call $at (i32.const 0x1000000)) (i64.const 0x40000) (i64.const 0))))"#;
    for work in [
        "(memory.fill (i32.const 0x1000000) (i32.const 1) (i32.const 0x40000))",
        "(memory.fill (i32.const 0x1001fff) (i32.const 1) (i32.const 2000))",
        "(memory.copy (i32.const 0x1000000) (i32.const 0x1010000) (i32.const 0x10000))",
        "(memory.copy (i32.const 0x1000000) (i32.const 0x1010001) (i32.const 1500))",
        "(drop (memory.atomic.wait32 (i32.const 0x1000000) (i32.const 0) (i64.const 1)))",
        "(drop (memory.atomic.notify (i32.const 0x1000000) (i32.const 1)))",
    ] {
        let program = r#"
          (loop $again
            (local.set $r (call $call (i32.const 39) (i64.const 0xdeadbeefdeadbeef) (i64.const 0xdeadbeefdeadbeef) (i64.const 0xdeadbeefdeadbeef)))
            (br_if $again (i32.eq (local.get $r) (i32.const 4242))))
          (call $expect (i32.const 5) (local.get $r) (i32.const -5))"#;
        // In place of waiting, the grate maps and unmaps until the program has ended.
        let text = grate_and_program(&[39], map, &handler(work), program).replace(
            "(local.set $r (call $wait (local.get $pid)))",
            "(loop $more (call $map) (call $unmap)
               (br_if $more (i32.eqz (call $call (i32.const 61) (local.get $child) (call $at (i32.const 512)) (i64.const 1)))))
             (local.set $r (i32.load (i32.const 512)))",
        );
        fixture.program("unmap.wasm", &text);
        let ran = fixture.run(&["unmap.wasm"]);
        assert_eq!(ran.code, 0, "{work}: {ran:?}");
        assert!(ran.err.contains("handler failed"), "{work}: {}", ran.err);
    }
}

#[test]
fn a_cage_that_waits_for_ever_is_killed_and_its_status_told() {
    let fixture = Fixture::new();
    let body = "(local $pid i32)
      (local.set $pid (call $fork))
      (if (global.get $saving) (then (return (i32.const 0))))
      (if (i32.eqz (local.get $pid)) (then
        (drop (memory.atomic.wait32 (i32.const 1024) (i32.const 0) (i64.const -1)))))
      (drop (call $call (i32.const 62) (i64.extend_i32_s (local.get $pid)) (i64.const 15) (i64.const 0)))
      (call $expect (i32.const 1) (call $wait (local.get $pid)) (i32.const 15))";
    fixture.program("sleeper.wasm", &forking_program("", body));
    for strict in BOTH {
        let ran = fixture.run(&[strict, &["/bin/sleeper.wasm"][..]].concat());
        assert_eq!(ran.code, 0, "{ran:?}");
    }
}

#[test]
fn a_grate_that_ends_takes_those_that_wait_in_it_along() {
    let fixture = Fixture::new();
    // The handler waits for what nobody will do; the grate does not wait for its program.
    let handler = "(if (i64.ne (local.get $a1) (i64.const 7)) (then (return (i32.const 1))))
      (drop (memory.atomic.wait32 (i32.const 1024) (i32.const 0) (i64.const -1))) (i32.const 2)";
    let program = "(call $expect (i32.const 1)
        (call $call (i32.const 1151) (i64.const 7) (i64.const 0) (i64.const 0)) (i32.const -5))";
    let text = grate_and_program(&[1151], "", handler, program).replace(
        "(local.set $r (call $wait (local.get $pid)))",
        "(call $exit (i32.const 3))",
    );
    fixture.program("gone.wasm", &text);
    let ran = fixture.run(&["gone.wasm"]);
    assert_eq!(ran.code, 3, "{ran:?}");
}
