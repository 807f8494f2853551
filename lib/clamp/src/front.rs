//! The calls of the program, which come here first.

use crate::registrations::Place;
use crate::{lives, marks, state};
use calls::{Entry, Outcome};
use grate_rs::constants::{
    SYS_CLONE, SYS_CLOSE, SYS_DUP, SYS_DUP2, SYS_DUP3, SYS_EXECVE, SYS_EXIT, SYS_EXIT_GROUP,
    SYS_FCNTL, SYS_WAITPID, error,
};
use grate_rs::{CageFd, Call, Errno, getcageid, order};

grate_rs::handlers_of_all!(HANDLERS: serve);

/// Calls that the clamp serves whoever else does: by them cages and descriptors come and go, and
/// what the program registers is no affair of the grates inside.
pub const ALWAYS: &[u32] = &[
    SYS_CLOSE as u32,
    SYS_DUP as u32,
    SYS_DUP2 as u32,
    SYS_DUP3 as u32,
    SYS_FCNTL as u32,
    SYS_CLONE as u32,
    SYS_EXECVE as u32,
    SYS_EXIT as u32,
    SYS_EXIT_GROUP as u32,
    SYS_WAITPID as u32,
    calls::REGISTER_HANDLER,
    calls::COPY_TABLE,
];

/// What is known of a descriptor that the grates inside know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It is inside, whatever it is used for.
    Inside,
    /// It is inside for as long as its peer is.
    Peer,
    /// It may come to be inside; till then nothing of what goes through it is.
    Open,
    /// It can't any more. The grates inside hear what becomes of it, as they know it.
    Past,
}

impl Mark {
    /// Whether what goes through it goes inside.
    pub fn is_inside(self) -> bool {
        matches!(self, Self::Inside | Self::Peer)
    }
}

/// A call of the program.
#[derive(Debug)]
pub struct Front<'a> {
    /// The call as it came.
    pub call: &'a Call,
    /// What it is.
    pub entry: &'static Entry,
    /// The cage that made it.
    pub cage: u64,
}

impl Front<'_> {
    /// The call for the grates inside: what of it is to be replaced is so in the answer. Where none
    /// of them serves it, it goes where it would go past them.
    pub fn inside(&self) -> Call {
        self.call.numbered(self.inside_as(self.call.nr))
    }

    /// The number by which the grates inside serve another call of the cage's.
    pub fn inside_as(&self, nr: u32) -> u32 {
        state().registrations.number(self.cage, nr).unwrap_or(nr)
    }

    /// Whether a grate inside serves it.
    pub fn is_served(&self) -> bool {
        let registrations = &state().registrations;
        registrations.number(self.cage, self.call.nr).is_some()
    }

    /// Passes the call to the grates inside as it came.
    ///
    /// # Errors
    /// What it answered.
    pub fn pass_inside(&self) -> Result<i32, Errno> {
        self.inside().forward(self.cage)
    }

    /// Passes the call on past the grates inside.
    ///
    /// # Errors
    /// What it answered.
    pub fn past(&self) -> Result<i32, Errno> {
        self.call.forward(self.cage)
    }

    /// Makes a descriptor by a call that answers it, and marks it.
    ///
    /// # Errors
    /// As the act.
    pub fn opened(
        &self,
        mark: Option<Mark>,
        act: impl FnOnce() -> Result<i32, Errno>,
    ) -> Result<i32, Errno> {
        let opening = marks().opening(self.cage);
        let fd = act()?;
        let cage = self.cage;
        marks().note(CageFd { cage, fd }, mark);
        drop(opening);
        Ok(fd)
    }

    /// The descriptor in an argument.
    pub fn fd(&self, index: usize) -> CageFd {
        CageFd::of(self.call, index)
    }

    /// The descriptors among the arguments.
    pub fn descriptors(&self) -> impl Iterator<Item = CageFd> + '_ {
        let kinds = self.entry.args.iter().enumerate();
        kinds
            .filter(|(_, kind)| kind.is_descriptor())
            .map(|(index, _)| self.fd(index))
    }

    /// Whether the cage has any descriptors inside.
    pub fn has_any_inside(&self) -> bool {
        let all = marks().of_cage(self.cage);
        all.iter().any(|(_, mark)| mark.is_inside())
    }

    /// Whether the call answers a descriptor.
    pub fn makes_one(&self) -> bool {
        self.entry.result == Outcome::Fd
    }
}

fn serve(call: &Call) -> Result<i32, Errno> {
    // Those of the table alone have a handler.
    let entry = calls::entry(call.nr).ok_or(Errno(error::ENOSYS))?;
    if matches!(call.nr, calls::REGISTER_HANDLER | calls::COPY_TABLE) {
        // Numbers stand where other calls have cages.
        return call.forward_with(getcageid(), &call.args());
    }
    let cage = call.caller();
    if state().registrations.place(cage) != Place::Program {
        // It was waited for: there is nobody any more to make calls.
        return Err(Errno(error::ESRCH));
    }
    let front = Front { call, entry, cage };
    let (table, inside) = (marks(), front.inside());
    let mark = |index| table.get(front.fd(index));
    match u64::from(call.nr) {
        SYS_CLONE => {
            state().registrations.forget_gone();
            table.departed().into_iter().for_each(forget);
            let child = table.clone_cage(&inside)?;
            lives::inherit(cage, child);
            Ok(child)
        }
        SYS_EXECVE => table.execve(&inside),
        SYS_EXIT => inside.forward(cage),
        SYS_EXIT_GROUP => table.exit(&inside),
        SYS_WAITPID => {
            let child = inside.forward(cage)?;
            if child > 0 {
                forget(child as u64);
            }
            Ok(child)
        }
        // A grate inside may hear of descriptors that it does not know, and must of those that it
        // knows: what is copied over another closes that one.
        SYS_DUP2 | SYS_DUP3 => {
            let copy = match mark(0).is_some() || mark(1).is_some() {
                true => inside,
                false => call.numbered(call.nr),
            };
            table.dup2(&copy)
        }
        SYS_CLOSE => table.close(&known(&front, inside, mark(0))),
        SYS_DUP => table.dup(&known(&front, inside, mark(0))),
        // Of what is written some may be changed inside, which is of no descriptor.
        SYS_FCNTL if order::asks_for_changes(call) => inside.forward(cage),
        SYS_FCNTL => table.fcntl(&known(&front, inside, mark(0))),
        _ => state().border.serve(&front),
    }
}

/// The call for the grates inside, where they know the descriptor.
fn known(front: &Front<'_>, inside: Call, mark: Option<Mark>) -> Call {
    match mark {
        Some(_) => inside,
        None => front.call.numbered(front.call.nr),
    }
}

fn forget(cage: u64) {
    marks().forget_cage(cage);
    state().registrations.forget(cage);
}
