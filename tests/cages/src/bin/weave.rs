//! `weave FILE STRAND STRANDS COUNT`: with others that do the same, fills a file. Writes a letter
//! of its own at every place that is STRAND modulo STRANDS, one at a time, COUNT of them, and adds
//! a line to `FILE.log` for each.

use cage_libc as _;
use std::error::Error;
use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, strand, strands, count] = args.as_slice() else {
        return Err("usage: weave FILE STRAND STRANDS COUNT".into());
    };
    let (strand, strands, count): (u8, u64, u64) =
        (strand.parse()?, strands.parse()?, count.parse()?);
    let letter = b'a' + strand;
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    let mut log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(format!("{path}.log"))?;
    for turn in 0..count {
        file.seek(SeekFrom::Start(turn * strands + u64::from(strand)))?;
        file.write_all(&[letter])?;
        log.write_all(&[[letter; 30].as_slice(), b"\n"].concat())?;
    }
    Ok(())
}
