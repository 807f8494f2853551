//! How much memory rules take. A test of its own, for it counts every allocation.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use redact::{Action, Pattern, RuleSet, Verdict};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator does it all; this only counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: as the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller's.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Ten thousand secrets of 32 characters, compiled and in use.
#[test]
fn ten_thousand_literals_take_less_than_32_mib() {
    const MOST_BYTES: usize = 32 << 20;
    let literals: Vec<Vec<u8>> = (0..10_000u64)
        .map(|i| {
            let (high, low) = (
                i.wrapping_mul(0x9e37_79b9_7f4a_7c15),
                i.wrapping_mul(0xc2b2_ae3d),
            );
            format!("{high:016x}{low:016x}").into_bytes()
        })
        .collect();
    let last = literals[9_999].clone();
    let pattern = Pattern::Literals(literals);
    let before = NOW.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);

    let mut rules = RuleSet::builder();
    rules.rule("words", &pattern, Action::Mask).unwrap();
    let rules = rules.build();
    let mut stream = rules.filter().stream();
    let mut out = Vec::new();
    assert_eq!(stream.push(&last, &mut out), Verdict::Passed);
    stream.finish(&mut out);
    assert_eq!(out, b"*".repeat(last.len()));

    let most = MOST.load(Ordering::Relaxed) - before;
    println!("{} KiB", most >> 10);
    assert!(most < MOST_BYTES, "{most} bytes");
}
