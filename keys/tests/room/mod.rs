//! A place to run the command in.

// Each test file uses another part of it.
#![allow(dead_code)]

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A directory to work in, with the key `k.bin`.
pub struct Room(TempDir);

impl Room {
    pub fn new() -> Self {
        let room = Self(tempfile::tempdir().unwrap());
        room.ok(&["gen", "k.bin"]);
        room
    }

    /// With this key too, as `a.bin`.
    pub fn with_key(key: &[u8]) -> Self {
        let room = Self::new();
        room.write("a.bin", key);
        room.set_mode("a.bin", 0o600);
        room
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, contents: &[u8]) {
        fs::write(self.path(name), contents).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    pub fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    pub fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path(name)).unwrap().permissions().mode() & 0o7777
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keys"));
        command.args(args).current_dir(self.0.path());
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    pub fn run_with_input(&self, args: &[&str], input: &[u8]) -> Output {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::thread::scope(|scope| {
            // A command that fails early closes the pipe on the writer.
            scope.spawn(move || drop(stdin.write_all(input)));
            child.wait_with_output().unwrap()
        })
    }

    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Fails with status 1 and a single line that says all of this.
    #[track_caller]
    pub fn fails(&self, args: &[&str], says: &[&str]) {
        assert_failure(&self.run(args), says);
    }

    /// Fails with status 1, a summary and a line that says this.
    #[track_caller]
    pub fn fails_with(&self, args: &[&str], says: &str) {
        let output = self.run(args);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains(says), "{says:?} in {message:?}");
    }

    /// With descriptors 3 and 4 reading the files `three` and `four`.
    pub fn run_with_fds(&self, args: &[&str]) -> Output {
        let mut shell = Command::new("sh");
        shell.args([
            "-c",
            r#"exec "$0" "$@" 3<three 4<four"#,
            env!("CARGO_BIN_EXE_keys"),
        ]);
        shell
            .args(args)
            .current_dir(self.0.path())
            .output()
            .unwrap()
    }

    pub fn entries(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[track_caller]
pub fn assert_failure(output: &Output, says: &[&str]) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    for part in says {
        assert!(message.contains(part), "{part:?} in {message:?}");
    }
}

/// Root reads everything, so that nothing is unreadable to it.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}
