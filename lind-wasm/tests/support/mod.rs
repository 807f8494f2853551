//! Runs programs written as WebAssembly text under the built `lind-wasm`.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A lindfs root of its own, and a folder for the artifact key.
pub struct Fixture {
    dir: tempfile::TempDir,
}

/// What a run printed, and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// Exit status, as a shell shows it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Fixture {
    /// An empty root.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["root/bin", "root/grates", "data"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        Self { dir }
    }

    /// A path of the host inside the root.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.dir.path().join("root").join(inside)
    }

    /// Puts a program, as text, into `/bin`.
    pub fn program(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path("bin").join(name);
        std::fs::write(&path, wat::parse_str(text).unwrap()).unwrap();
        path
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lind-wasm"));
        command
            .args(args)
            .env("LINDFS_ROOT", self.path(""))
            .env("LIND_WASM_DATA", self.dir.path().join("data"));
        command
    }

    /// Starts `lind-wasm` with these arguments; for [`Fixture::ended`].
    pub fn start(&self, args: &[&str]) -> Child {
        self.command(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// How a started run went, once it has ended.
    pub fn ended(child: Child) -> Ran {
        Self::ran(&child.wait_with_output().unwrap())
    }

    /// Runs `lind-wasm` with these arguments.
    pub fn run(&self, args: &[&str]) -> Ran {
        Self::ran(&self.command(args).output().unwrap())
    }

    fn ran(output: &Output) -> Ran {
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!err.contains("panicked"), "the runtime panicked: {err}");
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err,
        }
    }
}

/// A Lind program: `body` is what `_start` does, with `$call(nr, a1, a2, a3) -> i32` at hand,
/// `$exit(code)`, and `more` for other parts of the module.
pub fn lind_program(more: &str, body: &str) -> String {
    format!(
        r#"(module $test
  (import "env" "memory" (memory 2 1024 shared))
  (import "lind" "make-syscall" (func $sys (param i32 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64) (result i32)))
  (import "lind" "lind-get-memory-base" (func $base (result i64)))
  (import "lind" "lind-get-cage-id" (func $id (result i64)))
  (global $sp (export "__stack_pointer") (mut i32) (i32.const 65536))
  (global (export "__stack_low") i32 (i32.const 4096))
  (global (export "epoch") (mut i64) (i64.const 0))
  (func $as (param $own i64) (param $target i64) (param $nr i32) (param $a i64) (param $ac i64) (param $b i64) (param $bc i64) (param $c i64) (param $cc i64) (param $d i64) (result i32)
    (call $sys (local.get $nr) (i64.const 0) (local.get $own) (local.get $target)
      (local.get $a) (local.get $ac) (local.get $b) (local.get $bc) (local.get $c) (local.get $cc)
      (local.get $d) (call $id)
      (i64.const 0xdeadbeefdeadbeef) (call $id) (i64.const 0xdeadbeefdeadbeef) (call $id)))
  (func $call (param $nr i32) (param $a i64) (param $b i64) (param $c i64) (result i32)
    (call $as (call $id) (call $id) (local.get $nr) (local.get $a) (call $id) (local.get $b) (call $id)
      (local.get $c) (call $id) (i64.const 0xdeadbeefdeadbeef)))
  (func $at (param $offset i32) (result i64)
    (i64.add (call $base) (i64.extend_i32_u (local.get $offset))))
  (func $exit (param $code i32)
    (drop (call $call (i32.const 231) (i64.extend_i32_s (local.get $code)) (i64.const 0) (i64.const 0))))
  ;; Ends with `code` unless the two are the same.
  (func $expect (param $code i32) (param $got i32) (param $want i32)
    (if (i32.ne (local.get $got) (local.get $want)) (then (call $exit (local.get $code)))))
  {more}
  (func (export "asyncify_start_unwind") (param i32))
  (func (export "asyncify_stop_unwind"))
  (func (export "asyncify_start_rewind") (param i32))
  (func (export "asyncify_stop_rewind"))
  (func (export "_start") (result i32)
    {body}
    (call $exit (i32.const 0))
    (i32.const 0)))"#
    )
}

/// An address of this machine that nobody listens on, nor is given by the kernel, which chooses
/// higher ports for others that run at the same time.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let index = std::process::id().wrapping_mul(101) + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + index % 20_000;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port as u16));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Connects as soon as someone listens.
pub fn connect(address: SocketAddr) -> TcpStream {
    let start = Instant::now();
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => return stream,
            Err(error) => assert!(start.elapsed() < Duration::from_secs(30), "{error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
