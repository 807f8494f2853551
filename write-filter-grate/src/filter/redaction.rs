//! What is redacted, and every place where bytes go out.

use super::outlet::{Kind, Outlet};
use super::regular::Regular;
use super::{Known, filter};
use grate_rs::constants::{SYS_GETSOCKOPT, fs, net};
use grate_rs::kernel::{self, Inode, Stat, int};
use grate_rs::{CageFd, Descriptors, Pause, getcageid, own_buffer};
use redact::{Filter, Stream};
use std::collections::HashMap;
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
    File(Arc<Regular>),
}

/// The rules, and all ways out.
#[derive(Debug)]
pub struct Redaction {
    rules: Arc<Filter>,
    hold: Duration,
    /// By inode: two descriptions of one pipe or file lead to one place.
    outlets: Mutex<HashMap<Inode, Weak<Outlet>>>,
    files: Mutex<HashMap<Inode, Weak<Regular>>>,
    /// Held while it is found out which descriptors are the last of their kind.
    endings: Mutex<()>,
    /// Matches by rule.
    found: Mutex<Vec<u64>>,
    /// Whether the program is about to end.
    ending: Mutex<bool>,
    ended: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Redaction {
    /// None of the ways is known yet.
    pub fn new(rules: Arc<Filter>, hold: Duration) -> Self {
        Self {
            found: Mutex::new(vec![0; rules.rules().len()]),
            rules,
            hold,
            outlets: Mutex::default(),
            files: Mutex::default(),
            endings: Mutex::default(),
            ending: Mutex::default(),
            ended: Condvar::new(),
        }
    }

    /// The way out of a descriptor that is no regular file's.
    pub fn outlet(&self, fd: CageFd, stat: &Stat, own: Option<CageFd>) -> Arc<Outlet> {
        let mut outlets = lock(&self.outlets);
        if let Some(outlet) = outlets.get(&stat.inode()).and_then(Weak::upgrade) {
            return outlet;
        }
        outlets.retain(|_, outlet| outlet.strong_count() > 0);
        let outlet = Arc::new(Outlet::new(&self.rules, kind(fd, stat), own));
        outlets.insert(stat.inode(), Arc::downgrade(&outlet));
        outlet
    }

    /// The way into a regular file; `own` opens it for the grate if it is not open yet.
    ///
    /// # Errors
    /// Those of `own`.
    pub fn file<E>(
        &self,
        inode: Inode,
        own: impl FnOnce() -> Result<CageFd, E>,
    ) -> Result<Arc<Regular>, E> {
        let mut files = lock(&self.files);
        if let Some(file) = files.get(&inode).and_then(Weak::upgrade) {
            return Ok(file);
        }
        files.retain(|_, file| file.strong_count() > 0);
        let file = Arc::new(Regular::new(&self.rules, own()?));
        files.insert(inode, Arc::downgrade(&file));
        Ok(file)
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

    /// Counts what a stream has found.
    pub fn note_events(&self, stream: &mut Stream) {
        let mut found = lock(&self.found);
        for event in stream.take_events() {
            found[event.rule] += 1;
        }
    }

    /// Counts one match.
    pub fn note_event(&self, event: &redact::Event) {
        lock(&self.found)[event.rule] += 1;
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
        if list.is_empty() {
            "no secrets found".to_owned()
        } else {
            format!("secrets found: {}", list.join(", "))
        }
    }
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
    let (mut kind, mut len) = ([0; 4], 4u32.to_le_bytes());
    let args = [
        fd.arg(),
        int(fd.cage, net::SOL_SOCKET),
        int(fd.cage, net::SO_TYPE),
        own_buffer(kind.as_mut_ptr()),
        own_buffer(len.as_mut_ptr()),
    ];
    match kernel::call(SYS_GETSOCKOPT, fd.cage, &args) {
        Ok(_) if i32::from_le_bytes(kind) != net::SOCK_STREAM => Kind::Messages,
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
