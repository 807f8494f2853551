//! The ways in which a workload is run.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use sealed::MAGIC;

use crate::install::Install;
use crate::mount::Mount;
use crate::native;
use crate::workload::{Sample, Workload};

/// The folder that is measured in, the one of many small files, and the key, inside the root.
const DATA: &str = "data";
const SMALL: &str = "data/small";
const KEY: &str = "key";

/// What a variant is compared as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The plain kernel.
    Native,
    /// A cage without a grate.
    NoGrate,
    /// Under crypt-grate.
    Sealed,
    /// The file system to compare with.
    Gocryptfs,
}

/// One column of the table.
pub struct Variant<'a> {
    /// Its heading.
    pub name: String,
    /// What it is compared as.
    pub role: Role,
    install: &'a Install,
    root: PathBuf,
    grate: Vec<String>,
    _mount: Option<Mount>,
}

/// Sets up all variants below `dir`. Also answers why one is left out.
pub fn prepare<'a>(install: &'a Install, dir: &Path) -> Result<(Vec<Variant<'a>>, Option<String>)> {
    let cage = |name: &str, role, folder: &str, cipher: Option<&str>| {
        let root = dir.join(folder);
        make_root(install, &root)?;
        let mut grate = Vec::new();
        if let Some(cipher) = cipher {
            install.make_key(&root.join(KEY))?;
            let key = format!("/{KEY}");
            grate = ["crypt-grate.cwasm", "--key", &key, "--cipher", cipher]
                .map(str::to_owned)
                .into();
        }
        anyhow::Ok(Variant {
            name: name.to_owned(),
            role,
            install,
            root,
            grate,
            _mount: None,
        })
    };
    let mut variants = vec![
        cage("native", Role::Native, "native", None)?,
        cage("no grate", Role::NoGrate, "plain", None)?,
        cage(
            "crypt-grate, XChaCha20-Poly1305",
            Role::Sealed,
            "xchacha",
            Some("xchacha20poly1305"),
        )?,
        cage(
            "crypt-grate, XAES-256-GCM",
            Role::Sealed,
            "aes",
            Some("xaes-256-gcm"),
        )?,
    ];
    let left_out = match Mount::new(dir) {
        Ok(mount) => {
            let root = mount.point().to_owned();
            make_root(install, &root)?;
            variants.push(Variant {
                name: Mount::version(),
                role: Role::Gocryptfs,
                install,
                root,
                grate: Vec::new(),
                _mount: Some(mount),
            });
            None
        }
        Err(error) => Some(format!("gocryptfs is left out: {error:#}")),
    };
    Ok((variants, left_out))
}

fn make_root(install: &Install, root: &Path) -> Result<()> {
    install.fill_root(root)?;
    fs::create_dir_all(root.join(SMALL))?;
    Ok(())
}

impl Variant<'_> {
    /// Runs a workload once. None where there is nothing to run.
    pub fn run(&self, workload: &Workload) -> Result<Option<Sample>> {
        let place = workload.place();
        if self.role == Role::Native {
            return native::run(workload, &self.root.join(DATA).join(place));
        }
        let mut line = self.grate.clone();
        line.extend(workload.command(&format!("/{DATA}/{place}")));
        let sample = workload.parse(&self.install.run_cages(&self.root, &line)?)?;
        let witness = self.root.join(DATA).join(workload.witness());
        let mut start = [0; MAGIC.len()];
        File::open(&witness)?.read_exact(&mut start)?;
        ensure!(
            (start == MAGIC) == (self.role == Role::Sealed),
            "{} is not stored as it should be",
            witness.display()
        );
        Ok(Some(sample))
    }
}
