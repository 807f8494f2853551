//! The calls that are traced, each with a handler of its own: a handler is not told the number.

use crate::trace;
use calls::Entry;
use grate_rs::SyscallHandler;

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
