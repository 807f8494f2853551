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

/// Bytes of a vector, and of the vectors that one turn of a loop moves.
const VECTOR: i32 = 16;
const TURN: i32 = 4 * VECTOR;

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

/// Subtracts from the length.
fn shorten(function: &mut Function, by: i32) {
    all(
        function,
        &[
            I::LocalGet(LEN),
            I::I32Const(by),
            I::I32Sub,
            I::LocalSet(LEN),
        ],
    );
}

/// Adds to an address.
fn advance(function: &mut Function, address: u32, by: i32) {
    all(
        function,
        &[
            I::LocalGet(address),
            I::I32Const(by),
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

/// Repeats `body` as long as the length compares so with `than`.
fn while_len(function: &mut Function, than: i32, leave: &I<'_>, body: impl Fn(&mut Function)) {
    all(
        function,
        &[
            I::Block(BlockType::Empty),
            I::Loop(BlockType::Empty),
            I::LocalGet(LEN),
            I::I32Const(than),
        ],
    );
    function.instruction(leave).instruction(&I::BrIf(1));
    body(function);
    all(function, &[I::Br(0), I::End, I::End]);
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

/// `memory.copy`; the ranges may overlap. `host` is the index of what copies the rest.
pub fn copy(host: u32) -> Function {
    const END: u32 = FIRST;
    const EDGE: u32 = FIRST + 1;
    let vector = |index: i32| FIRST + 2 + index as u32;
    let wide = FIRST + 6;
    let mut function = Function::new([(1, ValType::I32), (5, ValType::V128), (1, ValType::I64)]);
    // All vectors of a turn are loaded before one is stored: the ranges may overlap.
    let turn =
        |function: &mut Function, from: &dyn Fn(&mut Function), to: &dyn Fn(&mut Function)| {
            for index in 0..TURN / VECTOR {
                from(function);
                all(
                    function,
                    &[I::V128Load(at(index * VECTOR)), I::LocalSet(vector(index))],
                );
            }
            for index in 0..TURN / VECTOR {
                to(function);
                all(
                    function,
                    &[I::LocalGet(vector(index)), I::V128Store(at(index * VECTOR))],
                );
            }
        };
    let start_of = |address: u32| {
        move |function: &mut Function| {
            function.instruction(&I::LocalGet(address));
        }
    };
    let forwards = |function: &mut Function| {
        before_end(function, FROM, VECTOR);
        all(function, &[I::V128Load(at(0)), I::LocalSet(EDGE)]);
        before_end(function, TO, VECTOR);
        function.instruction(&I::LocalSet(END));
        while_len(function, TURN, &I::I32LtU, |function| {
            turn(function, &start_of(FROM), &start_of(TO));
            advance(function, FROM, TURN);
            advance(function, TO, TURN);
            shorten(function, TURN);
        });
        while_len(function, VECTOR, &I::I32LeU, |function| {
            all(
                function,
                &[
                    I::LocalGet(TO),
                    I::LocalGet(FROM),
                    I::V128Load(at(0)),
                    I::V128Store(at(0)),
                ],
            );
            advance(function, FROM, VECTOR);
            advance(function, TO, VECTOR);
            shorten(function, VECTOR);
        });
        // The last vector, which may cover some that is done.
        all(
            function,
            &[
                I::LocalGet(END),
                I::LocalGet(EDGE),
                I::V128Store(at(0)),
                I::Return,
            ],
        );
    };
    let backwards = |function: &mut Function| {
        all(
            function,
            &[I::LocalGet(FROM), I::V128Load(at(0)), I::LocalSet(EDGE)],
        );
        while_len(function, TURN, &I::I32LtU, |function| {
            let end_of =
                |address: u32| move |function: &mut Function| before_end(function, address, TURN);
            turn(function, &end_of(FROM), &end_of(TO));
            shorten(function, TURN);
        });
        while_len(function, VECTOR, &I::I32LeU, |function| {
            before_end(function, TO, VECTOR);
            before_end(function, FROM, VECTOR);
            all(function, &[I::V128Load(at(0)), I::V128Store(at(0))]);
            shorten(function, VECTOR);
        });
        all(
            function,
            &[I::LocalGet(TO), I::LocalGet(EDGE), I::V128Store(at(0))],
        );
    };
    with_fallback(&mut function, host, &[TO, FROM], |function| {
        if_at_least(function, VECTOR, |function| {
            // The source is overwritten before it is read only where the destination lies in it.
            all(
                function,
                &[
                    I::LocalGet(TO),
                    I::LocalGet(FROM),
                    I::I32Sub,
                    I::LocalGet(LEN),
                    I::I32GeU,
                    I::If(BlockType::Empty),
                ],
            );
            forwards(function);
            function.instruction(&I::End);
            backwards(function);
        });
        // Less than a vector: the first and the last word, which may cover the same bytes.
        let words: [(i32, fn(MemArg) -> I<'static>, fn(MemArg) -> I<'static>); 4] = [
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
    const END: u32 = FIRST;
    const BYTES: u32 = FIRST + 1;
    let mut function = Function::new([(1, ValType::I32), (1, ValType::V128)]);
    with_fallback(&mut function, host, &[TO], |function| {
        all(
            function,
            &[I::LocalGet(BYTE), I::I8x16Splat, I::LocalSet(BYTES)],
        );
        if_at_least(function, VECTOR, |function| {
            before_end(function, TO, VECTOR);
            function.instruction(&I::LocalSet(END));
            while_len(function, TURN, &I::I32LtU, |function| {
                for index in 0..TURN / VECTOR {
                    all(
                        function,
                        &[
                            I::LocalGet(TO),
                            I::LocalGet(BYTES),
                            I::V128Store(at(index * VECTOR)),
                        ],
                    );
                }
                advance(function, TO, TURN);
                shorten(function, TURN);
            });
            while_len(function, VECTOR, &I::I32LeU, |function| {
                all(
                    function,
                    &[I::LocalGet(TO), I::LocalGet(BYTES), I::V128Store(at(0))],
                );
                advance(function, TO, VECTOR);
                shorten(function, VECTOR);
            });
            all(
                function,
                &[I::LocalGet(END), I::LocalGet(BYTES), I::V128Store(at(0))],
            );
        });
        let words: [(i32, fn(MemArg) -> I<'static>); 4] = [
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
