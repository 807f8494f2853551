//! Makes a linked program one that Lind runs.
//!
//! 1. `wasm-opt --asyncify` lets it unwind and rewind its stack, which is how a cage forks.
//! 2. It gets the exported global `epoch`, by which the runtime interrupts a cage.
//! 3. Custom sections go, but for its name: a cage without a module name can't fork.
//!
//! # What is instrumented
//!
//! Asyncify makes a function slower and larger, about by half, when it may be on the stack while
//! the program unwinds. It takes every function for such that reaches an unwinding import or makes
//! an indirect call. Two facts keep that from being nearly everything:
//!
//! - Only clone, exec and exit unwind. `cage-libc` imports the system call gate a second time, as
//!   [`UNWINDING_GATE`], and makes these three through it. After asyncify the two imports are one
//!   again. Reading a file or allocating memory therefore does not make a function unwindable.
//! - Nothing unwinds out of a panic: it prints and traps. So what only panics (an index out of
//!   bounds, say) does not either: [`PANICS`] are not instrumented, though printing makes indirect
//!   calls.
//!
//! Indirect calls are still taken to unwind (`asyncify-ignore-indirect` would break programs that
//! fork in a closure, as it would `std`'s start-up), which costs ciphers nothing: their loops make
//! none.

use crate::compile::Linked;
use crate::toolchain::Tools;
use anyhow::{Context, bail, ensure};
use std::path::Path;
use std::process::Command;
use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{
    ConstExpr, EntityType, ExportKind, ExportSection, GlobalSection, GlobalType, ImportSection,
    Module, NameSection, RawSection, ValType,
};
use wasmparser::{Parser, Payload, TypeRef};

/// Module of Lind's imports.
const LIND: &str = "lind";
/// The one gate for system calls.
const GATE: &str = "make-syscall";
/// The same gate as `cage-libc` names it for the calls that unwind the caller.
const UNWINDING_GATE: &str = "make-syscall-unwinding";

/// Names, in any of the compiler's manglings, of functions that do not return because the program
/// has failed.
const PANICS: &str = "*4core9panicking*,*3std9panicking*,*rust_begin_unwind*,*rust_panic*,\
    *rust_oom*,*handle_alloc_error*";

/// What binaryen may use: what the compiler was told, and no more.
const FEATURES: &[&str] = &[
    "--mvp-features",
    "--enable-threads",
    "--enable-bulk-memory",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-sign-ext",
    "--enable-simd",
];

/// Answers the bytes of the finished program.
pub fn finish(tools: &Tools, program: &Linked) -> anyhow::Result<Vec<u8>> {
    let unwindable = program.file.with_extension("asyncify.wasm");
    asyncify(&tools.wasm_opt, &program.file, &unwindable)?;
    let wasm = std::fs::read(&unwindable)?;
    complete(&wasm, &program.name).with_context(|| format!("{}", unwindable.display()))
}

fn asyncify(wasm_opt: &Path, from: &Path, to: &Path) -> anyhow::Result<()> {
    let output = Command::new(wasm_opt)
        .arg(from)
        .arg("--output")
        .arg(to)
        .args(FEATURES)
        .arg("--asyncify")
        .arg(format!(
            "--pass-arg=asyncify-imports@{LIND}.{UNWINDING_GATE}"
        ))
        .arg(format!("--pass-arg=asyncify-removelist@{PANICS}"))
        .arg("-O2")
        .output()
        .with_context(|| format!("cannot start {}", wasm_opt.display()))?;
    // Its warnings (a name in the list that a program does not have) are not worth a line.
    ensure!(
        output.status.success(),
        "wasm-opt cannot take {}:\n{}",
        from.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Adds `epoch` and the name, joins the gates, drops custom sections.
fn complete(wasm: &[u8], name: &str) -> anyhow::Result<Vec<u8>> {
    let mut module = Module::new();
    let mut imported_globals = 0;
    let mut epoch = None;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload?;
        let Some((id, range)) = payload.as_section() else {
            continue;
        };
        match payload {
            Payload::CustomSection(_) => {}
            Payload::ImportSection(reader) => {
                let mut section = ImportSection::new();
                for import in reader.into_imports() {
                    let import = import?;
                    if let TypeRef::Global(_) = import.ty {
                        imported_globals += 1;
                    }
                    let field = match (import.module, import.name) {
                        (LIND, UNWINDING_GATE) => GATE,
                        (_, field) => field,
                    };
                    let ty: EntityType = RoundtripReencoder.entity_type(import.ty)?;
                    section.import(import.module, field, ty);
                }
                module.section(&section);
            }
            Payload::GlobalSection(reader) => {
                let mut section = GlobalSection::new();
                epoch = Some(imported_globals + reader.count());
                RoundtripReencoder.parse_global_section(&mut section, reader)?;
                let ty = GlobalType {
                    val_type: ValType::I64,
                    mutable: true,
                    shared: false,
                };
                section.global(ty, &ConstExpr::i64_const(0));
                module.section(&section);
            }
            Payload::ExportSection(reader) => {
                let Some(epoch) = epoch else {
                    bail!("it has no globals, hence no stack pointer");
                };
                let mut section = ExportSection::new();
                RoundtripReencoder.parse_export_section(&mut section, reader)?;
                section.export("epoch", ExportKind::Global, epoch);
                module.section(&section);
            }
            _ => {
                module.section(&RawSection {
                    id,
                    data: wasm.get(range).context("truncated section")?,
                });
            }
        }
    }
    let mut names = NameSection::new();
    names.module(name);
    module.section(&names);
    Ok(module.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi;

    #[test]
    fn completing_joins_the_gates_and_adds_epoch_and_name() {
        let text = abi::testing::GOOD
            .replace(
                r#"(import "lind" "make-syscall""#,
                r#"(import "lind" "make-syscall-unwinding""#,
            )
            .replace(r#"(global (export "epoch") (mut i64) (i64.const 0))"#, "")
            .replace("(module $good", "(module");
        let before = wat::parse_str(text).unwrap();
        assert_eq!(abi::violations(&before, None).len(), 3);
        let after = complete(&before, "named").unwrap();
        assert_eq!(abi::violations(&after, None), Vec::<String>::new());
        assert_eq!(abi::module_name(&after).as_deref(), Some("named"));
    }
}
