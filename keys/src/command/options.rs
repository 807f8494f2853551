//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use sealed::{ChunkSize, Cipher, Params};

/// Make and show keys; seal, open and verify files.
///
/// Exits with 0 on success, 1 on failure, 64 for wrong usage.
#[derive(Debug, Parser)]
#[command(name = "keys", version)]
pub struct Options {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a new random key and write it to FILE, which must not exist
    Gen {
        /// Where the key goes; readable by its owner alone
        file: PathBuf,
    },
    /// Show the id and kind of the key in FILE, never the key
    Show {
        /// The key file
        file: PathBuf,
    },
    /// Seal a file
    Seal {
        #[command(flatten)]
        key: Key,
        #[command(flatten)]
        transfer: Transfer,
        #[command(flatten)]
        params: SealParams,
    },
    /// Open a sealed file
    Open {
        #[command(flatten)]
        key: Key,
        #[command(flatten)]
        transfer: Transfer,
    },
    /// Check that sealed files are whole and unaltered, without writing anything
    Verify {
        #[command(flatten)]
        key: Key,
        /// The sealed files; `-` is standard input
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub struct Key {
    /// The key file
    #[arg(long = "key", short = 'k', value_name = "K")]
    pub path: PathBuf,
}

#[derive(Debug, Args)]
pub struct Transfer {
    /// What to read; `-` is standard input
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// What to write; `-` is standard output
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// Replace OUT if it exists
    #[arg(short, long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct SealParams {
    /// The cipher
    #[arg(long, value_name = "CIPHER", value_enum, default_value_t)]
    cipher: CipherName,
    /// Bytes of plaintext in a chunk: a power of two from 512 to 65536
    #[arg(long, value_name = "N", value_parser = chunk_size, default_value = "4096")]
    chunk_size: ChunkSize,
}

impl From<SealParams> for Params {
    fn from(params: SealParams) -> Self {
        Self {
            cipher: match params.cipher {
                CipherName::XChaCha20Poly1305 => Cipher::XChaCha20Poly1305,
                CipherName::Aes256Gcm => Cipher::Aes256Gcm,
            },
            chunk_size: params.chunk_size,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum CipherName {
    #[default]
    #[value(name = Cipher::XChaCha20Poly1305.name())]
    XChaCha20Poly1305,
    #[value(name = Cipher::Aes256Gcm.name())]
    Aes256Gcm,
}

fn chunk_size(text: &str) -> Result<ChunkSize, String> {
    text.parse()
        .ok()
        .and_then(ChunkSize::from_bytes)
        .ok_or_else(|| {
            format!(
                "not a power of two from {} to {}",
                ChunkSize::MIN.bytes(),
                ChunkSize::MAX.bytes()
            )
        })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }
}
