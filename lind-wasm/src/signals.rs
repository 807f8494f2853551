//! A cage's signals: what it does about each, which are held back, which are to come.
//!
//! As on Lind they belong to the cage, and its first thread runs the handlers: when a system call
//! returns to the program, and where the engine looks at its epoch while the program runs. Never
//! while a grate works for it, whose code is another program's. (signal(7), sigaction(2).)

use std::sync::{Mutex, MutexGuard};

/// Most handlers within handlers: each takes native stack.
const MOST_NESTED: usize = 16;

/// Whether a call can be made once more that a handler interrupted (signal(7)). Not so poll, select,
/// clock_nanosleep, sigsuspend, epoll_wait, pselect6, ppoll, epoll_pwait.
pub fn can_restart(nr: u32) -> bool {
    const ENDED: [u32; 8] = [7, 23, 35, 130, 232, 270, 271, 281];
    !ENDED.contains(&nr)
}

/// A signal that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(u8);

/// What a signal does where no handler was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ByDefault {
    End,
    Nothing,
}

impl Signal {
    /// The other end of a pipe or connection is gone.
    pub const PIPE: Self = Self(13);
    /// A timer has run down.
    pub const ALARM: Self = Self(14);
    /// A child has ended.
    pub const CHILD: Self = Self(17);
    const KILL: Self = Self(9);
    const STOP: Self = Self(19);
    /// Real-time signals included, which here are as the others: one that is to come already does
    /// not come twice.
    const LAST: u8 = 64;

    /// The signal of that number.
    pub fn new(number: i32) -> Option<Self> {
        let number = u8::try_from(number).ok()?;
        (1..=Self::LAST).contains(&number).then_some(Self(number))
    }

    /// Its number.
    pub fn number(self) -> i32 {
        self.0.into()
    }

    const fn bit(self) -> u64 {
        1 << (self.0 - 1)
    }

    /// Whether a program may have a say in it.
    pub fn can_be_caught(self) -> bool {
        !matches!(self, Self::KILL | Self::STOP)
    }

    fn by_default(self) -> ByDefault {
        /// SIGCHLD, SIGCONT and those that would stop, SIGURG, SIGWINCH.
        const NOTHING: [u8; 8] = [17, 18, 19, 20, 21, 22, 23, 28];
        if NOTHING.contains(&self.0) {
            ByDefault::Nothing
        } else {
            ByDefault::End
        }
    }
}

/// A set of signals that are held back.
fn mask(bits: u64) -> u64 {
    bits & !(Signal::KILL.bit() | Signal::STOP.bit())
}

/// What is done about a signal, in Lind's layout of `struct sigaction`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Action {
    /// 0 for what it does by default, 1 for nothing, else the handler's place in the function table.
    pub handler: u32,
    /// Signals that are held back while the handler runs.
    pub mask: u64,
    /// As sigaction(2) has them.
    pub flags: u32,
}

impl Action {
    /// Bytes of it.
    pub const LEN: usize = 24;
    const DEFAULT: u32 = 0;
    const IGNORE: u32 = 1;
    const RESTART: u32 = 0x1000_0000;
    const NODEFER: u32 = 0x4000_0000;
    const RESETHAND: u32 = 0x8000_0000;

    /// From its bytes.
    pub fn parse(bytes: &[u8; Self::LEN]) -> Self {
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        Self {
            handler: word(0),
            mask: u64::from_le_bytes(std::array::from_fn(|i| bytes[8 + i])),
            flags: word(16),
        }
    }

    /// To its bytes.
    pub fn bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&self.handler.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.mask.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.flags.to_le_bytes());
        bytes
    }

    /// Whether a function of the program is called.
    pub fn is_a_handler(&self) -> bool {
        self.handler > Self::IGNORE
    }
}

/// What becomes of a signal that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing, now at least: it is ignored, or held back.
    Rests,
    /// A handler is to run.
    Comes,
    /// The cage ends by it.
    Ends,
}

/// What is next for the thread that runs handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// To call a handler, and then to [`Signals::finish`] with `resume`.
    Call {
        /// Its place in the function table.
        handler: u32,
        /// What it is called for.
        signal: Signal,
        /// Whether a call that it interrupted is made once more.
        restarts: bool,
        /// What is held back afterwards.
        resume: u64,
    },
    /// To end.
    End(Signal),
}

/// The signals of a cage.
#[derive(Debug)]
pub struct Signals(Mutex<State>);

#[derive(Clone, Debug)]
struct State {
    actions: [Action; Signal::LAST as usize],
    held: u64,
    /// What `sigsuspend`, or a wait with a mask, found held back, which is to be so again after the
    /// handler.
    suspended: Option<u64>,
    coming: u64,
    nested: usize,
    /// Somebody sees to it that what comes is noticed.
    hurried: bool,
}

impl Default for Signals {
    fn default() -> Self {
        Self(Mutex::new(State {
            actions: [Action::default(); Signal::LAST as usize],
            held: 0,
            suspended: None,
            coming: 0,
            nested: 0,
            hurried: false,
        }))
    }
}

impl State {
    fn action(&mut self, signal: Signal) -> &mut Action {
        &mut self.actions[usize::from(signal.0) - 1]
    }

    fn is_ignored(&mut self, signal: Signal) -> bool {
        let action = *self.action(signal);
        match action.handler {
            Action::IGNORE => true,
            Action::DEFAULT => signal.by_default() == ByDefault::Nothing,
            _ => false,
        }
    }

    fn resume(&mut self) {
        if let Some(held) = self.suspended.take() {
            self.held = held;
        }
    }

    /// What is held back no more and would do nothing does not come.
    fn forget_ignored(&mut self) {
        for number in 1..=Signal::LAST {
            let signal = Signal(number);
            if self.held & signal.bit() == 0 && self.is_ignored(signal) {
                self.coming &= !signal.bit();
            }
        }
    }

    fn is_due(&self) -> bool {
        self.coming & !self.held != 0 && self.nested < MOST_NESTED
    }
}

impl Signals {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Those of a forked child: nothing is to come to it.
    pub fn inherit(&self) -> Self {
        let state = self.state().clone();
        Self(Mutex::new(State {
            suspended: None,
            held: state.suspended.unwrap_or(state.held),
            coming: 0,
            nested: 0,
            hurried: false,
            ..state
        }))
    }

    /// Another program takes the place of the one whose handlers these were. What was ignored stays
    /// so, and what is held back.
    pub fn reset(&self) {
        let mut state = self.state();
        for action in &mut state.actions {
            if action.is_a_handler() {
                *action = Action::default();
            }
        }
        state.held = state.suspended.take().unwrap_or(state.held);
        state.nested = 0;
    }

    /// Sets what is done about a signal, and answers what was.
    pub fn set_action(&self, signal: Signal, new: Option<Action>) -> Action {
        let mut state = self.state();
        let before = *state.action(signal);
        if let Some(new) = new {
            *state.action(signal) = new;
            if state.is_ignored(signal) {
                state.coming &= !signal.bit();
            }
        }
        before
    }

    /// Changes which signals are held back, and answers which were.
    pub fn change_held(&self, change: impl FnOnce(u64) -> u64) -> u64 {
        let mut state = self.state();
        let before = state.held;
        state.held = mask(change(before));
        state.forget_ignored();
        before
    }

    /// Holds other signals back until a handler has run.
    pub fn suspend(&self, held: u64) {
        let mut state = self.state();
        state.suspended = Some(state.suspended.unwrap_or(state.held));
        state.held = mask(held);
        state.forget_ignored();
    }

    /// Ends [`Signals::suspend`] where no handler is to run.
    pub fn resume(&self) {
        let mut state = self.state();
        state.resume();
        state.forget_ignored();
    }

    /// A signal is sent.
    pub fn send(&self, signal: Signal) -> Fate {
        let mut state = self.state();
        if state.held & signal.bit() != 0 {
            state.coming |= signal.bit();
            return Fate::Rests;
        }
        if state.is_ignored(signal) {
            return Fate::Rests;
        }
        if !state.action(signal).is_a_handler() {
            return Fate::Ends;
        }
        state.coming |= signal.bit();
        Fate::Comes
    }

    /// Whether a handler of the program's is set for a signal.
    pub fn is_caught(&self, signal: Signal) -> bool {
        self.state().action(signal).is_a_handler()
    }

    /// Whether a handler is running.
    pub fn is_handling(&self) -> bool {
        self.state().nested > 0
    }

    /// Whether there is something next.
    pub fn are_due(&self) -> bool {
        self.state().is_due()
    }

    /// Takes what is next, the lowest number first.
    pub fn next(&self) -> Option<Next> {
        let mut state = self.state();
        while state.is_due() {
            let due = state.coming & !state.held;
            let signal = Signal(due.trailing_zeros() as u8 + 1);
            state.coming &= !signal.bit();
            if state.is_ignored(signal) {
                continue;
            }
            let action = *state.action(signal);
            if !action.is_a_handler() {
                return Some(Next::End(signal));
            }
            if action.flags & Action::RESETHAND != 0 {
                *state.action(signal) = Action::default();
            }
            let own = match action.flags & Action::NODEFER {
                0 => signal.bit(),
                _ => 0,
            };
            let resume = state.suspended.take().unwrap_or(state.held);
            state.held = mask(state.held | action.mask | own);
            state.nested += 1;
            return Some(Next::Call {
                handler: action.handler,
                signal,
                restarts: action.flags & Action::RESTART != 0,
                resume,
            });
        }
        // What the program waited for is done by nobody any more.
        state.resume();
        None
    }

    /// A handler has returned.
    pub fn finish(&self, resume: u64) {
        let mut state = self.state();
        state.held = resume;
        state.nested = state.nested.saturating_sub(1);
    }

    /// Runs `kick` while there is something next, which is not taken meanwhile: whom it interrupts
    /// has a reason.
    pub fn while_due(&self, kick: impl FnOnce()) {
        let state = self.state();
        if state.is_due() {
            kick();
        }
    }

    /// True for the first who asks until [`Signals::is_noticed`].
    pub fn claim_hurry(&self) -> bool {
        !std::mem::replace(&mut self.state().hurried, true)
    }

    /// Whether nothing is to come any more that was not noticed; then the next who asks may hurry.
    pub fn is_noticed(&self) -> bool {
        let mut state = self.state();
        let noticed = !state.is_due();
        state.hurried = !noticed;
        noticed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: Signal = Signal(10);
    const OTHER: Signal = Signal(12);

    fn handler(mask: u64, flags: u32) -> Option<Action> {
        let handler = 7;
        Some(Action {
            handler,
            mask,
            flags,
        })
    }

    fn called(signals: &Signals) -> (Signal, u64) {
        match signals.next() {
            Some(Next::Call { signal, resume, .. }) => (signal, resume),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn numbers() {
        assert_eq!([0, -1, 65, i32::MAX].map(Signal::new), [None; 4]);
        assert!(
            [1, 64]
                .into_iter()
                .all(|number| Signal::new(number).is_some())
        );
        assert!(!Signal(9).can_be_caught() && !Signal(19).can_be_caught());
    }

    #[test]
    fn an_action_is_as_lind_has_it() {
        let action = Action {
            handler: 0x0102_0304,
            mask: 0x1112_1314_1516_1718,
            flags: 0x2122_2324,
        };
        let bytes = action.bytes();
        assert_eq!(bytes[..4], [4, 3, 2, 1]);
        assert_eq!(bytes[8..10], [0x18, 0x17]);
        assert_eq!(bytes[16..20], [0x24, 0x23, 0x22, 0x21]);
        assert_eq!(Action::parse(&bytes), action);
    }

    #[test]
    fn what_a_signal_does_without_a_handler() {
        let signals = Signals::default();
        assert_eq!(signals.send(USER), Fate::Ends);
        assert_eq!(signals.send(Signal::CHILD), Fate::Rests);
        let ignore = Action {
            handler: 1,
            ..Action::default()
        };
        signals.set_action(USER, Some(ignore));
        assert_eq!(signals.send(USER), Fate::Rests);
        assert!(!signals.are_due());
        // One that was held back does it once it is not.
        signals.change_held(|_| OTHER.bit());
        assert_eq!(signals.send(OTHER), Fate::Rests);
        assert!(!signals.are_due());
        assert_eq!(signals.change_held(|_| 0), OTHER.bit());
        assert_eq!(signals.next(), Some(Next::End(OTHER)));
    }

    #[test]
    fn a_handler_runs_with_its_own_signal_and_its_mask_held_back() {
        let signals = Signals::default();
        signals.set_action(USER, handler(OTHER.bit() | Signal::KILL.bit(), 0));
        signals.set_action(OTHER, handler(0, Action::NODEFER));
        assert_eq!(signals.send(USER), Fate::Comes);
        assert_eq!(signals.send(USER), Fate::Comes);
        let (signal, resume) = called(&signals);
        assert_eq!((signal, resume), (USER, 0));
        assert_eq!(signals.next(), None);
        // Both wait; KILL can't be held back.
        assert_eq!(signals.send(OTHER), Fate::Rests);
        assert_eq!(signals.send(USER), Fate::Rests);
        assert_eq!(signals.send(Signal::KILL), Fate::Ends);
        signals.finish(resume);
        assert_eq!(called(&signals).0, USER);
        signals.finish(0);
        let (signal, resume) = called(&signals);
        assert_eq!(signal, OTHER);
        // That one may come again within its handler, though not without end.
        for _ in 1..MOST_NESTED {
            assert_eq!(signals.send(OTHER), Fate::Comes);
            assert_eq!(called(&signals).0, OTHER);
        }
        assert_eq!(signals.send(OTHER), Fate::Comes);
        assert!(!signals.are_due());
        signals.finish(resume);
        assert!(signals.are_due());
    }

    #[test]
    fn a_handler_may_be_for_once() {
        let signals = Signals::default();
        signals.set_action(USER, handler(0, Action::RESETHAND));
        signals.send(USER);
        called(&signals);
        signals.finish(0);
        assert_eq!(signals.send(USER), Fate::Ends);
    }

    #[test]
    fn what_was_held_back_before_a_pause_is_so_after_its_handler() {
        let signals = Signals::default();
        signals.set_action(USER, handler(0, 0));
        signals.change_held(|_| USER.bit());
        signals.send(USER);
        assert!(!signals.are_due());
        signals.suspend(0);
        let (_, resume) = called(&signals);
        assert_eq!(resume, USER.bit());
        signals.finish(resume);
        assert_eq!(signals.change_held(|held| held), USER.bit());
    }

    #[test]
    fn fork_keeps_handlers_and_exec_what_is_ignored() {
        let signals = Signals::default();
        let ignore = Action {
            handler: 1,
            ..Action::default()
        };
        signals.set_action(USER, handler(0, 0));
        signals.set_action(OTHER, Some(ignore));
        signals.change_held(|_| 4);
        signals.send(USER);
        let child = signals.inherit();
        assert!(child.is_caught(USER) && !child.are_due() && signals.are_due());
        assert_eq!(child.change_held(|held| held), 4);
        child.reset();
        assert_eq!(child.send(USER), Fate::Ends);
        assert_eq!(child.send(OTHER), Fate::Rests);
    }
}
