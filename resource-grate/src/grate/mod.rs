//! The grate: the command line, what is known of descriptors and cages, and one handler a call.

mod descriptors;
mod known;
mod lives;
mod options;
mod rates;
mod sockets;
mod table;
mod transfer;

use grate_rs::{CageFd, Descriptors, GrateBuilder};
use known::{Kind, Known, Permit};
use resource_grate::bucket::Bucket;
use resource_grate::counter::Counter;
use resource_grate::limits::{Count, Limits, Port, Rate};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

/// What all handlers share.
struct State {
    limits: Limits,
    buckets: HashMap<&'static str, Bucket>,
    counters: HashMap<&'static str, Counter>,
    /// What is known of descriptors. Others are looked at when they are met.
    known: Descriptors<Known>,
    /// The cages of the program, with a permit for each of their threads.
    cages: Mutex<HashMap<u64, Vec<Permit>>>,
    began: Instant,
}

static STATE: OnceLock<State> = OnceLock::new();

/// What all handlers share. Set before the first one is registered.
fn state() -> &'static State {
    match STATE.get() {
        Some(state) => state,
        None => core::arch::wasm32::unreachable(),
    }
}

impl State {
    fn new(limits: Limits) -> Self {
        let buckets = Rate::ALL.iter().filter_map(|&rate| {
            let bucket = Bucket::new(limits.rate(rate)?);
            Some((rate.name(), bucket))
        });
        let counters = Count::ALL.iter().filter_map(|&count| {
            let counter = Counter::new(limits.count(count)?);
            Some((count.name(), counter))
        });
        Self {
            buckets: buckets.collect(),
            counters: counters.collect(),
            limits,
            known: Descriptors::default(),
            cages: Mutex::default(),
            began: Instant::now(),
        }
    }

    fn bucket(&self, rate: Rate) -> Option<&Bucket> {
        self.buckets.get(rate.name())
    }

    fn counter(&self, count: Count) -> Option<&Counter> {
        self.counters.get(count.name())
    }

    fn cages(&self) -> MutexGuard<'_, HashMap<u64, Vec<Permit>>> {
        self.cages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nanoseconds since the start.
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Whether any rate is limited.
    fn limits_rates(&self) -> bool {
        !self.buckets.is_empty()
    }

    /// Whether any ports may not be used.
    fn limits_ports(&self) -> bool {
        let mut all = [Port::ConnPort, Port::MessPort].into_iter();
        all.any(|port| self.limits.ports(port).is_some())
    }

    /// Whether what goes through sockets is limited.
    fn limits_sockets(&self) -> bool {
        let all = [Rate::NetSend, Rate::NetRecv, Rate::LoopSend, Rate::LoopRecv];
        all.iter().any(|&rate| self.bucket(rate).is_some())
    }
}

/// Runs the grate.
pub fn main() {
    let options = options::parse();
    let limits = options.limits().unwrap_or_else(|error| {
        eprintln!("resource-grate: {error}");
        std::process::exit(1)
    });
    let state = STATE.get_or_init(|| State::new(limits));
    table::HANDLERS
        .iter()
        .fold(GrateBuilder::new(), |builder, (nr, handler)| {
            builder.register(*nr, *handler)
        })
        .preexec(|child| {
            let cage = child as u64;
            // There is room for one: the file was checked.
            let permits = Permit::take(Count::Events).into_iter().flatten();
            state.cages().insert(cage, permits.collect());
            for fd in 0..=2 {
                let standard = Known::new(Kind::Standard, None);
                state.known.note(CageFd { cage, fd }, Some(standard));
            }
        })
        .run(options.program)
}
