//! Which packages are guests: each says so itself in its `Cargo.toml`.
//!
//! ```toml
//! [package.metadata.lind]
//! kind = "grate"    # or "program"
//! ```

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use std::path::Path;
use std::process::Command;

/// What a guest is, hence where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Serves calls of other cages; goes to `lindfs/grates`.
    Grate,
    /// Any other program; goes to `lindfs/bin`.
    Program,
}

impl Kind {
    /// As it stands in `Cargo.toml`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grate => "grate",
            Self::Program => "program",
        }
    }

    /// Where in the root file system the program goes.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Grate => "grates",
            Self::Program => "bin",
        }
    }
}

/// A guest package.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Its name.
    pub package: String,
    /// What its programs are.
    pub kind: Kind,
    /// The names of its programs.
    pub programs: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    targets: Vec<Target>,
    metadata: Option<Custom>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Custom {
    lind: Option<Lind>,
}

#[derive(Deserialize)]
struct Lind {
    kind: Kind,
}

/// The guests of those names; all if none is given.
pub fn select(root: &Path, names: &[String]) -> anyhow::Result<Vec<Guest>> {
    let all = all(root)?;
    if names.is_empty() {
        return Ok(all);
    }
    if let Some(unknown) = names
        .iter()
        .find(|name| !all.iter().any(|guest| guest.package == **name))
    {
        let known: Vec<&str> = all.iter().map(|guest| guest.package.as_str()).collect();
        bail!(
            "there is no guest {unknown:?}; the guests are {}",
            known.join(", ")
        );
    }
    Ok(all
        .into_iter()
        .filter(|guest| names.contains(&guest.package))
        .collect())
}

fn all(root: &Path) -> anyhow::Result<Vec<Guest>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(root)
        .args(["metadata", "--no-deps", "--format-version=1"])
        .output()
        .context("cannot start cargo")?;
    ensure!(
        output.status.success(),
        "cargo metadata failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    Ok(guests_of(metadata))
}

fn guests_of(metadata: Metadata) -> Vec<Guest> {
    metadata
        .packages
        .into_iter()
        .filter_map(|package| {
            let kind = package.metadata?.lind?.kind;
            let is_program = |target: &Target| target.kind.iter().any(|kind| kind == "bin");
            Some(Guest {
                package: package.name,
                kind,
                programs: package
                    .targets
                    .into_iter()
                    .filter(is_program)
                    .map(|target| target.name)
                    .collect(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_a_guest_if_it_says_so() {
        let metadata = serde_json::from_str(
            r#"{"packages": [
                {"name": "host", "targets": [{"name": "host", "kind": ["bin"]}], "metadata": null},
                {"name": "docs", "targets": [], "metadata": {"docs": {}}},
                {"name": "g", "metadata": {"lind": {"kind": "grate"}}, "targets": [
                    {"name": "g_lib", "kind": ["lib"]}, {"name": "g", "kind": ["bin"]},
                    {"name": "model", "kind": ["test"]}]},
                {"name": "cages", "metadata": {"lind": {"kind": "program"}}, "targets": [
                    {"name": "a", "kind": ["bin"]}, {"name": "b", "kind": ["bin"]}]}]}"#,
        )
        .unwrap();
        let guests = guests_of(metadata);
        assert_eq!(guests.len(), 2);
        assert_eq!(
            (guests[0].kind, &guests[0].programs[..]),
            (Kind::Grate, &["g".to_owned()][..])
        );
        assert_eq!(guests[1].programs, ["a", "b"]);
    }
}
