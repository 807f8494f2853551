//! What a run and its cages may have of the host: the errno at each limit, and what goes on.

mod support;

use support::{Fixture, Ran, forking_program, grate_and_program, lind_program};

/// `$map(len, prot, flags)`: mmap anywhere. `$until(nr, a, b, c)`: makes a call again and again, and
/// answers with the first error; `$count` is how often it succeeded.
const CALLS: &str = r#"
  (func $map (param $len i64) (param $prot i64) (param $flags i64) (result i32)
    (call $sys (i32.const 9) (i64.const 0) (call $id) (call $id) (i64.const 0) (call $id)
      (local.get $len) (call $id) (local.get $prot) (call $id) (local.get $flags) (call $id)
      (i64.const -1) (call $id) (i64.const 0) (call $id)))
  (global $count (mut i32) (i32.const 0))
  (func $fails (param $r i32) (result i32)
    (if (i32.and (i32.lt_s (local.get $r) (i32.const 0)) (i32.gt_s (local.get $r) (i32.const -4096)))
      (then (return (i32.const 1))))
    (global.set $count (i32.add (global.get $count) (i32.const 1)))
    (i32.const 0))
  (func $map_all (param $len i64) (param $prot i64) (param $flags i64) (result i32) (local $r i32)
    (loop $more
      (local.set $r (call $map (local.get $len) (local.get $prot) (local.get $flags)))
      (br_if $more (i32.eqz (call $fails (local.get $r)))))
    (local.get $r))
  (func $until (param $nr i32) (param $a i64) (param $b i64) (param $c i64) (result i32) (local $r i32)
    (loop $more
      (local.set $r (call $call (local.get $nr) (local.get $a) (local.get $b) (local.get $c)))
      (br_if $more (i32.eqz (call $fails (local.get $r)))))
    (local.get $r))"#;

const RW: &str = "(i64.const 3) (i64.const 0x22)";
const SHARED: &str = "(i64.const 3) (i64.const 0x21)";

/// The most that a run may have that is held to 64 MiB, in KiB: its own code and the compiler's.
const BOUND: i64 = 400 << 10;

fn run(options: &[&str], text: &str) -> Ran {
    let fixture = Fixture::new();
    fixture.program("hog.wasm", text);
    let (ran, memory) = fixture.run_measured(&[options, &["/bin/hog.wasm"]].concat());
    assert!(memory < BOUND, "{memory} KiB: {ran:?}");
    ran
}

#[test]
fn memory_ends_where_the_cage_has_its_share() {
    let body = format!(
        "(local $p i32) (local $r i32)
         (local.set $p (call $map (i64.const 0x100000) {RW}))
         (call $expect (i32.const 1) (call $map_all (i64.const 0x100000) {RW}) (i32.const -12))
         (call $expect (i32.const 2) (i32.lt_u (global.get $count) (i32.const 64)) (i32.const 1))
         (call $expect (i32.const 3) (i32.gt_u (global.get $count) (i32.const 56)) (i32.const 1))
         ;; The break does not move either.
         (call $expect (i32.const 4) (call $call (i32.const 12) (i64.const 0x1000000) (i64.const 0) (i64.const 0)) (i32.const 0x20000))
         ;; Shared memory is memory; what can't be written takes none, until it can be.
         (call $expect (i32.const 5) (call $map (i64.const 0x100000) {SHARED}) (i32.const -12))
         (local.set $r (call $map (i64.const 0x100000) (i64.const 1) (i64.const 0x22)))
         (call $expect (i32.const 6) (call $fails (local.get $r)) (i32.const 0))
         (call $expect (i32.const 7) (call $call (i32.const 10) (call $at (local.get $r)) (i64.const 0x100000) (i64.const 3)) (i32.const -12))
         ;; What is unmapped is free.
         (call $expect (i32.const 8) (call $call (i32.const 11) (call $at (local.get $p)) (i64.const 0x100000) (i64.const 0)) (i32.const 0))
         (call $expect (i32.const 9) (call $fails (call $map (i64.const 0x100000) {RW})) (i32.const 0))"
    );
    for strict in [&[][..], &["--strict-lind"]] {
        let ran = run(
            &[&["--max-memory", "64M"], strict].concat(),
            &lind_program(CALLS, &body),
        );
        assert_eq!(ran.code, 0, "{ran:?}");
    }
}

#[test]
fn memory_of_many_cages_ends_where_the_run_has_its_share() {
    // Each cage maps what it gets, writes to it and forks; those above keep a part for themselves.
    let body = format!(
        "(local $pid i32)
         (if (i32.eqz (global.get $forked)) (then
           (call $expect (i32.const 1) (call $map_all (i64.const 0x80000) {RW}) (i32.const -12))))
         (global.set $forked (i32.const 1))
         (local.set $pid (call $fork))
         (if (global.get $saving) (then (return (i32.const 0))))
         ;; There is no room for a copy of it all.
         (call $expect (i32.const 2) (local.get $pid) (i32.const -12))"
    );
    let more = format!("(global $forked (mut i32) (i32.const 0)) {CALLS}");
    let ran = run(&["--max-run-memory", "64M"], &forking_program(&more, &body));
    assert_eq!(ran.code, 0, "{ran:?}");
    let body = format!(
        "(local $pid i32)
         (local.set $pid (call $fork))
         (if (global.get $saving) (then (return (i32.const 0))))
         (if (i32.eqz (local.get $pid)) (then
           (call $expect (i32.const 3) (call $map_all (i64.const 0x10000) {RW}) (i32.const -12))
           (drop (call $call (i32.const 1) (i64.const 1) (call $at (i32.const 0)) (i64.const 1)))
           (loop $for_ever (br $for_ever))))
         ;; A byte says that it has all that it can get.
         (drop (call $call (i32.const 0) (i64.const 3) (call $at (i32.const 0)) (i64.const 1)))
         (call $expect (i32.const 4) (call $fails (call $map (i64.const 0x100000) {RW})) (i32.const 0))
         (drop (call $call (i32.const 62) (i64.extend_i32_s (local.get $pid)) (i64.const 9) (i64.const 0)))
         (call $expect (i32.const 5) (call $wait (local.get $pid)) (i32.const 9))
         ;; What it had is free.
         (call $expect (i32.const 6) (call $fails (call $map (i64.const 0x2000000) {RW})) (i32.const 0))"
    );
    // A pipe stands between them: 3 reads, 4 writes.
    let pipe = "(local $pid i32)
         (if (i32.eqz (global.get $piped)) (then
           (call $expect (i32.const 7) (call $call (i32.const 293) (call $at (i32.const 64)) (i64.const 0) (i64.const 0xdeadbeefdeadbeef)) (i32.const 0))
           (global.set $piped (i32.const 1))))";
    let body = body.replacen("(local $pid i32)", pipe, 1).replace(
        "(i32.const 1) (i64.const 1) (call $at",
        "(i32.const 1) (i64.const 4) (call $at",
    );
    let more = format!("(global $piped (mut i32) (i32.const 0)) {CALLS}");
    let ran = run(&["--max-run-memory", "64M"], &forking_program(&more, &body));
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn memory_that_a_program_grows_and_tables_answer_minus_one() {
    let text = "(module (memory 1 65536) (table $t 1 funcref)
      (func (export \"_start\") (local $n i32)
        (block $end (loop $more
          (br_if $end (i32.eq (memory.grow (i32.const 16)) (i32.const -1)))
          (local.set $n (i32.add (local.get $n) (i32.const 16)))
          (br $more)))
        (if (i32.gt_u (local.get $n) (i32.const 1024)) (then unreachable))
        (if (i32.lt_u (local.get $n) (i32.const 900)) (then unreachable))
        (if (i32.ne (table.grow $t (ref.null func) (i32.const 400000000)) (i32.const -1)) (then unreachable))
        (if (i32.ne (table.grow $t (ref.null func) (i32.const 999)) (i32.const 1)) (then unreachable))
        (if (i32.ne (table.grow $t (ref.null func) (i32.const 1)) (i32.const -1)) (then unreachable))))";
    let ran = run(&["--max-memory", "64M", "--max-table", "1000"], text);
    assert_eq!(ran.code, 0, "{ran:?}");
    // At the start there is a line.
    for (option, most, text) in [
        (
            "--max-table",
            "1000",
            "(module (memory 1) (table 1001 funcref) (func (export \"_start\")))",
        ),
        (
            "--max-memory",
            "1M",
            "(module (memory 17) (func (export \"_start\")))",
        ),
    ] {
        let ran = run(&[option, most], text);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert_eq!(ran.err.lines().count(), 1, "{ran:?}");
    }
    // Without an option there is a limit too.
    let ran = run(
        &[],
        "(module (memory 1) (table $t 1 funcref) (func (export \"_start\")
           (if (i32.ne (table.grow $t (ref.null func) (i32.const 400000000)) (i32.const -1)) (then unreachable))))",
    );
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn registrations_end_with_no_memory() {
    // Of itself a cage registers for the one that it forked.
    let handler = "(i32.const 1)";
    let sleeps = "(drop (memory.atomic.wait32 (i32.const 1024) (i32.const 0) (i64.const -1)))";
    let text = grate_and_program(&[39], CALLS, handler, sleeps).replace(
        "(local.set $r (call $wait (local.get $pid)))",
        "(block $full (loop $more
           (local.set $r (call $as (call $id) (call $id) (i32.const 1001) (local.get $child)
             (i64.add (i64.const 0x10000) (i64.extend_i32_u (global.get $count)))
             (i64.const 0) (call $id) (i64.const 1) (call $id) (i64.const 0)))
           (br_if $more (i32.eqz (call $fails (local.get $r))))))
         (call $expect (i32.const 1) (local.get $r) (i32.const -12))
         (call $expect (i32.const 2) (global.get $count) (i32.const 998))
         ;; In the place of one that is taken back there is room for one.
         (call $expect (i32.const 3) (call $as (call $id) (call $id) (i32.const 1001) (local.get $child) (i64.const 39) (i64.const 0) (i64.const 500) (i64.const 0) (call $id) (i64.const 0)) (i32.const 0))
         (call $expect (i32.const 4) (call $as (call $id) (call $id) (i32.const 1001) (local.get $child) (i64.const 40) (i64.const 0) (call $id) (i64.const 1) (call $id) (i64.const 0)) (i32.const 0))
         (drop (call $call (i32.const 62) (local.get $child) (i64.const 9) (i64.const 0)))
         (drop (call $wait (local.get $pid)))
         (local.set $r (i32.const 0))",
    );
    let ran = run(&["--max-handlers", "1000"], &text);
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn a_fork_bomb_ends_with_try_again() {
    // Every cage forks until it can't, and sleeps; the first then kills what it made.
    let body = "(local $r i32)
      (loop $again
        (local.set $r (call $fork))
        (if (global.get $saving) (then (return (i32.const 0))))
        (if (i32.eqz (local.get $r)) (then
          (if (i32.eqz (global.get $deep)) (then (global.set $deep (i32.const 1)) (br $again)))
          (drop (memory.atomic.wait32 (i32.const 1024) (i32.const 0) (i64.const 2000000000)))
          (call $exit (i32.const 0))))
        (br_if $again (i32.eqz (call $fails (local.get $r)))))
      (if (global.get $deep) (then (call $exit (i32.const 0))))
      (call $expect (i32.const 1) (local.get $r) (i32.const -11))
      ;; Those that have ended count until they are waited for, and no longer.
      (loop $more
        (local.set $r (call $call (i32.const 61) (i64.const -1) (i64.const 0) (i64.const 0)))
        (br_if $more (i32.gt_s (local.get $r) (i32.const 0))))
      (call $expect (i32.const 2) (local.get $r) (i32.const -10))";
    let more = format!("(global $deep (mut i32) (i32.const 0)) {CALLS}");
    for cages in ["20", "100"] {
        let ran = run(&["--max-cages", cages], &forking_program(&more, body));
        assert_eq!(ran.code, 0, "{ran:?}");
    }
}

#[test]
fn descriptors_end_with_emfile_in_a_cage_and_enfile_in_the_run() {
    let all = |errno: i32| {
        format!(
            "(call $expect (i32.const 1) (call $until (i32.const 32) (i64.const 1) (i64.const 0xdeadbeefdeadbeef) (i64.const 0xdeadbeefdeadbeef)) (i32.const {errno}))
             ;; A file is not made that could not be kept.
             (call $expect (i32.const 2) (call $call (i32.const 2) (call $at (i32.const 1024)) (i64.const 0x42) (i64.const 0x1a4)) (i32.const {errno}))
             (call $expect (i32.const 3) (call $call (i32.const 3) (i64.const 5) (i64.const 0xdeadbeefdeadbeef) (i64.const 0xdeadbeefdeadbeef)) (i32.const 0))
             (call $expect (i32.const 4) (call $call (i32.const 2) (call $at (i32.const 1024)) (i64.const 0x42) (i64.const 0x1a4)) (i32.const 5))"
        )
    };
    let more = format!(r#"{CALLS} (data (i32.const 1024) "/made\00")"#);
    for (options, errno) in [
        (&[][..], -24),
        (&["--max-files", "20"], -24),
        (&["--max-run-files", "100"], -23),
    ] {
        let ran = run(options, &lind_program(&more, &all(errno)));
        assert_eq!(ran.code, 0, "{options:?}: {ran:?}");
    }
}

#[test]
fn regions_end_with_no_memory_and_the_pages_are_what_the_calls_said() {
    let body = format!(
        "(local $p i32) (local $i i32) (local $r i32)
         (local.set $p (call $map (i64.const 0x4000000) {RW}))
         (local.set $i (local.get $p))
         ;; Every second page becomes one that can't be written.
         (loop $more
           (local.set $r (call $call (i32.const 10) (call $at (local.get $i)) (i64.const 4096) (i64.const 1)))
           (local.set $i (i32.add (local.get $i) (i32.const 8192)))
           (br_if $more (i32.eqz (call $fails (local.get $r)))))
         (call $expect (i32.const 1) (local.get $r) (i32.const -12))
         (call $expect (i32.const 2) (i32.gt_u (global.get $count) (i32.const 30)) (i32.const 1))
         ;; A hole makes two of one. At most one is left for that; what is refused is as before.
         (local.set $i (i32.sub (local.get $i) (i32.const 8192)))
         (i32.store (local.get $i) (i32.const 7))
         (drop (call $call (i32.const 11) (call $at (i32.add (local.get $i) (i32.const 8192))) (i64.const 4096) (i64.const 0)))
         (call $expect (i32.const 3) (call $call (i32.const 11) (call $at (i32.add (local.get $i) (i32.const 16384))) (i64.const 4096) (i64.const 0)) (i32.const -12))
         (i32.store offset=16384 (local.get $i) (i32.const 8))
         ;; More are refused, also shared ones; there is room again when they are gone.
         (call $expect (i32.const 4) (call $map (i64.const 4096) {SHARED}) (i32.const -12))
         (call $expect (i32.const 5) (call $call (i32.const 11) (call $at (local.get $p)) (i64.const 0x4000000) (i64.const 0)) (i32.const 0))
         (call $expect (i32.const 6) (call $fails (call $map (i64.const 4096) {SHARED})) (i32.const 0))"
    );
    for most in ["100", "4096"] {
        let ran = run(&["--max-mappings", most], &lind_program(CALLS, &body));
        assert_eq!(ran.code, 0, "{most}: {ran:?}");
    }
    // The kernel's own limit is not reached, whatever is asked for.
    let body = body.replace("0x4000000", "0x20000000");
    let ran = run(&["--max-mappings", "1000000"], &lind_program(CALLS, &body));
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn shared_mappings_take_no_descriptors() {
    // More of them than the run has descriptors for.
    let body = format!(
        "(call $expect (i32.const 1) (call $map_all (i64.const 4096) {SHARED}) (i32.const -12))
         (call $expect (i32.const 2) (i32.gt_u (global.get $count) (i32.const 900)) (i32.const 1))
         (call $expect (i32.const 3) (call $fails (call $call (i32.const 32) (i64.const 1) (i64.const 0xdeadbeefdeadbeef) (i64.const 0xdeadbeefdeadbeef))) (i32.const 0))"
    );
    let options = ["--max-run-files", "100", "--max-mappings", "1000"];
    let ran = run(&options, &lind_program(CALLS, &body));
    assert_eq!(ran.code, 0, "{ran:?}");
}

/// A module with so many functions of so many blocks, each of which sets and reads many locals;
/// what runs is another one, which does nothing.
fn bomb(blocks: u32, count: u32) -> Vec<u8> {
    use wasm_encoder::*;
    const LOCALS: u32 = 2000;
    let mut module = Module::new();
    let mut types = TypeSection::new();
    types.ty().function([], []);
    let mut functions = FunctionSection::new();
    for _ in 0..=count {
        functions.function(0);
    }
    let mut memories = MemorySection::new();
    memories.memory(MemoryType {
        minimum: 1,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    let mut exports = ExportSection::new();
    exports.export("_start", ExportKind::Func, count);
    let mut body = Function::new([(LOCALS, ValType::I64)]);
    for block in 0..blocks {
        body.instruction(&Instruction::Loop(BlockType::Empty))
            .instruction(&Instruction::LocalGet(block % LOCALS))
            .instruction(&Instruction::LocalGet(block * 7 % LOCALS))
            .instruction(&Instruction::I64Mul)
            .instruction(&Instruction::LocalTee(block * 13 % LOCALS))
            .instruction(&Instruction::I64Eqz)
            .instruction(&Instruction::BrIf(0))
            .instruction(&Instruction::End);
    }
    body.instruction(&Instruction::End);
    let mut code = CodeSection::new();
    for _ in 0..count {
        code.function(&body);
    }
    code.function(Function::new([]).instruction(&Instruction::End));
    module
        .section(&types)
        .section(&functions)
        .section(&memories)
        .section(&exports)
        .section(&code)
        .finish_module()
}

/// `Module::finish` takes the module itself, and `section` lends it.
trait Finish {
    fn finish_module(&mut self) -> Vec<u8>;
}

impl Finish for wasm_encoder::Module {
    fn finish_module(&mut self) -> Vec<u8> {
        std::mem::take(self).finish()
    }
}

#[test]
fn modules_too_large_or_too_slow_to_compile_are_refused() {
    let fixture = Fixture::new();
    let large = bomb(100_000, 1);
    // Just below what is refused for what is in it, as often as may be.
    let slow = bomb(2500, 16);
    std::fs::write(fixture.path("bin/bomb.wasm"), &large).unwrap();
    std::fs::write(fixture.path("bin/slow.wasm"), &slow).unwrap();
    std::fs::write(fixture.path("bin/slower.wasm"), bomb(2500, 20)).unwrap();
    let over = (large.len() - 1).to_string();
    let unbound = ["--max-function", "64M", "--max-module", "64M"];
    for (options, program, reason) in [
        (&[][..], "bomb.wasm", "one of its functions has"),
        (
            &["--max-function", "64M", "--max-module", &over],
            "bomb.wasm",
            "a module may have",
        ),
        (
            &unbound,
            "bomb.wasm",
            "compiling one of its functions takes",
        ),
        (&[], "slower.wasm", "compiling it takes"),
        (
            &["--max-compile-time", "1"],
            "slow.wasm",
            "--max-compile-time",
        ),
    ] {
        let ran = fixture.run(&[options, &[program]].concat());
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.err.contains(reason), "{reason}: {}", ran.err);
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    }
    // What a cage executes is the same to it: ENOEXEC.
    let body = "(call $expect (i32.const 1)
        (call $call (i32.const 59) (call $at (i32.const 1024)) (i64.const 0) (i64.const 0)) (i32.const -8))";
    let more = r#"(data (i32.const 1024) "/bin/bomb.wasm\00")"#;
    fixture.program("exec.wasm", &lind_program(more, body));
    let ran = fixture.run(&["exec.wasm"]);
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn programs_are_loaded_a_few_at_a_time() {
    const PADDING: usize = 40 << 20;
    const CAGES: usize = 24;
    let fixture = Fixture::new();
    // Long enough to compile that all would be at it together.
    let mut large = bomb(300, 1);
    wasm_encoder::Encode::encode(
        &wasm_encoder::CustomSection {
            name: "padding".into(),
            data: vec![0; PADDING].into(),
        },
        {
            large.push(0);
            &mut large
        },
    );
    std::fs::write(fixture.path("bin/large.wasm"), &large).unwrap();
    // So many children become that program, and each ends well.
    let body = format!(
        "(local $r i32)
      (loop $again
        (local.set $r (call $fork))
        (if (global.get $saving) (then (return (i32.const 0))))
        (if (i32.eqz (local.get $r)) (then
          (call $expect (i32.const 1) (i32.const 0)
            (call $call (i32.const 59) (call $at (i32.const 1024)) (i64.const 0) (i64.const 0)))))
        (global.set $made (i32.add (global.get $made) (i32.const 1)))
        (br_if $again (i32.lt_u (global.get $made) (i32.const {CAGES}))))
      (loop $more
        (i32.store (i32.const 512) (i32.const 0))
        (local.set $r (call $call (i32.const 61) (i64.const -1) (call $at (i32.const 512)) (i64.const 0)))
        (call $expect (i32.const 2) (i32.load (i32.const 512)) (i32.const 0))
        (br_if $more (i32.gt_s (local.get $r) (i32.const 0))))"
    );
    let more =
        r#"(global $made (mut i32) (i32.const 0)) (data (i32.const 1024) "/bin/large.wasm\00")"#;
    fixture.program("crowd.wasm", &forking_program(more, &body));
    let (ran, memory) = fixture.run_measured(&["crowd.wasm"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    // Each is there as it was read, and once more at most while it is made ready.
    let all = (CAGES * PADDING) as i64 >> 10;
    assert!(
        memory < all / 2,
        "{memory} KiB where {all} are in the files"
    );
}

#[test]
fn a_grate_serves_a_program_that_has_all_it_can_get() {
    // The handler needs a worker with a stack of 8 MiB, a mapping and a descriptor of its own.
    let handler = format!(
        "(if (call $fails (call $map (i64.const 0x1000) {RW})) (then (return (i32.const 1))))
         (if (call $fails (call $call (i32.const 32) (i64.const 1) (i64.const 0xdeadbeefdeadbeef) (i64.const 0xdeadbeefdeadbeef))) (then (return (i32.const 2))))
         (i32.const 4242)"
    );
    let program = format!(
        "(call $expect (i32.const 1) (call $map_all (i64.const 0x10000) {RW}) (i32.const -12))
         (call $expect (i32.const 2) (call $until (i32.const 32) (i64.const 1) (i64.const 0xdeadbeefdeadbeef) (i64.const 0xdeadbeefdeadbeef)) (i32.const -23))
         (call $expect (i32.const 3) (call $call (i32.const 1151) (i64.const 0) (i64.const 0) (i64.const 0)) (i32.const 4242))"
    );
    let text = grate_and_program(&[1151], CALLS, &handler, &program);
    let options = ["--max-run-memory", "320M", "--max-run-files", "400"];
    let fixture = Fixture::new();
    fixture.program("hog.wasm", &text);
    let ran = fixture.run(&[&options[..], &["hog.wasm"]].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn limits_that_are_no_numbers_are_wrong_usage() {
    let fixture = Fixture::new();
    for (option, value) in [
        ("--max-memory", "much"),
        ("--max-memory", "0"),
        ("--max-cages", "many"),
        ("--max-files", "2000"),
        ("--max-compile-time", "0"),
    ] {
        let ran = fixture.run(&[option, value, "x.wasm"]);
        assert_eq!(ran.code, 64, "{option} {value}");
        assert!(ran.err.contains(option), "{}", ran.err);
    }
}
