//! The command line.

use super::redaction::Redaction;
use super::report::Report;
use clap::Parser;
use clap::builder::TypedValueParser;
use globset::GlobMatcher;
use grate_rs::kernel::Inode;
use grate_rs::places::own_trail;
use grate_rs::{CageFd, getcageid};
use redact::{Action, Builtin, DEFAULT_MAX_HOLD, HashKey, Pattern, RuleSet};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::time::Duration;
use zeroize::Zeroizing;

/// Keep secrets out of what a program writes, and let it write to some files only.
///
/// With --rules, --redact or --secret-file, secrets are replaced in what the program writes or
/// sends, however they are split over writes. Writing to a regular file whose name does not end
/// in a permitted extension fails with EPERM; opening and reading it do not. Options of the grate
/// come first, then the program with its own:
///
///   lind-wasm write-filter-grate.cwasm --redact all prog.cwasm ARGS...
///   lind-wasm write-filter-grate.cwasm --rules /rules.toml --report /report.jsonl prog.cwasm
///   lind-wasm write-filter-grate.cwasm --allow-ext log --allow-ext txt prog.cwasm ARGS...
#[derive(Parser, Debug)]
#[command(name = "write-filter-grate", version)]
pub struct Options {
    /// Permit files whose name ends in .EXT (repeatable); with or without the dot, case matters.
    /// Without it all names are permitted where there are rules or --deny-write, else .log alone
    #[arg(long, value_name = "EXT", value_parser = extension)]
    pub allow_ext: Vec<String>,

    /// Refuse to write, make, truncate, rename, link or remove files at paths that match (repeatable)
    #[arg(long, value_name = "GLOB", value_parser = glob)]
    pub deny_write: Vec<GlobMatcher>,

    /// Redact by the rules in FILE, which is TOML (repeatable)
    #[arg(long, value_name = "FILE")]
    pub rules: Vec<String>,

    /// The key of pseudonyms, for rules that hash: a file that its owner alone can read
    #[arg(long, value_name = "FILE")]
    pub hash_key: Option<String>,

    /// Add a line of JSON to FILE for each match
    #[arg(long, value_name = "FILE")]
    pub report: Option<String>,

    /// Mask secrets of this kind (repeatable): a family, or tokens, keys, personal, entropy, or all, which
    /// is the first three
    #[arg(long, value_name = "KIND", value_parser = kinds)]
    pub redact: Vec<Kinds>,

    /// Mask the secrets in FILE, one on each line, or between <<WORD and WORD (repeatable)
    #[arg(long, value_name = "FILE")]
    pub secret_file: Vec<String>,

    /// Mask the values of these variables of the environment, which may be globs (repeatable)
    #[arg(long, value_name = "NAME")]
    pub secret_env: Vec<String>,

    /// Mask what is secret in a file of variables, such as .env (repeatable)
    #[arg(long, value_name = "FILE")]
    pub secret_dotenv: Vec<String>,

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

fn glob(text: &str) -> Result<GlobMatcher, String> {
    redact::path_glob(text).map_err(|error| error.to_string())
}

/// Families of secrets that one option names.
#[derive(Clone, Debug)]
pub struct Kinds(Vec<Builtin>);

fn kinds(text: &str) -> Result<Kinds, String> {
    Builtin::named(text)
        .map(Kinds)
        .map_err(|error| error.to_string())
}

impl Options {
    /// What the names of files that may be written end in.
    pub fn extensions(&self) -> Extensions {
        Extensions(match &self.allow_ext[..] {
            [] if self.has_rules() || !self.deny_write.is_empty() => vec![String::new()],
            [] => vec![".log".to_owned()],
            named => named.to_vec(),
        })
    }

    /// The directories that the paths of --deny-write lead through, as far as they are spelled out.
    pub fn denied_below(&self) -> Vec<Vec<u8>> {
        let spelled = |glob: &GlobMatcher| {
            let mut path = String::new();
            let mut parts = glob
                .glob()
                .glob()
                .split('/')
                .filter(|part| !part.is_empty());
            let mut next = parts.next();
            // The last part is the file's own.
            while let (Some(part), Some(after)) = (next, parts.next()) {
                if part.contains(['*', '?', '[', ']', '{', '}', '\\']) {
                    break;
                }
                path = format!("{path}/{part}");
                next = Some(after);
            }
            path.into_bytes()
        };
        let all = self.deny_write.iter().map(spelled);
        all.filter(|path| !path.is_empty()).collect()
    }

    fn has_rules(&self) -> bool {
        let lists = [
            &self.rules,
            &self.secret_file,
            &self.secret_env,
            &self.secret_dotenv,
        ];
        !self.redact.is_empty() || lists.iter().any(|list| !list.is_empty())
    }

    /// What is redacted, if anything is; and what the program is to be kept from.
    ///
    /// # Errors
    /// A line that names the file and says what to do.
    pub fn redaction(&self) -> Result<(Option<Redaction>, OwnFiles), String> {
        let mut closed = OwnFiles::default();
        if !self.has_rules() {
            return match self.report {
                None => Ok((None, closed)),
                Some(_) => Err("nothing to report; name rules with --rules or --redact".to_owned()),
            };
        }
        let mut rules = RuleSet::builder();
        rules.max_hold(self.max_hold);
        if let Some(path) = &self.hash_key {
            let key = read(path, Privacy::Owner, &mut closed)?;
            let key = HashKey::new(key).map_err(|error| format!("{path}: {error}"))?;
            rules.hash_key(key);
        }
        for path in &self.rules {
            let text = read(path, Privacy::Any, &mut closed)?;
            let folder = path.rfind('/').map_or("", |end| &path[..=end]);
            let mut literals = |name: &str| {
                let path = match name.starts_with('/') {
                    true => name.to_owned(),
                    false => format!("{folder}{name}"),
                };
                read(&path, Privacy::Any, &mut closed).map(|mut bytes| std::mem::take(&mut *bytes))
            };
            rules
                .rule_file(&text, &mut literals)
                .map_err(|error| format!("{path}:{error}"))?;
        }
        // What is listed goes before what is guessed.
        for path in &self.secret_file {
            let list = read(path, Privacy::Any, &mut closed)?;
            rules
                .secret_list(path, &list)
                .map_err(|error| format!("{path}: {error}"))?;
        }
        for path in &self.secret_dotenv {
            // It stays the program's: that is who reads it.
            let list = read(path, Privacy::Any, &mut OwnFiles::default())?;
            rules
                .secret_dotenv(path, &list)
                .map_err(|error| format!("{path}: {error}"))?;
        }
        if !self.secret_env.is_empty() {
            let variables = redact::environment();
            rules
                .secret_env("environment", &self.secret_env, &variables)
                .map_err(|error| format!("--secret-env {error}"))?;
        }
        let mut kinds: Vec<_> = self
            .redact
            .iter()
            .flat_map(|kinds| &kinds.0)
            .copied()
            .collect();
        kinds.sort_unstable_by_key(|kind| kind.name());
        kinds.dedup();
        for kind in &kinds {
            rules
                .rule(kind.name(), &Pattern::Builtin(*kind), Action::Mask)
                .map_err(|error| format!("{kind}: {error}"))?;
        }
        let report = match &self.report {
            Some(path) => {
                let (report, inode) = Report::open(path)?;
                closed.add(path, inode)?;
                Some(report)
            }
            None => None,
        };
        let hold = Duration::from_millis(self.hold_ms);
        Ok((Some(Redaction::new(rules.build(), hold, report)), closed))
    }
}

/// Files of the grate's own.
#[derive(Debug, Default)]
pub struct OwnFiles {
    /// The files themselves.
    pub inodes: Vec<Inode>,
    /// All that their names lead through: directories and symlinks.
    pub trail: Vec<Inode>,
}

impl OwnFiles {
    fn add(&mut self, path: &str, inode: Inode) -> Result<(), String> {
        self.inodes.push(inode);
        let trail = own_trail(path).map_err(|errno| format!("{path}: error {}", errno.0))?;
        self.trail.extend(trail);
        Ok(())
    }
}

/// Who else may read a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Privacy {
    Any,
    Owner,
}

/// Reads a file of the grate's own, which the program is kept from.
fn read(path: &str, privacy: Privacy, closed: &mut OwnFiles) -> Result<Zeroizing<Vec<u8>>, String> {
    let failed = |error: &dyn std::fmt::Display| {
        format!("{path}: cannot be read: {error}; name a file inside the root that can be")
    };
    let mut file = File::open(path).map_err(|error| failed(&error))?;
    let fd = CageFd {
        cage: getcageid(),
        fd: file.as_raw_fd(),
    };
    let stat = fd.stat().map_err(|errno| failed(&errno.0))?;
    if privacy == Privacy::Owner && stat.mode & 0o077 != 0 {
        return Err(format!(
            "{path}: others can read this key: chmod 600 it on the host"
        ));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(stat.size as usize));
    file.read_to_end(&mut bytes)
        .map_err(|error| failed(&error))?;
    closed.add(path, stat.inode())?;
    Ok(bytes)
}

/// The ends of the names that may be written.
#[derive(Debug)]
pub struct Extensions(Vec<String>);

impl Extensions {
    /// Whether a name has one of them.
    pub fn permit(&self, name: &[u8]) -> bool {
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
