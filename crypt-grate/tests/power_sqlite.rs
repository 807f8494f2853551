//! Power cuts under SQLite: its transactions on sealed files, in the models of [`disk::cuts`].
//!
//! A database is made and changed, with a rollback journal of each kind or a write-ahead log, and pages of each
//! size. Then the power is cut. SQLite opens what is left and recovers by itself, the database is whole, and
//! the last transaction is there that it had said was done. It goes on from there, and the power is cut again.
//!
//! The same loads run on plain files first, which must fare as well: else the model would ask for more than SQLite
//! promises. `POWER_CUTS` says how many states are looked at, [`CUTS`] by default.

mod disk;
mod vfs;

use crypt_grate::sealed_file::{Content, Keys, SealedFile, Sealing, Windows, software};
use crypt_grate::storage::{Storage, read_up_to, write_all};
use disk::Random;
use disk::cuts::{Disk, Files, Model, Recorder, Step, cut};
use rusqlite::{Connection, OpenFlags};
use sealed::{ChunkSize, Cipher, MasterKey, Params};
use std::rc::Rc;
use vfs::{Disks, Failed};

const CUTS: u64 = 1_500;

/// How files are kept.
#[derive(Clone, Copy, Debug)]
enum Kept {
    Plain,
    Sealed(Params),
}

/// The files of a database, as SQLite gets them.
struct Database {
    recorder: Rc<Recorder>,
    kept: Kept,
    key: MasterKey,
    random: Random,
    open: Vec<Option<(Disk, SealedFile)>>,
}

impl Database {
    fn new(recorder: &Rc<Recorder>, kept: Kept, seed: u64) -> Box<Self> {
        Box::new(Self {
            recorder: Rc::clone(recorder),
            kept,
            key: MasterKey::from_bytes([3; 32]),
            random: Random(seed),
            open: Vec::new(),
        })
    }

    /// Does something with an open file: as a plain one, or as a sealed one.
    fn on<T>(
        &mut self,
        file: usize,
        plain: impl FnOnce(&Disk) -> T,
        sealed: impl FnOnce(&mut SealedFile, &Disk, &mut Sealing<'_, Random>) -> T,
    ) -> T {
        let (disk, state) = self.open[file].as_mut().expect("it is open");
        match self.kept {
            Kept::Plain => plain(disk),
            Kept::Sealed(params) => {
                let keys = Keys {
                    master: &self.key,
                    others: &[],
                    aead: software,
                    derive: sealed::derive,
                };
                let mut with = Sealing {
                    keys,
                    params,
                    rng: &mut self.random,
                };
                sealed(state, disk, &mut with)
            }
        }
    }
}

impl Disks for Database {
    fn open(&mut self, name: &str, make: bool) -> Result<usize, Failed> {
        let disk = match self.recorder.find(name) {
            Some(disk) => disk,
            None if make => self.recorder.open(name),
            None => return Err(Failed),
        };
        self.open.push(Some((disk, SealedFile::default())));
        let file = self.open.len() - 1;
        self.on(
            file,
            |_| Ok(()),
            |state, disk, with| match state.identify(disk, with.keys) {
                Ok(Content::Empty | Content::Sealed) => Ok(()),
                Ok(Content::Plain) | Err(_) => Err(Failed),
            },
        )?;
        Ok(file)
    }

    fn exists(&self, name: &str) -> bool {
        self.recorder.find(name).is_some()
    }

    fn remove(&mut self, name: &str, sync: bool) {
        if self.exists(name) {
            self.recorder.step(Step::Remove {
                name: name.to_owned(),
            });
        }
        if sync {
            self.recorder.step(Step::SyncNames);
        }
    }

    fn close(&mut self, file: usize) {
        self.on(
            file,
            |_| (),
            |state, disk, with| state.close(disk, with).expect("it takes all"),
        );
        self.open[file] = None;
    }

    fn read(&mut self, file: usize, out: &mut [u8], offset: u64) -> Result<usize, Failed> {
        let mut done = 0;
        while done < out.len() {
            let (out, offset) = (&mut out[done..], offset + done as u64);
            // Both answers need the buffer, and one of them is asked.
            let out = std::cell::RefCell::new(out);
            let read = self.on(
                file,
                |disk| read_up_to(disk, &mut out.borrow_mut(), offset).map_err(|_| Failed),
                |state, disk, with| {
                    let keys = with.keys;
                    let mut out = out.borrow_mut();
                    state
                        .read(&mut Windows::default(), disk, keys, offset, &mut out)
                        .map_err(|_| Failed)
                },
            )?;
            if read == 0 {
                break;
            }
            done += read;
        }
        Ok(done)
    }

    fn write(&mut self, file: usize, data: &[u8], offset: u64) -> Result<(), Failed> {
        self.on(
            file,
            |disk| write_all(disk, data, offset).map_err(|_| Failed),
            |state, disk, with| match state.write(disk, with, offset, data) {
                Ok(len) if len == data.len() => Ok(()),
                _ => Err(Failed),
            },
        )
    }

    fn set_len(&mut self, file: usize, len: u64) -> Result<(), Failed> {
        self.on(
            file,
            |disk| disk.set_size(len).map_err(|_| Failed),
            |state, disk, with| state.set_len(disk, with, len).map_err(|_| Failed),
        )
    }

    fn len(&mut self, file: usize) -> Result<u64, Failed> {
        self.on(
            file,
            |disk| disk.size().map_err(|_| Failed),
            |state, disk, with| state.len(disk, with.keys).map_err(|_| Failed),
        )
    }

    fn sync(&mut self, file: usize) -> Result<(), Failed> {
        self.on(
            file,
            |disk| disk.sync().map_err(|_| Failed),
            |state, disk, _| {
                let moment = state.moment();
                disk.sync().map_err(|_| Failed)?;
                state.synced(disk, moment);
                Ok(())
            },
        )
    }
}

/// How SQLite keeps what a transaction is about to change, and how much it waits for the disk: so that what it says
/// is done stays done. (With DELETE and less than EXTRA, it does not wait for the directory.)
const JOURNALS: [(&str, &str); 4] = [
    ("DELETE", "EXTRA"),
    ("TRUNCATE", "FULL"),
    ("PERSIST", "FULL"),
    ("WAL", "FULL"),
];

/// What a database was after some transaction, and after how many steps of the disk that was begun and done.
#[derive(Clone, Debug)]
struct State {
    number: i64,
    content: String,
    begun: usize,
    done: usize,
}

#[derive(Clone, Copy)]
struct Load {
    page_size: u64,
    journal: (&'static str, &'static str),
}

impl Load {
    fn any(random: &mut Random) -> Self {
        Self {
            page_size: [512, 1024, 4096][random.below(3) as usize],
            journal: JOURNALS[random.below(4) as usize],
        }
    }

    fn open(&self) -> rusqlite::Result<Connection> {
        let db = Connection::open_with_flags_and_vfs("db", OpenFlags::default(), vfs::NAME)?;
        let (journal, synchronous) = self.journal;
        db.execute_batch(&format!(
            "PRAGMA page_size = {};
             PRAGMA locking_mode = {};
             PRAGMA journal_mode = {journal};
             PRAGMA synchronous = {synchronous};
             PRAGMA wal_autocheckpoint = 12;
             PRAGMA cache_size = 8;",
            self.page_size,
            // Else a write-ahead log needs memory that is shared.
            if journal == "WAL" {
                "EXCLUSIVE"
            } else {
                "NORMAL"
            },
        ))?;
        Ok(db)
    }

    /// Runs some transactions. Answers the states that they lead to, after `first`.
    fn run(
        &self,
        recorder: &Rc<Recorder>,
        first: State,
        count: u64,
        random: &mut Random,
    ) -> rusqlite::Result<Vec<State>> {
        let mut states = vec![first];
        let begun = recorder.done();
        let db = self.open()?;
        db.execute_batch(
            "CREATE TABLE IF NOT EXISTS at(number INTEGER);
             CREATE TABLE IF NOT EXISTS row(id INTEGER PRIMARY KEY, body BLOB);
             CREATE INDEX IF NOT EXISTS body ON row(substr(body, 1, 8));",
        )?;
        // As if it had been there all along: an empty database.
        states[0].done = states[0].done.max(begun);
        for _ in 0..count {
            let number = states[states.len() - 1].number + 1;
            let begun = recorder.done();
            db.execute_batch("BEGIN")?;
            if number == 1 {
                db.execute("INSERT INTO at VALUES (0)", ())?;
            }
            for _ in 0..1 + random.below(4) {
                let body: Vec<u8> = (0..random.below(self.page_size * 3 / 2))
                    .map(|_| random.next() as u8)
                    .collect();
                let id = random.below(30) as i64;
                if random.below(4) == 0 {
                    db.execute("DELETE FROM row WHERE id = ?1", (id,))?;
                } else {
                    let sql = "INSERT OR REPLACE INTO row VALUES (?1, ?2)";
                    db.execute(sql, (id, body))?;
                }
            }
            db.execute("UPDATE at SET number = ?1", (number,))?;
            let content = content(&db)?;
            db.execute_batch("COMMIT")?;
            states.push(State {
                number,
                content,
                begun,
                done: recorder.done(),
            });
        }
        drop(db);
        Ok(states)
    }

    /// What SQLite finds. It may write: it recovers.
    fn find(&self) -> rusqlite::Result<(i64, String)> {
        let db = self.open()?;
        let whole: String = db.query_row("PRAGMA integrity_check", (), |row| row.get(0))?;
        if whole != "ok" {
            return Ok((-1, whole));
        }
        let sql = "SELECT count(*) FROM sqlite_schema WHERE type = 'table'";
        if db.query_row(sql, (), |row| row.get::<_, i64>(0))? < 2 {
            return Ok((0, String::new()));
        }
        let sql = "SELECT coalesce(max(number), 0) FROM at";
        Ok((db.query_row(sql, (), |row| row.get(0))?, content(&db)?))
    }
}

/// All that the rows hold, in short.
fn content(db: &Connection) -> rusqlite::Result<String> {
    let mut rows = db.prepare("SELECT id, body FROM row ORDER BY id")?;
    let mut rows = rows.query(())?;
    let mut content = String::new();
    while let Some(row) = rows.next()? {
        let (id, body): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
        let sum = body.iter().fold(0xCBF2_9CE4_8422_2325, |sum: u64, byte| {
            (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3)
        });
        content += &format!("{id}: {} {sum:x}, ", body.len());
    }
    Ok(content)
}

/// Cuts the power somewhere, and lets SQLite have what is left. Answers that, as SQLite has left it, with what it
/// found.
fn try_cut(
    load: &Load,
    kept: Kept,
    before: &Files,
    steps: &[Step],
    states: &[State],
    random: &mut Random,
) -> Result<(Files, State), String> {
    let moment = random.below(steps.len() as u64 + 1) as usize;
    let model = Model::ALL[random.below(3) as usize];
    let left = cut(before, &steps[..moment], model, random);
    let of = |is: &dyn Fn(&State) -> bool| states.iter().rposition(is).unwrap_or(0);
    let acknowledged = of(&|state| state.done <= moment);
    let begun = of(&|state| state.begun <= moment);
    let why = |what: String| {
        let (journal, _) = load.journal;
        let size = load.page_size;
        format!("{journal}, pages of {size}, {model:?} after {moment} steps: {what}")
    };
    let recorder = Recorder::new(left);
    let disks = Database::new(&recorder, kept, random.next());
    let (number, found) =
        vfs::with(disks, || load.find()).map_err(|error| why(error.to_string()))?;
    let state = states[acknowledged..=begun]
        .iter()
        .find(|state| state.number == number && state.content == found)
        .ok_or_else(|| {
            let (from, to) = (states[acknowledged].number, states[begun].number);
            why(format!("transaction {number}, of {from} to {to}: {found}"))
        })?;
    let state = State {
        begun: 0,
        done: 0,
        ..state.clone()
    };
    Ok((recorder.files(), state))
}

/// Runs loads until so many states were looked at. Answers how many, and what went wrong.
fn run(kept: impl Fn(u64) -> Kept, cuts: u64) -> (u64, Vec<String>) {
    let mut tried = 0;
    let mut failures = Vec::new();
    for seed in 0.. {
        if tried >= cuts || failures.len() >= 8 {
            break;
        }
        let kept = kept(seed);
        let mut random = Random(seed << 20 | 7);
        let load = Load::any(&mut random);
        let empty = State {
            number: 0,
            content: String::new(),
            begun: 0,
            done: 0,
        };
        let recorder = Recorder::new(Files::default());
        let disks = Database::new(&recorder, kept, random.next());
        let count = 2 + random.below(20);
        let states = vfs::with(disks, || load.run(&recorder, empty, count, &mut random))
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let steps = recorder.steps();
        for _ in 0..15 {
            tried += 1;
            let cut = try_cut(&load, kept, &Files::default(), &steps, &states, &mut random);
            let (left, state) = match cut {
                Ok(left) => left,
                Err(why) => {
                    failures.push(format!("seed {seed}: {why}"));
                    continue;
                }
            };
            // It goes on from there, and the power is cut too.
            let recorder = Recorder::new(left.clone());
            let disks = Database::new(&recorder, kept, random.next());
            let count = random.below(4);
            let states = vfs::with(disks, || load.run(&recorder, state, count, &mut random))
                .unwrap_or_else(|error| panic!("seed {seed}, later: {error}"));
            let steps = recorder.steps();
            for _ in 0..2 {
                tried += 1;
                if let Err(why) = try_cut(&load, kept, &left, &steps, &states, &mut random) {
                    failures.push(format!("seed {seed}, second cut: {why}"));
                }
            }
        }
    }
    (tried, failures)
}

fn cuts() -> u64 {
    std::env::var("POWER_CUTS").map_or(CUTS, |text| text.parse().expect("a number"))
}

#[test]
fn plain_files_lose_no_transaction() {
    let (tried, failures) = run(|_| Kept::Plain, cuts());
    assert!(failures.is_empty(), "of {tried}:\n{}", failures.join("\n"));
    println!("{tried} states");
}

#[test]
fn sealed_files_lose_no_transaction() {
    let params = |seed: u64| {
        Kept::Sealed(Params {
            cipher: Cipher::ALL[(seed % 2) as usize],
            chunk_size: [ChunkSize::MIN, ChunkSize::default()][(seed / 2 % 2) as usize],
        })
    };
    let (tried, failures) = run(params, cuts());
    assert!(failures.is_empty(), "of {tried}:\n{}", failures.join("\n"));
    println!("{tried} states");
}
