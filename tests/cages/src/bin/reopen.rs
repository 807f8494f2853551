//! `reopen FILE ROUNDS`: writes FILE anew, cuts it by its name, and reads it, so many times, while another
//! file may be put in its place by `keys rekey`. Every opening works, and what was written without an error
//! is there. A file that is open may come to be the one that was replaced, and end in EIO; it is opened again
//! then.

use cage_libc as _;
use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};

/// As `std` knows it: the number of WASI.
const EIO: i32 = 29;

/// Writes by a descriptor that was just opened. Answers whether the file was replaced in between.
fn written(mut file: File, data: &[u8]) -> io::Result<bool> {
    match file.write_all(data) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(EIO) => Ok(false),
        Err(error) => Err(error),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, path, rounds] = &args[..] else {
        return Err("usage: reopen FILE ROUNDS".into());
    };
    let (mut replaced, mut unread) = (0, 0);
    for round in 0..rounds.parse::<u64>()? {
        let what = |what: &str, error: io::Error| format!("round {round}: {what}: {error}");
        let data = format!("round {round}\n").repeat(200).into_bytes();
        let anew = || File::create(path).map_err(|error| what("writing anew", error));
        while !written(anew()?, &data)? {
            replaced += 1;
        }
        let mut expected = data.clone();
        let more = || {
            let file = OpenOptions::new().append(true).open(path);
            file.map_err(|error| what("appending", error))
        };
        if round % 2 == 0 {
            while !written(more()?, b"and more\n")? {
                replaced += 1;
            }
            expected.extend_from_slice(b"and more\n");
        }
        // What is open for reading may be replaced too.
        let found = loop {
            let mut file = File::open(path).map_err(|error| what("reading", error))?;
            let mut found = Vec::new();
            match io::Read::read_to_end(&mut file, &mut found) {
                Ok(_) => break found,
                Err(error) if error.raw_os_error() == Some(EIO) => unread += 1,
                Err(error) => return Err(what("reading", error).into()),
            }
        };
        if found != expected {
            return Err(format!(
                "round {round}: {} bytes are not {}",
                found.len(),
                expected.len()
            )
            .into());
        }
        if round % 3 == 0 {
            fs::metadata(path).map_err(|error| what("asking", error))?;
        }
    }
    println!("{replaced} replaced while they were written, {unread} while they were read");
    Ok(())
}
