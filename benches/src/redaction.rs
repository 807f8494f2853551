//! Redaction of logs: the engine by itself, a program that writes a log to a file with and without
//! write-filter-grate, the PyPI package secrethider, syslog-ng, and sed.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use redact::{Action, Builtin, Filter, Pattern, RuleSet};

use crate::install::Install;
use crate::results::median;

#[path = "../../lib/redact/benches/logs/mod.rs"]
mod logs;

/// Bytes of a write, as a program with buffered output makes them.
const WRITE: usize = 64 << 10;

/// The logs: name, and lines with a secret among a thousand.
const LOGS: [(&str, u64); 3] = [("clean", 0), ("0.1 % dirty", 1), ("5 % dirty", 50)];

/// What sed is asked for: a fraction of the built-ins.
const SED: [&str; 4] = [
    "s/(ghp_)[A-Za-z0-9]{36}/***/g",
    "s/AKIA[0-9A-Z]{16}/***/g",
    "s/(password=)[^ ]+/\\1***/g",
    "s/[a-z0-9.]+@[a-z0-9.]+/***/g",
];

/// A log shipper of Debian, where it is installed.
const SYSLOG_NG: &str = "/usr/sbin/syslog-ng";

/// What that is asked for: as much as sed.
const REWRITES: [&str; 4] = [
    "ghp_[A-Za-z0-9]{36}",
    "AKIA[0-9A-Z]{16}",
    "password=[^ ]+",
    "[a-z0-9.]+@[a-z0-9.]+",
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Engine,
    NoGrate,
    Grate,
    Secrethider,
    /// With its rules for personal data too, as the built-ins have them.
    SecrethiderAll,
    SyslogNg,
    Sed,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Engine => "lib/redact, native",
            Self::NoGrate => "cage, no grate",
            Self::Grate => "cage, write-filter-grate",
            Self::Secrethider => "secrethider",
            Self::SecrethiderAll => "secrethider --pii",
            Self::SyslogNg => "syslog-ng, 4 expressions",
            Self::Sed => "sed, 4 expressions",
        }
    }
}

/// All samples: seconds by log and way.
pub struct Results {
    len: usize,
    filter: Arc<Filter>,
    ways: Vec<Way>,
    cells: Vec<Vec<Vec<f64>>>,
}

impl Results {
    /// None yet.
    pub fn new(install: &Install, quick: bool) -> Result<Self> {
        let mut rules = RuleSet::builder();
        // As the grate is told to.
        for builtin in Builtin::named("all")? {
            rules.rule(builtin.name(), &Pattern::Builtin(builtin), Action::Mask)?;
        }
        let mut ways = vec![Way::Engine, Way::NoGrate, Way::Grate, Way::Sed];
        if secrethider(install).exists() {
            ways.extend([Way::Secrethider, Way::SecrethiderAll]);
        }
        if Path::new(SYSLOG_NG).exists() {
            ways.push(Way::SyslogNg);
        }
        Ok(Self {
            len: if quick { 16 << 20 } else { 256 << 20 },
            filter: rules.build().filter(),
            cells: LOGS.map(|_| vec![Vec::new(); ways.len()]).into(),
            ways,
        })
    }

    /// Measures once more; the ways take turns.
    pub fn round(&mut self, install: &Install, directory: &Path) -> Result<()> {
        let root = directory.join("redaction");
        if !root.exists() {
            install.fill_root(&root)?;
        }
        let file = root.join("log");
        for ((name, dirty), cells) in LOGS.iter().zip(&mut self.cells) {
            let log = logs::log(self.len, *dirty);
            fs::write(&file, &log)?;
            for (way, samples) in self.ways.iter().zip(cells) {
                let seconds = match way {
                    Way::Engine => engine(&self.filter, &log),
                    Way::NoGrate => in_cage(install, &root, &[]),
                    Way::Grate => in_cage(
                        install,
                        &root,
                        &["write-filter-grate.cwasm", "--redact", "all"],
                    ),
                    Way::Secrethider => tool(Command::new(secrethider(install)).arg(&file)),
                    Way::SecrethiderAll => {
                        tool(Command::new(secrethider(install)).arg("--pii").arg(&file))
                    }
                    Way::SyslogNg => syslog_ng(directory, &log),
                    Way::Sed => {
                        let expressions = SED.iter().flat_map(|one| ["-e", one]);
                        tool(
                            Command::new("sed")
                                .env("LC_ALL", "C")
                                .arg("-E")
                                .args(expressions)
                                .arg(&file),
                        )
                    }
                };
                samples.push(seconds.with_context(|| format!("{name}, {}", way.name()))?);
            }
        }
        Ok(())
    }

    /// A Markdown table.
    pub fn render(&self) -> String {
        let mib = self.len >> 20;
        let mut text = format!("| log of {mib} MiB, MiB/s |");
        for way in &self.ways {
            text += &format!(" {} |", way.name());
        }
        text += &format!("\n|---|{}\n", "--:|".repeat(self.ways.len()));
        for ((name, _), cells) in LOGS.iter().zip(&self.cells) {
            text += &format!("| {name} |");
            for samples in cells {
                text += &format!(" {:.0} |", mib as f64 / median(samples));
            }
            text.push('\n');
        }
        text += "\n";
        for (way, other) in [
            (Way::Engine, Way::Secrethider),
            (Way::Engine, Way::SecrethiderAll),
            (Way::Engine, Way::SyslogNg),
            (Way::Engine, Way::Sed),
            (Way::Grate, Way::Engine),
        ] {
            let column = |way| self.ways.iter().position(|one| *one == way);
            let (Some(way_at), Some(other_at)) = (column(way), column(other)) else {
                continue;
            };
            let ratios: Vec<_> = self
                .cells
                .iter()
                .map(|cells| format!("{:.2}", median(&cells[other_at]) / median(&cells[way_at])))
                .collect();
            let (way, other) = (way.name(), other.name());
            text += &format!("Speed of {way} ÷ {other}: {}.\n", ratios.join(", "));
        }
        text
    }
}

fn secrethider(install: &Install) -> PathBuf {
    install.python_tool("secrethider-redact")
}

#[allow(clippy::unnecessary_wraps)] // As the others.
fn engine(filter: &Arc<Filter>, log: &[u8]) -> Result<f64> {
    let start = Instant::now();
    let mut stream = filter.stream();
    let mut out = Vec::with_capacity(2 * WRITE);
    for write in log.chunks(WRITE) {
        out.clear();
        let _ = stream.push(write, &mut out);
        std::hint::black_box(&out);
        stream.take_events();
    }
    stream.finish(&mut out);
    Ok(start.elapsed().as_secs_f64())
}

fn in_cage(install: &Install, root: &Path, grate: &[&str]) -> Result<f64> {
    let line = grate
        .iter()
        .copied()
        .chain(["bench_log.cwasm", "/log", "/out"]);
    let line: Vec<String> = line.map(str::to_owned).collect();
    let printed = install.run_cages(root, &line)?;
    let nanoseconds: f64 = printed.trim().parse()?;
    let (before, after) = (root.join("log"), root.join("out"));
    ensure!(
        fs::metadata(before)?.len() == fs::metadata(&after)?.len(),
        "what was written has another length"
    );
    fs::remove_file(after)?;
    Ok(nanoseconds / 1e9)
}

/// The time of syslog-ng from its start until all lines are in a file, its end included.
fn syslog_ng(directory: &Path, log: &[u8]) -> Result<f64> {
    let place = |name: &str| directory.join(name).display().to_string();
    let rewrites = REWRITES.iter().map(|pattern| {
        format!(
            "subst(\"{pattern}\", \"***\", value(\"MESSAGE\"), type(\"pcre\"), flags(\"global\"));"
        )
    });
    let out = place("syslog-ng.out");
    // Whose the file is, and who may read it, is left alone.
    let settings = format!(
        "@version: 3.38\noptions {{ log-msg-size(65536); stats-freq(0); perm(-1); owner(-1); group(-1); }};\n\
         source s {{ stdin(flags(no-parse)); }};\nrewrite r {{ {} }};\n\
         destination d {{ file(\"{out}\" template(\"$MESSAGE\\n\")); }};\n\
         log {{ source(s); rewrite(r); destination(d); flags(flow-control); }};\n",
        rewrites.collect::<String>()
    );
    fs::write(place("syslog-ng.conf"), settings)?;
    let start = Instant::now();
    let mut child = Command::new(SYSLOG_NG)
        .args(["-F", "--no-caps", "-f", &place("syslog-ng.conf")])
        .args([
            "-R",
            &place("syslog-ng.persist"),
            "-c",
            &place("syslog-ng.ctl"),
        ])
        .args(["-p", &place("syslog-ng.pid")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(log)?;
    }
    let status = child.wait()?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(status.success(), "{status}");
    let lines = |text: &[u8]| text.iter().filter(|&&byte| byte == b'\n').count();
    ensure!(lines(&fs::read(&out)?) >= lines(log), "lines are lost");
    fs::remove_file(out)?;
    Ok(seconds)
}

/// The time of a program that writes to nowhere, its start included.
fn tool(command: &mut Command) -> Result<f64> {
    let nowhere = File::options().write(true).open("/dev/null")?;
    let start = Instant::now();
    let status = command.stdout(nowhere).stderr(Stdio::null()).status()?;
    ensure!(status.success(), "{status}");
    Ok(start.elapsed().as_secs_f64())
}
