//! `append FILE`: adds a line to a file that exists.

use cage_libc as _;
use std::error::Error;
use std::fs::OpenOptions;
use std::io::Write;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: append FILE")?;
    let mut file = OpenOptions::new().append(true).open(&path)?;
    file.write_all(b"one more line\n")?;
    Ok(())
}
