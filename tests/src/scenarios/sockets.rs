//! Sockets of cages: against the host's kernel, between runs, and in networks of all sizes.

use super::trial;
use crate::fixture::{Fixture, Ran, Run, compile_for_wasi};
use anyhow::Context;
use libtest_mimic::Trial;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

#[path = "../../cages/src/socket_ops.rs"]
mod socket_ops;

use socket_ops::{Kernel, Player};

/// Calls in one sequence.
const CALLS: u32 = 300;
/// Sequences in one test; `E2E_MODEL_SEEDS` names another number, for a long search.
const SEEDS: u64 = 60;
/// Sequences under crypt-grate: they wait for handshakes.
const SEALED_SEEDS: u64 = 20;
/// How often a sequence is played that differs. When bytes arrive is the network's affair, also
/// within one machine: what differs for that reason alone does not do so again and again.
const TRIES: usize = 4;

/// What stands between the program and the kernel.
const SETTINGS: &[&[&str]] = &[
    &[],
    &["geteuid-grate.cwasm"],
    &["strace-grate.cwasm", "--trace", "socket,close"],
    &["crypt-grate.cwasm", "--key", "/k.bin"],
    &["virtual_grate.cwasm"],
];
/// How long a sealed connection is given for its handshake, in milliseconds: a plain one takes
/// bytes that arrive at once.
const HANDSHAKE: &str = "12";

pub(super) fn trials() -> Vec<Trial> {
    let seeds = std::env::var("E2E_MODEL_SEEDS")
        .ok()
        .and_then(|seeds| seeds.parse().ok());
    let mut trials = Vec::new();
    for (index, grates) in SETTINGS.iter().enumerate() {
        let outer = grates
            .first()
            .map_or("runtime", |grate| grate.trim_end_matches(".cwasm"));
        for strict in [false, true] {
            let mode = if strict { " (strict)" } else { "" };
            let seeds = seeds.unwrap_or(if is_sealed(grates) {
                SEALED_SEEDS
            } else {
                SEEDS
            });
            let first = (2 * index as u64 + u64::from(strict)) * 1_000_000 + 1;
            trials.push(trial(
                format!("{outer}/random socket calls{mode}"),
                move || (first..first + seeds).try_for_each(|seed| compare(grates, strict, seed)),
            ));
        }
    }
    for strict in [false, true] {
        let mode = if strict { " (strict)" } else { "" };
        trials.push(trial(
            format!("runtime/TCP between two runs{mode}"),
            move || tcp_between_runs(strict),
        ));
        trials.push(trial(
            format!("runtime/UNIX between two runs{mode}"),
            move || unix_between_runs(strict),
        ));
        trials.push(trial(format!("runtime/networks{mode}"), move || {
            networks(strict)
        }));
    }
    let grates: [(&str, &[&str]); 3] = [
        ("plain", &[]),
        ("under strace-grate", &["strace-grate.cwasm"]),
        (
            "under two grates",
            &["geteuid-grate.cwasm", "strace-grate.cwasm"],
        ),
    ];
    for (name, grates) in grates {
        trials.push(trial(format!("wasi/a server in C, {name}"), move || {
            server(grates)
        }));
    }
    trials
}

fn run(fixture: &Fixture, strict: bool, options: &[&str], args: &[&str]) -> anyhow::Result<Ran> {
    let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
    fixture.start(&Run {
        strict,
        options: owned(options),
        args: owned(args),
        ..Run::default()
    })
}

/// An address of this machine that nobody listens on, nor is given by the kernel, which chooses
/// higher ports for others that run at the same time.
pub(super) fn free_address() -> anyhow::Result<SocketAddr> {
    const PORTS: std::ops::Range<u32> = 10_000..30_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in PORTS {
        let index = std::process::id().wrapping_mul(101) + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + index % (PORTS.end - PORTS.start);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port as u16));
        // Not by listening: a process that another test starts just then would hold the socket for
        // a moment longer, and who connects to it waits for nobody.
        if TcpStream::connect(address).is_err() {
            return Ok(address);
        }
    }
    anyhow::bail!("all ports are in use")
}

/// Tries again and again until it works.
pub(super) fn soon<T>(act: impl Fn() -> anyhow::Result<T>) -> anyhow::Result<T> {
    const PATIENCE: Duration = Duration::from_secs(30);
    let start = Instant::now();
    loop {
        match act() {
            Err(_) if start.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(10)),
            other => return other,
        }
    }
}

/// Runs something while something else happens.
pub(super) fn beside<T: Send>(
    work: impl FnOnce() -> anyhow::Result<Ran> + Send,
    meanwhile: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<(Ran, T)> {
    thread::scope(|scope| {
        let work = scope.spawn(work);
        let meanwhile = meanwhile();
        let ran = work
            .join()
            .map_err(|_| anyhow::anyhow!("a run panicked"))??;
        match meanwhile {
            Ok(value) => Ok((ran, value)),
            Err(error) => Err(error.context(format!("beside {ran:?}"))),
        }
    })
}

fn tcp_between_runs(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let at = free_address()?.to_string();
    for grates in [&[][..], &["geteuid-grate.cwasm"]] {
        let serve = [grates, &["tcp_echo.cwasm", "serve", &at, "2"]].concat();
        let (served, ()) = beside(
            || run(&fixture, strict, &[], &serve),
            || {
                let ask = [grates, &["tcp_echo.cwasm", "ask", &at, "a question"]].concat();
                soon(|| run(&fixture, strict, &[], &ask)?.expect(0))?;
                // And who is no cage at all.
                let mut stream = TcpStream::connect(&at)?;
                stream.write_all(b"from the host")?;
                stream.shutdown(Shutdown::Write)?;
                let mut text = String::new();
                stream.read_to_string(&mut text)?;
                anyhow::ensure!(text == "from the host", "{text}");
                Ok(())
            },
        )?;
        served.expect(0)?;
    }
    Ok(())
}

fn unix_between_runs(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let (answered, asked) = beside(
        || {
            run(
                &fixture,
                strict,
                &[],
                &["mailbox.cwasm", "answer", "/tmp/answers"],
            )
        },
        || {
            soon(|| Ok(std::fs::metadata(fixture.path("tmp/answers"))?))?;
            let ask = [
                "mailbox.cwasm",
                "ask",
                "/tmp/asks",
                "/tmp/answers",
                "how are you",
            ];
            run(&fixture, strict, &[], &ask)?.expect(0)
        },
    )?;
    let heard = answered.expect(0)?.text();
    anyhow::ensure!(heard.ends_with("how are you from /tmp/asks\n"), "{heard}");
    let heard = asked.text();
    anyhow::ensure!(heard == "how are you! from /tmp/answers\n", "{heard}");
    Ok(())
}

fn networks(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    for net in ["all", "loopback"] {
        run(&fixture, strict, &["--net", net], &["tcp_echo.cwasm"])?.expect(0)?;
    }
    let ran = run(&fixture, strict, &["--net", "none"], &["tcp_echo.cwasm"])?.expect(1)?;
    anyhow::ensure!(ran.text() == "listen: Errno(13)\n", "{}", ran.text());
    // TEST-NET-1, where nobody is.
    let ask = ["tcp_echo.cwasm", "ask", "192.0.2.1:9", "hello"];
    let ran = run(&fixture, strict, &["--net", "loopback"], &ask)?.expect(1)?;
    anyhow::ensure!(ran.text() == "connect: Errno(101)\n", "{}", ran.text());
    Ok(())
}

/// A server in C, built by a stock WASI toolchain into a root.
pub(super) fn build_server(fixture: &Fixture) -> anyhow::Result<()> {
    compile_for_wasi("server.c", &fixture.path("bin/server.wasm"), &[])
}

fn server(grates: &[&str]) -> anyhow::Result<()> {
    /// What the server ends with when all went well.
    const DONE: i32 = 7;
    let fixture = Fixture::new()?;
    std::fs::write(fixture.path("greeting"), "welcome")?;
    build_server(&fixture)?;
    let at = free_address()?.to_string();
    let args = [grates, &["server.wasm"]].concat();
    let (ran, text) = beside(
        || run(&fixture, false, &["--listen", &at], &args),
        || {
            let mut stream = soon(|| Ok(TcpStream::connect(&at)?))?;
            let mut greeting = [0; 7];
            stream.read_exact(&mut greeting)?;
            anyhow::ensure!(&greeting == b"welcome", "{greeting:?}");
            let text = "some words ".repeat(10_000);
            let mut reader = stream.try_clone()?;
            let sent = text.clone();
            let writer = thread::spawn(move || {
                stream.write_all(sent.as_bytes())?;
                stream.shutdown(Shutdown::Write)
            });
            let mut answer = String::new();
            reader.read_to_string(&mut answer)?;
            writer
                .join()
                .map_err(|_| anyhow::anyhow!("the writer panicked"))??;
            anyhow::ensure!(
                answer == text,
                "{} bytes came back, or others",
                answer.len()
            );
            Ok(text.len())
        },
    )?;
    anyhow::ensure!(text > 0, "nothing was sent");
    ran.expect(DONE).map(drop)
}

/// The kernel that this test runs on.
struct Host;

impl Kernel for Host {
    unsafe fn call(&self, nr: u32, args: &[u64]) -> Result<i32, i32> {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        let [a, b, c, d, e, f] = all;
        // SAFETY: by the caller.
        match unsafe { libc::syscall(i64::from(nr), a, b, c, d, e, f) } {
            -1 => Err(io::Error::last_os_error().raw_os_error().unwrap_or(0)),
            value => Ok(value as i32),
        }
    }

    fn address(&self, pointer: *const u8) -> u64 {
        pointer as u64
    }

    fn nowhere(&self) -> u64 {
        16 // The first page is never mapped.
    }
}

fn compare(grates: &[&str], strict: bool, seed: u64) -> anyhow::Result<()> {
    let mut difference = String::new();
    for _ in 0..TRIES {
        let place = tempfile::tempdir()?;
        let directory = place
            .path()
            .to_str()
            .context("an odd temporary directory")?;
        let plain = Player::new(&Host, directory, seed, !strict).play(CALLS);
        let caged = play(grates, strict, seed)?;
        let (plain, caged) = if is_sealed(grates) {
            (without_resets(&plain), without_resets(&caged))
        } else {
            (plain, caged)
        };
        if plain == caged {
            return Ok(());
        }
        let (at, (expected, got)) = plain
            .lines()
            .zip(caged.lines())
            .enumerate()
            .find(|(_, (expected, got))| expected != got)
            .unwrap_or((0, ("(the end)", "(the end)")));
        let before: Vec<&str> = plain.lines().take(at).collect();
        let before = before[before.len().saturating_sub(30)..].join("\n");
        difference = format!("after\n{before}\nhost: {expected}\ncage: {got}");
    }
    anyhow::bail!("seed {seed}: {difference}")
}

fn is_sealed(grates: &[&str]) -> bool {
    grates.contains(&"crypt-grate.cwasm")
}

/// A story that does not tell by which error a connection was lost whose other end is closed. The
/// end that a sealed connection sends is data, and data is answered by a reset there, where an end
/// of the kernel's own is not.
fn without_resets(story: &str) -> String {
    let mut kept = String::new();
    for line in story.lines() {
        let is_poll = line.contains(": poll(") || line.contains(": epoll_wait(");
        let is_socket_error = line.contains(", 1, 4, ") && line.contains(": get(");
        if is_socket_error {
            continue;
        }
        let mut line = line.replace("Err(104)", "Err(32)");
        if is_poll {
            for (with, without) in [("18", "10"), ("19", "11"), ("1c", "14"), ("1d", "15")] {
                line = line.replace(&format!("[{with}, "), &format!("[{without}, "));
            }
        }
        kept.push_str(&line);
        kept.push('\n');
    }
    kept
}

fn play(grates: &[&str], strict: bool, seed: u64) -> anyhow::Result<String> {
    let fixture = Fixture::new()?;
    std::fs::create_dir(fixture.path("work"))?;
    let mut args: Vec<String> = grates.iter().map(|&arg| arg.to_owned()).collect();
    args.extend(["socket_ops.cwasm".to_owned(), "/work".to_owned()]);
    args.extend([seed.to_string(), CALLS.to_string()]);
    if is_sealed(grates) {
        fixture.make_key("/k.bin")?;
        args.push(HANDSHAKE.to_owned());
    }
    let ran = fixture
        .start(&Run {
            strict,
            args,
            ..Run::default()
        })?
        .expect(0)?;
    Ok(ran.text())
}
