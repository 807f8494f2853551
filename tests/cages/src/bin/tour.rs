//! `tour DIR`: does in an empty directory what programs do with `std`, and checks every step.

use cage_libc as _;
use std::collections::HashMap;
use std::error::Error;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{
    self, BufRead, BufReader, ErrorKind, IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write,
};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

const WASI_ENOTEMPTY: i32 = 55;

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    let dir = std::env::args().nth(1).ok_or("usage: tour DIR")?;
    let dir = Path::new(&dir);
    contents(dir)?;
    offsets(dir)?;
    vectors(dir)?;
    directories(dir)?;
    links(dir)?;
    errors(dir)?;
    relative(dir)?;
    times(dir)?;
    facts(dir)?;
    process();
    memory();
    println!("tour done");
    Ok(())
}

/// Whole files, appending, lines.
fn contents(dir: &Path) -> Outcome {
    let path = dir.join("contents");
    fs::write(&path, "one\ntwo\n")?;
    OpenOptions::new()
        .append(true)
        .open(&path)?
        .write_all(b"three")?;
    let lines: io::Result<Vec<String>> = BufReader::new(File::open(&path)?).lines().collect();
    assert_eq!(lines?, ["one", "two", "three"]);
    assert_eq!(fs::read_to_string(&path)?, "one\ntwo\nthree");
    let copy = dir.join("copy");
    assert_eq!(fs::copy(&path, &copy)?, 13);
    fs::remove_file(&copy)?;
    File::create(&path)?;
    assert_eq!(fs::metadata(&path)?.len(), 0);
    fs::remove_file(&path)?;
    Ok(())
}

/// Seeking, also beyond 2 GiB, and sizes.
fn offsets(dir: &Path) -> Outcome {
    const FAR: [u64; 6] = [
        (1 << 31) + 5,
        (1 << 32) - 9,
        (1 << 32) - 22,
        5 << 30,
        (7 << 32) - 29,
        (6 << 32) + 12,
    ];
    let path = dir.join("offsets");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    file.write_all(b"0123456789")?;
    assert_eq!(file.seek(SeekFrom::Start(4))?, 4);
    let mut two = [0; 2];
    file.read_exact(&mut two)?;
    assert_eq!(&two, b"45");
    assert_eq!(file.stream_position()?, 6);
    assert_eq!(file.seek(SeekFrom::End(-1))?, 9);
    file.set_len(4)?;
    assert_eq!(file.metadata()?.len(), 4);
    file.set_len(8)?;
    file.rewind()?;
    let mut all = Vec::new();
    file.read_to_end(&mut all)?;
    assert_eq!(all, b"0123\0\0\0\0");
    // Lind's result has 32 bits: among these are places whose low halves look like errors.
    for far in FAR {
        assert_eq!(file.seek(SeekFrom::Start(far))?, far);
        assert_eq!(file.stream_position()?, far);
        assert_eq!(file.seek(SeekFrom::Current(-3))?, far - 3);
        assert_eq!(file.seek(SeekFrom::End(far as i64))?, far + 8);
    }
    assert!(file.seek(SeekFrom::Current(-(1 << 40))).is_err());
    assert!(file.seek(SeekFrom::End(-9)).is_err());
    assert_eq!(file.stream_position()?, FAR[FAR.len() - 1] + 8);
    file.sync_all()?;
    file.sync_data()?;
    fs::remove_file(&path)?;
    Ok(())
}

/// Several buffers in one call.
fn vectors(dir: &Path) -> Outcome {
    let path = dir.join("vectors");
    let mut file = File::create(&path)?;
    let written =
        file.write_vectored(&[IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cde")])?;
    assert_eq!(written, 5);
    drop(file);
    let (mut first, mut second) = ([0; 1], [0; 8]);
    let read = File::open(&path)?
        .read_vectored(&mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)])?;
    assert_eq!((read, &first, &second[..4]), (5, b"a", &b"bcde"[..]));
    fs::remove_file(&path)?;
    Ok(())
}

/// Making, listing and removing directories.
fn directories(dir: &Path) -> Outcome {
    let deep = dir.join("a/b/c");
    fs::create_dir_all(&deep)?;
    // More entries than fit into one buffer of the kernel.
    const FILES: usize = 400;
    for number in 0..FILES {
        File::create(deep.join(format!("a file with number {number}")))?;
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(&deep)? {
        let entry = entry?;
        assert!(entry.file_type()?.is_file());
        assert!(entry.metadata()?.is_file());
        names.push(entry.file_name());
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), FILES);
    assert!(names.contains(&OsString::from("a file with number 399")));
    assert!(fs::metadata(&deep)?.is_dir());
    fs::rename(dir.join("a"), dir.join("z"))?;
    assert!(!dir.join("a").exists() && dir.join("z/b/c").is_dir());
    fs::remove_dir_all(dir.join("z"))?;
    assert_eq!(fs::read_dir(dir)?.count(), 0);
    Ok(())
}

/// Hard and symbolic links.
fn links(dir: &Path) -> Outcome {
    let (file, hard) = (dir.join("file"), dir.join("hard"));
    fs::write(&file, "linked")?;
    fs::hard_link(&file, &hard)?;
    assert_eq!(fs::read(&hard)?, b"linked");
    fs::remove_file(&hard)?;
    fs::create_dir(dir.join("sub"))?;
    let around = dir.join("sub/.././file");
    assert_eq!(
        fs::canonicalize(around)?,
        fs::canonicalize(dir)?.join("file")
    );
    fs::remove_dir(dir.join("sub"))?;
    fs::remove_file(&file)?;
    Ok(())
}

/// Modes and times that the program sets.
fn facts(dir: &Path) -> Outcome {
    let file = File::create(dir.join("file"))?;
    let noon = SystemTime::UNIX_EPOCH + Duration::new(12 * 3600, 5000);
    file.set_modified(noon)?;
    assert_eq!(file.metadata()?.modified()?, noon);
    let mut permissions = file.metadata()?.permissions();
    permissions.set_readonly(true);
    fs::set_permissions(dir.join("file"), permissions)?;
    assert!(file.metadata()?.permissions().readonly());
    fs::remove_file(dir.join("file"))?;
    Ok(())
}

/// The environment, and threads, which there are none of.
fn process() {
    // SAFETY: there is one thread.
    unsafe {
        std::env::set_var("TOUR", "first");
        std::env::set_var("TOUR", "second");
        std::env::set_var("TOURS", "other");
    }
    assert_eq!(std::env::var("TOUR").as_deref(), Ok("second"));
    // SAFETY: there is one thread.
    unsafe { std::env::remove_var("TOUR") };
    assert!(std::env::var("TOUR").is_err());
    assert_eq!(std::env::var("TOURS").as_deref(), Ok("other"));
    assert!(
        std::thread::spawn(|| 7)
            .join()
            .is_ok_and(|answer| answer == 7)
    );
}

/// Errors are those of the kernel.
fn errors(dir: &Path) -> Outcome {
    let kind = |result: io::Result<()>| result.err().map(|error| error.kind());
    let missing = dir.join("missing");
    assert_eq!(
        kind(File::open(&missing).map(drop)),
        Some(ErrorKind::NotFound)
    );
    assert_eq!(kind(fs::remove_dir(&missing)), Some(ErrorKind::NotFound));
    assert_eq!(kind(fs::create_dir(dir)), Some(ErrorKind::AlreadyExists));
    let file = dir.join("file");
    fs::write(&file, "")?;
    assert_eq!(
        kind(File::create_new(&file).map(drop)),
        Some(ErrorKind::AlreadyExists)
    );
    assert_eq!(
        kind(fs::read_dir(&file).map(drop)),
        Some(ErrorKind::NotADirectory)
    );
    let not_empty = fs::remove_dir(dir).unwrap_err();
    assert_eq!(not_empty.raw_os_error(), Some(WASI_ENOTEMPTY));
    assert_eq!(kind(fs::read(dir).map(drop)), Some(ErrorKind::IsADirectory));
    let text = File::open(&missing).map(drop).unwrap_err().to_string();
    assert!(text.contains("No such file or directory"), "{text}");
    fs::remove_file(&file)?;
    Ok(())
}

/// The current directory.
fn relative(dir: &Path) -> Outcome {
    std::env::set_current_dir(dir)?;
    assert_eq!(std::env::current_dir()?, dir);
    fs::write("here", "relative")?;
    assert_eq!(fs::read(dir.join("here"))?, b"relative");
    let names: Vec<PathBuf> = fs::read_dir(".")?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()?;
    assert_eq!(names, [Path::new("./here")]);
    fs::remove_file("here")?;
    Ok(())
}

/// Clocks, sleeping, times of files.
fn times(dir: &Path) -> Outcome {
    const NAP: Duration = Duration::from_millis(20);
    let start = Instant::now();
    std::thread::sleep(NAP);
    assert!(start.elapsed() >= NAP);
    let file = dir.join("file");
    fs::write(&file, "")?;
    let age = SystemTime::now().duration_since(fs::metadata(&file)?.modified()?);
    // The clock of files ticks more coarsely than the other.
    assert!(age.is_ok_and(|age| age < Duration::from_secs(60)));
    fs::remove_file(&file)?;
    Ok(())
}

/// The heap, hashing with random keys, statics.
fn memory() {
    static SHARED: OnceLock<Mutex<HashMap<u64, String>>> = OnceLock::new();
    let shared = SHARED.get_or_init(Mutex::default);
    let mut map = shared.lock().expect("no one has panicked");
    for number in 0..10_000u64 {
        map.insert(number, number.to_string());
    }
    map.retain(|number, _| number % 3 == 0);
    assert_eq!(map.len(), 3334);
    assert_eq!(map.get(&9999).map(String::as_str), Some("9999"));
    let mut large = vec![7u8; 64 << 20];
    large.extend_from_slice(&[8; 1 << 20]);
    assert_eq!((large[64 << 20], large.len()), (8, 65 << 20));
    assert!(vec![0u8; 1 << 20].iter().all(|&byte| byte == 0));
}
