//! A cage's routes: which grate serves which of its calls.

use crate::ids::CageId;
use crate::image::{Image, Service};
use std::collections::BTreeMap;
use std::sync::{Arc, RwLock, Weak};

/// A registered handler.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// The cage whose handler it is.
    pub(crate) grate: CageId,
    /// The image that was there at the registration.
    pub(crate) image: Weak<Image>,
    /// Whether that image still serves calls.
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
            && Weak::ptr_eq(&self.image, &other.image)
    }
}

/// A cage's routes: for each number those registered, the one in force last.
#[derive(Debug, Default)]
pub struct HandlerTable(RwLock<Routes>);

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

    /// Where a call of that number leads.
    fn way(&self, nr: u32) -> Way {
        if !self.grates.are_up() {
            return Way::Orphaned;
        }
        match self.get(nr).last() {
            None => Way::Kernel,
            Some(route) => match route.image.upgrade() {
                Some(image) => Way::Handler(route.grate, image, route.handler),
                None => Way::Orphaned,
            },
        }
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
pub(crate) enum Way {
    /// To that handler of that grate.
    Handler(CageId, Arc<Image>, u64),
    /// To the kernel: no grate serves that number.
    Kernel,
    /// Nowhere: one of the cage's grates is gone.
    Orphaned,
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

    /// Whether `cage` is a grate of the table's owner.
    pub(crate) fn leads_to(&self, cage: CageId) -> bool {
        self.read().grates.ids.contains(&cage)
    }

    /// Where a call of that number leads.
    pub(crate) fn way(&self, nr: u32) -> Way {
        self.read().way(nr)
    }

    /// Where a call of that number leads that `grate`, whose own table `its` is, makes in the name
    /// of this one's owner. `None` unless it is a grate of that owner, all that its own table has
    /// for the number stands below all else here, and what stands above that is from cages that
    /// `is_below` it: else it could go past who stands above it.
    pub(crate) fn way_for(
        &self,
        grate: CageId,
        its: &Self,
        nr: u32,
        is_below: impl Fn(CageId) -> bool,
    ) -> Option<Way> {
        // One lock at a time: two cages may do so to each other.
        let (own, are_up) = {
            let own = its.read();
            (own.get(nr).to_vec(), own.grates.are_up())
        };
        let routes = self.read();
        let (first, above) = routes.get(nr).split_at_checked(own.len())?;
        let is_in_front = first.iter().zip(&own).all(|(here, there)| here.same(there))
            && above.iter().all(|route| is_below(route.by));
        (routes.grates.ids.contains(&grate) && is_in_front).then(|| match are_up {
            true => routes.way(nr),
            false => Way::Orphaned,
        })
    }

    pub(crate) fn read(&self) -> std::sync::RwLockReadGuard<'_, Routes> {
        self.0.read().unwrap_or_else(|e| e.into_inner())
    }

    pub(crate) fn write(&self) -> std::sync::RwLockWriteGuard<'_, Routes> {
        self.0.write().unwrap_or_else(|e| e.into_inner())
    }
}
