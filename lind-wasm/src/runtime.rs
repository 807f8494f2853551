//! One run: the cages there are, and what they share.

use crate::artifact::{self, ArtifactKey};
use crate::cage::{self, Cage, CageId, FsContext, Inheritance, NewImage, Parties, WaitStatus};
use crate::compile::Desks;
use crate::family::Family;
use crate::fds::FdTable;
use crate::image::Image;
use crate::limits::{Account, Ledger, Limits};
use crate::memory::GuestMemory;
use crate::module::Size;
use crate::net::Net;
use crate::path::{PROGRAM_MAX, Root};
use crate::program::{Kind, LoadError, Program};
use crate::request::Arg;
use crate::routes::HandlerTable;
use crate::segments::Segments;
use crate::shared::SharedStore;
use crate::signals::{Fate, Signal, Signals};
use crate::threads::Crew;
use crate::timers::{Timer, Timers};
use crate::unix_names::UnixNames;
use anyhow::Context;
use rustix::io::Errno;
use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, RwLock};
use std::time::Duration;
use wasmtime::Engine;

/// What every cage sees in place of offset 0 in strict mode; cages lie this far apart, so that
/// each has a base of its own. Page aligned, but not 4 GiB aligned, as on Lind.
const STRICT_BASE: u64 = 0x7e00_6e00_0000;
const STRICT_STRIDE: u64 = 8 << 30;
/// How long a condemned cage may take to notice before it is reported ended without its help.
const LAST_RITES: Duration = Duration::from_secs(2);
/// Longest between two looks whether a cage has noticed its signals.
const MOST_PATIENCE: Duration = Duration::from_millis(64);

/// The descriptor of the first listening socket, after the standard streams.
const FIRST_LISTENER: i32 = 3;

/// Everything that the cages of a run share.
pub struct Runtime {
    /// The engine that all programs are compiled for.
    pub engine: Engine,
    /// The only directory that cages reach.
    pub root: Root,
    /// As narrow as the public Lind runtime.
    pub strict: bool,
    /// What cages reach by IPv4 and IPv6.
    pub net: Net,
    /// What serves the calls that no grate has taken.
    pub kernel: Kernel,
    /// Names of UNIX sockets.
    pub unix_names: UnixNames,
    /// Whether a socket has been made that tells of the network's interfaces.
    pub tells_interfaces: AtomicBool,
    /// Memory that cages share.
    pub shared: SharedStore,
    /// Those parts of it that they find by key and number.
    pub segments: Segments,
    ledger: Arc<Ledger>,
    /// Where programs are compiled, and those that were before are read: neither waits for the other.
    compiling: Arc<Desks>,
    opening: Arc<Desks>,
    /// What sends cages SIGALRM.
    pub timers: Arc<Timers>,
    /// Whether the thread that waits for them is there.
    timing: Mutex<bool>,
    /// Threads of cages that were reported ended without their help.
    adrift: Mutex<Vec<Arc<Crew>>>,
    /// Parents and children.
    pub family: Family,
    /// What a program starts with whose parent names no environment.
    env: Vec<Vec<u8>>,
    key: ArtifactKey,
    /// The words of the command line: names that the person chose, not a program.
    words: OnceLock<Vec<Vec<u8>>>,
    /// Of the first cage.
    umask: u32,
    cages: RwLock<HashMap<CageId, Arc<Cage>>>,
    next_id: AtomicU32,
    /// Sockets that the first cage gets, until it has them.
    listeners: Mutex<Vec<OwnedFd>>,
    listener_count: usize,
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}

/// Serves a call that no grate has taken: who takes part in it, its number and its arguments, all
/// judged by 3i.
pub type Kernel = fn(&Arc<Runtime>, &Parties<'_>, u32, &[Arg; 6]) -> Result<i32, Errno>;

/// Settings of a run.
pub struct Settings {
    /// The cages' root directory.
    pub root: Root,
    /// This user's key for `.cwasm` artifacts.
    pub key: ArtifactKey,
    /// Environment of the first program.
    pub env: Vec<Vec<u8>>,
    /// See [`Runtime::strict`].
    pub strict: bool,
    /// See [`Runtime::net`].
    pub net: Net,
    /// See [`Runtime::kernel`].
    pub kernel: Kernel,
    /// What cages may have of the host.
    pub limits: Limits,
    /// Sockets that the first program finds as descriptors 3, 4, ...
    pub listeners: Vec<OwnedFd>,
}

impl Runtime {
    /// A runtime without cages.
    ///
    /// # Errors
    /// When the engine can't work on this machine.
    pub fn new(settings: Settings) -> anyhow::Result<Arc<Self>> {
        let engine = crate::engine::new()?;
        Ok(Arc::new(Self {
            kernel: settings.kernel,
            engine,
            root: settings.root,
            strict: settings.strict,
            net: settings.net,
            unix_names: UnixNames::new().context("/proc/self: /proc has to be mounted")?,
            tells_interfaces: AtomicBool::new(false),
            shared: SharedStore::default(),
            segments: Segments::default(),
            ledger: Ledger::new(settings.limits),
            compiling: Arc::default(),
            opening: Arc::default(),
            timers: Arc::default(),
            timing: Mutex::default(),
            adrift: Mutex::default(),
            env: settings.env,
            key: settings.key,
            words: OnceLock::new(),
            umask: cage::take_over_umask(),
            family: Family::default(),
            cages: RwLock::default(),
            next_id: AtomicU32::new(CageId::FIRST.pid() as u32),
            listener_count: settings.listeners.len(),
            listeners: Mutex::new(settings.listeners),
        }))
    }

    /// Loads what the command line names, and makes the first cage, which is to run it.
    ///
    /// # Errors
    /// One line when the program can't be started.
    pub fn first_cage(&self, args: Vec<Vec<u8>>) -> anyhow::Result<(Arc<Cage>, Arc<Image>)> {
        self.words.get_or_init(|| args.clone());
        let name = args.first().map_or(&b""[..], Vec::as_slice);
        let cwd = self.root.top();
        let shown = String::from_utf8_lossy(name).into_owned();
        let program = self.load(&cwd, name).map_err(|e| e.describe(&shown))?;
        let account = Account::new(self.ledger.clone());
        let mut fds = FdTable::with_standard_streams(account.clone())?;
        let listeners =
            std::mem::take(&mut *self.listeners.lock().unwrap_or_else(|e| e.into_inner()));
        for (fd, socket) in (FIRST_LISTENER..).zip(listeners) {
            fds.set(fd, Arc::new(socket), false)?;
        }
        let cage = self.enrol(Inheritance {
            account,
            ancestors: Vec::new(),
            handlers: HandlerTable::default(),
            fds,
            fs: FsContext {
                cwd,
                umask: self.umask,
            },
            signals: Signals::default(),
        })?;
        self.family.add(cage.id, None, 1)?;
        let new = NewImage {
            program,
            args,
            env: self.env.clone(),
        };
        let image = self
            .make_image(&cage, new)
            .map_err(|why| anyhow::anyhow!("{shown}: no room for its memory: {why}"))?;
        cage.set_image(Some(image.clone()));
        Ok((cage, image))
    }

    /// A number that no cage and no thread of the run has or had.
    ///
    /// # Errors
    /// `EAGAIN` when all are used up.
    pub fn new_id(&self) -> Result<u32, Errno> {
        self.next_id
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |id| {
                (id < i32::MAX as u32).then_some(id + 1)
            })
            .map_err(|_| Errno::AGAIN)
    }

    /// Makes a cage and lists it.
    ///
    /// # Errors
    /// As [`Runtime::new_id`].
    pub fn enrol(&self, with: Inheritance) -> Result<Arc<Cage>, Errno> {
        let id = self.new_id()?;
        let cage = Arc::new(Cage::new(id, with));
        self.cages
            .write()
            .unwrap_or_else(|e| e.into_inner())
            .insert(cage.id, cage.clone());
        Ok(cage)
    }

    /// A living cage.
    pub fn cage(&self, id: CageId) -> Option<Arc<Cage>> {
        self.cages
            .read()
            .unwrap_or_else(|e| e.into_inner())
            .get(&id)
            .cloned()
    }

    /// The programs that cages run.
    pub fn images(&self) -> Vec<Arc<Image>> {
        let cages = self.cages.read().unwrap_or_else(|e| e.into_inner());
        cages
            .values()
            .filter_map(|cage| cage.image().ok())
            .collect()
    }

    /// How many threads the cages of the run may have.
    pub fn most_threads(&self) -> usize {
        let limits = &self.ledger.limits;
        let most = limits.max_cages.saturating_add(limits.max_run_threads);
        usize::try_from(most).unwrap_or(usize::MAX)
    }

    /// Whether `maker` made the living cage `id`, directly or not.
    pub fn is_made_by(&self, id: CageId, maker: CageId) -> bool {
        id != maker && self.cage(id).is_some_and(|cage| cage.answers_to(maker))
    }

    /// How many listening sockets the run handed out.
    pub fn listeners(&self) -> usize {
        self.listener_count
    }

    /// The environment for a program whose parent names none.
    pub fn default_env(&self) -> &[Vec<u8>] {
        &self.env
    }

    /// Finds and loads a program. A name without a slash is looked up in `cwd`, then `/grates`,
    /// then `/bin`; in strict mode a name is a path from the root.
    ///
    /// # Errors
    /// Why not, for a person and as errno.
    pub fn load(
        &self,
        cwd: &Arc<rustix::fd::OwnedFd>,
        name: &[u8],
    ) -> Result<Arc<Program>, LoadError> {
        // Lind knows the directory of the whole process alone, and searches none.
        let top = self.root.top();
        let cwd = if self.strict { &top } else { cwd };
        let file = self.root.open_program(cwd, name, !self.strict);
        let mut file = file.map_err(LoadError::File)?;
        let limits = &self.ledger.limits;
        let failed = |error| LoadError::File(Errno::from_io_error(&error).unwrap_or(Errno::IO));
        let desk = |desks: &Arc<Desks>| desks.take(limits.compile_time());
        let mut bytes = Vec::new();
        let mut head = file.by_ref().take(artifact::MAGIC.len() as u64);
        head.read_to_end(&mut bytes).map_err(failed)?;
        if artifact::is_artifact(&bytes) {
            let _desk = desk(&self.opening)?;
            let program = Program::open(&self.engine, &self.key, file, self.strict);
            return program.map(Arc::new).map_err(LoadError::Program);
        }
        let desk = desk(&self.compiling)?;
        let (engine, strict) = (self.engine.clone(), self.strict);
        let most = Size::of_cage(limits);
        // One byte more than it may have shows that it is too large.
        let mut file = file.take(
            (most.bytes as u64)
                .saturating_add(1)
                .saturating_sub(bytes.len() as u64)
                // The file may grow meanwhile.
                .min(PROGRAM_MAX),
        );
        file.read_to_end(&mut bytes).map_err(failed)?;
        let compile = move || Program::compile(&engine, &bytes, strict, most);
        let program = desk.compile(compile)?;
        program.map(Arc::new).map_err(LoadError::Program)
    }

    /// Gives a program memory in a cage.
    ///
    /// # Errors
    /// When the host has no room for it.
    pub fn make_image(&self, cage: &Cage, new: NewImage) -> anyhow::Result<Arc<Image>> {
        let program = new.program;
        let memory = match program.kind {
            Kind::Lind => {
                let base = self.base_of(cage.id);
                GuestMemory::mapped(&self.engine, program.min_pages, base, &cage.account)?
            }
            Kind::Wasi => {
                let (least, most) = (program.min_pages, program.max_pages);
                GuestMemory::linear(&self.engine, least, most, &cage.account)?
            }
        };
        let image = Image::new(program, memory, new.args, new.env, &cage.account)?;
        Ok(Arc::new(image))
    }

    /// What `lind-get-memory-base` answers in a cage.
    pub fn base_of(&self, id: CageId) -> u64 {
        if self.strict {
            STRICT_BASE - STRICT_STRIDE * (id.raw() % 8192)
        } else {
            0
        }
    }

    /// Ends a cage from outside. It may be in the middle of anything.
    pub fn kill(self: &Arc<Self>, cage: &Arc<Cage>, status: WaitStatus) {
        cage.condemn(status);
        self.stir(cage);
        cage.crew.kick();
        if cage.crew.is_calling_thread() {
            return; // It ends when this call returns.
        }
        let (rt, cage) = (self.clone(), cage.clone());
        let nurse = std::thread::Builder::new().spawn(move || {
            let started = std::time::Instant::now();
            // A kick is lost when it comes just before the thread enters the kernel: repeat it.
            while !cage.has_ended() && started.elapsed() < LAST_RITES {
                std::thread::sleep(Duration::from_millis(5));
                cage.crew.kick();
            }
            if !cage.crew.is_empty() {
                rt.adrift().push(cage.crew.clone());
            }
            rt.end(&cage, status);
        });
        if let Err(error) = nurse {
            self.complain(format_args!("cannot start a thread to end a cage: {error}"));
        }
    }

    fn adrift(&self) -> MutexGuard<'_, Vec<Arc<Crew>>> {
        self.adrift.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// How many cages have ended whose threads have not. They count as cages: who makes such can't
    /// have more of them than others.
    pub fn ended_but_running(&self) -> usize {
        let mut adrift = self.adrift();
        adrift.retain(|crew| !crew.is_empty());
        adrift.len()
    }

    /// Sends a cage a signal.
    pub fn signal(self: &Arc<Self>, cage: &Arc<Cage>, signal: Signal) {
        match cage.signals.send(signal) {
            Fate::Rests => {}
            Fate::Comes => self.hurry(cage),
            Fate::Ends => self.kill(cage, WaitStatus::killed(signal.number())),
        }
    }

    /// Sees to it that a cage notices what signals are to come to it, whatever it waits for.
    pub fn hurry(self: &Arc<Self>, cage: &Arc<Cage>) {
        cage.signals.while_due(|| cage.crew.nudge_first());
        if cage.is_first_thread() {
            return; // It looks when this call returns.
        }
        self.stir(cage);
        if !cage.signals.claim_hurry() {
            return;
        }
        let own = cage.clone();
        let nurse = std::thread::Builder::new().spawn(move || {
            // A kick is lost when it comes just before the thread enters the kernel: repeat it.
            let mut pause = Duration::from_millis(1);
            while !own.has_ended() && !own.signals.is_noticed() {
                std::thread::sleep(pause);
                own.signals.while_due(|| own.crew.nudge_first());
                pause = MOST_PATIENCE.min(pause * 2);
            }
        });
        if nurse.is_err() {
            cage.signals.is_noticed();
        }
    }

    /// Sets the timer of a cage.
    ///
    /// # Errors
    /// `EAGAIN` when the host has no thread for it.
    pub fn set_timer(self: &Arc<Self>, cage: CageId, timer: Timer) -> Result<(), Errno> {
        let mut started = self.timing.lock().unwrap_or_else(|e| e.into_inner());
        if !*started {
            let (run, timers) = (Arc::downgrade(self), self.timers.clone());
            std::thread::Builder::new()
                .name("timers".to_owned())
                .spawn(move || {
                    loop {
                        let cage = timers.wait();
                        let Some(rt) = run.upgrade() else { return };
                        match rt.cage(cage) {
                            Some(cage) => rt.signal(&cage, Signal::ALARM),
                            // It ended while it was being set.
                            None => timers.set(cage, Timer::default()),
                        }
                    }
                })
                .map_err(|_| Errno::AGAIN)?;
            *started = true;
        }
        self.timers.set(cage, timer);
        Ok(())
    }

    /// Makes the threads of a cage look whether they may go on, where they run or wait in the
    /// runtime.
    pub fn stir(&self, cage: &Cage) {
        self.engine.increment_epoch();
        self.family.wake();
        if let Ok(image) = cage.image() {
            image.parking.rouse();
        }
    }

    /// Stops the handlers of an image that serves no more, in whatever they are.
    pub fn release_callers(self: &Arc<Self>, grate: CageId, image: &Arc<Image>) {
        self.engine.increment_epoch();
        self.family.wake();
        if !image.is_serving() {
            return;
        }
        // Nobody comes who is not there by now.
        let (callers, image) = (self.callers_of(grate), image.clone());
        let nurse = std::thread::Builder::new().spawn(move || {
            let started = std::time::Instant::now();
            while image.is_serving() && started.elapsed() < LAST_RITES {
                callers.iter().for_each(|cage| cage.crew.kick());
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        if let Err(error) = nurse {
            self.complain(format_args!(
                "cannot start a thread to stop handlers: {error}"
            ));
        }
    }

    /// Cages whose threads may be in handlers of a grate: it is one of theirs, or serves one of theirs.
    pub fn callers_of(&self, grate: CageId) -> Vec<Arc<Cage>> {
        let cages = self.cages.read().unwrap_or_else(|e| e.into_inner());
        let (mut callers, mut others) = (Vec::<Arc<Cage>>::new(), Vec::from_iter(cages.values()));
        let mut next = Some(grate);
        let mut seen = 0;
        while let Some(served_by) = next {
            others.retain(|cage| {
                let leads = cage.handlers.leads_to(served_by);
                callers.extend(leads.then(|| Arc::clone(cage)));
                !leads
            });
            next = callers.get(seen).map(|cage| cage.id);
            seen += 1;
        }
        callers
    }

    /// Takes a cage that runs no more off the lists.
    pub fn end(self: &Arc<Self>, cage: &Arc<Cage>, status: WaitStatus) {
        if !cage.claim_end() {
            return;
        }
        // First of all it serves no call any more: its end must not be seen, as the other end of
        // a pipe or by waiting, while it still does.
        let image = cage.image();
        cage.set_image(None);
        if let Ok(image) = image {
            self.release_callers(cage.id, &image);
        }
        // A fork that it was at comes to nothing.
        cage.crew.drop_pending();
        // Who waits for the cage may look at the other end of a pipe next.
        cage.fds().clear();
        cage.handlers.clear();
        let _ = cage.charge_handlers(0);
        self.cages
            .write()
            .unwrap_or_else(|e| e.into_inner())
            .remove(&cage.id);
        self.timers.set(cage.id, Timer::default());
        let mut told = None;
        self.family.end(cage.id, status, |parent| {
            told = self.cage(parent).map(|parent| {
                let fate = parent.signals.send(Signal::CHILD);
                (parent, fate)
            });
        });
        if let Some((parent, Fate::Comes)) = told {
            self.hurry(&parent);
        }
    }

    /// A cage for a line to the person at the terminal: its number, and the name of its program
    /// where that is a word of the command line. Any other name is a program's own choice, which
    /// goes out by its own writes or not at all.
    pub fn describe(&self, id: CageId, image: Option<&Image>) -> String {
        let name = image.and_then(|image| image.args.first());
        let words = self.words.get().map_or(&[][..], Vec::as_slice);
        match name.filter(|name| words.contains(name)) {
            Some(name) => format!("cage {id} ({})", String::from_utf8_lossy(name)),
            None => format!("cage {id}"),
        }
    }

    /// Tells the person at the terminal what went wrong, in a line without any text that a
    /// program chose: it gets past no grate. (See [`Cage::say`].)
    pub fn complain(&self, what: fmt::Arguments<'_>) {
        eprintln!("lind-wasm: {what}");
    }

    /// Ends the whole run because a program left the ground of strict Lind mode.
    pub fn strict_violation(&self, cage: &Cage, what: fmt::Arguments<'_>) -> ! {
        let described = self.describe(cage.id, cage.image().ok().as_deref());
        eprintln!("lind-wasm: strict Lind mode: {described}: {what}");
        std::process::exit(crate::EXIT_RUNTIME)
    }
}
