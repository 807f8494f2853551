//! 3i: which cage's handler serves which call, and how calls get there.
//!
//! Every call of every cage, made through `make-syscall` or by the WASI layer, passes
//! [`dispatch`]. The lookup uses the caller's own table alone; a number without a handler is
//! served by [`crate::posix`].

use crate::cage::{Cage, CageId};
use crate::image::Image;
use crate::posix;
use crate::runtime::Runtime;
use rustix::io::Errno;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, RwLock, Weak};

/// An argument and the cage that it belongs to, as guests pass them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arg {
    /// The argument.
    pub value: u64,
    /// The cage whose address, descriptor or the like it is.
    pub cage: u64,
}

/// What guests pass for an argument that a call does not have.
pub const UNUSED: u64 = 0xdead_beef_dead_beef;

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

/// Numbers of the calls that 3i itself serves.
pub const REGISTER_HANDLER: u32 = 1001;
/// Copy bytes between cages.
pub const COPY_DATA: u32 = 1002;
/// Copy a handler table.
pub const COPY_TABLE: u32 = 1003;

/// What a guest names as handler to take a registration back.
const DEREGISTER: u64 = 500;
/// Result for a refused copy, as Lind defines it (not a negated errno).
const ABORTED: i32 = 0xE001_0001_u32 as i32;
/// Result when a cage is gone, as Lind defines it.
const NO_SUCH_CAGE: i32 = 0xE001_0002_u32 as i32;
/// Calls in calls that one thread may be in. Each takes native stack.
const MAX_DEPTH: u32 = 48;

/// A registered handler.
#[derive(Clone, Debug)]
struct Route {
    grate: CageId,
    /// The image that registered. Gone or retired: the grate is dead.
    image: Weak<Image>,
    /// Index into its function table.
    handler: u64,
    /// Who registered: only that cage, or one that made it, can take it back.
    by: CageId,
}

impl Route {
    fn same(&self, other: &Self) -> bool {
        self.grate == other.grate
            && self.handler == other.handler
            && Weak::ptr_eq(&self.image, &other.image)
    }
}

/// A cage's routes: for each number those registered, the one in force last.
#[derive(Debug, Default)]
pub struct HandlerTable(RwLock<Routes>);

#[derive(Clone, Debug, Default)]
struct Routes {
    /// Numbers below [`LOW`], the ordinary system calls, found without a search.
    low: Vec<Vec<Route>>,
    high: BTreeMap<u32, Vec<Route>>,
}

const LOW: u32 = 512;

impl Routes {
    fn get(&self, nr: u32) -> &[Route] {
        if nr < LOW {
            self.low.get(nr as usize).map_or(&[], Vec::as_slice)
        } else {
            self.high.get(&nr).map_or(&[], Vec::as_slice)
        }
    }

    fn of(&mut self, nr: u32) -> &mut Vec<Route> {
        if nr < LOW {
            if self.low.is_empty() {
                self.low = vec![Vec::new(); LOW as usize];
            }
            &mut self.low[nr as usize]
        } else {
            self.high.entry(nr).or_default()
        }
    }

    /// How many there are.
    fn count(&self) -> usize {
        self.all().map(|(_, routes)| routes.len()).sum()
    }

    fn all(&self) -> impl Iterator<Item = (u32, &Vec<Route>)> {
        let low = self
            .low
            .iter()
            .enumerate()
            .map(|(nr, routes)| (nr as u32, routes));
        low.chain(self.high.iter().map(|(&nr, routes)| (nr, routes)))
    }
}

impl HandlerTable {
    /// A copy, as fork makes it.
    pub fn duplicate(&self) -> Self {
        Self(RwLock::new(self.read().clone()))
    }

    /// How many routes there are.
    pub fn count(&self) -> usize {
        self.read().count()
    }

    /// Forgets all routes: what a cage that has ended needs no more.
    pub fn clear(&self) {
        *self.write() = Routes::default();
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Routes> {
        self.0.read().unwrap_or_else(|e| e.into_inner())
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Routes> {
        self.0.write().unwrap_or_else(|e| e.into_inner())
    }

    fn find(&self, nr: u32) -> Option<Route> {
        self.read().get(nr).last().cloned()
    }
}

/// Serves one call of `caller` and answers what the guest gets: a result or a negated errno.
pub fn dispatch(rt: &Arc<Runtime>, caller: &Arc<Cage>, request: &Request) -> i32 {
    let served = if request.own != caller.id.raw() {
        // A cage speaks for itself only: the table of another one may have fewer handlers.
        Err(Errno::PERM)
    } else if let Some(route) = caller.handlers.find(request.nr) {
        call_grate(rt, &route, request)
    } else {
        serve(rt, caller, request)
    };
    served.unwrap_or_else(|errno| -errno.raw_os_error())
}

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

fn call_grate(rt: &Arc<Runtime>, route: &Route, request: &Request) -> Result<i32, Errno> {
    let depth = DEPTH.get();
    if depth >= MAX_DEPTH {
        return Err(Errno::LOOP);
    }
    // Fail closed: without its grate the call goes nowhere, least of all to the kernel.
    let image = route.image.upgrade().ok_or(Errno::IO)?;
    DEPTH.set(depth + 1);
    let result = image.call_handler(rt, route.grate, route.handler, &request.args);
    DEPTH.set(depth);
    result
}

fn serve(rt: &Arc<Runtime>, caller: &Arc<Cage>, request: &Request) -> Result<i32, Errno> {
    match request.nr {
        REGISTER_HANDLER => register(rt, caller, &request.args),
        COPY_DATA => Ok(copy_data(rt, caller, &request.args)),
        COPY_TABLE => copy_table(rt, caller, &request.args),
        _ => {
            let target = rt.authorised(caller, request.target)?;
            posix::call(rt, caller, target, request)
        }
    }
}

/// 1001: a1 target cage, a1cage number, a2cage grate (or 500), a3 function-table index.
fn register(rt: &Arc<Runtime>, caller: &Arc<Cage>, args: &[Arg; 6]) -> Result<i32, Errno> {
    let target = match rt.authorised(caller, args[0].value) {
        Err(Errno::SRCH) => return Ok(NO_SUCH_CAGE),
        other => other?,
    };
    let nr = u32::try_from(args[0].cage).map_err(|_| Errno::INVAL)?;
    if args[1].cage == DEREGISTER {
        let mut table = target.handlers.write();
        let routes = table.of(nr);
        let registrar = routes.last().ok_or(Errno::INVAL)?.by;
        if registrar != caller.id && !rt.is_made_by(registrar, caller.id) {
            return Err(Errno::PERM);
        }
        routes.pop();
        let count = table.count();
        target.charge_handlers(count)?;
        return Ok(0);
    }
    let grate = match rt.authorised(caller, args[1].cage) {
        Err(Errno::SRCH) => return Ok(NO_SUCH_CAGE),
        other => other?,
    };
    let handler = args[2].value;
    let image = grate.image()?;
    if handler > u64::from(u32::MAX) || !image.can_serve() {
        return Err(Errno::INVAL);
    }
    if target.has_ended() || grate.has_ended() {
        return Ok(NO_SUCH_CAGE);
    }
    let route = Route {
        grate: grate.id,
        image: Arc::downgrade(&image),
        handler,
        by: caller.id,
    };
    let mut table = target.handlers.write();
    let count = table.count() + 1;
    let routes = table.of(nr);
    // Last writer wins. What the same cage registered before is replaced, not kept below.
    if routes.last().is_some_and(|last| last.by == caller.id) {
        routes.pop();
    } else {
        target.charge_handlers(count)?;
    }
    routes.push(route);
    Ok(0)
}

/// 1002: a1 source, a2 destination, a3 length, a4 type (0 bytes, 1 string with its NUL).
fn copy_data(rt: &Arc<Runtime>, caller: &Arc<Cage>, args: &[Arg; 6]) -> i32 {
    let copied = (|| {
        let memory = |arg: &Arg| rt.authorised(caller, arg.cage)?.image();
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
fn copy_table(rt: &Arc<Runtime>, caller: &Arc<Cage>, args: &[Arg; 6]) -> Result<i32, Errno> {
    let cage = |id| match rt.authorised(caller, id) {
        Err(Errno::SRCH) => Ok(None),
        Err(other) => Err(other),
        Ok(cage) => Ok(Some(cage)),
    };
    let Some(source) = cage(args[0].value)? else {
        return Ok(ABORTED);
    };
    let Some(target) = cage(args[0].cage)? else {
        return Ok(NO_SUCH_CAGE);
    };
    if source.id == target.id {
        return Ok(0);
    }
    let new = source.handlers.read().clone();
    let mut table = target.handlers.write();
    // What a cage above the caller put on the target must survive, or a program could shed its
    // grate by copying a poorer table.
    let keeps_all = table.all().all(|(nr, routes)| {
        routes.iter().all(|old| {
            old.by == caller.id
                || rt.is_made_by(old.by, caller.id)
                || new.get(nr).iter().any(|route| route.same(old))
        })
    });
    if !keeps_all {
        return Err(Errno::PERM);
    }
    target.charge_handlers(new.count())?;
    *table = new;
    Ok(0)
}
