//! Authority: which cages a call may name.
//!
//! A cage may name itself, the cages whose grate it is (those with a route that leads to it or
//! that it registered, which a fork copies to what they fork), and while it serves a call those
//! that the call names and the one that made it. Making a cage gives the right to register
//! handlers on it, and no other. A grate that serves a call may make one in the name of a cage
//! whose grate it is, where that leads past nobody. This is the only place where it is decided:
//! [`judge`] looks at each call before any handler or the kernel sees it.

use super::frames::{self, Frame, Frames};
use super::{DEREGISTER, MAX_DEPTH, Origin};
use crate::cage::{Cage, CageId, Named, Parties};
use crate::image::Service;
use crate::request::{Arg, Request};
use crate::routes::KnownRoutes;
use crate::runtime::Runtime;
use calls::{COPY_DATA, COPY_TABLE, Entry, GRATE_MEMORY_FLAG, REGISTER_HANDLER, UNUSED};
use rustix::io::Errno;
use std::sync::Arc;

// What a call passes on its way lies in one place and is handed on by reference: who copies words
// together that were just written one by one waits until the processor has them all in its cache.

/// Who makes a call, and what it serves meanwhile.
pub(super) struct Caller<'a> {
    pub(super) rt: &'a Arc<Runtime>,
    pub(super) origin: Origin<'a>,
    /// The calls under way on this thread.
    pub(super) frames: Frames<'a>,
}

/// What a call names, all of which is the caller's to name.
pub(super) struct Judged<'a> {
    /// The cage whose state is acted on.
    pub(super) target: &'a Named<'a>,
    /// In whose name the call is made, if not in the caller's own.
    pub(super) voice: Option<&'a Named<'a>>,
    /// Those named, and the one in whose name it is made.
    named: &'a [CageId; 8],
}

impl<'a> Judged<'a> {
    /// Who makes the call, as far as who serves it is told.
    pub(super) fn speaker(&'a self, caller: &Caller<'a>) -> Origin<'a> {
        match self.voice {
            None => caller.origin,
            Some(voice) => Origin {
                cage: &voice.cage,
                image: None,
            },
        }
    }
}

impl<'a> Caller<'a> {
    pub(super) fn id(&self) -> CageId {
        self.origin.cage.id
    }

    /// Those who take part in its call.
    pub(super) fn parties<'b>(&self, call: &Judged<'b>) -> Parties<'b>
    where
        'a: 'b,
    {
        Parties {
            caller: self.own(),
            target: call.target,
            served: (self.serves().next()).map(|frame| Named::of(frame.caller, frame.image)),
        }
    }

    /// The caller itself.
    fn own(&self) -> Named<'a> {
        Named::of(self.origin.cage, self.origin.image)
    }

    /// The calls that it serves on this thread.
    fn serves(&self) -> impl Iterator<Item = &'a Frame<'a>> {
        let own = self.id();
        self.frames.filter(move |frame| frame.grate == own)
    }
}

/// Looks at every cage that a call names, then has `go` go on with it. By then each argument has a
/// cage that the caller may name; one that the call does not have belongs to the target.
///
/// # Errors
/// `EPERM` for one that is not the caller's to name; `ESRCH` for one that is not there.
#[inline]
pub(super) fn judge<T>(
    caller: &Caller<'_>,
    request: &mut Request,
    go: impl FnOnce(&Request, &Judged<'_>) -> T,
) -> Result<T, Errno> {
    let entry = calls::entry(request.nr);
    let voice = match request.own == caller.id().raw() {
        true => None,
        false => Some(voice(caller, request, entry)?),
    };
    let target = named(caller, request.target)?;
    if entry.is_some_and(Entry::is_of_the_thread)
        && target
            .cage
            .own_task()
            .is_none_or(|task| task.current_call() != request.nr)
    {
        return Err(Errno::PERM);
    }
    let speaker = voice.as_ref().map_or(caller.id(), |voice| voice.cage.id);
    let mut names = [speaker; 8];
    names[7] = target.cage.id;
    // The common case first: all is the target's own.
    let other = |other, arg: &Arg| other | (arg.cage ^ request.target);
    let is_targets = request.args.iter().fold(0, other) == 0;
    if !is_targets || matches!(request.nr, REGISTER_HANDLER | COPY_TABLE) {
        judge_others(caller, entry, request, &mut names)?;
    }
    let judged = Judged {
        target: &target,
        voice: voice.as_ref(),
        named: &names,
    };
    Ok(go(request, &judged))
}

/// The rest of [`judge`], for a call that names more cages than its target.
fn judge_others(
    caller: &Caller<'_>,
    entry: Option<&Entry>,
    request: &mut Request,
    names: &mut [CageId; 8],
) -> Result<(), Errno> {
    let own = caller.id().raw();
    // What a private number's arguments are, only its handler knows: all of them count.
    let arity = entry.map_or(6, |entry| entry.args.len());
    let numbers = numbers(request.nr);
    for (index, arg) in request.args.iter_mut().enumerate().skip(numbers) {
        if arg.cage == own && request.target == own {
            continue;
        }
        let id = arg.cage & !GRATE_MEMORY_FLAG;
        let is_nobodys = index >= arity || id == UNUSED & !GRATE_MEMORY_FLAG;
        if caller.rt.strict && !is_nobodys && id != arg.cage {
            return Err(Errno::SRCH); // On Lind the flag is no part of an id.
        }
        if is_nobodys || id == request.target {
            arg.cage = request.target;
        } else {
            arg.cage = id;
            names[index] = named(caller, id)?.cage.id;
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
            let target = gone(registrable(caller, first.value))?;
            if let Some(target) = target.filter(|_| second.cage != DEREGISTER) {
                gone(handler_of(caller, &target, second.cage))?;
            }
        }
        COPY_TABLE => {
            gone(registrable(caller, first.value))?;
            gone(registrable(caller, first.cage))?;
        }
        _ => {}
    }
    Ok(())
}

/// The other cage in whose name a grate makes a call: for a cage that the call which it serves
/// names, and a system call that is no thread's own. Whose table that is and what stands there is
/// looked at when the call is [looked up](routes_of).
///
/// # Errors
/// As [`judge`].
#[cold]
fn voice<'a>(
    caller: &Caller<'a>,
    request: &Request,
    entry: Option<&Entry>,
) -> Result<Named<'a>, Errno> {
    let may_be_lent = entry.is_some_and(|entry| {
        let is_3i = matches!(entry.nr, REGISTER_HANDLER | COPY_DATA | COPY_TABLE);
        !is_3i && !entry.is_of_the_thread()
    });
    let is_for_who_is_served = caller.serves().any(|frame| {
        let mut named = frame.named.iter();
        named.any(|cage| cage.raw() == request.target)
    });
    if !may_be_lent || !is_for_who_is_served {
        return Err(Errno::PERM);
    }
    named(caller, request.own)
}

/// What is to be known of a call of that number that is made in the name of another cage.
///
/// # Errors
/// `EPERM` where that would lead it past who stands above the caller.
#[cold]
pub(super) fn routes_of(
    caller: &Caller<'_>,
    voice: &Named<'_>,
    nr: u32,
) -> Result<KnownRoutes, Errno> {
    let own = caller.id();
    let is_below = |by| by == own || caller.rt.is_made_by(by, own);
    let its = &caller.origin.cage.handlers;
    let known = voice.cage.handlers.known_for(own, its, nr, is_below);
    known.ok_or(Errno::PERM)
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
#[inline]
pub(super) fn named<'a>(caller: &Caller<'a>, id: u64) -> Result<Named<'a>, Errno> {
    if id == caller.id().raw() {
        return Ok(caller.own());
    }
    // A grate names most of all who made the call that it serves.
    match caller.serves().find(|frame| frame.caller.id.raw() == id) {
        Some(frame) if frame.caller.has_ended() => Err(Errno::SRCH),
        Some(frame) => Ok(Named::of(frame.caller, frame.image)),
        None => find(caller, id).map(Named::found),
    }
}

/// The living cage that `caller` names, where it is neither itself nor who made a call that it serves.
fn find(caller: &Caller<'_>, id: u64) -> Result<Arc<Cage>, Errno> {
    let id = CageId::from_guest(id).ok_or(Errno::SRCH)?;
    let cage = caller.rt.cage(id).ok_or(Errno::SRCH)?;
    let serves = || caller.serves().any(|frame| frame.named.contains(&id));
    if serves() || cage.handlers.leads_to(caller.id()) {
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
pub(super) fn registrable(caller: &Caller<'_>, id: u64) -> Result<Arc<Cage>, Errno> {
    let made = CageId::from_guest(id)
        .and_then(|id| caller.rt.cage(id))
        .filter(|cage| cage.maker() == Some(caller.id()));
    made.map_or_else(|| Ok(named(caller, id)?.cage.into_owned()), Ok)
}

/// The cage whose handlers `caller` registers on `target`: one that it may name, or on itself,
/// before it has become another program than its maker, its maker's.
///
/// # Errors
/// As [`judge`].
pub(super) fn handler_of(
    caller: &Caller<'_>,
    target: &Arc<Cage>,
    id: u64,
) -> Result<Arc<Cage>, Errno> {
    let own = caller.origin.cage;
    let maker = own
        .maker()
        .filter(|maker| maker.raw() == id && target.id == own.id && own.is_its_makers_program());
    match maker {
        Some(maker) => caller.rt.cage(maker).ok_or(Errno::SRCH),
        None => Ok(named(caller, id)?.cage.into_owned()),
    }
}

/// Who registers a handler where `caller` does: a grate that serves a registration and passes it on
/// acts for the cage that asked for it. Otherwise two grates that register through a third would
/// replace each other's handlers, as if they were that one's.
pub(super) fn registrar(caller: &Caller<'_>) -> CageId {
    let innermost = caller.serves().next();
    innermost
        .filter(|frame| frame.nr == REGISTER_HANDLER)
        .map_or(caller.id(), |frame| {
            registrar_of(caller.frames, frame.caller.id)
        })
}

/// As [`registrar`], for one whose own call may be passed on already.
fn registrar_of(frames: Frames<'_>, caller: CageId) -> CageId {
    let mut caller = caller;
    for frame in frames {
        if frame.grate == caller && frame.nr == REGISTER_HANDLER {
            caller = frame.caller.id;
        }
    }
    caller
}

/// Runs `serve` as a handler of `grate` in that service, which may name for that long what the call
/// names.
///
/// # Errors
/// `ELOOP` when the thread is in too many calls already, and as `serve`.
pub(super) fn serving(
    (grate, service): (CageId, &Arc<Service>),
    nr: u32,
    origin: Origin<'_>,
    call: &Judged<'_>,
    serve: impl FnOnce() -> Result<i32, Errno>,
) -> Result<i32, Errno> {
    let frame = Frame {
        grate,
        service,
        nr,
        caller: origin.cage,
        image: origin.image,
        named: call.named,
    };
    frames::within(frame, MAX_DEPTH, serve).unwrap_or(Err(Errno::LOOP))
}
