//! The command line.

use clap::{Parser, ValueEnum};
use crypt_grate::peers::Peers;
use sealed::{ChunkSize, Cipher, Params};

/// Seal what a program writes to files and sends to other machines: plaintext to the program,
/// authenticated ciphertext on the disk and on the wire.
///
/// All paths are paths inside the cages' root. Standard streams, pipes, terminals and UNIX sockets
/// pass as they are. A peer on the network runs under crypt-grate too, with the same key. The program cannot read, write, move or remove the key file. Options of the grate come
/// first, then the program with its own:
///
///   lind-wasm crypt-grate.cwasm --key /k.bin prog.cwasm ARGS...
#[derive(Parser, Debug)]
#[command(name = "crypt-grate", version)]
pub struct Options {
    /// File with the key, made by `keys gen FILE`, closed to group and others: a raw key, one
    /// wrapped by a passphrase, or a key ring that names others. Repeatable: the first key seals
    /// new files, all open those that were sealed with them
    #[arg(long, value_name = "FILE", required = true)]
    pub key: Vec<String>,

    /// Read the passphrases of wrapped keys from descriptor N, a line each; 0 leaves what follows
    /// to the program [default: ask at the terminal]
    #[arg(long, value_name = "N")]
    pub passphrase_fd: Option<i32>,

    /// Cipher of new files; existing ones are read with the cipher that they name
    #[arg(long, value_enum, default_value = "xchacha20poly1305")]
    pub cipher: CipherName,

    /// Plaintext bytes in a chunk of new files: a power of two from 512 to 65536
    #[arg(long, value_name = "N", default_value = "4096", value_parser = chunk_size)]
    pub chunk_size: ChunkSize,

    /// Seal files below PATH only (repeatable) [default: /]
    #[arg(long, value_name = "PATH")]
    pub encrypt: Vec<String>,

    /// What a file that is not sealed gets, where files are sealed: `deny` refuses it; `read` lets
    /// it be read, but not written in place
    #[arg(long, value_enum, default_value = "deny")]
    pub plaintext: Plaintext,

    /// What is done with IPv4 and IPv6 sockets: `seal` seals all that they send, and takes only
    /// what was sealed with a key at hand; `none` leaves them as they are, in the clear
    #[arg(long, value_enum, default_value = "seal")]
    pub net: Net,

    /// A peer that stays in the clear, such as a DNS server (repeatable). For connections that the
    /// program accepts, PORT is the program's own
    #[arg(long, value_name = "ADDR[/LEN][:PORT[-PORT]]")]
    pub plain: Vec<Peers>,

    /// How long a peer has to prove that it has the key
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub handshake_timeout: u64,

    /// Say on standard error what was refused, and why
    #[arg(long)]
    pub verbose: bool,

    /// The program, then its arguments
    #[arg(value_name = "PROGRAM", required = true, trailing_var_arg = true)]
    pub program: Vec<String>,
}

/// Names of ciphers.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum CipherName {
    /// XChaCha20-Poly1305
    Xchacha20poly1305,
    /// XAES-256-GCM
    #[value(name = "xaes-256-gcm", alias = "aes-256-gcm")]
    Xaes256Gcm,
}

/// What is done with the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Net {
    /// It is sealed.
    Seal,
    /// It is left alone.
    None,
}

/// What files without a header get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Plaintext {
    /// They can be read.
    Read,
    /// They can't be opened.
    Deny,
}

impl Options {
    /// What new files are sealed with.
    pub fn params(&self) -> Params {
        Params {
            cipher: match self.cipher {
                CipherName::Xchacha20poly1305 => Cipher::XChaCha20Poly1305,
                CipherName::Xaes256Gcm => Cipher::Xaes256Gcm,
            },
            chunk_size: self.chunk_size,
        }
    }
}

fn chunk_size(text: &str) -> Result<ChunkSize, String> {
    text.parse()
        .ok()
        .and_then(ChunkSize::from_bytes)
        .ok_or_else(|| "must be a power of two from 512 to 65536".to_owned())
}

/// Reads the command line; ends the run with 64 where it is wrong.
pub fn parse() -> Options {
    const USAGE: i32 = 64;
    Options::try_parse().unwrap_or_else(|error| {
        let _ = error.print();
        std::process::exit(if error.use_stderr() { USAGE } else { 0 })
    })
}
