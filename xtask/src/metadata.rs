//! What cargo knows of the workspace.

use anyhow::{Context, ensure};
use serde::de::DeserializeOwned;
use std::path::Path;
use std::process::Command;

/// What `cargo metadata` prints with these arguments, as far as it is of use.
///
/// # Errors
/// That cargo is missing, or does not understand the workspace.
pub fn read<T: DeserializeOwned>(root: &Path, args: &[&str]) -> anyhow::Result<T> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(root)
        .args(["metadata", "--format-version=1"])
        .args(args)
        .output()
        .context("cannot start cargo")?;
    ensure!(
        output.status.success(),
        "cargo metadata failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).context("cargo metadata")
}
