//! A cage's routes: which grate serves which of its calls.

use crate::ids::CageId;
use crate::image::Service;
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A registered handler.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// The cage whose handler it is.
    pub(crate) grate: CageId,
    /// What the image serves that was there at the registration.
    pub(crate) service: Arc<Service>,
    /// Index into its function table.
    pub(crate) handler: u64,
    /// Who registered: only that cage, or one that made it, can take it back.
    pub(crate) by: CageId,
    /// Whether the table's owner put it there itself, under a number of no system call: it stands
    /// between nothing and the kernel, and fails alone without its grate.
    pub(crate) is_apart: bool,
}

impl Route {
    fn same(&self, other: &Self) -> bool {
        self.grate == other.grate
            && self.handler == other.handler
            && Arc::ptr_eq(&self.service, &other.service)
    }
}

/// A cage's routes: for each number those registered, the one in force last.
#[derive(Debug)]
pub struct HandlerTable {
    routes: RwLock<Routes>,
    /// Another number after each change, which no table has had before.
    version: AtomicU64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Routes {
    /// Numbers below [`LOW`], the ordinary system calls, found without a search.
    low: Vec<Vec<Route>>,
    high: BTreeMap<u32, Vec<Route>>,
    grates: Grates,
}

/// What a table's routes have in common.
#[derive(Clone, Debug, Default)]
struct Grates {
    /// The grates of the table's owner: those that a route leads to, or that registered one.
    ids: Vec<CageId>,
    /// The service of each image that a route leads to, but for those that stand apart.
    services: Vec<Arc<Service>>,
}

impl Grates {
    fn note(&mut self, route: &Route) {
        for grate in [route.grate, route.by] {
            if !self.ids.contains(&grate) {
                self.ids.push(grate);
            }
        }
        if route.is_apart {
            return;
        }
        let known = |service: &Arc<Service>| Arc::ptr_eq(service, &route.service);
        if !self.services.iter().any(known) {
            self.services.push(route.service.clone());
        }
    }

    /// Whether all of them serve calls.
    fn are_up(&self) -> bool {
        self.services.iter().all(|service| service.is_up())
    }
}

const LOW: u32 = 512;

impl Routes {
    pub(crate) fn get(&self, nr: u32) -> &[Route] {
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

    /// Puts a route in force. What the same cage registered before is replaced, not kept below.
    pub(crate) fn push(&mut self, nr: u32, route: Route) {
        if self.of(nr).pop_if(|last| last.by == route.by).is_some() {
            self.count_grates();
        }
        self.grates.note(&route);
        self.of(nr).push(route);
    }

    /// Takes the route in force away, and the one below it comes into force.
    pub(crate) fn pop(&mut self, nr: u32) {
        self.of(nr).pop();
        self.count_grates();
    }

    fn count_grates(&mut self) {
        let mut grates = Grates::default();
        let routes = self.all().flat_map(|(_, routes)| routes);
        routes.for_each(|route| grates.note(route));
        self.grates = grates;
    }

    /// Whether each route of `old` that `may_drop` does not give up is among these.
    pub(crate) fn keep(&self, old: &Self, may_drop: impl Fn(&Route) -> bool) -> bool {
        old.all().all(|(nr, routes)| {
            routes
                .iter()
                .all(|route| may_drop(route) || self.get(nr).iter().any(|kept| kept.same(route)))
        })
    }

    /// The handler that a call of that number goes to, if to any.
    fn hop(&self, nr: u32) -> Option<Hop> {
        self.get(nr).last().map(|route| Hop {
            grate: route.grate,
            service: route.service.clone(),
            handler: route.handler,
        })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
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

/// Where a call of a cage leads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way<'a> {
    /// To a handler of a grate.
    Handler(&'a Hop),
    /// To the kernel: no grate serves that number.
    Kernel,
    /// Nowhere: one of the cage's grates is gone.
    Orphaned,
}

/// The handler that a call goes to.
#[derive(Clone, Debug)]
pub(crate) struct Hop {
    /// The cage whose handler it is.
    pub(crate) grate: CageId,
    /// Who runs it, if still there.
    pub(crate) service: Arc<Service>,
    /// Index into the function table.
    pub(crate) handler: u64,
}

/// What an instance remembers of its cage's table, so that a call takes no lock and changes no word
/// that other threads look at. It goes by the table's version: nothing of it is used after a change.
/// Whether a grate is still there is looked at each time.
#[derive(Debug, Default)]
pub struct KnownRoutes {
    version: u64,
    services: Vec<Arc<Service>>,
    /// Numbers, each with the handler that it leads to, if to any. Each number has one place.
    ways: [Option<(u32, Option<Hop>)>; KNOWN],
}

/// Numbers that are remembered at most.
const KNOWN: usize = 32;
/// No table's version.
const NEVER: u64 = 0;

/// Where a number is remembered.
fn place(nr: u32) -> usize {
    nr as usize % KNOWN
}

/// A version that no table has had.
fn new_version() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(NEVER);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

impl KnownRoutes {
    /// Where a call of that number leads by `table`, the same at each call.
    pub(crate) fn way(&mut self, table: &HandlerTable, nr: u32) -> Way<'_> {
        let is_known = self.version == table.version.load(Ordering::Acquire)
            && matches!(&self.ways[place(nr)], Some((known, _)) if *known == nr);
        if !is_known {
            self.learn(table, nr);
        }
        self.known(nr)
    }

    /// Where a call of a number leads that is known.
    #[inline]
    pub(crate) fn known(&self, nr: u32) -> Way<'_> {
        if !self.services.iter().all(|service| service.is_up()) {
            return Way::Orphaned;
        }
        match &self.ways[place(nr)] {
            Some((_, Some(hop))) => Way::Handler(hop),
            _ => Way::Kernel,
        }
    }

    #[cold]
    fn learn(&mut self, table: &HandlerTable, nr: u32) {
        let routes = table.read();
        // Nobody changes it meanwhile.
        let version = table.version.load(Ordering::Relaxed);
        if self.version != version {
            *self = Self {
                version,
                services: routes.grates.services.clone(),
                ways: Default::default(),
            };
        }
        self.ways[place(nr)] = Some((nr, routes.hop(nr)));
    }
}

/// Routes that are being changed: they have another version when this ends.
pub(crate) struct Changing<'a> {
    routes: RwLockWriteGuard<'a, Routes>,
    version: &'a AtomicU64,
}

impl Deref for Changing<'_> {
    type Target = Routes;

    fn deref(&self) -> &Routes {
        &self.routes
    }
}

impl DerefMut for Changing<'_> {
    fn deref_mut(&mut self) -> &mut Routes {
        &mut self.routes
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        // Before the lock is free: who sees the change after it sees the version too.
        self.version.store(new_version(), Ordering::Release);
    }
}

impl Default for HandlerTable {
    fn default() -> Self {
        Self::of(Routes::default())
    }
}

impl HandlerTable {
    fn of(routes: Routes) -> Self {
        Self {
            routes: RwLock::new(routes),
            version: AtomicU64::new(new_version()),
        }
    }

    /// A copy, as fork makes it.
    pub fn duplicate(&self) -> Self {
        Self::of(self.read().clone())
    }

    /// How many routes there are.
    pub fn count(&self) -> usize {
        self.read().count()
    }

    /// Forgets all routes: what a cage that has ended needs no more.
    pub fn clear(&self) {
        *self.write() = Routes::default();
    }

    /// Whether `cage` is a grate of the table's owner.
    pub(crate) fn leads_to(&self, cage: CageId) -> bool {
        self.read().grates.ids.contains(&cage)
    }

    /// Whether a call of that number goes to the kernel.
    pub(crate) fn leads_to_kernel(&self, nr: u32) -> bool {
        let routes = self.read();
        routes.get(nr).is_empty() && routes.grates.are_up()
    }

    /// What is to be known of a call of that number that `grate`, whose own table `its` is, makes in
    /// the name of this one's owner. `None` unless it is a grate of that owner, all that its own table
    /// has for the number stands below all else here, and what stands above that is from cages that
    /// `is_below` it: else it could go past who stands above it. Where a grate of either table is gone
    /// it leads nowhere.
    pub(crate) fn known_for(
        &self,
        grate: CageId,
        its: &Self,
        nr: u32,
        is_below: impl Fn(CageId) -> bool,
    ) -> Option<KnownRoutes> {
        // One lock at a time: two cages may do so to each other.
        let (own, mut services) = {
            let own = its.read();
            (own.get(nr).to_vec(), own.grates.services.clone())
        };
        let routes = self.read();
        let (first, above) = routes.get(nr).split_at_checked(own.len())?;
        let is_in_front = first.iter().zip(&own).all(|(here, there)| here.same(there))
            && above.iter().all(|route| is_below(route.by));
        if !routes.grates.ids.contains(&grate) || !is_in_front {
            return None;
        }
        services.extend_from_slice(&routes.grates.services);
        let mut known = KnownRoutes {
            services,
            ..KnownRoutes::default()
        };
        known.ways[place(nr)] = Some((nr, routes.hop(nr)));
        Some(known)
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Routes> {
        self.routes.read().unwrap_or_else(|e| e.into_inner())
    }

    pub(crate) fn write(&self) -> Changing<'_> {
        Changing {
            routes: self.routes.write().unwrap_or_else(|e| e.into_inner()),
            version: &self.version,
        }
    }
}
