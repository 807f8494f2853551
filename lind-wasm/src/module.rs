//! Turns a program's bytes into a module of one known shape.
//!
//! Whatever a program declares, the compiled module
//!
//! - imports exactly one shared memory with the limit raised to 4 GiB (a module built for Lind
//!   says less and relies on Lind ignoring it);
//! - exports its mutable globals, which a fork has to carry over;
//! - has no data segments and no start function: [`START`] does what they did, and the runtime
//!   decides when (a forked child must not be given its data anew);
//! - has none of the instructions by which the engine's own code would touch guest memory
//!   (`memory.copy`, `fill`, `init`, `grow`, `atomic.wait`, `atomic.notify`). Pages of a cage come
//!   and go, and a fault in the engine's code is the end of the process, not a trap. They become
//!   calls: to [`bulk`](crate::bulk), wasm code whose faults are traps, or to functions of this
//!   runtime ([`Host`]), which look at what is mapped and keep it so meanwhile.

use crate::bulk;
use crate::effort;
use crate::exceptions::{CAUGHT, Plan, Refused, Translation, Types};
use crate::limits::Limits;
use anyhow::{bail, ensure};
use wasm_encoder::reencode::{Error, Reencode};
use wasm_encoder::{
    BlockType, CodeSection, ElementSection, EntityType, ExportKind, ExportSection, Function,
    FunctionSection, GlobalSection, ImportSection, Instruction, MemoryType, Module, NameSection,
    TableSection, TagSection, TypeSection, ValType,
};
use wasmparser::{
    DataKind, Encoding, KnownCustom, Name, Operator, Parser, Payload, TypeRef, WasmFeatures,
};

/// What the names start with that a program may not use.
const RESERVED: &str = "lind:";
/// Module name of the memory import in a normalised module.
pub const MEMORY_MODULE: &str = "lind:memory";
/// Field name of the memory import in a normalised module.
pub const MEMORY_FIELD: &str = "memory";
/// Module name of the functions that stand for instructions.
pub const HOST_MODULE: &str = "lind:host";
/// What the export names of mutable globals start with; their index follows.
pub const GLOBAL_PREFIX: &str = "lind:global:";
/// Export that an instance begins with, of type (i32) -> (): fills in the data where the argument
/// is not 0, then runs what the program has for a start function.
pub const START: &str = "lind:start";

/// What programs may be made of. No second memory and none of 64 bits: addresses of calls are
/// offsets into the one.
const FEATURES: WasmFeatures = WasmFeatures::WASM2
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::RELAXED_SIMD)
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::THREADS)
    .union(WasmFeatures::EXCEPTIONS)
    .union(WasmFeatures::LEGACY_EXCEPTIONS);

/// Proposals that no program may use, as an error names them.
const PROPOSALS: &[(WasmFeatures, &str)] = &[
    (
        WasmFeatures::FUNCTION_REFERENCES,
        "typed function references",
    ),
    (
        WasmFeatures::GC.union(WasmFeatures::FUNCTION_REFERENCES),
        "garbage collection (GC)",
    ),
    (WasmFeatures::MEMORY64, "memory64"),
    (WasmFeatures::MULTI_MEMORY, "multi-memory"),
    (WasmFeatures::CUSTOM_PAGE_SIZES, "custom page sizes"),
    (WasmFeatures::WIDE_ARITHMETIC, "wide arithmetic"),
    (WasmFeatures::MEMORY_CONTROL, "memory control"),
    (
        WasmFeatures::SHARED_EVERYTHING_THREADS,
        "shared-everything threads",
    ),
    (
        WasmFeatures::STACK_SWITCHING.union(WasmFeatures::FUNCTION_REFERENCES),
        "stack switching",
    ),
];

/// Tags that C and C++ programs may leave to the runtime, each of which carries an i32.
const TAGS: &[&str] = &["__c_longjmp", "__cpp_exception"];

/// Functions of the runtime that stand for instructions, in the order of their imports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// `memory.copy` of many bytes, or out of bounds.
    Copy,
    /// `memory.fill` of many bytes, or out of bounds.
    Fill,
    /// `memory.init`: destination, source, length, segment.
    Init,
    /// `data.drop`: segment.
    Drop,
    /// `memory.grow`.
    Grow,
    /// `memory.atomic.notify`: address, count, offset.
    Notify,
    /// `memory.atomic.wait32`: address, expected, timeout, offset.
    Wait32,
    /// `memory.atomic.wait64`, the same.
    Wait64,
}

/// Name, parameters and results of an import.
type Signature = (Host, &'static str, &'static [ValType], &'static [ValType]);

const I32: ValType = ValType::I32;
const I64: ValType = ValType::I64;

const HOST: &[Signature] = &[
    (Host::Copy, "copy", &[I32, I32, I32], &[]),
    (Host::Fill, "fill", &[I32, I32, I32], &[]),
    (Host::Init, "init", &[I32, I32, I32, I32], &[]),
    (Host::Drop, "drop", &[I32], &[]),
    (Host::Grow, "grow", &[I32], &[I32]),
    (Host::Notify, "notify", &[I32, I32, I64], &[I32]),
    (Host::Wait32, "wait32", &[I32, I32, I64, I64], &[I32]),
    (Host::Wait64, "wait64", &[I32, I64, I64, I64], &[I32]),
];

impl Host {
    /// The name of its import.
    pub(crate) fn name(self) -> &'static str {
        HOST[self as usize].1
    }
}

/// A module of the known shape, and what was taken out of it.
#[derive(Debug)]
pub struct Normalised {
    /// For the engine.
    pub wasm: Vec<u8>,
    /// Bytes of its data segments, by their index.
    pub segments: Vec<Vec<u8>>,
}

/// What the largest module is that gets compiled. Compiling takes time and memory by the size of
/// the code, more than in proportion to that of a single function.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Bytes.
    pub bytes: usize,
    /// Functions.
    pub functions: u32,
    /// Bytes of one function.
    pub function_bytes: usize,
    /// Data segments.
    pub segments: u32,
    /// What compiling may take: of one function, and of all ([`effort::of`]).
    pub effort: [u64; 2],
}

impl Size {
    /// For programs that the user compiles: what the engine itself takes.
    pub const ANY: Size = Size {
        bytes: usize::MAX,
        functions: u32::MAX,
        function_bytes: usize::MAX,
        segments: u32::MAX,
        effort: [u64::MAX; 2],
    };

    /// For programs that a cage brings along.
    pub fn of_cage(limits: &Limits) -> Self {
        let most = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        Size {
            bytes: most(limits.max_module),
            functions: MAX_FUNCTIONS,
            function_bytes: most(limits.max_function),
            segments: MAX_SEGMENTS,
            effort: EFFORT,
        }
    }
}

/// Functions of a module that a cage brings along.
const MAX_FUNCTIONS: u32 = 200_000;

/// What compiling a module that a cage brings along may take, by [`effort::of`]: for one function
/// (a minute and a gigabyte at the very most), and for all.
const EFFORT: [u64; 2] = [1 << 24, 1 << 28];

/// Data segments of a module that a cage brings along: they become code.
const MAX_SEGMENTS: u32 = 10_000;

/// Most zeros that are put into the memory between two data segments to make them one. Linkers and
/// optimizers leave out short runs of zeros, which costs a call each.
const MAX_GAP: u64 = 256;

/// Rewrites a wasm module as described above.
///
/// # Errors
/// One line that says what is wrong: not a module, too large, or a shape that can't run as a cage.
pub fn normalise(wasm: &[u8], most: Size) -> anyhow::Result<Normalised> {
    ensure!(
        wasm.len() <= most.bytes,
        "it has more bytes than the {} that a module may have",
        most.bytes
    );
    let facts = Facts::read(wasm, most)?;
    validate(wasm)?;
    facts.effort(wasm, most.effort)?;
    let mut parts = Parts::new(facts);
    for payload in Parser::new(0).parse_all(wasm) {
        parts.take(payload?)?;
    }
    parts.finish()
}

fn validate(wasm: &[u8]) -> anyhow::Result<()> {
    let is_valid = |features| {
        let mut validator = wasmparser::Validator::new_with_features(features);
        validator.validate_all(wasm).map(drop)
    };
    is_valid(FEATURES).map_err(|error| {
        let with = |features: &WasmFeatures| is_valid(FEATURES.union(*features)).is_ok();
        match PROPOSALS.iter().find(|(features, _)| with(features)) {
            Some((_, name)) => anyhow::anyhow!(
                "it uses a WebAssembly proposal that programs can't use here: {name}"
            ),
            None => anyhow::anyhow!("it is not a valid module: {error}"),
        }
    })
}

/// What has to be known about a module before it can be rewritten.
#[derive(Default)]
struct Facts {
    /// Limits of its one memory in wasm pages.
    min_pages: u64,
    max_pages: u64,
    /// Functions that it imports, and has of its own.
    imported_functions: u32,
    functions: u32,
    types: u32,
    /// Indices of its own mutable globals.
    mutable_globals: Vec<u32>,
    /// Parameters and results of its types that are of functions.
    signatures: Vec<Option<wasmparser::FuncType>>,
    /// The types of all functions, the imported ones first, and of all tags.
    function_types: Vec<u32>,
    tag_types: Vec<u32>,
    /// Functions whose bodies were taken over.
    bodies: usize,
    /// Results of types that are added to its own.
    added_types: Vec<Vec<ValType>>,
}

impl Facts {
    fn read(wasm: &[u8], most: Size) -> anyhow::Result<Self> {
        let mut facts = Self::default();
        let mut memories: Vec<wasmparser::MemoryType> = Vec::new();
        let mut imported_globals = 0;
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::Version { encoding, .. } => ensure!(
                    encoding == Encoding::Module,
                    "it is a WebAssembly component; only core modules run as cages"
                ),
                Payload::TypeSection(reader) => {
                    for group in reader {
                        for ty in group?.into_types() {
                            facts.types += 1;
                            facts.signatures.push(match ty.composite_type.inner {
                                wasmparser::CompositeInnerType::Func(ty) => Some(ty),
                                _ => None,
                            });
                        }
                    }
                }
                Payload::ImportSection(reader) => {
                    for import in reader.into_imports() {
                        let import = import?;
                        ensure!(
                            !import.module.starts_with(RESERVED),
                            "its import {:?} has a reserved name",
                            import.module
                        );
                        match import.ty {
                            TypeRef::Memory(memory) => memories.push(memory),
                            TypeRef::Global(_) => imported_globals += 1,
                            TypeRef::Func(ty) => {
                                facts.imported_functions += 1;
                                facts.function_types.push(ty);
                            }
                            TypeRef::Tag(tag) => {
                                ensure!(
                                    import.module == "env" && TAGS.contains(&import.name),
                                    "it imports the tag {:?} of {:?}, which nobody has",
                                    import.name,
                                    import.module
                                );
                                facts.tag_types.push(tag.func_type_idx);
                            }
                            _ => {}
                        }
                    }
                }
                Payload::FunctionSection(reader) => {
                    facts.functions = reader.count();
                    let types = reader.clone().into_iter();
                    for ty in types {
                        facts.function_types.push(ty?);
                    }
                    ensure!(
                        facts.functions <= most.functions,
                        "it has {} functions, and a module may have {}",
                        facts.functions,
                        most.functions
                    );
                }
                Payload::CodeSectionEntry(body) => ensure!(
                    body.range().len() <= most.function_bytes,
                    "one of its functions has {} bytes, and a function may have {}",
                    body.range().len(),
                    most.function_bytes
                ),
                Payload::MemorySection(reader) => {
                    for memory in reader {
                        memories.push(memory?);
                    }
                }
                Payload::DataSection(reader) => ensure!(
                    reader.count() <= most.segments,
                    "it has more than {} data segments",
                    most.segments
                ),
                Payload::TagSection(reader) => {
                    for tag in reader {
                        facts.tag_types.push(tag?.func_type_idx);
                    }
                }
                Payload::GlobalSection(reader) => {
                    for (index, global) in reader.into_iter().enumerate() {
                        if global?.ty.mutable {
                            facts.mutable_globals.push(imported_globals + index as u32);
                        }
                    }
                }
                _ => {}
            }
        }
        let memory = match memories[..] {
            [memory] => memory,
            [] => bail!("it has no memory"),
            _ => bail!(
                "it has more than one memory (the proposal multi-memory, which programs can't use \
                 here)"
            ),
        };
        ensure!(
            !memory.memory64 && memory.page_size_log2.is_none(),
            "its memory is not a 32-bit one of ordinary pages (the proposals memory64 and custom \
             page sizes, which programs can't use here)"
        );
        let most = crate::regions::WASM_PAGES_MAX;
        ensure!(memory.initial <= most, "its memory is larger than 4 GiB");
        facts.min_pages = memory.initial;
        facts.max_pages = if memory.shared {
            most
        } else {
            memory.maximum.unwrap_or(most).min(most)
        };
        Ok(facts)
    }

    /// Index of an imported function of the runtime.
    fn host(&self, function: Host) -> u32 {
        self.imported_functions + function as u32
    }

    /// Index of the first function that is added behind the program's own.
    fn first_added(&self) -> u32 {
        self.imported_functions + HOST.len() as u32 + self.functions
    }
}

/// Functions that are added behind the program's own, in this order.
#[derive(Clone, Copy)]
enum Added {
    Copy,
    Fill,
    Start,
}

impl Reencode for Facts {
    type Error = Refused;

    /// The runtime's functions stand between those that the program imports and its own.
    fn function_index(&mut self, index: u32) -> Result<u32, Error<Refused>> {
        Ok(if index < self.imported_functions {
            index
        } else {
            index + HOST.len() as u32
        })
    }

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        body: wasmparser::FunctionBody<'_>,
    ) -> Result<(), Error<Refused>> {
        if let Some(plan) = Plan::of(&body)? {
            return self.translate(code, &body, plan);
        }
        self.bodies += 1;
        let mut function = self.new_function_with_parsed_locals(&body)?;
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let operator = operators.read()?;
            self.operator(&mut function, operator)?;
        }
        code.function(&function);
        Ok(())
    }
}

impl Facts {
    /// Looks at what compiling the functions of a valid module takes.
    fn effort(&self, wasm: &[u8], [of_one, of_all]: [u64; 2]) -> anyhow::Result<()> {
        if of_one == u64::MAX {
            return Ok(());
        }
        let module = effort::Module {
            types: &self.signatures,
            functions: &self.function_types,
        };
        let mut all = 0u64;
        for payload in Parser::new(0).parse_all(wasm) {
            let Payload::CodeSectionEntry(body) = payload? else {
                continue;
            };
            let one = effort::of(&body, &module)?;
            all = all.saturating_add(one);
            for (values, most, what) in [(one, of_one, "one of its functions"), (all, of_all, "it")]
            {
                ensure!(
                    values <= most,
                    "compiling {what} takes too much for its locals, branches, calls and handlers \
                     together ({values}, and {most} may be); `lind-wasm --precompile` has no such \
                     limit"
                );
            }
        }
        Ok(())
    }
}

impl Types for Facts {
    fn block_type(&mut self, ty: wasmparser::BlockType) -> Result<BlockType, Refused> {
        const PARAMETERS: Refused = Refused::new("a try of it takes parameters");
        if let wasmparser::BlockType::FuncType(index) = ty {
            let ty = self.signatures.get(index as usize).and_then(Option::as_ref);
            if ty.is_none_or(|ty| !ty.params().is_empty()) {
                return Err(PARAMETERS);
            }
        }
        Reencode::block_type(self, ty).map_err(|_| PARAMETERS)
    }

    fn caught(&mut self, tag: Option<u32>) -> Result<BlockType, Refused> {
        const UNKNOWN: Refused = Refused::new("a tag of it carries what is not known");
        let Some(tag) = tag else {
            return Ok(BlockType::Result(CAUGHT));
        };
        let ty = self.tag_types.get(tag as usize).copied();
        let ty = ty.and_then(|ty| self.signatures.get(ty as usize));
        let carried = ty.and_then(Option::as_ref).ok_or(UNKNOWN)?;
        let carried = carried.params().to_vec();
        let mut results = Vec::with_capacity(carried.len() + 1);
        for ty in carried {
            results.push(self.val_type(ty).map_err(|_| UNKNOWN)?);
        }
        results.push(CAUGHT);
        if let [result] = results[..] {
            return Ok(BlockType::Result(result));
        }
        let known = self.added_types.iter().position(|added| *added == results);
        let index = known.unwrap_or_else(|| {
            self.added_types.push(results);
            self.added_types.len() - 1
        });
        Ok(BlockType::FunctionType(self.types + index as u32))
    }
}

impl Facts {
    /// Takes a function over that has exceptions of the first form.
    fn translate(
        &mut self,
        code: &mut CodeSection,
        body: &wasmparser::FunctionBody<'_>,
        plan: Plan,
    ) -> Result<(), Error<Refused>> {
        let index = self.imported_functions as usize + self.bodies;
        let ty = self.function_types.get(index).copied().unwrap_or(0);
        self.bodies += 1;
        let ty = self.signatures.get(ty as usize).and_then(Option::as_ref);
        let mut count = ty.map_or(0, |ty| ty.params().len() as u32);
        let mut locals = Vec::new();
        for local in body.get_locals_reader()? {
            let (more, ty) = local?;
            count += more;
            locals.push((more, self.val_type(ty)?));
        }
        locals.push((plan.locals(), CAUGHT));
        let mut function = Function::new(locals);
        let mut translation = Translation::new(plan, count);
        if let Some(begin) = translation.begin() {
            function.instruction(&begin);
        }
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let operator = operators.read()?;
            let translated = translation.translated(&operator, self);
            match translated.map_err(Error::UserError)? {
                Some(instructions) => {
                    for instruction in instructions {
                        function.instruction(&instruction);
                    }
                }
                None => self.operator(&mut function, operator)?,
            }
        }
        code.function(&function);
        Ok(())
    }

    fn operator(
        &mut self,
        function: &mut Function,
        operator: Operator<'_>,
    ) -> Result<(), Error<Refused>> {
        match self.replacement(&operator) {
            Some((operand, callee)) => {
                if let Some(operand) = operand {
                    function.instruction(&operand);
                }
                function.instruction(&Instruction::Call(callee));
            }
            None => {
                function.instruction(&self.instruction(operator)?);
            }
        }
        Ok(())
    }

    /// What stands for an instruction that must not be left to the engine: an operand more, if it
    /// takes one, and the function that is called.
    fn replacement(&self, operator: &Operator<'_>) -> Option<(Option<Instruction<'static>>, u32)> {
        let segment = |index: u32| Some(Instruction::I32Const(index as i32));
        let offset =
            |memarg: &wasmparser::MemArg| Some(Instruction::I64Const(memarg.offset as i64));
        Some(match operator {
            Operator::MemoryCopy { .. } => (None, self.first_added() + Added::Copy as u32),
            Operator::MemoryFill { .. } => (None, self.first_added() + Added::Fill as u32),
            Operator::MemoryInit { data_index, .. } => {
                (segment(*data_index), self.host(Host::Init))
            }
            Operator::DataDrop { data_index } => (segment(*data_index), self.host(Host::Drop)),
            Operator::MemoryGrow { .. } => (None, self.host(Host::Grow)),
            Operator::MemoryAtomicNotify { memarg } => (offset(memarg), self.host(Host::Notify)),
            Operator::MemoryAtomicWait32 { memarg } => (offset(memarg), self.host(Host::Wait32)),
            Operator::MemoryAtomicWait64 { memarg } => (offset(memarg), self.host(Host::Wait64)),
            _ => return None,
        })
    }
}

/// The sections of the module that is made.
struct Parts {
    facts: Facts,
    types: TypeSection,
    imports: ImportSection,
    functions: FunctionSection,
    tables: TableSection,
    tags: TagSection,
    globals: GlobalSection,
    exports: ExportSection,
    elements: ElementSection,
    code: CodeSection,
    /// The program's start function, by its new index.
    start: Option<u32>,
    segments: Vec<Vec<u8>>,
    /// The program's name for itself.
    name: Option<String>,
    /// Puts active segments in their places.
    fill: Vec<Instruction<'static>>,
    /// Indices of active segments.
    active: Vec<u32>,
    /// Where the active segments so far end, if that is known of all.
    end: Option<u64>,
    /// The last active segment, where nothing lies behind it, and where in `fill` its length is.
    last: Option<(usize, usize)>,
}

impl Parts {
    fn new(facts: Facts) -> Self {
        Self {
            facts,
            types: TypeSection::new(),
            imports: ImportSection::new(),
            functions: FunctionSection::new(),
            tables: TableSection::new(),
            tags: TagSection::new(),
            globals: GlobalSection::new(),
            exports: ExportSection::new(),
            elements: ElementSection::new(),
            code: CodeSection::new(),
            start: None,
            segments: Vec::new(),
            name: None,
            fill: Vec::new(),
            active: Vec::new(),
            end: Some(0),
            last: None,
        }
    }

    /// Takes over a section. Of custom ones nothing is read but the module's name.
    fn take(&mut self, payload: Payload<'_>) -> anyhow::Result<()> {
        let facts = &mut self.facts;
        match payload {
            Payload::TypeSection(reader) => facts.parse_type_section(&mut self.types, reader)?,
            Payload::ImportSection(reader) => {
                for import in reader.into_imports() {
                    let import = import?;
                    match import.ty {
                        TypeRef::Memory(_) => {}
                        // It becomes the program's own, of the same number: imported ones come
                        // first.
                        TypeRef::Tag(tag) => {
                            self.tags.tag(facts.tag_type(tag)?);
                        }
                        ty => {
                            let ty = facts.entity_type(ty)?;
                            self.imports.import(import.module, import.name, ty);
                        }
                    }
                }
            }
            Payload::FunctionSection(reader) => {
                facts.parse_function_section(&mut self.functions, reader)?;
            }
            Payload::TableSection(reader) => facts.parse_table_section(&mut self.tables, reader)?,
            Payload::TagSection(reader) => facts.parse_tag_section(&mut self.tags, reader)?,
            Payload::GlobalSection(reader) => {
                facts.parse_global_section(&mut self.globals, reader)?;
            }
            Payload::ExportSection(reader) => {
                for export in reader {
                    let export = export?;
                    ensure!(
                        !export.name.starts_with(RESERVED),
                        "its export {:?} has a reserved name",
                        export.name
                    );
                    facts.parse_export(&mut self.exports, export)?;
                }
            }
            Payload::StartSection { func, .. } => self.start = Some(facts.function_index(func)?),
            Payload::ElementSection(reader) => {
                facts.parse_element_section(&mut self.elements, reader)?;
            }
            Payload::CodeSectionEntry(body) => facts.parse_function_body(&mut self.code, body)?,
            Payload::DataSection(reader) => {
                for segment in reader {
                    self.segment(segment?)?;
                }
            }
            Payload::CustomSection(section) => {
                if let KnownCustom::Name(names) = section.as_known() {
                    self.name = names.into_iter().find_map(|name| match name {
                        Ok(Name::Module { name, .. }) => Some(name.to_owned()),
                        _ => None,
                    });
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn segment(&mut self, segment: wasmparser::Data<'_>) -> anyhow::Result<()> {
        let index = self.segments.len();
        let DataKind::Active { offset_expr, .. } = segment.kind else {
            self.segments.push(segment.data.to_vec());
            return Ok(());
        };
        let place_at = self.fill.len();
        let mut operators = offset_expr.get_operators_reader();
        while !operators.is_end_then_eof() {
            self.fill.push(match operators.read()? {
                Operator::I32Const { value } => Instruction::I32Const(value),
                Operator::I32Add => Instruction::I32Add,
                Operator::I32Sub => Instruction::I32Sub,
                Operator::I32Mul => Instruction::I32Mul,
                Operator::GlobalGet { global_index } => Instruction::GlobalGet(global_index),
                _ => bail!("the place of a data segment is no constant"),
            });
        }
        let place = match self.fill[place_at..] {
            [Instruction::I32Const(place)] => Some(u64::from(place as u32)),
            _ => None,
        };
        if self.joins_last(place, segment.data) {
            self.fill.truncate(place_at);
            // As one that was dropped.
            self.segments.push(Vec::new());
            return Ok(());
        }
        let end = place.map(|place| place + segment.data.len() as u64);
        self.end = self.end.zip(end).map(|(before, end)| before.max(end));
        let is_behind_all = self.end.is_some() && self.end == end;
        self.last = is_behind_all.then_some((index, self.fill.len() + 1));
        self.fill.extend([
            Instruction::I32Const(0),
            Instruction::I32Const(segment.data.len() as i32),
            Instruction::I32Const(index as i32),
            Instruction::Call(self.facts.host(Host::Init)),
        ]);
        self.active.push(index as u32);
        self.segments.push(segment.data.to_vec());
        Ok(())
    }

    /// Makes an active segment a part of the one before it, if it lies not far behind that, where
    /// none before has put anything.
    fn joins_last(&mut self, place: Option<u64>, data: &[u8]) -> bool {
        let (Some((last, len_at)), Some(end), Some(place)) = (self.last, self.end, place) else {
            return false;
        };
        let Some(gap) = place.checked_sub(end).filter(|&gap| gap <= MAX_GAP) else {
            return false;
        };
        let bytes = &mut self.segments[last];
        bytes.resize(bytes.len() + gap as usize, 0);
        bytes.extend_from_slice(data);
        self.fill[len_at] = Instruction::I32Const(bytes.len() as i32);
        self.end = Some(place + data.len() as u64);
        true
    }

    fn finish(mut self) -> anyhow::Result<Normalised> {
        let facts = &self.facts;
        for results in &facts.added_types {
            self.types.ty().function([], results.iter().copied());
        }
        let mut next_type = facts.types + facts.added_types.len() as u32;
        for (_, name, params, results) in HOST {
            self.types
                .ty()
                .function(params.iter().copied(), results.iter().copied());
            self.imports
                .import(HOST_MODULE, name, EntityType::Function(next_type));
            next_type += 1;
        }
        // There is one memory, hence its index is 0 wherever the import stands.
        self.imports.import(
            MEMORY_MODULE,
            MEMORY_FIELD,
            EntityType::Memory(MemoryType {
                minimum: facts.min_pages,
                maximum: Some(facts.max_pages.max(facts.min_pages)),
                memory64: false,
                shared: true,
                page_size_log2: None,
            }),
        );
        for index in &facts.mutable_globals {
            let name = format!("{GLOBAL_PREFIX}{index}");
            self.exports.export(&name, ExportKind::Global, *index);
        }
        self.exports.export(
            START,
            ExportKind::Func,
            facts.first_added() + Added::Start as u32,
        );
        let start = start_function(facts, &self.fill, &self.active, self.start);
        // In the order of `Added`.
        for (params, body) in [
            (3, bulk::copy(facts.host(Host::Copy))),
            (3, bulk::fill(facts.host(Host::Fill))),
            (1, start),
        ] {
            self.types.ty().function([I32].repeat(params), []);
            self.functions.function(next_type);
            self.code.function(&body);
            next_type += 1;
        }
        let mut module = Module::new();
        module
            .section(&self.types)
            .section(&self.imports)
            .section(&self.functions)
            .section(&self.tables);
        if !self.tags.is_empty() {
            module.section(&self.tags);
        }
        module
            .section(&self.globals)
            .section(&self.exports)
            .section(&self.elements)
            .section(&self.code);
        if let Some(name) = &self.name {
            let mut names = NameSection::new();
            names.module(name);
            module.section(&names);
        }
        Ok(Normalised {
            wasm: module.finish(),
            segments: self.segments,
        })
    }
}

/// See [`START`]. An active segment counts as dropped once it is in its place.
fn start_function(
    facts: &Facts,
    fill: &[Instruction<'_>],
    active: &[u32],
    start: Option<u32>,
) -> Function {
    let mut function = Function::new([]);
    function
        .instruction(&Instruction::LocalGet(0))
        .instruction(&Instruction::If(wasm_encoder::BlockType::Empty));
    for instruction in fill {
        function.instruction(instruction);
    }
    function.instruction(&Instruction::End);
    for index in active {
        function
            .instruction(&Instruction::I32Const(*index as i32))
            .instruction(&Instruction::Call(facts.host(Host::Drop)));
    }
    if let Some(start) = start {
        function.instruction(&Instruction::Call(start));
    }
    function.instruction(&Instruction::End);
    function
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalised(text: &str) -> anyhow::Result<wasmtime::Module> {
        let bytes = normalise(&wat::parse_str(text)?, Size::ANY)?.wasm;
        Ok(wasmtime::Module::new(&crate::engine::new()?, bytes)?)
    }

    /// Modules of a few kilobytes that take minutes or gigabytes to compile.
    #[test]
    fn what_takes_too_much_to_compile_is_refused_from_cages() {
        let many = 900;
        let wide = "i32 ".repeat(many);
        let values = "local.get 0 ".repeat(many);
        let drops = "drop ".repeat(many);
        let nested = |begin: &str, inside: &str, end: &str| {
            format!("{}{inside} {}", begin.repeat(many), end.repeat(many))
        };
        let one = |index: usize| format!("local.get {index} drop ");
        let uses: String = (0..5000).map(one).collect();
        let bodies = [
            format!(
                "(local {wide}) {} {} {}",
                "loop ".repeat(many),
                (0..many).map(one).collect::<String>(),
                "local.get 0 br_if 0 end ".repeat(many)
            ),
            nested("block try_table (catch_all 0) ", "call $none", "end end "),
            nested("try ", "call $none", "delegate 0 "),
            nested("try ", "call $none", "catch_all end "),
            format!("{values} {} {drops}", "call $wide ".repeat(2000)),
            format!("{values} {} {drops}", "loop (type $wide) end ".repeat(2000)),
            format!(
                "(local {}) {uses} {} {uses}",
                "i32 ".repeat(5000),
                "loop local.get 0 br_if 0 end ".repeat(5000)
            ),
        ];
        let limits = Size::of_cage(&Limits::default());
        for body in bodies {
            let text = format!(
                "(module (memory 1) (type $wide (func (param {wide}) (result {wide})))
                   (func $none) (func $wide (type $wide) unreachable)
                   (func (export \"_start\") i32.const 1 call $f)
                   (func $f (param i32) {body}))"
            );
            let bytes = wat::parse_str(&text).unwrap();
            normalise(&bytes, Size::ANY).unwrap();
            let error = normalise(&bytes, limits).unwrap_err().to_string();
            assert!(error.contains("takes too much"), "{error}: {body:.80}");
        }
        // As deep as people write.
        let usual = nested_usually(20, 200);
        normalise(&wat::parse_str(&usual).unwrap(), limits).unwrap();
    }

    /// Loops in each other, `depth` of them, again and again.
    fn nested_usually(depth: usize, times: usize) -> String {
        let nest = "loop ".repeat(depth) + &"local.get 0 br_if 0 end ".repeat(depth);
        format!(
            "(module (memory 1) (func (export \"_start\") i32.const 1 call $f)
               (func $f (param i32) {}))",
            nest.repeat(times)
        )
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
    fn segments_that_lie_close_behind_each_other_become_one() {
        for (text, joined) in [
            // Behind the last one, with zeros between, and far behind it.
            (
                r#"(data (i32.const 8) "ab") (data (i32.const 10) "cd") (data (i32.const 14) "ef")
                   (data (i32.const 999) "gh")"#,
                &["abcd\0\0ef", "", "", "gh"][..],
            ),
            // Over one before, and a gap where one before may have put something.
            (
                r#"(data (i32.const 20) "k") (data (i32.const 8) "ab") (data (i32.const 30) "cd")
                   (data (i32.const 9) "x") (data (i32.const 33) "y")"#,
                &["k", "ab", "cd", "x", "y"],
            ),
            // A place that is not known.
            (
                r#"(import "a" "b" (global $g i32)) (data (global.get $g) "k")
                   (data (i32.const 8) "ab") (data (i32.const 10) "cd")"#,
                &["k", "ab", "cd"],
            ),
            // What is passive stays what it is.
            (
                r#"(data (i32.const 8) "ab") (data "p") (data (i32.const 10) "cd")"#,
                &["abcd", "p", ""],
            ),
        ] {
            let bytes = wat::parse_str(format!("(module {text} (memory 1))")).unwrap();
            let segments = normalise(&bytes, Size::ANY).unwrap().segments;
            let joined: Vec<_> = joined.iter().map(|text| text.as_bytes().to_vec()).collect();
            assert_eq!(segments, joined, "{text}");
        }
        let many = "(data (i32.const 8) \"a\")".repeat(MAX_SEGMENTS as usize + 1);
        let bytes = wat::parse_str(format!("(module (memory 1) {many})")).unwrap();
        assert!(normalise(&bytes, Size::ANY).is_ok());
        let error = normalise(&bytes, Size::of_cage(&Limits::default())).unwrap_err();
        assert!(error.to_string().contains("data segments"), "{error}");
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
            (
                r#"(module (import "lind:host" "copy" (func)) (memory 1))"#,
                "reserved",
            ),
            ("(component)", "component"),
        ] {
            let error = normalise(&wat::parse_str(text).unwrap(), Size::ANY).unwrap_err();
            assert!(error.to_string().contains(reason), "{text}: {error}");
        }
        assert!(normalise(b"\0asm", Size::ANY).is_err());
        assert!(normalise(b"", Size::ANY).is_err());
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
            if let Ok(normalised) = normalise(&bytes, Size::ANY) {
                // What comes out is for the engine to judge, which must not panic either.
                let _ = wasmparser::validate(&normalised.wasm);
            }
        }
    }
}
