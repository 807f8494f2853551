//! One stream of bytes, from where it is read to where it goes.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redact::{Filter, RuleSet, Stream, Verdict};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::report::{Report, To};

/// Bytes that are read at a time.
const PIECE: usize = 64 << 10;

/// What all streams share.
#[derive(Debug)]
pub struct Shared {
    pub rules: RuleSet,
    pub report: Report,
    pub hold: Duration,
}

/// One stream on its way.
pub struct Outlet<'s, W> {
    shared: &'s Shared,
    to: To<'s>,
    stream: Stream,
    out: Vec<u8>,
    sink: W,
}

impl<'s, W: Write> Outlet<'s, W> {
    pub fn new(shared: &'s Shared, filter: &Arc<Filter>, to: To<'s>, sink: W) -> Self {
        Self {
            shared,
            to,
            stream: filter.stream(),
            out: Vec::with_capacity(PIECE),
            sink,
        }
    }

    /// Takes bytes in, and lets out what can be told.
    pub fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.stream.push(bytes, &mut self.out) {
            Verdict::Passed | Verdict::Dropped(_) => {}
            Verdict::Denied(rule) => {
                let name = self.shared.rules.rules()[rule].name();
                self.let_out()?;
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    format!("rule {name} denies what comes next"),
                ));
            }
        }
        self.let_out()
    }

    /// Lets out what is held, masked if it is more than a little of what it may become.
    pub fn flush_late(&mut self) -> io::Result<()> {
        self.stream.flush_late(&mut self.out);
        self.let_out()
    }

    /// Ends the stream.
    pub fn finish(&mut self) -> io::Result<()> {
        self.stream.finish(&mut self.out);
        self.let_out()
    }

    pub fn holds(&self) -> bool {
        self.stream.held() > 0
    }

    fn let_out(&mut self) -> io::Result<()> {
        for event in self.stream.take_events() {
            self.shared.report.note(&self.shared.rules, self.to, &event);
        }
        self.sink.write_all(&self.out)?;
        self.out.clear();
        self.sink.flush()
    }

    /// Passes everything on that comes from a descriptor, until its end. `each_moment` is called
    /// all the while, and says for how long bytes may be held now.
    pub fn pump(
        &mut self,
        from: impl AsFd,
        mut each_moment: impl FnMut() -> Duration,
        mut advance: impl FnMut(usize),
    ) -> io::Result<()> {
        let mut piece = vec![0; PIECE];
        let mut since: Option<Instant> = None;
        loop {
            let hold = each_moment().min(self.shared.hold);
            // While nothing is held there is time to look around now and then.
            let wait = match since {
                Some(since) => hold.saturating_sub(since.elapsed()),
                None => self.shared.hold.max(Duration::from_millis(100)),
            };
            let timeout = Timespec::try_from(wait).ok();
            let fd = from.as_fd();
            let ready = match poll(&mut [PollFd::new(&fd, PollFlags::IN)], timeout.as_ref()) {
                Err(Errno::INTR) => continue,
                ready => ready?,
            };
            if ready == 0 {
                if since.take().is_some() {
                    self.flush_late()?;
                }
                continue;
            }
            match rustix::io::read(&from, &mut piece) {
                // A terminal that nobody has open any more.
                Ok(0) | Err(Errno::IO) => break,
                Err(Errno::INTR | Errno::AGAIN) => continue,
                Err(error) => return Err(error.into()),
                Ok(len) => {
                    self.take(&piece[..len])?;
                    advance(len);
                }
            }
            since = match self.holds() {
                true => since.or_else(|| Some(Instant::now())),
                false => None,
            };
        }
        self.finish()
    }
}
