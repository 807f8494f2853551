//! Which folders are guests: each says so itself.
//!
//! A guest in Rust is a package of the workspace with, in its `Cargo.toml`,
//!
//! ```toml
//! [package]
//! description = "What it does"
//!
//! [package.metadata.lind]
//! kind = "grate"    # or "program"
//! ```
//!
//! One in C is a folder with a `lind.toml`:
//!
//! ```toml
//! kind = "grate"    # or "program"
//! description = "What it does"
//! ```
//!
//! Its sources are the `.c` files in `src`. In either, what stands in `test` are programs to run
//! under it: a `.c` file each, or a `[[bin]]` of the package.

use crate::metadata;
use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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
    /// As it stands in the manifest.
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

/// What a guest is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// C, compiled by clang.
    C,
    /// Rust, compiled by cargo.
    Rust,
}

impl Language {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::C => "C",
            Self::Rust => "Rust",
        }
    }
}

/// A folder of guest programs.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Its name.
    pub package: String,
    /// What its programs are, but for those that test it.
    pub kind: Kind,
    /// What it is written in.
    pub language: Language,
    /// Where it is.
    pub folder: PathBuf,
    /// One line on what it does.
    pub about: String,
    /// Its programs.
    pub programs: Vec<Program>,
}

/// A program of a guest.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its name, without an ending.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// What it is made from.
    pub from: Source,
}

/// What a program is made from.
#[derive(Clone, Debug)]
pub enum Source {
    /// The package's binary of that name.
    Cargo,
    /// These files.
    C(Vec<PathBuf>),
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    description: Option<String>,
    manifest_path: PathBuf,
    targets: Vec<Target>,
    metadata: Option<Custom>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
    src_path: PathBuf,
}

#[derive(Deserialize)]
struct Custom {
    lind: Option<Lind>,
}

#[derive(Deserialize)]
struct Lind {
    kind: Kind,
}

/// A `lind.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    kind: Kind,
    #[serde(default)]
    description: String,
}

/// Name of the manifest of a guest in C.
pub const MANIFEST: &str = "lind.toml";

/// Folder of the programs that test a guest.
const TESTS: &str = "test";

/// The guests of those names and that language; all if none is given.
pub fn select(
    root: &Path,
    names: &[String],
    language: Option<Language>,
) -> anyhow::Result<Vec<Guest>> {
    let mut all = all(root)?;
    all.retain(|guest| language.is_none_or(|language| guest.language == language));
    if names.is_empty() {
        return Ok(all);
    }
    if let Some(unknown) = names
        .iter()
        .find(|name| !all.iter().any(|guest| guest.package == **name))
    {
        let known: Vec<&str> = all.iter().map(|guest| guest.package.as_str()).collect();
        let what = language.map_or(String::new(), |language| format!(" in {}", language.name()));
        bail!(
            "there is no grate or program {unknown:?}{what}; there are {} (see make list)",
            known.join(", ")
        );
    }
    all.retain(|guest| names.contains(&guest.package));
    Ok(all)
}

fn all(root: &Path) -> anyhow::Result<Vec<Guest>> {
    let mut guests = in_rust(metadata::read(root, &["--no-deps"])?)?;
    guests.extend(in_c(root)?);
    guests.sort_by(|a, b| a.package.cmp(&b.package));
    unambiguous(&guests)?;
    Ok(guests)
}

/// Two programs of one name would be one file.
fn unambiguous(guests: &[Guest]) -> anyhow::Result<()> {
    let mut seen = BTreeMap::new();
    for guest in guests {
        for program in &guest.programs {
            let place = (program.kind.folder(), program.name.as_str());
            if let Some(other) = seen.insert(place, guest) {
                bail!(
                    "{} and {} both make a {} {}: rename one of them",
                    other.folder.display(),
                    guest.folder.display(),
                    program.kind.name(),
                    program.name
                );
            }
        }
    }
    Ok(())
}

fn in_rust(metadata: Metadata) -> anyhow::Result<Vec<Guest>> {
    let mut guests = Vec::new();
    for package in metadata.packages {
        let Some(Lind { kind }) = package.metadata.and_then(|custom| custom.lind) else {
            continue;
        };
        let folder = package.manifest_path.parent().unwrap_or(Path::new(""));
        let tests = folder.join(TESTS);
        let mut programs: Vec<Program> = package
            .targets
            .into_iter()
            .filter(|target| target.kind.iter().any(|kind| kind == "bin"))
            .map(|target| Program {
                kind: if target.src_path.starts_with(&tests) {
                    Kind::Program
                } else {
                    kind
                },
                name: target.name,
                from: Source::Cargo,
            })
            .collect();
        programs.extend(tests_in_c(folder)?);
        guests.push(Guest {
            package: package.name,
            kind,
            language: Language::Rust,
            folder: folder.to_owned(),
            about: package.description.unwrap_or_default(),
            programs,
        });
    }
    Ok(guests)
}

fn in_c(root: &Path) -> anyhow::Result<Vec<Guest>> {
    // Below the folders that guests are kept in: `examples/geteuid-c-grate/lind.toml`.
    const DEEPEST: usize = 3;
    let mut guests = Vec::new();
    let mut folders = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        if folder.join(MANIFEST).is_file() {
            guests.push(guest_in_c(&folder)?);
            continue;
        }
        if depth == DEEPEST {
            continue;
        }
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let hidden = name.as_encoded_bytes().starts_with(b".");
            // A link could lead round in a circle; file_type does not follow it.
            if entry.file_type()?.is_dir() && !hidden && name != "target" && name != "lindfs" {
                folders.push((entry.path(), depth + 1));
            }
        }
    }
    Ok(guests)
}

fn guest_in_c(folder: &Path) -> anyhow::Result<Guest> {
    let file = folder.join(MANIFEST);
    let shown = file.display();
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {shown}"))?;
    let manifest: Manifest = toml::from_str(&text).with_context(|| format!("in {shown}"))?;
    let package = folder
        .file_name()
        .and_then(|name| name.to_str())
        .with_context(|| format!("{}: its name is not UTF-8", folder.display()))?
        .to_owned();
    let sources = c_files(&folder.join("src"))?;
    let mut programs = tests_in_c(folder)?;
    if !sources.is_empty() {
        programs.push(Program {
            name: package.clone(),
            kind: manifest.kind,
            from: Source::C(sources),
        });
    }
    ensure!(
        !programs.is_empty(),
        "{}: there is no .c file in its src or test",
        folder.display()
    );
    Ok(Guest {
        package,
        kind: manifest.kind,
        language: Language::C,
        folder: folder.to_owned(),
        about: manifest.description,
        programs,
    })
}

fn tests_in_c(folder: &Path) -> anyhow::Result<Vec<Program>> {
    let program = |file: PathBuf| {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        Program {
            name: stem.into_owned(),
            kind: Kind::Program,
            from: Source::C(vec![file]),
        }
    };
    let files = c_files(&folder.join(TESTS))?;
    Ok(files.into_iter().map(program).collect())
}

/// The C files of a folder, in order; none if it is missing.
fn c_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(Vec::new());
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "c") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_a_guest_if_it_says_so() {
        let metadata = serde_json::from_str(
            r#"{"packages": [
                {"name": "host", "manifest_path": "/h/Cargo.toml", "metadata": null, "targets": [
                    {"name": "host", "kind": ["bin"], "src_path": "/h/src/main.rs"}]},
                {"name": "docs", "manifest_path": "/d/Cargo.toml", "targets": [], "metadata": {"docs": {}}},
                {"name": "g", "manifest_path": "/g/Cargo.toml", "description": "does it",
                  "metadata": {"lind": {"kind": "grate"}}, "targets": [
                    {"name": "g_lib", "kind": ["lib"], "src_path": "/g/src/lib.rs"},
                    {"name": "g", "kind": ["bin"], "src_path": "/g/src/main.rs"},
                    {"name": "try", "kind": ["bin"], "src_path": "/g/test/try.rs"},
                    {"name": "model", "kind": ["test"], "src_path": "/g/tests/model.rs"}]},
                {"name": "cages", "manifest_path": "/c/Cargo.toml",
                  "metadata": {"lind": {"kind": "program"}}, "targets": [
                    {"name": "a", "kind": ["bin"], "src_path": "/c/src/bin/a.rs"},
                    {"name": "b", "kind": ["bin"], "src_path": "/c/src/bin/b.rs"}]}]}"#,
        )
        .unwrap();
        let guests = in_rust(metadata).unwrap();
        let shown: Vec<String> = guests
            .iter()
            .flat_map(|guest| &guest.programs)
            .map(|program| format!("{} {}", program.kind.name(), program.name))
            .collect();
        assert_eq!(shown, ["grate g", "program try", "program a", "program b"]);
        assert_eq!(guests[0].about, "does it");
    }

    #[test]
    fn a_folder_with_a_manifest_is_a_guest_in_c() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let file = root.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        };
        put(
            "a/my grate/lind.toml",
            "kind = \"grate\"\ndescription = \"does it\"",
        );
        put("a/my grate/src/main.c", "");
        put("a/my grate/src/more.c", "");
        put("a/my grate/test/try.c", "");
        put("target/x/lind.toml", "no manifest of ours");
        let guests = in_c(root.path()).unwrap();
        assert_eq!(guests.len(), 1);
        assert_eq!(guests[0].package, "my grate");
        let programs = &guests[0].programs;
        assert_eq!(
            (programs[0].name.as_str(), programs[0].kind),
            ("try", Kind::Program)
        );
        assert_eq!(
            (programs[1].name.as_str(), programs[1].kind),
            ("my grate", Kind::Grate)
        );
        assert!(matches!(&programs[1].from, Source::C(files) if files.len() == 2));

        put("b/lind.toml", "kind = \"program\"");
        let error = in_c(root.path()).unwrap_err().to_string();
        assert!(error.contains("no .c file"), "{error}");
        put("b/test/try.c", "");
        let guests = in_c(root.path()).unwrap();
        let error = unambiguous(&guests).unwrap_err().to_string();
        assert!(error.contains("both make a program try"), "{error}");
        put("b/lind.toml", "kind = \"gate\"");
        let error = format!("{:#}", in_c(root.path()).unwrap_err());
        assert!(
            error.contains("lind.toml") && error.contains("gate"),
            "{error}"
        );
    }
}
