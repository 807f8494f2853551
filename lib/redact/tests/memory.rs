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

/// Secrets of 32 characters.
fn secrets(count: u64) -> Vec<Vec<u8>> {
    let secret = |i: u64| {
        let (high, low) = (
            i.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            i.wrapping_mul(0xc2b2_ae3d),
        );
        format!("{high:016x}{low:016x}").into_bytes()
    };
    (0..count).map(secret).collect()
}

/// Most bytes that a pattern takes while it is compiled and then in use; all but what the pattern
/// itself was given as.
fn taken(pattern: &Pattern, text: &[u8]) -> usize {
    let before = NOW.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let mut rules = RuleSet::builder();
    rules.rule("words", pattern, Action::Mask).unwrap();
    let rules = rules.build();
    let mut stream = rules.filter().stream();
    let mut out = Vec::new();
    assert_eq!(stream.push(text, &mut out), Verdict::Passed);
    stream.finish(&mut out);
    assert_eq!(out, b"*".repeat(text.len()));
    let most = MOST.load(Ordering::Relaxed) - before;
    println!("{} KiB", most >> 10);
    most
}

#[test]
fn long_lists_take_little() {
    let all = secrets(10_000);
    let last = all[9_999].clone();
    let alone = taken(&Pattern::Literals(all.clone()), &last);
    assert!(alone < 4 << 20, "{alone} bytes");

    let hex: String = last.iter().map(|byte| format!("{byte:02X}")).collect();
    let encoded = taken(&Pattern::Secrets(all), hex.as_bytes());
    assert!(encoded < 32 << 20, "{encoded} bytes");

    let all = secrets(100_000);
    let last = all[99_999].clone();
    let many = taken(&Pattern::Secrets(all), &last);
    assert!(many < 256 << 20, "{many} bytes");
}
