//! What cages are called, and how they end.

use std::fmt;

/// A cage's number, which is its pid. Starts at 1, never used twice in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CageId(u32);

impl CageId {
    /// The cage of that number.
    pub(crate) fn new(number: u32) -> Self {
        Self(number)
    }

    /// The first cage, which the command line starts.
    pub const FIRST: CageId = CageId(1);
    /// The largest number that still is a positive pid.
    const MAX: u32 = i32::MAX as u32;

    /// The id that a guest named, if it can be one.
    pub fn from_guest(value: u64) -> Option<Self> {
        (1..=u64::from(Self::MAX))
            .contains(&value)
            .then_some(CageId(value as u32))
    }

    /// As a pid.
    pub fn pid(self) -> i32 {
        self.0 as i32
    }

    /// As guests write it in an argcage.
    pub fn raw(self) -> u64 {
        u64::from(self.0)
    }
}

impl fmt::Display for CageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a cage ended, as `waitpid` encodes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitStatus(pub i32);

impl WaitStatus {
    /// A trap, as Lind reports it: like an exit with status 1.
    pub const TRAPPED: WaitStatus = WaitStatus(0x100);

    /// A call of `exit_group`.
    pub fn exited(code: i32) -> Self {
        WaitStatus((code & 0xff) << 8)
    }

    /// Death by a signal.
    pub fn killed(signal: i32) -> Self {
        WaitStatus(signal & 0x7f)
    }

    /// What a shell would show: the exit code, or 128 and the signal.
    pub fn shell_code(self) -> i32 {
        match self.0 & 0x7f {
            0 => (self.0 >> 8) & 0xff,
            signal => 128 + signal,
        }
    }
}
