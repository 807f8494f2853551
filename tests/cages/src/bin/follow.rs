//! `follow FILE WHO BYTES GENERATIONS`: one reads a file in small pieces again and again while another changes it in
//! turn. WHO is `read`, `write`, or `both`, which forks for the other. Each generation is so many bytes of one value, and the
//! reader, as soon as it is told of one by another file, must see it and nothing else, though it has the file open all the time.
//! The writer opens the file anew for each generation, in a different way. Prints what is wrong; else nothing.

use cage_libc::sys;
use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::thread::sleep;
use std::time::Duration;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Bytes of one read.
const PIECE: usize = 512;
/// How often the reader goes through a generation.
const PASSES: usize = 4;
/// How often one looks whether the other has come so far; then it has ended.
const NAPS: usize = 30_000;

struct Pair {
    path: String,
    bytes: usize,
    generations: u8,
}

impl Pair {
    /// What one tells the other of: the last generation that there is, and the last that was seen.
    fn tell(&self, what: &str, generation: u8) -> Result<()> {
        let (path, new) = (
            format!("{}.{what}", self.path),
            format!("{}.{what}.new", self.path),
        );
        fs::write(&new, [generation])?;
        Ok(fs::rename(new, path)?)
    }

    /// Waits until the other has told of a generation.
    fn wait(&self, what: &str, generation: u8) -> Result<()> {
        let path = format!("{}.{what}", self.path);
        for _ in 0..NAPS {
            // A writer does not wait for who is there to see how it begins.
            if fs::read(&path).is_ok_and(|told| told.first() >= Some(&generation)) {
                return Ok(());
            }
            sleep(Duration::from_millis(1));
        }
        Err(format!("nobody tells of {what} {generation}").into())
    }

    fn write(&self) -> Result<()> {
        for generation in 1..=self.generations {
            let content = vec![generation; self.bytes];
            match generation % 4 {
                // Piece by piece, made anew, made short and long again, and all at once.
                1 => {
                    let mut file = OpenOptions::new().write(true).open(&self.path)?;
                    content
                        .chunks(PIECE)
                        .try_for_each(|piece| file.write_all(piece))?;
                }
                2 => fs::write(&self.path, content)?,
                3 => {
                    let mut file = OpenOptions::new().read(true).write(true).open(&self.path)?;
                    file.set_len(1)?;
                    file.write_all(&content)?;
                }
                _ => {
                    let mut file = OpenOptions::new().append(true).open(&self.path)?;
                    file.set_len(0)?;
                    file.write_all(&content)?;
                }
            }
            self.tell("there", generation)?;
            self.wait("seen", generation)?;
        }
        Ok(())
    }

    fn read(&self) -> Result<()> {
        self.wait("there", 0)?;
        let mut file = File::open(&self.path)?;
        for generation in 1..=self.generations {
            self.wait("there", generation)?;
            for pass in 0..PASSES {
                file.seek(SeekFrom::Start(0))?;
                let mut all = 0;
                loop {
                    let mut piece = [0; PIECE];
                    let len = file.read(&mut piece)?;
                    if piece[..len].iter().any(|byte| *byte != generation) {
                        let at = format!("pass {pass}, byte {all}");
                        return Err(format!("generation {generation}, {at}: {}", piece[0]).into());
                    }
                    all += len;
                    if len == 0 {
                        break;
                    }
                }
                if all != self.bytes {
                    return Err(format!("generation {generation} has {all} bytes").into());
                }
            }
            self.tell("seen", generation)?;
        }
        Ok(())
    }
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, who, bytes, generations] = args.as_slice() else {
        return Err("usage: follow FILE WHO BYTES GENERATIONS".into());
    };
    let pair = Pair {
        path: path.clone(),
        bytes: bytes.parse()?,
        generations: generations.parse()?,
    };
    if who != "read" {
        fs::write(&pair.path, vec![0; pair.bytes])?;
        pair.tell("there", 0)?;
    }
    match who.as_str() {
        "read" => pair.read(),
        "write" => pair.write(),
        _ => {
            let child = sys::fork().map_err(|error| format!("{error:?}"))?;
            if child == 0 {
                sys::exit(i32::from(
                    pair.read()
                        .inspect_err(|error| println!("{error}"))
                        .is_err(),
                ));
            }
            pair.write()?;
            let (_, status) = sys::waitpid(child, 0).map_err(|error| format!("{error:?}"))?;
            match status {
                0 => Ok(()),
                other => Err(format!("the reader ended with {other:#x}").into()),
            }
        }
    }
}
