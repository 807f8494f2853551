//! Programs that write at random until the runtime is killed or a file can't grow: whatever call had
//! returned is in the files afterwards, and of the one that had not only what it was about to do.

use super::trial;
use crate::fixture::{FileLimit, Fixture, KILLED, Ran, Run, command, host_command};
use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io::Write;
use std::time::Duration;

/// Kills in one test; `E2E_KILLS` names another number, for a long search.
const KILLS: u64 = 14;
/// Limits of file size in one test, where nothing else is said.
const LIMITS: u64 = 8;
/// Programs that write at the same time.
const CAGES: u64 = 2;
/// Their folder.
const FOLDER: &str = "/work";

/// A grate, and what it does to a write that is cut.
struct Setting {
    group: &'static str,
    name: &'static str,
    grates: &'static [&'static str],
    /// Bytes that a write replaces together or not at all.
    chunk: usize,
    /// Whether the disk must not show what is written.
    secret: bool,
}

const SETTINGS: &[Setting] = &[
    // The control: whatever the kernel by itself may do to a file is allowed.
    Setting {
        group: "runtime",
        name: "no grate",
        grates: &[],
        chunk: 1,
        secret: false,
    },
    Setting {
        group: "crypt-grate",
        name: "defaults",
        grates: &["crypt-grate.cwasm", "--key", "/k.bin"],
        chunk: 4096,
        secret: true,
    },
    Setting {
        group: "crypt-grate",
        name: "xaes-256-gcm, chunks of 512",
        grates: &[
            "crypt-grate.cwasm",
            "--key",
            "/k.bin",
            "--cipher",
            "xaes-256-gcm",
            "--chunk-size",
            "512",
        ],
        chunk: 512,
        secret: true,
    },
    Setting {
        group: "crypt-grate",
        name: "chunks of 65536",
        grates: &[
            "crypt-grate.cwasm",
            "--key",
            "/k.bin",
            "--chunk-size",
            "65536",
        ],
        chunk: 65536,
        secret: true,
    },
];

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for setting in SETTINGS {
        let Setting { group, name, .. } = setting;
        let kills = format!("{group}/random kills, {name}");
        trials.push(trial(kills, || killed(setting)));
        let limits = format!("{group}/files that can't grow, {name}");
        trials.push(trial(limits, || limited(setting)));
    }
    trials
}

/// Kills in one test: so many, or what `E2E_KILLS` says.
pub(super) fn count(usual: u64) -> u64 {
    variable("E2E_KILLS").unwrap_or(usual)
}

/// What the random choices of a test start from; `E2E_SEED` names another. The moment that a kill
/// strikes is not among them: a failure comes again with the same seed sooner or later.
pub(super) fn seed() -> u64 {
    variable("E2E_SEED").unwrap_or(1)
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Files by name with their contents.
type Files = BTreeMap<String, Vec<u8>>;

fn killed(setting: &'static Setting) -> anyhow::Result<()> {
    let mut place = Place::new(setting)?;
    let kills = count(KILLS);
    for kill in 1..=kills {
        // From before the first file is there to some hundred calls later.
        let delay = Duration::from_micros(place.dice.u64(4_000..80_000));
        place
            .round(CAGES, End::Killed(delay))
            .with_context(|| format!("seed {}, kill {kill} of {kills} after {delay:?}", seed()))?;
    }
    ensure!(
        place.returned as u64 > kills,
        "only {} calls returned in {kills} runs",
        place.returned
    );
    Ok(())
}

fn limited(setting: &'static Setting) -> anyhow::Result<()> {
    let mut place = Place::new(setting)?;
    let limits = count(LIMITS);
    for number in 1..=limits {
        let longest = place.longest()? / FileLimit::BLOCK;
        let limit = FileLimit(longest + place.dice.u64(1..300));
        place
            .round(1, End::Limited(limit))
            .with_context(|| format!("seed {}, {limit:?}, {number} of {limits}", seed()))?;
    }
    Ok(())
}

/// How a run ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// After that time.
    Killed(Duration),
    /// By the first call that a limit cuts.
    Limited(FileLimit),
}

/// A root, and what is known of the files in it.
struct Place {
    fixture: Fixture,
    setting: &'static Setting,
    dice: fastrand::Rng,
    files: Files,
    runs: u64,
    /// Calls that have returned in all runs.
    returned: usize,
}

impl Place {
    fn new(setting: &'static Setting) -> anyhow::Result<Self> {
        let fixture = Fixture::new()?;
        fixture.make_key("k.bin")?;
        fs::create_dir(fixture.path(FOLDER))?;
        Ok(Self {
            fixture,
            setting,
            dice: fastrand::Rng::with_seed(seed()),
            files: Files::new(),
            runs: 0,
            returned: 0,
        })
    }

    /// A run, and a check of the files it leaves.
    fn round(&mut self, cages: u64, end: End) -> anyhow::Result<()> {
        const EFBIG: i32 = 27;
        self.runs += 1;
        // Of its own each time, so that no two writes write the same.
        let workload = seed() * 1_000_000 + self.runs;
        let ran = self.run(workload, cages, end)?;
        let said = Said::parse(&ran.text(), workload)?;
        if let End::Limited(_) = end {
            ensure!(
                matches!(
                    said.last[..],
                    [(_, Outcome::Did(_) | Outcome::Failed(EFBIG))]
                ),
                "a limit that can't be told: {:?}",
                said.last
            );
        }
        for call in &said.returned {
            call.apply(self.files.entry(call.file()).or_default());
        }
        let found = read(&self.fixture, self.setting)?;
        check(&self.files, &said.last, &found, self.setting.chunk)?;
        self.files = found;
        self.returned += said.returned.len();
        Ok(())
    }

    fn run(&self, workload: u64, cages: u64, end: End) -> anyhow::Result<Ran> {
        /// In every line that is written.
        const SECRET: &[u8] = b" is kept secret\n";
        /// Edges between chunks, or for the control what could be some.
        const SMALLEST_CHUNK: usize = 512;
        let chunk = self.setting.chunk.max(SMALLEST_CHUNK);
        let program = ["file_load.cwasm", FOLDER].map(str::to_owned);
        let numbers = [workload, chunk as u64, cages].map(|number| number.to_string());
        let grates = self.setting.grates.iter().map(|&arg| arg.to_owned());
        let mut run = Run {
            args: grates.chain(program).chain(numbers).collect(),
            ..Run::default()
        };
        let code = match end {
            End::Killed(delay) => {
                run.kill_after = Some(delay);
                KILLED
            }
            End::Limited(limit) => {
                run.file_limit = Some(limit);
                1
            }
        };
        let ran = self.fixture.start(&run)?;
        ensure!(ran.err.is_empty(), "it complains: {}", ran.err);
        ensure!(ran.code == code, "it ended with {}", ran.code);
        if self.setting.secret {
            self.fixture.ensure_nowhere(SECRET)?;
        }
        Ok(ran)
    }

    /// Size on the disk of the longest file.
    fn longest(&self) -> anyhow::Result<u64> {
        let mut longest = 0;
        for entry in fs::read_dir(self.fixture.path(FOLDER))? {
            longest = longest.max(entry?.metadata()?.len());
        }
        Ok(longest)
    }
}

/// All files, as programs see them after the kill and before anything was written again. With a
/// grate, `keys` must find them whole and see the same.
fn read(fixture: &Fixture, setting: &Setting) -> anyhow::Result<Files> {
    let mut files = Files::new();
    let mut paths = Vec::new();
    for entry in fs::read_dir(fixture.path(FOLDER))? {
        let path = entry?.path();
        let name = path.file_name().and_then(OsStr::to_str);
        let name = name.context("a strange file")?.to_owned();
        let inside = format!("{FOLDER}/{name}");
        let shown = [setting.grates, &["show.cwasm", &inside]].concat();
        let content = whole(fixture.run(&shown)?).context(name.clone())?;
        if setting.secret {
            let opened = keys(fixture, "open", std::slice::from_ref(&path), &["-o", "-"])?;
            ensure!(opened == content, "{name}: keys opens something else");
        }
        files.insert(name, content);
        paths.push(path);
    }
    if setting.secret && !paths.is_empty() {
        keys(fixture, "verify", &paths, &[])?;
    }
    Ok(files)
}

fn keys(
    fixture: &Fixture,
    what: &str,
    paths: &[std::path::PathBuf],
    options: &[&str],
) -> anyhow::Result<Vec<u8>> {
    let key = fixture.path("k.bin");
    let args = [what.into(), "--key".into(), key.into_os_string()]
        .into_iter()
        .chain(paths.iter().map(OsString::from))
        .chain(options.iter().map(OsString::from));
    whole(command(&host_command("keys"), args)?)
}

/// What a command printed that has succeeded. An error is without the bytes of files.
fn whole(ran: Ran) -> anyhow::Result<Vec<u8>> {
    ensure!(ran.code == 0, "exit status {}: {}", ran.code, ran.err);
    Ok(ran.out)
}

/// One call of `file_load`.
#[derive(Clone, Debug)]
struct Call {
    seed: u64,
    cage: u64,
    number: u64,
    file: u64,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Write { offset: usize, len: usize },
    Truncate { len: usize },
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file();
        match self.what {
            What::Write { offset, len } => write!(f, "write of {len} at {offset} of {file}"),
            What::Truncate { len } => write!(f, "truncate of {file} to {len}"),
        }
    }
}

impl Call {
    fn parse(line: &str, seed: u64) -> Option<Self> {
        let mut words = line.split(' ');
        let (cage, number) = (words.next()?, words.next()?);
        let (kind, file) = (words.next()?, words.next()?);
        let mut size = || words.next()?.parse().ok();
        let what = match kind {
            "write" => What::Write {
                offset: size()?,
                len: size()?,
            },
            "truncate" => What::Truncate { len: size()? },
            _ => return None,
        };
        Some(Self {
            seed,
            cage: cage.parse().ok()?,
            number: number.parse().ok()?,
            file: file.parse().ok()?,
            what,
        })
    }

    fn file(&self) -> String {
        format!("{}-{}", self.cage, self.file)
    }

    /// What `file_load` writes with this call.
    fn text(&self, len: usize) -> Vec<u8> {
        let Self {
            seed, cage, number, ..
        } = self;
        let mut text = Vec::with_capacity(len + 50);
        let mut line = 0;
        while text.len() < len {
            // A vector takes all that is written to it.
            let _ = writeln!(text, "{seed:x} {cage} {number} {line:06} is kept secret");
            line += 1;
        }
        text.truncate(len);
        text
    }

    /// Does to a file what the call does.
    fn apply(&self, file: &mut Vec<u8>) {
        match self.what {
            What::Write { len, .. } => self.apply_part(file, len),
            What::Truncate { len } => file.resize(len, 0),
        }
    }

    /// Does to a file what a write does whose first `done` bytes were written.
    fn apply_part(&self, file: &mut Vec<u8>, done: usize) {
        if let What::Write { offset, len } = self.what
            && done > 0
        {
            let end = offset + done;
            file.resize(file.len().max(end), 0);
            file[offset..end].copy_from_slice(&self.text(len)[..done]);
        }
    }

    /// Whether a file may be `found` when it was `old` and this call ended so.
    fn may_leave(&self, outcome: Outcome, old: &[u8], found: &[u8], chunk: usize) -> bool {
        let mut new = old.to_vec();
        match outcome {
            Outcome::Unknown => return self.may_leave_cut(old, found, chunk),
            Outcome::Did(done) => self.apply_part(&mut new, done),
            Outcome::Failed(_) => {}
        }
        found == new
    }

    /// Whether a file may be `found` when it was `old` and this call was cut short: what was there
    /// is old or new, chunk by chunk; what the call adds is there up to some byte. A cut is a cut
    /// as a whole.
    fn may_leave_cut(&self, old: &[u8], found: &[u8], chunk: usize) -> bool {
        let mut new = old.to_vec();
        self.apply(&mut new);
        if new.len() < old.len() {
            return found == old || found == new;
        }
        let grown = old.len()..found.len();
        let (Some(found_grown), Some(new_grown)) = (found.get(grown.clone()), new.get(grown))
        else {
            return false;
        };
        let chunks = |bytes: &'_ [u8]| -> Vec<Vec<u8>> {
            bytes[..old.len()]
                .chunks(chunk)
                .map(<[u8]>::to_vec)
                .collect()
        };
        found_grown == new_grown
            && chunks(found)
                .iter()
                .zip(chunks(old).iter().zip(chunks(&new).iter()))
                .all(|(found, (old, new))| found == old || found == new)
    }
}

/// How a call ended that did not do what it was asked for.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    /// It was under way, or about to be, or had just returned.
    Unknown,
    /// It wrote less.
    Did(usize),
    /// Nothing was to happen then.
    Failed(i32),
}

impl Outcome {
    /// Answers the cage too.
    fn parse(line: &str) -> Option<(u64, Self)> {
        let words: Vec<&str> = line.split(' ').collect();
        let outcome = match words[..] {
            [_, _, "did", len] => Self::Did(len.parse().ok()?),
            [_, _, "failed", errno] => Self::Failed(errno.parse().ok()?),
            _ => return None,
        };
        Some((words[0].parse().ok()?, outcome))
    }
}

/// What a run has said about itself.
#[derive(Debug, Default)]
struct Said {
    /// Calls that did what they were asked for.
    returned: Vec<Call>,
    /// The last call of each cage.
    last: Vec<(Call, Outcome)>,
}

impl Said {
    fn parse(text: &str, seed: u64) -> anyhow::Result<Self> {
        let mut said = Self::default();
        let mut last: BTreeMap<u64, (Call, Outcome)> = BTreeMap::new();
        for line in text.split_inclusive('\n') {
            // Cut by the kill, before its call was made.
            let Some(line) = line.strip_suffix('\n') else {
                break;
            };
            let strange = || format!("not understood: {line}");
            if let Some((cage, outcome)) = Outcome::parse(line) {
                last.get_mut(&cage).with_context(strange)?.1 = outcome;
                continue;
            }
            let call = Call::parse(line, seed).with_context(strange)?;
            if let Some((before, _)) = last.insert(call.cage, (call, Outcome::Unknown)) {
                said.returned.push(before);
            }
        }
        said.last = last.into_values().collect();
        Ok(said)
    }
}

/// Compares the files with what was made of them by the calls before the last ones.
fn check(
    expected: &Files,
    last: &[(Call, Outcome)],
    found: &Files,
    chunk: usize,
) -> anyhow::Result<()> {
    for name in expected.keys() {
        ensure!(found.contains_key(name), "{name} is lost");
    }
    for (name, found) in found {
        // A file may have been made whose first write was not begun.
        let old = expected.get(name).map_or(&[][..], Vec::as_slice);
        let last = last.iter().find(|(call, _)| call.file() == *name);
        let fits = match last {
            Some((call, outcome)) => call.may_leave(*outcome, old, found, chunk),
            None => found == old,
        };
        let last = last.map(|(call, outcome)| format!("{call} ({outcome:?})"));
        ensure!(
            fits,
            "{name}: {}; last call: {}",
            difference(old, found),
            last.unwrap_or_else(|| "to another file".to_owned())
        );
    }
    Ok(())
}

/// Says where contents differ.
pub(super) fn difference(expected: &[u8], found: &[u8]) -> String {
    const SHOWN: usize = 8;
    let pairs = expected.iter().zip(found).enumerate();
    let unlike: Vec<usize> = pairs
        .filter(|(_, (one, two))| one != two)
        .map(|(at, _)| at)
        .collect();
    format!(
        "{} bytes were expected, {} found; of both {} differ, at {:?}",
        expected.len(),
        found.len(),
        unlike.len(),
        &unlike[..unlike.len().min(SHOWN)]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(what: What) -> Call {
        Call {
            seed: 1,
            cage: 0,
            number: 7,
            file: 0,
            what,
        }
    }

    fn after(call: &Call, old: &[u8]) -> Vec<u8> {
        let mut new = old.to_vec();
        call.apply(&mut new);
        new
    }

    #[test]
    fn a_cut_append_leaves_a_beginning_of_it() {
        let old = [b'o'; 100];
        let append = call(What::Write {
            offset: 100,
            len: 60,
        });
        let new = after(&append, &old);
        for len in 100..=160 {
            assert!(append.may_leave_cut(&old, &new[..len], 64), "{len}");
        }
        assert!(!append.may_leave_cut(&old, &new[..99], 64));
        assert!(!append.may_leave_cut(&old, &[&new[..], b"x"].concat(), 64));
        let mut zeros = new.clone();
        zeros[120..].fill(0);
        assert!(!append.may_leave_cut(&old, &zeros, 64));
        let mut damaged = new;
        damaged[50] ^= 1;
        assert!(!append.may_leave_cut(&old, &damaged, 64));
    }

    #[test]
    fn a_cut_overwrite_leaves_every_chunk_old_or_new() {
        let old = [b'o'; 200];
        let write = call(What::Write {
            offset: 60,
            len: 100,
        });
        let new = after(&write, &old);
        let mixed = |borders: &[usize]| -> Vec<u8> {
            let from = |at: usize| borders.iter().filter(|&&border| border <= at).count() % 2;
            (0..200)
                .map(|at| if from(at) == 1 { new[at] } else { old[at] })
                .collect()
        };
        for fine in [&[0][..], &[], &[64], &[0, 128], &[128], &[60, 192]] {
            assert!(write.may_leave_cut(&old, &mixed(fine), 64), "{fine:?}");
        }
        for torn in [&[70][..], &[0, 127], &[62]] {
            assert!(!write.may_leave_cut(&old, &mixed(torn), 64), "{torn:?}");
            assert!(write.may_leave_cut(&old, &mixed(torn), 1), "{torn:?}");
        }
        assert!(!write.may_leave_cut(&old, &new[..150], 64));
    }

    #[test]
    fn a_cut_truncate_happens_or_not() {
        let old = [b'o'; 100];
        let shrink = call(What::Truncate { len: 40 });
        assert!(shrink.may_leave_cut(&old, &old, 64) && shrink.may_leave_cut(&old, &old[..40], 64));
        assert!(!shrink.may_leave_cut(&old, &old[..64], 64));
        let grow = call(What::Truncate { len: 150 });
        let new = after(&grow, &old);
        assert!(grow.may_leave_cut(&old, &new, 64) && grow.may_leave_cut(&old, &new[..120], 64));
        assert!(!grow.may_leave_cut(&old, &[b'o'; 120], 64));
    }

    #[test]
    fn a_call_that_says_how_it_ended_has_ended_so() {
        let old = [b'o'; 100];
        let write = call(What::Write {
            offset: 90,
            len: 60,
        });
        let new = after(&write, &old);
        for done in 1..=60 {
            let found = &new[..(90 + done).max(100)];
            let exact = write.may_leave(Outcome::Did(done), &old, found, 64);
            assert_eq!(exact, done >= 10, "{done}");
        }
        assert!(write.may_leave(Outcome::Failed(27), &old, &old, 64));
        assert!(!write.may_leave(Outcome::Failed(27), &old, &new, 64));
        let said = Said::parse("0 0 write 1 0 50\n0 0 failed 27\n", 3).unwrap();
        assert!(matches!(said.last[..], [(_, Outcome::Failed(27))]));
        assert!(Said::parse("0 0 failed 27\n", 3).is_err());
    }

    #[test]
    fn what_returned_must_be_there() {
        let said = Said::parse(
            "0 0 write 1 0 50\n1 0 write 0 0 9\n0 1 truncate 1 20\n1 1",
            3,
        );
        let said = said.unwrap();
        assert_eq!((said.returned.len(), said.last.len()), (1, 2));
        let mut expected = Files::new();
        said.returned[0].apply(expected.entry(said.returned[0].file()).or_default());
        let content = expected["0-1"].clone();
        let found = |len: usize| Files::from([("0-1".to_owned(), content[..len].to_vec())]);
        for len in [20, 50] {
            check(&expected, &said.last, &found(len), 512).unwrap();
        }
        for lost in [found(0), found(49), Files::new()] {
            assert!(check(&expected, &said.last, &lost, 512).is_err());
        }
        let other = Files::from([("0-0".to_owned(), vec![1])]);
        let both: Files = found(50).into_iter().chain(other).collect();
        assert!(check(&expected, &said.last, &both, 512).is_err());
    }
}
