//! How fast logs go through all built-ins: `cargo bench -p redact`, or with a number of MiB.
//!
//! With a file name before the number the logs are written there as well, for other programs to be
//! measured on.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redact::{Action, Builtin, Filter, Pattern, RuleSet};

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
    let patterns: Vec<Pattern> = Builtin::ALL.iter().copied().map(Pattern::Builtin).collect();
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

/// Lines as a service writes them. A dirty one has a secret of one of a few common kinds.
fn log(len: usize, dirty_per_mille: u64) -> Vec<u8> {
    use std::fmt::Write;
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut log = String::with_capacity(len + 512);
    let (mut second, mut line) = (0u64, 0u64);
    while log.len() < len {
        line += 1;
        second += random.below(3) / 2;
        let _ = write!(
            log,
            "2026-11-24T{:02}:{:02}:{:02}.{:06}Z {:<5} {}::{} ",
            second / 3600 % 24,
            second / 60 % 60,
            second % 60,
            random.below(1_000_000),
            random.pick(&["INFO", "INFO", "INFO", "DEBUG", "WARN", "ERROR"]),
            random.pick(&["server", "storage", "scheduler", "billing"]),
            random.pick(&["http", "worker", "cache", "session", "queue"]),
        );
        let _ = match random.below(5) {
            0 => write!(
                log,
                "request completed method={} path=/api/v1/items/{}/parts status={} bytes={} latency_ms={}.{}",
                random.pick(&["GET", "POST", "PUT"]),
                random.below(100_000),
                random.pick(&["200", "201", "304", "404", "500"]),
                random.below(1 << 20),
                random.below(900),
                random.below(10),
            ),
            1 => write!(
                log,
                "job finished job_id={:08x}-{:04x}-4{:03x}-a{:03x}-{:012x} attempt={} queue=default-{}",
                random.below(1 << 32),
                random.below(1 << 16),
                random.below(1 << 12),
                random.below(1 << 12),
                random.below(1 << 48),
                random.below(5),
                random.below(10),
            ),
            2 => write!(
                log,
                "{{\"event\":\"cache.evict\",\"keys\":{},\"size\":{},\"ratio\":0.{:03},\"shard\":\"s-{}\"}}",
                random.below(1000),
                random.below(1 << 30),
                random.below(1000),
                random.below(64),
            ),
            3 => write!(
                log,
                "connection to backend-{}.internal timed out after {} ms, retrying in {} s (attempt {}/5)",
                random.below(20),
                random.below(5000),
                random.below(30),
                random.below(5),
            ),
            _ => write!(
                log,
                "The scheduler moved {} tasks from node {} to node {}; the backlog is now {} entries long",
                random.below(500),
                random.below(40),
                random.below(40),
                random.below(90_000),
            ),
        };
        if random.below(1000) < dirty_per_mille {
            let token = random_token(line, 36);
            let _ = match random.below(6) {
                0 => write!(log, " password={}", &token[..12]),
                1 => write!(log, " user={}@mail.example.org", &token[..8]),
                2 => write!(log, " auth=ghp_{token}"),
                3 => write!(
                    log,
                    " peer=10.{}.3.{}",
                    random.below(256),
                    random.below(256)
                ),
                4 => write!(log, " header=\"Authorization: Bearer {token}\""),
                _ => write!(log, " card=4111-1111-1111-1111"),
            };
        }
        log.push('\n');
    }
    log.truncate(len);
    log.into_bytes()
}

fn random_token(seed: u64, len: usize) -> String {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut random = Random(seed.wrapping_mul(0x2545_F491_4F6C_DD1D) | 1);
    let tokens = (0..len).map(|_| char::from(ALPHABET[random.below(62) as usize]));
    tokens.collect()
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16) % bound
    }

    fn pick<'p>(&mut self, of: &[&'p str]) -> &'p str {
        of[self.below(of.len() as u64) as usize]
    }
}
