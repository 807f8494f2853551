//! `crowd DIR`: several children at once, each with a file of its own; what a grate above them has
//! to serve in parallel.

use cage_libc::sys;
use std::error::Error;
use std::fs;
use std::path::Path;

const CHILDREN: usize = 8;
const ROUNDS: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args().nth(1).ok_or("usage: crowd DIR")?;
    let mut children = Vec::new();
    for number in 0..CHILDREN {
        match sys::fork() {
            Ok(0) => sys::exit(i32::from(work(Path::new(&dir), number).is_err())),
            Ok(child) => children.push(child),
            Err(error) => return Err(format!("fork: {error:?}").into()),
        }
    }
    for child in children {
        let ended = sys::waitpid(child, 0);
        if ended != Ok((child, 0)) {
            return Err(format!("child {child}: {ended:?}").into());
        }
    }
    println!("{CHILDREN} children done");
    Ok(())
}

fn work(dir: &Path, number: usize) -> Result<(), Box<dyn Error>> {
    let path = dir.join(format!("crowd-{number}"));
    for round in 0..ROUNDS {
        let text = format!("{number} in round {round}\n").repeat(50);
        fs::write(&path, &text)?;
        if fs::read_to_string(&path)? != text {
            return Err("another text".into());
        }
    }
    fs::remove_file(&path)?;
    Ok(())
}
