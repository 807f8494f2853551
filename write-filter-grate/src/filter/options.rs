//! The command line.

use super::redaction::Redaction;
use clap::Parser;
use clap::builder::TypedValueParser;
use redact::{Action, Builtin, DEFAULT_MAX_HOLD, Pattern, RuleSet};
use std::time::Duration;

/// Keep secrets out of what a program writes, and let it write to some files only.
///
/// With --redact or --secret-file, secrets are masked in everything that the program writes or
/// sends, however they are split over writes. Writing to a regular file whose name does not end
/// in a permitted extension fails with EPERM; opening and reading it do not. Options of the grate
/// come first, then the program with its own:
///
///   lind-wasm write-filter-grate.cwasm --redact all prog.cwasm ARGS...
///   lind-wasm write-filter-grate.cwasm --allow-ext log --allow-ext txt prog.cwasm ARGS...
#[derive(Parser, Debug)]
#[command(name = "write-filter-grate", version)]
pub struct Options {
    /// Permit files whose name ends in .EXT (repeatable); with or without the dot, case matters.
    /// Without it all names are permitted where secrets are redacted, else .log alone
    #[arg(long, value_name = "EXT", value_parser = extension)]
    pub allow_ext: Vec<String>,

    /// Mask secrets of this kind (repeatable): all, or one of the kinds that an unknown name lists
    #[arg(long, value_name = "KIND", value_parser = kinds)]
    pub redact: Vec<Kinds>,

    /// Mask the secrets in FILE, one on each line (repeatable)
    #[arg(long, value_name = "FILE")]
    pub secret_file: Vec<String>,

    /// Milliseconds after which bytes that may begin a secret go out, masked
    #[arg(long, value_name = "MS", default_value_t = 200)]
    pub hold_ms: u64,

    /// Bytes of a stream that may be held; beyond, they go out masked
    #[arg(long, value_name = "BYTES", default_value_t = DEFAULT_MAX_HOLD,
        value_parser = clap::value_parser!(u32).range(64..=1 << 24).map(|bytes| bytes as usize))]
    pub max_hold: usize,

    /// Say on standard error what was refused, and in the end what was found
    #[arg(long)]
    pub verbose: bool,

    /// The program, then its arguments
    #[arg(value_name = "PROGRAM", required = true, trailing_var_arg = true)]
    pub program: Vec<String>,
}

/// An extension with its dot.
fn extension(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix('.').unwrap_or(text);
    if bare.is_empty() || bare.contains('/') {
        return Err("must be the end of a file name, such as log".to_owned());
    }
    Ok(format!(".{bare}"))
}

/// Built-in kinds of secrets that one option names.
#[derive(Clone, Debug)]
pub struct Kinds(&'static [Builtin], Option<Builtin>);

impl Kinds {
    fn all(&self) -> impl Iterator<Item = Builtin> + '_ {
        self.0.iter().copied().chain(self.1)
    }
}

fn kinds(text: &str) -> Result<Kinds, String> {
    if text == "all" {
        return Ok(Kinds(Builtin::ALL, None));
    }
    text.parse().map(|one| Kinds(&[], Some(one))).map_err(|_| {
        let names: Vec<_> = Builtin::ALL.iter().map(|kind| kind.name()).collect();
        format!("use all, {}", names.join(", "))
    })
}

impl Options {
    /// What the names of files that may be written end in.
    pub fn extensions(&self) -> Extensions {
        let redacts = !self.redact.is_empty() || !self.secret_file.is_empty();
        Extensions(match &self.allow_ext[..] {
            [] if redacts => vec![String::new()],
            [] => vec![".log".to_owned()],
            named => named.to_vec(),
        })
    }

    /// What is redacted, if anything is.
    ///
    /// # Errors
    /// A line that names the file and says what to do.
    pub fn redaction(&self) -> Result<Option<Redaction>, String> {
        let mut rules = RuleSet::builder();
        rules.max_hold(self.max_hold);
        let mut kinds: Vec<_> = self.redact.iter().flat_map(Kinds::all).collect();
        kinds.sort_unstable_by_key(|kind| kind.name());
        kinds.dedup();
        for kind in &kinds {
            rules
                .rule(kind.name(), &Pattern::Builtin(*kind), Action::Mask)
                .map_err(|error| format!("{kind}: {error}"))?;
        }
        for file in &self.secret_file {
            let bytes = std::fs::read(file).map_err(|error| {
                format!("{file}: cannot be read: {error}; name a file with one secret on each line")
            })?;
            let lines = bytes.split(|&byte| byte == b'\n');
            let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
            let literals: Vec<_> = lines
                .filter(|line| !line.is_empty())
                .map(<[u8]>::to_vec)
                .collect();
            if literals.is_empty() {
                return Err(format!("{file}: holds no secret; write one on each line"));
            }
            rules
                .rule(file, &Pattern::Literals(literals), Action::Mask)
                .map_err(|error| format!("{file}: {error}"))?;
        }
        if kinds.is_empty() && self.secret_file.is_empty() {
            return Ok(None);
        }
        let hold = Duration::from_millis(self.hold_ms);
        Ok(Some(Redaction::new(rules.build().filter(), hold)))
    }
}

/// The ends of the names that may be written.
#[derive(Debug)]
pub struct Extensions(Vec<String>);

impl Extensions {
    /// Whether the last part of a path has one of them.
    pub fn permit(&self, path: &[u8]) -> bool {
        let name = super::names::last_part(path);
        self.0.iter().any(|end| name.ends_with(end.as_bytes()))
    }
}

/// Reads the command line; ends the run with 64 where it is wrong.
pub fn parse() -> Options {
    const USAGE: i32 = 64;
    Options::try_parse().unwrap_or_else(|error| {
        let _ = error.print();
        std::process::exit(if error.use_stderr() { USAGE } else { 0 })
    })
}
