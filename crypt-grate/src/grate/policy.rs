//! Which files are sealed: those below the paths of `--encrypt`.

use grate_rs::paths::normalised;

/// The protected subtrees. None named: everything is sealed.
#[derive(Debug)]
pub struct Subtrees(Vec<Vec<u8>>);

impl Subtrees {
    /// From the command line.
    ///
    /// # Errors
    /// A line for a path that is not absolute.
    pub fn new(paths: &[String]) -> Result<Self, String> {
        let clean = |path: &String| {
            if !path.starts_with('/') {
                return Err(format!(
                    "--encrypt {path}: give an absolute path, as the program sees it"
                ));
            }
            Ok(normalised(path.as_bytes()))
        };
        Ok(Self(paths.iter().map(clean).collect::<Result<_, _>>()?))
    }

    /// Whether every file is sealed, wherever it is.
    pub fn is_everything(&self) -> bool {
        self.0.is_empty() || self.0.iter().any(|path| path == b"/")
    }

    /// Whether a file at this absolute path, without symlinks in it, is sealed.
    pub fn contains(&self, path: &[u8]) -> bool {
        self.is_everything()
            || self.0.iter().any(|top| {
                path.strip_prefix(top.as_slice())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
            })
    }
}
