//! The list of tests, `grates_test.toml`: which program runs under which grate.

use anyhow::Context;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The whole list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// One entry a grate.
    #[serde(rename = "grate")]
    pub grates: Vec<Grate>,
}

/// A grate and its tests.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grate {
    /// Its name.
    pub name: String,
    /// Its folder in this repository; in a grate's own list, that list's folder if not named.
    #[serde(default)]
    pub dir: String,
    /// The language it is written in.
    #[serde(rename = "type")]
    pub language: Language,
    /// Its program without `.cwasm`, when that is not its name.
    pub binary: Option<String>,
    /// Leaves out all its tests.
    #[serde(default)]
    pub skip: bool,
    /// Its tests.
    #[serde(default)]
    pub tests: Vec<Test>,
}

/// The language of a grate.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// C, built by clang.
    C,
    /// Rust, built by cargo.
    Rust,
}

/// A program to run under the grate. It passes when it exits with 0 and nothing panicked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// The program's source, relative to the grate's folder; its stem is the program's name.
    pub test_src: String,
    /// What the grate gets before the program's name.
    #[serde(default)]
    pub grate_args: Arguments,
    /// What the program gets.
    #[serde(default)]
    pub args: Arguments,
    /// Files, relative to the grate's folder, copied flat into the root.
    #[serde(default)]
    pub files: Vec<String>,
    /// Folder of the root that gets a copy of the program too.
    pub lindfs_dir: Option<String>,
    /// `NAME=VALUE` for the first program.
    #[serde(default)]
    pub env: Vec<String>,
    /// Seconds before the run counts as hung.
    #[serde(default = "one_minute")]
    pub timeout: u64,
    /// Leaves the test out.
    #[serde(default)]
    pub skip: bool,
    /// What standard output must hold.
    pub stdout: Option<String>,
    /// Makes a key at this path of the root before the run.
    pub key: Option<String>,
}

/// Arguments, as an array or as one string split at blanks.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "ArgumentsForm")]
pub struct Arguments(pub Vec<String>);

#[derive(Deserialize)]
#[serde(untagged)]
enum ArgumentsForm {
    Line(String),
    List(Vec<String>),
}

impl From<ArgumentsForm> for Arguments {
    fn from(form: ArgumentsForm) -> Self {
        Self(match form {
            ArgumentsForm::Line(line) => line.split_whitespace().map(str::to_owned).collect(),
            ArgumentsForm::List(list) => list,
        })
    }
}

fn one_minute() -> u64 {
    60
}

impl Test {
    /// The program's name without its ending.
    pub fn program(&self) -> &str {
        Path::new(&self.test_src)
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or(&self.test_src)
    }
}

impl Grate {
    /// The grate's program file.
    pub fn program(&self) -> String {
        format!("{}.cwasm", self.binary.as_ref().unwrap_or(&self.name))
    }
}

/// Name of a list of tests.
const LIST: &str = "grates_test.toml";

/// Reads the list of this repository, and those that stand in the folders of `grates`.
///
/// # Errors
/// When one is missing or not in form, or two name the same grate.
pub fn read_all(root: &Path) -> anyhow::Result<Manifest> {
    let mut all = read(&root.join("tests").join(LIST))?;
    for folder in own_folders(root)? {
        let mut own = read(&folder.join(LIST))?;
        for grate in own.grates.iter_mut().filter(|grate| grate.dir.is_empty()) {
            let folder = folder.strip_prefix(root).unwrap_or(&folder);
            grate.dir = folder.to_string_lossy().into_owned();
        }
        all.grates.extend(own.grates);
    }
    let mut seen = BTreeMap::new();
    for grate in &all.grates {
        if let Some(other) = seen.insert(&grate.name, &grate.dir) {
            anyhow::bail!(
                "the lists of tests name grate {} twice: for {other} and {}",
                grate.name,
                grate.dir
            );
        }
    }
    Ok(all)
}

/// Folders of grates with a list of their own.
fn own_folders(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for kept in ["grates", "grates/c"] {
        let Ok(entries) = std::fs::read_dir(root.join(kept)) else {
            continue;
        };
        for entry in entries {
            let folder = entry?.path();
            if folder.join(LIST).is_file() {
                found.push(folder);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> anyhow::Result<Manifest> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("in {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_grates_has_its_own_list() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let file = root.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        };
        let grate = |name: &str| format!("[[grate]]\nname = \"{name}\"\ntype = \"c\"\n");
        put(
            "tests/grates_test.toml",
            &format!("{}dir = \"one\"\n", grate("one")),
        );
        put("grates/two/grates_test.toml", &grate("two"));
        put("grates/c/three/grates_test.toml", &grate("three"));
        put("grates/c/README.md", "");
        let all = read_all(root.path()).unwrap();
        let dirs: Vec<&str> = all.grates.iter().map(|grate| grate.dir.as_str()).collect();
        assert_eq!(dirs, ["one", "grates/c/three", "grates/two"]);
        put("grates/c/three/grates_test.toml", &grate("one"));
        let error = read_all(root.path()).unwrap_err().to_string();
        assert!(error.contains("name grate one twice"), "{error}");
        put("grates/c/three/grates_test.toml", "[[grate]]\nnam = 1");
        let error = format!("{:#}", read_all(root.path()).unwrap_err());
        assert!(error.contains("c/three/grates_test.toml"), "{error}");
    }
}
