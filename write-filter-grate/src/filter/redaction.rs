//! What is redacted, and every place where bytes go out.

use super::outlet::{Kind, Outlet};
use super::peers;
use super::regular::{Opening, Regular};
use super::report::{Report, To};
use super::{Known, filter};
use grate_rs::constants::fs;
use grate_rs::kernel::{Inode, Stat};
use grate_rs::sockets::is_stream;
use grate_rs::{CageFd, Descriptors, Pause, getcageid};
use redact::{Event, Filter, Place, RuleSet};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::time::Duration;

/// How often is looked whether something has been held for too long.
const TICK: Duration = Duration::from_millis(20);

/// Where a descriptor that may be written leads.
#[derive(Clone, Debug)]
pub enum Way {
    /// Bytes stream out.
    Out(Arc<Outlet>),
    /// A regular file.
    File(Arc<Opening>),
}

/// What a way out is, for the rules and the report.
#[derive(Clone, Debug)]
pub enum Spot {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A pipe, a terminal, or the like.
    Pipe,
    /// A UNIX socket.
    Unix,
    /// A socket of the network.
    Socket,
    /// A regular file, by its absolute path; by what is known of it, where that is not known.
    File(Arc<[u8]>),
}

impl Spot {
    fn place(&self) -> Place<'_> {
        match self {
            Self::Stdout => Place::Stdout,
            Self::Stderr => Place::Stderr,
            Self::Pipe => Place::Pipe,
            Self::Unix => Place::Unix,
            Self::Socket => Place::Socket(None),
            Self::File(path) => Place::File(path),
        }
    }

    fn of(fd: CageFd, stat: &Stat) -> Self {
        if stat.mode & fs::S_IFMT != fs::S_IFSOCK {
            Self::Pipe
        } else if peers::is_unix(fd) {
            Self::Unix
        } else {
            Self::Socket
        }
    }

    fn told(&self, fd: CageFd, peer: Option<SocketAddr>) -> To {
        match self {
            Self::Stdout => To::Stream("stdout"),
            Self::Stderr => To::Stream("stderr"),
            Self::Pipe => To::Stream("pipe"),
            Self::Unix => To::Stream("unix socket"),
            Self::Socket => match peer.or_else(|| peers::peer(fd)) {
                Some(peer) => To::Peer(peer),
                None => To::Stream("socket"),
            },
            Self::File(path) => To::Path(String::from_utf8_lossy(path).into_owned()),
        }
    }
}

/// The rules that apply to a way out, as indices.
pub type Applying = BTreeSet<usize>;

/// The rules, and all ways out.
#[derive(Debug)]
pub struct Redaction {
    rules: RuleSet,
    /// Compiled so far.
    filters: Mutex<BTreeMap<Applying, Arc<Filter>>>,
    /// Whether any rule tells sockets apart by their peers.
    names_peers: bool,
    /// Whether any rule tells files apart by their paths.
    names_paths: bool,
    report: Option<Report>,
    hold: Duration,
    /// By inode: two descriptions of one pipe or file lead to one place.
    outlets: Mutex<HashMap<Inode, Weak<Outlet>>>,
    files: Mutex<HashMap<Inode, Weak<Regular>>>,
    /// Those of the standard streams, which stay: one that was closed may be opened by a name.
    standard: Mutex<Vec<Arc<Outlet>>>,
    /// Held while it is found out which descriptors are the last of their kind.
    endings: Mutex<()>,
    /// Matches by rule.
    found: Mutex<Vec<u64>>,
    /// Bytes that were looked at.
    seen: AtomicU64,
    /// Whether the program is about to end.
    ending: Mutex<bool>,
    ended: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Redaction {
    /// None of the ways is known yet.
    pub fn new(rules: RuleSet, hold: Duration, report: Option<Report>) -> Self {
        let any = |test: fn(&redact::Scope) -> bool| {
            let mut scopes = rules.rules().iter().map(redact::Rule::scope);
            scopes.any(test)
        };
        Self {
            found: Mutex::new(vec![0; rules.rules().len()]),
            names_peers: any(redact::Scope::names_peers),
            names_paths: any(redact::Scope::names_paths),
            rules,
            filters: Mutex::default(),
            report,
            hold,
            seen: AtomicU64::new(0),
            outlets: Mutex::default(),
            files: Mutex::default(),
            standard: Mutex::default(),
            endings: Mutex::default(),
            ending: Mutex::default(),
            ended: Condvar::new(),
        }
    }

    /// Whether any rule tells files apart by their paths.
    pub fn names_paths(&self) -> bool {
        self.names_paths
    }

    /// Whether the paths of files have to be known.
    pub fn needs_paths(&self) -> bool {
        self.names_paths || self.report.is_some()
    }

    /// The rules for a file at this path; where that is not known, those for any file.
    pub fn applying_to(&self, path: Option<&[u8]>) -> Applying {
        match path {
            Some(path) => self.rules.at(Place::File(path)),
            None => {
                let rules = self.rules.rules().iter().enumerate();
                rules
                    .filter(|(_, rule)| rule.scope().has_files())
                    .map(|(index, _)| index)
                    .collect()
            }
        }
    }

    /// Whether one of the rules wants files to be written at their ends only.
    pub fn is_append_only(&self, applying: &Applying) -> bool {
        let rules = self.rules.rules();
        applying.iter().any(|&rule| rules[rule].append_only())
    }

    /// The filter of some rules.
    pub fn filter(&self, applying: &Applying) -> Arc<Filter> {
        let mut filters = lock(&self.filters);
        if let Some(filter) = filters.get(applying) {
            return Arc::clone(filter);
        }
        let filter = self.rules.filter_of(applying);
        filters.insert(applying.clone(), Arc::clone(&filter));
        filter
    }

    /// The filter for what goes to a peer; `None` where it is the same for all.
    pub fn filter_to(&self, fd: CageFd, peer: Option<SocketAddr>) -> Option<Arc<Filter>> {
        if !self.names_peers {
            return None;
        }
        let peer = peer.or_else(|| peers::peer(fd));
        Some(self.filter(&self.rules.at(Place::Socket(peer))))
    }

    /// The way out of a descriptor that is no regular file's, or of a standard stream. `spot` says what it is, where that can't be seen.
    pub fn outlet(
        &self,
        fd: CageFd,
        stat: &Stat,
        own: Option<CageFd>,
        spot: Option<Spot>,
    ) -> Arc<Outlet> {
        let mut outlets = lock(&self.outlets);
        let known = outlets.get(&stat.inode()).and_then(Weak::upgrade);
        // What is at hand may be a standard stream that has been opened once more.
        if let (Some(outlet), None) = (&known, &spot) {
            return Arc::clone(outlet);
        }
        let spot = spot.unwrap_or_else(|| Spot::of(fd, stat));
        let applying = self.rules.at(spot.place());
        let outlet = self.new_outlet(&mut outlets, fd, stat, [own, None], spot, applying);
        if own.is_some() {
            lock(&self.standard).push(Arc::clone(&outlet));
        }
        outlet
    }

    /// Whether a standard stream leads to that file. What goes there by another way as well would stand
    /// beside what was judged in the stream, which can't be read.
    pub fn is_streamed(&self, inode: Inode) -> bool {
        let outlet = lock(&self.outlets).get(&inode).and_then(Weak::upgrade);
        outlet.is_some_and(|outlet| !outlet.is_appended())
    }

    /// The way to the end of a regular file that may be written there only; `own` opens it for the
    /// grate if it is not open yet, to add to it and, where that can be, to read it and write it
    /// anywhere.
    ///
    /// # Errors
    /// Those of `own`.
    pub fn appended<E>(
        &self,
        fd: CageFd,
        stat: &Stat,
        path: Arc<[u8]>,
        applying: &Applying,
        own: impl FnOnce() -> Result<(CageFd, Option<CageFd>), E>,
    ) -> Result<Arc<Outlet>, E> {
        let (mut outlets, spot) = (lock(&self.outlets), Spot::File(path));
        let is_open = outlets
            .get(&stat.inode())
            .is_some_and(|outlet| outlet.strong_count() > 0);
        let own = match is_open {
            true => [None; 2],
            false => {
                let (own, mend) = own()?;
                [Some(own), mend]
            }
        };
        let outlet = self.new_outlet(&mut outlets, fd, stat, own, spot, applying.clone());
        if let [Some(_), None] = own {
            outlet.note_name();
        }
        Ok(outlet)
    }

    fn new_outlet(
        &self,
        outlets: &mut HashMap<Inode, Weak<Outlet>>,
        fd: CageFd,
        stat: &Stat,
        [own, mend]: [Option<CageFd>; 2],
        spot: Spot,
        applying: Applying,
    ) -> Arc<Outlet> {
        if let Some(outlet) = outlets.get(&stat.inode()).and_then(Weak::upgrade) {
            outlet.add_rules(self, fd, &applying);
            return outlet;
        }
        outlets.retain(|_, outlet| outlet.strong_count() > 0);
        let filter = self.filter(&applying);
        let outlet = Arc::new(Outlet::new(
            spot,
            applying,
            &filter,
            kind(fd, stat),
            own,
            mend,
        ));
        outlets.insert(stat.inode(), Arc::downgrade(&outlet));
        outlet
    }

    /// The way into a regular file; `own` opens it for the grate if it is not open yet. `None`
    /// where no rule applies.
    ///
    /// # Errors
    /// Those of `own`.
    pub fn file<E>(
        &self,
        inode: Inode,
        path: Arc<[u8]>,
        applying: &Applying,
        own: impl FnOnce() -> Result<CageFd, E>,
    ) -> Result<Option<Arc<Regular>>, E> {
        let mut files = lock(&self.files);
        if let Some(file) = files.get(&inode).and_then(Weak::upgrade) {
            // It may have been opened by another name.
            file.add_rules(self, applying);
            return Ok(Some(file));
        }
        files.retain(|_, file| file.strong_count() > 0);
        if applying.is_empty() {
            return Ok(None);
        }
        let file = Arc::new(Regular::new(self, Spot::File(path), applying, own()?));
        files.insert(inode, Arc::downgrade(&file));
        Ok(Some(file))
    }

    /// The outlets that nothing leads to any more once these descriptors are gone, each with one
    /// of them. `forget` takes them out of the table.
    pub fn last_of(&self, gone: &[CageFd], forget: impl FnOnce()) -> Vec<(CageFd, Arc<Outlet>)> {
        let _order = lock(&self.endings);
        let table = &filter().known;
        let mut last: Vec<(CageFd, Arc<Outlet>)> = Vec::new();
        for &fd in gone {
            let Some(Way::Out(outlet)) = table.get(fd).and_then(|known| known.way) else {
                continue;
            };
            let is_new = !last.iter().any(|(_, other)| Arc::ptr_eq(other, &outlet));
            if is_new
                && descriptors_of(table, &outlet)
                    .iter()
                    .all(|fd| gone.contains(fd))
            {
                last.push((fd, outlet));
            }
        }
        forget();
        last
    }

    /// The pause between two looks at the program: lets out what was held for too long.
    pub fn pause(&self) -> Pause {
        let ending = lock(&self.ending);
        let (ending, _) = self
            .ended
            .wait_timeout(ending, TICK)
            .unwrap_or_else(|e| e.into_inner());
        if *ending {
            return Pause::Forever;
        }
        drop(ending);
        let outlets: Vec<_> = lock(&self.outlets)
            .values()
            .filter_map(Weak::upgrade)
            .collect();
        for outlet in outlets {
            outlet.flush_old(self.hold, || {
                descriptors_of(&filter().known, &outlet).first().copied()
            });
        }
        Pause::Over
    }

    /// Says that the program is about to end, so that nobody waits longer for it than needed.
    pub fn announce_end(&self) {
        *lock(&self.ending) = true;
        self.ended.notify_all();
    }

    /// Lets out what programs have left that were killed.
    pub fn finish(&self) {
        let outlets: Vec<_> = lock(&self.outlets)
            .values()
            .filter_map(Weak::upgrade)
            .collect();
        outlets.iter().for_each(|outlet| outlet.finish_alone());
    }

    /// Counts bytes that were looked at.
    pub fn note_seen(&self, bytes: usize) {
        self.seen.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts and reports one match.
    pub fn note_event(&self, event: &Event, source: &Source<'_>) {
        lock(&self.found)[event.rule] += 1;
        if let Some(report) = &self.report {
            let to = source.spot.told(source.fd, source.peer);
            report.note(source.fd.cage, self.name(event.rule), to, event);
        }
    }

    /// The name of a rule.
    pub fn name(&self, rule: usize) -> &str {
        self.rules.rules()[rule].name()
    }

    /// A line about what was found.
    pub fn summary(&self) -> String {
        let found = lock(&self.found);
        let rules = self.rules.rules().iter().zip(found.iter());
        let list: Vec<_> = rules
            .filter(|(_, count)| **count > 0)
            .map(|(rule, count)| format!("{} {count}", rule.name()))
            .collect();
        let seen = self.seen.load(Ordering::Relaxed);
        if list.is_empty() {
            format!("no secrets found in {seen} bytes")
        } else {
            format!("secrets found: {}, in {seen} bytes", list.join(", "))
        }
    }
}

/// Whose bytes they are, and where they go.
#[derive(Clone, Copy, Debug)]
pub struct Source<'s> {
    /// The descriptor.
    pub fd: CageFd,
    /// What it leads to.
    pub spot: &'s Spot,
    /// The peer that a message names.
    pub peer: Option<SocketAddr>,
}

fn descriptors_of(table: &Descriptors<Known>, outlet: &Arc<Outlet>) -> Vec<CageFd> {
    table.all_where(
        |known| matches!(&known.way, Some(Way::Out(other)) if Arc::ptr_eq(other, outlet)),
    )
}

/// Whether writes are messages: those of all sockets but stream sockets.
fn kind(fd: CageFd, stat: &Stat) -> Kind {
    if stat.mode & fs::S_IFMT != fs::S_IFSOCK {
        return Kind::Bytes;
    }
    match is_stream(fd) {
        Ok(false) => Kind::Messages,
        _ => Kind::Bytes,
    }
}

/// The grate's own descriptor of a standard stream that it shares with the program.
pub fn own_standard(fd: i32) -> CageFd {
    CageFd {
        cage: getcageid(),
        fd,
    }
}
