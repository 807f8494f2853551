//! What Lind asks of a program file, checked without running it.

use crate::guests::Kind;

use std::collections::HashMap;
use wasmparser::{
    CompositeInnerType, DataKind, ExternalKind, FuncType, GlobalType, KnownCustom, Name, Operator,
    Parser, Payload, TypeRef, ValType, Validator,
};

use ValType::{I32, I64};

/// A function's parameters and results.
type Signature = (&'static [ValType], &'static [ValType]);

const GATE: Signature = (
    &[
        I32, I64, I64, I64, I64, I64, I64, I64, I64, I64, I64, I64, I64, I64, I64, I64,
    ],
    &[I32],
);
const TWO_POINTERS: Signature = (&[I32, I32], &[I32]);

/// What a program may import: module, name, type.
const IMPORTS: &[(&str, &str, Signature)] = &[
    ("lind", "make-syscall", GATE),
    ("lind", "lind-get-memory-base", (&[], &[I64])),
    ("lind", "lind-get-cage-id", (&[], &[I64])),
    ("lind", "epoch_callback", (&[], &[])),
    ("lind", "args_sizes_get", TWO_POINTERS),
    ("lind", "args_get", TWO_POINTERS),
    ("lind", "environ_sizes_get", TWO_POINTERS),
    ("lind", "environ_get", TWO_POINTERS),
    ("lind", "random_get", TWO_POINTERS),
    ("wasi_snapshot_preview1", "args_sizes_get", TWO_POINTERS),
    ("wasi_snapshot_preview1", "args_get", TWO_POINTERS),
    ("wasi_snapshot_preview1", "environ_sizes_get", TWO_POINTERS),
    ("wasi_snapshot_preview1", "environ_get", TWO_POINTERS),
    ("wasi_snapshot_preview1", "random_get", TWO_POINTERS),
];

/// Functions that a program must export.
const FUNCTIONS: &[(&str, Signature)] = &[
    ("_start", (&[], &[I32])),
    ("asyncify_start_unwind", (&[I32], &[])),
    ("asyncify_start_rewind", (&[I32], &[])),
    ("asyncify_stop_unwind", (&[], &[])),
    ("asyncify_stop_rewind", (&[], &[])),
];

/// Where the runtime enters a grate.
const DISPATCHER: (&str, Signature) = ("pass_fptr_to_wt", (&[I64; 14], &[I32]));

/// Functions that must have that type where a program exports them.
const OPTIONAL_FUNCTIONS: &[(&str, Signature)] = &[
    DISPATCHER,
    ("signal_callback", (&[I32, I32], &[])),
    ("__wasm_init_tls", (&[I32], &[])),
    ("__get_aligned_tls_size", (&[], &[I32])),
    ("_initialize", (&[], &[])),
];

/// Globals that a program must export: type, and whether it must be mutable.
const GLOBALS: &[(&str, ValType, bool)] = &[
    ("__stack_pointer", I32, true),
    ("__stack_low", I32, false),
    ("epoch", I64, true),
];

/// Wasm pages in 4 GiB, up to which the memory of a cage may grow.
const MOST_PAGES: u64 = 65536;

/// Everything in a program that is against the ABI, a line each. A grate has to have more in it
/// than other programs.
pub fn violations(wasm: &[u8], kind: Option<Kind>) -> Vec<String> {
    if let Err(error) = Validator::new().validate_all(wasm) {
        return vec![format!("not a valid core module: {error}")];
    }
    match Facts::read(wasm) {
        Ok(facts) => facts.violations(kind),
        Err(error) => vec![format!("cannot be read: {error:#}")],
    }
}

/// The parts of a module that the ABI speaks of.
#[derive(Default)]
struct Facts {
    types: Vec<Option<FuncType>>,
    /// Type indices of all functions, imported ones first.
    functions: Vec<u32>,
    globals: Vec<GlobalType>,
    memory_import: Option<wasmparser::MemoryType>,
    exports: HashMap<String, (ExternalKind, u32)>,
    name: Option<String>,
    found: Vec<String>,
}

impl Facts {
    fn read(wasm: &[u8]) -> anyhow::Result<Self> {
        let mut facts = Self::default();
        for payload in Parser::new(0).parse_all(wasm) {
            facts.take(payload?)?;
        }
        Ok(facts)
    }

    fn take(&mut self, payload: Payload<'_>) -> anyhow::Result<()> {
        match payload {
            Payload::TypeSection(reader) => {
                for group in reader {
                    for ty in group?.into_types() {
                        self.types.push(match ty.composite_type.inner {
                            CompositeInnerType::Func(function) => Some(function),
                            _ => None,
                        });
                    }
                }
            }
            Payload::ImportSection(reader) => {
                for import in reader.into_imports() {
                    let import = import?;
                    self.import(import.module, import.name, import.ty);
                }
            }
            Payload::FunctionSection(reader) => {
                for function in reader {
                    self.functions.push(function?);
                }
            }
            Payload::MemorySection(reader) if reader.count() > 0 => {
                self.found("the memory is defined, not imported");
            }
            Payload::GlobalSection(reader) => {
                for global in reader {
                    self.globals.push(global?.ty);
                }
            }
            Payload::ExportSection(reader) => {
                for export in reader {
                    let export = export?;
                    let what = (export.kind, export.index);
                    self.exports.insert(export.name.to_owned(), what);
                }
            }
            Payload::DataSection(reader) => {
                for (index, data) in reader.into_iter().enumerate() {
                    if let DataKind::Active { .. } = data?.kind {
                        self.found(format!("data segment {index} is active, not passive"));
                    }
                }
            }
            Payload::CodeSectionEntry(body) => {
                for operator in body.get_operators_reader()? {
                    if let Operator::MemoryGrow { .. } = operator? {
                        let at = body.range().start;
                        self.found(format!("the function at {at:#x} uses memory.grow"));
                        break;
                    }
                }
            }
            Payload::CustomSection(section) => {
                if let KnownCustom::Name(names) = section.as_known() {
                    for name in names {
                        if let Name::Module { name, .. } = name? {
                            self.name = Some(name.to_owned());
                        }
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn import(&mut self, module: &str, name: &str, ty: TypeRef) {
        match ty {
            TypeRef::Memory(memory) => self.memory_import = Some(memory),
            TypeRef::Func(index) => {
                self.functions.push(index);
                let known = IMPORTS
                    .iter()
                    .find(|(m, n, _)| (*m, *n) == (module, name))
                    .map(|(_, _, signature)| *signature);
                match known {
                    None => {
                        self.found(format!("imports {module}.{name}, which Lind does not have"))
                    }
                    Some(expected) if !self.has_type(index, expected) => {
                        let actual = self.shown(index);
                        self.found(format!(
                            "imports {module}.{name} as {actual}, not {}",
                            show(expected.0, expected.1)
                        ));
                    }
                    Some(_) => {}
                }
            }
            TypeRef::Global(global) => {
                self.globals.push(global);
                self.found(format!("imports the global {module}.{name}"));
            }
            _ => self.found(format!("imports {module}.{name}, which Lind does not have")),
        }
    }

    fn violations(mut self, kind: Option<Kind>) -> Vec<String> {
        self.memory();
        for &(name, expected) in FUNCTIONS {
            self.exported_function(name, expected, true);
        }
        for &(name, expected) in OPTIONAL_FUNCTIONS {
            let needed = name == DISPATCHER.0 && kind == Some(Kind::Grate);
            self.exported_function(name, expected, needed);
        }
        if self.exports.contains_key("__wasm_init_tls")
            && !self.exports.contains_key("__get_aligned_tls_size")
        {
            self.found("exports __wasm_init_tls without __get_aligned_tls_size");
        }
        for &(name, ty, mutable) in GLOBALS {
            self.exported_global(name, ty, mutable);
        }
        for (index, global) in self.globals.clone().into_iter().enumerate() {
            if ![I32, I64].contains(&global.content_type) {
                self.found(format!(
                    "global {index} is of type {}: only i32 and i64 survive a fork",
                    global.content_type
                ));
            }
        }
        if self.name.as_deref().unwrap_or_default().is_empty() {
            self.found("has no module name");
        }
        self.found
    }

    fn memory(&mut self) {
        match self.memory_import {
            None => self.found("imports no memory"),
            Some(memory) if !memory.shared => self.found("imports a memory that is not shared"),
            Some(memory) if memory.memory64 || memory.page_size_log2.is_some() => {
                self.found("imports a memory that is not an ordinary 32-bit one");
            }
            Some(memory) if memory.maximum != Some(MOST_PAGES) => self.found(
                "declares a memory maximum below 4 GiB, beyond which mmap could give nothing",
            ),
            Some(_) => {}
        }
    }

    fn exported_function(&mut self, name: &str, expected: Signature, needed: bool) {
        match self.exports.get(name) {
            None if needed => self.found(format!(
                "does not export {name} {}",
                show(expected.0, expected.1)
            )),
            None => {}
            Some(&(ExternalKind::Func, index)) => {
                let ty = self.functions.get(index as usize).copied();
                if let Some(ty) = ty.filter(|&ty| !self.has_type(ty, expected)) {
                    self.found(format!(
                        "exports {name} as {}, not {}",
                        self.shown(ty),
                        show(expected.0, expected.1)
                    ));
                }
            }
            Some(_) => self.found(format!("exports {name}, but not as a function")),
        }
    }

    fn exported_global(&mut self, name: &str, ty: ValType, mutable: bool) {
        let global = match self.exports.get(name) {
            Some(&(ExternalKind::Global, index)) => self.globals.get(index as usize),
            _ => None,
        };
        let is_right =
            global.is_some_and(|global| global.content_type == ty && (global.mutable || !mutable));
        if !is_right {
            let constancy = if mutable { "mutable " } else { "" };
            self.found(format!(
                "does not export {name} as a {constancy}{ty} global"
            ));
        }
    }

    fn has_type(&self, index: u32, (params, results): Signature) -> bool {
        self.function_type(index)
            .is_some_and(|ty| ty.params() == params && ty.results() == results)
    }

    fn function_type(&self, index: u32) -> Option<&FuncType> {
        self.types.get(index as usize)?.as_ref()
    }

    fn shown(&self, index: u32) -> String {
        self.function_type(index)
            .map_or_else(String::new, |ty| show(ty.params(), ty.results()))
    }

    fn found(&mut self, violation: impl Into<String>) {
        self.found.push(violation.into());
    }
}

fn show(params: &[ValType], results: &[ValType]) -> String {
    let list = |types: &[ValType]| {
        let names: Vec<String> = types.iter().map(ValType::to_string).collect();
        names.join(", ")
    };
    format!("({}) -> ({})", list(params), list(results))
}

#[cfg(test)]
pub fn module_name(wasm: &[u8]) -> Option<String> {
    Facts::read(wasm).ok()?.name
}

#[cfg(test)]
pub mod testing {
    /// The smallest program that keeps to the ABI, each part on a line of its own.
    pub const GOOD: &str = r#"(module $good
        (import "env" "memory" (memory 1 65536 shared))
        (import "lind" "make-syscall" (func (param i32 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64) (result i32)))
        (import "lind" "lind-get-cage-id" (func (result i64)))
        (import "wasi_snapshot_preview1" "args_get" (func (param i32 i32) (result i32)))
        (global (export "__stack_pointer") (mut i32) (i32.const 65536))
        (global (export "__stack_low") i32 (i32.const 0))
        (global (export "epoch") (mut i64) (i64.const 0))
        (func (export "_start") (result i32) i32.const 0)
        (func (export "asyncify_start_unwind") (param i32))
        (func (export "asyncify_start_rewind") (param i32))
        (func (export "asyncify_stop_unwind"))
        (func (export "asyncify_stop_rewind"))
        (func (export "pass_fptr_to_wt") (param i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64) (result i32) i32.const 0)
        (func $init)
        (start $init)
        (data "passive"))"#;
}

#[cfg(test)]
mod tests {
    use super::testing::GOOD;
    use super::*;

    fn of(text: &str, kind: Kind) -> Vec<String> {
        violations(&wat::parse_str(text).unwrap(), Some(kind))
    }

    #[track_caller]
    fn refused(from: &str, to: &str, why: &str) {
        assert!(GOOD.contains(from), "{from} is not in the good module");
        let found = of(&GOOD.replace(from, to), Kind::Grate);
        assert!(
            found.len() == 1 && found[0].contains(why),
            "{from} -> {to}: {found:?}"
        );
    }

    #[test]
    fn the_good_module_is_accepted() {
        assert_eq!(of(GOOD, Kind::Grate), Vec::<String>::new());
        assert_eq!(of(GOOD, Kind::Program), Vec::<String>::new());
    }

    #[test]
    fn bytes_that_are_no_module_are_refused() {
        assert!(violations(b"\0asm", None)[0].contains("not a valid core module"));
        assert!(violations(b"", None)[0].contains("not a valid core module"));
    }

    #[test]
    fn foreign_imports_are_refused() {
        refused(
            r#""args_get""#,
            r#""fd_read""#,
            "imports wasi_snapshot_preview1.fd_read, which Lind does not have",
        );
        refused(
            r#"(import "lind" "lind-get-cage-id" (func (result i64)))"#,
            r#"(import "env" "g" (global i32))"#,
            "imports the global env.g",
        );
        refused(
            r#"(import "lind" "lind-get-cage-id" (func (result i64)))"#,
            r#"(import "env" "t" (table 1 funcref))"#,
            "imports env.t",
        );
    }

    #[test]
    fn imports_of_another_type_are_refused() {
        refused(
            r#""lind-get-cage-id" (func (result i64))"#,
            r#""lind-get-cage-id" (func (result i32))"#,
            "imports lind.lind-get-cage-id as () -> (i32), not () -> (i64)",
        );
        refused(
            "i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64) (result i32)))",
            "i64) (result i32)))",
            "imports lind.make-syscall as (i32, i64) -> (i32)",
        );
    }

    #[test]
    fn another_memory_is_refused() {
        refused(
            r#"(memory 1 65536 shared)"#,
            r#"(memory 1 65536)"#,
            "imports a memory that is not shared",
        );
        refused(
            r#"(memory 1 65536 shared)"#,
            r#"(memory 1 1024 shared)"#,
            "memory maximum",
        );
        let own = GOOD
            .replace(r#"(import "env" "memory" (memory 1 65536 shared))"#, "")
            .replace("(func $init)", "(memory 1 65536 shared) (func $init)");
        assert_eq!(
            of(&own, Kind::Program),
            ["the memory is defined, not imported", "imports no memory"]
        );
    }

    #[test]
    fn missing_or_mistyped_exports_are_refused() {
        for (name, _) in FUNCTIONS.iter().chain([&DISPATCHER]) {
            refused(
                &format!("(export \"{name}\")"),
                "",
                &format!("does not export {name}"),
            );
        }
        for (name, _, _) in GLOBALS {
            refused(
                &format!("(export \"{name}\")"),
                "",
                &format!("does not export {name}"),
            );
        }
        refused(
            r#"(export "_start") (result i32) i32.const 0"#,
            r#"(export "_start")"#,
            "exports _start as () -> (), not () -> (i32)",
        );
        refused(
            r#"(export "epoch") (mut i64) (i64.const 0)"#,
            r#"(export "epoch") (mut i32) (i32.const 0)"#,
            "does not export epoch as a mutable i64 global",
        );
        refused(
            r#"(export "__stack_pointer") (mut i32)"#,
            r#"(export "__stack_pointer") i32"#,
            "does not export __stack_pointer as a mutable i32 global",
        );
        refused(
            "(func $init)",
            r#"(func $init) (func (export "signal_callback") (param i32))"#,
            "exports signal_callback as (i32) -> ()",
        );
        refused(
            "(func $init)",
            r#"(func $init) (func (export "__wasm_init_tls") (param i32))"#,
            "__wasm_init_tls without",
        );
    }

    #[test]
    fn a_program_needs_no_dispatcher() {
        let text = GOOD.replace(r#"(export "pass_fptr_to_wt")"#, "");
        assert_eq!(of(&text, Kind::Program), Vec::<String>::new());
        assert_eq!(of(&text, Kind::Grate).len(), 1);
    }

    #[test]
    fn what_a_fork_or_a_worker_breaks_is_refused() {
        refused(
            "(func $init)",
            "(func $init) (global f64 (f64.const 0))",
            "global 3 is of type f64",
        );
        refused(
            r#"(data "passive")"#,
            r#"(data (i32.const 0) "active")"#,
            "data segment 0 is active",
        );
        refused("(module $good", "(module", "has no module name");
        refused(
            "(func $init)",
            "(func $init (drop (memory.grow (i32.const 1))))",
            "uses memory.grow",
        );
    }
}
