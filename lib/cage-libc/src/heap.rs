//! `malloc` and its kin: dlmalloc over mmap. The memory of a Lind cage does not grow by
//! `memory.grow`.

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

/// The heap, under a lock that knows no owner: the workers of a grate share it, and a lock that
/// asked for the thread would take them all for one.
struct Heap {
    taken: AtomicBool,
    state: UnsafeCell<Dlmalloc<Pages>>,
}

// SAFETY: `state` is only touched between taking and giving back `taken`.
unsafe impl Sync for Heap {}

static HEAP: Heap = Heap {
    taken: AtomicBool::new(false),
    state: UnsafeCell::new(Dlmalloc::new_with_allocator(Pages)),
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

    fn with<T>(&self, work: impl FnOnce(&mut Dlmalloc<Pages>) -> T) -> T {
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

/// A block whose size and alignment are written in front of it.
unsafe fn allocate(size: usize, align: usize, zeroed: bool) -> *mut c_void {
    let align = align.max(ALIGN);
    // The block starts `front` bytes into what dlmalloc gives, so that it is aligned too.
    let front = FRONT.max(align);
    let Some(total) = size
        .checked_add(front)
        .filter(|&total| total <= isize::MAX as usize)
    else {
        return core::ptr::null_mut();
    };
    // SAFETY: size and alignment are valid for dlmalloc.
    let start = HEAP.with(|heap| unsafe {
        if zeroed {
            heap.calloc(total, align)
        } else {
            heap.malloc(total, align)
        }
    });
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
        HEAP.with(|heap| heap.free(block.cast::<u8>().sub(front), size + front, align));
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
        let Some(total) = size
            .checked_add(front)
            .filter(|&t| t <= isize::MAX as usize)
        else {
            return core::ptr::null_mut();
        };
        let start = HEAP
            .with(|heap| heap.realloc(block.cast::<u8>().sub(front), old + front, align, total));
        if start.is_null() {
            return core::ptr::null_mut();
        }
        let block = start.add(front);
        block.sub(8).cast::<usize>().write(size);
        block.cast()
    }
}
