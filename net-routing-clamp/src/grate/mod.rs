//! The grate: the command line, and the sockets of its ports.

mod options;
mod sockets;

/// Numbers of the handlers of grates inside, as Lind's clamp of this name has them.
const FIRST_NUMBER: u32 = 2000;

/// Runs the grate.
pub fn main() {
    let options = options::parse();
    match clamp::inside(&options.words) {
        Ok(words) => {
            let border = sockets::Border::new(options.port);
            clamp::run(Box::new(border), FIRST_NUMBER, words)
        }
        Err(error) => {
            eprintln!("net-routing-clamp: {error}");
            std::process::exit(options::USAGE)
        }
    }
}
