//! `weathercock LINK FOLDER OTHER TRIES`: writes to files by way of a symlink that another cage
//! turns between two folders, and adds to them by the names of both.

use cage_libc::sys;
use std::fs;
use std::io::Write;
use std::process::ExitCode;

const LINE: &[u8] = b"a line that must not be read\n";

fn turn(link: &str, to: &str) {
    let new = format!("{link}.new\0");
    let target = format!("{to}\0");
    let link = format!("{link}\0");
    let place = |text: &str| sys::address(text.as_ptr());
    // SAFETY: strings with their NUL.
    unsafe {
        let _ = sys::syscall(sys::nr::SYMLINK, &[place(&target), place(&new)]);
        let _ = sys::syscall(sys::nr::RENAME, &[place(&new), place(&link)]);
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [link, folder, other, tries] = &args[..] else {
        return ExitCode::from(64);
    };
    let tries: u32 = tries.parse().unwrap_or(0);
    let child = match sys::fork() {
        Ok(0) => loop {
            turn(link, folder);
            turn(link, other);
        },
        Ok(child) => child,
        Err(_) => return ExitCode::FAILURE,
    };
    let mut written = 0;
    // As often, and till the link has turned while something was written.
    let has_turned = || fs::read_dir(other).is_ok_and(|mut names| names.next().is_some());
    let mut number = 0;
    while number < tries || !has_turned() {
        let path = format!("{link}/{}", number % 8);
        let mut options = fs::OpenOptions::new();
        let file = options.create(true).append(true).open(&path);
        // The link is not there for a moment, or the name is another file's by now.
        written += u32::from(file.and_then(|mut file| file.write_all(LINE)).is_ok());
        number += 1;
    }
    // SAFETY: no address among the arguments.
    let _ = unsafe { sys::syscall(sys::nr::KILL, &[child as u64, 9]) };
    let _ = sys::waitpid(child, 0);
    for number in 0..8 {
        let path = format!("{other}/{number}");
        if let Ok(text) = fs::read(&path)
            && !text.chunks(LINE.len()).all(|line| line == LINE)
        {
            println!("{path} is mixed up");
            return ExitCode::FAILURE;
        }
    }
    println!("turned, {written} lines");
    ExitCode::SUCCESS
}
