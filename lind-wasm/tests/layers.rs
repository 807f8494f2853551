//! The runtime's modules depend one way: none needs itself through others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

type Needs = BTreeMap<String, BTreeSet<String>>;

/// Code without its comments and its unit tests.
fn code(text: &str) -> String {
    let (code, _) = text
        .split_once("#[cfg(test)]\nmod tests")
        .unwrap_or((text, ""));
    let lines = code
        .lines()
        .map(|line| line.split("//").next().unwrap_or(""));
    lines.collect::<Vec<_>>().join("\n")
}

/// The modules of the crate that code names: after `crate::`, alone or in braces.
fn named(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, found) in code.match_indices("crate::") {
        let rest = &code[at + found.len()..];
        let list = match rest.strip_prefix('{') {
            Some(group) => group.split('}').next().unwrap_or(""),
            None => rest,
        };
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let several = list.len() != rest.len();
        for item in list.split(',').take(if several { usize::MAX } else { 1 }) {
            let name: String = item
                .trim_start()
                .chars()
                .take_while(|c| is_word(*c))
                .collect();
            names.insert(name);
        }
    }
    names
}

fn look(folder: &Path, module: Option<&str>, needs: &mut Needs) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let module = module.unwrap_or(&stem);
        if path.is_dir() {
            look(&path, Some(module), needs);
        } else if !["lib", "main"].contains(&module) && !["testing", "tests"].contains(&&*stem) {
            let names = named(&code(&fs::read_to_string(&path).unwrap()));
            needs.entry(module.to_owned()).or_default().extend(names);
        }
    }
}

#[test]
fn no_module_needs_itself_through_others() {
    let mut needs = Needs::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    look(&source, None, &mut needs);
    assert!(needs.len() > 30, "only {:?}", needs.keys());
    let edges: usize = needs.values().map(BTreeSet::len).sum();
    assert!(edges > 100, "only {edges} uses were found");
    for (module, of) in &mut needs {
        of.remove(module);
    }
    // Taken away are those that need none of what is left; a circle stays.
    loop {
        let left: BTreeSet<String> = needs.keys().cloned().collect();
        let before = left.len();
        needs.retain(|_, of| of.intersection(&left).next().is_some());
        if needs.len() == before {
            break;
        }
    }
    assert!(needs.is_empty(), "in circles, or above one: {needs:?}");
}
