//! What a grate can learn of those that stand outside it.
//!
//! A grate that seals what programs write must not stand inside one that changes what is written: that
//! one would see ciphertext, and damage it. So it asks, by a call that any kernel
//! answers with EBADF: fcntl of no descriptor, with a command that there is not. Grates between
//! the two pass it on, and one that changes data answers it: by
//! [`GrateBuilder::changes_data`](crate::GrateBuilder::changes_data), or in its own handler of fcntl. A
//! program that asks learns no more than that.

use crate::constants::SYS_FCNTL;
use crate::kernel::{self, int};
use crate::{CageFd, Call, Errno, SyscallHandler, getcageid, handler};

/// The descriptor that is asked about.
const NO_FD: i32 = -1;
/// The command that asks whether what is written is changed further out.
const ASKS_FOR_CHANGES: i32 = 0x5ea1;
/// The answer of a grate that changes it.
pub const CHANGES: i32 = 0x5ea1;

/// Whether a grate further out changes what is written through it.
pub fn is_changed_further_out() -> bool {
    let cage = getcageid();
    let question = [int(cage, NO_FD), int(cage, ASKS_FOR_CHANGES), int(cage, 0)];
    kernel::call(SYS_FCNTL, cage, &question) == Ok(CHANGES)
}

/// Whether a call of fcntl is that question.
pub fn asks_for_changes(call: &Call) -> bool {
    (CageFd::of(call, 0).fd, call.int(1)) == (NO_FD, ASKS_FOR_CHANGES)
}

/// fcntl, of a grate that has nothing else to do with it.
fn fcntl(call: &Call) -> Result<i32, Errno> {
    if asks_for_changes(call) {
        return Ok(CHANGES);
    }
    call.forward(call.caller())
}

handler!(handler_that_answers, SYS_FCNTL, fcntl);

/// Answers that question, and passes all else of fcntl on.
pub(crate) const ANSWER: SyscallHandler = handler_that_answers;
