//! Connections: between two cages without a grate, sealed by crypt-grate at both ends, and through
//! stunnel at both ends, by the same programs.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::install::Install;
use crate::results::median;

const PROGRAM: &str = "bench_net.cwasm";
/// Connections that are held to find out what memory one takes.
const HELD: u64 = 480;

/// What is measured: the other end's part of the command line, and the name.
struct Row {
    name: &'static str,
    unit: &'static str,
    args: Vec<String>,
    /// What a row shows of the nanoseconds.
    shown: fn(f64, u64) -> f64,
    bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    NoGrate,
    Sealed,
    Stunnel,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::NoGrate => "no grate",
            Self::Sealed => "crypt-grate",
            Self::Stunnel => "stunnel",
        }
    }
}

/// All samples.
pub struct Results {
    rows: Vec<Row>,
    ways: Vec<Way>,
    cells: Vec<Vec<Vec<f64>>>,
    held: Vec<(Way, f64)>,
}

impl Results {
    /// None yet.
    pub fn new(quick: bool) -> Self {
        let bulk: u64 = if quick { 64 << 20 } else { 512 << 20 };
        let count = if quick { "500" } else { "5000" };
        let rate: fn(f64, u64) -> f64 = |ns, bytes| bytes as f64 / (1 << 20) as f64 / (ns / 1e9);
        let time: fn(f64, u64) -> f64 = |ns, _| ns / 1e3;
        let row = |name, unit, args: &[&str], shown, bytes| Row {
            name,
            unit,
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            shown,
            bytes,
        };
        let rows = vec![
            row("bulk", "MiB/s", &["bulk", &bulk.to_string()], rate, bulk),
            row(
                "64 bytes there and back",
                "µs",
                &["ping", "64", count],
                time,
                64,
            ),
            row(
                "16 KiB there and back",
                "µs",
                &["ping", "16384", count],
                time,
                16384,
            ),
        ];
        let mut ways = vec![Way::NoGrate, Way::Sealed];
        if stunnel().is_some() {
            ways.push(Way::Stunnel);
        }
        let cells = rows.iter().map(|_| vec![Vec::new(); ways.len()]).collect();
        Self {
            rows,
            ways,
            cells,
            held: Vec::new(),
        }
    }

    /// Measures once more; the ways take turns.
    pub fn round(&mut self, install: &Install, directory: &Path) -> Result<()> {
        let place = Place::new(install, directory)?;
        for (column, way) in self.ways.iter().enumerate() {
            let ends = place
                .serve(*way, self.rows.len())
                .with_context(|| format!("connections, {}", way.name()))?;
            for (row, cells) in self.rows.iter().zip(&mut self.cells) {
                let sample = ends
                    .ask(&row.args)
                    .with_context(|| format!("{}, {}", row.name, way.name()))?;
                cells[column].push(sample);
            }
        }
        if self.held.is_empty() {
            for way in [Way::NoGrate, Way::Sealed] {
                self.held.push((way, place.memory_of_one(way)?));
            }
        }
        Ok(())
    }

    /// A Markdown table.
    pub fn render(&self) -> String {
        let mut text = "| connections, median |".to_owned();
        for way in &self.ways {
            text += &format!(" {} |", way.name());
        }
        if self.ways.contains(&Way::Stunnel) {
            text += " stunnel's time ÷ crypt-grate's |";
        }
        text += &format!("\n|---|{}\n", "--:|".repeat(text.matches('|').count() - 2));
        for (row, cells) in self.rows.iter().zip(&self.cells) {
            text += &format!("| {}, {} |", row.name, row.unit);
            let times: Vec<f64> = cells.iter().map(|samples| median(samples)).collect();
            for ns in &times {
                text += &format!(" {:.0} |", (row.shown)(*ns, row.bytes));
            }
            if let [_, sealed, stunnel] = times[..] {
                text += &format!(" {:.2} |", stunnel / sealed);
            }
            text.push('\n');
        }
        for (way, bytes) in &self.held {
            text += &format!(
                "\nMemory for one end of an idle connection, {}: {:.1} KiB.\n",
                way.name(),
                bytes / 1024.0
            );
        }
        text
    }
}

fn stunnel() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join("stunnel"))
        .find(|file| file.exists())
}

/// A root with the programs and a key, and a directory for stunnel's files.
struct Place<'a> {
    install: &'a Install,
    root: PathBuf,
}

/// Programs that serve, killed when dropped, and where they do.
struct Ends<'a> {
    place: &'a Place<'a>,
    way: Way,
    at: SocketAddr,
    children: Vec<Child>,
}

impl<'a> Place<'a> {
    fn new(install: &'a Install, directory: &Path) -> Result<Self> {
        let root = directory.join("network");
        if !root.exists() {
            install.fill_root(&root)?;
            install.make_key(&root.join("k.bin"))?;
        }
        Ok(Self { install, root })
    }

    fn line(&self, way: Way, args: &[String]) -> Vec<String> {
        let grate: &[&str] = match way {
            Way::Sealed => &["crypt-grate.cwasm", "--key", "/k.bin"],
            Way::NoGrate | Way::Stunnel => &[],
        };
        let line = grate.iter().copied().chain([PROGRAM]);
        line.map(str::to_owned)
            .chain(args.iter().cloned())
            .collect()
    }

    fn serve(&'a self, way: Way, count: usize) -> Result<Ends<'a>> {
        let at = free_address()?;
        let args = ["serve", &at.to_string(), &count.to_string()].map(str::to_owned);
        let mut child = self.install.cages(&self.root, &self.line(way, &args));
        let child = child.stdout(Stdio::piped()).spawn()?;
        let mut ends = Ends {
            place: self,
            way,
            at,
            children: vec![child],
        };
        let said = ends.children[0].stdout.take().context("it is piped")?;
        BufReader::new(said).read_line(&mut String::new())?;
        if way == Way::Stunnel {
            ends.tunnel()?;
        }
        Ok(ends)
    }

    /// Bytes of memory of its own that one end of an idle connection takes.
    fn memory_of_one(&self, way: Way) -> Result<f64> {
        let none = self.resident(way, 1)?;
        let all = self.resident(way, HELD)?;
        Ok((all - none) / (2 * (HELD - 1)) as f64)
    }

    fn resident(&self, way: Way, count: u64) -> Result<f64> {
        let args = ["idle", &count.to_string()].map(str::to_owned);
        let mut child = self
            .install
            .cages(&self.root, &self.line(way, &args))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let said = child.stdout.take().context("it is piped")?;
        BufReader::new(said).read_line(&mut String::new())?;
        let status = fs::read_to_string(format!("/proc/{}/status", child.id()))?;
        if let Some(mut line) = child.stdin.take() {
            line.write_all(b"\n")?;
        }
        child.wait()?;
        let kilobytes = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))
            .and_then(|rest| rest.trim().split(' ').next()?.parse::<f64>().ok())
            .context("no RssAnon")?;
        Ok(1024.0 * kilobytes)
    }
}

impl Ends<'_> {
    /// Puts stunnel between: one that takes what the program sends, and one that hands it on.
    fn tunnel(&mut self) -> Result<()> {
        let program = stunnel().context("no stunnel")?;
        let (first, second) = (free_address()?, free_address()?);
        let secrets = self.place.root.join("psk");
        fs::write(&secrets, format!("bench:{}\n", "5a".repeat(16)))?;
        for (name, client, accept, connect) in [
            ("there", "no", second, self.at),
            ("here", "yes", first, second),
        ] {
            let file = self.place.root.join(format!("{name}.conf"));
            let text = format!(
                "foreground = yes\ndebug = 0\npid =\n[{name}]\nclient = {client}\n\
                 accept = {accept}\nconnect = {connect}\nciphers = PSK\nPSKsecrets = {}\n",
                secrets.display()
            );
            fs::write(&file, text)?;
            let child = Command::new(&program)
                .arg(&file)
                .stderr(Stdio::null())
                .spawn()?;
            self.children.push(child);
        }
        for at in [second, first] {
            listening(at)?;
        }
        self.at = first;
        Ok(())
    }

    /// Runs the other end, and answers the nanoseconds that it prints.
    fn ask(&self, args: &[String]) -> Result<f64> {
        let mut all = args.to_vec();
        all.insert(1, self.at.to_string());
        let install = self.place.install;
        let line = self.place.line(self.way, &all);
        let printed = install.run_cages(&self.place.root, &line)?;
        Ok(printed.trim().parse()?)
    }
}

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Waits until a port is taken, without connecting to it: that would be served.
fn listening(at: SocketAddr) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let start = Instant::now();
    while TcpListener::bind(at).is_ok() {
        if start.elapsed() > PATIENCE {
            bail!("stunnel does not listen");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
