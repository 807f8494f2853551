//! A call as a guest makes it.

pub use calls::UNUSED;

/// An argument and the cage that it belongs to, as guests pass them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arg {
    /// The argument.
    pub value: u64,
    /// The cage whose address, descriptor or the like it is.
    pub cage: u64,
}

/// One call as a guest made it; nothing in it is checked yet.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// System call number.
    pub nr: u32,
    /// The cage that the guest says it is.
    pub own: u64,
    /// The cage whose process state is meant.
    pub target: u64,
    /// Arguments.
    pub args: [Arg; 6],
}
