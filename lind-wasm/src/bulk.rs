//! `memory.copy` and `memory.fill` as functions in wasm, for [`crate::module`] to add to modules.
//!
//! Their loads and stores are the program's own, so a page that is not mapped, or is unmapped
//! meanwhile, is a trap like any other. Up to [`MOST`] bytes they are also faster than a call out
//! of wasm. What is longer, or lies out of bounds, goes to a function of the runtime with the
//! same parameters, which copies under the lock that mapping changes need.

use wasm_encoder::Instruction as I;
use wasm_encoder::{BlockType, Function, MemArg, ValType};

/// Bytes up to which the copying is done in wasm.
pub const MOST: i32 = 2048;

/// Bytes of a vector, and of those that one turn of a loop moves.
const VECTOR: i32 = 16;
const TURN: i32 = 8 * VECTOR;

/// A load or a store.
type Access = fn(MemArg) -> I<'static>;

fn at(offset: i32) -> MemArg {
    MemArg {
        offset: offset as u64,
        align: 0,
        memory_index: 0,
    }
}

fn all(function: &mut Function, instructions: &[I<'_>]) {
    for instruction in instructions {
        function.instruction(instruction);
    }
}

/// Parameters of both functions, in locals: destination, source or byte, length.
const TO: u32 = 0;
const FROM: u32 = 1;
const LEN: u32 = 2;
/// First local beyond the parameters.
const FIRST: u32 = 3;

/// Leaves the enclosing block when the bytes at the address in local `address` are out of bounds.
fn leave_if_outside(function: &mut Function, address: u32) {
    all(
        function,
        &[
            I::LocalGet(address),
            I::I64ExtendI32U,
            I::LocalGet(LEN),
            I::I64ExtendI32U,
            I::I64Add,
            I::MemorySize(0),
            I::I64ExtendI32U,
            I::I64Const(16),
            I::I64Shl,
            I::I64GtU,
            I::BrIf(0),
        ],
    );
}

/// Adds a turn's bytes to an address.
fn advance(function: &mut Function, address: u32) {
    all(
        function,
        &[
            I::LocalGet(address),
            I::I32Const(TURN),
            I::I32Add,
            I::LocalSet(address),
        ],
    );
}

/// The address `by` bytes before the end of what `address` and the length say.
fn before_end(function: &mut Function, address: u32, by: i32) {
    all(
        function,
        &[
            I::LocalGet(address),
            I::LocalGet(LEN),
            I::I32Add,
            I::I32Const(by),
            I::I32Sub,
        ],
    );
}

/// Repeats `body`, which moves a turn's bytes, as long as there are so many.
fn while_turn(function: &mut Function, body: impl Fn(&mut Function)) {
    all(
        function,
        &[
            I::Block(BlockType::Empty),
            I::Loop(BlockType::Empty),
            I::LocalGet(LEN),
            I::I32Const(TURN),
            I::I32LtU,
            I::BrIf(1),
        ],
    );
    body(function);
    all(
        function,
        &[
            I::LocalGet(LEN),
            I::I32Const(TURN),
            I::I32Sub,
            I::LocalSet(LEN),
            I::Br(0),
            I::End,
            I::End,
        ],
    );
}

/// Runs `body` and returns, when there are at least `least` bytes.
fn if_at_least(function: &mut Function, least: i32, body: impl Fn(&mut Function)) {
    all(
        function,
        &[
            I::LocalGet(LEN),
            I::I32Const(least),
            I::I32GeU,
            I::If(BlockType::Empty),
        ],
    );
    body(function);
    all(function, &[I::Return, I::End]);
}

/// The frame of both: `body` in wasm for what is short and in bounds, else the function `host`.
fn with_fallback(function: &mut Function, host: u32, sides: &[u32], body: impl Fn(&mut Function)) {
    all(
        function,
        &[
            I::Block(BlockType::Empty),
            I::LocalGet(LEN),
            I::I32Const(MOST),
            I::I32GtU,
            I::BrIf(0),
        ],
    );
    for &side in sides {
        leave_if_outside(function, side);
    }
    body(function);
    all(
        function,
        &[
            I::Return,
            I::End,
            I::LocalGet(TO),
            I::LocalGet(FROM),
            I::LocalGet(LEN),
            I::Call(host),
            I::End,
        ],
    );
}

/// The start of what `address` and the length say, or so many bytes before its end.
fn place(function: &mut Function, address: u32, before: Option<i32>) {
    match before {
        Some(by) => before_end(function, address, by),
        None => {
            function.instruction(&I::LocalGet(address));
        }
    }
}

/// `memory.copy`; the ranges may overlap. `host` is the index of what copies the rest.
pub fn copy(host: u32) -> Function {
    let vector = |index: i32| FIRST + index as u32;
    let wide = FIRST + (TURN / VECTOR) as u32;
    let mut function = Function::new([((TURN / VECTOR) as u32, ValType::V128), (1, ValType::I64)]);
    // All is loaded before anything is stored: the ranges may overlap.
    let load = |function: &mut Function, first: i32, count: i32, before: Option<i32>| {
        for index in 0..count {
            place(function, FROM, before);
            all(
                function,
                &[
                    I::V128Load(at(index * VECTOR)),
                    I::LocalSet(vector(first + index)),
                ],
            );
        }
    };
    let store = |function: &mut Function, first: i32, count: i32, before: Option<i32>| {
        for index in 0..count {
            place(function, TO, before);
            all(
                function,
                &[
                    I::LocalGet(vector(first + index)),
                    I::V128Store(at(index * VECTOR)),
                ],
            );
        }
    };
    const ALL: i32 = TURN / VECTOR;
    with_fallback(&mut function, host, &[TO, FROM], |function| {
        all(
            function,
            &[
                I::LocalGet(LEN),
                I::I32Const(TURN),
                I::I32GeU,
                I::If(BlockType::Empty),
                // The source is overwritten before it is read only where the destination begins
                // in it: then from the end to the start.
                I::LocalGet(TO),
                I::LocalGet(FROM),
                I::I32Sub,
                I::LocalGet(LEN),
                I::I32GeU,
                I::If(BlockType::Empty),
            ],
        );
        while_turn(function, |function| {
            load(function, 0, ALL, None);
            store(function, 0, ALL, None);
            advance(function, FROM);
            advance(function, TO);
        });
        function.instruction(&I::Else);
        while_turn(function, |function| {
            load(function, 0, ALL, Some(TURN));
            store(function, 0, ALL, Some(TURN));
        });
        all(function, &[I::End, I::End]);
        // Less than a turn: the first and the last vectors or words, which may share bytes.
        for count in [4, 2, 1] {
            let bytes = count * VECTOR;
            if_at_least(function, bytes, |function| {
                load(function, 0, count, None);
                load(function, count, count, Some(bytes));
                store(function, 0, count, None);
                store(function, count, count, Some(bytes));
            });
        }
        let words: [(i32, Access, Access); 4] = [
            (8, I::I64Load, I::I64Store),
            (4, I::I64Load32U, I::I64Store32),
            (2, I::I64Load16U, I::I64Store16),
            (1, I::I64Load8U, I::I64Store8),
        ];
        for (size, load, store) in words {
            if_at_least(function, size, |function| {
                all(
                    function,
                    &[I::LocalGet(FROM), load(at(0)), I::LocalSet(wide)],
                );
                before_end(function, TO, size);
                before_end(function, FROM, size);
                all(
                    function,
                    &[
                        load(at(0)),
                        store(at(0)),
                        I::LocalGet(TO),
                        I::LocalGet(wide),
                        store(at(0)),
                    ],
                );
            });
        }
    });
    function
}

/// `memory.fill`. `host` is the index of what fills the rest.
pub fn fill(host: u32) -> Function {
    const BYTE: u32 = FROM;
    const BYTES: u32 = FIRST;
    let mut function = Function::new([(1, ValType::V128)]);
    let store = |function: &mut Function, count: i32, before: Option<i32>| {
        for index in 0..count {
            place(function, TO, before);
            all(
                function,
                &[I::LocalGet(BYTES), I::V128Store(at(index * VECTOR))],
            );
        }
    };
    with_fallback(&mut function, host, &[TO], |function| {
        all(
            function,
            &[I::LocalGet(BYTE), I::I8x16Splat, I::LocalSet(BYTES)],
        );
        while_turn(function, |function| {
            store(function, TURN / VECTOR, None);
            advance(function, TO);
        });
        for count in [4, 2, 1] {
            let bytes = count * VECTOR;
            if_at_least(function, bytes, |function| {
                store(function, count, None);
                store(function, count, Some(bytes));
            });
        }
        let words: [(i32, Access); 4] = [
            (8, I::I64Store),
            (4, I::I64Store32),
            (2, I::I64Store16),
            (1, I::I64Store8),
        ];
        for (size, store) in words {
            if_at_least(function, size, |function| {
                let lane = [I::LocalGet(BYTES), I::I64x2ExtractLane(0), store(at(0))];
                function.instruction(&I::LocalGet(TO));
                all(function, &lane);
                before_end(function, TO, size);
                all(function, &lane);
            });
        }
    });
    function
}
