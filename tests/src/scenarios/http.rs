//! A server and a client of the hyper crate, which know nothing of grates.

use super::sealed_net::{Change, Proxy, ensure_hidden};
use super::sockets::{beside, free_address, soon};
use super::trial;
use crate::fixture::{Fixture, Ran, Run};
use libtest_mimic::Trial;
use std::io::{Read, Write};
use std::net::TcpStream;

/// What stands before either program.
const SETTINGS: [(&str, &[&str]); 2] = [
    ("runtime", &[]),
    ("crypt-grate", &["crypt-grate.cwasm", "--key", "/k.bin"]),
];

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (name, grates) in SETTINGS {
        for strict in [false, true] {
            let mode = if strict { " (strict)" } else { "" };
            trials.push(trial(format!("{name}/HTTP by hyper{mode}"), move || {
                conversation(grates, strict)
            }));
        }
    }
    trials
}

fn run(fixture: &Fixture, grates: &[&str], strict: bool, args: &[&str]) -> anyhow::Result<Ran> {
    let all = [grates, args].concat();
    fixture.start(&Run {
        strict,
        args: all.into_iter().map(str::to_owned).collect(),
        ..Run::default()
    })
}

fn conversation(grates: &[&str], strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fixture.make_key("/k.bin")?;
    let at = free_address()?;
    let proxy = Proxy::new(at, |_, _| Change::Nothing)?;
    let (served, ()) = beside(
        || {
            run(
                &fixture,
                grates,
                strict,
                &["http_server.cwasm", &at.to_string(), "3"],
            )
        },
        || {
            // One that asks in the clear.
            let mut stream = soon(|| Ok(TcpStream::connect(at)?))?;
            stream.write_all(b"GET /hello HTTP/1.1\r\nHost: cage\r\nConnection: close\r\n\r\n")?;
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            let is_answered = answer.ends_with(b"hello from a cage");
            anyhow::ensure!(is_answered == grates.is_empty(), "{answer:?}");
            anyhow::ensure!(is_answered || answer.is_empty(), "{answer:?}");
            let client = ["http_client.cwasm", &proxy.at.to_string()];
            let ran = run(&fixture, grates, strict, &client)?.expect(0)?;
            anyhow::ensure!(ran.text() == "http done\n", "{}", ran.text());
            Ok(())
        },
    )?;
    served.expect(0)?;
    let captured = proxy.captured();
    anyhow::ensure!(
        captured.len() > 1_600_000,
        "{} bytes were sent",
        captured.len()
    );
    for text in [&b"HTTP/1.1"[..], b"hello from", b"0123456789abcdef"] {
        let hidden = ensure_hidden(&captured, text);
        anyhow::ensure!(hidden.is_err() == grates.is_empty(), "{hidden:?}");
    }
    Ok(())
}
