//! Where bytes go out in a stream: pipes, terminals, sockets, redirected standard streams.

use super::filter;
use super::redaction::{Applying, Redaction, Source, Spot};
use super::tail::Tail;
use grate_rs::constants::{SYS_POLL, SYS_WRITE, error, poll};
use grate_rs::kernel::{self, int, value};
use grate_rs::{CageFd, Errno, own_buffer};
use redact::{Action, Event, Filter, Stream, Verdict};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

const EAGAIN: Errno = Errno(error::EAGAIN);
/// How long is waited for room for the last bytes of a stream whose writes do not wait.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that a pipe with any room takes at once.
const PIPE_BUF: usize = 4096;

/// How writes relate to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The reader sees one run of bytes.
    Bytes,
    /// Each write is a message of its own.
    Messages,
}

/// An open file description that bytes stream through, with what is held back of them.
#[derive(Debug)]
pub struct Outlet {
    spot: Spot,
    kind: Kind,
    /// A descriptor of the grate itself for the same, to let out what a killed program has left:
    /// that of a standard stream, or one to add to a file with.
    own: Option<CageFd>,
    /// One that reads and writes a file anywhere that is added to, if there can be one.
    mend: Option<CageFd>,
    /// Whether it can be opened once more by a name, without its being known then what is there.
    is_named: AtomicBool,
    flow: Mutex<Flow>,
}

#[derive(Debug)]
struct Flow {
    stream: Stream,
    /// The rules that it goes through.
    applying: Applying,
    /// What was decided, but not taken by the kernel yet. It goes before everything else.
    unsent: Vec<u8>,
    /// Since when something is held.
    since: Option<Instant>,
    /// What stands in a file before the stream; nothing where the stream has not begun.
    tail: Option<Tail>,
}

/// What the kernel has to be asked to write bytes.
pub type Transmit<'a> = &'a dyn Fn(&[u8]) -> Result<i32, Errno>;

impl Outlet {
    /// One that nothing went through yet.
    pub fn new(
        spot: Spot,
        applying: Applying,
        rules: &Arc<Filter>,
        kind: Kind,
        own: Option<CageFd>,
        mend: Option<CageFd>,
    ) -> Self {
        Self {
            spot,
            kind,
            own,
            mend,
            is_named: AtomicBool::new(false),
            flow: Mutex::new(Flow {
                stream: rules.stream(),
                applying,
                unsent: Vec::new(),
                since: None,
                tail: None,
            }),
        }
    }

    /// Says that it was opened by a name, and that it can't be seen what is there.
    pub fn note_name(&self) {
        self.is_named.store(true, Ordering::Release);
    }

    /// Has more rules apply from now on.
    pub fn add_rules(&self, redaction: &Redaction, fd: CageFd, rules: &Applying) {
        let mut flow = self.flow();
        if !rules.is_subset(&flow.applying) {
            flow.applying.extend(rules);
            let filter = redaction.filter(&flow.applying);
            flow.change_rules(&filter, &self.source(fd, None));
        }
    }

    fn source(&self, fd: CageFd, peer: Option<SocketAddr>) -> Source<'_> {
        let spot = &self.spot;
        Source { fd, spot, peer }
    }

    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.flow.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Writes what the program wrote, and answers how much of it was taken: all, or an error.
    /// `peer` is the one that a message names.
    ///
    /// # Errors
    /// EPERM where a rule denies it; else what the kernel says. Then nothing was taken.
    pub fn write(
        &self,
        fd: CageFd,
        peer: Option<SocketAddr>,
        input: &[u8],
        transmit: Transmit<'_>,
    ) -> Result<i32, Errno> {
        let source = self.source(fd, peer);
        let mut flow = self.flow();
        if let (Spot::Socket, Some(redaction)) = (&self.spot, &filter().redaction)
            && let Some(filter) = redaction.filter_to(fd, peer)
        {
            flow.change_rules(&filter, &source);
        }
        flow.send_unsent(transmit)?;
        flow.look_behind(self.mend)?;
        let before = flow.stream.clone();
        let mut out = Vec::new();
        let verdict = flow.stream.push(input, &mut out);
        if self.kind == Kind::Messages {
            flow.stream.finish(&mut out);
        }
        let events = flow.stream.take_events();
        let refused = match verdict {
            Verdict::Passed if self.kind == Kind::Bytes => None,
            Verdict::Passed => judged(&flow.stream, &events),
            // Its event is the last one.
            Verdict::Denied(_) | Verdict::Dropped(_) => events.last().copied(),
        };
        if let Some(event) = refused {
            filter().note_event(&flow.placed(&event), &source);
            return match event.action {
                Action::Drop => Ok(input.len() as i32),
                _ => Err(filter().denied(fd.cage, event.rule)),
            };
        }
        // Masks first, as in regular files.
        let hidden = flow.begun(&events);
        // Where all is held, the kernel is still asked whether one may write at all.
        let sent = match flow.hide(&hidden).and_then(|()| transmit(&out)) {
            Ok(sent) => (sent as usize).min(out.len()),
            Err(errno) => {
                flow.show(&hidden);
                flow.stream = before;
                return Err(errno);
            }
        };
        let mut taken = input.len();
        let mut events = events;
        if self.kind == Kind::Bytes && sent < out.len() {
            (flow.stream, taken) = part_taken(before, input, sent, &mut out);
            flow.unsent = out.split_off(sent);
            events = flow.stream.take_events();
            let still = flow.begun(&events);
            let lifted: Vec<_> = hidden
                .into_iter()
                .filter(|part| !still.contains(part))
                .collect();
            flow.show(&lifted);
        }
        filter().note_seen(taken);
        events
            .iter()
            .for_each(|event| filter().note_event(&flow.placed(event), &source));
        flow.note_time();
        Ok(taken as i32)
    }

    /// How writes relate to each other.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether it is a regular file that may only be added to.
    pub fn is_appended(&self) -> bool {
        matches!(self.spot, Spot::File(_))
    }

    /// Ends the stream: everything goes out. Where a program can open the same once more, and its
    /// reader sees one run of bytes, half a secret goes out masked, unless it will be known what
    /// went out.
    pub fn finish(&self, fd: CageFd) {
        self.end(fd, || ());
    }

    /// As [`Outlet::finish`], and ends it by `act`; nothing is written between the two.
    pub fn end<T>(&self, fd: CageFd, act: impl FnOnce() -> T) -> T {
        let mut flow = self.flow();
        let flow = &mut *flow;
        // A standard stream may have a name too, by which nobody has opened it yet.
        let is_standard = self.own.is_some() && !self.is_appended();
        match (self.is_named.load(Ordering::Acquire), is_standard) {
            (true, _) => flow.stream.finish_masked(&mut flow.unsent),
            (false, true) => flow.stream.finish_for_now(&mut flow.unsent),
            (false, false) => flow.stream.finish(&mut flow.unsent),
        }
        flow.tell(&self.source(fd, None));
        flow.tail = None;
        // Nobody is left to tell of an error, nor to come back when there is room.
        while flow.send_unsent(&|bytes| plain_write(fd, bytes)) == Err(EAGAIN)
            && is_writable(fd, PATIENCE)
        {}
        flow.unsent.clear();
        flow.since = None;
        act()
    }

    /// As [`Outlet::finish`] after the program is gone.
    pub fn finish_alone(&self) {
        if let Some(own) = self.own {
            self.finish(own);
        }
    }

    /// Lets out masked what is held.
    pub fn flush(&self, fd: CageFd) {
        let mut flow = self.flow();
        flow.flush(&self.source(fd, None));
    }

    /// Lets out what has been held for that long, masked unless it is little, if it can be without
    /// waiting.
    pub fn flush_old(&self, hold: Duration, some_fd: impl FnOnce() -> Option<CageFd>) {
        // Who holds the lock is writing, and looks after the time.
        let Ok(mut flow) = self.flow.try_lock() else {
            return;
        };
        let is_due = flow.since.is_some_and(|since| since.elapsed() >= hold);
        if !is_due && flow.unsent.is_empty() {
            return;
        }
        let Some(fd) = some_fd() else { return };
        if is_due {
            flow.let_go(&self.source(fd, None), Stream::flush_late);
        }
        // As much at a time as is taken without waiting.
        while !flow.unsent.is_empty() && is_writable(fd, Duration::ZERO) {
            let sent = plain_write(fd, &flow.unsent[..flow.unsent.len().min(PIPE_BUF)]);
            let Ok(sent @ 1..) = sent else { break };
            flow.unsent.drain(..sent as usize);
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        // Standard streams are shared with the grate.
        if self.is_appended() {
            [self.own, self.mend]
                .into_iter()
                .flatten()
                .for_each(CageFd::close);
        }
    }
}

/// The match that refuses a whole message, where one does: nothing comes after it that could
/// complete another.
fn judged(stream: &Stream, events: &[Event]) -> Option<Event> {
    let rules = stream.filter().rules();
    let judged = events.iter().map(|event| Event {
        action: rules[event.rule].action(),
        ..*event
    });
    judged
        .into_iter()
        .find(|event| matches!(event.action, Action::Deny | Action::Drop))
}

/// A stream that has taken in as much of a write as the kernel has taken of what comes out, and
/// how much that is. What comes out of it goes to `out`: some of it may be left over.
fn part_taken(before: Stream, input: &[u8], sent: usize, out: &mut Vec<u8>) -> (Stream, usize) {
    const STEP: usize = 512;
    let mut stream = before;
    let mut taken = 0;
    out.clear();
    for part in input.chunks(STEP) {
        if out.len() >= sent {
            break;
        }
        // All of it has passed, so its parts do.
        let _: Verdict = stream.push(part, out);
        taken += part.len();
    }
    (stream, taken)
}

impl Flow {
    /// Goes on with other rules. What the old ones hold goes out masked.
    fn change_rules(&mut self, rules: &Arc<Filter>, source: &Source<'_>) {
        if Arc::ptr_eq(self.stream.filter(), rules) {
            return;
        }
        self.stream.flush_masked(&mut self.unsent);
        self.tell(source);
        self.stream = self.stream.under(rules);
        self.tail = None;
    }

    /// Has the stream to a file know what is there, before anything goes through it.
    fn look_behind(&mut self, file: Option<CageFd>) -> Result<(), Errno> {
        if let (Some(file), None) = (file, &self.tail) {
            let (tail, stream) = Tail::of(file, self.stream.filter())?;
            (self.tail, self.stream) = (Some(tail), stream);
        }
        Ok(())
    }

    /// Tells of what was found. What matches began with in a file is masked there.
    fn tell(&mut self, source: &Source<'_>) {
        let events = self.stream.take_events();
        // Nobody is there to tell of an error.
        let _ = self.hide(&self.begun(&events));
        events
            .iter()
            .for_each(|event| filter().note_event(&self.placed(event), source));
    }

    /// Which parts of what is in the file matches begin with.
    fn begun(&self, events: &[Event]) -> Vec<Range<usize>> {
        let tail = self.tail.as_ref();
        tail.map_or_else(Vec::new, |tail| tail.parts(events))
    }

    fn hide(&self, parts: &[Range<usize>]) -> Result<(), Errno> {
        self.tail.as_ref().map_or(Ok(()), |tail| tail.hide(parts))
    }

    fn show(&self, parts: &[Range<usize>]) {
        if let Some(tail) = &self.tail {
            tail.show(parts);
        }
    }

    /// A match by its place in the file, if it goes to one.
    fn placed(&self, event: &Event) -> Event {
        let tail = self.tail.as_ref();
        tail.map_or(*event, |tail| tail.placed(event))
    }

    /// Decides how what is held goes out. Where nothing is, there is nothing to decide: a candidate
    /// may be open all the same, of which only what is to come is secret.
    fn let_go(&mut self, source: &Source<'_>, flush: fn(&mut Stream, &mut Vec<u8>)) {
        if self.stream.held() > 0 {
            flush(&mut self.stream, &mut self.unsent);
            self.tell(source);
        }
        self.note_time();
    }

    fn flush(&mut self, source: &Source<'_>) {
        let fd = source.fd;
        self.let_go(source, Stream::flush_masked);
        // What does not go now goes before the next write, which gets the error.
        let _ = self.send_unsent(&|bytes| plain_write(fd, bytes));
        self.note_time();
    }

    fn send_unsent(&mut self, transmit: Transmit<'_>) -> Result<(), Errno> {
        while !self.unsent.is_empty() {
            let sent = transmit(&self.unsent)? as usize;
            if sent == 0 {
                return Err(EAGAIN);
            }
            self.unsent.drain(..sent.min(self.unsent.len()));
        }
        Ok(())
    }

    fn note_time(&mut self) {
        if self.stream.held() == 0 {
            self.since = None;
        } else if self.since.is_none() {
            self.since = Some(Instant::now());
        }
    }
}

/// write(2) of bytes of the grate's own.
pub fn plain_write(fd: CageFd, bytes: &[u8]) -> Result<i32, Errno> {
    let args = [
        fd.arg(),
        own_buffer(bytes.as_ptr()),
        value(fd.cage, bytes.len() as u64),
    ];
    kernel::call(SYS_WRITE, fd.cage, &args)
}

/// Whether a write would be taken at once, or is within that time.
fn is_writable(fd: CageFd, wait: Duration) -> bool {
    let mut entry = [0; 8];
    entry[..4].copy_from_slice(&fd.fd.to_le_bytes());
    entry[4..6].copy_from_slice(&poll::POLLOUT.to_le_bytes());
    let args = [
        own_buffer(entry.as_mut_ptr()),
        value(fd.cage, 1),
        int(fd.cage, wait.as_millis() as i32),
    ];
    kernel::call(SYS_POLL, fd.cage, &args) == Ok(1)
}
