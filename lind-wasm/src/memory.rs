//! A cage's linear memory, seen from the host: checked access to addresses that guests name.
//!
//! Every address from a guest passes through [`GuestMemory`], which answers with bytes, with a
//! [`Span`] to hand to the kernel, or with `EFAULT`.

use crate::limits::{Account, Charge, Resource};
use crate::racy;
use crate::regions::{Backing, PAGE, Prot, Region, Regions, SPACE_END, WASM_PAGE, WASM_PAGES_MAX};
use crate::shared::SharedPages;
use crate::spread::Spread;
use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};
use std::cell::UnsafeCell;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard};
use wasmtime::{Engine, MemoryType, SharedMemory};

/// Bytes of scratch space, which lies right above the 32-bit address space.
const SCRATCH_LEN: usize = 256 * 1024;
/// Lowest address that `brk` must leave for `mmap`, as on Lind.
const BRK_LIMIT: u64 = 1 << 31;

/// How addresses of a memory are handed out.
enum Plan {
    /// A program that grows its memory by itself (WASI): all of its current size is accessible.
    Linear(Mutex<Charge>),
    /// A Lind program: the whole space exists from the start, `mmap` and `brk` open parts of it.
    Mapped(Box<Space>),
}

/// An address space.
struct Space {
    /// Whoever changes what is mapped.
    mapped: RwLock<Mapped>,
    /// The regions for those who look up an address, who are many.
    granted: Spread<Arc<Regions>>,
}

struct Mapped {
    regions: Arc<Regions>,
    brk_start: u64,
    brk: u64,
    /// What the regions take of the cage's account.
    areas: Charge,
    bytes: Charge,
    /// The host's pages are not known to be as `regions` would say.
    lost: bool,
}

/// The memory of one image of a cage, shared by its main instance and its workers.
pub struct GuestMemory {
    shared: SharedMemory,
    /// What `lind-get-memory-base` answers: 0, or the fake base of `--strict-lind`.
    base: u64,
    plan: Plan,
    /// Room for arguments that the WASI layer builds. Out of reach of the guest's own loads and
    /// stores, but readable for grates like the rest of the cage.
    scratch: Mutex<Scratch>,
}

/// Scratch space: a block for each thread, one above the other.
#[derive(Default)]
struct Scratch {
    /// None is ever dropped or moved before the memory is.
    blocks: Vec<Box<[u64]>>,
    /// Those that no thread has.
    free: Vec<usize>,
    /// For all but the first.
    charge: Option<Charge>,
}

type Pinned<'a> = Option<RwLockReadGuard<'a, Arc<Regions>>>;

impl std::fmt::Debug for GuestMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuestMemory")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

/// Bytes of a guest's memory, for the kernel to read or fill. Valid as long as the memory is
/// borrowed: linear memory never moves or shrinks, and a page that the guest unmaps meanwhile
/// makes the kernel answer `EFAULT`.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    ptr: *mut u8,
    len: usize,
    memory: std::marker::PhantomData<&'a GuestMemory>,
}

/// A memory in which nobody changes what is mapped meanwhile.
#[derive(Clone, Copy)]
pub struct Held<'a> {
    memory: &'a GuestMemory,
    pinned: &'a Pinned<'a>,
}

impl Held<'_> {
    fn host(self, addr: u64, len: u64, need: Prot) -> Result<*mut u8, Errno> {
        self.memory.pinned_host(self.pinned, addr, len, need)
    }

    /// As [`GuestMemory::read`].
    ///
    /// # Errors
    /// As there.
    pub fn read(self, addr: u64, out: &mut [u8]) -> Result<(), Errno> {
        let from = self.host(addr, out.len() as u64, Prot::READ)?;
        // SAFETY: that many bytes at `from` are readable while it is held; `out` is host memory. No
        // reference to guest memory is ever made.
        unsafe { racy::copy(from, out.as_mut_ptr(), out.len()) }
        Ok(())
    }

    /// As [`GuestMemory::write`].
    ///
    /// # Errors
    /// As there.
    pub fn write(self, addr: u64, bytes: &[u8]) -> Result<(), Errno> {
        let to = self.host(addr, bytes.len() as u64, Prot::WRITE)?;
        // SAFETY: as in `read`, with the direction reversed.
        unsafe { racy::copy(bytes.as_ptr(), to, bytes.len()) }
        Ok(())
    }
}

impl Span<'_> {
    /// Host address of the first byte.
    pub fn ptr(&self) -> *mut u8 {
        self.ptr
    }
    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl GuestMemory {
    /// The memory of a Lind program: `min_pages` wasm pages mapped at address 0, the rest of the
    /// 4 GiB inaccessible until `mmap` or `brk` opens it.
    ///
    /// # Errors
    /// When the host has no room, or the account a limit for it.
    pub fn mapped(
        engine: &Engine,
        min_pages: u64,
        base: u64,
        account: &Arc<Account>,
    ) -> anyhow::Result<Self> {
        let shared = SharedMemory::new(
            engine,
            MemoryType::shared(WASM_PAGES_MAX as u32, WASM_PAGES_MAX as u32),
        )?;
        let initial = min_pages * WASM_PAGE;
        let mut regions = Regions::default();
        if initial > 0 {
            regions.map(Region::new(0..initial, Prot::all(), Backing::Private));
        }
        let memory = Self {
            shared,
            base,
            plan: Plan::Mapped(Box::new(Space {
                mapped: RwLock::new(Mapped {
                    regions: Arc::default(),
                    brk_start: initial,
                    brk: initial,
                    areas: Charge::new(account, Resource::Mappings),
                    bytes: Charge::new(account, Resource::Memory),
                    lost: false,
                }),
                granted: Spread::new(Arc::default()),
            })),
            scratch: Mutex::default(),
        };
        let mut mapped = write(&memory.space()?.mapped);
        memory.change(&mut mapped, regions, || {
            // All pages are made alike, those that the engine has made too: the kernel counts
            // neighbours of different kinds as two areas.
            memory.discard_host(0..SPACE_END)?;
            memory.protect_host(0..initial, Prot::all())
        })?;
        drop(mapped);
        Ok(memory)
    }

    /// The memory of a program that grows it by itself, with its declared limits in wasm pages.
    ///
    /// # Errors
    /// As [`GuestMemory::mapped`].
    pub fn linear(
        engine: &Engine,
        min_pages: u64,
        max_pages: u64,
        account: &Arc<Account>,
    ) -> anyhow::Result<Self> {
        let mut charge = Charge::new(account, Resource::Memory);
        charge.resize(min_pages * WASM_PAGE)?;
        let shared = SharedMemory::new(
            engine,
            MemoryType::shared(u32::try_from(min_pages)?, u32::try_from(max_pages)?),
        )?;
        Ok(Self {
            shared,
            base: 0,
            plan: Plan::Linear(Mutex::new(charge)),
            scratch: Mutex::new(Scratch {
                blocks: vec![scratch_block()],
                free: Vec::new(),
                charge: Some(Charge::new(account, Resource::Memory)),
            }),
        })
    }

    /// Gives a thread a block of the scratch space, the first being the first thread's.
    ///
    /// # Errors
    /// `ENOMEM` for a memory without scratch space, and when there is no room.
    pub fn take_scratch(&self) -> Result<usize, Errno> {
        let mut scratch = self.scratch.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(block) = scratch.free.pop() {
            return Ok(block);
        }
        let count = scratch.blocks.len();
        let charge = scratch.charge.as_mut().ok_or(Errno::NOMEM)?;
        charge.resize((count * SCRATCH_LEN) as u64)?;
        scratch.blocks.push(scratch_block());
        Ok(count)
    }

    /// Gives it back.
    pub fn give_scratch(&self, block: usize) {
        let mut scratch = self.scratch.lock().unwrap_or_else(|e| e.into_inner());
        scratch.free.push(block);
    }

    /// The engine's handle, to import into instances.
    pub fn shared(&self) -> &SharedMemory {
        &self.shared
    }

    /// The address of offset 0 as guests see it.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Address of byte `offset` of a block of the scratch space of a memory made by
    /// [`GuestMemory::linear`].
    pub fn scratch(block: usize, offset: usize) -> u64 {
        SPACE_END + (block * SCRATCH_LEN + offset) as u64
    }

    /// Bytes of a block of scratch space.
    pub const fn scratch_len() -> usize {
        SCRATCH_LEN
    }

    /// Puts bytes where the cage and its grates can read them while `work` goes on, which gets
    /// their address. `block` is that of the thread's scratch space.
    ///
    /// # Errors
    /// `ENOMEM` when there is no room for them.
    pub fn lend<T>(
        &self,
        block: usize,
        bytes: &[u8],
        work: impl FnOnce(u64) -> T,
    ) -> Result<T, Errno> {
        let len = bytes.len() as u64;
        match &self.plan {
            Plan::Linear(_) => {
                let at = Self::scratch(block, 0);
                self.write(at, bytes)?;
                Ok(work(at))
            }
            Plan::Mapped(_) => {
                let start = self.map(None, len, Prot::READ | Prot::WRITE, Backing::Private)?;
                let at = self.base + start;
                let result = self.write(at, bytes).map(|()| work(at));
                self.unmap(start, len)?;
                result
            }
        }
    }

    /// The offset that the program's own addresses end at.
    pub fn end(&self) -> u64 {
        match &self.plan {
            Plan::Mapped(_) => SPACE_END,
            Plan::Linear(_) => self.shared.data_size() as u64,
        }
    }

    fn host(&self, offset: u64) -> *mut u8 {
        let data: &[UnsafeCell<u8>] = self.shared.data();
        data.as_ptr()
            .cast_mut()
            .cast::<u8>()
            .wrapping_add(offset as usize)
    }

    /// The longest accessible start of the `len` bytes at `addr`; at least one byte unless `len`
    /// is 0. For calls that Linux lets stop short in the middle of a buffer.
    ///
    /// # Errors
    /// `EFAULT` when not even the first byte is accessible.
    pub fn prefix(&self, addr: u64, len: u64, need: Prot) -> Result<Span<'_>, Errno> {
        if len == 0 {
            return Ok(self.span(std::ptr::null_mut(), 0));
        }
        let offset = addr.checked_sub(self.base).ok_or(Errno::FAULT)?;
        if offset >= SPACE_END {
            return self.scratch_prefix(offset - SPACE_END, len);
        }
        let accessible = match &self.plan {
            Plan::Linear(_) => (self.shared.data_size() as u64).saturating_sub(offset),
            Plan::Mapped(space) => space.granted.read().accessible_prefix(offset, len, need),
        }
        .min(len);
        if accessible == 0 {
            return Err(Errno::FAULT);
        }
        Ok(self.span(self.host(offset), accessible as usize))
    }

    fn scratch_prefix(&self, offset: u64, len: u64) -> Result<Span<'_>, Errno> {
        const LEN: u64 = SCRATCH_LEN as u64;
        let mut scratch = self.scratch.lock().unwrap_or_else(|e| e.into_inner());
        let block = usize::try_from(offset / LEN).map_err(|_| Errno::FAULT)?;
        let block = scratch.blocks.get_mut(block).ok_or(Errno::FAULT)?;
        let at = offset % LEN;
        let ptr = block.as_mut_ptr().cast::<u8>().wrapping_add(at as usize);
        Ok(self.span(ptr, len.min(LEN - at) as usize))
    }

    fn span(&self, ptr: *mut u8, len: usize) -> Span<'_> {
        Span {
            ptr,
            len,
            memory: std::marker::PhantomData,
        }
    }

    /// All `len` bytes at `addr`.
    ///
    /// # Errors
    /// `EFAULT` when any byte of them lacks the access.
    pub fn exact(&self, addr: u64, len: u64, need: Prot) -> Result<Span<'_>, Errno> {
        let span = self.prefix(addr, len, need)?;
        if span.len as u64 == len {
            Ok(span)
        } else {
            Err(Errno::FAULT)
        }
    }

    /// Keeps other threads from changing what is mapped while host code copies: a fault in host
    /// code would end the process. `None` for a memory whose pages never go away.
    fn pin(&self) -> Pinned<'_> {
        match &self.plan {
            Plan::Mapped(space) => Some(space.granted.read()),
            Plan::Linear(_) => None,
        }
    }

    /// The host address of `len` accessible bytes, good as long as `pinned` is held.
    fn pinned_host(
        &self,
        pinned: &Pinned<'_>,
        addr: u64,
        len: u64,
        need: Prot,
    ) -> Result<*mut u8, Errno> {
        match pinned {
            Some(regions) if len > 0 => {
                let offset = addr.checked_sub(self.base).ok_or(Errno::FAULT)?;
                if regions.accessible_prefix(offset, len, need) == len {
                    Ok(self.host(offset))
                } else {
                    Err(Errno::FAULT)
                }
            }
            _ => {
                let span = self.prefix(addr, len, need)?;
                if span.len as u64 == len {
                    Ok(if len == 0 {
                        std::ptr::dangling_mut()
                    } else {
                        span.ptr
                    })
                } else {
                    Err(Errno::FAULT)
                }
            }
        }
    }

    fn hold<T>(&self, work: impl FnOnce(Held<'_>) -> T) -> T {
        let pinned = &self.pin();
        work(Held {
            memory: self,
            pinned,
        })
    }

    /// Copies bytes out of the guest.
    ///
    /// # Errors
    /// `EFAULT`; then `out` is unchanged.
    pub fn read(&self, addr: u64, out: &mut [u8]) -> Result<(), Errno> {
        self.hold(|held| held.read(addr, out))
    }

    /// Copies bytes into the guest.
    ///
    /// # Errors
    /// `EFAULT`; then nothing was written.
    pub fn write(&self, addr: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.hold(|held| held.write(addr, bytes))
    }

    /// As [`GuestMemory::read`], into parts that are filled one after the other, `len` bytes in all.
    ///
    /// # Errors
    /// As [`GuestMemory::read`].
    pub fn read_parts<'a>(
        &self,
        addr: u64,
        len: usize,
        parts: impl Iterator<Item = &'a mut [u8]>,
    ) -> Result<(), Errno> {
        let pinned = self.pin();
        let from = self.pinned_host(&pinned, addr, len as u64, Prot::READ)?;
        let mut done = 0;
        for part in parts {
            let count = part.len().min(len - done);
            // SAFETY: as in `read`; no more than `len` bytes in all.
            unsafe { racy::copy(from.add(done), part.as_mut_ptr(), count) }
            done += count;
        }
        Ok(())
    }

    /// As [`GuestMemory::write`], of parts that come one behind the other, `len` bytes in all.
    ///
    /// # Errors
    /// As [`GuestMemory::write`].
    pub fn write_parts<'a>(
        &self,
        addr: u64,
        len: usize,
        parts: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), Errno> {
        let pinned = self.pin();
        let to = self.pinned_host(&pinned, addr, len as u64, Prot::WRITE)?;
        let mut done = 0;
        for part in parts {
            let count = part.len().min(len - done);
            // SAFETY: as in `write`; no more than `len` bytes in all.
            unsafe { racy::copy(part.as_ptr(), to.add(done), count) }
            done += count;
        }
        Ok(())
    }

    /// Sets `len` bytes.
    ///
    /// # Errors
    /// `EFAULT`; then nothing was written.
    pub fn fill(&self, addr: u64, byte: u8, len: usize) -> Result<(), Errno> {
        let pinned = self.pin();
        let to = self.pinned_host(&pinned, addr, len as u64, Prot::WRITE)?;
        // SAFETY: that many bytes at `to` are writable while `pinned` is held, and no reference to
        // guest memory is ever made.
        unsafe { racy::fill(to, byte, len) }
        Ok(())
    }

    /// Reads an aligned `u32` as an atomic load does.
    ///
    /// # Errors
    /// `EFAULT`, also when `addr` is not aligned.
    pub fn load_u32(&self, addr: u64) -> Result<u32, Errno> {
        let pinned = self.pin();
        let at = self.pinned_host(&pinned, addr, 4, Prot::READ)?;
        if !(at as usize).is_multiple_of(4) {
            return Err(Errno::FAULT);
        }
        // SAFETY: four aligned bytes, readable while `pinned` is held. The guest's own stores to
        // them are atomic as well, or races of its own.
        let value = unsafe { AtomicU32::from_ptr(at.cast()) }.load(Ordering::SeqCst);
        Ok(u32::from_le(value))
    }

    /// As [`GuestMemory::load_u32`], of eight bytes.
    ///
    /// # Errors
    /// As [`GuestMemory::load_u32`].
    pub fn load_u64(&self, addr: u64) -> Result<u64, Errno> {
        let pinned = self.pin();
        let at = self.pinned_host(&pinned, addr, 8, Prot::READ)?;
        if !(at as usize).is_multiple_of(8) {
            return Err(Errno::FAULT);
        }
        // SAFETY: as in `load_u32`.
        let value = unsafe { AtomicU64::from_ptr(at.cast()) }.load(Ordering::SeqCst);
        Ok(u64::from_le(value))
    }

    /// Puts `new` where an aligned `u32` is `old`, as an atomic instruction does. Whether it was.
    ///
    /// # Errors
    /// As [`GuestMemory::load_u32`].
    pub fn exchange_u32(&self, addr: u64, old: u32, new: u32) -> Result<bool, Errno> {
        let pinned = self.pin();
        let at = self.pinned_host(&pinned, addr, 4, Prot::READ | Prot::WRITE)?;
        if !(at as usize).is_multiple_of(4) {
            return Err(Errno::FAULT);
        }
        // SAFETY: as in `load_u32`; the bytes are writable, too.
        let word = unsafe { AtomicU32::from_ptr(at.cast()) };
        let swapped =
            word.compare_exchange(old.to_le(), new.to_le(), Ordering::SeqCst, Ordering::SeqCst);
        Ok(swapped.is_ok())
    }

    /// `memory.grow` of a program that grows its memory by itself: the number of wasm pages before.
    ///
    /// # Errors
    /// `ENOMEM`, always for a Lind program, which has all pages from the start.
    pub fn grow(&self, pages: u32) -> Result<u32, Errno> {
        match &self.plan {
            Plan::Mapped(_) if pages == 0 => Ok(WASM_PAGES_MAX as u32),
            Plan::Mapped(_) => Err(Errno::NOMEM),
            Plan::Linear(charge) => {
                let mut charge = charge.lock().unwrap_or_else(|e| e.into_inner());
                let before = charge.amount();
                charge.resize(before + u64::from(pages) * WASM_PAGE)?;
                match self.shared.grow(pages.into()) {
                    Ok(pages) => Ok(pages as u32), // At most 65536.
                    Err(_) => {
                        charge.resize(before)?;
                        Err(Errno::NOMEM)
                    }
                }
            }
        }
    }

    /// Copies `len` bytes from another memory's `from` into this one's `to`; the two may be the
    /// same memory, and the ranges may overlap.
    ///
    /// # Errors
    /// `EFAULT` when either range is not accessible; then nothing was written.
    pub fn copy_from(&self, to: u64, source: &Self, from: u64, len: usize) -> Result<(), Errno> {
        Self::hold_two(self, source, |own, source| {
            let src = source.host(from, len as u64, Prot::READ)?;
            let dst = own.host(to, len as u64, Prot::WRITE)?;
            // SAFETY: both ranges have the needed access, and both are held, so it stays so; `copy`
            // allows that they overlap, and no reference to guest memory is ever made.
            unsafe { racy::copy(src, dst, len) }
            Ok(())
        })
    }

    /// Has `work` read and write in two memories, which may be one, and look up the map of each once.
    /// Nothing else may be done with either meanwhile: who changes what is mapped waits, and who
    /// would hold one again waits for that one.
    pub fn hold_two<T>(one: &Self, two: &Self, work: impl FnOnce(Held<'_>, Held<'_>) -> T) -> T {
        let held = |memory, pinned| Held { memory, pinned };
        // One lock serves for one memory; two are taken always in the same order, so that opposite
        // copies and two writers can't wait in a circle.
        if std::ptr::eq(one, two) {
            let pinned = one.pin();
            work(held(one, &pinned), held(two, &pinned))
        } else if std::ptr::from_ref(one) < std::ptr::from_ref(two) {
            let pinned = (one.pin(), two.pin());
            work(held(one, &pinned.0), held(two, &pinned.1))
        } else {
            let pinned = (two.pin(), one.pin());
            work(held(one, &pinned.1), held(two, &pinned.0))
        }
    }

    /// Reads a fixed number of bytes.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn read_array<const N: usize>(&self, addr: u64) -> Result<[u8; N], Errno> {
        let mut bytes = [0; N];
        self.read(addr, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads a little-endian `u64`.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn read_u64(&self, addr: u64) -> Result<u64, Errno> {
        self.read_array(addr).map(u64::from_le_bytes)
    }

    /// Reads a NUL-terminated string of fewer than `max` bytes, without its NUL.
    ///
    /// # Errors
    /// `EFAULT`; `ENAMETOOLONG` when no NUL is among the first `max` bytes.
    pub fn read_cstr(&self, addr: u64, max: usize) -> Result<Vec<u8>, Errno> {
        let mut string = Vec::new();
        let mut at = addr;
        while string.len() < max {
            // Up to the next page edge, so that a string just below an unmapped page is fine.
            let to_edge = (PAGE - at % PAGE) as usize;
            let mut part = vec![0; to_edge.min(max - string.len())];
            self.read(at, &mut part)?;
            if let Some(end) = part.iter().position(|&byte| byte == 0) {
                string.extend_from_slice(&part[..end]);
                return Ok(string);
            }
            at += part.len() as u64;
            string.extend_from_slice(&part);
        }
        Err(Errno::NAMETOOLONG)
    }

    /// Reads an array of `u64` that ends with a 0 (argv and envp in host format).
    ///
    /// # Errors
    /// `EFAULT`; `E2BIG` when there are more than `max` entries.
    pub fn read_u64s_until_zero(&self, addr: u64, max: usize) -> Result<Vec<u64>, Errno> {
        let mut entries = Vec::new();
        loop {
            let at = addr
                .checked_add(8 * entries.len() as u64)
                .ok_or(Errno::FAULT)?;
            match self.read_u64(at)? {
                0 => return Ok(entries),
                _ if entries.len() == max => return Err(Errno::TOOBIG),
                entry => entries.push(entry),
            }
        }
    }

    fn space(&self) -> Result<&Space, Errno> {
        match &self.plan {
            Plan::Mapped(space) => Ok(space),
            Plan::Linear(_) => Err(Errno::NOMEM),
        }
    }

    /// Changes the access of the host's pages behind `range`.
    fn protect_host(&self, range: Range<u64>, prot: Prot) -> Result<(), Errno> {
        if range.is_empty() {
            return Ok(());
        }
        let mut flags = MprotectFlags::empty();
        // The processor has no write-only pages.
        flags.set(MprotectFlags::READ, !prot.is_empty());
        flags.set(MprotectFlags::WRITE, prot.contains(Prot::WRITE));
        // SAFETY: the range lies in this linear memory, whole pages. Wasm code that touches a
        // page without access traps; host code only touches pages that `regions` grants.
        unsafe {
            rustix::mm::mprotect(
                self.host(range.start).cast(),
                (range.end - range.start) as usize,
                flags,
            )
        }
    }

    /// Gives the pages of `range` back to the host; they read as zeros when mapped again.
    fn discard_host(&self, range: Range<u64>) -> Result<(), Errno> {
        if range.is_empty() {
            return Ok(());
        }
        // SAFETY: replaces whole pages of this linear memory, which stays one mapping of the same
        // size for the engine; nothing in the host points into it across calls but `Span`s, which
        // only the kernel dereferences.
        unsafe {
            rustix::mm::mmap_anonymous(
                self.host(range.start).cast(),
                (range.end - range.start) as usize,
                ProtFlags::empty(),
                MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE,
            )?;
        }
        Ok(())
    }

    /// Changes what is mapped: `next` is the book afterwards, `act` makes the host's pages follow.
    /// What the book would grow by is charged before, what it shrinks by given back after.
    ///
    /// # Errors
    /// `ENOMEM` when that is too much. Where the host fails half-way, book and pages would say
    /// different things: then the book is emptied, so that no host code touches the memory any
    /// more, and the cage has to end ([`GuestMemory::is_lost`]).
    fn change(
        &self,
        mapped: &mut Mapped,
        next: Regions,
        act: impl FnOnce() -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        if mapped.lost {
            return Err(Errno::NOMEM);
        }
        let (regions, bytes) = next.usage();
        let before = (mapped.areas.amount(), mapped.bytes.amount());
        mapped.areas.resize(before.0.max(regions))?;
        if let Err(errno) = mapped.bytes.resize(before.1.max(bytes)) {
            mapped.areas.resize(before.0)?;
            return Err(errno);
        }
        let mut acted = Ok(());
        self.space()?.granted.replace(|| {
            acted = act();
            mapped.lost = acted.is_err();
            mapped.regions = Arc::new(if mapped.lost {
                Regions::default()
            } else {
                next
            });
            mapped.regions.clone()
        });
        acted?;
        mapped.areas.resize(regions)?;
        mapped.bytes.resize(bytes)
    }

    /// Whether the host failed to do what the cage asked of its memory: the cage can't go on.
    pub fn is_lost(&self) -> bool {
        match &self.plan {
            Plan::Mapped(space) => read(&space.mapped).lost,
            Plan::Linear(_) => false,
        }
    }

    /// Maps `len` bytes (mmap(2) with the checks of flags already done).
    ///
    /// `fixed` replaces what lies at that address. Answers the guest offset of the mapping.
    ///
    /// # Errors
    /// `ENOMEM` when no range is free, or a limit reached; `EINVAL` for a bad fixed address.
    pub fn map(
        &self,
        fixed: Option<u64>,
        len: u64,
        prot: Prot,
        backing: Backing,
    ) -> Result<u64, Errno> {
        let len = len.checked_next_multiple_of(PAGE).ok_or(Errno::NOMEM)?;
        let mut mapped = write(&self.space()?.mapped);
        let start = match fixed {
            Some(start) => fixed_range(start, len)?.start,
            // The top page is never used, so that no result looks like a negated errno.
            None => mapped
                .regions
                .highest_gap(len, mapped.brk..SPACE_END - PAGE)
                .ok_or(Errno::NOMEM)?,
        };
        self.map_at(&mut mapped, start..start + len, prot, backing)
    }

    /// Maps `len` bytes, whole pages, where nothing is mapped. Answers their offset.
    ///
    /// # Errors
    /// `EINVAL` where something is, or for an address that is not of a page; `ENOMEM` beyond the
    /// address space, or a limit.
    pub fn map_free(
        &self,
        start: u64,
        len: u64,
        prot: Prot,
        backing: Backing,
    ) -> Result<u64, Errno> {
        let mut mapped = write(&self.space()?.mapped);
        let range = fixed_range(start, len)?;
        // The program's break must have its room, and the top page is never used.
        if start < mapped.brk
            || range.end > SPACE_END - PAGE
            || !mapped.regions.is_free(range.clone())
        {
            return Err(Errno::INVAL);
        }
        self.map_at(&mut mapped, range, prot, backing)
    }

    fn map_at(
        &self,
        mapped: &mut Mapped,
        range: Range<u64>,
        prot: Prot,
        backing: Backing,
    ) -> Result<u64, Errno> {
        let start = range.start;
        let mut next = Regions::clone(&mapped.regions);
        next.map(Region::new(range.clone(), prot, backing.clone()));
        self.change(mapped, next, || {
            self.discard_host(range.clone())?;
            if let Backing::Shared(pages, offset) = &backing {
                self.map_object(range.clone(), pages, *offset)?;
            }
            self.protect_host(range, prot)
        })?;
        Ok(start)
    }

    /// Unmaps all that is left of the segment that was attached at `start` (shmdt(2)). Answers its
    /// number.
    ///
    /// # Errors
    /// `EINVAL` where none was.
    pub fn detach(&self, start: u64) -> Result<i32, Errno> {
        let mut mapped = write(&self.space().map_err(|_| Errno::INVAL)?.mapped);
        let (pages, ranges) = mapped.regions.attached_at(start).ok_or(Errno::INVAL)?;
        let mut next = Regions::clone(&mapped.regions);
        for range in &ranges {
            next.unmap(range.clone());
        }
        self.change(&mut mapped, next, || {
            ranges
                .into_iter()
                .try_for_each(|range| self.discard_host(range))
        })?;
        pages.segment().ok_or(Errno::INVAL)
    }

    /// In how many regions something shared is mapped.
    pub fn count_of(&self, pages: &Arc<SharedPages>) -> usize {
        self.pin().map_or(0, |regions| regions.count_of(pages))
    }

    fn map_object(&self, range: Range<u64>, pages: &SharedPages, offset: u64) -> Result<(), Errno> {
        // SAFETY: as in `discard_host`. The object is a memfd of this runtime that is never cut
        // short, so no access to it raises SIGBUS.
        unsafe {
            rustix::mm::mmap(
                self.host(range.start).cast(),
                (range.end - range.start) as usize,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::FIXED,
                pages.file(),
                pages.start() + offset,
            )
        }
        .map(drop)
        .inspect_err(|_| {
            // The kernel may have taken away what was there, and nothing else of the process may
            // come to lie in a cage's address space.
            if self.discard_host(range).is_err() {
                eprintln!("lind-wasm: the host has no memory left to keep a cage's closed");
                std::process::exit(crate::EXIT_RUNTIME);
            }
        })
    }

    /// Unmaps pages (munmap(2)); a hole in the range is fine.
    ///
    /// # Errors
    /// `EINVAL` for an unaligned address or an empty range; `ENOMEM` when it would leave more
    /// regions than the cage may have.
    pub fn unmap(&self, start: u64, len: u64) -> Result<(), Errno> {
        let range = page_range(start, len)?;
        if range.is_empty() {
            return Err(Errno::INVAL);
        }
        let mut mapped = write(&self.space()?.mapped);
        let mut next = Regions::clone(&mapped.regions);
        next.unmap(range.clone());
        self.change(&mut mapped, next, || self.discard_host(range))
    }

    /// Changes the access of mapped pages (mprotect(2)).
    ///
    /// # Errors
    /// `EINVAL` for an unaligned address; `ENOMEM` when a page of the range is not mapped, or a
    /// limit is reached.
    pub fn protect(&self, start: u64, len: u64, prot: Prot) -> Result<(), Errno> {
        let range = page_range(start, len)?;
        if range.is_empty() {
            return Ok(());
        }
        let mut mapped = write(&self.space()?.mapped);
        if !mapped.regions.is_mapped(range.clone()) {
            return Err(Errno::NOMEM);
        }
        let mut next = Regions::clone(&mapped.regions);
        next.protect(range.clone(), prot);
        self.change(&mut mapped, next, || self.protect_host(range, prot))
    }

    /// Moves the program break (brk(2) as the kernel has it): answers the new break, which is the
    /// old one when `wanted` is out of range, or a limit is reached.
    ///
    /// # Errors
    /// `ENOMEM` for a memory that the program grows by itself.
    pub fn brk(&self, wanted: u64) -> Result<u64, Errno> {
        let mut mapped = write(&self.space()?.mapped);
        let old = mapped.brk;
        let Some(wanted) = wanted.checked_next_multiple_of(PAGE) else {
            return Ok(old);
        };
        if wanted < mapped.brk_start || wanted > BRK_LIMIT || wanted == old {
            return Ok(old);
        }
        let mut next = Regions::clone(&mapped.regions);
        let changed = if wanted > old {
            let grown = old..wanted;
            if !next.is_free(grown.clone()) {
                return Ok(old);
            }
            next.map(Region::new(grown.clone(), Prot::all(), Backing::Private));
            self.change(&mut mapped, next, || {
                self.discard_host(grown.clone())?;
                self.protect_host(grown, Prot::all())
            })
        } else {
            next.unmap(wanted..old);
            self.change(&mut mapped, next, || self.discard_host(wanted..old))
        };
        if changed.is_err() {
            return Ok(old);
        }
        mapped.brk = wanted;
        Ok(wanted)
    }

    /// A copy for a forked child: private pages copied, shared ones shared, worker stacks left
    /// out. It is charged to `account`.
    ///
    /// # Errors
    /// When the host has no memory left, a limit is reached, or the program grows its memory by
    /// itself.
    pub fn fork(&self, engine: &Engine, base: u64, account: &Arc<Account>) -> anyhow::Result<Self> {
        // Held to the end: nobody changes what is mapped while pages are copied. Nor does another
        // thread fork: it would close pages that are open to be copied.
        let mapped = write(&self.space()?.mapped);
        let child = Self::mapped(engine, 0, base, account)?;
        let mut regions = Regions::default();
        for region in mapped.regions.iter() {
            if !matches!(region.backing, Backing::WorkerStack) {
                regions.map(region.clone());
            }
        }
        let copied = regions.clone();
        let mut own = write(&child.space()?.mapped);
        child.change(&mut own, regions, || {
            for region in copied.iter() {
                let range = region.start..region.end;
                match &region.backing {
                    Backing::Shared(pages, offset) => {
                        child.map_object(range.clone(), pages, *offset)?;
                    }
                    Backing::Private | Backing::WorkerStack => {
                        child.protect_host(range.clone(), Prot::all())?;
                        self.copy_pages(&child, range.clone(), region.prot)?;
                    }
                }
                child.protect_host(range, region.prot)?;
            }
            Ok(())
        })?;
        own.brk_start = mapped.brk_start;
        own.brk = mapped.brk;
        drop(own);
        Ok(child)
    }

    /// Copies the pages of a private region to the same place in `child`, which is zero there.
    fn copy_pages(&self, child: &Self, range: Range<u64>, prot: Prot) -> Result<(), Errno> {
        if prot.is_empty() {
            // Its bytes can come back with a later mprotect; make them readable for the copy. (Other
            // pages are readable for the host, and stay as they are for other threads.)
            self.protect_host(range.clone(), Prot::READ)?;
        }
        let mut copy = [0; PAGE as usize];
        for page in range.clone().step_by(PAGE as usize) {
            // SAFETY: `page` is a whole readable page of this memory (the caller holds the lock
            // that mapping changes need), and `copy` is as long. Reading while other threads of
            // the guest write gives some mix of old and new bytes, as the fork of a running
            // program does.
            unsafe { racy::copy(self.host(page), copy.as_mut_ptr(), copy.len()) }
            // Untouched pages stay untouched in the child.
            if copy.iter().any(|&byte| byte != 0) {
                // SAFETY: it is a writable page of `child`, which no guest runs on yet.
                unsafe { racy::copy(copy.as_ptr(), child.host(page), copy.len()) }
            }
        }
        if prot.is_empty() {
            self.protect_host(range, prot)?;
        }
        Ok(())
    }
}

fn scratch_block() -> Box<[u64]> {
    vec![0; SCRATCH_LEN / 8].into_boxed_slice()
}

/// The pages of a mapping whose place the program chose.
fn fixed_range(start: u64, len: u64) -> Result<Range<u64>, Errno> {
    if !start.is_multiple_of(PAGE) {
        return Err(Errno::INVAL);
    }
    let end = start.checked_add(len).filter(|end| *end <= SPACE_END);
    Ok(start..end.ok_or(Errno::NOMEM)?)
}

fn page_range(start: u64, len: u64) -> Result<Range<u64>, Errno> {
    if !start.is_multiple_of(PAGE) {
        return Err(Errno::INVAL);
    }
    let len = len.checked_next_multiple_of(PAGE).ok_or(Errno::INVAL)?;
    match start.checked_add(len) {
        Some(end) if end <= SPACE_END => Ok(start..end),
        _ => Err(Errno::INVAL),
    }
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(|e| e.into_inner())
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(|e| e.into_inner())
}

// SAFETY: the raw scratch bytes are only handed out as `Span`s; the box behind the mutex is never
// replaced, and racing accesses to guest memory are the guest's own affair: host code only ever
// copies bytes in and out of it.
unsafe impl Send for GuestMemory {}
// SAFETY: as above.
unsafe impl Sync for GuestMemory {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posix::testing::Fixture;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    /// Each copy is made or refused: none finds a page gone half-way, which would end the process, and
    /// nobody waits for ever.
    #[test]
    fn copies_in_all_directions_while_pages_come_and_go() {
        const AT: u64 = 1 << 20;
        const LEN: u64 = 16 * PAGE;
        const GOES: u64 = AT + LEN / 2;
        let fixture = Fixture::new();
        let fork = fixture.fork(&fixture.cage);
        let images = [fixture.cage.image().unwrap(), fork.image().unwrap()];
        let [one, two] = images.each_ref().map(|image| &image.memory);
        let map = |memory: &GuestMemory, at, len| {
            let mapped = memory.map(Some(at), len, Prot::all(), Backing::Private);
            assert_eq!(mapped, Ok(at));
        };
        let copy = |to: &GuestMemory, from| to.copy_from(AT, from, AT, LEN as usize);
        for memory in [one, two] {
            map(memory, AT, LEN);
        }
        assert_eq!(copy(one, two), Ok(()));
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for (to, from) in [(one, two), (two, one), (one, one), (two, two)] {
                let (done, copy) = (&done, &copy);
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        assert!(matches!(copy(to, from), Ok(()) | Err(Errno::FAULT)));
                    }
                });
            }
            let changing = [one, two].map(|memory| {
                scope.spawn(move || {
                    for _ in 0..300 {
                        assert_eq!(memory.unmap(GOES, PAGE), Ok(()));
                        assert_eq!(memory.read_array::<1>(GOES), Err(Errno::FAULT));
                        map(memory, GOES, PAGE);
                        assert!(memory.read_array::<1>(GOES).is_ok());
                    }
                })
            });
            let ended = changing.map(|thread| thread.join().is_ok());
            done.store(true, Ordering::Relaxed);
            assert_eq!(ended, [true; 2]);
        });
    }

    /// Two threads fork at once: pages without access are open for as long as each of them copies.
    #[test]
    fn forks_at_once_copy_what_may_not_be_accessed() {
        const AT: u64 = 1 << 20;
        const LEN: u64 = 64 * PAGE;
        let fixture = Fixture::new();
        let (rt, account) = (&fixture.rt, &fixture.cage.account);
        let image = fixture.cage.image().unwrap();
        let memory = &image.memory;
        let mapped = memory.map(Some(AT), LEN, Prot::all(), Backing::Private);
        assert_eq!(mapped, Ok(AT));
        memory.fill(AT, 7, LEN as usize).unwrap();
        memory.protect(AT, LEN, Prot::empty()).unwrap();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let fork = memory.fork(&rt.engine, 0, account).unwrap();
                        assert_eq!(fork.read_array::<1>(AT), Err(Errno::FAULT));
                        fork.protect(AT, LEN, Prot::READ).unwrap();
                        assert_eq!(fork.read_array(AT + LEN - 1), Ok([7]));
                    }
                });
            }
        });
        assert_eq!(memory.read_array::<1>(AT), Err(Errno::FAULT));
    }
}
