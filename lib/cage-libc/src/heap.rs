//! `malloc` and its kin: dlmalloc over mmap. The memory of a Lind cage does not grow by
//! `memory.grow`.
//!
//! Small blocks that are given back are kept for who asks for as much next ([`Bins`]). A handler has a dozen of them
//! in each call, and dlmalloc, which joins what is free with its neighbours, took a tenth of the time of a short
//! write.

use crate::sys::{self, nr};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};
use dlmalloc::{Allocator, Dlmalloc};
use libc::{c_int, c_void, size_t};

/// Blocks of address space from the kernel.
struct Pages;

const PAGE: usize = 4096;
/// Asked of the kernel at a time, at least.
const GRAIN: usize = 256 * 1024;

// SAFETY: fresh private mappings of the size asked for, which nobody else unmaps.
unsafe impl Allocator for Pages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        const READ_WRITE: u64 = 3;
        const PRIVATE_ANONYMOUS: u64 = 0x22;
        let len = size.max(GRAIN).next_multiple_of(PAGE);
        let args = [0, len as u64, READ_WRITE, PRIVATE_ANONYMOUS, u64::MAX, 0];
        // SAFETY: a fresh mapping touches nothing that exists.
        match unsafe { sys::syscall(nr::MMAP, &args) } {
            // The result is an offset in this memory, not an address.
            Ok(offset) => (offset as u32 as usize as *mut u8, len, 0),
            Err(_) => (core::ptr::null_mut(), 0, 0),
        }
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        core::ptr::null_mut()
    }

    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }

    // Kept for the next allocation: a grate frees and asks for large buffers all the time.
    fn free(&self, _: *mut u8, _: usize) -> bool {
        false
    }

    fn can_release_part(&self, _: u32) -> bool {
        false
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        PAGE
    }
}

/// What blocks have is a multiple of this; of the larger ones that are kept, of [`LARGE_STEP`].
const STEP: usize = 16;
const LARGE_STEP: usize = 512;
/// The longest blocks that are kept.
const MOST: usize = 8192;
/// How many sizes of them there are.
const SMALL: usize = LARGE_STEP / STEP;
const SIZES: usize = SMALL + MOST / LARGE_STEP - 1;
/// How many of a small and of a large size are kept: they hold less than a mebibyte together.
const KEPT: [u8; 2] = [32, 8];

/// The first bytes of a block that is kept.
struct Link(*mut Link);

/// Small blocks that nobody has, by their size.
struct Bins([(*mut Link, u8); SIZES]);

impl Bins {
    /// Which of them has blocks of that size, as [`total`] answers it, and how many it keeps.
    fn of(&mut self, total: usize) -> Option<(&mut (*mut Link, u8), u8)> {
        let (index, kept) = if total <= LARGE_STEP {
            ((total / STEP).wrapping_sub(1), KEPT[0])
        } else if total <= MOST {
            (SMALL + total / LARGE_STEP - 2, KEPT[1])
        } else {
            return None;
        };
        self.0.get_mut(index).map(|bin| (bin, kept))
    }

    fn take(&mut self, total: usize) -> Option<*mut u8> {
        let ((first, kept), _) = self.of(total)?;
        if first.is_null() {
            return None;
        }
        let block = *first;
        // SAFETY: a block of ours, which `keep` has written the link to.
        *first = unsafe { block.read().0 };
        *kept -= 1;
        Some(block.cast())
    }

    /// Keeps a block, unless there are enough. Answers whether it did.
    ///
    /// # Safety
    /// The block is the caller's to give, and as long as said.
    unsafe fn keep(&mut self, block: *mut u8, total: usize) -> bool {
        match self.of(total) {
            Some(((first, kept), most)) if *kept < most => {
                let link = block.cast::<Link>();
                // SAFETY: there is room for it, aligned as every block.
                unsafe { link.write(Link(*first)) };
                *first = link;
                *kept += 1;
                true
            }
            _ => false,
        }
    }
}

struct State {
    rest: Dlmalloc<Pages>,
    bins: Bins,
}

impl State {
    /// # Safety
    /// Size and alignment are valid for dlmalloc.
    unsafe fn allocate(&mut self, total: usize, align: usize, zeroed: bool) -> *mut u8 {
        // SAFETY: as the caller's; a block that was kept is as long as said.
        unsafe {
            let kept = match align {
                ALIGN => self.bins.take(total),
                _ => None,
            };
            match kept {
                Some(block) => {
                    if zeroed {
                        block.write_bytes(0, total);
                    }
                    block
                }
                None if zeroed => self.rest.calloc(total, align),
                None => self.rest.malloc(total, align),
            }
        }
    }

    /// # Safety
    /// A block of [`State::allocate`], and what that was told.
    unsafe fn free(&mut self, block: *mut u8, total: usize, align: usize) {
        // SAFETY: as the caller's.
        unsafe {
            if align != ALIGN || !self.bins.keep(block, total) {
                self.rest.free(block, total, align);
            }
        }
    }
}

/// The heap, under a lock that knows no owner: the workers of a grate share it, and a lock that
/// asked for the thread would take them all for one.
struct Heap {
    taken: AtomicBool,
    state: UnsafeCell<State>,
}

// SAFETY: `state` is only touched between taking and giving back `taken`.
unsafe impl Sync for Heap {}

static HEAP: Heap = Heap {
    taken: AtomicBool::new(false),
    state: UnsafeCell::new(State {
        rest: Dlmalloc::new_with_allocator(Pages),
        bins: Bins([(core::ptr::null_mut(), 0); SIZES]),
    }),
};

/// Keeps others out of the heap, until [`give_back`].
pub fn hold() {
    HEAP.take();
}

/// Ends [`hold`].
pub fn give_back() {
    HEAP.taken.store(false, Ordering::Release);
}

impl Heap {
    fn take(&self) {
        let mut spins = 0u32;
        while self.taken.swap(true, Ordering::Acquire) {
            spins += 1;
            if spins.is_multiple_of(64) {
                sys::sched_yield();
            }
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        self.take();
        // SAFETY: the flag is ours, so nobody else has a reference.
        let result = work(unsafe { &mut *self.state.get() });
        self.taken.store(false, Ordering::Release);
        result
    }
}

/// What C promises of every block.
const ALIGN: usize = 16;
/// Kept in front of every block: its size and alignment, which `free` is not told.
const FRONT: usize = 16;

/// Bytes of a block of that size and all in front of it; `None` where there can't be so many.
fn total(size: usize, front: usize) -> Option<usize> {
    let total = size.checked_add(front)?;
    let step = match total {
        LARGE_STEP..=MOST => LARGE_STEP,
        _ => STEP,
    };
    let total = total.checked_next_multiple_of(step)?;
    (total <= isize::MAX as usize).then_some(total)
}

/// A block whose size and alignment are written in front of it.
unsafe fn allocate(size: usize, align: usize, zeroed: bool) -> *mut c_void {
    let align = align.max(ALIGN);
    // The block starts `front` bytes into what the heap gives, so that it is aligned too.
    let front = FRONT.max(align);
    let Some(total) = total(size, front) else {
        return core::ptr::null_mut();
    };
    // SAFETY: size and alignment are valid for dlmalloc.
    let start = HEAP.with(|heap| unsafe { heap.allocate(total, align, zeroed) });
    if start.is_null() {
        return core::ptr::null_mut();
    }
    // SAFETY: `front` bytes, at least 16, lie before the block.
    unsafe {
        let block = start.add(front);
        block.sub(8).cast::<usize>().write(size);
        block.sub(4).cast::<usize>().write(align);
        block.cast()
    }
}

/// Size and alignment of a block.
unsafe fn facts(block: *mut c_void) -> (usize, usize) {
    // SAFETY: `allocate` wrote both.
    unsafe {
        (
            block.cast::<u8>().sub(8).cast::<usize>().read(),
            block.cast::<u8>().sub(4).cast::<usize>().read(),
        )
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn malloc(size: size_t) -> *mut c_void {
    // SAFETY: any size is fine.
    unsafe { allocate(size, ALIGN, false) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn calloc(count: size_t, size: size_t) -> *mut c_void {
    match count.checked_mul(size) {
        // SAFETY: any size is fine.
        Some(size) => unsafe { allocate(size, ALIGN, true) },
        None => core::ptr::null_mut(),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn posix_memalign(out: *mut *mut c_void, align: size_t, size: size_t) -> c_int {
    if !align.is_power_of_two() || !align.is_multiple_of(4) {
        return libc::EINVAL;
    }
    // SAFETY: `out` is the caller's place for a pointer.
    unsafe {
        let block = allocate(size, align, false);
        if block.is_null() {
            return libc::ENOMEM;
        }
        out.write(block);
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn aligned_alloc(align: size_t, size: size_t) -> *mut c_void {
    // SAFETY: any size is fine.
    unsafe { allocate(size, align, false) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn free(block: *mut c_void) {
    if block.is_null() {
        return;
    }
    // SAFETY: a block of ours, by the contract of free(3).
    unsafe {
        let (size, align) = facts(block);
        let front = FRONT.max(align);
        if let Some(total) = total(size, front) {
            HEAP.with(|heap| heap.free(block.cast::<u8>().sub(front), total, align));
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn realloc(block: *mut c_void, size: size_t) -> *mut c_void {
    if block.is_null() {
        // SAFETY: any size is fine.
        return unsafe { allocate(size, ALIGN, false) };
    }
    // SAFETY: a block of ours, by the contract of realloc(3).
    unsafe {
        let (old, align) = facts(block);
        let front = FRONT.max(align);
        let (Some(old), Some(total)) = (total(old, front), total(size, front)) else {
            return core::ptr::null_mut();
        };
        let start = block.cast::<u8>().sub(front);
        let start = match old == total {
            true => start,
            false => HEAP.with(|heap| heap.rest.realloc(start, old, align, total)),
        };
        if start.is_null() {
            return core::ptr::null_mut();
        }
        let block = start.add(front);
        block.sub(8).cast::<usize>().write(size);
        block.cast()
    }
}
