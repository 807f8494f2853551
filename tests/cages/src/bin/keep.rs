//! `keep FILE`: stores standard input in FILE, reads it back, and shows its first lines.

use cage_libc as _;
use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Write};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: keep FILE")?;
    let mut input = Vec::new();
    io::stdin().read_to_end(&mut input)?;
    let mut file = File::create(&path)?;
    file.write_all(&input)?;
    drop(file);
    let kept = std::fs::read(&path)?;
    if kept != input {
        return Err(format!("{path} is not what was written").into());
    }
    let size = std::fs::metadata(&path)?.len();
    println!("{path}: {size} bytes, read back the same. It begins:");
    for line in String::from_utf8_lossy(&kept).lines().take(4) {
        println!("  {}", line.trim());
    }
    Ok(())
}
