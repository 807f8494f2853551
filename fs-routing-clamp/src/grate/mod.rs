//! The grate: the command line, and what is below the prefix.

mod files;
mod options;

use clamp::paths::Paths;

/// Numbers of the handlers of grates inside, as Lind's clamp of this name has them.
const FIRST_NUMBER: u32 = 3000;

/// Runs the grate.
pub fn main() {
    let options = options::parse();
    let started = clamp::inside(&options.words).and_then(|words| {
        let border = files::Border(Paths::below(&options.prefix)?);
        Ok((border, words))
    });
    match started {
        Ok((border, words)) => clamp::run(Box::new(border), FIRST_NUMBER, words),
        Err(error) => {
            eprintln!("fs-routing-clamp: {error}");
            std::process::exit(options::USAGE)
        }
    }
}
