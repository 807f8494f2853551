//! `copy FROM TO [BLOCK]`: copies a file in reads and writes of BLOCK bytes (4096 if not given),
//! then reads both again and compares.

use cage_libc as _;
use std::error::Error;
use std::fs::File;
use std::io::{Read, Write};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(from), Some(to)) = (args.next(), args.next()) else {
        return Err("usage: copy FROM TO [BLOCK]".into());
    };
    let block = args.next().map_or(Ok(4096), |block| block.parse())?;
    let mut buffer = vec![0; block];
    let mut source = File::open(&from)?;
    let mut target = File::create(&to)?;
    loop {
        let len = source.read(&mut buffer)?;
        if len == 0 {
            break;
        }
        target.write_all(&buffer[..len])?;
    }
    target.sync_all()?;
    drop(target);
    let (original, copy) = (std::fs::read(&from)?, std::fs::read(&to)?);
    if original != copy {
        return Err(format!("{to} differs from {from}").into());
    }
    let size = std::fs::metadata(&to)?.len();
    println!("{size} bytes");
    Ok(())
}
