//! Under what licences the crates are that go into what is given away, and their texts.

use crate::metadata;
use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use spdx::{Expression, LicenseReq, ParseMode};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Which crates are counted: the packages that they are dependencies of, and what these are compiled for.
#[derive(Debug)]
pub struct Roots<'a> {
    /// Names of packages.
    pub packages: Vec<&'a str>,
    /// A target that rustc knows.
    pub target: &'a str,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Clone, Debug, Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    repository: Option<String>,
    source: Option<String>,
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    /// `None` for one that is linked in.
    kind: Option<String>,
}

/// `deny.toml`, as far as it is of use here.
#[derive(Deserialize)]
struct Policy {
    licenses: Licenses,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

/// All licences of what is linked into those packages, with their texts.
///
/// # Errors
/// That a crate has none, or none that `deny.toml` allows.
pub fn texts(root: &Path, roots: &[Roots<'_>]) -> anyhow::Result<String> {
    let policy = fs::read_to_string(root.join("deny.toml")).context("cannot read deny.toml")?;
    let policy: Policy = toml::from_str(&policy).context("deny.toml")?;
    let mut crates = BTreeMap::new();
    for roots in roots {
        let known = metadata::read(root, &["--locked", "--filter-platform", roots.target])?;
        for package in linked(&known, &roots.packages)? {
            crates.insert((package.name.clone(), package.version.clone()), package);
        }
    }
    let crates: Vec<Package> = crates.into_values().collect();
    for package in &crates {
        is_allowed(package, &policy.licenses.allow)?;
    }
    render(&crates)
}

/// The crates of others that are linked into packages of those names.
fn linked(metadata: &Metadata, names: &[&str]) -> anyhow::Result<Vec<Package>> {
    let nodes: HashMap<&str, &Node> = metadata
        .resolve
        .nodes
        .iter()
        .map(|node| (node.id.as_str(), node))
        .collect();
    let mut waiting: Vec<&str> = Vec::new();
    for name in names {
        let own = |package: &&Package| package.source.is_none() && package.name == *name;
        let package = metadata.packages.iter().find(own);
        waiting.push(
            &package
                .with_context(|| format!("there is no package {name}"))?
                .id,
        );
    }
    let mut reached: BTreeSet<&str> = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if !reached.insert(id) {
            continue;
        }
        let node = nodes
            .get(id)
            .with_context(|| format!("cargo does not resolve {id}"))?;
        let is_linked =
            |dependency: &&Dependency| dependency.dep_kinds.iter().any(|kind| kind.kind.is_none());
        waiting.extend(
            node.deps
                .iter()
                .filter(is_linked)
                .map(|dependency| dependency.pkg.as_str()),
        );
    }
    let of_others =
        |package: &&Package| package.source.is_some() && reached.contains(package.id.as_str());
    Ok(metadata
        .packages
        .iter()
        .filter(of_others)
        .cloned()
        .collect())
}

fn is_allowed(package: &Package, allowed: &[String]) -> anyhow::Result<()> {
    let Package { name, version, .. } = package;
    let Some(licence) = &package.license else {
        bail!("{name} {version} names no licence");
    };
    let expression = Expression::parse_mode(licence, ParseMode::LAX)
        .with_context(|| format!("the licence of {name} {version}, {licence:?}"))?;
    let is_known = |needed: &LicenseReq| allowed.iter().any(|known| *known == needed.to_string());
    ensure!(
        expression.evaluate(is_known),
        "{name} {version} is under {licence:?}, which deny.toml does not allow"
    );
    Ok(())
}

/// A table of the crates, and each text once, with those that it is of.
fn render(crates: &[Package]) -> anyhow::Result<String> {
    let mut out = String::from(
        "What is in here of others, each under its own licence. Grates in Rust have its standard library in\n\
         them beside, which is under MIT or Apache-2.0 (https://www.rust-lang.org); grates in C have wasi-libc,\n\
         which is under Apache-2.0 with the LLVM exception, Apache-2.0 or MIT, with parts of musl under MIT and\n\
         dlmalloc in the public domain (https://github.com/WebAssembly/wasi-libc).\n\n",
    );
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in crates {
        let name = format!("{} {}", package.name, package.version);
        writeln!(
            out,
            "{name}: {}{}{}",
            package.license.as_deref().unwrap_or_default(),
            if package.repository.is_some() {
                ", "
            } else {
                ""
            },
            package.repository.as_deref().unwrap_or_default()
        )?;
        let folder = package.manifest_path.parent().unwrap_or(Path::new("/"));
        for text in texts_in(folder).with_context(|| format!("the licence of {name}"))? {
            texts.entry(text).or_default().push(name.clone());
        }
    }
    for (text, names) in texts {
        writeln!(
            out,
            "\n{}\n{}\n\n{}",
            "-".repeat(79),
            names.join(", "),
            text.trim_end()
        )?;
    }
    Ok(out)
}

/// What a crate says of its licences in files beside its manifest.
fn texts_in(folder: &Path) -> anyhow::Result<Vec<String>> {
    const NAMES: [&str; 5] = ["licen", "copying", "copyright", "notice", "unlicense"];
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_lowercase();
        if entry.file_type()?.is_file() && NAMES.iter().any(|start| name.starts_with(start)) {
            files.push(entry.path());
        }
    }
    files.sort();
    let text = |file: PathBuf| Ok(String::from_utf8_lossy(&fs::read(file)?).into_owned());
    files.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, licence: Option<&str>) -> Package {
        Package {
            id: name.to_owned(),
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            license: licence.map(str::to_owned),
            repository: None,
            source: Some("registry".to_owned()),
            manifest_path: PathBuf::from("/nowhere/Cargo.toml"),
        }
    }

    #[test]
    fn a_licence_is_allowed_or_named() {
        let allowed = ["MIT", "Apache-2.0 WITH LLVM-exception", "ISC"].map(str::to_owned);
        for (licence, is_fine) in [
            ("MIT", true),
            ("MIT OR GPL-3.0-only", true),
            ("MIT/Apache-2.0", true),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("Apache-2.0", false),
            ("MIT AND ISC", true),
            ("MIT AND GPL-3.0-only", false),
            ("GPL-3.0-only", false),
        ] {
            let judged = is_allowed(&package("crate", Some(licence)), &allowed);
            assert_eq!(judged.is_ok(), is_fine, "{licence}: {judged:?}");
            if let Err(error) = judged {
                assert!(error.to_string().contains("crate 1.0.0"), "{error}");
            }
        }
        let error = is_allowed(&package("crate", None), &allowed).unwrap_err();
        assert!(error.to_string().contains("no licence"), "{error}");
    }

    #[test]
    fn what_is_linked_is_followed_and_nothing_else() {
        let metadata: Metadata = serde_json::from_str(
            r#"{ "packages": [
                { "id": "own", "name": "own", "version": "1", "license": null, "repository": null,
                  "source": null, "manifest_path": "/own/Cargo.toml" },
                { "id": "a", "name": "a", "version": "1", "license": "MIT", "repository": null,
                  "source": "registry", "manifest_path": "/a/Cargo.toml" },
                { "id": "b", "name": "b", "version": "1", "license": "MIT", "repository": null,
                  "source": "registry", "manifest_path": "/b/Cargo.toml" },
                { "id": "t", "name": "t", "version": "1", "license": "MIT", "repository": null,
                  "source": "registry", "manifest_path": "/t/Cargo.toml" } ],
              "resolve": { "nodes": [
                { "id": "own", "deps": [ { "pkg": "a", "dep_kinds": [ { "kind": null } ] },
                                         { "pkg": "t", "dep_kinds": [ { "kind": "dev" } ] } ] },
                { "id": "a", "deps": [ { "pkg": "b", "dep_kinds": [ { "kind": "build" },
                                                                    { "kind": null } ] } ] },
                { "id": "b", "deps": [] },
                { "id": "t", "deps": [] } ] } }"#,
        )
        .unwrap();
        let names: Vec<String> = linked(&metadata, &["own"])
            .unwrap()
            .into_iter()
            .map(|package| package.name)
            .collect();
        assert_eq!(names, ["a", "b"]);
        assert!(linked(&metadata, &["other"]).is_err());
    }
}
