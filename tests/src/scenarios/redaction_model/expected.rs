//! What a program is told, and what comes out, worked out without any grate: each place where
//! bytes go out is looked at as one piece, by the engine itself.
//!
//! A stream's bytes are those of one piece. In a regular file nothing is held back: after each step
//! it holds what the program has written with all matches masked, however it was written. Only
//! matches that were there before it was opened stay, until something is written into them, and
//! what stands behind masks is forgotten when nobody has the file open any more.

use super::program::{Call, FILES, O_APPEND, O_CLOEXEC, O_TRUNC, Program, Step, WAYS};
use redact::{Action, Event, Filter, Place, RuleSet, Stream, Verdict};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

const EPERM: i64 = -1;
const EBADF: i64 = -9;
const ENODEV: i64 = -19;
const EINVAL: i64 = -22;
const ESPIPE: i64 = -29;
const ENOTSOCK: i64 = -88;

/// All that can be seen of a run.
#[derive(Debug)]
pub struct Expected {
    /// In order: a step's line and result, and what is in the files then.
    pub steps: Vec<(usize, i64, Vec<Vec<u8>>)>,
    /// What has come out of standard output and error, and of [`WAYS`].
    pub outlets: Vec<Vec<u8>>,
    /// What is in the files in the end.
    pub files: Vec<Vec<u8>>,
    /// What the engine makes of a stream in one piece, and what it made of the writes, where these
    /// are not the same.
    pub inexact: Option<(Vec<u8>, Vec<u8>)>,
    /// What was found in streams: rule, action, offset and length.
    pub found: Vec<(String, String, u64, u64)>,
}

/// A run of a program, as it should be.
pub fn run(rules: &RuleSet, program: &Program) -> Expected {
    let mut world = World::new(rules, program);
    let mut line = Program::first_line();
    world.all(&program.steps, &mut line);
    world.tables.clear();
    world.settle();
    let found = world.found.iter().map(|event| {
        let name = rules.rules()[event.rule].name().to_owned();
        (name, event.action.to_string(), event.offset, event.len)
    });
    let mut found: Vec<_> = found.collect();
    found.sort_unstable();
    let inexact = world
        .outlets
        .iter()
        .find_map(|outlet| outlet.inexact.clone());
    let outlets = world.outlets.into_iter().map(|outlet| outlet.out);
    Expected {
        steps: world.steps,
        outlets: outlets.take(2 + WAYS.len()).collect(),
        files: world.files.into_iter().map(|file| file.shown).collect(),
        inexact,
        found,
    }
}

/// What an open file description leads to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    File(usize),
    Outlet(usize),
}

struct Description {
    target: Target,
    offset: u64,
    append: bool,
}

/// A cage's descriptors by slot, each with whether exec closes it.
type Table = BTreeMap<&'static str, (Rc<RefCell<Description>>, bool)>;

struct Outlet {
    filter: Arc<Filter>,
    kind: &'static str,
    /// The file that it adds to.
    appends_to: Option<usize>,
    stream: Stream,
    /// A packet's match that its rule refuses it for.
    refused: Option<Event>,
    out: Vec<u8>,
    /// What was in the file before the stream.
    before: Vec<u8>,
    /// What should have come out in one piece, and what came, where they differ.
    inexact: Option<(Vec<u8>, Vec<u8>)>,
    /// What was taken in since the stream began, and where that is in `out`; nothing where it was
    /// not all in one piece.
    piece: Option<(Vec<u8>, usize)>,
}

/// A file, as the program thinks it is, as far as that is known, and as it is.
struct File {
    rules: Option<Arc<Filter>>,
    plain: Vec<u8>,
    shown: Vec<u8>,
    outlet: Option<usize>,
}

struct World {
    files: Vec<File>,
    outlets: Vec<Outlet>,
    /// That of the cage that started it all, then of the others, each the next one's parent.
    tables: Vec<Table>,
    steps: Vec<(usize, i64, Vec<Vec<u8>>)>,
    found: Vec<Event>,
}

/// A text with its matches masked, and the matches.
fn masked(filter: &Arc<Filter>, text: &[u8]) -> (Vec<u8>, Vec<Event>) {
    let mut stream = filter.stream();
    let mut out = Vec::new();
    assert_eq!(stream.push(text, &mut out), Verdict::Passed);
    stream.finish(&mut out);
    (out, stream.take_events())
}

fn range(event: &Event) -> Range<usize> {
    let start = event.offset as usize;
    start..start + event.len as usize
}

impl World {
    fn new(rules: &RuleSet, program: &Program) -> Self {
        let mut world = Self {
            files: Vec::new(),
            outlets: Vec::new(),
            tables: vec![Table::new(), Table::new()],
            steps: Vec::new(),
            found: Vec::new(),
        };
        let standard = [("1", Place::Stdout), ("2", Place::Stderr)]
            .map(|(slot, place)| (slot, "standard", place));
        let ways = WAYS.iter().map(|(slot, kind, _)| {
            let place = match *kind {
                "pipe" => Place::Pipe,
                "tcp" => Place::Socket(None),
                _ => Place::Unix,
            };
            (*slot, *kind, place)
        });
        for (slot, kind, place) in standard.into_iter().chain(ways) {
            let target = Target::Outlet(world.outlets.len());
            world
                .outlets
                .push(Outlet::new(rules.filter_of(&rules.at(place)), kind, None));
            let description = Rc::new(RefCell::new(Description {
                target,
                offset: 0,
                append: false,
            }));
            if kind == "standard" {
                world.tables[0].insert(slot, (Rc::clone(&description), false));
            }
            world.tables[1].insert(slot, (description, false));
        }
        for (index, (path, before)) in FILES.iter().zip(&program.before).enumerate() {
            let applying = rules.at(Place::File(path.as_bytes()));
            let filter = (!applying.is_empty()).then(|| rules.filter_of(&applying));
            let only_added_to = applying
                .iter()
                .any(|rule| rules.rules()[*rule].append_only());
            let outlet = only_added_to.then_some(world.outlets.len());
            if let (Some(_), Some(filter)) = (outlet, &filter) {
                let mut outlet = Outlet::new(Arc::clone(filter), "file", Some(index));
                outlet.precede(before);
                world.outlets.push(outlet);
            }
            world.files.push(File {
                rules: filter,
                plain: before.clone(),
                shown: before.clone(),
                outlet,
            });
        }
        world
    }

    fn table(&mut self) -> &mut Table {
        let last = self.tables.len() - 1;
        &mut self.tables[last]
    }

    fn description(&mut self, slot: &str) -> Option<Rc<RefCell<Description>>> {
        self.table()
            .get(slot)
            .map(|(description, _)| Rc::clone(description))
    }

    fn all(&mut self, steps: &[Step], line: &mut usize) {
        for step in steps {
            if let Step::Fork(steps, _) = step {
                let child = self.table().clone();
                self.tables.push(child);
                *line += 1;
                self.all(steps, line);
                self.tables.pop();
                *line -= 1;
            }
            let result = match self.step(step) {
                Ok(result) | Err(result) => result,
            };
            self.settle();
            let files = self.files.iter().map(|file| file.shown.clone()).collect();
            self.steps.push((*line, result, files));
            *line += 1;
        }
    }

    /// What happens where nothing leads to any more.
    fn settle(&mut self) {
        let used: Vec<Target> = self
            .tables
            .iter()
            .flat_map(|table| table.values())
            .map(|(description, _)| description.borrow().target)
            .collect();
        for index in 0..self.outlets.len() {
            if !used.contains(&Target::Outlet(index)) {
                self.let_out(index, Outlet::finish);
                if let Some(file) = self.outlets[index].appends_to {
                    // The next one to open it begins by what is there.
                    let shown = self.files[file].shown.clone();
                    self.outlets[index].precede(&shown);
                }
            }
        }
        for (index, file) in self.files.iter_mut().enumerate() {
            if !used.contains(&Target::File(index)) {
                file.plain.clone_from(&file.shown);
            }
        }
    }

    /// Lets an outlet do something, and follows what comes out.
    fn let_out<T>(&mut self, index: usize, act: impl FnOnce(&mut Outlet) -> T) -> T {
        let outlet = &mut self.outlets[index];
        let before = outlet.out.len();
        let result = act(outlet);
        let events = outlet.stream.take_events();
        if let Some(file) = outlet.appends_to {
            let shown = &mut self.files[file].shown;
            // What was there before the stream, of what is a secret now.
            for event in events.iter().filter(|event| event.action != Action::Audit) {
                let place = range(event);
                let end = place.end.min(outlet.before.len());
                shown[place.start.min(end)..end].fill(redact::MASK);
            }
            shown.extend_from_slice(&outlet.out[before..]);
        }
        self.found.extend(events);
        self.found.extend(outlet.refused.take());
        result
    }

    fn step(&mut self, step: &Step) -> Result<i64, i64> {
        match step {
            Step::Open(slot, path, flags) => self.open(slot, path, *flags),
            Step::Close(slot) => self.table().remove(slot).map(|_| 0).ok_or(EBADF),
            Step::Dup(slot, new, over) => {
                // The guest knows no number to copy it over, and says so before it asks.
                if *over && !self.table().contains_key(new) {
                    return Err(1);
                }
                let description = self.description(slot).ok_or(EBADF)?;
                if !(*over && slot == new) {
                    self.table().insert(new, (description, false));
                }
                Ok(0)
            }
            Step::Write(call, slot, at, parts) => self.write(*call, slot, *at, &parts.concat()),
            Step::Lseek(slot, offset, whence) => self.lseek(slot, *offset, *whence),
            Step::Ftruncate(slot, len) => match self.target(slot)? {
                Target::Outlet(_) => Err(EINVAL),
                Target::File(index) => Ok(self.resize(index, *len)),
            },
            Step::Truncate(path, len) => {
                let index = file_at(path);
                match self.files[index].outlet {
                    Some(_) => Err(EPERM),
                    None => Ok(self.resize(index, *len)),
                }
            }
            Step::Fallocate(slot, at, len) => match self.target(slot)? {
                Target::Outlet(index) if self.outlets[index].is_socket() => Err(ENODEV),
                Target::Outlet(_) => Err(ESPIPE),
                Target::File(index) => {
                    let size = self.files[index].plain.len() as u64;
                    Ok(self.resize(index, size.max(at + len)))
                }
            },
            Step::Setfl(slot, append) => {
                let description = self.description(slot).ok_or(EBADF)?;
                let mut description = description.borrow_mut();
                if let Target::Outlet(index) = description.target
                    && self.outlets[index].appends_to.is_some()
                    && !append
                {
                    return Err(EPERM);
                }
                description.append = *append;
                Ok(0)
            }
            Step::Fsync(slot) => match self.target(slot)? {
                Target::File(_) => Ok(0),
                Target::Outlet(index) => {
                    self.let_out(index, Outlet::flush);
                    match self.outlets[index].appends_to {
                        Some(_) => Ok(0),
                        None => Err(EINVAL),
                    }
                }
            },
            Step::Fork(..) => Ok(0),
            Step::Exec => {
                self.table().retain(|_, (_, cloexec)| !*cloexec);
                Ok(0)
            }
        }
    }

    fn target(&mut self, slot: &str) -> Result<Target, i64> {
        let description = self.description(slot).ok_or(EBADF)?;
        let target = description.borrow().target;
        Ok(target)
    }

    fn open(&mut self, slot: &'static str, path: &str, flags: i32) -> Result<i64, i64> {
        let index = file_at(path);
        let (append, truncates) = (flags & O_APPEND != 0, flags & O_TRUNC != 0);
        let target = match self.files[index].outlet {
            Some(_) if !append || truncates => return Err(EPERM),
            Some(outlet) => Target::Outlet(outlet),
            None => Target::File(index),
        };
        if truncates {
            self.resize(index, 0);
        }
        let description = Rc::new(RefCell::new(Description {
            target,
            offset: 0,
            append,
        }));
        let cloexec = flags & O_CLOEXEC != 0;
        self.table().insert(slot, (description, cloexec));
        Ok(0)
    }

    fn lseek(&mut self, slot: &str, offset: i64, whence: i32) -> Result<i64, i64> {
        let description = self.description(slot).ok_or(EBADF)?;
        let mut description = description.borrow_mut();
        let Target::File(index) = description.target else {
            return Err(ESPIPE);
        };
        let from = match whence {
            0 => 0,
            1 => description.offset,
            _ => self.files[index].plain.len() as u64,
        };
        let place = u64::try_from(from as i64 + offset).map_err(|_| EINVAL)?;
        description.offset = place;
        Ok(place as i64)
    }

    fn write(&mut self, call: Call, slot: &str, at: u64, data: &[u8]) -> Result<i64, i64> {
        let description = self.description(slot).ok_or(EBADF)?;
        let mut description = description.borrow_mut();
        let index = match description.target {
            Target::Outlet(_) if call.takes_offset() => return Err(ESPIPE),
            Target::Outlet(index) => {
                return self.let_out(index, |outlet| outlet.write(data, call.sends()));
            }
            Target::File(_) if call.sends() => return Err(ENOTSOCK),
            Target::File(index) => index,
        };
        let size = self.files[index].plain.len();
        let start = match (description.append, call.takes_offset()) {
            (true, _) => size,
            (false, true) => at as usize,
            (false, false) => description.offset as usize,
        };
        let own = start..start + data.len();
        let mut plain = self.files[index].plain.clone();
        plain.resize(size.max(own.end), 0);
        plain[own.clone()].copy_from_slice(data);
        if !call.takes_offset() {
            description.offset = own.end as u64;
        }
        self.files[index].change(plain, own);
        Ok(data.len() as i64)
    }

    fn resize(&mut self, index: usize, len: u64) -> i64 {
        let mut plain = self.files[index].plain.clone();
        plain.resize(len as usize, 0);
        self.files[index].change(plain, 0..0);
        0
    }
}

fn file_at(path: &str) -> usize {
    FILES
        .iter()
        .position(|file| *file == path)
        .unwrap_or_default()
}

impl File {
    /// Has other bytes from now on, of which `own` were written.
    fn change(&mut self, plain: Vec<u8>, own: Range<usize>) {
        let before = std::mem::replace(&mut self.plain, plain);
        self.shown.resize(self.plain.len(), 0);
        self.shown[own.clone()].copy_from_slice(&self.plain[own.clone()]);
        let Some(filter) = &self.rules else { return };
        let (_, old) = masked(filter, &before);
        let (text, new) = masked(filter, &self.plain);
        let of = |event: &Event| (event.rule, event.offset, event.len);
        let is_in = |list: &[Event], event: &Event| list.iter().any(|other| of(other) == of(event));
        // Only where it has become another thing by this write: what was there before stays.
        for event in old
            .iter()
            .filter(|event| event.action != Action::Audit && !is_in(&new, event))
        {
            let place = range(event);
            let place = place.start.min(self.plain.len())..place.end.min(self.plain.len());
            self.shown[place.clone()].copy_from_slice(&self.plain[place]);
        }
        for event in new.iter().filter(|event| event.action != Action::Audit) {
            let place = range(event);
            let is_touched = place.start < own.end && own.start < place.end;
            if is_touched || !is_in(&old, event) {
                self.shown[place.clone()].copy_from_slice(&text[place]);
            }
        }
    }
}

impl Outlet {
    fn new(filter: Arc<Filter>, kind: &'static str, appends_to: Option<usize>) -> Self {
        Self {
            kind,
            appends_to,
            stream: filter.stream(),
            refused: None,
            out: Vec::new(),
            before: Vec::new(),
            inexact: None,
            piece: Some((Vec::new(), 0)),
            filter,
        }
    }

    /// A stream behind what is there.
    fn precede(&mut self, before: &[u8]) {
        self.stream = self.filter.stream();
        self.stream.precede(before);
        self.before = before.to_vec();
    }

    fn is_socket(&self) -> bool {
        matches!(self.kind, "unix" | "tcp" | "packets")
    }

    fn write(&mut self, data: &[u8], sends: bool) -> Result<i64, i64> {
        let before = self.stream.clone();
        let mut out = Vec::new();
        let verdict = self.stream.push(data, &mut out);
        match verdict {
            Verdict::Denied(_) => return Err(EPERM),
            Verdict::Dropped(_) => return Ok(data.len() as i64),
            Verdict::Passed if sends && !self.is_socket() => {
                self.stream = before;
                return Err(ENOTSOCK);
            }
            Verdict::Passed => {}
        }
        if self.kind == "packets" {
            return self.packet(out, data);
        }
        self.out.extend(out);
        if let Some((piece, _)) = &mut self.piece {
            piece.extend_from_slice(data);
        }
        Ok(data.len() as i64)
    }

    /// A packet is judged as a whole: nothing comes after it.
    fn packet(&mut self, mut out: Vec<u8>, data: &[u8]) -> Result<i64, i64> {
        self.stream.finish(&mut out);
        let events = self.stream.clone().take_events();
        let rules = self.filter.rules();
        let judged = events
            .iter()
            .find(|event| matches!(rules[event.rule].action(), Action::Deny | Action::Drop));
        if let Some(event) = judged {
            // That is all that is told of it.
            let (event, action) = (*event, rules[event.rule].action());
            self.stream = self.filter.stream();
            self.refused = Some(Event { action, ..event });
            return match action {
                Action::Deny => Err(EPERM),
                _ => Ok(data.len() as i64),
            };
        }
        let hex: String = out.iter().map(|byte| format!("{byte:02x}")).collect();
        self.out.extend_from_slice(hex.as_bytes());
        self.out.push(b'\n');
        Ok(data.len() as i64)
    }

    fn flush(&mut self) {
        if self.stream.held() > 0 {
            self.piece = None;
            self.stream.flush_masked(&mut self.out);
        }
    }

    fn finish(&mut self) {
        self.stream.finish(&mut self.out);
        let end = self.out.len();
        // What is held is bounded: a long candidate is cut where the writes are.
        let is_bounded = self.filter.max_hold() < redact::DEFAULT_MAX_HOLD;
        if let Some((piece, start)) = self.piece.replace((Vec::new(), end))
            && !is_bounded
            && !piece.is_empty()
        {
            // Refused writes are no part of the piece, and what is left of it may be a match now.
            let mut stream = self.filter.stream();
            stream.precede(&self.before);
            let mut whole = Vec::new();
            if stream.push(&piece, &mut whole) == Verdict::Passed {
                stream.finish(&mut whole);
                if whole != self.out[start..] {
                    self.inexact = Some((whole, self.out[start..].to_vec()));
                }
            }
        }
    }
}
