//! The list of tests, `grates_test.toml`: which program runs under which grate.

use anyhow::Context;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

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
    /// Its folder in this repository.
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

/// Reads the list.
///
/// # Errors
/// When it is missing or not in form.
pub fn read(path: &Path) -> anyhow::Result<Manifest> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let manifest: Manifest =
        toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
    let mut seen = BTreeMap::new();
    for grate in &manifest.grates {
        anyhow::ensure!(
            seen.insert(grate.name.clone(), ()).is_none(),
            "{}: grate {} stands twice",
            path.display(),
            grate.name
        );
    }
    Ok(manifest)
}
