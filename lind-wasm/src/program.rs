//! Loaded programs: compiled modules with what the runtime has to know of them.

use crate::artifact::{ArtifactKey, Code, Opened, Rest};
use crate::module::Size;
use crate::regions::WASM_PAGES_MAX;
use crate::{line, module};
use anyhow::{Context, bail, ensure};
use rustix::io::Errno;
use std::io::{Read, Seek};
use std::ops::Range;
use wasmtime::{Engine, ExternType, ImportType, Module, Mutability, ValType};

/// The export through which handlers are called.
pub(crate) const ENTRY: &str = "pass_fptr_to_wt";

/// Which host interface a program was built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Makes Lind system calls; can fork and can be a grate.
    Lind,
    /// A WASI command, of preview 1 or the one before it.
    Wasi,
}

/// What names of imported modules begin with, and what they are of, where that can be told from it.
const NOT_SERVED: &[(&str, &str)] = &[
    ("wasi:", "WASI preview 2 (the component model)"),
    ("wasi_ephemeral_", "a WASI proposal beside preview 1"),
    ("wasix_", "WASIX"),
];

/// A compiled program, ready to be instantiated in cages.
#[derive(Debug)]
pub struct Program {
    /// The engine's module, normalised (see [`crate::module`]).
    pub module: Module,
    /// Its host interface.
    pub kind: Kind,
    /// Its data segments.
    pub data: Data,
    /// Limits of its memory in wasm pages.
    pub min_pages: u64,
    /// Most wasm pages it may grow to.
    pub max_pages: u64,
}

/// Data segments.
#[derive(Debug)]
pub struct Data {
    bytes: Rest,
    /// Where each one lies in `bytes`.
    places: Vec<Range<usize>>,
}

impl Data {
    /// Those of an artifact.
    fn read(bytes: Rest) -> Option<Self> {
        let mut places = Vec::new();
        let mut rest = &*bytes;
        for _ in 0..number(&mut rest)? {
            let len = number(&mut rest)?;
            let start = bytes.len() - rest.len();
            rest.split_off(..len)?;
            places.push(start..start + len);
        }
        rest.is_empty().then_some(Self { bytes, places })
    }

    /// Those of a module that was just rewritten.
    fn of(segments: &[Vec<u8>]) -> Self {
        let mut end = 0;
        let place = |segment: &Vec<u8>| {
            end += segment.len();
            end - segment.len()..end
        };
        Self {
            places: segments.iter().map(place).collect(),
            bytes: Rest::Copied(segments.concat()),
        }
    }

    /// The bytes of the segment with that index.
    pub fn get(&self, index: u32) -> Option<&[u8]> {
        self.bytes.get(self.places.get(index as usize)?.clone())
    }

    /// Has them take no memory until they are looked at again.
    pub fn let_go(&self) {
        if let Rest::Mapped(bytes) = &self.bytes {
            bytes.let_go();
        }
    }

    /// Bytes that they take in memory, beside the code's.
    fn size(&self) -> usize {
        match &self.bytes {
            Rest::Mapped(_) => 0,
            Rest::Copied(bytes) => bytes.len(),
        }
    }
}

/// Takes a number of four bytes off them.
fn number(bytes: &mut &[u8]) -> Option<usize> {
    let number = bytes.split_off(..4)?;
    Some(u32::from_le_bytes(*number.first_chunk()?) as usize)
}

impl Program {
    /// Loads a `.cwasm`, once its tag is checked.
    ///
    /// # Errors
    /// One line that says why these bytes can't run; nothing in it names the file.
    pub fn open(
        engine: &Engine,
        key: &ArtifactKey,
        mut artifact: impl Read + Seek,
        strict: bool,
    ) -> anyhow::Result<Self> {
        let opened = key.open(&mut artifact)?;
        let kept = opened.kept.clone();
        let (module, data) = match (load(engine, opened), kept) {
            // Its file may be what a broken disk or a mount made of it.
            (Err(_), Some(kept)) => load(engine, key.open_anew(artifact, &kept)?),
            (loaded, _) => loaded,
        }?;
        Self::inspect(module, data, strict)
    }

    /// Compiles a `.wasm`.
    ///
    /// # Errors
    /// As [`Program::open`].
    pub fn compile(engine: &Engine, wasm: &[u8], strict: bool, most: Size) -> anyhow::Result<Self> {
        let (module, segments) = compile(engine, wasm, most)?;
        Self::inspect(module, Data::of(&segments), strict)
    }

    /// Bytes of code and data that it takes in memory.
    pub fn size(&self) -> u64 {
        let code = self.module.image_range();
        (code.end as usize - code.start as usize + self.data.size()) as u64
    }

    fn inspect(module: Module, data: Data, strict: bool) -> anyhow::Result<Self> {
        let memory = module
            .imports()
            .find_map(|import| match import.ty() {
                ExternType::Memory(ty) if import.module() == module::MEMORY_MODULE => Some(ty),
                _ => None,
            })
            .context("it has no memory")?;
        for import in module.imports() {
            let is_of = |prefix: &str| import.module().starts_with(prefix);
            if let Some((_, what)) = NOT_SERVED.iter().find(|(prefix, _)| is_of(prefix)) {
                bail!("it needs {what}, which programs can't use here");
            }
        }
        let imports = |wanted: &str| module.imports().any(|import| import.module() == wanted);
        let kind = if imports("lind") {
            Kind::Lind
        } else {
            Kind::Wasi
        };
        let program = Self {
            kind,
            min_pages: memory.minimum(),
            max_pages: memory.maximum().unwrap_or(WASM_PAGES_MAX),
            module,
            data,
        };
        match program.module.get_export("_start") {
            Some(ExternType::Func(ty)) if ty.params().len() == 0 => {}
            Some(_) => bail!("its `_start` is not a function without parameters"),
            None => bail!("it has no `_start`: build it as a command, not as a library"),
        }
        let spawns =
            |import: ImportType<'_>| (import.module(), import.name()) == ("wasi", "thread-spawn");
        ensure!(
            !program.module.imports().any(spawns)
                || program.has_func("wasi_thread_start", &[const { ValType::I32 }; 2], &[]),
            "it makes threads (the proposal wasi-threads), but has no `wasi_thread_start`"
        );
        if strict {
            program.check_strict()?;
        }
        Ok(program)
    }

    /// Whether it can be a grate.
    pub fn can_serve(&self) -> bool {
        self.kind == Kind::Lind
            && self.has_func(ENTRY, &[const { ValType::I64 }; 14], &[ValType::I32])
    }

    /// Whether it exports a function of exactly that type.
    pub fn has_func(&self, name: &str, params: &[ValType], results: &[ValType]) -> bool {
        match self.module.get_export(name) {
            Some(ExternType::Func(ty)) => same(ty.params(), params) && same(ty.results(), results),
            _ => false,
        }
    }

    /// Whether it exports an `i32` global, and one that can change if it must.
    pub fn has_global(&self, name: &str, must_change: bool) -> bool {
        matches!(self.module.get_export(name), Some(ExternType::Global(ty))
            if ValType::eq(ty.content(), &ValType::I32)
                && (!must_change || ty.mutability() == Mutability::Var))
    }

    /// What the public Lind runtime insists on.
    fn check_strict(&self) -> anyhow::Result<()> {
        ensure!(
            self.kind == Kind::Lind,
            "strict Lind mode runs Lind programs only, and this one is built for WASI"
        );
        let global = |name: &str, want: ValType| match self.module.get_export(name) {
            Some(ExternType::Global(ty)) => ValType::eq(ty.content(), &want),
            _ => false,
        };
        ensure!(
            global("epoch", ValType::I64),
            "it lacks the exported i64 global `epoch` that Lind needs"
        );
        for name in ["__stack_pointer", "__stack_low"] {
            ensure!(
                global(name, ValType::I32),
                "it lacks the exported i32 global `{name}` that Lind needs"
            );
        }
        ensure!(
            self.has_func("_start", &[], &[ValType::I32]),
            "its `_start` is not of type () -> i32, which Lind needs"
        );
        ensure!(
            self.module.get_export(ENTRY).is_none() || self.can_serve(),
            "its `{ENTRY}` is not of type (14 x i64) -> i32, which Lind needs"
        );
        for name in [
            "asyncify_start_unwind",
            "asyncify_stop_unwind",
            "asyncify_start_rewind",
            "asyncify_stop_rewind",
        ] {
            ensure!(
                self.module.get_export(name).is_some(),
                "it lacks `{name}`: run wasm-opt --asyncify on it, as Lind needs"
            );
        }
        Ok(())
    }
}

/// Whether these are the same types; the engine's know no `==`.
fn same(have: impl ExactSizeIterator<Item = ValType>, want: &[ValType]) -> bool {
    have.len() == want.len() && have.zip(want).all(|(have, want)| ValType::eq(&have, want))
}

/// Whether these bytes start like a WebAssembly binary.
fn is_wasm(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\0asm")
}

/// What an artifact holds, for the engine.
fn load(engine: &Engine, opened: Opened) -> anyhow::Result<(Module, Data)> {
    const OTHER: &str = "it was made by another build of lind-wasm or on another machine; \
                         precompile it again";
    let data = Data::read(opened.rest).context(OTHER)?;
    // SAFETY: the tag says that these very bytes came out of `precompile` run by this user,
    // that is, out of the engine's own serialisation; and where they are a file it is sealed,
    // or kept where programs can't reach it, so that they stay as they are while they are
    // mapped. What follows them in a file is not looked at.
    let module = unsafe {
        match opened.code {
            Code::File(file) => Module::deserialize_open_file(engine, file),
            Code::Copied(bytes) => Module::deserialize(engine, bytes),
        }
    }
    .map_err(|_| anyhow::anyhow!(OTHER))?;
    Ok((module, data))
}

fn compile(engine: &Engine, wasm: &[u8], most: Size) -> anyhow::Result<(Module, Vec<Vec<u8>>)> {
    ensure!(is_wasm(wasm), "it is not a WebAssembly module");
    let compiled = || {
        let normalised = module::normalise(wasm, most)?;
        Ok((Module::new(engine, normalised.wasm)?, normalised.segments))
    };
    // What is wrong with a module is told with names that it brings.
    compiled().map_err(|why: anyhow::Error| anyhow::anyhow!(line::plain(&format!("{why:#}"))))
}

/// Why a program could not be loaded.
#[derive(Debug)]
pub enum LoadError {
    /// The file can't be read.
    File(Errno),
    /// The file is no program that can run.
    Program(anyhow::Error),
    /// Too many programs are being loaded.
    Busy,
}

impl LoadError {
    /// As exec answers it.
    pub fn errno(&self) -> Errno {
        match self {
            LoadError::File(errno) => *errno,
            LoadError::Program(_) => Errno::NOEXEC,
            LoadError::Busy => Errno::AGAIN,
        }
    }

    /// In a line for a person.
    pub fn describe(&self, name: &str) -> anyhow::Error {
        match self {
            LoadError::File(Errno::NOENT) => anyhow::anyhow!(
                "{name}: no such program (a name without a slash is looked up in the current \
                 directory, /grates and /bin of the root; under --strict-lind a full path is \
                 needed)"
            ),
            LoadError::File(errno) => anyhow::anyhow!("{name}: {errno}"),
            LoadError::Program(why) => anyhow::anyhow!("{name}: {why}"),
            LoadError::Busy => anyhow::anyhow!("{name}: too many programs are being loaded"),
        }
    }
}

/// Compiles a `.wasm` to the bytes of a `.cwasm`.
///
/// # Errors
/// When it is not a module that can run as a cage.
pub fn precompile(engine: &Engine, key: &ArtifactKey, wasm: &[u8]) -> anyhow::Result<Vec<u8>> {
    let (module, segments) = compile(engine, wasm, Size::ANY)?;
    let mut rest = (segments.len() as u32).to_le_bytes().to_vec();
    for segment in segments {
        rest.extend_from_slice(&(segment.len() as u32).to_le_bytes());
        rest.extend_from_slice(&segment);
    }
    Ok(key.seal(&module.serialize()?, &rest))
}
