//! The calls under way in handlers on this thread. Each lies on the thread's stack below the next, and
//! refers to what its caller has there, so that neither a lock nor a count of references is needed to
//! find who made a call.

use crate::cage::{Cage, CageId};
use crate::image::{Image, Service};
use std::cell::Cell;
use std::ptr;
use std::sync::Arc;

/// A call under way in a handler.
pub(super) struct Frame<'a> {
    pub(super) grate: CageId,
    /// What that runs it in.
    pub(super) service: &'a Arc<Service>,
    pub(super) nr: u32,
    /// Who made it, or in whose name.
    pub(super) caller: &'a Arc<Cage>,
    /// That one's program, if that made it.
    pub(super) image: Option<&'a Arc<Image>>,
    /// The cages that the call was judged to name, and the one in whose name it was made.
    pub(super) named: &'a [CageId; 8],
}

/// A frame and the one below it, which lives longer.
struct Link<'a> {
    frame: Frame<'a>,
    below: *const Link<'static>,
    /// Frames up to this one.
    depth: usize,
}

thread_local! {
    /// The innermost one.
    static TOP: Cell<*const Link<'static>> = const { Cell::new(ptr::null()) };
}

/// `LocalKey::set` would first look whether there is a value, which there always is.
fn set_top(link: *const Link<'static>) {
    TOP.with(|top| top.set(link));
}

/// The calls under way, from the innermost on.
#[derive(Clone, Copy)]
pub(super) struct Frames<'a>(Option<&'a Link<'a>>);

impl<'a> Frames<'a> {
    fn top() -> Self {
        // SAFETY: see `look`, the only one who asks: a link is there from `within` until that
        // takes it off, and those below it for longer.
        Self(unsafe { TOP.get().as_ref() })
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = &'a Frame<'a>;

    fn next(&mut self) -> Option<&'a Frame<'a>> {
        let link = self.0?;
        // SAFETY: as in `top`.
        self.0 = unsafe { link.below.as_ref() };
        Some(&link.frame)
    }
}

/// Has `work` look at the calls that are under way. They are for as long as it takes, for each began in
/// a function that has called this one; and nothing of them gets out, for `work` does not know for
/// how long they are.
#[inline]
pub(super) fn look<T>(work: impl for<'a> FnOnce(Frames<'a>) -> T) -> T {
    work(Frames::top())
}

/// Runs `work` with one call more under way. `None` when there are `most` already.
#[inline]
pub(super) fn within<T>(frame: Frame<'_>, most: usize, work: impl FnOnce() -> T) -> Option<T> {
    struct Leave(*const Link<'static>);
    impl Drop for Leave {
        fn drop(&mut self) {
            set_top(self.0);
        }
    }
    let below = TOP.get();
    // SAFETY: as in `Frames::top`.
    let depth = 1 + unsafe { below.as_ref() }.map_or(0, |link| link.depth);
    if depth > most {
        return None;
    }
    let link = Link {
        frame,
        below,
        depth,
    };
    set_top(ptr::from_ref(&link).cast());
    // Dropped before the link is, also where `work` panics.
    let _leave = Leave(below);
    Some(work())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posix::testing::Fixture;

    fn numbers() -> Vec<u32> {
        look(|frames| frames.map(|frame| frame.nr).collect())
    }

    #[test]
    fn the_innermost_comes_first_and_each_goes_when_it_ends() {
        let fixture = Fixture::new();
        let named = [fixture.cage.id; 8];
        let image = fixture.cage.image().unwrap();
        let frame = |nr| Frame {
            grate: fixture.cage.id,
            service: image.service(),
            nr,
            caller: &fixture.cage,
            image: None,
            named: &named,
        };
        assert_eq!(numbers(), []);
        let inner = within(frame(1), 2, || {
            assert_eq!(numbers(), [1]);
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                within(frame(2), 2, || {
                    assert_eq!(numbers(), [2, 1]);
                    assert_eq!(within(frame(3), 2, || ()), None);
                    std::panic::resume_unwind(Box::new(()))
                })
            }));
            assert!(panicked.is_err());
            numbers()
        });
        assert_eq!(inner, Some(vec![1]));
        assert_eq!(numbers(), []);
        // Another thread is in none of them.
        let other = within(frame(1), 2, || {
            std::thread::scope(|scope| scope.spawn(numbers).join().unwrap())
        });
        assert_eq!(other, Some(vec![]));
    }
}
