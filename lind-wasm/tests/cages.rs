//! Programs as cages: system calls, their checks, and how runs end.

mod support;

use std::io::Read;
use support::{Fixture, connect, free_address, lind_program};

const SAY: &str = r#"(data (i32.const 1024) "hello from a cage\n")
  (func $say (drop (call $call (i32.const 1) (i64.const 1) (call $at (i32.const 1024)) (i64.const 18))))"#;

#[test]
fn a_program_writes_and_its_status_is_the_runs() {
    let fixture = Fixture::new();
    fixture.program(
        "hello.wasm",
        &lind_program(SAY, "(call $say) (call $exit (i32.const 7))"),
    );
    for strict in [&[][..], &["--strict-lind"]] {
        let ran = fixture.run(&[strict, &["/bin/hello.wasm"]].concat());
        assert_eq!(
            (ran.code, ran.out.as_str()),
            (7, "hello from a cage\n"),
            "{}",
            ran.err
        );
    }
}

#[test]
fn an_artifact_runs_until_a_byte_of_it_changes() {
    let fixture = Fixture::new();
    let wasm = fixture.program("hello.wasm", &lind_program(SAY, "(call $say)"));
    let made = fixture.run(&["--precompile", wasm.to_str().unwrap()]);
    assert_eq!(made.code, 0, "{}", made.err);
    let artifact = wasm.with_extension("cwasm");
    let ran = fixture.run(&["hello.cwasm"]);
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (0, "hello from a cage\n"),
        "{}",
        ran.err
    );
    let mut bytes = std::fs::read(&artifact).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&artifact, &bytes).unwrap();
    let ran = fixture.run(&["hello.cwasm"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains("hello.cwasm") && ran.err.contains("precompile"),
        "{}",
        ran.err
    );
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
}

#[test]
fn files_that_are_no_programs_are_refused_in_a_line() {
    let fixture = Fixture::new();
    std::fs::write(fixture.path("bin/text.wasm"), "#include <stdio.h>").unwrap();
    std::fs::write(fixture.path("bin/cut.wasm"), b"\0asm\x01\0\0\0\x01\x7f").unwrap();
    std::fs::create_dir(fixture.path("bin/folder.wasm")).unwrap();
    fixture.program("library.wasm", "(module (memory 1))");
    for (name, reason) in [
        ("none.wasm", "no such program"),
        ("text.wasm", "not a WebAssembly module"),
        ("cut.wasm", "cut.wasm"),
        ("folder.wasm", "folder.wasm"),
        ("library.wasm", "no `_start`"),
    ] {
        let ran = fixture.run(&[name]);
        assert_eq!(ran.code, 1, "{name}");
        assert!(
            ran.err.contains(name) && ran.err.contains(reason),
            "{name}: {}",
            ran.err
        );
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    }
}

#[test]
fn wrong_usage_is_64() {
    let fixture = Fixture::new();
    assert_eq!(fixture.run(&[]).code, 64);
    assert_eq!(fixture.run(&["--no-such-option", "x.wasm"]).code, 64);
    assert_eq!(fixture.run(&["--help"]).code, 0);
}

#[test]
fn a_missing_root_is_named() {
    let fixture = Fixture::new();
    let ran = fixture.run(&["--root", "/no/such/root", "x.wasm"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("/no/such/root"), "{}", ran.err);
}

#[test]
fn a_trap_ends_the_cage_with_a_line() {
    let fixture = Fixture::new();
    // The page is outside what the program asked for, and nothing mapped it.
    fixture.program(
        "wild.wasm",
        &lind_program("", "(drop (i32.load (i32.const 0x200000)))"),
    );
    fixture.program("unreachable.wasm", &lind_program("", "unreachable"));
    for name in ["wild.wasm", "unreachable.wasm"] {
        let ran = fixture.run(&[name]);
        assert_eq!(ran.code, 1, "{name}: {}", ran.err);
        assert!(ran.err.contains(name), "{}", ran.err);
    }
}

#[test]
fn wild_pointers_foreign_cages_and_unknown_numbers_are_errors() {
    let fixture = Fixture::new();
    let checks = [
        // write(1, outside of everything, 4): EFAULT
        "(call $call (i32.const 1) (i64.const 1) (i64.const 0x300000) (i64.const 4)) (i32.const -14)",
        "(call $call (i32.const 1) (i64.const 1) (i64.const -8) (i64.const 4)) (i32.const -14)",
        "(call $call (i32.const 1) (i64.const 1) (i64.const 0x100000000) (i64.const 4)) (i32.const -14)",
        // A length of 2^64 - 1: EFAULT, as on Linux
        "(call $call (i32.const 1) (i64.const 1) (i64.const 1024) (i64.const -1)) (i32.const -14)",
        // EBADF
        "(call $call (i32.const 1) (i64.const 99) (i64.const 1024) (i64.const 4)) (i32.const -9)",
        "(call $call (i32.const 1) (i64.const -1) (i64.const 1024) (i64.const 4)) (i32.const -9)",
        // Unknown numbers: ENOSYS
        "(call $call (i32.const 57) (i64.const 0) (i64.const 0) (i64.const 0)) (i32.const -38)",
        "(call $call (i32.const 999999) (i64.const 0) (i64.const 0) (i64.const 0)) (i32.const -38)",
        "(call $call (i32.const -1) (i64.const 0) (i64.const 0) (i64.const 0)) (i32.const -38)",
        // Speaking for another cage: EPERM
        "(call $as (i64.const 2) (call $id) (i32.const 39) (i64.const 0) (call $id) (i64.const 0) (call $id) (i64.const 0) (call $id) (i64.const 0)) (i32.const -1)",
        // A target that does not exist: ESRCH
        "(call $as (call $id) (i64.const 77) (i32.const 39) (i64.const 0) (call $id) (i64.const 0) (call $id) (i64.const 0) (call $id) (i64.const 0)) (i32.const -3)",
        // A buffer in a cage that does not exist: ESRCH
        "(call $as (call $id) (call $id) (i32.const 1) (i64.const 1) (call $id) (i64.const 1024) (i64.const 77) (i64.const 1) (call $id) (i64.const 0)) (i32.const -3)",
        // register_handler for a cage that does not exist, with a handler of none, on itself
        "(call $as (call $id) (call $id) (i32.const 1001) (i64.const 77) (i64.const 39) (i64.const 0) (call $id) (i64.const 0) (call $id) (i64.const 0)) (i32.const 0xE0010002)",
        "(call $as (call $id) (call $id) (i32.const 1001) (call $id) (i64.const 39) (i64.const 0) (i64.const 777777) (i64.const 0) (call $id) (i64.const 0)) (i32.const 0xE0010002)",
        "(call $as (call $id) (call $id) (i32.const 1001) (call $id) (i64.const 39) (i64.const 0) (call $id) (i64.const 0) (call $id) (i64.const 0)) (i32.const -22)",
        // copy_data with wild addresses
        "(call $as (call $id) (call $id) (i32.const 1002) (i64.const 0x700000) (call $id) (i64.const 1024) (call $id) (i64.const 8) (call $id) (i64.const 0)) (i32.const 0xE0010001)",
        "(call $as (call $id) (call $id) (i32.const 1002) (i64.const 1024) (call $id) (i64.const 0x700000) (call $id) (i64.const 8) (call $id) (i64.const 0)) (i32.const 0xE0010001)",
        "(call $as (call $id) (call $id) (i32.const 1002) (i64.const 1024) (call $id) (i64.const 2048) (call $id) (i64.const -1) (call $id) (i64.const 0)) (i32.const 0xE0010001)",
        // getpid is the cage's number
        "(call $call (i32.const 39) (i64.const 0) (i64.const 0) (i64.const 0)) (i32.const 1)",
        // waitpid without children: ECHILD
        "(call $call (i32.const 61) (i64.const -1) (i64.const 0) (i64.const 0)) (i32.const -10)",
    ];
    let body: String = checks
        .iter()
        .enumerate()
        .map(|(index, check)| format!("(call $expect (i32.const {}) {check})\n", index + 1))
        .collect();
    fixture.program("wild.wasm", &lind_program("", &body));
    let ran = fixture.run(&["wild.wasm"]);
    assert_eq!(
        ran.code,
        0,
        "check {} failed: {:?}; {}",
        ran.code,
        checks.get(ran.code as usize - 1),
        ran.err
    );
}

#[test]
fn mapped_memory_opens_and_closes() {
    let fixture = Fixture::new();
    let body = r#"
      (local $p i32)
      ;; mmap(0, 8192, RW, PRIVATE|ANON, -1, 0)
      (local.set $p (call $mmap (i64.const 8192) (i64.const 3) (i64.const 0x22)))
      (i32.store offset=4096 (local.get $p) (i32.const 42))
      (call $expect (i32.const 1) (i32.load offset=4096 (local.get $p)) (i32.const 42))
      ;; read-only: the kernel may read a path there, and may not write
      (i32.store (local.get $p) (i32.const 0x2f))
      (call $expect (i32.const 2) (call $call (i32.const 10) (call $at (local.get $p)) (i64.const 4096) (i64.const 1)) (i32.const 0))
      (call $expect (i32.const 13) (i32.load (local.get $p)) (i32.const 0x2f))
      (call $expect (i32.const 14) (call $call (i32.const 80) (call $at (local.get $p)) (i64.const 0) (i64.const 0)) (i32.const 0))
      (call $expect (i32.const 3) (call $call (i32.const 228) (i64.const 0) (call $at (local.get $p)) (i64.const 0)) (i32.const -14))
      (call $expect (i32.const 4) (i32.load offset=4096 (local.get $p)) (i32.const 42))
      ;; brk grows from the end of the data
      (call $expect (i32.const 5) (call $call (i32.const 12) (i64.const 0) (i64.const 0) (i64.const 0)) (i32.const 131072))
      (call $expect (i32.const 6) (call $call (i32.const 12) (i64.const 140000) (i64.const 0) (i64.const 0)) (i32.const 143360))
      (i32.store (i32.const 140000) (i32.const 1))
      ;; bad requests
      (call $expect (i32.const 7) (call $mmap (i64.const 0) (i64.const 3) (i64.const 0x22)) (i32.const -22))
      (call $expect (i32.const 8) (call $mmap (i64.const 4096) (i64.const 3) (i64.const 0x20)) (i32.const -22))
      (call $expect (i32.const 9) (call $mmap (i64.const 0x200000000) (i64.const 3) (i64.const 0x22)) (i32.const -12))
      (call $expect (i32.const 10) (call $call (i32.const 11) (call $at (i32.const 1)) (i64.const 4096) (i64.const 0)) (i32.const -22))
      (call $expect (i32.const 11) (memory.grow (i32.const 1)) (i32.const -1))
      ;; unmapped: a load traps
      (call $expect (i32.const 12) (call $call (i32.const 11) (call $at (local.get $p)) (i64.const 8192) (i64.const 0)) (i32.const 0))
      (drop (i32.load (local.get $p)))"#;
    let mmap = r#"(func $mmap (param $len i64) (param $prot i64) (param $flags i64) (result i32)
      (call $sys (i32.const 9) (i64.const 0) (call $id) (call $id) (i64.const 0) (call $id)
        (local.get $len) (call $id) (local.get $prot) (call $id) (local.get $flags) (call $id)
        (i64.const -1) (call $id) (i64.const 0) (call $id)))"#;
    fixture.program("map.wasm", &lind_program(mmap, body));
    for strict in [&[][..], &["--strict-lind"]] {
        let ran = fixture.run(&[strict, &["/bin/map.wasm"]].concat());
        assert_eq!(ran.code, 1, "check failed: {ran:?}");
        assert!(
            ran.err.contains("out of bounds memory access"),
            "{}",
            ran.err
        );
    }
}

#[test]
fn strict_mode_refuses_what_lind_would_not_run() {
    let fixture = Fixture::new();
    let call = |nr: u32, a: i64| {
        format!("(drop (call $call (i32.const {nr}) (i64.const {a}) (i64.const 0) (i64.const 0)))")
    };
    fixture.program("umask.wasm", &lind_program("", &call(95, 0)));
    fixture.program("unused.wasm", &lind_program("", &call(39, 5)));
    fixture.program("returns.wasm", &lind_program("", "(return (i32.const 3))"));
    fixture.program(
        "epoch.wasm",
        &lind_program("", "").replace("\"epoch\"", "\"other\""),
    );
    fixture.program(
        "wasi.wasm",
        r#"(module (memory (export "memory") 1) (func (export "_start")))"#,
    );
    // close, with the flag that a library takes off; a copy to nowhere. Each ends with the error.
    let all = |nr: u32, first: &str, second: &str| {
        let rest = "(i64.const 0) (call $id) ".repeat(4);
        let call = format!("(i32.const {nr}) (i64.const 0) (call $id) (call $id)");
        let answer = format!("(call $sys {call} {first} {second} {rest})");
        let status = format!("(i32.and (i32.sub (i32.const 0) {answer}) (i32.const 255))");
        let end = "(i32.const 231) (i64.extend_i32_u";
        format!("(drop (call $call {end} {status}) (i64.const 0) (i64.const 0)))")
    };
    let flagged = "(i64.const 99) (i64.or (call $id) (i64.const 0x8000000000000000))";
    let none = "(i64.const 0) (call $id)";
    fixture.program("flag.wasm", &lind_program("", &all(3, flagged, none)));
    let from = "(call $at (i32.const 1024)) (call $id)";
    fixture.program("copy.wasm", &lind_program("", &all(1002, from, none)));
    for (name, plain, strict) in [("flag.wasm", 9, 3), ("copy.wasm", 0, 255)] {
        assert_eq!(fixture.run(&[name]).code, plain, "{name}");
        let ran = fixture.run(&["--strict-lind", &format!("/bin/{name}")]);
        assert_eq!(ran.code, strict, "{name}: {}", ran.err);
    }
    let dispatcher = r#"(func (export "pass_fptr_to_wt") (param i64) (result i32) (i32.const 0))"#;
    fixture.program("dispatcher.wasm", &lind_program(dispatcher, ""));
    for (name, plain, strict) in [
        ("umask.wasm", 0, 70),
        ("unused.wasm", 0, 70),
        ("returns.wasm", 3, 70),
        ("epoch.wasm", 0, 1),
        ("wasi.wasm", 0, 1),
        ("dispatcher.wasm", 0, 1),
    ] {
        assert_eq!(fixture.run(&[name]).code, plain, "{name}");
        let ran = fixture.run(&["--strict-lind", &format!("/bin/{name}")]);
        assert_eq!(ran.code, strict, "{name}: {}", ran.err);
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    }
}

#[test]
fn a_cage_can_end_itself_by_signal() {
    let fixture = Fixture::new();
    for (name, signal) in [("kill.wasm", 9), ("term.wasm", 15)] {
        let body = format!(
            "(drop (call $call (i32.const 62) (call $id) (i64.const {signal}) (i64.const 0))) (call $exit (i32.const 3))"
        );
        fixture.program(name, &lind_program("", &body));
        assert_eq!(fixture.run(&[name]).code, 128 + signal);
    }
}

#[test]
fn listening_sockets_are_handed_to_the_program() {
    let fixture = Fixture::new();
    // Accepts from the second, then from the first, and says hello.
    let accept = |listener: u32, connection: u32| {
        format!(
            "(call $expect (i32.const {listener}) (call $call (i32.const 43) (i64.const {listener}) (i64.const 0) (i64.const 0)) (i32.const {connection}))
             (drop (call $call (i32.const 1) (i64.const {connection}) (call $at (i32.const 1024)) (i64.const 18)))
             (drop (call $call (i32.const 3) (i64.const {connection}) (i64.const 0) (i64.const 0)))"
        )
    };
    fixture.program(
        "server.wasm",
        &lind_program(SAY, &[accept(4, 5), accept(3, 5)].concat()),
    );
    let (first, second) = (free_address(), free_address());
    let (first_text, second_text) = (first.to_string(), second.to_string());
    for net in ["all", "loopback", "none"] {
        for strict in [&[][..], &["--strict-lind"]] {
            let options = [
                "--net",
                net,
                "--listen",
                &first_text,
                "--listen",
                &second_text,
            ];
            let run = fixture.start(&[&options[..], strict, &["/bin/server.wasm"]].concat());
            for address in [second, first] {
                let mut said = String::new();
                connect(address).read_to_string(&mut said).unwrap();
                assert_eq!(said, "hello from a cage\n");
            }
            let ran = Fixture::ended(run);
            assert_eq!(ran.code, 0, "{}", ran.err);
        }
    }
    let taken = std::net::TcpListener::bind(first).unwrap();
    let ran = fixture.run(&["--listen", &first_text, "server.wasm"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains(&first_text), "{}", ran.err);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    drop(taken);
    assert_eq!(
        fixture.run(&["--listen", "nowhere", "server.wasm"]).code,
        64
    );
    assert_eq!(fixture.run(&["--net", "some", "server.wasm"]).code, 64);
}
