//! The write filter: see `write-filter-grate.cwasm --help`.

#[cfg(target_family = "wasm")]
mod filter;

#[cfg(target_family = "wasm")]
fn main() {
    filter::main()
}

/// The grate is a guest: on the host there is nothing for it to do.
#[cfg(not(target_family = "wasm"))]
fn main() {
    eprintln!("write-filter-grate runs as a cage: build it with `make build`");
    std::process::exit(1);
}
