//! Makes a finished WASI module one that Lind runs, without its sources.
//!
//! What the module imports of WASI is put into it: `lib/c`, linked to lie above the module's
//! memory. The two become one module:
//!
//! - a function of WASI that the module imports is the library's; arguments, environment and random
//!   bytes stay imports, as Lind has them itself;
//! - the memory is imported and shared, as Lind asks; the module's data is copied into it at the
//!   start, and its instructions for the memory's size are calls of the library, which moves the
//!   cage's break;
//! - `_start` ends with the call that ends a cage.
//!
//! The rest is done as for any linked program, see [`crate::finish`].

use crate::clang;
use crate::compile::{Linked, target_folder};
use crate::guests::Kind;
use crate::toolchain::Tools;
use crate::{finish, place};
use anyhow::{Context, bail, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{
    CodeSection, DataCountSection, DataSection, ElementSection, EntityType, ExportKind,
    ExportSection, Function, FunctionSection, GlobalSection, ImportSection, Instruction,
    MemoryType, Module, StartSection, TableSection, TypeSection, ValType,
};
use wasmparser::{
    CompositeInnerType, DataKind, ExternalKind, FuncType, FunctionBody, Operator, Parser, Payload,
    TypeRef, Validator,
};

/// Module of WASI's imports.
const WASI: &str = "wasi_snapshot_preview1";
/// What Lind serves of it itself.
const SERVED: &[&str] = &[
    "args_get",
    "args_sizes_get",
    "environ_get",
    "environ_sizes_get",
    "random_get",
];
/// In front of the names of WASI's functions, in C.
const PREFIX: &str = "__imported_wasi_snapshot_preview1_";
/// Other functions of the library.
const SIZE: &str = "__lind_memory_size";
const GROW: &str = "__lind_memory_grow";
const EXIT: &str = "__lind_exit";

/// Bytes of a page of WebAssembly.
const PAGE: u64 = 65536;
/// Most pages of a module's memory at its start: the library and the cage's break come above it.
const MOST_PAGES: u64 = 8192;

/// Adapts a module, and puts the program into the root file system.
pub fn adapt(root: &Path, tools: &Tools, file: &Path) -> anyhow::Result<()> {
    let shown = file.display();
    let wasm = fs::read(file).with_context(|| format!("cannot read {shown}"))?;
    let name = file
        .file_stem()
        .and_then(|name| name.to_str())
        .with_context(|| format!("{shown}: its name is not UTF-8"))?;
    let merged =
        merged(root, tools, &wasm, name).with_context(|| format!("cannot adapt {shown}"))?;
    let folder = target_folder(root).join("adapted");
    fs::create_dir_all(&folder)?;
    let linked = Linked {
        name: name.to_owned(),
        kind: Kind::Program,
        file: folder.join(format!("{name}.wasm")),
    };
    fs::write(&linked.file, merged)?;
    let wasm = finish::finish(tools, &linked)?;
    place::place(root, &linked, &wasm)
}

fn merged(root: &Path, tools: &Tools, wasm: &[u8], name: &str) -> anyhow::Result<Vec<u8>> {
    if let Err(error) = Validator::new().validate_all(wasm) {
        bail!("it is not a valid core module: {error}");
    }
    let program = Parts::read(wasm)?;
    let pages = program.fits()?;
    let functions: Vec<String> = program
        .imports
        .iter()
        .map(|(_, name, _)| format!("{PREFIX}{name}"))
        .collect();
    let library = clang::adapter(root, tools, name, pages * PAGE, &functions)?;
    let library = fs::read(&library)?;
    merge(&Parts::read(&library)?, &program)
}

/// A module taken apart.
#[derive(Default)]
struct Parts<'a> {
    types: Vec<Option<FuncType>>,
    /// Imported functions: module, name, type.
    imports: Vec<(&'a str, &'a str, u32)>,
    /// Any other imports, by name.
    foreign: Vec<String>,
    /// Types of its own functions.
    functions: Vec<u32>,
    tables: u32,
    memory: Option<wasmparser::MemoryType>,
    globals: u32,
    elements: u32,
    data: Vec<wasmparser::Data<'a>>,
    start: Option<u32>,
    exports: BTreeMap<&'a str, (ExternalKind, u32)>,
    bodies: Vec<FunctionBody<'a>>,
    has_tags: bool,
    sections: Sections<'a>,
}

/// Sections as they came.
#[derive(Default)]
struct Sections<'a> {
    types: Option<wasmparser::TypeSectionReader<'a>>,
    tables: Option<wasmparser::TableSectionReader<'a>>,
    globals: Option<wasmparser::GlobalSectionReader<'a>>,
    elements: Option<wasmparser::ElementSectionReader<'a>>,
}

impl<'a> Parts<'a> {
    fn read(wasm: &'a [u8]) -> anyhow::Result<Self> {
        let mut parts = Self::default();
        for payload in Parser::new(0).parse_all(wasm) {
            parts.take(payload?)?;
        }
        Ok(parts)
    }

    fn take(&mut self, payload: Payload<'a>) -> anyhow::Result<()> {
        match payload {
            Payload::TypeSection(reader) => {
                for group in reader.clone() {
                    for ty in group?.into_types() {
                        self.types.push(match ty.composite_type.inner {
                            CompositeInnerType::Func(function) => Some(function),
                            _ => None,
                        });
                    }
                }
                self.sections.types = Some(reader);
            }
            Payload::ImportSection(reader) => {
                for import in reader.into_imports() {
                    let import = import?;
                    match import.ty {
                        TypeRef::Func(ty) => self.imports.push((import.module, import.name, ty)),
                        TypeRef::Memory(memory) => self.memory = Some(memory),
                        _ => self
                            .foreign
                            .push(format!("{}.{}", import.module, import.name)),
                    }
                }
            }
            Payload::FunctionSection(reader) => {
                for ty in reader {
                    self.functions.push(ty?);
                }
            }
            Payload::TableSection(reader) => {
                self.tables = reader.count();
                self.sections.tables = Some(reader);
            }
            Payload::MemorySection(reader) => {
                ensure!(reader.count() <= 1, "it has several memories");
                for memory in reader {
                    self.memory = Some(memory?);
                }
            }
            Payload::TagSection(_) => self.has_tags = true,
            Payload::GlobalSection(reader) => {
                self.globals = reader.count();
                self.sections.globals = Some(reader);
            }
            Payload::ExportSection(reader) => {
                for export in reader {
                    let export = export?;
                    self.exports
                        .insert(export.name, (export.kind, export.index));
                }
            }
            Payload::StartSection { func, .. } => self.start = Some(func),
            Payload::ElementSection(reader) => {
                self.elements = reader.count();
                self.sections.elements = Some(reader);
            }
            Payload::DataSection(reader) => {
                for data in reader {
                    self.data.push(data?);
                }
            }
            Payload::CodeSectionEntry(body) => self.bodies.push(body),
            _ => {}
        }
        Ok(())
    }

    /// The pages of a program's memory, if it is one that can be adapted.
    fn fits(&self) -> anyhow::Result<u64> {
        let mut foreign: Vec<String> = self
            .imports
            .iter()
            .filter(|(module, _, _)| *module != WASI)
            .map(|(module, name, _)| format!("{module}.{name}"))
            .collect();
        foreign.extend(self.foreign.iter().cloned());
        ensure!(
            foreign.is_empty(),
            "it imports {}, which is not of WASI preview 1",
            foreign.join(", ")
        );
        ensure!(!self.has_tags, "it uses exceptions");
        let (kind, start) =
            self.exports.get("_start").copied().context(
                "it does not export _start: only programs can be adapted, and no libraries",
            )?;
        ensure!(kind == ExternalKind::Func, "its _start is no function");
        ensure!(
            start as usize >= self.imports.len(),
            "its _start is imported"
        );
        ensure!(
            self.type_of(start)
                .is_some_and(|ty| ty.params().is_empty() && ty.results().is_empty()),
            "its _start has parameters or results"
        );
        let memory = self.memory.context("it has no memory")?;
        ensure!(
            !memory.shared && !memory.memory64 && memory.page_size_log2.is_none(),
            "its memory is not an ordinary one: programs with threads can't be adapted"
        );
        ensure!(
            memory.initial <= MOST_PAGES,
            "its memory begins with {} pages, and at most {MOST_PAGES} leave room for the rest",
            memory.initial
        );
        Ok(memory.initial)
    }

    /// The type of a function, imported or its own.
    fn type_of(&self, function: u32) -> Option<&FuncType> {
        let function = function as usize;
        let index = match self.imports.get(function) {
            Some((_, _, ty)) => *ty,
            None => *self.functions.get(function - self.imports.len())?,
        };
        self.types.get(index as usize)?.as_ref()
    }

    fn exported(&self, name: &str) -> anyhow::Result<u32> {
        match self.exports.get(name) {
            Some((ExternalKind::Func, index)) => Ok(*index),
            _ => bail!("the library has no {name}"),
        }
    }
}

/// Where the parts of one of the two are in the whole.
struct Place {
    types: u32,
    /// Of each imported function, then of each of its own.
    functions: Vec<u32>,
    tables: u32,
    globals: u32,
    elements: u32,
    data: u32,
    /// What the instructions for the memory's size become, in the program.
    size_and_grow: Option<(u32, u32)>,
}

impl Reencode for Place {
    type Error = std::convert::Infallible;

    fn type_index(&mut self, ty: u32) -> Result<u32, reencode::Error<Self::Error>> {
        Ok(self.types + ty)
    }

    fn function_index(&mut self, function: u32) -> Result<u32, reencode::Error<Self::Error>> {
        let place = self.functions.get(function as usize).copied();
        place.ok_or(reencode::Error::InvalidCodeSectionSize)
    }

    fn table_index(&mut self, table: u32) -> Result<u32, reencode::Error<Self::Error>> {
        Ok(self.tables + table)
    }

    fn global_index(&mut self, global: u32) -> Result<u32, reencode::Error<Self::Error>> {
        Ok(self.globals + global)
    }

    fn element_index(&mut self, element: u32) -> Result<u32, reencode::Error<Self::Error>> {
        Ok(self.elements + element)
    }

    fn data_index(&mut self, data: u32) -> Result<u32, reencode::Error<Self::Error>> {
        Ok(self.data + data)
    }

    fn instruction<'a>(
        &mut self,
        operator: Operator<'a>,
    ) -> Result<Instruction<'a>, reencode::Error<Self::Error>> {
        match (&operator, self.size_and_grow) {
            (Operator::MemorySize { .. }, Some((size, _))) => Ok(Instruction::Call(size)),
            (Operator::MemoryGrow { .. }, Some((_, grow))) => Ok(Instruction::Call(grow)),
            _ => reencode::utils::instruction(self, operator),
        }
    }
}

/// Puts the library and the program together.
fn merge(library: &Parts<'_>, program: &Parts<'_>) -> anyhow::Result<Vec<u8>> {
    // All imports come first: the library's, then those of the program that stay.
    let stays = |(_, name, _): &&(&str, &str, u32)| SERVED.contains(name);
    let staying = program.imports.iter().filter(stays).count() as u32;
    let of_library = library.imports.len() as u32;
    let first = of_library + staying;
    let own = library.functions.len() as u32;
    let in_library = |index: u32| {
        if index < of_library {
            index
        } else {
            index + staying
        }
    };
    let mut functions = Vec::new();
    let mut missing = Vec::new();
    let mut kept = of_library;
    for (import, (_, name, _)) in program.imports.iter().enumerate() {
        if SERVED.contains(name) {
            functions.push(kept);
            kept += 1;
        } else if let Ok(index) = library.exported(&format!("{PREFIX}{name}")) {
            ensure!(
                library.type_of(index) == program.type_of(import as u32),
                "it imports {name} as another type than WASI has it"
            );
            functions.push(in_library(index));
        } else {
            missing.push(*name);
        }
    }
    ensure!(
        missing.is_empty(),
        "it imports {} of WASI, which has no place on Lind",
        missing.join(", ")
    );
    functions.extend((0..program.functions.len() as u32).map(|index| first + own + index));
    let size_and_grow = (
        in_library(library.exported(SIZE)?),
        in_library(library.exported(GROW)?),
    );
    let mut places = [
        Place {
            types: 0,
            functions: (0..of_library + own).map(in_library).collect(),
            tables: 0,
            globals: 0,
            elements: 0,
            data: 0,
            size_and_grow: None,
        },
        Place {
            types: library.types.len() as u32,
            functions,
            tables: library.tables,
            globals: library.globals,
            elements: library.elements,
            data: library.data.len() as u32,
            size_and_grow: Some(size_and_grow),
        },
    ];
    let exit = in_library(library.exported(EXIT)?);
    write(library, program, &mut places, exit)
}

fn write(
    library: &Parts<'_>,
    program: &Parts<'_>,
    places: &mut [Place; 2],
    exit: u32,
) -> anyhow::Result<Vec<u8>> {
    let both = [library, program];
    let mut module = Module::new();

    let mut types = TypeSection::new();
    for (parts, place) in both.iter().zip(&mut *places) {
        if let Some(reader) = parts.sections.types.clone() {
            place.parse_type_section(&mut types, reader)?;
        }
    }
    // That of `_start`.
    let entry_type = (library.types.len() + program.types.len()) as u32;
    types.ty().function([], [ValType::I32]);
    module.section(&types);

    let mut imports = ImportSection::new();
    let memory = library.memory.context("the library has no memory")?;
    let memory = MemoryType {
        minimum: memory.initial,
        maximum: memory.maximum,
        memory64: false,
        shared: true,
        page_size_log2: None,
    };
    for (module, name, ty) in &library.imports {
        imports.import(module, name, EntityType::Function(*ty));
    }
    for (module, name, ty) in &program.imports {
        if SERVED.contains(name) {
            imports.import(module, name, EntityType::Function(places[1].types + ty));
        }
    }
    imports.import("env", "memory", EntityType::Memory(memory));
    module.section(&imports);

    let mut functions = FunctionSection::new();
    for (parts, place) in both.iter().zip(&*places) {
        for ty in &parts.functions {
            functions.function(place.types + ty);
        }
    }
    functions.function(entry_type);
    module.section(&functions);

    let mut tables = TableSection::new();
    let mut globals = GlobalSection::new();
    let mut elements = ElementSection::new();
    for (parts, place) in both.iter().zip(&mut *places) {
        if let Some(reader) = parts.sections.tables.clone() {
            place.parse_table_section(&mut tables, reader)?;
        }
        if let Some(reader) = parts.sections.globals.clone() {
            place.parse_global_section(&mut globals, reader)?;
        }
        if let Some(reader) = parts.sections.elements.clone() {
            place.parse_element_section(&mut elements, reader)?;
        }
    }
    module.section(&tables);
    module.section(&globals);

    let mut exports = ExportSection::new();
    for (name, (kind, index)) in &library.exports {
        if *kind == ExternalKind::Global {
            exports.export(name, ExportKind::Global, *index);
        }
    }
    let entry = places[1].functions.last().map_or(exit, |last| last + 1);
    exports.export("_start", ExportKind::Func, entry);
    module.section(&exports);

    // Initialises the library's memory, once.
    if let Some(start) = library.start {
        let function_index = places[0].function_index(start)?;
        module.section(&StartSection { function_index });
    }
    module.section(&elements);
    let count = (library.data.len() + program.data.len()) as u32;
    module.section(&DataCountSection { count });

    let mut code = CodeSection::new();
    for (parts, place) in both.iter().zip(&mut *places) {
        for body in &parts.bodies {
            place.parse_function_body(&mut code, body.clone())?;
        }
    }
    code.function(&entry_of(program, &mut places[1], exit)?);
    module.section(&code);

    // No segment is copied by itself: that would happen again in every instance.
    let mut data = DataSection::new();
    for segment in library.data.iter().chain(&program.data) {
        data.passive(segment.data.iter().copied());
    }
    module.section(&data);
    Ok(module.finish())
}

/// The entry: copies the program's data, runs the program, and ends the cage.
fn entry_of(program: &Parts<'_>, place: &mut Place, exit: u32) -> anyhow::Result<Function> {
    let mut function = Function::new([]);
    for (index, segment) in program.data.iter().enumerate() {
        let DataKind::Active { offset_expr, .. } = &segment.kind else {
            continue;
        };
        for operator in offset_expr.get_operators_reader() {
            match operator? {
                Operator::End => {}
                operator => {
                    function.instruction(&place.instruction(operator)?);
                }
            }
        }
        let len = i32::try_from(segment.data.len()).context("a data segment is too long")?;
        function.instruction(&Instruction::I32Const(0));
        function.instruction(&Instruction::I32Const(len));
        function.instruction(&Instruction::MemoryInit {
            mem: 0,
            data_index: place.data + index as u32,
        });
        function.instruction(&Instruction::DataDrop(place.data + index as u32));
    }
    let start = program.exported("_start")?;
    for called in program.start.into_iter().chain([start]) {
        function.instruction(&Instruction::Call(place.function_index(called)?));
    }
    function.instruction(&Instruction::I32Const(0));
    function.instruction(&Instruction::Call(exit));
    function.instruction(&Instruction::Unreachable);
    function.instruction(&Instruction::End);
    Ok(function)
}
