//! Hostile modules: instructions on memory that is not there, exports of the wrong kind, files that
//! are no modules, and secrets in what a loader or a trap may say.

use super::stage::{Stage, Under};
use super::trial;
use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use std::fs;

/// What a module is made of.
enum Source {
    /// The body of `_start` of a Lind program; it exits with 0 afterwards.
    Body(&'static str),
    /// Fields of a Lind program, and the body of `_start`.
    Fields(&'static str, &'static str),
    /// A whole module, as text.
    Module(&'static str),
    /// The bytes of a file.
    Bytes(&'static [u8]),
}

/// How a run may end.
enum End {
    /// As a program does that has trapped.
    Trap,
    /// With 0.
    Well,
    /// With one of these.
    With(&'static [i32]),
    /// With what a program that could not be started ends with, or a grate whose program could
    /// not be.
    Refused,
    /// Anyhow, but by itself.
    Anyhow,
}

struct Module {
    name: &'static str,
    source: Source,
    end: End,
}

const fn module(name: &'static str, end: End, source: Source) -> Module {
    Module { name, source, end }
}

/// All of them. At 0x80000000 nothing is mapped.
const MODULES: &[Module] = {
    use End::{Anyhow, Refused, Trap, Well, With};
    use Source::{Body, Bytes, Fields, Module as Whole};
    &[
        module("memory.fill where nothing is", Trap, Body(
            "(memory.fill (i32.const 0x80000000) (i32.const 1) (i32.const 100))")),
        module("memory.fill across the edge", Trap, Body(
            "(memory.fill (i32.const 65536) (i32.const 1) (i32.const 0x7fffffff))")),
        module("memory.fill to the end of all memory", Trap, Body(
            "(memory.fill (i32.const 0xfffff000) (i32.const 1) (i32.const 4096))")),
        module("memory.fill beyond the end", Trap, Body(
            "(memory.fill (i32.const 0xfffffff0) (i32.const 1) (i32.const 4096))")),
        module("memory.copy from where nothing is", Trap, Body(
            "(memory.copy (i32.const 1024) (i32.const 0x80000000) (i32.const 100))")),
        module("memory.copy to where nothing is", Trap, Body(
            "(memory.copy (i32.const 0x80000000) (i32.const 1024) (i32.const 100))")),
        module("memory.copy backwards across the edge", Trap, Body(
            "(memory.copy (i32.const 4096) (i32.const 1024) (i32.const 0x40000000))")),
        module("memory.init where nothing is", Trap, Fields(
            "(data $d \"abcd\")",
            "(memory.init $d (i32.const 0x80000000) (i32.const 0) (i32.const 4))")),
        module("memory.init of what was dropped", Trap, Fields(
            "(data $d \"abcd\")",
            "(data.drop $d) (memory.init $d (i32.const 1024) (i32.const 0) (i32.const 4))")),
        module("memory.atomic.wait32 where nothing is", Trap, Body(
            "(drop (memory.atomic.wait32 (i32.const 0x80000000) (i32.const 0) (i64.const 1000)))")),
        module("memory.atomic.wait64 where nothing is", Trap, Body(
            "(drop (memory.atomic.wait64 (i32.const 0x80000000) (i64.const 0) (i64.const 1000)))")),
        module("memory.atomic.notify where nothing is", With(&[0, 1]), Body(
            "(drop (memory.atomic.notify (i32.const 0x80000000) (i32.const 1)))")),
        module("memory.atomic.wait32 askew", Trap, Body(
            "(drop (memory.atomic.wait32 (i32.const 1026) (i32.const 0) (i64.const 1000)))")),
        module("memory.atomic.wait32 with times of any sign", Well, Body(
            "(drop (memory.atomic.wait32 (i32.const 1024) (i32.const 1) (i64.const -1)))
             (drop (memory.atomic.wait32 (i32.const 1024) (i32.const 1) (i64.const 0x7fffffffffffffff)))
             (drop (memory.atomic.wait32 (i32.const 1024) (i32.const 0) (i64.const 0)))")),
        module("an atomic where nothing is", Trap, Body(
            "(drop (i32.atomic.rmw.add (i32.const 0x80000000) (i32.const 1)))")),
        module("a vector where nothing is", Trap, Body(
            "(drop (v128.load (i32.const 0x80000000)))")),
        module("a load at the far end of an offset", Trap, Body(
            "(drop (i64.load offset=0xffffffff (i32.const 0xffffffff)))")),
        // munmap, then the instructions on what was there.
        module("memory.fill of what was unmapped", Trap, Body(
            "(local.set $r (call $sys (i32.const 9) (i64.const 0) (i64.const 65536) (i64.const 3) (i64.const 0x22) (i64.const -1)))
             (drop (call $sys (i32.const 11) (i64.add (call $base) (i64.extend_i32_u (local.get $r))) (i64.const 65536) (i64.const 0) (i64.const 0) (i64.const 0)))
             (memory.fill (local.get $r) (i32.const 7) (i32.const 65536))")),
        module("memory.fill of what may be read only", Trap, Body(
            "(local.set $r (call $sys (i32.const 9) (i64.const 0) (i64.const 65536) (i64.const 1) (i64.const 0x22) (i64.const -1)))
             (memory.fill (local.get $r) (i32.const 7) (i32.const 65536))")),
        module("a recursion without an end", Trap, Fields(
            "(func $deep (param i64) (result i64) (i64.add (call $deep (local.get 0)) (i64.const 1)))",
            "(drop (call $deep (i64.const 1)))")),
        module("unreachable", Trap, Body("(unreachable)")),
        module("division of the least number", Trap, Body(
            "(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))")),
        module("an indirect call to nothing", Trap, Fields(
            "(table $t 4 funcref) (type $f (func))",
            "(call_indirect $t (type $f) (i32.const 3)) (call_indirect $t (type $f) (i32.const 400))")),
        module("a table that grows", Well, Fields(
            "(table $t 1 funcref)",
            "(loop $l (drop (table.grow $t (ref.null func) (i32.const 400000000)))
               (local.set $r (i32.add (local.get $r) (i32.const 1)))
               (br_if $l (i32.lt_u (local.get $r) (i32.const 20))))")),
        module("a table that grows by little", Well, Fields(
            "(table $t 1 funcref)",
            "(loop $l (drop (table.grow $t (ref.null func) (i32.const 1000000)))
               (local.set $r (i32.add (local.get $r) (i32.const 1)))
               (br_if $l (i32.lt_u (local.get $r) (i32.const 500))))")),
        module("a table that is large", Anyhow, Fields("(table 400000000 funcref)", "")),
        module("many tables", Anyhow, Fields(
            "(table 9000000 funcref) (table 9000000 funcref) (table 9000000 funcref) (table 9000000 funcref) (table 9000000 funcref) (table 9000000 funcref)", "")),
        module("memory that grows", Well, Body(
            "(drop (memory.grow (i32.const 65535))) (drop (memory.grow (i32.const -1)))")),
        module("a fork inside of asyncify's functions", With(&[0, 1, 3]), Whole(FORK_IN_ASYNCIFY)),
        module("asyncify's functions do nothing", Anyhow, Body(
            "(drop (call $sys (i32.const 56) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0)))
             (drop (call $sys (i32.const 56) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0)))")),
        module("a stack that is nowhere", Anyhow, Whole(
            r#"(module $m (import "lind" "lind-get-cage-id" (func (result i64))) (memory 1 1 shared)
             (global (export "__stack_pointer") (mut i32) (i32.const -16)) (global (export "__stack_low") i32 (i32.const -8))
             (global (export "epoch") (mut i64) (i64.const 0))
             (func (export "asyncify_start_unwind") (param i32)) (func (export "asyncify_stop_unwind"))
             (func (export "asyncify_start_rewind") (param i32)) (func (export "asyncify_stop_rewind"))
             (func (export "_start") (result i32) (unreachable)))"#)),
        module("exports of other types", Refused, Whole(
            r#"(module (import "lind" "lind-get-cage-id" (func (result i64))) (memory 1)
             (func (export "_start") (param i32)))"#)),
        module("a start that is a memory", Refused, Whole(
            r#"(module (import "lind" "lind-get-cage-id" (func (result i64))) (memory (export "_start") 1))"#)),
        module("globals of other types", Anyhow, Whole(
            r#"(module (import "lind" "lind-get-cage-id" (func (result i64))) (memory 1)
             (global (export "__stack_pointer") f64 (f64.const 1)) (global (export "__stack_low") (mut i64) (i64.const 1))
             (global (export "epoch") externref (ref.null func))
             (func (export "pass_fptr_to_wt") (param i32) (result i32) (i32.const 0))
             (func (export "asyncify_start_unwind")) (func (export "asyncify_stop_unwind") (param i32))
             (func (export "_start")))"#)),
        module("imports that there are not", Refused, Whole(
            r#"(module (import "lind" "jane.doe@example.com" (func)) (import "jane.doe@example.com" "f" (func)) (memory 1) (func (export "_start")))"#)),
        module("imports of other types", Refused, Whole(
            r#"(module (import "lind" "make-syscall" (func (param f64))) (memory 1) (func (export "_start")))"#)),
        module("no memory", Refused, Whole(r#"(module (func (export "_start")))"#)),
        module("no start", Refused, Whole("(module (memory 1))")),
        module("two memories", Refused, Whole(r#"(module (memory 1) (memory 1) (func (export "_start")))"#)),
        module("a memory of 64 bits", Refused, Whole(r#"(module (memory i64 1) (func (export "_start")))"#)),
        module("a start function that traps", With(&[1, 70]), Whole(
            r#"(module (import "lind" "lind-get-cage-id" (func (result i64))) (memory 1) (func $s (unreachable)) (start $s)
             (global (export "__stack_pointer") (mut i32) (i32.const 65536)) (global (export "__stack_low") i32 (i32.const 1024))
             (global (export "epoch") (mut i64) (i64.const 0))
             (func (export "asyncify_start_unwind") (param i32)) (func (export "asyncify_stop_unwind"))
             (func (export "asyncify_start_rewind") (param i32)) (func (export "asyncify_stop_rewind"))
             (func (export "_start") (result i32) (i32.const 0)))"#)),
        module("data beyond the memory", With(&[1, 70]), Whole(
            r#"(module (import "lind" "lind-get-cage-id" (func (result i64))) (memory 1) (data (i32.const 0xfffffff0) "abc")
             (global (export "__stack_pointer") (mut i32) (i32.const 65536)) (global (export "__stack_low") i32 (i32.const 1024))
             (global (export "epoch") (mut i64) (i64.const 0))
             (func (export "asyncify_start_unwind") (param i32)) (func (export "asyncify_stop_unwind"))
             (func (export "asyncify_start_rewind") (param i32)) (func (export "asyncify_stop_rewind"))
             (func (export "_start") (result i32) (i32.const 0)))"#)),
        module("a whole address space from the start", Anyhow, Whole(
            r#"(module (memory 65536) (func (export "_start") (memory.fill (i32.const 0) (i32.const 1) (i32.const 4096))))"#)),
        module("nothing", Refused, Bytes(b"")),
        module("no module", Refused, Bytes(b"4417-PLAIN-TEXT of jane.doe@example.com\n")),
        module("a header alone", Refused, Bytes(b"\0asm\x01\0\0\0")),
        module("a header of another version", Refused, Bytes(b"\0asm\x0d\0\x01\0")),
        module("a section that is too long", Refused, Bytes(b"\0asm\x01\0\0\0\x01\xff\xff\xff\xff\x0f")),
        module("a vector that is too long", Refused, Bytes(b"\0asm\x01\0\0\0\x01\x05\xff\xff\xff\xff\x0f")),
        module("a script", Refused, Bytes(b"#!/bin/hello.cwasm jane.doe@example.com\n")),
        // Secrets in what is said of it.
        module("debug-panic", Trap, Fields(
            "(data $d \"panic of jane.doe@example.com\\00\")",
            "(memory.init $d (i32.const 2048) (i32.const 0) (i32.const 30))
             (call $panic (i64.add (call $base) (i64.const 2048)))")),
        module("debug-panic of nothing", Trap, Body("(call $panic (i64.const -1))")),
        module("debug-panic without an end", Trap, Body(
            "(memory.fill (i32.const 0) (i32.const 65) (i32.const 131072)) (call $panic (call $base))")),
        module("a function that is named so", Trap, Fields(
            "(func $jane.doe@example.com (unreachable))", "(call $jane.doe@example.com)")),
    ]
};

const FORK_IN_ASYNCIFY: &str = r#"(module $m
 (import "lind" "make-syscall" (func $mk (param i32 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64) (result i32)))
 (import "lind" "lind-get-cage-id" (func $id (result i64)))
 (memory (export "memory") 2)
 (global $sp (mut i32) (i32.const 65536)) (export "__stack_pointer" (global $sp))
 (global (export "__stack_low") i32 (i32.const 1024))
 (global (export "epoch") (mut i64) (i64.const 0))
 (global $ph (mut i32) (i32.const 0)) (global $n (mut i32) (i32.const 0))
 (func (export "asyncify_start_unwind") (param i32)
   (global.set $ph (i32.const 1))
   (global.set $n (i32.add (global.get $n) (i32.const 1)))
   (if (i32.lt_u (global.get $n) (i32.const 2)) (then (drop (call $call (i32.const 56) (i64.const 0))))))
 (func (export "asyncify_stop_unwind"))
 (func (export "asyncify_start_rewind") (param i32) (global.set $ph (i32.const 2)))
 (func (export "asyncify_stop_rewind") (global.set $ph (i32.const 0)))
 (func $call (param $nr i32) (param $a i64) (result i32)
  (call $mk (local.get $nr) (i64.const 0) (call $id) (call $id) (local.get $a) (call $id) (i64.const 0) (call $id) (i64.const 0) (call $id) (i64.const 0) (call $id) (i64.const 0) (call $id) (i64.const 0) (call $id)))
 (func (export "_start") (result i32) (local $r i32)
  (local.set $r (call $call (i32.const 56) (i64.const 0)))
  (if (i32.eq (global.get $ph) (i32.const 1)) (then (return (i32.const 0))))
  (drop (call $call (i32.const 231) (i64.const 3)))
  (unreachable)))"#;

impl Source {
    fn bytes(&self) -> anyhow::Result<Vec<u8>> {
        let text = match self {
            Self::Body(body) => lind("", body),
            Self::Fields(fields, body) => lind(fields, body),
            Self::Module(text) => (*text).to_owned(),
            Self::Bytes(bytes) => return Ok(bytes.to_vec()),
        };
        wat::parse_str(text).context("the text of a module")
    }
}

/// A Lind program with what strict mode wants of one.
fn lind(fields: &str, body: &str) -> String {
    format!(
        r#"(module $jane.doe@example.com
 (import "lind" "make-syscall" (func $mk (param i32 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64) (result i32)))
 (import "lind" "lind-get-cage-id" (func $id (result i64)))
 (import "lind" "lind-get-memory-base" (func $base (result i64)))
 (import "lind" "debug-panic" (func $panic (param i64)))
 (import "env" "memory" (memory 2 65536 shared))
 (global (export "__stack_pointer") (mut i32) (i32.const 65536))
 (global (export "__stack_low") i32 (i32.const 1024))
 (global (export "epoch") (mut i64) (i64.const 0))
 (func (export "asyncify_start_unwind") (param i32)) (func (export "asyncify_stop_unwind"))
 (func (export "asyncify_start_rewind") (param i32)) (func (export "asyncify_stop_rewind"))
 (func $sys (param $nr i32) (param i64 i64 i64 i64 i64) (result i32)
  (call $mk (local.get $nr) (i64.const 0) (call $id) (call $id)
   (local.get 1) (call $id) (local.get 2) (call $id) (local.get 3) (call $id)
   (local.get 4) (call $id) (local.get 5) (call $id) (i64.const 0) (call $id)))
 {fields}
 (func (export "_start") (result i32) (local $r i32)
  {body}
  (drop (call $sys (i32.const 231) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0)))
  (unreachable)))"#
    )
}

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for strict in [false, true] {
        let mode = if strict { " (strict)" } else { "" };
        for module in MODULES {
            trials.push(trial(
                format!("hostile/module: {}{mode}", module.name),
                move || module.run(strict),
            ));
        }
    }
    trials
}

impl Module {
    fn run(&self, strict: bool) -> anyhow::Result<()> {
        const PROGRAM: &str = "/open/module.wasm";
        for under in [Under::Nothing, Under::Crypt, Under::Filter, Under::Both] {
            let stage = Stage::new(under, strict)?;
            fs::write(stage.path(PROGRAM), self.source.bytes()?)?;
            let check = || -> anyhow::Result<()> {
                let ran = stage.run(&[PROGRAM], None)?;
                let code = ran.code;
                ensure!(ran.peak < 1 << 30, "it took {} MiB", ran.peak >> 20);
                let fine = match self.end {
                    End::Trap => code == 1,
                    End::Well => code == 0,
                    End::With(codes) => codes.contains(&code),
                    // 1: no such program; 70: the runtime's own, in strict mode; a grate that
                    // can't start its program ends with 1, 126 or 127.
                    End::Refused => [1, 70, 126, 127].contains(&code),
                    End::Anyhow => code < 128,
                };
                ensure!(fine, "exit status {code}\n{}\n{}", ran.text(), ran.err);
                // What it is made of is no plaintext of its own.
                fs::remove_file(stage.path(PROGRAM))?;
                stage.audit(&ran)
            };
            check().with_context(|| under.name())?;
        }
        Ok(())
    }
}
