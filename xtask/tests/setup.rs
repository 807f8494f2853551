//! `scripts/setup.sh` on machines of all kinds, built of stand-ins: small scripts in a path of
//! their own that answer as the real tools do, and an `apt-get` whose packages are more of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The real tools that the script and the stand-ins are written with.
const SHELL_TOOLS: &[&str] = &[
    "sh", "awk", "cat", "chmod", "dirname", "env", "ls", "mkdir", "rm", "tr",
];

/// What the packages put in place, as lines of a script with the functions of [`APT`].
const PACKAGES: &[(&str, &str)] = &[
    ("rustc-web", "debian_rustc 1.96.0"),
    ("cargo-web", "tool system/bin/cargo 'echo cargo 1.96.0'"),
    (
        "rust-web-src",
        "mkdir -p system/lib/rustlib/src/rust/library/std",
    ),
    ("lld-19", "tool system/bin/wasm-ld-19 :"),
    ("binaryen", "tool system/bin/wasm-opt :"),
    ("gcc", "tool system/bin/cc :"),
    ("libc6-dev", ":"),
    ("python3", "python3"),
    ("python3-venv", "touch venv"),
    ("clang-19", "debian_clang"),
    (
        "wasi-libc",
        "mkdir -p system/lib/wasm32-wasi; touch system/lib/wasm32-wasi/libc.a",
    ),
    (
        "libclang-rt-19-dev-wasm32",
        "lib=system/lib/llvm-19/lib/clang/19/lib/wasi; mkdir -p $lib; \
         touch $lib/libclang_rt.builtins-wasm32.a",
    ),
];

/// Functions for the scripts that set up a machine; they run in its folder.
const FUNCTIONS: &str = r#"
tool() { rm -f "$1"; printf '#!/bin/sh\n%s\n' "$2" >"$1"; chmod +x "$1"; }
debian_rustc() { rustc system/bin/rustc "$1" "$PWD/system"; }
rustc() { tool "$1" "case \$* in --version) echo rustc $2 ;; *sysroot) echo $3 ;; *tuple) echo host ;; esac"; }
cargo() { tool "$1" "echo cargo $2"; }
rustup() {
    cargo path/cargo "$1"; rustc path/rustc "$1" "$PWD/stable"
    tool path/rustup "[ -e $PWD/nightly/bin/rustc ] && echo $PWD/nightly/bin/rustc"
}
nightly() {
    mkdir -p nightly/bin nightly/lib/rustlib/host/bin/gcc-ld
    rustc nightly/bin/rustc 1.97.0-nightly "$PWD/nightly"; cargo nightly/bin/cargo 1.97.0-nightly
    tool nightly/lib/rustlib/host/bin/gcc-ld/wasm-ld :
}
debian_clang() {
    lib=$PWD/system/lib
    builtins=$lib/llvm-19/lib/clang/19/lib/wasi/libclang_rt.builtins-wasm32.a
    tool system/bin/clang-19 "case \$* in *libgcc*) echo $builtins ;; *libc.a) echo $lib/wasm32-wasi/libc.a ;; esac"
}
c() {
    mkdir -p c; touch c/libc.a c/builtins.a
    tool "path/$1" "case \$* in *libgcc*) echo $PWD/c/builtins.a ;; *libc.a) echo $PWD/c/libc.a ;; esac"
}
sources() { mkdir -p "$1/lib/rustlib/src/rust/library/std"; }
python3() {
    tool system/bin/python3 "case \$* in
*Crypto*) [ -e $PWD/crypto ] ;;
*ensurepip*) [ -e $PWD/venv ] ;;
'-m venv '*) [ -e $PWD/venv ] && mkdir -p \$3/bin && printf '#!/bin/sh\n: >$PWD/crypto\n' >\$3/bin/pip && chmod +x \$3/bin/pip ;;
esac"
}
"#;

/// Answers as `apt-get` does. The files `locked` and `failing` hold a line for each call that
/// still meets another apt or fails; `stale` is there as long as the lists are old, and then what
/// `old/` has in place of a package is installed, or nothing.
const APT: &str = r#"
echo "$*" >>calls
for trouble in locked failing; do
    if [ -s $trouble ]; then
        left=$(awk 'NR > 1' $trouble)
        printf '%s' "${left:+$left
}" >$trouble
        case $trouble in
        locked) echo 'E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7 (apt)' ;;
        failing) echo 'E: Failed to fetch something' ;;
        esac >&2
        exit 100
    fi
done
command=
packages=
skip=
for word; do
    [ -z "$skip" ] || { skip=; continue; }
    case $word in
    -o) skip=1 ;;
    -*) ;;
    *) if [ -z "$command" ]; then command=$word; else packages="$packages $word"; fi ;;
    esac
done
if [ "$command" = update ]; then
    rm -f stale
    exit
fi
[ "$command" = install ] || exit 100
archive=packages
[ ! -e stale ] || archive=old
for package in $packages; do
    [ -e $archive/$package ] || { echo "E: Unable to locate package $package" >&2; exit 100; }
done
for package in $packages; do . ./$archive/$package; done
"#;

struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    /// A machine with a shell, root's rights and apt, and what `script` puts there.
    fn new(script: &str) -> Self {
        let machine = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let at = |path: &str| machine.folder.path().join(path);
        for folder in [
            "path",
            "system/bin",
            "shell",
            "packages",
            "old",
            "repo/scripts",
            "repo/tests",
        ] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        for tool in SHELL_TOOLS {
            std::os::unix::fs::symlink(real(tool), at("shell").join(tool)).unwrap();
        }
        for (package, script) in PACKAGES {
            fs::write(at("packages").join(package), script).unwrap();
        }
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for file in ["scripts/setup.sh", "tests/requirements.txt"] {
            fs::copy(repository.join(file), at("repo").join(file)).unwrap();
        }
        machine.tool("id", "echo 0");
        machine.tool("sleep", "echo sleep >>calls");
        machine.tool("apt-get", &format!("{FUNCTIONS}{APT}"));
        machine.run(script);
        machine
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Puts a stand-in into the path; it runs in the machine's folder, with the real path behind.
    fn tool(&self, name: &str, script: &str) {
        let folder = self.folder.path().display();
        let file = self.path("path").join(name);
        let path = std::env::var("PATH").unwrap();
        fs::write(
            &file,
            format!("#!/bin/sh\ncd '{folder}'\nPATH='{path}'\n{script}\n"),
        )
        .unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs a script that changes the machine.
    fn run(&self, script: &str) {
        let status = Command::new("sh")
            .current_dir(self.folder.path())
            .args(["-euc", &format!("{FUNCTIONS}{script}")])
            .status()
            .unwrap();
        assert!(status.success(), "{script}");
    }

    fn command(&self, program: &Path) -> Command {
        let folders = ["path", "system/bin", "shell"].map(|folder| self.path(folder));
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::join_paths(folders).unwrap())
            .env("SETUP_SYSTEM", self.path("system"));
        command
    }

    fn setup(&self, args: &[&str]) -> Output {
        self.command(&self.path("repo/scripts/setup.sh"))
            .args(args)
            .output()
            .unwrap()
    }

    /// Sets up, and checks that everything is there afterwards: the build driver finds its tools,
    /// there is a cargo for the host, and the next run has nothing to do or say.
    fn succeeds(&self, args: &[&str], what: &str) -> String {
        let first = self.setup(args);
        assert!(first.status.success(), "{what}:\n{}", text(&first));
        let tools = self
            .command(Path::new(env!("CARGO_BIN_EXE_xtask")))
            .arg("tools")
            .output()
            .unwrap();
        assert!(tools.status.success(), "{what}:\n{}", text(&tools));
        let cargo = self.setup(&["--cargo"]);
        assert!(cargo.status.success(), "{what}:\n{}", text(&cargo));
        let calls = self.calls();
        let again = self.setup(args);
        assert!(again.status.success(), "{what}:\n{}", text(&again));
        assert_eq!(text(&again), "", "{what}");
        assert_eq!(self.calls(), calls, "{what}");
        text(&first)
    }

    fn fails(&self, what: &str) -> String {
        let output = self.setup(&[]);
        assert_eq!(output.status.code(), Some(1), "{what}:\n{}", text(&output));
        text(&output)
    }

    /// What apt was called with so far, and where the script slept.
    fn calls(&self) -> String {
        fs::read_to_string(self.path("calls")).unwrap_or_default()
    }
}

fn real(tool: &str) -> PathBuf {
    std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|folder| folder.join(tool))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("there is no {tool}"))
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8(both).unwrap()
}

/// What a machine may have of each kind.
const HOST: &[&str] = &["", "rustup 1.80.0", "rustup 1.95.0"];
const NIGHTLY: &[&str] = &["", "nightly", "nightly; sources nightly"];
const DEBIAN: &[&str] = &[
    "",
    "debian_rustc 1.85.0; cargo system/bin/cargo 1.85.0; sources system",
    "debian_rustc 1.96.0; cargo system/bin/cargo 1.96.0",
    "debian_rustc 1.96.0; cargo system/bin/cargo 1.96.0; sources system",
];
const LINKER: &[&str] = &["", "tool path/wasm-ld :", "tool path/wasm-ld-21 :"];
const OTHERS: &[&str] = &[
    "",
    "tool path/cc :; tool path/wasm-opt :; python3; c clang-21",
    "tool path/clang-19 :; c clang-20",
];
/// What apt is like.
const APT_STATES: &[&str] = &[
    "",
    "echo once >failing",
    // Nothing that the old lists name is there any more.
    "touch stale",
    // The old lists name an old compiler.
    "touch stale; cp packages/* old; echo debian_rustc 1.85.0 >old/rustc-web",
    "echo once >locked; echo twice >>locked",
];

fn machines() -> impl Iterator<Item = String> {
    let mut all = vec![String::new()];
    for part in [HOST, NIGHTLY, DEBIAN, LINKER, OTHERS] {
        all = all
            .iter()
            .flat_map(|machine| part.iter().map(move |part| format!("{machine}\n{part}")))
            .collect();
    }
    all.into_iter()
}

#[test]
fn a_machine_of_any_kind_ends_up_with_all_that_is_needed() {
    for (index, machine) in machines().enumerate() {
        // Every state of apt meets every part of a machine, if not every combination of them.
        let apt = APT_STATES[index % APT_STATES.len()];
        let machine = format!("{machine}\n{apt}");
        Machine::new(&machine).succeeds(&[], &machine);
    }
}

#[test]
fn without_root_the_packages_that_it_names_are_all_there_are_to_install() {
    for machine in machines().step_by(3) {
        let m = Machine::new(&machine);
        m.tool("id", "echo 1000");
        let output = m.setup(&[]);
        if output.status.success() {
            assert_eq!(text(&output), "", "{machine}");
            continue;
        }
        assert_eq!(m.calls(), "", "{machine}");
        let said = text(&output);
        let (_, packages) = said.split_once("as root: apt-get install ").expect(&said);
        for package in packages.split_whitespace() {
            m.run(&format!(". ./packages/{package}"));
        }
        m.succeeds(&[], &machine);
    }
}

#[test]
fn without_apt_it_says_what_is_needed_and_nothing_of_packages() {
    let m = Machine::new("rustup 1.95.0; nightly; rm path/apt-get");
    let said = m.fails("no apt");
    for need in [
        "rustup toolchain install nightly --component rust-src",
        "wasm-opt",
        "(cc)",
        "python3",
        "clang, version 18",
        "wasi-libc",
    ] {
        assert!(said.contains(need), "{need}: {said}");
    }
    assert!(!said.contains("apt-get"), "{said}");
    m.run("sources nightly; tool path/wasm-opt :; tool path/cc :; python3; c clang-19");
    assert_eq!(m.succeeds(&[], "then all is there"), "");
}

#[test]
fn a_package_that_makes_another_one_needed_gets_it_too() {
    // The first takes away the linker and the compiler that were there, the second the optimiser.
    let m = Machine::new(
        "rustup 1.95.0; nightly; tool path/wasm-ld :; tool path/wasm-opt :; tool path/cc :
         echo 'rm -f path/cargo path/rustc path/rustup path/wasm-ld' >>packages/rustc-web
         echo 'rm -f path/wasm-opt' >>packages/lld-19",
    );
    m.succeeds(&[], "needs that follow from packages");
    assert!(!m.calls().contains("update"), "{}", m.calls());
}

#[test]
fn another_apt_is_waited_for_and_not_for_ever() {
    let m = Machine::new("rustup 1.95.0; echo 1 >locked; echo 2 >>locked");
    let said = m.succeeds(&[], "locked for a while");
    assert_eq!(said.matches("another apt is at work").count(), 1, "{said}");
    assert_eq!(m.calls().matches("sleep").count(), 2, "{}", m.calls());

    let m = Machine::new("awk 'BEGIN { for (; i < 1000; i++) print i }' >locked");
    let said = m.fails("locked for ever");
    assert!(said.contains("held by process 7"), "{said}");
    assert!(m.calls().contains("DPkg::Lock::Timeout"), "{}", m.calls());
}

#[test]
fn a_package_that_cannot_be_had_keeps_back_no_other() {
    let m = Machine::new("rustup 1.95.0; rm packages/binaryen");
    let said = m.fails("no binaryen");
    assert!(said.contains("Unable to locate package binaryen"), "{said}");
    assert!(
        said.contains("could not install binaryen; what is needed:\n  binaryen (wasm-opt)\n"),
        "{said}"
    );
    m.run("tool path/wasm-opt :");
    assert_eq!(m.succeeds(&[], "the rest is there"), "");
}

#[test]
fn packages_that_do_not_help_end_it() {
    // Installed, and yet too old; and one that takes away what another one brought.
    let m = Machine::new(
        "echo debian_rustc 1.85.0 >packages/rustc-web
         echo 'rm -f path/cc system/bin/cc' >>packages/binaryen
         echo 'rm -f system/bin/wasm-opt' >>packages/gcc",
    );
    let said = m.fails("nothing helps");
    assert!(
        said.contains("could not install rustc-web cargo-web"),
        "{said}"
    );
}

#[test]
fn what_the_tests_take_is_installed_for_them_alone() {
    let m = Machine::new("rustup 1.95.0; nightly; sources nightly");
    m.succeeds(&[], "without tests");
    assert!(!m.calls().contains("python3-venv"), "{}", m.calls());
    let said = m.succeeds(&["--tests"], "with tests");
    assert!(said.contains("making target/python"), "{said}");
    assert!(m.calls().contains("python3-venv"), "{}", m.calls());
}
