//! `show FILE`: prints a file.

use cage_libc as _;
use std::io;

fn main() -> io::Result<()> {
    let Some(path) = std::env::args().nth(1) else {
        return Err(io::Error::other("usage: show FILE"));
    };
    let mut file =
        std::fs::File::open(&path).map_err(|e| io::Error::new(e.kind(), format!("{path}: {e}")))?;
    io::copy(&mut file, &mut io::stdout())?;
    Ok(())
}
