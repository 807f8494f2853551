//! Runs programs written as WebAssembly text under the built `lind-wasm`.

#![allow(dead_code, reason = "each test uses some of it")]

use std::io::Read;
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
        for folder in ["root/bin", "root/grates"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        Self { dir }
    }

    /// A path of the host inside the root.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.dir.path().join("root").join(inside)
    }

    /// The folder for the artifact key.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Puts a program, as text, into `/bin`.
    pub fn program(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path("bin").join(name);
        std::fs::write(&path, wat::parse_str(text).unwrap()).unwrap();
        path
    }

    /// `lind-wasm` with these arguments, for this root and folder.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lind-wasm"));
        command
            .args(args)
            .env("LINDFS_ROOT", self.path(""))
            .env("LIND_WASM_DATA", self.data());
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

    /// Runs `lind-wasm` with these arguments; also the most memory that it had, in KiB.
    #[expect(clippy::zombie_processes, reason = "wait4 waits for it")]
    pub fn run_measured(&self, args: &[&str]) -> (Ran, i64) {
        let mut child = self.start(args);
        let (mut out, mut err) = (String::new(), String::new());
        // Little is printed: none of the two fills its pipe.
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut out)
            .unwrap();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut err)
            .unwrap();
        let (mut status, pid) = (0, child.id() as libc::pid_t);
        // SAFETY: a zeroed rusage is a valid one; both pointers are to this frame.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            assert_eq!(libc::wait4(pid, &mut status, 0, &mut usage), pid);
            usage
        };
        let code = match libc::WIFEXITED(status) {
            true => libc::WEXITSTATUS(status),
            false => -1,
        };
        (Ran { code, out, err }, usage.ru_maxrss)
    }

    /// Runs `lind-wasm` with these arguments.
    pub fn run(&self, args: &[&str]) -> Ran {
        Self::ran(&self.command(args).output().unwrap())
    }

    /// How a command went.
    pub fn ran(output: &Output) -> Ran {
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

/// As [`lind_program`], of a program that can fork: `$fork` answers as fork does, and the caller
/// returns from `_start` at once when `$saving` is not 0 after it. The program then begins anew in
/// both cages, and comes to the same `$fork` by what its globals say.
pub fn forking_program(more: &str, body: &str) -> String {
    let more = format!(
        r#"(global $saving (mut i32) (i32.const 0))
  (func $fork (result i32)
    (call $call (i32.const 56) (i64.const 0) (i64.const 0xdeadbeefdeadbeef) (i64.const 0xdeadbeefdeadbeef)))
  ;; waitpid(pid): the status
  (func $wait (param $pid i32) (result i32)
    (drop (call $call (i32.const 61) (i64.extend_i32_s (local.get $pid)) (call $at (i32.const 512)) (i64.const 0)))
    (i32.load (i32.const 512)))
  {more}"#
    );
    lind_program(&more, body)
        .replace(
            r#"(func (export "asyncify_start_unwind") (param i32))"#,
            r#"(func (export "asyncify_start_unwind") (param i32) (global.set $saving (i32.const 1)))"#,
        )
        .replace(
            r#"(func (export "asyncify_stop_unwind"))"#,
            r#"(func (export "asyncify_stop_unwind") (global.set $saving (i32.const 0)))"#,
        )
}

/// A grate and its program in one: the first cage forks the second, registers handler 1 for each
/// number of `numbers` on it, and waits for its end, whose status becomes its own. `handler` is
/// what the handler does, with the caller in `$c1` and its arguments in `$a1`, ...; `program` is
/// what the second cage does then, which makes no fork unless its globals say so.
pub fn grate_and_program(numbers: &[u32], more: &str, handler: &str, program: &str) -> String {
    let register: String = numbers
        .iter()
        .map(|nr| (nr, 1))
        .chain([(&READY, 0)])
        .map(|(nr, handler)| {
            format!(
                "(call $expect (i32.const 90) (call $as (call $id) (call $id) (i32.const 1001) (local.get $child) (i64.const {nr}) (i64.const 0) (call $id) (i64.const {handler}) (call $id) (i64.const 0)) (i32.const 0))\n"
            )
        })
        .collect();
    let more = format!(
        r#"(table 2 funcref)
  (func (export "pass_fptr_to_wt")
    (param $handler i64) (param $grate i64) (param $a1 i64) (param $c1 i64) (param $a2 i64) (param $c2 i64)
    (param $a3 i64) (param $c3 i64) (param $a4 i64) (param $c4 i64) (param $a5 i64) (param $c5 i64)
    (param $a6 i64) (param $c6 i64) (result i32)
    (if (i64.eqz (local.get $handler)) (then (return (i32.const 0))))
    (call $handle (local.get $a1) (local.get $c1) (local.get $a2) (local.get $a3)))
  (func $handle (param $a1 i64) (param $c1 i64) (param $a2 i64) (param $a3 i64) (result i32)
    {handler})
  (global $second (mut i32) (i32.const 0))
  {more}"#
    );
    let body = format!(
        r#"(local $pid i32) (local $child i64) (local $r i32)
    (if (i32.eqz (global.get $second)) (then
      (local.set $pid (call $fork))
      (if (global.get $saving) (then (return (i32.const 0))))
      (call $expect (i32.const 91) (i32.lt_s (local.get $pid) (i32.const 0)) (i32.const 0))
      (if (local.get $pid) (then
        (local.set $child (i64.extend_i32_s (local.get $pid)))
        {register}
        (local.set $r (call $wait (local.get $pid)))
        (if (i32.and (local.get $r) (i32.const 0x7f))
          (then (call $exit (i32.add (i32.const 128) (i32.and (local.get $r) (i32.const 0x7f))))))
        (call $exit (i32.shr_u (local.get $r) (i32.const 8)))))
      (global.set $second (i32.const 1))))
    (if (i32.eq (global.get $second) (i32.const 1)) (then
      ;; The last number that is registered is served: so are the others.
      (loop $not_yet
        (br_if $not_yet (i32.eq (i32.const -38)
          (call $call (i32.const {READY}) (i64.const 0) (i64.const 0) (i64.const 0)))))
      (global.set $second (i32.const 2))))
    {program}"#
    );
    forking_program(&more, &body)
}

/// A number that no kernel serves, for [`grate_and_program`].
const READY: u32 = 1150;
