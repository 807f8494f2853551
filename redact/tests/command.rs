//! The command as it is used.

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};

const SECRET: &str = "s3cr3t-of-mine";

fn redact(input: &[u8], args: &[&str]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_redact"))
        .args(args)
        .env("MY_TOKEN", SECRET)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_stream_is_redacted() {
    let token = format!("a ghp_{} b\n", "x1".repeat(18));
    let out = redact(token.as_bytes(), &[]);
    assert_eq!(text(&out.stdout), format!("a {} b\n", "*".repeat(40)));
    let out = redact(token.as_bytes(), &["--redact", "none"]);
    assert_eq!(text(&out.stdout), token);
}

#[test]
fn files_are_printed_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    let [file, report] = ["log", "report"].map(|name| folder.path().join(name));
    fs::write(&file, "mail jane@example.org\n").unwrap();
    let [file, report] = [&file, &report].map(|path| path.to_str().unwrap());
    let out = redact(b"", &["--redact", "email", "--report", report, file]);
    assert_eq!(text(&out.stdout), "mail ****************\n");
    let line = fs::read_to_string(report).unwrap();
    assert!(line.contains(r#""rule":"email""#) && line.contains(r#""offset":5,"length":16"#));
    assert!(!line.contains("jane"));
    let out = redact(b"", &["--redact", "email", "explain", file]);
    assert!(text(&out.stdout).starts_with(&format!("{file}:1:6: 16 bytes, mask by email")));
    assert!(!text(&out.stdout).contains("jane"));
}

#[test]
fn a_command_keeps_its_status_and_loses_its_secrets() {
    let script = format!("echo out {SECRET}; printf err >&2; printf {SECRET} >&2; exit 7");
    let out = redact(b"", &["--secret-env", "MY_*", "--", "sh", "-c", &script]);
    assert_eq!(out.status.code(), Some(7));
    assert_eq!(text(&out.stdout), "out **************\n");
    assert_eq!(text(&out.stderr), "err**************");
    let out = redact(b"", &["--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(out.status.code(), Some(137));
    assert_eq!(out.status.signal(), None);
    let out = redact(b"", &["--", "/none"]);
    assert_eq!(out.status.code(), Some(127));
    // What it reads is passed on.
    let out = redact(
        b"x s3cr3t-of-mine",
        &["--secret-env", "MY_TOKEN", "--", "cat"],
    );
    assert_eq!(text(&out.stdout), "x **************");
}

#[test]
fn a_file_of_variables_hides_what_is_secret_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(".env");
    fs::write(&file, format!("DEBUG=true\nexport API_KEY=\"{SECRET}\"\n")).unwrap();
    let file = file.to_str().unwrap();
    let coloured = format!(
        "DEBUG=true s3c\x1b[1mr3t-of-mine {}\n",
        "czNjcjN0LW9mLW1pbmU="
    );
    let out = redact(coloured.as_bytes(), &["--secret-dotenv", file]);
    let masked = format!("DEBUG=true {} {}=\n", "*".repeat(18), "*".repeat(19));
    assert_eq!(text(&out.stdout), masked);
}

#[test]
fn what_is_wrong_is_told() {
    let out = redact(b"", &["--secret-env", "NO_SUCH_*"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).starts_with("redact: --secret-env: NO_SUCH_*: "));
    assert_eq!(redact(b"", &["--wrong"]).status.code(), Some(64));
    let out = redact(b"", &["list", "tokens"]);
    assert!(text(&out.stdout).contains("github") && !text(&out.stdout).contains("email"));
}

#[test]
fn a_terminal_is_left_as_it_was() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let theirs = fs::File::options()
        .read(true)
        .write(true)
        .open(name.to_str().unwrap())
        .unwrap();
    let modes = || {
        let now = rustix::termios::tcgetattr(&theirs).unwrap();
        (now.input_modes, now.output_modes, now.local_modes)
    };
    let before = modes();
    for (command, status) in [
        (&["sh", "-c", "test -t 0 && exit 5"][..], Some(5)),
        (&["sh", "-c", "kill -9 $$"], Some(128 + 9)),
        (&["/no such command"], Some(127)),
    ] {
        let ended = Command::new(env!("CARGO_BIN_EXE_redact"))
            .arg("--")
            .args(command)
            .stdin(theirs.try_clone().unwrap())
            .stdout(theirs.try_clone().unwrap())
            .stderr(theirs.try_clone().unwrap())
            .status()
            .unwrap();
        assert_eq!(ended.code(), status, "{command:?}");
        assert_eq!(modes(), before, "{command:?}");
    }
}
