//! System V shared memory: the segments of a run, which its cages find by key and number. No other
//! run sees them, and they end with theirs.

use crate::shared::SharedPages;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

/// The key of a segment that is not to be found by one (`IPC_PRIVATE`).
pub const PRIVATE: i32 = 0;

/// A segment.
#[derive(Debug)]
pub struct Segment {
    /// [`PRIVATE`], or what it is found by.
    pub key: i32,
    /// Bytes that were asked for.
    pub size: u64,
    /// Access, nine bits as of a file.
    pub mode: u32,
    /// User that it was given to.
    pub uid: u32,
    /// Group that it was given to.
    pub gid: u32,
    /// Cage that made it.
    pub maker: i32,
    /// Cage that last attached or detached it, or 0.
    pub last: i32,
    /// Times of the last attaching, detaching and change, in seconds since 1970, or 0.
    pub attached: u64,
    /// See above.
    pub detached: u64,
    /// See above.
    pub changed: u64,
    pages: Pages,
}

/// What lies behind a segment.
#[derive(Debug)]
enum Pages {
    Kept(Arc<SharedPages>),
    /// Removed: there as long as it is attached.
    Removed(Weak<SharedPages>),
}

impl Segment {
    /// A segment without any attachment.
    pub fn new(key: i32, size: u64, mode: u32, maker: i32, pages: Arc<SharedPages>) -> Self {
        Self {
            key,
            size,
            mode,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            maker,
            last: 0,
            attached: 0,
            detached: 0,
            changed: now(),
            pages: Pages::Kept(pages),
        }
    }

    /// The memory; `None` where it is gone.
    pub fn pages(&self) -> Option<Arc<SharedPages>> {
        match &self.pages {
            Pages::Kept(pages) => Some(pages.clone()),
            Pages::Removed(pages) => pages.upgrade(),
        }
    }

    fn is_gone(&self) -> bool {
        matches!(&self.pages, Pages::Removed(pages) if pages.strong_count() == 0)
    }

    /// Whether it is to go with its last attachment.
    pub fn is_removed(&self) -> bool {
        matches!(&self.pages, Pages::Removed(_))
    }
}

/// The segments of a run.
#[derive(Debug, Default)]
pub struct Segments(Mutex<Table>);

/// By number.
#[derive(Debug, Default)]
pub struct Table {
    segments: BTreeMap<i32, Segment>,
    last: i32,
}

impl Segments {
    /// Keeps others from them.
    pub fn lock(&self) -> MutexGuard<'_, Table> {
        let mut table = self.0.lock().unwrap_or_else(|e| e.into_inner());
        table.segments.retain(|_, segment| !segment.is_gone());
        table
    }
}

impl Table {
    /// The number of the segment with that key, if there is one that was not removed.
    pub fn find(&self, key: i32) -> Option<i32> {
        let mut segments = self.segments.iter();
        let found = segments.find(|(_, segment)| segment.key == key && key != PRIVATE);
        found.map(|(id, _)| *id)
    }

    /// The segment of that number.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn get(&mut self, id: i32) -> Result<&mut Segment, Errno> {
        self.segments.get_mut(&id).ok_or(Errno::INVAL)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.segments.len()
    }

    /// A number that no segment had.
    ///
    /// # Errors
    /// `ENOSPC` when all are used up.
    pub fn new_id(&mut self) -> Result<i32, Errno> {
        self.last = self.last.checked_add(1).ok_or(Errno::NOSPC)?;
        Ok(self.last)
    }

    /// Lists a segment under a number of [`Table::new_id`]'s.
    pub fn add(&mut self, id: i32, segment: Segment) {
        self.segments.insert(id, segment);
    }

    /// Has the segment go with its last attachment. No key finds it any more.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn remove(&mut self, id: i32) -> Result<(), Errno> {
        let segment = self.get(id)?;
        if let Pages::Kept(pages) = &segment.pages {
            segment.pages = Pages::Removed(Arc::downgrade(pages));
            segment.key = PRIVATE;
            segment.changed = now();
        }
        Ok(())
    }

    /// Notes that a cage attached a segment, if that is still there.
    pub fn note_attached(&mut self, id: i32, by: i32) {
        if let Some(segment) = self.segments.get_mut(&id) {
            (segment.last, segment.attached) = (by, now());
        }
    }

    /// Notes that a cage detached a segment, if that is still there.
    pub fn note_detached(&mut self, id: i32, by: i32) {
        if let Some(segment) = self.segments.get_mut(&id) {
            (segment.last, segment.detached) = (by, now());
        }
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |time| time.as_secs())
}
