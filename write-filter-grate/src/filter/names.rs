//! Names: which file a path argument leads to, and what it is called.

use super::filter;
use grate_rs::constants::{error, fs};
use grate_rs::kernel::Stat;
use grate_rs::places::{Place, TakenPath};
use grate_rs::{CageFd, Call, Errno};

/// A path argument, read once, and the place that it names: what is judged is what is acted on.
#[derive(Debug)]
pub struct Name {
    path: TakenPath,
    place: Place,
    is_permitted: bool,
}

impl Name {
    /// Takes the path in argument `index`, from the directory in argument `directory`. Where it is
    /// to be followed, all names met on the way have to be permitted.
    ///
    /// # Errors
    /// EFAULT, ENAMETOOLONG, and as the look-up.
    pub fn take(
        call: &Call,
        index: usize,
        directory: Option<usize>,
        follows: bool,
    ) -> Result<Self, Errno> {
        Self::of(call.take_path(index, directory)?, follows)
    }

    /// As [`Name::take`], of a path that is taken.
    ///
    /// # Errors
    /// As the look-up.
    pub fn of(path: TakenPath, follows: bool) -> Result<Self, Errno> {
        let mut place = path.place(false)?;
        let permitted = |place: &Place| filter().extensions.permit(place.bare_name());
        let mut is_permitted = permitted(&place);
        if follows {
            place = place.follow(|place| is_permitted &= permitted(place))?;
        }
        Ok(Self {
            path,
            place,
            is_permitted,
        })
    }

    /// Whether the file's own name is permitted, and those of the symlinks that led to it.
    pub fn is_permitted(&self) -> bool {
        self.is_permitted
    }

    /// The place.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Its absolute path without symlinks.
    ///
    /// # Errors
    /// ENAMETOOLONG; ENOENT where the directory is in no place any more.
    pub fn path(&self) -> Result<Vec<u8>, Errno> {
        self.place.path()
    }

    /// What the program called it.
    pub fn text(&self) -> &[u8] {
        self.path.text()
    }

    /// What is there.
    ///
    /// # Errors
    /// As lstat(2).
    pub fn stat(&self) -> Result<Stat, Errno> {
        self.place.stat()
    }

    /// Opens it for `cage`: the caller or the grate itself. It is not followed any more.
    ///
    /// # Errors
    /// As open(2); EAGAIN where a symlink has taken the name.
    pub fn open(&self, cage: u64, flags: i32, mode: u64) -> Result<CageFd, Errno> {
        match self.place.open(cage, flags, mode) {
            Err(Errno(error::ELOOP)) if flags & fs::O_NOFOLLOW == 0 => Err(Errno(error::EAGAIN)),
            other => other,
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.path.fmt(f)
    }
}
