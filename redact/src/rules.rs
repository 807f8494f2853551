//! From options to rules.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use redact::{Action, Builder, Builtin, HashKey, Pattern, RuleSet};
use zeroize::Zeroizing;

use crate::options::Rules;

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let bytes = fs::read(path);
    let bytes = bytes.with_context(|| format!("{}: cannot be read", path.display()))?;
    Ok(Zeroizing::new(bytes))
}

/// A builder with the rules of files.
pub fn from_files(options: &Rules, files: &[impl AsRef<Path>]) -> Result<Builder> {
    let mut rules = RuleSet::builder();
    rules.max_hold(options.max_hold);
    if let Some(path) = &options.hash_key {
        let mode = fs::metadata(path).map(|data| data.permissions().mode());
        let mode = mode.with_context(|| format!("{}: cannot be read", path.display()))?;
        ensure!(
            mode & 0o077 == 0,
            "{}: others can read this key: chmod 600 it",
            path.display()
        );
        let key = HashKey::new(read(path)?);
        rules.hash_key(key.with_context(|| path.display().to_string())?);
    }
    for path in files {
        let path = path.as_ref();
        let mut literals = |name: &str| {
            let beside = path.with_file_name(name);
            fs::read(&beside).map_err(|error| {
                format!(
                    "{}: cannot be read: {error}; name a file that can",
                    beside.display()
                )
            })
        };
        if let Err(error) = rules.rule_file(&read(path)?, &mut literals) {
            bail!("{}:{error}", path.display());
        }
    }
    Ok(rules)
}

/// The rules that the options ask for.
pub fn all(options: &Rules) -> Result<RuleSet> {
    let mut rules = from_files(options, &options.rules)?;
    // What is listed goes before what is guessed.
    for path in &options.secret_file {
        let name = path.display().to_string();
        rules
            .secret_list(&name, &read(path)?)
            .context(name.clone())?;
    }
    for path in &options.secret_dotenv {
        let name = path.display().to_string();
        rules
            .secret_dotenv(&name, &read(path)?)
            .context(name.clone())?;
    }
    if !options.secret_env.is_empty() {
        let variables = redact::environment();
        rules
            .secret_env("environment", &options.secret_env, &variables)
            .context("--secret-env")?;
    }
    let asked: Vec<&str> = match &options.redact[..] {
        [] if options.rules.is_empty() => vec!["tokens", "keys"],
        named => named.iter().map(String::as_str).collect(),
    };
    let mut kinds = BTreeSet::new();
    for name in asked.into_iter().filter(|name| *name != "none") {
        kinds.extend(Builtin::named(name)?.into_iter().map(Builtin::name));
    }
    for name in kinds {
        let pattern = Pattern::Builtin(name.parse()?);
        rules
            .rule(name, &pattern, Action::Mask)
            .with_context(|| name.to_owned())?;
    }
    Ok(rules.build())
}
