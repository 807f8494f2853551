//! fs-routing-clamp and net-routing-clamp: grates that see a part of what a program does.

use super::trial;
use crate::fixture::{Fixture, Ran, Run, words};
use anyhow::ensure;
use libtest_mimic::Trial;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::fs::symlink;

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for strict in [false, true] {
        let mode = if strict { " (strict)" } else { "" };
        let mut add = |name: &str, test: fn(bool) -> anyhow::Result<()>| {
            trials.push(trial(format!("{name}{mode}"), move || test(strict)));
        };
        add("fs-routing-clamp/what is below is sealed", sealed);
        add("fs-routing-clamp/two keys", two_keys);
        add("fs-routing-clamp/grates of all kinds", kinds);
        add("fs-routing-clamp/ways over the border", border);
        add("fs-routing-clamp/a symlink that turns", turning);
        add("fs-routing-clamp/a name that turns", turncoat);
        add("fs-routing-clamp/files of the grates inside", private);
        add("net-routing-clamp/ports that are sealed", ports);
        add("net-routing-clamp/programs of all kinds", programs);
    }
    // Strict mode ends who calls what Lind does not serve.
    trials.push(trial(
        "fs-routing-clamp/numbers of grates inside".to_owned(),
        || numbers(false),
    ));
    trials.push(trial(
        "fs-routing-clamp/copies over the border".to_owned(),
        || copies(false),
    ));
    trials.push(trial(
        "fs-routing-clamp/command lines that are wrong".to_owned(),
        wrong,
    ));
    trials
}

const SEALS: &[&str] = &["crypt-grate.cwasm", "--key", "/k.bin"];
const MAGIC: &[u8] = b"\xA7sealed";

fn clamp<'a>(prefix: &'a str, inside: &[&'a str]) -> Vec<&'a str> {
    let first = ["fs-routing-clamp.cwasm", "--prefix", prefix, "%{"];
    [&first, inside, &["%}"]].concat()
}

fn start(
    fixture: &Fixture,
    strict: bool,
    stack: &[&str],
    program: &[&str],
    input: &[u8],
) -> anyhow::Result<Ran> {
    fixture.start(&Run {
        strict,
        args: words(&[stack, program]),
        input,
        ..Run::default()
    })
}

fn vault() -> anyhow::Result<Fixture> {
    let fixture = Fixture::new()?;
    fixture.make_key("k.bin")?;
    fs::create_dir_all(fixture.path("vault/in"))?;
    Ok(fixture)
}

fn is_sealed(fixture: &Fixture, path: &str) -> anyhow::Result<bool> {
    Ok(fs::read(fixture.path(path))?.starts_with(MAGIC))
}

/// Files below are sealed, however their path is written; others are not.
fn sealed(strict: bool) -> anyhow::Result<()> {
    let fixture = vault()?;
    symlink("vault/in", fixture.path("short"))?;
    symlink("../tmp", fixture.path("vault/out"))?;
    let stack = clamp("/vault", SEALS);
    let input = b"a line that is written to many files\n".repeat(300);
    for (path, file, seals) in [
        ("/vault/a", "vault/a", true),
        ("/tmp/../vault//in/./b", "vault/in/b", true),
        ("/short/c", "vault/in/c", true),
        ("/tmp/d", "tmp/d", false),
        ("/vault/out/e", "tmp/e", false),
        ("/vault/../tmp/f", "tmp/f", false),
        ("/vaulted", "vaulted", false),
    ] {
        start(&fixture, strict, &stack, &["keep.cwasm", path], &input)?.expect(0)?;
        ensure!(is_sealed(&fixture, file)? == seals, "{path}");
        let shown = start(&fixture, strict, &stack, &["show.cwasm", path], b"")?.expect(0)?;
        ensure!(shown.out == input, "{path} reads back differently");
    }
    let crowd = ["crowd.cwasm", "/vault"];
    let ran = start(&fixture, strict, &stack, &crowd, b"")?.expect(0)?;
    ensure!(ran.text().contains("8 children done"), "{}", ran.text());
    Ok(())
}

/// A clamp behind a clamp, and one inside another.
fn two_keys(strict: bool) -> anyhow::Result<()> {
    const OTHER: &[&str] = &["crypt-grate.cwasm", "--key", "/other.bin"];
    let fixture = vault()?;
    fixture.make_key("other.bin")?;
    fs::create_dir(fixture.path("vault/t"))?;
    fs::create_dir(fixture.path("tmp/t"))?;
    let (first, second) = (clamp("/vault", SEALS), clamp("/tmp", OTHER));
    let stack = [&first[..], &second].concat();
    let input = b"with one key or the other\n".repeat(100);
    for path in ["/vault/a", "/tmp/a"] {
        start(&fixture, strict, &stack, &["keep.cwasm", path], &input)?.expect(0)?;
        ensure!(is_sealed(&fixture, path)?, "{path} is not sealed");
    }
    for (key, path, opens) in [
        (SEALS, "/vault/a", true),
        (OTHER, "/tmp/a", true),
        (SEALS, "/tmp/a", false),
        (OTHER, "/vault/a", false),
    ] {
        let shown = start(&fixture, strict, key, &["show.cwasm", path], b"")?;
        ensure!((shown.code == 0 && shown.out == input) == opens, "{path}");
    }
    for place in ["/vault/t", "/tmp/t"] {
        let ran = start(&fixture, strict, &stack, &["tour.cwasm", place], b"")?.expect(0)?;
        ensure!(ran.text().contains("tour done"), "{}", ran.text());
    }
    // One that is narrower, inside one that is wider.
    let filter = ["write-filter-grate.cwasm", "--redact", "tokens"];
    let inner = clamp("/vault/in", &filter);
    let stack = clamp("/vault", &inner);
    start(
        &fixture,
        strict,
        &stack,
        &["keep.cwasm", "/vault/in/b"],
        &input,
    )?
    .expect(0)?;
    fs::create_dir(fixture.path("vault/in/t"))?;
    for place in ["/vault/in/t", "/vault/t", "/tmp/t"] {
        let ran = start(&fixture, strict, &stack, &["tour.cwasm", place], b"")?.expect(0)?;
        ensure!(ran.text().contains("tour done"), "{}", ran.text());
    }
    Ok(())
}

/// Any grate stands inside, alone and with others.
fn kinds(strict: bool) -> anyhow::Result<()> {
    let fixture = vault()?;
    fs::write(
        fixture.path("limits"),
        "resource filewrite 5000000\nresource filesopened 30",
    )?;
    let limits = ["resource-grate.cwasm", "--limits", "/limits"];
    let filter = ["write-filter-grate.cwasm", "--redact", "tokens"];
    let trace = ["strace-grate.cwasm", "--trace", "chmod"];
    let inner = clamp("/tmp", &filter);
    let stacks: [Vec<&str>; 6] = [
        vec![],
        vec!["geteuid-grate.cwasm"],
        limits.to_vec(),
        [SEALS, &filter].concat(),
        [&trace[..], &inner, &filter].concat(),
        [&limits[..], SEALS, &trace].concat(),
    ];
    for inside in stacks {
        let stack = clamp("/vault", &inside);
        for (name, program, said) in [
            ("below", &["tour.cwasm", "/vault/t"][..], "tour done"),
            ("beside", &["tour.cwasm", "/tmp/t"], "tour done"),
            ("fork", &["spawner.cwasm", "/bin/geteuid.cwasm"], ""),
            ("signals", &["signals.cwasm"], "all as it should be"),
            (
                "sockets",
                &["socket_tour.cwasm", "/tmp"],
                "socket tour done",
            ),
        ] {
            for place in ["vault/t", "tmp/t"] {
                fs::create_dir_all(fixture.path(place))?;
            }
            let ran = start(&fixture, strict, &stack, program, b"")?;
            let ran = ran
                .expect(0)
                .map_err(|error| error.context(format!("{name} {inside:?}")))?;
            ensure!(
                ran.text().contains(said),
                "{name} {inside:?}: {}",
                ran.text()
            );
        }
    }
    // A grate further out that asks who calls finds the program, whatever the clamp put in its place.
    for outside in ["strace-grate.cwasm", "strace-c-grate.cwasm"] {
        let inside = clamp("/vault", &["geteuid-grate.cwasm"]);
        let stack = [&[outside][..], &inside].concat();
        for place in ["/vault/t", "/tmp/t"] {
            fs::create_dir_all(fixture.path(place))?;
            let ran = start(&fixture, strict, &stack, &["tour.cwasm", place], b"")?;
            let ran = ran.expect(0).map_err(|error| error.context(outside))?;
            ensure!(ran.text().contains("tour done"), "{}", ran.text());
        }
    }
    // What a grate answers that is about no file goes past it.
    let stack = clamp("/vault", &["geteuid-grate.cwasm"]);
    let ran = start(&fixture, strict, &stack, &["geteuid.cwasm"], b"")?.expect(0)?;
    ensure!(ran.text().trim() != "10", "geteuid went inside");
    // One that has all below it.
    let stack = clamp("/", SEALS);
    start(
        &fixture,
        strict,
        &stack,
        &["keep.cwasm", "/tmp/all"],
        b"text",
    )?
    .expect(0)?;
    ensure!(is_sealed(&fixture, "tmp/all")?);
    Ok(())
}

/// What the program's steps answer, in their last line.
fn steps(
    fixture: &Fixture,
    strict: bool,
    stack: &[&str],
    steps: &[&str],
    expected: &str,
) -> anyhow::Result<()> {
    let program = [&["steps.cwasm"], steps].concat();
    let ran = start(fixture, strict, stack, &program, b"")?.expect(0)?;
    let text = ran.text();
    let last = text.lines().last().unwrap_or_default();
    ensure!(
        last == expected,
        "{last:?} instead of {expected:?}\n{}",
        ran.err
    );
    Ok(())
}

/// No file gets over the border by a name, and what leads to the prefix stays.
fn border(strict: bool) -> anyhow::Result<()> {
    let fixture = vault()?;
    fs::create_dir_all(fixture.path("top/mid/vault"))?;
    fs::write(fixture.path("tmp/plain"), "plain")?;
    let stack = clamp("/top/mid/vault", SEALS);
    let all = [
        "open /top/mid/vault/f rw+c",
        "write what nobody reads",
        "link /top/mid/vault/f /tmp/f",
        "rename /top/mid/vault/f /tmp/f",
        "rename /tmp/plain /top/mid/vault/plain",
        "link /tmp/plain /top/mid/vault/plain",
        "rename /top/mid /tmp/mid",
        "rename /top /other",
        "rename /top/mid/vault /top/mid/v",
        "rmdir /top/mid/vault",
        "rename /tmp /top/mid",
        "rename /top/mid/vault/f /top/mid/vault/g",
        "link /top/mid/vault/g /top/mid/vault/h",
        "chdir /top/mid/vault",
        "open g r",
        "open ../../../tmp/plain rw",
        "write more",
        "open ../vault/i rw+c",
        "write what nobody reads",
        "symlink /top/mid/vault/g /tmp/way",
        "open /tmp/way rw+a",
        "write what nobody reads",
        "truncate /tmp/way 4",
        "unlink /top/mid/vault/h",
    ];
    let expected = "ok ok 18 18 18 18 16 16 16 16 16 ok ok ok ok ok ok ok ok ok ok ok ok ok";
    steps(&fixture, strict, &stack, &all, expected)?;
    for file in ["g", "i"] {
        ensure!(
            is_sealed(&fixture, &format!("top/mid/vault/{file}"))?,
            "{file}"
        );
    }
    ensure!(fs::read(fixture.path("tmp/plain"))? == b"moren");
    fixture.ensure_nowhere(b"what nobody reads")?;
    let shown = start(
        &fixture,
        strict,
        SEALS,
        &["show.cwasm", "/top/mid/vault/g"],
        b"",
    )?;
    ensure!(shown.expect(0)?.out == b"what");
    // A prefix that is not there yet comes to be a folder and nothing else.
    let stack = clamp("/new/vault", SEALS);
    let all = [
        "symlink /tmp /new",
        "mkdir /new",
        "symlink /tmp /new/vault",
        "mkdir /new/vault",
        "symlink /tmp /new/vault",
        "open /new/vault/f rw+c",
        "write what nobody reads",
    ];
    steps(&fixture, strict, &stack, &all, "16 ok 16 ok 17 ok ok")?;
    ensure!(is_sealed(&fixture, "new/vault/f")?);
    Ok(())
}

/// A symlink that leads out at one moment and in at the next: what is written through it is sealed
/// where it is below, and only there.
fn turning(strict: bool) -> anyhow::Result<()> {
    let fixture = vault()?;
    symlink("/tmp", fixture.path("tmp/way"))?;
    let stack = clamp("/vault", SEALS);
    let program = ["weathercock.cwasm", "/tmp/way", "/tmp", "/vault/in", "400"];
    let ran = start(&fixture, strict, &stack, &program, b"")?.expect(0)?;
    ensure!(ran.text().contains("turned"), "{}", ran.text());
    let mut files = 0;
    for entry in fs::read_dir(fixture.path("vault/in"))? {
        let path = entry?.path();
        if path.is_file() {
            let bytes = fs::read(&path)?;
            let told = path.display();
            ensure!(bytes.is_empty() || bytes.starts_with(MAGIC), "{told}");
            ensure!(!bytes.windows(4).any(|four| four == b"read"), "{told}");
            files += 1;
        }
    }
    ensure!(files > 0, "nothing was written below");
    Ok(())
}

/// The program gets no further with the key of a grate inside than without the clamp, wherever it is.
fn private(strict: bool) -> anyhow::Result<()> {
    let inside = ["crypt-grate.cwasm", "--key", "/way/keys/k.bin"];
    let net = ["net-routing-clamp.cwasm", "--port", "1-65535", "%{"];
    for stack in [
        clamp("/vault", &inside),
        [&net[..], &inside, &["%}"]].concat(),
        clamp("/outer", &clamp("/vault", &inside)),
    ] {
        let fixture = Fixture::new()?;
        fs::create_dir_all(fixture.path("safe/keys"))?;
        fs::create_dir_all(fixture.path("vault"))?;
        fs::create_dir(fixture.path("empty"))?;
        let key = fs::read(fixture.make_key("/safe/keys/k.bin")?)?;
        symlink("safe", fixture.path("way"))?;
        symlink("../safe/keys/k.bin", fixture.path("tmp/short"))?;
        let all = [
            "open /safe/keys/k.bin r",
            "open /tmp/short r",
            "chdir /way/keys",
            "open k.bin rw",
            "truncate k.bin 0",
            "link k.bin /tmp/k",
            "rename k.bin /tmp/k.bin",
            "rename /safe /other",
            "rename /way /tmp/way",
            "unlink /way",
            "rename /empty /safe/keys",
            "symlink /tmp /tmp/new",
            "rename /tmp/new /way",
            "rename /empty /tmp/empty",
        ];
        let expected = "13 13 ok 13 13 13 13 13 13 13 13 ok 13 ok";
        steps(&fixture, strict, &stack, &all, expected)?;
        ensure!(fs::read(fixture.path("way/keys/k.bin"))? == key);
        let fixture = vault()?;
        let key = fs::read(fixture.path("k.bin"))?;
        fs::hard_link(fixture.path("k.bin"), fixture.path("hard"))?;
        symlink("k.bin", fixture.path("soft"))?;
        let stack: Vec<&str> = stack
            .iter()
            .map(|&word| {
                if word == "/way/keys/k.bin" {
                    "/k.bin"
                } else {
                    word
                }
            })
            .collect();
        start(&fixture, strict, &stack, &["key_thief.cwasm"], b"")?.expect(0)?;
        let races = ["races.cwasm", "memory", "/k.bin", "/x.bin", "100"];
        let ran = start(&fixture, strict, &stack, &races, b"")?.expect(0)?;
        ensure!(ran.text().contains("memory 0"), "{}", ran.text());
        ensure!(fs::read(fixture.path("k.bin"))? == key);
    }
    Ok(())
}

/// A name that is a file beside at one moment and a symlink to one below at the next: what is told
/// of it is the plaintext's size or the other file's, and a cut is that of the plaintext.
fn turncoat(strict: bool) -> anyhow::Result<()> {
    const TEXT: &[u8] = &[b'x'; 5000];
    let fixture = vault()?;
    let stack = clamp("/vault", SEALS);
    start(
        &fixture,
        strict,
        &stack,
        &["keep.cwasm", "/vault/secret"],
        TEXT,
    )?
    .expect(0)?;
    let sealed = fs::metadata(fixture.path("vault/secret"))?.len();
    let program = ["turncoat.cwasm", "/tmp/name", "/vault/secret", "2000"];
    let ran = start(&fixture, strict, &stack, &program, b"")?.expect(0)?;
    let text = ran.text();
    let sizes: Vec<u64> = serde_json::from_str(&text.replace('{', "[").replace('}', "]"))?;
    ensure!(!sizes.contains(&sealed), "{sealed} is among {sizes:?}");
    for size in [4, 5000] {
        ensure!(sizes.contains(&size), "{size} is not among {sizes:?}");
    }
    let show = ["show.cwasm", "/vault/secret"];
    let shown = start(&fixture, strict, &stack, &show, b"")?.expect(0)?;
    ensure!(
        shown.out == TEXT[..100],
        "{} bytes are left",
        shown.out.len()
    );
    Ok(())
}

/// The numbers by which a clamp calls the grates inside are nobody else's.
fn numbers(strict: bool) -> anyhow::Result<()> {
    let fixture = vault()?;
    let inner = clamp("/tmp", &["strace-grate.cwasm", "--trace", "chmod"]);
    let stack = clamp("/vault", &[SEALS, &inner].concat());
    let ran = start(&fixture, strict, &stack, &["numbers.cwasm"], b"")?.expect(0)?;
    ensure!(ran.text().contains("no number is served"), "{}", ran.text());
    Ok(())
}

/// Between files of both sides nothing is copied past those who write, and programs are told so in
/// the words that make them read and write instead.
fn copies(strict: bool) -> anyhow::Result<()> {
    let fixture = vault()?;
    fs::write(fixture.path("tmp/plain"), "plain")?;
    fs::write(fixture.path("tmp/other"), "")?;
    let all = [
        "open /vault/f rw+c",
        "write sealed",
        "open /vault/f r",
        "copy /tmp/other",
        "open /tmp/plain r",
        "copy /vault/f",
        "copy /tmp/other",
    ];
    let stack = clamp("/vault", SEALS);
    let expected = "ok ok ok 18 ok 18 ok";
    steps(&fixture, strict, &stack, &all, expected)?;
    ensure!(fs::read(fixture.path("tmp/other"))? == b"plai");
    ensure!(is_sealed(&fixture, "vault/f")?);
    Ok(())
}

/// What goes to a port of the clamp is sealed, and nothing else is.
fn ports(strict: bool) -> anyhow::Result<()> {
    let fixture = vault()?;
    const WORDS: &[u8] = b"words in the clear";
    const WAYS: usize = 8;
    // One port for both kinds.
    let stream = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = stream.local_addr()?.port();
    let messages = UdpSocket::bind((Ipv4Addr::LOCALHOST, port))?;
    messages.set_nonblocking(true)?;
    for is_inside in [true, false] {
        let ports = match is_inside {
            true => port.to_string(),
            false => format!("1-{},{}-65535", port - 1, port + 1),
        };
        let options: Vec<&str> = ports
            .split(',')
            .flat_map(|range| ["--port", range])
            .collect();
        let stack = [
            &["net-routing-clamp.cwasm"],
            &options[..],
            &["%{"],
            SEALS,
            &["%}"],
        ]
        .concat();
        let number = port.to_string();
        let program = ["words.cwasm", &number];
        let heard = std::thread::scope(|scope| {
            let heard = scope.spawn(|| -> std::io::Result<Vec<u8>> {
                let (mut peer, _) = stream.accept()?;
                let mut bytes = vec![0; WORDS.len()];
                peer.read_exact(&mut bytes)?;
                Ok(bytes)
            });
            let ran = start(&fixture, strict, &stack, &program, b"")?.expect(0)?;
            ensure!(ran.text().contains("sent"), "{}", ran.err);
            let heard = heard
                .join()
                .map_err(|_| anyhow::anyhow!("nobody listened"))?;
            Ok(heard?)
        })?;
        ensure!(
            (heard == WORDS) != is_inside,
            "a stream, inside: {is_inside}"
        );
        let mut all = Vec::new();
        let mut message = [0; 2000];
        while let Ok(len) = messages.recv(&mut message) {
            all.push(message[..len].to_vec());
        }
        ensure!(all.len() == WAYS, "{} messages came", all.len());
        let clear = all.iter().filter(|message| *message == WORDS).count();
        let hidden = |message: &&Vec<u8>| !message.windows(5).any(|five| five == b"words");
        let expected = if is_inside { 0 } else { WAYS };
        ensure!(
            clear == expected,
            "{clear} in the clear, inside: {is_inside}"
        );
        ensure!(all.iter().filter(hidden).count() == WAYS - expected);
    }
    Ok(())
}

/// Programs run as without a clamp, whatever stands inside.
fn programs(strict: bool) -> anyhow::Result<()> {
    let fixture = vault()?;
    fs::write(
        fixture.path("limits"),
        "resource loopsend 50000000\nresource outsockets 200",
    )?;
    let limits = ["resource-grate.cwasm", "--limits", "/limits"];
    let stacks = [
        ("1-65535", SEALS),
        ("1-65535", &limits[..]),
        ("45000", &["strace-grate.cwasm", "--trace", "chmod"]),
    ];
    for (ports, inside) in stacks {
        let first = ["net-routing-clamp.cwasm", "--port", ports, "%{"];
        let stack = [&first[..], inside, &["%}"]].concat();
        for (program, said) in [
            (&["tcp_echo.cwasm"][..], "echo done"),
            (&["tour.cwasm", "/tmp/t"], "tour done"),
            (&["signals.cwasm"], "all as it should be"),
            (&["kills.cwasm"], ""),
        ] {
            fs::create_dir_all(fixture.path("tmp/t"))?;
            let ran = start(&fixture, strict, &stack, program, b"")?;
            let told = format!("{program:?} {inside:?}");
            let ran = ran.expect(0).map_err(|error| error.context(told.clone()))?;
            ensure!(ran.text().contains(said), "{told}: {}", ran.text());
        }
    }
    // Both clamps.
    let net = [
        "net-routing-clamp.cwasm",
        "--port",
        "1-65535",
        "%{",
        limits[0],
        limits[1],
        limits[2],
        "%}",
    ];
    let stack = [&clamp("/vault", SEALS)[..], &net].concat();
    start(
        &fixture,
        strict,
        &stack,
        &["keep.cwasm", "/vault/a"],
        b"text",
    )?
    .expect(0)?;
    ensure!(is_sealed(&fixture, "vault/a")?);
    let tour = start(
        &fixture,
        strict,
        &stack,
        &["socket_tour.cwasm", "/tmp"],
        b"",
    )?
    .expect(0)?;
    ensure!(tour.text().contains("socket tour done"));
    Ok(())
}

/// What is wrong with a command line is told, and nothing runs.
fn wrong() -> anyhow::Result<()> {
    let fixture = vault()?;
    for (args, told) in [
        (
            &["--prefix", "/vault", "hello.cwasm"][..],
            "the grates inside are missing",
        ),
        (&["--prefix", "/vault", "%{", "hello.cwasm"], "nothing ends"),
        (&["--prefix", "/vault", "%{", "%}"], "there is no program"),
        (
            &["--prefix", "vault", "%{", "%}", "hello.cwasm"],
            "must begin with a slash",
        ),
        (&["%{", "%}", "hello.cwasm"], "--prefix"),
    ] {
        let ran = fixture
            .run(&[&["fs-routing-clamp.cwasm"], args].concat())?
            .expect(64)?;
        ensure!(ran.err.contains(told) && ran.out.is_empty(), "{}", ran.err);
    }
    let net = ["net-routing-clamp.cwasm", "--port"];
    for port in ["0", "9-8", "70000", "x"] {
        let rest = [port, "%{", "%}", "hello.cwasm"];
        let ran = fixture.run(&[&net[..], &rest].concat())?.expect(64)?;
        ensure!(ran.err.contains("must be a port"), "{}", ran.err);
    }
    let gone = ["--prefix", "/vault", "%{", "%}", "no-such.cwasm"];
    let ran = fixture
        .run(&[&["fs-routing-clamp.cwasm"], &gone[..]].concat())?
        .expect(1)?;
    ensure!(ran.out.is_empty());
    Ok(())
}
