//! The command as it is used.

use std::fs;
use std::io::{BufRead, Read, Write};
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
fn a_file_may_be_called_as_a_command_is() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("list"), format!("{SECRET}\n")).unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_redact"))
        .args(["--secret-file", "list", "list"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    // The second one is the command.
    assert!(text(&out.stdout).contains("personal  ipv4"), "{out:?}");
    let out = Command::new(env!("CARGO_BIN_EXE_redact"))
        .args(["--secret-file", "list", "./list"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(text(&out.stdout), "**************\n");
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
    assert_eq!(out.status.signal(), Some(9));
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

/// A terminal with a program on it, which what is typed goes to.
struct Screen {
    ours: fs::File,
    theirs: fs::File,
    seen: String,
}

impl Screen {
    fn new() -> Self {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let mut options = fs::File::options();
        let theirs = options.read(true).write(true).open(name.to_str().unwrap());
        Self {
            theirs: theirs.unwrap(),
            ours: ours.into(),
            seen: String::new(),
        }
    }

    /// A command on this terminal.
    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .env("REDACT", env!("CARGO_BIN_EXE_redact"))
            .env("PS1", "ready> ")
            .stdin(self.theirs.try_clone().unwrap())
            .stdout(self.theirs.try_clone().unwrap())
            .stderr(self.theirs.try_clone().unwrap());
        command
    }

    fn type_in(&mut self, keys: &str) {
        self.ours.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until this is seen, behind what was waited for before.
    fn wait_for(&mut self, text: &str) {
        let mut piece = [0; 4096];
        while !self.seen.contains(text) {
            let len = self.ours.read(&mut piece).unwrap();
            assert_ne!(len, 0, "{text} is not seen: {}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&piece[..len]));
        }
        let end = self.seen.find(text).unwrap() + text.len();
        self.seen.drain(..end);
    }
}

/// A shell with jobs on a terminal.
fn shell() -> (Screen, std::process::Child) {
    let mut screen = Screen::new();
    // A shell can't have a key end what was ignored when it began.
    let shell = ["--default-signal", "setsid", "--ctty", "--wait", "sh", "-i"];
    let shell = screen.command("env", &shell).spawn().unwrap();
    screen.wait_for("ready> ");
    (screen, shell)
}

#[test]
fn a_job_is_stopped_and_goes_on_as_by_itself() {
    let (mut screen, mut shell) = shell();
    screen.type_in("$REDACT -- sh -c 'echo u\"\"p; read x; echo got-$x'\n");
    screen.wait_for("up");
    screen.type_in("\x1a");
    screen.wait_for("Stopped");
    screen.wait_for("ready> ");
    screen.type_in("fg\n");
    screen.wait_for("sh -c");
    screen.type_in("li\"\"ne\n");
    screen.wait_for("got-li\"\"ne");
    screen.wait_for("ready> ");
    // In the background it does not wait for the terminal.
    screen.type_in("$REDACT -- sh -c 'echo be\"\"hind'; echo in fr\"\"ont\n");
    screen.wait_for("behind");
    screen.wait_for("in front");
    screen.type_in("$REDACT -- sh -c 'echo be\"\"hind' &\n");
    screen.wait_for("behind");
    // A key that interrupts ends the program, and the list of commands that it is one of.
    screen.type_in(
        "\nwhile :; do $REDACT -- sh -c 'echo a\"\"gain; exec sleep 1000'; done; echo $?\n",
    );
    screen.wait_for("again");
    screen.type_in("\x03");
    screen.wait_for("ready> ");
    screen.type_in("exit 7\n");
    assert_eq!(shell.wait().unwrap().code(), Some(7));
}

#[test]
fn signals_that_are_sent_reach_the_program() {
    use rustix::process::{Pid, Signal, kill_process};
    for (signal, name) in [
        (Signal::INT, "INT"),
        (Signal::TERM, "TERM"),
        (Signal::HUP, "HUP"),
        (Signal::USR1, "USR1"),
    ] {
        let script =
            format!("trap 'echo got {name}; exit 3' {name}; echo up; while :; do sleep 0.05; done");
        // In a session of its own no key of a terminal can have sent it. A shell can't trap what was
        // ignored when it began, as under nohup.
        let mut child = Command::new("env")
            .args(["--default-signal", "setsid"])
            .args([env!("CARGO_BIN_EXE_redact"), "--", "sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "up\n");
        kill_process(Pid::from_child(&child), signal).unwrap();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, format!("up\ngot {name}\n"));
        assert_eq!(child.wait().unwrap().code(), Some(3));
    }
}

#[test]
fn what_is_asked_is_seen_before_it_is_answered() {
    let mut screen = Screen::new();
    let script = "for word in Working 12 Name: ; do printf \"$word\"; read x; done; echo $x";
    let args = ["--", "sh", "-c", script];
    let mut child = screen
        .command(env!("CARGO_BIN_EXE_redact"), &args)
        .spawn()
        .unwrap();
    for word in ["Working", "12", "Name:"] {
        screen.wait_for(word);
        screen.type_in("answer\n");
    }
    screen.wait_for("answer\r\nanswer\r\n");
    assert!(child.wait().unwrap().success());
    // Where keys do not go to the program, what it prints is as long as by itself.
    let mut child = screen.command(env!("CARGO_BIN_EXE_redact"), &["--", "echo", "line"]);
    let mut child = child.stdin(Stdio::null()).spawn().unwrap();
    screen.wait_for("line\r\n");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_terminal_is_left_as_it_was() {
    let screen = Screen::new();
    let modes = || {
        let now = rustix::termios::tcgetattr(&screen.theirs).unwrap();
        (now.input_modes, now.output_modes, now.local_modes)
    };
    let before = modes();
    for (command, status, signal) in [
        (&["sh", "-c", "test -t 0 && exit 5"][..], Some(5), None),
        (&["sh", "-c", "kill -9 $$"], None, Some(9)),
        (&["/no such command"], Some(127), None),
    ] {
        let args = [&["--"][..], command].concat();
        let ended = screen
            .command(env!("CARGO_BIN_EXE_redact"), &args)
            .status()
            .unwrap();
        assert_eq!(
            (ended.code(), ended.signal()),
            (status, signal),
            "{command:?}"
        );
        assert_eq!(modes(), before, "{command:?}");
    }
}
