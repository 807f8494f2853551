//! Makes the folder of a new grate, with a program that tests it.

use crate::guests::{self, Language};
use anyhow::{Context, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// A file of the folder: where it goes, and what is in it.
type File = (&'static str, &'static str);

const BOTH: &[File] = &[
    (
        "grates_test.toml",
        include_str!("../templates/grates_test.toml"),
    ),
    ("README.md", include_str!("../templates/README.md")),
];
const C: &[File] = &[
    ("lind.toml", include_str!("../templates/c/manifest.toml")),
    ("src/main.c", include_str!("../templates/c/main.c")),
    ("test/NAME-test.c", include_str!("../templates/c/test.c")),
];
const RUST: &[File] = &[
    (
        "Cargo.toml",
        include_str!("../templates/rust/manifest.toml"),
    ),
    ("src/main.rs", include_str!("../templates/rust/main.rs")),
    (
        "test/NAME-test.rs",
        include_str!("../templates/rust/test.rs"),
    ),
];

/// Makes `grates/NAME`, or `grates/c/NAME`, and says what to do with it.
pub fn make(root: &Path, name: &str, language: Language) -> anyhow::Result<()> {
    ensure!(
        is_name(name),
        "{name:?} is no name for a grate: small letters, digits, and - between them, as in \
         my-grate; a letter first"
    );
    for guest in guests::select(root, &[], None)? {
        let taken = guest.package == name
            || guest
                .programs
                .iter()
                .any(|program| program.name == name || program.name == format!("{name}-test"));
        if taken {
            bail!("{} has that name: take another", guest.folder.display());
        }
    }
    if is_crate(root, name)? {
        bail!("a crate that is used here has the name {name}: take another, such as {name}-grate");
    }
    let folder = folder(root, name, language);
    let shown = folder.strip_prefix(root).unwrap_or(&folder).display();
    ensure!(!folder.exists(), "{shown} is there already");
    write(&folder, name, language).with_context(|| format!("cannot make {shown}"))?;
    // There are names that cargo has other use for: with one of them it would build nothing here.
    if let Err(error) = guests::select(root, &[], None) {
        fs::remove_dir_all(&folder)?;
        return Err(error.context(format!("{name:?} is no name for a grate: take another")));
    }
    println!("made {shown}: its code is in src, its test in test. Next:");
    println!("  make {}/{name}", spelt(language));
    println!("  target/release/lind-wasm --root lindfs {name}.cwasm {name}-test.cwasm");
    println!("  make test GRATE={name}");
    Ok(())
}

/// Whether a package of the workspace, or one that they are made with, has that name: cargo would
/// not know which is meant.
fn is_crate(root: &Path, name: &str) -> anyhow::Result<bool> {
    let lock = fs::read_to_string(root.join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let named = format!("name = {name:?}");
    Ok(lock.lines().any(|line| line == named))
}

/// Where it goes: cargo takes every folder of `grates` for a package, but not `grates/c`.
fn folder(root: &Path, name: &str, language: Language) -> PathBuf {
    let grates = root.join("grates");
    match language {
        Language::C => grates.join("c").join(name),
        Language::Rust => grates.join(name),
    }
}

fn write(folder: &Path, name: &str, language: Language) -> anyhow::Result<()> {
    let (files, ending) = match language {
        Language::C => (C, "c"),
        Language::Rust => (RUST, "rs"),
    };
    let filled = |text: &str| {
        text.replace("NAME", name)
            .replace("LANGUAGE", spelt(language))
            .replace("ENDING", ending)
    };
    for (path, text) in BOTH.iter().chain(files) {
        let file = folder.join(filled(path));
        fs::create_dir_all(file.parent().unwrap_or(folder))?;
        fs::write(&file, filled(text))?;
    }
    Ok(())
}

/// The language as commands and lists of tests spell it.
fn spelt(language: Language) -> &'static str {
    match language {
        Language::C => "c",
        Language::Rust => "rust",
    }
}

/// What is a name of a folder, a package, a program and a make target alike. `c` and `test` are
/// folders of their own.
fn is_name(name: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.split('-').all(plain)
        && !["c", "rust", "test"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_good_for_folders_packages_and_targets() {
        for good in ["my-grate", "g", "rot13-grate", "a-b-c"] {
            assert!(is_name(good), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "a--b",
            "A",
            "1a",
            "a/b",
            "../a",
            "a b",
            "a_b",
            "c",
            "test",
            "é",
            &"a".repeat(65),
        ] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn names_of_crates_are_taken() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for taken in ["keys", "calls", "grate-rs", "clap", "xtask"] {
            assert!(is_crate(&root, taken).unwrap(), "{taken}");
        }
        assert!(!is_crate(&root, "grate").unwrap());
    }

    #[test]
    fn nothing_of_the_template_is_left() {
        for language in [Language::C, Language::Rust] {
            let root = tempfile::tempdir().unwrap();
            let folder = folder(root.path(), "my-grate", language);
            write(&folder, "my-grate", language).unwrap();
            let mut folders = vec![folder];
            let mut files = 0;
            while let Some(folder) = folders.pop() {
                for entry in fs::read_dir(folder).unwrap() {
                    let path = entry.unwrap().path();
                    if path.is_dir() {
                        folders.push(path);
                        continue;
                    }
                    files += 1;
                    let text = fs::read_to_string(&path).unwrap();
                    let whole = format!("{} {text}", path.display());
                    for left in ["NAME", "LANGUAGE", "ENDING"] {
                        assert!(!whole.contains(left), "{left}: {whole}");
                    }
                }
            }
            assert_eq!(files, 5);
        }
    }
}
