//! Turns the first form of WebAssembly exceptions (`try`, `catch`, `rethrow`, `delegate`), which
//! compilers still make by default, into the one of the standard, which the engine knows
//! (`try_table`, `throw_ref`).
//!
//! A `try` with handlers becomes
//!
//! ```text
//! block $outer                         the label of the try
//!   block $last (result .. exnref)     one for each handler
//!     block $first (result .. exnref)
//!       try_table (catch_ref $tag $first) .. (catch_all_ref $last)
//!         the body
//!       end
//!       br $outer
//!     end
//!     local.set $caught                for rethrow
//!     the first handler
//!     br $outer
//!   end
//!   local.set $caught
//!   the last handler
//! end
//! ```
//!
//! and a `delegate` a `try_table` that leads everything to a block just inside of the `try_table`
//! that it names, or of the function, from where it is thrown again.

use wasm_encoder::{BlockType, Catch, Instruction, RefType, ValType};
use wasmparser::Operator;

/// Why a function can't be translated.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(&'static str);

impl Refused {
    /// For that reason.
    pub const fn new(why: &'static str) -> Self {
        Self(why)
    }
}

/// What is caught, as it is kept for throwing it again.
pub const CAUGHT: ValType = ValType::Ref(RefType::EXNREF);

/// A `try`, in the order in which they begin.
#[derive(Debug, Default)]
struct Try {
    /// The tags of its handlers in order; `None` for `catch_all`.
    handlers: Vec<Option<u32>>,
    /// The `try` that it delegates to, if it does; none for the caller.
    delegates: Option<Option<usize>>,
    /// Others delegate to it.
    is_target: bool,
    /// Its frame, while it is open.
    frame: usize,
}

/// What has to be known of a function before it can be translated.
#[derive(Debug, Default)]
pub struct Plan {
    tries: Vec<Try>,
    /// Most `try`s in each other.
    depth: u32,
    /// The function's caller is delegated to.
    is_target: bool,
}

impl Plan {
    /// Looks through a function that is valid; `None` where there is nothing to translate.
    ///
    /// # Errors
    /// What can't be read.
    pub fn of(body: &wasmparser::FunctionBody<'_>) -> wasmparser::Result<Option<Self>> {
        /// A block, and if it is a `try` its number and whether its body is running.
        type Open = Option<(usize, bool)>;
        let mut plan = Self::default();
        let mut open: Vec<Open> = vec![None];
        // Of the open blocks those that are a `try`.
        let mut depth = 0;
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            match operators.read()? {
                Operator::Block { .. }
                | Operator::Loop { .. }
                | Operator::If { .. }
                | Operator::TryTable { .. } => open.push(None),
                Operator::Try { .. } => {
                    open.push(Some((plan.tries.len(), true)));
                    plan.tries.push(Try::default());
                    depth += 1;
                    plan.depth = plan.depth.max(depth);
                }
                Operator::Catch { tag_index } => plan.handler(&mut open, Some(tag_index)),
                Operator::CatchAll => plan.handler(&mut open, None),
                Operator::Delegate { relative_depth } => {
                    let own = open.pop().flatten();
                    depth -= u32::from(own.is_some());
                    let outside = open.len().saturating_sub(relative_depth as usize);
                    let bodies = open[..outside].iter().rev().flatten();
                    let target = bodies
                        .filter(|(_, runs)| *runs)
                        .map(|(index, _)| *index)
                        .next();
                    let slot = match target {
                        Some(index) => &mut plan.tries[index].is_target,
                        None => &mut plan.is_target,
                    };
                    *slot = true;
                    if let Some((own, _)) = own {
                        plan.tries[own].delegates = Some(target);
                    }
                }
                Operator::End => depth -= u32::from(open.pop().flatten().is_some()),
                _ => {}
            }
        }
        Ok((!plan.tries.is_empty()).then_some(plan))
    }

    fn handler(&mut self, open: &mut [Option<(usize, bool)>], tag: Option<u32>) {
        if let Some(Some((index, runs))) = open.last_mut() {
            *runs = false;
            self.tries[*index].handlers.push(tag);
        }
    }

    /// Locals that the translation adds, of type [`CAUGHT`].
    pub fn locals(&self) -> u32 {
        self.depth
    }
}

/// A block of the function as it was, while it is open.
#[derive(Clone, Copy, Debug)]
struct Frame {
    /// Labels that stand for it now, the outermost of which is its own.
    labels: u32,
    /// The `try` that it is, and how many of its handlers have begun.
    attempt: Option<(usize, usize)>,
    /// Labels of the frames around it, and how many of those are a `try`. Kept, or programs could
    /// make translating take by the square of their depth.
    outside: u32,
    tries_outside: u32,
}

impl Frame {
    /// Its own labels and all around it.
    fn reach(&self) -> u32 {
        self.outside + self.labels
    }
}

/// Types of blocks: those of handlers are made here.
pub trait Types {
    /// As it was.
    fn block_type(&mut self, ty: wasmparser::BlockType) -> Result<BlockType, Refused>;
    /// One that takes nothing, and leaves what a tag carries (nothing, for none) and what was
    /// caught.
    fn caught(&mut self, tag: Option<u32>) -> Result<BlockType, Refused>;
}

/// Translates a function, operator by operator.
#[derive(Debug)]
pub struct Translation {
    plan: Plan,
    frames: Vec<Frame>,
    next_try: usize,
    first_local: u32,
}

impl Translation {
    /// Of a function whose added locals begin there.
    pub fn new(plan: Plan, first_local: u32) -> Self {
        let labels = 1 + u32::from(plan.is_target);
        Self {
            plan,
            frames: vec![Frame {
                labels,
                attempt: None,
                outside: 0,
                tries_outside: 0,
            }],
            next_try: 0,
            first_local,
        }
    }

    /// What the function begins with.
    pub fn begin(&self) -> Option<Instruction<'static>> {
        self.plan
            .is_target
            .then_some(Instruction::Block(BlockType::Result(CAUGHT)))
    }

    /// What stands for an operator, if it is about labels or exceptions.
    ///
    /// # Errors
    /// For what can't be translated.
    pub fn translated(
        &mut self,
        operator: &Operator<'_>,
        types: &mut impl Types,
    ) -> Result<Option<Vec<Instruction<'static>>>, Refused> {
        Ok(Some(match *operator {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => {
                self.push(1, None);
                return Ok(None);
            }
            Operator::TryTable { .. } => {
                return Err(Refused("it has exceptions of both forms in one function"));
            }
            Operator::Br { relative_depth } => vec![Instruction::Br(self.label(relative_depth))],
            Operator::BrIf { relative_depth } => {
                vec![Instruction::BrIf(self.label(relative_depth))]
            }
            Operator::BrTable { ref targets } => {
                let labels: Result<Vec<u32>, _> = targets
                    .targets()
                    .map(|target| target.map(|depth| self.label(depth)))
                    .collect();
                let labels = labels.map_err(|_| Refused("a table of labels can't be read"))?;
                let default = self.label(targets.default());
                vec![Instruction::BrTable(labels.into(), default)]
            }
            Operator::Try { blockty } => self.attempt(types, blockty)?,
            Operator::Catch { .. } | Operator::CatchAll => {
                let mut code = self.end_part();
                if let Some(Frame {
                    labels,
                    attempt: Some((_, begun)),
                    ..
                }) = self.frames.last_mut()
                {
                    *labels -= 1;
                    *begun += 1;
                }
                code.push(Instruction::LocalSet(self.local(0)));
                code
            }
            Operator::Rethrow { relative_depth } => vec![
                Instruction::LocalGet(self.local(relative_depth as usize)),
                Instruction::ThrowRef,
            ],
            Operator::Delegate { .. } | Operator::End => self.end(),
            _ => return Ok(None),
        }))
    }

    fn push(&mut self, labels: u32, attempt: Option<(usize, usize)>) {
        let (outside, tries_outside) = self.frames.last().map_or((0, 0), |frame| {
            let is_try = u32::from(frame.attempt.is_some());
            (frame.reach(), frame.tries_outside + is_try)
        });
        if let Some((index, _)) = attempt {
            self.plan.tries[index].frame = self.frames.len();
        }
        self.frames.push(Frame {
            labels,
            attempt,
            outside,
            tries_outside,
        });
    }

    /// All labels that there are now.
    fn reach(&self) -> u32 {
        self.frames.last().map_or(0, Frame::reach)
    }

    /// The frame so deep; the outermost one for what is deeper.
    fn frame(&self, depth: usize) -> Option<&Frame> {
        let outermost = self.frames.len().saturating_sub(1);
        self.frames.iter().rev().nth(depth.min(outermost))
    }

    /// A label that was so deep.
    fn label(&self, depth: u32) -> u32 {
        let outside = self.frame(depth as usize).map_or(0, |frame| frame.outside);
        self.reach() - outside - 1
    }

    /// Where what the `try` so deep has caught is kept.
    fn local(&self, depth: usize) -> u32 {
        let tries = self.frame(depth).map_or(0, |frame| frame.tries_outside);
        self.first_local + tries
    }

    fn attempt(
        &mut self,
        types: &mut impl Types,
        ty: wasmparser::BlockType,
    ) -> Result<Vec<Instruction<'static>>, Refused> {
        let index = self.next_try;
        self.next_try += 1;
        let ty = types.block_type(ty)?;
        let this = &self.plan.tries[index];
        let mut code = Vec::new();
        let mut labels = 1;
        match this.delegates {
            Some(target) => {
                let label = self.landing(target);
                let catch = Catch::AllRef { label };
                code.push(Instruction::TryTable(ty, vec![catch].into()));
            }
            None => {
                code.push(Instruction::Block(ty));
                let handlers = this.handlers.iter().rev();
                for tag in handlers {
                    code.push(Instruction::Block(types.caught(*tag)?));
                    labels += 1;
                }
                let catches = this.handlers.iter().zip(0..).map(|(tag, label)| match tag {
                    Some(tag) => Catch::OneRef { tag: *tag, label },
                    None => Catch::AllRef { label },
                });
                if !this.handlers.is_empty() {
                    let catches: Vec<Catch> = catches.collect();
                    code.push(Instruction::TryTable(ty, catches.into()));
                    labels += 1;
                }
            }
        }
        if this.is_target {
            code.push(Instruction::Block(BlockType::Result(CAUGHT)));
            labels += 1;
        }
        self.push(labels, Some((index, 0)));
        Ok(code)
    }

    /// The label of the block that throws on inside of a `try`, or of the function.
    fn landing(&self, target: Option<usize>) -> u32 {
        // The function's own is the first frame.
        let at = target.map_or(0, |target| self.plan.tries[target].frame);
        // It is the innermost label of its frame.
        self.reach() - self.frames.get(at).map_or(0, Frame::reach)
    }

    /// The end of a body that others delegate to: what it leaves goes out of the whole.
    fn end_landing(out: Instruction<'static>) -> [Instruction<'static>; 3] {
        [out, Instruction::End, Instruction::ThrowRef]
    }

    /// Ends the body of the innermost `try`, or one of its handlers, for the next one.
    fn end_part(&mut self) -> Vec<Instruction<'static>> {
        let mut code = Vec::new();
        let Some(frame) = self.frames.last_mut() else {
            return code;
        };
        let Some((index, begun)) = frame.attempt else {
            return code;
        };
        if begun == 0 {
            if self.plan.tries[index].is_target {
                code.extend(Self::end_landing(Instruction::Br(frame.labels - 1)));
                frame.labels -= 1;
            }
            code.push(Instruction::End);
            frame.labels -= 1;
        }
        code.extend([Instruction::Br(frame.labels - 1), Instruction::End]);
        code
    }

    /// The end of a block, of a `try` with all its handlers, or of the function.
    fn end(&mut self) -> Vec<Instruction<'static>> {
        let mut code = Vec::new();
        let Some(frame) = self.frames.pop() else {
            return code;
        };
        let is_landing = match frame.attempt {
            Some((index, begun)) => begun == 0 && self.plan.tries[index].is_target,
            None => self.frames.is_empty() && self.plan.is_target,
        };
        if is_landing {
            let out = match frame.attempt {
                Some(_) => Instruction::Br(frame.labels - 1),
                None => Instruction::Return,
            };
            code.extend(Self::end_landing(out));
        }
        code.push(Instruction::End);
        code
    }
}

#[cfg(test)]
mod tests {
    use crate::module::{MEMORY_FIELD, MEMORY_MODULE, Size, normalise};
    use wasmtime::{Linker, MemoryType, Module, SharedMemory, Store};

    /// What the function `run` of a module answers for each number; `None` where it throws or
    /// traps.
    fn answers<const N: usize>(body: &str, numbers: [i32; N]) -> [Option<i32>; N] {
        let text = format!(
            r#"(module (memory 1 1)
                 (tag $a (param i32)) (tag $b) (tag $c (param i32 i64))
                 (func $throw (param i32)
                   (if (i32.eq (local.get 0) (i32.const 1)) (then (throw $a (i32.const 10))))
                   (if (i32.eq (local.get 0) (i32.const 2)) (then (throw $b)))
                   (if (i32.eq (local.get 0) (i32.const 3))
                     (then (throw $c (i32.const 30) (i64.const 3))))
                   (if (i32.eq (local.get 0) (i32.const 4)) (then unreachable)))
                 {body})"#
        );
        let engine = crate::engine::new().unwrap();
        let wasm = normalise(&wat::parse_str(text).unwrap(), Size::ANY).unwrap();
        let module = Module::new(&engine, wasm.wasm).unwrap();
        numbers.map(|number| {
            let mut store = Store::new(&engine, ());
            store.set_epoch_deadline(1000);
            let mut linker = Linker::new(&engine);
            let memory = SharedMemory::new(&engine, MemoryType::shared(1, 1)).unwrap();
            linker
                .define(&store, MEMORY_MODULE, MEMORY_FIELD, memory)
                .unwrap();
            linker.define_unknown_imports_as_traps(&module).unwrap();
            let instance = linker.instantiate(&mut store, &module).unwrap();
            let run = instance.get_typed_func::<i32, i32>(&mut store, "run");
            run.unwrap().call(&mut store, number).ok()
        })
    }

    #[test]
    fn handlers_take_what_is_theirs() {
        let body = r#"(func (export "run") (param i32) (result i32)
            try (result i32)
              (call $throw (local.get 0)) (i32.const 7)
            catch $a
              (i32.const 1) i32.add
            catch $c
              drop (i32.const 2) i32.add
            catch_all
              (i32.const 99)
            end)"#;
        let expected = [Some(7), Some(11), Some(99), Some(32), None];
        assert_eq!(answers(body, [0, 1, 2, 3, 4]), expected);
    }

    #[test]
    fn what_no_handler_takes_goes_on() {
        let body = r#"(func $inner (param i32) (result i32)
            try (result i32)
              (call $throw (local.get 0)) (i32.const 7)
            catch $a
            end)
          (func (export "run") (param i32) (result i32)
            try (result i32)
              try (result i32) (call $inner (local.get 0)) end
            catch $b
              (i32.const 20)
            end)"#;
        let expected = [Some(7), Some(10), Some(20), None];
        assert_eq!(answers(body, [0, 1, 2, 3]), expected);
    }

    #[test]
    fn what_was_caught_is_thrown_again() {
        // From the inner handler what it has itself, and what the outer one has.
        let body = r#"(func (export "run") (param i32) (result i32)
            try (result i32)
              try (result i32)
                (call $throw (i32.const 1)) (i32.const 0)
              catch $a
                drop
                try (result i32)
                  (call $throw (i32.const 2)) (i32.const 0)
                catch_all
                  (local.get 0)
                  if rethrow 1 end
                  rethrow 1
                end
              end
            catch $a
              (i32.const 500) i32.add
            catch $b
              (i32.const 600)
            end)"#;
        assert_eq!(answers(body, [0, 1]), [Some(510), Some(600)]);
    }

    #[test]
    fn labels_lead_where_they_led() {
        let body = r#"(func (export "run") (param i32) (result i32)
            (local $count i32)
            block (result i32)
              loop
                try
                  block
                    (local.get 0)
                    br_table 0 1 1
                  end
                  (call $throw (i32.const 2))
                catch $b
                  (local.set $count (i32.add (local.get $count) (i32.const 1)))
                  (i32.lt_u (local.get $count) (i32.const 5))
                  br_if 1
                  (i32.add (local.get $count) (i32.const 100))
                  br 2
                end
              end
              (i32.const 42)
            end)"#;
        assert_eq!(answers(body, [0, 1, 9]), [Some(105), Some(42), Some(42)]);
    }

    #[test]
    fn what_is_delegated_passes_by_the_handlers_between() {
        let body = r#"(func $to_the_caller (param i32)
            try
              try (call $throw (local.get 0)) delegate 1
            catch_all
            end)
          (func (export "run") (param i32) (result i32)
            try (result i32)
              (i32.ge_u (local.get 0) (i32.const 10))
              if
                (call $to_the_caller (i32.sub (local.get 0) (i32.const 10)))
              end
              try (result i32)
                block (result i32)
                  try (result i32)
                    (call $throw (local.get 0)) (i32.const 7)
                  delegate 2
                end
              catch_all
                (i32.const 1)
              end
            catch $a
              (i32.const 200) i32.add
            catch_all
              (i32.const 300)
            end)"#;
        let expected = [Some(7), Some(210), Some(300), Some(210), Some(300), Some(7)];
        assert_eq!(answers(body, [0, 1, 2, 11, 12, 10]), expected);
    }

    #[test]
    fn the_form_of_the_standard_stays() {
        let body = r#"(func (export "run") (param i32) (result i32)
            (block $caught (result i32)
              (try_table (result i32) (catch $a $caught)
                (call $throw (local.get 0)) (i32.const 7))))"#;
        assert_eq!(answers(body, [0, 1, 2]), [Some(7), Some(10), None]);
    }

    #[test]
    fn what_cannot_be_translated_is_named() {
        let refused = |text: &str| {
            let wasm = wat::parse_str(text).unwrap();
            normalise(&wasm, Size::ANY).unwrap_err().to_string()
        };
        let why = refused(
            "(module (memory 1) (func (result i32) (i32.const 1)
               try (param i32) (result i32) catch_all (i32.const 2) end))",
        );
        assert!(why.contains("parameters"), "{why}");
        let why = refused(
            "(module (memory 1) (func try catch_all end
               (block (try_table (catch_all 0)))))",
        );
        assert!(why.contains("both forms"), "{why}");
        let why = refused(r#"(module (import "x" "y" (tag)) (memory 1))"#);
        assert!(why.contains("tag"), "{why}");
    }
}
