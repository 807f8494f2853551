//! Which parts of a cage's 4 GiB address space are mapped, and how. Pure bookkeeping: the memory
//! module makes the host's pages follow it.

use crate::shared::SharedPages;
use bitflags::bitflags;
use std::ops::Range;
use std::sync::Arc;

/// Size of a page of the cage's address space in bytes, as `mmap` and `brk` see it.
pub const PAGE: u64 = 4096;
/// The first address past a 32-bit address space.
pub const SPACE_END: u64 = 1 << 32;
/// Size of a page of WebAssembly's in bytes.
pub const WASM_PAGE: u64 = 65536;
/// Pages of WebAssembly's in that space.
pub const WASM_PAGES_MAX: u64 = SPACE_END / WASM_PAGE;

bitflags! {
    /// Access that a page grants, or that a call needs; the values are `PROT_*` of mmap(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Prot: u32 {
        /// Pages may be read.
        const READ = 1;
        /// Pages may be written.
        const WRITE = 2;
    }
}

/// What lies behind a region, which decides what a forked child gets of it.
#[derive(Clone, Debug)]
pub enum Backing {
    /// The cage's own pages: a child gets a copy.
    Private,
    /// `MAP_SHARED`: a child maps the same object at the same offset.
    Shared(Arc<SharedPages>, u64),
    /// Stack of a grate worker: no child has use for it.
    WorkerStack,
}

/// A mapped range of addresses, whole pages.
#[derive(Clone, Debug)]
pub struct Region {
    /// First address.
    pub start: u64,
    /// First address past the region.
    pub end: u64,
    /// Granted access.
    pub prot: Prot,
    /// What lies behind it.
    pub backing: Backing,
    /// Its pages are or were writable, and may take memory of the host.
    pub charged: bool,
}

impl Region {
    /// A region that is mapped anew.
    pub fn new(range: Range<u64>, prot: Prot, backing: Backing) -> Self {
        Self {
            start: range.start,
            end: range.end,
            prot,
            // Shared pages are charged to who made them.
            charged: prot.contains(Prot::WRITE) && !matches!(backing, Backing::Shared(..)),
            backing,
        }
    }

    /// The part of this region that lies in `part`, its backing moved along.
    fn cut(&self, part: Range<u64>) -> Region {
        let backing = match &self.backing {
            Backing::Shared(object, offset) => {
                Backing::Shared(object.clone(), offset + (part.start - self.start))
            }
            other => other.clone(),
        };
        Region {
            start: part.start,
            end: part.end,
            prot: self.prot,
            backing,
            charged: self.charged,
        }
    }
}

/// The mapped regions of a cage: sorted, disjoint.
#[derive(Clone, Debug, Default)]
pub struct Regions {
    list: Vec<Region>,
}

impl Regions {
    /// All regions in order of address.
    pub fn iter(&self) -> impl Iterator<Item = &Region> {
        self.list.iter()
    }

    /// Index of the first region that ends after `addr`.
    fn first_after(&self, addr: u64) -> usize {
        self.list.partition_point(|region| region.end <= addr)
    }

    /// How many of the `len` bytes at `addr` can be accessed as `need` says, counted from `addr`.
    pub fn accessible_prefix(&self, addr: u64, len: u64, need: Prot) -> u64 {
        let mut reached = addr;
        let wanted = addr.saturating_add(len);
        for region in &self.list[self.first_after(addr)..] {
            if reached >= wanted || region.start > reached || !region.prot.contains(need) {
                break;
            }
            reached = region.end;
        }
        reached.min(wanted) - addr
    }

    /// Forgets whatever is mapped in `range`.
    pub fn unmap(&mut self, range: Range<u64>) {
        let mut kept = Vec::with_capacity(self.list.len() + 1);
        for region in self.list.drain(..) {
            if region.end <= range.start || region.start >= range.end {
                kept.push(region);
                continue;
            }
            if region.start < range.start {
                kept.push(region.cut(region.start..range.start));
            }
            if region.end > range.end {
                kept.push(region.cut(range.end..region.end));
            }
        }
        self.list = kept;
    }

    /// How many regions there are, and how many bytes of them are charged.
    pub fn usage(&self) -> (u64, u64) {
        let charged = self.list.iter().filter(|region| region.charged);
        let bytes = charged.map(|region| region.end - region.start).sum();
        (self.list.len() as u64, bytes)
    }

    /// Maps `region`, which is new, replacing whatever was there.
    pub fn map(&mut self, region: Region) {
        self.unmap(region.start..region.end);
        let at = self.first_after(region.start);
        // Growing a heap page by page must not make the list grow with it. Nothing else is joined:
        // the kernel joins fresh pages to those before them, but others not always, and there
        // must not be more areas than the list knows of.
        if at > 0 && matches!(region.backing, Backing::Private) && region.prot == Prot::all() {
            let before = &mut self.list[at - 1];
            if before.end == region.start
                && before.prot == region.prot
                && matches!(before.backing, Backing::Private)
            {
                before.end = region.end;
                return;
            }
        }
        self.list.insert(at, region);
    }

    /// Whether every page of `range` is mapped.
    pub fn is_mapped(&self, range: Range<u64>) -> bool {
        self.accessible_prefix(range.start, range.end - range.start, Prot::empty())
            == range.end - range.start
    }

    /// Whether no page of `range` is mapped.
    pub fn is_free(&self, range: Range<u64>) -> bool {
        self.list
            .get(self.first_after(range.start))
            .is_none_or(|region| region.start >= range.end)
    }

    /// Changes the access of `range`, all of which must be mapped.
    pub fn protect(&mut self, range: Range<u64>, prot: Prot) {
        let mut parts = Vec::with_capacity(self.list.len() + 2);
        for region in self.list.drain(..) {
            let (start, end) = (region.start.max(range.start), region.end.min(range.end));
            if start >= end {
                parts.push(region);
                continue;
            }
            if region.start < start {
                parts.push(region.cut(region.start..start));
            }
            let part = region.cut(start..end);
            let changed = Region::new(start..end, prot, part.backing);
            parts.push(Region {
                charged: part.charged || changed.charged,
                ..changed
            });
            if region.end > end {
                parts.push(region.cut(end..region.end));
            }
        }
        self.list = parts;
    }

    /// What is left of the segment that was attached at `start`: its pages, and where they are.
    pub fn attached_at(&self, start: u64) -> Option<(Arc<SharedPages>, Vec<Range<u64>>)> {
        // Parts of it may be unmapped, or lie behind another access.
        let parts = self.list.iter().filter_map(|region| match &region.backing {
            Backing::Shared(pages, offset)
                if pages.segment().is_some()
                    && region.start.checked_sub(*offset) == Some(start) =>
            {
                Some((pages, region.start..region.end))
            }
            _ => None,
        });
        let mut parts = parts.peekable();
        let first = parts.peek().map(|(pages, _)| Arc::clone(pages))?;
        let ranges = parts.filter(|(pages, _)| Arc::ptr_eq(pages, &first));
        let ranges = ranges.map(|(_, range)| range).collect();
        Some((first, ranges))
    }

    /// In how many regions something shared is mapped.
    pub fn count_of(&self, pages: &Arc<SharedPages>) -> usize {
        let regions = self.list.iter();
        regions
            .filter(|region| matches!(&region.backing, Backing::Shared(own, _) if Arc::ptr_eq(own, pages)))
            .count()
    }

    /// The highest free range of `len` bytes within `within`.
    pub fn highest_gap(&self, len: u64, within: Range<u64>) -> Option<u64> {
        let mut ceiling = within.end;
        for region in self.list.iter().rev() {
            if region.start >= ceiling {
                continue;
            }
            let floor = region.end.max(within.start);
            if floor < ceiling && ceiling - floor >= len {
                return Some(ceiling - len);
            }
            ceiling = ceiling.min(region.start);
            if ceiling <= within.start {
                return None;
            }
        }
        (ceiling > within.start && ceiling - within.start >= len).then(|| ceiling - len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RW: Prot = Prot::READ.union(Prot::WRITE);

    fn region(start: u64, end: u64, prot: Prot) -> Region {
        Region::new(start * PAGE..end * PAGE, prot, Backing::Private)
    }

    #[test]
    fn a_prefix_ends_at_the_first_page_without_the_access() {
        let mut regions = Regions::default();
        regions.map(region(0, 4, RW));
        regions.map(region(4, 5, Prot::READ));
        assert_eq!(
            regions.accessible_prefix(PAGE, 9 * PAGE, Prot::READ),
            4 * PAGE
        );
        assert_eq!(
            regions.accessible_prefix(PAGE, 9 * PAGE, Prot::WRITE),
            3 * PAGE
        );
        assert_eq!(regions.accessible_prefix(5 * PAGE, 1, Prot::READ), 0);
        assert_eq!(regions.accessible_prefix(10, 20, RW), 20);
    }

    #[test]
    fn what_was_writable_once_stays_charged() {
        let mut regions = Regions::default();
        regions.map(region(0, 4, Prot::empty()));
        assert_eq!(regions.usage(), (1, 0));
        regions.protect(PAGE..2 * PAGE, RW);
        assert_eq!(regions.usage(), (3, PAGE));
        regions.protect(0..4 * PAGE, Prot::READ);
        assert_eq!(regions.usage(), (3, PAGE));
        regions.unmap(0..2 * PAGE);
        assert_eq!(regions.usage(), (1, 0));
    }

    #[test]
    fn gaps_are_found_from_the_top() {
        let mut regions = Regions::default();
        assert_eq!(regions.highest_gap(PAGE, 0..8 * PAGE), Some(7 * PAGE));
        regions.map(region(6, 8, RW));
        regions.map(region(0, 2, RW));
        assert_eq!(regions.highest_gap(PAGE, 0..8 * PAGE), Some(5 * PAGE));
        assert_eq!(regions.highest_gap(4 * PAGE, 0..8 * PAGE), Some(2 * PAGE));
        assert_eq!(regions.highest_gap(5 * PAGE, 0..8 * PAGE), None);
    }

    proptest! {
        /// Against a model: one access value (or none) for each page.
        #[test]
        fn behaves_like_a_table_of_pages(ops in prop::collection::vec((0u8..3, 0u64..16, 1u64..6, 0u32..4), 1..60)) {
            let mut regions = Regions::default();
            let mut model = [None; 24];
            for (op, start, len, prot) in ops {
                let range = start * PAGE..(start + len) * PAGE;
                let pages = start as usize..(start + len) as usize;
                let prot = Prot::from_bits_truncate(prot);
                match op {
                    0 => {
                        regions.map(region(start, start + len, prot));
                        model[pages].fill(Some(prot));
                    }
                    1 => {
                        regions.unmap(range);
                        model[pages].fill(None);
                    }
                    _ => if regions.is_mapped(range.clone()) {
                        regions.protect(range, prot);
                        model[pages].fill(Some(prot));
                    }
                }
                for (page, expected) in model.iter().enumerate() {
                    let at = page as u64 * PAGE;
                    prop_assert_eq!(regions.is_mapped(at..at + PAGE), expected.is_some());
                    prop_assert_eq!(regions.is_free(at..at + PAGE), expected.is_none());
                    for need in [Prot::READ, Prot::WRITE, RW] {
                        let granted = expected.is_some_and(|p| p.contains(need));
                        prop_assert_eq!(regions.accessible_prefix(at, PAGE, need) == PAGE, granted);
                    }
                }
                prop_assert!(regions.list.windows(2).all(|pair| pair[0].end <= pair[1].start));
            }
        }
    }
}
