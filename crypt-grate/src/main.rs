//! The encryption grate: see `crypt-grate.cwasm --help`.

#[cfg(target_family = "wasm")]
mod grate;

#[cfg(target_family = "wasm")]
fn main() {
    grate::main()
}

/// The grate is a guest: only its engine (the library of this package) exists on the host.
#[cfg(not(target_family = "wasm"))]
fn main() {
    eprintln!("crypt-grate runs as a cage: build it with `make build`");
    std::process::exit(1);
}
