//! The calls that are traced, each with a handler of its own: a handler is not told the number.

use crate::trace;
use calls::Entry;
use grate_rs::{Call, SyscallHandler};

macro_rules! handlers {
    ($($nr:literal $name:ident($($kind:expr),*) -> $result:ident, $served:ident;)*) => {
        const HANDLERS: &[(u32, SyscallHandler)] = &[$(($nr, {
            grate_rs::handler!(handler, $nr, trace);
            handler
        })),*];
    };
}

calls::table!(handlers);

/// A call that is traced.
#[derive(Clone, Copy)]
pub struct Traced {
    /// What it is.
    pub entry: &'static Entry,
    /// What serves it.
    pub handler: SyscallHandler,
}

/// What is traced: every call that reaches the kernel. The 3i calls, by which grates work, and the
/// help that our runtime gives them with their ciphers are left alone.
pub fn traced() -> impl Iterator<Item = Traced> {
    let reach_the_kernel = |nr: u32| nr < calls::REGISTER_HANDLER || nr == calls::LLSEEK;
    let handlers = HANDLERS.iter().filter(move |(nr, _)| reach_the_kernel(*nr));
    handlers.filter_map(|&(nr, handler)| {
        let entry = calls::entry(nr)?;
        Some(Traced { entry, handler })
    })
}

/// The cage that made a call: that of an argument by value, or of one that the call does not have.
/// (An address may have been replaced by a grate in between.)
pub fn caller(entry: &Entry, call: &Call) -> u64 {
    let by_value =
        (0..6).find(|&index| !entry.args.get(index).is_some_and(|kind| kind.is_address()));
    call.cage_of(by_value.unwrap_or(0))
}
