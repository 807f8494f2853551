//! Where attempts are made: a root with a key, files that may not be written, and things beside
//! it; and the look at all of it afterwards.

use crate::fixture::{FileLimit, Fixture, Ran, Run, command, host_command};
use anyhow::{Context, ensure};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is between the program and the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Under {
    /// Nothing.
    Nothing,
    /// crypt-grate.
    Crypt,
    /// write-filter-grate.
    Filter,
    /// write-filter-grate, the nearer one, over crypt-grate.
    Both,
}

impl Under {
    /// As a person reads it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "under no grate",
            Self::Crypt => "under crypt-grate",
            Self::Filter => "under write-filter-grate",
            Self::Both => "under both grates",
        }
    }

    /// As the program reads it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Crypt => "crypt",
            Self::Filter => "filter",
            Self::Both => "both",
        }
    }

    /// Whether files are sealed.
    pub fn seals(self) -> bool {
        matches!(self, Self::Crypt | Self::Both)
    }

    /// Whether secrets are masked, and paths denied.
    pub fn filters(self) -> bool {
        matches!(self, Self::Filter | Self::Both)
    }
}

/// What marks the program's plaintext.
const PLAIN: &[u8] = b"4417-PLAIN-TEXT";
/// What marks its secret.
const SECRET: &[u8] = b"jane.doe@example.com";
const KEY: &str = "keys/k.bin";
/// The list of secrets.
const SECRETS: &str = "keys/secrets";
const DENIED: &str = "protected";
const BESIDE: &[u8] = b"beside the root: no program reads or changes this\n";
const MAGIC: &[u8] = b"\xA7sealed";

/// All that is known of a file from outside.
#[derive(Debug, PartialEq, Eq)]
struct State {
    content: Option<Vec<u8>>,
    inode: u64,
    mode: u32,
    links: u64,
    owner: u32,
}

impl State {
    fn of(path: &Path) -> anyhow::Result<Self> {
        let meta = fs::symlink_metadata(path).with_context(|| path.display().to_string())?;
        Ok(Self {
            content: meta.is_file().then(|| fs::read(path)).transpose()?,
            inode: meta.ino(),
            mode: meta.mode(),
            // A directory has one for each inside.
            links: if meta.is_dir() { 0 } else { meta.nlink() },
            owner: meta.uid(),
        })
    }
}

/// Every file below a folder, by path; links are not followed.
fn tree(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = vec![folder.to_owned()];
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            found.push(entry.path());
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

fn states(folder: &Path) -> anyhow::Result<BTreeMap<PathBuf, State>> {
    tree(folder)?
        .into_iter()
        .map(|path| State::of(&path).map(|state| (path, state)))
        .collect()
}

/// A root that a hostile program is let loose in.
pub struct Stage {
    fixture: Fixture,
    under: Under,
    strict: bool,
    key: Vec<u8>,
    key_state: State,
    denied: BTreeMap<PathBuf, State>,
    /// One that may be told in the clear, one that may not.
    peers: [UdpSocket; 2],
    /// Files that hold what is looked for from the start, by inode: the program may move them.
    before: BTreeMap<u64, Vec<u8>>,
    /// Whether the program may have removed what it may not write, which no grate denies.
    removes: bool,
}

impl Stage {
    /// A new one.
    pub fn new(under: Under, strict: bool) -> anyhow::Result<Self> {
        Self::with_programs(under, strict, &[])
    }

    /// As [`Stage::new`], with other programs besides.
    pub fn with_programs(under: Under, strict: bool, others: &[&str]) -> anyhow::Result<Self> {
        let mut programs = vec!["bin/hostile.cwasm", "bin/hello.cwasm"];
        programs.extend(others);
        if under.seals() {
            programs.push("grates/crypt-grate.cwasm");
        }
        if under.filters() {
            programs.push("grates/write-filter-grate.cwasm");
        }
        let fixture = Fixture::with_copies(&programs)?;
        for folder in ["keys", "open", "protected", "protected/sub", "protectex"] {
            fs::create_dir(fixture.path(folder))?;
        }
        let key = fs::read(fixture.make_key(KEY)?)?;
        for (path, text) in [
            ("protected/f.log", "may not be written\n"),
            ("protected/sub/g.log", "may not be written either\n"),
            ("protectex/f.log", "may be written\n"),
            ("open/plain.log", "plain from before\n"),
            ("open/empty", ""),
        ] {
            fs::write(fixture.path(path), text)?;
        }
        let home = fixture.home();
        fs::write(home.join("beside"), BESIDE)?;
        fs::hard_link(fixture.path(KEY), fixture.path("open/hard.log"))?;
        for (target, link) in [
            (Path::new("/keys/k.bin"), "open/soft.log"),
            (Path::new("../keys"), "open/keys"),
            (Path::new("/protected/f.log"), "open/denied.log"),
            (Path::new("../protected"), "open/protected"),
            (home, "open/outside"),
            (&home.join("beside"), "open/outside-file"),
        ] {
            symlink(target, fixture.path(link))?;
        }
        fs::write(fixture.path(SECRETS), [SECRET, b"\n"].concat())?;
        let secrets = fs::read(fixture.path(SECRETS))?;
        let inode = fs::metadata(fixture.path(SECRETS))?.ino();
        let before = BTreeMap::from([(inode, secrets)]);
        let peers = [
            UdpSocket::bind("127.0.0.1:0")?,
            UdpSocket::bind("127.0.0.1:0")?,
        ];
        for peer in &peers {
            peer.set_read_timeout(Some(Duration::from_millis(1)))?;
        }
        Ok(Self {
            key_state: State::of(&fixture.path(KEY))?,
            denied: states(&fixture.path(DENIED))?,
            before,
            removes: false,
            fixture,
            under,
            strict,
            key,
            peers,
        })
    }

    /// A path of the host inside the root.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.fixture.path(inside)
    }

    /// The ports of the host's sockets.
    pub fn ports(&self) -> [u16; 2] {
        [0, 1].map(|at| {
            self.peers[at]
                .local_addr()
                .map_or(0, |address| address.port())
        })
    }

    /// The grates of this stage, outermost first, with their options.
    fn grates(&self) -> Vec<String> {
        let mut args = Vec::new();
        if self.under.seals() {
            args.extend(
                [
                    "crypt-grate.cwasm",
                    "--key",
                    "/keys/k.bin",
                    "--plaintext",
                    "read",
                    "--plain",
                ]
                .map(str::to_owned),
            );
            args.push(format!("127.0.0.1:{}", self.ports()[0]));
        }
        if self.under.filters() {
            let filter = [
                "write-filter-grate.cwasm",
                "--secret-file",
                "/keys/secrets",
                "--deny-write",
                "/protected/**",
                "--hold-ms",
                "20",
            ];
            args.extend(filter.map(str::to_owned));
        }
        args
    }

    /// Adds a program, which holds what it writes.
    pub fn add(&mut self, path: &str, bytes: Vec<u8>) -> anyhow::Result<()> {
        let path = self.path(path);
        fs::write(&path, &bytes)?;
        self.before.insert(fs::metadata(path)?.ino(), bytes);
        Ok(())
    }

    /// For a program that removes what it finds.
    #[must_use]
    pub fn that_may_lose(mut self) -> Self {
        self.removes = true;
        self
    }

    /// Files of the root but for those.
    fn files(&self) -> anyhow::Result<Vec<(PathBuf, Vec<u8>)>> {
        let mut files = Vec::new();
        for (path, bytes) in self.fixture.files()? {
            if self.before.get(&fs::symlink_metadata(&path)?.ino()) != Some(&bytes) {
                files.push((path, bytes));
            }
        }
        Ok(files)
    }

    /// Runs a program under them.
    pub fn run(&self, program: &[&str], file_limit: Option<FileLimit>) -> anyhow::Result<Ran> {
        let mut args = self.grates();
        args.extend(program.iter().map(|&arg| arg.to_owned()));
        self.fixture.start(&Run {
            strict: self.strict,
            args,
            file_limit,
            options: ["--net", "loopback"].map(str::to_owned).into(),
            timeout: Some(Duration::from_secs(60)),
            ..Run::default()
        })
    }

    /// Fails when something happened that must not have.
    pub fn audit(&self, ran: &Ran) -> anyhow::Result<()> {
        self.audit_run(ran).context("the run")?;
        self.audit_outside().context("outside of the root")?;
        self.audit_modes()?;
        if self.under.seals() {
            self.audit_sealed()?;
        }
        if self.under.filters() {
            self.audit_filtered(ran)?;
        }
        self.audit_wire()
    }

    fn audit_run(&self, ran: &Ran) -> anyhow::Result<()> {
        for text in [&ran.text(), &ran.err] {
            for word in [
                "RUST_BACKTRACE",
                "core dumped",
                "stack backtrace",
                "/rustc/",
            ] {
                ensure!(!text.contains(word), "it shows {word:?}:\n{text}");
            }
            if let Some(address) = host_address(text) {
                anyhow::bail!("it shows an address of the host, {address:#x}:\n{text}");
            }
        }
        // A fault of the process, or its own abort.
        for signal in [4, 6, 7, 8, 11] {
            ensure!(ran.code != 128 + signal, "signal {signal}\n{}", ran.err);
        }
        if self.under.seals() {
            for bytes in [&ran.out, ran.err.as_bytes()] {
                ensure!(!shows(bytes, &self.key), "the key came out");
            }
        }
        Ok(())
    }

    fn audit_outside(&self) -> anyhow::Result<()> {
        let home = self.fixture.home();
        let mut names: Vec<OsString> = fs::read_dir(home)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<Result<_, _>>()?;
        names.sort();
        ensure!(names == ["beside", "root"], "there is {names:?}");
        ensure!(
            fs::read(home.join("beside"))? == BESIDE,
            "a file was changed"
        );
        Ok(())
    }

    fn audit_modes(&self) -> anyhow::Result<()> {
        for path in tree(&self.fixture.path(""))? {
            let meta = fs::symlink_metadata(&path)?;
            let kind = meta.file_type();
            let bits = meta.permissions().mode() & 0o6000;
            ensure!(bits == 0, "{} has mode bits {bits:o}", path.display());
            let device = kind.is_block_device() || kind.is_char_device();
            ensure!(!device, "{} is a device", path.display());
        }
        Ok(())
    }

    fn audit_sealed(&self) -> anyhow::Result<()> {
        let key = State::of(&self.fixture.path(KEY)).context("the key")?;
        ensure!(key == self.key_state, "the key was changed");
        let mut sealed = Vec::new();
        for (path, bytes) in self.files()? {
            let shown = path.display();
            for mark in [PLAIN, SECRET] {
                if let Some(around) = surroundings(&bytes, mark) {
                    anyhow::bail!("{shown} holds plaintext: {around}");
                }
            }
            if bytes.starts_with(MAGIC) {
                sealed.push(path);
            }
        }
        if sealed.is_empty() {
            return Ok(());
        }
        let mut args: Vec<OsString> = ["verify", "--key"].map(OsString::from).into();
        args.push(self.fixture.path(KEY).into());
        args.extend(sealed.into_iter().map(OsString::from));
        command(&host_command("keys"), args)?
            .expect(0)
            .context("a sealed file does not verify")?;
        Ok(())
    }

    fn audit_filtered(&self, ran: &Ran) -> anyhow::Result<()> {
        for (name, bytes) in [("output", &ran.out[..]), ("error", ran.err.as_bytes())] {
            if let Some(around) = surroundings(bytes, SECRET) {
                anyhow::bail!("a secret came out on standard {name}: {around}");
            }
        }
        for (path, bytes) in self.files()? {
            if let Some(around) = surroundings(&bytes, SECRET) {
                anyhow::bail!("{} holds a secret: {around}", path.display());
            }
        }
        for (path, before) in &self.denied {
            let shown = path.display();
            let gone = fs::symlink_metadata(path).is_err();
            ensure!(!gone || self.removes, "{shown} is gone");
            if gone {
                continue;
            }
            // Its modes and owner are the program's to change.
            let after = State::of(path)?;
            let same = after.inode == before.inode && after.content == before.content;
            let linked = after.links > before.links;
            ensure!(
                (same && !linked) || self.removes,
                "{shown} was changed: {after:?}"
            );
            ensure!(
                after.inode != before.inode || same,
                "{shown} was written to: {after:?}"
            );
        }
        if self.removes {
            return Ok(());
        }
        // A file of no bytes may have been made; nothing is in it.
        for (path, state) in states(&self.fixture.path(DENIED))? {
            let empty = state.content.as_ref().is_none_or(Vec::is_empty);
            ensure!(
                empty || self.denied.contains_key(&path),
                "{} was written to",
                path.display()
            );
        }
        Ok(())
    }

    fn audit_wire(&self) -> anyhow::Result<()> {
        for (at, peer) in self.peers.iter().enumerate() {
            let mut packet = [0; 4096];
            while let Ok(len) = peer.recv(&mut packet) {
                let packet = &packet[..len];
                let plain = self.under.seals() && at == 1 && contains(packet, PLAIN);
                let secret = self.under.filters() && contains(packet, SECRET);
                ensure!(!plain && !secret, "peer {at} was told in the clear");
            }
        }
        Ok(())
    }
}

/// Whether bytes contain others.
fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// What stands around the first of some bytes, to be shown.
fn surroundings(bytes: &[u8], wanted: &[u8]) -> Option<String> {
    let at = bytes
        .windows(wanted.len())
        .position(|window| window == wanted)?;
    let from = at.saturating_sub(200);
    let to = bytes.len().min(at + 200);
    let shown = bytes[from..to].escape_ascii();
    Some(format!("at {at} of {}: {shown}", bytes.len()))
}

/// Whether eight bytes of a key stand there, as they are or in hexadecimal.
fn shows(bytes: &[u8], key: &[u8]) -> bool {
    const PART: usize = 8;
    key.windows(PART).any(|part| {
        let hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
        contains(bytes, part) || contains(bytes, hex.as_bytes())
    })
}

/// A number in hexadecimal that can be an address of the host's process.
fn host_address(text: &str) -> Option<u64> {
    text.match_indices("0x").find_map(|(at, _)| {
        let digits: String = text[at + 2..]
            .chars()
            .take_while(char::is_ascii_hexdigit)
            .collect();
        let number = u64::from_str_radix(&digits, 16).ok()?;
        // What strict mode shows as bases lies lower.
        let mapped = (0x7f00_0000_0000..0x8000_0000_0000).contains(&number);
        let program = (0x5500_0000_0000..0x5700_0000_0000).contains(&number);
        (mapped || program).then_some(number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_not_come_out_is_found() {
        let key: Vec<u8> = (100..132).collect();
        assert!(shows(&key[5..13], &key) && !shows(&key[5..12], &key));
        assert!(shows(b"x6465666768696a6bx", &key));
        assert_eq!(
            host_address("at 0x7f12_, 0x7f1234567890"),
            Some(0x7f12_3456_7890)
        );
        assert_eq!(host_address("0x7e006e000000 0xdeadbeef 0x"), None);
    }
}
