//! The rules of write-filter-grate: files of them, their actions and scopes, paths that may not be
//! written, and the report.

use super::trial;
use crate::fixture::{Fixture, Ran, Run, repository};
use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for strict in [false, true] {
        let mode = if strict { " (strict)" } else { "" };
        let mut add = |name: &str, test: fn(bool) -> anyhow::Result<()>| {
            let name = format!("write-filter-grate/{name}{mode}");
            trials.push(trial(name, move || test(strict)));
        };
        add("each action does what it says", actions);
        add("a denied write leaves nothing", denied);
        add("a denied write leaves nothing in a file", denied_in_file);
        add(
            "a match counts when it is one, whatever made it one",
            in_place,
        );
        add(
            "a rule that only reports explains nothing",
            beside_each_other,
        );
        add("what is at a file's end is reported once", pending);
        add("a packet is judged as a whole", packets);
        add("what a killed program had for a file goes there", killed);
        add("rules apply in their scopes", scopes);
        add("rules apply to their paths", paths);
        add("a file does not get under other rules by its name", names);
        add("rules apply to their peers", peers);
        add("files that are only added to", append_only);
        add(
            "a file that is added to is not cut by closing it",
            closed_between,
        );
        add("secrets that are longer than most", long_ones);
        add("paths that may not be written", deny_write);
        add("the report", report);
        add("the grate's own files are closed to the program", closed);
    }
    for (name, test) in [
        (
            "the example of rules",
            example as fn() -> anyhow::Result<()>,
        ),
        ("bad rules: other files", bad_files),
    ] {
        trials.push(trial(format!("write-filter-grate/{name}"), test));
    }
    for (name, text, message) in BAD {
        trials.push(trial(
            format!("write-filter-grate/bad rules: {name}"),
            || bad_rules(text, message),
        ));
    }
    trials
}

/// Starts `steps` under the rules.
fn steps(
    fixture: &Fixture,
    strict: bool,
    rules: &str,
    options: &[&str],
    steps: &[&str],
) -> anyhow::Result<Ran> {
    let mut args = vec!["write-filter-grate.cwasm"];
    if !rules.is_empty() {
        fs::write(fixture.path("rules.toml"), rules)?;
        args.extend(["--rules", "/rules.toml"]);
    }
    // What is held is held for the next step, however slow the machine is.
    let args = [
        &args,
        options,
        &["--hold-ms", "60000", "steps.cwasm"],
        steps,
    ]
    .concat();
    fixture.start(&Run {
        strict,
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        ..Run::default()
    })
}

/// As [`steps`], with what the program says of them in the end.
fn told(
    fixture: &Fixture,
    strict: bool,
    rules: &str,
    options: &[&str],
    made: &[&str],
    expected: &str,
) -> anyhow::Result<Ran> {
    let ran = steps(fixture, strict, rules, options, made)?.expect(0)?;
    let text = ran.text();
    let last = text.lines().last().unwrap_or_default();
    ensure!(last == expected, "{made:?}: {last:?}\n{}", ran.err);
    Ok(ran)
}

fn content(fixture: &Fixture, path: &str) -> anyhow::Result<String> {
    fs::read_to_string(fixture.path(path)).with_context(|| path.to_owned())
}

fn hash_key(fixture: &Fixture) -> anyhow::Result<()> {
    let path = fixture.path("hash.key");
    fs::write(&path, [7; 32])?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(())
}

fn rule(action: &str, scope: &str) -> String {
    format!("[[rule]]\nname = 'pin'\nliterals = ['hunter2x']\naction = '{action}'\n{scope}\n")
}

fn actions(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    hash_key(&fixture)?;
    for (action, shown) in [
        ("mask", "a ******** b\n"),
        ("label", "a [REDACTED:pin] b\n"),
        ("hash", ""),
        ("keep-suffix:4", "a ******2x b\n"),
        ("drop", ""),
        ("audit", "a hunter2x b\n"),
    ] {
        let rules = rule(action, "scope = ['stdout']");
        let options = ["--hash-key", "/hash.key", "--verbose"];
        for made in [&["out a hunter2x b\n"][..], &["out a hunt", "out er2x b\n"]] {
            let ran = steps(&fixture, strict, &rules, &options, made)?.expect(0)?;
            let text = ran.text();
            let shown = match (action, made.len()) {
                // The first half was out when the second was swallowed.
                ("drop", 2) => "a hunt",
                _ => shown,
            };
            let text = text.trim_end_matches("ok ok\n").trim_end_matches("ok\n");
            if action == "hash" {
                ensure!(
                    text.starts_with("a [pin:") && text.ends_with("] b\n"),
                    "{text:?}"
                );
                ensure!(text.len() == "a [pin:] b\n".len() + 16, "{text:?}");
            } else {
                ensure!(text == shown, "{action}, {made:?}: {text:?}");
            }
            ensure!(ran.err.contains("secrets found: pin 1,"), "{}", ran.err);
        }
    }
    Ok(())
}

fn denied(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let rules = rule("deny", "");
    let made = ["out a hunter2x b\n", "err hunter2x", "out fine\n"];
    let ran = told(&fixture, strict, &rules, &["--verbose"], &made, "1 1 ok")?;
    ensure!(ran.text() == "fine\n1 1 ok\n", "{}", ran.text());
    ensure!(
        ran.err
            .contains("refused: a write with a match of rule pin"),
        "{}",
        ran.err
    );
    // What was there before the write that completes it is no secret yet.
    let made = ["out a hunt", "out er2x b\n", "out er3\n"];
    let ran = told(&fixture, strict, &rules, &[], &made, "ok 1 ok")?;
    ensure!(ran.text() == "a hunter3\nok 1 ok\n", "{}", ran.text());
    Ok(())
}

fn denied_in_file(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let rules = rule("deny", "");
    let made = [
        "open /tmp/f rw+c",
        "write hunter2x",
        "write a hunt",
        "write er2x",
        "write er3 ",
        "write er2x",
        // Before what is there.
        "pwrite 6 hunt",
        "pwrite 7 hunt",
    ];
    told(&fixture, strict, &rules, &[], &made, "ok 1 ok 1 ok ok 1 ok")?;
    let text = content(&fixture, "/tmp/f")?;
    ensure!(text == "a huntehuntr2x", "{text:?}");

    // What was there before stays, and what crosses it is seen.
    fs::write(fixture.path("tmp/g"), "hunter2x, hunt")?;
    let made = [
        "open /tmp/g rw",
        "pwrite 14 er2x",
        "pwrite 14 er3",
        "pwrite 0 HUNT",
    ];
    told(&fixture, strict, &rules, &[], &made, "ok 1 ok ok")?;
    let text = content(&fixture, "/tmp/g")?;
    ensure!(text == "HUNTer2x, hunter3", "{text:?}");
    Ok(())
}

/// Regex, what is in the file before, steps, and what is in it then.
const IN_PLACE: &[(&str, &str, &[&str], &str)] = &[
    // What is secret was there before what makes it so.
    (
        "key=(?<secret>[0-9]+);",
        "",
        &["pwrite 0 key=1234", "pwrite 8 ;"],
        "key=****;",
    ),
    (
        "key=(?<secret>[0-9]+);",
        "",
        &["pwrite 4 1234", "pwrite 8 ;", "pwrite 0 key="],
        "key=****;",
    ),
    (
        r"\bhunter2x\b",
        "",
        &["write xhunter2x", "pwrite 0  "],
        " ********",
    ),
    // The end of the file.
    (
        r"\bpin[0-9]{4}\b",
        "",
        &["write pin12345", "ftruncate 7"],
        "*******",
    ),
    (
        r"\bpin[0-9]{4}\b",
        "",
        &["write pin12345", "truncate /tmp/f 7"],
        "*******",
    ),
    (
        r"\bpin[0-9]{4}\b",
        "pin12345",
        &["close", "truncate /tmp/f 7"],
        "*******",
    ),
    (
        r"\bpin[0-9]{4}\b",
        "pin12345 pin1234",
        &["close", "truncate /tmp/f 12"],
        "pin12345 pin",
    ),
    // What is no match any more, or another one.
    (
        r"\bpin[0-9]{4}\b",
        "",
        &["write pin1234", "write 5"],
        "pin12345",
    ),
    (
        r"\bpin[0-9]{4}\b",
        "",
        &["pwrite 1 pin1234", "pwrite 0 x"],
        "xpin1234",
    ),
    ("pin[0-9]+", "", &["write pin12 ", "pwrite 5 34"], "*******"),
    (
        "hunter2x|hunt",
        "",
        &["write hunter2x", "ftruncate 6"],
        "****er",
    ),
    // The program's own stars are no secret.
    (
        "hunter2xz?",
        "",
        &["write hunter2x", "pwrite 0 ********", "write z"],
        "********z",
    ),
    (
        "hunter2xz?",
        "",
        &[
            "write hunter2x",
            "ftruncate 0",
            "pwrite 0 ********",
            "pwrite 8 z",
        ],
        "********z",
    ),
    // What was there before stays, until it is written to.
    (
        "pin[0-9]+",
        "pin12 ",
        &["pwrite 6 and pin3"],
        "pin12 and ****",
    ),
    ("pin[0-9]+", "pin12 ", &["pwrite 5 3 "], "****** "),
];

fn in_place(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    for (regex, before, made, after) in IN_PLACE {
        fs::write(fixture.path("tmp/f"), before)?;
        let rules = format!("[[rule]]\nname = 'r'\nregex = '{regex}'\n");
        let made = [&["open /tmp/f rw"], *made].concat();
        let expected = vec!["ok"; made.len()].join(" ");
        told(&fixture, strict, &rules, &[], &made, &expected)?;
        let text = content(&fixture, "/tmp/f")?;
        ensure!(text == *after, "{made:?}: {text:?}");
    }
    // What may go on for longer than anything is held is not masked for that: it is no secret yet.
    let before = format!("x\"{}", "a".repeat(200));
    fs::write(fixture.path("tmp/f"), &before)?;
    let rules = "[[rule]]\nname = 'r'\nregex = '\"[a-z]{100,300}\"'\n";
    let made = ["open /tmp/f rw", "pwrite 0 y"];
    told(
        &fixture,
        strict,
        rules,
        &["--max-hold", "64"],
        &made,
        "ok ok",
    )?;
    let text = content(&fixture, "/tmp/f")?;
    ensure!(text == before.replacen('x', "y", 1), "{text:?}");
    Ok(())
}

/// Rules, what the program does, and what is in the file then.
const BESIDE_EACH_OTHER: &[(&str, &[&str], &str)] = &[
    // What only reports takes no mask away, and keeps none.
    (
        "[[rule]]\nname = 'z'\nliterals = ['zz']\nshort = true\n\
         [[rule]]\nname = 'a'\nliterals = ['za']\nshort = true\naction = 'audit'\n",
        &["write zza", "pwrite 1 a"],
        "zaa",
    ),
    (
        "[[rule]]\nname = 'card'\nbuiltin = 'card'\n\
         [[rule]]\nname = 'd'\nregex = '\\d{16}'\naction = 'audit'\n",
        &["write 4111111111111111\n", "pwrite 5 9"],
        "4111191111111111\n",
    ),
    // What no text has makes the rest of its line none.
    (
        "[[rule]]\nname = 'd'\nregex = '\\d{4}'\n",
        &["write 1234 5678", "pwrite 4 \u{2}", "write 9999\n1234"],
        "****\u{2}56789999\n****",
    ),
    (
        "[[rule]]\nname = 'd'\nregex = '\\d{4}'\nbinary = true\n",
        &["write 1234 5678", "pwrite 4 \u{2}"],
        "****\u{2}****",
    ),
    // A NUL in the head makes all that follows none.
    (
        "[[rule]]\nname = 'd'\nregex = '\\d{4}'\n",
        &["write 1234", "ftruncate 5", "pwrite 5 \n5678", "pwrite 4 ."],
        "****.\n****",
    ),
    (
        "[[rule]]\nname = 'd'\nregex = '\\d{4}'\n",
        &["write 1234", "ftruncate 5", "pwrite 5 \n5678"],
        "****\0\n5678",
    ),
];

fn beside_each_other(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    for (rules, made, after) in BESIDE_EACH_OTHER {
        fs::write(fixture.path("tmp/f"), "")?;
        let made = [&["open /tmp/f rw"], *made].concat();
        let expected = vec!["ok"; made.len()].join(" ");
        told(&fixture, strict, rules, &[], &made, &expected)?;
        let text = content(&fixture, "/tmp/f")?;
        ensure!(text == *after, "{made:?}: {text:?}");
    }
    Ok(())
}

fn pending(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let made = [
        "open /tmp/f w+c",
        "write to jane.doe@exam",
        "write ple.org",
        "open /tmp/g w+c",
        "write my pin is hunter2x",
        "close",
    ];
    let options = ["--redact", "email", "--report", "/report"];
    told(
        &fixture,
        strict,
        &rule("mask", ""),
        &options,
        &made,
        "ok ok ok ok ok ok",
    )?;
    let report = content(&fixture, "/report")?;
    let lines: Vec<_> = report.lines().collect();
    ensure!(lines.len() == 2, "{report}");
    ensure!(
        report.contains(r#""path":"/tmp/f","offset":3,"length":20"#),
        "{report}"
    );
    ensure!(content(&fixture, "/tmp/f")? == "to ********************");
    Ok(())
}

/// Whether a match at its end is one is clear when it ends: then it is denied, or dropped.
fn packets(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let peer = UdpSocket::bind("127.0.0.1:0")?;
    peer.set_read_timeout(Some(Duration::from_secs(10)))?;
    let port = peer.local_addr()?.port();
    for (action, told_of_it) in [("deny", "1"), ("drop", "ok")] {
        let rules = format!(
            "[[rule]]\nname = 'r'\nregex = 'pin[0-9]+\\b'\naction = '{action}'\nscope = ['socket']\n"
        );
        let made = [
            "udp",
            &format!("connect {port}"),
            "send my pin12",
            "send my pin",
        ];
        let expected = format!("ok ok {told_of_it} ok");
        let ran = told(&fixture, strict, &rules, &["--verbose"], &made, &expected)?;
        let mut got = [0; 64];
        let len = peer.recv(&mut got)?;
        ensure!(
            &got[..len] == b"my pin",
            "{:?}",
            got[..len].escape_ascii().to_string()
        );
        ensure!(ran.err.contains("secrets found: r 1,"), "{}", ran.err);
    }
    // Two packets that the kernel would make one of.
    let made = [
        "udp",
        &format!("connect {port}"),
        "more my hunt",
        "send er2x",
    ];
    told(
        &fixture,
        strict,
        &rule("mask", ""),
        &[],
        &made,
        "ok ok 95 ok",
    )?;
    let mut got = [0; 64];
    let len = peer.recv(&mut got)?;
    ensure!(&got[..len] == b"er2x");
    // Urgent data could carry the letters that a reader of the stream does not see.
    told(
        &fixture,
        strict,
        &rule("mask", ""),
        &[],
        &["socket 2 1", "urgent x"],
        "ok 95",
    )?;
    Ok(())
}

fn killed(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fs::create_dir_all(fixture.path("log"))?;
    let rules = "[[rule]]\nname = 'mail'\nbuiltin = 'email'\naction = 'label'\nscope = ['/log/*']\nappend-only = true\n";
    fs::write(fixture.path("rules.toml"), rules)?;
    let args = [
        "write-filter-grate.cwasm",
        "--rules",
        "/rules.toml",
        "--hold-ms",
        "60000",
        "leak.cwasm",
        "killed writer",
        "/log/a",
    ];
    let ran = fixture.start(&Run {
        strict,
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        ..Run::default()
    })?;
    ran.expect(0)?;
    let text = content(&fixture, "/log/a")?;
    let expected = "id AKIAIOSFODNN7EXAMPLE, mail [REDACTED:mail].\n";
    ensure!(text == expected, "{text:?}");
    Ok(())
}

fn scopes(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let made = [
        "out hunter2x\n",
        "err hunter2x\n",
        "open /tmp/f w+c+t",
        "write hunter2x\n",
    ];
    for (scope, hidden) in [
        ("", [true, true, true]),
        ("scope = ['stdout']", [true, false, false]),
        ("scope = ['stderr']", [false, true, false]),
        ("scope = ['/tmp/*']", [false, false, true]),
        ("scope = ['pipe', 'socket']", [false, false, false]),
        ("scope = ['stderr', '/**']", [false, true, true]),
    ] {
        let ran = told(
            &fixture,
            strict,
            &rule("mask", scope),
            &[],
            &made,
            "ok ok ok ok",
        )?;
        let shown = [ran.text(), ran.err, content(&fixture, "/tmp/f")?];
        for (shown, hidden) in shown.iter().zip(hidden) {
            let expected = if hidden { "********\n" } else { "hunter2x\n" };
            ensure!(shown.starts_with(expected), "{scope}: {shown:?}");
        }
    }
    // Rules of their own for each.
    let rules = rule("label", "scope = ['stderr']") + &rule("mask", "scope = ['stdout']");
    let rules = rules.replacen("'pin'", "'other'", 1);
    let ran = told(&fixture, strict, &rules, &[], &made, "ok ok ok ok")?;
    ensure!(ran.text().starts_with("********\n"), "{}", ran.text());
    ensure!(ran.err.starts_with("[REDACTED:other]\n"), "{}", ran.err);
    // Pipes and sockets to another part of the program: see `leak`.
    for (way, scope, hidden) in [
        ("pipe", "pipe", true),
        ("pipe", "socket", false),
        ("socket", "socket", true),
        ("message", "socket", true),
        ("datagram", "socket", true),
        ("socket", "pipe", false),
        ("socket", "socket:127.0.0.1", false),
    ] {
        let text = format!("[[rule]]\nname = 'e'\nbuiltin = 'email'\nscope = ['{scope}']\n");
        fs::write(fixture.path("rules.toml"), text)?;
        let args = [
            "write-filter-grate.cwasm",
            "--rules",
            "/rules.toml",
            "leak.cwasm",
            way,
        ];
        let ran = fixture
            .start(&Run {
                strict,
                args: args.iter().map(|&arg| arg.to_owned()).collect(),
                ..Run::default()
            })?
            .expect(0)?;
        // `jane` in hexadecimal.
        ensure!(
            ran.text().contains("6a 61 6e 65") != hidden,
            "{way}, {scope}: {}",
            ran.text()
        );
    }
    Ok(())
}

const DATA: &str = "scope = ['/data/**']";
const EXDEV: &str = "18";

fn paths(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fs::create_dir_all(fixture.path("data/in"))?;
    for (made, count, path) in [
        (&["open /data/f rw+c", "bytes hunter2x"][..], 2, "/data/f"),
        (
            &["open /tmp/../data/in/f rw+c", "bytes hunter2x"],
            2,
            "/data/in/f",
        ),
        (
            &["chdir /data/in", "open g w+c", "write hunter2x"],
            3,
            "/data/in/g",
        ),
        (&["at /data in/h w+c", "write hunter2x"], 2, "/data/in/h"),
        (
            &[
                "symlink /data/in /tmp/link",
                "open /tmp/link/i w+c",
                "write hunter2x",
            ],
            3,
            "/data/in/i",
        ),
        (
            &[
                "symlink ../data/j /tmp/j",
                "open /tmp/j w+c",
                "write hunter2x",
            ],
            3,
            "/data/j",
        ),
    ] {
        let expected = vec!["ok"; count].join(" ");
        told(&fixture, strict, &rule("mask", DATA), &[], made, &expected)?;
        let text = content(&fixture, path)?;
        ensure!(text == "********", "{path}: {text:?}");
    }
    let made = ["open /tmp/f w+c", "write hunter2x"];
    told(&fixture, strict, &rule("mask", DATA), &[], &made, "ok ok")?;
    ensure!(
        content(&fixture, "/tmp/f")? == "hunter2x",
        "out of the scope"
    );
    Ok(())
}

fn names(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fs::create_dir_all(fixture.path("data/in"))?;
    let made = [
        "open /tmp/f w+c",
        "write hunter2x",
        "rename /tmp/f /data/f",
        "link /tmp/f /data/f",
        "mkdir /tmp/d",
        "rename /tmp/d /data/d",
        "open /data/g w+c",
        "link /data/g /tmp/g",
        "rename /data/g /data/h",
        "rename /data/h /tmp/h",
        "rename /tmp/h /data/h",
        "rename /tmp/f /tmp/e",
        "unlink /tmp/e",
        "rename /none /data/f",
    ];
    let expected = [
        "ok", "ok", EXDEV, EXDEV, "ok", EXDEV, "ok", EXDEV, "ok", "ok", EXDEV,
    ];
    let expected = expected.join(" ") + " ok ok 2";
    told(&fixture, strict, &rule("mask", DATA), &[], &made, &expected)?;
    Ok(())
}

fn peers(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let (one, other) = (
        UdpSocket::bind("127.0.0.1:0")?,
        UdpSocket::bind("127.0.0.1:0")?,
    );
    let got = |socket: &UdpSocket| -> anyhow::Result<String> {
        let mut bytes = [0; 64];
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        let len = socket.recv(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes[..len]).into_owned())
    };
    let (one_port, other_port) = (one.local_addr()?.port(), other.local_addr()?.port());
    let rules = rule(
        "label",
        &format!("scope = ['socket:127.0.0.0/8:{one_port}']"),
    );
    let made = [
        "udp",
        &format!("sendto {one_port} hunter2x"),
        &format!("sendto {other_port} hunter2x"),
        &format!("connect {one_port}"),
        "send my hunter2x",
        &format!("connect {other_port}"),
        "write my hunter2x",
    ];
    told(&fixture, strict, &rules, &[], &made, "ok ok ok ok ok ok ok")?;
    ensure!(got(&one)? == "[REDACTED:pin]");
    ensure!(got(&one)? == "my [REDACTED:pin]");
    ensure!(got(&other)? == "hunter2x");
    ensure!(got(&other)? == "my hunter2x");
    Ok(())
}

fn append_only(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fs::create_dir_all(fixture.path("log"))?;
    let rules = rule("label", "scope = ['/log/*']\nappend-only = true");
    let made = [
        "open /log/a w+c",
        "open /log/a w+c+a",
        "bytes my hunter2x, ",
        "write hunt",
        "setfl w",
        "ftruncate 4",
        "truncate /log/a 4",
        "pwrite 0 hunter2x",
        "map",
        "write er2x.",
    ];
    let expected = "1 ok ok ok 1 22 1 29 19 ok";
    told(&fixture, strict, &rules, &[], &made, expected)?;
    let text = content(&fixture, "/log/a")?;
    ensure!(text == "my [REDACTED:pin], [REDACTED:pin].", "{text:?}");
    // Elsewhere there is nothing to keep to.
    let made = ["open /tmp/a w+c", "write hunter2x"];
    told(&fixture, strict, &rules, &[], &made, "ok ok")?;
    Ok(())
}

/// A secret of which each half is longer than what is looked at of others, the last half first.
fn long_ones(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let secret: String = (0..6000).map(|number| format!("{number:04}x")).collect();
    fs::write(fixture.path("list"), format!("{secret}\n"))?;
    let (first, second) = secret.split_at(10_000);
    let (second, third) = second.split_at(10_000);
    let made = [
        "open /tmp/f rw+c".to_owned(),
        format!("pwrite 20003 {third}"),
        format!("pwrite 3 {first}"),
        format!("pwrite 10003 {second}"),
        "pwrite 0 in ".to_owned(),
    ];
    let made = made.each_ref().map(String::as_str);
    let options = ["--secret-file", "/list"];
    told(&fixture, strict, "", &options, &made, "ok ok ok ok ok")?;
    let text = content(&fixture, "/tmp/f")?;
    let expected = format!("in {}", "*".repeat(secret.len()));
    ensure!(text == expected, "{}", &text[..40]);
    Ok(())
}

/// Half a secret, a close, and the other half: by the same program, and by the next.
fn closed_between(strict: bool) -> anyhow::Result<()> {
    let add = "open /log/a w+c+a";
    for (action, second, shown) in [
        ("mask", "ok", "my ********."),
        ("label", "ok", "my ********."),
        ("deny", "1", "my hunt"),
        ("audit", "ok", "my hunter2x."),
    ] {
        let rules = rule(action, "scope = ['/log/*']\nappend-only = true");
        let halves = [
            &[add, "write my hunt", "close"][..],
            &[add, "write er2x.", "close"],
        ];
        let fixture = Fixture::new()?;
        fs::create_dir_all(fixture.path("log"))?;
        let expected = format!("ok ok ok ok {second} ok");
        told(&fixture, strict, &rules, &[], &halves.concat(), &expected)?;
        ensure!(content(&fixture, "/log/a")? == shown, "{action}");

        fs::remove_file(fixture.path("log/a"))?;
        told(&fixture, strict, &rules, &[], halves[0], "ok ok ok")?;
        // The last word is there as long as it is the last.
        ensure!(content(&fixture, "/log/a")? == "my hunt", "{action}");
        let expected = format!("ok {second} ok");
        let options = ["--report", "/report"];
        told(&fixture, strict, &rules, &options, halves[1], &expected)?;
        ensure!(content(&fixture, "/log/a")? == shown, "{action}, two runs");
        let report = content(&fixture, "/report")?;
        ensure!(
            report.contains("\"offset\":3,\"length\":8"),
            "{action}: {report}"
        );
    }
    // What was there before stays.
    let fixture = Fixture::new()?;
    fs::create_dir_all(fixture.path("log"))?;
    fs::write(fixture.path("log/a"), "an old hunter2x")?;
    let rules = rule("mask", "scope = ['/log/*']\nappend-only = true");
    let made = [add, "write , a new hunter2x"];
    told(&fixture, strict, &rules, &[], &made, "ok ok")?;
    let text = content(&fixture, "/log/a")?;
    ensure!(text == "an old hunter2x, a new ********", "{text:?}");
    Ok(())
}

fn deny_write(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fs::create_dir_all(fixture.path("etc/in"))?;
    fs::write(fixture.path("etc/conf"), "as it was")?;
    for rules in ["", &rule("mask", "")] {
        let made = [
            "open /etc/conf r",
            "open /etc/conf w",
            "open /etc/conf r+t",
            "open /etc/new w+c",
            "open /etc/in/new r+c",
            "truncate /etc/conf 1",
            "open /tmp/f w+c",
            "write text",
            "rename /tmp/f /etc/conf",
            "rename /etc/conf /tmp/g",
            "link /tmp/f /etc/new",
            "link /etc/conf /tmp/g",
            "symlink /etc/conf /tmp/s",
            "open /tmp/s w",
            "unlink /tmp/s",
            "symlink /tmp/f /etc/new",
            "rename /etc /tmp/etc",
        ];
        let expected = "ok 1 1 1 1 1 ok ok 1 1 1 1 ok 1 ok 1 1";
        told(
            &fixture,
            strict,
            rules,
            &["--deny-write", "/etc/**"],
            &made,
            expected,
        )?;
        ensure!(content(&fixture, "/etc/conf")? == "as it was");
        ensure!(!fixture.path("etc/new").exists() && !fixture.path("etc/in/new").exists());
    }
    let ran = fixture.run(&[
        "write-filter-grate.cwasm",
        "--deny-write",
        "etc",
        "steps.cwasm",
    ])?;
    ensure!(
        ran.code == 64 && ran.err.contains("begin with /"),
        "{}",
        ran.err
    );
    Ok(())
}

fn report(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let port = socket.local_addr()?.port();
    let made = [
        "out a hunter2x\n",
        "open /tmp/f rw+c",
        "write 12 hunter2x",
        "write and hunter2x",
        "pwrite 2 hunter2x",
        "udp",
        &format!("sendto {port} hunter2x"),
        "open /report w",
        "open /report w+a",
        "unlink /report",
        "rename /tmp/f /report",
        "truncate /report 0",
        "open /report r",
    ];
    let expected = "ok ok ok ok ok ok ok 13 13 13 13 13 13";
    let options = ["--report", "/report", "--verbose"];
    let ran = told(
        &fixture,
        strict,
        &rule("mask", ""),
        &options,
        &made,
        expected,
    )?;
    // The program's last line counts too.
    ensure!(ran.err.contains("secrets found: pin 5, in "), "{}", ran.err);
    let text = content(&fixture, "/report")?;
    ensure!(!text.contains("hunter"), "{text}");
    let mut lines = Vec::new();
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line)?;
        ensure!(line["rule"] == "pin" && line["action"] == "mask", "{line}");
        ensure!(line["cage"].as_u64().is_some(), "{line}");
        ensure!(
            line["time"]
                .as_str()
                .is_some_and(|time| time.ends_with('Z')),
            "{line}"
        );
        let to = ["stream", "path", "peer"].map(|key| line[key].as_str().unwrap_or(""));
        lines.push(format!(
            "{} {} {}",
            to.concat(),
            line["offset"],
            line["length"]
        ));
    }
    let expected = [
        "stdout 2 8",
        "/tmp/f 3 8",
        "/tmp/f 15 8",
        "/tmp/f 2 8",
        &format!("127.0.0.1:{port} 0 8"),
    ];
    ensure!(lines == expected, "{lines:?}");
    Ok(())
}

fn closed(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    hash_key(&fixture)?;
    fs::write(fixture.path("words"), "hunter2x\n")?;
    let rules =
        "[[rule]]\nname = 'pin'\nliterals-file = 'words'\naction = 'hash'\nscope = ['stdout']\n";
    fs::hard_link(fixture.path("words"), fixture.path("tmp/other"))?;
    let made = [
        "out hunter2x\n",
        "open /hash.key r",
        "open /words r",
        "open /tmp/other rw",
        "link /words /tmp/third",
        "open /rules.toml r",
        "open /tmp/f r+c",
    ];
    let options = ["--hash-key", "/hash.key"];
    let ran = told(
        &fixture,
        strict,
        rules,
        &options,
        &made,
        "ok 13 13 13 13 13 ok",
    )?;
    ensure!(ran.text().starts_with("[pin:"), "{}", ran.text());
    // As readable for others as it is no key.
    fs::set_permissions(fixture.path("hash.key"), fs::Permissions::from_mode(0o644))?;
    let ran = steps(&fixture, strict, rules, &options, &["out x"])?.expect(1)?;
    ensure!(
        ran.err.contains("/hash.key: others can read this key"),
        "{}",
        ran.err
    );
    Ok(())
}

/// The file that the documentation shows.
fn example() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    hash_key(&fixture)?;
    let rules = fs::read_to_string(repository().join("write-filter-grate/rules.example.toml"))?;
    fs::create_dir_all(fixture.path("var/log"))?;
    fs::create_dir_all(fixture.path("data"))?;
    fs::write(
        fixture.path("customers.txt"),
        "Erika Mustermann\nJohn Doe\n",
    )?;
    let made = [
        "out to jane.doe@example.com\n",
        "out order-12345678\n",
        "err customer John Doe\n",
        "open /var/log/app w+c+a",
        "write customer John Doe\n",
        "open /data/f w+c",
        "write key AKIAIOSFODNN7EXAMPLE\n",
        "write -----BEGIN RSA PRIVATE KEY-----\nMIIBOwIBAAJBAKj34GkxFhD90vcNLYLInFEX\n",
    ];
    let options = ["--hash-key", "/hash.key"];
    let expected = "ok ok ok ok ok ok ok 1";
    let ran = told(&fixture, false, &rules, &options, &made, expected)?;
    let text = ran.text();
    let (mail, rest) = text.split_once('\n').context("no line")?;
    ensure!(
        mail.starts_with("to [mail:") && !mail.contains("jane"),
        "{mail}"
    );
    ensure!(rest.starts_with("order-******78\n"), "{rest}");
    ensure!(ran.err.contains("customer ********\n"), "{}", ran.err);
    ensure!(content(&fixture, "/var/log/app")? == "customer [REDACTED:customer]\n");
    let text = content(&fixture, "/data/f")?;
    ensure!(text == "key ********************\n", "{text:?}");
    Ok(())
}

/// Name, rule file, and the line on standard error behind the file's name.
const BAD: &[(&str, &str, &str)] = &[
    ("syntax", "[[rule]]\nname = \"a\n", ":2: "),
    (
        "an unknown key",
        "[[rule]]\nname = 'a'\nregexp = 'x'\n",
        ":3: unknown field `regexp`",
    ),
    (
        "an unknown built-in",
        "[[rule]]\nname = 'a'\nbuiltin = 'awz'\n",
        ":3: unknown built-in `awz`; use ",
    ),
    (
        "a regex that does not compile",
        "[[rule]]\nname = 'a'\nregex = '('\n",
        ":3: the regex does not compile",
    ),
    (
        "a regex that is too large",
        "[[rule]]\nname = 'a'\nregex = '[ab]{60000}x{60000}'\n",
        ":3: the regex is too large; ",
    ),
    (
        "an empty literal",
        "[[rule]]\nname = 'a'\nliterals = ['a', '']\n",
        ":3: an empty literal; remove it",
    ),
    (
        "two patterns",
        "[[rule]]\nname = 'a'\nregex = 'a'\nbuiltin = 'aws'\n",
        ":4: rule `a` has two patterns",
    ),
    (
        "no pattern",
        "\n[[rule]]\nname = 'a'\n",
        ":2: rule `a` has no pattern",
    ),
    (
        "a name twice",
        "[[rule]]\nname = 'a'\nregex = 'a'\n[[rule]]\nname = 'a'\nregex = 'b'\n",
        ":5: there is a rule `a` already",
    ),
    (
        "a label in files",
        "[[rule]]\nname = 'a'\nregex = 'a'\naction = 'label'\n",
        ":4: label would move what follows in a regular file; ",
    ),
    (
        "an unknown scope",
        "[[rule]]\nname = 'a'\nregex = 'a'\nscope = ['x']\n",
        ":4: unknown scope `x`; use ",
    ),
    (
        "no key to hash with",
        "[[rule]]\nname = 'a'\nregex = 'a'\naction = 'hash'\nscope = ['pipe']\n",
        ":4: there is no key for hash; ",
    ),
    ("no rule", "# later\n", ":1: holds no rule; "),
    (
        "no file of literals",
        "[[rule]]\nname = 'a'\nliterals-file = 'none'\n",
        ":3: /none: cannot be read",
    ),
];

fn bad_rules(text: &str, message: &str) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let ran = steps(&fixture, false, text, &[], &["out ran"])?.expect(1)?;
    refused(&ran, &format!("write-filter-grate: /rules.toml{message}"))
}

fn refused(ran: &Ran, message: &str) -> anyhow::Result<()> {
    ensure!(ran.text().is_empty(), "it ran: {}", ran.text());
    ensure!(
        ran.err.starts_with(message) && ran.err.lines().count() == 1,
        "{:?} instead of {message:?}",
        ran.err
    );
    Ok(())
}

fn bad_files() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fs::write(fixture.path("latin"), b"# caf\xe9\n")?;
    fs::write(fixture.path("short"), b"12345")?;
    fs::set_permissions(fixture.path("short"), fs::Permissions::from_mode(0o600))?;
    for (options, message) in [
        (&["--rules", "/none"][..], "/none: cannot be read: "),
        (&["--rules", "/latin"], "/latin:1: not UTF-8; "),
        (
            &["--hash-key", "/none", "--redact", "aws"],
            "/none: cannot be read: ",
        ),
        (
            &["--hash-key", "/short", "--redact", "aws"],
            "/short: a hash key has at least 16 bytes, not 5",
        ),
        (
            &["--report", "/no/report", "--redact", "aws"],
            "/no/report: cannot be written: ",
        ),
        (&["--report", "/report"], "nothing to report; "),
    ] {
        let ran = steps(&fixture, false, "", options, &["out ran"])?.expect(1)?;
        refused(&ran, &format!("write-filter-grate: {message}"))?;
    }
    Ok(())
}
