//! Large programs are verified once and kept beside the artifact key; who can write in the root, and
//! not there, gains nothing by that.

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{Fixture, Ran, lind_program};

/// Bytes of data that make a program large.
const LARGE: usize = 6 << 20;
/// The first bytes of an artifact, which its tag authenticates.
const HEAD: usize = 92;

/// Puts a program there that has much data and says a letter of it, and precompiles it. Nothing is
/// kept then.
fn place(fixture: &Fixture, name: &str, letter: char) -> PathBuf {
    let data = letter.to_string().repeat(LARGE);
    let more = format!(r#"(data (i32.const 65536) "{data}")"#);
    let at = 65536 + LARGE - 1;
    let say = format!(
        "(drop (call $call (i32.const 1) (i64.const 1) (call $at (i32.const {at})) (i64.const 1)))"
    );
    let text = lind_program(&more, &say).replace("(memory 2 1024", "(memory 200 1024");
    let wasm = fixture.program(&format!("{name}.wasm"), &text);
    let made = fixture.run(&["--precompile", wasm.to_str().unwrap()]);
    assert_eq!(made.code, 0, "{}", made.err);
    for file in kept(fixture) {
        fs::remove_file(file).unwrap();
    }
    wasm.with_extension("cwasm")
}

/// The files that are kept.
fn kept(fixture: &Fixture) -> Vec<PathBuf> {
    let Ok(folder) = fs::read_dir(fixture.data().join("code")) else {
        return Vec::new();
    };
    let mut files: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn one_kept(fixture: &Fixture) -> PathBuf {
    let files = kept(fixture);
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[track_caller]
fn says(ran: &Ran, what: &str) {
    assert_eq!((ran.code, ran.out.as_str()), (0, what), "{}", ran.err);
}

#[track_caller]
fn refused(ran: &Ran) {
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{}", ran.err);
    assert!(ran.err.contains("precompile"), "{}", ran.err);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
}

fn change_byte(path: &Path, at: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path);
    let (file, mut byte) = (file.unwrap(), [0]);
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn the_second_run_is_served_by_what_the_first_one_kept() {
    let fixture = Fixture::new();
    let artifact = place(&fixture, "large", 'a');
    assert!(kept(&fixture).is_empty());
    says(&fixture.run(&["large.cwasm"]), "a");
    let file = one_kept(&fixture);
    let metadata = fs::metadata(&file).unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o400);
    // What stands behind the head is looked at no more. Neither is it once that is gone.
    let len = fs::metadata(&artifact).unwrap().len();
    for at in [HEAD as u64, len / 2, len - 1] {
        change_byte(&artifact, at);
        says(&fixture.run(&["large.cwasm"]), "a");
    }
    assert_eq!(
        fs::metadata(one_kept(&fixture)).unwrap().ino(),
        metadata.ino()
    );
    fs::remove_file(&file).unwrap();
    refused(&fixture.run(&["large.cwasm"]));
    assert!(kept(&fixture).is_empty(), "what was wrong was kept");
    // It is kept too when it is made.
    let wasm = artifact.with_extension("wasm");
    let made = fixture.run(&["--precompile", wasm.to_str().unwrap()]);
    assert_eq!(made.code, 0, "{}", made.err);
    let metadata = fs::metadata(one_kept(&fixture)).unwrap();
    says(&fixture.run(&["large.cwasm"]), "a");
    assert_eq!(
        fs::metadata(one_kept(&fixture)).unwrap().ino(),
        metadata.ino()
    );
}

#[test]
fn a_head_that_is_not_the_users_own_or_does_not_fit_is_refused() {
    let fixture = Fixture::new();
    let artifact = place(&fixture, "large", 'a');
    says(&fixture.run(&["large.cwasm"]), "a");
    let whole = fs::read(&artifact).unwrap();
    for at in 0..HEAD as u64 {
        change_byte(&artifact, at);
        let ran = fixture.run(&["large.cwasm"]);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "byte {at}");
        change_byte(&artifact, at);
    }
    for other in [
        &whole[..whole.len() - 1],
        &whole[..HEAD],
        &[&whole[..], b"x"].concat(),
    ] {
        fs::write(&artifact, other).unwrap();
        refused(&fixture.run(&["large.cwasm"]));
    }
    // The head of another program's: it is that program then, as if it had been copied there.
    let other = fs::read(place(&fixture, "other", 'b')).unwrap();
    says(&fixture.run(&["other.cwasm"]), "b");
    one_kept(&fixture);
    assert_eq!(other.len(), whole.len());
    fs::write(&artifact, [&other[..HEAD], &whole[HEAD..]].concat()).unwrap();
    says(&fixture.run(&["large.cwasm"]), "b");
    // Another user's, or of an older key.
    fs::write(&artifact, &whole).unwrap();
    fs::write(fixture.data().join("artifact.key"), [7; 32]).unwrap();
    refused(&fixture.run(&["large.cwasm"]));
}

#[test]
fn a_kept_file_that_is_not_as_it_was_made_is_made_anew() {
    let fixture = Fixture::new();
    let _ = place(&fixture, "large", 'a');
    says(&fixture.run(&["large.cwasm"]), "a");
    let file = one_kept(&fixture);
    let good = fs::read(&file).unwrap();
    let mode = |mode| fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    let inside = fixture.path("tmp-code");
    let damages: [(&str, &dyn Fn()); 5] = [
        ("cut", &|| {
            mode(0o600);
            fs::write(&file, &good[..good.len() - 1]).unwrap();
            mode(0o400);
        }),
        ("empty", &|| {
            mode(0o600);
            fs::write(&file, b"").unwrap();
            mode(0o400);
        }),
        ("writable", &|| mode(0o600)),
        ("a name in the root", &|| {
            fs::hard_link(&file, &inside).unwrap()
        }),
        ("a symlink into the root", &|| {
            fs::rename(&file, &inside).unwrap();
            symlink(&inside, &file).unwrap();
        }),
    ];
    for (what, damage) in damages {
        damage();
        says(&fixture.run(&["large.cwasm"]), "a");
        let metadata = fs::symlink_metadata(one_kept(&fixture)).unwrap();
        assert!(metadata.is_file() && metadata.nlink() == 1, "{what}");
        assert_eq!(
            (metadata.len(), metadata.mode() & 0o7777),
            (good.len() as u64, 0o400)
        );
        assert!(fs::read(&file).unwrap() == good, "{what}");
        let _ = fs::remove_file(&inside);
    }
    // Of the right shape, and zeros: what a disk may leave that does not keep to its word.
    mode(0o600);
    fs::write(&file, vec![0; good.len()]).unwrap();
    mode(0o400);
    says(&fixture.run(&["large.cwasm"]), "a");
    assert!(kept(&fixture).is_empty());
    says(&fixture.run(&["large.cwasm"]), "a");
    assert_eq!(fs::read(one_kept(&fixture)).unwrap(), good);
}

#[test]
fn programs_run_where_nothing_can_be_kept() {
    let fixture = Fixture::new();
    let artifact = place(&fixture, "large", 'a');
    let folder = fixture.data().join("code");
    // There is no folder to be had.
    fs::remove_dir(&folder).unwrap();
    fs::write(&folder, "a file").unwrap();
    says(&fixture.run(&["large.cwasm"]), "a");
    fs::remove_file(&folder).unwrap();
    // Others could change what is in it.
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, Permissions::from_mode(0o770)).unwrap();
    says(&fixture.run(&["large.cwasm"]), "a");
    assert!(kept(&fixture).is_empty());
    fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
    // No file may become so long: 2 MiB, in blocks of 512 bytes.
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -f 4096 && exec \"$@\"", "sh"]);
    let command = fixture.command(&["large.cwasm"]);
    limited.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        limited.env(name, value.unwrap());
    }
    says(&Fixture::ran(&limited.output().unwrap()), "a");
    assert!(kept(&fixture).is_empty());
    // And checked all the same.
    change_byte(&artifact, 100_000);
    refused(&Fixture::ran(&limited.output().unwrap()));
}

#[test]
fn many_first_runs_at_once_keep_one_file() {
    let fixture = Fixture::new();
    let _ = place(&fixture, "large", 'a');
    let runs: Vec<_> = (0..8).map(|_| fixture.start(&["large.cwasm"])).collect();
    for run in runs {
        says(&Fixture::ended(run), "a");
    }
    one_kept(&fixture);
}

#[test]
fn a_program_that_is_refused_for_what_it_is_stays_kept() {
    let fixture = Fixture::new();
    let data = "a".repeat(LARGE);
    let text = format!(
        r#"(module (memory (export "memory") 200) (data (i32.const 0) "{data}")
             (func (export "_start")))"#
    );
    let wasm = fixture.program("wasi.wasm", &text);
    fixture.run(&["--precompile", wasm.to_str().unwrap()]);
    let file = fs::metadata(one_kept(&fixture)).unwrap();
    let ran = fixture.run(&["--strict-lind", "/bin/wasi.cwasm"]);
    assert!(ran.code == 1 && ran.err.contains("strict"), "{}", ran.err);
    let after = fs::metadata(one_kept(&fixture)).unwrap();
    assert_eq!((after.ino(), after.ctime()), (file.ino(), file.ctime()));
    says(&fixture.run(&["wasi.cwasm"]), "");
}

#[test]
fn small_programs_are_not_kept() {
    let fixture = Fixture::new();
    let wasm = fixture.program("small.wasm", &lind_program("", ""));
    fixture.run(&["--precompile", wasm.to_str().unwrap()]);
    says(&fixture.run(&["small.cwasm"]), "");
    assert!(kept(&fixture).is_empty());
}

#[test]
fn a_folder_for_the_key_that_programs_or_others_reach_is_refused() {
    let fixture = Fixture::new();
    let _ = place(&fixture, "large", 'a');
    says(&fixture.run(&["large.cwasm"]), "a");
    let (data, code) = (fixture.data(), fixture.data().join("code"));
    for (root, reason) in [
        (&data, "could read the artifact key"),
        (&code, "could read the artifact key"),
    ] {
        let mut command = fixture.command(&["large.cwasm"]);
        let ran = Fixture::ran(&command.env("LINDFS_ROOT", root).output().unwrap());
        assert!(ran.code == 1 && ran.err.contains(reason), "{}", ran.err);
    }
    for mode in [0o770, 0o777] {
        fs::set_permissions(&data, Permissions::from_mode(mode)).unwrap();
        let ran = fixture.run(&["large.cwasm"]);
        assert!(ran.code == 1 && ran.err.contains("chmod"), "{}", ran.err);
    }
}
