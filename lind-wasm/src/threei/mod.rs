//! 3i: which cage's handler serves which call, and how calls get there.
//!
//! Every call of every cage, made through `make-syscall` or by the WASI layer, passes
//! [`dispatch`]. The lookup uses the caller's own table alone; a number without a handler is
//! served by the kernel ([`Runtime::kernel`]).

mod authority;
mod frames;
#[cfg(test)]
mod tests;

use crate::cage::Cage;
use crate::image::Image;
use crate::request::{Arg, Request};
use crate::routes::{KnownRoutes, Route, Way};
use crate::runtime::Runtime;
use authority::{Caller, Judged};
use calls::{COPY_DATA, COPY_TABLE, EXIT, EXIT_GROUP, REGISTER_HANDLER};
use rustix::io::Errno;
use std::sync::Arc;

/// What a guest names as handler to take a registration back.
const DEREGISTER: u64 = 500;
/// Result for a refused copy, as Lind defines it (not a negated errno).
const ABORTED: i32 = 0xE001_0001_u32 as i32;
/// Result when a cage is gone, as Lind defines it.
const NO_SUCH_CAGE: i32 = 0xE001_0002_u32 as i32;
/// Calls in calls that one thread may be in. Each takes native stack.
const MAX_DEPTH: usize = 48;

/// Who makes a call.
#[derive(Clone, Copy)]
pub struct Origin<'a> {
    /// The cage.
    pub cage: &'a Arc<Cage>,
    /// Its program, where that makes the call itself.
    pub image: Option<&'a Arc<Image>>,
}

/// Serves one call and answers what the guest gets: a result or a negated errno. `routes` is what is
/// remembered of the caller's own.
pub fn dispatch(
    rt: &Arc<Runtime>,
    origin: Origin<'_>,
    routes: &mut KnownRoutes,
    request: &mut Request,
) -> i32 {
    frames::look(|frames| {
        let caller = Caller { rt, origin, frames };
        let judged = authority::judge(&caller, request, |request, judged| {
            let served = route(&caller, routes, judged, request);
            served.unwrap_or_else(|errno| -errno.raw_os_error())
        });
        judged.unwrap_or_else(|errno| match request.nr {
            // Its result is an address, which can look like any errno.
            COPY_DATA => ABORTED,
            _ => -errno.raw_os_error(),
        })
    })
}

/// As [`dispatch`], for a call that the runtime makes in a cage's name.
pub fn dispatch_for(rt: &Arc<Runtime>, cage: &Arc<Cage>, mut request: Request) -> i32 {
    let origin = Origin { cage, image: None };
    dispatch(rt, origin, &mut KnownRoutes::default(), &mut request)
}

/// Whether a grate is gone in whose handler the calling thread is: no call of it is to wait any longer.
pub fn is_in_vain() -> bool {
    frames::look(|mut frames| frames.any(|frame| !frame.service.is_up()))
}

fn route(
    caller: &Caller<'_>,
    routes: &mut KnownRoutes,
    judged: &Judged<'_>,
    request: &Request,
) -> Result<i32, Errno> {
    let (nr, args) = (request.nr, &request.args);
    let mut lent = None;
    let way = match judged.voice {
        None => routes.way(&caller.origin.cage.handlers, nr),
        Some(voice) => (lent.insert(authority::routes_of(caller, voice, nr)?)).known(nr),
    };
    match way {
        Way::Handler(hop) => {
            let speaker = judged.speaker(caller);
            authority::serving((hop.grate, &hop.service), nr, speaker, judged, || {
                hop.service.call(hop.handler, args)
            })
        }
        // Fail closed: without one of its grates no call of a cage goes anywhere, least of all to
        // the kernel. Its end is the cage's own.
        Way::Orphaned if nr == COPY_DATA => Ok(ABORTED),
        Way::Orphaned if !matches!(nr, EXIT | EXIT_GROUP) => Err(Errno::IO),
        Way::Orphaned | Way::Kernel => match nr {
            REGISTER_HANDLER => register(caller, args),
            COPY_DATA => Ok(copy_data(caller, args)),
            COPY_TABLE => copy_table(caller, args),
            nr => (caller.rt.kernel)(caller.rt, &caller.parties(judged), nr, args),
        },
    }
}

/// A result that tells of a cage that is gone in Lind's way.
fn or_gone(result: Result<Arc<Cage>, Errno>, gone: i32) -> Result<Result<Arc<Cage>, i32>, Errno> {
    match result {
        Ok(cage) if !cage.has_ended() => Ok(Ok(cage)),
        Ok(_) | Err(Errno::SRCH) => Ok(Err(gone)),
        Err(other) => Err(other),
    }
}

/// 1001: a1 target cage, a1cage number, a2cage grate (or 500), a3 function-table index.
fn register(caller: &Caller<'_>, args: &[Arg; 6]) -> Result<i32, Errno> {
    let target = authority::registrable(caller, args[0].value);
    let target = match or_gone(target, NO_SUCH_CAGE)? {
        Ok(target) => target,
        Err(gone) => return Ok(gone),
    };
    let nr = u32::try_from(args[0].cage).map_err(|_| Errno::INVAL)?;
    let asker = authority::registrar(caller);
    if args[1].cage == DEREGISTER {
        let mut routes = target.handlers.write();
        let registrar = routes.get(nr).last().ok_or(Errno::INVAL)?.by;
        if registrar != asker && !caller.rt.is_made_by(registrar, asker) {
            return Err(Errno::PERM);
        }
        routes.pop(nr);
        target.charge_handlers(routes.count())?;
        return Ok(0);
    }
    let grate = authority::handler_of(caller, &target, args[1].cage);
    let grate = match or_gone(grate, NO_SUCH_CAGE)? {
        Ok(grate) => grate,
        Err(gone) => return Ok(gone),
    };
    let handler = args[2].value;
    let image = grate.image()?;
    if handler > u64::from(u32::MAX) || !image.can_serve() {
        return Err(Errno::INVAL);
    }
    let route = Route {
        grate: grate.id,
        service: image.service().clone(),
        handler,
        // What a child registered for its maker before it became another program is the maker's:
        // that program must not take it back.
        by: if target.id == asker { grate.id } else { asker },
        is_apart: target.id == caller.id() && calls::entry(nr).is_none(),
    };
    let mut routes = target.handlers.write();
    target.charge_handlers(routes.count() + 1)?;
    routes.push(nr, route);
    target.charge_handlers(routes.count())?;
    Ok(0)
}

/// 1002: a1 source, a2 destination, a3 length, a4 type (0 bytes, 1 string with its NUL).
fn copy_data(caller: &Caller<'_>, args: &[Arg; 6]) -> i32 {
    // Lind does not copy within a cage, nor to its address 0.
    if caller.rt.strict && (args[0].cage == args[1].cage || args[1].value == 0) {
        return ABORTED;
    }
    let copied = (|| {
        let memory = |arg: &Arg| authority::named(caller, arg.cage)?.image();
        let (source, destination) = (memory(&args[0])?, memory(&args[1])?);
        let (from, to) = (args[0].value, args[1].value);
        let len = usize::try_from(args[2].value).map_err(|_| Errno::INVAL)?;
        match args[3].value {
            0 => destination.memory.copy_from(to, &source.memory, from, len),
            1 => {
                let mut string = source.memory.read_cstr(from, len)?;
                string.push(0);
                destination.memory.write(to, &string)
            }
            _ => Err(Errno::INVAL),
        }
    })();
    match copied {
        Ok(()) => args[1].value as i32,
        Err(_) => ABORTED,
    }
}

/// 1003: a1 the cage whose table is copied, a1cage the cage that gets it.
fn copy_table(caller: &Caller<'_>, args: &[Arg; 6]) -> Result<i32, Errno> {
    let cage = |id| authority::registrable(caller, id);
    let source = match or_gone(cage(args[0].value), ABORTED)? {
        Ok(source) => source,
        Err(gone) => return Ok(gone),
    };
    let target = match or_gone(cage(args[0].cage), NO_SUCH_CAGE)? {
        Ok(target) => target,
        Err(gone) => return Ok(gone),
    };
    if source.id == target.id {
        return Ok(0);
    }
    let new = source.handlers.read().clone();
    let mut table = target.handlers.write();
    // What a cage above the caller put on the target must survive, or a program could shed its
    // grate by copying a poorer table.
    let may_drop = |old: &Route| old.by == caller.id() || caller.rt.is_made_by(old.by, caller.id());
    if !new.keep(&table, may_drop) {
        return Err(Errno::PERM);
    }
    target.charge_handlers(new.count())?;
    *table = new;
    Ok(0)
}
