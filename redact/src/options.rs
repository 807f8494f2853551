//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::TypedValueParser;
use clap::{Args, Parser, Subcommand};

/// Mask secrets in a stream, in files, or in what a command prints.
///
/// Without a file or command, standard input goes to standard output. A command runs as it would
/// by itself: with its exit status, and on a terminal if redact has one. Files are printed,
/// redacted; `check`, `explain` and `list` are written ./check and so on if they are files.
///
///   redact < build.log > clean.log
///   redact --secret-dotenv .env -- make test
///   redact explain build.log
#[derive(Parser, Debug)]
#[command(name = "redact", version, args_conflicts_with_subcommands = false)]
pub struct Options {
    #[command(flatten)]
    pub rules: Rules,

    /// Add a line of JSON to FILE for each match, without the secret
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Milliseconds after which bytes that may begin a secret go out, masked
    #[arg(long, value_name = "MS", default_value_t = 200)]
    pub hold_ms: u64,

    /// Say in the end, on standard error, how many secrets were found
    #[arg(long)]
    pub verbose: bool,

    #[command(subcommand)]
    pub command: Option<Command>,

    /// Files to print
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// A command and its arguments
    #[arg(value_name = "COMMAND", last = true)]
    pub program: Vec<OsString>,
}

/// What is looked for.
#[derive(Args, Debug)]
pub struct Rules {
    /// Redact by the rules in FILE, which is TOML (repeatable)
    #[arg(long, value_name = "FILE", global = true)]
    pub rules: Vec<PathBuf>,

    /// Mask secrets of this kind (repeatable): a family or group that `redact list` names, `all`,
    /// or `none`. Without it and --rules: tokens and keys
    #[arg(long, value_name = "KIND", global = true)]
    pub redact: Vec<String>,

    /// Mask the secrets in FILE, one on each line (repeatable)
    #[arg(long, value_name = "FILE", global = true)]
    pub secret_file: Vec<PathBuf>,

    /// Mask the values of these variables of the environment, which may be globs (repeatable)
    #[arg(long, value_name = "NAME", global = true)]
    pub secret_env: Vec<String>,

    /// Mask what is secret in a file of variables, such as .env (repeatable)
    #[arg(long, value_name = "FILE", global = true)]
    pub secret_dotenv: Vec<PathBuf>,

    /// The key of pseudonyms, for rules that hash: a file that its owner alone can read
    #[arg(long, value_name = "FILE", global = true)]
    pub hash_key: Option<PathBuf>,

    /// Bytes of a stream that may be held; beyond, they go out masked
    #[arg(long, value_name = "BYTES", global = true, default_value_t = redact::DEFAULT_MAX_HOLD,
        value_parser = clap::value_parser!(u32).range(64..=1 << 24).map(|bytes| bytes as usize))]
    pub max_hold: usize,
}

/// What is done instead of redacting.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Say whether files of rules are right
    Check {
        /// Files of rules
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Say what would be masked, where and why, without the secrets
    Explain {
        /// Files; standard input if there are none
        files: Vec<PathBuf>,
    },
    /// Say what is known to be secret
    List {
        /// Families or groups; all of them if there are none
        names: Vec<String>,
    },
}
