//! Malformed, odd and generated modules: each runs, or is refused, or traps, with one line that a
//! terminal can take; nothing panics, aborts or hangs. The same for artifacts.

mod support;

use arbitrary::Unstructured;
use lind_wasm::artifact::ArtifactKey;
use lind_wasm::module::Size;
use lind_wasm::program::Program;
use std::io::Cursor;
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};
use support::{Fixture, Ran, lind_program};
use wasm_smith::{Config, Module};

/// Longest line that is still one for a person.
const LINE_MAX: usize = 500;
/// How long a run may take before it counts as hanging: many times what the longest takes.
const PATIENCE: Duration = Duration::from_secs(300);

/// Puts a program into `/bin`.
fn put(fixture: &Fixture, name: &str, bytes: &[u8]) -> PathBuf {
    let path = fixture.path("bin").join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// How a run went that ends within that time. Another one is stopped.
fn ended(mut child: Child, within: Duration) -> Option<Ran> {
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > within {
            child.kill().unwrap();
            child.wait().unwrap();
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Some(Fixture::ended(child))
}

fn run(fixture: &Fixture, args: &[&str]) -> Ran {
    ended(fixture.start(args), PATIENCE).unwrap_or_else(|| panic!("{args:?} hangs"))
}

/// That the runtime held: it ended by itself, and said at most a line, about that program.
fn check(ran: &Ran, name: &str) {
    assert!(![-1, 70, 101].contains(&ran.code), "{name}: {ran:?}");
    assert!(ran.err.lines().count() <= 1, "{name}: {}", ran.err);
    for line in ran.err.lines() {
        assert!(line.starts_with("lind-wasm: "), "{name}: {line}");
        assert!(line.contains(name), "{name}: {line}");
        assert!(line.len() <= LINE_MAX, "{name}: {} bytes", line.len());
        assert!(!line.contains(char::is_control), "{name}: {line:?}");
    }
}

/// What becomes of a module.
#[derive(Clone, Copy)]
enum Fate {
    /// Ends with that status, without a word.
    Exits(i32),
    /// A line with that text, and status 1: before it starts, or by a trap.
    Refused(&'static str),
    /// Either of the two, as this machine's memory allows.
    Either,
}
use Fate::{Either, Exits, Refused};

/// A Lind program that ends with 0 unless a part of it is exchanged for what upsets it.
fn changed(from: &str, to: &str) -> String {
    let text = lind_program("", "");
    assert!(text.contains(from), "{from}");
    text.replace(from, to)
}

/// A Lind program that forks, and ends with 7 when the fork answers ENOSYS.
const FORK: &str = "(if (i32.eq (call $call (i32.const 56) (i64.const 0) (i64.const 0) (i64.const 0)) (i32.const -38)) (then (call $exit (i32.const 7))))";

fn forking(from: &str, to: &str) -> String {
    let text = lind_program("", FORK);
    assert!(text.contains(from), "{from}");
    text.replace(from, to)
}

/// A Lind program that makes itself a grate of its own, and ends with 9 when that is EINVAL.
fn registering(entry: &str) -> String {
    lind_program(
        entry,
        "(if (i32.eq (call $as (call $id) (call $id) (i32.const 1001) (call $id) (i64.const 39)
            (i64.const 0) (call $id) (i64.const 0) (call $id) (i64.const 0)) (i32.const -22))
           (then (call $exit (i32.const 9))))
         (drop (call $call (i32.const 39) (i64.const 0) (i64.const 0) (i64.const 0)))",
    )
}

/// A WASI program, which has a memory of its own.
fn wasi(parts: &str) -> String {
    format!(r#"(module (memory (export "memory") 1) {parts} (func (export "_start")))"#)
}

fn repeated(count: usize, part: &str) -> String {
    part.repeat(count)
}

#[test]
fn odd_modules_run_or_are_refused_in_a_line() {
    let fixture = Fixture::new();
    let nested = |open: &str, count: usize| {
        format!(
            r#"(module (memory 1) (func (export "_start") {} {}))"#,
            repeated(count, open),
            repeated(count, " end")
        )
    };
    let start = r#"(func (export "_start")"#;
    let mut cases: Vec<(&str, String, Fate)> = vec![
        // Exports that are not what their names promise.
        ("no-start", "(module (memory 1))".into(), Refused("no `_start`")),
        ("start-global", r#"(module (memory 1) (global (export "_start") i32 (i32.const 0)))"#.into(), Refused("_start")),
        ("start-memory", r#"(module (memory (export "_start") 1))"#.into(), Refused("_start")),
        ("start-params", r#"(module (memory 1) (func (export "_start") (param i32)))"#.into(), Refused("_start")),
        ("start-results", format!(r#"(module (memory 1) (func (export "_start") (result f64 v128 funcref {}) unreachable))"#, repeated(900, "i64 ")), Refused("unreachable")),
        ("start-float", r#"(module (memory 1) (func (export "_start") (result f64) (f64.const 1)))"#.into(), Exits(0)),
        ("memory-func", r#"(module (memory 1) (func (export "memory")) (func (export "_start")))"#.into(), Exits(0)),
        ("sp-i64", changed("(mut i32) (i32.const 65536)", "(mut i64) (i64.const 65536)"), Exits(0)),
        ("sp-const", changed("(mut i32) (i32.const 65536)", "i32 (i32.const 65536)"), Exits(0)),
        ("low-f32", changed("i32 (i32.const 4096)", "f32 (f32.const 4096)"), Exits(0)),
        ("no-epoch", changed("\"epoch\"", "\"other\""), Exits(0)),
        // A fork needs its functions as they are meant, or it is not to be had.
        ("fork-sp-i64", forking("(mut i32) (i32.const 65536)", "(mut i64) (i64.const 65536)"), Exits(7)),
        ("fork-sp-const", forking("(mut i32) (i32.const 65536)", "i32 (i32.const 65536)"), Exits(7)),
        ("fork-low-f32", forking("i32 (i32.const 4096)", "f32 (f32.const 4096)"), Exits(7)),
        ("fork-low-wild", forking("i32 (i32.const 4096)", "i32 (i32.const -4)"), Refused("__stack_low")),
        ("fork-unwind-i64", forking("\"asyncify_start_unwind\") (param i32)", "\"asyncify_start_unwind\") (param i64)"), Exits(7)),
        ("fork-rewind-result", forking("\"asyncify_start_rewind\") (param i32)", "\"asyncify_start_rewind\") (param i32) (result i32) (i32.const 0)"), Exits(7)),
        ("fork-stop-global", forking("(func (export \"asyncify_stop_unwind\"))", "(global (export \"asyncify_stop_unwind\") i32 (i32.const 0))"), Exits(7)),
        ("fork-unwind-traps", forking("\"asyncify_start_unwind\") (param i32)", "\"asyncify_start_unwind\") (param i32) unreachable"), Refused("unreachable")),
        ("fork-unwind-exits", forking("\"asyncify_start_unwind\") (param i32)", "\"asyncify_start_unwind\") (param i32) (call $exit (i32.const 5))"), Refused("asyncify")),
        ("fork-no-unwind", lind_program("", FORK), Refused("fork")),
        // What calls a grate's handlers.
        ("entry-type", registering(r#"(func (export "pass_fptr_to_wt") (param i32) (result i32) (i32.const 0))"#), Exits(9)),
        ("entry-global", registering(r#"(global (export "pass_fptr_to_wt") i32 (i32.const 0))"#), Exits(9)),
        ("entry-none", registering(""), Exits(9)),
        // Start functions.
        ("init-traps", wasi("(func $i unreachable) (start $i)"), Refused("unreachable")),
        ("init-recurses", wasi("(func $i (call $i)) (start $i)"), Refused("call stack exhausted")),
        ("init-exits", lind_program("(func $i (call $exit (i32.const 4))) (start $i)", ""), Exits(4)),
        ("init-forks", lind_program(&format!("(func $i {FORK}) (start $i)"), ""), Refused("fork")),
        ("recurses", "(module (memory 1) (func $f (export \"_start\") (call $f)))".into(), Refused("call stack exhausted")),
        ("tail-calls", "(module (memory 1) (global $n (mut i32) (i32.const 99999)) (func $f (export \"_start\") (if (global.get $n) (then (global.set $n (i32.sub (global.get $n) (i32.const 1))) (return_call $f)))))".into(), Exits(0)),
        // Memories.
        ("no-memory", "(module (func (export \"_start\")))".into(), Refused("no memory")),
        ("two-memories", wasi("(memory 1)"), Refused("more than one memory")),
        ("memory64", wasi("").replace("\"memory\") 1", "\"memory\") i64 1"), Refused("32-bit")),
        ("memory-0", wasi("").replace("\"memory\") 1", "\"memory\") 0 0"), Exits(0)),
        ("memory-full", wasi("").replace("\"memory\") 1", "\"memory\") 65536"), Either),
        ("memory-page-size", "(module (memory 65536 (pagesize 1)) (func (export \"_start\")))".into(), Refused("32-bit")),
        ("lind-memory-0", changed("(memory 2 1024 shared)", "(memory 0 0 shared)"), Exits(0)),
        ("grows", wasi("").replace(start, &format!("{start} (loop (br_if 0 (i32.ne (memory.grow (i32.const 7000)) (i32.const -1))))")), Exits(0)),
        // Segments outside of what they fill.
        ("data-outside", wasi(r#"(data (i32.const 65530) "too long")"#), Refused("out of bounds memory access")),
        ("lind-data-wild", lind_program(r#"(data (i32.const 0x70000000) "x")"#, ""), Refused("out of bounds memory access")),
        ("lind-data-fits", lind_program(r#"(data (i32.const 131071) "x")"#, ""), Exits(0)),
        ("data-wild", wasi(r#"(data (i32.const -1) "x")"#), Refused("out of bounds memory access")),
        ("element-outside", wasi("(table 1 funcref) (func $f) (elem (i32.const 1) $f)"), Refused("out of bounds table access")),
        ("data-passive", wasi("").replace(start, &format!("(data \"x\") {start} (memory.init 0 (i32.const 0) (i32.const 0) (i32.const 2))")), Refused("out of bounds memory access")),
        // Large things.
        ("locals-50000", format!(r#"(module (memory 1) (func (export "_start") (local {})))"#, repeated(50_000, "i32 ")), Exits(0)),
        ("locals-50001", format!(r#"(module (memory 1) (func (export "_start") (local {})))"#, repeated(50_001, "i64 ")), Refused("locals")),
        ("params-1001", format!(r#"(module (memory 1) (func (param {})) (func (export "_start")))"#, repeated(1001, "i64 ")), Refused("param")),
        ("blocks", nested("block ", 30_000), Exits(0)),
        ("loops", nested("loop ", 300), Exits(0)),
        ("ifs", nested("i32.const 1 if ", 10_000), Exits(0)),
        ("operands", format!(r#"(module (memory 1) (func (export "_start") {} {}))"#, repeated(50_000, "i32.const 1 "), repeated(50_000, "drop ")), Exits(0)),
        ("nops", format!(r#"(module (memory 1) (func (export "_start") {}))"#, repeated(1_000_000, "nop ")), Exits(0)),
        ("branches", format!(r#"(module (memory 1) (func (export "_start") (block (br_table {} 0 (i32.const 7)))))"#, repeated(60_000, "0 ")), Exits(0)),
        ("globals", wasi(&repeated(20_000, "(global (mut i64) (i64.const 7))")), Either),
        ("tables", wasi(&repeated(100, "(table 1000 funcref)")), Exits(0)),
        ("too-many-tables", wasi(&repeated(101, "(table 1 funcref)")), Refused("tables")),
        ("table-10000000", wasi("(table 10000000 funcref)"), Either),
        ("table-wild", wasi("(table 0xffffffff funcref)"), Either),
        ("data-5000", wasi(&repeated(5_000, "(data (i32.const 0) \"x\")")), Either),
        ("functions", wasi(&repeated(2_000, "(func)")), Exits(0)),
        // Imports that there are not.
        ("import-none", format!(r#"(module (import "lind" "{}\1b[31m" (func)) (memory 1) (func (export "_start")))"#, repeated(90_000, "x")), Refused("unknown import")),
        ("import-type", r#"(module (import "lind" "make-syscall" (func)) (memory 1) (func (export "_start")))"#.into(), Refused("make-syscall")),
        ("import-global", r#"(module (import "lind" "make-syscall" (global i32)) (memory 1) (func (export "_start")))"#.into(), Refused("make-syscall")),
        ("import-ours", r#"(module (import "lind:memory" "memory" (func)) (memory 1) (func (export "_start")))"#.into(), Refused("lind:memory")),
        ("import-table", r#"(module (import "env" "table" (table 1 funcref)) (memory 1) (func (export "_start")))"#.into(), Refused("table")),
        ("import-lines", r#"(module (import "a\nb" "c\r\nd" (func)) (memory 1) (func (export "_start")))"#.into(), Refused("unknown import")),
        // Names.
        ("export-ours", wasi(&format!(r#"(func (export "lind:global:{}"))"#, repeated(90_000, "7"))), Refused("its export")),
        ("export-long", wasi(&format!(r#"(func (export "{}"))"#, repeated(20_000, "é\\e2\\80\\ae"))), Exits(0)),
        ("component", "(component)".into(), Refused("component")),
    ];
    cases.push((
        "names",
        {
            let name = repeated(1_000_000, "n");
            format!(r#"(module ${name} (memory 1) (func ${name} (export "_start") unreachable))"#)
        },
        Refused("unreachable"),
    ));
    for (name, text, fate) in cases {
        let wasm = wat::parse_str(&text).unwrap_or_else(|error| {
            let text: String = error.to_string().chars().take(300).collect();
            panic!("{name}: {text}")
        });
        judge(&fixture, name, &wasm, fate);
    }
}

/// Runs a module from its text and from its artifact.
fn judge(fixture: &Fixture, name: &str, wasm: &[u8], fate: Fate) {
    let file = put(fixture, &format!("{name}.wasm"), wasm);
    let source = format!("{name}.wasm");
    let ran = run(fixture, &[&source]);
    check(&ran, &source);
    match fate {
        Exits(status) => {
            assert_eq!((ran.code, &*ran.out, &*ran.err), (status, "", ""), "{name}");
        }
        Refused(why) => {
            assert_eq!(ran.code, 1, "{name}: {}", ran.err);
            assert!(ran.err.contains(why), "{name}: {}", ran.err);
        }
        Either => {}
    }
    let made = run(fixture, &["--precompile", file.to_str().unwrap()]);
    check(&made, &source);
    let artifact = format!("{name}.cwasm");
    if made.code == 0 {
        let again = run(fixture, &[&artifact]);
        check(&again, &artifact);
        assert_eq!(again.code, ran.code, "{artifact}: {}", again.err);
        assert_eq!(again.err, ran.err.replace(&source, &artifact));
    } else {
        assert_eq!(
            ran.code, 1,
            "{name}: it ran, and does not precompile: {}",
            made.err
        );
    }
}

/// Modules that `wat` would not write.
#[test]
fn malformed_modules_are_refused_in_a_line() {
    let fixture = Fixture::new();
    let whole = wat::parse_str(wasi("")).unwrap();
    let with = |bytes: &[u8]| [&whole, bytes].concat();
    let section = |id: u8, len: u8| [&[id, len][..], &vec![0; usize::from(len)]].concat();
    let cases: &[(&str, Vec<u8>)] = &[
        ("empty", vec![]),
        ("magic", b"\0asm".to_vec()),
        ("version", b"\0asm\x02\0\0\0".to_vec()),
        ("layer", b"\0asm\x01\0\x09\0".to_vec()),
        ("garbage", with(&[0xff; 40])),
        ("unknown-section", with(&section(14, 3))),
        ("last-section", with(&section(255, 3))),
        ("second-code", with(&section(10, 1))),
        ("late-types", with(&section(1, 1))),
        ("late-memory", with(&section(5, 1))),
        ("late-imports", with(&section(2, 1))),
        ("long-section", with(&[0, 0xff, 0xff, 0xff, 0xff, 0x0f])),
        (
            "overlong-size",
            with(&[0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]),
        ),
        ("many-imports", with(&[2, 5, 0xff, 0xff, 0xff, 0xff, 0x0f])),
        ("bad-name", with(&[0, 3, 2, 0xff, 0xfe])),
        (
            "control-name",
            with(&[2, 9, 1, 2, 0x1b, b'[', 1, b'\n', 0x7f, 0, 0]),
        ),
    ];
    for (name, bytes) in cases {
        judge(&fixture, name, bytes, Refused(name));
    }
    // Cut everywhere: what is left is refused, or is whole.
    for cut in 0..whole.len() {
        judge(
            &fixture,
            &format!("cut-{cut}"),
            &whole[..cut],
            if cut == 8 { Refused("memory") } else { Either },
        );
    }
}

#[test]
fn damaged_artifacts_are_refused_in_a_line() {
    let fixture = Fixture::new();
    let file = fixture.program("whole.wasm", &wasi(""));
    let made = run(&fixture, &["--precompile", file.to_str().unwrap()]);
    assert_eq!(made.code, 0, "{}", made.err);
    let whole = std::fs::read(file.with_extension("cwasm")).unwrap();
    let refused = |bytes: &[u8], what: &str| {
        put(&fixture, "damaged.cwasm", bytes);
        let ran = run(&fixture, &["damaged.cwasm"]);
        check(&ran, "damaged.cwasm");
        assert_eq!(ran.code, 1, "{what}: {}", ran.err);
        assert_ne!(ran.err, "", "{what}");
    };
    let header = 64;
    let spread = (header..whole.len()).step_by(whole.len() / 20);
    for at in (0..header).chain(spread.clone()) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        refused(&bytes, &format!("byte {at} changed"));
    }
    for len in (0..header)
        .step_by(5)
        .chain(spread)
        .chain([whole.len() - 1])
    {
        refused(&whole[..len], &format!("{len} bytes left"));
    }
    refused(&[&whole[..], b"more"].concat(), "longer");
    refused(
        &[&whole[..44], &wat::parse_str(wasi("")).unwrap()].concat(),
        "a module behind the header",
    );
}

/// Random bytes that a seed gives again.
struct Seeded {
    seed: u64,
    blocks: u64,
}

impl Seeded {
    fn new(seed: u64) -> Self {
        Self { seed, blocks: 0 }
    }

    fn block(&mut self) -> [u8; 32] {
        self.blocks += 1;
        let input = [self.seed.to_le_bytes(), self.blocks.to_le_bytes()].concat();
        blake3::hash(&input).into()
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..len.div_ceil(32)).flat_map(|_| self.block()).collect();
        bytes.truncate(len);
        bytes
    }

    fn below(&mut self, end: usize) -> usize {
        let [a, b, c, d, ..] = self.block();
        u32::from_le_bytes([a, b, c, d]) as usize % end
    }
}

/// What generated modules may import and have to export.
fn shapes() -> [Config; 3] {
    let lind = wat::parse_str(lind_program("", "")).unwrap();
    let grate = wat::parse_str(lind_program(
        &format!(
            r#"(func (export "pass_fptr_to_wt") (param {}) (result i32) (i32.const 0))"#,
            repeated(14, "i64 ")
        ),
        "",
    ))
    .unwrap();
    let start = wat::parse_str(r#"(module (func (export "_start")))"#).unwrap();
    let wasi = wat::parse_str(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "path_open" (func (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_readdir" (func (param i32 i32 i32 i64 i32) (result i32)))
          (import "wasi_snapshot_preview1" "args_get" (func (param i32 i32) (result i32))))"#,
    )
    .unwrap();
    let config = |imports: &[u8], exports: &[u8]| Config {
        available_imports: Some(imports.to_vec()),
        exports: Some(exports.to_vec()),
        min_memories: 1,
        max_memories: 1,
        memory64_enabled: false,
        gc_enabled: false,
        reference_types_enabled: false,
        exceptions_enabled: false,
        ..Config::default()
    };
    // The last is as wild as the generator has it.
    [
        config(&lind, &grate),
        config(&wasi, &start),
        Config {
            exports: Some(start),
            ..Config::default()
        },
    ]
}

/// The module of a seed: a valid one that ends by itself, mostly of a shape that can run.
fn generated(seed: u64) -> Option<Vec<u8>> {
    let mut random = Seeded::new(seed);
    let bytes = random.bytes(4096);
    let [lind, wasi, wild] = shapes();
    let config = match seed % 8 {
        0..4 => lind,
        4..7 => wasi,
        _ => wild,
    };
    let mut module = Module::new(config, &mut Unstructured::new(&bytes)).ok()?;
    module.ensure_termination(1000).ok()?;
    Some(module.to_bytes())
}

/// A module with some bytes changed, moved, or gone.
fn damaged(seed: u64) -> Option<Vec<u8>> {
    let mut bytes = generated(seed)?;
    let mut random = Seeded::new(seed ^ (1 << 63));
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(16) {
            0..6 => bytes[at] = random.below(256) as u8,
            6..13 => bytes[at] ^= 1 << random.below(8),
            13 => bytes.truncate(at.max(8)),
            14 => bytes.insert(at, random.below(256) as u8),
            _ => {
                let end = (at + 1 + random.below(16)).min(bytes.len());
                bytes.drain(at..end);
            }
        }
        if bytes.is_empty() {
            break;
        }
    }
    Some(bytes)
}

/// How many times over the searches go, and with which seeds.
fn seeds(count: u64) -> std::ops::Range<u64> {
    let times = std::env::var("MODULE_SEEDS").map_or(1, |times| times.parse().expect("a number"));
    0..count * times
}

#[test]
fn generated_and_damaged_modules_load_or_are_refused_in_a_line() {
    let engine = lind_wasm::engine::new().unwrap();
    let key = ArtifactKey::from_bytes([7; 32]);
    let mut loaded = 0;
    for seed in seeds(1000) {
        for make in [generated, damaged] {
            let Some(wasm) = make(seed) else { continue };
            let program = Program::compile(&engine, &wasm, false, Size::ANY);
            let artifact = lind_wasm::program::precompile(&engine, &key, &wasm);
            match (&program, &artifact) {
                (Ok(_), Ok(artifact)) => {
                    Program::open(&engine, &key, Cursor::new(artifact), false).unwrap();
                    loaded += 1;
                }
                // Without a `_start` it compiles, and does not run.
                (Err(_), Ok(_)) => {}
                (Ok(_), Err(error)) => {
                    panic!("seed {seed} loads, and does not precompile: {error}")
                }
                (Err(why), Err(_)) => {
                    let line = format!("{why:#}");
                    assert!(
                        line.len() <= LINE_MAX && !line.contains(char::is_control),
                        "seed {seed}: {line:?}"
                    );
                }
            }
        }
    }
    assert!(loaded > 600, "{loaded}");
}

#[test]
fn generated_modules_run_to_an_end() {
    let fixture = Fixture::new();
    let mut ran = 0;
    for seed in seeds(400) {
        let Some(wasm) = generated(seed) else {
            continue;
        };
        let name = format!("seed-{seed}.wasm");
        let file = put(&fixture, &name, &wasm);
        let ended = run(&fixture, &["--net", "none", &name]);
        check(&ended, &name);
        ran += u32::from(ended.err.is_empty());
        std::fs::remove_file(file).unwrap();
    }
    assert!(ran > 30, "{ran}");
}

#[test]
fn damaged_modules_run_to_an_end_or_until_they_are_stopped() {
    let fixture = Fixture::new();
    for seed in seeds(400) {
        let Some(wasm) = damaged(seed) else { continue };
        let name = format!("damaged-{seed}.wasm");
        let file = put(&fixture, &name, &wasm);
        // What made it end may be what was damaged. Then it runs for as long as it is let.
        let child = fixture.start(&["--net", "none", &name]);
        if let Some(ran) = ended(child, Duration::from_secs(10)) {
            check(&ran, &name);
        }
        std::fs::remove_file(file).unwrap();
    }
}
