//! What the grates inside have registered, and the numbers that it has here.

use crate::{front, state};
use grate_rs::constants::{SYS_GETPID, SYS_REGISTER_HANDLER, error};
use grate_rs::{Arg, Call, Errno, forward, getcageid, kernel, register_handler};
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a grate names to take a registration back.
const DEREGISTER: u64 = 500;
/// Most handlers of grates inside: the numbers of two kinds of clamps are a thousand apart.
const MOST: u32 = 900;
const UNUSED: u64 = calls::UNUSED;

/// A handler: its grate and its place in that one's function table.
type Handler = (u64, u64);

#[derive(Debug, Default)]
struct Tables {
    /// What stands registered on cages, by number, the latest last: on those inside and on the
    /// program's.
    on: HashMap<u64, HashMap<u32, Vec<Handler>>>,
    /// Cages of the program, which have the clamp in front.
    program: HashSet<u64>,
    /// The number that a handler has in this clamp's own table.
    numbers: HashMap<Handler, u32>,
    /// How many cages there may be before it is looked whether they are still there.
    many: usize,
}

/// The registrations of the grates inside.
#[derive(Debug)]
pub struct Registrations {
    first: u32,
    tables: Mutex<Tables>,
}

/// Whether the end of the grates inside has come to a cage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is a grate inside, or will be.
    Inside,
    /// It is one of the program's.
    Program,
}

impl Registrations {
    /// Cages are not looked after while there are no more.
    const FEW: usize = 64;

    /// None yet; handlers get numbers from `first` on.
    pub fn new(first: u32) -> Self {
        let tables = Tables {
            many: Self::FEW,
            ..Tables::default()
        };
        Self {
            first,
            tables: Mutex::new(tables),
        }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a cage is.
    pub fn place(&self, cage: u64) -> Place {
        if self.tables().program.contains(&cage) {
            Place::Program
        } else {
            Place::Inside
        }
    }

    /// The number under which the grates inside serve that call of a cage of the program, if one
    /// does.
    pub fn number(&self, cage: u64, nr: u32) -> Option<u32> {
        let tables = self.tables();
        let handler = tables.on.get(&cage)?.get(&nr)?.last()?;
        tables.numbers.get(handler).copied()
    }

    /// The child of a fork has what its parent has.
    pub fn inherit(&self, parent: u64, child: u64) {
        let mut tables = self.tables();
        if tables.on.contains_key(&child) || tables.program.contains(&child) {
            return;
        }
        if let Some(on) = tables.on.get(&parent).cloned() {
            tables.on.insert(child, on);
        }
        if tables.program.contains(&parent) {
            tables.program.insert(child);
        }
    }

    /// Forgets a cage that is gone.
    pub fn forget(&self, cage: u64) {
        let mut tables = self.tables();
        tables.on.remove(&cage);
        tables.program.remove(&cage);
    }

    /// Forgets cages that were killed, when there are many.
    pub fn forget_gone(&self) {
        let all: Vec<u64> = {
            let tables = self.tables();
            if tables.program.len() <= tables.many {
                return;
            }
            tables.program.iter().copied().collect()
        };
        let is_gone = |cage: &u64| kernel::call(SYS_GETPID, *cage, &[]) == Err(Errno(error::ESRCH));
        all.into_iter()
            .filter(is_gone)
            .for_each(|cage| self.forget(cage));
        let mut tables = self.tables();
        tables.many = Self::FEW + 2 * tables.program.len();
    }

    /// Makes the cage at the end of the grates inside the program's: from here on its calls come to
    /// the clamp first.
    ///
    /// # Errors
    /// As a registration.
    pub fn adopt(&self, cage: u64) -> Result<(), Errno> {
        let on = self.tables().on.get(&cage).cloned().unwrap_or_default();
        for handlers in on.values() {
            if let Some(handler) = handlers.last() {
                self.keep(*handler)?;
            }
        }
        state().private.close();
        self.tables().program.insert(cage);
        for (nr, handler) in front::HANDLERS {
            let entry = calls::entry(*nr);
            let is_tracked = entry.is_some_and(|entry| state().border.tracks(entry));
            if on.contains_key(nr) || is_tracked || front::ALWAYS.contains(nr) {
                serve(cage, *nr, *handler)?;
            }
        }
        state().border.begins(cage);
        Ok(())
    }

    /// Gives a handler a number in the clamp's own table, unless it has one.
    fn keep(&self, handler: Handler) -> Result<(), Errno> {
        let number = {
            let mut tables = self.tables();
            if tables.numbers.contains_key(&handler) {
                return Ok(());
            }
            let count = u32::try_from(tables.numbers.len()).unwrap_or(MOST);
            if count >= MOST {
                return Err(Errno(error::ENOMEM));
            }
            let number = self.first + count;
            tables.numbers.insert(handler, number);
            number
        };
        let own = getcageid();
        let arg = |value, cage| Arg { value, cage };
        let none = arg(UNUSED, UNUSED);
        let args = [
            arg(own, u64::from(number)),
            arg(UNUSED, handler.0),
            arg(handler.1, UNUSED),
            none,
            none,
            none,
        ];
        forward(SYS_REGISTER_HANDLER as u32, own, &args).map(drop)
    }
}

/// Has the clamp serve a call of a cage.
fn serve(cage: u64, nr: u32, handler: grate_rs::SyscallHandler) -> Result<(), Errno> {
    register_handler(cage, nr.into(), getcageid(), handler).map_err(|_| Errno(error::EPERM))
}

/// register_handler of a grate inside: the cage with the number beside it, the grate's id beside
/// nothing, the place in its function table.
///
/// What is for the program's cages does not come to stand there: it is called from here.
pub fn register(call: &Call) -> Result<i32, Errno> {
    let registrations = &state().registrations;
    let (cage, grate, index) = (call.size(0), call.cage_of(1), call.size(2));
    let nr = u32::try_from(call.cage_of(0)).map_err(|_| Errno(error::EINVAL))?;
    let is_program = registrations.place(cage) == Place::Program;
    if !is_program {
        // Who may do so is the runtime's to say.
        let answer = call.forward_with(getcageid(), &call.args())?;
        if answer != 0 {
            return Ok(answer);
        }
    }
    let mut tables = registrations.tables();
    let handlers = tables.on.entry(cage).or_default().entry(nr).or_default();
    if grate == DEREGISTER {
        return handlers.pop().map(|_| 0).ok_or(Errno(error::EINVAL));
    }
    // What the same grate had there before is replaced.
    handlers.retain(|(other, _)| *other != grate);
    handlers.push((grate, index));
    drop(tables);
    if is_program {
        registrations.keep((grate, index))?;
        let front = front::HANDLERS.iter().find(|(number, _)| *number == nr);
        if let Some((nr, handler)) = front {
            serve(cage, *nr, *handler)?;
        }
    }
    Ok(0)
}
