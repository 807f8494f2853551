//! What a run and each of its cages may have of the host, and how much of it they do.
//!
//! Each cage has an [`Account`]; all of them draw on the run's [`Ledger`]. A cage with others
//! above it (grates, or who forked it) leaves a part of what the run may have to each of them, so
//! that a program at its limit can't starve the grate that serves it: the deeper a cage, the less
//! of the run it can use up, and no grate of a program's own gets what the ones above it need.

use clap::Args;
use rustix::io::Errno;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;
use wasmtime::ResourceLimiter;

/// Limits of a run, as options of the command.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits (each is answered with the errno that Linux has for it)")]
pub struct Limits {
    /// Memory that one cage may have mapped writable, code and tables included (ENOMEM)
    #[arg(long, value_name = "SIZE", default_value = "4G", value_parser = size)]
    pub max_memory: u64,

    /// Memory that all cages may have mapped writable; by default three quarters of the machine's
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_run_memory: Option<u64>,

    /// Regions that one cage may have mapped (ENOMEM); all together are bound by the kernel's
    /// vm.max_map_count
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = at_least_one)]
    pub max_mappings: u64,

    /// Elements in the tables of one instance of a program (table.grow answers -1)
    #[arg(long, value_name = "N", default_value_t = 1 << 20, value_parser = at_least_one)]
    pub max_table: u64,

    /// Handlers that may be registered on one cage (ENOMEM)
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = at_least_one)]
    pub max_handlers: u64,

    /// Handlers that may be registered in the run (ENOMEM; EAGAIN when a fork would copy more)
    #[arg(long, value_name = "N", default_value_t = 65536, value_parser = at_least_one)]
    pub max_run_handlers: u64,

    /// Cages that have not ended, or were not waited for (EAGAIN)
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = at_least_one)]
    pub max_cages: u64,

    /// Threads that one cage may have beside its first (EAGAIN)
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = at_least_one)]
    pub max_threads: u64,

    /// Threads that all cages may have beside their first (EAGAIN)
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = at_least_one)]
    pub max_run_threads: u64,

    /// Descriptors that one cage may have open, at most 1024 (EMFILE)
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(3..=1024))]
    pub max_files: u64,

    /// Descriptors that the run may have open (ENFILE); by default and at most what the hard
    /// limit of `ulimit -n` leaves
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub max_run_files: Option<u64>,

    /// Size of a .wasm that a cage executes (ENOEXEC); .cwasm files were compiled by you
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = size)]
    pub max_module: u64,

    /// Size of each function in it (ENOEXEC)
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = size)]
    pub max_function: u64,

    /// How long it may take to compile (ENOEXEC)
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = at_least_one)]
    pub max_compile_time: u64,
}

impl Default for Limits {
    /// The defaults of the options.
    fn default() -> Self {
        #[derive(clap::Parser)]
        struct Command {
            #[command(flatten)]
            limits: Limits,
        }
        <Command as clap::Parser>::parse_from([""]).limits
    }
}

fn at_least_one(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("not a number above 0".to_owned()),
        Ok(number) => Ok(number),
    }
}

/// A number of bytes: digits, then K, M, G or nothing.
fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    at_least_one(digits)
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| "not a size such as 512M or 4G".to_owned())
}

impl Limits {
    /// How long compiling may take.
    pub fn compile_time(&self) -> Duration {
        Duration::from_secs(self.max_compile_time)
    }
}

/// Cages above one that something of the run is left to, each this part of it.
const DEEPEST: u64 = 8;
const PART: u64 = 32;
/// Descriptors that the runtime keeps for what it opens for a moment.
const OWN_FILES: u64 = 64;
/// Segments of System V shared memory of a run, as Linux has them of a machine.
const MOST_SEGMENTS: u64 = 4096;
/// Areas of the host that one region of a cage takes at most: itself and the hole behind it.
const AREAS: u64 = 2;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Bytes that can be written to, or could be before.
    Memory,
    /// Regions of guest memory.
    Mappings,
    /// Registered handlers.
    Handlers,
    /// Threads beside a cage's first.
    Threads,
}

const RESOURCES: usize = 4;

/// What all cages of a run draw on.
#[derive(Debug)]
pub struct Ledger {
    /// The limits that were asked for.
    pub limits: Limits,
    most: [u64; RESOURCES],
    used: [AtomicU64; RESOURCES],
    files: u64,
    /// The last descriptor of the host that a cage got: near the limit, most below are taken.
    last_file: AtomicI32,
}

impl Ledger {
    /// A run that has nothing yet.
    pub fn new(limits: Limits) -> Arc<Self> {
        let files = file_limit().saturating_sub(OWN_FILES).max(OWN_FILES);
        Arc::new(Self {
            most: [
                limits.max_run_memory.unwrap_or_else(memory_limit),
                max_map_count() * 3 / 4 / AREAS,
                limits.max_run_handlers,
                limits.max_run_threads,
            ],
            used: Default::default(),
            files: limits.max_run_files.unwrap_or(files).min(files),
            last_file: AtomicI32::new(0),
            limits,
        })
    }

    fn of_cage(&self, resource: Resource) -> u64 {
        match resource {
            Resource::Memory => self.limits.max_memory,
            Resource::Mappings => self.limits.max_mappings,
            Resource::Handlers => self.limits.max_handlers,
            Resource::Threads => self.limits.max_threads,
        }
    }
}

/// What a cage may use of `most` that the run has, with so many cages above it.
fn share(most: u64, depth: u64) -> u64 {
    most - most / PART * depth.min(DEEPEST)
}

/// What one cage uses.
#[derive(Debug)]
pub struct Account {
    ledger: Arc<Ledger>,
    depth: u64,
    used: [AtomicU64; RESOURCES],
}

impl Account {
    /// The account of a run's first cage.
    pub fn new(ledger: Arc<Ledger>) -> Arc<Self> {
        Self::at_depth(ledger, 0)
    }

    fn at_depth(ledger: Arc<Ledger>, depth: u64) -> Arc<Self> {
        Arc::new(Self {
            ledger,
            depth,
            used: Default::default(),
        })
    }

    /// An account for a cage that this one's cage makes.
    pub fn child(&self) -> Arc<Self> {
        Self::at_depth(self.ledger.clone(), self.depth + 1)
    }

    fn take(&self, resource: Resource, amount: u64) -> Result<(), Errno> {
        let index = resource as usize;
        let most = share(self.ledger.most[index], self.depth);
        take(&self.used[index], amount, self.ledger.of_cage(resource))?;
        take(&self.ledger.used[index], amount, most).inspect_err(|_| {
            self.used[index].fetch_sub(amount, Ordering::Relaxed);
        })
    }

    fn give(&self, resource: Resource, amount: u64) {
        let index = resource as usize;
        self.used[index].fetch_sub(amount, Ordering::Relaxed);
        self.ledger.used[index].fetch_sub(amount, Ordering::Relaxed);
    }

    /// How many cages the run may have for this one to make another.
    pub fn cages(&self) -> usize {
        usize::try_from(share(self.ledger.limits.max_cages, self.depth)).unwrap_or(usize::MAX)
    }

    /// How many segments of shared memory the run may have for this cage to make another.
    pub fn segments(&self) -> usize {
        share(MOST_SEGMENTS, self.depth) as usize // At most 4096.
    }

    /// Elements that the tables of an instance may have.
    fn table(&self) -> u64 {
        self.ledger.limits.max_table
    }

    /// Whether the cage may keep a descriptor of the host. The kernel gives out the lowest free
    /// number, so one that is not below the limit says that so many are open.
    ///
    /// # Errors
    /// `ENFILE`.
    pub fn check_file(&self, number: i32) -> Result<(), Errno> {
        self.ledger.last_file.store(number, Ordering::Relaxed);
        if number as u64 >= share(self.ledger.files, self.depth) {
            return Err(Errno::NFILE);
        }
        Ok(())
    }

    /// Whether the cage could keep another descriptor, for calls that do more than open one.
    ///
    /// # Errors
    /// `ENFILE`.
    pub fn check_file_room(&self) -> Result<(), Errno> {
        const NEAR: u64 = 256;
        let last = self.ledger.last_file.load(Ordering::Relaxed) as u64;
        if last + NEAR < share(self.ledger.files, self.depth) {
            return Ok(());
        }
        let probe = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC);
        let probe = probe.map_err(|_| Errno::NFILE)?;
        self.check_file(std::os::fd::AsRawFd::as_raw_fd(&probe))
    }

    /// Descriptors that a cage may have open.
    pub fn files(&self) -> usize {
        self.ledger.limits.max_files as usize // At most 1024.
    }
}

fn take(used: &AtomicU64, amount: u64, most: u64) -> Result<(), Errno> {
    used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
        used.checked_add(amount).filter(|&sum| sum <= most)
    })
    .map(drop)
    .map_err(|_| Errno::NOMEM)
}

/// Some of a resource that belongs to an account until this is dropped.
#[derive(Debug)]
pub struct Charge {
    account: Arc<Account>,
    resource: Resource,
    amount: u64,
}

impl Charge {
    /// Nothing yet.
    pub fn new(account: &Arc<Account>, resource: Resource) -> Self {
        Self {
            account: account.clone(),
            resource,
            amount: 0,
        }
    }

    /// Takes more or gives back, until the amount is `amount`.
    ///
    /// # Errors
    /// `ENOMEM`; then nothing has changed.
    pub fn resize(&mut self, amount: u64) -> Result<(), Errno> {
        if amount > self.amount {
            self.account.take(self.resource, amount - self.amount)?;
        } else {
            self.account.give(self.resource, self.amount - amount);
        }
        self.amount = amount;
        Ok(())
    }

    /// How much it is.
    pub fn amount(&self) -> u64 {
        self.amount
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.give(self.resource, self.amount);
    }
}

/// Bytes that an instance may have of exceptions which were thrown and are still kept.
const MAX_THROWN: u64 = 64 << 20;

/// The tables of an instance, and its exceptions.
#[derive(Debug)]
pub struct Tables {
    memory: Charge,
    thrown: Charge,
    elements: u64,
}

impl Tables {
    /// None yet.
    pub fn new(account: &Arc<Account>) -> Self {
        Self {
            memory: Charge::new(account, Resource::Memory),
            thrown: Charge::new(account, Resource::Memory),
            elements: 0,
        }
    }
}

impl ResourceLimiter for Tables {
    /// Linear memories are no instance's own: [`crate::memory`] counts them. This is what it
    /// throws.
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired as u64 <= MAX_THROWN && self.thrown.resize(desired as u64).is_ok())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let elements = self.elements + desired.saturating_sub(current) as u64;
        let bytes = elements.saturating_mul(size_of::<usize>() as u64);
        if elements > self.memory.account.table() || self.memory.resize(bytes).is_err() {
            return Ok(false);
        }
        self.elements = elements;
        Ok(true)
    }
}

/// Three quarters of the memory that the machine has, or the control group of this process.
fn memory_limit() -> u64 {
    let info = rustix::system::sysinfo();
    let machine = (info.totalram as u64).saturating_mul(u64::from(info.mem_unit));
    let group = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ]
    .into_iter()
    .filter_map(read_number)
    .min();
    group.unwrap_or(machine).min(machine) / 4 * 3
}

/// Mappings that the kernel lets a process have.
fn max_map_count() -> u64 {
    const USUAL: u64 = 65530;
    read_number("/proc/sys/vm/max_map_count").map_or(USUAL, |most| most.min(1 << 30))
}

fn read_number(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Descriptors that this process may have, a limit that [`raise_file_limit`] has moved.
fn file_limit() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.unwrap_or(1 << 20).min(1 << 30)
}

/// All cages' files are files of this one process, whose usual limit is that of a single one.
pub fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where that is refused, the limit stays as it is.
    let _ = setrlimit(Resource::Nofile, limit);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(memory: u64, run: u64) -> Limits {
        Limits {
            max_memory: memory,
            max_run_memory: Some(run),
            ..Limits::default()
        }
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("3k"), Ok(3 << 10));
        assert_eq!(size("2G"), Ok(2 << 30));
        for bad in ["", "0", "-1", "1.5G", "G", "12Q", "99999999999G"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_charge_is_bound_by_its_cage_and_given_back() {
        let account = Account::new(Ledger::new(limits(100, 1000)));
        let mut charge = Charge::new(&account, Resource::Memory);
        charge.resize(100).unwrap();
        assert_eq!(charge.resize(101), Err(Errno::NOMEM));
        let mut other = Charge::new(&account, Resource::Memory);
        assert_eq!(other.resize(1), Err(Errno::NOMEM));
        charge.resize(40).unwrap();
        other.resize(60).unwrap();
        drop(charge);
        other.resize(100).unwrap();
        drop(other);
        assert_eq!(account.ledger.used[0].load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_cages_above_keep_something_of_the_run() {
        let top = Account::new(Ledger::new(limits(u64::MAX, 3200)));
        let below = top.child();
        let mut hog = Charge::new(&below, Resource::Memory);
        assert_eq!(hog.resize(3101), Err(Errno::NOMEM));
        hog.resize(3100).unwrap();
        let mut deeper = Charge::new(&below.child(), Resource::Memory);
        assert_eq!(deeper.resize(1), Err(Errno::NOMEM));
        Charge::new(&top, Resource::Memory).resize(100).unwrap();
    }

    #[test]
    fn tables_grow_to_their_limit() {
        let limits = Limits {
            max_table: 10,
            ..Limits::default()
        };
        let mut tables = Tables::new(&Account::new(Ledger::new(limits)));
        assert!(tables.table_growing(0, 6, None).unwrap());
        assert!(!tables.table_growing(0, 5, None).unwrap());
        assert!(tables.table_growing(6, 10, None).unwrap());
        assert!(!tables.table_growing(10, usize::MAX, None).unwrap());
    }

    #[test]
    fn descriptors_are_counted_by_their_numbers() {
        let limits = Limits {
            max_run_files: Some(64),
            ..Limits::default()
        };
        let top = Account::new(Ledger::new(limits));
        assert_eq!(top.check_file(63), Ok(()));
        assert_eq!(top.check_file(64), Err(Errno::NFILE));
        assert_eq!(top.child().check_file(62), Err(Errno::NFILE));
    }
}
