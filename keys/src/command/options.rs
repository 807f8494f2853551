//! The command line.

use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use keys::parallel::default_threads;
use keys::wrapped::Cost;
use sealed::{ChunkSize, Cipher, Params};

/// Farther from its place nobody waits for a chunk to be found.
const MOST_SEARCHED: u64 = 256 << 20;

/// The notation of [`cost`].
const COST: &str = "m=N,t=N,p=N";

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
        /// Wrap the key by a passphrase, asked for twice at the terminal
        #[arg(long, group = "wrap")]
        passphrase: bool,
        /// Wrap the key by a passphrase: the first line of descriptor N
        #[arg(long, group = "wrap", value_name = "N")]
        passphrase_fd: Option<u32>,
        /// What one try of the passphrase costs: KiB of memory, passes over it, lanes
        #[arg(long, value_name = COST, value_parser = cost, requires = "wrap")]
        argon2: Option<Cost>,
    },
    /// Give the key in FILE a passphrase, another one, or none
    ///
    /// The file is replaced in one step and the key stays the same. Copies of the file, and its old
    /// blocks on the disk, still open with the old passphrase: where that got known, move the files
    /// to a new key.
    Passwd {
        /// The key file
        file: PathBuf,
        /// Read the present passphrase from the first line of descriptor N
        #[arg(long, value_name = "N")]
        passphrase_fd: Option<u32>,
        /// Read the new passphrase from the first line of descriptor N
        #[arg(long, value_name = "N")]
        new_passphrase_fd: Option<u32>,
        /// Take the passphrase away: the file holds the raw key then
        #[arg(long, conflicts_with_all = ["new_passphrase_fd", "argon2"])]
        remove: bool,
        /// What one try of the new passphrase costs: KiB of memory, passes over it, lanes
        #[arg(long, value_name = COST, value_parser = cost)]
        argon2: Option<Cost>,
    },
    /// Show the id and kind of the key in FILE, or of those in a ring, never the key
    Show {
        /// The key file
        file: PathBuf,
    },
    /// Seal a file
    Seal {
        #[command(flatten)]
        keys: KeyOptions,
        #[command(flatten)]
        transfer: Transfer,
        #[command(flatten)]
        params: SealParams,
    },
    /// Open a sealed file
    Open {
        #[command(flatten)]
        keys: KeyOptions,
        #[command(flatten)]
        transfer: Transfer,
    },
    /// Check that sealed files are whole and unaltered, without writing anything
    ///
    /// Every chunk of each file is read and authenticated. Of a directory, all regular files below
    /// it are checked; those that are not sealed are counted. Symbolic links in it are not followed.
    Verify {
        #[command(flatten)]
        keys: KeyOptions,
        #[command(flatten)]
        options: VerifyOptions,
    },
    /// Save what is authentic of a damaged file, and tell what is lost
    ///
    /// Every chunk that authenticates comes to its offset in OUT, and what is lost is filled up. What
    /// is of an older version of the file, or may be, is told. Exits with 1 if there is anything lost
    /// or of an older version, or if that can't be told.
    Recover {
        #[command(flatten)]
        keys: KeyOptions,
        #[command(flatten)]
        options: RecoverOptions,
    },
    /// Move sealed files to another key: seal them anew with the first key that is given
    ///
    /// All files below PATH that were sealed with another of the keys are moved, one by one, each in
    /// a single step; it may be interrupted at any time and run again. Permissions, owner, times and
    /// extended attributes stay; symbolic links are not followed. Programs must not have the files
    /// open: one that has gets errors from then on.
    Rekey {
        #[command(flatten)]
        keys: KeyOptions,
        #[command(flatten)]
        options: RekeyOptions,
    },
    /// Make damaged files whole again of what can be saved
    ///
    /// For damaged disks, and for who has no copy: what a power loss leaves needs no repair. All files
    /// below PATH are checked, and those in order stay as they are. In the place of one that is refused
    /// comes a new one with all that `keys recover` saves of it. Chunks that are lost stay so, and are
    /// told: reading them fails until they are written over. So is a chunk of which only a part can be saved,
    /// as `keys recover` does. What of it is older, or may be, is told, and counts as the newest from then
    /// on. It may be interrupted at any time and run again. Exits with 1
    /// if there is anything lost.
    Repair {
        #[command(flatten)]
        keys: KeyOptions,
        #[command(flatten)]
        options: RepairOptions,
    },
}

#[derive(Debug, Args)]
pub struct RecoverOptions {
    #[command(flatten)]
    pub transfer: Transfer,
    /// What stands for each lost byte, from 0 to 255
    #[arg(long, value_name = "BYTE", default_value_t = 0)]
    pub fill: u8,
    #[command(flatten)]
    pub search: Search,
}

#[derive(Debug, Args)]
pub struct Search {
    /// How many bytes from its place a chunk is looked for, where some were put in or taken out
    #[arg(long = "search", value_name = "BYTES", default_value_t = 64 << 10, value_parser = clap::value_parser!(u64).range(..=MOST_SEARCHED))]
    pub bytes: u64,
}

#[derive(Debug, Args)]
pub struct RepairOptions {
    #[command(flatten)]
    pub search: Search,
    #[command(flatten)]
    pub change: ChangeOptions,
}

#[derive(Debug, Args)]
pub struct RekeyOptions {
    /// A key file or ring that only opens; several may be given
    #[arg(long, value_name = "OLD")]
    pub from: Vec<PathBuf>,
    #[command(flatten)]
    pub change: ChangeOptions,
}

/// Of the commands that change files where they are.
#[derive(Debug, Args)]
pub struct ChangeOptions {
    /// Sealed files and directories of them
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    /// Change nothing, and tell what would be done
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    #[command(flatten)]
    pub wait: Wait,
    #[command(flatten)]
    pub jobs: Jobs,
}

#[derive(Debug, Args)]
pub struct VerifyOptions {
    /// Sealed files and directories of them; `-` is standard input
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    /// Have files that are not sealed, and those of zero bytes, count as bad
    #[arg(long)]
    pub strict: bool,
    /// Remember files in FILE: to find out those that went back, and to go on if interrupted
    ///
    /// A file with fewer changes than it had when it was checked before is bad. A check that was interrupted
    /// goes on: a file found whole by it is passed over if size, times and inode are what they were.
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    #[command(flatten)]
    pub wait: Wait,
    #[command(flatten)]
    pub jobs: Jobs,
}

#[derive(Debug, Args)]
pub struct Wait {
    /// How long to wait for a file that is being changed
    #[arg(long = "wait", value_name = "SECONDS", default_value_t = 10)]
    seconds: u32,
}

impl Wait {
    pub fn get(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }
}

#[derive(Debug, Args)]
pub struct Jobs {
    /// Files to work on at once [default: one for each processor, from 4 to 16]
    #[arg(long = "jobs", short = 'j', value_name = "N")]
    jobs: Option<NonZero<usize>>,
}

impl Jobs {
    pub fn get(&self) -> NonZero<usize> {
        self.jobs.unwrap_or_else(default_threads)
    }
}

#[derive(Debug, Args)]
pub struct KeyOptions {
    /// A key file, or a ring of them; several may be given. The first key seals, all open
    #[arg(long = "key", short = 'k', value_name = "K", required = true)]
    pub key_files: Vec<PathBuf>,
    /// Read the passphrase of wrapped keys from the first line of descriptor N
    #[arg(long, value_name = "N")]
    pub passphrase_fd: Option<u32>,
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
                CipherName::Xaes256Gcm => Cipher::Xaes256Gcm,
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
    #[value(name = Cipher::Xaes256Gcm.name())]
    Xaes256Gcm,
}

/// Reads the notation that Argon2 hashes have their parameters in.
fn cost(text: &str) -> Result<Cost, String> {
    let parameter = |text: &str, name: &str| -> Option<u32> {
        text.strip_prefix(name)?.strip_prefix('=')?.parse().ok()
    };
    let mut parts = text.split(',');
    let mut next = |name| parts.next().and_then(|part| parameter(part, name));
    let (Some(memory), Some(passes), Some(lanes), None) =
        (next("m"), next("t"), next("p"), parts.next())
    else {
        return Err(format!("not of the form m={},t=3,p=1", 64 << 10));
    };
    Cost::new(memory, passes, lanes).map_err(|error| error.to_string())
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

    #[test]
    fn the_cost_is_read() {
        assert_eq!(cost("m=8192,t=4,p=1").ok(), Cost::new(8192, 4, 1).ok());
        for wrong in [
            "",
            "8,2,1",
            "m=8192",
            "m=8192,t=4",
            "t=4,m=8192,p=1",
            "m=8192,t=4,p=1,",
            "m=8192,t=4,p=-1",
            "m=8191,t=5,p=1",
            "m=8192,t=3,p=1",
        ] {
            assert!(cost(wrong).is_err(), "{wrong}");
        }
    }
}
