//! Memory that cages share (`MAP_SHARED`): parts of one object of the kernel, so that all of a
//! run's take one descriptor.

use crate::limits::{Account, Charge, Resource};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

/// The object, made when it is first needed.
#[derive(Debug, Default)]
pub struct SharedStore(Mutex<Option<Arc<Object>>>);

#[derive(Debug)]
struct Object {
    file: OwnedFd,
    /// Where the next part begins. No place is used twice: there are 2^63 bytes of them.
    end: Mutex<u64>,
}

/// A part of it, given back when the last mapping of it is gone.
#[derive(Debug)]
pub struct SharedPages {
    object: Arc<Object>,
    start: u64,
    len: u64,
    /// The number of the segment that it is, of System V shared memory.
    segment: Option<i32>,
    /// To the cage that made it.
    _charge: Charge,
}

impl SharedStore {
    /// `len` bytes, a multiple of the page size, all zero.
    ///
    /// # Errors
    /// `ENOMEM`; `ENFILE` when the host has no descriptor.
    pub fn allocate(&self, account: &Arc<Account>, len: u64) -> Result<Arc<SharedPages>, Errno> {
        self.part(account, len, None)
    }

    /// The same, for the segment of that number.
    ///
    /// # Errors
    /// As [`SharedStore::allocate`].
    pub fn allocate_segment(
        &self,
        account: &Arc<Account>,
        len: u64,
        id: i32,
    ) -> Result<Arc<SharedPages>, Errno> {
        self.part(account, len, Some(id))
    }

    fn part(
        &self,
        account: &Arc<Account>,
        len: u64,
        segment: Option<i32>,
    ) -> Result<Arc<SharedPages>, Errno> {
        let mut charge = Charge::new(account, Resource::Memory);
        charge.resize(len)?;
        let object = {
            let mut made = self.0.lock().unwrap_or_else(|e| e.into_inner());
            match &*made {
                Some(object) => object.clone(),
                None => made.insert(Arc::new(Object::new()?)).clone(),
            }
        };
        let start = {
            let mut end = object.end.lock().unwrap_or_else(|e| e.into_inner());
            let next = end.checked_add(len).ok_or(Errno::NOMEM)?;
            // Only ever longer: an access beyond its end would be SIGBUS.
            rustix::fs::ftruncate(&object.file, next).map_err(|_| Errno::NOMEM)?;
            std::mem::replace(&mut *end, next)
        };
        Ok(Arc::new(SharedPages {
            object,
            start,
            len,
            segment,
            _charge: charge,
        }))
    }
}

impl Object {
    fn new() -> Result<Self, Errno> {
        let file = rustix::fs::memfd_create("cage-shared", rustix::fs::MemfdFlags::CLOEXEC)
            .map_err(|_| Errno::NFILE)?;
        Ok(Self {
            file,
            end: Mutex::new(0),
        })
    }
}

impl SharedPages {
    /// The kernel's object, never cut short.
    pub fn file(&self) -> &OwnedFd {
        &self.object.file
    }

    /// How many bytes they are.
    pub fn bytes(&self) -> u64 {
        self.len
    }

    /// The number of the segment that they are, if they are one.
    pub fn segment(&self) -> Option<i32> {
        self.segment
    }

    /// Where in the object these pages begin.
    pub fn start(&self) -> u64 {
        self.start
    }
}

impl Drop for SharedPages {
    fn drop(&mut self) {
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // Failing, they stay taken until the run ends.
        let _ = rustix::fs::fallocate(&self.object.file, hole, self.start, self.len);
    }
}
