//! Gives the dispatcher of a grate in C the type that the runtime enters it by.
//!
//! The runtime calls `pass_fptr_to_wt` with fourteen 64-bit numbers. One in C may be declared with
//! fewer of them, or with some and `...`, which for WebAssembly are other types: the arguments of
//! `...` are passed in memory, by address. So a function of the right type is put in front, which
//! also readies the instance (`__lind_enter` of `lib/c`) before any of the grate's code runs.

use crate::finish::rewrite;
use anyhow::{Context, bail, ensure};
use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{
    CodeSection, ExportKind, ExportSection, Function, FunctionSection, MemArg, TypeSection, ValType,
};
use wasmparser::{CompositeInnerType, ExternalKind, FuncType, Parser, Payload, TypeRef};

const DISPATCHER: &str = "pass_fptr_to_wt";
const READY: &str = "__lind_enter";
const STACK: &str = "__stack_pointer";

/// Arguments that the runtime passes: the handler, the grate, and six with the cage of each.
const ARGUMENTS: u32 = 14;

/// What a module has that the new function needs.
#[derive(Default)]
struct Facts {
    types: Vec<FuncType>,
    /// Type indices of all functions, imported ones first.
    functions: Vec<u32>,
    dispatcher: Option<u32>,
    ready: Option<u32>,
    stack: Option<u32>,
}

/// How the dispatcher takes its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Form {
    /// How many it has by number.
    named: u32,
    /// Whether the others follow in memory.
    variadic: bool,
    /// Whether it answers a 64-bit number.
    wide: bool,
}

/// Answers the module with a dispatcher of the right type; unchanged if it has none, or one of
/// Rust.
pub fn fit(wasm: &[u8]) -> anyhow::Result<Vec<u8>> {
    let facts = Facts::read(wasm)?;
    let (Some(dispatcher), Some(ready)) = (facts.dispatcher, facts.ready) else {
        return Ok(wasm.to_vec());
    };
    let index = *facts
        .functions
        .get(dispatcher as usize)
        .context("the export is no function")?;
    let ty = facts.types.get(index as usize).context("no such type")?;
    let front = front(dispatcher, ready, facts.stack, form(ty)?)?;
    let (new_type, new_function) = (facts.types.len() as u32, facts.functions.len() as u32);

    rewrite(wasm, |payload, module| {
        match payload {
            Payload::TypeSection(reader) => {
                let mut section = TypeSection::new();
                RoundtripReencoder.parse_type_section(&mut section, reader.clone())?;
                let params = [ValType::I64; ARGUMENTS as usize];
                section.ty().function(params, [ValType::I32]);
                module.section(&section);
            }
            Payload::FunctionSection(reader) => {
                let mut section = FunctionSection::new();
                RoundtripReencoder.parse_function_section(&mut section, reader.clone())?;
                section.function(new_type);
                module.section(&section);
            }
            Payload::ExportSection(reader) => {
                let mut section = ExportSection::new();
                for export in reader.clone() {
                    let export = export?;
                    let index = if export.name == DISPATCHER {
                        new_function
                    } else {
                        export.index
                    };
                    let kind: ExportKind = RoundtripReencoder.export_kind(export.kind)?;
                    section.export(export.name, kind, index);
                }
                module.section(&section);
            }
            Payload::CodeSectionStart { range, .. } => {
                let bytes = wasm.get(range.clone()).context("truncated section")?;
                let mut section = CodeSection::new();
                let reader = wasmparser::CodeSectionReader::new(wasmparser::BinaryReader::new(
                    bytes,
                    range.start,
                ))?;
                RoundtripReencoder.parse_code_section(&mut section, reader)?;
                section.function(&front);
                module.section(&section);
            }
            _ => return Ok(false),
        }
        Ok(true)
    })
}

impl Facts {
    fn read(wasm: &[u8]) -> anyhow::Result<Self> {
        let mut facts = Self::default();
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::TypeSection(reader) => {
                    for ty in reader.into_iter().flatten().flat_map(|g| g.into_types()) {
                        match ty.composite_type.inner {
                            CompositeInnerType::Func(function) => facts.types.push(function),
                            _ => bail!("it has types that are no functions"),
                        }
                    }
                }
                Payload::ImportSection(reader) => {
                    for import in reader.into_imports() {
                        if let TypeRef::Func(index) = import?.ty {
                            facts.functions.push(index);
                        }
                    }
                }
                Payload::FunctionSection(reader) => {
                    for index in reader {
                        facts.functions.push(index?);
                    }
                }
                Payload::ExportSection(reader) => {
                    for export in reader {
                        let export = export?;
                        let slot = match (export.name, export.kind) {
                            (DISPATCHER, ExternalKind::Func) => &mut facts.dispatcher,
                            (READY, ExternalKind::Func) => &mut facts.ready,
                            (STACK, ExternalKind::Global) => &mut facts.stack,
                            _ => continue,
                        };
                        *slot = Some(export.index);
                    }
                }
                _ => {}
            }
        }
        Ok(facts)
    }
}

fn form(ty: &FuncType) -> anyhow::Result<Form> {
    use wasmparser::ValType::{I32, I64};
    let (variadic, named) = match ty.params().split_last() {
        Some((I32, named)) => (true, named),
        _ => (false, ty.params()),
    };
    let wide = ty.results() == [I64];
    let takes = named.len() <= ARGUMENTS as usize && named.iter().all(|param| *param == I64);
    ensure!(
        takes && !named.is_empty() && (wide || ty.results() == [I32]),
        "{DISPATCHER} must take uint64_t, at most {ARGUMENTS} of them, and after them maybe `...`, \
         and answer an int; it has the type {ty}"
    );
    Ok(Form {
        named: named.len() as u32,
        variadic,
        wide,
    })
}

/// The function that the runtime enters.
fn front(dispatcher: u32, ready: u32, stack: Option<u32>, form: Form) -> anyhow::Result<Function> {
    const WORD: u32 = 8;
    let stack = stack.context("it does not export __stack_pointer")?;
    let rest = ARGUMENTS - form.named;
    // The stack pointer stays a multiple of 16.
    let room = (rest * WORD).next_multiple_of(16) as i32;
    let place = ARGUMENTS;
    let mut function = Function::new([(1, ValType::I32)]);
    let mut body = function.instructions();
    body.call(ready);
    if form.variadic {
        body.global_get(stack).i32_const(room).i32_sub();
        body.local_tee(place).global_set(stack);
        for index in 0..rest {
            let to = MemArg {
                offset: u64::from(index * WORD),
                align: 3,
                memory_index: 0,
            };
            body.local_get(place).local_get(form.named + index);
            body.i64_store(to);
        }
    }
    for index in 0..form.named {
        body.local_get(index);
    }
    if form.variadic {
        body.local_get(place);
    }
    body.call(dispatcher);
    if form.wide {
        body.i32_wrap_i64();
    }
    if form.variadic {
        body.local_get(place).i32_const(room).i32_add();
        body.global_set(stack);
    }
    body.end();
    Ok(function)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module with a dispatcher of that type, which answers something of what it was given.
    fn module(head: &str, body: &str) -> Vec<u8> {
        let text = format!(
            r#"(module (memory (export "memory") 1)
                (global (export "__stack_pointer") (mut i32) (i32.const 1024))
                (func (export "__lind_enter") (i32.store (i32.const 0) (i32.const 1)))
                (func (export "pass_fptr_to_wt") {head} {body}))"#
        );
        wat::parse_str(text).unwrap()
    }

    fn type_of_export(wasm: &[u8]) -> FuncType {
        let facts = Facts::read(wasm).unwrap();
        facts.types[facts.functions[facts.dispatcher.unwrap() as usize] as usize].clone()
    }

    #[test]
    fn each_form_becomes_the_one_that_the_runtime_enters() {
        let all = "i64 ".repeat(14);
        for (head, body) in [
            (
                "(param i64 i64 i32) (result i32)",
                "(i32.wrap_i64 (i64.load (local.get 2)))",
            ),
            (
                "(param i64 i64) (result i32)",
                "(i32.wrap_i64 (local.get 1))",
            ),
            ("(param i64) (result i64)", "(local.get 0)"),
            (
                &format!("(param {all}) (result i32)"),
                "(i32.wrap_i64 (local.get 13))",
            ),
            (&format!("(param {all} i32) (result i32)"), "(local.get 14)"),
        ] {
            let fitted = fit(&module(head, body)).unwrap();
            wasmparser::Validator::new().validate_all(&fitted).unwrap();
            let ty = type_of_export(&fitted);
            assert_eq!(ty.params(), [wasmparser::ValType::I64; 14], "{head}");
            assert_eq!(ty.results(), [wasmparser::ValType::I32], "{head}");
        }
    }

    #[test]
    fn another_type_is_refused() {
        for (head, body) in [
            ("(result i32)", "(i32.const 0)"),
            ("(param i32) (result i32)", "(i32.const 0)"),
            ("(param i64 i32 i32) (result i32)", "(i32.const 0)"),
            ("(param i64 f64) (result i32)", "(i32.const 0)"),
            ("(param i64)", ""),
            (
                &format!("(param {}) (result i32)", "i64 ".repeat(15)),
                "(i32.const 0)",
            ),
        ] {
            let error = fit(&module(head, body)).unwrap_err().to_string();
            assert!(error.contains("must take uint64_t"), "{head}: {error}");
        }
    }

    #[test]
    fn a_dispatcher_that_readies_itself_is_left_alone() {
        let text = crate::abi::testing::GOOD;
        let wasm = wat::parse_str(text).unwrap();
        assert_eq!(fit(&wasm).unwrap(), wasm);
    }
}
