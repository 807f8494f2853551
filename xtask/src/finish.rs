//! Makes a linked program one that Lind runs.
//!
//! 1. It gets the exported global `epoch`, by which the runtime interrupts a cage; exports that
//!    Lind does not know go, and with them what they keep alive.
//! 2. `wasm-opt --asyncify` lets it unwind and rewind its stack, which is how a cage forks.
//! 3. Custom sections go, but for its name: a cage without a module name can't fork.
//!
//! # What is instrumented
//!
//! Asyncify makes a function slower and larger, about by half, when it may be on the stack while
//! the program unwinds. It takes every function for such that reaches an unwinding import or makes
//! an indirect call. Three facts keep that from being nearly everything:
//!
//! - Only clone, exec and exit unwind. `cage-libc` imports the system call gate a second time, as
//!   [`UNWINDING_GATE`], and makes these three through it. After asyncify the two imports are one
//!   again. Reading a file or allocating memory therefore does not make a function unwindable.
//! - Nothing unwinds out of a panic: it prints and traps. So what only panics (an index out of
//!   bounds, say) does not either: [`PANICS`] are not instrumented, though printing makes indirect
//!   calls.
//!
//! - Nothing unwinds through a library that makes no such call and calls nobody back who does, nor through what
//!   handlers do with files: [`PURE`] ones are not instrumented either.
//!
//! For a grate with a command line this leaves 662 KB, where instrumenting everything would make
//! 910 KB of 499 KB, and above all it leaves ciphers and allocation alone.
//!
//! Indirect calls are still taken to unwind (`asyncify-ignore-indirect` would break programs that
//! fork in a closure, as it would `std`'s start-up), which costs ciphers nothing: their loops make
//! none.

use crate::compile::Linked;
use crate::dispatcher;
use crate::toolchain::Tools;
use anyhow::{Context, ensure};
use std::path::Path;
use std::process::Command;
use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{
    ConstExpr, ExportKind, ExportSection, GlobalSection, GlobalType, ImportSection, Module,
    NameSection, RawSection, ValType,
};
use wasmparser::{Parser, Payload, TypeRef};

/// Module of Lind's imports.
const LIND: &str = "lind";
/// The one gate for system calls.
const GATE: &str = "make-syscall";
/// The same gate as `cage-libc` names it for the calls that unwind the caller.
const UNWINDING_GATE: &str = "make-syscall-unwinding";

/// Where Lind ends a program that a signal ends.
const INTERRUPTION: &str = "epoch_callback";

/// Names, in any of the compiler's manglings, of functions that do not return because the program
/// has failed.
const PANICS: &str = "*4core9panicking*,*3std9panicking*,*rust_begin_unwind*,*rust_panic*,\
    *rust_oom*,*handle_alloc_error*";

/// Names of what belongs to libraries, and to modules of grates, that make none of the calls that unwind. `redact` looks for
/// patterns through tables of functions; uninstrumented it takes two thirds of the time with a single literal.
/// `sealed` has its AEAD and its disk behind traits, and who reads and writes by it how buffers are taken.
const PURE: &str =
    "*6redact*,*6sealed*,*11crypt_grate11sealed_file*,*11crypt_grate5grate8transfer*";

/// What binaryen may read: what the compiler was told, and what finished modules of others have.
const FEATURES: &[&str] = &[
    "--mvp-features",
    "--enable-threads",
    "--enable-bulk-memory",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-sign-ext",
    "--enable-simd",
    "--enable-reference-types",
    "--enable-multivalue",
];

/// The global by which the runtime interrupts a cage.
const EPOCH: &str = "epoch";

/// Exports that Lind knows, beside [`EPOCH`]. The compiler exports every function of C's name as well, which would
/// keep all of `cage-libc` in every program.
const EXPORTS: &[&str] = &[
    "_start",
    "__stack_pointer",
    "__stack_low",
    "__tls_base",
    "pass_fptr_to_wt",
    "signal_callback",
];

/// Answers the bytes of the finished program.
pub fn finish(tools: &Tools, program: &Linked) -> anyhow::Result<Vec<u8>> {
    let prepared = program.file.with_extension("prepared.wasm");
    let unwindable = program.file.with_extension("asyncify.wasm");
    let work = || {
        let linked = dispatcher::fit(&std::fs::read(&program.file)?)?;
        std::fs::write(&prepared, prepare(&linked)?)?;
        asyncify(&tools.wasm_opt, &prepared, &unwindable)?;
        complete(&std::fs::read(&unwindable)?, &program.name)
    };
    work().with_context(|| format!("cannot finish {}", program.file.display()))
}

fn asyncify(wasm_opt: &Path, from: &Path, to: &Path) -> anyhow::Result<()> {
    let output = Command::new(wasm_opt)
        .arg(from)
        .arg("--output")
        .arg(to)
        .args(FEATURES)
        .arg("--asyncify")
        .arg(format!(
            "--pass-arg=asyncify-imports@{LIND}.{UNWINDING_GATE},{LIND}.{INTERRUPTION}"
        ))
        .arg(format!("--pass-arg=asyncify-removelist@{PANICS},{PURE}"))
        .arg("-O2")
        .output()
        .with_context(|| format!("cannot start {}", wasm_opt.display()))?;
    // Its warnings (a name in the list that a program does not have) are not worth a line.
    ensure!(
        output.status.success(),
        "wasm-opt failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Whether a module exports something of that name.
fn exports(wasm: &[u8], name: &str) -> anyhow::Result<bool> {
    for payload in Parser::new(0).parse_all(wasm) {
        if let Payload::ExportSection(reader) = payload? {
            for export in reader {
                if export?.name == name {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

/// Adds `epoch`, where the program has none of its own, and drops exports that Lind does not know, before the optimiser sees them.
fn prepare(wasm: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut imported_globals = 0;
    let mut epoch = None;
    let has_epoch = exports(wasm, EPOCH)?;
    rewrite(wasm, |payload, module| {
        match payload {
            Payload::ImportSection(reader) => {
                for import in reader.clone().into_imports() {
                    if let TypeRef::Global(_) = import?.ty {
                        imported_globals += 1;
                    }
                }
                return Ok(false);
            }
            Payload::GlobalSection(reader) => {
                let mut section = GlobalSection::new();
                epoch = Some(imported_globals + reader.count());
                RoundtripReencoder.parse_global_section(&mut section, reader.clone())?;
                if has_epoch {
                    return Ok(false);
                }
                let ty = GlobalType {
                    val_type: ValType::I64,
                    mutable: true,
                    shared: false,
                };
                section.global(ty, &ConstExpr::i64_const(0));
                module.section(&section);
            }
            Payload::ExportSection(reader) => {
                let epoch = epoch.context("it has no globals, hence no stack pointer")?;
                let mut section = ExportSection::new();
                for export in reader.clone() {
                    let export = export?;
                    if EXPORTS.contains(&export.name) || export.name == EPOCH {
                        let kind = RoundtripReencoder.export_kind(export.kind)?;
                        section.export(export.name, kind, export.index);
                    }
                }
                if !has_epoch {
                    section.export(EPOCH, ExportKind::Global, epoch);
                }
                module.section(&section);
            }
            _ => return Ok(false),
        }
        Ok(true)
    })
}

/// Joins the gates, and leaves of all custom sections only the module's name.
fn complete(wasm: &[u8], name: &str) -> anyhow::Result<Vec<u8>> {
    let mut wasm = rewrite(wasm, |payload, module| {
        match payload {
            Payload::CustomSection(_) => {}
            Payload::ImportSection(reader) => {
                let mut section = ImportSection::new();
                for import in reader.clone().into_imports() {
                    let import = import?;
                    let field = match (import.module, import.name) {
                        (LIND, UNWINDING_GATE) => GATE,
                        (_, field) => field,
                    };
                    let ty = RoundtripReencoder.entity_type(import.ty)?;
                    section.import(import.module, field, ty);
                }
                module.section(&section);
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let mut names = NameSection::new();
    names.module(name);
    wasm_encoder::Section::append_to(&names, &mut wasm);
    Ok(wasm)
}

/// Copies a module section by section, but for those that `replace` writes itself (or leaves out)
/// and answers true for.
pub fn rewrite(
    wasm: &[u8],
    mut replace: impl FnMut(&Payload<'_>, &mut Module) -> anyhow::Result<bool>,
) -> anyhow::Result<Vec<u8>> {
    let mut module = Module::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload?;
        if let Some((id, range)) = payload.as_section()
            && !replace(&payload, &mut module)?
        {
            let data = wasm.get(range).context("truncated section")?;
            module.section(&RawSection { id, data });
        }
    }
    Ok(module.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi;

    #[test]
    fn preparing_and_completing_give_what_the_abi_asks() {
        let text = abi::testing::GOOD
            .replace(
                r#"(import "lind" "make-syscall""#,
                r#"(import "lind" "make-syscall-unwinding""#,
            )
            .replace(r#"(global (export "epoch") (mut i64) (i64.const 0))"#, "")
            .replace("(func $init)", r#"(func $init (export "malloc"))"#)
            .replace("(module $good", "(module");
        let before = wat::parse_str(text).unwrap();
        assert_eq!(abi::violations(&before, None).len(), 3);
        let prepared = prepare(&before).unwrap();
        // wasm-opt adds the functions of asyncify in between, which GOOD has and `prepare` drops.
        let dropped = abi::violations(&prepared, None);
        assert_eq!(dropped.len(), 6, "{dropped:?}");
        let after = complete(&prepared, "named").unwrap();
        let left = abi::violations(&after, None);
        assert!(
            left.len() == 4 && left.iter().all(|v| v.contains("asyncify")),
            "{left:?}"
        );
        assert_eq!(abi::module_name(&after).as_deref(), Some("named"));
    }
}
