//! How fast logs go through all built-ins: `cargo bench -p redact`, or with a number of MiB.
//!
//! With a file name before the number the logs are written there as well, for other programs to be
//! measured on. With `--builtins` nothing else is measured.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redact::{Action, Builtin, Filter, Pattern, RuleSet};

mod logs;

use logs::{log, random_token};

/// Bytes of a write, as a program with buffered output makes them.
const WRITE: usize = 64 << 10;

/// Runs of each measurement, of which the best counts: the others had to share the machine.
const RUNS: usize = 3;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mib = args.iter().find_map(|arg| arg.parse().ok()).unwrap_or(64);
    let save = args
        .iter()
        .find(|arg| !arg.starts_with('-') && arg.parse::<usize>().is_err());

    let start = Instant::now();
    let all = Builtin::named("all").expect("there is a group of that name");
    let patterns: Vec<Pattern> = all.into_iter().map(Pattern::Builtin).collect();
    let builtins = filter(&patterns);
    println!("compiling all built-ins: {:.1} ms", millis(start.elapsed()));

    for (name, dirty_per_mille) in [("clean", 0), ("0.1 % dirty", 1), ("5 % dirty", 50)] {
        let log = log(mib << 20, dirty_per_mille);
        if let Some(save) = save {
            let path = Path::new(save).with_extension(format!("{dirty_per_mille}.log"));
            std::fs::write(path, &log).expect("the log can be written");
        }
        measure(name, "all built-ins", &builtins, &log);
    }

    if args.iter().any(|arg| arg == "--builtins") {
        return;
    }
    let clean = log(mib << 20, 0);
    for count in [10, 10_000] {
        let literals = (0..count).map(|i| random_token(i as u64, 24).into_bytes());
        let start = Instant::now();
        let filter = filter(&[Pattern::Literals(literals.collect())]);
        let compiled = start.elapsed();
        measure("clean", &format!("{count} literals"), &filter, &clean);
        println!(
            "{:>44} {:.1} ms to compile, {:.1} MiB",
            "",
            millis(compiled),
            filter.memory() as f64 / f64::from(1 << 20)
        );
    }
    let unanchored = [Pattern::Regex("[a-z]+-[a-z]+-[a-z]+".to_owned())];
    measure(
        "clean",
        "a regex that could start anywhere",
        &filter(&unanchored),
        &clean,
    );
}

fn filter(patterns: &[Pattern]) -> Arc<Filter> {
    let mut builder = RuleSet::builder();
    for (i, pattern) in patterns.iter().enumerate() {
        let added = builder.rule(&format!("r{i}"), pattern, Action::Mask);
        added.expect("the pattern compiles");
    }
    builder.build().filter()
}

fn measure(log_name: &str, rules: &str, filter: &Arc<Filter>, log: &[u8]) {
    let mut best = Duration::MAX;
    let mut matches = 0;
    let mut out = Vec::with_capacity(2 * WRITE);
    for _ in 0..RUNS {
        let start = Instant::now();
        let mut stream = filter.stream();
        matches = 0;
        for write in log.chunks(WRITE) {
            out.clear();
            let _ = stream.push(black_box(write), &mut out);
            black_box(&out);
            matches += stream.take_events().len();
        }
        stream.finish(&mut out);
        best = best.min(start.elapsed());
    }
    let rate = log.len() as f64 / 1e6 / best.as_secs_f64();
    println!("{log_name:<12} {rules:<34} {rate:>8.0} MB/s  {matches} matches");
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
