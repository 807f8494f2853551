//! Turns a program's bytes into a module of one known shape.
//!
//! Whatever a program declares, the compiled module imports exactly one shared memory with the
//! limit raised to 4 GiB (a module built for Lind says less and relies on Lind ignoring it), and
//! exports its mutable globals, which a fork has to carry over.

use anyhow::{Context, bail, ensure};
use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{
    EntityType, ExportKind, ExportSection, ImportSection, MemoryType, Module, RawSection,
};
use wasmparser::{Encoding, Parser, Payload, TypeRef};

/// Module name of the memory import in a normalised module.
pub const MEMORY_MODULE: &str = "lind:memory";
/// Field name of the memory import in a normalised module.
pub const MEMORY_FIELD: &str = "memory";
/// What the export names of mutable globals start with; their index follows.
pub const GLOBAL_PREFIX: &str = "lind:global:";

/// Rewrites a wasm module as described above.
///
/// # Errors
/// One line that says what is wrong: not a module, or a shape that can't run as a cage.
pub fn normalise(wasm: &[u8]) -> anyhow::Result<Vec<u8>> {
    let facts = Facts::read(wasm)?;
    let mut module = Module::new();
    let mut wrote_imports = false;
    let mut wrote_exports = false;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload?;
        let Some((id, range)) = payload.as_section() else {
            continue;
        };
        // Sections 2 (imports) and 7 (exports) are made even where the program has none; they
        // come right before the first section that has to follow them.
        if !wrote_imports && order(id) > order(IMPORTS) {
            wrote_imports = true;
            facts.imports(&mut module, None)?;
        }
        if !wrote_exports && order(id) > order(EXPORTS) {
            wrote_exports = true;
            facts.exports(&mut module, None)?;
        }
        match payload {
            Payload::ImportSection(reader) => {
                wrote_imports = true;
                facts.imports(&mut module, Some(reader))?;
            }
            Payload::ExportSection(reader) => {
                wrote_exports = true;
                facts.exports(&mut module, Some(reader))?;
            }
            // The one memory is imported now.
            Payload::MemorySection(_) => {}
            _ => {
                module.section(&RawSection {
                    id,
                    data: wasm.get(range).context("truncated section")?,
                });
            }
        }
    }
    if !wrote_imports {
        facts.imports(&mut module, None)?;
    }
    if !wrote_exports {
        facts.exports(&mut module, None)?;
    }
    Ok(module.finish())
}

const IMPORTS: u8 = 2;
const EXPORTS: u8 = 7;

/// Position of a section in the order that the specification demands. Custom sections (0) may
/// stand anywhere and force nothing.
fn order(id: u8) -> u8 {
    match id {
        13 => 6, // tags stand between memories and globals
        id if id >= 6 => id + 1,
        id => id,
    }
}

/// What has to be known about a module before it can be rewritten.
struct Facts {
    /// Limits of its one memory in wasm pages.
    min_pages: u64,
    max_pages: u64,
    /// Indices of its own mutable globals.
    mutable_globals: Vec<u32>,
}

impl Facts {
    fn read(wasm: &[u8]) -> anyhow::Result<Self> {
        let mut memories: Vec<wasmparser::MemoryType> = Vec::new();
        let mut imported_globals = 0;
        let mut mutable_globals = Vec::new();
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::Version { encoding, .. } => ensure!(
                    encoding == Encoding::Module,
                    "it is a WebAssembly component; only core modules run as cages"
                ),
                Payload::ImportSection(reader) => {
                    for import in reader.into_imports() {
                        match import?.ty {
                            TypeRef::Memory(memory) => memories.push(memory),
                            TypeRef::Global(_) => imported_globals += 1,
                            _ => {}
                        }
                    }
                }
                Payload::MemorySection(reader) => {
                    for memory in reader {
                        memories.push(memory?);
                    }
                }
                Payload::GlobalSection(reader) => {
                    for (index, global) in reader.into_iter().enumerate() {
                        if global?.ty.mutable {
                            mutable_globals.push(imported_globals + index as u32);
                        }
                    }
                }
                _ => {}
            }
        }
        let memory = match memories[..] {
            [memory] => memory,
            [] => bail!("it has no memory"),
            _ => bail!("it has more than one memory"),
        };
        ensure!(
            !memory.memory64 && memory.page_size_log2.is_none(),
            "its memory is not a 32-bit one"
        );
        let most = crate::memory::WASM_PAGES_MAX;
        ensure!(memory.initial <= most, "its memory is larger than 4 GiB");
        Ok(Self {
            min_pages: memory.initial,
            max_pages: if memory.shared {
                most
            } else {
                memory.maximum.unwrap_or(most).min(most)
            },
            mutable_globals,
        })
    }

    fn imports(
        &self,
        module: &mut Module,
        from: Option<wasmparser::ImportSectionReader<'_>>,
    ) -> anyhow::Result<()> {
        let mut section = ImportSection::new();
        if let Some(reader) = from {
            for import in reader.into_imports() {
                let import = import?;
                if let TypeRef::Memory(_) = import.ty {
                    continue;
                }
                let ty = RoundtripReencoder.entity_type(import.ty)?;
                section.import(import.module, import.name, ty);
            }
        }
        // Last is fine: there is one memory, hence its index is 0 wherever the import stands.
        section.import(
            MEMORY_MODULE,
            MEMORY_FIELD,
            EntityType::Memory(MemoryType {
                minimum: self.min_pages,
                maximum: Some(self.max_pages.max(self.min_pages)),
                memory64: false,
                shared: true,
                page_size_log2: None,
            }),
        );
        module.section(&section);
        Ok(())
    }

    fn exports(
        &self,
        module: &mut Module,
        from: Option<wasmparser::ExportSectionReader<'_>>,
    ) -> anyhow::Result<()> {
        let mut section = ExportSection::new();
        if let Some(reader) = from {
            for export in reader {
                let export = export?;
                ensure!(
                    !export.name.starts_with(GLOBAL_PREFIX),
                    "its export {:?} has a reserved name",
                    export.name
                );
                let kind = RoundtripReencoder.export_kind(export.kind)?;
                section.export(export.name, kind, export.index);
            }
        }
        for index in &self.mutable_globals {
            section.export(
                &format!("{GLOBAL_PREFIX}{index}"),
                ExportKind::Global,
                *index,
            );
        }
        module.section(&section);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalised(text: &str) -> anyhow::Result<wasmtime::Module> {
        let bytes = normalise(&wat::parse_str(text)?)?;
        Ok(wasmtime::Module::new(&crate::engine::new()?, bytes)?)
    }

    fn memory(module: &wasmtime::Module) -> (u64, Option<u64>, bool) {
        let import = module
            .imports()
            .find(|import| import.module() == MEMORY_MODULE)
            .expect("a memory import");
        let ty = import.ty().unwrap_memory().clone();
        (ty.minimum(), ty.maximum(), ty.is_shared())
    }

    #[test]
    fn an_own_memory_becomes_an_imported_shared_one() {
        let module = normalised(
            r#"(module (memory (export "memory") 2 7) (data (i32.const 8) "hello")
                 (func (export "_start") (drop (i32.load (i32.const 8)))))"#,
        )
        .unwrap();
        assert_eq!(memory(&module), (2, Some(7), true));
        assert!(module.get_export("memory").is_some());
    }

    #[test]
    fn a_shared_memory_gets_the_full_limit_and_globals_are_exported() {
        let module = normalised(
            r#"(module (import "x" "f" (func)) (import "env" "memory" (memory 3 1024 shared))
                 (global (mut i32) (i32.const 1)) (global i32 (i32.const 2))
                 (global (mut i64) (i64.const 3)))"#,
        )
        .unwrap();
        assert_eq!(memory(&module), (3, Some(65536), true));
        assert!(module.get_export("lind:global:0").is_some());
        assert!(module.get_export("lind:global:1").is_none());
        assert!(module.get_export("lind:global:2").is_some());
    }

    #[test]
    fn shapes_that_cannot_run_are_refused_with_the_reason() {
        for (text, reason) in [
            ("(module)", "no memory"),
            ("(module (memory 1) (memory 1))", "more than one memory"),
            ("(module (memory i64 1))", "32-bit"),
            (
                r#"(module (memory 1) (func (export "lind:global:0")))"#,
                "reserved",
            ),
            ("(component)", "component"),
        ] {
            let error = normalise(&wat::parse_str(text).unwrap()).unwrap_err();
            assert!(error.to_string().contains(reason), "{text}: {error}");
        }
        assert!(normalise(b"\0asm").is_err());
        assert!(normalise(b"").is_err());
    }

    proptest::proptest! {
        /// Whatever is done to a module, the answer is a module or a line, never a panic.
        #[test]
        fn damaged_modules_are_errors_or_modules(
            edits in proptest::collection::vec((0usize..400, proptest::num::u8::ANY), 0..8),
            cut in 0usize..400,
        ) {
            let mut bytes = wat::parse_str(
                r#"(module (import "x" "f" (func)) (memory (export "memory") 2 7)
                     (global $g (mut i32) (i32.const 1)) (table 3 funcref) (elem (i32.const 0) 0)
                     (data (i32.const 8) "hello")
                     (func (export "_start") (drop (i32.load (i32.const 8)))))"#,
            )
            .unwrap();
            for (at, byte) in edits {
                let len = bytes.len();
                bytes[at % len] = byte;
            }
            bytes.truncate(bytes.len() - cut.min(bytes.len()) * usize::from(cut < 60));
            if let Ok(normalised) = normalise(&bytes) {
                // What comes out is for the engine to judge, which must not panic either.
                let _ = wasmparser::validate(&normalised);
            }
        }
    }
}
