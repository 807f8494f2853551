//! What compiling a function takes where its size does not show it.
//!
//! The compiler may have a value for each local on each edge of the control flow, carries the
//! parameters of a block over each edge to it, writes down for each call the handlers around it,
//! and looks at loops and handlers again for each that stands around them. All are products of
//! numbers that can be as large as the function is long, so that ten kilobytes can take minutes and
//! gigabytes: neither is bounded by the size of the module.
//!
//! The unit is about what one local on one edge takes: on the order of half a microsecond and 40
//! bytes. What the others are in it was measured with functions of 300 to 3000 of each.

use std::collections::HashSet;
use wasmparser::{BlockType, FuncType, FunctionBody, Operator, Result};

/// A value that is a parameter or result of a block, on one edge to it.
const CARRIED: u64 = 32;
/// A parameter or result of a call.
const PASSED: u64 = 16;
/// A handler around a call.
const HANDLER: u64 = 64;
/// A handler, for each pair of those around it.
const NESTED: u64 = 16;
/// A loop or a block with handlers, for each of those around it and each local.
const WITHIN: u64 = 8;

/// What is known of the module that the function is of.
pub struct Module<'a> {
    /// Parameters and results of its types that are of functions.
    pub types: &'a [Option<FuncType>],
    /// The types of all its functions, the imported ones first.
    pub functions: &'a [u32],
}

impl Module<'_> {
    /// Parameters and results of a type.
    fn arity(&self, ty: u32) -> u64 {
        let ty = self.types.get(ty as usize).and_then(Option::as_ref);
        ty.map_or(0, |ty| (ty.params().len() + ty.results().len()) as u64)
    }

    /// Parameters and results of a block.
    fn block(&self, ty: BlockType) -> u64 {
        match ty {
            BlockType::Empty => 0,
            BlockType::Type(_) => 1,
            BlockType::FuncType(ty) => self.arity(ty),
        }
    }
}

/// A block that is open.
#[derive(Clone, Copy, Default)]
struct Open {
    /// What an edge to it carries.
    arity: u64,
    /// Handlers that it puts around what is inside.
    handlers: u64,
    /// It is a loop, or has handlers.
    is_deep: bool,
}

#[derive(Default)]
struct Walk {
    open: Vec<Open>,
    /// Handlers around the instruction that is looked at.
    around: u64,
    /// Loops and blocks with handlers around it.
    depth: u64,
    /// Of all such, how many are around each.
    within: u64,
    /// Edges of the control flow.
    edges: u64,
    /// All but the locals on them.
    rest: u64,
}

impl Walk {
    fn begins(&mut self, open: Open) {
        self.open.push(open);
        self.around += open.handlers;
        if open.is_deep {
            self.within += self.depth;
            self.depth += 1;
        }
        if open.handlers > 0 {
            self.rest += NESTED * self.around * self.around;
        }
        self.edge(open.arity);
    }

    fn ends(&mut self) {
        let ended = self.open.pop().unwrap_or_default();
        self.around -= ended.handlers;
        self.depth -= u64::from(ended.is_deep);
        self.edge(ended.arity);
    }

    /// The body of the innermost `try` is over, or the handler before this one.
    fn handler(&mut self) {
        if let Some(open) = self.open.last_mut() {
            self.around -= std::mem::take(&mut open.handlers);
        }
        self.edge(0);
    }

    fn edge(&mut self, arity: u64) {
        self.edges += 1;
        self.rest += CARRIED * arity;
    }

    fn branch(&mut self, relative_depth: u32) {
        let target = self.open.iter().rev().nth(relative_depth as usize);
        self.edge(target.map_or(0, |open| open.arity));
    }

    fn call(&mut self, arity: u64) {
        self.rest += PASSED * arity + HANDLER * self.around;
    }
}

/// What compiling a function may take, in the units above.
///
/// # Errors
/// What can't be read.
pub fn of(body: &FunctionBody<'_>, module: &Module<'_>) -> Result<u64> {
    let mut walk = Walk::default();
    let mut locals = HashSet::new();
    let mut operators = body.get_operators_reader()?;
    while !operators.eof() {
        match operators.read()? {
            Operator::Block { blockty } | Operator::If { blockty } => walk.begins(Open {
                arity: module.block(blockty),
                ..Open::default()
            }),
            Operator::Loop { blockty } => walk.begins(Open {
                arity: module.block(blockty),
                is_deep: true,
                ..Open::default()
            }),
            // Its handlers are told after its body; one stands for them.
            Operator::Try { blockty } => walk.begins(Open {
                arity: module.block(blockty),
                handlers: 1,
                is_deep: true,
            }),
            Operator::TryTable { try_table } => walk.begins(Open {
                arity: module.block(try_table.ty),
                handlers: try_table.catches.len() as u64,
                is_deep: true,
            }),
            Operator::Else => walk.edge(0),
            Operator::Catch { .. } | Operator::CatchAll => walk.handler(),
            Operator::End | Operator::Delegate { .. } => walk.ends(),
            Operator::Br { relative_depth }
            | Operator::BrIf { relative_depth }
            | Operator::BrOnNull { relative_depth }
            | Operator::BrOnNonNull { relative_depth } => walk.branch(relative_depth),
            Operator::BrTable { targets } => {
                for target in targets.targets() {
                    walk.branch(target?);
                }
                walk.branch(targets.default());
            }
            Operator::Call { function_index } | Operator::ReturnCall { function_index } => {
                let ty = module.functions.get(function_index as usize);
                walk.call(ty.map_or(0, |ty| module.arity(*ty)));
            }
            Operator::CallIndirect { type_index, .. }
            | Operator::ReturnCallIndirect { type_index, .. }
            | Operator::CallRef { type_index }
            | Operator::ReturnCallRef { type_index } => walk.call(module.arity(type_index)),
            Operator::Throw { .. } | Operator::ThrowRef | Operator::Rethrow { .. } => walk.call(0),
            Operator::LocalGet { local_index }
            | Operator::LocalSet { local_index }
            | Operator::LocalTee { local_index } => {
                locals.insert(local_index);
            }
            _ => {}
        }
    }
    Ok(walk.rest + (walk.edges + WITHIN * walk.within) * locals.len() as u64)
}
