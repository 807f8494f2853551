//! Authority: which cages a call may name.
//!
//! A cage may name itself, the cages whose grate it is (those with a route that leads to it or
//! that it registered, which a fork copies to what they fork), and while it serves a call those
//! that the call names and the one that made it. Making a cage gives the right to register
//! handlers on it, and no other. A grate that serves a call may make one in the name of a cage
//! whose grate it is, where that leads past nobody. This is the only place where it is decided:
//! [`judge`] looks at each call before any handler or the kernel sees it.

use super::{DEREGISTER, MAX_DEPTH};
use crate::cage::{Cage, CageId};
use crate::request::Request;
use crate::routes::Way;
use crate::runtime::Runtime;
use calls::{COPY_DATA, COPY_TABLE, Entry, GRATE_MEMORY_FLAG, REGISTER_HANDLER, UNUSED};
use rustix::io::Errno;
use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;

/// A call under way in a handler on this thread.
struct Frame {
    grate: CageId,
    nr: u32,
    /// Who made it.
    caller: CageId,
    /// The cages that the call was judged to name, and the one in whose name it was made.
    named: [CageId; 8],
}

thread_local! {
    static FRAMES: RefCell<Vec<Frame>> = const { RefCell::new(Vec::new()) };
}

/// What a call names, all of which is the caller's to name.
pub(super) struct Judged<'a> {
    /// The cage whose state is acted on.
    pub(super) target: Cow<'a, Arc<Cage>>,
    /// In whose name the call is made, if not in the caller's own.
    voice: Option<Arc<Cage>>,
    /// Those named, and the one in whose name it is made.
    named: [CageId; 8],
}

impl Judged<'_> {
    /// Where the call leads, by the table of the one in whose name it is made.
    ///
    /// # Errors
    /// `EPERM` where that would lead it past who stands above the caller.
    pub(super) fn way(&self, rt: &Runtime, caller: &Arc<Cage>, nr: u32) -> Result<Way, Errno> {
        let Some(voice) = &self.voice else {
            return Ok(caller.handlers.way(nr));
        };
        let is_below = |by| by == caller.id || rt.is_made_by(by, caller.id);
        let way = (voice.handlers).way_for(caller.id, &caller.handlers, nr, is_below);
        way.ok_or(Errno::PERM)
    }
}

/// Looks at every cage that a call names. Afterwards each argument has a cage that the caller may
/// name; one that the call does not have belongs to the target.
///
/// # Errors
/// `EPERM` for one that is not the caller's to name; `ESRCH` for one that is not there.
pub(super) fn judge<'a>(
    rt: &Runtime,
    caller: &'a Arc<Cage>,
    request: &mut Request,
) -> Result<Judged<'a>, Errno> {
    let own = caller.id.raw();
    let entry = calls::entry(request.nr);
    let voice = match request.own == own {
        true => None,
        false => Some(voice(rt, caller, request, entry)?),
    };
    // The common case first: a call of a cage for itself, which costs no count of references.
    let target = if request.target == own {
        Cow::Borrowed(caller)
    } else {
        Cow::Owned(named(rt, caller, request.target)?)
    };
    if entry.is_some_and(calls::Entry::is_of_the_thread)
        && target
            .own_task()
            .is_none_or(|task| task.current_call() != request.nr)
    {
        return Err(Errno::PERM);
    }
    // What a private number's arguments are, only its handler knows: all of them count.
    let arity = entry.map_or(6, |entry| entry.args.len());
    let speaker = voice.as_ref().unwrap_or(caller);
    let mut names = [speaker.id; 8];
    names[7] = target.id;
    let numbers = numbers(request.nr);
    for (index, arg) in request.args.iter_mut().enumerate().skip(numbers) {
        if arg.cage == own && request.target == own {
            continue;
        }
        let id = arg.cage & !GRATE_MEMORY_FLAG;
        let is_nobodys = index >= arity || id == UNUSED & !GRATE_MEMORY_FLAG;
        if rt.strict && !is_nobodys && id != arg.cage {
            return Err(Errno::SRCH); // On Lind the flag is no part of an id.
        }
        if is_nobodys || id == request.target {
            arg.cage = request.target;
        } else {
            arg.cage = id;
            names[index] = named(rt, caller, id)?.id;
        }
    }
    // Numbers that are cages all the same. One that is gone is answered in 3i's own way.
    let gone = |cage: Result<Arc<Cage>, Errno>| match cage {
        Err(Errno::SRCH) => Ok(None),
        other => other.map(Some),
    };
    let [first, second, ..] = &request.args;
    match request.nr {
        REGISTER_HANDLER => {
            let target = gone(registrable(rt, caller, first.value))?;
            if let Some(target) = target.filter(|_| second.cage != DEREGISTER) {
                gone(handler_of(rt, caller, &target, second.cage))?;
            }
        }
        COPY_TABLE => {
            gone(registrable(rt, caller, first.value))?;
            gone(registrable(rt, caller, first.cage))?;
        }
        _ => {}
    }
    Ok(Judged {
        target,
        voice,
        named: names,
    })
}

/// The other cage in whose name a grate makes a call: for a cage that the call which it serves
/// names, and a system call that is no thread's own. Whose table that is and what stands there is
/// looked at when the call is [looked up](Judged::way).
///
/// # Errors
/// As [`judge`].
fn voice(
    rt: &Runtime,
    caller: &Arc<Cage>,
    request: &Request,
    entry: Option<&Entry>,
) -> Result<Arc<Cage>, Errno> {
    let may_be_lent = entry.is_some_and(|entry| {
        let is_3i = matches!(entry.nr, REGISTER_HANDLER | COPY_DATA | COPY_TABLE);
        !is_3i && !entry.is_of_the_thread()
    });
    let is_for_who_is_served = FRAMES.with_borrow(|frames| {
        let mut served = frames.iter().filter(|frame| frame.grate == caller.id);
        served.any(|frame| {
            let mut named = frame.named.iter();
            named.any(|cage| cage.raw() == request.target)
        })
    });
    if !may_be_lent || !is_for_who_is_served {
        return Err(Errno::PERM);
    }
    named(rt, caller, request.own)
}

/// How many arguments at the beginning have no cage beside them, but a number with a meaning of
/// its own.
fn numbers(nr: u32) -> usize {
    match nr {
        REGISTER_HANDLER => 3,
        COPY_TABLE => 1,
        _ => 0,
    }
}

/// The living cage that `caller` names.
///
/// # Errors
/// As [`judge`].
pub(super) fn named(rt: &Runtime, caller: &Arc<Cage>, id: u64) -> Result<Arc<Cage>, Errno> {
    if id == caller.id.raw() {
        return Ok(caller.clone());
    }
    let id = CageId::from_guest(id).ok_or(Errno::SRCH)?;
    let cage = rt.cage(id).ok_or(Errno::SRCH)?;
    let serves = || {
        FRAMES.with_borrow(|frames| {
            let mut served = frames.iter().filter(|frame| frame.grate == caller.id);
            served.any(|frame| frame.named.contains(&id))
        })
    };
    if serves() || cage.handlers.leads_to(caller.id) {
        Ok(cage)
    } else {
        Err(Errno::PERM)
    }
}

/// A cage on which `caller` may register handlers: itself, one that it made, one whose grate it
/// is.
///
/// # Errors
/// As [`judge`].
pub(super) fn registrable(rt: &Runtime, caller: &Arc<Cage>, id: u64) -> Result<Arc<Cage>, Errno> {
    let made = CageId::from_guest(id)
        .and_then(|id| rt.cage(id))
        .filter(|cage| cage.maker() == Some(caller.id));
    made.map_or_else(|| named(rt, caller, id), Ok)
}

/// The cage whose handlers `caller` registers on `target`: one that it may name, or on itself,
/// before it has become another program than its maker, its maker's.
///
/// # Errors
/// As [`judge`].
pub(super) fn handler_of(
    rt: &Runtime,
    caller: &Arc<Cage>,
    target: &Arc<Cage>,
    id: u64,
) -> Result<Arc<Cage>, Errno> {
    let maker = caller.maker().filter(|maker| {
        maker.raw() == id && target.id == caller.id && caller.is_its_makers_program()
    });
    match maker {
        Some(maker) => rt.cage(maker).ok_or(Errno::SRCH),
        None => named(rt, caller, id),
    }
}

/// Who registers a handler where `caller` does: a grate that serves a registration and passes it on
/// acts for the cage that asked for it. Otherwise two grates that register through a third would
/// replace each other's handlers, as if they were that one's.
pub(super) fn registrar(caller: CageId) -> CageId {
    FRAMES.with_borrow(|frames| {
        let innermost = frames.iter().rev().find(|frame| frame.grate == caller);
        innermost
            .filter(|frame| frame.nr == REGISTER_HANDLER)
            .map_or(caller, |frame| registrar_of(frames, frame.caller))
    })
}

/// As [`registrar`], for one whose own call may be passed on already.
fn registrar_of(frames: &[Frame], caller: CageId) -> CageId {
    let mut caller = caller;
    for frame in frames.iter().rev() {
        if frame.grate == caller && frame.nr == REGISTER_HANDLER {
            caller = frame.caller;
        }
    }
    caller
}

/// Runs `serve` as a handler of `grate`, which may name for that long what the call names.
///
/// # Errors
/// `ELOOP` when the thread is in too many calls already, and as `serve`.
pub(super) fn serving(
    grate: CageId,
    (nr, caller): (u32, CageId),
    call: &Judged<'_>,
    serve: impl FnOnce() -> Result<i32, Errno>,
) -> Result<i32, Errno> {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            FRAMES.with_borrow_mut(|frames| frames.pop());
        }
    }
    let named = call.named;
    FRAMES.with_borrow_mut(|frames| {
        if frames.len() >= MAX_DEPTH {
            return Err(Errno::LOOP);
        }
        frames.push(Frame {
            grate,
            nr,
            caller,
            named,
        });
        Ok(())
    })?;
    let _leave = Leave;
    serve()
}
