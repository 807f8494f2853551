//! WASI programs as cages: each function of preview 1, its errors, and that 3i sees it.

mod support;

use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use support::{Fixture, Ran, connect, free_address, lind_program};

/// Imports of the programs below: name and types of the parameters.
const FUNCTIONS: &[(&str, &str)] = &[
    ("args_get", "i32 i32"),
    ("args_sizes_get", "i32 i32"),
    ("clock_res_get", "i32 i32"),
    ("clock_time_get", "i32 i64 i32"),
    ("environ_get", "i32 i32"),
    ("environ_sizes_get", "i32 i32"),
    ("fd_advise", "i32 i64 i64 i32"),
    ("fd_allocate", "i32 i64 i64"),
    ("fd_close", "i32"),
    ("fd_datasync", "i32"),
    ("fd_fdstat_get", "i32 i32"),
    ("fd_fdstat_set_flags", "i32 i32"),
    ("fd_fdstat_set_rights", "i32 i64 i64"),
    ("fd_filestat_get", "i32 i32"),
    ("fd_filestat_set_size", "i32 i64"),
    ("fd_filestat_set_times", "i32 i64 i64 i32"),
    ("fd_pread", "i32 i32 i32 i64 i32"),
    ("fd_prestat_dir_name", "i32 i32 i32"),
    ("fd_prestat_get", "i32 i32"),
    ("fd_pwrite", "i32 i32 i32 i64 i32"),
    ("fd_read", "i32 i32 i32 i32"),
    ("fd_readdir", "i32 i32 i32 i64 i32"),
    ("fd_renumber", "i32 i32"),
    ("fd_seek", "i32 i64 i32 i32"),
    ("fd_sync", "i32"),
    ("fd_tell", "i32 i32"),
    ("fd_write", "i32 i32 i32 i32"),
    ("path_create_directory", "i32 i32 i32"),
    ("path_filestat_get", "i32 i32 i32 i32 i32"),
    ("path_filestat_set_times", "i32 i32 i32 i32 i64 i64 i32"),
    ("path_link", "i32 i32 i32 i32 i32 i32 i32"),
    ("path_open", "i32 i32 i32 i32 i32 i64 i64 i32 i32"),
    ("path_readlink", "i32 i32 i32 i32 i32 i32"),
    ("path_remove_directory", "i32 i32 i32"),
    ("path_rename", "i32 i32 i32 i32 i32 i32"),
    ("path_symlink", "i32 i32 i32 i32 i32"),
    ("path_unlink_file", "i32 i32 i32"),
    ("poll_oneoff", "i32 i32 i32 i32"),
    ("proc_raise", "i32"),
    ("random_get", "i32 i32"),
    ("sched_yield", ""),
    ("sock_accept", "i32 i32 i32"),
    ("sock_recv", "i32 i32 i32 i32 i32 i32"),
    ("sock_send", "i32 i32 i32 i32 i32"),
    ("sock_shutdown", "i32 i32"),
];

const AGAIN: i32 = 6;
const BADF: i32 = 8;
const EXIST: i32 = 20;
const FAULT: i32 = 21;
const INVAL: i32 = 28;
const IO: i32 = 29;
const ISDIR: i32 = 31;
const LOOP: i32 = 32;
const NAMETOOLONG: i32 = 37;
const NOENT: i32 = 44;
const NOTDIR: i32 = 54;
const NOTEMPTY: i32 = 55;
const NOTSOCK: i32 = 57;
const NOTSUP: i32 = 58;
const PERM: i32 = 63;
const PIPE: i32 = 64;
const SPIPE: i32 = 70;

/// The first byte that a memory of one page lacks.
const BEYOND: &str = "(i32.const 65536)";

/// A program of one memory page that runs `body`. Strings are laid out by [`Strings`]; offsets
/// from 8192 on are free.
fn wasi_program(strings: &Strings, body: &str) -> String {
    let imports: String = FUNCTIONS
        .iter()
        .map(|(name, params)| {
            format!(
                "(import \"wasi_snapshot_preview1\" \"{name}\" (func ${name} (param {params}) (result i32)))\n"
            )
        })
        .collect();
    format!(
        r#"(module
  {imports}
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "{}")
  ;; Ends with `code` unless the two are the same.
  (func $expect (param $code i32) (param $got i32) (param $want i32)
    (if (i32.ne (local.get $got) (local.get $want)) (then (call $proc_exit (local.get $code)))))
  (func $expect64 (param $code i32) (param $got i64) (param $want i64)
    (if (i64.ne (local.get $got) (local.get $want)) (then (call $proc_exit (local.get $code)))))
  ;; An iovec at 8000.
  (func $iovec (param $at i32) (param $len i32) (result i32)
    (i32.store (i32.const 8000) (local.get $at))
    (i32.store (i32.const 8004) (local.get $len))
    (i32.const 8000))
  (func $print (param $at i32) (param $len i32)
    (drop (call $fd_write (i32.const 1) (call $iovec (local.get $at) (local.get $len)) (i32.const 1) (i32.const 8016))))
  ;; Opens a path below a directory with these oflags, reading, and writing if it need not be a
  ;; directory; the descriptor is at 8024.
  (func $open (param $fd i32) (param $at i32) (param $len i32) (param $how i32) (result i32)
    (call $path_open (local.get $fd) (i32.const 1) (local.get $at) (local.get $len) (local.get $how)
      (select (i64.const 2) (i64.const 0x42) (i32.and (local.get $how) (i32.const 2))) (i64.const 0) (i32.const 0) (i32.const 8024)))
  (func $opened (result i32) (i32.load (i32.const 8024)))
  (func (export "_start") (local $fd i32) (local $at i32) (local $end i32) (local $cookie i64)
    {body}))"#,
        strings.0
    )
}

/// The strings of a program, from offset 1024 on.
#[derive(Default)]
struct Strings(String);

impl Strings {
    /// The arguments "address" and "length" of a string.
    fn at(&mut self, string: &str) -> String {
        let at = 1024 + self.0.len();
        assert!(at + string.len() < 8000 && !string.contains(['"', '\\']));
        self.0.push_str(string);
        format!("(i32.const {at}) (i32.const {})", string.len())
    }
}

/// Runs calls, each with the result that it must have.
fn run_checks(fixture: &Fixture, name: &str, strings: &Strings, checks: &[(String, i32)]) -> Ran {
    let body: String = checks
        .iter()
        .enumerate()
        .map(|(index, (call, want))| {
            format!(
                "(call $expect (i32.const {}) (call ${call}) (i32.const {want}))\n",
                index + 1
            )
        })
        .collect();
    fixture.program(name, &wasi_program(strings, &body));
    let ran = fixture.run(&[name]);
    assert_eq!(
        ran.code,
        0,
        "not as expected: {:?}; {}",
        checks.get(ran.code as usize - 1),
        ran.err
    );
    ran
}

fn check(call: impl Into<String>, want: i32) -> (String, i32) {
    (call.into(), want)
}

/// The same program for the preview before, which lacks a function.
fn unstable(program: &str) -> String {
    let accept = r#"(import "wasi_snapshot_preview1" "sock_accept" (func $sock_accept (param i32 i32 i32) (result i32)))"#;
    assert!(program.contains(accept));
    program
        .replace(accept, "")
        .replace("wasi_snapshot_preview1", "wasi_unstable")
}

#[test]
fn programs_of_the_preview_before_find_its_numbers_and_layouts() {
    let fixture = Fixture::new();
    std::fs::write(fixture.path("data"), "0123456789").unwrap();
    let mut strings = Strings::default();
    let data = strings.at("data");
    let [from_position, from_end, from_start] = [0, 1, 2];
    let seek = |code: u32, offset: i32, whence: i32, want: i32| {
        format!(
            "(call $expect (i32.const {code}) (call $fd_seek (call $opened) (i64.const {offset}) (i32.const {whence}) (i32.const 9000)) (i32.const 0))
             (call $expect64 (i32.const {code}) (i64.load (i32.const 9000)) (i64.const {want}))"
        )
    };
    let filestat = |code: u32, call: &str| {
        format!(
            "(memory.fill (i32.const 9000) (i32.const 7) (i32.const 64))
             (call $expect (i32.const {code}) (call ${call} (i32.const 9000)) (i32.const 0))
             (call $expect (i32.const {code}) (i32.load8_u (i32.const 9016)) (i32.const 4))
             (call $expect (i32.const {code}) (i32.load (i32.const 9020)) (i32.const 1))
             (call $expect64 (i32.const {code}) (i64.load (i32.const 9024)) (i64.const 10))
             (call $expect64 (i32.const {code}) (i64.load (i32.const 9056)) (i64.const 0x0707070707070707))"
        )
    };
    let body = [
        format!("(call $expect (i32.const 1) (call $open (i32.const 3) {data} (i32.const 0)) (i32.const 0))"),
        seek(2, -4, from_end, 6),
        seek(3, 2, from_position, 8),
        seek(4, 1, from_start, 1),
        format!("(call $expect (i32.const 5) (call $fd_seek (call $opened) (i64.const 0) (i32.const 3) (i32.const 9000)) (i32.const {INVAL}))"),
        filestat(6, "fd_filestat_get (call $opened)"),
        filestat(7, &format!("path_filestat_get (i32.const 3) (i32.const 0) {data}")),
        // A clock, whose identifier counts for nothing, and a descriptor that is ready.
        "(memory.fill (i32.const 9000) (i32.const 0) (i32.const 112))
         (i64.store (i32.const 9000) (i64.const 77)) (i32.store8 (i32.const 9008) (i32.const 0))
         (i64.store (i32.const 9016) (i64.const -1)) (i32.store (i32.const 9024) (i32.const 1))
         (i64.store (i32.const 9032) (i64.const 60000000000))
         (i64.store (i32.const 9056) (i64.const 78)) (i32.store8 (i32.const 9064) (i32.const 1))
         (i32.store (i32.const 9072) (call $opened))
         (call $expect (i32.const 8) (call $poll_oneoff (i32.const 9000) (i32.const 10000) (i32.const 2) (i32.const 11000)) (i32.const 0))
         (call $expect (i32.const 9) (i32.load (i32.const 11000)) (i32.const 1))
         (call $expect64 (i32.const 10) (i64.load (i32.const 10000)) (i64.const 78))
         (i64.store (i32.const 9032) (i64.const 1000000))
         (call $expect (i32.const 11) (call $poll_oneoff (i32.const 9000) (i32.const 10000) (i32.const 1) (i32.const 11000)) (i32.const 0))
         (call $expect64 (i32.const 12) (i64.load (i32.const 10000)) (i64.const 77))"
            .to_owned(),
    ]
    .concat();
    fixture.program("before.wasm", &unstable(&wasi_program(&strings, &body)));
    let ran = fixture.run(&["before.wasm"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
}

#[test]
fn what_wasi_does_not_have_here_is_named() {
    let fixture = Fixture::new();
    for (module, name, said) in [
        ("wasi", "thread-spawn", "wasi-threads"),
        ("wasi:cli/stdout@0.2.0", "get-stdout", "preview 2"),
        ("wasi_ephemeral_nn", "load", "proposal beside preview 1"),
        ("wasix_32v1", "fd_dup", "WASIX"),
    ] {
        let text = format!(
            "(module (import {module:?} {name:?} (func (param i32) (result i32)))
               (memory (export \"memory\") 1) (func (export \"_start\")))"
        );
        fixture.program("needs.wasm", &text);
        let ran = fixture.run(&["needs.wasm"]);
        assert_ne!(ran.code, 0);
        assert!(
            ran.err.contains(said) && ran.err.lines().count() == 1,
            "{}",
            ran.err
        );
    }
}

#[test]
fn a_program_prints_from_two_buffers_and_exits() {
    let fixture = Fixture::new();
    let mut strings = Strings::default();
    strings.at("hello from WASI");
    let body = r#"
      (i32.store (i32.const 8100) (i32.const 1024)) (i32.store (i32.const 8104) (i32.const 6))
      (i32.store (i32.const 8108) (i32.const 0)) (i32.store (i32.const 8112) (i32.const 0))
      (i32.store (i32.const 8116) (i32.const 1030)) (i32.store (i32.const 8120) (i32.const 9))
      (call $expect (i32.const 1) (call $fd_write (i32.const 1) (i32.const 8100) (i32.const 3) (i32.const 8200)) (i32.const 0))
      (call $expect (i32.const 2) (i32.load (i32.const 8200)) (i32.const 15))
      (call $proc_exit (i32.const 7))
      unreachable"#;
    fixture.program("hello.wasm", &wasi_program(&strings, body));
    let ran = fixture.run(&["hello.wasm"]);
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (7, "hello from WASI"),
        "{}",
        ran.err
    );
}

#[test]
fn arguments_and_environment_are_the_cages() {
    let fixture = Fixture::new();
    let body = r#"
      (call $expect (i32.const 1) (call $args_sizes_get (i32.const 8100) (i32.const 8104)) (i32.const 0))
      (call $expect (i32.const 2) (i32.load (i32.const 8100)) (i32.const 3))
      (call $expect (i32.const 3) (i32.load (i32.const 8104)) (i32.const 14))
      (call $expect (i32.const 4) (call $args_get (i32.const 9000) (i32.const 9100)) (i32.const 0))
      (call $expect (i32.const 5) (i32.load (i32.const 9008)) (i32.const 9112))
      (call $print (i32.const 9100) (i32.const 14))
      (call $expect (i32.const 6) (call $environ_sizes_get (i32.const 8100) (i32.const 8104)) (i32.const 0))
      (call $expect (i32.const 7) (i32.load (i32.const 8100)) (i32.const 1))
      (call $expect (i32.const 8) (call $environ_get (i32.const 9000) (i32.const 9100)) (i32.const 0))
      (call $print (i32.const 9100) (i32.load (i32.const 8104)))"#;
    fixture.program("args.wasm", &wasi_program(&Strings::default(), body));
    let ran = fixture.run(&["--env", "A=b c", "args.wasm", "x", "y"]);
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (0, "args.wasm\0x\0y\0A=b c\0"),
        "{}",
        ran.err
    );
}

#[test]
fn unknown_descriptors_are_ebadf() {
    let fixture = Fixture::new();
    let mut strings = Strings::default();
    let name = strings.at("x");
    let mut checks = Vec::new();
    // -100 would be AT_FDCWD if it were taken for an int.
    for fd in ["(i32.const 77)", "(i32.const -1)", "(i32.const -100)"] {
        let out = "(i32.const 9000)";
        for call in [
            format!("fd_advise {fd} (i64.const 0) (i64.const 0) (i32.const 0)"),
            format!("fd_allocate {fd} (i64.const 0) (i64.const 1)"),
            format!("fd_close {fd}"),
            format!("fd_datasync {fd}"),
            format!("fd_fdstat_get {fd} {out}"),
            format!("fd_fdstat_set_flags {fd} (i32.const 1)"),
            format!("fd_fdstat_set_rights {fd} (i64.const 0) (i64.const 0)"),
            format!("fd_filestat_get {fd} {out}"),
            format!("fd_filestat_set_size {fd} (i64.const 0)"),
            format!("fd_filestat_set_times {fd} (i64.const 0) (i64.const 0) (i32.const 1)"),
            format!(
                "fd_pread {fd} (call $iovec {out} (i32.const 1)) (i32.const 1) (i64.const 0) {out}"
            ),
            format!("fd_prestat_dir_name {fd} {out} (i32.const 1)"),
            format!("fd_prestat_get {fd} {out}"),
            format!(
                "fd_pwrite {fd} (call $iovec {out} (i32.const 1)) (i32.const 1) (i64.const 0) {out}"
            ),
            format!("fd_read {fd} (call $iovec {out} (i32.const 1)) (i32.const 1) {out}"),
            format!("fd_readdir {fd} {out} (i32.const 99) (i64.const 0) {out}"),
            format!("fd_renumber {fd} (i32.const 1)"),
            format!("fd_renumber (i32.const 1) {fd}"),
            format!("fd_seek {fd} (i64.const 0) (i32.const 0) {out}"),
            format!("fd_sync {fd}"),
            format!("fd_tell {fd} {out}"),
            format!("fd_write {fd} {out} (i32.const 0) {out}"),
            format!("path_create_directory {fd} {name}"),
            format!("path_filestat_get {fd} (i32.const 0) {name} {out}"),
            format!(
                "path_filestat_set_times {fd} (i32.const 0) {name} (i64.const 0) (i64.const 0) (i32.const 1)"
            ),
            format!("path_link {fd} (i32.const 0) {name} (i32.const 3) {name}"),
            format!("open {fd} {name} (i32.const 0)"),
            format!("path_readlink {fd} {name} {out} (i32.const 1) {out}"),
            format!("path_remove_directory {fd} {name}"),
            format!("path_rename {fd} {name} (i32.const 3) {name}"),
            format!("path_symlink {name} {fd} {name}"),
            format!("path_unlink_file {fd} {name}"),
            format!("sock_accept {fd} (i32.const 0) {out}"),
            format!("sock_recv {fd} {out} (i32.const 0) (i32.const 0) {out} {out}"),
            format!("sock_send {fd} {out} (i32.const 0) (i32.const 0) {out}"),
            format!("sock_shutdown {fd} (i32.const 1)"),
        ] {
            checks.push((call, BADF));
        }
    }
    run_checks(&fixture, "badf.wasm", &strings, &checks);
}

#[test]
fn wild_pointers_are_efault_and_leave_nothing_behind() {
    let fixture = Fixture::new();
    std::fs::write(fixture.path("f"), "data").unwrap();
    symlink("f", fixture.path("link")).unwrap();
    let mut strings = Strings::default();
    let (file, link, new) = (strings.at("f"), strings.at("link"), strings.at("new"));
    let mut checks = vec![check(format!("open (i32.const 3) {file} (i32.const 0)"), 0)];
    let ok = "(i32.const 9000)";
    for bad in [BEYOND, "(i32.const -1)", "(i32.const 65535)"] {
        // Of two bytes from there, one is outside.
        let pair = format!("{bad} (i32.const 2)");
        for call in [
            format!("args_sizes_get {bad} {ok}"),
            format!("args_get {bad} {ok}"),
            format!("clock_res_get (i32.const 0) {bad}"),
            format!("clock_time_get (i32.const 0) (i64.const 0) {bad}"),
            format!("fd_fdstat_get (i32.const 1) {bad}"),
            format!("fd_filestat_get (i32.const 1) {bad}"),
            format!(
                "fd_pread (call $opened) (call $iovec {pair}) (i32.const 1) (i64.const 0) {ok}"
            ),
            format!(
                "fd_pread (call $opened) (call $iovec {ok} (i32.const 1)) (i32.const 1) (i64.const 0) {bad}"
            ),
            format!("fd_prestat_get (i32.const 3) {bad}"),
            format!("fd_read (call $opened) {bad} (i32.const 1) {ok}"),
            format!("fd_readdir (i32.const 3) {pair} (i64.const 0) {ok}"),
            format!("fd_readdir (i32.const 3) {ok} (i32.const 64) (i64.const 0) {bad}"),
            format!("fd_seek (call $opened) (i64.const 1) (i32.const 0) {bad}"),
            format!("fd_tell (call $opened) {bad}"),
            format!("fd_write (i32.const 1) (call $iovec {pair}) (i32.const 1) {ok}"),
            format!("fd_write (i32.const 1) {bad} (i32.const 1) {ok}"),
            format!("fd_write (i32.const 1) (call $iovec {ok} (i32.const 1)) (i32.const 1) {bad}"),
            format!("path_create_directory (i32.const 3) {pair}"),
            format!("path_filestat_get (i32.const 3) (i32.const 0) {pair} {ok}"),
            format!("path_filestat_get (i32.const 3) (i32.const 0) {file} {bad}"),
            format!(
                "path_open (i32.const 3) (i32.const 0) {new} (i32.const 1) (i64.const 0x42) (i64.const 0) (i32.const 0) {bad}"
            ),
            format!("path_readlink (i32.const 3) {link} {bad} (i32.const 9) {ok}"),
            format!("path_readlink (i32.const 3) {link} {ok} (i32.const 9) {bad}"),
            format!("path_symlink {pair} (i32.const 3) {new}"),
            format!("poll_oneoff {bad} {ok} (i32.const 1) {ok}"),
            format!("poll_oneoff {ok} {bad} (i32.const 1) {ok}"),
            format!("poll_oneoff {ok} {ok} (i32.const 1) {bad}"),
            format!("random_get {pair}"),
        ] {
            checks.push((call, FAULT));
        }
    }
    // Lengths that wrap around.
    checks.extend([
        check(format!("random_get {ok} (i32.const -1)"), FAULT),
        check(format!("fd_write (i32.const 1) {ok} (i32.const -1) {ok}"), INVAL),
        check(format!("fd_write (i32.const 1) {ok} (i32.const 0x20000001) {ok}"), INVAL),
        check(format!("poll_oneoff {ok} {ok} (i32.const -1) {ok}"), INVAL),
        check(format!("path_unlink_file (i32.const 3) {ok} (i32.const -1)"), NAMETOOLONG),
        // Nothing was moved by the failed seeks and reads above.
        check(format!("fd_tell (call $opened) {ok}"), 0),
        check(format!("fd_read (call $opened) (call $iovec {ok} (i32.const 9)) (i32.const 1) (i32.const 9100)"), 0),
    ]);
    let ran = run_checks(&fixture, "fault.wasm", &strings, &checks);
    assert_eq!(ran.out, "");
    assert!(!fixture.path("new").exists());
}

#[test]
fn the_root_is_the_one_preopen() {
    let fixture = Fixture::new();
    std::fs::write(fixture.path("f"), "data").unwrap();
    let mut strings = Strings::default();
    let file = strings.at("f");
    let root = "(i32.const 3)";
    let out = "(i32.const 9000)";
    run_checks(
        &fixture,
        "preopen.wasm",
        &strings,
        &[
            check(format!("fd_prestat_get {root} {out}"), 0),
            check(
                format!("fd_prestat_dir_name {root} (i32.const 9100) (i32.const 0)"),
                NAMETOOLONG,
            ),
            check(
                format!("fd_prestat_dir_name {root} (i32.const 9100) (i32.const 1)"),
                0,
            ),
            check(format!("fd_prestat_get (i32.const 4) {out}"), BADF),
            check(format!("fd_prestat_get (i32.const 0) {out}"), BADF),
            check(format!("open {root} {file} (i32.const 0)"), 0),
            // It is open, but no preopen.
            check(format!("fd_prestat_get (call $opened) {out}"), BADF),
            check(format!("fd_close {root}"), 0),
            check(format!("fd_close {root}"), BADF),
            check(format!("fd_prestat_get {root} {out}"), BADF),
            check(format!("open {root} {file} (i32.const 0)"), BADF),
            check("fd_renumber (call $opened) (i32.const 3)", BADF),
            check(format!("fd_tell (call $opened) {out}"), 0),
        ],
    );
    // What is moved onto its number is no preopen either, and the root may move away.
    run_checks(
        &fixture,
        "moved.wasm",
        &strings,
        &[
            check(format!("open {root} {file} (i32.const 0)"), 0),
            check("fd_renumber (i32.const 3) (call $opened)", 0),
            check(format!("fd_prestat_get {root} {out}"), BADF),
            check(
                format!("path_filestat_get (call $opened) (i32.const 0) {file} {out}"),
                0,
            ),
            check("fd_renumber (call $opened) (call $opened)", 0),
            check("fd_renumber (call $opened) (i32.const 1)", 0),
            check(
                format!("path_filestat_get (i32.const 1) (i32.const 0) {file} {out}"),
                0,
            ),
        ],
    );
}

#[test]
fn paths_stay_below_their_directory() {
    let fixture = Fixture::new();
    std::fs::create_dir_all(fixture.path("a/b")).unwrap();
    std::fs::write(fixture.path("f"), "data").unwrap();
    symlink("f", fixture.path("link")).unwrap();
    symlink("../f", fixture.path("a/up")).unwrap();
    symlink("/etc/passwd", fixture.path("out")).unwrap();
    let mut strings = Strings::default();
    let mut open = |fd: &str, lookup: u32, path: &str, how: u32| {
        let path = strings.at(path);
        format!(
            "path_open {fd} (i32.const {lookup}) {path} (i32.const {how}) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 8024)"
        )
    };
    let root = "(i32.const 3)";
    let sub = "(i32.const 4)";
    let checks = [
        check(open(root, 1, "a", 2), 0),
        check(open(root, 1, "/f", 0), PERM),
        check(open(sub, 1, "/f", 0), PERM),
        check(open(sub, 1, "../f", 0), PERM),
        check(open(sub, 1, "b/../../f", 0), PERM),
        check(open(sub, 1, "b/..", 2), 0),
        // Text decides; links are the kernel's matter.
        check(open(sub, 1, "up", 0), 0),
        check(open(root, 1, "../f", 0), 0),
        check(open(root, 1, "../../a/../f", 0), 0),
        check(open(root, 1, "out", 0), NOENT),
        check(open(root, 1, "link", 0), 0),
        check(open(root, 0, "link", 0), LOOP),
        check(open(root, 2, "link", 0), INVAL),
        check(open(root, 1, "", 0), NOENT),
        check(open(root, 1, "none", 0), NOENT),
        check(open(root, 1, "f/x", 0), NOTDIR),
        check(open(root, 1, "f", 2), NOTDIR),
        check(open(root, 1, "f", 5), EXIST),
        check(open(root, 1, "f", 3), INVAL),
        check(open(root, 1, "f", 16), INVAL),
        check(open("(i32.const 1)", 1, "f", 0), NOTDIR),
    ];
    let write = |path: &str, strings: &mut Strings, flags: u32| {
        let path = strings.at(path);
        format!(
            "path_open {root} (i32.const 0) {path} (i32.const 0) (i64.const 0x42) (i64.const 0) (i32.const {flags}) (i32.const 8024)"
        )
    };
    let mut checks = checks.to_vec();
    checks.push(check(write("a", &mut strings, 0), ISDIR));
    checks.push(check(write("f", &mut strings, 32), INVAL));
    let (nul, long) = (strings.at("f?g"), strings.at(&"x".repeat(300)));
    checks.push(check(format!("path_unlink_file {root} {nul}"), NOENT));
    checks.push(check(
        format!("path_unlink_file {root} {long}"),
        NAMETOOLONG,
    ));
    checks.push(check(
        format!("path_unlink_file {root} (i32.const 100) (i32.const 3)"),
        INVAL,
    ));
    checks.push(check(
        format!("path_unlink_file {root} (i32.const 100) (i32.const 4096)"),
        NAMETOOLONG,
    ));
    run_checks(&fixture, "paths.wasm", &strings, &checks);
}

#[test]
fn names_are_made_changed_and_removed() {
    let fixture = Fixture::new();
    std::fs::write(fixture.path("f"), "data").unwrap();
    let mut strings = Strings::default();
    let [f, g, h, d, e, de, s, missing] =
        ["f", "g", "h", "d", "e", "d/e", "s", "d/none"].map(|name| strings.at(name));
    let root = "(i32.const 3)";
    let out = "(i32.const 9000)";
    run_checks(
        &fixture,
        "names.wasm",
        &strings,
        &[
            check(format!("path_create_directory {root} {d}"), 0),
            check(format!("path_create_directory {root} {d}"), EXIST),
            check(format!("path_create_directory {root} {de}"), 0),
            check(format!("path_remove_directory {root} {d}"), NOTEMPTY),
            check(format!("path_unlink_file {root} {de}"), ISDIR),
            check(format!("path_rename {root} {de} {root} {e}"), 0),
            check(format!("path_remove_directory {root} {d}"), 0),
            check(format!("path_remove_directory {root} {f}"), NOTDIR),
            check(format!("path_link {root} (i32.const 0) {f} {root} {g}"), 0),
            check(
                format!("path_link {root} (i32.const 0) {f} {root} {g}"),
                EXIST,
            ),
            check(format!("path_rename {root} {g} {root} {h}"), 0),
            check(format!("path_unlink_file {root} {f}"), 0),
            check(format!("path_unlink_file {root} {f}"), NOENT),
            check(format!("path_symlink {missing} {root} {s}"), 0),
            check(
                format!("path_readlink {root} {s} {out} (i32.const 0) (i32.const 9100)"),
                0,
            ),
            check(
                format!("path_readlink {root} {s} {out} (i32.const 3) (i32.const 9100)"),
                0,
            ),
            check(
                format!("path_readlink {root} {s} {out} (i32.const 99) (i32.const 9100)"),
                0,
            ),
            check(
                format!("path_readlink {root} {h} {out} (i32.const 99) (i32.const 9100)"),
                INVAL,
            ),
            check(
                format!("path_filestat_get {root} (i32.const 0) {s} {out}"),
                0,
            ),
            check(
                format!("path_filestat_get {root} (i32.const 1) {s} {out}"),
                NOENT,
            ),
            check(
                format!(
                    "path_filestat_set_times {root} (i32.const 0) {h} (i64.const 1) (i64.const 5000000000) (i32.const 5)"
                ),
                0,
            ),
            check(
                format!(
                    "path_filestat_set_times {root} (i32.const 0) {h} (i64.const 1) (i64.const 5) (i32.const 3)"
                ),
                INVAL,
            ),
        ],
    );
    assert_eq!(std::fs::read_to_string(fixture.path("h")).unwrap(), "data");
    assert!(fixture.path("e").is_dir());
    assert_eq!(
        std::fs::read_link(fixture.path("s")).unwrap().to_str(),
        Some("d/none")
    );
    let modified = std::fs::metadata(fixture.path("h"))
        .unwrap()
        .modified()
        .unwrap();
    assert_eq!(
        modified
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs(),
        5
    );
}

#[test]
fn data_go_where_they_should() {
    let fixture = Fixture::new();
    let mut strings = Strings::default();
    let name = strings.at("file");
    let text = strings.at("0123456789");
    let body = format!(
        r#"
      (call $expect (i32.const 1) (call $open (i32.const 3) {name} (i32.const 5)) (i32.const 0))
      (local.set $fd (call $opened))
      (call $expect (i32.const 2) (call $fd_write (local.get $fd) (call $iovec {text}) (i32.const 1) (i32.const 9000)) (i32.const 0))
      (call $expect (i32.const 3) (call $fd_tell (local.get $fd) (i32.const 9000)) (i32.const 0))
      (call $expect64 (i32.const 4) (i64.load (i32.const 9000)) (i64.const 10))
      ;; Two buffers, from and to a position; the current one stays.
      (i64.store (i32.const 9100) (i64.const 0x2_0000_2400)) (i64.store (i32.const 9108) (i64.const 0x3_0000_2500))
      (call $expect (i32.const 5) (call $fd_pread (local.get $fd) (i32.const 9100) (i32.const 2) (i64.const 4) (i32.const 9000)) (i32.const 0))
      (call $expect (i32.const 6) (i32.load (i32.const 9000)) (i32.const 5))
      (call $expect (i32.const 7) (i32.load16_u (i32.const 0x2400)) (i32.const 0x3534))
      (call $expect (i32.const 8) (i32.load (i32.const 0x2500)) (i32.const 0x383736))
      (call $expect (i32.const 9) (call $fd_pwrite (local.get $fd) (i32.const 9100) (i32.const 2) (i64.const 0) (i32.const 9000)) (i32.const 0))
      ;; A hole beyond 4 GiB.
      (call $expect (i32.const 10) (call $fd_seek (local.get $fd) (i64.const 0x200000000) (i32.const 0) (i32.const 9000)) (i32.const 0))
      (call $expect64 (i32.const 11) (i64.load (i32.const 9000)) (i64.const 0x200000000))
      (call $expect (i32.const 12) (call $fd_seek (local.get $fd) (i64.const -1) (i32.const 0) (i32.const 9000)) (i32.const {INVAL}))
      (call $expect (i32.const 13) (call $fd_seek (local.get $fd) (i64.const 0) (i32.const 3) (i32.const 9000)) (i32.const {INVAL}))
      (call $expect (i32.const 14) (call $fd_seek (local.get $fd) (i64.const -2) (i32.const 2) (i32.const 9000)) (i32.const 0))
      (call $expect64 (i32.const 15) (i64.load (i32.const 9000)) (i64.const 8))
      (call $expect (i32.const 16) (call $fd_read (local.get $fd) (i32.const 9100) (i32.const 2) (i32.const 9000)) (i32.const 0))
      (call $expect (i32.const 17) (i32.load (i32.const 9000)) (i32.const 2))
      (call $expect (i32.const 18) (i32.load16_u (i32.const 0x2400)) (i32.const 0x3938))
      ;; The end of the file, and no buffers at all.
      (call $expect (i32.const 19) (call $fd_read (local.get $fd) (i32.const 9100) (i32.const 2) (i32.const 9000)) (i32.const 0))
      (call $expect (i32.const 20) (i32.load (i32.const 9000)) (i32.const 0))
      (call $expect (i32.const 21) (call $fd_read (local.get $fd) (i32.const 9100) (i32.const 0) (i32.const 9000)) (i32.const 0))
      ;; Size, allocation, sync, advice, times.
      (call $expect (i32.const 22) (call $fd_filestat_set_size (local.get $fd) (i64.const 6)) (i32.const 0))
      (call $expect (i32.const 23) (call $fd_filestat_set_size (local.get $fd) (i64.const -1)) (i32.const {INVAL}))
      (call $expect (i32.const 24) (call $fd_allocate (local.get $fd) (i64.const 2) (i64.const 2)) (i32.const 0))
      (call $expect (i32.const 25) (call $fd_allocate (local.get $fd) (i64.const 2) (i64.const 5)) (i32.const 0))
      (call $expect (i32.const 26) (call $fd_allocate (local.get $fd) (i64.const 2) (i64.const 0)) (i32.const {INVAL}))
      (call $expect (i32.const 27) (call $fd_allocate (local.get $fd) (i64.const 2) (i64.const -1)) (i32.const {INVAL}))
      (call $expect (i32.const 28) (call $fd_allocate (i32.const 3) (i64.const 2) (i64.const 1)) (i32.const {BADF}))
      (call $expect (i32.const 29) (call $fd_sync (local.get $fd)) (i32.const 0))
      (call $expect (i32.const 30) (call $fd_datasync (local.get $fd)) (i32.const 0))
      (call $expect (i32.const 31) (call $fd_advise (local.get $fd) (i64.const 0) (i64.const 0) (i32.const 5)) (i32.const 0))
      (call $expect (i32.const 32) (call $fd_advise (local.get $fd) (i64.const 0) (i64.const 0) (i32.const 6)) (i32.const {INVAL}))
      (call $expect (i32.const 33) (call $fd_advise (i32.const 3) (i64.const 0) (i64.const 0) (i32.const 0)) (i32.const {BADF}))
      (call $expect (i32.const 34) (call $fd_filestat_set_times (local.get $fd) (i64.const 0) (i64.const 7000000001) (i32.const 4)) (i32.const 0))
      (call $expect (i32.const 35) (call $fd_filestat_get (local.get $fd) (i32.const 9200)) (i32.const 0))
      (call $expect (i32.const 36) (i32.load8_u (i32.const 9216)) (i32.const 4))
      (call $expect64 (i32.const 37) (i64.load (i32.const 9224)) (i64.const 1))
      (call $expect64 (i32.const 38) (i64.load (i32.const 9232)) (i64.const 7))
      (call $expect64 (i32.const 39) (i64.load (i32.const 9248)) (i64.const 7000000001))
      ;; Flags and rights.
      (call $expect (i32.const 40) (call $fd_fdstat_set_flags (local.get $fd) (i32.const 5)) (i32.const 0))
      (call $expect (i32.const 41) (call $fd_fdstat_set_flags (local.get $fd) (i32.const 16)) (i32.const {NOTSUP}))
      (call $expect (i32.const 42) (call $fd_fdstat_set_flags (local.get $fd) (i32.const 32)) (i32.const {INVAL}))
      (call $expect (i32.const 43) (call $fd_fdstat_get (local.get $fd) (i32.const 9200)) (i32.const 0))
      (call $expect (i32.const 44) (i32.load (i32.const 9200)) (i32.const 0x50004))
      (call $expect64 (i32.const 45) (i64.and (i64.load (i32.const 9208)) (i64.const 0x66)) (i64.const 0x66))
      (call $expect (i32.const 46) (call $fd_fdstat_set_rights (local.get $fd) (i64.const 0x42) (i64.const 0)) (i32.const {NOTSUP}))
      (call $expect (i32.const 47) (call $fd_seek (i32.const 3) (i64.const 0) (i32.const 0) (i32.const 9000)) (i32.const {BADF}))
      (call $expect (i32.const 48) (call $fd_fdstat_get (i32.const 3) (i32.const 9200)) (i32.const 0))
      (call $expect (i32.const 49) (i32.load8_u (i32.const 9200)) (i32.const 3))
      ;; Appended, since the flag is set.
      (call $expect (i32.const 50) (call $fd_write (local.get $fd) (call $iovec {text}) (i32.const 1) (i32.const 9000)) (i32.const 0))
      (call $expect (i32.const 51) (call $sock_shutdown (local.get $fd) (i32.const 1)) (i32.const {NOTSOCK}))
      (call $expect (i32.const 52) (call $fd_seek (i32.const 1) (i64.const 0) (i32.const 1) (i32.const 9000)) (i32.const {SPIPE}))
      (call $expect (i32.const 53) (call $fd_close (local.get $fd)) (i32.const 0))
      (call $expect (i32.const 54) (call $fd_close (local.get $fd)) (i32.const {BADF}))"#
    );
    fixture.program("data.wasm", &wasi_program(&strings, &body));
    let ran = fixture.run(&["data.wasm"]);
    assert_eq!(ran.code, 0, "check failed: {}", ran.err);
    assert_eq!(
        std::fs::read(fixture.path("file")).unwrap(),
        b"456785\x000123456789"
    );
}

#[test]
fn a_directory_is_listed_through_a_small_buffer() {
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.path("d")).unwrap();
    let mut names = vec![".".to_owned(), "..".to_owned()];
    for index in 0..300 {
        let name = format!("{index}-{}", "n".repeat(index % 40));
        std::fs::write(fixture.path("d").join(&name), "").unwrap();
        names.push(name);
    }
    let mut strings = Strings::default();
    let (name, newline) = (strings.at("d"), strings.at("|"));
    // The smallest holds just one of the longest entries.
    for len in [80, 4096, 50_000] {
        let body = format!(
            r#"
          (call $expect (i32.const 1) (call $open (i32.const 3) {name} (i32.const 2)) (i32.const 0))
          (local.set $fd (call $opened))
          (call $expect (i32.const 2) (call $fd_readdir (local.get $fd) (i32.const 12000) (i32.const 0) (i64.const 0) (i32.const 9000)) (i32.const 0))
          (loop $next
            (call $expect (i32.const 3)
              (call $fd_readdir (local.get $fd) (i32.const 12000) (i32.const {len}) (local.get $cookie) (i32.const 9000))
              (i32.const 0))
            (local.set $at (i32.const 12000))
            (local.set $end (i32.add (i32.const 12000) (i32.load (i32.const 9000))))
            (block $done
              (loop $entry
                (br_if $done (i32.gt_u (i32.add (local.get $at) (i32.const 24)) (local.get $end)))
                (br_if $done (i32.gt_u (i32.add (i32.add (local.get $at) (i32.const 24)) (i32.load offset=16 (local.get $at))) (local.get $end)))
                (call $print (i32.add (local.get $at) (i32.const 24)) (i32.load offset=16 (local.get $at)))
                (call $print {newline})
                (local.set $cookie (i64.load (local.get $at)))
                (local.set $at (i32.add (i32.add (local.get $at) (i32.const 24)) (i32.load offset=16 (local.get $at))))
                (br $entry)))
            (br_if $next (i32.eq (i32.load (i32.const 9000)) (i32.const {len}))))"#
        );
        fixture.program("list.wasm", &wasi_program(&strings, &body));
        let ran = fixture.run(&["list.wasm"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        let mut listed: Vec<&str> = ran.out.split_terminator('|').collect();
        listed.sort_unstable();
        names.sort_unstable();
        assert_eq!(listed, names, "with {len} bytes");
    }
}

/// Stores a subscription at an offset.
fn clock(at: u32, userdata: u64, clock: u32, timeout: u64, flags: u16) -> String {
    format!(
        "(i64.store (i32.const {at}) (i64.const {userdata})) (i32.store8 (i32.const {}) (i32.const 0))
         (i32.store (i32.const {}) (i32.const {clock})) (i64.store (i32.const {}) (i64.const {timeout}))
         (i32.store16 (i32.const {}) (i32.const {flags}))",
        at + 8,
        at + 16,
        at + 24,
        at + 40
    )
}

fn descriptor(at: u32, userdata: u64, kind: u8, fd: i32) -> String {
    format!(
        "(i64.store (i32.const {at}) (i64.const {userdata})) (i32.store8 (i32.const {}) (i32.const {kind}))
         (i32.store (i32.const {}) (i32.const {fd}))",
        at + 8,
        at + 16
    )
}

/// The call, on subscriptions from 9000 on; events go to 10000, their number to 11000.
fn poll(code: u32, count: u32, want: i32, events: u32) -> String {
    format!(
        "(call $expect (i32.const {code}) (call $poll_oneoff (i32.const 9000) (i32.const 10000) (i32.const {count}) (i32.const 11000)) (i32.const {want}))
         (call $expect (i32.const {}) (i32.load (i32.const 11000)) (i32.const {events}))",
        code + 1
    )
}

fn event(code: u32, index: u32, userdata: u64, error: u16, kind: u8) -> String {
    let at = 10000 + 32 * index;
    format!(
        "(call $expect64 (i32.const {code}) (i64.load (i32.const {at})) (i64.const {userdata}))
         (call $expect (i32.const {code}) (i32.load16_u (i32.const {})) (i32.const {error}))
         (call $expect (i32.const {code}) (i32.load8_u (i32.const {})) (i32.const {kind}))",
        at + 8,
        at + 10
    )
}

#[test]
fn waiting_ends_with_what_comes_first() {
    let fixture = Fixture::new();
    const MS: u64 = 1_000_000;
    let body = [
        poll(1, 0, INVAL, 0),
        // Clocks alone; the nearer of two.
        clock(9000, 5, 1, 30 * MS, 0),
        clock(9048, 6, 1, 90_000 * MS, 0),
        poll(3, 2, 0, 1),
        event(5, 0, 5, 0, 0),
        // Points in time that have passed, on both clocks; the later one does not count.
        clock(9000, 7, 0, 1, 1),
        clock(9048, 8, 1, 1, 1),
        clock(9096, 9, 0, u64::MAX, 0),
        poll(6, 3, 0, 2),
        event(8, 0, 7, 0, 0),
        event(9, 1, 8, 0, 0),
        // A clock that can't be waited for, one that does not exist.
        clock(9000, 10, 3, 1, 0),
        clock(9048, 11, 9, 1, 0),
        poll(10, 2, 0, 2),
        event(12, 0, 10, NOTSUP as u16, 0),
        event(13, 1, 11, NOTSUP as u16, 0),
        // Descriptors: bad ones, and one that is ready. The clock is too far off.
        descriptor(9000, 12, 1, 77),
        descriptor(9048, 13, 2, -100),
        descriptor(9096, 14, 2, 1),
        clock(9144, 15, 1, 90_000 * MS, 0),
        poll(14, 4, 0, 3),
        event(16, 0, 12, BADF as u16, 1),
        event(17, 1, 13, BADF as u16, 2),
        event(18, 2, 14, 0, 2),
        // Nothing happens on a directory's descriptor but that it can be read.
        descriptor(9000, 16, 1, 3),
        poll(19, 1, 0, 1),
        event(21, 0, 16, 0, 1),
        // An unknown kind.
        descriptor(9000, 17, 3, 1),
        poll(22, 1, INVAL, 1),
    ]
    .concat();
    fixture.program("poll.wasm", &wasi_program(&Strings::default(), &body));
    let started = std::time::Instant::now();
    let ran = fixture.run(&["poll.wasm"]);
    assert_eq!(ran.code, 0, "check failed: {}", ran.err);
    let took = started.elapsed().as_millis();
    assert!((30..20_000).contains(&took), "{took} ms");
}

#[test]
fn clocks_and_random_bytes() {
    let fixture = Fixture::new();
    let body = format!(
        r#"
      (call $expect (i32.const 1) (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 9000)) (i32.const 0))
      (call $expect (i32.const 2) (i64.gt_u (i64.load (i32.const 9000)) (i64.const 1700000000000000000)) (i32.const 1))
      (call $expect (i32.const 3) (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 9000)) (i32.const 0))
      (call $expect (i32.const 4) (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 9008)) (i32.const 0))
      (call $expect (i32.const 5) (i64.le_u (i64.load (i32.const 9000)) (i64.load (i32.const 9008))) (i32.const 1))
      (call $expect (i32.const 6) (call $clock_time_get (i32.const 3) (i64.const 0) (i32.const 9000)) (i32.const 0))
      (call $expect (i32.const 7) (call $clock_time_get (i32.const 4) (i64.const 0) (i32.const 9000)) (i32.const {INVAL}))
      (call $expect (i32.const 8) (call $clock_res_get (i32.const 1) (i32.const 9000)) (i32.const 0))
      (call $expect (i32.const 9) (i64.eqz (i64.load (i32.const 9000))) (i32.const 0))
      (call $expect (i32.const 10) (call $clock_res_get (i32.const -1) (i32.const 9000)) (i32.const {INVAL}))
      (call $expect (i32.const 11) (call $random_get (i32.const 12000) (i32.const 50000)) (i32.const 0))
      (call $expect (i32.const 12) (i64.eqz (i64.or (i64.load (i32.const 12000)) (i64.load (i32.const 61992)))) (i32.const 0))
      (call $expect (i32.const 13) (i64.eqz (i64.load (i32.const 62000))) (i32.const 1))
      (call $expect (i32.const 14) (call $sched_yield) (i32.const 0))
      (call $expect (i32.const 15) (call $proc_raise (i32.const 31)) (i32.const {INVAL}))
      (call $expect (i32.const 16) (call $proc_raise (i32.const 0)) (i32.const 0))
      (call $expect (i32.const 17) (call $proc_raise (i32.const 15)) (i32.const 0))"#
    );
    fixture.program("clocks.wasm", &wasi_program(&Strings::default(), &body));
    let ran = fixture.run(&["clocks.wasm"]);
    assert_eq!(ran.code, 128 + 15, "check failed: {}", ran.err);
}

#[test]
fn memory_may_grow_under_the_calls() {
    let fixture = Fixture::new();
    let body = r#"
      (call $expect (i32.const 1) (call $random_get (i32.const 70000) (i32.const 8)) (i32.const 21))
      (call $expect (i32.const 2) (memory.grow (i32.const 3)) (i32.const 1))
      (call $expect (i32.const 3) (call $random_get (i32.const 70000) (i32.const 8)) (i32.const 0))
      (call $expect (i32.const 4) (i64.eqz (i64.load (i32.const 70000))) (i32.const 0))"#;
    fixture.program("grow.wasm", &wasi_program(&Strings::default(), body));
    let ran = fixture.run(&["grow.wasm"]);
    assert_eq!(ran.code, 0, "check failed: {}", ran.err);
}

/// A Lind program that ends as another program.
fn becomes(more: &str, before: &str, program: &str) -> String {
    lind_program(
        &format!(
            "(data (i32.const 2000) \"{program}\\00\") (data (i32.const 2100) \"\\d0\\07\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\") {more}"
        ),
        &format!(
            "{before}
             (drop (call $call (i32.const 59) (call $at (i32.const 2000)) (call $at (i32.const 2100)) (call $at (i32.const 2108))))
             (call $exit (i32.const 99))"
        ),
    )
}

#[test]
fn an_inherited_descriptor_three_changes_places_with_the_root() {
    let fixture = Fixture::new();
    std::fs::write(fixture.path("f"), "data").unwrap();
    fixture.program(
        "parent.wasm",
        &becomes(
            "",
            "(drop (call $call (i32.const 33) (i64.const 1) (i64.const 3) (i64.const 0)))",
            "/bin/child.wasm",
        ),
    );
    let mut strings = Strings::default();
    let (file, text) = (strings.at("f"), strings.at("inherited"));
    let body = format!(
        r#"
      (call $expect (i32.const 1) (call $fd_prestat_get (i32.const 3) (i32.const 9000)) (i32.const 0))
      (call $expect (i32.const 2) (call $fd_prestat_get (i32.const 4) (i32.const 9000)) (i32.const {BADF}))
      (call $expect (i32.const 3) (call $fd_write (i32.const 4) (call $iovec {text}) (i32.const 1) (i32.const 9000)) (i32.const 0))
      (call $expect (i32.const 4) (call $open (i32.const 3) {file} (i32.const 0)) (i32.const 0))
      (call $expect (i32.const 5) (call $opened) (i32.const 5))
      (call $expect (i32.const 6) (call $fd_close (i32.const 3)) (i32.const 0))
      (call $expect (i32.const 7) (call $fd_prestat_get (i32.const 3) (i32.const 9000)) (i32.const {BADF}))
      (call $expect (i32.const 8) (call $fd_write (i32.const 4) (call $iovec {text}) (i32.const 1) (i32.const 9000)) (i32.const 0))"#
    );
    fixture.program("child.wasm", &wasi_program(&strings, &body));
    let ran = fixture.run(&["parent.wasm"]);
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (0, "inheritedinherited"),
        "{}",
        ran.err
    );
}

/// The parent registers itself for every call that the layer makes, then becomes a WASI program:
/// its handlers are gone with it, so each call that passes 3i fails with EIO. What still worked
/// would have a way around.
#[test]
fn no_function_has_a_way_around_3i() {
    const CALLS: &[u32] = &[
        0, 1, 3, 5, 7, 16, 17, 18, 19, 20, 24, 33, 35, 46, 47, 48, 55, 62, 72, 74, 75, 77, 78, 228,
        229, 231, 257, 258, 262, 263, 264, 265, 266, 267, 280, 288, 295, 296, 318, 1100,
    ];
    let fixture = Fixture::new();
    let register: String = CALLS
        .iter()
        .map(|nr| {
            format!(
                "(call $expect (i32.const 98) (call $as (call $id) (call $id) (i32.const 1001)
                   (call $id) (i64.const {nr}) (i64.const 0) (call $id) (i64.const 2) (call $id) (i64.const 0)) (i32.const 0))\n"
            )
        })
        .collect();
    let entry = format!(
        "(func (export \"pass_fptr_to_wt\") (param {}) (result i32) (i32.const 0))",
        "i64 ".repeat(14)
    );
    fixture.program(
        "parent.wasm",
        &becomes(&entry, &register, "/bin/child.wasm"),
    );
    let mut strings = Strings::default();
    let name = strings.at("f");
    let out = "(i32.const 9000)";
    let one = format!("(call $iovec {out} (i32.const 1))");
    let two = "(i32.const 9500) (i32.const 2)";
    let calls = [
        "clock_res_get (i32.const 0) (i32.const 9000)".to_owned(),
        "clock_time_get (i32.const 0) (i64.const 0) (i32.const 9000)".to_owned(),
        "fd_advise (i32.const 1) (i64.const 0) (i64.const 0) (i32.const 0)".to_owned(),
        "fd_allocate (i32.const 1) (i64.const 0) (i64.const 1)".to_owned(),
        "fd_close (i32.const 1)".to_owned(),
        "fd_datasync (i32.const 1)".to_owned(),
        format!("fd_fdstat_get (i32.const 1) {out}"),
        "fd_fdstat_set_flags (i32.const 1) (i32.const 1)".to_owned(),
        "fd_fdstat_set_rights (i32.const 1) (i64.const 0) (i64.const 0)".to_owned(),
        format!("fd_filestat_get (i32.const 1) {out}"),
        "fd_filestat_set_size (i32.const 1) (i64.const 0)".to_owned(),
        "fd_filestat_set_times (i32.const 1) (i64.const 0) (i64.const 0) (i32.const 1)".to_owned(),
        format!("fd_pread (i32.const 1) {one} (i32.const 1) (i64.const 0) {out}"),
        format!("fd_pread (i32.const 1) {two} (i64.const 0) {out}"),
        format!("fd_pwrite (i32.const 1) {one} (i32.const 1) (i64.const 0) {out}"),
        format!("fd_pwrite (i32.const 1) {two} (i64.const 0) {out}"),
        format!("fd_read (i32.const 0) {one} (i32.const 1) {out}"),
        format!("fd_read (i32.const 0) {two} {out}"),
        format!("fd_readdir (i32.const 1) {out} (i32.const 99) (i64.const 0) {out}"),
        "fd_renumber (i32.const 1) (i32.const 2)".to_owned(),
        format!("fd_seek (i32.const 1) (i64.const 0) (i32.const 0) {out}"),
        "fd_sync (i32.const 1)".to_owned(),
        format!("fd_tell (i32.const 1) {out}"),
        format!("fd_write (i32.const 1) {one} (i32.const 1) {out}"),
        format!("fd_write (i32.const 1) {two} {out}"),
        format!("path_create_directory (i32.const 1) {name}"),
        format!("path_filestat_get (i32.const 1) (i32.const 0) {name} {out}"),
        format!(
            "path_filestat_set_times (i32.const 1) (i32.const 0) {name} (i64.const 0) (i64.const 0) (i32.const 1)"
        ),
        format!("path_link (i32.const 1) (i32.const 0) {name} (i32.const 1) {name}"),
        format!("open (i32.const 1) {name} (i32.const 0)"),
        format!("path_readlink (i32.const 1) {name} {out} (i32.const 1) {out}"),
        format!("path_remove_directory (i32.const 1) {name}"),
        format!("path_rename (i32.const 1) {name} (i32.const 1) {name}"),
        format!("path_symlink {name} (i32.const 1) {name}"),
        format!("path_unlink_file (i32.const 1) {name}"),
        "poll_oneoff (i32.const 9600) (i32.const 9700) (i32.const 1) (i32.const 9000)".to_owned(),
        "proc_raise (i32.const 9)".to_owned(),
        format!("random_get {out} (i32.const 8)"),
        "sched_yield".to_owned(),
        format!("sock_accept (i32.const 1) (i32.const 0) {out}"),
        format!("sock_recv (i32.const 1) {out} (i32.const 0) (i32.const 0) {out} {out}"),
        format!("sock_send (i32.const 1) {out} (i32.const 0) (i32.const 0) {out}"),
        "sock_shutdown (i32.const 1) (i32.const 1)".to_owned(),
    ];
    let checks: String = calls
        .iter()
        .enumerate()
        .map(|(index, call)| {
            format!(
                "(call $expect (i32.const {}) (call ${call}) (i32.const {IO}))\n",
                index + 1
            )
        })
        .collect();
    let body = format!(
        "(i64.store (i32.const 9500) (i64.const 0x1_0000_2400)) (i64.store (i32.const 9508) (i64.const 0x1_0000_2401))
         {}
         {checks}
         ;; Without the call that opens it, there is no root.
         (call $expect (i32.const 90) (call $fd_prestat_get (i32.const 3) {out}) (i32.const {BADF}))
         (call $proc_exit (i32.const 77))",
        descriptor(9600, 0, 2, 1)
    );
    fixture.program("child.wasm", &wasi_program(&strings, &body));
    let ran = fixture.run(&["parent.wasm"]);
    assert_eq!(
        ran.code,
        77,
        "{:?}: {}",
        calls.get(ran.code as usize - 1),
        ran.err
    );
    assert_eq!(ran.out, "");
}

#[test]
fn a_program_serves_the_socket_that_it_is_handed() {
    let fixture = Fixture::new();
    std::fs::write(fixture.path("f"), "data").unwrap();
    let mut strings = Strings::default();
    let (file, hello, name) = (
        strings.at("f"),
        strings.at("hello"),
        strings.at("LISTEN_FDS=1"),
    );
    let body = format!(
        r#"
      (call $expect (i32.const 1) (call $environ_sizes_get (i32.const 9000) (i32.const 9004)) (i32.const 0))
      (call $expect (i32.const 2) (i32.load (i32.const 9004)) (i32.const 13))
      (call $expect (i32.const 3) (call $environ_get (i32.const 9000) (i32.const 9100)) (i32.const 0))
      (call $expect64 (i32.const 4) (i64.load (i32.const 9104)) (i64.load (i32.add (i32.const 4) {name_at})))
      ;; The root comes after the socket, which is passed over by who looks for directories.
      (call $expect (i32.const 5) (call $fd_prestat_get (i32.const 3) (i32.const 9000)) (i32.const 0))
      (call $expect (i32.const 6) (i32.load8_u (i32.const 9000)) (i32.const 1))
      (call $expect (i32.const 7) (call $fd_prestat_dir_name (i32.const 3) (i32.const 9000) (i32.const 1)) (i32.const {BADF}))
      (call $expect (i32.const 8) (call $fd_prestat_get (i32.const 4) (i32.const 9000)) (i32.const 0))
      (call $expect (i32.const 9) (i32.load8_u (i32.const 9000)) (i32.const 0))
      (call $expect (i32.const 10) (call $fd_prestat_get (i32.const 5) (i32.const 9000)) (i32.const {BADF}))
      (call $expect (i32.const 11) (call $open (i32.const 4) {file} (i32.const 0)) (i32.const 0))
      (call $expect (i32.const 12) (call $opened) (i32.const 5))
      (call $expect (i32.const 13) (call $fd_fdstat_get (i32.const 3) (i32.const 9200)) (i32.const 0))
      (call $expect (i32.const 14) (i32.load8_u (i32.const 9200)) (i32.const 6))
      ;; Nobody is there yet.
      (call $expect (i32.const 15) (call $fd_fdstat_set_flags (i32.const 3) (i32.const 4)) (i32.const 0))
      (call $expect (i32.const 16) (call $sock_accept (i32.const 3) (i32.const 0) (i32.const 8300)) (i32.const {AGAIN}))
      (call $expect (i32.const 17) (call $sock_accept (i32.const 3) (i32.const 1) (i32.const 8300)) (i32.const {INVAL}))
      (call $print {hello})
      {on_listener} {wait_listener} {listener_ready}
      (call $expect (i32.const 23) (call $sock_accept (i32.const 3) (i32.const 4) (i32.const 8300)) (i32.const 0))
      (call $expect (i32.const 24) (i32.load (i32.const 8300)) (i32.const 6))
      (call $expect (i32.const 25) (call $fd_fdstat_get (i32.const 6) (i32.const 9200)) (i32.const 0))
      (call $expect (i32.const 26) (i32.load (i32.const 9200)) (i32.const 0x40006))
      {on_connection} {wait_connection} {connection_ready}
      (call $expect64 (i32.const 32) (i64.load (i32.const 10016)) (i64.const 4))
      (call $expect (i32.const 33) (call $sock_recv (i32.const 6) (call $iovec (i32.const 9400) (i32.const 9)) (i32.const 1) (i32.const 1) (i32.const 8304) (i32.const 8308)) (i32.const 0))
      (call $expect (i32.const 34) (i32.load (i32.const 8304)) (i32.const 4))
      (call $expect (i32.const 35) (call $fd_read (i32.const 6) (call $iovec (i32.const 9400) (i32.const 9)) (i32.const 1) (i32.const 8304)) (i32.const 0))
      (call $expect (i32.const 36) (i32.load (i32.const 9400)) (i32.const 0x676e6970))
      (call $expect (i32.const 37) (call $sock_recv (i32.const 6) (call $iovec (i32.const 9400) (i32.const 9)) (i32.const 1) (i32.const 0) (i32.const 8304) (i32.const 8308)) (i32.const {AGAIN}))
      (call $expect (i32.const 38) (call $sock_recv (i32.const 6) (call $iovec (i32.const 9400) (i32.const 9)) (i32.const 1) (i32.const 4) (i32.const 8304) (i32.const 8308)) (i32.const {INVAL}))
      (call $expect (i32.const 39) (call $sock_send (i32.const 6) (call $iovec (i32.const 9400) (i32.const 4)) (i32.const 1) (i32.const 1) (i32.const 8304)) (i32.const {INVAL}))
      (call $expect (i32.const 40) (call $sock_send (i32.const 6) (call $iovec (i32.const 9400) (i32.const 4)) (i32.const 1) (i32.const 0) (i32.const 8304)) (i32.const 0))
      (call $expect (i32.const 41) (i32.load (i32.const 8304)) (i32.const 4))
      (call $expect (i32.const 42) (call $sock_shutdown (i32.const 6) (i32.const 0)) (i32.const {INVAL}))
      (call $expect (i32.const 43) (call $sock_shutdown (i32.const 6) (i32.const 4)) (i32.const {INVAL}))
      (call $expect (i32.const 44) (call $sock_shutdown (i32.const 6) (i32.const 2)) (i32.const 0))
      (call $expect (i32.const 45) (call $sock_send (i32.const 6) (call $iovec (i32.const 9400) (i32.const 4)) (i32.const 1) (i32.const 0) (i32.const 8304)) (i32.const {PIPE}))
      (call $expect (i32.const 46) (call $sock_shutdown (i32.const 6) (i32.const 3)) (i32.const 0))"#,
        name_at = name.split_once(") ").unwrap().0.to_owned() + ")",
        on_listener = descriptor(9000, 7, 1, 3),
        wait_listener = poll(18, 1, 0, 1),
        listener_ready = event(20, 0, 7, 0, 1),
        on_connection = descriptor(9000, 8, 1, 6),
        wait_connection = poll(27, 1, 0, 1),
        connection_ready = event(29, 0, 8, 0, 1),
    );
    fixture.program("server.wasm", &wasi_program(&strings, &body));
    let address = free_address();
    let mut run = fixture.start(&["--listen", &address.to_string(), "server.wasm"]);
    let mut ready = [0; 5];
    let out = run.stdout.as_mut().unwrap();
    if let Err(error) = out.read_exact(&mut ready) {
        panic!("{error}: {:?}", Fixture::ended(run));
    }
    let mut stream = connect(address);
    std::thread::sleep(std::time::Duration::from_millis(30));
    stream.write_all(b"ping").unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    let ran = Fixture::ended(run);
    assert_eq!((ran.code, answer.as_str()), (0, "ping"), "{}", ran.err);
}

#[test]
fn datagram_sockets_are_told_apart_and_cut_messages_too() {
    let fixture = Fixture::new();
    let pair = "(drop (call $as (call $id) (call $id) (i32.const 53) (i64.const 1) (call $id) (i64.const 2) (call $id)
        (i64.const 0) (call $id) (call $at (i32.const 3000))))";
    fixture.program("parent.wasm", &becomes("", pair, "/bin/child.wasm"));
    let mut strings = Strings::default();
    let text = strings.at("abcdef");
    // The root is the cage's 5, and changes places with its 3.
    let body = format!(
        r#"
      (call $expect (i32.const 1) (call $fd_fdstat_get (i32.const 4) (i32.const 9200)) (i32.const 0))
      (call $expect (i32.const 2) (i32.load8_u (i32.const 9200)) (i32.const 5))
      (call $expect (i32.const 3) (call $sock_send (i32.const 4) (call $iovec {text}) (i32.const 1) (i32.const 0) (i32.const 8304)) (i32.const 0))
      (call $expect (i32.const 4) (call $sock_recv (i32.const 5) (call $iovec (i32.const 9400) (i32.const 3)) (i32.const 1) (i32.const 1) (i32.const 8304) (i32.const 8308)) (i32.const 0))
      (call $expect (i32.const 5) (i32.load (i32.const 8304)) (i32.const 3))
      (call $expect (i32.const 6) (i32.load16_u (i32.const 8308)) (i32.const 1))
      (call $expect (i32.const 7) (call $sock_recv (i32.const 5) (call $iovec (i32.const 9400) (i32.const 9)) (i32.const 1) (i32.const 0) (i32.const 8304) (i32.const 8308)) (i32.const 0))
      (call $expect (i32.const 8) (i32.load (i32.const 8304)) (i32.const 6))
      (call $expect (i32.const 9) (i32.load16_u (i32.const 8308)) (i32.const 0))
      (call $expect (i32.const 10) (call $sock_accept (i32.const 4) (i32.const 0) (i32.const 8304)) (i32.const {NOTSUP}))
      (call $proc_exit (i32.const 77))"#
    );
    fixture.program("child.wasm", &wasi_program(&strings, &body));
    let ran = fixture.run(&["parent.wasm"]);
    assert_eq!(ran.code, 77, "{}", ran.err);
}
