//! Programs that write at random, and the runtime killed at random: whatever call had returned is
//! in the files afterwards, and of the one that had not only what it was about to do.

use super::trial;
use crate::fixture::{Fixture, KILLED, Ran, Run, command, host_command};
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
/// Programs that write at the same time.
const CAGES: u64 = 2;
/// Their folder.
const FOLDER: &str = "/work";

/// A grate, and what it does to a write that is cut.
struct Setting {
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
        name: "runtime/random kills",
        grates: &[],
        chunk: 1,
        secret: false,
    },
    Setting {
        name: "crypt-grate/random kills, defaults",
        grates: &["crypt-grate.cwasm", "--key", "/k.bin"],
        chunk: 4096,
        secret: true,
    },
    Setting {
        name: "crypt-grate/random kills, aes-256-gcm, chunks of 512",
        grates: &[
            "crypt-grate.cwasm",
            "--key",
            "/k.bin",
            "--cipher",
            "aes-256-gcm",
            "--chunk-size",
            "512",
        ],
        chunk: 512,
        secret: true,
    },
    Setting {
        name: "crypt-grate/random kills, chunks of 65536",
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
    SETTINGS
        .iter()
        .map(|setting| trial(setting.name.to_owned(), || killed(setting)))
        .collect()
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

fn killed(setting: &Setting) -> anyhow::Result<()> {
    let kills = count(KILLS);
    let first = seed();
    let mut dice = fastrand::Rng::with_seed(first);
    let fixture = Fixture::new()?;
    fixture.make_key("k.bin")?;
    fs::create_dir(fixture.path(FOLDER))?;
    let mut files = Files::new();
    let mut returned = 0;
    for kill in 1..=kills {
        // From before the first file is there to some hundred calls later.
        let delay = Duration::from_micros(dice.u64(4_000..80_000));
        // Of its own each time, so that no two writes write the same.
        let workload = first * 1_000_000 + kill;
        returned += round(&fixture, setting, workload, delay, &mut files)
            .with_context(|| format!("seed {first}, kill {kill} of {kills} after {delay:?}"))?;
    }
    ensure!(
        returned as u64 > kills,
        "only {returned} calls returned in {kills} runs"
    );
    Ok(())
}

/// A run that is killed and a check of the files. Answers how many calls had returned.
fn round(
    fixture: &Fixture,
    setting: &Setting,
    workload: u64,
    delay: Duration,
    files: &mut Files,
) -> anyhow::Result<usize> {
    let ran = write_and_die(fixture, setting, workload, delay)?;
    let said = Said::parse(&ran.text(), workload)?;
    for call in &said.returned {
        call.apply(files.entry(call.file()).or_default());
    }
    let found = read(fixture, setting)?;
    check(files, &said.in_flight, &found, setting.chunk)?;
    *files = found;
    Ok(said.returned.len())
}

fn write_and_die(
    fixture: &Fixture,
    setting: &Setting,
    workload: u64,
    delay: Duration,
) -> anyhow::Result<Ran> {
    /// In every line that is written.
    const SECRET: &[u8] = b" is kept secret\n";
    let chunk = setting.chunk.max(512);
    let program = ["file_load.cwasm", FOLDER].map(str::to_owned);
    let numbers = [workload, chunk as u64, CAGES].map(|number| number.to_string());
    let grates = setting.grates.iter().map(|&arg| arg.to_owned());
    let ran = fixture.start(&Run {
        args: grates.chain(program).chain(numbers).collect(),
        kill_after: Some(delay),
        ..Run::default()
    })?;
    ensure!(ran.err.is_empty(), "it ended by itself: {}", ran.err);
    let ran = ran.expect(KILLED)?;
    if setting.secret {
        fixture.ensure_nowhere(SECRET)?;
    }
    Ok(ran)
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
            What::Write { offset, len } => {
                let end = offset + len;
                file.resize(file.len().max(end), 0);
                file[offset..end].copy_from_slice(&self.text(len));
            }
            What::Truncate { len } => file.resize(len, 0),
        }
    }

    /// Whether a file may be `found` when it was `old` and this call was cut short: what was there
    /// is old or new, chunk by chunk; what the call adds is there up to some byte. A cut is a cut
    /// as a whole.
    fn may_leave(&self, old: &[u8], found: &[u8], chunk: usize) -> bool {
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

/// What a run has said about itself before it was killed.
#[derive(Debug, Default)]
struct Said {
    returned: Vec<Call>,
    /// The last call of each cage, which may have returned or not.
    in_flight: Vec<Call>,
}

impl Said {
    fn parse(text: &str, seed: u64) -> anyhow::Result<Self> {
        let mut said = Self::default();
        let mut last: BTreeMap<u64, Call> = BTreeMap::new();
        for line in text.split_inclusive('\n') {
            // Cut by the kill, before its call was made.
            let Some(line) = line.strip_suffix('\n') else {
                break;
            };
            let call =
                Call::parse(line, seed).with_context(|| format!("not understood: {line}"))?;
            if let Some(before) = last.insert(call.cage, call) {
                said.returned.push(before);
            }
        }
        said.in_flight = last.into_values().collect();
        Ok(said)
    }
}

/// Compares the files with what was made of them, calls in flight aside.
fn check(expected: &Files, in_flight: &[Call], found: &Files, chunk: usize) -> anyhow::Result<()> {
    for name in expected.keys() {
        ensure!(found.contains_key(name), "{name} is lost");
    }
    for (name, found) in found {
        // A file may have been made whose first write was not begun.
        let old = expected.get(name).map_or(&[][..], Vec::as_slice);
        let call = in_flight.iter().find(|call| call.file() == *name);
        let fits = found == old || call.is_some_and(|call| call.may_leave(old, found, chunk));
        ensure!(
            fits,
            "{name}: {}; in flight: {}",
            difference(old, found),
            call.map_or("nothing".to_owned(), Call::to_string)
        );
    }
    Ok(())
}

fn difference(expected: &[u8], found: &[u8]) -> String {
    let at = expected.iter().zip(found).position(|(one, two)| one != two);
    let at = at.map_or_else(|| "none".to_owned(), |at| at.to_string());
    format!(
        "{} bytes were expected, {} found, first difference within both: {at}",
        expected.len(),
        found.len()
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
            assert!(append.may_leave(&old, &new[..len], 64), "{len}");
        }
        assert!(!append.may_leave(&old, &new[..99], 64));
        assert!(!append.may_leave(&old, &[&new[..], b"x"].concat(), 64));
        let mut zeros = new.clone();
        zeros[120..].fill(0);
        assert!(!append.may_leave(&old, &zeros, 64));
        let mut damaged = new;
        damaged[50] ^= 1;
        assert!(!append.may_leave(&old, &damaged, 64));
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
            assert!(write.may_leave(&old, &mixed(fine), 64), "{fine:?}");
        }
        for torn in [&[70][..], &[0, 127], &[62]] {
            assert!(!write.may_leave(&old, &mixed(torn), 64), "{torn:?}");
            assert!(write.may_leave(&old, &mixed(torn), 1), "{torn:?}");
        }
        assert!(!write.may_leave(&old, &new[..150], 64));
    }

    #[test]
    fn a_cut_truncate_happens_or_not() {
        let old = [b'o'; 100];
        let shrink = call(What::Truncate { len: 40 });
        assert!(shrink.may_leave(&old, &old, 64) && shrink.may_leave(&old, &old[..40], 64));
        assert!(!shrink.may_leave(&old, &old[..64], 64));
        let grow = call(What::Truncate { len: 150 });
        let new = after(&grow, &old);
        assert!(grow.may_leave(&old, &new, 64) && grow.may_leave(&old, &new[..120], 64));
        assert!(!grow.may_leave(&old, &[b'o'; 120], 64));
    }

    #[test]
    fn what_returned_must_be_there() {
        let said = Said::parse(
            "0 0 write 1 0 50\n1 0 write 0 0 9\n0 1 truncate 1 20\n1 1",
            3,
        );
        let said = said.unwrap();
        assert_eq!((said.returned.len(), said.in_flight.len()), (1, 2));
        let mut expected = Files::new();
        said.returned[0].apply(expected.entry(said.returned[0].file()).or_default());
        let content = expected["0-1"].clone();
        let found = |len: usize| Files::from([("0-1".to_owned(), content[..len].to_vec())]);
        for len in [20, 50] {
            check(&expected, &said.in_flight, &found(len), 512).unwrap();
        }
        for lost in [found(0), found(49), Files::new()] {
            assert!(check(&expected, &said.in_flight, &lost, 512).is_err());
        }
        let other = Files::from([("0-0".to_owned(), vec![1])]);
        let both: Files = found(50).into_iter().chain(other).collect();
        assert!(check(&expected, &said.in_flight, &both, 512).is_err());
    }
}
