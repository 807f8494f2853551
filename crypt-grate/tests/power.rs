//! Power cuts: what is on the disk then is anything that the writes since the last fsync can leave.
//!
//! A random load runs on a [`Recorder`], which keeps every write and fsync that the engine makes. Then the
//! power is cut at moments of it, in the models of [`disk::cuts`].
//!
//! What the next process finds must be a state that the file was in at some moment between the last fsync and the
//! cut. It goes on from there, is cut off in the same way, and so must the one after it.
//!
//! `POWER_CUTS` says how many states are looked at, [`CUTS`] by default.

mod disk;

use crypt_grate::sealed_file::{Content, Error, Keys, SealedFile, Sealing, Windows};
use crypt_grate::storage::Storage;
use disk::cuts::{Disk, Files, Inode, Model, Recorder, Step, cut};
use disk::{Op, Random, direct, filling};
use sealed::{ChunkSize, Cipher, MasterKey, Params};
use std::rc::Rc;

const CUTS: u64 = 12_000;

const NAME: &str = "file";

/// Which loads there are: appends alone, overwriting alone, or anything.
fn op(kind: u64, size: usize, random: &mut Random) -> Op {
    const MOST: u64 = 40_000;
    let len = match random.below(8) {
        0 => 512,
        1 => 1 + random.below(6000),
        2 => 4096,
        _ => 1 + random.below(700),
    } as usize;
    let at = random.below(MOST.min(size as u64 + 600)) as usize;
    match (kind, random.below(20)) {
        (0, ..=9) => Op::Write { at: size, len },
        (0, ..=18) => Op::Fsync,
        (1, ..=13) if size > 0 => Op::Write {
            at: at % size / 512 * 512,
            len: 512,
        },
        (1, ..=17) => Op::Fsync,
        (_, ..=5) => Op::Write { at, len },
        (_, ..=8) => Op::Write { at: size, len },
        (_, ..=10) => Op::SetLen(at),
        (_, ..=11) => Op::SetLen(size + len * 20),
        (_, ..=12) => Op::SetLen(0),
        (_, ..=13) => Op::Punch { at, len: 3 * len },
        (_, ..=14) => Op::Checkpoint,
        (_, ..=15) => Op::Close,
        _ => Op::Fsync,
    }
}

/// A state of the file, and after how many steps it was one: from when on it is lost by no cut unless a later one
/// has come, and from when on a cut can leave it.
struct State {
    content: Vec<u8>,
    begun: usize,
    done: usize,
    /// Not all at once: each chunk for itself.
    in_parts: bool,
}

struct World {
    key: MasterKey,
    params: Params,
    random: Random,
}

impl World {
    fn keys(key: &MasterKey) -> Keys<'_> {
        Keys {
            master: key,
            others: &[],
            aead: direct::keyed,
            derive: sealed::derive,
        }
    }

    /// Runs a load of two processes on a file that has that content.
    fn run(&mut self, disk: &Disk, content: Vec<u8>, ops: usize) -> Vec<State> {
        let mut disk = disk.clone();
        let kind = self.random.below(4);
        let mut files = [SealedFile::default(), SealedFile::default()];
        let mut states = vec![State {
            content,
            begun: 0,
            done: 0,
            in_parts: false,
        }];
        for _ in 0..ops {
            let mut content = states.last().expect("one").content.clone();
            let op = op(kind, content.len(), &mut self.random);
            disk.process = self.random.below(8) as usize / 7;
            let disk = &disk;
            let file = &mut files[disk.process];
            let begun = disk.recorder.done();
            let fill = self.random.next();
            let mut with = Sealing {
                keys: Self::keys(&self.key),
                params: self.params,
                rng: &mut self.random,
            };
            let done = match op {
                Op::Write { at, len } => {
                    let data = filling(fill, len);
                    content.resize(content.len().max(at + len), 0);
                    content[at..at + len].copy_from_slice(&data);
                    let memory = &disk.recorder.memory;
                    direct::write(file, disk, &mut with, memory, at as u64, &data).map(drop)
                }
                Op::SetLen(len) => {
                    content.resize(len, 0);
                    file.set_len(disk, &mut with, len as u64)
                }
                Op::Punch { at, len } => {
                    let end = content.len().min(at + len);
                    content.get_mut(at..end).unwrap_or_default().fill(0);
                    let range = at as u64..(at + len) as u64;
                    file.writer(disk, &mut with)
                        .and_then(|mut writer| writer.punch(range))
                }
                Op::Fsync => {
                    let moment = file.moment();
                    disk.sync().expect("it never fails");
                    file.synced(disk, moment);
                    Ok(())
                }
                Op::Checkpoint => file
                    .writer(disk, &mut with)
                    .and_then(|mut writer| writer.checkpoint()),
                Op::Close => {
                    let done = file.close(disk, &mut with);
                    *file = SealedFile::default();
                    done
                }
            };
            assert_eq!(done, Ok(()), "{op:?}");
            let done = disk.recorder.done();
            if content != states.last().expect("one").content {
                states.push(State {
                    content,
                    begun,
                    done,
                    in_parts: matches!(op, Op::Punch { .. }),
                });
            }
        }
        states
    }

    /// What a process finds that comes after the cut.
    fn find(&self, disk: &Disk) -> Result<Vec<u8>, Error> {
        let mut file = SealedFile::default();
        if file.identify(disk, Self::keys(&self.key))? == Content::Plain {
            return Err(Error::Sealed(sealed::Error::NotSealed));
        }
        let len = file.len(disk, Self::keys(&self.key))? as usize;
        let mut content = vec![0; len];
        let mut done = 0;
        while done < len {
            match file.read(
                &mut Windows::default(),
                disk,
                Self::keys(&self.key),
                done as u64,
                &mut content[done..],
            )? {
                0 => return Err(Error::Sealed(sealed::Error::Truncated)),
                read => done += read,
            }
        }
        assert_eq!(disk.recorder.done(), 0, "a reader writes nothing");
        Ok(content)
    }

    /// Runs loads on several files, some of which take another's name in the end. Answers the states of each.
    fn run_many(&mut self, recorder: &Rc<Recorder>, rounds: usize) -> Vec<Vec<State>> {
        const NAMES: [&str; 3] = ["one", "two", "three"];
        let mut all: Vec<Vec<State>> = Vec::new();
        for _ in 0..rounds {
            let name = NAMES[self.random.below(3) as usize];
            let is_new = self.random.below(3) > 0;
            let disk = recorder.open(if is_new { "draft" } else { name });
            all.resize_with(all.len().max(disk.file + 1), Vec::new);
            let content = all[disk.file].last().map(|state| state.content.clone());
            let ops = self.random.below(8) as usize;
            let mut states = self.run(&disk, content.unwrap_or_default(), ops);
            if !all[disk.file].is_empty() {
                states.remove(0);
            }
            all[disk.file].append(&mut states);
            if !is_new {
                continue;
            }
            if self.random.below(3) > 0 {
                disk.sync().expect("it never fails");
            }
            recorder.step(Step::Rename {
                from: "draft".to_owned(),
                to: name.to_owned(),
            });
            if self.random.below(3) == 0 {
                recorder.step(Step::SyncNames);
            }
        }
        all
    }

    /// Cuts the power somewhere in the load of one file. Answers what is left, and its content.
    fn cut(
        &mut self,
        before: &Files,
        steps: &[Step],
        states: &[State],
    ) -> Result<(Files, Vec<u8>), String> {
        let (left, why) = self.cut_somewhere(before, steps);
        let disk = Recorder::new(left.clone()).find(NAME);
        let found = self.check(disk.as_ref(), 0, &steps[..why.1], states);
        Ok((left, found.map_err(|what| format!("{why:?}: {what}"))?))
    }

    /// What is left after a cut, and which model after how many steps that was.
    fn cut_somewhere(&mut self, before: &Files, steps: &[Step]) -> (Files, (Model, usize)) {
        let moment = self.random.below(steps.len() as u64 + 1) as usize;
        let model = Model::ALL[self.random.below(3) as usize];
        let left = cut(before, &steps[..moment], model, &mut self.random);
        (left, (model, moment))
    }

    /// Whether a file, if it is still there, is one that it was since its last fsync of these steps. Answers its
    /// content.
    fn check(
        &self,
        disk: Option<&Disk>,
        file: Inode,
        steps: &[Step],
        states: &[State],
    ) -> Result<Vec<u8>, String> {
        let moment = steps.len();
        let synced = steps
            .iter()
            .rposition(|step| matches!(step, Step::Sync { file: synced } if *synced == file))
            .unwrap_or(0);
        let first = states
            .iter()
            .rposition(|state| state.done <= synced)
            .unwrap_or(0);
        let last = states
            .iter()
            .rposition(|state| state.begun <= moment)
            .unwrap_or(0);
        let possible = &states[first..=last];
        let found = disk.map_or(Ok(Vec::new()), |disk| self.find(disk));
        let found = found.map_err(|error| format!("{error:?}"))?;
        let is_there = possible.iter().any(|state| state.content == found)
            || possible.iter().any(|state| state.in_parts) && is_mixture(&found, possible);
        if !is_there {
            let sizes: Vec<usize> = possible.iter().map(|state| state.content.len()).collect();
            return Err(format!("{} bytes, of {sizes:?}", found.len()));
        }
        Ok(found)
    }
}

/// Whether each sector is that of one of the states.
fn is_mixture(found: &[u8], states: &[State]) -> bool {
    states
        .iter()
        .any(|state| state.content.len() == found.len())
        && (0..found.len()).step_by(512).all(|start| {
            let part = start..found.len().min(start + 512);
            states
                .iter()
                .any(|state| state.content.get(part.clone()) == Some(&found[part.clone()]))
        })
}

/// Runs tests of different seeds until so many states were looked at. Each answers how many it did, and what went
/// wrong.
fn each_seed(mut test: impl FnMut(World, &mut Vec<String>) -> u64) {
    let cuts = std::env::var("POWER_CUTS").map_or(CUTS, |text| text.parse().expect("a number"));
    let only: Option<u64> = std::env::var("POWER_SEED")
        .ok()
        .map(|text| text.parse().expect("a number"));
    let mut tried = 0;
    let mut failures = Vec::new();
    for seed in only.unwrap_or(0).. {
        if tried >= cuts || failures.len() >= 8 {
            break;
        }
        let world = World {
            key: MasterKey::from_bytes([3; 32]),
            params: Params {
                cipher: Cipher::ALL[(seed % 2) as usize],
                chunk_size: ChunkSize::MIN,
            },
            random: Random(seed << 20),
        };
        let mut whys = Vec::new();
        tried += test(world, &mut whys);
        failures.extend(whys.into_iter().map(|why| format!("seed {seed}: {why}")));
        if only.is_some() {
            break;
        }
    }
    assert!(failures.is_empty(), "of {tried}:\n{}", failures.join("\n"));
    println!("{tried} states");
}

#[test]
fn a_power_cut_loses_nothing_that_was_synced() {
    each_seed(|mut world, failures| {
        let disk = Recorder::new(Files::default()).open(NAME);
        let ops = 5 + world.random.below(60) as usize * (1 + world.random.below(4) as usize);
        let states = world.run(&disk, Vec::new(), ops);
        let steps = disk.recorder.steps();
        let mut tried = 0;
        for _ in 0..10 {
            tried += 1;
            let (left, found) = match world.cut(&Files::default(), &steps, &states) {
                Ok(left) => left,
                Err(why) => {
                    failures.push(why);
                    continue;
                }
            };
            // The next one goes on from there, and its power is cut too.
            let disk = Recorder::new(left.clone()).open(NAME);
            let ops = world.random.below(12) as usize;
            let states = world.run(&disk, found, ops);
            let steps = disk.recorder.steps();
            for _ in 0..2 {
                tried += 1;
                if let Err(why) = world.cut(&left, &steps, &states) {
                    failures.push(format!("second cut: {why}"));
                }
            }
        }
        tried
    });
}

/// Whatever file a name leads to after the cut, that file is as it was since its last fsync.
#[test]
fn files_that_take_each_others_names_are_whole() {
    each_seed(|mut world, failures| {
        let recorder = Recorder::new(Files::default());
        let rounds = 2 + world.random.below(12) as usize;
        let states = world.run_many(&recorder, rounds);
        let steps = recorder.steps();
        for _ in 0..10 {
            let (left, why) = world.cut_somewhere(&Files::default(), &steps);
            let recorder = Recorder::new(left.clone());
            for (name, file) in &left.names {
                let disk = recorder.find(name);
                let states = &states[*file];
                if let Err(what) = world.check(disk.as_ref(), *file, &steps[..why.1], states) {
                    failures.push(format!("{name}, {why:?}: {what}"));
                }
            }
        }
        10
    });
}
