//! Which files are sealed: those below the paths of `--encrypt`.

use grate_rs::paths::normalised;
use grate_rs::places::TakenPath;

/// The protected subtrees. None named: everything is sealed.
#[derive(Debug)]
pub struct Subtrees(Vec<Vec<u8>>);

impl Subtrees {
    /// From the command line. What is there already is known by its true path too.
    ///
    /// # Errors
    /// A line for a path that is not absolute.
    pub fn new(paths: &[String]) -> Result<Self, String> {
        let mut tops = Vec::new();
        for path in paths {
            if !path.starts_with('/') {
                return Err(format!(
                    "--encrypt {path}: give an absolute path, as the program sees it"
                ));
            }
            let path = normalised(path.as_bytes());
            let place = TakenPath::own(&path).and_then(|path| path.place(true));
            let found = place.and_then(|place| place.path());
            tops.extend(found.ok().filter(|found| *found != path));
            tops.push(path);
        }
        Ok(Self(tops))
    }

    /// Whether every file is sealed, wherever it is.
    pub fn is_everything(&self) -> bool {
        self.0.is_empty() || self.0.iter().any(|path| path == b"/")
    }

    /// Whether a file at this absolute path, without symlinks in it, is sealed.
    pub fn contains(&self, path: &[u8]) -> bool {
        self.is_everything() || self.0.iter().any(|top| is_within(path, top))
    }

    /// Whether this absolute path leads to a protected subtree, or is one's top.
    pub fn is_above(&self, path: &[u8]) -> bool {
        self.0.iter().any(|top| is_within(top, path))
    }
}

/// Whether a path is another, or lies below it.
fn is_within(path: &[u8], top: &[u8]) -> bool {
    path.strip_prefix(top)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/") || top == b"/")
}
